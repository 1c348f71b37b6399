/* A byte stream: TCP, Unix socket, TLS over either, or the simulator's pipe. Pull model: the owner
 * is told that the stream became readable or writable (edge-triggered) and then reads or writes
 * until RC_AGAIN. Nothing is buffered here but TLS's own record, so back-pressure is simply not
 * reading. Belongs to one loop. */
#pragma once
#include "base/err.h"
#include "io/loop.h"
#include <sys/uio.h>

struct stream;
struct tls_context; /* io/tls.h */

/* An address to connect to or listen on. */
struct address {
    enum { ADDRESS_TCP, ADDRESS_UNIX } kind;
    struct str host; /* name, IPv4 or IPv6 literal without brackets; path of a Unix socket */
    uint16_t port;   /* 0 when listening: any free one */
};

/* "127.0.0.1:4100", "[::1]:4100", ":4100", "localhost:4100", "unix:/run/capstan.sock" */
enum rc address_parse(struct str s, uint16_t default_port, struct address *out) MUST_CHECK;

enum { STREAM_READABLE = 1, STREAM_WRITABLE = 2, STREAM_CLOSED = 4 };

/* What a stream tells its owner, on its loop's thread. Never called from inside stream_read,
 * stream_write or stream_close. */
struct stream_owner {
    /* Edge: something changed since RC_AGAIN. STREAM_CLOSED: the peer hung up or reset; reading
     * tells. */
    void (*ready)(void *owner, struct stream *stream, unsigned events);
};

void stream_set_owner(struct stream *stream, const struct stream_owner *calls, void *owner);

/* RC_OK with *n > 0; RC_AGAIN; RC_END at the peer's orderly close; RC_IO. Fewer bytes than n_max
 * say the same as RC_AGAIN would next time: there is no more now, and `ready` will tell when there
 * is (so one call reads one request; TLS therefore fills the caller's memory from as many records
 * as there are). Only after STREAM_CLOSED must one read on until RC_END or RC_IO. */
enum rc stream_read(struct stream *stream, void *p, size_t n_max, size_t *n) MUST_CHECK;
/* Writes a prefix: RC_OK with *n > 0, RC_AGAIN, RC_IO. Less than given: as RC_AGAIN, `ready` tells.
 */
enum rc stream_write(struct stream *stream, const struct iovec *parts, int count,
                     size_t *n) MUST_CHECK;
/* No more will be written: FIN or close_notify. */
void stream_shutdown(struct stream *stream);
/* Closes at once and frees; no callback comes after it. */
void stream_close(struct stream *stream);

struct str stream_alpn(const struct stream *stream);      /* "h2", "http/1.1" or empty */
struct str stream_peer_text(const struct stream *stream); /* "203.0.113.7", "unix" */
struct loop *stream_loop(const struct stream *stream);

/* ---- connect ---- */
struct connect_options {
    struct address address;
    struct tls_context *tls;    /* NULL: plain */
    struct str tls_server_name; /* SNI and certificate check */
    bool offer_h2;
    bool
        public_only; /* refuse loopback, private and link-local addresses (SSRF), after resolving */
    int64_t timeout_ns; /* resolve + connect + handshake */
};

struct connecting; /* an attempt under way */

/* Resolves (with cache; happy-eyeballs order), connects, shakes hands. Exactly one `done`, later,
 * unless cancelled. On failure stream is NULL and err tells what and where. */
struct connecting *
stream_connect(struct loop *loop, const struct connect_options *options,
               void (*done)(void *arg, struct stream *stream, const struct err *err), void *arg);
void stream_connect_cancel(struct connecting *connecting);
/* Wraps TLS (as client) around an open stream, e.g. after a proxy's CONNECT; takes the stream. */
struct connecting *
stream_start_tls(struct stream *stream, const struct connect_options *options,
                 void (*done)(void *arg, struct stream *stream, const struct err *err), void *arg);

/* ---- listen ---- */
struct listener;

/* One per loop and address; TCP uses SO_REUSEPORT so that each loop has its own queue. `accepted`
 * gets each new stream (after the TLS handshake when `tls` is set) and owns it. */
struct listener *listener_new(struct loop *loop, const struct address *address,
                              struct tls_context *tls,
                              void (*accepted)(void *arg, struct stream *stream), void *arg,
                              struct err *err);
/* The same from a socket that another process handed over or systemd opened. */
struct listener *listener_from_fd(struct loop *loop, int fd, struct tls_context *tls,
                                  void (*accepted)(void *arg, struct stream *stream), void *arg);
int listener_fd(const struct listener *listener);
uint16_t listener_port(const struct listener *listener);
/* Pause while a bound on connections is reached; queued peers wait in the kernel. */
void listener_pause(struct listener *listener, bool paused);
void listener_close(struct listener *listener);
