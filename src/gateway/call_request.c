/* Requests as they come in: JSON bodies are read by wire.h; of a multipart body (audio files,
 * images) only the model's name is looked for, and exchanged when a target has another one. */
#include "gateway/call_private.h"
#include "gateway/provider_table.h"
#include "http/multipart.h"

static enum rc read_multipart(struct call *call, struct str boundary, struct err *err)
{
    const struct call_request *request = &call->request;
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

enum rc request_read(struct call *call, struct err *err)
{
    const struct call_request *request = &call->request;
    struct str boundary = multipart_boundary(request->content_type);
    if (boundary.n)
        return read_multipart(call, boundary, err);
    enum rc rc =
        wire_read_request(request->format, request->body, call->scope->arena, &call->wire, err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *root = yyjson_doc_get_root(call->wire.doc);
    call->price_context.service_tier = member_text(root, "service_tier");
    call->price_context.speed = member_text(root, "speed");
    if (request->path_suffix.n)
        call->wire.stream = false;
    return RC_OK;
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
                                 call->request.content_type);
    if (rc == RC_OK)
        rc = add_credential(call, secret, out);
    if (rc != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    return RC_OK;
}
