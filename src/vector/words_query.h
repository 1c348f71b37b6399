/* A text query: words (any of them), "phrases" (all of them, words next to each other), prefix*. */
#pragma once
#include "base/arena.h"
#include "vector/words_analyze.h"

#define WORDS_ITEMS_MAX  64  /* of a query; the rest is left out */
#define WORDS_TERMS_MAX  256 /* over all items */
#define WORDS_PHRASE_MAX 32  /* terms */

enum words_kind { WORDS_TERM, WORDS_PHRASE, WORDS_PREFIX };

struct words_item {
    enum words_kind kind;
    struct str terms[WORDS_PHRASE_MAX]; /* one, but for phrases */
    uint32_t offsets[WORDS_PHRASE_MAX]; /* position in the phrase; the first is 0 */
    size_t term_count;
    size_t first_term; /* its number among the terms of all items */
    unsigned count;    /* how often the query says it */
};

struct words_query {
    struct words_item *items;
    size_t item_count, term_count;
    bool has_phrase;
};

/* Never fails on the text; RC_LIMIT: the arena. No items: nothing to look for. */
enum rc words_query_parse(struct str text, struct analyzer *analyzer, struct arena *arena,
                          struct words_query *out) MUST_CHECK;
