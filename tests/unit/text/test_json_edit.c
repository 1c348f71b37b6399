/* Splicing JSON: every other byte stays; the result is JSON whatever was changed. */
#include "text/json_edit.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

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

struct change {
    char kind; /* s: set, r: remove, n: rename */
    const char *name, *value;
};

static void assert_edit(const char *source, const struct change *changes, size_t count,
                        const char *wanted)
{
    struct json_object object;
    struct json_edit edit;
    struct str pieces[4], joined = STR("");
    size_t n;
    assert_int_equal(json_index(str_from(source), &arena, &object), RC_OK);
    json_edit_init(&edit, &object, &arena);
    for (size_t i = 0; i < count; i++) {
        struct str name = str_from(changes[i].name), value = str_from(changes[i].value);
        enum rc rc = changes[i].kind == 's'   ? json_edit_set(&edit, name, value)
                     : changes[i].kind == 'r' ? json_edit_remove(&edit, name)
                                              : json_edit_rename(&edit, name, value);
        assert_int_equal(rc, RC_OK);
    }
    assert_int_equal(json_edit_finish(&edit, pieces, 4, &n), RC_OK);
    for (size_t i = 0; i < n; i++)
        joined = arena_concat(&arena, joined, pieces[i]);
    assert_true(str_eq(joined, str_from(wanted)));
    yyjson_doc *doc;
    assert_int_equal(json_read(joined, &arena, &doc, NULL), RC_OK);
}

#define EDIT(source, wanted, ...)                                                                  \
    do {                                                                                           \
        const struct change changes[] = {__VA_ARGS__};                                             \
        assert_edit((source), changes, COUNT_OF(changes), (wanted));                               \
    } while (0)

static void test_changes(void **state)
{
    EDIT(" { \"a\" : 1 , \"b\":\"x\" } ", " { \"a\" : 2 , \"b\":\"x\" } ", {'s', "a", "2"});
    EDIT("{}", "{\"a\":1}", {'s', "a", "1"});
    EDIT("{\"b\":2}", "{\"a\":1,\"c\":3,\"b\":2}", {'s', "a", "1"}, {'s', "c", "3"});
    EDIT("{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":1,\"c\":3}", {'r', "b", ""});
    EDIT("{\"a\":1,\"b\":2,\"c\":3}", "{\"c\":3}", {'r', "b", ""}, {'r', "a", ""});
    EDIT("{\"a\":1,\"b\":2,\"c\":3}", "{}", {'r', "c", ""}, {'r', "a", ""}, {'r', "b", ""});
    EDIT("{\"a\":1,\"b\":2}", "{\"x\":0}", {'r', "a", ""}, {'r', "b", ""}, {'s', "x", "0"});
    EDIT("{\"a\":1,\"b\":2}", "{\"x\":0,\"b\":2}", {'s', "x", "0"}, {'r', "a", ""});
    EDIT("{\"a\":1,\"b\":2}", "{\"a\":9,\"b\":2}", {'r', "a", ""}, {'s', "a", "9"});
    EDIT("{\"a\":1}", "{\"z\":1}", {'n', "a", "z"});
    EDIT("{\"a\":1,\"a\":2}", "{\"a\":3,\"a\":3}", {'s', "a", "3"});
    EDIT("{\"\\u0061\":1}", "{\"\\u0061\":5}", {'s', "a", "5"});
    EDIT("{\"a\":1}", "{\"a\":3}", {'s', "a", "2"}, {'s', "a", "3"});
    EDIT("{\"s\":\"}\\\\\",\"t\":\"\\\\\\\"]\",\"a\":[1,{\"a\":\"{\"}]}",
         "{\"s\":\"}\\\\\",\"t\":\"\\\\\\\"]\",\"a\":0}", {'s', "a", "0"});
    EDIT("{\"a\":1,\"b\":2,\"c\":3,\"d\":4}", "{\"a\":5,\"b\":6,\"c\":7,\"d\":8}", {'s', "d", "8"},
         {'s', "a", "5"}, {'s', "c", "7"}, {'s', "b", "6"}); /* more pieces than fit: joined */
}

static void test_broken(void **state)
{
    static const char *const cases[] = {"",
                                        "[]",
                                        "{",
                                        "{\"a\"",
                                        "{\"a\":",
                                        "{\"a\":1",
                                        "{\"a\":1,",
                                        "{\"a\":1,}",
                                        "{\"a\":\"x}",
                                        "{a:1}",
                                        "{\"a\":1}x",
                                        "{\"a\" 1}",
                                        "{\"a\":{\"b\":1}",
                                        "{\"a\\\":1}",
                                        "{,}",
                                        "{\"a\":1 \"b\":2}"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct json_object object;
        char *copy = malloc(strlen(cases[i]) + 1);
        memcpy(copy, cases[i], strlen(cases[i]));
        if (json_index(str_make(copy, strlen(cases[i])), &arena, &object) == RC_OK)
            fail_msg("accepted: %s", cases[i]);
        free(copy);
    }
}

static void test_conflict(void **state)
{
    struct json_object object;
    struct json_edit edit;
    assert_int_equal(json_index(STR("{\"a\":[1,2]}"), &arena, &object), RC_OK);
    json_edit_init(&edit, &object, &arena);
    assert_int_equal(json_edit_range(&edit, 6, 7, STR("9")), RC_OK);
    assert_int_equal(json_edit_set(&edit, STR("a"), STR("0")), RC_CONFLICT);
}

static void test_items(void **state)
{
    struct str source = STR(" [ 1, \"a,]\" ,{\"x\":[]}]");
    struct json_items items = json_items_begin(source, 1);
    static const char *const wanted[] = {"1", "\"a,]\"", "{\"x\":[]}"};
    size_t from, to, n = 0;
    while (json_items_next(&items, &from, &to))
        assert_true(str_eq(str_slice(source, from, to), str_from(wanted[n++])));
    assert_int_equal(n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_conflict, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_items, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
