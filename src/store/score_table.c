/* See score_table.h. */
#include "store/score_table.h"
#include "store/sql.h"

#define SCORE_COLUMNS                                                                              \
    "project, id, key, target, target_id, observation, name, type, value, text, comment, source,"  \
    " author, created_ns, updated_ns"

static struct str text_of(struct str s) { return s.p ? s : STR(""); }

enum rc score_table_put(struct db_txn *txn, struct score_row *row, struct arena *arena,
                        struct err *err)
{
    struct score_row before;
    struct err none = {0};
    char id[ID_TEXT_BYTES_MAX];
    if (!row->key.n)
        row->key = arena_copy(arena, str_make(id, id_format(row->id, "score", id)));
    if (!row->key.p)
        return err_set(err, ERR_OVERLOADED, "no memory for the score");
    if (score_table_get(txn, row->project, row->key, arena, &before, &none) == RC_OK) {
        row->id = before.id;
        row->created_ns = before.created_ns;
    }
    return sql_exec(
        txn,
        "INSERT INTO scores(" SCORE_COLUMNS
        ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        " ON CONFLICT(project, key) DO UPDATE SET target = excluded.target,"
        " target_id = excluded.target_id, observation = excluded.observation,"
        " name = excluded.name, type = excluded.type, value = excluded.value,"
        " text = excluded.text, comment = excluded.comment, source = excluded.source,"
        " author = excluded.author, updated_ns = excluded.updated_ns",
        SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_text(row->key), sql_text(row->target),
                 sql_text(row->target_id), sql_text(text_of(row->observation)), sql_text(row->name),
                 sql_text(row->type), row->has_value ? sql_real(row->value) : sql_null(),
                 sql_text(text_of(row->text)), sql_text(text_of(row->comment)),
                 sql_text(row->source), sql_text(text_of(row->author)), sql_i64(row->created_ns),
                 sql_i64(row->updated_ns)),
        err);
}

static enum rc read_row(const struct sql_rows *rows, struct arena *arena, struct score_row *row,
                        struct err *err)
{
    struct {
        int column;
        struct str *text;
    } texts[] = {{2, &row->key},         {3, &row->target},   {4, &row->target_id},
                 {5, &row->observation}, {6, &row->name},     {7, &row->type},
                 {9, &row->text},        {10, &row->comment}, {11, &row->source},
                 {12, &row->author}};
    row->project = sql_column_id(rows, 0);
    row->id = sql_column_id(rows, 1);
    row->has_value = !sql_is_null(rows, 8);
    row->value = row->has_value ? sql_column_real(rows, 8) : 0;
    row->created_ns = sql_column_i64(rows, 13);
    row->updated_ns = sql_column_i64(rows, 14);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        enum rc rc = sql_column_copy(rows, texts[i].column, arena, texts[i].text, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* A score's id is a key, too. */
static struct id id_of(struct str key)
{
    struct id id;
    return id_parse(key, "score", &id) == RC_OK ? id : (struct id){{0}};
}

enum rc score_table_get(struct db_txn *txn, struct id project, struct str key, struct arena *arena,
                        struct score_row *out, struct err *err)
{
    struct sql_rows rows;
    struct id id = id_of(key);
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " SCORE_COLUMNS
                           " FROM scores WHERE project = ?1 AND (key = ?2 OR id = ?3)",
                           SQL_BIND(sql_id(&project), sql_text(key), sql_id(&id)), err);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "There is no such score.");
    if (rc != RC_OK)
        return rc;
    rc = read_row(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc score_table_delete(struct db_txn *txn, struct id project, struct str key, bool *deleted,
                           struct err *err)
{
    struct id id = id_of(key);
    enum rc rc = sql_exec(txn, "DELETE FROM scores WHERE project = ?1 AND (key = ?2 OR id = ?3)",
                          SQL_BIND(sql_id(&project), sql_text(key), sql_id(&id)), err);
    *deleted = rc == RC_OK && sql_changes(txn) > 0;
    return rc;
}

enum rc score_table_list(struct db_txn *txn, struct id project, const struct score_filter *filter,
                         size_t limit, struct arena *arena, struct score_row **out, size_t *count,
                         struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct score_row, limit + 1);
    if (!*out)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer items.");
    struct str target = text_of(filter->target_id), other = text_of(filter->other_id);
    enum rc rc = sql_query(
        txn,
        "SELECT " SCORE_COLUMNS
        " FROM scores WHERE project = ?1 AND (?2 = '' OR target_id = ?2 OR target_id = ?3)"
        " AND (?4 = '' OR name = ?4) AND created_ns < ?5 ORDER BY created_ns DESC, id LIMIT ?6",
        SQL_BIND(sql_id(&project), sql_text(target), sql_text(other.n ? other : target),
                 sql_text(text_of(filter->name)),
                 sql_i64(filter->before_ns ? filter->before_ns : INT64_MAX),
                 sql_i64((int64_t)limit + 1)),
        &rows, err);
    while (rc == RC_OK && *count <= limit && (rc = sql_next(&rows, err)) == RC_OK)
        rc = read_row(&rows, arena, &(*out)[(*count)++], err);
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}
