/* Quoted-printable, base64 and encoded words (RFC 2045, 2047), as lenient as mail programs are. */
#include "knowledge/extract_mime.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* Anything that is no digit is passed over: line breaks, padding, noise. */
static size_t decode_base64(struct str in, char *out)
{
    uint32_t bits = 0;
    int count = 0;
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        int digit = base64_digit(in.p[i]);
        if (digit < 0)
            continue;
        bits = bits << 6 | (uint32_t)digit;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[n++] = (char)(bits >> count & 0xff);
        }
    }
    return n;
}

/* `in_word`: an underscore is a space. */
static size_t decode_quoted(struct str in, bool in_word, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '=' && i + 2 < in.n && hex_digit(in.p[i + 1]) >= 0 &&
            hex_digit(in.p[i + 2]) >= 0) {
            out[n++] = (char)(hex_digit(in.p[i + 1]) * 16 + hex_digit(in.p[i + 2]));
            i += 2;
        } else if (c == '=' && !in_word && i + 1 < in.n && in.p[i + 1] == '\n') {
            i += 1; /* a soft line break */
        } else if (c == '=' && !in_word && i + 2 < in.n && in.p[i + 1] == '\r' &&
                   in.p[i + 2] == '\n') {
            i += 2;
        } else {
            out[n++] = in_word && c == '_' ? ' ' : c;
        }
    }
    return n;
}

enum rc mime_decode_body(struct reader *reader, struct str body, struct str encoding,
                         struct str *out)
{
    bool base64 = str_eq_nocase(encoding, STR("base64"));
    *out = body;
    if (!base64 && !str_eq_nocase(encoding, STR("quoted-printable")))
        return RC_OK;
    char *p = arena_alloc(reader->arena, body.n + 1);
    if (!p)
        return reader_no_memory(reader);
    *out = str_make(p, base64 ? decode_base64(body, p) : decode_quoted(body, false, p));
    return RC_OK;
}

/* The parts of =?charset?e?text?= at the start of `s`; false: it is none. */
static bool match_word(struct str s, struct str *charset, char *encoding, struct str *text,
                       size_t *bytes)
{
    if (!str_starts(s, STR("=?")))
        return false;
    struct str rest = str_slice(s, 2, s.n);
    ssize_t first = str_find_char(rest, '?');
    if (first <= 0 || (size_t)first + 2 >= rest.n || rest.p[first + 2] != '?')
        return false;
    *charset = str_slice(rest, 0, (size_t)first);
    *encoding = (char)(rest.p[first + 1] | 0x20);
    struct str body = str_slice(rest, (size_t)first + 3, rest.n);
    ssize_t end = str_find(body, STR("?="));
    if (end < 0 || (*encoding != 'q' && *encoding != 'b'))
        return false;
    *text = str_slice(body, 0, (size_t)end);
    *bytes = 2 + (size_t)first + 3 + (size_t)end + 2;
    return true;
}

static enum rc append_word(struct reader *reader, struct str charset, char encoding,
                           struct str text, struct buf *out)
{
    char *p = arena_alloc(reader->arena, text.n + 1);
    if (!p)
        return reader_no_memory(reader);
    size_t n = encoding == 'b' ? decode_base64(text, p) : decode_quoted(text, true, p);
    struct str decoded;
    enum rc rc = charset_decode(reader, str_make(p, n), charset, &decoded);
    return rc == RC_OK ? buf_append(out, decoded) : rc;
}

enum rc mime_decode_words(struct reader *reader, struct str value, struct str *out)
{
    struct buf text;
    enum rc rc = charset_decode(reader, value, STR_EMPTY, &value);
    bool after_word = false;
    buf_init(&text, (size_t)reader->limits.text_bytes);
    for (size_t i = 0; i < value.n && rc == RC_OK;) {
        struct str charset, word;
        char encoding;
        size_t n;
        if (match_word(str_slice(value, i, value.n), &charset, &encoding, &word, &n)) {
            rc = append_word(reader, charset, encoding, word, &text);
            i += n;
            after_word = true;
            continue;
        }
        size_t white = i;
        while (white < value.n && strchr(" \t\r\n", value.p[white]))
            white++;
        /* White space between two encoded words is not text; folds become one space. */
        if (white > i) {
            bool between = after_word && str_starts(str_slice(value, white, value.n), STR("=?"));
            rc = between ? RC_OK : buf_append_char(&text, ' ');
            i = white;
            continue;
        }
        rc = buf_append_char(&text, value.p[i++]);
        after_word = false;
    }
    *out = rc == RC_OK ? arena_copy(reader->arena, buf_str(&text)) : STR_EMPTY;
    if (rc == RC_OK && !out->p)
        rc = reader_no_memory(reader);
    buf_fini(&text);
    return rc;
}
