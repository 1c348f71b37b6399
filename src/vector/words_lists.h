/* What a query's items come to in one part: lists of postings in blocks, packed as the segment has
 * them or plain in the arena. Private to src/vector/words_*.c. */
#pragma once
#include "vector/words_search.h"
#include "vector/words_segment.h"

struct words_list {
    uint16_t item, field;
    uint32_t count, block_count;
    const uint16_t *lengths; /* by row */
    /* packed */
    const struct words_segment *segment; /* NULL: plain */
    const struct words_term *term;
    const struct words_block *blocks;
    /* plain */
    const uint32_t *rows, *frequencies;
    /* the strongest posting of each block may be bounded by these two */
    const uint16_t *frequency_max, *length_min;
};

struct words_part {
    struct words_source source;
    const struct words_query *query;
    size_t fields;
    uint32_t rows;
    struct words_list *lists;
    size_t list_count;
    uint32_t *matching; /* rows with a term: (term of all items) × field */
};

static inline uint32_t words_list_last(const struct words_list *list, uint32_t block)
{
    uint32_t end = MIN((block + 1) * WORDS_BLOCK_ROWS, list->count);
    return list->segment ? list->blocks[block].last_row : list->rows[end - 1];
}

/* No posting of the block scores more. */
int32_t words_list_bound(const struct words_list *list, uint32_t block,
                         const struct words_scale *scale);
/* Decodes a block: returns its postings; 0: it is damaged. */
uint32_t words_list_load(const struct words_list *list, uint32_t block, uint32_t *rows,
                         uint32_t *frequencies);
/* `allowed` and the rows that hold every phrase; NULL: all. */
enum rc words_part_required(const struct words_part *part, const uint64_t *allowed,
                            struct arena *arena, const uint64_t **out) MUST_CHECK;
