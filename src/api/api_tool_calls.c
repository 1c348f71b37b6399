/* Asking tools: for the functions that they give, of a definition that is not stored yet, too, and
 * for the answer to one call. On the request's loop, except that definitions are read on a worker:
 * an OpenAPI document may be megabytes.
 *
 * A call is tried as a run of a pipeline of one tool node: the same way, checks and limits as in a
 * pipeline, and the run can be looked at afterwards. */
#include "api/handlers.h"
#include "api/problem.h"
#include "io/worker.h"
#include "pipeline/tools/connector.h"
#include "pipeline/engine/launch.h"
#include "pipeline/tools/tool_call.h"
#include "text/json_tree.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define ASKING_BYTES_MAX (96 * 1024 * 1024)
#define TRIAL_BYTES_MAX  (16 * 1024 * 1024)
#define DEFINITION_BYTES (1024 * 1024)
#define TRIAL_TRIGGER    "tool"

static struct pipeline_loop *own_loop(const struct api_call *call,
                                      const struct http_request *request)
{
    return pipelines_loop(call->services->pipelines, loop_index(request->loop));
}

/* ---- functions ---- */

struct asking {
    struct arena arena;
    struct http_request *request; /* NULL: the client left; a worker has it still */
    struct pipeline_loop *loop;
    struct worker_pool *workers;
    struct work work;
    struct id project;
    struct str body, url; /* url: of the OpenAPI document, to be fetched; empty: none */
    struct fetch *fetch;
    struct str document; /* what was fetched */
    struct snapshot *snapshot;
    const struct tool *tool;
    struct tool_listing *listing;
    struct str answer;
    bool working, starting;
    struct err err;
};

static void asking_free(struct asking *asking)
{
    fetch_free(asking->fetch);
    if (asking->listing)
        tool_listing_cancel(asking->listing);
    if (asking->snapshot)
        snapshot_unref(asking->snapshot);
    arena_fini(&asking->arena);
    free(asking);
}

static void asking_gone(struct http_request *request)
{
    struct asking *asking = request->user;
    asking->request = NULL;
    if (!asking->working)
        asking_free(asking);
}

/* Answers with asking->answer or ->err. */
static void asking_end(struct asking *asking)
{
    struct http_request *request = asking->request;
    request->gone = NULL;
    request->user = NULL;
    struct str text = asking->answer.n ? arena_copy(request->arena, asking->answer) : STR_EMPTY;
    if (asking->err.code == ERR_NONE && !text.p)
        err_set(&asking->err, ERR_TOO_LARGE, "The functions are too many to be shown.");
    if (asking->err.code != ERR_NONE)
        api_respond_problem(request, &asking->err);
    else
        http_respond(request, 200, STR("application/json"), text);
    asking_free(asking);
}

/* {"items": […], "next_cursor": null, "document"} */
static void make_answer(struct asking *asking, const struct tool_function *functions, size_t count)
{
    const struct tool view = {.functions = (struct tool_function *)functions,
                              .function_count = count};
    yyjson_mut_doc *doc = json_tree_new(&asking->arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_val(doc, root, "items", tool_functions_encode(&view, doc));
    yyjson_mut_obj_add_null(doc, root, "next_cursor");
    if (asking->document.n)
        json_set_text(doc, root, "document", asking->document);
    (void)!json_write_tree(root, &asking->arena, &asking->answer, &asking->err);
}

static void on_listed(void *arg, const struct tool_function *functions, size_t count,
                      const struct err *err)
{
    struct asking *asking = arg;
    asking->listing = NULL;
    asking->working = false;
    if (err)
        asking->err = *err;
    else
        make_answer(asking, functions, count);
    if (!asking->starting)
        asking_end(asking);
}

/* Somebody else knows the functions: an MCP server, a pipeline. */
static void list_functions(struct asking *asking)
{
    asking->starting = true;
    asking->listing = tool_list(asking->loop, asking->project, asking->tool, on_listed, asking);
    asking->starting = false;
    if (!asking->listing) /* it came from within */
        asking_end(asking);
}

static void submit(struct asking *asking);

static void on_fetched(void *arg, struct fetch *fetch, const struct err *failure)
{
    struct asking *asking = arg;
    if (failure)
        asking->err = *failure;
    else if (fetch->status != 200)
        err_set_field(&asking->err, ERR_BAD_FIELD, "document_url",
                      "The address answered with status %d.", fetch->status);
    else if (!(asking->document = arena_copy(&asking->arena, buf_str(&fetch->received))).p)
        err_set(&asking->err, ERR_TOO_LARGE, "The document is too large.");
    asking->url = STR_EMPTY;
    if (asking->err.code != ERR_NONE)
        asking_end(asking);
    else
        submit(asking);
}

static void fetch_document(struct asking *asking)
{
    struct fetch *fetch = asking->fetch = fetch_new();
    struct err *err = &asking->err;
    fetch->method = STR("GET");
    fetch->url = asking->url;
    fetch->repeatable = true;
    enum rc rc = fetch_add_header(fetch, STR("user-agent"), STR("capstan"), err);
    if (rc == RC_OK)
        rc = fetch_add_header(fetch, STR("accept"), STR("application/json, application/yaml, */*"),
                              err);
    if (rc == RC_OK)
        rc = fetch_prepare(fetch, asking->loop, STR_EMPTY, err);
    if (rc == RC_OK)
        fetch_send(fetch, on_fetched, asking);
    else
        asking_end(asking);
}

/* The definition with the document that was fetched. */
static yyjson_val *with_document(struct asking *asking, yyjson_val *definition)
{
    if (!asking->document.p)
        return definition;
    yyjson_mut_doc *doc = json_tree_new(&asking->arena);
    yyjson_mut_val *copy = yyjson_val_mut_copy(doc, definition);
    yyjson_mut_obj_remove_key(copy, "document");
    json_set_text(doc, copy, "document", asking->document);
    yyjson_doc *frozen = json_freeze(copy, &asking->arena);
    return frozen ? yyjson_doc_get_root(frozen) : NULL;
}

/* {"name", "definition", "document_url"}. On a worker. */
static void read_definition(struct work *work)
{
    struct asking *asking = CONTAINER_OF(work, struct asking, work);
    struct arena *arena = &asking->arena;
    struct tool *tool;
    yyjson_doc *doc;
    if (json_read(asking->body, arena, &doc, &asking->err) != RC_OK)
        return;
    yyjson_val *root = yyjson_doc_get_root(doc), *definition = yyjson_obj_get(root, "definition");
    struct str name = json_get_text(root, "name");
    if (!asking->document.p && json_get_text(root, "document_url").n) {
        asking->url = json_get_text(root, "document_url");
        return;
    }
    definition = with_document(asking, definition);
    if (!yyjson_is_obj(definition)) {
        err_set_field(&asking->err, ERR_MISSING_FIELD, "definition", "Give a tool's definition.");
        return;
    }
    if (tool_decode(name.n ? name : STR("tool"), definition, arena, &tool, &asking->err) != RC_OK)
        return;
    asking->tool = tool;
    if (tool->function_count)
        make_answer(asking, tool->functions, tool->function_count);
}

static void definition_read(struct work *work)
{
    struct asking *asking = CONTAINER_OF(work, struct asking, work);
    asking->working = false;
    if (!asking->request)
        asking_free(asking);
    else if (asking->err.code != ERR_NONE || asking->answer.n)
        asking_end(asking);
    else if (asking->url.n)
        fetch_document(asking);
    else
        list_functions(asking);
}

static void submit(struct asking *asking)
{
    asking->work = (struct work){.work = read_definition, .done = definition_read};
    asking->working = true;
    if (worker_submit(asking->workers, &asking->work) == RC_OK)
        return;
    asking->working = false;
    err_set(&asking->err, ERR_OVERLOADED, "Too much is under way: try again.");
    asking_end(asking);
}

static struct asking *asking_new(const struct api_call *call, struct http_request *request)
{
    struct asking *asking = xcalloc(1, sizeof(*asking));
    arena_init(&asking->arena, ASKING_BYTES_MAX);
    asking->request = request;
    asking->loop = own_loop(call, request);
    asking->workers = call->services->workers;
    asking->project = call->principal->project;
    request->user = asking;
    request->gone = asking_gone;
    return asking;
}

/* Of a definition that need not be stored: a preview of what it gives. */
void api_tools_preview(struct api_call *call, struct http_request *request)
{
    struct asking *asking = asking_new(call, request);
    asking->body = arena_copy(&asking->arena, request->body);
    if (request->body.n && asking->body.p) {
        submit(asking);
        return;
    }
    err_set_field(&asking->err, ERR_MISSING_FIELD, "definition", "Give a tool's definition.");
    asking_end(asking);
}

void api_tools_functions(struct api_call *call, struct http_request *request)
{
    struct asking *asking = asking_new(call, request);
    asking->tool = tool_find(asking->project, call->params[0], &asking->snapshot, &asking->err);
    if (asking->tool && !asking->tool->function_count) {
        list_functions(asking);
        return;
    }
    if (asking->tool)
        make_answer(asking, asking->tool->functions, asking->tool->function_count);
    asking_end(asking);
}

/* ---- one call ---- */

struct trial {
    struct arena arena;
    struct http_request *request; /* NULL: the client left */
    struct principal principal;
    struct run *run;
};

static void trial_free(struct trial *trial)
{
    arena_fini(&trial->arena);
    free(trial);
}

/* {"ok", "run", "text", "json", "status_code", "error"} */
static enum rc encode_trial(const struct run *run, struct buf *out)
{
    struct json_writer w = json_writer_to(out);
    const struct err *err = run_error(run);
    yyjson_val *result = yyjson_obj_get(run_outputs(run), "result");
    bool ok = run_status(run) == RUN_SUCCEEDED;
    char id[ID_TEXT_BYTES_MAX];
    size_t n = id_format(run_id(run), "run", id);
    json_begin_object(&w);
    json_put_bool(&w, "ok", ok);
    json_put_string(&w, "run", str_make(id, n));
    static const char *const members[] = {"text", "json", "status_code"};
    for (size_t i = 0; i < COUNT_OF(members); i++)
        if (yyjson_obj_get(result, members[i]))
            json_put_value(&w, members[i], yyjson_obj_get(result, members[i]));
    if (ok) {
        json_put_null(&w, "error");
    } else {
        json_key(&w, "error");
        json_begin_object(&w);
        json_put_text(&w, "code", err ? err_code_name(err->code) : "cancelled");
        json_put_text(&w, "message", err ? err->message : "the run was cancelled");
        json_end_object(&w);
    }
    json_end_object(&w);
    return w.rc;
}

static void on_trial_ended(void *arg, const struct run *run)
{
    struct trial *trial = arg;
    struct http_request *request = trial->request;
    struct buf out;
    if (request) {
        request->gone = NULL;
        request->user = NULL;
        buf_init(&out, TRIAL_BYTES_MAX);
        struct err err = {0};
        struct str text = encode_trial(run, &out) == RC_OK
                              ? arena_copy(request->arena, buf_str(&out))
                              : STR_EMPTY;
        buf_fini(&out);
        if (text.p) {
            http_respond(request, 200, STR("application/json"), text);
        } else {
            err_set(&err, ERR_TOO_LARGE, "The answer is too large to be shown.");
            api_respond_problem(request, &err);
        }
    }
    trial_free(trial);
}

static void trial_gone(struct http_request *request)
{
    struct trial *trial = request->user;
    run_forget_owner(trial->run);
    run_cancel(trial->run, "the client has left");
    trial_free(trial);
}

/* A pipeline of one tool node whose arguments are the members of the input of that name. */
static struct str trial_definition(struct str tool, struct str function, yyjson_val *arguments,
                                   struct arena *arena)
{
    struct buf text;
    size_t i, n;
    yyjson_val *key, *value;
    buf_init(&text, DEFINITION_BYTES);
    struct json_writer w = json_writer_to(&text);
    json_append(&w, STR("{\"schema\":1,\"nodes\":[{\"id\":\"start\",\"type\":\"start\",\"config\":"
                        "{\"inputs\":[{\"name\":\"arguments\",\"type\":\"object\"}]}},"
                        "{\"id\":\"end\",\"type\":\"end\",\"config\":{\"outputs\":[{\"name\":"
                        "\"result\",\"value\":\"call\"}]}},"
                        "{\"id\":\"call\",\"type\":\"tool\",\"config\":"));
    json_begin_object(&w);
    json_put_string(&w, "tool", tool);
    if (function.n)
        json_put_string(&w, "function", function);
    json_key(&w, "arguments");
    json_begin_array(&w);
    yyjson_obj_foreach(arguments, i, n, key, value)
    {
        struct str name = json_text(key);
        struct str quoted = json_write(key, arena); /* a literal of expressions, too */
        json_begin_object(&w);
        json_put_string(&w, "name", name);
        json_put_string(&w, "value", arena_printf(arena, "start.arguments[%.*s]", STR_ARG(quoted)));
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    json_append(&w,
                STR("}],\"edges\":[{\"from\":\"start\",\"to\":\"call\"},"
                    "{\"from\":\"call\",\"to\":\"end\"}],\"settings\":{\"journal\":\"exit\"}}"));
    struct str out = w.rc == RC_OK ? arena_copy(arena, buf_str(&text)) : STR_EMPTY;
    buf_fini(&text);
    return out;
}

static enum rc start_trial(struct trial *trial, const struct api_call *call, struct str name,
                           struct err *err)
{
    struct arena *arena = &trial->arena;
    struct str body = trial->request->body;
    struct plan *plan;
    yyjson_doc *doc, *inputs;
    enum rc rc = json_read(body.n ? body : STR("{}"), arena, &doc, err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *root = yyjson_doc_get_root(doc), *arguments = yyjson_obj_get(root, "arguments");
    if (arguments && !yyjson_is_obj(arguments))
        return err_set_field(err, ERR_BAD_FIELD, "arguments", "'arguments' must be an object.");
    struct str text = arguments ? json_write(arguments, arena) : STR("{}");
    struct str definition =
        trial_definition(name, json_get_text(root, "function"), arguments, arena);
    text = arena_printf(arena, "{\"arguments\":%.*s}", STR_ARG(text));
    if (!definition.p || !text.p)
        return err_set(err, ERR_TOO_LARGE, "The arguments are too large.");
    rc = json_read(text, arena, &inputs, err);
    if (rc == RC_OK)
        rc = plan_compile(definition, &plan, err);
    if (rc != RC_OK)
        return rc;
    const struct run_request request = {
        .plan = plan,
        .pipeline = arena_printf(arena, "tool/%.*s", STR_ARG(name)),
        .trigger = TRIAL_TRIGGER,
        .principal = &trial->principal,
        .key = launch_find_key(&trial->principal),
        .inputs = yyjson_doc_get_root(inputs),
        .budget_pico = COST_UNKNOWN,
        .owner = {.ended = on_trial_ended, .arg = trial},
    };
    trial->run = run_start(own_loop(call, trial->request), &request, err);
    plan_unref(plan);
    return trial->run ? RC_OK : err->rc;
}

/* {"function", "arguments"} */
void api_tools_test(struct api_call *call, struct http_request *request)
{
    struct snapshot *snapshot = NULL;
    struct err err = {0};
    const struct tool *tool = tool_find(call->principal->project, call->params[0], &snapshot, &err);
    if (!tool) {
        api_respond_problem(request, &err);
        return;
    }
    snapshot_unref(snapshot);
    struct trial *trial = xcalloc(1, sizeof(*trial));
    arena_init(&trial->arena, TRIAL_BYTES_MAX);
    trial->request = request;
    trial->principal = *call->principal;
    trial->principal.name = arena_copy(&trial->arena, call->principal->name);
    if (start_trial(trial, call, call->params[0], &err) != RC_OK) {
        trial_free(trial);
        api_respond_problem(request, &err);
        return;
    }
    request->user = trial;
    request->gone = trial_gone;
}
