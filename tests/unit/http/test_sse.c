/* Server-sent events: the standard's rules in pieces of any size, bounds, and no quadratic cost. */
#include "http/sse.h"
#include "../test.h"
#include "base/limits.h"
#include <stdio.h>
#include <stdlib.h>

/* Events are noted as "name|id|data\n" with LF in data shown as ~, a missing data as -. */
struct log {
    char text[4096];
    size_t n;
    struct buf raw;
};

static enum rc note(void *arg, const struct sse_event *event)
{
    struct log *log = arg;
    log->n += (size_t)snprintf(log->text + log->n, sizeof(log->text) - log->n, "%.*s|%.*s|",
                               STR_ARG(event->name), STR_ARG(event->id));
    for (size_t i = 0; i < event->data.n; i++)
        log->text[log->n++] = event->data.p[i] == '\n' ? '~' : event->data.p[i];
    if (!event->data.p)
        log->text[log->n++] = '-';
    log->text[log->n++] = '\n';
    log->text[log->n] = 0;
    assert_int_equal(buf_append(&log->raw, event->raw), RC_OK);
    return RC_OK;
}

static const struct {
    const char *in, *want;
} cases[] = {
    {"data: a\n\n", "||a\n"},
    {"data: a\r\n\r\ndata: b\r\n\r\n", "||a\n||b\n"},
    {"data: a\r\rdata: b\r\r", "||a\n||b\n"},
    {"data:a\ndata:  b\ndata\n\n", "||a~ b~\n"},
    {"event: ping\nid: 7\ndata: {}\n\n", "ping|7|{}\n"},
    {": keep-alive\n\ndata: x\n\n", "||-\n||x\n"},
    {"\xef\xbb\xbf"
     "data: mark\n\n",
     "||mark\n"},
    {"data: x\n\n\ndata: y\n\n", "||x\n||-\n||y\n"},
    {"retry: 5\nunknown: z\ndata: q\n\n", "||q\n"},
    {"data: never complete\n", ""},
    {"data: mixed\r\ndata: ends\n\r\n", "||mixed~ends\n"},
};

static void run(const char *in, size_t n, size_t piece, struct log *log)
{
    struct sse_parser parser;
    sse_parser_init(&parser);
    *log = (struct log){0};
    buf_init(&log->raw, 65536);
    for (size_t at = 0; at < n; at += piece) {
        /* A copy of exact size, so that AddressSanitizer sees what is read beyond it. */
        size_t take = MIN(piece, n - at);
        char *copy = malloc(take);
        memcpy(copy, in + at, take);
        assert_int_equal(sse_parse(&parser, str_make(copy, take), note, log), RC_OK);
        free(copy);
    }
    sse_parser_fini(&parser);
}

static void parses_as_the_standard_says_in_pieces_of_any_size(void **state)
{
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t n = strlen(cases[i].in);
        for (size_t piece = 1; piece <= n; piece++) {
            struct log log;
            run(cases[i].in, n, piece, &log);
            assert_string_equal(log.text, cases[i].want);
            buf_fini(&log.raw);
        }
    }
}

static void raw_bytes_pass_unchanged(void **state)
{
    const char *in = "event: a\ndata: 1\n\n: c\n\ndata: 2\r\n\r\n";
    for (size_t piece = 1; piece <= strlen(in); piece++) {
        struct log log;
        run(in, strlen(in), piece, &log);
        struct str raw = buf_str(&log.raw);
        if (raw.n != strlen(in)) /* the LF of a CRLF that was cut apart may be missing at the end */
            assert_int_equal(raw.n, strlen(in) - 1);
        assert_memory_equal(raw.p, in, raw.n);
        buf_fini(&log.raw);
    }
}

static void an_event_without_end_is_bounded(void **state)
{
    struct sse_parser parser;
    sse_parser_init(&parser);
    char piece[65536];
    memset(piece, 'x', sizeof(piece));
    enum rc rc = RC_OK;
    size_t n = 0;
    struct log log = {0};
    for (; rc == RC_OK && n <= LIMIT_SSE_EVENT_BYTES; n += sizeof(piece))
        rc = sse_parse(&parser, str_make(piece, sizeof(piece)), note, &log);
    assert_int_equal(rc, RC_LIMIT);
    sse_parser_fini(&parser);
}

static void one_byte_at_a_time_is_not_quadratic(void **state)
{
    struct sse_parser parser;
    sse_parser_init(&parser);
    struct log log = {0};
    for (int i = 0; i < 2000000; i++)
        assert_int_equal(sse_parse(&parser, STR("x"), note, &log), RC_OK);
    sse_parser_fini(&parser);
}

static void appended_events_parse_again(void **state)
{
    struct buf out;
    buf_init(&out, 65536);
    assert_int_equal(sse_append(&out, STR("call"), STR("12"), STR("a\nb\r\n\nc")), RC_OK);
    assert_int_equal(sse_append(&out, STR_EMPTY, STR_EMPTY, STR_EMPTY), RC_OK);
    struct log log;
    run(buf_str(&out).p, buf_str(&out).n, 1000, &log);
    assert_string_equal(log.text, "call|12|a~b~~c\n||\n");
    buf_fini(&log.raw);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_as_the_standard_says_in_pieces_of_any_size),
        cmocka_unit_test(raw_bytes_pass_unchanged),
        cmocka_unit_test(an_event_without_end_is_bounded),
        cmocka_unit_test(one_byte_at_a_time_is_not_quadratic),
        cmocka_unit_test(appended_events_parse_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
