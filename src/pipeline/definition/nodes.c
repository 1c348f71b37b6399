/* Reading nodes.yaml. What is wrong in it stops the program at its first use, which every test is:
 * it is a part of the program, not input. */
#include "pipeline/definition/nodes.h"
#include "base/arena.h"
#include "text/json_schema.h"
#include "text/json_tree.h"
#include "text/yaml.h"
#include <pthread.h>
#include <stdio.h>

#define CATALOGUE_BYTES_MAX (8 * 1024 * 1024)
#define REFERENCES_MAX      8 /* $refs within $refs */

extern const struct str pipeline_nodes_yaml; /* nodes.yaml, embedded by the build */

static struct {
    struct arena arena;
    struct node_type types[NODE_KIND_COUNT];
    struct str json, definition_schema;
} catalogue;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *const kind_names[NODE_KIND_COUNT] = {
#define NODE_KIND(name, text) [NODE_##name] = text,
#include "pipeline/definition/node_kinds.h"
#undef NODE_KIND
};

static const char *const value_names[VALUE_TYPE_COUNT] = {
    [VALUE_ANY] = "any",         [VALUE_STRING] = "string", [VALUE_NUMBER] = "number",
    [VALUE_BOOLEAN] = "boolean", [VALUE_OBJECT] = "object", [VALUE_ARRAY] = "array",
};

const char *value_type_name(enum value_type type)
{
    ASSERT(type < VALUE_TYPE_COUNT);
    return value_names[type];
}

enum value_type value_type_parse(struct str name)
{
    for (int type = 0; type < VALUE_TYPE_COUNT; type++)
        if (str_eq(name, str_from(value_names[type])))
            return (enum value_type)type;
    return str_eq(name, STR("files")) ? VALUE_ARRAY : VALUE_ANY; /* a file is a text or an object */
}

/* ---- $ref: "#/$defs/NAME" becomes a copy of it, with the members that stand beside it ---- */

static yyjson_mut_val *resolve(yyjson_mut_doc *doc, yyjson_val *value, yyjson_val *defs, int depth);

static yyjson_mut_val *resolve_object(yyjson_mut_doc *doc, yyjson_val *value, yyjson_val *defs,
                                      int depth)
{
    struct str reference = json_get_text(value, "$ref"), prefix = STR("#/$defs/");
    yyjson_mut_val *out;
    size_t i, n;
    yyjson_val *key, *inner;
    if (reference.n) {
        struct str name = str_slice(reference, prefix.n, reference.n);
        yyjson_val *target = yyjson_obj_getn(defs, name.p, name.n);
        ASSERT(target && depth < REFERENCES_MAX);
        out = resolve(doc, target, defs, depth + 1);
    } else {
        out = yyjson_mut_obj(doc);
    }
    yyjson_obj_foreach(value, i, n, key, inner)
    {
        if (!yyjson_equals_str(key, "$ref"))
            yyjson_mut_obj_put(out, yyjson_val_mut_copy(doc, key),
                               resolve(doc, inner, defs, depth));
    }
    return out;
}

static yyjson_mut_val *resolve(yyjson_mut_doc *doc, yyjson_val *value, yyjson_val *defs, int depth)
{
    if (yyjson_is_obj(value))
        return resolve_object(doc, value, defs, depth);
    if (!yyjson_is_arr(value))
        return yyjson_val_mut_copy(doc, value);
    yyjson_mut_val *out = yyjson_mut_arr(doc);
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(value, i, n, item)
        yyjson_mut_arr_append(out, resolve(doc, item, defs, depth));
    return out;
}

/* ---- one entry ---- */

static void read_outputs(yyjson_val *list, struct node_output **out, size_t *count)
{
    size_t i, n;
    yyjson_val *item;
    *out = ARENA_NEW_ARRAY(&catalogue.arena, struct node_output, yyjson_arr_size(list) + 1);
    ASSERT(*out);
    yyjson_arr_foreach(list, i, n, item)(*out)[(*count)++] = (struct node_output){
        json_get_text(item, "name"), value_type_parse(json_get_text(item, "type"))};
}

static void read_ports(struct node_type *type, yyjson_val *list)
{
    static struct node_port ordinary = {STR_INIT("out"), STR_INIT("")};
    size_t i, n;
    yyjson_val *item;
    if (!list && !type->ports_from.list.n) {
        type->ports = &ordinary;
        type->port_count = 1;
        return;
    }
    type->ports = ARENA_NEW_ARRAY(&catalogue.arena, struct node_port, yyjson_arr_size(list) + 1);
    ASSERT(type->ports);
    yyjson_arr_foreach(list, i, n, item) type->ports[type->port_count++] =
        (struct node_port){json_get_text(item, "name"), json_get_text(item, "title")};
}

static struct node_list_rule read_rule(yyjson_val *rule, const char *name, const char *extra)
{
    return (struct node_list_rule){json_get_text(rule, "list"), json_get_text(rule, name),
                                   json_get_text(rule, extra)};
}

static void read_type(struct node_type *type, enum node_kind kind, yyjson_val *json)
{
    struct err err = {0};
    struct str schema = json_write(yyjson_obj_get(json, "config"), &catalogue.arena);
    ASSERT(json && schema.p);
    *type = (struct node_type){
        .kind = kind,
        .name = str_from(kind_names[kind]),
        .title = json_get_text(json, "title"),
        .json = json,
        .ports_from = read_rule(yyjson_obj_get(json, "ports_from"), "id", "title"),
        .outputs_from = read_rule(yyjson_obj_get(json, "outputs_from"), "name", "type"),
        .errors = json_get_bool(json, "errors", false),
        .container = json_get_bool(json, "container", false),
        .passive = json_get_bool(json, "passive", false),
    };
    read_ports(type, yyjson_obj_get(json, "ports"));
    read_outputs(yyjson_obj_get(json, "outputs"), &type->outputs, &type->output_count);
    read_outputs(yyjson_obj_get(json, "inside"), &type->inside, &type->inside_count);
    if (json_schema_compile(schema, &catalogue.arena, &type->schema, &err) != RC_OK)
        fprintf(stderr, "nodes.yaml: %s: %s %s\n", kind_names[kind], err.field, err.message);
    ASSERT(type->schema);
}

/* ---- the texts that are served ---- */

static struct str write_tree(yyjson_mut_val *value)
{
    struct str out;
    enum rc rc = json_write_tree(value, &catalogue.arena, &out, NULL);
    ASSERT(rc == RC_OK);
    return out;
}

static void make_json(yyjson_val *nodes)
{
    yyjson_mut_doc *doc = json_tree_new(&catalogue.arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *items = yyjson_mut_obj_add_arr(doc, root, "items");
    for (int kind = 0; kind < NODE_KIND_COUNT; kind++) {
        yyjson_mut_val *o = yyjson_mut_obj(doc);
        size_t i, n;
        yyjson_val *key, *value;
        yyjson_mut_obj_add_str(doc, o, "type", kind_names[kind]);
        yyjson_obj_foreach(yyjson_obj_get(nodes, kind_names[kind]), i, n, key, value)
            yyjson_mut_obj_add_val(doc, o, yyjson_get_str(key), yyjson_val_mut_copy(doc, value));
        if (!yyjson_mut_obj_get(o, "ports")) {
            yyjson_mut_val *ports = yyjson_mut_obj_add_arr(doc, o, "ports");
            if (!yyjson_mut_obj_get(o, "ports_from"))
                yyjson_mut_obj_add_str(doc, yyjson_mut_arr_add_obj(doc, ports), "name", "out");
        }
        yyjson_mut_arr_append(items, o);
    }
    yyjson_mut_obj_add_null(doc, root, "next_cursor");
    catalogue.json = write_tree(root);
}

/* The frame around the nodes' own schemas. */
static const char definition_frame[] =
    "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"Capstan pipeline\","
    "\"type\":\"object\",\"required\":[\"schema\",\"nodes\",\"edges\"],"
    "\"additionalProperties\":false,\"properties\":{"
    "\"schema\":{\"const\":1},\"description\":{\"type\":\"string\",\"maxLength\":4096},"
    "\"nodes\":{\"type\":\"array\",\"maxItems\":1000,\"items\":{\"$ref\":\"#/$defs/node\"}},"
    "\"edges\":{\"type\":\"array\",\"maxItems\":4000,\"items\":{\"type\":\"object\","
    "\"required\":[\"from\",\"to\"],\"additionalProperties\":false,\"properties\":{"
    "\"from\":{\"type\":\"string\"},\"port\":{\"type\":\"string\",\"default\":\"out\"},"
    "\"to\":{\"type\":\"string\"}}}},"
    "\"variables\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"conversation\":{\"$ref\":\"#/$defs/variables\"},"
    "\"environment\":{\"$ref\":\"#/$defs/variables\"}}},"
    "\"settings\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"journal\":{\"enum\":[\"sync\",\"async\",\"exit\"],\"default\":\"async\"},"
    "\"mcp\":{\"type\":\"boolean\",\"default\":false},"
    "\"on_failure\":{\"type\":\"string\",\"maxLength\":256},"
    "\"limits\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"time_ms\":{\"type\":\"integer\",\"minimum\":1},"
    "\"steps\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":100000},"
    "\"parallel\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000},"
    "\"runs\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000},"
    "\"queue\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000},"
    "\"cost_usd\":{\"type\":[\"number\",\"string\"]}}}}}},"
    "\"$defs\":{\"variables\":{\"type\":\"array\",\"maxItems\":64,\"items\":{\"type\":\"object\","
    "\"required\":[\"name\",\"type\"],\"additionalProperties\":false,\"properties\":{"
    "\"name\":{\"type\":\"string\",\"pattern\":\"^[A-Za-z_][A-Za-z0-9_]{0,63}$\"},"
    "\"type\":{\"enum\":[\"string\",\"number\",\"boolean\",\"object\",\"array\",\"any\"]},"
    "\"description\":{\"type\":\"string\"},\"value\":{}}}},"
    "\"node\":{\"type\":\"object\",\"required\":[\"id\",\"type\"],\"additionalProperties\":false,"
    "\"properties\":{"
    "\"id\":{\"type\":\"string\",\"pattern\":\"^[A-Za-z_][A-Za-z0-9_]{0,63}$\"},"
    "\"type\":{\"type\":\"string\"},\"title\":{\"type\":\"string\",\"maxLength\":256},"
    "\"position\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"},"
    "\"y\":{\"type\":\"number\"}}},"
    "\"parent\":{\"type\":\"string\"},\"config\":{\"type\":\"object\"},"
    "\"retry\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"max\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":10},"
    "\"interval_ms\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":600000}}},"
    "\"timeout_ms\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":86400000},"
    "\"on_error\":{\"enum\":[\"stop\",\"default\",\"branch\"]},\"default\":{\"type\":\"object\"},"
    "\"width\":{\"type\":\"number\"},\"height\":{\"type\":\"number\"}}}}}";

static void make_definition_schema(yyjson_val *nodes)
{
    yyjson_doc *frame;
    enum rc rc = json_read(str_from(definition_frame), &catalogue.arena, &frame, NULL);
    ASSERT(rc == RC_OK);
    yyjson_mut_doc *doc = json_tree_new(&catalogue.arena);
    yyjson_mut_val *root = yyjson_val_mut_copy(doc, yyjson_doc_get_root(frame));
    yyjson_mut_val *node = yyjson_mut_obj_get(yyjson_mut_obj_get(root, "$defs"), "node");
    yyjson_mut_val *names = yyjson_mut_obj_add_arr(
        doc, yyjson_mut_obj_get(yyjson_mut_obj_get(node, "properties"), "type"), "enum");
    yyjson_mut_val *all = yyjson_mut_obj_add_arr(doc, node, "allOf");
    for (int kind = 0; kind < NODE_KIND_COUNT; kind++) {
        yyjson_mut_val *rule = yyjson_mut_arr_add_obj(doc, all);
        yyjson_mut_val *given = yyjson_mut_obj_add_obj(doc, rule, "if");
        yyjson_mut_val *then = yyjson_mut_obj_add_obj(doc, rule, "then");
        given = yyjson_mut_obj_add_obj(doc, given, "properties");
        given = yyjson_mut_obj_add_obj(doc, given, "type");
        yyjson_mut_obj_add_str(doc, given, "const", kind_names[kind]);
        yyjson_val *config = yyjson_obj_get(yyjson_obj_get(nodes, kind_names[kind]), "config");
        then = yyjson_mut_obj_add_obj(doc, then, "properties");
        yyjson_mut_obj_add_val(doc, then, "config", yyjson_val_mut_copy(doc, config));
        yyjson_mut_arr_add_str(doc, names, kind_names[kind]);
    }
    catalogue.definition_schema = write_tree(root);
}

static void load(void)
{
    struct err err = {0};
    yyjson_doc *yaml;
    arena_init(&catalogue.arena, CATALOGUE_BYTES_MAX);
    if (yaml_read(pipeline_nodes_yaml, &catalogue.arena, NULL, &yaml, &err) != RC_OK)
        fprintf(stderr, "nodes.yaml: %s\n", err.message);
    ASSERT(err.code == ERR_NONE);
    yyjson_val *root = yyjson_doc_get_root(yaml);
    yyjson_mut_doc *doc = json_tree_new(&catalogue.arena);
    yyjson_mut_val *whole =
        resolve(doc, yyjson_obj_get(root, "nodes"), yyjson_obj_get(root, "defs"), 0);
    yyjson_val *nodes = yyjson_doc_get_root(json_freeze(whole, &catalogue.arena));
    ASSERT(yyjson_obj_size(nodes) == NODE_KIND_COUNT);
    for (int kind = 0; kind < NODE_KIND_COUNT; kind++)
        read_type(&catalogue.types[kind], (enum node_kind)kind,
                  yyjson_obj_get(nodes, kind_names[kind]));
    make_json(nodes);
    make_definition_schema(nodes);
}

const struct node_type *node_type_of(enum node_kind kind)
{
    ASSERT(kind < NODE_KIND_COUNT);
    pthread_once(&once, load);
    return &catalogue.types[kind];
}

const struct node_type *node_type_find(struct str name)
{
    for (int kind = 0; kind < NODE_KIND_COUNT; kind++)
        if (str_eq(name, str_from(kind_names[kind])))
            return node_type_of((enum node_kind)kind);
    return NULL;
}

struct str nodes_json(void)
{
    pthread_once(&once, load);
    return catalogue.json;
}

struct str nodes_definition_schema(void)
{
    pthread_once(&once, load);
    return catalogue.definition_schema;
}
