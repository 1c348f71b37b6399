/* Nodes that wait for somebody: human input, and wait (for time or an input). What they wait for is
 * in the journal, so that it is still waited for after a restart; who answers names run and step.
 */
#include "base/clock.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_private.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <stdio.h>
#include <stdlib.h>

#define DETAIL_BYTES_MAX (256 * 1024)

struct wait_work {
    struct timer timer;
    struct step *step;
    int64_t due_wall_ns;  /* 0: open end */
    struct value *detail; /* human: what is shown */
    bool listed;
};

struct human_config {
    struct plan_text text;
    yyjson_val *json;
    int64_t timeout_ms;
};

/* ---- what both share ---- */

static void finish(struct step *step, struct value *outputs, struct str port)
{
    struct wait_work *work = step->work;
    struct run *run = step->run;
    struct buf path;
    timer_stop(&work->timer);
    if (work->listed) {
        buf_init(&path, 8192);
        step_path(step->frame, step->plan, &path);
        run_index_remove_waits(run->loop->all->index, run->id, buf_str(&path));
        buf_fini(&path);
        run->waits--;
        run_index_set_status(run->loop->all->index, run->id, RUN_RUNNING);
    }
    value_unref(work->detail);
    free(work);
    step->work = NULL;
    if (outputs)
        step_done(step, outputs, port);
}

static void wait_cancel(struct step *step)
{
    if (step->work)
        finish(step, NULL, STR_EMPTY);
}

static struct value *empty_object(struct arena *scratch)
{
    struct maker maker;
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_end(&maker);
    return maker_pack(&maker);
}

static void on_due(struct timer *timer)
{
    struct step *step = CONTAINER_OF(timer, struct wait_work, timer)->step;
    struct run *run = step->run;
    bool time = step->plan->kind == NODE_WAIT &&
                str_eq(json_get_text(step->plan->document->config, "mode"), STR("time"));
    finish(step, empty_object(&run->loop->scratch), time ? STR("out") : STR("timeout"));
    if (!run->finishing)
        run_pump(run);
}

static struct wait_work *work_new(struct step *step, int64_t timeout_ms)
{
    struct wait_work *work = step->work = xcalloc(1, sizeof(*work));
    int64_t now = loop_wall_ns(step->run->loop->loop);
    int64_t known = json_get_int(yyjson_obj_get(value_json(step->record), "wait"), "due_ns", -1);
    work->step = step;
    timer_init(&work->timer, on_due);
    work->due_wall_ns = known >= 0 ? known : timeout_ms ? now + timeout_ms * NS_PER_MS : 0;
    if (work->due_wall_ns)
        timer_start(step->run->loop->loop, &work->timer, MAX(work->due_wall_ns - now, NS_PER_MS));
    return work;
}

/* Into the inbox and the journal. */
static void list_wait(struct step *step, const char *kind, struct str detail)
{
    struct wait_work *work = step->work;
    struct run *run = step->run;
    char note[64];
    struct buf path;
    buf_init(&path, 8192);
    step_path(step->frame, step->plan, &path);
    run_index_add_wait(run->loop->all->index,
                       &(struct run_index_wait){.run = run->id,
                                                .project = run->principal.project,
                                                .pipeline = run->pipeline,
                                                .path = buf_str(&path),
                                                .kind = str_from(kind),
                                                .detail = detail,
                                                .since_ns = loop_wall_ns(run->loop->loop),
                                                .due_ns = work->due_wall_ns});
    buf_fini(&path);
    work->listed = true;
    run->waits++;
    run_index_set_status(run->loop->all->index, run->id, RUN_WAITING);
    if (!step->record) {
        int n = snprintf(note, sizeof(note), "{\"due_ns\":%lld}", (long long)work->due_wall_ns);
        journal_note_wait(step, str_make(note, (size_t)n));
    }
    run_tell_node(step, "node_waiting");
}

/* A wait that the journal does not know would be lost with the process. */
static bool check_recorded(struct step *step)
{
    struct err err = {0};
    if (step->run->recorded || !step->run->loop->all->journal)
        return true;
    err_set(&err, ERR_INVALID,
            "a pipeline that waits for somebody needs the journal mode async or sync");
    step_failed(step, &err);
    return false;
}

/* ---- human input ---- */

static enum rc human_compile(struct plan_build *build, struct err *err)
{
    struct human_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct human_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->json = build->node->document->config;
    config->timeout_ms = json_get_int(config->json, "timeout_ms", 0);
    return plan_text_compile(build, json_get_text(config->json, "text"), &config->text, err);
}

static void human_run(struct step *step)
{
    const struct human_config *config = step->plan->config;
    struct err err = {0};
    struct buf text, detail;
    if (!check_recorded(step))
        return;
    buf_init(&text, DETAIL_BYTES_MAX);
    buf_init(&detail, 2 * DETAIL_BYTES_MAX);
    if (run_render(step->frame, &config->text, &step->run->loop->scratch, &text, &err) == RC_OK) {
        struct json_writer w = json_writer_to(&detail);
        json_begin_object(&w);
        json_put_string(&w, "node", step->plan->id);
        json_put_string(&w, "title", step->plan->document->title);
        json_put_string(&w, "text", buf_str(&text));
        json_put_value(&w, "fields", yyjson_obj_get(config->json, "fields"));
        json_put_value(&w, "actions", yyjson_obj_get(config->json, "actions"));
        json_end_object(&w);
        work_new(step, config->timeout_ms);
        list_wait(step, "human", w.rc == RC_OK ? buf_str(&detail) : STR("{}"));
    }
    buf_fini(&text);
    buf_fini(&detail);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
}

static struct str find_action(const struct step *step, struct str id)
{
    const struct human_config *config = step->plan->config;
    size_t i, n;
    yyjson_val *action;
    yyjson_arr_foreach(
        yyjson_obj_get(config->json, "actions"), i, n,
        action) if (str_eq(json_get_text(action, "id"), id)) return json_get_text(action, "id");
    return STR_EMPTY;
}

static enum rc answer_human(struct step *step, yyjson_val *answer, struct str by, struct err *err)
{
    const struct human_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct str action = find_action(step, json_get_text(answer, "action"));
    yyjson_val *values = yyjson_obj_get(answer, "values"), *field;
    struct maker maker;
    size_t i, n;
    if (!action.n)
        return err_set_field(err, ERR_BAD_FIELD, "action", "The form has no such action.");
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_key(&maker, STR("action"));
    maker_text(&maker, action);
    maker_key(&maker, STR("by"));
    maker_text(&maker, by);
    yyjson_arr_foreach(yyjson_obj_get(config->json, "fields"), i, n, field)
    {
        struct str name = json_get_text(field, "name");
        enum rc rc = input_put(&maker, field, yyjson_obj_getn(values, name.p, name.n), err);
        if (rc != RC_OK)
            return rc;
    }
    maker_end(&maker);
    struct value *outputs = maker_pack(&maker);
    if (!outputs)
        return err_set(err, ERR_TOO_LARGE, "The answer is too large.");
    finish(step, outputs, action);
    return RC_OK;
}

const struct node_operations human_operations = {
    .compile = human_compile, .run = human_run, .cancel = wait_cancel, .recorded = true};

/* ---- wait ---- */

static void wait_run(struct step *step)
{
    yyjson_val *json = step->plan->document->config;
    bool time = str_eq(json_get_text(json, "mode"), STR("time"));
    if (!check_recorded(step))
        return;
    work_new(step, json_get_int(json, "duration_ms", time ? 1 : 0));
    list_wait(step, time ? "time" : "input", STR("{}"));
}

static enum rc answer_input(struct step *step, yyjson_val *body, struct err *err)
{
    struct maker maker;
    if (str_eq(json_get_text(step->plan->document->config, "mode"), STR("time")))
        return err_set(err, ERR_CONFLICT, "This node waits for time, not for a call.");
    maker_init(&maker, &step->run->loop->scratch);
    maker_object(&maker);
    maker_key(&maker, STR("body"));
    maker_tree(&maker, body);
    maker_end(&maker);
    struct value *outputs = maker_pack(&maker);
    if (!outputs)
        return err_set(err, ERR_TOO_LARGE, "The body is too large.");
    finish(step, outputs, STR("out"));
    return RC_OK;
}

const struct node_operations wait_operations = {
    .run = wait_run, .cancel = wait_cancel, .recorded = true};

/* ---- answering ---- */

enum rc run_answer_wait(struct run *run, struct str path, yyjson_val *answer, struct str by,
                        struct err *err)
{
    LIST_FOR_EACH (step, &run->steps, struct step, node) {
        struct buf at;
        bool waits =
            step->work && (step->plan->kind == NODE_HUMAN || step->plan->kind == NODE_WAIT);
        if (!waits)
            continue;
        buf_init(&at, 8192);
        step_path(step->frame, step->plan, &at);
        bool found = str_eq(buf_str(&at), path) || (!path.n && run->waits == 1);
        buf_fini(&at);
        if (!found)
            continue;
        enum rc rc = step->plan->kind == NODE_HUMAN ? answer_human(step, answer, by, err)
                                                    : answer_input(step, answer, err);
        if (!run->finishing)
            run_pump(run);
        arena_reset(&run->loop->scratch);
        return rc;
    }
    return err_set(err, ERR_CONFLICT, "The run does not wait there (any more, or not yet).");
}
