/* JSON text into a buffer. One thread at a time per writer. */
#include "text/json_writer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void json_append(struct json_writer *w, struct str s)
{
    if (w->rc == RC_OK)
        w->rc = buf_append(w->out, s);
}

static void separate(struct json_writer *w)
{
    if (w->comma)
        json_append(w, STR(","));
    w->comma = true;
}

static void begin(struct json_writer *w, struct str bracket)
{
    separate(w);
    json_append(w, bracket);
    w->comma = false;
}

static void end(struct json_writer *w, struct str bracket)
{
    json_append(w, bracket);
    w->comma = true;
}

void json_begin_object(struct json_writer *w) { begin(w, STR("{")); }
void json_end_object(struct json_writer *w) { end(w, STR("}")); }
void json_begin_array(struct json_writer *w) { begin(w, STR("[")); }
void json_end_array(struct json_writer *w) { end(w, STR("]")); }

/* Bytes that cannot stand in a JSON string as they are. */
static const bool must_escape[256] = {
    [0 ... 0x1f] = true,
    ['"'] = true,
    ['\\'] = true,
};

static struct str escape_of(unsigned char c, char space[8])
{
    switch (c) {
    case '"': return STR("\\\"");
    case '\\': return STR("\\\\");
    case '\n': return STR("\\n");
    case '\r': return STR("\\r");
    case '\t': return STR("\\t");
    case '\b': return STR("\\b");
    case '\f': return STR("\\f");
    default: break;
    }
    static const char digits[] = "0123456789abcdef";
    memcpy(space, "\\u00", 4);
    space[4] = digits[c >> 4];
    space[5] = digits[c & 15];
    return str_make(space, 6);
}

void json_append_escaped(struct json_writer *w, struct str s)
{
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (LIKELY(!must_escape[c]))
            continue;
        char space[8];
        json_append(w, str_make(s.p + from, i - from));
        json_append(w, escape_of(c, space));
        from = i + 1;
    }
    if (from < s.n)
        json_append(w, str_make(s.p + from, s.n - from));
}

void json_string(struct json_writer *w, struct str s)
{
    separate(w);
    json_append(w, STR("\""));
    json_append_escaped(w, s);
    json_append(w, STR("\""));
}

void json_key_str(struct json_writer *w, struct str name)
{
    json_string(w, name);
    json_append(w, STR(":"));
    w->comma = false;
}

void json_key(struct json_writer *w, const char *name)
{
    separate(w);
    json_append(w, STR("\""));
    json_append(w, str_from(name));
    json_append(w, STR("\":"));
    w->comma = false;
}

void json_uint(struct json_writer *w, uint64_t value)
{
    char digits[24], *at = digits + sizeof(digits);
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    separate(w);
    json_append(w, str_make(at, (size_t)(digits + sizeof(digits) - at)));
}

void json_int(struct json_writer *w, int64_t value)
{
    if (value >= 0) {
        json_uint(w, (uint64_t)value);
        return;
    }
    separate(w);
    json_append(w, STR("-"));
    w->comma = false;
    json_uint(w, -(uint64_t)value);
}

void json_double(struct json_writer *w, double value)
{
    if (!isfinite(value)) {
        json_null(w);
        return;
    }
    char text[40];
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    separate(w);
    json_append(w, str_make(text, (size_t)n));
}

void json_bool(struct json_writer *w, bool value)
{
    separate(w);
    json_append(w, value ? STR("true") : STR("false"));
}

void json_null(struct json_writer *w)
{
    separate(w);
    json_append(w, STR("null"));
}

void json_raw(struct json_writer *w, struct str json)
{
    separate(w);
    json_append(w, json);
}

void json_value(struct json_writer *w, yyjson_val *value)
{
    size_t n = 0;
    char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &n);
    if (text)
        json_raw(w, str_make(text, n));
    else if (w->rc == RC_OK)
        w->rc = RC_LIMIT;
    free(text);
}

void json_put_string(struct json_writer *w, const char *name, struct str s)
{
    json_key(w, name);
    json_string(w, s);
}

void json_put_text(struct json_writer *w, const char *name, const char *s)
{
    json_key(w, name);
    if (s)
        json_string(w, str_from(s));
    else
        json_null(w);
}

void json_put_int(struct json_writer *w, const char *name, int64_t value)
{
    json_key(w, name);
    json_int(w, value);
}

void json_put_uint(struct json_writer *w, const char *name, uint64_t value)
{
    json_key(w, name);
    json_uint(w, value);
}

void json_put_double(struct json_writer *w, const char *name, double value)
{
    json_key(w, name);
    json_double(w, value);
}

void json_put_bool(struct json_writer *w, const char *name, bool value)
{
    json_key(w, name);
    json_bool(w, value);
}

void json_put_null(struct json_writer *w, const char *name)
{
    json_key(w, name);
    json_null(w);
}

void json_put_raw(struct json_writer *w, const char *name, struct str json)
{
    json_key(w, name);
    json_raw(w, json);
}

void json_put_value(struct json_writer *w, const char *name, yyjson_val *value)
{
    json_key(w, name);
    json_value(w, value);
}
