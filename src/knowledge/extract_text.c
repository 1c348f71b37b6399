/* Plain text: paragraphs are what blank lines separate. */
#include "knowledge/extract_reader.h"

static bool is_blank(struct str line)
{
    for (size_t i = 0; i < line.n; i++)
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r' && line.p[i] != '\f')
            return false;
    return true;
}

enum rc read_text(struct reader *reader, struct str bytes)
{
    struct str text;
    enum rc rc = charset_decode(reader, bytes, STR_EMPTY, &text);
    size_t begin = 0, at = 0;
    while (rc == RC_OK && at < text.n) {
        const char *lf = memchr(text.p + at, '\n', text.n - at);
        size_t end = lf ? (size_t)(lf - text.p) : text.n;
        if (is_blank(str_slice(text, at, end))) {
            rc = reader_add(reader, BLOCK_TEXT, 0, str_slice(text, begin, at), NULL);
            begin = end;
        }
        at = end + 1;
    }
    return rc == RC_OK ? reader_add(reader, BLOCK_TEXT, 0, str_slice(text, begin, text.n), NULL)
                       : rc;
}
