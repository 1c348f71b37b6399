/* From vectors to codes and back to estimates: the mean is subtracted, the rest is rotated so that
 * no coordinate matters more than others, and each coordinate kept in 1, 4 or 8 bits. What makes so
 * short a code useful is RaBitQ's correction: for a code y of the vector o, <q, o> is estimated as
 * |o|² <q, y> / <o, y>, which is unbiased over rotations. */
#include "vector/dense_private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TINY 1e-30F /* nothing is divided by less */

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

void codec_init(struct codec *codec, const struct dense_meta_disk *meta, const float *mean)
{
    *codec = (struct codec){
        .dimension = meta->dimension,
        .inner = dense_inner(meta->dimension, meta->lifted != 0),
        .padded = meta->padded,
        .metric = (enum vector_metric)meta->metric,
        .lifted = meta->lifted != 0,
        .length2_max = meta->length2_max,
        .guide_bits = meta->guide_bits,
        .mean = mean,
        .kernels = kernels_best(),
    };
    size_t count = (size_t)codec->padded * KERNEL_ROTATE_ROUNDS;
    codec->signs = xmalloc(count * sizeof(codec->signs[0]));
    for (size_t i = 0; i < count; i++)
        codec->signs[i] = (uint32_t)(mix(meta->seed + i / 64) >> (i % 64) & 1) << 31;
}

void codec_fini(struct codec *codec) { free(codec->signs); }

void codec_rotate(const struct codec *codec, const float *vector, bool stored, float *out)
{
    float scale = 1;
    if (codec->metric == METRIC_DOT && !stored) {
        /* A query's length changes no order: it gets that of the vectors, so that what is near here
         * does not depend on it. */
        float length2 = codec->kernels->dot(vector, vector, codec->dimension);
        scale = length2 > TINY ? sqrtf(codec->length2_max / length2) : 1;
    }
    for (size_t i = 0; i < codec->dimension; i++)
        out[i] = vector[i] * scale - codec->mean[i];
    memset(out + codec->dimension, 0, (codec->padded - codec->dimension) * sizeof(float));
    if (codec->lifted) {
        float lift = 0;
        if (stored) {
            float length2 = codec->kernels->dot(vector, vector, codec->dimension);
            lift = sqrtf(MAX(codec->length2_max - length2, 0));
        }
        out[codec->dimension] = lift - codec->mean[codec->dimension];
    }
    codec->kernels->rotate(out, codec->padded, codec->signs);
}

/* -2 |o|² / <o, y>: what turns <q, y> into the distance's term. */
static float factor_of(float norm2, float product)
{
    return product > 0 ? -2 * norm2 / product : 0;
}

static uint16_t encode_1bit(const float *x, size_t n, uint8_t *code)
{
    unsigned set = 0;
    for (size_t i = 0; i < n; i += 8) {
        unsigned bits = 0;
        for (size_t j = 0; j < 8; j++)
            bits |= (unsigned)(x[i + j] > 0) << j;
        code[i / 8] = (uint8_t)bits;
        set += (unsigned)__builtin_popcount(bits);
    }
    return (uint16_t)set;
}

#define SPREADS_4BIT 12

/* Values 2u - 15; the spread is the one of a dozen whose code points most nearly where the vector
 * does. Returns <x, y>. */
static float encode_4bit(const struct codec *codec, const float *x, float largest, uint8_t *code)
{
    size_t n = codec->padded;
    int8_t u[DENSE_PADDED_MAX], best_u[DENSE_PADDED_MAX];
    float best = -1, best_product = 0;
    memset(best_u, 0, n);
    for (int spread = 0; spread < SPREADS_4BIT; spread++) {
        float scale = 8 / (largest * (1 - 0.06F * (float)spread));
        float product = 0, length2 = 0;
        for (size_t i = 0; i < n; i++) {
            float v = floorf(x[i] * scale) + 8;
            u[i] = (int8_t)MIN(MAX(v, 0), 15);
            float y = (float)(2 * u[i] - 15);
            product += x[i] * y;
            length2 += y * y;
        }
        float closeness = product / sqrtf(length2);
        if (closeness > best) {
            best = closeness;
            best_product = product;
            memcpy(best_u, u, n);
        }
    }
    for (size_t i = 0; i < n / 2; i++)
        code[i] = (uint8_t)(best_u[i] | best_u[i + n / 2] << 4);
    return best_product;
}

void codec_encode(const struct codec *codec, const float *rotated, struct record *record,
                  uint8_t *guide, int8_t *fine)
{
    const struct kernels *kernels = codec->kernels;
    size_t n = codec->padded;
    float largest = kernels->largest_size(rotated, n);
    *record = (struct record){.norm2 = kernels->dot(rotated, rotated, n)};
    memset(guide, 0, guide_bytes(codec->padded, MAX(codec->guide_bits, 1)));
    memset(fine, 0, n);
    if (!(largest > TINY)) /* the mean itself: every product with it is zero */
        return;
    kernels->quantize(rotated, n, 127 / largest, 0, fine);
    record->fine = factor_of(record->norm2, kernels->dot_mixed(rotated, fine, n));
    if (codec->guide_bits == 4) {
        record->factor = factor_of(record->norm2, encode_4bit(codec, rotated, largest, guide));
    } else {
        record->bits_set = encode_1bit(rotated, n, guide);
        record->factor = factor_of(record->norm2, kernels->sum_sizes(rotated, n));
    }
}

/* ---- queries ---- */

size_t query_codes_bytes(unsigned padded)
{
    return padded * (sizeof(float) + KERNEL_QUERY_PLANES / 8.0 + 2 + (16.0 / KERNEL_GROUP_BITS)) +
           CACHE_LINE_BYTES;
}

void query_codes_place(struct query_codes *query, unsigned padded, void *memory)
{
    *query = (struct query_codes){.rotated = memory};
    query->tables = (uint8_t *)(query->rotated + padded);
    query->planes = (uint64_t *)(query->tables + padded / KERNEL_GROUP_BITS * 16);
    query->bytes = (int8_t *)(query->planes + padded / 64 * KERNEL_QUERY_PLANES);
    query->low = query->bytes + padded;
}

/* Bit `plane` of eight bytes, gathered into one. */
static uint64_t gather_bits(uint64_t bytes, unsigned plane)
{
    return ((bytes >> plane & 0x0101010101010101) * 0x0102040810204080) >> 56;
}

static void prepare_planes(struct query_codes *query, const struct codec *codec)
{
    size_t n = codec->padded, words = n / 64;
    float largest = codec->kernels->largest_size(query->rotated, n);
    float step = largest > TINY ? 2 * largest / 15 : 1;
    codec->kernels->quantize(query->rotated, n, 1 / step, largest / step, query->low);
    memset(query->planes, 0, words * KERNEL_QUERY_PLANES * 8);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, query->low + i, 8);
        for (unsigned plane = 0; plane < KERNEL_QUERY_PLANES; plane++)
            query->planes[plane * words + i / 64] |= gather_bits(bytes, plane) << (i % 64);
    }
    query->guide_scale = 2 * step;
    query->guide_set_scale = -2 * largest;
    query->guide_offset = -codec->kernels->sum(query->rotated, n);
}

static void prepare_tables(struct query_codes *query, const struct kernels *kernels, size_t n)
{
    size_t groups = n / KERNEL_GROUP_BITS;
    float span = 0, offset = 0;
    for (size_t g = 0; g < groups; g++) {
        const float *x = query->rotated + g * KERNEL_GROUP_BITS;
        float reach = (fabsf(x[0]) + fabsf(x[1])) + (fabsf(x[2]) + fabsf(x[3]));
        span = MAX(span, 2 * reach);
        offset -= reach;
    }
    size_t entry_max = MIN(127, 65535 / groups);
    float scale = span > TINY ? ((float)entry_max - 0.5F) / span : 1;
    kernels->tables(query->rotated, groups, scale, query->tables);
    query->table_scale = 1 / scale;
    query->table_offset = offset;
}

void query_codes_prepare(struct query_codes *query, const struct codec *codec)
{
    const struct kernels *kernels = codec->kernels;
    size_t n = codec->padded;
    float largest = kernels->largest_size(query->rotated, n);
    float step = largest > TINY ? largest / 127 : 1;
    kernels->quantize(query->rotated, n, 1 / step, 0, query->bytes);
    query->norm2 = kernels->dot(query->rotated, query->rotated, n);
    query->fine_scale = step;
    if (codec->guide_bits == 0) {
        prepare_tables(query, kernels, n);
    } else if (codec->guide_bits == 1) {
        prepare_planes(query, codec);
    } else {
        int32_t sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += query->bytes[i];
        query->guide_scale = 2 * step;
        query->guide_set_scale = 0;
        query->guide_offset = -15 * step * (float)sum;
    }
}

/* ---- blocks ---- */

void block_put(uint8_t *block, size_t at, const struct record *record, const uint8_t *code,
               unsigned padded)
{
    float *factors = (float *)block;
    factors[at] = record->norm2;
    factors[KERNEL_BLOCK_VECTORS + at] = record->factor;
    factors[2 * KERNEL_BLOCK_VECTORS + at] = record->fine;
    uint8_t *groups = block + KERNEL_BLOCK_VECTORS * BLOCK_FACTORS * sizeof(float);
    for (size_t g = 0; g < padded / KERNEL_GROUP_BITS; g++) {
        unsigned bits = code[g / 2] >> (g % 2 * 4) & 15;
        groups[g * 16 + at % 16] |= (uint8_t)(bits << (at / 16 * 4));
    }
}
