/* Expressions: operators, types, missing values, bounds. */
#include "text/expression.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

static struct arena arena;
static yyjson_val *names;

static int set_up(void **state)
{
    static const char text[] =
        "{\"header\":{\"x-team\":\"Blue\"},\"tags\":{\"tier\":\"gold\"},\"n\":3,\"list\":[1,\"a\",{"
        "\"k\":[7]}],"
        "\"empty\":\"\",\"flag\":true,\"body\":{\"messages\":[{\"role\":\"user\"}]}}";
    yyjson_doc *doc;
    arena_init(&arena, 1 << 24);
    assert_int_equal(json_read(str_from(text), &arena, &doc, NULL), RC_OK);
    names = yyjson_doc_get_root(doc);
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(&arena);
    return 0;
}

static void look_up(void *arg, const struct str *path, size_t path_count,
                    struct expression_value *out)
{
    expression_from_json(names, path, path_count, out);
}

static bool holds(const char *text)
{
    struct expression *expression;
    struct err err = {0};
    if (expression_parse(str_from(text), &arena, &expression, &err) != RC_OK)
        fail_msg("%s: %s", text, err.message);
    return expression_test(expression, look_up, NULL, &arena);
}

static void test_true(void **state)
{
    static const char *const cases[] = {
        "header.x-team == \"Blue\"",
        "tags.tier in [\"gold\", 'silver']",
        "tags['tier'] == 'gold'",
        "lower(header.x-team) == 'blue'",
        "n > 2 and n <= 3",
        "n + 1 == 4",
        "2 + 3 * 4 == 14",
        "-n == 0 - 3",
        "not (n == 4)",
        "!empty",
        "flag && !missing",
        "missing == null",
        "missing.deep[3].x == null",
        "list[2].k[0] == 7",
        "length(list) == 3",
        "list contains 'a'",
        "'a' in list",
        "'b' not in list",
        "body.messages[0].role == 'user'",
        "matches(header.x-team, 'B*e')",
        "header.x-team matches 'B?ue'",
        "starts_with(tags.tier, 'go') || false",
        "default(missing, 5) == 5",
        "number('12') == 12",
        "text(n) == '3'",
        "'a' + 'b' == 'ab'",
        "1 != '1'",
        "7 % 4 == 3",
        "upper('é') == 'é'",
        "length('é') == 1",
        "max(1, n) == 3",
        "min(1, n) == 1",
        "exists(flag) and not exists(missing)",
        "'it\\'s' == \"it's\"",
        "(1 / 0) == null",
        "'abc' < 'abd'",
        "[1, [2]] == [1, [2]]",
        "true or missing",
        "header contains 'x-team'",
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (!holds(cases[i]))
            fail_msg("not true: %s", cases[i]);
}

static void test_false(void **state)
{
    static const char *const cases[] = {
        "n > '2'", "missing",   "missing > 1", "empty",        "[]",       "0",
        "null",    "1 == true", "'x' + 1",     "n contains 3", "not flag", "length(n) > 0"};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (holds(cases[i]))
            fail_msg("not false: %s", cases[i]);
}

static void test_refused(void **state)
{
    static const char *const cases[] = {
        "",   "n ==", "n == 1 2", "(n",      "foo(n)", "lower()", "lower(1,2)", "'open", "a.",
        "a[", "a[x]", "[1,",      "n not 3", "1 = 1",  "@",       "1.2.3",      "a b"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct expression *expression;
        struct err err = {0};
        if (expression_parse(str_from(cases[i]), &arena, &expression, &err) == RC_OK)
            fail_msg("accepted: %s", cases[i]);
        assert_true(err.message[0]);
    }
}

static void test_bounds(void **state)
{
    struct expression *expression;
    char *deep = malloc(EXPRESSION_BYTES_MAX + 2);
    memset(deep, '(', EXPRESSION_BYTES_MAX);
    assert_int_not_equal(
        expression_parse(str_make(deep, EXPRESSION_BYTES_MAX), &arena, &expression, NULL), RC_OK);
    memset(deep, '!', EXPRESSION_BYTES_MAX);
    assert_int_not_equal(
        expression_parse(str_make(deep, EXPRESSION_BYTES_MAX), &arena, &expression, NULL), RC_OK);
    memset(deep, '1', EXPRESSION_BYTES_MAX + 1);
    assert_int_not_equal(
        expression_parse(str_make(deep, EXPRESSION_BYTES_MAX + 1), &arena, &expression, NULL),
        RC_OK);
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_true, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_false, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
