/* The gateway as app/serve.c wires it: once for the process, once for each loop, and the doors. */
#pragma once
#include "gateway/call.h"
#include "gateway/metrics.h"
#include "http/client.h"

struct trace_store;
struct engines;
struct worker_pool;

struct gateway_options {
    struct trace_store *trace;   /* NULL: calls are not recorded (tests) */
    struct engines *engines;     /* NULL: local models answer ERR_ENGINE_MISSING */
    struct worker_pool *workers; /* for what would hold up a loop: counting tokens */
    bool durability_sync;        /* hold back the last byte until the record is durable */
    int64_t park_after_ns;       /* a stream flows so long before its request is parked; 0: 1 s */
    size_t cache_bytes_max;      /* of all cached answers together; 0: 64 MiB */
    /* Called on the call's loop when a call has ended, for the event stream; may be NULL. */
    void (*ended)(void *arg, const struct call_record *record);
    void *arg;
};

enum rc gateway_init(const struct gateway_options *options, struct err *err) MUST_CHECK;
void gateway_fini(void); /* after all loops' gateways are freed */

struct gateway_loop *gateway_loop_new(struct loop *loop, struct http_client *client);
/* Open calls are cancelled and recorded. */
void gateway_loop_free(struct gateway_loop *gateway);
size_t gateway_loop_calls(const struct gateway_loop *gateway); /* open now: for draining */
