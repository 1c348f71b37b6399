/* The scoring kernel. Vectors are GCC's generic ones: eight lanes, which AVX2 has whole and SSE2
 * and NEON do in halves; the AVX2 variant is picked at run time. No fused multiply-add anywhere: it
 * would round differently. */
#include "vector/words_score.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma GCC optimize("fp-contract=off")

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));

#define LANES 8
#define PIECE 32 /* rows whose lengths are fetched at a time */

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
    int32_t own[PIECE];
    for (; i + PIECE <= n; i += PIECE) {
        for (size_t j = 0; j < PIECE; j++)
            own[j] = lengths[rows[i + j]];
        for (size_t j = 0; j < PIECE; j += LANES) {
            ints l, f;
            memcpy(&l, own + j, sizeof(l));
            memcpy(&f, frequencies + i + j, sizeof(f));
            floats ff = __builtin_convertvector(f, floats);
            floats norm = slope * __builtin_convertvector(l, floats);
            norm = norm + base;
            ints s = 1 + __builtin_convertvector(weight * ff / (ff + norm), ints);
            memcpy(out + i + j, &s, sizeof(s));
        }
    }
    for (; i < n; i++)
        out[i] = words_score_one(scale, frequencies[i], lengths[rows[i]]);
}

static size_t gather_plain(const int32_t *sums, int32_t least, uint16_t first, uint16_t *out)
{
    size_t found = 0;
    for (size_t j = 0; j < WORDS_GROUP; j++) {
        out[found] = (uint16_t)(first + j);
        found += sums[j] > least;
    }
    return found;
}

#if defined(__x86_64__)
__attribute__((target("avx2,bmi"))) static size_t gather_avx2(const int32_t *sums, int32_t least,
                                                              uint16_t first, uint16_t *out)
{
    __m256i bound = _mm256_set1_epi32(least);
    size_t found = 0;
    uint64_t above = 0;
    for (unsigned j = 0; j < WORDS_GROUP; j += LANES) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(sums + j));
        __m256 greater = _mm256_castsi256_ps(_mm256_cmpgt_epi32(v, bound));
        above |= (uint64_t)(uint32_t)_mm256_movemask_ps(greater) << j;
    }
    for (; above; above &= above - 1)
        out[found++] = (uint16_t)(first + __builtin_ctzll(above));
    return found;
}

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

size_t words_gather(const int32_t *sums, int32_t least, uint16_t first, uint16_t *out)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return gather_avx2(sums, least, first, out);
#endif
    return gather_plain(sums, least, first, out);
}
