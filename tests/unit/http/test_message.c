/* Headers, percent-encoding, query values and token lists, with their bounds. */
#include "http/message.h"
#include "../test.h"
#include "base/limits.h"

static void finds_headers_without_case(void **state)
{
    struct arena arena;
    arena_init(&arena, 65536);
    struct http_headers headers = {0};
    assert_int_equal(http_header_add(&headers, &arena, STR("Content-Type"), STR("a")), RC_OK);
    assert_int_equal(http_header_add(&headers, &arena, STR("content-type"), STR("b")), RC_OK);
    assert_true(str_eq(http_header_get(&headers, STR("CONTENT-TYPE")), STR("a")));
    assert_null(http_header_get(&headers, STR("content")).p);
    arena_fini(&arena);
}

static void headers_are_bounded(void **state)
{
    struct arena arena;
    arena_init(&arena, 65536);
    struct http_headers headers = {0};
    for (int i = 0; i < LIMIT_HEADER_COUNT; i++)
        assert_int_equal(http_header_add(&headers, &arena, STR("a"), STR("b")), RC_OK);
    assert_int_equal(http_header_add(&headers, &arena, STR("a"), STR("b")), RC_LIMIT);
    arena_fini(&arena);
}

static void line_ends_never_get_into_headers(void **state)
{
    struct arena arena;
    arena_init(&arena, 65536);
    struct http_headers headers = {0};
    static const struct str bad_names[] = {STR_INIT(""),    STR_INIT("a b"),
                                           STR_INIT("a:"),  STR_INIT("a\r\n"),
                                           STR_INIT("a\0"), STR_INIT("\xc3\xbc")};
    for (size_t i = 0; i < COUNT_OF(bad_names); i++)
        assert_int_equal(http_header_add(&headers, &arena, bad_names[i], STR("v")), RC_INVALID);
    /* Every control character at every place of a value. */
    for (int c = 0; c < 256; c++)
        for (size_t at = 0; at < 20; at++) {
            char value[20];
            memset(value, 'x', sizeof(value));
            value[at] = (char)c;
            bool want = (c >= 0x20 && c != 0x7f) || c == '\t';
            assert_int_equal(http_is_field_value(str_make(value, sizeof(value))), want);
        }
    arena_fini(&arena);
}

static void percent_encoding_round_trips(void **state)
{
    struct arena arena;
    arena_init(&arena, 65536);
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    struct str plain = str_make(all, sizeof(all));
    struct str coded = http_percent_encode(plain, &arena);
    assert_true(str_eq(http_percent_decode(coded, false, &arena), plain));
    assert_null(http_percent_decode(STR("a%2"), false, &arena).p);
    assert_null(http_percent_decode(STR("a%"), false, &arena).p);
    assert_null(http_percent_decode(STR("%zz"), false, &arena).p);
    assert_true(str_eq(http_percent_decode(STR("%41"), false, &arena), STR("A")));
    arena_fini(&arena);
}

static void reads_query_values(void **state)
{
    struct arena arena;
    arena_init(&arena, 65536);
    struct str query = STR("a=1&b=x+y%21&c&d=&%65=e&a=2");
    assert_true(str_eq(http_query_get(query, STR("a"), &arena), STR("1")));
    assert_true(str_eq(http_query_get(query, STR("b"), &arena), STR("x y!")));
    assert_true(http_query_get(query, STR("c"), &arena).p != NULL);
    assert_int_equal(http_query_get(query, STR("d"), &arena).n, 0);
    assert_true(str_eq(http_query_get(query, STR("e"), &arena), STR("e")));
    assert_null(http_query_get(query, STR("f"), &arena).p);
    assert_null(http_query_get(STR_EMPTY, STR("f"), &arena).p);
    arena_fini(&arena);
}

static void finds_tokens_in_lists(void **state)
{
    assert_true(http_list_has(STR("gzip, br;q=0.5"), STR("br")));
    assert_true(http_list_has(STR("GZIP"), STR("gzip")));
    assert_false(http_list_has(STR("xgzip, gzipx"), STR("gzip")));
    assert_false(http_list_has(STR_EMPTY, STR("gzip")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_headers_without_case),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(line_ends_never_get_into_headers),
        cmocka_unit_test(percent_encoding_round_trips),
        cmocka_unit_test(reads_query_values),
        cmocka_unit_test(finds_tokens_in_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
