/* The rows of knowledge: collections' state, documents, uploaded files, batches of them. Their
 * meaning is src/knowledge's; here is only the SQL. A collection's definition is an object
 * (object.h, kind "collection"); its row has the same id and holds what is no definition. Texts
 * that are read live in the arena. */
#pragma once
#include "base/hash.h"
#include "store/db.h"

struct collection_row {
    struct id id, project;
    struct str name;
    int64_t generation;     /* of the index folder: counts rebuilds */
    int64_t built_version;  /* of the definition by which it was cut and encoded */
    int64_t expires_days;   /* after the last use; 0: never */
    struct str metadata;    /* JSON object, or empty: of vector stores */
    struct str vector_name; /* as OpenAI's clients named it, or empty */
    int64_t created_ns, used_ns;
};

enum rc collection_row_insert(struct db_txn *txn, const struct collection_row *row,
                              struct err *err) MUST_CHECK;
/* Generation, built version, expiry, metadata, vector_name. */
enum rc collection_row_update(struct db_txn *txn, const struct collection_row *row,
                              struct err *err) MUST_CHECK;
enum rc collection_row_touch(struct db_txn *txn, struct id collection, int64_t used_ns,
                             struct err *err) MUST_CHECK;
/* With its documents, batches and sources. */
enum rc collection_row_delete(struct db_txn *txn, struct id project, struct id collection,
                              struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. A zero project in the first: any (the server's own duties). */
enum rc collection_row_get(struct db_txn *txn, struct id project, struct id collection,
                           struct arena *arena, struct collection_row *out,
                           struct err *err) MUST_CHECK;
enum rc collection_row_find(struct db_txn *txn, struct id project, struct str name,
                            struct arena *arena, struct collection_row *out,
                            struct err *err) MUST_CHECK;
/* By id, newest first (`ascending`: oldest first), those after `after` (zero: from the start). */
enum rc collection_row_list(struct db_txn *txn, struct id project, struct id after, bool ascending,
                            size_t limit, struct arena *arena, struct collection_row **out,
                            size_t *count, struct err *err) MUST_CHECK;

/* The collection's judged questions, a JSON list; "[]" when there are none. */
enum rc question_set_get(struct db_txn *txn, struct id project, struct id collection,
                         struct arena *arena, struct str *out, struct err *err) MUST_CHECK;
enum rc question_set_put(struct db_txn *txn, struct id project, struct id collection,
                         struct str questions, struct err *err) MUST_CHECK;

#define DOCUMENT_STATES(STATE)                                                                     \
    STATE(QUEUED, "queued")                                                                        \
    STATE(PARSING, "parsing")                                                                      \
    STATE(CHUNKING, "chunking")                                                                    \
    STATE(EMBEDDING, "embedding")                                                                  \
    STATE(READY, "ready")                                                                          \
    STATE(NO_TEXT, "no_text")                                                                      \
    STATE(FAILED, "failed")                                                                        \
    STATE(CANCELLED, "cancelled")                                                                  \
    STATE(DELETING, "deleting") /* hidden: its chunks go first, then the row */

enum document_state {
#define STATE(name, text) DOCUMENT_##name,
    DOCUMENT_STATES(STATE)
#undef STATE
        DOCUMENT_STATE_COUNT
};

const char *document_state_name(enum document_state state);
enum rc document_state_parse(struct str s, enum document_state *out) MUST_CHECK;

struct document_row {
    struct id id, project, collection;
    struct str name, source, content_type; /* source: "upload", "text", or an address */
    uint8_t sha256[SHA256_BYTES];          /* of the file: its blob */
    uint8_t text_sha256[SHA256_BYTES];     /* of the extracted text: its blob */
    bool has_text;
    int64_t bytes;
    struct str format;
    enum document_state state;
    struct str error, error_code;
    int64_t chunks, tokens, pages, text_bytes;
    struct str attributes; /* JSON object */
    struct str tags;       /* JSON array of access tags */
    struct str chunking;   /* JSON object over the collection's, or empty */
    struct id file, batch; /* zero: none */
    int64_t created_ns, updated_ns;
};

enum rc document_row_insert(struct db_txn *txn, const struct document_row *row,
                            struct err *err) MUST_CHECK;
/* Everything but ids and created_ns. */
enum rc document_row_update(struct db_txn *txn, const struct document_row *row,
                            struct err *err) MUST_CHECK;
enum rc document_row_delete(struct db_txn *txn, struct id project, struct id document,
                            struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. */
enum rc document_row_get(struct db_txn *txn, struct id project, struct id collection,
                         struct id document, struct arena *arena, struct document_row *out,
                         struct err *err) MUST_CHECK;
/* The same of one that is being deleted, which all else hides. RC_NOT_FOUND without an error's
 * text.
 */
enum rc document_row_get_deleting(struct db_txn *txn, struct id project, struct id document,
                                  struct arena *arena, struct document_row *out,
                                  struct err *err) MUST_CHECK;
/* Of the collection's documents the one with this name, or, with `name` empty, this content.
 * RC_NOT_FOUND without an error's text. */
enum rc document_row_find(struct db_txn *txn, struct id collection, struct str name,
                          const uint8_t *sha256, struct arena *arena, struct document_row *out,
                          struct err *err) MUST_CHECK;
/* The document made of this file. RC_NOT_FOUND without an error's text. */
enum rc document_row_find_file(struct db_txn *txn, struct id collection, struct id file,
                               struct arena *arena, struct document_row *out,
                               struct err *err) MUST_CHECK;
/* The oldest queued one that `under_way` does not hold becomes `parsing`. RC_END: none waits. */
enum rc document_row_claim(struct db_txn *txn, struct id collection,
                           bool (*under_way)(void *arg, struct id document), void *arg,
                           struct arena *arena, struct document_row *out,
                           struct err *err) MUST_CHECK;
/* Those that a process left half-way are queued again. Deleting ones stay: document_row_list shows
 * them when `states` asks for nothing else. */
enum rc document_rows_recover(struct db_txn *txn, struct err *err) MUST_CHECK;
/* All in these states (bit set 1u << state) become `to`. */
enum rc document_rows_set_state(struct db_txn *txn, struct id collection, struct id batch,
                                unsigned states, enum document_state to,
                                struct err *err) MUST_CHECK;

/* All queued ones become `failed`, for this reason. */
enum rc document_rows_fail(struct db_txn *txn, struct id collection, struct str error_code,
                           struct str error, struct err *err) MUST_CHECK;

struct document_filter {
    struct id project, collection; /* collection zero: any */
    struct id batch, file;         /* zero: any */
    unsigned states;               /* 1u << state; 0: any */
    struct str search;             /* part of the name; empty: any */
    bool only_files;               /* made of an uploaded file */
    bool ascending;                /* oldest first */
};
/* Those after `after` (zero: from the start), in order of their making. */
enum rc document_row_list(struct db_txn *txn, const struct document_filter *filter, struct id after,
                          size_t limit, struct arena *arena, struct document_row **out,
                          size_t *count, struct err *err) MUST_CHECK;

struct document_counts {
    int64_t states[DOCUMENT_STATE_COUNT];
    int64_t bytes, chunks, tokens, total;
};
enum rc document_rows_count(struct db_txn *txn, const struct document_filter *filter,
                            struct document_counts *out, struct err *err) MUST_CHECK;
/* Collections that have documents waiting, with their projects: what a start takes up. */
struct waiting_collection {
    struct id project, collection;
};
enum rc document_rows_waiting(struct db_txn *txn, size_t limit, struct arena *arena,
                              struct waiting_collection **out, size_t *count,
                              struct err *err) MUST_CHECK;
/* Does any document or file still need this blob? */
enum rc blob_is_used(struct db_txn *txn, const uint8_t sha256[SHA256_BYTES], bool *used,
                     struct err *err) MUST_CHECK;

struct file_row {
    struct id id, project;
    struct str name, purpose, content_type;
    int64_t bytes;
    uint8_t sha256[SHA256_BYTES];
    int64_t created_ns, expires_ns; /* 0: never */
};

enum rc file_row_insert(struct db_txn *txn, const struct file_row *row, struct err *err) MUST_CHECK;
enum rc file_row_delete(struct db_txn *txn, struct id project, struct id file,
                        struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. */
enum rc file_row_get(struct db_txn *txn, struct id project, struct id file, struct arena *arena,
                     struct file_row *out, struct err *err) MUST_CHECK;
enum rc file_row_list(struct db_txn *txn, struct id project, struct str purpose, struct id after,
                      bool ascending, size_t limit, struct arena *arena, struct file_row **out,
                      size_t *count, struct err *err) MUST_CHECK;

/* Of all projects, what has expired before `now_ns`. */
enum rc collection_rows_expired(struct db_txn *txn, int64_t now_ns, size_t limit,
                                struct arena *arena, struct collection_row **out, size_t *count,
                                struct err *err) MUST_CHECK;
enum rc file_rows_expired(struct db_txn *txn, int64_t now_ns, size_t limit, struct arena *arena,
                          struct file_row **out, size_t *count, struct err *err) MUST_CHECK;

struct batch_row {
    struct id id, project, collection;
    bool cancelled;
    int64_t created_ns;
};

enum rc batch_row_insert(struct db_txn *txn, const struct batch_row *row,
                         struct err *err) MUST_CHECK;
enum rc batch_row_cancel(struct db_txn *txn, struct id batch, struct err *err) MUST_CHECK;
enum rc batch_row_get(struct db_txn *txn, struct id collection, struct id batch,
                      struct batch_row *out, struct err *err) MUST_CHECK;
