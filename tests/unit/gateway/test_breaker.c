/* Circuit breakers open, probe and close; latency and cool-downs that loops share. */
#include "gateway/breaker.h"
#include "gateway/slots.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define T0 (1000 * NS_PER_S)

static int reset(void **state)
{
    breaker_reset_all();
    return 0;
}

static void fail_times(uint32_t slot, int64_t now_ns, int times)
{
    for (int i = 0; i < times; i++)
        breaker_report(slot, now_ns, true, 0);
}

static void test_opens_after_failures_in_a_row(void **state)
{
    fail_times(7, T0, BREAKER_FAILURES_IN_ROW - 1);
    breaker_report(7, T0, false, 0);
    fail_times(7, T0, BREAKER_FAILURES_IN_ROW - 1);
    assert_true(breaker_admit(7, T0));
    fail_times(7, T0, 1);
    assert_false(breaker_admit(7, T0));
    assert_int_equal(breaker_peek(7, T0), BREAKER_OPEN);
    assert_true(breaker_admit(8, T0)); /* another target is not concerned */
}

static void test_half_open_lets_one_probe_through(void **state)
{
    fail_times(7, T0, BREAKER_FAILURES_IN_ROW);
    int64_t later = T0 + BREAKER_OPEN_NS;
    assert_int_equal(breaker_retry_at_ns(7, T0), later);
    assert_true(breaker_admit(7, later));
    assert_false(breaker_admit(7, later));
    breaker_report(7, later, false, 0);
    assert_int_equal(breaker_peek(7, later), BREAKER_CLOSED);
    assert_true(breaker_admit(7, later));
}

static void test_failed_probe_doubles_the_pause(void **state)
{
    fail_times(7, T0, BREAKER_FAILURES_IN_ROW);
    int64_t later = T0 + BREAKER_OPEN_NS;
    assert_true(breaker_admit(7, later));
    breaker_report(7, later, true, 0);
    assert_false(breaker_admit(7, later + BREAKER_OPEN_NS));
    assert_true(breaker_admit(7, later + 2 * BREAKER_OPEN_NS));
}

static void test_lost_probe_frees_its_place(void **state)
{
    fail_times(7, T0, BREAKER_FAILURES_IN_ROW);
    int64_t later = T0 + BREAKER_OPEN_NS;
    assert_true(breaker_admit(7, later));
    breaker_forget(7);
    assert_true(breaker_admit(7, later));
    assert_true(breaker_admit(7, later + BREAKER_PROBE_NS));
}

static void test_opens_by_rate(void **state)
{
    int calls = 0;
    while (calls < 3 * BREAKER_SAMPLES && breaker_admit(7, T0))
        breaker_report(7, T0, calls++ % 2 == 0, 0);
    assert_in_range(calls, BREAKER_SAMPLES, BREAKER_SAMPLES + 1);
    assert_false(breaker_admit(7, T0));
}

static void test_latency_is_an_average(void **state)
{
    assert_int_equal(breaker_latency_ns(7), 0);
    breaker_report(7, T0, false, 800);
    assert_int_equal(breaker_latency_ns(7), 800);
    breaker_report(7, T0, false, 1600);
    assert_int_equal(breaker_latency_ns(7), 900);
}

static void test_cooldown_keeps_the_later_end(void **state)
{
    cooldown_start(3, T0, 10 * NS_PER_S);
    cooldown_start(3, T0, 5 * NS_PER_S);
    assert_int_equal(cooldown_until_ns(3), T0 + 10 * NS_PER_S);
    cooldown_start(3, T0, 3600 * NS_PER_S);
    assert_int_equal(cooldown_until_ns(3), T0 + COOLDOWN_NS_MAX);
}

static void test_slots_are_stable(void **state)
{
    struct id a = {{1}}, b = {{2}};
    uint32_t slot = slot_assign(SLOT_TARGET, a, STR("openai/gpt-5"));
    assert_int_not_equal(slot, SLOT_NONE);
    assert_int_equal(slot_assign(SLOT_TARGET, a, STR("openai/gpt-5")), slot);
    assert_int_not_equal(slot_assign(SLOT_TARGET, b, STR("openai/gpt-5")), slot);
    assert_int_not_equal(slot_assign(SLOT_TARGET, a, STR("openai/gpt-6")), slot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_opens_after_failures_in_a_row, reset),
        cmocka_unit_test_setup(test_half_open_lets_one_probe_through, reset),
        cmocka_unit_test_setup(test_failed_probe_doubles_the_pause, reset),
        cmocka_unit_test_setup(test_lost_probe_frees_its_place, reset),
        cmocka_unit_test_setup(test_opens_by_rate, reset),
        cmocka_unit_test_setup(test_latency_is_an_average, reset),
        cmocka_unit_test_setup(test_cooldown_keeps_the_later_end, reset),
        cmocka_unit_test(test_slots_are_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
