/* On whose behalf, until when, and as part of what something asynchronous happens. Every such
 * function takes one; it and what it points to must live until the function has told its end. */
#pragma once
#include "base/arena.h"
#include "govern/key.h"
#include "govern/principal.h"

struct trace_context {
    uint8_t trace_id[16], parent_id[8]; /* W3C; parent all zero: a root */
};

struct scope {
    const struct principal *principal;
    const struct key
        *key; /* whose limits, globs and defaults hold; NULL: a console session or internal */
    int64_t deadline_ns; /* monotonic; 0: none but the route's own */
    int64_t
        budget_pico; /* at most this much may be spent; COST_UNKNOWN: no bound but the limits' */
    bool inside; /* part of a call that was admitted: the key's models and its counts of requests do
                    not concern it, what it costs does */
    struct trace_context trace; /* the span that this becomes a child of */
    struct arena *arena;        /* freed by the caller, after the end was told */
};

/* From a request's traceparent (W3C); a new root when it is none. */
void trace_context_read(struct str traceparent, struct trace_context *out);
#define TRACEPARENT_BYTES 56 /* with NUL */
void trace_context_format(const uint8_t trace_id[16], const uint8_t span_id[8],
                          char out[TRACEPARENT_BYTES]);
