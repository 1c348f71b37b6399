/* OpenAI Responses: requests, and the table of the format's functions. Translated without stored
 * state: what refers to a stored response, conversation or prompt is refused. Answers are read in
 * openai_responses_read.c and written in openai_responses_write.c.
 * Reference: https://github.com/openai/openai-openapi, CreateResponse. */
#include "gateway/provider/openai_responses.h"
#include "base/id.h"

/* ---- reading a door's request ---- */

static enum rc read_file_part(yyjson_val *item, struct part *part, struct err *err)
{
    part->id = json_get_text(item, "file_id");
    part->name = json_get_text(item, "filename");
    part->url = json_get_text(item, "file_url");
    struct str data = json_get_text(item, "file_data");
    if (!format_split_data_url(data, &part->media_type, &part->data))
        part->data = data;
    return part->id.n || part->url.n || part->data.n
               ? RC_OK
               : format_bad(err, ERR_BAD_FIELD, "input[].content", "holds an empty file");
}

static enum rc read_part(yyjson_val *item, struct part **list, struct arena *arena, struct err *err)
{
    static const struct {
        const char *type;
        enum part_kind kind;
    } kinds[] = {
        {"input_text", PART_TEXT},   {"output_text", PART_TEXT},  {"text", PART_TEXT},
        {"refusal", PART_REFUSAL},   {"input_image", PART_IMAGE}, {"input_file", PART_FILE},
        {"input_audio", PART_AUDIO},
    };
    struct str type = json_get_text(item, "type");
    size_t i = 0;
    while (i < COUNT_OF(kinds) && !str_eq(type, str_from(kinds[i].type)))
        i++;
    if (i == COUNT_OF(kinds))
        return err_set_field(err, ERR_UNSUPPORTED, "input[].content",
                             "a part of type \"%.*s\" cannot be given to this target",
                             STR_ARG(type));
    struct part *part = event_add_part(list, arena, kinds[i].kind);
    if (!part)
        return format_out_of_memory(err);
    if (part->kind == PART_TEXT) {
        part->text = json_get_text(item, "text");
    } else if (part->kind == PART_REFUSAL) {
        part->text = json_get_text(item, "refusal");
    } else if (part->kind == PART_AUDIO) {
        yyjson_val *audio = yyjson_obj_get(item, "input_audio");
        part->data = json_get_text(audio, "data");
        part->media_type = json_get_text(audio, "format");
    } else if (part->kind == PART_FILE) {
        return read_file_part(item, part, err);
    } else {
        struct str url = json_get_text(item, "image_url");
        part->detail = json_get_text(item, "detail");
        part->id = json_get_text(item, "file_id");
        if (!format_split_data_url(url, &part->media_type, &part->data))
            part->url = url;
    }
    return RC_OK;
}

static enum rc read_content(yyjson_val *content, struct part **list, struct arena *arena,
                            struct err *err)
{
    size_t i, n;
    yyjson_val *item;
    if (yyjson_is_str(content)) {
        struct part *part = event_add_part(list, arena, PART_TEXT);
        if (!part)
            return format_out_of_memory(err);
        part->text = json_text(content);
    }
    yyjson_arr_foreach(content, i, n, item)
    {
        enum rc rc = read_part(item, list, arena, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static enum rc read_message(yyjson_val *item, struct arena *arena, struct event_request *out,
                            struct err *err)
{
    static const struct {
        const char *name;
        enum event_role role;
    } roles[] = {{"system", ROLE_SYSTEM},
                 {"developer", ROLE_DEVELOPER},
                 {"user", ROLE_USER},
                 {"assistant", ROLE_ASSISTANT}};
    struct str name = json_get_text(item, "role");
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        if (!str_eq(name, str_from(roles[i].name)))
            continue;
        struct message *message = roles[i].role == ROLE_ASSISTANT
                                      ? event_assistant(out, arena)
                                      : event_add_message(out, arena, roles[i].role);
        return message ? read_content(yyjson_obj_get(item, "content"), &message->parts, arena, err)
                       : format_out_of_memory(err);
    }
    return format_bad(err, ERR_BAD_FIELD, "input[].role",
                      "must be system, developer, user or assistant");
}

/* Calls and reasoning are items of their own; they join the assistant's turn that is open. */
static enum rc read_call(yyjson_val *item, bool custom, struct arena *arena,
                         struct event_request *out, struct err *err)
{
    struct message *message = event_assistant(out, arena);
    struct part *part = message ? event_add_part(&message->parts, arena, PART_TOOL_CALL) : NULL;
    if (!part)
        return format_out_of_memory(err);
    part->custom = custom;
    part->id = json_get_text(item, "call_id");
    part->name = json_get_text(item, "name");
    part->text = json_get_text(item, custom ? "input" : "arguments");
    return part->id.n && part->name.n ? RC_OK
                                      : format_bad(err, ERR_MISSING_FIELD, "input[].call_id",
                                                   "and `name` belong to a call");
}

static enum rc read_call_output(yyjson_val *item, struct arena *arena, struct event_request *out,
                                struct err *err)
{
    struct message *message = out->last_message;
    if (!message || message->role != ROLE_TOOL)
        message = event_add_message(out, arena, ROLE_TOOL);
    struct part *part = message ? event_add_part(&message->parts, arena, PART_TOOL_RESULT) : NULL;
    if (!part)
        return format_out_of_memory(err);
    part->id = json_get_text(item, "call_id");
    if (!part->id.n)
        return format_bad(err, ERR_MISSING_FIELD, "input[].call_id", "belongs to a call's output");
    return read_content(yyjson_obj_get(item, "output"), &part->parts, arena, err);
}

static struct str join_summary(yyjson_val *list, struct arena *arena)
{
    struct str text = STR("");
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item)
    {
        if (i && text.p)
            text = arena_concat(arena, text, STR("\n\n"));
        if (text.p)
            text = arena_concat(arena, text, json_get_text(item, "text"));
    }
    return text;
}

static enum rc read_reasoning(yyjson_val *item, struct arena *arena, struct event_request *out,
                              struct err *err)
{
    struct message *message = event_assistant(out, arena);
    struct part *part = message ? event_add_part(&message->parts, arena, PART_REASONING) : NULL;
    if (!part)
        return format_out_of_memory(err);
    yyjson_val *content = yyjson_obj_get(item, "content");
    part->text =
        join_summary(yyjson_arr_size(content) ? content : yyjson_obj_get(item, "summary"), arena);
    part->id = json_get_text(item, "id");
    format_unwrap_signature(WIRE_OPENAI_RESPONSES, json_get_text(item, "encrypted_content"), part);
    return part->text.p ? RC_OK : format_out_of_memory(err);
}

static enum rc read_item(yyjson_val *item, struct arena *arena, struct event_request *out,
                         struct err *err)
{
    struct str type = json_get_text(item, "type");
    if (!type.n || str_eq(type, STR("message")))
        return read_message(item, arena, out, err);
    if (str_eq(type, STR("function_call")) || str_eq(type, STR("custom_tool_call")))
        return read_call(item, type.p[0] == 'c', arena, out, err);
    if (str_eq(type, STR("function_call_output")) || str_eq(type, STR("custom_tool_call_output")))
        return read_call_output(item, arena, out, err);
    if (str_eq(type, STR("reasoning")))
        return read_reasoning(item, arena, out, err);
    if (str_eq(type, STR("item_reference")))
        return format_bad(err, ERR_UNSUPPORTED, "input[]",
                          "refers to a stored item: this target keeps none, send the item itself");
    if (str_eq(type, STR("web_search_call")))
        return RC_OK; /* a record of what the provider did by itself */
    return err_set_field(err, ERR_UNSUPPORTED, "input[].type",
                         "an item of type \"%.*s\" cannot be given to this target", STR_ARG(type));
}

static enum rc read_input(yyjson_val *root, struct arena *arena, struct event_request *out,
                          struct err *err)
{
    struct str instructions = json_get_text(root, "instructions");
    yyjson_val *input = yyjson_obj_get(root, "input"), *item;
    size_t i, n;
    if (instructions.n) {
        struct message *message = event_add_message(out, arena, ROLE_SYSTEM);
        struct part *part = message ? event_add_part(&message->parts, arena, PART_TEXT) : NULL;
        if (!part)
            return format_out_of_memory(err);
        part->text = instructions;
    }
    if (yyjson_is_str(input)) {
        struct message *message = event_add_message(out, arena, ROLE_USER);
        return message ? read_content(input, &message->parts, arena, err)
                       : format_out_of_memory(err);
    }
    if (!yyjson_is_arr(input) || !yyjson_arr_size(input))
        return format_bad(err, ERR_MISSING_FIELD, "input", "must be a text or a list of items");
    yyjson_arr_foreach(input, i, n, item)
    {
        enum rc rc = read_item(item, arena, out, err);
        if (rc)
            return rc;
    }
    return RC_OK;
}

/* Tools that OpenAI runs itself are left out: other targets do not have them. */
static enum rc read_tool(yyjson_val *item, struct arena *arena, struct event_request *out,
                         struct err *err)
{
    struct str type = json_get_text(item, "type");
    bool custom = str_eq(type, STR("custom"));
    if (!custom && !str_eq(type, STR("function")))
        return RC_OK;
    struct tool *tool = event_add_tool(out, arena);
    if (!tool)
        return format_out_of_memory(err);
    yyjson_val *parameters = yyjson_obj_get(item, custom ? "format" : "parameters");
    yyjson_val *strict = yyjson_obj_get(item, "strict");
    tool->custom = custom;
    tool->name = json_get_text(item, "name");
    tool->description = json_get_text(item, "description");
    if (yyjson_is_obj(parameters))
        tool->parameters = json_write(parameters, arena);
    if (yyjson_is_bool(strict))
        tool->strict = yyjson_get_bool(strict) ? STRICT_YES : STRICT_NO;
    return tool->name.n ? RC_OK : format_bad(err, ERR_BAD_FIELD, "tools[].name", "is missing");
}

static enum tool_choice choice_of_word(struct str word)
{
    return str_eq(word, STR("auto"))       ? TOOL_CHOICE_AUTO
           : str_eq(word, STR("none"))     ? TOOL_CHOICE_NONE
           : str_eq(word, STR("required")) ? TOOL_CHOICE_REQUIRED
                                           : TOOL_CHOICE_UNSET;
}

/* {"type":"allowed_tools","mode":…,"tools":[{"type":"function","name":…}]}: the others are left
 * out. */
static void keep_allowed(yyjson_val *choice, struct event_request *out)
{
    struct tool **at = &out->tools;
    out->last_tool = NULL;
    out->tool_count = 0;
    while (*at) {
        size_t i, n;
        yyjson_val *allowed;
        bool found = false;
        yyjson_arr_foreach(yyjson_obj_get(choice, "tools"), i, n, allowed)
        {
            found = found || str_eq(json_get_text(allowed, "name"), (*at)->name);
        }
        if (found) {
            out->last_tool = *at;
            out->tool_count++;
            at = &(*at)->next;
        } else {
            *at = (*at)->next;
        }
    }
}

static enum rc read_tools(yyjson_val *root, struct arena *arena, struct event_request *out,
                          struct err *err)
{
    size_t i, n;
    yyjson_val *item, *choice = yyjson_obj_get(root, "tool_choice");
    yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, n, item)
    {
        enum rc rc = read_tool(item, arena, out, err);
        if (rc)
            return rc;
    }
    if (!choice || yyjson_is_null(choice))
        return RC_OK;
    out->tool_choice = choice_of_word(json_text(choice));
    if (out->tool_choice != TOOL_CHOICE_UNSET)
        return RC_OK;
    if (str_eq(json_get_text(choice, "type"), STR("allowed_tools"))) {
        keep_allowed(choice, out);
        out->tool_choice = choice_of_word(json_get_text(choice, "mode"));
        return RC_OK;
    }
    out->tool_choice = TOOL_CHOICE_NAMED;
    out->tool_choice_name = json_get_text(choice, "name");
    return event_find_tool(out, out->tool_choice_name)
               ? RC_OK
               : format_bad(err, ERR_UNSUPPORTED, "tool_choice",
                            "names a tool that this target cannot be given");
}

static enum rc refuse_stored(yyjson_val *root, struct err *err)
{
    static const char *const stored[] = {"previous_response_id", "conversation", "prompt"};
    for (size_t i = 0; i < COUNT_OF(stored); i++) {
        yyjson_val *value = yyjson_obj_get(root, stored[i]);
        if (value && !yyjson_is_null(value))
            return format_bad(
                err, ERR_UNSUPPORTED, stored[i],
                "refers to stored state, which this target does not keep: send the whole "
                "conversation in `input`");
    }
    if (json_get_bool(root, "background", false))
        return format_bad(err, ERR_UNSUPPORTED, "background",
                          "needs stored state, which this target does not keep: stream instead");
    return RC_OK;
}

static bool includes(yyjson_val *root, const char *what)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(root, "include"), i, n, item)
    {
        if (str_eq(json_text(item), str_from(what)))
            return true;
    }
    return false;
}

static enum rc read_text_config(yyjson_val *root, struct arena *arena, struct event_request *out,
                                struct err *err)
{
    yyjson_val *text = yyjson_obj_get(root, "text"), *format = yyjson_obj_get(text, "format");
    struct str type = json_get_text(format, "type");
    out->verbosity = json_get_text(text, "verbosity");
    if (str_eq(type, STR("json_object"))) {
        out->shape = SHAPE_JSON_OBJECT;
    } else if (str_eq(type, STR("json_schema"))) {
        out->shape = SHAPE_JSON_SCHEMA;
        out->schema = json_write(yyjson_obj_get(format, "schema"), arena);
        out->schema_name = json_get_text(format, "name");
        out->schema_description = json_get_text(format, "description");
        out->schema_strict = json_get_bool(format, "strict", false);
        if (!out->schema.p)
            return format_bad(err, ERR_MISSING_FIELD, "text.format.schema", "is missing");
    }
    return RC_OK;
}

static enum rc read_request(const struct wire_request *in, struct arena *arena,
                            struct event_request *out, struct err *err)
{
    yyjson_val *root = yyjson_doc_get_root(in->doc);
    enum rc rc = refuse_stored(root, err);
    if (!rc)
        rc = read_input(root, arena, out, err);
    if (!rc)
        rc = read_tools(root, arena, out, err);
    if (!rc)
        rc = read_text_config(root, arena, out, err);
    if (rc)
        return rc;
    yyjson_val *reasoning = yyjson_obj_get(root, "reasoning");
    yyjson_val *parallel = yyjson_obj_get(root, "parallel_tool_calls");
    if (yyjson_is_bool(parallel) && out->tool_count)
        out->parallel_tool_calls = yyjson_get_bool(parallel) ? STR("true") : STR("false");
    out->reasoning_effort = json_get_text(reasoning, "effort");
    out->reasoning_shown = json_get_text(reasoning, "summary").n > 0;
    out->reasoning_encrypted = includes(root, "reasoning.encrypted_content");
    out->logprobs = includes(root, "message.output_text.logprobs");
    out->top_logprobs = (int)json_get_int(root, "top_logprobs", 0);
    out->output_tokens_max = in->output_tokens_max;
    out->temperature = format_number(root, "temperature", arena);
    out->top_p = format_number(root, "top_p", arena);
    out->choices = 1;
    out->user = in->user;
    out->service_tier = json_get_text(root, "service_tier");
    return RC_OK;
}

/* ---- writing an upstream's request ---- */

struct responses_request {
    const struct event_request *request;
    struct arena *arena;
    struct json_writer *w;
    struct err *err;
};

static enum rc put_part(const struct responses_request *out, const struct part *part,
                        bool assistant)
{
    struct json_writer *w = out->w;
    if (part->kind == PART_AUDIO)
        return format_bad(
            out->err, ERR_UNSUPPORTED, "messages[].content",
            "holds audio, which this endpoint does not take: use a target that speaks chat");
    json_begin_object(w);
    switch (part->kind) {
    case PART_REFUSAL:
        json_put_text(w, "type", assistant ? "refusal" : "input_text");
        json_put_string(w, assistant ? "refusal" : "text", part->text);
        break;
    case PART_IMAGE:
        json_put_text(w, "type", "input_image");
        if (part->id.n)
            json_put_string(w, "file_id", part->id);
        else
            format_put_media_url(w, "image_url", part);
        json_put_string(w, "detail", part->detail.n ? part->detail : STR("auto"));
        break;
    case PART_FILE:
        json_put_text(w, "type", "input_file");
        if (part->id.n)
            json_put_string(w, "file_id", part->id);
        else if (part->url.n)
            json_put_string(w, "file_url", part->url);
        else {
            struct part file = *part;
            if (!file.media_type.n)
                file.media_type = STR("application/pdf");
            json_put_string(w, "filename", part->name.n ? part->name : STR("file.pdf"));
            format_put_media_url(w, "file_data", &file);
        }
        break;
    default:
        json_put_text(w, "type", assistant ? "output_text" : "input_text");
        json_put_string(w, "text", part->text);
        if (assistant) {
            json_key(w, "annotations");
            json_raw(w, STR("[]"));
        }
        break;
    }
    json_end_object(w);
    return RC_OK;
}

static bool is_content(const struct part *part)
{
    return part->kind == PART_TEXT || part->kind == PART_REFUSAL || part->kind == PART_IMAGE ||
           part->kind == PART_FILE || part->kind == PART_AUDIO;
}

static void put_tool_call(const struct responses_request *out, const struct part *part)
{
    struct json_writer *w = out->w;
    json_begin_object(w);
    json_put_text(w, "type", part->custom ? "custom_tool_call" : "function_call");
    json_put_string(w, "call_id", part->id);
    json_put_string(w, "name", part->name);
    if (part->custom)
        json_put_string(w, "input", part->text);
    else
        json_put_string(w, "arguments", format_arguments(part, out->arena));
    json_end_object(w);
}

/* Only what OpenAI encrypted goes back as reasoning: it knows it by its id. */
static void put_reasoning_item(const struct responses_request *out, const struct part *part)
{
    struct json_writer *w = out->w;
    if (!part->signature.n || part->signed_by != WIRE_OPENAI_RESPONSES)
        return;
    json_begin_object(w);
    json_put_text(w, "type", "reasoning");
    if (part->id.n)
        json_put_string(w, "id", part->id);
    json_key(w, "summary");
    json_begin_array(w);
    if (part->text.n) {
        json_begin_object(w);
        json_put_text(w, "type", "summary_text");
        json_put_string(w, "text", part->text);
        json_end_object(w);
    }
    json_end_array(w);
    json_put_string(w, "encrypted_content", part->signature);
    json_end_object(w);
}

static enum rc put_call_output(const struct responses_request *out, const struct part *part,
                               bool custom)
{
    struct json_writer *w = out->w;
    bool media = false;
    for (const struct part *inner = part->parts; inner; inner = inner->next)
        media = media || inner->kind == PART_IMAGE || inner->kind == PART_FILE;
    json_begin_object(w);
    json_put_text(w, "type", custom ? "custom_tool_call_output" : "function_call_output");
    json_put_string(w, "call_id", part->id);
    json_key(w, "output");
    if (!media) {
        struct str text = event_join_text(part->parts, out->arena);
        json_string(w, part->is_error ? arena_concat(out->arena, STR("Error: "), text) : text);
    } else {
        json_begin_array(w);
        for (const struct part *inner = part->parts; inner; inner = inner->next) {
            enum rc rc = is_content(inner) ? put_part(out, inner, false) : RC_OK;
            if (rc)
                return rc;
        }
        json_end_array(w);
    }
    json_end_object(w);
    return RC_OK;
}

static bool was_custom(const struct event_request *request, struct str id)
{
    for (const struct message *message = request->messages; message; message = message->next)
        for (const struct part *part = message->parts; part; part = part->next)
            if (part->kind == PART_TOOL_CALL && str_eq(part->id, id))
                return part->custom;
    return false;
}

/* One message becomes items in its parts' order: neighbouring contents make one message item. */
static enum rc put_message(const struct responses_request *out, const struct message *message)
{
    static const char *const roles[] = {[ROLE_SYSTEM] = "system",
                                        [ROLE_DEVELOPER] = "developer",
                                        [ROLE_USER] = "user",
                                        [ROLE_ASSISTANT] = "assistant",
                                        [ROLE_TOOL] = "user"};
    struct json_writer *w = out->w;
    bool open = false, assistant = message->role == ROLE_ASSISTANT;
    enum rc rc = RC_OK;
    for (const struct part *part = message->parts; part && !rc; part = part->next) {
        bool content = is_content(part);
        if (open && !content) {
            json_end_array(w);
            json_end_object(w);
            open = false;
        }
        if (content && !open) {
            json_begin_object(w);
            json_put_text(w, "type", "message");
            json_put_text(w, "role", roles[message->role]);
            json_key(w, "content");
            json_begin_array(w);
            open = true;
        }
        if (content)
            rc = put_part(out, part, assistant);
        else if (part->kind == PART_TOOL_CALL)
            put_tool_call(out, part);
        else if (part->kind == PART_TOOL_RESULT)
            rc = put_call_output(out, part, was_custom(out->request, part->id));
        else
            put_reasoning_item(out, part);
    }
    if (open) {
        json_end_array(w);
        json_end_object(w);
    }
    return rc;
}

static void put_tools(const struct responses_request *out)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    json_key(w, "tools");
    json_begin_array(w);
    for (const struct tool *tool = request->tools; tool; tool = tool->next) {
        json_begin_object(w);
        json_put_text(w, "type", tool->custom ? "custom" : "function");
        json_put_string(w, "name", tool->name);
        if (tool->description.n)
            json_put_string(w, "description", tool->description);
        if (tool->custom) {
            if (tool->parameters.n)
                json_put_raw(w, "format", tool->parameters);
        } else {
            json_put_raw(w, "parameters",
                         tool->parameters.n ? tool->parameters
                                            : STR("{\"type\":\"object\",\"properties\":{}}"));
            json_put_bool(w, "strict", tool->strict == STRICT_YES);
        }
        json_end_object(w);
    }
    json_end_array(w);
    const struct tool *named = event_find_tool(request, request->tool_choice_name);
    if (request->tool_choice == TOOL_CHOICE_NAMED) {
        json_key(w, "tool_choice");
        json_begin_object(w);
        json_put_text(w, "type", named && named->custom ? "custom" : "function");
        json_put_string(w, "name", request->tool_choice_name);
        json_end_object(w);
    } else if (request->tool_choice != TOOL_CHOICE_UNSET) {
        static const char *const words[] = {"", "auto", "none", "required"};
        json_put_text(w, "tool_choice", words[request->tool_choice]);
    }
    if (request->parallel_tool_calls.n)
        json_put_raw(w, "parallel_tool_calls", request->parallel_tool_calls);
}

static void put_text_config(const struct responses_request *out)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    if (request->shape == SHAPE_TEXT && !request->verbosity.n)
        return;
    json_key(w, "text");
    json_begin_object(w);
    if (request->shape != SHAPE_TEXT) {
        json_key(w, "format");
        json_begin_object(w);
        json_put_text(w, "type",
                      request->shape == SHAPE_JSON_OBJECT ? "json_object" : "json_schema");
        if (request->shape == SHAPE_JSON_SCHEMA) {
            json_put_string(w, "name",
                            request->schema_name.n ? request->schema_name : STR("answer"));
            if (request->schema_description.n)
                json_put_string(w, "description", request->schema_description);
            json_put_raw(w, "schema", request->schema);
            json_put_bool(w, "strict", request->schema_strict);
        }
        json_end_object(w);
    }
    if (request->verbosity.n)
        json_put_string(w, "verbosity", request->verbosity);
    json_end_object(w);
}

static void put_settings(const struct responses_request *out)
{
    const struct event_request *request = out->request;
    struct json_writer *w = out->w;
    struct str effort = request->reasoning_effort;
    if (!effort.n)
        effort = event_effort_of_budget(request->reasoning_budget_tokens);
    if (effort.n) {
        json_key(w, "reasoning");
        json_begin_object(w);
        json_put_string(w, "effort", str_eq(effort, STR("max")) ? STR("xhigh") : effort);
        if (request->reasoning_shown)
            json_put_text(w, "summary", "auto");
        json_end_object(w);
    }
    json_key(w, "include");
    json_begin_array(w);
    if (effort.n || request->reasoning_encrypted)
        json_string(w, STR("reasoning.encrypted_content"));
    if (request->logprobs)
        json_string(w, STR("message.output_text.logprobs"));
    json_end_array(w);
    if (request->logprobs && request->top_logprobs)
        json_put_int(w, "top_logprobs", request->top_logprobs);
    if (request->output_tokens_max)
        json_put_int(w, "max_output_tokens", request->output_tokens_max);
    if (request->temperature.n)
        json_put_raw(w, "temperature", request->temperature);
    if (request->top_p.n)
        json_put_raw(w, "top_p", request->top_p);
    if (request->user.n)
        json_put_string(w, "safety_identifier", request->user);
}

static enum rc refuse(const struct event_request *request, struct err *err)
{
    if (request->choices > 1)
        return format_bad(err, ERR_UNSUPPORTED, "n",
                          "must be 1 for this target: call several times");
    if (request->stop_count)
        return format_bad(err, ERR_UNSUPPORTED, "stop",
                          "is not known to this target: use one that speaks chat");
    if (request->logit_bias.n)
        return format_bad(err, ERR_UNSUPPORTED, "logit_bias",
                          "is not known to this target: leave it away");
    return RC_OK;
}

static enum rc write_request(const struct event_request *request,
                             const struct wire_upstream *upstream, struct arena *arena,
                             struct json_writer *w, struct err *err)
{
    struct responses_request out = {request, arena, w, err};
    enum rc rc = refuse(request, err);
    if (rc)
        return rc;
    json_begin_object(w);
    json_put_string(w, "model", upstream->model);
    json_key(w, "input");
    json_begin_array(w);
    for (const struct message *message = request->messages; message && !rc; message = message->next)
        rc = put_message(&out, message);
    if (rc)
        return rc;
    json_end_array(w);
    json_put_bool(w, "stream", upstream->stream);
    json_put_bool(w, "store", false);
    if (request->tool_count)
        put_tools(&out);
    put_text_config(&out);
    put_settings(&out);
    json_end_object(w);
    return RC_OK;
}

const struct provider_format openai_responses_format = {
    .read_request = read_request,
    .write_request = write_request,
    .read_event = openai_responses_read_event,
    .read_whole = openai_responses_read_whole,
    .read_end = openai_responses_read_end,
    .write_event = openai_responses_write_event,
    .write_whole = openai_responses_write_whole,
};

/* ---- file_search ---- */

/* The provider's own stores have other ids: such requests pass as they are. */
static bool is_own_search(yyjson_val *tool)
{
    yyjson_val *ids = yyjson_obj_get(tool, "vector_store_ids"), *one;
    size_t i, n;
    struct id id;
    if (!str_eq(json_get_text(tool, "type"), STR("file_search")) || yyjson_arr_size(ids) == 0)
        return false;
    yyjson_arr_foreach(ids, i, n, one)
    {
        if (id_parse(json_text(one), "vs", &id) != RC_OK)
            return false;
    }
    return true;
}

bool wire_wants_search(const struct wire_request *request)
{
    yyjson_val *root = yyjson_doc_get_root(request->doc), *tool;
    size_t i, n;
    if (request->format != WIRE_OPENAI_RESPONSES || !request->has_tools)
        return false;
    yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, n, tool)
    {
        if (is_own_search(tool))
            return true;
    }
    return false;
}
