/* Clocks: text forms of times and durations, overriding. */
#include "base/clock.h"
#include "../test.h"

static void check_format(int64_t wall_ns, int digits, const char *want)
{
    char out[CLOCK_ISO_BYTES_MAX];
    assert_int_equal(clock_format_iso(wall_ns, digits, out), strlen(want));
    assert_string_equal(out, want);
    int64_t back;
    if (digits == 9) {
        assert_int_equal(clock_parse_iso(str_from(out), &back), RC_OK);
        assert_int_equal(back, wall_ns);
    }
}

static void formats_iso(void **state)
{
    check_format(0, 0, "1970-01-01T00:00:00Z");
    check_format(1700000000123456789, 9, "2023-11-14T22:13:20.123456789Z");
    check_format(1700000000123456789, 6, "2023-11-14T22:13:20.123456Z");
    check_format(1700000000123456789, 3, "2023-11-14T22:13:20.123Z");
    check_format(-1, 9, "1969-12-31T23:59:59.999999999Z");
    check_format(1709164800 * NS_PER_S, 0, "2024-02-29T00:00:00Z");
    check_format(951782399 * NS_PER_S, 0, "2000-02-28T23:59:59Z");
    check_format(9214646399999999999, 9, "2261-12-31T23:59:59.999999999Z");
}

static void parses_iso(void **state)
{
    int64_t ns;
    assert_int_equal(clock_parse_iso(STR("2023-11-14T23:13:20.5+01:00"), &ns), RC_OK);
    assert_int_equal(ns, 1700000000500000000);
    assert_int_equal(clock_parse_iso(STR("2023-11-14t22:13:20z"), &ns), RC_OK);
    assert_int_equal(ns, 1700000000 * NS_PER_S);
    assert_int_equal(clock_parse_iso(STR("2024-02-29"), &ns), RC_OK);
    assert_int_equal(ns, 1709164800 * NS_PER_S);
    static const char *const bad[] = {
        "",
        "2023",
        "2023-02-29",
        "2023-13-01",
        "2023-00-01",
        "2023-01-01T",
        "2023-01-01T24:00:00Z",
        "2023-01-01T00:00:00",
        "2023-01-01T00:00:00.Z",
        "2023-01-01T00:00:00Zx",
        "2023-01-01T00:00:00+1:00",
        "1500-01-01",
        "9999-01-01",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(clock_parse_iso(str_from(bad[i]), &ns), RC_INVALID);
}

static void every_day_round_trips(void **state)
{
    char out[CLOCK_ISO_BYTES_MAX];
    for (int64_t day = -100000; day < 100000; day++) {
        clock_format_iso(day * NS_PER_DAY, 0, out);
        int64_t back;
        assert_int_equal(clock_parse_iso(str_make(out, 10), &back), RC_OK);
        assert_int_equal(back, day * NS_PER_DAY);
    }
}

static void parses_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"20s", 20 * NS_PER_S},
        {"1m30s", 90 * NS_PER_S},
        {"500ms", 500 * NS_PER_MS},
        {"5m", 300 * NS_PER_S},
        {"2h", 7200 * NS_PER_S},
        {"30d", 30 * NS_PER_DAY},
        {"7", 7 * NS_PER_S},
        {"0.25", 250 * NS_PER_MS},
        {"1.5h", 5400 * NS_PER_S},
        {"10us", 10000},
        {"0s", 0},
    };
    int64_t ns;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_int_equal(clock_parse_duration(str_from(good[i].text), &ns), RC_OK);
        assert_int_equal(ns, good[i].ns);
    }
    static const char *const bad[] = {"", "s", "-1s", "1x", "1m30", "1 s", "1.s", "s1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(clock_parse_duration(str_from(bad[i]), &ns), RC_INVALID);
    assert_int_equal(clock_parse_duration(STR("99999999999999999999s"), &ns), RC_LIMIT);
    assert_int_equal(clock_parse_duration(STR("999999d"), &ns), RC_LIMIT);
}

static int64_t fixed(void *arg) { return *(int64_t *)arg; }

static void can_be_overridden(void **state)
{
    int64_t now = 42;
    clock_override(fixed, fixed, &now);
    assert_int_equal(clock_wall_ns(), 42);
    assert_int_equal(clock_monotonic_ns(), 42);
    clock_override(NULL, NULL, NULL);
    assert_true(clock_wall_ns() > 1700000000 * NS_PER_S);
    int64_t before = clock_monotonic_ns();
    assert_true(clock_monotonic_ns() >= before);
    assert_true(clock_thread_cpu_ns() > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_iso),           cmocka_unit_test(parses_iso),
        cmocka_unit_test(every_day_round_trips), cmocka_unit_test(parses_durations),
        cmocka_unit_test(can_be_overridden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
