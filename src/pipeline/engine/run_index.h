/* The index of runs: one row for each run under way and for the latest that have ended, in memory,
 * rebuilt from the journal at start. Any thread; a short lock. */
#pragma once
#include "base/arena.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/run.h"

#define INDEX_ROWS_MAX 50000 /* ended runs that are kept */

struct run_index;

struct run_index_row {
    uint64_t seq; /* order of starting: the cursor of lists */
    struct run_head head;
    uint64_t location; /* of its END in the journal; 0: none, or not yet */
    struct str json;   /* run_index_get: its END while the journal has not written it */
    int loop;          /* where it is under way; -1: it has ended */
};

/* Something that somebody must answer. */
struct run_index_wait {
    struct id run, project;
    struct str pipeline, path; /* path: of the step */
    struct str kind;           /* "human", "input" */
    struct str detail;         /* JSON: what is shown */
    int64_t since_ns, due_ns;  /* wall clock; due 0: open end */
};

struct run_index *run_index_new(void);
void run_index_free(struct run_index *index);
void run_index_begin(struct run_index *index, const struct run_head *head, int loop,
                     uint64_t hold_seq);
void run_index_set_status(struct run_index *index, struct id run, enum run_status status);
/* The run has ended; a row that is not there is made. `json` is kept until it is located. */
void run_index_end(struct run_index *index, const struct run_head *head, struct str json);
/* Where the journal has its END; `seq` orders the files that may go. */
void run_index_locate(struct run_index *index, struct id run, uint64_t location, uint64_t seq);
/* Records before it are needed no more. */
uint64_t run_index_needed_seq(struct run_index *index, uint64_t next_seq);
/* RC_NOT_FOUND, also for another project's. Texts are copied into the arena. */
enum rc run_index_get(struct run_index *index, struct id project, struct id run,
                      struct arena *arena, struct run_index_row *out) MUST_CHECK;
/* Newest first, below `before` (0: from the newest); `pipeline` empty and status -1: any. */
void run_index_list(struct run_index *index, struct id project, struct str pipeline, int status,
                    uint64_t before, size_t limit, struct arena *arena, struct run_index_row **rows,
                    size_t *count);

void run_index_add_wait(struct run_index *index, const struct run_index_wait *wait);
void run_index_remove_waits(struct run_index *index, struct id run,
                            struct str path); /* empty: all */
void run_index_waits(struct run_index *index, struct id project, size_t limit, struct arena *arena,
                     struct run_index_wait **waits, size_t *count);
