/* Collections and documents as rows and blobs: making, changing, deleting, in an order that a crash
 * does not break. See knowledge.h. */
#include "base/clock.h"
#include "knowledge/knowledge_private.h"
#include "knowledge/snapshot.h"
#include "text/json_tree.h"
#include <stdlib.h>

#define DELETED_BLOBS_MAX 100000
#define FILE_USES_MAX     1000

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
}

/* ---- collections ---- */

/* What chunks and vectors depend on stays as the index was built until a rebuild has ended. */
static enum rc keep_built(struct db_txn *txn, struct arena *arena, struct collection *out,
                          struct err *err)
{
    struct collection_spec built;
    struct object object;
    yyjson_doc *doc;
    enum rc rc = object_version_get(txn, out->row.project, OBJECT_COLLECTION, out->row.name,
                                    out->row.built_version, arena, &object, err);
    if (rc == RC_OK)
        rc = json_read(object.spec, arena, &doc, err);
    if (rc == RC_OK)
        rc = collection_decode(out->row.name, yyjson_doc_get_root(doc), arena, &built, err);
    if (rc != RC_OK)
        return rc;
    out->stale = true;
    collection_spec_take_built(&out->spec, &built);
    return RC_OK;
}

enum rc collection_get_wanted(struct db_txn *txn, struct id project, struct id id,
                              struct arena *arena, struct collection *out, struct err *err)
{
    yyjson_doc *doc;
    enum rc rc = collection_row_get(txn, project, id, arena, &out->row, err);
    if (rc == RC_OK)
        rc = object_get(txn, project, OBJECT_COLLECTION, out->row.name, arena, &out->object, err);
    if (rc == RC_OK)
        rc = json_read(out->object.spec, arena, &doc, err);
    if (rc == RC_OK)
        rc = collection_decode(out->row.name, yyjson_doc_get_root(doc), arena, &out->spec, err);
    return rc;
}

static enum rc read_definition(struct db_txn *txn, struct arena *arena, struct collection *out,
                               struct err *err)
{
    yyjson_doc *doc;
    out->stale = false;
    enum rc rc = object_get(txn, out->row.project, OBJECT_COLLECTION, out->row.name, arena,
                            &out->object, err);
    if (rc == RC_OK)
        rc = json_read(out->object.spec, arena, &doc, err);
    if (rc == RC_OK)
        rc = collection_decode(out->row.name, yyjson_doc_get_root(doc), arena, &out->spec, err);
    return rc == RC_OK && out->row.built_version != out->object.version
               ? keep_built(txn, arena, out, err)
               : rc;
}

enum rc collection_find(struct db_txn *txn, struct id project, struct str name, struct arena *arena,
                        struct collection *out, struct err *err)
{
    enum rc rc = collection_row_find(txn, project, name, arena, &out->row, err);
    if (rc == RC_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "there is no collection '%.*s'",
                       (int)MIN(name.n, (size_t)100), name.p);
    return rc == RC_OK ? read_definition(txn, arena, out, err) : rc;
}

enum rc collection_get(struct db_txn *txn, struct id project, struct id id, struct arena *arena,
                       struct collection *out, struct err *err)
{
    enum rc rc = collection_row_get(txn, project, id, arena, &out->row, err);
    return rc == RC_OK ? read_definition(txn, arena, out, err) : rc;
}

enum rc knowledge_find(struct knowledge *knowledge, struct id project, struct str name,
                       struct arena *arena, struct collection *out, struct err *err)
{
    struct db_txn *txn;
    enum rc rc = db_read_begin(knowledge->db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = collection_find(txn, project, name, arena, out, err);
    db_read_end(txn);
    return rc;
}

/* The definition without what the API only shows. */
static enum rc clean_spec(yyjson_val *old, yyjson_val *body, struct arena *arena, yyjson_val **out,
                          struct err *err)
{
    static const char *const shown[] = {"name",
                                        "id",
                                        "origin",
                                        "version",
                                        "created_at",
                                        "updated_at",
                                        "generation",
                                        "counts",
                                        "index",
                                        "vector_store",
                                        "model",
                                        "encoder_ready",
                                        "encoder_missing",
                                        "encoder_job"};
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *empty = doc ? yyjson_mut_obj(doc) : NULL;
    yyjson_doc *nothing = empty ? json_freeze(empty, arena) : NULL;
    if (!nothing)
        return full(err);
    yyjson_val *patch = body ? body : yyjson_doc_get_root(nothing);
    yyjson_mut_val *spec = yyjson_merge_patch(doc, old ? old : yyjson_doc_get_root(nothing), patch);
    for (size_t i = 0; spec && i < COUNT_OF(shown); i++)
        yyjson_mut_obj_remove_key(spec, shown[i]);
    yyjson_doc *frozen = spec ? json_freeze(spec, arena) : NULL;
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : full(err);
}

static enum rc put_definition(struct db_txn *txn, const struct actor *actor, struct id project,
                              struct str name, yyjson_val *old, yyjson_val *body, bool create,
                              struct arena *arena, struct collection *out, struct err *err)
{
    yyjson_val *spec;
    yyjson_doc *doc;
    enum rc rc = clean_spec(old, body, arena, &spec, err);
    if (rc == RC_OK) /* before it is stored: what cannot take effect is refused */
        rc = collection_decode(name, spec, arena, &out->spec, err);
    if (rc == RC_OK)
        rc = object_put(txn, actor,
                        &(struct object_change){.project = project,
                                                .kind = OBJECT_COLLECTION,
                                                .name = name,
                                                .spec = spec,
                                                .create_only = create},
                        arena, &out->object, err);
    if (rc == RC_OK)
        rc = json_read(out->object.spec, arena, &doc, err);
    return rc == RC_OK ? collection_decode(name, yyjson_doc_get_root(doc), arena, &out->spec, err)
                       : rc;
}

enum rc collection_create(struct db_txn *txn, const struct actor *actor, struct id project,
                          struct str name, yyjson_val *body, struct str vector_name,
                          struct arena *arena, struct collection *out, struct err *err)
{
    enum rc rc = put_definition(txn, actor, project, name, NULL, body, true, arena, out, err);
    if (rc != RC_OK)
        return rc;
    out->row = (struct collection_row){.id = out->object.id,
                                       .project = project,
                                       .name = out->object.name,
                                       .generation = 1,
                                       .built_version = out->object.version,
                                       .vector_name = vector_name,
                                       .created_ns = db_txn_now_ns(txn),
                                       .used_ns = db_txn_now_ns(txn)};
    return collection_row_insert(txn, &out->row, err);
}

static enum rc set_built(struct db_txn *txn, struct collection *collection, struct err *err)
{
    collection->row.built_version = collection->object.version;
    return collection_row_update(txn, &collection->row, err);
}

enum rc collection_patch(struct db_txn *txn, const struct actor *actor, struct id project,
                         struct str name, yyjson_val *patch, struct arena *arena,
                         struct collection *out, bool *rebuild, struct err *err)
{
    struct collection old;
    yyjson_doc *doc;
    enum rc rc = collection_find(txn, project, name, arena, &old, err);
    if (rc == RC_OK)
        rc = json_read(old.object.spec, arena, &doc, err);
    if (rc == RC_OK)
        rc = put_definition(txn, actor, project, name, yyjson_doc_get_root(doc), patch, false,
                            arena, out, err);
    if (rc != RC_OK)
        return rc;
    struct document_counts counts;
    const struct document_filter all = {.project = project, .collection = old.row.id};
    out->row = old.row;
    *rebuild = !collection_spec_same_built(&old.spec, &out->spec);
    if (!*rebuild || (rc = document_rows_count(txn, &all, &counts, err)) != RC_OK)
        return rc == RC_OK && !*rebuild ? set_built(txn, out, err) : rc;
    if (out->spec.dimension || old.spec.dimension)
        return err_set(err, ERR_CONFLICT,
                       "vectors that callers brought cannot be made anew: make another collection");
    out->stale = counts.total > 0;
    if (out->stale)
        return RC_OK;
    *rebuild = false; /* nothing is in it yet: the next index is made as the definition says */
    out->row.generation++;
    return set_built(txn, out, err);
}

enum rc collection_delete(struct db_txn *txn, const struct actor *actor, struct id project,
                          struct str name, struct arena *arena, struct collection *out,
                          struct err *err)
{
    enum rc rc = collection_find(txn, project, name, arena, out, err);
    if (rc == RC_OK)
        rc = collection_row_delete(txn, project, out->row.id, err);
    return rc == RC_OK
               ? object_delete(txn, actor, project, OBJECT_COLLECTION, name, false, arena, err)
               : rc;
}

struct deletion {
    const struct actor *actor;
    struct id project;
    struct str name;
    struct arena *arena;
    struct collection collection;
    struct document_row *documents;
    size_t count;
};

static enum rc delete_collection(void *arg, struct db_txn *txn, struct err *err)
{
    struct deletion *deletion = arg;
    enum rc rc = collection_find(txn, deletion->project, deletion->name, deletion->arena,
                                 &deletion->collection, err);
    const struct document_filter all = {.project = deletion->project,
                                        .collection = deletion->collection.row.id};
    if (rc == RC_OK)
        rc = document_row_list(txn, &all, (struct id){{0}}, DELETED_BLOBS_MAX, deletion->arena,
                               &deletion->documents, &deletion->count, err);
    return rc == RC_OK ? collection_delete(txn, deletion->actor, deletion->project, deletion->name,
                                           deletion->arena, &deletion->collection, err)
                       : rc;
}

enum rc knowledge_delete_collection(struct knowledge *knowledge, const struct actor *actor,
                                    struct id project, struct str name, struct arena *arena,
                                    struct err *err)
{
    struct deletion deletion = {.actor = actor, .project = project, .name = name, .arena = arena};
    enum rc rc = db_write_wait(knowledge->db, delete_collection, &deletion, err);
    if (rc != RC_OK)
        return rc;
    const struct collection_row *row = &deletion.collection.row;
    knowledge_forget(knowledge, row->id);
    knowledge_snapshots_forget(knowledge, row->id);
    knowledge_forget_generation(knowledge, row->id, row->generation);
    for (size_t i = 0; i < deletion.count; i++) {
        knowledge_drop_blob(knowledge, deletion.documents[i].sha256);
        if (deletion.documents[i].has_text)
            knowledge_drop_blob(knowledge, deletion.documents[i].text_sha256);
    }
    return RC_OK;
}

/* ---- blobs ---- */

struct blob_drop {
    const uint8_t *sha256;
    bool used;
};

static enum rc check_blob(void *arg, struct db_txn *txn, struct err *err)
{
    struct blob_drop *drop = arg;
    return blob_is_used(txn, drop->sha256, &drop->used, err);
}

void knowledge_drop_blob(struct knowledge *knowledge, const uint8_t sha256[SHA256_BYTES])
{
    struct blob_drop drop = {.sha256 = sha256, .used = true};
    struct blob_id id;
    memcpy(id.sha256, sha256, SHA256_BYTES);
    pthread_rwlock_wrlock(&knowledge->blob_lock);
    /* Through the writer: rows that others have submitted but not committed yet count, too. */
    if (db_write_wait(knowledge->db, check_blob, &drop, NULL) == RC_OK && !drop.used)
        (void)!blob_remove(knowledge->blobs, &id);
    pthread_rwlock_unlock(&knowledge->blob_lock);
}

/* ---- events ---- */

void knowledge_tell(struct knowledge *knowledge, const struct document_row *row)
{
    char collection[ID_TEXT_BYTES_MAX], document[ID_TEXT_BYTES_MAX];
    struct arena scratch;
    struct str text;
    if (!event_wanted(knowledge->events, EVENT_DOCUMENT))
        return;
    arena_init(&scratch, 64 * 1024);
    id_format(row->collection, "coll", collection);
    id_format(row->id, "doc", document);
    yyjson_mut_doc *doc = json_tree_new(&scratch);
    yyjson_mut_val *o = doc ? yyjson_mut_obj(doc) : NULL;
    if (o) {
        json_set_text(doc, o, "collection_id", str_from(collection));
        json_set_text(doc, o, "id", str_from(document));
        json_set_text(doc, o, "name", row->name);
        json_set_text(doc, o, "state", str_from(document_state_name(row->state)));
        json_set_text(doc, o, "error", row->error);
        yyjson_mut_obj_add_sint(doc, o, "chunks", row->chunks);
    }
    if (json_write_tree(o, &scratch, &text, NULL) == RC_OK)
        event_publish(knowledge->events, row->project, EVENT_DOCUMENT, text);
    arena_fini(&scratch);
}

/* ---- adding ---- */

struct adding {
    struct knowledge *knowledge;
    const struct collection *collection;
    const struct document_new *document;
    struct arena *arena;
    struct document_row *out;
    struct job_row *job;
    struct blob_id blob;
    uint8_t replaced[SHA256_BYTES];
    bool duplicate, replaces;
};

static void fill_row(const struct adding *adding, struct document_row *row, int64_t now_ns)
{
    const struct document_new *document = adding->document;
    row->project = adding->collection->row.project;
    row->collection = adding->collection->row.id;
    row->name = document->name;
    row->source = document->source;
    row->content_type = document->content_type;
    memcpy(row->sha256, adding->blob.sha256, SHA256_BYTES);
    row->bytes = document->blob ? document->bytes : (int64_t)document->content.n;
    row->state = DOCUMENT_QUEUED;
    row->error = row->error_code = STR_EMPTY;
    if (document->attributes.n || !row->attributes.n)
        row->attributes = document->attributes.n ? document->attributes : STR("{}");
    if (document->tags.n || !row->tags.n)
        row->tags = document->tags.n ? document->tags : STR("[]");
    if (document->chunking.n)
        row->chunking = document->chunking;
    row->file = document->file;
    row->batch = document->batch;
    row->updated_ns = now_ns;
}

/* What is there already; *found false: neither the name nor the content. */
static enum rc find_existing(struct adding *adding, struct db_txn *txn, bool *found,
                             struct err *err)
{
    const struct document_new *document = adding->document;
    const struct id collection = adding->collection->row.id;
    enum rc rc;
    *found = true;
    if (!id_is_zero(document->file)) {
        rc = document_row_find_file(txn, collection, document->file, adding->arena, adding->out,
                                    err);
    } else {
        rc = document_row_find(txn, collection, document->name, NULL, adding->arena, adding->out,
                               err);
        if (rc == RC_NOT_FOUND) {
            rc = document_row_find(txn, collection, STR_EMPTY, adding->blob.sha256, adding->arena,
                                   adding->out, err);
            adding->duplicate = rc == RC_OK && adding->out->state != DOCUMENT_FAILED;
        }
    }
    if (rc == RC_NOT_FOUND) {
        *found = false;
        return RC_OK;
    }
    bool same = rc == RC_OK && memcmp(adding->out->sha256, adding->blob.sha256, SHA256_BYTES) == 0;
    bool broken = adding->out->state == DOCUMENT_FAILED || adding->out->state == DOCUMENT_CANCELLED;
    bool as_before =
        (document->attributes.n == 0 || str_eq(document->attributes, adding->out->attributes)) &&
        (document->tags.n == 0 || str_eq(document->tags, adding->out->tags));
    if (same && !broken && as_before)
        adding->duplicate = true;
    return rc;
}

static enum rc add_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct adding *adding = arg;
    struct collection_row alive;
    bool found;
    /* The collection may have been deleted meanwhile. */
    enum rc rc = collection_row_get(txn, adding->collection->row.project,
                                    adding->collection->row.id, adding->arena, &alive, err);
    if (rc == RC_OK)
        rc = find_existing(adding, txn, &found, err);
    if (rc != RC_OK || adding->duplicate)
        return rc;
    if (found) {
        memcpy(adding->replaced, adding->out->sha256, SHA256_BYTES);
        adding->replaces = true;
    } else {
        *adding->out = (struct document_row){.id = id_new(), .created_ns = db_txn_now_ns(txn)};
    }
    fill_row(adding, adding->out, db_txn_now_ns(txn));
    rc = found ? document_row_update(txn, adding->out, err)
               : document_row_insert(txn, adding->out, err);
    return rc == RC_OK ? knowledge_submit(adding->knowledge, txn, adding->out->project,
                                          adding->out->collection, adding->document->author,
                                          adding->arena, adding->job, err)
                       : rc;
}

enum rc knowledge_add(struct knowledge *knowledge, const struct collection *collection,
                      const struct document_new *document, struct arena *arena,
                      struct document_row *out, struct job_row *job, bool *duplicate,
                      struct err *err)
{
    struct adding adding = {.knowledge = knowledge,
                            .collection = collection,
                            .document = document,
                            .arena = arena,
                            .out = out,
                            .job = job};
    enum rc rc = RC_OK;
    *job = (struct job_row){0};
    pthread_rwlock_rdlock(&knowledge->blob_lock);
    if (document->blob)
        adding.blob = *document->blob;
    else if ((rc = blob_put(knowledge->blobs, document->content, &adding.blob)) != RC_OK)
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "the file cannot be stored (%s)",
                rc_name(rc));
    if (rc == RC_OK)
        rc = db_write_wait(knowledge->db, add_write, &adding, err);
    pthread_rwlock_unlock(&knowledge->blob_lock);
    *duplicate = adding.duplicate;
    if (adding.replaces && memcmp(adding.replaced, adding.blob.sha256, SHA256_BYTES) != 0)
        knowledge_drop_blob(knowledge, adding.replaced);
    if (rc == RC_OK && !adding.duplicate)
        knowledge_tell(knowledge, out);
    return rc;
}

enum rc knowledge_submit(struct knowledge *knowledge, struct db_txn *txn, struct id project,
                         struct id collection, struct str author, struct arena *arena,
                         struct job_row *job, struct err *err)
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(collection, "coll", id);
    struct str params = arena_printf(arena, "{\"collection\":\"%s\"}", id);
    if (!params.p)
        return full(err);
    enum rc rc = job_table_find_open(txn, project, STR("knowledge_add"), params, arena, job, err);
    bool queued = rc == RC_OK && str_eq(job->state, STR("queued"));
    if (rc == RC_OK && (queued || ingest_still_looks(knowledge, collection)))
        return RC_OK;
    if (rc != RC_OK && rc != RC_NOT_FOUND)
        return rc;
    return job_submit(knowledge->jobs, txn, project, "knowledge_add", params, author, arena, job,
                      err);
}

/* ---- doing again ---- */

struct requeue {
    struct knowledge *knowledge;
    const struct collection *collection;
    struct id document;
    unsigned states;
    struct str author;
    struct arena *arena;
    struct job_row *job;
};

static enum rc requeue_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct requeue *requeue = arg;
    const struct collection_row *row = &requeue->collection->row;
    struct document_row document;
    enum rc rc;
    if (id_is_zero(requeue->document)) {
        rc = document_rows_set_state(txn, row->id, (struct id){{0}}, requeue->states,
                                     DOCUMENT_QUEUED, err);
    } else {
        rc = document_row_get(txn, row->project, row->id, requeue->document, requeue->arena,
                              &document, err);
        document.state = DOCUMENT_QUEUED;
        document.error = document.error_code = STR_EMPTY;
        if (rc == RC_OK)
            rc = document_row_update(txn, &document, err);
    }
    return rc == RC_OK ? knowledge_submit(requeue->knowledge, txn, row->project, row->id,
                                          requeue->author, requeue->arena, requeue->job, err)
                       : rc;
}

enum rc knowledge_requeue(struct knowledge *knowledge, const struct collection *collection,
                          struct id document, unsigned states, struct str author,
                          struct arena *arena, struct job_row *job, struct err *err)
{
    struct requeue requeue = {knowledge, collection, document, states, author, arena, job};
    return db_write_wait(knowledge->db, requeue_write, &requeue, err);
}

/* ---- files ---- */

static enum rc insert_file(void *arg, struct db_txn *txn, struct err *err)
{
    struct file_row *row = arg;
    row->created_ns = db_txn_now_ns(txn);
    if (row->expires_ns)
        row->expires_ns += row->created_ns;
    return file_row_insert(txn, row, err);
}

enum rc knowledge_add_file(struct knowledge *knowledge, struct file_row *row, struct str content,
                           struct err *err)
{
    struct blob_id blob;
    pthread_rwlock_rdlock(&knowledge->blob_lock);
    enum rc rc = blob_put(knowledge->blobs, content, &blob);
    if (rc != RC_OK)
        err_set(err, rc == RC_FULL ? ERR_DISK_FULL : ERR_INTERNAL, "the file cannot be stored (%s)",
                rc_name(rc));
    memcpy(row->sha256, blob.sha256, SHA256_BYTES);
    row->id = id_new();
    row->bytes = (int64_t)content.n;
    if (rc == RC_OK)
        rc = db_write_wait(knowledge->db, insert_file, row, err);
    pthread_rwlock_unlock(&knowledge->blob_lock);
    return rc;
}

static enum rc delete_file_row(void *arg, struct db_txn *txn, struct err *err)
{
    const struct file_row *row = arg;
    return file_row_delete(txn, row->project, row->id, err);
}

static enum rc delete_use(struct knowledge *knowledge, const struct document_row *use,
                          struct arena *arena, struct err *err)
{
    struct collection collection;
    struct db_txn *txn;
    enum rc rc = db_read_begin(knowledge->db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = collection_get(txn, use->project, use->collection, arena, &collection, err);
    db_read_end(txn);
    return rc == RC_OK ? knowledge_delete_document(knowledge, &collection, use, err) : rc;
}

enum rc knowledge_delete_file(struct knowledge *knowledge, const struct file_row *row,
                              struct arena *arena, struct err *err)
{
    const struct document_filter filter = {.project = row->project, .file = row->id};
    struct document_row *uses;
    struct db_txn *txn;
    struct file_row copy = *row;
    size_t count;
    enum rc rc = db_read_begin(knowledge->db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc =
        document_row_list(txn, &filter, (struct id){{0}}, FILE_USES_MAX, arena, &uses, &count, err);
    db_read_end(txn);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        rc = delete_use(knowledge, &uses[i], arena, err);
    if (rc == RC_OK)
        rc = db_write_wait(knowledge->db, delete_file_row, &copy, err);
    if (rc == RC_OK)
        knowledge_drop_blob(knowledge, row->sha256);
    return rc;
}

/* ---- uploaded files ---- */

size_t file_id_format(struct id id, char out[ID_TEXT_BYTES_MAX])
{
    size_t n = id_format(id, "file", out);
    out[4] = '-';
    return n;
}

enum rc file_id_parse(struct str s, struct id *out)
{
    char text[ID_TEXT_BYTES_MAX];
    if (s.n < 6 || s.n >= sizeof(text) || s.p[4] != '-')
        return RC_INVALID;
    memcpy(text, s.p, s.n);
    text[4] = '_';
    return id_parse(str_make(text, s.n), "file", out);
}

enum rc knowledge_file_find(struct knowledge *knowledge, struct id project, struct str id,
                            struct arena *arena, struct knowledge_file *out, struct err *err)
{
    struct file_row row;
    struct blob_id blob;
    struct db_txn *txn;
    struct id file;
    if (file_id_parse(id, &file) != RC_OK)
        return err_set(err, ERR_NOT_FOUND, "there is no such uploaded file");
    enum rc rc = db_read_begin(knowledge->db, &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = file_row_get(txn, project, file, arena, &row, err);
    db_read_end(txn);
    if (rc != RC_OK)
        return rc;
    out->name = row.name;
    out->content_type = row.content_type;
    memcpy(blob.sha256, row.sha256, SHA256_BYTES);
    blob_locate(knowledge->blobs, &blob, out->path);
    return RC_OK;
}
