/* The glue over llhttp that server and client share: a complete head (start line and headers) is
 * parsed in one go where it lies, texts pointing into it; chunked bodies are decoded in place.
 * Private to http/. */
#pragma once
#include "base/limits.h"
#include "http/message.h"
#include <llhttp.h>

enum http_framing { /* how the end of a body is told */
                    HTTP_BODY_NONE,
                    HTTP_BODY_LENGTH,
                    HTTP_BODY_CHUNKED,
                    HTTP_BODY_CLOSE, /* answers only */
};

/* What one head says. Large: one per server and one per client, reused. */
struct http_head {
    struct str method, target; /* requests */
    int status;                /* answers */
    unsigned major, minor;     /* of the version */
    bool keep_alive;
    enum http_framing framing;
    uint64_t content_length;     /* HTTP_BODY_LENGTH */
    struct http_headers headers; /* over items */
    struct http_header items[LIMIT_HEADER_COUNT];
    int refusal;             /* HTTP status that a bad request deserves */
    const char *reason;      /* of the refusal, for the message */
    bool in_value, complete; /* private: state of the callbacks */
};

/* Bytes up to and with the blank line that ends a head, or 0: more is needed. `*scanned` (0 at
 * first) remembers what was searched. Empty lines before the start line belong to the head. */
size_t http_head_find_end(struct str s, size_t *scanned);

/* RC_INVALID: refusal and reason are set. `text` is exactly one head. */
enum rc http_head_parse_request(struct http_head *head, struct str text) MUST_CHECK;
/* `to_head`: the answer is to a HEAD request and has no body. */
enum rc http_head_parse_response(struct http_head *head, struct str text, bool to_head) MUST_CHECK;

/* Decodes a chunked body. */
struct http_chunks {
    llhttp_t parser;
    char *out;               /* private: where the next piece of the body goes */
    uint64_t overhead_bytes; /* chunk heads since the last body byte: bounded */
    bool done;
};

void http_chunks_init(struct http_chunks *chunks);
/* Takes `data` apart: the body's bytes are moved together at its start (*body_bytes of them); *used
 * of the input were taken, all unless the body ended (chunks->done). RC_INVALID: not chunked
 * encoding. RC_LIMIT: trailers or chunk extensions without end. */
enum rc http_chunks_decode(struct http_chunks *chunks, char *data, size_t n, size_t *used,
                           size_t *body_bytes) MUST_CHECK;
