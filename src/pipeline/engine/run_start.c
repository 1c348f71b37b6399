/* The start of a run: what it is made from, its place at the gate, its turn in its session, and the
 * one node of a run that is of one node only. See run_private.h. */
#include "pipeline/engine/run_private.h"
#include "base/clock.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_index.h"
#include "text/json.h"
#include <stdlib.h>
#include <string.h>

static struct value *make_sys(struct run *run, const struct run_request *request)
{
    char id[ID_TEXT_BYTES_MAX], iso[CLOCK_ISO_BYTES_MAX];
    struct maker maker;
    size_t n = id_format(run->id, "run", id);
    maker_init(&maker, &run->loop->scratch);
    maker_object(&maker);
    const struct {
        const char *name;
        struct str value;
    } texts[] = {
        {"run_id", str_make(id, n)},
        {"pipeline", run->pipeline},
        {"user", run->user},
        {"session", run->session},
        {"query", request->query},
        {"started_at", str_make(iso, clock_format_iso(run->started_wall_ns, 3, iso))},
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        maker_key(&maker, str_from(texts[i].name));
        maker_text(&maker, texts[i].value);
    }
    maker_key(&maker, STR("version"));
    maker_int(&maker, run->version);
    maker_key(&maker, STR("messages"));
    maker_tree(&maker, request->messages);
    maker_end(&maker);
    return maker_pack(&maker);
}

static void keep_texts(struct run *run, const struct run_request *request)
{
    const struct str from[] = {request->pipeline, request->session, request->user,
                               request->principal->name};
    struct str *to[] = {&run->pipeline, &run->session, &run->user, &run->principal.name};
    size_t bytes = 0;
    for (size_t i = 0; i < COUNT_OF(from); i++)
        bytes += from[i].n;
    char *at = run->texts = xmalloc(bytes + 1);
    for (size_t i = 0; i < COUNT_OF(from); i++) {
        if (from[i].n)
            memcpy(at, from[i].p, from[i].n);
        *to[i] = str_make(at, from[i].n);
        at += from[i].n;
    }
}

static int64_t time_max_ns(const struct plan *plan)
{
    int64_t ms = plan->document->time_ms_max;
    return ms ? ms * NS_PER_MS : RUN_TIME_NS_MAX;
}

static void on_deadline(struct timer *timer)
{
    struct run *run = CONTAINER_OF(timer, struct run, deadline);
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "the run took longer than its time limit");
    run_fail(run, &err, STR_EMPTY);
}

/* Everything but its identity, which a run that is taken up again has already. */
static struct run *run_new(struct pipeline_loop *loop, const struct run_request *request)
{
    struct run *run = xcalloc(1, sizeof(*run));
    struct plan *plan = request->plan;
    run->magic = RUN_MAGIC;
    run->loop = loop;
    run->flow.plan = plan_ref(plan);
    run->flow.conversation = value_ref(plan->conversation);
    buf_init(&run->flow.text, RUN_TEXT_BYTES_MAX);
    list_init(&run->steps);
    list_init(&run->ready);
    list_init(&run->frames);
    list_init(&run->kept);
    list_push_back(&loop->runs, &run->node);
    run->owner = request->owner;
    run->principal = *request->principal;
    if (request->key)
        memcpy(run->key_digest, request->key->secret_sha256, sizeof(run->key_digest));
    keep_texts(run, request);
    run->trigger = request->trigger;
    run->version = request->version;
    run->trace = request->trace;
    run->inside = request->inside;
    run->recorded = request->recorded;
    run->origin = request->origin;
    run->offline = request->offline;
    run->started_ns = loop_now_ns(loop->loop);
    run->started_wall_ns = loop_wall_ns(loop->loop);
    run->deadline_ns = run->started_ns + time_max_ns(plan);
    if (request->deadline_ns)
        run->deadline_ns = MIN(run->deadline_ns, request->deadline_ns);
    run->budget_pico = plan->document->cost_pico_max;
    if (request->budget_pico != COST_UNKNOWN &&
        (run->budget_pico == COST_UNKNOWN || request->budget_pico < run->budget_pico))
        run->budget_pico = request->budget_pico;
    run->steps_max =
        plan->document->steps_max ? (uint32_t)plan->document->steps_max : RUN_STEPS_MAX;
    timer_init(&run->deadline, on_deadline);
    return run;
}

static void begin_later(struct task *task)
{
    struct run *run = CONTAINER_OF(task, struct run, pump_task);
    run->pump_posted = false;
    if (run->abandoned || run->ended) {
        run_release(run);
        return;
    }
    if (run->finishing)
        return;
    if (run->taken_up || journal_start(run))
        run_begin(run);
}

/* The frame around the one node, and those around that: nothing runs in them, and what the node
 * reads of others is what was given. */
static struct frame *pinned_frame(struct run *run, size_t level)
{
    const struct plan *plan = run->flow.plan;
    const struct plan_level *of = &plan->levels[level];
    struct frame *parent = NULL;
    yyjson_val *values = value_json(run->values), *around = NULL;
    if (level) {
        const struct plan_node *container = &plan->nodes[of->container];
        parent = pinned_frame(run, container->level);
        around = yyjson_obj_getn(values, container->id.p, container->id.n);
    }
    yyjson_val *item = yyjson_obj_get(around, "item");
    struct frame *frame =
        frame_new(NULL, &run->flow, level, (uint32_t)json_get_int(around, "index", 0));
    frame->parent = parent;
    frame->item = item ? value_new(item) : NULL;
    frame->vars = around && plan->nodes[of->container].kind == NODE_LOOP ? value_new(around) : NULL;
    frame->path = parent ? strdup("") : NULL;
    for (size_t i = 0; i < of->node_count; i++) {
        const struct plan_node *node = &plan->nodes[of->nodes[i]];
        yyjson_val *outputs = yyjson_obj_getn(values, node->id.p, node->id.n);
        if (node == run->only || (!outputs && node->kind != NODE_START))
            continue;
        frame->slots[i].out = node->kind == NODE_START ? value_ref(run->start) : value_new(outputs);
        frame->slots[i].state = NODE_DONE;
        frame->slots[i].duration_us = 0;
    }
    return frame;
}

static void begin_only(struct run *run)
{
    node_make_ready(pinned_frame(run, run->only->level), run->only);
}

static void set_status(struct run *run, enum run_status status)
{
    run->status = status;
    run_index_set_status(run->loop->all->index, run->id, status);
}

static void enter(struct run *run);

/* When its start is as durable as it must be. */
void run_begin(struct run *run)
{
    if (run->finishing)
        return;
    if (run->owner.begun)
        run->owner.begun(run->owner.arg, run);
    timer_start(run->loop->loop, &run->deadline, run->deadline_ns - run->started_ns);
    run_tell_start(run);
    if (!run->only) {
        enter(run);
        return;
    }
    begin_only(run);
    run_pump(run);
}

/* With a place and, in a session, its turn. */
void run_has_turn(struct run *run)
{
    if (run->status == RUN_QUEUED)
        set_status(run, RUN_RUNNING);
    frame_begin(NULL, &run->flow, 0, 0, NULL, NULL);
    answers_begin(run);
    run_pump(run);
}

static void go_or_wait(struct run *run, enum rc rc, const struct err *err)
{
    if (rc == RC_AGAIN)
        set_status(run, RUN_QUEUED);
    else if (rc != RC_OK)
        run_fail(run, err, STR_EMPTY);
}

void run_admitted(struct run *run)
{
    struct err err = {0};
    enum rc rc = session_enter(run, &err);
    if (rc == RC_OK)
        run_has_turn(run);
    else
        go_or_wait(run, rc, &err);
}

static void enter(struct run *run)
{
    struct err err = {0};
    enum rc rc = gate_enter(run->loop->all->gate, run, &err);
    if (rc == RC_OK)
        run_admitted(run);
    else
        go_or_wait(run, rc, &err);
}

static void begin_soon(struct run *run)
{
    map_put(&run->loop->by_id, str_make(run->id.bytes, sizeof(run->id.bytes)), run);
    run->pump_posted = true;
    run->pump_task.run = begin_later;
    loop_defer(run->loop->loop, &run->pump_task);
}

static const yyjson_val empty_object = {.tag = YYJSON_TYPE_OBJ};

struct run *run_start(struct pipeline_loop *loop, const struct run_request *request,
                      struct err *err)
{
    if (loop->by_id.count >= PIPELINE_RUNS_MAX) {
        err_set(err, ERR_OVERLOADED, "%d runs are under way on this server: try again later",
                PIPELINE_RUNS_MAX);
        return NULL;
    }
    if (gate_check(loop->all->gate, request, err) != RC_OK)
        return NULL;
    size_t only = request->only.n ? plan_find_node(request->plan, request->only) : NO_NODE;
    if (request->only.n && (only == NO_NODE || !request->plan->nodes[only].operations)) {
        err_set_field(err, ERR_NOT_FOUND, "node", "The pipeline has no node '%.*s' that runs.",
                      STR_ARG(request->only));
        return NULL;
    }
    struct value *start =
        only == NO_NODE
            ? flow_read_inputs(request->plan, request->inputs, request->query, &loop->scratch, err)
            : value_new(yyjson_is_obj(request->inputs) ? request->inputs : &empty_object);
    arena_reset(&loop->scratch);
    if (!start)
        return NULL;
    struct run *run = run_new(loop, request);
    run->id = id_is_zero(request->id) ? id_new() : request->id;
    run->start = start;
    run->inputs = value_ref(start);
    run->flow.sys = make_sys(run, request);
    run->replay = request->replay;
    if (only != NO_NODE) {
        run->only = &run->flow.plan->nodes[only];
        run->values = request->values ? value_new(request->values) : NULL;
    }
    arena_reset(&loop->scratch);
    begin_soon(run);
    return run;
}

struct run *run_take_up(struct pipeline_loop *loop, const struct run_request *request,
                        const struct run_identity *identity, struct map *replay)
{
    struct run *run = run_new(loop, request);
    run->id = identity->id;
    run->started_wall_ns = identity->started_wall_ns;
    run->start = value_ref(identity->start);
    run->inputs = value_ref(identity->start);
    run->flow.sys = make_sys(run, request);
    arena_reset(&loop->scratch);
    run->recorded = true;
    run->taken_up = true;
    run->replay = replay;
    begin_soon(run);
    return run;
}
