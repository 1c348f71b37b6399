/* OpenAI Responses: answers of upstreams. */
#include "gateway/provider/openai_responses.h"
#include "gateway/wire_internal.h"

#define ITEMS_MAX 4096

/* An output item's part: a message's content, a call, or reasoning (content -1). */
struct read_part {
    int64_t output, content;
    enum part_kind kind;
    bool ended, has_text;
};

struct read_state {
    struct read_part *parts;
    size_t part_count, capacity;
    bool started, called_tools;
};

static struct read_state *state_of(struct event_reader *reader)
{
    if (!reader->state)
        reader->state = ARENA_NEW(reader->arena, struct read_state);
    return reader->state;
}

/* The number of the part, or -1. */
static int find_part(const struct read_state *state, int64_t output, int64_t content)
{
    for (size_t i = state->part_count; i-- > 0;)
        if (state->parts[i].output == output && (content < 0 || state->parts[i].content == content))
            return (int)i;
    return -1;
}

static enum rc begin_part(struct event_reader *reader, struct read_part part, struct str id,
                          struct str name, bool custom)
{
    struct read_state *state = reader->state;
    if (state->part_count == ITEMS_MAX)
        return format_protocol_error(reader, "has more parts than can be followed");
    if (state->part_count == state->capacity) {
        size_t wanted = state->capacity ? state->capacity * 2 : 8;
        struct read_part *parts = ARENA_NEW_ARRAY(reader->arena, struct read_part, wanted);
        if (!parts)
            return format_out_of_memory(reader->err);
        if (state->part_count)
            memcpy(parts, state->parts, state->part_count * sizeof(*parts));
        state->parts = parts;
        state->capacity = wanted;
    }
    state->parts[state->part_count] = part;
    struct event event = {.kind = EVENT_PART_BEGIN,
                          .part = (int)state->part_count++,
                          .part_kind = part.kind,
                          .id = id,
                          .name = name,
                          .custom = custom};
    return reader->emit(reader->arg, &event);
}

static enum rc add_text(struct event_reader *reader, int part, struct str text, struct str logprobs)
{
    struct read_state *state = reader->state;
    if (part < 0 || (!text.n && !logprobs.n))
        return RC_OK;
    state->parts[part].has_text = true;
    return format_delta(reader, 0, part, state->parts[part].kind, text, logprobs);
}

static enum rc end_part(struct event_reader *reader, int part)
{
    struct read_state *state = reader->state;
    if (part < 0 || state->parts[part].ended)
        return RC_OK;
    state->parts[part].ended = true;
    return format_end(reader, 0, part, state->parts[part].kind);
}

static bool is_call(struct str type)
{
    return str_eq(type, STR("function_call")) || str_eq(type, STR("custom_tool_call"));
}

static enum rc read_item_added(struct event_reader *reader, int64_t output, yyjson_val *item)
{
    struct read_state *state = reader->state;
    struct str type = json_get_text(item, "type");
    struct read_part part = {.output = output, .content = -1, .kind = PART_REASONING};
    if (str_eq(type, STR("reasoning")))
        return begin_part(reader, part, STR_EMPTY, STR_EMPTY, false);
    if (!is_call(type))
        return RC_OK;
    state->called_tools = true;
    part.kind = PART_TOOL_CALL;
    return begin_part(reader, part, json_get_text(item, "call_id"), json_get_text(item, "name"),
                      type.p[0] == 'c');
}

static enum rc sign(struct event_reader *reader, int part, yyjson_val *item)
{
    struct event event = {.kind = EVENT_PART_SIGN,
                          .part = part,
                          .part_kind = PART_REASONING,
                          .signature = json_get_text(item, "encrypted_content"),
                          .id = json_get_text(item, "id"),
                          .signed_by = WIRE_OPENAI_RESPONSES};
    return event.signature.n ? reader->emit(reader->arg, &event) : RC_OK;
}

/* An item is done: what its deltas left away is taken from it, then its parts end. */
static enum rc read_item_done(struct event_reader *reader, int64_t output, yyjson_val *item)
{
    struct read_state *state = reader->state;
    struct str type = json_get_text(item, "type");
    int part = find_part(state, output, -1);
    enum rc rc = RC_OK;
    if (part >= 0 && is_call(type) && !state->parts[part].has_text)
        rc = add_text(reader, part, json_get_text(item, type.p[0] == 'c' ? "input" : "arguments"),
                      STR_EMPTY);
    if (!rc && part >= 0 && str_eq(type, STR("reasoning")))
        rc = sign(reader, part, item);
    for (size_t i = 0; !rc && i < state->part_count; i++)
        if (state->parts[i].output == output)
            rc = end_part(reader, (int)i);
    return rc;
}

static enum rc read_content_added(struct event_reader *reader, int64_t output, int64_t content,
                                  yyjson_val *part)
{
    struct str type = json_get_text(part, "type");
    struct read_part added = {.output = output, .content = content, .kind = PART_TEXT};
    if (str_eq(type, STR("refusal")))
        added.kind = PART_REFUSAL;
    else if (!str_eq(type, STR("output_text")))
        return RC_OK; /* reasoning_text belongs to its item's part */
    return begin_part(reader, added, STR_EMPTY, STR_EMPTY, false);
}

static enum rc read_usage(struct event_reader *reader, yyjson_val *response)
{
    yyjson_val *usage = yyjson_obj_get(response, "usage");
    if (!yyjson_is_obj(usage))
        return RC_OK;
    wire_read_usage(WIRE_OPENAI_RESPONSES, reader->upstream->row, usage, &reader->usage);
    return format_usage(reader);
}

static enum rc read_end_of(struct event_reader *reader, yyjson_val *response)
{
    struct read_state *state = reader->state;
    struct str reason = json_get_text(yyjson_obj_get(response, "incomplete_details"), "reason");
    enum finish finish = str_eq(reason, STR("content_filter")) ? FINISH_CONTENT_FILTER
                         : str_eq(json_get_text(response, "status"), STR("incomplete"))
                             ? FINISH_LENGTH
                         : state->called_tools ? FINISH_TOOL_CALLS
                                               : FINISH_STOP;
    enum rc rc = RC_OK;
    for (size_t i = 0; !rc && i < state->part_count; i++)
        rc = end_part(reader, (int)i);
    if (!rc)
        rc = format_finish(reader, 0, finish, STR_EMPTY);
    if (!rc)
        rc = read_usage(reader, response);
    return rc ? rc : format_done(reader);
}

static enum rc read_start(struct event_reader *reader, yyjson_val *response)
{
    struct read_state *state = reader->state;
    if (state->started)
        return RC_OK;
    state->started = true;
    return format_start(reader, json_get_text(response, "id"), json_get_text(response, "model"));
}

static enum rc read_delta(struct event_reader *reader, struct str type, yyjson_val *root)
{
    struct read_state *state = reader->state;
    int64_t output = json_get_int(root, "output_index", 0),
            content = json_get_int(root, "content_index", 0);
    struct str delta = json_get_text(root, "delta");
    yyjson_val *list = yyjson_obj_get(root, "logprobs");
    if (str_eq(type, STR("response.output_text.delta")) ||
        str_eq(type, STR("response.refusal.delta"))) {
        struct str logprobs = yyjson_arr_size(list) ? json_write(list, reader->scratch) : STR_EMPTY;
        return add_text(reader, find_part(state, output, content), delta, logprobs);
    }
    if (str_eq(type, STR("response.function_call_arguments.delta")) ||
        str_eq(type, STR("response.custom_tool_call_input.delta")) ||
        str_eq(type, STR("response.reasoning_summary_text.delta")) ||
        str_eq(type, STR("response.reasoning_text.delta")))
        return add_text(reader, find_part(state, output, -1), delta, STR_EMPTY);
    return RC_OK;
}

static enum rc read_root(struct event_reader *reader, struct str type, yyjson_val *root,
                         struct str data)
{
    struct read_state *state = state_of(reader);
    int64_t output = json_get_int(root, "output_index", 0),
            content = json_get_int(root, "content_index", 0);
    yyjson_val *response = yyjson_obj_get(root, "response");
    if (!state)
        return format_out_of_memory(reader->err);
    if (str_eq(type, STR("error")) || str_eq(type, STR("response.failed"))) {
        wire_read_error(WIRE_OPENAI_RESPONSES, 200, data, reader->err);
        return RC_INVALID;
    }
    if (response) {
        enum rc rc = read_start(reader, response);
        bool ends =
            str_eq(type, STR("response.completed")) || str_eq(type, STR("response.incomplete"));
        return rc || !ends ? rc : read_end_of(reader, response);
    }
    if (!state->started)
        return RC_OK;
    if (str_eq(type, STR("response.output_item.added")))
        return read_item_added(reader, output, yyjson_obj_get(root, "item"));
    if (str_eq(type, STR("response.output_item.done")))
        return read_item_done(reader, output, yyjson_obj_get(root, "item"));
    if (str_eq(type, STR("response.content_part.added")))
        return read_content_added(reader, output, content, yyjson_obj_get(root, "part"));
    if (str_eq(type, STR("response.content_part.done")))
        return end_part(reader, find_part(state, output, content));
    if (str_eq(type, STR("response.reasoning_summary_part.added")) &&
        json_get_int(root, "summary_index", 0) > 0)
        return add_text(reader, find_part(state, output, -1), STR("\n\n"), STR_EMPTY);
    return read_delta(reader, type, root);
}

enum rc openai_responses_read_event(struct event_reader *reader, const struct sse_event *event)
{
    if (!event->data.p || reader->done || str_eq(event->data, STR("[DONE]")))
        return RC_OK;
    yyjson_val *root = format_parse(reader, event->data);
    if (!root)
        return RC_INVALID;
    struct str type = json_get_text(root, "type");
    return read_root(reader, type.n ? type : event->name, root, event->data);
}

static enum rc read_whole_item(struct event_reader *reader, int64_t output, yyjson_val *item)
{
    struct read_state *state = reader->state;
    size_t i, n;
    yyjson_val *part;
    struct str type = json_get_text(item, "type");
    enum rc rc = read_item_added(reader, output, item);
    bool reasoning = str_eq(type, STR("reasoning"));
    yyjson_val *texts = yyjson_obj_get(item, "content");
    if (reasoning && !yyjson_arr_size(texts))
        texts = yyjson_obj_get(item, "summary");
    yyjson_arr_foreach(texts, i, n, part)
    {
        bool refusal = str_eq(json_get_text(part, "type"), STR("refusal"));
        yyjson_val *list = yyjson_obj_get(part, "logprobs");
        if (!rc && !reasoning)
            rc = read_content_added(reader, output, (int64_t)i, part);
        if (!rc && reasoning && i)
            rc = add_text(reader, find_part(state, output, -1), STR("\n\n"), STR_EMPTY);
        if (!rc)
            rc = add_text(reader, find_part(state, output, reasoning ? -1 : (int64_t)i),
                          json_get_text(part, refusal ? "refusal" : "text"),
                          yyjson_arr_size(list) ? json_write(list, reader->scratch) : STR_EMPTY);
    }
    return rc ? rc : read_item_done(reader, output, item);
}

enum rc openai_responses_read_whole(struct event_reader *reader, yyjson_val *root)
{
    size_t i, n;
    yyjson_val *item;
    if (!state_of(reader))
        return format_out_of_memory(reader->err);
    if (!yyjson_is_arr(yyjson_obj_get(root, "output")))
        return format_protocol_error(reader, "has no `output`");
    enum rc rc = read_start(reader, root);
    yyjson_arr_foreach(yyjson_obj_get(root, "output"), i, n, item)
    {
        if (!rc)
            rc = read_whole_item(reader, (int64_t)i, item);
    }
    return rc ? rc : read_end_of(reader, root);
}

enum rc openai_responses_read_end(struct event_reader *reader)
{
    return reader->done ? RC_OK : format_protocol_error(reader, "ended before it was complete");
}
