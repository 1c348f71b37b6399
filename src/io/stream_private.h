/* What every kind of stream has, and the table of what differs. For src/io only. */
#pragma once
#include "io/loop_private.h"
#include "io/stream.h"

struct stream_ops {
    enum rc (*read)(struct stream *stream, void *p, size_t n_max, size_t *n);
    enum rc (*write)(struct stream *stream, const struct iovec *parts, int count, size_t *n);
    void (*shutdown)(struct stream *stream);
    void (*close)(struct stream *stream);
    struct str (*peer_text)(const struct stream *stream);
    struct str (*alpn)(const struct stream *stream); /* NULL: none */
};

struct stream {
    const struct stream_ops *ops;
    struct loop *loop;
    const struct stream_owner *calls;
    void *owner;
    bool readable; /* reading may give something: no RC_AGAIN since the last event */
    bool writable;
    bool hung_up; /* the peer has shut down, closed or reset: told by an event, or read */
};

/* Tells the owner, who may close the stream; `events` is not 0. */
static inline void stream_tell(struct stream *stream, unsigned events)
{
    if (stream->calls)
        stream->calls->ready(stream->owner, stream, events);
}

/* TLS over `transport`, which it owns from now on. `done` comes exactly once, later, unless the
 * stream is closed before; with err set the stream is closed after it returns. */
struct tls_start {
    struct tls_context *context;
    struct str server_name; /* client: SNI and certificate check; valid during the call only */
    uint16_t port;          /* client: sessions are kept by name and port */
    bool server, offer_h2;
    void (*done)(void *arg, struct stream *stream, const struct err *err);
    void *arg;
};
struct stream *tls_stream_new(struct stream *transport, const struct tls_start *start,
                              struct err *err);

/* Frees what TLS streams of a loop share; NULL is fine. */
void tls_scratch_free(struct tls_scratch *scratch);

struct listener {
    struct loop *loop;
    struct tls_context *tls;
    void (*accepted)(void *arg, struct stream *stream);
    void *arg;
    struct dead dead;
    struct list handshakes;
    struct timer retry; /* after the process ran out of descriptors */
    uint16_t port;
    int fd;
    bool paused, closed;
    void *impl; /* of the loop's kind */
};

/* A peer was accepted: shakes hands where TLS is asked for, then hands it to the owner. */
void listener_take(struct listener *listener, struct stream *stream);
