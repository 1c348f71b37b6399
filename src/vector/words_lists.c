/* Finds a query's terms in one part and makes lists of them. Terms of a segment stay packed; terms
 * of rows in memory, phrases and prefixes become plain lists in the arena. */
#include "vector/words_lists.h"
#include "vector/varint.h"
#include <stdlib.h>

#define STARTS_MAX 4096 /* places of a phrase in one text that are looked at */

/* Postings of one term, row by row, whatever it comes from. */
struct cursor {
    struct words_memory_cursor memory;
    uint32_t row, frequency, row_end;
    uint32_t term_rows; /* rows with the term */
    /* in a segment */
    const struct words_segment *segment;
    const struct words_term *term;
    uint32_t block, block_count, count, next; /* next: of the block's postings */
    uint32_t rows[WORDS_BLOCK_ROWS], frequencies[WORDS_BLOCK_ROWS];
    const uint8_t *positions, *positions_end; /* of the block's posting number `positioned` */
    uint32_t positioned, positions_block;
    bool damaged;
};

static void start_packed(struct cursor *cursor, const struct words_segment *segment,
                         const struct words_term *term)
{
    cursor->segment = segment;
    cursor->term = term;
    cursor->term_rows = term->rows;
    cursor->block = cursor->count = cursor->next = 0;
    cursor->block_count = words_segment_blocks(segment, term) ? words_term_blocks(term) : 0;
    cursor->damaged = cursor->block_count == 0;
    cursor->positions_block = UINT32_MAX;
}

static bool cursor_start(const struct words_source *source, size_t field, struct str term,
                         struct cursor *cursor)
{
    cursor->row_end = source->rows;
    cursor->damaged = false;
    cursor->segment = NULL;
    if (source->segment) {
        const struct words_term *t = words_segment_find(source->segment, field, term);
        if (t)
            start_packed(cursor, source->segment, t);
        return t != NULL;
    }
    const struct words_memory_term *t = words_memory_find(source->memory, field, term);
    if (!t)
        return false;
    cursor->term_rows = t->rows;
    words_memory_start(t, &cursor->memory);
    return true;
}

static bool next_packed(struct cursor *cursor)
{
    if (cursor->next == cursor->count) {
        if (cursor->block == cursor->block_count)
            return false;
        cursor->count = words_segment_load(cursor->segment, cursor->term, cursor->block++,
                                           cursor->rows, cursor->frequencies);
        cursor->next = 0;
        cursor->damaged = cursor->count == 0;
        if (cursor->damaged)
            return false;
    }
    cursor->row = cursor->rows[cursor->next];
    cursor->frequency = cursor->frequencies[cursor->next++];
    return true;
}

static bool cursor_next(struct cursor *cursor)
{
    if (cursor->segment)
        return next_packed(cursor);
    if (!words_memory_next(&cursor->memory))
        return false;
    cursor->row = cursor->memory.row;
    cursor->frequency = cursor->memory.frequency;
    return cursor->row < cursor->row_end;
}

/* Where the positions of the row's posting lie: `frequency` varints, each the distance plus one.
 * Called for rows in order. NULL: damaged. */
static const uint8_t *cursor_positions(struct cursor *cursor, const uint8_t **end)
{
    if (!cursor->segment) {
        *end = cursor->memory.end;
        return cursor->memory.positions;
    }
    uint32_t block = cursor->block - 1;
    if (cursor->positions_block != block) {
        cursor->positions =
            words_segment_positions(cursor->segment, cursor->term, block, &cursor->positions_end);
        cursor->positions_block = block;
        cursor->positioned = 0;
    }
    const uint8_t *at = cursor->positions;
    cursor->damaged |= at == NULL;
    for (; at && cursor->positioned + 1 < cursor->next; cursor->positioned++)
        for (uint32_t f = cursor->frequencies[cursor->positioned];
             f > 0 && at < cursor->positions_end; at++)
            f -= *at < 0x80;
    cursor->positions = at;
    *end = cursor->positions_end;
    return at;
}

/* ---- plain lists ---- */

struct growing {
    uint32_t *rows, *frequencies;
    uint32_t count, capacity;
};

static bool growing_add(struct growing *g, struct arena *arena, uint32_t row, uint32_t frequency)
{
    if (g->count == g->capacity) {
        uint32_t capacity = MAX(64u, g->capacity * 2);
        uint32_t *numbers = arena_alloc(arena, 2 * sizeof(uint32_t) * capacity);
        if (!numbers)
            return false;
        if (g->count) {
            memcpy(numbers, g->rows, g->count * sizeof(uint32_t));
            memcpy(numbers + capacity, g->frequencies, g->count * sizeof(uint32_t));
        }
        g->rows = numbers;
        g->frequencies = numbers + capacity;
        g->capacity = capacity;
    }
    g->rows[g->count] = row;
    g->frequencies[g->count++] = MIN(frequency, (uint32_t)WORDS_FREQUENCY_MAX);
    return true;
}

static const uint16_t *lengths_of(const struct words_part *part, size_t field)
{
    return part->source.segment ? words_segment_lengths(part->source.segment, field)
                                : words_memory_lengths(part->source.memory, field);
}

static enum rc list_from(struct words_part *part, size_t item, size_t field,
                         const struct growing *g, struct arena *arena)
{
    if (g->count == 0)
        return RC_OK;
    uint32_t blocks = (g->count + WORDS_BLOCK_ROWS - 1) / WORDS_BLOCK_ROWS;
    const uint16_t *lengths = lengths_of(part, field);
    uint16_t *bounds = arena_alloc(arena, 2 * sizeof(uint16_t) * blocks);
    if (!bounds)
        return RC_LIMIT;
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t frequency = 0, length = WORDS_LENGTH_MAX;
        for (uint32_t i = b * WORDS_BLOCK_ROWS; i < MIN((b + 1) * WORDS_BLOCK_ROWS, g->count);
             i++) {
            frequency = MAX(frequency, g->frequencies[i]);
            length = MIN(length, (uint32_t)lengths[g->rows[i]]);
        }
        bounds[b] = (uint16_t)frequency;
        bounds[blocks + b] = (uint16_t)length;
    }
    part->lists[part->list_count++] = (struct words_list){
        .item = (uint16_t)item,
        .field = (uint16_t)field,
        .count = g->count,
        .block_count = blocks,
        .lengths = lengths,
        .rows = g->rows,
        .frequencies = g->frequencies,
        .frequency_max = bounds,
        .length_min = bounds + blocks,
    };
    return RC_OK;
}

uint32_t words_list_load(const struct words_list *list, uint32_t block, uint32_t *rows,
                         uint32_t *frequencies)
{
    if (list->segment)
        return words_segment_load(list->segment, list->term, block, rows, frequencies);
    uint32_t start = block * WORDS_BLOCK_ROWS;
    uint32_t n = MIN((uint32_t)WORDS_BLOCK_ROWS, list->count - start);
    memcpy(rows, list->rows + start, n * sizeof(*rows));
    memcpy(frequencies, list->frequencies + start, n * sizeof(*frequencies));
    return n;
}

int32_t words_list_bound(const struct words_list *list, uint32_t block,
                         const struct words_scale *scale)
{
    if (!list->segment)
        return words_score_one(scale, list->frequency_max[block], list->length_min[block]);
    const struct words_block *b = &list->blocks[block];
    int32_t bound = 0;
    for (unsigned i = 0; i < MIN(b->bound_count, WORDS_BOUNDS_MAX); i++) {
        int32_t score = words_score_one(scale, b->bounds[i].frequency, b->bounds[i].length);
        bound = MAX(bound, score);
    }
    return bound;
}

/* ---- the three kinds of items ---- */

static enum rc prepare_packed(struct words_part *part, size_t i, size_t field)
{
    const struct words_item *item = &part->query->items[i];
    const struct words_segment *segment = part->source.segment;
    const struct words_term *term = words_segment_find(segment, field, item->terms[0]);
    if (!term)
        return RC_OK;
    const struct words_block *blocks = words_segment_blocks(segment, term);
    if (!blocks)
        return RC_CORRUPT;
    part->matching[item->first_term * part->fields + field] = term->rows;
    part->lists[part->list_count++] = (struct words_list){
        .item = (uint16_t)i,
        .field = (uint16_t)field,
        .count = term->rows,
        .block_count = words_term_blocks(term),
        .lengths = words_segment_lengths(segment, field),
        .segment = segment,
        .term = term,
        .blocks = blocks,
    };
    return RC_OK;
}

static enum rc prepare_term(struct words_part *part, size_t i, size_t field, struct arena *arena)
{
    const struct words_item *item = &part->query->items[i];
    struct growing g = {0};
    struct cursor cursor;
    if (part->source.segment)
        return prepare_packed(part, i, field);
    if (!cursor_start(&part->source, field, item->terms[0], &cursor))
        return RC_OK;
    while (cursor_next(&cursor))
        if (!growing_add(&g, arena, cursor.row, cursor.frequency))
            return RC_LIMIT;
    part->matching[item->first_term * part->fields + field] = g.count;
    return list_from(part, i, field, &g, arena);
}

/* Keeps the starts that have a position `offset` further on. */
static size_t keep_starts(struct cursor *cursor, uint32_t offset, uint32_t *starts, size_t count)
{
    const uint8_t *end, *at = cursor_positions(cursor, &end);
    size_t kept = 0, s = 0;
    uint32_t position = 0;
    for (uint32_t i = 0; at && i < cursor->frequency && s < count; i++) {
        position += varint_get(&at, end) - 1;
        while (s < count && starts[s] + offset < position)
            s++;
        if (s < count && starts[s] + offset == position)
            starts[kept++] = starts[s++];
    }
    return kept;
}

/* How often the phrase stands in the row at which all cursors are. */
static uint32_t phrase_count(const struct words_item *item, struct cursor *cursors,
                             uint32_t *starts)
{
    const uint8_t *end, *at = cursor_positions(&cursors[0], &end);
    size_t count = MIN(cursors[0].frequency, (uint32_t)STARTS_MAX);
    uint32_t position = 0;
    if (!at)
        return 0;
    for (size_t i = 0; i < count; i++)
        starts[i] = position += varint_get(&at, end) - 1;
    for (size_t t = 1; t < item->term_count && count > 0; t++)
        count = keep_starts(&cursors[t], item->offsets[t], starts, count);
    return (uint32_t)count;
}

static enum rc prepare_phrase(struct words_part *part, size_t i, size_t field, struct arena *arena)
{
    const struct words_item *item = &part->query->items[i];
    struct cursor *cursors = ARENA_NEW_ARRAY(arena, struct cursor, item->term_count);
    uint32_t *starts = ARENA_NEW_ARRAY(arena, uint32_t, STARTS_MAX);
    struct growing g = {0};
    bool all = true;
    if (!cursors || !starts)
        return RC_LIMIT;
    for (size_t t = 0; t < item->term_count; t++) {
        if (!cursor_start(&part->source, field, item->terms[t], &cursors[t])) {
            all = false;
            continue;
        }
        part->matching[(item->first_term + t) * part->fields + field] = cursors[t].term_rows;
        all &= cursor_next(&cursors[t]);
    }
    while (all) {
        uint32_t row = 0;
        bool same = true;
        for (size_t t = 0; t < item->term_count; t++)
            row = MAX(row, cursors[t].row);
        for (size_t t = 0; t < item->term_count && all; t++) {
            while (all && cursors[t].row < row)
                all = cursor_next(&cursors[t]);
            same &= cursors[t].row == row;
        }
        if (!all || !same)
            continue;
        uint32_t count = phrase_count(item, cursors, starts);
        if (count > 0 && !growing_add(&g, arena, row, count))
            return RC_LIMIT;
        all = cursor_next(&cursors[0]);
    }
    for (size_t t = 0; t < item->term_count; t++)
        if (cursors[t].damaged)
            return RC_CORRUPT;
    return list_from(part, i, field, &g, arena);
}

static void add_frequencies(struct cursor *cursor, uint16_t *frequencies)
{
    while (cursor_next(cursor)) {
        uint32_t sum = frequencies[cursor->row] + cursor->frequency;
        frequencies[cursor->row] = (uint16_t)MIN(sum, (uint32_t)WORDS_FREQUENCY_MAX);
    }
}

static enum rc add_prefix_terms(const struct words_source *source, size_t field, struct str prefix,
                                uint16_t *frequencies)
{
    struct cursor cursor;
    if (source->segment) {
        size_t count;
        const struct words_term *terms =
            words_segment_prefix(source->segment, field, prefix, &count);
        for (size_t t = 0; t < count; t++) {
            start_packed(&cursor, source->segment, &terms[t]);
            add_frequencies(&cursor, frequencies);
            if (cursor.damaged)
                return RC_CORRUPT;
        }
        return RC_OK;
    }
    const struct words_memory_term *terms;
    size_t count = words_memory_terms(source->memory, &terms);
    for (size_t t = 0; t < count; t++) {
        struct str text = str_make(terms[t].text, terms[t].text_n);
        if (terms[t].field == field && str_starts(text, prefix) &&
            cursor_start(source, field, text, &cursor))
            add_frequencies(&cursor, frequencies);
    }
    return RC_OK;
}

static enum rc prepare_prefix(struct words_part *part, size_t i, size_t field, struct arena *arena)
{
    const struct words_item *item = &part->query->items[i];
    struct growing g = {0};
    uint16_t *frequencies = calloc(part->rows, sizeof(*frequencies));
    enum rc rc = RC_LIMIT;
    if (frequencies)
        rc = add_prefix_terms(&part->source, field, item->terms[0], frequencies);
    for (uint32_t row = 0; rc == RC_OK && row < part->rows; row++)
        if (frequencies[row] && !growing_add(&g, arena, row, frequencies[row]))
            rc = RC_LIMIT;
    free(frequencies);
    part->matching[item->first_term * part->fields + field] = g.count;
    return rc == RC_OK ? list_from(part, i, field, &g, arena) : rc;
}

enum rc words_part_prepare(const struct words_source *source, const struct words_query *query,
                           size_t fields, struct arena *arena, struct words_part **out)
{
    struct words_part *part = ARENA_NEW(arena, struct words_part);
    if (!part)
        return RC_LIMIT;
    *part = (struct words_part){
        .source = *source, .query = query, .fields = fields, .rows = source->rows};
    part->lists = ARENA_NEW_ARRAY(arena, struct words_list, query->item_count * fields + 1);
    part->matching = ARENA_NEW_ARRAY(arena, uint32_t, query->term_count *fields + 1);
    enum rc rc = part->lists && part->matching ? RC_OK : RC_LIMIT;
    for (size_t i = 0; rc == RC_OK && part->rows > 0 && i < query->item_count; i++) {
        for (size_t f = 0; rc == RC_OK && f < fields; f++) {
            switch (query->items[i].kind) {
            case WORDS_TERM: rc = prepare_term(part, i, f, arena); break;
            case WORDS_PHRASE: rc = prepare_phrase(part, i, f, arena); break;
            case WORDS_PREFIX: rc = prepare_prefix(part, i, f, arena); break;
            }
        }
    }
    *out = part;
    return rc;
}

/* ---- phrases are required ---- */

enum rc words_part_required(const struct words_part *part, const uint64_t *allowed,
                            struct arena *arena, const uint64_t **out)
{
    size_t words = (part->rows + 63) / 64;
    *out = allowed;
    for (size_t i = 0; i < part->query->item_count; i++) {
        if (part->query->items[i].kind != WORDS_PHRASE)
            continue;
        uint64_t *holding = ARENA_NEW_ARRAY(arena, uint64_t, words);
        if (!holding)
            return RC_LIMIT;
        for (size_t l = 0; l < part->list_count; l++) {
            const struct words_list *list = &part->lists[l];
            for (uint32_t r = 0; list->item == i && r < list->count; r++)
                holding[list->rows[r] / 64] |= 1ull << (list->rows[r] % 64);
        }
        for (size_t w = 0; *out && w < words; w++)
            holding[w] &= (*out)[w];
        *out = holding;
    }
    return RC_OK;
}
