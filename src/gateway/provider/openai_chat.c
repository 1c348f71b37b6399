/* OpenAI chat completions: requests, and the table of the format's functions. What the compatible
 * providers do differently is asked of their row. Answers are in openai_chat_answer.c. Reference:
 * https://github.com/openai/openai-openapi, CreateChatCompletionRequest. */
#include "gateway/provider/openai_chat.h"
#include "base/hash.h"

/* ---- reading a door's request ---- */

static enum rc read_media(yyjson_val *item, struct str type, struct part *part)
{
    if (part->kind == PART_IMAGE) {
        yyjson_val *image = yyjson_obj_get(item, "image_url");
        struct str url = yyjson_is_str(image) ? json_text(image) : json_get_text(image, "url");
        part->detail = json_get_text(image, "detail");
        if (!format_split_data_url(url, &part->media_type, &part->data))
            part->url = url;
        return url.n ? RC_OK : RC_INVALID;
    }
    yyjson_val *inner = yyjson_obj_get(item, type.p);
    if (part->kind == PART_AUDIO) {
        part->media_type = json_get_text(inner, "format");
        part->data = json_get_text(inner, "data");
        return part->data.n ? RC_OK : RC_INVALID;
    }
    part->id = json_get_text(inner, "file_id");
    part->name = json_get_text(inner, "filename");
    struct str data = json_get_text(inner, "file_data");
    if (!format_split_data_url(data, &part->media_type, &part->data))
        part->data = data;
    return part->id.n || part->data.n ? RC_OK : RC_INVALID;
}

static enum rc read_part(yyjson_val *item, struct part **list, struct arena *arena,
                         const char *field, struct err *err)
{
    static const struct {
        const char *type;
        enum part_kind kind;
    } kinds[] = {
        {"text", PART_TEXT},         {"refusal", PART_REFUSAL}, {"image_url", PART_IMAGE},
        {"input_audio", PART_AUDIO}, {"file", PART_FILE},       {"thinking", PART_REASONING},
    };
    struct str type = json_get_text(item, "type");
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (!str_eq(type, str_from(kinds[i].type)))
            continue;
        struct part *part = event_add_part(list, arena, kinds[i].kind);
        if (!part)
            return format_out_of_memory(err);
        yyjson_val *cache = yyjson_obj_get(item, "cache_control");
        if (yyjson_is_obj(cache))
            part->cache = json_write(cache, arena);
        if (part->kind == PART_TEXT || part->kind == PART_REFUSAL || part->kind == PART_REASONING) {
            part->text = json_get_text(item, kinds[i].type);
            return RC_OK;
        }
        return read_media(item, type, part)
                   ? format_bad(err, ERR_BAD_FIELD, field, "holds an empty part")
                   : RC_OK;
    }
    return err_set_field(err, ERR_UNSUPPORTED, field,
                         "`%s` holds a part of type \"%.*s\", which this target cannot be given",
                         field, STR_ARG(type));
}

enum rc openai_chat_read_content(yyjson_val *content, struct part **list, struct arena *arena,
                                 const char *field, struct err *err)
{
    if (!content || yyjson_is_null(content))
        return RC_OK;
    if (yyjson_is_str(content)) {
        struct part *part = event_add_part(list, arena, PART_TEXT);
        if (!part)
            return format_out_of_memory(err);
        part->text = json_text(content);
        return RC_OK;
    }
    if (!yyjson_is_arr(content))
        return format_bad(err, ERR_BAD_FIELD, field, "must be a string or an array of parts");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(content, i, n, item)
    {
        enum rc rc = read_part(item, list, arena, field, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static enum rc read_tool_calls(yyjson_val *calls, struct message *message, struct arena *arena,
                               struct err *err)
{
    size_t i, n;
    yyjson_val *call;
    yyjson_arr_foreach(calls, i, n, call)
    {
        struct part *part = event_add_part(&message->parts, arena, PART_TOOL_CALL);
        if (!part)
            return format_out_of_memory(err);
        yyjson_val *function = yyjson_obj_get(call, "function"),
                   *custom = yyjson_obj_get(call, "custom");
        part->id = json_get_text(call, "id");
        part->custom = custom && !function;
        part->name = json_get_text(part->custom ? custom : function, "name");
        part->text =
            part->custom ? json_get_text(custom, "input") : json_get_text(function, "arguments");
        if (!part->id.n || !part->name.n)
            return format_bad(err, ERR_BAD_FIELD, "messages[].tool_calls", "needs `id` and a name");
    }
    return RC_OK;
}

/* Reasoning comes back in the field that we (and most others) answer with; signed blocks apart. */
static enum rc read_reasoning(yyjson_val *item, struct message *message, struct arena *arena,
                              struct err *err)
{
    yyjson_val *blocks = yyjson_obj_get(item, "thinking_blocks"), *block;
    size_t i, n;
    yyjson_arr_foreach(blocks, i, n, block)
    {
        struct part *part = event_add_part(&message->parts, arena, PART_REASONING);
        if (!part)
            return format_out_of_memory(err);
        part->text = json_get_text(block, "thinking");
        part->signature = json_get_text(block, "signature");
        part->signed_by = WIRE_ANTHROPIC;
        part->redacted = str_eq(json_get_text(block, "type"), STR("redacted_thinking"));
        if (part->redacted)
            part->signature = json_get_text(block, "data");
        else
            format_unwrap_signature(WIRE_ANTHROPIC, part->signature, part);
    }
    struct str text = json_get_text(item, "reasoning_content");
    if (!text.n)
        text = json_get_text(item, "reasoning");
    if (!text.n || yyjson_arr_size(blocks))
        return RC_OK;
    struct part *part = event_add_part(&message->parts, arena, PART_REASONING);
    if (!part)
        return format_out_of_memory(err);
    part->text = text;
    return RC_OK;
}

static enum rc read_tool_result(yyjson_val *item, struct message *message, struct arena *arena,
                                const char *field, struct err *err)
{
    struct part *part = event_add_part(&message->parts, arena, PART_TOOL_RESULT);
    if (!part)
        return format_out_of_memory(err);
    part->id = json_get_text(item, "tool_call_id");
    if (!part->id.n)
        return format_bad(err, ERR_MISSING_FIELD, field,
                          "belongs to a tool message without `tool_call_id`");
    return openai_chat_read_content(yyjson_obj_get(item, "content"), &part->parts, arena, field,
                                    err);
}

static enum rc read_message(yyjson_val *item, size_t index, struct arena *arena,
                            struct event_request *out, struct err *err)
{
    static const struct {
        const char *name;
        enum event_role role;
    } roles[] = {{"system", ROLE_SYSTEM},
                 {"developer", ROLE_DEVELOPER},
                 {"user", ROLE_USER},
                 {"assistant", ROLE_ASSISTANT},
                 {"tool", ROLE_TOOL}};
    struct str name = json_get_text(item, "role");
    char field[ERR_FIELD_BYTES_MAX];
    size_t i = 0;
    while (i < COUNT_OF(roles) && !str_eq(name, str_from(roles[i].name)))
        i++;
    snprintf(field, sizeof(field), "messages[%zu].role", index);
    if (i == COUNT_OF(roles))
        return format_bad(err, ERR_BAD_FIELD, field,
                          "must be system, developer, user, assistant or tool");
    struct message *message = event_add_message(out, arena, roles[i].role);
    if (!message)
        return format_out_of_memory(err);
    message->name = json_get_text(item, "name");
    snprintf(field, sizeof(field), "messages[%zu].content", index);
    if (message->role == ROLE_TOOL)
        return read_tool_result(item, message, arena, field, err);
    if (message->role != ROLE_ASSISTANT)
        return openai_chat_read_content(yyjson_obj_get(item, "content"), &message->parts, arena,
                                        field, err);
    if (yyjson_obj_get(item, "function_call"))
        return format_bad(err, ERR_UNSUPPORTED, "messages[].function_call",
                          "is the old form: send `tool_calls`");
    enum rc rc = read_reasoning(item, message, arena, err);
    if (!rc)
        rc = openai_chat_read_content(yyjson_obj_get(item, "content"), &message->parts, arena,
                                      field, err);
    struct str refusal = json_get_text(item, "refusal");
    if (!rc && refusal.n) {
        struct part *part = event_add_part(&message->parts, arena, PART_REFUSAL);
        if (!part)
            return format_out_of_memory(err);
        part->text = refusal;
    }
    return rc ? rc : read_tool_calls(yyjson_obj_get(item, "tool_calls"), message, arena, err);
}

static enum rc read_tools(yyjson_val *root, struct arena *arena, struct event_request *out,
                          struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, n, item)
    {
        struct tool *tool = event_add_tool(out, arena);
        if (!tool)
            return format_out_of_memory(err);
        if (str_eq(json_get_text(item, "type"), STR("custom")))
            return format_bad(err, ERR_UNSUPPORTED, "tools[].type",
                              "cannot be custom for this target: describe the tool as a function");
        yyjson_val *from = yyjson_obj_get(item, "function");
        yyjson_val *parameters = yyjson_obj_get(from, "parameters");
        yyjson_val *strict = yyjson_obj_get(from, "strict"),
                   *cache = yyjson_obj_get(item, "cache_control");
        tool->name = json_get_text(from, "name");
        tool->description = json_get_text(from, "description");
        if (yyjson_is_obj(parameters))
            tool->parameters = json_write(parameters, arena);
        if (yyjson_is_bool(strict))
            tool->strict = yyjson_get_bool(strict) ? STRICT_YES : STRICT_NO;
        if (yyjson_is_obj(cache))
            tool->cache = json_write(cache, arena);
        if (!tool->name.n)
            return format_bad(err, ERR_BAD_FIELD, "tools[].function.name", "is missing");
    }
    return RC_OK;
}

static enum rc read_tool_choice(yyjson_val *root, struct event_request *out, struct err *err)
{
    yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
    struct str word = json_text(choice);
    if (!choice || yyjson_is_null(choice))
        return RC_OK;
    if (str_eq(word, STR("auto")))
        out->tool_choice = TOOL_CHOICE_AUTO;
    else if (str_eq(word, STR("none")))
        out->tool_choice = TOOL_CHOICE_NONE;
    else if (str_eq(word, STR("required")) || str_eq(word, STR("any")))
        out->tool_choice = TOOL_CHOICE_REQUIRED;
    if (out->tool_choice != TOOL_CHOICE_UNSET)
        return RC_OK;
    yyjson_val *named = yyjson_obj_get(choice, "function");
    if (!named)
        named = yyjson_obj_get(choice, "custom");
    out->tool_choice = TOOL_CHOICE_NAMED;
    out->tool_choice_name = json_get_text(named, "name");
    return out->tool_choice_name.n
               ? RC_OK
               : format_bad(err, ERR_UNSUPPORTED, "tool_choice",
                            "must be none, auto, required or "
                            "{\"type\":\"function\",\"function\":{\"name\":…}}");
}

static enum rc read_response_format(yyjson_val *root, struct arena *arena,
                                    struct event_request *out, struct err *err)
{
    yyjson_val *format = yyjson_obj_get(root, "response_format");
    struct str type = json_get_text(format, "type");
    if (str_eq(type, STR("json_object"))) {
        out->shape = SHAPE_JSON_OBJECT;
    } else if (str_eq(type, STR("json_schema"))) {
        yyjson_val *schema = yyjson_obj_get(format, "json_schema");
        yyjson_val *body = yyjson_obj_get(schema, "schema");
        out->shape = SHAPE_JSON_SCHEMA;
        out->schema = yyjson_is_obj(body) ? json_write(body, arena) : STR_EMPTY;
        out->schema_name = json_get_text(schema, "name");
        out->schema_description = json_get_text(schema, "description");
        out->schema_strict = json_get_bool(schema, "strict", false);
        if (!out->schema.n)
            return format_bad(err, ERR_MISSING_FIELD, "response_format.json_schema.schema",
                              "is missing");
    } else if (type.n && !str_eq(type, STR("text"))) {
        return format_bad(err, ERR_BAD_FIELD, "response_format.type",
                          "must be text, json_object or json_schema");
    }
    return RC_OK;
}

static enum rc refuse_others(yyjson_val *root, struct err *err)
{
    static const struct {
        const char *name, *why;
    } refused[] = {
        {"functions", "is the old form: send `tools`"},
        {"function_call", "is the old form: send `tool_choice`"},
        {"audio", "cannot be translated for this target: ask for text"},
        {"web_search_options", "cannot be translated for this target: leave it away"},
    };
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        yyjson_val *value = yyjson_obj_get(root, refused[i].name);
        if (value && !yyjson_is_null(value))
            return format_bad(err, ERR_UNSUPPORTED, refused[i].name, refused[i].why);
    }
    return RC_OK;
}

static enum rc read_request(const struct wire_request *in, struct arena *arena,
                            struct event_request *out, struct err *err)
{
    yyjson_val *root = yyjson_doc_get_root(in->doc), *item;
    size_t i, n;
    enum rc rc = refuse_others(root, err);
    yyjson_arr_foreach(yyjson_obj_get(root, "messages"), i, n, item)
    {
        if (!rc)
            rc = read_message(item, i, arena, out, err);
    }
    if (!rc)
        rc = read_tools(root, arena, out, err);
    if (!rc)
        rc = read_tool_choice(root, out, err);
    if (!rc)
        rc = read_response_format(root, arena, out, err);
    if (!rc && format_read_stops(yyjson_obj_get(root, "stop"), arena, out))
        rc = format_out_of_memory(err);
    if (rc)
        return rc;
    yyjson_val *parallel = yyjson_obj_get(root, "parallel_tool_calls");
    if (yyjson_is_bool(parallel))
        out->parallel_tool_calls = yyjson_get_bool(parallel) ? STR("true") : STR("false");
    yyjson_val *bias = yyjson_obj_get(root, "logit_bias");
    if (yyjson_is_obj(bias) && yyjson_obj_size(bias))
        out->logit_bias = json_write(bias, arena);
    out->output_tokens_max = in->output_tokens_max;
    out->temperature = format_number(root, "temperature", arena);
    out->top_p = format_number(root, "top_p", arena);
    out->top_k = format_number(root, "top_k", arena);
    out->frequency_penalty = format_number(root, "frequency_penalty", arena);
    out->presence_penalty = format_number(root, "presence_penalty", arena);
    out->seed = format_number(root, "seed", arena);
    out->choices = in->choices;
    out->logprobs = json_get_bool(root, "logprobs", false);
    out->top_logprobs = (int)json_get_int(root, "top_logprobs", 0);
    out->reasoning_effort = json_get_text(root, "reasoning_effort");
    out->reasoning_shown = true;
    out->user = in->user;
    out->verbosity = json_get_text(root, "verbosity");
    out->service_tier = json_get_text(root, "service_tier");
    return RC_OK;
}

/* ---- writing an upstream's request ---- */

struct chat_request {
    const struct event_request *request;
    const struct wire_upstream *upstream;
    struct arena *arena;
    struct json_writer *w;
    struct err *err;
    bool emulated; /* tools by a schema: calls and results in the history become text */
};

static bool quirk(const struct chat_request *chat, unsigned quirks)
{
    return chat->upstream->row && (chat->upstream->row->quirks & quirks);
}

/* Nine letters and digits, the same for the same id. */
static struct str tool_id(const struct chat_request *chat, struct str id, char space[10])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (!quirk(chat, PROVIDER_TOOL_ID_9) || id.n == 9)
        return id;
    uint64_t hash = hash_xxh3(id.p, id.n);
    for (int i = 0; i < 9; i++, hash /= 62)
        space[i] = digits[hash % 62];
    return str_make(space, 9);
}

static enum rc put_part(const struct chat_request *chat, const struct part *part)
{
    struct json_writer *w = chat->w;
    switch (part->kind) {
    case PART_TEXT:
    case PART_REFUSAL:
        json_begin_object(w);
        json_put_text(w, "type", "text");
        json_put_string(w, "text", part->text);
        json_end_object(w);
        return RC_OK;
    case PART_IMAGE:
        if (!part->data.n && !part->url.n)
            return format_bad(chat->err, ERR_UNSUPPORTED, "messages[].content",
                              "holds an image by file id: send its data or URL");
        json_begin_object(w);
        json_put_text(w, "type", "image_url");
        json_key(w, "image_url");
        json_begin_object(w);
        format_put_media_url(w, "url", part);
        if (part->detail.n)
            json_put_string(w, "detail", part->detail);
        json_end_object(w);
        json_end_object(w);
        return RC_OK;
    case PART_AUDIO:
        json_begin_object(w);
        json_put_text(w, "type", "input_audio");
        json_key(w, "input_audio");
        json_begin_object(w);
        json_put_string(w, "data", part->data);
        json_put_string(w, "format", part->media_type);
        json_end_object(w);
        json_end_object(w);
        return RC_OK;
    case PART_FILE:
        if (!part->data.n)
            return format_bad(chat->err, ERR_UNSUPPORTED, "messages[].content",
                              "holds a file by URL or id: send its data");
        json_begin_object(w);
        json_put_text(w, "type", "file");
        json_key(w, "file");
        json_begin_object(w);
        json_put_string(w, "filename", part->name.n ? part->name : STR("file.pdf"));
        struct part file = *part;
        if (!file.media_type.n)
            file.media_type = STR("application/pdf");
        format_put_media_url(w, "file_data", &file);
        json_end_object(w);
        json_end_object(w);
        return RC_OK;
    default: return RC_OK;
    }
}

static bool is_content(const struct part *part)
{
    return part->kind == PART_TEXT || part->kind == PART_IMAGE || part->kind == PART_AUDIO ||
           part->kind == PART_FILE || part->kind == PART_REFUSAL;
}

/* `content`: a string where it is one text, else an array; texts only, where media must not be. */
static enum rc put_content(const struct chat_request *chat, const struct part *parts,
                           bool text_only)
{
    const struct part *only = NULL;
    size_t count = 0;
    bool media = false;
    for (const struct part *part = parts; part; part = part->next) {
        if (!is_content(part))
            continue;
        count++;
        only = part;
        media = media || (part->kind != PART_TEXT && part->kind != PART_REFUSAL);
    }
    json_key(chat->w, "content");
    if (text_only || (count == 1 && !media)) {
        struct str text = count == 1 && !media ? only->text : event_join_text(parts, chat->arena);
        if (!text.p && text.n)
            return format_out_of_memory(chat->err);
        json_string(chat->w, text);
        return RC_OK;
    }
    json_begin_array(chat->w);
    for (const struct part *part = parts; part; part = part->next) {
        enum rc rc = is_content(part) ? put_part(chat, part) : RC_OK;
        if (rc)
            return rc;
    }
    json_end_array(chat->w);
    return RC_OK;
}

static void put_tool_call(const struct chat_request *chat, const struct part *part)
{
    struct json_writer *w = chat->w;
    char space[10];
    json_begin_object(w);
    json_put_string(w, "id", tool_id(chat, part->id, space));
    json_put_text(w, "type", "function");
    json_key(w, "function");
    json_begin_object(w);
    json_put_string(w, "name", part->name);
    json_put_string(w, "arguments", format_arguments(part, chat->arena));
    json_end_object(w);
    json_end_object(w);
}

static bool has_part(const struct message *message, enum part_kind kind)
{
    for (const struct part *part = message->parts; part; part = part->next)
        if (part->kind == kind)
            return true;
    return false;
}

static struct str join_reasoning(const struct message *message, struct arena *arena)
{
    struct str text = STR("");
    for (const struct part *part = message->parts; part; part = part->next)
        if (part->kind == PART_REASONING && text.p)
            text = arena_concat(arena, text, part->text);
    return text;
}

/* A call that the template cannot show, as the text that the model itself would have written. */
static enum rc put_calls_as_text(const struct chat_request *chat, const struct message *message)
{
    struct str text = event_join_text(message->parts, chat->arena);
    for (const struct part *part = message->parts; part && text.p; part = part->next) {
        if (part->kind != PART_TOOL_CALL)
            continue;
        struct str name = format_quote(part->name, chat->arena);
        struct str arguments = format_arguments(part, chat->arena);
        if (!name.p || !arguments.p)
            return format_out_of_memory(chat->err);
        struct str call = arena_printf(chat->arena, "%s{\"name\":%.*s,\"arguments\":%.*s}",
                                       text.n ? "\n" : "", STR_ARG(name), STR_ARG(arguments));
        text = call.p ? arena_concat(chat->arena, text, call) : STR_EMPTY;
    }
    if (!text.p)
        return format_out_of_memory(chat->err);
    json_put_string(chat->w, "content", text);
    return RC_OK;
}

static enum rc put_assistant(const struct chat_request *chat, const struct message *message)
{
    struct json_writer *w = chat->w;
    bool calls = has_part(message, PART_TOOL_CALL), content = false;
    for (const struct part *part = message->parts; part; part = part->next)
        content = content || is_content(part);
    json_begin_object(w);
    json_put_text(w, "role", "assistant");
    struct str field = chat->upstream->row ? chat->upstream->row->reasoning_field : STR_EMPTY;
    if (field.n && has_part(message, PART_REASONING))
        json_put_string(w, field.p, join_reasoning(message, chat->arena));
    enum rc rc = RC_OK;
    if (calls && chat->emulated)
        rc = put_calls_as_text(chat, message);
    else if (content || !calls)
        rc = put_content(chat, message->parts, true);
    else
        json_put_null(w, "content");
    if (calls && !chat->emulated) {
        json_key(w, "tool_calls");
        json_begin_array(w);
        for (const struct part *part = message->parts; part; part = part->next)
            if (part->kind == PART_TOOL_CALL)
                put_tool_call(chat, part);
        json_end_array(w);
    }
    json_end_object(w);
    return rc;
}

static enum rc put_tool_result(const struct chat_request *chat, const struct part *part)
{
    struct json_writer *w = chat->w;
    char space[10];
    struct str text = event_join_text(part->parts, chat->arena);
    if (!text.n && part->parts)
        text = STR("(The result follows as an image.)");
    if (part->is_error)
        text = arena_concat(chat->arena, STR("Error: "), text);
    json_begin_object(w);
    json_put_text(w, "role", chat->emulated ? "user" : "tool");
    if (chat->emulated)
        text = arena_concat(chat->arena, STR("Result of the tool call: "), text);
    else
        json_put_string(w, "tool_call_id", tool_id(chat, part->id, space));
    json_put_string(w, "content", text);
    json_end_object(w);
    return text.p ? RC_OK : format_out_of_memory(chat->err);
}

/* Tool messages carry text only: the media of results follow in a user message. */
static enum rc put_result_media(const struct chat_request *chat, const struct message *message)
{
    struct json_writer *w = chat->w;
    bool begun = false;
    for (const struct part *result = message->parts; result; result = result->next) {
        if (result->kind != PART_TOOL_RESULT)
            continue;
        for (const struct part *part = result->parts; part; part = part->next) {
            if (!is_content(part) || part->kind == PART_TEXT || part->kind == PART_REFUSAL)
                continue;
            if (!begun) {
                json_begin_object(w);
                json_put_text(w, "role", "user");
                json_key(w, "content");
                json_begin_array(w);
                begun = true;
            }
            enum rc rc = put_part(chat, part);
            if (rc)
                return rc;
        }
    }
    if (begun) {
        json_end_array(w);
        json_end_object(w);
    }
    return RC_OK;
}

static enum rc put_user(const struct chat_request *chat, const struct message *message)
{
    struct json_writer *w = chat->w;
    bool content = false;
    enum rc rc = RC_OK;
    for (const struct part *part = message->parts; part && !rc; part = part->next) {
        if (part->kind == PART_TOOL_RESULT)
            rc = put_tool_result(chat, part);
        content = content || is_content(part);
    }
    if (!rc)
        rc = put_result_media(chat, message);
    if (rc || (!content && has_part(message, PART_TOOL_RESULT)))
        return rc;
    json_begin_object(w);
    json_put_text(w, "role", "user");
    if (message->name.n && !quirk(chat, PROVIDER_NO_MESSAGE_NAME))
        json_put_string(w, "name", message->name);
    rc = put_content(chat, message->parts, false);
    json_end_object(w);
    return rc;
}

static enum rc put_message(const struct chat_request *chat, const struct message *message)
{
    switch (message->role) {
    case ROLE_ASSISTANT: return put_assistant(chat, message);
    case ROLE_USER:
    case ROLE_TOOL: return put_user(chat, message);
    default: break;
    }
    bool developer = message->role == ROLE_DEVELOPER && !quirk(chat, PROVIDER_NO_DEVELOPER);
    json_begin_object(chat->w);
    json_put_text(chat->w, "role", developer ? "developer" : "system");
    enum rc rc = put_content(chat, message->parts, true);
    json_end_object(chat->w);
    return rc;
}

static void put_tools(const struct chat_request *chat)
{
    const struct event_request *request = chat->request;
    struct json_writer *w = chat->w;
    json_key(w, "tools");
    json_begin_array(w);
    for (const struct tool *tool = request->tools; tool; tool = tool->next) {
        json_begin_object(w);
        json_put_text(w, "type", "function");
        json_key(w, "function");
        json_begin_object(w);
        json_put_string(w, "name", tool->name);
        if (tool->description.n)
            json_put_string(w, "description", tool->description);
        if (tool->custom)
            json_put_raw(w, "parameters", format_custom_schema);
        else if (tool->parameters.n)
            json_put_raw(w, "parameters", tool->parameters);
        if (tool->strict == STRICT_YES && !quirk(chat, PROVIDER_TEMPLATE_TOOLS))
            json_put_bool(w, "strict", true);
        json_end_object(w);
        json_end_object(w);
    }
    json_end_array(w);
    if (request->tool_choice == TOOL_CHOICE_NAMED) {
        json_key(w, "tool_choice");
        json_begin_object(w);
        json_put_text(w, "type", "function");
        json_key(w, "function");
        json_begin_object(w);
        json_put_string(w, "name", request->tool_choice_name);
        json_end_object(w);
        json_end_object(w);
    } else if (request->tool_choice == TOOL_CHOICE_REQUIRED) {
        json_put_text(w, "tool_choice", quirk(chat, PROVIDER_REQUIRED_IS_ANY) ? "any" : "required");
    } else if (request->tool_choice != TOOL_CHOICE_UNSET) {
        json_put_text(w, "tool_choice", request->tool_choice == TOOL_CHOICE_NONE ? "none" : "auto");
    }
    if (request->parallel_tool_calls.n)
        json_put_raw(w, "parallel_tool_calls", request->parallel_tool_calls);
}

static void put_shape(const struct chat_request *chat)
{
    const struct event_request *request = chat->request;
    struct json_writer *w = chat->w;
    if (request->shape == SHAPE_TEXT)
        return;
    json_key(w, "response_format");
    json_begin_object(w);
    json_put_text(w, "type", request->shape == SHAPE_JSON_OBJECT ? "json_object" : "json_schema");
    if (request->shape == SHAPE_JSON_SCHEMA) {
        json_key(w, "json_schema");
        json_begin_object(w);
        json_put_string(w, "name", request->schema_name.n ? request->schema_name : STR("answer"));
        if (request->schema_description.n)
            json_put_string(w, "description", request->schema_description);
        json_put_raw(w, "schema", request->schema);
        if (request->schema_strict)
            json_put_bool(w, "strict", true);
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_number(struct json_writer *w, const char *name, struct str number)
{
    if (number.n)
        json_put_raw(w, name, number);
}

static void put_sampling(const struct chat_request *chat)
{
    const struct event_request *request = chat->request;
    struct json_writer *w = chat->w;
    bool lenient = !quirk(chat, PROVIDER_STRICT_FIELDS);
    if (request->output_tokens_max)
        json_put_int(w,
                     quirk(chat, PROVIDER_OLD_MAX_TOKENS) ? "max_tokens" : "max_completion_tokens",
                     request->output_tokens_max);
    put_number(w, "temperature", request->temperature);
    put_number(w, "top_p", request->top_p);
    if (quirk(chat, PROVIDER_TAKES_TOP_K))
        put_number(w, "top_k", request->top_k);
    put_number(w, "frequency_penalty", request->frequency_penalty);
    put_number(w, "presence_penalty", request->presence_penalty);
    put_number(w, quirk(chat, PROVIDER_RANDOM_SEED) ? "random_seed" : "seed", request->seed);
    put_number(w, "logit_bias", lenient ? request->logit_bias : STR_EMPTY);
    if (request->stop_count) {
        json_key(w, "stop");
        json_begin_array(w);
        for (size_t i = 0; i < request->stop_count; i++)
            json_string(w, request->stops[i]);
        json_end_array(w);
    }
    if (request->choices > 1)
        json_put_int(w, "n", request->choices);
    if (request->logprobs)
        json_put_bool(w, "logprobs", true);
    if (request->logprobs && request->top_logprobs)
        json_put_int(w, "top_logprobs", request->top_logprobs);
    struct str effort = request->reasoning_effort;
    if (!effort.n)
        effort = event_effort_of_budget(request->reasoning_budget_tokens);
    if (str_eq(effort, STR("max")))
        effort = STR("xhigh");
    if (effort.n && lenient && !quirk(chat, PROVIDER_TEMPLATE_TOOLS))
        json_put_string(w, "reasoning_effort", effort);
    if (request->user.n && lenient)
        json_put_string(w, "user", request->user);
    if (request->verbosity.n && lenient)
        json_put_string(w, "verbosity", request->verbosity);
}

static enum rc write_request(const struct event_request *request,
                             const struct wire_upstream *upstream, struct arena *arena,
                             struct json_writer *w, struct err *err)
{
    struct chat_request chat = {
        .request = request, .upstream = upstream, .arena = arena, .w = w, .err = err};
    struct event_request changed = *request;
    chat.emulated = quirk(&chat, PROVIDER_TEMPLATE_TOOLS) && !upstream->template_has_tools;
    if (chat.emulated && request->tool_count) {
        enum rc rc = openai_chat_emulate_tools(&changed, arena, err);
        if (rc)
            return rc;
        chat.request = &changed;
    }
    json_begin_object(w);
    json_put_string(w, "model", upstream->model);
    json_key(w, "messages");
    json_begin_array(w);
    for (const struct message *message = chat.request->messages; message; message = message->next) {
        enum rc rc = put_message(&chat, message);
        if (rc)
            return rc;
    }
    json_end_array(w);
    json_put_bool(w, "stream", upstream->stream);
    if (upstream->stream && !quirk(&chat, PROVIDER_USAGE_UNASKED)) {
        json_key(w, "stream_options");
        json_raw(w, STR("{\"include_usage\":true}"));
    }
    if (chat.request->tool_count)
        put_tools(&chat);
    put_shape(&chat);
    put_sampling(&chat);
    json_end_object(w);
    return RC_OK;
}

const struct provider_format openai_chat_format = {
    .read_request = read_request,
    .write_request = write_request,
    .read_event = openai_chat_read_event,
    .read_whole = openai_chat_read_whole,
    .read_end = openai_chat_read_end,
    .write_event = openai_chat_write_event,
    .write_whole = openai_chat_write_whole,
};
