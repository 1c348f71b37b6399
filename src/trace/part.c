/* Reading parts: sections are found, verified and checked for shape when a query first needs them,
 * and then kept by pointer; two threads that do so at once find the same. Nothing on disk is
 * trusted for memory safety, although checksums guard it: this code is fuzzed
 * (tests/fuzz/fuzz_segment.c). */
#include "trace/part.h"
#include "base/hash.h"
#include "trace/part_format.h"
#include "trace/part_read.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

struct dictionary {
    uint32_t count;
    const uint32_t *offsets;
    const char *bytes;
};

struct part {
    struct rowset rows;
    uint64_t id;
    struct segment *segment;
    struct part_meta_disk meta;
    /* NULL: not asked for yet. A column that an older version did not write is `column_absent`. */
    _Atomic(const struct column_disk *) ints[COLUMN_INT_COUNT];
    _Atomic(const struct column_disk *) texts[TEXT_COUNT];
    _Atomic(const struct column_disk *) dictionaries[TEXT_COUNT]; /* SECTION_DICT's first byte */
    _Atomic(const uint8_t *) ids;
    struct str blocks, body;
};

static const struct column_disk column_absent = {.scale = 1};

static const struct part *part_const(const struct rowset *rows)
{
    return CONTAINER_OF(rows, const struct part, rows);
}

struct rowset *part_rows(struct part *part) { return &part->rows; }

uint64_t part_id(const struct part *part) { return part->id; }

int64_t part_bytes(const struct part *part) { return segment_bytes(part->segment); }

void part_file_name(uint64_t id, char out[64]) { snprintf(out, 64, "part-%016" PRIx64, id); }

void part_deletes_name(uint64_t id, uint64_t generation, char out[64])
{
    snprintf(out, 64, "part-%016" PRIx64 "-del-%" PRIu64, id, generation);
}

/* ---- columns ---- */

static bool column_fits(const struct column_disk *column, size_t section_bytes, uint32_t rows)
{
    if (section_bytes < sizeof(*column) || column->rows != rows || column->scale == 0)
        return false;
    uint8_t w = column->width;
    if (w != 0 && w != 1 && w != 2 && w != 4 && w != 8)
        return false;
    if (w == 8 && (column->base != 0 || column->scale != 1))
        return false;
    return section_bytes ==
           sizeof(*column) + granule_count(rows) * sizeof(struct zone_disk) + (size_t)rows * w;
}

/* Loads a column's section once. */
static enum rc column_load(const struct part *part, _Atomic(const struct column_disk *) *slot,
                           uint32_t tag, uint32_t index, const struct column_disk **out)
{
    *out = atomic_load_explicit(slot, memory_order_acquire);
    if (*out)
        return RC_OK;
    struct str section;
    enum rc rc = segment_section(part->segment, tag, index, &section);
    if (rc == RC_NOT_FOUND)
        *out = &column_absent;
    else if (rc != RC_OK)
        return rc;
    else if (!column_fits((const void *)section.p, section.n, part->meta.rows))
        return RC_CORRUPT;
    else
        *out = (const void *)section.p;
    atomic_store_explicit(slot, *out, memory_order_release);
    return RC_OK;
}

static void column_make_view(const struct part *part, const struct column_disk *column,
                             uint32_t granule, struct column_view *view)
{
    *view = (struct column_view){.width = column->width,
                                 .base = column->base,
                                 .scale = column->scale,
                                 .min = column->base,
                                 .max = column->base};
    if (column == &column_absent)
        return;
    const struct zone_disk *zones = (const void *)(column + 1);
    const char *data = (const char *)(zones + granule_count(part->meta.rows));
    view->data = data + (size_t)granule * GRANULE_ROWS * column->width;
    view->min = zones[granule].min;
    view->max = zones[granule].max;
}

static enum rc part_view(const struct rowset *rows, enum column column, uint32_t granule,
                         struct column_view *view)
{
    struct part *part = (struct part *)part_const(rows);
    const struct column_disk *disk;
    enum rc rc = column_load(part, &part->ints[column], SECTION_INT, column, &disk);
    if (rc == RC_OK)
        column_make_view(part, disk, granule, view);
    return rc;
}

/* ---- texts ---- */

static struct dictionary dictionary_make(const void *section)
{
    const uint32_t *p = section;
    return (struct dictionary){
        .count = p[0], .offsets = p + 1, .bytes = (const char *)(p + 2 + p[0])};
}

static bool dictionary_fits(struct str section)
{
    if (section.n < 8)
        return false;
    struct dictionary d = dictionary_make(section.p);
    if (d.count > section.n / 4 || 8 + (size_t)d.count * 4 > section.n || d.offsets[0] != 0)
        return false;
    for (uint32_t i = 0; i < d.count; i++)
        if (d.offsets[i + 1] < d.offsets[i])
            return false;
    return d.offsets[d.count] == section.n - 8 - (size_t)d.count * 4;
}

static enum rc dictionary_load(struct part *part, enum text_column column, struct dictionary *out)
{
    const void *p = atomic_load_explicit(&part->dictionaries[column], memory_order_acquire);
    if (!p) {
        struct str section;
        enum rc rc = segment_section(part->segment, SECTION_DICT, column, &section);
        if (rc == RC_OK && !dictionary_fits(section))
            rc = RC_CORRUPT;
        if (rc == RC_NOT_FOUND)
            section =
                str_make(&column_absent, sizeof(column_absent)); /* no texts: its first word is 0 */
        else if (rc != RC_OK)
            return rc;
        p = section.p;
        atomic_store_explicit(&part->dictionaries[column], (const struct column_disk *)p,
                              memory_order_release);
    }
    *out = dictionary_make(p);
    return RC_OK;
}

static enum rc part_texts(const struct rowset *rows, enum text_column column, uint32_t *count,
                          bool *sorted)
{
    struct dictionary d;
    enum rc rc = dictionary_load((struct part *)part_const(rows), column, &d);
    if (rc == RC_OK) {
        /* An absent column has one code, whose text is empty. */
        *count = MAX(d.count, 1);
        *sorted = true;
    }
    return rc;
}

static struct str part_text(const struct rowset *rows, enum text_column column, uint32_t code)
{
    struct dictionary d;
    if (dictionary_load((struct part *)part_const(rows), column, &d) != RC_OK || code >= d.count)
        return STR_EMPTY;
    return str_make(d.bytes + d.offsets[code], d.offsets[code + 1] - d.offsets[code]);
}

/* Every code must lie in the dictionary: checked once, when the column is first used. */
static enum rc codes_check(struct part *part, enum text_column column,
                           const struct column_disk *disk)
{
    struct dictionary d;
    enum rc rc = dictionary_load(part, column, &d);
    if (rc != RC_OK)
        return rc;
    if (disk != &column_absent && (disk->base < 0 || disk->scale != 1 || disk->width == 8))
        return RC_CORRUPT;
    for (uint32_t g = 0; g < granule_count(part->meta.rows); g++) {
        struct column_view view;
        column_make_view(part, disk, g, &view);
        for (uint32_t i = 0; i < granule_rows(part->meta.rows, g); i++)
            if ((uint64_t)view.base + view_code(&view, i) >= MAX(d.count, 1))
                return RC_CORRUPT;
    }
    return RC_OK;
}

/* Every text of a dictionary is used by some row, so codes begin at 0 and step by 1: they are their
 * own values. */
static enum rc part_text_view(const struct rowset *rows, enum text_column column, uint32_t granule,
                              struct column_view *view)
{
    struct part *part = (struct part *)part_const(rows);
    const struct column_disk *disk =
        atomic_load_explicit(&part->texts[column], memory_order_acquire);
    if (!disk) {
        _Atomic(const struct column_disk *) slot = NULL;
        enum rc rc = column_load(part, &slot, SECTION_TEXT, column, &disk);
        if (rc == RC_OK)
            rc = codes_check(part, column, disk);
        if (rc == RC_OK && disk->base != 0)
            rc = RC_CORRUPT;
        if (rc != RC_OK)
            return rc;
        atomic_store_explicit(&part->texts[column], disk, memory_order_release);
    }
    column_make_view(part, disk, granule, view);
    return RC_OK;
}

/* ---- ids ---- */

static enum rc ids_load(struct part *part, const uint8_t **out)
{
    *out = atomic_load_explicit(&part->ids, memory_order_acquire);
    if (*out)
        return RC_OK;
    struct str section;
    uint32_t rows = part->meta.rows;
    enum rc rc = segment_section(part->segment, SECTION_IDS, 0, &section);
    if (rc != RC_OK)
        return RC_CORRUPT;
    if (section.n != (size_t)rows * 16 + granule_count(rows) * sizeof(struct zone_disk))
        return RC_CORRUPT;
    *out = (const uint8_t *)section.p;
    atomic_store_explicit(&part->ids, *out, memory_order_release);
    return RC_OK;
}

static enum rc part_ids(const struct rowset *rows, uint32_t granule, const uint8_t (**ids)[16])
{
    const uint8_t *p;
    enum rc rc = ids_load((struct part *)part_const(rows), &p);
    if (rc == RC_OK)
        *ids = (const uint8_t(*)[16])(p + (size_t)granule * GRANULE_ROWS * 16);
    return rc;
}

static bool part_may_hold_id(const struct rowset *rows, uint32_t granule, uint64_t prefix)
{
    const struct part *part = part_const(rows);
    const uint8_t *p;
    if (ids_load((struct part *)part, &p) != RC_OK)
        return false;
    struct zone_disk zone;
    memcpy(&zone, p + (size_t)part->meta.rows * 16 + granule * sizeof(zone), sizeof(zone));
    return prefix >= (uint64_t)zone.min && prefix <= (uint64_t)zone.max;
}

/* ---- records ---- */

enum rc part_block(const struct part *part, uint32_t i, struct block_disk *block, const void **p)
{
    if (i >= part->blocks.n / sizeof(*block))
        return RC_END;
    memcpy(block, part->blocks.p + i * sizeof(*block), sizeof(*block));
    if (block->offset > part->body.n || block->bytes > part->body.n - block->offset ||
        block->raw_bytes > BLOCK_BYTES_MAX || block->first_row > part->meta.rows ||
        block->rows > part->meta.rows - block->first_row)
        return RC_CORRUPT;
    *p = part->body.p + block->offset;
    return hash_xxh3(*p, block->bytes) == block->hash ? RC_OK : RC_CORRUPT;
}

static uint32_t block_of_row(const struct part *part, uint32_t row)
{
    const struct block_disk *blocks = (const void *)part->blocks.p;
    uint32_t low = 0, high = (uint32_t)(part->blocks.n / sizeof(*blocks));
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (blocks[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static enum rc block_load(const struct part *part, uint32_t row, struct record_reader *reader)
{
    if (reader->rows == &part->rows && row >= reader->first_row && row < reader->end_row)
        return RC_OK;
    struct block_disk block;
    const void *p;
    enum rc rc = part_block(part, block_of_row(part, row), &block, &p);
    if (rc != RC_OK)
        return RC_CORRUPT;
    if (row < block.first_row || row >= block.first_row + block.rows)
        return RC_CORRUPT;
    if (!reader->decompressor)
        reader->decompressor = ZSTD_createDCtx();
    free(reader->block);
    reader->rows = NULL;
    reader->block = malloc(MAX(block.raw_bytes, 1));
    if (!reader->block || !reader->decompressor)
        return RC_LIMIT;
    size_t n =
        ZSTD_decompressDCtx(reader->decompressor, reader->block, block.raw_bytes, p, block.bytes);
    if (ZSTD_isError(n) || n != block.raw_bytes)
        return RC_CORRUPT;
    reader->rows = &part->rows;
    reader->block_bytes = n;
    reader->first_row = block.first_row;
    reader->end_row = block.first_row + block.rows;
    return RC_OK;
}

static enum rc part_record(const struct rowset *rows, uint32_t row, struct record_reader *reader,
                           struct str *bytes)
{
    enum rc rc = block_load(part_const(rows), row, reader);
    uint64_t offset = 0;
    int64_t n = 0;
    for (uint32_t at = reader->first_row; at <= row && rc == RC_OK; at++) {
        offset += (uint64_t)n;
        rc = rowset_value(rows, COLUMN_RECORD_BYTES, at, &n);
        if (rc == RC_OK && (n < 0 || n > BLOCK_BYTES_MAX))
            rc = RC_CORRUPT;
    }
    if (rc != RC_OK)
        return rc;
    if (offset + (uint64_t)n > reader->block_bytes)
        return RC_CORRUPT;
    *bytes = str_make((const char *)reader->block + offset, (size_t)n);
    return n > 0 ? RC_OK : RC_NOT_FOUND;
}

/* ---- life ---- */

static void part_free(struct rowset *rows)
{
    struct part *part = CONTAINER_OF(rows, struct part, rows);
    segment_close(part->segment);
    free(part);
}

static const struct rowset_calls part_calls = {
    .view = part_view,
    .text_view = part_text_view,
    .texts = part_texts,
    .text = part_text,
    .ids = part_ids,
    .may_hold_id = part_may_hold_id,
    .record = part_record,
};

struct part *part_of(struct rowset *rows)
{
    return rows->calls == &part_calls ? CONTAINER_OF(rows, struct part, rows) : NULL;
}

static enum rc part_attach(struct segment *segment, uint64_t id, struct part **out, struct err *err)
{
    struct part *part = xcalloc(1, sizeof(*part));
    part->segment = segment;
    part->id = id;
    struct str meta;
    enum rc rc = segment_section(segment, SECTION_META, 0, &meta);
    if (rc == RC_OK && meta.n != sizeof(part->meta))
        rc = RC_CORRUPT;
    if (rc == RC_OK) {
        memcpy(&part->meta, meta.p, sizeof(part->meta));
        rc = segment_section(segment, SECTION_BLOCKS, 0, &part->blocks);
    }
    if (rc == RC_OK)
        rc = segment_section_raw(segment, SECTION_BODY, 0, &part->body);
    if (rc == RC_OK &&
        (part->meta.granule_rows != GRANULE_ROWS || part->meta.rows == 0 ||
         part->meta.rows > PART_ROWS_MAX || part->blocks.n < sizeof(struct block_disk)))
        rc = RC_CORRUPT;
    if (rc != RC_OK) {
        err_set(err, ERR_INTERNAL, "part-%016" PRIx64 " is damaged", id);
        segment_close(segment);
        free(part);
        return RC_CORRUPT;
    }
    part->rows.calls = &part_calls;
    part->rows.free = part_free;
    part->rows.references = 1;
    part->rows.row_count = part->meta.rows;
    part->rows.first_seq = part->meta.first_seq;
    part->rows.last_seq = part->meta.last_seq;
    part->rows.started_min_ns = part->meta.started_min_ns;
    part->rows.started_max_ns = part->meta.started_max_ns;
    *out = part;
    return RC_OK;
}

enum rc part_open(struct file_system *fs, const char *directory, uint64_t id, struct part **out,
                  struct err *err)
{
    char name[64], path[4096];
    part_file_name(id, name);
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    struct segment *segment;
    enum rc rc = segment_open(fs, path, PART_KIND, PART_VERSION, &segment, err);
    return rc == RC_OK ? part_attach(segment, id, out, err) : rc;
}

enum rc part_open_bytes(struct str bytes, struct part **out, struct err *err)
{
    struct segment *segment;
    enum rc rc = segment_open_bytes(bytes, PART_KIND, PART_VERSION, &segment, err);
    return rc == RC_OK ? part_attach(segment, 0, out, err) : rc;
}

/* ---- rows deleted ---- */

static size_t deletes_bytes(const struct part *part)
{
    return (size_t)granule_count(part->meta.rows) * GRANULE_ROWS / 8;
}

enum rc part_deletes_store(struct file_system *fs, const char *directory, const struct part *part,
                           uint64_t generation, struct err *err)
{
    const atomic_uint_least64_t *deleted = atomic_load(&part->rows.deleted);
    ASSERT(deleted);
    char name[64];
    part_deletes_name(part->id, generation, name);
    struct str content = str_make((const void *)deleted, deletes_bytes(part));
    return manifest_store(fs, directory, name, DELETES_KIND, PART_VERSION, content, err);
}

enum rc part_deletes_load(struct file_system *fs, const char *directory, struct part *part,
                          uint64_t generation, struct err *err)
{
    char name[64];
    part_deletes_name(part->id, generation, name);
    struct buf buf;
    buf_init(&buf, deletes_bytes(part));
    enum rc rc = manifest_load(fs, directory, name, DELETES_KIND, PART_VERSION, &buf, err);
    if (rc == RC_OK && buf_len(&buf) != deletes_bytes(part))
        rc = RC_CORRUPT;
    for (uint32_t row = 0; row < part->meta.rows && rc == RC_OK; row++)
        if (buf_str(&buf).p[row / 8] >> row % 8 & 1)
            rowset_delete(&part->rows, row);
    buf_fini(&buf);
    return rc;
}
