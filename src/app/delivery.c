/* See delivery.h. A batch is one POST: records one after the other, each behind its length (u32,
 * little-endian). 204 says that all of them are durable. */
#include "app/delivery.h"
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

struct delivery {
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

static void delivery_step(struct delivery *delivery);

/* Blocks until all are durable. What is there already is left out: the process before may have sent
 * it without hearing the answer. */
static enum rc receive_records(struct trace_store *store, struct str body);

static void nudge_run(struct task *task)
{
    struct delivery *delivery = CONTAINER_OF(task, struct delivery, nudge);
    pthread_mutex_lock(&delivery->mutex);
    delivery->nudged = false;
    pthread_mutex_unlock(&delivery->mutex);
    delivery_step(delivery);
}

void delivery_submit(void *arg, struct str bytes, struct trace_waiter *waiter)
{
    struct delivery *delivery = arg;
    struct forwarded *item = malloc(sizeof(*item) + bytes.n);
    pthread_mutex_lock(&delivery->mutex);
    bool taken = item && delivery->queued_bytes + (int64_t)bytes.n <= QUEUE_BYTES_MAX;
    if (taken) {
        *item = (struct forwarded){.waiter = waiter, .bytes = (uint32_t)bytes.n};
        memcpy(item->p, bytes.p, bytes.n);
        *delivery->last = item;
        delivery->last = &item->next;
        delivery->queued_bytes += (int64_t)bytes.n;
    } else {
        delivery->lost++;
    }
    bool nudge = taken && !delivery->nudged;
    delivery->nudged |= nudge;
    pthread_mutex_unlock(&delivery->mutex);
    if (nudge)
        loop_post(delivery->loop, &delivery->nudge);
    if (taken)
        return;
    free(item);
    if (waiter)
        trace_waiter_finish(waiter, RC_LIMIT);
}

/* The front of the queue as a body. */
static void batch_make(struct delivery *delivery)
{
    buf_clear(&delivery->body);
    delivery->in_batch = 0;
    pthread_mutex_lock(&delivery->mutex);
    for (struct forwarded *item = delivery->first; item; item = item->next) {
        uint32_t length = htole32(item->bytes);
        if (buf_len(&delivery->body) + LENGTH_BYTES + item->bytes > BATCH_BYTES_MAX)
            break;
        if (buf_append(&delivery->body, str_make(&length, LENGTH_BYTES)) != RC_OK ||
            buf_append(&delivery->body, str_make(item->p, item->bytes)) != RC_OK)
            break;
        delivery->in_batch++;
    }
    pthread_mutex_unlock(&delivery->mutex);
}

static void batch_done(struct delivery *delivery, enum rc rc)
{
    for (; delivery->in_batch > 0; delivery->in_batch--) {
        pthread_mutex_lock(&delivery->mutex);
        struct forwarded *item = delivery->first;
        delivery->first = item->next;
        if (!delivery->first)
            delivery->last = &delivery->first;
        delivery->queued_bytes -= item->bytes;
        pthread_mutex_unlock(&delivery->mutex);
        if (item->waiter)
            trace_waiter_finish(item->waiter, rc);
        free(item);
    }
}

/* Nobody took the records for long: the store may be free. On a worker. */
static void alone_run(struct work *work)
{
    struct delivery *delivery = CONTAINER_OF(work, struct delivery, alone);
    struct trace_store *store;
    struct err err = {0};
    enum rc rc = trace_open(&delivery->trace, &store, &err);
    if (rc == RC_OK) {
        rc = receive_records(store, buf_str(&delivery->body));
        trace_close(store);
    }
    delivery->alone_rc = rc;
}

static void batch_failed(struct delivery *delivery)
{
    delivery->failures++;
    timer_start(delivery->loop, &delivery->retry, RETRY_NS);
}

static void alone_done(struct work *work)
{
    struct delivery *delivery = CONTAINER_OF(work, struct delivery, alone);
    delivery->alone_runs = false;
    if (delivery->alone_rc == RC_OK) {
        batch_done(delivery, RC_OK);
        delivery_step(delivery);
    } else {
        batch_failed(delivery);
    }
}

static void sent_head(void *owner, int status, const struct http_headers *headers)
{
    struct delivery *delivery = owner;
    UNUSED(headers);
    delivery->status = status;
}

static enum proceed sent_data(void *owner, struct str data)
{
    UNUSED(owner);
    UNUSED(data);
    return PROCEED;
}

static void sent_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct delivery *delivery = owner;
    UNUSED(timing);
    delivery->exchange = NULL;
    if (err || delivery->status != 204) {
        batch_failed(delivery);
        return;
    }
    delivery->failures = 0;
    batch_done(delivery, RC_OK);
    delivery_step(delivery);
}

static void batch_send(struct delivery *delivery)
{
    static const struct http_exchange_owner calls = {sent_head, sent_data, sent_done};
    const struct http_origin_options options = {.url = str_from(delivery->url),
                                                .proxy = STR("none")};
    struct err err = {0};
    struct http_origin *origin = http_client_origin(delivery->client, &options, &err);
    const struct http_exchange_request request = {
        .method = STR("POST"),
        .path = STR("/records"),
        .body = {buf_str(&delivery->body)},
        .body_parts = 1,
        .head_timeout_ns = ANSWER_TIMEOUT_NS,
    };
    delivery->status = 0;
    if (origin)
        delivery->exchange = http_exchange_start(origin, &request, &calls, delivery);
    else
        batch_failed(delivery);
}

static void delivery_step(struct delivery *delivery)
{
    if (!delivery->began || delivery->exchange || delivery->alone_runs ||
        timer_armed(&delivery->retry))
        return;
    batch_make(delivery);
    if (delivery->in_batch == 0) {
        void (*done)(void *) = delivery->done;
        delivery->done = NULL;
        if (delivery->finishing && done)
            done(delivery->done_arg);
        return;
    }
    if (delivery->failures < ALONE_FAILURES) {
        batch_send(delivery);
        return;
    }
    delivery->failures = 0;
    delivery->alone_runs = true;
    delivery->alone = (struct work){.home = delivery->loop, .work = alone_run, .done = alone_done};
    if (worker_submit(delivery->workers, &delivery->alone) != RC_OK) {
        delivery->alone_runs = false;
        batch_failed(delivery);
    }
}

static void retry_fired(struct timer *timer)
{
    delivery_step(CONTAINER_OF(timer, struct delivery, retry));
}

static void socket_path(const char *directory, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/" SOCKET_NAME, directory);
}

struct delivery *delivery_new(struct loop *loop, struct worker_pool *workers, const char *directory,
                              const struct trace_options *trace)
{
    struct delivery *delivery = xcalloc(1, sizeof(*delivery));
    delivery->loop = loop;
    delivery->workers = workers;
    delivery->trace = *trace;
    delivery->client = http_client_new(loop);
    delivery->last = &delivery->first;
    delivery->nudge.run = nudge_run;
    snprintf(delivery->url, sizeof(delivery->url), "unix:%s/" SOCKET_NAME, directory);
    buf_init(&delivery->body, BATCH_BYTES_MAX);
    timer_init(&delivery->retry, retry_fired);
    pthread_mutex_init(&delivery->mutex, NULL);
    return delivery;
}

void delivery_free(struct delivery *delivery)
{
    if (!delivery)
        return;
    if (delivery->exchange)
        http_exchange_cancel(delivery->exchange);
    timer_stop(&delivery->retry);
    for (struct forwarded *item; (item = delivery->first); free(item)) {
        delivery->first = item->next;
        delivery->lost++;
    }
    if (delivery->lost)
        log_event(LOG_ERROR, "call_records_lost", LOG_I64("count", (int64_t)delivery->lost),
                  LOG_Z("reason", "the process that took over could not be reached"));
    http_client_free(delivery->client);
    buf_fini(&delivery->body);
    pthread_mutex_destroy(&delivery->mutex);
    free(delivery);
}

void delivery_begin(struct delivery *delivery)
{
    delivery->began = true;
    delivery_step(delivery);
}

void delivery_finish(struct delivery *delivery, void (*done)(void *arg), void *arg)
{
    delivery->finishing = true;
    delivery->done = done;
    delivery->done_arg = arg;
    delivery_step(delivery);
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
