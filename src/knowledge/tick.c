/* What knowledge does by the clock: it begins the syncs whose time has come, and deletes vector
 * stores and files that have expired (OpenAI's expires_after). One look at the rows every few
 * seconds, in the control writer; deleting is a worker's. */
#include "base/clock.h"
#include "base/log.h"
#include "knowledge/knowledge_private.h"
#include "knowledge/source.h"

#define TICK_NS         (10 * NS_PER_S)
#define FIRST_TICK_NS   (1 * NS_PER_S)
#define TICK_ARENA      (64 * 1024 * 1024)
#define DUE_SOURCES_MAX 100
#define EXPIRED_MAX     100

static enum rc begin_due_syncs(struct knowledge *knowledge, struct db_txn *txn, struct err *err)
{
    struct source_row *due;
    size_t count;
    enum rc rc = source_row_due(txn, db_txn_now_ns(txn), DUE_SOURCES_MAX, &knowledge->tick_arena,
                                &due, &count, err);
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        struct job_row job;
        rc = source_sync(knowledge, txn, &due[i], STR("schedule"), &knowledge->tick_arena, &job,
                         err);
        /* A sync that is still under way is the one that was due. */
        due[i].next_ns = db_txn_now_ns(txn) + due[i].every_ns;
        if (rc == RC_OK)
            rc = source_row_update(txn, &due[i], err);
    }
    return rc;
}

static enum rc tick_write(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, tick_work);
    int64_t now_ns = db_txn_now_ns(txn);
    enum rc rc = begin_due_syncs(knowledge, txn, err);
    if (rc == RC_OK)
        rc = collection_rows_expired(txn, now_ns, EXPIRED_MAX, &knowledge->tick_arena,
                                     &knowledge->expired_collections,
                                     &knowledge->expired_collection_count, err);
    if (rc == RC_OK)
        rc = file_rows_expired(txn, now_ns, EXPIRED_MAX, &knowledge->tick_arena,
                               &knowledge->expired_files, &knowledge->expired_file_count, err);
    return rc;
}

/* ---- what has expired: worker ---- */

static void note_expired(const char *kind, struct str name, enum rc rc, const struct err *err)
{
    if (rc == RC_OK)
        log_event(LOG_INFO, "expired_deleted", LOG_Z("kind", kind), LOG_STR("name", name));
    else
        log_event(LOG_WARN, "expired_not_deleted", LOG_Z("kind", kind), LOG_STR("name", name),
                  LOG_Z("error", err->message));
}

static void expire_run(struct work *work)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, expire_work);
    const struct actor actor = ACTOR_SYSTEM;
    struct err err = {0};
    enum rc rc;
    for (size_t i = 0; i < knowledge->expired_file_count && !knowledge->stopping; i++) {
        const struct file_row *row = &knowledge->expired_files[i];
        rc = knowledge_delete_file(knowledge, row, &knowledge->tick_arena, &err);
        note_expired("file", row->name, rc, &err);
    }
    for (size_t i = 0; i < knowledge->expired_collection_count && !knowledge->stopping; i++) {
        const struct collection_row *row = &knowledge->expired_collections[i];
        rc = knowledge_delete_collection(knowledge, &actor, row->project, row->name,
                                         &knowledge->tick_arena, &err);
        note_expired("collection", row->name, rc, &err);
    }
}

static void tick_end(struct knowledge *knowledge)
{
    arena_fini(&knowledge->tick_arena);
    if (!knowledge->stopping)
        timer_start(knowledge->loop, &knowledge->tick_timer, TICK_NS);
}

static void expire_done(struct work *work)
{
    tick_end(CONTAINER_OF(work, struct knowledge, expire_work));
}

static void tick_done(struct db_work *work)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, tick_work);
    if (work->rc != RC_OK)
        log_event(LOG_WARN, "knowledge_tick_failed", LOG_Z("error", work->err.message));
    knowledge->expire_work =
        (struct work){.home = knowledge->loop, .work = expire_run, .done = expire_done};
    bool any = knowledge->expired_collection_count + knowledge->expired_file_count > 0;
    if (work->rc != RC_OK || !any || knowledge->stopping ||
        worker_submit(knowledge->workers, &knowledge->expire_work) != RC_OK)
        tick_end(knowledge);
}

static void on_tick(struct timer *timer)
{
    struct knowledge *knowledge = CONTAINER_OF(timer, struct knowledge, tick_timer);
    arena_init(&knowledge->tick_arena, TICK_ARENA);
    knowledge->expired_collection_count = knowledge->expired_file_count = 0;
    knowledge->tick_work =
        (struct db_work){.home = knowledge->loop, .write = tick_write, .done = tick_done};
    if (db_write(knowledge->db, &knowledge->tick_work) != RC_OK)
        tick_end(knowledge);
}

void knowledge_tick_init(struct knowledge *knowledge)
{
    timer_init(&knowledge->tick_timer, on_tick);
}

void knowledge_tick_begin(struct knowledge *knowledge)
{
    timer_start(knowledge->loop, &knowledge->tick_timer, FIRST_TICK_NS);
}

void knowledge_tick_stop(struct knowledge *knowledge) { timer_stop(&knowledge->tick_timer); }
