/* The life of one engine: a table of legal moves, one function that moves, and what happens in each
 * state. All on the supervisor's loop; what other threads may call is in engines.c.
 *
 *   STOPPED ──want──▶ CHECKING ──file is right──▶ STARTING ──health says 200──▶ READY
 *      ▲                 │ │                         │  ╲                        │  │
 *      │                 │ └─wrong file──▶ FAILED    │   ╲──child ends──┐        │  │
 *      └──STOPPING◀──────┴───────stop────────────────┴─────────────┐    ▼        │  │
 *            ▲                                                     └─ WAITING◀──dies │
 *            └───────────────────stop, idle, hangs──────────────────────────────────┘
 *
 * Invariants: a child exists exactly in STARTING, READY and STOPPING; requests wait only while the
 * engine is on its way to READY; each start has its own secret. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rand.h"
#include "model/engine_private.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEALTH_STARTING_NS    (50 * NS_PER_MS)  /* between two questions while it loads */
#define HEALTH_AGAIN_NS       (500 * NS_PER_MS) /* after a silence */
#define HEALTH_READY_NS       (10 * NS_PER_S)
#define HEALTH_TIMEOUT_NS     (3 * NS_PER_S)
#define HEALTH_FAILURES_MAX   3
#define HEALTH_BODY_STATUS_OK 200
#define START_LIMIT_NS        (600 * NS_PER_S) /* a large model from a slow disk */
#define END_GRACE_NS          (2 * NS_PER_S)
#define BACKOFF_FIRST_NS      (250 * NS_PER_MS)
#define BACKOFF_MAX_NS        (60 * NS_PER_S)
#define STEADY_NS                                                                                  \
    (30 * NS_PER_S) /* ready for so long: the next end is not counted as a start's                 \
                     */
#define FAILURES_TO_REFUSE                                                                         \
    2 /* so many failed starts in a row: calls get the error, not the wait                         \
       */
#define FAILED_RETRY_NS (5 * NS_PER_S)

#define MOVE(from, to) [ENGINE_##from][ENGINE_##to] = true

/* The legal moves. */
static const bool MOVES[][ENGINE_STATE_COUNT] = {
    MOVE(STOPPED, CHECKING), MOVE(CHECKING, STARTING), MOVE(CHECKING, FAILED),
    MOVE(CHECKING, STOPPED), MOVE(CHECKING, WAITING),  MOVE(STARTING, READY),
    MOVE(STARTING, WAITING), MOVE(STARTING, STOPPING), MOVE(READY, WAITING),
    MOVE(READY, STOPPING),   MOVE(WAITING, CHECKING),  MOVE(WAITING, STOPPED),
    MOVE(FAILED, CHECKING),  MOVE(FAILED, STOPPED),    MOVE(STOPPING, STOPPED),
};

static void begin_start(struct engine *engine);

static void engine_move(struct engine *engine, enum engine_state to)
{
    ASSERT(MOVES[engine->state][to]);
    engine->state = to;
    timer_stop(&engine->timer);
    engine_publish(engine);
}

/* ---- what it said ---- */

/* llama-server's lines look like "0.06.350.937 E srv  load_model: …"; the letter is the level. */
static char line_level(struct str line)
{
    struct str rest = line, stamp, letter;
    if (str_split(&rest, ' ', &stamp) && str_split(&rest, ' ', &letter) && letter.n == 1)
        return letter.p[0];
    return '?';
}

/* Lines that tell why, should it end now. */
static void keep_words(struct engine *engine, struct str line)
{
    char *word = engine->words[engine->word_count++ % ENGINE_WORDS_MAX];
    snprintf(word, ENGINE_WORD_BYTES_MAX, "%.*s", (int)MIN(line.n, ENGINE_WORD_BYTES_MAX - 1),
             line.p);
}

/* The last line that speaks of an error, else the last one; empty when there was none. */
static const char *last_words(const struct engine *engine)
{
    uint32_t count = MIN(engine->word_count, ENGINE_WORDS_MAX);
    for (uint32_t back = 1; back <= count; back++) {
        const char *word = engine->words[(engine->word_count - back) % ENGINE_WORDS_MAX];
        if (line_level(str_from(word)) == 'E' || strcasestr(word, "error") ||
            strcasestr(word, "failed"))
            return word;
    }
    return count ? engine->words[(engine->word_count - 1) % ENGINE_WORDS_MAX] : "";
}

static void child_line(void *owner, struct child *child, bool is_stderr, struct str line)
{
    struct engine *engine = owner;
    CHECK_MAGIC(engine, ENGINE_MAGIC);
    char level = line_level(line);
    if (level != 'I' && level != 'D' && line.n)
        keep_words(engine, line);
    log_event(level == 'E'   ? LOG_WARN
              : level == 'W' ? LOG_INFO
                             : LOG_DEBUG,
              "engine_output", LOG_STR("model", engine->spec.name), LOG_STR("line", line));
}

/* ---- failing ---- */

void engine_refuse_waiting(struct engine *engine, enum err_code code, const char *message)
{
    LIST_FOR_EACH_SAFE (request, &engine->waiting, struct engine_request, node) {
        list_remove(&request->node);
        engine->waiting_count--;
        err_set(&request->err, code, "%s", message);
        engine_request_answer(request, NULL);
    }
}

static void set_error(struct engine *engine, enum err_code code, const char *message)
{
    engine->error_code = code;
    snprintf(engine->error, sizeof(engine->error), "%s", message);
    log_event(LOG_WARN, "engine_failed", LOG_STR("model", engine->spec.name),
              LOG_Z("error", engine->error));
}

/* It will not come up by itself: the calls that wait learn why. */
static void engine_fail(struct engine *engine, enum err_code code, const char *message)
{
    set_error(engine, code, message);
    engine->used_ns = loop_now_ns(engine->owner->loop);
    engine_move(engine, ENGINE_FAILED);
    engine_refuse_waiting(engine, code, engine->error);
}

static int64_t backoff_ns(const struct engine *engine)
{
    int64_t ns = BACKOFF_FIRST_NS;
    for (uint32_t i = 1; i < engine->failures && ns < BACKOFF_MAX_NS; i++)
        ns *= 2;
    /* Up to a quarter more, so that engines which fail together do not come back together. */
    ns = MIN(ns, BACKOFF_MAX_NS);
    return ns + (int64_t)rand_below((uint64_t)(ns / 4));
}

/* After the child has ended, or could not be started: whether it comes again, and when. */
static void engine_await_restart(struct engine *engine, const char *message)
{
    struct loop *loop = engine->owner->loop;
    bool was_steady =
        engine->state == ENGINE_READY && loop_now_ns(loop) - engine->ready_ns > STEADY_NS;
    bool never_ready = engine->state != ENGINE_READY;
    engine->failures = was_steady ? 1 : engine->failures + 1;
    set_error(engine, ERR_ENGINE_FAILED, message);
    engine_move(engine, ENGINE_WAITING);
    if (never_ready)
        engine_refuse_waiting(engine, engine->error_code, engine->error);
    timer_start(loop, &engine->timer, backoff_ns(engine));
}

/* ---- the child ---- */

static void forget_health(struct engine *engine)
{
    if (engine->health)
        http_exchange_cancel(engine->health);
    engine->health = NULL;
    engine->health_failures = 0;
}

/* At rest: a spec that waited is taken, and calls that came meanwhile start it again. */
static void engine_settle_stopped(struct engine *engine)
{
    bool wanted = engine->start_again || !list_empty(&engine->waiting);
    engine->start_again = false;
    engine->error[0] = 0;
    engine_move(engine, ENGINE_STOPPED);
    if (engine->next_arena)
        engine_take_spec(engine);
    if (engine->remove || engine->owner->stopping)
        engine_refuse_waiting(engine, ERR_ENGINE_FAILED, "the model was stopped");
    else if (wanted)
        begin_start(engine);
    engine_rested(engine);
}

static void child_ended(void *owner, struct child *child, int status, const char *reason)
{
    struct engine *engine = owner;
    CHECK_MAGIC(engine, ENGINE_MAGIC);
    ASSERT(engine->child == child);
    engine->child = NULL;
    engine->leases = 0;
    forget_health(engine);
    if (!engine->spec.command_count)
        unlink(engine->endpoint.url + strlen("unix:"));
    if (engine->state == ENGINE_STOPPING) {
        engine_settle_stopped(engine);
        return;
    }
    char how[128], message[ENGINE_ERROR_BYTES_MAX];
    if (reason && reason[0])
        snprintf(how, sizeof(how), "%s", reason);
    else if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
    const char *words = last_words(engine);
    snprintf(message, sizeof(message), "the engine of %.*s %s%s%s", STR_ARG(engine->spec.name), how,
             words[0] ? ": " : "", words);
    engine_await_restart(engine, message);
}

static const struct child_owner CHILD_CALLS = {.line = child_line, .ended = child_ended};

/* The socket's path must end in .sock and fit sun_path; a file left by an earlier child must go. */
static enum rc make_endpoint(struct engine *engine, struct err *err)
{
    struct endpoint_texts *to = &engine->endpoint;
    if (engine->spec.command_count) {
        snprintf(to->url, sizeof(to->url), "%.*s", STR_ARG(engine->spec.base_url));
        snprintf(to->api_key, sizeof(to->api_key), "%.*s", STR_ARG(engine->spec.api_key));
        return RC_OK;
    }
    uint8_t secret[ENGINE_KEY_BYTES];
    rand_secret(secret, sizeof(secret));
    hex_encode(secret, sizeof(secret), to->api_key);
    char path[ENGINE_SOCKET_BYTES_MAX + 32];
    int n = snprintf(path, sizeof(path), "%s/%08x.sock", engine->owner->run_directory,
                     (unsigned)(hash_xxh3(engine->spec.key.p, engine->spec.key.n) & 0xffffffff));
    if (n < 0 || (size_t)n >= ENGINE_SOCKET_BYTES_MAX)
        return err_set(err, ERR_ENGINE_FAILED, "the path of the engine's socket is too long: %s",
                       path);
    unlink(path);
    snprintf(to->url, sizeof(to->url), "unix:%s", path);
    return RC_OK;
}

static void start_child(struct engine *engine)
{
    struct engines *owner = engine->owner;
    struct err err = {0};
    struct engine_command command;
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    enum rc rc = make_endpoint(engine, &err);
    if (rc == RC_OK) {
        rc = engine_command_make(&engine->spec, &owner->program,
                                 engine->endpoint.url + strlen("unix:"), engine->endpoint.api_key,
                                 &arena, &command);
        if (rc)
            err_set(&err, ERR_ENGINE_FAILED, "the engine's command line is too long");
    }
    if (rc == RC_OK) {
        struct child_options options = {.argv = command.argv,
                                        .envp = command.envp,
                                        .resident_bytes_max = engine->spec.resident_bytes_max};
        engine->child = child_start(owner->loop, &options, &CHILD_CALLS, engine, &err);
    }
    arena_fini(&arena);
    if (!engine->child) {
        engine_await_restart(engine, err.message);
        return;
    }
    engine->generation++;
    engine->word_count = 0;
    engine->started_ns = loop_now_ns(owner->loop);
    engine_move(engine, ENGINE_STARTING);
    log_event(LOG_INFO, "engine_started", LOG_STR("model", engine->spec.name),
              LOG_I64("pid", child_pid(engine->child)));
    timer_start(owner->loop, &engine->timer, HEALTH_STARTING_NS);
}

/* ---- starting: first the file, then the child ---- */

static void file_checked(struct work *work)
{
    struct file_check *check = CONTAINER_OF(work, struct file_check, work);
    struct engine *engine = check->arg;
    CHECK_MAGIC(engine, ENGINE_MAGIC);
    ASSERT(engine->check == check);
    engine->check = NULL;
    if (check->err.code == ERR_NONE) {
        engine->spec.file_bytes = check->seen_bytes; /* not hashed again until it changes again */
        engine->spec.file_mtime_ns = check->seen_mtime_ns;
    }
    ASSERT(engine->state == ENGINE_CHECKING);
    if (engine->stop_wanted || engine->next_arena) {
        engine->stop_wanted = false;
        engine_settle_stopped(engine);
    } else if (check->err.code != ERR_NONE) {
        engine_fail(engine, ERR_ENGINE_FAILED, check->err.message);
    } else {
        start_child(engine);
    }
    free(check->path);
    free(check);
}

/* The program is known by now, or not needed. */
static void check_file(struct engine *engine)
{
    if (engine->spec.command_count) {
        start_child(engine);
        return;
    }
    if (!engine->owner->program.is.path[0]) {
        engine_fail(engine, ERR_ENGINE_MISSING, engine->owner->program.error);
        return;
    }
    struct file_check *check = xcalloc(1, sizeof(*check));
    check->work =
        (struct work){.home = engine->owner->loop, .work = file_check_run, .done = file_checked};
    check->path = strndup(engine->spec.model_file.p, engine->spec.model_file.n);
    check->sha256 = engine->spec.sha256;
    check->file_bytes = engine->spec.file_bytes;
    check->file_mtime_ns = engine->spec.file_mtime_ns;
    check->arg = engine;
    engine->check = check;
    if (worker_submit(engine->owner->workers, &check->work) != RC_OK) {
        engine->check = NULL;
        free(check->path);
        free(check);
        engine_await_restart(engine, "the server is too busy to check the model file");
    }
}

static void begin_start(struct engine *engine)
{
    engine->error[0] = 0;
    engine_move(engine, ENGINE_CHECKING);
    if (engine->owner->program_known || engine->spec.command_count)
        check_file(engine);
    /* else engine_program_changed goes on */
}

void engine_program_changed(struct engine *engine)
{
    if (engine->state == ENGINE_CHECKING && !engine->check && engine->owner->program_known)
        check_file(engine);
    else if (engine->state == ENGINE_FAILED && engine->error_code == ERR_ENGINE_MISSING)
        engine_move(engine, ENGINE_STOPPED);
}

/* ---- health ---- */

static void engine_ready(struct engine *engine)
{
    struct loop *loop = engine->owner->loop;
    engine->ready_ns = engine->used_ns = loop_now_ns(loop);
    engine->ready_wall_ns = loop_wall_ns(loop);
    engine->error[0] = 0;
    engine_move(engine, ENGINE_READY);
    log_event(LOG_INFO, "engine_ready", LOG_STR("model", engine->spec.name),
              LOG_I64("after_ms", (engine->ready_ns - engine->started_ns) / NS_PER_MS));
    LIST_FOR_EACH_SAFE (request, &engine->waiting, struct engine_request, node) {
        list_remove(&request->node);
        engine->waiting_count--;
        engine_request_answer(request, engine);
    }
}

static void health_head(void *owner, int status, const struct http_headers *headers)
{
    ((struct engine *)owner)->health_status = status;
}

static enum proceed health_data(void *owner, struct str data) { return PROCEED; }

/* Not answering is what a hung engine does: it is ended, and comes back. */
static void health_failed(struct engine *engine)
{
    if (engine->state != ENGINE_READY || ++engine->health_failures < HEALTH_FAILURES_MAX)
        return;
    engine->health_failures = 0;
    keep_words(engine, STR("error: it no longer answered its health check"));
    child_end(engine->child, 0);
}

/* The next look at its health, or the moment when it has been idle for long enough. */
static void arm_ready_timer(struct engine *engine, int64_t delay_ns)
{
    struct loop *loop = engine->owner->loop;
    if (engine->spec.idle_stop_ns > 0 && engine->leases == 0)
        delay_ns = MIN(delay_ns, engine->used_ns + engine->spec.idle_stop_ns - loop_now_ns(loop));
    timer_start(loop, &engine->timer, MAX(delay_ns, NS_PER_MS));
}

static void health_done(void *owner, const struct err *err,
                        const struct http_exchange_timing *timing)
{
    struct engine *engine = owner;
    CHECK_MAGIC(engine, ENGINE_MAGIC);
    engine->health = NULL;
    if (!engine->child)
        return;
    bool ok = !err && engine->health_status == HEALTH_BODY_STATUS_OK;
    if (ok)
        engine->health_failures = 0;
    if (engine->state == ENGINE_STARTING && ok) {
        engine_ready(engine);
    } else if (engine->state == ENGINE_READY && !ok) {
        health_failed(engine);
    }
    if (engine->state == ENGINE_STARTING)
        timer_start(engine->owner->loop, &engine->timer, HEALTH_STARTING_NS);
    else if (engine->state == ENGINE_READY)
        arm_ready_timer(engine, ok ? HEALTH_READY_NS : HEALTH_AGAIN_NS);
}

static const struct http_exchange_owner HEALTH_CALLS = {
    .head = health_head, .data = health_data, .done = health_done};

static void ask_health(struct engine *engine)
{
    struct engines *owner = engine->owner;
    struct err err;
    if (engine->health)
        return;
    struct http_origin *origin = http_client_origin(
        owner->client,
        &(struct http_origin_options){.url = str_from(engine->endpoint.url), .proxy = STR("none")},
        &err);
    if (!origin) {
        keep_words(engine, str_from(err.message));
        child_end(engine->child, END_GRACE_NS);
        return;
    }
    struct str path = engine->spec.health_path.n ? engine->spec.health_path : STR("/health");
    int64_t timeout_ns =
        engine->spec.health_timeout_ns ? engine->spec.health_timeout_ns : HEALTH_TIMEOUT_NS;
    engine->health_status = 0;
    engine->health =
        http_exchange_start(origin,
                            &(struct http_exchange_request){.method = STR("GET"),
                                                            .path = path,
                                                            .connect_timeout_ns = timeout_ns,
                                                            .head_timeout_ns = timeout_ns,
                                                            .idle_timeout_ns = timeout_ns,
                                                            .retry_stale = true},
                            &HEALTH_CALLS, engine);
}

static bool idle_for_long(const struct engine *engine)
{
    int64_t idle_ns = loop_now_ns(engine->owner->loop) - engine->used_ns;
    return engine->spec.idle_stop_ns > 0 && engine->leases == 0 &&
           idle_ns >= engine->spec.idle_stop_ns;
}

static void timer_fired(struct timer *timer)
{
    struct engine *engine = CONTAINER_OF(timer, struct engine, timer);
    CHECK_MAGIC(engine, ENGINE_MAGIC);
    switch (engine->state) {
    case ENGINE_STARTING:
        if (loop_now_ns(engine->owner->loop) - engine->started_ns > START_LIMIT_NS) {
            keep_words(engine, STR("error: it was not ready within ten minutes"));
            child_end(engine->child, END_GRACE_NS);
        } else {
            ask_health(engine);
        }
        break;
    case ENGINE_READY:
        engine_publish(engine); /* its memory */
        if (idle_for_long(engine))
            engine_stop(engine, "idle");
        else
            ask_health(engine);
        break;
    case ENGINE_WAITING:
        /* Comes back by itself only for calls that wait; else the next call starts it. */
        if (!list_empty(&engine->waiting)) {
            engine->restarts++;
            begin_start(engine);
        }
        break;
    default: UNREACHABLE();
    }
}

/* ---- what is asked of it ---- */

void engine_want(struct engine *engine)
{
    switch (engine->state) {
    case ENGINE_STOPPED: begin_start(engine); break;
    case ENGINE_WAITING:
        if (!timer_armed(&engine->timer)) {
            engine->restarts++;
            begin_start(engine);
        }
        break;
    case ENGINE_FAILED: begin_start(engine); break;
    case ENGINE_STOPPING: engine->start_again = true; break;
    default: break;
    }
}

void engine_stop(struct engine *engine, const char *why)
{
    engine->start_again = false;
    switch (engine->state) {
    case ENGINE_STARTING:
    case ENGINE_READY:
        log_event(LOG_INFO, "engine_stopping", LOG_STR("model", engine->spec.name),
                  LOG_Z("why", why));
        forget_health(engine);
        engine_move(engine, ENGINE_STOPPING);
        child_end(engine->child, END_GRACE_NS);
        break;
    case ENGINE_CHECKING:
        engine->stop_wanted = engine->check != NULL; /* when the worker is done */
        if (!engine->check)
            engine_settle_stopped(engine);
        break;
    case ENGINE_WAITING:
    case ENGINE_FAILED:
        engine->failures = 0;
        engine_settle_stopped(engine);
        break;
    case ENGINE_STOPPED: engine_rested(engine); break;
    case ENGINE_STOPPING:
    case ENGINE_STATE_COUNT: break;
    }
}

void engine_spec_changed(struct engine *engine)
{
    switch (engine->state) {
    case ENGINE_STOPPED: engine_take_spec(engine); break;
    case ENGINE_WAITING:
    case ENGINE_FAILED: engine_stop(engine, "changed"); break;
    case ENGINE_STARTING:
        engine_stop(engine, "changed");
        engine->start_again = true;
        break;
    case ENGINE_READY:
        if (engine->leases == 0)
            engine_stop(engine, "changed");
        break;
    default: /* CHECKING and STOPPING take it at their end */ break;
    }
}

static bool refuses_now(const struct engine *engine)
{
    int64_t now = loop_now_ns(engine->owner->loop);
    if (engine->state == ENGINE_FAILED)
        return now - engine->used_ns < FAILED_RETRY_NS;
    return engine->state == ENGINE_WAITING && engine->failures >= FAILURES_TO_REFUSE &&
           timer_armed(&engine->timer);
}

void engine_admit(struct engine *engine, struct engine_request *request)
{
    if (engine->state == ENGINE_READY) {
        engine_request_answer(request, engine);
        return;
    }
    if (engine->remove) {
        err_set(&request->err, ERR_MODEL_NOT_FOUND, "the model was removed");
        engine_request_answer(request, NULL);
        return;
    }
    if (refuses_now(engine)) {
        err_set(&request->err, engine->error_code, "%s", engine->error);
        request->err.retry_after_ms =
            engine->state == ENGINE_WAITING
                ? MAX((engine->timer.due_ns - loop_now_ns(engine->owner->loop)) / NS_PER_MS, 1)
                : 0;
        engine_request_answer(request, NULL);
        return;
    }
    if (engine->waiting_count >= ENGINE_WAITING_MAX) {
        err_set(&request->err, ERR_OVERLOADED, "too many calls wait for the model to start");
        engine_request_answer(request, NULL);
        return;
    }
    list_push_back(&engine->waiting, &request->node);
    engine->waiting_count++;
    engine_want(engine);
}

void engine_return(struct engine *engine, uint32_t generation, bool broken)
{
    ASSERT(engine->references > 0);
    engine->references--;
    if (generation == engine->generation && engine->leases > 0)
        engine->leases--;
    engine->used_ns = loop_now_ns(engine->owner->loop);
    engine->used_wall_ns = loop_wall_ns(engine->owner->loop);
    if (broken && generation == engine->generation && engine->state == ENGINE_READY)
        ask_health(engine);
    else if (engine->state == ENGINE_READY && engine->leases == 0 && !engine->health)
        arm_ready_timer(engine, HEALTH_READY_NS);
    engine_publish(engine);
    if (engine->next_arena && engine->leases == 0 && engine->state == ENGINE_READY)
        engine_stop(engine, "changed");
    if (engine->state == ENGINE_STOPPED)
        engine_rested(engine);
}

void engine_init(struct engine *engine, struct engines *owner)
{
    engine->magic = ENGINE_MAGIC;
    engine->owner = owner;
    engine->state = ENGINE_STOPPED;
    list_init(&engine->node);
    list_init(&engine->waiting);
    timer_init(&engine->timer, timer_fired);
}
