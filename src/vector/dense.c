/* Opening and searching the vectors of a segment: see dense.h for the contract. */
#include "vector/dense_private.h"
#include <stdlib.h>
#include <string.h>

struct dense {
    struct dense_meta_disk meta;
    struct exact exact;
};

enum rc dense_build(struct segment_writer *segment, const float *vectors, size_t count,
                    const struct dense_options *options, bool (*cancelled)(void *arg), void *arg,
                    struct err *err)
{
    if (count > DENSE_COUNT_MAX || options->dimension == 0 ||
        options->dimension > VECTOR_DIMENSION_MAX)
        return err_set(err, ERR_BAD_FIELD, "too many vectors or too many dimensions");
    struct dense_meta_disk meta = {
        .version = DENSE_VERSION,
        .dimension = options->dimension,
        .padded = dense_padded(options->dimension),
        .metric = options->metric,
        .count = (uint32_t)count,
        .seed = options->seed,
    };
    segment_begin(segment, SECTION_DENSE_META, 0);
    enum rc rc = segment_write(segment, &meta, sizeof(meta));
    segment_begin(segment, SECTION_DENSE_VECTORS, 0);
    if (rc == RC_OK)
        rc = segment_write(segment, vectors, count * options->dimension * sizeof(float));
    return rc;
}

enum rc dense_open(const struct segment *segment, struct dense **out, struct err *err)
{
    struct str meta, vectors;
    if (segment_section(segment, SECTION_DENSE_META, 0, &meta) != RC_OK ||
        meta.n < sizeof(struct dense_meta_disk) ||
        segment_section_raw(segment, SECTION_DENSE_VECTORS, 0, &vectors) != RC_OK) {
        err_set(err, ERR_INTERNAL, "the segment's vectors are damaged");
        return RC_CORRUPT;
    }
    struct dense *dense = xcalloc(1, sizeof(*dense));
    memcpy(&dense->meta, meta.p, sizeof(dense->meta));
    if (vectors.n != (size_t)dense->meta.count * dense->meta.dimension * sizeof(float)) {
        free(dense);
        err_set(err, ERR_INTERNAL, "the segment's vectors are damaged");
        return RC_CORRUPT;
    }
    dense->exact = (struct exact){.vectors = (const float *)vectors.p,
                                  .count = dense->meta.count,
                                  .dimension = dense->meta.dimension,
                                  .metric = (enum vector_metric)dense->meta.metric,
                                  .kernels = kernels_best()};
    *out = dense;
    return RC_OK;
}

void dense_close(struct dense *dense) { free(dense); }

size_t dense_count(const struct dense *dense) { return dense->meta.count; }

const float *dense_vector(const struct dense *dense, uint32_t slot)
{
    ASSERT(slot < dense->meta.count);
    return dense->exact.vectors + (size_t)slot * dense->exact.dimension;
}

struct dense_scratch *dense_scratch_new(void) { return xcalloc(1, sizeof(struct dense_scratch)); }

void dense_scratch_free(struct dense_scratch *scratch) { free(scratch); }

size_t dense_search(const struct dense *dense, const struct dense_query *query,
                    struct dense_scratch *scratch, struct dense_hit *hits)
{
    return exact_search(&dense->exact, query, hits);
}
