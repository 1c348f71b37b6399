/* Finding passages: what the API's search, OpenAI's vector stores, `knowledge/NAME` and a
 * pipeline's retrieval node all call. */
#pragma once
#include "knowledge/knowledge.h"

struct retrieve_query {
    struct id project;
    struct str collection; /* name */
    struct str text;       /* the question; may be empty with a vector */
    const float *vector;   /* NULL: the collection's encoder makes it */
    size_t dimension;
    int mode;               /* enum search_mode; -1: the collection's */
    size_t k;               /* 0: the collection's */
    double recall;          /* 0: the collection's */
    double text_weight;     /* <-1.5: the collection's; <0: the index's default */
    double k1, b;           /* BM25; 0: the collection's */
    int fusion;             /* enum index_fusion; -1: the collection's */
    double score_min;       /* NAN: the collection's */
    double diversity;       /* <0: the collection's */
    struct str reranker;    /* empty: the collection's; "none": none */
    struct str filter;      /* an expression over attributes; empty: all */
    const struct str *tags; /* the caller's access tags */
    size_t tag_count;
    bool all_tags;       /* may see everything */
    struct str group_by; /* an attribute, or "_document" */
    size_t group_size;
    bool for_answer;                 /* k 0: as many as an answer is made of */
    size_t rerank_depth;             /* 0: the collection's */
    const struct collection *within; /* NULL: found by its name; may have an index of its own */
    const struct id *stores;         /* instead of a name: several, the best of all together */
    size_t store_count;
};
/* Everything as the collection says. */
void retrieve_query_init(struct retrieve_query *query);

struct retrieve_hit {
    struct str id, text, title;
    struct str context; /* what a model is shown: the window or parent, else the text */
    double score, vector_score, text_score, rerank_score; /* NAN: not by this part */
    struct str document, name;                    /* "doc_…" and its name; empty for raw vectors */
    int64_t ordinal, page, page_last, begin, end; /* -1: not known */
    yyjson_val *payload;                          /* all of it; rectangles under "_rects" */
    struct id file; /* of a search in `stores`: that the document was made of; zero: of none */
};

struct retrieve_result {
    bool words_only; /* by meaning, too, was asked for, but the encoder is not here (yet) */
    struct retrieve_hit *hits;
    size_t count;
    struct collection collection;
    int64_t encode_ns, search_ns, rerank_ns;
    uint64_t query_tokens;
};

/* Everything in the arena. ERR_NOT_FOUND, ERR_BAD_FIELD with the field. Worker. */
enum rc knowledge_search(struct knowledge *knowledge, const struct retrieve_query *query,
                         struct arena *arena, struct retrieve_result *out,
                         struct err *err) MUST_CHECK;

/* ---- the same from a loop ---- */

struct retrieval;
/* Starts; `done` comes on the calling loop, never from within. The query's texts and vector, and
 * the arena (which only the search touches meanwhile), must live until then. err NULL: found. NULL:
 * too much waits. */
struct retrieval *knowledge_retrieve(struct knowledge *knowledge,
                                     const struct retrieve_query *query, struct arena *arena,
                                     void (*done)(void *arg, const struct retrieve_result *result,
                                                  const struct err *err),
                                     void *arg);
/* `done` is not called any more; but the arena and the query's texts stay in use until `released`
 * is. */
void retrieval_cancel(struct retrieval *retrieval, void (*released)(void *arg));
