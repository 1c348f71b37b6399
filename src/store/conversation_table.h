/* What conversations with pipelines keep from run to run (pipeline/engine/session.h). */
#pragma once
#include "store/db.h"

struct conversation_row {
    struct id project, last_run; /* the run that left it so */
    struct str pipeline, session;
    struct str variables, messages; /* JSON */
};

enum rc conversation_table_put(struct db_txn *txn, const struct conversation_row *row,
                               struct err *err) MUST_CHECK;
/* RC_NOT_FOUND, without an error. Texts live in the arena. */
enum rc conversation_table_get(struct db_txn *txn, struct id project, struct str pipeline,
                               struct str session, struct arena *arena,
                               struct conversation_row *out, struct err *err) MUST_CHECK;
enum rc conversation_table_delete_pipeline(struct db_txn *txn, struct id project,
                                           struct str pipeline, struct err *err) MUST_CHECK;
