/* When schedules run next and ran last: what changes by itself. What they are stands in objects of
 * kind TRIGGER of the same id. */
#pragma once
#include "store/db.h"

struct schedule_row {
    struct id project, id;
    int64_t next_ns; /* wall clock; INT64_MAX: never, or paused */
    int64_t last_ns; /* the time that the last run was for; 0: none yet */
    struct id last_run;
    int64_t fired, missed; /* counts */
};

/* Makes or replaces it. */
enum rc schedule_table_put(struct db_txn *txn, const struct schedule_row *row,
                           struct err *err) MUST_CHECK;
enum rc schedule_table_delete(struct db_txn *txn, struct id project, struct id id,
                              struct err *err) MUST_CHECK;
/* RC_NOT_FOUND, without an error. */
enum rc schedule_table_get(struct db_txn *txn, struct id project, struct id id,
                           struct schedule_row *out, struct err *err) MUST_CHECK;
/* Of all projects: those that are due at `now_ns`, the most overdue first. */
enum rc schedule_table_due(struct db_txn *txn, int64_t now_ns, size_t limit, struct arena *arena,
                           struct schedule_row **out, size_t *count, struct err *err) MUST_CHECK;
/* The next time of all projects; INT64_MAX: none. */
enum rc schedule_table_next(struct db_txn *txn, int64_t *next_ns, struct err *err) MUST_CHECK;
