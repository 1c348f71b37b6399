/* See page_text.h. */
#include "pipeline/tools/page_text.h"
#include "base/utf8.h"

struct page {
    char *out;
    size_t n;
    bool space, line; /* owed before the next word */
};

static void put_byte(struct page *page, char c)
{
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
        page->space = true;
        return;
    }
    if (page->n && page->line)
        page->out[page->n++] = '\n';
    else if (page->n && page->space)
        page->out[page->n++] = ' ';
    page->space = page->line = false;
    page->out[page->n++] = c;
}

static bool is_one_of(struct str name, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (str_eq_nocase(name, str_from(names[i])))
            return true;
    return false;
}

/* Where the element ends whose text is not the page's; what is never closed goes to the end. */
static size_t skip_element(struct str page, size_t at, struct str name)
{
    for (; at + name.n + 2 <= page.n; at++)
        if (page.p[at] == '<' && page.p[at + 1] == '/' &&
            str_eq_nocase(str_slice(page, at + 2, at + 2 + name.n), name))
            return at;
    return page.n;
}

static size_t skip_comment(struct str page, size_t at)
{
    ssize_t end = str_find(str_slice(page, at, page.n), STR("-->"));
    return end < 0 ? page.n : at + (size_t)end + 3;
}

/* A tag, from '<' on. Returns where the text goes on. */
static size_t read_tag(struct page *page, struct str text, size_t at)
{
    static const char *const hidden[] = {"script", "style",    "noscript", "template",
                                         "svg",    "textarea", NULL};
    static const char *const inside[] = {"a",    "abbr", "b",    "bdi",  "bdo",   "cite", "code",
                                         "data", "dfn",  "em",   "font", "i",     "img",  "kbd",
                                         "mark", "q",    "s",    "samp", "small", "span", "strong",
                                         "sub",  "sup",  "time", "u",    "var",   "wbr",  NULL};
    if (str_starts(str_slice(text, at, text.n), STR("<!--")))
        return skip_comment(text, at + 4);
    bool closes = at + 1 < text.n && text.p[at + 1] == '/';
    size_t begin = at + 1 + closes, end = begin;
    while (end < text.n && (((text.p[end] | 0x20) >= 'a' && (text.p[end] | 0x20) <= 'z') ||
                            (text.p[end] >= '0' && text.p[end] <= '9')))
        end++;
    struct str name = str_slice(text, begin, end);
    bool declares = begin < text.n && (text.p[begin] == '!' || text.p[begin] == '?');
    if (!name.n && !closes && !declares) {
        put_byte(page, '<'); /* "a < b" */
        return at + 1;
    }
    char quote = 0;
    while (end < text.n && (quote || text.p[end] != '>')) {
        char c = text.p[end++];
        if (c == '"' || c == '\'')
            quote = !quote ? c : quote == c ? 0 : quote;
    }
    end = MIN(end + 1, text.n);
    page->line |= !is_one_of(name, inside);
    return !closes && is_one_of(name, hidden) ? skip_element(text, end, name) : end;
}

/* A character reference, from '&' on. */
static size_t read_reference(struct page *page, struct str text, size_t at)
{
    static const struct {
        struct str name, text;
    } names[] = {{STR_INIT("amp"), STR_INIT("&")},     {STR_INIT("lt"), STR_INIT("<")},
                 {STR_INIT("gt"), STR_INIT(">")},      {STR_INIT("quot"), STR_INIT("\"")},
                 {STR_INIT("apos"), STR_INIT("'")},    {STR_INIT("nbsp"), STR_INIT(" ")},
                 {STR_INIT("ndash"), STR_INIT("-")},   {STR_INIT("mdash"), STR_INIT("-")},
                 {STR_INIT("hellip"), STR_INIT("...")}};
    struct str rest = str_slice(text, at + 1, MIN(text.n, at + 12));
    ssize_t end = str_find_char(rest, ';');
    struct str name = str_slice(rest, 0, end > 0 ? (size_t)end : 0);
    uint32_t code = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(name, names[i].name)) {
            for (size_t k = 0; k < names[i].text.n; k++)
                put_byte(page, names[i].text.p[k]);
            return at + 2 + name.n;
        }
    bool hex = name.n > 2 && (name.p[1] | 0x20) == 'x', number = name.n > 1 && name.p[0] == '#';
    for (size_t i = hex ? 2 : 1; number && i < name.n; i++) {
        char c = name.p[i], lower = (char)(c | 0x20);
        uint32_t digit = c >= '0' && c <= '9'                  ? (uint32_t)(c - '0')
                         : hex && lower >= 'a' && lower <= 'f' ? (uint32_t)(lower - 'a' + 10)
                                                               : 99;
        number = digit != 99 && code < 0x110000;
        code = code * (hex ? 16 : 10) + digit;
    }
    if (!number || code == 0 || code >= 0x110000 || (code >= 0xd800 && code < 0xe000)) {
        put_byte(page, '&');
        return at + 1;
    }
    char bytes[4];
    size_t n = utf8_encode(code, bytes);
    for (size_t k = 0; k < n; k++)
        put_byte(page, bytes[k]);
    return at + 2 + name.n;
}

struct str page_text(struct str text, struct str type, struct arena *arena)
{
    struct str start = str_trim(str_slice(text, 0, MIN(text.n, 64)));
    bool tagged = str_find(type, STR("html")) >= 0 || str_find(type, STR("xml")) >= 0 ||
                  str_starts(start, STR("<!")) || str_starts(start, STR("<html")) ||
                  str_starts(start, STR("<?xml"));
    if (!tagged)
        return arena_copy(arena, text);
    /* Each byte of the input puts out two at most: itself and what was owed before it. */
    struct page page = {.out = arena_alloc(arena, 2 * text.n + 1)};
    for (size_t at = 0; page.out && at < text.n;) {
        if (text.p[at] == '<')
            at = read_tag(&page, text, at);
        else if (text.p[at] == '&')
            at = read_reference(&page, text, at);
        else
            put_byte(&page, text.p[at++]);
    }
    return page.out ? str_make(page.out, page.n) : STR_EMPTY;
}
