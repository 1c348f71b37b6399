/* What the files of the Dify import share. An import is one pass over the tree: nodes get names,
 * then each is mapped by the rule of its type (dify_nodes.c, dify_models.c), then edges. Texts and
 * conditions are rewritten by dify_text.c. Everything lives in the caller's arena. */
#pragma once
#include "base/buf.h"
#include "base/map.h"
#include "pipeline/files/dify.h"
#include "text/json_tree.h"

struct dify;
struct dify_node;

/* An output and what it is called here; `to` empty: there is no such thing. */
struct dify_output {
    struct str from, to;
};

struct dify_rule {
    const char *from, *to; /* types; NULL `to`: no counterpart, `why` tells */
    void (*map)(struct dify *d, struct dify_node *node, yyjson_mut_val *config);
    const char *why;
    struct dify_output outputs[6]; /* those with another name here */
};

struct dify_node {
    struct str id, title, type; /* as the file has them */
    struct str name;            /* what it is called here */
    struct str last;            /* the node that its edges leave from; usually `name` */
    yyjson_val *outer, *data;
    const struct dify_rule *rule; /* NULL: an unknown type */
    size_t parent;                /* NO_NODE: the top */
    bool dropped;                 /* a container's own start, or what never runs */
    bool reached;
    yyjson_mut_val *mapped;
};

struct dify {
    struct arena *arena;
    yyjson_mut_doc *doc;
    const struct import_options *options;
    struct findings *notes;
    yyjson_val *workflow;
    struct dify_node *nodes;
    size_t count;
    struct map by_id, by_name;
    bool chat;
    struct dify_node *start;
    struct dify_node *current; /* whose config is being made: for notes */
    yyjson_mut_val *out_nodes, *out_edges, *models, *collections;
    bool uses_query, uses_files;
    bool in_answer; /* lists and objects are written for people */
};

/* ---- dify.c ---- */
/* A note on the current node. `lost`: something is missing now; else it is only different. */
void dify_note(struct dify *d, bool lost, const char *field, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
struct dify_node *dify_find(struct dify *d, struct str id); /* NULL */
/* Another node in front of or behind the current one, with the same parent and place. */
yyjson_mut_val *dify_add_node(struct dify *d, struct dify_node *beside, struct str name,
                              const char *type, yyjson_mut_val **config);
void dify_add_edge(struct dify *d, struct str from, struct str port, struct str to);
/* A name that no node has yet, made of `text`. */
struct str dify_new_name(struct dify *d, struct str text, const char *otherwise);
/* A port's name of an id. */
struct str dify_port(struct dify *d, struct str id);
/* A name that templates can say. */
struct str dify_identifier(struct dify *d, struct str text);

/* ---- dify_text.c ---- */
/* The text of a value, also of a number (ids of files that people wrote). */
struct str dify_id_text(struct dify *d, yyjson_val *value);
/* An expression of a selector, a list of texts; "null", with a note, where there is none. */
struct str dify_path(struct dify *d, yyjson_val *selector, const char *field);
bool dify_is_selector(yyjson_val *value); /* names something */
/* What type its value has, as far as that is known. */
enum value_type dify_type_of(struct dify *d, yyjson_val *selector);
/* A text with {{#root.name#}} as a template of ours. `context` stands for {{#context#}}. */
struct str dify_template(struct dify *d, struct str text, struct str context, const char *field);
/* {{ … }} of a selector's value as Dify prints it. */
struct str dify_print(struct dify *d, yyjson_val *selector, const char *field);
/* A Jinja text whose names are the declared `variables`. */
struct str dify_jinja(struct dify *d, struct str text, yyjson_val *variables, const char *field);
/* A text with templates as an expression; numbers stay numbers where `number`. */
struct str dify_value(struct dify *d, yyjson_val *value, bool number, const char *field);
/* A JSON value as an expression: objects are told and become null. */
struct str dify_literal(struct dify *d, yyjson_val *value, const char *field);
/* Conditions of an if, a loop or a filter; `item`: keys are read from this expression instead of
 * selectors. Empty: always true. */
struct str dify_conditions(struct dify *d, yyjson_val *conditions, struct str logical,
                           struct str item, const char *field);

/* ---- rules: dify_nodes.c, dify_models.c ---- */
const struct dify_rule *dify_rule_find(struct str type);
/* The model's name here; also noted in d->models. */
struct str dify_model(struct dify *d, yyjson_val *model);
struct str dify_output_name(const struct dify_node *node, struct str name);
#define DIFY_MAP(name)                                                                             \
    void dify_map_##name(struct dify *d, struct dify_node *node, yyjson_mut_val *config)
DIFY_MAP(llm);
DIFY_MAP(retrieval);
DIFY_MAP(classifier);
DIFY_MAP(extractor);
DIFY_MAP(tool);
DIFY_MAP(agent);
