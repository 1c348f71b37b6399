/* Workbooks (ECMA-376, SpreadsheetML): each sheet under a heading of its name, each row a table
 * row, the first one its header. Numbers as they are stored, except dates, which only a style tells
 * apart from numbers. Hidden columns and formulas' text are not told apart. */
#include "knowledge/extract_office.h"
#include "base/clock.h"
#include <stdlib.h>

#define COLUMNS_MAX   256
#define FORMAT_ID_MAX 4096
#define DAYS_TO_UNIX  25569 /* from the last day of 1899 to 1970 */

struct sheet {
    struct str name, relation;
};

struct xlsx {
    struct reader *reader;
    struct sheet *sheets;
    size_t sheet_count;
    struct str *strings;
    size_t string_count;
    bool date_format[FORMAT_ID_MAX]; /* by number format id */
    bool *date_style;                /* by cell style */
    size_t style_count;
    bool in_cell_styles, starts_1904;
    /* While reading. */
    struct buf text, row;
    unsigned column, columns_written, style;
    char type; /* of the cell: 's'hared, 'i'nline, 'b'ool, 'e'rror, 't'ext, 'n'umber */
    bool in_value, is_first_row;
};

/* ---- workbook.xml ---- */

static enum rc workbook_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct xlsx *xlsx = arg;
    if (str_eq(name, STR("workbookPr"))) {
        struct str value = xml_attribute(attributes, "date1904");
        xlsx->starts_1904 = str_eq(value, STR("1")) || str_eq(value, STR("true"));
    }
    if (!str_eq(name, STR("sheet")))
        return RC_OK;
    struct arena *arena = xlsx->reader->arena;
    xlsx->sheets = office_grow(arena, xlsx->sheets, xlsx->sheet_count, sizeof(*xlsx->sheets));
    if (!xlsx->sheets)
        return reader_no_memory(xlsx->reader);
    xlsx->sheets[xlsx->sheet_count++] =
        (struct sheet){.name = arena_copy(arena, xml_attribute(attributes, "name")),
                       .relation = arena_copy(arena, xml_attribute(attributes, "id"))};
    return RC_OK;
}

/* ---- sharedStrings.xml ---- */

static enum rc string_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct xlsx *xlsx = arg;
    if (str_eq(name, STR("si")))
        buf_clear(&xlsx->text);
    xlsx->in_value = str_eq(name, STR("t"));
    return RC_OK;
}

static enum rc string_closed(void *arg, struct str name)
{
    struct xlsx *xlsx = arg;
    xlsx->in_value = false;
    if (!str_eq(name, STR("si")))
        return RC_OK;
    struct arena *arena = xlsx->reader->arena;
    xlsx->strings = office_grow(arena, xlsx->strings, xlsx->string_count, sizeof(*xlsx->strings));
    if (!xlsx->strings)
        return reader_no_memory(xlsx->reader);
    struct str copy = arena_copy(arena, buf_str(&xlsx->text));
    xlsx->strings[xlsx->string_count++] = copy;
    return copy.p ? RC_OK : reader_no_memory(xlsx->reader);
}

static enum rc value_text(void *arg, struct str text)
{
    struct xlsx *xlsx = arg;
    return xlsx->in_value ? buf_append(&xlsx->text, text) : RC_OK;
}

/* ---- styles.xml: which are dates ---- */

static bool code_is_date(struct str code)
{
    bool quoted = false;
    for (size_t i = 0; i < code.n; i++) {
        char c = code.p[i];
        if (c == '"' || c == '[' || c == ']')
            quoted = c == '"' ? !quoted : c == '[';
        else if (!quoted && (c == 'y' || c == 'd' || c == 'Y' || c == 'D' || c == 'h'))
            return true;
    }
    return false;
}

static unsigned number_of(struct xml_attributes attributes, const char *name)
{
    uint64_t n;
    return str_to_u64(xml_attribute(attributes, name), &n) == RC_OK ? (unsigned)MIN(n, UINT32_MAX)
                                                                    : 0;
}

static enum rc style_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct xlsx *xlsx = arg;
    if (str_eq(name, STR("numFmt"))) {
        unsigned id = number_of(attributes, "numFmtId");
        if (id < FORMAT_ID_MAX)
            xlsx->date_format[id] = code_is_date(xml_attribute(attributes, "formatCode"));
    }
    if (str_eq(name, STR("cellXfs")))
        xlsx->in_cell_styles = true;
    if (!xlsx->in_cell_styles || !str_eq(name, STR("xf")))
        return RC_OK;
    unsigned id = number_of(attributes, "numFmtId");
    xlsx->date_style = office_grow(xlsx->reader->arena, xlsx->date_style, xlsx->style_count,
                                   sizeof(*xlsx->date_style));
    if (!xlsx->date_style)
        return reader_no_memory(xlsx->reader);
    xlsx->date_style[xlsx->style_count++] = id < FORMAT_ID_MAX && xlsx->date_format[id];
    return RC_OK;
}

static enum rc style_closed(void *arg, struct str name)
{
    struct xlsx *xlsx = arg;
    if (str_eq(name, STR("cellXfs")))
        xlsx->in_cell_styles = false;
    return RC_OK;
}

/* ---- a sheet ---- */

/* "C5": 2; cells may leave columns out. */
static unsigned column_of(struct str reference, unsigned next)
{
    unsigned column = 0;
    size_t i = 0;
    for (; i < reference.n && reference.p[i] >= 'A' && reference.p[i] <= 'Z' && i < 3; i++)
        column = column * 26 + (unsigned)(reference.p[i] - 'A') + 1;
    return i ? column - 1 : next;
}

static char type_of(struct str type)
{
    if (str_eq(type, STR("inlineStr")))
        return 'i';
    if (str_eq(type, STR("str")))
        return 't';
    return type.n == 1 ? type.p[0] : 'n';
}

static enum rc sheet_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct xlsx *xlsx = arg;
    if (str_eq(name, STR("row"))) {
        buf_clear(&xlsx->row);
        xlsx->column = xlsx->columns_written = 0;
    } else if (str_eq(name, STR("c"))) {
        xlsx->column = column_of(xml_attribute(attributes, "r"), xlsx->column);
        xlsx->style = number_of(attributes, "s");
        xlsx->type = type_of(xml_attribute(attributes, "t"));
        buf_clear(&xlsx->text);
    }
    xlsx->in_value = str_eq(name, STR("v")) || (xlsx->type == 'i' && str_eq(name, STR("t")));
    return RC_OK;
}

/* A serial number as a date, with its time unless that is midnight. */
static struct str date_text(const struct xlsx *xlsx, struct str value,
                            char out[CLOCK_ISO_BYTES_MAX])
{
    double days;
    if (str_to_double(value, &days) != RC_OK || days < 0 || days > 2958466)
        return value;
    days += xlsx->starts_1904 ? 1462 : 0;
    int64_t seconds =
        (int64_t)((days - DAYS_TO_UNIX) * 86400 + (days >= DAYS_TO_UNIX ? 0.5 : -0.5));
    size_t n = clock_format_iso(seconds * NS_PER_S, 0, out);
    if (days < 1) /* a time of day */
        return str_make(out + 11, 8);
    out[10] = ' ';
    return str_make(out, seconds % 86400 ? MIN(n, 19) : 10);
}

static struct str cell_text(const struct xlsx *xlsx, char date[CLOCK_ISO_BYTES_MAX])
{
    struct str value = buf_str(&xlsx->text);
    uint64_t index;
    if (xlsx->type == 's')
        return str_to_u64(value, &index) == RC_OK && index < xlsx->string_count
                   ? xlsx->strings[index]
                   : STR_EMPTY;
    if (xlsx->type == 'b')
        return str_eq(value, STR("1")) ? STR("TRUE") : STR("FALSE");
    if (xlsx->type == 'n' && xlsx->style < xlsx->style_count && xlsx->date_style[xlsx->style])
        return date_text(xlsx, value, date);
    return value;
}

static enum rc close_cell(struct xlsx *xlsx)
{
    char date[CLOCK_ISO_BYTES_MAX];
    struct str text = str_trim(cell_text(xlsx, date));
    enum rc rc = RC_OK;
    if (text.n && xlsx->column < COLUMNS_MAX) {
        for (; xlsx->columns_written < xlsx->column && rc == RC_OK; xlsx->columns_written++)
            rc = buf_append(&xlsx->row, STR(" | "));
        for (size_t i = 0; i < text.n && rc == RC_OK; i++)
            rc = buf_append_char(&xlsx->row, text.p[i] == '\n' ? ' ' : text.p[i]);
    }
    xlsx->column++;
    return rc;
}

static enum rc sheet_closed(void *arg, struct str name)
{
    struct xlsx *xlsx = arg;
    xlsx->in_value = false;
    if (str_eq(name, STR("c")))
        return close_cell(xlsx);
    if (!str_eq(name, STR("row")) || !buf_len(&xlsx->row))
        return RC_OK;
    enum rc rc =
        reader_add(xlsx->reader, BLOCK_TABLE_ROW, xlsx->is_first_row, buf_str(&xlsx->row), NULL);
    xlsx->is_first_row = false;
    return rc;
}

static enum rc parse_part(struct xlsx *xlsx, struct zip *zip, struct str part,
                          const struct xml_calls *calls)
{
    struct str text;
    enum rc rc = zip_read(zip, part, &text);
    if (rc == RC_OK && text.n)
        rc = xml_parse(xlsx->reader, "the workbook", text, calls, xlsx);
    return rc;
}

static enum rc read_parts(struct xlsx *xlsx, struct zip *zip)
{
    const struct xml_calls workbook = {.open = workbook_opened};
    const struct xml_calls strings = {string_opened, string_closed, value_text};
    const struct xml_calls styles = {style_opened, style_closed, NULL};
    const struct xml_calls sheet = {sheet_opened, sheet_closed, value_text};
    struct relations relations;
    enum rc rc = parse_part(xlsx, zip, STR("xl/workbook.xml"), &workbook);
    if (rc == RC_OK)
        rc = office_relations(zip, STR("xl/workbook.xml"), &relations);
    if (rc == RC_OK)
        rc = parse_part(xlsx, zip, office_target_of_type(&relations, STR("/sharedStrings")),
                        &strings);
    if (rc == RC_OK)
        rc = parse_part(xlsx, zip, office_target_of_type(&relations, STR("/styles")), &styles);
    for (size_t i = 0; i < xlsx->sheet_count && rc == RC_OK; i++) {
        xlsx->is_first_row = true;
        rc = reader_add(xlsx->reader, BLOCK_HEADING, 1, xlsx->sheets[i].name, NULL);
        if (rc == RC_OK)
            rc = parse_part(xlsx, zip, office_target(&relations, xlsx->sheets[i].relation), &sheet);
    }
    return rc;
}

enum rc read_xlsx(struct reader *reader, struct str bytes)
{
    struct zip zip;
    enum rc rc = zip_open(reader, bytes, &zip);
    struct xlsx *xlsx = ARENA_NEW(reader->arena, struct xlsx);
    if (rc != RC_OK || !xlsx)
        return rc != RC_OK ? rc : reader_no_memory(reader);
    if (!zip_find(&zip, STR("xl/workbook.xml")))
        return err_set(reader->err, ERR_INVALID, "the archive is no workbook");
    xlsx->reader = reader;
    static const unsigned char dates[] = {14, 15, 16, 17, 18, 19, 20, 21, 22, 45, 46, 47};
    for (size_t i = 0; i < COUNT_OF(dates); i++)
        xlsx->date_format[dates[i]] = true;
    buf_init(&xlsx->text, (size_t)reader->limits.text_bytes);
    buf_init(&xlsx->row, (size_t)reader->limits.text_bytes);
    office_properties(&zip, STR("docProps/core.xml"));
    rc = read_parts(xlsx, &zip);
    buf_fini(&xlsx->text);
    buf_fini(&xlsx->row);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
