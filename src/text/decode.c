/* Reading configuration out of JSON: every refusal names the place and says what would be right. */
#include "text/decode.h"
#include "base/clock.h"
#include "text/json.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static enum rc out_of_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "The configuration is too large.");
}

/* ---- places ---- */

void decode_root(struct place *at, yyjson_val *value, const char *path)
{
    *at = (struct place){.value = value, .name = str_from(path)};
}

/* "targets[0].provider"; returns the length. */
static size_t path_format(const struct place *at, char out[ERR_FIELD_BYTES_MAX])
{
    size_t n = at->parent ? path_format(at->parent, out) : 0;
    int more;

    if (at->parent && !at->name.n)
        more = snprintf(out + n, ERR_FIELD_BYTES_MAX - n, "[%zu]", at->index);
    else
        more = snprintf(out + n, ERR_FIELD_BYTES_MAX - n, "%s%.*s", n ? "." : "",
                        (int)MIN(at->name.n, 60), at->name.p);
    return MIN(n + (size_t)MAX(more, 0), ERR_FIELD_BYTES_MAX - 1);
}

enum rc decode_member(const struct place *object, const char *name, enum decode_need need,
                      struct place *out, struct err *err)
{
    struct str key = str_from(name);
    yyjson_val *value = object->value ? yyjson_obj_getn(object->value, key.p, key.n) : NULL;
    char path[ERR_FIELD_BYTES_MAX];

    *out = (struct place){
        .value = yyjson_is_null(value) ? NULL : value, .parent = object, .name = key};
    if (out->value || need == DECODE_OPTIONAL)
        return RC_OK;
    path_format(out, path);
    return err_set_field(err, ERR_MISSING_FIELD, path, "'%s' is missing.", path);
}

void decode_element(const struct place *array, size_t index, yyjson_val *value, struct place *out)
{
    *out = (struct place){.value = value, .parent = array, .index = index};
}

enum rc decode_refuse(const struct place *at, struct err *err, const char *fmt, ...)
{
    char text[ERR_MESSAGE_BYTES_MAX], path[ERR_FIELD_BYTES_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    path_format(at, path);
    return err_set_field(err, ERR_BAD_FIELD, path, "'%s' %s", path[0] ? path : "The document",
                         text);
}

enum rc decode_expect_object(const struct place *at, struct err *err)
{
    return !at->value || yyjson_is_obj(at->value) ? RC_OK
                                                  : decode_refuse(at, err, "must be an object.");
}

enum rc decode_expect_list(const struct place *at, size_t count_max, struct err *err)
{
    if (at->value && !yyjson_is_arr(at->value))
        return decode_refuse(at, err, "must be a list.");
    if (yyjson_arr_size(at->value) > count_max)
        return decode_refuse(at, err, "has more than %zu entries.", count_max);
    return RC_OK;
}

static bool listed(const char *const *names, struct str name)
{
    for (; *names; names++)
        if ((*names)[0] == (name.n ? name.p[0] : 0) && strncmp(*names, name.p, name.n) == 0 &&
            !(*names)[name.n])
            return true;
    return false;
}

enum rc decode_only(const struct place *object, const char *const *names, struct err *err)
{
    size_t i, n;
    yyjson_val *k, *v;

    enum rc rc = decode_expect_object(object, err);
    if (rc != RC_OK || !object->value)
        return rc;
    yyjson_obj_foreach(object->value, i, n, k, v)
    {
        struct place at = {.value = v, .parent = object, .name = json_text(k)};
        if (!listed(names, at.name))
            return decode_refuse(&at, err, "is not a known setting.");
    }
    return RC_OK;
}

/* ---- members by type ---- */

enum rc decode_str(const struct place *object, const char *name, enum decode_need need,
                   size_t bytes_max, struct str *out, struct err *err)
{
    struct place at;
    enum rc rc = decode_member(object, name, need, &at, err);

    if (rc != RC_OK || !at.value)
        return rc;
    if (!yyjson_is_str(at.value))
        return decode_refuse(&at, err, "must be a text.");
    struct str s = json_text(at.value);
    if (s.n > bytes_max)
        return decode_refuse(&at, err, "is longer than %zu bytes.", bytes_max);
    if (memchr(s.p, 0, s.n))
        return decode_refuse(&at, err, "holds a NUL character.");
    if (need == DECODE_REQUIRED && s.n == 0)
        return decode_refuse(&at, err, "is empty.");
    *out = s;
    return RC_OK;
}

enum rc decode_bool(const struct place *object, const char *name, bool *out, struct err *err)
{
    struct place at;
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);

    if (rc != RC_OK || !at.value)
        return rc;
    if (!yyjson_is_bool(at.value))
        return decode_refuse(&at, err, "must be true or false.");
    *out = yyjson_get_bool(at.value);
    return RC_OK;
}

enum rc decode_i64(const struct place *object, const char *name, int64_t min, int64_t max,
                   int64_t *out, struct err *err)
{
    struct place at;
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);

    if (rc != RC_OK || !at.value)
        return rc;
    bool fits = yyjson_is_sint(at.value) ||
                (yyjson_is_uint(at.value) && yyjson_get_uint(at.value) <= (uint64_t)INT64_MAX);
    int64_t value = fits ? yyjson_get_sint(at.value) : 0;
    if (!fits || value < min || value > max)
        return decode_refuse(&at, err, "must be a whole number from %lld to %lld.", (long long)min,
                             (long long)max);
    *out = value;
    return RC_OK;
}

static enum rc duration_from(const struct place *at, double unit_ns, int64_t *ns, struct err *err)
{
    static const double longest_ns = 3650.0 * 86400 * 1e9;

    if (yyjson_is_num(at->value)) {
        double value = yyjson_get_num(at->value) * unit_ns;
        if (value >= 0 && value <= longest_ns) {
            *ns = (int64_t)value;
            return RC_OK;
        }
    } else if (yyjson_is_str(at->value) && unit_ns == (double)NS_PER_S) {
        int64_t value;
        if (clock_parse_duration(json_text(at->value), &value) == RC_OK && value >= 0 &&
            value <= longest_ns) {
            *ns = value;
            return RC_OK;
        }
    }
    return decode_refuse(at, err,
                         unit_ns == (double)NS_PER_S
                             ? "must be a duration such as 500ms, 20s or 5m."
                             : "must be a number of milliseconds.");
}

enum rc decode_duration(const struct place *object, const char *name, int64_t *ns, struct err *err)
{
    char name_ms[64];
    struct place at;
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);

    if (rc == RC_OK && at.value)
        return duration_from(&at, (double)NS_PER_S, ns, err);
    snprintf(name_ms, sizeof name_ms, "%s_ms", name);
    if (rc == RC_OK)
        rc = decode_member(object, name_ms, DECODE_OPTIONAL, &at, err);
    if (rc == RC_OK && at.value)
        return duration_from(&at, (double)NS_PER_MS, ns, err);
    return rc;
}

enum rc dollars_parse(struct str text, int64_t *pico)
{
    struct str rest = text;
    bool negative = str_starts(rest, STR("-"));
    __int128 value = 0;
    int decimals = -1; /* seen so far; -1: before the point */
    size_t digits = 0;

    if (negative)
        rest = str_slice(rest, 1, rest.n);
    for (size_t i = 0; i < rest.n; i++) {
        char c = rest.p[i];
        if (c == '.' && decimals < 0) {
            decimals = 0;
            continue;
        }
        if (c < '0' || c > '9')
            return RC_INVALID;
        if (decimals >= 0 && ++decimals > 12)
            return RC_INVALID;
        value = value * 10 + (c - '0');
        digits++;
        if (value > (__int128)INT64_MAX)
            return RC_LIMIT;
    }
    if (digits == 0)
        return RC_INVALID;
    for (int i = MAX(decimals, 0); i < 12; i++)
        value *= 10;
    if (value >= (__int128)INT64_MAX)
        return RC_LIMIT;
    *pico = negative ? -(int64_t)value : (int64_t)value;
    return RC_OK;
}

enum rc decode_dollars(const struct place *object, const char *name, int64_t *pico, struct err *err)
{
    struct place at;
    char digits[64];
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);
    struct str text;

    if (rc != RC_OK || !at.value)
        return rc;
    if (yyjson_is_str(at.value)) {
        text = json_text(at.value);
    } else if (yyjson_is_int(at.value)) {
        text = str_make(digits, (size_t)snprintf(digits, sizeof digits, "%lld",
                                                 (long long)yyjson_get_sint(at.value)));
    } else if (yyjson_is_real(at.value) && fabs(yyjson_get_real(at.value)) < 1e7) {
        /* A binary fraction is meant as the shortest decimal that gives it: 15 digits hold it. */
        int whole = snprintf(digits, sizeof digits, "%.0f", floor(fabs(yyjson_get_real(at.value))));
        int decimals = MIN(12, 15 - whole);
        text = str_make(digits, (size_t)snprintf(digits, sizeof digits, "%.*f", decimals,
                                                 yyjson_get_real(at.value)));
    } else {
        return decode_refuse(&at, err, "must be an amount in dollars, such as 5 or \"5.00\".");
    }
    rc = dollars_parse(text, pico);
    if (rc != RC_OK || *pico < 0)
        return decode_refuse(&at, err,
                             "must be an amount in dollars, not negative, with at most 12 "
                             "decimals, up to 9,000,000.");
    return RC_OK;
}

enum rc decode_word(const struct place *object, const char *name, const char *const *words,
                    int *out, struct err *err)
{
    struct place at;
    char known[256] = "";
    size_t n = 0;
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);

    if (rc != RC_OK || !at.value)
        return rc;
    for (int i = 0; words[i]; i++) {
        if (yyjson_is_str(at.value) && str_eq(json_text(at.value), str_from(words[i]))) {
            *out = i;
            return RC_OK;
        }
        if (n < sizeof known)
            n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", words[i]);
    }
    return decode_refuse(&at, err, "must be one of: %s.", known);
}

enum rc decode_texts(const struct place *object, const char *name, size_t count_max,
                     size_t bytes_max, struct arena *arena, struct str **out, size_t *count,
                     struct err *err)
{
    struct place at, element;
    size_t i, n;
    yyjson_val *value;
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);

    if (rc == RC_OK)
        rc = decode_expect_list(&at, count_max, err);
    if (rc != RC_OK || !at.value)
        return rc;
    struct str *texts = arena_alloc(arena, (yyjson_arr_size(at.value) + 1) * sizeof *texts);
    if (!texts)
        return out_of_memory(err);
    yyjson_arr_foreach(at.value, i, n, value)
    {
        decode_element(&at, i, value, &element);
        if (!yyjson_is_str(value) || yyjson_get_len(value) > bytes_max)
            return decode_refuse(&element, err, "must be a text of at most %zu bytes.", bytes_max);
        texts[i] = arena_copy(arena, json_text(value));
        if (!texts[i].p)
            return out_of_memory(err);
    }
    *out = texts;
    *count = yyjson_arr_size(at.value);
    return RC_OK;
}
