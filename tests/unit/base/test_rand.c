/* Randomness: bounds, repeatability, spread. */
#include "base/rand.h"
#include "../test.h"

static void a_seed_repeats(void **state)
{
    uint64_t first[8];
    rand_seed(7);
    for (int i = 0; i < 8; i++)
        first[i] = rand_u64();
    rand_seed(7);
    for (int i = 0; i < 8; i++)
        assert_int_equal(rand_u64(), first[i]);
    rand_seed(8);
    assert_int_not_equal(rand_u64(), first[0]);
}

static void below_is_bounded_and_even(void **state)
{
    rand_seed(1);
    int counts[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t x = rand_below(10);
        assert_true(x < 10);
        counts[x]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], 9500, 10500);
    assert_int_equal(rand_below(1), 0);
    for (int i = 0; i < 1000; i++)
        assert_true(rand_below(UINT64_MAX / 2 + 2) < UINT64_MAX / 2 + 2);
}

static void unit_lies_in_range(void **state)
{
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double x = rand_unit();
        assert_true(x >= 0 && x < 1);
        sum += x;
    }
    assert_true(sum > 49000 && sum < 51000);
}

static void secrets_differ(void **state)
{
    char a[32] = {0}, b[32] = {0};
    rand_secret(a, sizeof(a));
    rand_secret(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_repeats),
        cmocka_unit_test(below_is_bounded_and_even),
        cmocka_unit_test(unit_lies_in_range),
        cmocka_unit_test(secrets_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
