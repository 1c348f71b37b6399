/* The second kind of loop: a virtual clock and sockets in memory, for tests that explore what a
 * network may do. All that happens follows from a seed, so a failure is repeated by its number.
 *
 *     struct sim_faults faults = SIM_FAULTS_DEFAULT;
 *     struct loop *loop = loop_sim_new(seed, &faults);
 *     ... listener_new(loop, …), stream_connect(loop, …) as on the real one ...
 *     enum sim_end end = loop_sim_run(loop, is_done, &test, 60 * NS_PER_S);
 *     loop_free(loop);
 *
 * Addresses live inside the loop: who listens on 10.0.0.1:80 is reached there. Any name resolves to
 * an address of its own, but for those that end in ".invalid". Descriptors (loop_watch) do not
 * exist here. While such a loop exists, the process's clocks (base/clock.h) answer its virtual
 * time, and rand_u64 on this thread follows from the seed. */
#pragma once
#include "io/loop.h"

struct sim_faults {
    unsigned short_percent;    /* reads and writes that move less than they could */
    unsigned spurious_percent; /* an event comes although nothing changed */
    unsigned late_percent;     /* an event comes up to late_ns_max later than its latency */
    unsigned reset_per_10000;  /* a transfer meets a connection reset */
    unsigned refuse_percent;   /* a connection is refused */
    unsigned lookup_fail_percent;
    int64_t latency_ns_max; /* of every event; each has its own, so they overtake each other */
    int64_t late_ns_max;
    size_t window_bytes_min; /* what a connection holds in flight each way; each has its own, */
    size_t window_bytes_max; /* between these */
};

/* A bad network without lost connections: everything must succeed on it. */
#define SIM_FAULTS_DEFAULT                                                                         \
    {.short_percent = 40,                                                                          \
     .spurious_percent = 5,                                                                        \
     .late_percent = 5,                                                                            \
     .latency_ns_max = 5000000,                                                                    \
     .late_ns_max = 300000000,                                                                     \
     .window_bytes_min = 1,                                                                        \
     .window_bytes_max = 64 * 1024}

enum sim_end {
    SIM_DONE, /* `is_done` said so */
    SIM_IDLE, /* nothing can happen any more: what is still awaited will never come */
    SIM_TIME, /* the virtual time has passed */
};

struct loop *loop_sim_new(uint64_t seed, const struct sim_faults *faults);
/* Takes turns until one of the above; `is_done` may be NULL. May be called again. */
enum sim_end loop_sim_run(struct loop *loop, bool (*is_done)(void *arg), void *arg,
                          int64_t virtual_ns_max);
/* From now on these faults. */
void loop_sim_set_faults(struct loop *loop, const struct sim_faults *faults);
/* 0 … n-1 from the seed, for choices of the test itself. */
uint64_t loop_sim_below(struct loop *loop, uint64_t n);
