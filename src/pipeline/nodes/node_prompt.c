/* Prompt: a stored prompt is asked by its name, with variables; model, parameters and messages are
 * its version's. The gateway puts them in (prompt/request.h), as for any caller. */
#include "pipeline/nodes/ask.h"
#include "pipeline/engine/citation.h"
#include "pipeline/engine/loop_private.h"
#include "prompt/request.h"
#include "text/json.h"
#include <stdlib.h>

#define REQUEST_BYTES_MAX (32 * 1024 * 1024)

struct prompt_config {
    struct str model; /* prompt/NAME@label */
    struct assignments variables;
    struct plan_text message; /* after the prompt's own */
};

static enum rc prompt_node_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct arena *arena = &build->plan->arena;
    struct prompt_config *config = build->node->config = ARENA_NEW(arena, struct prompt_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->model =
        arena_printf(arena, PROMPT_PREFIX "%.*s", STR_ARG(json_get_text(json, "prompt")));
    enum rc rc =
        assignments_compile(build, yyjson_obj_get(json, "variables"), &config->variables, err);
    if (rc == RC_OK)
        rc = plan_text_compile(build, json_get_text(json, "message"), &config->message, err);
    return rc;
}

static void prompt_done(struct step *step, void *arg, const struct ask_answer *answer,
                        const struct err *err)
{
    struct arena arena;
    struct maker maker;
    UNUSED(arg);
    if (err) {
        step_failed(step, err);
        return;
    }
    arena_init(&arena, RUN_VALUE_BYTES_MAX);
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("text"));
    maker_text(&maker, answer->text);
    maker_key(&maker, STR("json"));
    maker_tree(&maker, ask_read_json(answer->text, &arena));
    ask_put_origin(&maker, answer, &arena);
    citations_put(&maker, step->frame, step->plan, answer->text);
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    step_done(step, out, STR("out"));
}

static void prompt_run(struct step *step)
{
    const struct prompt_config *config = step->plan->config;
    struct buf body, message;
    struct err err = {0};
    buf_init(&body, REQUEST_BYTES_MAX);
    buf_init(&message, REQUEST_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "model", config->model);
    enum rc rc = ask_put_variables(step, &w, &config->variables, &err);
    if (rc == RC_OK && config->message.raw.n)
        rc = run_render(step->frame, &config->message, &step->run->loop->scratch, &message, &err);
    json_key(&w, "messages");
    json_begin_array(&w);
    if (str_trim(buf_str(&message)).n)
        ask_put_words(&w, "user", buf_str(&message));
    json_end_array(&w);
    json_end_object(&w);
    if (rc == RC_OK && w.rc != RC_OK)
        err_set(&err, ERR_TOO_LARGE, "the request to the model is too large");
    if (err.code == ERR_NONE)
        ask_start(step, &(struct ask_options){.body = buf_str(&body),
                                              .stream = ask_wants_stream(step),
                                              .done = prompt_done});
    buf_fini(&body);
    buf_fini(&message);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
}

const struct node_operations prompt_operations = {.compile = prompt_node_compile,
                                                  .run = prompt_run,
                                                  .cancel = ask_drop,
                                                  .resume = ask_resume,
                                                  .recorded = true};
