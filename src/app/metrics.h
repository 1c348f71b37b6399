/* GET /metrics: everything that is counted, in Prometheus' text format. */
#pragma once
#include "app/loops.h"

/* True when the path is /metrics: it was answered. Needs a key with server.read, unless the request
 * comes from the machine itself. */
bool metrics_handle(struct api_services *services, struct loops *loops,
                    struct http_request *request);
