/* Cron expressions in a time zone. Five fields (minute, hour, day of the month, month, day of the
 * week) with lists, ranges, steps and names; `L` is the month's last day; @hourly, @daily, @weekly,
 * @monthly, @yearly. Where both days are restricted, either will do, as in cron(8).
 *
 * When clocks change: an expression that names hours fires at most once for each local time, and
 * where that time was skipped, at the change. One that holds for every hour (its hour is * or a
 * step of it) goes by elapsed time: it fires in both of two equal hours, and not for skipped ones.
 */
#pragma once
#include "base/err.h"
#include "text/zone.h"

struct cron {
    uint64_t minutes; /* a bit each */
    uint32_t hours, days, months;
    uint8_t weekdays; /* bit 0: Sunday */
    bool any_day, any_weekday, last_day;
    bool every_hour;
};

/* ERR_BAD_FIELD, field "cron". */
enum rc cron_parse(struct str text, struct cron *out, struct err *err) MUST_CHECK;
/* The first time after `after_s`, or INT64_MAX: within nine years there is none. */
int64_t cron_next_s(const struct cron *cron, const struct zone *zone, int64_t after_s);
