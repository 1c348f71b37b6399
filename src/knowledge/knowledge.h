/* Knowledge: collections of documents, split into chunks that are found and quoted. One `struct
 * knowledge` for the process; it opens indexes, keeps documents going through their states, and
 * answers searches.
 *
 *   upload → blob + document row (queued) → job "knowledge_add": extract, chunk, embed, index
 *
 * The rows of documents are the durable queue: a job takes them one by one, so what a killed
 * process left is taken up by the next. Chunks are rows of the collection's index, with ids that
 * follow from the document's, so doing a document twice changes nothing.
 *
 * All functions block and are for workers, but where it says so. */
#pragma once
#include "io/worker.h"
#include "job/job.h"
#include "knowledge/collection.h"
#include "store/blob.h"
#include "store/knowledge_table.h"
#include "store/object.h"

struct knowledge;
struct http_client;
struct gateway_loop;

struct knowledge_options {
    struct loop *loop; /* the jobs' */
    struct worker_pool *workers;
    struct db *db;
    struct jobs *jobs;
    struct event_bus *events;
    struct encoders *encoders; /* NULL: words only */
    const char *index_folder, *blob_folder;
    const char *work_folder; /* for what syncs fetch in between; NULL: such sources fail */
    /* Globs of HOST:PORT that sources may reach although they are not public; folders below which
     * directory sources may read. They outlive the service. */
    const struct str *allowed_hosts, *source_directories;
    size_t allowed_host_count, source_directory_count;
};

/* Registers its kinds of jobs: before jobs_begin. */
enum rc knowledge_new(const struct knowledge_options *options, struct knowledge **out,
                      struct err *err) MUST_CHECK;
/* How documents that are taken in reach models and services: of the jobs' loop. Before jobs_begin;
 * without it such documents fail. */
void knowledge_attach(struct knowledge *knowledge, struct http_client *client,
                      struct gateway_loop *gateway);
/* Takes up what an earlier process left half-way; once, before jobs_begin. */
enum rc knowledge_recover(struct knowledge *knowledge, struct err *err) MUST_CHECK;
/* On the jobs' loop: no more maintenance is begun, running ingestion ends soon. */
void knowledge_stop(struct knowledge *knowledge);
/* After knowledge_stop, before the database is closed: waits for the threads of syncs. Blocks. */
void knowledge_join(struct knowledge *knowledge);
/* For another process that takes over, after knowledge_stop: waits for those who use an index, and
 * closes them all. Blocks; from then on ERR_OVERLOADED. */
void knowledge_release(struct knowledge *knowledge);
void knowledge_free(struct knowledge *knowledge); /* workers have ended */

/* Can the default encoder be opened? Found out once a while. */
bool knowledge_encoder_ready(struct knowledge *knowledge);
/* Does the collection want an encoder that is not on this machine? Its documents wait for it. */
bool knowledge_encoder_missing(struct knowledge *knowledge, const struct collection_spec *spec);
/* The open job that fetches it; RC_NOT_FOUND without an error's text. */
enum rc knowledge_find_fetch(struct db_txn *txn, struct id project, struct str encoder,
                             struct arena *arena, struct job_row *job, struct err *err) MUST_CHECK;
struct blob_store *knowledge_blobs(struct knowledge *knowledge);
struct encoders *knowledge_encoders(struct knowledge *knowledge);
struct db *knowledge_db(struct knowledge *knowledge);
struct worker_pool *knowledge_workers(struct knowledge *knowledge);

/* ---- uploaded files ---- */

/* Their ids are `file-…`, as OpenAI's clients expect. */
size_t file_id_format(struct id id, char out[ID_TEXT_BYTES_MAX]);
enum rc file_id_parse(struct str s, struct id *out) MUST_CHECK;

struct knowledge_file {
    struct str name, content_type; /* in the arena */
    char path[BLOB_PATH_BYTES_MAX];
};
/* Where one lies, for a reader. ERR_NOT_FOUND. */
enum rc knowledge_file_find(struct knowledge *knowledge, struct id project, struct str id,
                            struct arena *arena, struct knowledge_file *out,
                            struct err *err) MUST_CHECK;

/* ---- collections ---- */

/* A collection with its definition; texts live in the arena. */
struct collection {
    struct collection_row row;
    struct collection_spec spec;
    struct object object;
    bool stale; /* the definition says something else than what the index was built by; what chunks
                   and vectors depend on is as it was built */
};

/* ERR_NOT_FOUND. Any transaction. */
enum rc collection_find(struct db_txn *txn, struct id project, struct str name, struct arena *arena,
                        struct collection *out, struct err *err) MUST_CHECK;
enum rc collection_get(struct db_txn *txn, struct id project, struct id id, struct arena *arena,
                       struct collection *out, struct err *err) MUST_CHECK;
/* The same by a read transaction of its own. */
enum rc knowledge_find(struct knowledge *knowledge, struct id project, struct str name,
                       struct arena *arena, struct collection *out, struct err *err) MUST_CHECK;

/* Write transactions. `body`: the API's form of a definition; ERR_CONFLICT when the name is taken.
 */
enum rc collection_create(struct db_txn *txn, const struct actor *actor, struct id project,
                          struct str name, yyjson_val *body, struct str vector_name,
                          struct arena *arena, struct collection *out, struct err *err) MUST_CHECK;
/* Merges a patch (RFC 7396). *rebuild: chunking or encoder changed, so the index is stale until
 * knowledge_rebuild has been through. */
enum rc collection_patch(struct db_txn *txn, const struct actor *actor, struct id project,
                         struct str name, yyjson_val *patch, struct arena *arena,
                         struct collection *out, bool *rebuild, struct err *err) MUST_CHECK;
/* The rows; then knowledge_forget takes the files away. */
enum rc collection_delete(struct db_txn *txn, const struct actor *actor, struct id project,
                          struct str name, struct arena *arena, struct collection *out,
                          struct err *err) MUST_CHECK;
void knowledge_forget(struct knowledge *knowledge, struct id collection);
/* The whole of it: rows, index, blobs. ERR_NOT_FOUND, ERR_FILE_OWNED. */
enum rc knowledge_delete_collection(struct knowledge *knowledge, const struct actor *actor,
                                    struct id project, struct str name, struct arena *arena,
                                    struct err *err) MUST_CHECK;
/* A file of /v1/files, with the documents made of it. */
enum rc knowledge_delete_file(struct knowledge *knowledge, const struct file_row *row,
                              struct arena *arena, struct err *err) MUST_CHECK;

/* ---- the index of a collection ---- */

/* Opened, or made when it is not there yet (which needs the encoder, for its dimension). Each get
 * needs a put. */
enum rc knowledge_index_get(struct knowledge *knowledge, const struct collection *collection,
                            struct index **out, struct err *err) MUST_CHECK;
void knowledge_index_put(struct knowledge *knowledge, struct index *index);
/* It was written to: maintenance looks at it soon. */
void knowledge_index_changed(struct knowledge *knowledge, struct index *index);

/* ---- documents ---- */

struct document_new {
    struct str name, source, content_type;
    struct str content; /* the file; or `blob`, when it is stored already */
    const struct blob_id *blob;
    int64_t bytes;               /* with `blob` */
    struct str attributes, tags; /* JSON or empty */
    struct str chunking;         /* JSON or empty */
    struct id file, batch;       /* zero: none */
    struct str author;
};

/* Stores the content and queues the document; a job that will do it is in *job. One of the same
 * name gets the new content; the same content again (whatever its name) changes nothing:
 * *duplicate. With `file`, files stand for themselves. */
enum rc knowledge_add(struct knowledge *knowledge, const struct collection *collection,
                      const struct document_new *document, struct arena *arena,
                      struct document_row *out, struct job_row *job, bool *duplicate,
                      struct err *err) MUST_CHECK;
/* Inside a write transaction: a job does what is queued. */
enum rc knowledge_submit(struct knowledge *knowledge, struct db_txn *txn, struct id project,
                         struct id collection, struct str author, struct arena *arena,
                         struct job_row *job, struct err *err) MUST_CHECK;
/* Queued again: all documents of the collection in these states. */
enum rc knowledge_requeue(struct knowledge *knowledge, const struct collection *collection,
                          struct id document, unsigned states, struct str author,
                          struct arena *arena, struct job_row *job, struct err *err) MUST_CHECK;
/* All documents cut and encoded as the definition says now, into an index beside the one in force,
 * which takes over when it is complete. ERR_CONFLICT: nothing to do. */
enum rc knowledge_rebuild(struct knowledge *knowledge, const struct collection *collection,
                          struct str author, struct arena *arena, struct job_row *job,
                          struct err *err) MUST_CHECK;
/* Settings of the search tried on the collection's accepted questions; `cuts`: also chunk sizes,
 * overlap and stemming, each of which needs an index of its own beside. The job's result says what
 * was tried, which did best and the patch that makes the collection so; nothing is changed. */
enum rc knowledge_tune(struct knowledge *knowledge, const struct collection *collection, bool cuts,
                       struct str author, struct arena *arena, struct job_row *job,
                       struct err *err) MUST_CHECK;
/* Attributes and access tags (JSON; empty: as they are) of a document and all its chunks: filters
 * see them at the answer, or, while the document is being taken in, when it is ready. *out: as it
 * is then, texts in the arena. ERR_NOT_FOUND. */
enum rc knowledge_patch_document(struct knowledge *knowledge, const struct collection *collection,
                                 struct id id, struct str attributes, struct str tags,
                                 struct arena *arena, struct document_row *out,
                                 struct err *err) MUST_CHECK;
/* Found no more from the answer on, whatever happens. */
enum rc knowledge_delete_document(struct knowledge *knowledge, const struct collection *collection,
                                  const struct document_row *row, struct err *err) MUST_CHECK;
/* A blob that nothing needs any more goes; called after a row that named it is gone. */
void knowledge_drop_blob(struct knowledge *knowledge, const uint8_t sha256[SHA256_BYTES]);
/* Stores a file of /v1/files. */
enum rc knowledge_add_file(struct knowledge *knowledge, struct file_row *row, struct str content,
                           struct err *err) MUST_CHECK;
/* A document's state as an event. */
void knowledge_tell(struct knowledge *knowledge, const struct document_row *row);

/* ---- chunks ---- */

#define CHUNK_ID_BYTES_MAX ID_TEXT_BYTES_MAX
/* "chunk_…": follows from the document's id and the ordinal (from 0). */
size_t chunk_id_format(struct id document, size_t ordinal, char out[CHUNK_ID_BYTES_MAX]);
/* Encodes texts as chunks of the collection are encoded; count × dimension floats in the arena;
 * *vectors NULL when the collection has no encoder. */
enum rc knowledge_encode(struct knowledge *knowledge, const struct collection *collection,
                         const struct str *texts, size_t count, bool query, struct arena *arena,
                         float **vectors, unsigned *dimension, struct err *err) MUST_CHECK;

/* Members of a chunk's payload that are ours begin with '_'; all others are attributes. */
#define PAYLOAD_DOCUMENT  "_document"
#define PAYLOAD_NAME      "_name"
#define PAYLOAD_ORDINAL   "_ordinal"
#define PAYLOAD_PAGE      "_page"
#define PAYLOAD_PAGE_LAST "_page_last"
#define PAYLOAD_BEGIN     "_begin"
#define PAYLOAD_END       "_end"
#define PAYLOAD_CONTEXT   "_context"
#define PAYLOAD_RECTS     "_rects"
#define PAYLOAD_EDITED    "_edited"
