/* Durable jobs: long work that was promised. A job is a row, so it survives a restart: what ran
 * then is started again (its kind goes on where it can, or fails with the reason). Jobs run as
 * state machines on one loop, the runner's; a kind that blocks uses the worker pool. Progress and
 * state go out as events.
 *
 * States: queued → running → done | failed | cancelled; running → queued when an attempt failed and
 * more are left (exponential backoff). */
#pragma once
#include "io/worker.h"
#include "job/event.h"
#include "store/audit.h"
#include "store/job_table.h"
#include <yyjson.h>

struct jobs;
struct job_run; /* one attempt under way */

/* A kind of job. The functions run on the runner's loop. */
struct job_kind {
    const char *name; /* "model_pull" */
    int attempts_max;
    size_t parallel_max; /* of this kind; 0: no bound of its own */
    /* Begins; returns a handle for `cancel`, or NULL after job_finish. `params`: as submitted. */
    void *(*start)(void *arg, struct job_run *run, yyjson_val *params);
    /* Asked to stop: ends with job_finish (ERR_CANCELLED) soon. */
    void (*cancel)(void *arg, void *handle);
    void *arg;
};

#define JOB_KINDS_MAX 32
#define JOBS_OPEN_MAX 1000 /* queued and running */

struct jobs *jobs_new(struct loop *loop, struct db *db, struct event_bus *events);
void jobs_free(struct jobs *jobs);                                  /* nothing may run any more */
void jobs_register(struct jobs *jobs, const struct job_kind *kind); /* before jobs_begin */
/* Takes up what an earlier process left. The runner's thread, before the loop runs or on it. */
void jobs_begin(struct jobs *jobs);
/* On the loop: cancels nothing, starts nothing more; what runs is taken up by the next process. */
void jobs_stop(struct jobs *jobs);

/* ---- asking: write and read transactions of any thread ---- */

/* The row is durable when the transaction is; the runner starts it then. `params`: JSON object.
 * *out (texts in the arena) is the job as the API shows it. RC_LIMIT: too many are open. */
enum rc job_submit(struct jobs *jobs, struct db_txn *txn, struct id project, const char *kind,
                   struct str params, struct str author, struct arena *arena, struct job_row *out,
                   struct err *err) MUST_CHECK;
/* A queued one ends now, a running one soon. ERR_CONFLICT: it has ended already. */
enum rc job_cancel(struct jobs *jobs, struct db_txn *txn, struct id project, struct id job,
                   struct arena *arena, struct job_row *out, struct err *err) MUST_CHECK;
/* The row with the progress of a running job brought up to date. Any thread. */
void job_refresh(struct jobs *jobs, struct job_row *row, struct arena *arena);

/* ---- for kinds: the runner's loop ---- */

/* Total 0: not known. Told to watchers a few times a second, to the disk now and then. */
void job_progress(struct job_run *run, int64_t done, int64_t total, const char *unit,
                  struct str message);
/* err NULL: done, with `result` (JSON or empty). The run is freed. May be called from
 * within `start`. */
void job_finish(struct job_run *run, struct str result, const struct err *err);
struct id job_run_project(const struct job_run *run);
struct id job_run_id(const struct job_run *run);

/* The job as JSON, for API and events: {id, kind, state, progress: {…}, result, error, …}. */
yyjson_mut_val *job_encode(const struct job_row *row, yyjson_mut_doc *doc);
