/* Rows of call records in columns, wherever they are: the fresh tail in memory or a sealed part on
 * disk. Filters, lists, statistics, sealing and compaction are written against this and do not know
 * which.
 *
 * Rows are numbered from 0 in order of ending, in granules of GRANULE_ROWS. A value of an integer
 * column is base + scale × code, codes being 0, 1, 2 or 4 bytes wide and unsigned, or 8 bytes wide
 * and then the value itself. A text column holds codes into a dictionary. Rows may be marked as
 * deleted at any time, by the store's threads only. */
#pragma once
#include "base/limits.h"
#include "store/log.h"
#include "trace/call.h"
#include <stdatomic.h>

#define GRANULE_ROWS 8192u

enum column {
#define COLUMN_INT(name, expression) COLUMN_##name,
#define COLUMN_TEXT(name, expression)
#include "trace/columns.h"
#undef COLUMN_INT
#undef COLUMN_TEXT
    COLUMN_INT_COUNT,
};

/* Text columns are counted from 0, too. */
enum text_column {
#define COLUMN_INT(name, expression)
#define COLUMN_TEXT(name, expression) TEXT_##name,
#include "trace/columns.h"
#undef COLUMN_INT
#undef COLUMN_TEXT
    TEXT_COUNT,
};

struct rowset;
struct record_reader;

/* One column of one granule. */
struct column_view {
    const void *data; /* NULL when width is 0: every row has the value `base` (or code 0) */
    uint8_t width;    /* 0, 1, 2, 4, 8 */
    int64_t base;
    uint64_t scale;   /* ≥ 1; 1 with base 0 where width is 8 */
    int64_t min, max; /* of the values (text: the codes); INT64_MIN … MAX when not known */
};

struct rowset_calls {
    /* RC_CORRUPT where the stored column is damaged: the whole rowset is then left out. */
    enum rc (*view)(const struct rowset *rows, enum column column, uint32_t granule,
                    struct column_view *view);
    enum rc (*text_view)(const struct rowset *rows, enum text_column column, uint32_t granule,
                         struct column_view *view);
    /* Dictionary: codes below `count` are valid. `sorted`: in bytewise order. */
    enum rc (*texts)(const struct rowset *rows, enum text_column column, uint32_t *count,
                     bool *sorted);
    struct str (*text)(const struct rowset *rows, enum text_column column, uint32_t code);
    enum rc (*ids)(const struct rowset *rows, uint32_t granule, const uint8_t (**ids)[16]);
    /* Could the granule hold an id that begins with these 8 bytes (big-endian)? */
    bool (*may_hold_id)(const struct rowset *rows, uint32_t granule, uint64_t prefix);
    /* The record as it was encoded; it lives in the reader until its next use. RC_NOT_FOUND: only
     * its columns are left (the record was damaged when it was sealed). */
    enum rc (*record)(const struct rowset *rows, uint32_t row, struct record_reader *reader,
                      struct str *bytes);
};

/* Reads records one after the other; a decompressed block of a part, or a piece of the log, is kept
 * for the next. One thread. */
struct record_reader {
    struct log_window log;
    const struct rowset *rows; /* whose block it is */
    void *block;
    size_t block_bytes;
    uint32_t first_row, end_row; /* that the block holds */
    void *decompressor;
};

void record_reader_init(struct record_reader *reader);
void record_reader_fini(struct record_reader *reader);

/* Embedded first in struct tail and struct part. */
struct rowset {
    const struct rowset_calls *calls;
    atomic_int references;
    void (*free)(struct rowset *rows);
    uint32_t row_count;           /* of a tail: rows_max; what is there is in the snapshot */
    uint64_t first_seq, last_seq; /* of a tail: last_seq changes until it is frozen */
    int64_t started_min_ns, started_max_ns; /* INT64_MIN … MAX when not known */
    _Atomic(atomic_uint_least64_t *)
        deleted; /* bitmap, or NULL: none; made once, bits are only set */
    atomic_uint_least32_t deleted_count;
    atomic_bool damaged; /* met a wrong checksum: left out from now on */
};

static inline uint32_t granule_count(uint32_t rows)
{
    return (rows + GRANULE_ROWS - 1) / GRANULE_ROWS;
}

static inline uint32_t granule_rows(uint32_t rows, uint32_t granule)
{
    return MIN(GRANULE_ROWS, rows - granule * GRANULE_ROWS);
}

static inline uint64_t view_code(const struct column_view *view, uint32_t i)
{
    switch (view->width) {
    case 1: return ((const uint8_t *)view->data)[i];
    case 2: return ((const uint16_t *)view->data)[i];
    case 4: return ((const uint32_t *)view->data)[i];
    case 8: return ((const uint64_t *)view->data)[i];
    default: return 0;
    }
}

static inline int64_t view_value(const struct column_view *view, uint32_t i)
{
    return (int64_t)((uint64_t)view->base + view->scale * view_code(view, i));
}

/* A row's value; for lists and merging, not for scans. */
enum rc rowset_value(const struct rowset *rows, enum column column, uint32_t row,
                     int64_t *value) MUST_CHECK;
enum rc rowset_text(const struct rowset *rows, enum text_column column, uint32_t row,
                    struct str *text) MUST_CHECK;

void rowset_ref(struct rowset *rows);
void rowset_unref(struct rowset *rows);

bool rowset_is_deleted(const struct rowset *rows, uint32_t row);
/* False when it was deleted already. One thread at a time. */
bool rowset_delete(struct rowset *rows, uint32_t row);

/* What does not come from struct call_record itself. */
struct row_extra {
    uint64_t seq;
    uint32_t record_bytes;
    struct str tag_set;
};

/* Tags as one text, so that they are a dictionary column: name=value joined by \x1f, sorted by the
 * caller's order. At most TAG_SET_BYTES_MAX are used of `out`. */
#define TAG_SET_BYTES_MAX (LIMIT_TAGS * (2 * LIMIT_TAG_BYTES + 2))
struct str tag_set_make(const struct call_tag *tags, size_t count, char out[TAG_SET_BYTES_MAX]);
/* Cuts the next tag off; false at the end. */
bool tag_set_next(struct str *set, struct call_tag *tag);

void row_ints(const struct call_record *call, const struct row_extra *extra,
              int64_t out[COLUMN_INT_COUNT]);
void row_texts(const struct call_record *call, const struct row_extra *extra,
               struct str out[TEXT_COUNT]);
/* The reverse: fills what columns hold. `tags` becomes call->tags. Texts point into the rowset. */
enum rc rowset_row(const struct rowset *rows, uint32_t row, uint64_t *seq, struct call_record *call,
                   struct call_tag tags[LIMIT_TAGS]) MUST_CHECK;
