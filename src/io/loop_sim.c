/* The simulated loop.
 *
 * A connection is two ends; each holds the bytes on their way to it. Bytes are written into the
 * peer's end at once but can be read only after an event announced them, and events take a random
 * time: that gives latency, coalescing and overtaking between connections. An end has at most one
 * event on its way, a mask with a due time; when it comes, parts of the mask may be put off again.
 *
 * A turn takes all events that are due, in random order, and hands timers out in random order too:
 * whoever relies on an order that the interface does not promise is found out. */
#include "io/loop_sim.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/rand.h"
#include "io/stream_private.h"
#include <stdlib.h>

#define SIM_START_NS      (1000 * NS_PER_S)
#define SIM_WALL_START_NS (1700000000 * NS_PER_S)

/* What an event carries; the first three are what the stream's owner knows. */
enum {
    EVENT_READABLE = STREAM_READABLE,
    EVENT_WRITABLE = STREAM_WRITABLE,
    EVENT_CLOSED = STREAM_CLOSED,
    EVENT_CONNECT = 8, /* a dial reaches its listener */
    EVENT_ACCEPT = 16, /* the listener's owner gets this end */
};

struct sim_end_point { /* one end of a connection */
    struct stream base;
    struct list node; /* of sim->pending while an event is on its way */
    unsigned events;
    int64_t due_ns;
    struct sim_end_point *peer; /* NULL: closed */
    struct buf in;              /* bytes to this end */
    size_t visible;             /* of them, announced */
    bool fin_sent, fin_visible; /* the peer writes no more */
    bool shut;                  /* we write no more */
    bool reset, refused;
    struct endpoint to;        /* dialled */
    struct listener *listener; /* not yet accepted */
    char text[ENDPOINT_TEXT_BYTES_MAX];
    struct dead dead;
};
#define END(stream) CONTAINER_OF(stream, struct sim_end_point, base)

struct sim_listener {
    struct list node;
    struct listener *listener;
    struct endpoint at;
};

struct lookup {
    struct timer timer;
    resolved_fn *done;
    void *arg;
    bool fails;
    struct endpoint found;
};

struct sim {
    struct loop base;
    struct sim_faults faults;
    uint64_t random;
    struct list pending; /* ends with an event on its way, in no order */
    struct list batch;   /* those of this turn */
    struct list listeners;
    uint16_t next_port;
};
#define SIM(loop) CONTAINER_OF(loop, struct sim, base)

/* ---- chance ---- */

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t sim_random(struct sim *sim)
{
    uint64_t z = sim->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(struct sim *sim, uint64_t n) { return n ? sim_random(sim) % n : 0; }

static bool chance(struct sim *sim, unsigned percent) { return below(sim, 100) < percent; }

uint64_t loop_sim_below(struct loop *loop, uint64_t n) { return below(SIM(loop), n); }

static int64_t sim_latency(struct sim *sim)
{
    int64_t ns = (int64_t)below(sim, (uint64_t)sim->faults.latency_ns_max + 1);
    if (chance(sim, sim->faults.late_percent))
        ns += (int64_t)below(sim, (uint64_t)sim->faults.late_ns_max + 1);
    return ns;
}

static void shuffle(struct sim *sim, struct list *items)
{
    struct list shuffled;
    list_init(&shuffled);
    size_t n = 0;
    while (!list_empty(items)) {
        struct list *node = items->next, *at = &shuffled;
        list_remove(node);
        for (uint64_t skip = below(sim, ++n); skip; skip--)
            at = at->next;
        list_add_after(at, node);
    }
    while (!list_empty(&shuffled)) {
        struct list *node = shuffled.next;
        list_remove(node);
        list_push_back(items, node);
    }
}

/* ---- events ---- */

static void end_schedule(struct sim_end_point *end, unsigned events)
{
    struct sim *sim = SIM(end->base.loop);
    int64_t due_ns = sim->base.now_ns + sim_latency(sim);
    if (list_detached(&end->node)) {
        list_push_back(&sim->pending, &end->node);
        end->due_ns = due_ns;
    }
    end->events |= events;
    end->due_ns = MIN(end->due_ns, due_ns);
}

static void end_reset(struct sim_end_point *end)
{
    if (end == NULL || end->reset)
        return;
    end->reset = true;
    end_schedule(end, EVENT_READABLE | EVENT_WRITABLE | EVENT_CLOSED);
}

/* ---- the stream ---- */

static bool meets_reset(struct sim_end_point *end)
{
    struct sim *sim = SIM(end->base.loop);
    if (!end->reset && end->peer && below(sim, 10000) < sim->faults.reset_per_10000) {
        end_reset(end->peer);
        end_reset(end);
    }
    return end->reset;
}

/* How much of what could be moved is moved. */
static size_t moved_now(struct sim *sim, size_t n)
{
    return n > 1 && chance(sim, sim->faults.short_percent) ? 1 + (size_t)below(sim, n) : n;
}

static enum rc sim_read(struct stream *stream, void *p, size_t n_max, size_t *n)
{
    struct sim_end_point *end = END(stream);
    struct sim *sim = SIM(stream->loop);
    if (meets_reset(end)) {
        stream->hung_up = true;
        return RC_IO;
    }
    if (!stream->readable)
        return RC_AGAIN;
    if (end->visible == 0) {
        if (end->fin_visible && buf_len(&end->in) == 0) {
            stream->hung_up = true;
            return RC_END;
        }
        stream->readable = false;
        if (chance(sim, sim->faults.spurious_percent))
            end_schedule(end, EVENT_READABLE);
        return RC_AGAIN;
    }
    *n = moved_now(sim, MIN(end->visible, n_max));
    memcpy(p, buf_str(&end->in).p, *n);
    buf_consume(&end->in, *n);
    end->visible -= *n;
    if (end->peer && !end->peer->base.writable)
        end_schedule(end->peer, EVENT_WRITABLE);
    if (*n < n_max && !stream->hung_up) { /* as from a socket: an event tells of the rest */
        stream->readable = false;
        if (buf_len(&end->in))
            end_schedule(end, EVENT_READABLE);
    }
    return RC_OK;
}

static enum rc sim_write(struct stream *stream, const struct iovec *parts, int count, size_t *n)
{
    struct sim_end_point *end = END(stream), *peer = end->peer;
    struct sim *sim = SIM(stream->loop);
    if (meets_reset(end) || end->shut)
        return RC_IO;
    size_t offered = 0;
    for (int i = 0; i < count; i++)
        offered += parts[i].iov_len;
    if (peer == NULL) { /* closed: TCP takes what it can and then answers with a reset */
        end_reset(end);
        *n = offered;
        return RC_OK;
    }
    size_t room = peer->in.bytes_max - buf_len(&peer->in);
    if (room == 0 || !stream->writable) {
        stream->writable = false;
        return RC_AGAIN;
    }
    size_t left = *n = moved_now(sim, MIN(room, offered));
    for (int i = 0; left; i++) {
        size_t k = MIN(left, parts[i].iov_len);
        enum rc rc = buf_append(&peer->in, str_make(parts[i].iov_base, k));
        ASSERT(rc == RC_OK);
        left -= k;
    }
    end_schedule(peer, EVENT_READABLE);
    if (*n < offered || chance(sim, sim->faults.spurious_percent)) {
        stream->writable = false; /* full, or for a while; the peer's reading tells otherwise */
        if (*n < room)
            end_schedule(end, EVENT_WRITABLE);
    }
    return RC_OK;
}

static void sim_shutdown(struct stream *stream)
{
    struct sim_end_point *end = END(stream);
    end->shut = true;
    if (end->peer && !end->peer->fin_sent) {
        end->peer->fin_sent = true;
        end_schedule(end->peer, EVENT_READABLE | EVENT_CLOSED);
    }
}

static void sim_free(struct dead *dead)
{
    struct sim_end_point *end = CONTAINER_OF(dead, struct sim_end_point, dead);
    buf_fini(&end->in);
    free(end);
}

static void sim_close(struct stream *stream)
{
    struct sim_end_point *end = END(stream);
    struct sim_end_point *peer = end->peer;
    sim_shutdown(stream);
    if (peer) {
        peer->peer = NULL;
        if (buf_len(&end->in)) /* bytes nobody will read: the peer learns by a reset */
            end_reset(peer);
        else if (!peer->base.writable)
            end_schedule(peer, EVENT_WRITABLE);
    }
    end->peer = NULL;
    list_remove(&end->node);
    loop_bury(stream->loop, &end->dead);
}

static struct str sim_peer_text(const struct stream *stream)
{
    return str_from(END((struct stream *)stream)->text);
}

static const struct stream_ops sim_stream_ops = {
    .read = sim_read,
    .write = sim_write,
    .shutdown = sim_shutdown,
    .close = sim_close,
    .peer_text = sim_peer_text,
};

static struct sim_end_point *end_new(struct sim *sim, const struct endpoint *peer_address)
{
    struct sim_end_point *end = xcalloc(1, sizeof(*end));
    end->base = (struct stream){.ops = &sim_stream_ops, .loop = &sim->base};
    list_init(&end->node);
    size_t min = MAX(sim->faults.window_bytes_min, (size_t)1);
    size_t max = MAX(sim->faults.window_bytes_max, min);
    buf_init(&end->in, min + (size_t)below(sim, max - min + 1));
    endpoint_host_text(peer_address, end->text);
    end->dead.free = sim_free;
    return end;
}

/* ---- connecting and listening ---- */

static bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
    char text_a[ENDPOINT_TEXT_BYTES_MAX], text_b[ENDPOINT_TEXT_BYTES_MAX];
    endpoint_text(a, text_a);
    endpoint_text(b, text_b);
    return strcmp(text_a, text_b) == 0;
}

static struct stream *sim_dial(struct loop *loop, const struct endpoint *to, struct err *err)
{
    struct sim_end_point *end = end_new(SIM(loop), to);
    end->to = *to;
    end_schedule(end, EVENT_CONNECT);
    return &end->base;
}

static enum rc sim_dial_result(struct stream *stream, struct err *err)
{
    struct sim_end_point *end = END(stream);
    if (!end->refused && !end->reset)
        return RC_OK;
    return err_set(err, ERR_UPSTREAM, "cannot connect to %s: connection refused", end->text);
}

static void end_connect(struct sim_end_point *end)
{
    struct sim *sim = SIM(end->base.loop);
    struct sim_listener *found = NULL;
    LIST_FOR_EACH (listener, &sim->listeners, struct sim_listener, node)
        if (same_endpoint(&listener->at, &end->to))
            found = listener;
    if (found == NULL || chance(sim, sim->faults.refuse_percent)) {
        end->refused = true;
        end_schedule(end, EVENT_CLOSED);
        return;
    }
    struct endpoint from;
    bool literal = endpoint_from_literal(STR("10.255.0.1"), 1, &from);
    ASSERT(literal);
    struct sim_end_point *other = end_new(sim, &from);
    other->peer = end;
    other->base.writable = true;
    other->listener = found->listener;
    end->peer = other;
    end_schedule(end, EVENT_WRITABLE);
    end_schedule(other, EVENT_ACCEPT | EVENT_READABLE);
}

static void name_endpoint(struct str host, uint16_t port, struct endpoint *out)
{
    if (endpoint_from_literal(host, port, out))
        return;
    uint32_t hash = 2166136261u; /* FNV-1a: the same in each run, as str_hash is not */
    for (size_t i = 0; i < host.n; i++)
        hash = (hash ^ (uint8_t)host.p[i]) * 16777619u;
    bool literal = endpoint_from_literal(STR("10.0.0.0"), port, out);
    ASSERT(literal);
    out->v4.sin_addr.s_addr |= htonl(hash & 0x7fffffu);
}

static enum rc sim_listen(struct listener *listener, const struct address *address, struct err *err)
{
    struct sim *sim = SIM(listener->loop);
    ASSERT(address != NULL); /* no descriptors here */
    struct sim_listener *own = xcalloc(1, sizeof(*own));
    listener->port = address->port ? address->port : sim->next_port++;
    if (address->kind == ADDRESS_UNIX) {
        enum rc rc = endpoint_from_path(address->host, &own->at);
        ASSERT(rc == RC_OK);
    } else {
        name_endpoint(address->host, listener->port, &own->at);
    }
    own->listener = listener;
    LIST_FOR_EACH (other, &sim->listeners, struct sim_listener, node)
        if (same_endpoint(&other->at, &own->at)) {
            free(own);
            return err_set(err, ERR_CONFLICT, "somebody listens there already");
        }
    listener->impl = own;
    list_push_back(&sim->listeners, &own->node);
    return RC_OK;
}

static void sim_listen_pause(struct listener *listener, bool paused)
{
    UNUSED(listener); /* looked at when an end is to be accepted */
    UNUSED(paused);
}

static void sim_listen_close(struct listener *listener)
{
    struct sim *sim = SIM(listener->loop);
    struct sim_listener *own = listener->impl;
    LIST_FOR_EACH_SAFE (end, &sim->pending, struct sim_end_point, node)
        if (end->listener == listener)
            stream_close(&end->base);
    LIST_FOR_EACH_SAFE (end, &sim->batch, struct sim_end_point, node)
        if (end->listener == listener)
            stream_close(&end->base);
    list_remove(&own->node);
    free(own);
}

/* ---- names ---- */

static void lookup_fire(struct timer *timer)
{
    struct lookup *lookup = CONTAINER_OF(timer, struct lookup, timer);
    struct err err = {0};
    if (lookup->fails)
        err_set(&err, ERR_UPSTREAM, "there is no such name");
    lookup->done(lookup->arg, &lookup->found, lookup->fails ? 0 : 1, lookup->fails ? &err : NULL);
    free(lookup);
}

static struct lookup *sim_resolve(struct loop *loop, struct str host, uint16_t port,
                                  resolved_fn *done, void *arg)
{
    struct sim *sim = SIM(loop);
    struct lookup *lookup = xcalloc(1, sizeof(*lookup));
    lookup->done = done;
    lookup->arg = arg;
    lookup->fails = str_ends(host, STR(".invalid")) || chance(sim, sim->faults.lookup_fail_percent);
    name_endpoint(host, port, &lookup->found);
    timer_init(&lookup->timer, lookup_fire);
    timer_start(loop, &lookup->timer, sim_latency(sim));
    return lookup;
}

static void sim_resolve_cancel(struct lookup *lookup)
{
    timer_stop(&lookup->timer);
    free(lookup);
}

/* ---- turns ---- */

static int64_t next_event_ns(const struct sim *sim)
{
    int64_t next_ns = INT64_MAX;
    LIST_FOR_EACH (end, &sim->pending, struct sim_end_point, node)
        next_ns = MIN(next_ns, end->due_ns);
    return next_ns;
}

static void sim_set_time(struct sim *sim, int64_t now_ns)
{
    sim->base.now_ns = now_ns;
    sim->base.wall_ns = SIM_WALL_START_NS + now_ns;
}

/* Time jumps to what happens next, sometimes a little past it, as when a turn took long. */
static void sim_wait(struct loop *loop, int64_t until_ns)
{
    struct sim *sim = SIM(loop);
    int64_t next_ns = MIN(until_ns, next_event_ns(sim));
    if (next_ns > loop->now_ns && next_ns != INT64_MAX)
        sim_set_time(sim, next_ns + (chance(sim, 10) ? (int64_t)below(sim, 3 * NS_PER_MS) : 0));
    LIST_FOR_EACH_SAFE (end, &sim->pending, struct sim_end_point, node)
        if (end->due_ns <= loop->now_ns) {
            list_remove(&end->node);
            list_push_back(&sim->batch, &end->node);
        }
    shuffle(sim, &sim->batch);
}

static void end_accept(struct sim_end_point *end)
{
    struct listener *listener = end->listener;
    if (listener->paused) { /* waits in the queue */
        end_schedule(end, EVENT_ACCEPT);
        return;
    }
    end->listener = NULL;
    bool ended = end->fin_sent || end->reset; /* told before anybody listened */
    end_schedule(end, EVENT_READABLE | (ended ? EVENT_CLOSED : 0u));
    listener_take(listener, &end->base);
}

static void end_deliver(struct sim_end_point *end, unsigned events)
{
    struct sim *sim = SIM(end->base.loop);
    if (events & EVENT_CONNECT) {
        end_connect(end);
        return;
    }
    if (end->listener) { /* until it is accepted, nobody hears of anything else */
        if (events & EVENT_ACCEPT)
            end_accept(end);
        return;
    }
    unsigned put_off = events & (unsigned)sim_random(sim);
    if (put_off && put_off != events && chance(sim, sim->faults.late_percent)) {
        end_schedule(end, put_off);
        events &= ~put_off;
    }
    if (events & EVENT_READABLE) {
        end->visible = buf_len(&end->in);
        end->base.readable = true;
    }
    if (events & EVENT_CLOSED) {
        end->visible = buf_len(&end->in);
        end->fin_visible = end->fin_sent;
        end->base.hung_up = end->base.readable = true;
        events |= STREAM_READABLE;
    }
    if (events & EVENT_WRITABLE)
        end->base.writable = true;
    stream_tell(&end->base, events & (STREAM_READABLE | STREAM_WRITABLE | STREAM_CLOSED));
}

static void sim_dispatch(struct loop *loop)
{
    struct sim *sim = SIM(loop);
    while (!list_empty(&sim->batch)) {
        struct sim_end_point *end = LIST_FIRST(&sim->batch, struct sim_end_point, node);
        list_remove(&end->node);
        unsigned events = end->events;
        end->events = 0;
        loop_count(&loop->stats.events, 1);
        end_deliver(end, events);
    }
}

static void sim_order_timers(struct loop *loop, struct list *expired)
{
    shuffle(SIM(loop), expired);
}

static void sim_wake(struct loop *loop) { UNUSED(loop); /* one thread: it is awake */ }

static enum rc sim_watch(struct loop *loop, struct watch *watch, unsigned events)
{
    return RC_IO; /* there are no descriptors */
}

/* ---- life ---- */

static int64_t sim_monotonic(void *arg) { return ((struct sim *)arg)->base.now_ns; }

static int64_t sim_wall(void *arg) { return ((struct sim *)arg)->base.wall_ns; }

static void sim_loop_free(struct loop *loop)
{
    struct sim *sim = SIM(loop);
    LIST_FOR_EACH_SAFE (end, &sim->pending, struct sim_end_point, node)
        if (end->listener)
            stream_close(&end->base);
    tls_scratch_free(loop->tls);
    loop_fini(loop);
    ASSERT(list_empty(&sim->listeners));
    clock_override(NULL, NULL, NULL);
    loop_set_current(NULL);
    free(sim);
}

static const struct loop_ops sim_loop_ops = {
    .wait = sim_wait,
    .dispatch = sim_dispatch,
    .wake = sim_wake,
    .free = sim_loop_free,
    .watch = sim_watch,
    .dial = sim_dial,
    .dial_result = sim_dial_result,
    .listen = sim_listen,
    .listen_pause = sim_listen_pause,
    .listen_close = sim_listen_close,
    .resolve = sim_resolve,
    .resolve_cancel = sim_resolve_cancel,
    .order_timers = sim_order_timers,
};

struct loop *loop_sim_new(uint64_t seed, const struct sim_faults *faults)
{
    struct sim *sim = aligned_alloc(_Alignof(struct sim), sizeof(*sim));
    ASSERT(sim != NULL);
    memset(sim, 0, sizeof(*sim));
    sim->faults = *faults;
    sim->random = seed;
    sim->next_port = 20000;
    list_init(&sim->pending);
    list_init(&sim->batch);
    list_init(&sim->listeners);
    loop_init(&sim->base, &sim_loop_ops, 0, SIM_START_NS);
    sim_set_time(sim, SIM_START_NS);
    clock_override(sim_wall, sim_monotonic, sim);
    rand_seed(seed);
    loop_set_current(&sim->base);
    return &sim->base;
}

void loop_sim_set_faults(struct loop *loop, const struct sim_faults *faults)
{
    SIM(loop)->faults = *faults;
}

static bool can_happen(struct loop *loop)
{
    struct sim *sim = SIM(loop);
    return !list_empty(&sim->pending) || loop_has_work(loop) || !timer_wheel_empty(&loop->wheel);
}

enum sim_end loop_sim_run(struct loop *loop, bool (*is_done)(void *arg), void *arg,
                          int64_t virtual_ns_max)
{
    int64_t until_ns = loop->now_ns + virtual_ns_max;
    for (;;) {
        if (is_done && is_done(arg))
            return SIM_DONE;
        if (!can_happen(loop))
            return SIM_IDLE;
        if (loop->now_ns >= until_ns)
            return SIM_TIME;
        loop_turn(loop, until_ns);
    }
}
