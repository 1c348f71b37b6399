/* Sentences without a language: they end at . ! ? … and their like, after closing quotes and
 * brackets, before white space that a small letter does not follow. A full stop after a single
 * letter, a number or a usual abbreviation ends none. Chinese and Japanese stops end at once. */
#include "knowledge/chunk_cut.h"
#include "base/utf8.h"

static bool is_white(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

struct str chunk_trim(struct str text)
{
    while (text.n && is_white(text.p[0]))
        text = str_slice(text, 1, text.n);
    while (text.n && is_white(text.p[text.n - 1]))
        text.n--;
    return text;
}

static size_t white_end(struct str text, size_t at)
{
    while (at < text.n && is_white(text.p[at]))
        at++;
    return at;
}

static bool is_abbreviation(struct str word)
{
    static const struct str known[] = {
        STR_INIT("Mr"),  STR_INIT("Mrs"), STR_INIT("Ms"),     STR_INIT("Dr"),  STR_INIT("Prof"),
        STR_INIT("St"),  STR_INIT("vs"),  STR_INIT("etc"),    STR_INIT("cf"),  STR_INIT("e.g"),
        STR_INIT("i.e"), STR_INIT("al"),  STR_INIT("Fig"),    STR_INIT("fig"), STR_INIT("No"),
        STR_INIT("pp"),  STR_INIT("Inc"), STR_INIT("Ltd"),    STR_INIT("Co"),  STR_INIT("bzw"),
        STR_INIT("usw"), STR_INIT("Nr"),  STR_INIT("ca"),     STR_INIT("vgl"), STR_INIT("Abs"),
        STR_INIT("Art"), STR_INIT("Abb"), STR_INIT("Sec"),    STR_INIT("sec"), STR_INIT("Eq"),
        STR_INIT("Vol"), STR_INIT("Jan"), STR_INIT("approx"),
    };
    if (word.n == 1)
        return true;
    bool number = word.n > 0 && word.n <= 3;
    for (size_t i = 0; i < word.n; i++)
        number = number && word.p[i] >= '0' && word.p[i] <= '9';
    for (size_t i = 0; i < COUNT_OF(known) && !number; i++)
        number = str_eq(word, known[i]);
    return number;
}

/* The word that ends before `at`. */
static struct str word_before(struct str text, size_t at)
{
    size_t from = at;
    while (from > 0 && !is_white(text.p[from - 1]) && text.p[from - 1] != '(')
        from--;
    return str_slice(text, from, at);
}

/* Closing quotes and brackets, also ” ’ » of two and three bytes. */
static size_t closers_end(struct str text, size_t at)
{
    static const struct str closers[] = {STR_INIT("\""), STR_INIT("'"), STR_INIT(")"),
                                         STR_INIT("]"),  STR_INIT("”"), STR_INIT("’"),
                                         STR_INIT("»"),  STR_INIT("“")};
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < COUNT_OF(closers); i++)
            if (str_starts(str_slice(text, at, text.n), closers[i])) {
                at += closers[i].n;
                again = true;
            }
    }
    return at;
}

static bool is_wide_stop(struct str text, size_t at)
{
    struct str three = str_slice(text, at, at + 3);
    return str_eq(three, STR("。")) || str_eq(three, STR("！")) || str_eq(three, STR("？"));
}

static bool starts_small(struct str text, size_t at)
{
    return at < text.n && text.p[at] >= 'a' && text.p[at] <= 'z';
}

static size_t sentence_end(struct str text)
{
    for (size_t i = 0; i < text.n;) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == 0xe3 || c == 0xef) {
            if (is_wide_stop(text, i))
                return white_end(text, closers_end(text, i + 3));
            i++;
            continue;
        }
        bool ellipsis = c == 0xe2 && str_eq(str_slice(text, i, i + 3), STR("…"));
        if (c != '.' && c != '!' && c != '?' && !ellipsis) {
            i++;
            continue;
        }
        size_t end = i + (ellipsis ? 3 : 1);
        while (end < text.n && (text.p[end] == '.' || text.p[end] == '!' || text.p[end] == '?'))
            end++;
        size_t close = closers_end(text, end), next = white_end(text, close);
        bool stop = next > close && !starts_small(text, next);
        if (stop && c == '.' && end == i + 1 && close == end)
            stop = !is_abbreviation(word_before(text, i));
        if (stop)
            return next;
        i = end;
    }
    return text.n;
}

static size_t word_end(struct str text)
{
    size_t at = 0;
    while (at < text.n && is_white(text.p[at]))
        at++;
    while (at < text.n && !is_white(text.p[at]))
        at++;
    return white_end(text, at);
}

size_t chunk_cut(struct str text, enum cut_grain grain)
{
    uint32_t codepoint;
    switch (grain) {
    case CUT_SENTENCE: return sentence_end(text);
    case CUT_LINE: {
        const char *lf = memchr(text.p, '\n', text.n);
        return lf ? (size_t)(lf - text.p) + 1 : text.n;
    }
    case CUT_WORD: return word_end(text);
    default: return MAX(utf8_next(text, &codepoint), MIN(text.n, 1));
    }
}
