/* Anthropic messages: answers, read from upstreams and written to doors.
 * Reference: https://docs.claude.com/en/docs/build-with-claude/streaming */
#include "gateway/provider/anthropic.h"
#include "gateway/wire_internal.h"

/* ---- reading ---- */

#define BLOCKS_MAX 4096

struct read_state {
    int parts;
    int *part_of; /* block index → part + 1; 0: a block that is not shown (server tools' own) */
    enum part_kind *kind_of;
    size_t capacity;
    bool started, finished;
};

static struct read_state *state_of(struct event_reader *reader)
{
    if (!reader->state)
        reader->state = ARENA_NEW(reader->arena, struct read_state);
    return reader->state;
}

static enum rc make_room(struct event_reader *reader, size_t index)
{
    struct read_state *state = reader->state;
    if (index >= BLOCKS_MAX)
        return format_protocol_error(reader, "has more content blocks than can be followed");
    if (index < state->capacity)
        return RC_OK;
    size_t wanted = MAX((index + 1) * 2, (size_t)8);
    int *parts = ARENA_NEW_ARRAY(reader->arena, int, wanted);
    enum part_kind *kinds = ARENA_NEW_ARRAY(reader->arena, enum part_kind, wanted);
    if (!parts || !kinds)
        return format_out_of_memory(reader->err);
    if (state->capacity) {
        memcpy(parts, state->part_of, state->capacity * sizeof(*parts));
        memcpy(kinds, state->kind_of, state->capacity * sizeof(*kinds));
    }
    state->part_of = parts;
    state->kind_of = kinds;
    state->capacity = wanted;
    return RC_OK;
}

static enum rc read_block_start(struct event_reader *reader, size_t index, yyjson_val *block)
{
    struct read_state *state = reader->state;
    struct str type = json_get_text(block, "type");
    bool redacted = str_eq(type, STR("redacted_thinking"));
    enum rc rc = make_room(reader, index);
    if (rc)
        return rc;
    state->part_of[index] = 0;
    enum part_kind kind = str_eq(type, STR("text"))                   ? PART_TEXT
                          : str_eq(type, STR("tool_use"))             ? PART_TOOL_CALL
                          : redacted || str_eq(type, STR("thinking")) ? PART_REASONING
                                                                      : PART_KIND_COUNT;
    if (kind == PART_KIND_COUNT)
        return RC_OK;
    struct event event = {.kind = EVENT_PART_BEGIN,
                          .part = state->parts,
                          .part_kind = kind,
                          .redacted = redacted,
                          .id = json_get_text(block, "id"),
                          .name = json_get_text(block, "name"),
                          .signed_by = WIRE_ANTHROPIC};
    if (redacted)
        event.signature = json_get_text(block, "data");
    state->kind_of[index] = kind;
    state->part_of[index] = ++state->parts;
    rc = reader->emit(reader->arg, &event);
    struct str text = json_get_text(block, kind == PART_REASONING ? "thinking" : "text");
    if (!rc && text.n)
        rc = format_delta(reader, 0, event.part, kind, text, STR_EMPTY);
    return rc;
}

static enum rc emit_signature(struct event_reader *reader, int part, struct str signature)
{
    struct event event = {.kind = EVENT_PART_SIGN,
                          .part = part,
                          .part_kind = PART_REASONING,
                          .signature = signature,
                          .signed_by = WIRE_ANTHROPIC};
    return signature.n ? reader->emit(reader->arg, &event) : RC_OK;
}

static enum rc read_block_delta(struct event_reader *reader, size_t index, yyjson_val *delta)
{
    const struct read_state *state = reader->state;
    if (index >= state->capacity || !state->part_of[index])
        return RC_OK;
    int part = state->part_of[index] - 1;
    struct str type = json_get_text(delta, "type");
    if (str_eq(type, STR("signature_delta")))
        return emit_signature(reader, part, json_get_text(delta, "signature"));
    struct str text = str_eq(type, STR("text_delta"))         ? json_get_text(delta, "text")
                      : str_eq(type, STR("thinking_delta"))   ? json_get_text(delta, "thinking")
                      : str_eq(type, STR("input_json_delta")) ? json_get_text(delta, "partial_json")
                                                              : STR_EMPTY;
    return text.n ? format_delta(reader, 0, part, state->kind_of[index], text, STR_EMPTY) : RC_OK;
}

static enum rc read_block_stop(struct event_reader *reader, size_t index)
{
    const struct read_state *state = reader->state;
    if (index >= state->capacity || !state->part_of[index])
        return RC_OK;
    return format_end(reader, 0, state->part_of[index] - 1, state->kind_of[index]);
}

static enum rc read_stop(struct event_reader *reader, yyjson_val *from)
{
    static const struct {
        const char *reason;
        enum finish finish;
    } names[] = {
        {"end_turn", FINISH_STOP},       {"stop_sequence", FINISH_STOP_SEQUENCE},
        {"max_tokens", FINISH_LENGTH},   {"model_context_window_exceeded", FINISH_LENGTH},
        {"tool_use", FINISH_TOOL_CALLS}, {"refusal", FINISH_CONTENT_FILTER},
        {"pause_turn", FINISH_PAUSE},
    };
    struct read_state *state = reader->state;
    struct str reason = json_get_text(from, "stop_reason");
    enum finish finish = FINISH_STOP;
    if (!reason.n || state->finished)
        return RC_OK;
    state->finished = true;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(reason, str_from(names[i].reason)))
            finish = names[i].finish;
    return format_finish(reader, 0, finish, json_get_text(from, "stop_sequence"));
}

static enum rc read_usage(struct event_reader *reader, yyjson_val *usage)
{
    if (!yyjson_is_obj(usage))
        return RC_OK;
    wire_read_usage(WIRE_ANTHROPIC, reader->upstream->row, usage, &reader->usage);
    return format_usage(reader);
}

static enum rc read_start(struct event_reader *reader, yyjson_val *message)
{
    struct read_state *state = reader->state;
    if (state->started)
        return RC_OK;
    state->started = true;
    enum rc rc =
        format_start(reader, json_get_text(message, "id"), json_get_text(message, "model"));
    return rc ? rc : read_usage(reader, yyjson_obj_get(message, "usage"));
}

static enum rc read_root(struct event_reader *reader, struct str type, yyjson_val *root,
                         struct str data)
{
    struct read_state *state = state_of(reader);
    size_t index = (size_t)MAX(json_get_int(root, "index", 0), 0);
    if (!state)
        return format_out_of_memory(reader->err);
    if (str_eq(type, STR("error"))) {
        wire_read_error(WIRE_ANTHROPIC, 200, data, reader->err);
        return RC_INVALID;
    }
    if (str_eq(type, STR("message_start")))
        return read_start(reader, yyjson_obj_get(root, "message"));
    if (!state->started)
        return RC_OK; /* ping */
    if (str_eq(type, STR("content_block_start")))
        return read_block_start(reader, index, yyjson_obj_get(root, "content_block"));
    if (str_eq(type, STR("content_block_delta")))
        return read_block_delta(reader, index, yyjson_obj_get(root, "delta"));
    if (str_eq(type, STR("content_block_stop")))
        return read_block_stop(reader, index);
    if (str_eq(type, STR("message_delta"))) {
        enum rc rc = read_stop(reader, yyjson_obj_get(root, "delta"));
        return rc ? rc : read_usage(reader, yyjson_obj_get(root, "usage"));
    }
    return str_eq(type, STR("message_stop")) ? anthropic_read_end(reader) : RC_OK;
}

enum rc anthropic_read_event(struct event_reader *reader, const struct sse_event *event)
{
    if (!event->data.p || reader->done)
        return RC_OK;
    yyjson_val *root = format_parse(reader, event->data);
    if (!root)
        return RC_INVALID;
    struct str type = json_get_text(root, "type");
    return read_root(reader, type.n ? type : event->name, root, event->data);
}

enum rc anthropic_read_whole(struct event_reader *reader, yyjson_val *root)
{
    size_t i, n;
    yyjson_val *block;
    if (!state_of(reader))
        return format_out_of_memory(reader->err);
    if (str_eq(json_get_text(root, "type"), STR("error")) || !yyjson_obj_get(root, "content"))
        return format_protocol_error(reader, "has no `content`");
    enum rc rc = read_start(reader, root);
    yyjson_arr_foreach(yyjson_obj_get(root, "content"), i, n, block)
    {
        yyjson_val *input = yyjson_obj_get(block, "input");
        if (!rc)
            rc = read_block_start(reader, i, block);
        const struct read_state *state = reader->state;
        if (rc || !state->part_of[i])
            continue;
        if (input && state->kind_of[i] == PART_TOOL_CALL)
            rc = format_delta(reader, 0, state->part_of[i] - 1, PART_TOOL_CALL,
                              json_write(input, reader->scratch), STR_EMPTY);
        if (!rc && state->kind_of[i] == PART_REASONING)
            rc = emit_signature(reader, state->part_of[i] - 1, json_get_text(block, "signature"));
        if (!rc)
            rc = read_block_stop(reader, i);
    }
    if (!rc)
        rc = read_stop(reader, root);
    return rc ? rc : anthropic_read_end(reader);
}

enum rc anthropic_read_end(struct event_reader *reader)
{
    const struct read_state *state = reader->state;
    if (reader->done)
        return RC_OK;
    if (!state || !state->finished)
        return format_protocol_error(reader, "ended before it was complete");
    return format_done(reader);
}

/* ---- writing ---- */

struct write_state {
    int blocks;        /* begun so far */
    int block_of[256]; /* part → block index + 1; 0: not shown */
    enum finish finish;
    struct str stop_sequence;
    bool shows_reasoning;
};

static struct str id_of(const struct event_writer *writer, struct str response_id)
{
    if (str_starts(response_id, STR("msg_")))
        return response_id;
    return arena_printf(writer->arena, "msg_%.*s", STR_ARG(response_id));
}

static const char *stop_reason(enum finish finish)
{
    switch (finish) {
    case FINISH_STOP_SEQUENCE: return "stop_sequence";
    case FINISH_LENGTH: return "max_tokens";
    case FINISH_TOOL_CALLS: return "tool_use";
    case FINISH_CONTENT_FILTER: return "refusal";
    case FINISH_PAUSE: return "pause_turn";
    default: return "end_turn";
    }
}

static void put_usage(struct json_writer *w, const struct usage *usage)
{
    const uint64_t *tokens = usage->tokens;
    uint64_t written = tokens[USAGE_CACHE_WRITE] + tokens[USAGE_CACHE_WRITE_1H];
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "input_tokens",
                  usage_input_total(usage) - tokens[USAGE_CACHED_INPUT] - written);
    json_put_uint(w, "cache_creation_input_tokens", written);
    json_put_uint(w, "cache_read_input_tokens", tokens[USAGE_CACHED_INPUT]);
    json_put_uint(w, "output_tokens", usage_output_total(usage));
    json_end_object(w);
}

/* The client asked for thinking: others would not expect its blocks. */
static bool asked_for_thinking(const struct wire_request *request)
{
    yyjson_val *root = yyjson_doc_get_root(request->doc);
    struct str type = json_get_text(yyjson_obj_get(root, "thinking"), "type");
    return str_eq(type, STR("enabled")) || str_eq(type, STR("adaptive"));
}

static void begin_event(struct json_writer *w, const char *type)
{
    json_append(w, STR("event: "));
    json_append(w, str_from(type));
    json_append(w, STR("\ndata: "));
    w->comma = false;
    json_begin_object(w);
    json_put_text(w, "type", type);
}

static void end_event(struct json_writer *w)
{
    json_end_object(w);
    json_append(w, STR("\n\n"));
    w->comma = false;
}

static void put_message_head(struct event_writer *writer, struct str response_id)
{
    struct json_writer *w = &writer->json;
    json_put_string(w, "id", id_of(writer, response_id));
    json_put_text(w, "type", "message");
    json_put_text(w, "role", "assistant");
    json_put_string(w, "model", writer->model);
}

static enum rc write_start(struct event_writer *writer, const struct event *event)
{
    struct json_writer *w = &writer->json;
    struct write_state *state = ARENA_NEW(writer->arena, struct write_state);
    if (!state)
        return RC_LIMIT;
    state->shows_reasoning = asked_for_thinking(writer->request);
    writer->state = state;
    begin_event(w, "message_start");
    json_key(w, "message");
    json_begin_object(w);
    put_message_head(writer, event->response_id);
    json_key(w, "content");
    json_raw(w, STR("[]"));
    json_put_null(w, "stop_reason");
    json_put_null(w, "stop_sequence");
    put_usage(w, &writer->answer->usage);
    json_end_object(w);
    end_event(w);
    return w->rc;
}

static void write_block_start(struct event_writer *writer, const struct event *event, int block)
{
    struct json_writer *w = &writer->json;
    begin_event(w, "content_block_start");
    json_put_int(w, "index", block);
    json_key(w, "content_block");
    json_begin_object(w);
    if (event->part_kind == PART_TOOL_CALL) {
        json_put_text(w, "type", "tool_use");
        json_put_string(w, "id", event->id);
        json_put_string(w, "name", event->name);
        json_key(w, "input");
        json_raw(w, STR("{}"));
    } else if (event->part_kind == PART_REASONING && event->redacted) {
        json_put_text(w, "type", "redacted_thinking");
        json_put_string(w, "data",
                        format_wrap_signature(WIRE_ANTHROPIC, event->signed_by, true, event->id,
                                              event->signature, writer->arena));
    } else if (event->part_kind == PART_REASONING) {
        json_put_text(w, "type", "thinking");
        json_put_text(w, "thinking", "");
        json_put_text(w, "signature", "");
    } else {
        json_put_text(w, "type", "text");
        json_put_text(w, "text", "");
    }
    json_end_object(w);
    end_event(w);
}

static void write_delta(struct event_writer *writer, const struct event *event, int block)
{
    static const char *const types[PART_KIND_COUNT][2] = {
        [PART_TEXT] = {"text_delta", "text"},
        [PART_REFUSAL] = {"text_delta", "text"},
        [PART_REASONING] = {"thinking_delta", "thinking"},
        [PART_TOOL_CALL] = {"input_json_delta", "partial_json"},
    };
    struct json_writer *w = &writer->json;
    const char *type = types[event->part_kind][0], *name = types[event->part_kind][1];
    begin_event(w, "content_block_delta");
    json_put_int(w, "index", block);
    json_key(w, "delta");
    json_begin_object(w);
    if (event->kind == EVENT_PART_SIGN) {
        json_put_text(w, "type", "signature_delta");
        json_put_string(w, "signature",
                        format_wrap_signature(WIRE_ANTHROPIC, event->signed_by, false, event->id,
                                              event->signature, writer->arena));
    } else {
        json_put_text(w, "type", type);
        json_put_string(w, name, event->text);
    }
    json_end_object(w);
    end_event(w);
}

static void write_end(struct event_writer *writer)
{
    const struct write_state *state = writer->state;
    struct json_writer *w = &writer->json;
    begin_event(w, "message_delta");
    json_key(w, "delta");
    json_begin_object(w);
    json_put_text(w, "stop_reason", stop_reason(state->finish));
    json_key(w, "stop_sequence");
    if (state->stop_sequence.n)
        json_string(w, state->stop_sequence);
    else
        json_null(w);
    json_end_object(w);
    put_usage(w, &writer->answer->usage);
    end_event(w);
    begin_event(w, "message_stop");
    end_event(w);
}

enum rc anthropic_write_event(struct event_writer *writer, const struct event *event)
{
    struct write_state *state = writer->state;
    if (event->kind == EVENT_START)
        return write_start(writer, event);
    if (event->kind == EVENT_USAGE || event->choice > 0)
        return RC_OK; /* told at the end; requests of this format have one choice */
    if (event->kind == EVENT_FINISH) {
        state->finish = event->finish;
        state->stop_sequence =
            event->stop_sequence.n ? arena_copy(writer->arena, event->stop_sequence) : STR_EMPTY;
        return RC_OK;
    }
    if (event->kind == EVENT_DONE) {
        write_end(writer);
        return writer->json.rc;
    }
    if (event->part_kind == PART_REASONING && !state->shows_reasoning)
        return RC_OK;
    size_t slot = (size_t)event->part % COUNT_OF(state->block_of);
    if (event->kind == EVENT_PART_BEGIN) {
        state->block_of[slot] = ++state->blocks;
        write_block_start(writer, event, state->blocks - 1);
        return writer->json.rc;
    }
    int block = state->block_of[slot] - 1;
    if (event->kind == EVENT_PART_DELTA || event->kind == EVENT_PART_SIGN) {
        write_delta(writer, event, block);
    } else if (event->kind == EVENT_PART_END) {
        begin_event(&writer->json, "content_block_stop");
        json_put_int(&writer->json, "index", block);
        end_event(&writer->json);
    }
    return writer->json.rc;
}

/* ---- writing whole answers ---- */

static void put_block(struct event_writer *writer, const struct answer_part *part)
{
    struct json_writer *w = &writer->json;
    struct str text = buf_str(&part->text);
    json_begin_object(w);
    if (part->kind == PART_TOOL_CALL) {
        struct part call = {.kind = PART_TOOL_CALL, .text = text};
        json_put_text(w, "type", "tool_use");
        json_put_string(w, "id", part->id);
        json_put_string(w, "name", part->name);
        struct str input = format_arguments(&call, writer->arena);
        json_put_raw(w, "input", input);
        if (!input.p)
            w->rc = RC_LIMIT;
    } else if (part->kind == PART_REASONING) {
        struct str signature =
            format_wrap_signature(WIRE_ANTHROPIC, part->signed_by, part->redacted, part->id,
                                  part->signature, writer->arena);
        json_put_text(w, "type", part->redacted ? "redacted_thinking" : "thinking");
        if (!part->redacted)
            json_put_string(w, "thinking", text);
        json_put_string(w, part->redacted ? "data" : "signature", signature);
    } else {
        json_put_text(w, "type", "text");
        json_put_string(w, "text", text);
    }
    json_end_object(w);
}

enum rc anthropic_write_whole(struct event_writer *writer, const struct event_answer *answer)
{
    struct json_writer *w = &writer->json;
    const struct answer_choice *choice = answer->choice_count ? &answer->choices[0] : NULL;
    bool reasoning = asked_for_thinking(writer->request);
    json_begin_object(w);
    put_message_head(writer, answer->response_id);
    json_key(w, "content");
    json_begin_array(w);
    for (size_t i = 0; choice && i < choice->part_count; i++)
        if (choice->parts[i].kind != PART_REASONING || reasoning)
            put_block(writer, &choice->parts[i]);
    json_end_array(w);
    json_put_text(w, "stop_reason", stop_reason(choice ? choice->finish : FINISH_STOP));
    json_key(w, "stop_sequence");
    if (choice && choice->stop_sequence.n)
        json_string(w, choice->stop_sequence);
    else
        json_null(w);
    put_usage(w, &answer->usage);
    json_end_object(w);
    return w->rc;
}
