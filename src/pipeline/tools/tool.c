/* See tool.h. */
#include "pipeline/tools/tool.h"
#include "http/message.h"
#include "text/decode.h"
#include "text/json_schema.h"
#include "text/json_tree.h"
#include "text/json_writer.h"
#include "text/yaml.h"

#define HEADERS_MAX    32
#define DOCUMENT_BYTES (4 * 1024 * 1024)

static const char *const kind_names[] = {"http", "openapi", "mcp", "pipeline", "retrieval", NULL};

const char *tool_kind_name(enum tool_kind kind) { return kind_names[kind]; }

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "The tool's definition is too large.");
}

struct str tool_function_name(struct str from, struct arena *arena)
{
    struct str name = arena_copy(arena, str_slice(from, 0, MIN(from.n, TOOL_NAME_BYTES_MAX)));
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i], lower = (char)(c | 0x20);
        if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
            ((char *)(uintptr_t)name.p)[i] = '_';
    }
    return name;
}

bool tool_wants(const struct tool *tool, struct str function)
{
    for (size_t i = 0; i < tool->only_count; i++)
        if (str_eq(tool->only[i], function))
            return true;
    return tool->only_count == 0;
}

const struct tool_function *tool_find_function(const struct tool *tool, struct str name)
{
    for (size_t i = 0; i < tool->function_count; i++)
        if (name.n ? str_eq(tool->functions[i].name, name) : tool->function_count == 1)
            return &tool->functions[i];
    return NULL;
}

/* ---- what kinds share ---- */

static enum rc read_headers(const struct place *root, struct tool *tool, struct arena *arena,
                            struct err *err)
{
    struct place at;
    size_t i, n;
    yyjson_val *key, *value;
    enum rc rc = decode_member(root, "headers", DECODE_OPTIONAL, &at, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&at, err);
    if (rc != RC_OK || !at.value)
        return rc;
    if (yyjson_obj_size(at.value) > HEADERS_MAX)
        return decode_refuse(&at, err, "at most %d headers", HEADERS_MAX);
    tool->headers = ARENA_NEW_ARRAY(arena, struct tool_header, HEADERS_MAX);
    if (!tool->headers)
        return full(err);
    yyjson_obj_foreach(at.value, i, n, key, value)
    {
        struct tool_header *header = &tool->headers[tool->header_count++];
        *header = (struct tool_header){json_text(key), json_text(value)};
        if (!http_is_token(header->name) || !yyjson_is_str(value) ||
            !http_is_field_value(header->value))
            return decode_refuse(&at, err, "'%.*s' is no header that can be sent",
                                 STR_ARG(header->name));
    }
    return RC_OK;
}

static enum rc read_object(const struct place *root, const char *name, yyjson_val **out,
                           struct err *err)
{
    struct place at;
    enum rc rc = decode_member(root, name, DECODE_OPTIONAL, &at, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&at, err);
    *out = rc == RC_OK ? at.value : NULL;
    return rc;
}

/* The one function of a tool that has one. */
static enum rc add_function(const struct place *root, struct tool *tool, yyjson_val *parameters,
                            struct arena *arena, struct err *err)
{
    static const char any[] = "{\"type\":\"object\",\"properties\":{}}";
    struct tool_function *function = tool->functions = ARENA_NEW(arena, struct tool_function);
    if (!function)
        return full(err);
    tool->function_count = 1;
    function->name = tool_function_name(tool->name, arena);
    function->description = tool->description;
    function->parameters = parameters ? json_write(parameters, arena) : STR(any);
    if (!function->parameters.p || !function->name.p)
        return full(err);
    enum rc rc = json_schema_compile(function->parameters, arena, &function->schema, err);
    if (rc == RC_OK && parameters && !str_eq(json_get_text(parameters, "type"), STR("object"))) {
        struct place at;
        rc = decode_member(root, "parameters", DECODE_REQUIRED, &at, err);
        if (rc == RC_OK)
            rc = decode_refuse(&at, err, "must be a JSON Schema of type object");
    }
    return rc;
}

static enum rc read_name(const struct place *root, const char *member, struct str *name,
                         struct str *selector, struct err *err)
{
    enum rc rc = decode_str(root, member, DECODE_REQUIRED, 256, name, err);
    ssize_t at = rc == RC_OK ? str_rfind_char(*name, '@') : -1;
    if (at > 0) {
        *selector = str_slice(*name, (size_t)at + 1, name->n);
        *name = str_slice(*name, 0, (size_t)at);
    }
    return rc;
}

/* ---- kinds ---- */

static enum rc read_places(const struct place *root, struct tool_function *function,
                           struct arena *arena, struct err *err)
{
    static const char *const words[] = {"url", "query", "header", "body", NULL};
    struct place at;
    size_t i, n;
    yyjson_val *key, *value;
    enum rc rc = decode_member(root, "in", DECODE_OPTIONAL, &at, err);
    if (rc == RC_OK)
        rc = decode_expect_object(&at, err);
    if (rc != RC_OK || !at.value)
        return rc;
    function->parameters_placed =
        ARENA_NEW_ARRAY(arena, struct tool_parameter, yyjson_obj_size(at.value) + 1);
    if (!function->parameters_placed)
        return full(err);
    yyjson_obj_foreach(at.value, i, n, key, value)
    {
        int word = -1;
        for (int w = 0; words[w]; w++)
            if (str_eq(json_text(value), str_from(words[w])))
                word = w;
        if (word < 0)
            return decode_refuse(&at, err, "must say url, query, header or body");
        function->parameters_placed[function->placed_count++] =
            (struct tool_parameter){json_text(key), (enum tool_place)word};
    }
    return RC_OK;
}

static enum rc read_http(const struct place *root, struct tool *tool, struct arena *arena,
                         struct err *err)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", NULL};
    static const char *const results[] = {"as_is", "page_text", NULL};
    int method = 0, result = TOOL_RESULT_AS_IS;
    yyjson_val *parameters;
    struct str url = STR_EMPTY;
    enum rc rc = decode_str(root, "url", DECODE_REQUIRED, 4096, &url, err);
    if (rc == RC_OK)
        rc = decode_word(root, "method", methods, &method, err);
    if (rc == RC_OK)
        rc = decode_word(root, "result", results, &result, err);
    if (rc == RC_OK)
        rc = read_object(root, "parameters", &parameters, err);
    if (rc == RC_OK)
        rc = add_function(root, tool, parameters, arena, err);
    if (rc == RC_OK)
        rc = read_places(root, tool->functions, arena, err);
    if (rc != RC_OK)
        return rc;
    if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://")) && url.p[0] != '{')
        return err_set_field(err, ERR_BAD_FIELD, "url", "must begin with http:// or https://");
    tool->result = (enum tool_result)result;
    tool->functions->method = str_from(methods[method]);
    tool->functions->url = url;
    tool->functions->safe = method == 0 || str_eq(tool->functions->method, STR("HEAD"));
    return RC_OK;
}

static enum rc read_openapi(const struct place *root, struct tool *tool, struct arena *arena,
                            struct err *err)
{
    struct place at;
    struct str server = STR_EMPTY;
    yyjson_doc *doc;
    enum rc rc = decode_member(root, "document", DECODE_REQUIRED, &at, err);
    if (rc == RC_OK)
        rc = decode_str(root, "server", DECODE_OPTIONAL, 2048, &server, err);
    if (rc == RC_OK)
        rc = decode_texts(root, "operations", TOOL_FUNCTIONS_MAX, 256, arena, &tool->only,
                          &tool->only_count, err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *document = at.value;
    struct err cause = {0};
    if (yyjson_is_str(document)) {
        struct str text = json_text(document);
        if (text.n > DOCUMENT_BYTES)
            return full(err);
        rc = str_starts(str_trim(text), STR("{")) ? json_read(text, arena, &doc, &cause)
                                                  : yaml_read(text, arena, NULL, &doc, &cause);
        document = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
        if (rc != RC_OK)
            return decode_refuse(&at, err, "%s", cause.message);
    }
    return tool_read_openapi(tool, document, server, arena, err);
}

static enum rc read_mcp(const struct place *root, struct tool *tool, struct arena *arena,
                        struct err *err)
{
    enum rc rc = decode_str(root, "url", DECODE_OPTIONAL, 2048, &tool->url, err);
    if (rc == RC_OK)
        rc = decode_str(root, "server", DECODE_OPTIONAL, 256, &tool->server, err);
    if (rc == RC_OK)
        rc = decode_texts(root, "tools", TOOL_FUNCTIONS_MAX, 256, arena, &tool->only,
                          &tool->only_count, err);
    if (rc == RC_OK && !tool->url.n == !tool->server.n)
        rc = err_set_field(err, ERR_BAD_FIELD, "url",
                           "An MCP tool has either a url, or the name of a server of the "
                           "configuration file.");
    if (rc == RC_OK && tool->url.n && !str_starts(tool->url, STR("http://")) &&
        !str_starts(tool->url, STR("https://")))
        rc = err_set_field(err, ERR_BAD_FIELD, "url", "must begin with http:// or https://");
    return rc;
}

static enum rc read_pipeline(const struct place *root, struct tool *tool, struct arena *arena,
                             struct err *err)
{
    yyjson_val *parameters;
    enum rc rc = read_name(root, "pipeline", &tool->pipeline, &tool->selector, err);
    if (rc == RC_OK)
        rc = read_object(root, "parameters", &parameters, err);
    if (rc == RC_OK && parameters)
        rc = add_function(root, tool, parameters, arena, err);
    return rc;
}

/* Looking for passages is a pipeline of one retrieval node. */
static enum rc make_retrieval(struct tool *tool, const struct str *collections, size_t count,
                              int64_t passages, struct arena *arena, struct err *err)
{
    struct buf text;
    buf_init(&text, 64 * 1024);
    struct json_writer w = json_writer_to(&text);
    json_append(&w, STR("{\"schema\":1,\"nodes\":["
                        "{\"id\":\"start\",\"type\":\"start\",\"config\":{\"inputs\":[{\"name\":"
                        "\"query\",\"type\":\"string\",\"required\":true}]}},"
                        "{\"id\":\"say\",\"type\":\"answer\",\"config\":{\"text\":"
                        "\"{{ search.text }}\"}},"
                        "{\"id\":\"end\",\"type\":\"end\",\"config\":{\"outputs\":[{\"name\":"
                        "\"passages\",\"value\":\"search.result\"}]}},"
                        "{\"id\":\"search\",\"type\":\"retrieval\",\"config\":"
                        "{\"query\":\"{{ start.query }}\",\"collections\":"));
    json_begin_array(&w);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&w);
        json_put_string(&w, "name", collections[i]);
        json_end_object(&w);
    }
    json_end_array(&w);
    if (passages)
        json_put_int(&w, "k", passages);
    json_append(&w, STR("}}],\"edges\":[{\"from\":\"start\",\"to\":\"search\"},"
                        "{\"from\":\"search\",\"to\":\"say\"},{\"from\":\"say\",\"to\":"
                        "\"end\"}]}"));
    tool->definition = arena_copy(arena, buf_str(&text));
    buf_fini(&text);
    return w.rc == RC_OK && tool->definition.p ? RC_OK : full(err);
}

static enum rc read_retrieval(const struct place *root, struct tool *tool, struct arena *arena,
                              struct err *err)
{
    static const char parameters[] =
        "{\"type\":\"object\",\"properties\":{\"query\":{\"type\":\"string\",\"description\":"
        "\"What "
        "to look for, in words.\"}},\"required\":[\"query\"],\"additionalProperties\":false}";
    struct str *collections = NULL;
    size_t count = 0;
    int64_t passages = 0;
    yyjson_doc *doc;
    enum rc rc = decode_texts(root, "collections", 8, 100, arena, &collections, &count, err);
    if (rc == RC_OK)
        rc = decode_i64(root, "k", 1, 100, &passages, err);
    if (rc == RC_OK && !count)
        rc = err_set_field(err, ERR_MISSING_FIELD, "collections", "Name at least one collection.");
    if (rc == RC_OK)
        rc = make_retrieval(tool, collections, count, passages, arena, err);
    if (rc == RC_OK)
        rc = json_read(STR(parameters), arena, &doc, err);
    return rc == RC_OK ? add_function(root, tool, yyjson_doc_get_root(doc), arena, err) : rc;
}

enum rc tool_decode(struct str name, yyjson_val *json, struct arena *arena, struct tool **out,
                    struct err *err)
{
    static const char *const shared[] = {"kind", "description", "timeout_ms", NULL};
    static const char *const members[][16] = {
        [TOOL_HTTP] = {"method", "url", "parameters", "in", "headers", "fixed", "result",
                       "idempotency_key"},
        [TOOL_OPENAPI] = {"document", "server", "operations", "headers", "fixed",
                          "idempotency_key"},
        [TOOL_MCP] = {"url", "server", "tools", "headers"},
        [TOOL_PIPELINE] = {"pipeline", "parameters"},
        [TOOL_RETRIEVAL] = {"collections", "k"},
    };
    static enum rc (*const readers[])(const struct place *, struct tool *, struct arena *,
                                      struct err *) = {[TOOL_HTTP] = read_http,
                                                       [TOOL_OPENAPI] = read_openapi,
                                                       [TOOL_MCP] = read_mcp,
                                                       [TOOL_PIPELINE] = read_pipeline,
                                                       [TOOL_RETRIEVAL] = read_retrieval};
    const char *known[20] = {0};
    struct place root;
    int kind = -1;
    size_t count = 0;
    decode_root(&root, json, "");
    struct tool *tool = *out = ARENA_NEW(arena, struct tool);
    if (!tool)
        return full(err);
    enum rc rc = decode_expect_object(&root, err);
    if (rc == RC_OK)
        rc = decode_word(&root, "kind", kind_names, &kind, err);
    if (rc == RC_OK && kind < 0)
        rc = err_set_field(err, ERR_MISSING_FIELD, "kind",
                           "A tool's kind is http, openapi, mcp, pipeline or retrieval.");
    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; shared[i]; i++)
        known[count++] = shared[i];
    for (size_t i = 0; members[kind][i]; i++)
        known[count++] = members[kind][i];
    tool->name = name;
    tool->kind = (enum tool_kind)kind;
    tool->timeout_ms = TOOL_TIMEOUT_MS;
    rc = decode_only(&root, known, err);
    if (rc == RC_OK)
        rc = decode_str(&root, "description", DECODE_OPTIONAL, 4096, &tool->description, err);
    if (rc == RC_OK)
        rc = decode_i64(&root, "timeout_ms", 1, 3600000, &tool->timeout_ms, err);
    if (rc == RC_OK)
        rc = read_headers(&root, tool, arena, err);
    if (rc == RC_OK)
        rc = read_object(&root, "fixed", &tool->fixed, err);
    if (rc == RC_OK)
        rc = decode_bool(&root, "idempotency_key", &tool->idempotency_key, err);
    return rc == RC_OK ? readers[kind](&root, tool, arena, err) : rc;
}

yyjson_mut_val *tool_functions_encode(const struct tool *tool, yyjson_mut_doc *doc)
{
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (size_t i = 0; i < tool->function_count; i++) {
        const struct tool_function *function = &tool->functions[i];
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
        json_set_text(doc, o, "name", function->name);
        json_set_text(doc, o, "description", function->description);
        yyjson_mut_obj_add_val(
            doc, o, "parameters",
            yyjson_mut_rawn(doc, function->parameters.p, function->parameters.n));
        if (function->method.n)
            json_set_text(doc, o, "method", function->method);
        if (function->url.n)
            json_set_text(doc, o, "url", function->url);
    }
    return list;
}
