/* The one way out of pipelines to other services: HTTP requests of nodes, tools and MCP. The name
 * is resolved by the loop's own client, which refuses addresses that are not public unless an
 * administrator allowed the host (pipelines.http_allow). Redirects are not followed: each would be
 * another address. On the loop. */
#pragma once
#include "base/buf.h"
#include "http/client.h"

struct pipeline_loop;

#define FETCH_BODY_BYTES_MAX  (8 * 1024 * 1024)
#define FETCH_ARENA_BYTES_MAX (64 * 1024 * 1024)
#define FETCH_TIMEOUT_NS      (60 * NS_PER_S) /* between two bytes */

struct connector_target {
    struct http_origin *origin; /* the client's */
    struct url url;             /* points into the text */
};

/* Only http: and https:. ERR_INVALID. */
enum rc connector_open(struct pipeline_loop *loop, struct str url, struct connector_target *out,
                       struct err *err) MUST_CHECK;

/* A request whose answer is taken whole: made, filled (texts in its arena), then sent. */
struct fetch {
    struct arena arena;
    struct str method, url, body;
    struct http_headers headers;
    bool repeatable; /* may be sent again when a kept connection turns out to be closed */
    struct http_origin *origin; /* by fetch_prepare */
    struct str path;
    struct http_exchange *exchange; /* NULL: not sent, or ended */
    /* the answer */
    int status;
    struct http_headers answered;
    struct buf received;
    bool too_large;
    /* Bytes have come, and lie in `received`; may be NULL. */
    void (*grown)(void *arg, struct fetch *fetch);
    void (*done)(void *arg, struct fetch *fetch, const struct err *err);
    void *arg;
};

struct fetch *fetch_new(void);
/* ERR_INVALID for the header's name. */
enum rc fetch_add_header(struct fetch *fetch, struct str name, struct str value,
                         struct err *err) MUST_CHECK;
/* Checks the address; `query` (may be empty) is added to it. */
enum rc fetch_prepare(struct fetch *fetch, struct pipeline_loop *loop, struct str query,
                      struct err *err) MUST_CHECK;
/* `done` comes once, later; err NULL: an answer, whatever its status. It frees the fetch. */
void fetch_send(struct fetch *fetch,
                void (*done)(void *arg, struct fetch *fetch, const struct err *err), void *arg);
void fetch_free(struct fetch *fetch); /* cancels what is under way; NULL passes */
