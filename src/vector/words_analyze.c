/* Text analysis. ASCII goes through a table; other characters through utf8proc's properties, and a
 * word that holds one is folded as a whole. Stems are remembered in a small direct-mapped cache,
 * since text repeats its words and Snowball takes a microsecond. */
#include "vector/words_analyze.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/utf8.h"
#include "vector/words_stop.h"
#include <libstemmer.h>
#include <stdlib.h>
#include <utf8proc.h>

#define CACHE_ENTRIES   8192
#define CACHE_BYTES_MAX 30
#define WORD_BYTES_MAX  192 /* as written; the rest of a longer word is skipped */

struct cache_entry {
    uint8_t word_n, term_n; /* word_n 0: empty */
    bool stop;
    char word[CACHE_BYTES_MAX];
    char term[CACHE_BYTES_MAX];
};

struct analyzer {
    struct sb_stemmer *stemmer; /* NULL: none */
    struct map stop_words;      /* → itself */
    bool joins_apostrophe;      /* "don't" is one word, "l'homme" two */
    struct cache_entry cache[CACHE_ENTRIES];
};

/* One run over a text. */
struct run {
    struct analyzer *analyzer;
    analyzer_each *each;
    void *arg;
    uint32_t position;
    char word[WORD_BYTES_MAX];
    size_t n;
    bool ascii;
    uint32_t paired; /* the character before, of a script indexed by pairs; 0: none */
    bool pair_made;  /* it is in a pair already */
};

enum rc analyzer_new(struct str language, struct analyzer **out, struct err *err)
{
    char name[32] = "english";
    if (language.n >= sizeof(name))
        return err_set_field(err, ERR_BAD_FIELD, "language", "there is no such language");
    if (language.n) {
        memcpy(name, language.p, language.n);
        name[language.n] = '\0';
    }
    struct sb_stemmer *stemmer = NULL;
    if (strcmp(name, "none") != 0) {
        stemmer = sb_stemmer_new(name, "UTF_8");
        if (!stemmer)
            return err_set_field(err, ERR_BAD_FIELD, "language",
                                 "there is no stemmer for \"%s\": use english, german, french, … "
                                 "or none",
                                 name);
    }
    struct analyzer *a = xcalloc(1, sizeof(*a));
    a->stemmer = stemmer;
    a->joins_apostrophe = strcmp(name, "english") == 0 || strcmp(name, "none") == 0;
    for (size_t i = 0; i < COUNT_OF(stop_languages); i++) {
        struct str rest = str_from(stop_languages[i].words), word;
        while (strcmp(name, stop_languages[i].language) == 0 && str_split(&rest, ' ', &word))
            map_put(&a->stop_words, word, a);
    }
    *out = a;
    return RC_OK;
}

void analyzer_free(struct analyzer *a)
{
    if (!a)
        return;
    if (a->stemmer)
        sb_stemmer_delete(a->stemmer);
    map_fini(&a->stop_words);
    free(a);
}

/* ---- one word ---- */

/* NFKC and case folding of a word that is not all ASCII. */
static size_t fold_unicode(struct str word, char out[WORDS_TERM_BYTES_MAX])
{
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t n = utf8proc_map(
        (const utf8proc_uint8_t *)word.p, (utf8proc_ssize_t)word.n, &folded,
        UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
    if (n <= 0 || !folded) {
        free(folded);
        return 0;
    }
    size_t kept = utf8_cut(str_make(folded, (size_t)n), WORDS_TERM_BYTES_MAX);
    memcpy(out, folded, kept);
    free(folded);
    return kept;
}

static size_t fold(struct str word, bool ascii, char out[WORDS_TERM_BYTES_MAX])
{
    if (!ascii)
        return fold_unicode(word, out);
    size_t n = MIN(word.n, (size_t)WORDS_TERM_BYTES_MAX);
    memcpy(out, word.p, n);
    return n;
}

static void make_term(struct analyzer *a, struct str word, bool ascii,
                      char out[WORDS_TERM_BYTES_MAX], size_t *n, bool *stop)
{
    *n = fold(word, ascii, out);
    *stop = map_get(&a->stop_words, str_make(out, *n)) != NULL;
    if (!a->stemmer || *n == 0)
        return;
    const sb_symbol *stem = sb_stemmer_stem(a->stemmer, (const sb_symbol *)out, (int)*n);
    size_t stem_n = stem ? (size_t)sb_stemmer_length(a->stemmer) : 0;
    if (stem_n > 0 && stem_n <= WORDS_TERM_BYTES_MAX) {
        memcpy(out, stem, stem_n);
        *n = stem_n;
    }
}

static void emit(struct run *run, struct str text, bool stop, bool single)
{
    struct analyzer_term term = {
        .text = text, .position = run->position, .stop = stop, .single = single};
    if (text.n)
        run->each(run->arg, &term);
    run->position++;
}

static void end_word(struct run *run)
{
    if (run->n == 0)
        return;
    struct str word = str_make(run->word, run->n);
    run->n = 0;
    struct analyzer *a = run->analyzer;
    struct cache_entry *entry = NULL;
    if (word.n <= CACHE_BYTES_MAX) {
        entry = &a->cache[hash_xxh3(word.p, word.n) % CACHE_ENTRIES];
        if (entry->word_n == word.n && memcmp(entry->word, word.p, word.n) == 0) {
            emit(run, str_make(entry->term, entry->term_n), entry->stop, false);
            return;
        }
    }
    char term[WORDS_TERM_BYTES_MAX];
    size_t n;
    bool stop;
    make_term(a, word, run->ascii, term, &n, &stop);
    if (entry && n <= CACHE_BYTES_MAX) {
        entry->word_n = (uint8_t)word.n;
        entry->term_n = (uint8_t)n;
        entry->stop = stop;
        memcpy(entry->word, word.p, word.n);
        memcpy(entry->term, term, n);
    }
    emit(run, str_make(term, n), stop, false);
}

/* ---- scripts without spaces ---- */

static bool is_paired(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || /* Han */
           (c >= 0x3040 && c <= 0x30ff) || (c >= 0x31f0 && c <= 0x31ff) || /* kana */
           (c >= 0xff66 && c <= 0xff9d) || (c >= 0xac00 && c <= 0xd7a3) || /* Hangul */
           (c >= 0x0e01 && c <= 0x0edf) || (c >= 0x1000 && c <= 0x109f) || /* Thai, Lao, Burmese */
           (c >= 0x1780 && c <= 0x17d3) || (c >= 0xf900 && c <= 0xfaff) || /* Khmer */
           (c >= 0x20000 && c <= 0x323af);
}

static void emit_characters(struct run *run, uint32_t first, uint32_t second)
{
    char raw[8], term[WORDS_TERM_BYTES_MAX];
    size_t n = utf8_encode(first, raw);
    if (second)
        n += utf8_encode(second, raw + n);
    n = fold_unicode(str_make(raw, n), term);
    emit(run, str_make(term, n), false, second == 0);
}

static void end_pairs(struct run *run)
{
    if (run->paired && !run->pair_made)
        emit_characters(run, run->paired, 0);
    else if (run->paired)
        run->position++;
    run->paired = 0;
    run->pair_made = false;
}

static void add_paired(struct run *run, uint32_t c)
{
    end_word(run);
    if (run->paired) {
        emit_characters(run, run->paired, c);
        run->pair_made = true;
    }
    run->paired = c;
}

/* ---- the walk ---- */

static bool is_word_character(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

static void add_bytes(struct run *run, const char *p, size_t n)
{
    if (run->n + n > WORD_BYTES_MAX)
        return;
    memcpy(run->word + run->n, p, n);
    run->n += n;
}

static bool starts_letter(struct str rest)
{
    uint32_t c;
    if (rest.n == 0)
        return false;
    if ((uint8_t)rest.p[0] < 0x80)
        return (rest.p[0] | 0x20) >= 'a' && (rest.p[0] | 0x20) <= 'z';
    return utf8_next(rest, &c) > 0 && is_word_character(c) && !is_paired(c);
}

/* A character that is not an ASCII letter or digit; returns its bytes. */
static size_t add_other(struct run *run, struct str rest)
{
    uint32_t c = (uint8_t)rest.p[0];
    size_t n = c < 0x80 ? 1 : utf8_next(rest, &c);
    if (n == 0) {
        n = 1;
        c = ' ';
    }
    if ((c == '\'' || c == 0x2019) && run->n && run->analyzer->joins_apostrophe &&
        starts_letter(str_slice(rest, n, rest.n))) {
        add_bytes(run, "'", 1);
    } else if (c >= 0x80 && is_paired(c)) {
        add_paired(run, c);
    } else if (c >= 0x80 && is_word_character(c)) {
        end_pairs(run);
        run->ascii = false;
        add_bytes(run, rest.p, n);
    } else {
        end_word(run);
        end_pairs(run);
    }
    return n;
}

uint32_t analyzer_run(struct analyzer *analyzer, struct str text, analyzer_each *each, void *arg)
{
    struct run run = {.analyzer = analyzer, .each = each, .arg = arg, .ascii = true};
    for (size_t at = 0; at < text.n;) {
        char c = text.p[at];
        bool upper = c >= 'A' && c <= 'Z';
        if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
            if (run.n == 0) {
                end_pairs(&run);
                run.ascii = true;
            }
            if (run.n < WORD_BYTES_MAX)
                run.word[run.n++] = upper ? (char)(c | 0x20) : c;
            at++;
        } else {
            at += add_other(&run, str_slice(text, at, text.n));
        }
    }
    end_word(&run);
    end_pairs(&run);
    return run.position;
}

size_t analyzer_fold(struct str word, char out[WORDS_TERM_BYTES_MAX])
{
    word.n = utf8_cut(word, WORD_BYTES_MAX);
    return fold_unicode(word, out);
}
