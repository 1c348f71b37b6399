/* Requests of a sync: made by its thread, run as exchanges on the jobs' loop. A fetch belongs to
 * both until both have let it go, so that a thread that is cancelled need not wait for a loop that
 * is ending. Addresses that are not public are refused after resolving unless the administrator
 * allows them (knowledge.http_allow), at each step of a redirect anew. */
#include "base/clock.h"
#include "knowledge/source_private.h"
#include "knowledge/source_url.h"
#include <stdlib.h>
#include <time.h>

#define CONNECT_NS    (15 * NS_PER_S)
#define HEAD_NS       (60 * NS_PER_S)
#define IDLE_NS       (30 * NS_PER_S)
#define WHOLE_NS      (600 * NS_PER_S)
#define REDIRECTS_MAX 5
#define TRIES_MAX     3
#define RETRY_NS      (500 * NS_PER_MS) /* doubled */
#define RETRY_NS_MAX  (60 * NS_PER_S)   /* what a Retry-After may ask for */
#define HEADERS_MAX   16
#define VALUE_BYTES   1024

struct source_fetch {
    int users; /* lock: the thread and the loop */
    struct source_sync *sync;
    struct task begin;
    struct timer deadline;
    struct http_exchange *exchange;
    struct str url; /* the texts of the request live in `arena` */
    struct arena arena;
    struct http_header headers[HEADERS_MAX];
    size_t header_count;
    bool public_only;
    bool done; /* lock */
    int status;
    struct buf body;
    bool too_large;
    char etag[VALUE_BYTES], modified[VALUE_BYTES], content_type[VALUE_BYTES];
    char location[SOURCE_KEY_BYTES_MAX + 1], retry_after[32];
    struct err err;
};

bool source_is_allowed(const struct knowledge *knowledge, struct str address)
{
    struct url url;
    return url_parse(address, &url, NULL) == RC_OK &&
           url_is_listed(&url, knowledge->allowed_hosts, knowledge->allowed_host_count);
}

/* ---- the loop's side ---- */

static void fetch_drop(struct source_fetch *fetch)
{
    struct source_sync *sync = fetch->sync;
    pthread_mutex_lock(&sync->lock);
    bool last = --fetch->users == 0;
    pthread_mutex_unlock(&sync->lock);
    if (!last)
        return;
    buf_fini(&fetch->body);
    arena_fini(&fetch->arena);
    free(fetch);
}

/* On the loop; the fetch is no longer ours. */
static void fetch_end(struct source_fetch *fetch)
{
    struct source_sync *sync = fetch->sync;
    timer_stop(&fetch->deadline);
    if (sync->active == fetch)
        sync->active = NULL;
    pthread_mutex_lock(&sync->lock);
    fetch->done = true;
    pthread_cond_broadcast(&sync->wake);
    pthread_mutex_unlock(&sync->lock);
    fetch_drop(fetch);
}

static void keep_value(const struct http_headers *headers, const char *name, char *out, size_t room)
{
    struct str value = str_trim(http_header_get(headers, str_from(name)));
    if (value.n >= room)
        value = STR_EMPTY;
    snprintf(out, room, "%.*s", STR_ARG(value));
}

static void on_head(void *owner, int status, const struct http_headers *headers)
{
    struct source_fetch *fetch = owner;
    fetch->status = status;
    keep_value(headers, "etag", fetch->etag, sizeof(fetch->etag));
    keep_value(headers, "last-modified", fetch->modified, sizeof(fetch->modified));
    keep_value(headers, "content-type", fetch->content_type, sizeof(fetch->content_type));
    keep_value(headers, "location", fetch->location, sizeof(fetch->location));
    keep_value(headers, "retry-after", fetch->retry_after, sizeof(fetch->retry_after));
}

static void stop_exchange(struct source_fetch *fetch)
{
    http_exchange_cancel(fetch->exchange);
    fetch->exchange = NULL;
    fetch_end(fetch);
}

static enum proceed on_data(void *owner, struct str data)
{
    struct source_fetch *fetch = owner;
    if (buf_append(&fetch->body, data) == RC_OK)
        return PROCEED;
    fetch->too_large = true;
    stop_exchange(fetch);
    return STOP;
}

static void on_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct source_fetch *fetch = owner;
    UNUSED(timing);
    fetch->exchange = NULL;
    if (err)
        fetch->err = *err;
    fetch_end(fetch);
}

static void on_deadline(struct timer *timer)
{
    struct source_fetch *fetch = CONTAINER_OF(timer, struct source_fetch, deadline);
    err_set(&fetch->err, ERR_TIMEOUT, "it took longer than ten minutes");
    stop_exchange(fetch);
}

static void begin(struct task *task)
{
    static const struct http_exchange_owner calls = {on_head, on_data, on_done};
    struct source_fetch *fetch = CONTAINER_OF(task, struct source_fetch, begin);
    struct source_sync *sync = fetch->sync;
    const struct http_origin_options options = {.url = source_url_origin(fetch->url),
                                                .public_only = fetch->public_only};
    struct http_origin *origin =
        sync_is_cancelled(sync) ? NULL : http_client_origin(sync->client, &options, &fetch->err);
    if (!origin) {
        fetch_end(fetch);
        return;
    }
    const struct http_exchange_request request = {.method = STR("GET"),
                                                  .path = source_url_path(fetch->url),
                                                  .headers = fetch->headers,
                                                  .header_count = fetch->header_count,
                                                  .connect_timeout_ns = CONNECT_NS,
                                                  .head_timeout_ns = HEAD_NS,
                                                  .idle_timeout_ns = IDLE_NS,
                                                  .retry_stale = true};
    sync->active = fetch;
    timer_start(sync->knowledge->loop, &fetch->deadline, WHOLE_NS);
    fetch->exchange = http_exchange_start(origin, &request, &calls, fetch);
}

void source_fetch_cancel(struct source_sync *sync)
{
    if (sync->active)
        stop_exchange(sync->active);
}

/* ---- the thread's side ---- */

/* The texts are copied: the loop may still look at them when this thread has gone on. */
static struct source_fetch *fetch_new(struct source_sync *sync, const struct fetch_request *request,
                                      struct str url)
{
    struct source_fetch *fetch = xcalloc(1, sizeof(*fetch));
    fetch->users = 2;
    fetch->sync = sync;
    fetch->begin.run = begin;
    fetch->public_only = !source_is_allowed(sync->knowledge, url);
    arena_init(&fetch->arena, 256 * 1024);
    buf_init(&fetch->body, request->bytes_max);
    timer_init(&fetch->deadline, on_deadline);
    fetch->url = arena_copy(&fetch->arena, url);
    ASSERT(request->header_count + 1 <= HEADERS_MAX);
    fetch->headers[fetch->header_count++] =
        (struct http_header){STR("user-agent"), STR(SOURCE_AGENT)};
    for (size_t i = 0; i < request->header_count; i++) {
        struct http_header *header = &fetch->headers[fetch->header_count++];
        header->name = arena_copy(&fetch->arena, request->headers[i].name);
        header->value = arena_copy(&fetch->arena, request->headers[i].value);
    }
    return fetch;
}

bool sync_sleep(struct source_sync *sync, int64_t ns)
{
    int64_t until = clock_monotonic_ns() + ns;
    const struct timespec at = {until / NS_PER_S, until % NS_PER_S};
    pthread_mutex_lock(&sync->lock);
    while (!sync_is_cancelled(sync) && clock_monotonic_ns() < until)
        pthread_cond_timedwait(&sync->wake, &sync->lock, &at);
    bool cancelled = sync_is_cancelled(sync);
    pthread_mutex_unlock(&sync->lock);
    return !cancelled;
}

enum rc sync_cancelled(struct err *err) { return err_set(err, ERR_CANCELLED, "cancelled"); }

/* Between two requests as long as the rate asks for. */
static bool keep_rate(struct source_sync *sync)
{
    int64_t now = clock_monotonic_ns();
    if (now < sync->next_request_ns && !sync_sleep(sync, sync->next_request_ns - now))
        return false;
    sync->next_request_ns =
        MAX(now, sync->next_request_ns) + (int64_t)((double)NS_PER_S / sync->spec.rate_per_s);
    return true;
}

/* One request, waited for. *fetch is ours to drop. */
static enum rc run_once(struct source_sync *sync, const struct fetch_request *request,
                        struct str url, struct source_fetch **out, struct err *err)
{
    *out = NULL;
    if (!keep_rate(sync))
        return sync_cancelled(err);
    struct source_fetch *fetch = fetch_new(sync, request, url);
    loop_post(sync->knowledge->loop, &fetch->begin);
    pthread_mutex_lock(&sync->lock);
    while (!fetch->done && !sync_is_cancelled(sync))
        pthread_cond_wait(&sync->wake, &sync->lock);
    bool cancelled = sync_is_cancelled(sync);
    pthread_mutex_unlock(&sync->lock);
    *out = fetch;
    if (cancelled)
        return sync_cancelled(err);
    if (fetch->too_large)
        return err_set(err, ERR_TOO_LARGE, "it is larger than %zu MB",
                       request->bytes_max / (1024 * 1024));
    if (fetch->err.code != ERR_NONE && err)
        *err = fetch->err;
    return fetch->err.code != ERR_NONE ? fetch->err.rc : RC_OK;
}

/* How long to wait before another try; -1: none would help. */
static int64_t retry_after_ns(const struct source_fetch *fetch, enum rc rc, int tries)
{
    int64_t seconds, ns = RETRY_NS << tries;
    bool passing = rc == RC_OK ? fetch->status == 429 || fetch->status == 502 ||
                                     fetch->status == 503 || fetch->status == 504
                               : rc == RC_IO || rc == RC_TIMEOUT || rc == RC_DOWN;
    if (!passing || tries + 1 >= TRIES_MAX)
        return -1;
    if (fetch->retry_after[0] && str_to_i64(str_from(fetch->retry_after), &seconds) == RC_OK)
        ns = MAX(ns, seconds > RETRY_NS_MAX / NS_PER_S ? RETRY_NS_MAX : seconds * NS_PER_S);
    return ns;
}

static enum rc run_with_retries(struct source_sync *sync, const struct fetch_request *request,
                                struct str url, struct source_fetch **out, struct err *err)
{
    for (int tries = 0;; tries++) {
        enum rc rc = run_once(sync, request, url, out, err);
        int64_t wait_ns = *out ? retry_after_ns(*out, rc, tries) : -1;
        if (wait_ns < 0)
            return rc;
        fetch_drop(*out);
        *out = NULL;
        if (err)
            *err = (struct err){0};
        if (!sync_sleep(sync, wait_ns))
            return sync_cancelled(err);
    }
}

static enum rc take_answer(struct source_sync *sync, struct source_fetch *fetch, struct str url,
                           struct fetch_answer *answer, struct err *err)
{
    answer->status = fetch->status;
    answer->url = arena_copy(&sync->scratch, url);
    answer->etag = arena_copy(&sync->scratch, str_from(fetch->etag));
    answer->modified = arena_copy(&sync->scratch, str_from(fetch->modified));
    answer->content_type = arena_copy(&sync->scratch, str_from(fetch->content_type));
    if (!answer->url.p || !answer->etag.p || !answer->modified.p || !answer->content_type.p)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for the answer");
    answer->body = fetch->body;
    buf_init(&fetch->body, 0);
    return RC_OK;
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static enum rc follow(struct source_sync *sync, const struct fetch_request *request,
                      const struct source_fetch *fetch, struct str *url, struct err *err)
{
    struct str next;
    if (source_url_resolve(*url, str_from(fetch->location), SOURCE_KEY_BYTES_MAX, &sync->scratch,
                           &next) != RC_OK)
        return err_set(err, ERR_UPSTREAM, "it redirects to no address");
    if (request->same_origin && !str_eq(source_url_origin(next), source_url_origin(*url)))
        return err_set(err, ERR_FORBIDDEN, "it redirects to another host, %.*s",
                       (int)MIN(source_url_origin(next).n, (size_t)200), next.p);
    *url = next;
    return RC_OK;
}

enum rc source_fetch(struct source_sync *sync, const struct fetch_request *request,
                     struct fetch_answer *answer, struct err *err)
{
    struct str url = request->url;
    *answer = (struct fetch_answer){0};
    for (int hops = 0; hops <= REDIRECTS_MAX; hops++) {
        struct source_fetch *fetch;
        enum rc rc = run_with_retries(sync, request, url, &fetch, err);
        bool redirect = rc == RC_OK && is_redirect(fetch->status) && !request->no_redirect;
        if (redirect)
            rc = follow(sync, request, fetch, &url, err);
        else if (rc == RC_OK)
            rc = take_answer(sync, fetch, url, answer, err);
        if (fetch)
            fetch_drop(fetch);
        if (rc != RC_OK || !redirect)
            return rc;
    }
    return err_set(err, ERR_UPSTREAM, "it redirects more than %d times", REDIRECTS_MAX);
}
