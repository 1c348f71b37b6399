/* The job "knowledge_sync": one source's items, made into documents. See source_private.h.
 *
 * What is durable: the source's row says which sync is under way and by which job; each item's row
 * says in which sync it was last seen, and which version of it a document holds. A process that is
 * killed leaves both; the job goes on with the same number, and items that carry it are passed
 * over. An item's row is written after its document, so the worst that a crash costs is that an
 * item is read twice, which changes nothing.
 *
 * Documents carry the item's name. Two items of the same content share a document (of the first
 * one's name); when that one changes or goes, the others are read again. */
#include "base/clock.h"
#include "base/log.h"
#include "knowledge/source_private.h"
#include "store/secret.h"
#include "text/json_tree.h"
#include <stdlib.h>

#define ARENA_BYTES_MAX     (256 * 1024 * 1024)
#define SCRATCH_BYTES_MAX   (256 * 1024 * 1024)
#define LOAD_ITEMS          2000
#define PROGRESS_NS         (250 * NS_PER_MS)
#define FAILURES_IN_ROW_MAX 50

static const struct source_kind_calls *const CALLS[] = {
    [SOURCE_URLS] = &SOURCE_CALLS_URLS,   [SOURCE_SITEMAP] = &SOURCE_CALLS_SITEMAP,
    [SOURCE_CRAWL] = &SOURCE_CALLS_CRAWL, [SOURCE_DIRECTORY] = &SOURCE_CALLS_DIRECTORY,
    [SOURCE_GIT] = &SOURCE_CALLS_GIT,     [SOURCE_S3] = &SOURCE_CALLS_S3,
};

static const struct source_kind_calls *calls_of(const struct source_sync *sync)
{
    return CALLS[sync->spec.kind];
}

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the source has more items than there is memory for");
}

/* ---- writing down ---- */

struct item_write {
    struct source_sync *sync;
    const struct source_item_row *item;
    struct id again; /* a document that others than `item` stood for as well; zero: none */
    bool deleted;
};

static enum rc write_item(void *arg, struct db_txn *txn, struct err *err)
{
    struct item_write *write = arg;
    struct source_sync *sync = write->sync;
    enum rc rc = write->deleted
                     ? source_item_delete(txn, sync->source, write->item->key, err)
                     : source_item_put(txn, sync->project, sync->source, write->item, err);
    if (rc == RC_OK && !id_is_zero(write->again))
        rc = source_items_again(txn, sync->source, write->again, write->item->key, err);
    return rc == RC_OK ? source_row_progress(txn, &sync->row, err) : rc;
}

static enum rc write_seen(void *arg, struct db_txn *txn, struct err *err)
{
    struct source_sync *sync = arg;
    enum rc rc = source_row_progress(txn, &sync->row, err);
    for (size_t i = 0; rc == RC_OK && i < sync->seen_count; i++)
        rc = source_item_seen(txn, sync->source, sync->seen[i]->key, sync->row.sync, err);
    return rc;
}

static enum rc flush_seen(struct source_sync *sync, struct err *err)
{
    enum rc rc = db_write_wait(sync->knowledge->db, write_seen, sync, err);
    sync->seen_count = 0;
    return rc;
}

static enum rc mark_seen(struct source_sync *sync, struct source_item *item, struct err *err)
{
    item->row.sync = sync->row.sync;
    item->row.state = SOURCE_ITEM_OK;
    sync->row.unchanged++;
    sync->seen[sync->seen_count++] = &item->row;
    return sync->seen_count == COUNT_OF(sync->seen) ? flush_seen(sync, err) : RC_OK;
}

static enum rc put_item(struct source_sync *sync, struct source_item *item, struct id again,
                        struct err *err)
{
    struct item_write write = {.sync = sync, .item = &item->row, .again = again};
    item->row.sync = sync->row.sync;
    return db_write_wait(sync->knowledge->db, write_item, &write, err);
}

/* Others that stood for this document are to be read again. */
static void mark_again(struct source_sync *sync, struct id document, const struct source_item *but)
{
    MAP_FOR_EACH (slot, &sync->items) {
        struct source_item *item = slot->value;
        if (item == but || !id_eq(item->row.document, document))
            continue;
        item->row.document = (struct id){{0}};
        item->row.etag = item->row.modified = STR_EMPTY;
        item->row.state = SOURCE_ITEM_AGAIN;
    }
}

/* ---- one item ---- */

/* The name of its document: an address as it is, a path below the source's name. */
static struct str document_name(struct source_sync *sync, struct str key)
{
    return calls_of(sync)->keys_are_urls
               ? key
               : arena_printf(&sync->scratch, "%.*s/%.*s", STR_ARG(sync->spec.name), STR_ARG(key));
}

static enum rc keep_text(struct source_sync *sync, struct str value, struct str *out,
                         struct err *err)
{
    if (str_eq(value, *out))
        return RC_OK;
    *out = arena_copy(&sync->arena, value.p ? value : STR(""));
    return out->p ? RC_OK : no_memory(err);
}

static enum rc item_failed(struct source_sync *sync, struct source_item *item,
                           const struct err *why, struct err *err)
{
    sync->row.failed++;
    item->row.state = SOURCE_ITEM_FAILED;
    enum rc rc = keep_text(sync, str_from(why->message), &item->row.error, err);
    if (rc == RC_OK)
        rc = put_item(sync, item, (struct id){{0}}, err);
    if (rc == RC_OK && ++sync->failures_in_row >= FAILURES_IN_ROW_MAX)
        rc = err_set(err, ERR_UPSTREAM, "%d items in a row could not be read; the last one: %.300s",
                     FAILURES_IN_ROW_MAX, why->message);
    return rc;
}

/* Is the document there, and is it this item's own? */
static enum rc find_document(struct source_sync *sync, struct id id, struct document_row *out,
                             struct err *err)
{
    struct db_txn *txn;
    if (id_is_zero(id))
        return RC_NOT_FOUND;
    enum rc rc = db_read_begin(sync->knowledge->db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = document_row_get(txn, sync->project, sync->row.collection, id, &sync->scratch, out, err);
    db_read_end(txn);
    if (rc == RC_NOT_FOUND && err)
        *err = (struct err){0};
    return rc;
}

/* The item's document goes, when it is its own; *again: others stood for it, too. */
static enum rc drop_document(struct source_sync *sync, struct source_item *item, struct id *again,
                             struct err *err)
{
    struct document_row document;
    *again = (struct id){{0}};
    enum rc rc = find_document(sync, item->row.document, &document, err);
    if (rc == RC_NOT_FOUND)
        return RC_OK;
    if (rc != RC_OK || !str_eq(document.name, document_name(sync, item->row.key)))
        return rc;
    rc = knowledge_delete_document(sync->knowledge, &sync->collection, &document, err);
    if (rc != RC_OK)
        return rc;
    *again = document.id;
    mark_again(sync, document.id, item);
    sync->row.deleted++;
    return RC_OK;
}

/* Listed, but not there: noted as this item's error; what it was before goes. */
static enum rc item_gone(struct source_sync *sync, struct source_item *item, struct err *why,
                         struct err *err)
{
    struct id again = {{0}};
    enum rc rc = sync->spec.keep_gone ? RC_OK : drop_document(sync, item, &again, err);
    if (rc != RC_OK)
        return rc;
    if (!sync->spec.keep_gone)
        item->row.document = (struct id){{0}};
    item->row.etag = item->row.modified = STR_EMPTY;
    item->row.state = SOURCE_ITEM_FAILED;
    sync->row.failed++;
    rc = keep_text(sync, str_from(why->message), &item->row.error, err);
    return rc == RC_OK ? put_item(sync, item, again, err) : rc;
}

static enum rc note_document(struct source_sync *sync, struct source_item *item,
                             const struct document_row *document, bool duplicate, struct str marker,
                             struct err *err)
{
    const struct source_content *content = &sync->content;
    struct id again = {{0}};
    bool known = !id_is_zero(item->row.document);
    if (duplicate && id_eq(document->id, item->row.document))
        sync->row.unchanged++;
    else if (known)
        sync->row.changed++;
    else
        sync->row.added++;
    if (!duplicate) {
        again = document->id;
        mark_again(sync, again, item);
    }
    item->row.document = document->id;
    item->row.bytes = (int64_t)buf_len(&content->body);
    item->row.state = SOURCE_ITEM_OK;
    item->row.error = STR_EMPTY;
    sync->failures_in_row = 0;
    enum rc rc = keep_text(sync, marker.n ? marker : content->etag, &item->row.etag, err);
    if (rc == RC_OK)
        rc = keep_text(sync, content->modified, &item->row.modified, err);
    return rc == RC_OK ? put_item(sync, item, again, err) : rc;
}

static enum rc add_document(struct source_sync *sync, struct source_item *item, struct str marker,
                            struct err *err)
{
    const struct source_content *content = &sync->content;
    struct str address = content->address.n ? content->address : item->row.key;
    const struct document_new document = {
        .name = document_name(sync, item->row.key),
        .source = address,
        .content_type = content->content_type.p ? content->content_type : STR(""),
        .content = buf_str(&content->body),
        .attributes = sync->spec.attributes,
        .tags = sync->spec.tags,
        .author = sync->row.author};
    struct document_row row = {0};
    struct job_row job;
    struct err why = {0};
    bool duplicate;
    if (!document.name.p)
        return no_memory(err);
    enum rc rc = knowledge_add(sync->knowledge, &sync->collection, &document, &sync->scratch, &row,
                               &job, &duplicate, &why);
    if (rc == RC_OK)
        return note_document(sync, item, &row, duplicate, marker, err);
    /* What would hit the next one, too, ends the sync. */
    if (err)
        *err = why;
    return rc;
}

static enum rc take_item(struct source_sync *sync, struct source_item *item, struct str marker,
                         struct err *err)
{
    struct err why = {0};
    buf_release(&sync->content.body);
    arena_reset(&sync->scratch);
    sync->content = (struct source_content){.body = sync->content.body};
    enum rc rc = calls_of(sync)->read(sync, &item->row, &sync->content, &why);
    if (rc == RC_CANCELLED || sync_is_cancelled(sync))
        return sync_cancelled(err);
    if (rc == RC_NOT_FOUND)
        return item_gone(sync, item, &why, err);
    if (rc != RC_OK)
        return item_failed(sync, item, &why, err);
    sync->failures_in_row = 0;
    if (sync->content.unchanged)
        return mark_seen(sync, item, err);
    return add_document(sync, item, marker, err);
}

static struct source_item *item_of(struct source_sync *sync, struct str key)
{
    struct source_item *item = map_get(&sync->items, key);
    if (item)
        return item;
    item = ARENA_NEW(&sync->arena, struct source_item);
    if (!item)
        return NULL;
    item->row.key = arena_copy(&sync->arena, key);
    if (!item->row.key.p)
        return NULL;
    map_put(&sync->items, item->row.key, item);
    return item;
}

static void tell_progress(struct source_sync *sync, struct str key)
{
    pthread_mutex_lock(&sync->lock);
    sync->done = sync->listed;
    snprintf(sync->message, sizeof(sync->message), "%.*s", (int)MIN(key.n, (size_t)200), key.p);
    pthread_mutex_unlock(&sync->lock);
}

enum rc sync_visit(struct source_sync *sync, struct str key, struct str marker,
                   struct source_item **out, struct err *err)
{
    if (sync_is_cancelled(sync))
        return sync_cancelled(err);
    if (out)
        *out = NULL;
    if (key.n == 0 || key.n > SOURCE_KEY_BYTES_MAX)
        return RC_OK;
    if (sync->listed >= sync->spec.items_max) {
        sync->truncated = true;
        return RC_END;
    }
    struct source_item *item = item_of(sync, key);
    if (!item)
        return no_memory(err);
    if (out)
        *out = item;
    if (item->listed)
        return RC_OK;
    item->listed = true;
    sync->listed++;
    tell_progress(sync, key);
    if (item->row.sync == sync->row.sync && item->row.state != SOURCE_ITEM_AGAIN)
        return RC_OK; /* done before the process ended that began this sync */
    if (marker.n && item->row.state == SOURCE_ITEM_OK && str_eq(item->row.etag, marker))
        return mark_seen(sync, item, err);
    return take_item(sync, item, marker, err);
}

static enum rc read_blob(struct source_sync *sync, const uint8_t sha256[SHA256_BYTES],
                         struct str *out, struct err *err)
{
    struct blob_id id;
    struct file *file;
    int64_t bytes;
    size_t got = 0;
    memcpy(id.sha256, sha256, SHA256_BYTES);
    enum rc rc = blob_get(sync->knowledge->blobs, &id, &file);
    if (rc != RC_OK)
        return err_set(err, ERR_INTERNAL, "a stored file cannot be read (%s)", rc_name(rc));
    rc = file_size(file, &bytes);
    char *p = rc == RC_OK ? arena_alloc(&sync->scratch, (size_t)bytes + 1) : NULL;
    if (p)
        rc = file_read_at(file, p, (size_t)bytes, 0, &got);
    file_close(file);
    if (!p || rc != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "a stored file cannot be read (%s)", rc_name(rc));
    *out = str_make(p, got);
    return RC_OK;
}

enum rc sync_item_body(struct source_sync *sync, const struct source_item *item, struct str *out,
                       struct str *content_type, struct err *err)
{
    struct document_row document;
    *out = *content_type = STR_EMPTY;
    if (buf_len(&sync->content.body) > 0) {
        *out = buf_str(&sync->content.body);
        *content_type = sync->content.content_type;
        return RC_OK;
    }
    enum rc rc = find_document(sync, item->row.document, &document, err);
    if (rc == RC_NOT_FOUND)
        return RC_OK;
    *content_type = document.content_type;
    return rc == RC_OK ? read_blob(sync, document.sha256, out, err) : rc;
}

/* ---- after the listing ---- */

static enum rc delete_item(struct source_sync *sync, struct source_item *item, struct err *err)
{
    struct id again;
    arena_reset(&sync->scratch);
    enum rc rc = drop_document(sync, item, &again, err);
    if (rc != RC_OK)
        return rc;
    struct item_write write = {.sync = sync, .item = &item->row, .again = again, .deleted = true};
    return db_write_wait(sync->knowledge->db, write_item, &write, err);
}

/* Gone at the source: gone here, unless the listing may lack something. */
static enum rc delete_gone(struct source_sync *sync, bool all, struct err *err)
{
    enum rc rc = RC_OK;
    if (!all && (sync->spec.keep_gone || sync->unsure || sync->truncated))
        return RC_OK;
    MAP_FOR_EACH (slot, &sync->items) {
        struct source_item *item = slot->value;
        if (!all && item->listed)
            continue;
        if (sync_is_cancelled(sync))
            return sync_cancelled(err);
        if ((rc = delete_item(sync, item, err)) != RC_OK)
            return rc;
    }
    return rc;
}

static enum rc take_again(struct source_sync *sync, struct err *err)
{
    enum rc rc = RC_OK;
    MAP_FOR_EACH (slot, &sync->items) {
        struct source_item *item = slot->value;
        if (item->listed && item->row.state == SOURCE_ITEM_AGAIN)
            rc = take_item(sync, item, STR_EMPTY, err);
        if (rc != RC_OK)
            return rc;
    }
    return rc;
}

/* ---- the beginning ---- */

static enum rc open_secret(struct source_sync *sync, struct db_txn *txn, const char *member,
                           struct str sealed, struct str *out, struct err *err)
{
    *out = STR_EMPTY;
    if (sealed.n == 0)
        return RC_OK;
    struct str context = source_secret_context(sync->project, sync->source, member, &sync->arena);
    if (!context.p || !db_txn_secrets(txn))
        return err_set(err, ERR_INTERNAL, "there is no key to open secrets with");
    return secret_resolve(db_txn_secrets(txn), context, sealed, &sync->arena, out, err);
}

static enum rc load_items(struct source_sync *sync, struct db_txn *txn, struct err *err)
{
    struct str after = STR_EMPTY;
    for (;;) {
        struct source_item_row *rows;
        size_t count;
        enum rc rc = source_item_list(txn, sync->project, sync->source, 0, after, LOAD_ITEMS,
                                      &sync->arena, &rows, &count, err);
        if (rc != RC_OK || count == 0)
            return rc;
        for (size_t i = 0; i < count; i++) {
            struct source_item *item = ARENA_NEW(&sync->arena, struct source_item);
            if (!item)
                return no_memory(err);
            item->row = rows[i];
            map_put(&sync->items, item->row.key, item);
        }
        after = rows[count - 1].key;
    }
}

static enum rc load(struct source_sync *sync, struct err *err)
{
    struct db_txn *txn;
    yyjson_doc *doc;
    enum rc rc = db_read_begin(sync->knowledge->db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = source_row_get(txn, sync->project, (struct id){{0}}, sync->source, &sync->arena,
                        &sync->row, err);
    if (rc == RC_OK)
        rc = json_read(sync->row.definition, &sync->arena, &doc, err);
    if (rc == RC_OK)
        rc = source_decode(yyjson_doc_get_root(doc), &sync->arena, &sync->spec, err);
    if (rc == RC_OK)
        rc = collection_get(txn, sync->project, sync->row.collection, &sync->arena,
                            &sync->collection, err);
    if (rc == RC_OK)
        rc = open_secret(sync, txn, "token", sync->spec.token, &sync->token, err);
    if (rc == RC_OK)
        rc = open_secret(sync, txn, "secret_access_key", sync->spec.secret_access_key,
                         &sync->secret, err);
    if (rc == RC_OK)
        rc = load_items(sync, txn, err);
    db_read_end(txn);
    return rc;
}

static enum rc write_row(void *arg, struct db_txn *txn, struct err *err)
{
    struct source_sync *sync = arg;
    return source_row_progress(txn, &sync->row, err);
}

/* A new number, or the one that a process before was working on. */
static enum rc begin_sync(struct source_sync *sync, struct err *err)
{
    struct source_row *row = &sync->row;
    if (row->syncing && id_eq(row->job, sync->job_id))
        return RC_OK;
    row->sync++;
    row->syncing = true;
    row->added = row->changed = row->unchanged = row->deleted = row->failed = 0;
    row->started_ns = clock_wall_ns();
    row->finished_ns = 0;
    row->error = STR_EMPTY;
    return db_write_wait(sync->knowledge->db, write_row, sync, err);
}

/* ---- the thread ---- */

static enum rc remove_row(void *arg, struct db_txn *txn, struct err *err)
{
    struct source_sync *sync = arg;
    return source_row_delete(txn, sync->project, sync->source, err);
}

static enum rc remove_all(struct source_sync *sync, struct err *err)
{
    enum rc rc = delete_gone(sync, true, err);
    return rc == RC_OK ? db_write_wait(sync->knowledge->db, remove_row, sync, err) : rc;
}

static enum rc follow_source(struct source_sync *sync, struct err *err)
{
    enum rc rc = calls_of(sync)->list(sync, err);
    if (rc == RC_END) /* enough */
        rc = RC_OK;
    if (rc == RC_OK)
        rc = delete_gone(sync, false, err);
    if (rc == RC_OK)
        rc = take_again(sync, err);
    if (rc == RC_OK)
        rc = flush_seen(sync, err);
    return rc;
}

/* What the row says when a sync has ended, in whatever way but with the process. */
static void end_sync(struct source_sync *sync, enum rc rc)
{
    struct err err = {0};
    if (sync->row.sync == 0 || sync->knowledge->stopping)
        return;
    if (rc != RC_OK || sync->row.failed > 0)
        sync->row.cursor = STR_EMPTY; /* what failed is looked at again */
    sync->row.syncing = false;
    sync->row.finished_ns = clock_wall_ns();
    sync->row.error = rc == RC_OK          ? STR_EMPTY
                      : rc == RC_CANCELLED ? STR("stopped")
                                           : str_from(sync->err.message);
    rc = flush_seen(sync, &err); /* the row goes with it */
    if (rc != RC_OK)
        log_event(LOG_WARN, "sync_not_noted", LOG_STR("source", sync->row.name),
                  LOG_Z("error", err.message));
}

static void *thread_main(void *arg)
{
    struct source_sync *sync = arg;
    struct knowledge *knowledge = sync->knowledge;
    enum rc rc = load(sync, &sync->err);
    if (rc == RC_OK && sync->row.removing) {
        rc = remove_all(sync, &sync->err);
    } else if (rc == RC_OK) {
        rc = begin_sync(sync, &sync->err);
        if (rc == RC_OK)
            rc = follow_source(sync, &sync->err);
        if (calls_of(sync)->close)
            calls_of(sync)->close(sync);
        end_sync(sync, rc);
    }
    if (rc != RC_OK && sync->err.code == ERR_NONE)
        err_set(&sync->err, ERR_INTERNAL, "the sync ended early (%s)", rc_name(rc));
    buf_fini(&sync->content.body);
    map_fini(&sync->items);
    arena_fini(&sync->scratch);
    arena_fini(&sync->arena);
    arena_thread_exit();
    loop_post(knowledge->loop, &sync->ended);
    pthread_mutex_lock(&knowledge->lock);
    knowledge->sync_threads--;
    pthread_cond_broadcast(&knowledge->synced);
    pthread_mutex_unlock(&knowledge->lock);
    return NULL;
}

/* ---- the job: jobs' loop ---- */

static void sync_free(struct source_sync *sync)
{
    pthread_mutex_lock(&sync->knowledge->lock);
    list_remove(&sync->node);
    pthread_mutex_unlock(&sync->knowledge->lock);
    timer_stop(&sync->progress);
    http_client_free(sync->client);
    pthread_mutex_destroy(&sync->lock);
    pthread_cond_destroy(&sync->wake);
    free(sync);
}

static void on_progress(struct timer *timer)
{
    struct source_sync *sync = CONTAINER_OF(timer, struct source_sync, progress);
    char message[sizeof(sync->message)];
    pthread_mutex_lock(&sync->lock);
    int64_t done = sync->done, total = sync->total;
    memcpy(message, sync->message, sizeof(message));
    pthread_mutex_unlock(&sync->lock);
    job_progress(sync->job, done, MAX(total, done), "items", str_from(message));
    timer_start(sync->knowledge->loop, timer, PROGRESS_NS);
}

static void on_ended(struct task *task)
{
    struct source_sync *sync = CONTAINER_OF(task, struct source_sync, ended);
    const struct source_row *row = &sync->row;
    char result[256];
    pthread_join(sync->thread, NULL);
    if (!sync->knowledge->stopping) { /* else the next process takes the job up */
        int n = snprintf(result, sizeof(result),
                         "{\"added\":%lld,\"changed\":%lld,\"unchanged\":%lld,\"deleted\":%lld,"
                         "\"failed\":%lld,\"truncated\":%s}",
                         (long long)row->added, (long long)row->changed, (long long)row->unchanged,
                         (long long)row->deleted, (long long)row->failed,
                         sync->truncated ? "true" : "false");
        /* Another attempt at once would meet the same: the schedule or a person asks again. */
        if (sync->err.code != ERR_CANCELLED)
            sync->err.rc = RC_INVALID;
        job_progress(sync->job, sync->done, sync->done, "items", STR(""));
        job_finish(sync->job, str_make(result, (size_t)n),
                   sync->err.code == ERR_NONE ? NULL : &sync->err);
    }
    sync_free(sync);
}

static struct source_sync *sync_new(struct knowledge *knowledge, struct job_run *job,
                                    struct id source)
{
    pthread_condattr_t monotonic;
    struct source_sync *sync = xcalloc(1, sizeof(*sync));
    sync->knowledge = knowledge;
    sync->job = job;
    sync->job_id = job_run_id(job);
    sync->project = job_run_project(job);
    sync->source = source;
    sync->ended.run = on_ended;
    sync->client = http_client_new(knowledge->loop);
    timer_init(&sync->progress, on_progress);
    pthread_mutex_init(&sync->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sync->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    arena_init(&sync->arena, ARENA_BYTES_MAX);
    arena_init(&sync->scratch, SCRATCH_BYTES_MAX);
    map_init(&sync->items);
    buf_init(&sync->content.body, SOURCE_FILE_BYTES_MAX);
    return sync;
}

static void *sync_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct knowledge *knowledge = arg;
    struct err err = {0};
    struct id source;
    if (id_parse(json_get_text(params, "source"), "src", &source) != RC_OK) {
        err_set(&err, ERR_INVALID, "the job does not say which source");
        job_finish(job, STR_EMPTY, &err);
        return NULL;
    }
    struct source_sync *sync = sync_new(knowledge, job, source);
    pthread_mutex_lock(&knowledge->lock);
    list_push_back(&knowledge->syncs, &sync->node);
    knowledge->sync_threads++;
    pthread_mutex_unlock(&knowledge->lock);
    if (pthread_create(&sync->thread, NULL, thread_main, sync) == 0) {
        timer_start(knowledge->loop, &sync->progress, PROGRESS_NS);
        return sync;
    }
    pthread_mutex_lock(&knowledge->lock);
    knowledge->sync_threads--;
    pthread_mutex_unlock(&knowledge->lock);
    sync_free(sync);
    err_set(&err, ERR_OVERLOADED, "no thread can be started for it");
    job_finish(job, STR_EMPTY, &err);
    return NULL;
}

static void cancel(struct source_sync *sync)
{
    pthread_mutex_lock(&sync->lock);
    __atomic_store_n(&sync->cancelled, true, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&sync->wake);
    pthread_mutex_unlock(&sync->lock);
    source_fetch_cancel(sync);
}

static void sync_cancel(void *arg, void *handle)
{
    UNUSED(arg);
    cancel(handle);
}

void sync_stop_all(struct knowledge *knowledge)
{
    LIST_FOR_EACH (sync, &knowledge->syncs, struct source_sync, node) {
        timer_stop(&sync->progress);
        cancel(sync);
    }
}

void knowledge_register_sync(struct knowledge *knowledge)
{
    jobs_register(knowledge->jobs, &(struct job_kind){.name = "knowledge_sync",
                                                      .attempts_max = 1000,
                                                      .parallel_max = SYNCS_MAX,
                                                      .start = sync_start,
                                                      .cancel = sync_cancel,
                                                      .arg = knowledge});
}
