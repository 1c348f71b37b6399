/* Reads a words file. The sections that every query needs are verified at opening, the postings
 * piece by piece. Offsets are checked where they are used. */
#include "vector/words_segment.h"
#include "vector/words_layout.h"
#include <stdlib.h>

struct words_segment {
    struct segment *segment;
    size_t fields;
    uint32_t rows;
    struct words_stats stats;
    const uint16_t *lengths[WORDS_FIELDS_MAX];
    const struct words_term *terms;
    const struct words_block *blocks;
    const uint32_t *slots;
    size_t term_count, block_count, slot_count;
    struct str texts;
    struct checked data, positions;
};

static enum rc load_meta(struct words_segment *w, struct str language)
{
    struct str s;
    struct words_meta meta;
    if (segment_section(w->segment, WORDS_TAG_META, 0, &s) != RC_OK || s.n != sizeof(meta))
        return RC_CORRUPT;
    memcpy(&meta, s.p, sizeof(meta));
    if (meta.analysis != WORDS_ANALYSIS_VERSION || meta.fields != w->fields ||
        meta.language != hash_xxh3(language.p, language.n))
        return RC_INVALID;
    w->stats = meta.stats;
    return meta.rows == w->rows ? RC_OK : RC_CORRUPT;
}

/* An array section; `unit` bytes an item. */
static enum rc load_array(const struct words_segment *w, uint32_t tag, uint32_t index, size_t unit,
                          const void **out, size_t *count)
{
    struct str s;
    enum rc rc = segment_section(w->segment, tag, index, &s);
    if (rc != RC_OK || s.n % unit != 0)
        return RC_CORRUPT;
    *out = s.p;
    *count = s.n / unit;
    return RC_OK;
}

static enum rc load_sections(struct words_segment *w)
{
    enum rc rc = RC_OK;
    size_t n;
    for (size_t f = 0; rc == RC_OK && f < w->fields; f++) {
        rc = load_array(w, WORDS_TAG_LENGTHS, (uint32_t)f, sizeof(uint16_t),
                        (const void **)&w->lengths[f], &n);
        if (rc == RC_OK && n != w->rows)
            rc = RC_CORRUPT;
    }
    if (rc == RC_OK)
        rc = load_array(w, WORDS_TAG_TERMS, 0, sizeof(*w->terms), (const void **)&w->terms,
                        &w->term_count);
    if (rc == RC_OK)
        rc = load_array(w, WORDS_TAG_BLOCKS, 0, sizeof(*w->blocks), (const void **)&w->blocks,
                        &w->block_count);
    if (rc == RC_OK)
        rc = load_array(w, WORDS_TAG_SLOTS, 0, sizeof(*w->slots), (const void **)&w->slots,
                        &w->slot_count);
    if (rc == RC_OK &&
        (w->slot_count <= w->term_count || (w->slot_count & (w->slot_count - 1)) != 0))
        rc = RC_CORRUPT;
    if (rc == RC_OK)
        rc = segment_section(w->segment, WORDS_TAG_TEXTS, 0, &w->texts);
    if (rc == RC_OK)
        rc = checked_open(&w->data, w->segment, WORDS_TAG_DATA);
    return rc == RC_OK ? checked_open(&w->positions, w->segment, WORDS_TAG_POSITIONS) : rc;
}

enum rc words_segment_open(struct segment *segment, size_t fields, uint32_t rows,
                           struct str language, struct words_segment **out)
{
    struct words_segment *w = xcalloc(1, sizeof(*w));
    w->segment = segment;
    w->fields = fields;
    w->rows = rows;
    enum rc rc = load_meta(w, language);
    if (rc == RC_OK)
        rc = load_sections(w);
    if (rc == RC_OK) {
        *out = w;
        return RC_OK;
    }
    words_segment_close(w);
    return rc == RC_INVALID ? RC_INVALID : RC_CORRUPT;
}

void words_segment_close(struct words_segment *w)
{
    if (!w)
        return;
    checked_close(&w->data);
    checked_close(&w->positions);
    segment_close(w->segment);
    free(w);
}

int64_t words_segment_bytes(const struct words_segment *w) { return segment_bytes(w->segment); }

void words_segment_stats(const struct words_segment *w, struct words_stats *stats)
{
    *stats = w->stats;
}

const uint16_t *words_segment_lengths(const struct words_segment *w, size_t field)
{
    return w->lengths[field];
}

/* ---- terms ---- */

static struct str text_of(const struct words_segment *w, const struct words_term *term)
{
    return str_slice(w->texts, term->text_at, (size_t)term->text_at + term->text_n);
}

const struct words_term *words_segment_find(const struct words_segment *w, size_t field,
                                            struct str text)
{
    size_t mask = w->slot_count - 1, i = words_term_hash(field, text) & mask;
    for (size_t tries = 0; tries < w->slot_count && w->slots[i]; tries++, i = (i + 1) & mask) {
        if (w->slots[i] > w->term_count)
            return NULL;
        const struct words_term *term = &w->terms[w->slots[i] - 1];
        if (term->field == field && str_eq(text_of(w, term), text))
            return term;
    }
    return NULL;
}

/* The first term at or behind (field, text). */
static size_t lower_bound(const struct words_segment *w, size_t field, struct str text)
{
    size_t low = 0, high = w->term_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct words_term *term = &w->terms[middle];
        bool before =
            term->field != field ? term->field < field : str_cmp(text_of(w, term), text) < 0;
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct words_term *words_segment_prefix(const struct words_segment *w, size_t field,
                                              struct str prefix, size_t *count)
{
    size_t first = lower_bound(w, field, prefix), end = first;
    while (end < w->term_count && w->terms[end].field == field &&
           str_starts(text_of(w, &w->terms[end]), prefix))
        end++;
    *count = end - first;
    return w->terms + first;
}

/* ---- postings ---- */

const struct words_block *words_segment_blocks(const struct words_segment *w,
                                               const struct words_term *term)
{
    size_t count = words_term_blocks(term);
    if (count == 0 || term->block_at > w->block_count || count > w->block_count - term->block_at)
        return NULL;
    return w->blocks + term->block_at;
}

uint32_t words_segment_load(const struct words_segment *w, const struct words_term *term,
                            uint32_t block, uint32_t *rows, uint32_t *frequencies)
{
    const struct words_block *b = &w->blocks[term->block_at + block];
    uint32_t n = MIN((uint32_t)WORDS_BLOCK_ROWS, term->rows - block * WORDS_BLOCK_ROWS);
    uint32_t base = block ? b[-1].last_row + 1 : 0;
    if (b->row_bits > 32 || b->frequency_bits > 16)
        return 0;
    size_t row_bytes = words_pack_bytes(n, b->row_bits);
    size_t bytes = row_bytes + words_pack_bytes(n, b->frequency_bits) + WORDS_PACK_SLACK;
    const uint8_t *at = (const uint8_t *)checked_get(&w->data, term->data_at + b->data_at, bytes);
    if (!at)
        return 0;
    words_unpack(at, n, b->row_bits, rows);
    uint32_t greatest = words_unpack_distances(rows, n, base);
    words_unpack(at + row_bytes, n, b->frequency_bits, frequencies);
    for (uint32_t i = 0; i < n; i++)
        frequencies[i]++;
    /* The checksums make a wrong row unlikely, not impossible: lengths are indexed by it. */
    return greatest == b->last_row && greatest < w->rows ? n : 0;
}

const uint8_t *words_segment_positions(const struct words_segment *w, const struct words_term *term,
                                       uint32_t block, const uint8_t **end)
{
    const struct words_block *b = &w->blocks[term->block_at + block];
    bool last = block + 1 == words_term_blocks(term);
    uint64_t from = term->position_at + b->position_at, to;
    if (!last)
        to = term->position_at + b[1].position_at;
    else if (term + 1 < w->terms + w->term_count)
        to = term[1].position_at;
    else
        to = w->positions.bytes.n;
    const char *at = to >= from ? checked_get(&w->positions, from, to - from) : NULL;
    *end = (const uint8_t *)at + (at ? to - from : 0);
    return (const uint8_t *)at;
}
