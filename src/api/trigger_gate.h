/* What strangers' doors share: which trigger an address names, and how often it may be asked. */
#pragma once
#include "gateway/snapshot.h"
#include "pipeline/triggers/trigger.h"

/* By its id's text, when it is of that kind and not paused. ERR_NOT_FOUND. For this turn. */
enum rc trigger_find(struct str id, enum trigger_kind kind, const struct trigger **out,
                     struct err *err) MUST_CHECK;
/* Counts one request of this minute. ERR_RATE_LIMIT with the time to wait. Any thread. */
enum rc trigger_admit(const struct trigger *trigger, int64_t now_ns, struct err *err) MUST_CHECK;
