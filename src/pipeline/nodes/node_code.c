/* Code: a function main in JavaScript or Python, run in a child (code_pool.h). It reaches nothing,
 * so nothing is lost by running it again after a crash; but it may depend on time and chance, so
 * its result is written down. */
#include "base/clock.h"
#include "pipeline/nodes/code_pool.h"
#include "pipeline/engine/loop_private.h"
#include "text/json_tree.h"
#include <stdlib.h>

#define PRINTED_BYTES_MAX 200 /* shown with an error */

struct code_config {
    enum code_language language;
    struct str source;
    struct assignments inputs;
    yyjson_val *input_list, *outputs;
};

static enum rc code_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *json = build->node->document->config;
    struct code_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct code_config);
    if (!config)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    config->language =
        str_eq(json_get_text(json, "language"), STR("python")) ? CODE_PYTHON : CODE_JAVASCRIPT;
    config->source = json_get_text(json, "code");
    config->outputs = yyjson_obj_get(json, "outputs");
    config->input_list = yyjson_obj_get(json, "inputs");
    return assignments_compile(build, config->input_list, &config->inputs, err);
}

/* ---- types ---- */

static bool is_of_type(yyjson_val *value, enum value_type type)
{
    switch (type) {
    case VALUE_STRING: return yyjson_is_str(value);
    case VALUE_NUMBER: return yyjson_is_num(value);
    case VALUE_BOOLEAN: return yyjson_is_bool(value);
    case VALUE_OBJECT: return yyjson_is_obj(value);
    case VALUE_ARRAY: return yyjson_is_arr(value);
    default: return true;
    }
}

/* Each of `list` [{name, type}] is in `object` and of its type. */
static enum rc check_types(const char *what, yyjson_val *list, yyjson_val *object, struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        struct str name = json_get_text(item, "name");
        enum value_type type = value_type_parse(json_get_text(item, "type"));
        yyjson_val *value = yyjson_obj_getn(object, name.p, name.n);
        if (!value)
            return err_set(err, ERR_INVALID, "main returned no %s '%.*s'", what, STR_ARG(name));
        if (!is_of_type(value, type))
            return err_set(err, ERR_INVALID, "the %s '%.*s' is not of type %s", what, STR_ARG(name),
                           value_type_name(type));
    }
    return RC_OK;
}

/* ---- the call ---- */

static struct value *make_outputs(const struct code_config *config, yyjson_val *returned,
                                  struct str log, struct arena *arena)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *item;
    maker_init(&maker, arena);
    maker_object(&maker);
    maker_key(&maker, STR("log"));
    maker_text(&maker, log);
    yyjson_arr_foreach(config->outputs, i, n, item)
    {
        struct str name = json_get_text(item, "name");
        maker_key(&maker, name);
        maker_tree(&maker, yyjson_obj_getn(returned, name.p, name.n));
    }
    maker_end(&maker);
    return maker_pack(&maker);
}

static void on_told(void *arg, struct str json, struct str log, const struct err *failure)
{
    struct step *step = arg;
    const struct code_config *config = step->plan->config;
    struct arena arena;
    struct err err = failure ? *failure : (struct err){0};
    struct value *out = NULL;
    yyjson_doc *doc;
    step->work = NULL;
    arena_init(&arena, RUN_VALUE_BYTES_MAX);
    if (!failure && json_read(json, &arena, &doc, &err) == RC_OK &&
        check_types("output", config->outputs, yyjson_doc_get_root(doc), &err) == RC_OK)
        out = make_outputs(config, yyjson_doc_get_root(doc), log, &arena);
    if (err.code != ERR_NONE && str_trim(log).n) {
        struct str printed = str_trim(log);
        size_t from = printed.n > PRINTED_BYTES_MAX ? printed.n - PRINTED_BYTES_MAX : 0;
        struct err told = err;
        err_set(&err, told.code, "%s; it printed: %.*s", told.message,
                STR_ARG(str_slice(printed, from, printed.n)));
    }
    arena_fini(&arena);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
    else
        step_done(step, out, STR("out"));
}

static void code_run(struct step *step)
{
    const struct code_config *config = step->plan->config;
    struct run *run = step->run;
    struct err err = {0};
    struct maker maker;
    struct str inputs = STR_EMPTY;
    maker_init(&maker, &run->loop->scratch);
    maker_object(&maker);
    enum rc rc = assignments_put(step->frame, &config->inputs, &maker, &err);
    maker_end(&maker);
    yyjson_val *values = rc == RC_OK ? maker_take(&maker) : NULL;
    if (values)
        inputs = json_write(values, &run->loop->scratch);
    if (rc == RC_OK && !inputs.n)
        err_set(&err, ERR_TOO_LARGE, "the inputs are too large");
    else if (rc == RC_OK && check_types("input", config->input_list, values, &err) == RC_OK)
        step->work = code_call_start(
            run->loop->all->code,
            &(struct code_request){.language = config->language,
                                   .project = run->principal.project,
                                   .source = config->source,
                                   .inputs = inputs,
                                   .time_ns = step->plan->document->timeout_ms * NS_PER_MS},
            on_told, step, &err);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
}

static void code_cancel(struct step *step)
{
    struct code_call *call = step->work;
    step->work = NULL;
    if (call)
        code_call_cancel(call);
}

const struct node_operations code_operations = {
    .compile = code_compile, .run = code_run, .cancel = code_cancel, .recorded = true};
