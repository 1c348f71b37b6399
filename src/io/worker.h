/* The worker pool: threads for whatever blocks or burns CPU. A job's `work` runs on a worker; its
 * `done` runs back on the loop that submitted it. The queue is bounded. */
#pragma once
#include "io/loop.h"

struct worker_pool;

struct work {
    struct task task; /* private */
    struct loop *home;
    void (*work)(struct work *work); /* on a worker */
    void (*done)(struct work *work); /* on `home`; NULL: nobody waits and `work` frees it */
};

struct worker_pool *worker_pool_new(int threads, size_t queue_max);
void worker_pool_free(struct worker_pool *pool); /* finishes what is queued */
/* RC_LIMIT when the queue is full: answer 503. Any thread; `home` defaults to loop_current(). */
enum rc worker_submit(struct worker_pool *pool, struct work *work) MUST_CHECK;
