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

/* Recall at growing effort: a walk's reach in thousandths, or the vectors kept by a scan. */
struct effort_table {
    uint32_t count;
    uint32_t effort[EFFORT_POINTS_MAX];
    float recall[EFFORT_POINTS_MAX];
    float cost[EFFORT_POINTS_MAX]; /* estimates made */
};

struct effort {
    double effort, cost; /* cost 0: the tables do not reach the recall */
};

/* What a recall of the first k needs, between the tables of neighbouring k. */
struct effort effort_for(const struct effort_table tables[EFFORT_KS], size_t k, double recall);

struct dense_meta_disk {
    uint32_t version, dimension, padded, metric;
    uint32_t count, guide_bits; /* guide_bits 0: no graph */
    uint32_t lifted, stride, degree_max, entries;
    float length2_max; /* lifted: of the vectors */
    uint32_t reserved;
    uint64_t seed;
    struct effort_table walk[EFFORT_KS], scan[EFFORT_KS];
};

/* ---- codes ---- */

struct codec {
    unsigned dimension, inner, padded; /* inner: one more when lifted */
    enum vector_metric metric;
    bool lifted;
    float length2_max;
    unsigned guide_bits; /* 0: 1-bit codes in blocks */
    const float *mean;   /* inner */
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
/* After `rotated` is filled. */
void query_codes_prepare(struct query_codes *query, const struct codec *codec);

/* ---- blocks of 1-bit codes ---- */

/* Of a segment without a graph. A block: norm2[32], factor[32], fine[32] as floats, then padded/4
 * groups of 16 bytes. */
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

/* ---- the codes of a segment: records with links, or blocks ---- */

struct codes {
    const struct codec *codec;
    uint8_t *records;      /* count × stride; NULL: blocks */
    const uint8_t *blocks; /* NULL: records */
    int8_t *fine;          /* count × padded */
    const uint32_t *nodes; /* records: of each slot; nodes of blocks are slots */
    size_t stride, links_at;
    unsigned degree_max;
    uint32_t count, entries; /* a walk starts at nodes 0 … entries - 1 */
};

/* For codes in records. */
void codes_shape(struct codes *codes, const struct codec *codec, unsigned degree_max,
                 size_t stride);
size_t codes_stride(const struct codec *codec, unsigned degree_max);
static inline struct record *codes_record(const struct codes *codes, uint32_t node)
{
    return (struct record *)(codes->records + node * codes->stride);
}
static inline uint32_t *codes_links(const struct codes *codes, uint32_t node)
{
    return (uint32_t *)(codes->records + node * codes->stride + codes->links_at);
}
static inline uint32_t codes_slot(const struct codes *codes, uint32_t node)
{
    return codes->records ? codes_record(codes, node)->slot : node;
}
static inline void prefetch_lines(const void *p, size_t n)
{
    for (size_t at = 0; at < n; at += CACHE_LINE_BYTES)
        __builtin_prefetch((const char *)p + at);
}
/* Estimates by the guide's code in each record. */
void codes_estimate(const struct codes *codes, const struct query_codes *query,
                    const uint32_t *nodes, size_t count, float *distances);
/* Estimates by the 8-bit codes. */
void codes_estimate_fine(const struct codes *codes, const struct query_codes *query,
                         const uint32_t *nodes, size_t count, float *distances);

#define CODES_BATCH_MAX  256 /* nodes of one call */
#define CODES_DEGREE_MAX (CODES_BATCH_MAX / 2)

struct found {
    float distance;
    uint32_t node; /* the top bit: expanded */
};
#define FOUND_EXPANDED (1u << 31)

/* `spare`: room for count. */
void found_sort(struct found *items, size_t count, struct found *spare);
/* The nearest `count` to the front, in no order. */
void found_select(struct found *items, size_t total, size_t count);

struct dense_scratch {
    void *codes; /* of query */
    unsigned padded;
    struct query_codes query;
    uint64_t *seen; /* bit per node */
    size_t seen_words;
    struct found *pool; /* what a walk or a scan found; room for 2 × pool_max */
    size_t pool_count, pool_max;
    float worst;        /* a scan: farther ones are not kept */
    struct found *heap; /* a filtered walk's frontier */
    size_t heap_count, heap_max;
    uint32_t *slots;
    size_t slots_max;
    uint64_t evaluated; /* estimates made by the last walk */
};

struct query_codes *scratch_query(struct dense_scratch *scratch, unsigned padded);
void scratch_reserve(struct dense_scratch *scratch, size_t pool_max);

/* Room for the slots of what is scored exactly. */
uint32_t *scratch_slots(struct dense_scratch *scratch, size_t count);

#define NODE_NONE UINT32_MAX

/* How far a walk goes. Nodes are expanded while they are nearer than the k-th best so far and a
 * part of what distances are here, so that hard queries walk farther than easy ones. */
struct walk_limits {
    size_t k;
    float reach;
    size_t beam;            /* of the pool, no more are expanded */
    size_t keep;            /* the pool's size */
    uint64_t estimates_max; /* given up after so many */
};
#define WALK_KEEP_MIN 1024
struct walk_limits walk_limits_of(size_t k, double reach_thousandths);

/* Fills scratch->pool, nearest first by the guide. `hidden`: a node to pass over. */
void walk(const struct codes *codes, struct dense_scratch *scratch,
          const struct walk_limits *limits, uint32_t hidden);
/* Only nodes whose slot is allowed get into the pool. False: given up. */
bool walk_allowed(const struct codes *codes, struct dense_scratch *scratch,
                  const struct walk_limits *limits, const uint64_t *allowed);
/* The `keep` nearest by the guide among all, or among the allowed slots; in order. */
void scan(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
          const uint64_t *allowed);
/* The same by the 8-bit codes. */
void scan_fine(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
               const uint64_t *allowed);
/* Replaces the estimates of the first `count` in the pool by those of the 8-bit codes and sorts;
 * the others are dropped. */
void refine(const struct codes *codes, struct dense_scratch *scratch, size_t count);

/* ---- building ---- */

/* Zeroed memory in huge pages where the system has them: codes are read at random. */
void *pages_new(size_t bytes);
void pages_free(void *p, size_t bytes);

struct graph_builder;
struct graph_builder *graph_builder_new(const struct codec *codec, uint32_t count);
void graph_builder_free(struct graph_builder *builder);
/* Vectors come in any order, each slot once. */
void graph_builder_add(struct graph_builder *builder, const float *vector, uint32_t slot);
/* The finished graph, renumbered, without `nodes`; valid until the builder is freed. */
const struct codes *graph_builder_finish(struct graph_builder *builder);

/* Fills meta's tables by searching for vectors of the segment, each hidden from its own search. */
void calibrate(struct dense_meta_disk *meta, const struct codes *codes, const struct exact *exact);
