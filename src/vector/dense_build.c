/* Building the sections of a segment: see dense.h for the contract. */
#include "vector/dense_private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CANCEL_EVERY 256 /* vectors between two questions */
/* Vectors whose lengths differ by less than this are equally long. */
#define LENGTH_TOLERANCE 1e-3F

struct build {
    struct segment_writer *segment;
    struct dense_meta_disk meta;
    struct codec codec;
    struct exact exact;
    float *mean;
    bool (*cancelled)(void *arg);
    void *arg;
    /* What was built, of which one is used. */
    struct graph_builder *graph;
    uint8_t *blocks;
    int8_t *fine;
    uint32_t *nodes;
    struct codes codes;
};

static const float *vector_at(const struct build *build, size_t slot)
{
    return build->exact.vectors + slot * build->exact.dimension;
}

/* The mean, and for dot products whether a coordinate must be added and how long vectors are. */
static enum rc look_through(struct build *build, struct err *err)
{
    unsigned n = build->exact.dimension;
    float shortest = INFINITY, longest = 0;
    double *sum = xcalloc(n + 1, sizeof(*sum));
    for (size_t slot = 0; slot < build->exact.count; slot++) {
        const float *vector = vector_at(build, slot);
        float length2 = build->exact.kernels->dot(vector, vector, n);
        if (!isfinite(length2)) {
            free(sum);
            return err_set(err, ERR_BAD_FIELD, "a vector's length is not a finite number");
        }
        shortest = MIN(shortest, length2);
        longest = MAX(longest, length2);
        for (size_t i = 0; i < n; i++)
            sum[i] += vector[i];
    }
    build->meta.lifted =
        build->meta.metric == METRIC_DOT && shortest < longest * (1 - LENGTH_TOLERANCE);
    build->meta.length2_max = longest;
    for (size_t slot = 0; build->meta.lifted && slot < build->exact.count; slot++) {
        const float *vector = vector_at(build, slot);
        sum[n] += sqrtf(MAX(longest - build->exact.kernels->dot(vector, vector, n), 0));
    }
    build->mean = xcalloc(n + 1, sizeof(build->mean[0]));
    for (size_t i = 0; i < n + 1 && build->exact.count > 0; i++)
        build->mean[i] = (float)(sum[i] / (double)build->exact.count);
    free(sum);
    return RC_OK;
}

/* Slots in a random order that the seed tells. */
static uint32_t *shuffled_slots(const struct build *build)
{
    uint32_t count = build->meta.count, *slots = xmalloc(count * sizeof(slots[0]));
    uint64_t state = build->meta.seed ^ 0x9e3779b97f4a7c15;
    for (uint32_t i = 0; i < count; i++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        uint32_t at = (uint32_t)((state >> 32) * (i + 1) >> 32);
        slots[i] = slots[at];
        slots[at] = i;
    }
    return slots;
}

static bool is_cancelled(const struct build *build, size_t done)
{
    return done % CANCEL_EVERY == 0 && build->cancelled && build->cancelled(build->arg);
}

static enum rc build_graph(struct build *build)
{
    uint32_t count = build->meta.count;
    uint32_t *slots = shuffled_slots(build);
    enum rc rc = RC_OK;
    build->graph = graph_builder_new(&build->codec, count);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++) {
        graph_builder_add(build->graph, vector_at(build, slots[i]), slots[i]);
        rc = is_cancelled(build, i) ? RC_CANCELLED : RC_OK;
    }
    free(slots);
    if (rc != RC_OK)
        return rc;
    build->codes = *graph_builder_finish(build->graph);
    build->nodes = xmalloc(count * sizeof(build->nodes[0]));
    for (uint32_t node = 0; node < count; node++)
        build->nodes[codes_record(&build->codes, node)->slot] = node;
    build->codes.nodes = build->nodes;
    build->meta.stride = (uint32_t)build->codes.stride;
    build->meta.degree_max = build->codes.degree_max;
    build->meta.entries = build->codes.entries;
    return RC_OK;
}

static size_t blocks_bytes(const struct dense_meta_disk *meta)
{
    size_t blocks = ((size_t)meta->count + KERNEL_BLOCK_VECTORS - 1) / KERNEL_BLOCK_VECTORS;
    return blocks * block_bytes(meta->padded);
}

static enum rc build_blocks(struct build *build)
{
    unsigned padded = build->meta.padded;
    float rotated[DENSE_PADDED_MAX];
    uint8_t code[DENSE_PADDED_MAX / 8];
    build->blocks = pages_new(blocks_bytes(&build->meta));
    build->fine = pages_new((size_t)build->meta.count * padded);
    for (uint32_t slot = 0; slot < build->meta.count; slot++) {
        struct record record;
        codec_rotate(&build->codec, vector_at(build, slot), true, rotated);
        codec_encode(&build->codec, rotated, &record, code, build->fine + (size_t)slot * padded);
        block_put(build->blocks + slot / KERNEL_BLOCK_VECTORS * block_bytes(padded),
                  slot % KERNEL_BLOCK_VECTORS, &record, code, padded);
        if (is_cancelled(build, slot))
            return RC_CANCELLED;
    }
    build->codes = (struct codes){.codec = &build->codec,
                                  .blocks = build->blocks,
                                  .fine = build->fine,
                                  .count = build->meta.count};
    return RC_OK;
}

static enum rc write_section(struct build *build, uint32_t tag, const void *p, size_t n)
{
    segment_begin(build->segment, tag, 0);
    return segment_write(build->segment, p, n);
}

static enum rc write_sections(struct build *build)
{
    const struct dense_meta_disk *meta = &build->meta;
    const struct codes *codes = &build->codes;
    size_t count = meta->count;
    enum rc rc = write_section(build, SECTION_DENSE_META, meta, sizeof(*meta));
    if (rc == RC_OK)
        rc = segment_write(build->segment, build->mean,
                           dense_inner(meta->dimension, meta->lifted) * sizeof(build->mean[0]));
    if (rc == RC_OK && codes->records)
        rc = write_section(build, SECTION_DENSE_RECORDS, codes->records, count * codes->stride);
    if (rc == RC_OK && codes->records)
        rc = write_section(build, SECTION_DENSE_NODES, codes->nodes, count * sizeof(uint32_t));
    if (rc == RC_OK && codes->blocks)
        rc = write_section(build, SECTION_DENSE_BLOCKS, codes->blocks, blocks_bytes(meta));
    if (rc == RC_OK)
        rc = write_section(build, SECTION_DENSE_FINE, codes->fine, count * meta->padded);
    if (rc == RC_OK)
        rc = write_section(build, SECTION_DENSE_VECTORS, build->exact.vectors,
                           count * meta->dimension * sizeof(float));
    return rc;
}

static void build_fini(struct build *build)
{
    graph_builder_free(build->graph);
    pages_free(build->blocks, blocks_bytes(&build->meta));
    pages_free(build->fine, (size_t)build->meta.count * build->meta.padded);
    free(build->nodes);
    free(build->mean);
    codec_fini(&build->codec);
}

enum rc dense_build(struct segment_writer *segment, const float *vectors, size_t count,
                    const struct dense_options *options, bool (*cancelled)(void *arg), void *arg,
                    struct err *err)
{
    ASSERT(options->dimension > 0 && options->dimension <= VECTOR_DIMENSION_MAX &&
           count <= DENSE_COUNT_MAX);
    struct build build = {
        .segment = segment,
        .cancelled = cancelled,
        .arg = arg,
        .meta = {.version = DENSE_VERSION,
                 .dimension = options->dimension,
                 .metric = options->metric,
                 .count = (uint32_t)count,
                 .seed = options->seed},
        .exact = {.vectors = vectors,
                  .count = count,
                  .dimension = options->dimension,
                  .metric = options->metric,
                  .kernels = kernels_best()},
    };
    enum rc rc = look_through(&build, err);
    if (rc != RC_OK)
        return rc;
    build.meta.padded = dense_padded(dense_inner(options->dimension, build.meta.lifted));
    if (count >= DENSE_GRAPH_MIN && !options->flat)
        build.meta.guide_bits = build.meta.padded <= DENSE_GUIDE_4BIT_TO ? 4 : 1;
    codec_init(&build.codec, &build.meta, build.mean);
    rc = build.meta.guide_bits ? build_graph(&build) : build_blocks(&build);
    if (rc == RC_OK)
        calibrate(&build.meta, &build.codes, &build.exact);
    if (rc == RC_OK)
        rc = write_sections(&build);
    if (rc != RC_OK)
        err_set(err, rc == RC_CANCELLED ? ERR_CANCELLED : ERR_INTERNAL, "vectors: %s", rc_name(rc));
    build_fini(&build);
    return rc;
}
