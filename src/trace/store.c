/* The store of call records: opening, closing, submitting, snapshots, waiting. See store.h for
 * threads and locks, docs/design/trace.md for the whole. */
#include "trace/store.h"
#include "base/clock.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define QUEUE_BYTES_DEFAULT     (64u * 1024 * 1024)
#define UNSYNCED_BYTES_DEFAULT  (64u * 1024 * 1024)
#define TAIL_ROWS_DEFAULT       (32u * 1024)
#define TAIL_BYTES_DEFAULT      (64ll * 1024 * 1024)
#define COMMIT_INTERVAL_DEFAULT (20 * NS_PER_MS)
#define RING_CAPACITY           (64 * 1024)
#define BARRIER_NS_MAX          (2 * NS_PER_S)
#define ERASE_NS_MAX            (30 * NS_PER_S)
#define CLOSE_STEPS_MAX         100000
/* A shorter tail is read back from the log faster than a part for it is written and merged later.
 */
#define SEAL_AT_CLOSE_ROWS 2048

static const char *const status_names[CALL_STATUS_COUNT] = {
    [CALL_OK] = "ok",           [CALL_ERROR] = "error",     [CALL_CANCELLED] = "cancelled",
    [CALL_REFUSED] = "refused", [CALL_BLOCKED] = "blocked",
};

const char *call_status_name(enum call_status status)
{
    ASSERT((unsigned)status < CALL_STATUS_COUNT);
    return status_names[status];
}

/* ---- views ---- */

static void view_unref(struct trace_view *view)
{
    if (!view || atomic_fetch_sub(&view->references, 1) > 1)
        return;
    for (size_t i = 0; i < view->count; i++)
        rowset_unref(view->rows[i]);
    free(view);
}

size_t trace_frozen(struct trace_store *store, struct tail *out[VIEW_TAILS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; store->view && i < store->view->count; i++) {
        struct rowset *rows = store->view->rows[i];
        if (!part_of(rows) && tail_of(rows) != store->active)
            out[count++] = tail_of(rows);
    }
    return count;
}

void trace_view_publish(struct trace_store *store, struct tail *const *frozen, size_t frozen_count)
{
    size_t count = store->part_count + frozen_count + 1;
    struct trace_view *view = xmalloc(sizeof(*view) + count * sizeof(struct rowset *));
    view->references = 1;
    view->count = 0;
    for (size_t i = 0; i < store->part_count; i++)
        view->rows[view->count++] = part_rows(store->parts[i].part);
    for (size_t i = 0; i < frozen_count; i++)
        view->rows[view->count++] = tail_rows(frozen[i]);
    view->rows[view->count++] = tail_rows(store->active);
    for (size_t i = 0; i < count; i++)
        rowset_ref(view->rows[i]);
    struct trace_view *old = store->view;
    store->view = view;
    view_unref(old);
}

bool trace_freeze(struct trace_store *store)
{
    struct tail *frozen[VIEW_TAILS_MAX];
    bool opening = store->log == NULL; /* nothing can be sealed yet */
    if (!opening && log_pending_bytes(store->log) > 0)
        return false;
    pthread_mutex_lock(&store->mutex);
    size_t count = trace_frozen(store, frozen);
    bool room = count < (opening ? VIEW_TAILS_MAX - 1 : FROZEN_TAILS_MAX);
    if (room) {
        frozen[count++] = store->active;
        struct tail *old = store->active;
        store->active = tail_new(&store->log, store->options.tail_rows_max);
        trace_view_publish(store, frozen, count);
        rowset_unref(tail_rows(old)); /* the view has it */
        store->keeper_nudged = true;
        pthread_cond_signal(&store->wake_keeper);
    }
    pthread_mutex_unlock(&store->mutex);
    if (room && !opening)
        log_rotate(store->log);
    return room;
}

struct trace_snapshot *trace_snapshot_take(struct trace_store *store)
{
    CHECK_MAGIC(store, TRACE_MAGIC);
    trace_barrier(store);
    pthread_mutex_lock(&store->mutex);
    struct trace_view *view = store->view;
    atomic_fetch_add(&view->references, 1);
    pthread_mutex_unlock(&store->mutex);
    struct trace_snapshot *snapshot = xmalloc(sizeof(*snapshot) + view->count * sizeof(uint32_t));
    snapshot->view = view;
    for (size_t i = 0; i < view->count; i++) {
        struct rowset *rows = view->rows[i];
        snapshot->counts[i] = part_of(rows) ? rows->row_count : tail_count(tail_of(rows));
    }
    return snapshot;
}

void trace_snapshot_free(struct trace_snapshot *snapshot)
{
    view_unref(snapshot->view);
    free(snapshot);
}

void trace_mark_damaged(struct trace_store *store, struct rowset *rows)
{
    if (atomic_exchange(&rows->damaged, true))
        return;
    struct part *part = part_of(rows);
    atomic_fetch_add(&store->lost_disk, rows->row_count);
    log_event(LOG_ERROR, "trace_part_damaged", LOG_I64("part", part ? (int64_t)part_id(part) : -1),
              LOG_I64("rows", rows->row_count));
}

/* ---- submitting ---- */

void trace_waiter_finish(struct trace_waiter *waiter, enum rc result)
{
    waiter->result = result;
    if (waiter->home)
        loop_post(waiter->home, &waiter->task);
    else
        waiter->task.run(&waiter->task);
}

void trace_item_free(struct trace_store *store, struct trace_item *item)
{
    atomic_fetch_sub(&store->queue_bytes, (int64_t)item->bytes);
    free(item);
}

static struct trace_item *item_new(size_t bytes_max)
{
    struct trace_item *item = malloc(sizeof(*item) + bytes_max);
    if (item)
        *item = (struct trace_item){.kind = ITEM_RECORD};
    return item;
}

/* Puts it into the ring within the bound of memory; else it is lost, and that is counted. */
static enum rc item_submit(struct trace_store *store, struct trace_item *item)
{
    int64_t queued = atomic_fetch_add(&store->queue_bytes, (int64_t)item->bytes) + item->bytes;
    if (queued <= (int64_t)store->options.queue_bytes_max && ring_push(store->ring, item))
        return RC_OK;
    struct trace_waiter *waiter = item->waiter;
    if (atomic_fetch_add(&store->lost_queue, 1) == 0)
        log_event(LOG_ERROR, "trace_records_lost", LOG_Z("reason", "the disk is full or too slow"));
    trace_item_free(store, item);
    if (waiter)
        trace_waiter_finish(waiter, RC_LIMIT);
    return RC_LIMIT;
}

static void submit_lost(struct trace_store *store, struct trace_waiter *waiter)
{
    atomic_fetch_add(&store->lost_queue, 1);
    if (waiter)
        trace_waiter_finish(waiter, RC_LIMIT);
}

void trace_submit(struct trace_store *store, const struct call_record *record,
                  struct trace_waiter *waiter)
{
    CHECK_MAGIC(store, TRACE_MAGIC);
    atomic_fetch_add_explicit(&store->submitted, 1, memory_order_relaxed);
    struct trace_item *item = item_new(record_encode_bytes_max(record));
    if (!item) {
        submit_lost(store, waiter);
        return;
    }
    item->type = record_type_of(record);
    item->bytes = (uint32_t)record_encode(record, item->p);
    item->waiter = waiter;
    if (store->released) {
        store->forward(store->forward_arg, str_make(item->p, item->bytes), waiter);
        free(item);
        return;
    }
    enum rc rc = item_submit(store, item);
    UNUSED(rc); /* counted, and the waiter was told */
}

enum rc trace_submit_encoded(struct trace_store *store, struct str bytes,
                             struct trace_waiter *waiter)
{
    struct call_record *call = xmalloc(sizeof(*call));
    struct call_tag tags[LIMIT_TAGS];
    enum rc rc = bytes.n > RECORD_BYTES_MAX ? RC_LIMIT : record_decode(bytes, call, tags, NULL);
    enum record_type type = record_type_of(call);
    free(call);
    if (rc != RC_OK)
        return rc;
    atomic_fetch_add_explicit(&store->submitted, 1, memory_order_relaxed);
    struct trace_item *item = item_new(bytes.n);
    if (!item) {
        submit_lost(store, waiter);
        return RC_LIMIT;
    }
    item->type = type;
    item->bytes = (uint32_t)bytes.n;
    item->waiter = waiter;
    memcpy(item->p, bytes.p, bytes.n);
    return item_submit(store, item);
}

/* ---- waiting ---- */

static struct timespec deadline_after(int64_t ns)
{
    int64_t due = clock_monotonic_ns() + ns;
    return (struct timespec){due / NS_PER_S, due % NS_PER_S};
}

/* Mutex held. */
static void nudge_writer(struct trace_store *store)
{
    store->writer_nudged = true;
    pthread_cond_signal(&store->nudge_writer);
}

void trace_barrier(struct trace_store *store)
{
    while (store->options.no_threads && !store->released && trace_step_write(store))
        ;
    if (store->options.no_threads || store->released)
        return;
    struct trace_item *item = item_new(0);
    if (!item)
        return;
    item->kind = ITEM_BARRIER;
    struct timespec until = deadline_after(BARRIER_NS_MAX);
    pthread_mutex_lock(&store->mutex);
    uint64_t number = item->barrier = ++store->barrier_next;
    pthread_mutex_unlock(&store->mutex);
    if (!ring_push(store->ring, item)) {
        free(item);
        return;
    }
    pthread_mutex_lock(&store->mutex);
    nudge_writer(store);
    while (store->barrier_done < number)
        if (pthread_cond_timedwait(&store->changed, &store->mutex, &until) != 0)
            break;
    pthread_mutex_unlock(&store->mutex);
}

/* A waiter for a thread that blocks. On the heap, because the thread may give up first. */
struct blocking_wait {
    struct trace_waiter waiter;
    atomic_int references;
    uint64_t erased;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void blocking_wait_unref(struct blocking_wait *wait)
{
    if (atomic_fetch_sub(&wait->references, 1) > 1)
        return;
    pthread_mutex_destroy(&wait->mutex);
    pthread_cond_destroy(&wait->cond);
    free(wait);
}

static void blocking_wait_done(struct task *task)
{
    struct blocking_wait *wait = CONTAINER_OF(task, struct blocking_wait, waiter.task);
    pthread_mutex_lock(&wait->mutex);
    wait->done = true;
    pthread_cond_signal(&wait->cond);
    pthread_mutex_unlock(&wait->mutex);
    blocking_wait_unref(wait);
}

static void cond_init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* Submits the erasure and waits until it is durable. */
static enum rc erase_and_wait(struct trace_store *store, const struct record_erase *erase,
                              uint64_t *count)
{
    struct trace_item *item = item_new(RECORD_ERASE_BYTES_MAX);
    struct blocking_wait *wait = xcalloc(1, sizeof(*wait));
    ASSERT(item);
    pthread_mutex_init(&wait->mutex, NULL);
    cond_init_monotonic(&wait->cond);
    wait->references = 2;
    wait->waiter.task.run = blocking_wait_done;
    item->kind = ITEM_ERASE;
    item->type = RECORD_ERASE;
    item->bytes = (uint32_t)record_erase_encode(erase, item->p);
    item->waiter = &wait->waiter;
    item->erased = &wait->erased;
    enum rc rc = item_submit(store, item);
    while (store->options.no_threads && (trace_step_write(store) || trace_step_sync(store)))
        ;
    struct timespec until = deadline_after(store->options.no_threads ? 0 : ERASE_NS_MAX);
    pthread_mutex_lock(&wait->mutex);
    while (!wait->done && pthread_cond_timedwait(&wait->cond, &wait->mutex, &until) == 0)
        ;
    rc = !wait->done ? RC_TIMEOUT : rc == RC_OK ? wait->waiter.result : rc;
    *count = wait->erased;
    pthread_mutex_unlock(&wait->mutex);
    blocking_wait_unref(wait);
    pthread_mutex_lock(&store->mutex);
    store->keeper_nudged = true; /* rewrites what holds the erased bytes */
    pthread_cond_signal(&store->wake_keeper);
    pthread_mutex_unlock(&store->mutex);
    return rc;
}

static enum rc erase(struct trace_store *store, const struct record_erase *what, uint64_t *count,
                     struct err *err)
{
    if (store->released)
        return err_set(err, ERR_OVERLOADED,
                       "this process hands its work over to another: try again");
    enum rc rc = erase_and_wait(store, what, count);
    if (rc != RC_OK)
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_OVERLOADED,
                "the erasure could not be made durable (%s): try again", rc_name(rc));
    return rc;
}

enum rc trace_erase_call(struct trace_store *store, struct id project, struct id call,
                         struct err *err)
{
    uint64_t count;
    enum rc rc =
        erase(store, &(struct record_erase){.project = project, .call = call}, &count, err);
    if (rc == RC_OK && count == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no such call");
    return rc;
}

enum rc trace_erase_user(struct trace_store *store, struct id project, struct str user,
                         uint64_t *count, struct err *err)
{
    if (user.n == 0 || user.n > RECORD_ERASE_BYTES_MAX - 32)
        return err_set_field(err, ERR_BAD_FIELD, "user", "name the end user whose calls to erase");
    return erase(store, &(struct record_erase){.project = project, .user = user}, count, err);
}

enum rc trace_flush(struct trace_store *store, int64_t timeout_ns)
{
    trace_barrier(store);
    if (store->options.no_threads) {
        while (trace_step_write(store) || trace_step_sync(store))
            ;
        return log_unsynced_bytes(store->log) == 0 && store->batch_count == 0 ? RC_OK : RC_IO;
    }
    struct timespec until = deadline_after(timeout_ns);
    enum rc rc = RC_OK;
    pthread_mutex_lock(&store->mutex);
    store->flushers++;
    pthread_cond_signal(&store->wake_syncer);
    uint64_t failures = atomic_load(&store->write_failures);
    while (rc == RC_OK &&
           (log_unsynced_bytes(store->log) > 0 || atomic_load(&store->queue_bytes) > 0)) {
        if (atomic_load(&store->write_failures) > failures)
            rc = atomic_load(&store->disk_full) ? RC_FULL : RC_IO;
        else if (pthread_cond_timedwait(&store->changed, &store->mutex, &until) != 0)
            rc = RC_TIMEOUT;
    }
    store->flushers--;
    pthread_mutex_unlock(&store->mutex);
    return rc;
}

/* ---- life ---- */

static enum rc replay(void *arg, const struct log_record *record)
{
    return trace_replay(arg, record);
}

static enum rc open_log(struct trace_store *store, struct err *err)
{
    struct log_recovery recovery;
    struct log_options options = {.fs = store->fs,
                                  .directory = store->directory,
                                  .kind = TRACE_LOG_KIND,
                                  .epoch = store->epoch,
                                  .start_seq = store->sealed_seq + 1,
                                  .moved = trace_record_moved,
                                  .arg = store};
    enum rc rc = log_open(&options, replay, store, &recovery, &store->log, err);
    if (rc != RC_OK)
        return rc;
    atomic_fetch_add(&store->lost_disk, recovery.records_lost);
    if (recovery.records_lost > 0 || recovery.bytes_dropped > 0)
        log_event(recovery.records_lost > 0 ? LOG_ERROR : LOG_WARN, "trace_log_recovered",
                  LOG_I64("records", (int64_t)recovery.records),
                  LOG_I64("records_lost", (int64_t)recovery.records_lost),
                  LOG_I64("bytes_dropped", recovery.bytes_dropped));
    return RC_OK;
}

static enum rc make_directory(struct trace_store *store, struct err *err)
{
    enum rc rc = file_make_directory(store->fs, store->directory);
    char parent[4096];
    snprintf(parent, sizeof(parent), "%s", store->directory);
    char *slash = strrchr(parent, '/');
    if (rc == RC_OK && slash) {
        *slash = '\0';
        rc = file_sync_directory(store->fs,
                                 parent[0] || store->fs != file_system_real() ? parent : "/");
    }
    if (rc != RC_OK)
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "%s: %s", store->directory,
                rc_name(rc));
    return rc;
}

static struct trace_store *store_new(const struct trace_options *options)
{
    struct trace_store *store = xcalloc(1, sizeof(*store));
    struct trace_options *o = &store->options;
    store->magic = TRACE_MAGIC;
    *o = *options;
    o->queue_bytes_max = o->queue_bytes_max ? o->queue_bytes_max : QUEUE_BYTES_DEFAULT;
    o->unsynced_bytes_max = o->unsynced_bytes_max ? o->unsynced_bytes_max : UNSYNCED_BYTES_DEFAULT;
    o->tail_rows_max = o->tail_rows_max ? o->tail_rows_max : TAIL_ROWS_DEFAULT;
    o->tail_bytes_max = o->tail_bytes_max ? o->tail_bytes_max : TAIL_BYTES_DEFAULT;
    o->commit_interval_ns = o->commit_interval_ns ? o->commit_interval_ns : COMMIT_INTERVAL_DEFAULT;
    store->fs = o->fs ? o->fs : file_system_real();
    store->directory = xstrdup(o->directory);
    store->waiters_end = &store->waiters;
    store->part_next = store->deletes_next = 1;
    store->ring = ring_new(RING_CAPACITY);
    pthread_mutex_init(&store->mutex, NULL);
    pthread_mutex_init(&store->checkpoint, NULL);
    cond_init_monotonic(&store->nudge_writer);
    cond_init_monotonic(&store->wake_syncer);
    cond_init_monotonic(&store->wake_keeper);
    cond_init_monotonic(&store->changed);
    spend_book_init(&store->book, store->fs, store->directory);
    return store;
}

/* What could not be stored: while the role was handed over it still goes to the other process. */
static void item_give_up(struct trace_store *store, struct trace_item *item)
{
    if (store->released && item->kind == ITEM_RECORD)
        store->forward(store->forward_arg, str_make(item->p, item->bytes), item->waiter);
    else if (item->waiter)
        trace_waiter_finish(item->waiter, RC_IO);
    free(item);
}

static void store_free(struct trace_store *store)
{
    struct trace_item *item;
    while ((item = ring_pop(store->ring)))
        item_give_up(store, item);
    for (size_t i = 0; i < store->batch_count; i++)
        item_give_up(store, store->batch[i].item);
    while (store->waiters) {
        struct trace_waiter *waiter = store->waiters;
        store->waiters = waiter->next;
        trace_waiter_finish(waiter, RC_IO);
    }
    view_unref(store->view);
    if (store->active)
        rowset_unref(tail_rows(store->active));
    for (size_t i = 0; i < store->part_count; i++)
        rowset_unref(part_rows(store->parts[i].part));
    free(store->parts);
    free(store->retentions);
    spend_book_fini(&store->book);
    log_close(store->log);
    writer_lock_release(store->lock);
    ring_free(store->ring);
    pthread_mutex_destroy(&store->mutex);
    pthread_mutex_destroy(&store->checkpoint);
    pthread_cond_destroy(&store->nudge_writer);
    pthread_cond_destroy(&store->wake_syncer);
    pthread_cond_destroy(&store->wake_keeper);
    pthread_cond_destroy(&store->changed);
    free(store->directory);
    free(store);
}

static void start_threads(struct trace_store *store)
{
    store->threads_run = true;
    int failed = pthread_create(&store->writer, NULL, trace_writer_main, store);
    failed += pthread_create(&store->syncer, NULL, trace_syncer_main, store);
    failed += pthread_create(&store->keeper, NULL, trace_keeper_main, store);
    ASSERT(!failed);
    pthread_setname_np(store->writer, "trace-writer");
    pthread_setname_np(store->syncer, "trace-syncer");
    pthread_setname_np(store->keeper, "trace-keeper");
}

enum rc trace_open(const struct trace_options *options, struct trace_store **out, struct err *err)
{
    struct trace_store *store = store_new(options);
    enum rc rc = make_directory(store, err);
    if (rc == RC_OK)
        rc = writer_lock_take(store->fs, store->directory, &store->lock, &store->epoch, err);
    if (rc == RC_OK)
        rc = trace_manifest_load(store, err);
    if (rc == RC_OK) {
        store->active = tail_new(&store->log, store->options.tail_rows_max);
        trace_view_publish(store, NULL, 0);
        rc = open_log(store, err);
    }
    if (rc != RC_OK) {
        store_free(store);
        return rc;
    }
    if (!store->options.no_threads)
        start_threads(store);
    *out = store;
    return RC_OK;
}

static void stop_threads(struct trace_store *store)
{
    if (!store->threads_run)
        return;
    pthread_mutex_lock(&store->mutex);
    store->stopping = true;
    pthread_cond_broadcast(&store->nudge_writer);
    pthread_cond_broadcast(&store->wake_keeper);
    pthread_mutex_unlock(&store->mutex);
    ring_wake(store->ring);
    pthread_join(store->writer, NULL);
    pthread_join(store->keeper, NULL);
    pthread_mutex_lock(&store->mutex);
    pthread_cond_broadcast(&store->wake_syncer);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->syncer, NULL);
    store->threads_run = false;
}

/* What is still on its way is written and synced, as far as the disk lets us. */
static enum rc drain(struct trace_store *store)
{
    for (int i = 0; i < CLOSE_STEPS_MAX; i++) {
        bool wrote = trace_step_write(store), synced = trace_step_sync(store);
        bool left = atomic_load(&store->queue_bytes) > 0 || log_unsynced_bytes(store->log) > 0;
        if (!left)
            return RC_OK;
        if (!wrote && !synced && !trace_step_keep(store))
            break;
    }
    return atomic_load(&store->disk_full) ? RC_FULL : RC_IO;
}

static void seal_if_long(struct trace_store *store)
{
    if (tail_count(store->active) >= SEAL_AT_CLOSE_ROWS && trace_freeze(store))
        while (trace_step_keep(store))
            ;
}

void trace_close(struct trace_store *store)
{
    if (!store)
        return;
    CHECK_MAGIC(store, TRACE_MAGIC);
    stop_threads(store);
    if (!store->released) {
        if (drain(store) == RC_OK)
            seal_if_long(store);
        else
            log_event(LOG_ERROR, "trace_records_lost",
                      LOG_Z("reason", "the disk is full or broken"));
    }
    store->magic = 0;
    store_free(store);
}

enum rc trace_release(struct trace_store *store,
                      void (*forward)(void *arg, struct str bytes, struct trace_waiter *waiter),
                      void *arg, struct err *err)
{
    CHECK_MAGIC(store, TRACE_MAGIC);
    store->forward = forward;
    store->forward_arg = arg;
    stop_threads(store);
    enum rc rc = drain(store);
    if (rc != RC_OK) {
        if (!store->options.no_threads) {
            store->stopping = false;
            start_threads(store);
        }
        return err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL,
                       "call records could not be made durable (%s): this process stays the writer",
                       rc_name(rc));
    }
    seal_if_long(store);
    store->released = true;
    writer_lock_release(store->lock);
    store->lock = NULL;
    return RC_OK;
}

void trace_counters(const struct trace_store *store, struct trace_counters *out)
{
    struct trace_store *s = (struct trace_store *)store;
    *out = (struct trace_counters){.submitted = s->submitted,
                                   .stored = s->stored,
                                   .lost_queue = s->lost_queue,
                                   .lost_disk = s->lost_disk,
                                   .rows_deleted = s->rows_deleted,
                                   .queue_bytes = s->queue_bytes,
                                   .log_bytes = log_bytes(s->log),
                                   .sync_ns_last = s->sync_ns_last,
                                   .sync_ns_max = s->sync_ns_max,
                                   .write_failures = s->write_failures,
                                   .sync_failures = s->sync_failures,
                                   .seal_failures = s->seal_failures,
                                   .disk_full = s->disk_full};
    pthread_mutex_lock(&s->mutex);
    for (size_t i = 0; i < s->view->count; i++) {
        struct rowset *rows = s->view->rows[i];
        struct part *part = part_of(rows);
        uint32_t deleted = atomic_load(&rows->deleted_count);
        out->rows += (part ? rows->row_count : tail_count(tail_of(rows))) - deleted;
        out->segments += part != NULL;
        out->segment_bytes += part ? part_bytes(part) : 0;
    }
    pthread_mutex_unlock(&s->mutex);
}
