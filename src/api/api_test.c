/* Trying out: a provider is asked for its models, a route (or one model of a provider) answers one
 * short call. Both run on the request's loop and end with the client that asked. */
#include "api/handlers.h"
#include "api/problem.h"
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/gateway.h"
#include "gateway/provider_table.h"
#include "http/client.h"
#include "text/json_tree.h"

#define TRIAL_BODY_BYTES_MAX (4 * 1024 * 1024)
#define TRIAL_TIMEOUT_NS     (20 * NS_PER_S)
#define TRIAL_MODELS_MAX     2000

struct trial {
    struct http_request *request;
    struct http_exchange *exchange; /* asking for models */
    struct call *call;              /* a call */
    struct scope scope;
    struct principal principal;
    struct snapshot *snapshot; /* held: the provider lives in it */
    struct buf body;
    int64_t began_ns;
    int status;
    bool cut; /* more came than is kept */
};

/* ---- the answer ---- */

static void trial_end(struct trial *trial)
{
    trial->request->gone = NULL;
    trial->request->user = NULL;
    buf_fini(&trial->body);
    snapshot_unref(trial->snapshot);
}

static void trial_answer(struct trial *trial, yyjson_mut_val *root)
{
    struct http_request *request = trial->request;
    struct err err = {0};
    struct str text;

    enum rc rc = json_write_tree(root, request->arena, &text, &err);
    trial_end(trial);
    if (rc != RC_OK)
        api_respond_problem(request, &err);
    else
        http_respond(request, 200, STR("application/json"), text);
}

static yyjson_mut_val *trial_result(struct trial *trial, yyjson_mut_doc *doc, const struct err *err)
{
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    double ms = (double)(loop_now_ns(trial->request->loop) - trial->began_ns) / NS_PER_MS;

    yyjson_mut_obj_add_bool(doc, root, "ok", err == NULL);
    yyjson_mut_obj_add_real(doc, root, "latency_ms", (double)(int64_t)(ms * 1000) / 1000);
    yyjson_mut_val *problem = err ? yyjson_mut_obj_add_obj(doc, root, "error") : NULL;
    if (err) {
        yyjson_mut_obj_add_strcpy(doc, problem, "code", err_code_name(err->code));
        yyjson_mut_obj_add_strcpy(doc, problem, "message", err->message);
    } else {
        yyjson_mut_obj_add_null(doc, root, "error");
    }
    return root;
}

static void trial_gone(struct http_request *request)
{
    struct trial *trial = request->user;

    if (trial->exchange)
        http_exchange_cancel(trial->exchange);
    if (trial->call)
        gateway_call_cancel(trial->call);
    trial_end(trial);
}

/* NULL: answered already. */
static struct trial *trial_new(struct api_call *call, struct http_request *request)
{
    struct trial *trial = ARENA_NEW(request->arena, struct trial);
    struct err err = {0};

    if (!trial) {
        err_set(&err, ERR_OVERLOADED, "no memory for this request");
        api_respond_problem(request, &err);
        return NULL;
    }
    trial->request = request;
    trial->principal = *call->principal;
    trial->snapshot = snapshot_ref(snapshot_current());
    trial->began_ns = loop_now_ns(request->loop);
    buf_init(&trial->body, TRIAL_BODY_BYTES_MAX);
    request->user = trial;
    request->gone = trial_gone;
    return trial;
}

static void trial_fail(struct trial *trial, const struct err *err)
{
    struct http_request *request = trial->request;

    trial_end(trial);
    api_respond_problem(request, err);
}

/* ---- asking for models ---- */

/* Names in OpenAI's and Anthropic's form: {"data": [{"id": …}]}. */
static void put_models(yyjson_mut_doc *doc, yyjson_mut_val *root, yyjson_val *list)
{
    yyjson_mut_val *models = yyjson_mut_obj_add_arr(doc, root, "models");
    size_t i, n;
    yyjson_val *model;

    yyjson_arr_foreach(list, i, n, model)
    {
        struct str id = json_get_text(model, "id");
        if (id.n && i < TRIAL_MODELS_MAX)
            yyjson_mut_arr_add_strncpy(doc, models, id.p, id.n);
    }
}

static void models_answer(struct trial *trial, const struct err *failure)
{
    struct arena *arena = trial->request->arena;
    yyjson_mut_doc *doc = json_tree_new(arena);
    struct err err = {0};
    yyjson_doc *parsed = NULL;

    if (!failure && trial->status / 100 != 2) {
        wire_read_error(WIRE_OPENAI_CHAT, trial->status, buf_str(&trial->body), &err);
        failure = &err;
    } else if (!failure && trial->cut) {
        err_set(&err, ERR_UPSTREAM_PROTOCOL, "the list of models is larger than %d MiB",
                TRIAL_BODY_BYTES_MAX >> 20);
        failure = &err;
    } else if (!failure && json_read(buf_str(&trial->body), arena, &parsed, NULL) != RC_OK) {
        err_set(&err, ERR_UPSTREAM_PROTOCOL, "the list of models is not JSON: is base_url right?");
        failure = &err;
    }
    yyjson_mut_val *root = trial_result(trial, doc, failure);
    put_models(doc, root, failure ? NULL : yyjson_obj_get(yyjson_doc_get_root(parsed), "data"));
    trial_answer(trial, root);
}

static void models_head(void *owner, int status, const struct http_headers *headers)
{
    struct trial *trial = owner;

    UNUSED(headers);
    trial->status = status;
}

static enum proceed models_data(void *owner, struct str data)
{
    struct trial *trial = owner;

    if (buf_append(&trial->body, data) != RC_OK)
        trial->cut = true;
    return PROCEED;
}

static void models_done(void *owner, const struct err *err,
                        const struct http_exchange_timing *timing)
{
    struct trial *trial = owner;

    UNUSED(timing);
    trial->exchange = NULL;
    models_answer(trial, err);
}

static const struct http_exchange_owner models_calls = {models_head, models_data, models_done};

/* The provider's own way of showing its key, and the headers of its configuration. */
static enum rc provider_headers(const struct provider *provider, struct arena *arena,
                                struct http_headers *out)
{
    struct str secret = provider->key_count ? provider->keys[0].secret : STR_EMPTY;
    enum rc rc = RC_OK;

    if (secret.n && provider->row->auth == PROVIDER_AUTH_BEARER)
        rc = http_header_add(out, arena, STR("authorization"),
                             arena_concat(arena, STR("Bearer "), secret));
    else if (secret.n && provider->row->auth == PROVIDER_AUTH_API_KEY)
        rc = http_header_add(out, arena, STR("api-key"), secret);
    else if (secret.n && provider->row->auth == PROVIDER_AUTH_X_API_KEY)
        rc = http_header_add(out, arena, STR("x-api-key"), secret);
    if (rc == RC_OK && (provider->row->formats & (1u << WIRE_ANTHROPIC)) &&
        !(provider->row->formats & (1u << WIRE_OPENAI_CHAT)))
        rc = http_header_add(out, arena, STR("anthropic-version"), STR("2023-06-01"));
    for (size_t i = 0; rc == RC_OK && i < provider->header_count; i++)
        rc = http_header_add(out, arena, provider->headers[i].name, provider->headers[i].value);
    return rc;
}

static enum rc models_ask(struct trial *trial, struct api_call *call,
                          const struct provider *provider, struct err *err)
{
    struct arena *arena = trial->request->arena;
    struct http_origin_options options = {.url = provider->base_url,
                                          .ca_file = provider->ca_file,
                                          .proxy = provider->proxy,
                                          .http2 = provider->http2,
                                          .public_only = provider->public_only};
    struct http_headers headers = {0};
    struct url url;
    struct http_origin *origin = http_client_origin(call->client, &options, err);

    if (!origin)
        return err->rc;
    enum rc rc = url_parse(provider->base_url, &url, err);
    if (rc != RC_OK)
        return rc;
    struct str base = str_eq(url.path, STR("/")) ? STR("") : url.path;
    struct str path =
        arena_printf(arena, "%.*s%.*s/models", STR_ARG(base), STR_ARG(provider->row->path_prefix));
    if (!path.p || provider_headers(provider, arena, &headers) != RC_OK)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    struct http_exchange_request request = {
        .method = STR("GET"),
        .path = path,
        .headers = headers.items,
        .header_count = headers.count,
        .connect_timeout_ns = TRIAL_TIMEOUT_NS,
        .head_timeout_ns = TRIAL_TIMEOUT_NS,
        .idle_timeout_ns = TRIAL_TIMEOUT_NS,
        .retry_stale = true,
    };
    trial->exchange = http_exchange_start(origin, &request, &models_calls, trial);
    return RC_OK;
}

/* The engine of this machine has the models that were pulled or added. */
static void engine_answer(struct trial *trial, const struct project *project)
{
    yyjson_mut_doc *doc = json_tree_new(trial->request->arena);
    yyjson_mut_val *root = trial_result(trial, doc, NULL);
    yyjson_mut_val *models = yyjson_mut_obj_add_arr(doc, root, "models");

    MAP_FOR_EACH (slot, &project->local_models) {
        yyjson_mut_arr_append(models, json_new_text(doc, slot->key));
    }
    trial_answer(trial, root);
}

/* ---- one short call ---- */

static void call_head(void *arg, const struct call_head *head)
{
    UNUSED(arg);
    UNUSED(head);
}

static enum proceed call_data(void *arg, struct str bytes) { return models_data(arg, bytes); }

static void call_done(void *arg, const struct call_record *record, const struct err *err)
{
    struct trial *trial = arg;
    struct arena *arena = trial->request->arena;
    yyjson_mut_doc *doc = json_tree_new(arena);
    char id[ID_TEXT_BYTES_MAX];

    trial->call = NULL;
    yyjson_mut_val *root = trial_result(trial, doc, err);
    json_set_text(doc, root, "provider", record->provider);
    json_set_text(doc, root, "model", record->model);
    size_t n = id_format(record->id, "call", id);
    yyjson_mut_obj_add_strncpy(doc, root, "call_id", id, n);
    trial_answer(trial, root);
}

static const struct call_sink call_calls = {call_head, call_data, call_done};

static enum rc call_ask(struct trial *trial, struct api_call *call, struct str model,
                        struct err *err)
{
    struct arena *arena = trial->request->arena;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    struct call_request *request = ARENA_NEW(arena, struct call_request);
    struct str body;

    json_set_text(doc, root, "model", model);
    yyjson_mut_val *messages = yyjson_mut_obj_add_arr(doc, root, "messages");
    yyjson_mut_val *message = yyjson_mut_arr_add_obj(doc, messages);
    yyjson_mut_obj_add_str(doc, message, "role", "user");
    yyjson_mut_obj_add_str(doc, message, "content", "Say OK.");
    yyjson_mut_obj_add_int(doc, root, "max_tokens", 16);
    enum rc rc = json_write_tree(root, arena, &body, err);
    if (rc != RC_OK || !request)
        return rc != RC_OK ? rc : err_set(err, ERR_OVERLOADED, "no memory for this request");
    trial->scope = (struct scope){.principal = &trial->principal,
                                  .deadline_ns = trial->began_ns + 3 * TRIAL_TIMEOUT_NS,
                                  .budget_pico = COST_UNKNOWN,
                                  .arena = arena};
    trace_context_read(STR_EMPTY, &trial->scope.trace);
    *request = (struct call_request){.door = DOOR_INTERNAL,
                                     .operation = OPERATION_CHAT,
                                     .format = WIRE_OPENAI_CHAT,
                                     .request_id = trial->request->id,
                                     .content_type = STR("application/json"),
                                     .body = body,
                                     .client_ip = trial->request->peer,
                                     .started_ns = trial->request->started_ns,
                                     .received_ns = trial->request->received_ns};
    trial->call = gateway_call_start(call->gateway, &trial->scope, request, &call_calls, trial);
    return trial->call ? RC_OK : err_set(err, ERR_OVERLOADED, "no memory for this request");
}

/* ---- the handlers ---- */

/* `model` of the body, or empty. */
static struct str body_model(struct api_call *call)
{
    yyjson_doc *doc;

    if (call->raw_body.n == 0 || json_read(call->raw_body, call->arena, &doc, NULL) != RC_OK)
        return STR_EMPTY;
    return json_get_text(yyjson_doc_get_root(doc), "model");
}

void api_providers_test(struct api_call *call, struct http_request *request)
{
    struct trial *trial = trial_new(call, request);
    struct err err = {0};

    if (!trial)
        return;
    struct project *project = snapshot_project(trial->snapshot, call->principal->project);
    const struct provider *provider =
        project ? map_get(&project->providers, call->params[0]) : NULL;
    struct str model = body_model(call);
    if (!provider)
        err_set(&err, ERR_NOT_FOUND, "There is no provider '%.*s' in force.",
                STR_ARG(call->params[0]));
    else if (model.n)
        call_ask(trial, call,
                 arena_printf(call->arena, "%.*s/%.*s", STR_ARG(provider->name), STR_ARG(model)),
                 &err);
    else if (!provider->base_url.n)
        engine_answer(trial, project);
    else
        models_ask(trial, call, provider, &err);
    if (err.code != ERR_NONE)
        trial_fail(trial, &err);
}

void api_routes_test(struct api_call *call, struct http_request *request)
{
    struct trial *trial = trial_new(call, request);
    struct err err = {0};

    if (!trial)
        return;
    struct project *project = snapshot_project(trial->snapshot, call->principal->project);
    if (!project || !map_get(&project->routes, call->params[0]))
        err_set(&err, ERR_NOT_FOUND, "There is no route '%.*s' in force.",
                STR_ARG(call->params[0]));
    else
        call_ask(trial, call, call->params[0], &err);
    if (err.code != ERR_NONE)
        trial_fail(trial, &err);
}
