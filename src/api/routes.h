/* The one table of management routes, from which dispatch, the permission check and the test of
 * docs/openapi.yaml are made. Included several times, so it has no guard.
 * API_ROUTE(method, pattern, permission or PUBLIC, kind, handler); a pattern's {…} is one segment. */
API_ROUTE(GET, "/api/calls", CALL_READ, WORK, api_calls_list)
API_ROUTE(GET, "/api/calls/stats", CALL_READ, WORK, api_calls_stats)
API_ROUTE(GET, "/api/calls/{id}", CALL_READ, WORK, api_calls_get)
API_ROUTE(DELETE, "/api/calls/{id}", CALL_DELETE, WORK, api_calls_delete)
API_ROUTE(GET, "/api/spend", CALL_READ, WORK, api_spend_list)
API_ROUTE(GET, "/api/jobs", JOB_READ, READ, api_jobs_list)
API_ROUTE(GET, "/api/jobs/{id}", JOB_READ, READ, api_jobs_get)
API_ROUTE(POST, "/api/jobs/{id}/cancel", JOB_WRITE, WRITE, api_jobs_cancel)
API_ROUTE(GET, "/api/events", CALL_READ, LOOP, api_events)
