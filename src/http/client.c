/* Exchanges: one request and its answer, whatever carries them. The owner's callbacks are made here
 * and nowhere else; they come from the loop, never from inside http_exchange_*, and `done` is the
 * last. An owner may cancel from inside any callback, so every caller of exchange_tell_* checks
 * what it returns. */
#include "base/clock.h"
#include "http/client_private.h"
#include <stdlib.h>

/* ---- the request's head ---- */

/* What belongs to a connection, not to the request, is ours to say. */
static bool header_is_ours(struct str name)
{
    switch (name.n) {
    case 2: return str_eq_nocase(name, STR("te"));
    case 4: return str_eq_nocase(name, STR("host"));
    case 7: return str_eq_nocase(name, STR("upgrade"));
    case 10:
        return str_eq_nocase(name, STR("connection")) || str_eq_nocase(name, STR("keep-alive"));
    case 14: return str_eq_nocase(name, STR("content-length"));
    case 16: return str_eq_nocase(name, STR("proxy-connection"));
    case 17: return str_eq_nocase(name, STR("transfer-encoding"));
    case 19: return str_eq_nocase(name, STR("proxy-authorization"));
    default: return false;
    }
}

static char *put(char *at, struct str s)
{
    memcpy(at, s.p, s.n);
    return at + s.n;
}

static char *put_header(char *at, struct str name, struct str value)
{
    at = put(put(at, name), STR(": "));
    if (value.n > 0)
        at = put(at, value);
    return put(at, STR("\r\n"));
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

static bool target_valid(struct str path)
{
    for (size_t i = 0; i < path.n; i++)
        if ((unsigned char)path.p[i] <= 0x20 || path.p[i] == 0x7f)
            return false;
    return path.n > 0 && path.p[0] == '/';
}

static bool request_valid(const struct http_exchange_request *request)
{
    if (!http_is_token(request->method) || !target_valid(request->path))
        return false;
    for (size_t i = 0; i < request->header_count; i++)
        if (!http_is_token(request->headers[i].name) ||
            !http_is_field_value(request->headers[i].value))
            return false;
    return true;
}

/* Bytes that exchange_write_head needs at most. */
static size_t head_bytes_max(const struct http_origin *origin,
                             const struct http_exchange_request *request)
{
    size_t n = request->method.n + request->path.n + 2 * origin->authority.n + origin->proxy_head.n;
    for (size_t i = 0; i < request->header_count; i++)
        n += request->headers[i].name.n + request->headers[i].value.n + 4;
    return n + 128;
}

/* The head as HTTP/1.1 writes it. HTTP/2 takes it apart again: a second way to build it would cost
 * more to keep right than that costs to run. */
static void exchange_write_head(struct http_exchange *exchange,
                                const struct http_exchange_request *request)
{
    struct http_origin *origin = exchange->origin;
    size_t bytes_max = head_bytes_max(origin, request);
    exchange->head = xmalloc(bytes_max); /* short-lived: gone when the answer begins */

    char *at = put(put(exchange->head, request->method), STR(" "));
    if (origin->proxy.kind == PROXY_FORWARD)
        at = put(put(at, STR("http://")), origin->authority);
    at = put(put(at, request->path), STR(" HTTP/1.1\r\n"));
    at = put_header(at, STR("host"), origin->authority);
    bool encoding_given = false;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        if (header_is_ours(header->name))
            continue;
        encoding_given |=
            header->name.n == 15 && str_eq_nocase(header->name, STR("accept-encoding"));
        at = put_header(at, header->name, header->value);
    }
    size_t body_bytes = 0;
    for (size_t i = 0; i < request->body_parts; i++)
        body_bytes += request->body[i].n;
    if (body_bytes > 0 ||
        !(str_eq(request->method, STR("GET")) || str_eq(request->method, STR("HEAD"))))
        at = put(put_number(put(at, STR("content-length: ")), body_bytes), STR("\r\n"));
    if (!encoding_given)
        at = put(at, STR("accept-encoding: identity\r\n"));
    if (origin->proxy_head.n > 0)
        at = put(at, origin->proxy_head);
    at = put(at, STR("\r\n"));
    exchange->head_bytes = (size_t)(at - exchange->head);
    ASSERT(exchange->head_bytes <= bytes_max);
}

static void head_release(struct http_exchange *exchange)
{
    free(exchange->head);
    exchange->head = NULL;
}

/* ---- ends ---- */

static void exchange_free(struct http_exchange *exchange)
{
    struct http_client *client = exchange->origin->client;
    head_release(exchange);
    http_decoder_free(exchange->decoder);
    buf_fini(&exchange->held);
    free(exchange->failure);
    exchange->magic = 0;
    slab_give(&client->exchanges, exchange);
    client_release(client);
}

/* Off every list and out of every timer; nothing but `done` comes after this. */
static void exchange_detach(struct http_exchange *exchange)
{
    if (exchange->state == EXCHANGE_WAIT && !list_detached(&exchange->node))
        exchange->origin->waiting_count--;
    if (!list_detached(&exchange->node))
        list_remove(&exchange->node);
    timer_stop(&exchange->timer);
    exchange->state = EXCHANGE_DONE;
    exchange->link = NULL;
    exchange->session = NULL;
}

void exchange_wake(struct http_exchange *exchange)
{
    if (!exchange->deferred) {
        exchange->deferred = true;
        loop_defer(exchange->origin->client->loop, &exchange->task);
    }
}

static void exchange_tell_done(struct http_exchange *exchange)
{
    exchange->timing.done_ns = loop_now_ns(exchange->origin->client->loop);
    if (exchange->failure)
        exchange->origin->client->stats.failures++;
    if (exchange->calls) {
        exchange->in_call = true;
        exchange->calls->done(exchange->owner, exchange->failure, &exchange->timing);
    }
    exchange_free(exchange);
}

void exchange_finish(struct http_exchange *exchange, const struct err *err)
{
    CHECK_MAGIC(exchange, EXCHANGE_MAGIC);
    if (exchange->state == EXCHANGE_DONE)
        return;
    exchange_detach(exchange);
    if (err) {
        exchange->failure = xmalloc(sizeof(*err));
        *exchange->failure = *err;
    }
    if (exchange->in_call)
        exchange_wake(exchange);
    else if (!exchange->deferred)
        exchange_tell_done(exchange);
}

void exchange_connection_lost(struct http_exchange *exchange, const struct err *err)
{
    if (exchange->state == EXCHANGE_HEAD && exchange->retry_stale && !exchange->answered &&
        !exchange->fresh_only) {
        exchange->fresh_only = true;
        exchange->sent_bytes = 0;
        exchange->link = NULL;
        exchange->session = NULL;
        if (!list_detached(&exchange->node))
            list_remove(&exchange->node);
        exchange->state = EXCHANGE_WAIT;
        exchange->timing.connected_ns = exchange->timing.sent_ns = 0;
        origin_dispatch(exchange);
        return;
    }
    exchange_finish(exchange, err);
}

/* The exchange ends while a connection still carries it: that part of the connection goes with it.
 */
static void exchange_take_off(struct http_exchange *exchange)
{
    struct link *link = exchange->link;
    struct h2_session *session = exchange->session;
    if (session)
        h2_session_drop(session, exchange);
    exchange->session = NULL;
    exchange->link = NULL;
    if (link) {
        link->exchange = NULL;
        link_close(link);
    }
}

static void exchange_time_out(struct http_exchange *exchange, const char *what)
{
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "%.*s: %s", STR_ARG(exchange->origin->authority), what);
    exchange_take_off(exchange);
    exchange_finish(exchange, &err);
}

static void exchange_timer(struct timer *timer)
{
    struct http_exchange *exchange = CONTAINER_OF(timer, struct http_exchange, timer);
    CHECK_MAGIC(exchange, EXCHANGE_MAGIC);
    if (exchange->state == EXCHANGE_WAIT) {
        exchange_time_out(exchange, "no connection in time");
        return;
    }
    if (exchange->state == EXCHANGE_HEAD) {
        exchange_time_out(exchange, "no answer in time");
        return;
    }
    /* Reading only notes the time; the timer follows when it fires. */
    struct loop *loop = exchange->origin->client->loop;
    int64_t left_ns = exchange->active_ns + exchange->idle_timeout_ns - loop_now_ns(loop);
    if (exchange->stopped)
        left_ns = exchange->idle_timeout_ns;
    if (left_ns > 0)
        timer_start(loop, &exchange->timer, left_ns);
    else
        exchange_time_out(exchange, "the answer stopped before its end");
}

/* Tells what came while the owner had said STOP, as far as it takes it. False: it has ended
 * meanwhile, and may be freed. */
static bool exchange_drain(struct http_exchange *exchange)
{
    if (exchange->state != EXCHANGE_BODY || exchange->stopped)
        return true;
    if (exchange->decoder && http_decoder_pending(exchange->decoder) &&
        !exchange_tell_data(exchange, STR_EMPTY))
        return false;
    if (!exchange->stopped && buf_len(&exchange->held) > 0) {
        /* The owner may cancel: the memory has to outlive the call. */
        struct buf held = exchange->held;
        buf_init(&exchange->held, held.bytes_max);
        bool lives = exchange_tell_data(exchange, buf_str(&held));
        buf_fini(&held);
        if (!lives)
            return false;
    }
    if (exchange->remote_done && !exchange->stopped) {
        exchange_end_body(exchange);
        return false;
    }
    return true;
}

static void exchange_task(struct task *task)
{
    struct http_exchange *exchange = CONTAINER_OF(task, struct http_exchange, task);
    CHECK_MAGIC(exchange, EXCHANGE_MAGIC);
    exchange->deferred = false;
    if (exchange->state == EXCHANGE_DONE) {
        exchange_tell_done(exchange);
    } else if (exchange_drain(exchange)) {
        if (exchange->link)
            link_resume(exchange->link);
        else if (exchange->session)
            h2_session_resume(exchange->session, exchange);
    }
}

/* ---- what connections tell ---- */

void exchange_connected(struct http_exchange *exchange, bool reused)
{
    struct http_client *client = exchange->origin->client;
    ASSERT(exchange->state == EXCHANGE_WAIT);
    exchange->state = EXCHANGE_HEAD;
    exchange->timing.reused = reused;
    exchange->timing.connected_ns = loop_now_ns(client->loop);
    /* A peer that takes nothing must not hold the request for ever; what is sent starts it again.
     */
    if (exchange->head_timeout_ns > 0)
        timer_start(client->loop, &exchange->timer, exchange->head_timeout_ns);
    else
        timer_stop(&exchange->timer);
    if (reused)
        client->stats.reuses++;
    else
        exchange->retry_stale = false; /* a new connection is not stale */
}

void exchange_sent(struct http_exchange *exchange)
{
    struct loop *loop = exchange->origin->client->loop;
    exchange->timing.sent_ns = loop_now_ns(loop);
    if (!exchange->retry_stale && !exchange->session)
        head_release(exchange); /* HTTP/2 keeps it: an unprocessed stream can always be repeated */
    if (exchange->state == EXCHANGE_HEAD && exchange->head_timeout_ns > 0)
        timer_start(loop, &exchange->timer, exchange->head_timeout_ns);
}

bool http_exchange_is_sent(const struct http_exchange *exchange)
{
    return exchange_request_sent(exchange) && !exchange->retry_stale;
}

bool exchange_request_sent(const struct http_exchange *exchange)
{
    return exchange->timing.sent_ns != 0;
}

void exchange_answered(struct http_exchange *exchange)
{
    exchange->answered = true;
    exchange->retry_stale = false;
    exchange->active_ns = loop_now_ns(exchange->origin->client->loop);
    if (exchange_request_sent(exchange))
        head_release(exchange);
}

/* The answer cannot be used: ends the exchange, and its connection with it. */
static void exchange_refuse_content(struct http_exchange *exchange, const char *what)
{
    struct err err = {0};
    err_set(&err, ERR_UPSTREAM_PROTOCOL, "%.*s: %s", STR_ARG(exchange->origin->authority), what);
    err.rc = RC_INVALID;
    exchange_take_off(exchange);
    exchange_finish(exchange, &err);
}

bool exchange_tell_head(struct http_exchange *exchange, int status,
                        const struct http_headers *headers)
{
    struct loop *loop = exchange->origin->client->loop;
    ASSERT(exchange->state == EXCHANGE_HEAD);
    exchange->state = EXCHANGE_BODY;
    exchange->timing.head_ns = loop_now_ns(loop);
    if (exchange->idle_timeout_ns > 0)
        timer_start(loop, &exchange->timer, exchange->idle_timeout_ns);
    else
        timer_stop(&exchange->timer);
    struct str encoding = http_header_get(headers, STR("content-encoding"));
    if (encoding.n > 0 && !str_eq_nocase(encoding, STR("identity")) && !exchange->to_head) {
        exchange->decoder = http_decoder_new(encoding);
        if (!exchange->decoder) {
            exchange_refuse_content(exchange, "the content-encoding of the answer is not known");
            return false;
        }
    }
    exchange->in_call = true;
    exchange->calls->head(exchange->owner, status, headers);
    exchange->in_call = false;
    return exchange->state != EXCHANGE_DONE;
}

static bool decoded_tell(void *arg, struct str data)
{
    struct http_exchange *exchange = arg;
    if (exchange->state == EXCHANGE_DONE)
        return false;
    exchange->in_call = true;
    if (exchange->calls->data(exchange->owner, data) == STOP)
        exchange->stopped = true;
    exchange->in_call = false;
    return exchange->state != EXCHANGE_DONE && !exchange->stopped;
}

bool exchange_tell_data(struct http_exchange *exchange, struct str data)
{
    ASSERT(exchange->state == EXCHANGE_BODY);
    exchange->active_ns = loop_now_ns(exchange->origin->client->loop);
    if (exchange->timing.first_byte_ns == 0)
        exchange->timing.first_byte_ns = exchange->active_ns;
    if (LIKELY(!exchange->decoder)) {
        decoded_tell(exchange, data);
        return exchange->state != EXCHANGE_DONE;
    }
    if (http_decoder_feed(exchange->decoder, data, decoded_tell, exchange) == RC_OK)
        return exchange->state != EXCHANGE_DONE;
    if (exchange->state != EXCHANGE_DONE)
        exchange_refuse_content(exchange, "the compressed answer is damaged");
    return false;
}

void exchange_end_body(struct http_exchange *exchange)
{
    exchange->link = NULL;
    exchange->session = NULL;
    exchange->remote_done = true;
    if (buf_len(&exchange->held) > 0 ||
        (exchange->decoder && http_decoder_pending(exchange->decoder)))
        return; /* exchange_drain comes back */
    if (exchange->decoder && !http_decoder_complete(exchange->decoder))
        exchange_refuse_content(exchange, "the compressed answer ends too early");
    else
        exchange_finish(exchange, NULL);
}

/* ---- the public side ---- */

struct http_exchange *http_exchange_start(struct http_origin *origin,
                                          const struct http_exchange_request *request,
                                          const struct http_exchange_owner *calls, void *owner)
{
    CHECK_MAGIC(origin, ORIGIN_MAGIC);
    struct http_client *client = origin->client;
    ASSERT(request->body_parts <= COUNT_OF(request->body));
    struct http_exchange *exchange = slab_take(&client->exchanges);
    ASSERT(exchange != NULL); /* the slab has no bound; callers are bounded */
    exchange->magic = EXCHANGE_MAGIC;
    exchange->origin = origin;
    exchange->calls = calls;
    exchange->owner = owner;
    exchange->to_head = str_eq(request->method, STR("HEAD"));
    exchange->retry_stale = request->retry_stale;
    exchange->head_timeout_ns = request->head_timeout_ns;
    exchange->idle_timeout_ns = request->idle_timeout_ns;
    exchange->body_parts = (uint16_t)request->body_parts;
    memcpy(exchange->body, request->body, sizeof(exchange->body));
    exchange->timing.queued_ns = loop_now_ns(client->loop);
    exchange->task.run = exchange_task;
    timer_init(&exchange->timer, exchange_timer);
    list_init(&exchange->node);
    buf_init(&exchange->held, LIMIT_STALLED_BYTES);
    client->stats.exchanges++;
    if (!request_valid(request)) {
        struct err err = {0};
        err_set(&err, ERR_INVALID, "a header, the path or the method cannot be sent");
        exchange->in_call = true; /* `done` comes later */
        exchange_finish(exchange, &err);
        exchange->in_call = false;
        return exchange;
    }
    exchange_write_head(exchange, request);
    if (request->connect_timeout_ns > 0)
        timer_start(client->loop, &exchange->timer, request->connect_timeout_ns);
    exchange->in_call = true;
    origin_dispatch(exchange);
    exchange->in_call = false;
    return exchange;
}

void http_exchange_resume(struct http_exchange *exchange)
{
    CHECK_MAGIC(exchange, EXCHANGE_MAGIC);
    if (exchange->stopped && exchange->state == EXCHANGE_BODY) {
        exchange->stopped = false;
        exchange->active_ns = loop_now_ns(exchange->origin->client->loop);
        exchange_wake(exchange);
    }
}

void http_exchange_cancel(struct http_exchange *exchange)
{
    CHECK_MAGIC(exchange, EXCHANGE_MAGIC);
    exchange->calls = NULL; /* no callback comes any more */
    if (exchange->state != EXCHANGE_DONE) {
        exchange_take_off(exchange);
        exchange_detach(exchange);
    }
    exchange_wake(exchange); /* frees it */
}
