/* See source_table.h. */
#include "store/source_table.h"
#include "store/sql.h"

static struct sql_value text_or_empty(struct str s) { return sql_text(s.p ? s : STR("")); }

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_OVERLOADED, "no memory for the list; ask for fewer");
}

#define SOURCE_COLUMNS                                                                             \
    "project, id, collection, name, kind, definition, every_ns, next_ns, sync, syncing, removing," \
    " job, cursor, error, added, changed, unchanged, deleted, failed, started_ns, finished_ns,"    \
    " created_ns, updated_ns, author"

enum rc source_row_insert(struct db_txn *txn, const struct source_row *row, struct err *err)
{
    return sql_exec(
        txn,
        "INSERT INTO sources(" SOURCE_COLUMNS
        ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0, NULL, '', '', 0, 0, 0, 0, 0, 0, 0, ?9,"
        " ?9, ?10)",
        SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_id(&row->collection),
                 sql_text(row->name), sql_text(row->kind), sql_text(row->definition),
                 sql_i64(row->every_ns), sql_i64(row->next_ns), sql_i64(row->created_ns),
                 text_or_empty(row->author)),
        err);
}

enum rc source_row_update(struct db_txn *txn, const struct source_row *row, struct err *err)
{
    return sql_exec(
        txn,
        "UPDATE sources SET name = ?2, kind = ?3, definition = ?4, every_ns = ?5, next_ns = ?6,"
        " syncing = ?7, removing = ?8, job = ?9, cursor = ?10, updated_ns = ?11 WHERE id = ?1",
        SQL_BIND(sql_id(&row->id), sql_text(row->name), sql_text(row->kind),
                 sql_text(row->definition), sql_i64(row->every_ns), sql_i64(row->next_ns),
                 sql_i64(row->syncing), sql_i64(row->removing), sql_id(&row->job),
                 text_or_empty(row->cursor), sql_i64(row->updated_ns)),
        err);
}

enum rc source_row_progress(struct db_txn *txn, const struct source_row *row, struct err *err)
{
    return sql_exec(
        txn,
        "UPDATE sources SET sync = ?2, syncing = ?3, cursor = ?4, error = ?5, added = ?6,"
        " changed = ?7, unchanged = ?8, deleted = ?9, failed = ?10, started_ns = ?11,"
        " finished_ns = ?12 WHERE id = ?1",
        SQL_BIND(sql_id(&row->id), sql_i64(row->sync), sql_i64(row->syncing),
                 text_or_empty(row->cursor), text_or_empty(row->error), sql_i64(row->added),
                 sql_i64(row->changed), sql_i64(row->unchanged), sql_i64(row->deleted),
                 sql_i64(row->failed), sql_i64(row->started_ns), sql_i64(row->finished_ns)),
        err);
}

enum rc source_row_delete(struct db_txn *txn, struct id project, struct id source, struct err *err)
{
    enum rc rc = sql_exec(txn, "DELETE FROM source_items WHERE project = ?1 AND source = ?2",
                          SQL_BIND(sql_id(&project), sql_id(&source)), err);
    return rc == RC_OK ? sql_exec(txn, "DELETE FROM sources WHERE project = ?1 AND id = ?2",
                                  SQL_BIND(sql_id(&project), sql_id(&source)), err)
                       : rc;
}

static enum rc read_source(const struct sql_rows *rows, struct arena *arena, struct source_row *row,
                           struct err *err)
{
    const struct {
        int column;
        struct str *text;
    } texts[] = {{3, &row->name},    {4, &row->kind},   {5, &row->definition},
                 {12, &row->cursor}, {13, &row->error}, {23, &row->author}};
    int64_t *const numbers[] = {&row->added,       &row->changed,    &row->unchanged,
                                &row->deleted,     &row->failed,     &row->started_ns,
                                &row->finished_ns, &row->created_ns, &row->updated_ns};
    *row = (struct source_row){.project = sql_column_id(rows, 0),
                               .id = sql_column_id(rows, 1),
                               .collection = sql_column_id(rows, 2),
                               .every_ns = sql_column_i64(rows, 6),
                               .next_ns = sql_column_i64(rows, 7),
                               .sync = sql_column_i64(rows, 8),
                               .syncing = sql_column_i64(rows, 9) != 0,
                               .removing = sql_column_i64(rows, 10) != 0,
                               .job = sql_column_id(rows, 11)};
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        *numbers[i] = sql_column_i64(rows, 14 + (int)i);
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(texts); i++)
        rc = sql_column_copy(rows, texts[i].column, arena, texts[i].text, err);
    return rc;
}

enum rc source_row_get(struct db_txn *txn, struct id project, struct id collection,
                       struct id source, struct arena *arena, struct source_row *out,
                       struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " SOURCE_COLUMNS " FROM sources WHERE id = ?1 AND"
                           " (?2 IS NULL OR project = ?2) AND (?3 IS NULL OR collection = ?3)",
                           SQL_BIND(sql_id(&source), sql_id(&project), sql_id(&collection)), err);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "there is no such source");
    if (rc != RC_OK)
        return rc;
    rc = read_source(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc source_row_find(struct db_txn *txn, struct id project, struct id collection,
                        struct str name, struct arena *arena, struct source_row *out,
                        struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " SOURCE_COLUMNS
                           " FROM sources WHERE project = ?1 AND collection = ?2 AND name = ?3",
                           SQL_BIND(sql_id(&project), sql_id(&collection), sql_text(name)), err);
    if (rc == RC_END)
        return RC_NOT_FOUND;
    if (rc != RC_OK)
        return rc;
    rc = read_source(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

/* Reads what a query gives, at most `limit` rows. */
static enum rc read_sources(enum rc rc, struct sql_rows *rows, size_t limit, struct arena *arena,
                            struct source_row **out, size_t *count, struct err *err)
{
    *count = 0;
    if (rc != RC_OK)
        return rc;
    *out = ARENA_NEW_ARRAY(arena, struct source_row, limit + 1);
    if (!*out) {
        sql_end(rows);
        return no_memory(err);
    }
    while (*count < limit && (rc = sql_next(rows, err)) == RC_OK) {
        rc = read_source(rows, arena, &(*out)[*count], err);
        if (rc != RC_OK)
            break;
        ++*count;
    }
    if (rc == RC_END)
        return RC_OK;
    sql_end(rows);
    return rc;
}

enum rc source_row_list(struct db_txn *txn, struct id project, struct id collection,
                        struct id after, size_t limit, struct arena *arena, struct source_row **out,
                        size_t *count, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_query(
        txn,
        "SELECT " SOURCE_COLUMNS " FROM sources WHERE project = ?1 AND collection = ?2"
        " AND (?3 IS NULL OR id > ?3) ORDER BY id LIMIT ?4",
        SQL_BIND(sql_id(&project), sql_id(&collection), sql_id(&after), sql_i64((int64_t)limit)),
        &rows, err);
    return read_sources(rc, &rows, limit, arena, out, count, err);
}

enum rc source_row_due(struct db_txn *txn, int64_t now_ns, size_t limit, struct arena *arena,
                       struct source_row **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_query(txn,
                  "SELECT " SOURCE_COLUMNS " FROM sources WHERE next_ns > 0 AND next_ns <= ?1"
                  " ORDER BY next_ns LIMIT ?2",
                  SQL_BIND(sql_i64(now_ns), sql_i64((int64_t)limit)), &rows, err);
    return read_sources(rc, &rows, limit, arena, out, count, err);
}

/* ---- items ---- */

static const char *const STATE_NAMES[] = {
#define STATE(name, text) [SOURCE_ITEM_##name] = text,
    SOURCE_ITEM_STATES(STATE)
#undef STATE
};

const char *source_item_state_name(enum source_item_state state) { return STATE_NAMES[state]; }

enum rc source_item_state_parse(struct str s, enum source_item_state *out)
{
    for (int i = 0; i < SOURCE_ITEM_STATE_COUNT; i++)
        if (str_eq(s, str_from(STATE_NAMES[i]))) {
            *out = (enum source_item_state)i;
            return RC_OK;
        }
    return RC_INVALID;
}

#define ITEM_COLUMNS "key, document, etag, modified, sync, state, error, bytes, updated_ns"

enum rc source_item_put(struct db_txn *txn, struct id project, struct id source,
                        const struct source_item_row *item, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO source_items(project, source, " ITEM_COLUMNS
                    ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                    " ON CONFLICT(source, key) DO UPDATE SET document = excluded.document,"
                    " etag = excluded.etag, modified = excluded.modified, sync = excluded.sync,"
                    " state = excluded.state, error = excluded.error, bytes = excluded.bytes,"
                    " updated_ns = excluded.updated_ns",
                    SQL_BIND(sql_id(&project), sql_id(&source), sql_text(item->key),
                             sql_id(&item->document), text_or_empty(item->etag),
                             text_or_empty(item->modified), sql_i64(item->sync),
                             sql_z(source_item_state_name(item->state)), text_or_empty(item->error),
                             sql_i64(item->bytes), sql_i64(db_txn_now_ns(txn))),
                    err);
}

enum rc source_item_seen(struct db_txn *txn, struct id source, struct str key, int64_t sync,
                         struct err *err)
{
    return sql_exec(txn,
                    "UPDATE source_items SET sync = ?3, state = 'ok', error = '' WHERE source = ?1"
                    " AND key = ?2",
                    SQL_BIND(sql_id(&source), sql_text(key), sql_i64(sync)), err);
}

enum rc source_item_delete(struct db_txn *txn, struct id source, struct str key, struct err *err)
{
    return sql_exec(txn, "DELETE FROM source_items WHERE source = ?1 AND key = ?2",
                    SQL_BIND(sql_id(&source), sql_text(key)), err);
}

enum rc source_items_again(struct db_txn *txn, struct id source, struct id document, struct str key,
                           struct err *err)
{
    return sql_exec(txn,
                    "UPDATE source_items SET document = NULL, etag = '', modified = '',"
                    " state = 'again' WHERE source = ?1 AND document = ?2 AND key <> ?3",
                    SQL_BIND(sql_id(&source), sql_id(&document), sql_text(key)), err);
}

static enum rc read_item(const struct sql_rows *rows, struct arena *arena,
                         struct source_item_row *item, struct err *err)
{
    const struct {
        int column;
        struct str *text;
    } texts[] = {{0, &item->key}, {2, &item->etag}, {3, &item->modified}, {6, &item->error}};
    item->document = sql_column_id(rows, 1);
    item->sync = sql_column_i64(rows, 4);
    item->bytes = sql_column_i64(rows, 7);
    item->updated_ns = sql_column_i64(rows, 8);
    if (source_item_state_parse(sql_column_str(rows, 5), &item->state) != RC_OK)
        return err_set(err, ERR_INTERNAL, "a source's item has an unknown state");
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(texts); i++)
        rc = sql_column_copy(rows, texts[i].column, arena, texts[i].text, err);
    return rc;
}

/* The bit set as texts to compare with; an empty one matches nothing. */
static struct sql_value state_or_none(unsigned states, enum source_item_state state)
{
    return states == 0 || (states & 1u << state) ? sql_z(source_item_state_name(state)) : sql_z("");
}

enum rc source_item_list(struct db_txn *txn, struct id project, struct id source, unsigned states,
                         struct str after, size_t limit, struct arena *arena,
                         struct source_item_row **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct source_item_row, limit + 1);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(
        txn,
        "SELECT " ITEM_COLUMNS " FROM source_items WHERE project = ?1 AND source"
        " = ?2 AND key > ?3 AND state IN (?4, ?5, ?6) ORDER BY key LIMIT ?7",
        SQL_BIND(sql_id(&project), sql_id(&source), text_or_empty(after),
                 state_or_none(states, SOURCE_ITEM_OK), state_or_none(states, SOURCE_ITEM_AGAIN),
                 state_or_none(states, SOURCE_ITEM_FAILED), sql_i64((int64_t)limit)),
        &rows, err);
    while (rc == RC_OK && *count < limit && (rc = sql_next(&rows, err)) == RC_OK) {
        rc = read_item(&rows, arena, &(*out)[*count], err);
        if (rc == RC_OK)
            ++*count;
    }
    if (rc == RC_END)
        return RC_OK;
    sql_end(&rows);
    return rc;
}
