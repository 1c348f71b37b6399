/* What server.c (input, states) and respond.c (answers) share. Private to these two. */
#pragma once
#include "base/buf.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/slab.h"
#include "http/head.h"
#include "http/server.h"

#define SERVER_MAGIC           0x68747376u
#define CONNECTION_MAGIC       0x6874636eu
#define SERVER_READ_BYTES      (32 * 1024)
#define SERVER_HEAD_BYTES      (4 * 1024) /* head of an answer; larger ones are made in the arena */
#define SERVER_ARENA_BYTES_MAX (16 * 1024 * 1024)
#define SERVER_DATE_BYTES      32

/* Every connection is in exactly one; connection_move makes the moves. */
enum connection_state {
    CONNECTION_WAIT,   /* for the first byte of a request */
    CONNECTION_HEAD,   /* part of a head has come */
    CONNECTION_BODY,   /* part of a body is still to come */
    CONNECTION_HANDLE, /* the handler has the request, no answer begun */
    CONNECTION_STREAM, /* streamed answer begun */
    CONNECTION_FLUSH,  /* the answer is complete, part of it is not sent */
    CONNECTION_LINGER, /* FIN sent; what still comes is thrown away, lest a reset destroys the
                          answer */
    CONNECTION_GONE, /* the client left, the handler did not ask to be told: wait for its answer */
    CONNECTION_CLOSED, /* to be freed */
    CONNECTION_STATE_COUNT
};

/* One more header line of an answer, ready to be sent ("name: value\r\n"). */
struct answer_header {
    struct answer_header *next;
    struct str line;
};

struct connection {
    uint32_t magic;
    uint8_t state;   /* enum connection_state */
    uint8_t framing; /* enum http_framing of the request's body */
    bool readable;   /* not read to the end of what is there */
    bool peer_closed;
    bool keep_alive; /* after this answer */
    bool http10;
    bool head_only; /* the request's method is HEAD */
    bool chunked;   /* the answer is sent in chunks */
    bool bodyless;  /* the answer has none, whatever is written */
    bool in_pump;   /* connection_pump is on the stack */
    bool deferred;  /* `task` is queued */
    bool broken;    /* a write failed or passed the bound: the client is to be dropped */
    bool stop_told; /* the handler waits for `writable` */
    bool asked;     /* a request has begun on it */
    struct http_request request;
    struct http_server *server;
    struct stream *stream; /* NULL when GONE or CLOSED */
    struct list node;      /* of server->waiting or server->busy */
    struct timer timer;
    struct task task;
    struct arena arena;
    struct buf in;      /* received, not taken yet: part of a head, requests in the pipeline */
    size_t scanned;     /* of `in`, by the search for the head's end */
    struct buf body;    /* of a request too long for the arena, or of unknown length */
    uint64_t body_left; /* HTTP_BODY_LENGTH */
    int64_t body_max;   /* as admitted */
    struct http_chunks *chunks; /* HTTP_BODY_CHUNKED; in the arena */
    struct buf out;             /* answer bytes that the socket did not take */
    struct str tail;         /* the rest of a whole answer's body, sent after `out`, not copied */
    struct str head_pending; /* head of a streamed answer, sent with the first part of its body */
    struct answer_header *headers, **headers_end;
    size_t header_bytes;
};

struct http_server {
    uint32_t magic;
    struct loop *loop;
    struct http_server_options options;
    struct slab connections;
    struct list waiting; /* CONNECTION_WAIT, the longest waiting first */
    struct list busy;    /* all others but CLOSED */
    struct list closed;  /* CLOSED with a task still queued */
    bool draining, freeing;
    void (*drained)(void *arg);
    void *drained_arg;
    struct task drain_task;
    struct http_server_stats stats;
    int64_t date_second;
    char date[SERVER_DATE_BYTES];
    struct http_head head;
    char scratch[SERVER_READ_BYTES];
    char answer_head[SERVER_HEAD_BYTES];
};

static inline struct connection *connection_of(struct http_request *request)
{
    struct connection *connection = CONTAINER_OF(request, struct connection, request);
    CHECK_MAGIC(connection, CONNECTION_MAGIC);
    return connection;
}

void connection_move(struct connection *connection, enum connection_state to);
void connection_defer(struct connection *connection);
/* The answer is complete and with the kernel: on to the next request, or close. */
void connection_finish(struct connection *connection);
void connection_close(struct connection *connection);
/* Sends what waits in `out` and `tail`; tells the handler or finishes when all is out. */
void connection_flush(struct connection *connection);
/* Answers a request that never reaches the handler, and closes. */
void connection_refuse(struct connection *connection, int status, const char *reason);
