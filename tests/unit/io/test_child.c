/* Children: environment, output, ends of every kind, memory bound, limits. */
#include "base/clock.h"
#include "io/child.h"
#include "io/sandbox.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct loop *loop;

static struct outcome {
    char out[20000], err[2000];
    int lines, status;
    size_t longest;
    const char *reason;
} outcome;

static void line(void *owner, struct child *child, bool is_stderr, struct str text)
{
    char *to = is_stderr ? outcome.err : outcome.out;
    outcome.lines++;
    outcome.longest = MAX(outcome.longest, text.n);
    if (strlen(to) + text.n + 2 < sizeof(outcome.err))
        sprintf(to + strlen(to), "%.*s|", STR_ARG(text));
    if (str_eq(text, STR("ready")))
        child_end(child, 100 * NS_PER_MS);
}

static void ended(void *owner, struct child *child, int status, const char *reason)
{
    outcome.status = status;
    outcome.reason = reason;
    loop_stop(loop);
}

static const struct child_owner calls = {.line = line, .ended = ended};

static void run_shell(const char *script, struct child_options options)
{
    memset(&outcome, 0, sizeof(outcome));
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    const char *envp[] = {"GREETING=hello", "PATH=/usr/bin:/bin", NULL};
    options.argv = argv;
    options.envp = envp;
    struct child *child = child_start(loop, &options, &calls, NULL, NULL);
    assert_non_null(child);
    assert_true(child_pid(child) > 0);
    loop_run(loop);
}

static void output_and_environment(void **state)
{
    setenv("CAPSTAN_SECRET", "leak", 1);
    run_shell(
        "echo $GREETING; echo \"secret=$CAPSTAN_SECRET\"; echo oops >&2; pwd; printf 'no end'; "
        "exit 3",
        (struct child_options){.directory = "/"});
    assert_string_equal(outcome.out, "hello|secret=|/|no end|");
    assert_string_equal(outcome.err, "oops|");
    assert_true(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 3);
    assert_null(outcome.reason);
}

static void long_lines_come_in_pieces(void **state)
{
    run_shell("head -c 10000 /dev/zero | tr '\\0' x; echo; echo end", (struct child_options){0});
    assert_int_equal(outcome.lines, 4);
    assert_int_equal(outcome.longest, 4096);
}

static void ends_when_asked(void **state)
{
    run_shell("echo ready; exec sleep 100", (struct child_options){0});
    assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGTERM);
    assert_null(outcome.reason);
}

static void killed_when_it_will_not(void **state)
{
    run_shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", (struct child_options){0});
    assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGKILL);
    assert_non_null(outcome.reason);
}

static void grandchildren_do_not_hold_the_end(void **state)
{
    int64_t start = clock_monotonic_ns();
    run_shell("sleep 100 & echo started", (struct child_options){0});
    assert_true(clock_monotonic_ns() - start < 60 * NS_PER_S); /* the other sleeps 100 */
    assert_string_equal(outcome.out, "started|");
}

static void start_failures(void **state)
{
    struct err err;
    const char *argv[] = {"/nonexistent/program", NULL};
    const char *envp[] = {NULL};
    struct child_options options = {.argv = argv, .envp = envp};
    assert_null(child_start(loop, &options, &calls, NULL, &err));
    assert_non_null(strstr(err.message, "/nonexistent/program"));
    argv[0] = "/bin/true";
    options.directory = "/nonexistent";
    assert_null(child_start(loop, &options, &calls, NULL, &err));
}

static void confined(void **state)
{
    struct confinement confinement = {.open_files_max = 17, .no_core = true, .nice = 3};
    run_shell("ulimit -n; ulimit -c; nice; grep NoNewPrivs /proc/self/status",
              (struct child_options){.confinement = &confinement});
    char expected[64];
    snprintf(expected, sizeof(expected), "17|0|%d|NoNewPrivs:\t1|",
             getpriority(PRIO_PROCESS, 0) + 3);
    assert_string_equal(outcome.out, expected);
}

static void memory_is_bounded(void **state)
{
    run_shell("x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 20",
              (struct child_options){.resident_bytes_max = 20 << 20});
    assert_true(WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGKILL);
    assert_string_equal(outcome.reason, "used more memory than it may");
}

static struct child *cat;
static void say(struct timer *timer) { assert_int_equal(write(child_stdin(cat), "ready\n", 6), 6); }

static void takes_input(void **state)
{
    memset(&outcome, 0, sizeof(outcome));
    const char *argv[] = {"/bin/cat", NULL}, *envp[] = {NULL};
    struct child_options options = {.argv = argv, .envp = envp, .stdin_pipe = true};
    cat = child_start(loop, &options, &calls, NULL, NULL);
    struct timer timer;
    timer_init(&timer, say);
    timer_start(loop, &timer, 0);
    loop_run(loop);
    assert_string_equal(outcome.out, "ready|");
}

int main(void)
{
    loop = loop_new(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_environment),
        cmocka_unit_test(long_lines_come_in_pieces),
        cmocka_unit_test(ends_when_asked),
        cmocka_unit_test(killed_when_it_will_not),
        cmocka_unit_test(grandchildren_do_not_hold_the_end),
        cmocka_unit_test(start_failures),
        cmocka_unit_test(confined),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(takes_input),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(loop);
    return failed;
}
