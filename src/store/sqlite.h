/* Connections of SQLite, behind db.h and sql.h: private to src/store. */
#pragma once
#include "store/sql.h"

struct sqlite3;
struct sqlite3_stmt;

#define SQLITE_STATEMENTS_MAX 256 /* cached a connection; a power of two */

struct sqlite_cached {
    const char *text; /* by address */
    struct sqlite3_stmt *statement;
    bool busy;
};

/* A connection, which is also the transaction that runs on it. */
struct db_txn {
    struct sqlite3 *handle;
    struct db *db;
    bool writes, changed;
    bool changed_all; /* not only the objects below */
    struct db_object_change changes[DB_CHANGES_MAX];
    size_t change_count;
    struct arena change_names;
    int64_t now_ns;
    struct sqlite_cached cached[SQLITE_STATEMENTS_MAX];
    struct db_txn *next_free; /* of the readers */
};

enum rc sqlite_open(const char *path, bool writes, struct db_txn **out, struct err *err) MUST_CHECK;
void sqlite_close(struct db_txn *connection);
/* Any statement or several, without values: BEGIN, PRAGMA, a migration. */
enum rc sqlite_run(struct db_txn *connection, const char *text, struct err *err) MUST_CHECK;
enum rc sqlite_copy_to(struct db_txn *connection, const char *path, struct err *err) MUST_CHECK;
