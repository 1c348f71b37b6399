/* See cron.h. */
#include "text/cron.h"

#define DAYS_MAX (9 * 366) /* February 29 comes after eight years at the latest */
#define DAY_S    86400

/* ---- reading ---- */

struct field {
    const char *name;
    int min, max;
    const char *words; /* of three letters, from `min` on */
};

static const struct field fields[] = {
    {"minute", 0, 59, ""},
    {"hour", 0, 23, ""},
    {"day of the month", 1, 31, ""},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
    {"day of the week", 0, 7, "sunmontuewedthufrisat"},
};

static bool read_value(const struct field *field, struct str text, int *out)
{
    uint64_t value;
    struct str words = str_from(field->words);
    if (str_to_u64(text, &value) == RC_OK) {
        *out = (int)MIN(value, 1000u);
        return *out >= field->min && *out <= field->max;
    }
    for (size_t i = 0; text.n == 3 && i < words.n; i += 3)
        if (str_eq_nocase(text, str_slice(words, i, i + 3))) {
            *out = field->min + (int)(i / 3);
            return true;
        }
    return false;
}

/* "*", "a", "a-b", each with "/step". */
static bool read_part(const struct field *field, struct str part, uint64_t *bits)
{
    struct str range = part;
    uint64_t step = 1;
    int low = field->min, high = field->max;
    ssize_t slash = str_find_char(part, '/');
    if (slash >= 0) {
        range = str_slice(part, 0, (size_t)slash);
        if (str_to_u64(str_slice(part, (size_t)slash + 1, part.n), &step) != RC_OK || step == 0 ||
            step > 59)
            return false;
    }
    ssize_t dash = str_find_char(range, '-');
    if (!str_eq(range, STR("*")) && !str_eq(range, STR("?"))) {
        struct str first = dash < 0 ? range : str_slice(range, 0, (size_t)dash);
        if (!read_value(field, first, &low))
            return false;
        if (dash >= 0 && !read_value(field, str_slice(range, (size_t)dash + 1, range.n), &high))
            return false;
        if (dash < 0 && slash < 0)
            high = low;
    }
    for (int i = low; i <= high; i += (int)step)
        *bits |= 1ull << i;
    return low <= high;
}

static bool read_field(const struct field *field, struct str text, uint64_t *bits)
{
    struct str part;
    *bits = 0;
    if (text.n == 0 || text.p[text.n - 1] == ',')
        return false;
    while (str_split(&text, ',', &part))
        if (!read_part(field, part, bits))
            return false;
    return true;
}

static struct str expand(struct str text)
{
    static const struct {
        const char *name, *fields;
    } names[] = {{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
                 {"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
                 {"@annually", "0 0 1 1 *"}};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq_nocase(text, str_from(names[i].name)))
            return str_from(names[i].fields);
    return text;
}

static bool is_any(struct str text) { return text.n > 0 && (text.p[0] == '*' || text.p[0] == '?'); }

static bool next_word(struct str *rest, struct str *word)
{
    *rest = str_trim(*rest);
    size_t n = 0;
    while (n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t')
        n++;
    *word = str_slice(*rest, 0, n);
    *rest = str_slice(*rest, n, rest->n);
    return n > 0;
}

static enum rc fail(struct err *err, const char *message)
{
    return err_set_field(err, ERR_BAD_FIELD, "cron", "%s", message);
}

enum rc cron_parse(struct str text, struct cron *out, struct err *err)
{
    struct str words[COUNT_OF(fields)], rest = expand(str_trim(text)), more;
    uint64_t bits[COUNT_OF(fields)];
    *out = (struct cron){0};
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (!next_word(&rest, &words[i]))
            return fail(err, "A schedule has five fields: minute, hour, day of the month, month, "
                             "day of the week; or it is @hourly, @daily, @weekly, @monthly, "
                             "@yearly.");
    if (next_word(&rest, &more))
        return fail(err, "A schedule has five fields, without seconds and years.");
    out->last_day = str_eq_nocase(words[2], STR("L"));
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        bits[i] = 0;
        if (i == 2 && out->last_day)
            continue;
        if (!read_field(&fields[i], words[i], &bits[i]))
            return err_set_field(err, ERR_BAD_FIELD, "cron",
                                 "'%.*s' is no %s (%d to %d, lists a,b, ranges a-b, steps */n).",
                                 STR_ARG(words[i]), fields[i].name, fields[i].min, fields[i].max);
    }
    out->minutes = bits[0];
    out->hours = (uint32_t)bits[1];
    out->days = (uint32_t)bits[2];
    out->months = (uint32_t)bits[3];
    out->weekdays = (uint8_t)((bits[4] | bits[4] >> 7) & 0x7f); /* 7 is Sunday, too */
    out->any_day = is_any(words[2]);
    out->any_weekday = is_any(words[4]);
    out->every_hour = is_any(words[1]);
    const struct zone utc = {0};
    if (cron_next_s(out, &utc, 0) == INT64_MAX)
        return fail(err, "This day never comes.");
    return RC_OK;
}

/* ---- the next time ---- */

static bool day_matches(const struct cron *cron, int64_t days)
{
    int64_t year;
    int month, day, next_month, next_day;
    civil_date(days, &year, &month, &day);
    if (!(cron->months >> month & 1))
        return false;
    int64_t other;
    civil_date(days + 1, &other, &next_month, &next_day);
    int64_t weekday = (days + 4) % 7;
    bool by_weekday = cron->weekdays >> (weekday < 0 ? weekday + 7 : weekday) & 1;
    bool by_day = cron->last_day ? next_day == 1 : cron->days >> day & 1;
    return cron->any_day || cron->any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

/* Named hours: each local time once. */
static int64_t next_on_day(const struct cron *cron, const struct zone *zone, int64_t days,
                           int64_t after_s)
{
    for (int hour = 0; hour < 24; hour++)
        for (int minute = 0; cron->hours >> hour & 1 && minute < 60; minute++) {
            if (!(cron->minutes >> minute & 1))
                continue;
            int64_t at = zone_from_local_s(zone, days * DAY_S + hour * 3600 + minute * 60);
            if (at > after_s)
                return at;
        }
    return INT64_MAX;
}

/* Any hour: by elapsed time, through the instants at which that local day is in force. */
static int64_t next_in_day(const struct cron *cron, const struct zone *zone, int64_t days,
                           int64_t after_s)
{
    int64_t begin = zone_from_local_s(zone, days * DAY_S),
            end = zone_from_local_s(zone, (days + 1) * DAY_S);
    int64_t at = MAX(begin, after_s - after_s % 60 + 60);
    for (at = at + (60 - at % 60) % 60; at < end; at += 60) {
        int64_t local = at + zone_offset_s(zone, at) - days * DAY_S;
        if (local >= 0 && local < DAY_S && cron->hours >> (local / 3600) & 1 &&
            cron->minutes >> (local / 60 % 60) & 1)
            return at;
    }
    return INT64_MAX;
}

int64_t cron_next_s(const struct cron *cron, const struct zone *zone, int64_t after_s)
{
    int64_t today = (after_s + zone_offset_s(zone, after_s)) / DAY_S - 1;
    for (int64_t days = today; days < today + DAYS_MAX; days++) {
        if (!day_matches(cron, days))
            continue;
        int64_t at = cron->every_hour ? next_in_day(cron, zone, days, after_s)
                                      : next_on_day(cron, zone, days, after_s);
        if (at != INT64_MAX)
            return at;
    }
    return INT64_MAX;
}
