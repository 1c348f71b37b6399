/* POST /webhook/trig_…: another system's webhook starts a pipeline. Who sends proves it by the
 * trigger's secret: a signature as Standard Webhooks or GitHub make it, or the secret itself as a
 * token. The body becomes the inputs: its members, or what the trigger's expressions take from it.
 */
#include "api/handlers.h"
#include "api/problem.h"
#include "api/trigger_gate.h"
#include "base/clock.h"
#include "base/hash.h"
#include "pipeline/engine/launch.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define INPUTS_BYTES_MAX (8 * 1024 * 1024)
#define ANSWER_BYTES_MAX (16 * 1024 * 1024)

struct webhook {
    struct http_request *request;
    struct launch *launch;
    struct run *run;
    bool wait;
};

/* ---- who sends ---- */

static struct str header(const struct http_request *request, const char *name)
{
    return http_header_get(&request->headers, str_from(name));
}

static bool is_signed(const struct http_request *request, struct str secret)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    struct str github = header(request, "x-hub-signature-256");
    if (!github.n)
        return webhook_verify(secret, header(request, "webhook-id"),
                              header(request, "webhook-timestamp"),
                              header(request, "webhook-signature"), request->body,
                              loop_wall_ns(request->loop), request->arena);
    hash_hmac_sha256(webhook_secret_bytes(secret, request->arena), request->body, digest);
    hex_encode(digest, sizeof(digest), hex);
    return str_starts(github, STR("sha256=")) &&
           str_eq_secret(str_slice(github, 7, github.n), str_from(hex));
}

static bool has_token(const struct http_request *request, struct str secret)
{
    struct str bearer = header(request, "authorization");
    if (bearer.n > 7 && str_eq_nocase(str_slice(bearer, 0, 7), STR("bearer ")))
        return str_eq_secret(str_trim(str_slice(bearer, 7, bearer.n)), secret);
    struct str token = header(request, "x-webhook-token");
    if (!token.n)
        token = header(request, "x-gitlab-token");
    return token.n && str_eq_secret(token, secret);
}

static enum rc check_sender(const struct http_request *request, const struct trigger *trigger,
                            struct err *err)
{
    if (trigger->check == TRIGGER_TOKEN && !has_token(request, trigger->secret))
        return err_set(err, ERR_UNAUTHENTICATED,
                       "The secret must come as 'Authorization: Bearer SECRET', X-Webhook-Token "
                       "or X-Gitlab-Token.");
    if (trigger->check == TRIGGER_SIGNED && !is_signed(request, trigger->secret))
        return err_set(err, ERR_UNAUTHENTICATED,
                       "The signature is missing, wrong or more than five minutes old: send "
                       "webhook-id, webhook-timestamp and webhook-signature, or "
                       "X-Hub-Signature-256.");
    return RC_OK;
}

/* ---- inputs ---- */

struct lookup {
    yyjson_val *body;
    const struct http_headers *headers;
};

static void look_up(void *arg, const struct str *path, size_t count, struct expression_value *out)
{
    struct lookup *lookup = arg;
    if (str_eq(path[0], STR("body"))) {
        expression_from_json(lookup->body, path + 1, count - 1, out);
    } else if (str_eq(path[0], STR("headers")) && count == 2) {
        struct str value = http_header_get(lookup->headers, path[1]);
        if (value.p)
            *out = (struct expression_value){.type = EXPRESSION_TEXT, .text = value};
    }
}

static void put_value(struct json_writer *w, const struct expression_value *value)
{
    switch (value->type) {
    case EXPRESSION_NULL: json_null(w); break;
    case EXPRESSION_BOOL: json_bool(w, value->boolean); break;
    case EXPRESSION_NUMBER: json_double(w, value->number); break;
    case EXPRESSION_TEXT: json_string(w, value->text); break;
    case EXPRESSION_JSON: json_value(w, value->json); break;
    case EXPRESSION_LIST:
        json_begin_array(w);
        for (size_t i = 0; i < value->item_count; i++)
            put_value(w, &value->items[i]);
        json_end_array(w);
        break;
    }
}

static enum rc map_inputs(const struct trigger *trigger, struct lookup *lookup, struct arena *arena,
                          yyjson_val **out, struct err *err)
{
    struct buf text;
    yyjson_doc *doc;
    *out = lookup->body;
    if (!trigger->map)
        return RC_OK;
    buf_init(&text, INPUTS_BYTES_MAX);
    struct json_writer w = json_writer_to(&text);
    json_begin_object(&w);
    for (size_t i = 0; i < trigger->map_count; i++) {
        struct expression_value value = {0};
        if (expression_evaluate(trigger->map[i].value, look_up, lookup, arena, &value) != RC_OK ||
            value.type == EXPRESSION_NULL)
            continue; /* as if it had not been given */
        json_key_str(&w, trigger->map[i].name);
        put_value(&w, &value);
    }
    json_end_object(&w);
    struct str copy = w.rc == RC_OK ? arena_copy(arena, buf_str(&text)) : STR_EMPTY;
    buf_fini(&text);
    if (!copy.p || json_read(copy, arena, &doc, NULL) != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "The inputs are too large.");
    *out = yyjson_doc_get_root(doc);
    return RC_OK;
}

/* ---- the run ---- */

static struct http_request *take_request(struct webhook *webhook)
{
    struct http_request *request = webhook->request;
    request->gone = NULL;
    request->user = NULL;
    free(webhook);
    return request;
}

static void on_gone(struct http_request *request)
{
    struct webhook *webhook = request->user;
    if (webhook->launch)
        launch_cancel(webhook->launch);
    if (webhook->run) {
        run_forget_owner(webhook->run);
        run_cancel(webhook->run, "the client has left");
    }
    free(webhook);
}

static void on_begun(void *arg, struct run *run)
{
    struct webhook *webhook = arg;
    char id[ID_TEXT_BYTES_MAX];
    if (webhook->wait)
        return;
    run_forget_owner(run);
    id_format(run_id(run), "run", id);
    struct http_request *request = take_request(webhook);
    http_respond(request, 202, STR("application/json"),
                 arena_printf(request->arena, "{\"id\":\"%s\",\"status\":\"running\"}", id));
}

static void on_ended(void *arg, const struct run *run)
{
    struct http_request *request = take_request(arg);
    struct buf out;
    buf_init(&out, ANSWER_BYTES_MAX);
    run_encode_result(run, &out);
    http_respond(request, 200, STR("application/json"), arena_copy(request->arena, buf_str(&out)));
    buf_fini(&out);
}

static void on_launched(void *arg, struct run *run, const struct err *err)
{
    struct webhook *webhook = arg;
    webhook->launch = NULL;
    webhook->run = run;
    if (!run)
        api_respond_problem(take_request(webhook), err);
}

static void start(struct api_call *call, struct http_request *request,
                  const struct trigger *trigger, yyjson_val *inputs, struct str session)
{
    struct principal principal = trigger_principal(trigger);
    struct webhook *webhook = xcalloc(1, sizeof(*webhook));
    webhook->request = request;
    webhook->wait = trigger->wait;
    request->user = webhook;
    request->gone = on_gone;
    struct launch_request launch = {
        .pipeline = trigger->pipeline,
        .selector = trigger->label,
        .trigger = "webhook",
        .principal = &principal,
        .session = session,
        .inputs = inputs,
        .recorded = !trigger->wait,
        .owner = {.begun = on_begun, .ended = on_ended, .arg = webhook},
    };
    trace_context_read(header(request, "traceparent"), &launch.trace);
    struct launch *under_way =
        launch_start(pipelines_loop(call->services->pipelines, loop_index(request->loop)), &launch,
                     on_launched, webhook);
    if (under_way)
        webhook->launch = under_way;
}

void door_webhook(struct api_call *call, struct http_request *request)
{
    const struct trigger *trigger;
    struct lookup lookup = {.headers = &request->headers};
    struct expression_value session = {0};
    struct err err = {0};
    yyjson_doc *doc;
    yyjson_val *inputs = NULL;
    enum rc rc = trigger_find(call->params[0], TRIGGER_WEBHOOK, &trigger, &err);
    if (rc == RC_OK)
        rc = check_sender(request, trigger, &err);
    if (rc == RC_OK)
        rc = trigger_admit(trigger, loop_wall_ns(request->loop), &err);
    if (rc == RC_OK)
        rc = json_read(request->body.n ? request->body : STR("{}"), request->arena, &doc, &err);
    if (rc == RC_OK) {
        lookup.body = yyjson_doc_get_root(doc);
        rc = map_inputs(trigger, &lookup, request->arena, &inputs, &err);
    }
    if (rc == RC_OK && trigger->session_from)
        rc = expression_evaluate(trigger->session_from, look_up, &lookup, request->arena, &session);
    if (rc == RC_OK && !yyjson_is_obj(inputs))
        rc = err_set(&err, ERR_BAD_JSON, "The body must be a JSON object.");
    if (rc != RC_OK)
        api_respond_problem(request, &err);
    else
        start(call, request, trigger, inputs, session.text);
}
