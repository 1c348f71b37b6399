/* Vext's hook: POST /hook/{endpoint_id}/catch/{channel_token}, so that what was written for it
 * needs a new address and nothing else. The endpoint is a pipeline's name, the channel token the
 * session, `env` a label.
 *
 *   {"payload": "question", "env": "dev", "custom_variables": {"tone": "short"}}
 *   {"payload": "question", "long_polling": true}  → {"request_id": "run_…"}
 *   {"request_id": "run_…"}                        → {"text", "citation"}, or again request_id
 *
 * A request that asks again is held until the run has ended, for at most HOLD_NS. Errors are
 * {"detail": …}, as there. */
#include "api/handlers.h"
#include "base/clock.h"
#include "pipeline/engine/await.h"
#include "pipeline/engine/launch.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define HOLD_NS          (20 * NS_PER_S)
#define ANSWER_BYTES_MAX (16 * 1024 * 1024)

struct hook {
    struct http_request *request;
    struct launch *launch; /* while its plan is looked for */
    struct run *run;       /* that answers this request */
    struct await *await;
    struct id asked;
    struct str pipeline, session; /* in the request's arena */
    bool polling;
};

static void respond(struct http_request *request, int status, const struct buf *buf)
{
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    http_respond(request, status, STR("application/json"),
                 arena_copy(request->arena, buf_str(buf)));
}

static void respond_detail(struct http_request *request, int status, struct str detail)
{
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    json_begin_object(&w);
    json_put_string(&w, "detail", detail);
    json_end_object(&w);
    respond(request, status, &out);
    buf_fini(&out);
}

static void respond_err(struct http_request *request, const struct err *err)
{
    respond_detail(request, err_http_status(err->code), str_from(err->message));
}

/* The hook belongs to nobody any more, and its request is answered next. */
static struct http_request *take_request(struct hook *hook)
{
    struct http_request *request = hook->request;
    request->gone = NULL;
    request->user = NULL;
    free(hook);
    return request;
}

static void on_gone(struct http_request *request)
{
    struct hook *hook = request->user;
    if (hook->launch)
        launch_cancel(hook->launch);
    if (hook->await)
        await_cancel(hook->await);
    if (hook->run) {
        run_forget_owner(hook->run);
        run_cancel(hook->run, "the client has left");
    }
    free(hook);
}

/* ---- answers ---- */

static void respond_text(struct http_request *request, struct str text, yyjson_val *citations)
{
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    json_begin_object(&w);
    json_put_string(&w, "text", text);
    json_key(&w, "citation");
    if (citations)
        json_value(&w, citations);
    else
        json_raw(&w, STR("{}"));
    json_end_object(&w);
    if (w.rc == RC_OK)
        respond(request, 200, &out);
    else
        respond_detail(request, 500, STR("The answer is too large."));
    buf_fini(&out);
}

static void respond_request_id(struct http_request *request, struct id run)
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(run, "run", id);
    http_respond(request, 200, STR("application/json"),
                 arena_printf(request->arena,
                              "{\"request_id\":\"%s\",\"status\":\"processing\",\"text\":\"\"}",
                              id));
}

static void on_run_ended(void *arg, const struct run *run)
{
    struct hook *hook = arg;
    struct http_request *request = take_request(hook);
    if (run_error(run))
        respond_err(request, run_error(run));
    else
        respond_text(request, run_answer_text(run, request->arena), run_citations(run));
}

/* Durable: from here on it needs nobody. */
static void on_begun(void *arg, struct run *run)
{
    struct hook *hook = arg;
    if (!hook->polling)
        return;
    run_forget_owner(run);
    respond_request_id(take_request(hook), run_id(run));
}

static void on_launched(void *arg, struct run *run, const struct err *err)
{
    struct hook *hook = arg;
    hook->launch = NULL;
    hook->run = run;
    if (!run)
        respond_err(take_request(hook), err);
}

/* ---- asking again ---- */

static bool same_channel(const struct hook *hook, yyjson_val *run)
{
    return str_eq(json_get_text(run, "session"), hook->session) &&
           str_eq(json_get_text(run, "pipeline"), hook->pipeline);
}

static void on_awaited(void *arg, enum await_end end, struct str json)
{
    struct hook *hook = arg;
    struct http_request *request = hook->request;
    struct id asked = hook->asked;
    yyjson_doc *doc;
    yyjson_val *run = NULL;
    if (end == AWAIT_ENDED && json_read(json, request->arena, &doc, NULL) == RC_OK)
        run = yyjson_doc_get_root(doc);
    bool known = end == AWAIT_OPEN || (run && same_channel(hook, run));
    struct str error = json_get_text(yyjson_obj_get(run, "error"), "message");
    take_request(hook);
    if (!known)
        respond_detail(request, 404, STR("There is no such request in this channel."));
    else if (end == AWAIT_OPEN)
        respond_request_id(request, asked);
    else if (error.n)
        respond_detail(request, 502, error);
    else
        respond_text(request, run_json_answer(run, request->arena),
                     yyjson_obj_get(run, "citations"));
}

static void ask_again(struct api_call *call, struct hook *hook, const struct principal *principal,
                      struct str request_id)
{
    if (id_parse(request_id, "run", &hook->asked) != RC_OK) {
        respond_detail(take_request(hook), 404, STR("There is no such request in this channel."));
        return;
    }
    hook->await = await_run(call->services->pipelines, hook->request->loop, call->services->workers,
                            principal->project, hook->asked, HOLD_NS, 0, on_awaited, hook);
}

/* ---- the door ---- */

/* A payload that is no text is passed on as JSON. */
static struct str payload_text(yyjson_val *body, struct arena *arena)
{
    yyjson_val *payload = yyjson_obj_get(body, "payload");
    return yyjson_is_str(payload) || !payload ? json_text(payload) : json_write(payload, arena);
}

static void ask(struct api_call *call, struct hook *hook, const struct principal *principal,
                yyjson_val *body)
{
    struct pipeline_loop *loop =
        pipelines_loop(call->services->pipelines, loop_index(hook->request->loop));
    struct launch_request launch = {
        .pipeline = hook->pipeline,
        .selector = json_get_text(body, "env"),
        .trigger = "hook",
        .principal = principal,
        .session = hook->session,
        .query = payload_text(body, hook->request->arena),
        .inputs = yyjson_obj_get(body, "custom_variables"),
        .recorded = hook->polling,
        .owner = {.begun = on_begun, .ended = on_run_ended, .arg = hook},
    };
    trace_context_read(http_header_get(&hook->request->headers, STR("traceparent")), &launch.trace);
    struct launch *under_way = launch_start(loop, &launch, on_launched, hook);
    if (under_way)
        hook->launch = under_way;
}

void door_hook(struct api_call *call, struct http_request *request)
{
    struct principal principal;
    struct key *key;
    struct err err = {0};
    yyjson_doc *doc;
    enum rc rc = api_authenticate(request, snapshot_current(), &principal, &key, &err);
    if (rc == RC_OK)
        rc = principal_require(&principal, PERMISSION_PIPELINE_RUN, &err);
    if (rc == RC_OK)
        rc = json_read(request->body, request->arena, &doc, &err);
    if (rc != RC_OK) {
        respond_err(request, &err);
        return;
    }
    yyjson_val *body = yyjson_doc_get_root(doc);
    struct str request_id = json_get_text(body, "request_id");
    if (!request_id.n && !yyjson_obj_get(body, "payload")) {
        respond_detail(request, 400, STR("payload: this field is required."));
        return;
    }
    struct hook *hook = xcalloc(1, sizeof(*hook));
    hook->request = request;
    hook->pipeline = call->params[0];
    hook->session = call->params[1];
    hook->polling = json_get_bool(body, "long_polling", false);
    request->user = hook;
    request->gone = on_gone;
    if (request_id.n)
        ask_again(call, hook, &principal, request_id);
    else
        ask(call, hook, &principal, body);
}
