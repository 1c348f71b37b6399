/* The rules of Dify's node types, and those that ask no model. A rule fills the config of the
 * node's counterpart; what cannot be said there is told by dify_note. */
#include "pipeline/files/dify_private.h"
#include <stdio.h>
#include <stdlib.h>

#define MS_PER_S 1000

static void put(struct dify *d, yyjson_mut_val *o, const char *name, struct str text)
{
    json_set_text(d->doc, o, name, text);
}

static yyjson_mut_val *add_pair(struct dify *d, yyjson_mut_val *list, struct str name,
                                struct str value)
{
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
    put(d, o, "name", name);
    put(d, o, "value", value);
    return o;
}

/* Dify's names of types as ours; ANY for those of files. */
static const char *type_name(struct str type)
{
    if (str_starts(type, STR("array")) || str_starts(type, STR("Array")) ||
        str_eq(type, STR("file-list")))
        return "array";
    if (str_eq(type, STR("number")) || str_eq(type, STR("integer")) || str_eq(type, STR("float")))
        return "number";
    if (str_eq(type, STR("boolean")) || str_eq(type, STR("bool")) || str_eq(type, STR("checkbox")))
        return "boolean";
    if (str_eq(type, STR("object")) || str_eq(type, STR("json_object")))
        return "object";
    if (str_eq(type, STR("file")) || str_eq(type, STR("any")) || !type.n)
        return "any";
    return "string";
}

static const char *input_type_name(struct str type)
{
    return str_eq(type, STR("file"))                                            ? "file"
           : str_eq(type, STR("file-list")) || str_eq(type, STR("array[file]")) ? "files"
                                                                                : type_name(type);
}

/* ---- start, end, answer ---- */

static void map_start(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_mut_val *inputs = yyjson_mut_obj_add_arr(d->doc, config, "inputs");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(node->data, "variables"), i, n, item)
    {
        struct str type = json_get_text(item, "type"), name = json_get_text(item, "variable");
        yyjson_val *value = yyjson_obj_get(item, "default"),
                   *options = yyjson_obj_get(item, "options");
        if (!name.n || str_eq(type, STR("external_data_tool"))) {
            dify_note(d, true, "inputs", "the input '%.*s' comes from an external data tool",
                      STR_ARG(name));
            continue;
        }
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, inputs);
        put(d, o, "name", dify_identifier(d, name));
        if (json_get_text(item, "label").n)
            put(d, o, "title", json_get_text(item, "label"));
        yyjson_mut_obj_add_str(d->doc, o, "type", input_type_name(type));
        yyjson_mut_obj_add_bool(d->doc, o, "required", json_get_bool(item, "required", false));
        if (str_eq(type, STR("paragraph")))
            yyjson_mut_obj_add_bool(d->doc, o, "long", true);
        bool file = str_starts(type, STR("file"));
        if (value && !yyjson_is_null(value) && !file && json_text(value).n + !yyjson_is_str(value))
            yyjson_mut_obj_add_val(d->doc, o, "default", yyjson_val_mut_copy(d->doc, value));
        if (str_eq(type, STR("select")) && yyjson_arr_size(options))
            yyjson_mut_obj_add_val(d->doc, o, "options", yyjson_val_mut_copy(d->doc, options));
        int64_t longest = json_get_int(item, "max_length", 0);
        if (longest > 0 && (str_eq(type, STR("text-input")) || str_eq(type, STR("paragraph"))))
            yyjson_mut_obj_add_int(d->doc, o, "max_length", MIN(longest, 1000000));
    }
}

/* A trigger stands for a start: its parameters are the inputs. */
static void map_trigger(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    static const char *const lists[] = {"params", "body", "headers"};
    yyjson_mut_val *inputs = yyjson_mut_obj_add_arr(d->doc, config, "inputs");
    size_t i, n;
    yyjson_val *item;
    for (size_t l = 0; l < COUNT_OF(lists); l++)
        yyjson_arr_foreach(yyjson_obj_get(node->data, lists[l]), i, n, item)
        {
            yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, inputs);
            put(d, o, "name", dify_identifier(d, json_get_text(item, "name")));
            yyjson_mut_obj_add_str(d->doc, o, "type", input_type_name(json_get_text(item, "type")));
            yyjson_mut_obj_add_bool(d->doc, o, "required", json_get_bool(item, "required", false));
        }
    struct str cron = json_get_text(node->data, "cron_expression");
    dify_note(d, false, "", "was started by a %.*s%s%.*s: set that up for the pipeline here",
              STR_ARG(node->type), cron.n ? " " : "", STR_ARG(cron));
}

static void map_end(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_mut_val *outputs = yyjson_mut_obj_add_arr(d->doc, config, "outputs");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(node->data, "outputs"), i, n, item)
    {
        yyjson_val *selector = yyjson_obj_get(item, "value_selector");
        add_pair(d, outputs, dify_identifier(d, json_get_text(item, "variable")),
                 dify_is_selector(selector) ? dify_path(d, selector, "outputs") : STR("null"));
    }
}

static void map_answer(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    d->in_answer = true;
    put(d, config, "text",
        dify_template(d, json_get_text(node->data, "answer"), STR_EMPTY, "text"));
    d->in_answer = false;
}

/* ---- logic ---- */

static void map_if(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_mut_val *cases = yyjson_mut_obj_add_arr(d->doc, config, "cases");
    yyjson_val *list = yyjson_obj_get(node->data, "cases"), *item;
    size_t i, n;
    yyjson_arr_foreach(list, i, n, item)
    {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, cases);
        struct str when =
            dify_conditions(d, yyjson_obj_get(item, "conditions"),
                            json_get_text(item, "logical_operator"), STR_EMPTY, "cases");
        struct str id = dify_id_text(d, yyjson_obj_get(item, "case_id"));
        put(d, o, "id", dify_port(d, id.n ? id : dify_id_text(d, yyjson_obj_get(item, "id"))));
        put(d, o, "when", when.n ? when : STR("true"));
    }
    if (yyjson_is_arr(list))
        return;
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, cases); /* the form of old files */
    struct str when =
        dify_conditions(d, yyjson_obj_get(node->data, "conditions"),
                        json_get_text(node->data, "logical_operator"), STR_EMPTY, "cases");
    yyjson_mut_obj_add_str(d->doc, o, "id", "true");
    put(d, o, "when", when.n ? when : STR("true"));
}

static void map_iteration(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_val *data = node->data, *output = yyjson_obj_get(data, "output_selector");
    struct str mode = json_get_text(data, "error_handle_mode");
    put(d, config, "list", dify_path(d, yyjson_obj_get(data, "iterator_selector"), "list"));
    put(d, config, "output",
        dify_is_selector(output) ? dify_path(d, output, "output") : STR("null"));
    if (json_get_bool(data, "is_parallel", false))
        yyjson_mut_obj_add_int(d->doc, config, "parallel",
                               MAX(1, MIN(json_get_int(data, "parallel_nums", 10), 32)));
    if (str_eq(mode, STR("continue-on-error")))
        yyjson_mut_obj_add_str(d->doc, config, "on_item_error", "null");
    else if (str_eq(mode, STR("remove-abnormal-output")))
        yyjson_mut_obj_add_str(d->doc, config, "on_item_error", "drop");
    yyjson_mut_obj_add_bool(d->doc, config, "flatten", json_get_bool(data, "flatten_output", true));
}

/* A loop-end inside sets a variable that ends the loop after its round. */
#define LOOP_ENDED "loop_ended"

static bool has_loop_end(struct dify *d, const struct dify_node *loop)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->nodes[i].parent == (size_t)(loop - d->nodes) &&
            str_eq(d->nodes[i].type, STR("loop-end")))
            return true;
    return false;
}

static yyjson_val *parse_constant(struct dify *d, yyjson_val *value)
{
    struct err err = {0};
    struct str text = str_trim(json_text(value));
    yyjson_doc *doc;
    bool json = text.n && (text.p[0] == '[' || text.p[0] == '{');
    return json && json_read(text, d->arena, &doc, &err) == RC_OK ? yyjson_doc_get_root(doc)
                                                                  : value;
}

static void map_loop(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_mut_val *variables = yyjson_mut_obj_add_arr(d->doc, config, "variables"), *o;
    yyjson_val *item, *stops = yyjson_obj_get(node->data, "break_conditions");
    size_t i, n;
    yyjson_arr_foreach(yyjson_obj_get(node->data, "loop_variables"), i, n, item)
    {
        yyjson_val *value = yyjson_obj_get(item, "value");
        struct str type = json_get_text(item, "var_type");
        bool variable = str_eq(json_get_text(item, "value_type"), STR("variable"));
        bool number = str_eq(type, STR("number"));
        struct str text = variable ? dify_path(d, value, "variables")
                          : number ? dify_value(d, value, true, "variables")
                                   : dify_literal(d, parse_constant(d, value), "variables");
        o = add_pair(d, variables, dify_identifier(d, json_get_text(item, "label")), text);
        yyjson_mut_obj_add_str(d->doc, o, "type", type_name(type));
    }
    struct str until = dify_conditions(d, stops, json_get_text(node->data, "logical_operator"),
                                       STR_EMPTY, "until");
    if (has_loop_end(d, node)) {
        o = add_pair(d, variables, STR(LOOP_ENDED), STR("false"));
        yyjson_mut_obj_add_str(d->doc, o, "type", "boolean");
        struct str ended = arena_printf(d->arena, "%.*s." LOOP_ENDED, STR_ARG(node->name));
        until = until.n ? arena_printf(d->arena, "%.*s or (%.*s)", STR_ARG(ended), STR_ARG(until))
                        : ended;
    }
    if (until.n)
        put(d, config, "until", until);
    if (yyjson_arr_size(stops))
        dify_note(d, false, "until", "is tested after each round; there before the first, too");
    yyjson_mut_obj_add_int(d->doc, config, "rounds",
                           MAX(1, MIN(json_get_int(node->data, "loop_count", 10), 1000)));
}

static void map_loop_end(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    struct str loop = node->parent == NO_NODE ? STR_EMPTY : d->nodes[node->parent].name;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(d->doc, config, "assignments");
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
    put(d, o, "variable", arena_printf(d->arena, "%.*s." LOOP_ENDED, STR_ARG(loop)));
    yyjson_mut_obj_add_str(d->doc, o, "operation", "set");
    yyjson_mut_obj_add_str(d->doc, o, "value", "true");
}

/* ---- data ---- */

static void map_template(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    put(d, config, "text",
        dify_jinja(d, json_get_text(node->data, "template"),
                   yyjson_obj_get(node->data, "variables"), "text"));
}

static void map_code(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    bool python = !str_eq(json_get_text(node->data, "code_language"), STR("javascript"));
    yyjson_mut_val *inputs = yyjson_mut_obj_add_arr(d->doc, config, "inputs");
    size_t i, n;
    yyjson_val *item, *key;
    yyjson_mut_obj_add_str(d->doc, config, "language", python ? "python" : "javascript");
    yyjson_arr_foreach(yyjson_obj_get(node->data, "variables"), i, n, item)
    {
        yyjson_val *selector = yyjson_obj_get(item, "value_selector");
        add_pair(d, inputs, json_get_text(item, "variable"),
                 dify_is_selector(selector) ? dify_path(d, selector, "inputs") : STR("null"));
    }
    put(d, config, "code", json_get_text(node->data, "code"));
    yyjson_mut_val *outputs = yyjson_mut_obj_add_arr(d->doc, config, "outputs");
    yyjson_obj_foreach(yyjson_obj_get(node->data, "outputs"), i, n, key, item)
    {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, outputs);
        put(d, o, "name", json_text(key));
        yyjson_mut_obj_add_str(d->doc, o, "type", type_name(json_get_text(item, "type")));
    }
    if (yyjson_arr_size(yyjson_obj_get(node->data, "dependencies")))
        dify_note(d, true, "code", "the packages that it depends on are not installed here");
}

static void put_values(struct dify *d, yyjson_mut_val *config, yyjson_val *selectors)
{
    yyjson_mut_val *values = yyjson_mut_obj_add_arr(d->doc, config, "values");
    size_t i, n;
    yyjson_val *selector;
    yyjson_arr_foreach(selectors, i, n, selector)
        yyjson_mut_arr_append(values, json_new_text(d->doc, dify_path(d, selector, "values")));
}

/* With groups, each is a node of its own, one behind the other. */
static void map_aggregator(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_val *advanced = yyjson_obj_get(node->data, "advanced_settings"), *group;
    yyjson_mut_val *next = NULL;
    size_t i, n;
    if (!json_get_bool(advanced, "group_enabled", false)) {
        put_values(d, config, yyjson_obj_get(node->data, "variables"));
        return;
    }
    struct str last = node->name;
    yyjson_arr_foreach(yyjson_obj_get(advanced, "groups"), i, n, group)
    {
        struct str name =
            arena_printf(d->arena, "%.*s_%.*s", STR_ARG(node->name),
                         STR_ARG(dify_identifier(d, json_get_text(group, "group_name"))));
        dify_add_node(d, node, name, "aggregator", &next);
        put_values(d, next, yyjson_obj_get(group, "variables"));
        dify_add_edge(d, last, STR("out"), name);
        last = name;
    }
    node->last = last;
    yyjson_mut_obj_add_val(d->doc, config, "values", yyjson_mut_arr(d->doc));
    yyjson_mut_arr_add_str(d->doc, yyjson_mut_obj_get(config, "values"), "null");
}

static void map_list(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_val *filter = yyjson_obj_get(node->data, "filter_by"),
               *extract = yyjson_obj_get(node->data, "extract_by"),
               *order = yyjson_obj_get(node->data, "order_by"),
               *limit = yyjson_obj_get(node->data, "limit");
    put(d, config, "list", dify_path(d, yyjson_obj_get(node->data, "variable"), "list"));
    struct str when =
        dify_conditions(d, yyjson_obj_get(filter, "conditions"), STR("and"), STR("item"), "filter");
    if (json_get_bool(filter, "enabled", false) && when.n)
        put(d, config, "filter", when);
    if (json_get_bool(extract, "enabled", false)) { /* the n-th of what is left: a second pass */
        struct str name = node->last;
        struct str serial = dify_value(d, yyjson_obj_get(extract, "serial"), true, "filter");
        dify_add_node(d, node, name, "list", &config);
        put(d, config, "list", arena_printf(d->arena, "%.*s.result", STR_ARG(node->name)));
        put(d, config, "filter", arena_printf(d->arena, "index == %.*s - 1", STR_ARG(serial)));
        dify_add_edge(d, node->name, STR("out"), name);
    }
    if (json_get_bool(order, "enabled", false)) {
        struct str key = json_get_text(order, "key");
        put(d, config, "sort_by",
            key.n ? arena_printf(d->arena, "item.%.*s", STR_ARG(dify_identifier(d, key)))
                  : STR("item"));
        bool down = str_eq(json_get_text(order, "value"), STR("desc"));
        yyjson_mut_obj_add_str(d->doc, config, "order", down ? "descending" : "ascending");
    }
    if (json_get_bool(limit, "enabled", false))
        yyjson_mut_obj_add_int(d->doc, config, "first",
                               MAX(0, MIN(json_get_int(limit, "size", 0), 100000)));
}

/* ---- assigner ---- */

static const struct dify_output operations[] = {
    {STR_INIT("over-write"), STR_INIT("set")},
    {STR_INIT("set"), STR_INIT("set")},
    {STR_INIT("clear"), STR_INIT("clear")},
    {STR_INIT("append"), STR_INIT("append")},
    {STR_INIT("extend"), STR_INIT("extend")},
    {STR_INIT("+="), STR_INIT("add")},
    {STR_INIT("-="), STR_INIT("subtract")},
    {STR_INIT("*="), STR_INIT("multiply")},
    {STR_INIT("/="), STR_INIT("divide")},
    {STR_INIT("remove-first"), STR_INIT("remove_first")},
    {STR_INIT("remove-last"), STR_INIT("remove_last")},
};

static void add_assignment(struct dify *d, yyjson_mut_val *list, yyjson_val *target,
                           struct str said, struct str value)
{
    for (size_t i = 0; i < COUNT_OF(operations); i++)
        if (str_eq(operations[i].from, said)) {
            yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
            put(d, o, "variable", dify_path(d, target, "assignments"));
            put(d, o, "operation", operations[i].to);
            if (value.n)
                put(d, o, "value", value);
            return;
        }
    dify_note(d, true, "assignments", "the operation '%.*s' is not known here", STR_ARG(said));
}

static void map_assigner(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(d->doc, config, "assignments");
    yyjson_val *items = yyjson_obj_get(node->data, "items"), *item;
    size_t i, n;
    if (!yyjson_is_arr(items)) { /* version 1 */
        yyjson_val *input = yyjson_obj_get(node->data, "input_variable_selector");
        add_assignment(d, list, yyjson_obj_get(node->data, "assigned_variable_selector"),
                       json_get_text(node->data, "write_mode"),
                       dify_is_selector(input) ? dify_path(d, input, "assignments") : STR_EMPTY);
        return;
    }
    yyjson_arr_foreach(items, i, n, item)
    {
        yyjson_val *value = yyjson_obj_get(item, "value");
        struct str said = json_get_text(item, "operation"), text;
        bool variable = str_eq(json_get_text(item, "input_type"), STR("variable"));
        bool number = said.n && strchr("+-*/", said.p[0]);
        bool plain = str_eq(said, STR("clear")) || str_starts(said, STR("remove-"));
        text = plain      ? STR_EMPTY
               : variable ? dify_path(d, value, "assignments")
               : number   ? dify_value(d, value, true, "assignments")
                          : dify_literal(d, parse_constant(d, value), "assignments");
        add_assignment(d, list, yyjson_obj_get(item, "variable_selector"), said, text);
    }
}

/* ---- the outside ---- */

/* Lines "name:value" as pairs. */
static void put_lines(struct dify *d, yyjson_mut_val *list, struct str lines, const char *field)
{
    struct str line, name;
    while (str_split(&lines, '\n', &line)) {
        if (!str_split(&line, ':', &name) || !str_trim(name).n)
            continue;
        add_pair(d, list, dify_template(d, str_trim(name), STR_EMPTY, field),
                 dify_template(d, str_trim(line), STR_EMPTY, field));
    }
}

static struct str base64(struct dify *d, struct str text)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = arena_alloc(d->arena, (text.n + 2) / 3 * 4 + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < text.n; i += 3) {
        uint32_t bits = (uint32_t)(uint8_t)text.p[i] << 16;
        bits |= i + 1 < text.n ? (uint32_t)(uint8_t)text.p[i + 1] << 8 : 0;
        bits |= i + 2 < text.n ? (uint32_t)(uint8_t)text.p[i + 2] : 0;
        for (int k = 0; k < 4; k++)
            out[n++] = i + (size_t)k > text.n ? '=' : letters[bits >> (18 - 6 * k) & 63];
    }
    return str_make(out, n);
}

static void put_authorization(struct dify *d, yyjson_mut_val *headers, yyjson_val *authorization)
{
    yyjson_val *config = yyjson_obj_get(authorization, "config");
    struct str type = json_get_text(config, "type"), key = json_get_text(config, "api_key");
    struct str name = json_get_text(config, "header");
    if (!str_eq(json_get_text(authorization, "type"), STR("api-key")))
        return;
    const char *scheme = str_eq(type, STR("bearer"))  ? "Bearer "
                         : str_eq(type, STR("basic")) ? "Basic "
                                                      : "";
    bool pair = str_eq(type, STR("basic")) && str_find_char(key, ':') >= 0;
    if (pair && str_find(key, STR("{{#")) >= 0)
        dify_note(d, true, "headers", "Basic authorization made of variables must be base64 here");
    else if (pair)
        key = base64(d, key);
    add_pair(d, headers, name.n ? name : STR("Authorization"),
             arena_concat(d->arena, str_from(scheme), dify_template(d, key, STR_EMPTY, "headers")));
}

static void put_form(struct dify *d, yyjson_mut_val *config, yyjson_val *items)
{
    yyjson_mut_val *form = yyjson_mut_obj_add_arr(d->doc, config, "form");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(items, i, n, item)
    {
        if (str_eq(json_get_text(item, "type"), STR("file")))
            dify_note(d, true, "form", "the file '%.*s' is left out: requests hold no files here",
                      STR_ARG(json_get_text(item, "key")));
        else if (json_get_text(item, "key").n)
            add_pair(d, form, json_get_text(item, "key"),
                     dify_template(d, json_get_text(item, "value"), STR_EMPTY, "form"));
    }
}

static void put_body(struct dify *d, yyjson_mut_val *config, yyjson_val *body)
{
    struct str type = json_get_text(body, "type");
    yyjson_val *data = yyjson_obj_get(body, "data");
    bool json = str_eq(type, STR("json")), text = str_eq(type, STR("raw-text"));
    struct str whole =
        yyjson_is_str(data) ? json_text(data) : json_get_text(yyjson_arr_get_first(data), "value");
    if (str_starts(type, STR("x-www")) || str_eq(type, STR("form-data"))) {
        yyjson_mut_obj_add_str(d->doc, config, "body_type", "form");
        put_form(d, config, data);
        if (str_eq(type, STR("form-data")))
            dify_note(d, false, "body_type", "is sent URL-encoded, not as multipart/form-data");
    } else if (json || text) {
        yyjson_mut_obj_add_str(d->doc, config, "body_type", json ? "json" : "text");
        put(d, config, "body", dify_template(d, whole, STR_EMPTY, "body"));
    } else if (str_eq(type, STR("binary"))) {
        dify_note(d, true, "body", "a file cannot be sent as the body here: it is left out");
    }
}

static void map_http(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_val *data = node->data, *timeout = yyjson_obj_get(data, "timeout");
    struct str method = json_get_text(data, "method"),
               strategy = json_get_text(data, "error_strategy");
    yyjson_val *retry = yyjson_obj_get(data, "retry_config");
    char upper[8] = "GET";
    for (size_t i = 0; i < method.n && method.n < sizeof(upper); i++)
        upper[i] =
            (char)(method.p[i] >= 'a' && method.p[i] <= 'z' ? method.p[i] & ~0x20 : method.p[i]);
    upper[method.n < sizeof(upper) && method.n ? method.n : 3] = '\0';
    put(d, config, "method", arena_copy(d->arena, str_from(upper)));
    put(d, config, "url", dify_template(d, json_get_text(data, "url"), STR_EMPTY, "url"));
    yyjson_mut_val *headers = yyjson_mut_obj_add_arr(d->doc, config, "headers");
    put_lines(d, headers, json_get_text(data, "headers"), "headers");
    put_authorization(d, headers, yyjson_obj_get(data, "authorization"));
    put_lines(d, yyjson_mut_obj_add_arr(d->doc, config, "query"), json_get_text(data, "params"),
              "query");
    put_body(d, config, yyjson_obj_get(data, "body"));
    yyjson_mut_obj_add_bool(d->doc, config, "fail_on_status",
                            json_get_bool(retry, "retry_enabled", false) ||
                                (strategy.n && !str_eq(strategy, STR("none"))));
    int64_t time_s = json_get_int(timeout, "connect", 0) + json_get_int(timeout, "read", 0) +
                     json_get_int(timeout, "write", 0);
    if (time_s > 0 && time_s < 86400)
        yyjson_mut_obj_add_int(d->doc, node->mapped, "timeout_ms", time_s * MS_PER_S);
    if (!json_get_bool(data, "ssl_verify", true))
        dify_note(d, false, "url", "certificates are always checked here");
}

/* ---- people ---- */

static void put_fields(struct dify *d, yyjson_mut_val *config, yyjson_val *inputs)
{
    yyjson_mut_val *fields = yyjson_mut_obj_add_arr(d->doc, config, "fields");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(inputs, i, n, item)
    {
        struct str type = json_get_text(item, "type");
        yyjson_val *value = yyjson_obj_get(item, "default"),
                   *source = yyjson_obj_get(item, "option_source");
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, fields);
        put(d, o, "name", dify_identifier(d, json_get_text(item, "output_variable_name")));
        yyjson_mut_obj_add_str(d->doc, o, "type", str_starts(type, STR("file")) ? "any" : "string");
        if (str_eq(type, STR("paragraph")))
            yyjson_mut_obj_add_bool(d->doc, o, "long", true);
        if (str_eq(json_get_text(value, "type"), STR("constant")) &&
            json_get_text(value, "value").n)
            put(d, o, "default", json_get_text(value, "value"));
        if (yyjson_arr_size(yyjson_obj_get(source, "value")))
            yyjson_mut_obj_add_val(d->doc, o, "options",
                                   yyjson_val_mut_copy(d->doc, yyjson_obj_get(source, "value")));
        if (str_eq(json_get_text(value, "type"), STR("variable")) ||
            str_eq(json_get_text(source, "type"), STR("variable")))
            dify_note(d, true, "fields", "defaults and choices from variables are left out");
    }
}

/* The form's text without the marks of its fields. */
static struct str without_marks(struct dify *d, struct str text)
{
    ssize_t from;
    while ((from = str_find(text, STR("{{#$output."))) >= 0) {
        struct str rest = str_slice(text, (size_t)from, text.n);
        ssize_t end = str_find(rest, STR("#}}"));
        if (end < 0)
            break;
        text = arena_concat(d->arena, str_slice(text, 0, (size_t)from),
                            str_slice(rest, (size_t)end + 3, rest.n));
    }
    return text;
}

static void map_human(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_val *data = node->data, *item;
    size_t i, n;
    put(d, config, "text",
        dify_template(d, without_marks(d, json_get_text(data, "form_content")), STR_EMPTY, "text"));
    put_fields(d, config, yyjson_obj_get(data, "inputs"));
    yyjson_mut_val *actions = yyjson_mut_obj_add_arr(d->doc, config, "actions");
    yyjson_arr_foreach(yyjson_obj_get(data, "user_actions"), i, n, item)
    {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, actions);
        put(d, o, "id", dify_port(d, dify_id_text(d, yyjson_obj_get(item, "id"))));
        put(d, o, "name", json_get_text(item, "title"));
    }
    struct str unit = json_get_text(data, "timeout_unit");
    int64_t unit_ms = str_eq(unit, STR("day"))      ? 86400000
                      : str_eq(unit, STR("minute")) ? 60000
                                                    : 3600000;
    int64_t count = MAX(1, MIN(json_get_int(data, "timeout", 36), 365));
    yyjson_mut_obj_add_int(d->doc, config, "timeout_ms", count * unit_ms);
    yyjson_arr_foreach(yyjson_obj_get(data, "delivery_methods"), i, n, item)
    {
        struct str type = json_get_text(item, "type");
        if (!str_eq(type, STR("webapp")))
            dify_note(d, false, "", "was delivered by %.*s; here it is in the inbox",
                      STR_ARG(type));
    }
}

static void map_document(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
{
    yyjson_val *selector = yyjson_obj_get(node->data, "variable_selector");
    put(d, config, "files",
        dify_is_selector(selector) ? dify_path(d, selector, "files") : STR("null"));
}

/* ---- the table ---- */

#define OUT(theirs, ours) {STR_INIT(theirs), STR_INIT(ours)}
#define NONE(theirs)      {STR_INIT(theirs), {NULL, 0}}

static const struct dify_rule rules[] = {
    {"start", "start", map_start, NULL, {{{0}}}},
    {"trigger-schedule", "start", map_trigger, NULL, {{{0}}}},
    {"trigger-webhook", "start", map_trigger, NULL, {{{0}}}},
    {"trigger-plugin", "start", map_trigger, NULL, {{{0}}}},
    {"end", "end", map_end, NULL, {{{0}}}},
    {"answer", "answer", map_answer, NULL, {OUT("answer", "text"), NONE("files")}},
    {"llm",
     "llm",
     dify_map_llm,
     NULL,
     {OUT("structured_output", "json"), NONE("reasoning_content"), NONE("files")}},
    {"knowledge-retrieval", "retrieval", dify_map_retrieval, NULL, {{{0}}}},
    {"question-classifier",
     "classifier",
     dify_map_classifier,
     NULL,
     {OUT("class_label", "class_name")}},
    {"parameter-extractor",
     "extractor",
     dify_map_extractor,
     NULL,
     {NONE("__is_success"), NONE("__reason"), OUT("__usage", "usage")}},
    {"if-else", "if_else", map_if, NULL, {OUT("selected_case_id", "case"), NONE("result")}},
    {"iteration", "iteration", map_iteration, NULL, {{{0}}}},
    {"loop", "loop", map_loop, NULL, {OUT("loop_round", "rounds")}},
    {"loop-end", "assigner", map_loop_end, NULL, {{{0}}}},
    {"code", "code", map_code, NULL, {{{0}}}},
    {"template-transform", "template", map_template, NULL, {{{0}}}},
    {"variable-aggregator", "aggregator", map_aggregator, NULL, {{{0}}}},
    {"variable-assigner", "aggregator", map_aggregator, NULL, {{{0}}}},
    {"assigner", "assigner", map_assigner, NULL, {{{0}}}},
    {"list-operator",
     "list",
     map_list,
     NULL,
     {OUT("first_record", "first"), OUT("last_record", "last")}},
    {"http-request", "http", map_http, NULL, {NONE("files")}},
    {"human-input",
     "human",
     map_human,
     NULL,
     {OUT("__action_id", "action"), NONE("__action_value"), NONE("__rendered_content")}},
    {"tool", "tool", dify_map_tool, NULL, {NONE("files")}},
    {"agent", "agent", dify_map_agent, NULL, {NONE("files"), OUT("json", "steps")}},
    {"document-extractor", "document", map_document, NULL, {{{0}}}},
    {"datasource", NULL, NULL, "belongs to a knowledge pipeline, not to an app", {{{0}}}},
    {"datasource-empty", NULL, NULL, "belongs to a knowledge pipeline, not to an app", {{{0}}}},
    {"knowledge-index", NULL, NULL, "belongs to a knowledge pipeline, not to an app", {{{0}}}},
};

const struct dify_rule *dify_rule_find(struct str type)
{
    for (size_t i = 0; i < COUNT_OF(rules); i++)
        if (str_eq(type, str_from(rules[i].from)))
            return &rules[i];
    return NULL;
}

struct str dify_output_name(const struct dify_node *node, struct str name)
{
    for (size_t i = 0; i < COUNT_OF(node->rule->outputs); i++)
        if (node->rule->outputs[i].from.n && str_eq(node->rule->outputs[i].from, name))
            return node->rule->outputs[i].to;
    if (node->rule->map == map_document && json_get_bool(node->data, "is_array_file", false) &&
        str_eq(name, STR("text")))
        return STR("texts");
    return str_eq(name, STR("error_type")) ? STR("error_code") : name;
}
