/* The HTTP/2 client against a small server made of nghttp2, in the same loop. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "rig.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

struct peer { /* one connection of the server */
    struct stream *stream;
    nghttp2_session *frames;
    struct list node;
    struct buf out;
};

struct call { /* one stream of it */
    char path[64];
    char body[65536];
    size_t body_bytes, left;
    bool fixed;
    struct list node; /* of open_calls */
};

static struct loop *loop;
static struct rig rig;
static struct listener *listener;
static struct list peers, open_calls;
static char url[64];
static uint32_t streams_max;
static unsigned connections, resets_seen, most_open, open_now;

static void peer_flush(struct peer *peer)
{
    for (;;) {
        const uint8_t *p;
        ssize_t made = buf_len(&peer->out) < 65536 ? nghttp2_session_mem_send(peer->frames, &p) : 0;
        if (made > 0)
            assert_int_equal(buf_append(&peer->out, str_make(p, (size_t)made)), RC_OK);
        if (made > 0 && buf_len(&peer->out) < 65536)
            continue;
        struct str out = buf_str(&peer->out);
        struct iovec part = {(void *)out.p, out.n};
        size_t sent = 0;
        if (out.n == 0 || stream_write(peer->stream, &part, 1, &sent) != RC_OK)
            return;
        buf_consume(&peer->out, sent);
    }
}

static int on_begin(nghttp2_session *frames, const nghttp2_frame *frame, void *arg)
{
    struct call *call = calloc(1, sizeof(*call));
    list_push_back(&open_calls, &call->node);
    open_now++;
    most_open = MAX(most_open, open_now);
    return nghttp2_session_set_stream_user_data(frames, frame->hd.stream_id, call);
}

static int on_header(nghttp2_session *frames, const nghttp2_frame *frame, const uint8_t *name,
                     size_t n, const uint8_t *value, size_t value_bytes, uint8_t flags, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(frames, frame->hd.stream_id);
    for (size_t i = 0; i < n; i++)
        assert_false(name[i] >= 'A' && name[i] <= 'Z');
    assert_false(str_eq(str_make(name, n), STR("host")));
    if (str_eq(str_make(name, n), STR(":path")))
        snprintf(call->path, sizeof(call->path), "%.*s", (int)value_bytes, value);
    return 0;
}

static int on_data(nghttp2_session *frames, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t n, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(frames, id);
    memcpy(call->body + call->body_bytes, data, n);
    call->body_bytes += n;
    return 0;
}

static ssize_t produce(nghttp2_session *frames, int32_t id, uint8_t *out, size_t n, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(frames, id);
    size_t take = MIN(n, call->left);
    if (call->fixed)
        memcpy(out, call->body + (call->body_bytes - call->left), take);
    else
        memset(out, 'h', take);
    call->left -= take;
    if (call->left == 0)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)take;
}

static void answer(nghttp2_session *frames, int32_t id, struct call *call)
{
    nghttp2_nv head[] = {
        {(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0},
        {(uint8_t *)"content-type", (uint8_t *)"text/plain", 12, 10, 0},
    };
    nghttp2_data_provider body = {.read_callback = produce};
    if (strcmp(call->path, "/echo") == 0) {
        call->fixed = true;
        call->left = call->body_bytes;
    } else if (strncmp(call->path, "/big?", 5) == 0) {
        call->left = (size_t)atoi(call->path + 5);
    } else if (strcmp(call->path, "/reset") == 0) {
        nghttp2_submit_rst_stream(frames, 0, id, NGHTTP2_INTERNAL_ERROR);
        return;
    } else if (strcmp(call->path, "/refused") == 0) {
        if (connections <
            2) { /* goes away without having looked at it: on a new connection it works */
            nghttp2_submit_goaway(frames, 0, 0, NGHTTP2_NO_ERROR, NULL, 0);
            return;
        }
    } else if (strcmp(call->path, "/hang") == 0) {
        return;
    } else if (strcmp(call->path, "/early") == 0) {
        nghttp2_nv hint[] = {{(uint8_t *)":status", (uint8_t *)"103", 7, 3, 0}};
        nghttp2_submit_headers(frames, 0, id, NULL, hint, 1, NULL);
    }
    nghttp2_submit_response(frames, id, head, COUNT_OF(head), call->left ? &body : NULL);
}

static int on_frame(nghttp2_session *frames, const nghttp2_frame *frame, void *arg)
{
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        resets_seen++;
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        answer(frames, frame->hd.stream_id,
               nghttp2_session_get_stream_user_data(frames, frame->hd.stream_id));
    return 0;
}

static int on_close(nghttp2_session *frames, int32_t id, uint32_t error, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(frames, id);
    open_now--;
    list_remove(&call->node);
    free(call);
    return 0;
}

static void peer_free(struct peer *peer)
{
    list_remove(&peer->node);
    stream_close(peer->stream);
    nghttp2_session_del(peer->frames);
    buf_fini(&peer->out);
    free(peer);
}

static void peer_ready(void *owner, struct stream *stream, unsigned events)
{
    struct peer *peer = owner;
    char in[65536];
    size_t n;
    enum rc rc;
    while ((rc = stream_read(stream, in, sizeof(in), &n)) == RC_OK)
        assert_int_equal(nghttp2_session_mem_recv(peer->frames, (uint8_t *)in, n), n);
    peer_flush(peer);
    if (rc != RC_AGAIN)
        peer_free(peer);
}

static void accepted(void *arg, struct stream *stream)
{
    static const struct stream_owner calls = {.ready = peer_ready};
    struct peer *peer = calloc(1, sizeof(*peer));
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_server_new(&peer->frames, callbacks, peer);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams_max};
    nghttp2_submit_settings(peer->frames, 0, &settings, 1);
    peer->stream = stream;
    buf_init(&peer->out, 1 << 20);
    list_push_back(&peers, &peer->node);
    connections++;
    stream_set_owner(stream, &calls, peer);
}

static int set_up(void **state)
{
    loop = loop_new(0);
    rig_init(&rig, loop, NULL);
    list_init(&peers);
    list_init(&open_calls);
    streams_max = 100;
    connections = resets_seen = most_open = open_now = 0;
    struct err err = {0};
    struct address address = {.host = STR("127.0.0.1")};
    listener = listener_new(loop, &address, NULL, accepted, NULL, &err);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", listener_port(listener));
    return 0;
}

static int tear_down(void **state)
{
    listener_close(listener);
    rig_fini(&rig);
    LIST_FOR_EACH_SAFE (peer, &peers, struct peer, node)
        peer_free(peer);
    LIST_FOR_EACH_SAFE (call, &open_calls, struct call, node)
        free(call);
    loop_free(loop);
    return 0;
}

static struct http_origin *h2_origin(void)
{
    struct err err = {0};
    struct http_origin_options options = {.url = str_from(url), .http2 = true};
    struct http_origin *origin = http_client_origin(rig.client, &options, &err);
    assert_non_null(origin);
    return origin;
}

static void fetches_on_one_connection(void **state)
{
    struct fetch fetch;
    for (int i = 0; i < 10; i++) {
        fetch_run(&rig, &fetch, h2_origin(), "POST", "/echo", STR("over two"));
        assert_false(fetch.failed);
        assert_int_equal(fetch.status, 200);
        assert_string_equal(fetch.body, "over two");
        assert_string_equal(fetch.type, "text/plain");
        fetch_fini(&fetch);
        fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY);
        assert_int_equal(fetch.status, 200);
        assert_int_equal(fetch.body_bytes, 0);
        fetch_fini(&fetch);
    }
    assert_int_equal(connections, 1);
}

static void many_streams_share_it(void **state)
{
    enum { COUNT = 80 };
    static struct fetch fetches[COUNT];
    memset(fetches, 0, sizeof(fetches));
    for (int i = 0; i < COUNT; i++)
        fetch_start(&fetches[i], h2_origin(), "GET", "/big?100000", STR_EMPTY);
    for (int i = 0; i < COUNT; i++) {
        rig_run(&rig, &fetches[i].done);
        assert_false(fetches[i].failed);
        assert_int_equal(fetches[i].body_bytes, 100000);
        fetch_fini(&fetches[i]);
    }
    assert_int_equal(connections, 1);
    assert_true(most_open > 10);
}

static void keeps_to_the_peers_bound(void **state)
{
    enum { COUNT = 50 };
    static struct fetch fetches[COUNT];
    memset(fetches, 0, sizeof(fetches));
    streams_max = 5;
    struct fetch first; /* the peer's settings are known from here on */
    fetch_run(&rig, &first, h2_origin(), "GET", "/early", STR_EMPTY);
    fetch_fini(&first);
    for (int i = 0; i < COUNT; i++)
        fetch_start(&fetches[i], h2_origin(), "POST", "/echo", STR("x"));
    for (int i = 0; i < COUNT; i++) {
        rig_run(&rig, &fetches[i].done);
        assert_false(fetches[i].failed);
        fetch_fini(&fetches[i]);
    }
    assert_true(connections <= 11);
}

static void resets_and_refusals(void **state)
{
    struct fetch fetch;
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/reset", STR_EMPTY);
    assert_true(fetch.failed);
    assert_int_equal(fetch.err.rc, RC_IO);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/refused", STR_EMPTY);
    assert_false(fetch.failed);
    assert_int_equal(connections, 2);
    fetch_fini(&fetch);
}

static void cancels_a_stream_alone(void **state)
{
    struct fetch hang = {0}, fetch;
    fetch_start(&hang, h2_origin(), "GET", "/hang", STR_EMPTY);
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY);
    fetch_fini(&fetch);
    http_exchange_cancel(hang.exchange);
    fetch_run(&rig, &fetch, h2_origin(), "POST", "/echo", STR("still here"));
    assert_string_equal(fetch.body, "still here");
    fetch_fini(&fetch);
    assert_int_equal(resets_seen, 1);
    assert_int_equal(connections, 1);
    fetch = (struct fetch){.cancel_in_data = true};
    fetch_start(&fetch, h2_origin(), "GET", "/big?1000000", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    fetch_fini(&fetch);
    fetch = (struct fetch){.cancel_in_head = true};
    fetch_start(&fetch, h2_origin(), "GET", "/big?1000000", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    fetch_fini(&fetch);
    fetch = (struct fetch){0};
    fetch_start(&fetch, h2_origin(), "GET", "/early", STR_EMPTY);
    http_exchange_cancel(fetch.exchange); /* before anything was sent */
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY);
    assert_int_equal(connections, 1);
    fetch_fini(&fetch);
}

static void times_out_alone(void **state)
{
    struct fetch fetch = {.head_ns = 20 * NS_PER_MS};
    fetch_start(&fetch, h2_origin(), "GET", "/hang", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    assert_int_equal(fetch.err.rc, RC_TIMEOUT);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY);
    assert_int_equal(connections, 1);
    fetch_fini(&fetch);
}

/* ---- flow control ---- */

struct holder {
    struct http_exchange *exchange;
    size_t bytes;
    bool done, failed, going;
};

static void hold_head(void *owner, int status, const struct http_headers *headers) {}

static enum proceed hold_data(void *owner, struct str data)
{
    struct holder *holder = owner;
    holder->bytes += data.n;
    return holder->going ? PROCEED : STOP;
}

static void hold_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct holder *holder = owner;
    holder->done = true;
    holder->failed = err != NULL;
}

static void a_stopped_stream_holds_little_and_stops_nobody(void **state)
{
    static const struct http_exchange_owner calls = {hold_head, hold_data, hold_done};
    struct http_exchange_request request = {.method = STR("GET"), .path = STR("/big?3000000")};
    struct holder holder = {0};
    holder.exchange = http_exchange_start(h2_origin(), &request, &calls, &holder);
    struct fetch fetch;
    for (int i = 0; i < 5; i++) {
        fetch_run(&rig, &fetch, h2_origin(), "GET", "/big?2000000", STR_EMPTY);
        assert_int_equal(fetch.body_bytes, 2000000);
        fetch_fini(&fetch);
    }
    assert_true(holder.bytes > 0 && holder.bytes <= LIMIT_STALLED_BYTES);
    for (int i = 0; i < 3; i++) { /* one window at a time */
        size_t before = holder.bytes;
        http_exchange_resume(holder.exchange);
        fetch_run(&rig, &fetch, h2_origin(), "GET", "/big?2000000", STR_EMPTY);
        fetch_fini(&fetch);
        assert_true(holder.bytes > before && holder.bytes <= before + 2 * LIMIT_STALLED_BYTES);
    }
    holder.going = true;
    http_exchange_resume(holder.exchange);
    rig_run(&rig, &holder.done);
    assert_false(holder.failed);
    assert_int_equal(holder.bytes, 3000000);
}

static void a_lost_connection_ends_its_streams(void **state)
{
    struct fetch hang[3] = {0}, fetch;
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY);
    fetch_fini(&fetch);
    for (int i = 0; i < 3; i++)
        fetch_start(&hang[i], h2_origin(), "GET", "/hang", STR_EMPTY);
    fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY);
    fetch_fini(&fetch);
    peer_free(LIST_FIRST(&peers, struct peer, node));
    /* Nothing of an answer had come on a reused connection: they are repeated, once. */
    while (open_now < 6)
        fetch_run(&rig, &fetch, h2_origin(), "GET", "/early", STR_EMPTY), fetch_fini(&fetch);
    peer_free(LIST_FIRST(&peers, struct peer, node));
    for (int i = 0; i < 3; i++) {
        rig_run(&rig, &hang[i].done);
        assert_true(hang[i].failed);
        assert_int_equal(hang[i].err.rc, RC_IO);
    }
    assert_int_equal(connections, 2);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(fetches_on_one_connection),
        T(many_streams_share_it),
        T(keeps_to_the_peers_bound),
        T(resets_and_refusals),
        T(cancels_a_stream_alone),
        T(times_out_alone),
        T(a_stopped_stream_holds_little_and_stops_nobody),
        T(a_lost_connection_ends_its_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
