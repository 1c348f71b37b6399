/* All management handlers, declared from the route table. */
#pragma once
#include "api/api.h"

#define API_HANDLER_READ(name)  enum rc name(struct api_call *call);
#define API_HANDLER_WRITE(name) enum rc name(struct api_call *call);
#define API_HANDLER_WORK(name)  enum rc name(struct api_call *call);
/* On the loop: answers `request` itself, now or later; `call` lives until the request ends. */
#define API_HANDLER_LOOP(name) void name(struct api_call *call, struct http_request *request);
/* clang-format off */
#define API_ROUTE(method, pattern, permission, kind, handler) API_HANDLER_##kind(handler)
/* clang-format on */
#include "api/routes.h"
#include "api/door_routes.h"
#include "api/trigger_routes.h"
#undef API_ROUTE
#undef API_HANDLER_READ
#undef API_HANDLER_WRITE
#undef API_HANDLER_WORK
#undef API_HANDLER_LOOP
