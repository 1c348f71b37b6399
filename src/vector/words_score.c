/* The scoring kernel. Vectors are GCC's generic ones: eight lanes, which AVX2 has whole and SSE2
 * and NEON do in halves; the AVX2 variant is picked at run time. No fused multiply-add anywhere: it
 * would round differently. */
#include "vector/words_score.h"
#include <string.h>

#pragma GCC optimize("fp-contract=off")

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));

#define LANES 8

int32_t words_score_one(const struct words_scale *scale, uint32_t frequency, uint32_t length)
{
    float f = (float)frequency;
    float norm = scale->slope * (float)length;
    norm = norm + scale->base;
    return 1 + (int32_t)(scale->weight * f / (f + norm));
}

static inline __attribute__((always_inline)) void score_body(const struct words_scale *scale,
                                                             const uint32_t *rows,
                                                             const uint32_t *frequencies, size_t n,
                                                             const uint16_t *lengths, int32_t *out)
{
    floats weight = scale->weight - (floats){0}, base = scale->base - (floats){0};
    floats slope = scale->slope - (floats){0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        ints l, f;
        for (int j = 0; j < LANES; j++)
            l[j] = lengths[rows[i + (size_t)j]];
        memcpy(&f, frequencies + i, sizeof(f));
        floats ff = __builtin_convertvector(f, floats);
        floats norm = slope * __builtin_convertvector(l, floats);
        norm = norm + base;
        ints s = 1 + __builtin_convertvector(weight * ff / (ff + norm), ints);
        memcpy(out + i, &s, sizeof(s));
    }
    for (; i < n; i++)
        out[i] = words_score_one(scale, frequencies[i], lengths[rows[i]]);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void score_avx2(const struct words_scale *scale,
                                                       const uint32_t *rows,
                                                       const uint32_t *frequencies, size_t n,
                                                       const uint16_t *lengths, int32_t *out)
{
    score_body(scale, rows, frequencies, n, lengths, out);
}
#endif

void words_score(const struct words_scale *scale, const uint32_t *rows, const uint32_t *frequencies,
                 size_t n, const uint16_t *lengths, int32_t *out)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        score_avx2(scale, rows, frequencies, n, lengths, out);
        return;
    }
#endif
    score_body(scale, rows, frequencies, n, lengths, out);
}
