/* SQLite behind sql.h. A connection belongs to one thread at a time (NOMUTEX); prepared statements
 * are kept by the address of their text, since all texts are literals. */
#include "store/sqlite.h"
#include "base/clock.h"
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>

static enum rc fail(struct db_txn *txn, int code, struct err *err)
{
    const char *text = txn->handle ? sqlite3_errmsg(txn->handle) : sqlite3_errstr(code);

    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
        return err_set(err, ERR_CONFLICT, "The object exists already or is in use (%s).", text);
    case SQLITE_FULL:
        return err_set(err, ERR_DISK_FULL, "The disk of the control database is full.");
    case SQLITE_NOMEM:
        return err_set(err, ERR_OVERLOADED, "Out of memory in the control database.");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        err_set(err, ERR_INTERNAL, "The control database is damaged: %s. Restore a backup.", text);
        return RC_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        err_set(err, ERR_OVERLOADED, "The control database is locked by another process.");
        return RC_CONFLICT;
    default: err_set(err, ERR_INTERNAL, "Control database: %s.", text); return RC_IO;
    }
}

enum rc sqlite_run(struct db_txn *connection, const char *text, struct err *err)
{
    int code = sqlite3_exec(connection->handle, text, NULL, NULL, NULL);

    return code == SQLITE_OK ? RC_OK : fail(connection, code, err);
}

enum rc sqlite_open(const char *path, bool writes, struct db_txn **out, struct err *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (writes ? SQLITE_OPEN_CREATE : 0);
    struct db_txn *txn = xcalloc(1, sizeof *txn);
    int code = sqlite3_open_v2(path, &txn->handle, flags, NULL);
    enum rc rc;

    txn->writes = writes;
    arena_init(&txn->change_names, 1024 * 1024);
    if (code != SQLITE_OK) {
        rc = fail(txn, code, err);
        err_prefix(err, "%s", path);
        sqlite_close(txn);
        return rc;
    }
    sqlite3_extended_result_codes(txn->handle, 1);
    sqlite3_busy_timeout(txn->handle, 5000);
    rc = sqlite_run(
        txn,
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-1024; PRAGMA journal_size_limit=16777216;",
        err);
    if (rc == RC_OK && !writes)
        rc = sqlite_run(txn, "PRAGMA query_only=ON;", err);
    if (rc != RC_OK) {
        err_prefix(err, "%s", path);
        sqlite_close(txn);
        return rc;
    }
    *out = txn;
    return RC_OK;
}

void sqlite_close(struct db_txn *connection)
{
    for (size_t i = 0; i < SQLITE_STATEMENTS_MAX; i++)
        sqlite3_finalize(connection->cached[i].statement);
    int code = sqlite3_close(connection->handle);
    ASSERT(code == SQLITE_OK); /* else a query was not ended */
    arena_fini(&connection->change_names);
    free(connection);
}

enum rc sqlite_copy_to(struct db_txn *connection, const char *path, struct err *err)
{
    struct db_txn target = {0};
    int code =
        sqlite3_open_v2(path, &target.handle,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    enum rc rc = RC_OK;

    if (code == SQLITE_OK) {
        sqlite3_backup *backup =
            sqlite3_backup_init(target.handle, "main", connection->handle, "main");
        if (backup)
            sqlite3_backup_step(backup, -1);
        code = backup ? sqlite3_backup_finish(backup) : sqlite3_errcode(target.handle);
    }
    if (code != SQLITE_OK)
        rc = fail(&target, code, err);
    /* A copy is one file: without a log beside it. */
    if (rc == RC_OK)
        rc = sqlite_run(&target, "PRAGMA journal_mode=DELETE;", err);
    sqlite3_close(target.handle);
    if (rc == RC_OK && chmod(path, 0600) != 0)
        rc = err_set(err, ERR_INTERNAL, "%s: its mode cannot be set.", path);
    return rc;
}

/* ---- statements ---- */

static enum rc statement_take(struct db_txn *txn, const char *text, struct sql_rows *rows,
                              struct err *err)
{
    size_t at = ((uintptr_t)text >> 3) * 0x9e3779b97f4a7c15ull >> 56;
    struct sqlite_cached *cached = NULL;
    sqlite3_stmt *statement = NULL;

    for (size_t i = 0; i < 8 && !cached; i++) {
        struct sqlite_cached *slot = &txn->cached[(at + i) & (SQLITE_STATEMENTS_MAX - 1)];
        if (slot->text == text || !slot->text)
            cached = slot;
    }
    *rows = (struct sql_rows){.txn = txn};
    if (cached && cached->text && !cached->busy) {
        cached->busy = true;
        rows->statement = cached->statement;
        rows->cached = cached;
        return RC_OK;
    }
    int code =
        sqlite3_prepare_v3(txn->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL);
    if (code != SQLITE_OK)
        return fail(txn, code, err);
    rows->statement = statement;
    if (cached && !cached->text) { /* else: in use by an outer query, or no room */
        *cached = (struct sqlite_cached){text, statement, true};
        rows->cached = cached;
    }
    return RC_OK;
}

static int bind_one(sqlite3_stmt *statement, int at, const struct sql_value *value)
{
    switch (value->type) {
    case SQL_VALUE_NULL: return sqlite3_bind_null(statement, at);
    case SQL_VALUE_I64: return sqlite3_bind_int64(statement, at, value->i);
    case SQL_VALUE_REAL: return sqlite3_bind_double(statement, at, value->real);
    case SQL_VALUE_TEXT:
        return sqlite3_bind_text(statement, at, value->s.n ? value->s.p : "", (int)value->s.n,
                                 SQLITE_STATIC);
    case SQL_VALUE_BLOB:
        return sqlite3_bind_blob(statement, at, value->s.n ? value->s.p : "", (int)value->s.n,
                                 SQLITE_STATIC);
    }
    UNREACHABLE();
}

enum rc sql_query(struct db_txn *txn, const char *text, struct sql_binds binds,
                  struct sql_rows *rows, struct err *err)
{
    enum rc rc = statement_take(txn, text, rows, err);

    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; i < binds.count; i++) {
        int code = bind_one(rows->statement, (int)i + 1, &binds.values[i]);
        if (code != SQLITE_OK) {
            rc = fail(txn, code, err);
            sql_end(rows);
            return rc;
        }
    }
    return RC_OK;
}

enum rc sql_next(struct sql_rows *rows, struct err *err)
{
    ASSERT(rows->statement != NULL);
    int code = sqlite3_step(rows->statement);

    if (code == SQLITE_ROW)
        return RC_OK;
    enum rc rc = code == SQLITE_DONE ? RC_END : fail(rows->txn, code, err);
    sql_end(rows);
    return rc;
}

void sql_end(struct sql_rows *rows)
{
    struct sqlite_cached *cached = rows->cached;

    if (!rows->statement)
        return;
    if (cached) {
        sqlite3_reset(rows->statement);
        sqlite3_clear_bindings(rows->statement);
        cached->busy = false;
    } else {
        sqlite3_finalize(rows->statement);
    }
    rows->statement = rows->cached = NULL;
}

enum rc sql_first(struct sql_rows *rows, struct db_txn *txn, const char *text,
                  struct sql_binds binds, struct err *err)
{
    enum rc rc = sql_query(txn, text, binds, rows, err);

    return rc == RC_OK ? sql_next(rows, err) : rc;
}

enum rc sql_exec(struct db_txn *txn, const char *text, struct sql_binds binds, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn, text, binds, err);

    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

enum rc sql_get_i64(struct db_txn *txn, const char *text, struct sql_binds binds, int64_t absent,
                    int64_t *out, struct err *err)
{
    struct sql_rows rows;
    enum rc rc = sql_first(&rows, txn, text, binds, err);

    *out = absent;
    if (rc == RC_OK && !sql_is_null(&rows, 0))
        *out = sql_column_i64(&rows, 0);
    sql_end(&rows);
    return rc == RC_END ? RC_OK : rc;
}

int64_t sql_changes(struct db_txn *txn) { return sqlite3_changes64(txn->handle); }

bool sql_is_null(const struct sql_rows *rows, int column)
{
    return sqlite3_column_type(rows->statement, column) == SQLITE_NULL;
}

int64_t sql_column_i64(const struct sql_rows *rows, int column)
{
    return sqlite3_column_int64(rows->statement, column);
}

double sql_column_real(const struct sql_rows *rows, int column)
{
    return sqlite3_column_double(rows->statement, column);
}

struct str sql_column_str(const struct sql_rows *rows, int column)
{
    const void *p = sqlite3_column_blob(rows->statement, column);

    return str_make(p, p ? (size_t)sqlite3_column_bytes(rows->statement, column) : 0);
}

struct id sql_column_id(const struct sql_rows *rows, int column)
{
    struct str bytes = sql_column_str(rows, column);
    struct id id = {{0}};

    if (bytes.n == sizeof id.bytes)
        memcpy(id.bytes, bytes.p, sizeof id.bytes);
    return id;
}

enum rc sql_column_copy(const struct sql_rows *rows, int column, struct arena *arena,
                        struct str *out, struct err *err)
{
    struct str s = sql_column_str(rows, column);

    *out = arena_copy(arena, s.n ? s : STR(""));
    if (!out->p)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large: ask for fewer items.");
    return RC_OK;
}
