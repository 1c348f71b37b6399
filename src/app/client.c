/* Requests to a running server, waited for on a loop of our own. See client.h. */
#include "app/client.h"
#include "app/command.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "http/client.h"
#include "http/sse.h"
#include <stdlib.h>

#define CLIENT_CONNECT_NS (5 * NS_PER_S)
#define CLIENT_HEAD_NS    (120 * NS_PER_S) /* a backup or a first pull may take its time */

/* One exchange under way. */
struct client_exchange {
    struct loop *loop;
    int status;
    struct buf body;
    struct err err;
    /* event streams only */
    bool (*each)(void *arg, struct str event, struct str data);
    void *arg;
    struct sse_parser sse;
    bool stopped;
};

const char *client_url(void)
{
    const char *url = getenv("CAPSTAN_URL");
    return url && *url ? url : "http://127.0.0.1:4100";
}

static void on_head(void *owner, int status, const struct http_headers *headers)
{
    struct client_exchange *exchange = owner;
    UNUSED(headers);
    exchange->status = status;
}

static enum rc on_event(void *arg, const struct sse_event *event)
{
    struct client_exchange *exchange = arg;
    if (event->data.n == 0 || exchange->each(exchange->arg, event->name, event->data))
        return RC_OK;
    exchange->stopped = true;
    return RC_END;
}

static enum proceed on_data(void *owner, struct str data)
{
    struct client_exchange *exchange = owner;
    enum rc rc;
    if (exchange->each && exchange->status == 200)
        rc = sse_parse(&exchange->sse, data, on_event, exchange);
    else
        rc = buf_append(&exchange->body, data);
    if (rc == RC_OK)
        return PROCEED;
    if (!exchange->stopped)
        err_set(&exchange->err, ERR_TOO_LARGE, "the server's answer is too large");
    loop_stop(exchange->loop);
    return STOP;
}

static void on_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct client_exchange *exchange = owner;
    UNUSED(timing);
    if (err)
        exchange->err = *err;
    loop_stop(exchange->loop);
}

static const struct http_exchange_owner exchange_calls = {on_head, on_data, on_done};

/* Runs one exchange to its end on a loop made for it. */
static enum rc exchange_run(struct client_exchange *exchange, const char *method, const char *path,
                            struct str content_type, struct str body)
{
    exchange->loop = loop_new(0);
    struct http_client *client = http_client_new(exchange->loop);
    struct http_origin_options options = {.url = str_from(client_url()), .proxy = STR("none")};
    struct http_origin *origin = http_client_origin(client, &options, &exchange->err);
    char authorization[512] = "";
    const char *key = getenv("CAPSTAN_KEY");
    if (key)
        snprintf(authorization, sizeof(authorization), "Bearer %s", key);
    struct http_header headers[] = {
        {STR("authorization"), str_from(authorization)},
        {STR("user-agent"), STR("capstan/" CAPSTAN_VERSION)},
        {STR("content-type"), content_type},
    };
    struct http_exchange_request request = {
        .method = str_from(method),
        .path = str_from(path),
        .headers = key ? headers : headers + 1,
        .header_count = (key ? 2u : 1u) + (body.n > 0),
        .body = {body},
        .body_parts = body.n > 0,
        .connect_timeout_ns = CLIENT_CONNECT_NS,
        .head_timeout_ns = CLIENT_HEAD_NS,
    };
    if (origin) {
        http_exchange_start(origin, &request, &exchange_calls, exchange);
        loop_run(exchange->loop);
    }
    http_client_free(client);
    loop_free(exchange->loop);
    return exchange->err.rc;
}

/* "capstan route: MESSAGE (field)", and what to do about the usual causes. */
static void report_error(const char *command, const struct client_exchange *exchange,
                         const struct client_reply *reply)
{
    if (exchange->err.rc != RC_OK) {
        fprintf(stderr, "capstan %s: no answer from %s: %s\n", command, client_url(),
                exchange->err.message);
        fprintf(stderr,
                "Is the server running? Start it with 'capstan serve', or set CAPSTAN_URL.\n");
        return;
    }
    yyjson_val *error = yyjson_obj_get(reply->root, "error");
    const char *message = yyjson_get_str(yyjson_obj_get(error, "message"));
    const char *field = yyjson_get_str(yyjson_obj_get(error, "field"));
    fprintf(stderr, "capstan %s: %s", command, message ? message : "the server refused");
    fprintf(stderr, field ? " (%s)\n" : "\n", field);
    if (!message)
        fprintf(stderr, "HTTP status %d: %.*s\n", reply->status, STR_ARG(reply->body));
    if (reply->status == 401 && !getenv("CAPSTAN_KEY"))
        fprintf(stderr, "Set CAPSTAN_KEY to a key with the scope that this needs.\n");
}

bool client_request(const char *command, const char *method, const char *path,
                    struct str content_type, struct str body, struct client_reply *reply)
{
    struct client_exchange exchange = {0};
    buf_init(&exchange.body, LIMIT_RESPONSE_BYTES);
    enum rc rc = exchange_run(&exchange, method, path, content_type, body);
    size_t n = buf_len(&exchange.body);
    char *copy = xmalloc(n + 1);
    if (n)
        memcpy(copy, buf_str(&exchange.body).p, n);
    copy[n] = '\0';
    buf_fini(&exchange.body);
    *reply = (struct client_reply){.status = exchange.status, .body = str_make(copy, n)};
    reply->doc = yyjson_read(copy, n, 0);
    reply->root = yyjson_doc_get_root(reply->doc);
    if (rc == RC_OK && reply->status / 100 == 2)
        return true;
    report_error(command, &exchange, reply);
    client_reply_free(reply);
    return false;
}

bool client_request_json(const char *command, const char *method, const char *path,
                         yyjson_mut_doc *body, struct client_reply *reply)
{
    size_t n = 0;
    char *text = body ? yyjson_mut_write(body, 0, &n) : NULL;
    bool ok =
        client_request(command, method, path, STR("application/json"), str_make(text, n), reply);
    free(text);
    yyjson_mut_doc_free(body);
    return ok;
}

void client_reply_free(struct client_reply *reply)
{
    yyjson_doc_free(reply->doc);
    free((char *)reply->body.p);
    *reply = (struct client_reply){0};
}

bool client_stream(const char *command, const char *path, yyjson_mut_doc *body,
                   bool (*each)(void *arg, struct str event, struct str data), void *arg)
{
    struct client_exchange exchange = {.each = each, .arg = arg};
    buf_init(&exchange.body, LIMIT_API_BODY_BYTES);
    sse_parser_init(&exchange.sse);
    size_t n = 0;
    char *text = body ? yyjson_mut_write(body, 0, &n) : NULL;
    enum rc rc = exchange_run(&exchange, body ? "POST" : "GET", path, STR("application/json"),
                              str_make(text, n));
    free(text);
    yyjson_mut_doc_free(body);
    sse_parser_fini(&exchange.sse);
    bool ok = exchange.stopped || (rc == RC_OK && exchange.status == 200);
    if (!ok) {
        struct client_reply reply = {.status = exchange.status, .body = buf_str(&exchange.body)};
        reply.doc = yyjson_read(reply.body.p, reply.body.n, 0);
        reply.root = yyjson_doc_get_root(reply.doc);
        report_error(command, &exchange, &reply);
        yyjson_doc_free(reply.doc);
    }
    buf_fini(&exchange.body);
    return ok;
}
