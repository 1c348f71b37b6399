/* See tool_call.h. */
#include "pipeline/tools/tool_call.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/snapshot.h"
#include "knowledge/source_url.h"
#include "pipeline/tools/connector.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/tools/mcp_client.h"
#include "pipeline/tools/mcp_message.h"
#include "pipeline/tools/page_text.h"
#include "text/json_schema.h"
#include "text/json_tree.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define CALL_ARENA_BYTES_MAX (64 * 1024 * 1024)
#define ERROR_BODY_BYTES_MAX 300
#define URL_BYTES_MAX        8192
#define REDIRECTS_MAX        5

struct tool_call {
    struct step *step; /* NULL: nobody wants it any more; a plan is still being looked for */
    struct arena arena;
    const struct tool *tool;
    const struct tool_function *function;
    struct snapshot *snapshot;
    struct str name;
    yyjson_val *arguments;
    bool safe;
    struct fetch *fetch; /* http, openapi */
    int redirects;
    struct mcp_request *mcp;
    struct flow *flow; /* pipeline, while it runs */
    struct timer timer;
};

static void call_free(struct tool_call *call)
{
    timer_stop(&call->timer);
    fetch_free(call->fetch);
    if (call->mcp)
        mcp_cancel(call->mcp);
    if (call->snapshot)
        snapshot_unref(call->snapshot);
    arena_fini(&call->arena);
    free(call);
}

/* Ends the step and the call. `out` NULL: err tells. */
static void call_end(struct tool_call *call, struct value *out, const struct err *err)
{
    struct step *step = call->step;
    struct err copy = err ? *err : (struct err){0};
    step->work = NULL;
    call_free(call);
    if (copy.code != ERR_NONE)
        step_failed(step, &copy);
    else
        step_done(step, out, STR("out"));
}

static void call_fail(struct tool_call *call, enum err_code code, const char *words)
{
    struct err err = {0};
    err_set(&err, code, "%s", words);
    call_end(call, NULL, &err);
}

static void on_timer(struct timer *timer)
{
    struct tool_call *call = CONTAINER_OF(timer, struct tool_call, timer);
    struct run *run = call->step->run;
    struct step *step = call->step;
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "the tool took longer than %lld ms",
            (long long)call->tool->timeout_ms);
    tool_call_cancel(step);
    journal_forget_step(step); /* an intent may be on its way */
    step_failed(step, &err);
    if (!run->finishing)
        run_pump(run);
}

/* {"text", "json"} and, for a service's answer, "status_code". */
static struct value *make_result(struct tool_call *call, struct str text, yyjson_val *json,
                                 int status)
{
    struct maker maker;
    maker_init(&maker, &call->arena);
    maker_object(&maker);
    maker_key(&maker, STR("text"));
    maker_text(&maker, text);
    maker_key(&maker, STR("json"));
    maker_tree(&maker, json);
    if (status) {
        maker_key(&maker, STR("status_code"));
        maker_int(&maker, status);
    }
    maker_end(&maker);
    return maker_pack(&maker);
}

/* ---- http and openapi ---- */

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request is too large");
}

static enum tool_place place_of(const struct tool_function *function, struct str name)
{
    bool in_query = str_eq(function->method, STR("GET")) || str_eq(function->method, STR("HEAD")) ||
                    str_eq(function->method, STR("DELETE"));
    for (size_t i = 0; i < function->placed_count; i++)
        if (str_eq(function->parameters_placed[i].name, name))
            return function->parameters_placed[i].place;
    ssize_t at = -1;
    struct str url = function->url;
    while ((at = str_find(url, name)) >= 0) {
        size_t end = (size_t)at + name.n;
        if (at > 0 && url.p[at - 1] == '{' && end < url.n && url.p[end] == '}')
            return TOOL_IN_URL;
        url = str_slice(url, (size_t)at + 1, url.n);
    }
    return in_query ? TOOL_IN_QUERY : TOOL_IN_BODY;
}

/* A value as it stands in an address or a header. */
static struct str plain(struct tool_call *call, yyjson_val *value)
{
    return yyjson_is_str(value) ? json_text(value) : json_write(value, &call->arena);
}

/* {name} replaced. One that begins the address is an address itself and stays as it is. */
static enum rc make_url(struct tool_call *call, struct str *out, struct err *err)
{
    struct str rest = call->function->url;
    struct buf url;
    enum rc rc = RC_OK;
    buf_init(&url, 64 * 1024);
    for (bool first = true; rc == RC_OK && rest.n; first = false) {
        ssize_t open = str_find_char(rest, '{'), close = str_find_char(rest, '}');
        if (open < 0 || close < open) {
            rc = buf_append(&url, rest);
            break;
        }
        struct str name = str_slice(rest, (size_t)open + 1, (size_t)close);
        yyjson_val *value = yyjson_obj_getn(call->arguments, name.p, name.n);
        if (!value) {
            err_set(err, ERR_BAD_FIELD, "the argument '%.*s' is missing", STR_ARG(name));
            break;
        }
        struct str text = plain(call, value);
        if (!first || open > 0)
            text = http_percent_encode(text, &call->arena);
        rc = text.p ? buf_append(&url, str_slice(rest, 0, (size_t)open)) : RC_LIMIT;
        if (rc == RC_OK)
            rc = buf_append(&url, text);
        rest = str_slice(rest, (size_t)close + 1, rest.n);
    }
    *out = arena_copy(&call->fetch->arena, buf_str(&url));
    buf_fini(&url);
    if (err->code != ERR_NONE)
        return err->rc;
    return rc == RC_OK && out->p ? RC_OK : no_memory(err);
}

static enum rc add_query(struct tool_call *call, struct buf *query, struct str name,
                         yyjson_val *value)
{
    struct str text = http_percent_encode(plain(call, value), &call->arena);
    name = http_percent_encode(name, &call->arena);
    if (!text.p || !name.p)
        return RC_LIMIT;
    return buf_printf(query, "%s%.*s=%.*s", buf_len(query) ? "&" : "", STR_ARG(name),
                      STR_ARG(text));
}

/* The body's arguments as JSON, or as a form. */
struct body_writer {
    struct tool_call *call;
    struct buf *out;
    struct json_writer json;
    bool any;
};

static enum rc put_in_body(struct body_writer *body, struct str name, yyjson_val *value)
{
    const struct tool_function *function = body->call->function;
    size_t i, n;
    yyjson_val *item;
    enum rc rc = RC_OK;
    body->any = true;
    if (!function->form) {
        if (!function->body_is_argument)
            json_key_str(&body->json, name);
        json_value(&body->json, value);
        return body->json.rc;
    }
    if (!yyjson_is_arr(value))
        return add_query(body->call, body->out, name, value);
    yyjson_arr_foreach(value, i, n, item) if (rc == RC_OK) rc =
        add_query(body->call, body->out, name, item);
    return rc;
}

/* Query, headers and body from the arguments. */
static enum rc place_arguments(struct tool_call *call, struct buf *query, struct buf *body,
                               struct err *err)
{
    const struct tool_function *function = call->function;
    struct body_writer writer = {call, body, json_writer_to(body), false};
    bool object = !function->form && !function->body_is_argument;
    size_t i, n, k, m;
    yyjson_val *key, *value, *item;
    enum rc rc = RC_OK;
    if (object)
        json_begin_object(&writer.json);
    yyjson_obj_foreach(call->arguments, i, n, key, value)
    {
        struct str name = json_text(key);
        enum tool_place place = place_of(function, name);
        if (place == TOOL_IN_HEADER && rc == RC_OK)
            rc = fetch_add_header(call->fetch, name, plain(call, value), err);
        if (place == TOOL_IN_BODY && rc == RC_OK)
            rc = put_in_body(&writer, name, value);
        if (place != TOOL_IN_QUERY || rc != RC_OK)
            continue;
        if (!yyjson_is_arr(value))
            rc = add_query(call, query, name, value);
        yyjson_arr_foreach(value, k, m, item) if (rc == RC_OK) rc =
            add_query(call, query, name, item);
    }
    if (object)
        json_end_object(&writer.json);
    if (!writer.any)
        buf_clear(body);
    if (rc == RC_OK)
        rc = writer.json.rc;
    return rc == RC_OK || err->code != ERR_NONE ? rc : no_memory(err);
}

static enum rc make_headers(struct tool_call *call, bool body, struct err *err)
{
    const struct tool *tool = call->tool;
    struct fetch *fetch = call->fetch;
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < tool->header_count; i++)
        rc = fetch_add_header(fetch, tool->headers[i].name, tool->headers[i].value, err);
    if (rc == RC_OK && body && !http_header_get(&fetch->headers, STR("content-type")).p)
        rc = fetch_add_header(fetch, STR("content-type"),
                              call->function->form ? STR("application/x-www-form-urlencoded")
                                                   : STR("application/json"),
                              err);
    if (rc == RC_OK && !http_header_get(&fetch->headers, STR("user-agent")).p)
        rc = fetch_add_header(fetch, STR("user-agent"), STR("capstan"), err);
    if (rc == RC_OK && tool->idempotency_key && !call->function->safe)
        rc = fetch_add_header(fetch, STR("idempotency-key"),
                              step_idempotency_key(call->step, &fetch->arena), err);
    return rc;
}

static enum rc make_request(struct tool_call *call, struct err *err)
{
    struct fetch *fetch = call->fetch = fetch_new();
    struct buf query, body;
    buf_init(&query, 256 * 1024);
    buf_init(&body, FETCH_BODY_BYTES_MAX);
    fetch->method = call->function->method;
    fetch->repeatable = call->function->safe || call->tool->idempotency_key;
    enum rc rc = make_url(call, &fetch->url, err);
    if (rc == RC_OK)
        rc = place_arguments(call, &query, &body, err);
    if (rc == RC_OK)
        rc = fetch_prepare(fetch, call->step->run->loop, arena_copy(&fetch->arena, buf_str(&query)),
                           err);
    if (rc == RC_OK)
        rc = make_headers(call, buf_len(&body) > 0, err);
    if (rc == RC_OK && !(fetch->body = arena_copy(&fetch->arena, buf_str(&body))).p)
        rc = no_memory(err);
    buf_fini(&query);
    buf_fini(&body);
    return rc;
}

static bool is_redirect(const struct fetch *fetch)
{
    return fetch->status == 301 || fetch->status == 302 || fetch->status == 303 ||
           fetch->status == 307 || fetch->status == 308;
}

static void http_done(void *arg, struct fetch *fetch, const struct err *failure);

/* What may be repeated may be asked elsewhere: a new request with all checks of the connector. The
 * tool's headers (credentials among them) go to the origin they are meant for only. */
static enum rc follow(struct tool_call *call, struct str location, struct err *err)
{
    struct fetch *old = call->fetch, *fetch = fetch_new();
    struct str url = STR_EMPTY;
    fetch->method = old->method;
    fetch->repeatable = true;
    enum rc rc =
        source_url_resolve(old->url, location, URL_BYTES_MAX, &fetch->arena, &fetch->url) == RC_OK
            ? RC_OK
            : err_set(err, ERR_UPSTREAM_PROTOCOL, "the service redirects to no address");
    if (rc == RC_OK && (url = source_url_origin(fetch->url)).n &&
        str_eq_nocase(url, source_url_origin(old->url)))
        for (size_t i = 0; rc == RC_OK && i < old->headers.count; i++)
            rc = fetch_add_header(fetch, old->headers.items[i].name, old->headers.items[i].value,
                                  err);
    else if (rc == RC_OK)
        rc = fetch_add_header(fetch, STR("user-agent"), STR("capstan"), err);
    if (rc == RC_OK)
        rc = fetch_prepare(fetch, call->step->run->loop, STR_EMPTY, err);
    if (rc != RC_OK) {
        fetch_free(fetch);
        return rc;
    }
    call->fetch = fetch;
    fetch_send(fetch, http_done, call);
    fetch_free(old);
    return RC_OK;
}

/* Pages of before UTF-8 are read as Latin-1: no byte is wrong in it, and most of them are. */
static struct str valid_text(struct str text, struct arena *arena)
{
    if (utf8_valid(text))
        return text;
    char *out = arena_alloc(arena, 2 * text.n + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < text.n; i++)
        n += utf8_encode((unsigned char)text.p[i], out + n);
    return out ? str_make(out, n) : STR_EMPTY;
}

static void http_done(void *arg, struct fetch *fetch, const struct err *failure)
{
    struct tool_call *call = arg;
    struct err err = {0};
    struct value *out = NULL;
    struct str location = http_header_get(&fetch->answered, STR("location"));
    yyjson_doc *doc;
    if (!failure && is_redirect(fetch) && location.n && call->function->safe &&
        call->redirects++ < REDIRECTS_MAX && follow(call, location, &err) == RC_OK)
        return;
    struct str text = valid_text(buf_str(&fetch->received), &call->arena);
    if (failure) {
        err = *failure;
    } else if (err.code != ERR_NONE) {
        err_prefix(&err, "redirected: ");
    } else if (fetch->status >= 300 && fetch->status < 400) {
        err_set(&err, ERR_UPSTREAM, "the service answered with status %d, elsewhere",
                fetch->status);
    } else if (fetch->status >= 400) {
        err_set(&err, ERR_UPSTREAM, "the service answered with status %d: %.*s", fetch->status,
                (int)MIN(text.n, (size_t)ERROR_BODY_BYTES_MAX), text.p);
    } else if (call->tool->result == TOOL_RESULT_PAGE_TEXT) {
        text =
            page_text(text, http_header_get(&fetch->answered, STR("content-type")), &call->arena);
        out = make_result(call, text, NULL, fetch->status);
    } else {
        bool json = json_read(text, &call->arena, &doc, NULL) == RC_OK;
        out = make_result(call, text, json ? yyjson_doc_get_root(doc) : NULL, fetch->status);
    }
    call_end(call, out, err.code != ERR_NONE ? &err : NULL);
}

static void http_send(struct step *step)
{
    struct tool_call *call = step->work;
    fetch_send(call->fetch, http_done, call);
}

/* The model's arguments with those over them that are not its to choose. */
static yyjson_val *with_fixed(struct tool_call *call)
{
    if (!call->tool->fixed)
        return call->arguments;
    yyjson_mut_doc *doc = json_tree_new(&call->arena);
    yyjson_mut_val *merged = yyjson_merge_patch(doc, call->arguments, call->tool->fixed);
    yyjson_doc *frozen = json_freeze(merged, &call->arena);
    return frozen ? yyjson_doc_get_root(frozen) : NULL;
}

static void start_http(struct tool_call *call)
{
    struct err err = {0};
    call->arguments = with_fixed(call);
    if (!call->arguments || make_request(call, &err) != RC_OK) {
        if (err.code == ERR_NONE)
            (void)!no_memory(&err);
        call_end(call, NULL, &err);
        return;
    }
    if (call->function->safe)
        http_send(call->step);
    else
        journal_intent(call->step, http_send);
}

/* ---- pipeline ---- */

static void begin_pipeline(struct tool_call *call, struct plan *plan, int64_t version)
{
    struct step *step = call->step;
    struct run *run = step->run;
    struct err err = {0};
    struct value *start = flow_read_inputs(plan, call->arguments, STR_EMPTY, &call->arena, &err);
    if (!start) {
        call_end(call, NULL, &err);
        return;
    }
    call->flow = flow_new(plan);
    call->flow->sys =
        flow_inner_sys(step->frame->flow, call->tool->pipeline, version, &call->arena);
    frame_begin(step, call->flow, 0, 0, start, NULL);
    value_unref(start);
    run_pump(run);
}

static void on_plan_found(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct tool_call *call = arg;
    if (!call->step)
        call_free(call);
    else if (err)
        call_end(call, NULL, err);
    else
        begin_pipeline(call, plan, version);
    plan_unref(plan);
}

static void start_pipeline(struct tool_call *call)
{
    struct run *run = call->step->run;
    if (frame_flow_depth(call->step->frame) >= FLOW_DEPTH_MAX) {
        call_fail(call, ERR_INVALID, "pipelines and agents call each other too deep");
        return;
    }
    if (call->tool->kind == TOOL_RETRIEVAL) {
        struct plan *plan;
        struct err err = {0};
        if (plan_compile(call->tool->definition, &plan, &err) != RC_OK) {
            call_end(call, NULL, &err);
            return;
        }
        begin_pipeline(call, plan, 0);
        plan_unref(plan);
        return;
    }
    plan_find(run->loop, run->principal.project, call->tool->pipeline, call->tool->selector,
              str_hash(run->session), on_plan_found, call);
}

void tool_call_frame_ended(struct step *step, struct frame *frame, const struct err *err)
{
    struct tool_call *call = step->work;
    struct value *out = NULL;
    struct err problem = {0};
    if (err) {
        problem = *err;
    } else {
        yyjson_val *outputs = value_json(call->flow->outputs);
        struct str text = buf_str(&call->flow->text);
        if (!text.n && outputs)
            text = json_write(outputs, &call->arena);
        out = make_result(call, text, outputs, 0);
    }
    frame->dead_flow = call->flow; /* the frame still names it */
    call->flow = NULL;
    call_end(call, out, err ? &problem : NULL);
}

/* ---- mcp ---- */

static void on_mcp_answered(void *arg, yyjson_val *result, const struct err *failure)
{
    struct tool_call *call = arg;
    struct run *run = call->step->run;
    struct err err = {0};
    struct value *out = NULL;
    struct str text;
    yyjson_val *json;
    bool is_error;
    call->mcp = NULL;
    if (failure)
        err = *failure;
    else if (mcp_read_result(result, &call->arena, &text, &json, &is_error, &err) == RC_OK &&
             is_error)
        err_set(&err, ERR_UPSTREAM, "%.*s", STR_ARG(text));
    if (err.code == ERR_NONE)
        out = make_result(call, text, json, 0);
    call_end(call, out, err.code != ERR_NONE ? &err : NULL);
    if (!run->finishing)
        run_pump(run);
}

static void mcp_send(struct step *step)
{
    struct tool_call *call = step->work;
    struct buf params;
    buf_init(&params, FETCH_BODY_BYTES_MAX);
    struct json_writer w = json_writer_to(&params);
    json_begin_object(&w);
    json_put_string(&w, "name", call->name);
    json_put_value(&w, "arguments", call->arguments);
    json_end_object(&w);
    struct err err = {0};
    call->mcp = mcp_ask(step->run->loop, step->run->principal.project, call->tool, "tools/call",
                        buf_str(&params), on_mcp_answered, call, &err);
    buf_fini(&params);
    if (!call->mcp)
        call_end(call, NULL, &err);
}

/* ---- starting and ending ---- */

/* Pipelines have a journal of their own nodes. */
static bool is_flow(const struct tool *tool)
{
    return tool->kind == TOOL_PIPELINE || tool->kind == TOOL_RETRIEVAL;
}

static bool may_repeat(const struct tool_call *call)
{
    return is_flow(call->tool) || call->tool->idempotency_key || call->safe ||
           (call->function && call->function->safe);
}

static bool check_arguments(struct tool_call *call)
{
    struct json_schema_problem problem = {0};
    struct err err = {0};
    if (!yyjson_is_obj(call->arguments))
        err_set(&err, ERR_BAD_FIELD, "the arguments must be a JSON object");
    else if (call->tool->kind == TOOL_MCP && !call->name.n)
        err_set(&err, ERR_MISSING_FIELD, "choose one of the server's functions");
    else if (call->function && call->function->schema &&
             json_schema_check(call->function->schema, call->arguments, &problem) != RC_OK)
        err_set(&err, ERR_BAD_FIELD, "the arguments do not fit: %s %s", problem.path,
                problem.message);
    if (err.code == ERR_NONE)
        return true;
    call_end(call, NULL, &err);
    return false;
}

static struct tool_call *call_new(struct step *step, const struct tool_call_options *options)
{
    struct tool_call *call = step->work = xcalloc(1, sizeof(*call));
    arena_init(&call->arena, CALL_ARENA_BYTES_MAX);
    timer_init(&call->timer, on_timer);
    call->step = step;
    call->tool = options->tool;
    call->function = options->function;
    call->snapshot = options->snapshot ? snapshot_ref(options->snapshot) : NULL;
    call->safe = options->safe;
    call->name = arena_copy(&call->arena, options->name);
    struct str text = options->arguments ? json_write(options->arguments, &call->arena) : STR("{}");
    yyjson_doc *doc;
    if (text.p && json_read(text, &call->arena, &doc, NULL) == RC_OK)
        call->arguments = yyjson_doc_get_root(doc);
    return call;
}

void tool_call_start(struct step *step, const struct tool_call_options *options)
{
    struct tool_call *call = call_new(step, options);
    if (step->record && !may_repeat(call)) {
        step->attempt = UINT8_MAX; /* no retry either */
        call_fail(call, ERR_INTERNAL,
                  "the server stopped while this tool was being called; whether the call took "
                  "effect is not known, so it is not repeated");
        return;
    }
    if (!check_arguments(call))
        return;
    if (!is_flow(call->tool))
        timer_start(step->run->loop->loop, &call->timer, call->tool->timeout_ms * NS_PER_MS);
    switch (call->tool->kind) {
    case TOOL_HTTP:
    case TOOL_OPENAPI: start_http(call); break;
    case TOOL_PIPELINE:
    case TOOL_RETRIEVAL: start_pipeline(call); break;
    case TOOL_MCP: journal_intent(step, mcp_send); break;
    }
}

void tool_call_cancel(struct step *step)
{
    struct tool_call *call = step->work;
    step->work = NULL;
    if (!call)
        return;
    call->step = NULL;
    timer_stop(&call->timer);
    if (is_flow(call->tool) && !call->flow)
        return; /* freed when the plan is found */
    if (call->flow) {
        step_drop_frames(step);
        flow_free(call->flow);
    }
    call_free(call);
}

const struct tool *tool_find(struct id project, struct str name, struct snapshot **out,
                             struct err *err)
{
    struct snapshot *snapshot = snapshot_current();
    struct project *found = snapshot ? snapshot_project(snapshot, project) : NULL;
    const struct tool *tool = found ? map_get(&found->tools, name) : NULL;
    if (!tool) {
        err_set(err, ERR_NOT_FOUND, "There is no tool '%.*s'.", STR_ARG(name));
        return NULL;
    }
    *out = snapshot_ref(snapshot);
    return tool;
}
