/* HTTP/2 connections to origins, framed by nghttp2: many exchanges on one. nghttp2 does the
 * protocol; here are the exchanges' side, flow control and the connection's life.
 *
 * Back-pressure: a stream's window is 64 KB and is given back only for what the owner took. After
 * STOP at most that much is held; the connection's own, larger window is given back at once, so
 * that one stalled stream does not stop the others. What is to be sent is collected over a turn of
 * the loop and leaves in one write. */
#include "base/clock.h"
#include "http/client_private.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#define H2_MAGIC             0x68746832u
#define H2_CONNECTION_WINDOW (16 * 1024 * 1024)
#define H2_STREAMS_UNKNOWN                                                                         \
    100 /* allowed before the peer's SETTINGS say otherwise; RFC 9113 advises 100 */
#define H2_REFUSALS_MAX 5 /* of one exchange, before it fails */
#define H2_WRITE_BYTES  (32 * 1024)
#define H2_QUIET_NS     (30 * NS_PER_S) /* nothing received for so long: ping */
#define H2_PING_NS      (15 * NS_PER_S) /* and no answer to it: the peer is gone */

struct h2_session {
    uint32_t magic;
    bool going_away, readable, peer_closed;
    bool in_pump, deferred, closed;
    struct http_origin *origin;
    struct list node; /* of origin->sessions */
    struct stream *stream;
    nghttp2_session *frames;
    struct list exchanges;
    size_t streams_count; /* open in nghttp2's eyes: an ended exchange's may live a little longer */
    uint64_t started_count;
    int64_t idle_since_ns, received_ns, pinged_ns; /* pinged 0: no ping under way */
    struct buf out;                                /* framed, not taken by the socket */
    struct task task;
    /* The header block under way; blocks never interleave within a session. */
    struct arena arena;
    struct http_headers headers;
    int status;
};

struct h2_session *h2_session_of(struct list *node)
{
    return LIST_ENTRY(node, struct h2_session, node);
}

size_t h2_session_streams(const struct h2_session *session) { return session->streams_count; }

/* ---- ends ---- */

static void session_free(struct h2_session *session)
{
    struct http_client *client = session->origin->client;
    nghttp2_session_del(session->frames);
    buf_fini(&session->out);
    arena_fini(&session->arena);
    session->magic = 0;
    free(session);
    client->sessions_count--;
    client_release(client);
}

/* All exchanges end or are repeated elsewhere; freed at once, or by the pump or task that is under
 * way. */
static void session_fail(struct h2_session *session, enum err_code code, const char *what)
{
    if (session->closed)
        return;
    struct http_origin *origin = session->origin;
    struct err err = {0};
    err_set(&err, code, "%.*s: %s", STR_ARG(origin->authority), what);
    err.rc = code == ERR_UPSTREAM_PROTOCOL ? RC_INVALID
             : code == ERR_CANCELLED       ? RC_CANCELLED
                                           : RC_IO;
    session->closed = true;
    stream_close(session->stream);
    list_remove(&session->node);
    origin->links_count--;
    while (!list_empty(&session->exchanges)) {
        struct http_exchange *exchange =
            LIST_FIRST(&session->exchanges, struct http_exchange, node);
        list_remove(&exchange->node);
        exchange->session = NULL;
        exchange_connection_lost(exchange, &err);
    }
    if (!session->in_pump && !session->deferred)
        session_free(session);
    origin_serve(origin);
}

void h2_session_close(struct h2_session *session)
{
    CHECK_MAGIC(session, H2_MAGIC);
    session_fail(session, ERR_CANCELLED, "the client is being closed");
}

static void session_defer(struct h2_session *session)
{
    if (!session->deferred && !session->closed) {
        session->deferred = true;
        loop_defer(session->origin->client->loop, &session->task);
    }
}

static void session_idle(struct h2_session *session)
{
    session->idle_since_ns = loop_now_ns(session->origin->client->loop);
    if (session->going_away)
        session_fail(session, ERR_UPSTREAM, "the connection is being closed");
}

/* ---- nghttp2's callbacks. An exchange is a stream's user data until it ends. ---- */

static struct http_exchange *stream_exchange(struct h2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session->frames, stream_id);
}

static void stream_forget(struct h2_session *session, struct http_exchange *exchange)
{
    (void)nghttp2_session_set_stream_user_data(session->frames, exchange->stream_id, NULL);
    list_remove(&exchange->node);
    exchange->session = NULL;
}

static int on_begin_headers(nghttp2_session *frames, const nghttp2_frame *frame, void *arg)
{
    struct h2_session *session = arg;
    arena_reset(&session->arena);
    session->headers = (struct http_headers){0};
    session->status = 0;
    return 0;
}

static int on_header(nghttp2_session *frames, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
                     void *arg)
{
    struct h2_session *session = arg;
    struct str name_text = str_make(name, name_bytes), value_text = str_make(value, value_bytes);
    if (str_eq(name_text, STR(":status"))) {
        uint64_t status;
        if (str_to_u64(value_text, &status) != RC_OK || status > 999)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        session->status = (int)status;
        return 0;
    }
    name_text = arena_copy(&session->arena, name_text);
    value_text = arena_copy(&session->arena, value_text);
    if (!name_text.p || !value_text.p ||
        http_header_add(&session->headers, &session->arena, name_text, value_text) != RC_OK)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
    return 0;
}

static void stream_end(struct h2_session *session, struct http_exchange *exchange)
{
    if (!exchange_request_sent(exchange)) /* the answer did not wait for all of the request */
        (void)nghttp2_submit_rst_stream(session->frames, NGHTTP2_FLAG_NONE, exchange->stream_id,
                                        NGHTTP2_NO_ERROR);
    stream_forget(session, exchange);
    exchange_end_body(exchange);
}

static int on_frame(nghttp2_session *frames, const nghttp2_frame *frame, void *arg)
{
    struct h2_session *session = arg;
    if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
        session->origin->streams_max =
            nghttp2_session_get_remote_settings(frames, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (frame->hd.type == NGHTTP2_GOAWAY)
        session->going_away = true;
    if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK)
        session->pinged_ns = 0;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct http_exchange *exchange = stream_exchange(session, frame->hd.stream_id);
    if (!exchange)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && exchange->state == EXCHANGE_HEAD) {
        exchange_answered(exchange);
        if (session->status < 200)
            return 0;
        if (!exchange_tell_head(exchange, session->status, &session->headers))
            return 0;
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        stream_end(session, exchange);
    return 0;
}

static int on_data(nghttp2_session *frames, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t n, void *arg)
{
    struct h2_session *session = arg;
    struct http_exchange *exchange = stream_exchange(session, stream_id);
    (void)nghttp2_session_consume_connection(frames, n);
    if (!exchange || exchange->state != EXCHANGE_BODY)
        return 0;
    if (exchange->stopped) {
        if (buf_append(&exchange->held, str_make(data, n)) != RC_OK)
            return NGHTTP2_ERR_CALLBACK_FAILURE; /* the window forbids it */
        exchange->unconsumed += (uint32_t)n;
        return 0;
    }
    if (!exchange_tell_data(exchange, str_make(data, n)))
        return 0;
    if (exchange->stopped)
        exchange->unconsumed += (uint32_t)n;
    else
        (void)nghttp2_session_consume_stream(frames, stream_id, n);
    return 0;
}

static int on_sent(nghttp2_session *frames, const nghttp2_frame *frame, void *arg)
{
    struct h2_session *session = arg;
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct http_exchange *exchange = stream_exchange(session, frame->hd.stream_id);
    if (exchange)
        exchange_sent(exchange);
    return 0;
}

static int on_stream_close(nghttp2_session *frames, int32_t stream_id, uint32_t error, void *arg)
{
    struct h2_session *session = arg;
    struct http_exchange *exchange = stream_exchange(session, stream_id);
    session->streams_count--;
    if (!exchange)
        return 0;
    struct err err = {0};
    err_set(&err, ERR_UPSTREAM, "%.*s: the stream was reset (%s)",
            STR_ARG(session->origin->authority), nghttp2_http2_strerror(error));
    err.rc = RC_IO;
    stream_forget(session, exchange);
    if (error == NGHTTP2_REFUSED_STREAM && exchange->refusals++ < H2_REFUSALS_MAX) {
        exchange->retry_stale = true; /* not processed: safe to repeat, whoever asked for it */
        exchange->fresh_only = false;
    }
    exchange_connection_lost(exchange, &err);
    return 0;
}

/* Sends the request's body from where it lies; sent_bytes counts it. */
static ssize_t read_body(nghttp2_session *frames, int32_t stream_id, uint8_t *out, size_t n_max,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct http_exchange *exchange = stream_exchange(arg, stream_id);
    if (!exchange)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t skip = exchange->sent_bytes, n = 0;
    bool all = true;
    for (size_t i = 0; i < exchange->body_parts; i++) {
        struct str part = exchange->body[i];
        size_t skipped = MIN(skip, part.n);
        skip -= skipped;
        size_t take = MIN(part.n - skipped, n_max - n);
        if (take > 0)
            memcpy(out + n, part.p + skipped, take);
        n += take;
        all = all && skipped + take == part.n;
    }
    exchange->sent_bytes += n;
    if (all)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static nghttp2_session_callbacks *session_callbacks(void)
{
    nghttp2_session_callbacks *calls;
    ASSERT(nghttp2_session_callbacks_new(&calls) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
    return calls;
}

/* ---- starting an exchange ---- */

static nghttp2_nv header_pair(struct str name, struct str value)
{
    return (nghttp2_nv){(uint8_t *)name.p, (uint8_t *)value.p, name.n, value.n,
                        NGHTTP2_NV_FLAG_NONE};
}

/* "name: value" from the serialised head, the name made lower case where it stands. */
static bool head_line(struct str *rest, struct str *name, struct str *value)
{
    ssize_t end = str_find_char(*rest, '\r');
    if (end <= 0)
        return false;
    struct str line = str_make(rest->p, (size_t)end);
    *rest = str_slice(*rest, line.n + 2, rest->n);
    ssize_t colon = str_find_char(line, ':');
    ASSERT(colon > 0);
    *name = str_make(line.p, (size_t)colon);
    *value = str_slice(line, (size_t)colon + 2, line.n);
    for (char *p = (char *)name->p; p < name->p + name->n; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p |= 0x20;
    return true;
}

static int32_t request_submit(struct h2_session *session, struct http_exchange *exchange)
{
    nghttp2_nv pairs[LIMIT_HEADER_COUNT + 8];
    size_t count = 0;
    struct str rest = str_make(exchange->head, exchange->head_bytes);
    ssize_t method_end = str_find_char(rest, ' ');
    struct str after = str_slice(rest, (size_t)method_end + 1, rest.n);
    ssize_t path_end = str_find_char(after, ' ');
    pairs[count++] = header_pair(STR(":method"), str_make(rest.p, (size_t)method_end));
    pairs[count++] =
        header_pair(STR(":scheme"), session->origin->https ? STR("https") : STR("http"));
    pairs[count++] = header_pair(STR(":authority"), session->origin->authority);
    pairs[count++] = header_pair(STR(":path"), str_make(after.p, (size_t)path_end));
    rest = str_slice(rest, (size_t)str_find(rest, STR("\r\n")) + 2, rest.n);
    struct str name, value;
    while (count < COUNT_OF(pairs) && head_line(&rest, &name, &value))
        if (!str_eq(name, STR("host")))
            pairs[count++] = header_pair(name, value);
    size_t body_bytes = 0;
    for (size_t i = 0; i < exchange->body_parts; i++)
        body_bytes += exchange->body[i].n;
    nghttp2_data_provider body = {.read_callback = read_body};
    return nghttp2_submit_request(session->frames, NULL, pairs, count,
                                  body_bytes > 0 ? &body : NULL, exchange);
}

bool h2_session_has_room(const struct h2_session *session)
{
    /* What the origin said on the connection before holds until this one's SETTINGS come. */
    uint32_t allowed =
        session->origin->streams_max ? session->origin->streams_max : H2_STREAMS_UNKNOWN;
    return !session->closed && !session->going_away && session->streams_count < allowed &&
           nghttp2_session_check_request_allowed(session->frames);
}

void h2_session_start(struct h2_session *session, struct http_exchange *exchange)
{
    CHECK_MAGIC(session, H2_MAGIC);
    exchange->session = session;
    exchange->sent_bytes = 0;
    exchange_connected(exchange, session->started_count++ > 0);
    int32_t stream_id = request_submit(session, exchange);
    if (stream_id < 0) {
        struct err err = {0};
        err_set(&err, ERR_UPSTREAM, "%.*s: %s", STR_ARG(session->origin->authority),
                nghttp2_strerror(stream_id));
        session->going_away = true; /* out of stream numbers */
        exchange->session = NULL;
        exchange_finish(exchange, &err);
        return;
    }
    exchange->stream_id = stream_id;
    list_push_back(&session->exchanges, &exchange->node);
    session->streams_count++;
    session_defer(session); /* requests of one turn leave together */
}

void h2_session_resume(struct h2_session *session, struct http_exchange *exchange)
{
    if (exchange->unconsumed == 0 || exchange->stopped)
        return;
    (void)nghttp2_session_consume_stream(session->frames, exchange->stream_id,
                                         exchange->unconsumed);
    exchange->unconsumed = 0;
    session_defer(session);
}

void h2_session_drop(struct h2_session *session, struct http_exchange *exchange)
{
    stream_forget(session, exchange);
    (void)nghttp2_submit_rst_stream(session->frames, NGHTTP2_FLAG_NONE, exchange->stream_id,
                                    NGHTTP2_CANCEL);
    session_defer(session);
}

/* ---- the socket ---- */

/* What nghttp2 wants to say, up to a buffer's size; false: it failed. */
static bool frames_collect(struct h2_session *session)
{
    while (buf_len(&session->out) < H2_WRITE_BYTES) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(session->frames, &p);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        if (buf_append(&session->out, str_make(p, (size_t)n)) != RC_OK)
            return false;
    }
    return true;
}

static void session_flush(struct h2_session *session)
{
    while (!session->closed) {
        if (!frames_collect(session)) {
            session_fail(session, ERR_UPSTREAM, "the HTTP/2 connection failed");
            return;
        }
        struct str out = buf_str(&session->out);
        if (out.n == 0)
            break;
        struct iovec part = {(void *)out.p, out.n};
        size_t n;
        enum rc rc = stream_write(session->stream, &part, 1, &n);
        if (rc == RC_AGAIN)
            return;
        if (rc != RC_OK) {
            session->readable = session->peer_closed = true; /* reading tells why */
            session_defer(session);
            return;
        }
        buf_consume(&session->out, n);
        if (n < out.n)
            return;
    }
    if (session->closed)
        return;
    buf_release(&session->out);
    if (!nghttp2_session_want_read(session->frames) && !nghttp2_session_want_write(session->frames))
        session_fail(session, ERR_UPSTREAM, "the HTTP/2 connection was ended");
}

static void session_read(struct h2_session *session)
{
    struct http_client *client = session->origin->client;
    while (session->readable && !session->closed) {
        size_t n;
        enum rc rc = stream_read(session->stream, client->scratch, CLIENT_READ_BYTES, &n);
        if (rc == RC_AGAIN) {
            session->readable = false;
            return;
        }
        if (rc != RC_OK) {
            session_fail(session, ERR_UPSTREAM,
                         "the connection was closed before the end of the answer");
            return;
        }
        session->readable = n == CLIENT_READ_BYTES || session->peer_closed;
        session->received_ns = loop_now_ns(client->loop);
        ssize_t used =
            nghttp2_session_mem_recv(session->frames, (const uint8_t *)client->scratch, n);
        if (used < 0) {
            session_flush(session); /* its GOAWAY says why */
            session_fail(session, ERR_UPSTREAM_PROTOCOL, nghttp2_strerror((int)used));
            return;
        }
    }
}

static void session_pump(struct h2_session *session)
{
    struct http_origin *origin = session->origin;
    session->in_pump = true;
    session_read(session);
    if (!session->closed)
        session_flush(session);
    if (!session->closed && session->streams_count == 0)
        session_idle(session);
    session->in_pump = false;
    if (session->closed) {
        if (!session->deferred)
            session_free(session);
    } else if (!list_empty(&origin->waiting)) {
        origin_serve(origin);
    }
}

static void session_task(struct task *task)
{
    struct h2_session *session = CONTAINER_OF(task, struct h2_session, task);
    CHECK_MAGIC(session, H2_MAGIC);
    session->deferred = false;
    if (session->closed)
        session_free(session);
    else
        session_pump(session);
}

static void session_ready(void *owner, struct stream *stream, unsigned events)
{
    struct h2_session *session = owner;
    CHECK_MAGIC(session, H2_MAGIC);
    if (events & STREAM_CLOSED)
        session->peer_closed = true;
    if (events & (STREAM_READABLE | STREAM_CLOSED))
        session->readable = true;
    session_pump(session);
}

static const struct stream_owner session_calls = {.ready = session_ready};

struct h2_session *h2_session_new(struct http_origin *origin, struct stream *stream)
{
    struct h2_session *session = xcalloc(1, sizeof(*session));
    session->magic = H2_MAGIC;
    session->origin = origin;
    session->stream = stream;
    session->task.run = session_task;
    session->readable = true; /* the handshake may have brought the first bytes along */
    session->received_ns = session->idle_since_ns = loop_now_ns(origin->client->loop);
    buf_init(&session->out, 2 * H2_WRITE_BYTES + LIMIT_HEADER_BYTES);
    arena_init(&session->arena, 2 * LIMIT_HEADER_BYTES);
    list_init(&session->exchanges);

    nghttp2_option *options;
    nghttp2_session_callbacks *calls = session_callbacks();
    ASSERT(nghttp2_option_new(&options) == 0);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_peer_max_concurrent_streams(options, H2_STREAMS_UNKNOWN);
    ASSERT(nghttp2_session_client_new2(&session->frames, calls, session, options) == 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(calls);

    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, LIMIT_STALLED_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, LIMIT_HEADER_BYTES},
    };
    ASSERT(nghttp2_submit_settings(session->frames, NGHTTP2_FLAG_NONE, settings,
                                   COUNT_OF(settings)) == 0);
    ASSERT(nghttp2_session_set_local_window_size(session->frames, NGHTTP2_FLAG_NONE, 0,
                                                 H2_CONNECTION_WINDOW) == 0);
    list_push_back(&origin->sessions, &session->node);
    origin->links_count++;
    origin->client->sessions_count++;
    stream_set_owner(stream, &session_calls, session);
    session_defer(session);
    return session;
}

void h2_session_sweep(struct h2_session *session, int64_t now_ns)
{
    if (session->streams_count == 0 && now_ns - session->idle_since_ns >= CLIENT_IDLE_NS) {
        (void)nghttp2_session_terminate_session(session->frames, NGHTTP2_NO_ERROR);
        session->going_away = true;
        session_defer(session);
    } else if (session->pinged_ns && now_ns - session->pinged_ns >= H2_PING_NS) {
        session_fail(session, ERR_UPSTREAM, "the HTTP/2 connection does not answer");
    } else if (session->streams_count > 0 && !session->pinged_ns &&
               now_ns - session->received_ns >= H2_QUIET_NS) {
        (void)nghttp2_submit_ping(session->frames, NGHTTP2_FLAG_NONE, NULL);
        session->pinged_ns = now_ns;
        session_defer(session);
    }
}
