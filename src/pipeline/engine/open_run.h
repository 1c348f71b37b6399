/* Runs that an earlier process left open, as the journal tells them: gathered while it is read,
 * then handed to the loops that go on with them. */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "pipeline/engine/journal.h"
#include "pipeline/definition/value.h"

struct open_definition;

struct open_run {
    struct list node;
    struct run_head head; /* its texts lie in `start_bytes` */
    struct str start_bytes;
    struct value *start; /* the JSON of START */
    struct map *replay;  /* path → struct value */
    struct str spec;     /* the definition's text; empty: lost */
    uint64_t seq;        /* of its START */
};

#define OPEN_RUN_LOOPS_MAX 64

struct open_runs {
    struct list runs;                        /* in order of starting */
    struct list of_loop[OPEN_RUN_LOOPS_MAX]; /* the same after open_runs_split; each its loop's */
    struct map by_id;                        /* until then */
    struct map definitions;                  /* hash → struct open_definition */
};

void open_runs_init(struct open_runs *runs);
void open_runs_fini(struct open_runs *runs);
/* Any record but END. What cannot be read is passed over. */
void open_runs_add(struct open_runs *runs, const struct log_record *record);
void open_runs_end(struct open_runs *runs, struct id id);
void open_runs_split(struct open_runs *runs, int loops);
struct open_run *open_runs_take(struct open_runs *runs, int loop);
void replay_free(struct map *replay);
