/* `capstan bench`: a load generator. See bench.c for the command, bench_load.c for how load is
 * made. */
#pragma once
#include "base/histogram.h"
#include "http/client.h"

#define BENCH_PIDS_MAX 32

struct bench_options {
    struct url url;
    struct str url_text, method, body;
    struct http_header headers[32];
    size_t header_count;
    struct str ca_file;
    bool http2;
    double rate;      /* requests a second, whatever the answers; 0: closed */
    int64_t parallel; /* closed: so many at a time */
    int64_t connections_max;
    int64_t warmup_ns, duration_ns, timeout_ns;
    pid_t pids[BENCH_PIDS_MAX]; /* processes whose CPU and memory are measured */
    size_t pid_count;
};

/* Processor time and memory of some processes, all threads. */
struct bench_usage {
    int64_t cpu_ns;
    int64_t resident_bytes;
};
/* RC_NOT_FOUND: one has ended. */
enum rc bench_usage_read(const pid_t *pids, size_t count, struct bench_usage *out) MUST_CHECK;

struct bench_result {
    uint64_t sent, completed, not_2xx, failed,
        unanswered; /* within the measured time, but sent: all */
    uint64_t events, body_bytes;
    int64_t measured_ns;
    struct histogram latency_ns; /* from when the request should have been sent to the last byte */
    struct histogram first_byte_ns; /* … to the first byte of the answer's body */
    struct bench_usage before, after;
    int64_t resident_bytes_max;
    uint64_t connects;
    char first_error[ERR_MESSAGE_BYTES_MAX];
};

/* Runs a loop on this thread until the load has been applied and answered. */
enum rc bench_run(const struct bench_options *options, struct bench_result *result,
                  struct err *err) MUST_CHECK;
