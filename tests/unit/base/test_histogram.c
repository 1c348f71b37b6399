/* Percentiles against sorted values; the ends of the range. */
#include "base/histogram.h"
#include "base/rand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define VALUES 20000

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void agrees_with_sorting(void **state)
{
    static struct histogram histogram, half;
    static int64_t values[VALUES];
    histogram_init(&histogram);
    histogram_init(&half);
    rand_seed(4);
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = (int64_t)(rand_u64() >> (1 + rand_below(62)));
        histogram_add(i % 2 ? &half : &histogram, values[i]);
    }
    histogram_merge(&histogram, &half);
    qsort(values, VALUES, sizeof(values[0]), by_size);
    static const double shares[] = {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0};
    for (size_t i = 0; i < COUNT_OF(shares); i++) {
        size_t rank = (size_t)(shares[i] * VALUES + 0.999999) - 1;
        double exact = (double)values[rank];
        double got = (double)histogram_percentile(&histogram, shares[i]);
        assert_true(got >= exact && got <= exact * (1 + 1.0 / 64) + 1);
    }
    assert_true(histogram.max == (uint64_t)values[VALUES - 1]);
}

static void ends_of_the_range(void **state)
{
    static struct histogram histogram;
    histogram_init(&histogram);
    assert_int_equal(histogram_percentile(&histogram, 0.5), 0);
    assert_true(histogram_mean(&histogram) == 0);
    histogram_add(&histogram, -5);
    histogram_add(&histogram, INT64_MAX);
    assert_int_equal(histogram_percentile(&histogram, 0.5), 0);
    assert_true(histogram_percentile(&histogram, 1) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_sorting),
        cmocka_unit_test(ends_of_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
