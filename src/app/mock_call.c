/* A call to the mock: what is answered, when, and what goes wrong on the way.
 *
 * A stream is driven by a timer where events have a delay, else written as far as the client takes
 * it. The call lives in the request's arena and ends with it. */
#include "app/mock.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/rand.h"
#include "base/utf8.h"
#include "text/json.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES    4     /* of a text that was given */
#define WRITE_BYTES    16384 /* events without delay are gathered up to this */
#define TOKENS_MAX     100000
#define TOOL_CALLS_MAX 16
#define TOO_LARGE      "the answer would be too large"

struct mock_stats mock_stats;

/* ---- what is answered ---- */

static const char *const words[] = {"The ", "quick ",  "brown ", "fox ",     "jumps ", "over ",
                                    "the ", "lazy ",   "dog, ",  "while ",   "seven ", "wizards ",
                                    "mix ", "liquid ", "jade ",  "tonight. "};

static struct str *make_words(struct arena *arena, size_t count)
{
    struct str *pieces = ARENA_NEW_ARRAY(arena, struct str, count ? count : 1);
    for (size_t i = 0; pieces && i < count; i++)
        pieces[i] = str_from(words[i % COUNT_OF(words)]);
    return pieces;
}

static struct str *cut_text(struct arena *arena, struct str text, size_t *count)
{
    struct str *pieces = ARENA_NEW_ARRAY(arena, struct str, text.n + 1);
    *count = 0;
    while (pieces && text.n) {
        size_t n = utf8_cut(text, PIECE_BYTES);
        if (n == 0)
            n = MIN(text.n, (size_t)PIECE_BYTES); /* not UTF-8 */
        pieces[(*count)++] = str_slice(text, 0, n);
        text = str_slice(text, n, text.n);
    }
    return pieces;
}

static struct str join(struct arena *arena, const struct str *pieces, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += pieces[i].n;
    char *p = arena_alloc(arena, n + 1);
    if (!p)
        return STR_EMPTY;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(p + at, pieces[i].p, pieces[i].n);
        at += pieces[i].n;
    }
    return str_make(p, n);
}

struct str mock_content_text(yyjson_val *content, struct arena *arena)
{
    if (!yyjson_is_arr(content))
        return json_text(content);
    struct str text = STR("");
    size_t i, count;
    yyjson_val *part;
    yyjson_arr_foreach(content, i, count, part) text =
        arena_concat(arena, text, json_get_text(part, "text"));
    return text;
}

static void sample_into(yyjson_val *schema, struct json_writer *w, int depth)
{
    yyjson_val *options = yyjson_obj_get(schema, "enum");
    yyjson_val *fixed = yyjson_obj_get(schema, "const");
    yyjson_val *type_value = yyjson_obj_get(schema, "type");
    if (yyjson_is_arr(type_value))
        type_value = yyjson_arr_get_first(type_value);
    struct str type = json_text(type_value);
    if (fixed || yyjson_arr_size(options)) {
        json_value(w, fixed ? fixed : yyjson_arr_get_first(options));
    } else if (depth > 8 || str_eq(type, STR("null"))) {
        json_null(w);
    } else if (str_eq(type, STR("string"))) {
        json_string(w, STR("sample"));
    } else if (str_eq(type, STR("integer")) || str_eq(type, STR("number"))) {
        json_int(w, json_get_int(schema, "minimum", 1));
    } else if (str_eq(type, STR("boolean"))) {
        json_bool(w, true);
    } else if (str_eq(type, STR("array"))) {
        json_begin_array(w);
        if (yyjson_obj_get(schema, "items"))
            sample_into(yyjson_obj_get(schema, "items"), w, depth + 1);
        json_end_array(w);
    } else {
        json_begin_object(w);
        size_t i, count;
        yyjson_val *name, *property;
        yyjson_obj_foreach(yyjson_obj_get(schema, "properties"), i, count, name, property)
        {
            json_key_str(w, json_text(name));
            sample_into(property, w, depth + 1);
        }
        json_end_object(w);
    }
}

struct str mock_sample(yyjson_val *schema, struct arena *arena)
{
    struct buf out;
    buf_init(&out, 64 * 1024);
    struct json_writer w = json_writer_to(&out);
    sample_into(schema, &w, 0);
    struct str text = w.rc == RC_OK ? arena_copy(arena, buf_str(&out)) : STR("{}");
    buf_fini(&out);
    return text;
}

/* The schema that the answer must fit, where the request names one: chat's response_format,
 * Responses' text.format, Anthropic's output_config.format. */
static yyjson_val *answer_schema(const struct mock_call *call)
{
    yyjson_val *format = yyjson_obj_get(call->body, "response_format");
    if (format && str_eq(json_get_text(format, "type"), STR("json_object")))
        return format; /* without properties: {} */
    if (format)
        return yyjson_obj_get(yyjson_obj_get(format, "json_schema"), "schema");
    format = yyjson_obj_get(yyjson_obj_get(call->body, "text"), "format");
    if (!format)
        format = yyjson_obj_get(yyjson_obj_get(call->body, "output_config"), "format");
    return yyjson_obj_get(format, "schema");
}

static bool prepare_text(struct mock_call *call, struct str last_message)
{
    struct mock_script *script = &call->script;
    yyjson_val *schema = answer_schema(call);
    struct str given = script->text.p ? script->text : STR_EMPTY;
    if (script->echo)
        given = last_message;
    else if (!given.p && schema)
        given = mock_sample(schema, call->arena);
    if (given.p) {
        call->pieces = cut_text(call->arena, given, &call->piece_count);
        call->text = given;
    } else {
        call->piece_count = (size_t)MIN(MAX(script->tokens, 0), TOKENS_MAX);
        call->pieces = make_words(call->arena, call->piece_count);
        call->text = call->pieces ? join(call->arena, call->pieces, call->piece_count) : STR_EMPTY;
    }
    return call->pieces && call->text.p;
}

uint64_t mock_input_tokens(yyjson_val *body, struct arena *arena)
{
    static const char *const names[] = {"messages",     "system", "input",
                                        "instructions", "prompt", "tools"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (yyjson_obj_get(body, names[i]))
            bytes += json_write(yyjson_obj_get(body, names[i]), arena).n;
    return (bytes + 3) / 4;
}

/* A client that keeps the conversation sends each round of calls back with its results. */
static bool has_called_enough(const struct mock_call *call)
{
    size_t i, n;
    yyjson_val *message;
    int64_t rounds = 0;
    yyjson_arr_foreach(yyjson_obj_get(call->body, "messages"), i, n, message) rounds +=
        yyjson_obj_get(message, "tool_calls") != NULL;
    return (call->script.tool_rounds >= 0 && rounds >= call->script.tool_rounds) ||
           str_eq(json_get_text(call->body, "tool_choice"), STR("none"));
}

const char *mock_call_prepare(struct mock_call *call, struct str last_message, struct str tool_name,
                              yyjson_val *tool_schema, bool tool_required)
{
    struct mock_script *script = &call->script;
    if (tool_name.n && (tool_required || (script->tools > 0 && !has_called_enough(call)))) {
        call->tool_calls = MIN(MAX(script->tools, 1), TOOL_CALLS_MAX);
        call->tool_name = tool_name;
        call->arguments =
            script->arguments.p ? script->arguments : mock_sample(tool_schema, call->arena);
        call->argument_pieces = cut_text(call->arena, call->arguments, &call->argument_count);
        call->text = STR("");
        if (!call->argument_pieces)
            return TOO_LARGE;
    } else if (!prepare_text(call, last_message)) {
        return TOO_LARGE;
    }
    call->reasoning_count = (size_t)MIN(MAX(script->reasoning, 0), TOKENS_MAX);
    call->reasoning_pieces = make_words(call->arena, call->reasoning_count);
    call->input_tokens = script->input_tokens >= 0 ? (uint64_t)script->input_tokens
                                                   : mock_input_tokens(call->body, call->arena);
    call->output_tokens =
        ((uint64_t)call->tool_calls * (call->argument_count + 3) + call->piece_count) *
            (uint64_t)call->choices +
        call->reasoning_count;
    return call->reasoning_pieces ? NULL : TOO_LARGE;
}

struct str mock_call_reasoning(const struct mock_call *call)
{
    return join(call->arena, call->reasoning_pieces, call->reasoning_count);
}

/* ---- events ---- */

struct json_writer mock_event_begin(struct buf *out, const char *name)
{
    struct json_writer w = json_writer_to(out);
    if (name) {
        json_append(&w, STR("event: "));
        json_append(&w, str_from(name));
        json_append(&w, STR("\n"));
    }
    json_append(&w, STR("data: "));
    return w;
}

void mock_event_end(struct json_writer *w) { json_append(w, STR("\n\n")); }

/* ---- answering ---- */

void mock_answer_json(struct http_request *request, int status, const struct buf *json)
{
    struct str body = arena_copy(request->arena, buf_str(json));
    http_respond(request, body.p ? status : 500, STR("application/json"), body);
}

static void answer_error(struct mock_call *call, const struct mock_error *error)
{
    const struct mock_script *script = &call->script;
    int status = call->format->anthropic ? error->anthropic_status : error->status;
    if (script->status)
        status = (int)MIN(MAX(script->status, 400), 599);
    if (script->retry_after >= 0)
        http_respond_header(call->request, STR("retry-after"),
                            arena_printf(call->arena, "%lld", (long long)script->retry_after));
    struct json_writer w = json_writer_to(&call->frame);
    call->format->error(&w, error, status);
    mock_answer_json(call->request, status, &call->frame);
}

static void answer_whole(struct mock_call *call)
{
    const struct mock_script *script = &call->script;
    struct json_writer w = json_writer_to(&call->frame);
    call->format->whole(call, &w);
    ASSERT(w.rc == RC_OK);
    struct str body = buf_str(&call->frame);
    if (script->malformed_at >= 0)
        body = str_slice(body, 0, body.n - 2);
    if (script->disconnect_at < 0 && script->stall_at < 0) {
        http_respond(call->request, 200, STR("application/json"), arena_copy(call->arena, body));
        return;
    }
    http_respond_begin(call->request, 200, STR("application/json"));
    http_respond_write(call->request, str_slice(body, 0, body.n / 2));
    if (script->disconnect_at >= 0)
        http_respond_abort(call->request);
}

/* Appends the event; false: the stream ends here, one way or another. */
static bool append_event(struct mock_call *call)
{
    const struct mock_script *script = &call->script;
    int64_t index = (int64_t)call->event;
    if (script->comments) {
        enum rc rc = buf_append(&call->frame, STR(": comment\n\n"));
        ASSERT(rc == RC_OK);
    }
    if (index == script->malformed_at) {
        enum rc rc = buf_append(&call->frame, STR("data: {\"id\":\"broken\",\"choices\":[{\n\n"));
        ASSERT(rc == RC_OK);
    } else if (index == script->error_at) {
        const struct mock_error *error = mock_error_of(script);
        struct mock_script plain = {.error = STR("overload")};
        call->format->error_event(&call->frame, error ? error : mock_error_of(&plain));
        call->event = call->event_count;
        return false;
    } else {
        call->format->event(call, call->event, &call->frame);
    }
    call->event++;
    atomic_fetch_add_explicit(&mock_stats.events, 1, memory_order_relaxed);
    return call->event < call->event_count;
}

/* Each LF becomes CR LF: what a parser must take as well. */
static struct str with_crlf(struct mock_call *call, struct str text)
{
    size_t lines = 0;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    char *out = arena_alloc(call->arena, text.n + lines);
    if (!out)
        return text;
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n')
            out[n++] = '\r';
        out[n++] = text.p[i];
    }
    return str_make(out, n);
}

static enum proceed write_frame(struct mock_call *call)
{
    struct str text = buf_str(&call->frame);
    if (text.n == 0)
        return PROCEED;
    if (call->script.crlf)
        text = with_crlf(call, text);
    enum proceed proceed = http_respond_write(call->request, text);
    buf_clear(&call->frame);
    return proceed;
}

/* Writes what may be written now. */
static void stream_step(struct mock_call *call)
{
    const struct mock_script *script = &call->script;
    bool paced = script->event_delay > 0;
    for (;;) {
        if ((int64_t)call->event == script->disconnect_at) {
            write_frame(call);
            http_respond_abort(call->request);
            return;
        }
        if ((int64_t)call->event == script->stall_at) {
            write_frame(call);
            return;
        }
        bool more = append_event(call);
        if (more && !paced && buf_len(&call->frame) < WRITE_BYTES)
            continue;
        enum proceed proceed = write_frame(call);
        if (!more) {
            http_respond_end(call->request);
            return;
        }
        call->stopped = proceed == STOP;
        if (call->stopped)
            return; /* `writable` goes on */
        if (paced) {
            timer_start(call->request->loop, &call->timer, script->event_delay);
            return;
        }
    }
}

static void stream_writable(struct http_request *request)
{
    struct mock_call *call = request->user;
    if (call->stopped)
        stream_step(call);
}

static void call_answer(struct mock_call *call)
{
    const struct mock_script *script = &call->script;
    const struct mock_error *error = mock_error_of(script);
    bool fails = error != NULL && script->error_at < 0;
    if (script->error_rate > 0) {
        struct mock_script server = {.error = STR("server")};
        fails = (int64_t)rand_below(1000) < script->error_rate;
        error = error ? error : mock_error_of(&server);
    }
    bool goes_wrong =
        script->fail_first <= 0 ||
        mock_is_among_first(script->id.n ? script->id : script->source, script->fail_first);
    if (goes_wrong && script->hang)
        return;
    if (goes_wrong && script->disconnect) {
        http_respond_abort(call->request);
        return;
    }
    if (goes_wrong && fails) {
        answer_error(call, error);
        return;
    }
    if (!call->stream) {
        answer_whole(call);
        return;
    }
    atomic_fetch_add_explicit(&mock_stats.streams, 1, memory_order_relaxed);
    call->request->writable = stream_writable;
    call->next = stream_step;
    http_respond_begin(call->request, 200, STR("text/event-stream; charset=utf-8"));
    stream_step(call);
}

static void timer_fire(struct timer *timer)
{
    struct mock_call *call = CONTAINER_OF(timer, struct mock_call, timer);
    call->next(call);
}

static void call_gone(struct http_request *request)
{
    struct mock_call *call = request->user;
    timer_stop(&call->timer);
    atomic_fetch_add_explicit(&mock_stats.cancelled, 1, memory_order_relaxed);
    atomic_store_explicit(&mock_stats.cancelled_at_ns, clock_wall_ns(), memory_order_relaxed);
}

static void call_ended(struct http_request *request)
{
    struct mock_call *call = request->user;
    timer_stop(&call->timer);
    buf_fini(&call->frame);
    atomic_fetch_sub_explicit(&mock_stats.open, 1, memory_order_relaxed);
}

void mock_call_run(struct mock_call *call)
{
    struct http_request *request = call->request;
    call->created_s = loop_wall_ns(request->loop) / NS_PER_S;
    id_format(id_new(), "x", call->id);
    memmove(call->id, call->id + 2, strlen(call->id + 2) + 1); /* formats have their own prefix */
    buf_init(&call->frame, LIMIT_RESPONSE_BYTES);
    timer_init(&call->timer, timer_fire);
    request->user = call;
    request->gone = call_gone;
    request->ended = call_ended;
    atomic_fetch_add_explicit(&mock_stats.open, 1, memory_order_relaxed);
    int64_t latency_ns = call->script.latency;
    if (call->script.jitter > 0)
        latency_ns += (int64_t)rand_below((uint64_t)call->script.jitter);
    call->next = call_answer;
    if (latency_ns > 0)
        timer_start(request->loop, &call->timer, latency_ns);
    else
        call_answer(call);
}

/* ---- fail_first ---- */

#define COUNTERS_MAX 4096

bool mock_is_among_first(struct str name, int64_t n)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct {
        uint64_t hash;
        int64_t seen;
    } counters[COUNTERS_MAX];
    static size_t used;
    uint64_t hash = str_hash(name);
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < used && counters[i].hash != hash)
        i++;
    if (i == used && used < COUNTERS_MAX)
        counters[used++].hash = hash;
    bool among = i < used && counters[i].seen++ < n;
    pthread_mutex_unlock(&lock);
    return among;
}
