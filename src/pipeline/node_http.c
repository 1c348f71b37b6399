/* HTTP request: through the loop's own client, which resolves the name and refuses addresses that
 * are not public, unless an administrator allowed the host. Redirects are not followed: each would
 * be another address. */
#include "base/clock.h"
#include "http/client.h"
#include "pipeline/journal.h"
#include "pipeline/loop_private.h"
#include "pipeline/run_private.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

#define HTTP_BODY_BYTES_MAX (8 * 1024 * 1024)
#define HTTP_ARENA_BYTES    (64 * 1024 * 1024)
#define HTTP_TIMEOUT_NS     (60 * NS_PER_S) /* between two bytes */

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
};

struct http_work {
    struct step *step;
    struct arena arena;
    struct http_exchange *exchange;
    struct http_origin *origin;
    struct http_headers headers, answered;
    struct url url;
    struct str path, body;
    struct buf received;
    int status;
    bool too_large;
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

static enum rc render(struct http_work *work, const struct plan_text *text, struct str *out,
                      struct err *err)
{
    struct buf buf;
    buf_init(&buf, HTTP_BODY_BYTES_MAX);
    enum rc rc = run_render(work->step->frame, text, &work->step->run->loop->scratch, &buf, err);
    if (rc == RC_OK) {
        *out = arena_copy(&work->arena, buf_str(&buf));
        rc = out->p ? RC_OK : no_memory(err);
    }
    buf_fini(&buf);
    return rc;
}

/* name=value&name=value */
static enum rc encode_pairs(struct http_work *work, const struct named_texts *pairs,
                            struct buf *out, struct err *err)
{
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < pairs->count; i++) {
        struct str value;
        rc = render(work, &pairs->items[i].value, &value, err);
        if (rc != RC_OK)
            return rc;
        struct str name = http_percent_encode(pairs->items[i].name, &work->arena);
        value = http_percent_encode(value, &work->arena);
        if (!name.p || !value.p ||
            buf_printf(out, "%s%.*s=%.*s", i ? "&" : "", STR_ARG(name), STR_ARG(value)) != RC_OK)
            rc = no_memory(err);
    }
    return rc;
}

static enum rc make_path(struct http_work *work, const struct http_config *config, struct err *err)
{
    struct buf query;
    buf_init(&query, HTTP_BODY_BYTES_MAX);
    enum rc rc = encode_pairs(work, &config->query, &query, err);
    if (rc == RC_OK) {
        bool has = str_find_char(work->url.path, '?') >= 0;
        work->path = buf_len(&query) == 0
                         ? work->url.path
                         : arena_printf(&work->arena, "%.*s%s%.*s", STR_ARG(work->url.path),
                                        has ? "&" : "?", STR_ARG(buf_str(&query)));
        rc = work->path.p ? RC_OK : no_memory(err);
    }
    buf_fini(&query);
    return rc;
}

static enum rc add_header(struct http_work *work, struct str name, struct str value,
                          struct err *err)
{
    enum rc rc = http_header_add(&work->headers, &work->arena, name, value);
    if (rc == RC_OK)
        return rc;
    return err_set(err, ERR_INVALID, "the header '%.*s' cannot be sent", STR_ARG(name));
}

/* The same for each attempt at this step of this run, also after a crash. */
static struct str idempotency_key(struct http_work *work)
{
    char id[ID_TEXT_BYTES_MAX];
    struct buf path;
    size_t n = id_format(work->step->run->id, "run", id);
    buf_init(&path, 8192);
    step_path(work->step->frame, work->step->plan, &path);
    struct str key = arena_printf(&work->arena, "%.*s/%.*s", (int)n, id, STR_ARG(buf_str(&path)));
    buf_fini(&path);
    return key;
}

static enum rc make_headers(struct http_work *work, const struct http_config *config,
                            struct err *err)
{
    static const char *const types[] = {[BODY_JSON] = "application/json",
                                        [BODY_TEXT] = "text/plain; charset=utf-8",
                                        [BODY_FORM] = "application/x-www-form-urlencoded"};
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < config->headers.count; i++) {
        struct str value;
        rc = render(work, &config->headers.items[i].value, &value, err);
        if (rc == RC_OK)
            rc = add_header(work, config->headers.items[i].name, value, err);
    }
    bool typed = http_header_get(&work->headers, STR("content-type")).p != NULL;
    if (rc == RC_OK && config->body_type != BODY_NONE && !typed)
        rc = add_header(work, STR("content-type"), str_from(types[config->body_type]), err);
    if (rc == RC_OK && config->idempotency_key)
        rc = add_header(work, STR("idempotency-key"), idempotency_key(work), err);
    return rc;
}

static enum rc make_body(struct http_work *work, const struct http_config *config, struct err *err)
{
    struct buf form;
    if (config->body_type == BODY_NONE)
        return RC_OK;
    if (config->body_type != BODY_FORM)
        return render(work, &config->body, &work->body, err);
    buf_init(&form, HTTP_BODY_BYTES_MAX);
    enum rc rc = encode_pairs(work, &config->form, &form, err);
    if (rc == RC_OK) {
        work->body = arena_copy(&work->arena, buf_str(&form));
        rc = work->body.p ? RC_OK : no_memory(err);
    }
    buf_fini(&form);
    return rc;
}

static bool is_allowed(const struct pipelines *pipelines, const struct url *url)
{
    char host[512];
    int n = snprintf(host, sizeof(host), "%.*s:%u", STR_ARG(url->host), url->port);
    for (size_t i = 0; i < pipelines->options.allowed_host_count; i++)
        if (str_matches_glob(str_make(host, MIN((size_t)n, sizeof(host) - 1)),
                             pipelines->options.allowed_hosts[i]))
            return true;
    return false;
}

static enum rc make_request(struct http_work *work, const struct http_config *config,
                            struct err *err)
{
    struct pipeline_loop *loop = work->step->run->loop;
    struct str url;
    enum rc rc = render(work, &config->url, &url, err);
    if (rc == RC_OK)
        rc = url_parse(str_trim(url), &work->url, err);
    if (rc != RC_OK)
        return rc;
    if (!str_eq(work->url.scheme, STR("http")) && !str_eq(work->url.scheme, STR("https")))
        return err_set(err, ERR_INVALID, "only http: and https: addresses can be asked");
    struct str base = str_slice(str_trim(url), 0, str_trim(url).n - work->url.path.n);
    if (!str_ends(str_trim(url), work->url.path))
        base = str_trim(url); /* without a path */
    const struct http_origin_options origin = {.url = base,
                                               .public_only = !is_allowed(loop->all, &work->url)};
    work->origin = http_client_origin(loop->client, &origin, err);
    if (!work->origin)
        return err->rc;
    rc = make_path(work, config, err);
    if (rc == RC_OK)
        rc = make_body(work, config, err);
    return rc == RC_OK ? make_headers(work, config, err) : rc;
}

/* ---- the answer ---- */

static void work_free(struct http_work *work)
{
    buf_fini(&work->received);
    struct arena arena = work->arena;
    arena_fini(&arena);
}

static void on_head(void *owner, int status, const struct http_headers *headers)
{
    struct http_work *work = owner;
    work->status = status;
    for (size_t i = 0; i < headers->count; i++) {
        struct str name = arena_copy(&work->arena, headers->items[i].name),
                   value = arena_copy(&work->arena, headers->items[i].value);
        if (name.p && value.p)
            (void)!http_header_add(&work->answered, &work->arena, name, value);
    }
}

static enum proceed on_data(void *owner, struct str data)
{
    struct http_work *work = owner;
    if (buf_append(&work->received, data) != RC_OK)
        work->too_large = true;
    return PROCEED;
}

static struct value *make_outputs(struct http_work *work)
{
    struct maker maker;
    yyjson_doc *doc;
    maker_init(&maker, &work->arena);
    maker_object(&maker);
    maker_key(&maker, STR("status_code"));
    maker_int(&maker, work->status);
    maker_key(&maker, STR("body"));
    maker_text(&maker, buf_str(&work->received));
    maker_key(&maker, STR("json"));
    bool json = json_read(buf_str(&work->received), &work->arena, &doc, NULL) == RC_OK;
    maker_tree(&maker, json ? yyjson_doc_get_root(doc) : NULL);
    maker_key(&maker, STR("headers"));
    maker_object(&maker);
    for (size_t i = 0; i < work->answered.count; i++) {
        maker_key(&maker, work->answered.items[i].name);
        maker_text(&maker, work->answered.items[i].value);
    }
    maker_end(&maker);
    maker_end(&maker);
    return maker_pack(&maker);
}

static void on_done(void *owner, const struct err *failure,
                    const struct http_exchange_timing *timing)
{
    struct http_work *work = owner;
    struct step *step = work->step;
    const struct http_config *config = step->plan->config;
    struct err err = {0};
    struct value *out = NULL;
    UNUSED(timing);
    if (failure)
        err_set(&err, failure->code != ERR_NONE ? failure->code : ERR_UPSTREAM, "%s",
                failure->message);
    else if (work->too_large)
        err_set(&err, ERR_TOO_LARGE, "the answer is larger than %d MiB", HTTP_BODY_BYTES_MAX >> 20);
    else if (config->fail_on_status && work->status >= 400)
        err_set(&err, ERR_UPSTREAM, "the service answered with status %d", work->status);
    else
        out = make_outputs(work);
    work_free(work);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
    else
        step_done(step, out, STR("out"));
}

static const struct http_exchange_owner calls = {on_head, on_data, on_done};

/* ---- the node ---- */

static bool is_safe(const struct http_config *config)
{
    return str_eq(config->method, STR("GET")) || str_eq(config->method, STR("HEAD"));
}

static void http_send(struct step *step)
{
    const struct http_config *config = step->plan->config;
    struct http_work *work = step->work;
    const struct http_exchange_request request = {
        .method = config->method,
        .path = work->path,
        .headers = work->headers.items,
        .header_count = work->headers.count,
        .body = {work->body},
        .body_parts = work->body.n ? 1 : 0,
        .connect_timeout_ns = HTTP_TIMEOUT_NS,
        .head_timeout_ns = HTTP_TIMEOUT_NS,
        .idle_timeout_ns = HTTP_TIMEOUT_NS,
        .retry_stale = is_safe(config) || config->idempotency_key,
    };
    work->exchange = http_exchange_start(work->origin, &request, &calls, work);
}

static void http_run(struct step *step)
{
    const struct http_config *config = step->plan->config;
    struct arena arena;
    struct err err = {0};
    if (step->record && !is_safe(config) && !config->idempotency_key) {
        err_set(&err, ERR_INTERNAL,
                "the server stopped while this request was under way; whether it took effect is "
                "not known, and without an idempotency key it is not sent again");
        step->attempt = UINT8_MAX; /* no retry either */
        step_failed(step, &err);
        return;
    }
    arena_init(&arena, HTTP_ARENA_BYTES);
    struct http_work *work = ARENA_NEW(&arena, struct http_work);
    ASSERT(work); /* the first bytes of an arena */
    work->arena = arena;
    work->step = step;
    buf_init(&work->received, HTTP_BODY_BYTES_MAX);
    if (make_request(work, config, &err) != RC_OK) {
        work_free(work);
        step_failed(step, &err);
        return;
    }
    step->work = work;
    if (is_safe(config))
        http_send(step);
    else
        journal_intent(step, http_send);
}

static void http_cancel(struct step *step)
{
    struct http_work *work = step->work;
    step->work = NULL;
    if (!work)
        return;
    if (work->exchange)
        http_exchange_cancel(work->exchange);
    work_free(work);
}

const struct node_operations http_operations = {
    .compile = http_compile, .run = http_run, .cancel = http_cancel, .recorded = true};
