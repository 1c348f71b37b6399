/* The check at save: what can be known of a definition without running it. Works on the document's
 * levels (the top, and the inside of each container): edges stay on one level; a node may read what
 * stands before it there, and what stands before the containers around it. */
#include "pipeline/engine/operations.h"
#include "pipeline/definition/reference.h"
#include "text/expression.h"
#include "text/json_tree.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct checking {
    const struct document *document;
    struct findings *findings;
    uint64_t *before; /* bit set a node: those from which edges lead to it */
    size_t words;
    size_t node;      /* the one being checked */
    struct str field; /* whose text is being checked */
    bool inside;      /* the field is looked at from inside the container */
};

static const struct node_output sys_outputs[] = {
    {STR_INIT("run_id"), VALUE_STRING},     {STR_INIT("pipeline"), VALUE_STRING},
    {STR_INIT("version"), VALUE_NUMBER},    {STR_INIT("user"), VALUE_STRING},
    {STR_INIT("session"), VALUE_STRING},    {STR_INIT("query"), VALUE_STRING},
    {STR_INIT("started_at"), VALUE_STRING}, {STR_INIT("messages"), VALUE_ARRAY},
};

static void add(struct checking *c, bool warning, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static void add(struct checking *c, bool warning, const char *code, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct str id = c->node == NO_NODE ? STR_EMPTY : c->document->nodes[c->node].id;
    findings_add(c->findings, id, c->field, warning, code, "%s", text);
}

/* ---- what stands before what ---- */

static bool is_before(const struct checking *c, size_t first, size_t later)
{
    return c->before[later * c->words + first / 64] >> (first % 64) & 1;
}

/* Passes on along the edges until nothing changes any more: at most as often as a path is long. */
static void find_before(struct checking *c)
{
    const struct document *document = c->document;
    bool changed = true;
    while (changed) {
        changed = false;
        for (size_t e = 0; e < document->edge_count; e++) {
            size_t from = document->edges[e].from, to = document->edges[e].to;
            uint64_t *set = c->before + to * c->words, *source = c->before + from * c->words;
            for (size_t w = 0; w < c->words; w++) {
                uint64_t bits = set[w] | source[w] | (w == from / 64 ? 1ull << (from % 64) : 0);
                changed |= bits != set[w];
                set[w] = bits;
            }
        }
    }
}

static void check_edges(struct checking *c)
{
    const struct document *document = c->document;
    for (size_t e = 0; e < document->edge_count; e++) {
        const struct document_edge *edge = &document->edges[e];
        const struct document_node *from = &document->nodes[edge->from],
                                   *to = &document->nodes[edge->to];
        c->node = edge->from;
        c->field = STR_EMPTY;
        if (from->parent != to->parent)
            add(c, false, "crosses_container",
                "the edge to '%.*s' leaves or enters a container: connect the container itself",
                STR_ARG(to->id));
        if (!document_has_port(from, edge->port))
            add(c, false, "unknown_port", "the node has no port '%.*s'", STR_ARG(edge->port));
        if (to->type->kind == NODE_START || to->type->passive)
            add(c, false, "no_input", "nothing can lead to '%.*s'", STR_ARG(to->id));
    }
}

static void check_levels(struct checking *c)
{
    const struct document *document = c->document;
    bool ends = false;
    c->field = STR_EMPTY;
    for (c->node = 0; c->node < document->node_count; c->node++) {
        const struct document_node *node = &document->nodes[c->node];
        bool top = node->parent == NO_NODE;
        ends |= top && (node->type->kind == NODE_END || node->type->kind == NODE_ANSWER);
        if (is_before(c, c->node, c->node))
            add(c, false, "cycle", "the edges lead back to this node; use a loop");
        else if (top && !node->type->passive && node->type->kind != NODE_START &&
                 document->start != NO_NODE && !is_before(c, document->start, c->node))
            add(c, true, "unreachable", "no edge leads here from the start: it will not run");
        if (!top && (node->type->kind == NODE_START || node->type->kind == NODE_END))
            add(c, false, "bad_level", "a start or end cannot stand inside a container");
        if (node->type->container) {
            size_t children = 0;
            for (size_t i = 0; i < document->node_count; i++)
                children += document->nodes[i].parent == c->node;
            if (children == 0)
                add(c, false, "empty_container", "there is no node inside");
        }
    }
    c->node = NO_NODE;
    if (document->start == NO_NODE)
        add(c, false, "no_start", "a pipeline needs a start");
    if (!ends)
        add(c, true, "no_end", "there is no answer and no end: a run has no result");
}

/* ---- variables ---- */

static bool find_variable(yyjson_val *list, struct str name, enum value_type *type)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        if (!str_eq(json_get_text(item, "name"), name))
            continue;
        *type = value_type_parse(json_get_text(item, "type"));
        return true;
    }
    return false;
}

static bool is_around(const struct checking *c, size_t container)
{
    size_t at = c->inside ? c->node : c->document->nodes[c->node].parent;
    while (at != NO_NODE && at != container)
        at = c->document->nodes[at].parent;
    return at == container;
}

/* The node itself and, one after the other, the containers around it: `other` must stand before
 * one of them. A container's own output expression also sees what is inside. */
static bool can_read(const struct checking *c, size_t other)
{
    const struct document_node *nodes = c->document->nodes;
    if (c->inside && nodes[other].parent == c->node)
        return true;
    for (size_t at = c->node; at != NO_NODE; at = nodes[at].parent)
        if (is_before(c, other, at))
            return true;
    return false;
}

/* False: told already, or its type cannot be known. */
static bool type_of_node_output(struct checking *c, const struct reference *reference,
                                enum value_type *type)
{
    struct str root = reference->steps[0];
    size_t other = document_find(c->document, root);
    if (str_eq(root, STR("start")) && c->document->start != NO_NODE)
        other = c->document->start;
    if (other == NO_NODE) {
        add(c, false, "unknown_variable", "there is no node or variable '%.*s'", STR_ARG(root));
        return false;
    }
    bool around = c->document->nodes[other].type->container && is_around(c, other);
    if (!around && other != c->document->start && !can_read(c, other)) {
        add(c, false, "not_before", "'%.*s' does not stand before this node", STR_ARG(root));
        return false;
    }
    if (reference->count < 2) {
        *type = VALUE_OBJECT;
        return true;
    }
    if (document_output_type(&c->document->nodes[other], reference->steps[1], around, type))
        return reference->count == 2;
    add(c, false, "unknown_output", "'%.*s' has no output '%.*s'", STR_ARG(root),
        STR_ARG(reference->steps[1]));
    return false;
}

static bool type_of_reference(struct checking *c, const struct reference *reference,
                              enum value_type *type)
{
    struct str root = reference->steps[0],
               name = reference->count > 1 ? reference->steps[1] : STR("");
    bool conversation = str_eq(root, STR("conversation"));
    if (c->document->nodes[c->node].type->kind == NODE_LIST &&
        (str_eq(root, STR("item")) || str_eq(root, STR("index"))))
        return false;
    if (conversation || str_eq(root, STR("env"))) {
        yyjson_val *list = conversation ? c->document->conversation : c->document->environment;
        if (name.n && !find_variable(list, name, type))
            add(c, false, "unknown_variable", "the pipeline declares no variable %.*s.%.*s",
                STR_ARG(root), STR_ARG(name));
        else if (name.n)
            return reference->count == 2;
        return false;
    }
    if (!str_eq(root, STR("sys")))
        return type_of_node_output(c, reference, type);
    for (size_t i = 0; i < COUNT_OF(sys_outputs); i++)
        if (str_eq(sys_outputs[i].name, name)) {
            *type = sys_outputs[i].type;
            return reference->count == 2;
        }
    if (name.n)
        add(c, false, "unknown_variable", "there is no sys.%.*s", STR_ARG(name));
    return false;
}

static void visit_reference(void *arg, const struct reference *reference)
{
    enum value_type type;
    type_of_reference(arg, reference, &type);
}

/* ---- texts ---- */

static void check_expression(struct checking *c, struct str text)
{
    struct expression *expression;
    struct err err = {0};
    struct arena arena;
    arena_init(&arena, 1 << 20);
    if (expression_parse(text, &arena, &expression, &err) != RC_OK)
        add(c, false, "bad_expression", "%s", err.message);
    arena_fini(&arena);
}

/* Fields that take a list. */
static void check_type(struct checking *c, struct str text)
{
    enum node_kind kind = c->document->nodes[c->node].type->kind;
    struct reference reference;
    enum value_type type;
    bool wants_list =
        str_eq(c->field, STR("list")) && (kind == NODE_LIST || kind == NODE_ITERATION);
    if (!wants_list || !reference_is_path(text, &reference))
        return;
    size_t errors = c->findings->errors, count = c->findings->count;
    bool known = type_of_reference(c, &reference, &type);
    c->findings->errors = errors; /* said once, by the references */
    c->findings->count = count;
    if (known && type != VALUE_ARRAY && type != VALUE_ANY)
        add(c, false, "wrong_type", "this is of type %s, a list is needed", value_type_name(type));
}

static void visit_text(void *arg, struct str field, enum text_kind kind, struct str text)
{
    struct checking *c = arg;
    const struct document_node *node = &c->document->nodes[c->node];
    c->field = field;
    c->inside = (node->type->kind == NODE_ITERATION && str_eq(field, STR("output"))) ||
                (node->type->kind == NODE_LOOP && str_eq(field, STR("until")));
    if (kind == TEXT_EXPRESSION)
        check_expression(c, text);
    reference_each(text, kind, visit_reference, c);
    if (kind == TEXT_EXPRESSION)
        check_type(c, text);
}

/* An assigner changes conversation variables, and those of the loops around it. */
static void check_assigner(struct checking *c)
{
    const struct document_node *node = &c->document->nodes[c->node];
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(node->config, "assignments"), i, n, item)
    {
        struct reference path;
        enum value_type type;
        c->field = STR("assignments");
        if (!reference_is_path(json_get_text(item, "variable"), &path) || path.count != 2)
            continue; /* the schema said so */
        size_t loop = document_find(c->document, path.steps[0]);
        if (str_eq(path.steps[0], STR("conversation"))) {
            if (!find_variable(c->document->conversation, path.steps[1], &type))
                add(c, false, "unknown_variable", "the pipeline declares no conversation.%.*s",
                    STR_ARG(path.steps[1]));
        } else if (loop == NO_NODE || c->document->nodes[loop].type->kind != NODE_LOOP ||
                   !is_around(c, loop) ||
                   !document_output_type(&c->document->nodes[loop], path.steps[1], true, &type)) {
            add(c, false, "unknown_variable", "there is no variable %.*s.%.*s to assign to here",
                STR_ARG(path.steps[0]), STR_ARG(path.steps[1]));
        }
    }
}

/* Patterns and kinds of a guard, the range of a judge. */
static void check_config(struct checking *c)
{
    const struct document_node *node = &c->document->nodes[c->node];
    struct err err = {0};
    struct arena arena;
    arena_init(&arena, 4 << 20);
    if (node->type->kind == NODE_GUARD && guard_check_config(node->config, &arena, &err) != RC_OK) {
        c->field = str_from(err.field);
        add(c, false, "bad_check", "%s", err.message);
    }
    arena_fini(&arena);
    c->field = STR("score_max");
    if (node->type->kind == NODE_JUDGE && json_get_double(node->config, "score_min", 1) >=
                                              json_get_double(node->config, "score_max", 5))
        add(c, false, "bad_range", "the highest score must be above the lowest");
    c->field = STR_EMPTY;
    if (node->on_error == ON_ERROR_DEFAULT && !document_has_port(node, STR("out")))
        add(c, false, "no_way_on",
            "a node that chooses among ports cannot go on with default "
            "values: use the error branch");
}

void document_check(const struct document *document, struct findings *findings)
{
    struct checking c = {.document = document,
                         .findings = findings,
                         .words = (document->node_count + 63) / 64,
                         .node = NO_NODE};
    c.before = calloc(MAX(document->node_count, (size_t)1), MAX(c.words, (size_t)1) * 8);
    if (!c.before)
        return;
    find_before(&c);
    check_edges(&c);
    check_levels(&c);
    for (c.node = 0; c.node < document->node_count; c.node++) {
        c.inside = false;
        document_each_text(&document->nodes[c.node], findings->arena, visit_text, &c);
        c.inside = false;
        if (document->nodes[c.node].type->kind == NODE_ASSIGNER)
            check_assigner(&c);
        check_config(&c);
    }
    free(c.before);
}
