/* UTF-8: validity, cutting, stepping. */
#include "base/utf8.h"
#include "../test.h"

static void every_code_point_round_trips(void **state)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char bytes[4];
        uint32_t back = 0;
        size_t n = utf8_encode(c, bytes);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        assert_int_equal(utf8_next(str_make(bytes, n), &back), surrogate ? 0 : n);
        if (!surrogate)
            assert_int_equal(back, c);
        assert_int_equal(utf8_next(str_make(bytes, n - 1), &back), 0);
    }
}

static void invalid_texts_are_found(void **state)
{
    assert_true(utf8_valid(STR_EMPTY));
    assert_true(utf8_valid(STR("plain ascii, long enough for words")));
    assert_true(utf8_valid(STR("gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 \xe2\x82\xac")));
    static const char *const bad[] = {
        "\x80",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x80\x80",
        "\xed\xa0\x80",
        "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3",
        "12345678\xe2\x82",
        "\xe2\x28\xa1",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(utf8_valid(str_from(bad[i])));
}

static void cuts_between_characters(void **state)
{
    struct str s = STR("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z"); /* 1, 2, 3, 4 and 1 bytes */
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t n = 0; n < COUNT_OF(want); n++)
        assert_int_equal(utf8_cut(s, n), want[n]);
    assert_int_equal(utf8_cut(s, 100), s.n);
    /* Not UTF-8: still progress. */
    assert_int_equal(utf8_cut(STR("\x80\x80\x80\x80\x80\x80"), 5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_round_trips),
        cmocka_unit_test(invalid_texts_are_found),
        cmocka_unit_test(cuts_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
