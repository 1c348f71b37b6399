/* Tools for engines whose chat template has none: llama-server drops tools silently there, also
 * when one is required. A JSON schema of {"name": const, "arguments": …} does make a proper call,
 * but it forces one: so `required` and named tools work, and `auto` is refused. The answer's text
 * becomes a call again in wire_translate.c. */
#include "gateway/provider/openai_chat.h"
#include "base/limits.h"

static void put_call_schema(struct json_writer *w, const struct tool *tool)
{
    json_begin_object(w);
    json_put_text(w, "type", "object");
    json_key(w, "properties");
    json_begin_object(w);
    json_key(w, "name");
    json_begin_object(w);
    json_put_string(w, "const", tool->name);
    json_end_object(w);
    json_put_raw(w, "arguments",
                 tool->custom         ? format_custom_schema
                 : tool->parameters.n ? tool->parameters
                                      : STR("{\"type\":\"object\"}"));
    json_end_object(w);
    json_key(w, "required");
    json_raw(w, STR("[\"name\",\"arguments\"]"));
    json_put_bool(w, "additionalProperties", false);
    json_end_object(w);
}

static void put_schema(struct json_writer *w, const struct event_request *request)
{
    bool named = request->tool_choice == TOOL_CHOICE_NAMED;
    if (named || request->tool_count == 1) {
        put_call_schema(w, named ? event_find_tool(request, request->tool_choice_name)
                                 : request->tools);
        return;
    }
    json_begin_object(w);
    json_key(w, "anyOf");
    json_begin_array(w);
    for (const struct tool *tool = request->tools; tool; tool = tool->next)
        put_call_schema(w, tool);
    json_end_array(w);
    json_end_object(w);
}

static void put_instructions(struct json_writer *w, const struct event_request *request)
{
    json_append(
        w, STR("Answer with one call of a tool, as JSON: {\"name\": …, \"arguments\": …}. Tools:"));
    for (const struct tool *tool = request->tools; tool; tool = tool->next) {
        json_append(w, STR("\n- "));
        json_append(w, tool->name);
        json_append(w, STR(": "));
        json_append(w, tool->description);
        json_append(w, STR(" Arguments: "));
        json_append(w, tool->custom ? format_custom_schema : tool->parameters);
    }
}

static struct str written(void (*put)(struct json_writer *, const struct event_request *),
                          const struct event_request *request, struct arena *arena)
{
    struct buf buf;
    buf_init(&buf, LIMIT_API_BODY_BYTES);
    struct json_writer w = json_writer_to(&buf);
    put(&w, request);
    struct str text = w.rc ? STR_EMPTY : arena_copy(arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}

enum rc openai_chat_emulate_tools(struct event_request *request, struct arena *arena,
                                  struct err *err)
{
    enum tool_choice choice = request->tool_choice;
    if (choice == TOOL_CHOICE_UNSET || choice == TOOL_CHOICE_AUTO)
        return format_bad(err, ERR_UNSUPPORTED, "tool_choice",
                          "cannot be auto: this model's template knows no tools. Use required or a "
                          "named tool, or a model with tools");
    if (choice == TOOL_CHOICE_NAMED && !event_find_tool(request, request->tool_choice_name))
        return format_bad(err, ERR_BAD_FIELD, "tool_choice", "names a tool that is not in `tools`");
    if (choice != TOOL_CHOICE_NONE) {
        if (request->shape != SHAPE_TEXT)
            return format_bad(err, ERR_UNSUPPORTED, "response_format",
                              "cannot go with tools on a model whose template knows none");
        request->shape = SHAPE_JSON_SCHEMA;
        request->schema_name = STR("tool_call");
        request->schema = written(put_schema, request, arena);
        struct message *message = ARENA_NEW(arena, struct message);
        if (!message || !request->schema.p)
            return format_out_of_memory(err);
        struct part *part = event_add_part(&message->parts, arena, PART_TEXT);
        if (!part)
            return format_out_of_memory(err);
        part->text = written(put_instructions, request, arena);
        message->role = ROLE_SYSTEM;
        message->next = request->messages;
        request->messages = message;
    }
    request->tools = NULL;
    request->tool_count = 0;
    request->tool_choice = TOOL_CHOICE_UNSET;
    return RC_OK;
}
