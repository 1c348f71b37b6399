/* PDF: what `pdftotext -bbox-layout` prints, XHTML with page, flow, block, line and word, each with
 * its rectangle. A block becomes a paragraph: its lines joined, hyphens at line ends undone. Fonts
 * are not told, so a heading is what is short and set clearly higher than most of the text. Lines
 * at the top and bottom edge that come again on half of the pages are running heads, and dropped.
 */
#include "base/hash.h"
#include "knowledge/extract_xml.h"
#include <stdlib.h>

#define HEIGHT_STEPS      400 /* of half a point */
#define HEADING_RATIO     1.15f
#define HEADING_BYTES_MAX 200
#define HEADING_LINES_MAX 3
#define HEADING_LEVELS    6
#define EDGE              0.1f /* of the page's height */
#define RUNNING_PAGES_MIN 4

struct pdf_block {
    struct str text;
    struct extract_rect rect;
    uint32_t page;
    unsigned lines;
    float height; /* of its lines, mean */
    bool is_running;
};

struct pdf {
    struct reader *reader;
    struct pdf_block *blocks;
    size_t block_count, block_capacity;
    struct extract_page *pages;
    size_t page_count, page_capacity;
    struct pdf_block block; /* being read */
    struct buf text;        /* its text */
    float height_sum;
    bool in_word, in_title;
    struct buf title;
};

static float number(struct xml_attributes attributes, const char *name)
{
    double value;
    if (str_to_double(xml_attribute(attributes, name), &value) != RC_OK)
        return 0;
    return (float)MAX(-1e5, MIN(value, 1e5));
}

static struct extract_rect rect_of(struct xml_attributes attributes)
{
    return (struct extract_rect){number(attributes, "xMin"), number(attributes, "yMin"),
                                 number(attributes, "xMax"), number(attributes, "yMax")};
}

/* Array growth within the arena: what is left behind is at most as large as what is kept. */
static bool grow(struct arena *arena, void **array, size_t count, size_t *capacity,
                 size_t item_bytes)
{
    if (count < *capacity)
        return true;
    size_t wanted = MAX(*capacity * 2, 64);
    void *larger = arena_alloc(arena, wanted * item_bytes);
    if (!larger)
        return false;
    if (count)
        memcpy(larger, *array, count * item_bytes);
    *array = larger;
    *capacity = wanted;
    return true;
}

static enum rc add_page(struct pdf *pdf, struct xml_attributes attributes)
{
    if (!grow(pdf->reader->arena, (void **)&pdf->pages, pdf->page_count, &pdf->page_capacity,
              sizeof(*pdf->pages)))
        return reader_no_memory(pdf->reader);
    pdf->pages[pdf->page_count++] =
        (struct extract_page){number(attributes, "width"), number(attributes, "height")};
    return RC_OK;
}

static enum rc add_block(struct pdf *pdf)
{
    struct str text = str_trim(buf_str(&pdf->text));
    if (!text.n)
        return RC_OK;
    struct pdf_block *block = &pdf->block;
    block->text = arena_copy(pdf->reader->arena, text);
    block->page = (uint32_t)pdf->page_count;
    block->height = block->lines ? pdf->height_sum / (float)block->lines : 0;
    if (!block->text.p || !grow(pdf->reader->arena, (void **)&pdf->blocks, pdf->block_count,
                                &pdf->block_capacity, sizeof(*pdf->blocks)))
        return reader_no_memory(pdf->reader);
    pdf->blocks[pdf->block_count++] = *block;
    return RC_OK;
}

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

/* Called before a line's first word: joins it to the line before. */
static enum rc join_line(struct pdf *pdf, char next)
{
    struct str text = buf_str(&pdf->text);
    if (!text.n)
        return RC_OK;
    bool hyphen = text.n > 1 && text.p[text.n - 1] == '-' && is_lower(text.p[text.n - 2]);
    if (hyphen && is_lower(next)) {
        pdf->text.end--;
        return RC_OK;
    }
    if (str_ends(text, STR("\u00ad"))) { /* soft hyphen */
        pdf->text.end -= 2;
        return RC_OK;
    }
    return text.p[text.n - 1] == ' ' ? RC_OK : buf_append_char(&pdf->text, ' ');
}

static enum rc opened(void *arg, struct str name, struct xml_attributes attributes)
{
    struct pdf *pdf = arg;
    if (str_eq(name, STR("page")))
        return add_page(pdf, attributes);
    if (str_eq(name, STR("block"))) {
        pdf->block = (struct pdf_block){.rect = rect_of(attributes)};
        pdf->height_sum = 0;
        buf_clear(&pdf->text);
    } else if (str_eq(name, STR("line"))) {
        struct extract_rect rect = rect_of(attributes);
        pdf->block.lines++;
        pdf->height_sum += rect.y1 - rect.y0;
    } else if (str_eq(name, STR("word"))) {
        struct str before = buf_str(&pdf->text);
        pdf->in_word = true;
        if (before.n && before.p[before.n - 1] != '\n')
            return buf_append_char(&pdf->text, ' ');
    }
    pdf->in_title = str_eq(name, STR("title"));
    return RC_OK;
}

static enum rc closed(void *arg, struct str name)
{
    struct pdf *pdf = arg;
    pdf->in_title = false;
    if (str_eq(name, STR("block")))
        return add_block(pdf);
    if (str_eq(name, STR("word")))
        pdf->in_word = false;
    else if (str_eq(name, STR("line")))
        return buf_append_char(&pdf->text, '\n'); /* undone by join_line */
    return RC_OK;
}

/* A word in full: expat may cut it, but its first piece decides how it is joined. */
static enum rc words(void *arg, struct str text)
{
    struct pdf *pdf = arg;
    if (pdf->in_title)
        return buf_append(&pdf->title, text);
    if (!pdf->in_word || !text.n)
        return RC_OK;
    struct str before = buf_str(&pdf->text);
    enum rc rc = RC_OK;
    if (before.n && before.p[before.n - 1] == '\n') {
        pdf->text.end--;
        rc = join_line(pdf, text.p[0]);
    }
    return rc == RC_OK ? buf_append(&pdf->text, text) : rc;
}

/* ---- after the last page ---- */

/* Digits do not count: page numbers change. */
static uint64_t running_key(const struct pdf_block *block, float page_height)
{
    char text[128];
    size_t n = 0;
    for (size_t i = 0; i < block->text.n && n < sizeof(text) - 1; i++)
        if (block->text.p[i] < '0' || block->text.p[i] > '9')
            text[n++] = block->text.p[i];
    text[n++] = block->rect.y0 < page_height / 2 ? 't' : 'b';
    return hash_xxh3(text, n);
}

static bool is_at_edge(const struct pdf_block *block, const struct extract_page *page)
{
    return block->lines <= 2 &&
           (block->rect.y1 <= page->height * EDGE || block->rect.y0 >= page->height * (1 - EDGE));
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static enum rc mark_running_heads(struct pdf *pdf)
{
    if (pdf->page_count < RUNNING_PAGES_MIN || !pdf->block_count)
        return RC_OK;
    uint64_t *keys = ARENA_NEW_ARRAY(pdf->reader->arena, uint64_t, pdf->block_count);
    if (!keys)
        return reader_no_memory(pdf->reader);
    size_t count = 0;
    for (size_t i = 0; i < pdf->block_count; i++) {
        const struct extract_page *page = &pdf->pages[pdf->blocks[i].page - 1];
        if (is_at_edge(&pdf->blocks[i], page))
            keys[count++] = running_key(&pdf->blocks[i], page->height);
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    for (size_t i = 0; i < pdf->block_count; i++) {
        const struct extract_page *page = &pdf->pages[pdf->blocks[i].page - 1];
        if (!is_at_edge(&pdf->blocks[i], page))
            continue;
        uint64_t key = running_key(&pdf->blocks[i], page->height);
        const uint64_t *found = bsearch(&key, keys, count, sizeof(*keys), compare_keys);
        size_t first = (size_t)(found - keys), last = first;
        while (first > 0 && keys[first - 1] == key && last - first < pdf->page_count)
            first--;
        while (last + 1 < count && keys[last + 1] == key && last - first < pdf->page_count)
            last++;
        pdf->blocks[i].is_running = (last - first + 1) * 2 >= pdf->page_count;
    }
    return RC_OK;
}

static unsigned height_step(const struct pdf_block *block)
{
    float step = block->height * 2;
    return step <= 0 ? 0 : step >= HEIGHT_STEPS - 1 ? HEIGHT_STEPS - 1 : (unsigned)(step + 0.5f);
}

static bool may_be_heading(const struct pdf_block *block, unsigned body)
{
    return (float)height_step(block) >= (float)body * HEADING_RATIO &&
           block->lines <= HEADING_LINES_MAX && block->text.n <= HEADING_BYTES_MAX;
}

/* The height that most text has; and per height the heading level, the highest first. */
static unsigned rank_heights(const struct pdf *pdf, uint8_t levels[HEIGHT_STEPS])
{
    size_t bytes[HEIGHT_STEPS] = {0};
    bool heading[HEIGHT_STEPS] = {false};
    unsigned body = 0, level = 0;
    for (size_t i = 0; i < pdf->block_count; i++)
        bytes[height_step(&pdf->blocks[i])] += pdf->blocks[i].text.n;
    for (unsigned i = 0; i < HEIGHT_STEPS; i++)
        if (bytes[i] > bytes[body])
            body = i;
    for (size_t i = 0; i < pdf->block_count; i++)
        if (may_be_heading(&pdf->blocks[i], body))
            heading[height_step(&pdf->blocks[i])] = true;
    for (unsigned i = HEIGHT_STEPS; i-- > 0;)
        if (heading[i])
            levels[i] = (uint8_t)(level < HEADING_LEVELS ? ++level : level);
    return body;
}

static bool is_list_item(struct str text)
{
    static const struct str marks[] = {STR_INIT("• "), STR_INIT("– "), STR_INIT("▪ "),
                                       STR_INIT("◦ "), STR_INIT("- "), STR_INIT("● ")};
    for (size_t i = 0; i < COUNT_OF(marks); i++)
        if (str_starts(text, marks[i]))
            return true;
    return false;
}

static enum rc emit(struct pdf *pdf)
{
    struct reader *reader = pdf->reader;
    uint8_t levels[HEIGHT_STEPS] = {0};
    unsigned body = rank_heights(pdf, levels);
    enum rc rc = RC_OK;
    size_t next = 0;
    for (size_t page = 1; page <= pdf->page_count && rc == RC_OK; page++) {
        rc = reader_add_page(reader, pdf->pages[page - 1].width, pdf->pages[page - 1].height);
        for (; rc == RC_OK && next < pdf->block_count && pdf->blocks[next].page <= page; next++) {
            const struct pdf_block *block = &pdf->blocks[next];
            bool heading = may_be_heading(block, body);
            if (block->is_running)
                continue;
            rc = reader_add(reader,
                            heading                     ? BLOCK_HEADING
                            : is_list_item(block->text) ? BLOCK_LIST_ITEM
                                                        : BLOCK_TEXT,
                            heading                     ? levels[height_step(block)]
                            : is_list_item(block->text) ? 1
                                                        : 0,
                            block->text, &block->rect);
        }
    }
    return rc;
}

enum rc read_pdf_layout(struct reader *reader, struct str bytes)
{
    struct pdf pdf = {.reader = reader};
    buf_init(&pdf.text, (size_t)reader->limits.text_bytes);
    buf_init(&pdf.title, 4096);
    const struct xml_calls calls = {.open = opened, .close = closed, .text = words};
    enum rc rc = xml_parse(reader, "the PDF's layout", bytes, &calls, &pdf);
    if (rc == RC_LIMIT && reader->err->code == ERR_NONE)
        rc = reader_no_memory(reader);
    if (rc == RC_OK)
        rc = mark_running_heads(&pdf);
    if (rc == RC_OK)
        rc = emit(&pdf);
    if (rc == RC_OK)
        reader_set_title(reader, buf_str(&pdf.title));
    reader->no_text = rc == RC_OK && pdf.page_count && !reader->block_count;
    buf_fini(&pdf.text);
    buf_fini(&pdf.title);
    return rc;
}
