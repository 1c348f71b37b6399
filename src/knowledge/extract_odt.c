/* OpenDocument text (ODF 1.3): content.xml in reading order. Tracked deletions, annotations and
 * footnote numbers are not text. */
#include "knowledge/extract_office.h"

#define SPACES_MAX 100

struct odt {
    struct reader *reader;
    struct buf text;
    unsigned paragraphs; /* open p and h; they nest by frames and notes */
    unsigned heading, lists, table_depth, header_rows, cells, skip;
};

static unsigned small_number(struct xml_attributes attributes, const char *name, unsigned otherwise,
                             unsigned max)
{
    uint64_t n;
    if (str_to_u64(xml_attribute(attributes, name), &n) != RC_OK)
        return otherwise;
    return (unsigned)MIN(n, max);
}

static bool is_skipped(struct str name)
{
    return str_eq(name, STR("tracked-changes")) || str_eq(name, STR("annotation")) ||
           str_eq(name, STR("note-citation")) || str_eq(name, STR("sequence-decls")) ||
           str_eq(name, STR("page-number"));
}

static enum rc flush(struct odt *odt)
{
    if (odt->table_depth)
        return buf_append_char(&odt->text, ' ');
    enum block_kind kind = odt->heading ? BLOCK_HEADING : odt->lists ? BLOCK_LIST_ITEM : BLOCK_TEXT;
    unsigned level = odt->heading ? MIN(odt->heading, 6) : odt->lists;
    enum rc rc = reader_add(odt->reader, kind, level, buf_str(&odt->text), NULL);
    buf_clear(&odt->text);
    return rc;
}

static enum rc add_spaces(struct odt *odt, unsigned count)
{
    enum rc rc = RC_OK;
    for (unsigned i = 0; i < count && rc == RC_OK; i++)
        rc = buf_append_char(&odt->text, ' ');
    return rc;
}

static enum rc opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct odt *odt = arg;
    if (odt->skip || is_skipped(name)) {
        odt->skip++;
        return RC_OK;
    }
    if (str_eq(name, STR("h")) || str_eq(name, STR("p"))) {
        enum rc rc = odt->paragraphs++ ? flush(odt) : RC_OK;
        odt->heading =
            name.p[0] == 'h' ? MAX(small_number(attributes, "outline-level", 1, 9), 1) : 0;
        return rc;
    }
    if (str_eq(name, STR("s")))
        return add_spaces(odt, small_number(attributes, "c", 1, SPACES_MAX));
    if (str_eq(name, STR("tab")))
        return buf_append_char(&odt->text, odt->table_depth ? ' ' : '\t');
    if (str_eq(name, STR("line-break")))
        return buf_append_char(&odt->text, odt->table_depth ? ' ' : '\n');
    if (str_eq(name, STR("list")))
        odt->lists++;
    else if (str_eq(name, STR("table")))
        odt->table_depth++;
    else if (str_eq(name, STR("table-header-rows")))
        odt->header_rows++;
    else if (str_eq(name, STR("table-row")) && odt->table_depth == 1)
        odt->cells = 0;
    else if (str_eq(name, STR("table-cell")) && odt->table_depth == 1) {
        while (buf_len(&odt->text) && odt->text.p[odt->text.end - 1] == ' ')
            odt->text.end--;
        return odt->cells++ ? buf_append(&odt->text, STR(" | ")) : RC_OK;
    }
    return RC_OK;
}

static enum rc close_row(struct odt *odt)
{
    if (odt->table_depth != 1)
        return RC_OK;
    enum rc rc =
        reader_add(odt->reader, BLOCK_TABLE_ROW, odt->header_rows > 0, buf_str(&odt->text), NULL);
    buf_clear(&odt->text);
    return rc;
}

static enum rc closed(void *arg, struct str name)
{
    struct odt *odt = arg;
    if (odt->skip) {
        odt->skip--;
        return RC_OK;
    }
    enum rc rc = RC_OK;
    if (str_eq(name, STR("h")) || str_eq(name, STR("p"))) {
        odt->paragraphs -= odt->paragraphs > 0;
        rc = flush(odt);
        odt->heading = 0;
    } else if (str_eq(name, STR("list"))) {
        odt->lists -= odt->lists > 0;
    } else if (str_eq(name, STR("table-row"))) {
        rc = close_row(odt);
    } else if (str_eq(name, STR("table-header-rows"))) {
        odt->header_rows -= odt->header_rows > 0;
    } else if (str_eq(name, STR("table"))) {
        odt->table_depth -= odt->table_depth > 0;
    }
    return rc;
}

static enum rc characters(void *arg, struct str text)
{
    struct odt *odt = arg;
    return odt->paragraphs && !odt->skip ? buf_append(&odt->text, text) : RC_OK;
}

enum rc read_odt(struct reader *reader, struct str bytes)
{
    struct zip zip;
    struct odt odt = {.reader = reader};
    struct str text;
    enum rc rc = zip_open(reader, bytes, &zip);
    if (rc == RC_OK)
        rc = zip_read(&zip, STR("content.xml"), &text);
    if (rc == RC_OK && !text.n)
        rc = err_set(reader->err, ERR_INVALID, "the archive is no OpenDocument text");
    if (rc != RC_OK)
        return rc;
    const struct xml_calls calls = {opened, closed, characters};
    buf_init(&odt.text, (size_t)reader->limits.text_bytes);
    office_properties(&zip, STR("meta.xml"));
    rc = xml_parse(reader, "the document", text, &calls, &odt);
    buf_fini(&odt.text);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
