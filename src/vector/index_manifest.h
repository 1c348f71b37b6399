/* The index's manifest: what it holds, how it is ranked, which segments there are and up to where
 * they cover the log. JSON in store/segment's manifest. Private to src/vector/index_*.c. */
#pragma once
#include "vector/index.h"

struct index_manifest_segment {
    uint64_t id;
    uint64_t dead; /* generation of its file of dead rows; 0: none */
};

struct index_manifest {
    struct index_config config; /* texts in the arena */
    uint64_t next_row, next_file;
    uint64_t watermark;                      /* records of the log up to this one are in segments */
    struct index_manifest_segment *segments; /* in order of their rows */
    size_t segment_count;
};

enum rc index_manifest_store(struct file_system *fs, const char *folder,
                             const struct index_manifest *manifest, struct err *err) MUST_CHECK;
/* RC_NOT_FOUND, RC_CORRUPT, RC_INVALID: a newer version. */
enum rc index_manifest_load(struct file_system *fs, const char *folder, struct arena *arena,
                            struct index_manifest *out, struct err *err) MUST_CHECK;
/* ERR_BAD_FIELD: names twice, dimensions, weights, … */
enum rc index_config_check(const struct index_config *config, struct err *err) MUST_CHECK;
/* The same fields in the same order? */
bool index_config_same(const struct index_config *a, const struct index_config *b);
/* A copy whose texts are in the arena; defaults filled in. */
enum rc index_config_copy(const struct index_config *config, struct arena *arena,
                          struct index_config *out) MUST_CHECK;
