/* See mcp_message.h. */
#include "pipeline/tools/mcp_message.h"
#include "base/buf.h"

#define TEXT_BYTES_MAX (8 * 1024 * 1024)

static enum rc refuse(struct err *err, const char *what)
{
    return err_set(err, ERR_UPSTREAM_PROTOCOL, "the MCP server's answer cannot be understood: %s",
                   what);
}

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the MCP server's answer is too large");
}

enum rc mcp_read_tools(yyjson_val *result, struct arena *arena, struct tool_function **out,
                       size_t *count, struct str *cursor, struct err *err)
{
    yyjson_val *list = yyjson_obj_get(result, "tools"), *item;
    size_t i, n;
    *count = 0;
    *cursor = json_get_text(result, "nextCursor");
    if (!yyjson_is_arr(list))
        return refuse(err, "it has no list of tools");
    *out = ARENA_NEW_ARRAY(arena, struct tool_function, yyjson_arr_size(list) + 1);
    if (!*out)
        return full(err);
    yyjson_arr_foreach(list, i, n, item)
    {
        struct tool_function *function = &(*out)[*count];
        yyjson_val *schema = yyjson_obj_get(item, "inputSchema"),
                   *hints = yyjson_obj_get(item, "annotations");
        function->name = json_get_text(item, "name");
        function->description = json_get_text(item, "description");
        if (!function->description.n)
            function->description = json_get_text(item, "title");
        function->safe = json_get_bool(hints, "readOnlyHint", false) ||
                         json_get_bool(hints, "idempotentHint", false);
        if (!function->name.n || !yyjson_is_obj(schema))
            continue;
        function->parameters = json_write(schema, arena);
        if (!function->parameters.p)
            return full(err);
        ++*count;
    }
    return RC_OK;
}

/* The words of one block; what is no text is named. */
static enum rc put_block(struct buf *text, yyjson_val *block)
{
    struct str type = json_get_text(block, "type"), words = json_get_text(block, "text");
    yyjson_val *resource = yyjson_obj_get(block, "resource");
    if (str_eq(type, STR("resource")))
        words = json_get_text(resource, "text");
    else if (str_eq(type, STR("resource_link")))
        words = json_get_text(block, "uri");
    if (buf_len(text) && buf_append(text, STR("\n")) != RC_OK)
        return RC_LIMIT;
    return words.n ? buf_append(text, words) : buf_printf(text, "[%.*s]", STR_ARG(type));
}

enum rc mcp_read_result(yyjson_val *result, struct arena *arena, struct str *text,
                        yyjson_val **json, bool *is_error, struct err *err)
{
    yyjson_val *content = yyjson_obj_get(result, "content"), *block;
    struct buf words;
    size_t i, n;
    enum rc rc = RC_OK;
    if (!yyjson_is_arr(content))
        return refuse(err, "it has no content");
    buf_init(&words, TEXT_BYTES_MAX);
    yyjson_arr_foreach(content, i, n, block) if (rc == RC_OK) rc = put_block(&words, block);
    *text = rc == RC_OK ? arena_copy(arena, buf_str(&words)) : STR_EMPTY;
    buf_fini(&words);
    *json = yyjson_obj_get(result, "structuredContent");
    *is_error = json_get_bool(result, "isError", false);
    return rc == RC_OK && text->p ? RC_OK : full(err);
}
