/* Checksums and digests over the libraries that do them best. OpenSSL's one-shot functions look the
 * algorithm up under a lock at each call, which costs more than the digest of a short text: so the
 * algorithm is fetched once, and each thread keeps a context. */
#include "base/hash.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define SHA256_BLOCK_BYTES 64

uint64_t hash_xxh3(const void *p, size_t n) { return XXH3_64bits(p, n); }

void hash_xxh3_128(const void *p, size_t n, uint8_t out[16])
{
    XXH128_canonical_t bytes;

    XXH128_canonicalFromHash(&bytes, XXH3_128bits(p, n));
    memcpy(out, bytes.digest, sizeof bytes.digest);
}

/* ---- CRC-32C (Castagnoli), reflected polynomial 0x82f63b78 ---- */

static uint32_t crc_table[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;
static uint32_t (*crc_update)(uint32_t crc, const uint8_t *p, size_t n);

/* Slicing by 8. */
static uint32_t crc_update_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                              (uint32_t)p[3] << 24);
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^
              crc_table[5][low >> 16 & 255] ^ crc_table[4][low >> 24] ^ crc_table[3][p[4]] ^
              crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
    }
    for (; n > 0; p++, n--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 255];
    return crc;
}

/* The instruction takes three cycles and can be started in each: three stretches of the text at a
 * time. What a stretch's checksum becomes when CRC_STRETCH zero bytes follow is looked up by its
 * four bytes, since the checksum is linear. */
#define CRC_STRETCH 256u

static uint32_t crc_behind[4][256];

static uint32_t crc_move(uint32_t crc)
{
    return crc_behind[0][crc & 255] ^ crc_behind[1][crc >> 8 & 255] ^
           crc_behind[2][crc >> 16 & 255] ^ crc_behind[3][crc >> 24];
}

static void crc_set_up_move(void)
{
    static const uint8_t zeros[CRC_STRETCH];
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t bit = 0; bit < 8; bit++) {
            uint32_t moved = crc_update_table(1u << (8 * byte + (int)bit), zeros, CRC_STRETCH);
            for (uint32_t i = 0; i < 256; i++)
                if (i >> bit & 1)
                    crc_behind[byte][i] ^= moved;
        }
}

#if defined(__x86_64__)
#define CRC_TARGET        __attribute__((target("sse4.2")))
#define CRC_WORD(crc, at) ((uint32_t)_mm_crc32_u64((crc), crc_word(at)))
#define CRC_BYTE          _mm_crc32_u8
static bool crc_cpu_present(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#define CRC_TARGET        __attribute__((target("+crc")))
#define CRC_WORD(crc, at) __crc32cd((crc), crc_word(at))
#define CRC_BYTE          __crc32cb
static bool crc_cpu_present(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#else
#define CRC_TARGET
#define CRC_WORD(crc, at) crc_update_table((crc), (at), 8)
#define CRC_BYTE(crc, c)  crc_update_table((crc), &(uint8_t){c}, 1)
static bool crc_cpu_present(void) { return false; }
#endif

static inline uint64_t crc_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

CRC_TARGET static uint32_t crc_update_cpu(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 3 * CRC_STRETCH; p += 3 * CRC_STRETCH, n -= 3 * CRC_STRETCH) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < CRC_STRETCH; i += 8) {
            crc = CRC_WORD(crc, p + i);
            second = CRC_WORD(second, p + i + CRC_STRETCH);
            third = CRC_WORD(third, p + i + 2 * CRC_STRETCH);
        }
        crc = crc_move(crc_move(crc) ^ second) ^ third;
    }
    for (; n >= 8; p += 8, n -= 8)
        crc = CRC_WORD(crc, p);
    for (; n > 0; p++, n--)
        crc = CRC_BYTE(crc, *p);
    return crc;
}

static void crc_set_up(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        crc_table[0][i] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = crc_table[slice - 1][i];
            crc_table[slice][i] = crc >> 8 ^ crc_table[0][crc & 255];
        }
    crc_set_up_move();
    crc_update = crc_cpu_present() ? crc_update_cpu : crc_update_table;
}

uint32_t hash_crc32c(uint32_t crc, const void *p, size_t n)
{
    pthread_once(&crc_once, crc_set_up);
    return ~crc_update(~crc, p, n);
}

/* ---- SHA-256 ---- */

static EVP_MD *sha256_algorithm;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static pthread_key_t sha256_key; /* only for its destructor */
static __thread EVP_MD_CTX *sha256_thread_context;

static void context_free(void *context) { EVP_MD_CTX_free(context); }

static void sha256_set_up(void)
{
    sha256_algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    ASSERT(sha256_algorithm != NULL);
    ASSERT(pthread_key_create(&sha256_key, context_free) == 0);
}

static EVP_MD_CTX *sha256_begin(void)
{
    if (UNLIKELY(!sha256_thread_context)) {
        pthread_once(&sha256_once, sha256_set_up);
        sha256_thread_context = EVP_MD_CTX_new();
        ASSERT(sha256_thread_context != NULL);
        ASSERT(pthread_setspecific(sha256_key, sha256_thread_context) == 0);
    }
    ASSERT(EVP_DigestInit_ex2(sha256_thread_context, sha256_algorithm, NULL) == 1);
    return sha256_thread_context;
}

static void sha256_end(EVP_MD_CTX *context, uint8_t out[SHA256_BYTES])
{
    ASSERT(EVP_DigestFinal_ex(context, out, NULL) == 1);
}

void hash_sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES])
{
    EVP_MD_CTX *context = sha256_begin();
    ASSERT(EVP_DigestUpdate(context, p, n) == 1);
    sha256_end(context, out);
}

/* RFC 2104. */
void hash_hmac_sha256(struct str key, struct str message, uint8_t out[SHA256_BYTES])
{
    uint8_t block[SHA256_BLOCK_BYTES] = {0}, pad[SHA256_BLOCK_BYTES];
    if (key.n > sizeof(block))
        hash_sha256(key.p, key.n, block);
    else if (key.n > 0)
        memcpy(block, key.p, key.n);

    for (size_t i = 0; i < sizeof(pad); i++)
        pad[i] = block[i] ^ 0x36;
    EVP_MD_CTX *context = sha256_begin();
    ASSERT(EVP_DigestUpdate(context, pad, sizeof(pad)) == 1);
    ASSERT(EVP_DigestUpdate(context, message.p, message.n) == 1);
    uint8_t inner[SHA256_BYTES];
    sha256_end(context, inner);

    for (size_t i = 0; i < sizeof(pad); i++)
        pad[i] = block[i] ^ 0x5c;
    context = sha256_begin();
    ASSERT(EVP_DigestUpdate(context, pad, sizeof(pad)) == 1);
    ASSERT(EVP_DigestUpdate(context, inner, sizeof(inner)) == 1);
    sha256_end(context, out);
    OPENSSL_cleanse(block, sizeof(block));
    OPENSSL_cleanse(pad, sizeof(pad));
}

struct sha256 {
    EVP_MD_CTX *context;
};

struct sha256 *sha256_new(void)
{
    pthread_once(&sha256_once, sha256_set_up);
    struct sha256 *sha = xmalloc(sizeof(*sha));
    sha->context = EVP_MD_CTX_new();
    ASSERT(sha->context != NULL);
    ASSERT(EVP_DigestInit_ex2(sha->context, sha256_algorithm, NULL) == 1);
    return sha;
}

void sha256_update(struct sha256 *sha, const void *p, size_t n)
{
    ASSERT(EVP_DigestUpdate(sha->context, p, n) == 1);
}

void sha256_final(struct sha256 *sha, uint8_t out[SHA256_BYTES])
{
    sha256_end(sha->context, out);
    EVP_MD_CTX_free(sha->context);
    free(sha);
}

/* ---- texts of bytes ---- */

void hex_encode(const void *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = p;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum rc hex_decode(struct str s, void *out, size_t n)
{
    if (s.n != 2 * n)
        return RC_INVALID;
    uint8_t *bytes = out;
    for (size_t i = 0; i < n; i++) {
        int high = hex_value(s.p[2 * i]), low = hex_value(s.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return RC_INVALID;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return RC_OK;
}

size_t base64_encode(const void *p, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = p;
    char *at = out;
    for (; n >= 3; in += 3, n -= 3) {
        uint32_t group = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = digits[group >> 6 & 63];
        *at++ = digits[group & 63];
    }
    if (n > 0) {
        uint32_t group = (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0);
        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = n > 1 ? digits[group >> 6 & 63] : '=';
        *at++ = '=';
    }
    *at = 0;
    return (size_t)(at - out);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

ssize_t base64_decode(struct str s, void *out, size_t out_bytes_max)
{
    size_t padding = 0;
    while (padding < 2 && s.n > 0 && s.p[s.n - 1] == '=') {
        s.n--;
        padding++;
    }
    /* Padding, where there is any, must make whole groups; one lone character encodes nothing. */
    if (s.n % 4 == 1 || (padding > 0 && (s.n + padding) % 4 != 0))
        return -1;
    size_t bytes = s.n / 4 * 3 + (s.n % 4 == 0 ? 0 : s.n % 4 - 1);
    if (bytes > out_bytes_max)
        return -1;
    uint8_t *at = out;
    uint32_t group = 0;
    for (size_t i = 0; i < s.n; i++) {
        int value = base64_value(s.p[i]);
        if (value < 0)
            return -1;
        group = group << 6 | (uint32_t)value;
        if (i % 4 == 3) {
            *at++ = (uint8_t)(group >> 16);
            *at++ = (uint8_t)(group >> 8);
            *at++ = (uint8_t)group;
        }
    }
    /* The bits that a short last group leaves over must be zero: one text for one value. */
    if (s.n % 4 == 2) {
        if (group & 15)
            return -1;
        *at++ = (uint8_t)(group >> 4);
    } else if (s.n % 4 == 3) {
        if (group & 3)
            return -1;
        *at++ = (uint8_t)(group >> 10);
        *at++ = (uint8_t)(group >> 2);
    }
    return (ssize_t)bytes;
}
