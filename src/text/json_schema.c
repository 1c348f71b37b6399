/* A validator that walks schema and value together. Patterns are compiled beforehand (PCRE2, with
 * match limits, in the schema's arena); references are resolved while walking, each step against a
 * budget. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/json_schema.h"
#include "base/limits.h"
#include "text/json.h"
#include <math.h>
#include <stdarg.h>
#include <pcre2.h>
#include <stdio.h>

#define STEPS_MAX    2000000
#define PATTERNS_MAX 256
#define MATCH_LIMIT  200000
#define DEPTH_MAX    (2 * LIMIT_JSON_DEPTH)

struct pattern {
    struct str text;
    pcre2_code *code;
};

struct json_schema {
    yyjson_val *root;
    struct pattern patterns[PATTERNS_MAX];
    size_t pattern_count;
    pcre2_general_context *memory;
};

struct walk {
    const struct json_schema *schema;
    struct json_schema_problem
        *problem; /* NULL inside of anyOf, not …: their failures are no problems */
    long steps;
    int depth;
    char path[128];
    size_t path_n;
};

/* ---- compiling ---- */

static void *pattern_alloc(size_t n, void *arena) { return arena_alloc(arena, n); }
static void pattern_free(void *p, void *arena)
{
    UNUSED(p);
    UNUSED(arena);
}

static enum rc compile_pattern(struct json_schema *schema, struct str text, struct err *err)
{
    int code;
    PCRE2_SIZE at;
    if (schema->pattern_count == PATTERNS_MAX)
        return err_set(err, ERR_BAD_FIELD, "the schema has more than %d patterns", PATTERNS_MAX);
    pcre2_compile_context *context = pcre2_compile_context_create(schema->memory);
    if (!context)
        return err_set(err, ERR_TOO_LARGE, "the schema needs more memory than it may use");
    struct pattern *pattern = &schema->patterns[schema->pattern_count];
    pattern->text = text;
    pattern->code = pcre2_compile((PCRE2_SPTR)text.p, text.n, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C,
                                  &code, &at, context);
    if (!pattern->code) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(code, message, sizeof(message));
        return err_set(err, ERR_BAD_FIELD, "pattern \"%.*s\": %s at character %zu",
                       (int)MIN(text.n, (size_t)100), text.p, (char *)message, (size_t)at);
    }
    schema->pattern_count++;
    return RC_OK;
}

static yyjson_val *resolve(const struct json_schema *schema, struct str reference)
{
    if (str_eq(reference, STR("#")))
        return schema->root;
    if (!str_starts(reference, STR("#/")))
        return NULL;
    return yyjson_ptr_getn(schema->root, reference.p + 1, reference.n - 1);
}

static enum rc compile_node(struct json_schema *schema, yyjson_val *node, int depth,
                            struct err *err);

static bool is_refused(struct str key)
{
    return str_starts(key, STR("unevaluated")) || str_eq(key, STR("$dynamicRef")) ||
           str_eq(key, STR("$recursiveRef"));
}

static bool holds_data(struct str key)
{
    return str_eq(key, STR("enum")) || str_eq(key, STR("const")) || str_eq(key, STR("default")) ||
           str_eq(key, STR("examples"));
}

/* One keyword; everything that may hold schemas is walked, also maps of them (properties, $defs).
 */
static enum rc compile_member(struct json_schema *schema, struct str key, yyjson_val *value,
                              int depth, struct err *err)
{
    if (is_refused(key))
        return err_set_field(err, ERR_BAD_FIELD, "schema", "`%.*s` is not known here",
                             STR_ARG(key));
    if (str_eq(key, STR("$ref")) && yyjson_is_str(value) && !resolve(schema, json_text(value)))
        return err_set_field(err, ERR_BAD_FIELD, "schema",
                             "$ref \"%.*s\" leads nowhere in this document",
                             (int)MIN(yyjson_get_len(value), (size_t)100), yyjson_get_str(value));
    if (str_eq(key, STR("pattern")) && yyjson_is_str(value))
        return compile_pattern(schema, json_text(value), err);
    if (holds_data(key))
        return RC_OK;
    bool by_pattern = str_eq(key, STR("patternProperties"));
    bool named = by_pattern || str_eq(key, STR("properties")) || str_eq(key, STR("$defs")) ||
                 str_eq(key, STR("definitions")) || str_eq(key, STR("dependentSchemas"));
    if (!named || !yyjson_is_obj(value))
        return compile_node(schema, value, depth - 1, err);
    size_t i, n;
    yyjson_val *name, *inner;
    yyjson_obj_foreach(value, i, n, name, inner)
    {
        enum rc rc = by_pattern ? compile_pattern(schema, json_text(name), err) : RC_OK;
        if (!rc)
            rc = compile_node(schema, inner, depth - 1, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static enum rc compile_node(struct json_schema *schema, yyjson_val *node, int depth,
                            struct err *err)
{
    size_t i, n;
    yyjson_val *key, *value;
    if (depth == 0)
        return err_set(err, ERR_BAD_FIELD, "the schema is nested too deeply");
    if (yyjson_is_arr(node)) {
        yyjson_arr_foreach(node, i, n, value)
        {
            enum rc rc = compile_node(schema, value, depth - 1, err);
            if (rc)
                return rc;
        }
    }
    yyjson_obj_foreach(node, i, n, key, value)
    {
        enum rc rc = compile_member(schema, json_text(key), value, depth, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

enum rc json_schema_compile(struct str text, struct arena *arena, struct json_schema **out,
                            struct err *err)
{
    yyjson_doc *doc;
    enum rc rc = json_read(text, arena, &doc, err);
    if (rc)
        return rc;
    struct json_schema *schema = ARENA_NEW(arena, struct json_schema);
    if (schema)
        schema->memory = pcre2_general_context_create(pattern_alloc, pattern_free, arena);
    if (!schema || !schema->memory)
        return err_set(err, ERR_TOO_LARGE, "the schema needs more memory than it may use");
    schema->root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(schema->root) && !yyjson_is_bool(schema->root))
        return err_set_field(err, ERR_BAD_FIELD, "schema",
                             "a schema is an object (or true, false)");
    *out = schema;
    return compile_node(schema, schema->root, LIMIT_JSON_DEPTH, err);
}

/* ---- checking ---- */

PRINTF_LIKE(2, 3) static enum rc broken(struct walk *walk, const char *fmt, ...)
{
    if (!walk->problem)
        return RC_INVALID;
    va_list args;
    va_start(args, fmt);
    vsnprintf(walk->problem->message, sizeof(walk->problem->message), fmt, args);
    va_end(args);
    memcpy(walk->problem->path, walk->path, walk->path_n);
    walk->problem->path[walk->path_n] = 0;
    return RC_INVALID;
}

static enum rc check_node(struct walk *walk, yyjson_val *node, yyjson_val *value);

/* The same against a schema whose failure is not the document's. */
static enum rc check_quietly(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    struct json_schema_problem *problem = walk->problem;
    walk->problem = NULL;
    enum rc rc = check_node(walk, node, value);
    walk->problem = problem;
    return rc;
}

static enum rc check_below(struct walk *walk, yyjson_val *node, yyjson_val *value, struct str name)
{
    size_t before = walk->path_n;
    size_t room = sizeof(walk->path) - 2 - before;
    if (name.n < room) {
        walk->path[walk->path_n++] = '/';
        memcpy(walk->path + walk->path_n, name.p, name.n);
        walk->path_n += name.n;
    }
    enum rc rc = check_node(walk, node, value);
    walk->path_n = before;
    return rc;
}

static enum rc check_item(struct walk *walk, yyjson_val *node, yyjson_val *value, size_t index)
{
    char name[24];
    int n = snprintf(name, sizeof(name), "%zu", index);
    return check_below(walk, node, value, str_make(name, (size_t)n));
}

static bool is_whole(yyjson_val *value)
{
    if (yyjson_is_int(value))
        return true;
    return yyjson_is_real(value) && floor(yyjson_get_real(value)) == yyjson_get_real(value);
}

static bool has_type(yyjson_val *value, struct str type)
{
    return (str_eq(type, STR("string")) && yyjson_is_str(value)) ||
           (str_eq(type, STR("object")) && yyjson_is_obj(value)) ||
           (str_eq(type, STR("array")) && yyjson_is_arr(value)) ||
           (str_eq(type, STR("number")) && yyjson_is_num(value)) ||
           (str_eq(type, STR("integer")) && is_whole(value)) ||
           (str_eq(type, STR("boolean")) && yyjson_is_bool(value)) ||
           (str_eq(type, STR("null")) && yyjson_is_null(value));
}

static enum rc check_type(struct walk *walk, yyjson_val *type, yyjson_val *value)
{
    size_t i, n;
    yyjson_val *item;
    if (yyjson_is_str(type))
        return has_type(value, json_text(type))
                   ? RC_OK
                   : broken(walk, "must be of type %.*s",
                            (int)MIN(yyjson_get_len(type), (size_t)20), yyjson_get_str(type));
    yyjson_arr_foreach(type, i, n, item)
    {
        if (has_type(value, json_text(item)))
            return RC_OK;
    }
    return yyjson_is_arr(type) ? broken(walk, "is of none of the allowed types") : RC_OK;
}

/* Numbers are equal by value (1 and 1.0), objects whatever their order. */
static bool equal(yyjson_val *a, yyjson_val *b)
{
    size_t i, n;
    yyjson_val *key, *item;
    if (yyjson_is_num(a) && yyjson_is_num(b))
        return yyjson_get_num(a) == yyjson_get_num(b);
    if (yyjson_is_arr(a) && yyjson_is_arr(b)) {
        if (yyjson_arr_size(a) != yyjson_arr_size(b))
            return false;
        yyjson_arr_foreach(a, i, n, item)
        {
            if (!equal(item, yyjson_arr_get(b, i)))
                return false;
        }
        return true;
    }
    if (yyjson_is_obj(a) && yyjson_is_obj(b)) {
        if (yyjson_obj_size(a) != yyjson_obj_size(b))
            return false;
        yyjson_obj_foreach(a, i, n, key, item)
        {
            yyjson_val *other = yyjson_obj_getn(b, yyjson_get_str(key), yyjson_get_len(key));
            if (!other || !equal(item, other))
                return false;
        }
        return true;
    }
    return yyjson_equals(a, b);
}

static enum rc check_enum(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    size_t i, n;
    yyjson_val *item, *list = yyjson_obj_get(node, "enum"), *only = yyjson_obj_get(node, "const");
    if (only && !equal(only, value))
        return broken(walk, "is not the required constant");
    if (!yyjson_is_arr(list))
        return RC_OK;
    yyjson_arr_foreach(list, i, n, item)
    {
        if (equal(item, value))
            return RC_OK;
    }
    return broken(walk, "is none of the allowed values");
}

static enum rc check_number(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    double x = yyjson_get_num(value);
    yyjson_val *minimum = yyjson_obj_get(node, "minimum"),
               *maximum = yyjson_obj_get(node, "maximum");
    yyjson_val *above = yyjson_obj_get(node, "exclusiveMinimum");
    yyjson_val *below = yyjson_obj_get(node, "exclusiveMaximum");
    yyjson_val *multiple = yyjson_obj_get(node, "multipleOf");
    if (yyjson_is_num(minimum) && x < yyjson_get_num(minimum))
        return broken(walk, "must be at least %g", yyjson_get_num(minimum));
    if (yyjson_is_num(maximum) && x > yyjson_get_num(maximum))
        return broken(walk, "must be at most %g", yyjson_get_num(maximum));
    if (yyjson_is_num(above) && x <= yyjson_get_num(above))
        return broken(walk, "must be above %g", yyjson_get_num(above));
    if (yyjson_is_num(below) && x >= yyjson_get_num(below))
        return broken(walk, "must be below %g", yyjson_get_num(below));
    if (yyjson_is_num(multiple) && yyjson_get_num(multiple) > 0) {
        double quotient = x / yyjson_get_num(multiple);
        if (fabs(quotient - round(quotient)) > 1e-9 * MAX(1.0, fabs(quotient)))
            return broken(walk, "must be a multiple of %g", yyjson_get_num(multiple));
    }
    return RC_OK;
}

static enum rc matches(struct walk *walk, struct str pattern, struct str text, bool *out)
{
    const struct json_schema *schema = walk->schema;
    const struct pattern *found = NULL;
    for (size_t i = 0; i < schema->pattern_count && !found; i++)
        if (str_eq(schema->patterns[i].text, pattern))
            found = &schema->patterns[i];
    if (!found)
        return RC_LIMIT;
    /* The schema is shared between threads: what a match needs is its own. */
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int rc = PCRE2_ERROR_NOMEMORY;
    if (limits && data) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        rc = pcre2_match(found->code, (PCRE2_SPTR)(text.p ? text.p : ""), text.n, 0,
                         PCRE2_NO_UTF_CHECK, data, limits);
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    *out = rc >= 0;
    return rc >= 0 || rc == PCRE2_ERROR_NOMATCH ? RC_OK : RC_LIMIT;
}

static enum rc check_text_rules(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    int64_t least = json_get_int(node, "minLength", 0),
            most = json_get_int(node, "maxLength", INT64_MAX);
    struct str text = json_text(value);
    int64_t length = 0; /* in characters */
    for (size_t i = 0; i < text.n; i++)
        length += (text.p[i] & 0xc0) != 0x80;
    if (length < least)
        return broken(walk, "must have at least %lld characters", (long long)least);
    if (length > most)
        return broken(walk, "must have at most %lld characters", (long long)most);
    yyjson_val *pattern = yyjson_obj_get(node, "pattern");
    bool matched = true;
    if (yyjson_is_str(pattern)) {
        enum rc rc = matches(walk, json_text(pattern), text, &matched);
        if (rc)
            return rc;
    }
    return matched ? RC_OK : broken(walk, "does not match its pattern");
}

static enum rc check_unique(struct walk *walk, yyjson_val *value)
{
    size_t i, n, k, m;
    yyjson_val *a, *b;
    yyjson_arr_foreach(value, i, n, a)
    {
        yyjson_arr_foreach(value, k, m, b)
        {
            if (k >= i)
                break;
            if (--walk->steps < 0)
                return RC_LIMIT;
            if (equal(a, b))
                return broken(walk, "holds an item twice");
        }
    }
    return RC_OK;
}

static enum rc check_contains(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    yyjson_val *contains = yyjson_obj_get(node, "contains"), *item;
    size_t i, n;
    int64_t found = 0;
    if (!contains)
        return RC_OK;
    yyjson_arr_foreach(value, i, n, item)
    {
        enum rc rc = check_quietly(walk, contains, item);
        if (rc == RC_LIMIT)
            return rc;
        found += rc == RC_OK;
    }
    if (found < json_get_int(node, "minContains", 1))
        return broken(walk, "holds too few items of the required kind");
    if (found > json_get_int(node, "maxContains", INT64_MAX))
        return broken(walk, "holds too many items of a kind");
    return RC_OK;
}

static enum rc check_array(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    size_t i, n, size = yyjson_arr_size(value);
    yyjson_val *prefix = yyjson_obj_get(node, "prefixItems"),
               *items = yyjson_obj_get(node, "items"), *item;
    size_t fixed = yyjson_arr_size(prefix);
    if ((int64_t)size < json_get_int(node, "minItems", 0))
        return broken(walk, "has too few items");
    if ((int64_t)size > json_get_int(node, "maxItems", INT64_MAX))
        return broken(walk, "has too many items");
    yyjson_arr_foreach(value, i, n, item)
    {
        yyjson_val *rule = i < fixed ? yyjson_arr_get(prefix, i) : items;
        enum rc rc = rule ? check_item(walk, rule, item, i) : RC_OK;
        if (rc)
            return rc;
    }
    if (json_get_bool(node, "uniqueItems", false)) {
        enum rc rc = check_unique(walk, value);
        if (rc)
            return rc;
    }
    return check_contains(walk, node, value);
}

static enum rc check_property(struct walk *walk, yyjson_val *node, struct str name,
                              yyjson_val *value)
{
    yyjson_val *rule = yyjson_obj_getn(yyjson_obj_get(node, "properties"), name.p, name.n);
    yyjson_val *patterns = yyjson_obj_get(node, "patternProperties"), *key, *inner;
    yyjson_val *others = yyjson_obj_get(node, "additionalProperties");
    size_t i, n;
    bool known = rule != NULL;
    enum rc rc = rule ? check_below(walk, rule, value, name) : RC_OK;
    yyjson_obj_foreach(patterns, i, n, key, inner)
    {
        bool matched = false;
        if (!rc)
            rc = matches(walk, json_text(key), name, &matched);
        if (!rc && matched) {
            known = true;
            rc = check_below(walk, inner, value, name);
        }
    }
    if (rc || known || !others)
        return rc;
    if (yyjson_is_false(others))
        return broken(walk, "has a property that is not allowed: %.*s",
                      (int)MIN(name.n, (size_t)60), name.p);
    return check_below(walk, others, value, name);
}

static enum rc check_required(struct walk *walk, yyjson_val *list, yyjson_val *value)
{
    size_t i, n;
    yyjson_val *name;
    yyjson_arr_foreach(list, i, n, name)
    {
        struct str text = json_text(name);
        if (yyjson_is_str(name) && !yyjson_obj_getn(value, text.p, text.n))
            return broken(walk, "lacks the property %.*s", (int)MIN(text.n, (size_t)80), text.p);
    }
    return RC_OK;
}

static enum rc check_object(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    size_t i, n, size = yyjson_obj_size(value);
    yyjson_val *key, *item, *names = yyjson_obj_get(node, "propertyNames");
    if ((int64_t)size < json_get_int(node, "minProperties", 0))
        return broken(walk, "has too few properties");
    if ((int64_t)size > json_get_int(node, "maxProperties", INT64_MAX))
        return broken(walk, "has too many properties");
    enum rc rc = check_required(walk, yyjson_obj_get(node, "required"), value);
    yyjson_obj_foreach(value, i, n, key, item)
    {
        if (!rc)
            rc = check_property(walk, node, json_text(key), item);
        if (!rc && names)
            rc = check_node(walk, names, key);
    }
    yyjson_obj_foreach(yyjson_obj_get(node, "dependentRequired"), i, n, key, item)
    {
        if (!rc && yyjson_obj_getn(value, yyjson_get_str(key), yyjson_get_len(key)))
            rc = check_required(walk, item, value);
    }
    yyjson_obj_foreach(yyjson_obj_get(node, "dependentSchemas"), i, n, key, item)
    {
        if (!rc && yyjson_obj_getn(value, yyjson_get_str(key), yyjson_get_len(key)))
            rc = check_node(walk, item, value);
    }
    return rc;
}

static enum rc count_fitting(struct walk *walk, yyjson_val *list, yyjson_val *value,
                             size_t *fitting)
{
    size_t i, n;
    yyjson_val *item;
    *fitting = 0;
    yyjson_arr_foreach(list, i, n, item)
    {
        enum rc rc = check_quietly(walk, item, value);
        if (rc == RC_LIMIT)
            return rc;
        *fitting += rc == RC_OK;
    }
    return RC_OK;
}

static enum rc check_choices(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    yyjson_val *any = yyjson_obj_get(node, "anyOf"), *one = yyjson_obj_get(node, "oneOf");
    size_t fitting;
    enum rc rc = any ? count_fitting(walk, any, value, &fitting) : RC_OK;
    if (rc || (any && fitting == 0))
        return rc ? rc : broken(walk, "fits none of the alternatives");
    rc = one ? count_fitting(walk, one, value, &fitting) : RC_OK;
    if (rc || !one || fitting == 1)
        return rc;
    return broken(walk, fitting ? "fits more than one of the alternatives"
                                : "fits none of the alternatives");
}

static enum rc check_logic(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    yyjson_val *not = yyjson_obj_get(node, "not"), *condition = yyjson_obj_get(node, "if"), *item;
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(node, "allOf"), i, n, item)
    {
        enum rc rc = check_node(walk, item, value);
        if (rc)
            return rc;
    }
    enum rc rc = check_choices(walk, node, value);
    if (!rc && not) {
        rc = check_quietly(walk, not, value);
        rc = rc == RC_INVALID ? RC_OK : rc == RC_OK ? broken(walk, "is what it must not be") : rc;
    }
    if (rc || !condition)
        return rc;
    rc = check_quietly(walk, condition, value);
    yyjson_val *next = rc == RC_OK ? yyjson_obj_get(node, "then") : yyjson_obj_get(node, "else");
    return rc == RC_LIMIT ? rc : next ? check_node(walk, next, value) : RC_OK;
}

static enum rc check_rules(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    yyjson_val *reference = yyjson_obj_get(node, "$ref");
    enum rc rc = RC_OK;
    if (yyjson_is_str(reference))
        rc = check_node(walk, resolve(walk->schema, json_text(reference)), value);
    if (!rc)
        rc = check_type(walk, yyjson_obj_get(node, "type"), value);
    if (!rc)
        rc = check_enum(walk, node, value);
    if (!rc && yyjson_is_num(value))
        rc = check_number(walk, node, value);
    if (!rc && yyjson_is_str(value))
        rc = check_text_rules(walk, node, value);
    if (!rc && yyjson_is_arr(value))
        rc = check_array(walk, node, value);
    if (!rc && yyjson_is_obj(value))
        rc = check_object(walk, node, value);
    return rc ? rc : check_logic(walk, node, value);
}

static enum rc check_node(struct walk *walk, yyjson_val *node, yyjson_val *value)
{
    if (yyjson_is_bool(node))
        return yyjson_get_bool(node) ? RC_OK : broken(walk, "is not allowed");
    if (!yyjson_is_obj(node))
        return RC_OK;
    if (walk->depth == DEPTH_MAX || --walk->steps < 0)
        return RC_LIMIT;
    walk->depth++;
    enum rc rc = check_rules(walk, node, value);
    walk->depth--;
    return rc;
}

enum rc json_schema_check(const struct json_schema *schema, yyjson_val *value,
                          struct json_schema_problem *problem)
{
    struct json_schema_problem unused;
    struct walk walk = {
        .schema = schema, .problem = problem ? problem : &unused, .steps = STEPS_MAX};
    return check_node(&walk, schema->root, value);
}
