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

/* The instructions that add to a sum are written as such: from their intrinsics the compiler copies
 * every sum before each use. */

/* ---- int8 ---- */

WITH_VNNI static inline __attribute__((always_inline)) void
store_int8(__m512i sums, const struct quantized_row *row, const struct tile_to *to, size_t at,
           float *c)
{
    __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(to->scales + at));
    sum = _mm512_fnmadd_ps(_mm512_set1_ps(row->zero), _mm512_loadu_ps(to->sums + at), sum);
    sum = _mm512_fmadd_ps(_mm512_set1_ps(row->scale), sum, _mm512_loadu_ps(to->bias + at));
    _mm512_storeu_ps(c + at, sum);
}

#define TILE(n)            tile_int8_##n
#define TILE_TARGET        WITH_VNNI
#define TILE_WORD          int32_t
#define TILE_VECTOR        __m512i
#define TILE_SPLAT(w)      _mm512_set1_epi32(w)
#define TILE_STEP(s, x, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(x), "v"(b))
#define TILE_END(r, low, high)                                                                     \
    store_int8(low, to->quantized + r, to, 0, to->c + r * to->ldc);                                \
    store_int8(high, to->quantized + r, to, LANES, to->c + r * to->ldc);
#include "encoder/kernels_tile.h"
#define TILE(n)     tile_int8_##n
#define INT8_TARGET WITH_VNNI
#include "encoder/kernels_int8.h"

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

#define TILE(n)            tile_bf16_##n
#define TILE_TARGET        WITH_BF16
#define TILE_WORD          int32_t
#define TILE_VECTOR        vector
#define TILE_SPLAT(w)      (vector) _mm512_set1_epi32(w)
#define TILE_STEP(s, x, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(s) : "v"(x), "v"(b))
#define TILE_END(r, low, high)                                                                     \
    store(to->c + r * to->ldc, low + load(to->bias));                                              \
    store(to->c + r * to->ldc + LANES, high + load(to->bias + LANES));
#include "encoder/kernels_tile.h"
#define TILE(n) tile_bf16_##n
static void (*const TILES_BF16[])(const int32_t *, size_t, const uint8_t *, size_t,
                                  const struct tile_to *) = TILE_LIST(TILE);
#undef TILE

WITH_BF16 static void multiply_bf16(const uint16_t *a, size_t lda, size_t rows,
                                    const struct packed *w, float *c, size_t ldc)
{
    const int32_t *words = (const int32_t *)(const void *)a; /* rows are aligned to words */
    const uint8_t *b = w->panels;
    for (size_t column = 0; column < w->panel_count * PANEL_COLUMNS; column += PANEL_COLUMNS) {
        for (size_t r = 0; r < rows; r += TILE_ROWS)
            TILES_BF16[MIN(TILE_ROWS, rows - r) - 1](
                words + r * lda / 2, lda / 2, b, w->in / 2,
                &(struct tile_to){.c = c + r * ldc + column, .ldc = ldc, .bias = w->bias + column});
        b += w->in / 2 * 2 * VECTOR_BYTES;
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
