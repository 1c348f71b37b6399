/* Makes the words file of a segment from the growing index of its rows: terms sorted, postings
 * packed into blocks. */
#include "vector/words_segment.h"
#include "vector/words_layout.h"
#include "base/hash.h"
#include "vector/varint.h"
#include <stdlib.h>

struct writing {
    struct segment_writer *segment;
    const struct words_memory *memory;
    size_t fields;
    const struct words_memory_term **order; /* by field and text */
    struct words_term *terms;
    size_t count;
    struct buf bytes;           /* of one term's blocks or positions */
    struct words_block *blocks; /* of all terms */
    size_t block_count, block_capacity;
};

static int by_field_and_text(const void *a, const void *b)
{
    const struct words_memory_term *x = *(const struct words_memory_term *const *)a;
    const struct words_memory_term *y = *(const struct words_memory_term *const *)b;
    if (x->field != y->field)
        return x->field < y->field ? -1 : 1;
    return str_cmp(str_make(x->text, x->text_n), str_make(y->text, y->text_n));
}

/* ---- bounds ---- */

static int by_frequency(const void *a, const void *b)
{
    const struct words_bound *x = a, *y = b;
    if (x->frequency != y->frequency)
        return x->frequency > y->frequency ? -1 : 1;
    return (x->length > y->length) - (x->length < y->length);
}

/* The staircase of pairs that none beats, joined where that loses least until four are left. */
static void make_bounds(struct words_block *block, struct words_bound *pairs, size_t n)
{
    size_t kept = 0;
    qsort(pairs, n, sizeof(*pairs), by_frequency);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || pairs[i].length < pairs[kept - 1].length)
            pairs[kept++] = pairs[i];
    while (kept > WORDS_BOUNDS_MAX) {
        size_t best = 0;
        uint64_t least = UINT64_MAX;
        for (size_t i = 0; i + 1 < kept; i++) {
            uint64_t loss = (uint64_t)(pairs[i].frequency - pairs[i + 1].frequency) *
                            (uint64_t)(pairs[i].length - pairs[i + 1].length);
            if (loss < least) {
                least = loss;
                best = i;
            }
        }
        pairs[best].length = pairs[best + 1].length;
        memmove(&pairs[best + 1], &pairs[best + 2], (kept - best - 2) * sizeof(*pairs));
        kept--;
    }
    block->bound_count = (uint8_t)kept;
    memcpy(block->bounds, pairs, kept * sizeof(*pairs));
}

/* ---- blocks ---- */

static struct words_block *add_block(struct writing *w)
{
    if (w->block_count == w->block_capacity) {
        w->block_capacity = MAX((size_t)1024, w->block_capacity * 2);
        w->blocks = xrealloc(w->blocks, w->block_capacity * sizeof(*w->blocks));
    }
    struct words_block *block = &w->blocks[w->block_count++];
    memset(block, 0, sizeof(*block));
    return block;
}

static enum rc pack_into(struct buf *out, const uint32_t *values, size_t n, uint8_t *bits)
{
    char *p;
    *bits = (uint8_t)words_pack_bits(values, n);
    size_t bytes = words_pack_bytes(n, *bits);
    enum rc rc = buf_reserve(out, bytes + WORDS_PACK_SLACK, &p);
    if (rc != RC_OK)
        return rc;
    words_pack(values, n, *bits, (uint8_t *)p);
    buf_added(out, bytes);
    return RC_OK;
}

static enum rc write_block(struct writing *w, size_t field, const uint32_t *rows,
                           const uint32_t *frequencies, size_t n, uint32_t base,
                           uint32_t position_at)
{
    const uint16_t *lengths = words_memory_lengths(w->memory, field);
    struct words_block *block = add_block(w);
    struct words_bound pairs[WORDS_BLOCK_ROWS];
    uint32_t values[WORDS_BLOCK_ROWS];
    block->last_row = rows[n - 1];
    block->data_at = (uint32_t)buf_len(&w->bytes);
    block->position_at = position_at;
    for (size_t i = 0; i < n; i++)
        pairs[i] = (struct words_bound){(uint16_t)frequencies[i], lengths[rows[i]]};
    make_bounds(block, pairs, n);
    words_pack_distances(rows, n, base, values);
    enum rc rc = pack_into(&w->bytes, values, n, &block->row_bits);
    for (size_t i = 0; i < n; i++)
        values[i] = frequencies[i] - 1;
    return rc == RC_OK ? pack_into(&w->bytes, values, n, &block->frequency_bits) : rc;
}

static uint32_t kept_frequency(const struct words_memory_cursor *cursor)
{
    return MIN(cursor->frequency, (uint32_t)WORDS_FREQUENCY_MAX);
}

/* Where the positions of so many end. */
static const uint8_t *skip_positions(const uint8_t *at, const uint8_t *end, uint32_t count)
{
    for (; count > 0 && at < end; at++)
        count -= *at < 0x80;
    return at;
}

static enum rc write_postings(struct writing *w, struct checked_writer *out, size_t t)
{
    const struct words_memory_term *source = w->order[t];
    struct words_term *term = &w->terms[t];
    struct words_memory_cursor cursor;
    uint32_t rows[WORDS_BLOCK_ROWS], frequencies[WORDS_BLOCK_ROWS];
    uint32_t n = 0, base = 0;
    uint64_t positions = 0, block_positions = 0;
    enum rc rc = RC_OK;
    buf_clear(&w->bytes);
    term->block_at = (uint32_t)w->block_count;
    term->data_at = out->bytes;
    words_memory_start(source, &cursor);
    while (rc == RC_OK && words_memory_next(&cursor)) {
        rows[n] = cursor.row;
        frequencies[n] = kept_frequency(&cursor);
        positions += (uint64_t)(skip_positions(cursor.positions, cursor.end, frequencies[n]) -
                                cursor.positions);
        if (++n < WORDS_BLOCK_ROWS)
            continue;
        rc = write_block(w, source->field, rows, frequencies, n, base, (uint32_t)block_positions);
        base = rows[n - 1] + 1;
        block_positions = positions;
        n = 0;
    }
    if (rc == RC_OK && n > 0)
        rc = write_block(w, source->field, rows, frequencies, n, base, (uint32_t)block_positions);
    if (rc == RC_OK && positions > UINT32_MAX)
        rc = RC_LIMIT;
    return rc == RC_OK ? checked_write(out, buf_str(&w->bytes).p, buf_len(&w->bytes)) : rc;
}

static enum rc write_positions(struct writing *w, struct checked_writer *out, size_t t)
{
    struct words_memory_cursor cursor;
    enum rc rc = RC_OK;
    w->terms[t].position_at = out->bytes;
    words_memory_start(w->order[t], &cursor);
    while (rc == RC_OK && words_memory_next(&cursor)) {
        const uint8_t *end = skip_positions(cursor.positions, cursor.end, kept_frequency(&cursor));
        rc = checked_write(out, cursor.positions, (size_t)(end - cursor.positions));
    }
    return rc;
}

/* ---- sections ---- */

static enum rc put_section(struct writing *w, uint32_t tag, uint32_t index, const void *p, size_t n)
{
    segment_begin(w->segment, tag, index);
    return n ? segment_write(w->segment, p, n) : RC_OK;
}

static enum rc write_checked(struct writing *w, uint32_t tag,
                             enum rc (*each)(struct writing *, struct checked_writer *, size_t))
{
    static const char slack[WORDS_PACK_SLACK];
    struct checked_writer out;
    enum rc rc = RC_OK;
    checked_begin(&out, w->segment, tag);
    for (size_t t = 0; rc == RC_OK && t < w->count; t++)
        rc = each(w, &out, t);
    if (rc == RC_OK)
        rc = checked_write(&out, slack, sizeof(slack));
    enum rc ended = checked_end(&out);
    return rc == RC_OK ? ended : rc;
}

static enum rc write_texts(struct writing *w)
{
    uint32_t at = 0;
    enum rc rc = RC_OK;
    segment_begin(w->segment, WORDS_TAG_TEXTS, 0);
    for (size_t t = 0; rc == RC_OK && t < w->count; t++) {
        const struct words_memory_term *source = w->order[t];
        w->terms[t].text_at = at;
        w->terms[t].text_n = source->text_n;
        w->terms[t].field = source->field;
        w->terms[t].rows = source->rows;
        at += source->text_n;
        rc = segment_write(w->segment, source->text, source->text_n);
    }
    return rc;
}

static enum rc write_slots(struct writing *w)
{
    size_t n = 16;
    while (n < 2 * w->count)
        n *= 2;
    uint32_t *slots = xcalloc(n, sizeof(*slots));
    for (size_t t = 0; t < w->count; t++) {
        const struct words_memory_term *source = w->order[t];
        size_t i = words_term_hash(source->field, str_make(source->text, source->text_n)) & (n - 1);
        while (slots[i])
            i = (i + 1) & (n - 1);
        slots[i] = (uint32_t)t + 1;
    }
    enum rc rc = put_section(w, WORDS_TAG_SLOTS, 0, slots, n * sizeof(*slots));
    free(slots);
    return rc;
}

static enum rc write_meta(struct writing *w, struct str language)
{
    struct words_meta meta = {.analysis = WORDS_ANALYSIS_VERSION,
                              .fields = (uint32_t)w->fields,
                              .rows = words_memory_rows(w->memory),
                              .language = hash_xxh3(language.p, language.n)};
    words_memory_stats(w->memory, &meta.stats);
    return put_section(w, WORDS_TAG_META, 0, &meta, sizeof(meta));
}

static enum rc write_all(struct writing *w, struct str language)
{
    enum rc rc = write_meta(w, language);
    for (size_t f = 0; rc == RC_OK && f < w->fields; f++)
        rc = put_section(w, WORDS_TAG_LENGTHS, (uint32_t)f, words_memory_lengths(w->memory, f),
                         words_memory_rows(w->memory) * sizeof(uint16_t));
    if (rc == RC_OK)
        rc = write_texts(w);
    if (rc == RC_OK)
        rc = write_checked(w, WORDS_TAG_DATA, write_postings);
    if (rc == RC_OK)
        rc = write_checked(w, WORDS_TAG_POSITIONS, write_positions);
    if (rc == RC_OK)
        rc = put_section(w, WORDS_TAG_BLOCKS, 0, w->blocks, w->block_count * sizeof(*w->blocks));
    if (rc == RC_OK)
        rc = put_section(w, WORDS_TAG_TERMS, 0, w->terms, w->count * sizeof(*w->terms));
    return rc == RC_OK ? write_slots(w) : rc;
}

enum rc words_segment_write(struct segment_writer *segment, const struct words_memory *memory,
                            size_t fields, struct str language)
{
    struct writing w = {.segment = segment, .memory = memory, .fields = fields};
    const struct words_memory_term *terms;
    w.count = words_memory_terms(memory, &terms);
    w.order = xmalloc((w.count + 1) * sizeof(*w.order));
    w.terms = xcalloc(w.count + 1, sizeof(*w.terms));
    buf_init(&w.bytes, 1u << 30);
    for (size_t t = 0; t < w.count; t++)
        w.order[t] = &terms[t];
    qsort(w.order, w.count, sizeof(*w.order), by_field_and_text);
    enum rc rc = write_all(&w, language);
    free(w.order);
    free(w.terms);
    free(w.blocks);
    buf_fini(&w.bytes);
    return rc;
}
