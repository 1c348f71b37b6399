/* The job "knowledge_rebuild": a collection's documents are cut and encoded anew, as the definition
 * says now, into an index of the next generation beside the one in force. Searches, uploads and
 * deletes go on meanwhile. When every document is in it as it is, generation and definition are
 * switched in one transaction; what changed during the work is done again before.
 *
 * A run belongs to the jobs' loop; its work is one document at a time on a worker. What a killed
 * process had made is rubbish, which the next start removes, and the job begins anew. */
#include "base/clock.h"
#include "base/map.h"
#include "knowledge/knowledge_private.h"
#include "text/json.h"
#include <stdlib.h>

#define REBUILD_ARENA_BYTES (256 * 1024 * 1024)
#define DOCUMENTS_MAX       200000

/* A document as it was put into the new index. */
struct rebuilt {
    struct id id;
    int64_t updated_ns, chunks, tokens;
    bool failed;
};

struct rebuild {
    struct list node;
    struct knowledge *knowledge;
    struct job_run *job;
    struct id project, collection;
    struct collection target; /* of the next generation */
    struct work work;
    struct arena arena; /* the target, the map's keys */
    struct map done;    /* 16 bytes of the id → struct rebuilt */
    struct arena step;  /* one document */
    volatile bool cancelled;
    bool begun, switched;
    int64_t total, count;
    enum rc rc;
    struct err err;
};

/* ---- worker ---- */

static enum rc begin(struct rebuild *rebuild)
{
    struct db_txn *txn;
    struct document_counts counts;
    const struct document_filter all = {.project = rebuild->project,
                                        .collection = rebuild->collection};
    enum rc rc = db_read_begin(rebuild->knowledge->db, &txn, &rebuild->err);
    if (rc != RC_OK)
        return rc;
    rc = collection_get_wanted(txn, rebuild->project, rebuild->collection, &rebuild->arena,
                               &rebuild->target, &rebuild->err);
    if (rc == RC_OK)
        rc = document_rows_count(txn, &all, &counts, &rebuild->err);
    db_read_end(txn);
    rebuild->target.row.generation++;
    rebuild->total = rc == RC_OK ? counts.total : 0;
    rebuild->begun = true;
    return rc;
}

static struct rebuilt *find_rebuilt(struct rebuild *rebuild, const struct id *id)
{
    return map_get(&rebuild->done, str_make(id->bytes, sizeof(id->bytes)));
}

static bool is_current(struct rebuild *rebuild, const struct document_row *row)
{
    struct rebuilt *rebuilt = find_rebuilt(rebuild, &row->id);
    return rebuilt && rebuilt->updated_ns == row->updated_ns;
}

/* The next document that is not in the new index as it is; .id zero: none. */
static enum rc find_next(struct rebuild *rebuild, struct db_txn *txn, struct document_row *out,
                         struct err *err)
{
    const struct document_filter filter = {.project = rebuild->project,
                                           .collection = rebuild->collection,
                                           .states = 1u << DOCUMENT_READY | 1u << DOCUMENT_NO_TEXT,
                                           .ascending = true};
    struct id after = {{0}};
    *out = (struct document_row){0};
    for (int pages = 0; pages < DOCUMENTS_MAX / 100; pages++) {
        struct document_row *rows;
        struct arena page;
        size_t count;
        arena_init(&page, 64 * 1024 * 1024);
        enum rc rc = document_row_list(txn, &filter, after, 100, &page, &rows, &count, err);
        size_t i = 0;
        while (rc == RC_OK && i < count && is_current(rebuild, &rows[i]))
            i++;
        struct id found = rc == RC_OK && i < count ? rows[i].id : (struct id){{0}};
        if (rc == RC_OK && count)
            after = rows[count - 1].id;
        arena_fini(&page);
        if (rc != RC_OK || count == 0)
            return rc;
        if (!id_is_zero(found))
            return document_row_get(txn, rebuild->project, rebuild->collection, found,
                                    &rebuild->step, out, err);
    }
    return RC_OK;
}

static enum rc note_done(struct rebuild *rebuild, const struct document_row *row, bool failed)
{
    struct rebuilt *rebuilt = find_rebuilt(rebuild, &row->id);
    if (!rebuilt) {
        rebuilt = ARENA_NEW(&rebuild->arena, struct rebuilt);
        if (!rebuilt)
            return err_set(&rebuild->err, ERR_OVERLOADED, "the collection has too many documents");
        rebuilt->id = row->id;
        map_put(&rebuild->done, str_make(rebuilt->id.bytes, sizeof(rebuilt->id.bytes)), rebuilt);
    }
    rebuilt->updated_ns = row->updated_ns;
    rebuilt->chunks = row->chunks;
    rebuilt->tokens = row->tokens;
    rebuilt->failed = failed;
    return RC_OK;
}

/* Documents that were deleted since they were put into the new index. */
static enum rc drop_deleted(struct rebuild *rebuild)
{
    struct index *index;
    struct db_txn *txn;
    enum rc rc = knowledge_index_get(rebuild->knowledge, &rebuild->target, &index, &rebuild->err);
    if (rc != RC_OK)
        return rc;
    rc = db_read_begin(rebuild->knowledge->db, &txn, &rebuild->err);
    if (rc == RC_OK) {
        MAP_FOR_EACH (slot, &rebuild->done) {
            struct rebuilt *rebuilt = slot->value;
            struct document_row row;
            if (rc == RC_OK && rebuilt->chunks > 0 &&
                document_row_get(txn, rebuild->project, rebuild->collection, rebuilt->id,
                                 &rebuild->step, &row, NULL) == RC_NOT_FOUND) {
                rc = ingest_delete_chunks(index, rebuilt->id, &rebuild->err);
                rebuilt->chunks = 0;
            }
        }
        db_read_end(txn);
    }
    knowledge_index_put(rebuild->knowledge, index);
    return rc;
}

/* In one transaction: everything is in, so the new index takes over. */
static enum rc switch_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct rebuild *rebuild = arg;
    struct document_row next;
    struct collection_row row;
    enum rc rc = find_next(rebuild, txn, &next, err);
    if (rc != RC_OK || !id_is_zero(next.id))
        return rc;
    MAP_FOR_EACH (slot, &rebuild->done) {
        struct rebuilt *rebuilt = slot->value;
        struct document_row document;
        arena_reset(&rebuild->step);
        if (rc != RC_OK || document_row_get(txn, rebuild->project, rebuild->collection, rebuilt->id,
                                            &rebuild->step, &document, NULL) != RC_OK)
            continue;
        document.chunks = rebuilt->chunks;
        document.tokens = rebuilt->tokens;
        if (rebuilt->failed) {
            document.state = DOCUMENT_FAILED;
            document.error = STR("it could not be taken in again; try it once more");
        }
        rc = document_row_update(txn, &document, err);
    }
    if (rc == RC_OK)
        rc = collection_row_get(txn, rebuild->project, rebuild->collection, &rebuild->step, &row,
                                err);
    if (rc != RC_OK)
        return rc;
    row.generation = rebuild->target.row.generation;
    row.built_version = rebuild->target.object.version;
    rebuild->switched = true;
    return collection_row_update(txn, &row, err);
}

static void step_work(struct work *work)
{
    struct rebuild *rebuild = CONTAINER_OF(work, struct rebuild, work);
    struct document_row row;
    struct db_txn *txn;
    struct err why = {0};
    if (!rebuild->begun && (rebuild->rc = begin(rebuild)) != RC_OK)
        return;
    rebuild->rc = db_read_begin(rebuild->knowledge->db, &txn, &rebuild->err);
    if (rebuild->rc != RC_OK)
        return;
    rebuild->rc = find_next(rebuild, txn, &row, &rebuild->err);
    db_read_end(txn);
    if (rebuild->rc != RC_OK)
        return;
    if (id_is_zero(row.id)) {
        rebuild->rc = drop_deleted(rebuild);
        if (rebuild->rc == RC_OK)
            rebuild->rc =
                db_write_wait(rebuild->knowledge->db, switch_write, rebuild, &rebuild->err);
        rebuild->switched &= rebuild->rc == RC_OK;
        return;
    }
    enum rc rc =
        ingest_beside(rebuild->knowledge, &rebuild->target, &row, &rebuild->cancelled, &why);
    if (rc == RC_CANCELLED || rc == RC_FULL) {
        rebuild->rc = rc;
        rebuild->err = why;
        return;
    }
    rebuild->count++;
    rebuild->rc = note_done(rebuild, &row, rc != RC_OK);
}

/* ---- the run: jobs' loop ---- */

static void rebuild_free(struct rebuild *rebuild)
{
    list_remove(&rebuild->node);
    map_fini(&rebuild->done);
    arena_fini(&rebuild->arena);
    free(rebuild);
}

static void rebuild_end(struct rebuild *rebuild)
{
    struct knowledge *knowledge = rebuild->knowledge;
    char result[64];
    if (!knowledge->stopping) {
        if (rebuild->rc != RC_OK && rebuild->err.code == ERR_NONE)
            err_set(&rebuild->err, rebuild->cancelled ? ERR_CANCELLED : ERR_INTERNAL, "%s",
                    rc_name(rebuild->rc));
        if (rebuild->rc != RC_OK && rebuild->begun) /* what was made so far */
            knowledge_forget_generation(knowledge, rebuild->collection,
                                        rebuild->target.row.generation);
        if (rebuild->switched)
            knowledge_forget_generation(knowledge, rebuild->collection,
                                        rebuild->target.row.generation - 1);
        int n = snprintf(result, sizeof(result), "{\"documents\":%lld}", (long long)rebuild->count);
        job_finish(rebuild->job, str_make(result, (size_t)n),
                   rebuild->rc == RC_OK ? NULL : &rebuild->err);
    }
    rebuild_free(rebuild);
}

static void step_done(struct work *work);

static bool step_start(struct rebuild *rebuild)
{
    arena_init(&rebuild->step, REBUILD_ARENA_BYTES);
    rebuild->work =
        (struct work){.home = rebuild->knowledge->loop, .work = step_work, .done = step_done};
    if (worker_submit(rebuild->knowledge->workers, &rebuild->work) == RC_OK)
        return true;
    rebuild->rc = err_set(&rebuild->err, ERR_OVERLOADED, "the server was too busy");
    return false;
}

static void step_done(struct work *work)
{
    struct rebuild *rebuild = CONTAINER_OF(work, struct rebuild, work);
    arena_fini(&rebuild->step);
    if (rebuild->rc == RC_OK && rebuild->cancelled)
        rebuild->rc = err_set(&rebuild->err, ERR_CANCELLED, "cancelled");
    rebuild->total = MAX(rebuild->total, rebuild->count);
    job_progress(rebuild->job, rebuild->count, rebuild->total, "documents", STR("rebuilding"));
    if (rebuild->rc != RC_OK || rebuild->switched || !step_start(rebuild))
        rebuild_end(rebuild);
}

static void *rebuild_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct rebuild *rebuild = xcalloc(1, sizeof(*rebuild));
    rebuild->knowledge = arg;
    rebuild->job = job;
    rebuild->project = job_run_project(job);
    arena_init(&rebuild->arena, REBUILD_ARENA_BYTES);
    map_init(&rebuild->done);
    list_push_back(&rebuild->knowledge->rebuilds, &rebuild->node);
    if (id_parse(json_get_text(params, "collection"), "coll", &rebuild->collection) != RC_OK)
        rebuild->rc = err_set(&rebuild->err, ERR_INVALID, "the job does not say which collection");
    if (rebuild->rc == RC_OK && step_start(rebuild))
        return rebuild;
    rebuild_end(rebuild);
    return NULL;
}

static void rebuild_cancel(void *arg, void *handle)
{
    UNUSED(arg);
    __atomic_store_n(&((struct rebuild *)handle)->cancelled, true, __ATOMIC_RELAXED);
}

void rebuild_stop_all(struct knowledge *knowledge)
{
    LIST_FOR_EACH (rebuild, &knowledge->rebuilds, struct rebuild, node) {
        __atomic_store_n(&rebuild->cancelled, true, __ATOMIC_RELAXED);
    }
}

void knowledge_register_rebuild(struct knowledge *knowledge)
{
    jobs_register(knowledge->jobs, &(struct job_kind){.name = "knowledge_rebuild",
                                                      .attempts_max = 10,
                                                      .parallel_max = 1,
                                                      .start = rebuild_start,
                                                      .cancel = rebuild_cancel,
                                                      .arg = knowledge});
}

/* ---- asking for it ---- */

struct request {
    struct knowledge *knowledge;
    const struct collection *collection;
    struct str author;
    struct arena *arena;
    struct job_row *job;
};

static enum rc request_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct request *request = arg;
    const struct collection_row *row = &request->collection->row;
    char id[ID_TEXT_BYTES_MAX];
    id_format(row->id, "coll", id);
    struct str params = arena_printf(request->arena, "{\"collection\":\"%s\"}", id);
    enum rc rc = job_table_find_open(txn, row->project, STR("knowledge_rebuild"), params,
                                     request->arena, request->job, err);
    return rc == RC_NOT_FOUND
               ? job_submit(request->knowledge->jobs, txn, row->project, "knowledge_rebuild",
                            params, request->author, request->arena, request->job, err)
               : rc;
}

enum rc knowledge_rebuild(struct knowledge *knowledge, const struct collection *collection,
                          struct str author, struct arena *arena, struct job_row *job,
                          struct err *err)
{
    struct request request = {knowledge, collection, author, arena, job};
    if (collection->spec.dimension)
        return err_set(err, ERR_CONFLICT, "vectors that callers brought cannot be made anew");
    return db_write_wait(knowledge->db, request_write, &request, err);
}
