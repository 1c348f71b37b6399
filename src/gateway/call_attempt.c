/* Asking a route's targets, one after the other: which next, with which key, and what to make of a
 * failure.
 *
 * A target is asked again (with backoff) up to route->retry times for faults that pass: no
 * connection, overload, 5xx, rate limits when another of its keys is free or the wait is short.
 * Then, if the route falls back for that cause, comes the next target. Both end with the first
 * content-bearing piece of an answer: from there on a failure can only break the answer off. */
#include "gateway/call_private.h"
#include "base/rand.h"
#include "gateway/provider_table.h"
#include "gateway/seen.h"

/* ---- bookkeeping ---- */

static struct call_attempt *record_line(struct call *call)
{
    ASSERT(call->record->attempt_count > 0);
    return &call->attempt_lines[call->record->attempt_count - 1];
}

/* A new line in the record; past its bound the last line is used again. */
static void record_begin(struct call *call, const struct target *target)
{
    struct call_record *record = call->record;
    if (record->attempt_count == call->attempt_capacity &&
        record->attempt_count < CALL_ATTEMPTS_MAX) {
        size_t capacity = MAX(call->attempt_capacity * 4, (size_t)1);
        struct call_attempt *lines =
            ARENA_NEW_ARRAY(call->scope->arena, struct call_attempt, capacity);
        if (!lines)
            return;
        if (record->attempt_count)
            memcpy(lines, record->attempts, record->attempt_count * sizeof(*lines));
        call->attempt_lines = lines;
        call->attempt_capacity = capacity;
        record->attempts = lines;
    }
    if (record->attempt_count < CALL_ATTEMPTS_MAX)
        record->attempt_count++;
    record->provider = target->provider->name;
    record->model = target->model;
    call->attempt.recorded = true;
    *record_line(call) = (struct call_attempt){
        .provider = target->provider->name,
        .model = target->model,
        .started_ns = call->attempt.started_ns - call->request->started_ns,
    };
}

void attempt_close(struct call *call, const struct err *err)
{
    if (!call->attempt.recorded)
        return;
    call->attempt.recorded = false;
    struct call_attempt *line = record_line(call);
    line->duration_ns = loop_now_ns(call->gateway->loop) - call->attempt.started_ns;
    line->http_status = call->attempt.status;
    if (!err)
        return;
    line->error = err->code;
    line->reason = str_from(err->message); /* the call's own copy, in the arena */
}

void attempt_report(struct call *call, bool failed)
{
    struct attempt *attempt = &call->attempt;
    if (!attempt->admitted)
        return;
    call_wake(call);
    attempt->admitted = false;
    bool measure =
        call->resolved.route->balance == BALANCE_LATENCY && attempt->first_content_ns > 0;
    breaker_report(attempt->target->slot, loop_now_ns(call->gateway->loop), failed,
                   measure ? attempt->first_content_ns - attempt->started_ns : 0);
}

/* What is under way ends now; no callback comes any more. */
static void attempt_stop(struct call *call, bool engine_broken)
{
    struct attempt *attempt = &call->attempt;
    if (attempt->exchange)
        http_exchange_cancel(attempt->exchange);
    if (attempt->embed)
        embed_close(attempt->embed);
    if (attempt->inner)
        inner_close(attempt->inner);
    if (attempt->engine_request)
        engine_request_cancel(attempt->engine_request);
    if (attempt->lease)
        engine_release(attempt->lease, engine_broken);
    if (attempt->answer)
        wire_answer_fini(attempt->answer);
    attempt->exchange = NULL;
    attempt->embed = NULL;
    attempt->inner = NULL;
    attempt->engine_request = NULL;
    attempt->lease = NULL;
    attempt->answer = NULL;
    call->first_token_due_ns = call->between_due_ns = 0;
}

void attempt_abandon(struct call *call)
{
    if (call->attempt.admitted)
        breaker_forget(call->attempt.target->slot);
    call->attempt.admitted = false;
    attempt_stop(call, false);
}

/* ---- asking ---- */

static void add_header(struct http_headers *headers, struct arena *arena, struct str name,
                       struct str value)
{
    if (value.n && http_header_add(headers, arena, name, value) != RC_OK)
        return; /* not a header value, or too many: better without it */
}

/* Client's headers that may pass: those of the target's own format, and what the route lists. */
static bool header_passes(const struct call *call, struct str name)
{
    enum wire_format format = call->attempt.upstream.format;
    const struct route *route = call->resolved.route;
    if (name.n > 7 && str_eq_nocase(str_slice(name, 0, 7), STR("openai-")))
        return format != WIRE_ANTHROPIC;
    if (str_eq_nocase(name, STR("anthropic-beta")))
        return format == WIRE_ANTHROPIC;
    for (size_t i = 0; i < route->pass_header_count; i++)
        if (str_eq_nocase(name, route->pass_headers[i]))
            return true;
    return false;
}

static bool is_credential(struct str name)
{
    static const struct str names[] = {STR_INIT("authorization"), STR_INIT("x-api-key"),
                                       STR_INIT("api-key"), STR_INIT("cookie"),
                                       STR_INIT("proxy-authorization")};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq_nocase(name, names[i]))
            return true;
    return false;
}

static void add_headers(struct call *call, struct http_headers *headers)
{
    struct arena *arena = call->scope->arena;
    const struct provider *provider = call->attempt.target->provider;
    for (size_t i = 0; i < provider->header_count; i++)
        add_header(headers, arena, provider->headers[i].name, provider->headers[i].value);
    const struct http_headers *from = call->request->headers;
    for (size_t i = 0; from && i < from->count; i++)
        if (header_passes(call, from->items[i].name) && !is_credential(from->items[i].name))
            add_header(headers, arena, from->items[i].name, from->items[i].value);
    char *traceparent = arena_alloc(arena, TRACEPARENT_BYTES);
    if (!traceparent)
        return;
    trace_context_format(call->record->trace_id, call->record->span_id, traceparent);
    add_header(headers, arena, STR("traceparent"), str_make(traceparent, TRACEPARENT_BYTES - 1));
    add_header(headers, arena, STR("x-request-id"), call->request->request_id);
}

/* The base URL's path before the call's own: "/v1" + "/chat/completions". */
static struct str join_path(struct call *call, struct str base_url, struct str path)
{
    if (path.n == 0) {
        const struct provider_row *row = call->attempt.target->provider->row;
        path = call->request->path;
        if (row && row->path_prefix.n)
            path = arena_concat(call->scope->arena, row->path_prefix, path);
    }
    if (str_starts(base_url, STR("unix:")))
        return path;
    ssize_t scheme = str_find(base_url, STR("://"));
    struct str rest = str_slice(base_url, scheme < 0 ? 0 : (size_t)scheme + 3, base_url.n);
    ssize_t slash = str_find_char(rest, '/');
    if (slash < 0 || (size_t)slash + 1 == rest.n)
        return path;
    struct str prefix = str_slice(rest, (size_t)slash, rest.n);
    if (str_ends(prefix, STR("/")))
        prefix.n--;
    return arena_concat(call->scope->arena, prefix, path);
}

/* Sends the request that was written; `base_url` is the provider's or the engine's. */
static enum rc send(struct call *call, struct str base_url, const struct wire_call *wire,
                    struct err *err)
{
    const struct provider *provider = call->attempt.target->provider;
    struct http_origin *origin = gateway_origin(call, provider, base_url, err);
    if (!origin)
        return err->rc ? err->rc : RC_INVALID;
    struct http_headers headers = wire->headers;
    add_headers(call, &headers);
    const struct route *route = call->resolved.route;
    struct http_exchange_request request = {
        .method = STR("POST"),
        .path = join_path(call, base_url, wire->path),
        .headers = headers.items,
        .header_count = headers.count,
        .body_parts = wire->body_parts,
        .connect_timeout_ns = route->connect_ns ? route->connect_ns : DEFAULT_CONNECT_NS,
        .retry_stale = true,
    };
    if (!request.path.p)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    memcpy(request.body, wire->body, sizeof(request.body));
    call->attempt.exchange = http_exchange_start(origin, &request, &answer_exchange, call);
    return RC_OK;
}

static bool streams(enum wire_format format)
{
    return format == WIRE_OPENAI_CHAT || format == WIRE_ANTHROPIC ||
           format == WIRE_OPENAI_RESPONSES || format == WIRE_OPENAI_COMPLETIONS;
}

static enum rc answer_prepare(struct call *call, struct err *err)
{
    struct attempt *attempt = &call->attempt;
    struct wire_answer_options options = {
        .request = &call->wire,
        .upstream = &attempt->upstream,
        .route = call->resolved.route,
        .now_s = loop_wall_ns(call->gateway->loop) / NS_PER_S,
        .write = answer_write,
        .write_whole = answer_write_whole,
        .arg = call,
    };
    if (!call->wire.doc || call->request->path_suffix.n)
        return RC_OK; /* nothing is known of the answer: its bytes pass unread */
    attempt->answer = wire_answer_new(call->scope->arena, &options);
    if (!attempt->answer)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return RC_OK;
}

/* "/v1/messages" + "/count_tokens" */
static enum rc add_suffix(struct call *call, struct wire_call *wire, struct err *err)
{
    wire->path = arena_concat(call->scope->arena, wire->path, call->request->path_suffix);
    return wire->path.p
               ? RC_OK
               : err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
}

static bool is_local(const struct provider *provider)
{
    return provider->command || (provider->row && str_eq(provider->row->name, STR("engine")));
}

static void ask(struct call *call, struct str base_url, struct str secret, bool is_engine)
{
    struct attempt *attempt = &call->attempt;
    const struct target *target = attempt->target;
    struct wire_upstream *upstream = &attempt->upstream;
    upstream->row = target->provider->row;
    unsigned quirks = upstream->row ? upstream->row->quirks : 0;
    bool counts = call->request->path_suffix.n > 0;
    bool encoder = is_local(target->provider) && resolve_encoder(call->project, target->model);
    /* llama-server counts tokens in this door's format, whatever calls are made in. */
    upstream->format = counts && (quirks & PROVIDER_LEAVES_RUNNING)
                           ? call->request->format
                           : wire_choose_format(call->request->format, upstream->row);
    upstream->model = target->model;
    upstream->params = target->params;
    /* A whole call to a server of this kind would go on after its client has left: it is always
     * asked for a stream. */
    const struct inner_model *inner = target->provider->inner;
    bool leaves_running = is_engine || inner || (quirks & PROVIDER_LEAVES_RUNNING);
    upstream->stream =
        call->wire.stream || (leaves_running && streams(upstream->format) && !counts);
    if (counts && upstream->format != call->request->format) {
        count_begin(call);
        return;
    }
    if (call->resolved.route->pass_credential && call->request->credential.n)
        secret = call->request->credential;

    struct wire_call wire = {0};
    struct err *err = &call->gateway->err;
    err->code = ERR_NONE;
    enum rc rc = request_again(call, err);
    if (rc == RC_OK)
        rc = call->wire.doc
                 ? wire_write_request(&call->wire, upstream, secret, call->scope->arena, &wire, err)
                 : request_write_multipart(call, secret, &wire, err);
    if (rc == RC_OK && call->request->path_suffix.n)
        rc = add_suffix(call, &wire, err);
    if (rc == RC_OK)
        rc = answer_prepare(call, err);
    enum failure failure = err->code == ERR_UNSUPPORTED ? FAILURE_UNSUPPORTED : FAILURE_REQUEST;
    if (rc == RC_OK) {
        rc = inner     ? inner_begin(call, &wire, err)
             : encoder ? embed_begin(call, &wire, err)
                       : send(call, base_url, &wire, err);
        failure = encoder && err->code == ERR_OVERLOADED ? FAILURE_OVERLOAD
                  : encoder                              ? FAILURE_REQUEST
                                                         : FAILURE_ERROR;
        if (!inner && !encoder) /* the target's name may point into it */
            request_release(call);
    }
    call_move(call, CALL_ASKING);
    if (rc != RC_OK) {
        attempt_failed(call, failure, err);
        return;
    }
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    const struct route *route = call->resolved.route;
    call->between_ns = route->between_ns ? route->between_ns : DEFAULT_BETWEEN_NS;
    if (upstream->stream)
        call->first_token_due_ns =
            now_ns + (route->first_token_ns ? route->first_token_ns : DEFAULT_FIRST_TOKEN_NS);
    call_arm(call);
}

static void engine_ready(void *arg, struct engine_lease *lease, const struct err *err)
{
    struct call *call = arg;
    CHECK_MAGIC(call, CALL_MAGIC);
    call->attempt.engine_request = NULL;
    call->attempt.lease = lease;
    if (!lease) {
        attempt_failed(call, err->code == ERR_MODEL_NOT_FOUND ? FAILURE_REQUEST : FAILURE_ERROR,
                       err);
        return;
    }
    const struct engine_endpoint *endpoint = engine_lease_endpoint(lease);
    call->attempt.upstream.template_has_tools = endpoint->template_has_tools;
    ask(call, endpoint->url, endpoint->api_key, endpoint->is_llama);
}

static void attempt_begin(struct call *call, const struct target *target, struct str secret)
{
    struct gateway_metrics *metrics = call->gateway->metrics;
    struct attempt *attempt = &call->attempt;
    metrics->attempts++;
    if (call->attempts_in_all++ > 0)
        metrics->retries++;
    if (call->attempts_in_all > 1 && call->tries == 0)
        metrics->fallbacks++;
    call->tries++;
    call->price = gateway_price(call, target);
    record_begin(call, target);
    if (!is_local(target->provider) || resolve_encoder(call->project, target->model)) {
        ask(call, target->provider->base_url, secret, false);
        return;
    }
    call_move(call, CALL_ENGINE);
    if (!gateway_options.engines) {
        struct err err;
        err_set(&err, ERR_ENGINE_MISSING, "local models are not available in this process");
        attempt_failed(call, FAILURE_ERROR, &err);
        return;
    }
    const struct provider *provider = target->provider;
    char key[ENGINE_KEY_TEXT_BYTES_MAX];
    size_t key_n = engine_key_format(call->project->id, provider->command != NULL,
                                     provider->command ? provider->name : target->model, key);
    attempt->engine_request =
        engine_acquire(gateway_options.engines, str_make(key, key_n), engine_ready, call);
    call_arm(call);
}

/* ---- which next ---- */

/* Which of the provider's keys to use: -1 when none may be used before *until_ns. */
static int pick_key(struct call *call, const struct target *target, int64_t *until_ns)
{
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    if (target->provider->key_count > 1)
        return balance_pick_key(target->provider, &call->gateway->key_turn, now_ns, until_ns);
    *until_ns = cooldown_until_ns(target->slot);
    return *until_ns > now_ns ? -1 : 0;
}

/* Begins a fresh attempt at the target. False: its breaker is open or all its keys cool down; `err`
 * then says when to come again. */
static bool attempt_admit(struct call *call, const struct target *target, struct str *secret,
                          struct err *err)
{
    struct attempt *attempt = &call->attempt;
    int64_t now_ns = loop_now_ns(call->gateway->loop), until_ns = 0;
    int key = pick_key(call, target, &until_ns);
    if (key < 0) {
        err_set(err, ERR_RATE_LIMIT, "provider '%.*s' told to wait: its rate limit is reached",
                STR_ARG(target->provider->name));
    } else if (!breaker_admit(target->slot, now_ns)) {
        until_ns = breaker_retry_at_ns(target->slot, now_ns);
        err_set(err, ERR_NO_TARGET, "provider '%.*s' failed too often and is not asked for a while",
                STR_ARG(target->provider->name));
        call->gateway->metrics->breaker_skips++;
    } else {
        struct buf error_body = attempt->error_body;
        buf_clear(&error_body);
        *attempt = (struct attempt){
            .target = target, .started_ns = now_ns, .admitted = true, .error_body = error_body};
        call->whole.n = 0; /* what a failed attempt had sent */
        bool has_keys = target->provider->key_count > 0;
        *secret = has_keys ? target->provider->keys[key].secret : STR_EMPTY;
        attempt->provider_key_slot = has_keys ? target->provider->keys[key].slot : 0;
        return true;
    }
    err->retry_after_ms = (until_ns - now_ns) / NS_PER_MS + 1;
    return false;
}

void attempt_next(struct call *call)
{
    const struct route *route = call->resolved.route;
    struct str secret = STR_EMPTY;
    struct err err;
    if (call->total_due_ns == 0) {
        int64_t total_ns = route->total_ns ? route->total_ns : DEFAULT_TOTAL_NS;
        call->total_due_ns = loop_now_ns(call->gateway->loop) + total_ns;
        if (call->scope->deadline_ns)
            call->total_due_ns = MIN(call->total_due_ns, call->scope->deadline_ns);
    }
    for (; call->order_at < call->order_count; call->order_at++, call->tries = 0) {
        const struct target *target = &route->targets[call->order[call->order_at]];
        if (attempt_admit(call, target, &secret, &err)) {
            attempt_begin(call, target, secret);
            return;
        }
        /* The reason of the last real failure says more than that a target was passed over. */
        if (!call->err || call->attempts_in_all == 0)
            call_keep_err(call, &err);
    }
    ASSERT(call->err);
    call_finish(call, call->err);
}

static unsigned fallback_bit(enum failure failure)
{
    switch (failure) {
    case FAILURE_RATE: return FALLBACK_RATE;
    case FAILURE_OVERLOAD: return FALLBACK_OVERLOAD;
    case FAILURE_CONTEXT: return FALLBACK_CONTEXT;
    case FAILURE_CONTENT_FILTER: return FALLBACK_CONTENT_FILTER;
    case FAILURE_TIMEOUT: return FALLBACK_TIMEOUT;
    case FAILURE_CREDENTIAL:
    case FAILURE_UNSUPPORTED:
    case FAILURE_ERROR: return FALLBACK_ERROR;
    case FAILURE_REQUEST: return 0;
    }
    UNREACHABLE();
}

/* Is it worth asking the same target again, and how long to wait first? */
static bool retry_same(struct call *call, enum failure failure, int64_t *wait_ns)
{
    const struct attempt *attempt = &call->attempt;
    const struct provider *provider = attempt->target->provider;
    int retries = call->resolved.route->retry < 0 ? DEFAULT_RETRY : call->resolved.route->retry;
    int64_t now_ns = loop_now_ns(call->gateway->loop), until_ns, cooling_ns = 0;
    if (failure == FAILURE_CREDENTIAL || failure == FAILURE_RATE) {
        /* Another key is another try, as many as there are keys; none is waited for longer than is
         * sensible. */
        *wait_ns = 0;
        bool free_key = pick_key(call, attempt->target, &until_ns) >= 0;
        if (free_key && call->tries < (int)provider->key_count)
            return true;
        if (failure == FAILURE_CREDENTIAL)
            return false;
        cooling_ns = free_key ? 0 : until_ns - now_ns;
    } else if (failure != FAILURE_OVERLOAD && failure != FAILURE_ERROR) {
        return false;
    }
    if (call->tries > retries)
        return false;
    int64_t backoff_ns = RETRY_BACKOFF_NS << MIN(call->tries - 1, 10);
    backoff_ns = MIN(backoff_ns, RETRY_BACKOFF_NS_MAX);
    backoff_ns = backoff_ns / 2 + (int64_t)(rand_unit() * (double)backoff_ns / 2);
    *wait_ns = MAX(MAX(backoff_ns, attempt->retry_after_ns), cooling_ns);
    /* Better the next target at once than this one much later. */
    bool another = call->order_at + 1 < call->order_count &&
                   (call->resolved.route->fallback & fallback_bit(failure));
    return *wait_ns <= RETRY_AFTER_NS_MAX && now_ns + *wait_ns < call->total_due_ns &&
           !(another && *wait_ns > NS_PER_S);
}

/* Of several keys the one that was refused is left alone for a while. Where there is only one, the
 * target is: a provider's other models have limits of their own. */
static void cool_down(struct call *call, enum failure failure)
{
    const struct attempt *attempt = &call->attempt;
    bool several = attempt->target->provider->key_count > 1;
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    int64_t rate_ns = attempt->retry_after_ns ? attempt->retry_after_ns : NS_PER_S;
    if (failure == FAILURE_RATE)
        cooldown_start(several ? attempt->provider_key_slot : attempt->target->slot, now_ns,
                       rate_ns);
    else if (failure == FAILURE_CREDENTIAL && several)
        cooldown_start(attempt->provider_key_slot, now_ns, REFUSED_KEY_NS);
}

/* No other attempt: the last error is the answer, in the target's own words where that helps. */
static void give_up(struct call *call)
{
    struct attempt *attempt = &call->attempt;
    struct str body = buf_str(&attempt->error_body);
    if (attempt->pass_error && body.n) {
        call->whole = arena_copy(call->scope->arena, body);
        call->content_type = attempt->error_type.n ? attempt->error_type : STR("application/json");
        call->passed_status = call->whole.p ? attempt->status : 0;
    }
    call_finish(call, call->err);
}

void attempt_failed(struct call *call, enum failure failure, const struct err *err)
{
    struct attempt *attempt = &call->attempt;
    ASSERT(err->code != ERR_NONE && !call->head_sent); /* so nothing is parked */
    bool targets_fault =
        failure == FAILURE_ERROR || failure == FAILURE_TIMEOUT || failure == FAILURE_OVERLOAD;
    call->gateway->metrics->attempts_failed++;
    call_keep_err(call, err);
    attempt_close(call, call->err);
    attempt_report(call, targets_fault);
    if (targets_fault || failure == FAILURE_CREDENTIAL || failure == FAILURE_RATE)
        seen_provider_failed(attempt->target->provider->slot, err,
                             loop_wall_ns(call->gateway->loop));
    attempt_stop(call, failure == FAILURE_ERROR || failure == FAILURE_TIMEOUT);
    cool_down(call, failure);
    if (attempt->retry_after_ns && !call->err->retry_after_ms)
        call->err->retry_after_ms = attempt->retry_after_ns / NS_PER_MS;

    int64_t wait_ns = 0;
    if (retry_same(call, failure, &wait_ns)) {
        call_move(call, CALL_WAITING);
        call->wake_due_ns = loop_now_ns(call->gateway->loop) + wait_ns;
        call_arm(call);
        return;
    }
    bool falls_back = call->resolved.route->fallback & fallback_bit(failure);
    if (!falls_back || call->order_at + 1 == call->order_count) {
        give_up(call);
        return;
    }
    call->order_at++;
    call->tries = 0;
    call_move(call, CALL_WAITING);
    attempt_next(call);
}
