/* The HTTP layers alone, for bench/relay.py: an upstream, a relay in front of it, and a load
 * generator.
 *
 *     http_relay upstream             answers every request with 1 KB, or with a stream for
 * /stream?EVENTS http_relay relay URL            passes requests on and answers back, with all of
 * src/http between http_relay load URL N C [BODY]  N requests, C at a time; prints how many failed
 *
 * Servers listen on a free port of 127.0.0.1 and print it. */
#include "base/clock.h"
#include "http/client.h"
#include "http/server.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int64_t event_ns = NS_PER_MS; /* between two events of a stream; EVENT_MS */
static struct loop *loop;
static char kilobyte[1024];

/* ---- upstream ---- */

struct ticker {
    struct http_request *request;
    struct timer timer;
    uint64_t left;
};

static void tick(struct timer *timer)
{
    struct ticker *ticker = CONTAINER_OF(timer, struct ticker, timer);
    static const char event[] =
        "data: "
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
        "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
    if (ticker->left-- == 0) {
        http_respond_end(ticker->request);
        return;
    }
    timer_start(loop, timer, event_ns);
    (void)http_respond_write(ticker->request, str_make(event, sizeof(event) - 1));
}

static void ticker_gone(struct http_request *request)
{
    struct ticker *ticker = request->user;
    timer_stop(&ticker->timer);
}

static void upstream_handle(void *arg, struct http_request *request)
{
    if (!str_eq(request->path, STR("/stream"))) {
        http_respond(request, 200, STR("application/json"), str_make(kilobyte, sizeof(kilobyte)));
        return;
    }
    struct ticker *ticker = ARENA_NEW(request->arena, struct ticker);
    ticker->request = request;
    ASSERT(str_to_u64(request->query, &ticker->left) == RC_OK);
    request->user = ticker;
    request->gone = ticker_gone;
    timer_init(&ticker->timer, tick);
    timer_start(loop, &ticker->timer, event_ns);
    http_respond_begin(request, 200, STR("text/event-stream"));
}

/* ---- relay ---- */

struct relayed {
    struct http_request *request;
    struct http_exchange *exchange;
    int status;
    bool streamed;
    struct str type;
    char *body;
    size_t body_bytes, body_bytes_max;
};

static struct http_origin *origin;

static void relay_head(void *owner, int status, const struct http_headers *headers)
{
    struct relayed *relayed = owner;
    relayed->status = status;
    relayed->type =
        arena_copy(relayed->request->arena, http_header_get(headers, STR("content-type")));
    uint64_t length;
    relayed->streamed =
        str_to_u64(http_header_get(headers, STR("content-length")), &length) != RC_OK ||
        length > 65536;
    if (relayed->streamed) {
        http_respond_begin(relayed->request, status, relayed->type);
        return;
    }
    relayed->body_bytes_max = length;
    relayed->body = arena_alloc(relayed->request->arena, length);
    ASSERT(relayed->body != NULL);
}

static enum proceed relay_data(void *owner, struct str data)
{
    struct relayed *relayed = owner;
    if (relayed->streamed)
        return http_respond_write(relayed->request, data);
    ASSERT(data.n <= relayed->body_bytes_max - relayed->body_bytes);
    memcpy(relayed->body + relayed->body_bytes, data.p, data.n);
    relayed->body_bytes += data.n;
    return PROCEED;
}

static void relay_done(void *owner, const struct err *err,
                       const struct http_exchange_timing *timing)
{
    struct relayed *relayed = owner;
    struct http_request *request = relayed->request;
    relayed->exchange = NULL;
    if (relayed->streamed && err)
        http_respond_abort(request);
    else if (relayed->streamed)
        http_respond_end(request);
    else if (err)
        http_respond(request, 502, STR("text/plain"),
                     arena_copy(request->arena, str_from(err->message)));
    else
        http_respond(request, relayed->status, relayed->type,
                     str_make(relayed->body, relayed->body_bytes));
}

static void relay_gone(struct http_request *request)
{
    struct relayed *relayed = request->user;
    if (relayed->exchange)
        http_exchange_cancel(relayed->exchange);
}

static void relay_writable(struct http_request *request)
{
    struct relayed *relayed = request->user;
    if (relayed->exchange)
        http_exchange_resume(relayed->exchange);
}

static void relay_handle(void *arg, struct http_request *request)
{
    static const struct http_exchange_owner calls = {relay_head, relay_data, relay_done};
    struct relayed *relayed = ARENA_NEW(request->arena, struct relayed);
    relayed->request = request;
    request->user = relayed;
    request->gone = relay_gone;
    request->writable = relay_writable;
    struct http_exchange_request ask = {
        .method = request->method,
        .path = request->target,
        .headers = request->headers.items,
        .header_count = request->headers.count,
        .body = {request->body},
        .body_parts = request->body.n > 0,
        .connect_timeout_ns = 10 * NS_PER_S,
        .head_timeout_ns = 60 * NS_PER_S,
        .idle_timeout_ns = 60 * NS_PER_S,
        .retry_stale = true,
    };
    relayed->exchange = http_exchange_start(origin, &ask, &calls, relayed);
}

/* ---- load ---- */

static uint64_t started, ended, failed, wanted;
static const char *load_path;
static struct str load_body;

static void load_start(void);

static void load_head(void *owner, int status, const struct http_headers *headers)
{
    failed += status != 200;
}

static enum proceed load_data(void *owner, struct str data) { return PROCEED; }

static void load_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    failed += err != NULL;
    if (++ended == wanted)
        loop_stop(loop);
    else if (started < wanted)
        load_start();
}

static void load_start(void)
{
    static const struct http_exchange_owner calls = {load_head, load_data, load_done};
    static const struct http_header headers[] = {
        {STR_INIT("accept"), STR_INIT("application/json")},
        {STR_INIT("content-type"), STR_INIT("application/json")},
        {STR_INIT("authorization"), STR_INIT("Bearer sk-0123456789abcdef0123456789abcdef")},
        {STR_INIT("user-agent"), STR_INIT("OpenAI/Python 1.99.0")},
        {STR_INIT("x-stainless-lang"), STR_INIT("python")},
        {STR_INIT("x-stainless-runtime-version"), STR_INIT("3.11.2")},
    };
    struct http_exchange_request ask = {
        .method = load_body.n > 0 ? STR("POST") : STR("GET"),
        .path = str_from(load_path),
        .headers = headers,
        .header_count = COUNT_OF(headers),
        .body = {load_body},
        .body_parts = load_body.n > 0,
    };
    started++;
    http_exchange_start(origin, &ask, &calls, NULL);
}

/* ---- main ---- */

static void origin_open(const char *url)
{
    struct err err = {0};
    struct http_origin_options options = {
        .url = str_from(url), .proxy = STR("none"), .http2 = getenv("HTTP2") != NULL};
    origin = http_client_origin(http_client_new(loop), &options, &err);
    if (!origin) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
}

static void serve(void (*handle)(void *arg, struct http_request *request))
{
    struct http_server_options options = {.handle = handle, .idle_timeout_ns = 60 * NS_PER_S};
    struct http_server *server = http_server_new(loop, &options);
    struct address address = {.host = STR("127.0.0.1")};
    struct err err = {0};
    struct listener *listener =
        listener_new(loop, &address, NULL, http_server_accept, server, &err);
    ASSERT(listener != NULL);
    printf("%u\n", listener_port(listener));
    fflush(stdout);
    loop_run(loop);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    memset(kilobyte, 'k', sizeof(kilobyte));
    loop = loop_new(0);
    if (getenv("EVENT_MS"))
        event_ns = atoll(getenv("EVENT_MS")) * NS_PER_MS;
    const char *role = argc > 1 ? argv[1] : "";
    if (strcmp(role, "upstream") == 0) {
        serve(upstream_handle);
    } else if (strcmp(role, "relay") == 0 && argc == 3) {
        origin_open(argv[2]);
        serve(relay_handle);
    } else if (strcmp(role, "load") == 0 && argc >= 5) {
        struct url url;
        if (url_parse(str_from(argv[2]), &url, NULL) != RC_OK)
            return 1;
        load_path = url.path.n > 1 ? url.path.p : "/v1/chat/completions";
        load_body = argc > 5 ? STR_EMPTY : str_make(kilobyte, sizeof(kilobyte));
        origin_open(argv[2]);
        wanted = strtoull(argv[3], NULL, 10);
        for (uint64_t i = strtoull(argv[4], NULL, 10); i > 0 && started < wanted; i--)
            load_start();
        loop_run(loop);
        printf("%llu\n", (unsigned long long)failed);
    } else {
        fprintf(stderr, "http_relay upstream | relay URL | load URL REQUESTS CONCURRENCY\n");
        return 2;
    }
    return 0;
}
