/* Requests as they come in: JSON bodies are read by wire.h; of a multipart body (audio files, images) only the
 * model's name is looked for, and exchanged when a target has another one. */
#include "gateway/call_private.h"
#include "gateway/provider_table.h"

#define MULTIPART_PARTS_MAX 64

/* The boundary parameter of a multipart content type; empty: it is none. */
static struct str boundary_of(struct str content_type)
{
    if (content_type.n < 10 || !str_eq_nocase(str_slice(content_type, 0, 10), STR("multipart/")))
        return STR_EMPTY;
    ssize_t at = str_find(content_type, STR("boundary="));
    if (at < 0)
        return STR_EMPTY;
    struct str value = str_slice(content_type, (size_t)at + 9, content_type.n);
    if (value.n && value.p[0] == '"') {
        value = str_slice(value, 1, value.n);
        ssize_t end = str_find_char(value, '"');
        return end < 0 ? STR_EMPTY : str_slice(value, 0, (size_t)end);
    }
    ssize_t end = str_find_char(value, ';');
    return str_trim(end < 0 ? value : str_slice(value, 0, (size_t)end));
}

static bool is_model_part(struct str head)
{
    struct str line;
    while (str_split(&head, '\n', &line)) {
        line = str_trim(line);
        if (line.n > 20 && str_eq_nocase(str_slice(line, 0, 20), STR("content-disposition:")))
            return str_find(line, STR("name=\"model\"")) >= 0 || str_ends(line, STR("name=model"));
    }
    return false;
}

/* The value of the part called "model" (RFC 7578), inside the body. */
static struct str multipart_model(struct str body, struct str boundary)
{
    struct str rest = body;
    for (int i = 0; i < MULTIPART_PARTS_MAX && boundary.n; i++) {
        ssize_t at = str_find(rest, boundary);
        if (at < 0)
            return STR_EMPTY;
        rest = str_slice(rest, (size_t)at + boundary.n, rest.n);
        ssize_t blank = str_find(rest, STR("\r\n\r\n"));
        if (blank < 0)
            return STR_EMPTY;
        struct str head = str_slice(rest, 0, (size_t)blank);
        struct str value = str_slice(rest, (size_t)blank + 4, rest.n);
        if (!is_model_part(head))
            continue;
        ssize_t end = str_find(value, STR("\r\n"));
        return end < 0 ? STR_EMPTY : str_slice(value, 0, (size_t)end);
    }
    return STR_EMPTY;
}

static enum rc read_multipart(struct call *call, struct str boundary, struct err *err)
{
    const struct call_request *request = &call->request;
    call->wire = (struct wire_request){.format = request->format, .body = request->body, .choices = 1};
    call->wire.model = multipart_model(request->body, boundary);
    if (call->wire.model.n == 0)
        return err_set_field(err, ERR_MISSING_FIELD, "model", "the form has no field 'model'");
    return RC_OK;
}

static struct str member_text(yyjson_val *root, const char *name)
{
    yyjson_val *value = yyjson_obj_get(root, name);
    return yyjson_is_str(value) ? str_make(yyjson_get_str(value), yyjson_get_len(value)) : STR_EMPTY;
}

enum rc request_read(struct call *call, struct err *err)
{
    const struct call_request *request = &call->request;
    struct str boundary = boundary_of(request->content_type);
    if (boundary.n)
        return read_multipart(call, boundary, err);
    enum rc rc = wire_read_request(request->format, request->body, call->scope->arena, &call->wire, err);
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
        return value.p ? http_header_add(&out->headers, arena, STR("authorization"), value) : RC_LIMIT;
    }
    case PROVIDER_AUTH_API_KEY: return http_header_add(&out->headers, arena, STR("api-key"), secret);
    case PROVIDER_AUTH_X_API_KEY: return http_header_add(&out->headers, arena, STR("x-api-key"), secret);
    }
    UNREACHABLE();
}

enum rc request_write_multipart(struct call *call, struct str secret, struct wire_call *out, struct err *err)
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
