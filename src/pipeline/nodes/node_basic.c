/* Nodes that only compute: start, end, answer, if_else, template, aggregator, assigner, list. They
 * end their step at once. */
#include "pipeline/engine/citation.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_private.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- start ---- */

static void start_run(struct step *step)
{
    struct run *run = step->run;
    struct frame *frame = step->frame;
    /* Of another pipeline's flow: what the calling node gave. */
    struct value *out = frame->flow == &run->flow ? run->start : frame->item;
    step_done(step, value_ref(out), STR("out"));
}

const struct node_operations start_operations = {.run = start_run};

/* Numbers may come as text, as forms and metadata have them. */
static bool put_typed(struct maker *maker, enum value_type type, yyjson_val *given)
{
    struct str text = json_text(given);
    double number;
    switch (type) {
    case VALUE_NUMBER:
        if (yyjson_is_num(given))
            maker_tree(maker, given);
        else if (text.n && str_to_double(text, &number) == RC_OK)
            maker_number(maker, number);
        else
            return false;
        return true;
    case VALUE_BOOLEAN:
        if (!yyjson_is_bool(given) && !str_eq(text, STR("true")) && !str_eq(text, STR("false")))
            return false;
        maker_bool(maker, yyjson_is_true(given) || str_eq(text, STR("true")));
        return true;
    case VALUE_STRING:
    case VALUE_OBJECT:
    case VALUE_ARRAY:
        if (!(type == VALUE_STRING   ? yyjson_is_str(given)
              : type == VALUE_OBJECT ? yyjson_is_obj(given)
                                     : yyjson_is_arr(given)))
            return false;
        break;
    default: break;
    }
    maker_tree(maker, given);
    return true;
}

static bool is_choice(yyjson_val *options, struct str text)
{
    size_t i, n;
    yyjson_val *option;
    yyjson_arr_foreach(options, i, n, option) if (str_eq(json_text(option), text)) return true;
    return yyjson_arr_size(options) == 0;
}

/* By id, by address, or whole in a data: address. */
static bool is_file(yyjson_val *given)
{
    struct str text = json_text(given);
    if (yyjson_is_obj(given))
        return json_get_text(given, "id").n || json_get_text(given, "url").n;
    return str_starts(text, STR("file-")) || str_starts(text, STR("data:")) ||
           str_starts(text, STR("https://")) || str_starts(text, STR("http://"));
}

static bool are_files(struct str type, yyjson_val *given)
{
    size_t i, n;
    yyjson_val *item;
    if (str_eq(type, STR("file")))
        return is_file(given);
    if (str_eq(type, STR("files")))
        yyjson_arr_foreach(given, i, n, item)
        {
            if (!is_file(item))
                return false;
        }
    return true;
}

enum rc input_put(struct maker *maker, yyjson_val *input, yyjson_val *given, struct err *err)
{
    struct str name = json_get_text(input, "name");
    char field[80];
    int64_t longest = json_get_int(input, "max_length", 0);
    enum value_type type = value_type_parse(json_get_text(input, "type"));
    snprintf(field, sizeof(field), "inputs.%.*s", STR_ARG(name));
    if (!given || yyjson_is_null(given))
        given = yyjson_obj_get(input, "default");
    if (!given && json_get_bool(input, "required", false))
        return err_set_field(err, ERR_MISSING_FIELD, field, "the input '%.*s' is required",
                             STR_ARG(name));
    maker_key(maker, name);
    if (!given) {
        maker_null(maker);
        return RC_OK;
    }
    if (!put_typed(maker, type, given))
        return err_set_field(err, ERR_BAD_FIELD, field, "the input '%.*s' must be of type %s",
                             STR_ARG(name), value_type_name(type));
    if (!are_files(json_get_text(input, "type"), given))
        return err_set_field(err, ERR_BAD_FIELD, field,
                             "'%.*s' takes files: the id of an uploaded one (file-…), an https: "
                             "or a data: address, or {id | url, name}",
                             STR_ARG(name));
    if (yyjson_is_str(given) && !is_choice(yyjson_obj_get(input, "options"), json_text(given)))
        return err_set_field(err, ERR_BAD_FIELD, field, "this is none of the choices of '%.*s'",
                             STR_ARG(name));
    if (longest && (int64_t)yyjson_get_len(given) > longest * (yyjson_is_str(given) ? 4 : 1))
        return err_set_field(err, ERR_BAD_FIELD, field, "the input '%.*s' is too long",
                             STR_ARG(name));
    return RC_OK;
}

struct value *flow_read_inputs(const struct plan *plan, yyjson_val *given, struct str query,
                               struct arena *scratch, struct err *err)
{
    const struct document *document = plan->document;
    yyjson_val *inputs = yyjson_obj_get(document->nodes[document->start].config, "inputs");
    yyjson_val *input, *key, *value;
    struct maker maker;
    size_t i, n, k, m;
    yyjson_val text;
    text.tag = YYJSON_TYPE_STR | (uint64_t)query.n << YYJSON_TAG_BIT;
    text.uni.str = query.n ? query.p : "";
    maker_init(&maker, scratch);
    maker_object(&maker);
    yyjson_arr_foreach(inputs, i, n, input)
    {
        struct str name = json_get_text(input, "name");
        value = yyjson_obj_getn(given, name.p, name.n);
        if (!value && query.n && str_eq(name, STR("query")))
            value = &text;
        if (input_put(&maker, input, value, err) != RC_OK)
            return NULL;
    }
    maker_end(&maker);
    yyjson_obj_foreach(given, k, m, key, value)
    {
        bool known = false;
        yyjson_arr_foreach(inputs, i, n, input) known |=
            str_eq(json_get_text(input, "name"), json_text(key));
        if (!known) {
            err_set_field(err, ERR_BAD_FIELD, "inputs", "the pipeline has no input '%.*s'",
                          STR_ARG(json_text(key)));
            return NULL;
        }
    }
    struct value *out = maker_pack(&maker);
    if (!out)
        err_set(err, ERR_TOO_LARGE, "the inputs are too large");
    return out;
}

/* ---- lists of {name, value: expression} ---- */

enum rc assignments_compile(struct plan_build *build, yyjson_val *list, struct assignments *out,
                            struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    *out = (struct assignments){.items = ARENA_NEW_ARRAY(&build->plan->arena, struct assignment,
                                                         yyjson_arr_size(list) + 1)};
    if (!out->items)
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    yyjson_arr_foreach(list, i, n, item)
    {
        struct assignment *to = &out->items[out->count++];
        to->name = json_get_text(item, "name");
        enum rc rc = plan_expression_compile(build, json_get_text(item, "value"), &to->value, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

enum rc assignments_put(struct frame *frame, const struct assignments *assignments,
                        struct maker *maker, struct err *err)
{
    for (size_t i = 0; i < assignments->count; i++) {
        struct expression_value value;
        enum rc rc =
            run_evaluate(frame, &assignments->items[i].value, NULL, maker->arena, &value, err);
        if (rc != RC_OK)
            return rc;
        maker_key(maker, assignments->items[i].name);
        maker_expression(maker, &value);
    }
    return RC_OK;
}

/* ---- end ---- */

static enum rc end_compile(struct plan_build *build, struct err *err)
{
    struct assignments *outputs = build->node->config =
        ARENA_NEW(&build->plan->arena, struct assignments);
    return outputs ? assignments_compile(build,
                                         yyjson_obj_get(build->node->document->config, "outputs"),
                                         outputs, err)
                   : err_set(err, ERR_TOO_LARGE, "the definition is too large");
}

static void put_members(struct maker *maker, yyjson_val *object, yyjson_val *except)
{
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach(object, i, n, key, value)
    {
        if (yyjson_obj_getn(except, yyjson_get_str(key), yyjson_get_len(key)))
            continue;
        maker_key(maker, json_text(key));
        maker_tree(maker, value);
    }
}

static void end_run(struct step *step)
{
    struct flow *flow = step->frame->flow;
    struct arena *scratch = &step->run->loop->scratch;
    struct err err = {0};
    struct maker maker, merged;
    maker_init(&maker, scratch);
    maker_object(&maker);
    if (assignments_put(step->frame, step->plan->config, &maker, &err) != RC_OK) {
        step_failed(step, &err);
        return;
    }
    maker_end(&maker);
    struct value *own = maker_pack(&maker);
    if (own && flow->outputs) {
        maker_init(&merged, scratch);
        maker_object(&merged);
        put_members(&merged, value_json(flow->outputs), value_json(own));
        put_members(&merged, value_json(own), NULL);
        maker_end(&merged);
        value_unref(flow->outputs);
        flow->outputs = maker_pack(&merged);
    } else {
        flow->outputs = value_ref(own);
    }
    step_done(step, own, STR("out"));
}

const struct node_operations end_operations = {.compile = end_compile, .run = end_run};

/* ---- answer and template ---- */

static enum rc text_compile(struct plan_build *build, struct err *err)
{
    struct plan_text *text = build->node->config = ARENA_NEW(&build->plan->arena, struct plan_text);
    return text ? plan_text_compile(build, json_get_text(build->node->document->config, "text"),
                                    text, err)
                : err_set(err, ERR_TOO_LARGE, "the definition is too large");
}

/* Renders the node's text; its value under `name`, or NULL when the step has failed. */
static struct value *render_output(struct step *step, struct str name)
{
    struct arena *scratch = &step->run->loop->scratch;
    struct err err = {0};
    struct maker maker;
    struct buf out;
    struct value *value = NULL;
    buf_init(&out, RUN_TEXT_BYTES_MAX);
    if (run_render(step->frame, step->plan->config, scratch, &out, &err) == RC_OK) {
        maker_init(&maker, scratch);
        maker_object(&maker);
        maker_key(&maker, name);
        maker_text(&maker, buf_str(&out));
        maker_end(&maker);
        value = maker_pack(&maker);
    }
    buf_fini(&out);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
    else if (!value)
        step_done(step, NULL, STR("out"));
    return value;
}

static void template_run(struct step *step)
{
    struct value *value = render_output(step, STR("output"));
    if (value)
        step_done(step, value, STR("out"));
}

const struct node_operations template_operations = {.compile = text_compile, .run = template_run};

static void answer_run(struct step *step)
{
    struct value *value = render_output(step, STR("text"));
    struct run *run = step->run;
    if (!value)
        return;
    struct str text = json_get_text(value_json(value), "text");
    if (step->frame->flow != &run->flow) {
        if (buf_append(&step->frame->flow->text, text) != RC_OK)
            text = STR_EMPTY; /* past its bound: the rest is left away */
    } else if (step->frame->parent) {
        answers_emit(run, text); /* inside a container: now */
    }
    citations_pass_on(step, text);
    step_done(step, value, STR("out"));
}

const struct node_operations answer_operations = {.compile = text_compile, .run = answer_run};

/* ---- if / else ---- */

struct if_case {
    struct str id;
    struct plan_expression when;
};

struct if_config {
    struct if_case *cases;
    size_t count;
};

static enum rc if_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *cases = yyjson_obj_get(build->node->document->config, "cases"), *item;
    struct arena *arena = &build->plan->arena;
    struct if_config *config = build->node->config = ARENA_NEW(arena, struct if_config);
    size_t i, n;
    if (!config ||
        !(config->cases = ARENA_NEW_ARRAY(arena, struct if_case, yyjson_arr_size(cases) + 1)))
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    yyjson_arr_foreach(cases, i, n, item)
    {
        struct if_case *to = &config->cases[config->count++];
        to->id = json_get_text(item, "id");
        enum rc rc = plan_expression_compile(build, json_get_text(item, "when"), &to->when, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* {name: text} */
struct value *value_of_text(struct arena *scratch, struct str name, struct str text)
{
    struct maker maker;
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_key(&maker, name);
    maker_text(&maker, text);
    maker_end(&maker);
    return maker_pack(&maker);
}

static void if_run(struct step *step)
{
    const struct if_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct str port = STR("else");
    struct err err = {0};
    for (size_t i = 0; i < config->count; i++) {
        struct expression_value value;
        if (run_evaluate(step->frame, &config->cases[i].when, NULL, scratch, &value, &err) !=
            RC_OK) {
            step_failed(step, &err);
            return;
        }
        if (!expression_value_holds(&value))
            continue;
        port = config->cases[i].id;
        break;
    }
    step_done(step, value_of_text(scratch, STR("case"), port), port);
}

const struct node_operations if_else_operations = {.compile = if_compile, .run = if_run};

/* ---- variable aggregator ---- */

struct aggregator_config {
    struct plan_expression *values;
    size_t count;
};

static enum rc aggregator_compile(struct plan_build *build, struct err *err)
{
    yyjson_val *values = yyjson_obj_get(build->node->document->config, "values"), *item;
    struct arena *arena = &build->plan->arena;
    struct aggregator_config *config = build->node->config =
        ARENA_NEW(arena, struct aggregator_config);
    size_t i, n;
    if (!config || !(config->values = ARENA_NEW_ARRAY(arena, struct plan_expression,
                                                      yyjson_arr_size(values) + 1)))
        return err_set(err, ERR_TOO_LARGE, "the definition is too large");
    yyjson_arr_foreach(values, i, n, item)
    {
        enum rc rc =
            plan_expression_compile(build, json_text(item), &config->values[config->count++], err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static void aggregator_run(struct step *step)
{
    const struct aggregator_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct expression_value value = {0};
    struct err err = {0};
    struct maker maker;
    for (size_t i = 0; i < config->count && value.type == EXPRESSION_NULL; i++)
        if (run_evaluate(step->frame, &config->values[i], NULL, scratch, &value, &err) != RC_OK) {
            step_failed(step, &err);
            return;
        }
    maker_init(&maker, scratch);
    maker_object(&maker);
    maker_key(&maker, STR("output"));
    maker_expression(&maker, &value);
    maker_end(&maker);
    step_done(step, maker_pack(&maker), STR("out"));
}

const struct node_operations aggregator_operations = {.compile = aggregator_compile,
                                                      .run = aggregator_run};
