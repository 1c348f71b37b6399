/* See replay.h. A world of one loop for each recording: engine, no journal, no gateway. */
#include "pipeline/engine/replay.h"
#include "base/clock.h"
#include "base/buf.h"
#include "io/loop.h"
#include "pipeline/engine/operations.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/engine/recording.h"
#include "text/json_tree.h"

#define RESULT_BYTES_MAX (32 * 1024 * 1024)

struct replaying {
    struct loop *loop;
    struct arena *arena;
    struct str result; /* empty until it has ended, or too large */
};

static void on_ended(void *arg, const struct run *run)
{
    struct replaying *replaying = arg;
    struct buf out;
    buf_init(&out, RESULT_BYTES_MAX);
    run_encode_result(run, &out);
    replaying->result = arena_copy(replaying->arena, buf_str(&out));
    buf_fini(&out);
    loop_stop(replaying->loop);
}

static void stop_here(struct task *task)
{
    UNUSED(task);
    loop_stop(loop_current());
}

/* Runs what was posted. */
static void settle(struct loop *loop)
{
    struct task last = {.run = stop_here};
    loop_post(loop, &last);
    loop_run(loop);
}

static enum rc run_once(struct pipeline_loop *loop, struct plan *plan, yyjson_val *recording,
                        struct replaying *replaying, struct err *err)
{
    const struct recording_options options = {.replay = true};
    const struct principal principal = {.project = {{1}}, .name = STR("replay")};
    yyjson_val *inputs = yyjson_obj_get(recording, "inputs");
    struct run_request request = {
        .plan = plan,
        .pipeline = STR("replay"),
        .trigger = "draft",
        .principal = &principal,
        .query = json_get_text(inputs, "query"),
        .inputs = inputs,
        .budget_pico = COST_UNKNOWN,
        .offline = true,
        .owner = {.ended = on_ended, .arg = replaying},
    };
    if (recording_read(plan, recording, &options, &request.replay, err) != RC_OK)
        return err->rc;
    if (!run_start(loop, &request, err)) {
        recording_free(request.replay);
        return err->rc;
    }
    loop_run(replaying->loop);
    return RC_OK;
}

static enum rc run_in_world(struct plan *plan, yyjson_val *recording, struct arena *arena,
                            struct str *result, struct err *err)
{
    struct replaying replaying = {.loop = loop_new(0), .arena = arena};
    const struct pipelines_options options = {.no_threads = true};
    struct pipelines *pipelines;
    enum rc rc = pipelines_open(&options, &pipelines, err);
    if (rc == RC_OK) {
        struct pipeline_loop *loop = pipeline_loop_new(pipelines, replaying.loop, NULL, NULL);
        rc = run_once(loop, plan, recording, &replaying, err);
        pipelines_settle(pipelines);
        settle(replaying.loop);
        pipeline_loop_free(loop);
        settle(replaying.loop);
        pipelines_close(pipelines);
    }
    loop_free(replaying.loop);
    *result = replaying.result;
    return rc == RC_OK && !result->p
               ? err_set(err, ERR_TOO_LARGE, "the run's result is too large to be compared")
               : rc;
}

static void tell(struct replay_result *out, struct arena *arena, const char *what, struct str then,
                 struct str now)
{
    out->same = false;
    out->about = arena_printf(arena, "%.*s%s\n  recorded: %.*s\n  now:      %.*s\n",
                              STR_ARG(out->about), what, STR_ARG(then), STR_ARG(now));
}

static void compare(yyjson_val *recording, struct arena *arena, struct replay_result *out)
{
    struct str status = json_get_text(recording, "status"), now = json_get_text(out->got, "status"),
               text = json_get_text(recording, "text");
    yyjson_val *outputs = yyjson_obj_get(recording, "outputs"),
               *got = yyjson_obj_get(out->got, "outputs"), *error;
    if (!status.n)
        status = STR("succeeded");
    if (!str_eq(status, now)) {
        error = yyjson_obj_get(out->got, "error");
        tell(out, arena, "status", status,
             arena_printf(arena, "%.*s %.*s: %.*s", STR_ARG(now),
                          STR_ARG(json_get_text(error, "node")),
                          STR_ARG(json_get_text(error, "message"))));
    }
    if (!str_eq(text, json_get_text(out->got, "text")))
        tell(out, arena, "answer", text, json_get_text(out->got, "text"));
    bool empty = yyjson_obj_size(outputs) == 0 && yyjson_obj_size(got) == 0;
    if (!empty && !yyjson_equals(outputs, got))
        tell(out, arena, "outputs", outputs ? json_write(outputs, arena) : STR("{}"),
             json_write(got, arena));
}

enum rc replay_recording(struct str definition, yyjson_val *recording, struct arena *arena,
                         struct replay_result *out, struct err *err)
{
    struct plan *plan;
    struct str result;
    yyjson_doc *doc;
    *out = (struct replay_result){.same = true, .about = STR("")};
    enum rc rc = plan_compile(definition, &plan, err);
    if (rc != RC_OK)
        return rc;
    rc = run_in_world(plan, recording, arena, &result, err);
    plan_unref(plan);
    if (rc == RC_OK)
        rc = json_read(result, arena, &doc, err);
    if (rc != RC_OK)
        return rc;
    out->got = yyjson_doc_get_root(doc);
    compare(recording, arena, out);
    return RC_OK;
}

/* What cannot be computed again from the inputs. */
static bool is_from_outside(yyjson_val *node)
{
    const struct node_type *type = node_type_find(json_get_text(node, "type"));
    const struct node_operations *operations = type ? node_operations(type->kind) : NULL;
    bool ended = str_eq(json_get_text(node, "status"), STR("done")) ||
                 str_eq(json_get_text(node, "status"), STR("failed"));
    return ended && operations && (operations->recorded || type->kind == NODE_PIPELINE);
}

yyjson_val *replay_record(yyjson_val *run, struct str name, struct arena *arena)
{
    static const char *const kept[] = {"path", "status", "port", "outputs"};
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    size_t i, n;
    yyjson_val *node, *value;
    json_set_text(doc, root, "name", name);
    static const char *const members[] = {"inputs", "status", "text", "outputs"};
    for (size_t k = 0; k < COUNT_OF(members); k++)
        if ((value = yyjson_obj_get(run, members[k])))
            yyjson_mut_obj_add_val(doc, root, members[k], yyjson_val_mut_copy(doc, value));
    yyjson_mut_val *nodes = yyjson_mut_obj_add_arr(doc, root, "nodes");
    yyjson_arr_foreach(yyjson_obj_get(run, "nodes"), i, n, node)
    {
        if (!is_from_outside(node))
            continue;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(doc, nodes);
        for (size_t k = 0; k < COUNT_OF(kept); k++)
            if ((value = yyjson_obj_get(node, kept[k])))
                yyjson_mut_obj_add_val(doc, o, kept[k], yyjson_val_mut_copy(doc, value));
    }
    yyjson_doc *frozen = root ? json_freeze(root, arena) : NULL;
    return yyjson_doc_get_root(frozen);
}
