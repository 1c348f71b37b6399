/* Decoding with places: types, bounds, durations, dollars. */
#include "text/decode.h"
#include "base/clock.h"
#include "text/json_tree.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct arena arena;

static int start(void **state)
{
    UNUSED(state);
    arena_init(&arena, 16 * 1024 * 1024);
    return 0;
}

static int end(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

static yyjson_val *json(const char *text)
{
    yyjson_doc *doc;

    assert_int_equal(json_read(str_from(text), &arena, &doc, NULL), RC_OK);
    return yyjson_doc_get_root(doc);
}

static void test_places(void **state)
{
    static const char *const known[] = {"a", "list", NULL};
    struct place root, list, element;
    struct err err = {0};
    struct str text = STR("untouched");
    yyjson_val *value = json("{\"a\":null,\"list\":[{\"x\":1},{\"y\":{}}]}");

    UNUSED(state);
    decode_root(&root, value, "");
    assert_int_equal(decode_only(&root, known, &err), RC_OK);
    assert_int_equal(decode_str(&root, "a", DECODE_OPTIONAL, 10, &text, &err),
                     RC_OK); /* null is absent */
    assert_true(str_eq(text, STR("untouched")));
    assert_int_equal(decode_str(&root, "a", DECODE_REQUIRED, 10, &text, &err), RC_INVALID);
    assert_int_equal(err.code, ERR_MISSING_FIELD);
    assert_string_equal(err.field, "a");
    assert_int_equal(decode_member(&root, "list", DECODE_REQUIRED, &list, &err), RC_OK);
    assert_int_equal(decode_expect_list(&list, 1, &err), RC_INVALID);
    decode_element(&list, 1, yyjson_arr_get(list.value, 1), &element);
    assert_int_equal(decode_str(&element, "y", DECODE_OPTIONAL, 10, &text, &err), RC_INVALID);
    assert_string_equal(err.field, "list[1].y");
    assert_int_equal(decode_only(&element, known, &err), RC_INVALID);
    assert_string_equal(err.field, "list[1].y");
    decode_root(&root, value, "routes.smart");
    assert_int_equal(decode_bool(&root, "list", &(bool){0}, &err), RC_INVALID);
    assert_string_equal(err.field, "routes.smart.list");
}

static void test_numbers(void **state)
{
    struct place root;
    struct err err = {0};
    int64_t i = 7, ns = 0;

    UNUSED(state);
    decode_root(&root,
                json("{\"a\":5,\"b\":1.5,\"c\":18446744073709551615,\"d\":\"5\",\"t\":\"1m30s\","
                     "\"u_ms\":250,\"v\":2.5,"
                     "\"w\":-1,\"x\":\"soon\"}"),
                "");
    assert_int_equal(decode_i64(&root, "none", 0, 9, &i, &err), RC_OK);
    assert_int_equal(i, 7);
    assert_int_equal(decode_i64(&root, "a", 0, 9, &i, &err), RC_OK);
    assert_int_equal(i, 5);
    assert_int_equal(decode_i64(&root, "a", 6, 9, &i, &err), RC_INVALID);
    assert_int_equal(decode_i64(&root, "b", 0, 9, &i, &err), RC_INVALID);
    assert_int_equal(decode_i64(&root, "c", 0, INT64_MAX, &i, &err), RC_INVALID);
    assert_int_equal(decode_i64(&root, "d", 0, 9, &i, &err), RC_INVALID);
    assert_int_equal(decode_duration(&root, "t", &ns, &err), RC_OK);
    assert_int_equal(ns, 90 * NS_PER_S);
    assert_int_equal(decode_duration(&root, "u", &ns, &err), RC_OK);
    assert_int_equal(ns, 250 * NS_PER_MS);
    assert_int_equal(decode_duration(&root, "v", &ns, &err), RC_OK);
    assert_int_equal(ns, 2500 * NS_PER_MS);
    assert_int_equal(decode_duration(&root, "w", &ns, &err), RC_INVALID);
    assert_int_equal(decode_duration(&root, "x", &ns, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "20s"));
}

static void test_dollars(void **state)
{
    static const struct {
        const char *text;
        int64_t pico;
    } good[] = {{"5", 5000000000000}, {"5.00", 5000000000000}, {"0.000000000001", 1},
                {".5", 500000000000}, {"-1", -1000000000000},  {"9000000", 9000000000000000000}};
    static const char *const bad[] = {"",        ".",    "-", "1.2.3", "1e3", "0.0000000000001",
                                      "9300000", "five", "1 "};
    struct place root;
    struct err err = {0};
    int64_t pico;

    UNUSED(state);
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_int_equal(dollars_parse(str_from(good[i].text), &pico), RC_OK);
        assert_true(pico == good[i].pico);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_not_equal(dollars_parse(str_from(bad[i]), &pico), RC_OK);
    decode_root(
        &root,
        json(
            "{\"a\":0.1,\"b\":\"0.1\",\"c\":5,\"d\":-0.5,\"e\":1234567.89,\"f\":1e300,\"g\":true}"),
        "");
    assert_int_equal(decode_dollars(&root, "a", &pico, &err), RC_OK);
    assert_true(pico == 100000000000);
    assert_int_equal(decode_dollars(&root, "e", &pico, &err), RC_OK);
    assert_true(pico == 1234567890000000000);
    assert_int_equal(decode_dollars(&root, "d", &pico, &err), RC_INVALID);
    assert_int_equal(decode_dollars(&root, "f", &pico, &err), RC_INVALID);
    assert_int_equal(decode_dollars(&root, "g", &pico, &err), RC_INVALID);
}

static void test_words_and_texts(void **state)
{
    static const char *const words[] = {"one", "two", NULL};
    struct place root;
    struct err err = {0};
    struct str *texts = NULL;
    size_t count = 9;
    int word = 5;

    UNUSED(state);
    decode_root(&root, json("{\"w\":\"two\",\"x\":\"three\",\"t\":[\"a\",\"b\"],\"u\":[1]}"), "");
    assert_int_equal(decode_word(&root, "w", words, &word, &err), RC_OK);
    assert_int_equal(word, 1);
    assert_int_equal(decode_word(&root, "x", words, &word, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "one, two"));
    assert_int_equal(decode_texts(&root, "t", 2, 1, &arena, &texts, &count, &err), RC_OK);
    assert_int_equal(count, 2);
    assert_int_equal(decode_texts(&root, "t", 1, 1, &arena, &texts, &count, &err), RC_INVALID);
    assert_int_equal(decode_texts(&root, "u", 2, 1, &arena, &texts, &count, &err), RC_INVALID);
    assert_string_equal(err.field, "u[0]");
}

static void test_sorted_and_diff(void **state)
{
    yyjson_mut_doc *doc = json_tree_new(&arena);
    struct str text;

    UNUSED(state);
    assert_int_equal(
        json_write_tree(json_sorted(doc, json("{\"b\":[{\"d\":1,\"c\":2}],\"a\":\"x\"}")), &arena,
                        &text, NULL),
        RC_OK);
    assert_true(str_eq(text, STR("{\"a\":\"x\",\"b\":[{\"c\":2,\"d\":1}]}")));
    yyjson_mut_val *diff = json_diff(doc, json("{\"a\":1,\"l\":[1,2],\"o\":{\"x\":1}}"),
                                     json("{\"a\":1,\"l\":[1,3,4],\"o\":{}}"));
    assert_int_equal(json_write_tree(diff, &arena, &text, NULL), RC_OK);
    assert_true(str_eq(text, STR("[{\"path\":\"l[1]\",\"before\":2,\"after\":3},{\"path\":\"l[2]\","
                                 "\"before\":null,\"after\":4},"
                                 "{\"path\":\"o.x\",\"before\":1,\"after\":null}]")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_places, start, end),
        cmocka_unit_test_setup_teardown(test_numbers, start, end),
        cmocka_unit_test_setup_teardown(test_dollars, start, end),
        cmocka_unit_test_setup_teardown(test_words_and_texts, start, end),
        cmocka_unit_test_setup_teardown(test_sorted_and_diff, start, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
