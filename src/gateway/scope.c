/* Trace context in and out: https://www.w3.org/TR/trace-context/ */
#include "gateway/scope.h"
#include "base/hash.h"
#include "base/rand.h"
#include <string.h>

static void fill_random(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = rand_u64() | 1; /* never all zero, which the standard forbids */
        memcpy(out + i, &word, MIN((size_t)8, n - i));
    }
}

static void make_root(struct trace_context *out)
{
    fill_random(out->trace_id, sizeof(out->trace_id));
    memset(out->parent_id, 0, sizeof(out->parent_id));
}

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return any == 0;
}

void trace_context_read(struct str s, struct trace_context *out)
{
    /* "00-" 32 hex "-" 16 hex "-" 2 hex; later versions may be longer. */
    bool shape = s.n >= 55 && s.p[2] == '-' && s.p[35] == '-' && s.p[52] == '-' &&
                 !str_starts(s, STR("ff")) && (s.n == 55 || !str_starts(s, STR("00")));
    if (shape && hex_decode(str_slice(s, 3, 35), out->trace_id, 16) == RC_OK &&
        hex_decode(str_slice(s, 36, 52), out->parent_id, 8) == RC_OK &&
        !all_zero(out->trace_id, 16) && !all_zero(out->parent_id, 8))
        return;
    make_root(out);
}

void trace_context_format(const uint8_t trace_id[16], const uint8_t span_id[8],
                          char out[TRACEPARENT_BYTES])
{
    memcpy(out, "00-", 3);
    hex_encode(trace_id, 16, out + 3);
    out[35] = '-';
    hex_encode(span_id, 8, out + 36);
    memcpy(out + 52, "-01", 4);
}
