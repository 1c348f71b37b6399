/* The epoll loop and the sockets on it. For src/io only. */
#pragma once
#include "io/loop_private.h"
#include "io/stream_private.h"
#include <sys/epoll.h>

#define EPOLL_EVENTS_MAX 256

/* What the data of an epoll event points to. */
struct source {
    void (*ready)(struct source *source, uint32_t events); /* NULL: closed, or the wake-up */
    bool is_socket;                                        /* embedded in a struct socket_stream */
    bool dialed;                                           /* of those: connected by us */
};

struct epoll_loop {
    struct loop base;
    int fd, wake_fd;
    struct source wake_source;
    int event_count;
    bool no_pwait2; /* the kernel lacks epoll_pwait2 */
    bool in_turn;   /* what is written may wait for the end of the turn */
    struct batch *batch;
    int64_t wall_read_ns, wall_offset_ns;
    struct epoll_event events[EPOLL_EVENTS_MAX];
};
#define EPOLL_LOOP(loop) CONTAINER_OF(loop, struct epoll_loop, base)

enum rc epoll_add(struct loop *loop, int fd, uint32_t events, struct source *source) MUST_CHECK;
void epoll_change(struct loop *loop, int fd, uint32_t events, struct source *source);
void epoll_remove(struct loop *loop, int fd);

/* socket_batch.c: the reads and writes of a turn in batches */
struct batch *batch_new(void);
void batch_free(struct batch *batch);
int batch_read_ahead(struct epoll_loop *epoll, int at);
void batch_keep_ahead(struct epoll_loop *epoll, int from, int to);
void batch_flush(struct loop *loop);

/* socket.c */
struct stream *socket_dial(struct loop *loop, const struct endpoint *to, struct err *err);
enum rc socket_dial_result(struct stream *stream, struct err *err);
/* A connected, non-blocking socket; NULL when memory or the system refuses (fd is closed then). */
struct stream *socket_stream_new(struct loop *loop, int fd, const struct endpoint *peer);

/* socket_listen.c */
enum rc socket_listen(struct listener *listener, const struct address *address, struct err *err);
void socket_listen_pause(struct listener *listener, bool paused);
void socket_listen_close(struct listener *listener);

/* dns.c */
struct lookup *resolver_lookup(struct loop *loop, struct str host, uint16_t port, resolved_fn *done,
                               void *arg);
void resolver_cancel(struct lookup *lookup);
/* Asks this server, "127.0.0.1:5353", instead of the system's: for tests. */
void resolver_set_server(struct loop *loop, struct str server);
void resolver_free(struct resolver *resolver);
