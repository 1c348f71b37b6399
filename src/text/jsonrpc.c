/* See jsonrpc.h. Frames follow https://www.jsonrpc.org/specification. */
#include "text/jsonrpc.h"

static bool is_id(yyjson_val *id) { return yyjson_is_str(id) || yyjson_is_int(id); }

static enum rc refuse(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "this is no JSON-RPC 2.0 message: %s", what);
}

static enum rc read_error(yyjson_val *error, struct jsonrpc_message *out, struct err *err)
{
    if (!yyjson_is_obj(error) || !yyjson_is_int(yyjson_obj_get(error, "code")))
        return refuse(err, "its error has no code");
    out->kind = JSONRPC_ERROR;
    out->error_code = json_get_int(error, "code", JSONRPC_INTERNAL_ERROR);
    out->error_message = json_get_text(error, "message");
    out->error_data = yyjson_obj_get(error, "data");
    return RC_OK;
}

enum rc jsonrpc_read_value(yyjson_val *value, struct jsonrpc_message *out, struct err *err)
{
    *out = (struct jsonrpc_message){0};
    if (!yyjson_is_obj(value))
        return refuse(err, "it is no object");
    yyjson_val *id = yyjson_obj_get(value, "id"), *method = yyjson_obj_get(value, "method"),
               *params = yyjson_obj_get(value, "params"), *result = yyjson_obj_get(value, "result"),
               *error = yyjson_obj_get(value, "error");
    out->id = is_id(id) ? id : NULL;
    if (!str_eq(json_get_text(value, "jsonrpc"), STR("2.0")))
        return refuse(err, "its \"jsonrpc\" is not \"2.0\"");
    if (id && !is_id(id) && !yyjson_is_null(id))
        return refuse(err, "its id is neither a text nor a whole number");
    if (method) {
        if (!yyjson_is_str(method) || result || error)
            return refuse(err, "its method is no text, or there is an answer in it");
        if (params && !yyjson_is_obj(params) && !yyjson_is_arr(params))
            return refuse(err, "its params are neither an object nor a list");
        if (id && !out->id)
            return refuse(err, "its id is null");
        out->kind = out->id ? JSONRPC_REQUEST : JSONRPC_NOTIFICATION;
        out->method = json_text(method);
        out->params = params;
        return RC_OK;
    }
    if (error && !result)
        return read_error(error, out, err);
    if (!result || error || !out->id)
        return refuse(err, "it has no method, and is no answer either");
    out->kind = JSONRPC_RESULT;
    out->result = result;
    return RC_OK;
}

enum rc jsonrpc_read(struct str text, struct arena *arena, struct jsonrpc_message *out,
                     struct err *err)
{
    yyjson_doc *doc;
    *out = (struct jsonrpc_message){0};
    enum rc rc = json_read(text, arena, &doc, err);
    return rc == RC_OK ? jsonrpc_read_value(yyjson_doc_get_root(doc), out, err) : rc;
}

int64_t jsonrpc_id_number(const struct jsonrpc_message *message)
{
    return yyjson_is_int(message->id) ? json_integer(message->id, -1) : -1;
}

static void begin(struct json_writer *w)
{
    json_begin_object(w);
    json_put_text(w, "jsonrpc", "2.0");
}

void jsonrpc_begin_request(struct json_writer *w, int64_t id, const char *method)
{
    begin(w);
    if (id >= 0)
        json_put_int(w, "id", id);
    json_put_text(w, "method", method);
}

static void put_id(struct json_writer *w, yyjson_val *id)
{
    if (id)
        json_put_value(w, "id", id);
    else
        json_put_null(w, "id");
}

void jsonrpc_begin_result(struct json_writer *w, yyjson_val *id)
{
    begin(w);
    put_id(w, id);
    json_key(w, "result");
}

void jsonrpc_end(struct json_writer *w) { json_end_object(w); }

void jsonrpc_put_error(struct json_writer *w, yyjson_val *id, int64_t code, struct str message,
                       struct str data)
{
    begin(w);
    put_id(w, id);
    json_key(w, "error");
    json_begin_object(w);
    json_put_int(w, "code", code);
    json_put_string(w, "message", message);
    if (data.n)
        json_put_raw(w, "data", data);
    json_end_object(w);
    json_end_object(w);
}
