/* Words of rows that are in no segment yet: an inverted index that grows. One thread adds; readers
 * and the writer exclude each other by the owner's lock. */
#pragma once
#include "vector/words_analyze.h"

#define WORDS_FIELDS_MAX    8
#define WORDS_LENGTH_MAX    UINT16_MAX /* lengths beyond count as this */
#define WORDS_FREQUENCY_MAX UINT16_MAX

/* What ranking needs to know about a set of rows. */
struct words_stats {
    uint64_t rows;
    uint64_t field_rows[WORDS_FIELDS_MAX]; /* rows with a word in the field */
    uint64_t lengths[WORDS_FIELDS_MAX];    /* sum over them */
};

struct words_memory_term {
    const char *text;
    uint64_t hash;
    uint32_t rows; /* with this term */
    uint32_t last_row, last_position;
    uint32_t n, capacity; /* of `bytes` */
    uint8_t *bytes;       /* row deltas, each followed by position deltas and a 0: all varints */
    uint8_t text_n, field;
};

struct words_memory;
struct words_memory *words_memory_new(size_t fields, uint32_t rows_max);
void words_memory_free(struct words_memory *memory);
/* The next row. */
void words_memory_add(struct words_memory *memory, struct analyzer *analyzer,
                      const struct str *texts);
uint32_t words_memory_rows(const struct words_memory *memory);
void words_memory_stats(const struct words_memory *memory, struct words_stats *stats);
size_t words_memory_bytes(const struct words_memory *memory);
/* Lengths by row; stays where it is while rows are added. */
const uint16_t *words_memory_lengths(const struct words_memory *memory, size_t field);
/* NULL: not there. */
const struct words_memory_term *words_memory_find(const struct words_memory *memory, size_t field,
                                                  struct str term);
/* All terms, in no order. */
size_t words_memory_terms(const struct words_memory *memory,
                          const struct words_memory_term **terms);

/* The postings of a term, row by row. */
struct words_memory_cursor {
    const uint8_t *at, *end;
    uint32_t row, frequency;
    const uint8_t *positions; /* of this row: varints, each the distance plus one */
    uint32_t next_row;        /* base of the next delta */
};
void words_memory_start(const struct words_memory_term *term, struct words_memory_cursor *cursor);
bool words_memory_next(struct words_memory_cursor *cursor);
