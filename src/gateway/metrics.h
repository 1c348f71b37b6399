/* Counters of the gateway: one set a loop, written by that loop alone, added up when /metrics is
 * asked. */
#pragma once
#include "base/buf.h"
#include "trace/call.h"

/* METRIC(field, Prometheus name, help) of plain counters. */
#define GATEWAY_METRICS(METRIC)                                                                    \
    METRIC(attempts, "capstan_attempts_total", "Requests made to targets")                         \
    METRIC(attempts_failed, "capstan_attempts_failed_total",                                       \
           "Requests to targets that gave no answer to pass on")                                   \
    METRIC(retries, "capstan_retries_total", "Attempts after a call's first")                      \
    METRIC(fallbacks, "capstan_fallbacks_total", "Attempts at another target than the first")      \
    METRIC(cache_hits, "capstan_cache_hits_total", "Calls answered from the cache")                \
    METRIC(cache_misses, "capstan_cache_misses_total",                                             \
           "Calls of routes with a cache that were not in it")                                     \
    METRIC(refused_rate, "capstan_refused_rate_total", "Calls refused by a rate limit")            \
    METRIC(refused_budget, "capstan_refused_budget_total", "Calls refused by a budget")            \
    METRIC(breaker_skips, "capstan_breaker_skips_total",                                           \
           "Targets passed over because their breaker was open")                                   \
    METRIC(calls_parked, "capstan_calls_parked_total",                                             \
           "Streams whose requests were packed away while they flow")                              \
    METRIC(answer_bytes, "capstan_answer_bytes_total", "Bytes of answers sent to clients")         \
    METRIC(input_tokens, "capstan_input_tokens_total", "Tokens read by models")                    \
    METRIC(output_tokens, "capstan_output_tokens_total", "Tokens written by models")               \
    METRIC(cost_pico, "capstan_cost_picodollars_total",                                            \
           "Cost of calls with a known price, 1e-12 USD")                                          \
    METRIC(cost_unknown, "capstan_cost_unknown_total", "Calls without a known price")

#define METRICS_BUCKETS 16 /* of a duration: 1 ms · 2^i, the last one without bound */

struct metrics_histogram {
    uint64_t buckets[METRICS_BUCKETS], count;
    int64_t sum_ns;
};

struct gateway_metrics {
#define METRIC(field, name, help) uint64_t field;
    GATEWAY_METRICS(METRIC)
#undef METRIC
    uint64_t calls[CALL_STATUS_COUNT];
    int64_t calls_now;
    struct metrics_histogram duration, first_token,
        overhead; /* overhead: ours, without the upstream */
};

/* The loop's own set; registered until it is given back. */
struct gateway_metrics *metrics_loop_new(void);
void metrics_loop_free(struct gateway_metrics *metrics);
void metrics_observe(struct metrics_histogram *histogram, int64_t ns);
/* All loops added up, in Prometheus text format. Any thread. */
enum rc gateway_metrics_render(struct buf *out) MUST_CHECK;
