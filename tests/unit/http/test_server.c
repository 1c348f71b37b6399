/* The server against clients that pipeline, dribble, stall and leave. */
#include "rig.h"
#include "base/clock.h"
#include "base/limits.h"
#include <stdio.h>
#include <stdlib.h>

static struct loop *loop;
static struct rig rig;

static int set_up(void **state)
{
    loop = loop_new(0);
    rig_init(&rig, loop, NULL);
    return 0;
}

static int set_up_short_timeouts(void **state)
{
    loop = loop_new(0);
    struct http_server_options options = {
        .head_timeout_ns = 20 * NS_PER_MS,
        .body_timeout_ns = 20 * NS_PER_MS,
        .idle_timeout_ns = 20 * NS_PER_MS,
        .send_timeout_ns = 50 * NS_PER_MS,
        .connections_max = 2,
    };
    rig_init(&rig, loop, &options);
    return 0;
}

static int tear_down(void **state)
{
    rig_fini(&rig);
    assert_int_equal(rig.ended, rig.handled);
    loop_free(loop);
    return 0;
}

/* The status lines and bodies of what came back, without the headers that vary. */
static void check(const char *in, size_t piece, const char *want_start, const char *want_end)
{
    char *out = talk_whole(&rig, in, piece);
    size_t n = strlen(out), end = strlen(want_end);
    if (strncmp(out, want_start, strlen(want_start)) != 0 || n < end ||
        strcmp(out + n - end, want_end) != 0)
        fail_msg("for\n%s\ncame\n%s", in, out);
    free(out);
}

#define CLOSE "Host: a\r\nConnection: close\r\n"

static void answers_whole(void **state)
{
    check("GET /whole HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello");
    check("HEAD /whole HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK\r\n", "\r\n\r\n");
    check("GET /empty HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 204 No Content\r\n", "\r\n\r\n");
    check("GET /later HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK\r\n", "\r\n\r\nlater");
    check("GET /nothing HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 404 Not Found\r\n",
          "no such path");
    char *out =
        talk_whole(&rig, "GET /whole HTTP/1.1\r\n" CLOSE "X-Request-Id: abc.1\r\n\r\n", 1000);
    assert_non_null(strstr(out, "\r\nx-request-id: abc.1\r\n"));
    assert_non_null(strstr(out, "\r\ncontent-length: 5\r\n"));
    assert_non_null(strstr(out, "\r\nx-test: yes\r\n"));
    assert_non_null(strstr(out, " GMT\r\n"));
    assert_null(strstr(out, "transfer-encoding"));
    free(out);
    out = talk_whole(&rig, "GET /whole HTTP/1.1\r\n" CLOSE "X-Request-Id: a b\"<>\r\n\r\n", 1000);
    assert_non_null(strstr(out, "\r\nx-request-id: req_"));
    free(out);
}

static void streams_in_chunks(void **state)
{
    check("GET /stream HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK\r\n",
          "\r\n\r\n7\r\npart 0\n\r\n7\r\npart 1\n\r\n7\r\npart 2\n\r\n7\r\npart 3\n\r\n7\r\npart "
          "4\n\r\n"
          "0\r\n\r\n");
    check("GET /stream HTTP/1.0\r\n\r\n", 1000, "HTTP/1.1 200 OK\r\n",
          "\r\n\r\npart 0\npart 1\npart 2\npart 3\npart 4\n");
    check("HEAD /stream HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK\r\n",
          "x-test: yes\r\n\r\n");
}

static void reads_bodies_in_pieces_of_any_size(void **state)
{
    for (size_t piece = 1; piece < 120; piece += 3) {
        check("POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 11\r\n\r\nhello world", piece,
              "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello world");
        check("POST /echo HTTP/1.1\r\n" CLOSE
              "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
              piece, "HTTP/1.1 200 OK\r\n", "\r\n\r\nhello world");
    }
}

static void keeps_the_order_of_a_pipeline(void **state)
{
    static const char in[] = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
                             "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nONE"
                             "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"
                             "HEAD /whole HTTP/1.1\r\nHost: a\r\n\r\n"
                             "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "3\r\nTWO\r\n0\r\n\r\n"
                             "GET /whole HTTP/1.1\r\n" CLOSE "\r\n";
    for (size_t piece = 1; piece <= sizeof(in); piece = piece * 2 + 1) {
        char *out = talk_whole(&rig, in, piece);
        static const char *const order[] = {
            "later", "ONE", "part 4", "0\r\n\r\n", "content-length: 5", "TWO", "hello"};
        const char *at = out;
        for (size_t i = 0; i < COUNT_OF(order); i++) {
            at = strstr(at, order[i]);
            assert_non_null(at);
        }
        free(out);
    }
}

static void keeps_http_1_0_open_when_asked(void **state)
{
    char *out = talk_whole(&rig,
                           "GET /whole HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                           "GET /whole HTTP/1.0\r\n\r\n",
                           1000);
    assert_non_null(strstr(out, "connection: keep-alive"));
    assert_non_null(strstr(out, "connection: close"));
    free(out);
}

static void says_continue(void **state)
{
    struct talk talk;
    talk_start(&talk, &rig,
               "POST /echo HTTP/1.1\r\n" CLOSE "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
               1000);
    talk.out_wanted = 25;
    rig_run(&rig, &talk.enough);
    assert_string_equal(talk.out, "HTTP/1.1 100 Continue\r\n\r\n");
    struct iovec part = {"ok", 2};
    size_t n;
    assert_int_equal(stream_write(talk.stream, &part, 1, &n), RC_OK);
    rig_run(&rig, &talk.closed);
    assert_non_null(strstr(talk.out, "\r\n\r\nok"));
    talk_end(&talk);
    check("POST /echo HTTP/1.1\r\n" CLOSE "Expect: more\r\nContent-Length: 2\r\n\r\nok", 1000,
          "HTTP/1.1 417 ", "\n");
}

static void refuses_before_the_body(void **state)
{
    check("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\nbody...", 1000,
          "HTTP/1.1 403 ", "refused");
    check("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 1000,
          "HTTP/1.1 413 ", "\n");
    /* A body without end is cut at the bound as it comes. */
    size_t n = 11 * 1024 * 1024;
    char *in = malloc(n + 1);
    memset(in, 'x', n);
    in[n] = 0;
    static const char head[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb00000\r\n";
    memcpy(in, head, sizeof(head) - 1);
    check(in, 1 << 20, "HTTP/1.1 413 ", "\n");
    free(in);
}

static void refuses_what_is_wrong(void **state)
{
    check("GET / HTTP/1.1\r\n\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("nonsense\r\n\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /../etc/passwd HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /%2e%2e/etc HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /a/.. HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /a/./b HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /a%00b HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /a%0d%0ab HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("GET /%zz HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("OPTIONS * HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 400 ", "\n");
    check("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 1,
          "HTTP/1.1 400 ", "\n");
    /* What was smuggled behind a refused request is never answered. */
    check(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET /whole HTTP/1.1\r\nHost: a\r\n\r\n",
        1000, "HTTP/1.1 400 ",
        "\"type\":\"invalid_request_error\",\"code\":"
        "\"invalid_request\"}}\n");
    assert_int_equal(rig.handled, 0);
}

static void reads_targets(void **state)
{
    check("GET http://host:80/info?a=b HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK",
          "GET /info ? a=b (2 headers) body 0 \n");
    check("GET /inf%6f?a=%20#f HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 200 OK",
          "GET /info ? a=%20 (2 headers) body 0 \n");
    check("GET /.well-known/x..y HTTP/1.1\r\n" CLOSE "\r\n", 1000, "HTTP/1.1 404 ", "no such path");
}

static void bounds_the_head(void **state)
{
    size_t n = LIMIT_HEADER_BYTES + 100;
    char *in = malloc(n + 1);
    memset(in, 'x', n);
    in[n] = 0;
    memcpy(in, "GET /", 5);
    check(in, 30000, "HTTP/1.1 414 ", "\n");
    memcpy(in, "GET / HTTP/1.1\r\nA: ", 19);
    check(in, 30000, "HTTP/1.1 431 ", "\n");
    free(in);
    char many[8192] = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (int i = 0; i < 200; i++)
        strcat(many, "A: b\r\n");
    strcat(many, "\r\n");
    check(many, 30000, "HTTP/1.1 431 ", "\n");
}

static void headers_cannot_be_injected(void **state)
{
    char *out = talk_whole(&rig, "GET /headers HTTP/1.1\r\n" CLOSE "\r\n", 1000);
    assert_null(strstr(out, "x-injected"));
    assert_null(strstr(out, "x-bad"));
    assert_null(strstr(out, "x bad"));
    free(out);
}

static void breaks_off_so_that_the_client_sees_it(void **state)
{
    char *out = talk_whole(&rig, "GET /abort HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    assert_null(strstr(out, "0\r\n\r\n"));
    free(out);
}

static void sends_large_answers(void **state)
{
    struct talk talk;
    talk_start(&talk, &rig, "GET /large?9000000 HTTP/1.1\r\n" CLOSE "\r\n", 1000);
    rig_run(&rig, &talk.closed);
    assert_true(talk.out_bytes > 9000000 && talk.out_bytes < 9001000);
    assert_int_equal(talk.out[talk.out_bytes - 1], 'L');
    talk_end(&talk);
    talk_start(&talk, &rig, "GET /big?9000000 HTTP/1.0\r\n\r\n", 1000);
    rig_run(&rig, &talk.closed);
    assert_int_equal(strspn(strstr(talk.out, "\r\n\r\n") + 4, "b"), 9000000);
    talk_end(&talk);
}

static void fetch_one(const char *path)
{
    struct fetch fetch;
    fetch_run(&rig, &fetch, rig_origin(&rig), "GET", path, STR_EMPTY);
    assert_int_equal(fetch.status, 200);
    fetch_fini(&fetch);
}

static void a_client_that_does_not_read_stops_the_producer(void **state)
{
    struct talk talk;
    talk_start(&talk, &rig, "GET /big?200000000 HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    talk.paused = true;
    while (rig.stops == 0)
        fetch_one("/whole"); /* other clients are served meanwhile */
    size_t stops = rig.stops;
    fetch_one("/later");
    assert_int_equal(rig.stops, stops); /* and nobody goes on by himself */
    talk_end(&talk);
}

static void tells_when_the_client_leaves(void **state)
{
    struct talk talk;
    talk_start(&talk, &rig, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    for (unsigned fetched = 0; rig.handled == fetched; fetched++)
        fetch_one("/later");
    assert_int_equal(rig.gone, 0);
    talk_end(&talk);
    while (rig.gone == 0)
        fetch_one("/later");
    assert_int_equal(rig.gone, 1);
}

static void an_answer_for_a_client_that_left_is_thrown_away(void **state)
{
    struct talk talk;
    talk_start(&talk, &rig, "GET /later-not-told HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    for (unsigned fetched = 0; rig.handled == fetched; fetched++)
        fetch_one("/later");
    assert_true(rig.ended < rig.handled);
    talk_end(&talk);
    while (rig.ended < rig.handled)
        fetch_one("/later");
    assert_int_equal(rig.gone, 0);
}

static void stalls_end(void **state)
{
    check("GET /whole HTTP/1.1\r\nHost: a\r\n", 1000, "HTTP/1.1 408 ", "\n");
    check("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", 1000, "HTTP/1.1 408 ",
          "\n");
    check("", 1000, "", "");
    check("GET /whole HTTP/1.1\r\nHost: a\r\n\r\n", 1000, "HTTP/1.1 200 OK", "hello");
    struct talk talk;
    talk_start(&talk, &rig, "GET /large?9000000 HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    talk.paused = true;
    unsigned handled = rig.handled;
    while (rig.handled == handled || rig.ended < rig.handled) {
        fetch_one("/later");
        handled++;
    }
    talk_end(&talk);
}

static void the_longest_idle_makes_room(void **state)
{
    struct talk talks[4];
    for (int i = 0; i < 4; i++) {
        talk_start(&talks[i], &rig, "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
        talks[i].out_wanted = 1;
        rig_run(&rig, &talks[i].enough);
    }
    struct http_server_stats stats;
    http_server_stats(rig.server, &stats);
    assert_int_equal(stats.connections_now, 2);
    assert_int_equal(stats.connections_total, 4);
    for (int i = 0; i < 4; i++)
        talk_end(&talks[i]);
}

static void drained(void *arg) { *(bool *)arg = true; }

static void drains(void **state)
{
    struct talk idle, busy;
    talk_start(&idle, &rig, "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    idle.out_wanted = 1;
    rig_run(&rig, &idle.enough);
    talk_start(&busy, &rig, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    busy.out_wanted = 1;
    rig_run(&rig, &busy.enough);
    bool done = false;
    http_server_drain(rig.server, drained, &done);
    assert_false(done);
    rig_run(&rig, &done);
    rig_run(&rig, &idle.closed);
    rig_run(&rig, &busy.closed);
    assert_non_null(strstr(busy.out, "part 4\n\r\n0\r\n\r\n"));
    talk_end(&idle);
    talk_end(&busy);
}

static void ask_again(struct talk *talk, const char *request)
{
    struct iovec part = {(char *)request, strlen(request)};
    size_t n;
    assert_int_equal(stream_write(talk->stream, &part, 1, &n), RC_OK);
    assert_int_equal(n, strlen(request));
}

/* Neither a request that already lies in the socket nor the first of a connection just accepted is
 * lost; a connection that then says nothing does not hold the drain up. */
static void a_drain_answers_what_is_on_its_way(void **state)
{
    struct talk kept, fresh, silent;
    talk_start(&kept, &rig, "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n", 1000);
    kept.out_wanted = 1;
    rig_run(&rig, &kept.enough);
    talk_start(&fresh, &rig, "", 1000);
    talk_start(&silent, &rig, "", 1000);
    struct http_server_stats stats = {0};
    while (stats.connections_total < 4) { /* these three, and the one that fetches */
        fetch_one("/whole");
        http_server_stats(rig.server, &stats);
    }
    size_t before = kept.out_bytes;
    ask_again(&kept, "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n");
    bool done = false;
    http_server_drain(rig.server, drained, &done);
    rig_run(&rig, &kept.closed);
    assert_non_null(strstr(kept.out + before, "connection: close"));
    assert_non_null(strstr(kept.out + before, "hello"));
    assert_false(fresh.closed);
    ask_again(&fresh, "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_run(&rig, &fresh.closed);
    assert_non_null(strstr(fresh.out, "hello"));
    assert_false(done);
    rig_run(&rig, &done);
    rig_run(&rig, &silent.closed);
    assert_int_equal(silent.out_bytes, 0);
    talk_end(&kept);
    talk_end(&fresh);
    talk_end(&silent);
}

#define T(test)       cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define T_SHORT(test) cmocka_unit_test_setup_teardown(test, set_up_short_timeouts, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(answers_whole),
        T(streams_in_chunks),
        T(reads_bodies_in_pieces_of_any_size),
        T(keeps_the_order_of_a_pipeline),
        T(keeps_http_1_0_open_when_asked),
        T(says_continue),
        T(refuses_before_the_body),
        T(refuses_what_is_wrong),
        T(reads_targets),
        T(bounds_the_head),
        T(headers_cannot_be_injected),
        T(breaks_off_so_that_the_client_sees_it),
        T(sends_large_answers),
        T(a_client_that_does_not_read_stops_the_producer),
        T(tells_when_the_client_leaves),
        T(an_answer_for_a_client_that_left_is_thrown_away),
        T_SHORT(stalls_end),
        T_SHORT(the_longest_idle_makes_room),
        T(drains),
        T(a_drain_answers_what_is_on_its_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
