/* What is said about answers: scores of calls, runs, traces and sessions, by people and by
 * programs. They are rows of their own, joined by id; what they are about may be gone. */
#pragma once
#include "store/db.h"

struct score_row {
    struct id project, id;
    struct str key;         /* the sayer's: said again, it replaces; empty: the id */
    struct str target;      /* "call", "run", "trace", "session" */
    struct str target_id;   /* call_…, run_…, 32 hex digits, a session */
    struct str observation; /* a part of the trace, or empty */
    struct str name;        /* "feedback" */
    struct str type;        /* "boolean", "numeric", "categorical", "text" */
    bool has_value;
    double value;
    struct str text;                    /* a category, or the answer as it should have been */
    struct str comment, source, author; /* source: "api", "console", "langfuse" */
    int64_t created_ns, updated_ns;
};

/* Made, or said anew by its key: then id and time of the first stay, and row->id is that id. */
enum rc score_table_put(struct db_txn *txn, struct score_row *row, struct arena *arena,
                        struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND. By id or key. */
enum rc score_table_get(struct db_txn *txn, struct id project, struct str key, struct arena *arena,
                        struct score_row *out, struct err *err) MUST_CHECK;
enum rc score_table_delete(struct db_txn *txn, struct id project, struct str key, bool *deleted,
                           struct err *err) MUST_CHECK;

struct score_filter {
    struct str target_id, other_id; /* either; both empty: any */
    struct str name;                /* empty: any */
    int64_t before_ns;              /* made before; 0: from the newest */
};
/* Newest first; one more than `limit` when there are more. */
enum rc score_table_list(struct db_txn *txn, struct id project, const struct score_filter *filter,
                         size_t limit, struct arena *arena, struct score_row **out, size_t *count,
                         struct err *err) MUST_CHECK;
