/* The engine supervisor against a stand-in for llama-server that can fail in every way: each costs
 * its own calls an error and nothing else. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/engine.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#define PATIENCE_NS (20 * NS_PER_S)

struct fixture {
    struct loop *loop;
    struct worker_pool *workers;
    struct engines *engines;
    struct arena arena;
    char directory[64], model[128];
    struct timer poll;
    bool (*wanted)(struct fixture *f);
    int64_t deadline_ns;
    bool in_time, stopped;
    /* the last call's answer */
    int answers;
    struct engine_lease *lease;
    struct err err;
    enum engine_state state_wanted;
};

static void poll_fired(struct timer *timer)
{
    struct fixture *f = CONTAINER_OF(timer, struct fixture, poll);
    f->in_time = f->wanted(f);
    if (f->in_time || loop_now_ns(f->loop) > f->deadline_ns)
        loop_stop(f->loop);
    else
        timer_start(f->loop, timer, 2 * NS_PER_MS);
}

static void run_until(struct fixture *f, bool (*wanted)(struct fixture *f))
{
    f->wanted = wanted;
    f->deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
    timer_start(f->loop, &f->poll, 0);
    loop_run(f->loop);
    assert_true(f->in_time);
}

static void write_model(struct fixture *f, const char *behaviour)
{
    FILE *file = fopen(f->model, "w");
    assert_non_null(file);
    fprintf(file, "%s\n", behaviour);
    fclose(file);
}

static struct engine_spec spec_of(struct fixture *f)
{
    return (struct engine_spec){.key = str_from(f->model),
                                .name = STR("tiny"),
                                .model_file = str_from(f->model),
                                .context_tokens = 512,
                                .slots = 2};
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    setenv("CAPSTAN_SECRET", "must not be seen", 1);
    strcpy(f->directory, "/tmp/capstan-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->model, sizeof(f->model), "%s/tiny.gguf", f->directory);
    f->loop = loop_new(0);
    f->workers = worker_pool_new(1, 16);
    arena_init(&f->arena, 1 << 20);
    timer_init(&f->poll, poll_fired);
    char server[4096];
    snprintf(server, sizeof(server), "%s/model/fake_llama_server.py", getenv("TEST_FOLDER"));
    f->engines = engines_new(&(struct engines_options){
        .loop = f->loop, .workers = f->workers, .directory = f->directory, .server_path = server});
    *state = f;
    return 0;
}

static void on_stopped(void *arg) { ((struct fixture *)arg)->stopped = true; }
static bool is_stopped(struct fixture *f) { return f->stopped; }

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->lease)
        engine_release(f->lease, false);
    engines_stop(f->engines, on_stopped, f);
    run_until(f, is_stopped);
    engines_free(f->engines);
    worker_pool_free(f->workers);
    loop_free(f->loop);
    unlink(f->model);
    assert_int_equal(rmdir(f->directory), 0); /* sockets and their folder are gone */
    arena_fini(&f->arena);
    free(f);
    return 0;
}

static void answered(void *arg, struct engine_lease *lease, const struct err *err)
{
    struct fixture *f = arg;
    f->answers++;
    f->lease = lease;
    f->err = err ? *err : (struct err){0};
}

static bool has_answer(struct fixture *f) { return f->answers > 0; }

/* engine_acquire belongs to a running loop. */
struct acquiring {
    struct task task;
    struct fixture *f;
    bool cancel;
};

static void acquire_run(struct task *task)
{
    struct acquiring *acquiring = CONTAINER_OF(task, struct acquiring, task);
    struct fixture *f = acquiring->f;
    struct engine_request *request = engine_acquire(f->engines, str_from(f->model), answered, f);
    if (acquiring->cancel)
        engine_request_cancel(request);
}

static void acquire(struct fixture *f)
{
    struct acquiring acquiring = {.task.run = acquire_run, .f = f};
    f->answers = 0;
    loop_post(f->loop, &acquiring.task);
    run_until(f, has_answer);
}

static void release(struct fixture *f, bool broken)
{
    engine_release(f->lease, broken);
    f->lease = NULL;
}

static struct engine_status status_of(struct fixture *f)
{
    struct engine_status status;
    arena_reset(&f->arena);
    assert_true(engines_get(f->engines, str_from(f->model), &f->arena, &status));
    return status;
}

static bool in_state(struct fixture *f)
{
    struct engine_status status;
    arena_reset(&f->arena);
    return engines_get(f->engines, str_from(f->model), &f->arena, &status) &&
           status.state == f->state_wanted;
}

static void run_until_state(struct fixture *f, enum engine_state state)
{
    f->state_wanted = state;
    run_until(f, in_state);
}

/* Sends the fake server a request that it dies or hangs of. */
static void provoke(struct fixture *f, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct str url = engine_lease_endpoint(f->lease)->url;
    snprintf(address.sun_path, sizeof(address.sun_path), "%.*s", (int)url.n - 5, url.p + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(dprintf(fd, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path) > 0);
    usleep(50000);
    close(fd);
}

static void starts_on_first_use(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "slow");
    engines_define(f->engines, &spec);
    acquire(f);
    assert_non_null(f->lease);
    const struct engine_endpoint *endpoint = engine_lease_endpoint(f->lease);
    assert_true(str_starts(endpoint->url, STR("unix:")));
    assert_true(str_ends(endpoint->url, STR(".sock")));
    assert_int_equal(endpoint->api_key.n, 64);
    assert_true(endpoint->is_llama);
    assert_int_equal(endpoint->slots, 2);
    struct engine_status seen = status_of(f);
    assert_int_equal(seen.state, ENGINE_READY);
    assert_int_equal(seen.leases, 1);
    assert_true(seen.pid > 0);
    struct engine_program program;
    engines_program(f->engines, &program);
    assert_string_equal(program.version, "9.9.9");
    assert_string_equal(program.origin, "setting");
}

static void unknown_model_is_refused(void **state)
{
    struct fixture *f = *state;
    acquire(f);
    assert_null(f->lease);
    assert_int_equal(f->err.code, ERR_MODEL_NOT_FOUND);
}

static void tells_why_it_does_not_start(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "refuse");
    engines_define(f->engines, &spec);
    acquire(f);
    assert_null(f->lease);
    assert_int_equal(f->err.code, ERR_ENGINE_FAILED);
    assert_non_null(strstr(f->err.message, "tensor is corrupt"));
    assert_int_equal(status_of(f).state, ENGINE_WAITING);
    /* The second failure in a row: calls no longer wait for the backoff. */
    acquire(f);
    int64_t before = clock_monotonic_ns();
    acquire(f);
    assert_true(clock_monotonic_ns() - before < 100 * NS_PER_MS);
    assert_true(f->err.retry_after_ms > 0);
    /* A better file, and it comes back. */
    write_model(f, "ok");
    run_until_state(f, ENGINE_WAITING);
    while (!f->lease)
        acquire(f);
}

static void restarts_after_a_crash(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "crash");
    engines_define(f->engines, &spec);
    acquire(f);
    struct str key = engine_lease_endpoint(f->lease)->api_key;
    char first_key[65];
    snprintf(first_key, sizeof(first_key), "%.*s", STR_ARG(key));
    provoke(f, "/crash");
    release(f, true);
    run_until_state(f, ENGINE_WAITING);
    assert_non_null(strstr(status_of(f).error.p, "signal 9"));
    acquire(f);
    assert_non_null(f->lease);
    assert_int_equal(status_of(f).restarts, 1);
    assert_false(str_eq(engine_lease_endpoint(f->lease)->api_key, str_from(first_key)));
}

static void ends_one_that_hangs(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "hang");
    spec.health_timeout_ns = 200 * NS_PER_MS;
    engines_define(f->engines, &spec);
    acquire(f);
    provoke(f, "/hang");
    release(f, true); /* asks for its health at once; three silences and it goes */
    run_until_state(f, ENGINE_WAITING);
    assert_non_null(strstr(status_of(f).error.p, "health"));
}

static void stops_when_idle_and_kills_what_stays(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "stubborn");
    engines_define(f->engines, &spec);
    acquire(f);
    release(f, false);
    int64_t before = clock_monotonic_ns();
    engines_end(f->engines, spec.key);
    run_until_state(f, ENGINE_STOPPED);
    int64_t took = clock_monotonic_ns() - before;
    assert_true(took > 1500 * NS_PER_MS && took < 4 * NS_PER_S);

    spec.idle_stop_ns = 100 * NS_PER_MS;
    write_model(f, "ok");
    engines_define(f->engines, &spec);
    acquire(f);
    release(f, false);
    run_until_state(f, ENGINE_STOPPED);
}

static void notices_a_changed_file(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    struct stat st;
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    write_model(f, "ok");
    hash_sha256("ok\n", 3, digest);
    hex_encode(digest, sizeof(digest), hex);
    assert_int_equal(stat(f->model, &st), 0);
    spec.sha256 = str_from(hex);
    spec.file_bytes = st.st_size;
    spec.file_mtime_ns = 1; /* touched since: hashed, found right */
    engines_define(f->engines, &spec);
    acquire(f);
    assert_non_null(f->lease);
    release(f, false);
    engines_end(f->engines, spec.key);
    run_until_state(f, ENGINE_STOPPED);

    write_model(f, "ko");
    acquire(f);
    assert_null(f->lease);
    assert_non_null(strstr(f->err.message, "changed or damaged"));
    assert_int_equal(status_of(f).state, ENGINE_FAILED);
}

static void takes_a_new_spec(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "ok");
    engines_define(f->engines, &spec);
    acquire(f);
    pid_t pid = status_of(f).pid;
    engines_define(f->engines, &spec); /* the same: nothing happens */
    release(f, false);
    acquire(f);
    assert_int_equal(status_of(f).pid, pid);
    spec.slots = 3;
    engines_define(f->engines, &spec); /* not under a running call */
    run_until_state(f, ENGINE_READY);
    assert_int_equal(status_of(f).pid, pid);
    release(f, false);
    run_until_state(f, ENGINE_STOPPED);
    acquire(f);
    assert_int_equal(engine_lease_endpoint(f->lease)->slots, 3);
}

static bool has_none(struct fixture *f)
{
    struct engine_status status;
    arena_reset(&f->arena);
    return !engines_get(f->engines, str_from(f->model), &f->arena, &status);
}

static void removal_waits_for_leases(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "ok");
    engines_define(f->engines, &spec);
    acquire(f);
    engines_remove(f->engines, spec.key);
    run_until_state(f, ENGINE_STOPPED);
    release(f, false);
    run_until(f, has_none);
}

static bool has_no_lease(struct fixture *f) { return status_of(f).leases == 0 && in_state(f); }

static void cancelled_request_gives_back_its_lease(void **state)
{
    struct fixture *f = *state;
    struct engine_spec spec = spec_of(f);
    write_model(f, "slow");
    engines_define(f->engines, &spec);
    struct acquiring acquiring = {.task.run = acquire_run, .f = f, .cancel = true};
    loop_post(f->loop, &acquiring.task);
    run_until_state(f, ENGINE_READY);
    f->state_wanted = ENGINE_READY;
    run_until(f, has_no_lease);
    assert_int_equal(f->answers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starts_on_first_use, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_model_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_why_it_does_not_start, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts_after_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_one_that_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_when_idle_and_kills_what_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(notices_a_changed_file, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_a_new_spec, setup, teardown),
        cmocka_unit_test_setup_teardown(removal_waits_for_leases, setup, teardown),
        cmocka_unit_test_setup_teardown(cancelled_request_gives_back_its_lease, setup, teardown),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
