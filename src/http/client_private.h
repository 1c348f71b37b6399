/* What the client's files share: client.c (exchanges), link.c (HTTP/1.1 connections), client_h2.c
 * (HTTP/2 connections), pool.c (origins, pools, connecting), proxy.c. Private to these. */
#pragma once
#include "base/buf.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "base/slab.h"
#include "http/client.h"
#include "http/content.h"
#include "http/head.h"
#include "http/proxy.h"
#include "io/tls.h"

#define CLIENT_MAGIC               0x6874636cu
#define ORIGIN_MAGIC               0x68746f72u
#define EXCHANGE_MAGIC             0x68746578u
#define LINK_MAGIC                 0x68746c6bu
#define CLIENT_READ_BYTES          (32 * 1024)
#define CLIENT_CONNECT_NS          (30 * NS_PER_S) /* one attempt, whoever waits for it */
#define CLIENT_IDLE_NS             (90 * NS_PER_S) /* an idle connection is kept so long */
#define CLIENT_SWEEP_NS            (5 * NS_PER_S)
#define ORIGIN_CONNECTIONS_DEFAULT LIMIT_CONNECTIONS
#define ORIGIN_CONNECTING_MAX      64 /* attempts under way at once */

/* Where an exchange is. It is on one list: the origin's `waiting`, its connection's, or none. */
enum exchange_state {
    EXCHANGE_WAIT, /* for a connection */
    EXCHANGE_HEAD, /* request sent or being sent, no final status yet */
    EXCHANGE_BODY, /* head told */
    EXCHANGE_DONE, /* ended; `done` is told, or about to be, or cancelled */
};

struct http_exchange {
    uint32_t magic;
    uint8_t state;    /* enum exchange_state */
    bool to_head;     /* the method is HEAD */
    bool retry_stale; /* may be repeated once on another connection */
    bool fresh_only;  /* it has been: take no idle connection */
    bool stopped;     /* the owner said STOP */
    bool deferred;    /* `task` is queued */
    bool in_call;     /* a callback of the owner is on the stack */
    uint8_t refusals; /* HTTP/2: times the peer would not look at it */
    bool answered;    /* a byte of the answer has come */
    struct http_origin *origin;
    const struct http_exchange_owner *calls;
    void *owner;
    struct list node;
    struct link *link;          /* HTTP/1.1, or */
    struct h2_session *session; /* HTTP/2 */
    int32_t stream_id;          /* of the HTTP/2 stream */
    uint16_t body_parts;
    char *head; /* serialised request (HTTP/1.1) or name-value block (HTTP/2); NULL
                   once it cannot be needed again */
    size_t head_bytes;
    struct str body[4];
    size_t sent_bytes; /* of head and body */
    int64_t head_timeout_ns, idle_timeout_ns;
    int64_t active_ns; /* last read, for the idle timeout */
    struct timer timer;
    struct task task;
    struct http_exchange_timing timing;
    struct http_decoder *decoder; /* content-encoding; NULL: none */
    struct buf held;              /* HTTP/2: body that came while stopped */
    uint32_t unconsumed;          /* HTTP/2: bytes whose flow-control window waits for resume */
    bool remote_done;             /* the last byte has come, but the owner has not taken it yet */
    struct err *failure;          /* what `done` will tell; NULL: complete */
};

/* An HTTP/1.1 connection. On the origin's `idle` or `busy` list. */
struct link {
    uint32_t magic;
    bool readable, peer_closed, reused;
    bool keep_alive;      /* as the answer's head says */
    bool in_pump, closed; /* closed while the pump was on the stack: it frees */
    uint8_t framing;      /* enum http_framing of the answer */
    uint8_t interim;      /* 1xx answers so far */
    struct http_origin *origin;
    struct stream *stream;
    struct list node;
    struct http_exchange *exchange; /* NULL: idle */
    int64_t idle_since_ns;
    uint64_t body_left; /* HTTP_BODY_LENGTH */
    size_t scanned;
    struct buf in; /* part of a head */
    struct http_chunks chunks;
};

/* One attempt to connect, with the proxy's handshake where there is one. */
struct attempt {
    struct list node; /* of origin->attempts */
    struct http_origin *origin;
    struct connecting *connecting;
    struct tunnel *tunnel;
};

struct http_origin {
    uint32_t magic;
    bool https, http2, public_only;
    bool http1_known; /* ALPN chose HTTP/1.1: connect as often as needed */
    struct http_client *client;
    struct str key;  /* of client->origins */
    struct list all; /* of client->all */
    struct address address;
    struct tls_context *tls;
    struct str authority; /* for Host */
    struct proxy proxy;
    struct str
        proxy_head;      /* HTTP/1.1 through a proxy without tunnel: its Proxy-Authorization line */
    struct list waiting; /* exchanges, first come first */
    size_t waiting_count;
    struct list attempts;
    size_t attempts_count;
    struct list idle; /* links, the most recently used first */
    struct list busy;
    size_t links_count, connections_max;
    struct list sessions; /* HTTP/2 */
    uint32_t streams_max; /* at once on a session, as the origin last said; 0: not yet */
};

struct http_client {
    uint32_t magic;
    bool freeing;
    struct loop *loop;
    struct map origins;
    struct list all;
    struct slab exchanges, links;
    struct timer sweep;
    struct proxy_settings *proxies;
    struct http_client_stats stats;
    size_t sessions_count;
    struct http_head head;
    char scratch[CLIENT_READ_BYTES];
};

/* ---- client.c: exchanges, as connections see them ---- */

/* Something is to do outside of the call that is under way: drain, pump, dispatch or free. */
void exchange_wake(struct http_exchange *exchange);
/* The exchange got a connection. */
void exchange_connected(struct http_exchange *exchange, bool reused);
/* Everything was sent: the head's deadline runs. */
void exchange_sent(struct http_exchange *exchange);
/* A byte of the answer came: it will not be repeated. */
void exchange_answered(struct http_exchange *exchange);
/* Tells head and data. False: the exchange has ended meanwhile (cancelled, or the body cannot be
 * decoded); the connection's state is for the caller to clear. */
bool exchange_tell_head(struct http_exchange *exchange, int status,
                        const struct http_headers *headers) MUST_CHECK;
bool exchange_tell_data(struct http_exchange *exchange, struct str data) MUST_CHECK;
/* The last byte of the body has been told or is held, and the connection has let go of the
 * exchange. */
void exchange_end_body(struct http_exchange *exchange);
/* The answer is complete, or (err) is not. The connection has let go of the exchange. `done` is
 * told at once unless the owner is on the stack. */
void exchange_finish(struct http_exchange *exchange, const struct err *err);
/* The connection was closed before a byte of the answer: repeats where allowed, else ends with err.
 */
void exchange_connection_lost(struct http_exchange *exchange, const struct err *err);
bool exchange_request_sent(const struct http_exchange *exchange);

/* ---- pool.c ---- */
/* An exchange, link or session was freed: when the client is being freed, it goes with the last. */
void client_release(struct http_client *client);
void origin_dispatch(struct http_exchange *exchange);
/* A connection became free or capacity did: serves those who wait. */
void origin_serve(struct http_origin *origin);

/* ---- link.c ---- */
struct link *link_new(struct http_origin *origin, struct stream *stream);
void link_start(struct link *link, struct http_exchange *exchange);
void link_resume(struct link *link);
void link_close(struct link *link); /* its exchange has been taken off */

/* ---- client_h2.c ---- */
struct h2_session;
struct h2_session *h2_session_new(struct http_origin *origin, struct stream *stream);
bool h2_session_has_room(const struct h2_session *session);
struct h2_session *h2_session_of(struct list *node);
void h2_session_start(struct h2_session *session, struct http_exchange *exchange);
void h2_session_resume(struct h2_session *session, struct http_exchange *exchange);
/* The exchange ends before its stream does: resets it. */
void h2_session_drop(struct h2_session *session, struct http_exchange *exchange);
void h2_session_close(struct h2_session *session);
void h2_session_sweep(struct h2_session *session, int64_t now_ns);
size_t h2_session_streams(const struct h2_session *session);
