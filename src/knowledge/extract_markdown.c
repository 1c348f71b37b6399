/* Markdown as GitHub writes it, by md4c. Markup goes, structure stays; HTML within is read as HTML.
 * Front matter (a YAML head between lines of ---) gives the title and is not text. */
#include "base/utf8.h"
#include "knowledge/extract_reader.h"
#include <md4c.h>
#include <stdlib.h>

struct markdown {
    struct reader *reader;
    struct buf line; /* of the block that is open */
    enum block_kind kind;
    unsigned level, list_depth, quote_depth, cell;
    bool in_header_row, in_html;
    enum rc rc;
};

static int flush(struct markdown *md)
{
    if (md->rc != RC_OK)
        return 1; /* md4c goes on after some errors */
    struct str text = buf_str(&md->line);
    if (md->kind == BLOCK_HEADING && md->level == 1)
        reader_set_title(md->reader, text);
    enum block_kind kind = md->kind;
    unsigned level = md->level;
    if (kind == BLOCK_TEXT && md->list_depth) {
        kind = BLOCK_LIST_ITEM;
        level = md->list_depth;
    } else if (kind == BLOCK_TEXT && md->quote_depth) {
        kind = BLOCK_QUOTE;
        level = md->quote_depth;
    }
    md->rc = reader_add(md->reader, kind, level, text, NULL);
    buf_clear(&md->line);
    md->kind = BLOCK_TEXT;
    md->level = 0;
    return md->rc != RC_OK;
}

static int open_block(struct markdown *md, enum block_kind kind, unsigned level)
{
    int stop = flush(md);
    md->kind = kind;
    md->level = level;
    return stop;
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *arg)
{
    struct markdown *md = arg;
    switch (type) {
    case MD_BLOCK_UL:
    case MD_BLOCK_OL: {
        int stop = flush(md);
        md->list_depth++;
        return stop;
    }
    case MD_BLOCK_QUOTE: md->quote_depth++; return flush(md);
    case MD_BLOCK_H: return open_block(md, BLOCK_HEADING, ((MD_BLOCK_H_DETAIL *)detail)->level);
    case MD_BLOCK_CODE: return open_block(md, BLOCK_CODE, 0);
    case MD_BLOCK_THEAD: md->in_header_row = true; return 0;
    case MD_BLOCK_TR: md->cell = 0; return open_block(md, BLOCK_TABLE_ROW, md->in_header_row);
    case MD_BLOCK_TH:
    case MD_BLOCK_TD: return md->cell++ && buf_append(&md->line, STR(" | ")) != RC_OK;
    case MD_BLOCK_HTML: md->in_html = true; return open_block(md, BLOCK_TEXT, 0);
    case MD_BLOCK_P:
    case MD_BLOCK_LI: return open_block(md, BLOCK_TEXT, 0);
    default: return 0;
    }
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *arg)
{
    struct markdown *md = arg;
    int stop = 0;
    switch (type) {
    case MD_BLOCK_UL:
    case MD_BLOCK_OL:
        stop = flush(md);
        md->list_depth--;
        return stop;
    case MD_BLOCK_QUOTE:
        stop = flush(md);
        md->quote_depth--;
        return stop;
    case MD_BLOCK_THEAD: md->in_header_row = false; return 0;
    case MD_BLOCK_HTML:
        md->in_html = false;
        if (md->rc != RC_OK)
            return 1;
        md->rc = read_html_part(md->reader, buf_str(&md->line), STR("utf-8"));
        buf_clear(&md->line);
        return md->rc != RC_OK;
    case MD_BLOCK_TH:
    case MD_BLOCK_TD: return 0;
    default: return flush(md);
    }
}

static int ignore_span(MD_SPANTYPE type, void *detail, void *arg) { return 0; }

/* The entities that people write; others stay as they are. */
static struct str entity(struct str text, char out[4])
{
    static const struct {
        struct str name, value;
    } named[] = {
        {STR_INIT("&amp;"), STR_INIT("&")},   {STR_INIT("&lt;"), STR_INIT("<")},
        {STR_INIT("&gt;"), STR_INIT(">")},    {STR_INIT("&quot;"), STR_INIT("\"")},
        {STR_INIT("&apos;"), STR_INIT("'")},  {STR_INIT("&nbsp;"), STR_INIT("\u00a0")},
        {STR_INIT("&copy;"), STR_INIT("©")},  {STR_INIT("&mdash;"), STR_INIT("—")},
        {STR_INIT("&ndash;"), STR_INIT("–")}, {STR_INIT("&hellip;"), STR_INIT("…")},
        {STR_INIT("&rarr;"), STR_INIT("→")},  {STR_INIT("&larr;"), STR_INIT("←")},
        {STR_INIT("&times;"), STR_INIT("×")}, {STR_INIT("&euro;"), STR_INIT("€")},
    };
    for (size_t i = 0; i < COUNT_OF(named); i++)
        if (str_eq(text, named[i].name))
            return named[i].value;
    if (text.n < 4 || text.p[1] != '#')
        return text;
    bool hex = text.p[2] == 'x' || text.p[2] == 'X';
    unsigned long codepoint = strtoul(text.p + (hex ? 3 : 2), NULL, hex ? 16 : 10);
    if (!codepoint || codepoint > 0x10ffff || (codepoint >= 0xd800 && codepoint < 0xe000))
        return STR("\ufffd");
    return str_make(out, utf8_encode((uint32_t)codepoint, out));
}

static int add_text(MD_TEXTTYPE type, const MD_CHAR *p, MD_SIZE n, void *arg)
{
    struct markdown *md = arg;
    struct str text = str_make(p, n);
    char encoded[4];
    switch (type) {
    case MD_TEXT_BR: text = STR("\n"); break;
    case MD_TEXT_SOFTBR: text = STR(" "); break;
    case MD_TEXT_NULLCHAR: text = STR("\ufffd"); break;
    case MD_TEXT_ENTITY: text = entity(text, encoded); break;
    case MD_TEXT_HTML: /* a tag within a line says nothing; a block of HTML is read as such */
        if (!md->in_html)
            text = STR(" ");
        break;
    default: break;
    }
    return buf_append(&md->line, text) != RC_OK;
}

/* Cuts a head between two lines of --- off, and takes the title from it. */
static struct str skip_front_matter(struct reader *reader, struct str text)
{
    if (!str_starts(text, STR("---\n")) && !str_starts(text, STR("---\r\n")))
        return text;
    ssize_t end = str_find(str_slice(text, 3, MIN(text.n, 65536)), STR("\n---"));
    if (end < 0)
        return text;
    struct str head = str_slice(text, 4, (size_t)end + 3), line;
    while (str_split(&head, '\n', &line))
        if (str_starts(line, STR("title:"))) {
            struct str title = str_trim(str_slice(line, 6, line.n));
            if (title.n >= 2 && (title.p[0] == '"' || title.p[0] == '\''))
                title = str_slice(title, 1, title.n - 1);
            reader_set_title(reader, title);
        }
    text = str_slice(text, (size_t)end + 7, text.n);
    ssize_t lf = str_find_char(text, '\n');
    return lf < 0 ? STR_EMPTY : str_slice(text, (size_t)lf + 1, text.n);
}

enum rc read_markdown(struct reader *reader, struct str bytes)
{
    struct str text;
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &text);
    if (rc != RC_OK)
        return rc;
    text = skip_front_matter(reader, text);
    if (text.n > UINT32_MAX / 2)
        return reader_no_memory(reader);
    struct markdown md = {.reader = reader, .kind = BLOCK_TEXT};
    buf_init(&md.line, (size_t)reader->limits.text_bytes);
    MD_PARSER parser = {.flags = MD_DIALECT_GITHUB | MD_FLAG_LATEXMATHSPANS,
                        .enter_block = enter_block,
                        .leave_block = leave_block,
                        .enter_span = ignore_span,
                        .leave_span = ignore_span,
                        .text = add_text};
    int stopped = md_parse(text.p ? text.p : "", (MD_SIZE)text.n, &parser, &md);
    if (md.rc == RC_OK && !stopped)
        flush(&md);
    buf_fini(&md.line);
    if (md.rc == RC_OK && stopped)
        return reader_no_memory(reader);
    return md.rc;
}
