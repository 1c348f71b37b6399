/* From definitions to the snapshot: keys, providers, routes, limits, prices, revocation, size and
 * speed. */
#include "govern_fixture.h"
#include "base/clock.h"
#include "gateway/price.h"
#include "govern/applied.h"
#include <malloc.h>

static void expect_ok(enum rc rc, const struct err *err)
{
    if (rc != RC_OK)
        fail_msg("%s (%s)", err->message, err->field);
}

static const struct project *project(void)
{
    return snapshot_project(snapshot_current(), g.owner.project);
}

static void test_first_start(void **state)
{
    struct err err = {0};

    UNUSED(state);
    assert_true(g.first.is_first);
    assert_true(str_starts(g.first.key, STR("cap_")));
    assert_int_equal(g.first.key.n, 44);
    assert_int_equal(g.owner.role, ROLE_OWNER);
    assert_true(g.owner.permissions & PERMISSION_BIT(PROJECT_WRITE));
    struct first_start again = g.first;
    expect_ok(govern_write(govern_first, NULL, &err), &err);
    assert_false(g.first.is_first);
    g.first = again;
}

static void test_provider_and_route(void **state)
{
    struct err err = {0};

    UNUSED(state);
    expect_ok(define(DEFINE_CREATE, OBJECT_PROVIDER, "openai",
                     "{\"format\":\"openai\",\"base_url\":\"https://api.openai.com/v1/"
                     "\",\"api_key\":\"sk-0123456789abcdef\","
                     "\"headers\":{\"x-team\":\"red\"},\"ca_file\":null}",
                     &err),
              &err);
    const struct provider *provider = map_get(&project()->providers, STR("openai"));
    assert_non_null(provider);
    assert_true(str_eq(provider->base_url, STR("https://api.openai.com/v1")));
    assert_true(str_eq(provider->keys[0].secret, STR("sk-0123456789abcdef")));
    assert_int_equal(provider->header_count, 1);
    uint32_t slot = provider->keys[0].slot;

    expect_ok(define(DEFINE_CREATE, OBJECT_ROUTE, "team/smart",
                     "{\"targets\":[{\"provider\":\"openai\",\"model\":\"gpt-5\",\"weight\":3,"
                     "\"when\":\"header.x-tier == \\\"gold\\\"\"},"
                     "{\"provider\":\"openai\",\"model\":\"gpt-5-mini\",\"params\":{"
                     "\"temperature\":0}}],\"retry\":2,"
                     "\"timeout\":{\"first_token\":\"20s\",\"total_ms\":300000},\"cache\":{\"ttl_"
                     "s\":60},\"capture\":\"metadata\","
                     "\"fallback\":{\"on\":[\"rate\",\"context\"]},\"balance\":\"ordered\","
                     "\"checks\":[{\"name\":\"ids\",\"kind\":\"regex\",\"on\":\"input\","
                     "\"pattern\":\"[0-9]{9}\",\"action\":\"mask\"}]}",
                     &err),
              &err);
    const struct route *route = map_get(&project()->routes, STR("team/smart"));
    assert_non_null(route);
    assert_int_equal(route->target_count, 2);
    assert_int_equal(route->targets[0].weight, 3);
    assert_non_null(route->targets[0].when_compiled);
    assert_true(str_eq(route->targets[1].params, STR("{\"temperature\":0}")));
    assert_int_equal(route->first_token_ns, 20 * NS_PER_S);
    assert_int_equal(route->total_ns, 300 * NS_PER_S);
    assert_int_equal(route->connect_ns, 0);
    assert_int_equal(route->cache_ttl_ns, 60 * NS_PER_S);
    assert_int_equal(route->fallback, FALLBACK_RATE | FALLBACK_CONTEXT);
    assert_int_equal(route->balance, BALANCE_ORDERED);
    assert_int_equal(route->capture, CAPTURE_METADATA);
    assert_int_equal(route->checks[0].on, CHECK_INPUT);
    assert_non_null(route->checks[0].compiled);
    provider = map_get(&project()->providers, STR("openai"));
    assert_int_equal(provider->keys[0].slot, slot); /* stable over rebuilds */
    uint64_t hash = route->hash;
    expect_ok(
        define(DEFINE_PATCH, OBJECT_ROUTE, "team/smart", "{\"retry\":0,\"cache\":null}", &err),
        &err);
    route = map_get(&project()->routes, STR("team/smart"));
    assert_int_equal(route->retry, 0);
    assert_int_equal(route->cache_ttl_ns, 0);
    assert_int_equal(route->target_count, 2);
    assert_true(route->hash != hash);

    assert_int_equal(define(DEFINE_DELETE, OBJECT_PROVIDER, "openai", NULL, &err), RC_CONFLICT);
    assert_non_null(strstr(err.message, "team/smart"));
    expect_ok(define(DEFINE_DELETE, OBJECT_ROUTE, "team/smart", NULL, &err), &err);
    expect_ok(define(DEFINE_DELETE, OBJECT_PROVIDER, "openai", NULL, &err), &err);
    assert_null(map_get(&project()->providers, STR("openai")));
}

static void refuse(enum object_kind kind, const char *name, const char *json, const char *field)
{
    struct err err = {0};

    assert_int_not_equal(define(DEFINE_CREATE, kind, name, json, &err), RC_OK);
    if (strcmp(err.field, field) != 0)
        fail_msg("%s: field '%s', expected '%s' (%s)", json, err.field, field, err.message);
}

static void test_refusals(void **state)
{
    struct err err = {0};

    UNUSED(state);
    refuse(OBJECT_PROVIDER, "p", "{}", "format");
    refuse(OBJECT_PROVIDER, "p", "{\"format\":\"nothing\"}", "format");
    refuse(OBJECT_PROVIDER, "p", "{\"format\":\"openai\",\"base_url\":\"ftp://x\"}", "base_url");
    refuse(OBJECT_PROVIDER, "p", "{\"format\":\"openai\",\"base_url\":\"https://user@x\"}",
           "base_url");
    refuse(OBJECT_PROVIDER, "p",
           "{\"format\":\"openai\",\"base_url\":\"https://x\",\"api_key\":\"a\\nb\"}", "api_key");
    refuse(OBJECT_PROVIDER, "p",
           "{\"format\":\"openai\",\"base_url\":\"https://x\",\"headers\":{\"a b\":\"c\"}}",
           "headers");
    refuse(OBJECT_PROVIDER, "p",
           "{\"format\":\"openai\",\"base_url\":\"https://x\",\"api-key\":\"a\"}", "api-key");
    refuse(OBJECT_PROVIDER, "p/q", "{\"format\":\"openai\",\"base_url\":\"https://x\"}", "name");
    refuse(OBJECT_PROVIDER, "prompt", "{\"format\":\"openai\",\"base_url\":\"https://x\"}", "name");
    unsetenv("CAPSTAN_TEST_UNSET");
    assert_int_equal(define(DEFINE_CREATE, OBJECT_PROVIDER, "p",
                            "{\"format\":\"openai\",\"base_url\":\"https://"
                            "x\",\"api_key\":\"${env:CAPSTAN_TEST_UNSET}\"}",
                            &err),
                     RC_INVALID);
    assert_non_null(strstr(err.message, "CAPSTAN_TEST_UNSET"));
    expect_ok(define(DEFINE_CREATE, OBJECT_PROVIDER, "p",
                     "{\"format\":\"openai\",\"base_url\":\"https://x\"}", &err),
              &err);
    refuse(OBJECT_ROUTE, "r", "{}", "targets");
    refuse(OBJECT_ROUTE, "r", "{\"targets\":[]}", "targets");
    refuse(
        OBJECT_ROUTE, "r",
        "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"},{\"provider\":\"q\",\"model\":\"m\"}]}",
        "targets[1].provider");
    refuse(OBJECT_ROUTE, "r", "{\"targets\":[{\"provider\":\"p\"}]}", "targets[0].model");
    refuse(OBJECT_ROUTE, "r",
           "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\",\"when\":\"a ==\"}]}",
           "targets[0].when");
    refuse(OBJECT_ROUTE, "r",
           "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"}],\"timeout\":{\"total\":\"soon\"}}",
           "timeout.total");
    refuse(OBJECT_ROUTE, "r", "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"}],\"retry\":11}",
           "retry");
    refuse(OBJECT_ROUTE, "r",
           "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"}],\"checks\":[{\"name\":\"x\","
           "\"kind\":\"regex\",\"pattern\":\"(\"}]}",
           "checks[0].pattern");
    refuse(OBJECT_ROUTE, "prompt/x", "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"}]}",
           "name");
    refuse(OBJECT_LIMIT, "tag:x", "{}", "value");
    refuse(OBJECT_LIMIT, "user:x", "{\"budget\":{\"day\":-1}}", "budget.day");
    refuse(OBJECT_SETTING, "project", "{\"capture\":\"some\"}", "capture");
}

static void test_keys(void **state)
{
    struct err err = {0};
    struct key_step step = {.json = "{\"name\":\"app\",\"scopes\":[\"call\"],\"models\":[\"gpt-*\"]"
                                    ",\"tags\":{\"team\":\"red\"},"
                                    "\"limits\":{\"requests_per_minute\":600},\"budget\":{\"day_"
                                    "usd\":\"5.00\",\"month\":0.1}}"};

    UNUSED(state);
    expect_ok(govern_write(key_run, &step, &err), &err);
    assert_true(str_find(step.out.spec, step.secret) < 0);
    struct key *key = snapshot_find_key(snapshot_current(), step.secret);
    assert_non_null(key);
    assert_int_equal(key->principal.permissions, PERMISSION_BIT(CALL_MAKE));
    assert_int_equal(key->limits.requests_per_minute, 600);
    assert_true(key->limits.budget_day_pico == 5 * PICO_PER_DOLLAR);
    assert_true(key->limits.budget_month_pico == PICO_PER_DOLLAR / 10);
    assert_true(key_allows_model(key, STR("gpt-5")));
    assert_false(key_allows_model(key, STR("claude")));
    assert_true(str_eq(key->tags[0].value, STR("red")));

    /* An empty list of models means none, no list means all. */
    struct key_step update = {.id = step.id, .json = "{\"models\":[]}"};
    expect_ok(govern_write(key_run, &update, &err), &err);
    assert_false(
        key_allows_model(snapshot_find_key(snapshot_current(), step.secret), STR("gpt-5")));
    update.json = "{\"models\":null,\"limits\":null}";
    expect_ok(govern_write(key_run, &update, &err), &err);
    assert_true(key_allows_model(snapshot_find_key(snapshot_current(), step.secret), STR("gpt-5")));

    int64_t began_ns = clock_monotonic_ns();
    struct key_step revoke = {.id = step.id, .revoke = true};
    expect_ok(govern_write(key_run, &revoke, &err), &err);
    assert_true(snapshot_find_key(snapshot_current(), step.secret)->revoked);
    assert_true(clock_monotonic_ns() - began_ns < NS_PER_S);
    assert_null(snapshot_find_key(snapshot_current(), STR("cap_unknown")));
}

static void test_nobody_makes_a_stronger_key(void **state)
{
    struct err err = {0};
    struct principal editor = g.owner;
    struct key_step admin = {.json = "{\"name\":\"admin\",\"scopes\":[\"admin\"]}"};

    UNUSED(state);
    editor.role = ROLE_EDITOR;
    editor.permissions = role_permissions(ROLE_EDITOR);
    expect_ok(govern_write(key_run, &admin, &err), &err);
    admin.principal = &editor;
    struct key_step made = {.principal = &editor,
                            .json = "{\"name\":\"x\",\"scopes\":[\"call\",\"admin\"]}"};
    assert_int_equal(govern_write(key_run, &made, &err), RC_DENIED);
    struct key_step changed = {.principal = &editor, .id = admin.id, .json = "{\"name\":\"mine\"}"};
    assert_int_equal(govern_write(key_run, &changed, &err), RC_DENIED);
    struct key_step smuggled = {.json = "{\"name\":\"x\",\"secret_sha256\":\"00\"}"};
    assert_int_equal(govern_write(key_run, &smuggled, &err), RC_INVALID);
}

static void test_editors_reach_public_places_only(void **state)
{
    struct err err = {0};
    struct principal editor = g.owner;
    struct define_step step = {.principal = &editor, .kind = OBJECT_PROVIDER, .name = "p"};

    UNUSED(state);
    editor.role = ROLE_EDITOR;
    editor.permissions = role_permissions(ROLE_EDITOR);
    step.json =
        "{\"format\":\"openai\",\"base_url\":\"http://x\",\"api_key\":\"${file:/etc/passwd}\"}";
    assert_int_equal(govern_write(define_run, &step, &err), RC_DENIED);
    step.json = "{\"format\":\"openai\",\"base_url\":\"http://x\",\"command\":[\"/bin/sh\"]}";
    assert_int_equal(govern_write(define_run, &step, &err), RC_DENIED);
    step.json = "{\"format\":\"openai\",\"base_url\":\"unix:/run/docker.sock\"}";
    assert_int_equal(govern_write(define_run, &step, &err), RC_DENIED);
    step.json = "{\"format\":\"openai\",\"base_url\":\"http://x\",\"public_only\":false}";
    expect_ok(govern_write(define_run, &step, &err), &err);
    const struct provider *provider = map_get(&project()->providers, STR("p"));
    assert_true(provider->public_only);
}

static void test_limits_prices_settings(void **state)
{
    struct err err = {0};

    UNUSED(state);
    expect_ok(
        define(DEFINE_PUT, OBJECT_LIMIT, "tag:team=red", "{\"limits\":{\"parallel\":2}}", &err),
        &err);
    expect_ok(
        define(DEFINE_PUT, OBJECT_LIMIT, "project", "{\"budget\":{\"month_usd\":\"100\"}}", &err),
        &err);
    expect_ok(define(DEFINE_PUT, OBJECT_PRICE, "openai/org/model",
                     "{\"input_tokens\":\"2.50\",\"output_tokens\":10}", &err),
              &err);
    expect_ok(define(DEFINE_CREATE, OBJECT_SETTING, "project", "{\"capture\":\"none\"}", &err),
              &err);
    const struct limits *tag = map_get(&project()->limits, STR("tag:team=red"));
    assert_int_equal(tag->parallel, 2);
    assert_true(tag->budget_day_pico == COST_UNKNOWN);
    assert_non_null(map_get(&project()->limits, STR("project")));
    assert_non_null(price_table_find(project()->price_overrides, STR("openai"), STR("org/model")));
    assert_int_equal(project()->capture, CAPTURE_NONE);
}

/* ---- mended snapshots ---- */

static struct snapshot *rebuilt;

static enum rc rebuild(struct db_txn *txn, void *arg, struct err *err)
{
    UNUSED(arg);
    return control_build_snapshot(txn, &rebuilt, err);
}

/* The current one holds the same as one built anew. */
static void expect_as_rebuilt(bool mended)
{
    struct err err = {0};
    const struct snapshot *now = snapshot_current();

    assert_int_equal(now->mended > 0, mended);
    expect_ok(govern_write(rebuild, NULL, &err), &err);
    const struct project *a = project(), *b = snapshot_project(rebuilt, g.owner.project);
    assert_int_equal(now->keys.count, rebuilt->keys.count);
    assert_int_equal(a->routes.count, b->routes.count);
    assert_int_equal(a->limits.count, b->limits.count);
    MAP_FOR_EACH (slot, &b->routes)
        assert_true(((struct route *)map_get(&a->routes, slot->key))->hash ==
                    ((struct route *)slot->value)->hash);
    MAP_FOR_EACH (slot, &rebuilt->keys) {
        const struct key *key = map_get(&now->keys, slot->key), *other = slot->value;
        assert_true(id_eq(key->id, other->id) && key->revoked == other->revoked);
    }
    snapshot_unref(rebuilt);
}

static void test_mending(void **state)
{
    struct err err = {0};
    struct key_step key = {.json = "{\"name\":\"k\",\"scopes\":[\"call\"]}"};

    UNUSED(state);
    expect_ok(define(DEFINE_CREATE, OBJECT_PROVIDER, "p",
                     "{\"format\":\"openai\",\"base_url\":\"https://x\"}", &err),
              &err);
    expect_as_rebuilt(false);
    struct snapshot *old = snapshot_ref(snapshot_current());
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        expect_ok(define(DEFINE_CREATE, OBJECT_ROUTE, name,
                         "{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"}]}", &err),
                  &err);
        expect_as_rebuilt(true);
    }
    expect_ok(define(DEFINE_PATCH, OBJECT_ROUTE, "r1", "{\"retry\":2}", &err), &err);
    expect_as_rebuilt(true);
    const struct route *route = map_get(&project()->routes, STR("r1"));
    assert_int_equal(route->retry, 2);
    assert_string_equal(route->targets[0].provider->name.p, "p");
    expect_ok(define(DEFINE_DELETE, OBJECT_ROUTE, "r0", NULL, &err), &err);
    assert_null(map_get(&project()->routes, STR("r0")));
    expect_ok(define(DEFINE_PUT, OBJECT_LIMIT, "tag:a=b", "{\"limits\":{\"parallel\":2}}", &err),
              &err);
    expect_as_rebuilt(true);
    expect_ok(govern_write(key_run, &key, &err), &err);
    assert_false(snapshot_find_key(snapshot_current(), key.secret)->revoked);
    key.revoke = true;
    expect_ok(govern_write(key_run, &key, &err), &err);
    assert_true(snapshot_find_key(snapshot_current(), key.secret)->revoked);
    expect_as_rebuilt(true);
    assert_int_equal(snapshot_project(old, g.owner.project)->routes.count, 0);
    expect_ok(define(DEFINE_PATCH, OBJECT_PROVIDER, "p", "{\"base_url\":\"https://y\"}", &err),
              &err);
    expect_as_rebuilt(false);
    route = map_get(&project()->routes, STR("r1"));
    assert_string_equal(route->targets[0].provider->base_url.p, "https://y");
    snapshot_unref(old);
}

/* ---- a file that is loaded again ---- */

struct load_step {
    const char *json;
    struct applied applied;
    size_t changes, in_force;
};

static enum rc load_run(struct db_txn *txn, void *arg, struct err *err)
{
    struct load_step *step = arg;
    const struct actor actor = {.type = "file", .name = STR("capstan.yaml")};
    struct manifest manifest;
    struct manifest_change *changes;
    struct arena *arena = &g.control.arena;
    enum rc rc = manifest_read(fixture_json(&g.control, step->json), arena, &manifest, err);

    if (rc != RC_OK)
        return rc;
    step->in_force = applied_mark(&step->applied, STR("default"), &manifest, arena);
    const struct manifest_options options = {.from_file = true, .prune = true};
    rc = manifest_check(&manifest, arena, err);
    if (rc != RC_OK)
        return rc;
    rc = manifest_apply(txn, NULL, &actor, g.owner.project, &manifest, &options, arena, &changes,
                        &step->changes, err);
    if (rc == RC_OK) {
        applied_fini(&step->applied);
        applied_add(&step->applied, &manifest);
        applied_sort(&step->applied);
    }
    return rc;
}

#define P(url)    "\"providers\":{\"p\":{\"format\":\"openai\",\"base_url\":\"" url "\"}},"
#define R(name)   "\"" name "\":{\"targets\":[{\"provider\":\"p\",\"model\":\"m\"}]}"
#define K(secret) "\"keys\":[{\"name\":\"k\",\"key\":\"" secret "\"}]"

static void expect_load(struct load_step *step, const char *json, size_t in_force, size_t changes)
{
    struct err err = {0};

    step->json = json;
    expect_ok(govern_write(load_run, step, &err), &err);
    assert_int_equal(step->in_force, in_force);
    assert_int_equal(step->changes, changes);
}

static void test_loading_again(void **state)
{
    struct load_step step = {0};
    struct err err = {0};

    UNUSED(state);
    setenv("CAPSTAN_TEST_SECRET", "cap_of_the_environment", 1);
    expect_load(&step, "{" P("http://x") "\"routes\":{" R("a") "}," K("cap_000000000000001") "}", 0,
                3);
    expect_load(&step, "{" P("http://x") "\"routes\":{" R("a") "}," K("cap_000000000000001") "}", 3,
                0);
    expect_load(
        &step, "{" P("http://x") "\"routes\":{" R("a") "," R("b") "}," K("cap_000000000000001") "}",
        3, 1);
    expect_load(&step, "{" P("http://x") "\"routes\":{" R("b") "}," K("cap_000000000000002") "}", 2,
                2);
    assert_null(snapshot_find_key(snapshot_current(), STR("cap_000000000000001")));
    assert_non_null(snapshot_find_key(snapshot_current(), STR("cap_000000000000002")));
    assert_null(map_get(&project()->routes, STR("a")));
    /* Another provider: routes are looked at again. */
    expect_load(&step, "{" P("http://y") "\"routes\":{" R("b") "}," K("cap_000000000000002") "}", 1,
                1);
    step.json = "{\"routes\":{" R("b") "}," K("cap_000000000000002") "}";
    assert_int_not_equal(govern_write(load_run, &step, &err), RC_OK);
    expect_load(&step,
                "{" P("http://y") "\"routes\":{" R("b") "}," K("${env:CAPSTAN_TEST_SECRET}") "}", 2,
                1);
    setenv("CAPSTAN_TEST_SECRET", "cap_another_environment", 1);
    expect_load(&step,
                "{" P("http://y") "\"routes\":{" R("b") "}," K("${env:CAPSTAN_TEST_SECRET}") "}", 2,
                1);
    assert_non_null(snapshot_find_key(snapshot_current(), STR("cap_another_environment")));
    applied_fini(&step.applied);
}

/* 5,000 routes and 10,000 keys: at most 50 ms and 20 MB. Sanitizers and busy machines get more
 * time. */
static enum rc fill(struct db_txn *txn, void *arg, struct err *err)
{
    struct actor actor = principal_actor(&g.owner, STR("::1"));
    struct arena arena;
    struct object out;
    struct str secret;
    char name[64], json[512];
    yyjson_doc *doc;
    enum rc rc = RC_OK;

    UNUSED(arg);
    arena_init(&arena, 16 * 1024 * 1024);
    for (int i = 0; rc == RC_OK && i < 15000; i++) {
        bool route = i < 5000;
        snprintf(name, sizeof name, "route-%d", i);
        snprintf(json, sizeof json,
                 route ? "{\"targets\":[{\"provider\":\"p\",\"model\":\"model-%d\",\"weight\":3},{"
                         "\"provider\":\"p\",\"model\":\"other\"}],"
                         "\"retry\":2,\"timeout\":{\"first_token\":\"20s\",\"total\":\"5m\"}}"
                       : "{\"name\":\"key-%d\",\"scopes\":[\"call\"],\"models\":[\"route-*\"],"
                         "\"limits\":{\"requests_per_minute\":600,"
                         "\"tokens_per_minute\":200000,\"parallel\":20},\"budget\":{\"day\":5.0},"
                         "\"tags\":{\"team\":\"red\"}}",
                 i);
        rc = json_read(str_from(json), &arena, &doc, err);
        if (rc == RC_OK && route) {
            struct object_change change = {.project = g.owner.project,
                                           .kind = OBJECT_ROUTE,
                                           .name = str_from(name),
                                           .spec = yyjson_doc_get_root(doc)};
            rc = object_put(txn, &actor, &change, &arena, &out, err);
        } else if (rc == RC_OK) {
            rc = key_create(txn, &g.owner, &actor, yyjson_doc_get_root(doc), &arena, &secret, &out,
                            err);
        }
        arena_reset(&arena);
    }
    arena_fini(&arena);
    return rc;
}

static enum rc build_timed(struct db_txn *txn, void *arg, struct err *err)
{
    struct snapshot *snapshot;
    int64_t *best_ns = arg;

    for (int i = 0; i < 5; i++) {
        struct mallinfo2 before = mallinfo2();
        int64_t began_ns = clock_thread_cpu_ns();
        enum rc rc = control_build_snapshot(txn, &snapshot, err);
        if (rc != RC_OK)
            return rc;
        *best_ns = MIN(*best_ns, clock_thread_cpu_ns() - began_ns);
        struct mallinfo2 after = mallinfo2();
        if (i == 0)
            print_message("5000 routes, 10000 keys: arena %zu kB, heap %zd kB\n",
                          snapshot->arena.used_bytes / 1024,
                          ((ssize_t)after.uordblks - (ssize_t)before.uordblks) / 1024);
        assert_true(snapshot->arena.used_bytes < 20 * 1024 * 1024);
        began_ns = clock_monotonic_ns();
        snapshot_unref(snapshot);
        if (i == 4)
            print_message("freed in %.2f ms\n",
                          (double)(clock_monotonic_ns() - began_ns) / NS_PER_MS);
    }
    return RC_OK;
}

static void test_size_and_speed(void **state)
{
    struct err err = {0};
    int64_t best_ns = INT64_MAX;

    UNUSED(state);
    expect_ok(define(DEFINE_CREATE, OBJECT_PROVIDER, "p",
                     "{\"format\":\"openai\",\"base_url\":\"https://x\"}", &err),
              &err);
    expect_ok(govern_write(fill, NULL, &err), &err);
    assert_int_equal(project()->routes.count, 5000);
    assert_int_equal(snapshot_current()->keys.count, 10001);
    expect_ok(govern_write(build_timed, &best_ns, &err), &err);
    print_message("built in %.1f ms of CPU\n", (double)best_ns / NS_PER_MS);
    assert_true(best_ns < 1000 * NS_PER_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_start, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_provider_and_route, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_refusals, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_keys, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_nobody_makes_a_stronger_key, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_editors_reach_public_places_only, govern_start,
                                        govern_end),
        cmocka_unit_test_setup_teardown(test_limits_prices_settings, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_mending, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_loading_again, govern_start, govern_end),
        cmocka_unit_test_setup_teardown(test_size_and_speed, govern_start, govern_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
