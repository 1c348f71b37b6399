/* How changes are written into the rows log. Little-endian.
 *
 *   upsert: first row number u64 · rows u32 · shape u32, then each row, padded to 8:
 *           bytes u32 · id u16 · flags u8 · vectors u8 (mask) · payload u32 · texts u32 each
 *           · vectors f32 · id · payload · texts
 *   delete: ids u32, then each: bytes u16 · id */
#pragma once
#include "base/buf.h"
#include "vector/index.h"

enum { ROWS_UPSERT = 1, ROWS_DELETE = 2 };

#define ROWS_RECORD_BYTES_MAX (128u * 1024 * 1024)

struct rows_shape {
    size_t vector_count, text_count;
    unsigned dimensions[INDEX_VECTORS_MAX];
};

/* RC_LIMIT: the buffer's maximum. */
enum rc rows_encode_upsert(const struct rows_shape *shape, const struct index_row *rows,
                           size_t count, struct buf *out) MUST_CHECK;
/* One row as records have it, without a record around it. */
enum rc rows_encode_row(const struct rows_shape *shape, const struct index_row *row,
                        struct buf *out) MUST_CHECK;
enum rc rows_encode_delete(const struct str *ids, size_t count, struct buf *out) MUST_CHECK;
/* Row numbers are given when the record is written. */
void rows_set_first(struct buf *record, uint64_t first_row);

struct rows_reader {
    const struct rows_shape *shape; /* NULL: a delete */
    const char *at, *end;
    uint64_t first_row;
    uint32_t count, read;
};

/* The record is aligned to 4 bytes and outlives the rows. RC_CORRUPT. */
enum rc rows_read_upsert(struct str record, const struct rows_shape *shape,
                         struct rows_reader *reader) MUST_CHECK;
enum rc rows_read_delete(struct str record, struct rows_reader *reader) MUST_CHECK;
/* RC_END after the last; RC_CORRUPT. */
enum rc rows_next_row(struct rows_reader *reader, struct index_row *out) MUST_CHECK;
enum rc rows_next_id(struct rows_reader *reader, struct str *out) MUST_CHECK;
