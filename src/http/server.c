/* Connections: from bytes to requests. One function, connection_pump, takes what has come apart as
 * far as the state allows; one, connection_move, changes the state. All of a connection's memory
 * but its own struct comes and goes with a request: bytes are read into the server's scratch
 * memory, and what must stay is copied once, exactly sized, into the request's arena. So an idle
 * connection holds nothing, and an open stream what its request needs. While a request is with its
 * handler nothing is read: that is the bound on pipelining, and the back-pressure. Answers are in
 * respond.c. Everything runs on the server's loop. */
#include "http/server_private.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

#define BODY_ARENA_BYTES_MAX (16 * 1024) /* larger bodies grow as they come */
#define LINGER_NS            (2 * NS_PER_S)
#define FIRST_REQUEST_NS     NS_PER_S /* for a new connection, once the server drains */
#define LINGER_BYTES_MAX     (1024 * 1024)

/* ---- states ---- */

#define TO(state) (1u << CONNECTION_##state)

static const uint16_t legal_moves[CONNECTION_STATE_COUNT] = {
    [CONNECTION_WAIT] = TO(HEAD) | TO(HANDLE) | TO(CLOSED),
    [CONNECTION_HEAD] = TO(HANDLE) | TO(CLOSED),
    [CONNECTION_BODY] = TO(HANDLE) | TO(CLOSED),
    [CONNECTION_HANDLE] = TO(BODY) | TO(STREAM) | TO(FLUSH) | TO(GONE) | TO(CLOSED),
    [CONNECTION_STREAM] = TO(FLUSH) | TO(GONE) | TO(CLOSED),
    [CONNECTION_FLUSH] = TO(WAIT) | TO(LINGER) | TO(CLOSED),
    [CONNECTION_LINGER] = TO(CLOSED),
    [CONNECTION_GONE] = TO(CLOSED),
};

static int64_t state_timeout_ns(const struct connection *connection, enum connection_state state)
{
    const struct http_server_options *options = &connection->server->options;
    switch (state) {
    case CONNECTION_WAIT: return options->idle_timeout_ns;
    case CONNECTION_HEAD: return options->head_timeout_ns;
    case CONNECTION_BODY: return options->body_timeout_ns;
    case CONNECTION_LINGER: return LINGER_NS;
    default: return 0; /* sending has its own, started where bytes are left over */
    }
}

void connection_move(struct connection *connection, enum connection_state to)
{
    struct http_server *server = connection->server;
    ASSERT(legal_moves[connection->state] & (1u << to));
    bool was_waiting = connection->state == CONNECTION_WAIT;
    connection->state = (uint8_t)to;
    if (was_waiting || to == CONNECTION_WAIT || to == CONNECTION_CLOSED) {
        list_remove(&connection->node);
        list_push_back(to == CONNECTION_WAIT     ? &server->waiting
                       : to == CONNECTION_CLOSED ? &server->closed
                                                 : &server->busy,
                       &connection->node);
    }
    int64_t timeout_ns = state_timeout_ns(connection, to);
    if (timeout_ns > 0)
        timer_start(server->loop, &connection->timer, timeout_ns);
    else
        timer_stop(&connection->timer);
}

void connection_defer(struct connection *connection)
{
    if (!connection->deferred) {
        connection->deferred = true;
        loop_defer(connection->server->loop, &connection->task);
    }
}

static void server_free_now(struct http_server *server)
{
    slab_fini(&server->connections);
    server->magic = 0;
    free(server);
}

static void connection_free(struct connection *connection)
{
    struct http_server *server = connection->server;
    list_remove(&connection->node);
    connection->magic = 0;
    slab_give(&server->connections, connection);
    server->stats.connections_now--;
    if (server->stats.connections_now > 0)
        return;
    if (server->freeing)
        server_free_now(server);
    else if (server->draining)
        loop_defer(server->loop, &server->drain_task);
}

/* Gives back all that belongs to the request. */
static void request_end(struct connection *connection)
{
    if (connection->request.ended) {
        void (*ended)(struct http_request *) = connection->request.ended;
        connection->request.ended = NULL;
        ended(&connection->request);
    }
    arena_reset(&connection->arena);
    buf_release(&connection->body);
    buf_release(&connection->out);
    connection->tail = connection->head_pending = STR_EMPTY;
    connection->headers = NULL;
    connection->headers_end = &connection->headers;
    connection->header_bytes = 0;
    connection->chunks = NULL;
    connection->stop_told = false;
}

void connection_close(struct connection *connection)
{
    if (connection->stream)
        stream_close(connection->stream);
    connection->stream = NULL;
    connection_move(connection, CONNECTION_CLOSED);
    request_end(connection);
    buf_release(&connection->in);
    if (!connection->in_pump && !connection->deferred)
        connection_free(connection);
}

/* The client left, or must be dropped, while the handler has the request. */
static void connection_lost(struct connection *connection)
{
    if (connection->state == CONNECTION_GONE)
        return;
    if (connection->state == CONNECTION_HANDLE || connection->state == CONNECTION_STREAM) {
        if (!connection->request.gone) {
            stream_close(connection->stream);
            connection->stream = NULL;
            connection_move(connection, CONNECTION_GONE);
            return;
        }
        connection->request.gone(&connection->request);
    }
    connection_close(connection);
}

void connection_finish(struct connection *connection)
{
    bool body_unread = connection->framing != HTTP_BODY_NONE;
    bool unread = body_unread || connection->readable || buf_len(&connection->in) > 0;
    if (connection->keep_alive && !body_unread && !connection->server->draining) {
        request_end(connection);
        connection_move(connection, CONNECTION_WAIT);
        if (unread && !connection->in_pump)
            connection_defer(connection);
    } else if (unread && !connection->peer_closed) {
        request_end(connection);
        stream_shutdown(connection->stream);
        connection->body_left = LINGER_BYTES_MAX;
        connection_move(connection, CONNECTION_LINGER);
        if (connection->readable && !connection->in_pump)
            connection_defer(connection);
    } else {
        connection_close(connection);
    }
}

/* ---- the head ---- */

/* Percent-decoding of the path, and what nginx refuses in one; dot segments are refused, not
 * resolved. */
static bool path_decode(struct http_request *request, struct str raw)
{
    request->path = raw;
    if (memchr(raw.p, '%', raw.n)) {
        request->path = http_percent_decode(raw, false, request->arena);
        if (!request->path.p)
            return false;
    }
    struct str path = request->path;
    if (path.n == 0 || path.p[0] != '/' || !http_is_field_value(path) ||
        memchr(path.p, '\t', path.n))
        return false;
    for (size_t i = 0; i + 1 < path.n; i++) {
        if (path.p[i] != '/' || path.p[i + 1] != '.')
            continue;
        size_t dots = i + 2 < path.n && path.p[i + 2] == '.' ? 2 : 1;
        if (i + 1 + dots == path.n || path.p[i + 1 + dots] == '/')
            return false;
    }
    return true;
}

static bool target_split(struct http_request *request)
{
    struct str target = request->target;
    if (target.p[0] != '/') { /* absolute form: the authority is not needed here */
        ssize_t authority = str_find(target, STR("://"));
        if (authority < 0)
            return false;
        size_t at = (size_t)authority + 3;
        while (at < target.n && target.p[at] != '/' && target.p[at] != '?')
            at++;
        target = str_slice(target, at, target.n);
        if (target.n == 0)
            target = STR("/");
    }
    ssize_t fragment = str_find_char(target, '#');
    if (fragment >= 0)
        target.n = (size_t)fragment;
    ssize_t mark = str_find_char(target, '?');
    request->query =
        mark < 0 ? str_make(target.p + target.n, 0) : str_slice(target, (size_t)mark + 1, target.n);
    return path_decode(request, mark < 0 ? target : str_make(target.p, (size_t)mark));
}

/* An id from outside goes into logs and headers: letters, digits and a few marks only. */
static bool request_id_harmless(struct str id)
{
    if (id.n == 0 || id.n > 128)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i], lower = c | 0x20;
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' &&
            c != '.' && c != ':')
            return false;
    }
    return true;
}

static bool request_id_set(struct http_request *request)
{
    request->id = http_header_get(&request->headers, STR("x-request-id"));
    if (request_id_harmless(request->id))
        return true;
    char *text = arena_alloc(request->arena, ID_TEXT_BYTES_MAX);
    if (text)
        request->id = str_make(text, id_format(id_new(), "req", text));
    return text != NULL;
}

static void request_begin(struct connection *connection)
{
    struct http_server *server = connection->server;
    connection->request = (struct http_request){
        .arena = &connection->arena,
        .loop = server->loop,
        .tls = server->options.tls,
        .started_ns = loop_now_ns(server->loop),
    };
    connection->framing = HTTP_BODY_NONE;
    connection->asked = true;
    connection->keep_alive = false;
    connection->http10 = connection->head_only = connection->chunked = connection->bodyless = false;
}

/* Fills the request from `text`, one whole head. False: refused, and answered. */
static bool request_read_head(struct connection *connection, struct str text)
{
    struct http_server *server = connection->server;
    struct http_request *request = &connection->request;
    struct http_head *head = &server->head;
    struct str copy = arena_copy(&connection->arena, text);
    if (!copy.p) {
        connection_refuse(connection, 503, "out of memory for this request");
        return false;
    }
    if (http_head_parse_request(head, copy) != RC_OK) {
        connection->head_only = str_eq(head->method, STR("HEAD"));
        connection_refuse(connection, head->refusal, head->reason);
        return false;
    }
    connection->http10 = head->minor == 0;
    connection->keep_alive = head->keep_alive;
    connection->head_only = str_eq(head->method, STR("HEAD"));
    connection->framing = (uint8_t)head->framing;
    connection->body_left = head->content_length;
    if (connection->framing == HTTP_BODY_LENGTH && connection->body_left == 0)
        connection->framing = HTTP_BODY_NONE;

    size_t items_bytes = head->headers.count * sizeof(head->items[0]);
    struct http_header *items = arena_alloc(&connection->arena, items_bytes);
    if (items)
        memcpy(items, head->items, items_bytes);
    request->peer = arena_copy(&connection->arena, stream_peer_text(connection->stream));
    request->method = head->method;
    request->target = head->target;
    request->headers =
        (struct http_headers){items, head->headers.count, head->headers.count, head->headers.names};
    if (!items || !request->peer.p || !request_id_set(request))
        connection_refuse(connection, 503, "out of memory for this request");
    else if (!target_split(request))
        connection_refuse(connection, 400, "the request target is not valid");
    else
        return true;
    return false;
}

static void body_prepare(struct connection *connection)
{
    if (connection->framing == HTTP_BODY_CHUNKED) {
        connection->chunks = arena_alloc(&connection->arena, sizeof(*connection->chunks));
        if (!connection->chunks) {
            connection_refuse(connection, 503, "out of memory for this request");
            return;
        }
        http_chunks_init(connection->chunks);
    }
    connection->body.bytes_max = (size_t)connection->body_max;
    connection_move(connection, CONNECTION_BODY);
}

/* 100 (Continue), unless the body is on its way already. RFC 9110, section 10.1.1. */
static bool expectation_meet(struct connection *connection, bool body_begun)
{
    struct str expect = http_header_get(&connection->request.headers, STR("expect"));
    if (!expect.p || connection->http10)
        return true;
    if (!str_eq_nocase(expect, STR("100-continue"))) {
        connection_refuse(connection, 417, "the only expectation met here is 100-continue");
        return false;
    }
    if (body_begun)
        return true;
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec part = {(void *)go_on, sizeof(go_on) - 1};
    size_t n;
    if (stream_write(connection->stream, &part, 1, &n) == RC_OK && n == sizeof(go_on) - 1)
        return true;
    connection_close(connection); /* nothing was sent before: the socket must take 25 bytes */
    return false;
}

static void request_handle(struct connection *connection)
{
    struct http_server *server = connection->server;
    connection->request.received_ns = loop_now_ns(server->loop);
    connection->framing = HTTP_BODY_NONE; /* all of it was read */
    if (connection->state == CONNECTION_BODY)
        connection_move(connection, CONNECTION_HANDLE);
    server->stats.requests++;
    server->options.handle(server->options.arg, &connection->request);
}

/* The head is complete: what comes next? `more`: bytes behind it are here. */
static void request_admit(struct connection *connection, bool more)
{
    struct http_server *server = connection->server;
    connection->body_max = LIMIT_BODY_BYTES;
    if (server->options.admit) {
        connection->body_max = server->options.admit(server->options.arg, &connection->request);
        if (connection->body_max < 0 || connection->state != CONNECTION_HANDLE)
            return;
    }
    if (connection->framing == HTTP_BODY_NONE)
        request_handle(connection);
    else if (connection->framing == HTTP_BODY_LENGTH &&
             connection->body_left > (uint64_t)connection->body_max)
        connection_refuse(connection, 413, "the request's body is larger than allowed");
    else if (expectation_meet(connection, more))
        body_prepare(connection);
}

/* Takes a head off the input: bytes used, 0: it is not complete. */
static size_t pump_head(struct connection *connection, struct str input)
{
    size_t n = http_head_find_end(input, &connection->scanned);
    if (connection->state == CONNECTION_WAIT) {
        request_begin(connection);
        connection_move(connection, n > 0 ? CONNECTION_HANDLE : CONNECTION_HEAD);
    } else if (n > 0) {
        connection_move(connection, CONNECTION_HANDLE);
    }
    if (n > LIMIT_HEADER_BYTES || (n == 0 && input.n > LIMIT_HEADER_BYTES)) {
        if (n == 0)
            connection_move(connection, CONNECTION_HANDLE);
        bool long_target = memchr(input.p, '\n', input.n) == NULL;
        connection_refuse(connection, long_target ? 414 : 431,
                          long_target ? "the request target is too long"
                                      : "the headers are too long");
        return n;
    }
    if (n == 0)
        return 0;
    connection->scanned = 0;
    if (request_read_head(connection, str_make(input.p, n)))
        request_admit(connection, input.n > n);
    return n;
}

/* ---- the body ---- */

static size_t pump_body_length(struct connection *connection, struct str input)
{
    struct http_request *request = &connection->request;
    size_t n = MIN(input.n, connection->body_left);
    bool first = buf_len(&connection->body) == 0 && !request->body.p;
    if (first && connection->body_left <= BODY_ARENA_BYTES_MAX) {
        request->body.p = arena_alloc(&connection->arena, connection->body_left + 1);
        if (!request->body.p) {
            connection_refuse(connection, 503, "out of memory for this request");
            return n;
        }
    }
    if (request->body.p) {
        memcpy((char *)request->body.p + request->body.n, input.p, n);
        request->body.n += n;
    } else if (buf_append(&connection->body, str_make(input.p, n)) != RC_OK) {
        connection_refuse(connection, 503, "out of memory for this request");
        return n;
    }
    connection->body_left -= n;
    if (connection->body_left == 0) {
        if (request->body.p)
            ((char *)request->body.p)[request->body.n] = 0;
        else
            request->body = buf_str(&connection->body);
        request_handle(connection);
    }
    return n;
}

static size_t pump_body_chunked(struct connection *connection, struct str input)
{
    size_t used, body_bytes;
    /* The input lies in the server's scratch memory or in `in`: both are ours to change. */
    enum rc rc =
        http_chunks_decode(connection->chunks, (char *)input.p, input.n, &used, &body_bytes);
    if (rc == RC_OK && body_bytes > 0)
        rc = buf_append(&connection->body, str_make(input.p, body_bytes));
    if (rc == RC_INVALID)
        connection_refuse(connection, 400, "the chunked body is not valid");
    else if (rc != RC_OK)
        connection_refuse(connection, 413, "the request's body is larger than allowed");
    else if (connection->chunks->done) {
        connection->request.body = buf_str(&connection->body);
        request_handle(connection);
    }
    return used;
}

/* ---- the pump ---- */

/* Takes apart what is there; 0: more is needed, or the state takes nothing now. */
static size_t pump_step(struct connection *connection, struct str input)
{
    if (input.n == 0)
        return 0;
    switch (connection->state) {
    case CONNECTION_WAIT:
    case CONNECTION_HEAD: return pump_head(connection, input);
    case CONNECTION_BODY:
        if (connection->server->options.body_timeout_ns > 0)
            timer_start(connection->server->loop, &connection->timer,
                        connection->server->options.body_timeout_ns);
        return connection->framing == HTTP_BODY_CHUNKED ? pump_body_chunked(connection, input)
                                                        : pump_body_length(connection, input);
    case CONNECTION_LINGER:
        connection->body_left -= MIN(connection->body_left, input.n);
        if (connection->body_left == 0)
            connection_close(connection);
        return input.n;
    default: return 0;
    }
}

static bool state_reads(const struct connection *connection)
{
    switch (connection->state) {
    case CONNECTION_WAIT:
    case CONNECTION_HEAD:
    case CONNECTION_BODY:
    case CONNECTION_LINGER: return true;
    default: return false;
    }
}

/* Reads once; `in` is where bytes go that continue others, the scratch memory else. */
static enum rc pump_read(struct connection *connection, struct str *input)
{
    struct http_server *server = connection->server;
    char *at = server->scratch;
    if (input->n > 0 && buf_reserve(&connection->in, SERVER_READ_BYTES / 4, &at) != RC_OK)
        return RC_LIMIT;
    size_t n_max = input->n > 0 ? SERVER_READ_BYTES / 4 : SERVER_READ_BYTES, n;
    enum rc rc = stream_read(connection->stream, at, n_max, &n);
    if (rc != RC_OK) {
        connection->readable = false;
        return rc;
    }
    server->stats.bytes_in += n;
    connection->readable = n == n_max || connection->peer_closed;
    if (input->n > 0) {
        buf_added(&connection->in, n);
        *input = buf_str(&connection->in);
    } else {
        *input = str_make(at, n);
    }
    return RC_OK;
}

/* The rest of the scratch memory is copied, the rest of `in` stays. */
static bool pump_keep(struct connection *connection, struct str rest, bool in_scratch)
{
    if (!in_scratch) {
        buf_consume(&connection->in, buf_len(&connection->in) - rest.n);
        if (rest.n == 0)
            buf_release(&connection->in);
        return true;
    }
    return rest.n == 0 || buf_append(&connection->in, rest) == RC_OK;
}

static void pump_end_of_input(struct connection *connection)
{
    connection->peer_closed = true;
    connection_close(connection);
}

static void connection_pump(struct connection *connection)
{
    struct str input = buf_str(&connection->in);
    bool in_scratch = false;
    connection->in_pump = true;
    while (state_reads(connection)) {
        size_t used = pump_step(connection, input);
        if (used > 0) {
            input = str_slice(input, used, input.n);
            continue;
        }
        if (!connection->readable || !state_reads(connection))
            break;
        if (!pump_keep(connection, input, in_scratch)) {
            connection_close(connection);
            break;
        }
        in_scratch = buf_len(&connection->in) == 0;
        input = buf_str(&connection->in);
        enum rc rc = pump_read(connection, &input);
        if (rc == RC_AGAIN)
            break;
        if (rc != RC_OK) {
            pump_end_of_input(connection);
            break;
        }
    }
    connection->in_pump = false;
    if (connection->state == CONNECTION_CLOSED) {
        if (!connection->deferred)
            connection_free(connection);
        return;
    }
    bool over = connection->server->draining && connection->asked;
    if (!pump_keep(connection, input, in_scratch) || (connection->state == CONNECTION_WAIT && over))
        connection_close(connection);
    else if (connection->peer_closed && !state_reads(connection) &&
             connection->state != CONNECTION_FLUSH)
        connection_lost(connection);
}

/* ---- what the loop tells ---- */

static void connection_ready(void *owner, struct stream *stream, unsigned events)
{
    struct connection *connection = owner;
    CHECK_MAGIC(connection, CONNECTION_MAGIC);
    if (events & STREAM_CLOSED)
        connection->peer_closed = true;
    if (events & (STREAM_READABLE | STREAM_CLOSED))
        connection->readable = true;
    if (events & STREAM_WRITABLE && (buf_len(&connection->out) > 0 || connection->tail.n > 0)) {
        connection->in_pump = true; /* keeps it in memory, and the next request for below */
        connection_flush(connection);
        connection->in_pump = false;
        if (connection->state == CONNECTION_CLOSED) {
            if (!connection->deferred)
                connection_free(connection);
            return;
        }
    }
    if (state_reads(connection))
        connection_pump(connection);
    else if (connection->peer_closed && connection->state != CONNECTION_FLUSH)
        connection_lost(connection);
}

static const struct stream_owner connection_calls = {.ready = connection_ready};

static void connection_task(struct task *task)
{
    struct connection *connection = CONTAINER_OF(task, struct connection, task);
    CHECK_MAGIC(connection, CONNECTION_MAGIC);
    connection->deferred = false;
    if (connection->state == CONNECTION_CLOSED) {
        connection_free(connection);
        return;
    }
    if (connection->broken) {
        connection_lost(connection);
        return;
    }
    if (connection->head_pending.n > 0)
        connection_flush(connection);
    else if (state_reads(connection))
        connection_pump(connection);
}

static void connection_timer(struct timer *timer)
{
    struct connection *connection = CONTAINER_OF(timer, struct connection, timer);
    CHECK_MAGIC(connection, CONNECTION_MAGIC);
    switch (connection->state) {
    case CONNECTION_HEAD:
        connection_move(connection, CONNECTION_HANDLE);
        connection_refuse(connection, 408, "the request's head did not arrive in time");
        return;
    case CONNECTION_BODY:
        connection_refuse(connection, 408, "the request's body did not arrive in time");
        return;
    case CONNECTION_HANDLE:
    case CONNECTION_STREAM: connection_lost(connection); return;
    default: connection_close(connection); return;
    }
}

/* ---- the server ---- */

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options)
{
    ASSERT(options->handle != NULL);
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->magic = SERVER_MAGIC;
    server->loop = loop;
    server->options = *options;
    if (server->options.connections_max == 0)
        server->options.connections_max = LIMIT_CONNECTIONS;
    if (server->options.request_arena_bytes_max == 0)
        server->options.request_arena_bytes_max = SERVER_ARENA_BYTES_MAX;
    if (server->options.stalled_bytes_max == 0)
        server->options.stalled_bytes_max = LIMIT_STALLED_BYTES;
    slab_init(&server->connections, sizeof(struct connection), server->options.connections_max);
    list_init(&server->waiting);
    list_init(&server->busy);
    list_init(&server->closed);
    server->date_second = -1;
    return server;
}

void http_server_accept(void *arg, struct stream *stream)
{
    struct http_server *server = arg;
    CHECK_MAGIC(server, SERVER_MAGIC);
    server->stats.connections_total++;
    struct connection *connection = slab_take(&server->connections);
    if (!connection && !list_empty(&server->waiting)) {
        /* The connection that has been idle longest makes room. */
        connection_close(LIST_FIRST(&server->waiting, struct connection, node));
        connection = slab_take(&server->connections);
    }
    if (!connection) {
        stream_close(stream);
        return;
    }
    server->stats.connections_now++;
    connection->magic = CONNECTION_MAGIC;
    connection->server = server;
    connection->stream = stream;
    connection->state = CONNECTION_WAIT;
    connection->task.run = connection_task;
    connection->headers_end = &connection->headers;
    timer_init(&connection->timer, connection_timer);
    arena_init_paged(&connection->arena, server->options.request_arena_bytes_max);
    buf_init(&connection->in, LIMIT_HEADER_BYTES + SERVER_READ_BYTES);
    buf_init(&connection->out, LIMIT_RESPONSE_BYTES);
    buf_init(&connection->body, LIMIT_BODY_BYTES);
    list_push_back(&server->waiting, &connection->node);
    int64_t timeout_ns = server->draining ? FIRST_REQUEST_NS : server->options.idle_timeout_ns;
    if (timeout_ns > 0)
        timer_start(server->loop, &connection->timer, timeout_ns);
    stream_set_owner(stream, &connection_calls, connection);
    if (server->options.tls) { /* the handshake may have brought the first bytes along */
        connection->readable = true;
        connection_defer(connection);
    }
}

static void drain_task_run(struct task *task)
{
    struct http_server *server = CONTAINER_OF(task, struct http_server, drain_task);
    void (*drained)(void *) = server->drained;
    server->drained = NULL;
    if (drained)
        drained(server->drained_arg);
}

void http_server_drain(struct http_server *server, void (*drained)(void *arg), void *arg)
{
    CHECK_MAGIC(server, SERVER_MAGIC);
    ASSERT(!server->draining);
    server->draining = true;
    server->drained = drained;
    server->drained_arg = arg;
    server->drain_task.run = drain_task_run;
    if (server->stats.connections_now == 0)
        loop_defer(server->loop, &server->drain_task);
    /* A request may lie in the socket, or be on its way on a connection that was accepted a moment
     * ago: those are answered. What is idle after a look is closed (connection_pump). */
    LIST_FOR_EACH_SAFE (connection, &server->waiting, struct connection, node) {
        connection->readable = true;
        connection_defer(connection);
        if (!connection->asked)
            timer_start(server->loop, &connection->timer, FIRST_REQUEST_NS);
    }
}

void http_server_free(struct http_server *server)
{
    CHECK_MAGIC(server, SERVER_MAGIC);
    server->freeing = true;
    server->stats.connections_now++; /* holds the server until the end of this function */
    LIST_FOR_EACH_SAFE (connection, &server->waiting, struct connection, node)
        connection_close(connection);
    LIST_FOR_EACH_SAFE (connection, &server->busy, struct connection, node) {
        if (connection->state == CONNECTION_HANDLE || connection->state == CONNECTION_STREAM)
            if (connection->request.gone)
                connection->request.gone(&connection->request);
        connection_close(connection);
    }
    /* What is closed but has a task queued goes when the task has run, and the server with the
     * last. */
    if (--server->stats.connections_now == 0)
        server_free_now(server);
}

void http_server_stats(const struct http_server *server, struct http_server_stats *out)
{
    *out = server->stats;
}
