/* /api/calls: the record of calls as the console and the command line see it. */
#include "api/handlers.h"
#include "base/clock.h"
#include "job/event.h"
#include "trace/names.h"
#include "trace/trace.h"
#include <stdlib.h>

/* ---- filters from the query ---- */

static enum rc read_time(struct api_call *call, const char *name, int64_t *out)
{
    struct str value = api_query(call, name);
    if (value.n == 0 || clock_parse_iso(value, out) == RC_OK)
        return RC_OK;
    return err_set_field(&call->err, ERR_BAD_FIELD, name,
                         "'%s' must be a time such as 2026-11-23T10:00:00Z", name);
}

/* A decimal number in units of `scale`; stays untouched when absent. */
static enum rc read_scaled(struct api_call *call, const char *name, double scale, int64_t *out)
{
    struct str value = api_query(call, name);
    double number;
    if (value.n == 0)
        return RC_OK;
    if (str_to_double(value, &number) != RC_OK || number < 0 || number * scale > 9e18)
        return err_set_field(&call->err, ERR_BAD_FIELD, name, "'%s' must be a number from 0 up",
                             name);
    *out = (int64_t)(number * scale);
    return RC_OK;
}

static enum rc read_statuses(struct api_call *call, unsigned *mask)
{
    struct str rest = api_query(call, "status"), part;
    while (str_split(&rest, ',', &part)) {
        int status = 0;
        while (status < CALL_STATUS_COUNT && !str_eq(part, str_from(call_status_name(status))))
            status++;
        if (status == CALL_STATUS_COUNT)
            return err_set_field(&call->err, ERR_BAD_FIELD, "status",
                                 "'status' must be of ok, error, cancelled, refused, blocked");
        *mask |= 1u << status;
    }
    return RC_OK;
}

static enum rc read_filter(struct api_call *call, struct trace_filter *filter)
{
    trace_filter_init(filter);
    filter->model = api_query(call, "model");
    filter->provider = api_query(call, "provider");
    filter->route = api_query(call, "route");
    filter->prompt = api_query(call, "prompt");
    filter->user = api_query(call, "user");
    filter->session = api_query(call, "session");
    filter->text = api_query(call, "text");
    struct str tag = api_query(call, "tag");
    ssize_t equals = str_find_char(tag, '=');
    filter->tag_name = equals < 0 ? tag : str_slice(tag, 0, (size_t)equals);
    filter->tag_value = equals < 0 ? STR_EMPTY : str_slice(tag, (size_t)equals + 1, tag.n);
    struct str key = api_query(call, "key");
    if (key.n && id_parse(key, "key", &filter->key) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "key", "'key' must be a key's id (key_…)");
    enum rc rc = read_statuses(call, &filter->status_mask);
    if (rc == RC_OK)
        rc = read_time(call, "from", &filter->from_ns);
    if (rc == RC_OK)
        rc = read_time(call, "to", &filter->to_ns);
    if (rc == RC_OK)
        rc = read_scaled(call, "min_latency_ms", NS_PER_MS, &filter->latency_min_ns);
    if (rc == RC_OK)
        rc = read_scaled(call, "max_latency_ms", NS_PER_MS, &filter->latency_max_ns);
    if (rc == RC_OK)
        rc = read_scaled(call, "min_cost_usd", PICO_PER_DOLLAR, &filter->cost_min_pico);
    if (rc == RC_OK)
        rc = read_scaled(call, "max_cost_usd", PICO_PER_DOLLAR, &filter->cost_max_pico);
    return rc;
}

/* ---- encoding ---- */

static void put_tags(struct api_call *call, yyjson_mut_val *o, const struct call_record *record)
{
    yyjson_mut_val *tags = yyjson_mut_obj_add_obj(call->doc, o, "tags");
    for (size_t i = 0; i < record->tag_count; i++) {
        const struct call_tag *tag = &record->tags[i];
        yyjson_mut_obj_add(tags, yyjson_mut_strncpy(call->doc, tag->name.p, tag->name.n),
                           yyjson_mut_strncpy(call->doc, tag->value.p, tag->value.n));
    }
}

static void put_usage(struct api_call *call, yyjson_mut_val *o, const struct usage *usage)
{
    yyjson_mut_val *tokens = yyjson_mut_obj_add_obj(call->doc, o, "usage");
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        yyjson_mut_obj_add_uint(call->doc, tokens, usage_bucket_name(i), usage->tokens[i]);
    yyjson_mut_obj_add_uint(call->doc, tokens, "input_total", usage_input_total(usage));
    yyjson_mut_obj_add_uint(call->doc, tokens, "output_total", usage_output_total(usage));
    yyjson_mut_obj_add_bool(call->doc, tokens, "known", usage->known);
    yyjson_mut_obj_add_bool(call->doc, tokens, "estimated", usage->estimated);
}

/* What a row of the table needs; the whole record begins with the same. */
static void put_summary(struct api_call *call, yyjson_mut_val *o, const struct call_record *record)
{
    yyjson_mut_doc *doc = call->doc;
    api_put_id(call, o, "id", "call", record->id);
    api_put_time(call, o, "started_at", record->started_wall_ns);
    yyjson_mut_obj_add_str(doc, o, "door", call_door_name(record->door));
    yyjson_mut_obj_add_str(doc, o, "operation", call_operation_name(record->operation));
    yyjson_mut_obj_add_str(doc, o, "status", call_status_name(record->status));
    yyjson_mut_obj_add_int(doc, o, "http_status", record->http_status);
    api_put_str(call, o, "model_requested", record->model_requested);
    api_put_str(call, o, "route", record->route.n ? record->route : STR_EMPTY);
    api_put_str(call, o, "prompt", record->prompt.n ? record->prompt : STR_EMPTY);
    api_put_str(call, o, "provider", record->provider);
    api_put_str(call, o, "model", record->model);
    yyjson_mut_val *key = yyjson_mut_obj_add_obj(doc, o, "key");
    api_put_id(call, key, "id", "key", record->key);
    api_put_str(call, key, "name", record->key_name);
    api_put_str(call, o, "user", record->user.n ? record->user : STR_EMPTY);
    api_put_str(call, o, "session", record->session.n ? record->session : STR_EMPTY);
    put_tags(call, o, record);
    yyjson_mut_obj_add_bool(doc, o, "stream", record->stream);
    yyjson_mut_obj_add_str(doc, o, "cache", call_cache_name(record->cache));
    yyjson_mut_val *timings = yyjson_mut_obj_add_obj(doc, o, "timings_ms");
    api_put_ms(call, timings, "queue", record->queue_ns);
    api_put_ms(call, timings, "connect", record->connect_ns);
    api_put_ms(call, timings, "first_token", record->first_token_ns);
    api_put_ms(call, timings, "total", record->total_ns);
    put_usage(call, o, &record->usage);
    api_put_cost(call, o, "cost_usd", record->cost_pico);
    if (record->error == ERR_NONE) {
        yyjson_mut_obj_add_null(doc, o, "error");
    } else {
        yyjson_mut_val *error = yyjson_mut_obj_add_obj(doc, o, "error");
        yyjson_mut_obj_add_str(doc, error, "code", err_code_name(record->error));
        api_put_str(call, error, "message", record->error_message);
    }
}

static void put_hex(struct api_call *call, yyjson_mut_val *o, const char *key, const uint8_t *bytes,
                    size_t n)
{
    char text[33];
    bool zero = true;
    for (size_t i = 0; i < n; i++)
        zero = zero && bytes[i] == 0;
    hex_encode(bytes, n, text);
    api_put_str(call, o, key, zero ? STR_EMPTY : str_make(text, 2 * n));
}

static void put_cost_detail(struct api_call *call, yyjson_mut_val *o,
                            const struct call_record *record)
{
    yyjson_mut_val *detail = yyjson_mut_obj_add_arr(call->doc, o, "cost_detail");
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++) {
        uint64_t tokens = record->usage.tokens[i];
        if (tokens == 0)
            continue;
        int64_t price = record->bucket_price_pico[i];
        bool known = price != COST_UNKNOWN;
        yyjson_mut_val *line = yyjson_mut_arr_add_obj(call->doc, detail);
        yyjson_mut_obj_add_str(call->doc, line, "bucket", usage_bucket_name(i));
        yyjson_mut_obj_add_uint(call->doc, line, "tokens", tokens);
        api_put_cost(call, line, "price_usd_per_mtok",
                     known ? (__int128)price * 1000000 : COST_UNKNOWN);
        api_put_cost(call, line, "cost_usd", known ? (__int128)price * tokens : COST_UNKNOWN);
    }
}

static void put_attempts(struct api_call *call, yyjson_mut_val *o, const struct call_record *record)
{
    yyjson_mut_val *attempts = yyjson_mut_obj_add_arr(call->doc, o, "attempts");
    for (size_t i = 0; i < record->attempt_count; i++) {
        const struct call_attempt *attempt = &record->attempts[i];
        yyjson_mut_val *line = yyjson_mut_arr_add_obj(call->doc, attempts);
        api_put_str(call, line, "provider", attempt->provider);
        api_put_str(call, line, "model", attempt->model);
        api_put_ms(call, line, "started_ms", attempt->started_ns);
        api_put_ms(call, line, "duration_ms", attempt->duration_ns);
        yyjson_mut_obj_add_int(call->doc, line, "http_status", attempt->http_status);
        api_put_str(call, line, "error",
                    attempt->error ? str_from(err_code_name(attempt->error)) : STR_EMPTY);
        api_put_str(call, line, "reason", attempt->reason.n ? attempt->reason : STR_EMPTY);
    }
}

/* Stored JSON text as a value; text that is not JSON stays text. */
static void put_json(struct api_call *call, yyjson_mut_val *o, const char *key, struct str text)
{
    yyjson_doc *doc = text.n ? yyjson_read(text.p, text.n, 0) : NULL;
    if (doc) {
        yyjson_mut_obj_add_val(call->doc, o, key,
                               yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(doc)));
        yyjson_doc_free(doc);
    } else {
        api_put_str(call, o, key, text.n ? text : STR_EMPTY);
    }
}

static void put_record(struct api_call *call, const struct call_record *record)
{
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    put_summary(call, o, record);
    api_put_id(call, o, "project", "prj", record->project);
    put_hex(call, o, "trace_id", record->trace_id, sizeof(record->trace_id));
    put_hex(call, o, "span_id", record->span_id, sizeof(record->span_id));
    put_hex(call, o, "parent_id", record->parent_id, sizeof(record->parent_id));
    api_put_str(call, o, "response_model", record->response_model);
    api_put_str(call, o, "response_id", record->response_id);
    api_put_str(call, o, "finish_reason", record->finish_reason);
    put_cost_detail(call, o, record);
    put_attempts(call, o, record);
    put_json(call, o, "checks", record->checks.n ? record->checks : STR("[]"));
    yyjson_mut_obj_add_str(call->doc, o, "capture", capture_name(record->capture));
    yyjson_mut_val *request = yyjson_mut_obj_add_obj(call->doc, o, "request");
    put_json(call, request, "headers", record->request_headers);
    api_put_str(call, request, "body", record->request_body.n ? record->request_body : STR_EMPTY);
    yyjson_mut_obj_add_bool(call->doc, request, "cut", record->request_cut);
    yyjson_mut_val *response = yyjson_mut_obj_add_obj(call->doc, o, "response");
    api_put_str(call, response, "body",
                record->response_body.n ? record->response_body : STR_EMPTY);
    yyjson_mut_obj_add_bool(call->doc, response, "cut", record->response_cut);
    yyjson_mut_val *client = yyjson_mut_obj_add_obj(call->doc, o, "client");
    api_put_str(call, client, "ip", record->client_ip);
    api_put_str(call, client, "agent", record->client_agent);
}

void api_publish_call(struct event_bus *events, const struct call_record *record)
{
    struct api_call call = {.doc = yyjson_mut_doc_new(NULL)};
    yyjson_mut_val *o = yyjson_mut_obj(call.doc);
    put_summary(&call, o, record);
    yyjson_mut_doc_set_root(call.doc, o);
    size_t n;
    char *text = yyjson_mut_write(call.doc, 0, &n);
    if (text)
        event_publish(events, record->project, EVENT_CALL, str_make(text, n));
    free(text);
    yyjson_mut_doc_free(call.doc);
}

/* ---- handlers ---- */

enum rc api_calls_list(struct api_call *call)
{
    struct trace_filter filter;
    struct trace_page page;
    size_t limit;
    int64_t before;
    if (read_filter(call, &filter) != RC_OK || api_query_limit(call, &limit) != RC_OK ||
        api_query_i64(call, "cursor", 0, &before) != RC_OK)
        return RC_INVALID;
    enum rc rc = trace_list(call->services->trace, call->principal->project, &filter,
                            (uint64_t)before, limit, call->arena, &page, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < page.count; i++)
        put_summary(call, yyjson_mut_arr_add_obj(call->doc, items), &page.rows[i]->call);
    char cursor[24];
    int n = snprintf(cursor, sizeof(cursor), "%llu", (unsigned long long)page.next_seq);
    api_list_end(call, page.next_seq ? str_make(cursor, (size_t)n) : STR_EMPTY);
    yyjson_mut_obj_add_bool(call->doc, call->answer, "incomplete", page.incomplete);
    return RC_OK;
}

static enum rc read_call_id(struct api_call *call, struct id *id)
{
    if (id_parse(call->params[0], "call", id) == RC_OK)
        return RC_OK;
    return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not a call's id (call_…)",
                   STR_ARG(call->params[0]));
}

enum rc api_calls_get(struct api_call *call)
{
    struct id id;
    if (read_call_id(call, &id) != RC_OK)
        return RC_NOT_FOUND;
    struct call_record *record = ARENA_NEW(call->arena, struct call_record);
    if (!record)
        return err_set(&call->err, ERR_OVERLOADED, "no memory for this record");
    enum rc rc = trace_get(call->services->trace, call->principal->project, id, call->arena, record,
                           &call->err);
    if (rc == RC_OK && record->operation == OPERATION_SPAN)
        return err_set(&call->err, ERR_NOT_FOUND, "there is no such call");
    if (rc == RC_OK)
        put_record(call, record);
    return rc;
}

enum rc api_calls_delete(struct api_call *call)
{
    struct id id;
    if (read_call_id(call, &id) != RC_OK)
        return RC_NOT_FOUND;
    return trace_erase_call(call->services->trace, call->principal->project, id, &call->err);
}

/* Filters as of the list are refused, so that nobody erases more than was meant. */
enum rc api_calls_delete_of_user(struct api_call *call)
{
    struct str user = api_query(call, "user");
    uint64_t count;
    if (str_find_char(call->query, '&') >= 0)
        return err_set_field(&call->err, ERR_BAD_FIELD, "user",
                             "erasing takes ?user=NAME and nothing beside it");
    enum rc rc =
        trace_erase_user(call->services->trace, call->principal->project, user, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_uint(call->doc, call->answer, "erased", count);
    return RC_OK;
}

/* ---- statistics ---- */

static void put_quantiles(struct api_call *call, yyjson_mut_val *o, const char *key,
                          const struct trace_quantiles *quantiles)
{
    yyjson_mut_val *q = yyjson_mut_obj_add_obj(call->doc, o, key);
    api_put_ms(call, q, "p50", quantiles->p50_ns);
    api_put_ms(call, q, "p90", quantiles->p90_ns);
    api_put_ms(call, q, "p99", quantiles->p99_ns);
}

static void put_sums(struct api_call *call, yyjson_mut_val *o, const struct trace_sums *sums)
{
    struct usage usage;
    memcpy(usage.tokens, sums->tokens, sizeof(usage.tokens));
    yyjson_mut_obj_add_uint(call->doc, o, "calls", sums->calls);
    yyjson_mut_obj_add_uint(call->doc, o, "errors", sums->errors);
    yyjson_mut_val *statuses = yyjson_mut_obj_add_obj(call->doc, o, "by_status");
    for (int i = 0; i < CALL_STATUS_COUNT; i++)
        yyjson_mut_obj_add_uint(call->doc, statuses, call_status_name(i), sums->by_status[i]);
    yyjson_mut_obj_add_uint(call->doc, o, "calls_unpriced", sums->calls_unpriced);
    yyjson_mut_obj_add_uint(call->doc, o, "input_tokens", usage_input_total(&usage));
    yyjson_mut_obj_add_uint(call->doc, o, "output_tokens", usage_output_total(&usage));
    api_put_cost(call, o, "cost_usd", sums->cost_pico);
    put_quantiles(call, o, "latency_ms", &sums->latency);
    put_quantiles(call, o, "first_token_ms", &sums->first_token);
}

static enum rc read_group(struct api_call *call, enum trace_group *out)
{
    static const struct {
        const char *name;
        enum trace_group group;
    } names[] = {
        {"model", TRACE_GROUP_MODEL},   {"provider", TRACE_GROUP_PROVIDER},
        {"route", TRACE_GROUP_ROUTE},   {"key", TRACE_GROUP_KEY},
        {"user", TRACE_GROUP_USER},     {"status", TRACE_GROUP_STATUS},
        {"prompt", TRACE_GROUP_PROMPT},
    };
    struct str value = api_query(call, "group_by");
    *out = TRACE_GROUP_NONE;
    if (value.n == 0)
        return RC_OK;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(value, str_from(names[i].name))) {
            *out = names[i].group;
            return RC_OK;
        }
    return err_set_field(&call->err, ERR_BAD_FIELD, "group_by",
                         "'group_by' must be one of model, provider, route, key, user, status, "
                         "prompt");
}

/* Group and spend values are text, but for keys, whose 16 raw bytes become the typed id. */
static void put_group_name(struct api_call *call, yyjson_mut_val *o, struct str name, bool is_key)
{
    struct id id;
    if (is_key && name.n == sizeof(id.bytes)) {
        memcpy(id.bytes, name.p, sizeof(id.bytes));
        api_put_id(call, o, "name", "key", id);
    } else {
        api_put_str(call, o, "name", name.p ? name : STR(""));
    }
}

enum rc api_calls_stats(struct api_call *call)
{
    struct trace_stats_query query = {0};
    struct trace_stats stats;
    int64_t step_s;
    if (read_filter(call, &query.filter) != RC_OK || read_group(call, &query.group_by) != RC_OK ||
        api_query_i64(call, "step_s", 0, &step_s) != RC_OK)
        return RC_INVALID;
    if (step_s < 0 || step_s > 366 * 86400)
        return err_set_field(&call->err, ERR_BAD_FIELD, "step_s", "'step_s' must be 1 to 31622400");
    query.step_ns = step_s * NS_PER_S;
    enum rc rc = trace_stats(call->services->trace, call->principal->project, &query, call->arena,
                             &stats, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(call->doc);
    put_sums(call, yyjson_mut_obj_add_obj(call->doc, o, "totals"), &stats.totals);
    yyjson_mut_val *series = yyjson_mut_obj_add_arr(call->doc, o, "series");
    for (size_t i = 0; i < stats.series_count; i++) {
        yyjson_mut_val *point = yyjson_mut_arr_add_obj(call->doc, series);
        api_put_time(call, point, "at", stats.series[i].at_ns);
        put_sums(call, point, &stats.series[i].sums);
    }
    yyjson_mut_val *groups = yyjson_mut_obj_add_arr(call->doc, o, "groups");
    for (size_t i = 0; i < stats.group_count; i++) {
        yyjson_mut_val *group = yyjson_mut_arr_add_obj(call->doc, groups);
        put_group_name(call, group, stats.groups[i].name, query.group_by == TRACE_GROUP_KEY);
        put_sums(call, group, &stats.groups[i].sums);
    }
    return RC_OK;
}

/* ---- spend ---- */

static enum rc read_spend_by(struct api_call *call, enum spend_by *by, bool *per_day)
{
    static const char *const names[SPEND_BY_COUNT] = {"day",   "key",      "user", "tag",
                                                      "model", "provider", "route"};
    struct str value = api_query(call, "by");
    if (value.n == 0)
        value = STR("day");
    for (int i = 0; i < SPEND_BY_COUNT; i++)
        if (str_eq(value, str_from(names[i]))) {
            *by = (enum spend_by)i;
            *per_day = i == SPEND_BY_PROJECT || str_eq(api_query(call, "per"), STR("day"));
            return RC_OK;
        }
    return err_set_field(&call->err, ERR_BAD_FIELD, "by",
                         "'by' must be one of day, key, user, tag, model, provider, route");
}

enum rc api_spend_list(struct api_call *call)
{
    enum spend_by by = SPEND_BY_PROJECT;
    bool per_day = true;
    int64_t to_ns = clock_wall_ns(), from_ns = to_ns - 30 * NS_PER_DAY;
    if (read_spend_by(call, &by, &per_day) != RC_OK || read_time(call, "from", &from_ns) != RC_OK ||
        read_time(call, "to", &to_ns) != RC_OK)
        return RC_INVALID;
    struct spend_entry *entries;
    size_t count;
    enum rc rc = trace_spend_list(call->services->trace, call->principal->project, by, per_day,
                                  (int32_t)(from_ns / NS_PER_DAY), (int32_t)(to_ns / NS_PER_DAY),
                                  call->arena, &entries, &count);
    if (rc != RC_OK)
        return err_set(&call->err, ERR_OVERLOADED, "too many rows: narrow 'from' and 'to'");
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++) {
        const struct spend_entry *entry = &entries[i];
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        put_group_name(call, o, entry->value, by == SPEND_BY_KEY);
        api_put_time(call, o, "day", per_day ? entry->day * NS_PER_DAY : 0);
        yyjson_mut_obj_add_uint(call->doc, o, "calls", entry->sum.calls);
        yyjson_mut_obj_add_uint(call->doc, o, "calls_unpriced", entry->sum.calls_unpriced);
        yyjson_mut_obj_add_uint(call->doc, o, "input_tokens", entry->sum.tokens_in);
        yyjson_mut_obj_add_uint(call->doc, o, "output_tokens", entry->sum.tokens_out);
        api_put_cost(call, o, "cost_usd", entry->sum.cost_pico);
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}
