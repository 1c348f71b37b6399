/* Inner loops: see scan.h. Each is a plain loop over arrays of one type, so that the compiler
 * vectorises it; SCAN_CLONES compiles it for several generations of CPUs and the loader picks. */
#pragma GCC optimize("O3")
#include "trace/scan.h"

/* Not with clang, which leaves out the symbol of a function that is not static. */
#if defined(__x86_64__) && defined(__has_attribute) && !defined(__clang__)
#if __has_attribute(target_clones) && !defined(__SANITIZE_ADDRESS__) &&                            \
    !defined(__SANITIZE_THREAD__)
#define SCAN_CLONES __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#endif
#endif
#ifndef SCAN_CLONES
#define SCAN_CLONES
#endif

#define RANGE_LOOP(name, type, wide)                                                               \
    SCAN_CLONES static void name(uint8_t *restrict mask, const type *restrict code, uint32_t n,    \
                                 wide lo, wide span)                                               \
    {                                                                                              \
        for (uint32_t i = 0; i < n; i++)                                                           \
            mask[i] &= (uint8_t)((wide)(code[i] - lo) <= span);                                    \
    }
RANGE_LOOP(range_1, uint8_t, uint8_t)
RANGE_LOOP(range_2, uint16_t, uint16_t)
RANGE_LOOP(range_4, uint32_t, uint32_t)
RANGE_LOOP(range_8, uint64_t, uint64_t)

void scan_range(uint8_t *mask, const struct column_view *view, uint32_t n, int64_t lo, int64_t hi)
{
    ASSERT(lo <= hi);
    uint64_t span = (uint64_t)hi - (uint64_t)lo;
    switch (view->width) {
    case 1: range_1(mask, view->data, n, (uint8_t)lo, (uint8_t)span); break;
    case 2: range_2(mask, view->data, n, (uint16_t)lo, (uint16_t)span); break;
    case 4: range_4(mask, view->data, n, (uint32_t)lo, (uint32_t)span); break;
    case 8: range_8(mask, view->data, n, (uint64_t)lo, span); break;
    default: /* every code is 0 */
        if (lo > 0 || hi < 0)
            memset(mask, 0, n);
    }
}

void scan_table(uint8_t *mask, const struct column_view *view, uint32_t n, const uint8_t *table)
{
    const uint8_t *code_1 = view->data;
    const uint16_t *code_2 = view->data;
    const uint32_t *code_4 = view->data;
    switch (view->width) {
    case 1:
        for (uint32_t i = 0; i < n; i++)
            mask[i] &= table[code_1[i]];
        break;
    case 2:
        for (uint32_t i = 0; i < n; i++)
            mask[i] &= table[code_2[i]];
        break;
    case 4:
        for (uint32_t i = 0; i < n; i++)
            mask[i] &= table[code_4[i]];
        break;
    default:
        if (!table[0])
            memset(mask, 0, n);
    }
}

#define EQUAL_LOOP(name, type)                                                                     \
    SCAN_CLONES static void name(uint8_t *restrict out, const type *restrict code, uint32_t n,     \
                                 type wanted)                                                      \
    {                                                                                              \
        for (uint32_t i = 0; i < n; i++)                                                           \
            out[i] |= (uint8_t)(code[i] == wanted);                                                \
    }
EQUAL_LOOP(equal_1, uint8_t)
EQUAL_LOOP(equal_2, uint16_t)
EQUAL_LOOP(equal_4, uint32_t)

static void or_equal(uint8_t *out, const struct column_view *view, uint32_t n, int64_t wanted)
{
    if (wanted < 0)
        return;
    switch (view->width) {
    case 1: equal_1(out, view->data, n, (uint8_t)wanted); break;
    case 2: equal_2(out, view->data, n, (uint16_t)wanted); break;
    case 4: equal_4(out, view->data, n, (uint32_t)wanted); break;
    default:
        if (wanted == 0)
            memset(out, 1, n);
    }
}

SCAN_CLONES static void and_bytes(uint8_t *restrict mask, const uint8_t *restrict other, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        mask[i] &= other[i];
}

void scan_either(uint8_t *mask, const struct column_view *a, int64_t code_a,
                 const struct column_view *b, int64_t code_b, uint32_t n)
{
    uint8_t either[GRANULE_ROWS];
    memset(either, 0, n);
    or_equal(either, a, n, code_a);
    or_equal(either, b, n, code_b);
    and_bytes(mask, either, n);
}

void scan_deleted(uint8_t *mask, const atomic_uint_least64_t *bits, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 64) {
        uint64_t word = atomic_load_explicit(&bits[i / 64], memory_order_relaxed);
        for (; word; word &= word - 1) {
            uint32_t row = i + (uint32_t)__builtin_ctzll(word);
            if (row < n)
                mask[row] = 0;
        }
    }
}

SCAN_CLONES uint32_t scan_count(const uint8_t *mask, uint32_t n)
{
    uint16_t count = 0; /* a granule has fewer rows than 2^16 */
    for (uint32_t i = 0; i < n; i++)
        count = (uint16_t)(count + mask[i]);
    return count;
}

static inline uint64_t mask_word(const uint8_t *mask, uint32_t i)
{
    uint64_t word;
    memcpy(&word, mask + i, 8);
    return word;
}

uint32_t scan_select_few(const uint8_t *mask, uint32_t n, uint16_t *out)
{
    uint32_t count = 0, i = 0;
    for (; i + 8 <= n; i += 8)
        for (uint64_t word = mask_word(mask, i); word; word &= word - 1)
            out[count++] = (uint16_t)(i + (uint32_t)__builtin_ctzll(word) / 8);
    for (; i < n; i++)
        if (mask[i])
            out[count++] = (uint16_t)i;
    return count;
}

uint32_t scan_select(const uint8_t *mask, uint32_t n, uint16_t *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        out[count] = (uint16_t)i;
        count += mask[i];
    }
    return count;
}

/* Partial sums are kept as narrow as their rows allow: more of them fit a vector. */
#define SUM_ROWS 4096u

SCAN_CLONES static uint64_t sum_1(const uint8_t *restrict mask, const uint8_t *restrict code,
                                  uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t from = 0; from < n; from += 256) { /* 256 × 255 < 2^16 */
        uint16_t part = 0;
        uint32_t to = from + 256 < n ? from + 256 : n;
        for (uint32_t i = from; i < to; i++)
            part = (uint16_t)(part + (code[i] & (uint8_t)-mask[i]));
        sum += part;
    }
    return sum;
}

/* As a product of signed 16-bit numbers, for which there is an instruction: the code less 2^15. */
SCAN_CLONES static uint64_t sum_2(const uint8_t *restrict mask, const uint16_t *restrict code,
                                  uint32_t n, uint32_t count)
{
    int64_t sum = 0;
    for (uint32_t from = 0; from < n; from += SUM_ROWS) {
        int32_t part = 0;
        uint32_t to = from + SUM_ROWS < n ? from + SUM_ROWS : n;
        for (uint32_t i = from; i < to; i++)
            part += (int16_t)(code[i] ^ 0x8000) * (int16_t)mask[i];
        sum += part;
    }
    return (uint64_t)(sum + 32768ll * count);
}

SCAN_CLONES static uint64_t sum_8(const uint8_t *restrict mask, const uint64_t *restrict code,
                                  uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += code[i] & -(uint64_t)mask[i];
    return sum;
}

/* The halves apart, so that the sums need not be wider than the codes. */
SCAN_CLONES static uint64_t sum_4(const uint8_t *restrict mask, const uint32_t *restrict code,
                                  uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t from = 0; from < n; from += SUM_ROWS) {
        uint32_t low = 0, high = 0;
        uint32_t to = from + SUM_ROWS < n ? from + SUM_ROWS : n;
        for (uint32_t i = from; i < to; i++) {
            uint32_t masked = code[i] & -(uint32_t)mask[i];
            low += masked & 0xffff;
            high += masked >> 16;
        }
        sum += ((uint64_t)high << 16) + low;
    }
    return sum;
}

int64_t scan_sum(const uint8_t *mask, const struct column_view *view, uint32_t n, uint32_t count)
{
    uint64_t sum = 0;
    switch (view->width) {
    case 1: sum = sum_1(mask, view->data, n); break;
    case 2: sum = sum_2(mask, view->data, n, count); break;
    case 4: sum = sum_4(mask, view->data, n); break;
    case 8: sum = sum_8(mask, view->data, n); break;
    default: break;
    }
    return (int64_t)((uint64_t)view->base * count + view->scale * sum);
}

SCAN_CLONES void scan_widen(uint16_t *restrict out, const uint8_t *restrict code, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = code[i];
}

SCAN_CLONES uint32_t scan_mask_group(uint8_t *restrict out, const uint8_t *restrict mask,
                                     const uint16_t *restrict groups, uint32_t n, uint16_t wanted)
{
    uint16_t count = 0; /* a granule has fewer rows than 2^16 */
    for (uint32_t i = 0; i < n; i++) {
        out[i] = mask[i] & (uint8_t)(groups[i] == wanted);
        count = (uint16_t)(count + out[i]);
    }
    return count;
}

SCAN_CLONES void scan_mask_without(uint8_t *restrict out, const uint8_t *restrict mask,
                                   const uint8_t *restrict other, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = mask[i] & (uint8_t)(other[i] ^ 1);
}

/* ---- histograms ---- */

/* A float's exponent and first five bits of the mantissa number the buckets: 1.0f is bucket 1. Bits
 * of floats are read through an array, which vectorises where a union does not. */
#define BUCKET_SHIFT 18
#define BUCKET_ONE   (0x3f800000u >> BUCKET_SHIFT)

typedef uint32_t __attribute__((may_alias)) float_bits;

#define BUCKET_ROWS                                                                                \
    1024u /* at a time: what stands between the loops stays in the nearest cache                   \
           */

SCAN_CLONES static void buckets_of(uint16_t *restrict bucket, const int32_t *restrict us,
                                   uint32_t n)
{
    float value[BUCKET_ROWS];
    for (uint32_t i = 0; i < n; i++)
        value[i] = (float)(us[i] + (us[i] == 0)); /* as a choice the compiler makes a jump of it */
    const float_bits *bits = (const float_bits *)value;
    for (uint32_t i = 0; i < n; i++)
        bucket[i] = us[i] < 0 ? 0 : (uint16_t)((bits[i] >> BUCKET_SHIFT) - BUCKET_ONE + 1);
}

#define DURATION_LOOP(name, type)                                                                  \
    SCAN_CLONES static void name(int32_t *restrict us, const type *restrict code, uint32_t n,      \
                                 uint32_t base, uint32_t scale)                                    \
    {                                                                                              \
        for (uint32_t i = 0; i < n; i++)                                                           \
            us[i] = (int32_t)(base + scale * (uint32_t)code[i]);                                   \
    }
DURATION_LOOP(durations_1, uint8_t)
DURATION_LOOP(durations_2, uint16_t)
DURATION_LOOP(durations_4, uint32_t)

void scan_buckets(uint16_t *bucket, const struct column_view *view, uint32_t n)
{
    int32_t us[BUCKET_ROWS];
    uint32_t base = (uint32_t)view->base, scale = (uint32_t)view->scale;
    bool fits = view->max <= INT32_MAX && view->min >= -1;
    for (uint32_t from = 0; from < n; from += BUCKET_ROWS) {
        uint32_t rows = MIN(n - from, BUCKET_ROWS);
        if (fits && view->width == 1)
            durations_1(us, (const uint8_t *)view->data + from, rows, base, scale);
        else if (fits && view->width == 2)
            durations_2(us, (const uint16_t *)view->data + from, rows, base, scale);
        else if (fits && view->width == 4)
            durations_4(us, (const uint32_t *)view->data + from, rows, base, scale);
        else
            for (uint32_t i = 0; i < rows; i++)
                us[i] = (int32_t)MAX(MIN(view_value(view, from + i), INT32_MAX), -1);
        buckets_of(bucket + from, us, rows);
    }
}

SCAN_CLONES void scan_bucket_index(uint32_t *restrict out, const uint16_t *restrict bin,
                                   const uint16_t *restrict bucket, const uint8_t *restrict mask,
                                   uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = bin[i] * HISTOGRAM_BUCKETS + (bucket[i] & (uint16_t)-(uint16_t)mask[i]);
}

/* The middle of a bucket, in µs. */
static int64_t bucket_middle(uint32_t bucket)
{
    union {
        uint32_t u;
        float f;
    } low = {.u = (bucket - 1 + BUCKET_ONE) << BUCKET_SHIFT},
      high = {.u = (bucket + BUCKET_ONE) << BUCKET_SHIFT};
    return (int64_t)((low.f + high.f) / 2);
}

int64_t histogram_quantile(const uint32_t counts[HISTOGRAM_BUCKETS], double q)
{
    uint64_t total = 0, seen = 0;
    for (uint32_t b = 1; b < HISTOGRAM_BUCKETS; b++)
        total += counts[b];
    if (total == 0)
        return -1;
    uint64_t wanted = (uint64_t)(q * (double)(total - 1)) + 1;
    for (uint32_t b = 1; b < HISTOGRAM_BUCKETS; b++) {
        seen += counts[b];
        if (seen >= wanted)
            return bucket_middle(b);
    }
    UNREACHABLE();
}
