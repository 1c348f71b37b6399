/* Filters and attributes as clients write them. */
#include "knowledge/filter.h"
#include "text/expression.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct arena arena;

static yyjson_val *parse(const char *text)
{
    yyjson_doc *doc;
    assert_int_equal(json_read(str_from(text), &arena, &doc, NULL), RC_OK);
    return yyjson_doc_get_root(doc);
}

static void assert_filter(const char *json, const char *wanted)
{
    struct err err = {0};
    struct str out;
    assert_int_equal(filter_read(parse(json), "filter", &arena, &out, &err), RC_OK);
    assert_int_equal(out.n, strlen(wanted));
    assert_memory_equal(out.p, wanted, out.n);
}

static void assert_refused(const char *json)
{
    struct err err = {0};
    struct str out;
    assert_int_equal(filter_read(parse(json), "filters", &arena, &out, &err), RC_INVALID);
    assert_string_equal(err.field, "filters");
}

static void test_comparisons(void **state)
{
    UNUSED(state);
    assert_filter("{\"type\":\"eq\",\"key\":\"year\",\"value\":2026}", "year == 2026");
    assert_filter("{\"type\":\"nin\",\"key\":\"kind\",\"value\":[\"a\",\"b\"]}",
                  "kind not in [\"a\", \"b\"]");
    assert_filter("{\"type\":\"lte\",\"key\":\"x-y\",\"value\":1.5}", "x-y <= 1.5");
    assert_filter("\"year > 1\"", "year > 1");
    assert_filter("null", "");
}

static void test_compounds(void **state)
{
    UNUSED(state);
    assert_filter(
        "{\"type\":\"and\",\"filters\":[{\"type\":\"eq\",\"key\":\"a\",\"value\":true},"
        "{\"type\":\"or\",\"filters\":[{\"type\":\"ne\",\"key\":\"b\",\"value\":\"x\"}]}]}",
        "(a == true and (b != \"x\"))");
}

/* What could leave the literal or the name would be another condition. */
static void test_nothing_is_injected(void **state)
{
    struct err err = {0};
    struct str out;
    struct expression *parsed;
    UNUSED(state);
    yyjson_val *filter =
        parse("{\"type\":\"eq\",\"key\":\"a\",\"value\":\"x\\\" or true or a == \\\"\"}");
    assert_int_equal(filter_read(filter, "filter", &arena, &out, &err), RC_OK);
    assert_int_equal(expression_parse(out, &arena, &parsed, &err), RC_OK);
    assert_true(str_find(out, STR("\\\" or true")) > 0);
    assert_refused("{\"type\":\"eq\",\"key\":\"a == 1 or b\",\"value\":1}");
}

static void test_refusals(void **state)
{
    UNUSED(state);
    assert_refused("{\"type\":\"like\",\"key\":\"a\",\"value\":1}");
    assert_refused("{\"type\":\"eq\",\"key\":\"a\",\"value\":{}}");
    assert_refused("{\"type\":\"in\",\"key\":\"a\",\"value\":1}");
    assert_refused("{\"type\":\"and\",\"filters\":[]}");
    assert_refused("7");
    assert_refused("\"year >\"");
}

static void test_attributes(void **state)
{
    struct err err = {0};
    struct str out;
    UNUSED(state);
    assert_int_equal(
        attributes_read(parse("{\"a\":1,\"b\":[\"x\"]}"), "attributes", &arena, &out, &err), RC_OK);
    assert_true(str_eq(out, STR("{\"a\":1,\"b\":[\"x\"]}")));
    static const char *const refused[] = {"{\"_document\":1}", "{\"tags\":[\"x\"]}", "{\"a b\":1}",
                                          "{\"a\":{}}",        "{\"a\":null}",       "[]"};
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        assert_int_equal(attributes_read(parse(refused[i]), "attributes", &arena, &out, &err),
                         RC_INVALID);
}

static int begin(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comparisons),         cmocka_unit_test(test_compounds),
        cmocka_unit_test(test_nothing_is_injected), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_attributes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
