/* What the wire tests share: arenas, an answer relayed with its output collected, texts compared.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gateway/provider_table.h"
#include "gateway/wire.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sink {
    struct buf out;
    int writes;
};

static inline void sink_write(void *arg, struct str bytes)
{
    struct sink *sink = arg;
    sink->writes++;
    assert_int_equal(buf_append(&sink->out, bytes), RC_OK);
}

#define assert_str(actual, expected) assert_str_at((actual), str_from(expected), __FILE__, __LINE__)

static inline void assert_str_at(struct str actual, struct str expected, const char *file, int line)
{
    if (str_eq(actual, expected))
        return;
    print_error("%s:%d\n  got      <%.*s>\n  expected <%.*s>\n", file, line, STR_ARG(actual),
                STR_ARG(expected));
    fail();
}

static inline struct str joined(const struct wire_call *call, struct arena *arena)
{
    struct str text = STR("");
    for (size_t i = 0; i < call->body_parts; i++)
        text = arena_concat(arena, text, call->body[i]);
    return text;
}

/* What a relay gave: the client's bytes, the last verdict, error and outcome. */
struct relayed {
    struct str out;
    enum wire_verdict verdict;
    struct err err;
    struct wire_outcome outcome;
};

/* Relays `body` cut into pieces of `piece` bytes (0: whole); everything lives in the arena. */
static inline void relay(struct arena *arena, const struct wire_answer_options *like,
                         struct str body, size_t piece, struct relayed *got)
{
    struct sink sink = {0};
    buf_init(&sink.out, 64 << 20);
    struct wire_answer_options options = *like;
    options.write = sink_write;
    options.arg = &sink;
    *got = (struct relayed){.verdict = WIRE_HOLD};
    struct wire_answer *answer = wire_answer_new(arena, &options);
    assert_non_null(answer);
    for (size_t at = 0; at < body.n && got->verdict != WIRE_FAILED;) {
        size_t n = piece ? MIN(piece, body.n - at) : body.n;
        char *copy = malloc(n); /* exact size: the sanitizer sees reads past the end */
        memcpy(copy, body.p + at, n);
        got->verdict = wire_answer_data(answer, str_make(copy, n), &got->err);
        free(copy);
        at += n;
    }
    if (got->verdict != WIRE_FAILED)
        got->verdict = wire_answer_end(answer, &got->err);
    if (got->verdict == WIRE_FAILED && sink.out.end > 0)
        wire_answer_break(answer, &got->err);
    wire_answer_outcome(answer, &got->outcome);
    got->out = arena_copy(arena, buf_str(&sink.out));
    wire_answer_fini(answer);
    buf_fini(&sink.out);
}
