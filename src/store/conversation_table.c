/* See conversation_table.h. */
#include "store/conversation_table.h"
#include "store/sql.h"

enum rc conversation_table_put(struct db_txn *txn, const struct conversation_row *row,
                               struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO conversations(project, pipeline, session, variables, messages,"
                    " last_run, updated_ns) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                    " ON CONFLICT(project, pipeline, session) DO UPDATE SET"
                    " variables = excluded.variables, messages = excluded.messages,"
                    " last_run = excluded.last_run, updated_ns = excluded.updated_ns",
                    SQL_BIND(sql_id(&row->project), sql_text(row->pipeline), sql_text(row->session),
                             sql_text(row->variables), sql_text(row->messages),
                             sql_id(&row->last_run), sql_i64(db_txn_now_ns(txn))),
                    err);
}

enum rc conversation_table_get(struct db_txn *txn, struct id project, struct str pipeline,
                               struct str session, struct arena *arena,
                               struct conversation_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT variables, messages, last_run FROM conversations"
                           " WHERE project = ?1 AND pipeline = ?2 AND session = ?3",
                           SQL_BIND(sql_id(&project), sql_text(pipeline), sql_text(session)), err);
    if (rc == RC_END)
        return RC_NOT_FOUND;
    if (rc != RC_OK)
        return rc;
    *out = (struct conversation_row){.project = project, .pipeline = pipeline, .session = session};
    rc = sql_column_copy(&rows, 0, arena, &out->variables, err);
    if (rc == RC_OK)
        rc = sql_column_copy(&rows, 1, arena, &out->messages, err);
    out->last_run = sql_column_id(&rows, 2);
    sql_end(&rows);
    return rc;
}

enum rc conversation_table_delete_pipeline(struct db_txn *txn, struct id project,
                                           struct str pipeline, struct err *err)
{
    return sql_exec(txn, "DELETE FROM conversations WHERE project = ?1 AND pipeline = ?2",
                    SQL_BIND(sql_id(&project), sql_text(pipeline)), err);
}
