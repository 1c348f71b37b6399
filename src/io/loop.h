/* An event loop: one per core, shares nothing. Everything here is called on the loop's own thread
 * but loop_post and loop_stop. Two implementations stand behind it: epoll (loop_epoll.c) and a
 * simulator with a virtual clock and in-memory sockets (loop_sim.c), chosen when it is made; code
 * above never knows which. */
#pragma once
#include "base/list.h"
#include "base/str.h"

struct loop;

/* ---- life ---- */
struct loop *loop_new(int index);  /* epoll; index counts from 0 */
void loop_free(struct loop *loop); /* nothing may be open on it any more */
void loop_run(struct loop *loop);  /* until loop_stop; sets loop_current() */
void loop_stop(struct loop *loop); /* any thread */
struct loop *loop_current(void);   /* of this thread, or NULL */
int loop_index(const struct loop *loop);

/* ---- time: read once a turn ---- */
int64_t loop_now_ns(const struct loop *loop);  /* monotonic */
int64_t loop_wall_ns(const struct loop *loop); /* UTC */

/* ---- timers: embedded in their owner, not allocated; a hierarchical wheel, 1 ms ticks ---- */
struct timer {
    struct list node; /* detached: not armed */
    int64_t due_ns;
    void (*fire)(struct timer *timer);
};

void timer_init(struct timer *timer, void (*fire)(struct timer *timer));
/* (Re)arms; `delay_ns` from loop_now_ns(), never early. */
void timer_start(struct loop *loop, struct timer *timer, int64_t delay_ns);
void timer_stop(struct timer *timer); /* harmless when not armed */
bool timer_armed(const struct timer *timer);

/* ---- tasks: run a function on a loop ---- */
struct task {
    struct task *next;
    void (*run)(struct task *task);
};

/* Any thread. Order between two posts of one thread is kept. Wakes the loop once a batch. */
void loop_post(struct loop *loop, struct task *task);
/* Own thread: at the end of this turn, after all events were handed out. */
void loop_defer(struct loop *loop, struct task *task);
/* Called at the start of every turn: re-reads the configuration snapshot, for example. */
void loop_on_turn(struct loop *loop, void (*turn)(struct loop *loop, void *arg), void *arg);
void loop_off_turn(struct loop *loop, void (*turn)(struct loop *loop, void *arg), void *arg);

/* ---- raw descriptors (children's pipes, c-ares, signals) ---- */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 };
struct watch {
    int fd;
    void *impl; /* private to the loop */
    void (*ready)(struct watch *watch, unsigned events);
};
/* Level-triggered. */
enum rc loop_watch(struct loop *loop, struct watch *watch, unsigned events) MUST_CHECK;
void loop_watch_change(struct loop *loop, struct watch *watch, unsigned events);
void loop_unwatch(struct loop *loop, struct watch *watch);

/* Counters of the loop itself, for /metrics; read by any thread (relaxed). */
struct loop_stats {
    uint64_t turns, events, timers_fired, tasks_run;
    int64_t busy_ns, turn_ns_max;
};
void loop_stats(const struct loop *loop, struct loop_stats *out);
