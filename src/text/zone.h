/* Time zones: the rules of an IANA zone from its TZif file (RFC 8536), and the footer's rule for
 * the times after the file's last entry. Only what turns instants into local times and back; names
 * of zones and leap seconds are left aside. Immutable once read; any thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

#define ZONE_FILE_BYTES_MAX  (256 * 1024)
#define ZONE_OFFSET_S_MAX    (26 * 3600)
#define ZONE_FOLDER          "/usr/share/zoneinfo"
#define ZONE_TRANSITIONS_MAX 4096

struct zone_rule_date { /* of a POSIX TZ text */
    enum { ZONE_MONTH_WEEK_DAY, ZONE_JULIAN, ZONE_DAY } kind;
    int month, week, day; /* day: of the week, or of the year */
    int32_t time_s;       /* local, may pass a day's bounds */
};

struct zone_rule {
    int32_t standard_s, summer_s; /* offsets from UTC, east is positive */
    bool has_summer;
    struct zone_rule_date begin, end; /* of summer time */
};

struct zone {
    size_t count; /* of transitions, in order */
    const int64_t *at_s;
    const int32_t *offset_s; /* from at_s[i] on */
    int32_t first_offset_s;  /* before the first */
    bool has_rule;
    struct zone_rule rule; /* after the last */
};

/* A TZif file's bytes. RC_INVALID: it is none, or one that is broken. */
enum rc zone_parse(struct str bytes, struct arena *arena, struct zone *out) MUST_CHECK;
/* "CET-1CEST,M3.5.0,M10.5.0/3" */
enum rc zone_rule_parse(struct str text, struct zone_rule *out) MUST_CHECK;
/* "Europe/Berlin", "UTC" from `folder` (NULL: the system's). Blocks. ERR_BAD_FIELD: there is none.
 */
enum rc zone_load(struct str name, const char *folder, struct arena *arena, struct zone *out,
                  struct err *err) MUST_CHECK;

/* Seconds to add to UTC at the instant. */
int32_t zone_offset_s(const struct zone *zone, int64_t utc_s);
/* The instant of a local time, given as seconds since 1970 as if it were UTC. Where clocks went
 * back and it came twice, the first; where they went forward and it never came, the instant of the
 * change. */
int64_t zone_from_local_s(const struct zone *zone, int64_t local_s);

/* The civil calendar, for what reads local times. Days since 1970-01-01; month 1…12, day 1…31. */
int64_t civil_days(int64_t year, int month, int day);
void civil_date(int64_t days, int64_t *year, int *month, int *day);
