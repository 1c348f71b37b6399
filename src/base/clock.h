/* Time behind an interface: int64 nanoseconds. Wall time is UTC and goes to disk; durations and
 * deadlines come from the monotonic clock. Loops have a cached copy of both (io/loop.h), which a
 * simulation replaces. */
#pragma once
#include "base/str.h"

#define NS_PER_US  1000LL
#define NS_PER_MS  1000000LL
#define NS_PER_S   1000000000LL
#define NS_PER_DAY (86400LL * NS_PER_S)

int64_t clock_wall_ns(void);      /* nanoseconds since 1970, UTC */
int64_t clock_monotonic_ns(void); /* from an arbitrary start */
int64_t clock_thread_cpu_ns(void);
/* For tests and simulation: from now on this process's clocks answer what `fn` says; NULL restores.
 */
void clock_override(int64_t (*wall)(void *), int64_t (*monotonic)(void *), void *arg);

#define CLOCK_ISO_BYTES_MAX 32
/* "2026-11-23T16:32:05.123456Z" with 0, 3, 6 or 9 fraction digits; returns the length. */
size_t clock_format_iso(int64_t wall_ns, int fraction_digits, char out[CLOCK_ISO_BYTES_MAX]);
/* RFC 3339 with offset, or a date alone (midnight UTC). */
enum rc clock_parse_iso(struct str s, int64_t *wall_ns) MUST_CHECK;
/* "20s", "1m30s", "500ms", "5m", "2h", "30d"; a bare number is seconds. */
enum rc clock_parse_duration(struct str s, int64_t *ns) MUST_CHECK;
