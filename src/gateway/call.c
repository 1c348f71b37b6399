/* A call from its admission to its end: see call.h. The way between is in call_attempt.c (asking
 * targets) and call_answer.c (relaying). A call is in exactly one state; `call_move` alone changes
 * it, along the table. */
#include "gateway/call_private.h"
#include <stdlib.h>

/* ---- states ---- */

#define TO(state) (1u << CALL_##state)

static const unsigned moves[CALL_STATE_COUNT] = {
    [CALL_NEW] = TO(ENGINE) | TO(ASKING) | TO(WAITING) | TO(COUNTING) | TO(REPLAYING) |
                 TO(COMMITTING) | TO(ENDED),
    [CALL_ENGINE] =
        TO(ENGINE) | TO(ASKING) | TO(COUNTING) | TO(WAITING) | TO(COMMITTING) | TO(ENDED),
    [CALL_WAITING] =
        TO(ENGINE) | TO(ASKING) | TO(COUNTING) | TO(WAITING) | TO(COMMITTING) | TO(ENDED),
    [CALL_ASKING] =
        TO(ENGINE) | TO(ASKING) | TO(WAITING) | TO(RELAYING) | TO(COMMITTING) | TO(ENDED),
    [CALL_RELAYING] = TO(COMMITTING) | TO(ENDED),
    [CALL_COUNTING] = TO(COMMITTING) | TO(ENDED),
    [CALL_REPLAYING] = TO(COMMITTING) | TO(ENDED),
    [CALL_COMMITTING] = TO(ENDED),
    [CALL_ENDED] = 0,
};

void call_move(struct call *call, enum call_state state)
{
    ASSERT(moves[call->state] & (1u << state));
    call->state = state;
}

void call_keep_err(struct call *call, const struct err *err)
{
    static struct err no_memory = {ERR_OVERLOADED, RC_LIMIT,
                                   "there is no memory left for this request", "", 0};
    if (err == call->err)
        return;
    struct err *copy = arena_alloc(call->scope->arena, sizeof(*copy));
    if (copy)
        *copy = *err;
    call->err = copy ? copy : &no_memory;
}

/* ---- deadlines ---- */

static void nearest(int64_t *due_ns, int64_t other_ns)
{
    if (other_ns && (*due_ns == 0 || other_ns < *due_ns))
        *due_ns = other_ns;
}

void call_arm(struct call *call)
{
    int64_t due_ns = call->total_due_ns;
    nearest(&due_ns, call->first_token_due_ns);
    nearest(&due_ns, call->between_due_ns);
    nearest(&due_ns, call->wake_due_ns);
    if (due_ns == 0) {
        timer_stop(&call->timer);
        return;
    }
    /* Deadlines that only moved back are found out when the timer fires: an armed, earlier timer
     * stays. */
    if (timer_armed(&call->timer) && call->timer.due_ns <= due_ns)
        return;
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    timer_start(call->gateway->loop, &call->timer, MAX(due_ns - now_ns, 0));
}

static bool passed(int64_t due_ns, int64_t now_ns) { return due_ns && now_ns >= due_ns; }

static void call_timed_out(struct call *call, const char *what)
{
    struct err err;
    err_set(&err, ERR_TIMEOUT, "%s; the route's timeout says how long to wait", what);
    if (call->state == CALL_RELAYING)
        answer_break(call, &err);
    call_finish(call, &err);
}

static void call_timer_fired(struct timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    CHECK_MAGIC(call, CALL_MAGIC);
    struct err err;
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    if (call->state == CALL_COMMITTING)
        return; /* the record will come or fail by itself */
    if (passed(call->total_due_ns, now_ns)) {
        attempt_report(call, call->state == CALL_ASKING);
        call_timed_out(call, "the call took longer than it may in all");
    } else if (passed(call->first_token_due_ns, now_ns)) {
        err_set(&err, ERR_TIMEOUT, "the target sent no content in time");
        attempt_failed(call, FAILURE_TIMEOUT, &err);
    } else if (passed(call->between_due_ns, now_ns) && call->attempt.complete) {
        call_finish(call, NULL);
    } else if (passed(call->between_due_ns, now_ns) && !call->stopped && !call->head_sent) {
        err_set(&err, ERR_TIMEOUT, "the target's stream stalled");
        attempt_failed(call, FAILURE_TIMEOUT, &err);
    } else if (passed(call->between_due_ns, now_ns) && !call->stopped) {
        attempt_report(call, true);
        call_timed_out(call, "the target's stream stalled");
    } else if (passed(call->wake_due_ns, now_ns)) {
        call->wake_due_ns = 0;
        attempt_next(call);
    } else {
        if (passed(call->between_due_ns,
                   now_ns)) /* the client does not read: not the target's fault */
            call->between_due_ns = 0;
        call_arm(call);
    }
}

/* ---- admission ---- */

static bool bounded(const struct limits *limits)
{
    return limits->requests_per_minute > 0 || limits->tokens_per_minute > 0 ||
           limits->parallel > 0 || limits->budget_day_pico != COST_UNKNOWN ||
           limits->budget_month_pico != COST_UNKNOWN;
}

/* Of an answer from inside, requests are counted on the call itself, tokens and money on the calls
 * that it makes. NULL: the arena is full. */
static const struct limits *share_of(struct call *call, const struct limits *limits)
{
    bool outside = call->resolved.route->targets[0].provider->inner != NULL;
    if (!outside && !call->scope->inside)
        return limits;
    struct limits *share = arena_alloc(call->scope->arena, sizeof(*share));
    if (!share)
        return NULL;
    *share = *limits;
    if (call->scope->inside)
        share->requests_per_minute = share->parallel = 0;
    if (outside) {
        share->tokens_per_minute = 0;
        share->budget_day_pico = share->budget_month_pico = COST_UNKNOWN;
    }
    return share;
}

static enum rc add_limit(struct call *call, enum limit_kind kind, struct str value,
                         const struct limits *limits, struct err *err)
{
    if (!limits || !bounded(limits))
        return RC_OK;
    const struct limits *share = share_of(call, limits);
    if (!share)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return bounded(share) ? limit_add(call->limits, call->project->id, kind, value, share,
                                      call->record->started_wall_ns, err)
                          : RC_OK;
}

/* The project's limits of "kind:value", if there are any. */
static enum rc add_named_limit(struct call *call, enum limit_kind kind, struct str prefix,
                               struct str name, struct str value, struct err *err)
{
    char text[16 + 2 * LIMIT_TAG_BYTES];
    size_t equals = value.p ? 1 : 0, n = prefix.n + name.n + equals + value.n;
    if (n > sizeof(text))
        return RC_OK; /* no limit has such a long name */
    memcpy(text, prefix.p, prefix.n);
    memcpy(text + prefix.n, name.p, name.n);
    if (value.p) {
        text[prefix.n + name.n] = '=';
        memcpy(text + prefix.n + name.n + 1, value.p, value.n);
    }
    return add_limit(call, kind, str_make(text + prefix.n, n - prefix.n),
                     map_get(&call->project->limits, str_make(text, n)), err);
}

static enum rc add_limits(struct call *call, struct err *err)
{
    const struct key *key = call->scope->key;
    const struct call_record *record = call->record;
    enum rc rc = RC_OK;
    if (key)
        rc = add_limit(call, LIMIT_KEY, str_make(key->id.bytes, sizeof(key->id.bytes)),
                       &key->limits, err);
    if (call->project->limits.count == 0)
        return rc;
    if (rc == RC_OK)
        rc = add_limit(call, LIMIT_PROJECT, STR_EMPTY,
                       map_get(&call->project->limits, STR("project")), err);
    if (rc == RC_OK && record->user.n)
        rc = add_named_limit(call, LIMIT_USER, STR("user:"), record->user, STR_EMPTY, err);
    for (size_t i = 0; rc == RC_OK && i < record->tag_count; i++)
        rc = add_named_limit(call, LIMIT_TAG, STR("tag:"), record->tags[i].name,
                             str_make(record->tags[i].value.p ? record->tags[i].value.p : "",
                                      record->tags[i].value.n),
                             err);
    return rc;
}

/* What the call will probably use: the request's size, and as many tokens as it lets the model
 * write. */
static void estimate(struct call *call, struct usage *usage)
{
    int64_t most = call->wire.output_tokens_max;
    bool writes = call->request->operation == OPERATION_CHAT ||
                  call->request->operation == OPERATION_COMPLETION;
    *usage = (struct usage){.known = true, .estimated = true};
    if (call->request->operation == OPERATION_COUNT_TOKENS)
        return;
    usage->tokens[USAGE_INPUT] = call->wire.input_tokens_estimate;
    if (writes)
        usage->tokens[USAGE_OUTPUT] = (uint64_t)(most > 0 ? most : DEFAULT_OUTPUT_TOKENS) *
                                      (uint64_t)MAX(call->wire.choices, 1);
}

static enum rc reserve(struct call *call, struct err *err)
{
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    if (call->limits->count == 0 && call->scope->budget_pico == COST_UNKNOWN)
        return RC_OK;
    struct usage usage;
    int64_t prices[USAGE_BUCKET_COUNT];
    estimate(call, &usage);
    const struct target *first = &call->resolved.route->targets[call->order[0]];
    price_at(gateway_price(call, first), call->record->started_wall_ns, &call->price_context,
             usage.tokens[USAGE_INPUT], prices);
    int64_t cost = price_cost(&usage, prices);
    if (call->scope->budget_pico != COST_UNKNOWN && cost != COST_UNKNOWN &&
        cost > call->scope->budget_pico)
        return err_set(err, ERR_BUDGET,
                       "what is left of this run's budget does not cover the call");
    return limit_reserve(call->limits, usage.tokens[USAGE_INPUT] + usage.tokens[USAGE_OUTPUT], cost,
                         now_ns, call->record->started_wall_ns, err);
}

static bool look_up(struct call *call)
{
    const struct route *route = call->resolved.route;
    if (route->cache_ttl_ns <= 0 || !call->resolved.is_route || call->wire.body.n == 0)
        return false;
    if (call->request->headers &&
        str_eq_nocase(http_header_get(call->request->headers, STR("x-capstan-cache")), STR("no")))
        return false;
    uint8_t door = (uint8_t)call->request->format;
    const struct str parts[] = {str_make(call->project->id.bytes, 16),
                                route->name,
                                str_make(&route->hash, sizeof(route->hash)),
                                str_make(&door, 1),
                                call->request->path,
                                call->wire.body};
    cache_make_key(parts, COUNT_OF(parts), &call->cache_key);
    call->cached = cache_get(&call->cache_key, loop_now_ns(call->gateway->loop));
    call->caching = !call->cached;
    call->record->cache = call->cached ? CALL_CACHE_HIT : CALL_CACHE_MISS;
    if (call->cached)
        call->gateway->metrics->cache_hits++;
    else
        call->gateway->metrics->cache_misses++;
    return call->cached != NULL;
}

static bool target_eligible(void *arg, const struct target *target)
{
    return rules_hold(arg, target);
}

static enum rc choose_order(struct call *call, struct err *err)
{
    const struct call_record *record = call->record;
    struct balance_options options = {
        .sticky_key = record->session.n ? record->session
                      : record->user.n  ? record->user
                                        : str_make(record->key.bytes, sizeof(record->key.bytes)),
        .eligible = target_eligible,
        .arg = call,
    };
    call->order_count = balance_order(call->resolved.route, &options, call->order);
    if (call->order_count == 0)
        return err_set(
            err, ERR_NO_TARGET,
            "none of the targets of route '%.*s' has a `when` that holds for this request",
            STR_ARG(call->resolved.route->name));
    return RC_OK;
}

static enum rc check_input(struct call *call, struct err *err)
{
    const struct route *route = call->resolved.route;
    call->input_checks = ARENA_NEW(call->scope->arena, struct check_report);
    if (!call->input_checks)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return wire_check_request(&call->wire, route->checks, route->check_count, call->scope->arena,
                              call->input_checks, err);
}

/* A Responses request with a file_search tool over our own vector stores is answered inside, by a
 * call of the model that it names. */
static enum rc divert_search(struct call *call, struct err *err)
{
    struct arena *arena = call->scope->arena;
    const struct inner_model *inner = inner_find(STR(INNER_FILE_SEARCH));
    if (!inner || !wire_wants_search(&call->wire))
        return RC_OK;
    struct str name = arena_concat(arena, STR(INNER_FILE_SEARCH), call->wire.model);
    call->resolved.is_route = false;
    if (!name.p || inner_route(inner, name, arena, &call->resolved.route) != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return RC_OK;
}

static enum rc admit(struct call *call, struct err *err)
{
    struct arena *arena = call->scope->arena;
    if (!call->project)
        return err_set(err, ERR_FORBIDDEN, "the project of this key no longer exists");
    enum rc rc = request_read(call, err);
    if (rc == RC_OK)
        rc = record_identify(call, err);
    if (rc == RC_OK)
        rc = resolve_model(call->project,
                           call->scope->inside || call->prompt_model.n ? NULL : call->scope->key,
                           call->wire.model, arena, &call->resolved, err);
    if (rc == RC_OK)
        rc = divert_search(call, err);
    if (rc != RC_OK)
        return rc;
    const struct route *route = call->resolved.route;
    if (call->resolved.is_route)
        call->record->route = route->name;
    record_set_capture(call);
    if (route->check_count && call->wire.doc)
        rc = check_input(call, err);
    if (rc == RC_OK)
        rc = choose_order(call, err);
    if (rc == RC_OK)
        rc = add_limits(call, err);
    if (rc == RC_OK)
        rc = reserve(call, err);
    if (rc == RC_OK)
        look_up(call);
    return rc;
}

/* The answer turned out wrong after some of it had been sent. */
static void call_break_off(struct call *call)
{
    attempt_report(call, call->err->code != ERR_CHECK_BLOCKED);
    answer_break(call, call->err);
    call_finish(call, call->err);
}

void call_step(struct call *call)
{
    CHECK_MAGIC(call, CALL_MAGIC);
    call_wake(call);
    if (call->state == CALL_NEW && call->err)
        call_finish(call, call->err);
    else if (call->state == CALL_NEW && call->cached)
        answer_replay(call);
    else if (call->state == CALL_NEW)
        attempt_next(call);
    else if (call->state == CALL_REPLAYING)
        answer_replay(call);
    else if (call->attempt.over && call->head_sent)
        call_break_off(call);
    else if (call->attempt.over)
        attempt_failed(call, call->attempt.failure, call->err);
    else if (call->attempt.inner)
        inner_step(call->attempt.inner);
}

struct call *gateway_call_start(struct gateway_loop *gateway, const struct scope *scope,
                                const struct call_request *request, const struct call_sink *sink,
                                void *arg)
{
    struct call_request *kept = arena_alloc(scope->arena, sizeof(*kept));
    struct call_record *record = ARENA_NEW(scope->arena, struct call_record);
    struct limit_holds *limits = ARENA_NEW(scope->arena, struct limit_holds);
    struct call *call = kept && record && limits ? slab_take(&gateway->slab) : NULL;
    if (!call)
        return NULL;
    *kept = *request;
    call->magic = CALL_MAGIC;
    call->gateway = gateway;
    call->scope = scope;
    call->request = kept;
    call->record = record;
    call->limits = limits;
    call->sink = *sink;
    call->sink_arg = arg;
    list_init(&call->ready_node);
    call->hold = hold_take(gateway);
    timer_init(&call->timer, call_timer_fired);
    arena_init(&call->parsed, scope->arena->used_bytes_max);
    stream_pack_init(&call->events, LIMIT_CAPTURE_BYTES);
    buf_init(&call->kept, LIMIT_CAPTURE_BYTES);
    buf_init(&call->last, LIMIT_RESPONSE_BYTES);
    buf_init(&call->attempt.error_body, LIMIT_STALLED_BYTES);
    list_push_back(&gateway->calls, &call->node);
    gateway->call_count++;
    gateway->metrics->calls_now++;
    record_begin_call(call);
    if (admit(call, &gateway->err) != RC_OK) {
        call_keep_err(call, &gateway->err);
        gateway->metrics->refused_rate += gateway->err.code == ERR_RATE_LIMIT;
        gateway->metrics->refused_budget += gateway->err.code == ERR_BUDGET;
    }
    call_post(call);
    return call;
}

/* ---- the end ---- */

/* The record's way to disk, when the answer waits for it. Outlives the call if its client leaves.
 */
struct commit {
    struct trace_waiter waiter;
    struct call *call; /* NULL: nobody waits any more */
};

/* Gives back all that does not lie in the scope's arena. */
static void call_fini(struct call *call)
{
    ASSERT(call->state == CALL_ENDED && !call->attempt.exchange && !call->attempt.lease);
    timer_stop(&call->timer);
    list_remove(&call->node);
    if (!list_detached(&call->ready_node))
        list_remove(&call->ready_node);
    park_forget(call);
    call->gateway->call_count--;
    call->gateway->metrics->calls_now--;
    if (call->cached)
        cache_release(call->cached);
    if (call->attempt.answer)
        wire_answer_fini(call->attempt.answer);
    call->attempt.answer = NULL;
    arena_fini(&call->parsed);
    stream_pack_fini(&call->events);
    buf_fini(&call->kept);
    buf_fini(&call->last);
    buf_fini(&call->attempt.error_body);
    hold_give(call->gateway, call->hold);
    call->magic = 0;
}

static void call_tell(struct call *call)
{
    const struct err *err = call->passed_status ? NULL : call->err;
    call_move(call, CALL_ENDED);
    if (gateway_options.ended && !id_is_zero(call->record->project))
        gateway_options.ended(gateway_options.arg, call->record);
    struct arena parsed = call->parsed; /* texts of the record may lie there */
    arena_init(&call->parsed, 0);
    call_fini(call);
    struct call_sink sink = call->sink;
    void *arg = call->sink_arg;
    const struct call_record *record = call->record;
    slab_give(&call->gateway->slab, call);
    /* Last: the sink may free the scope, and the record with it. */
    sink.done(arg, record, err);
    arena_fini(&parsed);
}

static void commit_done(struct task *task)
{
    struct commit *commit = CONTAINER_OF(task, struct commit, waiter.task);
    struct call *call = commit->call;
    free(commit);
    if (!call)
        return;
    CHECK_MAGIC(call, CALL_MAGIC);
    call->commit = NULL;
    answer_send_last(call);
    call_tell(call);
}

static enum call_status status_of(const struct call *call)
{
    switch (call->err ? call->err->code : ERR_NONE) {
    case ERR_NONE: return CALL_OK;
    case ERR_CANCELLED: return CALL_CANCELLED;
    case ERR_CHECK_BLOCKED: return CALL_BLOCKED;
    default:
        return call->attempts_in_all == 0 && call->err->code != ERR_NO_TARGET ? CALL_REFUSED
                                                                              : CALL_ERROR;
    }
}

static void settle(struct call *call)
{
    struct call_record *record = call->record;
    uint64_t input = usage_input_total(&record->usage), output = usage_output_total(&record->usage);
    limit_settle(call->limits, input + output, record->cost_pico, loop_now_ns(call->gateway->loop));

    struct gateway_metrics *metrics = call->gateway->metrics;
    metrics->calls[record->status]++;
    metrics->input_tokens += input;
    metrics->output_tokens += output;
    metrics->answer_bytes += call->answer_bytes;
    if (record->cost_pico == COST_UNKNOWN)
        metrics->cost_unknown++;
    else
        metrics->cost_pico += (uint64_t)record->cost_pico;
    metrics_observe(&metrics->duration, record->total_ns);
    metrics_observe(&metrics->overhead, MAX(record->total_ns - call->upstream_ns, 0));
    if (record->first_token_ns >= 0)
        metrics_observe(&metrics->first_token, record->first_token_ns);
}

static void fill_cache(struct call *call)
{
    const struct call_record *record = call->record;
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    struct cache_entry entry = {
        .content_type = call->content_type,
        .body = buf_len(&call->kept) ? buf_str(&call->kept) : call->whole,
        .provider = record->provider,
        .model = record->model,
        .finish_reason = record->finish_reason,
        .stored_ns = now_ns,
        .expires_ns = now_ns + call->resolved.route->cache_ttl_ns,
    };
    cache_put(&call->cache_key, &entry);
}

/* Everything but telling: `call->err` says how it ended. */
static void conclude(struct call *call)
{
    call_wake(call);
    timer_stop(&call->timer);
    bool answered = !call->err;
    attempt_close(call, call->err);
    if (answered)
        attempt_report(call, false);
    call->record->status = status_of(call);
    record_complete(call);
    count_cancel(call);
    if (call->caching && answered && !call->kept_cut)
        fill_cache(call);
    attempt_abandon(call);
    settle(call);
}

void call_finish(struct call *call, const struct err *err)
{
    ASSERT(call->state != CALL_COMMITTING && call->state != CALL_ENDED);
    if (err)
        call_keep_err(call, err);
    else
        call->err = NULL; /* an attempt before may have failed */
    conclude(call);
    bool recorded = gateway_options.trace && !id_is_zero(call->record->project);
    if (recorded && gateway_options.durability_sync) {
        struct commit *commit = xcalloc(1, sizeof(*commit));
        commit->waiter.task.run = commit_done;
        commit->waiter.home = call->gateway->loop;
        commit->call = call;
        call->commit = commit;
        call_move(call, CALL_COMMITTING);
        trace_submit(gateway_options.trace, call->record, &commit->waiter);
        return;
    }
    answer_send_last(call);
    if (recorded)
        trace_submit(gateway_options.trace, call->record, NULL);
    call_tell(call);
}

void gateway_call_cancel(struct call *call)
{
    CHECK_MAGIC(call, CALL_MAGIC);
    if (call->state == CALL_COMMITTING) {
        call->commit->call = NULL;
    } else {
        struct err err;
        err_set(&err, ERR_CANCELLED, "the client left before the answer was complete");
        call_keep_err(call, &err);
        conclude(call);
        if (gateway_options.trace && !id_is_zero(call->record->project))
            trace_submit(gateway_options.trace, call->record, NULL);
    }
    call_move(call, CALL_ENDED);
    if (gateway_options.ended && !id_is_zero(call->record->project))
        gateway_options.ended(gateway_options.arg, call->record);
    call_fini(call);
    slab_give(&call->gateway->slab, call);
}

void gateway_call_resume(struct call *call)
{
    CHECK_MAGIC(call, CALL_MAGIC);
    if (!call->stopped)
        return;
    call->stopped = false;
    if (call->state == CALL_REPLAYING) {
        call_post(call);
    } else if (call->attempt.exchange) {
        if (call->attempt.upstream.stream)
            call->between_due_ns = loop_now_ns(call->gateway->loop) + call->between_ns;
        call_arm(call);
        http_exchange_resume(call->attempt.exchange);
    } else if (call->attempt.inner) {
        inner_resume(call->attempt.inner);
    }
}

const struct call_record *gateway_call_record(const struct call *call) { return call->record; }

void gateway_call_limits(const struct call *call, struct limit_state *out)
{
    limit_state_of(call->limits, loop_now_ns(call->gateway->loop), out);
}
