/* The control database: keys, providers, routes, users, jobs, audit. One file, one writer.
 *
 * All writes run on the control writer's thread, which puts what waits into one transaction with a
 * savepoint a piece, commits once (synchronous=FULL: committed means it survives power loss) and
 * only then replies. Reads run on workers, each over a consistent view. Nothing here may be called
 * on a loop but db_write. The database behind it (SQLite; later PostgreSQL) is known to src/store
 * only; so is SQL. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/id.h"
#include "io/loop.h"

struct db;
struct db_txn;
struct secret_box;

struct db_options {
    const char
        *path;   /* of the file; its folder exists. Made when missing, readable by its owner only */
    int readers; /* connections for reading; 0: 4 */
    const struct secret_box
        *secrets; /* seals what is secret; outlives the database; NULL: none is stored */
};

/* Locks the file against other processes and brings its schema up to date; a backup
 * (PATH.v<old version>.bak) is made before a migration. RC_CONFLICT: another process writes it.
 * RC_INVALID: made by a newer version, which the message names. */
enum rc db_open(const struct db_options *options, struct db **out, struct err *err) MUST_CHECK;
/* Finishes what was submitted; no read may be open. */
void db_close(struct db *db);

/* For another process that takes over: finishes what was submitted, waits for the readers, closes
 * the files and gives up the lock. From then on reads and writes are refused. Blocks; db_close is
 * still to be called. */
void db_release(struct db *db);

/* ---- reading: workers ---- */

/* A consistent view of everything committed before; waits while all connections are in use. */
enum rc db_read_begin(struct db *db, struct db_txn **out, struct err *err) MUST_CHECK;
void db_read_end(struct db_txn *txn);

/* ---- writing ---- */

/* A piece of writing, embedded in its owner. `write` runs on the writer's thread; unless it returns
 * RC_OK, what it wrote is undone. `done` runs on `home` (NULL: on the writer's thread) after the
 * commit, with the result in `rc` and `err`; `rc` is RC_OK only if everything is on the disk. */
struct db_work {
    struct task task;     /* private */
    struct db_work *next; /* private */
    struct loop *home;
    enum rc (*write)(struct db_work *work, struct db_txn *txn, struct err *err);
    void (*done)(struct db_work *work);
    enum rc rc;
    struct err err;
};

/* Any thread. RC_LIMIT when too much waits: answer 503. */
enum rc db_write(struct db *db, struct db_work *work) MUST_CHECK;
/* The same, waiting for the result; not on a loop, nor on the writer's thread. */
enum rc db_write_wait(struct db *db,
                      enum rc (*write)(void *arg, struct db_txn *txn, struct err *err), void *arg,
                      struct err *err) MUST_CHECK;

/* `write` functions say that the configuration which the hot path sees has changed (object_put and
 * its kin say so themselves). Once a batch, after its commit and before its replies, `changed` is
 * called on the writer's thread with a view of the new state: there the snapshot is rebuilt and
 * published. So whoever got his answer finds the change in effect. */
void db_txn_mark_changed(struct db_txn *txn);
/* The same for one object: if a batch changed nothing else, `changed` can learn which
 * (db_txn_changes) and mend what it has. */
void db_txn_mark_object(struct db_txn *txn, struct id project, int kind, struct str name);

#define DB_CHANGES_MAX 64 /* objects of a batch that are told one by one */

struct db_object_change {
    struct id project;
    int kind; /* enum object_kind */
    struct str name;
};

/* The objects that the batch has changed, valid in `changed`; false: more than can be told. */
bool db_txn_changes(const struct db_txn *txn, const struct db_object_change **changes,
                    size_t *count) MUST_CHECK;
void db_on_change(struct db *db, void (*changed)(void *arg, struct db_txn *txn), void *arg);

/* The time of the transaction: one value for all that it writes. */
int64_t db_txn_now_ns(const struct db_txn *txn);
bool db_txn_writes(const struct db_txn *txn);
const struct secret_box *db_txn_secrets(const struct db_txn *txn);

/* A consistent copy, synced, put in place by a rename. Worker. */
enum rc db_backup(struct db *db, const char *path, struct err *err) MUST_CHECK;

struct db_counters {
    uint64_t batches, writes, writes_failed, reads;
    int64_t commit_ns_max, commit_ns_last;
    int64_t file_bytes;
};
void db_counters(const struct db *db, struct db_counters *out); /* any thread */
