/* Words of a sealed segment: one file `ID.words`, a cache of the rows. Terms by field and text, a
 * hash table of them; postings in blocks of 128 rows with the bounds that pruning needs; positions
 * apart, for phrases.
 *
 * A block's bounds are up to four pairs of frequency and length that no posting of it beats in
 * both: they hold for every k1, b and average length. */
#pragma once
#include "vector/checked.h"
#include "vector/words_memory.h"
#include "vector/words_pack.h"

#define WORDS_SEGMENT_KIND    SEGMENT_KIND('V', 'W', 'R', 'D')
#define WORDS_SEGMENT_VERSION 1
#define WORDS_BOUNDS_MAX      4

struct words_bound {
    uint16_t frequency, length;
};

struct words_block {
    uint32_t last_row;
    uint32_t data_at;     /* behind the term's */
    uint32_t position_at; /* behind the term's */
    uint8_t row_bits, frequency_bits, bound_count, reserved;
    struct words_bound bounds[WORDS_BOUNDS_MAX];
};
_Static_assert(sizeof(struct words_block) == 32, "format");

struct words_term {
    uint64_t data_at, position_at;
    uint32_t block_at, text_at;
    uint32_t rows; /* with this term */
    uint8_t text_n, field;
    uint16_t reserved;
};
_Static_assert(sizeof(struct words_term) == 32, "format");

/* Adds the sections to an open segment. `language`: a file made for another one is made again. */
enum rc words_segment_write(struct segment_writer *segment, const struct words_memory *memory,
                            size_t fields, struct str language) MUST_CHECK;

struct words_segment;
/* Takes the segment in any case. RC_CORRUPT; RC_INVALID: made by another analysis. */
enum rc words_segment_open(struct segment *segment, size_t fields, uint32_t rows,
                           struct str language, struct words_segment **out) MUST_CHECK;
void words_segment_close(struct words_segment *words);
int64_t words_segment_bytes(const struct words_segment *words);
void words_segment_stats(const struct words_segment *words, struct words_stats *stats);
const uint16_t *words_segment_lengths(const struct words_segment *words, size_t field);

/* NULL: not there. */
const struct words_term *words_segment_find(const struct words_segment *words, size_t field,
                                            struct str term);
/* The terms of the field with this prefix lie together. */
const struct words_term *words_segment_prefix(const struct words_segment *words, size_t field,
                                              struct str prefix, size_t *count);
static inline uint32_t words_term_blocks(const struct words_term *term)
{
    return (term->rows + WORDS_BLOCK_ROWS - 1) / WORDS_BLOCK_ROWS;
}
/* Its blocks, all within the file. */
const struct words_block *words_segment_blocks(const struct words_segment *words,
                                               const struct words_term *term);
/* Decodes a block: returns its postings; 0: it is damaged. */
uint32_t words_segment_load(const struct words_segment *words, const struct words_term *term,
                            uint32_t block, uint32_t *rows, uint32_t *frequencies);
/* The positions of a block's postings, one after the other: for each as many varints as its
 * frequency, each the distance plus one. NULL: damaged. */
const uint8_t *words_segment_positions(const struct words_segment *words,
                                       const struct words_term *term, uint32_t block,
                                       const uint8_t **end);
