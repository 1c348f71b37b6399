/* The kernels in plain C, which the others are tested against, and the choice among them. */
#include "vector/dense_kernel.h"
#include <stdlib.h>

#define KERNEL_TARGET
#include "vector/dense_kernel_float.h"

static int32_t scalar_dot_i8(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void scalar_dot_i8_rows(const int8_t *a, const uint8_t *base, size_t stride,
                               const uint32_t *rows, size_t count, size_t n, int32_t *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = scalar_dot_i8(a, (const int8_t *)(base + rows[i] * stride), n);
}

static void scalar_dot_1bit_rows(const uint64_t *planes, const uint8_t *base, size_t stride,
                                 const uint32_t *rows, size_t count, size_t n, int32_t *out)
{
    size_t words = n / 64;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *code = base + rows[i] * stride;
        int32_t sum = 0;
        for (size_t w = 0; w < words; w++) {
            uint64_t bits;
            memcpy(&bits, code + w * 8, 8);
            for (size_t plane = 0; plane < KERNEL_QUERY_PLANES; plane++)
                sum += __builtin_popcountll(bits & planes[plane * words + w]) << plane;
        }
        out[i] = sum;
    }
}

static void scalar_dot_4bit_rows(const int8_t *query, const uint8_t *base, size_t stride,
                                 const uint32_t *rows, size_t count, size_t n, int32_t *out)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *code = base + rows[i] * stride;
        int32_t sum = 0;
        for (size_t j = 0; j < n / 2; j++)
            sum += (code[j] & 15) * query[j] + (code[j] >> 4) * query[j + n / 2];
        out[i] = sum;
    }
}

static void scalar_scan_block(const uint8_t *tables, const uint8_t *block, size_t groups,
                              uint16_t out[KERNEL_BLOCK_VECTORS])
{
    memset(out, 0, KERNEL_BLOCK_VECTORS * sizeof(out[0]));
    for (size_t g = 0; g < groups; g++, tables += 16, block += 16)
        for (size_t v = 0; v < 16; v++) {
            out[v] = (uint16_t)(out[v] + tables[block[v] & 15]);
            out[v + 16] = (uint16_t)(out[v + 16] + tables[block[v] >> 4]);
        }
}

static const struct kernels scalar = {
    .name = "scalar",
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
    .dot_i8 = scalar_dot_i8,
    .dot_i8_rows = scalar_dot_i8_rows,
    .dot_1bit_rows = scalar_dot_1bit_rows,
    .dot_4bit_rows = scalar_dot_4bit_rows,
    .scan_block = scalar_scan_block,
};

const struct kernels *kernels_of(enum kernel_tier tier)
{
#if defined(__x86_64__)
    if (tier == KERNEL_AVX2)
        return kernels_avx2();
    if (tier == KERNEL_AVX512)
        return kernels_avx512();
#endif
    return tier == KERNEL_SCALAR ? &scalar : NULL;
}

const struct kernels *kernels_best(void)
{
    const char *wanted = getenv("CAPSTAN_KERNELS");
    for (int tier = KERNEL_TIER_COUNT - 1; tier > KERNEL_SCALAR; tier--) {
        const struct kernels *kernels = kernels_of((enum kernel_tier)tier);
        if (kernels && (!wanted || strcmp(wanted, kernels->name) == 0))
            return kernels;
    }
    return &scalar;
}
