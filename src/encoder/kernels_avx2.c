/* The kernels for AVX2 with FMA. */
#ifdef __x86_64__
#include <immintrin.h>
#define VECTOR_BYTES     32
#define TILE_ROWS        6
#define KERNEL           __attribute__((target("avx2,fma")))
#define VECTOR_MAX(a, b) _mm256_max_ps((__m256)(a), (__m256)(b))
#include "encoder/kernels_body.h"

/* ---- int8: inputs of 7 bits ----
 * maddubs adds two products of a byte without and a byte with sign into 16 bits: 2 · 127 · 127
 * fits, with inputs of 8 bits it would saturate. */

#define INT8_ROWS 4

INLINE void tile_rows_int8(const size_t rows, const uint8_t *a, size_t lda,
                           const struct quantized_row *quantized, const int8_t *b,
                           const struct packed *w, size_t column, float *c, size_t ldc)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[INT8_ROWS][2];
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    for (size_t i = 0; i < w->in; i += 4, b += 4 * PANEL_COLUMNS) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)b);
        __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(b + 32));
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, a + r * lda + i, 4);
            __m256i x = _mm256_set1_epi32(four);
            sums[r][0] =
                _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(x, low), ones));
            sums[r][1] = _mm256_add_epi32(sums[r][1],
                                          _mm256_madd_epi16(_mm256_maddubs_epi16(x, high), ones));
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
        for (size_t half = 0; half < 2; half++) {
            size_t at = column + half * LANES;
            vector sum = (vector)_mm256_cvtepi32_ps(sums[r][half]);
            store(c + r * ldc + at,
                  splat(quantized[r].scale) * (sum * load(w->scales + at) -
                                               splat(quantized[r].zero) * load(w->sums + at)) +
                      load(w->bias + at));
        }
}

KERNEL static void multiply_int8(const uint8_t *a, size_t lda,
                                 const struct quantized_row *quantized, size_t rows,
                                 const struct packed *w, float *c, size_t ldc)
{
    for (size_t panel = 0; panel < w->panel_count; panel++) {
        const int8_t *b = (const int8_t *)w->panels + panel * w->in * PANEL_COLUMNS;
        size_t column = panel * PANEL_COLUMNS, r = 0;
        for (; r + INT8_ROWS <= rows; r += INT8_ROWS)
            tile_rows_int8(INT8_ROWS, a + r * lda, lda, quantized + r, b, w, column, c + r * ldc,
                           ldc);
        for (; r < rows; r++)
            tile_rows_int8(1, a + r * lda, lda, quantized + r, b, w, column, c + r * ldc, ldc);
    }
}

/* The row's range, zero included, over the levels 0 to `levels`. */
KERNEL static void quantize(const float *x, size_t n, unsigned levels, uint8_t *out,
                            struct quantized_row *row)
{
    vector low = splat(0), high = splat(0);
    for (size_t i = 0; i < n; i += LANES) {
        low = less(low, load(x + i));
        high = greater(high, load(x + i));
    }
    float least = -max_of(-low), greatest = max_of(high);
    float step = fmaxf((greatest - least) / (float)levels, 1e-30f);
    float zero = rintf(-least / step);
    *row = (struct quantized_row){.scale = step, .zero = zero};
    for (size_t i = 0; i < n; i += LANES) {
        __m256i q = _mm256_cvtps_epi32((__m256)(load(x + i) * splat(1 / step) + splat(zero)));
        q = _mm256_min_epi32(_mm256_max_epi32(q, _mm256_setzero_si256()),
                             _mm256_set1_epi32((int)levels));
        __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64((__m128i *)(void *)(out + i), _mm_packus_epi16(words, words));
    }
}

const struct kernels KERNELS_AVX2 = {.name = "avx2",
                                     KERNELS_F32,
                                     .levels = 127,
                                     .multiply_int8 = multiply_int8,
                                     .quantize = quantize};
#endif
