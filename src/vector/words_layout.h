/* Sections of a words file. Private to src/vector/words_*.c. */
#pragma once
#include "base/hash.h"
#include "vector/words_memory.h"

enum {
    WORDS_TAG_META = 1,
    WORDS_TAG_LENGTHS, /* by field: u16 a row */
    WORDS_TAG_TERMS,
    WORDS_TAG_TEXTS,
    WORDS_TAG_SLOTS, /* u32[2^m]: term + 1 */
    WORDS_TAG_BLOCKS,
    WORDS_TAG_DATA,      /* checked */
    WORDS_TAG_POSITIONS, /* checked */
};

struct words_meta {
    uint32_t analysis, fields;
    uint64_t rows, language;
    struct words_stats stats;
};

static inline uint64_t words_term_hash(size_t field, struct str term)
{
    return hash_xxh3(term.p, term.n) + field * 0x9e3779b97f4a7c15ull;
}
