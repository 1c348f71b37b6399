/* See loops.h. The life of a loop: made on the main thread, then run on its own, drained, freed on
 * the main thread again. What crosses threads is posted as tasks. */
#include "app/loops.h"
#include "api/door.h"
#include "api/problem.h"
#include "app/console.h"
#include "app/metrics.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "http/client.h"
#include "http/server.h"
#include "pipeline/engine/pipeline.h"
#include <pthread.h>
#include <stdlib.h>

#define HEAD_TIMEOUT_NS (30 * NS_PER_S)
#define BODY_TIMEOUT_NS (60 * NS_PER_S)
#define IDLE_TIMEOUT_NS (75 * NS_PER_S)
#define SEND_TIMEOUT_NS (300 * NS_PER_S)
#define REQUEST_ARENA_BYTES_MAX                                                                    \
    (256 * 1024 * 1024) /* a translated body with images: several times the body */

struct loop_thread {
    struct loops *all;
    struct loop *loop;
    struct http_client *client;
    struct http_server *server;
    struct gateway_loop *gateway;
    struct pipeline_loop *pipelines;
    struct api_loop *api;
    struct listener **listeners; /* one an address */
    pthread_t thread;
    struct task accept_task, drain_task, drained_task;
    struct timer grace;
    bool drained;
};

struct loops {
    struct loop_thread *threads;
    int count;
    size_t address_count;
    struct api_services *services;
    bool accept;
    int64_t grace_ns;
    int draining; /* loops that still drain; loop 0's */
    void (*drained)(void *arg);
    void *drained_arg;
};

/* ---- a request ---- */

static void respond_text(struct http_request *request, int status, struct str text)
{
    http_respond(request, status, STR("text/plain; charset=utf-8"), text);
}

static bool respond_probe(struct http_request *request)
{
    if (str_eq(request->path, STR("/healthz")) || str_eq(request->path, STR("/readyz"))) {
        respond_text(request, 200, STR("ok\n"));
        return true;
    }
    return false;
}

static void on_request(void *arg, struct http_request *request)
{
    struct loop_thread *thread = arg;
    if (api_handle(thread->api, request) || door_handle(thread->gateway, request) ||
        respond_probe(request) || metrics_handle(thread->all->services, thread->all, request) ||
        console_handle(request))
        return;
    struct err err = {0};
    err_set(&err, ERR_NOT_FOUND, "there is nothing at %.*s", STR_ARG(request->path));
    api_respond_problem(request, &err);
}

static int64_t on_admit(void *arg, struct http_request *request)
{
    struct loop_thread *thread = arg;
    int64_t bound = door_admit(thread->gateway, request);
    if (bound < 0)
        bound = api_admit(request);
    return bound >= 0 ? bound : LIMIT_API_BODY_BYTES;
}

/* ---- making ---- */

static enum rc open_listeners(struct loop_thread *thread, const struct loops_options *options,
                              struct err *err)
{
    int index = loop_index(thread->loop);
    for (size_t i = 0; i < options->address_count; i++) {
        struct address address = options->addresses[i];
        if (options->inherited_fds) {
            int fd = options->inherited_fds[(size_t)index * options->address_count + i];
            if (fd < 0)
                continue;
            thread->listeners[i] = listener_from_fd(thread->loop, fd, options->tls,
                                                    http_server_accept, thread->server);
            if (!thread->listeners[i])
                return err_set(err, ERR_INTERNAL, "an inherited socket cannot be listened on");
            continue;
        }
        if (address.kind == ADDRESS_UNIX && index > 0)
            continue;                       /* a Unix socket has one queue: loop 0's */
        if (address.port == 0 && index > 0) /* the port that loop 0 was given */
            address.port = listener_port(thread->all->threads[0].listeners[i]);
        thread->listeners[i] = listener_new(thread->loop, &address, options->tls,
                                            http_server_accept, thread->server, err);
        if (!thread->listeners[i])
            return err->rc;
    }
    return RC_OK;
}

static enum rc thread_open(struct loop_thread *thread, const struct loops_options *options,
                           struct err *err)
{
    snapshot_attach(thread->loop);
    thread->client = http_client_new(thread->loop);
    thread->gateway = gateway_loop_new(thread->loop, thread->client);
    thread->pipelines = pipeline_loop_new(options->services->pipelines, thread->loop,
                                          thread->client, thread->gateway);
    thread->api = api_loop_new(thread->loop, options->services, thread->client, thread->gateway);
    thread->listeners = xcalloc(options->address_count, sizeof(struct listener *));
    const struct http_server_options server = {
        .admit = on_admit,
        .handle = on_request,
        .arg = thread,
        .tls = options->tls != NULL,
        .head_timeout_ns = HEAD_TIMEOUT_NS,
        .body_timeout_ns = BODY_TIMEOUT_NS,
        .idle_timeout_ns = IDLE_TIMEOUT_NS,
        .send_timeout_ns = SEND_TIMEOUT_NS,
        .connections_max = LIMIT_CONNECTIONS,
        .request_arena_bytes_max = REQUEST_ARENA_BYTES_MAX,
        .stalled_bytes_max = LIMIT_STALLED_BYTES,
    };
    thread->server = http_server_new(thread->loop, &server);
    return open_listeners(thread, options, err);
}

struct loops *loops_new(int count)
{
    struct loops *loops = xcalloc(1, sizeof(*loops));
    loops->count = count;
    loops->threads = xcalloc((size_t)count, sizeof(*loops->threads));
    for (int i = 0; i < count; i++) {
        loops->threads[i].all = loops;
        loops->threads[i].loop = loop_new(i);
    }
    return loops;
}

enum rc loops_open(struct loops *loops, const struct loops_options *options, struct err *err)
{
    loops->address_count = options->address_count;
    loops->services = options->services;
    for (int i = 0; i < loops->count; i++) {
        enum rc rc = thread_open(&loops->threads[i], options, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static void close_listeners(struct loop_thread *thread)
{
    for (size_t i = 0; i < thread->all->address_count; i++)
        if (thread->listeners[i])
            listener_close(thread->listeners[i]);
    memset(thread->listeners, 0, thread->all->address_count * sizeof(struct listener *));
}

void loops_close(struct loops *loops)
{
    for (int i = 0; i < loops->count; i++) {
        struct loop_thread *thread = &loops->threads[i];
        if (thread->server) {
            close_listeners(thread);
            http_server_free(thread->server);
            pipeline_loop_free(thread->pipelines);
            gateway_loop_free(thread->gateway);
            api_loop_free(thread->api);
            http_client_free(thread->client);
        }
        thread->server = NULL;
    }
    loops_settle(loops); /* closing may have posted something more */
}

void loops_free(struct loops *loops)
{
    loops_close(loops);
    for (int i = 0; i < loops->count; i++) {
        free(loops->threads[i].listeners);
        loop_free(loops->threads[i].loop);
    }
    free(loops->threads);
    free(loops);
}

/* ---- running ---- */

static void *thread_main(void *arg)
{
    struct loop_thread *thread = arg;
    loop_run(thread->loop);
    return NULL;
}

void loops_run(struct loops *loops)
{
    for (int i = 1; i < loops->count; i++) {
        int failed =
            pthread_create(&loops->threads[i].thread, NULL, thread_main, &loops->threads[i]);
        ASSERT(!failed);
    }
    loop_run(loops->threads[0].loop);
    for (int i = 1; i < loops->count; i++)
        pthread_join(loops->threads[i].thread, NULL);
}

void loops_stop(struct loops *loops)
{
    for (int i = 0; i < loops->count; i++)
        loop_stop(loops->threads[i].loop);
}

static void stop_here(struct task *task)
{
    UNUSED(task);
    loop_stop(loop_current());
}

void loops_settle(struct loops *loops)
{
    for (int i = 0; i < loops->count; i++) {
        struct task last = {.run = stop_here};
        loop_post(loops->threads[i].loop, &last);
        loop_run(loops->threads[i].loop);
    }
}

struct loop *loops_at(struct loops *loops, int index)
{
    ASSERT(index < loops->count);
    return loops->threads[index].loop;
}

struct http_client *loops_client(struct loops *loops, int index)
{
    return loops->threads[index].client;
}

struct gateway_loop *loops_gateway(struct loops *loops, int index)
{
    return loops->threads[index].gateway;
}

int loops_count(const struct loops *loops) { return loops->count; }

uint16_t loops_port(const struct loops *loops, size_t address)
{
    return listener_port(loops->threads[0].listeners[address]);
}

size_t loops_listener_fds(const struct loops *loops, int *fds)
{
    size_t count = 0;
    for (int i = 0; i < loops->count; i++)
        for (size_t a = 0; a < loops->address_count; a++)
            fds[count++] =
                loops->threads[i].listeners[a] ? listener_fd(loops->threads[i].listeners[a]) : -1;
    return count;
}

/* ---- accepting, draining ---- */

static void run_accept(struct task *task)
{
    struct loop_thread *thread = CONTAINER_OF(task, struct loop_thread, accept_task);
    for (size_t i = 0; i < thread->all->address_count; i++)
        if (thread->listeners[i])
            listener_pause(thread->listeners[i], !thread->all->accept);
}

void loops_accept(struct loops *loops, bool accept)
{
    loops->accept = accept;
    for (int i = 0; i < loops->count; i++) {
        struct loop_thread *thread = &loops->threads[i];
        thread->accept_task.run = run_accept;
        loop_post(thread->loop, &thread->accept_task);
    }
}

/* On loop 0, once a loop. */
static void count_drained(struct task *task)
{
    struct loops *loops = CONTAINER_OF(task, struct loop_thread, drained_task)->all;
    if (--loops->draining == 0)
        loops->drained(loops->drained_arg);
}

static void tell_drained(struct loop_thread *thread)
{
    if (thread->drained)
        return;
    thread->drained = true;
    timer_stop(&thread->grace);
    thread->drained_task.run = count_drained;
    loop_post(thread->all->threads[0].loop, &thread->drained_task);
}

static void on_drained(void *arg) { tell_drained(arg); }

static void on_grace_over(struct timer *timer)
{
    struct loop_thread *thread = CONTAINER_OF(timer, struct loop_thread, grace);
    struct http_server_stats stats;
    http_server_stats(thread->server, &stats);
    log_event(LOG_WARN, "drain_cut_short", LOG_I64("connections", (int64_t)stats.connections_now));
    tell_drained(thread);
}

static void run_drain(struct task *task)
{
    struct loop_thread *thread = CONTAINER_OF(task, struct loop_thread, drain_task);
    close_listeners(thread);
    timer_init(&thread->grace, on_grace_over);
    timer_start(thread->loop, &thread->grace, thread->all->grace_ns);
    http_server_drain(thread->server, on_drained, thread);
}

void loops_drain(struct loops *loops, int64_t grace_ns, void (*drained)(void *arg), void *arg)
{
    loops->grace_ns = grace_ns;
    loops->draining = loops->count;
    loops->drained = drained;
    loops->drained_arg = arg;
    for (int i = 0; i < loops->count; i++) {
        struct loop_thread *thread = &loops->threads[i];
        thread->drain_task.run = run_drain;
        loop_post(thread->loop, &thread->drain_task);
    }
}
