/* Bodies of calls by a prompt's name, in each door's words. */
#include "prompt/request.h"
#include "text/json_tree.h"

/* Parameters that config may set, and what the doors call them; NULL: the door has no such thing,
 * and it is left out. Other members of config are the user's own and stay there. */
static const struct {
    const char *name, *chat, *anthropic, *responses;
} parameters[] = {
    {"temperature", "temperature", "temperature", "temperature"},
    {"top_p", "top_p", "top_p", "top_p"},
    {"top_k", "top_k", "top_k", NULL},
    {"max_tokens", "max_tokens", "max_tokens", "max_output_tokens"},
    {"max_completion_tokens", "max_completion_tokens", "max_tokens", "max_output_tokens"},
    {"max_output_tokens", "max_completion_tokens", "max_tokens", "max_output_tokens"},
    {"stop", "stop", NULL, NULL},
    {"stop_sequences", "stop", "stop_sequences", NULL},
    {"seed", "seed", NULL, NULL},
    {"presence_penalty", "presence_penalty", NULL, NULL},
    {"frequency_penalty", "frequency_penalty", NULL, NULL},
    {"reasoning_effort", "reasoning_effort", NULL, NULL},
    {"reasoning", NULL, NULL, "reasoning"},
    {"thinking", NULL, "thinking", NULL},
    {"response_format", "response_format", NULL, NULL},
    {"text", NULL, NULL, "text"},
    {"tool_choice", "tool_choice", NULL, NULL},
    {"parallel_tool_calls", "parallel_tool_calls", NULL, "parallel_tool_calls"},
    {"logprobs", "logprobs", NULL, NULL},
    {"top_logprobs", "top_logprobs", NULL, NULL},
    {"logit_bias", "logit_bias", NULL, NULL},
    {"n", "n", NULL, NULL},
    {"verbosity", "verbosity", NULL, NULL},
    {"service_tier", "service_tier", "service_tier", "service_tier"},
};

struct rewriting {
    const struct prompt_request *request;
    const struct prompt *prompt;
    struct arena *arena;
    yyjson_mut_doc *doc;
    yyjson_mut_val *body, *messages;
    struct err *err;
};

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
}

static const char *name_at_door(size_t parameter, enum prompt_door door)
{
    switch (door) {
    case PROMPT_ANTHROPIC: return parameters[parameter].anthropic;
    case PROMPT_RESPONSES: return parameters[parameter].responses;
    case PROMPT_CHAT:
    case PROMPT_COMPLETIONS: break;
    }
    return parameters[parameter].chat;
}

/* Unless the caller has set it. */
static void put_absent(struct rewriting *w, const char *name, yyjson_mut_val *value)
{
    if (!yyjson_mut_obj_get(w->body, name))
        yyjson_mut_obj_add_val(w->doc, w->body, name, value);
}

static void put_parameters(struct rewriting *w)
{
    yyjson_val *config = prompt_config(w->prompt), *value;
    for (size_t i = 0; i < COUNT_OF(parameters); i++) {
        const char *name = name_at_door(i, w->request->door);
        if (name && (value = yyjson_obj_get(config, parameters[i].name)) && !yyjson_is_null(value))
            put_absent(w, name, yyjson_val_mut_copy(w->doc, value));
    }
}

/* Tools are written as OpenAI's chat interface has them. */
static void put_tools(struct rewriting *w)
{
    yyjson_val *tools = prompt_tools(w->prompt), *tool;
    yyjson_mut_val *list;
    size_t i, n;
    if (!tools || yyjson_arr_size(tools) == 0 || yyjson_mut_obj_get(w->body, "tools") ||
        w->request->door == PROMPT_COMPLETIONS)
        return;
    list = yyjson_mut_obj_add_arr(w->doc, w->body, "tools");
    yyjson_arr_foreach(tools, i, n, tool)
    {
        yyjson_val *function = yyjson_obj_get(tool, "function");
        if (w->request->door == PROMPT_CHAT || !function) {
            yyjson_mut_arr_append(list, yyjson_val_mut_copy(w->doc, tool));
            continue;
        }
        yyjson_mut_val *o = yyjson_val_mut_copy(w->doc, function);
        if (w->request->door == PROMPT_RESPONSES)
            yyjson_mut_obj_add_str(w->doc, o, "type", "function");
        else if (yyjson_mut_obj_get(o, "parameters"))
            yyjson_mut_obj_rename_key(w->doc, o, "parameters", "input_schema");
        yyjson_mut_arr_append(list, o);
    }
}

static enum rc put_schema(struct rewriting *w)
{
    yyjson_val *schema = prompt_output_schema(w->prompt);
    yyjson_mut_val *format, *inner;
    if (!schema || yyjson_obj_size(schema) == 0)
        return RC_OK;
    if (w->request->door == PROMPT_ANTHROPIC || w->request->door == PROMPT_COMPLETIONS)
        return err_set_field(w->err, ERR_UNSUPPORTED, "model",
                             "this prompt has an output schema: call it by /v1/chat/completions or "
                             "/v1/responses");
    format = yyjson_mut_obj(w->doc);
    yyjson_mut_obj_add_str(w->doc, format, "type", "json_schema");
    inner = w->request->door == PROMPT_CHAT ? yyjson_mut_obj_add_obj(w->doc, format, "json_schema")
                                            : format;
    yyjson_mut_obj_add_str(w->doc, inner, "name", "answer");
    yyjson_mut_obj_add_val(w->doc, inner, "schema", yyjson_val_mut_copy(w->doc, schema));
    if (w->request->door == PROMPT_CHAT) {
        put_absent(w, "response_format", format);
    } else if (!yyjson_mut_obj_get(w->body, "text")) {
        yyjson_mut_val *text = yyjson_mut_obj_add_obj(w->doc, w->body, "text");
        yyjson_mut_obj_add_val(w->doc, text, "format", format);
    }
    return RC_OK;
}

/* ---- messages ---- */

static struct str text_of(yyjson_mut_val *message)
{
    yyjson_mut_val *content = yyjson_mut_obj_get(message, "content");
    return yyjson_mut_is_str(content)
               ? str_make(yyjson_mut_get_str(content), yyjson_mut_get_len(content))
               : STR_EMPTY;
}

static bool has_role(yyjson_mut_val *message, const char *role)
{
    return yyjson_mut_equals_str(yyjson_mut_obj_get(message, "role"), role);
}

/* The caller's own after the prompt's. */
static void append_given(struct rewriting *w, yyjson_mut_val *given)
{
    yyjson_mut_val *item;
    size_t i, n;
    yyjson_mut_arr_foreach(given, i, n, item)
        yyjson_mut_arr_append(w->messages, yyjson_mut_val_mut_copy(w->doc, item));
}

/* A text prompt before messages of the caller is an instruction, not a question. */
static void make_instruction(struct rewriting *w, bool given)
{
    yyjson_mut_val *first = yyjson_mut_arr_get_first(w->messages);
    if (!prompt_is_chat(w->prompt) && given)
        yyjson_mut_obj_put(first, yyjson_mut_str(w->doc, "role"), yyjson_mut_str(w->doc, "system"));
}

static enum rc put_chat(struct rewriting *w)
{
    yyjson_mut_val *given = yyjson_mut_obj_get(w->body, "messages");
    if (given && !yyjson_mut_is_arr(given))
        return err_set_field(w->err, ERR_BAD_FIELD, "messages", "`messages` must be an array");
    make_instruction(w, yyjson_mut_arr_size(given) > 0);
    append_given(w, given);
    yyjson_mut_obj_put(w->body, yyjson_mut_str(w->doc, "messages"), w->messages);
    return RC_OK;
}

/* Anthropic: the system's messages go before the caller's `system`, as one text or block. */
static enum rc put_anthropic(struct rewriting *w)
{
    yyjson_mut_val *given = yyjson_mut_obj_get(w->body, "messages"), *item;
    yyjson_mut_val *all = yyjson_mut_arr(w->doc), *system = yyjson_mut_obj_get(w->body, "system");
    struct str text = STR_EMPTY;
    size_t i, n;
    if (given && !yyjson_mut_is_arr(given))
        return err_set_field(w->err, ERR_BAD_FIELD, "messages", "`messages` must be an array");
    make_instruction(w, yyjson_mut_arr_size(given) > 0);
    yyjson_mut_arr_foreach(w->messages, i, n, item)
    {
        if (!has_role(item, "system") && !has_role(item, "developer")) {
            yyjson_mut_arr_append(all, yyjson_mut_val_mut_copy(w->doc, item));
            continue;
        }
        text = text.n
                   ? arena_printf(w->arena, "%.*s\n\n%.*s", STR_ARG(text), STR_ARG(text_of(item)))
                   : text_of(item);
    }
    w->messages = all;
    append_given(w, given);
    yyjson_mut_obj_put(w->body, yyjson_mut_str(w->doc, "messages"), w->messages);
    if (!text.n)
        return RC_OK;
    if (yyjson_mut_is_str(system)) {
        text = arena_printf(w->arena, "%.*s\n\n%.*s", STR_ARG(text),
                            (int)yyjson_mut_get_len(system), yyjson_mut_get_str(system));
    } else if (yyjson_mut_is_arr(system)) {
        yyjson_mut_val *block = yyjson_mut_obj(w->doc);
        yyjson_mut_obj_add_str(w->doc, block, "type", "text");
        json_set_text(w->doc, block, "text", text);
        yyjson_mut_arr_prepend(system, block);
        return RC_OK;
    }
    yyjson_mut_obj_put(w->body, yyjson_mut_str(w->doc, "system"), json_new_text(w->doc, text));
    return text.p ? RC_OK : no_memory(w->err);
}

static enum rc put_responses(struct rewriting *w)
{
    yyjson_mut_val *given = yyjson_mut_obj_get(w->body, "input");
    make_instruction(w, given && (!yyjson_mut_is_str(given) || yyjson_mut_get_len(given)));
    if (yyjson_mut_is_str(given)) {
        yyjson_mut_val *message = yyjson_mut_arr_add_obj(w->doc, w->messages);
        yyjson_mut_obj_add_str(w->doc, message, "role", "user");
        yyjson_mut_obj_add_val(w->doc, message, "content", yyjson_mut_val_mut_copy(w->doc, given));
    } else {
        append_given(w, given);
    }
    yyjson_mut_obj_put(w->body, yyjson_mut_str(w->doc, "input"), w->messages);
    return RC_OK;
}

static enum rc put_completions(struct rewriting *w)
{
    if (prompt_is_chat(w->prompt) || yyjson_mut_obj_get(w->body, "prompt"))
        return err_set_field(w->err, ERR_UNSUPPORTED, "model",
                             "by /v1/completions only a text prompt can be called, and without "
                             "`prompt`; use /v1/chat/completions");
    yyjson_mut_obj_put(w->body, yyjson_mut_str(w->doc, "prompt"),
                       json_new_text(w->doc, text_of(yyjson_mut_arr_get_first(w->messages))));
    return RC_OK;
}

/* ---- all of it ---- */

/* Texts of `metadata`, and `variables` over them. */
static enum rc read_variables(struct rewriting *w, yyjson_val **out)
{
    yyjson_val *body = w->request->body, *key, *value;
    yyjson_val *variables = yyjson_obj_get(body, "variables");
    yyjson_mut_val *merged = yyjson_mut_obj(w->doc);
    size_t i, n;
    if (variables && !yyjson_is_obj(variables) && !yyjson_is_null(variables))
        return err_set_field(w->err, ERR_BAD_FIELD, "variables", "`variables` must be an object");
    yyjson_obj_foreach(yyjson_obj_get(body, "metadata"), i, n, key, value) yyjson_mut_obj_put(
        merged, yyjson_val_mut_copy(w->doc, key), yyjson_val_mut_copy(w->doc, value));
    yyjson_obj_foreach(variables, i, n, key, value) yyjson_mut_obj_put(
        merged, yyjson_val_mut_copy(w->doc, key), yyjson_val_mut_copy(w->doc, value));
    yyjson_doc *frozen = json_freeze(merged, w->arena);
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : no_memory(w->err);
}

static enum rc find_prompt(struct rewriting *w, struct prompt_found *found)
{
    const struct prompt_request *request = w->request;
    struct prompt_reference reference;
    struct prompt *compiled = NULL;
    yyjson_doc *doc;
    prompt_reference_parse(str_slice(request->model, strlen(PROMPT_PREFIX), request->model.n),
                           &reference);
    struct err inner = {0};
    enum rc rc = prompt_find(request->prompts, &reference, request->share, found, &inner);
    if (rc != RC_OK)
        return err_set_field(w->err, ERR_MODEL_NOT_FOUND, "model", "%s", inner.message);
    if (found->version->compiled) {
        w->prompt = found->version->compiled;
        return RC_OK;
    }
    rc = json_read(found->version->spec, w->arena, &doc, w->err);
    if (rc == RC_OK)
        rc =
            prompt_compile(request->prompts, yyjson_doc_get_root(doc), w->arena, &compiled, w->err);
    w->prompt = compiled;
    return rc;
}

static enum rc put_messages(struct rewriting *w)
{
    switch (w->request->door) {
    case PROMPT_CHAT: return put_chat(w);
    case PROMPT_ANTHROPIC: return put_anthropic(w);
    case PROMPT_RESPONSES: return put_responses(w);
    case PROMPT_COMPLETIONS: return put_completions(w);
    }
    UNREACHABLE();
}

enum rc prompt_rewrite(const struct prompt_request *request, struct arena *arena,
                       struct prompt_rewritten *out, struct err *err)
{
    struct rewriting w = {.request = request, .arena = arena, .err = err};
    struct prompt_found found;
    yyjson_val *variables;
    w.doc = json_tree_new(arena);
    w.body = w.doc ? yyjson_val_mut_copy(w.doc, request->body) : NULL;
    if (!w.body)
        return no_memory(err);
    enum rc rc = find_prompt(&w, &found);
    if (rc == RC_OK)
        rc = read_variables(&w, &variables);
    if (rc == RC_OK)
        rc = prompt_render(w.prompt, variables, arena, w.doc, &w.messages, err);
    if (rc == RC_OK)
        rc = put_messages(&w);
    if (rc == RC_OK)
        rc = put_schema(&w);
    if (rc != RC_OK)
        return rc;
    yyjson_val *model = yyjson_obj_get(prompt_config(w.prompt), "model");
    if (json_text(model).n == 0)
        return err_set_field(err, ERR_MISSING_FIELD, "model",
                             "the prompt '%.*s' names no model: set `config.model` of its version",
                             STR_ARG(found.family->name));
    yyjson_mut_obj_remove_key(w.body, "variables");
    yyjson_mut_obj_put(w.body, yyjson_mut_str(w.doc, "model"), yyjson_val_mut_copy(w.doc, model));
    put_parameters(&w);
    put_tools(&w);
    out->called = arena_printf(arena, "%.*s@%lld", STR_ARG(found.family->name),
                               (long long)found.version->version);
    rc = json_write_tree(w.body, arena, &out->body, err);
    return rc == RC_OK && !out->called.p ? no_memory(err) : rc;
}
