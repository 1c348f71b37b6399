/* Errors of the management interface and of everything that is no door. */
#pragma once
#include "http/server.h"

/* {"error": {"code", "message", "field", "request_id"}} with the code's status, Retry-After where
 * known. */
void api_respond_problem(struct http_request *request, const struct err *err);
