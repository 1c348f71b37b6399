/* JSON-RPC 2.0 messages, as the Model Context Protocol sends them: one object a message, no
 * batches. Reading checks the frame only; what `params` and `result` hold is the caller's matter.
 * Any thread. */
#pragma once
#include "text/json.h"
#include "text/json_writer.h"

#define JSONRPC_PARSE_ERROR      (-32700)
#define JSONRPC_INVALID_REQUEST  (-32600)
#define JSONRPC_METHOD_NOT_FOUND (-32601)
#define JSONRPC_INVALID_PARAMS   (-32602)
#define JSONRPC_INTERNAL_ERROR   (-32603)

enum jsonrpc_kind {
    JSONRPC_REQUEST,      /* id, method, params */
    JSONRPC_NOTIFICATION, /* method, params */
    JSONRPC_RESULT,       /* id, result */
    JSONRPC_ERROR,        /* id (may be null), error */
};

struct jsonrpc_message {
    enum jsonrpc_kind kind;
    yyjson_val *id; /* text or whole number; NULL: none, or null */
    struct str method;
    yyjson_val *params; /* object, array or NULL */
    yyjson_val *result; /* any value, null included */
    int64_t error_code;
    struct str error_message;
    yyjson_val *error_data; /* may be NULL */
};

/* ERR_BAD_JSON: no JSON (answer JSONRPC_PARSE_ERROR); ERR_INVALID: JSON, but no message (answer
 * JSONRPC_INVALID_REQUEST with out->id, which is set where one could be found). */
enum rc jsonrpc_read(struct str text, struct arena *arena, struct jsonrpc_message *out,
                     struct err *err) MUST_CHECK;
enum rc jsonrpc_read_value(yyjson_val *value, struct jsonrpc_message *out,
                           struct err *err) MUST_CHECK;
/* The id as a whole number; -1: it is none. */
int64_t jsonrpc_id_number(const struct jsonrpc_message *message);

/* {"jsonrpc":"2.0","id":…,"method":…  and jsonrpc_end closes it. The caller puts "params" between,
 * if any. id < 0: a notification. */
void jsonrpc_begin_request(struct json_writer *w, int64_t id, const char *method);
/* {"jsonrpc":"2.0","id":…,"result":  the caller writes one value, then jsonrpc_end. */
void jsonrpc_begin_result(struct json_writer *w, yyjson_val *id);
void jsonrpc_end(struct json_writer *w);
/* A whole answer; `id` NULL: null. `data`: a JSON value, or empty. */
void jsonrpc_put_error(struct json_writer *w, yyjson_val *id, int64_t code, struct str message,
                       struct str data);
