/* The one table of management routes, from which dispatch, the permission check and the test of
 * docs/openapi.yaml are made. Included several times, so it has no guard.
 * API_ROUTE(method, pattern, permission or PUBLIC, kind, handler); a pattern's {…} is one segment. */
API_ROUTE(GET, "/api/calls", CALL_READ, WORK, api_calls_list)
API_ROUTE(GET, "/api/calls/stats", CALL_READ, WORK, api_calls_stats)
API_ROUTE(GET, "/api/calls/{id}", CALL_READ, WORK, api_calls_get)
API_ROUTE(DELETE, "/api/calls/{id}", CALL_DELETE, WORK, api_calls_delete)
API_ROUTE(GET, "/api/spend", CALL_READ, WORK, api_spend_list)
