/* The control database's writer, readers, schema, backup. */
#include "control_fixture.h"
#include "base/clock.h"
#include "store/migrations.h"
#include <pthread.h>
#include <sys/stat.h>

static struct control_fixture fixture;

static int start(void **state)
{
    UNUSED(state);
    fixture_start(&fixture);
    return 0;
}

static int end(void **state)
{
    UNUSED(state);
    fixture_end(&fixture);
    return 0;
}

static int64_t count_projects(void)
{
    struct db_txn *txn;
    int64_t count = -1;

    assert_int_equal(db_read_begin(fixture.db, &txn, NULL), RC_OK);
    assert_int_equal(
        sql_get_i64(txn, "SELECT COUNT(*) FROM projects", SQL_NO_BINDS, -1, &count, NULL), RC_OK);
    db_read_end(txn);
    return count;
}

static enum rc add_project(void *arg, struct db_txn *txn, struct err *err)
{
    struct id id = id_new();

    return sql_exec(txn, "INSERT INTO projects(id, name, created_ns) VALUES (?1, ?2, 0)",
                    SQL_BIND(sql_id(&id), sql_z(arg)), err);
}

static enum rc add_then_fail(void *arg, struct db_txn *txn, struct err *err)
{
    enum rc rc = add_project(arg, txn, err);

    return rc == RC_OK ? err_set(err, ERR_BAD_FIELD, "no") : rc;
}

static void test_write_and_undo(void **state)
{
    struct err err = {0};

    UNUSED(state);
    assert_int_equal(db_write_wait(fixture.db, add_project, "one", &err), RC_OK);
    assert_int_equal(db_write_wait(fixture.db, add_then_fail, "two", &err), RC_INVALID);
    assert_int_equal(err.code, ERR_BAD_FIELD);
    assert_int_equal(db_write_wait(fixture.db, add_project, "one", &err), RC_CONFLICT);
    assert_int_equal(count_projects(), 3);
}

static void test_survives_reopening(void **state)
{
    struct err err = {0};
    struct db *second;
    struct db_options options = {.path = fixture.path};
    struct stat st;

    UNUSED(state);
    assert_int_equal(db_write_wait(fixture.db, add_project, "kept", &err), RC_OK);
    assert_int_equal(db_open(&options, &second, &err), RC_CONFLICT); /* the lock */
    db_close(fixture.db);
    fixture_open(&fixture);
    assert_int_equal(count_projects(), 3);
    assert_int_equal(stat(fixture.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static enum rc set_schema(void *arg, struct db_txn *txn, struct err *err)
{
    return sql_exec(txn, "UPDATE meta SET value = ?1 WHERE name = 'schema'", SQL_BIND(sql_z(arg)),
                    err);
}

static void test_newer_schema_is_refused(void **state)
{
    struct err err = {0};
    struct db *db;
    struct db_options options = {.path = fixture.path};

    UNUSED(state);
    assert_int_equal(db_write_wait(fixture.db, set_schema, "99", &err), RC_OK);
    db_close(fixture.db);
    assert_int_equal(db_open(&options, &db, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "schema 99"));
    assert_non_null(strstr(err.message, "newer"));
    /* So that the fixture can end. */
    struct db_txn *raw;
    assert_int_equal(sqlite_open(fixture.path, true, &raw, &err), RC_OK);
    char back[80];
    snprintf(back, sizeof back, "UPDATE meta SET value = '%lld' WHERE name = 'schema'",
             (long long)migrations_version());
    assert_int_equal(sqlite_run(raw, back, &err), RC_OK);
    sqlite_close(raw);
    fixture_open(&fixture);
}

static void test_backup_is_whole(void **state)
{
    struct err err = {0};
    char path[128];
    struct db_txn *copy;
    int64_t count;

    UNUSED(state);
    assert_int_equal(db_write_wait(fixture.db, add_project, "saved", &err), RC_OK);
    snprintf(path, sizeof path, "%s/backup.db", fixture.folder);
    assert_int_equal(db_backup(fixture.db, path, &err), RC_OK);
    assert_int_equal(sqlite_open(path, true, &copy, &err), RC_OK);
    assert_int_equal(
        sql_get_i64(copy, "SELECT COUNT(*) FROM projects", SQL_NO_BINDS, 0, &count, &err), RC_OK);
    assert_int_equal(count, 3);
    sqlite_close(copy);
}

static void *write_many(void *arg)
{
    char name[32];

    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "%s-%d", (const char *)arg, i);
        if (db_write_wait(fixture.db, add_project, name, NULL) != RC_OK)
            return "failed";
        if (i % 10 == 0)
            count_projects();
    }
    return NULL;
}

static int changes_told;

static void changed(void *arg, struct db_txn *txn)
{
    int64_t count;

    UNUSED(arg);
    assert_int_equal(
        sql_get_i64(txn, "SELECT COUNT(*) FROM projects", SQL_NO_BINDS, 0, &count, NULL), RC_OK);
    changes_told++;
}

static void test_many_writers_share_commits(void **state)
{
    pthread_t threads[4];
    const char *names[] = {"a", "b", "c", "d"};
    struct db_counters counters;
    void *result;

    UNUSED(state);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)names[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    assert_int_equal(count_projects(), 202);
    db_counters(fixture.db, &counters);
    assert_int_equal(counters.writes, 201);
    assert_true(counters.batches <= counters.writes);
}

static enum rc mark(void *arg, struct db_txn *txn, struct err *err)
{
    db_txn_mark_changed(txn);
    return *(bool *)arg ? RC_OK : err_set(err, ERR_BAD_FIELD, "no");
}

static void test_change_is_told_before_the_reply(void **state)
{
    bool yes = true, no = false;

    UNUSED(state);
    changes_told = 0;
    db_on_change(fixture.db, changed, NULL);
    assert_int_equal(db_write_wait(fixture.db, mark, &yes, NULL), RC_OK);
    assert_int_equal(changes_told, 1);
    assert_int_equal(db_write_wait(fixture.db, mark, &no, NULL), RC_INVALID);
    assert_int_equal(changes_told, 1);
    assert_int_equal(db_write_wait(fixture.db, add_project, "unmarked", NULL), RC_OK);
    assert_int_equal(changes_told, 1);
}

/* Every table names its project, but those that cannot. */
static void test_tables_have_a_project(void **state)
{
    struct db_txn *txn;
    struct sql_rows rows;
    enum rc rc;

    UNUSED(state);
    assert_int_equal(db_read_begin(fixture.db, &txn, NULL), RC_OK);
    assert_int_equal(sql_query(txn,
                               "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
                               " AND name NOT IN ('meta', 'users', 'projects')",
                               SQL_NO_BINDS, &rows, NULL),
                     RC_OK);
    while ((rc = sql_next(&rows, NULL)) == RC_OK)
        if (str_find(sql_column_str(&rows, 1), STR("project BLOB NOT NULL")) < 0)
            fail_msg("table %.*s has no project", STR_ARG(sql_column_str(&rows, 0)));
    assert_int_equal(rc, RC_END);
    db_read_end(txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_undo, start, end),
        cmocka_unit_test_setup_teardown(test_survives_reopening, start, end),
        cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, start, end),
        cmocka_unit_test_setup_teardown(test_backup_is_whole, start, end),
        cmocka_unit_test_setup_teardown(test_many_writers_share_commits, start, end),
        cmocka_unit_test_setup_teardown(test_change_is_told_before_the_reply, start, end),
        cmocka_unit_test_setup_teardown(test_tables_have_a_project, start, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
