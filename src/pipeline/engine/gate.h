/* How many runs are under way at once: of a pipeline (its settings), of a project and of the whole
 * server (capstan.yaml). Who finds no place waits in a bounded queue, one for each project; places
 * go round the projects in turn, so that one with a long queue does not hold up the others. A run
 * that waits for people gives its place away meanwhile, and takes it again without waiting. Where
 * no limit is set, nothing is counted.
 *
 * One gate for all loops, under a short lock; a run calls on its own loop. */
#pragma once
#include "base/err.h"
#include "base/id.h"

struct gate;
struct run;
struct run_request;

struct gate_limits {
    int64_t runs_max, project_runs_max; /* 0: no limit */
    int64_t queue_max;                  /* of a project */
};

struct gate *gate_new(const struct gate_limits *limits);
void gate_free(struct gate *gate);
/* Before a run is made: is there a place, or room in the queue? */
enum rc gate_check(struct gate *gate, const struct run_request *request,
                   struct err *err) MUST_CHECK;
/* RC_OK: it may go. RC_AGAIN: run_admitted comes. Else the queue is full. */
enum rc gate_enter(struct gate *gate, struct run *run, struct err *err) MUST_CHECK;
void gate_leave(struct gate *gate, struct run *run); /* also out of the queue */
void gate_pause(struct gate *gate, struct run *run, bool pause);
void run_admitted(struct run *run); /* run.c */
