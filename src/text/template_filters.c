/* The filters of templates: a fixed table, Jinja2's semantics; `tojson` writes as Hugging Face's
 * chat templates expect it (json.dumps without HTML's escapes), `from_json` reads. */
#include "text/template_private.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

static bool given(const struct value *v) { return v->kind != VALUE_MISSING; }

static bool flag(const struct value *v) { return given(v) && value_is_true(v); }

/* ---- texts ---- */

static enum rc as_text(struct render *r, const struct value *v, struct str *out)
{
    return value_to_text(r, v, out);
}

static enum rc filter_upper(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    return rc == RC_OK ? template_change_case(r, s, CASE_UPPER, out) : rc;
}

static enum rc filter_lower(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    return rc == RC_OK ? template_change_case(r, s, CASE_LOWER, out) : rc;
}

static enum rc filter_title(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    return rc == RC_OK ? template_change_case(r, s, CASE_TITLE, out) : rc;
}

static enum rc filter_capitalize(struct render *r, struct value *args, size_t count,
                                 struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    return rc == RC_OK ? template_change_case(r, s, CASE_CAPITAL, out) : rc;
}

static enum rc filter_trim(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    if (rc == RC_OK)
        *out = value_text(template_strip(s, &args[1], true, true));
    return rc;
}

static enum rc filter_string(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    *out = value_text(s);
    return rc;
}

static enum rc filter_safe(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = filter_string(r, args, count, out);
    out->safe = true;
    return rc;
}

static enum rc filter_escape(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    if (rc == RC_OK && !args[0].safe)
        rc = value_escape_html(r, s, &s);
    *out = value_text(s);
    out->safe = true;
    return rc;
}

static enum rc filter_replace(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s, old, new;
    enum rc rc = as_text(r, &args[0], &s);
    if (rc == RC_OK)
        rc = as_text(r, &args[1], &old);
    if (rc == RC_OK)
        rc = as_text(r, &args[2], &new);
    int64_t limit = args[3].kind == VALUE_INT && args[3].integer >= 0 ? args[3].integer : INT64_MAX;
    return rc == RC_OK ? template_replace(r, s, old, new, limit, out) : rc;
}

static enum rc filter_format(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    return rc == RC_OK ? value_format_percent(r, s, args + 1, count - 1, out) : rc;
}

static enum rc write_indented(struct render *r, struct str s, struct str indent, bool first,
                              bool blank)
{
    enum rc rc = first ? render_write(r, indent) : RC_OK;
    for (bool later = false; rc == RC_OK; later = true) {
        ssize_t end = str_find_char(s, '\n');
        struct str line = end < 0 ? s : str_slice(s, 0, (size_t)end);
        if (later && (line.n || blank))
            rc = render_write(r, indent);
        if (rc == RC_OK)
            rc = render_write(r, line);
        if (end < 0)
            break;
        s = str_slice(s, (size_t)end + 1, s.n);
        if (rc == RC_OK)
            rc = render_write(r, STR("\n"));
    }
    return rc;
}

static enum rc filter_indent(struct render *r, struct value *args, size_t count, struct value *out)
{
    static const char spaces[] = "                                                                ";
    struct str s, indent = str_make(spaces, 4);
    enum rc rc = as_text(r, &args[0], &s);
    if (rc != RC_OK)
        return rc;
    if (args[1].kind == VALUE_TEXT)
        indent = value_str(&args[1]);
    else if (args[1].kind == VALUE_INT)
        indent.n = (size_t)MAX(MIN(args[1].integer, (int64_t)sizeof(spaces) - 1), 0);
    size_t start = render_capture_begin(r);
    rc = write_indented(r, s, indent, flag(&args[2]), flag(&args[3]));
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    rc = render_capture_end(r, start, &s);
    *out = value_text(s);
    return rc;
}

/* Jinja2's truncate: cut at `length` characters with `end`, unless little would be cut. */
static enum rc filter_truncate(struct render *r, struct value *args, size_t count,
                               struct value *out)
{
    struct str s, end = given(&args[3]) ? value_str(&args[3]) : STR("...");
    int64_t length = args[1].kind == VALUE_INT ? args[1].integer : 255;
    int64_t leeway = args[4].kind == VALUE_INT ? args[4].integer : 5;
    enum rc rc = as_text(r, &args[0], &s);
    struct value whole = value_text(s), end_value = value_text(end), cut;
    if (rc != RC_OK || value_length(&whole) <= length + leeway) {
        *out = whole;
        return rc;
    }
    struct value bounds[3] = {value_none(), value_int(MAX(length - value_length(&end_value), 0)),
                              value_none()};
    if ((rc = value_slice(r, &whole, bounds, &cut)) != RC_OK)
        return rc;
    if (!flag(&args[2])) { /* at the last space */
        ssize_t space = str_rfind_char(value_str(&cut), ' ');
        cut.n = space >= 0 ? (uint32_t)space : cut.n;
    }
    struct str text = arena_concat(r->arena, value_str(&cut), end);
    if (!text.p)
        return render_no_memory(r);
    *out = value_text(text);
    return RC_OK;
}

static enum rc filter_wordcount(struct render *r, struct value *args, size_t count,
                                struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    int64_t words = 0;
    bool inside = false;
    for (size_t i = 0; rc == RC_OK && i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool word = c == '_' || c >= 0x80 || (c >= '0' && c <= '9') ||
                    ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        words += word && !inside;
        inside = word;
    }
    *out = value_int(words);
    return rc;
}

static enum rc filter_urlencode(struct render *r, struct value *args, size_t count,
                                struct value *out)
{
    struct str s;
    enum rc rc = as_text(r, &args[0], &s);
    if (rc != RC_OK)
        return rc;
    char *p = arena_alloc(r->arena, s.n * 3 + 1);
    size_t n = 0;
    if (!p)
        return render_no_memory(r);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                     (c && strchr("-_.~/", c));
        if (plain) {
            p[n++] = (char)c;
        } else {
            p[n++] = '%';
            p[n++] = "0123456789ABCDEF"[c >> 4];
            p[n++] = "0123456789ABCDEF"[c & 15];
        }
    }
    *out = value_text(str_make(p, n));
    return RC_OK;
}

/* ---- JSON ---- */

static enum rc separators(struct render *r, const struct value *v, struct json_style *style)
{
    struct value *items;
    uint32_t n;
    if (!given(v) || v->kind == VALUE_NONE)
        return RC_OK;
    enum rc rc = value_items(r, v, &items, &n);
    if (rc != RC_OK)
        return rc;
    if (n != 2 || items[0].kind != VALUE_TEXT || items[1].kind != VALUE_TEXT)
        return render_fail(r, ERR_INVALID, "tojson: separators are two texts");
    style->item_separator = value_str(&items[0]);
    style->key_separator = value_str(&items[1]);
    return RC_OK;
}

static enum rc filter_tojson(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct json_style style = {.item_separator = STR(", "),
                               .key_separator = STR(": "),
                               .indent = -1,
                               .ascii = flag(&args[1]),
                               .sort_keys = flag(&args[4])};
    struct str text;
    if (args[2].kind == VALUE_INT) {
        style.indent = (int)MAX(MIN(args[2].integer, 64), 0);
        style.item_separator = STR(",");
    }
    enum rc rc = separators(r, &args[3], &style);
    if (rc != RC_OK)
        return rc;
    size_t start = render_capture_begin(r);
    rc = value_write_json(r, &args[0], &style, 0);
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}

static enum rc filter_from_json(struct render *r, struct value *args, size_t count,
                                struct value *out)
{
    yyjson_doc *doc;
    struct err err;
    if (args[0].kind != VALUE_TEXT)
        return render_fail(r, ERR_INVALID, "from_json needs a text");
    if (json_read(value_str(&args[0]), r->arena, &doc, &err) != RC_OK)
        return render_fail(r, ERR_INVALID, "from_json: %s", err.message);
    *out = value_from_json(yyjson_doc_get_root(doc));
    return render_spend(r, args[0].n / 16);
}

/* ---- numbers ---- */

static enum rc filter_abs(struct render *r, struct value *args, size_t count, struct value *out)
{
    *out = args[0];
    if (args[0].kind == VALUE_INT && args[0].integer != INT64_MIN)
        out->integer = llabs(args[0].integer);
    else if (args[0].kind == VALUE_FLOAT)
        out->number = fabs(args[0].number);
    else
        return render_fail(r, ERR_INVALID, "abs needs a number");
    return RC_OK;
}

static bool number_of(const struct value *v, double *out)
{
    return value_is_number(v, out) ||
           (v->kind == VALUE_TEXT && str_to_double(str_trim(value_str(v)), out) == RC_OK);
}

static enum rc filter_int(struct render *r, struct value *args, size_t count, struct value *out)
{
    int64_t whole;
    double number;
    struct str text = args[0].kind == VALUE_TEXT ? str_trim(value_str(&args[0])) : STR_EMPTY;
    if (args[0].kind == VALUE_INT)
        *out = args[0];
    else if (text.n && str_to_i64(text, &whole) == RC_OK)
        *out = value_int(whole);
    else if (number_of(&args[0], &number) && fabs(number) < 9.2e18)
        *out = value_int((int64_t)number);
    else
        *out = given(&args[1]) ? args[1] : value_int(0);
    return RC_OK;
}

static enum rc filter_float(struct render *r, struct value *args, size_t count, struct value *out)
{
    double number;
    *out = number_of(&args[0], &number) ? value_float(number)
           : given(&args[1])            ? args[1]
                                        : value_float(0);
    return RC_OK;
}

static enum rc filter_round(struct render *r, struct value *args, size_t count, struct value *out)
{
    double number;
    int64_t precision = args[1].kind == VALUE_INT ? MAX(MIN(args[1].integer, 15), -15) : 0;
    struct str method = given(&args[2]) ? value_str(&args[2]) : STR("common");
    double scale = pow(10, (double)precision);
    if (!value_is_number(&args[0], &number))
        return render_fail(r, ERR_INVALID, "round needs a number");
    if (str_eq(method, STR("ceil")))
        number = ceil(number * scale) / scale;
    else if (str_eq(method, STR("floor")))
        number = floor(number * scale) / scale;
    else
        number = rint(number * scale) / scale; /* half to even, as Python does */
    *out = args[0].kind == VALUE_INT && !given(&args[2]) ? args[0] : value_float(number);
    return RC_OK;
}

/* ---- any values ---- */

static enum rc filter_default(struct render *r, struct value *args, size_t count, struct value *out)
{
    bool absent = args[0].kind == VALUE_UNDEFINED || (flag(&args[2]) && !value_is_true(&args[0]));
    *out = !absent ? args[0] : given(&args[1]) ? args[1] : value_text(STR(""));
    return RC_OK;
}

static enum rc filter_length(struct render *r, struct value *args, size_t count, struct value *out)
{
    *out = value_int(value_length(&args[0]));
    return out->integer >= 0 ? render_spend(r, args[0].kind == VALUE_TEXT ? args[0].n / 64 : 0)
                             : render_fail(r, ERR_INVALID, "a value of type %s has no length",
                                           value_kind_name(&args[0]));
}

static enum rc filter_items(struct render *r, struct value *args, size_t count, struct value *out)
{
    if (args[0].kind == VALUE_UNDEFINED)
        return value_list_new(r, 0, out);
    return value_pairs(r, &args[0], out);
}

/* A dotted path, as attribute= takes it. */
static enum rc get_path(struct render *r, const struct value *v, const struct value *path,
                        struct value *out)
{
    struct str rest = value_str(path), part;
    enum rc rc = RC_OK;
    *out = *v;
    if (path->kind == VALUE_INT)
        return value_item(r, v, path, out);
    while (rc == RC_OK && str_split(&rest, '.', &part)) {
        struct value key = value_text(part), from = *out;
        int64_t index;
        if (str_to_i64(part, &index) == RC_OK)
            key = value_int(index);
        if (from.kind == VALUE_UNDEFINED) /* like Jinja2's default: stays undefined */
            break;
        rc = value_item(r, &from, &key, out);
    }
    return rc;
}

static enum rc filter_attr(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct str name = value_str(&args[1]);
    return value_attribute(r, &args[0], name, out);
}

static enum rc first_or_last(struct render *r, struct value *args, bool first, struct value *out)
{
    struct value *items;
    uint32_t n;
    enum rc rc = value_items(r, &args[0], &items, &n);
    if (rc == RC_OK)
        *out = n ? items[first ? 0 : n - 1] : value_undefined(first ? STR("first") : STR("last"));
    return rc;
}

static enum rc filter_first(struct render *r, struct value *args, size_t count, struct value *out)
{
    return first_or_last(r, args, true, out);
}

static enum rc filter_last(struct render *r, struct value *args, size_t count, struct value *out)
{
    return first_or_last(r, args, false, out);
}

static enum rc copy_items(struct render *r, const struct value *v, struct value *out)
{
    struct value *items;
    uint32_t n;
    enum rc rc = value_items(r, v, &items, &n);
    if (rc == RC_OK)
        rc = value_list_new(r, n, out);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++)
        rc = value_list_add(r, out->list, items[i]);
    return rc;
}

static enum rc filter_list(struct render *r, struct value *args, size_t count, struct value *out)
{
    return copy_items(r, &args[0], out);
}

static enum rc filter_reverse(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value bounds[3] = {value_none(), value_none(), value_int(-1)}, list;
    if (args[0].kind == VALUE_TEXT)
        return value_slice(r, &args[0], bounds, out);
    enum rc rc = copy_items(r, &args[0], &list);
    return rc == RC_OK ? value_slice(r, &list, bounds, out) : rc;
}

static enum rc filter_join(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value list;
    enum rc rc = copy_items(r, &args[0], &list);
    for (uint32_t i = 0; rc == RC_OK && given(&args[2]) && i < list.list->count; i++) {
        struct value item = list.list->items[i];
        rc = get_path(r, &item, &args[2], &list.list->items[i]);
    }
    struct str separator = STR("");
    if (rc == RC_OK && given(&args[1]))
        rc = as_text(r, &args[1], &separator);
    return rc == RC_OK ? template_join(r, list.list->items, list.list->count, separator, true, out)
                       : rc;
}

static enum rc filter_batch(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value *items, row = {0};
    uint32_t n;
    int64_t size = args[1].kind == VALUE_INT ? args[1].integer : 0;
    enum rc rc = value_items(r, &args[0], &items, &n);
    if (rc == RC_OK && size < 1)
        return render_fail(r, ERR_INVALID, "batch needs a size");
    if (rc == RC_OK)
        rc = value_list_new(r, 4, out);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        if (i % size == 0 && ((rc = value_list_new(r, 4, &row)) != RC_OK ||
                              (rc = value_list_add(r, out->list, row)) != RC_OK))
            return rc;
        rc = value_list_add(r, row.list, items[i]);
    }
    while (rc == RC_OK && n && given(&args[2]) && row.list->count < size)
        rc = value_list_add(r, row.list, args[2]);
    return rc;
}

/* ---- selecting and mapping ---- */

/* As Jinja2's: whatever counts as false has no items, even none and 0. */
static enum rc items_if_true(struct render *r, const struct value *v, struct value **items,
                             uint32_t *count)
{
    *items = NULL;
    *count = 0;
    return value_is_true(v) ? value_items(r, v, items, count) : RC_OK;
}

/* map('filter', …) or map(attribute='a.b', default=…) */
static enum rc filter_map(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value *items;
    uint32_t n;
    bool by_attribute = !given(&args[1]);
    const struct template_function *filter =
        args[1].kind == VALUE_TEXT ? template_filter_find(value_str(&args[1])) : NULL;
    if (by_attribute ? args[2].kind != VALUE_TEXT && args[2].kind != VALUE_INT : !filter)
        return render_fail(r, ERR_INVALID, "map needs a filter's name or attribute=");
    size_t more = by_attribute ? 0 : count - 2;
    while (more && !given(&args[1 + more]))
        more--;
    enum rc rc = items_if_true(r, &args[0], &items, &n);
    if (rc == RC_OK)
        rc = value_list_new(r, n, out);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        struct value call[TEMPLATE_ARGS_MAX + 2] = {items[i]}, result;
        if (by_attribute) {
            rc = get_path(r, &items[i], &args[2], &result);
            if (result.kind == VALUE_UNDEFINED && given(&args[3]))
                result = args[3];
        } else {
            memcpy(call + 1, args + 2, more * sizeof(*args));
            rc = render_call_function(r, filter, call, more + 1, NULL, more + 1, &result);
        }
        if (rc == RC_OK)
            rc = value_list_add(r, out->list, result);
    }
    return rc;
}

/* select, reject, selectattr, rejectattr: `test` is the index of the test's name in args. */
static enum rc choose(struct render *r, struct value *args, size_t count, size_t test, bool keep,
                      struct value *out)
{
    struct value *items;
    uint32_t n;
    const struct template_function *function = NULL;
    size_t more = 0;
    if (given(&args[test])) {
        if (args[test].kind != VALUE_TEXT ||
            !(function = template_test_find(value_str(&args[test]))))
            return render_fail(r, ERR_INVALID, "there is no such test");
        more = count - test - 1;
    }
    enum rc rc = items_if_true(r, &args[0], &items, &n);
    if (rc == RC_OK)
        rc = value_list_new(r, 4, out);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        struct value call[TEMPLATE_ARGS_MAX + 2] = {items[i]}, holds = items[i];
        if (test == 2 && (rc = get_path(r, &items[i], &args[1], &call[0])) != RC_OK)
            return rc;
        holds = call[0];
        memcpy(call + 1, args + test + 1, more * sizeof(*args));
        if (function)
            rc = render_call_function(r, function, call, more + 1, NULL, more + 1, &holds);
        if (rc == RC_OK && value_is_true(&holds) == keep)
            rc = value_list_add(r, out->list, items[i]);
    }
    return rc;
}

static enum rc filter_select(struct render *r, struct value *args, size_t count, struct value *out)
{
    return choose(r, args, count, 1, true, out);
}

static enum rc filter_reject(struct render *r, struct value *args, size_t count, struct value *out)
{
    return choose(r, args, count, 1, false, out);
}

static enum rc filter_selectattr(struct render *r, struct value *args, size_t count,
                                 struct value *out)
{
    return choose(r, args, count, 2, true, out);
}

static enum rc filter_rejectattr(struct render *r, struct value *args, size_t count,
                                 struct value *out)
{
    return choose(r, args, count, 2, false, out);
}

/* ---- order ---- */

struct keyed {
    struct value key, item;
};

/* What items are compared by: an attribute, without case unless asked for. */
static enum rc make_keys(struct render *r, const struct value *v, const struct value *attribute,
                         bool with_case, struct keyed **out, uint32_t *count)
{
    struct value *items;
    enum rc rc = value_items(r, v, &items, count);
    if (rc != RC_OK)
        return rc;
    if (!(*out = ARENA_NEW_ARRAY(r->arena, struct keyed, (size_t)*count + 1)))
        return render_no_memory(r);
    for (uint32_t i = 0; i < *count && rc == RC_OK; i++) {
        (*out)[i] = (struct keyed){items[i], items[i]};
        if (given(attribute) && attribute->kind != VALUE_NONE)
            rc = get_path(r, &items[i], attribute, &(*out)[i].key);
        if (rc == RC_OK && !with_case && (*out)[i].key.kind == VALUE_TEXT)
            rc = template_change_case(r, value_str(&(*out)[i].key), CASE_LOWER, &(*out)[i].key);
    }
    return rc;
}

/* Stable merge sort, from the bottom up. */
static enum rc sort_keyed(struct render *r, struct keyed *items, uint32_t count, bool reverse)
{
    struct keyed *from = items, *to = ARENA_NEW_ARRAY(r->arena, struct keyed, (size_t)count + 1);
    if (!to)
        return render_no_memory(r);
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t a = start, middle = MIN(start + width, count), b = middle;
            size_t end = MIN(start + 2 * width, count);
            for (size_t i = start; i < end; i++) {
                int order = 0;
                bool right = a == middle;
                if (a < middle && b < end) {
                    enum rc rc = value_order(r, &from[b].key, &from[a].key, &order);
                    if (rc == RC_OK)
                        rc = render_spend(r, 1);
                    if (rc != RC_OK)
                        return rc;
                    right = reverse ? order > 0 : order < 0;
                }
                to[i] = from[right ? b++ : a++];
            }
        }
        struct keyed *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != items)
        memcpy(items, from, count * sizeof(*items));
    return RC_OK;
}

static enum rc keyed_list(struct render *r, const struct keyed *items, uint32_t count,
                          struct value *out)
{
    enum rc rc = value_list_new(r, count, out);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++)
        rc = value_list_add(r, out->list, items[i].item);
    return rc;
}

static enum rc filter_sort(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct keyed *items;
    uint32_t n;
    enum rc rc = make_keys(r, &args[0], &args[3], flag(&args[2]), &items, &n);
    if (rc == RC_OK)
        rc = sort_keyed(r, items, n, flag(&args[1]));
    return rc == RC_OK ? keyed_list(r, items, n, out) : rc;
}

static enum rc filter_dictsort(struct render *r, struct value *args, size_t count,
                               struct value *out)
{
    struct value pairs, by = value_int(0);
    struct keyed *items;
    uint32_t n;
    if (given(&args[2]) && str_eq(value_str(&args[2]), STR("value")))
        by = value_int(1);
    enum rc rc = value_pairs(r, &args[0], &pairs);
    if (rc == RC_OK)
        rc = make_keys(r, &pairs, &by, flag(&args[1]), &items, &n);
    if (rc == RC_OK)
        rc = sort_keyed(r, items, n, flag(&args[3]));
    return rc == RC_OK ? keyed_list(r, items, n, out) : rc;
}

static enum rc filter_unique(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct keyed *items;
    uint32_t n, kept = 0;
    enum rc rc = make_keys(r, &args[0], &args[2], flag(&args[1]), &items, &n);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        uint32_t k = 0;
        while (k < kept && !value_equal(r, &items[k].key, &items[i].key))
            k++;
        if (k == kept)
            items[kept++] = items[i];
        rc = render_spend(r, 1);
    }
    return rc == RC_OK ? keyed_list(r, items, kept, out) : rc;
}

static enum rc extreme(struct render *r, struct value *args, int sign, struct value *out)
{
    struct keyed *items;
    uint32_t n;
    enum rc rc = make_keys(r, &args[0], &args[2], flag(&args[1]), &items, &n);
    if (rc != RC_OK)
        return rc;
    *out = n ? items[0].item : value_undefined(STR("the empty list's item"));
    for (uint32_t i = 1, best = 0; rc == RC_OK && i < n; i++) {
        int order = 0;
        rc = value_order(r, &items[i].key, &items[best].key, &order);
        if (order * sign > 0) {
            best = i;
            *out = items[i].item;
        }
    }
    return rc;
}

static enum rc filter_min(struct render *r, struct value *args, size_t count, struct value *out)
{
    return extreme(r, args, -1, out);
}

static enum rc filter_max(struct render *r, struct value *args, size_t count, struct value *out)
{
    return extreme(r, args, 1, out);
}

static enum rc filter_sum(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value *items;
    uint32_t n;
    enum rc rc = value_items(r, &args[0], &items, &n);
    *out = given(&args[2]) ? args[2] : value_int(0);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        struct value item = items[i], sum = *out;
        if (given(&args[1]) && args[1].kind != VALUE_NONE)
            rc = get_path(r, &items[i], &args[1], &item);
        if (rc == RC_OK)
            rc = value_binary(r, NODE_ADD, &sum, &item, out);
    }
    return rc;
}

static const struct template_function filters[] = {
    {"abs", "value", filter_abs},
    {"attr", "value,name", filter_attr},
    {"batch", "value,linecount,fill_with=", filter_batch},
    {"capitalize", "value", filter_capitalize},
    {"count", "value", filter_length},
    {"d", "value,default_value=,boolean=", filter_default},
    {"default", "value,default_value=,boolean=", filter_default},
    {"dictsort", "value,case_sensitive=,by=,reverse=", filter_dictsort},
    {"e", "value", filter_escape},
    {"escape", "value", filter_escape},
    {"first", "value", filter_first},
    {"float", "value,default=", filter_float},
    {"format", "value,...", filter_format},
    {"from_json", "value", filter_from_json},
    {"indent", "value,width=,first=,blank=", filter_indent},
    {"int", "value,default=", filter_int},
    {"items", "value", filter_items},
    {"join", "value,d=,attribute=", filter_join},
    {"last", "value", filter_last},
    {"length", "value", filter_length},
    {"list", "value", filter_list},
    {"lower", "value", filter_lower},
    {"map", "value,filter=,attribute=,default=,...", filter_map},
    {"max", "value,case_sensitive=,attribute=", filter_max},
    {"min", "value,case_sensitive=,attribute=", filter_min},
    {"reject", "value,test=,...", filter_reject},
    {"rejectattr", "value,attribute,test=,...", filter_rejectattr},
    {"replace", "value,old,new,count=", filter_replace},
    {"reverse", "value", filter_reverse},
    {"round", "value,precision=,method=", filter_round},
    {"safe", "value", filter_safe},
    {"select", "value,test=,...", filter_select},
    {"selectattr", "value,attribute,test=,...", filter_selectattr},
    {"sort", "value,reverse=,case_sensitive=,attribute=", filter_sort},
    {"string", "value", filter_string},
    {"sum", "value,attribute=,start=", filter_sum},
    {"title", "value", filter_title},
    {"tojson", "value,ensure_ascii=,indent=,separators=,sort_keys=", filter_tojson},
    {"trim", "value,chars=", filter_trim},
    {"truncate", "value,length=,killwords=,end=,leeway=", filter_truncate},
    {"unique", "value,case_sensitive=,attribute=", filter_unique},
    {"upper", "value", filter_upper},
    {"urlencode", "value", filter_urlencode},
    {"wordcount", "value", filter_wordcount},
};

const struct template_function *template_filter_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(filters); i++)
        if (str_eq(str_from(filters[i].name), name))
            return &filters[i];
    return NULL;
}
