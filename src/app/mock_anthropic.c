/* The mock's Anthropic format: messages, whole and streamed, and token counting. Shapes after
 * Anthropic's API reference (Messages, streaming events, errors). */
#include "app/mock.h"
#include "text/json.h"

static void anthropic_error(struct json_writer *w, const struct mock_error *error, int status)
{
    json_begin_object(w);
    json_put_text(w, "type", "error");
    json_key(w, "error");
    json_begin_object(w);
    json_put_text(w, "type", error->anthropic_type);
    json_put_text(w, "message", error->message);
    json_end_object(w);
    json_put_text(w, "request_id", "req_mock");
    json_end_object(w);
}

static void anthropic_error_event(struct buf *out, const struct mock_error *error)
{
    struct json_writer w = mock_event_begin(out, "error");
    anthropic_error(&w, error, error->anthropic_status);
    mock_event_end(&w);
}

/* ---- the request ---- */

static yyjson_val *find_tool(yyjson_val *tools, struct str name)
{
    size_t i, count;
    yyjson_val *tool;
    yyjson_arr_foreach(tools, i, count, tool) if (name.n == 0 || str_eq(json_get_text(tool, "name"),
                                                                        name)) return tool;
    return NULL;
}

static size_t block_count(const struct mock_call *call)
{
    return (call->reasoning_count > 0) + (call->piece_count > 0) + (size_t)call->tool_calls;
}

static const char *messages_begin(struct mock_call *call)
{
    yyjson_val *choice = yyjson_obj_get(call->body, "tool_choice");
    struct str type = json_get_text(choice, "type");
    yyjson_val *tool =
        find_tool(yyjson_obj_get(call->body, "tools"), json_get_text(choice, "name"));
    if (str_eq(type, STR("none")))
        tool = NULL;
    bool required = str_eq(type, STR("any")) || str_eq(type, STR("tool"));
    yyjson_val *last = yyjson_arr_get_last(yyjson_obj_get(call->body, "messages"));
    struct str said = mock_content_text(yyjson_obj_get(last, "content"), call->arena);
    if (!yyjson_obj_get(call->body, "max_tokens"))
        return "max_tokens: Field required";
    call->choices = 1;
    call->include_usage = !call->script.no_usage;
    const char *wrong = mock_call_prepare(call, said, json_get_text(tool, "name"),
                                          yyjson_obj_get(tool, "input_schema"), required);
    if (wrong)
        return wrong;
    /* message_start, ping; per block start, deltas, stop (thinking: its signature too); the end. */
    call->event_count = 2 + block_count(call) * 2 + call->reasoning_count +
                        (call->reasoning_count > 0) + call->piece_count +
                        (size_t)call->tool_calls * call->argument_count + 2;
    return NULL;
}

/* ---- parts ---- */

static void put_usage(struct json_writer *w, const struct mock_call *call, bool at_start)
{
    uint64_t cached = (uint64_t)MAX(call->script.cached, 0);
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "input_tokens", call->input_tokens - MIN(cached, call->input_tokens));
    json_put_uint(w, "cache_creation_input_tokens", 0);
    json_put_uint(w, "cache_read_input_tokens", cached);
    json_put_uint(w, "output_tokens", at_start ? 1 : call->output_tokens);
    json_put_text(w, "service_tier", "standard");
    json_end_object(w);
}

static void put_head(struct json_writer *w, struct mock_call *call)
{
    json_put_string(w, "id", arena_printf(call->arena, "msg_%s", call->id));
    json_put_text(w, "type", "message");
    json_put_text(w, "role", "assistant");
    json_put_string(w, "model", call->model);
}

static void put_stop(struct json_writer *w, const struct mock_call *call)
{
    if (call->script.finish.n)
        json_put_string(w, "stop_reason", call->script.finish);
    else
        json_put_text(w, "stop_reason", call->tool_calls ? "tool_use" : "end_turn");
    json_put_null(w, "stop_sequence");
}

#define SIGNATURE "bW9jay1zaWduYXR1cmUtMTIzNDU2Nzg5MA=="

enum block_kind { BLOCK_THINKING, BLOCK_TEXT, BLOCK_TOOL };

static enum block_kind block_kind(const struct mock_call *call, size_t block)
{
    if (call->reasoning_count && block == 0)
        return BLOCK_THINKING;
    return call->tool_calls ? BLOCK_TOOL : BLOCK_TEXT;
}

/* A block as it stands in a whole answer, or empty as it begins in a stream. */
static void put_block(struct json_writer *w, struct mock_call *call, size_t block, bool whole)
{
    enum block_kind kind = block_kind(call, block);
    json_begin_object(w);
    if (kind == BLOCK_THINKING) {
        json_put_text(w, "type", "thinking");
        json_put_string(w, "thinking", whole ? mock_call_reasoning(call) : STR(""));
        json_put_text(w, "signature", whole ? SIGNATURE : "");
    } else if (kind == BLOCK_TEXT) {
        json_put_text(w, "type", "text");
        json_put_string(w, "text", whole ? call->text : STR(""));
    } else {
        json_put_text(w, "type", "tool_use");
        json_put_string(w, "id", arena_printf(call->arena, "toolu_%.16s%zu", call->id, block));
        json_put_string(w, "name", call->tool_name);
        json_put_raw(w, "input", whole ? call->arguments : STR("{}"));
    }
    json_end_object(w);
}

static void messages_whole(struct mock_call *call, struct json_writer *w)
{
    json_begin_object(w);
    put_head(w, call);
    json_key(w, "content");
    json_begin_array(w);
    for (size_t i = 0; i < block_count(call); i++)
        put_block(w, call, i, true);
    json_end_array(w);
    put_stop(w, call);
    if (call->include_usage)
        put_usage(w, call, false);
    json_end_object(w);
}

/* ---- streamed ---- */

static void message_start(struct mock_call *call, struct buf *out)
{
    struct json_writer w = mock_event_begin(out, "message_start");
    json_begin_object(&w);
    json_put_text(&w, "type", "message_start");
    json_key(&w, "message");
    json_begin_object(&w);
    put_head(&w, call);
    json_key(&w, "content");
    json_begin_array(&w);
    json_end_array(&w);
    json_put_null(&w, "stop_reason");
    json_put_null(&w, "stop_sequence");
    put_usage(&w, call, true);
    json_end_object(&w);
    json_end_object(&w);
    mock_event_end(&w);
}

static void message_delta(struct mock_call *call, struct buf *out)
{
    struct json_writer w = mock_event_begin(out, "message_delta");
    json_begin_object(&w);
    json_put_text(&w, "type", "message_delta");
    json_key(&w, "delta");
    json_begin_object(&w);
    put_stop(&w, call);
    json_end_object(&w);
    if (call->include_usage) {
        json_key(&w, "usage");
        json_begin_object(&w);
        json_put_uint(&w, "output_tokens", call->output_tokens);
        json_end_object(&w);
    }
    json_end_object(&w);
    mock_event_end(&w);
}

static void bare_event(struct buf *out, const char *name)
{
    struct json_writer w = mock_event_begin(out, name);
    json_begin_object(&w);
    json_put_text(&w, "type", name);
    json_end_object(&w);
    mock_event_end(&w);
}

static size_t delta_count(const struct mock_call *call, enum block_kind kind)
{
    return kind == BLOCK_THINKING ? call->reasoning_count + 1
           : kind == BLOCK_TEXT   ? call->piece_count
                                  : call->argument_count;
}

static void put_delta(struct json_writer *w, struct mock_call *call, enum block_kind kind,
                      size_t index)
{
    json_key(w, "delta");
    json_begin_object(w);
    if (kind == BLOCK_THINKING && index == call->reasoning_count) {
        json_put_text(w, "type", "signature_delta");
        json_put_text(w, "signature", SIGNATURE);
    } else if (kind == BLOCK_THINKING) {
        json_put_text(w, "type", "thinking_delta");
        json_put_string(w, "thinking", call->reasoning_pieces[index]);
    } else if (kind == BLOCK_TEXT) {
        json_put_text(w, "type", "text_delta");
        json_put_string(w, "text", call->pieces[index]);
    } else {
        json_put_text(w, "type", "input_json_delta");
        json_put_string(w, "partial_json", call->argument_pieces[index]);
    }
    json_end_object(w);
}

static void block_event(struct mock_call *call, size_t block, size_t step, struct buf *out)
{
    enum block_kind kind = block_kind(call, block);
    bool first = step == 0, last = step == delta_count(call, kind) + 1;
    const char *name = first  ? "content_block_start"
                       : last ? "content_block_stop"
                              : "content_block_delta";
    struct json_writer w = mock_event_begin(out, name);
    json_begin_object(&w);
    json_put_text(&w, "type", name);
    json_put_uint(&w, "index", block);
    if (first) {
        json_key(&w, "content_block");
        put_block(&w, call, block, false);
    } else if (!last) {
        put_delta(&w, call, kind, step - 1);
    }
    json_end_object(&w);
    mock_event_end(&w);
}

static void messages_event(struct mock_call *call, size_t index, struct buf *out)
{
    if (index == 0) {
        message_start(call, out);
        return;
    }
    if (index == 1) {
        bare_event(out, "ping");
        return;
    }
    index -= 2;
    for (size_t block = 0; block < block_count(call); block++) {
        size_t steps = delta_count(call, block_kind(call, block)) + 2;
        if (index < steps) {
            block_event(call, block, index, out);
            return;
        }
        index -= steps;
    }
    if (index == 0)
        message_delta(call, out);
    else
        bare_event(out, "message_stop");
}

const struct mock_format MOCK_MESSAGES = {
    .path = "/messages",
    .begin = messages_begin,
    .whole = messages_whole,
    .event = messages_event,
    .error = anthropic_error,
    .error_event = anthropic_error_event,
    .anthropic = true,
};

void mock_answer_count_tokens(struct http_request *request, yyjson_val *body, struct arena *arena)
{
    unsigned long long tokens = mock_input_tokens(body, arena);
    http_respond(request, 200, STR("application/json"),
                 arena_printf(arena, "{\"input_tokens\":%llu}", tokens));
}
