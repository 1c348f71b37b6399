/* Recorded runs as tests: a definition is run again on what models, services, code and people said
 * then, and must come to the same end. Nothing leaves the process; no database, no server. */
#pragma once
#include "pipeline/definition/plan.h"

struct replay_result {
    bool same;
    yyjson_val *got;  /* {"status", "text", "outputs", "error"} of the run now */
    struct str about; /* what differs, a line each; in the arena */
};

/* A recording: {"name", "inputs", "status", "text", "outputs", "nodes": [{"path", "status", "port",
 * "outputs"}]}. ERR_BAD_FIELD: the definition cannot be run, or not with these inputs. Blocks; the
 * calling thread has no loop. */
enum rc replay_recording(struct str definition, yyjson_val *recording, struct arena *arena,
                         struct replay_result *out, struct err *err) MUST_CHECK;
/* What a recording keeps of a run as GET /api/runs/ID shows it; NULL: the arena is full. */
yyjson_val *replay_record(yyjson_val *run, struct str name, struct arena *arena);
