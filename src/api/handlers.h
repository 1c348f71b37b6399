/* All management handlers, declared from the route table. */
#pragma once
#include "api/api.h"

#define API_ROUTE(method, pattern, permission, kind, handler) API_HANDLER_##kind(handler)
#define API_HANDLER_READ(handler)  enum rc handler(struct api_call *call);
#define API_HANDLER_WRITE(handler) enum rc handler(struct api_call *call);
#define API_HANDLER_WORK(handler)  enum rc handler(struct api_call *call);
/* On the loop: answers `request` itself, now or later; `call` lives until the request ends. */
#define API_HANDLER_LOOP(handler)  void handler(struct api_call *call, struct http_request *request);
#include "api/routes.h"
#undef API_ROUTE
#undef API_HANDLER_READ
#undef API_HANDLER_WRITE
#undef API_HANDLER_WORK
#undef API_HANDLER_LOOP
