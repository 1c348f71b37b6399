/* The functions and tests of templates: fixed tables, nothing else can be called. Tests answer with
 * a boolean value. */
#include "text/template_private.h"
#include "base/clock.h"
#include <time.h>

static struct value *argument(struct value *args, size_t i)
{
    return args[i].kind == VALUE_MISSING ? NULL : &args[i];
}

/* ---- functions ---- */

static enum rc call_range(struct render *r, struct value *args, size_t count, struct value *out)
{
    int64_t bounds[3] = {0, 0, 1};
    size_t given = 1 + (argument(args, 1) != NULL) + (argument(args, 2) != NULL);
    for (size_t i = 0; i < given; i++) {
        if (args[i].kind != VALUE_INT)
            return render_fail(r, ERR_INVALID, "range needs whole numbers");
        bounds[given == 1 ? 1 : i] = args[i].integer;
    }
    if (bounds[2] == 0)
        return render_fail(r, ERR_INVALID, "range: the step is 0");
    enum rc rc = value_list_new(r, 8, out);
    for (int64_t i = bounds[0]; rc == RC_OK && (bounds[2] > 0 ? i < bounds[1] : i > bounds[1]);) {
        rc = value_list_add(r, out->list, value_int(i));
        if (__builtin_add_overflow(i, bounds[2], &i))
            break;
    }
    return rc;
}

/* namespace() and dict(): a copy of what is given; named members are added by the caller. */
static enum rc call_dict(struct render *r, struct value *args, size_t count, struct value *out)
{
    struct value pairs;
    enum rc rc = value_dict_new(r, 8, out);
    if (rc != RC_OK || !argument(args, 0))
        return rc;
    if (value_is_mapping(&args[0])) {
        if ((rc = value_pairs(r, &args[0], &pairs)) != RC_OK)
            return rc;
    } else {
        struct value *items;
        uint32_t n;
        if ((rc = value_items(r, &args[0], &items, &n)) != RC_OK ||
            (rc = value_list_new(r, n, &pairs)) != RC_OK)
            return rc;
        for (uint32_t i = 0; i < n && rc == RC_OK; i++)
            rc = value_list_add(r, pairs.list, items[i]);
    }
    for (uint32_t i = 0; rc == RC_OK && i < pairs.list->count; i++) {
        struct value *pair;
        uint32_t n;
        rc = value_items(r, &pairs.list->items[i], &pair, &n);
        if (rc == RC_OK && n != 2)
            rc = render_fail(r, ERR_INVALID, "dict needs pairs");
        if (rc == RC_OK)
            rc = value_dict_put(r, out->dict, pair[0], pair[1]);
    }
    return rc;
}

static enum rc call_namespace(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = call_dict(r, args, count, out);
    out->kind = VALUE_NAMESPACE;
    return rc;
}

static enum rc call_raise_exception(struct render *r, struct value *args, size_t count,
                                    struct value *out)
{
    struct str text;
    enum rc rc = value_to_text(r, &args[0], &text);
    return rc == RC_OK ? err_set(r->err, ERR_INVALID, "%.*s", STR_ARG(text)) : rc;
}

static enum rc call_strftime_now(struct render *r, struct value *args, size_t count,
                                 struct value *out)
{
    char format[128], text[512];
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    struct tm tm;
    if (args[0].kind != VALUE_TEXT || args[0].n >= sizeof(format))
        return render_fail(r, ERR_INVALID, "strftime_now needs a short format");
    memcpy(format, args[0].p, args[0].n);
    format[args[0].n] = '\0';
    localtime_r(&now, &tm);
    /* The format is the template's: strftime reads no arguments, and the result is bounded. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof(text), format, &tm);
#pragma GCC diagnostic pop
    struct str copy = arena_copy(r->arena, str_make(text, n));
    if (!copy.p)
        return render_no_memory(r);
    *out = value_text(copy);
    return RC_OK;
}

static const struct template_function globals[] = {
    {"dict", "mapping=", call_dict},
    {"namespace", "mapping=", call_namespace},
    {"raise_exception", "message", call_raise_exception},
    {"range", "start,stop=,step=", call_range},
    {"strftime_now", "format", call_strftime_now},
};

const struct template_function *template_global_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(globals); i++)
        if (str_eq(str_from(globals[i].name), name))
            return &globals[i];
    return NULL;
}

/* ---- tests ---- */

#define SIMPLE_TEST(name, condition)                                                               \
    static enum rc test_##name(struct render *r, struct value *args, size_t count,                 \
                               struct value *out)                                                  \
    {                                                                                              \
        const struct value *v = &args[0];                                                          \
        *out = value_bool(condition);                                                              \
        return RC_OK;                                                                              \
    }

SIMPLE_TEST(boolean, v->kind == VALUE_BOOL)
SIMPLE_TEST(callable, v->kind >= VALUE_MACRO)
SIMPLE_TEST(defined, v->kind != VALUE_UNDEFINED)
SIMPLE_TEST(undefined, v->kind == VALUE_UNDEFINED)
SIMPLE_TEST(false, v->kind == VALUE_BOOL && !v->boolean)
SIMPLE_TEST(true, v->kind == VALUE_BOOL && v->boolean)
SIMPLE_TEST(float, v->kind == VALUE_FLOAT)
SIMPLE_TEST(integer, v->kind == VALUE_INT)
SIMPLE_TEST(number, v->kind == VALUE_INT || v->kind == VALUE_FLOAT || v->kind == VALUE_BOOL)
SIMPLE_TEST(iterable, value_length(v) >= 0)
SIMPLE_TEST(mapping, value_is_mapping(v))
SIMPLE_TEST(none, v->kind == VALUE_NONE)
SIMPLE_TEST(sequence, value_length(v) >= 0)
SIMPLE_TEST(string, v->kind == VALUE_TEXT)
#undef SIMPLE_TEST

static enum rc test_lower(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_is_case(r, &args[0], false, out);
}

static enum rc test_upper(struct render *r, struct value *args, size_t count, struct value *out)
{
    return template_is_case(r, &args[0], true, out);
}

static enum rc remainder_is(struct render *r, struct value *args, int64_t by, int64_t expected,
                            struct value *out)
{
    if (args[0].kind != VALUE_INT || by == 0)
        return render_fail(r, ERR_INVALID, "this test needs whole numbers");
    *out = value_bool(by == -1 ? expected == 0 : (args[0].integer % by != 0) == (expected != 0));
    return RC_OK;
}

static enum rc test_divisibleby(struct render *r, struct value *args, size_t count,
                                struct value *out)
{
    return remainder_is(r, args, args[1].kind == VALUE_INT ? args[1].integer : 0, 0, out);
}

static enum rc test_even(struct render *r, struct value *args, size_t count, struct value *out)
{
    return remainder_is(r, args, 2, 0, out);
}

static enum rc test_odd(struct render *r, struct value *args, size_t count, struct value *out)
{
    return remainder_is(r, args, 2, 1, out);
}

static enum rc test_eq(struct render *r, struct value *args, size_t count, struct value *out)
{
    *out = value_bool(value_equal(r, &args[0], &args[1]));
    return RC_OK;
}

static enum rc test_ne(struct render *r, struct value *args, size_t count, struct value *out)
{
    *out = value_bool(!value_equal(r, &args[0], &args[1]));
    return RC_OK;
}

static enum rc test_sameas(struct render *r, struct value *args, size_t count, struct value *out)
{
    *out = value_bool(args[0].kind == args[1].kind && value_equal(r, &args[0], &args[1]));
    return RC_OK;
}

static enum rc test_in(struct render *r, struct value *args, size_t count, struct value *out)
{
    bool found = false;
    enum rc rc = value_contains(r, &args[1], &args[0], &found);
    *out = value_bool(found);
    return rc;
}

static enum rc test_lt(struct render *r, struct value *args, size_t count, struct value *out)
{
    int order = 0;
    enum rc rc = value_order(r, &args[0], &args[1], &order);
    *out = value_bool(order < 0);
    return rc;
}

static enum rc test_gt(struct render *r, struct value *args, size_t count, struct value *out)
{
    int order = 0;
    enum rc rc = value_order(r, &args[0], &args[1], &order);
    *out = value_bool(order > 0);
    return rc;
}

static enum rc test_le(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = test_gt(r, args, count, out);
    *out = value_bool(!out->boolean);
    return rc;
}

static enum rc test_ge(struct render *r, struct value *args, size_t count, struct value *out)
{
    enum rc rc = test_lt(r, args, count, out);
    *out = value_bool(!out->boolean);
    return rc;
}

static enum rc test_filter(struct render *r, struct value *args, size_t count, struct value *out)
{
    *out = value_bool(args[0].kind == VALUE_TEXT && template_filter_find(value_str(&args[0])));
    return RC_OK;
}

static const struct template_function tests[] = {
    {"!=", "value,other", test_ne},       {"<", "value,other", test_lt},
    {"<=", "value,other", test_le},       {"==", "value,other", test_eq},
    {">", "value,other", test_gt},        {">=", "value,other", test_ge},
    {"boolean", "value", test_boolean},   {"callable", "value", test_callable},
    {"defined", "value", test_defined},   {"divisibleby", "value,num", test_divisibleby},
    {"eq", "value,other", test_eq},       {"equalto", "value,other", test_eq},
    {"even", "value", test_even},         {"false", "value", test_false},
    {"filter", "value", test_filter},     {"float", "value", test_float},
    {"ge", "value,other", test_ge},       {"greaterthan", "value,other", test_gt},
    {"gt", "value,other", test_gt},       {"in", "value,seq", test_in},
    {"integer", "value", test_integer},   {"iterable", "value", test_iterable},
    {"le", "value,other", test_le},       {"lessthan", "value,other", test_lt},
    {"lower", "value", test_lower},       {"lt", "value,other", test_lt},
    {"mapping", "value", test_mapping},   {"ne", "value,other", test_ne},
    {"none", "value", test_none},         {"number", "value", test_number},
    {"odd", "value", test_odd},           {"sameas", "value,other", test_sameas},
    {"sequence", "value", test_sequence}, {"string", "value", test_string},
    {"true", "value", test_true},         {"undefined", "value", test_undefined},
    {"upper", "value", test_upper},
};

const struct template_function *template_test_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(tests); i++)
        if (str_eq(str_from(tests[i].name), name))
            return &tests[i];
    return NULL;
}

/* ---- names of loops ---- */

enum loop_attribute template_loop_attribute(struct str name)
{
    static const char *const names[] = {
        [LOOP_INDEX] = "index",         [LOOP_INDEX0] = "index0", [LOOP_REVINDEX] = "revindex",
        [LOOP_REVINDEX0] = "revindex0", [LOOP_FIRST] = "first",   [LOOP_LAST] = "last",
        [LOOP_LENGTH] = "length",       [LOOP_DEPTH] = "depth",   [LOOP_DEPTH0] = "depth0",
        [LOOP_PREVIOUS] = "previtem",   [LOOP_NEXT] = "nextitem", [LOOP_CYCLE] = "cycle",
        [LOOP_CHANGED] = "changed",
    };
    for (size_t i = LOOP_INDEX; i < COUNT_OF(names); i++)
        if (str_eq(str_from(names[i]), name))
            return (enum loop_attribute)i;
    return LOOP_NONE;
}
