/* BM25 of postings, in whole numbers, so that a sum is the same whatever the order of its parts:
 * 1 + trunc(weight · f / (f + base + slope · length)). All variants give the same numbers. */
#pragma once
#include "base/base.h"

struct words_scale {
    float weight;      /* idf · field's weight · (k1 + 1) · units in 1 */
    float base, slope; /* k1 · (1 − b); k1 · b / average length */
};

int32_t words_score_one(const struct words_scale *scale, uint32_t frequency, uint32_t length);
/* For n rows; `lengths` is indexed by row. */
void words_score(const struct words_scale *scale, const uint32_t *rows, const uint32_t *frequencies,
                 size_t n, const uint16_t *lengths, int32_t *out);

#define WORDS_GROUP 64 /* rows whose sums are looked at together */
/* Which of a group's sums are above `least`, in order, counted from `first`; returns how many. One
 * more than these may be written. */
size_t words_gather(const int32_t *sums, int32_t least, uint16_t first, uint16_t *out);
