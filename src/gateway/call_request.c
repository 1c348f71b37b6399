/* Requests as they come in: JSON bodies are read by wire.h; of a multipart body (audio files,
 * images) only the model's name is looked for, and exchanged when a target has another one. */
#include "gateway/call_private.h"
#include "gateway/provider_table.h"
#include "http/multipart.h"
#include "base/limits.h"
#include "prompt/request.h"

static enum rc read_multipart(struct call *call, struct str boundary, struct err *err)
{
    const struct call_request *request = call->request;
    call->wire =
        (struct wire_request){.format = request->format, .body = request->body, .choices = 1};
    /* Strict: were the field there twice, the upstream could take the one that was not checked. */
    enum rc rc = multipart_find(request->body, boundary, STR("model"), &call->wire.model);
    if (rc == RC_INVALID)
        return err_set_field(err, ERR_BAD_FIELD, "model",
                             "the form is damaged, or has 'model' twice");
    if (rc != RC_OK || call->wire.model.n == 0)
        return err_set_field(err, ERR_MISSING_FIELD, "model", "the form has no field 'model'");
    return RC_OK;
}

static struct str member_text(yyjson_val *root, const char *name)
{
    yyjson_val *value = yyjson_obj_get(root, name);
    return yyjson_is_str(value) ? str_make(yyjson_get_str(value), yyjson_get_len(value))
                                : STR_EMPTY;
}

static bool copy_text(struct arena *arena, struct str *s)
{
    struct str copy = s->n ? arena_copy(arena, *s) : STR_EMPTY;
    if (s->n && !copy.p)
        return false;
    *s = copy;
    return true;
}

static bool prompt_door(enum wire_format format, enum prompt_door *out)
{
    switch (format) {
    case WIRE_OPENAI_CHAT: *out = PROMPT_CHAT; return true;
    case WIRE_ANTHROPIC: *out = PROMPT_ANTHROPIC; return true;
    case WIRE_OPENAI_RESPONSES: *out = PROMPT_RESPONSES; return true;
    case WIRE_OPENAI_COMPLETIONS: *out = PROMPT_COMPLETIONS; return true;
    default: return false;
    }
}

/* A prompt is named: the body becomes that of a call to its model. Whether the key may call it is
 * judged by the prompt's name. */
static enum rc rewrite_prompt(struct call *call, struct err *err)
{
    const struct key *key = call->scope->inside ? NULL : call->scope->key;
    struct prompt_rewritten rewritten;
    struct prompt_request request = {.prompts = &call->project->prompts,
                                     .model = call->wire.model,
                                     .body = yyjson_doc_get_root(call->wire.doc)};
    struct str who = call->wire.session.n ? call->wire.session
                     : call->wire.user.n  ? call->wire.user
                                          : str_make(call->record->id.bytes, 16);
    if (!prompt_door(call->request->format, &request.door) || !call->wire.doc)
        return err_set_field(err, ERR_UNSUPPORTED, "model",
                             "a prompt cannot be called here: only by the doors for chat");
    if (key && !key_allows_model(key, request.model))
        return err_set_field(err, ERR_MODEL_NOT_ALLOWED, "model",
                             "this key may not call '%.*s'; an administrator can add it to the "
                             "key's models",
                             (int)MIN(request.model.n, (size_t)LIMIT_NAME_BYTES), request.model.p);
    request.share = prompt_share(who);
    enum rc rc = prompt_rewrite(&request, &call->parsed, &rewritten, err);
    if (rc != RC_OK)
        return rc;
    call->prompt_model = request.model;
    /* These outlive the parsed request. */
    if (!copy_text(call->scope->arena, &rewritten.body) ||
        !copy_text(call->scope->arena, &rewritten.called))
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    call->record->prompt = rewritten.called;
    return wire_read_request(call->request->format, rewritten.body, &call->parsed, &call->wire,
                             err);
}

enum rc request_read(struct call *call, struct err *err)
{
    const struct call_request *request = call->request;
    struct str boundary = multipart_boundary(request->content_type);
    if (boundary.n)
        return read_multipart(call, boundary, err);
    enum rc rc = wire_read_request(request->format, request->body, &call->parsed, &call->wire, err);
    /* Of a call by a prompt's name the messages may be missing: the prompt has them. */
    if (str_starts(call->wire.model, STR(PROMPT_PREFIX)) &&
        !map_get(&call->project->routes, call->wire.model))
        rc = rewrite_prompt(call, err);
    if (rc != RC_OK)
        return rc;
    /* Where a call names provider/model, its target is made of this text: it outlives the document.
     */
    call->wire.model = arena_copy(call->scope->arena, call->wire.model);
    if (!call->wire.model.p)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    yyjson_val *root = yyjson_doc_get_root(call->wire.doc);
    call->price_context.service_tier = member_text(root, "service_tier");
    call->price_context.speed = member_text(root, "speed");
    if (request->path_suffix.n)
        call->wire.stream = false;
    return RC_OK;
}

void request_release(struct call *call)
{
    struct call_record *record = call->record;
    struct arena *arena = call->scope->arena;
    if (!call->wire.doc || !call->attempt.answer ||
        wire_answer_needs_document(call->attempt.answer))
        return;
    struct str *texts[] = {&record->model_requested, &record->user, &record->session,
                           &call->price_context.service_tier, &call->price_context.speed};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!copy_text(arena, texts[i]))
            return;
    struct call_tag *tags = (struct call_tag *)record->tags; /* the call's own array */
    for (size_t i = 0; i < record->tag_count; i++)
        if (!copy_text(arena, &tags[i].name) || !copy_text(arena, &tags[i].value))
            return;
    if (call->prompt_model.n && !copy_text(arena, &call->wire.model))
        return;
    call->request->body = call->wire.body;
    call->wire.doc = NULL;
    call->wire.members = (struct json_object){0};
    if (call->prompt_model.n)
        call->prompt_model = record->model_requested;
    else
        call->wire.model = record->model_requested;
    call->wire.user = call->wire.session = STR_EMPTY;
    call->wire.tags = NULL;
    call->wire.tag_count = 0;
    call->released = true;
    arena_reset(&call->parsed);
}

enum rc request_again(struct call *call, struct err *err)
{
    if (!call->released)
        return RC_OK;
    call->released = false;
    return request_read(call, err);
}

static enum rc add_credential(struct call *call, struct str secret, struct wire_call *out)
{
    struct arena *arena = call->scope->arena;
    const struct provider_row *row = call->attempt.target->provider->row;
    if (secret.n == 0)
        return RC_OK;
    switch (row ? row->auth : PROVIDER_AUTH_BEARER) {
    case PROVIDER_AUTH_NONE: return RC_OK;
    case PROVIDER_AUTH_BEARER: {
        struct str value = arena_concat(arena, STR("Bearer "), secret);
        return value.p ? http_header_add(&out->headers, arena, STR("authorization"), value)
                       : RC_LIMIT;
    }
    case PROVIDER_AUTH_API_KEY:
        return http_header_add(&out->headers, arena, STR("api-key"), secret);
    case PROVIDER_AUTH_X_API_KEY:
        return http_header_add(&out->headers, arena, STR("x-api-key"), secret);
    }
    UNREACHABLE();
}

enum rc request_write_multipart(struct call *call, struct str secret, struct wire_call *out,
                                struct err *err)
{
    struct str body = call->wire.body, model = call->wire.model;
    size_t from = (size_t)(model.p - body.p);
    out->body[0] = str_slice(body, 0, from);
    out->body[1] = call->attempt.target->model;
    out->body[2] = str_slice(body, from + model.n, body.n);
    out->body_parts = 3;
    enum rc rc = http_header_add(&out->headers, call->scope->arena, STR("content-type"),
                                 call->request->content_type);
    if (rc == RC_OK)
        rc = add_credential(call, secret, out);
    if (rc != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return RC_OK;
}
