/* The event-stream parser of the HTML standard (section 9.2.6). Most reads hold whole events: those
 * are cut out of the caller's memory. Only an event that is split between reads is collected in
 * `rest`, and only several `data:` lines are joined in `joined`. */
#include "http/sse.h"
#include "base/limits.h"

void sse_parser_init(struct sse_parser *parser)
{
    *parser = (struct sse_parser){0};
    buf_init(&parser->rest, LIMIT_SSE_EVENT_BYTES);
    buf_init(&parser->joined, LIMIT_SSE_EVENT_BYTES);
}

void sse_parser_fini(struct sse_parser *parser)
{
    buf_fini(&parser->rest);
    buf_fini(&parser->joined);
}

/* Offset of the next CR or LF, or s.n. */
static size_t line_end(struct str s, size_t from)
{
    if (from == s.n)
        return s.n;
    const char *lf = memchr(s.p + from, '\n', s.n - from);
    size_t end = lf ? (size_t)(lf - s.p) : s.n;
    const char *cr = memchr(s.p + from, '\r', end - from);
    return cr ? (size_t)(cr - s.p) : end;
}

static size_t line_end_bytes(struct str s, size_t end)
{
    return s.p[end] == '\r' && end + 1 < s.n && s.p[end + 1] == '\n' ? 2 : 1;
}

static enum rc field_take(struct sse_parser *parser, struct str line, struct sse_event *event,
                          size_t *data_lines)
{
    ssize_t colon = str_find_char(line, ':');
    if (colon == 0)
        return RC_OK; /* a comment */
    struct str name = colon < 0 ? line : str_make(line.p, (size_t)colon);
    struct str value =
        colon < 0 ? str_make(line.p + line.n, 0) : str_slice(line, (size_t)colon + 1, line.n);
    if (value.n > 0 && value.p[0] == ' ')
        value = str_slice(value, 1, value.n);
    if (str_eq(name, STR("event"))) {
        event->name = value;
    } else if (str_eq(name, STR("id"))) {
        if (!memchr(value.p, 0, value.n))
            event->id = value;
    } else if (str_eq(name, STR("data"))) {
        if ((*data_lines)++ == 0) {
            event->data = value;
            return RC_OK;
        }
        if (*data_lines == 2) {
            buf_clear(&parser->joined);
            enum rc rc = buf_append(&parser->joined, event->data);
            if (rc != RC_OK)
                return rc;
        }
        enum rc rc = buf_append_char(&parser->joined, '\n');
        if (rc == RC_OK)
            rc = buf_append(&parser->joined, value);
        event->data = buf_str(&parser->joined);
        return rc;
    }
    return RC_OK;
}

/* What most events are: one line that ends with LF, and the blank line. Bytes used, or 0: look
 * closer. */
static size_t event_take_plain(struct sse_parser *parser, struct str data, enum rc *rc,
                               enum rc (*each)(void *arg, const struct sse_event *event), void *arg)
{
    const char *end = memchr(data.p, '\n', data.n);
    if (!end || end == data.p || end + 1 == data.p + data.n || end[1] != '\n')
        return 0;
    size_t n = (size_t)(end + 2 - data.p), data_lines = 0;
    struct sse_event event = {.raw = str_make(data.p, n)};
    *rc = field_take(parser, str_make(data.p, n - 2), &event, &data_lines);
    if (*rc == RC_OK)
        *rc = each(arg, &event);
    return n;
}

/* One whole event, its blank line included. */
static enum rc event_take(struct sse_parser *parser, struct str raw,
                          enum rc (*each)(void *arg, const struct sse_event *event), void *arg)
{
    struct sse_event event = {.raw = raw};
    size_t data_lines = 0;
    for (size_t at = 0; at < raw.n;) {
        size_t end = line_end(raw, at);
        if (end == at)
            break;
        enum rc rc = field_take(parser, str_make(raw.p + at, end - at), &event, &data_lines);
        if (rc != RC_OK)
            return rc;
        at = end + line_end_bytes(raw, end);
    }
    return each(arg, &event);
}

/* Where the event that starts the text ends (after its blank line), or 0: not yet. No byte is
 * searched twice, however the text comes in. A CR that is the last byte may be half of a CRLF:
 * after a line with content it waits, but the one that completes an event does not, and the LF,
 * should it come, is dropped (`after_cr`). */
static size_t event_end(struct sse_parser *parser, struct str s)
{
    for (;;) {
        size_t end = line_end(s, parser->searched);
        parser->searched = end;
        if (end == s.n)
            return 0;
        bool blank = end == parser->line_at;
        bool cut = s.p[end] == '\r' && end + 1 == s.n;
        if (cut && !blank)
            return 0;
        size_t next = end + line_end_bytes(s, end);
        parser->line_at = parser->searched = next;
        if (blank) {
            parser->after_cr = cut;
            parser->line_at = parser->searched = 0;
            return next;
        }
    }
}

/* Drops a byte order mark at the very start; true while it cannot be told yet. */
static bool mark_pending(struct sse_parser *parser, struct str *data)
{
    static const char mark[] = "\xef\xbb\xbf";
    while (!parser->begun && data->n > 0) {
        if (data->p[0] != mark[parser->mark_bytes])
            break;
        *data = str_slice(*data, 1, data->n);
        parser->mark_bytes++;
        parser->begun = parser->mark_bytes == 3;
    }
    if (data->n > 0)
        parser->begun = true;
    return !parser->begun;
}

enum rc sse_parse(struct sse_parser *parser, struct str data,
                  enum rc (*each)(void *arg, const struct sse_event *event), void *arg)
{
    if (UNLIKELY(!parser->begun) && mark_pending(parser, &data))
        return RC_OK;
    bool plain = !memchr(data.p, '\r', data.n);
    while (data.n > 0) {
        if (plain && !parser->after_cr && buf_len(&parser->rest) == 0) {
            enum rc rc = RC_OK;
            size_t n = event_take_plain(parser, data, &rc, each, arg);
            if (rc != RC_OK)
                return rc;
            data = str_slice(data, n, data.n);
            if (n > 0)
                continue;
        }
        if (UNLIKELY(parser->after_cr)) {
            parser->after_cr = false;
            if (data.p[0] == '\n') {
                data = str_slice(data, 1, data.n);
                continue;
            }
        }
        size_t held = buf_len(&parser->rest);
        if (held > 0) {
            enum rc rc = buf_append(&parser->rest, data);
            if (rc != RC_OK)
                return rc;
        }
        struct str text = held > 0 ? buf_str(&parser->rest) : data;
        size_t end = event_end(parser, text);
        if (end == 0)
            return held > 0 ? RC_OK : buf_append(&parser->rest, data);
        enum rc rc = event_take(parser, str_make(text.p, end), each, arg);
        buf_release(&parser->rest);
        if (rc != RC_OK)
            return rc;
        data = str_slice(data, end - held, data.n);
    }
    return RC_OK;
}

enum rc sse_append(struct buf *out, struct str name, struct str id, struct str data)
{
    enum rc rc = RC_OK;
    if (name.n > 0)
        rc = buf_printf(out, "event: %.*s\n", STR_ARG(name));
    if (rc == RC_OK && id.n > 0)
        rc = buf_printf(out, "id: %.*s\n", STR_ARG(id));
    do {
        size_t end = line_end(data, 0);
        struct str line = str_slice(data, 0, end);
        data = str_slice(data, end < data.n ? end + line_end_bytes(data, end) : end, data.n);
        if (rc == RC_OK)
            rc = buf_append(out, STR("data: "));
        if (rc == RC_OK)
            rc = buf_append(out, line);
        if (rc == RC_OK)
            rc = buf_append_char(out, '\n');
    } while (data.n > 0 && rc == RC_OK);
    return rc == RC_OK ? buf_append_char(out, '\n') : rc;
}
