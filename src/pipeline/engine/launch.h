/* Starting a run by a pipeline's name, for everything that is no caller of the run interface:
 * hooks, schedules, tools. What the run needs is copied, so the starter may forget it at once. On a
 * loop. */
#pragma once
#include "pipeline/engine/pipeline.h"

struct launch_request {
    struct str pipeline;
    struct str selector; /* a version's number or a label; empty: as plan_find chooses */
    const char *trigger; /* a name that run_trigger knows */
    const struct principal *principal;
    struct str session, user, query;
    yyjson_val *inputs; /* object or NULL */
    struct trace_context trace;
    struct id id;  /* of the run; zero: a new one */
    bool recorded; /* survives the process from its start */
    struct run_owner owner;
};

struct launch;
/* Told on the loop, once, perhaps from within launch_start. `run` NULL: err says why not. */
typedef void launch_told(void *arg, struct run *run, const struct err *err);

/* NULL: told already. */
struct launch *launch_start(struct pipeline_loop *loop, const struct launch_request *request,
                            launch_told *told, void *arg);
/* Before it was told: nothing is started and nothing told. */
void launch_cancel(struct launch *launch);

/* The key that a principal came by, while the snapshot has it; NULL: none. For this turn. */
const struct key *launch_find_key(const struct principal *principal);
/* The answer of an ended run: its text, or else its only text output, or its outputs as JSON. */
struct str run_answer_text(const struct run *run, struct arena *arena);
/* The same from the JSON that run_encode_result writes. */
struct str run_json_answer(yyjson_val *run, struct arena *arena);
