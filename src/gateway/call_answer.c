/* An answer on its way: from the exchange with the target, through wire_answer, to the sink.
 *
 * Streams flow piece by piece: what one read of the upstream becomes is gathered and given to the
 * sink at once. Whole answers are collected and sent in one piece at the end, with their cost in
 * the head; those that grow past WHOLE_ANSWER_BYTES_MAX flow from there on. Until something was
 * sent, a failure is only a failed attempt. */
#include "gateway/call_private.h"
#include "gateway/provider_table.h"
#include <stdlib.h>
#include <time.h>

#define REPLAY_PIECE_BYTES (32 * 1024)
/* After the terminal event: how long the upstream may take to end its body, so that its connection
 * can be kept. The client has everything by then. */
#define DRAIN_NS NS_PER_S

/* ---- to the sink ---- */

static void send_head(struct call *call, int status, int64_t body_bytes)
{
    ASSERT(!call->head_sent);
    call->head_sent = true;
    call->record->http_status = status;
    struct call_head head = {
        .status = status,
        .content_type = call->content_type,
        .body_bytes = body_bytes,
        .record = call->record,
    };
    call->sink.head(call->sink_arg, &head);
}

static void send_data(struct call *call, struct str bytes)
{
    call->answer_bytes += bytes.n;
    if (call->sink.data(call->sink_arg, bytes) == STOP)
        call->stopped = true;
}

/* Keeps what record and cache want of a stream. */
static void keep(struct call *call, struct str bytes)
{
    bool wanted = call->caching || call->captures;
    if (!wanted || call->kept_cut)
        return;
    bool packs = call->wire.stream && !call->caching;
    size_t room = LIMIT_CAPTURE_BYTES - (packs ? call->events.bytes : buf_len(&call->kept));
    if (bytes.n > room) {
        call->kept_cut = true;
        call->caching = false;
        bytes.n = room;
    }
    enum rc rc = packs ? stream_pack_add(&call->events, bytes) : buf_append(&call->kept, bytes);
    if (rc != RC_OK)
        call->kept_cut = true;
}

static void flow(struct call *call, struct str bytes)
{
    if (bytes.n == 0)
        return;
    keep(call, bytes);
    if (!call->head_sent) {
        call_move(call, CALL_RELAYING);
        send_head(call, 200, -1);
        if (call->wire.stream)
            park_later(call);
    }
    bool hold = call->attempt.complete && gateway_options.durability_sync;
    if (hold && buf_append(&call->last, bytes) == RC_OK)
        return;
    send_data(call, bytes);
}

/* Appends to the collected answer; false when it does not fit any more: it flows then. */
static bool collect(struct call *call, struct str bytes)
{
    size_t need = call->whole.n + bytes.n;
    if (need > WHOLE_ANSWER_BYTES_MAX)
        return false;
    if (need > call->whole_capacity) {
        size_t capacity = MAX(need, call->whole_capacity * 2);
        char *p = arena_alloc(call->scope->arena, capacity);
        if (!p)
            return false;
        if (call->whole.n)
            memcpy(p, call->whole.p, call->whole.n);
        call->whole.p = p;
        call->whole_capacity = capacity;
    }
    if (bytes.n)
        memcpy((char *)call->whole.p + call->whole.n, bytes.p, bytes.n);
    call->whole.n = need;
    return true;
}

void answer_send_whole(struct call *call)
{
    send_head(call, call->passed_status ? call->passed_status : 200, (int64_t)call->whole.n);
    if (call->whole.n)
        send_data(call, call->whole);
}

void answer_send_last(struct call *call)
{
    bool complete = !call->err || call->passed_status;
    if (complete && !call->head_sent)
        answer_send_whole(call);
    else if (buf_len(&call->last))
        send_data(call, buf_str(&call->last));
}

/* ---- from the target ---- */

void answer_write(void *arg, struct str bytes)
{
    struct call *call = arg;
    if (buf_append(&call->gateway->gathered, bytes) != RC_OK)
        call->attempt.overflow = true;
}

void answer_write_whole(void *arg, struct str bytes)
{
    struct call *call = arg;
    if (call->head_sent || call->flows || call->whole.n || bytes.n > WHOLE_ANSWER_BYTES_MAX)
        answer_write(call, bytes);
    else {
        call->whole = bytes;
        call->whole_capacity = 0; /* nothing is to be appended there */
    }
}

/* What the last piece of the upstream became goes on its way. */
static void pass_on(struct call *call)
{
    struct buf *gathered = &call->gateway->gathered;
    struct str bytes = buf_str(gathered);
    struct attempt *attempt = &call->attempt;
    if ((bytes.n || call->whole.n) && attempt->first_content_ns == 0) {
        attempt->first_content_ns = loop_now_ns(call->gateway->loop);
        call->record->first_token_ns = attempt->first_content_ns - call->request->started_ns;
        call->first_token_due_ns = 0;
    }
    if (call->head_sent || call->flows) {
        flow(call, bytes);
    } else if (bytes.n && !collect(call, bytes)) {
        call->flows = true;
        struct str collected = call->whole;
        call->whole = STR_EMPTY;
        flow(call, collected);
        flow(call, bytes);
    }
    buf_clear(gathered);
    if (gathered->capacity > (1u << 20))
        buf_release(gathered);
}

static enum failure failure_of(const struct err *err)
{
    switch (err->code) {
    case ERR_RATE_LIMIT: return FAILURE_RATE;
    case ERR_OVERLOADED: return FAILURE_OVERLOAD;
    case ERR_CONTEXT_LENGTH: return FAILURE_CONTEXT;
    case ERR_CONTENT_FILTER: return FAILURE_CONTENT_FILTER;
    case ERR_TIMEOUT: return FAILURE_TIMEOUT;
    case ERR_UNSUPPORTED: return FAILURE_UNSUPPORTED;
    case ERR_UNAUTHENTICATED:
    case ERR_FORBIDDEN: return FAILURE_CREDENTIAL;
    case ERR_CHECK_BLOCKED:
    case ERR_INVALID:
    case ERR_BAD_FIELD:
    case ERR_MISSING_FIELD:
    case ERR_NOT_FOUND:
    case ERR_MODEL_NOT_FOUND:
    case ERR_TOO_LARGE: return FAILURE_REQUEST;
    default: return FAILURE_ERROR;
    }
}

/* The answer is no good. From inside the exchange's callbacks: the rest happens in call_step. */
static void fail_later(struct call *call, const struct err *err)
{
    call_keep_err(call, err);
    call->attempt.over = true;
    call->attempt.failure = failure_of(err);
    call_post(call);
}

static void judge(struct call *call, enum wire_verdict verdict)
{
    struct attempt *attempt = &call->attempt;
    struct err *err = &call->gateway->err; /* filled by whoever said WIRE_FAILED */
    if (attempt->overflow && verdict != WIRE_FAILED) {
        verdict = WIRE_FAILED;
        err_set(err, ERR_UPSTREAM_PROTOCOL, "the target's answer is larger than %lld bytes",
                (long long)LIMIT_RESPONSE_BYTES);
    }
    if (verdict == WIRE_FAILED || verdict == WIRE_DONE)
        call_wake(call);
    if (verdict == WIRE_FAILED) {
        if (call->head_sent)
            pass_on(call);
        buf_clear(&call->gateway->gathered);
        fail_later(call, err);
        return;
    }
    if (verdict == WIRE_DONE) {
        attempt->complete = true;
        call->first_token_due_ns = 0;
        call->between_due_ns = loop_now_ns(call->gateway->loop) + DRAIN_NS;
    }
    pass_on(call);
    if (verdict == WIRE_DONE)
        call_arm(call);
}

static int64_t retry_after(const struct http_headers *headers, int64_t wall_ns)
{
    struct str ms = http_header_get(headers, STR("retry-after-ms"));
    struct str value = http_header_get(headers, STR("retry-after"));
    uint64_t number;
    if (ms.n && str_to_u64(ms, &number) == RC_OK && number < 86400000)
        return (int64_t)number * NS_PER_MS;
    if (value.n && str_to_u64(value, &number) == RC_OK && number < 86400)
        return (int64_t)number * NS_PER_S;
    char text[40];
    struct tm tm = {0};
    if (value.n == 0 || value.n >= sizeof(text))
        return 0;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (!strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        return 0;
    int64_t wait_ns = (int64_t)timegm(&tm) * NS_PER_S - wall_ns;
    return MAX(wait_ns, 0);
}

static void exchange_head(void *owner, int status, const struct http_headers *headers)
{
    struct call *call = owner;
    struct attempt *attempt = &call->attempt;
    attempt->status = status;
    struct str type = http_header_get(headers, STR("content-type"));
    if (status < 200 || status > 299) {
        attempt->retry_after_ns = retry_after(headers, loop_wall_ns(call->gateway->loop));
        attempt->error_type = arena_copy(call->scope->arena, type);
        return;
    }
    if (attempt->answer) {
        call->flows = call->wire.stream;
        call->content_type = call->wire.stream ? STR("text/event-stream") : STR("application/json");
        if (call->request->format != WIRE_OPAQUE)
            return;
    }
    /* Unread bytes: the target's own type. JSON is sent whole, anything else (speech) as it comes.
     */
    call->content_type = arena_copy(call->scope->arena, type);
    call->flows = !str_starts(type, STR("application/json"));
}

static enum proceed exchange_data(void *owner, struct str data)
{
    struct call *call = owner;
    struct attempt *attempt = &call->attempt;
    if (attempt->over)
        return STOP;
    if (attempt->complete)
        return PROCEED; /* after the terminal event there is nothing to say */
    if (attempt->status < 200 || attempt->status > 299) {
        /* Past its bound an error's text is cut. */
        size_t room = LIMIT_STALLED_BYTES - buf_len(&attempt->error_body);
        if (room && buf_append(&attempt->error_body, str_slice(data, 0, room)) != RC_OK)
            return STOP;
        return PROCEED;
    }
    if (attempt->upstream.stream)
        call->between_due_ns = loop_now_ns(call->gateway->loop) + call->between_ns;
    if (!attempt->answer) {
        answer_write(call, data);
        judge(call, WIRE_FLOW);
    } else {
        judge(call, wire_answer_data(attempt->answer, data, &call->gateway->err));
    }
    if (call->between_due_ns && !attempt->over)
        call_arm(call);
    return call->stopped || attempt->over ? STOP : PROCEED;
}

/* The target answered with an error. */
static void read_error(struct call *call)
{
    struct attempt *attempt = &call->attempt;
    struct err err = {0};
    struct str body = buf_str(&attempt->error_body);
    wire_read_error(attempt->upstream.format, attempt->status, body, &err);
    if (err.code == ERR_NONE)
        err_set(&err, ERR_UPSTREAM, "the target answered with status %d", attempt->status);
    enum failure failure = failure_of(&err);
    if (attempt->status == 401 || attempt->status == 403)
        failure = FAILURE_CREDENTIAL;
    else if (attempt->status == 429)
        failure = FAILURE_RATE;
    else if (attempt->status == 503 || attempt->status == 529)
        failure = FAILURE_OVERLOAD;
    bool own_credential = call->resolved.route->pass_credential && call->request->credential.n;
    bool same_format = attempt->upstream.format == call->request->format;
    /* What is the request's own fault is told in the provider's own words, unchanged. */
    attempt->pass_error =
        same_format &&
        (failure == FAILURE_REQUEST || failure == FAILURE_CONTEXT ||
         failure == FAILURE_CONTENT_FILTER || (failure == FAILURE_CREDENTIAL && own_credential));
    if (failure == FAILURE_CREDENTIAL && !own_credential) {
        char message[ERR_MESSAGE_BYTES_MAX];
        memcpy(message, err.message, sizeof(message));
        err_set(&err, ERR_UPSTREAM,
                "provider '%.*s' refused the key that is configured for it (status %d): %.300s",
                STR_ARG(attempt->target->provider->name), attempt->status, message);
    }
    attempt_failed(call, failure, &err);
}

static void record_timing(struct call *call, const struct http_exchange_timing *timing)
{
    if (!timing)
        return;
    if (timing->connected_ns && timing->queued_ns)
        call->record->connect_ns = timing->reused ? 0 : timing->connected_ns - timing->queued_ns;
    if (timing->head_ns && timing->queued_ns)
        call->upstream_ns += MAX(timing->done_ns, timing->head_ns) - timing->queued_ns;
}

static void exchange_broke(struct call *call, const struct err *cause)
{
    struct err err = *cause;
    if (err.code == ERR_NONE)
        err_set(&err, ERR_UPSTREAM, "the connection to the target broke off");
    enum failure failure = cause->rc == RC_TIMEOUT ? FAILURE_TIMEOUT : FAILURE_ERROR;
    if (!call->head_sent) {
        attempt_failed(call, failure, &err);
        return;
    }
    attempt_report(call, true);
    answer_break(call, &err);
    call_finish(call, &err);
}

static void exchange_done(void *owner, const struct err *err,
                          const struct http_exchange_timing *timing)
{
    struct call *call = owner;
    CHECK_MAGIC(call, CALL_MAGIC);
    struct attempt *attempt = &call->attempt;
    attempt->exchange = NULL;
    call_wake(call);
    record_timing(call, timing);
    if (attempt->over)
        return; /* call_step is on its way */
    if (err && !attempt->complete) {
        exchange_broke(call, err);
        return;
    }
    if (attempt->status < 200 || attempt->status > 299) {
        read_error(call);
        return;
    }
    if (!attempt->complete) {
        enum wire_verdict verdict =
            attempt->answer ? wire_answer_end(attempt->answer, &call->gateway->err) : WIRE_DONE;
        if (verdict != WIRE_FAILED && verdict != WIRE_DONE) {
            err_set(&call->gateway->err, ERR_UPSTREAM_PROTOCOL,
                    "the target's answer ended before it was complete");
            verdict = WIRE_FAILED;
        }
        judge(call, verdict);
        if (attempt->over)
            return;
    }
    if (attempt->inner)
        inner_complete_whole(attempt->inner);
    call_finish(call, NULL);
}

const struct http_exchange_owner answer_exchange = {
    .head = exchange_head,
    .data = exchange_data,
    .done = exchange_done,
};

void answer_break(struct call *call, const struct err *err)
{
    if (!call->attempt.answer || !call->head_sent || call->attempt.complete)
        return;
    call_wake(call);
    buf_clear(&call->gateway->gathered);
    wire_answer_break(call->attempt.answer, err);
    pass_on(call);
}

/* ---- from the cache ---- */

void answer_replay(struct call *call)
{
    const struct cache_entry *entry = call->cached;
    if (call->state == CALL_NEW) {
        call_move(call, CALL_REPLAYING);
        call->content_type = entry->content_type;
        call->record->provider = entry->provider;
        call->record->model = entry->model;
        call->record->finish_reason = entry->finish_reason;
        if (!call->wire.stream) {
            call->whole = arena_copy(call->scope->arena, entry->body);
            struct err err;
            if (!call->whole.p) {
                err_set(&err, ERR_OVERLOADED, "there is no memory for the answer");
                call_finish(call, &err);
            } else {
                call_finish(call, NULL);
            }
            return;
        }
        send_head(call, 200, -1);
    }
    while (call->cached_at < entry->body.n && !call->stopped) {
        struct str piece =
            str_slice(entry->body, call->cached_at, call->cached_at + REPLAY_PIECE_BYTES);
        call->cached_at += piece.n;
        bool last = call->cached_at == entry->body.n;
        if (last && gateway_options.durability_sync && buf_append(&call->last, piece) == RC_OK)
            break;
        send_data(call, piece);
    }
    if (call->cached_at == entry->body.n)
        call_finish(call, NULL);
}
