/* The timer wheel. A timer stands at the level of the highest six-bit digit in which its tick
 * differs from the wheel's, in the slot of that digit; so all slots in use lie ahead of the wheel's
 * own digit, and when the wheel reaches the first tick of a slot, its timers move down. */
#include "io/timer_wheel.h"

#define DIGIT_BITS 6
#define DIGIT_MASK 63u

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
    *timer = (struct timer){.fire = fire};
    list_init(&timer->node);
}

void timer_stop(struct timer *timer) { list_remove(&timer->node); }

bool timer_armed(const struct timer *timer) { return !list_detached(&timer->node); }

void timer_wheel_init(struct timer_wheel *wheel, int64_t now_ns)
{
    wheel->tick = (uint64_t)(now_ns / WHEEL_TICK_NS);
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (size_t i = 0; i <= DIGIT_MASK; i++)
            list_init(&wheel->slots[level][i]);
    }
}

static uint64_t due_tick(const struct timer *timer)
{
    return (uint64_t)((timer->due_ns + WHEEL_TICK_NS - 1) / WHEEL_TICK_NS);
}

void timer_wheel_add(struct timer_wheel *wheel, struct timer *timer)
{
    uint64_t tick = MAX(due_tick(timer), wheel->tick + 1);
    int level = (63 - __builtin_clzll(tick ^ wheel->tick)) / DIGIT_BITS;
    ASSERT(level < WHEEL_LEVELS);
    size_t slot = (tick >> (level * DIGIT_BITS)) & DIGIT_MASK;
    list_push_back(&wheel->slots[level][slot], &timer->node);
    wheel->occupied[level] |= 1ull << slot;
}

/* The tick at which the first occupied slot ahead begins; lower levels always come earlier. Slots
 * that turn out empty (their timers were stopped) are forgotten here. */
static bool next_slot(struct timer_wheel *wheel, int *level, size_t *slot, uint64_t *tick)
{
    for (*level = 0; *level < WHEEL_LEVELS; (*level)++) {
        uint64_t *occupied = &wheel->occupied[*level];
        int shift = *level * DIGIT_BITS;
        size_t digit = (wheel->tick >> shift) & DIGIT_MASK;
        while (*occupied) {
            *slot = (size_t)__builtin_ctzll(*occupied);
            if (!list_empty(&wheel->slots[*level][*slot])) {
                ASSERT(*slot > digit);
                uint64_t above = wheel->tick >> shift >> DIGIT_BITS << DIGIT_BITS;
                *tick = (above | *slot) << shift;
                return true;
            }
            *occupied &= *occupied - 1;
        }
    }
    return false;
}

void timer_wheel_advance(struct timer_wheel *wheel, int64_t now_ns, struct list *expired)
{
    uint64_t now_tick = (uint64_t)(now_ns / WHEEL_TICK_NS);
    int level;
    size_t slot;
    uint64_t tick;
    while (next_slot(wheel, &level, &slot, &tick) && tick <= now_tick) {
        wheel->tick = tick;
        wheel->occupied[level] &= ~(1ull << slot);
        struct list *timers = &wheel->slots[level][slot];
        while (!list_empty(timers)) {
            struct timer *timer = LIST_FIRST(timers, struct timer, node);
            list_remove(&timer->node);
            if (due_tick(timer) <= tick)
                list_push_back(expired, &timer->node);
            else
                timer_wheel_add(wheel, timer);
        }
    }
    wheel->tick = MAX(wheel->tick, now_tick);
}

int64_t timer_wheel_next_ns(struct timer_wheel *wheel)
{
    int level;
    size_t slot;
    uint64_t tick;
    return next_slot(wheel, &level, &slot, &tick) ? (int64_t)tick * WHEEL_TICK_NS : INT64_MAX;
}

bool timer_wheel_empty(const struct timer_wheel *wheel)
{
    for (int level = 0; level < WHEEL_LEVELS; level++)
        for (size_t i = 0; i <= DIGIT_MASK; i++)
            if (!list_empty(&wheel->slots[level][i]))
                return false;
    return true;
}
