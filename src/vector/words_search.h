/* BM25 over the words of several parts of an index, exact: the best k rows, pruned by bounds of
 * blocks. First every part is prepared (terms found, phrases and prefixes resolved), then the whole
 * is planned (document frequencies count over all parts), then each part is searched into one list
 * of the best.
 *
 * A row's score is the sum over query items and fields of
 *     weight · idf · (k1 + 1) · f / (f + k1 · (1 − b + b · length / average)),
 *     idf = ln(1 + (N − n + ½) / (n + ½)) */
#pragma once
#include "vector/words_memory.h"
#include "vector/words_query.h"
#include "vector/words_score.h"

struct words_segment;

/* One of the two. */
struct words_source {
    const struct words_memory *memory; /* locked while it is prepared and its stats are read */
    const struct words_segment *segment;
    uint32_t rows; /* those from here on are not there yet */
};

struct words_ranking {
    size_t fields;
    double k1, b;
    double weights[WORDS_FIELDS_MAX];
};

struct words_part;
/* RC_LIMIT: the arena. RC_CORRUPT: the segment is damaged. */
enum rc words_part_prepare(const struct words_source *source, const struct words_query *query,
                           size_t fields, struct arena *arena, struct words_part **out) MUST_CHECK;

struct words_plan;
/* `stats`: the sum over all parts. */
enum rc words_plan_make(struct words_part *const *parts, size_t part_count,
                        const struct words_query *query, const struct words_stats *stats,
                        const struct words_ranking *ranking, struct arena *arena,
                        struct words_plan **out) MUST_CHECK;

struct words_hit {
    int32_t score; /* times plan's unit */
    uint32_t part, row;
};

/* The best k so far: ties go to what came first. */
struct words_top {
    struct words_hit *hits; /* a heap, the worst in front */
    size_t count, k;
};

struct words_scratch; /* one per searching thread */
struct words_scratch *words_scratch_new(void);
void words_scratch_free(struct words_scratch *scratch);

/* Adds the part's best rows. `allowed`: bitmap of rows, NULL: all. RC_CORRUPT, RC_LIMIT. */
enum rc words_part_search(struct words_part *part, uint32_t part_number,
                          const struct words_plan *plan, const uint64_t *allowed,
                          struct arena *arena, struct words_scratch *scratch,
                          struct words_top *top) MUST_CHECK;
/* Best first; ties by part and row. */
void words_top_sort(struct words_top *top);
double words_plan_score(const struct words_plan *plan, int32_t score);
