/* Dify's references, texts and conditions as ours. A selector is a list [root, name, key…], in
 * texts
 * {{#root.name.key#}}; here it is a path, root.name.key, in expressions and templates alike. */
#include "pipeline/files/dify_private.h"
#include <stdio.h>

#define ROOT_BYTES_MAX 50
#define PART_BYTES_MAX 30
#define PARTS_MAX      10

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

struct str dify_id_text(struct dify *d, yyjson_val *value)
{
    return yyjson_is_int(value) ? arena_printf(d->arena, "%lld", (long long)yyjson_get_sint(value))
                                : json_text(value);
}

bool dify_is_selector(yyjson_val *value)
{
    return yyjson_is_arr(value) && yyjson_arr_size(value) >= 2;
}

/* ---- paths ---- */

struct path {
    struct str parts[PARTS_MAX + 2];
    size_t count;
};

static struct path read_selector(struct dify *d, yyjson_val *selector)
{
    struct path path = {.count = 0};
    size_t i, n;
    yyjson_val *part;
    yyjson_arr_foreach(selector, i, n, part)
    {
        struct str text = dify_id_text(d, part);
        bool dotted = i == 1 && str_starts(text, STR("sys."));
        if (dotted) { /* [START, "sys.query"], an old spelling */
            path.parts[0] = STR("sys");
            text = str_slice(text, 4, text.n);
        }
        if (path.count < COUNT_OF(path.parts))
            path.parts[path.count++] = text;
    }
    return path;
}

/* What is called sys.NAME there; empty: there is no such thing. */
static struct str system_path(struct dify *d, struct str name)
{
    static const struct dify_output names[] = {
        {STR_INIT("query"), STR_INIT("sys.query")},
        {STR_INIT("user_id"), STR_INIT("sys.user")},
        {STR_INIT("conversation_id"), STR_INIT("sys.session")},
        {STR_INIT("workflow_run_id"), STR_INIT("sys.run_id")},
        {STR_INIT("workflow_id"), STR_INIT("sys.version")},
        {STR_INIT("app_id"), STR_INIT("sys.pipeline")},
        {STR_INIT("timestamp"), STR_INIT("sys.started_at")},
    };
    if (str_eq(name, STR("files"))) {
        d->uses_files = true;
        return d->start ? arena_printf(d->arena, "%.*s.files", STR_ARG(d->start->name)) : STR_EMPTY;
    }
    if (str_eq(name, STR("query")))
        d->uses_query = true;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(name, names[i].from))
            return names[i].to;
    return STR_EMPTY;
}

/* The first two steps; empty: there is nothing of that name. *used: how many steps it stands for.
 */
static struct str path_head(struct dify *d, const struct path *path, size_t *used)
{
    struct str root = path->parts[0], name = path->parts[1];
    *used = 2;
    if (str_eq(root, STR("sys")))
        return system_path(d, name);
    if (str_eq(root, STR("env")) || str_eq(root, STR("conversation")))
        return arena_printf(d->arena, "%.*s.%.*s", STR_ARG(root),
                            STR_ARG(dify_identifier(d, name)));
    struct dify_node *node = dify_find(d, root);
    if (!node || node->dropped || !node->rule || !node->rule->to)
        return STR_EMPTY;
    bool grouped = str_eq(node->type, STR("variable-aggregator")) && path->count > 2 &&
                   str_eq(path->parts[2], STR("output"));
    if (grouped) { /* [aggregator, group, output]: each group is a node here */
        *used = 3;
        return arena_printf(d->arena, "%.*s_%.*s.output", STR_ARG(node->name),
                            STR_ARG(dify_identifier(d, name)));
    }
    struct str output = dify_output_name(node, name);
    struct str owner = str_eq(node->type, STR("list-operator")) ? node->last : node->name;
    return output.n ? arena_printf(d->arena, "%.*s.%.*s", STR_ARG(owner), STR_ARG(output))
                    : STR_EMPTY;
}

static struct str path_text(struct dify *d, const struct path *path)
{
    size_t used;
    struct str out = path->count >= 2 ? path_head(d, path, &used) : STR_EMPTY;
    for (size_t i = out.n ? used : path->count; i < path->count; i++)
        out = arena_printf(d->arena, "%.*s.%.*s", STR_ARG(out),
                           STR_ARG(dify_identifier(d, path->parts[i])));
    return out;
}

static void note_missing(struct dify *d, const struct path *path, const char *field)
{
    dify_note(d, true, field, "reads %.*s.%.*s, which there is not here; it is empty now",
              STR_ARG(path->parts[0]), STR_ARG(path->parts[1]));
}

struct str dify_path(struct dify *d, yyjson_val *selector, const char *field)
{
    struct path path = read_selector(d, selector);
    struct str out = path_text(d, &path);
    if (out.n)
        return out;
    note_missing(d, &path, field);
    return STR("null");
}

/* Of a declared variable: the item of `list` whose member `key` is `name`. */
static enum value_type variable_type(yyjson_val *list, const char *key, const char *member,
                                     struct str name)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        struct str type = json_get_text(item, member);
        if (!str_eq(json_get_text(item, key), name))
            continue;
        return str_starts(type, STR("array")) || str_eq(type, STR("file-list")) ? VALUE_ARRAY
               : str_starts(type, STR("json"))                                  ? VALUE_OBJECT
                                               : value_type_parse(type);
    }
    return VALUE_ANY;
}

static enum value_type type_of_path(struct dify *d, const struct path *path)
{
    if (path->count != 2)
        return VALUE_ANY;
    if (str_eq(path->parts[0], STR("sys")))
        return str_eq(path->parts[1], STR("files")) ? VALUE_ARRAY : VALUE_STRING;
    if (str_eq(path->parts[0], STR("conversation")))
        return variable_type(yyjson_obj_get(d->workflow, "conversation_variables"), "name",
                             "value_type", path->parts[1]);
    struct dify_node *node = dify_find(d, path->parts[0]);
    if (!node || !node->rule || !node->rule->to)
        return VALUE_ANY;
    if (node == d->start)
        return variable_type(yyjson_obj_get(node->data, "variables"), "variable", "type",
                             path->parts[1]);
    if (str_eq(node->type, STR("loop")))
        return variable_type(yyjson_obj_get(node->data, "loop_variables"), "label", "var_type",
                             path->parts[1]);
    struct str name = dify_output_name(node, path->parts[1]);
    const struct node_type *type = node_type_find(str_from(node->rule->to));
    for (size_t o = 0; type && o < type->output_count; o++)
        if (str_eq(type->outputs[o].name, name))
            return type->outputs[o].type;
    yyjson_val *declared =
        yyjson_obj_getn(yyjson_obj_get(node->data, "outputs"), path->parts[1].p, path->parts[1].n);
    struct str said = json_get_text(declared, "type"); /* of a code node */
    return str_starts(said, STR("array")) ? VALUE_ARRAY : value_type_parse(said);
}

enum value_type dify_type_of(struct dify *d, yyjson_val *selector)
{
    struct path path = read_selector(d, selector);
    return type_of_path(d, &path);
}

/* ---- texts ---- */

static struct str print_path(struct dify *d, const struct path *path, const char *field)
{
    struct str text = path_text(d, path);
    enum value_type type = type_of_path(d, path);
    if (!text.n) {
        note_missing(d, path, field);
        return STR_EMPTY;
    }
    if (type == VALUE_ARRAY && d->in_answer)
        return arena_printf(d->arena,
                            "{%% for x in %.*s %%}{{ '' if loop.first else '\\n' }}- {{ x }}"
                            "{%% endfor %%}",
                            STR_ARG(text));
    if (type == VALUE_OBJECT && d->in_answer)
        return arena_printf(d->arena, "{{ %.*s | tojson(indent=2) }}", STR_ARG(text));
    if (type == VALUE_ARRAY || type == VALUE_OBJECT)
        return arena_printf(d->arena, "{{ %.*s | tojson if %.*s else '' }}", STR_ARG(text),
                            STR_ARG(text));
    return arena_printf(d->arena, "{{ %.*s }}", STR_ARG(text));
}

struct str dify_print(struct dify *d, yyjson_val *selector, const char *field)
{
    struct path path = read_selector(d, selector);
    return print_path(d, &path, field);
}

/* "#root.name.key#}}" behind "{{": its parts. False: it is plain text. */
static bool take_reference(struct str text, struct path *path, size_t *end)
{
    size_t at = 1;
    *path = (struct path){.count = 0};
    while (at < text.n) {
        size_t from = at;
        while (at < text.n && is_word_char(text.p[at]))
            at++;
        size_t n = at - from, longest = path->count ? PART_BYTES_MAX : ROOT_BYTES_MAX;
        bool digit = n && path->count && text.p[from] >= '0' && text.p[from] <= '9';
        if (n == 0 || n > longest || digit || path->count == COUNT_OF(path->parts))
            return false;
        path->parts[path->count++] = str_slice(text, from, at);
        if (at < text.n && text.p[at] == '.')
            at++;
        else
            break;
    }
    *end = at + 3;
    return path->count >= 2 && str_starts(str_slice(text, at, text.n), STR("#}}"));
}

static bool take_special(struct str text, struct str name, size_t *end)
{
    bool fits = str_starts(text, name);
    *end = name.n;
    return fits;
}

/* One step of dify_template at "{{": what stands there goes to `out`. False: it is plain text. */
static bool put_reference(struct dify *d, struct str rest, struct str context, const char *field,
                          struct buf *out, size_t *end)
{
    struct path path;
    struct str text = STR_EMPTY;
    if (take_special(rest, STR("#context#}}"), end))
        text = context;
    else if (take_special(rest, STR("#histories#}}"), end))
        text = STR_EMPTY; /* the memory puts it in front */
    else if (rest.n && rest.p[0] == '#' && take_reference(rest, &path, end))
        text = print_path(d, &path, field);
    else
        return false;
    (void)!buf_append(out, text);
    return true;
}

struct str dify_template(struct dify *d, struct str text, struct str context, const char *field)
{
    struct buf out;
    size_t at = 0, end;
    buf_init(&out, DOCUMENT_BYTES_MAX);
    while (at < text.n) {
        char c = text.p[at], next = at + 1 < text.n ? text.p[at + 1] : 0;
        if (c == '{' && next == '{' &&
            put_reference(d, str_slice(text, at + 2, text.n), context, field, &out, &end)) {
            at += 2 + end;
            continue;
        }
        if (c == '{' && (next == '{' || next == '%' || next == '#'))
            (void)!buf_append(&out, STR("{{ '{' }}")); /* plain text there, a tag here */
        else
            (void)!buf_append_char(&out, c);
        at++;
    }
    struct str made = arena_copy(d->arena, buf_str(&out));
    buf_fini(&out);
    return made.p ? made : STR("");
}

struct str dify_jinja(struct dify *d, struct str text, yyjson_val *variables, const char *field)
{
    struct str out = STR("");
    size_t i, n;
    yyjson_val *variable;
    yyjson_arr_foreach(variables, i, n, variable)
    {
        yyjson_val *selector = yyjson_obj_get(variable, "value_selector");
        if (dify_is_selector(selector))
            out = arena_printf(d->arena, "%.*s{%% set %.*s = %.*s %%}", STR_ARG(out),
                               STR_ARG(dify_identifier(d, json_get_text(variable, "variable"))),
                               STR_ARG(dify_path(d, selector, field)));
    }
    return arena_concat(d->arena, out, text);
}

/* ---- values ---- */

static struct str quote(struct dify *d, struct str text)
{
    struct buf out;
    buf_init(&out, 2 * text.n + 3);
    (void)!buf_append_char(&out, '"');
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '"' || text.p[i] == '\\')
            (void)!buf_append_char(&out, '\\');
        (void)!buf_append_char(&out, text.p[i]);
    }
    (void)!buf_append_char(&out, '"');
    struct str made = arena_copy(d->arena, buf_str(&out));
    buf_fini(&out);
    return made.p ? made : STR("\"\"");
}

struct str dify_literal(struct dify *d, yyjson_val *value, const char *field)
{
    size_t i, n;
    yyjson_val *item;
    struct str out = STR("[");
    if (yyjson_is_str(value))
        return quote(d, json_text(value));
    if (!yyjson_is_ctn(value)) {
        struct str text = value ? json_write(value, d->arena) : STR("null");
        return text.p ? text : STR("null");
    }
    if (yyjson_is_obj(value)) {
        dify_note(d, true, field, "expressions have no objects: this value is empty now");
        return STR("null");
    }
    yyjson_arr_foreach(value, i, n, item) out = arena_printf(
        d->arena, "%.*s%s%.*s", STR_ARG(out), i ? ", " : "", STR_ARG(dify_literal(d, item, field)));
    return arena_concat(d->arena, out, STR("]"));
}

/* "a {{#x.y#}} b" as "a " + text(x.y) + " b". */
static struct str join_text(struct dify *d, struct str text, const char *field)
{
    struct str out = STR_EMPTY;
    struct path path;
    size_t at = 0, from = 0, end, pieces = 0;
    for (; at <= text.n; at++) {
        bool last = at == text.n;
        bool reference = !last && str_starts(str_slice(text, at, text.n), STR("{{#")) &&
                         take_reference(str_slice(text, at + 2, text.n), &path, &end);
        if (!last && !reference)
            continue;
        if (at > from)
            out = arena_printf(d->arena, "%.*s%s%.*s", STR_ARG(out), pieces++ ? " + " : "",
                               STR_ARG(quote(d, str_slice(text, from, at))));
        if (last)
            break;
        struct str value = path_text(d, &path);
        if (!value.n) {
            note_missing(d, &path, field);
            value = STR("null");
        }
        bool whole = from == 0 && at == 0 && 2 + end == text.n;
        out = arena_printf(d->arena, whole ? "%.*s%s%.*s" : "%.*s%sdefault(text(%.*s), \"\")",
                           STR_ARG(out), pieces++ ? " + " : "", STR_ARG(value));
        at += 2 + end;
        from = at--;
    }
    return out.n ? out : STR("\"\"");
}

struct str dify_value(struct dify *d, yyjson_val *value, bool number, const char *field)
{
    double parsed;
    struct str text = json_text(value);
    if (!yyjson_is_str(value))
        return dify_literal(d, value, field);
    if (number && str_to_double(str_trim(text), &parsed) == RC_OK)
        return str_trim(text);
    struct str out = join_text(d, text, field);
    return number ? arena_printf(d->arena, "number(%.*s)", STR_ARG(out)) : out;
}

/* ---- conditions ---- */

struct operator
{
    const char *name;
    const char *form; /* %1 the left side, %2 the right one */
    bool number, list;
};

/* What is null or missing makes every comparison false but "not contains", "not in" and "empty". */
static const struct operator operators[] = {
    {"contains", "contains(%1, %2)", false, false},
    {"not contains", "not contains(%1, %2)", false, false},
    {"start with", "starts_with(%1, %2)", false, false},
    {"end with", "ends_with(%1, %2)", false, false},
    {"is", "%1 == %2", false, false},
    {"is not", "exists(%1) and %1 != %2", false, false},
    {"empty", "not %1", false, false},
    {"not empty", "not not %1", false, false},
    {"=", "number(%1) == %2", true, false},
    {"≠", "exists(%1) and number(%1) != %2", true, false},
    {">", "number(%1) > %2", true, false},
    {"<", "number(%1) < %2", true, false},
    {"≥", "number(%1) >= %2", true, false},
    {"≤", "number(%1) <= %2", true, false},
    {"in", "%1 in %2", false, true},
    {"not in", "not (%1 in %2)", false, true},
    {"exists", "exists(%1)", false, false},
    {"not exists", "not exists(%1)", false, false},
    {"null", "%1 == null", false, false},
    {"is null", "%1 == null", false, false},
    {"not null", "exists(%1)", false, false},
    {"is not null", "exists(%1)", false, false},
};

static struct str fill(struct dify *d, const char *form, struct str left, struct str right)
{
    struct str out = STR("");
    for (const char *p = form; *p; p++) {
        bool place = p[0] == '%' && (p[1] == '1' || p[1] == '2');
        out = arena_concat(d->arena, out, !place ? str_make(p, 1) : p[1] == '1' ? left : right);
        p += place;
    }
    return out;
}

/* Every one of a list. */
static struct str all_of(struct dify *d, struct str left, yyjson_val *value, const char *field)
{
    struct str out = STR_EMPTY;
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(value, i, n, item) out =
        arena_printf(d->arena, "%.*s%scontains(%.*s, %.*s)", STR_ARG(out), i ? " and " : "",
                     STR_ARG(left), STR_ARG(dify_value(d, item, false, field)));
    return out.n ? out : STR("false");
}

static struct str condition(struct dify *d, yyjson_val *json, struct str item, const char *field)
{
    struct str name = json_get_text(json, "comparison_operator");
    yyjson_val *value = yyjson_obj_get(json, "value"),
               *selector = yyjson_obj_get(json, "variable_selector");
    struct str key = json_get_text(json, "key"), left;
    if (yyjson_obj_get(json, "sub_variable_condition")) {
        dify_note(
            d, true, field,
            "a condition on the attributes of files has no counterpart: it never holds; filter "
            "the files with a list operator in front");
        return STR("false");
    }
    if (item.n)
        left = key.n ? arena_printf(d->arena, "%.*s.%.*s", STR_ARG(item),
                                    STR_ARG(dify_identifier(d, key)))
                     : item;
    else
        left = dify_is_selector(selector) ? dify_path(d, selector, field) : STR("null");
    if (str_eq(name, STR("all of")))
        return all_of(d, left, value, field);
    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        const struct operator* op = & operators[i];
        if (!str_eq(name, str_from(op->name)))
            continue;
        if (op->list && yyjson_is_str(value)) /* a list, or a text to be found in */
            return fill(d, "contains(%2, %1)", left, dify_value(d, value, false, field));
        bool truth = str_eq(json_get_text(json, "varType"), STR("boolean")) && yyjson_is_str(value);
        struct str right =
            truth ? (str_eq_nocase(json_text(value), STR("true")) ? STR("true") : STR("false"))
                  : dify_value(d, value, op->number, field);
        return fill(d, op->form, left, right);
    }
    dify_note(d, true, field, "the operator '%.*s' is not known here: it never holds",
              STR_ARG(name));
    return STR("false");
}

struct str dify_conditions(struct dify *d, yyjson_val *conditions, struct str logical,
                           struct str item, const char *field)
{
    struct str out = STR_EMPTY;
    size_t i, n;
    yyjson_val *json;
    const char *joint = str_eq(logical, STR("or")) ? " or " : " and ";
    yyjson_arr_foreach(conditions, i, n, json)
    {
        struct str one = condition(d, json, item, field);
        bool bracket = yyjson_arr_size(conditions) > 1;
        out = arena_printf(d->arena, "%.*s%s%s%.*s%s", STR_ARG(out), i ? joint : "",
                           bracket ? "(" : "", STR_ARG(one), bracket ? ")" : "");
    }
    return out;
}
