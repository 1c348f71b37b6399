/* A hierarchical timer wheel with ticks of one millisecond: seven levels of 64 slots reach 139
 * years. Starting and stopping a timer is a list operation; a timer moves down at most once a level
 * on its way. Time is given in, so that a simulated loop can drive it. */
#pragma once
#include "base/list.h"
#include "io/loop.h"

#define WHEEL_LEVELS  7
#define WHEEL_TICK_NS 1000000LL

struct timer_wheel {
    uint64_t tick;                   /* the last one handled */
    uint64_t occupied[WHEEL_LEVELS]; /* a set bit: the slot may hold timers */
    struct list slots[WHEEL_LEVELS][64];
};

void timer_wheel_init(struct timer_wheel *wheel, int64_t now_ns);
/* `timer->due_ns` is set; the timer is on no list. */
void timer_wheel_add(struct timer_wheel *wheel, struct timer *timer);
/* Moves what is due at `now_ns` to the end of `expired`, earliest first. */
void timer_wheel_advance(struct timer_wheel *wheel, int64_t now_ns, struct list *expired);
/* When to call advance next, or INT64_MAX; never later than the earliest timer is due. */
int64_t timer_wheel_next_ns(struct timer_wheel *wheel);
bool timer_wheel_empty(const struct timer_wheel *wheel);
