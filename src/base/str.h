/* Text as pointer and length, passed by value; it owns nothing. */
#pragma once
#include "base/base.h"
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal)      ((struct str){(literal), sizeof(literal) - 1})
#define STR_INIT(literal) {(literal), sizeof(literal) - 1} /* for static initialisers */
#define STR_EMPTY         ((struct str){NULL, 0})
/* For printf: "%.*s", STR_ARG(s) */
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_make(const void *p, size_t n)
{
    return (struct str){(const char *)p, n};
}

static inline struct str str_from(const char *z) { return (struct str){z, z ? strlen(z) : 0}; }

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_eq_nocase(struct str a, struct str b); /* ASCII only */
int str_cmp(struct str a, struct str b);        /* bytewise, as memcmp; a prefix sorts first */
/* Same time for equal lengths whatever the contents: for secrets. */
bool str_eq_secret(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Offset of the first match, or -1. */
ssize_t str_find(struct str s, struct str needle);
ssize_t str_find_char(struct str s, char c);
ssize_t str_rfind_char(struct str s, char c);
/* The part [from, to), clamped to the text. */
struct str str_slice(struct str s, size_t from, size_t to);
struct str str_trim(struct str s); /* spaces, tabs, CR, LF at both ends */
/* Cuts the part before the next `separator` off `*rest`; false when nothing is left. */
bool str_split(struct str *rest, char separator, struct str *part);
/* Whole-text numbers: RC_INVALID for anything else than digits (sign, fraction), RC_LIMIT on
 * overflow. */
enum rc str_to_u64(struct str s, uint64_t *out) MUST_CHECK;
enum rc str_to_i64(struct str s, int64_t *out) MUST_CHECK;
enum rc str_to_double(struct str s, double *out) MUST_CHECK;
/* Shell-style pattern with `*` and `?` over the whole text; at most |s| times |pattern| steps. */
bool str_matches_glob(struct str s, struct str pattern);
uint64_t str_hash(struct str s); /* XXH3 with the process's seed: never written to disk */
