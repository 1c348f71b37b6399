/* llhttp runs in its strict mode: every leniency flag stays off, so bare LF, obsolete line folding,
 * a length beside chunks, repeated lengths and the like are refused by it. What nginx refuses
 * beyond that (hosts, transfer codings, versions) is checked here. A head is handed to llhttp only
 * when it is whole: its end is found first by a search for line ends, which costs less than keeping
 * a parser's state for each connection and lets all texts point into one piece of memory. */
#include "http/head.h"

#define CHUNK_OVERHEAD_BYTES_MAX (16 * 1024)

size_t http_head_find_end(struct str s, size_t *scanned)
{
    size_t at = *scanned;
    if (at == 0)
        while (at < s.n && (s.p[at] == '\r' || s.p[at] == '\n'))
            at++;
    if (at == s.n)
        return 0; /* `scanned` stays: these may be empty lines yet */
    for (;;) {
        const char *lf = at < s.n ? memchr(s.p + at, '\n', s.n - at) : NULL;
        if (!lf) {
            *scanned = at; /* at the start of a line that is not complete */
            return 0;
        }
        size_t next = (size_t)(lf - s.p) + 1;
        size_t line_bytes = next - at;
        if (line_bytes == 1 || (line_bytes == 2 && s.p[at] == '\r'))
            return next;
        at = next;
    }
}

/* ---- llhttp's callbacks ----
 * A text comes in one piece, because the head is whole. */

static int take_method(llhttp_t *parser, const char *p, size_t n)
{
    ((struct http_head *)parser->data)->method = str_make(p, n);
    return 0;
}

static int take_target(llhttp_t *parser, const char *p, size_t n)
{
    ((struct http_head *)parser->data)->target = str_make(p, n);
    return 0;
}

static int take_name(llhttp_t *parser, const char *p, size_t n)
{
    struct http_head *head = parser->data;
    if (head->headers.count == COUNT_OF(head->items)) {
        head->refusal = 431;
        head->reason = "too many headers";
        return -1;
    }
    head->items[head->headers.count].name = str_make(p, n);
    head->items[head->headers.count].value = str_make(p + n, 0);
    return 0;
}

static int take_value(llhttp_t *parser, const char *p, size_t n)
{
    struct http_head *head = parser->data;
    struct str value = str_make(p, n);
    while (value.n > 0 && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    head->items[head->headers.count].value = value;
    return 0;
}

static int end_value(llhttp_t *parser)
{
    struct http_headers *headers = &((struct http_head *)parser->data)->headers;
    headers->names |= http_name_bit(headers->items[headers->count].name);
    headers->count++;
    return 0;
}

static int end_head(llhttp_t *parser)
{
    struct http_head *head = parser->data;
    head->complete = true;
    head->major = parser->http_major;
    head->minor = parser->http_minor;
    head->status = parser->status_code;
    head->keep_alive = llhttp_should_keep_alive(parser);
    if (parser->flags & F_CHUNKED) {
        head->framing = HTTP_BODY_CHUNKED;
    } else if (parser->flags & F_CONTENT_LENGTH) {
        head->framing = HTTP_BODY_LENGTH;
        head->content_length = parser->content_length;
    }
    return 0;
}

static int take_chunk(llhttp_t *parser, const char *p, size_t n)
{
    struct http_chunks *chunks = parser->data;
    memmove(chunks->out, p, n);
    chunks->out += n;
    chunks->overhead_bytes = 0;
    return 0;
}

static int end_chunks(llhttp_t *parser)
{
    ((struct http_chunks *)parser->data)->done = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t head_settings = {
    .on_method = take_method,
    .on_url = take_target,
    .on_header_field = take_name,
    .on_header_value = take_value,
    .on_header_value_complete = end_value,
    .on_headers_complete = end_head,
};

static const llhttp_settings_t chunk_settings = {
    .on_body = take_chunk,
    .on_message_complete = end_chunks,
};

static enum rc refuse(struct http_head *head, int status, const char *reason)
{
    head->refusal = status;
    head->reason = reason;
    return RC_INVALID;
}

static enum rc head_parse(struct http_head *head, struct str text, llhttp_type_t type)
{
    head->method = head->target = STR_EMPTY;
    head->headers = (struct http_headers){.items = head->items, .capacity = COUNT_OF(head->items)};
    head->framing = HTTP_BODY_NONE;
    head->content_length = 0;
    head->refusal = 0;
    head->complete = false;

    llhttp_t parser;
    llhttp_init(&parser, type, &head_settings);
    parser.data = head;
    llhttp_errno_t error = llhttp_execute(&parser, text.p, text.n);
    /* An upgrade is not taken up, and is paused at only after the head. */
    if (!head->complete || (error != HPE_OK && error != HPE_PAUSED_UPGRADE)) {
        if (head->refusal)
            return RC_INVALID;
        const char *reason = llhttp_get_error_reason(&parser);
        return refuse(head, 400, reason && *reason ? reason : "the head is not complete");
    }
    return RC_OK;
}

/* ---- requests ---- */

/* RFC 9110, section 7.2, as nginx checks it: a name, an IPv4 address or a bracketed IPv6 address,
 * with or without a port. */
static bool host_valid(struct str host)
{
    size_t i = 0;
    if (host.n > 0 && host.p[0] == '[') {
        ssize_t close = str_find_char(host, ']');
        if (close < 2)
            return false;
        for (i = 1; i < (size_t)close; i++)
            if (!strchr("0123456789abcdefABCDEF:.", host.p[i]) || host.p[i] == 0)
                return false;
        i++;
    } else {
        for (; i < host.n && host.p[i] != ':'; i++) {
            unsigned char c = (unsigned char)host.p[i];
            if (c <= 0x20 || c == 0x7f || strchr("/\\?#@<>[]\"^`{|}", c))
                return false;
            if (c == '.' && i + 1 < host.n && host.p[i + 1] == '.')
                return false;
        }
    }
    if (i == 0 || i == host.n)
        return i > 0;
    if (host.p[i++] != ':')
        return false;
    for (; i < host.n; i++)
        if (host.p[i] < '0' || host.p[i] > '9')
            return false;
    return true;
}

static enum rc request_headers_check(struct http_head *head)
{
    struct str host = STR_EMPTY;
    unsigned hosts = 0;
    for (size_t i = 0; i < head->headers.count; i++) {
        struct str name = head->items[i].name, value = head->items[i].value;
        if (name.n == 4 && str_eq_nocase(name, STR("host"))) {
            host = value;
            hosts++;
        } else if (name.n == 17 && str_eq_nocase(name, STR("transfer-encoding"))) {
            if (head->minor == 0)
                return refuse(head, 400, "Transfer-Encoding does not exist in HTTP/1.0");
            if (!str_eq_nocase(value, STR("chunked")))
                return refuse(head, 501, "the only transfer coding spoken here is chunked");
        }
    }
    if (hosts > 1)
        return refuse(head, 400, "more than one Host header");
    if (hosts == 0)
        return head->minor == 0 ? RC_OK : refuse(head, 400, "the Host header is missing");
    return host_valid(host) ? RC_OK : refuse(head, 400, "the Host header is not valid");
}

enum rc http_head_parse_request(struct http_head *head, struct str text)
{
    enum rc rc = head_parse(head, text, HTTP_REQUEST);
    if (rc != RC_OK)
        return rc;
    if (head->major != 1)
        return refuse(head, 505, "HTTP/1.0 and HTTP/1.1 are spoken here");
    if (head->target.n > LIMIT_TARGET_BYTES)
        return refuse(head, 414, "the request target is too long");
    if (str_eq(head->method, STR("CONNECT")) || str_eq(head->method, STR("TRACE")))
        return refuse(head, 405, "the method is not allowed here");
    return request_headers_check(head);
}

/* ---- answers ---- */

enum rc http_head_parse_response(struct http_head *head, struct str text, bool to_head)
{
    enum rc rc = head_parse(head, text, HTTP_RESPONSE);
    if (rc != RC_OK)
        return rc;
    if (head->status < 100)
        return refuse(head, 502, "a status below 100");
    if (to_head || head->status < 200 || head->status == 204 || head->status == 304) {
        head->framing = HTTP_BODY_NONE;
        return RC_OK;
    }
    struct str coding = http_header_get(&head->headers, STR("transfer-encoding"));
    if (coding.p && !str_eq_nocase(coding, STR("chunked")))
        return refuse(head, 502, "a transfer coding other than chunked");
    if (head->framing == HTTP_BODY_NONE) {
        head->framing = HTTP_BODY_CLOSE;
        head->keep_alive = false;
    }
    return RC_OK;
}

/* ---- chunks ---- */

void http_chunks_init(struct http_chunks *chunks)
{
    /* llhttp begins a body only after a head: give it the shortest. */
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    *chunks = (struct http_chunks){0};
    llhttp_init(&chunks->parser, HTTP_REQUEST, &chunk_settings);
    chunks->parser.data = chunks;
    ASSERT(llhttp_execute(&chunks->parser, head, sizeof(head) - 1) == HPE_OK);
}

enum rc http_chunks_decode(struct http_chunks *chunks, char *data, size_t n, size_t *used,
                           size_t *body_bytes)
{
    chunks->out = data;
    chunks->parser.data = chunks;
    chunks->overhead_bytes += n;
    llhttp_errno_t error = llhttp_execute(&chunks->parser, data, n);
    *body_bytes = (size_t)(chunks->out - data);
    *used = n;
    if (chunks->done)
        *used = (size_t)(llhttp_get_error_pos(&chunks->parser) - data);
    else if (error != HPE_OK)
        return RC_INVALID;
    return chunks->overhead_bytes > CHUNK_OVERHEAD_BYTES_MAX && *body_bytes == 0 ? RC_LIMIT : RC_OK;
}
