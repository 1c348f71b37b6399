/* Counts of durations, for percentiles: exact to 1/64 of the value (1.6 %), from 0 to 2^63 - 1, in
 * fixed memory, as HdrHistogram does. One thread; several are added up. */
#pragma once
#include "base/base.h"

#define HISTOGRAM_STEPS 64 /* per doubling */
#define HISTOGRAM_SLOTS (58 * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count, max, min;
    double sum;
    uint64_t buckets[HISTOGRAM_SLOTS];
};

void histogram_init(struct histogram *histogram);
void histogram_add(struct histogram *histogram, int64_t value); /* negative counts as 0 */
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value that `share` (0 … 1) of all values do not pass, rounded up to its bucket's end but
 * never above the maximum; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);
double histogram_mean(const struct histogram *histogram);
