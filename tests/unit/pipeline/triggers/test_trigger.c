/* Which times of a schedule are made good, signatures, and what a definition may say. */
#include "base/clock.h"
#include "pipeline/triggers/trigger.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MINUTE (60 * NS_PER_S)
#define NOON   1795694400000000000ll /* a whole minute */
#define ID     "trig_01jd0000000000000000000000"

static struct arena arena;
static const struct zone utc;

static int setup(void **state)
{
    UNUSED(state);
    arena_init(&arena, 4 << 20);
    return 0;
}

static int teardown(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

static enum rc decode(const char *json, struct trigger *out, struct err *err)
{
    yyjson_doc *doc;
    *err = (struct err){0};
    assert_int_equal(json_read(str_from(json), &arena, &doc, NULL), RC_OK);
    return trigger_decode((struct id){{1}}, STR(ID), yyjson_doc_get_root(doc), &arena, out, err);
}

static struct trigger each_minute(const char *missed, const char *overlap)
{
    struct trigger trigger;
    struct err err;
    char json[256];
    snprintf(json, sizeof(json),
             "{\"kind\":\"schedule\",\"pipeline\":\"p\",\"cron\":\"* * * * *\",\"missed\":\"%s\","
             "\"overlap\":\"%s\"}",
             missed, overlap);
    if (decode(json, &trigger, &err) != RC_OK)
        fail_msg("%s", err.message);
    return trigger;
}

/* Ten times are due, the last one just now. */
static void expect(const char *missed, const char *overlap, bool running, size_t count,
                   int64_t missed_count, int64_t first, int64_t next)
{
    struct trigger trigger = each_minute(missed, overlap);
    struct schedule_plan plan;
    schedule_plan(&trigger, &utc, NOON - 9 * MINUTE, NOON + 1, running, &plan);
    assert_int_equal(plan.count, count);
    assert_int_equal(plan.missed, missed_count);
    if (count)
        assert_int_equal((plan.fire_ns[0] - NOON) / MINUTE, first);
    assert_int_equal((plan.next_ns - NOON) / MINUTE, next);
}

static void test_missed_and_overlap(void **state)
{
    UNUSED(state);
    expect("all", "allow", false, 10, 0, -9, 1);
    expect("once", "allow", false, 1, 9, 0, 1);
    expect("skip", "allow", false, 1, 9, 0, 1);
    expect("all", "skip", false, 1, 9, -9, 1);
    expect("all", "skip", true, 0, 10, 0, 1);
    expect("all", "wait", false, 1, 0, -9, -8);
    expect("all", "wait", true, 0, 0, 0, -9);
    expect("once", "wait", true, 0, 0, 0, -9);
}

static void test_long_sleep(void **state)
{
    struct trigger trigger = each_minute("all", "allow");
    struct schedule_plan plan;
    UNUSED(state);
    schedule_plan(&trigger, &utc, NOON - 200000 * MINUTE, NOON, false, &plan);
    assert_int_equal(plan.count, TRIGGER_CAUGHT_UP_MAX);
    assert_true(plan.next_ns > NOON && plan.next_ns <= NOON + MINUTE);
    for (size_t i = 1; i < plan.count; i++)
        assert_true(plan.fire_ns[i] > plan.fire_ns[i - 1]);
}

static void test_nothing_is_due(void **state)
{
    struct trigger trigger = each_minute("all", "allow");
    struct schedule_plan plan;
    UNUSED(state);
    schedule_plan(&trigger, &utc, NOON + MINUTE, NOON, false, &plan);
    assert_int_equal(plan.count, 0);
    assert_int_equal(plan.next_ns, NOON + MINUTE);
}

/* The example of the Standard Webhooks specification's reference libraries. */
static void test_signature(void **state)
{
    const struct str secret = STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
                     id = STR("msg_p5jXN8AQM9LWM0D4loKWxJek"), body = STR("{\"test\": 2432232314}");
    const int64_t at_s = 1614265330;
    UNUSED(state);
    struct str right = webhook_sign(secret, id, at_s, body, &arena);
    assert_true(str_eq(right, STR("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")));
    int64_t now = at_s * NS_PER_S;
    assert_true(webhook_verify(secret, id, STR("1614265330"),
                               arena_concat(&arena, STR("v1,bm8= "), right), body, now, &arena));
    assert_false(webhook_verify(secret, id, STR("1614265330"), STR("v1,bm8="), body, now, &arena));
    assert_false(webhook_verify(secret, STR(""), STR("1614265330"), right, body, now, &arena));
    assert_false(webhook_verify(secret, id, STR("x"), right, body, now, &arena));
    assert_false(
        webhook_verify(secret, id, STR("1614265330"), right, body, now + 301 * NS_PER_S, &arena));
    assert_false(
        webhook_verify(secret, id, STR("1614265330"), right, body, now - 301 * NS_PER_S, &arena));
    assert_false(webhook_verify(secret, id, STR("9223372036854775807"), right, body, now, &arena));
    struct str made = webhook_secret_new(&arena);
    assert_int_equal(webhook_secret_bytes(made, &arena).n, 24);
}

static void test_definitions(void **state)
{
    struct trigger trigger;
    struct err err;
    UNUSED(state);
    assert_int_equal(
        decode("{\"kind\":\"webhook\",\"pipeline\":\"p\",\"secret\":\"0123456789abcdef\","
               "\"map\":{\"query\":\"body.a + 'x'\"},\"wait\":true}",
               &trigger, &err),
        RC_OK);
    assert_true(trigger.wait && trigger.map_count == 1 && !trigger.session_from);
    assert_int_equal(decode("{\"kind\":\"dream\",\"pipeline\":\"p\"}", &trigger, &err), RC_INVALID);
    assert_string_equal(err.field, "kind");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_missed_and_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signature, setup, teardown),
        cmocka_unit_test_setup_teardown(test_definitions, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
