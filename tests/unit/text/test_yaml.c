/* YAML: the core schema, places, bounds, and what is written can be read again. */
#include "text/yaml_private.h"
#include "base/rand.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct arena arena;
static struct err err;

static yyjson_val *read_ok(const char *text, struct yaml_lines *lines)
{
    yyjson_doc *doc;
    err = (struct err){0};
    if (yaml_read(str_from(text), &arena, lines, &doc, &err) != RC_OK)
        fail_msg("%s", err.message);
    return yyjson_doc_get_root(doc);
}

static void expect_error(const char *text, const char *part)
{
    yyjson_doc *doc;
    err = (struct err){0};
    assert_int_not_equal(yaml_read(str_from(text), &arena, NULL, &doc, &err), RC_OK);
    if (!strstr(err.message, part))
        fail_msg("'%s' is not in '%s'", part, err.message);
}

static void test_scalars(void **state)
{
    UNUSED(state);
    yyjson_val *root =
        read_ok("a: 1\nb: \"1\"\nc: true\nd: yes\ne: ~\nf: 5.00\ng: ${env:X}\nh: 127.0.0.1:4100\n"
                "i: -3\nj: 10.0.0.1\nk: ''\n",
                NULL);
    assert_int_equal(yyjson_get_sint(yyjson_obj_get(root, "a")), 1);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "b")), "1");
    assert_true(yyjson_is_true(yyjson_obj_get(root, "c")));
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "d")), "yes");
    assert_true(yyjson_is_null(yyjson_obj_get(root, "e")));
    assert_true(yyjson_get_real(yyjson_obj_get(root, "f")) == 5.0);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "g")), "${env:X}");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "h")), "127.0.0.1:4100");
    assert_int_equal(yyjson_get_sint(yyjson_obj_get(root, "i")), -3);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "j")), "10.0.0.1");
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "k")), "");
    assert_true(yyjson_is_obj(read_ok("", NULL)));
}

static void test_places(void **state)
{
    struct yaml_lines lines;
    UNUSED(state);
    read_ok("listen: x\nroutes:\n  smart:\n    targets:\n      - { provider: a }\n      - "
            "provider: b\n        model: m\n",
            &lines);
    assert_int_equal(yaml_line_of(&lines, STR("listen")), 1);
    assert_int_equal(yaml_line_of(&lines, STR("routes.smart")), 3);
    assert_int_equal(yaml_line_of(&lines, STR("routes.smart.targets[1].model")), 7);
    assert_int_equal(yaml_line_of(&lines, STR("routes.smart.targets[1].weight")), 6);
    assert_int_equal(yaml_line_of(&lines, STR("nothing.here")), 1);
    yaml_lines_fini(&lines);
}

static void test_refusals(void **state)
{
    UNUSED(state);
    expect_error("a: 1\nb: [1,\n", "line 3");
    expect_error("a: 1\na: 2\n", "twice");
    expect_error("? [a]\n: 1\n", "key must be a text");
    expect_error("x: &x {a: 1}\ny:\n  <<: *x\n", "merge");
    char bomb[2000] = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
    for (int i = 1; i < 9; i++) {
        char line[100];
        snprintf(line, sizeof(line), "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
                 i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
        strcat(bomb, line);
    }
    expect_error(bomb, "too ");
}

static void test_round_trip(void **state)
{
    struct buf out;
    UNUSED(state);
    const char *json = "{\"a\":[1,2.5,\"3\",true,null,\"yes\",\"two\\nlines\\n\",\"\"],\"b\":{\"c "
                       "d\":\"# no comment\"},\"e\":{},\"f\":[]}";
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    buf_init(&out, 1 << 16);
    assert_int_equal(yaml_write(yyjson_doc_get_root(doc), &out), RC_OK);
    char *text = calloc(1, buf_len(&out) + 1);
    memcpy(text, buf_str(&out).p, buf_len(&out));
    struct str again = json_write(read_ok(text, NULL), &arena);
    assert_int_equal(again.n, strlen(json));
    assert_memory_equal(again.p, json, again.n);
    free(text);
    buf_fini(&out);
    yyjson_doc_free(doc);
}

static bool read_by_both(const char *text)
{
    yyjson_doc *quick, *full;
    if (!yaml_read_common(str_from(text), &arena, &quick))
        return false;
    if (yaml_read_full(str_from(text), &arena, NULL, &full, &err) != RC_OK)
        fail_msg("only the quick reader takes this:\n%s", text);
    if (!yyjson_equals(yyjson_doc_get_root(quick), yyjson_doc_get_root(full)))
        fail_msg("the readers differ:\n%s", text);
    return true;
}

static const char *const COMMON =
    "# settings\nlisten: 127.0.0.1:4100  # here\nproviders:\n"
    "  openai: { format: openai, base_url: \"https://x/v1\", api_key: 'sk' }\n"
    "  \"two words\":\n    list:\n    - a b\n    - -3\n    - null\n    none:\n    n: 1.5\n"
    "routes:\n  r:\n    targets:\n      - { provider: openai,\n          weight: 3 }\n"
    "      - provider: b\n        model: [ x, \"y\", {z: true} ]\n    retry: 2\n"
    "keys:\n  - { name: app, models: [\"*\"] }\n  - []\n";

/* What the quick reader takes, libyaml reads the same: the text, and others that differ from it by
 * a few characters that mean something. */
static void test_common_part(void **state)
{
    static const char signs[] = " \n:-,{}[]#'\"ab1~&*!|>%?.\t";
    char text[1024];
    int taken = 0;
    UNUSED(state);
    rand_seed(7);
    assert_true(read_by_both(COMMON));
    assert_false(read_by_both("a: &x 1\nb: *x\n"));
    assert_false(read_by_both("a: |\n  text\n"));
    assert_false(read_by_both("a: 1\na: 2\n"));
    assert_false(read_by_both("a: b\n  c\n"));
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "%s", COMMON);
        for (uint64_t edits = 1 + rand_below(3); edits; edits--)
            text[rand_below(strlen(text))] = signs[rand_below(sizeof(signs) - 1)];
        taken += read_by_both(text);
        arena_reset(&arena);
    }
    assert_true(taken > 1000);
}

static int setup(void **state)
{
    UNUSED(state);
    arena_init(&arena, 256 << 20);
    return 0;
}

static int teardown(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scalars, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_common_part, setup, teardown),
    };
    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
