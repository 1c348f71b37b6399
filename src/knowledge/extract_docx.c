/* Word documents (ECMA-376, WordprocessingML): paragraphs of document.xml with their style's
 * outline level, lists, tables; then footnotes and endnotes. Deleted text, field codes and the
 * fallback copy of drawings are not text. Running headers and footers are left out. */
#include "knowledge/extract_office.h"

#define STYLE_LEVELS_MAX 9

struct style {
    struct str id;
    unsigned level; /* 1 …: a heading; 0: none */
};

struct docx {
    struct reader *reader;
    struct style *styles;
    size_t style_count;
    struct buf text; /* of the paragraph, or of the row while in a table */
    unsigned level, list, table_depth, cells, skip;
    bool in_text, is_list, is_header_row;
};

/* ---- styles.xml: which styles are headings ---- */

static enum rc style_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct docx *docx = arg;
    struct str value = xml_attribute(attributes, "val");
    if (str_eq(name, STR("style"))) {
        docx->styles = office_grow(docx->reader->arena, docx->styles, docx->style_count,
                                   sizeof(*docx->styles));
        if (!docx->styles)
            return reader_no_memory(docx->reader);
        docx->styles[docx->style_count++] = (struct style){
            .id = arena_copy(docx->reader->arena, xml_attribute(attributes, "styleId"))};
    }
    if (!docx->style_count)
        return RC_OK;
    struct style *style = &docx->styles[docx->style_count - 1];
    if (str_eq(name, STR("outlineLvl")) && value.n == 1 && value.p[0] >= '0' && value.p[0] < '9')
        style->level = (unsigned)(value.p[0] - '0') + 1;
    /* Built-in styles keep their English name whatever the language of the program. */
    if (str_eq(name, STR("name")) && value.n == 9 &&
        str_eq_nocase(str_slice(value, 0, 8), STR("heading ")) && !style->level)
        style->level = (unsigned)(value.p[8] - '0') % 10;
    if (str_eq(name, STR("name")) && str_eq_nocase(value, STR("title")))
        style->level = 1;
    return RC_OK;
}

static unsigned style_level(const struct docx *docx, struct str id)
{
    for (size_t i = 0; i < docx->style_count; i++)
        if (str_eq(docx->styles[i].id, id))
            return docx->styles[i].level;
    if (id.n == 8 && str_eq_nocase(str_slice(id, 0, 7), STR("heading")))
        return (unsigned)(id.p[7] - '0') % 10;
    return 0;
}

/* ---- document.xml ---- */

static enum rc flush_paragraph(struct docx *docx)
{
    if (docx->table_depth) /* the row goes on: paragraphs of a cell stand side by side */
        return buf_append_char(&docx->text, ' ');
    enum block_kind kind = docx->level     ? BLOCK_HEADING
                           : docx->is_list ? BLOCK_LIST_ITEM
                                           : BLOCK_TEXT;
    unsigned level = docx->level ? MIN(docx->level, 6) : docx->is_list ? docx->list + 1 : 0;
    enum rc rc = reader_add(docx->reader, kind, level, buf_str(&docx->text), NULL);
    buf_clear(&docx->text);
    return rc;
}

static enum rc open_cell(struct docx *docx)
{
    if (docx->table_depth != 1)
        return RC_OK;
    while (buf_len(&docx->text) && docx->text.p[docx->text.end - 1] == ' ')
        docx->text.end--;
    return docx->cells++ ? buf_append(&docx->text, STR(" | ")) : RC_OK;
}

static enum rc close_row(struct docx *docx)
{
    if (docx->table_depth != 1)
        return RC_OK;
    enum rc rc =
        reader_add(docx->reader, BLOCK_TABLE_ROW, docx->is_header_row, buf_str(&docx->text), NULL);
    buf_clear(&docx->text);
    return rc;
}

static unsigned small_number(struct str value)
{
    uint64_t n;
    return str_to_u64(value, &n) == RC_OK ? (unsigned)MIN(n, STYLE_LEVELS_MAX - 1) : 0;
}

static void paragraph_property(struct docx *docx, struct str name, struct str value)
{
    if (str_eq(name, STR("pStyle")))
        docx->level = style_level(docx, value);
    else if (str_eq(name, STR("outlineLvl")))
        docx->level = small_number(value) < STYLE_LEVELS_MAX - 1 ? small_number(value) + 1 : 0;
    else if (str_eq(name, STR("numPr")))
        docx->is_list = true;
    else if (str_eq(name, STR("ilvl")))
        docx->list = small_number(value);
    else if (str_eq(name, STR("tblHeader")))
        docx->is_header_row = !str_eq(value, STR("0")) && !str_eq(value, STR("false"));
}

static enum rc opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct docx *docx = arg;
    if (docx->skip || str_eq(name, STR("Fallback")) || str_eq(name, STR("instrText")) ||
        str_eq(name, STR("del"))) {
        docx->skip++;
        return RC_OK;
    }
    if (str_eq(name, STR("p"))) {
        docx->level = docx->list = 0;
        docx->is_list = false;
    } else if (str_eq(name, STR("tbl"))) {
        docx->table_depth++;
    } else if (str_eq(name, STR("tr")) && docx->table_depth == 1) {
        docx->cells = 0;
        docx->is_header_row = false;
    } else if (str_eq(name, STR("tc"))) {
        return open_cell(docx);
    } else if (str_eq(name, STR("t"))) {
        docx->in_text = true;
    } else if (str_eq(name, STR("tab"))) {
        return buf_append_char(&docx->text, docx->table_depth ? ' ' : '\t');
    } else if (str_eq(name, STR("br")) || str_eq(name, STR("cr"))) {
        return buf_append_char(&docx->text, docx->table_depth ? ' ' : '\n');
    } else {
        paragraph_property(docx, name, xml_attribute(attributes, "val"));
    }
    return RC_OK;
}

static enum rc closed(void *arg, struct str name)
{
    struct docx *docx = arg;
    if (docx->skip) {
        docx->skip--;
        return RC_OK;
    }
    enum rc rc = RC_OK;
    if (str_eq(name, STR("t"))) {
        docx->in_text = false;
    } else if (str_eq(name, STR("p"))) {
        rc = flush_paragraph(docx);
    } else if (str_eq(name, STR("tr"))) {
        rc = close_row(docx);
    } else if (str_eq(name, STR("tbl")) && docx->table_depth) {
        docx->table_depth--;
    }
    return rc;
}

static enum rc characters(void *arg, struct str text)
{
    struct docx *docx = arg;
    return docx->in_text && !docx->skip ? buf_append(&docx->text, text) : RC_OK;
}

static enum rc read_part(struct docx *docx, struct zip *zip, struct str path)
{
    const struct xml_calls calls = {opened, closed, characters};
    struct str text;
    enum rc rc = zip_read(zip, path, &text);
    if (rc == RC_OK && text.n)
        rc = xml_parse(docx->reader, "the document", text, &calls, docx);
    return rc;
}

enum rc read_docx(struct reader *reader, struct str bytes)
{
    struct zip zip;
    struct docx docx = {.reader = reader};
    struct relations relations;
    struct str text;
    enum rc rc = zip_open(reader, bytes, &zip);
    if (rc == RC_OK)
        rc = office_relations(&zip, STR("word/document.xml"), &relations);
    if (rc == RC_OK && !zip_find(&zip, STR("word/document.xml")))
        rc = err_set(reader->err, ERR_INVALID, "the archive is no Word document");
    if (rc == RC_OK)
        rc = zip_read(&zip, STR("word/styles.xml"), &text);
    if (rc == RC_OK && text.n)
        rc =
            xml_parse(reader, "the styles", text, &(struct xml_calls){.open = style_opened}, &docx);
    if (rc != RC_OK)
        return rc;
    buf_init(&docx.text, (size_t)reader->limits.text_bytes);
    office_properties(&zip, STR("docProps/core.xml"));
    rc = read_part(&docx, &zip, STR("word/document.xml"));
    if (rc == RC_OK)
        rc = read_part(&docx, &zip, office_target_of_type(&relations, STR("/footnotes")));
    if (rc == RC_OK)
        rc = read_part(&docx, &zip, office_target_of_type(&relations, STR("/endnotes")));
    buf_fini(&docx.text);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
