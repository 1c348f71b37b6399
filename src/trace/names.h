/* The words that the API uses for a call record's enumerations. */
#pragma once
#include "trace/call.h"

const char *call_door_name(enum call_door door);                /* "openai_chat", … */
const char *call_operation_name(enum call_operation operation); /* "chat", "embedding", … */
const char *call_cache_name(enum call_cache cache);             /* "off", "miss", "hit" */
const char *capture_name(enum capture capture);                 /* "full", … */
/* RC_INVALID for anything but full, metadata, none. */
enum rc capture_parse(struct str s, enum capture *out) MUST_CHECK;
