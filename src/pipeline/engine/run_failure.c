/* A failed run starts the pipeline that its settings name, as the same principal, with those of
 * these inputs that that one's start declares: run_id, pipeline, node, code, message,
 * query. What it starts survives the process; a failure of a run that was started so starts no
 * other. */
#include "base/log.h"
#include "base/rand.h"
#include "pipeline/engine/launch.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include <stdlib.h>

struct failure {
    struct pipeline_loop *loop;
    struct arena arena;
    struct principal principal;
    struct str name, session, user;
    struct trace_context trace;
    struct id origin;
    struct {
        const char *name;
        struct str value;
    } inputs[6];
};

static void failure_free(struct failure *failure)
{
    arena_fini(&failure->arena);
    free(failure);
}

static void nobody_told(void *arg, const struct run *run)
{
    UNUSED(arg);
    UNUSED(run);
}

static yyjson_val *choose_inputs(struct failure *failure, const struct plan *plan)
{
    const struct document *document = plan->document;
    yyjson_val *declared = yyjson_obj_get(document->nodes[document->start].config, "inputs"),
               *input;
    struct maker maker;
    size_t i, n;
    maker_init(&maker, &failure->arena);
    maker_object(&maker);
    yyjson_arr_foreach(declared, i, n, input)
    {
        struct str name = json_get_text(input, "name");
        for (size_t k = 0; k < COUNT_OF(failure->inputs); k++) {
            if (!str_eq(name, str_from(failure->inputs[k].name)))
                continue;
            maker_key(&maker, name);
            maker_text(&maker, failure->inputs[k].value);
        }
    }
    maker_end(&maker);
    return maker_take(&maker);
}

static void on_plan(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct failure *failure = arg;
    struct err problem = err ? *err : (struct err){0};
    if (!err) {
        const struct run_request request = {
            .plan = plan,
            .pipeline = failure->name,
            .version = version,
            .trigger = "failure",
            .principal = &failure->principal,
            .key = launch_find_key(&failure->principal),
            .session = failure->session,
            .user = failure->user,
            .inputs = choose_inputs(failure, plan),
            .trace = failure->trace,
            .budget_pico = COST_UNKNOWN,
            .recorded = true,
            .origin = failure->origin,
            .owner = {.ended = nobody_told},
        };
        (void)!run_start(failure->loop, &request, &problem);
    }
    if (problem.code != ERR_NONE)
        log_event(LOG_WARN, "on_failure_not_started", LOG_STR("pipeline", failure->name),
                  LOG_Z("error", problem.message));
    plan_unref(plan);
    failure_free(failure);
}

void run_start_on_failure(struct run *run)
{
    struct str name = run->flow.plan->document->on_failure;
    char id[ID_TEXT_BYTES_MAX];
    if (run->status != RUN_FAILED || !name.n || !run->err || run->only ||
        str_eq(str_from(run->trigger), STR("failure")))
        return;
    struct failure *failure = xcalloc(1, sizeof(*failure));
    struct arena *arena = &failure->arena;
    arena_init(arena, SCRATCH_BYTES_MAX);
    ssize_t at = str_rfind_char(name, '@');
    struct str selector = at > 0 ? str_slice(name, (size_t)at + 1, name.n) : STR_EMPTY;
    name = at > 0 ? str_slice(name, 0, (size_t)at) : name;
    failure->loop = run->loop;
    failure->principal = run->principal;
    failure->principal.name = arena_copy(arena, run->principal.name);
    failure->name = arena_copy(arena, name);
    failure->session = arena_copy(arena, run->session);
    failure->user = arena_copy(arena, run->user);
    failure->trace = run->trace;
    failure->origin = run->id;
    const struct str values[] = {
        str_make(id, id_format(run->id, "run", id)),
        run->pipeline,
        str_from(run->failed_node),
        str_from(err_code_name(run->err->code)),
        str_from(run->err->message),
        json_get_text(value_json(run->flow.sys), "query"),
    };
    static const char *const names[] = {"run_id", "pipeline", "node", "code", "message", "query"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        failure->inputs[i].name = names[i];
        failure->inputs[i].value = arena_copy(arena, values[i]);
    }
    plan_find(run->loop, failure->principal.project, failure->name, selector, rand_u64(), on_plan,
              failure);
}
