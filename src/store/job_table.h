/* The rows of durable jobs. Their meaning is job/job.h's; here is only the SQL. */
#pragma once
#include "store/db.h"

struct job_row {
    struct id id, project;
    struct str kind, state, params; /* params: JSON */
    int64_t done, total;
    struct str unit, message, result, error;
    int64_t attempt, attempts_max;
    int64_t run_after_ns;
    bool cancel_asked;
    struct str author;
    int64_t created_ns, started_ns, finished_ns; /* 0: not yet */
};

enum rc job_table_insert(struct db_txn *txn, const struct job_row *row, struct err *err) MUST_CHECK;
/* Everything that changes while a job runs. */
enum rc job_table_update(struct db_txn *txn, const struct job_row *row, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. A zero project: any (the runner's own). Texts live in the arena. */
enum rc job_table_get(struct db_txn *txn, struct id project, struct id job, struct arena *arena,
                      struct job_row *out, struct err *err) MUST_CHECK;
/* Newest first, made before `before_ns` (0: from the newest); `state` empty: any. */
enum rc job_table_list(struct db_txn *txn, struct id project, struct str state, int64_t before_ns,
                       size_t limit, struct arena *arena, struct job_row **rows, size_t *count,
                       struct err *err) MUST_CHECK;
/* Queued or running rows of all projects, oldest first: what a runner starts with. */
enum rc job_table_open(struct db_txn *txn, size_t limit, struct arena *arena, struct job_row **rows,
                       size_t *count, struct err *err) MUST_CHECK;
/* The open job of this kind with exactly these parameters; RC_NOT_FOUND without an error's text. */
enum rc job_table_find_open(struct db_txn *txn, struct id project, struct str kind,
                            struct str params, struct arena *arena, struct job_row *out,
                            struct err *err) MUST_CHECK;
/* Ended jobs older than `before_ns` are deleted; *count tells how many. */
enum rc job_table_prune(struct db_txn *txn, int64_t before_ns, int64_t *count,
                        struct err *err) MUST_CHECK;
