/* The engine: from ready steps to settled edges. See run_private.h for what a run is made of.
 *
 * Nothing here recurses through nodes: a step that ends marks what its edges decide, and what
 * becomes ready waits in run->ready until the pump takes it. The pump takes at most RUN_PUMP_STEPS
 * a turn, so that a large run does not hold up its loop. */
#include "pipeline/engine/run_private.h"
#include "base/clock.h"
#include "base/rand.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- flows and frames ---- */

struct flow *flow_new(struct plan *plan)
{
    struct flow *flow = xcalloc(1, sizeof(*flow));
    flow->plan = plan_ref(plan);
    flow->conversation = value_ref(plan->conversation);
    buf_init(&flow->text, RUN_TEXT_BYTES_MAX);
    return flow;
}

static void flow_clear(struct flow *flow)
{
    value_unref(flow->sys);
    value_unref(flow->conversation);
    value_unref(flow->outputs);
    value_unref(flow->citations);
    buf_fini(&flow->text);
    plan_unref(flow->plan);
}

void flow_free(struct flow *flow)
{
    flow_clear(flow);
    free(flow);
}

struct node_slot *frame_slot(const struct frame *frame, const struct plan_node *node)
{
    return (struct node_slot *)&frame->slots[node->slot];
}

bool frame_is_within(const struct frame *frame, const struct frame *outer)
{
    while (frame && frame != outer)
        frame = frame->parent;
    return frame != NULL;
}

static void on_step_timer(struct timer *timer);

void node_make_ready(struct frame *frame, const struct plan_node *node)
{
    struct run *run =
        frame->owner ? frame->owner->run : CONTAINER_OF(frame->flow, struct run, flow);
    struct step *step = slab_take(&run->loop->steps);
    if (!step) {
        struct err err = {0};
        err_set(&err, ERR_OVERLOADED, "too many steps are under way on this server");
        run_fail(run, &err, node->id);
        return;
    }
    step->run = run;
    step->frame = frame;
    step->plan = node;
    timer_init(&step->timer, on_step_timer);
    frame_slot(frame, node)->state = NODE_READY;
    frame->active++;
    list_push_back(&run->ready, &step->node);
}

struct frame *frame_new(struct step *owner, struct flow *flow, size_t level, uint32_t index)
{
    const struct plan_level *plan_level = &flow->plan->levels[level];
    struct run *run = owner ? owner->run : CONTAINER_OF(flow, struct run, flow);
    struct frame *frame =
        xcalloc(1, sizeof(*frame) + plan_level->node_count * sizeof(struct node_slot));
    frame->parent = owner ? owner->frame : NULL;
    frame->owner = owner;
    frame->flow = flow;
    frame->level = plan_level;
    frame->index = index;
    if (level == 0)
        flow->frame = frame;
    for (size_t i = 0; i < plan_level->node_count; i++) {
        const struct plan_node *node = &flow->plan->nodes[plan_level->nodes[i]];
        frame->slots[i].undecided = (uint16_t)node->in_count;
        frame->slots[i].duration_us = -1;
    }
    list_push_back(&run->frames, &frame->node);
    return frame;
}

struct frame *frame_begin(struct step *owner, struct flow *flow, size_t level, uint32_t index,
                          struct value *item, struct value *vars)
{
    const struct plan_level *plan_level = &flow->plan->levels[level];
    struct frame *frame = frame_new(owner, flow, level, index);
    frame->item = value_ref(item);
    frame->vars = value_ref(vars);
    for (size_t i = 0; i < plan_level->entry_count; i++)
        node_make_ready(frame, &flow->plan->nodes[plan_level->entries[i]]);
    return frame;
}

static void frame_free(struct frame *frame)
{
    for (size_t i = 0; i < frame->level->node_count; i++)
        value_unref(frame->slots[i].out);
    value_unref(frame->item);
    value_unref(frame->vars);
    free(frame->path);
    if (frame->dead_flow)
        flow_free(frame->dead_flow);
    free(frame);
}

static bool may_keep(const struct run *run, const struct frame *frame)
{
    return frame->flow == &run->flow && run->kept_count < RUN_FRAMES_KEPT;
}

/* While its owner is still there. */
static void frame_keep_path(struct run *run, struct frame *frame)
{
    struct buf path;
    if (!may_keep(run, frame))
        return;
    buf_init(&path, 4096);
    step_path(frame->parent, frame->owner->plan, &path);
    if (buf_printf(&path, "#%u/", frame->index) == RC_OK)
        frame->path = strndup(path.p, buf_len(&path));
    buf_fini(&path);
}

/* An ended frame stays for the history while there is room. */
static void frame_retire(struct run *run, struct frame *frame)
{
    size_t bytes = 0;
    for (size_t i = 0; i < frame->level->node_count; i++)
        bytes += value_bytes(frame->slots[i].out);
    list_remove(&frame->node);
    if (!frame->path || run->kept_bytes + bytes > RUN_KEPT_BYTES_MAX) {
        frame_free(frame);
        return;
    }
    frame->owner = NULL;
    frame->parent = NULL;
    run->kept_count++;
    run->kept_bytes += bytes;
    list_push_back(&run->kept, &frame->node);
}

/* ---- steps ---- */

static void step_free(struct step *step)
{
    timer_stop(&step->timer);
    list_remove(&step->node);
    step->run->busy -= step->counted;
    value_unref(step->record);
    slab_give(&step->run->loop->steps, step);
}

/* Without telling anybody. */
static void step_drop(struct step *step)
{
    const struct node_operations *operations = step->plan->operations;
    if (step->begun && !step->retrying && operations->cancel)
        operations->cancel(step);
    journal_forget_step(step);
    struct node_slot *slot = frame_slot(step->frame, step->plan);
    if (slot->state == NODE_RUNNING || slot->state == NODE_READY)
        slot->state = NODE_IDLE;
    step->frame->active--;
    step_free(step);
}

/* Containers first: their cancel drops the frames inside, which removes steps from the list. */
static void drop_steps(struct run *run, const struct frame *within)
{
    bool again = true;
    while (again) {
        again = false;
        struct list *lists[] = {&run->ready, &run->steps};
        for (size_t l = 0; l < COUNT_OF(lists) && !again; l++)
            LIST_FOR_EACH (step, lists[l], struct step, node)
                if (!within || frame_is_within(step->frame, within)) {
                    step_drop(step);
                    again = true;
                    break;
                }
    }
}

void frame_drop(struct run *run, struct frame *frame)
{
    drop_steps(run, frame);
    frame->ended = true;
    frame_keep_path(run, frame);
    frame_retire(run, frame);
}

/* ---- edges ---- */

/* The run is of this node alone: nothing behind it runs. */
static bool is_only(const struct frame *frame, const struct plan_node *node)
{
    const struct run *run = frame->owner ? NULL : CONTAINER_OF(frame->flow, struct run, flow);
    return run && run->only == node;
}

static uint16_t port_index(const struct plan_node *node, struct str port)
{
    for (size_t i = 0; i < node->edge_count; i++)
        if (str_eq(node->edges[i].port, port))
            return str_eq(port, STR("out")) ? SLOT_PORT_OUT : (uint16_t)(i + 1);
    return str_eq(port, STR("out")) ? SLOT_PORT_OUT : SLOT_PORT_NONE;
}

static void settle(struct frame *frame, const struct plan_node *node, bool skipped, struct str port)
{
    const struct plan *plan = frame->flow->plan;
    if (is_only(frame, node))
        return;
    for (size_t i = 0; i < node->edge_count; i++) {
        const struct plan_node *next = &plan->nodes[node->edges[i].to];
        struct node_slot *slot = frame_slot(frame, next);
        slot->taken |= !skipped && str_eq(node->edges[i].port, port);
        ASSERT(slot->undecided > 0);
        if (--slot->undecided > 0)
            continue;
        if (slot->taken) {
            node_make_ready(frame, next);
        } else {
            slot->state = NODE_SKIPPED;
            settle(frame, next, true, STR_EMPTY); /* at most as deep as a path is long */
        }
    }
}

static void frame_end(struct run *run, struct frame *frame, const struct err *err)
{
    if (frame->ended || run->finishing)
        return;
    frame->ended = true;
    if (err)
        drop_steps(run, frame);
    struct step *owner = frame->owner;
    ASSERT(owner);
    frame_keep_path(run, frame);
    owner->plan->operations->frame_ended(owner, frame, err);
    frame_retire(run, frame);
}

static void run_finish(struct run *run, enum run_status status);

/* A step has left the frame: was it the last? */
static void frame_check(struct run *run, struct frame *frame)
{
    if (frame->active > 0 || frame->ended || run->finishing)
        return;
    if (frame->owner) {
        frame_end(run, frame, NULL);
        return;
    }
    frame->ended = true;
    run_finish(run, RUN_SUCCEEDED);
}

/* ---- the end of a step ---- */

static void step_close(struct step *step, struct value *outputs, enum node_state state)
{
    struct node_slot *slot = frame_slot(step->frame, step->plan);
    value_unref(slot->out);
    slot->out = outputs;
    slot->state = (uint8_t)state;
    slot->attempts = (uint8_t)(step->attempt + 1);
    slot->duration_us = (int32_t)MIN(
        (loop_now_ns(step->run->loop->loop) - step->started_ns) / NS_PER_US, INT32_MAX);
}

/* Goes on behind the step. */
static void step_leave(struct step *step, struct str port)
{
    struct run *run = step->run;
    struct frame *frame = step->frame;
    frame_slot(frame, step->plan)->port = port_index(step->plan, port);
    run_tell_node(step, "node_finished");
    settle(frame, step->plan, false, port);
    frame->active--;
    step_free(step);
    if (run->answers && !run->finishing)
        answers_advance(run);
    frame_check(run, frame);
    if (!run->pumping && !run->finishing)
        run_pump(run);
}

void step_done(struct step *step, struct value *outputs, struct str port)
{
    struct run *run = step->run;
    CHECK_MAGIC(run, RUN_MAGIC);
    timer_stop(&step->timer);
    step->work = NULL;
    step->begun = false;
    if (!outputs) {
        struct err err = {0};
        err_set(&err, ERR_TOO_LARGE, "the node's outputs are too large");
        step_failed(step, &err);
        return;
    }
    if (step->plan->operations->recorded && !journal_result(step, outputs, port, NULL))
        return; /* goes on when the result is durable */
    step_close(step, outputs, NODE_DONE);
    step_leave(step, port);
}

void journal_result_durable(struct step *step, struct value *outputs, struct str port,
                            const struct err *err)
{
    if (!err) {
        step_close(step, outputs, NODE_DONE);
        step_leave(step, port);
        return;
    }
    run_fail(step->run, err, step->plan->id);
}

void step_replayed(struct step *step, struct value *outputs, struct str port)
{
    step_close(step, outputs, NODE_DONE);
    step_leave(step, port);
}

static struct value *error_value(struct run *run, const struct err *err, struct value *base)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *value;
    maker_init(&maker, &run->loop->scratch);
    maker_object(&maker);
    yyjson_obj_foreach(value_json(base), i, n, key, value)
    {
        maker_key(&maker, str_make(yyjson_get_str(key), yyjson_get_len(key)));
        maker_tree(&maker, value);
    }
    maker_key(&maker, STR("error_code"));
    maker_text(&maker, str_from(err_code_name(err->code)));
    maker_key(&maker, STR("error_message"));
    maker_text(&maker, str_from(err->message));
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    if (!run->pumping)
        arena_reset(&run->loop->scratch);
    return out;
}

static bool may_retry(const struct step *step, const struct err *err)
{
    return step->attempt < step->plan->document->retry_max && err->code != ERR_BUDGET &&
           err->code != ERR_CANCELLED;
}

static void step_begin(struct step *step);

static void on_step_timer(struct timer *timer)
{
    struct step *step = CONTAINER_OF(timer, struct step, timer);
    struct run *run = step->run;
    if (step->retrying) {
        step->retrying = false;
        step->attempt++;
        list_remove(&step->node);
        list_push_back(&run->ready, &step->node);
        run_pump(run);
        return;
    }
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "the node took longer than %lld ms",
            (long long)step->plan->document->timeout_ms);
    if (step->plan->operations->cancel)
        step->plan->operations->cancel(step);
    journal_forget_step(step); /* an intent may be on its way */
    step_failed(step, &err);
}

void step_failed(struct step *step, const struct err *problem)
{
    struct run *run = step->run;
    struct err err = *problem; /* it may lie in what is freed below */
    const struct document_node *document = step->plan->document;
    timer_stop(&step->timer);
    step->work = NULL;
    step->begun = false;
    step->partial = STR_EMPTY;
    if (run->finishing)
        return;
    if (may_retry(step, &err)) {
        step->retrying = true;
        timer_start(run->loop->loop, &step->timer, document->retry_interval_ms * NS_PER_MS);
        return;
    }
    if (step->plan->operations->recorded)
        (void)journal_result(step, NULL, STR_EMPTY, &err);
    struct value *base = document->on_error == ON_ERROR_DEFAULT ? step->plan->default_value : NULL;
    step_close(step, error_value(run, &err, base), NODE_FAILED);
    if (document->on_error != ON_ERROR_STOP) {
        frame_slot(step->frame, step->plan)->handled = true;
        step_leave(step, document->on_error == ON_ERROR_DEFAULT ? STR("out") : STR("error"));
        return;
    }
    struct frame *frame = step->frame;
    struct str id = step->plan->id;
    run_tell_node(step, "node_finished");
    frame->active--;
    step_free(step);
    if (frame->owner) {
        frame_end(run, frame, &err);
        if (!run->pumping && !run->finishing)
            run_pump(run);
    } else {
        run_fail(run, &err, id);
    }
}

/* ---- beginning steps ---- */

static void step_begin(struct step *step)
{
    struct run *run = step->run;
    struct node_slot *slot = frame_slot(step->frame, step->plan);
    list_remove(&step->node);
    list_push_back(&run->steps, &step->node);
    if (!step->counted && !step->plan->operations->frame_ended) {
        step->counted = true;
        run->busy++;
    }
    if (++run->steps_taken > run->steps_max) {
        struct err err = {0};
        err_set(&err, ERR_RATE_LIMIT, "the run took more than %u steps", run->steps_max);
        run_fail(run, &err, step->plan->id);
        return;
    }
    step->started_ns = loop_now_ns(run->loop->loop);
    slot->state = NODE_RUNNING;
    slot->started_ms = (uint32_t)((step->started_ns - run->started_ns) / NS_PER_MS);
    run_tell_node(step, "node_started");
    if (run->replay && journal_replay(step))
        return;
    if (run->offline && (step->plan->operations->recorded || step->plan->kind == NODE_PIPELINE)) {
        struct err err = {0};
        err_set(&err, ERR_NOT_FOUND, "the recording has no answer for the node '%.*s'",
                STR_ARG(step->plan->id));
        run_fail(run, &err, step->plan->id);
        return;
    }
    if (step->plan->document->timeout_ms)
        timer_start(run->loop->loop, &step->timer, step->plan->document->timeout_ms * NS_PER_MS);
    step->begun = true;
    step->plan->operations->run(step);
}

static void pump_later(struct task *task)
{
    struct run *run = CONTAINER_OF(task, struct run, pump_task);
    run->pump_posted = false;
    if (run->abandoned || run->ended)
        run_release(run);
    else if (!run->finishing)
        run_pump(run);
}

/* Time counts while somebody works: not while only people or inputs are waited for. */
static void watch_deadline(struct run *run)
{
    uint32_t under_way = 0;
    LIST_FOR_EACH (step, &run->steps, struct step, node)
        under_way += !step->plan->operations->frame_ended;
    bool waiting = run->waits > 0 && run->waits >= under_way;
    run->status = waiting ? RUN_WAITING : RUN_RUNNING;
    gate_pause(run->loop->all->gate, run, waiting);
    if (waiting)
        timer_stop(&run->deadline);
    else if (!timer_armed(&run->deadline))
        timer_start(run->loop->loop, &run->deadline,
                    MAX(run->deadline_ns - run->started_ns, NS_PER_MS));
}

/* The first that may begin: containers hold no place of the run's limit, their insides do. */
static struct step *next_ready(struct run *run)
{
    int64_t most = run->flow.plan->document->parallel_max;
    if (!most || run->busy < most)
        return LIST_FIRST(&run->ready, struct step, node);
    LIST_FOR_EACH (step, &run->ready, struct step, node)
        if (step->plan->operations->frame_ended || step->counted)
            return step;
    return NULL;
}

void run_pump(struct run *run)
{
    CHECK_MAGIC(run, RUN_MAGIC);
    if (run->pumping)
        return;
    run->pumping = true;
    struct step *step;
    for (int i = 0; i < RUN_PUMP_STEPS && !run->finishing && (step = next_ready(run)); i++) {
        step_begin(step);
        arena_reset(&run->loop->scratch);
    }
    run->pumping = false;
    arena_reset(&run->loop->scratch);
    if (run->finishing)
        return;
    if (next_ready(run) && !run->pump_posted) {
        run->pump_posted = true;
        run->pump_task.run = pump_later;
        loop_defer(run->loop->loop, &run->pump_task);
    }
    if (run->waits)
        watch_deadline(run);
}

/* ---- the end of a run ---- */

void run_release(struct run *run)
{
    LIST_FOR_EACH_SAFE (frame, &run->frames, struct frame, node) {
        list_remove(&frame->node);
        frame_free(frame);
    }
    LIST_FOR_EACH_SAFE (frame, &run->kept, struct frame, node) {
        list_remove(&frame->node);
        frame_free(frame);
    }
    flow_clear(&run->flow);
    value_unref(run->inputs);
    value_unref(run->start);
    value_unref(run->values);
    value_unref(run->said);
    gate_leave(run->loop->all->gate, run);
    session_forget(run);
    journal_forget_run(run);
    run_events_close(run);
    free(run->answers);
    free(run->answer_queue);
    free(run->texts);
    free(run->err);
    run_index_remove_waits(run->loop->all->index, run->id, STR_EMPTY);
    map_remove(&run->loop->by_id, str_make(run->id.bytes, sizeof(run->id.bytes)));
    list_remove(&run->node);
    run->magic = 0;
    free(run);
}

void run_abandon(struct run *run)
{
    if (!run->finishing) {
        run->finishing = true;
        timer_stop(&run->deadline);
        drop_steps(run, NULL);
    }
    if (run->ended)
        return; /* its task is under way and frees it */
    run->abandoned = true;
    if (!run->pump_posted)
        run_release(run); /* else that task does */
}

void run_hand_over(struct run *run)
{
    run->finishing = true;
    run->status = RUN_FAILED;
    run->ended_ns = loop_now_ns(run->loop->loop);
    run->err = xcalloc(1, sizeof(*run->err));
    err_set(run->err, ERR_OVERLOADED,
            "the server is being upgraded; the run goes on: ask for it by its id");
    timer_stop(&run->deadline);
    drop_steps(run, NULL);
    run_ended(run);
}

static void free_later(struct task *task)
{
    struct run *run = CONTAINER_OF(task, struct run, free_task);
    if (!run->pump_posted)
        run_release(run); /* else that task does */
}

void run_ended(struct run *run)
{
    ASSERT(!run->ended);
    run->ended = true;
    run_tell_end(run);
    if (run->owner.ended)
        run->owner.ended(run->owner.arg, run);
    run->owner = (struct run_owner){0};
    run->free_task.run = free_later;
    loop_defer(run->loop->loop, &run->free_task);
}

static void run_close(struct run *run);

static void run_finish(struct run *run, enum run_status status)
{
    if (run->finishing)
        return;
    run->finishing = true;
    run->status = status;
    run->ended_ns = loop_now_ns(run->loop->loop);
    timer_stop(&run->deadline);
    drop_steps(run, NULL);
    gate_leave(run->loop->all->gate, run);
    if (session_leave(run, status == RUN_SUCCEEDED))
        run_close(run); /* else when what it leaves is durable */
}

static void run_close(struct run *run)
{
    run_start_on_failure(run);
    bool ended = journal_end(run);
    session_forget(run);
    if (ended)
        run_ended(run); /* else when its end is durable */
}

void session_stored(struct run *run, const struct err *failed)
{
    if (failed) { /* nobody must be told that it succeeded */
        run->status = RUN_FAILED;
        run->err = xmalloc(sizeof(*run->err));
        *run->err = *failed;
    }
    run_close(run);
}

void run_fail(struct run *run, const struct err *err, struct str node)
{
    if (run->finishing)
        return;
    run->err = xmalloc(sizeof(*run->err));
    *run->err = *err;
    snprintf(run->failed_node, sizeof(run->failed_node), "%.*s", STR_ARG(node));
    run_finish(run, err->code == ERR_CANCELLED ? RUN_CANCELLED : RUN_FAILED);
}

void run_cancel(struct run *run, const char *why)
{
    struct err err = {0};
    err_set(&err, ERR_CANCELLED, "%s", why);
    run_fail(run, &err, STR_EMPTY);
}

void run_resume(struct run *run)
{
    LIST_FOR_EACH (step, &run->steps, struct step, node) {
        if (!step->paused)
            continue;
        step->paused = false;
        if (step->work && step->plan->operations->resume)
            step->plan->operations->resume(step);
    }
}

void run_forget_owner(struct run *run) { run->owner = (struct run_owner){0}; }

void run_count_call(struct run *run, const struct call_record *record)
{
    struct err err = {0};
    run->input_tokens += usage_input_total(&record->usage);
    run->output_tokens += usage_output_total(&record->usage);
    if (record->cost_pico != COST_UNKNOWN)
        run->spent_pico += record->cost_pico;
    if (run->budget_pico == COST_UNKNOWN || run->spent_pico <= run->budget_pico)
        return;
    err_set(&err, ERR_BUDGET, "the run has spent its budget");
    run_fail(run, &err, STR_EMPTY);
}

/* ---- asking ---- */

struct id run_id(const struct run *run) { return run->id; }
enum run_status run_status(const struct run *run) { return run->status; }
const struct err *run_error(const struct run *run) { return run->err; }
struct str run_failed_node(const struct run *run) { return str_from(run->failed_node); }
struct str run_text(const struct run *run) { return buf_str(&run->flow.text); }
yyjson_val *run_outputs(const struct run *run) { return value_json(run->flow.outputs); }
yyjson_val *run_citations(const struct run *run) { return value_json(run->flow.citations); }
uint64_t run_input_tokens(const struct run *run) { return run->input_tokens; }
uint64_t run_output_tokens(const struct run *run) { return run->output_tokens; }

const char *run_trigger(struct str name)
{
    static const char *const names[] = {"api", "model", "draft", "hook", "webhook", "schedule",
                                        "mcp", "retry", "fork",  "node", "failure", "tool"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(name, str_from(names[i])))
            return names[i];
    return "api";
}

static const char *const status_names[] = {
    [RUN_RUNNING] = "running", [RUN_WAITING] = "waiting",     [RUN_SUCCEEDED] = "succeeded",
    [RUN_FAILED] = "failed",   [RUN_CANCELLED] = "cancelled", [RUN_QUEUED] = "queued",
};

const char *run_status_name(enum run_status status)
{
    ASSERT((size_t)status < COUNT_OF(status_names));
    return status_names[status];
}

enum rc run_status_parse(struct str name, enum run_status *out)
{
    for (size_t i = 0; i < COUNT_OF(status_names); i++)
        if (str_eq(name, str_from(status_names[i]))) {
            *out = (enum run_status)i;
            return RC_OK;
        }
    return RC_INVALID;
}

void step_path(const struct frame *frame, const struct plan_node *node, struct buf *out)
{
    if (frame->owner) {
        step_path(frame->parent, frame->owner->plan, out);
        (void)!buf_printf(out, "#%u/", frame->index);
    }
    (void)!buf_append(out, node->id);
}
