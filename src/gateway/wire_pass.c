/* Answers in the door's own format. Bytes go through unchanged: whole events as they came, in runs
 * as long as the reads were; a copy is never made but of an event that was cut between two reads,
 * and of the opening events that are held back until content follows.
 *
 * What an event costs: finding its end, and two or three searches for a key. JSON is parsed only
 * where content has not begun yet and where a key was found: the first events and the last one or
 * two. */
#include "gateway/wire_internal.h"
#include "gateway/wire_scan.h"
#include <stdlib.h>

#define SCRATCH_BYTES_MAX (LIMIT_SSE_EVENT_BYTES * 8)

struct wire_pass {
    const struct wire_answer_options *options;
    struct arena *arena;
    enum wire_format format;
    bool stream;

    struct sse_parser parser;
    struct buf held; /* opening events of a stream */
    char *whole;     /* the answer that is no stream, in the arena */
    size_t whole_bytes, whole_capacity;
    struct buf out; /* changed events of this read, where the model's name is replaced */
    struct str run; /* events of this read that go through, in one piece */
    struct arena scratch;

    bool content_seen, done, finished, opened, failed;
    struct err *err; /* the caller's, during a call */
    struct usage usage;
    struct str finish_reason, response_model, response_id; /* in the arena */
};

static bool is_streamed(const struct wire_answer_options *options)
{
    return options->upstream->stream && options->upstream->format != WIRE_OPAQUE &&
           options->upstream->format != WIRE_OPENAI_EMBEDDINGS;
}

struct wire_pass *wire_pass_new(struct arena *arena, const struct wire_answer_options *options)
{
    struct wire_pass *pass = calloc(1, sizeof(*pass)); /* as wire_answer */
    if (!pass)
        return NULL;
    pass->options = options;
    pass->arena = arena;
    pass->format = options->upstream->format;
    pass->stream = is_streamed(options);
    sse_parser_init(&pass->parser);
    buf_init(&pass->held, LIMIT_STALLED_BYTES);
    buf_init(&pass->out, LIMIT_RESPONSE_BYTES);
    arena_init(&pass->scratch, SCRATCH_BYTES_MAX);
    return pass;
}

void wire_pass_fini(struct wire_pass *pass)
{
    sse_parser_fini(&pass->parser);
    buf_fini(&pass->held);
    buf_fini(&pass->out);
    arena_fini(&pass->scratch);
    free(pass);
}

/* ---- what is known of the answer ---- */

static struct str keep(struct wire_pass *pass, struct str s)
{
    struct str copy = s.n ? arena_copy(pass->arena, s) : STR_EMPTY;
    return copy.p ? copy : STR_EMPTY;
}

/* A response's own members, where it names them: chat's chunks, Anthropic's message, Responses'
 * response. */
static void note_response(struct wire_pass *pass, yyjson_val *response)
{
    struct str id = json_get_text(response, "id"), model = json_get_text(response, "model");
    if (!pass->response_id.n)
        pass->response_id = keep(pass, id);
    if (!pass->response_model.n)
        pass->response_model = keep(pass, model);
    wire_read_usage(pass->format, pass->options->upstream->row, yyjson_obj_get(response, "usage"),
                    &pass->usage);
}

static void note_finish(struct wire_pass *pass, struct str reason)
{
    if (!reason.n)
        return;
    pass->finished = true;
    pass->finish_reason = keep(pass, wire_finish_name(reason));
}

static void fail_with_error(struct wire_pass *pass, struct str data)
{
    pass->failed = true;
    wire_read_error(pass->format, 200, data, pass->err);
}

static void fail(struct wire_pass *pass, const char *message)
{
    pass->failed = true;
    err_set(pass->err, ERR_UPSTREAM_PROTOCOL, "%s", message);
}

/* ---- events ---- */

enum pass_action { PASS_KEEP, PASS_DROP };

static yyjson_val *parse(struct wire_pass *pass, struct str data)
{
    yyjson_doc *doc = NULL;
    if (json_read(data, &pass->scratch, &doc, NULL) != RC_OK)
        return NULL;
    return yyjson_doc_get_root(doc);
}

static bool text_or_items(yyjson_val *value)
{
    return (yyjson_is_str(value) && yyjson_get_len(value) > 0) || yyjson_arr_size(value) > 0 ||
           yyjson_obj_size(value) > 0;
}

/* A delta bears content if anything but its role is in it. */
static bool chat_bears_content(yyjson_val *choice)
{
    yyjson_val *key, *value;
    size_t i, n;
    if (text_or_items(yyjson_obj_get(choice, "text")))
        return true;
    yyjson_obj_foreach(yyjson_obj_get(choice, "delta"), i, n, key, value)
    {
        if (!yyjson_equals_str(key, "role") && text_or_items(value))
            return true;
    }
    return false;
}

static enum pass_action read_chat_chunk(struct wire_pass *pass, struct str data)
{
    yyjson_val *root = parse(pass, data), *choice;
    if (!root) {
        fail(pass, "the provider sent a stream event that is not JSON");
        return PASS_DROP;
    }
    yyjson_val *choices = yyjson_obj_get(root, "choices");
    yyjson_val *error = yyjson_obj_get(root, "error");
    if (error && !yyjson_is_null(error) && yyjson_arr_size(choices) == 0) {
        fail_with_error(pass, data);
        return PASS_DROP;
    }
    note_response(pass, root);
    yyjson_val *groq = yyjson_obj_get(yyjson_obj_get(root, "x_groq"), "usage");
    if (groq)
        wire_read_usage(pass->format, pass->options->upstream->row, groq, &pass->usage);
    size_t i, n;
    yyjson_arr_foreach(choices, i, n, choice)
    {
        struct str reason = json_get_text(choice, "finish_reason");
        note_finish(pass, reason);
        if (reason.n || chat_bears_content(choice))
            pass->content_seen = true;
    }
    bool usage_only = yyjson_is_obj(yyjson_obj_get(root, "usage")) && yyjson_arr_size(choices) == 0;
    return usage_only && !pass->options->request->usage_asked ? PASS_DROP : PASS_KEEP;
}

/* Nothing but content: neither how the answer ended, nor usage, nor an error. */
static bool chat_is_plain(struct str data)
{
    static const struct str finish = STR_INIT("\"finish_reason\""), usage = STR_INIT("\"usage\""),
                            error = STR_INIT("\"error\"");
    for (size_t at = 0; (at = scan_quote(data, at, "fue")) < data.n; at++) {
        if (scan_starts(data, at, finish) ? scan_value(data, at + finish.n) == '"'
            : scan_starts(data, at, usage)
                ? scan_value(data, at + usage.n) == '{'
                : scan_starts(data, at, error) && scan_value(data, at + error.n) != 0)
            return false;
    }
    return true;
}

static enum pass_action scan_chat(struct wire_pass *pass, const struct sse_event *event)
{
    struct str data = event->data;
    if (data.n == 6 && memcmp(data.p, "[DONE]", 6) == 0) {
        pass->done = true;
        return PASS_KEEP;
    }
    if (LIKELY(pass->content_seen) && chat_is_plain(data))
        return PASS_KEEP;
    return read_chat_chunk(pass, data);
}

static enum pass_action read_anthropic(struct wire_pass *pass, struct str type, struct str data)
{
    yyjson_val *root = parse(pass, data);
    if (!root) {
        fail(pass, "the provider sent a stream event that is not JSON");
        return PASS_DROP;
    }
    if (!type.n)
        type = json_get_text(root, "type");
    if (str_eq(type, STR("error"))) {
        fail_with_error(pass, data);
        return PASS_DROP;
    }
    if (str_eq(type, STR("message_start"))) {
        note_response(pass, yyjson_obj_get(root, "message"));
    } else if (str_eq(type, STR("message_delta"))) {
        wire_read_usage(pass->format, NULL, yyjson_obj_get(root, "usage"), &pass->usage);
        note_finish(pass, json_get_text(yyjson_obj_get(root, "delta"), "stop_reason"));
        pass->content_seen = true;
    } else if (str_eq(type, STR("message_stop"))) {
        pass->done = true;
    } else if (str_eq(type, STR("content_block_delta"))) {
        pass->content_seen = true;
    }
    return PASS_KEEP;
}

static enum pass_action scan_anthropic(struct wire_pass *pass, const struct sse_event *event)
{
    if (LIKELY(str_eq(event->name, STR("content_block_delta")))) {
        pass->content_seen = true;
        return PASS_KEEP;
    }
    if (str_eq(event->name, STR("ping")) || str_starts(event->name, STR("content_block")))
        return PASS_KEEP;
    return read_anthropic(pass, event->name, event->data);
}

static enum pass_action read_responses(struct wire_pass *pass, struct str type, struct str data)
{
    yyjson_val *root = parse(pass, data);
    if (!root) {
        fail(pass, "the provider sent a stream event that is not JSON");
        return PASS_DROP;
    }
    if (!type.n)
        type = json_get_text(root, "type");
    yyjson_val *response = yyjson_obj_get(root, "response");
    if (str_eq(type, STR("error")) || str_eq(type, STR("response.failed"))) {
        fail_with_error(pass, data);
        return PASS_DROP;
    }
    if (str_eq(type, STR("response.completed")) || str_eq(type, STR("response.incomplete"))) {
        note_response(pass, response);
        struct str reason = json_get_text(yyjson_obj_get(response, "incomplete_details"), "reason");
        note_finish(pass, reason.n ? reason : wire_responses_finish(response));
        pass->content_seen = pass->done = true;
    } else if (response) {
        note_response(pass, response);
    } else if (str_ends(type, STR(".delta")) || str_ends(type, STR(".done"))) {
        pass->content_seen = true;
    }
    return PASS_KEEP;
}

static enum pass_action scan_responses(struct wire_pass *pass, const struct sse_event *event)
{
    if (LIKELY(str_ends(event->name, STR(".delta")))) {
        pass->content_seen = true;
        return PASS_KEEP;
    }
    bool plain = str_starts(event->name, STR("response.output_")) ||
                 str_starts(event->name, STR("response.content_part"));
    return plain ? PASS_KEEP : read_responses(pass, event->name, event->data);
}

static enum pass_action scan(struct wire_pass *pass, const struct sse_event *event)
{
    if (!event->data.p)
        return PASS_KEEP; /* a comment */
    switch (pass->format) {
    case WIRE_ANTHROPIC: return scan_anthropic(pass, event);
    case WIRE_OPENAI_RESPONSES: return scan_responses(pass, event);
    default: return scan_chat(pass, event);
    }
}

/* ---- out ---- */

static void write_bytes(struct wire_pass *pass, struct str bytes)
{
    if (bytes.n)
        pass->options->write(pass->options->arg, bytes);
}

static void flush_run(struct wire_pass *pass)
{
    write_bytes(pass, pass->run);
    pass->run = STR_EMPTY;
}

/* Appends the event with the model's name replaced by the one the client asked for. */
static enum rc append_shown(struct wire_pass *pass, struct buf *to, struct str raw)
{
    ssize_t at = pass->options->model_shown.n ? scan_member(raw, STR("\"model\"")) : -1;
    size_t end = at >= 0 && raw.p[at] == '"' ? json_skip_value(raw, (size_t)at) : 0;
    if (!end)
        return buf_append(to, raw);
    struct json_writer w = json_writer_to(to);
    json_append(&w, str_slice(raw, 0, (size_t)at + 1));
    json_append_escaped(&w, pass->options->model_shown);
    json_append(&w, str_slice(raw, end - 1, raw.n));
    return w.rc;
}

static void pass_on(struct wire_pass *pass, struct str raw)
{
    if (pass->options->model_shown.n) {
        if (append_shown(pass, &pass->out, raw) != RC_OK)
            fail(pass, "the provider's stream event is too long");
        return;
    }
    if (pass->run.n && pass->run.p + pass->run.n == raw.p) {
        pass->run.n += raw.n;
        return;
    }
    flush_run(pass);
    pass->run = raw;
}

/* Opening events wait for content; once there are too many of them they flow all the same. */
static void hold(struct wire_pass *pass, struct str raw)
{
    if (append_shown(pass, &pass->held, raw) != RC_OK)
        pass->content_seen = true;
}

static void release_held(struct wire_pass *pass)
{
    pass->opened = true;
    write_bytes(pass, buf_str(&pass->held));
    buf_release(&pass->held);
}

static enum rc each_event(void *arg, const struct sse_event *event)
{
    struct wire_pass *pass = arg;
    if (pass->done)
        return RC_END;
    enum pass_action action = scan(pass, event);
    arena_reset(&pass->scratch);
    if (pass->failed)
        return RC_INVALID;
    bool joined =
        buf_len(&pass->parser.rest) > 0; /* raw points into memory that ends with this call */
    if (pass->done)
        pass->content_seen = true;
    bool held = action == PASS_KEEP && !pass->content_seen;
    if (held)
        hold(pass, event->raw);
    if (pass->content_seen && !pass->opened)
        release_held(pass);
    if (action == PASS_KEEP && (!held || pass->content_seen))
        pass_on(pass, event->raw);
    if (joined)
        flush_run(pass);
    return pass->failed ? RC_INVALID : RC_OK;
}

static void flush(struct wire_pass *pass)
{
    flush_run(pass);
    write_bytes(pass, buf_str(&pass->out));
    buf_clear(&pass->out);
}

static enum wire_verdict verdict(const struct wire_pass *pass)
{
    if (pass->failed)
        return WIRE_FAILED;
    return pass->done ? WIRE_DONE : pass->content_seen ? WIRE_FLOW : WIRE_HOLD;
}

/* The first piece is most often all of it: room for just that. */
static bool keep_whole(struct wire_pass *pass, struct str bytes)
{
    size_t need = pass->whole_bytes + bytes.n;
    if (need > LIMIT_RESPONSE_BYTES)
        return false;
    if (need > pass->whole_capacity) {
        size_t capacity = MAX(need, MIN(pass->whole_capacity * 2, (size_t)LIMIT_RESPONSE_BYTES));
        char *p = arena_alloc(pass->arena, capacity);
        if (!p)
            return false;
        if (pass->whole_bytes)
            memcpy(p, pass->whole, pass->whole_bytes);
        pass->whole = p;
        pass->whole_capacity = capacity;
    }
    if (bytes.n)
        memcpy(pass->whole + pass->whole_bytes, bytes.p, bytes.n);
    pass->whole_bytes = need;
    return true;
}

static enum wire_verdict data_of_whole(struct wire_pass *pass, struct str bytes)
{
    if (pass->format == WIRE_OPAQUE) {
        pass->content_seen = pass->content_seen || bytes.n > 0;
        write_bytes(pass, bytes);
    } else if (!keep_whole(pass, bytes)) {
        fail(pass, "the provider's answer is too long");
    }
    return verdict(pass);
}

enum wire_verdict wire_pass_data(struct wire_pass *pass, struct str bytes, struct err *err)
{
    pass->err = err;
    if (!pass->stream)
        return data_of_whole(pass, bytes);
    if (pass->done || pass->failed)
        return verdict(pass);
    if (sse_parse(&pass->parser, bytes, each_event, pass) == RC_LIMIT)
        fail(pass, "the provider sent a stream event that is too long");
    flush(pass);
    return verdict(pass);
}

/* ---- the end ---- */

static yyjson_val *member_parse(struct wire_pass *pass, const struct json_object *answer,
                                struct str name)
{
    const struct json_member *member = json_member_find(answer, name);
    return member ? parse(pass, json_member_value(answer, member)) : NULL;
}

/* A member's text; parsed only where it has escapes. */
static struct str member_text(struct wire_pass *pass, const struct json_object *answer,
                              struct str name)
{
    const struct json_member *member = json_member_find(answer, name);
    struct str value = member ? json_member_value(answer, member) : STR_EMPTY;
    if (value.n < 2 || value.p[0] != '"')
        return STR_EMPTY;
    return memchr(value.p, '\\', value.n) ? json_text(parse(pass, value))
                                          : str_slice(value, 1, value.n - 1);
}

/* A whole answer is looked through by its members' places; only small values are parsed. */
static void read_whole(struct wire_pass *pass, struct json_object *answer)
{
    pass->response_id = keep(pass, member_text(pass, answer, STR("id")));
    pass->response_model = keep(pass, member_text(pass, answer, STR("model")));
    wire_read_usage(pass->format, pass->options->upstream->row,
                    member_parse(pass, answer, STR("usage")), &pass->usage);
    note_finish(pass, member_text(pass, answer, STR("stop_reason")));
    yyjson_val *incomplete = member_parse(pass, answer, STR("incomplete_details"));
    note_finish(pass, json_get_text(incomplete, "reason"));
    const struct json_member *choices = json_member_find(answer, STR("choices"));
    if (choices) {
        struct str value = json_member_value(answer, choices);
        ssize_t at = scan_member(value, STR("\"finish_reason\""));
        size_t end = at >= 0 && value.p[at] == '"' ? json_skip_value(value, (size_t)at) : 0;
        if (end)
            note_finish(pass, str_slice(value, (size_t)at + 1, end - 1));
    }
    if (pass->format == WIRE_OPENAI_RESPONSES && !pass->finished)
        note_finish(pass, scan_member(answer->source, STR("\"call_id\"")) >= 0 ? STR("tool_calls")
                                                                               : STR("stop"));
}

static void write_whole(struct wire_pass *pass, struct json_object *answer)
{
    const struct json_member *model = json_member_find(answer, STR("model"));
    if (!pass->options->model_shown.n || !model) {
        if (pass->options->write_whole)
            pass->options->write_whole(pass->options->arg, answer->source);
        else
            write_bytes(pass, answer->source);
        return;
    }
    struct json_writer w = json_writer_to(&pass->out);
    json_append(&w, str_slice(answer->source, 0, model->value_from));
    w.comma = false;
    json_string(&w, pass->options->model_shown);
    json_append(&w, str_slice(answer->source, model->value_to, answer->source.n));
    if (w.rc)
        fail(pass, "the provider's answer is too long");
    else
        flush(pass);
}

static void end_whole(struct wire_pass *pass)
{
    struct str body = str_make(pass->whole, pass->whole_bytes);
    struct json_object answer;
    if (pass->format == WIRE_OPAQUE) {
        pass->done = true;
        return;
    }
    enum rc rc = json_index(body, pass->arena, &answer);
    if (rc) {
        fail(pass, "the provider's answer is not a JSON object");
        return;
    }
    const struct json_member *error = json_member_find(&answer, STR("error"));
    if (error && !str_eq(json_member_value(&answer, error), STR("null"))) {
        fail_with_error(pass, body);
        return;
    }
    read_whole(pass, &answer);
    write_whole(pass, &answer);
    pass->content_seen = pass->done = true;
}

enum wire_verdict wire_pass_end(struct wire_pass *pass, struct err *err)
{
    pass->err = err;
    if (!pass->failed && !pass->done) {
        bool chat = pass->format == WIRE_OPENAI_CHAT || pass->format == WIRE_OPENAI_COMPLETIONS;
        if (!pass->stream) {
            end_whole(pass);
        } else if (chat && pass->finished) {
            write_bytes(pass, STR("data: [DONE]\n\n")); /* some leave it away */
            pass->done = true;
        } else {
            fail(pass, "the provider's stream ended before the answer was complete");
        }
    }
    return verdict(pass);
}

void wire_pass_outcome(const struct wire_pass *pass, struct wire_outcome *out)
{
    out->usage = pass->usage;
    out->finish_reason = pass->finish_reason;
    out->response_id = pass->response_id;
    out->response_model = pass->response_model;
    out->content_seen = pass->content_seen;
}
