/* The loop over epoll(7).
 *
 * A socket is registered once, edge-triggered, for reading, writing and hang-up, and its readiness
 * is kept in flags (socket.c): a request on a kept connection costs no epoll_ctl. Descriptors
 * watched for others (pipes, c-ares) are level-triggered and few. The wake-up is an eventfd
 * registered edge-triggered, which therefore need not be read. Waiting has the precision of the
 * clock (epoll_pwait2), with milliseconds where the kernel lacks it. */
#include "base/clock.h"
#include "io/epoll.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WALL_REFRESH_NS (100 * NS_PER_MS)

static void epoll_set_clocks(struct epoll_loop *epoll)
{
    int64_t now_ns = clock_monotonic_ns();
    /* The distance between the two clocks hardly changes: it is measured a few times a second. */
    if (now_ns - epoll->wall_read_ns >= WALL_REFRESH_NS) {
        epoll->wall_read_ns = now_ns;
        epoll->wall_offset_ns = clock_wall_ns() - now_ns;
    }
    epoll->base.now_ns = now_ns;
    epoll->base.wall_ns = now_ns + epoll->wall_offset_ns;
}

static int wait_ms(int64_t until_ns, int64_t now_ns)
{
    if (until_ns == INT64_MAX)
        return -1;
    int64_t ms = until_ns <= now_ns ? 0 : (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    return (int)MIN(ms, INT32_MAX);
}

static void epoll_loop_wait(struct loop *loop, int64_t until_ns)
{
    struct epoll_loop *epoll = EPOLL_LOOP(loop);
    int n = -1;
    int64_t now_ns =
        until_ns <= loop->now_ns || until_ns == INT64_MAX ? loop->now_ns : clock_monotonic_ns();
    if (until_ns > now_ns && until_ns != INT64_MAX && !epoll->no_pwait2) {
        struct timespec timeout = {.tv_sec = (until_ns - now_ns) / NS_PER_S,
                                   .tv_nsec = (until_ns - now_ns) % NS_PER_S};
        n = epoll_pwait2(epoll->fd, epoll->events, EPOLL_EVENTS_MAX, &timeout, NULL);
        epoll->no_pwait2 = n < 0 && (errno == ENOSYS || errno == EPERM);
    }
    if (n < 0)
        n = epoll_wait(epoll->fd, epoll->events, EPOLL_EVENTS_MAX, wait_ms(until_ns, now_ns));
    epoll->event_count = MAX(n, 0); /* EINTR: no events */
    epoll->in_turn = true;
    epoll_set_clocks(epoll);
}

/* Answers first, then requests: what serves the one stays in the processor's cache meanwhile. */
static void hand_out(struct epoll_loop *epoll, int from, int to)
{
    for (int dialed = 1; dialed >= 0; dialed--)
        for (int i = from; i < to; i++) {
            struct source *source = epoll->events[i].data.ptr;
            if (source->ready && source->dialed == dialed)
                source->ready(source, epoll->events[i].events);
        }
}

static void epoll_loop_dispatch(struct loop *loop)
{
    struct epoll_loop *epoll = EPOLL_LOOP(loop);
    for (int from = 0, to; from < epoll->event_count; from = to) {
        to = batch_read_ahead(epoll, from);
        hand_out(epoll, from, to);
        batch_keep_ahead(epoll, from, to);
    }
    loop_count(&loop->stats.events, (uint64_t)epoll->event_count);
    epoll->event_count = 0;
}

static void epoll_loop_flush(struct loop *loop)
{
    batch_flush(loop);
    EPOLL_LOOP(loop)->in_turn = false;
}

static void epoll_loop_wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(EPOLL_LOOP(loop)->wake_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one));
}

enum rc epoll_add(struct loop *loop, int fd, uint32_t events, struct source *source)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(EPOLL_LOOP(loop)->fd, EPOLL_CTL_ADD, fd, &event) == 0 ? RC_OK : RC_IO;
}

void epoll_change(struct loop *loop, int fd, uint32_t events, struct source *source)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    int rc = epoll_ctl(EPOLL_LOOP(loop)->fd, EPOLL_CTL_MOD, fd, &event);
    ASSERT(rc == 0);
}

void epoll_remove(struct loop *loop, int fd)
{
    epoll_ctl(EPOLL_LOOP(loop)->fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- watches ---- */

/* Lives on until the end of the turn in which its watch is taken away. */
struct watch_source {
    struct source source;
    struct dead dead;
    struct watch *watch;
};

static void watch_ready(struct source *source, uint32_t events)
{
    struct watch *watch = CONTAINER_OF(source, struct watch_source, source)->watch;
    unsigned told = 0;
    if (events & EPOLLIN)
        told |= LOOP_READ;
    if (events & EPOLLOUT)
        told |= LOOP_WRITE;
    if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        told |= LOOP_HANGUP;
    watch->ready(watch, told);
}

static void watch_source_free(struct dead *dead)
{
    free(CONTAINER_OF(dead, struct watch_source, dead));
}

static uint32_t watch_events(unsigned events)
{
    return (events & LOOP_READ ? EPOLLIN | EPOLLRDHUP : 0u) | (events & LOOP_WRITE ? EPOLLOUT : 0u);
}

static enum rc epoll_loop_watch(struct loop *loop, struct watch *watch, unsigned events)
{
    struct watch_source *source = xcalloc(1, sizeof(*source));
    source->source.ready = watch_ready;
    source->dead.free = watch_source_free;
    source->watch = watch;
    if (epoll_add(loop, watch->fd, watch_events(events), &source->source) != RC_OK) {
        free(source);
        return RC_IO;
    }
    watch->impl = source;
    return RC_OK;
}

static void epoll_loop_watch_change(struct loop *loop, struct watch *watch, unsigned events)
{
    struct watch_source *source = watch->impl;
    epoll_change(loop, watch->fd, watch_events(events), &source->source);
}

static void epoll_loop_unwatch(struct loop *loop, struct watch *watch)
{
    struct watch_source *source = watch->impl;
    if (source == NULL)
        return;
    watch->impl = NULL;
    source->source.ready = NULL;
    epoll_remove(loop, watch->fd);
    loop_bury(loop, &source->dead);
}

/* ---- life ---- */

static void epoll_loop_free(struct loop *loop)
{
    struct epoll_loop *epoll = EPOLL_LOOP(loop);
    resolver_free(loop->resolver);
    tls_scratch_free(loop->tls);
    batch_free(epoll->batch);
    loop_fini(loop);
    close(epoll->wake_fd);
    close(epoll->fd);
    free(epoll);
}

static const struct loop_ops epoll_loop_ops = {
    .wait = epoll_loop_wait,
    .dispatch = epoll_loop_dispatch,
    .flush = epoll_loop_flush,
    .wake = epoll_loop_wake,
    .free = epoll_loop_free,
    .watch = epoll_loop_watch,
    .watch_change = epoll_loop_watch_change,
    .unwatch = epoll_loop_unwatch,
    .dial = socket_dial,
    .dial_result = socket_dial_result,
    .listen = socket_listen,
    .listen_pause = socket_listen_pause,
    .listen_close = socket_listen_close,
    .resolve = resolver_lookup,
    .resolve_cancel = resolver_cancel,
};

struct loop *loop_new(int index)
{
    struct epoll_loop *epoll = aligned_alloc(_Alignof(struct epoll_loop), sizeof(*epoll));
    ASSERT(epoll != NULL);
    memset(epoll, 0, sizeof(*epoll));
    loop_init(&epoll->base, &epoll_loop_ops, index, clock_monotonic_ns());
    epoll->fd = epoll_create1(EPOLL_CLOEXEC);
    epoll->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT(epoll->fd >= 0 && epoll->wake_fd >= 0);
    epoll->batch = batch_new();
    enum rc rc = epoll_add(&epoll->base, epoll->wake_fd, EPOLLIN | EPOLLET, &epoll->wake_source);
    ASSERT(rc == RC_OK);
    epoll_set_clocks(epoll);
    return &epoll->base;
}
