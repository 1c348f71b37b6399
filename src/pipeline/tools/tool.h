/* Tools: what a model may call, and `tool` nodes do. A tool is a configuration object of a project
 * (kind "tool"), or stands inside a node's config; both have the same JSON form, decoded here once.
 * A tool gives one function (http, pipeline, retrieval) or several (openapi: one for each
 * operation; mcp: what the server lists). Immutable, any thread. docs/pipelines.md describes the
 * members. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <yyjson.h>

struct json_schema;

#define TOOL_FUNCTIONS_MAX  128
#define TOOL_NAME_BYTES_MAX 64 /* of a function: what providers take */
#define TOOL_TIMEOUT_MS     60000

enum tool_kind { TOOL_HTTP, TOOL_OPENAPI, TOOL_MCP, TOOL_PIPELINE, TOOL_RETRIEVAL };

enum tool_place { TOOL_IN_URL, TOOL_IN_QUERY, TOOL_IN_HEADER, TOOL_IN_BODY };

struct tool_parameter {
    struct str name;
    enum tool_place place;
};

struct tool_function {
    struct str name, description;
    struct str parameters;      /* JSON Schema of an object, as text */
    struct json_schema *schema; /* the same; NULL: the other side checks */
    /* http and openapi: */
    struct str method, url;                   /* {name} stands for an argument */
    struct tool_parameter *parameters_placed; /* those that do not stand where the method says */
    size_t placed_count;
    bool body_is_argument; /* the body is the argument `body` alone */
    bool form;             /* the body is a form; else JSON */
    bool safe;             /* GET and HEAD: may be repeated */
};

struct tool_header {
    struct str name, value;
};

enum tool_result { TOOL_RESULT_AS_IS, TOOL_RESULT_PAGE_TEXT };

struct tool {
    struct str name, description;
    enum tool_kind kind;
    struct tool_function *functions; /* mcp, and pipeline without `parameters`: asked for */
    size_t function_count;
    struct tool_header *headers; /* http, openapi, mcp by URL */
    size_t header_count;
    struct str *only; /* openapi, mcp: just these functions; none: all */
    size_t only_count;
    yyjson_val *fixed; /* http, openapi: arguments that the model neither sees nor sets; object */
    struct str url, server; /* mcp: one of them; server: of the configuration file */
    struct str pipeline, selector;
    struct str definition; /* retrieval: a pipeline that looks for `query` */
    int64_t timeout_ms;
    enum tool_result result;
    bool idempotency_key; /* http, openapi: sent, so that a call may be repeated after a crash */
};

const char *tool_kind_name(enum tool_kind kind);
/* `json` must live as long as the arena. ERR_BAD_FIELD with the field, ERR_MISSING_FIELD. */
enum rc tool_decode(struct str name, yyjson_val *json, struct arena *arena, struct tool **out,
                    struct err *err) MUST_CHECK;
/* NULL: the tool has no such function. An empty name: its only one. */
const struct tool_function *tool_find_function(const struct tool *tool, struct str name);
bool tool_wants(const struct tool *tool, struct str function); /* by `only` */
/* Letters, digits, '_' and '-', at most TOOL_NAME_BYTES_MAX; .p NULL: the arena is full. */
struct str tool_function_name(struct str from, struct arena *arena);
/* An OpenAPI 3 document as functions (tool_openapi.c). `server`: overrides the document's. */
enum rc tool_read_openapi(struct tool *tool, yyjson_val *document, struct str server,
                          struct arena *arena, struct err *err) MUST_CHECK;
/* {"name", "description", "parameters"} of each function that is known without asking. */
yyjson_mut_val *tool_functions_encode(const struct tool *tool, yyjson_mut_doc *doc);
