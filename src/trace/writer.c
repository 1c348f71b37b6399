/* The writer and the syncer of call records.
 *
 * Writer: takes items from the ring, appends them to the log's batch, hands the batch to the
 * operating system, and then makes the rows visible in the tail. It never waits for a sync, so a
 * slow disk delays what is acknowledged and not what is seen. A batch that cannot be written stays
 * and is tried again; meanwhile the queue in front fills up to its bound, and what finds no room is
 * counted as lost. Syncer: makes the log durable within the commit interval, at once where somebody
 * waits. */
#include "base/clock.h"
#include "base/log.h"
#include "trace/store.h"
#include <stdlib.h>

#define PAUSE_NS (5 * NS_PER_MS)   /* gathers a batch under load */
#define RETRY_NS (100 * NS_PER_MS) /* after a write that failed */

/* ---- taking items ---- */

static bool batch_has_room(const struct trace_store *store)
{
    return store->batch_count < BATCH_ITEMS_MAX && store->batch_bytes < BATCH_BYTES_MAX &&
           log_unsynced_bytes(store->log) < (int64_t)store->options.unsynced_bytes_max;
}

/* Rows that the active tail can still take, with those of the batch. */
static bool tail_has_room_for(const struct trace_store *store)
{
    return tail_count(store->active) + store->batch_count < store->options.tail_rows_max &&
           tail_log_bytes(store->active) + (int64_t)store->batch_bytes <
               store->options.tail_bytes_max;
}

static void take_barrier(struct trace_store *store, struct trace_item *item)
{
    pthread_mutex_lock(&store->mutex);
    store->barrier_done = MAX(store->barrier_done, item->barrier);
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->mutex);
    free(item);
}

/* A barrier stands for the items before it, so it waits until they are visible: the batch is cut.
 */
static bool take_items(struct trace_store *store, struct trace_item **barrier)
{
    bool any = false;
    *barrier = NULL;
    while (batch_has_room(store) && tail_has_room_for(store)) {
        struct trace_item *item = ring_pop(store->ring);
        if (!item)
            break;
        any = true;
        if (item->kind == ITEM_BARRIER) {
            *barrier = item;
            break;
        }
        struct batch_entry *entry = &store->batch[store->batch_count++];
        entry->item = item;
        entry->seq = log_append(store->log, (uint16_t)item->type, str_make(item->p, item->bytes),
                                &entry->location);
        store->batch_bytes += item->bytes;
    }
    return any;
}

/* ---- making rows visible ---- */

static void add_waiter(struct trace_store *store, struct trace_waiter *waiter, uint64_t seq)
{
    waiter->seq = seq;
    waiter->next = NULL;
    *store->waiters_end = waiter;
    store->waiters_end = &waiter->next;
}

static void add_call(struct trace_store *store, enum record_type type,
                     const struct call_record *call, uint64_t seq, uint64_t location,
                     uint32_t bytes)
{
    if (type == RECORD_CALL)
        tail_append(store->active, call, seq, location, bytes);
    else
        tail_note_seq(store->active, seq, bytes);
    if (call->operation == OPERATION_SPAN) /* what it cost was spent elsewhere */
        return;
    pthread_mutex_lock(&store->mutex);
    spend_add_call(tail_spend(store->active), call);
    pthread_mutex_unlock(&store->mutex);
}

static void apply_record(struct trace_store *store, const struct batch_entry *entry,
                         struct call_record *call)
{
    struct call_tag tags[LIMIT_TAGS];
    struct trace_item *item = entry->item;
    enum rc rc = record_decode(str_make(item->p, item->bytes), call, tags, NULL);
    if (rc != RC_OK) { /* handed over by another process, and checked there: cannot be */
        atomic_fetch_add(&store->lost_disk, 1);
        tail_note_seq(store->active, entry->seq, item->bytes);
        return;
    }
    add_call(store, item->type, call, entry->seq, entry->location, item->bytes);
    atomic_fetch_add(&store->stored, 1);
}

static void apply_erasure(struct trace_store *store, const struct batch_entry *entry)
{
    struct record_erase erase;
    struct trace_item *item = entry->item;
    uint64_t count = 0;
    tail_note_seq(store->active, entry->seq, item->bytes);
    if (record_erase_decode(str_make(item->p, item->bytes), &erase) == RC_OK)
        trace_apply_erase(store, &erase, entry->seq, &count);
    if (item->erased)
        *item->erased = count;
}

enum rc trace_replay(struct trace_store *store, const struct log_record *record)
{
    uint32_t bytes = (uint32_t)record->payload.n;
    if (!tail_has_room_for(store))
        trace_freeze(store);
    if (!tail_has_room(store->active))
        return RC_LIMIT;
    if (record->type == RECORD_ERASE) {
        struct record_erase erase;
        uint64_t count;
        tail_note_seq(store->active, record->seq, bytes);
        if (record_erase_decode(record->payload, &erase) == RC_OK)
            trace_apply_erase(store, &erase, record->seq, &count);
        return RC_OK;
    }
    struct call_record *call = xmalloc(sizeof(*call));
    struct call_tag tags[LIMIT_TAGS];
    enum rc rc = record_decode(record->payload, call, tags, NULL);
    if (rc == RC_OK) {
        add_call(store, record->type, call, record->seq, record->location, bytes);
    } else {
        tail_note_seq(store->active, record->seq, bytes);
        atomic_fetch_add(&store->lost_disk, 1);
    }
    free(call);
    return rc == RC_INVALID ? RC_INVALID : RC_OK;
}

static void batch_apply(struct trace_store *store)
{
    struct call_record *call = xmalloc(sizeof(*call));
    for (size_t i = 0; i < store->batch_count; i++) {
        struct batch_entry *entry = &store->batch[i];
        if (entry->item->kind == ITEM_ERASE)
            apply_erasure(store, entry);
        else
            apply_record(store, entry, call);
    }
    free(call);
    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < store->batch_count; i++)
        if (store->batch[i].item->waiter)
            add_waiter(store, store->batch[i].item->waiter, store->batch[i].seq);
    pthread_mutex_unlock(&store->mutex);
    for (size_t i = 0; i < store->batch_count; i++)
        trace_item_free(store, store->batch[i].item);
    store->batch_count = 0;
    store->batch_bytes = 0;
}

/* ---- writing ---- */

/* Calls go on: who waits is told at once that durability cannot be had now. */
static void batch_tell_failure(struct trace_store *store, enum rc rc)
{
    for (size_t i = 0; i < store->batch_count; i++) {
        struct trace_waiter *waiter = store->batch[i].item->waiter;
        store->batch[i].item->waiter = NULL;
        store->batch[i].item->erased = NULL;
        if (waiter)
            trace_waiter_finish(waiter, rc);
    }
}

static void note_write(struct trace_store *store, enum rc rc)
{
    bool full = rc == RC_FULL;
    if (rc != RC_OK) {
        atomic_fetch_add(&store->write_failures, 1);
        pthread_cond_broadcast(&store->changed);
    }
    if (atomic_exchange(&store->disk_full, full) == full)
        return;
    if (full)
        log_event(LOG_ERROR, "trace_disk_full", LOG_Z("directory", store->directory));
    else
        log_event(LOG_WARN, "trace_disk_has_space", LOG_Z("directory", store->directory),
                  LOG_I64("lost_records", (int64_t)atomic_load(&store->lost_queue)));
}

void trace_record_moved(void *arg, uint64_t seq, uint64_t location)
{
    struct trace_store *store = arg;
    if (store->batch_count > 0 && seq >= store->batch[0].seq) {
        ASSERT(seq - store->batch[0].seq < store->batch_count);
        store->batch[seq - store->batch[0].seq].location = location;
        return;
    }
    struct tail *tails[VIEW_TAILS_MAX];
    pthread_mutex_lock(&store->mutex);
    size_t count = trace_frozen(store, tails);
    for (size_t i = 0; i < count; i++)
        tail_moved(tails[i], seq, location);
    pthread_mutex_unlock(&store->mutex);
    tail_moved(store->active, seq, location);
}

/* Something was written that is not durable: the syncer's clock runs. It is woken when it waits for
 * this, or has a reason not to wait for its time. */
static void note_unsynced(struct trace_store *store)
{
    pthread_mutex_lock(&store->mutex);
    bool begins = store->unsynced_since_ns == 0;
    if (begins)
        store->unsynced_since_ns = clock_monotonic_ns();
    if (begins || store->waiters || store->flushers > 0)
        pthread_cond_signal(&store->wake_syncer);
    pthread_mutex_unlock(&store->mutex);
}

bool trace_step_write(struct trace_store *store)
{
    struct trace_item *barrier;
    if (store->batch_count == 0 && !tail_has_room_for(store))
        trace_freeze(store);
    bool any = take_items(store, &barrier);
    enum rc rc = log_write(store->log);
    if (rc != RC_OK) {
        note_write(store, rc);
        batch_tell_failure(store, rc);
    } else if (store->batch_count > 0) {
        note_write(store, rc);
        batch_apply(store);
    }
    if (rc == RC_OK && log_unsynced_bytes(store->log) > 0)
        note_unsynced(store);
    if (barrier)
        take_barrier(store, barrier);
    return any;
}

static void writer_pause(struct trace_store *store)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PAUSE_NS;
    until.tv_sec += until.tv_nsec / NS_PER_S;
    until.tv_nsec %= NS_PER_S;
    pthread_mutex_lock(&store->mutex);
    while (!store->writer_nudged && !store->stopping)
        if (pthread_cond_timedwait(&store->nudge_writer, &store->mutex, &until) != 0)
            break;
    store->writer_nudged = false;
    pthread_mutex_unlock(&store->mutex);
}

void *trace_writer_main(void *arg)
{
    struct trace_store *store = arg;
    for (;;) {
        pthread_mutex_lock(&store->mutex);
        bool stopping = store->stopping;
        pthread_mutex_unlock(&store->mutex);
        bool any = trace_step_write(store);
        bool blocked =
            store->batch_count > 0 || !batch_has_room(store) || !tail_has_room_for(store);
        if (stopping && (!any || blocked))
            return NULL;
        if (any && !blocked && store->options.durability == TRACE_ASYNC)
            writer_pause(store);
        else if (!any || blocked)
            ring_wait(store->ring, blocked ? RETRY_NS : -1);
    }
}

/* ---- syncing ---- */

static struct trace_waiter *take_waiters(struct trace_store *store, uint64_t seq)
{
    struct trace_waiter *done = store->waiters, **end = &done;
    while (*end && (*end)->seq <= seq)
        end = &(*end)->next;
    store->waiters = *end;
    if (!store->waiters)
        store->waiters_end = &store->waiters;
    *end = NULL;
    return done;
}

static void finish_waiters(struct trace_waiter *waiter, enum rc rc)
{
    while (waiter) {
        struct trace_waiter *next = waiter->next;
        trace_waiter_finish(waiter, rc);
        waiter = next;
    }
}

bool trace_step_sync(struct trace_store *store)
{
    pthread_mutex_lock(&store->mutex);
    bool any = store->unsynced_since_ns != 0;
    store->unsynced_since_ns = 0;
    pthread_mutex_unlock(&store->mutex);
    if (!any)
        return false;
    uint64_t seq;
    int64_t before = clock_monotonic_ns();
    enum rc rc = log_sync(store->log, &seq);
    int64_t took = clock_monotonic_ns() - before;
    atomic_store(&store->sync_ns_last, took);
    if (took > atomic_load(&store->sync_ns_max))
        atomic_store(&store->sync_ns_max, took);
    pthread_mutex_lock(&store->mutex);
    struct trace_waiter *done = take_waiters(store, rc == RC_OK ? seq : UINT64_MAX);
    if (rc != RC_OK) { /* the writer writes again what is in question */
        store->unsynced_since_ns = clock_monotonic_ns();
        store->writer_nudged = true;
        pthread_cond_signal(&store->nudge_writer);
    }
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->mutex);
    if (rc != RC_OK) {
        if (atomic_fetch_add(&store->sync_failures, 1) == 0)
            log_event(LOG_ERROR, "trace_sync_failed", LOG_Z("reason", rc_name(rc)));
        ring_wake(store->ring);
    }
    finish_waiters(done, rc);
    return rc == RC_OK;
}

/* Mutex held. Returns false when it is time to end. */
static bool syncer_wait(struct trace_store *store, bool failed)
{
    for (;;) {
        bool waited_for = store->waiters || store->flushers > 0 || store->stopping;
        if (store->unsynced_since_ns == 0 && store->stopping)
            return false;
        if (store->unsynced_since_ns != 0 && waited_for && !failed)
            return true;
        if (store->unsynced_since_ns == 0) {
            pthread_cond_wait(&store->wake_syncer, &store->mutex);
            continue;
        }
        int64_t due =
            store->unsynced_since_ns + (failed ? RETRY_NS : store->options.commit_interval_ns);
        if (clock_monotonic_ns() >= due)
            return !(failed && store->stopping);
        struct timespec until = {due / NS_PER_S, due % NS_PER_S};
        pthread_cond_timedwait(&store->wake_syncer, &store->mutex, &until);
    }
}

void *trace_syncer_main(void *arg)
{
    struct trace_store *store = arg;
    bool failed = false;
    for (;;) {
        pthread_mutex_lock(&store->mutex);
        bool go = syncer_wait(store, failed);
        pthread_mutex_unlock(&store->mutex);
        if (!go)
            return NULL;
        failed = !trace_step_sync(store);
    }
}
