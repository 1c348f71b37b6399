/* The mock's OpenAI formats: chat completions, completions, embeddings, models. Shapes after
 * OpenAI's published OpenAPI document. */
#include "app/mock.h"
#include "base/clock.h"
#include "base/hash.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

#define CHOICES_MAX    16
#define DIMENSIONS_MAX 4096

/* ---- errors ---- */

static void openai_error(struct json_writer *w, const struct mock_error *error, int status)
{
    json_begin_object(w);
    json_key(w, "error");
    json_begin_object(w);
    json_put_text(w, "message", error->message);
    json_put_text(w, "type", error->openai_type);
    json_put_null(w, "param");
    json_put_text(w, "code", error->openai_code);
    json_end_object(w);
    json_end_object(w);
}

static void openai_error_event(struct buf *out, const struct mock_error *error)
{
    struct json_writer w = mock_event_begin(out, NULL);
    openai_error(&w, error, error->status);
    mock_event_end(&w);
}

/* ---- chat: the request ---- */

static bool tool_is_required(yyjson_val *choice, struct str *name)
{
    if (yyjson_is_obj(choice)) {
        yyjson_val *function = yyjson_obj_get(choice, "function");
        *name = json_get_text(function ? function : choice, "name");
        return true;
    }
    return str_eq(json_text(choice), STR("required"));
}

/* The tool of that name, or the first; chat keeps its definition under "function". */
static yyjson_val *find_tool(yyjson_val *tools, struct str name)
{
    size_t i, count;
    yyjson_val *tool;
    yyjson_arr_foreach(tools, i, count, tool)
    {
        yyjson_val *function = yyjson_obj_get(tool, "function");
        function = function ? function : tool;
        if (name.n == 0 || str_eq(json_get_text(function, "name"), name))
            return function;
    }
    return NULL;
}

static const char *chat_begin(struct mock_call *call)
{
    yyjson_val *messages = yyjson_obj_get(call->body, "messages");
    struct str name = STR_EMPTY;
    yyjson_val *choice = yyjson_obj_get(call->body, "tool_choice");
    bool required = tool_is_required(choice, &name);
    yyjson_val *tool = find_tool(yyjson_obj_get(call->body, "tools"), name);
    if (str_eq(json_text(choice), STR("none")))
        tool = NULL;
    call->choices = MIN(MAX(json_get_int(call->body, "n", 1), 1), CHOICES_MAX);
    call->logprobs = json_get_bool(call->body, "logprobs", false);
    yyjson_val *options = yyjson_obj_get(call->body, "stream_options");
    call->include_usage = json_get_bool(options, "include_usage", false) && !call->script.no_usage;
    yyjson_val *last = yyjson_arr_get_last(messages);
    struct str said = mock_content_text(yyjson_obj_get(last, "content"), call->arena);
    const char *wrong = mock_call_prepare(call, said, json_get_text(tool, "name"),
                                          yyjson_obj_get(tool, "parameters"), required);
    if (wrong)
        return wrong;
    size_t body = call->reasoning_count + call->piece_count +
                  (size_t)call->tool_calls * (1 + call->argument_count);
    /* Per choice: role, body, finish; then usage and the end. */
    call->event_count = (body + 2) * (size_t)call->choices + call->include_usage + 1;
    return NULL;
}

static const char *finish_reason(const struct mock_call *call)
{
    return call->tool_calls ? "tool_calls" : "stop";
}

static void put_finish(struct json_writer *w, const struct mock_call *call)
{
    if (call->script.finish.n)
        json_put_string(w, "finish_reason", call->script.finish);
    else
        json_put_text(w, "finish_reason", finish_reason(call));
}

static void put_usage(struct json_writer *w, const struct mock_call *call)
{
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "prompt_tokens", call->input_tokens);
    json_put_uint(w, "completion_tokens", call->output_tokens);
    json_put_uint(w, "total_tokens", call->input_tokens + call->output_tokens);
    json_key(w, "prompt_tokens_details");
    json_begin_object(w);
    json_put_int(w, "cached_tokens", call->script.cached);
    json_put_int(w, "audio_tokens", 0);
    json_end_object(w);
    json_key(w, "completion_tokens_details");
    json_begin_object(w);
    json_put_uint(w, "reasoning_tokens", call->reasoning_count);
    json_put_int(w, "audio_tokens", 0);
    json_put_int(w, "accepted_prediction_tokens", 0);
    json_put_int(w, "rejected_prediction_tokens", 0);
    json_end_object(w);
    json_end_object(w);
}

static void put_logprobs(struct json_writer *w, const struct str *pieces, size_t count)
{
    json_key(w, "logprobs");
    json_begin_object(w);
    json_key(w, "content");
    json_begin_array(w);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(w);
        json_put_string(w, "token", pieces[i]);
        json_put_double(w, "logprob", -0.25);
        json_key(w, "bytes");
        json_begin_array(w);
        for (size_t k = 0; k < pieces[i].n; k++)
            json_uint(w, (unsigned char)pieces[i].p[k]);
        json_end_array(w);
        json_key(w, "top_logprobs");
        json_begin_array(w);
        json_end_array(w);
        json_end_object(w);
    }
    json_end_array(w);
    json_put_null(w, "refusal");
    json_end_object(w);
}

static void put_tool_call(struct json_writer *w, struct mock_call *call, int64_t index,
                          struct str arguments)
{
    json_put_string(w, "id",
                    arena_printf(call->arena, "call_%.16s%lld", call->id, (long long)index));
    json_put_text(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_put_string(w, "name", call->tool_name);
    json_put_string(w, "arguments", arguments);
    json_end_object(w);
}

/* ---- chat: whole ---- */

static void chat_head(struct json_writer *w, struct mock_call *call, const char *object)
{
    json_begin_object(w);
    json_put_string(w, "id", arena_printf(call->arena, "chatcmpl-%s", call->id));
    json_put_text(w, "object", object);
    json_put_int(w, "created", call->created_s);
    json_put_string(w, "model", call->model);
    json_put_text(w, "system_fingerprint", "fp_mock");
    json_put_text(w, "service_tier", "default");
}

static void chat_choice(struct json_writer *w, struct mock_call *call, int64_t index)
{
    json_begin_object(w);
    json_put_int(w, "index", index);
    json_key(w, "message");
    json_begin_object(w);
    json_put_text(w, "role", "assistant");
    if (call->tool_calls)
        json_put_null(w, "content");
    else
        json_put_string(w, "content", call->text);
    json_put_null(w, "refusal");
    if (call->reasoning_count)
        json_put_string(w, "reasoning_content", mock_call_reasoning(call));
    if (call->tool_calls) {
        json_key(w, "tool_calls");
        json_begin_array(w);
        for (int64_t i = 0; i < call->tool_calls; i++) {
            json_begin_object(w);
            put_tool_call(w, call, i, call->arguments);
            json_end_object(w);
        }
        json_end_array(w);
    }
    json_end_object(w);
    if (call->logprobs)
        put_logprobs(w, call->pieces, call->piece_count);
    else
        json_put_null(w, "logprobs");
    put_finish(w, call);
    json_end_object(w);
}

static void chat_whole(struct mock_call *call, struct json_writer *w)
{
    chat_head(w, call, "chat.completion");
    json_key(w, "choices");
    json_begin_array(w);
    for (int64_t i = 0; i < call->choices; i++)
        chat_choice(w, call, i);
    json_end_array(w);
    if (!call->script.no_usage)
        put_usage(w, call);
    json_end_object(w);
}

/* ---- chat: streamed ---- */

/* What stands at this step of a choice: role, reasoning, text, tool calls in parts, finish. */
static void put_delta(struct json_writer *w, struct mock_call *call, size_t step)
{
    if (step == 0) {
        json_put_text(w, "role", "assistant");
        json_put_string(w, "content", STR(""));
        json_put_null(w, "refusal");
        return;
    }
    step -= 1;
    if (step < call->reasoning_count) {
        json_put_string(w, "reasoning_content", call->reasoning_pieces[step]);
        return;
    }
    step -= call->reasoning_count;
    if (step < call->piece_count) {
        json_put_string(w, "content", call->pieces[step]);
        return;
    }
    step -= call->piece_count;
    size_t per_call = 1 + call->argument_count;
    int64_t index = (int64_t)(step / per_call);
    if (index >= call->tool_calls)
        return; /* the finish: an empty delta */
    json_key(w, "tool_calls");
    json_begin_array(w);
    json_begin_object(w);
    json_put_int(w, "index", index);
    if (step % per_call == 0) {
        put_tool_call(w, call, index, STR(""));
    } else {
        json_key(w, "function");
        json_begin_object(w);
        json_put_string(w, "arguments", call->argument_pieces[step % per_call - 1]);
        json_end_object(w);
    }
    json_end_object(w);
    json_end_array(w);
}

static void chat_step(struct mock_call *call, struct json_writer *w, size_t step, int64_t choice,
                      bool last)
{
    json_key(w, "choices");
    json_begin_array(w);
    json_begin_object(w);
    json_put_int(w, "index", choice);
    json_key(w, "delta");
    json_begin_object(w);
    if (!last)
        put_delta(w, call, step);
    json_end_object(w);
    size_t piece = step - 1 - call->reasoning_count;
    if (call->logprobs && step > call->reasoning_count && piece < call->piece_count)
        put_logprobs(w, &call->pieces[piece], 1);
    else
        json_put_null(w, "logprobs");
    if (last)
        put_finish(w, call);
    else
        json_put_null(w, "finish_reason");
    json_end_object(w);
    json_end_array(w);
    if (call->include_usage)
        json_put_null(w, "usage");
}

static void chat_event(struct mock_call *call, size_t index, struct buf *out)
{
    struct json_writer w = mock_event_begin(out, NULL);
    if (index + 1 == call->event_count) {
        json_append(&w, STR("[DONE]"));
        mock_event_end(&w);
        return;
    }
    size_t choices = (size_t)call->choices;
    size_t steps = (call->event_count - 1 - call->include_usage) / choices;
    size_t step = index / choices;
    chat_head(&w, call, "chat.completion.chunk");
    if (step < steps) {
        chat_step(call, &w, step, (int64_t)(index % choices), step + 1 == steps);
    } else {
        json_key(&w, "choices");
        json_begin_array(&w);
        json_end_array(&w);
        put_usage(&w, call);
    }
    json_end_object(&w);
    mock_event_end(&w);
}

const struct mock_format MOCK_CHAT = {
    .path = "/chat/completions",
    .begin = chat_begin,
    .whole = chat_whole,
    .event = chat_event,
    .error = openai_error,
    .error_event = openai_error_event,
};

/* ---- completions ---- */

static const char *completions_begin(struct mock_call *call)
{
    call->choices = 1;
    yyjson_val *options = yyjson_obj_get(call->body, "stream_options");
    call->include_usage = json_get_bool(options, "include_usage", false) && !call->script.no_usage;
    struct str prompt = json_get_text(call->body, "prompt");
    const char *wrong = mock_call_prepare(call, prompt, STR_EMPTY, NULL, false);
    if (wrong)
        return wrong;
    call->event_count = call->piece_count + 1 + call->include_usage + 1;
    return NULL;
}

static void completions_head(struct json_writer *w, struct mock_call *call)
{
    json_begin_object(w);
    json_put_string(w, "id", arena_printf(call->arena, "cmpl-%s", call->id));
    json_put_text(w, "object", "text_completion");
    json_put_int(w, "created", call->created_s);
    json_put_string(w, "model", call->model);
}

static void completions_choice(struct json_writer *w, struct mock_call *call, struct str text,
                               bool last)
{
    json_key(w, "choices");
    json_begin_array(w);
    json_begin_object(w);
    json_put_int(w, "index", 0);
    json_put_string(w, "text", text);
    json_put_null(w, "logprobs");
    if (last)
        put_finish(w, call);
    else
        json_put_null(w, "finish_reason");
    json_end_object(w);
    json_end_array(w);
}

static void completions_whole(struct mock_call *call, struct json_writer *w)
{
    completions_head(w, call);
    completions_choice(w, call, call->text, true);
    if (!call->script.no_usage)
        put_usage(w, call);
    json_end_object(w);
}

static void completions_event(struct mock_call *call, size_t index, struct buf *out)
{
    struct json_writer w = mock_event_begin(out, NULL);
    if (index + 1 == call->event_count) {
        json_append(&w, STR("[DONE]"));
    } else {
        completions_head(&w, call);
        if (index <= call->piece_count) {
            bool last = index == call->piece_count;
            completions_choice(&w, call, last ? STR("") : call->pieces[index], last);
        } else {
            json_key(&w, "choices");
            json_begin_array(&w);
            json_end_array(&w);
            put_usage(&w, call);
        }
        json_end_object(&w);
    }
    mock_event_end(&w);
}

const struct mock_format MOCK_COMPLETIONS = {
    .path = "/completions",
    .begin = completions_begin,
    .whole = completions_whole,
    .event = completions_event,
    .error = openai_error,
    .error_event = openai_error_event,
};

/* ---- embeddings ---- */

/* A unit vector that follows from the text. */
static void make_vector(struct str text, float *out, size_t dimensions)
{
    uint64_t state = hash_xxh3(text.p, text.n);
    double sum = 0;
    for (size_t i = 0; i < dimensions; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        out[i] = (float)((double)(state >> 40) / (1 << 24) - 0.5);
        sum += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < dimensions; i++)
        out[i] = (float)(out[i] / sqrt(sum > 0 ? sum : 1));
}

static void put_vector(struct json_writer *w, const float *vector, size_t dimensions, bool base64)
{
    json_key(w, "embedding");
    if (base64) {
        char *text = xmalloc(dimensions * sizeof(*vector) * 2);
        size_t n = base64_encode(vector, dimensions * sizeof(*vector), text);
        json_string(w, str_make(text, n));
        free(text);
        return;
    }
    json_begin_array(w);
    for (size_t i = 0; i < dimensions; i++)
        json_double(w, vector[i]);
    json_end_array(w);
}

static void put_embedding(struct json_writer *w, yyjson_val *input, size_t index, size_t dimensions,
                          bool base64, struct arena *arena)
{
    struct str text = yyjson_is_str(input) ? json_text(input) : json_write(input, arena);
    float vector[DIMENSIONS_MAX];
    make_vector(text, vector, dimensions);
    json_begin_object(w);
    json_put_text(w, "object", "embedding");
    json_put_uint(w, "index", index);
    put_vector(w, vector, dimensions, base64);
    json_end_object(w);
}

void mock_answer_embeddings(struct http_request *request, yyjson_val *body, struct arena *arena)
{
    yyjson_val *input = yyjson_obj_get(body, "input"), *item;
    int64_t asked = json_get_int(body, "dimensions", 8);
    size_t dimensions = (size_t)MIN(MAX(asked, 1), DIMENSIONS_MAX), i, count;
    bool base64 = str_eq(json_get_text(body, "encoding_format"), STR("base64"));
    bool several = yyjson_is_arr(input) && !yyjson_is_int(yyjson_arr_get_first(input));
    struct buf out;
    buf_init(&out, 16 * 1024 * 1024);
    struct json_writer w = json_writer_to(&out);
    json_begin_object(&w);
    json_put_text(&w, "object", "list");
    json_key(&w, "data");
    json_begin_array(&w);
    if (several) {
        yyjson_arr_foreach(input, i, count, item)
            put_embedding(&w, item, i, dimensions, base64, arena);
    } else if (input) {
        put_embedding(&w, input, 0, dimensions, base64, arena);
    }
    json_end_array(&w);
    json_put_string(&w, "model", json_get_text(body, "model"));
    json_key(&w, "usage");
    json_begin_object(&w);
    json_put_uint(&w, "prompt_tokens", mock_input_tokens(body, arena));
    json_put_uint(&w, "total_tokens", mock_input_tokens(body, arena));
    json_end_object(&w);
    json_end_object(&w);
    mock_answer_json(request, w.rc == RC_OK ? 200 : 500, &out);
    buf_fini(&out);
}

/* ---- models ---- */

static const char *const models[] = {"gpt-mock", "gpt-mock-mini", "claude-mock", "embedding-mock"};

static void put_model(struct json_writer *w, struct str id, bool anthropic)
{
    json_begin_object(w);
    if (anthropic) {
        json_put_text(w, "type", "model");
        json_put_string(w, "id", id);
        json_put_string(w, "display_name", id);
        json_put_text(w, "created_at", "2025-01-01T00:00:00Z");
    } else {
        json_put_string(w, "id", id);
        json_put_text(w, "object", "model");
        json_put_int(w, "created", 1735689600);
        json_put_text(w, "owned_by", "mock");
    }
    json_end_object(w);
}

void mock_answer_models(struct http_request *request, struct arena *arena)
{
    bool anthropic = http_header_get(&request->headers, STR("anthropic-version")).p != NULL;
    ssize_t at = str_find(request->path, STR("/models/"));
    struct buf out;
    buf_init(&out, 64 * 1024);
    struct json_writer w = json_writer_to(&out);
    if (at >= 0) {
        put_model(&w, str_slice(request->path, (size_t)at + 8, request->path.n), anthropic);
    } else {
        json_begin_object(&w);
        if (!anthropic)
            json_put_text(&w, "object", "list");
        json_key(&w, "data");
        json_begin_array(&w);
        for (size_t i = 0; i < COUNT_OF(models); i++)
            put_model(&w, str_from(models[i]), anthropic);
        json_end_array(&w);
        if (anthropic) {
            json_put_bool(&w, "has_more", false);
            json_put_text(&w, "first_id", models[0]);
            json_put_text(&w, "last_id", models[COUNT_OF(models) - 1]);
        }
        json_end_object(&w);
    }
    mock_answer_json(request, 200, &out);
    buf_fini(&out);
}
