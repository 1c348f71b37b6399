/* Chunks: pieces of a document that are found and quoted. Cut by structure first, by tokens second;
 * each carries the path of headings above it. */
#pragma once
#include "knowledge/extract.h"

enum chunk_strategy { CHUNK_STRUCTURE, CHUNK_SENTENCE_WINDOW, CHUNK_PARENT_CHILD, CHUNK_STATIC };

struct chunk_options {
    enum chunk_strategy strategy;
    unsigned tokens_max;       /* 0: 250 */
    unsigned overlap_tokens;   /* STATIC, and between cuts inside one long block */
    unsigned window_sentences; /* SENTENCE_WINDOW: neighbours on each side */
    unsigned parent_tokens;    /* PARENT_CHILD: 0: 1000 */
    /* Tokens of a text, by the collection's encoder; NULL: about four bytes each. */
    size_t (*count_tokens)(void *arg, struct str text);
    void *arg;
};

struct chunk {
    struct str text;     /* what is embedded and searched (heading path not included) */
    struct str headings; /* "Guide › Install › Debian", or empty */
    struct str context;  /* what is shown to a model: the window or parent; empty: the text */
    uint32_t begin, end; /* bytes in the document's text */
    uint32_t page_first, page_last;
    uint32_t block_first, block_count; /* whose rectangles to highlight */
};

/* Arena memory. Every byte of the document that is not white space is in some chunk. */
enum rc chunk_document(const struct extracted *document, const struct chunk_options *options,
                       struct arena *arena, struct chunk **out, size_t *count,
                       struct err *err) MUST_CHECK;
