/* Any bytes as a tool's definition (OpenAPI documents inside), as what an MCP server answers, as a
 * web page, and as a model's text of the ReAct form: read or refused, within bounds. */
#include "pipeline/nodes/agent.h"
#include "pipeline/tools/mcp_message.h"
#include "pipeline/tools/page_text.h"
#include "text/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_make((const char *)data, size), name, text, cursor;
    struct jsonrpc_message message;
    struct tool_function *functions;
    struct tool *tool;
    struct arena arena;
    yyjson_doc *doc;
    yyjson_val *json;
    size_t count;
    bool is_error;
    arena_init(&arena, 64 * 1024 * 1024);
    if (yaml_read(input, &arena, NULL, &doc, NULL) == RC_OK &&
        tool_decode(STR("fuzz"), yyjson_doc_get_root(doc), &arena, &tool, NULL) == RC_OK)
        for (size_t i = 0; i < tool->function_count; i++)
            ASSERT(tool->functions[i].name.n && tool->functions[i].parameters.n);
    if (jsonrpc_read(input, &arena, &message, NULL) == RC_OK && message.kind == JSONRPC_RESULT) {
        if (mcp_read_tools(message.result, &arena, &functions, &count, &cursor, NULL) == RC_OK)
            for (size_t i = 0; i < count; i++)
                ASSERT(functions[i].name.n && functions[i].parameters.n);
        (void)!mcp_read_result(message.result, &arena, &text, &json, &is_error, NULL);
    }
    text = page_text(input, STR("text/html"), &arena);
    ASSERT(text.n <= 2 * size);
    ASSERT(agent_react_final(input) <= (ssize_t)size);
    if (agent_react_action(input, &name, &text))
        ASSERT(name.n + text.n <= size);
    arena_fini(&arena);
    return 0;
}
