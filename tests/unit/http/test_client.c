/* The client against peers that answer in pieces, late, wrongly or not at all. */
#include "base/clock.h"
#include "base/limits.h"
#include "script.h"
#include <brotli/encode.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

static struct loop *loop;
static struct rig rig;
static struct script script;

static int set_up(void **state)
{
    loop = loop_new(0);
    rig_init(&rig, loop, NULL);
    script_init(&script, &rig, "");
    return 0;
}

static int tear_down(void **state)
{
    script_fini(&script);
    rig_fini(&rig);
    loop_free(loop);
    return 0;
}

static void fetches(void **state)
{
    struct http_origin *origin = rig_origin(&rig);
    struct fetch fetch;
    fetch_run(&rig, &fetch, origin, "GET", "/whole", STR_EMPTY);
    assert_int_equal(fetch.status, 200);
    assert_string_equal(fetch.body, "hello");
    assert_string_equal(fetch.type, "text/plain");
    assert_false(fetch.reused);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, origin, "POST", "/echo", STR("ping"));
    assert_string_equal(fetch.body, "ping");
    assert_true(fetch.reused);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, origin, "GET", "/stream", STR_EMPTY);
    assert_string_equal(fetch.body, "part 0\npart 1\npart 2\npart 3\npart 4\n");
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, origin, "HEAD", "/whole", STR_EMPTY);
    assert_int_equal(fetch.body_bytes, 0);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, origin, "GET", "/empty", STR_EMPTY);
    assert_int_equal(fetch.status, 204);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, origin, "GET", "/big?3000000", STR_EMPTY);
    assert_int_equal(fetch.body_bytes, 3000000);
    assert_true(fetch.reused);
    fetch_fini(&fetch);
    fetch_run(&rig, &fetch, origin, "GET", "/abort", STR_EMPTY);
    assert_true(fetch.failed);
    assert_int_equal(fetch.err.rc, RC_IO);
    fetch_fini(&fetch);
    struct http_client_stats stats;
    http_client_stats(rig.client, &stats);
    assert_int_equal(stats.exchanges, 7);
    assert_int_equal(stats.connects, 1);
    assert_int_equal(stats.failures, 1);
}

static void large_bodies_arrive(void **state)
{
    size_t n = 5 * 1024 * 1024;
    char *body = malloc(n);
    for (size_t i = 0; i < n; i++)
        body[i] = (char)(i * 7 + i / 251);
    struct fetch fetch;
    fetch_run(&rig, &fetch, rig_origin(&rig), "POST", "/echo", str_make(body, n));
    assert_int_equal(fetch.body_bytes, n);
    assert_memory_equal(fetch.body, body, n);
    fetch_fini(&fetch);
    free(body);
}

static void reads_answers_in_pieces_of_any_size(void **state)
{
    static const struct {
        const char *answer, *body;
        bool closes;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
         "hello", false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nT: "
         "x\r\n\r\n",
         "hello", false},
        {"HTTP/1.1 200 OK\r\n\r\nhello", "hello", true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t piece = 1; piece <= strlen(cases[i].answer); piece++) {
            script.answers[0] = cases[i].answer;
            script.piece_bytes = piece;
            script.close_after = cases[i].closes;
            struct fetch fetch;
            fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
            assert_false(fetch.failed);
            assert_int_equal(fetch.status, 200);
            assert_string_equal(fetch.body, cases[i].body);
            fetch_fini(&fetch);
        }
}

static void says_what_is_wrong_with_an_answer(void **state)
{
    static const struct {
        const char *answer;
        enum rc rc;
    } cases[] = {
        {"SSH-2.0-OpenSSH\r\n\r\n", RC_INVALID},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
         RC_INVALID},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", RC_INVALID},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", RC_INVALID},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", RC_INVALID},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", RC_INVALID},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 1\r\n\r\nx", RC_INVALID},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", RC_INVALID},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", RC_IO},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", RC_IO},
        {"HTTP/1.1 200 OK\r\nConte", RC_IO},
        {"", RC_IO},
    };
    script.close_after = true;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        script.answers[0] = cases[i].answer;
        struct fetch fetch;
        fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
        assert_true(fetch.failed);
        assert_int_equal(fetch.err.rc, cases[i].rc);
        assert_true(fetch.err.message[0] != 0);
        fetch_fini(&fetch);
    }
}

static void heads_without_end_are_bounded(void **state)
{
    size_t n = 2 * LIMIT_HEADER_BYTES;
    char *answer = malloc(n + 1);
    memset(answer, 'x', n);
    answer[n] = 0;
    memcpy(answer, "HTTP/1.1 200 OK\r\nA: ", 20);
    script.answers[0] = answer;
    struct fetch fetch;
    fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
    assert_true(fetch.failed);
    assert_int_equal(fetch.err.rc, RC_INVALID);
    fetch_fini(&fetch);
    free(answer);
}

static void decodes_content(void **state)
{
    /* A megabyte of zeros in a kilobyte: comes out in pieces, also through a consumer that stops.
     */
    size_t n = 1 << 20;
    char *plain = calloc(1, n), packed[4096], *answer = malloc(8192);
    for (int brotli = 0; brotli < 2; brotli++) {
        size_t packed_bytes = sizeof(packed);
        if (brotli) {
            assert_true(BrotliEncoderCompress(5, 22, BROTLI_MODE_GENERIC, n, (uint8_t *)plain,
                                              &packed_bytes, (uint8_t *)packed));
        } else {
            z_stream zlib = {.next_in = (Bytef *)plain,
                             .avail_in = (uInt)n,
                             .next_out = (Bytef *)packed,
                             .avail_out = sizeof(packed)};
            assert_int_equal(deflateInit2(&zlib, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
            assert_int_equal(deflate(&zlib, Z_FINISH), Z_STREAM_END);
            packed_bytes = zlib.total_out;
            deflateEnd(&zlib);
        }
        int head = snprintf(
            answer, 8192, "HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
            brotli ? "br" : "gzip", packed_bytes);
        memcpy(answer + head, packed, packed_bytes);
        script.answers[0] = answer;
        script.answer_bytes[0] = (size_t)head + packed_bytes;
        for (size_t piece = 0; piece < 3; piece++) {
            script.piece_bytes = piece;
            struct fetch fetch;
            fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
            assert_false(fetch.failed);
            assert_int_equal(fetch.body_bytes, n);
            assert_memory_equal(fetch.body, plain, n);
            fetch_fini(&fetch);
        }
        /* Cut short. */
        script.answer_bytes[0] -= 3;
        script.close_after = true;
        script.piece_bytes = 0;
        memcpy(strstr(answer, "Content-Length"), "X-ontent-Length", 14);
        struct fetch fetch;
        fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
        assert_true(fetch.failed);
        fetch_fini(&fetch);
        script.close_after = false;
    }
    free(plain);
    free(answer);
}

/* ---- a consumer that stops ---- */

struct sipper {
    struct fetch fetch;
    struct timer timer;
    unsigned stops;
};

static void sip(struct timer *timer)
{
    struct sipper *sipper = CONTAINER_OF(timer, struct sipper, timer);
    if (!sipper->fetch.done)
        http_exchange_resume(sipper->fetch.exchange);
}

static void sip_head(void *owner, int status, const struct http_headers *headers) {}

static enum proceed sip_data(void *owner, struct str data)
{
    struct sipper *sipper = owner;
    sipper->fetch.body_bytes += data.n;
    sipper->stops++;
    timer_start(loop, &sipper->timer, 0);
    return STOP;
}

static void sip_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct sipper *sipper = owner;
    sipper->fetch.done = true;
    sipper->fetch.failed = err != NULL;
    timer_stop(&sipper->timer);
}

static void sip_all(struct http_origin *origin, const char *path, size_t want)
{
    static const struct http_exchange_owner calls = {sip_head, sip_data, sip_done};
    struct sipper sipper = {0};
    timer_init(&sipper.timer, sip);
    struct http_exchange_request request = {.method = STR("GET"), .path = str_from(path)};
    sipper.fetch.exchange = http_exchange_start(origin, &request, &calls, &sipper);
    rig_run(&rig, &sipper.fetch.done);
    assert_false(sipper.fetch.failed);
    assert_int_equal(sipper.fetch.body_bytes, want);
    assert_true(sipper.stops > 1);
}

static void stops_and_goes_on(void **state)
{
    sip_all(rig_origin(&rig), "/big?1000000", 1000000);
    sip_all(rig_origin(&rig), "/stream", 35);
}

static void stops_within_compressed_content(void **state)
{
    size_t n = 1 << 20, packed_bytes = 4096;
    char *plain = calloc(1, n), *answer = malloc(8192), packed[4096];
    assert_true(BrotliEncoderCompress(5, 22, BROTLI_MODE_GENERIC, n, (uint8_t *)plain,
                                      &packed_bytes, (uint8_t *)packed));
    int head = snprintf(answer, 8192,
                        "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: %zu\r\n\r\n",
                        packed_bytes);
    memcpy(answer + head, packed, packed_bytes);
    script.answers[0] = answer;
    script.answer_bytes[0] = (size_t)head + packed_bytes;
    sip_all(script_origin(&script), "/", n);
    free(plain);
    free(answer);
}

/* ---- connections ---- */

static void repeats_on_a_stale_connection(void **state)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    script.close_on_second = true;
    struct fetch fetch;
    for (int i = 0; i < 4; i++) {
        fetch_run(&rig, &fetch, script_origin(&script), "POST", "/", STR("body"));
        assert_false(fetch.failed);
        assert_string_equal(fetch.body, "ok");
        assert_non_null(strstr(script.request, "\r\n\r\nbody"));
        fetch_fini(&fetch);
    }
    assert_int_equal(script.connections, 4);
}

static void does_not_reuse_what_said_too_much(void **state)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"
                        "Content-Length: 4\r\n\r\nevil";
    for (int i = 0; i < 3; i++) {
        struct fetch fetch;
        fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
        assert_string_equal(fetch.body, "ok");
        assert_false(fetch.reused);
        fetch_fini(&fetch);
    }
    /* Nor what speaks unasked. */
    script.answer_at_once = true;
    struct fetch fetch;
    fetch_run(&rig, &fetch, script_origin(&script), "GET", "/", STR_EMPTY);
    fetch_fini(&fetch);
}

static void refused_connections_are_told(void **state)
{
    struct err err = {0};
    struct http_origin *origin = http_client_origin(
        rig.client, &(struct http_origin_options){.url = STR("http://127.0.0.1:1")}, &err);
    struct fetch fetch[3] = {0};
    for (int i = 0; i < 3; i++)
        fetch_start(&fetch[i], origin, "GET", "/", STR_EMPTY);
    for (int i = 0; i < 3; i++) {
        rig_run(&rig, &fetch[i].done);
        assert_true(fetch[i].failed);
        assert_int_equal(fetch[i].err.rc, RC_DOWN);
        fetch_fini(&fetch[i]);
    }
}

static void times_out(void **state)
{
    struct fetch fetch;
    fetch = (struct fetch){.between_ns = 20 * NS_PER_MS};
    script.answers[0] = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nnot all of it";
    fetch_start(&fetch, script_origin(&script), "GET", "/", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    assert_int_equal(fetch.err.rc, RC_TIMEOUT);
    assert_int_equal(fetch.status, 200);
    fetch_fini(&fetch);
    fetch = (struct fetch){.head_ns = 20 * NS_PER_MS};
    fetch_start(&fetch, rig_origin(&rig), "GET", "/hang", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    assert_int_equal(fetch.err.rc, RC_TIMEOUT);
    assert_int_equal(fetch.status, 0);
    fetch_fini(&fetch);
}

static void cancels_anywhere(void **state)
{
    struct http_origin *origin = rig_origin(&rig);
    struct fetch fetch = {0}, other;
    fetch_start(&fetch, origin, "GET", "/whole", STR_EMPTY);
    http_exchange_cancel(fetch.exchange); /* before it was connected */
    fetch_run(&rig, &other, origin, "GET", "/whole", STR_EMPTY);
    fetch_fini(&other);
    fetch_start(&fetch, origin, "GET", "/whole", STR_EMPTY);
    http_exchange_cancel(fetch.exchange); /* after the request was sent */
    fetch_run(&rig, &other, origin, "GET", "/whole", STR_EMPTY);
    assert_string_equal(other.body, "hello");
    fetch_fini(&other);
    fetch = (struct fetch){.cancel_in_head = true};
    fetch_start(&fetch, origin, "GET", "/big?100000", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    assert_true(fetch.cancelled);
    fetch_fini(&fetch);
    fetch = (struct fetch){.cancel_in_data = true};
    fetch_start(&fetch, origin, "GET", "/big?100000", STR_EMPTY);
    rig_run(&rig, &fetch.done);
    assert_true(fetch.cancelled);
    fetch_fini(&fetch);
    /* The server is told at once that nobody listens any more. */
    fetch = (struct fetch){0};
    unsigned gone = rig.gone;
    fetch_start(&fetch, origin, "GET", "/hang", STR_EMPTY);
    fetch_run(&rig, &other, origin, "GET", "/later", STR_EMPTY);
    fetch_fini(&other);
    http_exchange_cancel(fetch.exchange);
    int64_t started = clock_monotonic_ns();
    while (rig.gone == gone) {
        fetch_run(&rig, &other, origin, "GET", "/later", STR_EMPTY);
        fetch_fini(&other);
    }
    assert_true(clock_monotonic_ns() - started < NS_PER_S); /* a few ms; machines may be busy */
}

static void never_sends_what_would_split_a_request(void **state)
{
    static const struct http_header bad[] = {{STR_INIT("x"), STR_INIT("a\r\nHost: evil")},
                                             {STR_INIT("x y"), STR_INIT("a")}};
    static const char *const paths[] = {"/a b", "/a\r\nX: y", "a", "", "/\x01"};
    for (size_t i = 0; i < COUNT_OF(bad) + COUNT_OF(paths); i++) {
        struct http_exchange_request request = {.method = STR("GET"), .path = STR("/whole")};
        if (i < COUNT_OF(bad)) {
            request.headers = &bad[i];
            request.header_count = 1;
        } else {
            request.path = str_from(paths[i - COUNT_OF(bad)]);
        }
        struct fetch fetch = {0};
        http_exchange_start(rig_origin(&rig), &request, &fetch_calls, &fetch);
        assert_false(fetch.done); /* never from inside */
        rig_run(&rig, &fetch.done);
        assert_int_equal(fetch.err.rc, RC_INVALID);
        fetch_fini(&fetch);
    }
}

static void connections_are_bounded(void **state)
{
    struct err err = {0};
    struct http_origin *origin = http_client_origin(
        rig.client, &(struct http_origin_options){.url = str_from(rig.url), .connections_max = 3},
        &err);
    struct fetch fetch[20] = {0};
    for (int i = 0; i < 20; i++)
        fetch_start(&fetch[i], origin, "GET", i % 2 ? "/later" : "/whole", STR_EMPTY);
    for (int i = 0; i < 20; i++) {
        rig_run(&rig, &fetch[i].done);
        assert_false(fetch[i].failed);
        fetch_fini(&fetch[i]);
    }
    struct http_server_stats stats;
    http_server_stats(rig.server, &stats);
    assert_true(stats.connections_total <= 3);
}

/* ---- proxies ---- */

static void goes_through_a_forward_proxy(void **state)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    char proxy[128];
    snprintf(proxy, sizeof(proxy), "http://us%%65r:pa%%20ss@%s", script.url + 7);
    struct err err = {0};
    struct http_origin *origin =
        http_client_origin(rig.client,
                           &(struct http_origin_options){.url = STR("http://example.com:81"),
                                                         .proxy = str_from(proxy)},
                           &err);
    assert_non_null(origin);
    struct fetch fetch;
    fetch_run(&rig, &fetch, origin, "GET", "/path?q", STR_EMPTY);
    assert_string_equal(fetch.body, "ok");
    fetch_fini(&fetch);
    assert_non_null(strstr(script.request, "GET http://example.com:81/path?q HTTP/1.1\r\n"));
    assert_non_null(strstr(script.request, "host: example.com:81\r\n"));
    assert_non_null(strstr(script.request, "proxy-authorization: Basic dXNlcjpwYSBzcw==\r\n"));
}

static void asks_a_proxy_for_a_tunnel(void **state)
{
    script.answers[0] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    struct err err = {0};
    struct http_origin *origin =
        http_client_origin(rig.client,
                           &(struct http_origin_options){.url = STR("https://example.com"),
                                                         .proxy = str_from(script.url)},
                           &err);
    assert_non_null(origin);
    struct fetch fetch;
    fetch_run(&rig, &fetch, origin, "GET", "/", STR_EMPTY);
    assert_true(fetch.failed);
    assert_int_equal(fetch.err.rc, RC_DOWN);
    assert_non_null(strstr(fetch.err.message, "403"));
    assert_non_null(
        strstr(script.request, "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n"));
    fetch_fini(&fetch);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(fetches),
        T(large_bodies_arrive),
        T(reads_answers_in_pieces_of_any_size),
        T(says_what_is_wrong_with_an_answer),
        T(heads_without_end_are_bounded),
        T(decodes_content),
        T(stops_and_goes_on),
        T(stops_within_compressed_content),
        T(repeats_on_a_stale_connection),
        T(does_not_reuse_what_said_too_much),
        T(refused_connections_are_told),
        T(times_out),
        T(cancels_anywhere),
        T(never_sends_what_would_split_a_request),
        T(connections_are_bounded),
        T(goes_through_a_forward_proxy),
        T(asks_a_proxy_for_a_tunnel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
