/* The query parser: stretches of plain text go through the analyzer as a whole, so that words are
 * cut as in documents; only quotes and a star at the end of a word are special. */
#include "vector/words_query.h"

struct parse {
    struct analyzer *analyzer;
    struct arena *arena;
    struct words_query *query;
    struct words_item *phrase; /* being filled; NULL: outside */
    uint32_t phrase_start;
    bool stop[WORDS_ITEMS_MAX]; /* the item is a function word */
    bool failed;
};

/* The item if it is new and there is room. */
static struct words_item *add_item(struct parse *p, enum words_kind kind, struct str term)
{
    struct words_query *q = p->query;
    for (size_t i = 0; kind != WORDS_PHRASE && i < q->item_count; i++) {
        if (q->items[i].kind == kind && str_eq(q->items[i].terms[0], term)) {
            q->items[i].count++;
            return NULL;
        }
    }
    if (q->item_count == WORDS_ITEMS_MAX)
        return NULL;
    struct words_item *item = &q->items[q->item_count++];
    *item = (struct words_item){.kind = kind, .count = 1};
    p->stop[q->item_count - 1] = false;
    if (kind != WORDS_PHRASE) {
        item->terms[0] = term;
        item->term_count = 1;
    }
    return item;
}

static void on_term(void *arg, const struct analyzer_term *term)
{
    struct parse *p = arg;
    struct str text = arena_copy(p->arena, term->text);
    if (!text.p) {
        p->failed = true;
        return;
    }
    if (p->phrase) {
        struct words_item *item = p->phrase;
        if (item->term_count == WORDS_PHRASE_MAX)
            return;
        if (item->term_count == 0)
            p->phrase_start = term->position;
        item->offsets[item->term_count] = term->position - p->phrase_start;
        item->terms[item->term_count++] = text;
        return;
    }
    struct words_item *item = add_item(p, term->single ? WORDS_PREFIX : WORDS_TERM, text);
    if (item)
        p->stop[item - p->query->items] = term->stop;
}

static void add_phrase(struct parse *p, struct str text)
{
    p->phrase = add_item(p, WORDS_PHRASE, STR_EMPTY);
    if (!p->phrase)
        return;
    analyzer_run(p->analyzer, text, on_term, p);
    if (p->phrase->term_count == 0)
        p->query->item_count--;
    else
        p->query->has_phrase = true;
    p->phrase = NULL;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool in_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (uint8_t)c >= 0x80;
}

/* Plain text without quotes. */
static void add_words(struct parse *p, struct str text)
{
    size_t from = 0;
    for (size_t at = 1; at < text.n; at++) {
        bool ends = at + 1 == text.n || is_space(text.p[at + 1]);
        if (text.p[at] != '*' || !ends || !in_word(text.p[at - 1]))
            continue;
        size_t start = at;
        while (start > from && in_word(text.p[start - 1]))
            start--;
        analyzer_run(p->analyzer, str_slice(text, from, start), on_term, p);
        char folded[WORDS_TERM_BYTES_MAX];
        size_t n = analyzer_fold(str_slice(text, start, at), folded);
        struct str prefix = arena_copy(p->arena, str_make(folded, n));
        p->failed |= prefix.p == NULL;
        if (n > 0 && prefix.p)
            add_item(p, WORDS_PREFIX, prefix);
        from = at + 1;
    }
    analyzer_run(p->analyzer, str_slice(text, from, text.n), on_term, p);
}

/* Function words go when anything else is asked for. Numbers the terms. */
static void finish(struct parse *p)
{
    struct words_query *q = p->query;
    bool other = false;
    for (size_t i = 0; i < q->item_count; i++)
        other |= !p->stop[i];
    size_t kept = 0;
    for (size_t i = 0; i < q->item_count; i++) {
        struct words_item *item = &q->items[i];
        if ((other && p->stop[i]) || q->term_count + item->term_count > WORDS_TERMS_MAX)
            continue;
        item->first_term = q->term_count;
        q->term_count += item->term_count;
        if (kept != i)
            q->items[kept] = *item;
        kept++;
    }
    q->item_count = kept;
}

enum rc words_query_parse(struct str text, struct analyzer *analyzer, struct arena *arena,
                          struct words_query *out)
{
    struct parse p = {.analyzer = analyzer, .arena = arena, .query = out};
    *out = (struct words_query){0};
    out->items = ARENA_NEW_ARRAY(arena, struct words_item, WORDS_ITEMS_MAX);
    if (!out->items)
        return RC_LIMIT;
    while (text.n) {
        ssize_t quote = str_find_char(text, '"');
        size_t plain = quote < 0 ? text.n : (size_t)quote;
        add_words(&p, str_slice(text, 0, plain));
        text = str_slice(text, plain + 1, text.n);
        if (quote < 0)
            break;
        ssize_t close = str_find_char(text, '"');
        size_t n = close < 0 ? text.n : (size_t)close;
        if (close < 0) /* a quote that is never closed says inches or is a slip */
            add_words(&p, text);
        else
            add_phrase(&p, str_slice(text, 0, n));
        text = str_slice(text, n + 1, text.n);
    }
    finish(&p);
    return p.failed ? RC_LIMIT : RC_OK;
}
