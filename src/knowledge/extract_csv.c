/* Comma-separated values (RFC 4180), with the separator guessed from the first lines: comma,
 * semicolon, tab or bar. Each record is a table row, the first one the header. */
#include "knowledge/extract_reader.h"

#define GUESS_BYTES 16384

/* The one that comes most often outside of quotes in the first lines. */
static char guess_separator(struct str text)
{
    static const char separators[] = {',', ';', '\t', '|'};
    size_t counts[COUNT_OF(separators)] = {0}, best = 0;
    bool quoted = false;
    for (size_t i = 0; i < MIN(text.n, GUESS_BYTES); i++) {
        quoted ^= text.p[i] == '"';
        for (size_t k = 0; k < COUNT_OF(separators); k++)
            counts[k] += !quoted && text.p[i] == separators[k];
    }
    for (size_t k = 1; k < COUNT_OF(separators); k++)
        if (counts[k] > counts[best])
            best = k;
    return separators[best];
}

/* One field, appended without quotes and line breaks; returns where it ends. */
static enum rc take_field(struct str text, size_t *at, char separator, struct buf *row)
{
    enum rc rc = RC_OK;
    size_t i = *at;
    bool quoted = i < text.n && text.p[i] == '"';
    i += quoted;
    while (i < text.n && rc == RC_OK) {
        char c = text.p[i];
        if (quoted && c == '"') {
            if (i + 1 < text.n && text.p[i + 1] == '"') {
                i++;
            } else {
                quoted = false;
                i++;
                continue;
            }
        } else if (!quoted && (c == separator || c == '\n')) {
            break;
        }
        if (c != '\r')
            rc = buf_append_char(row, c == '\n' ? ' ' : c);
        i++;
    }
    *at = i;
    return rc;
}

enum rc read_csv(struct reader *reader, struct str bytes)
{
    struct str text;
    struct buf row;
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &text);
    char separator = guess_separator(text);
    bool is_first = true;
    buf_init(&row, (size_t)reader->limits.text_bytes);
    for (size_t at = 0; at < text.n && rc == RC_OK; at++) {
        size_t begin = at;
        buf_clear(&row);
        rc = take_field(text, &at, separator, &row);
        while (at < text.n && text.p[at] == separator && rc == RC_OK) {
            at++;
            rc = buf_append(&row, STR(" | "));
            if (rc == RC_OK)
                rc = take_field(text, &at, separator, &row);
        }
        bool blank = !str_trim(str_slice(text, begin, at)).n;
        if (rc == RC_OK && !blank) {
            rc = reader_add(reader, BLOCK_TABLE_ROW, is_first, buf_str(&row), NULL);
            is_first = false;
        }
    }
    buf_fini(&row);
    return rc == RC_LIMIT && !reader->err->code ? reader_no_memory(reader) : rc;
}
