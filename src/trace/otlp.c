/* OTLP's spans as records: see otlp.h. What attributes mean is a table of names, the most telling
 * first; what has no column stays in the attributes. */
#include "trace/otlp.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/limits.h"
#include "text/json_tree.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define ATTRIBUTES_BYTES_MAX (64u * 1024)
#define VALUE_DEPTH_MAX      16

/* What one span says, gathered from its attributes. */
struct reading {
    struct arena *arena;
    struct buf buf; /* of JSON texts, used again by each span */
    yyjson_val *resource;
    yyjson_val *scope;
    struct call_record record;
    int64_t tokens_in, tokens_out; /* -1: not said */
    double cost_usd;               /* -1: not said */
    struct call_tag tags[LIMIT_TAGS];
};

enum meaning {
    MEANING_KIND,
    MEANING_USER,
    MEANING_SESSION,
    MEANING_MODEL,
    MEANING_MODEL_REQUESTED,
    MEANING_PROVIDER,
    MEANING_PROMPT,
    MEANING_TOKENS_IN,
    MEANING_TOKENS_OUT,
    MEANING_COST,
    MEANING_INPUT,
    MEANING_OUTPUT,
    MEANING_USAGE_DETAILS, /* Langfuse: JSON {"input", "output"} */
    MEANING_COST_DETAILS,  /* Langfuse: JSON {"total"} */
    MEANING_ERROR,
    MEANING_TAGS,
};

/* OpenTelemetry GenAI: gen_ai.*; Langfuse: langfuse.*; OpenInference: llm.*, input.value. */
static const struct {
    const char *name;
    enum meaning meaning;
} meanings[] = {
    {"langfuse.observation.type", MEANING_KIND},
    {"openinference.span.kind", MEANING_KIND},
    {"gen_ai.operation.name", MEANING_KIND},
    {"user.id", MEANING_USER},
    {"langfuse.user.id", MEANING_USER},
    {"enduser.id", MEANING_USER},
    {"session.id", MEANING_SESSION},
    {"langfuse.session.id", MEANING_SESSION},
    {"gen_ai.conversation.id", MEANING_SESSION},
    {"gen_ai.response.model", MEANING_MODEL},
    {"langfuse.observation.model.name", MEANING_MODEL},
    {"llm.model_name", MEANING_MODEL},
    {"gen_ai.request.model", MEANING_MODEL_REQUESTED},
    {"gen_ai.provider.name", MEANING_PROVIDER},
    {"gen_ai.system", MEANING_PROVIDER},
    {"langfuse.observation.prompt.name", MEANING_PROMPT},
    {"gen_ai.usage.input_tokens", MEANING_TOKENS_IN},
    {"gen_ai.usage.prompt_tokens", MEANING_TOKENS_IN},
    {"llm.token_count.prompt", MEANING_TOKENS_IN},
    {"gen_ai.usage.output_tokens", MEANING_TOKENS_OUT},
    {"gen_ai.usage.completion_tokens", MEANING_TOKENS_OUT},
    {"llm.token_count.completion", MEANING_TOKENS_OUT},
    {"gen_ai.usage.cost", MEANING_COST},
    {"langfuse.observation.input", MEANING_INPUT},
    {"input.value", MEANING_INPUT},
    {"gen_ai.input.messages", MEANING_INPUT},
    {"langfuse.observation.output", MEANING_OUTPUT},
    {"output.value", MEANING_OUTPUT},
    {"gen_ai.output.messages", MEANING_OUTPUT},
    {"langfuse.observation.usage_details", MEANING_USAGE_DETAILS},
    {"langfuse.observation.cost_details", MEANING_COST_DETAILS},
    {"langfuse.observation.status_message", MEANING_ERROR},
    {"langfuse.trace.tags", MEANING_TAGS},
};

/* ---- values ---- */

/* An integer of protobuf's JSON: a number, or its digits in a string. */
static bool read_integer(yyjson_val *value, int64_t *out)
{
    if (yyjson_is_uint(value) && yyjson_get_uint(value) > INT64_MAX)
        return false;
    if (yyjson_is_int(value)) {
        *out = yyjson_get_sint(value);
        return true;
    }
    return yyjson_is_str(value) && str_to_i64(json_text(value), out) == RC_OK;
}

/* AnyValue as the JSON value that it means. */
static void put_value(struct json_writer *w, yyjson_val *any, int depth)
{
    yyjson_val *value, *item;
    size_t i, n;
    int64_t number;
    if ((value = yyjson_obj_get(any, "stringValue"))) {
        json_string(w, json_text(value));
    } else if ((value = yyjson_obj_get(any, "boolValue"))) {
        json_bool(w, yyjson_get_bool(value));
    } else if ((value = yyjson_obj_get(any, "intValue")) && read_integer(value, &number)) {
        json_int(w, number);
    } else if ((value = yyjson_obj_get(any, "doubleValue")) && yyjson_is_num(value)) {
        json_double(w, yyjson_get_num(value));
    } else if ((value = yyjson_obj_get(any, "bytesValue"))) {
        json_string(w, json_text(value));
    } else if ((value = yyjson_obj_get(any, "arrayValue")) && depth < VALUE_DEPTH_MAX) {
        json_begin_array(w);
        yyjson_arr_foreach(yyjson_obj_get(value, "values"), i, n, item)
            put_value(w, item, depth + 1);
        json_end_array(w);
    } else if ((value = yyjson_obj_get(any, "kvlistValue")) && depth < VALUE_DEPTH_MAX) {
        json_begin_object(w);
        yyjson_arr_foreach(yyjson_obj_get(value, "values"), i, n, item)
        {
            json_key_str(w, json_get_text(item, "key"));
            put_value(w, yyjson_obj_get(item, "value"), depth + 1);
        }
        json_end_object(w);
    } else {
        json_null(w);
    }
}

/* A text as it is, anything else as JSON. */
static struct str value_text(struct reading *r, yyjson_val *any)
{
    yyjson_val *text = yyjson_obj_get(any, "stringValue");
    if (text)
        return json_text(text);
    buf_clear(&r->buf);
    struct json_writer w = json_writer_to(&r->buf);
    put_value(&w, any, 0);
    return w.rc == RC_OK ? arena_copy(r->arena, buf_str(&r->buf)) : STR_EMPTY;
}

static double value_number(yyjson_val *any)
{
    double number;
    int64_t integer;
    yyjson_val *value = yyjson_obj_get(any, "doubleValue");
    if (yyjson_is_num(value))
        return yyjson_get_num(value);
    value = yyjson_obj_get(any, "intValue");
    if (value && read_integer(value, &integer))
        return (double)integer;
    value = yyjson_obj_get(any, "stringValue");
    return value && str_to_double(json_text(value), &number) == RC_OK ? number : -1;
}

/* ---- what attributes mean ---- */

static int64_t to_tokens(double number)
{
    return number >= 0 && number < 1e15 ? (int64_t)number : -1;
}

static void read_details(struct reading *r, yyjson_val *any, enum meaning meaning)
{
    struct err err;
    yyjson_doc *doc;
    struct str text = json_get_text(any, "stringValue");
    if (text.n == 0 || json_read(text, r->arena, &doc, &err) != RC_OK)
        return;
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (meaning == MEANING_COST_DETAILS) {
        r->cost_usd = json_get_double(root, "total", r->cost_usd);
        return;
    }
    double in = json_get_double(root, "input", json_get_double(root, "prompt_tokens", -1));
    double out = json_get_double(root, "output", json_get_double(root, "completion_tokens", -1));
    r->tokens_in = in >= 0 ? to_tokens(in) : r->tokens_in;
    r->tokens_out = out >= 0 ? to_tokens(out) : r->tokens_out;
}

static void read_tags(struct reading *r, yyjson_val *any)
{
    yyjson_val *item;
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(yyjson_obj_get(any, "arrayValue"), "values"), i, n, item)
    {
        struct str name = json_get_text(item, "stringValue");
        if (name.n > 0 && r->record.tag_count < LIMIT_TAGS)
            r->tags[r->record.tag_count++] = (struct call_tag){.name = name};
    }
}

static struct str *text_of(struct reading *r, enum meaning meaning)
{
    switch (meaning) {
    case MEANING_KIND: return &r->record.span_kind;
    case MEANING_USER: return &r->record.user;
    case MEANING_SESSION: return &r->record.session;
    case MEANING_MODEL: return &r->record.model;
    case MEANING_MODEL_REQUESTED: return &r->record.model_requested;
    case MEANING_PROVIDER: return &r->record.provider;
    case MEANING_PROMPT: return &r->record.prompt;
    case MEANING_INPUT: return &r->record.request_body;
    case MEANING_OUTPUT: return &r->record.response_body;
    case MEANING_ERROR: return &r->record.error_message;
    default: return NULL;
    }
}

static void apply_meaning(struct reading *r, enum meaning meaning, yyjson_val *any)
{
    struct str *text = text_of(r, meaning);
    if (text) {
        if (text->n == 0)
            *text = value_text(r, any);
        return;
    }
    switch (meaning) {
    case MEANING_TOKENS_IN:
        r->tokens_in = r->tokens_in < 0 ? to_tokens(value_number(any)) : r->tokens_in;
        break;
    case MEANING_TOKENS_OUT:
        r->tokens_out = r->tokens_out < 0 ? to_tokens(value_number(any)) : r->tokens_out;
        break;
    case MEANING_COST: r->cost_usd = value_number(any); break;
    case MEANING_USAGE_DETAILS:
    case MEANING_COST_DETAILS: read_details(r, any, meaning); break;
    case MEANING_TAGS: read_tags(r, any); break;
    default: break;
    }
}

/* Whether the attribute's value lies elsewhere in the record whole: it is not stored twice. */
static bool is_body(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(meanings); i++)
        if ((meanings[i].meaning == MEANING_INPUT || meanings[i].meaning == MEANING_OUTPUT) &&
            str_eq(name, str_from(meanings[i].name)))
            return true;
    return false;
}

static void read_attributes(struct reading *r, yyjson_val *attributes)
{
    for (size_t m = 0; m < COUNT_OF(meanings); m++) {
        yyjson_val *item;
        size_t i, n;
        yyjson_arr_foreach(attributes, i, n, item)
        {
            if (str_eq(json_get_text(item, "key"), str_from(meanings[m].name)))
                apply_meaning(r, meanings[m].meaning, yyjson_obj_get(item, "value"));
        }
    }
}

static void put_attributes(struct json_writer *w, const char *name, yyjson_val *attributes)
{
    yyjson_val *item;
    size_t i, n;
    json_key(w, name);
    json_begin_object(w);
    yyjson_arr_foreach(attributes, i, n, item)
    {
        struct str key = json_get_text(item, "key");
        if (key.n == 0 || is_body(key))
            continue;
        json_key_str(w, key);
        put_value(w, yyjson_obj_get(item, "value"), 0);
    }
    json_end_object(w);
}

static void put_events(struct json_writer *w, yyjson_val *events)
{
    yyjson_val *event;
    size_t i, n;
    json_key(w, "events");
    json_begin_array(w);
    yyjson_arr_foreach(events, i, n, event)
    {
        int64_t at = 0;
        bool timed = read_integer(yyjson_obj_get(event, "timeUnixNano"), &at);
        json_begin_object(w);
        json_put_string(w, "name", json_get_text(event, "name"));
        json_put_int(w, "at_ns", timed ? at : 0);
        put_attributes(w, "attributes", yyjson_obj_get(event, "attributes"));
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_links(struct json_writer *w, yyjson_val *links)
{
    yyjson_val *link;
    size_t i, n;
    json_key(w, "links");
    json_begin_array(w);
    yyjson_arr_foreach(links, i, n, link)
    {
        json_begin_object(w);
        json_put_string(w, "trace_id", json_get_text(link, "traceId"));
        json_put_string(w, "span_id", json_get_text(link, "spanId"));
        json_end_object(w);
    }
    json_end_array(w);
}

/* All that has no column. What is larger than is kept is left out, and says so. */
static struct str attributes_text(struct reading *r, yyjson_val *span)
{
    buf_clear(&r->buf);
    struct json_writer w = json_writer_to(&r->buf);
    json_begin_object(&w);
    put_attributes(&w, "attributes", yyjson_obj_get(span, "attributes"));
    put_attributes(&w, "resource", yyjson_obj_get(r->resource, "attributes"));
    json_put_string(&w, "scope", json_get_text(r->scope, "name"));
    put_events(&w, yyjson_obj_get(span, "events"));
    put_links(&w, yyjson_obj_get(span, "links"));
    json_end_object(&w);
    if (w.rc != RC_OK || buf_len(&r->buf) > ATTRIBUTES_BYTES_MAX)
        return STR("{\"cut\":true}");
    return arena_copy(r->arena, buf_str(&r->buf));
}

/* ---- spans ---- */

static struct str kind_name(yyjson_val *kind)
{
    static const char *const names[] = {"span", "span", "server", "client", "producer", "consumer"};
    int64_t number = json_integer(kind, 0);
    return str_from(number >= 0 && number < (int64_t)COUNT_OF(names) ? names[number] : "span");
}

static bool read_hex_id(yyjson_val *span, const char *name, uint8_t *out, size_t n)
{
    struct str text = json_get_text(span, name);
    if (text.n != 2 * n || hex_decode(text, out, n) != RC_OK)
        return false;
    for (size_t i = 0; i < n; i++)
        if (out[i])
            return true;
    return false;
}

static void read_status(struct reading *r, yyjson_val *span)
{
    yyjson_val *status = yyjson_obj_get(span, "status"), *code = yyjson_obj_get(status, "code");
    bool failed = json_integer(code, 0) == 2 || str_eq(json_text(code), STR("STATUS_CODE_ERROR"));
    struct str message = json_get_text(status, "message");
    r->record.status = failed ? CALL_ERROR : CALL_OK;
    if (message.n > 0)
        r->record.error_message = message;
    if (!failed)
        r->record.error_message = STR_EMPTY;
}

static void finish_record(struct reading *r, yyjson_val *span)
{
    struct call_record *record = &r->record;
    read_status(r, span);
    if (record->span_kind.n == 0)
        record->span_kind = kind_name(yyjson_obj_get(span, "kind"));
    if (record->model.n == 0)
        record->model = record->model_requested;
    record->usage.known = r->tokens_in >= 0 || r->tokens_out >= 0;
    record->usage.tokens[USAGE_INPUT] = (uint64_t)MAX(r->tokens_in, 0);
    record->usage.tokens[USAGE_OUTPUT] = (uint64_t)MAX(r->tokens_out, 0);
    bool priced = r->cost_usd >= 0 && r->cost_usd < 1e6;
    record->cost_pico = priced ? (int64_t)(r->cost_usd * PICO_PER_DOLLAR) : COST_UNKNOWN;
    record->request_cut = record->request_body.n > LIMIT_CAPTURE_BYTES;
    record->response_cut = record->response_body.n > LIMIT_CAPTURE_BYTES;
    record->tags = r->tags;
    record->span_attributes = attributes_text(r, span);
}

/* NULL: the span is in `r->record`; else why it is refused. */
static const char *read_span(struct reading *r, yyjson_val *span)
{
    struct call_record *record = &r->record;
    int64_t start, end;
    *record = (struct call_record){.door = DOOR_INTERNAL,
                                   .operation = OPERATION_SPAN,
                                   .queue_ns = -1,
                                   .connect_ns = -1,
                                   .first_token_ns = -1};
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        record->bucket_price_pico[i] = COST_UNKNOWN;
    r->tokens_in = r->tokens_out = -1;
    r->cost_usd = -1;
    if (!read_hex_id(span, "traceId", record->trace_id, 16) ||
        !read_hex_id(span, "spanId", record->span_id, 8))
        return "a span needs a trace id of 16 bytes and a span id of 8, not zero";
    if (!read_hex_id(span, "parentSpanId", record->parent_id, 8))
        memset(record->parent_id, 0, 8);
    if (!read_integer(yyjson_obj_get(span, "startTimeUnixNano"), &start) ||
        !read_integer(yyjson_obj_get(span, "endTimeUnixNano"), &end) || start <= 0 || end < start)
        return "a span needs a start and an end that is not before it";
    record->id = id_new();
    record->started_wall_ns = start;
    record->total_ns = end - start;
    record->span_name = json_get_text(span, "name");
    read_attributes(r, yyjson_obj_get(span, "attributes"));
    finish_record(r, span);
    return NULL;
}

static void read_scope(struct reading *r, yyjson_val *spans,
                       void (*each)(void *arg, struct call_record *record), void *arg,
                       struct otlp_result *result)
{
    yyjson_val *span;
    size_t i, n;
    yyjson_arr_foreach(spans, i, n, span)
    {
        const char *refused = result->accepted < OTLP_SPANS_MAX
                                  ? read_span(r, span)
                                  : "more spans than one request may carry";
        if (refused) {
            result->rejected++;
            result->reason = refused;
            continue;
        }
        result->accepted++;
        each(arg, &r->record);
    }
}

enum rc otlp_read(yyjson_val *message, struct arena *arena,
                  void (*each)(void *arg, struct call_record *record), void *arg,
                  struct otlp_result *result, struct err *err)
{
    yyjson_val *group, *scope, *groups = yyjson_obj_get(message, "resourceSpans");
    size_t i, j, n, m;
    *result = (struct otlp_result){0};
    if (groups && !yyjson_is_arr(groups))
        return err_set_field(err, ERR_BAD_FIELD, "resourceSpans", "resourceSpans must be a list");
    struct reading *r = xcalloc(1, sizeof(*r));
    r->arena = arena;
    buf_init(&r->buf, (size_t)4 * LIMIT_CAPTURE_BYTES);
    yyjson_arr_foreach(groups, i, n, group)
    {
        r->resource = yyjson_obj_get(group, "resource");
        yyjson_arr_foreach(yyjson_obj_get(group, "scopeSpans"), j, m, scope)
        {
            r->scope = yyjson_obj_get(scope, "scope");
            read_scope(r, yyjson_obj_get(scope, "spans"), each, arg, result);
        }
    }
    buf_fini(&r->buf);
    free(r);
    return RC_OK;
}
