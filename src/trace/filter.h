/* A filter made ready for one rowset: texts become codes of its dictionaries, bounds become codes
 * of its columns. Compiled once for each rowset of a query, then applied to each granule. */
#pragma once
#include "trace/scan.h"
#include "trace/trace.h"

#define PREDICATES_MAX 20

struct predicate {
    enum {
        PREDICATE_RANGE,  /* an integer column's value in [lo, hi] */
        PREDICATE_NOT,    /* an integer column's value is not lo */
        PREDICATE_CODE,   /* a text column's code is lo */
        PREDICATE_TABLE,  /* table[code] */
        PREDICATE_EITHER, /* one text column's code is lo, or another's is hi */
    } kind;
    int column, other;
    int64_t lo, hi;
    uint8_t *table;
};

struct filter {
    struct predicate predicates[PREDICATES_MAX];
    int count;
    bool nothing; /* no row of the rowset can match */
};

/* RC_CORRUPT as of the rowset. */
enum rc filter_compile(struct filter *filter, const struct rowset *rows, struct id project,
                       const struct trace_filter *wanted) MUST_CHECK;
void filter_fini(struct filter *filter);
/* Fills mask[0 … n) for the granule's n rows, deleted ones left out; *count: how many match. */
enum rc filter_apply(const struct filter *filter, const struct rowset *rows, uint32_t granule,
                     uint32_t n, uint8_t mask[GRANULE_ROWS], uint32_t *count) MUST_CHECK;

/* ASCII case ignored; `needle` is in lower case already. */
bool text_contains(struct str haystack, struct str needle);
