/* One call of a tool's function as the work of a step: it ends the step, with the outputs {"text",
 * "json"} (http: "status_code", too) or by failing. Calls that may have an effect are intents in
 * the journal before they are sent; one that was under way when the process stopped is repeated
 * only where that does no harm. On the run's loop. */
#pragma once
#include "pipeline/engine/run_private.h"
#include "pipeline/tools/tool.h"

struct snapshot;

struct tool_call_options {
    const struct tool *tool;
    struct snapshot *snapshot; /* that the tool lies in; NULL: in the plan. A reference is taken */
    const struct tool_function *function; /* NULL: of a server that checks for itself */
    struct str name;                      /* the function's, as the other side knows it */
    yyjson_val *arguments;                /* object or NULL; copied */
    bool safe;                            /* the other side says that it may be repeated */
};

/* Sets step->work, unless it fails at once. */
void tool_call_start(struct step *step, const struct tool_call_options *options);
void tool_call_cancel(struct step *step);
void tool_call_frame_ended(struct step *step, struct frame *frame, const struct err *err);

/* The project's tool of that name as it is now; NULL: err tells. The snapshot is referenced. */
const struct tool *tool_find(struct id project, struct str name, struct snapshot **snapshot,
                             struct err *err);

/* ---- functions that must be asked for: an MCP server's, a pipeline's ---- */

struct tool_listing;
typedef void tool_listed(void *arg, const struct tool_function *functions, size_t count,
                         const struct err *err);
/* `done` comes once, perhaps from within; the functions are valid during the call. NULL: it came.
 */
struct tool_listing *tool_list(struct pipeline_loop *loop, struct id project,
                               const struct tool *tool, tool_listed *done, void *arg);
void tool_listing_cancel(struct tool_listing *listing);
