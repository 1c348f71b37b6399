/* The tool node: one call of one function of a tool, with arguments from expressions. */
#include "gateway/snapshot.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/tools/tool_call.h"
#include "text/json.h"

struct tool_config {
    struct str name, function;
    struct tool *inline_tool; /* NULL: by name */
    struct assignments arguments;
};

static enum rc tool_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config,
               *definition = yyjson_obj_get(json, "definition");
    struct arena *arena = &build->plan->arena;
    struct tool_config *config = build->node->config = ARENA_NEW(arena, struct tool_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->name = json_get_text(json, "tool");
    config->function = json_get_text(json, "function");
    if (definition && !config->name.n) {
        enum rc rc = tool_decode(build->node->id, definition, arena, &config->inline_tool, err);
        if (rc != RC_OK)
            return rc;
    }
    if (!config->name.n && !config->inline_tool)
        return err_set_field(err, ERR_MISSING_FIELD, "tool", "choose a tool");
    return assignments_compile(build, yyjson_obj_get(json, "arguments"), &config->arguments, err);
}

static void tool_run(struct step *step)
{
    const struct tool_config *config = step->plan->config;
    struct snapshot *snapshot = NULL;
    struct err err = {0};
    struct maker maker;
    const struct tool *tool = config->inline_tool ? config->inline_tool
                                                  : tool_find(step->run->principal.project,
                                                              config->name, &snapshot, &err);
    const struct tool_function *function = tool ? tool_find_function(tool, config->function) : NULL;
    if (tool && tool->function_count && !function)
        err_set(&err, ERR_NOT_FOUND, "the tool has no function '%.*s'", STR_ARG(config->function));
    maker_init(&maker, &step->run->loop->scratch);
    maker_object(&maker);
    if (err.code == ERR_NONE &&
        assignments_put(step->frame, &config->arguments, &maker, &err) == RC_OK) {
        maker_end(&maker);
        tool_call_start(
            step, &(struct tool_call_options){.tool = tool,
                                              .snapshot = snapshot,
                                              .function = function,
                                              .name = function ? function->name : config->function,
                                              .arguments = maker_take(&maker)});
    }
    if (snapshot)
        snapshot_unref(snapshot);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
}

const struct node_operations tool_operations = {.compile = tool_compile,
                                                .run = tool_run,
                                                .cancel = tool_call_cancel,
                                                .frame_ended = tool_call_frame_ended,
                                                .recorded = true};
