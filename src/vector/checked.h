/* A large section of a segment that is verified piece by piece, as it is read: a checksum for each
 * 64 KiB stands in a section of its own. So opening reads nothing, and a query touches only the
 * pages that it needs. */
#pragma once
#include "store/segment.h"
#include <stdatomic.h>

#define CHECKED_PIECE_BYTES (64 * 1024)

/* ---- writing: one section at a time ---- */
struct checked_writer {
    struct segment_writer *segment;
    uint32_t tag;
    uint64_t bytes;
    uint64_t *sums;
    size_t sum_count, sum_capacity;
    char *piece; /* being filled */
    size_t piece_n;
};
void checked_begin(struct checked_writer *writer, struct segment_writer *segment, uint32_t tag);
enum rc checked_write(struct checked_writer *writer, const void *p, size_t n) MUST_CHECK;
/* Ends the section and writes its sums as (tag, 1). Frees what the writer holds in any case. */
enum rc checked_end(struct checked_writer *writer) MUST_CHECK;

/* ---- reading: any thread ---- */
struct checked {
    struct str bytes;
    const uint64_t *sums;
    _Atomic uint8_t *good; /* by piece */
};
/* RC_CORRUPT, RC_NOT_FOUND. */
enum rc checked_open(struct checked *checked, const struct segment *segment,
                     uint32_t tag) MUST_CHECK;
void checked_close(struct checked *checked);
/* The bytes at `at`; NULL: they are damaged, or not all there. */
const char *checked_get(const struct checked *checked, uint64_t at, uint64_t n);
