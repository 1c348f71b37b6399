/* Sealed rows: the truth once they have left the log. One file `ID.rows`; rows as the log has them
 * (rows_record.h), in the order of their numbers, and a hash table of their ids.
 *
 * Sections: META · NUMBERS u64[n] · OFFSETS u64[n + 1] · DISABLED bitmap · IDS u64[2^m] (hash's
 * upper half, row + 1) · ROWS (checked). */
#pragma once
#include "vector/checked.h"
#include "vector/rows_record.h"

#define ROWS_SEGMENT_KIND    SEGMENT_KIND('V', 'R', 'O', 'S')
#define ROWS_SEGMENT_VERSION 1

struct rows_writer;
/* `count_max`: rows that may be added. */
enum rc rows_writer_new(struct file_system *fs, const char *path, const struct rows_shape *shape,
                        size_t count_max, struct rows_writer **out, struct err *err) MUST_CHECK;
enum rc rows_writer_add(struct rows_writer *writer, const struct index_row *row,
                        uint64_t number) MUST_CHECK;
/* Frees the writer in any case. */
enum rc rows_writer_seal(struct rows_writer *writer) MUST_CHECK;
void rows_writer_abandon(struct rows_writer *writer);

struct rows_segment;
/* Takes the segment in any case. RC_CORRUPT. */
enum rc rows_segment_open(struct segment *segment, const struct rows_shape *shape,
                          struct rows_segment **out) MUST_CHECK;
void rows_segment_close(struct rows_segment *rows);
uint32_t rows_segment_count(const struct rows_segment *rows);
uint32_t rows_segment_disabled(const struct rows_segment *rows); /* how many */
int64_t rows_segment_bytes(const struct rows_segment *rows);
bool rows_segment_is_disabled(const struct rows_segment *rows, uint32_t row);
uint64_t rows_segment_number(const struct rows_segment *rows, uint32_t row);
/* Points into the file. RC_CORRUPT. */
enum rc rows_segment_row(const struct rows_segment *rows, uint32_t row,
                         struct index_row *out) MUST_CHECK;
/* An id is in a segment once. */
bool rows_segment_find(const struct rows_segment *rows, struct str id, uint32_t *row);
