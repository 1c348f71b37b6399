/* Configuration objects: versions, secrets, labels, audit, ownership, projects. */
#include "control_fixture.h"

static struct control_fixture f;
static const struct actor ana = {
    .type = "user", .name = STR_INIT("ana@example.org"), .client_ip = STR_INIT("::1")};

static int start(void **state)
{
    UNUSED(state);
    fixture_start(&f);
    return 0;
}

static int end(void **state)
{
    UNUSED(state);
    fixture_end(&f);
    return 0;
}

/* Runs one step in a transaction of its own. */
struct step {
    enum rc (*run)(struct step *step, struct db_txn *txn, struct err *err);
    struct object_change change;
    struct object object;
    int64_t version;
    struct str name, label;
    const struct label_target *targets;
    size_t target_count;
    bool allowed;
    struct err err;
};

static enum rc step_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct step *step = arg;

    return step->run(step, txn, err);
}

static enum rc run(struct step *step)
{
    step->err = (struct err){0};
    return db_write_wait(f.db, step_write, step, &step->err);
}

static enum rc do_put(struct step *step, struct db_txn *txn, struct err *err)
{
    return object_put(txn, &ana, &step->change, &f.arena, &step->object, err);
}

static enum rc put(struct step *step, const char *name, const char *json)
{
    step->run = do_put;
    if (!step->change.project.bytes[0])
        step->change.project = f.project;
    step->change.name = str_from(name);
    step->change.spec = fixture_json(&f, json);
    return run(step);
}

static struct str shown(const struct object *object)
{
    yyjson_val *json;

    assert_int_equal(object_show(object, &f.arena, &json, NULL), RC_OK);
    return json_write(json, &f.arena);
}

static struct str revealed(const struct object *object)
{
    yyjson_val *json;
    struct err err = {0};

    if (object_reveal(f.box, object, &f.arena, &json, &err) != RC_OK)
        fail_msg("%s", err.message);
    return json_write(json, &f.arena);
}

#define assert_text(actual, expected)                                                              \
    do {                                                                                           \
        struct str text_ = (actual);                                                               \
        if (!str_eq(text_, str_from(expected)))                                                    \
            fail_msg("got %.*s, expected %s", STR_ARG(text_), (expected));                         \
    } while (0)

static void test_versions(void **state)
{
    struct step step = {.change.kind = OBJECT_ROUTE};
    struct db_txn *txn;
    struct object *list;
    size_t count;

    UNUSED(state);
    assert_int_equal(put(&step, "smart", "{\"b\":1,\"a\":[{\"z\":1,\"y\":2}]}"), RC_OK);
    assert_int_equal(step.object.version, 1);
    assert_text(step.object.spec, "{\"a\":[{\"y\":2,\"z\":1}],\"b\":1}");
    /* The same in another order is no change. */
    assert_int_equal(put(&step, "smart", "{\"a\":[{\"y\":2,\"z\":1}],\"b\":1}"), RC_OK);
    assert_int_equal(step.object.version, 1);
    assert_int_equal(put(&step, "smart", "{\"b\":2}"), RC_OK);
    assert_int_equal(step.object.version, 2);
    step.change.version_expected = 1;
    assert_int_equal(put(&step, "smart", "{\"b\":3}"), RC_CONFLICT);
    step.change.version_expected = 0;
    step.change.create_only = true;
    assert_int_equal(put(&step, "smart", "{\"b\":3}"), RC_CONFLICT);

    assert_int_equal(db_read_begin(f.db, &txn, NULL), RC_OK);
    assert_int_equal(object_versions(txn, f.project, OBJECT_ROUTE, STR("smart"), 0, 10, &f.arena,
                                     &list, &count, NULL),
                     RC_OK);
    assert_int_equal(count, 2);
    assert_int_equal(list[0].version, 2);
    yyjson_val *diff;
    assert_int_equal(object_diff(&list[1], &list[0], &f.arena, &diff, NULL), RC_OK);
    assert_text(json_write(diff, &f.arena),
                "[{\"path\":\"a\",\"before\":[{\"y\":2,\"z\":1}],\"after\":null},"
                "{\"path\":\"b\",\"before\":1,\"after\":2}]");
    db_read_end(txn);
}

static enum rc do_restore(struct step *step, struct db_txn *txn, struct err *err)
{
    return object_restore(txn, &ana, f.project, step->change.kind, step->name, step->version,
                          STR("back"), &f.arena, &step->object, err);
}

static enum rc do_delete(struct step *step, struct db_txn *txn, struct err *err)
{
    return object_delete(txn, &ana, step->change.project, step->change.kind, step->name,
                         step->allowed, &f.arena, err);
}

static void test_secrets(void **state)
{
    struct step step = {.change.kind = OBJECT_PROVIDER};

    UNUSED(state);
    /* A name given twice must not leave the second secret unsealed. */
    assert_int_equal(
        put(&step, "twice",
            "{\"api_key\":\"sk-0123456789abcdefWXYZ\",\"api_key\":\"sk-second-secret-0123\"}"),
        RC_OK);
    assert_true(str_find(step.object.spec, STR("second")) < 0);
    assert_text(revealed(&step.object), "{\"api_key\":\"sk-0123456789abcdefWXYZ\"}");
    assert_int_equal(
        put(&step, "p",
            "{\"api_key\":\"sk-0123456789abcdefWXYZ\",\"api_keys\":[\"short\",\"${env:HOME}\"],"
            "\"headers\":{\"x-api-key\":\"hush\",\"x-team\":\"red\"}}"),
        RC_OK);
    assert_true(str_find(step.object.spec, STR("sk-0123")) < 0);
    assert_true(str_find(step.object.spec, STR("short")) < 0);
    assert_true(str_find(step.object.spec, STR("hush")) < 0);
    assert_text(shown(&step.object),
                "{\"api_key\":\"\u2026WXYZ\",\"api_keys\":[\"\u2026\",\"${env:HOME}\"],"
                "\"headers\":{\"x-api-key\":\"\u2026\",\"x-team\":\"red\"}}");
    setenv("HOME", "/root", 1);
    assert_text(revealed(&step.object),
                "{\"api_key\":\"sk-0123456789abcdefWXYZ\",\"api_keys\":[\"short\",\"/root\"],"
                "\"headers\":{\"x-api-key\":\"hush\",\"x-team\":\"red\"}}");
    /* What was shown, or the same secret again, is no change. */
    assert_int_equal(put(&step, "p",
                         "{\"api_key\":\"\u2026WXYZ\",\"api_keys\":[\"\u2026\",\"${env:HOME}\"],"
                         "\"headers\":{\"x-api-key\":\"hush\",\"x-team\":\"red\"}}"),
                     RC_OK);
    assert_int_equal(step.object.version, 1);
    assert_int_equal(put(&step, "p", "{\"api_key\":\"sk-another-0123456789\"}"), RC_OK);
    assert_text(revealed(&step.object), "{\"api_key\":\"sk-another-0123456789\"}");
    /* A shortened secret of nothing cannot be stored; nor can another object's sealed one. */
    assert_int_equal(put(&step, "p", "{\"api_key\":\"\u2026WXYZ\"}"), RC_INVALID);
    char stolen[512];
    snprintf(stolen, sizeof stolen, "%.*s", STR_ARG(step.object.spec));
    assert_int_equal(put(&step, "q", stolen), RC_CORRUPT);

    step = (struct step){
        .change.kind = OBJECT_PROVIDER, .run = do_restore, .name = STR("p"), .version = 1};
    assert_int_equal(run(&step), RC_OK);
    assert_int_equal(step.object.version, 3);
    assert_true(
        str_starts(revealed(&step.object), STR("{\"api_key\":\"sk-0123456789abcdefWXYZ\"")));
}

static void test_file_owns_its_objects(void **state)
{
    struct step step = {.change = {.kind = OBJECT_ROUTE, .from_file = true}};

    UNUSED(state);
    assert_int_equal(put(&step, "r", "{\"a\":1}"), RC_OK);
    step.change.from_file = false;
    assert_int_equal(put(&step, "r", "{\"a\":2}"), RC_DENIED);
    assert_int_equal(step.err.code, ERR_FILE_OWNED);
    struct step delete = {
        .change = {.kind = OBJECT_ROUTE, .project = f.project}, .run = do_delete, .name = STR("r")};
    assert_int_equal(run(&delete), RC_DENIED);
    delete.allowed = true;
    assert_int_equal(run(&delete), RC_OK);
    assert_int_equal(put(&step, "r", "{\"a\":2}"), RC_OK);
    assert_int_equal(step.object.version, 2); /* versions of the deleted one stay apart */
    step.change.from_file = true;
    assert_int_equal(put(&step, "r", "{\"a\":1}"), RC_CONFLICT);
    assert_non_null(strstr(step.err.message, "'r'"));
}

static void test_projects_are_apart(void **state)
{
    struct step step = {.change.kind = OBJECT_ROUTE};
    struct object_page page;
    struct object object;
    struct db_txn *txn;

    UNUSED(state);
    assert_int_equal(put(&step, "r", "{\"a\":1}"), RC_OK);
    struct step delete = {
        .change = {.kind = OBJECT_ROUTE, .project = f.other}, .run = do_delete, .name = STR("r")};
    assert_int_equal(run(&delete), RC_NOT_FOUND);
    assert_int_equal(db_read_begin(f.db, &txn, NULL), RC_OK);
    assert_int_equal(object_get(txn, f.other, OBJECT_ROUTE, STR("r"), &f.arena, &object, NULL),
                     RC_NOT_FOUND);
    assert_int_equal(
        object_list(txn, f.other, OBJECT_ROUTE, STR_EMPTY, STR_EMPTY, 10, &f.arena, &page, NULL),
        RC_OK);
    assert_int_equal(page.count, 0);
    assert_int_equal(
        object_list(txn, f.project, OBJECT_ROUTE, STR_EMPTY, STR_EMPTY, 10, &f.arena, &page, NULL),
        RC_OK);
    assert_int_equal(page.count, 1);
    db_read_end(txn);
}

static void test_pages(void **state)
{
    struct step step = {.change.kind = OBJECT_ROUTE};
    struct object_page page;
    struct db_txn *txn;
    char name[16];

    UNUSED(state);
    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof name, "route-%d", i);
        assert_int_equal(put(&step, name, "{}"), RC_OK);
    }
    assert_int_equal(db_read_begin(f.db, &txn, NULL), RC_OK);
    assert_int_equal(
        object_list(txn, f.project, OBJECT_ROUTE, STR_EMPTY, STR_EMPTY, 4, &f.arena, &page, NULL),
        RC_OK);
    assert_int_equal(page.count, 4);
    assert_text(page.next, "route-3");
    assert_int_equal(
        object_list(txn, f.project, OBJECT_ROUTE, page.next, STR_EMPTY, 4, &f.arena, &page, NULL),
        RC_OK);
    assert_int_equal(page.count, 3);
    assert_int_equal(page.next.n, 0);
    assert_int_equal(
        object_list(txn, f.project, OBJECT_ROUTE, STR_EMPTY, STR("E-5"), 4, &f.arena, &page, NULL),
        RC_OK);
    assert_int_equal(page.count, 1);
    db_read_end(txn);
}

static enum rc do_label(struct step *step, struct db_txn *txn, struct err *err)
{
    return object_label_set(txn, &ana, f.project, OBJECT_PROMPT, step->name, step->label,
                            step->targets, step->target_count, step->allowed, err);
}

static enum rc do_protect(struct step *step, struct db_txn *txn, struct err *err)
{
    return object_label_protect(txn, &ana, f.project, OBJECT_PROMPT, step->label, true, err);
}

static void test_labels(void **state)
{
    struct step step = {.change.kind = OBJECT_PROMPT};
    struct label_target split[] = {{1, 90}, {2, 10}}, wrong = {9, 1};
    struct db_txn *txn;
    int64_t version, hits = 0;

    UNUSED(state);
    assert_int_equal(put(&step, "greet", "{\"text\":\"hello\"}"), RC_OK);
    assert_int_equal(put(&step, "greet", "{\"text\":\"good day\"}"), RC_OK);
    struct step label = {.run = do_label,
                         .name = STR("greet"),
                         .label = STR("production"),
                         .targets = split,
                         .target_count = 2};
    assert_int_equal(run(&label), RC_OK);
    label.targets = &wrong;
    label.target_count = 1;
    assert_int_equal(run(&label), RC_NOT_FOUND);

    assert_int_equal(db_read_begin(f.db, &txn, NULL), RC_OK);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(object_label_resolve(txn, f.project, OBJECT_PROMPT, STR("greet"),
                                              STR("production"), i * (UINT64_MAX / 1000), &version,
                                              NULL),
                         RC_OK);
        hits += version == 2;
    }
    assert_in_range(hits, 99, 101);
    assert_int_equal(object_label_resolve(txn, f.project, OBJECT_PROMPT, STR("greet"), STR("beta"),
                                          0, &version, NULL),
                     RC_NOT_FOUND);
    db_read_end(txn);

    struct step protect = {.run = do_protect, .label = STR("production")};
    assert_int_equal(run(&protect), RC_OK);
    label.targets = split;
    assert_int_equal(run(&label), RC_DENIED);
    label.allowed = true;
    assert_int_equal(run(&label), RC_OK);
}

static enum rc tamper(void *arg, struct db_txn *txn, struct err *err)
{
    return sql_exec(txn, "UPDATE audit SET after_json = '{}' WHERE seq = 2", SQL_NO_BINDS, err);
}

static void test_audit(void **state)
{
    struct step step = {.change.kind = OBJECT_PROVIDER};
    struct audit_entry *entries;
    struct db_txn *txn;
    size_t count;
    int64_t next, seq;

    UNUSED(state);
    assert_int_equal(put(&step, "p", "{\"api_key\":\"sk-0123456789abcdefWXYZ\"}"), RC_OK);
    assert_int_equal(put(&step, "p", "{\"api_key\":\"${env:KEY}\"}"), RC_OK);
    struct step delete = {.change = {.kind = OBJECT_PROVIDER, .project = f.project},
                          .run = do_delete,
                          .name = STR("p")};
    assert_int_equal(run(&delete), RC_OK);

    assert_int_equal(db_read_begin(f.db, &txn, NULL), RC_OK);
    struct audit_filter filter = {.limit = 2};
    assert_int_equal(audit_list(txn, f.project, &filter, &f.arena, &entries, &count, &next, NULL),
                     RC_OK);
    assert_int_equal(count, 2);
    assert_int_equal(next, 2);
    assert_text(entries[0].action, "delete");
    assert_text(entries[1].action, "update");
    assert_text(entries[1].before, "{\"api_key\":\"\u2026WXYZ\"}");
    assert_text(entries[1].actor_name, "ana@example.org");
    filter.before_seq = next;
    assert_int_equal(audit_list(txn, f.project, &filter, &f.arena, &entries, &count, &next, NULL),
                     RC_OK);
    assert_int_equal(count, 1);
    assert_int_equal(next, 0);
    assert_int_equal(audit_list(txn, f.other, &filter, &f.arena, &entries, &count, &next, NULL),
                     RC_OK);
    assert_int_equal(count, 0);
    assert_int_equal(audit_verify(txn, &seq, NULL), RC_OK);
    db_read_end(txn);

    assert_int_equal(db_write_wait(f.db, tamper, NULL, NULL), RC_OK);
    assert_int_equal(db_read_begin(f.db, &txn, NULL), RC_OK);
    assert_int_equal(audit_verify(txn, &seq, NULL), RC_CORRUPT);
    assert_int_equal(seq, 2);
    db_read_end(txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, start, end),
        cmocka_unit_test_setup_teardown(test_secrets, start, end),
        cmocka_unit_test_setup_teardown(test_file_owns_its_objects, start, end),
        cmocka_unit_test_setup_teardown(test_projects_are_apart, start, end),
        cmocka_unit_test_setup_teardown(test_pages, start, end),
        cmocka_unit_test_setup_teardown(test_labels, start, end),
        cmocka_unit_test_setup_teardown(test_audit, start, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
