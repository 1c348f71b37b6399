/* The HTTP client: exchanges with an origin over pooled keep-alive connections of one loop,
 * HTTP/1.1 or HTTP/2 (many streams on a connection). Not shared between loops. */
#pragma once
#include "base/err.h"
#include "http/message.h"
#include "http/server.h" /* enum proceed */
#include "io/stream.h"

struct http_client;   /* the pools of one loop */
struct http_origin;   /* scheme + address + TLS + proxy: where connections can be shared */
struct http_exchange; /* one request and its answer */

struct http_origin_options {
    struct str url;     /* https://host[:port], http://…, unix:/path */
    struct str ca_file; /* empty: system store */
    struct str proxy;   /* empty: from the environment (HTTPS_PROXY, NO_PROXY, …); "none": never */
    bool http2;         /* offer h2 by ALPN; over plain http: prior knowledge */
    bool public_only;   /* SSRF: refuse non-public addresses after resolving */
    size_t connections_max; /* 0: default */
};

struct http_client *http_client_new(struct loop *loop);
void http_client_free(
    struct http_client *client); /* exchanges still under way end with RC_CANCELLED */
/* Found or made; lives as long as the client; cheap to call for each request. */
struct http_origin *http_client_origin(struct http_client *client,
                                       const struct http_origin_options *options, struct err *err);

struct http_exchange_timing { /* monotonic ns; 0: did not happen */
    int64_t queued_ns, connected_ns, sent_ns, head_ns, first_byte_ns, done_ns;
    bool reused;
};

/* What an exchange tells its owner, on the loop, never from inside http_exchange_*. */
struct http_exchange_owner {
    /* Final status and headers (1xx are skipped); valid during the call only. */
    void (*head)(void *owner, int status, const struct http_headers *headers);
    /* Body bytes (content-encoding undone), as they come. STOP: no more of them until
     * http_exchange_resume (`done` may come, when these were the last). */
    enum proceed (*data)(void *owner, struct str data);
    /* Exactly once, last: err NULL = complete. err->rc: RC_DOWN (could not connect), RC_TIMEOUT,
     * RC_IO (broke off), RC_INVALID (not HTTP), RC_LIMIT. The exchange is freed after it. */
    void (*done)(void *owner, const struct err *err, const struct http_exchange_timing *timing);
};

struct http_exchange_request {
    struct str method;
    struct str path; /* with query */
    const struct http_header *headers;
    size_t header_count; /* host, content-length, accept-encoding are added */
    struct str body[4];  /* sent one after the other; must stay valid until `done` or cancel */
    size_t body_parts;
    int64_t connect_timeout_ns; /* 0: none, as for the others */
    int64_t head_timeout_ns;    /* from sent to head */
    int64_t idle_timeout_ns;    /* between two reads of the body, not while stopped */
    bool retry_stale; /* repeat once when a reused connection turns out closed before a byte
                         of the answer came */
};

/* The request is sent whole: its headers and body are not looked at any more. */
bool http_exchange_is_sent(const struct http_exchange *exchange);
/* `done` may come with an error at once, but only after this returned. */
struct http_exchange *http_exchange_start(struct http_origin *origin,
                                          const struct http_exchange_request *request,
                                          const struct http_exchange_owner *calls, void *owner);
void http_exchange_resume(struct http_exchange *exchange);
/* Ends it now: no callback comes any more; the connection (or h2 stream) is reset. */
void http_exchange_cancel(struct http_exchange *exchange);

struct http_client_stats {
    uint64_t exchanges, connects, reuses, failures;
    size_t idle_now, busy_now;
};
void http_client_stats(const struct http_client *client, struct http_client_stats *out);
