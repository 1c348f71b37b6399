/* What functions a tool has, where somebody must be asked: an MCP server, whose list comes in
 * pages, or a pipeline, whose start declares its inputs. */
#include "pipeline/engine/loop_private.h"
#include "pipeline/tools/mcp_client.h"
#include "pipeline/tools/mcp_message.h"
#include "pipeline/tools/tool_call.h"
#include "text/json.h"
#include <stdlib.h>

#define LISTING_ARENA_BYTES (32 * 1024 * 1024)

struct tool_listing {
    struct pipeline_loop *loop;
    struct id project;
    const struct tool *tool;
    tool_listed *done; /* NULL: nobody wants it any more */
    void *arg;
    bool starting, came;
    struct mcp_request *request;
    struct arena arena; /* of the pages so far */
    struct tool_function *functions;
    size_t count;
    int pages;
};

/* A start's declared inputs as a JSON Schema. */
static struct str inputs_schema(const struct plan *plan, struct arena *arena)
{
    struct buf text;
    size_t i, n;
    yyjson_val *input;
    yyjson_val *inputs =
        plan->document->start == NO_NODE
            ? NULL
            : yyjson_obj_get(plan->document->nodes[plan->document->start].config, "inputs");
    buf_init(&text, 256 * 1024);
    struct json_writer w = json_writer_to(&text);
    json_append(&w, STR("{\"type\":\"object\",\"properties\":"));
    json_begin_object(&w);
    yyjson_arr_foreach(inputs, i, n, input)
    {
        struct str type = json_get_text(input, "type"), words = json_get_text(input, "description");
        bool plain = str_eq(type, STR("string")) || str_eq(type, STR("number")) ||
                     str_eq(type, STR("boolean")) || str_eq(type, STR("object")) ||
                     str_eq(type, STR("array"));
        json_key_str(&w, json_get_text(input, "name"));
        json_begin_object(&w);
        if (plain)
            json_put_string(&w, "type", type);
        if (words.n || json_get_text(input, "title").n)
            json_put_string(&w, "description", words.n ? words : json_get_text(input, "title"));
        json_end_object(&w);
    }
    json_end_object(&w);
    json_append(&w, STR(",\"required\":"));
    w.comma = false;
    json_begin_array(&w);
    yyjson_arr_foreach(inputs, i, n, input) if (json_get_bool(input, "required", false))
        json_string(&w, json_get_text(input, "name"));
    json_end_array(&w);
    json_append(&w, STR("}"));
    struct str out = w.rc == RC_OK ? arena_copy(arena, buf_str(&text)) : STR_EMPTY;
    buf_fini(&text);
    return out;
}

static void listing_end(struct tool_listing *listing, const struct tool_function *functions,
                        size_t count, const struct err *err)
{
    if (listing->done)
        listing->done(listing->arg, functions, count, err);
    arena_fini(&listing->arena);
    if (listing->starting)
        listing->came = true; /* tool_list frees it */
    else
        free(listing);
}

static void on_plan_listed(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct tool_listing *listing = arg;
    struct arena arena;
    arena_init(&arena, 1024 * 1024);
    UNUSED(version);
    if (err || !listing->done) { /* nobody waits: the tool may be gone, too */
        listing_end(listing, NULL, 0, err);
    } else {
        struct str words = json_get_text(plan->document->root, "description");
        const struct tool *tool = listing->tool;
        struct tool_function function = {.name = tool_function_name(tool->name, &arena),
                                         .description =
                                             tool->description.n ? tool->description : words,
                                         .parameters = inputs_schema(plan, &arena)};
        struct err full = {0};
        if (!function.name.p || !function.parameters.p)
            err_set(&full, ERR_TOO_LARGE, "the pipeline has too many inputs for a tool");
        listing_end(listing, &function, 1, full.code != ERR_NONE ? &full : NULL);
    }
    plan_unref(plan);
    arena_fini(&arena);
}

/* ---- an MCP server ---- */

static void ask_page(struct tool_listing *listing, struct str cursor);

/* Texts of a page go into the arena: the answer is valid during the call only. */
static enum rc keep_functions(struct tool_listing *listing, const struct tool_function *functions,
                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!tool_wants(listing->tool, functions[i].name))
            continue;
        if (listing->count == TOOL_FUNCTIONS_MAX)
            return RC_LIMIT;
        struct tool_function *out = &listing->functions[listing->count++];
        *out = functions[i];
        out->name = arena_copy(&listing->arena, functions[i].name);
        out->description = arena_copy(&listing->arena, functions[i].description);
        if (!out->name.p || !out->description.p)
            return RC_LIMIT;
    }
    return RC_OK;
}

static void on_page(void *arg, yyjson_val *result, const struct err *failure)
{
    struct tool_listing *listing = arg;
    struct tool_function *functions;
    struct str cursor;
    size_t count;
    struct err err = {0};
    listing->request = NULL;
    if (failure)
        err = *failure;
    else if (mcp_read_tools(result, &listing->arena, &functions, &count, &cursor, &err) == RC_OK &&
             keep_functions(listing, functions, count) != RC_OK)
        err_set(&err, ERR_TOO_LARGE, "the MCP server has more than %d tools: choose some of them",
                TOOL_FUNCTIONS_MAX);
    if (err.code == ERR_NONE && cursor.n && ++listing->pages < MCP_PAGES_MAX)
        ask_page(listing, cursor);
    else
        listing_end(listing, listing->functions, listing->count,
                    err.code != ERR_NONE ? &err : NULL);
}

static void ask_page(struct tool_listing *listing, struct str cursor)
{
    struct buf params;
    buf_init(&params, 64 * 1024);
    struct json_writer w = json_writer_to(&params);
    json_begin_object(&w);
    if (cursor.n)
        json_put_string(&w, "cursor", cursor);
    json_end_object(&w);
    struct err err = {0};
    listing->request = mcp_ask(listing->loop, listing->project, listing->tool, "tools/list",
                               buf_str(&params), on_page, listing, &err);
    buf_fini(&params);
    if (!listing->request)
        listing_end(listing, NULL, 0, &err);
}

struct tool_listing *tool_list(struct pipeline_loop *loop, struct id project,
                               const struct tool *tool, tool_listed *done, void *arg)
{
    struct tool_listing *listing = xcalloc(1, sizeof(*listing));
    *listing = (struct tool_listing){
        .loop = loop, .project = project, .tool = tool, .done = done, .arg = arg, .starting = true};
    arena_init(&listing->arena, LISTING_ARENA_BYTES);
    listing->functions = ARENA_NEW_ARRAY(&listing->arena, struct tool_function, TOOL_FUNCTIONS_MAX);
    ASSERT(listing->functions);
    if (tool->kind == TOOL_MCP)
        ask_page(listing, STR_EMPTY);
    else
        plan_find(loop, project, tool->pipeline, tool->selector, 0, on_plan_listed, listing);
    listing->starting = false;
    if (!listing->came)
        return listing;
    free(listing);
    return NULL;
}

void tool_listing_cancel(struct tool_listing *listing)
{
    listing->done = NULL;
    if (!listing->request)
        return; /* freed when the plan is found */
    mcp_cancel(listing->request);
    arena_fini(&listing->arena);
    free(listing);
}
