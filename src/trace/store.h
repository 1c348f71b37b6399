/* Inside of the store of call records, shared by store.c (life, submitting), writer.c, keeper.c
 * (sealing, compaction, retention) and the queries.
 *
 * Who changes what:
 *   writer thread   log (append, write), the active tail, `batch`
 *   syncer thread   log (sync), waiters
 *   keeper thread   parts on disk, manifest, spend book, log (dropping files)
 *   anybody         reads a snapshot
 * `mutex` guards the view, the waiters, spend tables and the conditions' flags; it is held for
 * short steps in memory only. `checkpoint` serialises what must not overlap with publishing a
 * manifest: erasures and reads of old spend files; it may be held while the disk works. Order:
 * checkpoint, mutex. */
#pragma once
#include "io/ring.h"
#include "store/lock.h"
#include "store/log.h"
#include "trace/part.h"
#include "trace/record.h"
#include "trace/spend.h"
#include "trace/tail.h"
#include "trace/trace.h"
#include <pthread.h>
#include <stdatomic.h>

#define TRACE_MAGIC      0x74726163u
#define TRACE_LOG_KIND   LOG_KIND('C', 'A', 'L', 'L')
#define FROZEN_TAILS_MAX 8  /* more, and the writer waits for the keeper */
#define VIEW_TAILS_MAX   64 /* at opening, the log may hold more of them when limits were changed */
#define BATCH_ITEMS_MAX  4096
#define BATCH_BYTES_MAX  (4u * 1024 * 1024)

/* What goes through the ring. */
struct trace_item {
    enum { ITEM_RECORD, ITEM_ERASE, ITEM_BARRIER } kind;
    enum record_type type;
    uint32_t bytes;
    struct trace_waiter *waiter; /* may be NULL */
    uint64_t *erased;            /* ITEM_ERASE: how many rows; NULL once the waiter was told */
    uint64_t barrier;            /* ITEM_BARRIER: its number */
    char p[];
};

/* An item on its way through the batch. */
struct batch_entry {
    struct trace_item *item;
    uint64_t seq, location;
};

/* The rowsets that exist, oldest first: parts, frozen tails, the active tail last. Immutable. */
struct trace_view {
    atomic_int references;
    size_t count;
    struct rowset *rows[];
};

/* What one query sees. */
struct trace_snapshot {
    struct trace_view *view;
    uint32_t counts[]; /* rows of each */
};

/* What the manifest knows of a part beside its id. */
struct part_entry {
    struct part *part;
    uint64_t deletes_generation; /* 0: none stored */
    uint32_t deletes_stored;     /* rows deleted as stored */
};

struct retention {
    struct id project; /* zero: default */
    int64_t age_ns_max, bytes_max;
};

struct trace_store {
    uint32_t magic;
    struct trace_options options;
    struct file_system *fs;
    char *directory;
    struct writer_lock *lock;
    uint64_t epoch;
    struct log *log;
    struct ring *ring;

    /* writer's */
    struct tail *active;
    struct batch_entry batch[BATCH_ITEMS_MAX];
    size_t batch_count;
    size_t batch_bytes;

    pthread_mutex_t checkpoint;
    pthread_mutex_t mutex;
    pthread_cond_t nudge_writer, wake_syncer, wake_keeper, changed;
    struct trace_view *view;
    struct trace_waiter *waiters, **waiters_end; /* by seq */
    int64_t unsynced_since_ns;                   /* 0: everything written is durable */
    bool writer_nudged, keeper_nudged, stopping;
    atomic_bool released; /* to another process */
    int flushers;         /* threads in trace_flush: sync at once */
    uint64_t barrier_next, barrier_done;

    /* keeper's (and trace_open's) */
    struct part_entry *parts; /* as in the manifest, oldest first */
    size_t part_count;
    uint64_t part_next, deletes_next;
    uint64_t sealed_seq;          /* what the log holds up to here is in parts and in the book */
    struct spend_book book;       /* changed under checkpoint and mutex */
    struct retention *retentions; /* under mutex */
    size_t retention_count;
    unsigned seal_failures_row; /* since the last success */
    int64_t retained_at_ns;     /* monotonic, of the last look */

    void (*forward)(void *arg, struct str bytes, struct trace_waiter *waiter);
    void *forward_arg;
    pthread_t writer, syncer, keeper;
    bool threads_run;

    /* counters */
    atomic_int_least64_t queue_bytes;
    atomic_uint_least64_t submitted, stored, lost_queue, lost_disk, rows_deleted;
    atomic_uint_least64_t write_failures, sync_failures, seal_failures;
    atomic_int_least64_t sync_ns_last, sync_ns_max;
    atomic_bool disk_full;
};

/* ---- views (store.c) ---- */
struct trace_snapshot *trace_snapshot_take(struct trace_store *store);
void trace_snapshot_free(struct trace_snapshot *snapshot);
/* Publishes a view of the store's parts, `frozen` tails and the active tail. Mutex held. */
void trace_view_publish(struct trace_store *store, struct tail *const *frozen, size_t frozen_count);
/* Of a record read back when the store is opened. */
enum rc trace_replay(struct trace_store *store, const struct log_record *record) MUST_CHECK;
/* The frozen tails of the current view, oldest first; returns how many. Mutex held. */
size_t trace_frozen(struct trace_store *store, struct tail *out[VIEW_TAILS_MAX]);
/* Waits, for a bounded time, until everything that was submitted before is visible. */
void trace_barrier(struct trace_store *store);
/* A rowset gave RC_CORRUPT: it is left out from now on, and that is said once. */
void trace_mark_damaged(struct trace_store *store, struct rowset *rows);

/* ---- steps; each returns whether there was something to do. With threads, called by them only
 * ---- */
bool trace_step_write(struct trace_store *store);
bool trace_step_sync(struct trace_store *store);
bool trace_step_keep(struct trace_store *store);

void *trace_writer_main(void *arg);
void *trace_syncer_main(void *arg);
void *trace_keeper_main(void *arg);
void trace_item_free(struct trace_store *store, struct trace_item *item);
void trace_apply_erase(struct trace_store *store, const struct record_erase *erase, uint64_t seq,
                       uint64_t *count);
/* For log_options.moved: a record of the batch or of a tail has a new place. */
void trace_record_moved(void *arg, uint64_t seq, uint64_t location);
/* Starts a new active tail; the old one is frozen. False: too many wait to be sealed. */
bool trace_freeze(struct trace_store *store);

/* ---- keeper.c ---- */
enum rc trace_manifest_store(struct trace_store *store, const struct part_entry *parts,
                             size_t count, uint64_t sealed_seq, const struct spend_change *spend,
                             struct err *err) MUST_CHECK;
enum rc trace_manifest_load(struct trace_store *store, struct err *err) MUST_CHECK;
/* Seals the oldest frozen tail, if there is one. */
enum rc trace_seal(struct trace_store *store, struct err *err) MUST_CHECK;
