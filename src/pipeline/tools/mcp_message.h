/* What an MCP server answers, read into tools and results (modelcontextprotocol.io, schema of
 * 2025-11-25; older and newer ones differ in what is passed over here). Pure, any thread; the input
 * is somebody else's. */
#pragma once
#include "pipeline/tools/tool.h"
#include "text/jsonrpc.h"

/* The result of tools/list. `cursor` empty: there are no more. Functions lie in the arena, their
 * texts in it or in `result`; what cannot be called is left out. */
enum rc mcp_read_tools(yyjson_val *result, struct arena *arena, struct tool_function **out,
                       size_t *count, struct str *cursor, struct err *err) MUST_CHECK;
/* The result of tools/call: the words of its content, and `structuredContent` (or NULL). */
enum rc mcp_read_result(yyjson_val *result, struct arena *arena, struct str *text,
                        yyjson_val **json, bool *is_error, struct err *err) MUST_CHECK;
