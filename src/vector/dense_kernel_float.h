/* Float kernels in terms of vectors of sixteen floats, which the compiler turns into one, two or
 * four registers: included by each tier's file, which sets KERNEL_TARGET. The operations and their
 * order are the same in all of them. */
#include "vector/dense_kernel.h"
#include <math.h>
#include <string.h>

typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t lanes_i32 __attribute__((vector_size(64), aligned(4), may_alias));

#define LANES 16

#define LANES_AT(p) (*(const lanes *)(p))

/* Fewer than sixteen at the end of a vector: the others are zero. */
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

KERNEL_TARGET static float kernel_dot(const float *a, const float *b, size_t n)
{
    lanes even = {0}, odd = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even += LANES_AT(a + i) * LANES_AT(b + i);
        odd += LANES_AT(a + i + LANES) * LANES_AT(b + i + LANES);
    }
    for (; i < n; i += LANES) {
        lanes x, y;
        LANES_LOAD_PART(x, a + i, MIN(n - i, LANES));
        LANES_LOAD_PART(y, b + i, MIN(n - i, LANES));
        even += x * y;
    }
    even += odd;
    return lanes_sum(&even);
}

KERNEL_TARGET static float kernel_distance(const float *a, const float *b, size_t n)
{
    lanes even = {0}, odd = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        lanes x = LANES_AT(a + i) - LANES_AT(b + i);
        lanes y = LANES_AT(a + i + LANES) - LANES_AT(b + i + LANES);
        even += x * x;
        odd += y * y;
    }
    for (; i < n; i += LANES) {
        lanes x, y;
        LANES_LOAD_PART(x, a + i, MIN(n - i, LANES));
        LANES_LOAD_PART(y, b + i, MIN(n - i, LANES));
        x -= y;
        even += x * x;
    }
    even += odd;
    return lanes_sum(&even);
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
    const lanes_i32 one = {0, SIGN, 0, SIGN, 0, SIGN, 0, SIGN, 0, SIGN, 0, SIGN, 0, SIGN, 0, SIGN};
    const lanes_i32 two = {0, 0, SIGN, SIGN, 0, 0, SIGN, SIGN, 0, 0, SIGN, SIGN, 0, 0, SIGN, SIGN};
    const lanes_i32 four = {0, 0, 0, 0, SIGN, SIGN, SIGN, SIGN, 0, 0, 0, 0, SIGN, SIGN, SIGN, SIGN};
    const lanes_i32 eight = {0,    0,    0,    0,    0,    0,    0,    0,
                             SIGN, SIGN, SIGN, SIGN, SIGN, SIGN, SIGN, SIGN};
    for (size_t i = 0; i < n; i += LANES) {
        lanes v = LANES_AT(x + i);
        INSIDE(v, one, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
        INSIDE(v, two, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
        INSIDE(v, four, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
        INSIDE(v, eight, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
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

typedef int8_t lanes_i8 __attribute__((vector_size(16), aligned(1), may_alias));

KERNEL_TARGET static float kernel_sum_sizes(const float *x, size_t n)
{
    lanes sum = {0};
    for (size_t i = 0; i < n; i += LANES)
        sum += (lanes)(*(const lanes_i32 *)(x + i) & INT32_MAX);
    return lanes_sum(&sum);
}

KERNEL_TARGET static float kernel_largest_size(const float *x, size_t n)
{
    lanes largest = {0};
    for (size_t i = 0; i < n; i += LANES) {
        lanes size = (lanes)(*(const lanes_i32 *)(x + i) & INT32_MAX);
        largest = (lanes)((lanes_i32)largest & (lanes_i32)(largest >= size)) +
                  (lanes)((lanes_i32)size & (lanes_i32)(size > largest));
    }
    float s[LANES], most = 0;
    memcpy(s, &largest, sizeof(s));
    for (size_t i = 0; i < LANES; i++)
        most = MAX(most, s[i]);
    return most;
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
