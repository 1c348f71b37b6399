/* /api/tools: what agents and tool nodes may call, as configuration objects of the project. Asking
 * tools for their functions and trying them is in api_tool_calls.c. */
#include "api/objects.h"
#include "api/pipelines.h"
#include "pipeline/tools/mcp_client.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/tools/tool.h"
#include "text/json.h"

#define USES_MAX          200
#define ROWS_AT_ONCE      200
#define SCRATCH_BYTES_MAX (64 * 1024 * 1024)

/* In lists, without what may be megabytes; with what the tool gives, where that is known. */
static void put_summary(struct api_call *call, const struct object *object, yyjson_mut_val *o)
{
    struct snapshot *snapshot = snapshot_current();
    struct project *project = snapshot ? snapshot_project(snapshot, object->project) : NULL;
    const struct tool *tool = project ? map_get(&project->tools, object->name) : NULL;
    yyjson_mut_obj_remove_key(o, "document");
    yyjson_mut_val *status = yyjson_mut_obj_add_obj(call->doc, o, "status");
    api_put_str(call, status, "state", tool ? STR("ok") : STR("unusable"));
    if (tool && tool->function_count)
        yyjson_mut_obj_add_uint(call->doc, status, "functions", tool->function_count);
    else
        yyjson_mut_obj_add_null(call->doc, status, "functions");
}

enum rc api_tools_list(struct api_call *call)
{
    return api_objects_list(call, OBJECT_TOOL, put_summary);
}

enum rc api_tools_get(struct api_call *call)
{
    return api_objects_get(call, OBJECT_TOOL, call->params[0], NULL);
}

enum rc api_tools_create(struct api_call *call)
{
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = pipelines_check_name(call, json_get_text(call->body, "name"));
    return rc == RC_OK ? api_objects_create(call, OBJECT_TOOL) : rc;
}

enum rc api_tools_patch(struct api_call *call)
{
    return api_objects_patch(call, OBJECT_TOOL, call->params[0]);
}

enum rc api_tools_delete(struct api_call *call)
{
    return api_objects_delete(call, OBJECT_TOOL, call->params[0]);
}

/* The servers that the configuration file names: a tool may ask one of them by its name. */
enum rc api_mcp_servers_list(struct api_call *call)
{
    size_t count;
    const struct mcp_stdio_server *servers =
        pipelines_mcp_servers(call->services->pipelines, &count);
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        api_put_str(call, yyjson_mut_arr_add_obj(call->doc, items), "name", servers[i].name);
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

/* ---- where it is used ---- */

/* Nodes of types `tool` and `agent`, at any depth of containers, that name the tool. */
static bool names_tool(yyjson_val *definition, struct str name)
{
    size_t i, n, k, m;
    yyjson_val *node, *item;
    yyjson_arr_foreach(yyjson_obj_get(definition, "nodes"), i, n, node)
    {
        yyjson_val *config = yyjson_obj_get(node, "config");
        struct str type = json_get_text(node, "type");
        if (str_eq(type, STR("tool")) && str_eq(json_get_text(config, "tool"), name))
            return true;
        if (!str_eq(type, STR("agent")))
            continue;
        yyjson_arr_foreach(yyjson_obj_get(config, "tools"), k, m, item)
        {
            if (str_eq(json_get_text(item, "tool"), name))
                return true;
        }
    }
    return false;
}

struct use_search {
    struct api_call *call;
    struct str name, quoted;
    yyjson_mut_val *list;
};

static enum rc add_use(struct use_search *search, const char *where, struct str name,
                       struct str definition, struct err *err)
{
    struct api_call *call = search->call;
    struct arena scratch;
    yyjson_doc *doc;
    if (yyjson_mut_arr_size(search->list) >= USES_MAX || str_find(definition, search->quoted) < 0)
        return RC_OK;
    arena_init(&scratch, SCRATCH_BYTES_MAX);
    enum rc rc = json_read(definition, &scratch, &doc, err);
    if (rc == RC_OK && names_tool(yyjson_doc_get_root(doc), search->name)) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, search->list);
        yyjson_mut_obj_add_str(call->doc, o, "kind", "pipeline");
        api_put_str(call, o, "name", arena_copy(call->arena, name));
        yyjson_mut_obj_add_str(call->doc, o, "in", where);
    }
    arena_fini(&scratch);
    return rc;
}

static enum rc search_published(void *arg, const struct object *object, struct err *err)
{
    return add_use(arg, "published", object->name, object->spec, err);
}

static enum rc search_drafts(struct use_search *search, struct err *err)
{
    struct api_call *call = search->call;
    struct str after = STR_EMPTY;
    size_t count;
    enum rc rc;
    do {
        struct pipeline_row *rows;
        rc = pipeline_table_list(call->txn, call->principal->project, after, STR_EMPTY,
                                 ROWS_AT_ONCE, call->arena, &rows, &count, err);
        for (size_t i = 0; rc == RC_OK && i < count && i < ROWS_AT_ONCE; i++)
            rc = add_use(search, "draft", rows[i].name, rows[i].draft, err);
        after = rc == RC_OK && count > ROWS_AT_ONCE ? rows[ROWS_AT_ONCE - 1].name : STR_EMPTY;
    } while (after.n);
    return rc;
}

/* Pipelines whose draft or newest version names the tool. */
enum rc api_tools_use(struct api_call *call)
{
    struct object object;
    enum rc rc = object_get(call->txn, call->principal->project, OBJECT_TOOL, call->params[0],
                            call->arena, &object, &call->err);
    if (rc != RC_OK)
        return rc;
    struct use_search search = {
        .call = call,
        .name = object.name,
        .quoted = arena_printf(call->arena, "\"%.*s\"", STR_ARG(object.name)),
        .list = api_list_begin(call),
    };
    rc = search_drafts(&search, &call->err);
    if (rc == RC_OK)
        rc = object_each(call->txn, call->principal->project, OBJECT_PIPELINE, search_published,
                         &search, &call->err);
    api_list_end(call, STR_EMPTY);
    return rc;
}
