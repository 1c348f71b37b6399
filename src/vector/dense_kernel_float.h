/* Float kernels in terms of vectors of eight floats, which the compiler turns into one register
 * or two: included by each tier's file, which sets KERNEL_TARGET. The operations and their
 * order are the same in all of them. */
#include "vector/dense_kernel.h"
#include <math.h>
#include <string.h>

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t lanes_i32 __attribute__((vector_size(32), aligned(4), may_alias));

#define LANES 8

#define LANES_AT(p) (*(const lanes *)(p))

/* Fewer than eight at the end of a vector: the others are zero. */
#define LANES_LOAD_PART(out, p, n)                                                                 \
    do {                                                                                           \
        (out) = (lanes){0};                                                                        \
        memcpy(&(out), (p), (n) * sizeof(float));                                                  \
    } while (0)

KERNEL_TARGET static float lanes_sum(const lanes *x)
{
    float s[LANES];
    memcpy(s, x, sizeof(s));
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            s[i] += s[i + width];
    return s[0];
}

#define SUMS 4 /* running at once, so that additions need not wait for each other */

KERNEL_TARGET static float kernel_dot(const float *a, const float *b, size_t n)
{
    lanes sums[SUMS] = {{0}};
    size_t i = 0;
    for (; i + SUMS * LANES <= n; i += SUMS * LANES)
        for (size_t s = 0; s < SUMS; s++)
            sums[s] += LANES_AT(a + i + s * LANES) * LANES_AT(b + i + s * LANES);
    for (; i < n; i += LANES) {
        lanes x, y;
        LANES_LOAD_PART(x, a + i, MIN(n - i, LANES));
        LANES_LOAD_PART(y, b + i, MIN(n - i, LANES));
        sums[0] += x * y;
    }
    sums[0] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return lanes_sum(sums);
}

KERNEL_TARGET static float kernel_distance(const float *a, const float *b, size_t n)
{
    lanes sums[SUMS] = {{0}};
    size_t i = 0;
    for (; i + SUMS * LANES <= n; i += SUMS * LANES)
        for (size_t s = 0; s < SUMS; s++) {
            lanes x = LANES_AT(a + i + s * LANES) - LANES_AT(b + i + s * LANES);
            sums[s] += x * x;
        }
    for (; i < n; i += LANES) {
        lanes x, y;
        LANES_LOAD_PART(x, a + i, MIN(n - i, LANES));
        LANES_LOAD_PART(y, b + i, MIN(n - i, LANES));
        x -= y;
        sums[0] += x * x;
    }
    sums[0] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return lanes_sum(sums);
}

/* ---- rotation: sign flips and Hadamard transforms of the first and of the last 2^k coordinates
 * by turns, with a butterfly between the halves after each, as RaBitQ's library does where the
 * dimension is no power of two ---- */

#define SIGN INT32_MIN

/* The partner at distance `step`, plus this one, negated in the upper half of each pair. */
#define INSIDE(x, mask, ...)                                                                       \
    ((x) = __builtin_shufflevector(x, x, __VA_ARGS__) + (lanes)((lanes_i32)(x) ^ (mask)))

KERNEL_TARGET static void hadamard(float *x, size_t n)
{
    const lanes_i32 one = {0, SIGN, 0, SIGN, 0, SIGN, 0, SIGN};
    const lanes_i32 two = {0, 0, SIGN, SIGN, 0, 0, SIGN, SIGN};
    const lanes_i32 four = {0, 0, 0, 0, SIGN, SIGN, SIGN, SIGN};
    for (size_t i = 0; i < n; i += LANES) {
        lanes v = LANES_AT(x + i);
        INSIDE(v, one, 1, 0, 3, 2, 5, 4, 7, 6);
        INSIDE(v, two, 2, 3, 0, 1, 6, 7, 4, 5);
        INSIDE(v, four, 4, 5, 6, 7, 0, 1, 2, 3);
        *(lanes *)(x + i) = v;
    }
    for (size_t step = LANES; step < n; step *= 2)
        for (size_t i = 0; i < n; i += 2 * step)
            for (size_t j = i; j < i + step; j += LANES) {
                lanes a = LANES_AT(x + j), b = LANES_AT(x + j + step);
                *(lanes *)(x + j) = a + b;
                *(lanes *)(x + j + step) = a - b;
            }
}

KERNEL_TARGET static void lanes_scale(float *x, size_t n, float by)
{
    for (size_t i = 0; i < n; i += LANES)
        *(lanes *)(x + i) = LANES_AT(x + i) * by;
}

KERNEL_TARGET static void kernel_rotate(float *x, size_t n, const uint32_t *signs)
{
    size_t part = (size_t)1 << (63 - __builtin_clzll(n));
    float length = 1 / sqrtf((float)part);
    for (size_t round = 0; round < KERNEL_ROTATE_ROUNDS; round++, signs += n) {
        for (size_t i = 0; i < n; i += LANES) {
            lanes_i32 flipped = *(const lanes_i32 *)(x + i) ^ *(const lanes_i32 *)(signs + i);
            *(lanes_i32 *)(x + i) = flipped;
        }
        float *at = round % 2 == 0 ? x : x + n - part;
        hadamard(at, part);
        lanes_scale(at, part, length);
        for (size_t i = 0; i < n / 2 && part < n; i += LANES) {
            lanes a = LANES_AT(x + i), b = LANES_AT(x + i + n / 2);
            *(lanes *)(x + i) = a + b;
            *(lanes *)(x + i + n / 2) = a - b;
        }
    }
    if (part < n)
        lanes_scale(x, n, 0.25F); /* four butterflies of √2 each */
}

/* ---- what coding needs ---- */

typedef int8_t lanes_i8 __attribute__((vector_size(8), aligned(1), may_alias));

KERNEL_TARGET static float kernel_sum(const float *x, size_t n)
{
    lanes sums[2] = {{0}};
    for (size_t i = 0; i < n; i += 2 * LANES) {
        sums[0] += LANES_AT(x + i);
        sums[1] += LANES_AT(x + i + LANES);
    }
    sums[0] += sums[1];
    return lanes_sum(sums);
}

KERNEL_TARGET static float kernel_sum_sizes(const float *x, size_t n)
{
    lanes sums[2] = {{0}};
    for (size_t i = 0; i < n; i += 2 * LANES) {
        sums[0] += (lanes)(*(const lanes_i32 *)(x + i) & INT32_MAX);
        sums[1] += (lanes)(*(const lanes_i32 *)(x + i + LANES) & INT32_MAX);
    }
    sums[0] += sums[1];
    return lanes_sum(sums);
}

/* Sizes of floats are ordered as the integers of the same bits. */
KERNEL_TARGET static float kernel_largest_size(const float *x, size_t n)
{
    lanes_i32 largest = {0};
    for (size_t i = 0; i < n; i += LANES) {
        lanes_i32 size = *(const lanes_i32 *)(x + i) & INT32_MAX;
        lanes_i32 more = size > largest;
        largest = (size & more) | (largest & ~more);
    }
    int32_t most = 0;
    for (size_t i = 0; i < LANES; i++)
        most = MAX(most, largest[i]);
    float out;
    memcpy(&out, &most, sizeof(out));
    return out;
}

/* Σ xᵢyᵢ where y are small integers. */
KERNEL_TARGET static float kernel_dot_mixed(const float *x, const int8_t *y, size_t n)
{
    lanes sums[2] = {{0}};
    for (size_t i = 0; i < n; i += 2 * LANES) {
        sums[0] += LANES_AT(x + i) * __builtin_convertvector(*(const lanes_i8 *)(y + i), lanes);
        sums[1] += LANES_AT(x + i + LANES) *
                   __builtin_convertvector(*(const lanes_i8 *)(y + i + LANES), lanes);
    }
    sums[0] += sums[1];
    return lanes_sum(sums);
}

/* Rounds half away from zero. */
KERNEL_TARGET static void kernel_quantize(const float *x, size_t n, float scale, float offset,
                                          int8_t *out)
{
    const lanes half = (lanes){0} + 0.5F;
    for (size_t i = 0; i < n; i += LANES) {
        lanes v = LANES_AT(x + i) * scale + offset;
        v += (lanes)((lanes_i32)half | ((lanes_i32)v & SIGN));
        *(lanes_i8 *)(out + i) =
            __builtin_convertvector(__builtin_convertvector(v, lanes_i32), lanes_i8);
    }
}

/* ---- blocks ---- */

typedef uint16_t lanes_u16 __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint64_t lanes_u64 __attribute__((vector_size(32), aligned(4), may_alias));

KERNEL_TARGET static bool kernel_block_distances(const float *factors, const uint16_t *sums,
                                                 float scale, float offset, float norm2,
                                                 float worst, float *out)
{
    lanes_i32 below = {0};
    for (size_t i = 0; i < KERNEL_BLOCK_VECTORS; i += LANES) {
        lanes sum = __builtin_convertvector(*(const lanes_u16 *)(sums + i), lanes);
        lanes distance = LANES_AT(factors + KERNEL_BLOCK_VECTORS + i) * (sum * scale + offset) +
                         (LANES_AT(factors + i) + norm2);
        *(lanes *)(out + i) = distance;
        below |= (lanes_i32)(distance < worst);
    }
    lanes_u64 any = (lanes_u64)below;
    return (any[0] | any[1] | any[2] | any[3]) != 0;
}

/* For each group of four coordinates the 16 sums of them with signs, shifted to be positive, scaled
 * and rounded. */
KERNEL_TARGET static void kernel_tables(const float *x, size_t groups, float scale, uint8_t *out)
{
    const lanes s0 = {-1, 1, -1, 1, -1, 1, -1, 1}, s1 = {-1, -1, 1, 1, -1, -1, 1, 1};
    const lanes s2 = {-1, -1, -1, -1, 1, 1, 1, 1};
    for (size_t g = 0; g < groups; g++, x += 4, out += 16) {
        float reach = (fabsf(x[0]) + fabsf(x[1])) + (fabsf(x[2]) + fabsf(x[3]));
        lanes sum = (s0 * x[0] + s1 * x[1]) + (s2 * x[2] + reach);
        lanes low = (sum - x[3]) * scale + 0.5F, high = (sum + x[3]) * scale + 0.5F;
        *(lanes_i8 *)out =
            __builtin_convertvector(__builtin_convertvector(low, lanes_i32), lanes_i8);
        *(lanes_i8 *)(out + 8) =
            __builtin_convertvector(__builtin_convertvector(high, lanes_i32), lanes_i8);
    }
}
