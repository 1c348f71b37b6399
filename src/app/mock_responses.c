/* The mock's OpenAI Responses format, whole and streamed, without stored state. Shapes after
 * OpenAI's published OpenAPI document. An answer is one output item: a message, or function calls.
 */
#include "app/mock.h"
#include "text/json.h"

static void responses_error_event(struct buf *out, const struct mock_error *error)
{
    struct json_writer w = mock_event_begin(out, "error");
    json_begin_object(&w);
    json_put_text(&w, "type", "error");
    json_put_text(&w, "code", error->openai_code);
    json_put_text(&w, "message", error->message);
    json_put_null(&w, "param");
    json_put_int(&w, "sequence_number", 0);
    json_end_object(&w);
    mock_event_end(&w);
}

static struct str last_input(struct mock_call *call)
{
    yyjson_val *input = yyjson_obj_get(call->body, "input");
    if (yyjson_is_str(input))
        return json_text(input);
    yyjson_val *last = yyjson_arr_get_last(input);
    return mock_content_text(yyjson_obj_get(last, "content"), call->arena);
}

static yyjson_val *find_tool(yyjson_val *tools, struct str name)
{
    size_t i, count;
    yyjson_val *tool;
    yyjson_arr_foreach(
        tools, i, count,
        tool) if (str_eq(json_get_text(tool, "type"), STR("function")) &&
                  (name.n == 0 || str_eq(json_get_text(tool, "name"), name))) return tool;
    return NULL;
}

/* Per item: added, (part added), deltas, done, (part done), item done. */
static size_t item_events(const struct mock_call *call)
{
    return call->tool_calls ? call->argument_count + 3 : call->piece_count + 5;
}

static const char *responses_begin(struct mock_call *call)
{
    yyjson_val *choice = yyjson_obj_get(call->body, "tool_choice");
    bool none = str_eq(json_text(choice), STR("none"));
    bool required = yyjson_is_obj(choice) || str_eq(json_text(choice), STR("required"));
    yyjson_val *tool =
        none ? NULL : find_tool(yyjson_obj_get(call->body, "tools"), json_get_text(choice, "name"));
    call->choices = 1;
    const char *wrong = mock_call_prepare(call, last_input(call), json_get_text(tool, "name"),
                                          yyjson_obj_get(tool, "parameters"), required);
    if (wrong)
        return wrong;
    size_t items = call->tool_calls ? (size_t)call->tool_calls : 1;
    call->event_count = 2 + items * item_events(call) + 1; /* created, in_progress … completed */
    return NULL;
}

/* ---- the response object ---- */

static void put_item_id(struct json_writer *w, struct mock_call *call, const char *name,
                        size_t item)
{
    json_put_string(
        w, name,
        arena_printf(call->arena, "%s_%s%zu", call->tool_calls ? "fc" : "msg", call->id, item));
}

static void put_part(struct json_writer *w, struct str text)
{
    json_begin_object(w);
    json_put_text(w, "type", "output_text");
    json_put_string(w, "text", text);
    json_key(w, "annotations");
    json_begin_array(w);
    json_end_array(w);
    json_key(w, "logprobs");
    json_begin_array(w);
    json_end_array(w);
    json_end_object(w);
}

static void put_item(struct json_writer *w, struct mock_call *call, size_t item, bool done)
{
    json_begin_object(w);
    put_item_id(w, call, "id", item);
    json_put_text(w, "status", done ? "completed" : "in_progress");
    if (call->tool_calls) {
        json_put_text(w, "type", "function_call");
        json_put_string(w, "call_id", arena_printf(call->arena, "call_%.16s%zu", call->id, item));
        json_put_string(w, "name", call->tool_name);
        json_put_string(w, "arguments", done ? call->arguments : STR(""));
    } else {
        json_put_text(w, "type", "message");
        json_put_text(w, "role", "assistant");
        json_key(w, "content");
        json_begin_array(w);
        if (done)
            put_part(w, call->text);
        json_end_array(w);
    }
    json_end_object(w);
}

static void put_usage(struct json_writer *w, const struct mock_call *call)
{
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "input_tokens", call->input_tokens);
    json_key(w, "input_tokens_details");
    json_begin_object(w);
    json_put_int(w, "cached_tokens", call->script.cached);
    json_put_int(w, "cache_write_tokens", 0);
    json_end_object(w);
    json_put_uint(w, "output_tokens", call->output_tokens);
    json_key(w, "output_tokens_details");
    json_begin_object(w);
    json_put_uint(w, "reasoning_tokens", call->reasoning_count);
    json_end_object(w);
    json_put_uint(w, "total_tokens", call->input_tokens + call->output_tokens);
    json_end_object(w);
}

/* What the request said, or what the API answers where it said nothing. */
static void put_echoed(struct json_writer *w, struct mock_call *call, const char *name,
                       struct str otherwise)
{
    yyjson_val *value = yyjson_obj_get(call->body, name);
    if (value)
        json_put_value(w, name, value);
    else
        json_put_raw(w, name, otherwise);
}

static void put_response(struct json_writer *w, struct mock_call *call, bool done)
{
    json_begin_object(w);
    json_put_string(w, "id", arena_printf(call->arena, "resp_%s", call->id));
    json_put_text(w, "object", "response");
    json_put_int(w, "created_at", call->created_s);
    json_put_text(w, "status", done ? "completed" : "in_progress");
    json_put_null(w, "error");
    json_put_null(w, "incomplete_details");
    json_put_string(w, "model", call->model);
    json_key(w, "output");
    json_begin_array(w);
    size_t items = call->tool_calls ? (size_t)call->tool_calls : 1;
    for (size_t i = 0; done && i < items; i++)
        put_item(w, call, i, true);
    json_end_array(w);
    put_echoed(w, call, "instructions", STR("null"));
    put_echoed(w, call, "metadata", STR("{}"));
    put_echoed(w, call, "parallel_tool_calls", STR("true"));
    put_echoed(w, call, "temperature", STR("1"));
    put_echoed(w, call, "top_p", STR("1"));
    put_echoed(w, call, "tool_choice", STR("\"auto\""));
    put_echoed(w, call, "tools", STR("[]"));
    put_echoed(w, call, "text", STR("{\"format\":{\"type\":\"text\"}}"));
    put_echoed(w, call, "max_output_tokens", STR("null"));
    put_echoed(w, call, "previous_response_id", STR("null"));
    put_echoed(w, call, "store", STR("false"));
    put_echoed(w, call, "truncation", STR("\"disabled\""));
    if (done && !call->script.no_usage)
        put_usage(w, call);
    json_end_object(w);
}

static void responses_whole(struct mock_call *call, struct json_writer *w)
{
    put_response(w, call, true);
}

/* ---- streamed ---- */

static struct json_writer begin(struct buf *out, const char *type, size_t sequence)
{
    struct json_writer w = mock_event_begin(out, type);
    json_begin_object(&w);
    json_put_text(&w, "type", type);
    json_put_uint(&w, "sequence_number", sequence);
    return w;
}

static void end(struct json_writer *w)
{
    json_end_object(w);
    mock_event_end(w);
}

static void response_event(struct mock_call *call, const char *type, size_t sequence, bool done,
                           struct buf *out)
{
    struct json_writer w = begin(out, type, sequence);
    json_key(&w, "response");
    put_response(&w, call, done);
    end(&w);
}

static void item_event(struct mock_call *call, const char *type, size_t sequence, size_t item,
                       bool done, struct buf *out)
{
    struct json_writer w = begin(out, type, sequence);
    json_put_uint(&w, "output_index", item);
    json_key(&w, "item");
    put_item(&w, call, item, done);
    end(&w);
}

/* An event about a part of an item; `name` holds the text. */
static void part_event(struct mock_call *call, const char *type, size_t sequence, size_t item,
                       const char *name, struct str text, struct buf *out)
{
    struct json_writer w = begin(out, type, sequence);
    put_item_id(&w, call, "item_id", item);
    json_put_uint(&w, "output_index", item);
    if (!call->tool_calls)
        json_put_uint(&w, "content_index", 0);
    if (str_eq(str_from(name), STR("part"))) {
        json_key(&w, "part");
        put_part(&w, text);
    } else {
        json_put_string(&w, name, text);
        if (call->tool_calls && str_eq(str_from(name), STR("arguments")))
            json_put_string(&w, "name", call->tool_name);
        if (!call->tool_calls) {
            json_key(&w, "logprobs");
            json_begin_array(&w);
            json_end_array(&w);
        }
    }
    end(&w);
}

static void message_step(struct mock_call *call, size_t step, size_t sequence, struct buf *out)
{
    size_t pieces = call->piece_count;
    if (step == 0)
        item_event(call, "response.output_item.added", sequence, 0, false, out);
    else if (step == 1)
        part_event(call, "response.content_part.added", sequence, 0, "part", STR(""), out);
    else if (step < pieces + 2)
        part_event(call, "response.output_text.delta", sequence, 0, "delta", call->pieces[step - 2],
                   out);
    else if (step == pieces + 2)
        part_event(call, "response.output_text.done", sequence, 0, "text", call->text, out);
    else if (step == pieces + 3)
        part_event(call, "response.content_part.done", sequence, 0, "part", call->text, out);
    else
        item_event(call, "response.output_item.done", sequence, 0, true, out);
}

static void tool_step(struct mock_call *call, size_t item, size_t step, size_t sequence,
                      struct buf *out)
{
    size_t pieces = call->argument_count;
    if (step == 0)
        item_event(call, "response.output_item.added", sequence, item, false, out);
    else if (step < pieces + 1)
        part_event(call, "response.function_call_arguments.delta", sequence, item, "delta",
                   call->argument_pieces[step - 1], out);
    else if (step == pieces + 1)
        part_event(call, "response.function_call_arguments.done", sequence, item, "arguments",
                   call->arguments, out);
    else
        item_event(call, "response.output_item.done", sequence, item, true, out);
}

static void responses_event(struct mock_call *call, size_t index, struct buf *out)
{
    if (index == 0)
        response_event(call, "response.created", index, false, out);
    else if (index == 1)
        response_event(call, "response.in_progress", index, false, out);
    else if (index + 1 == call->event_count)
        response_event(call, "response.completed", index, true, out);
    else if (call->tool_calls)
        tool_step(call, (index - 2) / item_events(call), (index - 2) % item_events(call), index,
                  out);
    else
        message_step(call, index - 2, index, out);
}

static void responses_error(struct json_writer *w, const struct mock_error *error, int status)
{
    MOCK_CHAT.error(w, error, status);
}

const struct mock_format MOCK_RESPONSES = {
    .path = "/responses",
    .begin = responses_begin,
    .whole = responses_whole,
    .event = responses_event,
    .error = responses_error,
    .error_event = responses_error_event,
};
