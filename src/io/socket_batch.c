/* The reads and writes of a turn in batches.
 *
 * A turn under load brings a dozen events. Taking each from its recv through all of the program to
 * its send walks a hundred KB of the kernel's code and as much of ours for every event, more than
 * the processor's nearest cache holds. So the sockets of a turn are first all read, then their
 * owners are told, and what they write is gathered and sent at the end of the turn: each stretch of
 * code serves a dozen before the next begins. The owners do not notice: a read takes what is there
 * already, a write is copied and accepted.
 *
 * Large pieces go their own way: for them the copy would cost more than it saves.
 *
 * Bounds: 16 sockets and AHEAD_BYTES are read ahead, GATHER_COUNT writes and GATHER_BYTES gathered.
 * What an owner does not take before the memory is needed again is kept aside for it, AHEAD_PIECE
 * at most, and nothing more is read ahead until it was taken. What the system does not take at the
 * end is kept aside likewise, GATHER_PIECE at most for a turn, and the stream is not writable until
 * it is out; one that is closed meanwhile lingers, unknown to its owner. */
#include "base/clock.h"
#include "io/socket_private.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define AHEAD_PIECE  (16 * 1024)
#define AHEAD_COUNT  16
#define AHEAD_BYTES  (AHEAD_COUNT * AHEAD_PIECE)
#define READ_LARGE   (4 * 1024)
#define GATHER_PIECE (4 * 1024)
#define GATHER_BYTES (128 * 1024)
#define GATHER_COUNT 32
#define LINGER_NS    (30 * NS_PER_S)

struct gathered {
    struct socket_stream *socket;
    char *p;
    size_t n;
};

struct batch {
    struct list lingering; /* struct unsent */
    struct gathered gathered[GATHER_COUNT];
    size_t gathered_count, gathered_bytes;
    char out[GATHER_BYTES];
    char in[AHEAD_BYTES];
};

struct batch *batch_new(void)
{
    struct batch *batch = xmalloc(sizeof(*batch)); /* its pages are touched when they are used */
    list_init(&batch->lingering);
    batch->gathered_count = batch->gathered_bytes = 0;
    return batch;
}

static void unsent_drop(struct socket_stream *socket)
{
    struct unsent *unsent = socket->unsent;
    timer_stop(&unsent->timer);
    list_remove(&unsent->node);
    socket->unsent = NULL;
    free(unsent);
}

void batch_free(struct batch *batch)
{
    while (!list_empty(&batch->lingering)) {
        struct socket_stream *socket = LIST_FIRST(&batch->lingering, struct unsent, node)->socket;
        unsent_drop(socket);
        socket_bury(socket);
    }
    free(batch);
}

struct batch *batch_of(const struct socket_stream *socket)
{
    return EPOLL_LOOP(socket->base.loop)->batch;
}

/* ---- reading ahead ---- */

static size_t read_ahead(struct socket_stream *socket, char *at)
{
    struct stream *stream = &socket->base;
    ssize_t got = recv(socket->fd, at, AHEAD_PIECE, 0);
    if (got > 0) {
        socket->ahead = at;
        socket->ahead_n = (uint32_t)got;
        socket->drained = got < AHEAD_PIECE;
        socket->reads_much = got > READ_LARGE;
        stream->readable = true;
        return ALIGN_UP((size_t)got, CACHE_LINE_BYTES);
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        stream->readable = errno == EINTR;
        return 0;
    }
    stream->hung_up = stream->hung_up || got == 0;
    socket->broken = got < 0; /* the system tells an error once */
    socket->drained = false;
    stream->readable = true;
    return 0;
}

/* Reads for the events from `at` on, as far as the memory goes; where it stopped. */
int batch_read_ahead(struct epoll_loop *epoll, int at)
{
    struct batch *batch = epoll->batch;
    char *p = batch->in;
    int end = MIN(at + AHEAD_COUNT, epoll->event_count);
    for (; at < end; at++) {
        struct source *source = epoll->events[at].data.ptr;
        if (!source->is_socket || !source->ready ||
            (epoll->events[at].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != EPOLLIN)
            continue;
        struct socket_stream *socket = CONTAINER_OF(source, struct socket_stream, source);
        if (socket->base.readable || socket->reads_much)
            continue; /* its owner has not read what came before; or the copy would cost too much */
        socket->looked = true;
        p += read_ahead(socket, p);
    }
    return end;
}

/* The memory is needed again: what owners left of these events is kept aside. */
void batch_keep_ahead(struct epoll_loop *epoll, int from, int to)
{
    for (; from < to; from++) {
        struct source *source = epoll->events[from].data.ptr;
        struct socket_stream *socket = CONTAINER_OF(source, struct socket_stream, source);
        if (!source->is_socket || socket->ahead_n == 0 || socket->ahead_own)
            continue;
        socket->ahead_block = xmalloc(socket->ahead_n);
        memcpy(socket->ahead_block, socket->ahead, socket->ahead_n);
        socket->ahead = socket->ahead_block;
        socket->ahead_own = true;
    }
}

static void ahead_drop(struct socket_stream *socket)
{
    free(socket->ahead_block);
    socket->ahead_block = NULL;
    socket->ahead_own = false;
    socket->ahead_n = 0;
}

size_t batch_take(struct socket_stream *socket, char *p, size_t n_max)
{
    size_t n = MIN(n_max, (size_t)socket->ahead_n);
    if (n == 0)
        return 0;
    memcpy(p, socket->ahead, n);
    socket->ahead += n;
    socket->ahead_n -= (uint32_t)n;
    if (socket->ahead_n > 0)
        return n;
    ahead_drop(socket);
    if (socket->drained)
        socket->base.readable = false;
    return n;
}

void batch_note_read(struct socket_stream *socket, size_t n)
{
    socket->reads_much = n > READ_LARGE;
}

/* ---- sending together ---- */

/* Sends a prefix; how many bytes. What cannot be sent for good counts as sent: the hang-up tells.
 */
static size_t send_some(struct socket_stream *socket, const char *p, size_t n)
{
    ssize_t sent;
    do
        sent = send(socket->fd, p, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? 0 : n;
    return (size_t)sent;
}

static void linger_timeout(struct timer *timer)
{
    struct socket_stream *socket = CONTAINER_OF(timer, struct unsent, timer)->socket;
    unsent_drop(socket);
    socket_bury(socket);
}

void batch_send(struct socket_stream *socket)
{
    if (!socket->gathered)
        return;
    struct gathered *gathered = &batch_of(socket)->gathered[socket->gathered - 1];
    socket->gathered = 0;
    gathered->socket = NULL;
    size_t sent = send_some(socket, gathered->p, gathered->n);
    if (sent == gathered->n)
        return;
    struct unsent *unsent = xmalloc(sizeof(*unsent) + gathered->n - sent);
    *unsent = (struct unsent){.socket = socket, .n = gathered->n - sent};
    list_init(&unsent->node);
    timer_init(&unsent->timer, linger_timeout);
    memcpy(unsent->p, gathered->p + sent, unsent->n);
    socket->unsent = unsent;
    socket->base.writable = false;
}

void batch_flush(struct loop *loop)
{
    struct batch *batch = EPOLL_LOOP(loop)->batch;
    for (size_t i = 0; i < batch->gathered_count; i++)
        if (batch->gathered[i].socket)
            batch_send(batch->gathered[i].socket);
    batch->gathered_count = batch->gathered_bytes = 0;
}

bool batch_gather(struct socket_stream *socket, const struct iovec *parts, int count, size_t n)
{
    struct loop *loop = socket->base.loop;
    struct batch *batch = batch_of(socket);
    if (!EPOLL_LOOP(loop)->in_turn || n > GATHER_PIECE)
        return false;
    struct gathered *gathered = socket->gathered ? &batch->gathered[socket->gathered - 1] : NULL;
    bool last = gathered && gathered->p + gathered->n == batch->out + batch->gathered_bytes;
    if (gathered && (!last || gathered->n + n > GATHER_PIECE))
        return false;
    if (batch->gathered_bytes + n > GATHER_BYTES ||
        (!gathered && batch->gathered_count == GATHER_COUNT)) {
        batch_flush(loop);
        gathered = NULL;
        if (!socket->base.writable)
            return false;
    }
    if (!gathered) {
        gathered = &batch->gathered[batch->gathered_count++];
        *gathered = (struct gathered){socket, batch->out + batch->gathered_bytes, 0};
        socket->gathered = (uint8_t)batch->gathered_count;
    }
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len)
            memcpy(gathered->p + gathered->n, parts[i].iov_base, parts[i].iov_len);
        gathered->n += parts[i].iov_len;
    }
    batch->gathered_bytes += n;
    return true;
}

bool batch_send_unsent(struct socket_stream *socket)
{
    struct unsent *unsent = socket->unsent;
    unsent->at += send_some(socket, unsent->p + unsent->at, unsent->n - unsent->at);
    if (unsent->at < unsent->n)
        return false;
    unsent_drop(socket);
    return true;
}

/* ---- closing ---- */

static void linger_ready(struct source *source, uint32_t events)
{
    struct socket_stream *socket = CONTAINER_OF(source, struct socket_stream, source);
    if (events & (EPOLLERR | EPOLLHUP))
        unsent_drop(socket);
    else if (!(events & EPOLLOUT) || !batch_send_unsent(socket))
        return;
    socket_bury(socket);
}

bool batch_close(struct socket_stream *socket)
{
    batch_send(socket);
    ahead_drop(socket);
    struct unsent *unsent = socket->unsent;
    if (!unsent)
        return false;
    socket->source.ready = linger_ready;
    list_push_back(&batch_of(socket)->lingering, &unsent->node);
    timer_start(socket->base.loop, &unsent->timer, LINGER_NS);
    return true;
}
