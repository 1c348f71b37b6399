/* Compiling definitions. See plan.h. */
#include "pipeline/definition/plan.h"
#include "pipeline/engine/citation.h"
#include "pipeline/engine/operations.h"
#include "text/json_tree.h"
#include "text/template.h"
#include <stdlib.h>

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the definition needs more memory than it may have");
}

/* ---- texts ---- */

struct gathering {
    struct plan_build *build;
    struct source *sources;
    size_t count, capacity;
    bool failed;
};

static struct source resolve(const struct plan_build *build, struct str name)
{
    const struct document *document = build->plan->document;
    struct source source = {.name = name, .node = NO_NODE};
    bool list = build->node->kind == NODE_LIST;
    if (str_eq(name, STR("sys")))
        source.kind = SOURCE_SYS;
    else if (str_eq(name, STR("env")))
        source.kind = SOURCE_ENV;
    else if (str_eq(name, STR("conversation")))
        source.kind = SOURCE_CONVERSATION;
    else if (list && (str_eq(name, STR("item")) || str_eq(name, STR("index"))))
        source.kind = SOURCE_LOCAL;
    else
        source.node = str_eq(name, STR("start")) ? document->start : document_find(document, name);
    return source;
}

static void gather(void *arg, const struct reference *reference)
{
    struct gathering *g = arg;
    struct str name = reference->steps[0];
    for (size_t i = 0; i < g->count; i++)
        if (str_eq(g->sources[i].name, name))
            return;
    if (g->count == g->capacity) {
        size_t capacity = MAX(2 * g->capacity, (size_t)4);
        struct source *sources = ARENA_NEW_ARRAY(&g->build->plan->arena, struct source, capacity);
        g->failed |= !sources;
        if (!sources)
            return;
        if (g->count)
            memcpy(sources, g->sources, g->count * sizeof(*sources));
        g->sources = sources;
        g->capacity = capacity;
    }
    g->sources[g->count++] = resolve(g->build, name);
}

/* "a {{ b.c }} d": pieces. False: something in it needs the engine. */
static bool split_text(struct plan_build *build, struct str text, struct plan_text *out)
{
    struct arena *arena = &build->plan->arena;
    struct text_segment *segments = ARENA_NEW_ARRAY(arena, struct text_segment, PLAN_SEGMENTS_MAX);
    size_t count = 0, at = 0;
    while (segments && at < text.n && count + 2 <= PLAN_SEGMENTS_MAX) {
        ssize_t open = str_find_char(str_slice(text, at, text.n), '{');
        size_t from = open < 0 ? text.n : at + (size_t)open;
        char next = from + 1 < text.n ? text.p[from + 1] : 0;
        if (open >= 0 && next != '{' && next != '%' && next != '#') { /* a brace as it is */
            segments[count++] = (struct text_segment){.literal = str_slice(text, at, from + 1)};
            at = from + 1;
            continue;
        }
        if (from > at)
            segments[count++] = (struct text_segment){.literal = str_slice(text, at, from)};
        if (open < 0) {
            at = text.n;
            break;
        }
        ssize_t close = str_find(str_slice(text, from, text.n), STR("}}"));
        struct str inner = str_slice(text, from + 2, close < 0 ? from + 2 : from + (size_t)close);
        struct reference *path = ARENA_NEW(arena, struct reference);
        if (next != '{' || close < 0 || !path || !reference_is_path(inner, path) ||
            path->count >= REFERENCE_STEPS_MAX)
            return false;
        segments[count++] =
            (struct text_segment){.path = path, .source = resolve(build, path->steps[0])};
        at = from + (size_t)close + 2;
    }
    if (!segments || at < text.n)
        return false;
    out->segments = segments;
    out->segment_count = count;
    return true;
}

enum rc plan_text_compile(struct plan_build *build, struct str text, struct plan_text *out,
                          struct err *err)
{
    struct gathering g = {.build = build};
    const struct template_options options = {.syntax = TEMPLATE_JINJA,
                                             .keep_trailing_newline = true};
    *out = (struct plan_text){.raw = text};
    enum rc rc = template_compile(text, &options, &build->plan->arena, &out->template, err);
    if (rc != RC_OK)
        return rc;
    split_text(build, text, out);
    reference_each(text, TEXT_TEMPLATE, gather, &g);
    out->sources = g.sources;
    out->source_count = g.count;
    return g.failed ? full(err) : RC_OK;
}

enum rc plan_expression_compile(struct plan_build *build, struct str text,
                                struct plan_expression *out, struct err *err)
{
    struct gathering g = {.build = build};
    *out = (struct plan_expression){0};
    if (str_trim(text).n == 0)
        return RC_OK;
    enum rc rc = expression_parse(text, &build->plan->arena, &out->expression, err);
    reference_each(text, TEXT_EXPRESSION, gather, &g);
    out->sources = g.sources;
    out->source_count = g.count;
    return rc == RC_OK && g.failed ? full(err) : rc;
}

/* ---- graph ---- */

/* Nodes that an edge leads to from an entry of their level: only they take part. */
static void mark_reachable(const struct document *document, bool *reachable)
{
    for (size_t i = 0; i < document->node_count; i++) {
        bool has_input = false;
        for (size_t e = 0; e < document->edge_count; e++)
            has_input |= document->edges[e].to == i;
        reachable[i] = document->nodes[i].parent == NO_NODE ? i == document->start : !has_input;
        reachable[i] &= !document->nodes[i].type->passive;
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t e = 0; e < document->edge_count; e++)
            if (reachable[document->edges[e].from] && !reachable[document->edges[e].to])
                changed = reachable[document->edges[e].to] = true;
    }
}

static enum rc make_edges(struct plan *plan, const bool *reachable, struct err *err)
{
    const struct document *document = plan->document;
    for (size_t i = 0; i < plan->node_count; i++) {
        struct plan_node *node = &plan->nodes[i];
        for (size_t e = 0; e < document->edge_count; e++)
            node->edge_count += document->edges[e].from == i;
        node->edges = ARENA_NEW_ARRAY(&plan->arena, struct plan_edge, node->edge_count + 1);
        if (!node->edges)
            return full(err);
        node->edge_count = 0;
    }
    for (size_t e = 0; e < document->edge_count; e++) {
        const struct document_edge *edge = &document->edges[e];
        struct plan_node *from = &plan->nodes[edge->from];
        if (!reachable[edge->from])
            continue;
        from->edges[from->edge_count++] = (struct plan_edge){edge->port, edge->to};
        plan->nodes[edge->to].in_count++;
    }
    return RC_OK;
}

static enum rc make_levels(struct plan *plan, const bool *reachable, struct err *err)
{
    size_t n = plan->node_count;
    plan->levels = ARENA_NEW_ARRAY(&plan->arena, struct plan_level, n + 1);
    if (!plan->levels)
        return full(err);
    plan->levels[0].container = NO_NODE;
    plan->level_count = 1;
    for (size_t i = 0; i < n; i++)
        if (plan->nodes[i].document->type->container) {
            plan->nodes[i].inner_level = plan->level_count;
            plan->levels[plan->level_count++].container = i;
        }
    for (size_t l = 0; l < plan->level_count; l++) {
        struct plan_level *level = &plan->levels[l];
        level->nodes = ARENA_NEW_ARRAY(&plan->arena, size_t, n + 1);
        level->entries = ARENA_NEW_ARRAY(&plan->arena, size_t, n + 1);
        if (!level->nodes || !level->entries)
            return full(err);
        for (size_t i = 0; i < n; i++) {
            struct plan_node *node = &plan->nodes[i];
            if (node->document->parent != level->container || !reachable[i])
                continue;
            node->level = l;
            node->slot = level->node_count;
            level->nodes[level->node_count++] = i;
            if (node->in_count == 0)
                level->entries[level->entry_count++] = i;
        }
    }
    return RC_OK;
}

/* ---- the rest ---- */

/* {name: value} of declared variables. */
static struct value *initial_values(struct arena *arena, yyjson_val *list)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *item;
    maker_init(&maker, arena);
    maker_object(&maker);
    yyjson_arr_foreach(list, i, n, item)
    {
        maker_key(&maker, json_get_text(item, "name"));
        maker_tree(&maker, yyjson_obj_get(item, "value"));
    }
    maker_end(&maker);
    return maker_pack(&maker);
}

static enum rc compile_nodes(struct plan *plan, struct err *err)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        struct plan_node *node = &plan->nodes[i];
        struct plan_build build = {plan, node};
        if (node->document->default_value)
            node->default_value = value_new(node->document->default_value);
        if (!node->operations || !node->operations->compile)
            continue;
        enum rc rc = node->operations->compile(&build, err);
        if (rc != RC_OK) {
            if (err && !err->field[0])
                err_prefix(err, "%.*s", STR_ARG(node->id));
            return rc;
        }
    }
    return RC_OK;
}

/* An answer passes on the text of the models that its plain paths name: {{ draft.text }}. */
static void mark_feeds(struct plan *plan)
{
    for (size_t i = 0; i < plan->node_count; i++) {
        struct plan_node *node = &plan->nodes[i];
        if (node->kind != NODE_ANSWER || node->level != 0)
            continue;
        const struct plan_text *text = node->config;
        for (size_t s = 0; text->segments && s < text->segment_count; s++) {
            const struct text_segment *segment = &text->segments[s];
            if (!segment->path || segment->source.kind != SOURCE_NODE ||
                segment->source.node == NO_NODE || segment->path->count != 2 ||
                !str_eq(segment->path->steps[1], STR("text")))
                continue;
            struct plan_node *source = &plan->nodes[segment->source.node];
            /* What may be tried again or replaced is not shown before it is certain. */
            source->feeds_answer = (source->kind == NODE_LLM || source->kind == NODE_PROMPT ||
                                    source->kind == NODE_AGENT) &&
                                   source->level == 0 && source->document->retry_max == 0 &&
                                   source->document->on_error == ON_ERROR_STOP;
        }
    }
}

static bool chooses(const struct plan_node *node)
{
    const struct node_type *type = node->document->type;
    return node->document->on_error == ON_ERROR_BRANCH || type->port_count != 1 ||
           type->ports_from.list.n > 0;
}

/* Marks what stands before `node`, itself included. */
static void mark_before(const struct plan *plan, size_t node, bool *before)
{
    if (before[node])
        return;
    before[node] = true;
    for (size_t i = 0; i < plan->node_count; i++)
        for (size_t e = 0; e < plan->nodes[i].edge_count; e++)
            if (plan->nodes[i].edges[e].to == node)
                mark_before(plan, i, before);
}

/* Answers sorted so that none stands before an earlier one: by how much stands before each. */
static enum rc make_answers(struct plan *plan, struct err *err)
{
    const struct plan_level *top = &plan->levels[0];
    size_t counts[PLAN_ANSWERS_MAX];
    bool *before = ARENA_NEW_ARRAY(&plan->arena, bool, plan->node_count + 1);
    plan->answers = ARENA_NEW_ARRAY(&plan->arena, struct plan_answer, PLAN_ANSWERS_MAX);
    if (!before || !plan->answers)
        return full(err);
    for (size_t i = 0; i < top->node_count && plan->answer_count < PLAN_ANSWERS_MAX; i++) {
        struct plan_answer answer = {.node = top->nodes[i]};
        size_t count = 0, at = plan->answer_count;
        if (plan->nodes[answer.node].kind != NODE_ANSWER)
            continue;
        memset(before, 0, plan->node_count);
        mark_before(plan, answer.node, before);
        answer.deciders = ARENA_NEW_ARRAY(&plan->arena, size_t, plan->node_count + 1);
        if (!answer.deciders)
            return full(err);
        for (size_t n = 0; n < plan->node_count; n++) {
            count += before[n];
            if (before[n] && n != answer.node && chooses(&plan->nodes[n]))
                answer.deciders[answer.decider_count++] = n;
        }
        for (; at > 0 && counts[at - 1] > count; at--) {
            counts[at] = counts[at - 1];
            plan->answers[at] = plan->answers[at - 1];
        }
        counts[at] = count;
        plan->answers[at] = answer;
        plan->answer_count++;
    }
    return RC_OK;
}

static enum rc build(struct plan *plan, struct err *err)
{
    struct findings findings;
    yyjson_doc *doc;
    enum rc rc = json_read(plan->spec, &plan->arena, &doc, err);
    if (rc != RC_OK)
        return rc;
    findings_init(&findings, &plan->arena);
    plan->document = document_read(yyjson_doc_get_root(doc), &plan->arena, &findings);
    if (plan->document)
        document_check(plan->document, &findings);
    rc = findings_error(&findings, err);
    if (rc != RC_OK || !plan->document)
        return rc != RC_OK ? rc : full(err);
    plan->node_count = plan->document->node_count;
    plan->nodes = ARENA_NEW_ARRAY(&plan->arena, struct plan_node, plan->node_count + 1);
    bool *reachable = ARENA_NEW_ARRAY(&plan->arena, bool, plan->node_count + 1);
    if (!plan->nodes || !reachable)
        return full(err);
    for (size_t i = 0; i < plan->node_count; i++) {
        const struct document_node *node = &plan->document->nodes[i];
        plan->nodes[i] = (struct plan_node){.index = i,
                                            .id = node->id,
                                            .document = node,
                                            .kind = node->type->kind,
                                            .operations = node_operations(node->type->kind)};
    }
    mark_reachable(plan->document, reachable);
    plan->environment = initial_values(&plan->arena, plan->document->environment);
    plan->conversation = initial_values(&plan->arena, plan->document->conversation);
    plan->has_conversation = yyjson_arr_size(plan->document->conversation) > 0;
    for (size_t i = 0; i < plan->node_count; i++)
        plan->has_conversation |= yyjson_obj_get(plan->document->nodes[i].config, "memory") != NULL;
    rc = make_edges(plan, reachable, err);
    if (rc == RC_OK)
        rc = make_levels(plan, reachable, err);
    if (rc == RC_OK)
        rc = compile_nodes(plan, err);
    if (rc == RC_OK)
        rc = make_answers(plan, err);
    if (rc == RC_OK)
        rc = citations_plan(plan, err);
    if (rc == RC_OK)
        mark_feeds(plan);
    return rc;
}

enum rc plan_compile(struct str spec, struct plan **out, struct err *err)
{
    struct plan *plan = xcalloc(1, sizeof(*plan));
    plan->references = 1;
    arena_init(&plan->arena, PLAN_BYTES_MAX);
    hash_sha256(spec.p, spec.n, plan->hash);
    plan->spec = arena_copy(&plan->arena, spec);
    enum rc rc = plan->spec.p ? build(plan, err) : full(err);
    if (rc != RC_OK)
        plan_unref(plan);
    else
        *out = plan;
    return rc;
}

struct plan *plan_ref(struct plan *plan)
{
    __atomic_fetch_add(&plan->references, 1, __ATOMIC_RELAXED);
    return plan;
}

void plan_unref(struct plan *plan)
{
    if (!plan || __atomic_fetch_sub(&plan->references, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (size_t i = 0; plan->nodes && i < plan->node_count; i++)
        value_unref(plan->nodes[i].default_value);
    value_unref(plan->environment);
    value_unref(plan->conversation);
    arena_fini(&plan->arena);
    free(plan);
}

size_t plan_find_node(const struct plan *plan, struct str id)
{
    return document_find(plan->document, id);
}
