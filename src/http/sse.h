/* Server-sent events: an incremental parser that finds event boundaries in a byte stream without
 * copying what arrives whole, as the HTML standard describes (CR, LF, CRLF; comments; BOM). */
#pragma once
#include "base/buf.h"

struct sse_event {
    struct str raw;  /* the bytes of the event with its blank line, as received */
    struct str name; /* "event:" value or empty */
    struct str data; /* "data:" values joined by LF; .p NULL: none (a comment that keeps alive) */
    struct str id;
};

struct sse_parser {
    struct buf
        rest; /* the part of an event that is not complete yet; bound LIMIT_SSE_EVENT_BYTES */
    struct buf joined;
    size_t line_at;  /* start of the line that is not complete yet, from the event's start */
    size_t searched; /* bytes of the event that hold no further line end */
    unsigned mark_bytes;
    bool after_cr, begun;
};

void sse_parser_init(struct sse_parser *parser);
void sse_parser_fini(struct sse_parser *parser);
/* Calls `each` for every complete event in `data` (joined with what was left); texts are valid
 * during the call. Stops early with the rc that `each` returns; RC_LIMIT: an event is too long. */
enum rc sse_parse(struct sse_parser *parser, struct str data,
                  enum rc (*each)(void *arg, const struct sse_event *event), void *arg) MUST_CHECK;
/* Writes an event: `name` and `id` are left away when empty; each line of `data` gets its own
 * field. RC_LIMIT: the buffer is full. Name and id must not hold line ends. */
enum rc sse_append(struct buf *out, struct str name, struct str id, struct str data) MUST_CHECK;
