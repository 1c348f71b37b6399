/* Errors of upstreams, read into our codes so that fallback causes are right, and our errors in the
 * doors' formats. Bodies come in many shapes: {"error":{message,type,code}}, {"error":"text"},
 * {"message"},
 * {"detail"}, {"type":"error","error":{…}}, an array around one of them, plain text, HTML. */
#include "base/utf8.h"
#include "gateway/wire_internal.h"
#include "gateway/wire_scan.h"

struct clue {
    const char *text;
    enum err_code code;
};

/* `code` and `type` members, whole. */
static const struct clue codes[] = {
    {"context_length_exceeded", ERR_CONTEXT_LENGTH},
    {"exceed_context_size_error", ERR_CONTEXT_LENGTH},
    {"string_above_max_length", ERR_CONTEXT_LENGTH},
    {"model_context_window_exceeded", ERR_CONTEXT_LENGTH},
    {"content_filter", ERR_CONTENT_FILTER},
    {"content_policy_violation", ERR_CONTENT_FILTER},
    {"ResponsibleAIPolicyViolation", ERR_CONTENT_FILTER},
    {"cyber_policy", ERR_CONTENT_FILTER},
    {"rate_limit_exceeded", ERR_RATE_LIMIT},
    {"rate_limit_error", ERR_RATE_LIMIT},
    {"insufficient_quota", ERR_RATE_LIMIT},
    {"tokens", ERR_RATE_LIMIT},
    {"requests", ERR_RATE_LIMIT},
    {"overloaded_error", ERR_OVERLOADED},
    {"server_overloaded", ERR_OVERLOADED},
    {"engine_overloaded_error", ERR_OVERLOADED},
    {"unavailable_error", ERR_OVERLOADED},
    {"timeout_error", ERR_TIMEOUT},
    {"server_error", ERR_UPSTREAM},
    {"api_error", ERR_UPSTREAM},
};

/* Parts of messages, for those who give no code. */
static const struct clue phrases[] = {
    {"maximum context length", ERR_CONTEXT_LENGTH},
    {"context window", ERR_CONTEXT_LENGTH},
    {"context size", ERR_CONTEXT_LENGTH},
    {"context length", ERR_CONTEXT_LENGTH},
    {"prompt is too long", ERR_CONTEXT_LENGTH},
    {"too many tokens", ERR_CONTEXT_LENGTH},
    {"input is too long", ERR_CONTEXT_LENGTH},
    {"exceed context limit", ERR_CONTEXT_LENGTH},
    {"content management policy", ERR_CONTENT_FILTER},
    {"content filter", ERR_CONTENT_FILTER},
    {"usage policy", ERR_CONTENT_FILTER},
    {"safety system", ERR_CONTENT_FILTER},
};

static bool contains_nocase(struct str s, const char *phrase)
{
    size_t n = strlen(phrase);
    for (size_t i = 0; i + n <= s.n; i++)
        if (str_eq_nocase(str_make(s.p + i, n), str_make(phrase, n)))
            return true;
    return false;
}

static enum err_code code_of_status(int status)
{
    switch (status) {
    case 200: return ERR_UPSTREAM; /* an error inside of an answer that said 200 */
    case 400:
    case 422: return ERR_INVALID;
    case 401:
    case 402:
    case 403: return ERR_UPSTREAM; /* our credential, not the client's */
    case 404: return ERR_MODEL_NOT_FOUND;
    case 408:
    case 504: return ERR_TIMEOUT;
    case 409: return ERR_UPSTREAM;
    case 413: return ERR_TOO_LARGE;
    case 429: return ERR_RATE_LIMIT;
    case 503:
    case 529: return ERR_OVERLOADED;
    default: return status >= 400 && status < 500 ? ERR_INVALID : ERR_UPSTREAM;
    }
}

static enum err_code classify(int status, struct str code, struct str type, struct str message)
{
    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (str_eq(code, str_from(codes[i].text)) || str_eq(type, str_from(codes[i].text)))
            return codes[i].code;
    for (size_t i = 0; status < 500 && i < COUNT_OF(phrases); i++)
        if (contains_nocase(message, phrases[i].text))
            return phrases[i].code;
    if (status == 200 && str_eq(type, STR("invalid_request_error")))
        return ERR_INVALID;
    return code_of_status(status);
}

struct error_parts {
    struct str message, code, type, param;
};

static void read_parts(yyjson_val *root, struct error_parts *out)
{
    if (yyjson_is_arr(root))
        root = yyjson_arr_get_first(root);
    yyjson_val *response = yyjson_obj_get(root, "response"); /* response.failed */
    yyjson_val *error = yyjson_obj_get(response ? response : root, "error");
    if (yyjson_is_str(error))
        out->message = json_text(error);
    yyjson_val *from = yyjson_is_obj(error) ? error : root;
    if (!out->message.n)
        out->message = json_get_text(from, "message");
    if (!out->message.n)
        out->message = json_get_text(from, "detail");
    if (!out->message.n) /* FastAPI: detail is a list of {msg, loc} */
        out->message = json_get_text(yyjson_arr_get_first(yyjson_obj_get(from, "detail")), "msg");
    out->code = json_get_text(from, "code");
    out->type = json_get_text(from, "type");
    out->param = json_get_text(from, "param");
    yyjson_val *inner = yyjson_obj_get(yyjson_obj_get(from, "innererror"), "code");
    if (yyjson_is_str(inner)) /* Azure */
        out->code = json_text(inner);
}

void wire_read_error(enum wire_format upstream, int status, struct str body, struct err *err)
{
    struct error_parts parts = {0};
    struct arena arena;
    yyjson_doc *doc = NULL;
    UNUSED(upstream); /* all shapes are tried: compatible providers mix them */
    arena_init(&arena, 1024 * 1024);
    bool json = json_read(str_slice(body, 0, 256 * 1024), &arena, &doc, NULL) == RC_OK;
    if (json)
        read_parts(yyjson_doc_get_root(doc), &parts);
    struct str text = str_trim(body);
    bool html = text.n && text.p[0] == '<';
    if (!parts.message.n && !html && !json)
        parts.message = str_slice(text, 0, 300);
    enum err_code code = classify(status, parts.code, parts.type, parts.message);
    struct str shown = str_slice(parts.message, 0, utf8_cut(parts.message, 400));
    const char *field = parts.param.n && parts.param.n < ERR_FIELD_BYTES_MAX ? parts.param.p : "";
    if (status == 401 || status == 402 || status == 403)
        err_set(err, code, "the provider refused its key or account (%d): %.*s", status,
                STR_ARG(shown));
    else if (!shown.n)
        err_set_field(err, code, field, "the provider answered %d without saying why", status);
    else
        err_set_field(err, code, field, "%.*s", STR_ARG(shown));
    arena_fini(&arena);
}

/* ---- writing ---- */

/* Anthropic's error types go by status. */
static const char *anthropic_type(enum err_code code)
{
    if (code == ERR_OVERLOADED || code == ERR_NO_TARGET)
        return "overloaded_error";
    switch (err_http_status(code)) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 504: return "timeout_error";
    case 400:
    case 405:
    case 409:
    case 415:
    case 422:
    case 499: return "invalid_request_error";
    default: return "api_error";
    }
}

static void put_openai_error(struct json_writer *w, const struct err *err)
{
    json_begin_object(w);
    json_put_text(w, "message", err->message);
    json_put_text(w, "type", err_openai_type(err->code));
    json_put_text(w, "param", err->field[0] ? err->field : NULL);
    json_put_text(w, "code", err_code_name(err->code));
    json_end_object(w);
}

static void put_error(struct json_writer *w, enum wire_format door, const struct err *err,
                      struct str request_id)
{
    json_begin_object(w);
    if (door == WIRE_ANTHROPIC) {
        json_put_text(w, "type", "error");
        json_key(w, "error");
        json_begin_object(w);
        json_put_text(w, "type", anthropic_type(err->code));
        json_put_text(w, "message", err->message);
        json_end_object(w);
        if (request_id.n)
            json_put_string(w, "request_id", request_id);
    } else {
        json_key(w, "error");
        put_openai_error(w, err);
    }
    json_end_object(w);
}

struct str wire_write_error(enum wire_format door, const struct err *err, struct str request_id,
                            struct arena *arena)
{
    struct buf buf;
    buf_init(&buf, 16 * 1024);
    struct json_writer w = json_writer_to(&buf);
    put_error(&w, door, err, request_id);
    struct str text = w.rc ? STR_EMPTY : arena_copy(arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}

struct str wire_error_frame(enum wire_format door, const struct err *err, struct arena *arena)
{
    struct buf buf;
    buf_init(&buf, 16 * 1024);
    struct json_writer w = json_writer_to(&buf);
    if (door == WIRE_OPENAI_RESPONSES) {
        json_append(&w, STR("event: error\ndata: "));
        json_begin_object(&w);
        json_put_text(&w, "type", "error");
        json_put_text(&w, "code", err_code_name(err->code));
        json_put_text(&w, "message", err->message);
        json_put_text(&w, "param", err->field[0] ? err->field : NULL);
        json_put_int(&w, "sequence_number", 0);
        json_end_object(&w);
    } else {
        json_append(&w, door == WIRE_ANTHROPIC ? STR("event: error\ndata: ") : STR("data: "));
        put_error(&w, door, err, STR_EMPTY);
    }
    json_append(&w, STR("\n\n"));
    struct str text = w.rc ? STR_EMPTY : arena_copy(arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}
