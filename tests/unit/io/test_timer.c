/* The timer wheel against a plain list: never early, never more than a tick late, in order. */
#include "base/clock.h"
#include "base/rand.h"
#include "io/timer_wheel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define TIMERS 400

static struct timer timers[TIMERS];
static bool armed[TIMERS];

static int64_t random_delay(void)
{
    static const int64_t scales[] = {NS_PER_MS,      100 * NS_PER_MS,  NS_PER_S,
                                     100 * NS_PER_S, 10000 * NS_PER_S, 100 * NS_PER_DAY};
    return (int64_t)rand_below((uint64_t)scales[rand_below(COUNT_OF(scales))]);
}

static int64_t earliest_due(void)
{
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < TIMERS; i++)
        if (armed[i])
            earliest = MIN(earliest, timers[i].due_ns);
    return earliest;
}

static void check_expired(struct list *expired, int64_t before_ns, int64_t now_ns)
{
    int64_t last = 0;
    while (!list_empty(expired)) {
        struct timer *timer = LIST_FIRST(expired, struct timer, node);
        list_remove(&timer->node);
        assert_true(armed[timer - timers]);
        assert_true(timer->due_ns <= now_ns);
        assert_true(timer->due_ns + WHEEL_TICK_NS >= last);
        last = timer->due_ns;
        armed[timer - timers] = false;
    }
}

static void agrees_with_a_list(void **state)
{
    static struct timer_wheel wheel;
    int64_t now_ns = 123456789012345;
    timer_wheel_init(&wheel, now_ns);
    rand_seed(3);
    for (size_t i = 0; i < TIMERS; i++)
        timer_init(&timers[i], NULL);
    for (int step = 0; step < 50000; step++) {
        size_t i = (size_t)rand_below(TIMERS);
        timer_stop(&timers[i]);
        armed[i] = rand_below(4) != 0;
        if (armed[i]) {
            timers[i].due_ns = now_ns + random_delay();
            timer_wheel_add(&wheel, &timers[i]);
        }
        int64_t next = timer_wheel_next_ns(&wheel), due = earliest_due();
        if (due != INT64_MAX)
            assert_true(next <= due + WHEEL_TICK_NS);
        int64_t before = now_ns;
        now_ns = rand_below(2) && next != INT64_MAX && next > now_ns ? next
                                                                     : now_ns + random_delay() / 64;
        struct list expired;
        list_init(&expired);
        timer_wheel_advance(&wheel, now_ns, &expired);
        check_expired(&expired, before, now_ns);
        assert_true(earliest_due() > now_ns - WHEEL_TICK_NS);
    }
    for (size_t i = 0; i < TIMERS; i++)
        timer_stop(&timers[i]);
    assert_true(timer_wheel_empty(&wheel));
    assert_true(timer_wheel_next_ns(&wheel) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_a_list)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
