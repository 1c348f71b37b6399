/* The rules of Dify's nodes that ask models, collections and tools. Names of models, collections
 * and tools are those of another installation: they are kept where nothing else is told, and
 * listed, so that whoever imports can say what they are here. */
#include "pipeline/files/dify_private.h"
#include "pipeline/tools/tool.h"

static void put(struct dify *d, yyjson_mut_val *o, const char *name, struct str text)
{
    json_set_text(d->doc, o, name, text);
}

static void add_once(struct dify *d, yyjson_mut_val *list, struct str name)
{
    size_t i, n;
    yyjson_mut_val *item;
    yyjson_mut_arr_foreach(list, i, n,
                           item) if (yyjson_mut_equals_strn(item, name.p, name.n)) return;
    yyjson_mut_arr_append(list, json_new_text(d->doc, name));
}

/* "author/plugin/provider" and "name" → "provider/name". */
struct str dify_model(struct dify *d, yyjson_val *model)
{
    struct str provider = json_get_text(model, "provider"), name = json_get_text(model, "name");
    if (!name.n)
        name = json_get_text(model, "model"); /* of an agent */
    ssize_t slash = str_rfind_char(provider, '/');
    provider = str_slice(provider, (size_t)(slash + 1), provider.n);
    struct str there =
        !provider.n ? name : arena_printf(d->arena, "%.*s/%.*s", STR_ARG(provider), STR_ARG(name));
    if (!there.n) {
        dify_note(d, true, "model", "no model is chosen");
        there = STR("model");
    }
    add_once(d, d->models, there);
    return import_name_find(d->options->models, d->options->model_count, there);
}

/* Numbers that are given as numbers, or as texts. */
static void put_parameters(struct dify *d, yyjson_mut_val *config, yyjson_val *params, bool all)
{
    static const char *const known[] = {"temperature", "top_p", "max_tokens"};
    size_t i, n, k;
    yyjson_val *key, *value;
    yyjson_obj_foreach(params, i, n, key, value)
    {
        for (k = 0; k < COUNT_OF(known) && !yyjson_equals_str(key, known[k]); k++)
            ;
        if (k < COUNT_OF(known) && yyjson_is_num(value) && (all || k != 1))
            yyjson_mut_obj_add_val(d->doc, config, known[k], yyjson_val_mut_copy(d->doc, value));
        else if (all && yyjson_equals_str(key, "stop") && yyjson_is_arr(value) &&
                 yyjson_arr_size(value) <= 4)
            yyjson_mut_obj_add_val(d->doc, config, "stop", yyjson_val_mut_copy(d->doc, value));
        else
            dify_note(d, false, "model", "the parameter '%.*s' is left out",
                      STR_ARG(json_text(key)));
    }
}

static void put_memory(struct dify *d, yyjson_mut_val *config, yyjson_val *memory)
{
    yyjson_val *window = yyjson_obj_get(memory, "window");
    int64_t size = json_get_int(window, "size", 50), parsed;
    if (str_to_i64(json_get_text(window, "size"), &parsed) == RC_OK)
        size = parsed;
    if (!json_get_bool(window, "enabled", false))
        size = 100;
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(d->doc, config, "memory");
    yyjson_mut_obj_add_int(d->doc, o, "window", MAX(0, MIN(size, 100)));
}

/* ---- llm ---- */

/* What {{#context#}} stands for. */
static struct str context_text(struct dify *d, yyjson_val *context)
{
    yyjson_val *selector = yyjson_obj_get(context, "variable_selector");
    if (!json_get_bool(context, "enabled", false) || !dify_is_selector(selector))
        return STR_EMPTY;
    struct dify_node *source = dify_find(d, dify_id_text(d, yyjson_arr_get_first(selector)));
    if (source && !source->dropped && str_eq(source->type, STR("knowledge-retrieval")))
        return arena_printf(d->arena, "{{ %.*s.text }}", STR_ARG(source->name));
    return dify_print(d, selector, "context");
}

static void add_message(struct dify *d, yyjson_mut_val *list, struct str role, struct str text)
{
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
    bool known = str_eq(role, STR("system")) || str_eq(role, STR("assistant"));
    put(d, o, "role", known ? role : STR("user"));
    put(d, o, "content", text);
}

static struct str prompt_text(struct dify *d, yyjson_val *item, yyjson_val *variables,
                              struct str context)
{
    if (str_eq(json_get_text(item, "edition_type"), STR("jinja2")))
        return dify_jinja(d, json_get_text(item, "jinja2_text"), variables, "messages");
    return dify_template(d, json_get_text(item, "text"), context, "messages");
}

static void put_messages(struct dify *d, yyjson_mut_val *config, yyjson_val *data)
{
    yyjson_val *prompt = yyjson_obj_get(data, "prompt_template"), *item,
               *memory = yyjson_obj_get(data, "memory");
    yyjson_val *variables =
        yyjson_obj_get(yyjson_obj_get(data, "prompt_config"), "jinja2_variables");
    struct str context = context_text(d, yyjson_obj_get(data, "context"));
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(d->doc, config, "messages");
    size_t i, n;
    if (yyjson_is_obj(prompt)) /* a completion model's */
        add_message(d, list, STR("user"), prompt_text(d, prompt, variables, context));
    yyjson_arr_foreach(prompt, i, n, item)
        add_message(d, list, json_get_text(item, "role"), prompt_text(d, item, variables, context));
    if (!yyjson_is_obj(memory))
        return;
    struct str query = json_get_text(memory, "query_prompt_template");
    put_memory(d, config, memory);
    if (yyjson_is_arr(prompt) && d->chat) /* history goes in front of the last user message */
        add_message(
            d, list, STR("user"),
            dify_template(d, query.n ? query : STR("{{#sys.query#}}"), context, "messages"));
}

DIFY_MAP(llm)
{
    yyjson_val *data = node->data, *vision = yyjson_obj_get(data, "vision"),
               *output = yyjson_obj_get(data, "structured_output");
    yyjson_val *files = yyjson_obj_get(yyjson_obj_get(vision, "configs"), "variable_selector");
    put(d, config, "model", dify_model(d, yyjson_obj_get(data, "model")));
    put_messages(d, config, data);
    put_parameters(d, config, yyjson_obj_get(yyjson_obj_get(data, "model"), "completion_params"),
                   true);
    if (json_get_bool(vision, "enabled", false) && dify_is_selector(files))
        put(d, config, "images", dify_path(d, files, "images"));
    bool structured = json_get_bool(data, "structured_output_enabled", false) ||
                      json_get_bool(data, "structured_output_switch_on", false);
    yyjson_val *schema = yyjson_obj_get(output, "schema");
    if (structured && yyjson_is_obj(schema))
        yyjson_mut_obj_add_val(d->doc, config, "output_schema",
                               yyjson_val_mut_copy(d->doc, schema));
}

/* ---- classifier, extractor ---- */

static void note_extras(struct dify *d, yyjson_val *data)
{
    if (yyjson_is_obj(yyjson_obj_get(data, "memory")))
        dify_note(d, false, "memory", "the conversation's history is not given to this node");
    if (json_get_bool(yyjson_obj_get(data, "vision"), "enabled", false))
        dify_note(d, true, "vision", "this node does not look at images here");
}

DIFY_MAP(classifier)
{
    yyjson_val *data = node->data, *item;
    size_t i, n;
    put(d, config, "model", dify_model(d, yyjson_obj_get(data, "model")));
    put(d, config, "query",
        dify_print(d, yyjson_obj_get(data, "query_variable_selector"), "query"));
    if (json_get_text(data, "instruction").n)
        put(d, config, "instruction",
            dify_template(d, json_get_text(data, "instruction"), STR_EMPTY, "instruction"));
    yyjson_mut_val *classes = yyjson_mut_obj_add_arr(d->doc, config, "classes");
    yyjson_arr_foreach(yyjson_obj_get(data, "classes"), i, n, item)
    {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, classes);
        struct str name = json_get_text(item, "name"), label = json_get_text(item, "label");
        put(d, o, "id", dify_port(d, dify_id_text(d, yyjson_obj_get(item, "id"))));
        put(d, o, "name", str_slice(name, 0, MIN(name.n, (size_t)256)));
        if (label.n)
            put(d, o, "description", label);
    }
    note_extras(d, data);
}

static struct str field_type(struct str type)
{
    if (str_eq(type, STR("bool")) || str_eq(type, STR("boolean")))
        return STR("boolean");
    if (str_starts(type, STR("array")))
        return STR("array");
    return str_eq(type, STR("number")) || str_eq(type, STR("object")) ? type : STR("string");
}

DIFY_MAP(extractor)
{
    yyjson_val *data = node->data, *item;
    size_t i, n;
    put(d, config, "model", dify_model(d, yyjson_obj_get(data, "model")));
    put(d, config, "text", dify_print(d, yyjson_obj_get(data, "query"), "text"));
    if (json_get_text(data, "instruction").n)
        put(d, config, "instruction",
            dify_template(d, json_get_text(data, "instruction"), STR_EMPTY, "instruction"));
    yyjson_mut_val *fields = yyjson_mut_obj_add_arr(d->doc, config, "fields");
    yyjson_arr_foreach(yyjson_obj_get(data, "parameters"), i, n, item)
    {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, fields);
        yyjson_val *options = yyjson_obj_get(item, "options");
        struct str about = json_get_text(item, "description");
        put(d, o, "name", dify_identifier(d, json_get_text(item, "name")));
        put(d, o, "type", field_type(json_get_text(item, "type")));
        if (yyjson_arr_size(options))
            about = arena_printf(d->arena, "%.*s (one of %.*s)", STR_ARG(about),
                                 STR_ARG(json_write(options, d->arena)));
        put(d, o, "description", about);
        yyjson_mut_obj_add_bool(d->doc, o, "required", json_get_bool(item, "required", true));
    }
    note_extras(d, data);
}

/* ---- retrieval ---- */

static void put_collections(struct dify *d, yyjson_mut_val *config, yyjson_val *ids)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(d->doc, config, "collections");
    size_t i, n;
    yyjson_val *id;
    yyjson_arr_foreach(ids, i, n, id)
    {
        struct str there = dify_id_text(d, id);
        struct str here =
            import_name_find(d->options->collections, d->options->collection_count, there);
        add_once(d, d->collections, there);
        put(d, yyjson_mut_arr_add_obj(d->doc, list), "name", here);
        if (str_eq(here, there))
            dify_note(d, true, "collections",
                      "say which collection stands for the knowledge '%.*s' of the other "
                      "installation",
                      STR_ARG(there));
    }
}

static void put_filter(struct dify *d, yyjson_mut_val *config, yyjson_val *filter)
{
    static const struct dify_output names[] = {
        {STR_INIT("contains"), STR_INIT("contains")},
        {STR_INIT("not contains"), STR_INIT("not_contains")},
        {STR_INIT("start with"), STR_INIT("starts_with")},
        {STR_INIT("end with"), STR_INIT("ends_with")},
        {STR_INIT("is"), STR_INIT("eq")},
        {STR_INIT("is not"), STR_INIT("ne")},
        {STR_INIT("empty"), STR_INIT("missing")},
        {STR_INIT("not empty"), STR_INIT("exists")},
        {STR_INIT("in"), STR_INIT("in")},
        {STR_INIT("not in"), STR_INIT("not_in")},
        {STR_INIT("="), STR_INIT("eq")},
        {STR_INIT("≠"), STR_INIT("ne")},
        {STR_INIT(">"), STR_INIT("gt")},
        {STR_INIT("<"), STR_INIT("lt")},
        {STR_INIT("≥"), STR_INIT("ge")},
        {STR_INIT("≤"), STR_INIT("le")},
        {STR_INIT("before"), STR_INIT("lt")},
        {STR_INIT("after"), STR_INIT("gt")},
    };
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(d->doc, config, "conditions");
    size_t i, n, k;
    yyjson_val *item;
    bool any = str_eq(json_get_text(filter, "logical_operator"), STR("or"));
    yyjson_mut_obj_add_str(d->doc, config, "match", any ? "any" : "all");
    yyjson_arr_foreach(yyjson_obj_get(filter, "conditions"), i, n, item)
    {
        struct str said = json_get_text(item, "comparison_operator");
        yyjson_val *value = yyjson_obj_get(item, "value");
        for (k = 0; k < COUNT_OF(names) && !str_eq(names[k].from, said); k++)
            ;
        if (k == COUNT_OF(names)) {
            dify_note(d, true, "conditions", "the operator '%.*s' is not known here",
                      STR_ARG(said));
            continue;
        }
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
        put(d, o, "attribute", dify_identifier(d, json_get_text(item, "name")));
        put(d, o, "operator", names[k].to);
        if (value && !yyjson_is_null(value))
            put(d, o, "value", dify_value(d, value, false, "conditions"));
    }
}

DIFY_MAP(retrieval)
{
    yyjson_val *data = node->data, *query = yyjson_obj_get(data, "query_variable_selector"),
               *multiple = yyjson_obj_get(data, "multiple_retrieval_config");
    yyjson_val *weights = yyjson_obj_get(multiple, "weights");
    struct str filtering = json_get_text(data, "metadata_filtering_mode");
    put(d, config, "query", dify_is_selector(query) ? dify_print(d, query, "query") : STR(" "));
    put_collections(d, config, yyjson_obj_get(data, "dataset_ids"));
    int64_t k = json_get_int(multiple, "top_k", 0);
    if (k > 0)
        yyjson_mut_obj_add_int(d->doc, config, "k", MIN(k, 100));
    if (str_eq(json_get_text(multiple, "reranking_mode"), STR("weighted_score")) && weights) {
        double words =
            json_get_double(yyjson_obj_get(weights, "keyword_setting"), "keyword_weight", 0.3);
        yyjson_mut_obj_add_str(d->doc, config, "mode", "hybrid");
        yyjson_mut_obj_add_real(d->doc, config, "text_weight", MAX(0.0, MIN(words, 1.0)));
    } else if (yyjson_is_obj(yyjson_obj_get(multiple, "reranking_model"))) {
        dify_note(d, false, "reranker", "the collection's own reranker is used");
    }
    if (yyjson_is_num(yyjson_obj_get(multiple, "score_threshold")))
        dify_note(d, false, "score_min",
                  "the threshold is left out: scores of other programs do not compare");
    if (str_eq(json_get_text(data, "retrieval_mode"), STR("single")))
        dify_note(d, false, "collections", "all collections are searched; no model chooses one");
    if (str_eq(filtering, STR("manual")))
        put_filter(d, config, yyjson_obj_get(data, "metadata_filtering_conditions"));
    else if (str_eq(filtering, STR("automatic")))
        dify_note(d, true, "conditions", "no model makes conditions by itself here");
}

/* ---- tools, agents ---- */

static struct str parameter(struct dify *d, yyjson_val *binding, const char *field)
{
    struct str type = json_get_text(binding, "type");
    yyjson_val *value = yyjson_obj_get(binding, "value");
    if (str_eq(type, STR("variable")) && dify_is_selector(value))
        return dify_path(d, value, field);
    if (yyjson_is_obj(binding))
        return dify_value(d, value, false, field);
    return dify_value(d, binding, false, field);
}

/* "author/plugin/provider" as a tool may be called here. */
static struct str tool_name(struct dify *d, yyjson_val *from)
{
    struct str name = json_get_text(from, "provider_name");
    ssize_t at = str_rfind_char(name, '/');
    name = tool_function_name(at < 0 ? name : str_slice(name, (size_t)at + 1, name.n), d->arena);
    return name.n ? name : STR("tool");
}

DIFY_MAP(tool)
{
    static const char *const lists[] = {"tool_parameters", "tool_configurations"};
    yyjson_val *key, *value;
    size_t i, n;
    struct str name = tool_name(d, node->data);
    put(d, config, "tool", name);
    put(d, config, "function", json_get_text(node->data, "tool_name"));
    yyjson_mut_val *arguments = yyjson_mut_obj_add_arr(d->doc, config, "arguments");
    for (size_t l = 0; l < COUNT_OF(lists); l++)
        yyjson_obj_foreach(yyjson_obj_get(node->data, lists[l]), i, n, key, value)
        {
            yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, arguments);
            put(d, o, "name", dify_identifier(d, json_text(key)));
            put(d, o, "value", parameter(d, value, "arguments"));
        }
    dify_note(d, true, "tool", "needs a tool '%.*s' with the function '%.*s' in this project",
              STR_ARG(name), STR_ARG(json_get_text(node->data, "tool_name")));
}

/* Arguments of an agent's tool that its model does not choose. */
static bool has_fixed(yyjson_val *tool)
{
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach(yyjson_obj_get(tool, "parameters"), i, n, key, value)
    {
        yyjson_val *automatic = yyjson_obj_get(value, "auto");
        if (automatic && !yyjson_get_bool(automatic) && yyjson_get_int(automatic) == 0)
            return true;
    }
    return yyjson_obj_size(yyjson_obj_get(tool, "settings")) > 0;
}

/* The functions of one provider are chosen together. */
static yyjson_mut_val *functions_of(struct dify *d, yyjson_mut_val *list, struct str tool)
{
    size_t i, n;
    yyjson_mut_val *item;
    yyjson_mut_arr_foreach(list, i, n, item)
    {
        if (yyjson_mut_equals_strn(yyjson_mut_obj_get(item, "tool"), tool.p, tool.n))
            return yyjson_mut_obj_get(item, "functions");
    }
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(d->doc, list);
    put(d, o, "tool", tool);
    return yyjson_mut_obj_add_arr(d->doc, o, "functions");
}

static void put_tools(struct dify *d, yyjson_mut_val *config, yyjson_val *tools)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(d->doc, config, "tools");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(tools, i, n, item)
    {
        if (!json_get_bool(item, "enabled", true))
            continue;
        struct str tool = tool_name(d, item), function = json_get_text(item, "tool_name");
        add_once(d, functions_of(d, list, tool), function);
        dify_note(d, true, "tools", "needs a tool '%.*s' with the function '%.*s' in this project",
                  STR_ARG(tool), STR_ARG(function));
        if (has_fixed(item))
            dify_note(d, false, "tools",
                      "the fixed arguments of '%.*s' are left out: give them to the tool (fixed)",
                      STR_ARG(function));
    }
}

DIFY_MAP(agent)
{
    yyjson_val *data = node->data, *parameters = yyjson_obj_get(data, "agent_parameters");
    yyjson_val *model = yyjson_obj_get(yyjson_obj_get(parameters, "model"), "value");
    yyjson_val *query = yyjson_obj_get(parameters, "query"),
               *selector = yyjson_obj_get(query, "value");
    struct str instruction = json_get_text(yyjson_obj_get(parameters, "instruction"), "value");
    put(d, config, "model", dify_model(d, model));
    if (instruction.n)
        put(d, config, "instruction", dify_template(d, instruction, STR_EMPTY, "instruction"));
    put(d, config, "query",
        dify_is_selector(selector) ? dify_print(d, selector, "query")
                                   : dify_template(d, json_text(selector), STR_EMPTY, "query"));
    bool react = str_eq_nocase(json_get_text(data, "agent_strategy_name"), STR("react"));
    yyjson_mut_obj_add_str(d->doc, config, "strategy", react ? "react" : "function_calling");
    int64_t steps = json_get_int(yyjson_obj_get(parameters, "maximum_iterations"), "value", 10);
    yyjson_mut_obj_add_int(d->doc, config, "steps_max", MAX(1, MIN(steps, 100)));
    put_parameters(d, config, yyjson_obj_get(model, "completion_params"), false);
    put_tools(d, config, yyjson_obj_get(yyjson_obj_get(parameters, "tools"), "value"));
    if (yyjson_is_obj(yyjson_obj_get(data, "memory")))
        put_memory(d, config, yyjson_obj_get(data, "memory"));
    if (yyjson_obj_get(data, "agent_binding") ||
        str_eq(json_get_text(data, "agent_node_kind"), STR("dify_agent")))
        dify_note(d, true, "", "is an agent of a package: give it its model, question and tools");
}
