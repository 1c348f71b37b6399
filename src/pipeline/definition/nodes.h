/* The node catalogue: what each type of node is called, how its config looks, where its edges leave
 * and what it puts out. Read once from nodes.yaml, which is part of the program; immutable, any
 * thread. */
#pragma once
#include "base/str.h"
#include <yyjson.h>

struct json_schema;

enum node_kind {
#define NODE_KIND(name, text) NODE_##name,
#include "pipeline/definition/node_kinds.h"
#undef NODE_KIND
    NODE_KIND_COUNT
};

/* Types of values. ANY fits every other. */
enum value_type {
    VALUE_ANY,
    VALUE_STRING,
    VALUE_NUMBER,
    VALUE_BOOLEAN,
    VALUE_OBJECT,
    VALUE_ARRAY,
    VALUE_TYPE_COUNT
};

const char *value_type_name(enum value_type type);
/* "files" is an ARRAY; ANY for "file" and for what it does not know. */
enum value_type value_type_parse(struct str name);

struct node_port {
    struct str name, title;
};

struct node_output {
    struct str name;
    enum value_type type;
};

/* More ports or outputs from a list in the config: members of its items. */
struct node_list_rule {
    struct str list;        /* empty: none */
    struct str name, extra; /* the item's member that names it; title or type */
};

struct node_type {
    enum node_kind kind;
    struct str name, title;
    struct json_schema *schema; /* of the config */
    yyjson_val *json;           /* its entry, $refs resolved */
    struct node_port *ports;
    size_t port_count;
    struct node_list_rule ports_from, outputs_from;
    struct node_output *outputs, *inside; /* inside: what its children read of it */
    size_t output_count, inside_count;
    bool errors, container, passive;
};

const struct node_type *node_type_of(enum node_kind kind);
const struct node_type *node_type_find(struct str name); /* NULL: no such type */
/* {"items": [{type, title, …}]}: what the canvas reads. */
struct str nodes_json(void);
/* The JSON Schema of definitions, made from the catalogue. */
struct str nodes_definition_schema(void);
