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

KERNEL static inline __attribute__((always_inline)) __m256i add_products(__m256i sum, __m256i x,
                                                                         __m256i b)
{
    __m256i pairs = _mm256_maddubs_epi16(x, b);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE void store_int8(__m256i sums, const struct quantized_row *row, const struct tile_to *to,
                       size_t at, float *c)
{
    vector sum = (vector)_mm256_cvtepi32_ps(sums) * load(to->scales + at) -
                 splat(row->zero) * load(to->sums + at);
    store(c + at, splat(row->scale) * sum + load(to->bias + at));
}

#define TILE(n)            tile_int8_##n
#define TILE_TARGET        KERNEL
#define TILE_WORD          int32_t
#define TILE_VECTOR        __m256i
#define TILE_SPLAT(w)      _mm256_set1_epi32(w)
#define TILE_STEP(s, x, b) s = add_products(s, x, b)
#define TILE_END(r, low, high)                                                                     \
    store_int8(low, to->quantized + r, to, 0, to->c + r * to->ldc);                                \
    store_int8(high, to->quantized + r, to, LANES, to->c + r * to->ldc);
#include "encoder/kernels_tile.h"
#define TILE(n)     tile_int8_##n
#define INT8_TARGET KERNEL
#include "encoder/kernels_int8.h"

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
