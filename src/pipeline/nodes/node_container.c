/* Iteration, loop, and the node that runs another pipeline: nodes that begin frames and end when
 * these have ended. */
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_private.h"
#include "text/json.h"
#include <stdlib.h>

/* ---- iteration ---- */

enum item_error { ITEM_STOP, ITEM_NULL, ITEM_DROP };

struct iteration_config {
    struct plan_expression list, output;
    uint32_t parallel;
    enum item_error on_error;
    bool flatten;
};

struct iteration {
    struct value *list;
    struct value **results; /* one for each item */
    bool *failed;
    uint32_t count, next, running, failures;
};

static enum rc iteration_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct str on_error = json_get_text(json, "on_item_error");
    struct iteration_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct iteration_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->parallel = (uint32_t)json_get_int(json, "parallel", 1);
    config->flatten = json_get_bool(json, "flatten", false);
    config->on_error = str_eq(on_error, STR("null"))   ? ITEM_NULL
                       : str_eq(on_error, STR("drop")) ? ITEM_DROP
                                                       : ITEM_STOP;
    enum rc rc = plan_expression_compile(build, json_get_text(json, "list"), &config->list, err);
    if (rc == RC_OK)
        rc = plan_expression_compile(build, json_get_text(json, "output"), &config->output, err);
    return rc;
}

static void iteration_free(struct iteration *iteration)
{
    for (uint32_t i = 0; i < iteration->count; i++)
        value_unref(iteration->results[i]);
    value_unref(iteration->list);
    free(iteration->results);
    free(iteration->failed);
    free(iteration);
}

void step_drop_frames(struct step *step)
{
    struct run *run = step->run;
    bool again = true;
    while (again) {
        again = false;
        LIST_FOR_EACH (frame, &run->frames, struct frame, node)
            if (frame->owner == step && !frame->ended) {
                frame_drop(run, frame);
                again = true;
                break;
            }
    }
}

static void iteration_cancel(struct step *step)
{
    step_drop_frames(step);
    iteration_free(step->work);
    step->work = NULL;
}

static void put_result(struct maker *maker, yyjson_val *result, bool flatten)
{
    size_t i, n;
    yyjson_val *item;
    if (!flatten || !yyjson_is_arr(result)) {
        maker_tree(maker, result);
        return;
    }
    yyjson_arr_foreach(result, i, n, item) maker_tree(maker, item);
}

static void iteration_end(struct step *step)
{
    const struct iteration_config *config = step->plan->config;
    struct iteration *iteration = step->work;
    struct maker maker;
    struct arena arena; /* a frame that ends another one may be using the loop's */
    arena_init(&arena, SCRATCH_BYTES_MAX);
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("output"));
    maker_array(&maker);
    for (uint32_t i = 0; i < iteration->count; i++)
        if (!iteration->failed[i] || config->on_error != ITEM_DROP)
            put_result(&maker, value_json(iteration->results[i]), config->flatten);
    maker_end(&maker);
    maker_key(&maker, STR("failed"));
    maker_int(&maker, iteration->failures);
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    iteration_free(iteration);
    step_done(step, out, STR("out"));
}

static void iteration_continue(struct step *step)
{
    const struct iteration_config *config = step->plan->config;
    struct iteration *iteration = step->work;
    while (iteration->next < iteration->count && iteration->running < config->parallel) {
        uint32_t index = iteration->next++;
        struct value *item = value_new(yyjson_arr_get(value_json(iteration->list), index));
        iteration->running++;
        frame_begin(step, step->frame->flow, step->plan->inner_level, index, item, NULL);
        value_unref(item);
        if (step->run->finishing)
            return;
    }
    if (iteration->running == 0)
        iteration_end(step);
}

static void iteration_run(struct step *step)
{
    const struct iteration_config *config = step->plan->config;
    struct err err = {0};
    yyjson_val *list = evaluate_list(step, &config->list, &err);
    if (!list) {
        step_failed(step, &err);
        return;
    }
    struct iteration *iteration = step->work = xcalloc(1, sizeof(*iteration));
    iteration->list = value_new(list);
    iteration->count = (uint32_t)yyjson_arr_size(list);
    iteration->results = xcalloc((size_t)iteration->count + 1, sizeof(*iteration->results));
    iteration->failed = xcalloc((size_t)iteration->count + 1, sizeof(*iteration->failed));
    iteration_continue(step);
}

static void iteration_frame_ended(struct step *step, struct frame *frame, const struct err *err)
{
    const struct iteration_config *config = step->plan->config;
    struct iteration *iteration = step->work;
    struct expression_value value;
    struct err problem = {0};
    struct arena arena;
    iteration->running--;
    if (!err) {
        struct maker maker;
        arena_init(&arena, SCRATCH_BYTES_MAX);
        maker_init(&maker, &arena);
        if (run_evaluate(frame, &config->output, NULL, &arena, &value, &problem) == RC_OK) {
            maker_expression(&maker, &value);
            iteration->results[frame->index] = maker_pack(&maker);
        }
        arena_fini(&arena);
        if (!iteration->results[frame->index])
            err = &problem;
    }
    if (err && config->on_error == ITEM_STOP) {
        struct err first = *err;
        iteration_cancel(step);
        step_failed(step, &first);
        return;
    }
    iteration->failed[frame->index] = err != NULL;
    iteration->failures += err != NULL;
    iteration_continue(step);
}

const struct node_operations iteration_operations = {.compile = iteration_compile,
                                                     .run = iteration_run,
                                                     .cancel = iteration_cancel,
                                                     .frame_ended = iteration_frame_ended};

/* ---- loop ---- */

struct loop_config {
    struct assignments variables;
    struct plan_expression until;
    uint32_t rounds_max;
};

struct loop_work {
    struct value *vars;
    uint32_t rounds;
};

static enum rc loop_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct loop_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct loop_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->rounds_max = (uint32_t)json_get_int(json, "rounds", 10);
    enum rc rc =
        assignments_compile(build, yyjson_obj_get(json, "variables"), &config->variables, err);
    if (rc == RC_OK)
        rc = plan_expression_compile(build, json_get_text(json, "until"), &config->until, err);
    return rc;
}

static void loop_work_free(struct loop_work *work)
{
    value_unref(work->vars);
    free(work);
}

static void loop_cancel(struct step *step)
{
    step_drop_frames(step);
    loop_work_free(step->work);
    step->work = NULL;
}

static void loop_round(struct step *step)
{
    struct loop_work *work = step->work;
    frame_begin(step, step->frame->flow, step->plan->inner_level, work->rounds++, NULL, work->vars);
}

static void loop_run_node(struct step *step)
{
    const struct loop_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct err err = {0};
    struct maker maker;
    maker_init(&maker, scratch);
    maker_object(&maker);
    if (assignments_put(step->frame, &config->variables, &maker, &err) != RC_OK) {
        step_failed(step, &err);
        return;
    }
    maker_end(&maker);
    struct loop_work *work = step->work = xcalloc(1, sizeof(*work));
    work->vars = maker_pack(&maker);
    loop_round(step);
}

static void loop_end(struct step *step)
{
    struct loop_work *work = step->work;
    struct maker maker;
    struct arena arena;
    size_t i, n;
    yyjson_val *key, *value;
    arena_init(&arena, SCRATCH_BYTES_MAX);
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("rounds"));
    maker_int(&maker, work->rounds);
    yyjson_obj_foreach(value_json(work->vars), i, n, key, value)
    {
        maker_key(&maker, json_text(key));
        maker_tree(&maker, value);
    }
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    loop_work_free(work);
    step_done(step, out, STR("out"));
}

static void loop_frame_ended(struct step *step, struct frame *frame, const struct err *err)
{
    const struct loop_config *config = step->plan->config;
    struct loop_work *work = step->work;
    struct expression_value until = {0};
    struct err problem = {0};
    struct arena arena;
    if (!err) {
        arena_init(&arena, SCRATCH_BYTES_MAX);
        if (run_evaluate(frame, &config->until, NULL, &arena, &until, &problem) != RC_OK)
            err = &problem;
        bool holds = !err && expression_value_holds(&until);
        arena_fini(&arena);
        value_unref(work->vars);
        work->vars = value_ref(frame->vars);
        if (!err && (holds || work->rounds >= config->rounds_max)) {
            loop_end(step);
            return;
        }
    }
    if (err) {
        struct err first = *err;
        loop_cancel(step);
        step_failed(step, &first);
        return;
    }
    loop_round(step);
}

const struct node_operations loop_operations = {.compile = loop_compile,
                                                .run = loop_run_node,
                                                .cancel = loop_cancel,
                                                .frame_ended = loop_frame_ended};

/* ---- another pipeline ---- */

struct pipeline_config {
    struct str name, selector;
    struct assignments inputs;
};

/* Outlives its step while the plan is being looked for. */
struct pipeline_work {
    struct step *step; /* NULL: nobody wants it any more */
    struct flow *flow; /* NULL: the plan is being looked for */
};

static enum rc pipeline_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct str name = json_get_text(json, "pipeline");
    ssize_t at = str_rfind_char(name, '@');
    struct pipeline_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct pipeline_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->name = at > 0 ? str_slice(name, 0, (size_t)at) : name;
    config->selector = at > 0 ? str_slice(name, (size_t)at + 1, name.n) : STR_EMPTY;
    return assignments_compile(build, yyjson_obj_get(json, "inputs"), &config->inputs, err);
}

static void pipeline_cancel(struct step *step)
{
    struct pipeline_work *work = step->work;
    step->work = NULL;
    work->step = NULL;
    if (!work->flow)
        return; /* freed when the plan is found */
    step_drop_frames(step);
    flow_free(work->flow);
    free(work);
}

struct value *flow_inner_sys(const struct flow *outer, struct str pipeline, int64_t version,
                             struct arena *arena)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *value;
    maker_init(&maker, arena);
    maker_object(&maker);
    yyjson_obj_foreach(value_json(outer->sys), i, n, key, value)
    {
        maker_key(&maker, json_text(key));
        if (str_eq(json_text(key), STR("pipeline")))
            maker_text(&maker, pipeline);
        else if (str_eq(json_text(key), STR("version")))
            maker_int(&maker, version);
        else
            maker_tree(&maker, value);
    }
    maker_end(&maker);
    return maker_pack(&maker);
}

int frame_flow_depth(const struct frame *frame)
{
    int depth = 0;
    for (; frame && frame->parent; frame = frame->parent)
        depth += frame->flow != frame->parent->flow;
    return depth;
}

static void pipeline_begin(struct step *step, struct plan *plan, int64_t version)
{
    const struct pipeline_config *config = step->plan->config;
    struct pipeline_work *work = step->work;
    struct arena arena;
    struct maker maker;
    struct err err = {0};
    struct value *start = NULL;
    arena_init(&arena, SCRATCH_BYTES_MAX);
    maker_init(&maker, &arena);
    maker_object(&maker);
    if (assignments_put(step->frame, &config->inputs, &maker, &err) == RC_OK) {
        maker_end(&maker);
        start = flow_read_inputs(plan, maker_take(&maker), STR_EMPTY, &arena, &err);
    }
    if (start) {
        work->flow = flow_new(plan);
        work->flow->sys = flow_inner_sys(step->frame->flow, config->name, version, &arena);
    }
    arena_fini(&arena);
    if (!start) {
        free(work);
        step_failed(step, &err);
        return;
    }
    struct run *run = step->run;
    frame_begin(step, work->flow, 0, 0, start, NULL);
    value_unref(start);
    run_pump(run);
}

static void on_plan_found(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct pipeline_work *work = arg;
    struct step *step = work->step;
    if (!step) {
        plan_unref(plan);
        free(work);
    } else if (err) {
        free(work);
        step_failed(step, err);
    } else {
        pipeline_begin(step, plan, version);
        plan_unref(plan);
    }
}

static void pipeline_run(struct step *step)
{
    const struct pipeline_config *config = step->plan->config;
    struct err err = {0};
    if (frame_flow_depth(step->frame) >= FLOW_DEPTH_MAX) {
        err_set(&err, ERR_INVALID, "pipelines call each other more than %d deep", FLOW_DEPTH_MAX);
        step_failed(step, &err);
        return;
    }
    struct pipeline_work *work = step->work = xcalloc(1, sizeof(*work));
    work->step = step;
    plan_find(step->run->loop, step->run->principal.project, config->name, config->selector,
              str_hash(step->run->session), on_plan_found, work);
}

static void pipeline_frame_ended(struct step *step, struct frame *frame, const struct err *err)
{
    struct pipeline_work *work = step->work;
    struct value *out = NULL;
    struct err problem = {0};
    UNUSED(frame);
    if (!err) {
        struct arena arena;
        struct maker maker;
        arena_init(&arena, SCRATCH_BYTES_MAX);
        maker_init(&maker, &arena);
        maker_object(&maker);
        maker_key(&maker, STR("outputs"));
        if (work->flow->outputs) {
            maker_tree(&maker, value_json(work->flow->outputs));
        } else {
            maker_object(&maker);
            maker_end(&maker);
        }
        maker_key(&maker, STR("text"));
        maker_text(&maker, buf_str(&work->flow->text));
        maker_end(&maker);
        out = maker_pack(&maker);
        arena_fini(&arena);
    } else {
        problem = *err;
    }
    /* The frame still names the flow: it goes with the frame. */
    frame->dead_flow = work->flow;
    free(work);
    if (err)
        step_failed(step, &problem);
    else
        step_done(step, out, STR("out"));
}

const struct node_operations pipeline_operations = {.compile = pipeline_compile,
                                                    .run = pipeline_run,
                                                    .cancel = pipeline_cancel,
                                                    .frame_ended = pipeline_frame_ended};
