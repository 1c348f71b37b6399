/* A client of MCP servers (modelcontextprotocol.io): over streamable HTTP by URL, through the
 * connector, or over the standard streams of a child that the configuration file names. A session
 * (initialize, its id and version) is kept for each server of a project and loop, and begun anew
 * when the server has forgotten it. On the loop.
 *
 * Bounded: answers by FETCH_BODY_BYTES_MAX, a loop's sessions by MCP_SESSIONS_MAX (an idle one
 * makes room), a session's requests by MCP_REQUESTS_MAX, each by its deadline. What a server asks
 * of us (sampling, elicitation, roots) is refused; pings are answered.
 */
#pragma once
#include "pipeline/tools/tool.h"
#include "text/json_writer.h"

struct pipeline_loop;
struct mcp_request;

#define MCP_SESSIONS_MAX 256  /* of one loop */
#define MCP_REQUESTS_MAX 1000 /* of one session, under way */
#define MCP_PAGES_MAX    10   /* of a list of tools */

/* A server that runs as a child; from the configuration file only. */
struct mcp_stdio_server {
    struct str name;
    const char *const *argv, *const *envp; /* NULL ends them */
};

/* `result` is valid during the call; err NULL: well. Once, later, never from within. */
typedef void mcp_answered(void *arg, yyjson_val *result, const struct err *err);
/* `params`: a JSON object as text. `tool`: kind TOOL_MCP; read during the call only. NULL: err
 * tells, and `done` does not come. */
struct mcp_request *mcp_ask(struct pipeline_loop *loop, struct id project, const struct tool *tool,
                            const char *method, struct str params, mcp_answered *done, void *arg,
                            struct err *err);
/* `done` does not come any more; the server is told. */
void mcp_cancel(struct mcp_request *request);
void mcp_sessions_free(struct pipeline_loop *loop);
