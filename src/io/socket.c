/* Streams over TCP and Unix sockets on the epoll loop.
 *
 * Readiness is remembered in flags, set by events and cleared by what a call told: EAGAIN, or a
 * short transfer, which epoll(7) allows to be taken for it. So after a request was read in one
 * piece the next stream_read answers RC_AGAIN without a system call. The exception is the end of
 * the stream: once a hang-up was reported no further edge will come for it, so reading then goes on
 * until it says so. What socket_batch.c has read ahead is given first; small writes go through it.
 */
#include "io/socket_private.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

static void socket_ready(struct source *source, uint32_t events)
{
    struct socket_stream *socket = CONTAINER_OF(source, struct socket_stream, source);
    struct stream *stream = &socket->base;
    unsigned told = 0;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        stream->hung_up = true;
        stream->readable = true;
        told |= STREAM_CLOSED | STREAM_READABLE;
    }
    if (events & EPOLLIN) {
        if (!socket->looked) {
            stream->readable = true;
            socket->drained = false;
        }
        told |= STREAM_READABLE;
    }
    socket->looked = false;
    /* Each edge repeats what is ready: writable is news only after a write fell short. */
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && !stream->writable &&
        (!socket->unsent || batch_send_unsent(socket))) {
        stream->writable = true;
        if (socket->end_wanted)
            shutdown(socket->fd, SHUT_WR);
        told |= STREAM_WRITABLE;
    }
    if (told)
        stream_tell(stream, told);
}

static enum rc socket_read(struct stream *stream, void *p, size_t n_max, size_t *n)
{
    struct socket_stream *socket = SOCKET(stream);
    size_t have = batch_take(socket, p, n_max);
    *n = have;
    if (have == n_max || !stream->readable)
        return have ? RC_OK : RC_AGAIN;
    if (socket->broken)
        return have ? RC_OK : RC_IO;
    ssize_t got;
    do
        got = recv(socket->fd, (char *)p + have, n_max - have, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *n = have + (size_t)got;
        batch_note_read(socket, *n);
        if (*n < n_max && !stream->hung_up)
            stream->readable = false;
        return RC_OK;
    }
    if (got == 0) {
        stream->hung_up = true;
        return have ? RC_OK : RC_END;
    }
    socket->broken = errno != EAGAIN;
    stream->readable = socket->broken;
    if (have)
        return RC_OK;
    return socket->broken ? RC_IO : RC_AGAIN;
}

static enum rc socket_write(struct stream *stream, const struct iovec *parts, int count, size_t *n)
{
    if (!stream->writable)
        return RC_AGAIN;
    int fd = SOCKET(stream)->fd;
    size_t offered = 0;
    for (int i = 0; i < count; i++)
        offered += parts[i].iov_len;
    *n = offered;
    if (batch_gather(SOCKET(stream), parts, count, offered))
        return RC_OK;
    batch_send(SOCKET(stream));
    *n = 0;
    if (!stream->writable)
        return RC_AGAIN;
    ssize_t sent;
    do {
        if (count == 1) {
            sent = send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL);
        } else {
            struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
            sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        }
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (errno != EAGAIN)
            return RC_IO;
        stream->writable = false;
        return RC_AGAIN;
    }
    *n = (size_t)sent;
    stream->writable = (size_t)sent == offered;
    return RC_OK;
}

static void socket_shutdown(struct stream *stream)
{
    struct socket_stream *socket = SOCKET(stream);
    batch_send(socket);
    if (socket->unsent)
        socket->end_wanted = true;
    else
        shutdown(socket->fd, SHUT_WR);
}

static void socket_free(struct dead *dead)
{
    struct socket_stream *socket = CONTAINER_OF(dead, struct socket_stream, dead);
    slab_give(&socket->base.loop->streams, socket);
}

void socket_bury(struct socket_stream *socket)
{
    socket->source.ready = NULL;
    /* Closing alone is not enough: a child between fork and exec holds a copy, and as long as there
     * is one, epoll would tell of a socket that has been freed. */
    epoll_remove(socket->base.loop, socket->fd);
    close(socket->fd);
    loop_bury(socket->base.loop, &socket->dead);
}

static void socket_close(struct stream *stream)
{
    struct socket_stream *socket = SOCKET(stream);
    if (!batch_close(socket))
        socket_bury(socket);
}

static struct str socket_peer_text(const struct stream *stream)
{
    struct socket_stream *socket = SOCKET((struct stream *)stream);
    if (socket->peer_text[0] == '\0') {
        struct endpoint peer = {.any.sa_family = socket->peer.family};
        if (socket->peer.family == AF_INET)
            memcpy(&peer.v4.sin_addr, socket->peer.bytes, sizeof(peer.v4.sin_addr));
        else if (socket->peer.family == AF_INET6)
            memcpy(&peer.v6.sin6_addr, socket->peer.bytes, sizeof(peer.v6.sin6_addr));
        char text[ENDPOINT_TEXT_BYTES_MAX];
        size_t n = endpoint_host_text(&peer, text);
        ASSERT(n < sizeof(socket->peer_text));
        memcpy(socket->peer_text, text, n + 1);
    }
    return str_from(socket->peer_text);
}

static const struct stream_ops socket_ops = {
    .read = socket_read,
    .write = socket_write,
    .shutdown = socket_shutdown,
    .close = socket_close,
    .peer_text = socket_peer_text,
};

struct stream *socket_stream_new(struct loop *loop, int fd, const struct endpoint *peer)
{
    if (loop->streams.object_bytes == 0)
        slab_init(&loop->streams, sizeof(struct socket_stream), 0);
    struct socket_stream *socket = slab_take(&loop->streams);
    if (socket == NULL) {
        close(fd);
        return NULL;
    }
    socket->base = (struct stream){.ops = &socket_ops, .loop = loop, .writable = true};
    socket->source.ready = socket_ready;
    socket->source.is_socket = true;
    list_init(&socket->dead.node);
    socket->dead.free = socket_free;
    socket->fd = fd;
    socket->peer.family = peer->any.sa_family;
    if (peer->any.sa_family == AF_INET)
        memcpy(socket->peer.bytes, &peer->v4.sin_addr, sizeof(peer->v4.sin_addr));
    else if (peer->any.sa_family == AF_INET6)
        memcpy(socket->peer.bytes, &peer->v6.sin6_addr, sizeof(peer->v6.sin6_addr));
    uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (epoll_add(loop, fd, events, &socket->source) != RC_OK) {
        close(fd);
        slab_give(&loop->streams, socket);
        return NULL;
    }
    return &socket->base;
}

struct stream *socket_dial(struct loop *loop, const struct endpoint *to, struct err *err)
{
    char text[ENDPOINT_TEXT_BYTES_MAX];
    int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        endpoint_text(to, text);
        err_set(err, ERR_OVERLOADED, "no socket to connect to %s: %s", text, strerror(errno));
        return NULL;
    }
    if (to->any.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(fd, &to->any, to->bytes) != 0 && errno != EINPROGRESS) {
        endpoint_text(to, text);
        err_set(err, ERR_UPSTREAM, "cannot connect to %s: %s", text, strerror(errno));
        close(fd);
        return NULL;
    }
    struct stream *stream = socket_stream_new(loop, fd, to);
    if (stream == NULL)
        err_set(err, ERR_OVERLOADED, "no memory for a connection");
    else {
        stream->writable = false; /* becoming it is the news */
        SOCKET(stream)->source.dialed = true;
    }
    return stream;
}

enum rc socket_dial_result(struct stream *stream, struct err *err)
{
    int error = 0;
    socklen_t bytes = sizeof(error);
    if (getsockopt(SOCKET(stream)->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 && error == 0)
        return RC_OK;
    struct str peer = socket_peer_text(stream);
    return err_set(err, ERR_UPSTREAM, "cannot connect to %.*s: %s", STR_ARG(peer), strerror(error));
}
