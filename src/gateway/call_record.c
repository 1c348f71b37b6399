/* Who calls and as part of what (at the start), what became of it (at the end): the call's record.
 */
#include "gateway/call_private.h"
#include "text/json_writer.h"
#include "base/rand.h"

/* ---- who ---- */

static struct str client_header(const struct call *call, struct str name)
{
    return call->request->headers ? http_header_get(call->request->headers, name) : STR_EMPTY;
}

static struct str first_of(struct str a, struct str b, struct str c)
{
    return a.n ? a : b.n ? b : c;
}

static void add_tag(struct call *call, struct call_tag *tags, struct str name, struct str value)
{
    if (name.n == 0 || name.n > LIMIT_TAG_BYTES || value.n > LIMIT_TAG_BYTES)
        return;
    for (size_t i = 0; i < call->record->tag_count; i++)
        if (str_eq(tags[i].name, name))
            return;
    if (call->record->tag_count < LIMIT_TAGS)
        tags[call->record->tag_count++] = (struct call_tag){name, value};
}

/* The key's own tags cannot be overridden; then the header's, then metadata. */
static enum rc collect_tags(struct call *call, struct err *err)
{
    const struct key *key = call->scope->key;
    struct str header = client_header(call, STR("x-capstan-tags")), item;
    size_t most = (key ? key->tag_count : 0) + call->wire.tag_count + (header.n + 1) / 2;
    if (most == 0)
        return RC_OK;
    struct call_tag *tags =
        ARENA_NEW_ARRAY(call->scope->arena, struct call_tag, MIN(most, (size_t)LIMIT_TAGS));
    if (!tags)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    call->record->tags = tags;
    for (size_t i = 0; key && i < key->tag_count; i++)
        add_tag(call, tags, key->tags[i].name, key->tags[i].value);
    while (str_split(&header, ',', &item)) {
        ssize_t equals = str_find_char(item, '=');
        struct str name = equals < 0 ? item : str_slice(item, 0, (size_t)equals);
        struct str value = equals < 0 ? STR("") : str_slice(item, (size_t)equals + 1, item.n);
        add_tag(call, tags, str_trim(name), str_trim(value));
    }
    for (size_t i = 0; i < call->wire.tag_count; i++)
        add_tag(call, tags, call->wire.tags[i].name, call->wire.tags[i].value);
    return RC_OK;
}

static void identify_trace(struct call *call)
{
    struct call_record *record = call->record;
    uint64_t span = rand_u64() | 1;
    memcpy(record->trace_id, call->scope->trace.trace_id, sizeof(record->trace_id));
    memcpy(record->parent_id, call->scope->trace.parent_id, sizeof(record->parent_id));
    memcpy(record->span_id, &span, sizeof(record->span_id));
}

/* What is known before the body is read: enough for a record of a refusal. */
void record_begin_call(struct call *call)
{
    struct loop *loop = call->gateway->loop;
    struct call_record *record = call->record;
    const struct call_request *request = call->request;
    record->id = id_new();
    record->started_wall_ns = loop_wall_ns(loop) - (loop_now_ns(loop) - request->started_ns);
    record->door = request->door;
    record->operation = request->operation;
    record->client_ip = request->client_ip;
    record->client_agent = client_header(call, STR("user-agent"));
    record->queue_ns = record->connect_ns = record->first_token_ns = -1;
    record->cost_pico = COST_UNKNOWN;
    record->capture = CAPTURE_METADATA; /* until route and request are known */
    identify_trace(call);
    const struct key *key = call->scope->key;
    if (key) {
        record->key = key->id;
        record->key_name = key->name;
    }
    record->user_account = call->scope->principal->user;
    call->project = snapshot_project(call->hold->snapshot, call->scope->principal->project);
    if (call->project)
        record->project = call->project->id;
}

enum rc record_identify(struct call *call, struct err *err)
{
    struct call_record *record = call->record;
    const struct key *key = call->scope->key;
    record->model_requested = call->prompt_model.n ? call->prompt_model : call->wire.model;
    record->stream = call->wire.stream;
    record->user = first_of(client_header(call, STR("x-capstan-user")), call->wire.user,
                            key ? key->user : STR_EMPTY);
    record->session =
        first_of(client_header(call, STR("x-capstan-session")), call->wire.session, STR_EMPTY);
    record->user.n = MIN(record->user.n, (size_t)LIMIT_TAG_BYTES);
    record->session.n = MIN(record->session.n, (size_t)LIMIT_TAG_BYTES);
    return collect_tags(call, err);
}

static enum capture stricter(enum capture a, enum capture b)
{
    return b == CAPTURE_INHERIT ? a : MIN(a, b);
}

static enum capture capture_asked(const struct call *call)
{
    struct str header = client_header(call, STR("x-capstan-capture"));
    if (str_eq(header, STR("none")))
        return CAPTURE_NONE;
    if (str_eq(header, STR("metadata")) || call->wire.store_false)
        return CAPTURE_METADATA;
    return CAPTURE_INHERIT;
}

void record_set_capture(struct call *call)
{
    enum capture capture = call->resolved.route->capture;
    if (capture == CAPTURE_INHERIT)
        capture = call->project->capture;
    if (capture == CAPTURE_INHERIT)
        capture = CAPTURE_FULL;
    if (call->scope->key)
        capture = stricter(capture, call->scope->key->capture);
    call->record->capture = stricter(capture, capture_asked(call));
    call->captures = call->record->capture == CAPTURE_FULL;
}

/* ---- what became of it ---- */

static bool is_secret_header(struct str name)
{
    static const struct str names[] = {
        STR_INIT("authorization"), STR_INIT("x-api-key"),           STR_INIT("api-key"),
        STR_INIT("cookie"),        STR_INIT("proxy-authorization"), STR_INIT("x-csrf-token"),
        STR_INIT("x-goog-api-key")};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (names[i].n == name.n && str_eq_nocase(name, names[i]))
            return true;
    return false;
}

/* Eight bytes at a time: a byte that is 0 after the xor is the one looked for. */
static bool needs_escape(struct str s)
{
    const uint64_t ones = 0x0101010101010101ull, high = 0x8080808080808080ull;
    uint64_t any = 0;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t word, quote, slash;
        memcpy(&word, s.p + i, 8);
        quote = word ^ '"' * ones;
        slash = word ^ '\\' * ones;
        any |=
            ((word - 0x20 * ones) & ~word) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
    }
    for (; i < s.n; i++)
        if (s.p[i] == '"' || s.p[i] == '\\' || (unsigned char)s.p[i] < 0x20)
            return true;
    return (any & high) != 0;
}

static char *put_quoted(char *at, struct str s, char after)
{
    *at++ = '"';
    memcpy(at, s.p, s.n);
    at += s.n;
    *at++ = '"';
    *at++ = after;
    return at;
}

/* Headers as they usually are: nothing to escape. .p NULL: something is, or there is no memory. */
static struct str plain_headers_json(struct call *call)
{
    const struct http_headers *headers = call->request->headers;
    size_t bytes = 2;
    for (size_t i = 0; i < headers->count; i++)
        bytes += headers->items[i].name.n + headers->items[i].value.n + 6;
    char *p = arena_alloc(call->scope->arena, bytes), *at = p;
    if (!p)
        return STR_EMPTY;
    *at++ = '{';
    for (size_t i = 0; i < headers->count; i++) {
        const struct http_header *header = &headers->items[i];
        if (is_secret_header(header->name))
            continue;
        if (needs_escape(header->name) || needs_escape(header->value))
            return STR_EMPTY;
        at = put_quoted(at, header->name, ':');
        at = put_quoted(at, header->value, ',');
    }
    if (at[-1] == ',')
        at--;
    *at++ = '}';
    return str_make(p, (size_t)(at - p));
}

static struct str escaped_headers_json(struct call *call)
{
    const struct http_headers *headers = call->request->headers;
    struct buf *out = &call->gateway->gathered; /* free between pieces */
    buf_clear(out);
    struct json_writer writer = json_writer_to(out);
    json_begin_object(&writer);
    for (size_t i = 0; i < headers->count; i++) {
        if (is_secret_header(headers->items[i].name))
            continue;
        json_key_str(&writer, headers->items[i].name);
        json_string(&writer, headers->items[i].value);
    }
    json_end_object(&writer);
    struct str copy = writer.rc == RC_OK ? arena_copy(call->scope->arena, buf_str(out)) : STR_EMPTY;
    buf_clear(out);
    return copy.p ? copy : STR_EMPTY;
}

static struct str headers_json(struct call *call)
{
    if (!call->request->headers)
        return STR_EMPTY;
    struct str json = plain_headers_json(call);
    return json.p ? json : escaped_headers_json(call);
}

static void record_bodies(struct call *call)
{
    struct call_record *record = call->record;
    record->request_headers = headers_json(call);
    record->request_body = call->wire.doc ? call->wire.body : call->request->body;
    bool is_text = call->wire.doc || call->request->content_type.n == 0;
    if (!is_text && str_starts(call->request->content_type, STR("multipart/")))
        record->request_body = STR_EMPTY; /* audio and images are not kept */
    record->request_cut = record->request_body.n > LIMIT_CAPTURE_BYTES;
    record->request_body.n = MIN(record->request_body.n, (size_t)LIMIT_CAPTURE_BYTES);

    bool textual = str_starts(call->content_type, STR("application/json")) ||
                   str_starts(call->content_type, STR("text/"));
    record->response_body = buf_len(&call->kept)                ? buf_str(&call->kept)
                            : call->cached && call->wire.stream ? call->cached->body
                                                                : call->whole;
    record->response_events = buf_str(&call->events.out);
    if (!textual && call->content_type.n)
        record->response_body = record->response_events = STR_EMPTY;
    record->response_cut = call->kept_cut || record->response_body.n > LIMIT_CAPTURE_BYTES;
    record->response_body.n = MIN(record->response_body.n, (size_t)LIMIT_CAPTURE_BYTES);
}

/* A stream that was left midway has no usage of its own: an estimate, or budgets could be got round
 * by leaving. */
static void estimate_usage(struct call *call)
{
    struct usage *usage = &call->record->usage;
    if (usage->known || call->attempts_in_all == 0 || call->request->operation == OPERATION_OTHER ||
        call->attempt.first_content_ns == 0)
        return;
    usage->estimated = true;
    usage->tokens[USAGE_INPUT] = call->wire.input_tokens_estimate;
    /* A stream's event is some 200 bytes a token, a whole answer's text some 4. */
    usage->tokens[USAGE_OUTPUT] =
        call->wire.stream ? call->answer_bytes / 200 + 1 : call->whole.n / 4;
}

static void record_outcome(struct call *call)
{
    struct call_record *record = call->record;
    struct wire_outcome outcome = {0};
    if (!call->attempt.answer)
        return;
    wire_answer_outcome(call->attempt.answer, &outcome);
    record->usage = outcome.usage;
    record->finish_reason = outcome.finish_reason;
    record->response_model = outcome.response_model;
    record->response_id = outcome.response_id;
    const struct check_report *report = outcome.checks ? outcome.checks : call->input_checks;
    if (report && call->input_checks && report != call->input_checks)
        for (size_t i = 0; i < report->count && call->input_checks->count < CHECK_FINDINGS_MAX; i++)
            call->input_checks->findings[call->input_checks->count++] = report->findings[i];
    else if (report)
        call->input_checks = (struct check_report *)report;
}

static void record_cost(struct call *call)
{
    struct call_record *record = call->record;
    for (size_t i = 0; i < USAGE_BUCKET_COUNT; i++)
        record->bucket_price_pico[i] = COST_UNKNOWN;
    if (call->cached || call->attempts_in_all == 0 ||
        call->request->operation == OPERATION_COUNT_TOKENS) {
        record->cost_pico = 0; /* nothing was asked of anybody, or what costs nothing */
        return;
    }
    if (call->attempt.inner) { /* it stands on the records of the calls made inside */
        record->usage = (struct usage){0};
        record->cost_pico = 0;
        return;
    }
    estimate_usage(call);
    bool used = record->usage.known || record->usage.estimated;
    if (!used) {
        record->cost_pico = record->status == CALL_OK ? COST_UNKNOWN : 0;
        return;
    }
    price_at(call->price, record->started_wall_ns, &call->price_context,
             usage_input_total(&record->usage), record->bucket_price_pico);
    record->cost_pico = price_cost(&record->usage, record->bucket_price_pico);
    if (!call->price)
        record->cost_pico = COST_UNKNOWN;
}

void record_complete(struct call *call)
{
    struct call_record *record = call->record;
    int64_t now_ns = loop_now_ns(call->gateway->loop);
    record_outcome(call);
    record->total_ns = now_ns - call->request->started_ns;
    if (record->attempt_count)
        record->queue_ns = record->attempts[0].started_ns;
    record->error = call->err ? call->err->code : ERR_NONE;
    if (call->err) {
        record->error_message = str_from(call->err->message);
        record->http_status = call->passed_status ? call->passed_status
                              : call->head_sent   ? record->http_status
                                                  : err_http_status(call->err->code);
    } else {
        record->http_status = 200;
    }
    record_cost(call);
    if (call->input_checks && call->input_checks->count)
        record->checks = check_report_json(call->input_checks, call->scope->arena);
    if (record->capture == CAPTURE_FULL)
        record_bodies(call);
}
