/* What the parts of the dense index share: the format, the codes, the graph. See docs/design/
 * vector.md for why.
 *
 * Inside, all metrics are one: vectors get the segment's mean subtracted and are rotated, and what
 * is compared is the squared distance of the results. For unit vectors it orders as the cosine
 * does; for dot products a coordinate is added that makes all vectors equally long (`lifted`). */
#pragma once
#include "vector/dense.h"
#include "vector/dense_kernel.h"
#include <stdatomic.h>

#define DENSE_VERSION       1
#define DENSE_GRAPH_MIN     30000 /* vectors; fewer are scanned */
#define DENSE_PADDED_MAX    (VECTOR_DIMENSION_MAX + KERNEL_DIMENSION_STEP)
#define DENSE_GUIDE_4BIT_TO 256 /* padded dimensions up to which a graph's codes have 4 bits */
#define DENSE_COUNT_MAX     (1u << 30)

enum {
    SECTION_DENSE_META = SEGMENT_KIND('D', 'M', 'E', 'T'), /* dense_meta_disk, then the mean */
    SECTION_DENSE_VECTORS = SEGMENT_KIND('D', 'V', 'E', 'C'),
    SECTION_DENSE_FINE = SEGMENT_KIND('D', 'F', 'I', 'N'),    /* 8-bit codes, a row each */
    SECTION_DENSE_BLOCKS = SEGMENT_KIND('D', 'B', 'L', 'K'),  /* no graph: 1-bit codes */
    SECTION_DENSE_RECORDS = SEGMENT_KIND('D', 'R', 'E', 'C'), /* graph: struct record each */
    SECTION_DENSE_NODES = SEGMENT_KIND('D', 'N', 'O', 'D'),   /* graph: node of each slot */
};

/* ---- calibration: how far to look for which recall ---- */

#define EFFORT_POINTS_MAX 24
#define EFFORT_KS         3
extern const size_t effort_ks[EFFORT_KS]; /* 1, 10, 100 */

/* Recall of the first k at growing effort: a walk's beam, or the vectors kept by a scan. */
struct effort_table {
    uint32_t count;
    uint32_t effort[EFFORT_POINTS_MAX];
    float recall[EFFORT_KS][EFFORT_POINTS_MAX];
};

/* The effort for a recall, or 0 when the table does not reach it. */
size_t effort_for(const struct effort_table *table, size_t k, double recall);

struct dense_meta_disk {
    uint32_t version, dimension, padded, metric;
    uint32_t count, guide_bits; /* guide_bits 0: no graph */
    uint32_t lifted, stride, degree_max, entries;
    float length2_max; /* lifted: of the vectors */
    uint32_t reserved;
    uint64_t seed;
    struct effort_table walk, scan;
};

/* ---- codes ---- */

struct codec {
    unsigned dimension, inner, padded; /* inner: one more when lifted */
    enum vector_metric metric;
    bool lifted;
    float length2_max;
    unsigned guide_bits;
    const float *mean; /* inner */
    uint32_t *signs;
    const struct kernels *kernels;
};

void codec_init(struct codec *codec, const struct dense_meta_disk *meta, const float *mean);
void codec_fini(struct codec *codec);
static inline unsigned dense_inner(unsigned dimension, bool lifted) { return dimension + lifted; }
static inline unsigned dense_padded(unsigned inner)
{
    return (unsigned)ALIGN_UP(inner, KERNEL_DIMENSION_STEP);
}

/* Estimate of the squared distance to a query: norm2 + |q|² + factor × <code, q>. */
struct record {
    float norm2;  /* of the centred vector */
    float factor; /* of the guide's code */
    float fine;   /* of the 8-bit code */
    uint32_t slot;
    uint16_t bits_set; /* of a 1-bit code */
    uint16_t degree;
    /* then the code, then degree_max × uint32_t links */
};
_Static_assert(sizeof(struct record) == 20, "format");

static inline size_t guide_bytes(unsigned padded, unsigned bits) { return padded * bits / 8; }

/* Centres and rotates: out[padded]. `stored`: of the segment, with its lift; else a query. */
void codec_rotate(const struct codec *codec, const float *vector, bool stored, float *out);
/* All but slot and degree. `guide` may be NULL. */
void codec_encode(const struct codec *codec, const float *rotated, struct record *record,
                  uint8_t *guide, int8_t *fine);

/* A query in the forms the kernels take. */
struct query_codes {
    float *rotated; /* padded */
    uint64_t *planes;
    int8_t *bytes, *low;
    uint8_t *tables;
    float norm2;
    float guide_scale, guide_set_scale, guide_offset; /* <code, q> = scale × S + set × bits + off */
    float fine_scale;
    float table_scale, table_offset;
};

size_t query_codes_bytes(unsigned padded);
void query_codes_place(struct query_codes *query, unsigned padded, void *memory);
/* After `rotated` is filled. `blocks`: for scan_block, else for records. */
void query_codes_prepare(struct query_codes *query, const struct codec *codec, bool blocks);

static inline float query_fine_distance(const struct query_codes *query, float norm2, float fine,
                                        int32_t sum)
{
    return query->norm2 + norm2 + fine * (query->fine_scale * (float)sum);
}

/* ---- blocks of 1-bit codes ---- */

/* A block: norm2[32], factor[32], fine[32] as floats, then padded/4 groups of 16 bytes. */
#define BLOCK_FACTORS 3
static inline size_t block_bytes(unsigned padded)
{
    return KERNEL_BLOCK_VECTORS * (BLOCK_FACTORS * sizeof(float) + padded / 8);
}
void block_put(uint8_t *block, size_t at, const struct record *record, const uint8_t *code,
               unsigned padded);

/* ---- exact scores ---- */

struct exact {
    const float *vectors;
    size_t count;
    unsigned dimension;
    enum vector_metric metric;
    const struct kernels *kernels;
};

float exact_score(const struct exact *exact, const float *query, uint32_t slot);
size_t exact_search(const struct exact *exact, const struct dense_query *query,
                    struct dense_hit *hits);
/* A heap of the best k, worst first; returns the new count. hits_sort makes it best first. */
size_t hits_add(struct dense_hit *hits, size_t count, size_t k, struct dense_hit hit);
void hits_sort(struct dense_hit *hits, size_t count);
bool query_is_finite(const float *vector, size_t n);

/* ---- the graph and the walk ---- */

struct graph {
    const struct codec *codec;
    uint8_t *records; /* count × stride */
    int8_t *fine;     /* count × padded */
    size_t stride, code_bytes, links_at;
    unsigned degree_max;
    uint32_t count, entries; /* the walk starts at nodes 0 … entries - 1 */
};

void graph_shape(struct graph *graph, const struct codec *codec, unsigned degree_max,
                 size_t stride);
static inline struct record *graph_record(const struct graph *graph, uint32_t node)
{
    return (struct record *)(graph->records + node * graph->stride);
}
static inline uint32_t *graph_links(const struct graph *graph, uint32_t node)
{
    return (uint32_t *)(graph->records + node * graph->stride + graph->links_at);
}

struct found {
    float distance;
    uint32_t node; /* the top bit: expanded */
};
#define FOUND_EXPANDED (1u << 31)

struct dense_scratch {
    void *codes; /* of query */
    unsigned padded;
    struct query_codes query;
    uint64_t *seen; /* bit per node */
    size_t seen_words;
    struct found *pool; /* what a walk or a scan found, best first */
    size_t pool_count, pool_max;
    struct found *heap; /* a filtered walk's frontier */
    size_t heap_count, heap_max;
    uint64_t evaluated; /* estimates made by the last walk */
};

struct query_codes *scratch_query(struct dense_scratch *scratch, unsigned padded);
void scratch_reserve(struct dense_scratch *scratch, size_t pool_max, size_t nodes);

/* Fills scratch->pool with at most `keep` nodes, by estimated distance; ends when the best `beam`
 * were expanded. `hidden`: a node to pass over, or UINT32_MAX. */
void graph_walk(const struct graph *graph, struct dense_scratch *scratch, size_t beam, size_t keep,
                uint32_t hidden);
/* Only nodes whose slot is allowed get into the pool. False: given up after `evaluations_max`. */
bool graph_walk_allowed(const struct graph *graph, struct dense_scratch *scratch, size_t beam,
                        size_t keep, const uint64_t *allowed, uint64_t evaluations_max);
/* Replaces the estimates in the pool by those of the 8-bit codes and sorts. */
void graph_refine(const struct graph *graph, struct dense_scratch *scratch);

/* Bytes of a working graph are not those of the file: see dense_build.c. */
struct graph_builder;
struct graph_builder *graph_builder_new(const struct codec *codec, uint32_t count, uint64_t seed);
void graph_builder_free(struct graph_builder *builder);
/* Vectors come in any order, each slot once. */
void graph_builder_add(struct graph_builder *builder, const float *vector, uint32_t slot);
/* The finished graph, renumbered; valid until the builder is freed. */
const struct graph *graph_builder_finish(struct graph_builder *builder);

void found_sort(struct found *items, size_t count);
