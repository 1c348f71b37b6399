/* A call: one request to a model, from its admission to its record. The doors (api/door_….c) are
 * one user; pipelines and judges are others: they call the same function inside the process, never
 * a socket.
 *
 *   resolve the model → key's globs → limits → checks → cache → targets, one after the other, until
 * one gives content → relay → settle limits, record.
 *
 * A call belongs to one loop. Its answer goes to a sink, with back-pressure: what the sink does not
 * take is not read from the upstream. Everything a call needs lives in the scope's arena. */
#pragma once
#include "gateway/scope.h"
#include "gateway/wire.h"
#include "http/server.h" /* enum proceed */
#include "trace/call.h"

struct gateway_loop;
struct call;

/* What is known when an answer begins. Texts live as long as the scope. */
struct call_head {
    int status; /* 200; or the target's, when its error passes unchanged: `done` then tells no error
                 */
    struct str content_type;
    int64_t body_bytes; /* the whole body comes in one piece of that size; -1: a stream */
    const struct call_record
        *record; /* provider, model, attempts, cache; cost when body_bytes >= 0 */
    const struct http_headers *extra; /* headers that pass from the upstream */
};

/* Called on the loop, never from inside gateway_call_…; all with the `arg` given at the start. */
struct call_sink {
    /* Once, before any data; not at all when the call fails before. */
    void (*head)(void *arg, const struct call_head *head);
    /* Bytes of the answer in the door's format, valid during the call (in one piece: as long as the
     * scope). STOP: nothing more until gateway_call_resume. */
    enum proceed (*data)(void *arg, struct str bytes);
    /* Once, last: the scope may be freed in it. Of the record, bodies, checks and response ids are
     * gone by then. err NULL: the answer is complete. Otherwise nothing was sent yet (no head:
     * answer with the error), or the answer broke off (an error event was sent as data). */
    void (*done)(void *arg, const struct call_record *record, const struct err *err);
};

struct call_request {
    enum call_door door;
    enum call_operation operation;
    enum wire_format format;
    struct str path;         /* WIRE_OPAQUE: the path below the base URL, "/audio/speech" */
    struct str path_suffix;  /* after the format's own path: "/count_tokens" */
    struct str request_id;   /* goes to the target as x-request-id */
    struct str content_type; /* as received; multipart bodies are passed through */
    struct str body;
    const struct http_headers
        *headers; /* of the client, for pass_headers, identification, rules; may be NULL */
    struct str
        credential; /* the client's Authorization value, used only by routes with pass_credential */
    struct str client_ip;
    int64_t started_ns;  /* monotonic: first byte of the request */
    int64_t received_ns; /* its last byte */
};

/* Starts a call. What it decides at once (bad request, limits) it also tells through `done`, later.
 * The body, the headers and the scope must live until `done`. NULL: the arena is too small; nothing
 * will be told. */
struct call *gateway_call_start(struct gateway_loop *gateway, const struct scope *scope,
                                const struct call_request *request, const struct call_sink *sink,
                                void *arg);
/* After STOP. */
void gateway_call_resume(struct call *call);
/* Nobody wants the answer any more: the upstream is cancelled now, the record written, nothing more
 * told. */
void gateway_call_cancel(struct call *call);
/* Known from the start: for x-capstan-call-id and traceparent of early errors. */
const struct call_record *gateway_call_record(const struct call *call);
struct limit_state; /* gateway/limit.h */
/* The tightest of the call's limits, for the rate-limit headers; all zero when none concerns it. */
void gateway_call_limits(const struct call *call, struct limit_state *out);
