/* Pulls from a hub that breaks off, redirects, lies and is gone: what arrives is whole and checked,
 * or does not appear at all. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/pull.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PADDING_BYTES (3 << 20)

static struct hub {
    pid_t pid;
    int port;
    char file[64], sha256[65];
    uint64_t bytes;
} hub;

struct fixture {
    struct loop *loop;
    struct worker_pool *workers;
    char directory[64];
    struct catalogue_entry entry;
    char addresses[2][128];
    struct pull *pull;
    int ended;
    int64_t progress_max;
    struct err err;
    char sha256[65];
    int64_t cancel_at; /* bytes; 0: never */
};

/* A small model with a long tail, so that it comes in several pieces. */
static void make_model_file(void)
{
    char from[4096];
    uint8_t digest[SHA256_BYTES];
    snprintf(from, sizeof(from), "%s/../fuzz/corpus/gguf/whole", getenv("TEST_FOLDER"));
    FILE *in = fopen(from, "rb");
    assert_non_null(in);
    char *data = xcalloc(1, PADDING_BYTES + 4096);
    size_t n = fread(data, 1, 4096, in);
    fclose(in);
    for (size_t i = 0; i < PADDING_BYTES; i++)
        data[n + i] = (char)(i * 2654435761u >> 13);
    strcpy(hub.file, "/tmp/capstan-hub-XXXXXX");
    int fd = mkstemp(hub.file);
    hub.bytes = n + PADDING_BYTES;
    assert_int_equal(write(fd, data, hub.bytes), (ssize_t)hub.bytes);
    close(fd);
    hash_sha256(data, hub.bytes, digest);
    hex_encode(digest, sizeof(digest), hub.sha256);
    free(data);
}

static int start_hub(void **state)
{
    int out[2];
    char program[4096], port[16] = "";
    make_model_file();
    snprintf(program, sizeof(program), "%s/model/fake_hub.py", getenv("TEST_FOLDER"));
    assert_int_equal(pipe(out), 0);
    hub.pid = fork();
    if (hub.pid == 0) {
        dup2(out[1], 1);
        execlp("python3", "python3", program, hub.file, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof(port) - 1 && read(out[0], port + n, 1) == 1 && port[n] != '\n';)
        n++;
    hub.port = atoi(port);
    assert_true(hub.port > 0);
    return 0;
}

static int stop_hub(void **state)
{
    kill(hub.pid, SIGKILL);
    waitpid(hub.pid, NULL, 0);
    unlink(hub.file);
    return 0;
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    strcpy(f->directory, "/tmp/capstan-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    f->loop = loop_new(0);
    f->workers = worker_pool_new(1, 16);
    f->entry = (struct catalogue_entry){.name = STR("tiny"),
                                        .file = STR("tiny.gguf"),
                                        .licence = STR("Apache-2.0"),
                                        .sha256 = str_from(hub.sha256),
                                        .bytes = hub.bytes,
                                        .context_tokens = 512};
    *state = f;
    return 0;
}

static void path_of(struct fixture *f, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", f->directory, name);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];
    path_of(f, "tiny.gguf", path);
    unlink(path);
    path_of(f, ".tiny.gguf.part", path);
    unlink(path);
    assert_int_equal(rmdir(f->directory), 0);
    worker_pool_free(f->workers);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void add_source(struct fixture *f, const char *path)
{
    size_t i = f->entry.source_count++;
    snprintf(f->addresses[i], sizeof(f->addresses[i]), "http://127.0.0.1:%d%s", hub.port, path);
    f->entry.sources[i] =
        (struct catalogue_source){.kind = CATALOGUE_HUB, .address = str_from(f->addresses[i])};
}

static void progressed(void *arg, int64_t done, int64_t total, struct str message)
{
    struct fixture *f = arg;
    f->progress_max = MAX(f->progress_max, done);
    if (f->cancel_at && done >= f->cancel_at) {
        f->cancel_at = 0;
        pull_cancel(f->pull);
    }
}

static void ended(void *arg, const struct model *model, const struct err *err)
{
    struct fixture *f = arg;
    f->ended++;
    f->err = err ? *err : (struct err){0};
    if (model) {
        snprintf(f->sha256, sizeof(f->sha256), "%.*s", STR_ARG(model->sha256));
        assert_true(str_eq(model->file, STR("tiny.gguf")));
        assert_true(str_eq(model->architecture, STR("llama")));
        assert_int_equal(model->bytes, (int64_t)hub.bytes);
    }
    loop_stop(f->loop);
}

static void pull(struct fixture *f)
{
    static const struct pull_calls calls = {.progress = progressed, .done = ended};
    f->ended = 0;
    f->pull = pull_start(
        &(struct pull_options){
            .loop = f->loop, .workers = f->workers, .entry = &f->entry, .directory = f->directory},
        &calls, f);
    loop_run(f->loop);
    assert_int_equal(f->ended, 1);
}

static int64_t size_of(struct fixture *f, const char *name)
{
    char path[128];
    struct stat st;
    path_of(f, name, path);
    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void assert_in_place(struct fixture *f)
{
    assert_int_equal(f->err.code, ERR_NONE);
    assert_string_equal(f->sha256, hub.sha256);
    assert_int_equal(size_of(f, "tiny.gguf"), (int64_t)hub.bytes);
    assert_int_equal(size_of(f, ".tiny.gguf.part"), -1);
}

static void takes_a_whole_file(void **state)
{
    struct fixture *f = *state;
    add_source(f, "/whole");
    pull(f);
    assert_in_place(f);
    assert_int_equal(f->progress_max, (int64_t)hub.bytes);
}

static void goes_on_after_breaks(void **state)
{
    struct fixture *f = *state;
    add_source(f, "/breaking");
    pull(f);
    assert_in_place(f);
}

static void begins_anew_where_ranges_are_ignored(void **state)
{
    struct fixture *f = *state;
    add_source(f, "/norange");
    pull(f);
    assert_in_place(f);
}

static void takes_the_hash_from_the_hub(void **state)
{
    struct fixture *f = *state;
    f->entry.sha256 = STR_EMPTY;
    f->entry.bytes = 0;
    add_source(f, "/hub");
    pull(f);
    assert_in_place(f);
}

static void refuses_a_wrong_hash(void **state)
{
    struct fixture *f = *state;
    f->entry.sha256 = STR_EMPTY;
    add_source(f, "/lying");
    pull(f);
    assert_non_null(strstr(f->err.message, "is not the expected file"));
    assert_int_equal(size_of(f, "tiny.gguf"), -1);
    assert_int_equal(size_of(f, ".tiny.gguf.part"), -1);
}

static void tries_the_next_source(void **state)
{
    struct fixture *f = *state;
    add_source(f, "/gone");
    add_source(f, "/whole");
    pull(f);
    assert_in_place(f);
}

static void stops_at_too_many_bytes(void **state)
{
    struct fixture *f = *state;
    add_source(f, "/endless");
    pull(f);
    assert_non_null(strstr(f->err.message, "more than the expected"));
    assert_int_equal(size_of(f, "tiny.gguf"), -1);
}

static void keeps_its_part_when_cancelled(void **state)
{
    struct fixture *f = *state;
    add_source(f, "/breaking");
    f->cancel_at = 600000;
    pull(f);
    assert_int_equal(f->err.code, ERR_CANCELLED);
    assert_int_equal(size_of(f, "tiny.gguf"), -1);
    pull(f);
    assert_in_place(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_a_whole_file, setup, teardown),
        cmocka_unit_test_setup_teardown(goes_on_after_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(begins_anew_where_ranges_are_ignored, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_the_hash_from_the_hub, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_wrong_hash, setup, teardown),
        cmocka_unit_test_setup_teardown(tries_the_next_source, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_at_too_many_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_its_part_when_cancelled, setup, teardown),
    };
    log_set_level(LOG_ERROR);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, start_hub, stop_hub);
}
