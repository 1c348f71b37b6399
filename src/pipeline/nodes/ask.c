/* See ask.h. */
#include "pipeline/nodes/ask.h"
#include "base/clock.h"
#include "gateway/snapshot.h"
#include "http/sse.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include "text/json_schema.h"
#include <stdio.h>
#include <stdlib.h>

#define ASK_ARENA_BYTES_MAX (64 * 1024 * 1024)
#define ASK_TEXT_BYTES_MAX  (8 * 1024 * 1024)

#define ASK_TOOL_CALLS_MAX      32
#define ASK_ARGUMENTS_BYTES_MAX (1024 * 1024) /* of one call */

/* A tool call that comes in pieces. */
struct ask_tool_call {
    struct str id, name;
    struct buf arguments;
};

struct ask {
    struct step *step;
    struct ask_options options;
    struct arena arena; /* of the call; this lies in it, too */
    struct scope scope;
    struct call_request request;
    struct snapshot *snapshot; /* the key lies in it */
    struct call *call;
    struct sse_parser *parser; /* of a stream that has begun */
    struct buf text;           /* a stream's text, or the whole body */
    struct str model, finish_reason;
    struct ask_tool_call *tool_calls; /* of a stream; NULL: none yet */
    size_t tool_call_count;
    char finish[24];
    bool whole;
};

static void ask_free(struct ask *ask)
{
    if (ask->parser)
        sse_parser_fini(ask->parser);
    buf_fini(&ask->text);
    for (size_t i = 0; i < ask->tool_call_count; i++)
        buf_fini(&ask->tool_calls[i].arguments);
    if (ask->snapshot)
        snapshot_unref(ask->snapshot);
    struct arena arena = ask->arena;
    arena_fini(&arena);
}

static void on_head(void *arg, const struct call_head *head)
{
    struct ask *ask = arg;
    ask->whole = head->body_bytes >= 0;
}

static enum rc take_tool_call(struct ask *ask, yyjson_val *piece)
{
    int64_t index = json_get_int(piece, "index", 0);
    yyjson_val *function = yyjson_obj_get(piece, "function");
    struct str id = json_get_text(piece, "id"), name = json_get_text(function, "name");
    if (index < 0 || index >= ASK_TOOL_CALLS_MAX)
        return RC_LIMIT;
    if (!ask->tool_calls)
        ask->tool_calls = ARENA_NEW_ARRAY(&ask->arena, struct ask_tool_call, ASK_TOOL_CALLS_MAX);
    if (!ask->tool_calls)
        return RC_LIMIT;
    while (ask->tool_call_count <= (size_t)index)
        buf_init(&ask->tool_calls[ask->tool_call_count++].arguments, ASK_ARGUMENTS_BYTES_MAX);
    struct ask_tool_call *call = &ask->tool_calls[index];
    if (id.n)
        call->id = arena_copy(&ask->arena, id);
    if (name.n)
        call->name = arena_copy(&ask->arena, name);
    return buf_append(&call->arguments, json_get_text(function, "arguments"));
}

static enum rc take_chunk(void *arg, const struct sse_event *event)
{
    struct ask *ask = arg;
    struct arena scratch;
    yyjson_doc *doc;
    if (!event->data.p || str_eq(event->data, STR("[DONE]")))
        return RC_OK;
    arena_init(&scratch, ASK_TEXT_BYTES_MAX);
    enum rc rc = RC_OK;
    if (json_read(event->data, &scratch, &doc, NULL) == RC_OK) {
        yyjson_val *choice =
                       yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "choices")),
                   *delta = yyjson_obj_get(choice, "delta"), *piece;
        size_t i, n;
        struct str text = json_get_text(delta, "content"),
                   finish = json_get_text(choice, "finish_reason");
        if (text.n)
            rc = buf_append(&ask->text, text);
        yyjson_arr_foreach(yyjson_obj_get(delta, "tool_calls"), i, n, piece) if (rc == RC_OK) rc =
            take_tool_call(ask, piece);
        if (finish.n)
            snprintf(ask->finish, sizeof(ask->finish), "%.*s", STR_ARG(finish));
    }
    arena_fini(&scratch);
    return rc;
}

static enum proceed on_data(void *arg, struct str bytes)
{
    struct ask *ask = arg;
    struct step *step = ask->step;
    if (ask->whole) {
        if (buf_append(&ask->text, bytes) != RC_OK)
            buf_release(&ask->text); /* `done` finds no answer in it */
        return PROCEED;
    }
    if (!ask->parser) {
        ask->parser = ARENA_NEW(&ask->arena, struct sse_parser);
        if (!ask->parser)
            return PROCEED;
        sse_parser_init(ask->parser);
    }
    if (sse_parse(ask->parser, bytes, take_chunk, ask) != RC_OK)
        return PROCEED; /* past its bound: what came so far is the answer */
    if (!ask->options.stream || step->run->finishing)
        return PROCEED;
    if (ask->options.grown)
        ask->options.grown(step, ask->options.arg, buf_str(&ask->text));
    else
        step->partial = buf_str(&ask->text);
    answers_advance(step->run);
    arena_reset(&step->run->loop->scratch);
    return step->paused ? STOP : PROCEED;
}

/* The message of a whole answer; NULL: it is not what chat answers are. */
static yyjson_val *read_whole(struct ask *ask)
{
    yyjson_doc *doc;
    if (json_read(buf_str(&ask->text), &ask->arena, &doc, NULL) != RC_OK)
        return NULL;
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "choices"));
    snprintf(ask->finish, sizeof(ask->finish), "%.*s",
             STR_ARG(json_get_text(choice, "finish_reason")));
    return yyjson_obj_get(choice, "message");
}

/* The pieces as a whole answer has them. */
static yyjson_val *streamed_tool_calls(struct ask *ask)
{
    struct maker maker;
    maker_init(&maker, &ask->arena);
    maker_array(&maker);
    for (size_t i = 0; i < ask->tool_call_count; i++) {
        maker_object(&maker);
        maker_key(&maker, STR("id"));
        maker_text(&maker, ask->tool_calls[i].id);
        maker_key(&maker, STR("type"));
        maker_text(&maker, STR("function"));
        maker_key(&maker, STR("function"));
        maker_object(&maker);
        maker_key(&maker, STR("name"));
        maker_text(&maker, ask->tool_calls[i].name);
        maker_key(&maker, STR("arguments"));
        maker_text(&maker, buf_str(&ask->tool_calls[i].arguments));
        maker_end(&maker);
        maker_end(&maker);
    }
    maker_end(&maker);
    return ask->tool_call_count ? maker_take(&maker) : NULL;
}

static void on_done(void *arg, const struct call_record *record, const struct err *err)
{
    struct ask *ask = arg;
    struct step *step = ask->step;
    struct run *run = step->run;
    struct ask_answer answer = {.record = record};
    struct err problem = {0};
    ask->call = NULL;
    run_count_call(run, record);
    if (run->finishing)
        return; /* over budget: the run has dropped the step, and this with it */
    if (!err && ask->whole) {
        answer.message = read_whole(ask);
        if (!answer.message)
            err_set(&problem, ERR_UPSTREAM_PROTOCOL, "the model's answer cannot be understood");
        answer.text = json_get_text(answer.message, "content");
        answer.tool_calls = yyjson_obj_get(answer.message, "tool_calls");
    } else {
        answer.text = buf_str(&ask->text);
        answer.tool_calls = streamed_tool_calls(ask);
    }
    answer.model = record->response_model.n ? record->response_model : record->model;
    answer.finish_reason = str_from(ask->finish);
    if (problem.code != ERR_NONE)
        err = &problem;
    step->partial = STR_EMPTY;
    step->work = NULL;
    struct err copy = err ? *err : (struct err){0};
    ask->options.done(step, ask->options.arg, &answer, err ? &copy : NULL);
    ask_free(ask);
}

static const struct call_sink sink = {on_head, on_data, on_done};

static struct str with_stream(struct arena *arena, struct str body, bool stream)
{
    if (!stream)
        return arena_copy(arena, body);
    return arena_printf(arena, "%.*s,\"stream\":true}", (int)body.n - 1, body.p);
}

enum rc run_find_key(const struct run *run, struct snapshot **held, const struct key **out,
                     struct err *err)
{
    static const uint8_t none[SHA256_BYTES];
    struct snapshot *snapshot = snapshot_current();
    *out = NULL;
    if (memcmp(run->key_digest, none, sizeof(none)) == 0 || !snapshot)
        return RC_OK;
    const struct key *key =
        map_get(&snapshot->keys, str_make(run->key_digest, sizeof(run->key_digest)));
    if (!key || key->revoked)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "the key that the run was started with was revoked");
    *held = snapshot_ref(snapshot);
    *out = key;
    return RC_OK;
}

static void fill_scope(struct ask *ask, const struct key *key)
{
    struct run *run = ask->step->run;
    int64_t now = loop_now_ns(run->loop->loop),
            timeout_ns = ask->step->plan->document->timeout_ms * NS_PER_MS;
    int64_t deadline_ns = run->deadline_ns;
    if (timeout_ns)
        deadline_ns = MIN(deadline_ns, now + timeout_ns);
    ask->scope = (struct scope){
        .principal = &run->principal,
        .key = key,
        .deadline_ns = run->waits ? 0 : MAX(deadline_ns, now + NS_PER_MS),
        .budget_pico = run->budget_pico == COST_UNKNOWN
                           ? COST_UNKNOWN
                           : MAX(run->budget_pico - run->spent_pico, 0),
        .inside = run->inside,
        .trace = step_trace(ask->step),
        .arena = &ask->arena,
    };
    int64_t most_pico = ask->options.budget_pico_max;
    if (most_pico && (ask->scope.budget_pico == COST_UNKNOWN || most_pico < ask->scope.budget_pico))
        ask->scope.budget_pico = most_pico;
    char id[ID_TEXT_BYTES_MAX];
    size_t n = id_format(run->id, "run", id);
    ask->request = (struct call_request){
        .door = DOOR_INTERNAL,
        .operation = OPERATION_CHAT,
        .format = WIRE_OPENAI_CHAT,
        .request_id = arena_copy(&ask->arena, str_make(id, n)),
        .content_type = STR("application/json"),
        .started_ns = now,
        .received_ns = now,
    };
}

void ask_start(struct step *step, const struct ask_options *options)
{
    struct arena arena;
    struct err err = {0};
    arena_init(&arena, ASK_ARENA_BYTES_MAX);
    struct ask *ask = ARENA_NEW(&arena, struct ask);
    ASSERT(ask); /* the first bytes of an arena */
    ask->arena = arena;
    ask->step = step;
    ask->options = *options;
    buf_init(&ask->text, ASK_TEXT_BYTES_MAX);
    const struct key *key;
    enum rc rc = run_find_key(step->run, &ask->snapshot, &key, &err);
    fill_scope(ask, key);
    ask->request.body = with_stream(&ask->arena, options->body, options->stream);
    if (rc == RC_OK && ask->request.body.p)
        ask->call =
            gateway_call_start(step->run->loop->gateway, &ask->scope, &ask->request, &sink, ask);
    if (rc == RC_OK && !ask->call)
        err_set(&err, ERR_TOO_LARGE, "the request to the model is too large");
    if (err.code != ERR_NONE) {
        void *arg = options->arg;
        ask_free(ask);
        options->done(step, arg, NULL, &err);
        return;
    }
    step->work = ask;
}

void *ask_cancel(struct step *step)
{
    struct ask *ask = step->work;
    step->work = NULL;
    step->partial = STR_EMPTY;
    if (ask->call)
        gateway_call_cancel(ask->call);
    void *arg = ask->options.arg;
    ask_free(ask);
    return arg;
}

void ask_resume(struct step *step)
{
    struct ask *ask = step->work;
    if (ask->call)
        gateway_call_resume(ask->call);
}

void ask_put_usage(struct maker *maker, const struct call_record *record, struct arena *arena)
{
    char id[ID_TEXT_BYTES_MAX];
    maker_key(maker, STR("usage"));
    maker_object(maker);
    maker_key(maker, STR("input_tokens"));
    maker_int(maker, (int64_t)usage_input_total(&record->usage));
    maker_key(maker, STR("output_tokens"));
    maker_int(maker, (int64_t)usage_output_total(&record->usage));
    maker_key(maker, STR("cost_usd"));
    if (record->cost_pico == COST_UNKNOWN)
        maker_null(maker);
    else
        maker_text(maker, arena_printf(arena, "%lld.%012lld",
                                       (long long)(record->cost_pico / PICO_PER_DOLLAR),
                                       (long long)(record->cost_pico % PICO_PER_DOLLAR)));
    maker_key(maker, STR("call_id"));
    maker_text(maker, arena_copy(arena, str_make(id, id_format(record->id, "call", id))));
    maker_end(maker);
}

void ask_put_origin(struct maker *maker, const struct ask_answer *answer, struct arena *arena)
{
    maker_key(maker, STR("model"));
    maker_text(maker, answer->model);
    maker_key(maker, STR("finish_reason"));
    maker_text(maker, answer->finish_reason);
    ask_put_usage(maker, answer->record, arena);
}

/* ---- parts of a request ---- */

void ask_put_words(struct json_writer *w, const char *role, struct str words)
{
    json_begin_object(w);
    json_put_text(w, "role", role);
    json_put_string(w, "content", words);
    json_end_object(w);
}

void ask_put_schema(struct json_writer *w, struct str schema)
{
    json_key(w, "response_format");
    json_begin_object(w);
    json_put_text(w, "type", "json_schema");
    json_key(w, "json_schema");
    json_begin_object(w);
    json_put_text(w, "name", "answer");
    json_put_bool(w, "strict", true);
    json_put_raw(w, "schema", schema);
    json_end_object(w);
    json_end_object(w);
}

yyjson_val *ask_read_json(struct str text, struct arena *arena)
{
    yyjson_doc *doc;
    if (json_read(str_trim(text), arena, &doc, NULL) == RC_OK)
        return yyjson_doc_get_root(doc);
    ssize_t open = str_find_char(text, '{'), close = str_rfind_char(text, '}');
    if (open < 0 || close <= open ||
        json_read(str_slice(text, (size_t)open, (size_t)close + 1), arena, &doc, NULL) != RC_OK)
        return NULL;
    return yyjson_doc_get_root(doc);
}

enum rc ask_put_variables(struct step *step, struct json_writer *w,
                          const struct assignments *variables, struct err *err)
{
    struct maker maker;
    maker_init(&maker, &step->run->loop->scratch);
    maker_object(&maker);
    enum rc rc = assignments_put(step->frame, variables, &maker, err);
    maker_end(&maker);
    if (rc != RC_OK)
        return rc;
    yyjson_val *values = maker_take(&maker);
    if (!values)
        return err_set(err, ERR_TOO_LARGE, "the variables are too large");
    json_put_value(w, "variables", values);
    return RC_OK;
}

bool ask_wants_stream(const struct step *step)
{
    const struct run *run = step->run;
    return step->plan->feeds_answer && step->frame->flow == &run->flow &&
           (run->owner.text || run->events);
}

/* ---- answers of a shape ---- */

/* What is kept of a question until its answer fits. */
struct shaped {
    struct ask_shape shape;
    bool repaired;
    struct str body; /* of the first question */
    char text[];
};

static void shaped_done(struct step *step, void *arg, const struct ask_answer *answer,
                        const struct err *err);

/* Asks once more, saying what did not fit. */
static void shaped_repair(struct step *step, struct shaped *shaped, struct str text,
                          const struct json_schema_problem *problem)
{
    struct buf body;
    char words[400];
    snprintf(words, sizeof(words),
             "This is not JSON of the schema that was asked for: %s %s. Answer again with the JSON "
             "alone.",
             problem->path, problem->message);
    buf_init(&body, ASK_ARENA_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    json_append(&w, str_slice(shaped->body, 0, shaped->body.n - 2)); /* up to "]}" */
    json_append(&w, STR(","));
    ask_put_words(&w, "assistant", text);
    ask_put_words(&w, "user", str_from(words));
    json_append(&w, STR("]}"));
    shaped->repaired = true;
    step->begun = true;
    ask_start(step,
              &(struct ask_options){.body = buf_str(&body), .arg = shaped, .done = shaped_done});
    buf_fini(&body);
}

static void shaped_done(struct step *step, void *arg, const struct ask_answer *answer,
                        const struct err *err)
{
    struct shaped *shaped = arg;
    const struct ask_shape shape = shaped->shape;
    struct json_schema_problem problem = {.message = "it is no JSON"};
    struct err misfit = {0};
    struct arena arena;
    if (err) {
        free(shaped);
        shape.done(step, NULL, answer, err);
        return;
    }
    arena_init(&arena, ASK_ARENA_BYTES_MAX);
    yyjson_val *json = ask_read_json(answer->text, &arena);
    bool fits = json && json_schema_check(shape.schema, json, &problem) == RC_OK;
    if (!fits && !shaped->repaired) {
        shaped_repair(step, shaped, answer->text, &problem);
        arena_fini(&arena);
        return;
    }
    if (!fits)
        err_set(&misfit, ERR_UPSTREAM_PROTOCOL, "the model's answer does not fit: %s %s",
                problem.path, problem.message);
    free(shaped);
    shape.done(step, json, answer, fits ? NULL : &misfit);
    arena_fini(&arena);
}

void ask_shaped(struct step *step, const struct ask_shape *shape, struct str model, struct str task,
                struct str text)
{
    struct buf body;
    struct err err = {0};
    buf_init(&body, ASK_ARENA_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "model", model);
    json_put_int(&w, "temperature", 0);
    ask_put_schema(&w, shape->schema_text);
    json_key(&w, "messages");
    json_begin_array(&w);
    ask_put_words(&w, "system", task);
    ask_put_words(&w, "user", text);
    json_end_array(&w);
    json_end_object(&w);
    if (w.rc != RC_OK) {
        err_set(&err, ERR_TOO_LARGE, "the request to the model is too large");
        step_failed(step, &err);
    } else {
        struct shaped *shaped = xcalloc(1, sizeof(*shaped) + buf_len(&body));
        shaped->shape = *shape;
        memcpy(shaped->text, body.p, buf_len(&body));
        shaped->body = str_make(shaped->text, buf_len(&body));
        ask_start(step, &(struct ask_options){
                            .body = buf_str(&body), .arg = shaped, .done = shaped_done});
    }
    buf_fini(&body);
}

void ask_drop(struct step *step)
{
    if (step->work)
        free(ask_cancel(step));
}
