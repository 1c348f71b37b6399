/* HTTP request: by the one way out (connector.h). */
#include "pipeline/tools/connector.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/definition/reach.h"
#include "pipeline/engine/run_private.h"
#include "text/json.h"

enum body_type { BODY_NONE, BODY_JSON, BODY_TEXT, BODY_FORM };

struct named_text {
    struct str name;
    struct plan_text value;
};

struct named_texts {
    struct named_text *items;
    size_t count;
};

struct http_config {
    struct str method;
    struct plan_text url, body;
    struct named_texts headers, query, form;
    enum body_type body_type;
    bool idempotency_key, fail_on_status;
    bool fixed_host; /* no value can change it */
};

/* ---- compiling ---- */

static enum rc read_texts(struct plan_build *build, yyjson_val *list, struct named_texts *out,
                          struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    out->items = ARENA_NEW_ARRAY(&build->plan->arena, struct named_text, yyjson_arr_size(list) + 1);
    if (!out->items)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    yyjson_arr_foreach(list, i, n, item)
    {
        struct named_text *text = &out->items[out->count++];
        text->name = json_get_text(item, "name");
        enum rc rc = plan_text_compile(build, json_get_text(item, "value"), &text->value, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static enum rc http_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct str type = json_get_text(json, "body_type"), method = json_get_text(json, "method");
    struct http_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct http_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->method = method.n ? method : STR("GET");
    config->body_type = str_eq(type, STR("json"))   ? BODY_JSON
                        : str_eq(type, STR("text")) ? BODY_TEXT
                        : str_eq(type, STR("form")) ? BODY_FORM
                                                    : BODY_NONE;
    config->idempotency_key = json_get_bool(json, "idempotency_key", false);
    config->fail_on_status = json_get_bool(json, "fail_on_status", true);
    config->fixed_host = reach_is_fixed(json_get_text(json, "url"));
    enum rc rc = plan_text_compile(build, json_get_text(json, "url"), &config->url, err);
    if (rc == RC_OK)
        rc = plan_text_compile(build, json_get_text(json, "body"), &config->body, err);
    if (rc == RC_OK)
        rc = read_texts(build, yyjson_obj_get(json, "headers"), &config->headers, err);
    if (rc == RC_OK)
        rc = read_texts(build, yyjson_obj_get(json, "query"), &config->query, err);
    if (rc == RC_OK)
        rc = read_texts(build, yyjson_obj_get(json, "form"), &config->form, err);
    return rc;
}

/* ---- the request ---- */

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request is too large");
}

static enum rc render(struct step *step, struct fetch *fetch, const struct plan_text *text,
                      struct str *out, struct err *err)
{
    struct buf buf;
    buf_init(&buf, FETCH_BODY_BYTES_MAX);
    enum rc rc = run_render(step->frame, text, &step->run->loop->scratch, &buf, err);
    if (rc == RC_OK) {
        *out = arena_copy(&fetch->arena, buf_str(&buf));
        rc = out->p ? RC_OK : no_memory(err);
    }
    buf_fini(&buf);
    return rc;
}

/* name=value&name=value */
static enum rc encode_pairs(struct step *step, struct fetch *fetch, const struct named_texts *pairs,
                            struct str *out, struct err *err)
{
    struct buf text;
    enum rc rc = RC_OK;
    buf_init(&text, FETCH_BODY_BYTES_MAX);
    for (size_t i = 0; rc == RC_OK && i < pairs->count; i++) {
        struct str value;
        rc = render(step, fetch, &pairs->items[i].value, &value, err);
        if (rc != RC_OK)
            break;
        struct str name = http_percent_encode(pairs->items[i].name, &fetch->arena);
        value = http_percent_encode(value, &fetch->arena);
        if (!name.p || !value.p ||
            buf_printf(&text, "%s%.*s=%.*s", i ? "&" : "", STR_ARG(name), STR_ARG(value)) != RC_OK)
            rc = no_memory(err);
    }
    if (rc == RC_OK && !(*out = arena_copy(&fetch->arena, buf_str(&text))).p)
        rc = no_memory(err);
    buf_fini(&text);
    return rc;
}

struct str step_idempotency_key(const struct step *step, struct arena *arena)
{
    char id[ID_TEXT_BYTES_MAX];
    struct buf path;
    size_t n = id_format(step->run->id, "run", id);
    buf_init(&path, 8192);
    step_path(step->frame, step->plan, &path);
    struct str key = arena_printf(arena, "%.*s/%.*s", (int)n, id, STR_ARG(buf_str(&path)));
    buf_fini(&path);
    return key;
}

static enum rc make_headers(struct step *step, struct fetch *fetch,
                            const struct http_config *config, struct err *err)
{
    static const char *const types[] = {[BODY_JSON] = "application/json",
                                        [BODY_TEXT] = "text/plain; charset=utf-8",
                                        [BODY_FORM] = "application/x-www-form-urlencoded"};
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < config->headers.count; i++) {
        struct str value;
        rc = render(step, fetch, &config->headers.items[i].value, &value, err);
        if (rc == RC_OK)
            rc = fetch_add_header(fetch, config->headers.items[i].name, value, err);
    }
    bool typed = http_header_get(&fetch->headers, STR("content-type")).p != NULL;
    if (rc == RC_OK && config->body_type != BODY_NONE && !typed)
        rc = fetch_add_header(fetch, STR("content-type"), str_from(types[config->body_type]), err);
    if (rc == RC_OK && config->idempotency_key)
        rc = fetch_add_header(fetch, STR("idempotency-key"),
                              step_idempotency_key(step, &fetch->arena), err);
    return rc;
}

static bool is_safe(const struct http_config *config)
{
    return str_eq(config->method, STR("GET")) || str_eq(config->method, STR("HEAD"));
}

static enum rc make_request(struct step *step, struct fetch *fetch, struct err *err)
{
    const struct http_config *config = step->plan->config;
    struct str query = STR_EMPTY;
    fetch->method = config->method;
    fetch->repeatable = is_safe(config) || config->idempotency_key;
    enum rc rc = render(step, fetch, &config->url, &fetch->url, err);
    if (rc == RC_OK && !config->fixed_host)
        rc = reach_check(step->frame->flow->plan->document, fetch->url, err);
    if (rc == RC_OK)
        rc = encode_pairs(step, fetch, &config->query, &query, err);
    if (rc == RC_OK)
        rc = fetch_prepare(fetch, step->run->loop, query, err);
    if (rc == RC_OK && config->body_type == BODY_FORM)
        rc = encode_pairs(step, fetch, &config->form, &fetch->body, err);
    else if (rc == RC_OK && config->body_type != BODY_NONE)
        rc = render(step, fetch, &config->body, &fetch->body, err);
    return rc == RC_OK ? make_headers(step, fetch, config, err) : rc;
}

/* ---- the answer ---- */

static struct value *make_outputs(struct fetch *fetch)
{
    struct maker maker;
    yyjson_doc *doc;
    maker_init(&maker, &fetch->arena);
    maker_object(&maker);
    maker_key(&maker, STR("status_code"));
    maker_int(&maker, fetch->status);
    maker_key(&maker, STR("body"));
    maker_text(&maker, buf_str(&fetch->received));
    maker_key(&maker, STR("json"));
    bool json = json_read(buf_str(&fetch->received), &fetch->arena, &doc, NULL) == RC_OK;
    maker_tree(&maker, json ? yyjson_doc_get_root(doc) : NULL);
    maker_key(&maker, STR("headers"));
    maker_object(&maker);
    for (size_t i = 0; i < fetch->answered.count; i++) {
        maker_key(&maker, fetch->answered.items[i].name);
        maker_text(&maker, fetch->answered.items[i].value);
    }
    maker_end(&maker);
    maker_end(&maker);
    return maker_pack(&maker);
}

static void http_done(void *arg, struct fetch *fetch, const struct err *failure)
{
    struct step *step = arg;
    const struct http_config *config = step->plan->config;
    struct err err = {0};
    struct value *out = NULL;
    if (failure)
        err = *failure;
    else if (config->fail_on_status && fetch->status >= 400)
        err_set(&err, ERR_UPSTREAM, "the service answered with status %d", fetch->status);
    else
        out = make_outputs(fetch);
    fetch_free(fetch);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
    else
        step_done(step, out, STR("out"));
}

/* ---- the node ---- */

static void http_send(struct step *step) { fetch_send(step->work, http_done, step); }

static void http_run(struct step *step)
{
    const struct http_config *config = step->plan->config;
    struct err err = {0};
    if (step->record && !is_safe(config) && !config->idempotency_key) {
        err_set(&err, ERR_INTERNAL,
                "the server stopped while this request was under way; whether it took effect is "
                "not known, and without an idempotency key it is not sent again");
        step->attempt = UINT8_MAX; /* no retry either */
        step_failed(step, &err);
        return;
    }
    struct fetch *fetch = fetch_new();
    if (make_request(step, fetch, &err) != RC_OK) {
        fetch_free(fetch);
        step_failed(step, &err);
        return;
    }
    step->work = fetch;
    if (is_safe(config))
        http_send(step);
    else
        journal_intent(step, http_send);
}

static void http_cancel(struct step *step)
{
    fetch_free(step->work);
    step->work = NULL;
}

const struct node_operations http_operations = {
    .compile = http_compile, .run = http_run, .cancel = http_cancel, .recorded = true};
