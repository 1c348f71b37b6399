/* Operators of templates, with Python's rules for mixed types. */
#include "text/template_private.h"
#include <math.h>
#include <stdio.h>

static enum rc refuse(struct render *r, const char *operator, const struct value * a,
                      const struct value *b)
{
    const struct value *undefined = a->kind == VALUE_UNDEFINED   ? a
                                    : b->kind == VALUE_UNDEFINED ? b
                                                                 : NULL;
    if (undefined)
        return render_fail(r, ERR_INVALID, "\"%.*s\" is undefined", STR_ARG(value_str(undefined)));
    return render_fail(r, ERR_INVALID, "%s is not possible between %s and %s", operator,
                       value_kind_name(a), value_kind_name(b));
}

enum rc value_escape_html(struct render *r, struct str s, struct str *out)
{
    size_t start = render_capture_begin(r);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < s.n && rc == RC_OK; i++) {
        switch (s.p[i]) {
        case '&': rc = render_write(r, STR("&amp;")); break;
        case '<': rc = render_write(r, STR("&lt;")); break;
        case '>': rc = render_write(r, STR("&gt;")); break;
        case '\'': rc = render_write(r, STR("&#39;")); break;
        case '"': rc = render_write(r, STR("&#34;")); break;
        default: rc = render_write(r, str_slice(s, i, i + 1));
        }
    }
    if (rc == RC_OK)
        return render_capture_end(r, start, out);
    render_capture_abandon(r, start);
    return rc;
}

static enum rc add_texts(struct render *r, const struct value *a, const struct value *b,
                         struct value *out)
{
    struct str left = value_str(a), right = value_str(b);
    enum rc rc = render_spend(r, (left.n + right.n) / 256);
    if (rc == RC_OK && a->safe && !b->safe)
        rc = value_escape_html(r, right, &right);
    else if (rc == RC_OK && b->safe && !a->safe)
        rc = value_escape_html(r, left, &left);
    if (rc != RC_OK)
        return rc;
    struct str joined = arena_concat(r->arena, left, right);
    if (!joined.p)
        return render_no_memory(r);
    *out = value_text(joined);
    out->safe = a->safe || b->safe;
    return RC_OK;
}

static enum rc add_lists(struct render *r, const struct value *a, const struct value *b,
                         struct value *out)
{
    struct value *x, *y;
    uint32_t n, m;
    enum rc rc = value_items(r, a, &x, &n);
    if (rc == RC_OK)
        rc = value_items(r, b, &y, &m);
    if (rc == RC_OK)
        rc = value_list_new(r, n + m, out);
    for (uint32_t i = 0; rc == RC_OK && i < n + m; i++)
        rc = value_list_add(r, out->list, i < n ? x[i] : y[i - n]);
    if (rc == RC_OK && a->kind == VALUE_LIST)
        out->list->tuple = a->list->tuple;
    return rc;
}

/* A text or list several times. */
static enum rc repeat(struct render *r, const struct value *what, int64_t times, struct value *out)
{
    struct value *items;
    uint32_t count;
    enum rc rc;
    if (times < 0)
        times = 0;
    size_t unit = what->kind == VALUE_TEXT ? what->n : (size_t)value_length(what);
    if (unit && (uint64_t)times > (64u << 20) / unit)
        return render_no_memory(r);
    if ((rc = render_spend(r, unit * (size_t)times / 16)) != RC_OK)
        return rc;
    if (what->kind == VALUE_TEXT) {
        char *p = arena_alloc(r->arena, unit * (size_t)times + 1);
        if (!p)
            return render_no_memory(r);
        for (int64_t i = 0; i < times && unit; i++)
            memcpy(p + (size_t)i * unit, what->p, unit);
        *out = value_text(str_make(p, unit * (size_t)times));
        return RC_OK;
    }
    if ((rc = value_items(r, what, &items, &count)) != RC_OK)
        return rc;
    rc = value_list_new(r, (uint32_t)(count * (size_t)times), out);
    for (int64_t i = 0; i < times; i++)
        for (uint32_t k = 0; k < count && rc == RC_OK; k++)
            rc = value_list_add(r, out->list, items[k]);
    return rc;
}

static bool whole(const struct value *v, int64_t *out)
{
    *out = v->kind == VALUE_BOOL ? v->boolean : v->kind == VALUE_INT ? v->integer : 0;
    return v->kind == VALUE_INT || v->kind == VALUE_BOOL;
}

static enum rc whole_power(struct render *r, int64_t a, int64_t b, struct value *out)
{
    int64_t result = 1;
    if (b < 0) {
        *out = value_float(pow((double)a, (double)b));
        return RC_OK;
    }
    if (b > 64 && a > 1)
        return render_fail(r, ERR_INVALID, "the number is too large");
    if (b > 64)
        b = 64 + b % 2; /* of 0, 1 and -1; others fail below */
    for (; b > 0; b--)
        if (__builtin_mul_overflow(result, a, &result))
            return render_fail(r, ERR_INVALID, "the number is too large");
    *out = value_int(result);
    return RC_OK;
}

static enum rc whole_arithmetic(struct render *r, enum node_op op, int64_t a, int64_t b,
                                struct value *out)
{
    bool overflow = false;
    int64_t result = 0;
    switch (op) {
    case NODE_ADD: overflow = __builtin_add_overflow(a, b, &result); break;
    case NODE_SUBTRACT: overflow = __builtin_sub_overflow(a, b, &result); break;
    case NODE_MULTIPLY: overflow = __builtin_mul_overflow(a, b, &result); break;
    case NODE_POWER: return whole_power(r, a, b, out);
    default:
        if (b == 0)
            return render_fail(r, ERR_INVALID, "division by zero");
        if (op == NODE_DIVIDE) {
            *out = value_float((double)a / (double)b);
            return RC_OK;
        }
        if (a == INT64_MIN && b == -1)
            return render_fail(r, ERR_INVALID, "the number is too large");
        result = op == NODE_REMAINDER ? a % b : a / b;
        if (a % b != 0 && (a < 0) != (b < 0)) /* towards minus infinity, as Python does */
            result += op == NODE_REMAINDER ? b : -1;
    }
    if (overflow)
        return render_fail(r, ERR_INVALID, "the number is too large");
    *out = value_int(result);
    return RC_OK;
}

static enum rc arithmetic(struct render *r, enum node_op op, double a, double b, struct value *out)
{
    double result;
    if (b == 0 && (op == NODE_DIVIDE || op == NODE_FLOOR_DIVIDE || op == NODE_REMAINDER))
        return render_fail(r, ERR_INVALID, "division by zero");
    switch (op) {
    case NODE_ADD: result = a + b; break;
    case NODE_SUBTRACT: result = a - b; break;
    case NODE_MULTIPLY: result = a * b; break;
    case NODE_DIVIDE: result = a / b; break;
    case NODE_FLOOR_DIVIDE: result = floor(a / b); break;
    case NODE_POWER: result = pow(a, b); break;
    default:
        result = fmod(a, b);
        if (result != 0 && (result < 0) != (b < 0))
            result += b;
    }
    *out = value_float(result);
    return RC_OK;
}

enum rc value_binary(struct render *r, enum node_op op, const struct value *a,
                     const struct value *b, struct value *out)
{
    static const char *const names[] = {
        [NODE_ADD] = "+",    [NODE_SUBTRACT] = "-",      [NODE_MULTIPLY] = "*",
        [NODE_DIVIDE] = "/", [NODE_FLOOR_DIVIDE] = "//", [NODE_REMAINDER] = "%",
        [NODE_POWER] = "**",
    };
    int64_t i, k;
    double x, y;
    bool left_sequence = a->kind == VALUE_TEXT || value_is_list(a);
    bool right_sequence = b->kind == VALUE_TEXT || value_is_list(b);
    if (op == NODE_ADD && a->kind == VALUE_TEXT && b->kind == VALUE_TEXT)
        return add_texts(r, a, b, out);
    if (op == NODE_ADD && value_is_list(a) && value_is_list(b))
        return add_lists(r, a, b, out);
    if (op == NODE_MULTIPLY && left_sequence && whole(b, &k))
        return repeat(r, a, k, out);
    if (op == NODE_MULTIPLY && right_sequence && whole(a, &i))
        return repeat(r, b, i, out);
    if (op == NODE_REMAINDER && a->kind == VALUE_TEXT) {
        bool tuple = b->kind == VALUE_LIST && b->list->tuple;
        return value_format_percent(r, value_str(a), tuple ? b->list->items : b,
                                    tuple ? b->list->count : 1, out);
    }
    if (whole(a, &i) && whole(b, &k))
        return whole_arithmetic(r, op, i, k, out);
    if (value_is_number(a, &x) && value_is_number(b, &y))
        return arithmetic(r, op, x, y, out);
    return refuse(r, names[op], a, b);
}

/* One %… conversion with its value. */
static enum rc convert(struct render *r, struct str flags, char kind, const struct value *arg)
{
    char pattern[24], text[400];
    double number = 0;
    int64_t integer;
    enum rc rc;
    if (kind == 's' || kind == 'r') {
        struct str s;
        rc = RC_OK;
        if (kind == 'r' || flags.n == 0)
            return kind == 'r' ? value_write_repr(r, arg) : value_write(r, arg);
        if ((rc = value_to_text(r, arg, &s)) != RC_OK)
            return rc;
        return render_write(r, s);
    }
    if (!value_is_number(arg, &number) || flags.n > 12)
        return render_fail(r, ERR_INVALID, "%%%c needs a number", kind);
    if (kind == 'd' || kind == 'i') {
        integer = whole(arg, &integer) ? integer : (int64_t)MAX(MIN(number, 9e18), -9e18);
        snprintf(pattern, sizeof(pattern), "%%%.*slld", STR_ARG(flags));
    } else {
        snprintf(pattern, sizeof(pattern), "%%%.*s%c", STR_ARG(flags), kind);
    }
    /* The pattern was made above from digits, signs, a point and one of d, i, f, g, e. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    int n = kind == 'd' || kind == 'i' ? snprintf(text, sizeof(text), pattern, (long long)integer)
                                       : snprintf(text, sizeof(text), pattern, number);
#pragma GCC diagnostic pop
    return render_write(r, str_make(text, MIN((size_t)n, sizeof(text) - 1)));
}

static enum rc write_percent(struct render *r, struct str format, const struct value *args,
                             size_t count)
{
    size_t used = 0, plain = 0, i = 0;
    enum rc rc = RC_OK;
    while (rc == RC_OK && i < format.n) {
        if (format.p[i] != '%') {
            i++;
            continue;
        }
        rc = render_write(r, str_slice(format, plain, i));
        size_t start = ++i;
        while (i < format.n && strchr("0123456789.+- ", format.p[i]) && format.p[i])
            i++;
        char kind = i < format.n ? format.p[i] : '\0';
        plain = ++i;
        if (rc != RC_OK)
            break;
        if (kind == '%')
            rc = render_write(r, STR("%"));
        else if (kind == '\0' || !strchr("srdifge", kind))
            rc = render_fail(r, ERR_INVALID, "the conversion %%%c is not supported", kind);
        else if (used >= count)
            rc = render_fail(r, ERR_INVALID, "more conversions than values");
        else
            rc = convert(r, str_slice(format, start, i - 1), kind, &args[used++]);
    }
    if (rc == RC_OK && used < count)
        rc = render_fail(r, ERR_INVALID, "more values than conversions");
    return rc == RC_OK ? render_write(r, str_slice(format, plain, format.n)) : rc;
}

enum rc value_format_percent(struct render *r, struct str format, const struct value *args,
                             size_t count, struct value *out)
{
    struct str text;
    size_t start = render_capture_begin(r);
    enum rc rc = write_percent(r, format, args, count);
    if (rc != RC_OK) {
        render_capture_abandon(r, start);
        return rc;
    }
    rc = render_capture_end(r, start, &text);
    *out = value_text(text);
    return rc;
}
