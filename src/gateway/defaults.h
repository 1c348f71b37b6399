/* What holds where a route says nothing. */
#pragma once
#include "base/clock.h"

#define DEFAULT_CONNECT_NS     (10 * NS_PER_S)
#define DEFAULT_FIRST_TOKEN_NS (60 * NS_PER_S)  /* streams: from asking to the first content */
#define DEFAULT_BETWEEN_NS     (60 * NS_PER_S)  /* between two pieces of a stream */
#define DEFAULT_TOTAL_NS       (600 * NS_PER_S) /* the whole call with all its attempts */
#define DEFAULT_PARK_AFTER_NS  NS_PER_S /* a stream flows so long, then its request is parked */
#define DEFAULT_RETRY          1
#define RETRY_BACKOFF_NS       (250 * NS_PER_MS) /* doubled each time, with jitter */
#define RETRY_BACKOFF_NS_MAX   (8 * NS_PER_S)
#define RETRY_AFTER_NS_MAX     (30 * NS_PER_S) /* a longer Retry-After is not waited for */
#define REFUSED_KEY_NS                                                                             \
    (60 * NS_PER_S) /* a provider's key that was refused is not tried again for */
/* Output tokens reserved for a call that does not say max_tokens. */
#define DEFAULT_OUTPUT_TOKENS 1024
/* Whole answers up to this size are sent in one piece, with their cost in a header. */
#define WHOLE_ANSWER_BYTES_MAX (1024 * 1024)
