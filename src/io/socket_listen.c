/* Listening sockets on the epoll loop. Level-triggered: what a turn leaves is told again in the
 * next, so a flood of connections cannot starve those that are open. */
#include "base/clock.h"
#include "io/epoll.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_BACKLOG        4096
#define ACCEPTS_PER_TURN      64
#define OUT_OF_FILES_PAUSE_NS (100 * NS_PER_MS)

struct listen_source {
    struct source source;
    struct dead dead;
    struct listener *listener;
};

static void listen_source_free(struct dead *dead)
{
    free(CONTAINER_OF(dead, struct listen_source, dead));
}

static void listen_set_events(struct listener *listener, uint32_t events)
{
    struct listen_source *source = listener->impl;
    epoll_change(listener->loop, listener->fd, events, &source->source);
}

static void listen_retry(struct timer *timer)
{
    struct listener *listener = CONTAINER_OF(timer, struct listener, retry);
    if (!listener->paused)
        listen_set_events(listener, EPOLLIN);
}

/* Out of descriptors or memory: the queue would wake us without end. */
static void listen_back_off(struct listener *listener)
{
    listen_set_events(listener, 0);
    timer_start(listener->loop, &listener->retry, OUT_OF_FILES_PAUSE_NS);
}

static void listen_ready(struct source *source, uint32_t events)
{
    struct listener *listener = CONTAINER_OF(source, struct listen_source, source)->listener;
    for (int i = 0; i < ACCEPTS_PER_TURN && !listener->paused && !listener->closed; i++) {
        struct endpoint peer = {.bytes = sizeof(peer) - offsetof(struct endpoint, any)};
        int fd = accept4(listener->fd, &peer.any, &peer.bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                listen_back_off(listener);
            else if (errno == ECONNABORTED || errno == EINTR)
                continue;
            return;
        }
        struct stream *stream = socket_stream_new(listener->loop, fd, &peer);
        if (stream)
            listener_take(listener, stream);
    }
}

static enum rc listen_start(struct listener *listener)
{
    struct listen_source *source = xcalloc(1, sizeof(*source));
    source->source.ready = listen_ready;
    source->dead.free = listen_source_free;
    source->listener = listener;
    timer_init(&listener->retry, listen_retry);
    if (epoll_add(listener->loop, listener->fd, EPOLLIN, &source->source) != RC_OK) {
        free(source);
        return RC_IO;
    }
    listener->impl = source;
    return RC_OK;
}

/* A path left behind by a dead process is taken over; one on which somebody answers is not. */
static void remove_stale_path(const struct endpoint *at)
{
    struct stat status;
    if (lstat(at->local.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, &at->any, at->bytes) != 0 && errno == ECONNREFUSED)
        unlink(at->local.sun_path);
    close(fd);
}

static int bound_socket(const struct endpoint *at, bool share_port)
{
    int fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (at->any.sa_family == AF_UNIX) {
        remove_stale_path(at);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (share_port)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1},
                   sizeof(int)); /* accepted ones inherit */
    }
    if (at->any.sa_family == AF_INET6) { /* "::" serves both families, an address its own */
        int only = !IN6_IS_ADDR_UNSPECIFIED(&at->v6.sin6_addr);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    }
    if (bind(fd, &at->any, at->bytes) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Sharing a port among loops (SO_REUSEPORT) would also let a second server of the same user share
 * it unnoticed. So the first loop tries the port alone before. */
static int listening_socket(const struct endpoint *at, bool first_loop)
{
    bool fixed_port = at->any.sa_family != AF_UNIX && endpoint_port(at) != 0;
    if (fixed_port && first_loop) {
        int alone = bound_socket(at, false);
        if (alone < 0)
            return -1;
        close(alone);
    }
    return bound_socket(at, true);
}

/* At start only: a name is looked up with the system's resolver, which may block. */
static bool listen_endpoint(const struct address *address, struct endpoint *out)
{
    if (address->kind == ADDRESS_UNIX)
        return endpoint_from_path(address->host, out) == RC_OK;
    struct str host = address->host;
    if (host.n == 0)
        host = STR("::");
    else if (str_eq(host, STR("localhost")))
        host = STR("127.0.0.1");
    if (endpoint_from_literal(host, address->port, out))
        return true;
    char name[256];
    if (host.n >= sizeof(name))
        return false;
    memcpy(name, host.p, host.n);
    name[host.n] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    if (getaddrinfo(name, NULL, &hints, &found) != 0)
        return false;
    memset(out, 0, sizeof(*out));
    memcpy(&out->any, found->ai_addr, found->ai_addrlen);
    out->bytes = found->ai_addrlen;
    freeaddrinfo(found);
    endpoint_set_port(out, address->port);
    return true;
}

enum rc socket_listen(struct listener *listener, const struct address *address, struct err *err)
{
    if (address == NULL) /* listener->fd was given */
        return listen_start(listener);
    struct endpoint at;
    if (!listen_endpoint(address, &at))
        return err_set(err, ERR_INVALID, "cannot listen on \"%.*s\": no such address",
                       STR_ARG(address->host));
    bool first_loop = listener->loop->index == 0;
    int fd = listening_socket(&at, first_loop);
    if (fd < 0 && errno == EAFNOSUPPORT && address->host.n == 0) { /* a machine without IPv6 */
        bool literal = endpoint_from_literal(STR("0.0.0.0"), address->port, &at);
        ASSERT(literal);
        fd = listening_socket(&at, first_loop);
    }
    if (fd < 0) {
        char text[ENDPOINT_TEXT_BYTES_MAX];
        endpoint_text(&at, text);
        return err_set(err, errno == EADDRINUSE ? ERR_CONFLICT : ERR_INVALID,
                       "cannot listen on %s: %s", text, strerror(errno));
    }
    listener->fd = fd;
    if (listen_start(listener) != RC_OK) {
        close(fd);
        return err_set(err, ERR_INTERNAL, "cannot listen: epoll refuses the socket");
    }
    return RC_OK;
}

void socket_listen_pause(struct listener *listener, bool paused)
{
    listen_set_events(listener, paused ? 0 : EPOLLIN);
}

void socket_listen_close(struct listener *listener)
{
    struct listen_source *source = listener->impl;
    source->source.ready = NULL;
    timer_stop(&listener->retry);
    epoll_remove(listener->loop,
                 listener->fd); /* a copy of it may stay open, for another process */
    close(listener->fd);
    loop_bury(listener->loop, &source->dead);
}
