/* See zone.h. Calendar arithmetic counts years from March, so that the leap day is a year's last.
 */
#include "text/zone.h"
#include <stdio.h>

#define DAY_S       86400
#define HEADER_SIZE 44

/* ---- the calendar ---- */

static int64_t divide_down(int64_t a, int64_t b) { return a / b - (a % b < 0); }

int64_t civil_days(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = divide_down(year, 400), year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

void civil_date(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = divide_down(days, 146097), day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

static bool is_leap(int64_t year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

/* ---- POSIX TZ texts ---- */

static bool eat(struct str *rest, char c)
{
    if (rest->n == 0 || rest->p[0] != c)
        return false;
    *rest = str_slice(*rest, 1, rest->n);
    return true;
}

static bool read_number(struct str *rest, int max, int *out)
{
    int value = 0;
    size_t n = 0;
    for (; n < rest->n && rest->p[n] >= '0' && rest->p[n] <= '9'; n++) {
        value = value * 10 + (rest->p[n] - '0');
        if (value > max)
            return false;
    }
    *out = value;
    *rest = str_slice(*rest, n, rest->n);
    return n > 0;
}

/* Letters, or anything between < and >. */
static bool skip_name(struct str *rest)
{
    size_t n = 0;
    if (eat(rest, '<')) {
        ssize_t end = str_find_char(*rest, '>');
        if (end < 1)
            return false;
        *rest = str_slice(*rest, (size_t)end + 1, rest->n);
        return true;
    }
    while (n < rest->n && ((rest->p[n] | 0x20) >= 'a' && (rest->p[n] | 0x20) <= 'z'))
        n++;
    *rest = str_slice(*rest, n, rest->n);
    return n >= 3;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(struct str *rest, int hours_max, int32_t *out)
{
    int hours, minutes = 0, seconds = 0;
    bool negative = eat(rest, '-');
    if (!negative)
        eat(rest, '+');
    if (!read_number(rest, hours_max, &hours))
        return false;
    if (eat(rest, ':') && !read_number(rest, 59, &minutes))
        return false;
    if (eat(rest, ':') && !read_number(rest, 59, &seconds))
        return false;
    *out = (hours * 60 + minutes) * 60 + seconds;
    if (negative)
        *out = -*out;
    return true;
}

static bool read_date(struct str *rest, struct zone_rule_date *out)
{
    *out = (struct zone_rule_date){.time_s = 2 * 3600};
    if (eat(rest, 'M')) {
        out->kind = ZONE_MONTH_WEEK_DAY;
        if (!read_number(rest, 12, &out->month) || !eat(rest, '.') ||
            !read_number(rest, 5, &out->week) || !eat(rest, '.') ||
            !read_number(rest, 6, &out->day) || out->month < 1 || out->week < 1)
            return false;
    } else {
        out->kind = eat(rest, 'J') ? ZONE_JULIAN : ZONE_DAY;
        if (!read_number(rest, 365, &out->day) || (out->kind == ZONE_JULIAN && out->day < 1))
            return false;
    }
    return !eat(rest, '/') || read_time(rest, 167, &out->time_s);
}

enum rc zone_rule_parse(struct str text, struct zone_rule *out)
{
    int32_t west;
    *out = (struct zone_rule){0};
    if (!skip_name(&text) || !read_time(&text, 24, &west))
        return RC_INVALID;
    out->standard_s = -west;
    if (text.n == 0)
        return RC_OK;
    out->has_summer = true;
    if (!skip_name(&text))
        return RC_INVALID;
    out->summer_s = out->standard_s + 3600;
    if (text.n && text.p[0] != ',') {
        if (!read_time(&text, 24, &west))
            return RC_INVALID;
        out->summer_s = -west;
    }
    if (!eat(&text, ',') || !read_date(&text, &out->begin) || !eat(&text, ',') ||
        !read_date(&text, &out->end) || text.n)
        return RC_INVALID;
    return RC_OK;
}

/* Local seconds at which the date of that year begins, by the clock in force before. */
static int64_t rule_local_s(const struct zone_rule_date *date, int64_t year)
{
    int64_t days = civil_days(year, 1, 1);
    if (date->kind == ZONE_JULIAN) /* February 29 is never counted */
        days += date->day - 1 + (is_leap(year) && date->day >= 60);
    else if (date->kind == ZONE_DAY)
        days += date->day;
    else {
        int64_t first = civil_days(year, date->month, 1);
        int64_t next =
            date->month == 12 ? civil_days(year + 1, 1, 1) : civil_days(year, date->month + 1, 1);
        int weekday = (int)((first + 4) % 7); /* 1970-01-01 was a Thursday */
        if (weekday < 0)
            weekday += 7;
        days = first + (date->day - weekday + 7) % 7 + 7 * (date->week - 1);
        while (days >= next)
            days -= 7;
    }
    return days * DAY_S + date->time_s;
}

static int32_t rule_offset_s(const struct zone_rule *rule, int64_t utc_s)
{
    int64_t year;
    int month, day;
    if (!rule->has_summer)
        return rule->standard_s;
    civil_date(divide_down(utc_s + rule->standard_s, DAY_S), &year, &month, &day);
    int64_t begin = rule_local_s(&rule->begin, year) - rule->standard_s;
    int64_t end = rule_local_s(&rule->end, year) - rule->summer_s;
    bool summer = begin < end ? utc_s >= begin && utc_s < end : utc_s >= begin || utc_s < end;
    return summer ? rule->summer_s : rule->standard_s;
}

/* ---- TZif ---- */

struct tzif_header {
    char version;
    uint32_t is_ut, is_standard, leaps, transitions, types, name_bytes;
};

static uint64_t read_big(const char *p, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | (unsigned char)p[i];
    return value;
}

static bool read_header(struct str *rest, struct tzif_header *out)
{
    if (rest->n < HEADER_SIZE || memcmp(rest->p, "TZif", 4) != 0)
        return false;
    uint32_t *counts[] = {&out->is_ut,       &out->is_standard, &out->leaps,
                          &out->transitions, &out->types,       &out->name_bytes};
    out->version = rest->p[4];
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        *counts[i] = (uint32_t)read_big(rest->p + 20 + 4 * i, 4);
        if (*counts[i] > ZONE_TRANSITIONS_MAX)
            return false;
    }
    *rest = str_slice(*rest, HEADER_SIZE, rest->n);
    return true;
}

static size_t block_bytes(const struct tzif_header *header, size_t time_bytes)
{
    return header->transitions * (time_bytes + 1) + header->types * 6 + header->name_bytes +
           header->leaps * (time_bytes + 4) + header->is_standard + header->is_ut;
}

/* Types are six bytes: offset, summer time, name. */
static bool read_offset(struct str types, size_t index, int32_t *out)
{
    if (index >= types.n / 6)
        return false;
    *out = (int32_t)(uint32_t)read_big(types.p + 6 * index, 4);
    return *out >= -ZONE_OFFSET_S_MAX && *out <= ZONE_OFFSET_S_MAX;
}

static enum rc read_block(struct str block, const struct tzif_header *header, struct arena *arena,
                          struct zone *out)
{
    size_t count = header->transitions;
    int64_t *at = ARENA_NEW_ARRAY(arena, int64_t, count + 1);
    int32_t *offsets = ARENA_NEW_ARRAY(arena, int32_t, count + 1);
    struct str types = str_slice(block, count * 9, count * 9 + header->types * 6);
    if (!at || !offsets)
        return RC_LIMIT;
    if (!read_offset(types, 0, &out->first_offset_s))
        return RC_INVALID;
    for (size_t i = 0; i < count; i++) {
        at[i] = (int64_t)read_big(block.p + 8 * i, 8);
        if ((i && at[i] <= at[i - 1]) ||
            !read_offset(types, (unsigned char)block.p[8 * count + i], &offsets[i]))
            return RC_INVALID;
    }
    out->count = count;
    out->at_s = at;
    out->offset_s = offsets;
    return RC_OK;
}

enum rc zone_parse(struct str bytes, struct arena *arena, struct zone *out)
{
    struct tzif_header header;
    *out = (struct zone){0};
    if (!read_header(&bytes, &header) || header.version < '2' || bytes.n < block_bytes(&header, 4))
        return RC_INVALID;
    bytes = str_slice(bytes, block_bytes(&header, 4), bytes.n); /* the 32-bit block */
    if (!read_header(&bytes, &header) || bytes.n < block_bytes(&header, 8))
        return RC_INVALID;
    size_t n = block_bytes(&header, 8);
    enum rc rc = read_block(str_slice(bytes, 0, n), &header, arena, out);
    struct str footer = str_slice(bytes, n, bytes.n);
    if (rc != RC_OK || footer.n < 2 || footer.p[0] != '\n')
        return rc == RC_OK ? RC_INVALID : rc;
    footer = str_slice(footer, 1, footer.n);
    ssize_t end = str_find_char(footer, '\n');
    if (end < 0)
        return RC_INVALID;
    out->has_rule = end > 0;
    return end ? zone_rule_parse(str_slice(footer, 0, (size_t)end), &out->rule) : RC_OK;
}

/* Names are paths below the folder: nothing in them may lead out of it. */
static bool is_name(struct str name)
{
    bool good = name.n > 0 && name.n < 64 && name.p[0] != '/';
    for (size_t i = 0; good && i < name.n; i++) {
        char c = name.p[i], lower = (char)(c | 0x20);
        good = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
               c == '+' || (c == '/' && i + 1 < name.n);
    }
    return good;
}

enum rc zone_load(struct str name, const char *folder, struct arena *arena, struct zone *out,
                  struct err *err)
{
    char path[512];
    *out = (struct zone){0};
    if (name.n == 0 || str_eq(name, STR("UTC")))
        return RC_OK;
    snprintf(path, sizeof(path), "%s/%.*s", folder ? folder : ZONE_FOLDER, STR_ARG(name));
    FILE *file = is_name(name) ? fopen(path, "rbe") : NULL;
    char *bytes = file ? arena_alloc(arena, ZONE_FILE_BYTES_MAX) : NULL;
    size_t n = bytes ? fread(bytes, 1, ZONE_FILE_BYTES_MAX, file) : 0;
    if (file)
        fclose(file);
    if (n > 0 && zone_parse(str_make(bytes, n), arena, out) == RC_OK)
        return RC_OK;
    return err_set_field(err, ERR_BAD_FIELD, "time_zone",
                         "There is no time zone '%.*s' on this machine; names are those of IANA, "
                         "such as Europe/Berlin (the package tzdata holds them), and UTC.",
                         STR_ARG(name));
}

/* ---- instants and local times ---- */

int32_t zone_offset_s(const struct zone *zone, int64_t utc_s)
{
    size_t low = 0, high = zone->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (zone->at_s[middle] <= utc_s)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == zone->count && zone->has_rule)
        return rule_offset_s(&zone->rule, utc_s);
    return low ? zone->offset_s[low - 1] : zone->first_offset_s;
}

int64_t zone_from_local_s(const struct zone *zone, int64_t local_s)
{
    int32_t before = zone_offset_s(zone, local_s - DAY_S),
            after = zone_offset_s(zone, local_s + DAY_S);
    int64_t by_before = local_s - before, by_after = local_s - after;
    if (zone_offset_s(zone, by_before) == before)
        return by_before; /* the earlier one where both hold */
    if (zone_offset_s(zone, by_after) == after)
        return by_after;
    int64_t low = MIN(by_before, by_after), high = MAX(by_before, by_after);
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (zone_offset_s(zone, middle) == after)
            high = middle;
        else
            low = middle;
    }
    return high;
}
