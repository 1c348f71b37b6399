/* What knowledge does by the clock: begins the syncs whose time has come. One look at an indexed
 * column every few seconds, in the control writer. */
#include "base/clock.h"
#include "base/log.h"
#include "knowledge/source.h"
#include "knowledge/knowledge_private.h"

#define TICK_NS         (10 * NS_PER_S)
#define TICK_ARENA      (16 * 1024 * 1024)
#define DUE_SOURCES_MAX 100

static enum rc begin_due_syncs(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, tick_work);
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

static void tick_done(struct db_work *work)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, tick_work);
    knowledge->ticking = false;
    arena_fini(&knowledge->tick_arena);
    if (work->rc != RC_OK)
        log_event(LOG_WARN, "knowledge_tick_failed", LOG_Z("error", work->err.message));
    if (!knowledge->stopping)
        timer_start(knowledge->loop, &knowledge->tick_timer, TICK_NS);
}

static void on_tick(struct timer *timer)
{
    struct knowledge *knowledge = CONTAINER_OF(timer, struct knowledge, tick_timer);
    arena_init(&knowledge->tick_arena, TICK_ARENA);
    knowledge->tick_work =
        (struct db_work){.home = knowledge->loop, .write = begin_due_syncs, .done = tick_done};
    knowledge->ticking = db_write(knowledge->db, &knowledge->tick_work) == RC_OK;
    if (!knowledge->ticking)
        timer_start(knowledge->loop, timer, TICK_NS);
}

void knowledge_tick_begin(struct knowledge *knowledge)
{
    timer_init(&knowledge->tick_timer, on_tick);
    timer_start(knowledge->loop, &knowledge->tick_timer, TICK_NS);
}

void knowledge_tick_stop(struct knowledge *knowledge) { timer_stop(&knowledge->tick_timer); }
