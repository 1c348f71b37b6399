/* What the files of this folder share of a loop's and of the process's pipelines. */
#pragma once
#include "base/slab.h"
#include "pipeline/engine/gate.h"
#include "pipeline/engine/run_private.h"
#include "pipeline/engine/session.h"
#include <pthread.h>

#define PIPELINE_RUNS_MAX   200000 /* under way on one loop */
#define PIPELINE_STEPS_MAX  400000 /* the same of steps */
#define PIPELINE_LOOPS_MAX  64
#define SCRATCH_BYTES_MAX   (64 * 1024 * 1024)
#define EVENT_WINDOW_EVENTS 512 /* of a run that is watched */
#define EVENT_WINDOW_BYTES  (256 * 1024)

struct code_pool;
struct run_index;
struct plan_cache;

struct pipelines {
    struct pipelines_options options;
    struct pipeline_loop *loops[PIPELINE_LOOPS_MAX];
    int loop_count;
    struct journal *journal; /* NULL: runs are not recorded */
    struct run_index *index; /* what runs there are and were */
    struct plan_cache *plans;
    struct gate *gate;
    struct sessions *sessions;
    struct code_pool *code;
};

struct pipeline_loop {
    struct pipelines *all;
    struct loop *loop;
    struct http_client *client;
    struct gateway_loop *gateway;
    struct list runs;
    struct map by_id; /* the same by id */
    struct slab steps;
    struct arena scratch;    /* emptied after each step */
    struct map mcp_sessions; /* by address and headers → struct mcp_session (mcp_client.h) */
    struct task take_up_task;
};

/* ---- engine, for the journal ---- */
struct run_identity {
    struct id id;
    int64_t started_wall_ns;
    struct value *start;
};
/* A run that an earlier process left; `replay` becomes the run's. */
struct run *run_take_up(struct pipeline_loop *loop, const struct run_request *request,
                        const struct run_identity *identity, struct map *replay);
/* The static text of a trigger's name. */
const char *run_trigger(struct str name);
/* Frees it where it is, without its end: the process stops. */
void run_abandon(struct run *run);
/* It goes on in another process: ends here without an end in the journal. */
void run_hand_over(struct run *run);
void run_begin(struct run *run);
void run_ended(struct run *run);
void run_start_on_failure(struct run *run); /* run_failure.c */

/* ---- events ---- */
void run_tell_start(struct run *run);
void run_tell_end(struct run *run);
void run_events_close(struct run *run);
