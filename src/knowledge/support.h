/* Is what an answer says in the passages it was given? Sentence by sentence, by shared words:
 * cheap, the same every time, and explainable. A sentence counts as supported when a passage holds
 * at least half of its telling words and every number in it. */
#pragma once
#include "base/arena.h"

#define SUPPORT_SENTENCES_MAX 256
#define SUPPORT_PASSAGES_MAX  64
#define SUPPORT_SHARE_MIN     0.5

struct supported_sentence {
    size_t begin, end; /* bytes of the answer */
    int passage;       /* the one that supports it best, from 0; -1: none shares a word */
    double share;      /* of its telling words that this passage holds */
    bool supported;
    bool telling; /* it has words to check: greetings and the like are not judged */
};

/* Returns how many sentences were found; NULL in *out when the arena is full. */
size_t support_check(struct str answer, const struct str *passages, size_t passage_count,
                     struct arena *arena, struct supported_sentence **out);
