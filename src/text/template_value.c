/* Values of templates: Python's rules for truth, equality, order, text and access, as far as
 * Jinja2 templates can see them. */
#include "text/template_private.h"
#include "base/utf8.h"
#include "text/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct value value_from_json(yyjson_val *json)
{
    switch (yyjson_get_type(json)) {
    case YYJSON_TYPE_BOOL: return value_bool(yyjson_get_bool(json));
    case YYJSON_TYPE_STR: return value_text(str_make(yyjson_get_str(json), yyjson_get_len(json)));
    case YYJSON_TYPE_ARR: return (struct value){.kind = VALUE_ARRAY, .json = json};
    case YYJSON_TYPE_OBJ: return (struct value){.kind = VALUE_OBJECT, .json = json};
    case YYJSON_TYPE_NUM:
        if (yyjson_is_real(json) || (yyjson_is_uint(json) && yyjson_get_uint(json) > INT64_MAX))
            return value_float(yyjson_get_num(json));
        return value_int(yyjson_get_sint(json));
    default: return value_none();
    }
}

bool value_is_list(const struct value *v)
{
    return v->kind == VALUE_ARRAY || v->kind == VALUE_LIST;
}

bool value_is_mapping(const struct value *v)
{
    return v->kind == VALUE_OBJECT || v->kind == VALUE_DICT;
}

bool value_is_number(const struct value *v, double *out)
{
    switch (v->kind) {
    case VALUE_BOOL: *out = v->boolean; return true;
    case VALUE_INT: *out = (double)v->integer; return true;
    case VALUE_FLOAT: *out = v->number; return true;
    default: return false;
    }
}

const char *value_kind_name(const struct value *v)
{
    static const char *const names[] = {
        [VALUE_UNDEFINED] = "undefined", [VALUE_MISSING] = "undefined",
        [VALUE_NONE] = "none",           [VALUE_BOOL] = "boolean",
        [VALUE_INT] = "integer",         [VALUE_FLOAT] = "number",
        [VALUE_TEXT] = "text",           [VALUE_ARRAY] = "list",
        [VALUE_OBJECT] = "mapping",      [VALUE_LIST] = "list",
        [VALUE_DICT] = "mapping",        [VALUE_NAMESPACE] = "namespace",
        [VALUE_LOOP] = "loop",           [VALUE_MACRO] = "macro",
        [VALUE_FUNCTION] = "function",   [VALUE_METHOD] = "method",
    };
    return names[v->kind];
}

static size_t text_length(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

int64_t value_length(const struct value *v)
{
    switch (v->kind) {
    case VALUE_UNDEFINED: return 0;
    case VALUE_TEXT: return (int64_t)text_length(value_str(v));
    case VALUE_ARRAY: return (int64_t)yyjson_arr_size(v->json);
    case VALUE_OBJECT: return (int64_t)yyjson_obj_size(v->json);
    case VALUE_LIST: return v->list->count;
    case VALUE_DICT: return v->dict->count;
    default: return -1;
    }
}

bool value_is_true(const struct value *v)
{
    switch (v->kind) {
    case VALUE_UNDEFINED:
    case VALUE_MISSING:
    case VALUE_NONE: return false;
    case VALUE_BOOL: return v->boolean;
    case VALUE_INT: return v->integer != 0;
    case VALUE_FLOAT: return v->number != 0;
    case VALUE_TEXT: return v->n > 0;
    case VALUE_ARRAY:
    case VALUE_OBJECT:
    case VALUE_LIST:
    case VALUE_DICT: return value_length(v) > 0;
    default: return true;
    }
}

/* ---- containers ---- */

enum rc value_list_new(struct render *r, uint32_t capacity, struct value *out)
{
    struct value_list *list = ARENA_NEW(r->arena, struct value_list);
    if (!list || !(list->items = ARENA_NEW_ARRAY(r->arena, struct value, capacity + 1)))
        return render_no_memory(r);
    list->capacity = capacity + 1;
    *out = (struct value){.kind = VALUE_LIST, .list = list};
    return RC_OK;
}

static struct value *grown(struct render *r, const struct value *old, uint32_t count,
                           uint32_t capacity)
{
    struct value *copy = arena_alloc(r->arena, capacity * sizeof(*copy));
    if (copy && count)
        memcpy(copy, old, count * sizeof(*copy));
    return copy;
}

enum rc value_list_add(struct render *r, struct value_list *list, struct value item)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity * 2;
        if (capacity < list->capacity ||
            !(list->items = grown(r, list->items, list->count, capacity))) {
            list->count = list->capacity = 0;
            return render_no_memory(r);
        }
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return render_spend(r, 1);
}

enum rc value_dict_new(struct render *r, uint32_t capacity, struct value *out)
{
    struct value_dict *dict = ARENA_NEW(r->arena, struct value_dict);
    capacity++;
    if (!dict || !(dict->keys = ARENA_NEW_ARRAY(r->arena, struct value, capacity)) ||
        !(dict->values = ARENA_NEW_ARRAY(r->arena, struct value, capacity)))
        return render_no_memory(r);
    dict->capacity = capacity;
    *out = (struct value){.kind = VALUE_DICT, .dict = dict};
    return RC_OK;
}

static bool same_text(const struct value *a, struct str b)
{
    return a->kind == VALUE_TEXT && a->n == b.n && (a->p == b.p || memcmp(a->p, b.p, b.n) == 0);
}

static bool scalar_equal(const struct value *a, const struct value *b)
{
    double x, y;
    if (a->kind == VALUE_TEXT)
        return b->kind == VALUE_TEXT && same_text(a, value_str(b));
    if (a->kind == VALUE_INT && b->kind == VALUE_INT)
        return a->integer == b->integer;
    if (value_is_number(a, &x) && value_is_number(b, &y))
        return x == y;
    return a->kind == b->kind && (a->kind == VALUE_NONE || a->kind == VALUE_UNDEFINED);
}

static struct value *dict_find(const struct value_dict *dict, const struct value *key)
{
    for (uint32_t i = 0; i < dict->count; i++)
        if (scalar_equal(&dict->keys[i], key))
            return &dict->values[i];
    return NULL;
}

enum rc value_dict_put(struct render *r, struct value_dict *dict, struct value key,
                       struct value value)
{
    struct value *there = dict_find(dict, &key);
    enum rc rc = render_spend(r, 1 + dict->count / 8);
    if (rc != RC_OK)
        return rc;
    if (there) {
        *there = value;
        return RC_OK;
    }
    if (dict->count == dict->capacity) {
        uint32_t capacity = dict->capacity * 2;
        struct value *keys = grown(r, dict->keys, dict->count, capacity);
        struct value *values = grown(r, dict->values, dict->count, capacity);
        if (!keys || !values)
            return render_no_memory(r);
        dict->keys = keys;
        dict->values = values;
        dict->capacity = capacity;
    }
    dict->keys[dict->count] = key;
    dict->values[dict->count++] = value;
    return RC_OK;
}

enum rc value_items(struct render *r, const struct value *v, struct value **items, uint32_t *count)
{
    struct value list;
    size_t index, size;
    yyjson_val *key, *item;
    enum rc rc;
    if (v->kind == VALUE_LIST) {
        *items = v->list->items;
        *count = v->list->count;
        return RC_OK;
    }
    int64_t length = v->kind == VALUE_UNDEFINED ? 0 : value_length(v);
    if (length < 0)
        return render_fail(r, ERR_INVALID, "a value of type %s is no list", value_kind_name(v));
    if ((rc = render_spend(r, (size_t)length)) != RC_OK ||
        (rc = value_list_new(r, (uint32_t)length, &list)) != RC_OK)
        return rc;
    struct value *at = list.list->items;
    if (v->kind == VALUE_ARRAY) {
        yyjson_arr_foreach(v->json, index, size, item) *at++ = value_from_json(item);
    } else if (v->kind == VALUE_OBJECT) {
        yyjson_obj_foreach(v->json, index, size, key, item) *at++ = value_from_json(key);
    } else if (v->kind == VALUE_DICT) {
        memcpy(at, v->dict->keys, v->dict->count * sizeof(*at));
    } else if (v->kind == VALUE_TEXT) {
        for (struct str rest = value_str(v); rest.n;) {
            uint32_t codepoint;
            size_t n = MAX(utf8_next(rest, &codepoint), 1u);
            *at++ = value_text(str_make(rest.p, n));
            rest = str_slice(rest, n, rest.n);
        }
        length = at - list.list->items;
    }
    *items = list.list->items;
    *count = (uint32_t)length;
    return RC_OK;
}

static enum rc pair(struct render *r, struct value_list *list, struct value key, struct value value)
{
    struct value tuple;
    enum rc rc = value_list_new(r, 2, &tuple);
    if (rc != RC_OK)
        return rc;
    tuple.list->tuple = true;
    tuple.list->items[0] = key;
    tuple.list->items[1] = value;
    tuple.list->count = 2;
    return value_list_add(r, list, tuple);
}

enum rc value_pairs(struct render *r, const struct value *v, struct value *out)
{
    size_t index, size;
    yyjson_val *key, *item;
    enum rc rc = value_list_new(r, (uint32_t)MAX(value_length(v), 0), out);
    if (rc != RC_OK)
        return rc;
    if (v->kind == VALUE_DICT) {
        for (uint32_t i = 0; i < v->dict->count && rc == RC_OK; i++)
            rc = pair(r, out->list, v->dict->keys[i], v->dict->values[i]);
        return rc;
    }
    if (v->kind != VALUE_OBJECT)
        return render_fail(r, ERR_INVALID, "a value of type %s is no mapping", value_kind_name(v));
    yyjson_obj_foreach(v->json, index, size, key, item)
    {
        if (rc == RC_OK)
            rc = pair(r, out->list, value_from_json(key), value_from_json(item));
    }
    return rc;
}

/* ---- comparing ---- */

static bool lists_equal(struct render *r, const struct value *a, const struct value *b)
{
    struct value *x, *y;
    uint32_t n, m;
    if (value_length(a) != value_length(b) || value_items(r, a, &x, &n) != RC_OK ||
        value_items(r, b, &y, &m) != RC_OK)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!value_equal(r, &x[i], &y[i]))
            return false;
    return true;
}

static bool dict_get(const struct value *v, const struct value *key, struct value *out)
{
    if (v->kind == VALUE_OBJECT) {
        yyjson_val *found =
            key->kind == VALUE_TEXT ? yyjson_obj_getn(v->json, key->p, key->n) : NULL;
        if (found)
            *out = value_from_json(found);
        return found;
    }
    struct value *found = dict_find(v->dict, key);
    if (found)
        *out = *found;
    return found;
}

static bool dicts_equal(struct render *r, const struct value *a, const struct value *b)
{
    struct value *keys, x, y;
    uint32_t n;
    if (value_length(a) != value_length(b) || value_items(r, a, &keys, &n) != RC_OK)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!dict_get(a, &keys[i], &x) || !dict_get(b, &keys[i], &y) || !value_equal(r, &x, &y))
            return false;
    return true;
}

bool value_equal(struct render *r, const struct value *a, const struct value *b)
{
    bool equal;
    if (r->depth > TEMPLATE_DEPTH_MAX || render_spend(r, 1) != RC_OK)
        return false;
    r->depth++;
    if (value_is_list(a))
        equal = value_is_list(b) && lists_equal(r, a, b);
    else if (value_is_mapping(a))
        equal = value_is_mapping(b) && dicts_equal(r, a, b);
    else if (a->kind >= VALUE_NAMESPACE)
        equal = a->kind == b->kind && a->p == b->p;
    else
        equal = scalar_equal(a, b);
    r->depth--;
    return equal;
}

enum rc value_order(struct render *r, const struct value *a, const struct value *b, int *out)
{
    double x, y;
    if (a->kind == VALUE_TEXT && b->kind == VALUE_TEXT) {
        *out = str_cmp(value_str(a), value_str(b));
        return RC_OK;
    }
    if (value_is_number(a, &x) && value_is_number(b, &y)) {
        *out = x < y ? -1 : x > y;
        return RC_OK;
    }
    if (!value_is_list(a) || !value_is_list(b) || r->depth > TEMPLATE_DEPTH_MAX)
        return render_fail(r, ERR_INVALID, "%s and %s have no order", value_kind_name(a),
                           value_kind_name(b));
    struct value *p, *q;
    uint32_t n, m;
    enum rc rc = value_items(r, a, &p, &n);
    if (rc == RC_OK)
        rc = value_items(r, b, &q, &m);
    *out = 0;
    r->depth++;
    for (uint32_t i = 0; rc == RC_OK && *out == 0 && i < MIN(n, m); i++)
        if (!value_equal(r, &p[i], &q[i]))
            rc = value_order(r, &p[i], &q[i], out);
    r->depth--;
    if (rc == RC_OK && *out == 0)
        *out = n < m ? -1 : n > m;
    return rc;
}

enum rc value_contains(struct render *r, const struct value *in, const struct value *what,
                       bool *out)
{
    struct value ignored, *items;
    uint32_t count;
    enum rc rc;
    *out = false;
    if (in->kind == VALUE_TEXT) {
        if (what->kind != VALUE_TEXT)
            return render_fail(r, ERR_INVALID, "only a text can be in a text, not %s",
                               value_kind_name(what));
        *out = str_find(value_str(in), value_str(what)) >= 0;
        return render_spend(r, in->n / 64);
    }
    if (value_is_mapping(in)) {
        *out = dict_get(in, what, &ignored);
        return render_spend(r, (size_t)value_length(in) / 8);
    }
    if ((rc = value_items(r, in, &items, &count)) != RC_OK)
        return rc;
    for (uint32_t i = 0; i < count && !*out; i++)
        *out = value_equal(r, &items[i], what);
    return r->steps < 0 ? render_spend(r, 1) : RC_OK;
}

/* ---- access ---- */

bool value_member(const struct value *v, struct str name, struct value *out)
{
    if (v->kind == VALUE_OBJECT) {
        yyjson_val *found = yyjson_obj_getn(v->json, name.p, name.n);
        if (found)
            *out = value_from_json(found);
        return found;
    }
    if (v->kind == VALUE_DICT || v->kind == VALUE_NAMESPACE) {
        for (uint32_t i = 0; i < v->dict->count; i++) {
            if (same_text(&v->dict->keys[i], name)) {
                *out = v->dict->values[i];
                return true;
            }
        }
    }
    return false;
}

/* Jinja2 asks for Python's attribute first, and for the member then. */
enum rc value_attribute(struct render *r, const struct value *v, struct str name, struct value *out)
{
    int owner = v->kind == VALUE_TEXT ? METHOD_OF_TEXT
                : value_is_list(v)    ? METHOD_OF_LIST
                : value_is_mapping(v) ? METHOD_OF_DICT
                                      : -1;
    if (v->kind == VALUE_UNDEFINED)
        return render_fail(r, ERR_INVALID, "\"%.*s\" is undefined, so it has no \"%.*s\"",
                           STR_ARG(value_str(v)), STR_ARG(name));
    if (owner >= 0 && template_method_known((enum method_owner)owner, name)) {
        struct value_method *method = ARENA_NEW(r->arena, struct value_method);
        if (!method)
            return render_no_memory(r);
        *method =
            (struct value_method){*v, template_method_find((enum method_owner)owner, name), name};
        *out = (struct value){.kind = VALUE_METHOD, .method = method};
        return RC_OK;
    }
    if (v->kind == VALUE_MACRO && str_eq(name, STR("name"))) {
        *out = value_text(v->macro->node->name);
        return RC_OK;
    }
    if (!value_member(v, name, out))
        *out = value_undefined(name);
    return RC_OK;
}

/* Where the character `index` starts; the end if there are fewer. */
static size_t character_offset(struct str s, int64_t index)
{
    size_t at = 0;
    while (at < s.n && index-- > 0)
        for (at++; at < s.n && (s.p[at] & 0xc0) == 0x80;)
            at++;
    return at;
}

static bool list_item(const struct value *v, int64_t index, struct value *out)
{
    int64_t length = value_length(v);
    if (index < 0)
        index += length;
    if (index < 0 || index >= length)
        return false;
    if (v->kind == VALUE_ARRAY) {
        *out = value_from_json(yyjson_arr_get(v->json, (size_t)index));
    } else if (v->kind == VALUE_LIST) {
        *out = v->list->items[index];
    } else {
        size_t start = character_offset(value_str(v), index);
        struct str rest = str_slice(value_str(v), start, v->n);
        *out = value_text(str_slice(rest, 0, character_offset(rest, 1)));
    }
    return true;
}

enum rc value_item(struct render *r, const struct value *v, const struct value *key,
                   struct value *out)
{
    bool found = false, number = key->kind == VALUE_INT || key->kind == VALUE_BOOL;
    if (v->kind == VALUE_UNDEFINED)
        return render_fail(r, ERR_INVALID, "\"%.*s\" is undefined, so it has no items",
                           STR_ARG(value_str(v)));
    if (value_is_mapping(v))
        found = dict_get(v, key, out);
    else if ((value_is_list(v) || v->kind == VALUE_TEXT) && number)
        found = list_item(v, key->kind == VALUE_INT ? key->integer : key->boolean, out);
    if (found)
        return RC_OK;
    if (key->kind == VALUE_TEXT)
        return value_attribute(r, v, value_str(key), out);
    *out = value_undefined(STR("the item"));
    return RC_OK;
}

/* Python's slice.indices() */
static bool slice_bounds(const struct value bounds[3], int64_t length, int64_t *start,
                         int64_t *stop, int64_t *step)
{
    int64_t given[3];
    for (size_t i = 0; i < 3; i++) {
        if (bounds[i].kind != VALUE_INT && bounds[i].kind != VALUE_NONE)
            return false;
        given[i] = bounds[i].kind == VALUE_INT
                       ? MAX(MIN(bounds[i].integer, INT32_MAX), (int64_t)INT32_MIN)
                       : 0;
    }
    *step = bounds[2].kind == VALUE_INT ? given[2] : 1;
    if (*step == 0)
        return false;
    int64_t low = *step > 0 ? 0 : -1, high = *step > 0 ? length : length - 1;
    int64_t *ends[] = {start, stop};
    for (size_t i = 0; i < 2; i++) {
        bool open = bounds[i].kind == VALUE_NONE;
        int64_t at = given[i] < 0 ? given[i] + length : given[i];
        *ends[i] = open ? ((i == 0) == (*step > 0) ? low : high) : MAX(low, MIN(at, high));
    }
    return true;
}

enum rc value_slice(struct render *r, const struct value *v, const struct value bounds[3],
                    struct value *out)
{
    int64_t start, stop, step;
    struct value *items;
    uint32_t count;
    enum rc rc;
    if (v->kind == VALUE_UNDEFINED || (v->kind != VALUE_TEXT && !value_is_list(v)))
        return render_fail(r, ERR_INVALID, "a value of type %s cannot be sliced",
                           value_kind_name(v));
    if (!slice_bounds(bounds, value_length(v), &start, &stop, &step))
        return render_fail(r, ERR_INVALID, "a slice's bounds are whole numbers, its step not 0");
    if (v->kind == VALUE_TEXT && step == 1) {
        size_t from = character_offset(value_str(v), start);
        struct str rest = str_slice(value_str(v), from, v->n);
        *out =
            value_text(str_slice(rest, 0, character_offset(rest, stop > start ? stop - start : 0)));
        return RC_OK;
    }
    struct value list;
    if ((rc = value_items(r, v, &items, &count)) != RC_OK ||
        (rc = value_list_new(r, 8, &list)) != RC_OK)
        return rc;
    for (int64_t i = start; (step > 0 ? i < stop : i > stop) && rc == RC_OK; i += step)
        rc = value_list_add(r, list.list, items[i]);
    list.list->tuple = v->kind == VALUE_LIST && v->list->tuple;
    *out = list;
    if (rc != RC_OK || v->kind != VALUE_TEXT)
        return rc;
    size_t begin = render_capture_begin(r);
    for (uint32_t i = 0; i < list.list->count && rc == RC_OK; i++)
        rc = render_write(r, value_str(&list.list->items[i]));
    struct str text;
    if (rc == RC_OK)
        rc = render_capture_end(r, begin, &text);
    else
        render_capture_abandon(r, begin);
    if (rc == RC_OK)
        *out = value_text(text);
    return rc;
}
