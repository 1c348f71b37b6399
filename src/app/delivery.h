/* Call records of a process that no longer writes: after an upgrade (handover.h) the old process
 * finishes its streams and sends their records to the new one, by HTTP over a Unix socket in the
 * data folder. A record leaves the queue when the new process said that it is durable; after a
 * failure it is sent again, and the receiver leaves out what it has already. */
#pragma once
#include "io/worker.h"
#include "trace/trace.h"

/* ---- sending: the old process ---- */
struct delivery;

/* `directory`: the data folder; `trace`: how to open the store, for the case that at the end nobody
 * is there to take the records. Both outlive it. Loop 0. */
struct delivery *delivery_new(struct loop *loop, struct worker_pool *workers, const char *directory,
                              const struct trace_options *trace);
void delivery_free(struct delivery *delivery);
/* For trace_release: any thread. The waiter (may be NULL) is told when the record is durable. */
void delivery_submit(void *delivery, struct str bytes, struct trace_waiter *waiter);
/* The successor serves: send. */
void delivery_begin(struct delivery *delivery);
/* `done` once nothing waits any more; from then on nothing may be submitted. */
void delivery_finish(struct delivery *delivery, void (*done)(void *arg), void *arg);

/* ---- receiving: the process that writes ---- */
struct receiver;

/* Takes the place of a receiver before it. NULL: err says why. */
struct receiver *receiver_new(struct loop *loop, struct worker_pool *workers, const char *directory,
                              struct trace_store *trace, struct err *err);
/* Takes no more, before the role is handed over. Loop 0. */
void receiver_stop(struct receiver *receiver);
void receiver_free(struct receiver *receiver); /* after the workers have ended */
