/* Code's children on a real loop: answers, errors, bounds, who gets which child, and what a script
 * cannot reach, in both sets of walls. Skipped where there is no interpreter. */
#include "base/clock.h"
#include "io/sandbox.h"
#include "pipeline/nodes/code_pool.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define DEADLINE_NS (60 * NS_PER_S)

/* Such builds set no limit on a child's memory (io/sandbox_private.h): it is only looked at. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static struct {
    struct code_pool *pool;
    struct loop *loop;
    struct timer deadline;
    int waited_for;
} f;

struct answer {
    char text[4096], error[700];
    enum err_code code;
    bool told;
    int order;
};

static int orders;

static void on_deadline(struct timer *timer)
{
    (void)timer;
    loop_stop(f.loop);
}

static void open_pool(int children)
{
    const struct code_pool_options options = {.children_max = children};
    f.pool = code_pool_new(&options);
    f.loop = loop_new(0);
    timer_init(&f.deadline, on_deadline);
}

static void close_pool(void)
{
    code_pool_free(f.pool);
    timer_stop(&f.deadline);
    loop_free(f.loop);
}

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    open_pool(4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_pool();
    return 0;
}

static void on_told(void *arg, struct str json, struct str log, const struct err *err)
{
    struct answer *answer = arg;
    answer->told = true;
    answer->order = orders++;
    answer->code = err ? err->code : ERR_NONE;
    snprintf(answer->text, sizeof(answer->text), "%.*s|%.*s", STR_ARG(json), STR_ARG(log));
    snprintf(answer->error, sizeof(answer->error), "%s", err ? err->message : "");
    if (--f.waited_for == 0)
        loop_stop(f.loop);
}

struct starting {
    struct task task;
    struct code_request request;
    struct answer *answer;
    struct code_call *call;
};

static void start_task(struct task *task)
{
    struct starting *starting = CONTAINER_OF(task, struct starting, task);
    struct err err = {0};
    starting->call = code_call_start(f.pool, &starting->request, on_told, starting->answer, &err);
    if (!starting->call)
        on_told(starting->answer, STR_EMPTY, STR_EMPTY, &err);
}

static void begin(struct starting *starting, enum code_language language, uint8_t project,
                  const char *source, const char *inputs, struct answer *answer)
{
    *answer = (struct answer){0};
    *starting = (struct starting){.task.run = start_task,
                                  .request = {.language = language,
                                              .project = {{project}},
                                              .source = str_from(source),
                                              .inputs = str_from(inputs),
                                              .time_ns = 20 * NS_PER_S},
                                  .answer = answer};
    loop_post(f.loop, &starting->task);
    f.waited_for++;
}

static void finish(void)
{
    timer_start(f.loop, &f.deadline, DEADLINE_NS);
    loop_run(f.loop);
    timer_stop(&f.deadline);
    assert_int_equal(f.waited_for, 0);
}

static struct answer call(enum code_language language, const char *source, const char *inputs)
{
    struct starting starting;
    struct answer answer;
    begin(&starting, language, 1, source, inputs, &answer);
    finish();
    return answer;
}

/* Where Node or Python is missing, the tests that need it are skipped; where the walls do not hold,
 * all are. */
static void need(enum code_language language)
{
    struct err err = {0};
    if (sandbox_check(SANDBOX_CODE, &err) != RC_OK)
        skip();
    struct answer answer =
        call(language,
             language == CODE_PYTHON ? "def main(): return {}" : "const main = () => ({})", "{}");
    if (answer.code == ERR_FORBIDDEN && strstr(answer.error, "there is no"))
        skip();
    if (answer.code != ERR_NONE)
        fail_msg("%s", answer.error);
}

static void expect(struct answer answer, const char *text)
{
    if (answer.code != ERR_NONE)
        fail_msg("%s", answer.error);
    assert_string_equal(answer.text, text);
}

static void expect_error(struct answer answer, enum err_code code, const char *words)
{
    if (answer.code != code || !strstr(answer.error, words))
        fail_msg("%s | %s", answer.error, answer.text);
}

/* ---- answers ---- */

static void test_javascript(void **state)
{
    (void)state;
    need(CODE_JAVASCRIPT);
    expect(call(CODE_JAVASCRIPT,
                "function main({ a, list }) { console.log('hä', a); return { b: a * 2, list: "
                "list.map((x) => x + '\\u00fc\\u{1f600}'), none: undefined }; }",
                "{\"a\":21,\"list\":[\"ü\"]}"),
           "{\"b\":42,\"list\":[\"üü😀\"]}|hä 21\n");
    expect(call(CODE_JAVASCRIPT,
                "async function main() { await new Promise((done) => setTimeout(done, 5));"
                "return { x: require('crypto').createHash('sha256').update('').digest('hex')"
                ".slice(0, 4) }; }",
                "{}"),
           "{\"x\":\"e3b0\"}|");
    expect_error(call(CODE_JAVASCRIPT, "function main() {\n  return nothing.x;\n}", "{}"),
                 ERR_INVALID, "ReferenceError: nothing is not defined (line 2)");
    expect_error(call(CODE_JAVASCRIPT, "function main( {", "{}"), ERR_INVALID, "SyntaxError");
    expect_error(call(CODE_JAVASCRIPT, "let x = 1", "{}"), ERR_INVALID, "no function main");
    expect_error(call(CODE_JAVASCRIPT, "const main = () => 5", "{}"), ERR_INVALID,
                 "must return an object");
}

static void test_python(void **state)
{
    (void)state;
    need(CODE_PYTHON);
    expect(call(CODE_PYTHON,
                "import re\ndef main(a, text):\n    print('hä', a)\n"
                "    return {'b': a * 2, 'words': re.findall(r'\\w+', text)}\n",
                "{\"a\":21,\"text\":\"ü 😀 x\"}"),
           "{\"b\":42,\"words\":[\"ü\",\"x\"]}|hä 21\n");
    expect_error(call(CODE_PYTHON, "def main():\n    return 1 / 0\n", "{}"), ERR_INVALID,
                 "ZeroDivisionError: division by zero (line 2)");
    expect_error(call(CODE_PYTHON, "def main(:\n", "{}"), ERR_INVALID, "SyntaxError");
    expect_error(call(CODE_PYTHON, "def main(): return {'x': float('nan')}", "{}"), ERR_INVALID,
                 "ValueError");
    expect_error(call(CODE_PYTHON, "import sys\ndef main(): sys.exit(3)", "{}"), ERR_INVALID,
                 "SystemExit");
}

static void test_large_inputs_and_outputs(void **state)
{
    (void)state;
    need(CODE_JAVASCRIPT);
    size_t n = 3 * 1024 * 1024;
    char *inputs = malloc(n + 16);
    memcpy(inputs, "{\"a\":\"", 6);
    memset(inputs + 6, 'x', n);
    memcpy(inputs + 6 + n, "\"}", 3);
    expect(call(CODE_JAVASCRIPT, "const main = ({ a }) => ({ n: a.length })", inputs),
           "{\"n\":3145728}|");
    free(inputs);
    struct answer answer =
        call(CODE_JAVASCRIPT, "const main = () => ({ a: 'x'.repeat(900000) })", "{}");
    assert_int_equal(answer.code, ERR_NONE);
    expect_error(call(CODE_JAVASCRIPT, "const main = () => ({ a: 'x'.repeat(2000000) })", "{}"),
                 ERR_TOO_LARGE, "larger than");
    expect_error(call(CODE_JAVASCRIPT, "const main = () => ({ a: 'x'.repeat(20000000) })", "{}"),
                 ERR_TOO_LARGE, "larger than");
}

/* ---- children ---- */

static void test_a_child_serves_one_script_of_one_project(void **state)
{
    (void)state;
    need(CODE_JAVASCRIPT);
    const char *counter = "function main() { const g = require('util'); g.seen = (g.seen ?? 0) + "
                          "1; return { seen: g.seen }; }";
    expect(call(CODE_JAVASCRIPT, counter, "{}"), "{\"seen\":1}|");
    uint64_t before = code_pool_started(f.pool);
    expect(call(CODE_JAVASCRIPT, counter, "{}"), "{\"seen\":2}|"); /* the same child */
    assert_true(code_pool_started(f.pool) <= before + 1);          /* a spare, perhaps */
    struct starting starting;
    struct answer answer;
    begin(&starting, CODE_JAVASCRIPT, 2, counter, "{}", &answer);
    finish();
    expect(answer, "{\"seen\":1}|");
    char other[200];
    snprintf(other, sizeof(other), "%s//", counter);
    expect(call(CODE_JAVASCRIPT, other, "{}"), "{\"seen\":1}|");
}

static void test_a_killed_child_costs_its_own_call(void **state)
{
    (void)state;
    need(CODE_JAVASCRIPT);
    struct starting starting[3];
    struct answer answers[3];
    begin(
        &starting[0], CODE_JAVASCRIPT, 1,
        "const main = () => { require('process').kill(0, 'SIGKILL'); require('process').abort(); }",
        "{}", &answers[0]);
    begin(&starting[1], CODE_JAVASCRIPT, 2, "const main = () => ({ ok: true })", "{}", &answers[1]);
    begin(&starting[2], CODE_JAVASCRIPT, 1, "const main = () => ({ ok: 1 })", "{}", &answers[2]);
    finish();
    expect_error(answers[0], ERR_INVALID, "");
    expect(answers[1], "{\"ok\":true}|");
    expect(answers[2], "{\"ok\":1}|");
}

static void test_bounds_of_time_and_memory(void **state)
{
    (void)state;
    need(CODE_JAVASCRIPT);
    struct starting starting;
    struct answer answer;
    begin(&starting, CODE_JAVASCRIPT, 1, "const main = () => { for (;;); }", "{}", &answer);
    starting.request.time_ns = 300 * NS_PER_MS;
    finish();
    expect_error(answer, ERR_TIMEOUT, "longer than 300 ms");
    expect_error(call(CODE_JAVASCRIPT,
                      "function main() { const all = []; for (;;) all.push('x'.repeat(1e6) + "
                      "all.length); }",
                      "{}"),
                 ERR_INVALID, "");
    expect_error(
        call(CODE_JAVASCRIPT,
             "function main() { const all = []; for (;;) all.push(Buffer.alloc(1e8, 1)); }", "{}"),
        ERR_INVALID, "");
    expect(call(CODE_JAVASCRIPT, "const main = () => ({ ok: true })", "{}"), "{\"ok\":true}|");
}

static void test_python_memory(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    need(CODE_PYTHON);
    expect_error(call(CODE_PYTHON, "def main(): return {'n': len(bytearray(2 << 30))}", "{}"),
                 ERR_INVALID, "MemoryError");
}

static void test_more_calls_than_children(void **state)
{
    (void)state;
    enum { CALLS = 12 };
    struct starting starting[CALLS];
    struct answer answers[CALLS];
    char sources[CALLS][80];
    need(CODE_PYTHON);
    for (int i = 0; i < CALLS; i++) {
        snprintf(sources[i], sizeof(sources[i]), "def main(): return {'i': %d}", i);
        begin(&starting[i], CODE_PYTHON, 1, sources[i], "{}", &answers[i]);
    }
    finish();
    for (int i = 0; i < CALLS; i++) {
        char want[32];
        snprintf(want, sizeof(want), "{\"i\":%d}|", i);
        expect(answers[i], want);
    }
}

static void test_projects_take_turns(void **state)
{
    (void)state;
    enum { MANY = 6 };
    struct starting starting[MANY + 1];
    struct answer answers[MANY + 1];
    need(CODE_PYTHON);
    close_pool();
    open_pool(1);
    const char *source = "import time\ndef main():\n    time.sleep(0.05)\n    return {}";
    for (int i = 0; i < MANY; i++)
        begin(&starting[i], CODE_PYTHON, 1, source, "{}", &answers[i]);
    begin(&starting[MANY], CODE_PYTHON, 2, source, "{}", &answers[MANY]);
    orders = 0;
    finish();
    assert_true(answers[MANY].order < MANY); /* not behind all of the other's */
}

struct cancelling {
    struct task task;
    struct starting *starting;
    struct timer timer;
};

static void cancel_task(struct task *task)
{
    struct cancelling *cancelling = CONTAINER_OF(task, struct cancelling, task);
    code_call_cancel(cancelling->starting->call);
    f.waited_for--;
}

static void test_cancel(void **state)
{
    (void)state;
    need(CODE_PYTHON);
    struct starting starting, next;
    struct answer answer, told;
    struct cancelling cancelling = {.task.run = cancel_task, .starting = &starting};
    begin(&starting, CODE_PYTHON, 1, "import time\ndef main(): time.sleep(100)", "{}", &answer);
    loop_post(f.loop, &cancelling.task);
    begin(&next, CODE_PYTHON, 1, "def main(): return {}", "{}", &told);
    finish();
    expect(told, "{}|");
    assert_false(answer.told);
    begin(&starting, CODE_PYTHON, 1, "import time\ndef main(): time.sleep(100)", "{}", &answer);
    starting.request.time_ns = 100 * NS_PER_MS;
    finish();
    assert_int_equal(answer.code, ERR_TIMEOUT);
}

static void test_stopping_tells_nobody(void **state)
{
    (void)state;
    need(CODE_PYTHON);
    struct starting starting;
    struct answer answer, told;
    struct err err = {0};
    begin(&starting, CODE_PYTHON, 1, "import time\ndef main(): time.sleep(100)", "{}", &answer);
    f.waited_for--;
    struct starting next;
    begin(&next, CODE_PYTHON, 1, "def main(): return {}", "{}", &told);
    finish();
    code_pool_stop(f.pool);
    assert_false(answer.told);
    code_call_cancel(starting.call);
    assert_null(code_call_start(f.pool, &next.request, on_told, &told, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
}

/* ---- escapes ---- */

/* Each must end with the word `refused`; what gets out returns anything else. */
static const char *const javascript_escapes[] = {
    "require('fs').readFileSync('/etc/passwd')",
    "require('fs').readdirSync('/proc/self/fd').map((fd) => "
    "require('fs').readlinkSync('/proc/self/fd/' + fd)).find((p) => p.startsWith('/') && "
    "!p.startsWith('/dev')) ?? refuse()",
    "require('fs').readdirSync('/root')",
    "require('fs').writeFileSync('/tmp/escaped', 'x')",
    "require('fs').symlinkSync('/etc', '/escaped')",
    "require('fs').unlinkSync('/usr/bin/env')",
    "require('child_process').execFileSync('/usr/bin/env')",
    "require('child_process').spawnSync('/bin/sh', ['-c', 'true']).status === 0 || refuse()",
    "require('child_process').fork('/dev/null') && await new Promise((d, f) => setTimeout(f, 10))",
    "await new Promise((done, fail) => require('net').connect(PORT, '127.0.0.1').on('connect', "
    "done).on('error', fail))",
    "await new Promise((done, fail) => require('net').createServer().listen(0).on('listening', "
    "done).on('error', fail))",
    "await new Promise((done, fail) => { const s = require('dgram').createSocket('udp4'); "
    "s.on('error', fail); s.send('x', 53, '127.0.0.1', (e) => e ? fail(e) : done()); })",
    "await new Promise((done, fail) => require('net').connect('/run/systemd/notify').on('connect', "
    "done).on('error', fail))",
    "require('process').kill(SERVER, 0)",
    "require('process').kill(-1, 0)",
    "require('process').setuid(0) ?? (require('process').getuid() === 0 || refuse())",
    "require('process').chdir('/root')",
    "require('process').dlopen({ exports: {} }, '/tmp/x.node')",
    "require('fs').readFileSync('/proc/1/environ')",
    "require('os').setPriority(0, -20)",
};

static const char *const python_escapes[] = {
    "open('/etc/passwd').read()",
    "open('/tmp/escaped', 'w')",
    "__import__('os').listdir('/root')",
    "__import__('os').fork()",
    "__import__('os').posix_spawn('/usr/bin/env', ['env'], {})",
    "__import__('os').execv('/usr/bin/env', ['env'])",
    "__import__('subprocess').run(['/bin/true'])",
    "__import__('os').system('true') == 0 or refuse()",
    "__import__('socket').socket()",
    "__import__('socket').socketpair()",
    "__import__('socket').create_connection(('127.0.0.1', PORT), 1)",
    "__import__('os').kill(SERVER, 0)",
    "__import__('os').kill(-1, 0)",
    "__import__('os').setuid(0) or __import__('os').getuid() == 0 or refuse()",
    "__import__('os').chroot('/')",
    "__import__('os').memfd_create('x')",
    "__import__('ctypes').CDLL(None).ptrace(16, 1, 0, 0) == 0 or refuse()",
    "__import__('ctypes').CDLL(None).unshare(0x10000000) == 0 or refuse()",
    "__import__('ctypes').CDLL(None).mount(b'none', b'/', b'tmpfs', 0, 0) == 0 or refuse()",
    "__import__('resource').setrlimit(2, (-1, -1))",
    "__import__('os').mkfifo('/tmp/fifo')",
};

/* A forked child, or a signal, in a script must leave the rest as it is. */
static void try_escape(enum code_language language, const char *attempt)
{
    char source[1024], inputs[100];
    snprintf(source, sizeof(source),
             language == CODE_PYTHON
                 ? "def refuse(): raise OSError\n"
                   "def main(PORT, SERVER):\n"
                   "    try:\n        x = %s\n        return {'out': repr(x)}\n"
                   "    except (OSError, ValueError, MemoryError): return {'refused': True}\n"
                 : "const refuse = () => { throw new Error('refused'); };\n"
                   "async function main({ PORT, SERVER }) {\n"
                   "  try { const x = %s; return { out: String(x) }; }\n"
                   "  catch { return { refused: true }; }\n}\n",
             attempt);
    snprintf(inputs, sizeof(inputs), "{\"PORT\":1,\"SERVER\":%d}", (int)getpid());
    struct answer answer = call(language, source, inputs);
    bool died = answer.code == ERR_INVALID && strstr(answer.error, "process");
    if (!died && strncmp(answer.text, "{\"refused\":true}", 16) != 0)
        fail_msg("%s: %s %s", attempt, answer.text, answer.error);
}

static void test_escapes(void **state)
{
    (void)state;
    static const bool walls[][2] = {{false, false}, {true, false}, {false, true}};
    const struct sandbox_report *report = sandbox_self_test();
    bool namespaces = report->namespaces, landlock = report->landlock > 0;
    need(CODE_PYTHON);
    need(CODE_JAVASCRIPT);
    for (size_t w = 0; w < COUNT_OF(walls); w++) {
        if ((walls[w][0] && !landlock) || (walls[w][1] && !namespaces))
            continue; /* nothing would be left */
        close_pool();
        sandbox_pretend_without(walls[w][0], walls[w][1]);
        open_pool(4);
        for (size_t i = 0; i < COUNT_OF(javascript_escapes); i++)
            try_escape(CODE_JAVASCRIPT, javascript_escapes[i]);
        for (size_t i = 0; i < COUNT_OF(python_escapes); i++)
            if (!SANITIZED || !strstr(python_escapes[i], "setrlimit"))
                try_escape(CODE_PYTHON, python_escapes[i]);
        expect(call(CODE_PYTHON, "def main(): return {}", "{}"), "{}|");
    }
    sandbox_pretend_without(false, false);
}

static void test_bombs(void **state)
{
    (void)state;
    need(CODE_PYTHON);
    struct answer answer = call(CODE_PYTHON,
                                "import os, threading, time\n"
                                "def main():\n"
                                "    made = 0\n"
                                "    for i in range(100000):\n"
                                "        try: threading.Thread(target=time.sleep, args=(30,), "
                                "daemon=True).start(); made += 1\n"
                                "        except RuntimeError: return {'bounded': True}\n"
                                "        except MemoryError: return {'bounded': True}\n"
                                "    return {'made': made}\n",
                                "{}");
    assert_true(answer.code != ERR_NONE || !strstr(answer.text, "made"));
    expect(call(CODE_PYTHON, "def main(): return {}", "{}"), "{}|");
}

static void test_refused_without_walls(void **state)
{
    (void)state;
    sandbox_pretend_without(true, true);
    expect_error(call(CODE_PYTHON, "def main(): return {}", "{}"), ERR_FORBIDDEN,
                 "code cannot run here: ");
    sandbox_pretend_without(false, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_javascript, setup, teardown),
        cmocka_unit_test_setup_teardown(test_python, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_inputs_and_outputs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_child_serves_one_script_of_one_project, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_killed_child_costs_its_own_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds_of_time_and_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_python_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_calls_than_children, setup, teardown),
        cmocka_unit_test_setup_teardown(test_projects_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopping_tells_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_escapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bombs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_without_walls, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
