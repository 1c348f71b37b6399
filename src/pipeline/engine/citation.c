/* See citation.h. */
#include "pipeline/engine/citation.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- which retrievals a text comes from ---- */

struct reading {
    const struct plan *plan;
    uint64_t *reads; /* bit set a node: those that its texts name */
    size_t words;
    size_t node;
};

static bool is_source(const struct plan_node *node) { return node->kind == NODE_RETRIEVAL; }

static bool cites(const struct plan_node *node)
{
    return node->kind == NODE_LLM || node->kind == NODE_PROMPT || node->kind == NODE_ANSWER;
}

static void visit_reference(void *arg, const struct reference *reference)
{
    struct reading *r = arg;
    size_t other = document_find(r->plan->document, reference->steps[0]);
    if (other != NO_NODE)
        r->reads[r->node * r->words + other / 64] |= 1ull << (other % 64);
}

static void visit_text(void *arg, struct str field, enum text_kind kind, struct str text)
{
    UNUSED(field);
    reference_each(text, kind, visit_reference, arg);
}

/* Nodes from which `node` may have its values, into `seen`. A container and what is inside it read
 * one another, so a node is looked at once. */
static void follow(const struct reading *r, size_t node, uint64_t *seen, size_t *stack)
{
    size_t depth = 0;
    stack[depth++] = node;
    while (depth > 0) {
        size_t at = stack[--depth];
        for (size_t w = 0; w < r->words; w++) {
            uint64_t new = r->reads[at * r->words + w] & ~seen[w];
            seen[w] |= new;
            for (; new; new &= new - 1)
                stack[depth++] = w * 64 + (size_t)__builtin_ctzll(new);
        }
    }
}

static enum rc keep(struct plan *plan, struct plan_node *node, const uint64_t *seen)
{
    node->cites = ARENA_NEW_ARRAY(&plan->arena, size_t, plan->node_count + 1);
    if (!node->cites)
        return RC_LIMIT;
    for (size_t i = 0; i < plan->node_count; i++)
        if ((seen[i / 64] >> (i % 64) & 1) && is_source(&plan->nodes[i]))
            node->cites[node->cite_count++] = i;
    return RC_OK;
}

enum rc citations_plan(struct plan *plan, struct err *err)
{
    struct reading r = {.plan = plan, .words = (plan->node_count + 63) / 64};
    struct arena scratch;
    enum rc rc = RC_OK;
    bool any = false;
    for (size_t i = 0; i < plan->node_count; i++)
        any |= is_source(&plan->nodes[i]);
    if (!any)
        return RC_OK;
    arena_init(&scratch, PLAN_BYTES_MAX);
    r.reads = ARENA_NEW_ARRAY(&scratch, uint64_t, plan->node_count *r.words);
    uint64_t *seen = ARENA_NEW_ARRAY(&scratch, uint64_t, r.words);
    size_t *stack = ARENA_NEW_ARRAY(&scratch, size_t, plan->node_count + 1);
    if (!r.reads || !seen || !stack)
        rc = RC_LIMIT;
    for (r.node = 0; rc == RC_OK && r.node < plan->node_count; r.node++)
        document_each_text(plan->nodes[r.node].document, &scratch, visit_text, &r);
    for (size_t i = 0; rc == RC_OK && i < plan->node_count; i++) {
        if (!cites(&plan->nodes[i]))
            continue;
        memset(seen, 0, r.words * sizeof(*seen));
        follow(&r, i, seen, stack);
        rc = keep(plan, &plan->nodes[i], seen);
    }
    arena_fini(&scratch);
    return rc == RC_OK
               ? rc
               : err_set(err, ERR_TOO_LARGE, "the definition needs more memory than it may have");
}

/* ---- passing on ---- */

static bool names(struct str text, yyjson_val *citation)
{
    char mark[32];
    snprintf(mark, sizeof(mark), "[%lld]", (long long)json_get_int(citation, "number", 0));
    return str_find(text, str_from(mark)) >= 0;
}

static bool is_in(yyjson_val *list, yyjson_val *citation)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        if (json_get_int(item, "number", 0) == json_get_int(citation, "number", 0) &&
            str_eq(json_get_text(item, "chunk_id"), json_get_text(citation, "chunk_id")))
            return true;
    }
    return false;
}

static void put_marked(struct maker *maker, yyjson_val *citation, bool cited)
{
    size_t i, n;
    yyjson_val *key, *value;
    maker_object(maker);
    yyjson_obj_foreach(citation, i, n, key, value)
    {
        if (yyjson_equals_str(key, "cited"))
            continue;
        maker_key(maker, json_text(key));
        maker_tree(maker, value);
    }
    maker_key(maker, STR("cited"));
    maker_bool(maker, cited);
    maker_end(maker);
}

/* Into an open list, those that are not in `there`, at most `room`. */
static void put_list(struct maker *maker, struct frame *frame, const struct plan_node *node,
                     struct str text, yyjson_val *there, size_t room)
{
    for (size_t c = 0; c < node->cite_count; c++) {
        const struct source source = {.kind = SOURCE_NODE, .node = node->cites[c]};
        yyjson_val *out = run_source(frame, &source, NULL, maker->arena), *citation;
        size_t i, n;
        yyjson_arr_foreach(yyjson_obj_get(out, "citations"), i, n, citation)
        {
            if (room == 0 || is_in(there, citation))
                continue;
            put_marked(maker, citation, names(text, citation));
            room--;
        }
    }
}

void citations_put(struct maker *maker, struct frame *frame, const struct plan_node *node,
                   struct str text)
{
    if (node->cite_count == 0)
        return;
    maker_key(maker, STR("citations"));
    maker_array(maker);
    put_list(maker, frame, node, text, NULL, CITATIONS_MAX);
    maker_end(maker);
}

void citations_pass_on(struct step *step, struct str text)
{
    struct flow *flow = step->frame->flow;
    yyjson_val *there = value_json(flow->citations), *citation;
    struct maker maker;
    size_t i, n;
    if (step->plan->cite_count == 0)
        return;
    maker_init(&maker, &step->run->loop->scratch);
    maker_array(&maker);
    yyjson_arr_foreach(there, i, n, citation) put_marked(
        &maker, citation, json_get_bool(citation, "cited", false) || names(text, citation));
    put_list(&maker, step->frame, step->plan, text, there,
             CITATIONS_MAX - MIN(yyjson_arr_size(there), (size_t)CITATIONS_MAX));
    maker_end(&maker);
    struct value *all = maker_pack(&maker);
    if (!all)
        return; /* too large: those so far stay */
    value_unref(flow->citations);
    flow->citations = all;
}
