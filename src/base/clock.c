/* Clocks and their texts. The kernel's clocks are read through the vDSO, so reading costs some 20
 * ns; calendar arithmetic is done here (no locale, no time zone database, no locks). Any thread. */
#include "base/clock.h"
#include <time.h>

static int64_t (*wall_override)(void *);
static int64_t (*monotonic_override)(void *);
static void *override_arg;

static int64_t read_clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_wall_ns(void)
{
    return UNLIKELY(wall_override != NULL) ? wall_override(override_arg)
                                           : read_clock_ns(CLOCK_REALTIME);
}

int64_t clock_monotonic_ns(void)
{
    return UNLIKELY(monotonic_override != NULL) ? monotonic_override(override_arg)
                                                : read_clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_thread_cpu_ns(void) { return read_clock_ns(CLOCK_THREAD_CPUTIME_ID); }

void clock_override(int64_t (*wall)(void *), int64_t (*monotonic)(void *), void *arg)
{
    wall_override = wall;
    monotonic_override = monotonic;
    override_arg = arg;
}

/* ---- calendar ----
 * Proleptic Gregorian, in eras of 400 years that start on 1 March, so that the leap day comes last:
 * H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */

#define DAYS_PER_ERA 146097
#define DAYS_TO_1970 719468 /* from 0000-03-01 */
#define YEAR_MIN     1678   /* the years whose every day fits int64 nanoseconds */
#define YEAR_MAX     2261

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int64_t days_from_civil(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = floor_div(y, 400);
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - DAYS_TO_1970;
}

static void civil_from_days(int64_t days, int *year, int *month, int *day)
{
    days += DAYS_TO_1970;
    int64_t era = floor_div(days, DAYS_PER_ERA);
    int64_t day_of_era = days - era * DAYS_PER_ERA;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted_month + 2) / 5 + 1);
    *month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

static char *put_digits(char *out, int64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + width;
}

size_t clock_format_iso(int64_t wall_ns, int fraction_digits, char out[CLOCK_ISO_BYTES_MAX])
{
    ASSERT(fraction_digits == 0 || fraction_digits == 3 || fraction_digits == 6 ||
           fraction_digits == 9);
    int64_t days = floor_div(wall_ns, NS_PER_DAY);
    int64_t rest_ns = wall_ns - days * NS_PER_DAY;
    int64_t second = rest_ns / NS_PER_S;
    int64_t fraction = rest_ns % NS_PER_S;
    int year, month, day;
    civil_from_days(days, &year, &month, &day);

    char *p = put_digits(out, year, 4);
    *p++ = '-';
    p = put_digits(p, month, 2);
    *p++ = '-';
    p = put_digits(p, day, 2);
    *p++ = 'T';
    p = put_digits(p, second / 3600, 2);
    *p++ = ':';
    p = put_digits(p, second / 60 % 60, 2);
    *p++ = ':';
    p = put_digits(p, second % 60, 2);
    if (fraction_digits > 0) {
        *p++ = '.';
        for (int i = fraction_digits; i < 9; i++)
            fraction /= 10;
        p = put_digits(p, fraction, fraction_digits);
    }
    *p++ = 'Z';
    *p = 0;
    return (size_t)(p - out);
}

/* ---- parsing: a cursor over the text; each step takes what it expects or fails ---- */

static bool take_char(struct str *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    s->p++, s->n--;
    return true;
}

static bool take_number(struct str *s, size_t width, int min, int max, int *out)
{
    if (s->n < width)
        return false;
    int value = 0;
    for (size_t i = 0; i < width; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        value = value * 10 + (s->p[i] - '0');
    }
    s->p += width, s->n -= width;
    *out = value;
    return value >= min && value <= max;
}

/* ".123": 1 to 9 digits count, further ones are cut. */
static bool take_fraction(struct str *s, int64_t *ns)
{
    int64_t scale = NS_PER_S / 10;
    size_t digits = 0;
    *ns = 0;
    while (s->n > 0 && s->p[0] >= '0' && s->p[0] <= '9') {
        *ns += (s->p[0] - '0') * scale;
        scale /= 10;
        digits++;
        s->p++, s->n--;
    }
    return digits > 0;
}

static bool take_offset(struct str *s, int64_t *offset_s)
{
    *offset_s = 0;
    if (take_char(s, 'Z') || take_char(s, 'z'))
        return true;
    int sign, hours, minutes;
    if (take_char(s, '+'))
        sign = 1;
    else if (take_char(s, '-'))
        sign = -1;
    else
        return false;
    if (!take_number(s, 2, 0, 23, &hours) || !take_char(s, ':') ||
        !take_number(s, 2, 0, 59, &minutes))
        return false;
    *offset_s = sign * (hours * 3600 + minutes * 60);
    return true;
}

static int days_in_month(int year, int month)
{
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

enum rc clock_parse_iso(struct str s, int64_t *wall_ns)
{
    int year, month, day, hour = 0, minute = 0, second = 0;
    int64_t fraction_ns = 0, offset_s = 0;
    if (!take_number(&s, 4, YEAR_MIN, YEAR_MAX, &year) || !take_char(&s, '-') ||
        !take_number(&s, 2, 1, 12, &month) || !take_char(&s, '-') ||
        !take_number(&s, 2, 1, days_in_month(year, month), &day))
        return RC_INVALID;
    if (s.n > 0) {
        if (!take_char(&s, 'T') && !take_char(&s, 't') && !take_char(&s, ' '))
            return RC_INVALID;
        /* 60 is a leap second; it becomes the first of the next minute. */
        if (!take_number(&s, 2, 0, 23, &hour) || !take_char(&s, ':') ||
            !take_number(&s, 2, 0, 59, &minute) || !take_char(&s, ':') ||
            !take_number(&s, 2, 0, 60, &second))
            return RC_INVALID;
        if (take_char(&s, '.') && !take_fraction(&s, &fraction_ns))
            return RC_INVALID;
        if (!take_offset(&s, &offset_s) || s.n > 0)
            return RC_INVALID;
    }
    int64_t seconds =
        days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s;
    *wall_ns = seconds * NS_PER_S + fraction_ns;
    return RC_OK;
}

static bool take_unit(struct str *s, int64_t *unit_ns)
{
    static const struct {
        struct str name;
        int64_t ns;
    } units[] = {
        /* Two letters first, so that "ms" is not taken for minutes. */
        {STR_INIT("ns"), 1},
        {STR_INIT("us"), NS_PER_US},
        {STR_INIT("ms"), NS_PER_MS},
        {STR_INIT("s"), NS_PER_S},
        {STR_INIT("m"), 60 * NS_PER_S},
        {STR_INIT("h"), 3600 * NS_PER_S},
        {STR_INIT("d"), NS_PER_DAY},
    };
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (s->n >= units[i].name.n && memcmp(s->p, units[i].name.p, units[i].name.n) == 0) {
            s->p += units[i].name.n, s->n -= units[i].name.n;
            *unit_ns = units[i].ns;
            return true;
        }
    }
    return false;
}

enum rc clock_parse_duration(struct str s, int64_t *ns)
{
    __int128 total = 0;
    bool first = true;
    while (first || s.n > 0) {
        __int128 whole = 0;
        size_t digits = 0;
        int64_t fraction_ns = 0, unit_ns;
        for (; s.n > 0 && s.p[0] >= '0' && s.p[0] <= '9'; s.p++, s.n--, digits++) {
            whole = whole * 10 + (s.p[0] - '0');
            if (whole > INT64_MAX)
                return RC_LIMIT;
        }
        if (digits == 0 || (take_char(&s, '.') && !take_fraction(&s, &fraction_ns)))
            return RC_INVALID;
        if (first && s.n == 0)
            unit_ns = NS_PER_S;
        else if (!take_unit(&s, &unit_ns))
            return RC_INVALID;
        total += whole * unit_ns + (__int128)fraction_ns * unit_ns / NS_PER_S;
        if (total > INT64_MAX)
            return RC_LIMIT;
        first = false;
    }
    *ns = (int64_t)total;
    return RC_OK;
}
