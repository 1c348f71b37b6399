/* See pipeline_table.h. */
#include "store/pipeline_table.h"
#include "store/sql.h"

#define PIPELINE_COLUMNS "project, id, name, draft, author, revision, created_ns, updated_ns"

enum rc pipeline_table_insert(struct db_txn *txn, const struct pipeline_row *row, struct err *err)
{
    enum rc rc = sql_exec(
        txn, "INSERT INTO pipelines(" PIPELINE_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_text(row->name), sql_text(row->draft),
                 sql_text(row->author), sql_i64(row->revision), sql_i64(row->created_ns),
                 sql_i64(row->updated_ns)),
        err);
    if (rc == RC_CONFLICT)
        return err_set_field(err, ERR_CONFLICT, "name", "There is a pipeline '%.*s' already.",
                             STR_ARG(row->name));
    return rc;
}

enum rc pipeline_table_update(struct db_txn *txn, const struct pipeline_row *row, struct err *err)
{
    return sql_exec(txn,
                    "UPDATE pipelines SET draft = ?3, author = ?4, revision = ?5, updated_ns = ?6"
                    " WHERE project = ?1 AND name = ?2",
                    SQL_BIND(sql_id(&row->project), sql_text(row->name), sql_text(row->draft),
                             sql_text(row->author), sql_i64(row->revision),
                             sql_i64(row->updated_ns)),
                    err);
}

enum rc pipeline_table_delete(struct db_txn *txn, struct id project, struct str name,
                              struct err *err)
{
    return sql_exec(txn, "DELETE FROM pipelines WHERE project = ?1 AND name = ?2",
                    SQL_BIND(sql_id(&project), sql_text(name)), err);
}

static enum rc read_row(const struct sql_rows *rows, struct arena *arena, struct pipeline_row *row,
                        struct err *err)
{
    struct {
        int column;
        struct str *text;
    } texts[] = {{2, &row->name}, {3, &row->draft}, {4, &row->author}};
    row->project = sql_column_id(rows, 0);
    row->id = sql_column_id(rows, 1);
    row->revision = sql_column_i64(rows, 5);
    row->created_ns = sql_column_i64(rows, 6);
    row->updated_ns = sql_column_i64(rows, 7);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        enum rc rc = sql_column_copy(rows, texts[i].column, arena, texts[i].text, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

enum rc pipeline_table_get(struct db_txn *txn, struct id project, struct str name,
                           struct arena *arena, struct pipeline_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(
        &rows, txn, "SELECT " PIPELINE_COLUMNS " FROM pipelines WHERE project = ?1 AND name = ?2",
        SQL_BIND(sql_id(&project), sql_text(name)), err);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "There is no pipeline '%.*s'.", STR_ARG(name));
    if (rc != RC_OK)
        return rc;
    rc = read_row(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc pipeline_table_list(struct db_txn *txn, struct id project, struct str after,
                            struct str search, size_t limit, struct arena *arena,
                            struct pipeline_row **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct pipeline_row, limit + 1);
    if (!*out)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer items.");
    enum rc rc = sql_query(
        txn,
        "SELECT " PIPELINE_COLUMNS " FROM pipelines WHERE project = ?1 AND name > ?2"
        " AND (?3 = '' OR lower(name) LIKE '%' || lower(?3) || '%') ORDER BY name LIMIT ?4",
        SQL_BIND(sql_id(&project), sql_text(after), sql_text(search), sql_i64((int64_t)limit + 1)),
        &rows, err);
    while (rc == RC_OK && *count <= limit && (rc = sql_next(&rows, err)) == RC_OK)
        rc = read_row(&rows, arena, &(*out)[(*count)++], err);
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}
