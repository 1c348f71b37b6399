/* See rig.h. */
#include "rig.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>

#define PART_BYTES 10000

/* ---- handlers ---- */

struct visit {
    struct rig *rig;
    struct http_request *request;
    struct timer timer;
    int parts;
    size_t left;
};

static void visit_gone(struct http_request *request)
{
    struct visit *visit = request->user;
    visit->rig->gone++;
    timer_stop(&visit->timer);
}

static void visit_ended(struct http_request *request)
{
    struct visit *visit = request->user;
    visit->rig->ended++;
}

static void answer_later(struct timer *timer)
{
    struct visit *visit = CONTAINER_OF(timer, struct visit, timer);
    http_respond(visit->request, 200, STR("text/plain"), STR("later"));
}

static void stream_part(struct timer *timer)
{
    struct visit *visit = CONTAINER_OF(timer, struct visit, timer);
    if (visit->parts == 5) {
        http_respond_end(visit->request);
        return;
    }
    char part[16];
    int n = snprintf(part, sizeof(part), "part %d\n", visit->parts++);
    struct loop *loop = visit->request->loop;
    (void)http_respond_write(visit->request, str_make(part, (size_t)n));
    timer_start(loop, &visit->timer, NS_PER_MS);
}

static void big_go_on(struct http_request *request)
{
    struct visit *visit = request->user;
    static char part[PART_BYTES];
    memset(part, 'b', sizeof(part));
    while (visit->left > 0) {
        size_t n = MIN(visit->left, sizeof(part));
        visit->left -= n;
        if (http_respond_write(request, str_make(part, n)) == STOP) {
            visit->rig->stops++;
            return;
        }
    }
    http_respond_end(request);
}

static void respond_info(struct http_request *request)
{
    struct str text =
        arena_printf(request->arena, "%.*s %.*s ? %.*s (%zu headers) body %zu %.*s\n",
                     STR_ARG(request->method), STR_ARG(request->path), STR_ARG(request->query),
                     request->headers.count, request->body.n, STR_ARG(request->body));
    http_respond(request, 200, STR("text/plain"), text);
}

static size_t number_of(struct http_request *request)
{
    uint64_t n = 0;
    assert_int_equal(str_to_u64(request->query, &n), RC_OK);
    return n;
}

static void handle(void *arg, struct http_request *request)
{
    struct rig *rig = arg;
    rig->handled++;
    struct visit *visit = ARENA_NEW(request->arena, struct visit);
    visit->rig = rig;
    visit->request = request;
    timer_init(&visit->timer, answer_later);
    request->user = visit;
    request->ended = visit_ended;
    request->gone = visit_gone;
    struct str path = request->path;
    http_respond_header(request, STR("x-test"), STR("yes"));
    if (str_eq(path, STR("/whole"))) {
        http_respond(request, 200, STR("text/plain"), STR("hello"));
    } else if (str_eq(path, STR("/echo"))) {
        http_respond(request, 200, STR("application/octet-stream"), request->body);
    } else if (str_eq(path, STR("/info"))) {
        respond_info(request);
    } else if (str_eq(path, STR("/later"))) {
        timer_start(rig->loop, &visit->timer, 2 * NS_PER_MS);
    } else if (str_eq(path, STR("/later-not-told"))) {
        request->gone = NULL;
        timer_start(rig->loop, &visit->timer, 100 * NS_PER_MS);
    } else if (str_eq(path, STR("/stream"))) {
        http_respond_begin(request, 200, STR("text/event-stream"));
        timer_init(&visit->timer, stream_part);
        timer_start(rig->loop, &visit->timer, NS_PER_MS);
    } else if (str_eq(path, STR("/big"))) {
        visit->left = number_of(request);
        request->writable = big_go_on;
        http_respond_begin(request, 200, STR("text/plain"));
        big_go_on(request);
    } else if (str_eq(path, STR("/large"))) {
        size_t n = number_of(request);
        char *body = arena_alloc(request->arena, n);
        assert_non_null(body);
        memset(body, 'L', n);
        http_respond(request, 200, STR("text/plain"), str_make(body, n));
    } else if (str_eq(path, STR("/empty"))) {
        http_respond(request, 204, STR_EMPTY, STR_EMPTY);
    } else if (str_eq(path, STR("/abort"))) {
        http_respond_begin(request, 200, STR("text/plain"));
        (void)http_respond_write(request, STR("half"));
        http_respond_abort(request);
    } else if (str_eq(path, STR("/headers"))) {
        http_respond_header(request, STR("x-bad"), STR("a\r\nx-injected: 1"));
        http_respond_header(request, STR("x bad"), STR("a"));
        http_respond(request, 200, STR("text/plain\r\nx-injected: 1"), STR("ok"));
    } else if (!str_eq(path, STR("/hang"))) {
        http_respond(request, 404, STR("text/plain"), STR("no such path"));
    }
}

static int64_t admit(void *arg, struct http_request *request)
{
    if (str_eq(request->path, STR("/refuse"))) {
        http_respond(request, 403, STR("text/plain"), STR("refused"));
        return -1;
    }
    return 10 * 1024 * 1024;
}

static void check_until(struct timer *timer)
{
    struct rig *rig = CONTAINER_OF(timer, struct rig, check);
    if (*rig->until)
        loop_stop(rig->loop);
    else
        timer_start(rig->loop, &rig->check, NS_PER_MS);
}

static void limit_passed(struct timer *timer) { fail_msg("not done in time"); }

void rig_init(struct rig *rig, struct loop *loop, const struct http_server_options *options)
{
    *rig = (struct rig){.loop = loop};
    struct http_server_options filled = options ? *options : (struct http_server_options){0};
    filled.handle = handle;
    filled.admit = admit;
    filled.arg = rig;
    rig->server = http_server_new(loop, &filled);
    struct err err = {0};
    struct address address = {.host = STR("127.0.0.1")};
    rig->listener = listener_new(loop, &address, NULL, http_server_accept, rig->server, &err);
    assert_non_null(rig->listener);
    snprintf(rig->url, sizeof(rig->url), "http://127.0.0.1:%u", listener_port(rig->listener));
    rig->client = http_client_new(loop);
    timer_init(&rig->limit, limit_passed);
    timer_init(&rig->check, check_until);
}

static void settled(struct timer *timer)
{
    struct rig *rig = CONTAINER_OF(timer, struct rig, limit);
    loop_stop(rig->loop);
}

void rig_fini(struct rig *rig)
{
    http_client_free(rig->client);
    listener_close(rig->listener);
    http_server_free(rig->server);
    timer_init(&rig->limit, settled); /* what was deferred runs */
    timer_start(rig->loop, &rig->limit, NS_PER_MS);
    loop_run(rig->loop);
}

void rig_run(struct rig *rig, const bool *until)
{
    if (*until)
        return;
    rig->until = until;
    timer_start(rig->loop, &rig->limit, 10 * NS_PER_S);
    timer_start(rig->loop, &rig->check, 0);
    loop_run(rig->loop);
    timer_stop(&rig->limit);
    timer_stop(&rig->check);
    assert_true(*until);
}

/* ---- bytes in, bytes out ---- */

static void talk_send(struct timer *timer)
{
    struct talk *talk = CONTAINER_OF(timer, struct talk, timer);
    if (!talk->stream || talk->closed)
        return;
    if (talk->sent < talk->in.n) {
        size_t want = MIN(talk->piece_bytes, talk->in.n - talk->sent), n;
        struct iovec part = {(char *)talk->in.p + talk->sent, want};
        enum rc rc = stream_write(talk->stream, &part, 1, &n);
        if (rc == RC_OK)
            talk->sent += n;
        else if (rc != RC_AGAIN)
            talk->sent = talk->in.n; /* the server has closed: what it said is still there */
        timer_start(talk->rig->loop, &talk->timer, 0);
    } else if (talk->shut) {
        stream_shutdown(talk->stream);
    }
}

static void talk_read(struct talk *talk)
{
    while (!talk->closed && !talk->paused) {
        size_t n;
        talk->out = realloc(talk->out, talk->out_bytes + 65537);
        enum rc rc = stream_read(talk->stream, talk->out + talk->out_bytes, 65536, &n);
        if (rc == RC_AGAIN)
            return;
        if (rc == RC_OK)
            talk->out_bytes += n;
        else
            talk->closed = true;
        talk->out[talk->out_bytes] = 0;
        if (talk->out_wanted > 0 && talk->out_bytes >= talk->out_wanted)
            talk->enough = true;
    }
}

static void talk_ready(void *owner, struct stream *stream, unsigned events) { talk_read(owner); }

static void talk_connected(void *arg, struct stream *stream, const struct err *err)
{
    static const struct stream_owner calls = {.ready = talk_ready};
    struct talk *talk = arg;
    talk->connecting = NULL;
    if (!stream)
        fail_msg("connect: %s", err->message);
    talk->stream = stream;
    stream_set_owner(stream, &calls, talk);
    timer_start(talk->rig->loop, &talk->timer, 0);
}

void talk_start(struct talk *talk, struct rig *rig, const char *in, size_t piece_bytes)
{
    *talk = (struct talk){.rig = rig, .in = str_from(in), .piece_bytes = piece_bytes};
    timer_init(&talk->timer, talk_send);
    struct connect_options options = {
        .address = {.host = STR("127.0.0.1"), .port = listener_port(rig->listener)},
        .timeout_ns = 5 * NS_PER_S,
    };
    talk->connecting = stream_connect(rig->loop, &options, talk_connected, talk);
}

void talk_end(struct talk *talk)
{
    timer_stop(&talk->timer);
    if (talk->stream)
        stream_close(talk->stream);
    free(talk->out);
    talk->stream = NULL;
    talk->out = NULL;
}

char *talk_whole(struct rig *rig, const char *in, size_t piece_bytes)
{
    struct talk talk;
    talk_start(&talk, rig, in, piece_bytes);
    rig_run(rig, &talk.closed);
    char *out = talk.out ? talk.out : strdup("");
    talk.out = NULL;
    talk_end(&talk);
    return out;
}

/* ---- the client's side ---- */

static void fetch_head(void *owner, int status, const struct http_headers *headers)
{
    struct fetch *fetch = owner;
    fetch->status = status;
    struct str type = http_header_get(headers, STR("content-type"));
    snprintf(fetch->type, sizeof(fetch->type), "%.*s", STR_ARG(type));
    if (fetch->cancel_in_head) {
        http_exchange_cancel(fetch->exchange);
        fetch->cancelled = fetch->done = true;
    }
}

static enum proceed fetch_data(void *owner, struct str data)
{
    struct fetch *fetch = owner;
    fetch->body = realloc(fetch->body, fetch->body_bytes + data.n + 1);
    memcpy(fetch->body + fetch->body_bytes, data.p, data.n);
    fetch->body_bytes += data.n;
    fetch->body[fetch->body_bytes] = 0;
    if (fetch->cancel_in_data) {
        http_exchange_cancel(fetch->exchange);
        fetch->cancelled = fetch->done = true;
    }
    return fetch->answer;
}

static void fetch_done(void *owner, const struct err *err,
                       const struct http_exchange_timing *timing)
{
    struct fetch *fetch = owner;
    assert_false(fetch->done);
    fetch->done = true;
    fetch->failed = err != NULL;
    fetch->reused = timing->reused;
    if (err)
        fetch->err = *err;
}

const struct http_exchange_owner fetch_calls = {fetch_head, fetch_data, fetch_done};

void fetch_start(struct fetch *fetch, struct http_origin *origin, const char *method,
                 const char *path, struct str body)
{
    static const struct http_header headers[] = {{STR_INIT("X-One"), STR_INIT("1")}};
    struct http_exchange_request request = {
        .method = str_from(method),
        .path = str_from(path),
        .headers = headers,
        .header_count = 1,
        .body = {body},
        .body_parts = body.n > 0 ? 1 : 0,
        .connect_timeout_ns = 5 * NS_PER_S,
        .head_timeout_ns = fetch->head_ns ? fetch->head_ns : 5 * NS_PER_S,
        .idle_timeout_ns = fetch->between_ns ? fetch->between_ns : 5 * NS_PER_S,
        .retry_stale = true,
    };
    fetch->answer = PROCEED;
    fetch->exchange = http_exchange_start(origin, &request, &fetch_calls, fetch);
}

void fetch_run(struct rig *rig, struct fetch *fetch, struct http_origin *origin, const char *method,
               const char *path, struct str body)
{
    *fetch = (struct fetch){0};
    fetch_start(fetch, origin, method, path, body);
    rig_run(rig, &fetch->done);
}

void fetch_fini(struct fetch *fetch)
{
    free(fetch->body);
    fetch->body = NULL;
}

struct http_origin *rig_origin(struct rig *rig)
{
    struct err err = {0};
    struct http_origin *origin = http_client_origin(
        rig->client, &(struct http_origin_options){.url = str_from(rig->url)}, &err);
    assert_non_null(origin);
    return origin;
}
