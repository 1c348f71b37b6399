/* docs/openapi.yaml and src/api/routes.h tell the same: every route stands in both, with its
 * permission. */
#include "api/handlers.h"
#include "text/json.h"
#include "text/yaml.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct listed_route {
    const char *method, *pattern, *permission;
};

#define PERMISSION(name, text) static const char *const permission_##name = text;
#include "govern/permissions.h"
#undef PERMISSION
static const char *const permission_PUBLIC = NULL;
static const char *const permission_ANY = "any key or session";

static struct arena arena;
static yyjson_val *paths, *root;

static int read_document(void **state)
{
    const char *folder = getenv("TEST_FOLDER");
    struct err err = {0};
    char path[1024];
    yyjson_doc *doc;

    UNUSED(state);
    arena_init(&arena, 64 * 1024 * 1024);
    snprintf(path, sizeof path, "%s/../../docs/openapi.yaml", folder ? folder : "tests/unit");
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be opened", path);
    char *text = arena_alloc(&arena, 1 << 20);
    size_t n = fread(text, 1, 1 << 20, file);
    fclose(file);
    if (yaml_read(str_make(text, n), &arena, NULL, &doc, &err) != RC_OK)
        fail_msg("%s: %s", path, err.message);
    root = yyjson_doc_get_root(doc);
    paths = yyjson_obj_get(root, "paths");
    return 0;
}

static int forget(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

static const char *lower(const char *method, char out[16])
{
    size_t i = 0;

    for (; method[i] && i < 15; i++)
        out[i] = (char)(method[i] | 0x20);
    out[i] = 0;
    return out;
}

static void test_every_route_is_described(void **state)
{
    const struct listed_route routes[] = {
#define API_ROUTE(method, pattern, permission, kind, handler)                                      \
    {#method, pattern, permission_##permission},
#include "api/routes.h"
#undef API_ROUTE
    };
    char method[16];
    size_t i, n, described = 0;
    yyjson_val *key, *value;

    UNUSED(state);
    for (i = 0; i < COUNT_OF(routes); i++) {
        yyjson_val *operation = yyjson_obj_get(yyjson_obj_get(paths, routes[i].pattern),
                                               lower(routes[i].method, method));
        if (!operation)
            fail_msg("%s %s is not in docs/openapi.yaml", routes[i].method, routes[i].pattern);
        struct str permission = json_get_text(operation, "x-permission");
        if (!str_eq(permission, str_from(routes[i].permission)))
            fail_msg("%s %s: x-permission should be %s", routes[i].method, routes[i].pattern,
                     routes[i].permission ? routes[i].permission : "absent");
        assert_true(json_get_text(operation, "summary").n > 0);
        assert_non_null(yyjson_obj_get(operation, "responses"));
    }
    yyjson_obj_foreach(paths, i, n, key, value) described += yyjson_obj_size(value);
    if (described != COUNT_OF(routes))
        fail_msg("docs/openapi.yaml describes %zu operations, there are %zu routes", described,
                 COUNT_OF(routes));
}

/* Every $ref leads somewhere. */
static void check_references(yyjson_val *value)
{
    size_t i, n;
    yyjson_val *key, *inner;

    yyjson_obj_foreach(value, i, n, key, inner)
    {
        if (str_eq(json_text(key), STR("$ref"))) {
            struct str rest = json_text(inner), part;
            yyjson_val *at = root;
            assert_true(str_starts(rest, STR("#/")));
            rest = str_slice(rest, 2, rest.n);
            while (str_split(&rest, '/', &part))
                at = yyjson_obj_getn(at, part.p, part.n);
            if (!at)
                fail_msg("%.*s leads nowhere", STR_ARG(json_text(inner)));
        }
        check_references(inner);
    }
    yyjson_arr_foreach(value, i, n, inner) check_references(inner);
}

static void test_references(void **state)
{
    UNUSED(state);
    check_references(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route_is_described),
        cmocka_unit_test(test_references),
    };
    return cmocka_run_group_tests(tests, read_document, forget);
}
