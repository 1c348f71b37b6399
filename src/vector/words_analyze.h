/* From text to index terms: words by Unicode's letters and digits, folded (NFKC, case), stemmed by
 * the language's Snowball stemmer; scripts that write no spaces (Han, kana, Hangul, Thai, …) as
 * pairs of characters. The same for documents and queries. */
#pragma once
#include "base/err.h"
#include "base/str.h"

#define WORDS_TERM_BYTES_MAX 64 /* longer words are cut */
/* Of what analysis does: index files made by another version are made again. */
#define WORDS_ANALYSIS_VERSION 1

struct analyzer; /* used by one thread at a time */

/* "english", "german", … as Snowball names them; "none": no stemming; "": english.
 * ERR_BAD_FIELD for an unknown one. */
enum rc analyzer_new(struct str language, struct analyzer **out, struct err *err) MUST_CHECK;
void analyzer_free(struct analyzer *analyzer);

struct analyzer_term {
    struct str text;   /* valid during the call */
    uint32_t position; /* in words; pairs of characters count by character */
    bool stop;         /* a function word of the language: queries leave it out */
    bool single;       /* one character of a script that is indexed by pairs */
};

typedef void analyzer_each(void *arg, const struct analyzer_term *term);
/* Terms of the text, which need not be valid UTF-8. Returns the number of positions. */
uint32_t analyzer_run(struct analyzer *analyzer, struct str text, analyzer_each *each, void *arg);
/* The word folded as terms are, without stemming: for prefixes. Returns its bytes in `out`. */
size_t analyzer_fold(struct str word, char out[WORDS_TERM_BYTES_MAX]);
