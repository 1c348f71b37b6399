/* `model: "pipeline/NAME@label"`: a pipeline answers where a model would (gateway/inner.h). The
 * question is the last user message; inputs come by name from the body's `inputs`, or from its
 * metadata. */
#include "gateway/inner.h"
#include "base/rand.h"
#include "pipeline/engine/launch.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include <stdlib.h>

struct answer {
    struct pipeline_loop *loop;
    struct inner_call *call;
    struct inner_request request;
    struct arena arena;
    struct run *run;    /* NULL: its plan is being looked for, or it has ended */
    bool cancelled;     /* before the plan was found */
    bool told;          /* some text went out */
    struct task failed; /* to tell an error from outside `start` */
    struct err err;
};

static void answer_free(struct answer *answer)
{
    arena_fini(&answer->arena);
    free(answer);
}

static enum proceed on_text(void *arg, struct str text)
{
    struct answer *answer = arg;
    answer->told = true;
    return inner_text(answer->call, text);
}

static void on_ended(void *arg, const struct run *run)
{
    struct answer *answer = arg;
    char id[ID_TEXT_BYTES_MAX];
    size_t n = id_format(run_id(run), "run", id);
    answer->run = NULL;
    if (run_status(run) == RUN_SUCCEEDED && !answer->told) {
        struct str text = run_answer_text(run, &answer->arena);
        if (text.n)
            inner_text(answer->call, text);
    }
    struct str citations =
        run_citations(run) ? json_write(run_citations(run), &answer->arena) : STR_EMPTY;
    struct str extra = arena_printf(&answer->arena, "{\"run_id\":\"%.*s\"%s%.*s}", (int)n, id,
                                    citations.n ? ",\"citations\":" : "", STR_ARG(citations));
    if (extra.p)
        inner_extra(answer->call, extra);
    inner_end(answer->call, "stop", run_input_tokens(run), run_output_tokens(run), run_error(run));
    answer_free(answer);
}

static void tell_failure(struct task *task)
{
    struct answer *answer = CONTAINER_OF(task, struct answer, failed);
    if (!answer->cancelled)
        inner_end(answer->call, "stop", 0, 0, &answer->err);
    answer_free(answer);
}

static void fail(struct answer *answer)
{
    answer->failed.run = tell_failure;
    loop_defer(answer->loop->loop, &answer->failed);
}

/* The text of the last user message: a text, or its text parts. */
static struct str find_query(yyjson_val *messages, struct arena *arena)
{
    struct str query = STR_EMPTY;
    size_t i, n, p, m;
    yyjson_val *message, *part;
    yyjson_arr_foreach(messages, i, n, message)
    {
        yyjson_val *content = yyjson_obj_get(message, "content");
        if (!str_eq(json_get_text(message, "role"), STR("user")))
            continue;
        query = json_text(content);
        yyjson_arr_foreach(content, p, m, part) query =
            arena_concat(arena, query, json_get_text(part, "text"));
    }
    return query;
}

/* The body's `inputs`, or what of its metadata the start declares. */
static yyjson_val *find_inputs(struct answer *answer, const struct plan *plan)
{
    const struct document *document = plan->document;
    yyjson_val *given = yyjson_obj_get(answer->request.body, "inputs"),
               *metadata = yyjson_obj_get(answer->request.body, "metadata"), *input;
    yyjson_val *declared = yyjson_obj_get(document->nodes[document->start].config, "inputs");
    struct maker maker;
    size_t i, n;
    if (yyjson_is_obj(given))
        return given;
    maker_init(&maker, &answer->arena);
    maker_object(&maker);
    yyjson_arr_foreach(declared, i, n, input)
    {
        struct str name = json_get_text(input, "name");
        yyjson_val *value = yyjson_obj_getn(metadata, name.p, name.n);
        if (!value)
            continue;
        maker_key(&maker, name);
        maker_tree(&maker, value);
    }
    maker_end(&maker);
    return maker_take(&maker);
}

static void on_plan(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct answer *answer = arg;
    const struct inner_request *asked = &answer->request;
    if (err)
        answer->err = *err;
    if (err || answer->cancelled) {
        plan_unref(plan);
        fail(answer);
        return;
    }
    yyjson_val *messages = yyjson_obj_get(asked->body, "messages");
    ssize_t at = str_rfind_char(asked->name, '@');
    const struct run_request request = {
        .plan = plan,
        .pipeline = at > 0 ? str_slice(asked->name, 0, (size_t)at) : asked->name,
        .version = version,
        .trigger = "model",
        .principal = asked->scope->principal,
        .key = asked->scope->key,
        .session = asked->session.n ? asked->session : asked->user,
        .user = asked->user,
        .query = find_query(messages, &answer->arena),
        .inputs = find_inputs(answer, plan),
        .messages = messages,
        .trace = asked->scope->trace,
        .deadline_ns = asked->scope->deadline_ns,
        .budget_pico = asked->scope->budget_pico,
        .inside = true,
        .owner = {.text = on_text, .ended = on_ended, .arg = answer},
    };
    answer->run = run_start(answer->loop, &request, &answer->err);
    plan_unref(plan);
    if (!answer->run)
        fail(answer);
}

static void *start(void *arg, struct inner_call *call, const struct inner_request *request)
{
    struct pipelines *pipelines = arg;
    struct answer *answer = xcalloc(1, sizeof(*answer));
    ssize_t at = str_rfind_char(request->name, '@');
    struct str name = at > 0 ? str_slice(request->name, 0, (size_t)at) : request->name,
               label =
                   at > 0 ? str_slice(request->name, (size_t)at + 1, request->name.n) : STR_EMPTY;
    answer->loop = pipelines_loop(pipelines, loop_index(loop_current()));
    answer->call = call;
    answer->request = *request;
    arena_init(&answer->arena, SCRATCH_BYTES_MAX);
    struct str who = request->session.n ? request->session : request->user;
    plan_find(answer->loop, request->scope->principal->project, name, label,
              who.n ? hash_xxh3(who.p, who.n) : rand_u64(), on_plan, answer);
    return answer;
}

static void resume(void *arg)
{
    struct answer *answer = arg;
    if (answer->run)
        run_resume(answer->run);
}

static void cancel(void *arg)
{
    struct answer *answer = arg;
    if (!answer->run) {
        answer->cancelled = true; /* freed when the plan is found, or the failure told */
        return;
    }
    run_forget_owner(answer->run);
    run_cancel(answer->run, "the client has left");
    answer_free(answer);
}

void pipelines_register_model(struct pipelines *pipelines)
{
    gateway_register_inner(&(struct inner_model){.prefix = STR("pipeline/"),
                                                 .start = start,
                                                 .resume = resume,
                                                 .cancel = cancel,
                                                 .arg = pipelines});
}
