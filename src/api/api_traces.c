/* /api/traces: spans of other programs are taken (OTLP over HTTP), and a trace is shown whole: its
 * spans and the calls that were made in it. */
#include "api/handlers.h"
#include "base/buf.h"
#include "base/hash.h"
#include "http/content.h"
#include "text/json.h"
#include "trace/names.h"
#include "trace/otlp.h"
#include "trace/trace.h"

#define BODY_BYTES_MAX   (32u * 1024 * 1024) /* decoded */
#define TRACE_SPANS_MAX  2000                /* shown of one trace */
#define LISTED_ROWS_MAX  20000               /* looked at for one page of traces */
#define SUMMARY_ROWS_MAX 500                 /* of one trace, in a list */

/* ---- taking spans ---- */

static bool take_decoded(void *arg, struct str decoded)
{
    return buf_append(arg, decoded) == RC_OK;
}

/* The body without its coding. */
static enum rc decode_body(struct api_call *call, struct str *out)
{
    *out = call->raw_body;
    if (call->body_coding.n == 0 || str_eq(call->body_coding, STR("identity")))
        return RC_OK;
    struct http_decoder *decoder = http_decoder_new(call->body_coding);
    if (!decoder)
        return err_set(&call->err, ERR_MEDIA_TYPE, "the body's content-encoding is not known");
    struct buf buf;
    buf_init(&buf, BODY_BYTES_MAX);
    enum rc rc = http_decoder_feed(decoder, call->raw_body, take_decoded, &buf);
    bool whole = http_decoder_complete(decoder) && !http_decoder_pending(decoder);
    if (rc == RC_OK && whole)
        *out = arena_copy(call->arena, buf_str(&buf));
    if (rc != RC_OK || !whole)
        rc = err_set(&call->err, ERR_INVALID,
                     "the body is damaged, or larger than %u bytes decoded", BODY_BYTES_MAX);
    else if (!out->p)
        rc = err_set(&call->err, ERR_TOO_LARGE, "the body is larger than this request may use");
    http_decoder_free(decoder);
    buf_fini(&buf);
    return rc;
}

static enum rc read_message(struct api_call *call, bool json, yyjson_val **message)
{
    struct str body;
    yyjson_doc *doc;
    *message = call->body;
    if (call->body)
        return RC_OK;
    enum rc rc = decode_body(call, &body);
    if (rc != RC_OK)
        return rc;
    if (!json)
        return otlp_from_protobuf(body, call->arena, message, &call->err);
    rc = json_read(body, call->arena, &doc, &call->err);
    if (rc == RC_OK)
        *message = yyjson_doc_get_root(doc);
    return rc;
}

static void submit_span(void *arg, struct call_record *record)
{
    struct api_call *call = arg;
    if (call->capture == CAPTURE_NONE)
        return;
    record->project = call->principal->project;
    record->key = call->principal->key;
    record->key_name = id_is_zero(record->key) ? STR_EMPTY : call->principal->name;
    record->user_account = call->principal->user;
    record->capture = call->capture;
    record->client_agent = call->client_agent;
    trace_submit(call->services->trace, record, NULL);
}

/* ExportTraceServiceResponse: empty, or with a partial success (field 1) of a count (1) and a
 * reason (2). */
static enum rc answer_protobuf(struct api_call *call, const struct otlp_result *result)
{
    call->content_type = STR("application/x-protobuf");
    call->status = 200;
    if (!result->reason)
        return RC_OK;
    struct str reason = str_from(result->reason);
    char inner[160], *at = inner;
    ASSERT(reason.n < 100);
    *at++ = 0x08;
    for (uint32_t n = result->rejected; n > 0 || at == inner + 1; n >>= 7)
        *at++ = (char)((n & 127) | (n >= 128 ? 128 : 0));
    *at++ = 0x12;
    *at++ = (char)reason.n;
    memcpy(at, reason.p, reason.n);
    at += reason.n;
    char *out = arena_alloc(call->arena, sizeof(inner) + 2);
    if (!out)
        return err_set(&call->err, ERR_OVERLOADED, "no memory for this answer");
    out[0] = 0x0a;
    out[1] = (char)(at - inner);
    memcpy(out + 2, inner, (size_t)(at - inner));
    call->raw_answer = str_make(out, (size_t)(at - inner) + 2);
    return RC_OK;
}

static enum rc answer_json(struct api_call *call, const struct otlp_result *result)
{
    call->answer = yyjson_mut_obj(call->doc);
    if (!result->reason)
        return RC_OK;
    yyjson_mut_val *part = yyjson_mut_obj_add_obj(call->doc, call->answer, "partialSuccess");
    yyjson_mut_obj_add_uint(call->doc, part, "rejectedSpans", result->rejected);
    yyjson_mut_obj_add_str(call->doc, part, "errorMessage", result->reason);
    return RC_OK;
}

enum rc api_traces_take(struct api_call *call)
{
    struct otlp_result result;
    yyjson_val *message;
    bool json = str_starts(call->body_type, STR("application/json"));
    if (!json && !str_starts(call->body_type, STR("application/x-protobuf")))
        return err_set(&call->err, ERR_MEDIA_TYPE,
                       "spans are taken as application/x-protobuf or application/json");
    if (read_message(call, json, &message) != RC_OK ||
        otlp_read(message, call->arena, submit_span, call, &result, &call->err) != RC_OK)
        return RC_INVALID;
    return json ? answer_json(call, &result) : answer_protobuf(call, &result);
}

/* ---- one trace ---- */

static struct str hex_text(struct api_call *call, const uint8_t *bytes, size_t n)
{
    char *text = arena_alloc(call->arena, 2 * n + 1);
    bool zero = true;
    for (size_t i = 0; i < n; i++)
        zero = zero && bytes[i] == 0;
    if (!text || zero)
        return STR_EMPTY;
    hex_encode(bytes, n, text);
    return str_make(text, 2 * n);
}

static bool is_span(const struct call_record *record)
{
    return record->operation == OPERATION_SPAN;
}

static struct str name_of(const struct call_record *record)
{
    if (is_span(record))
        return record->span_name;
    return record->model.n ? record->model : record->model_requested;
}

static void put_span(struct api_call *call, yyjson_mut_val *o, const struct call_record *record)
{
    yyjson_mut_doc *doc = call->doc;
    api_put_id(call, o, "id", is_span(record) ? "span" : "call", record->id);
    api_put_str(call, o, "span_id", hex_text(call, record->span_id, 8));
    api_put_str(call, o, "parent_id", hex_text(call, record->parent_id, 8));
    api_put_str(call, o, "name", name_of(record));
    api_put_str(call, o, "kind", is_span(record) ? record->span_kind : STR("call"));
    api_put_time(call, o, "started_at", record->started_wall_ns);
    api_put_ms(call, o, "duration_ms", record->total_ns);
    yyjson_mut_obj_add_str(doc, o, "status", call_status_name(record->status));
    api_put_str(call, o, "error", record->error_message.n ? record->error_message : STR_EMPTY);
    api_put_str(call, o, "model", record->model.n ? record->model : STR_EMPTY);
    yyjson_mut_obj_add_uint(doc, o, "input_tokens", usage_input_total(&record->usage));
    yyjson_mut_obj_add_uint(doc, o, "output_tokens", usage_output_total(&record->usage));
    api_put_cost(call, o, "cost_usd", record->cost_pico);
    api_put_str(call, o, "user", record->user.n ? record->user : STR_EMPTY);
    api_put_str(call, o, "session", record->session.n ? record->session : STR_EMPTY);
}

/* What the spans of a trace come to. A span that states tokens or a cost for a call that went
 * through us would count twice: where there are calls, theirs count. */
struct summary {
    int64_t started_ns, ended_ns;
    const struct call_record *first;
    struct str user, session;
    uint64_t spans, calls, errors, tokens_in[2], tokens_out[2];
    __int128 cost_pico[2];
    bool priced[2];
};

static void summary_add(struct summary *s, const struct call_record *record)
{
    int64_t ended = record->started_wall_ns + MAX(record->total_ns, 0);
    bool call = !is_span(record);
    if (!s->first || record->started_wall_ns < s->started_ns ||
        (record->started_wall_ns == s->started_ns && ended > s->ended_ns)) {
        s->first = record;
        s->started_ns = record->started_wall_ns;
    }
    s->ended_ns = MAX(s->ended_ns, ended);
    s->spans += !call;
    s->calls += call;
    s->errors += record->status == CALL_ERROR;
    s->tokens_in[call] += usage_input_total(&record->usage);
    s->tokens_out[call] += usage_output_total(&record->usage);
    s->priced[call] = s->priced[call] || record->cost_pico != COST_UNKNOWN;
    s->cost_pico[call] += record->cost_pico != COST_UNKNOWN ? record->cost_pico : 0;
    s->user = s->user.n ? s->user : record->user;
    s->session = s->session.n ? s->session : record->session;
}

static void put_summary(struct api_call *call, yyjson_mut_val *o, const struct summary *s)
{
    yyjson_mut_doc *doc = call->doc;
    bool calls = s->calls > 0;
    api_put_str(call, o, "id", hex_text(call, s->first->trace_id, 16));
    api_put_str(call, o, "name", name_of(s->first));
    api_put_time(call, o, "started_at", s->started_ns);
    api_put_ms(call, o, "duration_ms", s->ended_ns - s->started_ns);
    yyjson_mut_obj_add_str(doc, o, "status", s->errors ? "error" : "ok");
    yyjson_mut_obj_add_uint(doc, o, "span_count", s->spans);
    yyjson_mut_obj_add_uint(doc, o, "call_count", s->calls);
    yyjson_mut_obj_add_uint(doc, o, "error_count", s->errors);
    yyjson_mut_obj_add_uint(doc, o, "input_tokens", s->tokens_in[calls]);
    yyjson_mut_obj_add_uint(doc, o, "output_tokens", s->tokens_out[calls]);
    api_put_cost(call, o, "cost_usd", s->priced[calls] ? s->cost_pico[calls] : COST_UNKNOWN);
    api_put_str(call, o, "user", s->user.n ? s->user : STR_EMPTY);
    api_put_str(call, o, "session", s->session.n ? s->session : STR_EMPTY);
}

static enum rc read_trace_id(struct api_call *call, struct str *out)
{
    uint8_t *bytes = arena_alloc(call->arena, 16);
    if (!bytes || call->params[0].n != 32 || hex_decode(call->params[0], bytes, 16) != RC_OK)
        return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not a trace's id (32 hex digits)",
                       STR_ARG(call->params[0]));
    *out = str_make(bytes, 16);
    return RC_OK;
}

/* An exporter that tries again sends a span twice: the one that came last counts. */
static bool is_repeated(const struct trace_page *page, size_t at)
{
    const struct call_record *span = &page->rows[at]->call;
    for (size_t i = 0; i < at; i++) /* newest first */
        if (is_span(span) && is_span(&page->rows[i]->call) &&
            memcmp(span->span_id, page->rows[i]->call.span_id, 8) == 0)
            return true;
    return false;
}

enum rc api_traces_get(struct api_call *call)
{
    struct trace_filter filter;
    struct trace_page page;
    struct summary summary = {0};
    uint64_t before = 0;
    size_t shown = 0;
    trace_filter_init(&filter);
    filter.rows = TRACE_ROWS_ALL;
    filter.links = true;
    if (read_trace_id(call, &filter.trace) != RC_OK)
        return RC_NOT_FOUND;
    yyjson_mut_val *spans = yyjson_mut_arr(call->doc);
    do {
        enum rc rc = trace_list(call->services->trace, call->principal->project, &filter, before,
                                LIMIT_LIST_ITEMS, call->arena, &page, &call->err);
        if (rc != RC_OK)
            return rc;
        for (size_t i = 0; i < page.count; i++) {
            if (is_repeated(&page, i))
                continue;
            summary_add(&summary, &page.rows[i]->call);
            put_span(call, yyjson_mut_arr_add_obj(call->doc, spans), &page.rows[i]->call);
        }
        shown += page.count;
        before = page.next_seq;
    } while (before != 0 && shown < TRACE_SPANS_MAX);
    if (!summary.first)
        return err_set(&call->err, ERR_NOT_FOUND, "there is no such trace");
    call->answer = yyjson_mut_obj(call->doc);
    put_summary(call, call->answer, &summary);
    yyjson_mut_obj_add_bool(call->doc, call->answer, "cut", before != 0);
    yyjson_mut_obj_add_val(call->doc, call->answer, "spans", spans);
    return RC_OK;
}

/* ---- lists ---- */

/* All of a row's trace, unless a newer row of it matches: then it was listed there. */
static enum rc summarise(struct api_call *call, const struct trace_filter *listed,
                         const struct trace_row *row, struct summary *summary, bool *newest)
{
    struct trace_filter filter = *listed;
    struct trace_page page;
    filter.trace = str_make(row->call.trace_id, sizeof(row->call.trace_id));
    enum rc rc = trace_list(call->services->trace, call->principal->project, &filter, 0, 1,
                            call->arena, &page, &call->err);
    *newest = rc == RC_OK && page.count == 1 && page.rows[0]->seq == row->seq;
    if (rc != RC_OK || !*newest)
        return rc;
    trace_filter_init(&filter);
    filter.rows = TRACE_ROWS_ALL;
    filter.trace = str_make(row->call.trace_id, sizeof(row->call.trace_id));
    rc = trace_list(call->services->trace, call->principal->project, &filter, 0, SUMMARY_ROWS_MAX,
                    call->arena, &page, &call->err);
    for (size_t i = 0; rc == RC_OK && i < page.count; i++)
        summary_add(summary, &page.rows[i]->call);
    return rc;
}

static enum rc list_page(struct api_call *call, const struct trace_filter *filter,
                         const struct trace_page *page, yyjson_mut_val *items, size_t limit,
                         uint64_t *next)
{
    for (size_t i = 0; i < page->count; i++) {
        struct summary summary = {0};
        bool newest;
        if (yyjson_mut_arr_size(items) == limit) {
            *next = page->rows[i]->seq + 1;
            return RC_OK;
        }
        enum rc rc = summarise(call, filter, page->rows[i], &summary, &newest);
        if (rc != RC_OK)
            return rc;
        if (newest && summary.first)
            put_summary(call, yyjson_mut_arr_add_obj(call->doc, items), &summary);
    }
    *next = page->next_seq;
    return RC_OK;
}

static void read_filter(struct api_call *call, struct trace_filter *filter)
{
    struct str kind = api_query(call, "kind");
    trace_filter_init(filter);
    filter->rows = str_eq(kind, STR("calls"))   ? TRACE_ROWS_CALLS
                   : str_eq(kind, STR("spans")) ? TRACE_ROWS_SPANS
                                                : TRACE_ROWS_ALL;
    filter->user = api_query(call, "user");
    filter->session = api_query(call, "session");
    filter->span_name = api_query(call, "name");
}

enum rc api_traces_list(struct api_call *call)
{
    struct trace_filter filter;
    struct trace_page page;
    size_t limit, looked = 0;
    int64_t cursor;
    if (api_query_limit(call, &limit) != RC_OK ||
        api_query_i64(call, "cursor", 0, &cursor) != RC_OK)
        return RC_INVALID;
    read_filter(call, &filter);
    limit = MIN(limit, 200);
    uint64_t next = (uint64_t)MAX(cursor, 0);
    yyjson_mut_val *items = api_list_begin(call);
    do {
        enum rc rc = trace_list(call->services->trace, call->principal->project, &filter, next,
                                limit, call->arena, &page, &call->err);
        if (rc == RC_OK)
            rc = list_page(call, &filter, &page, items, limit, &next);
        if (rc != RC_OK)
            return rc;
        looked += page.count;
    } while (next != 0 && yyjson_mut_arr_size(items) < limit && looked < LISTED_ROWS_MAX);
    api_list_end(call,
                 next ? arena_printf(call->arena, "%llu", (unsigned long long)next) : STR_EMPTY);
    return RC_OK;
}

/* ---- one span ---- */

enum rc api_traces_span(struct api_call *call)
{
    struct id id;
    struct str trace;
    yyjson_doc *attributes;
    struct err ignored;
    if (read_trace_id(call, &trace) != RC_OK)
        return RC_NOT_FOUND;
    struct call_record *record = ARENA_NEW(call->arena, struct call_record);
    if (!record)
        return err_set(&call->err, ERR_OVERLOADED, "no memory for this record");
    enum rc rc = id_parse(call->params[1], "span", &id) == RC_OK
                     ? trace_get(call->services->trace, call->principal->project, id, call->arena,
                                 record, &call->err)
                     : RC_NOT_FOUND;
    bool found = rc == RC_OK && is_span(record) && memcmp(record->trace_id, trace.p, 16) == 0;
    if (rc == RC_NOT_FOUND || (rc == RC_OK && !found))
        return err_set(&call->err, ERR_NOT_FOUND, "there is no such span");
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    put_span(call, o, record);
    api_put_str(call, o, "input", record->request_body.n ? record->request_body : STR_EMPTY);
    api_put_str(call, o, "output", record->response_body.n ? record->response_body : STR_EMPTY);
    bool more = record->span_attributes.n > 0 &&
                json_read(record->span_attributes, call->arena, &attributes, &ignored) == RC_OK;
    yyjson_mut_obj_add_val(call->doc, o, "details",
                           more ? yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(attributes))
                                : yyjson_mut_obj(call->doc));
    return RC_OK;
}
