/* The agent node: a model that calls tools until it can answer.
 *
 * It is a container of two inner levels that no definition shows: `model`, one question, and
 * `call`, one call of a tool. Round r asks in the frame r * 64; its calls run side by side in the
 * frames behind it. So each question and each call is a step of its own, with its own record in the
 * journal ("agent#64/model"), events and limits; and after a crash the agent goes through the
 * rounds again, finds what is known, and asks on from there. What it gathers (agent.h) is never
 * written: it is a function of these results. */
#include "pipeline/nodes/agent.h"
#include "base/utf8.h"
#include "gateway/snapshot.h"
#include "pipeline/nodes/ask.h"
#include "pipeline/engine/loop_private.h"
#include "text/decode.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

#define FRAMES_A_ROUND      64
#define AGENT_BYTES_MAX     (32 * 1024 * 1024) /* of the conversation */
#define STEPS_BYTES_MAX     (8 * 1024 * 1024)
#define AGENT_STEPS_DEFAULT 10

enum { LEVEL_MODEL, LEVEL_CALL, LEVEL_COUNT };

static const struct node_operations model_step_operations, call_step_operations;

/* ---- compiling ---- */

static enum rc no_room(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the definition is too large");
}

static enum rc make_inner(struct plan_build *build, struct agent_config *config)
{
    static const struct str ids[] = {STR_INIT("model"), STR_INIT("call")};
    static const enum node_kind kinds[] = {NODE_LLM, NODE_TOOL};
    struct arena *arena = &build->plan->arena;
    const struct document_node *outer = build->node->document;
    struct plan *plan = config->inner = ARENA_NEW(arena, struct plan);
    struct plan_node *nodes = ARENA_NEW_ARRAY(arena, struct plan_node, LEVEL_COUNT);
    struct plan_level *levels = ARENA_NEW_ARRAY(arena, struct plan_level, LEVEL_COUNT);
    struct document_node *documents = ARENA_NEW_ARRAY(arena, struct document_node, LEVEL_COUNT);
    size_t *numbers = ARENA_NEW_ARRAY(arena, size_t, LEVEL_COUNT);
    if (!plan || !nodes || !levels || !documents || !numbers)
        return RC_LIMIT;
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        numbers[i] = i;
        documents[i] = (struct document_node){.id = ids[i],
                                              .title = ids[i],
                                              .type = node_type_of(kinds[i]),
                                              .parent = NO_NODE,
                                              .config = outer->config};
        nodes[i] = (struct plan_node){
            .index = i, .id = ids[i], .document = &documents[i], .kind = kinds[i], .level = i};
        levels[i] = (struct plan_level){.container = NO_NODE,
                                        .nodes = &numbers[i],
                                        .node_count = 1,
                                        .entries = &numbers[i],
                                        .entry_count = 1};
    }
    documents[LEVEL_MODEL].retry_max = outer->retry_max;
    documents[LEVEL_MODEL].retry_interval_ms = outer->retry_interval_ms;
    nodes[LEVEL_MODEL].operations = &model_step_operations;
    nodes[LEVEL_CALL].operations = &call_step_operations;
    /* It lies in the outer plan's arena, which outlives every frame: its count never falls to 0. */
    *plan = (struct plan){.references = 1,
                          .document = build->plan->document,
                          .nodes = nodes,
                          .node_count = LEVEL_COUNT,
                          .levels = levels,
                          .level_count = LEVEL_COUNT};
    return RC_OK;
}

static enum rc read_tools(struct plan_build *build, struct agent_config *config, struct err *err)
{
    struct arena *arena = &build->plan->arena;
    yyjson_val *list = yyjson_obj_get(config->json, "tools"), *item;
    size_t i, n;
    config->tools = ARENA_NEW_ARRAY(arena, struct agent_tool, yyjson_arr_size(list) + 1);
    if (!config->tools)
        return no_room(err);
    yyjson_arr_foreach(list, i, n, item)
    {
        struct agent_tool *tool = &config->tools[config->tool_count++];
        yyjson_val *definition = yyjson_obj_get(item, "definition");
        enum rc rc = RC_OK;
        tool->name = json_get_text(item, "tool");
        tool->only = yyjson_obj_get(item, "functions");
        if (!tool->name.n && definition) {
            struct str name = json_get_text(item, "name");
            tool->name = name.n ? name : arena_printf(arena, "tool_%zu", i + 1);
            rc = tool_decode(tool->name, definition, arena, &tool->inline_tool, err);
        } else if (!tool->name.n) {
            rc = err_set_field(err, ERR_MISSING_FIELD, "tools", "choose a tool");
        }
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

static enum rc agent_compile(struct plan_build *build, struct err *err)
{
    struct agent_config *config = build->node->config =
        ARENA_NEW(&build->plan->arena, struct agent_config);
    if (!config || make_inner(build, config) != RC_OK)
        return no_room(err);
    yyjson_val *json = config->json = build->node->document->config,
               *memory = yyjson_obj_get(json, "memory");
    config->model = json_get_text(json, "model");
    config->strategy = str_eq(json_get_text(json, "strategy"), STR("react"))
                           ? AGENT_REACT
                           : AGENT_FUNCTION_CALLING;
    config->steps_max = (uint32_t)json_get_int(json, "steps_max", AGENT_STEPS_DEFAULT);
    config->tokens_max = json_get_int(json, "tokens_max", 0);
    config->cost_pico_max =
        (int64_t)(json_get_double(json, "cost_usd_max", 0) * (double)PICO_PER_DOLLAR);
    config->window = memory ? json_get_int(memory, "window", 10) : 0;
    config->parallel = json_get_bool(json, "parallel", true);
    enum rc rc =
        plan_text_compile(build, json_get_text(json, "instruction"), &config->instruction, err);
    if (rc == RC_OK)
        rc = plan_text_compile(build, json_get_text(json, "query"), &config->query, err);
    return rc == RC_OK ? read_tools(build, config, err) : rc;
}

/* ---- life ---- */

static void forget_turn(struct agent *agent)
{
    for (uint32_t i = 0; i < agent->call_count; i++)
        value_unref(agent->calls[i].result);
    memset(agent->calls, 0, sizeof(agent->calls));
    agent->call_count = 0;
    value_unref(agent->turn);
    agent->turn = NULL;
}

/* Without its flow, which frames may still name. */
static void agent_free(struct agent *agent)
{
    forget_turn(agent);
    if (agent->listing)
        tool_listing_cancel(agent->listing);
    if (agent->snapshot)
        snapshot_unref(agent->snapshot);
    buf_fini(&agent->messages);
    buf_fini(&agent->steps);
    buf_fini(&agent->said);
    arena_fini(&agent->arena);
    free(agent);
}

/* Ends the node. `frame`: the inner one that has ended, or NULL. `out` NULL: err tells. */
static void agent_end(struct agent *agent, struct frame *frame, struct value *out,
                      const struct err *err)
{
    struct step *step = agent->step;
    struct err copy = err ? *err : (struct err){0};
    step->partial = STR_EMPTY;
    if (frame)
        frame->dead_flow = agent->flow;
    else if (agent->flow)
        flow_free(agent->flow);
    step->work = NULL;
    agent_free(agent);
    if (!err) {
        step_done(step, out, STR("out"));
        return;
    }
    if (frame)
        step->attempt = UINT8_MAX; /* the question was repeated as often as the node says */
    step_failed(step, &copy);
}

static void agent_fail(struct agent *agent, struct frame *frame, enum err_code code,
                       const char *words)
{
    struct err err = {0};
    err_set(&err, code, "%s", words);
    agent_end(agent, frame, NULL, &err);
}

static void agent_cancel(struct step *step)
{
    struct agent *agent = step->work;
    step->work = NULL;
    step->partial = STR_EMPTY;
    if (!agent)
        return;
    step_drop_frames(step);
    flow_free(agent->flow);
    agent_free(agent);
}

/* ---- the conversation ---- */

static struct json_writer open_list(struct buf *list)
{
    struct json_writer w = json_writer_to(list);
    w.comma = buf_len(list) > 0;
    return w;
}

static enum rc render(struct agent *agent, const struct plan_text *text, struct str *out,
                      struct err *err)
{
    struct step *step = agent->step;
    struct buf buf;
    buf_init(&buf, AGENT_BYTES_MAX);
    enum rc rc = run_render(step->frame, text, &step->run->loop->scratch, &buf, err);
    *out = rc == RC_OK ? arena_copy(&agent->arena, buf_str(&buf)) : STR_EMPTY;
    buf_fini(&buf);
    return rc == RC_OK && !out->p ? no_room(err) : rc;
}

static enum rc begin_messages(struct agent *agent, struct err *err)
{
    const struct agent_config *config = agent->step->plan->config;
    struct json_writer w = open_list(&agent->messages);
    struct str instruction, query;
    enum rc rc = render(agent, &config->instruction, &instruction, err);
    if (rc == RC_OK)
        rc = render(agent, &config->query, &query, err);
    if (rc != RC_OK)
        return rc;
    bool react = config->strategy == AGENT_REACT && agent->function_count;
    if (instruction.n || react) {
        json_begin_object(&w);
        json_put_text(&w, "role", "system");
        json_key(&w, "content");
        json_append(&w, STR("\""));
        json_append_escaped(&w, instruction);
        if (instruction.n && react)
            json_append_escaped(&w, STR("\n\n"));
        if (react)
            agent_react_describe(agent, &w);
        json_append(&w, STR("\""));
        w.comma = true;
        json_end_object(&w);
    }
    if (config->window)
        ask_put_history(agent->step, &w, config->window);
    json_begin_object(&w);
    json_put_text(&w, "role", "user");
    json_put_string(&w, "content", query);
    json_end_object(&w);
    return w.rc == RC_OK ? RC_OK : err_set(err, ERR_TOO_LARGE, "the conversation is too long");
}

/* ---- which functions there are ---- */

static bool is_chosen(const struct agent_tool *tool, struct str name)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(tool->only, i, n, item)
    {
        if (str_eq(json_text(item), name))
            return true;
    }
    return yyjson_arr_size(tool->only) == 0;
}

static bool is_taken(const struct agent *agent, struct str name)
{
    for (size_t i = 0; i < agent->function_count; i++)
        if (str_eq(agent->functions[i].shown, name))
            return true;
    return false;
}

/* `known`: the functions lie in the tool, and stay. */
static enum rc add_functions(struct agent *agent, const struct agent_tool *from,
                             const struct tool *tool, const struct tool_function *functions,
                             size_t count, bool known)
{
    for (size_t i = 0; i < count; i++) {
        const struct tool_function *function = &functions[i];
        if (!is_chosen(from, function->name))
            continue;
        if (agent->function_count == AGENT_FUNCTIONS_MAX)
            return RC_LIMIT;
        struct agent_function *out = &agent->functions[agent->function_count];
        *out =
            (struct agent_function){.name = arena_copy(&agent->arena, function->name),
                                    .description = arena_copy(&agent->arena, function->description),
                                    .parameters = arena_copy(&agent->arena, function->parameters),
                                    .tool = tool,
                                    .function = known ? function : NULL,
                                    .safe = function->safe};
        out->shown = tool_function_name(out->name, &agent->arena);
        for (int k = 2; out->shown.p && is_taken(agent, out->shown); k++) {
            struct str longer = k == 2
                                    ? arena_printf(&agent->arena, "%.*s_%.*s", STR_ARG(from->name),
                                                   STR_ARG(out->name))
                                    : arena_printf(&agent->arena, "%d_%.*s", k, STR_ARG(out->name));
            out->shown = tool_function_name(longer, &agent->arena);
        }
        if (!out->shown.p || !out->parameters.p)
            return RC_LIMIT;
        agent->function_count++;
    }
    return RC_OK;
}

/* NULL: there is none of that name. */
static const struct tool *tool_of(const struct agent *agent, const struct agent_tool *from)
{
    if (from->inline_tool)
        return from->inline_tool;
    const struct project *project =
        agent->snapshot ? snapshot_project(agent->snapshot, agent->step->run->principal.project)
                        : NULL;
    return project ? map_get(&project->tools, from->name) : NULL;
}

static void agent_bind(struct agent *agent);

static void on_listed(void *arg, const struct tool_function *functions, size_t count,
                      const struct err *err)
{
    struct agent *agent = arg;
    struct run *run = agent->step->run;
    const struct agent_config *config = agent->step->plan->config;
    const struct agent_tool *from = &config->tools[agent->bound];
    struct err problem = {0};
    agent->listing = NULL;
    if (err) {
        problem = *err;
        err_prefix(&problem, "the tool '%.*s': ", STR_ARG(from->name));
        agent_end(agent, NULL, NULL, &problem);
        if (!run->finishing)
            run_pump(run);
        return;
    }
    const struct tool *tool = tool_of(agent, from);
    enum rc rc = add_functions(agent, from, tool, functions, count, false);
    agent->bound++;
    if (rc != RC_OK) {
        agent_fail(agent, NULL, ERR_TOO_LARGE, "the agent has too many tools");
        return;
    }
    agent_bind(agent);
    if (!run->finishing)
        run_pump(run);
}

static void begin_round(struct agent *agent)
{
    frame_begin(agent->step, agent->flow, LEVEL_MODEL, agent->round * FRAMES_A_ROUND, NULL, NULL);
}

/* Asks one tool after the other for its functions, then begins. */
static void agent_bind(struct agent *agent)
{
    const struct agent_config *config = agent->step->plan->config;
    struct run *run = agent->step->run;
    struct err err = {0};
    for (; agent->bound < config->tool_count; agent->bound++) {
        const struct agent_tool *from = &config->tools[agent->bound];
        const struct tool *tool = tool_of(agent, from);
        if (!tool) {
            err_set(&err, ERR_NOT_FOUND, "there is no tool '%.*s'", STR_ARG(from->name));
            agent_end(agent, NULL, NULL, &err);
            return;
        }
        if (!tool->function_count) {
            struct step *step = agent->step;
            struct tool_listing *listing =
                tool_list(run->loop, run->principal.project, tool, on_listed, agent);
            if (listing && step->work == agent)
                agent->listing = listing;
            return;
        }
        if (add_functions(agent, from, tool, tool->functions, tool->function_count, true) !=
            RC_OK) {
            agent_fail(agent, NULL, ERR_TOO_LARGE, "the agent has too many tools");
            return;
        }
    }
    if (begin_messages(agent, &err) != RC_OK)
        agent_end(agent, NULL, NULL, &err);
    else
        begin_round(agent);
}

static void agent_run(struct step *step)
{
    const struct agent_config *config = step->plan->config;
    struct run *run = step->run;
    struct err err = {0};
    if (frame_flow_depth(step->frame) >= FLOW_DEPTH_MAX) {
        err_set(&err, ERR_INVALID, "pipelines and agents call each other too deep");
        step_failed(step, &err);
        return;
    }
    struct agent *agent = step->work = xcalloc(1, sizeof(*agent));
    agent->step = step;
    arena_init(&agent->arena, AGENT_BYTES_MAX);
    buf_init(&agent->messages, AGENT_BYTES_MAX);
    buf_init(&agent->steps, STEPS_BYTES_MAX);
    buf_init(&agent->said, RUN_TEXT_BYTES_MAX);
    agent->functions = ARENA_NEW_ARRAY(&agent->arena, struct agent_function, AGENT_FUNCTIONS_MAX);
    ASSERT(agent->functions);
    agent->flow = flow_new(config->inner);
    agent->flow->sys = value_ref(step->frame->flow->sys);
    if (snapshot_current())
        agent->snapshot = snapshot_ref(snapshot_current());
    agent_bind(agent);
    if (!run->finishing)
        run_pump(run);
}

/* ---- a question: the inner step `model` ---- */

static struct agent *agent_of(const struct step *inner) { return inner->frame->owner->work; }

static bool must_answer(const struct agent *agent)
{
    const struct agent_config *config = agent->step->plan->config;
    return agent->round + 1 >= config->steps_max;
}

static void put_tools(const struct agent *agent, struct json_writer *w)
{
    const struct agent_config *config = agent->step->plan->config;
    json_key(w, "tools");
    json_begin_array(w);
    for (size_t i = 0; i < agent->function_count; i++) {
        const struct agent_function *function = &agent->functions[i];
        json_begin_object(w);
        json_put_text(w, "type", "function");
        json_key(w, "function");
        json_begin_object(w);
        json_put_string(w, "name", function->shown);
        json_put_string(w, "description", function->description);
        json_put_raw(w, "parameters", function->parameters);
        json_end_object(w);
        json_end_object(w);
    }
    json_end_array(w);
    json_put_text(w, "tool_choice", must_answer(agent) ? "none" : "auto");
    if (!config->parallel)
        json_put_bool(w, "parallel_tool_calls", false);
}

/* In ReAct only the final answer is for the reader. */
static void on_grown(struct step *inner, void *arg, struct str text)
{
    struct agent *agent = arg;
    const struct agent_config *config = agent->step->plan->config;
    UNUSED(inner);
    if (config->strategy == AGENT_REACT) {
        ssize_t at = agent_react_final(text);
        text = at < 0 ? STR_EMPTY : str_slice(text, (size_t)at, text.n);
    }
    agent->said.end = agent->said.start + agent->said_before;
    if (text.n && buf_append(&agent->said, text) == RC_OK)
        agent->step->partial = buf_str(&agent->said);
}

static void model_done(struct step *inner, void *arg, const struct ask_answer *answer,
                       const struct err *err)
{
    struct arena arena;
    struct maker maker;
    UNUSED(arg);
    if (err) {
        step_failed(inner, err);
        return;
    }
    arena_init(&arena, RUN_VALUE_BYTES_MAX);
    maker_init(&maker, &arena);
    maker_object(&maker);
    maker_key(&maker, STR("text"));
    maker_text(&maker, answer->text);
    if (yyjson_arr_size(answer->tool_calls)) {
        maker_key(&maker, STR("tool_calls"));
        maker_tree(&maker, answer->tool_calls);
    }
    ask_put_origin(&maker, answer, &arena);
    maker_end(&maker);
    struct value *out = maker_pack(&maker);
    arena_fini(&arena);
    step_done(inner, out, STR("out"));
}

static void model_step_run(struct step *inner)
{
    static const char *const passed[] = {"temperature", "max_tokens"};
    struct agent *agent = agent_of(inner);
    const struct agent_config *config = agent->step->plan->config;
    struct err err = {0};
    struct buf body;
    buf_init(&body, AGENT_BYTES_MAX);
    struct json_writer w = json_writer_to(&body);
    json_begin_object(&w);
    json_put_string(&w, "model", config->model);
    for (size_t i = 0; i < COUNT_OF(passed); i++)
        if (yyjson_obj_get(config->json, passed[i]))
            json_put_value(&w, passed[i], yyjson_obj_get(config->json, passed[i]));
    if (config->strategy == AGENT_REACT)
        json_put_raw(&w, "stop", STR("[\"Observation:\"]"));
    else if (agent->function_count)
        put_tools(agent, &w);
    json_key(&w, "messages");
    json_append(&w, STR("["));
    json_append(&w, buf_str(&agent->messages));
    json_append(&w, STR("]}"));
    int64_t most = config->cost_pico_max ? config->cost_pico_max - agent->cost_pico : 0;
    if (w.rc != RC_OK)
        err_set(&err, ERR_TOO_LARGE, "the request to the model is too large");
    else if (most < 0 || (config->tokens_max &&
                          agent->input_tokens + agent->output_tokens >= config->tokens_max))
        err_set(&err, ERR_BUDGET, "the agent has used up what it may spend");
    else
        ask_start(inner, &(struct ask_options){.body = buf_str(&body),
                                               .stream = ask_wants_stream(agent->step),
                                               .grown = on_grown,
                                               .budget_pico_max = most,
                                               .arg = agent,
                                               .done = model_done});
    buf_fini(&body);
    if (err.code != ERR_NONE)
        step_failed(inner, &err);
}

static void model_step_cancel(struct step *inner)
{
    if (inner->work)
        (void)ask_cancel(inner);
}

static const struct node_operations model_step_operations = {
    .run = model_step_run, .cancel = model_step_cancel, .resume = ask_resume, .recorded = true};

/* ---- a call: the inner step `call` ---- */

static void call_step_run(struct step *inner)
{
    struct agent *agent = agent_of(inner);
    uint32_t number = inner->frame->index % FRAMES_A_ROUND - 1;
    ASSERT(number < agent->call_count);
    const struct agent_call *call = &agent->calls[number];
    struct err err = {0};
    if (!call->function)
        err_set(&err, ERR_NOT_FOUND, "there is no tool '%.*s'", STR_ARG(call->name));
    else if (!call->arguments)
        err_set(&err, ERR_BAD_JSON, "the arguments are no JSON object");
    if (err.code != ERR_NONE) {
        step_failed(inner, &err);
        return;
    }
    tool_call_start(inner, &(struct tool_call_options){.tool = call->function->tool,
                                                       .snapshot = agent->snapshot,
                                                       .function = call->function->function,
                                                       .name = call->function->name,
                                                       .arguments = call->arguments,
                                                       .safe = call->function->safe});
}

static const struct node_operations call_step_operations = {.run = call_step_run,
                                                            .cancel = tool_call_cancel,
                                                            .frame_ended = tool_call_frame_ended,
                                                            .recorded = true};

/* ---- from step to step ---- */

static const struct agent_function *find_function(const struct agent *agent, struct str shown)
{
    for (size_t i = 0; i < agent->function_count; i++)
        if (str_eq(agent->functions[i].shown, shown))
            return &agent->functions[i];
    return NULL;
}

static yyjson_val *parse_arguments(struct agent *agent, struct str text)
{
    yyjson_doc *doc;
    text = str_trim(text);
    if (!text.n)
        text = STR("{}");
    if (json_read(text, &agent->arena, &doc, NULL) != RC_OK)
        return NULL;
    yyjson_val *root = yyjson_doc_get_root(doc);
    return yyjson_is_obj(root) ? root : NULL;
}

static void add_call(struct agent *agent, struct str id, struct str name, struct str arguments)
{
    agent->calls[agent->call_count++] =
        (struct agent_call){.id = id,
                            .name = name,
                            .arguments = parse_arguments(agent, arguments),
                            .function = find_function(agent, name)};
}

/* Into calls: what the model's last answer asks for. */
static void read_calls(struct agent *agent)
{
    const struct agent_config *config = agent->step->plan->config;
    yyjson_val *turn = value_json(agent->turn), *item;
    struct str text = json_get_text(turn, "text"), name, input;
    size_t i, n;
    if (config->strategy == AGENT_REACT) {
        if (agent_react_final(text) < 0 && agent_react_action(text, &name, &input))
            add_call(agent, STR("0"), name, input);
        return;
    }
    yyjson_arr_foreach(yyjson_obj_get(turn, "tool_calls"), i, n, item)
    {
        yyjson_val *function = yyjson_obj_get(item, "function");
        if (agent->call_count < AGENT_CALLS_MAX)
            add_call(agent, json_get_text(item, "id"), json_get_text(function, "name"),
                     json_get_text(function, "arguments"));
    }
}

static void count_usage(struct agent *agent)
{
    yyjson_val *usage = yyjson_obj_get(value_json(agent->turn), "usage");
    int64_t cost = 0;
    agent->model_calls++;
    agent->input_tokens += json_get_int(usage, "input_tokens", 0);
    agent->output_tokens += json_get_int(usage, "output_tokens", 0);
    if (dollars_parse(json_get_text(usage, "cost_usd"), &cost) == RC_OK)
        agent->cost_pico += cost;
}

/* The words of this step that are for the reader. */
static struct str words_of(const struct agent *agent)
{
    const struct agent_config *config = agent->step->plan->config;
    struct str text = json_get_text(value_json(agent->turn), "text");
    if (config->strategy != AGENT_REACT)
        return text;
    ssize_t at = agent_react_final(text);
    if (at >= 0)
        return str_slice(text, (size_t)at, text.n);
    return agent->call_count ? STR_EMPTY
                             : text; /* it kept to no form: what it said is the answer */
}

static void say(struct agent *agent)
{
    struct str words = words_of(agent);
    agent->said.end = agent->said.start + agent->said_before;
    if (words.n)
        (void)!buf_append(&agent->said, words);
    if (words.n && agent->call_count)
        (void)!buf_append(&agent->said, STR("\n\n"));
    agent->said_before = buf_len(&agent->said);
    if (buf_len(&agent->said))
        agent->step->partial = buf_str(&agent->said);
}

static void note_turn(struct agent *agent)
{
    yyjson_val *turn = value_json(agent->turn);
    struct json_writer w = open_list(&agent->steps);
    json_begin_object(&w);
    json_put_text(&w, "type", "model");
    json_put_int(&w, "round", agent->round);
    json_put_value(&w, "text", yyjson_obj_get(turn, "text"));
    if (yyjson_obj_get(turn, "tool_calls"))
        json_put_value(&w, "tool_calls", yyjson_obj_get(turn, "tool_calls"));
    json_put_value(&w, "model", yyjson_obj_get(turn, "model"));
    json_put_value(&w, "usage", yyjson_obj_get(turn, "usage"));
    json_end_object(&w);
    if (w.rc != RC_OK)
        agent->steps.end = agent->steps.start; /* begins anew: only the last ones are kept */
}

static struct value *make_outputs(struct agent *agent, struct str finish)
{
    struct maker maker;
    yyjson_doc *doc;
    struct str list = arena_printf(&agent->arena, "[%.*s]", STR_ARG(buf_str(&agent->steps)));
    bool read = list.p && json_read(list, &agent->arena, &doc, NULL) == RC_OK;
    maker_init(&maker, &agent->arena);
    maker_object(&maker);
    maker_key(&maker, STR("text"));
    maker_text(&maker, buf_str(&agent->said));
    maker_key(&maker, STR("answer"));
    maker_text(&maker, words_of(agent));
    maker_key(&maker, STR("steps"));
    maker_tree(&maker, read ? yyjson_doc_get_root(doc) : NULL);
    maker_key(&maker, STR("usage"));
    maker_object(&maker);
    maker_key(&maker, STR("input_tokens"));
    maker_int(&maker, agent->input_tokens);
    maker_key(&maker, STR("output_tokens"));
    maker_int(&maker, agent->output_tokens);
    maker_key(&maker, STR("cost_usd"));
    maker_text(&maker, arena_printf(&agent->arena, "%lld.%012lld",
                                    (long long)(agent->cost_pico / PICO_PER_DOLLAR),
                                    (long long)(agent->cost_pico % PICO_PER_DOLLAR)));
    maker_key(&maker, STR("model_calls"));
    maker_int(&maker, agent->model_calls);
    maker_key(&maker, STR("tool_calls"));
    maker_int(&maker, agent->tool_calls);
    maker_end(&maker);
    maker_key(&maker, STR("finish_reason"));
    maker_text(&maker, finish);
    maker_end(&maker);
    return maker_pack(&maker);
}

/* The model has answered: it is done, or its calls begin. */
static void take_turn(struct agent *agent, struct frame *frame)
{
    struct run *run = agent->step->run;
    forget_turn(agent);
    agent->turn = value_ref(frame->slots[0].out);
    count_usage(agent);
    read_calls(agent);
    bool last = must_answer(agent), calls = agent->call_count > 0;
    note_turn(agent);
    if (last)
        agent->call_count = 0;
    say(agent);
    if (last || !calls) {
        struct str finish = json_get_text(value_json(agent->turn), "finish_reason");
        finish = last && calls                   ? STR("steps")
                 : str_eq(finish, STR("length")) ? finish
                                                 : STR("stop");
        struct value *out = make_outputs(agent, finish);
        agent_end(agent, frame, out, NULL);
        return;
    }
    if (run->answers && !run->finishing)
        answers_advance(run);
    agent->calls_open = agent->call_count;
    for (uint32_t i = 0; i < agent->call_count; i++)
        frame_begin(agent->step, agent->flow, LEVEL_CALL, agent->round * FRAMES_A_ROUND + 1 + i,
                    NULL, NULL);
}

/* What the model reads of a call's result. */
static struct str observation(struct agent *agent, const struct agent_call *call)
{
    if (!call->result)
        return arena_printf(&agent->arena, "Error: %s", call->error);
    yyjson_val *json = value_json(call->result);
    yyjson_val *tree = yyjson_obj_get(json, "json");
    struct str text = json_get_text(json, "text");
    if (!text.n)
        text = tree && !yyjson_is_null(tree) ? json_write(tree, &agent->arena) : STR("");
    if (text.n <= AGENT_RESULT_BYTES_MAX)
        return text;
    return arena_printf(&agent->arena, "%.*s\n[cut: %zu bytes in all]",
                        (int)utf8_cut(text, AGENT_RESULT_BYTES_MAX), text.p, text.n);
}

static void note_call(struct agent *agent, const struct agent_call *call)
{
    struct json_writer w = open_list(&agent->steps);
    json_begin_object(&w);
    json_put_text(&w, "type", "tool");
    json_put_int(&w, "round", agent->round);
    json_put_string(&w, "name", call->name);
    json_key(&w, "arguments");
    if (call->arguments)
        json_value(&w, call->arguments);
    else
        json_null(&w);
    if (call->result)
        json_put_string(&w, "result", call->seen);
    else
        json_put_text(&w, "error", call->error);
    json_end_object(&w);
    if (w.rc != RC_OK)
        agent->steps.end = agent->steps.start;
}

static void put_function_results(struct agent *agent, struct json_writer *w)
{
    yyjson_val *turn = value_json(agent->turn);
    struct str text = json_get_text(turn, "text");
    yyjson_val *item;
    size_t i, n;
    json_begin_object(w);
    json_put_text(w, "role", "assistant");
    if (text.n)
        json_put_string(w, "content", text);
    else
        json_put_null(w, "content");
    json_put_value(w, "tool_calls", yyjson_obj_get(turn, "tool_calls"));
    json_end_object(w);
    yyjson_arr_foreach(yyjson_obj_get(turn, "tool_calls"), i, n, item)
    {
        struct str seen =
            i < agent->call_count ? agent->calls[i].seen : STR("Error: too many calls at once");
        json_begin_object(w);
        json_put_text(w, "role", "tool");
        json_put_value(w, "tool_call_id", yyjson_obj_get(item, "id"));
        json_put_string(w, "content", seen);
        json_end_object(w);
    }
}

static void put_react_result(struct agent *agent, struct json_writer *w)
{
    struct str seen =
        arena_printf(&agent->arena, "Observation: %.*s", STR_ARG(agent->calls[0].seen));
    json_begin_object(w);
    json_put_text(w, "role", "assistant");
    json_put_value(w, "content", yyjson_obj_get(value_json(agent->turn), "text"));
    json_end_object(w);
    json_begin_object(w);
    json_put_text(w, "role", "user");
    json_put_string(w, "content", seen);
    json_end_object(w);
}

/* All calls of the round have ended. */
static void next_round(struct agent *agent, struct frame *frame)
{
    const struct agent_config *config = agent->step->plan->config;
    struct json_writer w = open_list(&agent->messages);
    bool room = true;
    for (uint32_t i = 0; i < agent->call_count; i++) {
        struct agent_call *call = &agent->calls[i];
        call->seen = observation(agent, call);
        room = room && call->seen.p;
        note_call(agent, call);
    }
    if (config->strategy == AGENT_REACT)
        put_react_result(agent, &w);
    else
        put_function_results(agent, &w);
    agent->tool_calls += agent->call_count;
    if (w.rc != RC_OK || !room) {
        agent_fail(agent, frame, ERR_TOO_LARGE, "the conversation is too long");
        return;
    }
    agent->round++;
    begin_round(agent);
}

static void agent_frame_ended(struct step *step, struct frame *frame, const struct err *err)
{
    struct agent *agent = step->work;
    uint32_t number = frame->index % FRAMES_A_ROUND;
    if (number == 0) {
        if (err)
            agent_end(agent, frame, NULL, err);
        else
            take_turn(agent, frame);
        return;
    }
    struct agent_call *call = &agent->calls[number - 1];
    if (err)
        snprintf(call->error, sizeof(call->error), "%s", err->message);
    else
        call->result = value_ref(frame->slots[0].out);
    if (--agent->calls_open == 0)
        next_round(agent, frame);
}

const struct node_operations agent_operations = {.compile = agent_compile,
                                                 .run = agent_run,
                                                 .cancel = agent_cancel,
                                                 .frame_ended = agent_frame_ended,
                                                 .recorded = true};
