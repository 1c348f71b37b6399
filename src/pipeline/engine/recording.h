/* What the nodes of an earlier run put out, for another run to use instead of doing it again:
 *
 *   retry    the run from its failed nodes on: everything that was done stands
 *   fork     the same from a chosen node on, perhaps with other outputs of nodes before it
 *   replay   a test: what came from outside (models, services, tools, code, people) is taken from
 *            the recording, everything else is computed, and nothing leaves the process
 *
 * A recording is made from a run as GET /api/runs/ID shows it. It is given to run_start
 * (run_request.replay), with run_request.offline for a replay: a node that would go outside and has
 * no answer in the recording fails the run. A map from the step's path ("each#3/ask") to
 * {"p", "out", "port"} or {"p", "err": {"code", "message"}}, as the journal has results. */
#pragma once
#include "base/map.h"
#include "pipeline/definition/plan.h"

struct recording_options {
    bool replay;        /* false: all that was done stands */
    struct str from;    /* path of the step that is done again, with all behind it; empty: none */
    yyjson_val *values; /* {node id: its outputs}, put in place of the recorded ones; or NULL */
};

/* `run`: the whole run as JSON. ERR_BAD_FIELD (`from`, `values`): the plan has no such node. The
 * map goes to a run, which frees it, or to recording_free. */
enum rc recording_read(const struct plan *plan, yyjson_val *run,
                       const struct recording_options *options, struct map **out,
                       struct err *err) MUST_CHECK;
void recording_free(struct map *recording); /* NULL passes */
