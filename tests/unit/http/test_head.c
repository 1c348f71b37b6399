/* Heads and chunked bodies however they come, and what must be refused because it can be read in
 * two ways. */
#include "http/head.h"
#include "../test.h"
#include <stdio.h>
#include <stdlib.h>

static struct http_head head;

static int refusal(const char *text)
{
    size_t scanned = 0, n = http_head_find_end(str_from(text), &scanned);
    assert_true(n > 0);
    return http_head_parse_request(&head, str_make(text, n)) == RC_OK ? 0 : head.refusal;
}

static void the_end_is_found_however_the_head_comes(void **state)
{
    static const char text[] = "\r\nGET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nbody";
    for (size_t first = 0; first < sizeof(text) - 1; first++) {
        size_t scanned = 0;
        size_t n = http_head_find_end(str_make(text, first), &scanned);
        if (n == 0)
            n = http_head_find_end(str_make(text, sizeof(text) - 1), &scanned);
        assert_int_equal(n, sizeof(text) - 1 - 4);
    }
}

static void reads_a_request(void **state)
{
    assert_int_equal(
        refusal("POST /v1/x?y=1 HTTP/1.1\r\nHost: a:80\r\nEmpty:\r\nPadded:  b c \t\r\n"
                "Content-Length: 5\r\n\r\n"),
        0);
    assert_true(str_eq(head.method, STR("POST")));
    assert_true(str_eq(head.target, STR("/v1/x?y=1")));
    assert_int_equal(head.headers.count, 4);
    assert_true(str_eq(http_header_get(&head.headers, STR("padded")), STR("b c")));
    assert_int_equal(http_header_get(&head.headers, STR("empty")).n, 0);
    assert_int_equal(head.framing, HTTP_BODY_LENGTH);
    assert_int_equal(head.content_length, 5);
    assert_true(head.keep_alive);
    assert_int_equal(refusal("GET / HTTP/1.0\r\n\r\n"), 0);
    assert_false(head.keep_alive);
    assert_int_equal(refusal("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0);
    assert_true(head.keep_alive);
    assert_int_equal(refusal("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), 0);
    assert_false(head.keep_alive);
}

static void refuses_what_could_be_read_in_two_ways(void **state)
{
#define LINE "POST / HTTP/1.1\r\nHost: a\r\n"
    assert_int_equal(refusal(LINE "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Transfer-Encoding: identity\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501);
    assert_int_equal(refusal(LINE "Transfer-Encoding: chunked, chunked\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Transfer-Encoding: xchunked\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Transfer-Encoding : chunked\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: +1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: -1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: 1 1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: 0x1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: 1, 1\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "Content-Length: 99999999999999999999\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE " folded: x\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "A: b\r\n c\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "A b: c\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE ": c\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "A\r\n\r\n"), 400);
    assert_int_equal(refusal(LINE "A: b\rC: d\r\n\r\n"), 400);
    assert_int_equal(refusal("POST / HTTP/1.1\nHost: a\n\n"), 400);
    assert_int_equal(refusal("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
                     400);
#undef LINE
}

static void refuses_bad_hosts_methods_and_versions(void **state)
{
    assert_int_equal(refusal("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(refusal("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    static const char *const bad_hosts[] = {"",    "a b",  "a/b",  "a@b", ":80",
                                            "a:b", "[::1", "a..b", "a#"};
    for (size_t i = 0; i < COUNT_OF(bad_hosts); i++) {
        char text[128];
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", bad_hosts[i]);
        assert_int_equal(refusal(text), 400);
    }
    assert_int_equal(refusal("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0);
    assert_int_equal(refusal("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
    assert_int_equal(refusal("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
    assert_int_equal(refusal("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    assert_int_equal(refusal("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(refusal("GET / HTTP/0.9\r\nHost: a\r\n\r\n"), 505);
    assert_int_equal(refusal("GET /\r\n\r\n"), 505);
    assert_int_equal(refusal("FOO / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

static void answers_tell_how_their_body_ends(void **state)
{
    static const struct {
        const char *text;
        bool to_head;
        enum http_framing framing;
        bool keep_alive;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, HTTP_BODY_LENGTH, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, HTTP_BODY_NONE, true},
        {"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false, HTTP_BODY_CHUNKED, true},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, HTTP_BODY_NONE, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false, HTTP_BODY_NONE, true},
        {"HTTP/1.1 200 OK\r\n\r\n", false, HTTP_BODY_CLOSE, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false, HTTP_BODY_LENGTH, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(http_head_parse_response(&head, str_from(cases[i].text), cases[i].to_head),
                         RC_OK);
        assert_int_equal(head.framing, cases[i].framing);
        assert_int_equal(head.keep_alive, cases[i].keep_alive);
    }
    assert_int_equal(
        http_head_parse_response(
            &head,
            STR("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            false),
        RC_INVALID);
    assert_int_equal(http_head_parse_response(&head, STR("HTTP/1.1 042 X\r\n\r\n"), false),
                     RC_INVALID);
    assert_int_equal(http_head_parse_response(&head, STR("SSH-2.0-x\r\n\r\n"), false), RC_INVALID);
}

static void chunks_are_decoded_split_at_any_two_bytes(void **state)
{
    static const char text[] = "5\r\nhello\r\n3;x=\"y\"\r\nabc\r\n0\r\nTrailer: v\r\n\r\nGET /";
    size_t total = sizeof(text) - 1, want_used = total - 5;
    for (size_t a = 0; a <= want_used; a++)
        for (size_t b = a; b <= want_used; b++) {
            struct http_chunks chunks;
            http_chunks_init(&chunks);
            char copy[sizeof(text)], body[64];
            memcpy(copy, text, sizeof(text));
            size_t cuts[] = {0, a, b, total}, body_bytes = 0, used_all = 0;
            for (int i = 0; i < 3 && !chunks.done; i++) {
                size_t used, n;
                if (cuts[i] == cuts[i + 1])
                    continue;
                assert_int_equal(
                    http_chunks_decode(&chunks, copy + cuts[i], cuts[i + 1] - cuts[i], &used, &n),
                    RC_OK);
                memcpy(body + body_bytes, copy + cuts[i], n);
                body_bytes += n;
                used_all += used;
            }
            assert_true(chunks.done);
            assert_int_equal(used_all, want_used);
            assert_int_equal(body_bytes, 8);
            assert_memory_equal(body, "helloabc", 8);
        }
}

static void bad_chunks_are_refused(void **state)
{
    static const char *const bad[] = {
        "x\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX",
        "-5\r\n",
        "0x5\r\n",
        "5 \r\nhello\r\n",
        "\r\n",
        "5\r\nhello\n",
        "ffffffffffffffffff\r\n",
        "0\r\nA B: c\r\n",
        "0\r\n X: y\r\n\r\n",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct http_chunks chunks;
        http_chunks_init(&chunks);
        char *copy = strdup(bad[i]);
        size_t used, n;
        assert_int_equal(http_chunks_decode(&chunks, copy, strlen(copy), &used, &n), RC_INVALID);
        free(copy);
    }
}

static void trailers_without_end_are_bounded(void **state)
{
    struct http_chunks chunks;
    http_chunks_init(&chunks);
    char first[] = "0\r\n";
    size_t used, n;
    enum rc rc = http_chunks_decode(&chunks, first, 3, &used, &n);
    for (int i = 0; rc == RC_OK && i < 100000; i++) {
        char line[] = "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n";
        rc = http_chunks_decode(&chunks, line, sizeof(line) - 1, &used, &n);
    }
    assert_int_equal(rc, RC_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_is_found_however_the_head_comes),
        cmocka_unit_test(reads_a_request),
        cmocka_unit_test(refuses_what_could_be_read_in_two_ways),
        cmocka_unit_test(refuses_bad_hosts_methods_and_versions),
        cmocka_unit_test(answers_tell_how_their_body_ends),
        cmocka_unit_test(chunks_are_decoded_split_at_any_two_bytes),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(trailers_without_end_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
