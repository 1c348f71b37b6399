/* Reading definitions. See document.h. */
#include "pipeline/definition/document.h"
#include "base/map.h"
#include "text/decode.h"
#include "text/json_schema.h"
#include "text/json_tree.h"
#include "trace/usage.h"
#include <stdarg.h>
#include <stdio.h>

/* ---- findings ---- */

void findings_init(struct findings *findings, struct arena *arena)
{
    *findings = (struct findings){
        .arena = arena,
        .items = ARENA_NEW_ARRAY(arena, struct finding, DOCUMENT_FINDINGS_MAX),
    };
}

void findings_add(struct findings *findings, struct str node, struct str field, bool warning,
                  const char *code, const char *fmt, ...)
{
    char text[512];
    va_list args;
    findings->errors += !warning;
    if (!findings->items || findings->count == DOCUMENT_FINDINGS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    findings->items[findings->count++] = (struct finding){
        .node = node,
        .field = arena_copy(findings->arena, field),
        .warning = warning,
        .code = code,
        .message = arena_copy(findings->arena, str_from(text)),
    };
}

yyjson_mut_val *findings_encode(const struct findings *findings, yyjson_mut_doc *doc)
{
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->items[i];
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, list);
        json_set_text(doc, o, "node", finding->node);
        json_set_text(doc, o, "field", finding->field);
        yyjson_mut_obj_add_str(doc, o, "severity", finding->warning ? "warning" : "error");
        yyjson_mut_obj_add_str(doc, o, "code", finding->code);
        json_set_text(doc, o, "message", finding->message);
    }
    return list;
}

enum rc findings_error(const struct findings *findings, struct err *err)
{
    char field[ERR_FIELD_BYTES_MAX];
    if (findings->errors == 0)
        return RC_OK;
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->items[i];
        if (finding->warning)
            continue;
        snprintf(field, sizeof(field), "%.*s%s%.*s", STR_ARG(finding->node),
                 finding->node.n && finding->field.n ? "." : "", STR_ARG(finding->field));
        return err_set_field(err, ERR_BAD_FIELD, field, "%.*s", STR_ARG(finding->message));
    }
    return err_set(err, ERR_TOO_LARGE, "the definition is too large to check");
}

/* ---- nodes and edges ---- */

#define HOSTS_MAX 64

struct reading {
    struct document *document;
    struct findings *findings;
    struct map by_id; /* id → document_node */
};

static void add_error(struct reading *r, struct str node, const char *field, const char *code,
                      const char *message)
{
    findings_add(r->findings, node, str_from(field), false, code, "%s", message);
}

static enum on_error read_on_error(yyjson_val *json)
{
    struct str text = json_get_text(json, "on_error");
    return str_eq(text, STR("default"))  ? ON_ERROR_DEFAULT
           : str_eq(text, STR("branch")) ? ON_ERROR_BRANCH
                                         : ON_ERROR_STOP;
}

/* "/cases/0/when" → "cases[0].when" */
static struct str field_path(struct arena *arena, const char *pointer)
{
    char out[256];
    size_t n = 0;
    for (const char *p = pointer; *p && n + 4 < sizeof(out);) {
        p++; /* the slash */
        bool index = *p >= '0' && *p <= '9';
        if (index)
            out[n++] = '[';
        else if (n)
            out[n++] = '.';
        while (*p && *p != '/' && n + 2 < sizeof(out))
            out[n++] = *p++;
        if (index)
            out[n++] = ']';
        while (*p && *p != '/')
            p++;
    }
    return arena_copy(arena, str_make(out, n));
}

static void check_config(struct reading *r, const struct document_node *node)
{
    struct json_schema_problem problem;
    if (json_schema_check(node->type->schema, node->config, &problem) == RC_OK)
        return;
    findings_add(r->findings, node->id, field_path(r->findings->arena, problem.path), false,
                 "bad_config", "%s", problem.message);
}

static void read_errors(struct reading *r, yyjson_val *json, struct document_node *node)
{
    yyjson_val *retry = yyjson_obj_get(json, "retry");
    node->retry_max = MAX(0, MIN(json_get_int(retry, "max", 0), 10));
    node->retry_interval_ms = MAX(0, json_get_int(retry, "interval_ms", 1000));
    node->timeout_ms = MAX(0, json_get_int(json, "timeout_ms", 0));
    node->on_error = read_on_error(json);
    node->default_value = yyjson_obj_get(json, "default");
    if (!node->type->errors && (node->retry_max || node->on_error != ON_ERROR_STOP))
        add_error(r, node->id, "on_error", "not_offered",
                  "nodes of this type have no retry and no error handling");
    if (node->on_error == ON_ERROR_DEFAULT && !yyjson_is_obj(node->default_value))
        add_error(r, node->id, "default", "missing_default",
                  "on_error \"default\" needs an object of output values in `default`");
}

static void read_node(struct reading *r, yyjson_val *json)
{
    struct document *document = r->document;
    struct str id = json_get_text(json, "id"), type = json_get_text(json, "type");
    struct document_node *node = &document->nodes[document->node_count];
    *node = (struct document_node){.id = id,
                                   .title = json_get_text(json, "title"),
                                   .type = node_type_find(type),
                                   .parent = NO_NODE,
                                   .config = yyjson_obj_get(json, "config")};
    if (!node->type) {
        findings_add(r->findings, id, STR("type"), false, "unknown_type",
                     "there is no node type '%.*s'", (int)MIN(type.n, (size_t)64), type.p);
        return;
    }
    if (map_get(&r->by_id, id)) {
        add_error(r, id, "id", "duplicate_id", "another node has this id");
        return;
    }
    if (str_eq(id, STR("sys")) || str_eq(id, STR("env")) || str_eq(id, STR("conversation")) ||
        (str_eq(id, STR("start")) && node->type->kind != NODE_START))
        add_error(r, id, "id", "reserved_id", "this name is reserved");
    check_config(r, node);
    read_errors(r, json, node);
    if (node->type->kind == NODE_START && document->start != NO_NODE)
        add_error(r, id, "", "several_starts", "a pipeline has one start");
    if (node->type->kind == NODE_START)
        document->start = document->node_count;
    map_put(&r->by_id, id, node);
    document->node_count++;
}

size_t document_find(const struct document *document, struct str id)
{
    for (size_t i = 0; i < document->node_count; i++)
        if (str_eq(document->nodes[i].id, id))
            return i;
    return NO_NODE;
}

static size_t find_node(struct reading *r, struct str id)
{
    struct document_node *node = map_get(&r->by_id, id);
    return node ? (size_t)(node - r->document->nodes) : NO_NODE;
}

static void read_parents(struct reading *r, yyjson_val *list)
{
    size_t i, n;
    yyjson_val *json;
    yyjson_arr_foreach(list, i, n, json)
    {
        struct str parent = json_get_text(json, "parent");
        size_t child = find_node(r, json_get_text(json, "id")), index = find_node(r, parent);
        if (!parent.n || child == NO_NODE)
            continue;
        const struct node_type *type = index == NO_NODE ? NULL : r->document->nodes[index].type;
        if (type && type->kind == NODE_GROUP)
            continue; /* a frame drawn around nodes: no level of its own */
        if (!type || !type->container || index == child)
            add_error(r, json_get_text(json, "id"), "parent", "bad_parent",
                      "the parent must be an iteration, a loop or a group");
        else
            r->document->nodes[child].parent = index;
    }
    for (size_t node = 0; node < r->document->node_count; node++) {
        size_t at = node, steps = 0;
        while (at != NO_NODE && steps++ <= r->document->node_count)
            at = r->document->nodes[at].parent;
        if (at == NO_NODE)
            continue;
        add_error(r, r->document->nodes[node].id, "parent", "bad_parent",
                  "the node would stand inside itself");
        r->document->nodes[node].parent = NO_NODE;
    }
}

static void read_edge(struct reading *r, yyjson_val *json)
{
    struct document *document = r->document;
    struct str from = json_get_text(json, "from"), to = json_get_text(json, "to");
    struct document_edge edge = {find_node(r, from), find_node(r, to), json_get_text(json, "port")};
    if (edge.port.n == 0)
        edge.port = STR("out");
    if (edge.from == NO_NODE || edge.to == NO_NODE) {
        findings_add(r->findings, edge.from == NO_NODE ? STR_EMPTY : from, STR_EMPTY, false,
                     "unknown_node", "an edge leads from '%.*s' to '%.*s', which is not there",
                     STR_ARG(from), STR_ARG(to));
        return;
    }
    for (size_t i = 0; i < document->edge_count; i++)
        if (document->edges[i].from == edge.from && document->edges[i].to == edge.to &&
            str_eq(document->edges[i].port, edge.port))
            return; /* said twice */
    document->edges[document->edge_count++] = edge;
}

static bool are_texts(yyjson_val *list)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        if (!yyjson_is_str(item) || !yyjson_get_len(item))
            return false;
    }
    return yyjson_is_arr(list) && n <= HOSTS_MAX;
}

static void read_settings(struct reading *r, yyjson_val *settings)
{
    struct document *document = r->document;
    yyjson_val *limits = yyjson_obj_get(settings, "limits");
    struct str journal = json_get_text(settings, "journal");
    struct place root;
    struct err err = {0};
    document->journal = str_eq(journal, STR("sync"))   ? JOURNAL_SYNC
                        : str_eq(journal, STR("exit")) ? JOURNAL_EXIT
                                                       : JOURNAL_ASYNC;
    document->time_ms_max = json_get_int(limits, "time_ms", 0);
    document->steps_max = json_get_int(limits, "steps", 0);
    document->parallel_max = json_get_int(limits, "parallel", 0);
    document->runs_max = json_get_int(limits, "runs", 0);
    document->queue_max = json_get_int(limits, "queue", 0);
    document->on_failure = json_get_text(settings, "on_failure");
    document->hosts = yyjson_obj_get(settings, "hosts");
    if (document->hosts && !are_texts(document->hosts)) {
        findings_add(r->findings, STR_EMPTY, STR("settings.hosts"), false, "bad_settings",
                     "must be a list of at most %d hosts: api.example.org, *.example.org, or with "
                     "a port",
                     HOSTS_MAX);
        document->hosts = NULL;
    }
    document->cost_pico_max = COST_UNKNOWN;
    decode_root(&root, limits, "settings.limits");
    if (limits && decode_dollars(&root, "cost_usd", &document->cost_pico_max, &err) != RC_OK)
        findings_add(r->findings, STR_EMPTY, str_from(err.field), false, "bad_settings", "%s",
                     err.message);
}

/* The shape of the whole, before anything is read from it. */
static bool check_frame(yyjson_val *root, struct findings *findings)
{
    static const char *const known[] = {"schema", "description", "nodes",
                                        "edges",  "variables",   "settings"};
    size_t i, n, k;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(root) || !yyjson_is_arr(yyjson_obj_get(root, "nodes")) ||
        !yyjson_is_arr(yyjson_obj_get(root, "edges")))
        findings_add(findings, STR_EMPTY, STR_EMPTY, false, "bad_definition",
                     "a definition is an object with the lists `nodes` and `edges`");
    else if (json_get_int(root, "schema", 0) != 1)
        findings_add(findings, STR_EMPTY, STR("schema"), false, "bad_definition",
                     "`schema` must be 1: this program knows no other form");
    else if (yyjson_arr_size(yyjson_obj_get(root, "nodes")) > DOCUMENT_NODES_MAX ||
             yyjson_arr_size(yyjson_obj_get(root, "edges")) > 4 * DOCUMENT_NODES_MAX)
        findings_add(findings, STR_EMPTY, STR("nodes"), false, "too_large",
                     "a pipeline has at most %d nodes", DOCUMENT_NODES_MAX);
    yyjson_obj_foreach(root, i, n, key, value)
    {
        for (k = 0; k < COUNT_OF(known) && !yyjson_equals_str(key, known[k]); k++)
            ;
        if (k == COUNT_OF(known))
            findings_add(findings, STR_EMPTY, json_text(key), false, "bad_definition",
                         "this member is not known here");
    }
    return findings->errors == 0;
}

static void check_variables(struct findings *findings, yyjson_val *list, const char *field)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item) if (json_get_text(item, "name").n == 0) findings_add(
        findings, STR_EMPTY, str_from(field), false, "bad_variable", "a variable needs a name");
}

struct document *document_read(yyjson_val *root, struct arena *arena, struct findings *findings)
{
    struct document *document = ARENA_NEW(arena, struct document);
    size_t i, n;
    yyjson_val *item;
    if (!document || !check_frame(root, findings))
        return NULL;
    yyjson_val *nodes = yyjson_obj_get(root, "nodes"), *edges = yyjson_obj_get(root, "edges"),
               *variables = yyjson_obj_get(root, "variables");
    *document = (struct document){
        .root = root,
        .start = NO_NODE,
        .nodes = ARENA_NEW_ARRAY(arena, struct document_node, yyjson_arr_size(nodes) + 1),
        .edges = ARENA_NEW_ARRAY(arena, struct document_edge, yyjson_arr_size(edges) + 1),
        .conversation = yyjson_obj_get(variables, "conversation"),
        .environment = yyjson_obj_get(variables, "environment"),
    };
    if (!document->nodes || !document->edges)
        return NULL;
    struct reading r = {.document = document, .findings = findings};
    map_init(&r.by_id);
    yyjson_arr_foreach(nodes, i, n, item)
    {
        struct str id = json_get_text(item, "id");
        bool named = id.n > 0 && id.n <= NODE_ID_BYTES_MAX && !(id.p[0] >= '0' && id.p[0] <= '9');
        for (size_t c = 0; named && c < id.n; c++)
            named = (id.p[c] | 0x20) >= 'a' && (id.p[c] | 0x20) <= 'z'
                        ? true
                        : id.p[c] == '_' || (id.p[c] >= '0' && id.p[c] <= '9');
        if (named)
            read_node(&r, item);
        else
            findings_add(findings, id, STR("id"), false, "bad_id",
                         "an id is 1 to 64 letters, digits and underscores, no digit first");
    }
    read_parents(&r, nodes);
    yyjson_arr_foreach(edges, i, n, item) read_edge(&r, item);
    read_settings(&r, yyjson_obj_get(root, "settings"));
    check_variables(findings, document->conversation, "variables.conversation");
    check_variables(findings, document->environment, "variables.environment");
    map_fini(&r.by_id);
    return document;
}

/* ---- ports and outputs ---- */

static yyjson_val *find_item(yyjson_val *config, const struct node_list_rule *rule, struct str name)
{
    size_t i, n;
    yyjson_val *item;
    if (!rule->list.n)
        return NULL;
    yyjson_arr_foreach(yyjson_obj_getn(config, rule->list.p, rule->list.n), i, n, item)
    {
        yyjson_val *id = yyjson_obj_getn(item, rule->name.p, rule->name.n);
        if (str_eq(json_text(id), name))
            return item;
    }
    return NULL;
}

bool document_has_port(const struct document_node *node, struct str port)
{
    for (size_t i = 0; i < node->type->port_count; i++)
        if (str_eq(node->type->ports[i].name, port))
            return true;
    if (node->on_error == ON_ERROR_BRANCH && str_eq(port, STR("error")))
        return true;
    return find_item(node->config, &node->type->ports_from, port) != NULL;
}

bool document_output_type(const struct document_node *node, struct str name, bool inside,
                          enum value_type *type)
{
    const struct node_type *t = node->type;
    const struct node_output *list = inside ? t->inside : t->outputs;
    size_t count = inside ? t->inside_count : t->output_count;
    for (size_t i = 0; i < count; i++)
        if (str_eq(list[i].name, name)) {
            *type = list[i].type;
            return true;
        }
    if (!inside && (str_eq(name, STR("error_message")) || str_eq(name, STR("error_code")))) {
        *type = VALUE_STRING;
        return t->errors;
    }
    yyjson_val *item = find_item(node->config, &t->outputs_from, name);
    *type = value_type_parse(json_get_text(item, t->outputs_from.extra.p));
    return item != NULL;
}

/* ---- texts ---- */

struct walk {
    struct arena *arena;
    document_member_visit *visit;
    void *arg;
};

static void walk_members(struct walk *walk, yyjson_val *schema, yyjson_val *value, struct str path)
{
    size_t i, n;
    yyjson_val *key, *inner;
    if (yyjson_is_str(value))
        walk->visit(walk->arg, path, json_get_text(schema, "x-widget"), json_text(value));
    yyjson_obj_foreach(value, i, n, key, inner)
    {
        yyjson_val *next = yyjson_obj_getn(yyjson_obj_get(schema, "properties"),
                                           yyjson_get_str(key), yyjson_get_len(key));
        if (next)
            walk_members(walk, next, inner,
                         arena_printf(walk->arena, "%.*s%s%s", STR_ARG(path), path.n ? "." : "",
                                      yyjson_get_str(key)));
    }
    yyjson_arr_foreach(value, i, n, inner)
        walk_members(walk, yyjson_obj_get(schema, "items"), inner,
                     arena_printf(walk->arena, "%.*s[%zu]", STR_ARG(path), i));
}

void document_each_member(const struct document_node *node, struct arena *arena,
                          document_member_visit *visit, void *arg)
{
    struct walk walk = {arena, visit, arg};
    walk_members(&walk, yyjson_obj_get(node->type->json, "config"), node->config, STR(""));
}

struct text_walk {
    document_text_visit *visit;
    void *arg;
};

static void visit_member(void *arg, struct str field, struct str widget, struct str text)
{
    struct text_walk *walk = arg;
    if (str_eq(widget, STR("template")))
        walk->visit(walk->arg, field, TEXT_TEMPLATE, text);
    else if (str_eq(widget, STR("expression")) && text.n)
        walk->visit(walk->arg, field, TEXT_EXPRESSION, text);
}

void document_each_text(const struct document_node *node, struct arena *arena,
                        document_text_visit *visit, void *arg)
{
    struct text_walk walk = {visit, arg};
    document_each_member(node, arena, visit_member, &walk);
}
