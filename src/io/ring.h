/* A bounded queue of pointers, many producers, one consumer, without locks on the producer's side.
 */
#pragma once
#include "base/base.h"

struct ring;

struct ring *ring_new(size_t capacity); /* a power of two */
void ring_free(struct ring *ring);
bool ring_push(struct ring *ring, void *item) MUST_CHECK; /* any thread; false: full */
void *ring_pop(struct ring *ring);                        /* the consumer; NULL: empty */
/* The consumer sleeps until something is there or `timeout_ns` passed (< 0: for ever). */
void ring_wait(struct ring *ring, int64_t timeout_ns);
void ring_wake(struct ring *ring); /* any thread */
