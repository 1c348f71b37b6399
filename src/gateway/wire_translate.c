/* Requests and answers by way of the event model. An answer's events go through up to three stages:
 *
 *   reader (upstream's format) → emulated tools → output checks → collector and writer (door's
 * format)
 *
 * A stage is a function that takes an event and hands on none, one or several. What the writer
 * makes is held back until content has come, so that another target may still be tried. A stream
 * can become a whole answer (engines are always asked for a stream); the other way round there is
 * nothing to gain. */
#include "gateway/provider/format.h"
#include "gateway/wire_internal.h"

#define SCRATCH_BYTES_MAX (LIMIT_SSE_EVENT_BYTES * 8)

/* A text under checks: a part of a choice. */
struct checked_part {
    struct checked_part *next;
    int choice, part;
    unsigned findings; /* when it began: a part that was masked loses its signature */
    struct check_stream *stream;
};

/* An answer that is a tool call in disguise. */
struct emulated_part {
    struct emulated_part *next;
    int choice, part;
    bool called;
    struct buf text;
};

struct wire_translation {
    const struct wire_answer_options *options;
    const struct provider_format *from, *to;
    struct arena *arena;
    struct arena scratch;
    struct sse_parser parser;
    struct buf whole; /* an upstream's whole answer */
    struct buf out;   /* written, not yet passed on */
    struct event_reader reader;
    struct event_writer writer;
    struct event_answer answer;
    bool content_seen, failed, emulates, checks;
    struct emulated_part *emulated;
    struct checked_part *checked;
    struct check_report report;
};

/* ---- the request ---- */

static enum rc finish_body(struct buf *buf, enum rc rc, struct str params, struct arena *arena,
                           struct str *body, struct err *err)
{
    struct str text = rc ? STR_EMPTY : arena_copy(arena, buf_str(buf));
    if (!rc && !text.p)
        return format_out_of_memory(err);
    if (!rc && format_merge_params(text, params, arena, body))
        return format_out_of_memory(err);
    return rc;
}

enum rc wire_translate_request(const struct wire_request *request,
                               const struct wire_upstream *upstream, struct arena *arena,
                               struct str *body, struct err *err)
{
    const struct provider_format *from = provider_format_of(request->format);
    const struct provider_format *to = provider_format_of(upstream->format);
    if (!from || !to)
        return err_set(err, ERR_UNSUPPORTED,
                       "the provider does not offer this endpoint: choose another target");
    struct event_request *model = ARENA_NEW(arena, struct event_request);
    if (!model)
        return format_out_of_memory(err);
    struct buf buf;
    buf_init(&buf, 2 * LIMIT_BODY_BYTES);
    struct json_writer w = json_writer_to(&buf);
    enum rc rc = from->read_request(request, arena, model, err);
    model->stream = upstream->stream;
    if (!rc)
        rc = to->write_request(model, upstream, arena, &w, err);
    if (!rc && w.rc)
        rc = format_out_of_memory(err);
    rc = finish_body(&buf, rc, upstream->params, arena, body, err);
    buf_fini(&buf);
    return rc;
}

/* ---- stages ---- */

static bool bears_content(const struct event *event)
{
    return (event->kind == EVENT_PART_DELTA && event->text.n) || event->kind == EVENT_FINISH ||
           (event->kind == EVENT_PART_BEGIN && event->part_kind == PART_TOOL_CALL);
}

static enum rc deliver(struct wire_translation *t, const struct event *event);

/* A call without arguments is one with none: clients parse what they got, and "" is no JSON. */
static enum rc complete_call(struct wire_translation *t, const struct event *event)
{
    const struct event_answer *answer = &t->answer;
    bool ends_call = event->kind == EVENT_PART_END && event->part_kind == PART_TOOL_CALL &&
                     (size_t)event->choice < answer->choice_count &&
                     (size_t)event->part < answer->choices[event->choice].part_count;
    if (!ends_call || answer->choices[event->choice].parts[event->part].has_text ||
        answer->choices[event->choice].parts[event->part].custom)
        return RC_OK;
    struct event delta = *event;
    delta.kind = EVENT_PART_DELTA;
    delta.text = STR("{}");
    return deliver(t, &delta);
}

/* Last stage: adds the event up and writes it for the door. */
static enum rc deliver(struct wire_translation *t, const struct event *event)
{
    if (complete_call(t, event))
        return RC_INVALID;
    enum rc rc = event_answer_add(&t->answer, event);
    if (rc == RC_LIMIT)
        err_set(t->reader.err, ERR_UPSTREAM_PROTOCOL, "the provider's answer is too long");
    else if (rc)
        format_protocol_error(&t->reader, "came out of order");
    if (rc)
        return rc;
    if (bears_content(event))
        t->content_seen = true;
    if (event->kind == EVENT_START && !t->writer.model.n)
        t->writer.model = t->answer.model;
    if (!t->options->request->stream)
        return RC_OK;
    rc = t->to->write_event(&t->writer, event);
    if (rc)
        err_set(t->reader.err, ERR_UPSTREAM_PROTOCOL, "the provider's answer is too long");
    return rc;
}

static unsigned findings_of(const struct check_report *report)
{
    unsigned sum = 0;
    for (size_t i = 0; i < report->count; i++)
        sum += report->findings[i].count;
    return sum;
}

static struct checked_part *checked_part(struct wire_translation *t, const struct event *event)
{
    struct checked_part *part = t->checked;
    while (part && (part->choice != event->choice || part->part != event->part))
        part = part->next;
    if (part)
        return part;
    const struct route *route = t->options->route;
    part = ARENA_NEW(t->arena, struct checked_part);
    if (!part)
        return NULL;
    part->stream = check_stream_new(route->checks, route->check_count, CHECK_OUTPUT, t->arena);
    if (!part->stream)
        return NULL;
    part->choice = event->choice;
    part->part = event->part;
    part->findings = findings_of(&t->report);
    part->next = t->checked;
    t->checked = part;
    return part;
}

static enum rc deliver_checked(struct wire_translation *t, const struct event *event,
                               struct str text)
{
    struct event delta = *event;
    delta.kind = EVENT_PART_DELTA;
    delta.text = text;
    delta.logprobs = STR_EMPTY; /* they would tell what a mask hides */
    return text.n ? deliver(t, &delta) : RC_OK;
}

static enum rc check_stage(struct wire_translation *t, const struct event *event)
{
    bool text = event->kind == EVENT_PART_DELTA || event->kind == EVENT_PART_END ||
                event->kind == EVENT_PART_SIGN;
    if (!t->checks || !text)
        return deliver(t, event);
    struct checked_part *part = checked_part(t, event);
    struct str out = STR_EMPTY;
    if (!part)
        return format_out_of_memory(t->reader.err);
    if (event->kind == EVENT_PART_SIGN)
        return findings_of(&t->report) == part->findings ? deliver(t, event) : RC_OK;
    enum rc rc = event->kind == EVENT_PART_DELTA
                     ? check_stream_push(part->stream, event->text, &out, &t->report)
                     : check_stream_finish(part->stream, &out, &t->report);
    if (t->report.blocked)
        return check_blocked_err(&t->report, t->reader.err);
    if (rc)
        return err_set(t->reader.err, ERR_CHECK_BLOCKED,
                       "the answer is too long or too hard to check");
    rc = deliver_checked(t, event, out);
    return rc || event->kind == EVENT_PART_DELTA ? rc : deliver(t, event);
}

static struct emulated_part *emulated_part(struct wire_translation *t, const struct event *event)
{
    struct emulated_part *part = t->emulated;
    while (part && (part->choice != event->choice || part->part != event->part))
        part = part->next;
    if (part || event->kind != EVENT_PART_BEGIN)
        return part;
    part = ARENA_NEW(t->arena, struct emulated_part);
    if (!part)
        return NULL;
    part->choice = event->choice;
    part->part = event->part;
    part->next = t->emulated;
    t->emulated = part;
    buf_init(&part->text, LIMIT_SSE_EVENT_BYTES);
    return part;
}

/* The text has ended: if it is {"name", "arguments"} it was a call, else (cut off) it stays a text.
 */
static enum rc end_emulated(struct wire_translation *t, struct emulated_part *part)
{
    yyjson_doc *doc = NULL;
    struct str text = buf_str(&part->text);
    struct event event = {
        .choice = part->choice, .part = part->part, .part_kind = PART_TEXT, .text = text};
    if (json_read(text, &t->scratch, &doc, NULL) == RC_OK) {
        yyjson_val *root = yyjson_doc_get_root(doc);
        yyjson_val *arguments = yyjson_obj_get(root, "arguments");
        event.name = json_get_text(root, "name");
        part->called = event.name.n && yyjson_is_obj(arguments);
        if (part->called) {
            event.part_kind = PART_TOOL_CALL;
            event.text = json_write(arguments, &t->scratch);
            event.id = arena_printf(&t->scratch, "call_%.*s_%d", STR_ARG(t->answer.response_id),
                                    part->choice);
        }
    }
    struct event begin = event;
    begin.kind = EVENT_PART_BEGIN;
    begin.text = STR_EMPTY;
    enum rc rc = check_stage(t, &begin);
    event.kind = EVENT_PART_DELTA;
    if (!rc)
        rc = check_stage(t, &event);
    event.kind = EVENT_PART_END;
    return rc ? rc : check_stage(t, &event);
}

static enum rc emulation_stage(struct wire_translation *t, const struct event *event)
{
    if (!t->emulates)
        return check_stage(t, event);
    if (event->kind == EVENT_FINISH) {
        struct event finish = *event;
        for (struct emulated_part *part = t->emulated; part; part = part->next)
            if (part->choice == event->choice && part->called && event->finish == FINISH_STOP)
                finish.finish = FINISH_TOOL_CALLS;
        return check_stage(t, &finish);
    }
    bool text = event->part_kind == PART_TEXT &&
                (event->kind == EVENT_PART_BEGIN || event->kind == EVENT_PART_DELTA ||
                 event->kind == EVENT_PART_END);
    if (!text)
        return check_stage(t, event);
    struct emulated_part *part = emulated_part(t, event);
    if (!part)
        return format_out_of_memory(t->reader.err);
    if (event->kind == EVENT_PART_DELTA && buf_append(&part->text, event->text) != RC_OK)
        return format_protocol_error(&t->reader, "is too long");
    return event->kind == EVENT_PART_END ? end_emulated(t, part) : RC_OK;
}

static enum rc first_stage(void *arg, const struct event *event)
{
    return emulation_stage(arg, event);
}

/* ---- the answer ---- */

/* Which texts must be kept: all for a whole answer, and for Responses, whose last event repeats
 * them. Chat repeats reasoning with its signature. */
static unsigned kinds_kept(const struct wire_request *request)
{
    if (!request->stream || request->format == WIRE_OPENAI_RESPONSES)
        return PART_KINDS_ALL;
    return request->format == WIRE_OPENAI_CHAT ? 1u << PART_REASONING : 0;
}

static bool has_output_checks(const struct route *route)
{
    for (size_t i = 0; route && i < route->check_count; i++)
        if (route->checks[i].on & CHECK_OUTPUT)
            return true;
    return false;
}

struct wire_translation *wire_translation_new(struct arena *arena,
                                              const struct wire_answer_options *options)
{
    struct wire_translation *t = ARENA_NEW(arena, struct wire_translation);
    if (!t)
        return NULL;
    t->options = options;
    t->from = provider_format_of(options->upstream->format);
    t->to = provider_format_of(options->request->format);
    if (!t->from || !t->to)
        return NULL;
    t->arena = arena;
    t->emulates = wire_emulates_tools(options->request, options->upstream);
    t->checks = has_output_checks(options->route);
    arena_init(&t->scratch, SCRATCH_BYTES_MAX);
    sse_parser_init(&t->parser);
    buf_init(&t->whole, LIMIT_RESPONSE_BYTES);
    buf_init(&t->out, LIMIT_RESPONSE_BYTES);
    event_answer_init(&t->answer, arena, kinds_kept(options->request));
    t->reader = (struct event_reader){.upstream = options->upstream,
                                      .arena = arena,
                                      .scratch = &t->scratch,
                                      .emit = first_stage,
                                      .arg = t};
    t->writer = (struct event_writer){.request = options->request,
                                      .model = options->model_shown,
                                      .now_s = options->now_s,
                                      .arena = arena,
                                      .json = json_writer_to(&t->out),
                                      .answer = &t->answer};
    return t;
}

void wire_translation_fini(struct wire_translation *t)
{
    for (struct emulated_part *part = t->emulated; part; part = part->next)
        buf_fini(&part->text);
    for (struct checked_part *part = t->checked; part; part = part->next)
        check_stream_fini(part->stream);
    event_answer_fini(&t->answer);
    sse_parser_fini(&t->parser);
    buf_fini(&t->whole);
    buf_fini(&t->out);
    arena_fini(&t->scratch);
}

static void flush(struct wire_translation *t)
{
    if (!buf_len(&t->out))
        return;
    t->options->write(t->options->arg, buf_str(&t->out));
    buf_clear(&t->out);
}

static enum wire_verdict verdict(struct wire_translation *t)
{
    if (t->failed)
        return WIRE_FAILED;
    if (t->options->request->stream && (t->content_seen || t->answer.done))
        flush(t);
    if (t->options->request->stream)
        return t->answer.done ? WIRE_DONE : t->content_seen ? WIRE_FLOW : WIRE_HOLD;
    return WIRE_HOLD; /* whole answers are written at the end */
}

static enum rc each_event(void *arg, const struct sse_event *event)
{
    struct wire_translation *t = arg;
    enum rc rc = t->from->read_event(&t->reader, event);
    arena_reset(&t->scratch);
    return rc;
}

enum wire_verdict wire_translation_data(struct wire_translation *t, struct str bytes,
                                        struct err *err)
{
    enum rc rc;
    if (t->failed)
        return WIRE_FAILED;
    t->reader.err = err;
    err->code = ERR_NONE;
    if (t->options->upstream->stream)
        rc = sse_parse(&t->parser, bytes, each_event, t);
    else
        rc = buf_append(&t->whole, bytes);
    t->failed = rc != RC_OK;
    if (t->failed && err->code == ERR_NONE)
        err_set(err, ERR_UPSTREAM_PROTOCOL, "the provider's answer is too long");
    return verdict(t);
}

static enum rc read_whole(struct wire_translation *t)
{
    yyjson_doc *doc = NULL;
    struct str body = buf_str(&t->whole);
    struct arena parsed;
    arena_init(&parsed, LIMIT_RESPONSE_BYTES * 8);
    enum rc rc = json_read(body, &parsed, &doc, NULL);
    yyjson_val *root = rc ? NULL : yyjson_doc_get_root(doc);
    yyjson_val *error = yyjson_obj_get(root, "error");
    if (rc) {
        format_protocol_error(&t->reader, "is not JSON");
    } else if (error && !yyjson_is_null(error)) {
        wire_read_error(t->options->upstream->format, 200, body, t->reader.err);
        rc = RC_INVALID;
    } else {
        rc = t->from->read_whole(&t->reader, root);
    }
    arena_fini(&parsed);
    return rc;
}

static enum rc write_whole(struct wire_translation *t)
{
    enum rc rc = t->to->write_whole(&t->writer, &t->answer);
    if (rc)
        return err_set(t->reader.err, ERR_UPSTREAM_PROTOCOL, "the provider's answer is too long");
    t->content_seen = true;
    flush(t);
    return RC_OK;
}

enum wire_verdict wire_translation_end(struct wire_translation *t, struct err *err)
{
    enum rc rc = RC_OK;
    if (t->failed)
        return WIRE_FAILED;
    t->reader.err = err;
    err->code = ERR_NONE;
    if (!t->options->upstream->stream)
        rc = read_whole(t);
    else if (!t->answer.done)
        rc = t->from->read_end(&t->reader);
    if (!rc && !t->options->request->stream)
        rc = write_whole(t);
    t->failed = rc != RC_OK;
    if (t->failed && err->code == ERR_NONE)
        err_set(err, ERR_UPSTREAM_PROTOCOL, "the provider's answer cannot be read");
    enum wire_verdict result = verdict(t);
    return result == WIRE_FAILED ? result : WIRE_DONE;
}

void wire_translation_break(struct wire_translation *t, const struct err *err)
{
    if (!t->options->request->stream)
        return;
    struct str frame = wire_error_frame(t->options->request->format, err, t->arena);
    if (frame.n)
        t->options->write(t->options->arg, frame);
}

void wire_translation_outcome(const struct wire_translation *t, struct wire_outcome *out)
{
    const struct event_answer *answer = &t->answer;
    out->usage = answer->usage;
    out->response_id = answer->response_id;
    out->response_model = answer->model;
    out->content_seen = t->content_seen;
    out->checks = t->checks ? &t->report : NULL;
    if (answer->choice_count && answer->choices[0].finish != FINISH_NONE)
        out->finish_reason = event_finish_name(answer->choices[0].finish);
}
