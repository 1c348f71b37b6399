/* A document that is there already is changed or deleted while runs may be at work on it. See
 * knowledge.h.
 *
 * Who does what is decided on the control writer's thread. A document that a run works on
 * (ingest_claim) is finished by that run, which sees at its end what has become of the row. State
 * `embedding` in the row: its chunks are being given other attributes. Both are queued again by the
 * next start (document_rows_recover), so what a crash leaves half-way is done anew from the file.
 */
#include "knowledge/chunk_edit.h"
#include "knowledge/knowledge_private.h"
#include <unistd.h>

#define CHANGE_ARENA_BYTES (4 * 1024 * 1024)

/* ---- deleting ---- */

struct deletion {
    struct knowledge *knowledge;
    const struct document_row *asked;
    struct arena *arena;
    struct document_row row; /* as it is */
    bool gone;
    bool claimed; /* a run is at work on it and ends the deletion */
};

static enum rc mark_deleting(void *arg, struct db_txn *txn, struct err *err)
{
    struct deletion *deletion = arg;
    const struct document_row *asked = deletion->asked;
    enum rc rc = document_row_get(txn, asked->project, asked->collection, asked->id,
                                  deletion->arena, &deletion->row, err);
    if (rc == RC_NOT_FOUND) { /* or somebody else deletes it */
        if (err)
            *err = (struct err){0};
        deletion->gone = true;
        return RC_OK;
    }
    if (rc != RC_OK)
        return rc;
    deletion->claimed = ingest_is_under_way(deletion->knowledge, asked->id);
    deletion->row.state = DOCUMENT_DELETING;
    return document_row_update(txn, &deletion->row, err);
}

static enum rc delete_row(void *arg, struct db_txn *txn, struct err *err)
{
    const struct document_row *row = arg;
    return document_row_delete(txn, row->project, row->id, err);
}

/* Whatever the row says: an interrupted run may have left chunks. An index that was never made,
 * because its encoder is missing, holds none. */
static enum rc delete_chunks(struct knowledge *knowledge, const struct collection *collection,
                             struct id document, struct err *err)
{
    char path[KNOWLEDGE_PATH_BYTES_MAX + 96];
    struct index *index;
    knowledge_index_path(knowledge, collection->row.id, collection->row.generation, path);
    if (access(path, F_OK) != 0)
        return RC_OK;
    enum rc rc = knowledge_index_get(knowledge, collection, &index, err);
    if (rc != RC_OK)
        return rc;
    rc = ingest_delete_chunks(index, document, err);
    knowledge_index_changed(knowledge, index);
    knowledge_index_put(knowledge, index);
    return rc;
}

enum rc document_end_deletion(struct knowledge *knowledge, const struct collection *collection,
                              const struct document_row *row, struct err *err)
{
    struct document_row copy = *row;
    enum rc rc = delete_chunks(knowledge, collection, row->id, err);
    if (rc == RC_OK)
        rc = db_write_wait(knowledge->db, delete_row, &copy, err);
    if (rc != RC_OK)
        return rc;
    knowledge_drop_blob(knowledge, row->sha256);
    if (row->has_text)
        knowledge_drop_blob(knowledge, row->text_sha256);
    return RC_OK;
}

enum rc knowledge_delete_document(struct knowledge *knowledge, const struct collection *collection,
                                  const struct document_row *row, struct err *err)
{
    struct arena arena;
    arena_init(&arena, CHANGE_ARENA_BYTES);
    struct deletion deletion = {.knowledge = knowledge, .asked = row, .arena = &arena};
    pthread_rwlock_rdlock(&knowledge->patch_lock);
    enum rc rc = db_write_wait(knowledge->db, mark_deleting, &deletion, err);
    if (rc == RC_OK && !deletion.gone) {
        rc = deletion.claimed ? delete_chunks(knowledge, collection, row->id, err)
                              : document_end_deletion(knowledge, collection, &deletion.row, err);
        if (rc == RC_OK)
            knowledge_tell(knowledge, &deletion.row);
    }
    pthread_rwlock_unlock(&knowledge->patch_lock);
    arena_fini(&arena);
    return rc;
}

/* ---- attributes and tags ---- */

struct patch {
    struct knowledge *knowledge;
    const struct collection *collection;
    struct document_row *row;
    struct id id;
    struct str attributes, tags; /* JSON; empty: as they are */
    struct arena *arena;
    enum document_state state; /* before */
    bool carry;                /* the chunks are to be changed here and now */
};

static enum rc patch_begin(void *arg, struct db_txn *txn, struct err *err)
{
    struct patch *patch = arg;
    const struct collection_row *collection = &patch->collection->row;
    struct document_row *row = patch->row;
    enum rc rc = document_row_get(txn, collection->project, collection->id, patch->id, patch->arena,
                                  row, err);
    if (rc != RC_OK)
        return rc;
    if (patch->attributes.n)
        row->attributes = patch->attributes;
    if (patch->tags.n)
        row->tags = patch->tags;
    row->updated_ns = db_txn_now_ns(txn);
    patch->state = row->state;
    patch->carry = row->state == DOCUMENT_READY && row->chunks > 0;
    if (patch->carry)
        row->state = DOCUMENT_EMBEDDING;
    return document_row_update(txn, row, err);
}

/* New content may have come meanwhile and even be in: then the chunks that were just written may
 * stand over newer ones, and the document is done again. */
static enum rc patch_end(void *arg, struct db_txn *txn, struct err *err)
{
    struct patch *patch = arg;
    const struct collection_row *collection = &patch->collection->row;
    struct document_row now;
    struct job_row job;
    enum rc rc = document_row_get(txn, collection->project, collection->id, patch->id, patch->arena,
                                  &now, err);
    if (rc != RC_OK)
        return rc;
    bool ours = now.state == DOCUMENT_EMBEDDING;
    now.state = ours ? patch->state : DOCUMENT_QUEUED;
    rc = document_row_update(txn, &now, err);
    if (rc == RC_OK && !ours)
        rc = knowledge_submit(patch->knowledge, txn, collection->project, collection->id,
                              STR("system"), patch->arena, &job, err);
    patch->row->state = now.state;
    return rc;
}

static enum rc patch_requeue(void *arg, struct db_txn *txn, struct err *err)
{
    struct patch *patch = arg;
    patch->state = DOCUMENT_QUEUED;
    return patch_end(patch, txn, err);
}

enum rc knowledge_patch_document(struct knowledge *knowledge, const struct collection *collection,
                                 struct id id, struct str attributes, struct str tags,
                                 struct arena *arena, struct document_row *out, struct err *err)
{
    struct patch patch = {.knowledge = knowledge,
                          .collection = collection,
                          .row = out,
                          .id = id,
                          .attributes = attributes,
                          .tags = tags,
                          .arena = arena};
    pthread_rwlock_wrlock(&knowledge->patch_lock);
    enum rc rc = db_write_wait(knowledge->db, patch_begin, &patch, err);
    if (rc == RC_OK && patch.carry) {
        rc = chunks_set_attributes(knowledge, collection, out, err);
        /* What failed half-way is done again from the file. */
        enum rc ended = db_write_wait(knowledge->db, rc == RC_OK ? patch_end : patch_requeue,
                                      &patch, rc == RC_OK ? err : NULL);
        rc = rc == RC_OK ? ended : rc;
    }
    pthread_rwlock_unlock(&knowledge->patch_lock);
    if (rc == RC_OK)
        knowledge_tell(knowledge, out);
    return rc;
}
