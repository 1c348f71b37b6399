/* Server-sent events: an incremental parser that finds event boundaries in a byte stream without
 * copying what arrives whole, as the HTML standard describes (CR, LF, CRLF; comments; BOM). */
#pragma once
#include "base/buf.h"

struct sse_event {
    struct str raw;  /* the bytes of the event with its blank line, as received */
    struct str name; /* "event:" value or empty */
    struct str data; /* "data:" values joined by LF */
    struct str id;
};

struct sse_parser {
    struct buf rest; /* the part of an event that is not complete yet; bound LIMIT_SSE_EVENT_BYTES */
    struct buf joined;
    size_t scanned;
    bool after_cr, begun;
};

void sse_parser_init(struct sse_parser *parser);
void sse_parser_fini(struct sse_parser *parser);
/* Calls `each` for every complete event in `data` (joined with what was left); texts are valid during the
 * call. Stops early with the rc that `each` returns; RC_LIMIT: an event is too long. */
enum rc sse_parse(struct sse_parser *parser, struct str data,
                  enum rc (*each)(void *arg, const struct sse_event *event), void *arg) MUST_CHECK;
