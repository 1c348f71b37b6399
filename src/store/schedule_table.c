/* See schedule_table.h. */
#include "store/schedule_table.h"
#include "store/sql.h"

#define SCHEDULE_COLUMNS "project, id, next_ns, last_ns, last_run, fired, missed"

enum rc schedule_table_put(struct db_txn *txn, const struct schedule_row *row, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO trigger_times(" SCHEDULE_COLUMNS
                    ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                    " ON CONFLICT(id) DO UPDATE SET next_ns = excluded.next_ns,"
                    " last_ns = excluded.last_ns, last_run = excluded.last_run,"
                    " fired = excluded.fired, missed = excluded.missed",
                    SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_i64(row->next_ns),
                             sql_i64(row->last_ns), sql_id(&row->last_run), sql_i64(row->fired),
                             sql_i64(row->missed)),
                    err);
}

enum rc schedule_table_delete(struct db_txn *txn, struct id project, struct id id, struct err *err)
{
    return sql_exec(txn, "DELETE FROM trigger_times WHERE project = ?1 AND id = ?2",
                    SQL_BIND(sql_id(&project), sql_id(&id)), err);
}

static void read_row(const struct sql_rows *rows, struct schedule_row *row)
{
    *row = (struct schedule_row){.project = sql_column_id(rows, 0),
                                 .id = sql_column_id(rows, 1),
                                 .next_ns = sql_column_i64(rows, 2),
                                 .last_ns = sql_column_i64(rows, 3),
                                 .last_run = sql_column_id(rows, 4),
                                 .fired = sql_column_i64(rows, 5),
                                 .missed = sql_column_i64(rows, 6)};
}

enum rc schedule_table_get(struct db_txn *txn, struct id project, struct id id,
                           struct schedule_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(
        &rows, txn, "SELECT " SCHEDULE_COLUMNS " FROM trigger_times WHERE project = ?1 AND id = ?2",
        SQL_BIND(sql_id(&project), sql_id(&id)), err);
    if (rc == RC_END)
        return RC_NOT_FOUND;
    if (rc != RC_OK)
        return rc;
    read_row(&rows, out);
    sql_end(&rows);
    return RC_OK;
}

enum rc schedule_table_due(struct db_txn *txn, int64_t now_ns, size_t limit, struct arena *arena,
                           struct schedule_row **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct schedule_row, limit + 1);
    if (!*out)
        return err_set(err, ERR_OVERLOADED, "no memory for the schedules");
    enum rc rc = sql_query(txn,
                           "SELECT " SCHEDULE_COLUMNS
                           " FROM trigger_times WHERE next_ns <= ?1 ORDER BY next_ns LIMIT ?2",
                           SQL_BIND(sql_i64(now_ns), sql_i64((int64_t)limit)), &rows, err);
    while (rc == RC_OK && *count < limit && (rc = sql_next(&rows, err)) == RC_OK)
        read_row(&rows, &(*out)[(*count)++]);
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc schedule_table_next(struct db_txn *txn, int64_t *next_ns, struct err *err)
{
    return sql_get_i64(txn, "SELECT MIN(next_ns) FROM trigger_times", SQL_NO_BINDS, INT64_MAX,
                       next_ns, err);
}
