/* The service: open indexes and their upkeep, documents in and out. See knowledge.h.
 *
 * Indexes are opened on first use and shared; each user counts. A collection's index lives in
 * `index/ID-GENERATION`; a rebuild makes the next generation beside it and the row says which one
 * is in force, so folders that no row names are rubbish that the next start removes. */
#include "knowledge/knowledge_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "text/json_tree.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAINTAIN_EVERY_NS    (5 * NS_PER_S)
#define RECOVER_ARENA_BYTES  (64 * 1024 * 1024)
#define RECOVER_COUNT_MAX    20000
#define RECOVER_DELETING_MAX 1000
#define WORK_DEPTH_MAX       32

struct blob_store *knowledge_blobs(struct knowledge *knowledge) { return knowledge->blobs; }

struct encoders *knowledge_encoders(struct knowledge *knowledge) { return knowledge->encoders; }

struct db *knowledge_db(struct knowledge *knowledge) { return knowledge->db; }

bool knowledge_encoder_ready(struct knowledge *knowledge)
{
    struct encoder *encoder;
    if (!knowledge->encoders ||
        encoders_get(knowledge->encoders, STR_EMPTY, &encoder, NULL) != RC_OK)
        return false;
    encoders_put(knowledge->encoders, encoder);
    return true;
}

struct worker_pool *knowledge_workers(struct knowledge *knowledge) { return knowledge->workers; }

/* ---- folders ---- */

void knowledge_index_path(const struct knowledge *knowledge, struct id collection,
                          int64_t generation, char *out)
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(collection, "coll", id);
    snprintf(out, KNOWLEDGE_PATH_BYTES_MAX + 96, "%s/%s-%lld", knowledge->index_folder, id,
             (long long)generation);
}

/* Index folders nest no deeper than this. */
void knowledge_remove_folder(const char *path, int depth_left)
{
    char inner[KNOWLEDGE_PATH_BYTES_MAX + 512];
    struct dirent *entry;
    DIR *folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (unlink(inner) < 0 && depth_left > 0)
            knowledge_remove_folder(inner, depth_left - 1);
    }
    if (folder)
        closedir(folder);
    if (rmdir(path) < 0 && errno != ENOENT)
        log_event(LOG_WARN, "index_not_removed", LOG_Z("folder", path),
                  LOG_Z("error", strerror(errno)));
}

/* ---- open indexes ---- */

static struct open_index *find_open(struct knowledge *knowledge, struct id collection,
                                    int64_t generation)
{
    LIST_FOR_EACH (open, &knowledge->indexes, struct open_index, node) {
        if (id_eq(open->collection, collection) && open->generation == generation && !open->dropped)
            return open;
    }
    return NULL;
}

static struct open_index *find_user(struct knowledge *knowledge, const struct index *index)
{
    LIST_FOR_EACH (open, &knowledge->indexes, struct open_index, node) {
        if (open->index == index)
            return open;
    }
    return NULL;
}

/* Lock held; nobody uses it. */
static void close_open(struct knowledge *knowledge, struct open_index *open)
{
    char path[KNOWLEDGE_PATH_BYTES_MAX + 96];
    list_remove(&open->node);
    knowledge->index_count--;
    if (open->index)
        index_close(open->index);
    if (open->dropped) {
        knowledge_index_path(knowledge, open->collection, open->generation, path);
        knowledge_remove_folder(path, 4);
    }
    free(open);
}

/* Lock held. Beyond the bound the one that was unused for longest is closed. */
static void close_unused(struct knowledge *knowledge)
{
    struct open_index *oldest = NULL;
    if (knowledge->index_count <= OPEN_INDEXES_MAX)
        return;
    LIST_FOR_EACH (open, &knowledge->indexes, struct open_index, node) {
        if (open->users == 0 && (!oldest || open->used_ns < oldest->used_ns))
            oldest = open;
    }
    if (oldest)
        close_open(knowledge, oldest);
}

/* The dimension that a new index gets; 0: words only. */
static enum rc new_dimension(struct knowledge *knowledge, const struct collection *collection,
                             unsigned *dimension, struct err *err)
{
    struct encoder *encoder;
    *dimension = collection->spec.dimension;
    if (!collection_has_encoder(&collection->spec))
        return RC_OK;
    if (!knowledge->encoders)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this server has no encoders");
    enum rc rc = encoders_get(knowledge->encoders, collection->spec.encoder, &encoder, err);
    if (rc != RC_OK)
        return rc;
    *dimension = encoder_dimension(encoder);
    encoders_put(knowledge->encoders, encoder);
    return RC_OK;
}

static enum rc open_index(struct knowledge *knowledge, const struct collection *collection,
                          struct index **out, struct err *err)
{
    char path[KNOWLEDGE_PATH_BYTES_MAX + 96];
    struct index_config config;
    unsigned dimension;
    knowledge_index_path(knowledge, collection->row.id, collection->row.generation, path);
    enum rc rc = index_open(file_system_real(), path, NULL, out, err);
    if (rc != RC_NOT_FOUND)
        return rc;
    if (err)
        *err = (struct err){0};
    rc = new_dimension(knowledge, collection, &dimension, err);
    if (rc != RC_OK)
        return rc;
    collection_index_config(&collection->spec, dimension, &config);
    return index_open(file_system_real(), path, &config, out, err);
}

enum rc knowledge_index_get(struct knowledge *knowledge, const struct collection *collection,
                            struct index **out, struct err *err)
{
    pthread_mutex_lock(&knowledge->lock);
    struct open_index *open;
    while ((open = find_open(knowledge, collection->row.id, collection->row.generation)) &&
           !open->index)
        pthread_cond_wait(&knowledge->opened, &knowledge->lock);
    if (knowledge->released) {
        pthread_mutex_unlock(&knowledge->lock);
        return err_set(err, ERR_OVERLOADED,
                       "another process has just taken over: send the request again");
    }
    if (open) {
        open->users++;
        open->used_ns = clock_monotonic_ns();
        *out = open->index;
        pthread_mutex_unlock(&knowledge->lock);
        return RC_OK;
    }
    open = xcalloc(1, sizeof(*open));
    open->collection = collection->row.id;
    open->generation = collection->row.generation;
    open->users = 1;
    open->used_ns = clock_monotonic_ns();
    list_push_back(&knowledge->indexes, &open->node);
    knowledge->index_count++;
    pthread_mutex_unlock(&knowledge->lock);

    struct index *index = NULL; /* opening takes time: others go on meanwhile */
    enum rc rc = open_index(knowledge, collection, &index, err);

    pthread_mutex_lock(&knowledge->lock);
    if (rc == RC_OK) {
        open->index = index;
        close_unused(knowledge);
    } else {
        open->users = 0;
        close_open(knowledge, open);
    }
    pthread_cond_broadcast(&knowledge->opened);
    pthread_mutex_unlock(&knowledge->lock);
    *out = index;
    return rc;
}

void knowledge_release(struct knowledge *knowledge)
{
    pthread_mutex_lock(&knowledge->lock);
    knowledge->released = true;
    for (;;) {
        LIST_FOR_EACH_SAFE (open, &knowledge->indexes, struct open_index, node) {
            if (open->users == 0)
                close_open(knowledge, open);
        }
        if (list_empty(&knowledge->indexes))
            break;
        pthread_cond_wait(&knowledge->opened, &knowledge->lock);
    }
    pthread_mutex_unlock(&knowledge->lock);
}

void knowledge_index_put(struct knowledge *knowledge, struct index *index)
{
    pthread_mutex_lock(&knowledge->lock);
    struct open_index *open = find_user(knowledge, index);
    ASSERT(open && open->users > 0);
    if (--open->users == 0 && open->dropped)
        close_open(knowledge, open);
    if (knowledge->released)
        pthread_cond_broadcast(&knowledge->opened);
    pthread_mutex_unlock(&knowledge->lock);
}

void knowledge_index_changed(struct knowledge *knowledge, struct index *index)
{
    pthread_mutex_lock(&knowledge->lock);
    struct open_index *open = find_user(knowledge, index);
    ASSERT(open);
    open->changed = true;
    pthread_mutex_unlock(&knowledge->lock);
}

void knowledge_forget(struct knowledge *knowledge, struct id collection)
{
    pthread_mutex_lock(&knowledge->lock);
    LIST_FOR_EACH_SAFE (open, &knowledge->indexes, struct open_index, node) {
        if (!id_eq(open->collection, collection))
            continue;
        open->dropped = true;
        if (open->users == 0)
            close_open(knowledge, open);
    }
    pthread_mutex_unlock(&knowledge->lock);
}

void knowledge_forget_generation(struct knowledge *knowledge, struct id collection,
                                 int64_t generation)
{
    char path[KNOWLEDGE_PATH_BYTES_MAX + 96];
    pthread_mutex_lock(&knowledge->lock);
    struct open_index *open = find_open(knowledge, collection, generation);
    if (open) {
        open->dropped = true;
        if (open->users == 0)
            close_open(knowledge, open);
    } else {
        knowledge_index_path(knowledge, collection, generation, path);
        knowledge_remove_folder(path, 4);
    }
    pthread_mutex_unlock(&knowledge->lock);
}

/* ---- upkeep ---- */

static bool is_stopping(void *arg) { return ((struct knowledge *)arg)->stopping; }

/* The next index that was changed, with a use counted; NULL: none. */
static struct index *take_changed(struct knowledge *knowledge)
{
    struct index *index = NULL;
    pthread_mutex_lock(&knowledge->lock);
    LIST_FOR_EACH (open, &knowledge->indexes, struct open_index, node) {
        if (!open->changed || !open->index || open->dropped)
            continue;
        open->changed = false;
        open->users++;
        index = open->index;
        break;
    }
    pthread_mutex_unlock(&knowledge->lock);
    return index;
}

static void maintain_run(struct work *work)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, maintain_work);
    struct index *index;
    while (!knowledge->stopping && (index = take_changed(knowledge))) {
        struct err err = {0};
        enum rc rc = index_maintain(index, is_stopping, knowledge, &err);
        if (rc != RC_OK && rc != RC_CANCELLED)
            log_event(LOG_WARN, "index_maintenance_failed", LOG_Z("error", err.message));
        knowledge_index_put(knowledge, index);
    }
}

static void maintain_done(struct work *work)
{
    struct knowledge *knowledge = CONTAINER_OF(work, struct knowledge, maintain_work);
    knowledge->maintaining = false;
    if (!knowledge->stopping)
        timer_start(knowledge->loop, &knowledge->maintain_timer, MAINTAIN_EVERY_NS);
}

static void on_maintain(struct timer *timer)
{
    struct knowledge *knowledge = CONTAINER_OF(timer, struct knowledge, maintain_timer);
    knowledge->maintain_work =
        (struct work){.home = knowledge->loop, .work = maintain_run, .done = maintain_done};
    knowledge->maintaining = worker_submit(knowledge->workers, &knowledge->maintain_work) == RC_OK;
    if (!knowledge->maintaining)
        timer_start(knowledge->loop, timer, MAINTAIN_EVERY_NS);
}

/* ---- life ---- */

enum rc knowledge_new(const struct knowledge_options *options, struct knowledge **out,
                      struct err *err)
{
    struct knowledge *knowledge = xcalloc(1, sizeof(*knowledge));
    *knowledge = (struct knowledge){.loop = options->loop,
                                    .workers = options->workers,
                                    .db = options->db,
                                    .jobs = options->jobs,
                                    .events = options->events,
                                    .encoders = options->encoders,
                                    .allowed_hosts = options->allowed_hosts,
                                    .allowed_host_count = options->allowed_host_count,
                                    .source_directories = options->source_directories,
                                    .source_directory_count = options->source_directory_count};
    snprintf(knowledge->index_folder, sizeof(knowledge->index_folder), "%s", options->index_folder);
    snprintf(knowledge->work_folder, sizeof(knowledge->work_folder), "%s",
             options->work_folder ? options->work_folder : "");
    if (knowledge->work_folder[0])
        knowledge_remove_folder(knowledge->work_folder, WORK_DEPTH_MAX); /* of a process before */
    pthread_mutex_init(&knowledge->lock, NULL);
    pthread_cond_init(&knowledge->synced, NULL);
    pthread_cond_init(&knowledge->opened, NULL);
    pthread_rwlock_init(&knowledge->patch_lock, NULL);
    pthread_mutex_init(&knowledge->snapshot_lock, NULL);
    pthread_rwlock_init(&knowledge->blob_lock, NULL);
    list_init(&knowledge->indexes);
    list_init(&knowledge->runs);
    list_init(&knowledge->under_way);
    list_init(&knowledge->rebuilds);
    list_init(&knowledge->syncs);
    list_init(&knowledge->tunes);
    timer_init(&knowledge->maintain_timer, on_maintain);
    knowledge_tick_init(knowledge);
    enum rc rc = blob_store_open(file_system_real(), options->blob_folder, &knowledge->blobs, err);
    if (rc != RC_OK) {
        knowledge_free(knowledge);
        return rc;
    }
    knowledge_register_ingest(knowledge);
    knowledge_register_rebuild(knowledge);
    knowledge_register_sync(knowledge);
    knowledge_tick_begin(knowledge);
    knowledge_register_tune(knowledge);
    timer_start(knowledge->loop, &knowledge->maintain_timer, MAINTAIN_EVERY_NS);
    *out = knowledge;
    return RC_OK;
}

void knowledge_stop(struct knowledge *knowledge)
{
    knowledge->stopping = true;
    timer_stop(&knowledge->maintain_timer);
    ingest_stop_all(knowledge);
    rebuild_stop_all(knowledge);
    knowledge_tick_stop(knowledge);
    sync_stop_all(knowledge);
    tune_stop_all(knowledge);
}

void knowledge_attach(struct knowledge *knowledge, struct http_client *client,
                      struct gateway_loop *gateway)
{
    knowledge->client = client;
    knowledge->gateway = gateway;
}

void knowledge_join(struct knowledge *knowledge)
{
    pthread_mutex_lock(&knowledge->lock);
    while (knowledge->sync_threads > 0)
        pthread_cond_wait(&knowledge->synced, &knowledge->lock);
    pthread_mutex_unlock(&knowledge->lock);
}

void knowledge_free(struct knowledge *knowledge)
{
    if (!knowledge)
        return;
    LIST_FOR_EACH_SAFE (open, &knowledge->indexes, struct open_index, node) {
        close_open(knowledge, open);
    }
    timer_stop(&knowledge->maintain_timer);
    knowledge_tick_stop(knowledge);
    blob_store_close(knowledge->blobs);
    pthread_mutex_destroy(&knowledge->lock);
    pthread_cond_destroy(&knowledge->opened);
    pthread_cond_destroy(&knowledge->synced);
    pthread_rwlock_destroy(&knowledge->patch_lock);
    pthread_mutex_destroy(&knowledge->snapshot_lock);
    pthread_rwlock_destroy(&knowledge->blob_lock);
    free(knowledge);
}

/* ---- taking up what was left ---- */

struct recovery {
    struct knowledge *knowledge;
    struct arena arena;
    struct collection_row *collections;
    size_t count;
    struct document_row *deleting;
    size_t deleting_count;
};

static enum rc recover_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct recovery *recovery = arg;
    struct waiting_collection *waiting;
    size_t count = 0;
    enum rc rc = document_rows_recover(txn, err);
    if (rc == RC_OK)
        rc = document_rows_waiting(txn, JOBS_OPEN_MAX, &recovery->arena, &waiting, &count, err);
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        struct job_row job;
        rc = knowledge_submit(recovery->knowledge, txn, waiting[i].project, waiting[i].collection,
                              STR("system"), &recovery->arena, &job, err);
    }
    const struct document_filter filter = {.states = 1u << DOCUMENT_DELETING};
    if (rc == RC_OK)
        rc = document_row_list(txn, &filter, (struct id){{0}}, RECOVER_DELETING_MAX,
                               &recovery->arena, &recovery->deleting, &recovery->deleting_count,
                               err);
    return rc == RC_OK ? collection_row_list(txn, (struct id){{0}}, (struct id){{0}}, true,
                                             RECOVER_COUNT_MAX, &recovery->arena,
                                             &recovery->collections, &recovery->count, err)
                       : rc;
}

static bool is_in_force(const struct recovery *recovery, const char *folder)
{
    char id[ID_TEXT_BYTES_MAX], name[ID_TEXT_BYTES_MAX + 32];
    for (size_t i = 0; i < recovery->count; i++) {
        id_format(recovery->collections[i].id, "coll", id);
        snprintf(name, sizeof(name), "%s-%lld", id, (long long)recovery->collections[i].generation);
        if (strcmp(folder, name) == 0)
            return true;
    }
    return false;
}

static void remove_rubbish(struct recovery *recovery)
{
    char path[KNOWLEDGE_PATH_BYTES_MAX + 512];
    struct dirent *entry;
    DIR *folder = opendir(recovery->knowledge->index_folder);
    while (folder && (entry = readdir(folder))) {
        if (strncmp(entry->d_name, "coll_", 5) != 0 || is_in_force(recovery, entry->d_name))
            continue;
        snprintf(path, sizeof(path), "%s/%s", recovery->knowledge->index_folder, entry->d_name);
        log_event(LOG_INFO, "index_removed", LOG_Z("folder", path));
        knowledge_remove_folder(path, 4);
    }
    if (folder)
        closedir(folder);
}

static void finish_deleting(struct recovery *recovery, const struct document_row *row)
{
    struct knowledge *knowledge = recovery->knowledge;
    struct collection collection;
    struct db_txn *txn;
    struct err err = {0};
    enum rc rc = db_read_begin(knowledge->db, &txn, &err);
    if (rc != RC_OK)
        return;
    rc = collection_get(txn, row->project, row->collection, &recovery->arena, &collection, &err);
    db_read_end(txn);
    if (rc == RC_OK)
        rc = document_end_deletion(knowledge, &collection, row, &err);
    if (rc != RC_OK)
        log_event(LOG_WARN, "document_not_deleted", LOG_STR("name", row->name),
                  LOG_Z("error", err.message));
}

enum rc knowledge_recover(struct knowledge *knowledge, struct err *err)
{
    struct recovery recovery = {.knowledge = knowledge};
    arena_init(&recovery.arena, RECOVER_ARENA_BYTES);
    enum rc rc = db_write_wait(knowledge->db, recover_write, &recovery, err);
    if (rc == RC_OK) {
        remove_rubbish(&recovery);
        for (size_t i = 0; i < recovery.deleting_count; i++)
            finish_deleting(&recovery, &recovery.deleting[i]);
    }
    arena_fini(&recovery.arena);
    return rc;
}
