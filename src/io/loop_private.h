/* What the two loops have in common, and the table of what differs. For src/io only. */
#pragma once
#include "base/err.h"
#include "base/slab.h"
#include "io/endpoint.h"
#include "io/loop.h"
#include "io/timer_wheel.h"
#include <stdatomic.h>

struct stream;
struct listener;
struct resolver;
struct tls_scratch;

#define LOOP_TURN_HOOKS_MAX 4

/* What was told about a name; valid during the call only. Without endpoints, `err` tells why. */
typedef void resolved_fn(void *arg, const struct endpoint *endpoints, size_t count,
                         const struct err *err);

struct loop_ops {
    /* Waits for events at most until `until_ns` (INT64_MAX: for ever; <= now: does not wait), then
     * sets the loop's clocks. */
    void (*wait)(struct loop *loop, int64_t until_ns);
    /* Hands out the events found by wait. */
    void (*dispatch)(struct loop *loop);
    /* The end of the turn: what was gathered is sent. NULL: nothing is. */
    void (*flush)(struct loop *loop);
    void (*wake)(struct loop *loop); /* any thread: ends a wait */
    void (*free)(struct loop *loop);

    enum rc (*watch)(struct loop *loop, struct watch *watch, unsigned events);
    void (*watch_change)(struct loop *loop, struct watch *watch, unsigned events);
    void (*unwatch)(struct loop *loop, struct watch *watch);

    /* Begins to connect. The stream becomes writable or closed when it is decided: dial_result
     * tells. */
    struct stream *(*dial)(struct loop *loop, const struct endpoint *to, struct err *err);
    enum rc (*dial_result)(struct stream *stream, struct err *err);
    /* Fills listener->fd or what the loop needs instead, and listener->port. */
    enum rc (*listen)(struct listener *listener, const struct address *address, struct err *err);
    void (*listen_pause)(struct listener *listener, bool paused);
    void (*listen_close)(struct listener *listener);
    /* Looks a name up; `done` comes later, exactly once, unless cancelled. */
    struct lookup *(*resolve)(struct loop *loop, struct str host, uint16_t port, resolved_fn *done,
                              void *arg);
    void (*resolve_cancel)(struct lookup *lookup);
    /* Order among timers that are due in the same turn: left as it is by epoll, shuffled in
     * simulation. */
    void (*order_timers)(struct loop *loop, struct list *expired);
};

struct loop {
    const struct loop_ops *ops;
    int index;
    int64_t now_ns, wall_ns;
    struct timer_wheel wheel;
    struct task *deferred, **deferred_end;
    struct list dead; /* closed objects, freed at the end of the turn: events may still name them */
    struct {
        void (*turn)(struct loop *loop, void *arg);
        void *arg;
    } hooks[LOOP_TURN_HOOKS_MAX];
    size_t hook_count;
    struct slab streams;       /* plain ones */
    struct resolver *resolver; /* made on first use */
    struct tls_scratch *tls;   /* made on first use */
    struct {                   /* written by the loop only, read by any thread */
        _Atomic uint64_t turns, events, timers_fired, tasks_run;
        _Atomic int64_t busy_ns, turn_ns_max;
    } stats;
    /* Shared with other threads, on a line of their own. */
    _Alignas(CACHE_LINE_BYTES) _Atomic(struct task *) posted; /* newest first */
    atomic_bool awake; /* nobody needs to wake it: it will look at `posted` before it waits */
    atomic_bool stopping;
};

/* An object on the loop's dead list. */
struct dead {
    struct list node;
    void (*free)(struct dead *dead);
};

void loop_init(struct loop *loop, const struct loop_ops *ops, int index, int64_t now_ns);
void loop_fini(struct loop *loop);
/* One turn: wait, events, timers, tasks. loop_run does this until it is stopped. */
void loop_turn(struct loop *loop, int64_t until_ns_max);
void loop_set_current(struct loop *loop);
/* The object can no longer be reached but by events already fetched. */
void loop_bury(struct loop *loop, struct dead *dead);
/* Is there work that must not wait for an event? */
bool loop_has_work(const struct loop *loop);

static inline void loop_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
