/* The inner loops of vector search, one table of them for each kind of processor.
 *
 * All tables give the same results, bit for bit: integer sums are exact, float sums have one fixed
 * order of addition, and the compiler has no instruction to fuse a multiply with an add. So an
 * index built on one machine is the same file as on another, and a search answers the same. */
#pragma once
#include "base/base.h"

enum kernel_tier { KERNEL_SCALAR, KERNEL_AVX2, KERNEL_AVX512, KERNEL_TIER_COUNT };

/* Codes and rotated vectors have a dimension that is a multiple of this. */
#define KERNEL_DIMENSION_STEP 64
/* Vectors whose 1-bit codes lie together in a block, and the dimensions one table look-up covers.
 */
#define KERNEL_BLOCK_VECTORS 32
#define KERNEL_GROUP_BITS    4
#define KERNEL_QUERY_PLANES  4 /* bits of a query's coordinate beside 1-bit codes */
#define KERNEL_ROTATE_ROUNDS 4

struct kernels {
    const char *name;
    float (*dot)(const float *a, const float *b, size_t n);
    float (*distance)(const float *a, const float *b, size_t n); /* squared */
    /* In place; n a multiple of 64. `signs`: 4 rounds × n of 0 or the sign bit. Keeps lengths. */
    void (*rotate)(float *x, size_t n, const uint32_t *signs);
    float (*sum)(const float *x, size_t n);       /* n a multiple of 16 here and below */
    float (*sum_sizes)(const float *x, size_t n); /* Σ |xᵢ| */
    float (*dot_mixed)(const float *x, const int8_t *y, size_t n);
    float (*largest_size)(const float *x, size_t n);
    /* xᵢ × scale + offset, rounded; must lie in -127 … 127. */
    void (*quantize)(const float *x, size_t n, float scale, float offset, int8_t *out);
    /* Σ aᵢbᵢ of values in -127 … 127. */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);
    /* The same of one vector with many: row i at base + rows[i] × stride. */
    void (*dot_i8_rows)(const int8_t *a, const uint8_t *base, size_t stride, const uint32_t *rows,
                        size_t count, size_t n, int32_t *out);
    /* Σ over set bits of a 4-bit number whose bit planes are `planes` (4 × n/64 words). */
    void (*dot_1bit_rows)(const uint64_t *planes, const uint8_t *base, size_t stride,
                          const uint32_t *rows, size_t count, size_t n, int32_t *out);
    /* Σ uᵢqᵢ, u 0 … 15: byte j of a code holds u of j (low nibble) and of j + n/2. */
    void (*dot_4bit_rows)(const int8_t *query, const uint8_t *base, size_t stride,
                          const uint32_t *rows, size_t count, size_t n, int32_t *out);
    /* For each of 32 vectors the sum of what its 4-bit groups select from tables of 16 entries
     * (groups × 16 bytes, entries ≤ 127, the sum below 65536). Byte v of a group (16 bytes) holds
     * the codes of vectors v (low) and v + 16 (high). `groups` is a multiple of 16. */
    void (*scan_block)(const uint8_t *tables, const uint8_t *block, size_t groups,
                       uint16_t out[KERNEL_BLOCK_VECTORS]);
    /* Fills its tables from 4 × groups coordinates: each entry is the sum with the signs of its
     * bits, plus the sizes' sum, times scale. */
    void (*tables)(const float *x, size_t groups, float scale, uint8_t *out);
    /* The distances that the sums mean: norm2 + norms2[v] + factors[v] × (scale × sum + offset);
     * `factors`: 32 norms, then 32 factors. False: none is below `worst`. */
    bool (*block_distances)(const float *factors, const uint16_t *sums, float scale, float offset,
                            float norm2, float worst, float *out);
};

/* The best of this machine; CAPSTAN_KERNELS=scalar|avx2|avx512 asks for a lesser one. */
const struct kernels *kernels_best(void);
/* NULL: this machine lacks it. */
const struct kernels *kernels_of(enum kernel_tier tier);
#if defined(__x86_64__)
const struct kernels *kernels_avx2(void);
const struct kernels *kernels_avx512(void);
#endif
