/* The vectors of one segment: codes to scan, a graph to walk, the exact vectors to score with.
 * Built once over all vectors of the segment, immutable afterwards, searched by any number of
 * threads.
 *
 * A search takes the recall wanted, not knobs: how far it looks for a recall was measured on
 * held-out points when the segment was built. */
#pragma once
#include "store/segment.h"

enum vector_metric { METRIC_COSINE, METRIC_DOT, METRIC_L2 };

#define VECTOR_DIMENSION_MAX 4096

struct dense_options {
    unsigned dimension;
    enum vector_metric metric;
    uint64_t seed; /* of the rotation and the graph: the same input gives the same bytes */
    bool flat;     /* no graph, however many there are */
};

/* Adds its sections to an open segment. `vectors`: count × dimension, row-major, in slot order;
 * cosine wants them at unit length. Few vectors get no graph. RC_INVALID: a length is no finite
 * number. Blocks for long: a worker's task;
 * `cancelled` (may be NULL) is asked now and then, true ends it with RC_CANCELLED. */
enum rc dense_build(struct segment_writer *segment, const float *vectors, size_t count,
                    const struct dense_options *options, bool (*cancelled)(void *arg), void *arg,
                    struct err *err) MUST_CHECK;

struct dense;
/* Over the sections of an open segment, which must outlive it. RC_CORRUPT. */
enum rc dense_open(const struct segment *segment, struct dense **out, struct err *err) MUST_CHECK;
void dense_close(struct dense *dense);
/* Copies what every search reads into memory of large pages: about 400 bytes a vector, and searches
 * are faster by a third. Takes a moment: for a worker, after opening; beside searches. */
void dense_warm(struct dense *dense);
size_t dense_count(const struct dense *dense);
/* The exact vector of a slot, valid while it is open. */
const float *dense_vector(const struct dense *dense, uint32_t slot);

struct dense_hit {
    uint32_t slot;
    float score; /* greater is nearer: cosine, dot product, or minus the squared distance */
};

struct dense_query {
    const float *vector; /* cosine: at unit length */
    size_t k;
    double recall;           /* 0.5 … 1; 1: exact */
    const uint64_t *allowed; /* bitmap of slots; NULL: all */
    size_t allowed_count;    /* bits set in it; the way is chosen by it */
};

struct dense_scratch; /* one per searching thread: grows to what the largest search needs */
struct dense_scratch *dense_scratch_new(void);
void dense_scratch_free(struct dense_scratch *scratch);

/* Best first; ties by slot. Returns how many of `hits` (room for k) were filled. */
size_t dense_search(const struct dense *dense, const struct dense_query *query,
                    struct dense_scratch *scratch, struct dense_hit *hits);

/* ---- vectors that are in no segment yet ---- */

/* Appended to by one thread, searched exactly by any: a reader sees what was complete when it
 * began. */
struct dense_tail;
struct dense_tail *dense_tail_new(unsigned dimension, enum vector_metric metric, size_t count_max);
void dense_tail_free(struct dense_tail *tail);
/* The slot, or -1 when it is full. */
int64_t dense_tail_append(struct dense_tail *tail, const float *vector);
size_t dense_tail_count(const struct dense_tail *tail);
const float *dense_tail_vector(const struct dense_tail *tail, uint32_t slot);
size_t dense_tail_search(const struct dense_tail *tail, const struct dense_query *query,
                         struct dense_scratch *scratch, struct dense_hit *hits);
