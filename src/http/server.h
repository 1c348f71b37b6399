/* The HTTP server: HTTP/1.1 (keep-alive, pipelining in order, chunked) on one loop. A request is
 * handed over when its head is complete; the body then either is collected whole (the usual) or
 * handed on in parts. The answer is whole or streamed, with back-pressure in the interface. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "http/message.h"
#include "io/stream.h"

struct http_server;
struct http_request;

enum proceed { STOP = 0, PROCEED = 1 }; /* what a consumer tells its producer */

/* Owned by the connection; valid until the answer was ended and sent, or `gone` was called. */
struct http_request {
    struct arena *arena; /* freed with the request; cap set by the server's options */
    struct loop *loop;
    struct str method; /* "GET" */
    struct str target; /* as received */
    struct str path;   /* percent-decoded, dot segments refused */
    struct str query;  /* raw, without '?' */
    struct http_headers headers;
    struct str body; /* whole, once `handle` is called */
    struct str peer; /* address text */
    struct str id;   /* x-request-id: the client's where it is harmless, else a new one */
    bool tls;
    int64_t started_ns;  /* monotonic: first byte of the head read */
    int64_t received_ns; /* monotonic: body complete */
    void *user;          /* the handler's */
    /* Set by the handler, all may be NULL. On the loop; `gone` and `writable` never from inside an
     * http_respond call. */
    void (*gone)(struct http_request *request); /* the client left; no answer can be sent any more:
                                                   free what belongs to it, do not call respond.
                                                   NULL: the answer is awaited and thrown away */
    void (*writable)(struct http_request *request); /* after STOP: go on */
    void (*ended)(struct http_request *request); /* exactly once, last, however it ended: the answer
                                                    is with the kernel, or the client has left */
};

struct http_server_options {
    /* Head complete: bound of the body in bytes (< 0: refuse and answer yourself at once via
     * http_respond_*). NULL: LIMIT_BODY_BYTES. */
    int64_t (*admit)(void *arg, struct http_request *request);
    /* Head and body complete: answer now or later. */
    void (*handle)(void *arg, struct http_request *request);
    void *arg;
    bool tls;                /* what request->tls says */
    int64_t head_timeout_ns; /* whole head, from its first byte: 408 and close; 0 here and below:
                                none */
    int64_t body_timeout_ns; /* between two reads of the body: 408 and close */
    int64_t idle_timeout_ns; /* kept open without a request */
    int64_t send_timeout_ns; /* the client takes nothing of what waits for it: dropped */
    size_t connections_max;
    size_t request_arena_bytes_max;
    size_t stalled_bytes_max; /* answer bytes held for a client that does not read; 0 here and
                                 above: the default of limits.h */
};

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options);
/* `accepted` for listener_new. */
void http_server_accept(void *server, struct stream *stream);
/* No new requests on kept connections; calls `drained` when the last answer is out. */
void http_server_drain(struct http_server *server, void (*drained)(void *arg), void *arg);
void http_server_free(struct http_server *server); /* closes what is open */

struct http_server_stats {
    uint64_t requests, connections_now, connections_total, bytes_in, bytes_out;
};
void http_server_stats(const struct http_server *server, struct http_server_stats *out);

/* ---- answers ---- */
/* Whole; copies nothing that lives in the request's arena or is static: `body` must stay valid
 * until the request ends. Adds date, content-length, x-request-id and the headers put on the
 * request before. */
void http_respond(struct http_request *request, int status, struct str content_type,
                  struct str body);
/* Extra header of the answer, before it begins. */
void http_respond_header(struct http_request *request, struct str name, struct str value);
/* The same for many at once, as "name: value\r\n" each: the caller vouches that they are
 * well-formed. Copied. */
void http_respond_lines(struct http_request *request, struct str lines);
/* Streamed: begin, write any number of times, end. chunked for HTTP/1.1. */
void http_respond_begin(struct http_request *request, int status, struct str content_type);
/* One system call each: gather what belongs together. Copies what the socket does not take at once.
 * STOP: wait for `writable`; a write after STOP is still taken while stalled_bytes_max allows, else
 * the client is dropped and `gone` comes (later). */
enum proceed http_respond_write(struct http_request *request, struct str data);
void http_respond_end(struct http_request *request);
/* Breaks off a streamed answer so that the client notices: no last chunk. */
void http_respond_abort(struct http_request *request);
