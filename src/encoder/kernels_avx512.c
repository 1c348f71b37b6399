/* The kernels for AVX-512, alone, with VNNI, and with VNNI and BF16. */
#ifdef __x86_64__
#include <immintrin.h>
#define VECTOR_BYTES     64
#define TILE_ROWS        12
#define KERNEL           __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define VECTOR_MAX(a, b) _mm512_max_ps((__m512)(a), (__m512)(b))
#include "encoder/kernels_body.h"

#define WITH_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")))
#define WITH_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")))

/* ---- int8 ---- */

WITH_VNNI static inline __attribute__((always_inline)) void
tile_rows_int8(const size_t rows, const uint8_t *a, size_t lda,
               const struct quantized_row *quantized, const int8_t *b, const struct packed *w,
               size_t column, float *c, size_t ldc)
{
    __m512i sums[TILE_ROWS][2];
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    for (size_t i = 0; i < w->in; i += 4, b += 4 * PANEL_COLUMNS) {
        __m512i low = _mm512_loadu_si512(b), high = _mm512_loadu_si512(b + 64);
#pragma GCC unroll 16
        for (size_t r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, a + r * lda + i, 4);
            __m512i x = _mm512_set1_epi32(four);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], x, low);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], x, high);
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++)
        for (size_t half = 0; half < 2; half++) {
            size_t at = column + half * LANES;
            __m512 sum =
                _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][half]), _mm512_loadu_ps(w->scales + at));
            sum = _mm512_fnmadd_ps(_mm512_set1_ps(quantized[r].zero), _mm512_loadu_ps(w->sums + at),
                                   sum);
            _mm512_storeu_ps(c + r * ldc + at, _mm512_fmadd_ps(_mm512_set1_ps(quantized[r].scale),
                                                               sum, _mm512_loadu_ps(w->bias + at)));
        }
}

WITH_VNNI static void multiply_int8(const uint8_t *a, size_t lda,
                                    const struct quantized_row *quantized, size_t rows,
                                    const struct packed *w, float *c, size_t ldc)
{
    for (size_t panel = 0; panel < w->panel_count; panel++) {
        const int8_t *b = (const int8_t *)w->panels + panel * w->in * PANEL_COLUMNS;
        for (size_t r = 0; r < rows; r += TILE_ROWS) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        tile_rows_int8(n, a + r * lda, lda, quantized + r, b, w, panel * PANEL_COLUMNS,            \
                       c + r * ldc, ldc);                                                          \
        break;
            switch (MIN(TILE_ROWS, rows - r)) {
                EACH_ROW_COUNT(CASE)
            }
#undef CASE
        }
    }
}

/* The row's range, zero included, over the levels 0 to `levels`. */
KERNEL static void quantize(const float *x, size_t n, unsigned levels, uint8_t *out,
                            struct quantized_row *row)
{
    __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += LANES) {
        __mmask16 some = n - i < LANES ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xFFFF;
        __m512 v = _mm512_maskz_loadu_ps(some, x + i);
        low = _mm512_min_ps(low, v);
        high = _mm512_max_ps(high, v);
    }
    float least = _mm512_reduce_min_ps(low), greatest = _mm512_reduce_max_ps(high);
    float step = fmaxf((greatest - least) / (float)levels, 1e-30f);
    float zero = rintf(-least / step);
    *row = (struct quantized_row){.scale = step, .zero = zero};
    for (size_t i = 0; i < n; i += LANES) {
        __mmask16 some = n - i < LANES ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xFFFF;
        __m512 v = _mm512_maskz_loadu_ps(some, x + i);
        __m512i q =
            _mm512_cvtps_epi32(_mm512_fmadd_ps(v, _mm512_set1_ps(1 / step), _mm512_set1_ps(zero)));
        q = _mm512_min_epi32(_mm512_max_epi32(q, _mm512_setzero_si512()),
                             _mm512_set1_epi32((int)levels));
        _mm512_mask_cvtepi32_storeu_epi8(out + i, some, q);
    }
}

/* ---- bf16 ---- */

WITH_BF16 static inline __attribute__((always_inline)) void
tile_rows_bf16(const size_t rows, const uint16_t *a, size_t lda, const uint16_t *b, size_t k,
               const float *bias, float *c, size_t ldc)
{
    __m512 sums[TILE_ROWS][2];
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++) {
        sums[r][0] = _mm512_loadu_ps(bias);
        sums[r][1] = _mm512_loadu_ps(bias + LANES);
    }
    for (size_t i = 0; i < k; i += 2, b += 2 * PANEL_COLUMNS) {
        __m512bh low = (__m512bh)_mm512_loadu_si512(b);
        __m512bh high = (__m512bh)_mm512_loadu_si512(b + 32);
#pragma GCC unroll 16
        for (size_t r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, a + r * lda + i, 4);
            __m512bh x = (__m512bh)_mm512_set1_epi32(two);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, low);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, high);
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++) {
        _mm512_storeu_ps(c + r * ldc, sums[r][0]);
        _mm512_storeu_ps(c + r * ldc + LANES, sums[r][1]);
    }
}

WITH_BF16 static void multiply_bf16(const uint16_t *a, size_t lda, size_t rows,
                                    const struct packed *w, float *c, size_t ldc)
{
    for (size_t panel = 0; panel < w->panel_count; panel++) {
        const uint16_t *b = (const uint16_t *)w->panels + panel * w->in * PANEL_COLUMNS;
        for (size_t r = 0; r < rows; r += TILE_ROWS) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        tile_rows_bf16(n, a + r * lda, lda, b, w->in, w->bias + panel * PANEL_COLUMNS,             \
                       c + r * ldc + panel * PANEL_COLUMNS, ldc);                                  \
        break;
            switch (MIN(TILE_ROWS, rows - r)) {
                EACH_ROW_COUNT(CASE)
            }
#undef CASE
        }
    }
}

WITH_BF16 static void to_bf16(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i += LANES) {
        __mmask16 some = n - i < LANES ? (__mmask16)((1u << (n - i)) - 1) : (__mmask16)0xFFFF;
        __m256bh v = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(some, x + i));
        _mm256_mask_storeu_epi16(out + i, some, (__m256i)v);
    }
}

const struct kernels KERNELS_AVX512 = {.name = "avx512", KERNELS_F32};
const struct kernels KERNELS_AVX512_VNNI = {.name = "avx512-vnni",
                                            KERNELS_F32,
                                            .levels = 255,
                                            .multiply_int8 = multiply_int8,
                                            .quantize = quantize};
const struct kernels KERNELS_AVX512_BF16 = {.name = "avx512-bf16",
                                            KERNELS_F32,
                                            .levels = 255,
                                            .multiply_int8 = multiply_int8,
                                            .quantize = quantize,
                                            .multiply_bf16 = multiply_bf16,
                                            .to_bf16 = to_bf16};
#endif
