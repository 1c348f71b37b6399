/* POST /mcp: the Model Context Protocol over streamable HTTP, where published pipelines whose
 * settings say so ("mcp": true) are tools, by the caller's key. No state is kept between messages
 * and no stream is offered, which the transport allows; so the newest, stateless protocol and its
 * forerunners are answered alike: what they do not know of each other's members they pass over.
 *
 * What tools there are is read from the database on a worker, for a list as for a call. */
#include "api/handlers.h"
#include "base/clock.h"
#include "io/worker.h"
#include "pipeline/engine/launch.h"
#include "store/db.h"
#include "store/object.h"
#include "text/jsonrpc.h"
#include <stdlib.h>

#define MCP_BYTES_MAX    (32 * 1024 * 1024)
#define ANSWER_BYTES_MAX (16 * 1024 * 1024)
#define TOOLS_MAX        200
#define UNKNOWN_TOOL                                                                               \
    "There is no such tool: pipelines are, when published and their settings say so."

static const char *const versions[] = {"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"};

struct mcp {
    struct http_request *request; /* NULL: the client left */
    struct api_services *services;
    struct work work;
    struct launch *launch;
    struct run *run;
    struct principal principal;
    struct arena arena;
    struct jsonrpc_message message; /* in the arena */
    struct str tool;                /* of a call; empty: a list */
    struct buf answer;              /* a list's */
    bool found;                     /* the tool of a call */
    struct err err;
};

static void mcp_free(struct mcp *mcp)
{
    buf_fini(&mcp->answer);
    arena_fini(&mcp->arena);
    free(mcp);
}

/* ---- answers ---- */

static void respond_buf(struct http_request *request, int status, const struct buf *buf)
{
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    http_respond(request, status, STR("application/json"),
                 arena_copy(request->arena, buf_str(buf)));
}

static void respond_error(struct http_request *request, int status, yyjson_val *id, int64_t code,
                          const char *message)
{
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    jsonrpc_put_error(&w, id, code, str_from(message), STR_EMPTY);
    respond_buf(request, status, &out);
    buf_fini(&out);
}

/* Members of every result in the newest protocol. */
static void put_common(struct json_writer *w, bool cacheable)
{
    json_put_text(w, "resultType", "complete");
    if (!cacheable)
        return;
    json_put_int(w, "ttlMs", 0);
    json_put_text(w, "cacheScope", "private");
}

static void put_server(struct json_writer *w)
{
    json_key(w, "capabilities");
    json_raw(w, STR("{\"tools\":{}}"));
    json_key(w, "serverInfo");
    json_raw(
        w, STR("{\"name\":\"capstan\",\"title\":\"Capstan\",\"version\":\"" CAPSTAN_VERSION "\"}"));
    json_put_text(w, "instructions", "Each tool is a pipeline: it runs to its end and answers.");
}

static const char *choose_version(yyjson_val *params)
{
    struct str asked = json_get_text(params, "protocolVersion");
    for (size_t i = 0; i < COUNT_OF(versions); i++)
        if (str_eq(asked, str_from(versions[i])))
            return versions[i];
    return versions[1];
}

static void put_discovery(struct json_writer *w)
{
    json_key(w, "supportedVersions");
    json_begin_array(w);
    for (size_t i = 0; i < COUNT_OF(versions); i++)
        json_string(w, str_from(versions[i]));
    json_end_array(w);
    put_server(w);
    put_common(w, true);
}

/* What is known without the database. False: another method. */
static bool respond_at_once(struct http_request *request, const struct jsonrpc_message *message)
{
    bool initialize = str_eq(message->method, STR("initialize")),
         discover = str_eq(message->method, STR("server/discover")),
         ping = str_eq(message->method, STR("ping"));
    struct buf out;
    if (!initialize && !discover && !ping)
        return false;
    buf_init(&out, ANSWER_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    jsonrpc_begin_result(&w, message->id);
    json_begin_object(&w);
    if (initialize) {
        json_put_text(&w, "protocolVersion", choose_version(message->params));
        put_server(&w);
    } else if (discover) {
        put_discovery(&w);
    }
    json_end_object(&w);
    jsonrpc_end(&w);
    respond_buf(request, 200, &out);
    buf_fini(&out);
    return true;
}

/* ---- tools ---- */

static bool is_tool(yyjson_val *definition)
{
    return json_get_bool(yyjson_obj_get(definition, "settings"), "mcp", false);
}

static yyjson_val *start_inputs(yyjson_val *definition)
{
    size_t i, n;
    yyjson_val *node;
    yyjson_arr_foreach(yyjson_obj_get(definition, "nodes"), i, n, node)
    {
        if (str_eq(json_get_text(node, "type"), STR("start")))
            return yyjson_obj_get(yyjson_obj_get(node, "config"), "inputs");
    }
    return NULL;
}

static void put_property(struct json_writer *w, yyjson_val *input)
{
    static const char *const plain[] = {"string", "number", "boolean", "object", "array"};
    struct str type = json_get_text(input, "type"), title = json_get_text(input, "title"),
               description = json_get_text(input, "description");
    yyjson_val *options = yyjson_obj_get(input, "options");
    json_key_str(w, json_get_text(input, "name"));
    json_begin_object(w);
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (str_eq(type, str_from(plain[i])))
            json_put_text(w, "type", plain[i]);
    if (title.n)
        json_put_string(w, "title", title);
    if (description.n)
        json_put_string(w, "description", description);
    if (yyjson_is_arr(options) && yyjson_arr_size(options))
        json_put_value(w, "enum", options);
    if (yyjson_obj_get(input, "default"))
        json_put_value(w, "default", yyjson_obj_get(input, "default"));
    json_end_object(w);
}

static void put_schema(struct json_writer *w, yyjson_val *inputs)
{
    size_t i, n;
    yyjson_val *input;
    json_key(w, "inputSchema");
    json_begin_object(w);
    json_put_text(w, "type", "object");
    json_key(w, "properties");
    json_begin_object(w);
    yyjson_arr_foreach(inputs, i, n, input) put_property(w, input);
    json_end_object(w);
    json_key(w, "required");
    json_begin_array(w);
    yyjson_arr_foreach(inputs, i, n, input)
    {
        if (json_get_bool(input, "required", false))
            json_string(w, json_get_text(input, "name"));
    }
    json_end_array(w);
    json_put_bool(w, "additionalProperties", false);
    json_end_object(w);
}

static void put_tool(struct json_writer *w, struct str name, yyjson_val *definition)
{
    struct str description = json_get_text(definition, "description");
    json_begin_object(w);
    json_put_string(w, "name", name);
    json_put_string(w, "description", description.n ? description : name);
    put_schema(w, start_inputs(definition));
    json_end_object(w);
}

/* The version that callers get who name none: production, or else the newest. */
static enum rc read_definition(struct db_txn *txn, struct mcp *mcp, struct str name,
                               yyjson_val **out)
{
    struct object object;
    int64_t version;
    yyjson_doc *doc;
    struct err err = {0};
    struct id project = mcp->principal.project;
    enum rc rc = object_label_resolve(txn, project, OBJECT_PIPELINE, name, STR("production"), 0,
                                      &version, &err);
    rc = rc == RC_OK ? object_version_get(txn, project, OBJECT_PIPELINE, name, version, &mcp->arena,
                                          &object, &err)
                     : object_get(txn, project, OBJECT_PIPELINE, name, &mcp->arena, &object, &err);
    if (rc == RC_OK)
        rc = json_read(object.spec, &mcp->arena, &doc, &err);
    *out = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    return rc;
}

static enum rc list_tools(struct db_txn *txn, struct mcp *mcp, struct json_writer *w)
{
    struct object_page page = {0};
    size_t count = 0;
    enum rc rc;
    do {
        rc = object_list(txn, mcp->principal.project, OBJECT_PIPELINE, page.next, STR_EMPTY, 100,
                         &mcp->arena, &page, &mcp->err);
        for (size_t i = 0; rc == RC_OK && i < page.count && count < TOOLS_MAX; i++) {
            yyjson_val *definition;
            if (read_definition(txn, mcp, page.items[i].name, &definition) != RC_OK ||
                !is_tool(definition))
                continue;
            put_tool(w, page.items[i].name, definition);
            count++;
        }
    } while (rc == RC_OK && page.next.n && count < TOOLS_MAX);
    return rc;
}

static void read_tools(struct work *work)
{
    struct mcp *mcp = CONTAINER_OF(work, struct mcp, work);
    struct db_txn *txn;
    yyjson_val *definition;
    if (db_read_begin(mcp->services->db, &txn, &mcp->err) != RC_OK)
        return;
    if (mcp->tool.n) {
        mcp->found =
            read_definition(txn, mcp, mcp->tool, &definition) == RC_OK && is_tool(definition);
    } else {
        struct json_writer w = json_writer_to(&mcp->answer);
        jsonrpc_begin_result(&w, mcp->message.id);
        json_begin_object(&w);
        json_key(&w, "tools");
        json_begin_array(&w);
        (void)!list_tools(txn, mcp, &w);
        json_end_array(&w);
        put_common(&w, true);
        json_end_object(&w);
        jsonrpc_end(&w);
        if (w.rc != RC_OK && mcp->err.code == ERR_NONE)
            err_set(&mcp->err, ERR_TOO_LARGE, "The list of tools is too large.");
    }
    db_read_end(txn);
}

/* ---- calls ---- */

static struct http_request *take_request(struct mcp *mcp)
{
    struct http_request *request = mcp->request;
    request->gone = NULL;
    request->user = NULL;
    return request;
}

/* A tool's failure is a result, which its caller reads; not an error of the protocol. */
static void respond_result(struct mcp *mcp, struct str text, yyjson_val *outputs, bool failed)
{
    struct http_request *request = take_request(mcp);
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    jsonrpc_begin_result(&w, mcp->message.id);
    json_begin_object(&w);
    json_key(&w, "content");
    json_begin_array(&w);
    json_begin_object(&w);
    json_put_text(&w, "type", "text");
    json_put_string(&w, "text", text);
    json_end_object(&w);
    json_end_array(&w);
    if (yyjson_obj_size(outputs))
        json_put_value(&w, "structuredContent", outputs);
    json_put_bool(&w, "isError", failed);
    put_common(&w, false);
    json_end_object(&w);
    jsonrpc_end(&w);
    if (w.rc == RC_OK)
        respond_buf(request, 200, &out);
    else
        respond_error(request, 200, mcp->message.id, JSONRPC_INTERNAL_ERROR,
                      "The answer is too large.");
    buf_fini(&out);
    mcp_free(mcp);
}

static void on_ended(void *arg, const struct run *run)
{
    struct mcp *mcp = arg;
    const struct err *err = run_error(run);
    if (err)
        respond_result(mcp, str_from(err->message), NULL, true);
    else
        respond_result(mcp, run_answer_text(run, &mcp->arena), run_outputs(run), false);
}

static void on_launched(void *arg, struct run *run, const struct err *err)
{
    struct mcp *mcp = arg;
    mcp->launch = NULL;
    mcp->run = run;
    if (!run)
        respond_result(mcp, str_from(err->message), NULL, true);
}

static void call_tool(struct mcp *mcp)
{
    struct loop *loop = mcp->request->loop;
    struct launch_request launch = {
        .pipeline = mcp->tool,
        .trigger = "mcp",
        .principal = &mcp->principal,
        .inputs = yyjson_obj_get(mcp->message.params, "arguments"),
        .owner = {.ended = on_ended, .arg = mcp},
    };
    trace_context_read(http_header_get(&mcp->request->headers, STR("traceparent")), &launch.trace);
    struct launch *under_way = launch_start(
        pipelines_loop(mcp->services->pipelines, loop_index(loop)), &launch, on_launched, mcp);
    if (under_way)
        mcp->launch = under_way;
}

static void on_gone(struct http_request *request)
{
    struct mcp *mcp = request->user;
    mcp->request = NULL;
    if (mcp->launch)
        launch_cancel(mcp->launch);
    if (mcp->run) {
        run_forget_owner(mcp->run);
        run_cancel(mcp->run, "the client has left");
    }
    if (mcp->launch || mcp->run)
        mcp_free(mcp); /* else when the worker has read */
}

static void tools_read(struct work *work)
{
    struct mcp *mcp = CONTAINER_OF(work, struct mcp, work);
    if (!mcp->request) {
        mcp_free(mcp);
        return;
    }
    if (mcp->err.code == ERR_NONE && mcp->tool.n && mcp->found) {
        call_tool(mcp);
        return;
    }
    struct http_request *request = take_request(mcp);
    if (mcp->err.code != ERR_NONE)
        respond_error(request, 200, mcp->message.id, JSONRPC_INTERNAL_ERROR, mcp->err.message);
    else if (mcp->tool.n)
        respond_error(request, 200, mcp->message.id, JSONRPC_INVALID_PARAMS, UNKNOWN_TOOL);
    else
        respond_buf(request, 200, &mcp->answer);
    mcp_free(mcp);
}

/* ---- the door ---- */

static void ask_worker(struct mcp *mcp, struct http_request *request)
{
    mcp->request = request;
    request->user = mcp;
    request->gone = on_gone;
    mcp->work = (struct work){.home = request->loop, .work = read_tools, .done = tools_read};
    if (worker_submit(mcp->services->workers, &mcp->work) == RC_OK)
        return;
    respond_error(take_request(mcp), 503, mcp->message.id, JSONRPC_INTERNAL_ERROR,
                  "The server has too much to do: try again soon.");
    mcp_free(mcp);
}

static bool may_ask(struct http_request *request, struct principal *principal)
{
    struct key *key;
    struct err err = {0};
    enum rc rc = api_authenticate(request, snapshot_current(), principal, &key, &err);
    if (rc == RC_OK)
        rc = principal_require(principal, PERMISSION_PIPELINE_RUN, &err);
    if (rc == RC_OK)
        return true;
    http_respond_header(request, STR("www-authenticate"), STR("Bearer"));
    respond_error(request, err_http_status(err.code), NULL, JSONRPC_INVALID_REQUEST, err.message);
    return false;
}

void door_mcp(struct api_call *call, struct http_request *request)
{
    struct principal principal;
    struct err err = {0};
    if (!may_ask(request, &principal))
        return;
    struct mcp *mcp = xcalloc(1, sizeof(*mcp));
    arena_init(&mcp->arena, MCP_BYTES_MAX);
    buf_init(&mcp->answer, ANSWER_BYTES_MAX);
    mcp->services = call->services;
    mcp->principal = principal;
    mcp->principal.name = arena_copy(&mcp->arena, principal.name);
    struct str body = arena_copy(&mcp->arena, request->body);
    enum rc rc = jsonrpc_read(body, &mcp->arena, &mcp->message, &err);
    bool list = str_eq(mcp->message.method, STR("tools/list"));
    if (rc == RC_OK && str_eq(mcp->message.method, STR("tools/call")))
        mcp->tool = json_get_text(mcp->message.params, "name");
    if (rc != RC_OK)
        respond_error(request, 400, mcp->message.id,
                      err.code == ERR_BAD_JSON ? JSONRPC_PARSE_ERROR : JSONRPC_INVALID_REQUEST,
                      err.message);
    else if (mcp->message.kind != JSONRPC_REQUEST)
        http_respond(request, 202, STR_EMPTY, STR_EMPTY);
    else if (list || mcp->tool.n) {
        ask_worker(mcp, request);
        return;
    } else if (!respond_at_once(request, &mcp->message))
        respond_error(request, 200, mcp->message.id, JSONRPC_METHOD_NOT_FOUND,
                      "Only tools are offered here.");
    mcp_free(mcp);
}

/* No stream from the server is offered, and no session ends. */
void door_mcp_refuse(struct api_call *call, struct http_request *request)
{
    UNUSED(call);
    http_respond_header(request, STR("allow"), STR("POST"));
    http_respond(request, 405, STR("text/plain"), STR_EMPTY);
}
