/* The rows of a collection's sources: where documents come from by themselves, and what was found
 * there. Their meaning is knowledge/source.h's; here is only the SQL. Texts that are read live in
 * the arena. */
#pragma once
#include "store/db.h"

struct source_row {
    struct id id, project, collection;
    struct str name, kind;
    struct str definition;     /* JSON; secrets in it are sealed */
    int64_t every_ns, next_ns; /* 0: by hand only */
    int64_t sync;              /* number of the sync under way, else of the last */
    bool syncing;              /* under way, or cut off by the end of a process */
    bool removing;             /* the next sync deletes its documents, then the row */
    struct id job;             /* of that sync; zero: there was none yet */
    struct str cursor;         /* what the last complete sync saw: a commit */
    struct str error;          /* why the last sync failed; empty: it did not */
    int64_t added, changed, unchanged, deleted, failed; /* by that sync */
    int64_t started_ns, finished_ns, created_ns, updated_ns;
    struct str author;
};

enum rc source_row_insert(struct db_txn *txn, const struct source_row *row,
                          struct err *err) MUST_CHECK;
/* What management changes: definition, schedule, job. RC_CONFLICT: the name is taken. */
enum rc source_row_update(struct db_txn *txn, const struct source_row *row,
                          struct err *err) MUST_CHECK;
/* What a sync changes: its number, state, counts, times, cursor, error. */
enum rc source_row_progress(struct db_txn *txn, const struct source_row *row,
                            struct err *err) MUST_CHECK;
/* With its items. */
enum rc source_row_delete(struct db_txn *txn, struct id project, struct id source,
                          struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. A zero project: any (the server's own duties); a zero collection: any. */
enum rc source_row_get(struct db_txn *txn, struct id project, struct id collection,
                       struct id source, struct arena *arena, struct source_row *out,
                       struct err *err) MUST_CHECK;
/* RC_NOT_FOUND without an error's text. */
enum rc source_row_find(struct db_txn *txn, struct id project, struct id collection,
                        struct str name, struct arena *arena, struct source_row *out,
                        struct err *err) MUST_CHECK;
/* Of a collection, oldest first. */
enum rc source_row_list(struct db_txn *txn, struct id project, struct id collection,
                        struct id after, size_t limit, struct arena *arena, struct source_row **out,
                        size_t *count, struct err *err) MUST_CHECK;
/* Those of all projects whose time has come, the longest waiting first. */
enum rc source_row_due(struct db_txn *txn, int64_t now_ns, size_t limit, struct arena *arena,
                       struct source_row **out, size_t *count, struct err *err) MUST_CHECK;

#define SOURCE_ITEM_STATES(STATE)                                                                  \
    STATE(OK, "ok")                                                                                \
    STATE(AGAIN, "again") /* its document went to another item: to be fetched again */             \
    STATE(FAILED, "failed")

enum source_item_state {
#define STATE(name, text) SOURCE_ITEM_##name,
    SOURCE_ITEM_STATES(STATE)
#undef STATE
        SOURCE_ITEM_STATE_COUNT
};

const char *source_item_state_name(enum source_item_state state);
enum rc source_item_state_parse(struct str s, enum source_item_state *out) MUST_CHECK;

struct source_item_row {
    struct str key;            /* an address, or a path below the source's root */
    struct id document;        /* zero: none yet */
    struct str etag, modified; /* as the source told them; empty: it did not */
    int64_t sync;              /* the last in which it was there */
    enum source_item_state state;
    struct str error;
    int64_t bytes, updated_ns;
};

/* Inserts it or replaces it. */
enum rc source_item_put(struct db_txn *txn, struct id project, struct id source,
                        const struct source_item_row *item, struct err *err) MUST_CHECK;
/* It was there in this sync, unchanged. */
enum rc source_item_seen(struct db_txn *txn, struct id source, struct str key, int64_t sync,
                         struct err *err) MUST_CHECK;
enum rc source_item_delete(struct db_txn *txn, struct id source, struct str key,
                           struct err *err) MUST_CHECK;
/* Items other than `key` that stand for this document are to be fetched again. */
enum rc source_items_again(struct db_txn *txn, struct id source, struct id document, struct str key,
                           struct err *err) MUST_CHECK;
/* By key; `states`: bit set 1u << state, 0: any; keys after `after`. */
enum rc source_item_list(struct db_txn *txn, struct id project, struct id source, unsigned states,
                         struct str after, size_t limit, struct arena *arena,
                         struct source_item_row **out, size_t *count, struct err *err) MUST_CHECK;
