/* Mail (RFC 5322, MIME): who, when and about what; the text, plain rather than HTML where there are
 * both; attachments by name. Parts nest within a bound. */
#include "knowledge/extract_mime.h"
#include "knowledge/extract_reader.h"

#define PARTS_MAX          500
#define NESTING_MAX        12
#define BOUNDARY_BYTES_MAX 200

struct mail {
    struct reader *reader;
    unsigned parts;
};

static enum rc read_entity(struct mail *mail, struct str entity, unsigned nesting);

/* The value of one header of a head, unfolded lazily: raw, with its line breaks. */
static struct str header(struct str head, struct str name)
{
    while (head.n) {
        size_t n = 0;
        do { /* a line, and those that continue it */
            const char *lf = memchr(head.p + n, '\n', head.n - n);
            n = lf ? (size_t)(lf - head.p) + 1 : head.n;
        } while (n < head.n && (head.p[n] == ' ' || head.p[n] == '\t'));
        struct str line = str_slice(head, 0, n);
        if (line.n > name.n && line.p[name.n] == ':' &&
            str_eq_nocase(str_slice(line, 0, name.n), name))
            return str_trim(str_slice(line, name.n + 1, line.n));
        head = str_slice(head, n, head.n);
    }
    return STR_EMPTY;
}

/* name=value or name="value" among a header's parameters. */
static struct str parameter(struct str value, struct str name)
{
    struct str part;
    while (str_split(&value, ';', &part)) {
        part = str_trim(part);
        if (part.n <= name.n || part.p[name.n] != '=' ||
            !str_eq_nocase(str_slice(part, 0, name.n), name))
            continue;
        part = str_trim(str_slice(part, name.n + 1, part.n));
        if (part.n >= 2 && part.p[0] == '"') {
            ssize_t end = str_find_char(str_slice(part, 1, part.n), '"');
            return str_slice(part, 1, end < 0 ? part.n : (size_t)end + 1);
        }
        return part;
    }
    return STR_EMPTY;
}

static bool type_is(struct str type, struct str wanted)
{
    return type.n >= wanted.n && str_eq_nocase(str_slice(type, 0, wanted.n), wanted);
}

/* Head and body are separated by the first empty line. */
static void split_entity(struct str entity, struct str *head, struct str *body)
{
    size_t at = 0;
    while (at < entity.n) {
        const char *lf = memchr(entity.p + at, '\n', entity.n - at);
        size_t end = lf ? (size_t)(lf - entity.p) + 1 : entity.n;
        if (!str_trim(str_slice(entity, at, end)).n) {
            *head = str_slice(entity, 0, at);
            *body = str_slice(entity, end, entity.n);
            return;
        }
        at = end;
    }
    *head = entity;
    *body = STR_EMPTY;
}

/* --boundary, alone on its line but for white space; or --boundary-- at the end. */
static bool is_boundary(struct str line, struct str boundary, bool *is_last)
{
    if (!str_starts(line, STR("--")) || !str_starts(str_slice(line, 2, line.n), boundary))
        return false;
    struct str rest = str_trim(str_slice(line, 2 + boundary.n, line.n));
    *is_last = str_starts(rest, STR("--"));
    return !rest.n || *is_last;
}

/* The next part of a multipart body: what stands between two lines of --boundary. */
static bool next_part(struct str *rest, struct str boundary, struct str *part)
{
    bool inside = false;
    size_t begin = 0, at = 0;
    while (at < rest->n) {
        const char *lf = memchr(rest->p + at, '\n', rest->n - at);
        size_t end = lf ? (size_t)(lf - rest->p) + 1 : rest->n;
        struct str line = str_slice(*rest, at, end);
        bool is_last = false, mark = is_boundary(line, boundary, &is_last);
        if (mark && inside) {
            *part = str_slice(*rest, begin, at);
            *rest = str_slice(*rest, at, rest->n);
            return true;
        }
        if (is_last)
            return false;
        if (mark) {
            inside = true;
            begin = end;
        }
        at = end;
    }
    *part = str_slice(*rest, begin, rest->n); /* the end is missing */
    *rest = STR_EMPTY;
    return inside && part->n;
}

static enum rc read_multipart(struct mail *mail, struct str body, struct str type, unsigned nesting)
{
    struct str boundary = parameter(type, STR("boundary")), part, chosen = STR_EMPTY;
    bool alternative = type_is(type, STR("multipart/alternative")), plain = false;
    if (!boundary.n || boundary.n > BOUNDARY_BYTES_MAX)
        return err_set(mail->reader->err, ERR_INVALID,
                       "the mail is broken: parts have no boundary");
    enum rc rc = RC_OK;
    while (rc == RC_OK && next_part(&body, boundary, &part)) {
        if (++mail->parts > PARTS_MAX)
            return err_set(mail->reader->err, ERR_TOO_LARGE, "the mail has too many parts");
        if (!alternative) {
            rc = read_entity(mail, part, nesting + 1);
            continue;
        }
        struct str head, rest;
        split_entity(part, &head, &rest);
        struct str kind = header(head, STR("Content-Type"));
        bool is_plain = !kind.n || type_is(kind, STR("text/plain"));
        if (!chosen.n || (is_plain && !plain && str_trim(rest).n) ||
            (!plain && type_is(kind, STR("text/html"))))
            chosen = part;
        plain = plain || (is_plain && str_trim(rest).n);
    }
    return rc == RC_OK && chosen.n ? read_entity(mail, chosen, nesting + 1) : rc;
}

static enum rc list_attachment(struct mail *mail, struct str name, struct str type)
{
    struct str decoded;
    enum rc rc = mime_decode_words(mail->reader, name, &decoded);
    if (rc != RC_OK)
        return rc;
    struct str line =
        arena_printf(mail->reader->arena, "Attachment: %.*s (%.*s)",
                     STR_ARG(str_slice(decoded, 0, 500)), STR_ARG(str_slice(type, 0, 100)));
    struct str text;
    rc = charset_decode(mail->reader, line, STR_EMPTY, &text);
    return rc == RC_OK ? reader_add(mail->reader, BLOCK_TEXT, 0, text, NULL) : rc;
}

static enum rc read_entity(struct mail *mail, struct str entity, unsigned nesting)
{
    struct reader *reader = mail->reader;
    struct str head, body, text;
    if (nesting > NESTING_MAX)
        return err_set(reader->err, ERR_INVALID, "the mail's parts nest deeper than %d",
                       NESTING_MAX);
    split_entity(entity, &head, &body);
    struct str type = header(head, STR("Content-Type"));
    struct str disposition = header(head, STR("Content-Disposition"));
    struct str name = parameter(disposition, STR("filename"));
    if (!name.n)
        name = parameter(type, STR("name"));
    ssize_t semicolon = str_find_char(type, ';');
    struct str plain_type = str_trim(semicolon < 0 ? type : str_slice(type, 0, (size_t)semicolon));
    if (type_is(type, STR("multipart/")))
        return read_multipart(mail, body, type, nesting);
    if (type_is(disposition, STR("attachment")) ||
        (type.n && !type_is(type, STR("text/")) && !type_is(type, STR("message/rfc822"))))
        return list_attachment(mail, name.n ? name : STR("unnamed"), plain_type);
    enum rc rc =
        mime_decode_body(reader, body, header(head, STR("Content-Transfer-Encoding")), &text);
    if (rc != RC_OK)
        return rc;
    if (type_is(type, STR("message/rfc822")))
        return read_message(reader, text, nesting + 1, &mail->parts);
    struct str charset = parameter(type, STR("charset"));
    if (type_is(type, STR("text/html")))
        return read_html_part(reader, text, charset);
    rc = charset_decode(reader, text, charset, &text);
    return rc == RC_OK ? read_text(reader, text) : rc;
}

enum rc read_message(struct reader *reader, struct str bytes, unsigned nesting, unsigned *parts)
{
    static const struct str names[] = {STR_INIT("From"), STR_INIT("To"), STR_INIT("Cc"),
                                       STR_INIT("Date")};
    struct str head, body, subject;
    struct mail mail = {.reader = reader, .parts = *parts};
    split_entity(bytes, &head, &body);
    enum rc rc = mime_decode_words(reader, header(head, STR("Subject")), &subject);
    if (rc == RC_OK) {
        reader_set_title(reader, subject);
        rc = reader_add(reader, BLOCK_HEADING, nesting ? 2 : 1, subject, NULL);
    }
    struct str lines = STR_EMPTY;
    for (size_t i = 0; i < COUNT_OF(names) && rc == RC_OK; i++) {
        struct str value;
        rc = mime_decode_words(reader, header(head, names[i]), &value);
        if (rc == RC_OK && value.n)
            lines = arena_printf(reader->arena, "%.*s%.*s: %.*s\n", STR_ARG(lines),
                                 STR_ARG(names[i]), STR_ARG(value));
    }
    if (rc == RC_OK)
        rc = reader_add(reader, BLOCK_TEXT, 0, lines, NULL);
    if (rc == RC_OK)
        rc = read_entity(&mail, bytes, nesting);
    *parts = mail.parts;
    return rc;
}

enum rc read_email(struct reader *reader, struct str bytes)
{
    unsigned parts = 0;
    return read_message(reader, bytes, 0, &parts);
}
