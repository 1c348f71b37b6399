/* The control database's threads: one writer that batches, readers' connections that workers
 * borrow.
 *
 * The writer takes everything that waits (up to BATCH_MAX), gives each piece a savepoint in one
 * transaction, commits, lets the snapshot be rebuilt if anything marked a change, and replies. A
 * piece that fails is undone alone; a commit that fails fails all. */
#include "store/db.h"
#include "base/clock.h"
#include "store/migrations.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_MAX       256
#define QUEUE_MAX       4096
#define READERS_DEFAULT 4

struct db {
    char path[1024];
    int lock_fd;
    const struct secret_box *secrets;
    struct db_txn *writer;
    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work_waits, reader_free;
    struct db_work *first, **last; /* submitted, in order */
    size_t waiting;
    bool closing, released;
    struct db_txn *free_readers;
    int readers_out;
    void (*changed)(void *arg, struct db_txn *txn);
    void *changed_arg;
    struct db_counters counters;
};

/* ---- opening ---- */

/* One process writes: the lock is on a file of its own, since SQLite locks the database's. */
static enum rc lock_take(struct db *db, struct err *err)
{
    char path[sizeof db->path + 8];

    snprintf(path, sizeof path, "%s.lock", db->path);
    db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->lock_fd < 0) {
        err_set(err, ERR_INTERNAL, "%s: %s", path, strerror(errno));
        return RC_IO;
    }
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, ERR_CONFLICT,
                       "Another process uses %s: stop it, or choose another data folder.",
                       db->path);
    return RC_OK;
}

static void *writer_main(void *arg);

static enum rc open_connections(struct db *db, int readers, struct err *err)
{
    mode_t mask = umask(0077); /* the database holds digests of keys and sealed secrets */
    enum rc rc = sqlite_open(db->path, true, &db->writer, err);
    if (rc == RC_OK)
        rc = migrations_run(db->writer, db->path, err);
    umask(mask);

    for (int i = 0; rc == RC_OK && i < readers; i++) {
        struct db_txn *reader;
        rc = sqlite_open(db->path, false, &reader, err);
        if (rc == RC_OK) {
            reader->db = db;
            reader->next_free = db->free_readers;
            db->free_readers = reader;
        }
    }
    if (rc == RC_OK) {
        db->writer->db = db;
        db->thread_runs = pthread_create(&db->thread, NULL, writer_main, db) == 0;
        if (!db->thread_runs)
            rc = err_set(err, ERR_OVERLOADED, "The control writer's thread cannot be started.");
    }
    return rc;
}

enum rc db_open(const struct db_options *options, struct db **out, struct err *err)
{
    struct db *db = xcalloc(1, sizeof *db);
    enum rc rc;

    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->work_waits, NULL);
    pthread_cond_init(&db->reader_free, NULL);
    db->last = &db->first;
    db->lock_fd = -1;
    db->secrets = options->secrets;
    if ((size_t)snprintf(db->path, sizeof db->path, "%s", options->path) >= sizeof db->path)
        rc = err_set(err, ERR_INVALID, "The path of the control database is too long.");
    else if ((rc = lock_take(db, err)) == RC_OK)
        rc = open_connections(db, options->readers ? options->readers : READERS_DEFAULT, err);
    if (rc != RC_OK) {
        db_close(db);
        return rc;
    }
    *out = db;
    return RC_OK;
}

static void stop_writer(struct db *db)
{
    if (!db->thread_runs)
        return;
    pthread_mutex_lock(&db->lock);
    db->closing = true;
    pthread_cond_signal(&db->work_waits);
    pthread_mutex_unlock(&db->lock);
    pthread_join(db->thread, NULL);
    db->thread_runs = false;
}

static void close_files(struct db *db)
{
    for (struct db_txn *reader; (reader = db->free_readers);) {
        db->free_readers = reader->next_free;
        sqlite_close(reader);
    }
    if (db->writer)
        sqlite_close(db->writer); /* last, so that the log is folded into the file */
    db->writer = NULL;
    if (db->lock_fd >= 0)
        close(db->lock_fd);
    db->lock_fd = -1;
}

void db_release(struct db *db)
{
    stop_writer(db);
    pthread_mutex_lock(&db->lock);
    db->released = true;
    pthread_cond_broadcast(&db->reader_free);
    while (db->readers_out > 0)
        pthread_cond_wait(&db->reader_free, &db->lock);
    pthread_mutex_unlock(&db->lock);
    close_files(db);
}

void db_close(struct db *db)
{
    stop_writer(db);
    ASSERT(db->readers_out == 0);
    close_files(db);
    pthread_cond_destroy(&db->reader_free);
    pthread_cond_destroy(&db->work_waits);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

/* ---- reading ---- */

enum rc db_read_begin(struct db *db, struct db_txn **out, struct err *err)
{
    pthread_mutex_lock(&db->lock);
    while (!db->free_readers && !db->released)
        pthread_cond_wait(&db->reader_free, &db->lock);
    if (db->released) {
        pthread_mutex_unlock(&db->lock);
        return err_set(err, ERR_OVERLOADED,
                       "Another process has just taken over: send the request again.");
    }
    struct db_txn *txn = db->free_readers;
    db->free_readers = txn->next_free;
    db->readers_out++;
    db->counters.reads++;
    pthread_mutex_unlock(&db->lock);

    txn->now_ns = clock_wall_ns();
    *out = txn;
    enum rc rc = sqlite_run(txn, "BEGIN", err);
    if (rc != RC_OK)
        db_read_end(txn);
    return rc;
}

void db_read_end(struct db_txn *txn)
{
    struct db *db = txn->db;

    ASSERT(!txn->writes);
    /* Fails only if BEGIN did. */
    if (sqlite_run(txn, "COMMIT", NULL) != RC_OK)
        (void)!sqlite_run(txn, "ROLLBACK", NULL);
    pthread_mutex_lock(&db->lock);
    txn->next_free = db->free_readers;
    db->free_readers = txn;
    db->readers_out--;
    pthread_cond_broadcast(&db->reader_free);
    pthread_mutex_unlock(&db->lock);
}

/* ---- writing ---- */

enum rc db_write(struct db *db, struct db_work *work)
{
    enum rc rc = RC_LIMIT;

    work->next = NULL;
    pthread_mutex_lock(&db->lock);
    if (db->waiting < QUEUE_MAX && !db->closing) {
        *db->last = work;
        db->last = &work->next;
        db->waiting++;
        pthread_cond_signal(&db->work_waits);
        rc = RC_OK;
    }
    pthread_mutex_unlock(&db->lock);
    return rc;
}

/* Up to BATCH_MAX pieces as a list, or NULL when the database is being closed. */
static struct db_work *batch_take(struct db *db)
{
    pthread_mutex_lock(&db->lock);
    while (!db->first && !db->closing)
        pthread_cond_wait(&db->work_waits, &db->lock);
    struct db_work *batch = db->first, **end = &batch;
    size_t count = 0;
    while (*end && count < BATCH_MAX) {
        end = &(*end)->next;
        count++;
    }
    db->first = *end;
    *end = NULL;
    if (!db->first)
        db->last = &db->first;
    db->waiting -= count;
    pthread_mutex_unlock(&db->lock);
    return batch;
}

static enum rc piece_run(struct db_txn *txn, struct db_work *work)
{
    bool changed_before = txn->changed, all_before = txn->changed_all;
    size_t count_before = txn->change_count;
    enum rc rc = sqlite_run(txn, "SAVEPOINT piece", &work->err);

    if (rc != RC_OK)
        return rc;
    rc = work->write(work, txn, &work->err);
    if (rc == RC_OK)
        rc = sqlite_run(txn, "RELEASE piece", &work->err);
    if (rc != RC_OK) {
        txn->changed = changed_before;
        txn->changed_all = all_before;
        txn->change_count = count_before;
        (void)!sqlite_run(txn, "ROLLBACK TO piece", NULL);
        (void)!sqlite_run(txn, "RELEASE piece", NULL);
    }
    return rc;
}

static void task_done(struct task *task)
{
    struct db_work *work = CONTAINER_OF(task, struct db_work, task);

    work->done(work);
}

static void batch_reply(struct db *db, struct db_work *batch)
{
    uint64_t count = 0, failed = 0;

    for (struct db_work *work = batch; work; work = work->next) {
        count++;
        failed += work->rc != RC_OK;
    }
    pthread_mutex_lock(&db->lock);
    db->counters.batches++;
    db->counters.writes += count;
    db->counters.writes_failed += failed;
    pthread_mutex_unlock(&db->lock);

    for (struct db_work *work = batch, *next; work; work = next) {
        next = work->next; /* `done` may free the work */
        work->task.run = task_done;
        if (work->home)
            loop_post(work->home, &work->task);
        else
            work->done(work);
    }
}

static void commit_measure(struct db *db, int64_t began_ns)
{
    int64_t ns = clock_monotonic_ns() - began_ns;
    struct stat st;

    pthread_mutex_lock(&db->lock);
    db->counters.commit_ns_last = ns;
    db->counters.commit_ns_max = MAX(db->counters.commit_ns_max, ns);
    if (stat(db->path, &st) == 0)
        db->counters.file_bytes = st.st_size;
    pthread_mutex_unlock(&db->lock);
}

static void tell_changed(struct db *db, struct db_txn *txn)
{
    pthread_mutex_lock(&db->lock);
    void (*changed)(void *, struct db_txn *) = db->changed;
    void *arg = db->changed_arg;
    pthread_mutex_unlock(&db->lock);

    if (changed)
        changed(arg, txn);
}

static void batch_run(struct db *db, struct db_work *batch)
{
    struct db_txn *txn = db->writer;
    struct err err = {0};

    txn->now_ns = clock_wall_ns();
    txn->changed = txn->changed_all = false;
    txn->change_count = 0;
    arena_reset(&txn->change_names);
    enum rc rc = sqlite_run(txn, "BEGIN IMMEDIATE", &err);
    for (struct db_work *work = batch; work; work = work->next) {
        work->err = (struct err){0};
        work->rc = rc == RC_OK ? piece_run(txn, work) : rc;
    }
    if (rc == RC_OK) {
        int64_t began_ns = clock_monotonic_ns();
        rc = sqlite_run(txn, "COMMIT", &err);
        commit_measure(db, began_ns);
        if (rc != RC_OK)
            (void)!sqlite_run(txn, "ROLLBACK", NULL);
    }
    if (rc != RC_OK) {
        for (struct db_work *work = batch; work; work = work->next) {
            if (work->rc != RC_OK && work->err.code != ERR_NONE)
                continue;
            work->rc = rc;
            work->err = err;
        }
    } else if (txn->changed) {
        tell_changed(db, txn);
    }
    batch_reply(db, batch);
}

static void *writer_main(void *arg)
{
    struct db *db = arg;

    pthread_setname_np(pthread_self(), "control-writer");
    for (struct db_work *batch; (batch = batch_take(db));)
        batch_run(db, batch);
    return NULL;
}

/* ---- waiting for a write ---- */

struct waited_write {
    struct db_work work;
    enum rc (*write)(void *arg, struct db_txn *txn, struct err *err);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool finished;
};

static enum rc waited_run(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct waited_write *waited = CONTAINER_OF(work, struct waited_write, work);

    return waited->write(waited->arg, txn, err);
}

static void waited_done(struct db_work *work)
{
    struct waited_write *waited = CONTAINER_OF(work, struct waited_write, work);

    pthread_mutex_lock(&waited->lock);
    waited->finished = true;
    pthread_cond_signal(&waited->cond);
    pthread_mutex_unlock(&waited->lock);
}

enum rc db_write_wait(struct db *db,
                      enum rc (*write)(void *arg, struct db_txn *txn, struct err *err), void *arg,
                      struct err *err)
{
    struct waited_write waited = {
        .work = {.write = waited_run, .done = waited_done}, .write = write, .arg = arg};

    ASSERT(!pthread_equal(pthread_self(), db->thread));
    pthread_mutex_init(&waited.lock, NULL);
    pthread_cond_init(&waited.cond, NULL);
    enum rc rc = db_write(db, &waited.work);
    if (rc == RC_OK) {
        pthread_mutex_lock(&waited.lock);
        while (!waited.finished)
            pthread_cond_wait(&waited.cond, &waited.lock);
        pthread_mutex_unlock(&waited.lock);
        rc = waited.work.rc;
        if (rc != RC_OK && err)
            *err = waited.work.err;
    } else {
        rc = err_set(err, ERR_OVERLOADED, "Too many changes wait to be written: try again.");
    }
    pthread_cond_destroy(&waited.cond);
    pthread_mutex_destroy(&waited.lock);
    return rc;
}

/* ---- the rest ---- */

void db_txn_mark_changed(struct db_txn *txn)
{
    ASSERT(txn->writes);
    txn->changed = txn->changed_all = true;
}

void db_txn_mark_object(struct db_txn *txn, struct id project, int kind, struct str name)
{
    struct str copy = STR_EMPTY;

    ASSERT(txn->writes);
    txn->changed = true;
    if (txn->change_count < DB_CHANGES_MAX)
        copy = arena_copy(&txn->change_names, name);
    if (copy.p)
        txn->changes[txn->change_count++] = (struct db_object_change){project, kind, copy};
    else
        txn->changed_all = true;
}

bool db_txn_changes(const struct db_txn *txn, const struct db_object_change **changes,
                    size_t *count)
{
    *changes = txn->changes;
    *count = txn->change_count;
    return !txn->changed_all;
}

void db_on_change(struct db *db, void (*changed)(void *arg, struct db_txn *txn), void *arg)
{
    pthread_mutex_lock(&db->lock);
    db->changed = changed;
    db->changed_arg = arg;
    pthread_mutex_unlock(&db->lock);
}

int64_t db_txn_now_ns(const struct db_txn *txn) { return txn->now_ns; }

bool db_txn_writes(const struct db_txn *txn) { return txn->writes; }

const struct secret_box *db_txn_secrets(const struct db_txn *txn) { return txn->db->secrets; }

enum rc db_backup(struct db *db, const char *path, struct err *err)
{
    char temporary[1100];
    struct db_txn *txn;

    if ((size_t)snprintf(temporary, sizeof temporary, "%s.part", path) >= sizeof temporary)
        return err_set(err, ERR_INVALID, "The path of the backup is too long.");
    unlink(temporary);
    enum rc rc = db_read_begin(db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = sqlite_copy_to(txn, temporary, err);
    db_read_end(txn);
    if (rc == RC_OK && rename(temporary, path) != 0) {
        err_set(err, ERR_INTERNAL, "%s: %s", path, strerror(errno));
        rc = RC_IO;
    }
    if (rc != RC_OK)
        unlink(temporary);
    return rc;
}

void db_counters(const struct db *db, struct db_counters *out)
{
    struct db *mutable = (struct db *)db;

    pthread_mutex_lock(&mutable->lock);
    *out = db->counters;
    pthread_mutex_unlock(&mutable->lock);
}
