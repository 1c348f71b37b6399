/* Anthropic messages: requests, and the table of the format's functions. Answers are in
 * anthropic_answer.c. Reference: https://docs.claude.com/en/api/messages; structured outputs are
 * `output_config.format`. */
#include "gateway/provider/anthropic.h"

/* Anthropic requires max_tokens; this goes where the caller gave none. */
#define MAX_TOKENS_DEFAULT 8192
#define BUDGET_TOKENS_MIN  1024

/* ---- reading a door's request ---- */

static enum rc read_source(yyjson_val *block, struct part *part, struct err *err)
{
    yyjson_val *source = yyjson_obj_get(block, "source");
    struct str type = json_get_text(source, "type");
    part->media_type = json_get_text(source, "media_type");
    part->name = json_get_text(block, "title");
    if (str_eq(type, STR("base64")))
        part->data = json_get_text(source, "data");
    else if (str_eq(type, STR("url")))
        part->url = json_get_text(source, "url");
    else if (str_eq(type, STR("file")))
        part->id = json_get_text(source, "file_id");
    else if (str_eq(type, STR("text")) && part->kind == PART_FILE) {
        part->kind = PART_TEXT;
        part->text = json_get_text(source, "data");
        return RC_OK;
    }
    if (part->data.n || part->url.n || part->id.n)
        return RC_OK;
    return format_bad(err, ERR_UNSUPPORTED, "messages[].content[].source",
                      "must be base64, url or (documents) text");
}

static enum rc read_blocks(yyjson_val *content, struct part **list, struct arena *arena,
                           struct err *err);

static enum rc read_block_of_tool(yyjson_val *block, struct part *part, struct arena *arena,
                                  struct err *err)
{
    yyjson_val *input = yyjson_obj_get(block, "input");
    if (part->kind == PART_TOOL_CALL) {
        part->id = json_get_text(block, "id");
        part->name = json_get_text(block, "name");
        part->text = input ? json_write(input, arena) : STR("{}");
        return part->text.p ? RC_OK : format_out_of_memory(err);
    }
    part->id = json_get_text(block, "tool_use_id");
    part->is_error = json_get_bool(block, "is_error", false);
    return read_blocks(yyjson_obj_get(block, "content"), &part->parts, arena, err);
}

static enum rc read_block(yyjson_val *block, struct part **list, struct arena *arena,
                          struct err *err)
{
    static const struct {
        const char *type;
        enum part_kind kind;
    } kinds[] = {
        {"text", PART_TEXT},
        {"image", PART_IMAGE},
        {"document", PART_FILE},
        {"thinking", PART_REASONING},
        {"tool_use", PART_TOOL_CALL},
        {"redacted_thinking", PART_REASONING},
        {"tool_result", PART_TOOL_RESULT},
    };
    struct str type = json_get_text(block, "type");
    size_t i = 0;
    while (i < COUNT_OF(kinds) && !str_eq(type, str_from(kinds[i].type)))
        i++;
    if (i == COUNT_OF(kinds))
        return err_set_field(err, ERR_UNSUPPORTED, "messages[].content",
                             "a block of type \"%.*s\" cannot be given to this target: remove it",
                             STR_ARG(type));
    struct part *part = event_add_part(list, arena, kinds[i].kind);
    if (!part)
        return format_out_of_memory(err);
    yyjson_val *cache = yyjson_obj_get(block, "cache_control");
    if (yyjson_is_obj(cache))
        part->cache = json_write(cache, arena);
    switch (part->kind) {
    case PART_TEXT: part->text = json_get_text(block, "text"); return RC_OK;
    case PART_REASONING:
        part->redacted = str_eq(type, STR("redacted_thinking"));
        part->text = json_get_text(block, "thinking");
        if (part->redacted) {
            part->signature = json_get_text(block, "data");
            part->signed_by = WIRE_ANTHROPIC;
        } else {
            format_unwrap_signature(WIRE_ANTHROPIC, json_get_text(block, "signature"), part);
        }
        return RC_OK;
    case PART_IMAGE:
    case PART_FILE: return read_source(block, part, err);
    default: return read_block_of_tool(block, part, arena, err);
    }
}

static enum rc read_blocks(yyjson_val *content, struct part **list, struct arena *arena,
                           struct err *err)
{
    size_t i, n;
    yyjson_val *block;
    if (yyjson_is_str(content)) {
        struct part *part = event_add_part(list, arena, PART_TEXT);
        if (!part)
            return format_out_of_memory(err);
        part->text = json_text(content);
    }
    yyjson_arr_foreach(content, i, n, block)
    {
        enum rc rc = read_block(block, list, arena, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static enum rc read_messages(yyjson_val *root, struct arena *arena, struct event_request *out,
                             struct err *err)
{
    size_t i, n;
    yyjson_val *item, *system = yyjson_obj_get(root, "system");
    if (system && !yyjson_is_null(system)) {
        struct message *message = event_add_message(out, arena, ROLE_SYSTEM);
        enum rc rc =
            message ? read_blocks(system, &message->parts, arena, err) : format_out_of_memory(err);
        if (rc)
            return rc;
    }
    yyjson_arr_foreach(yyjson_obj_get(root, "messages"), i, n, item)
    {
        struct str role = json_get_text(item, "role");
        bool assistant = str_eq(role, STR("assistant")), is_system = str_eq(role, STR("system"));
        if (!assistant && !is_system && !str_eq(role, STR("user")))
            return format_bad(err, ERR_BAD_FIELD, "messages[].role", "must be user or assistant");
        struct message *message = event_add_message(out, arena,
                                                    assistant   ? ROLE_ASSISTANT
                                                    : is_system ? ROLE_SYSTEM
                                                                : ROLE_USER);
        enum rc rc = message
                         ? read_blocks(yyjson_obj_get(item, "content"), &message->parts, arena, err)
                         : format_out_of_memory(err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

/* Tools that Anthropic runs itself (web search …) have no schema: other targets do not have them,
 * so they are left out, and refused only where one is named. */
static enum rc read_tools(yyjson_val *root, struct arena *arena, struct event_request *out,
                          struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, n, item)
    {
        yyjson_val *schema = yyjson_obj_get(item, "input_schema"),
                   *strict = yyjson_obj_get(item, "strict");
        yyjson_val *cache = yyjson_obj_get(item, "cache_control");
        if (!schema)
            continue;
        struct tool *tool = event_add_tool(out, arena);
        if (!tool)
            return format_out_of_memory(err);
        tool->name = json_get_text(item, "name");
        tool->description = json_get_text(item, "description");
        tool->parameters = json_write(schema, arena);
        if (yyjson_is_bool(strict))
            tool->strict = yyjson_get_bool(strict) ? STRICT_YES : STRICT_NO;
        if (yyjson_is_obj(cache))
            tool->cache = json_write(cache, arena);
        if (!tool->name.n)
            return format_bad(err, ERR_BAD_FIELD, "tools[].name", "is missing");
    }
    yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
    struct str type = json_get_text(choice, "type");
    out->tool_choice = str_eq(type, STR("auto"))   ? TOOL_CHOICE_AUTO
                       : str_eq(type, STR("any"))  ? TOOL_CHOICE_REQUIRED
                       : str_eq(type, STR("none")) ? TOOL_CHOICE_NONE
                       : str_eq(type, STR("tool")) ? TOOL_CHOICE_NAMED
                                                   : TOOL_CHOICE_UNSET;
    out->tool_choice_name = json_get_text(choice, "name");
    if (out->tool_choice == TOOL_CHOICE_NAMED && !event_find_tool(out, out->tool_choice_name))
        return format_bad(err, ERR_UNSUPPORTED, "tool_choice.name",
                          "names a tool that this target cannot be given");
    if (json_get_bool(choice, "disable_parallel_tool_use", false))
        out->parallel_tool_calls = STR("false");
    return RC_OK;
}

static void read_thinking(yyjson_val *root, struct event_request *out)
{
    yyjson_val *thinking = yyjson_obj_get(root, "thinking");
    struct str type = json_get_text(thinking, "type");
    out->reasoning_effort = json_get_text(yyjson_obj_get(root, "output_config"), "effort");
    out->reasoning_budget_tokens = json_get_int(thinking, "budget_tokens", 0);
    out->reasoning_shown = str_eq(type, STR("enabled")) || str_eq(type, STR("adaptive"));
    if (str_eq(type, STR("adaptive")) && !out->reasoning_effort.n)
        out->reasoning_effort = STR("medium");
    if (!out->reasoning_shown && !str_eq(type, STR("disabled")))
        return;
    if (!out->reasoning_shown)
        out->reasoning_effort =
            STR_EMPTY; /* the model's default: "none" is not known to all targets */
}

static enum rc read_request(const struct wire_request *in, struct arena *arena,
                            struct event_request *out, struct err *err)
{
    yyjson_val *root = yyjson_doc_get_root(in->doc);
    enum rc rc = read_messages(root, arena, out, err);
    if (!rc)
        rc = read_tools(root, arena, out, err);
    if (!rc && format_read_stops(yyjson_obj_get(root, "stop_sequences"), arena, out))
        rc = format_out_of_memory(err);
    if (rc)
        return rc;
    yyjson_val *format = yyjson_obj_get(yyjson_obj_get(root, "output_config"), "format");
    if (!format)
        format = yyjson_obj_get(root, "output_format");
    if (str_eq(json_get_text(format, "type"), STR("json_schema"))) {
        out->shape = SHAPE_JSON_SCHEMA;
        out->schema = json_write(yyjson_obj_get(format, "schema"), arena);
        out->schema_strict = true;
        if (!out->schema.p)
            return format_bad(err, ERR_MISSING_FIELD, "output_config.format.schema", "is missing");
    }
    read_thinking(root, out);
    out->output_tokens_max = in->output_tokens_max;
    out->temperature = format_number(root, "temperature", arena);
    out->top_p = format_number(root, "top_p", arena);
    out->top_k = format_number(root, "top_k", arena);
    out->choices = 1;
    out->user = in->user;
    return RC_OK;
}

/* ---- writing an upstream's request ---- */

struct messages_request {
    const struct event_request *request;
    const struct wire_upstream *upstream;
    struct arena *arena;
    struct json_writer *w;
    struct err *err;
};

static void put_cache(struct json_writer *w, struct str cache)
{
    if (cache.n)
        json_put_raw(w, "cache_control", cache);
}

static enum rc put_media(const struct messages_request *out, const struct part *part)
{
    struct json_writer *w = out->w;
    if (!part->data.n && !part->url.n)
        return format_bad(out->err, ERR_UNSUPPORTED, "messages[].content",
                          "holds a file by id: send its data or URL");
    json_begin_object(w);
    json_put_text(w, "type", part->kind == PART_IMAGE ? "image" : "document");
    json_key(w, "source");
    json_begin_object(w);
    if (part->data.n) {
        struct str otherwise = part->kind == PART_IMAGE ? STR("image/png") : STR("application/pdf");
        json_put_text(w, "type", "base64");
        json_put_string(w, "media_type", part->media_type.n ? part->media_type : otherwise);
        json_put_string(w, "data", part->data);
    } else {
        json_put_text(w, "type", "url");
        json_put_string(w, "url", part->url);
    }
    json_end_object(w);
    if (part->kind == PART_FILE && part->name.n)
        json_put_string(w, "title", part->name);
    put_cache(w, part->cache);
    json_end_object(w);
    return RC_OK;
}

static void put_text(struct json_writer *w, struct str text, struct str cache)
{
    if (!text.n)
        return; /* empty blocks are refused */
    json_begin_object(w);
    json_put_text(w, "type", "text");
    json_put_string(w, "text", text);
    put_cache(w, cache);
    json_end_object(w);
}

static bool is_signed(const struct part *part)
{
    return part->kind == PART_REASONING && part->signature.n && part->signed_by == WIRE_ANTHROPIC;
}

/* Only what Anthropic signed goes back as thinking: it refuses anything else. */
static void put_thinking(struct json_writer *w, const struct part *part)
{
    if (!is_signed(part))
        return;
    json_begin_object(w);
    json_put_text(w, "type", part->redacted ? "redacted_thinking" : "thinking");
    if (part->redacted) {
        json_put_string(w, "data", part->signature);
    } else {
        json_put_string(w, "thinking", part->text);
        json_put_string(w, "signature", part->signature);
    }
    json_end_object(w);
}

static enum rc put_part(const struct messages_request *out, const struct part *part);

static enum rc put_tool_result(const struct messages_request *out, const struct part *part)
{
    struct json_writer *w = out->w;
    json_begin_object(w);
    json_put_text(w, "type", "tool_result");
    json_put_string(w, "tool_use_id", part->id);
    json_key(w, "content");
    json_begin_array(w);
    for (const struct part *inner = part->parts; inner; inner = inner->next) {
        enum rc rc = put_part(out, inner);
        if (rc)
            return rc;
    }
    json_end_array(w);
    if (part->is_error)
        json_put_bool(w, "is_error", true);
    put_cache(w, part->cache);
    json_end_object(w);
    return RC_OK;
}

static enum rc put_tool_use(const struct messages_request *out, const struct part *part)
{
    struct json_writer *w = out->w;
    struct str input = format_arguments(part, out->arena);
    if (!input.p)
        return format_out_of_memory(out->err);
    json_begin_object(w);
    json_put_text(w, "type", "tool_use");
    json_put_string(w, "id", part->id);
    json_put_string(w, "name", part->name);
    json_put_raw(w, "input", input);
    put_cache(w, part->cache);
    json_end_object(w);
    return RC_OK;
}

static enum rc put_part(const struct messages_request *out, const struct part *part)
{
    struct json_writer *w = out->w;
    switch (part->kind) {
    case PART_TEXT:
    case PART_REFUSAL: put_text(w, part->text, part->cache); return RC_OK;
    case PART_REASONING: put_thinking(w, part); return RC_OK;
    case PART_IMAGE:
    case PART_FILE: return put_media(out, part);
    case PART_TOOL_RESULT: return put_tool_result(out, part);
    case PART_TOOL_CALL: return put_tool_use(out, part);
    default:
        return format_bad(out->err, ERR_UNSUPPORTED, "messages[].content",
                          "holds audio, which Anthropic's models do not take: send text");
    }
}

static bool is_system(const struct message *message)
{
    return message->role == ROLE_SYSTEM || message->role == ROLE_DEVELOPER;
}

static bool writes_anything(const struct message *message)
{
    for (const struct part *part = message->parts; part; part = part->next) {
        bool empty = (part->kind == PART_TEXT || part->kind == PART_REFUSAL) && !part->text.n;
        if (!empty && (part->kind != PART_REASONING || is_signed(part)))
            return true;
    }
    return false;
}

/* Turns must alternate, and all results of a turn's tools stand in one user message: neighbours of
 * the same side are joined. */
static enum rc put_messages(const struct messages_request *out)
{
    struct json_writer *w = out->w;
    int open = -1; /* 0: a user message is open, 1: an assistant's */
    json_key(w, "messages");
    json_begin_array(w);
    for (const struct message *message = out->request->messages; message; message = message->next) {
        if (is_system(message) || !writes_anything(message))
            continue;
        int side = message->role == ROLE_ASSISTANT;
        if (open != side) {
            if (open >= 0) {
                json_end_array(w);
                json_end_object(w);
            }
            json_begin_object(w);
            json_put_text(w, "role", side ? "assistant" : "user");
            json_key(w, "content");
            json_begin_array(w);
            open = side;
        }
        for (const struct part *part = message->parts; part; part = part->next) {
            enum rc rc = put_part(out, part);
            if (rc)
                return rc;
        }
    }
    if (open >= 0) {
        json_end_array(w);
        json_end_object(w);
    }
    json_end_array(w);
    return open < 0 ? format_bad(out->err, ERR_BAD_FIELD, "messages",
                                 "needs a user message besides the system's")
                    : RC_OK;
}

static void put_system(const struct messages_request *out)
{
    struct json_writer *w = out->w;
    bool begun = false;
    for (const struct message *message = out->request->messages; message; message = message->next)
        for (const struct part *part = message->parts; is_system(message) && part;
             part = part->next) {
            if (part->kind != PART_TEXT || !part->text.n)
                continue;
            if (!begun) {
                json_key(w, "system");
                json_begin_array(w);
                begun = true;
            }
            put_text(w, part->text, part->cache);
        }
    if (out->request->shape == SHAPE_JSON_OBJECT) {
        if (!begun) {
            json_key(w, "system");
            json_begin_array(w);
            begun = true;
        }
        put_text(w, STR("Answer with one JSON object and nothing else."), STR_EMPTY);
    }
    if (begun)
        json_end_array(w);
}

static void put_tools(const struct messages_request *out)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    if (!request->tool_count)
        return;
    json_key(w, "tools");
    json_begin_array(w);
    for (const struct tool *tool = request->tools; tool; tool = tool->next) {
        json_begin_object(w);
        json_put_string(w, "name", tool->name);
        if (tool->description.n)
            json_put_string(w, "description", tool->description);
        json_put_raw(w, "input_schema",
                     tool->custom         ? format_custom_schema
                     : tool->parameters.n ? tool->parameters
                                          : STR("{\"type\":\"object\",\"properties\":{}}"));
        if (tool->strict == STRICT_YES)
            json_put_bool(w, "strict", true);
        put_cache(w, tool->cache);
        json_end_object(w);
    }
    json_end_array(w);
    static const char *const types[] = {"auto", "auto", "none", "any", "tool"};
    bool one = str_eq(request->parallel_tool_calls, STR("false"));
    if (request->tool_choice == TOOL_CHOICE_UNSET && !one)
        return;
    json_key(w, "tool_choice");
    json_begin_object(w);
    json_put_text(w, "type", types[request->tool_choice]);
    if (request->tool_choice == TOOL_CHOICE_NAMED)
        json_put_string(w, "name", request->tool_choice_name);
    if (one && request->tool_choice != TOOL_CHOICE_NONE)
        json_put_bool(w, "disable_parallel_tool_use", true);
    json_end_object(w);
}

static bool matches_any(struct str model, const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_matches_glob(model, str_from(patterns[i])))
            return true;
    return false;
}

/* Models before Claude 4.6 take a budget, later ones an effort. */
static bool takes_budget(struct str model)
{
    static const char *const older[] = {"*claude-3*",     "*claude-*-4",       "*claude-*-4-0*",
                                        "*claude-*-4-1*", "*claude-*-4-2025*", "*claude-*-4-5*",
                                        "*claude-*-4.5*"};
    return matches_any(model, older, COUNT_OF(older));
}

/* Models after Claude 4.6 take no sampling parameters: the API no longer lists them. */
static bool takes_sampling(struct str model)
{
    static const char *const last[] = {"*claude-*-4-6*", "*claude-*-4.6*"};
    return takes_budget(model) || matches_any(model, last, COUNT_OF(last)) ||
           str_find(model, STR("claude")) < 0; /* another's model behind this format */
}

/* A turn with tool calls must begin with its signed thinking once thinking is on, and a forced tool
 * excludes it: where that cannot be met, thinking stays off. */
static bool may_think(const struct event_request *request)
{
    if (request->tool_choice == TOOL_CHOICE_REQUIRED || request->tool_choice == TOOL_CHOICE_NAMED)
        return false;
    bool allowed = true;
    for (const struct message *message = request->messages; message; message = message->next) {
        bool calls = false, proof = false;
        for (const struct part *part = message->parts; part; part = part->next) {
            calls = calls || part->kind == PART_TOOL_CALL;
            proof = proof || is_signed(part);
        }
        if (message->role == ROLE_ASSISTANT)
            allowed = !calls || proof;
    }
    return allowed;
}

/* Returns the tokens of thinking that max_tokens must hold besides the answer; sets *thinks. */
static int64_t put_reasoning(const struct messages_request *out, bool *thinks)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    struct str effort = request->reasoning_effort;
    int64_t budget = request->reasoning_budget_tokens;
    *thinks = false;
    if (!budget && effort.n)
        budget = event_budget_of_effort(effort);
    if (!budget || !may_think(request))
        return 0;
    *thinks = true;
    json_key(w, "thinking");
    json_begin_object(w);
    if (takes_budget(out->upstream->model)) {
        budget = MAX(budget, BUDGET_TOKENS_MIN);
        json_put_text(w, "type", "enabled");
        json_put_int(w, "budget_tokens", budget);
        json_end_object(w);
        return budget;
    }
    json_put_text(w, "type", "adaptive");
    json_end_object(w);
    return 0;
}

static void put_output_config(const struct messages_request *out, bool thinks)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    bool effort = thinks && request->reasoning_effort.n && !takes_budget(out->upstream->model);
    bool schema = request->shape == SHAPE_JSON_SCHEMA;
    if (!effort && !schema)
        return;
    json_key(w, "output_config");
    json_begin_object(w);
    if (effort)
        json_put_string(w, "effort",
                        str_eq(request->reasoning_effort, STR("minimal"))
                            ? STR("low")
                            : request->reasoning_effort);
    if (schema) {
        json_key(w, "format");
        json_begin_object(w);
        json_put_text(w, "type", "json_schema");
        json_put_raw(w, "schema", request->schema);
        json_end_object(w);
    }
    json_end_object(w);
}

/* Temperature is 0 to 1 here; with thinking it must be left away, and some models refuse top_p
 * beside it. */
static void put_sampling(const struct messages_request *out, bool thinks)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    double temperature = 0;
    bool sampling = !thinks && takes_sampling(out->upstream->model);
    if (sampling && request->temperature.n &&
        str_to_double(request->temperature, &temperature) == RC_OK)
        json_put_double(w, "temperature", MIN(temperature, 1.0));
    else if (sampling && request->top_p.n)
        json_put_raw(w, "top_p", request->top_p);
    if (sampling && request->top_k.n)
        json_put_raw(w, "top_k", request->top_k);
    if (request->stop_count) {
        json_key(w, "stop_sequences");
        json_begin_array(w);
        for (size_t i = 0; i < request->stop_count; i++)
            json_string(w, request->stops[i]);
        json_end_array(w);
    }
    if (request->user.n) {
        json_key(w, "metadata");
        json_begin_object(w);
        json_put_string(w, "user_id", request->user);
        json_end_object(w);
    }
}

static enum rc refuse(const struct event_request *request, struct err *err)
{
    if (request->choices > 1)
        return format_bad(
            err, ERR_UNSUPPORTED, "n",
            "must be 1: Anthropic's models give one answer per call; call several times");
    if (request->logprobs)
        return format_bad(err, ERR_UNSUPPORTED, "logprobs",
                          "cannot be had from Anthropic's models: leave it away");
    if (request->logit_bias.n)
        return format_bad(err, ERR_UNSUPPORTED, "logit_bias",
                          "is not known to Anthropic's models: leave it away");
    return RC_OK;
}

static enum rc write_request(const struct event_request *request,
                             const struct wire_upstream *upstream, struct arena *arena,
                             struct json_writer *w, struct err *err)
{
    struct messages_request out = {request, upstream, arena, w, err};
    bool thinks;
    enum rc rc = refuse(request, err);
    if (rc)
        return rc;
    json_begin_object(w);
    json_put_string(w, "model", upstream->model);
    int64_t budget = put_reasoning(&out, &thinks);
    int64_t output =
        request->output_tokens_max ? request->output_tokens_max : MAX_TOKENS_DEFAULT + budget;
    json_put_int(w, "max_tokens", output > budget ? output : output + budget);
    put_system(&out);
    rc = put_messages(&out);
    if (rc)
        return rc;
    put_tools(&out);
    put_output_config(&out, thinks);
    put_sampling(&out, thinks);
    json_put_bool(w, "stream", upstream->stream);
    json_end_object(w);
    return RC_OK;
}

const struct provider_format anthropic_format = {
    .read_request = read_request,
    .write_request = write_request,
    .read_event = anthropic_read_event,
    .read_whole = anthropic_read_whole,
    .read_end = anthropic_read_end,
    .write_event = anthropic_write_event,
    .write_whole = anthropic_write_whole,
};
