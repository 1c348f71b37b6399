/* Identifiers: order, text form, uniqueness. */
#include "base/id.h"
#include "../test.h"
#include "base/clock.h"

static void ids_sort_in_order_of_making(void **state)
{
    struct id last = id_new();
    for (int i = 0; i < 100000; i++) {
        struct id next = id_new();
        assert_true(memcmp(last.bytes, next.bytes, sizeof(last.bytes)) < 0);
        last = next;
    }
}

static int64_t frozen(void *arg) { return 1700000000123 * NS_PER_MS; }

static void ids_are_uuid_version_7(void **state)
{
    clock_override(frozen, frozen, NULL);
    struct id id = id_new();
    clock_override(NULL, NULL, NULL);
    assert_int_equal(id.bytes[6] >> 4, 7);
    assert_int_equal(id.bytes[8] >> 6, 2);
    assert_int_equal(id_time_ms(id), 1700000000123);
}

static void text_round_trips(void **state)
{
    char text[ID_TEXT_BYTES_MAX];
    struct id id = id_new(), back;
    assert_int_equal(id_format(id, "call", text), 31);
    assert_memory_equal(text, "call_", 5);
    assert_int_equal(id_parse(str_from(text), "call", &back), RC_OK);
    assert_true(id_eq(id, back));
    assert_int_equal(id_parse(str_from(text), "key", &back), RC_INVALID);
    /* From the TypeID specification's list of valid values. */
    assert_int_equal(id_parse(STR("prefix_01h455vb4pex5vsknk084sn02q"), "prefix", &back), RC_OK);
    static const uint8_t want[] = {0x01, 0x89, 0x0a, 0x5d, 0xac, 0x96, 0x77, 0x4b,
                                   0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a, 0x80, 0x57};
    assert_memory_equal(back.bytes, want, 16);
}

static void bad_texts_are_refused(void **state)
{
    struct id id;
    static const char *const bad[] = {
        "",
        "prefix_",
        "prefix_01h455vb4pex5vsknk084sn02",   /* short */
        "prefix_01h455vb4pex5vsknk084sn02qq", /* long */
        "prefix_81h455vb4pex5vsknk084sn02q",  /* more than 128 bits */
        "prefix_01h455vb4pex5vsknk084sn0lq",  /* l is not in the alphabet */
        "prefix_01H455VB4PEX5VSKNK084SN02Q",  /* one text for one id */
        "prefix-01h455vb4pex5vsknk084sn02q",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(id_parse(str_from(bad[i]), "prefix", &id), RC_INVALID);
}

static void zero_is_recognised(void **state)
{
    struct id id = {{0}};
    assert_true(id_is_zero(id));
    assert_false(id_is_zero(id_new()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_uuid_version_7), cmocka_unit_test(ids_sort_in_order_of_making),
        cmocka_unit_test(text_round_trips),       cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(zero_is_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
