/* Doors through which others start pipelines. They check who asks themselves and answer in shapes
 * of their own, so they stand neither in routes.h nor in docs/openapi.yaml: docs/triggers.md
 * describes them. Included several times, so it has no guard. */
API_ROUTE(POST, "/hook/{endpoint}/catch/{channel}", PUBLIC, LOOP, door_hook)
API_ROUTE(POST, "/webhook/{id}", PUBLIC, LOOP, door_webhook)
API_ROUTE(POST, "/mcp", PUBLIC, LOOP, door_mcp)
API_ROUTE(GET, "/mcp", PUBLIC, LOOP, door_mcp_refuse)
API_ROUTE(DELETE, "/mcp", PUBLIC, LOOP, door_mcp_refuse)
