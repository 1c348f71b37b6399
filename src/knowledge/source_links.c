/* The links of a page, by a scanner that knows tags, attributes, comments and the elements whose
 * content is no markup, and nothing else: one pass, no tree, whatever the bytes are. */
#include "knowledge/source_private.h"
#include "base/utf8.h"
#include <ctype.h>

struct scan {
    struct str html;
    size_t at;
    struct arena *arena;
    struct page_links *out;
};

struct tag {
    struct str name;
    struct str href, rel, meta_name, content; /* as they stand there */
};

static struct str rest_of(const struct scan *scan)
{
    return str_slice(scan->html, scan->at, scan->html.n);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void skip_spaces(struct scan *scan)
{
    while (scan->at < scan->html.n && is_space(scan->html.p[scan->at]))
        scan->at++;
}

/* Past the next `end`, or to the end of everything. */
static void skip_past(struct scan *scan, struct str end)
{
    ssize_t found = str_find(rest_of(scan), end);
    scan->at = found < 0 ? scan->html.n : scan->at + (size_t)found + end.n;
}

static struct str read_value(struct scan *scan)
{
    const char *p = scan->html.p;
    if (scan->at < scan->html.n && (p[scan->at] == '"' || p[scan->at] == '\'')) {
        char quote = p[scan->at++];
        size_t begin = scan->at;
        while (scan->at < scan->html.n && p[scan->at] != quote)
            scan->at++;
        struct str value = str_slice(scan->html, begin, scan->at);
        scan->at = MIN(scan->at + 1, scan->html.n);
        return value;
    }
    size_t begin = scan->at;
    while (scan->at < scan->html.n && !is_space(p[scan->at]) && p[scan->at] != '>')
        scan->at++;
    return str_slice(scan->html, begin, scan->at);
}

static void keep_attribute(struct tag *tag, struct str name, struct str value)
{
    struct str *const places[] = {&tag->href, &tag->rel, &tag->meta_name, &tag->content};
    static const char *const names[] = {"href", "rel", "name", "content"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!places[i]->p && str_eq_nocase(name, str_from(names[i])))
            *places[i] = value;
}

/* After the tag's name: its attributes, past the '>'. */
static void read_attributes(struct scan *scan, struct tag *tag)
{
    const char *p = scan->html.p;
    for (;;) {
        while (scan->at < scan->html.n && (is_space(p[scan->at]) || p[scan->at] == '/'))
            scan->at++;
        if (scan->at >= scan->html.n || p[scan->at] == '>') {
            scan->at = MIN(scan->at + 1, scan->html.n);
            return;
        }
        size_t begin = scan->at++;
        while (scan->at < scan->html.n && !is_space(p[scan->at]) && p[scan->at] != '=' &&
               p[scan->at] != '>' && p[scan->at] != '/')
            scan->at++;
        struct str name = str_slice(scan->html, begin, scan->at), value = STR("");
        skip_spaces(scan);
        if (scan->at < scan->html.n && p[scan->at] == '=') {
            scan->at++;
            skip_spaces(scan);
            value = read_value(scan);
        }
        keep_attribute(tag, name, value);
    }
}

/* "&amp;", "&#38;", "&#x26;" and the few names that stand in addresses; others stay as they are. */
static size_t decode_entity(struct str s, char out[4], size_t *n)
{
    static const struct {
        struct str name;
        char c;
    } names[] = {{STR_INIT("&amp;"), '&'},
                 {STR_INIT("&quot;"), '"'},
                 {STR_INIT("&apos;"), '\''},
                 {STR_INIT("&lt;"), '<'},
                 {STR_INIT("&gt;"), '>'}};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_starts(s, names[i].name)) {
            out[0] = names[i].c;
            *n = 1;
            return names[i].name.n;
        }
    bool hex = s.n > 2 && (s.p[2] == 'x' || s.p[2] == 'X');
    size_t at = hex ? 3 : 2, begin = at;
    uint32_t code = 0;
    if (!str_starts(s, STR("&#")))
        return 0;
    for (; at < s.n && at < begin + 7 && isxdigit((unsigned char)s.p[at]); at++) {
        int c = tolower((unsigned char)s.p[at]);
        if (!hex && !isdigit(c))
            break;
        code = code * (hex ? 16 : 10) + (uint32_t)(isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    bool good = at > begin && at < s.n && s.p[at] == ';' && code >= ' ' && code <= 0x10ffff &&
                !(code >= 0xd800 && code <= 0xdfff);
    if (!good)
        return 0;
    *n = utf8_encode(code, out);
    return at + 1;
}

static struct str decode_value(struct str s, struct arena *arena)
{
    char *p = arena_alloc(arena, s.n + 4);
    size_t n = 0;
    for (size_t i = 0; p && i < s.n;) {
        char encoded[4];
        size_t bytes,
            taken = s.p[i] == '&' ? decode_entity(str_slice(s, i, s.n), encoded, &bytes) : 0;
        if (taken) { /* never longer than what stands for it */
            memcpy(p + n, encoded, bytes);
            n += bytes;
            i += taken;
        } else {
            p[n++] = s.p[i++];
        }
    }
    return p ? str_make(p, n) : STR_EMPTY;
}

static bool has_word(struct str text, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= text.n; i++) {
        bool begins = i == 0 || !isalnum((unsigned char)text.p[i - 1]);
        bool ends = i + n == text.n || !isalnum((unsigned char)text.p[i + n]);
        if (begins && ends && str_eq_nocase(str_slice(text, i, i + n), str_make(word, n)))
            return true;
    }
    return false;
}

static enum rc take_tag(struct scan *scan, const struct tag *tag, struct err *err)
{
    struct page_links *out = scan->out;
    bool link = str_eq_nocase(tag->name, STR("a")) || str_eq_nocase(tag->name, STR("area"));
    if (str_eq_nocase(tag->name, STR("meta")) && (str_eq_nocase(tag->meta_name, STR("robots")) ||
                                                  str_eq_nocase(tag->meta_name, STR("capstan")))) {
        bool none = has_word(tag->content, "none");
        out->noindex |= none || has_word(tag->content, "noindex");
        out->nofollow |= none || has_word(tag->content, "nofollow");
    }
    bool base = str_eq_nocase(tag->name, STR("base")) && tag->href.n && !out->base.p;
    if (!base &&
        (!link || !tag->href.p || has_word(tag->rel, "nofollow") || out->count >= PAGE_LINKS_MAX))
        return RC_OK;
    struct str value = decode_value(str_trim(tag->href), scan->arena);
    if (!value.p)
        return err_set(err, ERR_TOO_LARGE, "the page has more links than there is memory for");
    if (base)
        out->base = value;
    else
        out->references[out->count++] = value;
    return RC_OK;
}

/* Elements whose content is text, not markup: past their end tag. */
static void skip_raw(struct scan *scan, struct str name)
{
    static const char *const raw[] = {"script", "style", "textarea", "title", "xmp", "noembed"};
    bool is_raw = false;
    for (size_t i = 0; i < COUNT_OF(raw); i++)
        is_raw |= str_eq_nocase(name, str_from(raw[i]));
    while (is_raw && scan->at < scan->html.n) {
        skip_past(scan, STR("</"));
        if (str_eq_nocase(str_slice(rest_of(scan), 0, name.n), name))
            return;
    }
}

enum rc links_parse(struct str html, struct arena *arena, struct page_links *out, struct err *err)
{
    struct scan scan = {.html = html, .arena = arena, .out = out};
    enum rc rc = RC_OK;
    *out = (struct page_links){.references = ARENA_NEW_ARRAY(arena, struct str, PAGE_LINKS_MAX)};
    if (!out->references)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for the page's links");
    while (rc == RC_OK && scan.at < html.n) {
        skip_past(&scan, STR("<"));
        struct str rest = rest_of(&scan);
        if (str_starts(rest, STR("!--"))) {
            scan.at += 3;
            skip_past(&scan, STR("-->"));
            continue;
        }
        size_t n = 0;
        while (n < rest.n && isalnum((unsigned char)rest.p[n]))
            n++;
        if (n == 0)
            continue; /* an end tag, a declaration, or just a sign */
        struct tag tag = {.name = str_slice(rest, 0, n)};
        scan.at += n;
        read_attributes(&scan, &tag);
        rc = take_tag(&scan, &tag, err);
        skip_raw(&scan, tag.name);
    }
    return rc;
}
