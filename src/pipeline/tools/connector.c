/* See connector.h. */
#include "pipeline/tools/connector.h"
#include "base/clock.h"
#include "pipeline/engine/loop_private.h"
#include <stdio.h>

enum rc connector_open(struct pipeline_loop *loop, struct str text, struct connector_target *out,
                       struct err *err)
{
    text = str_trim(text);
    enum rc rc = url_parse(text, &out->url, err);
    if (rc != RC_OK)
        return rc;
    if (!str_eq(out->url.scheme, STR("http")) && !str_eq(out->url.scheme, STR("https")))
        return err_set(err, ERR_INVALID, "only http: and https: addresses can be asked");
    struct str base = text; /* without a path */
    if (str_ends(text, out->url.path))
        base = str_slice(text, 0, text.n - out->url.path.n);
    const struct pipelines_options *options = &loop->all->options;
    const struct http_origin_options origin = {
        .url = base,
        .public_only =
            !url_is_listed(&out->url, options->allowed_hosts, options->allowed_host_count)};
    out->origin = http_client_origin(loop->client, &origin, err);
    return out->origin ? RC_OK : err->rc;
}

struct fetch *fetch_new(void)
{
    struct arena arena;
    arena_init(&arena, FETCH_ARENA_BYTES_MAX);
    struct fetch *fetch = ARENA_NEW(&arena, struct fetch);
    ASSERT(fetch); /* the first bytes of an arena */
    fetch->arena = arena;
    buf_init(&fetch->received, FETCH_BODY_BYTES_MAX);
    return fetch;
}

void fetch_free(struct fetch *fetch)
{
    if (!fetch)
        return;
    if (fetch->exchange)
        http_exchange_cancel(fetch->exchange);
    buf_fini(&fetch->received);
    struct arena arena = fetch->arena;
    arena_fini(&arena);
}

enum rc fetch_add_header(struct fetch *fetch, struct str name, struct str value, struct err *err)
{
    if (http_header_add(&fetch->headers, &fetch->arena, name, value) == RC_OK)
        return RC_OK;
    return err_set(err, ERR_INVALID, "the header '%.*s' cannot be sent", STR_ARG(name));
}

enum rc fetch_prepare(struct fetch *fetch, struct pipeline_loop *loop, struct str query,
                      struct err *err)
{
    struct connector_target target;
    enum rc rc = connector_open(loop, fetch->url, &target, err);
    if (rc != RC_OK)
        return rc;
    fetch->origin = target.origin;
    fetch->path = target.url.path;
    if (query.n) {
        bool has = str_find_char(fetch->path, '?') >= 0;
        fetch->path = arena_printf(&fetch->arena, "%.*s%s%.*s", STR_ARG(target.url.path),
                                   has ? "&" : "?", STR_ARG(query));
    }
    return fetch->path.p ? RC_OK : err_set(err, ERR_TOO_LARGE, "the request is too large");
}

static void on_head(void *owner, int status, const struct http_headers *headers)
{
    struct fetch *fetch = owner;
    fetch->status = status;
    for (size_t i = 0; i < headers->count; i++) {
        struct str name = arena_copy(&fetch->arena, headers->items[i].name),
                   value = arena_copy(&fetch->arena, headers->items[i].value);
        if (name.p && value.p)
            (void)!http_header_add(&fetch->answered, &fetch->arena, name, value);
    }
}

static enum proceed on_data(void *owner, struct str data)
{
    struct fetch *fetch = owner;
    if (buf_append(&fetch->received, data) != RC_OK)
        fetch->too_large = true;
    if (fetch->grown)
        fetch->grown(fetch->arg, fetch);
    return PROCEED;
}

static void on_done(void *owner, const struct err *failure,
                    const struct http_exchange_timing *timing)
{
    struct fetch *fetch = owner;
    struct err err = {0};
    UNUSED(timing);
    fetch->exchange = NULL;
    if (failure)
        err_set(&err, failure->code != ERR_NONE ? failure->code : ERR_UPSTREAM, "%s",
                failure->message);
    else if (fetch->too_large)
        err_set(&err, ERR_TOO_LARGE, "the answer is larger than %d MiB",
                FETCH_BODY_BYTES_MAX >> 20);
    fetch->done(fetch->arg, fetch, err.code != ERR_NONE ? &err : NULL);
}

void fetch_send(struct fetch *fetch,
                void (*done)(void *arg, struct fetch *fetch, const struct err *err), void *arg)
{
    static const struct http_exchange_owner calls = {on_head, on_data, on_done};
    const struct http_exchange_request request = {
        .method = fetch->method,
        .path = fetch->path,
        .headers = fetch->headers.items,
        .header_count = fetch->headers.count,
        .body = {fetch->body},
        .body_parts = fetch->body.n ? 1 : 0,
        .connect_timeout_ns = FETCH_TIMEOUT_NS,
        .head_timeout_ns = FETCH_TIMEOUT_NS,
        .idle_timeout_ns = FETCH_TIMEOUT_NS,
        .retry_stale = fetch->repeatable,
    };
    fetch->done = done;
    fetch->arg = arg;
    fetch->exchange = http_exchange_start(fetch->origin, &request, &calls, fetch);
}
