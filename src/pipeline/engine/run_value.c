/* Names to values: what a step sees of its run. */
#include "pipeline/engine/run_private.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include "text/template.h"
#include <stdio.h>

/* The frame of the node's level: the step's own, or one around it in the same flow. */
static struct frame *frame_of_level(struct frame *frame, const struct plan_level *level)
{
    struct flow *flow = frame->flow;
    while (frame && (frame->flow != flow || frame->level != level))
        frame = frame->parent;
    return frame;
}

/* What a container shows to what runs inside it. */
static yyjson_val *inside_value(struct frame *frame, const struct plan_node *node,
                                struct arena *scratch)
{
    struct frame *at = frame_of_level(frame, &frame->flow->plan->levels[node->inner_level]);
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *value;
    if (!at)
        return NULL;
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_key(&maker, STR("index"));
    maker_int(&maker, at->index);
    if (node->kind == NODE_ITERATION) {
        maker_key(&maker, STR("item"));
        maker_tree(&maker, value_json(at->item));
    }
    yyjson_obj_foreach(value_json(at->vars), i, n, key, value)
    {
        maker_key(&maker, str_make(yyjson_get_str(key), yyjson_get_len(key)));
        maker_tree(&maker, value);
    }
    maker_end(&maker);
    return maker_take(&maker);
}

static yyjson_val *node_value(struct frame *frame, const struct plan_node *node,
                              struct arena *scratch)
{
    if (node->document->type->container) {
        yyjson_val *inside = inside_value(frame, node, scratch);
        if (inside)
            return inside;
    }
    struct frame *at = frame_of_level(frame, &frame->flow->plan->levels[node->level]);
    return at ? value_json(frame_slot(at, node)->out) : NULL;
}

yyjson_val *run_source(struct frame *frame, const struct source *source, yyjson_val *local,
                       struct arena *scratch)
{
    struct flow *flow = frame->flow;
    switch (source->kind) {
    case SOURCE_SYS: return value_json(flow->sys);
    case SOURCE_ENV: return value_json(flow->plan->environment);
    case SOURCE_CONVERSATION: return value_json(flow->conversation);
    case SOURCE_LOCAL: return yyjson_obj_getn(local, source->name.p, source->name.n);
    case SOURCE_NODE: break;
    }
    if (source->node == NO_NODE)
        return NULL;
    return node_value(frame, &flow->plan->nodes[source->node], scratch);
}

static yyjson_val *step_into(yyjson_val *value, struct str step)
{
    uint64_t index;
    if (yyjson_is_obj(value))
        return yyjson_obj_getn(value, step.p, step.n);
    if (yyjson_is_arr(value) && str_to_u64(step, &index) == RC_OK)
        return yyjson_arr_get(value, index);
    return NULL;
}

yyjson_val *run_path(struct frame *frame, const struct source *source, const struct reference *path,
                     struct arena *scratch)
{
    yyjson_val *value = run_source(frame, source, NULL, scratch);
    for (size_t i = 1; value && i < path->count; i++)
        value = step_into(value, path->steps[i]);
    return value;
}

/* ---- templates ---- */

bool plain_text(yyjson_val *value, struct arena *scratch, struct str *out)
{
    if (!value) {
        *out = STR("");
        return true;
    }
    if (yyjson_is_str(value)) {
        *out = json_text(value);
        return true;
    }
    if (!yyjson_is_int(value))
        return false;
    *out = yyjson_is_uint(value)
               ? arena_printf(scratch, "%llu", (unsigned long long)yyjson_get_uint(value))
               : arena_printf(scratch, "%lld", (long long)yyjson_get_sint(value));
    return out->p != NULL;
}

static enum rc too_large(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the text is larger than a node may make");
}

/* Pieces one after the other. False: a value among them is no plain one; nothing is appended. */
static bool render_segments(struct frame *frame, const struct plan_text *text,
                            struct arena *scratch, struct buf *out, enum rc *rc)
{
    size_t before = buf_len(out);
    *rc = RC_OK;
    for (size_t i = 0; *rc == RC_OK && i < text->segment_count; i++) {
        const struct text_segment *segment = &text->segments[i];
        struct str piece = segment->literal;
        if (segment->path && !plain_text(run_path(frame, &segment->source, segment->path, scratch),
                                         scratch, &piece)) {
            out->end -= buf_len(out) - before;
            return false;
        }
        *rc = buf_append(out, piece);
    }
    return true;
}

enum rc run_render(struct frame *frame, const struct plan_text *text, struct arena *scratch,
                   struct buf *out, struct err *err)
{
    struct maker maker;
    enum rc rc;
    if (text->segments && render_segments(frame, text, scratch, out, &rc))
        return rc == RC_OK ? rc : too_large(err);
    maker_init(&maker, scratch);
    maker_object(&maker);
    for (size_t i = 0; i < text->source_count; i++) {
        yyjson_val *value = run_source(frame, &text->sources[i], NULL, scratch);
        if (!value)
            continue; /* undefined */
        maker_key(&maker, text->sources[i].name);
        maker_tree(&maker, value);
    }
    maker_end(&maker);
    yyjson_val *values = maker_take(&maker);
    if (!values)
        return too_large(err);
    return template_render(text->template, values, NULL, scratch, out, err);
}

/* ---- expressions ---- */

struct looking {
    struct frame *frame;
    const struct plan_expression *expression;
    yyjson_val *local;
    struct arena *scratch;
};

static void look_up(void *arg, const struct str *path, size_t path_count,
                    struct expression_value *out)
{
    struct looking *looking = arg;
    const struct plan_expression *expression = looking->expression;
    for (size_t i = 0; i < expression->source_count; i++) {
        const struct source *source = &expression->sources[i];
        if (!str_eq(source->name, path[0]))
            continue;
        yyjson_val *value = run_source(looking->frame, source, looking->local, looking->scratch);
        if (value)
            expression_from_json(value, path + 1, path_count - 1, out);
        return;
    }
}

enum rc run_evaluate(struct frame *frame, const struct plan_expression *expression,
                     yyjson_val *local, struct arena *scratch, struct expression_value *out,
                     struct err *err)
{
    struct looking looking = {frame, expression, local, scratch};
    *out = (struct expression_value){0};
    if (!expression->expression)
        return RC_OK;
    enum rc rc = expression_evaluate(expression->expression, look_up, &looking, scratch, out);
    if (rc != RC_OK)
        return err_set(err, ERR_TOO_LARGE, "the expression takes too much work");
    return RC_OK;
}

bool expression_value_holds(const struct expression_value *value)
{
    switch (value->type) {
    case EXPRESSION_NULL: return false;
    case EXPRESSION_BOOL: return value->boolean;
    case EXPRESSION_NUMBER: return value->number != 0;
    case EXPRESSION_TEXT: return value->text.n > 0;
    case EXPRESSION_LIST: return value->item_count > 0;
    case EXPRESSION_JSON: return yyjson_get_len(value->json) > 0;
    }
    UNREACHABLE();
}
