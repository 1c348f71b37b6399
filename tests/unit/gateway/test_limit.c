/* Limits and budgets hold exactly, also when loops share them and after a restart. */
#include "gateway/limit.h"
#include "base/clock.h"
#include <stdatomic.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define T0   (1000 * NS_PER_S)
#define WALL (1795910400ll * NS_PER_S) /* midnight UTC, 2026-11-29 */

static const struct id project = {{1}};
static struct limits none = {0, 0, 0, COST_UNKNOWN, COST_UNKNOWN};

static int reset(void **state)
{
    limit_reset_all();
    limit_init(&(struct limit_options){0});
    return 0;
}

static enum rc hold(struct limit_holds *holds, const struct limits *limits, uint64_t tokens,
                    int64_t cost, int64_t now_ns, struct err *err)
{
    *holds = (struct limit_holds){0};
    assert_int_equal(limit_add(holds, project, LIMIT_KEY, STR("k"), limits, WALL, err), RC_OK);
    return limit_reserve(holds, tokens, cost, now_ns, WALL, err);
}

static void test_parallel(void **state)
{
    struct limits limits = none;
    limits.parallel = 2;
    struct limit_holds a, b, c;
    struct err err = {0};
    assert_int_equal(hold(&a, &limits, 0, 0, T0, &err), RC_OK);
    assert_int_equal(hold(&b, &limits, 0, 0, T0, &err), RC_OK);
    assert_int_equal(hold(&c, &limits, 0, 0, T0, &err), RC_LIMIT);
    assert_int_equal(err.code, ERR_RATE_LIMIT);
    assert_true(err.retry_after_ms > 0);
    limit_settle(&a, 0, 0, T0);
    limit_settle(&a, 0, 0, T0); /* harmless */
    assert_int_equal(hold(&c, &limits, 0, 0, T0, &err), RC_OK);
}

static void test_requests_in_any_minute(void **state)
{
    struct limits limits = none;
    limits.requests_per_minute = 10;
    struct err err = {0};
    /* Tries ten times a second for three minutes: count what is let through in each 60 s. */
    int64_t let[2000];
    int count = 0;
    for (int64_t t = 0; t < 180 * 10; t++) {
        struct limit_holds holds;
        int64_t now = T0 + t * 100 * NS_PER_MS;
        if (hold(&holds, &limits, 0, 0, now, &err) == RC_OK) {
            limit_settle(&holds, 0, 0, now);
            let[count++] = now;
        } else {
            assert_true(err.retry_after_ms <= 62001);
        }
    }
    for (int i = 0; i < count; i++) {
        int within = 0;
        for (int j = i; j < count && let[j] < let[i] + 60 * NS_PER_S; j++)
            within++;
        assert_true(within <= 10);
    }
    assert_true(count >= 29);
}

static void test_retry_after_is_enough(void **state)
{
    struct limits limits = none;
    limits.requests_per_minute = 1;
    struct limit_holds holds;
    struct err err = {0};
    assert_int_equal(hold(&holds, &limits, 0, 0, T0 + 123, &err), RC_OK);
    assert_int_equal(hold(&holds, &limits, 0, 0, T0 + NS_PER_S, &err), RC_LIMIT);
    assert_int_equal(
        hold(&holds, &limits, 0, 0, T0 + NS_PER_S + err.retry_after_ms * NS_PER_MS, &err), RC_OK);
}

static void test_tokens_settle(void **state)
{
    struct limits limits = none;
    limits.tokens_per_minute = 1000;
    struct limit_holds holds;
    struct err err = {0};
    assert_int_equal(hold(&holds, &limits, 900, 0, T0, &err), RC_OK);
    struct limit_state now;
    limit_state_of(&holds, T0, &now);
    assert_int_equal(now.tokens_left, 100);
    limit_settle(&holds, 100, 0, T0 + NS_PER_S);
    assert_int_equal(hold(&holds, &limits, 800, 0, T0 + NS_PER_S, &err), RC_OK);
    limit_settle(&holds, 950, 0,
                 T0 + 3 * NS_PER_S); /* more than was thought: holds back the next */
    assert_int_equal(hold(&holds, &limits, 1, 0, T0 + 4 * NS_PER_S, &err), RC_LIMIT);
    assert_int_equal(hold(&holds, &limits, 5000, 0, T0 + 200 * NS_PER_S, &err), RC_OK); /* alone */
}

static void test_budget_and_midnight(void **state)
{
    struct limits limits = none;
    limits.budget_day_pico = 100;
    limits.budget_month_pico = 150;
    struct limit_holds holds;
    struct err err = {0};
    assert_int_equal(hold(&holds, &limits, 0, 60, T0, &err), RC_OK);
    limit_settle(&holds, 0, 90, T0);
    assert_int_equal(hold(&holds, &limits, 0, 11, T0, &err), RC_LIMIT);
    assert_int_equal(err.code, ERR_BUDGET);
    assert_int_equal(err.retry_after_ms, 86400 * 1000 + 1);
    assert_int_equal(hold(&holds, &limits, 0, 10, T0, &err), RC_OK);
    limit_settle(&holds, 0, 10, T0);
    assert_int_equal(hold(&holds, &limits, 0, COST_UNKNOWN, T0, &err),
                     RC_LIMIT); /* nothing is left */
    limit_tick(WALL + NS_PER_DAY);
    assert_int_equal(hold(&holds, &limits, 0, 50, T0, &err), RC_OK);
    limit_settle(&holds, 0, 50, T0);
    assert_int_equal(hold(&holds, &limits, 0, 1, T0, &err), RC_LIMIT); /* the month's */
    limit_tick(WALL + 3 * NS_PER_DAY);                                 /* December */
    assert_int_equal(hold(&holds, &limits, 0, 100, T0, &err), RC_OK);
}

static void restore(void *arg, struct id in, enum limit_kind kind, struct str value,
                    int64_t *day_pico, int64_t *month_pico)
{
    ++*(int *)arg;
    *day_pico = 40;
    *month_pico = 70;
}

static void test_budget_survives_a_restart(void **state)
{
    int asked = 0;
    limit_init(&(struct limit_options){.restore = restore, .arg = &asked});
    struct limits limits = none;
    struct limit_holds holds;
    struct err err = {0};
    assert_int_equal(hold(&holds, &limits, 0, 5, T0, &err), RC_OK);
    limit_settle(&holds, 0, 5, T0);
    assert_int_equal(asked, 0);
    limits.budget_day_pico = 50;
    assert_int_equal(hold(&holds, &limits, 0, 11, T0, &err), RC_LIMIT);
    assert_int_equal(hold(&holds, &limits, 0, 10, T0, &err), RC_OK);
    assert_int_equal(asked, 1);
    struct meter_reading reading;
    limit_read(project, LIMIT_KEY, STR("k"), T0, WALL, &reading);
    assert_int_equal(reading.day_pico, 50);
    assert_int_equal(reading.month_pico, 80);
}

static void test_all_or_none(void **state)
{
    struct limits wide = none, narrow = none;
    wide.parallel = 10;
    narrow.parallel = 1;
    struct err err = {0};
    struct limit_holds a = {0}, b = {0};
    assert_int_equal(limit_add(&a, project, LIMIT_KEY, STR("k"), &wide, WALL, &err), RC_OK);
    assert_int_equal(limit_add(&a, project, LIMIT_PROJECT, STR_EMPTY, &narrow, WALL, &err), RC_OK);
    b = a;
    assert_int_equal(limit_reserve(&a, 0, 0, T0, WALL, &err), RC_OK);
    assert_int_equal(limit_reserve(&b, 0, 0, T0, WALL, &err), RC_LIMIT);
    assert_non_null(strstr(err.message, "project"));
    struct meter_reading reading;
    limit_read(project, LIMIT_KEY, STR("k"), T0, WALL, &reading);
    assert_int_equal(reading.parallel, 1);
}

static _Atomic int running, most, let_through;

static void *hammer(void *arg)
{
    struct limits limits = none;
    limits.parallel = 3;
    limits.requests_per_minute = 5000;
    for (int i = 0; i < 20000; i++) {
        struct limit_holds holds;
        struct err err;
        if (hold(&holds, &limits, 0, 0, T0, &err) != RC_OK)
            continue;
        let_through++;
        int now = ++running, seen = most;
        while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
            ;
        running--;
        limit_settle(&holds, 0, 0, T0);
    }
    return NULL;
}

static void test_loops_share_exactly(void **state)
{
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_create(&threads[i], NULL, hammer, NULL);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    assert_true(most <= 3);
    assert_true(let_through <= 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_parallel, reset),
        cmocka_unit_test_setup(test_requests_in_any_minute, reset),
        cmocka_unit_test_setup(test_retry_after_is_enough, reset),
        cmocka_unit_test_setup(test_tokens_settle, reset),
        cmocka_unit_test_setup(test_budget_and_midnight, reset),
        cmocka_unit_test_setup(test_budget_survives_a_restart, reset),
        cmocka_unit_test_setup(test_all_or_none, reset),
        cmocka_unit_test_setup(test_loops_share_exactly, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
