/* An index: rows of text, vectors and payload, found by meaning, by words, by both, under filters.
 * One per collection, in one folder, with one writer.
 *
 *   log of rows → tail in memory, found at once → sealed segments: rows; vectors, words, columns
 *
 * A change is in the log, durable, when it returns. Sealing moves rows from the log into files of
 * their own (up to a watermark); what else a segment has is a cache of its rows and made again when
 * missing or damaged. A delete is a bit; an upsert is a delete and an append.
 *
 * All functions block: they are for workers. Changes of one index are serialised inside; queries
 * run beside them and see each change whole or not at all. */
#pragma once
#include "base/arena.h"
#include "io/file.h"
#include "text/expression.h"
#include "vector/dense.h"

#define INDEX_VECTORS_MAX       4
#define INDEX_TEXTS_MAX         8
#define INDEX_ID_BYTES_MAX      256
#define INDEX_PAYLOAD_BYTES_MAX (64 * 1024)
#define INDEX_TEXT_BYTES_MAX    (1024 * 1024)
#define INDEX_K_MAX             10000
#define INDEX_BATCH_ROWS_MAX    16384
#define INDEX_K1_DEFAULT        1.5
#define INDEX_B_DEFAULT         0.75

struct index_vector_field {
    struct str name; /* "" is usual for the only one */
    unsigned dimension;
    enum vector_metric metric;
};

struct index_text_field {
    struct str name; /* "text", "title" */
    double weight;   /* 1 is usual */
};

/* Fixed when the index is made, but for k1, b and the weights. */
struct index_config {
    struct index_vector_field vectors[INDEX_VECTORS_MAX];
    size_t vector_count; /* 0: words only */
    struct index_text_field texts[INDEX_TEXTS_MAX];
    size_t text_count;   /* 0: vectors only */
    struct str language; /* stemmer: "english", "german", …; "none"; "" is english */
    double k1, b;        /* BM25; 0: the defaults */
};

struct index;
/* Makes the folder when there is none (config NULL: RC_NOT_FOUND then). */
enum rc index_open(struct file_system *fs, const char *folder, const struct index_config *config,
                   struct index **out, struct err *err) MUST_CHECK;
void index_close(struct index *index);
const struct index_config *index_config_of(const struct index *index);
/* k1, b: as in the configuration, 0 for the defaults. */
enum rc index_set_ranking(struct index *index, double k1, double b, const double *text_weights,
                          struct err *err) MUST_CHECK;

struct index_row {
    struct str id;
    const float *vectors[INDEX_VECTORS_MAX]; /* NULL: the row has none of this name */
    struct str texts[INDEX_TEXTS_MAX];
    struct str payload; /* JSON object or empty; its scalar members, and arrays of texts, can be
                           filtered by; "tags" are the access tags */
    bool disabled;      /* kept, shown, never found */
};

/* Durable and visible at return, all or none. A row of the same id is replaced. */
enum rc index_upsert(struct index *index, const struct index_row *rows, size_t count,
                     struct err *err) MUST_CHECK;
/* *deleted (may be NULL): how many there were. */
enum rc index_delete(struct index *index, const struct str *ids, size_t count, size_t *deleted,
                     struct err *err) MUST_CHECK;
enum rc index_delete_where(struct index *index, const struct expression *filter, size_t *deleted,
                           struct err *err) MUST_CHECK;
/* Texts and vectors live in the arena. RC_NOT_FOUND. */
enum rc index_get(struct index *index, struct str id, struct arena *arena, struct index_row *out,
                  struct err *err) MUST_CHECK;
/* Rows in the order of their last change, those after `*cursor` (0: from the start; 0 again: no
 * more). */
enum rc index_scroll(struct index *index, const struct expression *filter, uint64_t *cursor,
                     size_t limit, struct arena *arena, struct index_row **out, size_t *count,
                     struct err *err) MUST_CHECK;

enum index_fusion { FUSION_RRF, FUSION_WEIGHTED };

struct index_query {
    const float *vector; /* NULL: by words only */
    size_t vector_field;
    struct str text;                 /* words, "phrases", prefix*; empty: by vector only */
    size_t k;                        /* ≤ INDEX_K_MAX */
    double recall;                   /* of the vector part; 0: 0.95 */
    const struct expression *filter; /* over the payload's members; NULL: all */
    const struct str *tags;          /* access: a row with tags needs one of these */
    size_t tag_count;
    bool all_tags; /* the caller may see everything */
    enum index_fusion fusion;
    double
        text_weight;  /* FUSION_WEIGHTED, and of the text's ranks in RRF: 0 … 1; <0: the default */
    double k1, b;     /* BM25 of this query; 0: the index's */
    double score_min; /* of the final score; -INFINITY: none */
    struct str group_by; /* payload member: at most group_size hits of one value; empty: off */
    size_t group_size;
    double diversity; /* 0: off … 1: MMR over the vectors */
};

struct index_hit {
    struct str id, payload;
    struct str texts[INDEX_TEXTS_MAX];
    double score;                    /* what they are ordered by */
    double vector_score, text_score; /* NAN: that part did not find it */
};

struct index_hits {
    struct index_hit *items;
    size_t count;
};

/* Everything in the arena. ERR_BAD_FIELD names the member. */
enum rc index_search(struct index *index, const struct index_query *query, struct arena *arena,
                     struct index_hits *out, struct err *err) MUST_CHECK;

struct index_facet {
    struct str value;
    uint64_t count;
};
/* Values of a payload member among the rows that match, most frequent first. */
enum rc index_facets(struct index *index, const struct expression *filter, struct str member,
                     size_t limit, struct arena *arena, struct index_facet **out, size_t *count,
                     struct err *err) MUST_CHECK;

struct index_stats {
    uint64_t rows, deleted, segments, tail_rows, disk_bytes, memory_bytes;
    bool sealing;
};
void index_stats(struct index *index, struct index_stats *out);
/* Seals the tail, merges segments, drops deleted rows past a share: what a background task calls;
 * returns RC_OK at once when there is nothing to do. */
enum rc index_maintain(struct index *index, bool (*cancelled)(void *arg), void *arg,
                       struct err *err) MUST_CHECK;
/* A consistent copy in another folder, which index_open opens. */
enum rc index_snapshot(struct index *index, const char *folder, struct err *err) MUST_CHECK;
