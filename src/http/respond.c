/* Answers: whole ones leave in one system call, head and body together, and copy nothing; streamed
 * ones send their head with the first part of the body. What the socket does not take is kept in
 * the connection's `out` (bounded), except the body of a whole answer, which is sent from where it
 * lies. */
#include "base/clock.h"
#include "http/server_private.h"
#include <stdio.h>
#include <time.h>

#define ANSWER_LINES_BYTES       384 /* status line and the lines that are always there, at most */
#define ANSWER_HEADERS_BYTES_MAX (64 * 1024)
#define CHUNK_LINE_BYTES         20

/* ---- sending ---- */

/* Cannot be told from inside a handler's call: the task at the end of the turn does it. */
static void connection_break(struct connection *connection)
{
    connection->broken = true;
    connection_defer(connection);
}

static void send_timer_start(struct connection *connection)
{
    int64_t timeout_ns = connection->server->options.send_timeout_ns;
    if (timeout_ns > 0)
        timer_start(connection->server->loop, &connection->timer, timeout_ns);
}

/* Sends the parts, or keeps what does not go. With `last_stays` the last part's memory outlives the
 * request's answer and is not copied. */
static void connection_send(struct connection *connection, struct iovec *parts, int count,
                            bool last_stays)
{
    if (connection->broken)
        return;
    size_t sent = 0;
    if (buf_len(&connection->out) == 0) {
        enum rc rc = stream_write(connection->stream, parts, count, &sent);
        if (rc == RC_AGAIN) {
            sent = 0;
        } else if (rc != RC_OK) {
            connection_break(connection);
            return;
        }
        connection->server->stats.bytes_out += sent;
    }
    bool left_over = false;
    for (int i = 0; i < count; i++) {
        size_t skip = MIN(sent, parts[i].iov_len);
        sent -= skip;
        struct str rest = str_make((char *)parts[i].iov_base + skip, parts[i].iov_len - skip);
        if (rest.n == 0)
            continue;
        left_over = true;
        if (last_stays && i == count - 1) {
            connection->tail = rest;
        } else if (buf_append(&connection->out, rest) != RC_OK) {
            connection_break(connection);
            return;
        }
    }
    if (left_over && !timer_armed(&connection->timer))
        send_timer_start(connection);
}

/* Writes `out` and `tail` as far as the socket takes them; false: something is left, or it broke.
 */
static bool unsent_write(struct connection *connection)
{
    while (buf_len(&connection->out) > 0 || connection->tail.n > 0) {
        struct str out = buf_str(&connection->out);
        struct iovec parts[2];
        int count = 0;
        if (out.n > 0)
            parts[count++] = (struct iovec){(void *)out.p, out.n};
        if (connection->tail.n > 0)
            parts[count++] = (struct iovec){(void *)connection->tail.p, connection->tail.n};
        size_t n;
        enum rc rc = stream_write(connection->stream, parts, count, &n);
        if (rc == RC_AGAIN)
            return false;
        if (rc != RC_OK) {
            connection_break(connection);
            return false;
        }
        connection->server->stats.bytes_out += n;
        bool short_write = n < out.n + connection->tail.n;
        size_t from_out = MIN(n, out.n);
        buf_consume(&connection->out, from_out);
        connection->tail = str_slice(connection->tail, n - from_out, connection->tail.n);
        send_timer_start(connection);
        if (short_write)
            return false;
    }
    buf_release(&connection->out);
    timer_stop(&connection->timer);
    return true;
}

/* A streamed answer's head that still waits for its body goes alone. */
static void head_send(struct connection *connection)
{
    struct str head = connection->head_pending;
    connection->head_pending = STR_EMPTY;
    struct iovec part = {(void *)head.p, head.n};
    connection_send(connection, &part, 1, false);
}

void connection_flush(struct connection *connection)
{
    if (connection->head_pending.n > 0) {
        head_send(connection);
        return;
    }
    if (connection->broken || !unsent_write(connection))
        return;
    if (connection->state == CONNECTION_FLUSH) {
        connection_finish(connection);
    } else if (connection->stop_told) {
        connection->stop_told = false;
        if (connection->request.writable)
            connection->request.writable(&connection->request);
    }
}

/* The handler has given all: wait for what is not sent, or finish at once. */
static void answer_complete(struct connection *connection)
{
    bool armed = timer_armed(&connection->timer);
    connection_move(connection, CONNECTION_FLUSH);
    if (connection->broken)
        return; /* the task drops the connection */
    if (buf_len(&connection->out) == 0 && connection->tail.n == 0)
        connection_finish(connection);
    else if (armed)
        send_timer_start(connection);
}

/* ---- heads ---- */

static const char *server_date(struct http_server *server)
{
    int64_t second = loop_wall_ns(server->loop) / NS_PER_S;
    if (second != server->date_second) {
        static const char days[] = "SunMonTueWedThuFriSat";
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        struct tm tm;
        time_t time = (time_t)second;
        gmtime_r(&time, &tm);
        snprintf(server->date, sizeof(server->date), "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
                 days + 3 * tm.tm_wday, (unsigned)tm.tm_mday % 100u, months + 3 * tm.tm_mon,
                 (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)tm.tm_hour % 100u,
                 (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u);
        server->date_second = second;
    }
    return server->date;
}

static char *put(char *at, struct str s)
{
    memcpy(at, s.p, s.n);
    return at + s.n;
}

static char *put_number(char *at, uint64_t value)
{
    char digits[20];
    int n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (n > 0)
        *at++ = digits[--n];
    return at;
}

/* Every status text is a literal of message.c and far shorter than ANSWER_LINES_BYTES leaves room
 * for. */
static char *put_status_line(char *at, int status)
{
    if (LIKELY(status == 200))
        return put(at, STR("HTTP/1.1 200 OK\r\ndate: "));
    at = put(at, STR("HTTP/1.1 "));
    at = put_number(at, (uint64_t)status);
    *at++ = ' ';
    at = put(at, str_from(http_status_text(status)));
    return put(at, STR("\r\ndate: "));
}

/* The whole head. `length` < 0: streamed. The memory is the server's or, for long heads, the
 * arena's; .p NULL: out of memory. */
static struct str answer_head(struct connection *connection, int status, struct str content_type,
                              int64_t length)
{
    struct http_server *server = connection->server;
    size_t bytes_max =
        ANSWER_LINES_BYTES + connection->request.id.n + content_type.n + connection->header_bytes;
    char *start = server->answer_head;
    if (bytes_max > sizeof(server->answer_head)) {
        start = arena_alloc(&connection->arena, bytes_max);
        if (!start)
            return STR_EMPTY;
    }
    char *at = put_status_line(start, status);
    at = put(at, str_make(server_date(server), 29));
    if (content_type.n > 0 && http_is_field_value(content_type))
        at = put(put(at, STR("\r\ncontent-type: ")), content_type);
    bool no_length = status == 204 || status == 304;
    if (length >= 0 && !no_length)
        at = put_number(put(at, STR("\r\ncontent-length: ")), (uint64_t)length);
    else if (connection->chunked)
        at = put(at, STR("\r\ntransfer-encoding: chunked"));
    if (connection->request.id.n > 0)
        at = put(put(at, STR("\r\nx-request-id: ")), connection->request.id);
    if (!connection->keep_alive)
        at = put(at, STR("\r\nconnection: close"));
    else if (connection->http10)
        at = put(at, STR("\r\nconnection: keep-alive"));
    at = put(at, STR("\r\n"));
    for (struct answer_header *header = connection->headers; header; header = header->next)
        at = put(at, header->line);
    at = put(at, STR("\r\n"));
    ASSERT((size_t)(at - start) <= bytes_max);
    return str_make(start, (size_t)(at - start));
}

void http_respond_header(struct http_request *request, struct str name, struct str value)
{
    struct connection *connection = connection_of(request);
    /* A value that could start another line never gets that far. */
    if (connection->state != CONNECTION_HANDLE || !http_is_token(name) ||
        !http_is_field_value(value))
        return;
    size_t n = name.n + value.n + 4;
    if (connection->header_bytes + n > ANSWER_HEADERS_BYTES_MAX)
        return;
    struct answer_header *header = arena_alloc(&connection->arena, sizeof(*header) + n);
    if (!header)
        return;
    char *at = (char *)(header + 1);
    header->line = str_make(at, n);
    at = put(put(put(at, name), STR(": ")), value);
    put(at, STR("\r\n"));
    header->next = NULL;
    *connection->headers_end = header;
    connection->headers_end = &header->next;
    connection->header_bytes += n;
}

void http_respond_lines(struct http_request *request, struct str lines)
{
    struct connection *connection = connection_of(request);
    if (connection->state != CONNECTION_HANDLE || lines.n == 0 ||
        connection->header_bytes + lines.n > ANSWER_HEADERS_BYTES_MAX)
        return;
    ASSERT(str_ends(lines, STR("\r\n")));
    struct answer_header *header = arena_alloc(&connection->arena, sizeof(*header) + lines.n);
    if (!header)
        return;
    put((char *)(header + 1), lines);
    *header = (struct answer_header){.line = str_make(header + 1, lines.n)};
    *connection->headers_end = header;
    connection->headers_end = &header->next;
    connection->header_bytes += lines.n;
}

/* ---- whole answers ---- */

/* Common to both kinds: what this connection is to do after the answer. */
static void answer_begin(struct connection *connection, int status)
{
    if (connection->framing != HTTP_BODY_NONE || connection->server->draining)
        connection->keep_alive = false; /* the rest of the request's body will not be read */
    connection->bodyless = connection->head_only || status == 204 || status == 304;
}

void http_respond(struct http_request *request, int status, struct str content_type,
                  struct str body)
{
    struct connection *connection = connection_of(request);
    if (connection->state == CONNECTION_GONE) {
        connection_close(connection);
        return;
    }
    ASSERT(connection->state == CONNECTION_HANDLE);
    ASSERT(status >= 200 && status <= 999);
    answer_begin(connection, status);
    struct str head = answer_head(connection, status, content_type, (int64_t)body.n);
    if (!head.p) {
        connection_break(connection);
        return;
    }
    struct iovec parts[2] = {{(void *)head.p, head.n}, {(void *)body.p, body.n}};
    bool with_body = body.n > 0 && !connection->bodyless;
    connection_send(connection, parts, with_body ? 2 : 1, with_body);
    answer_complete(connection);
}

void connection_refuse(struct connection *connection, int status, const char *reason)
{
    if (connection->state == CONNECTION_BODY)
        connection_move(connection, CONNECTION_HANDLE);
    connection->framing = HTTP_BODY_CLOSE; /* what still comes is not read as a request */
    const char *code = status == 413   ? err_code_name(ERR_TOO_LARGE)
                       : status == 501 ? err_code_name(ERR_NOT_IMPLEMENTED)
                       : status == 503 ? err_code_name(ERR_OVERLOADED)
                                       : err_code_name(ERR_INVALID);
    struct str body = arena_printf(
        &connection->arena,
        "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",\"code\":\"%s\"}}\n",
        reason, code);
    if (!body.p)
        body = STR("{\"error\":{\"message\":\"overloaded\"}}\n");
    http_respond(&connection->request, status, STR("application/json"), body);
}

/* ---- streamed answers ---- */

void http_respond_begin(struct http_request *request, int status, struct str content_type)
{
    struct connection *connection = connection_of(request);
    if (connection->state == CONNECTION_GONE)
        return;
    ASSERT(connection->state == CONNECTION_HANDLE);
    ASSERT(status >= 200 && status <= 999);
    answer_begin(connection, status);
    if (connection->http10 && !connection->bodyless)
        connection->keep_alive = false; /* the end of the connection is the end of the body */
    connection->chunked = !connection->http10 && status != 204 && status != 304;
    struct str head = answer_head(connection, status, content_type, -1);
    connection_move(connection, CONNECTION_STREAM);
    if (head.p == connection->server->answer_head)
        head = arena_copy(&connection->arena, head);
    if (!head.p) {
        connection_break(connection);
        return;
    }
    connection->head_pending = head;
    connection_defer(connection);
}

/* "1a2b\r\n" */
static size_t chunk_line(char *out, size_t n)
{
    char digits[16];
    int count = 0;
    for (; n > 0; n >>= 4)
        digits[count++] = "0123456789abcdef"[n & 15];
    char *at = out;
    while (count > 0)
        *at++ = digits[--count];
    *at++ = '\r';
    *at++ = '\n';
    return (size_t)(at - out);
}

enum proceed http_respond_write(struct http_request *request, struct str data)
{
    struct connection *connection = connection_of(request);
    if (connection->state == CONNECTION_GONE || connection->broken)
        return PROCEED; /* the end comes by `gone`, or by the handler's own end */
    ASSERT(connection->state == CONNECTION_STREAM);
    size_t held = buf_len(&connection->out);
    if (held > 0 && held + data.n > connection->server->options.stalled_bytes_max) {
        connection_break(connection);
        return PROCEED;
    }
    char line[CHUNK_LINE_BYTES];
    struct iovec parts[4];
    int count = 0;
    if (connection->head_pending.n > 0)
        parts[count++] =
            (struct iovec){(void *)connection->head_pending.p, connection->head_pending.n};
    connection->head_pending = STR_EMPTY;
    if (data.n > 0 && !connection->bodyless) {
        if (connection->chunked)
            parts[count++] = (struct iovec){line, chunk_line(line, data.n)};
        parts[count++] = (struct iovec){(void *)data.p, data.n};
        if (connection->chunked)
            parts[count++] = (struct iovec){(void *)"\r\n", 2};
    }
    if (count > 0)
        connection_send(connection, parts, count, false);
    connection->stop_told = buf_len(&connection->out) > 0;
    return connection->stop_told ? STOP : PROCEED;
}

void http_respond_end(struct http_request *request)
{
    struct connection *connection = connection_of(request);
    if (connection->state == CONNECTION_GONE) {
        connection_close(connection);
        return;
    }
    ASSERT(connection->state == CONNECTION_STREAM);
    struct iovec parts[2];
    int count = 0;
    if (connection->head_pending.n > 0)
        parts[count++] =
            (struct iovec){(void *)connection->head_pending.p, connection->head_pending.n};
    connection->head_pending = STR_EMPTY;
    if (connection->chunked && !connection->bodyless)
        parts[count++] = (struct iovec){(void *)"0\r\n\r\n", 5};
    connection->stop_told = false;
    if (count > 0)
        connection_send(connection, parts, count, false);
    answer_complete(connection);
}

void http_respond_abort(struct http_request *request)
{
    struct connection *connection = connection_of(request);
    ASSERT(connection->state == CONNECTION_STREAM || connection->state == CONNECTION_HANDLE ||
           connection->state == CONNECTION_GONE);
    connection_close(connection);
}
