/* Writing parts: one column at a time over all inputs, so that sealing a tail and merging parts are
 * one thing and need memory for one column. Runs on the keeper's thread. */
#include "base/hash.h"
#include "trace/part.h"
#include "trace/part_format.h"
#include "trace/part_read.h"
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

/* Level 3 takes 1.4 × the time of level 1 and saves a sixth of the bytes (docs/design/trace.md). */
#define ZSTD_LEVEL 3

struct builder {
    struct segment_writer *writer;
    const struct part_input *inputs;
    size_t input_count;
    uint32_t rows;
    int64_t *values; /* one column, or lengths */
    struct zone_disk *zones;
    struct part_built *built;
    bool salvage;
    /* bodies */
    struct block_disk *blocks;
    size_t block_count, block_capacity;
    uint64_t body_offset, raw_bytes;
    char *raw, *compressed;
    size_t raw_capacity, compressed_capacity;
    struct block_disk open; /* the block being filled */
    ZSTD_CCtx *zstd;
};

void part_input_init(struct part_input *input, struct rowset *rows, uint32_t count)
{
    *input = (struct part_input){.rows = rows, .count = count, .kept_count = count};
    const atomic_uint_least64_t *deleted = atomic_load(&rows->deleted);
    if (!deleted)
        return;
    size_t words = (count + 63) / 64;
    input->kept = xcalloc(MAX(words, 1), sizeof(*input->kept));
    input->kept_count = 0;
    for (size_t w = 0; w < words; w++) {
        uint64_t all =
            w + 1 < words || count % 64 == 0 ? ~(uint64_t)0 : ((uint64_t)1 << count % 64) - 1;
        input->kept[w] = all & ~atomic_load(&deleted[w]);
        input->kept_count += (uint32_t)__builtin_popcountll(input->kept[w]);
    }
    if (input->kept_count == count) {
        free(input->kept);
        input->kept = NULL;
    }
}

void part_input_fini(struct part_input *input) { free(input->kept); }

static bool input_keeps(const struct part_input *input, uint32_t row)
{
    return !input->kept || (input->kept[row / 64] >> row % 64 & 1);
}

/* ---- integer columns ---- */

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The narrowest way to write the values of a column. */
static struct column_disk column_choose(const int64_t *values, uint32_t rows)
{
    int64_t min = INT64_MAX, max = INT64_MIN;
    for (uint32_t i = 0; i < rows; i++) {
        min = MIN(min, values[i]);
        max = MAX(max, values[i]);
    }
    uint64_t span = (uint64_t)max - (uint64_t)min, scale = 0;
    for (uint32_t i = 0; i < rows && scale != 1; i++)
        scale = common_divisor((uint64_t)values[i] - (uint64_t)min, scale);
    scale = MAX(scale, 1);
    uint64_t codes = span / scale;
    struct column_disk column = {.rows = rows, .base = min, .scale = scale};
    column.width = codes == 0            ? 0
                   : codes <= UINT8_MAX  ? 1
                   : codes <= UINT16_MAX ? 2
                   : codes <= UINT32_MAX ? 4
                                         : 8;
    if (column.width == 8) {
        column.base = 0;
        column.scale = 1;
    }
    return column;
}

static void zones_make(struct builder *b)
{
    for (uint32_t g = 0; g < granule_count(b->rows); g++) {
        struct zone_disk zone = {INT64_MAX, INT64_MIN};
        const int64_t *values = b->values + (size_t)g * GRANULE_ROWS;
        for (uint32_t i = 0; i < granule_rows(b->rows, g); i++) {
            zone.min = MIN(zone.min, values[i]);
            zone.max = MAX(zone.max, values[i]);
        }
        b->zones[g] = zone;
    }
}

/* Turns values into codes, in place (a code is never behind its value), and returns their bytes. */
static size_t codes_make(int64_t *values, const struct column_disk *column)
{
    char *to = (char *)values;
    if (column->width == 8)
        return (size_t)column->rows * 8;
    for (uint32_t i = 0; i < column->rows; i++, to += column->width) {
        uint64_t code = ((uint64_t)values[i] - (uint64_t)column->base) / column->scale;
        memcpy(to, &code, column->width); /* little-endian */
    }
    return (size_t)column->rows * column->width;
}

/* Writes b->values as a column and uses them up. */
static enum rc write_column(struct builder *b, uint32_t tag, uint32_t index)
{
    struct column_disk column = column_choose(b->values, b->rows);
    zones_make(b);
    size_t bytes = codes_make(b->values, &column);
    segment_begin(b->writer, tag, index);
    enum rc rc = segment_write(b->writer, &column, sizeof(column));
    if (rc == RC_OK)
        rc = segment_write(b->writer, b->zones, granule_count(b->rows) * sizeof(*b->zones));
    return rc == RC_OK ? segment_write(b->writer, b->values, bytes) : rc;
}

static enum rc gather_ints(struct builder *b, enum column column)
{
    uint32_t to = 0;
    for (size_t k = 0; k < b->input_count; k++) {
        const struct part_input *input = &b->inputs[k];
        struct column_view view = {0};
        for (uint32_t row = 0; row < input->count; row++) {
            if (row % GRANULE_ROWS == 0) {
                enum rc rc =
                    input->rows->calls->view(input->rows, column, row / GRANULE_ROWS, &view);
                if (rc != RC_OK)
                    return rc;
            }
            if (input_keeps(input, row))
                b->values[to++] = view_value(&view, row % GRANULE_ROWS);
        }
    }
    ASSERT(to == b->rows);
    return RC_OK;
}

static enum rc write_ints(struct builder *b)
{
    enum rc rc = RC_OK;
    for (int c = 0; c < COLUMN_INT_COUNT && rc == RC_OK; c++) {
        if (c == COLUMN_RECORD_BYTES)
            continue; /* written with the bodies, which decide it */
        rc = gather_ints(b, (enum column)c);
        if (rc == RC_OK)
            rc = write_column(b, SECTION_INT, (uint32_t)c);
    }
    return rc;
}

/* ---- text columns ---- */

/* A text of one input's dictionary that a kept row uses. */
struct used_text {
    struct str text;
    uint32_t *code; /* where its code in the new dictionary goes */
};

static int compare_used(const void *a, const void *b)
{
    return str_cmp(((const struct used_text *)a)->text, ((const struct used_text *)b)->text);
}

#define CODE_UNUSED UINT32_MAX

/* Marks in `map` (by old code) what the kept rows use; appends those texts to *used. */
static enum rc collect_texts(const struct part_input *input, enum text_column column, uint32_t *map,
                             uint32_t count, struct used_text *used, size_t *used_count)
{
    const struct rowset_calls *calls = input->rows->calls;
    struct column_view view = {0};
    for (uint32_t row = 0; row < input->count; row++) {
        if (row % GRANULE_ROWS == 0) {
            enum rc rc = calls->text_view(input->rows, column, row / GRANULE_ROWS, &view);
            if (rc != RC_OK)
                return rc;
        }
        if (!input_keeps(input, row))
            continue;
        uint32_t code = (uint32_t)view_code(&view, row % GRANULE_ROWS);
        ASSERT(code < count);
        if (map[code] == CODE_UNUSED) {
            map[code] = 0;
            used[(*used_count)++] =
                (struct used_text){calls->text(input->rows, column, code), &map[code]};
        }
    }
    return RC_OK;
}

static enum rc write_dictionary(struct builder *b, enum text_column column, struct used_text *used,
                                size_t count)
{
    if (count > 1)
        qsort(used, count, sizeof(*used), compare_used);
    uint32_t *offsets = xcalloc(count + 2, sizeof(*offsets));
    uint32_t texts = 0;
    for (size_t i = 0; i < count; i++) {
        bool new = i == 0 || !str_eq(used[i].text, used[i - 1].text);
        if (new) {
            texts++;
            offsets[texts] = offsets[texts - 1] + (uint32_t)used[i].text.n;
        }
        *used[i].code = texts - 1;
    }
    segment_begin(b->writer, SECTION_DICT, column);
    enum rc rc = segment_write(b->writer, &texts, sizeof(texts));
    if (rc == RC_OK)
        rc = segment_write(b->writer, offsets, ((size_t)texts + 1) * sizeof(*offsets));
    for (size_t i = 0; i < count && rc == RC_OK; i++)
        if (i == 0 || !str_eq(used[i].text, used[i - 1].text))
            rc = segment_write(b->writer, used[i].text.p, used[i].text.n);
    free(offsets);
    return rc;
}

static enum rc gather_codes(struct builder *b, enum text_column column, uint32_t **maps)
{
    uint32_t to = 0;
    for (size_t k = 0; k < b->input_count; k++) {
        const struct part_input *input = &b->inputs[k];
        struct column_view view = {0};
        for (uint32_t row = 0; row < input->count; row++) {
            if (row % GRANULE_ROWS == 0) {
                enum rc rc =
                    input->rows->calls->text_view(input->rows, column, row / GRANULE_ROWS, &view);
                if (rc != RC_OK)
                    return rc;
            }
            if (input_keeps(input, row))
                b->values[to++] = maps[k][view_code(&view, row % GRANULE_ROWS)];
        }
    }
    return RC_OK;
}

static enum rc write_text(struct builder *b, enum text_column column)
{
    uint32_t **maps = xcalloc(b->input_count, sizeof(*maps));
    uint32_t *counts = xcalloc(b->input_count, sizeof(*counts));
    size_t total = 0, used_count = 0;
    enum rc rc = RC_OK;
    for (size_t k = 0; k < b->input_count && rc == RC_OK; k++) {
        bool sorted;
        rc = b->inputs[k].rows->calls->texts(b->inputs[k].rows, column, &counts[k], &sorted);
        if (rc != RC_OK)
            break;
        maps[k] = xmalloc((size_t)counts[k] * sizeof(**maps) + 1);
        memset(maps[k], 0xff, (size_t)counts[k] * sizeof(**maps));
        total += counts[k];
    }
    struct used_text *used = xmalloc(total * sizeof(*used) + 1);
    for (size_t k = 0; k < b->input_count && rc == RC_OK; k++)
        rc = collect_texts(&b->inputs[k], column, maps[k], counts[k], used, &used_count);
    if (rc == RC_OK)
        rc = write_dictionary(b, column, used, used_count);
    if (rc == RC_OK)
        rc = gather_codes(b, column, maps);
    if (rc == RC_OK)
        rc = write_column(b, SECTION_TEXT, column);
    free(used);
    for (size_t k = 0; k < b->input_count; k++)
        free(maps[k]);
    free(maps);
    free(counts);
    return rc;
}

/* ---- ids ---- */

static enum rc write_ids(struct builder *b)
{
    uint32_t to = 0;
    struct zone_disk zone = {0};
    enum rc rc = RC_OK;
    segment_begin(b->writer, SECTION_IDS, 0);
    for (size_t k = 0; k < b->input_count; k++) {
        const struct part_input *input = &b->inputs[k];
        const uint8_t(*ids)[16] = NULL;
        for (uint32_t row = 0; row < input->count && rc == RC_OK; row++) {
            if (row % GRANULE_ROWS == 0)
                rc = input->rows->calls->ids(input->rows, row / GRANULE_ROWS, &ids);
            if (rc != RC_OK || !input_keeps(input, row))
                continue;
            const uint8_t *id = ids[row % GRANULE_ROWS];
            uint64_t prefix = id_prefix(id);
            bool first = to % GRANULE_ROWS == 0;
            zone.min = first ? (int64_t)prefix : (int64_t)MIN((uint64_t)zone.min, prefix);
            zone.max = first ? (int64_t)prefix : (int64_t)MAX((uint64_t)zone.max, prefix);
            b->zones[to++ / GRANULE_ROWS] = zone;
            rc = segment_write(b->writer, id, 16);
        }
    }
    return rc == RC_OK ? segment_write(b->writer, b->zones, granule_count(to) * sizeof(zone)) : rc;
}

/* ---- bodies ---- */

static enum rc add_block(struct builder *b, const struct block_disk *block, const void *p)
{
    if (b->block_count == b->block_capacity) {
        b->block_capacity = MAX(64, b->block_capacity * 2);
        b->blocks = xrealloc(b->blocks, b->block_capacity * sizeof(*b->blocks));
    }
    b->blocks[b->block_count] = *block;
    b->blocks[b->block_count++].offset = b->body_offset;
    b->body_offset += block->bytes;
    return segment_write(b->writer, p, block->bytes);
}

static enum rc finish_block(struct builder *b)
{
    struct block_disk *open = &b->open;
    if (open->rows == 0)
        return RC_OK;
    size_t bound = ZSTD_compressBound(open->raw_bytes);
    if (bound > b->compressed_capacity) {
        b->compressed_capacity = bound;
        b->compressed = xrealloc(b->compressed, bound);
    }
    size_t n = ZSTD_compress2(b->zstd, b->compressed, bound, b->raw, open->raw_bytes);
    if (ZSTD_isError(n))
        return RC_BUG;
    open->bytes = (uint32_t)n;
    open->hash = hash_xxh3(b->compressed, n);
    enum rc rc = add_block(b, open, b->compressed);
    *open = (struct block_disk){.first_row = open->first_row + open->rows};
    return rc;
}

static enum rc add_record(struct builder *b, struct str bytes)
{
    enum rc rc = RC_OK;
    if (b->open.raw_bytes + bytes.n > BLOCK_BYTES_TARGET)
        rc = finish_block(b);
    if (rc != RC_OK)
        return rc;
    if (b->open.raw_bytes + bytes.n > b->raw_capacity) {
        b->raw_capacity = MAX(BLOCK_BYTES_TARGET, b->open.raw_bytes + bytes.n);
        b->raw = xrealloc(b->raw, b->raw_capacity);
    }
    if (bytes.n > 0)
        memcpy(b->raw + b->open.raw_bytes, bytes.p, bytes.n);
    b->open.raw_bytes += (uint32_t)bytes.n;
    b->values[b->open.first_row + b->open.rows++] = (int64_t)bytes.n;
    b->raw_bytes += bytes.n;
    return RC_OK;
}

/* Compressed blocks of a part that keeps all its rows go over as they are. */
static enum rc copy_blocks(struct builder *b, const struct part_input *input)
{
    enum rc rc = finish_block(b);
    uint32_t first = b->open.first_row;
    for (uint32_t row = 0; row < input->count && rc == RC_OK; row++) {
        rc = rowset_value(input->rows, COLUMN_RECORD_BYTES, row, &b->values[first + row]);
        b->raw_bytes += (uint64_t)b->values[first + row];
    }
    struct part *part = part_of(input->rows);
    for (uint32_t i = 0; rc == RC_OK; i++) {
        struct block_disk block;
        const void *p;
        rc = part_block(part, i, &block, &p);
        if (rc == RC_END)
            break;
        block.first_row += first;
        if (rc == RC_OK)
            rc = add_block(b, &block, p);
    }
    b->open.first_row = first + input->count;
    return rc == RC_END ? RC_OK : rc;
}

static enum rc copy_records(struct builder *b, const struct part_input *input)
{
    struct record_reader reader;
    record_reader_init(&reader);
    enum rc rc = RC_OK;
    for (uint32_t row = 0; row < input->count && rc == RC_OK; row++) {
        if (!input_keeps(input, row))
            continue;
        struct str bytes = STR_EMPTY;
        rc = input->rows->calls->record(input->rows, row, &reader, &bytes);
        if (rc == RC_CORRUPT || (rc == RC_IO && b->salvage)) {
            b->built->records_unreadable++;
            rc = RC_NOT_FOUND;
        }
        if (rc == RC_NOT_FOUND) /* its columns are what is left of it */
            bytes = STR_EMPTY;
        else if (rc != RC_OK)
            break;
        rc = add_record(b, bytes);
    }
    record_reader_fini(&reader);
    return rc;
}

static enum rc write_bodies(struct builder *b)
{
    enum rc rc = RC_OK;
    segment_begin(b->writer, SECTION_BODY, 0);
    for (size_t k = 0; k < b->input_count && rc == RC_OK; k++) {
        const struct part_input *input = &b->inputs[k];
        rc = part_of(input->rows) && !input->kept ? copy_blocks(b, input) : copy_records(b, input);
    }
    if (rc == RC_OK)
        rc = finish_block(b);
    if (rc != RC_OK)
        return rc;
    ASSERT(b->open.first_row == b->rows);
    rc = write_column(b, SECTION_INT, COLUMN_RECORD_BYTES);
    segment_begin(b->writer, SECTION_BLOCKS, 0);
    return rc == RC_OK ? segment_write(b->writer, b->blocks, b->block_count * sizeof(*b->blocks))
                       : rc;
}

/* ---- all together ---- */

static enum rc write_meta(struct builder *b)
{
    struct part_meta_disk meta = {
        .rows = b->rows, .granule_rows = GRANULE_ROWS, .raw_bytes = b->raw_bytes};
    enum rc rc = gather_ints(b, COLUMN_SEQ);
    if (rc != RC_OK)
        return rc;
    meta.first_seq = (uint64_t)b->values[0];
    meta.last_seq = (uint64_t)b->values[b->rows - 1];
    rc = gather_ints(b, COLUMN_STARTED_NS);
    if (rc != RC_OK)
        return rc;
    meta.started_min_ns = INT64_MAX;
    meta.started_max_ns = INT64_MIN;
    for (uint32_t i = 0; i < b->rows; i++) {
        meta.started_min_ns = MIN(meta.started_min_ns, b->values[i]);
        meta.started_max_ns = MAX(meta.started_max_ns, b->values[i]);
    }
    segment_begin(b->writer, SECTION_META, 0);
    return segment_write(b->writer, &meta, sizeof(meta));
}

static enum rc write_sections(struct builder *b)
{
    enum rc rc = write_bodies(b);
    if (rc == RC_OK)
        rc = write_ints(b);
    for (int c = 0; c < TEXT_COUNT && rc == RC_OK; c++)
        rc = write_text(b, (enum text_column)c);
    if (rc == RC_OK)
        rc = write_ids(b);
    return rc == RC_OK ? write_meta(b) : rc;
}

enum rc part_build(struct file_system *fs, const char *directory, uint64_t id,
                   const struct part_input *inputs, size_t count, bool salvage,
                   struct part_built *built, struct err *err)
{
    *built = (struct part_built){0};
    struct builder b = {.inputs = inputs, .input_count = count, .built = built, .salvage = salvage};
    for (size_t k = 0; k < count; k++)
        b.rows += inputs[k].kept_count;
    built->rows = b.rows;
    if (b.rows == 0)
        return RC_OK;
    char name[64], path[4096];
    part_file_name(id, name);
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    enum rc rc = segment_create(fs, path, PART_KIND, PART_VERSION, &b.writer, err);
    if (rc != RC_OK)
        return rc;
    b.values = xmalloc((size_t)b.rows * sizeof(*b.values));
    b.zones = xmalloc((size_t)granule_count(b.rows) * sizeof(*b.zones));
    b.zstd = ZSTD_createCCtx();
    ASSERT(b.zstd);
    ZSTD_CCtx_setParameter(b.zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    rc = write_sections(&b);
    ZSTD_freeCCtx(b.zstd);
    free(b.values);
    free(b.zones);
    free(b.blocks);
    free(b.raw);
    free(b.compressed);
    if (rc == RC_OK)
        rc = segment_seal(b.writer, &built->bytes);
    else
        segment_abandon(b.writer);
    if (rc != RC_OK)
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "%s: %s", path, rc_name(rc));
    return rc;
}
