/* See knowledge_table.h. */
#include "store/knowledge_table.h"
#include "store/sql.h"

static struct sql_value text_or_empty(struct str s) { return sql_text(s.p ? s : STR("")); }

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_OVERLOADED, "no memory for the list; ask for fewer");
}

/* Copies text columns; `columns` in the order of `texts`. */
static enum rc copy_texts(const struct sql_rows *rows, struct arena *arena, const int *columns,
                          struct str *const *texts, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        enum rc rc = sql_column_copy(rows, columns[i], arena, texts[i], err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* ---- collections ---- */

#define COLLECTION_COLUMNS                                                                         \
    "project, id, name, generation, expires_days, metadata, vector_name, created_ns, used_ns,"     \
    " built_version"

enum rc collection_row_insert(struct db_txn *txn, const struct collection_row *row, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO collections(" COLLECTION_COLUMNS
                    ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_text(row->name),
                             sql_i64(row->generation), sql_i64(row->expires_days),
                             text_or_empty(row->metadata), text_or_empty(row->vector_name),
                             sql_i64(row->created_ns), sql_i64(row->used_ns),
                             sql_i64(row->built_version)),
                    err);
}

enum rc collection_row_update(struct db_txn *txn, const struct collection_row *row, struct err *err)
{
    return sql_exec(txn,
                    "UPDATE collections SET generation = ?2, expires_days = ?3, metadata = ?4,"
                    " vector_name = ?5, built_version = ?6 WHERE id = ?1",
                    SQL_BIND(sql_id(&row->id), sql_i64(row->generation), sql_i64(row->expires_days),
                             text_or_empty(row->metadata), text_or_empty(row->vector_name),
                             sql_i64(row->built_version)),
                    err);
}

enum rc collection_row_touch(struct db_txn *txn, struct id collection, int64_t used_ns,
                             struct err *err)
{
    return sql_exec(txn, "UPDATE collections SET used_ns = ?2 WHERE id = ?1",
                    SQL_BIND(sql_id(&collection), sql_i64(used_ns)), err);
}

enum rc collection_row_delete(struct db_txn *txn, struct id project, struct id collection,
                              struct err *err)
{
    static const char *const statements[] = {
        "DELETE FROM source_items WHERE project = ?1 AND source IN"
        " (SELECT id FROM sources WHERE collection = ?2)",
        "DELETE FROM sources WHERE project = ?1 AND collection = ?2",
        "DELETE FROM documents WHERE project = ?1 AND collection = ?2",
        "DELETE FROM file_batches WHERE project = ?1 AND collection = ?2",
        "DELETE FROM question_sets WHERE project = ?1 AND collection = ?2",
        "DELETE FROM collections WHERE project = ?1 AND id = ?2",
    };
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(statements); i++)
        rc = sql_exec(txn, statements[i], SQL_BIND(sql_id(&project), sql_id(&collection)), err);
    return rc;
}

enum rc question_set_get(struct db_txn *txn, struct id project, struct id collection,
                         struct arena *arena, struct str *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(
        &rows, txn, "SELECT questions FROM question_sets WHERE project = ?1 AND collection = ?2",
        SQL_BIND(sql_id(&project), sql_id(&collection)), err);
    *out = STR("[]");
    if (rc != RC_OK)
        return rc == RC_END ? RC_OK : rc;
    rc = sql_column_copy(&rows, 0, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc question_set_put(struct db_txn *txn, struct id project, struct id collection,
                         struct str questions, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO question_sets(project, collection, questions, updated_ns)"
                    " VALUES(?1, ?2, ?3, ?4) ON CONFLICT(project, collection) DO UPDATE SET"
                    " questions = excluded.questions, updated_ns = excluded.updated_ns",
                    SQL_BIND(sql_id(&project), sql_id(&collection), sql_text(questions),
                             sql_i64(db_txn_now_ns(txn))),
                    err);
}

static enum rc read_collection(const struct sql_rows *rows, struct arena *arena,
                               struct collection_row *row, struct err *err)
{
    static const int columns[] = {2, 5, 6};
    struct str *const texts[] = {&row->name, &row->metadata, &row->vector_name};
    row->project = sql_column_id(rows, 0);
    row->id = sql_column_id(rows, 1);
    row->generation = sql_column_i64(rows, 3);
    row->expires_days = sql_column_i64(rows, 4);
    row->created_ns = sql_column_i64(rows, 7);
    row->used_ns = sql_column_i64(rows, 8);
    row->built_version = sql_column_i64(rows, 9);
    return copy_texts(rows, arena, columns, texts, COUNT_OF(texts), err);
}

/* What sql_first said, turned into the row. */
static enum rc finish_collection(enum rc rc, struct sql_rows *rows, struct arena *arena,
                                 struct collection_row *out, struct err *err)
{
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "there is no such collection");
    if (rc != RC_OK)
        return rc;
    rc = read_collection(rows, arena, out, err);
    sql_end(rows);
    return rc;
}

enum rc collection_row_get(struct db_txn *txn, struct id project, struct id collection,
                           struct arena *arena, struct collection_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " COLLECTION_COLUMNS
                           " FROM collections WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                           SQL_BIND(sql_id(&collection), sql_id(&project)), err);
    return finish_collection(rc, &rows, arena, out, err);
}

enum rc collection_row_find(struct db_txn *txn, struct id project, struct str name,
                            struct arena *arena, struct collection_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_first(&rows, txn,
                  "SELECT " COLLECTION_COLUMNS " FROM collections WHERE project = ?1 AND name = ?2",
                  SQL_BIND(sql_id(&project), sql_text(name)), err);
    return finish_collection(rc, &rows, arena, out, err);
}

enum rc collection_row_list(struct db_txn *txn, struct id project, struct id after, bool ascending,
                            size_t limit, struct arena *arena, struct collection_row **out,
                            size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct collection_row, limit + 1);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(
        txn,
        ascending ? "SELECT " COLLECTION_COLUMNS " FROM collections WHERE (?1 IS NULL OR project = "
                    "?1) AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3"
                  : "SELECT " COLLECTION_COLUMNS " FROM collections WHERE (?1 IS NULL OR project = "
                    "?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
        SQL_BIND(sql_id(&project), sql_id(&after), sql_i64((int64_t)limit)), &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        if ((rc = read_collection(&rows, arena, &(*out)[(*count)++], err)) != RC_OK)
            sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc collection_rows_expired(struct db_txn *txn, int64_t now_ns, size_t limit,
                                struct arena *arena, struct collection_row **out, size_t *count,
                                struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct collection_row, limit + 1);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(txn,
                           "SELECT " COLLECTION_COLUMNS " FROM collections WHERE expires_days > 0"
                           " AND used_ns + expires_days * 86400000000000 < ?1 LIMIT ?2",
                           SQL_BIND(sql_i64(now_ns), sql_i64((int64_t)limit)), &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        if ((rc = read_collection(&rows, arena, &(*out)[(*count)++], err)) != RC_OK)
            sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

/* ---- documents ---- */

static const char *const state_names[] = {
#define STATE(name, text) text,
    DOCUMENT_STATES(STATE)
#undef STATE
};

const char *document_state_name(enum document_state state) { return state_names[state]; }

enum rc document_state_parse(struct str s, enum document_state *out)
{
    for (int i = 0; i < DOCUMENT_STATE_COUNT; i++)
        if (str_eq(s, str_from(state_names[i]))) {
            *out = (enum document_state)i;
            return RC_OK;
        }
    return RC_INVALID;
}

#define DOCUMENT_COLUMNS                                                                           \
    "project, id, collection, name, source, content_type, sha256, text_sha256, bytes, format,"     \
    " state, error, error_code, chunks, tokens, pages, text_bytes, attributes, tags, chunking,"    \
    " file, batch, created_ns, updated_ns"

#define DOCUMENT_BINDS(row)                                                                        \
    SQL_BIND(sql_id(&(row)->project), sql_id(&(row)->id), sql_id(&(row)->collection),              \
             sql_text((row)->name), text_or_empty((row)->source),                                  \
             text_or_empty((row)->content_type), sql_blob((row)->sha256, SHA256_BYTES),            \
             (row)->has_text ? sql_blob((row)->text_sha256, SHA256_BYTES) : sql_null(),            \
             sql_i64((row)->bytes), text_or_empty((row)->format),                                  \
             sql_z(document_state_name((row)->state)), text_or_empty((row)->error),                \
             text_or_empty((row)->error_code), sql_i64((row)->chunks), sql_i64((row)->tokens),     \
             sql_i64((row)->pages), sql_i64((row)->text_bytes), text_or_empty((row)->attributes),  \
             text_or_empty((row)->tags), text_or_empty((row)->chunking), sql_id(&(row)->file),     \
             sql_id(&(row)->batch), sql_i64((row)->created_ns), sql_i64((row)->updated_ns))

enum rc document_row_insert(struct db_txn *txn, const struct document_row *row, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO documents(" DOCUMENT_COLUMNS
                    ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,"
                    " ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)",
                    DOCUMENT_BINDS(row), err);
}

enum rc document_row_update(struct db_txn *txn, const struct document_row *row, struct err *err)
{
    return sql_exec(
        txn,
        "UPDATE documents SET name = ?4, source = ?5, content_type = ?6, sha256 = ?7,"
        " text_sha256 = ?8, bytes = ?9, format = ?10, state = ?11, error = ?12, error_code = ?13,"
        " chunks = ?14, tokens = ?15, pages = ?16, text_bytes = ?17, attributes = ?18, tags = ?19,"
        " chunking = ?20, file = ?21, batch = ?22, updated_ns = ?24"
        " WHERE project = ?1 AND id = ?2 AND collection = ?3 AND ?23 IS NOT NULL",
        DOCUMENT_BINDS(row), err);
}

enum rc document_row_delete(struct db_txn *txn, struct id project, struct id document,
                            struct err *err)
{
    return sql_exec(txn, "DELETE FROM documents WHERE project = ?1 AND id = ?2",
                    SQL_BIND(sql_id(&project), sql_id(&document)), err);
}

static void copy_digest(const struct sql_rows *rows, int column, uint8_t out[SHA256_BYTES])
{
    struct str digest = sql_column_str(rows, column);
    memset(out, 0, SHA256_BYTES);
    if (digest.n == SHA256_BYTES)
        memcpy(out, digest.p, SHA256_BYTES);
}

static enum rc read_document(const struct sql_rows *rows, struct arena *arena,
                             struct document_row *row, struct err *err)
{
    static const int columns[] = {3, 4, 5, 9, 11, 12, 17, 18, 19};
    struct str *const texts[] = {&row->name,       &row->source, &row->content_type,
                                 &row->format,     &row->error,  &row->error_code,
                                 &row->attributes, &row->tags,   &row->chunking};
    row->project = sql_column_id(rows, 0);
    row->id = sql_column_id(rows, 1);
    row->collection = sql_column_id(rows, 2);
    copy_digest(rows, 6, row->sha256);
    row->has_text = !sql_is_null(rows, 7);
    copy_digest(rows, 7, row->text_sha256);
    row->bytes = sql_column_i64(rows, 8);
    if (document_state_parse(sql_column_str(rows, 10), &row->state) != RC_OK)
        return err_set(err, ERR_INTERNAL, "a document is in an unknown state");
    row->chunks = sql_column_i64(rows, 13);
    row->tokens = sql_column_i64(rows, 14);
    row->pages = sql_column_i64(rows, 15);
    row->text_bytes = sql_column_i64(rows, 16);
    row->file = sql_column_id(rows, 20);
    row->batch = sql_column_id(rows, 21);
    row->created_ns = sql_column_i64(rows, 22);
    row->updated_ns = sql_column_i64(rows, 23);
    return copy_texts(rows, arena, columns, texts, COUNT_OF(texts), err);
}

static enum rc finish_document(enum rc rc, struct sql_rows *rows, struct arena *arena,
                               struct document_row *out, struct err *err)
{
    if (rc == RC_END)
        return RC_NOT_FOUND;
    if (rc != RC_OK)
        return rc;
    rc = read_document(rows, arena, out, err);
    sql_end(rows);
    return rc;
}

enum rc document_row_get(struct db_txn *txn, struct id project, struct id collection,
                         struct id document, struct arena *arena, struct document_row *out,
                         struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " DOCUMENT_COLUMNS
                           " FROM documents WHERE project = ?1 AND collection = ?2 AND id = ?3"
                           " AND state <> 'deleting'",
                           SQL_BIND(sql_id(&project), sql_id(&collection), sql_id(&document)), err);
    rc = finish_document(rc, &rows, arena, out, err);
    return rc == RC_NOT_FOUND
               ? err_set(err, ERR_NOT_FOUND, "there is no such document in this collection")
               : rc;
}

enum rc document_row_get_deleting(struct db_txn *txn, struct id project, struct id document,
                                  struct arena *arena, struct document_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT " DOCUMENT_COLUMNS
                           " FROM documents WHERE project = ?1 AND id = ?2 AND state = 'deleting'",
                           SQL_BIND(sql_id(&project), sql_id(&document)), err);
    return finish_document(rc, &rows, arena, out, err);
}

enum rc document_row_find(struct db_txn *txn, struct id collection, struct str name,
                          const uint8_t *sha256, struct arena *arena, struct document_row *out,
                          struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        name.n ? sql_first(&rows, txn,
                           "SELECT " DOCUMENT_COLUMNS
                           " FROM documents WHERE collection = ?1 AND name = ?2 AND file IS NULL"
                           " AND state <> 'deleting'",
                           SQL_BIND(sql_id(&collection), sql_text(name)), err)
               : sql_first(&rows, txn,
                           "SELECT " DOCUMENT_COLUMNS
                           " FROM documents WHERE collection = ?1 AND sha256 = ?2 AND file IS NULL"
                           " AND state <> 'deleting'",
                           SQL_BIND(sql_id(&collection), sql_blob(sha256, SHA256_BYTES)), err);
    return finish_document(rc, &rows, arena, out, err);
}

enum rc document_row_find_file(struct db_txn *txn, struct id collection, struct id file,
                               struct arena *arena, struct document_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_first(&rows, txn,
                  "SELECT " DOCUMENT_COLUMNS " FROM documents WHERE collection = ?1 AND file = ?2"
                  " AND state <> 'deleting'",
                  SQL_BIND(sql_id(&collection), sql_id(&file)), err);
    return finish_document(rc, &rows, arena, out, err);
}

/* Ids are in order of their making. RC_END: none. */
static enum rc find_queued(struct db_txn *txn, struct id collection,
                           bool (*under_way)(void *arg, struct id document), void *arg,
                           struct arena *arena, struct document_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_query(txn,
                           "SELECT " DOCUMENT_COLUMNS
                           " FROM documents WHERE collection = ?1 AND state = 'queued'"
                           " ORDER BY id",
                           SQL_BIND(sql_id(&collection)), &rows, err);
    if (rc != RC_OK)
        return rc;
    while ((rc = sql_next(&rows, err)) == RC_OK)
        if (!under_way(arg, sql_column_id(&rows, 1)))
            break;
    if (rc != RC_OK)
        return rc;
    rc = read_document(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc document_row_claim(struct db_txn *txn, struct id collection,
                           bool (*under_way)(void *arg, struct id document), void *arg,
                           struct arena *arena, struct document_row *out, struct err *err)
{
    enum rc rc = find_queued(txn, collection, under_way, arg, arena, out, err);
    if (rc != RC_OK)
        return rc;
    out->state = DOCUMENT_PARSING;
    return sql_exec(txn, "UPDATE documents SET state = 'parsing' WHERE id = ?1",
                    SQL_BIND(sql_id(&out->id)), err);
}

enum rc document_rows_recover(struct db_txn *txn, struct err *err)
{
    return sql_exec(txn,
                    "UPDATE documents SET state = 'queued'"
                    " WHERE state IN ('parsing', 'chunking', 'embedding')",
                    SQL_NO_BINDS, err);
}

enum rc document_rows_fail(struct db_txn *txn, struct id collection, struct str error_code,
                           struct str error, struct err *err)
{
    return sql_exec(txn,
                    "UPDATE documents SET state = 'failed', error_code = ?2, error = ?3,"
                    " updated_ns = ?4 WHERE collection = ?1 AND state = 'queued'",
                    SQL_BIND(sql_id(&collection), sql_text(error_code), sql_text(error),
                             sql_i64(db_txn_now_ns(txn))),
                    err);
}

enum rc document_rows_set_state(struct db_txn *txn, struct id collection, struct id batch,
                                unsigned states, enum document_state to, struct err *err)
{
    enum rc rc = RC_OK;
    for (int i = 0; rc == RC_OK && i < DOCUMENT_STATE_COUNT; i++)
        if (states & (1u << i))
            rc = sql_exec(txn,
                          "UPDATE documents SET state = ?4 WHERE collection = ?1"
                          " AND (?2 IS NULL OR batch = ?2) AND state = ?3",
                          SQL_BIND(sql_id(&collection), sql_id(&batch), sql_z(state_names[i]),
                                   sql_z(document_state_name(to))),
                          err);
    return rc;
}

/* "queued,ready": SQL tests membership in it, because lists cannot be bound. */
static struct str states_text(unsigned states, char out[256])
{
    size_t n = 0;
    for (int i = 0; i < DOCUMENT_STATE_COUNT; i++)
        if (states & (1u << i)) {
            out[n++] = ',';
            size_t length = strlen(state_names[i]);
            memcpy(out + n, state_names[i], length);
            n += length;
        }
    out[n++] = ',';
    return str_make(out, n);
}

#define DOCUMENT_WHERE                                                                             \
    " FROM documents WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR collection = ?2)"       \
    " AND (?3 IS NULL OR batch = ?3) AND (?4 IS NULL OR file = ?4)"                                \
    " AND ((?5 = ',' AND state <> 'deleting') OR instr(?5, ',' || state || ',') > 0)"              \
    " AND (?6 = '' OR instr(lower(name), lower(?6)) > 0) AND (?7 = 0 OR file IS NOT NULL)"

#define DOCUMENT_FILTER(filter, states)                                                            \
    sql_id(&(filter)->project), sql_id(&(filter)->collection), sql_id(&(filter)->batch),           \
        sql_id(&(filter)->file), sql_text(states), text_or_empty((filter)->search),                \
        sql_i64((filter)->only_files)

enum rc document_row_list(struct db_txn *txn, const struct document_filter *filter, struct id after,
                          size_t limit, struct arena *arena, struct document_row **out,
                          size_t *count, struct err *err)
{
    struct sql_rows rows;
    char text[256];
    struct str states = states_text(filter->states, text);
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct document_row, limit + 1);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(
        txn,
        filter->ascending ? "SELECT " DOCUMENT_COLUMNS DOCUMENT_WHERE
                            " AND (?8 IS NULL OR id > ?8) ORDER BY id LIMIT ?9"
                          : "SELECT " DOCUMENT_COLUMNS DOCUMENT_WHERE " AND (?8 IS NULL OR id < ?8)"
                            " ORDER BY id DESC LIMIT ?9",
        SQL_BIND(DOCUMENT_FILTER(filter, states), sql_id(&after), sql_i64((int64_t)limit)), &rows,
        err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        if ((rc = read_document(&rows, arena, &(*out)[(*count)++], err)) != RC_OK)
            sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc document_rows_count(struct db_txn *txn, const struct document_filter *filter,
                            struct document_counts *out, struct err *err)
{
    struct sql_rows rows;
    char text[256];
    struct str states = states_text(filter->states, text);
    *out = (struct document_counts){{0}};
    enum rc rc =
        sql_query(txn,
                  "SELECT state, count(*), sum(bytes), sum(chunks), sum(tokens)" DOCUMENT_WHERE
                  " GROUP BY state",
                  SQL_BIND(DOCUMENT_FILTER(filter, states)), &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK) {
        enum document_state state;
        if (document_state_parse(sql_column_str(&rows, 0), &state) != RC_OK)
            continue;
        out->states[state] = sql_column_i64(&rows, 1);
        out->total += sql_column_i64(&rows, 1);
        out->bytes += sql_column_i64(&rows, 2);
        out->chunks += sql_column_i64(&rows, 3);
        out->tokens += sql_column_i64(&rows, 4);
    }
    return rc == RC_END ? RC_OK : rc;
}

enum rc document_rows_waiting(struct db_txn *txn, size_t limit, struct arena *arena,
                              struct waiting_collection **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct waiting_collection, limit);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(txn,
                           "SELECT DISTINCT project, collection FROM documents"
                           " WHERE state = 'queued' LIMIT ?1",
                           SQL_BIND(sql_i64((int64_t)limit)), &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        (*out)[(*count)++] =
            (struct waiting_collection){sql_column_id(&rows, 0), sql_column_id(&rows, 1)};
    return rc == RC_END ? RC_OK : rc;
}

enum rc blob_is_used(struct db_txn *txn, const uint8_t sha256[SHA256_BYTES], bool *used,
                     struct err *err)
{
    int64_t count;
    enum rc rc = sql_get_i64(txn,
                             "SELECT EXISTS(SELECT 1 FROM documents WHERE sha256 = ?1)"
                             " + EXISTS(SELECT 1 FROM documents WHERE text_sha256 = ?1)"
                             " + EXISTS(SELECT 1 FROM files WHERE sha256 = ?1)",
                             SQL_BIND(sql_blob(sha256, SHA256_BYTES)), 0, &count, err);
    *used = rc != RC_OK || count > 0;
    return rc;
}

/* ---- files ---- */

#define FILE_COLUMNS                                                                               \
    "project, id, name, purpose, content_type, bytes, sha256, created_ns, expires_ns"

enum rc file_row_insert(struct db_txn *txn, const struct file_row *row, struct err *err)
{
    return sql_exec(
        txn, "INSERT INTO files(" FILE_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_text(row->name),
                 sql_text(row->purpose), text_or_empty(row->content_type), sql_i64(row->bytes),
                 sql_blob(row->sha256, SHA256_BYTES), sql_i64(row->created_ns),
                 sql_i64(row->expires_ns)),
        err);
}

enum rc file_row_delete(struct db_txn *txn, struct id project, struct id file, struct err *err)
{
    return sql_exec(txn, "DELETE FROM files WHERE project = ?1 AND id = ?2",
                    SQL_BIND(sql_id(&project), sql_id(&file)), err);
}

static enum rc read_file(const struct sql_rows *rows, struct arena *arena, struct file_row *row,
                         struct err *err)
{
    static const int columns[] = {2, 3, 4};
    struct str *const texts[] = {&row->name, &row->purpose, &row->content_type};
    row->project = sql_column_id(rows, 0);
    row->id = sql_column_id(rows, 1);
    row->bytes = sql_column_i64(rows, 5);
    copy_digest(rows, 6, row->sha256);
    row->created_ns = sql_column_i64(rows, 7);
    row->expires_ns = sql_column_i64(rows, 8);
    return copy_texts(rows, arena, columns, texts, COUNT_OF(texts), err);
}

enum rc file_row_get(struct db_txn *txn, struct id project, struct id file, struct arena *arena,
                     struct file_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc =
        sql_first(&rows, txn, "SELECT " FILE_COLUMNS " FROM files WHERE project = ?1 AND id = ?2",
                  SQL_BIND(sql_id(&project), sql_id(&file)), err);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "there is no such file");
    if (rc != RC_OK)
        return rc;
    rc = read_file(&rows, arena, out, err);
    sql_end(&rows);
    return rc;
}

enum rc file_row_list(struct db_txn *txn, struct id project, struct str purpose, struct id after,
                      bool ascending, size_t limit, struct arena *arena, struct file_row **out,
                      size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct file_row, limit + 1);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(
        txn,
        ascending ? "SELECT " FILE_COLUMNS " FROM files WHERE project = ?1 AND (?2 = '' OR purpose "
                    "= ?2) AND (?3 IS NULL OR id > ?3) ORDER BY id LIMIT ?4"
                  : "SELECT " FILE_COLUMNS " FROM files WHERE project = ?1 AND (?2 = '' OR purpose "
                    "= ?2) AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4",
        SQL_BIND(sql_id(&project), text_or_empty(purpose), sql_id(&after), sql_i64((int64_t)limit)),
        &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        if ((rc = read_file(&rows, arena, &(*out)[(*count)++], err)) != RC_OK)
            sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc file_rows_expired(struct db_txn *txn, int64_t now_ns, size_t limit, struct arena *arena,
                          struct file_row **out, size_t *count, struct err *err)
{
    struct sql_rows rows;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct file_row, limit + 1);
    if (!*out)
        return no_memory(err);
    enum rc rc = sql_query(txn,
                           "SELECT " FILE_COLUMNS " FROM files WHERE expires_ns > 0"
                           " AND expires_ns < ?1 LIMIT ?2",
                           SQL_BIND(sql_i64(now_ns), sql_i64((int64_t)limit)), &rows, err);
    while (rc == RC_OK && (rc = sql_next(&rows, err)) == RC_OK)
        if ((rc = read_file(&rows, arena, &(*out)[(*count)++], err)) != RC_OK)
            sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

/* ---- batches ---- */

enum rc batch_row_insert(struct db_txn *txn, const struct batch_row *row, struct err *err)
{
    return sql_exec(txn,
                    "INSERT INTO file_batches(project, id, collection, cancelled, created_ns)"
                    " VALUES(?1, ?2, ?3, ?4, ?5)",
                    SQL_BIND(sql_id(&row->project), sql_id(&row->id), sql_id(&row->collection),
                             sql_i64(row->cancelled), sql_i64(row->created_ns)),
                    err);
}

enum rc batch_row_cancel(struct db_txn *txn, struct id batch, struct err *err)
{
    return sql_exec(txn, "UPDATE file_batches SET cancelled = 1 WHERE id = ?1",
                    SQL_BIND(sql_id(&batch)), err);
}

enum rc batch_row_get(struct db_txn *txn, struct id collection, struct id batch,
                      struct batch_row *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn,
                           "SELECT project, id, collection, cancelled, created_ns"
                           " FROM file_batches WHERE collection = ?1 AND id = ?2",
                           SQL_BIND(sql_id(&collection), sql_id(&batch)), err);
    if (rc == RC_END)
        return err_set(err, ERR_NOT_FOUND, "there is no such file batch in this vector store");
    if (rc != RC_OK)
        return rc;
    *out = (struct batch_row){.project = sql_column_id(&rows, 0),
                              .id = sql_column_id(&rows, 1),
                              .collection = sql_column_id(&rows, 2),
                              .cancelled = sql_column_i64(&rows, 3) != 0,
                              .created_ns = sql_column_i64(&rows, 4)};
    sql_end(&rows);
    return RC_OK;
}
