/* The kernels for x86: AVX2, on every machine since about 2014, and AVX-512 with VNNI and
 * VPOPCNTDQ, which Ice Lake, Zen 4 and later have (older AVX-512 machines take AVX2). The float
 * kernels are AVX2 in both: with AVX-512 the compiler would be free to fuse multiply and add. */
#include "vector/dense_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define KERNEL_TARGET __attribute__((target("avx2,popcnt,bmi,bmi2"))) /* not fma */
#include "vector/dense_kernel_float.h"

#define LOAD_256(p) _mm256_loadu_si256((const __m256i *)(p))

KERNEL_TARGET static inline int32_t sum_i32(__m256i x)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* |a| × (b with a's sign): pairs stay below 2 × 127 × 127 < 2^15, so nothing saturates. */
KERNEL_TARGET static inline __m256i madd_i8(__m256i a, __m256i b)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(a, a), _mm256_sign_epi8(b, a));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

KERNEL_TARGET static int32_t avx2_dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    __m256i even = _mm256_setzero_si256(), odd = even;
    for (size_t i = 0; i < n; i += 64) {
        even = _mm256_add_epi32(even, madd_i8(LOAD_256(a + i), LOAD_256(b + i)));
        odd = _mm256_add_epi32(odd, madd_i8(LOAD_256(a + i + 32), LOAD_256(b + i + 32)));
    }
    return sum_i32(_mm256_add_epi32(even, odd));
}

KERNEL_TARGET static void avx2_dot_i8_rows(const int8_t *a, const uint8_t *base, size_t stride,
                                           const uint32_t *rows, size_t count, size_t n,
                                           int32_t *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = avx2_dot_i8(a, (const int8_t *)(base + rows[i] * stride), n);
}

KERNEL_TARGET static void avx2_dot_1bit_rows(const uint64_t *planes, const uint8_t *base,
                                             size_t stride, const uint32_t *rows, size_t count,
                                             size_t n, int32_t *out)
{
    size_t words = n / 64;
    const uint64_t *p0 = planes, *p1 = p0 + words, *p2 = p1 + words, *p3 = p2 + words;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *code = base + rows[i] * stride;
        int64_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
        for (size_t w = 0; w < words; w++) {
            uint64_t bits;
            memcpy(&bits, code + w * 8, 8);
            sum0 += __builtin_popcountll(bits & p0[w]);
            sum1 += __builtin_popcountll(bits & p1[w]);
            sum2 += __builtin_popcountll(bits & p2[w]);
            sum3 += __builtin_popcountll(bits & p3[w]);
        }
        out[i] = (int32_t)(sum0 + 2 * sum1 + 4 * sum2 + 8 * sum3);
    }
}

KERNEL_TARGET static void avx2_dot_4bit_rows(const int8_t *query, const uint8_t *base,
                                             size_t stride, const uint32_t *rows, size_t count,
                                             size_t n, int32_t *out)
{
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *code = base + rows[i] * stride;
        __m256i sum = _mm256_setzero_si256();
        for (size_t j = 0; j < n / 2; j += 32) {
            __m256i bytes = LOAD_256(code + j);
            __m256i first = _mm256_and_si256(bytes, low);
            __m256i second = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
            /* At most 4 × 15 × 127 < 2^15. */
            __m256i pairs =
                _mm256_add_epi16(_mm256_maddubs_epi16(first, LOAD_256(query + j)),
                                 _mm256_maddubs_epi16(second, LOAD_256(query + j + n / 2)));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
        out[i] = sum_i32(sum);
    }
}

/* Two groups at a time, one in each half. `bytes` adds whole 16-bit lanes, in which the odd bytes
 * are 256 times too large; `odd` adds the odd bytes alone, to subtract them at the end. */
KERNEL_TARGET static void avx2_scan_block(const uint8_t *tables, const uint8_t *block,
                                          size_t groups, uint16_t out[KERNEL_BLOCK_VECTORS])
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i bytes_a = _mm256_setzero_si256(), odd_a = bytes_a, bytes_b = bytes_a, odd_b = bytes_a;
    for (size_t g = 0; g < groups; g += 4, tables += 64, block += 64) {
        __m256i c = LOAD_256(block), d = LOAD_256(block + 32), t = LOAD_256(tables),
                u = LOAD_256(tables + 32);
        __m256i a = _mm256_add_epi8(_mm256_shuffle_epi8(t, _mm256_and_si256(c, low)),
                                    _mm256_shuffle_epi8(u, _mm256_and_si256(d, low)));
        c = _mm256_and_si256(_mm256_srli_epi16(c, 4), low);
        d = _mm256_and_si256(_mm256_srli_epi16(d, 4), low);
        __m256i b = _mm256_add_epi8(_mm256_shuffle_epi8(t, c), _mm256_shuffle_epi8(u, d));
        bytes_a = _mm256_add_epi16(bytes_a, a);
        odd_a = _mm256_add_epi16(odd_a, _mm256_srli_epi16(a, 8));
        bytes_b = _mm256_add_epi16(bytes_b, b);
        odd_b = _mm256_add_epi16(odd_b, _mm256_srli_epi16(b, 8));
    }
    bytes_a = _mm256_sub_epi16(bytes_a, _mm256_slli_epi16(odd_a, 8));
    bytes_b = _mm256_sub_epi16(bytes_b, _mm256_slli_epi16(odd_b, 8));
    __m256i parts[4] = {bytes_a, odd_a, bytes_b, odd_b};
    __m128i s[4];
    for (int i = 0; i < 4; i++)
        s[i] =
            _mm_add_epi16(_mm256_castsi256_si128(parts[i]), _mm256_extracti128_si256(parts[i], 1));
    _mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi16(s[0], s[1]));
    _mm_storeu_si128((__m128i *)(out + 8), _mm_unpackhi_epi16(s[0], s[1]));
    _mm_storeu_si128((__m128i *)(out + 16), _mm_unpacklo_epi16(s[2], s[3]));
    _mm_storeu_si128((__m128i *)(out + 24), _mm_unpackhi_epi16(s[2], s[3]));
}

static const struct kernels avx2 = {
    .name = "avx2",
    .dot = kernel_dot,
    .distance = kernel_distance,
    .rotate = kernel_rotate,
    .sum = kernel_sum,
    .sum_sizes = kernel_sum_sizes,
    .dot_mixed = kernel_dot_mixed,
    .tables = kernel_tables,
    .largest_size = kernel_largest_size,
    .quantize = kernel_quantize,
    .block_distances = kernel_block_distances,
    .dot_i8 = avx2_dot_i8,
    .dot_i8_rows = avx2_dot_i8_rows,
    .dot_1bit_rows = avx2_dot_1bit_rows,
    .dot_4bit_rows = avx2_dot_4bit_rows,
    .scan_block = avx2_scan_block,
};

const struct kernels *kernels_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
                   __builtin_cpu_supports("popcnt")
               ? &avx2
               : NULL;
}
/* ---- AVX-512 ---- */

#define TARGET_512                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq,avx2,"    \
                          "popcnt,bmi,bmi2")))
#define LOAD_512(p) _mm512_loadu_si512(p)
#define INLINE      TARGET_512 static inline __attribute__((always_inline))

/* VNNI multiplies unsigned by signed: a + 128 is the unsigned side, and 128 Σb is taken off again
 * (`b_sum`). */
INLINE __m512i unsigned_of(__m512i a) { return _mm512_xor_si512(a, _mm512_set1_epi8(-128)); }

TARGET_512 static int32_t avx512_dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    const __m512i offset = _mm512_set1_epi8(-128);
    __m512i sum = _mm512_setzero_si512(), b_sum = sum;
    for (size_t i = 0; i < n; i += 64) {
        __m512i y = LOAD_512(b + i);
        sum = _mm512_dpbusd_epi32(sum, unsigned_of(LOAD_512(a + i)), y);
        b_sum = _mm512_dpbusd_epi32(b_sum, offset, y);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, b_sum));
}

/* The one vector is made unsigned and its rows' 128 Σ avoided by making the rows the unsigned side:
 * Σ (row + 128) a − 128 Σa, and the last sum is the same for all rows. */
TARGET_512 static void avx512_dot_i8_rows(const int8_t *a, const uint8_t *base, size_t stride,
                                          const uint32_t *rows, size_t count, size_t n,
                                          int32_t *out)
{
    const __m512i offset = _mm512_set1_epi8(-128);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 64)
        sum = _mm512_dpbusd_epi32(sum, offset, LOAD_512(a + i));
    int32_t a_sum = _mm512_reduce_add_epi32(sum);
    for (size_t r = 0; r < count; r++) {
        const uint8_t *row = base + rows[r] * stride;
        __m512i even = _mm512_setzero_si512(), odd = even;
        size_t i = 0;
        for (; i + 128 <= n; i += 128) {
            even = _mm512_dpbusd_epi32(even, unsigned_of(LOAD_512(row + i)), LOAD_512(a + i));
            odd =
                _mm512_dpbusd_epi32(odd, unsigned_of(LOAD_512(row + i + 64)), LOAD_512(a + i + 64));
        }
        if (i < n)
            even = _mm512_dpbusd_epi32(even, unsigned_of(LOAD_512(row + i)), LOAD_512(a + i));
        out[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd)) - a_sum;
    }
}

/* `chunks` × 512 bits, the last under a mask; a constant where it is called, so that the planes
 * stay in registers. */
INLINE void popcount_rows(const uint64_t *planes, const uint8_t *base, size_t stride,
                          const uint32_t *rows, size_t count, size_t words, size_t chunks,
                          int32_t *out)
{
    __mmask8 last = (__mmask8)(0xff >> (chunks * 8 - words));
    for (size_t r = 0; r < count; r++) {
        const uint8_t *code = base + rows[r] * stride;
        __m512i sums[KERNEL_QUERY_PLANES] = {0};
        for (size_t c = 0; c < chunks; c++) {
            __mmask8 mask = c + 1 < chunks ? 0xff : last;
            __m512i bits = _mm512_maskz_loadu_epi64(mask, code + c * 64);
            for (size_t p = 0; p < KERNEL_QUERY_PLANES; p++) {
                __m512i plane = _mm512_maskz_loadu_epi64(mask, planes + p * words + c * 8);
                sums[p] =
                    _mm512_add_epi64(sums[p], _mm512_popcnt_epi64(_mm512_and_si512(bits, plane)));
            }
        }
        __m512i high = _mm512_add_epi64(sums[2], _mm512_slli_epi64(sums[3], 1));
        __m512i low = _mm512_add_epi64(sums[0], _mm512_slli_epi64(sums[1], 1));
        __m512i sum = _mm512_add_epi64(low, _mm512_slli_epi64(high, 2));
        out[r] = (int32_t)_mm512_reduce_add_epi64(sum);
    }
}

TARGET_512 static void avx512_dot_1bit_rows(const uint64_t *planes, const uint8_t *base,
                                            size_t stride, const uint32_t *rows, size_t count,
                                            size_t n, int32_t *out)
{
    size_t words = n / 64, chunks = (words + 7) / 8;
    if (chunks == 1)
        popcount_rows(planes, base, stride, rows, count, words, 1, out);
    else if (chunks == 2)
        popcount_rows(planes, base, stride, rows, count, words, 2, out);
    else
        popcount_rows(planes, base, stride, rows, count, words, chunks, out);
}

TARGET_512 static void avx512_dot_4bit_rows(const int8_t *query, const uint8_t *base, size_t stride,
                                            const uint32_t *rows, size_t count, size_t n,
                                            int32_t *out)
{
    const __m512i low = _mm512_set1_epi8(15);
    for (size_t r = 0; r < count; r++) {
        const uint8_t *code = base + rows[r] * stride;
        __m512i even = _mm512_setzero_si512(), odd = even;
        for (size_t j = 0; j < n / 2; j += 64) {
            __mmask16 mask = n / 2 - j >= 64 ? 0xffff : 0xff; /* n/2 is a multiple of 32 */
            __m512i bytes = _mm512_maskz_loadu_epi32(mask, code + j);
            __m512i first = _mm512_and_si512(bytes, low);
            __m512i second = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
            even = _mm512_dpbusd_epi32(even, first, _mm512_maskz_loadu_epi32(mask, query + j));
            odd =
                _mm512_dpbusd_epi32(odd, second, _mm512_maskz_loadu_epi32(mask, query + j + n / 2));
        }
        out[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
    }
}

/* As above, with four groups in a register. */
TARGET_512 static void avx512_scan_block(const uint8_t *tables, const uint8_t *block, size_t groups,
                                         uint16_t out[KERNEL_BLOCK_VECTORS])
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i bytes_a = _mm512_setzero_si512(), odd_a = bytes_a, bytes_b = bytes_a, odd_b = bytes_a;
    for (size_t g = 0; g < groups; g += 8, tables += 128, block += 128) {
        __m512i c = LOAD_512(block), d = LOAD_512(block + 64), t = LOAD_512(tables),
                u = LOAD_512(tables + 64);
        __m512i a = _mm512_add_epi8(_mm512_shuffle_epi8(t, _mm512_and_si512(c, low)),
                                    _mm512_shuffle_epi8(u, _mm512_and_si512(d, low)));
        c = _mm512_and_si512(_mm512_srli_epi16(c, 4), low);
        d = _mm512_and_si512(_mm512_srli_epi16(d, 4), low);
        __m512i b = _mm512_add_epi8(_mm512_shuffle_epi8(t, c), _mm512_shuffle_epi8(u, d));
        bytes_a = _mm512_add_epi16(bytes_a, a);
        odd_a = _mm512_add_epi16(odd_a, _mm512_srli_epi16(a, 8));
        bytes_b = _mm512_add_epi16(bytes_b, b);
        odd_b = _mm512_add_epi16(odd_b, _mm512_srli_epi16(b, 8));
    }
    bytes_a = _mm512_sub_epi16(bytes_a, _mm512_slli_epi16(odd_a, 8));
    bytes_b = _mm512_sub_epi16(bytes_b, _mm512_slli_epi16(odd_b, 8));
    __m512i parts[4] = {bytes_a, odd_a, bytes_b, odd_b};
    __m128i s[4];
    for (int i = 0; i < 4; i++) {
        __m256i half = _mm256_add_epi16(_mm512_castsi512_si256(parts[i]),
                                        _mm512_extracti64x4_epi64(parts[i], 1));
        s[i] = _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    }
    _mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi16(s[0], s[1]));
    _mm_storeu_si128((__m128i *)(out + 8), _mm_unpackhi_epi16(s[0], s[1]));
    _mm_storeu_si128((__m128i *)(out + 16), _mm_unpacklo_epi16(s[2], s[3]));
    _mm_storeu_si128((__m128i *)(out + 24), _mm_unpackhi_epi16(s[2], s[3]));
}

static const struct kernels avx512 = {
    .name = "avx512",
    .dot = kernel_dot,
    .distance = kernel_distance,
    .rotate = kernel_rotate,
    .sum = kernel_sum,
    .sum_sizes = kernel_sum_sizes,
    .dot_mixed = kernel_dot_mixed,
    .tables = kernel_tables,
    .largest_size = kernel_largest_size,
    .quantize = kernel_quantize,
    .block_distances = kernel_block_distances,
    .dot_i8 = avx512_dot_i8,
    .dot_i8_rows = avx512_dot_i8_rows,
    .dot_1bit_rows = avx512_dot_1bit_rows,
    .dot_4bit_rows = avx512_dot_4bit_rows,
    .scan_block = avx512_scan_block,
};

const struct kernels *kernels_avx512(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
                   __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("bmi2")
               ? &avx512
               : NULL;
}
#endif
