/* The rows of pipelines: a pipeline's draft, and that it exists. What is published are versions of
 * the object of kind PIPELINE with the same name (store/object.h). */
#pragma once
#include "store/db.h"

struct pipeline_row {
    struct id project, id;
    struct str name, draft, author; /* draft: the definition as JSON */
    int64_t revision;               /* of the draft; grows with each save */
    int64_t created_ns, updated_ns;
};

/* ERR_CONFLICT when the name is taken. */
enum rc pipeline_table_insert(struct db_txn *txn, const struct pipeline_row *row,
                              struct err *err) MUST_CHECK;
/* Saves draft, author, revision and time. */
enum rc pipeline_table_update(struct db_txn *txn, const struct pipeline_row *row,
                              struct err *err) MUST_CHECK;
enum rc pipeline_table_delete(struct db_txn *txn, struct id project, struct str name,
                              struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. Texts live in the arena. */
enum rc pipeline_table_get(struct db_txn *txn, struct id project, struct str name,
                           struct arena *arena, struct pipeline_row *out,
                           struct err *err) MUST_CHECK;
/* By name, those after `after`; `search` (empty: all) is part of the name. One more than `limit`
 * when there are more. */
enum rc pipeline_table_list(struct db_txn *txn, struct id project, struct str after,
                            struct str search, size_t limit, struct arena *arena,
                            struct pipeline_row **rows, size_t *count, struct err *err) MUST_CHECK;
