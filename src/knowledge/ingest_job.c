/* The job "knowledge_add": takes a collection's queued documents one by one until none is left. A
 * few are under way at a time, each a worker's task of its own, so that a large document does not
 * hold up small ones and other work gets its turn between two documents.
 *
 * A run belongs to the jobs' loop; what its workers touch is said at the fields. Whether a run will
 * still look for documents is decided on the control writer's thread, where documents are queued,
 * too: so none is ever left over between a run that ends and a new one that was not started. */
#include "base/clock.h"
#include "base/log.h"
#include "knowledge/knowledge_private.h"
#include "text/json.h"
#include <stdlib.h>
#include <unistd.h>

#define SLOTS_MAX        8
#define SLOT_ARENA_BYTES (32 * 1024 * 1024)
#define RUNS_PARALLEL    2
#define FETCH_LOOK_NS    NS_PER_S /* is the encoder there by now? */

struct ingest_run;

/* One document under way. */
struct ingest_slot {
    struct ingest_run *run;
    struct work work;
    struct arena arena;
    struct document_row row; /* of the claimed document */
    struct ingest_claim claim;
    struct collection collection;
    bool found; /* a document was claimed */
    bool waits; /* for the encoder: nothing may be claimed */
    enum rc rc;
    struct err err;
};

struct ingest_run {
    struct list node; /* of knowledge.runs; its lock */
    struct knowledge *knowledge;
    struct job_run *job;
    struct id project, collection;
    struct ingest_slot slots[SLOTS_MAX];
    int active;
    struct encoder_fetch fetch; /* writer's thread; its texts are read when slots are done */
    struct timer look;          /* armed: the encoder is being fetched, no slot is active */
    bool waits;
    int64_t done, failed, total;
    int64_t queued;          /* after the last claim; writer's thread, read when a slot is done */
    bool no_more;            /* lock: found nothing queued and looks no more */
    volatile bool cancelled; /* by the user, or the server stops */
    struct err err;          /* why it cannot go on */
    struct db_work ending;
};

bool ingest_still_looks(struct knowledge *knowledge, struct id collection)
{
    bool looks = false;
    pthread_mutex_lock(&knowledge->lock);
    LIST_FOR_EACH (run, &knowledge->runs, struct ingest_run, node) {
        looks |= id_eq(run->collection, collection) && !run->no_more;
    }
    pthread_mutex_unlock(&knowledge->lock);
    return looks;
}

bool ingest_is_under_way(struct knowledge *knowledge, struct id document)
{
    bool found = false;
    pthread_mutex_lock(&knowledge->lock);
    LIST_FOR_EACH (claim, &knowledge->under_way, struct ingest_claim, node) {
        found |= id_eq(claim->document, document);
    }
    pthread_mutex_unlock(&knowledge->lock);
    return found;
}

void ingest_release(struct knowledge *knowledge, struct ingest_claim *claim)
{
    pthread_mutex_lock(&knowledge->lock);
    list_remove(&claim->node);
    pthread_mutex_unlock(&knowledge->lock);
}

/* ---- a slot: worker ---- */

static bool is_under_way(void *arg, struct id document)
{
    return ingest_is_under_way(arg, document);
}

static void claim(struct ingest_slot *slot)
{
    struct knowledge *knowledge = slot->run->knowledge;
    slot->claim.document = slot->row.id;
    pthread_mutex_lock(&knowledge->lock);
    list_push_back(&knowledge->under_way, &slot->claim.node);
    pthread_mutex_unlock(&knowledge->lock);
}

/* The collection, and whether documents can be taken in at all. */
static enum rc check_encoder(struct ingest_slot *slot, struct db_txn *txn, struct err *err)
{
    struct ingest_run *run = slot->run;
    struct encoder_fetch *fetch = &run->fetch;
    enum rc rc =
        collection_get(txn, run->project, run->collection, &slot->arena, &slot->collection, err);
    if (rc == RC_NOT_FOUND) { /* deleted meanwhile, with its documents */
        if (err)
            *err = (struct err){0};
        return RC_END;
    }
    if (rc == RC_OK)
        rc = encoder_fetch_check(run->knowledge, txn, &slot->collection, &slot->arena, fetch, err);
    slot->waits = rc == RC_OK && fetch->waits;
    return rc == RC_OK && fetch->failed[0]
               ? document_rows_fail(txn, run->collection, STR("model_not_found"),
                                    str_from(fetch->failed), err)
               : rc;
}

static enum rc claim_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct ingest_slot *slot = arg;
    struct ingest_run *run = slot->run;
    struct document_counts counts;
    const struct document_filter queued = {
        .project = run->project, .collection = run->collection, .states = 1u << DOCUMENT_QUEUED};
    enum rc rc = check_encoder(slot, txn, err);
    if (slot->waits)
        return rc;
    if (rc == RC_OK)
        rc = document_row_claim(txn, run->collection, is_under_way, run->knowledge, &slot->arena,
                                &slot->row, err);
    if (rc == RC_END) {
        pthread_mutex_lock(&run->knowledge->lock);
        run->no_more = true;
        pthread_mutex_unlock(&run->knowledge->lock);
        return RC_OK;
    }
    /* Counting is not free: only when what is known has been used up. */
    if (rc == RC_OK && run->queued <= 1) {
        rc = document_rows_count(txn, &queued, &counts, err);
        run->queued = rc == RC_OK ? counts.total : 0;
    } else {
        run->queued--;
    }
    slot->found = rc == RC_OK;
    if (slot->found)
        claim(slot);
    return rc;
}

static void slot_work(struct work *work)
{
    struct ingest_slot *slot = CONTAINER_OF(work, struct ingest_slot, work);
    struct ingest_run *run = slot->run;
    slot->found = slot->waits = false;
    slot->err = (struct err){0};
    arena_init(&slot->arena, SLOT_ARENA_BYTES);
    slot->rc = db_write_wait(run->knowledge->db, claim_write, slot, &slot->err);
    if (slot->rc == RC_OK && slot->found)
        slot->rc = ingest_document(run->knowledge, &slot->collection, &slot->row, &slot->claim,
                                   &run->cancelled, &slot->err);
    ingest_release(run->knowledge, &slot->claim);
}

/* ---- the run: jobs' loop ---- */

static void run_free(struct ingest_run *run)
{
    timer_stop(&run->look);
    pthread_mutex_lock(&run->knowledge->lock);
    list_remove(&run->node);
    pthread_mutex_unlock(&run->knowledge->lock);
    free(run);
}

static enum rc cancel_write(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct ingest_run *run = CONTAINER_OF(work, struct ingest_run, ending);
    const unsigned states = 1u << DOCUMENT_QUEUED | 1u << DOCUMENT_PARSING;
    return document_rows_set_state(txn, run->collection, (struct id){{0}}, states,
                                   DOCUMENT_CANCELLED, err);
}

static void cancel_done(struct db_work *work)
{
    struct ingest_run *run = CONTAINER_OF(work, struct ingest_run, ending);
    struct err err = {0};
    err_set(&err, ERR_CANCELLED, "cancelled");
    job_finish(run->job, STR_EMPTY, &err);
    run_free(run);
}

static void run_end(struct ingest_run *run)
{
    char result[96];
    if (run->knowledge->stopping) { /* the next process takes the job up */
        run_free(run);
        return;
    }
    if (run->cancelled) {
        run->ending = (struct db_work){
            .home = run->knowledge->loop, .write = cancel_write, .done = cancel_done};
        if (db_write(run->knowledge->db, &run->ending) == RC_OK)
            return;
    }
    int n = snprintf(result, sizeof(result), "{\"documents\":%lld,\"failed\":%lld}",
                     (long long)run->done, (long long)run->failed);
    job_finish(run->job, str_make(result, (size_t)n), run->err.code ? &run->err : NULL);
    run_free(run);
}

static void slot_done(struct work *work);

static void slot_start(struct ingest_slot *slot)
{
    struct ingest_run *run = slot->run;
    slot->work = (struct work){.home = run->knowledge->loop, .work = slot_work, .done = slot_done};
    if (worker_submit(run->knowledge->workers, &slot->work) == RC_OK) {
        run->active++;
        return;
    }
    if (run->active == 0 && run->err.code == ERR_NONE)
        err_set(&run->err, ERR_OVERLOADED, "the server was too busy; the job goes on later");
}

static bool run_looks(struct ingest_run *run)
{
    pthread_mutex_lock(&run->knowledge->lock);
    bool looks = !run->no_more;
    pthread_mutex_unlock(&run->knowledge->lock);
    return looks && !run->cancelled && run->err.code == ERR_NONE;
}

static void wait_for_encoder(struct ingest_run *run)
{
    job_progress(run->job, run->done, run->total, "documents", str_from(run->fetch.message));
    timer_start(run->knowledge->loop, &run->look, FETCH_LOOK_NS);
}

static void slot_done(struct work *work)
{
    struct ingest_slot *slot = CONTAINER_OF(work, struct ingest_slot, work);
    struct ingest_run *run = slot->run;
    run->active--;
    if (slot->found && slot->rc == RC_OK) {
        run->done++;
        run->failed += slot->row.state == DOCUMENT_FAILED;
        run->total = MAX(run->total, run->done + run->active + run->queued);
        job_progress(run->job, run->done, run->total, "documents", slot->row.name);
    } else if (slot->rc != RC_OK && slot->rc != RC_CANCELLED) {
        run->err = slot->err;
        if (run->err.code == ERR_NONE)
            err_set(&run->err, ERR_INTERNAL, "%s", rc_name(slot->rc));
    }
    run->waits |= slot->waits;
    bool waits = slot->waits && !run->cancelled;
    arena_fini(&slot->arena);
    if (!waits && run_looks(run))
        slot_start(slot);
    if (run->active > 0)
        return;
    if (run->waits && run_looks(run))
        wait_for_encoder(run);
    else
        run_end(run);
}

/* False: it has ended. */
static bool run_go(struct ingest_run *run)
{
    int slots = (int)sysconf(_SC_NPROCESSORS_ONLN);
    slots = MIN(MAX(slots, 1), SLOTS_MAX);
    for (int i = 0; i < slots; i++)
        slot_start(&run->slots[i]);
    if (run->active > 0)
        return true;
    run_end(run);
    return false;
}

static void on_look(struct timer *timer)
{
    struct ingest_run *run = CONTAINER_OF(timer, struct ingest_run, look);
    run->waits = false;
    if (run->cancelled)
        run_end(run);
    else
        (void)run_go(run);
}

static void *run_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct knowledge *knowledge = arg;
    struct err err = {0};
    struct id collection;
    if (id_parse(json_get_text(params, "collection"), "coll", &collection) != RC_OK) {
        err_set(&err, ERR_INVALID, "the job does not say which collection");
        job_finish(job, STR_EMPTY, &err);
        return NULL;
    }
    struct ingest_run *run = xcalloc(1, sizeof(*run));
    run->knowledge = knowledge;
    run->job = job;
    run->project = job_run_project(job);
    run->collection = collection;
    pthread_mutex_lock(&knowledge->lock);
    list_push_back(&knowledge->runs, &run->node);
    pthread_mutex_unlock(&knowledge->lock);
    timer_init(&run->look, on_look);
    for (int i = 0; i < SLOTS_MAX; i++) {
        run->slots[i].run = run;
        list_init(&run->slots[i].claim.node);
    }
    return run_go(run) ? run : NULL;
}

static void run_cancel(void *arg, void *handle)
{
    struct ingest_run *run = handle;
    UNUSED(arg);
    __atomic_store_n(&run->cancelled, true, __ATOMIC_RELAXED);
}

void ingest_stop_all(struct knowledge *knowledge)
{
    pthread_mutex_lock(&knowledge->lock);
    LIST_FOR_EACH (run, &knowledge->runs, struct ingest_run, node) {
        __atomic_store_n(&run->cancelled, true, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&knowledge->lock);
    /* Only this thread changes the list. Those that wait have nothing under way that would end. */
    LIST_FOR_EACH_SAFE (run, &knowledge->runs, struct ingest_run, node) {
        if (timer_armed(&run->look))
            run_end(run);
    }
}

void knowledge_register_ingest(struct knowledge *knowledge)
{
    jobs_register(knowledge->jobs, &(struct job_kind){.name = "knowledge_add",
                                                      .attempts_max = 100,
                                                      .parallel_max = RUNS_PARALLEL,
                                                      .start = run_start,
                                                      .cancel = run_cancel,
                                                      .arg = knowledge});
}
