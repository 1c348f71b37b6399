/* See code_pool.h. Everything but starting and cancelling happens on the pool's own thread: a call
 * goes there as a task and comes back as one. A call has two holders, who called and the pool; the
 * last one frees it. */
#include "pipeline/nodes/code_pool.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "io/child.h"
#include "io/sandbox.h"
#include "text/json_writer.h"
#include "text/json.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX    16
#define IDLE_NS         (300 * NS_PER_S)
#define KILL_NS         NS_PER_MS /* a script may ignore what asks it to end */
#define CPU_S_MAX       600
#define PATHS_MAX       32
#define LAST_WORDS_MAX  200
#define FRAME_BYTES_MAX (6 * CODE_OUTPUT_BYTES_MAX + 128 * 1024) /* written as \uXXXX */

extern const struct str code_child_js, code_child_py; /* embedded by the build */

enum child_state { CHILD_IDLE, CHILD_BUSY, CHILD_ENDING };

struct interpreter {
    struct list node; /* pool->children */
    struct code_pool *pool;
    struct child *child;
    enum code_language language;
    enum child_state state;
    bool blank;
    struct id project;
    uint8_t source[SHA256_BYTES];
    struct code_call *call; /* BUSY */
    struct buf answer;
    struct watch input; /* until the request is written */
    bool watching;
    size_t written;
    uint32_t calls;
    struct timer timer;              /* BUSY: the call's time; IDLE: until it goes */
    const char *why;                 /* it was ended */
    char last_words[LAST_WORDS_MAX]; /* of its standard error */
};

struct code_call {
    struct code_pool *pool;
    struct loop *home;
    struct task task, cancel_task;
    struct list node; /* pool->waiting */
    int holders;      /* atomic */
    code_told *told;
    void *arg;
    bool cancelled; /* home's */
    bool dropped;   /* the pool's: cancelled before it ended */
    bool over;      /* the pool's: told, or about to be */
    enum code_language language;
    struct id project;
    uint8_t source[SHA256_BYTES];
    int64_t time_ns;
    struct buf frame; /* what the child reads */
    struct interpreter *interpreter;
    struct buf answer; /* what it wrote */
    struct err err;
};

struct code_pool {
    struct code_pool_options options;
    char programs[CODE_LANGUAGE_COUNT][PATH_MAX], libraries[PATH_MAX];
    const char *paths[PATHS_MAX];
    pthread_mutex_t lock; /* of starting the thread */
    pthread_t thread;
    bool running, stopped; /* stopped: atomic, never unset */
    struct loop *loop;
    struct task stop_task;
    bool stopping;
    struct list children, waiting;
    struct id last_project; /* whose call was begun last */
    int child_count;
    int waiting_count; /* atomic: calls that were given to the pool and not told */
    uint64_t started;  /* atomic */
};

static void call_release(struct code_call *call)
{
    if (__atomic_sub_fetch(&call->holders, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    buf_fini(&call->frame);
    buf_fini(&call->answer);
    free(call);
}

/* ---- home ---- */

static void tell_home(struct task *task)
{
    struct code_call *call = CONTAINER_OF(task, struct code_call, task);
    struct arena arena;
    yyjson_doc *doc;
    struct str json = STR_EMPTY, log = STR_EMPTY;
    if (call->cancelled) {
        call_release(call);
        return;
    }
    arena_init(&arena, 8 * FRAME_BYTES_MAX);
    if (call->err.code == ERR_NONE &&
        json_read(buf_str(&call->answer), &arena, &doc, NULL) == RC_OK) {
        yyjson_val *root = yyjson_doc_get_root(doc), *result = yyjson_obj_get(root, "result");
        log = json_get_text(root, "log");
        if (json_get_bool(root, "ok", false) && yyjson_is_obj(result))
            json = json_write(result, &arena);
        else
            err_set(&call->err, ERR_INVALID, "%.*s", STR_ARG(json_get_text(root, "error")));
        if (json.n > CODE_OUTPUT_BYTES_MAX)
            err_set(&call->err, ERR_TOO_LARGE, "the code's outputs are larger than %d KiB",
                    CODE_OUTPUT_BYTES_MAX >> 10);
    } else if (call->err.code == ERR_NONE) {
        err_set(&call->err, ERR_INVALID, "the code's process wrote what is no answer");
    }
    call->told(call->arg, json, log, call->err.code == ERR_NONE ? NULL : &call->err);
    arena_fini(&arena);
    call_release(call);
    call_release(call); /* the caller's hold ends with this */
}

/* ---- the end of a call, on the pool's thread ---- */

static void call_over(struct code_call *call)
{
    ASSERT(!call->over);
    call->over = true;
    call->interpreter = NULL;
    __atomic_sub_fetch(&call->pool->waiting_count, 1, __ATOMIC_RELAXED);
    if (call->pool->stopping) {
        call_release(call); /* nobody is told */
        return;
    }
    call->task.run = tell_home;
    loop_post(call->home, &call->task);
}

/* ---- children ---- */

static void dispatch(struct code_pool *pool);
static void keep_spare(struct code_pool *pool);

static void input_close(struct interpreter *interpreter)
{
    if (interpreter->watching)
        loop_unwatch(interpreter->pool->loop, &interpreter->input);
    interpreter->watching = false;
}

static void interpreter_end(struct interpreter *interpreter, const char *why)
{
    if (interpreter->state == CHILD_ENDING)
        return;
    interpreter->state = CHILD_ENDING;
    interpreter->why = why;
    timer_stop(&interpreter->timer);
    input_close(interpreter);
    child_end(interpreter->child, KILL_NS);
}

static void on_timer(struct timer *timer)
{
    struct interpreter *interpreter = CONTAINER_OF(timer, struct interpreter, timer);
    struct code_call *call = interpreter->call;
    if (call)
        err_set(&call->err, ERR_TIMEOUT, "the code took longer than %lld ms",
                (long long)(call->time_ns / NS_PER_MS));
    interpreter_end(interpreter, "it took too long");
}

static void become_idle(struct interpreter *interpreter)
{
    struct code_pool *pool = interpreter->pool;
    interpreter->state = CHILD_IDLE;
    interpreter->call = NULL;
    timer_start(pool->loop, &interpreter->timer, IDLE_NS);
    if (interpreter->calls >= CODE_CALLS_MAX)
        interpreter_end(interpreter, "it has served long enough");
}

static void on_answer(struct interpreter *interpreter)
{
    struct code_call *call = interpreter->call;
    timer_stop(&interpreter->timer);
    input_close(interpreter); /* an answer before it has read all is one, too */
    call->answer = interpreter->answer;
    buf_init(&interpreter->answer, FRAME_BYTES_MAX);
    become_idle(interpreter);
    if (interpreter->state == CHILD_IDLE && interpreter->written < buf_len(&call->frame))
        interpreter_end(interpreter, "it did not read its request");
    call_over(call);
    dispatch(interpreter->pool);
    keep_spare(interpreter->pool);
}

/* "+piece" or "=last piece" */
static void on_line(void *owner, struct child *child, bool is_stderr, struct str line)
{
    struct interpreter *interpreter = owner;
    UNUSED(child);
    if (is_stderr) {
        if (line.n && (str_find(line, STR("memory")) >= 0 || !interpreter->last_words[0]))
            snprintf(interpreter->last_words, LAST_WORDS_MAX, "%.*s", STR_ARG(line));
        return;
    }
    if (interpreter->state == CHILD_ENDING)
        return;
    if (interpreter->state != CHILD_BUSY || !line.n || (line.p[0] != '+' && line.p[0] != '=')) {
        interpreter_end(interpreter, "it wrote something that is no answer");
        return;
    }
    if (buf_append(&interpreter->answer, str_slice(line, 1, line.n)) != RC_OK) {
        err_set(&interpreter->call->err, ERR_TOO_LARGE, "the code's outputs are larger than %d KiB",
                CODE_OUTPUT_BYTES_MAX >> 10);
        interpreter_end(interpreter, "it wrote too much");
        return;
    }
    if (line.p[0] == '=')
        on_answer(interpreter);
}

static void explain_end(const struct interpreter *interpreter, int status, const char *reason,
                        struct err *err)
{
    bool memory = str_find(str_from(interpreter->last_words), STR("memory")) >= 0 ||
                  (reason && strstr(reason, "memory"));
    if (memory)
        err_set(err, ERR_INVALID, "the code used more memory than it may (%lld MiB)",
                CODE_MEMORY_BYTES_MAX >> 20);
    else if (WIFSIGNALED(status))
        err_set(err, ERR_INVALID, "the code's process was ended by signal %d%s%s", WTERMSIG(status),
                interpreter->why ? ": " : "", interpreter->why ? interpreter->why : "");
    else
        err_set(err, ERR_INVALID, "the code's process ended (%d)%s%s", WEXITSTATUS(status),
                interpreter->last_words[0] ? ": " : "", interpreter->last_words);
}

static void on_ended(void *owner, struct child *child, int status, const char *reason)
{
    struct interpreter *interpreter = owner;
    struct code_pool *pool = interpreter->pool;
    struct code_call *call = interpreter->call;
    UNUSED(child);
    timer_stop(&interpreter->timer);
    input_close(interpreter);
    list_remove(&interpreter->node);
    pool->child_count--;
    if (call) {
        if (call->err.code == ERR_NONE)
            explain_end(interpreter, status, reason, &call->err);
        call_over(call);
    }
    buf_fini(&interpreter->answer);
    free(interpreter);
    if (pool->stopping && pool->child_count == 0)
        loop_stop(pool->loop);
    else if (!pool->stopping)
        dispatch(pool);
}

static const struct child_owner calls_of_child = {on_line, on_ended};

static struct interpreter *interpreter_start(struct code_pool *pool, enum code_language language,
                                             struct err *err)
{
    const char *program = pool->programs[language];
    const char *const javascript[] = {
        program, "--max-old-space-size=192", "--no-warnings", "-e", code_child_js.p, NULL};
    const char *const python[] = {program, "-I", "-c", code_child_py.p, NULL};
    static const char *const envp[] = {"PATH=/usr/bin", "LANG=C.UTF-8", "HOME=/",
                                       "UV_THREADPOOL_SIZE=1", NULL};
    const struct confinement confinement = {.profile = SANDBOX_CODE,
                                            .read_paths = pool->paths,
                                            .cpu_s_max = CPU_S_MAX,
                                            .memory_bytes_max = CODE_MEMORY_BYTES_MAX,
                                            .file_bytes_max = FRAME_BYTES_MAX,
                                            .open_files_max = 64,
                                            .nice = 5,
                                            .no_core = true};
    const struct child_options options = {
        .argv = language == CODE_PYTHON ? python : javascript,
        .envp = envp,
        .directory = "/",
        .confinement = &confinement,
        .stdin_pipe = true,
        .resident_bytes_max = CODE_MEMORY_BYTES_MAX,
    };
    if (!program[0]) {
        err_set(err, ERR_FORBIDDEN, "code cannot run here: there is no %s",
                language == CODE_PYTHON ? "Python (python3)" : "Node.js (node)");
        return NULL;
    }
    struct interpreter *interpreter = xcalloc(1, sizeof(*interpreter));
    interpreter->pool = pool;
    interpreter->language = language;
    interpreter->blank = true;
    timer_init(&interpreter->timer, on_timer);
    buf_init(&interpreter->answer, FRAME_BYTES_MAX);
    interpreter->child = child_start(pool->loop, &options, &calls_of_child, interpreter, err);
    if (!interpreter->child) {
        free(interpreter);
        return NULL;
    }
    list_push_back(&pool->children, &interpreter->node);
    pool->child_count++;
    __atomic_add_fetch(&pool->started, 1, __ATOMIC_RELAXED);
    become_idle(interpreter);
    return interpreter;
}

/* ---- a request on its way into the child ---- */

static void feed(struct interpreter *interpreter)
{
    struct str frame = buf_str(&interpreter->call->frame);
    int fd = child_stdin(interpreter->child);
    while (interpreter->written < frame.n) {
        ssize_t n = write(fd, frame.p + interpreter->written, frame.n - interpreter->written);
        if (n > 0) {
            interpreter->written += (size_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            if (!interpreter->watching)
                interpreter->watching =
                    loop_watch(interpreter->pool->loop, &interpreter->input, LOOP_WRITE) == RC_OK;
            return;
        } else {
            break; /* it has ended; that is told */
        }
    }
    input_close(interpreter);
}

static void on_writable(struct watch *watch, unsigned events)
{
    UNUSED(events);
    feed(CONTAINER_OF(watch, struct interpreter, input));
}

static void interpreter_take(struct interpreter *interpreter, struct code_call *call)
{
    struct code_pool *pool = interpreter->pool;
    ASSERT(interpreter->state == CHILD_IDLE);
    interpreter->state = CHILD_BUSY;
    interpreter->blank = false;
    interpreter->project = call->project;
    memcpy(interpreter->source, call->source, sizeof(call->source));
    interpreter->call = call;
    interpreter->calls++;
    interpreter->written = 0;
    interpreter->last_words[0] = 0;
    interpreter->input =
        (struct watch){.fd = child_stdin(interpreter->child), .ready = on_writable};
    buf_clear(&interpreter->answer);
    call->interpreter = interpreter;
    pool->last_project = call->project;
    list_remove(&call->node);
    timer_start(pool->loop, &interpreter->timer, call->time_ns);
    feed(interpreter);
}

/* ---- who gets which child ---- */

static int busy_for(const struct code_pool *pool, struct id project)
{
    int busy = 0;
    LIST_FOR_EACH (one, &pool->children, struct interpreter, node)
        busy += one->state == CHILD_BUSY && id_eq(one->project, project);
    return busy;
}

/* The call that has waited longest among those of the projects that have the fewest at work; the
 * project that came last comes after its equals. */
static struct code_call *pick_call(const struct code_pool *pool)
{
    struct code_call *best = NULL;
    int fewest = INT_MAX;
    LIST_FOR_EACH (call, &pool->waiting, struct code_call, node) {
        if (best && id_eq(best->project, call->project))
            continue;
        int busy = 2 * busy_for(pool, call->project) + id_eq(pool->last_project, call->project);
        if (busy < fewest) {
            best = call;
            fewest = busy;
        }
        if (fewest == 0)
            break;
    }
    return best;
}

/* One that ran the same before, else a blank one; *oldest: an idle one that is neither. */
static struct interpreter *find_idle(const struct code_pool *pool, const struct code_call *call,
                                     struct interpreter **oldest)
{
    struct interpreter *blank = NULL;
    *oldest = NULL;
    LIST_FOR_EACH (one, &pool->children, struct interpreter, node) {
        bool same = one->language == call->language;
        if (one->state != CHILD_IDLE)
            continue;
        if (same && !one->blank && id_eq(one->project, call->project) &&
            memcmp(one->source, call->source, SHA256_BYTES) == 0)
            return one;
        if (same && one->blank)
            blank = one;
        else if (!*oldest || one->timer.due_ns < (*oldest)->timer.due_ns)
            *oldest = one;
    }
    return blank;
}

/* A blank one of each language that is in use, for the next script. */
static void keep_spare(struct code_pool *pool)
{
    bool used[CODE_LANGUAGE_COUNT] = {false}, blank[CODE_LANGUAGE_COUNT] = {false};
    struct err ignored = {0};
    LIST_FOR_EACH (one, &pool->children, struct interpreter, node) {
        used[one->language] |= !one->blank;
        blank[one->language] |= one->blank;
    }
    for (int language = 0; language < CODE_LANGUAGE_COUNT; language++)
        if (used[language] && !blank[language] && pool->child_count < pool->options.children_max)
            (void)!interpreter_start(pool, (enum code_language)language, &ignored);
}

static bool any_ends(const struct code_pool *pool)
{
    LIST_FOR_EACH (one, &pool->children, struct interpreter, node)
        if (one->state == CHILD_ENDING)
            return true;
    return false;
}

static void dispatch(struct code_pool *pool)
{
    struct code_call *call;
    while (!pool->stopping && (call = pick_call(pool))) {
        struct interpreter *oldest, *chosen = find_idle(pool, call, &oldest);
        if (!chosen && pool->child_count >= pool->options.children_max) {
            if (oldest && !any_ends(pool))
                interpreter_end(oldest, "its place is needed");
            return; /* goes on when a child is free or has ended */
        }
        if (!chosen)
            chosen = interpreter_start(pool, call->language, &call->err);
        if (chosen) {
            interpreter_take(chosen, call);
        } else {
            list_remove(&call->node);
            call_over(call);
        }
    }
}

/* ---- tasks from the loops ---- */

static void take_call(struct task *task)
{
    struct code_call *call = CONTAINER_OF(task, struct code_call, task);
    struct code_pool *pool = call->pool;
    list_push_back(&pool->waiting, &call->node);
    if (sandbox_check(SANDBOX_CODE, &call->err) != RC_OK) {
        err_prefix(&call->err, "code cannot run here");
        list_remove(&call->node);
        call_over(call);
    } else {
        dispatch(pool);
    }
}

static void cancel_call(struct task *task)
{
    struct code_call *call = CONTAINER_OF(task, struct code_call, cancel_task);
    if (!call->over && call->interpreter) {
        err_set(&call->err, ERR_CANCELLED, "cancelled");
        interpreter_end(call->interpreter, "its call was cancelled");
    } else if (!call->over) {
        list_remove(&call->node);
        call_over(call);
    }
    call_release(call);
}

/* ---- life ---- */

/* A program and no script: what starts another interpreter (a version manager's shim) would not
 * find it behind the walls. */
static bool is_program(const char *path)
{
    char magic[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, magic, sizeof(magic));
    close(fd);
    return n == 4 && memcmp(magic, "\177ELF", 4) == 0 && access(path, X_OK) == 0;
}

/* The system's first, since its folders are what the walls show. */
static void find_program(const char *name, struct str configured, char out[PATH_MAX])
{
    const char *path = getenv("PATH");
    char all[8192], candidate[PATH_MAX];
    snprintf(all, sizeof(all), "/usr/local/bin:/usr/bin:%s", path ? path : "");
    struct str rest = str_from(all), folder;
    bool found = false;
    if (configured.n) {
        snprintf(candidate, sizeof(candidate), "%.*s", STR_ARG(configured));
        found = realpath(candidate, out) != NULL;
    }
    while (!configured.n && !found && str_split(&rest, ':', &folder)) {
        int n = snprintf(candidate, sizeof(candidate), "%.*s/%s", STR_ARG(folder), name);
        found = n > 0 && (size_t)n < sizeof(candidate) && candidate[0] == '/' &&
                realpath(candidate, out) && is_program(out);
    }
    if (!found)
        out[0] = 0;
}

/* The system's folders, and of interpreters elsewhere the program and Python's library. */
static void fill_paths(struct code_pool *pool)
{
    size_t count = 0;
    for (const char *const *path = SANDBOX_SYSTEM_PATHS; *path && count + 4 < PATHS_MAX; path++)
        pool->paths[count++] = *path;
    for (int i = 0; i < CODE_LANGUAGE_COUNT; i++)
        if (pool->programs[i][0] && strncmp(pool->programs[i], "/usr/", 5) != 0)
            pool->paths[count++] = pool->programs[i];
    const char *python = pool->programs[CODE_PYTHON], *bin = strstr(python, "/bin/");
    if (bin && strncmp(python, "/usr/", 5) != 0) {
        snprintf(pool->libraries, sizeof(pool->libraries), "%.*s/lib", (int)(bin - python), python);
        pool->paths[count++] = pool->libraries;
    }
    pool->paths[count] = NULL;
}

struct code_pool *code_pool_new(const struct code_pool_options *options)
{
    struct code_pool *pool = xcalloc(1, sizeof(*pool));
    int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    pool->options = *options;
    if (pool->options.children_max <= 0)
        pool->options.children_max = MIN(MAX(2 * processors, 4), CHILDREN_MAX);
    find_program("node", options->programs[CODE_JAVASCRIPT], pool->programs[CODE_JAVASCRIPT]);
    find_program("python3", options->programs[CODE_PYTHON], pool->programs[CODE_PYTHON]);
    fill_paths(pool);
    list_init(&pool->children);
    list_init(&pool->waiting);
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

static void *pool_main(void *arg)
{
    struct code_pool *pool = arg;
    pthread_setname_np(pthread_self(), "code");
    loop_run(pool->loop);
    return NULL;
}

static enum rc pool_begin(struct code_pool *pool, struct err *err)
{
    enum rc rc = RC_OK;
    pthread_mutex_lock(&pool->lock);
    if (__atomic_load_n(&pool->stopped, __ATOMIC_ACQUIRE)) {
        rc = err_set(err, ERR_OVERLOADED, "the server is stopping");
    } else if (!pool->running) {
        pool->loop = loop_new(0);
        pool->running = pthread_create(&pool->thread, NULL, pool_main, pool) == 0;
        if (!pool->running) {
            loop_free(pool->loop);
            rc = err_set(err, ERR_OVERLOADED, "there is no thread for code");
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

static void stop_pool(struct task *task)
{
    struct code_pool *pool = CONTAINER_OF(task, struct code_pool, stop_task);
    pool->stopping = true;
    LIST_FOR_EACH_SAFE (call, &pool->waiting, struct code_call, node) {
        list_remove(&call->node);
        call_over(call);
    }
    LIST_FOR_EACH_SAFE (one, &pool->children, struct interpreter, node)
        interpreter_end(one, "the server stops");
    if (pool->child_count == 0)
        loop_stop(pool->loop);
}

void code_pool_stop(struct code_pool *pool)
{
    if (!pool || __atomic_exchange_n(&pool->stopped, true, __ATOMIC_ACQ_REL))
        return;
    pthread_mutex_lock(&pool->lock);
    bool running = pool->running;
    pthread_mutex_unlock(&pool->lock);
    if (!running)
        return;
    pool->stop_task.run = stop_pool;
    loop_post(pool->loop, &pool->stop_task);
    pthread_join(pool->thread, NULL);
    loop_free(pool->loop);
}

void code_pool_free(struct code_pool *pool)
{
    if (!pool)
        return;
    code_pool_stop(pool);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* ---- calls ---- */

static void make_frame(struct code_call *call, const struct code_request *request)
{
    buf_init(&call->frame, CODE_INPUT_BYTES_MAX + 6 * CODE_SOURCE_BYTES_MAX + 64);
    struct json_writer w = json_writer_to(&call->frame);
    json_begin_object(&w);
    json_put_string(&w, "source", request->source);
    json_put_raw(&w, "inputs", request->inputs);
    json_end_object(&w);
    json_append(&w, STR("\n"));
    ASSERT(w.rc == RC_OK); /* both are bounded, and a byte takes at most six */
}

struct code_call *code_call_start(struct code_pool *pool, const struct code_request *request,
                                  code_told *told, void *arg, struct err *err)
{
    if (request->source.n > CODE_SOURCE_BYTES_MAX || request->inputs.n > CODE_INPUT_BYTES_MAX) {
        err_set(err, ERR_TOO_LARGE, "the code or its inputs are larger than %d MiB",
                CODE_INPUT_BYTES_MAX >> 20);
        return NULL;
    }
    if (pool_begin(pool, err) != RC_OK)
        return NULL;
    if (__atomic_add_fetch(&pool->waiting_count, 1, __ATOMIC_RELAXED) > CODE_WAITING_MAX) {
        __atomic_sub_fetch(&pool->waiting_count, 1, __ATOMIC_RELAXED);
        err_set(err, ERR_OVERLOADED, "too many code nodes wait; try again soon");
        return NULL;
    }
    struct code_call *call = xcalloc(1, sizeof(*call));
    call->pool = pool;
    call->home = loop_current();
    call->holders = 2;
    call->told = told;
    call->arg = arg;
    call->language = request->language;
    call->project = request->project;
    call->time_ns = MIN(request->time_ns ? request->time_ns : CODE_TIME_NS, CODE_TIME_NS_MAX);
    hash_sha256(request->source.p, request->source.n, call->source);
    make_frame(call, request);
    call->task.run = take_call;
    loop_post(pool->loop, &call->task);
    return call;
}

void code_call_cancel(struct code_call *call)
{
    struct code_pool *pool = call->pool;
    call->cancelled = true;
    if (!__atomic_load_n(&pool->stopped, __ATOMIC_ACQUIRE)) {
        __atomic_add_fetch(&call->holders, 1, __ATOMIC_RELAXED);
        call->cancel_task.run = cancel_call;
        loop_post(pool->loop, &call->cancel_task);
    }
    call_release(call);
}

uint64_t code_pool_started(const struct code_pool *pool)
{
    return __atomic_load_n(&pool->started, __ATOMIC_RELAXED);
}
