/* See rows_segment.h. Everything is checked when the file is opened or when a row is read; a file
 * that lies gives RC_CORRUPT, never a wild read. */
#include "vector/rows_segment.h"
#include "base/hash.h"
#include <stdlib.h>

enum { TAG_META = 1, TAG_NUMBERS, TAG_OFFSETS, TAG_DISABLED, TAG_IDS, TAG_ROWS };

struct meta_disk {
    uint64_t count, disabled;
    uint32_t vector_count, text_count;
    uint32_t dimensions[INDEX_VECTORS_MAX];
};

struct rows_writer {
    struct segment_writer *segment;
    struct checked_writer rows;
    struct rows_shape shape;
    size_t count, count_max;
    uint64_t *numbers, *offsets, *ids;
    uint64_t *disabled;
    size_t id_slots, disabled_count;
    struct buf row;
};

struct rows_segment {
    struct segment *segment;
    struct rows_shape shape;
    uint32_t count, disabled_count;
    const uint64_t *numbers, *offsets, *ids, *disabled;
    size_t id_slots;
    struct checked rows;
};

/* ---- writing ---- */

enum rc rows_writer_new(struct file_system *fs, const char *path, const struct rows_shape *shape,
                        size_t count_max, struct rows_writer **out, struct err *err)
{
    struct segment_writer *segment;
    enum rc rc = segment_create(fs, path, ROWS_SEGMENT_KIND, ROWS_SEGMENT_VERSION, &segment, err);
    if (rc != RC_OK)
        return rc;
    struct rows_writer *w = xcalloc(1, sizeof(*w));
    w->segment = segment;
    w->shape = *shape;
    w->count_max = count_max;
    for (w->id_slots = 16; w->id_slots < 2 * count_max;)
        w->id_slots *= 2;
    w->numbers = xcalloc(count_max + 1, sizeof(uint64_t));
    w->offsets = xcalloc(count_max + 1, sizeof(uint64_t));
    w->disabled = xcalloc((count_max + 63) / 64 + 1, sizeof(uint64_t));
    w->ids = xcalloc(w->id_slots, sizeof(uint64_t));
    buf_init(&w->row, ROWS_RECORD_BYTES_MAX);
    checked_begin(&w->rows, segment, TAG_ROWS);
    *out = w;
    return RC_OK;
}

static void writer_free(struct rows_writer *w)
{
    free(w->numbers);
    free(w->offsets);
    free(w->disabled);
    free(w->ids);
    buf_fini(&w->row);
    free(w);
}

enum rc rows_writer_add(struct rows_writer *w, const struct index_row *row, uint64_t number)
{
    ASSERT(w->count < w->count_max);
    buf_clear(&w->row);
    enum rc rc = rows_encode_row(&w->shape, row, &w->row);
    if (rc == RC_OK)
        rc = checked_write(&w->rows, buf_str(&w->row).p, buf_len(&w->row));
    uint64_t hash = hash_xxh3(row->id.p, row->id.n);
    size_t slot = hash & (w->id_slots - 1);
    while (w->ids[slot])
        slot = (slot + 1) & (w->id_slots - 1);
    w->numbers[w->count] = number;
    if (row->disabled) {
        w->disabled[w->count / 64] |= 1ull << (w->count % 64);
        w->disabled_count++;
    }
    w->count++;
    w->ids[slot] = (hash >> 32) << 32 | w->count;
    w->offsets[w->count] = w->offsets[w->count - 1] + buf_len(&w->row);
    return rc;
}

static enum rc put_section(struct rows_writer *w, uint32_t tag, const void *p, size_t n)
{
    segment_begin(w->segment, tag, 0);
    return segment_write(w->segment, p, n);
}

enum rc rows_writer_seal(struct rows_writer *w)
{
    struct meta_disk meta = {.count = w->count,
                             .disabled = w->disabled_count,
                             .vector_count = (uint32_t)w->shape.vector_count,
                             .text_count = (uint32_t)w->shape.text_count};
    int64_t bytes;
    memcpy(meta.dimensions, w->shape.dimensions, sizeof(meta.dimensions));
    enum rc rc = checked_end(&w->rows);
    if (rc == RC_OK)
        rc = put_section(w, TAG_META, &meta, sizeof(meta));
    if (rc == RC_OK)
        rc = put_section(w, TAG_NUMBERS, w->numbers, w->count * sizeof(uint64_t));
    if (rc == RC_OK)
        rc = put_section(w, TAG_OFFSETS, w->offsets, (w->count + 1) * sizeof(uint64_t));
    if (rc == RC_OK)
        rc = put_section(w, TAG_DISABLED, w->disabled, (w->count + 63) / 64 * sizeof(uint64_t));
    if (rc == RC_OK)
        rc = put_section(w, TAG_IDS, w->ids, w->id_slots * sizeof(uint64_t));
    if (rc == RC_OK)
        rc = segment_seal(w->segment, &bytes);
    else
        segment_abandon(w->segment);
    writer_free(w);
    return rc;
}

void rows_writer_abandon(struct rows_writer *w)
{
    enum rc rc = checked_end(&w->rows); /* frees; nothing of it stays */
    UNUSED(rc);
    segment_abandon(w->segment);
    writer_free(w);
}

/* ---- reading ---- */

static enum rc load_meta(struct rows_segment *r)
{
    struct str s;
    struct meta_disk meta;
    enum rc rc = segment_section(r->segment, TAG_META, 0, &s);
    if (rc != RC_OK || s.n != sizeof(meta))
        return RC_CORRUPT;
    memcpy(&meta, s.p, sizeof(meta));
    if (meta.count > UINT32_MAX / 2 || meta.disabled > meta.count ||
        meta.vector_count != r->shape.vector_count || meta.text_count != r->shape.text_count ||
        memcmp(meta.dimensions, r->shape.dimensions, sizeof(meta.dimensions)) != 0)
        return RC_CORRUPT;
    r->count = (uint32_t)meta.count;
    r->disabled_count = (uint32_t)meta.disabled;
    return RC_OK;
}

/* An array section of `count` numbers. */
static enum rc load_numbers(const struct rows_segment *r, uint32_t tag, size_t count,
                            const uint64_t **out)
{
    struct str s;
    enum rc rc = segment_section(r->segment, tag, 0, &s);
    if (rc != RC_OK || s.n != count * sizeof(uint64_t))
        return RC_CORRUPT;
    *out = (const uint64_t *)s.p;
    return RC_OK;
}

enum rc rows_segment_open(struct segment *segment, const struct rows_shape *shape,
                          struct rows_segment **out)
{
    struct rows_segment *r = xcalloc(1, sizeof(*r));
    struct str ids;
    r->segment = segment;
    r->shape = *shape;
    enum rc rc = load_meta(r);
    if (rc == RC_OK)
        rc = load_numbers(r, TAG_NUMBERS, r->count, &r->numbers);
    if (rc == RC_OK)
        rc = load_numbers(r, TAG_OFFSETS, r->count + 1, &r->offsets);
    if (rc == RC_OK)
        rc = load_numbers(r, TAG_DISABLED, (r->count + 63) / 64, &r->disabled);
    if (rc == RC_OK)
        rc = segment_section(segment, TAG_IDS, 0, &ids);
    if (rc == RC_OK)
        rc = checked_open(&r->rows, segment, TAG_ROWS);
    r->id_slots = rc == RC_OK ? ids.n / sizeof(uint64_t) : 0;
    r->ids = rc == RC_OK ? (const uint64_t *)ids.p : NULL;
    if (rc == RC_OK && (r->id_slots <= r->count || (r->id_slots & (r->id_slots - 1)) != 0))
        rc = RC_CORRUPT;
    if (rc == RC_OK) {
        *out = r;
        return RC_OK;
    }
    rows_segment_close(r);
    return RC_CORRUPT;
}

void rows_segment_close(struct rows_segment *r)
{
    if (!r)
        return;
    checked_close(&r->rows);
    segment_close(r->segment);
    free(r);
}

uint32_t rows_segment_count(const struct rows_segment *r) { return r->count; }
uint32_t rows_segment_disabled(const struct rows_segment *r) { return r->disabled_count; }
int64_t rows_segment_bytes(const struct rows_segment *r) { return segment_bytes(r->segment); }

bool rows_segment_is_disabled(const struct rows_segment *r, uint32_t row)
{
    return r->disabled[row / 64] >> (row % 64) & 1;
}

uint64_t rows_segment_number(const struct rows_segment *r, uint32_t row) { return r->numbers[row]; }

enum rc rows_segment_row(const struct rows_segment *r, uint32_t row, struct index_row *out)
{
    uint64_t at = r->offsets[row], end = r->offsets[row + 1];
    const char *p = end > at ? checked_get(&r->rows, at, end - at) : NULL;
    if (!p || (uintptr_t)p % sizeof(float) != 0)
        return RC_CORRUPT;
    struct rows_reader reader = {.shape = &r->shape, .at = p, .end = p + (end - at), .count = 1};
    return rows_next_row(&reader, out) == RC_OK ? RC_OK : RC_CORRUPT;
}

bool rows_segment_find(const struct rows_segment *r, struct str id, uint32_t *row)
{
    uint64_t hash = hash_xxh3(id.p, id.n);
    size_t slot = hash & (r->id_slots - 1);
    for (size_t tries = 0; r->ids[slot] && tries < r->id_slots; tries++) {
        uint32_t number = (uint32_t)r->ids[slot] - 1;
        struct index_row found;
        if (r->ids[slot] >> 32 == hash >> 32 && number < r->count &&
            rows_segment_row(r, number, &found) == RC_OK && str_eq(found.id, id)) {
            *row = number;
            return true;
        }
        slot = (slot + 1) & (r->id_slots - 1);
    }
    return false;
}
