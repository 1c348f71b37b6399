/* Circuit breakers, latency averages and cool-downs: see breaker.h. One cache line a slot, so that
 * loops disturb each other only about the same target. Every field is a relaxed atomic of its own:
 * a race between two loops can shift a counter by one, never let two probes through (a
 * compare-and-swap decides that). */
#include "gateway/breaker.h"
#include "gateway/slots.h"
#include <stdatomic.h>

struct breaker {
    _Atomic int64_t open_until_ns;  /* 0: closed; else open until then, half open afterwards */
    _Atomic int64_t probe_until_ns; /* a probe is under way until then; 0: none */
    _Atomic int64_t window_start_ns;
    _Atomic int64_t latency_ns; /* exponential average, weight 1/8 */
    _Atomic uint32_t failed_in_row, window_calls, window_failures;
    _Atomic uint32_t opened_in_row; /* doubles the time it stays open */
} __attribute__((aligned(CACHE_LINE_BYTES)));

static struct breaker breakers[SLOT_COUNT];
static _Atomic int64_t cooldowns[SLOT_COUNT];

#define GET(field)        atomic_load_explicit(&(field), memory_order_relaxed)
#define PUT(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define ADD(field, value) atomic_fetch_add_explicit(&(field), (value), memory_order_relaxed)

enum breaker_state breaker_peek(uint32_t slot, int64_t now_ns)
{
    ASSERT(slot < SLOT_COUNT);
    int64_t until_ns = GET(breakers[slot].open_until_ns);
    if (until_ns == 0)
        return BREAKER_CLOSED;
    return now_ns < until_ns ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

bool breaker_admit(uint32_t slot, int64_t now_ns)
{
    if (slot == SLOT_NONE)
        return true;
    enum breaker_state state = breaker_peek(slot, now_ns);
    if (LIKELY(state == BREAKER_CLOSED))
        return true;
    if (state == BREAKER_OPEN)
        return false;
    int64_t probe_ns = GET(breakers[slot].probe_until_ns);
    if (now_ns < probe_ns)
        return false;
    return atomic_compare_exchange_strong(&breakers[slot].probe_until_ns, &probe_ns,
                                          now_ns + BREAKER_PROBE_NS);
}

static void breaker_open(struct breaker *breaker, int64_t now_ns)
{
    uint32_t opened = ADD(breaker->opened_in_row, 1);
    int64_t open_ns = BREAKER_OPEN_NS << MIN(opened, 5u);
    PUT(breaker->open_until_ns, now_ns + MIN(open_ns, BREAKER_OPEN_NS_MAX));
    PUT(breaker->probe_until_ns, 0);
}

static void breaker_count(struct breaker *breaker, int64_t now_ns, bool failed)
{
    if (now_ns - GET(breaker->window_start_ns) > BREAKER_WINDOW_NS) {
        PUT(breaker->window_start_ns, now_ns);
        PUT(breaker->window_calls, 0);
        PUT(breaker->window_failures, 0);
    }
    /* While nothing fails there is nothing to count: the common case writes no shared line. */
    if (!failed && GET(breaker->window_failures) == 0)
        return;
    ADD(breaker->window_calls, 1);
    if (failed)
        ADD(breaker->window_failures, 1);
}

static void breaker_latency_add(struct breaker *breaker, int64_t first_token_ns)
{
    int64_t average = GET(breaker->latency_ns);
    PUT(breaker->latency_ns,
        average == 0 ? first_token_ns : average + (first_token_ns - average) / 8);
}

void breaker_report(uint32_t slot, int64_t now_ns, bool failed, int64_t first_token_ns)
{
    ASSERT(slot < SLOT_COUNT);
    if (slot == SLOT_NONE)
        return;
    struct breaker *breaker = &breakers[slot];
    if (!failed && first_token_ns > 0)
        breaker_latency_add(breaker, first_token_ns);
    enum breaker_state state = breaker_peek(slot, now_ns);
    if (!failed) {
        if (UNLIKELY(GET(breaker->failed_in_row) != 0))
            PUT(breaker->failed_in_row, 0);
        if (UNLIKELY(state == BREAKER_HALF_OPEN)) {
            PUT(breaker->opened_in_row, 0);
            PUT(breaker->probe_until_ns, 0);
            PUT(breaker->window_calls, 0);
            PUT(breaker->window_failures, 0);
            PUT(breaker->open_until_ns, 0);
        } else {
            breaker_count(breaker, now_ns, false);
        }
        return;
    }
    breaker_count(breaker, now_ns, true);
    uint32_t in_row = ADD(breaker->failed_in_row, 1) + 1;
    uint32_t calls = GET(breaker->window_calls), failures = GET(breaker->window_failures);
    bool too_many =
        in_row >= BREAKER_FAILURES_IN_ROW || (calls >= BREAKER_SAMPLES && failures * 2 >= calls);
    /* While open, calls that had begun before may still fail: they do not prolong it. */
    if (state == BREAKER_HALF_OPEN || (state == BREAKER_CLOSED && too_many))
        breaker_open(breaker, now_ns);
}

void breaker_forget(uint32_t slot)
{
    ASSERT(slot < SLOT_COUNT);
    if (slot != SLOT_NONE && GET(breakers[slot].probe_until_ns) != 0)
        PUT(breakers[slot].probe_until_ns, 0);
}

int64_t breaker_retry_at_ns(uint32_t slot, int64_t now_ns)
{
    ASSERT(slot < SLOT_COUNT);
    int64_t until_ns = MAX(GET(breakers[slot].open_until_ns), GET(breakers[slot].probe_until_ns));
    return MAX(until_ns, now_ns);
}

int64_t breaker_latency_ns(uint32_t slot)
{
    ASSERT(slot < SLOT_COUNT);
    return GET(breakers[slot].latency_ns);
}

void breaker_reset_all(void)
{
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        breakers[slot] = (struct breaker){0};
        cooldowns[slot] = 0;
    }
}

void cooldown_start(uint32_t slot, int64_t now_ns, int64_t duration_ns)
{
    ASSERT(slot < SLOT_COUNT);
    if (slot == SLOT_NONE)
        return;
    int64_t until_ns = now_ns + MIN(duration_ns, COOLDOWN_NS_MAX);
    int64_t before_ns = GET(cooldowns[slot]);
    while (before_ns < until_ns &&
           !atomic_compare_exchange_weak(&cooldowns[slot], &before_ns, until_ns))
        ;
}

int64_t cooldown_until_ns(uint32_t slot)
{
    ASSERT(slot < SLOT_COUNT);
    return GET(cooldowns[slot]);
}
