/* Jobs: run once committed, retried, cancelled, taken up after a restart. */
#include "job/job.h"
#include "base/clock.h"
#include "store/sql.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char directory[64], path[128];
    struct loop *loop;
    struct db *db;
    struct event_bus *events;
    struct jobs *jobs;
    struct arena arena;
    struct id project;
    struct job_row submitted;
    int starts, cancels;
    int fail_first; /* attempts that fail */
    bool hang;      /* runs until cancelled */
    struct job_run *run;
    struct timer poll;
    char final_state[16];
    bool roll_back;
};

static struct fixture *f;

static void *start(void *arg, struct job_run *run, yyjson_val *params)
{
    struct err err = {0};
    UNUSED(arg);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(params, "name")), "x");
    f->starts++;
    job_progress(run, 1, 2, "bytes", STR("half"));
    if (f->hang) {
        f->run = run;
        return f;
    }
    if (f->starts <= f->fail_first) {
        err_set(&err, ERR_UPSTREAM, "not yet");
        err.rc = RC_INVALID; /* final: no backoff in a test */
        job_finish(run, STR_EMPTY, &err);
    } else {
        job_finish(run, STR("{\"ok\":true}"), NULL);
    }
    return NULL;
}

static void cancel(void *arg, void *handle)
{
    struct err err = {0};
    UNUSED(arg);
    assert_ptr_equal(handle, f);
    f->cancels++;
    err_set(&err, ERR_CANCELLED, "stopped");
    job_finish(f->run, STR_EMPTY, &err);
}

static enum rc make_project(void *arg, struct db_txn *txn, struct err *err)
{
    UNUSED(arg);
    f->project = id_new();
    return sql_exec(txn, "INSERT INTO projects(id, name, created_ns) VALUES(?1, 'p', 0)",
                    SQL_BIND(sql_id(&f->project)), err);
}

static enum rc submit(void *arg, struct db_txn *txn, struct err *err)
{
    UNUSED(arg);
    enum rc rc = job_submit(f->jobs, txn, f->project, "test", STR("{\"name\":\"x\"}"), STR("me"),
                            &f->arena, &f->submitted, err);
    return rc == RC_OK && f->roll_back ? RC_CANCELLED : rc;
}

static enum rc ask_cancel(void *arg, struct db_txn *txn, struct err *err)
{
    struct job_row row;
    UNUSED(arg);
    return job_cancel(f->jobs, txn, f->project, f->submitted.id, &f->arena, &row, err);
}

static void read_state(struct job_row *row)
{
    struct db_txn *txn;
    struct err err;
    assert_int_equal(db_read_begin(f->db, &txn, &err), RC_OK);
    assert_int_equal(job_table_get(txn, f->project, f->submitted.id, &f->arena, row, &err), RC_OK);
    db_read_end(txn);
}

/* Stops the loop when the job has ended. */
static void on_poll(struct timer *timer)
{
    struct job_row row;
    struct err err;
    read_state(&row);
    if (f->hang && f->run && !f->cancels)
        assert_int_equal(db_write_wait(f->db, ask_cancel, NULL, &err), RC_OK);
    if (row.finished_ns)
        loop_stop(f->loop);
    else
        timer_start(f->loop, timer, 5 * NS_PER_MS);
}

static void run_until_ended(void)
{
    timer_init(&f->poll, on_poll);
    timer_start(f->loop, &f->poll, NS_PER_MS);
    loop_run(f->loop);
}

static int setup(void **state)
{
    struct err err;
    f = calloc(1, sizeof(*f));
    *state = f;
    strcpy(f->directory, "/tmp/capstan-job-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof(f->path), "%s/control.db", f->directory);
    assert_int_equal(db_open(&(struct db_options){.path = f->path}, &f->db, &err), RC_OK);
    arena_init(&f->arena, 1 << 24);
    f->loop = loop_new(0);
    f->events = event_bus_new(1 << 20);
    f->jobs = jobs_new(f->loop, f->db, f->events);
    jobs_register(f->jobs, &(struct job_kind){"test", 2, 1, start, cancel, NULL});
    assert_int_equal(db_write_wait(f->db, make_project, NULL, &err), RC_OK);
    return 0;
}

static void stop_loop(struct task *task)
{
    UNUSED(task);
    loop_stop(f->loop);
}

static int teardown(void **state)
{
    char command[160];
    UNUSED(state);
    jobs_stop(f->jobs);
    db_close(f->db);
    struct task last = {.run = stop_loop}; /* behind what the writer posted: its last replies */
    loop_post(f->loop, &last);
    loop_run(f->loop);
    jobs_free(f->jobs);
    event_bus_free(f->events);
    loop_free(f->loop);
    arena_fini(&f->arena);
    snprintf(command, sizeof(command), "rm -r %s", f->directory);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void test_runs_once_committed(void **state)
{
    struct err err;
    struct job_row row;
    UNUSED(state);
    assert_int_equal(db_write_wait(f->db, submit, NULL, &err), RC_OK);
    run_until_ended();
    read_state(&row);
    assert_true(str_eq(row.state, STR("done")));
    assert_true(str_eq(row.result, STR("{\"ok\":true}")));
    assert_int_equal(f->starts, 1);
    assert_int_equal(row.done, 1);
}

static void test_undone_transaction_starts_nothing(void **state)
{
    struct err err;
    UNUSED(state);
    f->roll_back = true;
    assert_int_not_equal(db_write_wait(f->db, submit, NULL, &err), RC_OK);
    f->roll_back = false;
    assert_int_equal(db_write_wait(f->db, submit, NULL, &err), RC_OK);
    run_until_ended();
    assert_int_equal(f->starts, 1);
}

static void test_final_failure_tells_why(void **state)
{
    struct err err;
    struct job_row row;
    UNUSED(state);
    f->fail_first = 1;
    assert_int_equal(db_write_wait(f->db, submit, NULL, &err), RC_OK);
    run_until_ended();
    read_state(&row);
    assert_true(str_eq(row.state, STR("failed")));
    assert_true(str_eq(row.error, STR("not yet")));
}

static void test_cancel_reaches_the_run(void **state)
{
    struct err err;
    struct job_row row;
    UNUSED(state);
    f->hang = true;
    assert_int_equal(db_write_wait(f->db, submit, NULL, &err), RC_OK);
    run_until_ended();
    read_state(&row);
    assert_true(str_eq(row.state, STR("cancelled")));
    assert_int_equal(f->cancels, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs_once_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_undone_transaction_starts_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_final_failure_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_reaches_the_run, setup, teardown),
    };
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
