/* The validator: each keyword fits and fails; what is not known is refused; hostile schemas end. */
#include "text/json_schema.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena arena;

static int set_up(void **state)
{
    arena_init(&arena, 1 << 26);
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(&arena);
    return 0;
}

static enum rc check(const char *schema_text, const char *value_text,
                     struct json_schema_problem *problem)
{
    struct json_schema *schema;
    yyjson_doc *doc;
    struct err err = {0};
    if (json_schema_compile(str_from(schema_text), &arena, &schema, &err) != RC_OK)
        fail_msg("%s: %s", schema_text, err.message);
    assert_int_equal(json_read(str_from(value_text), &arena, &doc, NULL), RC_OK);
    return json_schema_check(schema, yyjson_doc_get_root(doc), problem);
}

static void test_keywords(void **state)
{
    static const struct {
        const char *schema, *fits, *fails;
    } cases[] = {
        {"{\"type\":\"string\"}", "\"a\"", "1"},
        {"{\"type\":[\"integer\",\"null\"]}", "null", "1.5"},
        {"{\"type\":\"integer\"}", "1.0", "true"},
        {"{\"enum\":[1,{\"a\":[2]}]}", "{\"a\":[2.0]}", "2"},
        {"{\"const\":\"x\"}", "\"x\"", "\"y\""},
        {"{\"required\":[\"a\"]}", "{\"a\":1}", "{}"},
        {"{\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":false}",
         "{\"a\":null}", "{\"b\":1}"},
        {"{\"additionalProperties\":{\"type\":\"number\"}}", "{\"x\":1}", "{\"x\":\"1\"}"},
        {"{\"patternProperties\":{\"^n\":{\"type\":\"number\"}},\"additionalProperties\":false}",
         "{\"n1\":1}", "{\"n1\":\"a\"}"},
        {"{\"propertyNames\":{\"maxLength\":2}}", "{\"ab\":1}", "{\"abc\":1}"},
        {"{\"minProperties\":1,\"maxProperties\":2}", "{\"a\":1}", "{}"},
        {"{\"dependentRequired\":{\"a\":[\"b\"]}}", "{\"a\":1,\"b\":2}", "{\"a\":1}"},
        {"{\"dependentSchemas\":{\"a\":{\"required\":[\"b\"]}}}", "{\"c\":1}", "{\"a\":1}"},
        {"{\"items\":{\"type\":\"number\"}}", "[1,2]", "[1,\"2\"]"},
        {"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":false}", "[\"a\"]", "[\"a\",1]"},
        {"{\"contains\":{\"const\":1},\"maxContains\":1}", "[0,1]", "[1,1]"},
        {"{\"contains\":{\"const\":1},\"minContains\":2}", "[1,1]", "[1]"},
        {"{\"minItems\":1,\"maxItems\":2}", "[1]", "[1,2,3]"},
        {"{\"uniqueItems\":true}", "[1,2]", "[1,1.0]"},
        {"{\"minLength\":2,\"maxLength\":3}", "\"\xc3\xa9\xc3\xa9\"", "\"a\""},
        {"{\"pattern\":\"^a+$\"}", "\"aa\"", "\"ab\""},
        {"{\"minimum\":1,\"maximum\":3}", "3", "0.5"},
        {"{\"exclusiveMinimum\":1,\"exclusiveMaximum\":3}", "2", "3"},
        {"{\"multipleOf\":0.1}", "0.3", "0.35"},
        {"{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "1.5", "3"},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "6", "4"},
        {"{\"oneOf\":[{\"minimum\":1},{\"minimum\":5}]}", "2", "6"},
        {"{\"not\":{\"type\":\"string\"}}", "1", "\"a\""},
        {"{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]},\"else\":{\"required\":["
         "\"c\"]}}",
         "{\"c\":1}", "{\"a\":1}"},
        {"{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#/$defs/"
         "n\"}},"
         "\"additionalProperties\":false}},\"$ref\":\"#/$defs/n\"}",
         "{\"next\":{\"next\":{}}}", "{\"next\":{\"nxt\":{}}}"},
        {"{\"format\":\"email\",\"title\":\"t\",\"default\":{\"$dynamicRef\":1}}", "\"x\"", NULL},
        {"true", "1", NULL},
        {"{\"properties\":{\"a\":false}}", "{}", "{\"a\":1}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct json_schema_problem problem;
        if (check(cases[i].schema, cases[i].fits, &problem) != RC_OK)
            fail_msg("%s does not take %s: %s", cases[i].schema, cases[i].fits, problem.message);
        if (cases[i].fails && check(cases[i].schema, cases[i].fails, &problem) != RC_INVALID)
            fail_msg("%s takes %s", cases[i].schema, cases[i].fails);
    }
}

static void test_place(void **state)
{
    struct json_schema_problem problem;
    assert_int_equal(check("{\"properties\":{\"a\":{\"items\":{\"type\":\"string\"}}}}",
                           "{\"a\":[\"x\",2]}", &problem),
                     RC_INVALID);
    assert_string_equal(problem.path, "/a/1");
    assert_string_equal(problem.message, "must be of type string");
}

static void test_refused(void **state)
{
    static const char *const cases[] = {"[]",
                                        "1",
                                        "{\"$ref\":\"other.json\"}",
                                        "{\"$ref\":\"#/nowhere\"}",
                                        "{\"unevaluatedProperties\":false}",
                                        "{\"pattern\":\"(\"}",
                                        "{\"items\":{\"$dynamicRef\":\"#x\"}}",
                                        "{"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct json_schema *schema;
        struct err err = {0};
        if (json_schema_compile(str_from(cases[i]), &arena, &schema, &err) == RC_OK)
            fail_msg("accepted: %s", cases[i]);
        assert_true(err.message[0]);
    }
}

static void test_hostile(void **state)
{
    assert_int_equal(check("{\"$ref\":\"#\"}", "1", NULL), RC_LIMIT);
    assert_int_equal(check("{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}", "1", NULL), RC_LIMIT);
    assert_int_equal(
        check("{\"pattern\":\"^(a+)+$\"}", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"", NULL),
        RC_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keywords, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
