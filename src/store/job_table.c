/* See job_table.h. */
#include "store/job_table.h"
#include "store/sql.h"

#define JOB_COLUMNS                                                                                \
    "id, project, kind, state, params, done, total, unit, message, result, error, attempt,"        \
    " attempts_max, run_after_ns, cancel_asked, author, created_ns, started_ns, finished_ns"

static struct sql_value text_or_null(struct str s) { return s.n ? sql_text(s) : sql_null(); }

static struct sql_value time_or_null(int64_t ns) { return ns ? sql_i64(ns) : sql_null(); }

enum rc job_table_insert(struct db_txn *txn, const struct job_row *row, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO jobs(" JOB_COLUMNS ", lease_epoch, lease_until_ns)"
                    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, "
                    "?16, ?17, ?18, ?19, 0, 0)",
                    SQL_BIND(sql_id(&row->id), sql_id(&row->project), sql_text(row->kind),
                             sql_text(row->state), sql_text(row->params), sql_i64(row->done),
                             sql_i64(row->total), sql_text(row->unit), sql_text(row->message),
                             text_or_null(row->result), text_or_null(row->error),
                             sql_i64(row->attempt), sql_i64(row->attempts_max),
                             sql_i64(row->run_after_ns), sql_i64(row->cancel_asked),
                             sql_text(row->author), sql_i64(row->created_ns),
                             time_or_null(row->started_ns), time_or_null(row->finished_ns)),
                    err);
}

enum rc job_table_update(struct db_txn *txn, const struct job_row *row, struct err *err)
{
    return sql_exec(
        txn,
        "UPDATE jobs SET state = ?2, done = ?3, total = ?4, unit = ?5, message = ?6,"
        " result = ?7, error = ?8, attempt = ?9, run_after_ns = ?10, cancel_asked = ?11,"
        " started_ns = ?12, finished_ns = ?13 WHERE id = ?1",
        SQL_BIND(sql_id(&row->id), sql_text(row->state), sql_i64(row->done), sql_i64(row->total),
                 sql_text(row->unit), sql_text(row->message), text_or_null(row->result),
                 text_or_null(row->error), sql_i64(row->attempt), sql_i64(row->run_after_ns),
                 sql_i64(row->cancel_asked), time_or_null(row->started_ns),
                 time_or_null(row->finished_ns)),
        err);
}

static enum rc read_row(const struct sql_rows *rows, struct arena *arena, struct job_row *row,
                        struct err *err)
{
    struct {
        int column;
        struct str *text;
    } texts[] = {{2, &row->kind},    {3, &row->state},  {4, &row->params}, {7, &row->unit},
                 {8, &row->message}, {9, &row->result}, {10, &row->error}, {15, &row->author}};
    row->id = sql_column_id(rows, 0);
    row->project = sql_column_id(rows, 1);
    row->done = sql_column_i64(rows, 5);
    row->total = sql_column_i64(rows, 6);
    row->attempt = sql_column_i64(rows, 11);
    row->attempts_max = sql_column_i64(rows, 12);
    row->run_after_ns = sql_column_i64(rows, 13);
    row->cancel_asked = sql_column_i64(rows, 14) != 0;
    row->created_ns = sql_column_i64(rows, 16);
    row->started_ns = sql_column_i64(rows, 17);
    row->finished_ns = sql_column_i64(rows, 18);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        enum rc rc = sql_column_copy(rows, texts[i].column, arena, texts[i].text, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

enum rc job_table_get(struct db_txn *txn, struct id project, struct id job, struct arena *arena,
                      struct job_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_first(&rows, txn,
                  "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                  SQL_BIND(sql_id(&job), sql_id(&project)), err);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "there is no such job");
    if (rc != RC_OK)
        return rc;
    rc = read_row(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

static enum rc read_rows(struct sql_rows *rows, size_t limit, struct arena *arena,
                         struct job_row **out, size_t *count, struct err *err)
{
    enum rc rc;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct job_row, limit);
    if (!*out) {
        sql_end(rows);
        return err_set(err, ERR_OVERLOADED, "no memory for the list; ask for fewer");
    }
    while ((rc = sql_next(rows, err)) == RC_OK) {
        ASSERT(*count < limit);
        rc = read_row(rows, arena, &(*out)[(*count)++], err);
        if (rc != RC_OK) {
            sql_end(rows);
            return rc;
        }
    }
    return rc == RC_END ? RC_OK : rc;
}

enum rc job_table_list(struct db_txn *txn, struct id project, struct str state, int64_t before_ns,
                       size_t limit, struct arena *arena, struct job_row **out, size_t *count,
                       struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_query(txn,
                           "SELECT " JOB_COLUMNS " FROM jobs WHERE project = ?1"
                           " AND (?2 IS NULL OR state = ?2) AND (?3 = 0 OR created_ns < ?3)"
                           " ORDER BY created_ns DESC LIMIT ?4",
                           SQL_BIND(sql_id(&project), text_or_null(state), sql_i64(before_ns),
                                    sql_i64((int64_t)limit)),
                           &rows, err);
    return rc == RC_OK ? read_rows(&rows, limit, arena, out, count, err) : rc;
}

enum rc job_table_open(struct db_txn *txn, size_t limit, struct arena *arena, struct job_row **out,
                       size_t *count, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_query(txn,
                           "SELECT " JOB_COLUMNS " FROM jobs WHERE state IN ('queued', 'running')"
                           " ORDER BY created_ns LIMIT ?1",
                           SQL_BIND(sql_i64((int64_t)limit)), &rows, err);
    return rc == RC_OK ? read_rows(&rows, limit, arena, out, count, err) : rc;
}

enum rc job_table_find_open(struct db_txn *txn, struct id project, struct str kind,
                            struct str params, struct arena *arena, struct job_row *out,
                            struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " JOB_COLUMNS
                           " FROM jobs WHERE state IN ('queued', 'running') AND project = ?1"
                           " AND kind = ?2 AND params = ?3 AND cancel_asked = 0 LIMIT 1",
                           SQL_BIND(sql_id(&project), sql_text(kind), sql_text(params)), err);
    if (rc == RC_END)
        return RC_NOT_FOUND;
    if (rc != RC_OK)
        return rc;
    rc = read_row(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc job_table_prune(struct db_txn *txn, int64_t before_ns, int64_t *count, struct err *err)
{
    enum rc rc =
        sql_exec(txn, "DELETE FROM jobs WHERE finished_ns IS NOT NULL AND finished_ns < ?1",
                 SQL_BIND(sql_i64(before_ns)), err);
    *count = rc == RC_OK ? sql_changes(txn) : 0;
    return rc;
}
