/* OpenAI chat completions: answers, read from upstreams and written to doors.
 * Reference: https://github.com/openai/openai-openapi, CreateChatCompletionResponse and
 * …StreamResponse. */
#include "gateway/provider/openai_chat.h"
#include "gateway/wire_internal.h"

/* ---- reading ---- */

#define TOOLS_OPEN_MAX 128

struct read_choice {
    int parts; /* begun so far */
    int open;  /* the part that is open, or -1 */
    enum part_kind open_kind;
    bool finished, called_tools;
    int tool_parts[TOOLS_OPEN_MAX]; /* chat's tool index → part + 1; 0: not begun */
};

struct read_state {
    struct read_choice *choices[ANSWER_CHOICES_MAX];
    size_t choice_count;
    bool started;
    uint64_t timed_output; /* from llama-server's timings, over all choices */
};

static struct read_state *state_of(struct event_reader *reader)
{
    if (!reader->state)
        reader->state = ARENA_NEW(reader->arena, struct read_state);
    return reader->state;
}

static struct read_choice *choice_of(struct event_reader *reader, int64_t index)
{
    struct read_state *state = reader->state;
    if (index < 0 || index >= ANSWER_CHOICES_MAX)
        return NULL;
    if (!state->choices[index]) {
        struct read_choice *choice = ARENA_NEW(reader->arena, struct read_choice);
        if (!choice)
            return NULL;
        choice->open = -1;
        state->choices[index] = choice;
        state->choice_count = MAX(state->choice_count, (size_t)index + 1);
    }
    return state->choices[index];
}

static enum rc close_open(struct event_reader *reader, int index, struct read_choice *choice)
{
    if (choice->open < 0)
        return RC_OK;
    int part = choice->open;
    choice->open = -1;
    return format_end(reader, index, part, choice->open_kind);
}

static enum rc open_part(struct event_reader *reader, int index, struct read_choice *choice,
                         enum part_kind kind, struct str id, struct str name)
{
    enum rc rc = close_open(reader, index, choice);
    if (rc)
        return rc;
    choice->open = choice->parts++;
    choice->open_kind = kind;
    return format_begin(reader, index, choice->open, kind, id, name);
}

static enum rc read_text(struct event_reader *reader, int index, struct read_choice *choice,
                         enum part_kind kind, struct str text, struct str logprobs)
{
    if (!text.n && !logprobs.n)
        return RC_OK;
    if (choice->open < 0 || choice->open_kind != kind) {
        enum rc rc = open_part(reader, index, choice, kind, STR_EMPTY, STR_EMPTY);
        if (rc)
            return rc;
    }
    return format_delta(reader, index, choice->open, kind, text, logprobs);
}

static enum rc read_tool_call(struct event_reader *reader, int index, struct read_choice *choice,
                              yyjson_val *call, int64_t position)
{
    yyjson_val *function = yyjson_obj_get(call, "function"),
               *custom = yyjson_obj_get(call, "custom");
    int64_t tool = json_get_int(call, "index", position);
    if (tool < 0 || tool >= TOOLS_OPEN_MAX)
        return format_protocol_error(reader, "has more tool calls than can be followed");
    struct str text =
        custom ? json_get_text(custom, "input") : json_get_text(function, "arguments");
    yyjson_val *arguments = yyjson_obj_get(function, "arguments");
    if (yyjson_is_obj(arguments)) /* Ollama's own way */
        text = json_write(arguments, reader->scratch);
    choice->called_tools = true;
    if (!choice->tool_parts[tool]) {
        struct str id = json_get_text(call, "id");
        if (!id.n)
            id = arena_printf(reader->scratch, "call_%d_%d", index, (int)tool);
        enum rc rc = open_part(reader, index, choice, PART_TOOL_CALL, id,
                               json_get_text(custom ? custom : function, "name"));
        if (rc)
            return rc;
        choice->tool_parts[tool] = choice->parts;
    }
    if (!text.n)
        return RC_OK;
    return format_delta(reader, index, choice->tool_parts[tool] - 1, PART_TOOL_CALL, text,
                        STR_EMPTY);
}

/* Mistral's content may be parts: {"type":"thinking","thinking":[{"type":"text",…}]} and texts. */
static enum rc read_content_parts(struct event_reader *reader, int index,
                                  struct read_choice *choice, yyjson_val *content)
{
    size_t i, n, k, m;
    yyjson_val *item, *inner;
    enum rc rc = RC_OK;
    yyjson_arr_foreach(content, i, n, item)
    {
        yyjson_arr_foreach(yyjson_obj_get(item, "thinking"), k, m, inner)
        {
            if (!rc)
                rc = read_text(reader, index, choice, PART_REASONING, json_get_text(inner, "text"),
                               STR_EMPTY);
        }
        if (!rc)
            rc =
                read_text(reader, index, choice, PART_TEXT, json_get_text(item, "text"), STR_EMPTY);
    }
    return rc;
}

/* A delta of a stream, or a whole answer's message: the same members. */
static enum rc read_delta(struct event_reader *reader, int index, struct read_choice *choice,
                          yyjson_val *delta, struct str logprobs)
{
    struct str reasoning = json_get_text(delta, "reasoning_content");
    yyjson_val *content = yyjson_obj_get(delta, "content"), *call;
    size_t i, n;
    if (!reasoning.n)
        reasoning = json_get_text(delta, "reasoning");
    enum rc rc = read_text(reader, index, choice, PART_REASONING, reasoning, STR_EMPTY);
    if (!rc && yyjson_is_arr(content))
        rc = read_content_parts(reader, index, choice, content);
    else if (!rc)
        rc = read_text(reader, index, choice, PART_TEXT, json_text(content), logprobs);
    if (!rc)
        rc = read_text(reader, index, choice, PART_REFUSAL, json_get_text(delta, "refusal"),
                       STR_EMPTY);
    yyjson_arr_foreach(yyjson_obj_get(delta, "tool_calls"), i, n, call)
    {
        if (!rc)
            rc = read_tool_call(reader, index, choice, call, (int64_t)i);
    }
    return rc;
}

static enum finish finish_of(struct str reason, const struct read_choice *choice)
{
    struct str name = wire_finish_name(reason);
    if (str_eq(name, STR("length")))
        return FINISH_LENGTH;
    if (str_eq(name, STR("content_filter")))
        return FINISH_CONTENT_FILTER;
    /* Some say "stop" though they called tools. */
    return choice->called_tools || str_eq(name, STR("tool_calls")) ? FINISH_TOOL_CALLS
                                                                   : FINISH_STOP;
}

static enum rc finish_choice(struct event_reader *reader, int index, struct read_choice *choice,
                             struct str reason)
{
    if (!reason.n || choice->finished)
        return RC_OK;
    choice->finished = true;
    enum rc rc = close_open(reader, index, choice);
    return rc ? rc : format_finish(reader, index, finish_of(reason, choice), STR_EMPTY);
}

static struct str logprobs_of(struct event_reader *reader, yyjson_val *choice)
{
    yyjson_val *list = yyjson_obj_get(yyjson_obj_get(choice, "logprobs"), "content");
    return yyjson_arr_size(list) ? json_write(list, reader->scratch) : STR_EMPTY;
}

static enum rc read_choices(struct event_reader *reader, yyjson_val *root, const char *member)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(root, "choices"), i, n, item)
    {
        int index = (int)MIN(json_get_int(item, "index", 0), (int64_t)ANSWER_CHOICES_MAX);
        struct read_choice *choice = choice_of(reader, index);
        if (!choice)
            return format_protocol_error(reader, "has more choices than can be followed");
        enum rc rc = read_delta(reader, index, choice, yyjson_obj_get(item, member),
                                logprobs_of(reader, item));
        if (!rc)
            rc = finish_choice(reader, index, choice, json_get_text(item, "finish_reason"));
        if (rc)
            return rc;
    }
    return RC_OK;
}

/* llama-server's usage counts one choice only where n is above 1. Streamed, it sends one usage
 * chunk a choice, with timings; older versions put the timings into each choice's last chunk. */
static void read_timings(struct event_reader *reader, yyjson_val *root)
{
    struct read_state *state = reader->state;
    yyjson_val *timings = yyjson_obj_get(root, "timings");
    if (!timings)
        return;
    state->timed_output += (uint64_t)MAX(json_get_int(timings, "predicted_n", 0), 0);
}

static enum rc read_usage(struct event_reader *reader, yyjson_val *root)
{
    const struct provider_row *row = reader->upstream->row;
    const struct read_state *state = reader->state;
    yyjson_val *usage = yyjson_obj_get(root, "usage");
    if (!yyjson_is_obj(usage))
        usage = yyjson_obj_get(yyjson_obj_get(root, "x_groq"), "usage");
    if (!yyjson_is_obj(usage))
        return RC_OK;
    wire_read_usage(WIRE_OPENAI_CHAT, row, usage, &reader->usage);
    if (row && (row->quirks & PROVIDER_USAGE_ONE_CHOICE) && state->choice_count > 1 &&
        state->timed_output > reader->usage.tokens[USAGE_OUTPUT])
        reader->usage.tokens[USAGE_OUTPUT] = state->timed_output;
    return format_usage(reader);
}

static enum rc read_start(struct event_reader *reader, yyjson_val *root)
{
    struct read_state *state = reader->state;
    if (state->started)
        return RC_OK;
    state->started = true;
    return format_start(reader, json_get_text(root, "id"), json_get_text(root, "model"));
}

static enum rc read_root(struct event_reader *reader, yyjson_val *root, const char *member)
{
    yyjson_val *error = yyjson_obj_get(root, "error");
    if (!state_of(reader))
        return format_out_of_memory(reader->err);
    if (error && !yyjson_is_null(error)) {
        struct str text = json_write(root, reader->scratch);
        wire_read_error(WIRE_OPENAI_CHAT, 200, text, reader->err);
        return RC_INVALID;
    }
    enum rc rc = read_start(reader, root);
    if (!rc)
        rc = read_choices(reader, root, member);
    read_timings(reader, root);
    return rc ? rc : read_usage(reader, root);
}

enum rc openai_chat_read_event(struct event_reader *reader, const struct sse_event *event)
{
    if (!event->data.p || reader->done)
        return RC_OK;
    if (str_eq(event->data, STR("[DONE]")))
        return openai_chat_read_end(reader);
    yyjson_val *root = format_parse(reader, event->data);
    return root ? read_root(reader, root, "delta") : RC_INVALID;
}

enum rc openai_chat_read_whole(struct event_reader *reader, yyjson_val *root)
{
    if (!yyjson_is_arr(yyjson_obj_get(root, "choices")) && !yyjson_obj_get(root, "error"))
        return format_protocol_error(reader, "has no `choices`");
    enum rc rc = read_root(reader, root, "message");
    return rc ? rc : openai_chat_read_end(reader);
}

enum rc openai_chat_read_end(struct event_reader *reader)
{
    const struct read_state *state = reader->state;
    if (reader->done)
        return RC_OK;
    bool finished = state && state->choice_count > 0;
    for (size_t i = 0; finished && i < state->choice_count; i++)
        finished = state->choices[i] && state->choices[i]->finished;
    if (!finished)
        return format_protocol_error(reader, "ended before it was complete");
    return format_done(reader);
}

/* ---- writing ---- */

struct written_choice {
    bool begun;
    int tools;       /* tool calls so far */
    int blocks;      /* signed blocks so far */
    int tool_of[64]; /* part → tool index + 1; parts beyond are counted anew */
};

struct write_state {
    struct written_choice *choices[ANSWER_CHOICES_MAX];
    struct str head; /* {"id":…,"object":…,"created":…,"model":…,"choices":[{"index": */
};

static struct str id_of(const struct event_writer *writer, struct str response_id)
{
    if (str_starts(response_id, STR("chatcmpl")))
        return response_id;
    return arena_printf(writer->arena, "chatcmpl-%.*s", STR_ARG(response_id));
}

static void put_head(struct json_writer *w, const struct event_writer *writer,
                     struct str response_id, const char *object)
{
    json_begin_object(w);
    json_put_string(w, "id", id_of(writer, response_id));
    json_put_text(w, "object", object);
    json_put_int(w, "created", writer->now_s);
    json_put_string(w, "model", writer->model);
}

static enum rc make_state(struct event_writer *writer, const struct event *event)
{
    struct write_state *state = ARENA_NEW(writer->arena, struct write_state);
    struct buf buf;
    buf_init(&buf, 16 * 1024);
    struct json_writer w = json_writer_to(&buf);
    put_head(&w, writer, event->response_id, "chat.completion.chunk");
    if (state && w.rc == RC_OK)
        state->head = arena_copy(writer->arena, buf_str(&buf));
    buf_fini(&buf);
    writer->state = state;
    return state && state->head.p ? RC_OK : RC_LIMIT;
}

static void begin_chunk(struct event_writer *writer, int choice)
{
    const struct write_state *state = writer->state;
    struct json_writer *w = &writer->json;
    json_append(w, STR("data: "));
    json_append(w, state->head);
    w->comma = true;
    json_key(w, "choices");
    json_append(w, STR("[{\"index\":"));
    w->comma = false;
    json_int(w, choice);
    json_append(w, STR(",\"delta\":{"));
    w->comma = false;
}

static void end_chunk(struct event_writer *writer, struct str logprobs, enum finish finish)
{
    struct json_writer *w = &writer->json;
    json_append(w, STR("}"));
    if (logprobs.n) {
        json_append(w, STR(",\"logprobs\":{\"content\":"));
        json_append(w, logprobs);
        json_append(w, STR(",\"refusal\":null}"));
    }
    json_append(w, STR(",\"finish_reason\":"));
    if (finish == FINISH_NONE) {
        json_append(w, STR("null"));
    } else {
        json_append(w, STR("\""));
        json_append(w, event_finish_name(finish));
        json_append(w, STR("\""));
    }
    json_append(w, STR("}]}\n\n"));
    w->comma = false;
}

static struct written_choice *begin_choice(struct event_writer *writer, int index)
{
    struct write_state *state = writer->state;
    struct written_choice *choice = state->choices[index];
    if (!choice)
        choice = state->choices[index] = ARENA_NEW(writer->arena, struct written_choice);
    if (choice && !choice->begun) {
        choice->begun = true;
        begin_chunk(writer, index);
        json_put_text(&writer->json, "role", "assistant");
        json_put_text(&writer->json, "content", "");
        end_chunk(writer, STR_EMPTY, FINISH_NONE);
    }
    return choice;
}

static void put_tool_delta(struct json_writer *w, int tool, const struct event *event)
{
    json_key(w, "tool_calls");
    json_begin_array(w);
    json_begin_object(w);
    json_put_int(w, "index", tool);
    if (event->kind == EVENT_PART_BEGIN) {
        json_put_string(w, "id", event->id);
        json_put_text(w, "type", "function");
    }
    json_key(w, "function");
    json_begin_object(w);
    if (event->kind == EVENT_PART_BEGIN)
        json_put_string(w, "name", event->name);
    json_put_string(w, "arguments", event->text);
    json_end_object(w);
    json_end_object(w);
    json_end_array(w);
}

/* A signed block of reasoning: not OpenAI's, but what clients that send signatures back understand.
 */
static void put_thinking_block(struct json_writer *w, int index, bool redacted, struct str text,
                               struct str signature)
{
    json_begin_object(w);
    if (index >= 0)
        json_put_int(w, "index", index); /* SDKs add list items of deltas up by it */
    json_put_text(w, "type", redacted ? "redacted_thinking" : "thinking");
    if (redacted) {
        json_put_string(w, "data", signature);
    } else {
        json_put_string(w, "thinking", text);
        json_put_string(w, "signature", signature);
    }
    json_end_object(w);
}

static struct str signature_of(struct event_writer *writer, enum wire_format signed_by,
                               bool redacted, struct str id, struct str signature)
{
    return format_wrap_signature(WIRE_ANTHROPIC, signed_by, redacted, id, signature, writer->arena);
}

static const struct answer_part *part_of(const struct event_writer *writer,
                                         const struct event *event)
{
    return &writer->answer->choices[event->choice].parts[event->part];
}

static void write_signature(struct event_writer *writer, const struct event *event,
                            struct written_choice *choice)
{
    const struct answer_part *part = part_of(writer, event);
    struct json_writer *w = &writer->json;
    bool redacted = part->redacted && part->signed_by == WIRE_ANTHROPIC;
    begin_chunk(writer, event->choice);
    json_key(w, "thinking_blocks");
    json_begin_array(w);
    put_thinking_block(
        w, choice->blocks++, redacted, buf_str(&part->text),
        signature_of(writer, part->signed_by, part->redacted, part->id, part->signature));
    json_end_array(w);
    end_chunk(writer, STR_EMPTY, FINISH_NONE);
}

static void write_delta(struct event_writer *writer, const struct event *event, int tool)
{
    struct json_writer *w = &writer->json;
    begin_chunk(writer, event->choice);
    switch (event->part_kind) {
    case PART_REFUSAL: json_put_string(w, "refusal", event->text); break;
    case PART_REASONING: json_put_string(w, "reasoning_content", event->text); break;
    case PART_TOOL_CALL: put_tool_delta(w, tool, event); break;
    default: json_put_string(w, "content", event->text); break;
    }
    end_chunk(writer, event->logprobs, FINISH_NONE);
}

static void put_usage(struct json_writer *w, const struct usage *usage)
{
    uint64_t input = usage_input_total(usage), output = usage_output_total(usage);
    uint64_t written = usage->tokens[USAGE_CACHE_WRITE] + usage->tokens[USAGE_CACHE_WRITE_1H];
    json_begin_object(w);
    json_put_uint(w, "prompt_tokens", input);
    json_put_uint(w, "completion_tokens", output);
    json_put_uint(w, "total_tokens", input + output);
    json_key(w, "prompt_tokens_details");
    json_begin_object(w);
    json_put_uint(w, "cached_tokens", usage->tokens[USAGE_CACHED_INPUT]);
    json_put_uint(w, "audio_tokens", usage->tokens[USAGE_AUDIO_INPUT]);
    if (written)
        json_put_uint(w, "cache_write_tokens", written);
    json_end_object(w);
    json_key(w, "completion_tokens_details");
    json_begin_object(w);
    json_put_uint(w, "reasoning_tokens", usage->tokens[USAGE_REASONING]);
    json_put_uint(w, "audio_tokens", usage->tokens[USAGE_AUDIO_OUTPUT]);
    json_put_uint(w, "accepted_prediction_tokens", 0);
    json_put_uint(w, "rejected_prediction_tokens", 0);
    json_end_object(w);
    json_end_object(w);
}

static void write_end(struct event_writer *writer)
{
    const struct write_state *state = writer->state;
    struct json_writer *w = &writer->json;
    if (writer->request->usage_asked) {
        json_append(w, STR("data: "));
        json_append(w, state->head);
        json_append(w, STR(",\"choices\":[],\"usage\":"));
        w->comma = false;
        put_usage(w, &writer->answer->usage);
        json_append(w, STR("}\n\n"));
    }
    json_append(w, STR("data: [DONE]\n\n"));
}

/* The number of the part among its choice's tool calls. */
static int tool_of(struct written_choice *choice, const struct event *event)
{
    if (event->part_kind != PART_TOOL_CALL || event->part < 0)
        return 0;
    size_t slot = (size_t)event->part % COUNT_OF(choice->tool_of);
    if (event->kind == EVENT_PART_BEGIN)
        choice->tool_of[slot] = ++choice->tools;
    return MAX(choice->tool_of[slot] - 1, 0);
}

enum rc openai_chat_write_event(struct event_writer *writer, const struct event *event)
{
    if (event->kind == EVENT_START)
        return make_state(writer, event);
    if (event->kind == EVENT_USAGE)
        return RC_OK;
    if (event->kind == EVENT_DONE) {
        write_end(writer);
        return writer->json.rc;
    }
    struct written_choice *choice = begin_choice(writer, event->choice);
    if (!choice)
        return RC_LIMIT;
    int tool = tool_of(choice, event);
    bool reasoning = event->part_kind == PART_REASONING;
    if (event->kind == EVENT_PART_DELTA ||
        (event->kind == EVENT_PART_BEGIN && event->part_kind == PART_TOOL_CALL))
        write_delta(writer, event, tool);
    else if (event->kind == EVENT_PART_SIGN ||
             (event->kind == EVENT_PART_BEGIN && reasoning && event->redacted))
        write_signature(writer, event, choice);
    if (event->kind == EVENT_FINISH) {
        begin_chunk(writer, event->choice);
        end_chunk(writer, STR_EMPTY, event->finish);
    }
    return writer->json.rc;
}

/* ---- writing whole answers ---- */

static bool has_kind(const struct answer_choice *choice, enum part_kind kind)
{
    for (size_t i = 0; i < choice->part_count; i++)
        if (choice->parts[i].kind == kind)
            return true;
    return false;
}

/* All texts of a kind as one string; null where there is none. */
static void put_joined(struct json_writer *w, const char *name, const struct answer_choice *choice,
                       enum part_kind kind)
{
    json_key(w, name);
    if (!has_kind(choice, kind)) {
        json_null(w);
        return;
    }
    json_append(w, STR("\""));
    for (size_t i = 0; i < choice->part_count; i++)
        if (choice->parts[i].kind == kind)
            json_append_escaped(w, buf_str(&choice->parts[i].text));
    json_append(w, STR("\""));
    w->comma = true;
}

static void put_whole_calls(struct json_writer *w, const struct answer_choice *choice)
{
    json_key(w, "tool_calls");
    json_begin_array(w);
    for (size_t i = 0; i < choice->part_count; i++) {
        const struct answer_part *part = &choice->parts[i];
        if (part->kind != PART_TOOL_CALL)
            continue;
        json_begin_object(w);
        json_put_string(w, "id", part->id);
        json_put_text(w, "type", "function");
        json_key(w, "function");
        json_begin_object(w);
        json_put_string(w, "name", part->name);
        json_put_string(w, "arguments", buf_len(&part->text) ? buf_str(&part->text) : STR("{}"));
        json_end_object(w);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_signed_blocks(struct event_writer *writer, const struct answer_choice *choice)
{
    struct json_writer *w = &writer->json;
    bool begun = false;
    for (size_t i = 0; i < choice->part_count; i++) {
        const struct answer_part *part = &choice->parts[i];
        if (part->kind != PART_REASONING || !part->signature.n)
            continue;
        if (!begun) {
            json_key(w, "thinking_blocks");
            json_begin_array(w);
            begun = true;
        }
        put_thinking_block(
            w, -1, part->redacted && part->signed_by == WIRE_ANTHROPIC, buf_str(&part->text),
            signature_of(writer, part->signed_by, part->redacted, part->id, part->signature));
    }
    if (begun)
        json_end_array(w);
}

static void put_choice(struct event_writer *writer, const struct answer_choice *choice,
                       size_t index)
{
    struct json_writer *w = &writer->json;
    json_begin_object(w);
    json_put_uint(w, "index", index);
    json_key(w, "message");
    json_begin_object(w);
    json_put_text(w, "role", "assistant");
    put_joined(w, "content", choice, PART_TEXT);
    put_joined(w, "refusal", choice, PART_REFUSAL);
    if (has_kind(choice, PART_REASONING))
        put_joined(w, "reasoning_content", choice, PART_REASONING);
    put_signed_blocks(writer, choice);
    if (has_kind(choice, PART_TOOL_CALL))
        put_whole_calls(w, choice);
    json_end_object(w);
    json_key(w, "logprobs");
    if (buf_len(&choice->logprobs)) {
        json_append(w, STR("{\"content\":["));
        json_append(w, buf_str(&choice->logprobs));
        json_append(w, STR("],\"refusal\":null}"));
        w->comma = true;
    } else {
        json_null(w);
    }
    json_put_string(w, "finish_reason", event_finish_name(choice->finish));
    json_end_object(w);
}

enum rc openai_chat_write_whole(struct event_writer *writer, const struct event_answer *answer)
{
    struct json_writer *w = &writer->json;
    put_head(w, writer, answer->response_id, "chat.completion");
    json_key(w, "choices");
    json_begin_array(w);
    for (size_t i = 0; i < answer->choice_count; i++)
        put_choice(writer, &answer->choices[i], i);
    json_end_array(w);
    if (answer->usage.known) {
        json_key(w, "usage");
        put_usage(w, &answer->usage);
    }
    json_end_object(w);
    return w->rc;
}
