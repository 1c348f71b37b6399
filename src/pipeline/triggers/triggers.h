/* What happens by itself: schedules that come due, and webhooks that tell that a run has ended.
 * Both are durable jobs (job/job.h). A schedule's time and the job of its run are one transaction,
 * and the run's id is the job's, so each time makes one run, whatever is killed or upgraded in
 * between. */
#pragma once
#include "job/job.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/triggers/trigger.h"
#include "store/schedule_table.h"

struct triggers;

struct triggers_options {
    struct loop *loop; /* loop 0, the jobs' */
    struct db *db;
    struct jobs *jobs;
    struct pipelines *pipelines;
    struct worker_pool *workers;
    const struct secret_box *secrets;
};

struct triggers *triggers_new(const struct triggers_options *options); /* before jobs_begin */
void triggers_begin(struct triggers *triggers); /* before the loop runs, or on it */
void triggers_stop(struct triggers *triggers);  /* on the loop: nothing comes due any more */
void triggers_free(struct triggers *triggers);  /* when the loop has ended */

/* Write transactions: schedules were changed; looked at when the transaction is committed. */
void triggers_wake(struct triggers *triggers);
/* The row of a schedule that was made or changed; `keep` (may be NULL): as it was. */
enum rc triggers_put_schedule(struct db_txn *txn, const struct trigger *trigger,
                              const struct schedule_row *keep, struct arena *arena,
                              struct err *err) MUST_CHECK;
/* A job that runs the schedule's pipeline now; its id is the run's. */
enum rc triggers_fire(struct triggers *triggers, struct db_txn *txn, const struct trigger *trigger,
                      int64_t for_ns, struct str author, struct arena *arena, struct job_row *out,
                      struct err *err) MUST_CHECK;
/* A job that tells `url` when the run with the job's id has ended: start that run next. */
enum rc triggers_notify(struct triggers *triggers, struct db_txn *txn, struct id project,
                        struct str url, struct str secret, struct str author, struct arena *arena,
                        struct job_row *out, struct err *err) MUST_CHECK;
