/* Slides (ECMA-376, PresentationML): each is a page, in the presentation's order; a title becomes a
 * heading, other paragraphs text or list items, with the rectangle of their shape; tables as rows;
 * then the speaker's notes. */
#include "knowledge/extract_office.h"

#define EMU_PER_POINT 12700.0f
#define SLIDES_MAX    5000

struct pptx {
    struct reader *reader;
    struct str *slide_ids; /* relation ids in order */
    size_t slide_count;
    float width, height;
    /* The slide being read. */
    struct buf text;
    unsigned level, cells;
    bool in_text, in_row, is_title, in_shape, is_number, is_notes;
    struct extract_rect rect;
};

static float points(struct xml_attributes attributes, const char *name)
{
    int64_t emu;
    if (str_to_i64(xml_attribute(attributes, name), &emu) != RC_OK)
        return 0;
    return (float)MAX(-100000000, MIN(emu, 100000000)) / EMU_PER_POINT;
}

static enum rc presentation_opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct pptx *pptx = arg;
    if (str_eq(name, STR("sldSz"))) {
        pptx->width = points(attributes, "cx");
        pptx->height = points(attributes, "cy");
    }
    if (!str_eq(name, STR("sldId")))
        return RC_OK;
    struct arena *arena = pptx->reader->arena;
    if (pptx->slide_count == SLIDES_MAX)
        return err_set(pptx->reader->err, ERR_TOO_LARGE, "more than %d slides", SLIDES_MAX);
    pptx->slide_ids =
        office_grow(arena, pptx->slide_ids, pptx->slide_count, sizeof(*pptx->slide_ids));
    if (!pptx->slide_ids)
        return reader_no_memory(pptx->reader);
    /* Two attributes are called id; the relation's has a prefix. */
    struct str id = STR_EMPTY;
    for (const char **pair = attributes.pairs; pair[0]; pair += 2)
        if (str_ends(str_from(pair[0]), STR(":id")))
            id = str_from(pair[1]);
    pptx->slide_ids[pptx->slide_count++] = arena_copy(arena, id);
    return RC_OK;
}

/* ---- one slide ---- */

static enum rc flush(struct pptx *pptx)
{
    if (pptx->in_row)
        return buf_append_char(&pptx->text, ' ');
    enum block_kind kind = pptx->is_title ? BLOCK_HEADING
                           : pptx->level  ? BLOCK_LIST_ITEM
                                          : BLOCK_TEXT;
    unsigned level = pptx->is_title ? 1 : pptx->level;
    enum rc rc = RC_OK;
    if (!pptx->is_number)
        rc = reader_add(pptx->reader, kind, level, buf_str(&pptx->text), &pptx->rect);
    buf_clear(&pptx->text);
    return rc;
}

static void open_shape(struct pptx *pptx)
{
    pptx->in_shape = true;
    pptx->is_title = pptx->is_number = false;
    pptx->rect = (struct extract_rect){0};
}

static void note_placeholder(struct pptx *pptx, struct str type)
{
    pptx->is_title =
        !pptx->is_notes && (str_eq(type, STR("title")) || str_eq(type, STR("ctrTitle")));
    pptx->is_number = str_eq(type, STR("sldNum")) || str_eq(type, STR("dt")) ||
                      str_eq(type, STR("ftr")) || str_eq(type, STR("hdr"));
}

static enum rc opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct pptx *pptx = arg;
    uint64_t level;
    if (str_eq(name, STR("sp")) || str_eq(name, STR("graphicFrame"))) {
        open_shape(pptx);
    } else if (str_eq(name, STR("ph"))) {
        note_placeholder(pptx, xml_attribute(attributes, "type"));
    } else if (str_eq(name, STR("off")) && pptx->in_shape && !pptx->is_notes) {
        pptx->rect.x0 = pptx->rect.x1 = points(attributes, "x");
        pptx->rect.y0 = pptx->rect.y1 = points(attributes, "y");
    } else if (str_eq(name, STR("ext")) && pptx->in_shape && xml_attribute(attributes, "cx").p) {
        pptx->rect.x1 = pptx->rect.x0 + points(attributes, "cx");
        pptx->rect.y1 = pptx->rect.y0 + points(attributes, "cy");
    } else if (str_eq(name, STR("p"))) {
        pptx->level = 0;
    } else if (str_eq(name, STR("pPr")) &&
               str_to_u64(xml_attribute(attributes, "lvl"), &level) == RC_OK) {
        pptx->level = (unsigned)MIN(level, 8) + 1;
    } else if (str_eq(name, STR("t"))) {
        pptx->in_text = true;
    } else if (str_eq(name, STR("br"))) {
        return buf_append_char(&pptx->text, pptx->in_row ? ' ' : '\n');
    } else if (str_eq(name, STR("tr"))) {
        pptx->in_row = true;
        pptx->cells = 0;
    } else if (str_eq(name, STR("tc")) && pptx->in_row) {
        while (buf_len(&pptx->text) && pptx->text.p[pptx->text.end - 1] == ' ')
            pptx->text.end--;
        return pptx->cells++ ? buf_append(&pptx->text, STR(" | ")) : RC_OK;
    }
    return RC_OK;
}

static enum rc closed(void *arg, struct str name)
{
    struct pptx *pptx = arg;
    enum rc rc = RC_OK;
    if (str_eq(name, STR("t"))) {
        pptx->in_text = false;
    } else if (str_eq(name, STR("p"))) {
        rc = flush(pptx);
    } else if (str_eq(name, STR("tr"))) {
        rc = reader_add(pptx->reader, BLOCK_TABLE_ROW, 0, buf_str(&pptx->text), &pptx->rect);
        buf_clear(&pptx->text);
        pptx->in_row = false;
    } else if (str_eq(name, STR("sp")) || str_eq(name, STR("graphicFrame"))) {
        pptx->in_shape = pptx->is_title = pptx->is_number = false;
        pptx->rect = (struct extract_rect){0};
    }
    return rc;
}

static enum rc characters(void *arg, struct str text)
{
    struct pptx *pptx = arg;
    return pptx->in_text ? buf_append(&pptx->text, text) : RC_OK;
}

static enum rc read_part(struct pptx *pptx, struct zip *zip, struct str part, bool is_notes)
{
    const struct xml_calls calls = {opened, closed, characters};
    struct str text;
    pptx->is_notes = is_notes;
    enum rc rc = zip_read(zip, part, &text);
    if (rc == RC_OK && text.n)
        rc = xml_parse(pptx->reader, "a slide", text, &calls, pptx);
    return rc;
}

static enum rc read_slide(struct pptx *pptx, struct zip *zip, struct str part)
{
    struct relations relations;
    enum rc rc = reader_add_page(pptx->reader, pptx->width, pptx->height);
    if (rc == RC_OK)
        rc = read_part(pptx, zip, part, false);
    if (rc == RC_OK)
        rc = office_relations(zip, part, &relations);
    if (rc == RC_OK)
        rc = read_part(pptx, zip, office_target_of_type(&relations, STR("/notesSlide")), true);
    return rc;
}

enum rc read_pptx(struct reader *reader, struct str bytes)
{
    struct zip zip;
    struct pptx pptx = {.reader = reader};
    struct relations relations;
    struct str text;
    enum rc rc = zip_open(reader, bytes, &zip);
    if (rc == RC_OK)
        rc = zip_read(&zip, STR("ppt/presentation.xml"), &text);
    if (rc == RC_OK && !text.n)
        rc = err_set(reader->err, ERR_INVALID, "the archive is no presentation");
    if (rc == RC_OK)
        rc = xml_parse(reader, "the presentation", text,
                       &(struct xml_calls){.open = presentation_opened}, &pptx);
    if (rc == RC_OK)
        rc = office_relations(&zip, STR("ppt/presentation.xml"), &relations);
    if (rc != RC_OK)
        return rc;
    buf_init(&pptx.text, (size_t)reader->limits.text_bytes);
    office_properties(&zip, STR("docProps/core.xml"));
    for (size_t i = 0; i < pptx.slide_count && rc == RC_OK; i++)
        rc = read_slide(&pptx, &zip, office_target(&relations, pptx.slide_ids[i]));
    buf_fini(&pptx.text);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
