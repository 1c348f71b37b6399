/* Waiting for the end of a run that may be anywhere: on another loop, or ended long ago and in the
 * journal only. It looks at the index of runs now and then, which is cheap, and holds nothing of
 * the run. On a loop. */
#pragma once
#include "io/worker.h"
#include "pipeline/engine/pipeline.h"

struct await;
enum await_end {
    AWAIT_ENDED, /* `json`: the run, as run_encode tells it; valid during the call */
    AWAIT_OPEN,  /* it goes on */
    AWAIT_GONE,  /* there is no such run in the project, or its record is lost */
};
typedef void await_told(void *arg, enum await_end end, struct str json);

/* Told later, once. `wait_ns`: how long to wait for its end. `grace_ns`: how long a run that is not
 * known may still come (it is being started). */
struct await *await_run(struct pipelines *pipelines, struct loop *loop, struct worker_pool *workers,
                        struct id project, struct id run, int64_t wait_ns, int64_t grace_ns,
                        await_told *told, void *arg);
/* Nothing is told any more. */
void await_cancel(struct await *await);
