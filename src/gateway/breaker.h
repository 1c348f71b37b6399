/* What loops know together about targets and providers' keys: whether a target is worth asking (a
 * circuit breaker with half-open probes), how fast it answers, and which key has to cool down.
 * Arrays of atomics indexed by slot (slots.h); any loop, no locks. Times are monotonic nanoseconds.
 *
 * A target opens after BREAKER_FAILURES_IN_ROW failures in a row, or when at least half of at least
 * BREAKER_SAMPLES calls within BREAKER_WINDOW_NS, counted from the first failure, failed. Open, it
 * is not asked for BREAKER_OPEN_NS, twice as long each time up to BREAKER_OPEN_NS_MAX; then one
 * call may probe it: success closes it, failure opens it again. A probe that tells nothing within
 * BREAKER_PROBE_NS (its client left) frees the place for another. */
#pragma once
#include "base/base.h"
#include "base/clock.h"

#define BREAKER_FAILURES_IN_ROW 5
#define BREAKER_SAMPLES         20
#define BREAKER_WINDOW_NS       (10 * NS_PER_S)
#define BREAKER_OPEN_NS         (2 * NS_PER_S)
#define BREAKER_OPEN_NS_MAX     (60 * NS_PER_S)
#define BREAKER_PROBE_NS        (30 * NS_PER_S)

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

/* May this target be asked now? Takes the probe's place when it is half open, so each true must be
 * followed by breaker_report or breaker_forget. */
bool breaker_admit(uint32_t slot, int64_t now_ns);
/* How an admitted attempt ended. `failed`: the target's fault (no connection, 5xx, timeout, broken
 * answer); a 4xx is none. `first_token_ns`: from asking to the first content, for least-latency; <=
 * 0: unknown. */
void breaker_report(uint32_t slot, int64_t now_ns, bool failed, int64_t first_token_ns);
/* The attempt was given up and tells nothing about the target. */
void breaker_forget(uint32_t slot);
/* Without taking a place. */
enum breaker_state breaker_peek(uint32_t slot, int64_t now_ns);
/* When it will let a call through; `now_ns` when it does already. */
int64_t breaker_retry_at_ns(uint32_t slot, int64_t now_ns);
/* Moving average of the time to first content; 0: never seen. */
int64_t breaker_latency_ns(uint32_t slot);
void breaker_reset_all(void); /* tests */

/* Cool-downs of providers' keys (429, 401, 403): the later end wins. */
#define COOLDOWN_NS_MAX (300 * NS_PER_S)
void cooldown_start(uint32_t slot, int64_t now_ns, int64_t duration_ns);
int64_t cooldown_until_ns(uint32_t slot); /* in the past: usable */
