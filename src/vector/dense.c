/* Opening and searching the vectors of a segment: see dense.h for the contract.
 *
 * A search is a chain of looks, each at fewer vectors and more closely: the guide's codes (by a
 * walk or a scan), the 8-bit codes of what they kept, the exact vectors of the best of those. Which
 * way and how far is chosen by `plan_make` from the calibration. */
#include "vector/dense_private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct dense {
    struct dense_meta_disk meta;
    struct codec codec;
    struct exact exact;
    struct codes codes;
    float *mean;
    _Atomic(uint8_t *) warm; /* the records in huge pages, once dense_warm made them */
};

/* ---- opening ---- */

static enum rc damaged(struct err *err)
{
    err_set(err, ERR_INTERNAL, "the segment's vectors are damaged");
    return RC_CORRUPT;
}

/* Nothing of it is trusted: what the file says must fit together. */
static bool meta_fits(const struct dense_meta_disk *meta)
{
    if (meta->version != DENSE_VERSION || meta->dimension == 0 ||
        meta->dimension > VECTOR_DIMENSION_MAX || meta->metric > METRIC_L2 || meta->lifted > 1 ||
        meta->count > DENSE_COUNT_MAX ||
        meta->padded != dense_padded(dense_inner(meta->dimension, meta->lifted != 0)))
        return false;
    if (meta->guide_bits == 0)
        return true;
    return (meta->guide_bits == 1 || meta->guide_bits == 4) && meta->degree_max > 0 &&
           meta->degree_max <= CODES_DEGREE_MAX && meta->entries <= CODES_BATCH_MAX;
}

static bool section_of(const struct segment *segment, uint32_t tag, size_t bytes, const void **out)
{
    struct str s;
    if (segment_section_raw(segment, tag, 0, &s) != RC_OK || s.n != bytes)
        return false;
    *out = s.p;
    return true;
}

static bool open_sections(struct dense *dense, const struct segment *segment)
{
    const struct dense_meta_disk *meta = &dense->meta;
    size_t count = meta->count;
    const void *p, *nodes;
    if (meta->guide_bits == 0) {
        size_t blocks = (count + KERNEL_BLOCK_VECTORS - 1) / KERNEL_BLOCK_VECTORS;
        dense->codes = (struct codes){.codec = &dense->codec};
        if (!section_of(segment, SECTION_DENSE_BLOCKS, blocks * block_bytes(meta->padded), &p))
            return false;
        dense->codes.blocks = p;
    } else {
        size_t stride = codes_stride(&dense->codec, meta->degree_max);
        codes_shape(&dense->codes, &dense->codec, meta->degree_max, stride);
        if (meta->stride != stride ||
            !section_of(segment, SECTION_DENSE_RECORDS, count * stride, &p) ||
            !section_of(segment, SECTION_DENSE_NODES, count * sizeof(uint32_t), &nodes))
            return false;
        dense->codes.records = (uint8_t *)p;
        dense->codes.nodes = nodes;
    }
    dense->codes.count = meta->count;
    dense->codes.entries = meta->entries;
    if (!section_of(segment, SECTION_DENSE_FINE, count * meta->padded, &p))
        return false;
    dense->codes.fine = (int8_t *)p;
    if (!section_of(segment, SECTION_DENSE_VECTORS, count * meta->dimension * sizeof(float), &p))
        return false;
    dense->exact.vectors = p;
    return true;
}

enum rc dense_open(const struct segment *segment, struct dense **out, struct err *err)
{
    struct str s;
    struct dense_meta_disk meta;
    if (segment_section(segment, SECTION_DENSE_META, 0, &s) != RC_OK || s.n < sizeof(meta))
        return damaged(err);
    memcpy(&meta, s.p, sizeof(meta));
    if (!meta_fits(&meta))
        return damaged(err);
    size_t mean_bytes = dense_inner(meta.dimension, meta.lifted != 0) * sizeof(float);
    if (s.n != sizeof(meta) + mean_bytes)
        return damaged(err);
    struct dense *dense = xcalloc(1, sizeof(*dense));
    dense->meta = meta;
    dense->mean = xmalloc(mean_bytes);
    memcpy(dense->mean, s.p + sizeof(meta), mean_bytes);
    codec_init(&dense->codec, &meta, dense->mean);
    dense->exact = (struct exact){.count = meta.count,
                                  .dimension = meta.dimension,
                                  .metric = (enum vector_metric)meta.metric,
                                  .kernels = dense->codec.kernels};
    if (!open_sections(dense, segment)) {
        dense_close(dense);
        return damaged(err);
    }
    *out = dense;
    return RC_OK;
}

void dense_close(struct dense *dense)
{
    if (!dense)
        return;
    pages_free(atomic_load(&dense->warm), dense->meta.count * dense->codes.stride);
    codec_fini(&dense->codec);
    free(dense->mean);
    free(dense);
}

void dense_warm(struct dense *dense)
{
    size_t bytes = dense->meta.count * dense->codes.stride;
    if (!dense->codes.records || bytes == 0 || atomic_load(&dense->warm))
        return;
    uint8_t *copy = pages_new(bytes), *none = NULL;
    memcpy(copy, dense->codes.records, bytes);
    if (!atomic_compare_exchange_strong(&dense->warm, &none, copy))
        pages_free(copy, bytes);
}

size_t dense_count(const struct dense *dense) { return dense->meta.count; }

const float *dense_vector(const struct dense *dense, uint32_t slot)
{
    ASSERT(slot < dense->meta.count);
    return dense->exact.vectors + (size_t)slot * dense->exact.dimension;
}

/* ---- planning ---- */

enum way { WAY_EXACT, WAY_SCAN, WAY_SCAN_FINE, WAY_WALK };

struct plan {
    enum way way;
    struct walk_limits limits;
    size_t keep; /* by a scan; of a walk, looked at by 8-bit codes */
};

#define FINE_COST  5   /* a look at an 8-bit code, in estimates by the guide */
#define EXACT_COST 20  /* at an exact vector */
#define EXACT_MIN  256 /* so few are scored exactly */
#define WALK_SHARE 0.8
#define LOOK_SHARE 0.2
/* A filter that goes with the vectors leaves ways that calibration did not see: its walks aim
 * higher and go as far as twice as many hits would need. */
#define WALK_SHARE_ALLOWED 0.2
/* So few matches are always scanned, where they are not most of all vectors: a scan finds the same
 * whatever the filter goes with. */
#define SCAN_MATCHES_MAX 20000
#define SCAN_SHARE_MAX   0.25

/* How many a scan must keep; 0: the tables do not reach the recall. */
static size_t scan_keep_for(const struct dense_meta_disk *meta, size_t k, double recall)
{
    struct effort effort = effort_for(meta->scan, k, recall);
    double keep = effort.cost > 0 ? ceil(effort.effort) : 0;
    if (k > effort_ks[EFFORT_KS - 1])
        keep *= (double)k / (double)effort_ks[EFFORT_KS - 1];
    return keep > 0 ? MAX((size_t)MIN(keep, meta->count), k) : 0;
}

static struct plan plan_make(const struct dense *dense, const struct dense_query *query, size_t k)
{
    const struct dense_meta_disk *meta = &dense->meta;
    size_t count = meta->count, matches = query->allowed ? query->allowed_count : count;
    struct plan plan = {.way = WAY_EXACT};
    matches = MIN(matches, count);
    if (query->recall >= 1 || matches <= EXACT_MIN || matches <= k)
        return plan;
    double cost = (double)matches * EXACT_COST;
    size_t keep = scan_keep_for(meta, k, query->recall);
    if (keep > 0) {
        plan = (struct plan){.way = WAY_SCAN, .keep = MIN(keep, matches)};
        cost = (double)(meta->guide_bits ? matches : count) + (double)plan.keep * FINE_COST;
        if ((double)matches * FINE_COST < cost)
            plan.way = WAY_SCAN_FINE;
        if (query->allowed && matches <= SCAN_MATCHES_MAX &&
            (double)matches <= SCAN_SHARE_MAX * (double)count)
            return plan;
    }
    /* A walk is calibrated by what it keeps, of which some are looked at more closely: what may be
     * missing is shared between the two. */
    double missing = 1 - query->recall;
    size_t look = scan_keep_for(meta, k, 1 - missing * LOOK_SHARE);
    struct effort walked =
        effort_for(meta->walk, k, 1 - missing * (query->allowed ? WALK_SHARE_ALLOWED : WALK_SHARE));
    double share = (double)matches / (double)count;
    size_t reach_k = query->allowed ? 2 * k : k;
    if (meta->guide_bits && walked.cost > 0 && walked.cost / share < cost) {
        plan = (struct plan){.way = WAY_WALK, .limits = walk_limits_of(reach_k, walked.effort)};
        plan.keep = look > 0 ? look : plan.limits.keep;
        plan.limits.estimates_max = query->allowed ? (uint64_t)cost : UINT64_MAX;
    }
    return plan;
}

/* ---- searching ---- */

static size_t score_pool(const struct dense *dense, const struct codes *codes,
                         const struct dense_query *query, struct dense_scratch *scratch, size_t k,
                         struct dense_hit *hits)
{
    /* The 8-bit codes order all but the nearest of ties right. */
    size_t found = 0, look = MIN(scratch->pool_count, k + k / 8 + 2);
    unsigned n = dense->exact.dimension;
    uint32_t *slots = scratch_slots(scratch, look);
    for (size_t i = 0; i < look; i++)
        slots[i] = codes_slot(codes, scratch->pool[i].node);
    for (size_t i = 0; i < look; i++) {
        if (i + 1 < look && slots[i + 1] < dense->exact.count)
            prefetch_lines(dense->exact.vectors + (size_t)slots[i + 1] * n, n * sizeof(float));
        if (slots[i] >= dense->exact.count)
            continue;
        float score = exact_score(&dense->exact, query->vector, slots[i]);
        found = hits_add(hits, found, k, (struct dense_hit){slots[i], score});
    }
    hits_sort(hits, found);
    return found;
}

static void run_plan(const struct codes *codes, const struct plan *plan,
                     const struct dense_query *query, struct dense_scratch *scratch)
{
    if (plan->way == WAY_SCAN_FINE) {
        scan_fine(codes, scratch, plan->keep, query->allowed);
        return;
    }
    if (plan->way == WAY_SCAN)
        scan(codes, scratch, plan->keep, query->allowed);
    else if (!query->allowed)
        walk(codes, scratch, &plan->limits, NODE_NONE);
    else if (!walk_allowed(codes, scratch, &plan->limits, query->allowed))
        scan(codes, scratch, plan->keep, query->allowed);
    refine(codes, scratch, plan->keep);
}

size_t dense_search(const struct dense *dense, const struct dense_query *query,
                    struct dense_scratch *scratch, struct dense_hit *hits)
{
    size_t k = MIN(query->k, dense->meta.count);
    if (k == 0 || !query_is_finite(query->vector, dense->exact.dimension))
        return 0;
    struct plan plan = plan_make(dense, query, k);
    if (plan.way == WAY_EXACT)
        return exact_search(&dense->exact, query, hits);
    struct codes codes = dense->codes;
    struct query_codes *codes_of = scratch_query(scratch, codes.codec->padded);
    uint8_t *warm = atomic_load_explicit(&dense->warm, memory_order_acquire);
    if (warm)
        codes.records = warm;
    codec_rotate(codes.codec, query->vector, false, codes_of->rotated);
    query_codes_prepare(codes_of, codes.codec);
    run_plan(&codes, &plan, query, scratch);
    return score_pool(dense, &codes, query, scratch, k, hits);
}
