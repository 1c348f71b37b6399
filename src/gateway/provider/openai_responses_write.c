/* OpenAI Responses: answers for doors. Each part of the answer is an output item of its own. The
 * last event repeats the whole response, so the collector keeps all texts. */
#include "gateway/provider/openai_responses.h"

struct write_state {
    int64_t sequence;
    struct str suffix; /* of the items' ids */
    bool encrypted;    /* reasoning.encrypted_content was asked for */
};

static yyjson_val *request_root(const struct event_writer *writer)
{
    return yyjson_doc_get_root(writer->request->doc);
}

static bool includes_encrypted(const struct event_writer *writer)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(request_root(writer), "include"), i, n, item)
    {
        if (str_eq(json_text(item), STR("reasoning.encrypted_content")))
            return true;
    }
    return false;
}

static enum rc make_state(struct event_writer *writer, struct str response_id)
{
    struct write_state *state = ARENA_NEW(writer->arena, struct write_state);
    if (!state)
        return RC_LIMIT;
    ssize_t dash = str_find_char(response_id, '-');
    ssize_t underscore = str_find_char(response_id, '_');
    size_t cut = (size_t)(MAX(dash, underscore) + 1);
    state->suffix = arena_copy(writer->arena, str_slice(response_id, cut, response_id.n));
    state->encrypted = includes_encrypted(writer);
    writer->state = state;
    return state->suffix.p ? RC_OK : RC_LIMIT;
}

static struct str response_id_of(const struct event_writer *writer)
{
    const struct write_state *state = writer->state;
    return arena_printf(writer->arena, "resp_%.*s", STR_ARG(state->suffix));
}

/* Custom tools are called through a function where the target has no such: here they become custom
 * again. */
static bool is_custom(const struct event_writer *writer, const struct answer_part *part)
{
    size_t i, n;
    yyjson_val *tool;
    yyjson_arr_foreach(yyjson_obj_get(request_root(writer), "tools"), i, n, tool)
    {
        if (str_eq(json_get_text(tool, "name"), part->name))
            return str_eq(json_get_text(tool, "type"), STR("custom"));
    }
    return false;
}

static struct str custom_input(const struct event_writer *writer, const struct answer_part *part)
{
    struct str text = buf_str(&part->text);
    return part->custom ? text : format_custom_input(text, writer->arena);
}

static void put_item_id(const struct event_writer *writer, const char *name,
                        const struct answer_part *part, int item)
{
    const struct write_state *state = writer->state;
    struct json_writer *w = (struct json_writer *)&writer->json;
    const char *prefix = part->kind == PART_REASONING                              ? "rs"
                         : part->kind == PART_TOOL_CALL && is_custom(writer, part) ? "ctc"
                         : part->kind == PART_TOOL_CALL                            ? "fc"
                                                                                   : "msg";
    char number[16];
    snprintf(number, sizeof(number), "_%d", item);
    json_key(w, name);
    json_append(w, STR("\""));
    json_append(w, str_from(prefix));
    json_append(w, STR("_"));
    json_append_escaped(w, state->suffix);
    json_append(w, str_from(number));
    json_append(w, STR("\""));
    w->comma = true;
}

/* ---- items ---- */

/* The next "[n]" of a text that names something found: its place in the text and its citation. */
static const struct wire_citation *next_citation(const struct wire_search *search, struct str text,
                                                 size_t *at)
{
    while (search && *at < text.n) {
        uint64_t number;
        ssize_t open = str_find_char(str_slice(text, *at, text.n), '[');
        if (open < 0)
            return NULL;
        size_t begin = *at + (size_t)open + 1, end = begin;
        while (end < text.n && end < begin + 4 && text.p[end] >= '0' && text.p[end] <= '9')
            end++;
        *at = begin;
        if (end < text.n && text.p[end] == ']' &&
            str_to_u64(str_slice(text, begin, end), &number) == RC_OK && number >= 1 &&
            number <= search->citation_count)
            return &search->citations[number - 1];
    }
    return NULL;
}

/* `at` is behind the bracket; places are counted in characters. */
static void put_citation(struct json_writer *w, const struct wire_citation *citation,
                         struct str text, size_t at)
{
    int64_t index = 0;
    for (size_t i = 0; i + 1 < at; i++)
        index += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    json_begin_object(w);
    json_put_text(w, "type", "file_citation");
    json_put_int(w, "index", index);
    json_put_string(w, "file_id", citation->file_id);
    json_put_string(w, "filename", citation->filename);
    json_end_object(w);
}

static void put_annotations(const struct event_writer *writer, struct json_writer *w,
                            struct str text)
{
    const struct wire_citation *citation;
    size_t at = 0;
    json_key(w, "annotations");
    json_begin_array(w);
    while ((citation = next_citation(writer->request->search, text, &at)))
        put_citation(w, citation, text, at);
    json_end_array(w);
}

static void put_content_part(const struct event_writer *writer, struct json_writer *w,
                             const struct answer_part *part, bool done, struct str logprobs)
{
    struct str text = done ? buf_str(&part->text) : STR("");
    bool refusal = part->kind == PART_REFUSAL;
    json_begin_object(w);
    json_put_text(w, "type", refusal ? "refusal" : "output_text");
    json_put_string(w, refusal ? "refusal" : "text", text);
    if (!refusal) {
        put_annotations(writer, w, text);
        json_key(w, "logprobs");
        json_begin_array(w);
        json_append(w, done ? logprobs : STR_EMPTY);
        json_end_array(w);
    }
    json_end_object(w);
}

static void put_summary(struct json_writer *w, struct str text)
{
    json_begin_object(w);
    json_put_text(w, "type", "summary_text");
    json_put_string(w, "text", text);
    json_end_object(w);
}

static void put_reasoning(struct event_writer *writer, const struct answer_part *part, bool done)
{
    const struct write_state *state = writer->state;
    struct json_writer *w = &writer->json;
    json_put_text(w, "type", "reasoning");
    json_key(w, "summary");
    json_begin_array(w);
    if (done && buf_len(&part->text))
        put_summary(w, buf_str(&part->text));
    json_end_array(w);
    if (done && state->encrypted && part->signature.n)
        json_put_string(w, "encrypted_content",
                        format_wrap_signature(WIRE_OPENAI_RESPONSES, part->signed_by,
                                              part->redacted, part->id, part->signature,
                                              writer->arena));
}

static void put_call(struct event_writer *writer, const struct answer_part *part, bool done)
{
    struct json_writer *w = &writer->json;
    bool custom = is_custom(writer, part);
    json_put_text(w, "type", custom ? "custom_tool_call" : "function_call");
    json_put_text(w, "status", done ? "completed" : "in_progress");
    json_put_string(w, "call_id", part->id);
    json_put_string(w, "name", part->name);
    if (custom)
        json_put_string(w, "input", done ? custom_input(writer, part) : STR(""));
    else
        json_put_string(w, "arguments",
                        !done                  ? STR("")
                        : buf_len(&part->text) ? buf_str(&part->text)
                                               : STR("{}"));
}

static void put_item(struct event_writer *writer, const struct answer_part *part, int item,
                     bool done)
{
    struct json_writer *w = &writer->json;
    json_begin_object(w);
    put_item_id(writer, "id", part, item);
    if (part->kind == PART_REASONING) {
        put_reasoning(writer, part, done);
    } else if (part->kind == PART_TOOL_CALL) {
        put_call(writer, part, done);
    } else {
        struct str logprobs = buf_str(&writer->answer->choices[0].logprobs);
        json_put_text(w, "type", "message");
        json_put_text(w, "status", done ? "completed" : "in_progress");
        json_put_text(w, "role", "assistant");
        json_key(w, "content");
        json_begin_array(w);
        if (done)
            put_content_part(writer, w, part, true, logprobs);
        json_end_array(w);
    }
    json_end_object(w);
}

/* ---- what file_search found: an item before the others ---- */

static int first_item(const struct event_writer *writer) { return writer->request->search ? 1 : 0; }

static void put_search_id(const struct event_writer *writer, struct json_writer *w,
                          const char *name)
{
    const struct write_state *state = writer->state;
    json_put_string(w, name, arena_printf(writer->arena, "fs_%.*s", STR_ARG(state->suffix)));
}

static void put_search(struct event_writer *writer, bool done)
{
    const struct wire_search *search = writer->request->search;
    struct json_writer *w = &writer->json;
    json_begin_object(w);
    put_search_id(writer, w, "id");
    json_put_text(w, "type", "file_search_call");
    json_put_text(w, "status", done ? "completed" : "in_progress");
    json_put_raw(w, "queries", done ? search->queries : STR("[]"));
    json_put_raw(w, "results", done ? search->results : STR("null"));
    json_end_object(w);
}

/* ---- the response object ---- */

static void put_echo(struct event_writer *writer, const char *name, struct str otherwise)
{
    yyjson_val *value = yyjson_obj_get(request_root(writer), name);
    if (value && !yyjson_is_null(value))
        json_put_value(&writer->json, name, value);
    else
        json_put_raw(&writer->json, name, otherwise);
}

static void put_usage(struct json_writer *w, const struct usage *usage)
{
    uint64_t input = usage_input_total(usage), output = usage_output_total(usage);
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "input_tokens", input);
    json_key(w, "input_tokens_details");
    json_begin_object(w);
    json_put_uint(w, "cached_tokens", usage->tokens[USAGE_CACHED_INPUT]);
    json_put_uint(w, "cache_write_tokens",
                  usage->tokens[USAGE_CACHE_WRITE] + usage->tokens[USAGE_CACHE_WRITE_1H]);
    json_end_object(w);
    json_put_uint(w, "output_tokens", output);
    json_key(w, "output_tokens_details");
    json_begin_object(w);
    json_put_uint(w, "reasoning_tokens", usage->tokens[USAGE_REASONING]);
    json_end_object(w);
    json_put_uint(w, "total_tokens", input + output);
    json_end_object(w);
}

static void put_output(struct event_writer *writer)
{
    const struct event_answer *answer = writer->answer;
    struct json_writer *w = &writer->json;
    json_key(w, "output");
    json_begin_array(w);
    if (writer->request->search)
        put_search(writer, true);
    for (size_t i = 0; answer->choice_count && i < answer->choices[0].part_count; i++)
        put_item(writer, &answer->choices[0].parts[i], (int)i + first_item(writer), true);
    json_end_array(w);
}

static void put_reasoning_config(struct event_writer *writer)
{
    struct json_writer *w = &writer->json;
    yyjson_val *reasoning = yyjson_obj_get(request_root(writer), "reasoning");
    struct str effort = json_get_text(reasoning, "effort"),
               summary = json_get_text(reasoning, "summary");
    json_key(w, "reasoning");
    json_begin_object(w);
    json_put_text(w, "effort", effort.n ? effort.p : NULL);
    json_put_text(w, "summary", summary.n ? summary.p : NULL);
    json_end_object(w);
}

static const char *incomplete_reason(const struct event_answer *answer)
{
    enum finish finish = answer->choice_count ? answer->choices[0].finish : FINISH_NONE;
    return finish == FINISH_LENGTH           ? "max_output_tokens"
           : finish == FINISH_CONTENT_FILTER ? "content_filter"
                                             : NULL;
}

static void put_response(struct event_writer *writer, bool done)
{
    struct json_writer *w = &writer->json;
    const char *reason = done ? incomplete_reason(writer->answer) : NULL;
    json_begin_object(w);
    json_put_string(w, "id", response_id_of(writer));
    json_put_text(w, "object", "response");
    json_put_int(w, "created_at", writer->now_s);
    json_put_text(w, "status", !done ? "in_progress" : reason ? "incomplete" : "completed");
    json_put_bool(w, "background", false);
    json_put_null(w, "error");
    json_key(w, "incomplete_details");
    if (reason) {
        json_begin_object(w);
        json_put_text(w, "reason", reason);
        json_end_object(w);
    } else {
        json_null(w);
    }
    put_echo(writer, "instructions", STR("null"));
    put_echo(writer, "max_output_tokens", STR("null"));
    put_echo(writer, "max_tool_calls", STR("null"));
    json_put_string(w, "model", writer->model);
    if (done) {
        put_output(writer);
    } else {
        json_key(w, "output");
        json_raw(w, STR("[]"));
    }
    put_echo(writer, "parallel_tool_calls", STR("true"));
    json_put_null(w, "previous_response_id");
    put_reasoning_config(writer);
    json_put_bool(w, "store", false);
    put_echo(writer, "temperature", STR("1.0"));
    put_echo(writer, "text", STR("{\"format\":{\"type\":\"text\"}}"));
    put_echo(writer, "tool_choice", STR("\"auto\""));
    put_echo(writer, "tools", STR("[]"));
    put_echo(writer, "top_p", STR("1.0"));
    json_put_text(w, "truncation", "disabled");
    if (done && writer->answer->usage.known)
        put_usage(w, &writer->answer->usage);
    put_echo(writer, "metadata", STR("{}"));
    if (writer->request->user.n)
        json_put_string(w, "user", writer->request->user);
    json_end_object(w);
}

/* ---- stream events ---- */

static struct json_writer *begin_event(struct event_writer *writer, const char *type)
{
    struct write_state *state = writer->state;
    struct json_writer *w = &writer->json;
    json_append(w, STR("event: "));
    json_append(w, str_from(type));
    json_append(w, STR("\ndata: "));
    w->comma = false;
    json_begin_object(w);
    json_put_text(w, "type", type);
    json_put_int(w, "sequence_number", state->sequence++);
    return w;
}

static void end_event(struct json_writer *w)
{
    json_end_object(w);
    json_append(w, STR("\n\n"));
    w->comma = false;
}

static void write_response(struct event_writer *writer, const char *type, bool done)
{
    struct json_writer *w = begin_event(writer, type);
    json_key(w, "response");
    put_response(writer, done);
    end_event(w);
}

static void write_item(struct event_writer *writer, const struct answer_part *part, int item,
                       bool done)
{
    struct json_writer *w =
        begin_event(writer, done ? "response.output_item.done" : "response.output_item.added");
    json_put_int(w, "output_index", item);
    json_key(w, "item");
    put_item(writer, part, item, done);
    end_event(w);
}

/* item_id, output_index and the index of the content or summary within it. */
static struct json_writer *begin_inner(struct event_writer *writer, const char *type,
                                       const struct answer_part *part, int item)
{
    struct json_writer *w = begin_event(writer, type);
    put_item_id(writer, "item_id", part, item);
    json_put_int(w, "output_index", item);
    if (part->kind == PART_REASONING)
        json_put_int(w, "summary_index", 0);
    else if (part->kind != PART_TOOL_CALL)
        json_put_int(w, "content_index", 0);
    return w;
}

static void write_inner_part(struct event_writer *writer, const struct answer_part *part, int item,
                             bool done)
{
    bool reasoning = part->kind == PART_REASONING;
    const char *type = reasoning ? done ? "response.reasoning_summary_part.done"
                                        : "response.reasoning_summary_part.added"
                       : done    ? "response.content_part.done"
                                 : "response.content_part.added";
    struct json_writer *w = begin_inner(writer, type, part, item);
    json_key(w, "part");
    if (reasoning)
        put_summary(w, done ? buf_str(&part->text) : STR(""));
    else
        put_content_part(writer, w, part, done, buf_str(&writer->answer->choices[0].logprobs));
    end_event(w);
}

static void write_begin(struct event_writer *writer, const struct answer_part *part, int item)
{
    write_item(writer, part, item, false);
    if (part->kind == PART_TEXT || part->kind == PART_REFUSAL)
        write_inner_part(writer, part, item, false);
}

static void write_delta(struct event_writer *writer, const struct event *event,
                        const struct answer_part *part, int item)
{
    static const char *const types[PART_KIND_COUNT] = {
        [PART_TEXT] = "response.output_text.delta",
        [PART_REFUSAL] = "response.refusal.delta",
        [PART_REASONING] = "response.reasoning_summary_text.delta",
        [PART_TOOL_CALL] = "response.function_call_arguments.delta",
    };
    if (part->kind == PART_TOOL_CALL && is_custom(writer, part))
        return; /* its text stands inside of JSON: told when it is complete */
    /* The summary's part is announced with its first text: an encrypted item may have none. */
    if (part->kind == PART_REASONING && buf_len(&part->text) == event->text.n)
        write_inner_part(writer, part, item, false);
    struct json_writer *w = begin_inner(writer, types[part->kind], part, item);
    json_put_string(w, "delta", event->text);
    if (part->kind == PART_TEXT)
        json_put_raw(w, "logprobs", event->logprobs.n ? event->logprobs : STR("[]"));
    end_event(w);
}

static void write_custom_input(struct event_writer *writer, const struct answer_part *part,
                               int item)
{
    struct str input = custom_input(writer, part);
    struct json_writer *w =
        begin_inner(writer, "response.custom_tool_call_input.delta", part, item);
    json_put_string(w, "delta", input);
    end_event(w);
    begin_inner(writer, "response.custom_tool_call_input.done", part, item);
    json_put_string(w, "input", input);
    end_event(w);
}

static void write_text_done(struct event_writer *writer, const struct answer_part *part, int item)
{
    struct str text = buf_str(&part->text);
    struct json_writer *w = &writer->json;
    switch (part->kind) {
    case PART_TOOL_CALL:
        begin_inner(writer, "response.function_call_arguments.done", part, item);
        json_put_string(w, "name", part->name);
        json_put_string(w, "arguments", text.n ? text : STR("{}"));
        break;
    case PART_REFUSAL:
        begin_inner(writer, "response.refusal.done", part, item);
        json_put_string(w, "refusal", text);
        break;
    case PART_REASONING:
        begin_inner(writer, "response.reasoning_summary_text.done", part, item);
        json_put_string(w, "text", text);
        break;
    default:
        begin_inner(writer, "response.output_text.done", part, item);
        json_put_string(w, "text", text);
        json_key(w, "logprobs");
        json_begin_array(w);
        json_append(w, buf_str(&writer->answer->choices[0].logprobs));
        json_end_array(w);
        break;
    }
    end_event(w);
}

static void write_annotations(struct event_writer *writer, const struct answer_part *part, int item)
{
    const struct wire_citation *citation;
    struct str text = buf_str(&part->text);
    size_t at = 0;
    int index = 0;
    while ((citation = next_citation(writer->request->search, text, &at))) {
        struct json_writer *w =
            begin_inner(writer, "response.output_text.annotation.added", part, item);
        json_put_int(w, "annotation_index", index++);
        json_key(w, "annotation");
        put_citation(w, citation, text, at);
        end_event(w);
    }
}

static void write_search_item(struct event_writer *writer, bool done)
{
    struct json_writer *w =
        begin_event(writer, done ? "response.output_item.done" : "response.output_item.added");
    json_put_int(w, "output_index", 0);
    json_key(w, "item");
    put_search(writer, done);
    end_event(w);
}

static void write_search(struct event_writer *writer)
{
    static const char *const steps[] = {"response.file_search_call.in_progress",
                                        "response.file_search_call.searching",
                                        "response.file_search_call.completed"};
    write_search_item(writer, false);
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        struct json_writer *w = begin_event(writer, steps[i]);
        json_put_int(w, "output_index", 0);
        put_search_id(writer, w, "item_id");
        end_event(w);
    }
    write_search_item(writer, true);
}

static void write_part_end(struct event_writer *writer, const struct answer_part *part, int item)
{
    if (part->kind == PART_TOOL_CALL && is_custom(writer, part))
        write_custom_input(writer, part, item);
    else if (part->kind != PART_REASONING || buf_len(&part->text)) {
        if (part->kind == PART_TEXT)
            write_annotations(writer, part, item);
        write_text_done(writer, part, item);
    }
    if (part->kind != PART_TOOL_CALL && (part->kind != PART_REASONING || buf_len(&part->text)))
        write_inner_part(writer, part, item, true);
    write_item(writer, part, item, true);
}

enum rc openai_responses_write_event(struct event_writer *writer, const struct event *event)
{
    if (event->kind == EVENT_START) {
        enum rc rc = make_state(writer, event->response_id);
        if (rc)
            return rc;
        write_response(writer, "response.created", false);
        write_response(writer, "response.in_progress", false);
        if (writer->request->search)
            write_search(writer);
        return writer->json.rc;
    }
    if (event->kind == EVENT_DONE) {
        write_response(
            writer,
            incomplete_reason(writer->answer) ? "response.incomplete" : "response.completed", true);
        return writer->json.rc;
    }
    if (event->kind == EVENT_USAGE || event->kind == EVENT_FINISH || event->choice > 0)
        return RC_OK;
    /* Output items stand in the parts' order. */
    const struct answer_part *part = &writer->answer->choices[0].parts[event->part];
    int item = event->part + first_item(writer);
    if (event->kind == EVENT_PART_BEGIN)
        write_begin(writer, part, item);
    else if (event->kind == EVENT_PART_DELTA)
        write_delta(writer, event, part, item);
    else if (event->kind == EVENT_PART_END)
        write_part_end(writer, part, item);
    return writer->json.rc;
}

enum rc openai_responses_write_whole(struct event_writer *writer, const struct event_answer *answer)
{
    enum rc rc = make_state(writer, answer->response_id);
    if (rc)
        return rc;
    put_response(writer, true);
    return writer->json.rc;
}
