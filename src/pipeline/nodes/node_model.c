/* Nodes that ask a model: llm, classifier, extractor. */
#include "pipeline/nodes/ask.h"
#include "pipeline/engine/citation.h"
#include "pipeline/engine/loop_private.h"
#include "text/json.h"
#include "text/json_schema.h"
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_BYTES_MAX (32 * 1024 * 1024)

static enum rc no_room(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the definition is too large");
}

/* One message of the request: a rendered text. */
static enum rc put_message(struct step *step, struct json_writer *w, struct str role,
                           const struct plan_text *text, struct err *err)
{
    struct buf out;
    buf_init(&out, REQUEST_BYTES_MAX);
    enum rc rc = run_render(step->frame, text, &step->run->loop->scratch, &out, err);
    if (rc == RC_OK) {
        json_begin_object(w);
        json_put_string(w, "role", role);
        json_put_string(w, "content", buf_str(&out));
        json_end_object(w);
    }
    buf_fini(&out);
    return rc;
}

/* ---- llm ---- */

struct llm_message {
    struct str role;
    struct plan_text content;
};

struct llm_config {
    struct str model;
    struct llm_message *messages;
    size_t count, last_user; /* SIZE_MAX: no user message */
    struct plan_expression images;
    struct assignments variables; /* of a stored prompt, where the model is one */
    int64_t window;               /* exchanges of memory; 0: none */
    struct str schema_text;
    struct json_schema *schema;
    yyjson_val *json; /* parameters */
};

static enum rc llm_read_messages(struct plan_build *build, struct llm_config *config,
                                 struct err *err)
{
    yyjson_val *list = yyjson_obj_get(config->json, "messages"), *item;
    size_t i, n;
    config->messages =
        ARENA_NEW_ARRAY(&build->plan->arena, struct llm_message, yyjson_arr_size(list) + 1);
    config->last_user = SIZE_MAX;
    if (!config->messages)
        return no_room(err);
    yyjson_arr_foreach(list, i, n, item)
    {
        struct llm_message *message = &config->messages[config->count];
        message->role = json_get_text(item, "role");
        if (str_eq(message->role, STR("user")))
            config->last_user = config->count;
        config->count++;
        enum rc rc =
            plan_text_compile(build, json_get_text(item, "content"), &message->content, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static enum rc llm_compile(struct plan_build *build, struct err *err)
{
    struct arena *arena = &build->plan->arena;
    struct llm_config *config = build->node->config = ARENA_NEW(arena, struct llm_config);
    if (!config)
        return no_room(err);
    config->json = build->node->document->config;
    config->model = json_get_text(config->json, "model");
    yyjson_val *memory = yyjson_obj_get(config->json, "memory"),
               *schema = yyjson_obj_get(config->json, "output_schema");
    config->window = memory ? json_get_int(memory, "window", 10) : 0;
    enum rc rc = llm_read_messages(build, config, err);
    if (rc == RC_OK)
        rc = plan_expression_compile(build, json_get_text(config->json, "images"), &config->images,
                                     err);
    if (rc == RC_OK)
        rc = assignments_compile(build, yyjson_obj_get(config->json, "variables"),
                                 &config->variables, err);
    if (rc == RC_OK && schema && yyjson_obj_size(schema)) {
        config->schema_text = json_write(schema, arena);
        if (!config->schema_text.p)
            return no_room(err);
        rc = json_schema_compile(config->schema_text, arena, &config->schema, err);
    }
    return rc;
}

void ask_put_history(struct step *step, struct json_writer *w, int64_t window)
{
    yyjson_val *messages = yyjson_obj_get(value_json(step->frame->flow->sys), "messages"), *item;
    size_t i, n, users = 0, skip;
    yyjson_arr_foreach(messages, i, n, item) users +=
        str_eq(json_get_text(item, "role"), STR("user"));
    skip = users > (size_t)window + 1 ? users - (size_t)window - 1 : 0;
    users -= skip;
    yyjson_arr_foreach(messages, i, n, item)
    {
        bool user = str_eq(json_get_text(item, "role"), STR("user"));
        if (skip) {
            skip -= user;
            continue;
        }
        if (user && --users == 0)
            return;
        if (user || str_eq(json_get_text(item, "role"), STR("assistant")))
            json_value(w, item);
    }
}

static enum rc put_images(struct step *step, struct json_writer *w, const struct plan_text *text,
                          yyjson_val *images, struct err *err)
{
    struct buf out;
    size_t i, n;
    yyjson_val *image;
    buf_init(&out, REQUEST_BYTES_MAX);
    enum rc rc = run_render(step->frame, text, &step->run->loop->scratch, &out, err);
    json_begin_object(w);
    json_put_text(w, "role", "user");
    json_key(w, "content");
    json_begin_array(w);
    yyjson_arr_foreach(images, i, n, image)
    {
        json_begin_object(w);
        json_put_text(w, "type", "image_url");
        json_key(w, "image_url");
        json_begin_object(w);
        json_put_string(w, "url", json_text(image));
        json_end_object(w);
        json_end_object(w);
    }
    json_begin_object(w);
    json_put_text(w, "type", "text");
    json_put_string(w, "text", buf_str(&out));
    json_end_object(w);
    json_end_array(w);
    json_end_object(w);
    buf_fini(&out);
    return rc;
}

static enum rc put_messages(struct step *step, struct json_writer *w, struct err *err)
{
    const struct llm_config *config = step->plan->config;
    yyjson_val *images = NULL;
    if (config->images.expression && !(images = evaluate_list(step, &config->images, err)))
        return err->rc;
    for (size_t i = 0; i < config->count; i++) {
        const struct llm_message *message = &config->messages[i];
        if (i == config->last_user && config->window)
            ask_put_history(step, w, config->window);
        enum rc rc = i == config->last_user && yyjson_arr_size(images)
                         ? put_images(step, w, &message->content, images, err)
                         : put_message(step, w, message->role, &message->content, err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* What is kept of a question whose answer must fit a schema. */
struct llm_work {
    bool repaired;
    struct str body; /* of the first question */
    char text[];
};

static void llm_done(struct step *step, void *arg, const struct ask_answer *answer,
                     const struct err *err);

static void llm_run(struct step *step)
{
    static const char *const passed[] = {"temperature", "top_p", "max_tokens", "stop"};
    const struct llm_config *config = step->plan->config;
    struct err err = {0};
    struct buf body;
    struct llm_work *work = NULL;
    buf_init(&body, REQUEST_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "model", config->model);
    for (size_t i = 0; i < COUNT_OF(passed); i++)
        if (yyjson_obj_get(config->json, passed[i]))
            json_put_value(&w, passed[i], yyjson_obj_get(config->json, passed[i]));
    if (config->schema)
        ask_put_schema(&w, config->schema_text);
    enum rc rc =
        config->variables.count ? ask_put_variables(step, &w, &config->variables, &err) : RC_OK;
    json_key(&w, "messages");
    json_begin_array(&w);
    if (rc == RC_OK)
        rc = put_messages(step, &w, &err);
    json_end_array(&w);
    json_end_object(&w);
    if (rc == RC_OK && w.rc != RC_OK)
        err_set(&err, ERR_TOO_LARGE, "the request to the model is too large");
    if (err.code == ERR_NONE && config->schema) {
        work = xcalloc(1, sizeof(*work) + buf_len(&body));
        memcpy(work->text, body.p, buf_len(&body));
        work->body = str_make(work->text, buf_len(&body));
    }
    if (err.code == ERR_NONE)
        ask_start(step, &(struct ask_options){.body = buf_str(&body),
                                              .stream = !config->schema && ask_wants_stream(step),
                                              .arg = work,
                                              .done = llm_done});
    buf_fini(&body);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
}

/* Asks once more, saying what did not fit. */
static void llm_repair(struct step *step, struct llm_work *work, struct str text,
                       const struct json_schema_problem *problem)
{
    struct buf body;
    buf_init(&body, REQUEST_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    char words[400];
    snprintf(words, sizeof(words),
             "This is not JSON of the schema that was asked for: %s %s. Answer again with the JSON "
             "alone.",
             problem->path, problem->message);
    json_append(&w, str_slice(work->body, 0, work->body.n - 2)); /* up to "]}" */
    json_append(&w, STR(","));
    ask_put_words(&w, "assistant", text);
    ask_put_words(&w, "user", str_from(words));
    json_append(&w, STR("]}"));
    work->repaired = true;
    step->begun = true;
    ask_start(step, &(struct ask_options){.body = buf_str(&body), .arg = work, .done = llm_done});
    buf_fini(&body);
}

static void llm_done(struct step *step, void *arg, const struct ask_answer *answer,
                     const struct err *err)
{
    const struct llm_config *config = step->plan->config;
    struct llm_work *work = arg;
    struct json_schema_problem problem = {.message = "it is no JSON"};
    struct arena arena;
    struct maker maker;
    yyjson_val *json = NULL;
    struct err misfit = {0};
    if (err) {
        free(work);
        step_failed(step, err);
        return;
    }
    arena_init(&arena, RUN_VALUE_BYTES_MAX);
    if (config->schema) {
        json = ask_read_json(answer->text, &arena);
        bool fits = json && json_schema_check(config->schema, json, &problem) == RC_OK;
        if (!fits && !work->repaired) {
            llm_repair(step, work, answer->text, &problem);
            arena_fini(&arena);
            return;
        }
        if (!fits)
            err_set(&misfit, ERR_UPSTREAM_PROTOCOL, "the model's answer does not fit: %s %s",
                    problem.path, problem.message);
    }
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("text"));
    maker_text(&maker, answer->text);
    if (json) {
        maker_key(&maker, STR("json"));
        maker_tree(&maker, json);
    }
    ask_put_origin(&maker, answer, &arena);
    citations_put(&maker, step->frame, step->plan, answer->text);
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    free(work);
    if (misfit.code != ERR_NONE) {
        value_unref(out);
        step_failed(step, &misfit);
    } else {
        step_done(step, out, STR("out"));
    }
}

const struct node_operations llm_operations = {.compile = llm_compile,
                                               .run = llm_run,
                                               .cancel = ask_drop,
                                               .resume = ask_resume,
                                               .recorded = true};

/* ---- classifier ---- */

struct classifier_config {
    struct str model;
    struct plan_text query, instruction;
    yyjson_val *classes;
    struct str schema; /* {"class": one of the ids} */
    struct str task;   /* the system message's fixed part */
};

static void describe_classes(struct json_writer *w, yyjson_val *classes)
{
    size_t i, n;
    yyjson_val *item;
    json_begin_array(w);
    yyjson_arr_foreach(classes, i, n, item)
    {
        json_begin_object(w);
        json_put_string(w, "id", json_get_text(item, "id"));
        json_put_string(w, "name", json_get_text(item, "name"));
        if (json_get_text(item, "description").n)
            json_put_string(w, "description", json_get_text(item, "description"));
        json_end_object(w);
    }
    json_end_array(w);
}

static enum rc classifier_compile(struct plan_build *build, struct err *err)
{
    struct arena *arena = &build->plan->arena;
    yyjson_val *json = build->node->document->config;
    struct classifier_config *config = build->node->config =
        ARENA_NEW(arena, struct classifier_config);
    struct buf out;
    size_t i, n;
    yyjson_val *item;
    if (!config)
        return no_room(err);
    config->model = json_get_text(json, "model");
    config->classes = yyjson_obj_get(json, "classes");
    buf_init(&out, REQUEST_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    json_append(&w, STR("Decide which one of these classes the user's text belongs to. Answer "
                        "with the JSON {\"class\": id} alone.\nClasses: "));
    describe_classes(&w, config->classes);
    config->task = arena_copy(arena, buf_str(&out));
    buf_clear(&out);
    w = json_writer_to(&out);
    json_append(&w, STR("{\"type\":\"object\",\"properties\":{\"class\":{\"type\":\"string\","
                        "\"enum\":"));
    json_begin_array(&w);
    yyjson_arr_foreach(config->classes, i, n, item) json_string(&w, json_get_text(item, "id"));
    json_end_array(&w);
    json_append(&w, STR("}},\"required\":[\"class\"],\"additionalProperties\":false}"));
    config->schema = arena_copy(arena, buf_str(&out));
    buf_fini(&out);
    if (!config->task.p || !config->schema.p)
        return no_room(err);
    enum rc rc = plan_text_compile(build, json_get_text(json, "query"), &config->query, err);
    if (rc == RC_OK)
        rc =
            plan_text_compile(build, json_get_text(json, "instruction"), &config->instruction, err);
    return rc;
}

/* The class that the answer names: as JSON, or by an id or name that stands in it. */
static yyjson_val *find_class(const struct classifier_config *config, struct str text,
                              struct arena *arena)
{
    struct str said = json_get_text(ask_read_json(text, arena), "class");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(config->classes, i, n, item)
    {
        struct str id = json_get_text(item, "id"), name = json_get_text(item, "name");
        if (said.n ? str_eq(said, id) || str_eq_nocase(said, name)
                   : str_eq_nocase(str_trim(text), id) || str_eq_nocase(str_trim(text), name))
            return item;
    }
    return NULL;
}

static void classifier_done(struct step *step, void *arg, const struct ask_answer *answer,
                            const struct err *err)
{
    const struct classifier_config *config = step->plan->config;
    struct err problem = {0};
    struct arena arena;
    struct maker maker;
    UNUSED(arg);
    if (err) {
        step_failed(step, err);
        return;
    }
    arena_init(&arena, RUN_VALUE_BYTES_MAX);
    yyjson_val *class = find_class(config, answer->text, &arena);
    if (!class) {
        err_set(&problem, ERR_UPSTREAM_PROTOCOL, "the model named none of the classes");
        arena_fini(&arena);
        step_failed(step, &problem);
        return;
    }
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("class_id"));
    maker_tree(&maker, yyjson_obj_get(class, "id"));
    maker_key(&maker, STR("class_name"));
    maker_tree(&maker, yyjson_obj_get(class, "name"));
    ask_put_usage(&maker, answer->record, &arena);
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    step_done(step, out, json_get_text(class, "id"));
}

/* A question of two messages: the task with the user's instruction, and the text. */
static void ask_task(struct step *step, struct str model, struct str task, struct str schema,
                     const struct plan_text *instruction, const struct plan_text *text,
                     void (*done)(struct step *, void *, const struct ask_answer *,
                                  const struct err *))
{
    struct err err = {0};
    struct buf body, system;
    buf_init(&body, REQUEST_BYTES_MAX);
    buf_init(&system, REQUEST_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "model", model);
    json_put_int(&w, "temperature", 0);
    ask_put_schema(&w, schema);
    json_key(&w, "messages");
    json_begin_array(&w);
    enum rc rc = buf_append(&system, task);
    if (rc == RC_OK && instruction->raw.n)
        rc = buf_append(&system, STR("\n"));
    if (rc == RC_OK)
        rc = run_render(step->frame, instruction, &step->run->loop->scratch, &system, &err);
    ask_put_words(&w, "system", buf_str(&system));
    if (rc == RC_OK)
        rc = put_message(step, &w, STR("user"), text, &err);
    json_end_array(&w);
    json_end_object(&w);
    if (err.code == ERR_NONE && (rc != RC_OK || w.rc != RC_OK))
        err_set(&err, ERR_TOO_LARGE, "the request to the model is too large");
    if (err.code == ERR_NONE)
        ask_start(step, &(struct ask_options){.body = buf_str(&body), .done = done});
    buf_fini(&body);
    buf_fini(&system);
    if (err.code != ERR_NONE)
        step_failed(step, &err);
}

static void classifier_run(struct step *step)
{
    const struct classifier_config *config = step->plan->config;
    ask_task(step, config->model, config->task, config->schema, &config->instruction,
             &config->query, classifier_done);
}

const struct node_operations classifier_operations = {
    .compile = classifier_compile, .run = classifier_run, .cancel = ask_drop, .recorded = true};

/* ---- parameter extractor ---- */

struct extractor_config {
    struct str model, schema_text;
    struct plan_text text, instruction;
    struct json_schema *schema;
};

static void put_field(struct json_writer *w, yyjson_val *field)
{
    json_key_str(w, json_get_text(field, "name"));
    json_begin_object(w);
    json_put_string(w, "type", json_get_text(field, "type"));
    if (json_get_text(field, "description").n)
        json_put_string(w, "description", json_get_text(field, "description"));
    json_end_object(w);
}

static enum rc extractor_compile(struct plan_build *build, struct err *err)
{
    struct arena *arena = &build->plan->arena;
    yyjson_val *json = build->node->document->config, *field;
    struct extractor_config *config = build->node->config =
        ARENA_NEW(arena, struct extractor_config);
    struct buf out;
    size_t i, n;
    if (!config)
        return no_room(err);
    config->model = json_get_text(json, "model");
    buf_init(&out, REQUEST_BYTES_MAX);
    struct json_writer w = json_writer_to(&out);
    json_begin_object(&w);
    json_put_text(&w, "type", "object");
    json_key(&w, "properties");
    json_begin_object(&w);
    yyjson_arr_foreach(yyjson_obj_get(json, "fields"), i, n, field) put_field(&w, field);
    json_end_object(&w);
    json_key(&w, "required");
    json_begin_array(&w);
    yyjson_arr_foreach(yyjson_obj_get(json, "fields"), i, n,
                       field) if (json_get_bool(field, "required", true))
        json_string(&w, json_get_text(field, "name"));
    json_end_array(&w);
    json_end_object(&w);
    config->schema_text = arena_copy(arena, buf_str(&out));
    buf_fini(&out);
    if (!config->schema_text.p)
        return no_room(err);
    enum rc rc = json_schema_compile(config->schema_text, arena, &config->schema, err);
    if (rc == RC_OK)
        rc = plan_text_compile(build, json_get_text(json, "text"), &config->text, err);
    if (rc == RC_OK)
        rc =
            plan_text_compile(build, json_get_text(json, "instruction"), &config->instruction, err);
    return rc;
}

static void extractor_done(struct step *step, void *arg, const struct ask_answer *answer,
                           const struct err *err)
{
    const struct extractor_config *config = step->plan->config;
    struct json_schema_problem problem = {.message = "it is no JSON"};
    struct err misfit = {0};
    struct arena arena;
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *value;
    UNUSED(arg);
    if (err) {
        step_failed(step, err);
        return;
    }
    arena_init(&arena, RUN_VALUE_BYTES_MAX);
    yyjson_val *json = ask_read_json(answer->text, &arena);
    if (!json || json_schema_check(config->schema, json, &problem) != RC_OK) {
        err_set(&misfit, ERR_UPSTREAM_PROTOCOL, "the model's answer does not fit the fields: %s %s",
                problem.path, problem.message);
        arena_fini(&arena);
        step_failed(step, &misfit);
        return;
    }
    maker_init(&maker, &arena);
    maker_object(&maker);
    ask_put_usage(&maker, answer->record, &arena);
    yyjson_obj_foreach(json, i, n, key, value)
    {
        maker_key(&maker, json_text(key));
        maker_tree(&maker, value);
    }
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    step_done(step, out, STR("out"));
}

static void extractor_run(struct step *step)
{
    const struct extractor_config *config = step->plan->config;
    struct arena *scratch = &step->run->loop->scratch;
    struct str task = arena_printf(
        scratch,
        "Read the values of these fields out of the user's text. Leave out what it does not say. "
        "Answer with the JSON object alone.\nSchema: %.*s",
        STR_ARG(config->schema_text));
    ask_task(step, config->model, task, config->schema_text, &config->instruction, &config->text,
             extractor_done);
}

const struct node_operations extractor_operations = {
    .compile = extractor_compile, .run = extractor_run, .cancel = ask_drop, .recorded = true};
