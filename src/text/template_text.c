/* Values of templates as text: Python's str() and repr(), and json.dumps. */
#include "text/template_private.h"
#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Python's repr of a float: the shortest digits that read back the same. */
static struct str float_text(double d, char out[40])
{
    char digits[40];
    int precision = 1;
    if (isnan(d))
        return STR("nan");
    if (isinf(d))
        return d > 0 ? STR("inf") : STR("-inf");
    do
        snprintf(digits, sizeof(digits), "%.*e", precision - 1, d);
    while (strtod(digits, NULL) != d && ++precision <= 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        snprintf(out, 40, "%.*e", precision - 1, d);
    } else {
        int decimals = MAX(precision - 1 - exponent, 1);
        snprintf(out, 40, "%.*f", decimals, d);
    }
    return str_from(out);
}

static enum rc write_repr_text(struct render *r, struct str s)
{
    bool single = str_find_char(s, '\'') >= 0 && str_find_char(s, '"') < 0;
    struct str quote = single ? STR("\"") : STR("'");
    enum rc rc = render_write(r, quote);
    size_t plain = 0;
    for (size_t i = 0; i <= s.n && rc == RC_OK; i++) {
        char escape[8] = "";
        unsigned char c = i < s.n ? (unsigned char)s.p[i] : 0;
        if (i < s.n && c >= ' ' && c != 0x7f && c != '\\' && (char)c != quote.p[0])
            continue;
        rc = render_write(r, str_slice(s, plain, i));
        plain = i + 1;
        if (i == s.n)
            break;
        if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof(escape), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c == '\\' || (char)c == quote.p[0])
            snprintf(escape, sizeof(escape), "\\%c", c);
        else
            snprintf(escape, sizeof(escape), "\\x%02x", c);
        if (rc == RC_OK)
            rc = render_write(r, str_from(escape));
    }
    return rc == RC_OK ? render_write(r, quote) : rc;
}

static enum rc write_repr_list(struct render *r, const struct value *v)
{
    struct value *items;
    uint32_t count;
    bool tuple = v->kind == VALUE_LIST && v->list->tuple;
    enum rc rc = value_items(r, v, &items, &count);
    if (rc == RC_OK)
        rc = render_write(r, tuple ? STR("(") : STR("["));
    for (uint32_t i = 0; i < count && rc == RC_OK; i++) {
        if (i)
            rc = render_write(r, STR(", "));
        if (rc == RC_OK)
            rc = value_write_repr(r, &items[i]);
    }
    if (rc != RC_OK)
        return rc;
    return render_write(r, !tuple ? STR("]") : count == 1 ? STR(",)") : STR(")"));
}

static enum rc write_repr_dict(struct render *r, const struct value *v)
{
    struct value pairs;
    enum rc rc = value_pairs(r, v, &pairs);
    if (rc == RC_OK)
        rc = render_write(r, STR("{"));
    for (uint32_t i = 0; rc == RC_OK && i < pairs.list->count; i++) {
        const struct value *pair = pairs.list->items[i].list->items;
        if (i)
            rc = render_write(r, STR(", "));
        if (rc == RC_OK)
            rc = value_write_repr(r, &pair[0]);
        if (rc == RC_OK)
            rc = render_write(r, STR(": "));
        if (rc == RC_OK)
            rc = value_write_repr(r, &pair[1]);
    }
    return rc == RC_OK ? render_write(r, STR("}")) : rc;
}

static enum rc write_scalar(struct render *r, const struct value *v)
{
    char text[40];
    switch (v->kind) {
    case VALUE_UNDEFINED:
    case VALUE_MISSING: return RC_OK;
    case VALUE_NONE: return render_write(r, STR("None"));
    case VALUE_BOOL: return render_write(r, v->boolean ? STR("True") : STR("False"));
    case VALUE_INT:
        snprintf(text, sizeof(text), "%lld", (long long)v->integer);
        return render_write(r, str_from(text));
    case VALUE_FLOAT: return render_write(r, float_text(v->number, text));
    default:
        snprintf(text, sizeof(text), "<%s>", value_kind_name(v));
        return render_write(r, str_from(text));
    }
}

enum rc value_write_repr(struct render *r, const struct value *v)
{
    enum rc rc = render_spend(r, 1);
    if (rc == RC_OK && ++r->depth > TEMPLATE_DEPTH_MAX)
        rc = render_fail(r, ERR_TOO_LARGE, "a value nests too deep to be written");
    if (rc == RC_OK) {
        if (v->kind == VALUE_TEXT)
            rc = write_repr_text(r, value_str(v));
        else if (value_is_list(v))
            rc = write_repr_list(r, v);
        else if (value_is_mapping(v))
            rc = write_repr_dict(r, v);
        else if (v->kind == VALUE_UNDEFINED)
            rc = render_write(r, STR("Undefined"));
        else
            rc = write_scalar(r, v);
    }
    r->depth--;
    return rc;
}

enum rc value_write(struct render *r, const struct value *v)
{
    if (v->kind == VALUE_TEXT)
        return render_write(r, value_str(v));
    if (value_is_list(v) || value_is_mapping(v))
        return value_write_repr(r, v);
    return write_scalar(r, v);
}

enum rc value_to_text(struct render *r, const struct value *v, struct str *out)
{
    if (v->kind == VALUE_TEXT) {
        *out = value_str(v);
        return RC_OK;
    }
    size_t start = render_capture_begin(r);
    enum rc rc = value_write(r, v);
    if (rc == RC_OK)
        return render_capture_end(r, start, out);
    render_capture_abandon(r, start);
    return rc;
}

/* ---- JSON ---- */

static enum rc write_json_text(struct render *r, struct str s, bool ascii)
{
    enum rc rc = render_write(r, STR("\""));
    size_t plain = 0, i = 0;
    while (i <= s.n && rc == RC_OK) {
        char escape[16] = "";
        unsigned char c = i < s.n ? (unsigned char)s.p[i] : 0;
        uint32_t codepoint;
        size_t n = 1;
        if (i < s.n && c >= ' ' && c != '"' && c != '\\' && (c < 0x7f || !ascii)) {
            i++;
            continue;
        }
        rc = render_write(r, str_slice(s, plain, i));
        if (i == s.n || rc != RC_OK)
            break;
        const char *simple = strchr("\"\"\\\\\nn\rr\tt\bb\ff", c);
        if (c >= 0x80 && (n = utf8_next(str_slice(s, i, s.n), &codepoint)) > 0) {
            if (codepoint >= 0x10000)
                snprintf(escape, sizeof(escape), "\\u%04x\\u%04x",
                         0xd800 + ((codepoint - 0x10000) >> 10),
                         0xdc00 + ((codepoint - 0x10000) & 0x3ff));
            else
                snprintf(escape, sizeof(escape), "\\u%04x", codepoint);
        } else if (c && simple && c < 0x7f) {
            snprintf(escape, sizeof(escape), "\\%c", simple[1]);
        } else {
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        }
        rc = render_write(r, str_from(escape));
        i += MAX(n, 1u);
        plain = i;
    }
    return rc == RC_OK ? render_write(r, STR("\"")) : rc;
}

static enum rc write_line(struct render *r, const struct json_style *style, int level)
{
    static const char spaces[] = "                                ";
    if (style->indent < 0)
        return RC_OK;
    enum rc rc = render_write(r, STR("\n"));
    for (int left = style->indent * level; left > 0 && rc == RC_OK;) {
        int n = MIN(left, (int)sizeof(spaces) - 1);
        rc = render_write(r, str_make(spaces, (size_t)n));
        left -= n;
    }
    return rc;
}

static int compare_keys(const void *a, const void *b)
{
    const struct value *x = ((const struct value *)a)->list->items,
                       *y = ((const struct value *)b)->list->items;
    return x->kind == VALUE_TEXT && y->kind == VALUE_TEXT ? str_cmp(value_str(x), value_str(y)) : 0;
}

static enum rc write_json_key(struct render *r, const struct value *key,
                              const struct json_style *style)
{
    struct str text = value_str(key);
    enum rc rc = RC_OK;
    if (key->kind == VALUE_BOOL)
        text = key->boolean ? STR("true") : STR("false");
    else if (key->kind == VALUE_NONE)
        text = STR("null");
    else if (key->kind != VALUE_TEXT)
        rc = value_to_text(r, key, &text);
    return rc == RC_OK ? write_json_text(r, text, style->ascii) : rc;
}

static enum rc write_json_dict(struct render *r, const struct value *v,
                               const struct json_style *style, int level)
{
    struct value pairs;
    enum rc rc = value_pairs(r, v, &pairs);
    if (rc != RC_OK)
        return rc;
    struct value_list *list = pairs.list;
    if (list->count == 0)
        return render_write(r, STR("{}"));
    if (style->sort_keys)
        qsort(list->items, list->count, sizeof(*list->items), compare_keys);
    rc = render_write(r, STR("{"));
    for (uint32_t i = 0; i < list->count && rc == RC_OK; i++) {
        const struct value *pair = list->items[i].list->items;
        if (i)
            rc = render_write(r, style->item_separator);
        if (rc == RC_OK)
            rc = write_line(r, style, level + 1);
        if (rc == RC_OK)
            rc = write_json_key(r, &pair[0], style);
        if (rc == RC_OK)
            rc = render_write(r, style->key_separator);
        if (rc == RC_OK)
            rc = value_write_json(r, &pair[1], style, level + 1);
    }
    if (rc == RC_OK)
        rc = write_line(r, style, level);
    return rc == RC_OK ? render_write(r, STR("}")) : rc;
}

static enum rc write_json_list(struct render *r, const struct value *v,
                               const struct json_style *style, int level)
{
    struct value *items;
    uint32_t count;
    enum rc rc = value_items(r, v, &items, &count);
    if (rc != RC_OK)
        return rc;
    if (count == 0)
        return render_write(r, STR("[]"));
    rc = render_write(r, STR("["));
    for (uint32_t i = 0; i < count && rc == RC_OK; i++) {
        if (i)
            rc = render_write(r, style->item_separator);
        if (rc == RC_OK)
            rc = write_line(r, style, level + 1);
        if (rc == RC_OK)
            rc = value_write_json(r, &items[i], style, level + 1);
    }
    if (rc == RC_OK)
        rc = write_line(r, style, level);
    return rc == RC_OK ? render_write(r, STR("]")) : rc;
}

enum rc value_write_json(struct render *r, const struct value *v, const struct json_style *style,
                         int level)
{
    enum rc rc = render_spend(r, 1);
    if (rc == RC_OK && ++r->depth > TEMPLATE_DEPTH_MAX)
        rc = render_fail(r, ERR_TOO_LARGE, "a value nests too deep for JSON");
    if (rc == RC_OK) {
        if (v->kind == VALUE_TEXT)
            rc = write_json_text(r, value_str(v), style->ascii);
        else if (value_is_list(v))
            rc = write_json_list(r, v, style, level);
        else if (value_is_mapping(v))
            rc = write_json_dict(r, v, style, level);
        else if (v->kind == VALUE_NONE)
            rc = render_write(r, STR("null"));
        else if (v->kind == VALUE_BOOL)
            rc = render_write(r, v->boolean ? STR("true") : STR("false"));
        else if (v->kind == VALUE_INT || (v->kind == VALUE_FLOAT && isfinite(v->number)))
            rc = write_scalar(r, v);
        else
            rc = render_fail(r, ERR_INVALID, "a value of type %s cannot be written as JSON",
                             value_kind_name(v));
    }
    r->depth--;
    return rc;
}
