/* See filter.h. */
#include "knowledge/filter.h"
#include "base/buf.h"
#include "knowledge/collection.h"
#include "text/expression.h"
#include "text/json.h"

#define FILTER_DEPTH_MAX    8
#define FILTER_VALUES_MAX   100
#define FILTER_BYTES_MAX    EXPRESSION_BYTES_MAX
#define ATTRIBUTE_BYTES_MAX 4096

static bool is_name(struct str s)
{
    bool ok = s.n > 0 && s.n <= ATTRIBUTE_KEY_BYTES_MAX;
    for (size_t i = 0; ok && i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        ok = letter || (i > 0 && ((c >= '0' && c <= '9') || c == '-'));
    }
    return ok;
}

/* ---- filters ---- */

static enum rc too_long(const char *field, struct err *err)
{
    return err_set_field(err, ERR_BAD_FIELD, field, "the filter is longer than %d bytes",
                         FILTER_BYTES_MAX);
}

/* A literal of the expression language: texts are quoted as in JSON. */
static enum rc write_value(yyjson_val *value, const char *field, struct buf *out,
                           struct arena *arena, struct err *err)
{
    if (!yyjson_is_str(value) && !yyjson_is_num(value) && !yyjson_is_bool(value))
        return err_set_field(err, ERR_BAD_FIELD, field,
                             "a filter's value is a text, a number, true or false");
    struct str text = json_write(value, arena);
    return text.p && buf_append(out, text) == RC_OK ? RC_OK : too_long(field, err);
}

static enum rc write_list(yyjson_val *list, const char *field, struct buf *out, struct arena *arena,
                          struct err *err)
{
    size_t i, n;
    yyjson_val *value;
    enum rc rc = RC_OK;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > FILTER_VALUES_MAX)
        return err_set_field(err, ERR_BAD_FIELD, field, "'in' and 'nin' want a list of values");
    if (buf_append_char(out, '[') != RC_OK)
        return too_long(field, err);
    yyjson_arr_foreach(list, i, n, value)
    {
        if (rc == RC_OK && i > 0 && buf_append(out, STR(", ")) != RC_OK)
            rc = too_long(field, err);
        if (rc == RC_OK)
            rc = write_value(value, field, out, arena, err);
    }
    if (rc != RC_OK)
        return rc;
    return buf_append_char(out, ']') == RC_OK ? RC_OK : too_long(field, err);
}

static enum rc write_comparison(yyjson_val *json, const char *field, struct buf *out,
                                struct arena *arena, struct err *err)
{
    static const struct {
        const char *type, *sign;
        bool list;
    } signs[] = {{"eq", "==", false},  {"ne", "!=", false},    {"gt", ">", false},
                 {"gte", ">=", false}, {"lt", "<", false},     {"lte", "<=", false},
                 {"in", "in", true},   {"nin", "not in", true}};
    struct str type = json_get_text(json, "type"), key = json_get_text(json, "key");
    yyjson_val *value = yyjson_obj_get(json, "value");
    size_t i = 0;
    while (i < COUNT_OF(signs) && !str_eq(type, str_from(signs[i].type)))
        i++;
    if (i == COUNT_OF(signs))
        return err_set_field(err, ERR_BAD_FIELD, field,
                             "a filter's type is eq, ne, gt, gte, lt, lte, in, nin, and or or");
    if (!is_name(key))
        return err_set_field(err, ERR_BAD_FIELD, field,
                             "a filter's key is an attribute's name: letters, digits, '_', '-'");
    if (buf_printf(out, "%.*s %s ", STR_ARG(key), signs[i].sign) != RC_OK)
        return too_long(field, err);
    return signs[i].list ? write_list(value, field, out, arena, err)
                         : write_value(value, field, out, arena, err);
}

static enum rc write_filter(yyjson_val *json, const char *field, int depth, struct buf *out,
                            struct arena *arena, struct err *err)
{
    struct str type = json_get_text(json, "type");
    yyjson_val *inner, *filters = yyjson_obj_get(json, "filters");
    bool all = str_eq(type, STR("and"));
    size_t i, n;
    enum rc rc = RC_OK;
    if (!yyjson_is_obj(json))
        return err_set_field(err, ERR_BAD_FIELD, field, "a filter is an object or an expression");
    if (!all && !str_eq(type, STR("or")))
        return write_comparison(json, field, out, arena, err);
    if (depth >= FILTER_DEPTH_MAX || yyjson_arr_size(filters) == 0)
        return err_set_field(err, ERR_BAD_FIELD, field,
                             "'and' and 'or' want a list of filters, nested at most %d deep",
                             FILTER_DEPTH_MAX);
    yyjson_arr_foreach(filters, i, n, inner)
    {
        if (rc == RC_OK && buf_append(out, i == 0 ? STR("(") : all ? STR(" and ") : STR(" or ")))
            rc = too_long(field, err);
        if (rc == RC_OK)
            rc = write_filter(inner, field, depth + 1, out, arena, err);
    }
    if (rc != RC_OK)
        return rc;
    return buf_append_char(out, ')') == RC_OK ? RC_OK : too_long(field, err);
}

enum rc filter_read(yyjson_val *json, const char *field, struct arena *arena, struct str *out,
                    struct err *err)
{
    struct expression *parsed;
    struct buf buf;
    enum rc rc = RC_OK;
    *out = STR_EMPTY;
    if (!json || yyjson_is_null(json))
        return RC_OK;
    if (yyjson_is_str(json)) {
        *out = json_text(json);
    } else {
        buf_init(&buf, FILTER_BYTES_MAX);
        rc = write_filter(json, field, 0, &buf, arena, err);
        if (rc == RC_OK)
            *out = arena_copy(arena, buf_str(&buf));
        buf_fini(&buf);
    }
    if (rc == RC_OK && out->n)
        rc = expression_parse(*out, arena, &parsed, err);
    if (rc != RC_OK && err && !err->field[0])
        snprintf(err->field, sizeof(err->field), "%s", field);
    return rc;
}

/* ---- attributes ---- */

static bool is_text_list(yyjson_val *value)
{
    size_t i, n;
    yyjson_val *item;
    bool ok = yyjson_is_arr(value) && yyjson_arr_size(value) <= FILTER_VALUES_MAX;
    if (!ok)
        return false;
    yyjson_arr_foreach(value, i, n, item) ok =
        ok && yyjson_is_str(item) && yyjson_get_len(item) <= ATTRIBUTE_BYTES_MAX;
    return ok;
}

static bool is_value(yyjson_val *value)
{
    return (yyjson_is_str(value) && yyjson_get_len(value) <= ATTRIBUTE_BYTES_MAX) ||
           yyjson_is_num(value) || yyjson_is_bool(value) || is_text_list(value);
}

enum rc attributes_read(yyjson_val *json, const char *field, struct arena *arena, struct str *out,
                        struct err *err)
{
    size_t i, n;
    yyjson_val *key, *value;
    *out = STR_EMPTY;
    if (!json || yyjson_is_null(json))
        return RC_OK;
    if (!yyjson_is_obj(json) || yyjson_obj_size(json) > ATTRIBUTES_MAX)
        return err_set_field(err, ERR_BAD_FIELD, field, "must be an object of at most %d members",
                             ATTRIBUTES_MAX);
    yyjson_obj_foreach(json, i, n, key, value)
    {
        struct str name = json_text(key);
        if (!is_name(name) || name.p[0] == '_' || str_eq(name, STR("tags")))
            return err_set_field(err, ERR_BAD_FIELD, field,
                                 "'%.*s' cannot be an attribute's name: begin with a letter, go on "
                                 "with letters, digits, '_' or '-'; 'tags' is taken",
                                 (int)MIN(name.n, (size_t)64), name.p);
        if (!is_value(value))
            return err_set_field(err, ERR_BAD_FIELD, field,
                                 "the attribute '%.*s' must be a text, a number, a boolean or a "
                                 "list of texts",
                                 STR_ARG(name));
    }
    *out = json_write(json, arena);
    return out->p ? RC_OK : err_set_field(err, ERR_TOO_LARGE, field, "the attributes are too long");
}

enum rc tags_read(yyjson_val *json, const char *field, struct arena *arena, struct str *out,
                  struct err *err)
{
    *out = STR_EMPTY;
    if (!json || yyjson_is_null(json))
        return RC_OK;
    if (!is_text_list(json) || yyjson_arr_size(json) > COLLECTION_TAGS_MAX)
        return err_set_field(err, ERR_BAD_FIELD, field, "must be a list of at most %d texts",
                             COLLECTION_TAGS_MAX);
    *out = json_write(json, arena);
    return out->p ? RC_OK : err_set_field(err, ERR_TOO_LARGE, field, "the tags are too long");
}
