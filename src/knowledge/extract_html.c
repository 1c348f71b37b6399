/* HTML by gumbo (the HTML 5 algorithm, so any bytes parse). The tree is walked without recursion,
 * since it may be as deep as the file is long; all of gumbo's memory comes from the arena.
 *
 * A page's main content: <main>, else the only <article>, else the body; without navigation,
 * headers, footers, forms' controls and what is hidden; and without runs of short lines that are
 * nearly all links. Where too little is left after that, everything is taken. */
#include "knowledge/extract_reader.h"
#include <gumbo.h>
#include <setjmp.h>

#define LINK_RUN_MIN    3   /* so many link-heavy lines in a row are a menu */
#define LINK_LINE_BYTES 120 /* a link-heavy line is no longer */
#define KEPT_BYTES_MIN  200

struct item {
    enum block_kind kind;
    unsigned level;
    struct str text;
    bool is_links; /* nearly all of it is the text of links */
};

struct html {
    struct reader *reader;
    const GumboNode *main;
    bool whole; /* nothing is boilerplate */
    struct buf line;
    size_t link_bytes; /* of the line */
    unsigned pre, lists, quotes, links, rows, cells, header_cells;
    unsigned heading;       /* level, 0: none */
    const GumboNode *table; /* the last one looked at: */
    bool table_is_for_layout;
    struct item *items;
    size_t item_count, item_capacity;
    enum rc rc;
};

/* ---- gumbo's memory ---- */

struct memory {
    struct arena *arena;
    jmp_buf exhausted; /* gumbo does not check what it gets */
};

static void *take(void *arg, size_t n)
{
    struct memory *memory = arg;
    void *p = arena_alloc(memory->arena, n);
    if (!p)
        longjmp(memory->exhausted, 1);
    return p;
}

static void give(void *arg, void *p) { /* with the arena */ }

static enum rc parse(struct reader *reader, struct memory *memory, struct str text,
                     GumboOutput **out)
{
    memory->arena = reader->arena;
    GumboOptions options = kGumboDefaultOptions;
    options.allocator = take;
    options.deallocator = give;
    options.userdata = memory;
    options.max_errors = 0;
    if (setjmp(memory->exhausted))
        return reader_no_memory(reader);
    *out = gumbo_parse_with_options(&options, text.p ? text.p : "", text.n);
    return RC_OK;
}

/* ---- what an element is ---- */

static struct str attribute(const GumboNode *node, const char *name)
{
    const GumboAttribute *found = gumbo_get_attribute(&node->v.element.attributes, name);
    return found ? str_from(found->value) : STR_EMPTY;
}

static bool is_one_of(struct str word, const char *words)
{
    struct str rest = str_from(words), one;
    while (str_split(&rest, ' ', &one))
        if (str_eq_nocase(word, one))
            return true;
    return false;
}

/* "site-footer" and "nav" are, "content-with-sidebar" is not. */
static bool word_names_boilerplate(struct str word)
{
    bool named = false;
    struct str part;
    while (word.n) {
        size_t n = 0;
        while (n < word.n && word.p[n] != '-' && word.p[n] != '_')
            n++;
        part = str_slice(word, 0, n);
        word = str_slice(word, n + 1, word.n);
        if (is_one_of(part, "content main with has no without page layout container wrapper body "
                            "article post text doc document inner"))
            return false;
        named |= is_one_of(part, "nav navbar navigation menu sidebar footer breadcrumb breadcrumbs "
                                 "cookie cookies consent share sharing social related promo advert "
                                 "advertisement ads newsletter pagination pager skip masthead");
    }
    return named;
}

static bool names_boilerplate(struct str words)
{
    struct str word;
    while (str_split(&words, ' ', &word))
        if (word_names_boilerplate(word))
            return true;
    return false;
}

static bool is_hidden(const GumboNode *node)
{
    struct str style = attribute(node, "style");
    return gumbo_get_attribute(&node->v.element.attributes, "hidden") ||
           str_eq_nocase(attribute(node, "aria-hidden"), STR("true")) ||
           str_find(style, STR("display:none")) >= 0 || str_find(style, STR("display: none")) >= 0;
}

/* Never text, whatever the page. */
static bool is_machinery(GumboTag tag)
{
    switch (tag) {
    case GUMBO_TAG_HEAD:
    case GUMBO_TAG_SCRIPT:
    case GUMBO_TAG_STYLE:
    case GUMBO_TAG_NOSCRIPT:
    case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_SVG:
    case GUMBO_TAG_IFRAME:
    case GUMBO_TAG_OBJECT:
    case GUMBO_TAG_CANVAS:
    case GUMBO_TAG_SELECT:
    case GUMBO_TAG_TEXTAREA:
    case GUMBO_TAG_BUTTON: return true;
    default: return false;
    }
}

static bool is_boilerplate(const struct html *html, const GumboNode *node)
{
    GumboTag tag = node->v.element.tag;
    if (html->whole || node == html->main || tag == GUMBO_TAG_BODY || tag == GUMBO_TAG_HTML)
        return false;
    if (tag == GUMBO_TAG_NAV || tag == GUMBO_TAG_ASIDE)
        return true;
    bool in_main =
        html->main->type == GUMBO_NODE_ELEMENT && html->main->v.element.tag != GUMBO_TAG_BODY;
    if ((tag == GUMBO_TAG_HEADER || tag == GUMBO_TAG_FOOTER) && !in_main)
        return true;
    struct str role = attribute(node, "role");
    if (role.n &&
        is_one_of(role, "navigation banner contentinfo complementary search menu menubar dialog"))
        return true;
    bool is_box = tag == GUMBO_TAG_DIV || tag == GUMBO_TAG_UL || tag == GUMBO_TAG_SECTION;
    return is_box && (names_boilerplate(attribute(node, "class")) ||
                      names_boilerplate(attribute(node, "id")));
}

static bool is_block(GumboTag tag)
{
    switch (tag) {
    case GUMBO_TAG_P:
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_ARTICLE:
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_ASIDE:
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_PRE:
    case GUMBO_TAG_UL:
    case GUMBO_TAG_OL:
    case GUMBO_TAG_LI:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_DT:
    case GUMBO_TAG_DD:
    case GUMBO_TAG_TABLE:
    case GUMBO_TAG_TR:
    case GUMBO_TAG_CAPTION:
    case GUMBO_TAG_FIGURE:
    case GUMBO_TAG_FIGCAPTION:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_SUMMARY:
    case GUMBO_TAG_FORM:
    case GUMBO_TAG_FIELDSET:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_BODY:
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6: return true;
    default: return false;
    }
}

/* ---- lines ---- */

static void append(struct html *html, struct str text)
{
    if (html->rc == RC_OK && buf_append(&html->line, text) != RC_OK)
        html->rc =
            err_set(html->reader->err, ERR_TOO_LARGE, "the file holds more than %lld bytes of text",
                    (long long)html->reader->limits.text_bytes);
}

static bool is_white(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

/* White space becomes one space, as a browser shows it. */
static void append_text(struct html *html, struct str text)
{
    size_t before = buf_len(&html->line);
    if (html->pre) {
        append(html, text);
    } else {
        size_t at = 0;
        while (at < text.n) {
            size_t word = at;
            while (word < text.n && !is_white(text.p[word]))
                word++;
            if (word > at)
                append(html, str_slice(text, at, word));
            at = word;
            while (at < text.n && is_white(text.p[at]))
                at++;
            size_t n = buf_len(&html->line);
            char last = n ? html->line.p[html->line.start + n - 1] : ' ';
            if (at > word && last != ' ' && last != '\n')
                append(html, STR(" "));
        }
    }
    if (html->links)
        html->link_bytes += buf_len(&html->line) - before;
}

static void flush(struct html *html)
{
    struct str text = buf_str(&html->line);
    struct item item = {.kind = BLOCK_TEXT};
    if (html->heading)
        item.kind = BLOCK_HEADING, item.level = html->heading;
    else if (html->rows)
        item.kind = BLOCK_TABLE_ROW, item.level = html->header_cells && !html->cells;
    else if (html->pre)
        item.kind = BLOCK_CODE;
    else if (html->lists)
        item.kind = BLOCK_LIST_ITEM, item.level = html->lists;
    else if (html->quotes)
        item.kind = BLOCK_QUOTE, item.level = html->quotes;
    bool blank = !str_trim(text).n;
    if (!blank && html->rc == RC_OK) {
        item.text = arena_copy(html->reader->arena, text);
        item.is_links = item.kind != BLOCK_HEADING && text.n <= LINK_LINE_BYTES &&
                        html->link_bytes * 5 >= str_trim(text).n * 4;
        if (html->item_count == html->item_capacity) {
            size_t capacity = MAX(html->item_capacity * 2, 64);
            struct item *items = ARENA_NEW_ARRAY(html->reader->arena, struct item, capacity);
            if (items && html->item_count)
                memcpy(items, html->items, html->item_count * sizeof(*items));
            html->items = items;
            html->item_capacity = capacity;
        }
        if (!item.text.p || !html->items)
            html->rc = reader_no_memory(html->reader);
        else
            html->items[html->item_count++] = item;
    }
    buf_clear(&html->line);
    html->link_bytes = 0;
}

/* ---- the walk ---- */

/* A table that only arranges boxes: it holds tables or headings, or has one column. */
static bool is_layout_table(const GumboNode *table)
{
    unsigned columns_max = 0, columns = 0;
    if (str_eq_nocase(attribute(table, "role"), STR("presentation")))
        return true;
    const GumboNode *node = table;
    for (;;) {
        const GumboVector *children =
            node->type == GUMBO_NODE_ELEMENT ? &node->v.element.children : NULL;
        if (node != table && children) {
            GumboTag tag = node->v.element.tag;
            if (tag == GUMBO_TAG_TABLE || (tag >= GUMBO_TAG_H1 && tag <= GUMBO_TAG_H6))
                return true;
            if (tag == GUMBO_TAG_TR)
                columns = 0;
            if (tag == GUMBO_TAG_TD || tag == GUMBO_TAG_TH)
                columns_max = MAX(columns_max, ++columns);
        }
        if (children && children->length) {
            node = children->data[0];
            continue;
        }
        while (node != table &&
               node->index_within_parent + 1 >= node->parent->v.element.children.length)
            node = node->parent;
        if (node == table)
            return columns_max < 2;
        node = node->parent->v.element.children.data[node->index_within_parent + 1];
    }
}

static const GumboNode *table_of(const GumboNode *row)
{
    while (row && !(row->type == GUMBO_NODE_ELEMENT && row->v.element.tag == GUMBO_TAG_TABLE))
        row = row->parent;
    return row;
}

static void enter_row(struct html *html, const GumboNode *node)
{
    const GumboNode *table = table_of(node);
    if (table != html->table)
        html->table_is_for_layout = !table || is_layout_table(table);
    html->table = table;
    if (!html->table_is_for_layout) {
        html->rows = 1;
        html->cells = html->header_cells = 0;
    }
}

static void enter_cell(struct html *html, GumboTag tag)
{
    if (!html->rows) {
        flush(html);
        return;
    }
    size_t n = buf_len(&html->line);
    if (n && html->line.p[html->line.start + n - 1] == ' ')
        html->line.end--;
    if (html->cells + html->header_cells)
        append(html, STR(" | "));
    if (tag == GUMBO_TAG_TH)
        html->header_cells++;
    else
        html->cells++;
}

/* The marks of a list item's or quote's beginning and end: they change what the next line is. */
static void count(struct html *html, const GumboNode *node, int step)
{
    GumboTag tag = node->v.element.tag;
    switch (tag) {
    case GUMBO_TAG_UL:
    case GUMBO_TAG_OL: html->lists += (unsigned)step; break;
    case GUMBO_TAG_BLOCKQUOTE: html->quotes += (unsigned)step; break;
    case GUMBO_TAG_PRE: html->pre += (unsigned)step; break;
    case GUMBO_TAG_A: html->links += (unsigned)step; break;
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6: html->heading = step > 0 ? (unsigned)(tag - GUMBO_TAG_H1) + 1 : 0; break;
    default: break;
    }
}

/* False: neither the node nor what is in it is wanted. */
static bool enter(struct html *html, const GumboNode *node)
{
    if (node->type == GUMBO_NODE_TEXT || node->type == GUMBO_NODE_WHITESPACE ||
        node->type == GUMBO_NODE_CDATA) {
        append_text(html, str_from(node->v.text.text));
        return false;
    }
    if (node->type != GUMBO_NODE_ELEMENT)
        return false;
    GumboTag tag = node->v.element.tag;
    if (is_machinery(tag) || is_hidden(node) || is_boilerplate(html, node))
        return false;
    if (tag == GUMBO_TAG_BR)
        append(html, html->rows ? STR(" ") : STR("\n"));
    else if (tag == GUMBO_TAG_TD || tag == GUMBO_TAG_TH)
        enter_cell(html, tag);
    else if (is_block(tag) && !html->rows)
        flush(html);
    else if (is_block(tag))
        append_text(html, STR(" "));
    count(html, node, 1);
    if (tag == GUMBO_TAG_TR)
        enter_row(html, node);
    return true;
}

static void leave(struct html *html, const GumboNode *node)
{
    GumboTag tag = node->v.element.tag;
    if (tag == GUMBO_TAG_TR && html->rows) {
        flush(html);
        html->rows = 0;
    } else if (is_block(tag) && !html->rows) {
        flush(html);
    } else if (is_block(tag)) {
        append_text(html, STR(" "));
    }
    count(html, node, -1);
}

static void walk(struct html *html, const GumboNode *root)
{
    const GumboNode *node = root;
    while (html->rc == RC_OK) {
        bool inside = enter(html, node);
        if (inside && node->v.element.children.length) {
            node = node->v.element.children.data[0];
            continue;
        }
        if (inside)
            leave(html, node);
        while (node != root &&
               node->index_within_parent + 1 >= node->parent->v.element.children.length) {
            node = node->parent;
            leave(html, node);
        }
        if (node == root)
            break;
        node = node->parent->v.element.children.data[node->index_within_parent + 1];
    }
    flush(html);
}

/* ---- the page ---- */

/* What the whole document says of itself, found in one pass. */
struct page {
    const GumboNode *body, *main, *article;
    unsigned articles;
    const char *title;
    struct str language;
};

static void note(struct page *page, const GumboNode *node)
{
    if (node->type != GUMBO_NODE_ELEMENT)
        return;
    const GumboVector *children = &node->v.element.children;
    switch (node->v.element.tag) {
    case GUMBO_TAG_HTML: page->language = attribute(node, "lang"); break;
    case GUMBO_TAG_BODY: page->body = page->body ? page->body : node; break;
    case GUMBO_TAG_MAIN: page->main = page->main ? page->main : node; break;
    case GUMBO_TAG_ARTICLE:
        page->article = node;
        page->articles++;
        break;
    case GUMBO_TAG_TITLE:
        if (!page->title && children->length &&
            ((const GumboNode *)children->data[0])->type == GUMBO_NODE_TEXT)
            page->title = ((const GumboNode *)children->data[0])->v.text.text;
        break;
    default:
        if (!page->main && str_eq_nocase(attribute(node, "role"), STR("main")))
            page->main = node;
    }
}

static void survey(struct page *page, const GumboNode *root)
{
    const GumboNode *node = root;
    for (;;) {
        note(page, node);
        if (node->type == GUMBO_NODE_ELEMENT && node->v.element.children.length) {
            node = node->v.element.children.data[0];
            continue;
        }
        while (node != root &&
               node->index_within_parent + 1 >= node->parent->v.element.children.length)
            node = node->parent;
        if (node == root)
            return;
        node = node->parent->v.element.children.data[node->index_within_parent + 1];
    }
}

static size_t bytes_of(const struct html *html, bool without_links)
{
    size_t n = 0;
    for (size_t i = 0; i < html->item_count; i++)
        n += without_links && html->items[i].is_links ? 0 : html->items[i].text.n;
    return n;
}

/* Marks a run of link-heavy lines as kept when it is too short for a menu. */
static void keep_short_runs(struct html *html)
{
    for (size_t i = 0; i < html->item_count;) {
        size_t end = i;
        while (end < html->item_count && html->items[end].is_links)
            end++;
        if (end - i < LINK_RUN_MIN)
            for (size_t k = i; k < end; k++)
                html->items[k].is_links = false;
        i = MAX(end, i + 1);
    }
}

static enum rc collect(struct html *html, const GumboNode *root, bool whole)
{
    html->main = root;
    html->whole = whole;
    html->item_count = 0;
    html->pre = html->lists = html->quotes = html->links = html->rows = html->heading = 0;
    walk(html, root);
    keep_short_runs(html);
    return html->rc;
}

static enum rc emit(struct html *html, bool without_links)
{
    for (size_t i = 0; i < html->item_count && html->rc == RC_OK; i++) {
        const struct item *item = &html->items[i];
        if (!(without_links && item->is_links))
            html->rc = reader_add(html->reader, item->kind, item->level, item->text, NULL);
    }
    return html->rc;
}

static enum rc read_page(struct reader *reader, struct str text, bool whole)
{
    struct memory memory;
    GumboOutput *output = NULL;
    enum rc rc = parse(reader, &memory, text, &output);
    if (rc != RC_OK)
        return rc;
    struct page page = {0};
    survey(&page, output->root);
    if (!whole)
        reader_set_title(reader, str_from(page.title));
    reader_set_language(reader, page.language);
    const GumboNode *body = page.body ? page.body : output->root;
    const GumboNode *root = page.main ? page.main : page.articles == 1 ? page.article : body;
    struct html html = {.reader = reader};
    buf_init(&html.line, (size_t)reader->limits.text_bytes);
    rc = collect(&html, whole ? body : root, whole);
    if (rc == RC_OK && !whole && root != body && bytes_of(&html, true) < KEPT_BYTES_MIN)
        rc = collect(&html, body, false);
    bool without_links = !whole && bytes_of(&html, true) >= KEPT_BYTES_MIN;
    if (rc == RC_OK && !whole && !without_links && bytes_of(&html, false) < KEPT_BYTES_MIN)
        rc = collect(&html, body, true);
    if (rc == RC_OK)
        rc = emit(&html, without_links);
    buf_fini(&html.line);
    return rc;
}

/* The encoding that the page's head names. */
static struct str declared_charset(struct str bytes)
{
    struct str head = str_slice(bytes, 0, 2048);
    ssize_t at = str_find(head, STR("charset="));
    if (at < 0)
        at = str_find(head, STR("CHARSET="));
    if (at < 0)
        return STR_EMPTY;
    head = str_slice(head, (size_t)at + 8, head.n);
    size_t from = head.n && (head.p[0] == '"' || head.p[0] == '\''), to = from;
    while (to < head.n && !strchr("\"'/> ;\r\n", head.p[to]))
        to++;
    return str_slice(head, from, to);
}

enum rc read_html(struct reader *reader, struct str bytes)
{
    struct str text;
    enum rc rc = charset_decode(reader, bytes, declared_charset(bytes), &text);
    return rc == RC_OK ? read_page(reader, text, false) : rc;
}

enum rc read_html_part(struct reader *reader, struct str bytes, struct str charset)
{
    struct str text;
    enum rc rc =
        charset_decode(reader, bytes, charset.n ? charset : declared_charset(bytes), &text);
    return rc == RC_OK ? read_page(reader, text, true) : rc;
}
