/* See outside.h. A question belongs to the worker and, from outside_begin on, to the loop, too; who
 * lets go last frees it. What stands under `lock` is for both, the rest belongs to the worker
 * before outside_begin and after `done`, and to the loop in between. */
#include "knowledge/outside.h"
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/call.h"
#include "http/client.h"
#include "knowledge/source_private.h"
#include "knowledge/source_url.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_NS (15 * NS_PER_S)
#define LOOK_NS    (100 * NS_PER_MS) /* is it cancelled? */

struct outside {
    int users; /* atomic: the worker and the loop */
    struct knowledge *knowledge;
    struct arena arena;
    struct task begin, cancel;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* monotonic clock */
    bool done;           /* lock */
    bool begun;          /* the worker's: it was handed over */
    struct timer deadline;
    struct outside_request request;
    struct http_exchange *exchange;
    struct principal principal;
    struct scope scope;
    struct call_request chat;
    struct call *call;
    int64_t timeout_ns;
    bool public_only, is_call;
    int status;
    struct buf answer;
    bool too_large;
    struct err err;
    void *map;
    size_t map_bytes;
};

static void outside_drop(struct outside *outside)
{
    if (__atomic_sub_fetch(&outside->users, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (outside->map)
        munmap(outside->map, outside->map_bytes);
    buf_fini(&outside->answer);
    pthread_mutex_destroy(&outside->lock);
    pthread_cond_destroy(&outside->wake);
    arena_fini(&outside->arena);
    free(outside);
}

/* ---- the loop's side ---- */

/* No longer ours then. */
static void outside_end(struct outside *outside)
{
    timer_stop(&outside->deadline);
    pthread_mutex_lock(&outside->lock);
    outside->done = true;
    pthread_cond_signal(&outside->wake);
    pthread_mutex_unlock(&outside->lock);
    outside_drop(outside);
}

static void stop(struct outside *outside)
{
    if (outside->exchange)
        http_exchange_cancel(outside->exchange);
    if (outside->call)
        gateway_call_cancel(outside->call);
    outside->exchange = NULL;
    outside->call = NULL;
    outside_end(outside);
}

/* Posted by the worker, whose share goes with it. */
static void on_cancel(struct task *task)
{
    struct outside *outside = CONTAINER_OF(task, struct outside, cancel);
    if (!outside->done) /* only this thread sets it */
        stop(outside);
    outside_drop(outside);
}

static void on_deadline(struct timer *timer)
{
    struct outside *outside = CONTAINER_OF(timer, struct outside, deadline);
    err_set(&outside->err, ERR_TIMEOUT, "there was no whole answer within %lld s",
            (long long)(outside->timeout_ns / NS_PER_S));
    stop(outside);
}

static void on_head(void *arg, int status, const struct http_headers *headers)
{
    UNUSED(headers);
    ((struct outside *)arg)->status = status;
}

static enum proceed on_data(void *arg, struct str data)
{
    struct outside *outside = arg;
    if (buf_append(&outside->answer, data) == RC_OK)
        return PROCEED;
    outside->too_large = true;
    stop(outside);
    return STOP;
}

static void on_done(void *arg, const struct err *err, const struct http_exchange_timing *timing)
{
    struct outside *outside = arg;
    UNUSED(timing);
    outside->exchange = NULL;
    if (err)
        outside->err = *err;
    outside_end(outside);
}

static void begin_fetch(struct outside *outside)
{
    static const struct http_exchange_owner calls = {on_head, on_data, on_done};
    const struct outside_request *request = &outside->request;
    const struct http_origin_options options = {.url = source_url_origin(request->url),
                                                .public_only = outside->public_only};
    struct http_origin *origin =
        http_client_origin(outside->knowledge->client, &options, &outside->err);
    if (!origin) {
        outside_end(outside);
        return;
    }
    struct http_exchange_request http = {.method = request->method,
                                         .path = source_url_path(request->url),
                                         .headers = request->headers,
                                         .header_count = request->header_count,
                                         .body_parts = COUNT_OF(request->body),
                                         .connect_timeout_ns = MIN(CONNECT_NS, request->timeout_ns),
                                         .retry_stale = true};
    for (size_t i = 0; i < COUNT_OF(request->body); i++)
        http.body[i] = request->body[i];
    timer_start(outside->knowledge->loop, &outside->deadline, request->timeout_ns);
    outside->exchange = http_exchange_start(origin, &http, &calls, outside);
}

static void call_head(void *arg, const struct call_head *head)
{
    ((struct outside *)arg)->status = head->status;
}

/* A call may not be ended from here: what is too much is let pass. */
static enum proceed call_data(void *arg, struct str bytes)
{
    struct outside *outside = arg;
    if (!outside->too_large && buf_append(&outside->answer, bytes) != RC_OK)
        outside->too_large = true;
    return PROCEED;
}

static void call_done(void *arg, const struct call_record *record, const struct err *err)
{
    struct outside *outside = arg;
    UNUSED(record);
    outside->call = NULL;
    if (err)
        outside->err = *err;
    else if (outside->status / 100 != 2)
        err_set(&outside->err, ERR_UPSTREAM, "the route answered with status %d: %.*s",
                outside->status, STR_ARG(str_slice(buf_str(&outside->answer), 0, 200)));
    outside_end(outside);
}

static void begin_call(struct outside *outside)
{
    static const struct call_sink calls = {call_head, call_data, call_done};
    outside->scope = (struct scope){.principal = &outside->principal,
                                    .deadline_ns = clock_monotonic_ns() + outside->timeout_ns,
                                    .budget_pico = COST_UNKNOWN,
                                    .arena = &outside->arena};
    trace_context_read(STR_EMPTY, &outside->scope.trace);
    outside->chat.started_ns = outside->chat.received_ns = clock_monotonic_ns();
    outside->call = gateway_call_start(outside->knowledge->gateway, &outside->scope, &outside->chat,
                                       &calls, outside);
    if (outside->call)
        return;
    err_set(&outside->err, ERR_OVERLOADED, "no memory for this request");
    outside_end(outside);
}

static void on_begin(struct task *task)
{
    struct outside *outside = CONTAINER_OF(task, struct outside, begin);
    if (outside->knowledge->stopping || !outside->knowledge->client) {
        err_set(&outside->err, ERR_CANCELLED, "the server stops");
        outside_end(outside);
    } else if (outside->is_call) {
        begin_call(outside);
    } else {
        begin_fetch(outside);
    }
}

/* ---- the worker's side ---- */

struct outside *outside_new(struct knowledge *knowledge, size_t arena_bytes_max,
                            size_t answer_bytes_max)
{
    pthread_condattr_t monotonic;
    struct outside *outside = xcalloc(1, sizeof(*outside));
    outside->users = 1;
    outside->knowledge = knowledge;
    outside->begin.run = on_begin;
    outside->cancel.run = on_cancel;
    arena_init(&outside->arena, arena_bytes_max);
    buf_init(&outside->answer, answer_bytes_max);
    timer_init(&outside->deadline, on_deadline);
    pthread_mutex_init(&outside->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&outside->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return outside;
}

static bool is_done(struct outside *outside)
{
    pthread_mutex_lock(&outside->lock);
    bool done = outside->done;
    pthread_mutex_unlock(&outside->lock);
    return done;
}

void outside_free(struct outside *outside)
{
    if (outside->begun && !is_done(outside))
        loop_post(outside->knowledge->loop, &outside->cancel);
    else
        outside_drop(outside);
}

struct arena *outside_arena(struct outside *outside) { return &outside->arena; }

enum rc outside_map_file(struct outside *outside, const char *path, struct str *out,
                         struct err *err)
{
    struct stat st;
    enum rc rc = RC_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *out = STR_EMPTY;
    if (fd < 0 || fstat(fd, &st) != 0)
        rc = err_set(err, ERR_INVALID, "the file cannot be opened: %s", strerror(errno));
    if (rc == RC_OK && st.st_size > 0) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            rc = err_set(err, ERR_INVALID, "the file cannot be read: %s", strerror(errno));
        } else {
            outside->map = map;
            outside->map_bytes = (size_t)st.st_size;
            *out = str_make(map, outside->map_bytes);
        }
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static enum rc run(struct outside *outside, const volatile bool *cancelled, struct str *answer,
                   struct err *err)
{
    ASSERT(!outside->begun);
    outside->begun = true;
    __atomic_add_fetch(&outside->users, 1, __ATOMIC_ACQ_REL);
    loop_post(outside->knowledge->loop, &outside->begin);
    pthread_mutex_lock(&outside->lock);
    while (!outside->done && !__atomic_load_n(cancelled, __ATOMIC_RELAXED)) {
        int64_t until = clock_monotonic_ns() + LOOK_NS;
        const struct timespec at = {until / NS_PER_S, until % NS_PER_S};
        pthread_cond_timedwait(&outside->wake, &outside->lock, &at);
    }
    bool done = outside->done;
    pthread_mutex_unlock(&outside->lock);
    if (!done || __atomic_load_n(cancelled, __ATOMIC_RELAXED))
        return err_set(err, ERR_CANCELLED, "cancelled");
    if (outside->too_large)
        return err_set(err, ERR_TOO_LARGE, "its answer is larger than %zu MiB",
                       outside->answer.bytes_max >> 20);
    if (outside->err.code != ERR_NONE) {
        if (err)
            *err = outside->err;
        return outside->err.rc;
    }
    *answer = buf_str(&outside->answer);
    return RC_OK;
}

enum rc outside_ask(struct outside *outside, struct id project, struct str author, struct str body,
                    int64_t timeout_ns, const volatile bool *cancelled, struct str *answer,
                    struct err *err)
{
    outside->is_call = true;
    outside->timeout_ns = timeout_ns;
    outside->principal = (struct principal){.project = project,
                                            .role = ROLE_VIEWER,
                                            .permissions = role_permissions(ROLE_VIEWER),
                                            .name = arena_copy(&outside->arena, author)};
    outside->chat = (struct call_request){.door = DOOR_INTERNAL,
                                          .operation = OPERATION_CHAT,
                                          .format = WIRE_OPENAI_CHAT,
                                          .content_type = STR("application/json"),
                                          .body = body};
    return run(outside, cancelled, answer, err);
}

enum rc outside_fetch(struct outside *outside, const struct outside_request *request,
                      const volatile bool *cancelled, int *status, struct str *answer,
                      struct err *err)
{
    outside->request = *request;
    outside->timeout_ns = request->timeout_ns;
    outside->public_only = !source_is_allowed(outside->knowledge, request->url);
    enum rc rc = run(outside, cancelled, answer, err);
    *status = rc == RC_OK ? outside->status : 0;
    return rc;
}
