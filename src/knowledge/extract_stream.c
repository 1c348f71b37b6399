/* The stream from the child to the server: a header, then the sections it announces, in one go.
 *
 *   header   struct stream_head
 *   blocks   block_count × struct extract_block
 *   pages    page_count × struct extract_page
 *   text, title, language (or, after an error, its message)
 *
 * Both sides are the same program, so sections are the structs themselves. The reading side trusts
 * nothing: lengths add up exactly, blocks are in order and within the text, on character
 * boundaries, and name pages that exist. */
#include "base/utf8.h"
#include "knowledge/extract_reader.h"
#include <errno.h>
#include <math.h>
#include <unistd.h>

#define STREAM_MAGIC    0x63617031
#define TITLE_BYTES_MAX 500
#define COORDINATE_MAX  1e6f

struct stream_head {
    uint32_t magic, error; /* enum err_code */
    uint64_t text_bytes;
    uint32_t block_count, page_count;
    uint32_t title_bytes, language_bytes;
    uint32_t no_text, unused;
};

_Static_assert(sizeof(struct stream_head) % _Alignof(struct extract_block) == 0,
               "sections keep their alignment");

size_t extract_stream_bytes_max(const struct extract_limits *limits)
{
    return sizeof(struct stream_head) + (size_t)limits->text_bytes + 2 * TITLE_BYTES_MAX +
           (size_t)limits->blocks * sizeof(struct extract_block) +
           (size_t)limits->pages * sizeof(struct extract_page);
}

static bool write_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t sent = write(fd, at, n);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool write_error(int fd, const struct err *err)
{
    struct str message = str_from(err->message);
    struct stream_head head = {.magic = STREAM_MAGIC,
                               .error = err->code ? err->code : ERR_INVALID,
                               .text_bytes = message.n};
    return write_all(fd, &head, sizeof(head)) && write_all(fd, message.p, message.n);
}

bool extract_stream_write(int fd, const struct reader *reader, enum rc rc)
{
    if (rc != RC_OK)
        return write_error(fd, reader->err);
    struct str text = buf_str(&reader->text);
    struct stream_head head = {
        .magic = STREAM_MAGIC,
        .text_bytes = text.n,
        .block_count = (uint32_t)reader->block_count,
        .page_count = (uint32_t)reader->page_count,
        .title_bytes = (uint32_t)reader->title.n,
        .language_bytes = (uint32_t)reader->language.n,
        .no_text = reader->no_text,
    };
    return write_all(fd, &head, sizeof(head)) &&
           write_all(fd, reader->blocks, reader->block_count * sizeof(*reader->blocks)) &&
           write_all(fd, reader->pages, reader->page_count * sizeof(*reader->pages)) &&
           write_all(fd, text.p, text.n) && write_all(fd, reader->title.p, reader->title.n) &&
           write_all(fd, reader->language.p, reader->language.n);
}

static bool is_coordinate(float value) { return isfinite(value) && fabsf(value) <= COORDINATE_MAX; }

static bool starts_character(struct str text, size_t at)
{
    return at == text.n || ((unsigned char)text.p[at] & 0xc0) != 0x80;
}

/* `begin` is where it must begin: blocks are joined by one newline, and nothing is between them. */
static bool block_is_sound(const struct extract_block *block, size_t begin, struct str text,
                           size_t page_count)
{
    const struct extract_rect *rect = &block->rect;
    return (begin == 0 || (begin <= text.n && text.p[begin - 1] == '\n')) &&
           (unsigned)block->kind <= BLOCK_QUOTE && block->level <= 9 && block->page <= page_count &&
           block->begin == begin && block->begin < block->end && block->end <= text.n &&
           starts_character(text, block->begin) && starts_character(text, block->end) &&
           is_coordinate(rect->x0) && is_coordinate(rect->y0) && is_coordinate(rect->x1) &&
           is_coordinate(rect->y1);
}

static bool sections_are_sound(const struct extracted *out)
{
    size_t begin = 0;
    for (size_t i = 0; i < out->block_count; i++) {
        if (!block_is_sound(&out->blocks[i], begin, out->text, out->page_count))
            return false;
        begin = (size_t)out->blocks[i].end + 1;
    }
    if (out->text.n + (out->block_count > 0) != begin)
        return false;
    for (size_t i = 0; i < out->page_count; i++)
        if (!is_coordinate(out->pages[i].width) || !is_coordinate(out->pages[i].height))
            return false;
    return utf8_valid(out->text) && utf8_valid(out->title) && utf8_valid(out->language);
}

static enum rc broken(struct err *err)
{
    return err_set(err, ERR_INVALID, "the file made its reader answer nonsense");
}

static enum rc read_error(const struct stream_head *head, struct str rest, struct err *err)
{
    if (head->error >= ERR_CODE_COUNT || head->text_bytes != rest.n ||
        rest.n >= ERR_MESSAGE_BYTES_MAX || !utf8_valid(rest))
        return broken(err);
    return err_set(err, (enum err_code)head->error, "%.*s", STR_ARG(rest));
}

enum rc extract_stream_read(struct str bytes, const struct extract_limits *limits,
                            struct extracted *out, struct err *err)
{
    struct stream_head head;
    if (bytes.n < sizeof(head))
        return broken(err);
    memcpy(&head, bytes.p, sizeof(head));
    struct str rest = str_slice(bytes, sizeof(head), bytes.n);
    if (head.magic != STREAM_MAGIC)
        return broken(err);
    if (head.error)
        return read_error(&head, rest, err);
    if (head.text_bytes > (uint64_t)limits->text_bytes ||
        head.block_count > (uint64_t)limits->blocks || head.page_count > (uint64_t)limits->pages ||
        head.title_bytes > TITLE_BYTES_MAX || head.language_bytes > TITLE_BYTES_MAX)
        return broken(err);
    size_t block_bytes = head.block_count * sizeof(*out->blocks);
    size_t page_bytes = head.page_count * sizeof(*out->pages);
    if (rest.n !=
        block_bytes + page_bytes + head.text_bytes + head.title_bytes + head.language_bytes)
        return broken(err);
    const char *at = rest.p;
    out->blocks = (struct extract_block *)(void *)at;
    out->block_count = head.block_count;
    out->pages = (struct extract_page *)(void *)(at += block_bytes);
    out->page_count = head.page_count;
    out->text = str_make(at += page_bytes, head.text_bytes);
    out->title = str_make(at += head.text_bytes, head.title_bytes);
    out->language = str_make(at + head.title_bytes, head.language_bytes);
    out->no_text = head.no_text != 0;
    return sections_are_sound(out) ? RC_OK : broken(err);
}
