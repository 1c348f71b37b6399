/* Every bound on what comes from outside, in one place. A bound that an administrator may change is
 * a default here and a setting in the configuration. */
#pragma once

#define LIMIT_HEADER_BYTES   (64 * 1024) /* request line and headers together */
#define LIMIT_HEADER_COUNT   128
#define LIMIT_TARGET_BYTES   (16 * 1024)          /* request target */
#define LIMIT_BODY_BYTES     (64ll * 1024 * 1024) /* a door's request body */
#define LIMIT_API_BODY_BYTES (8ll * 1024 * 1024)  /* a management request's body */
#define LIMIT_RESPONSE_BYTES                                                                       \
    (64ll * 1024 * 1024) /* a whole upstream answer that must be translated */
#define LIMIT_SSE_EVENT_BYTES (4 * 1024 * 1024) /* one server-sent event */
#define LIMIT_STALLED_BYTES   (64 * 1024)       /* held for a peer that does not read */
#define LIMIT_JSON_DEPTH      128
#define LIMIT_CAPTURE_BYTES   (1024 * 1024) /* of a request or response body kept in a record */
#define LIMIT_TAGS            32
#define LIMIT_TAG_BYTES       256
#define LIMIT_NAME_BYTES      128   /* names of routes, providers, keys, models */
#define LIMIT_CONNECTIONS     20000 /* per loop */
#define LIMIT_LIST_ITEMS      1000  /* one page of a list */
