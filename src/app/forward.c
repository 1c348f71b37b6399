/* See forward.h. A batch is one POST: records one after the other, each behind its length (u32,
 * little-endian). 204 says that all of them are durable. */
#include "app/forward.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/client.h"
#include "http/server.h"
#include "trace/record.h"
#include <endian.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SOCKET_NAME       "upgrade.sock"
#define BATCH_BYTES_MAX   (8 * 1024 * 1024)
#define QUEUE_BYTES_MAX   (256ll * 1024 * 1024)
#define RETRY_NS          (200 * NS_PER_MS)
#define ANSWER_TIMEOUT_NS (60 * NS_PER_S)
#define FLUSH_TIMEOUT_NS  (20 * NS_PER_S)
#define ALONE_FAILURES    50 /* in a row; then the store is opened here */
#define SENDERS_MAX       16 /* connections */
#define PATH_BYTES_MAX    1024
#define LENGTH_BYTES      4

/* ---- sending ---- */

struct forwarded {
    struct forwarded *next;
    struct trace_waiter *waiter;
    uint32_t bytes;
    char p[];
};

struct forward {
    struct loop *loop;
    struct worker_pool *workers;
    struct http_client *client;
    struct trace_options trace;
    char url[PATH_BYTES_MAX];
    struct http_exchange *exchange;
    struct timer retry;
    struct work alone;
    enum rc alone_rc;
    struct buf body;
    size_t in_batch; /* records of the queue's front in `body` */
    int status, failures;
    bool began, finishing, alone_runs;
    void (*done)(void *arg);
    void *done_arg;

    pthread_mutex_t mutex; /* guards what follows */
    struct forwarded *first, **last;
    int64_t queued_bytes;
    uint64_t lost;
    struct task nudge;
    bool nudged;
};

static void forward_step(struct forward *forward);

/* Blocks until all are durable. What is there already is left out: the process before may have sent
 * it without hearing the answer. */
static enum rc receive_records(struct trace_store *store, struct str body);

static void nudge_run(struct task *task)
{
    struct forward *forward = CONTAINER_OF(task, struct forward, nudge);
    pthread_mutex_lock(&forward->mutex);
    forward->nudged = false;
    pthread_mutex_unlock(&forward->mutex);
    forward_step(forward);
}

void forward_submit(void *arg, struct str bytes, struct trace_waiter *waiter)
{
    struct forward *forward = arg;
    struct forwarded *item = malloc(sizeof(*item) + bytes.n);
    pthread_mutex_lock(&forward->mutex);
    bool taken = item && forward->queued_bytes + (int64_t)bytes.n <= QUEUE_BYTES_MAX;
    if (taken) {
        *item = (struct forwarded){.waiter = waiter, .bytes = (uint32_t)bytes.n};
        memcpy(item->p, bytes.p, bytes.n);
        *forward->last = item;
        forward->last = &item->next;
        forward->queued_bytes += (int64_t)bytes.n;
    } else {
        forward->lost++;
    }
    bool nudge = taken && !forward->nudged;
    forward->nudged |= nudge;
    pthread_mutex_unlock(&forward->mutex);
    if (nudge)
        loop_post(forward->loop, &forward->nudge);
    if (taken)
        return;
    free(item);
    if (waiter)
        trace_waiter_finish(waiter, RC_LIMIT);
}

/* The front of the queue as a body. */
static void batch_make(struct forward *forward)
{
    buf_clear(&forward->body);
    forward->in_batch = 0;
    pthread_mutex_lock(&forward->mutex);
    for (struct forwarded *item = forward->first; item; item = item->next) {
        uint32_t length = htole32(item->bytes);
        if (buf_len(&forward->body) + LENGTH_BYTES + item->bytes > BATCH_BYTES_MAX)
            break;
        if (buf_append(&forward->body, str_make(&length, LENGTH_BYTES)) != RC_OK ||
            buf_append(&forward->body, str_make(item->p, item->bytes)) != RC_OK)
            break;
        forward->in_batch++;
    }
    pthread_mutex_unlock(&forward->mutex);
}

static void batch_done(struct forward *forward, enum rc rc)
{
    for (; forward->in_batch > 0; forward->in_batch--) {
        pthread_mutex_lock(&forward->mutex);
        struct forwarded *item = forward->first;
        forward->first = item->next;
        if (!forward->first)
            forward->last = &forward->first;
        forward->queued_bytes -= item->bytes;
        pthread_mutex_unlock(&forward->mutex);
        if (item->waiter)
            trace_waiter_finish(item->waiter, rc);
        free(item);
    }
}

/* Nobody took the records for long: the store may be free. On a worker. */
static void alone_run(struct work *work)
{
    struct forward *forward = CONTAINER_OF(work, struct forward, alone);
    struct trace_store *store;
    struct err err = {0};
    enum rc rc = trace_open(&forward->trace, &store, &err);
    if (rc == RC_OK) {
        rc = receive_records(store, buf_str(&forward->body));
        trace_close(store);
    }
    forward->alone_rc = rc;
}

static void batch_failed(struct forward *forward)
{
    forward->failures++;
    timer_start(forward->loop, &forward->retry, RETRY_NS);
}

static void alone_done(struct work *work)
{
    struct forward *forward = CONTAINER_OF(work, struct forward, alone);
    forward->alone_runs = false;
    if (forward->alone_rc == RC_OK) {
        batch_done(forward, RC_OK);
        forward_step(forward);
    } else {
        batch_failed(forward);
    }
}

static void sent_head(void *owner, int status, const struct http_headers *headers)
{
    struct forward *forward = owner;
    UNUSED(headers);
    forward->status = status;
}

static enum proceed sent_data(void *owner, struct str data)
{
    UNUSED(owner);
    UNUSED(data);
    return PROCEED;
}

static void sent_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct forward *forward = owner;
    UNUSED(timing);
    forward->exchange = NULL;
    if (err || forward->status != 204) {
        batch_failed(forward);
        return;
    }
    forward->failures = 0;
    batch_done(forward, RC_OK);
    forward_step(forward);
}

static void batch_send(struct forward *forward)
{
    static const struct http_exchange_owner calls = {sent_head, sent_data, sent_done};
    const struct http_origin_options options = {.url = str_from(forward->url),
                                                .proxy = STR("none")};
    struct err err = {0};
    struct http_origin *origin = http_client_origin(forward->client, &options, &err);
    const struct http_exchange_request request = {
        .method = STR("POST"),
        .path = STR("/records"),
        .body = {buf_str(&forward->body)},
        .body_parts = 1,
        .head_timeout_ns = ANSWER_TIMEOUT_NS,
    };
    forward->status = 0;
    if (origin)
        forward->exchange = http_exchange_start(origin, &request, &calls, forward);
    else
        batch_failed(forward);
}

static void forward_step(struct forward *forward)
{
    if (!forward->began || forward->exchange || forward->alone_runs || timer_armed(&forward->retry))
        return;
    batch_make(forward);
    if (forward->in_batch == 0) {
        void (*done)(void *) = forward->done;
        forward->done = NULL;
        if (forward->finishing && done)
            done(forward->done_arg);
        return;
    }
    if (forward->failures < ALONE_FAILURES) {
        batch_send(forward);
        return;
    }
    forward->failures = 0;
    forward->alone_runs = true;
    forward->alone = (struct work){.home = forward->loop, .work = alone_run, .done = alone_done};
    if (worker_submit(forward->workers, &forward->alone) != RC_OK) {
        forward->alone_runs = false;
        batch_failed(forward);
    }
}

static void retry_fired(struct timer *timer)
{
    forward_step(CONTAINER_OF(timer, struct forward, retry));
}

static void socket_path(const char *directory, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/" SOCKET_NAME, directory);
}

struct forward *forward_new(struct loop *loop, struct worker_pool *workers, const char *directory,
                            const struct trace_options *trace)
{
    struct forward *forward = xcalloc(1, sizeof(*forward));
    forward->loop = loop;
    forward->workers = workers;
    forward->trace = *trace;
    forward->client = http_client_new(loop);
    forward->last = &forward->first;
    forward->nudge.run = nudge_run;
    snprintf(forward->url, sizeof(forward->url), "unix:%s/" SOCKET_NAME, directory);
    buf_init(&forward->body, BATCH_BYTES_MAX);
    timer_init(&forward->retry, retry_fired);
    pthread_mutex_init(&forward->mutex, NULL);
    return forward;
}

void forward_free(struct forward *forward)
{
    if (!forward)
        return;
    if (forward->exchange)
        http_exchange_cancel(forward->exchange);
    timer_stop(&forward->retry);
    for (struct forwarded *item; (item = forward->first); free(item)) {
        forward->first = item->next;
        forward->lost++;
    }
    if (forward->lost)
        log_event(LOG_ERROR, "call_records_lost", LOG_I64("count", (int64_t)forward->lost),
                  LOG_Z("reason", "the process that took over could not be reached"));
    http_client_free(forward->client);
    buf_fini(&forward->body);
    pthread_mutex_destroy(&forward->mutex);
    free(forward);
}

void forward_begin(struct forward *forward)
{
    forward->began = true;
    forward_step(forward);
}

void forward_finish(struct forward *forward, void (*done)(void *arg), void *arg)
{
    forward->finishing = true;
    forward->done = done;
    forward->done_arg = arg;
    forward_step(forward);
}

/* ---- receiving ---- */

struct receiver {
    struct loop *loop;
    struct worker_pool *workers;
    struct trace_store *trace;
    struct http_server *server;
    struct listener *listener;
    pthread_mutex_t one; /* batch at a time: two senders may hold the same record */
    char path[PATH_BYTES_MAX];
};

struct receiving {
    struct work work;
    struct receiver *receiver;
    struct http_request *request;
    enum rc rc;
};

static bool is_known(struct trace_store *store, struct str bytes)
{
    struct call_tag tags[LIMIT_TAGS];
    struct call_record *record = xmalloc(2 * sizeof(*record));
    struct arena arena;
    arena_init(&arena, 2 * RECORD_BYTES_MAX);
    bool known =
        record_decode(bytes, &record[0], tags, NULL) == RC_OK &&
        trace_get(store, record[0].project, record[0].id, &arena, &record[1], NULL) == RC_OK;
    arena_fini(&arena);
    free(record);
    return known;
}

static enum rc receive_records(struct trace_store *store, struct str body)
{
    enum rc rc = trace_flush(store, FLUSH_TIMEOUT_NS);
    while (rc == RC_OK && body.n > 0) {
        uint32_t length;
        if (body.n < LENGTH_BYTES)
            return RC_INVALID;
        memcpy(&length, body.p, LENGTH_BYTES);
        length = le32toh(length);
        body = str_slice(body, LENGTH_BYTES, body.n);
        if (length > body.n)
            return RC_INVALID;
        struct str record = str_slice(body, 0, length);
        body = str_slice(body, length, body.n);
        if (!is_known(store, record))
            rc = trace_submit_encoded(store, record, NULL);
    }
    return rc == RC_OK ? trace_flush(store, FLUSH_TIMEOUT_NS) : rc;
}

static void receiving_run(struct work *work)
{
    struct receiving *receiving = CONTAINER_OF(work, struct receiving, work);
    struct receiver *receiver = receiving->receiver;
    pthread_mutex_lock(&receiver->one);
    receiving->rc = receive_records(receiver->trace, receiving->request->body);
    pthread_mutex_unlock(&receiver->one);
}

static void receiving_done(struct work *work)
{
    struct receiving *receiving = CONTAINER_OF(work, struct receiving, work);
    http_respond(receiving->request, receiving->rc == RC_OK ? 204 : 503, STR("text/plain"),
                 STR_EMPTY);
}

static int64_t on_admit(void *arg, struct http_request *request)
{
    UNUSED(arg);
    UNUSED(request);
    return BATCH_BYTES_MAX;
}

static void on_records(void *arg, struct http_request *request)
{
    struct receiver *receiver = arg;
    struct receiving *receiving = ARENA_NEW(request->arena, struct receiving);
    if (!str_eq(request->method, STR("POST")) || !str_eq(request->path, STR("/records"))) {
        http_respond(request, 404, STR("text/plain"), STR_EMPTY);
        return;
    }
    if (receiving)
        *receiving = (struct receiving){
            .work = {.home = receiver->loop, .work = receiving_run, .done = receiving_done},
            .receiver = receiver,
            .request = request};
    if (!receiving || worker_submit(receiver->workers, &receiving->work) != RC_OK)
        http_respond(request, 503, STR("text/plain"), STR_EMPTY);
}

struct receiver *receiver_new(struct loop *loop, struct worker_pool *workers, const char *directory,
                              struct trace_store *trace, struct err *err)
{
    struct receiver *receiver = xcalloc(1, sizeof(*receiver));
    const struct http_server_options options = {
        .admit = on_admit,
        .handle = on_records,
        .arg = receiver,
        .body_timeout_ns = ANSWER_TIMEOUT_NS,
        .connections_max = SENDERS_MAX,
        .request_arena_bytes_max = 2 * BATCH_BYTES_MAX,
    };
    *receiver = (struct receiver){.loop = loop, .workers = workers, .trace = trace};
    pthread_mutex_init(&receiver->one, NULL);
    socket_path(directory, receiver->path);
    struct address address = {.kind = ADDRESS_UNIX, .host = str_from(receiver->path)};
    receiver->server = http_server_new(loop, &options);
    receiver->listener =
        listener_new(loop, &address, NULL, http_server_accept, receiver->server, err);
    if (receiver->listener)
        return receiver;
    receiver_free(receiver);
    return NULL;
}

static void drained(void *arg) { UNUSED(arg); }

void receiver_stop(struct receiver *receiver)
{
    if (!receiver || !receiver->listener)
        return;
    listener_close(receiver->listener);
    receiver->listener = NULL;
    http_server_drain(receiver->server, drained, NULL);
}

void receiver_free(struct receiver *receiver)
{
    if (!receiver)
        return;
    if (receiver->listener)
        listener_close(receiver->listener);
    http_server_free(receiver->server);
    pthread_mutex_destroy(&receiver->one);
    free(receiver);
}
