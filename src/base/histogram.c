/* Buckets: values below 64 have one each; above, each doubling is cut into 64 equal steps. A
 * value's bucket follows from the position of its highest bit and the six bits behind it. */
#include "base/histogram.h"
#include <string.h>

#define STEP_BITS 6

void histogram_init(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
    histogram->min = UINT64_MAX;
}

static size_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (size_t)value;
    int shift = 63 - __builtin_clzll(value) - STEP_BITS;
    return (size_t)(shift + 1) * HISTOGRAM_STEPS + ((value >> shift) - HISTOGRAM_STEPS);
}

/* The largest value of the bucket. */
static uint64_t bucket_end(size_t bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    size_t shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t lead = HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS;
    return ((lead + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, int64_t signed_value)
{
    uint64_t value = signed_value > 0 ? (uint64_t)signed_value : 0;
    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->sum += (double)value;
    histogram->max = MAX(histogram->max, value);
    histogram->min = MIN(histogram->min, value);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_SLOTS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum += from->sum;
    into->max = MAX(into->max, from->max);
    into->min = MIN(into->min, from->min);
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
    if (histogram->count == 0)
        return 0;
    double wanted = share * (double)histogram->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_SLOTS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return MIN(bucket_end(i), histogram->max);
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count ? histogram->sum / (double)histogram->count : 0;
}
