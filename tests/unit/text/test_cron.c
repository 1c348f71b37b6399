/* Time zones and cron expressions: both changes of the clock, on both sides of the equator, by
 * rules and by a file's entries; what cannot be read. */
#include "base/clock.h"
#include "text/cron.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define BERLIN    "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEW_YORK  "EST5EDT,M3.2.0,M11.1.0"
#define SYDNEY    "AEST-10AEDT,M10.1.0,M4.1.0/3"
#define LORD_HOWE "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"

static struct zone zone_of(const char *rule)
{
    struct zone zone = {.has_rule = true};
    assert_int_equal(zone_rule_parse(str_from(rule), &zone.rule), RC_OK);
    return zone;
}

static int64_t seconds(const char *iso)
{
    int64_t ns;
    assert_int_equal(clock_parse_iso(str_from(iso), &ns), RC_OK);
    return ns / NS_PER_S;
}

/* The times after `from`, one after the other. */
static void expect(const char *cron_text, const char *rule, const char *from,
                   const char *const *times)
{
    struct cron cron;
    struct err err = {0};
    struct zone zone = zone_of(rule);
    char iso[CLOCK_ISO_BYTES_MAX];
    if (cron_parse(str_from(cron_text), &cron, &err) != RC_OK)
        fail_msg("%s: %s", cron_text, err.message);
    int64_t at = seconds(from);
    for (; *times; times++) {
        at = cron_next_s(&cron, &zone, at);
        clock_format_iso(at * NS_PER_S, 0, iso);
        if (at != seconds(*times))
            fail_msg("%s in %s: %s instead of %s", cron_text, rule, iso, *times);
    }
}
#define EXPECT(cron, rule, from, ...)                                                              \
    expect(cron, rule, from, (const char *const[]){__VA_ARGS__, NULL})

static void test_plain(void **state)
{
    UNUSED(state);
    EXPECT("0 9 * * mon-fri", BERLIN, "2026-11-20T08:00:00Z", "2026-11-23T08:00:00Z",
           "2026-11-24T08:00:00Z");
    EXPECT("*/20 * * * *", BERLIN, "2026-11-20T08:00:01Z", "2026-11-20T08:20:00Z",
           "2026-11-20T08:40:00Z", "2026-11-20T09:00:00Z");
    EXPECT("0 0 29 2 *", "UTC0", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z",
           "2032-02-29T00:00:00Z");
    EXPECT("0 12 L * *", "UTC0", "2028-01-31T12:00:00Z", "2028-02-29T12:00:00Z",
           "2028-03-31T12:00:00Z", "2028-04-30T12:00:00Z");
    EXPECT("0 0 13 * fri", "UTC0", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z",
           "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z",
           "2026-12-13T00:00:00Z");
    EXPECT("5 4 * * 7", "UTC0", "2026-11-23T00:00:00Z", "2026-11-29T04:05:00Z");
    EXPECT("@monthly", NEW_YORK, "2026-11-23T00:00:00Z", "2026-12-01T05:00:00Z");
    EXPECT("0 22-23,1 * * *", "UTC0", "2026-11-23T00:00:00Z", "2026-11-23T01:00:00Z",
           "2026-11-23T22:00:00Z", "2026-11-23T23:00:00Z", "2026-11-24T01:00:00Z");
}

static void test_clocks_go_forward(void **state)
{
    UNUSED(state);
    /* 2026-03-29 02:00 becomes 03:00 (01:00 UTC): half past two comes at the change, once. */
    EXPECT("30 2 * * *", BERLIN, "2026-03-27T12:00:00Z", "2026-03-28T01:30:00Z",
           "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
    EXPECT("15,45 2 * * *", BERLIN, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z",
           "2026-03-30T00:15:00Z", "2026-03-30T00:45:00Z");
    EXPECT("*/30 * * * *", BERLIN, "2026-03-29T00:00:00Z", "2026-03-29T00:30:00Z",
           "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z");
    EXPECT("30 */2 * * *", BERLIN, "2026-03-28T22:45:00Z", "2026-03-28T23:30:00Z",
           "2026-03-29T02:30:00Z"); /* 00:30, then 04:30: half past two was not */
    EXPECT("30 2 * * *", NEW_YORK, "2026-03-07T12:00:00Z", "2026-03-08T07:00:00Z",
           "2026-03-09T06:30:00Z");
    EXPECT("30 2 * * *", SYDNEY, "2026-10-03T10:00:00Z", "2026-10-03T16:00:00Z",
           "2026-10-04T15:30:00Z");
    EXPECT("10 2 * * *", LORD_HOWE, "2026-10-03T10:00:00Z", "2026-10-03T15:30:00Z",
           "2026-10-04T15:10:00Z");
}

static void test_clocks_go_back(void **state)
{
    UNUSED(state);
    /* 2026-10-25 03:00 becomes 02:00 (01:00 UTC): half past two comes twice, the first counts. */
    EXPECT("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z",
           "2026-10-26T01:30:00Z");
    EXPECT("30 2 * * *", BERLIN, "2026-10-25T01:05:00Z", "2026-10-26T01:30:00Z");
    EXPECT("*/30 * * * *", BERLIN, "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z",
           "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z");
    EXPECT("0 * * * *", NEW_YORK, "2026-11-01T04:30:00Z", "2026-11-01T05:00:00Z",
           "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z");
    EXPECT("30 1 * * *", NEW_YORK, "2026-10-31T12:00:00Z", "2026-11-01T05:30:00Z",
           "2026-11-02T06:30:00Z");
    EXPECT("30 2 * * *", SYDNEY, "2026-04-04T10:00:00Z", "2026-04-04T15:30:00Z",
           "2026-04-05T16:30:00Z");
}

static void put_big(char **p, uint64_t value, int n)
{
    for (int i = n - 1; i >= 0; i--)
        *(*p)++ = (char)(value >> (8 * i));
}

/* Two types, one entry: summer time since 2026-03-29. */
static size_t make_file(char *out, const char *footer)
{
    char *p = out;
    for (int version = 0; version < 2; version++) {
        memcpy(p, "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
        p += 20;
        const uint32_t counts[] = {0, 0, 0, 1, 2, 4};
        for (size_t i = 0; i < COUNT_OF(counts); i++)
            put_big(&p, counts[i], 4);
        put_big(&p, 1774746000, version ? 8 : 4);
        *p++ = 1;
        put_big(&p, 3600, 4);
        put_big(&p, 0, 2);
        put_big(&p, 7200, 4);
        put_big(&p, 0x0100, 2);
        memcpy(p, "CET", 4);
        p += 4;
    }
    return (size_t)(p - out) + (size_t)sprintf(p, "\n%s\n", footer);
}

static void test_file(void **state)
{
    char bytes[512];
    struct arena arena;
    struct zone zone;
    UNUSED(state);
    arena_init(&arena, 1 << 20);
    size_t n = make_file(bytes, BERLIN);
    assert_int_equal(zone_parse(str_make(bytes, n), &arena, &zone), RC_OK);
    assert_int_equal(zone_offset_s(&zone, 1774745999), 3600);
    assert_int_equal(zone_offset_s(&zone, 1774746000), 7200); /* by the rule behind the entry */
    assert_int_equal(zone_offset_s(&zone, seconds("2026-12-01T00:00:00Z")), 3600);
    n = make_file(bytes, "");
    assert_int_equal(zone_parse(str_make(bytes, n), &arena, &zone), RC_OK);
    assert_int_equal(zone_offset_s(&zone, seconds("2026-12-01T00:00:00Z")), 7200);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(zone_parse(str_make(bytes, cut), &arena, &zone), RC_INVALID);
    arena_fini(&arena);
}

static void test_names(void **state)
{
    static const char *const bad[] = {"../etc/passwd", "/etc/passwd", "Europe/", "Europe/Nowhere",
                                      "Europe/../UTC"};
    struct arena arena;
    struct zone zone;
    struct err err;
    UNUSED(state);
    arena_init(&arena, 4 << 20);
    assert_int_equal(zone_load(STR("UTC"), "/nowhere", &arena, &zone, &err), RC_OK);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        err = (struct err){0};
        assert_int_equal(zone_load(str_from(bad[i]), NULL, &arena, &zone, &err), RC_INVALID);
        assert_string_equal(err.field, "time_zone");
    }
    arena_fini(&arena);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "* * * *",
                                      "* * * * * *",
                                      "60 * * * *",
                                      "* 24 * * *",
                                      "* * 0 * *",
                                      "* * * 13 *",
                                      "* * * * 8",
                                      "5-1 * * * *",
                                      "*/0 * * * *",
                                      "1,, * * * *",
                                      "0 0 30 2 *",
                                      "0 0 31 4,6 *",
                                      "x * * * *",
                                      "@never",
                                      "1, * * * *"};
    struct cron cron;
    UNUSED(state);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct err err = {0};
        if (cron_parse(str_from(bad[i]), &cron, &err) == RC_OK)
            fail_msg("'%s' is taken", bad[i]);
        assert_string_equal(err.field, "cron");
        assert_true(err.message[0] != 0);
    }
}

static void test_calendar(void **state)
{
    UNUSED(state);
    for (int64_t days = -800000; days < 800000; days += 97) {
        int64_t year;
        int month, day;
        civil_date(days, &year, &month, &day);
        assert_true(month >= 1 && month <= 12 && day >= 1 && day <= 31);
        assert_int_equal(civil_days(year, month, day), days);
    }
    assert_int_equal(civil_days(1970, 1, 1), 0);
    assert_int_equal(civil_days(2000, 3, 1), 11017);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),          cmocka_unit_test(test_clocks_go_forward),
        cmocka_unit_test(test_clocks_go_back), cmocka_unit_test(test_file),
        cmocka_unit_test(test_names),          cmocka_unit_test(test_refused),
        cmocka_unit_test(test_calendar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
