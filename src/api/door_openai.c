/* The OpenAI door: its paths, its list of models, its rate-limit headers.
 * https://platform.openai.com/docs/api-reference,
 * https://platform.openai.com/docs/guides/rate-limits */
#include "api/door.h"
#include "base/clock.h"
#include "base/limits.h"
#include "gateway/limit.h"
#include "gateway/resolve.h"
#include "text/json_writer.h"

#define PATH(text, wire, what, at)                                                                 \
    {STR_INIT(text), WIRE_##wire, OPERATION_##what, DOOR_##at, {NULL, 0}}

static const struct door_path paths[] = {
    PATH("/v1/chat/completions", OPENAI_CHAT, CHAT, OPENAI_CHAT),
    PATH("/v1/responses", OPENAI_RESPONSES, CHAT, OPENAI_RESPONSES),
    PATH("/v1/completions", OPENAI_COMPLETIONS, COMPLETION, OPENAI_OTHER),
    PATH("/v1/embeddings", OPENAI_EMBEDDINGS, EMBEDDING, OPENAI_OTHER),
    PATH("/v1/audio/speech", OPAQUE, AUDIO, OPENAI_OTHER),
    PATH("/v1/audio/transcriptions", OPAQUE, AUDIO, OPENAI_OTHER),
    PATH("/v1/audio/translations", OPAQUE, AUDIO, OPENAI_OTHER),
    PATH("/v1/images/generations", OPAQUE, IMAGE, OPENAI_OTHER),
    PATH("/v1/images/edits", OPAQUE, IMAGE, OPENAI_OTHER),
    PATH("/v1/images/variations", OPAQUE, IMAGE, OPENAI_OTHER),
    PATH("/v1/moderations", OPAQUE, MODERATION, OPENAI_OTHER),
    PATH("/v1/rerank", OPAQUE, RERANK, OPENAI_OTHER),
    PATH("/v1/score", OPAQUE, OTHER, OPENAI_OTHER),
};

/* ---- models ---- */

static void write_openai_model(struct json_writer *writer, struct str name)
{
    json_begin_object(writer);
    json_put_string(writer, "id", name);
    json_put_text(writer, "object", "model");
    json_put_int(writer, "created", 0);
    json_put_text(writer, "owned_by", "capstan");
    json_end_object(writer);
}

/* Anthropic's SDKs ask the same path and expect their own shape. */
static void write_anthropic_model(struct json_writer *writer, struct str name)
{
    json_begin_object(writer);
    json_put_text(writer, "type", "model");
    json_put_string(writer, "id", name);
    json_put_string(writer, "display_name", name);
    json_put_text(writer, "created_at", "1970-01-01T00:00:00Z");
    json_end_object(writer);
}

static void write_list(struct json_writer *writer, const struct str *names, size_t count,
                       bool anthropic)
{
    json_begin_object(writer);
    if (!anthropic)
        json_put_text(writer, "object", "list");
    json_key(writer, "data");
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++)
        (anthropic ? write_anthropic_model : write_openai_model)(writer, names[i]);
    json_end_array(writer);
    if (anthropic) {
        json_put_bool(writer, "has_more", false);
        json_put_string(writer, "first_id", count ? names[0] : STR(""));
        json_put_string(writer, "last_id", count ? names[count - 1] : STR(""));
    }
    json_end_object(writer);
}

static enum rc models_answer(struct http_request *request, struct str wanted, bool anthropic,
                             struct str *out, struct err *err)
{
    struct principal principal;
    struct key *key;
    if (!str_eq(request->method, STR("GET")))
        return err_set(err, ERR_METHOD, "use GET");
    enum rc rc = door_authenticate(request, &principal, &key, err);
    if (rc != RC_OK)
        return rc;
    const struct project *project = snapshot_project(snapshot_current(), principal.project);
    struct str *names = NULL;
    size_t count = 0;
    if (!project ||
        (!wanted.n && resolve_list(project, key, request->arena, &names, &count) != RC_OK))
        return err_set(err, ERR_OVERLOADED, "there is no memory for the list");
    struct buf buf;
    buf_init(&buf, LIMIT_RESPONSE_BYTES);
    struct json_writer writer = json_writer_to(&buf);
    if (wanted.n == 0) {
        write_list(&writer, names, count, anthropic);
    } else {
        /* Also provider/model and whatever else resolves, not only what is listed. */
        struct resolved resolved;
        rc = resolve_model(project, key, wanted, request->arena, &resolved, err);
        if (rc == RC_OK)
            (anthropic ? write_anthropic_model : write_openai_model)(&writer, wanted);
    }
    if (rc == RC_OK)
        *out = arena_copy(request->arena, buf_str(&buf));
    buf_fini(&buf);
    if (rc == RC_OK && !out->p)
        rc = err_set(err, ERR_OVERLOADED, "there is no memory for the list");
    return rc;
}

static bool handle_other(const struct door *door, struct gateway_loop *gateway,
                         struct http_request *request)
{
    bool list = str_eq(request->path, STR("/v1/models"));
    if (!list && !str_starts(request->path, STR("/v1/models/")))
        return false;
    bool anthropic = http_header_get(&request->headers, STR("anthropic-version")).n > 0;
    struct str wanted =
        list ? STR_EMPTY : str_slice(request->path, sizeof("/v1/models/") - 1, request->path.n);
    struct str body;
    struct err err;
    if (models_answer(request, wanted, anthropic, &body, &err) == RC_OK)
        http_respond(request, 200, STR("application/json"), body);
    else
        door_respond_error(request, anthropic ? WIRE_ANTHROPIC : WIRE_OPENAI_CHAT, &err);
    return true;
}

/* ---- rate limits ---- */

static void limit_headers(const struct limit_state *state, int64_t wall_ns,
                          struct door_lines *lines)
{
    if (state->requests_limit) {
        door_put_number(lines, STR("x-ratelimit-limit-requests"), state->requests_limit, STR(""));
        door_put_number(lines, STR("x-ratelimit-remaining-requests"), state->requests_left,
                        STR(""));
        door_put_number(lines, STR("x-ratelimit-reset-requests"),
                        state->requests_reset_ns / NS_PER_S, STR("s"));
    }
    if (state->tokens_limit) {
        door_put_number(lines, STR("x-ratelimit-limit-tokens"), state->tokens_limit, STR(""));
        door_put_number(lines, STR("x-ratelimit-remaining-tokens"), state->tokens_left, STR(""));
        door_put_number(lines, STR("x-ratelimit-reset-tokens"), state->tokens_reset_ns / NS_PER_S,
                        STR("s"));
    }
}

const struct door door_openai = {
    .paths = paths,
    .path_count = COUNT_OF(paths),
    .handle_other = handle_other,
    .limit_headers = limit_headers,
};
