/* Where readers put what they find: one text with blocks over it. The limits are kept here. */
#include "knowledge/extract_reader.h"
#include "base/utf8.h"
#include <stdlib.h>

#define TITLE_BYTES_MAX    500
#define LANGUAGE_BYTES_MAX 35

void extract_limits_fill(struct extract_limits *limits, const struct extract_limits *given)
{
    const struct extract_limits defaults = {
        .input_bytes = 256ll << 20,
        .text_bytes = 64ll << 20,
        .blocks = 1000000,
        .pages = 20000,
        .cpu_s = 60,
        .wall_s = 180,
    };
    *limits = given ? *given : defaults;
    int64_t *const fields[] = {&limits->input_bytes, &limits->text_bytes, &limits->blocks,
                               &limits->pages,       &limits->cpu_s,      &limits->wall_s};
    const int64_t values[] = {defaults.input_bytes, defaults.text_bytes, defaults.blocks,
                              defaults.pages,       defaults.cpu_s,      defaults.wall_s};
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (*fields[i] <= 0)
            *fields[i] = values[i];
    /* Offsets are 32 bits wide. */
    limits->text_bytes = MIN(limits->text_bytes, 2ll << 30);
}

void reader_init(struct reader *reader, struct arena *arena, const struct extract_limits *limits,
                 struct err *err)
{
    *reader = (struct reader){.arena = arena, .err = err};
    extract_limits_fill(&reader->limits, limits);
    buf_init(&reader->text, (size_t)reader->limits.text_bytes);
}

void reader_fini(struct reader *reader)
{
    buf_fini(&reader->text);
    free(reader->blocks);
    free(reader->pages);
}

enum rc reader_no_memory(struct reader *reader)
{
    return err_set(reader->err, ERR_TOO_LARGE,
                   "the file needs more memory than its reader may take");
}

static bool is_white(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static bool is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
}

/* White space at both ends; before code only whole blank lines go, since indentation has a meaning.
 */
static struct str trim(enum block_kind kind, struct str text)
{
    while (text.n && (is_white(text.p[text.n - 1]) || is_control(text.p[text.n - 1])))
        text.n--;
    size_t from = 0, line = 0;
    while (from < text.n && (is_white(text.p[from]) || is_control(text.p[from])))
        if (text.p[from++] == '\n')
            line = from;
    return str_slice(text, kind == BLOCK_CODE ? line : from, text.n);
}

/* CR LF and CR become LF, other controls a space. In place; returns the new length. */
static size_t clean(char *p, size_t n)
{
    bool dirty = false;
    for (size_t i = 0; i < n; i++)
        dirty |= is_control(p[i]);
    if (!dirty)
        return n;
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c == '\r' && i + 1 < n && p[i + 1] == '\n')
            continue;
        p[to++] = (char)(c == '\r' ? '\n' : is_control(c) ? ' ' : c);
    }
    return to;
}

/* Room for one more; the array doubles up to the limit. */
static bool grow(void **array, size_t count, size_t *capacity, size_t item_bytes, int64_t count_max)
{
    if (count >= (size_t)count_max)
        return false;
    if (count == *capacity) {
        *capacity = MIN(MAX(*capacity * 2, 256), (size_t)count_max);
        *array = xrealloc(*array, *capacity * item_bytes);
    }
    return true;
}

enum rc reader_add(struct reader *reader, enum block_kind kind, unsigned level, struct str text,
                   const struct extract_rect *rect)
{
    text = trim(kind, text);
    if (!text.n)
        return RC_OK;
    if (!utf8_valid(text))
        return err_set(reader->err, ERR_INVALID, "a text of the file is not valid UTF-8");
    bool first = !buf_len(&reader->text);
    char *p;
    if (buf_reserve(&reader->text, text.n + 1, &p) != RC_OK)
        return err_set(reader->err, ERR_TOO_LARGE, "the file holds more than %lld bytes of text",
                       (long long)reader->limits.text_bytes);
    if (!grow((void **)&reader->blocks, reader->block_count, &reader->block_capacity,
              sizeof(*reader->blocks), reader->limits.blocks))
        return err_set(reader->err, ERR_TOO_LARGE, "the file has more than %lld blocks",
                       (long long)reader->limits.blocks);
    if (!first)
        *p++ = '\n';
    memcpy(p, text.p, text.n);
    size_t n = clean(p, text.n), begin = buf_len(&reader->text) + !first;
    buf_added(&reader->text, n + !first);
    struct extract_block *block = &reader->blocks[reader->block_count++];
    memset(block, 0, sizeof(*block)); /* padding too: it crosses to another process */
    block->kind = kind;
    block->level = (uint8_t)MIN(level, 9);
    block->page = (uint32_t)reader->page_count;
    block->begin = (uint32_t)begin;
    block->end = (uint32_t)(begin + n);
    if (rect)
        block->rect = *rect;
    return RC_OK;
}

enum rc reader_add_page(struct reader *reader, float width, float height)
{
    if (!grow((void **)&reader->pages, reader->page_count, &reader->page_capacity,
              sizeof(*reader->pages), reader->limits.pages))
        return err_set(reader->err, ERR_TOO_LARGE, "the file has more than %lld pages",
                       (long long)reader->limits.pages);
    reader->pages[reader->page_count++] = (struct extract_page){width, height};
    return RC_OK;
}

static void keep_once(struct reader *reader, struct str *field, struct str value, size_t n_max)
{
    value = trim(BLOCK_TEXT, value);
    if (field->n || !value.n || !utf8_valid(value))
        return;
    struct str copy = arena_copy(reader->arena, str_slice(value, 0, utf8_cut(value, n_max)));
    if (!copy.p)
        return;
    char *p = (char *)copy.p;
    size_t n = clean(p, copy.n);
    for (size_t i = 0; i < n; i++)
        if (is_white(p[i]))
            p[i] = ' ';
    *field = str_make(p, n);
}

void reader_set_title(struct reader *reader, struct str title)
{
    keep_once(reader, &reader->title, title, TITLE_BYTES_MAX);
}

void reader_set_language(struct reader *reader, struct str language)
{
    keep_once(reader, &reader->language, language, LANGUAGE_BYTES_MAX);
}
