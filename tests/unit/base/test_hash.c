/* Checksums and digests against published vectors; hex and base 64. */
#include "base/hash.h"
#include "../test.h"

static void check_hex(const uint8_t *digest, const char *want)
{
    char hex[SHA256_HEX_BYTES];
    hex_encode(digest, SHA256_BYTES, hex);
    assert_string_equal(hex, want);
}

/* Long texts are done in three stretches at a time: byte by byte must give the same. */
static void crc32c_of_long_texts_is_that_of_their_bytes(void **state)
{
    static uint8_t text[5000];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i * i % 251);
    uint32_t by_byte = 0;
    for (size_t n = 0; n < sizeof(text); n++) {
        if (n % 97 == 0 || n % 768 < 3)
            assert_int_equal(hash_crc32c(0, text, n), by_byte);
        by_byte = hash_crc32c(by_byte, text + n, 1);
    }
    assert_int_equal(hash_crc32c(0x12345678, text, sizeof(text)),
                     hash_crc32c(hash_crc32c(0x12345678, text, 1001), text + 1001, 3999));
}

static void crc32c_matches_rfc_3720(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xff, sizeof(ones));
    for (int i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    assert_int_equal(hash_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(hash_crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(hash_crc32c(0, up, 32), 0x46dd794e);
    assert_int_equal(hash_crc32c(0, "123456789", 9), 0xe3069283);
    for (size_t cut = 0; cut <= 32; cut++)
        assert_int_equal(hash_crc32c(hash_crc32c(0, up, cut), up + cut, 32 - cut), 0x46dd794e);
}

static void sha256_matches_fips_180(void **state)
{
    uint8_t out[SHA256_BYTES];
    hash_sha256("abc", 3, out);
    check_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_sha256("", 0, out);
    check_hex(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct sha256 *sha = sha256_new();
    sha256_update(sha, "a", 1);
    sha256_update(sha, "bc", 2);
    sha256_final(sha, out);
    check_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void hmac_matches_rfc_4231(void **state)
{
    uint8_t out[SHA256_BYTES];
    hash_hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?"), out);
    check_hex(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    char key[131];
    memset(key, 0xaa, sizeof(key));
    hash_hmac_sha256(str_make(key, sizeof(key)),
                     STR("Test Using Larger Than Block-Size Key - Hash Key First"), out);
    check_hex(out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void xxh3_is_stable(void **state)
{
    /* On disk: must never change. */
    assert_int_equal(hash_xxh3("", 0), 0x2d06800538d394c2);
}

static void hex_round_trips(void **state)
{
    uint8_t out[3];
    char text[7];
    assert_int_equal(hex_decode(STR("00fFa9"), out, 3), RC_OK);
    hex_encode(out, 3, text);
    assert_string_equal(text, "00ffa9");
    assert_int_equal(hex_decode(STR("00ff"), out, 3), RC_INVALID);
    assert_int_equal(hex_decode(STR("00fg00"), out, 3), RC_INVALID);
}

static void base64_round_trips(void **state)
{
    static const char *const pairs[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}};
    char text[64], back[64];
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        size_t n = strlen(pairs[i][0]);
        assert_int_equal(base64_encode(pairs[i][0], n, text), strlen(pairs[i][1]));
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(base64_decode(str_from(text), back, sizeof(back)), n);
        assert_memory_equal(back, pairs[i][0], n);
    }
    assert_int_equal(base64_decode(STR("Zm8"), back, 2), 2);   /* no padding */
    assert_int_equal(base64_decode(STR("_-8"), back, 2), 2);   /* URL alphabet */
    assert_int_equal(base64_decode(STR("Zm9v"), back, 2), -1); /* no room */
    static const char *const bad[] = {"Z",    "Zg=",  "Zm9v=", "Zm9 ",
                                      "Zh==", "Zm9=", "====",  "Zg==Zg=="};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(base64_decode(str_from(bad[i]), back, sizeof(back)), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_rfc_3720),
        cmocka_unit_test(crc32c_of_long_texts_is_that_of_their_bytes),
        cmocka_unit_test(sha256_matches_fips_180),
        cmocka_unit_test(hmac_matches_rfc_4231),
        cmocka_unit_test(xxh3_is_stable),
        cmocka_unit_test(hex_round_trips),
        cmocka_unit_test(base64_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
