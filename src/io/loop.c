/* The part of a loop that does not depend on where events come from: a turn's order, timers, tasks.
 *
 * A turn: wait; read the clock; hooks; events; timers; posted tasks; deferred tasks; send what was
 * gathered; free the dead.
 * Events come before timers, so that an answer that arrives together with its deadline counts.
 *
 * Posting from another thread costs one compare-and-swap; the system call that wakes the loop is
 * made only by the first who posts after it went to sleep. `awake` and `posted` are the two sides
 * of that agreement: the poster writes `posted` and then reads `awake`, the loop writes `awake` and
 * then reads `posted`, both in sequentially consistent order, so at least one of them sees the
 * other. */
#include "base/clock.h"
#include "base/arena.h"
#include "io/loop_private.h"
#include <stdlib.h>

#define TIMER_DELAY_NS_MAX (3650 * NS_PER_DAY)

static _Thread_local struct loop *current;

struct loop *loop_current(void) { return current; }

void loop_set_current(struct loop *loop) { current = loop; }

void loop_init(struct loop *loop, const struct loop_ops *ops, int index, int64_t now_ns)
{
    loop->ops = ops;
    loop->index = index;
    loop->now_ns = now_ns;
    loop->wall_ns = clock_wall_ns();
    timer_wheel_init(&loop->wheel, now_ns);
    loop->deferred_end = &loop->deferred;
    list_init(&loop->dead);
    atomic_store(&loop->awake, true);
}

static void free_dead(struct loop *loop)
{
    while (!list_empty(&loop->dead)) {
        struct dead *dead = LIST_FIRST(&loop->dead, struct dead, node);
        list_remove(&dead->node);
        dead->free(dead);
    }
}

void loop_fini(struct loop *loop)
{
    free_dead(loop);
    ASSERT(loop->deferred == NULL);
    ASSERT(atomic_load(&loop->posted) == NULL);
    if (loop->streams.object_bytes)
        slab_fini(&loop->streams);
}

void loop_free(struct loop *loop)
{
    if (current == loop)
        current = NULL;
    loop->ops->free(loop);
}

int loop_index(const struct loop *loop) { return loop->index; }

int64_t loop_now_ns(const struct loop *loop) { return loop->now_ns; }

int64_t loop_wall_ns(const struct loop *loop) { return loop->wall_ns; }

void loop_bury(struct loop *loop, struct dead *dead) { list_push_back(&loop->dead, &dead->node); }

/* ---- timers ---- */

void timer_start(struct loop *loop, struct timer *timer, int64_t delay_ns)
{
    list_remove(&timer->node);
    delay_ns = MIN(MAX(delay_ns, 0), TIMER_DELAY_NS_MAX);
    timer->due_ns = loop->now_ns + delay_ns;
    timer_wheel_add(&loop->wheel, timer);
}

static void run_timers(struct loop *loop)
{
    struct list expired;
    list_init(&expired);
    timer_wheel_advance(&loop->wheel, loop->now_ns, &expired);
    if (loop->ops->order_timers)
        loop->ops->order_timers(loop, &expired);
    while (!list_empty(&expired)) { /* one that fires may stop others of this list */
        struct timer *timer = LIST_FIRST(&expired, struct timer, node);
        list_remove(&timer->node);
        loop_count(&loop->stats.timers_fired, 1);
        timer->fire(timer);
    }
}

/* ---- tasks ---- */

void loop_post(struct loop *loop, struct task *task)
{
    struct task *newest = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do
        task->next = newest;
    while (!atomic_compare_exchange_weak(&loop->posted, &newest, task));
    if (!atomic_load(&loop->awake) && !atomic_exchange(&loop->awake, true))
        loop->ops->wake(loop);
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    if (!atomic_exchange(&loop->awake, true))
        loop->ops->wake(loop);
}

void loop_defer(struct loop *loop, struct task *task)
{
    task->next = NULL;
    *loop->deferred_end = task;
    loop->deferred_end = &task->next;
}

static void run_posted(struct loop *loop)
{
    if (atomic_load_explicit(&loop->posted, memory_order_relaxed) == NULL)
        return;
    struct task *newest = atomic_exchange(&loop->posted, NULL);
    struct task *oldest = NULL;
    while (newest) {
        struct task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct task *task = oldest;
        oldest = task->next; /* running may free it */
        loop_count(&loop->stats.tasks_run, 1);
        task->run(task);
    }
}

static void run_deferred(struct loop *loop)
{
    struct task *task = loop->deferred;
    loop->deferred = NULL;
    loop->deferred_end = &loop->deferred;
    while (task) {
        struct task *next = task->next;
        loop_count(&loop->stats.tasks_run, 1);
        task->run(task);
        task = next;
    }
}

void loop_on_turn(struct loop *loop, void (*turn)(struct loop *loop, void *arg), void *arg)
{
    ASSERT(loop->hook_count < LOOP_TURN_HOOKS_MAX);
    loop->hooks[loop->hook_count].turn = turn;
    loop->hooks[loop->hook_count++].arg = arg;
}

void loop_off_turn(struct loop *loop, void (*turn)(struct loop *loop, void *arg), void *arg)
{
    for (size_t i = 0; i < loop->hook_count; i++) {
        if (loop->hooks[i].turn != turn || loop->hooks[i].arg != arg)
            continue;
        memmove(&loop->hooks[i], &loop->hooks[i + 1],
                (--loop->hook_count - i) * sizeof(loop->hooks[0]));
        return;
    }
}

bool loop_has_work(const struct loop *loop)
{
    return loop->deferred || atomic_load(&loop->posted) || atomic_load(&loop->stopping);
}

/* ---- the turn ---- */

static void count_turn(struct loop *loop, int64_t busy_ns)
{
    loop_count(&loop->stats.turns, 1);
    int64_t total = atomic_load_explicit(&loop->stats.busy_ns, memory_order_relaxed) + busy_ns;
    atomic_store_explicit(&loop->stats.busy_ns, total, memory_order_relaxed);
    if (busy_ns > atomic_load_explicit(&loop->stats.turn_ns_max, memory_order_relaxed))
        atomic_store_explicit(&loop->stats.turn_ns_max, busy_ns, memory_order_relaxed);
}

void loop_turn(struct loop *loop, int64_t until_ns_max)
{
    atomic_store(&loop->awake, false);
    int64_t until_ns = loop_has_work(loop) ? INT64_MIN : timer_wheel_next_ns(&loop->wheel);
    loop->ops->wait(loop, MIN(until_ns, until_ns_max));
    atomic_store_explicit(&loop->awake, true, memory_order_relaxed);
    for (size_t i = 0; i < loop->hook_count; i++)
        loop->hooks[i].turn(loop, loop->hooks[i].arg);
    loop->ops->dispatch(loop);
    run_timers(loop);
    run_posted(loop);
    run_deferred(loop);
    if (loop->ops->flush)
        loop->ops->flush(loop);
    free_dead(loop);
    count_turn(loop, clock_monotonic_ns() - loop->now_ns);
}

void loop_run(struct loop *loop)
{
    loop_set_current(loop);
    while (!atomic_load_explicit(&loop->stopping, memory_order_relaxed))
        loop_turn(loop, INT64_MAX);
    atomic_store(&loop->stopping, false);
    loop_set_current(NULL);
    arena_thread_exit();
}

void loop_stats(const struct loop *loop, struct loop_stats *out)
{
    *out = (struct loop_stats){
        .turns = atomic_load_explicit(&loop->stats.turns, memory_order_relaxed),
        .events = atomic_load_explicit(&loop->stats.events, memory_order_relaxed),
        .timers_fired = atomic_load_explicit(&loop->stats.timers_fired, memory_order_relaxed),
        .tasks_run = atomic_load_explicit(&loop->stats.tasks_run, memory_order_relaxed),
        .busy_ns = atomic_load_explicit(&loop->stats.busy_ns, memory_order_relaxed),
        .turn_ns_max = atomic_load_explicit(&loop->stats.turn_ns_max, memory_order_relaxed),
    };
}

/* ---- raw descriptors ---- */

enum rc loop_watch(struct loop *loop, struct watch *watch, unsigned events)
{
    return loop->ops->watch(loop, watch, events);
}

void loop_watch_change(struct loop *loop, struct watch *watch, unsigned events)
{
    loop->ops->watch_change(loop, watch, events);
}

void loop_unwatch(struct loop *loop, struct watch *watch) { loop->ops->unwatch(loop, watch); }
