/* See launch.h. */
#include "pipeline/engine/launch.h"
#include "base/rand.h"
#include "gateway/snapshot.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include <stdlib.h>

#define LAUNCH_BYTES_MAX (32 * 1024 * 1024)

struct launch {
    struct pipeline_loop *loop;
    struct arena arena;
    struct launch_request request; /* texts in the arena */
    struct principal principal;
    launch_told *told; /* NULL: cancelled */
    void *arg;
    bool starting; /* launch_start has not returned */
    bool over;     /* told from within it */
};

static void launch_free(struct launch *launch)
{
    arena_fini(&launch->arena);
    free(launch);
}

void launch_cancel(struct launch *launch) { launch->told = NULL; }

const struct key *launch_find_key(const struct principal *principal)
{
    struct snapshot *snapshot = snapshot_current();
    if (id_is_zero(principal->key) || !snapshot)
        return NULL;
    MAP_FOR_EACH (slot, &snapshot->keys) {
        const struct key *key = slot->value;
        if (id_eq(key->id, principal->key))
            return key;
    }
    return NULL;
}

static void tell(struct launch *launch, struct run *run, const struct err *err)
{
    if (launch->told)
        launch->told(launch->arg, run, err);
    launch->over = true;
}

static void on_plan(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct launch *launch = arg;
    const struct launch_request *asked = &launch->request;
    struct err problem = err ? *err : (struct err){0};
    struct run *run = NULL;
    if (!err && launch->told) {
        const struct run_request request = {
            .plan = plan,
            .pipeline = asked->pipeline,
            .version = version,
            .trigger = asked->trigger,
            .principal = &launch->principal,
            .key = launch_find_key(&launch->principal),
            .session = asked->session,
            .user = asked->user,
            .query = asked->query,
            .inputs = asked->inputs,
            .trace = asked->trace,
            .id = asked->id,
            .budget_pico = COST_UNKNOWN,
            .recorded = asked->recorded,
            .owner = asked->owner,
        };
        run = run_start(launch->loop, &request, &problem);
    }
    plan_unref(plan);
    tell(launch, run, run ? NULL : &problem);
    if (!launch->starting)
        launch_free(launch);
}

static bool copy_texts(struct launch *launch)
{
    struct launch_request *request = &launch->request;
    struct str *texts[] = {&request->pipeline, &request->selector, &request->session,
                           &request->user,     &request->query,    &launch->principal.name};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (texts[i]->n && !(*texts[i] = arena_copy(&launch->arena, *texts[i])).p)
            return false;
    if (!request->inputs)
        return true;
    yyjson_doc *doc;
    struct str inputs = json_write(request->inputs, &launch->arena);
    if (!inputs.p || json_read(inputs, &launch->arena, &doc, NULL) != RC_OK)
        return false;
    request->inputs = yyjson_doc_get_root(doc);
    return true;
}

struct launch *launch_start(struct pipeline_loop *loop, const struct launch_request *request,
                            launch_told *told, void *arg)
{
    struct launch *launch = xcalloc(1, sizeof(*launch));
    struct err err = {0};
    arena_init(&launch->arena, LAUNCH_BYTES_MAX);
    launch->loop = loop;
    launch->request = *request;
    launch->principal = *request->principal;
    launch->told = told;
    launch->arg = arg;
    launch->starting = true;
    struct str who = request->session.n ? request->session : request->user;
    if (copy_texts(launch)) {
        plan_find(loop, launch->principal.project, launch->request.pipeline,
                  launch->request.selector, who.n ? hash_xxh3(who.p, who.n) : rand_u64(), on_plan,
                  launch);
    } else {
        err_set(&err, ERR_TOO_LARGE, "the inputs are too large");
        tell(launch, NULL, &err);
    }
    launch->starting = false;
    if (!launch->over)
        return launch;
    launch_free(launch);
    return NULL;
}

/* ---- answers ---- */

static struct str only_output(yyjson_val *outputs, struct arena *arena)
{
    yyjson_val *only = yyjson_obj_size(outputs) == 1
                           ? yyjson_obj_iter_get_val(yyjson_obj_iter_with(outputs).cur)
                           : NULL;
    if (yyjson_is_str(only))
        return json_text(only);
    return yyjson_obj_size(outputs) ? json_write(outputs, arena) : STR_EMPTY;
}

struct str run_answer_text(const struct run *run, struct arena *arena)
{
    struct str text = run_text(run);
    return text.n ? text : only_output(run_outputs(run), arena);
}

struct str run_json_answer(yyjson_val *run, struct arena *arena)
{
    struct str text = json_get_text(run, "text");
    return text.n ? text : only_output(yyjson_obj_get(run, "outputs"), arena);
}
