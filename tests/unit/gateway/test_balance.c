/* The order in which targets are tried: weights, stickiness, latency; keys that take turns. */
#include "gateway/balance.h"
#include "base/rand.h"
#include "gateway/breaker.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define COUNT 3

static struct provider provider = {.name = STR_INIT("p")};
static struct target targets[COUNT] = {
    {.provider = &provider, .model = STR_INIT("a"), .weight = 6, .slot = 1},
    {.provider = &provider, .model = STR_INIT("b"), .weight = 3, .slot = 2},
    {.provider = &provider, .model = STR_INIT("c"), .weight = 1, .slot = 3},
};

static struct route route_of(enum balance balance)
{
    return (struct route){
        .name = STR("r"), .targets = targets, .target_count = COUNT, .balance = balance};
}

static void test_weights_say_how_often_first(void **state)
{
    struct route route = route_of(BALANCE_WEIGHTED);
    int first[COUNT] = {0};
    rand_seed(1);
    for (int i = 0; i < 10000; i++) {
        uint8_t order[BALANCE_TARGETS_MAX];
        assert_int_equal(balance_order(&route, &(struct balance_options){0}, order), COUNT);
        first[order[0]]++;
    }
    assert_in_range(first[0], 5700, 6300);
    assert_in_range(first[1], 2700, 3300);
    assert_in_range(first[2], 800, 1200);
}

static void test_ordered(void **state)
{
    struct route route = route_of(BALANCE_ORDERED);
    uint8_t order[BALANCE_TARGETS_MAX];
    balance_order(&route, &(struct balance_options){0}, order);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(order[i], i);
}

static void test_sticky_moves_only_the_share_of_a_target_that_left(void **state)
{
    struct route all = route_of(BALANCE_STICKY), less = all;
    less.target_count = COUNT - 1;
    int moved = 0, last = 0, n = 5000;
    for (int i = 0; i < n; i++) {
        char text[16];
        struct balance_options options = {
            .sticky_key = {text, (size_t)snprintf(text, sizeof(text), "s%d", i)}};
        uint8_t before[BALANCE_TARGETS_MAX], again[BALANCE_TARGETS_MAX], after[BALANCE_TARGETS_MAX];
        balance_order(&all, &options, before);
        balance_order(&all, &options, again);
        assert_int_equal(before[0], again[0]);
        balance_order(&less, &options, after);
        last += before[0] == COUNT - 1;
        moved += before[0] != after[0];
    }
    assert_int_equal(moved, last);
    assert_in_range(last, n / 13, n / 8); /* a tenth */
}

static void test_latency_prefers_the_fast_and_the_unknown(void **state)
{
    struct route route = route_of(BALANCE_LATENCY);
    breaker_reset_all();
    breaker_report(1, 1, false, 900);
    breaker_report(2, 1, false, 300);
    int first[COUNT] = {0};
    for (int i = 0; i < 1000; i++) {
        uint8_t order[BALANCE_TARGETS_MAX];
        balance_order(&route, &(struct balance_options){0}, order);
        first[order[0]]++;
    }
    assert_true(first[2] > 900);
    breaker_report(3, 1, false, 600);
    uint8_t order[BALANCE_TARGETS_MAX];
    int fast = 0;
    for (int i = 0; i < 1000; i++) {
        balance_order(&route, &(struct balance_options){0}, order);
        fast += order[0] == 1;
    }
    assert_true(fast > 900 &&
                fast < 1000); /* now and then another, or averages would never be renewed */
}

static bool only_b(void *arg, const struct target *target)
{
    return str_eq(target->model, STR("b"));
}

static void test_only_eligible_targets(void **state)
{
    struct route route = route_of(BALANCE_WEIGHTED);
    uint8_t order[BALANCE_TARGETS_MAX];
    assert_int_equal(balance_order(&route, &(struct balance_options){.eligible = only_b}, order),
                     1);
    assert_int_equal(order[0], 1);
}

static void test_keys_take_turns_and_cool_down(void **state)
{
    breaker_reset_all();
    struct provider_key keys[] = {{STR("a"), 11}, {STR("b"), 12}, {STR("c"), 13}};
    struct provider many = {.name = STR("p"), .keys = keys, .key_count = COUNT_OF(keys)};
    uint32_t turn = 0;
    int64_t until_ns = 0;
    for (int i = 0; i < 6; i++)
        assert_int_equal(balance_pick_key(&many, &turn, 100, &until_ns), i % 3);
    cooldown_start(11, 100, 50);
    turn = 0;
    assert_int_equal(balance_pick_key(&many, &turn, 100, &until_ns), 1);
    cooldown_start(12, 100, 40);
    cooldown_start(13, 100, 60);
    assert_int_equal(balance_pick_key(&many, &turn, 100, &until_ns), -1);
    assert_int_equal(until_ns, 140);
    assert_true(balance_pick_key(&many, &turn, 140, &until_ns) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_say_how_often_first),
        cmocka_unit_test(test_ordered),
        cmocka_unit_test(test_sticky_moves_only_the_share_of_a_target_that_left),
        cmocka_unit_test(test_latency_prefers_the_fast_and_the_unknown),
        cmocka_unit_test(test_only_eligible_targets),
        cmocka_unit_test(test_keys_take_turns_and_cool_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
