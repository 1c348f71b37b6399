/* What the formats share. */
#include "gateway/provider/format.h"
#include "base/limits.h"

const struct str format_custom_schema =
    STR_INIT("{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},"
             "\"required\":[\"input\"],\"additionalProperties\":false}");

const struct provider_format *provider_format_of(enum wire_format format)
{
    switch (format) {
    case WIRE_OPENAI_CHAT: return &openai_chat_format;
    case WIRE_ANTHROPIC: return &anthropic_format;
    case WIRE_OPENAI_RESPONSES: return &openai_responses_format;
    default: return NULL;
    }
}

enum rc format_bad(struct err *err, enum err_code code, const char *field, const char *message)
{
    return err_set_field(err, code, field, "`%s` %s", field, message);
}

enum rc format_out_of_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may use");
}

struct str format_number(yyjson_val *object, const char *name, struct arena *arena)
{
    yyjson_val *value = yyjson_obj_get(object, name);
    return yyjson_is_num(value) ? json_write(value, arena) : STR_EMPTY;
}

enum rc format_read_stops(yyjson_val *value, struct arena *arena, struct event_request *out)
{
    size_t count = yyjson_is_str(value) ? 1 : yyjson_arr_size(value), i, n;
    yyjson_val *item;
    if (count == 0)
        return RC_OK;
    out->stops = ARENA_NEW_ARRAY(arena, struct str, count);
    if (!out->stops)
        return RC_LIMIT;
    if (yyjson_is_str(value))
        out->stops[out->stop_count++] = json_text(value);
    yyjson_arr_foreach(value, i, n, item)
    {
        if (yyjson_is_str(item))
            out->stops[out->stop_count++] = json_text(item);
    }
    return RC_OK;
}

bool format_split_data_url(struct str url, struct str *media_type, struct str *data)
{
    ssize_t comma = str_find_char(url, ',');
    if (!str_starts(url, STR("data:")) || comma < 0)
        return false;
    struct str head = str_slice(url, 5, (size_t)comma);
    if (!str_ends(head, STR(";base64")))
        return false;
    head.n -= strlen(";base64");
    ssize_t semicolon = str_find_char(head, ';');
    *media_type = semicolon < 0 ? head : str_slice(head, 0, (size_t)semicolon);
    *data = str_slice(url, (size_t)comma + 1, url.n);
    return true;
}

void format_put_media_url(struct json_writer *w, const char *name, const struct part *part)
{
    if (!part->data.n) {
        json_put_string(w, name, part->url);
        return;
    }
    json_key(w, name);
    json_append(w, STR("\"data:"));
    json_append_escaped(w, part->media_type.n ? part->media_type : STR("image/png"));
    json_append(w, STR(";base64,"));
    json_append_escaped(w, part->data);
    json_append(w, STR("\""));
    w->comma = true;
}

enum rc format_merge_params(struct str body, struct str params, struct arena *arena,
                            struct str *out)
{
    struct json_object object, added;
    struct json_edit edit;
    size_t count;
    *out = body;
    if (!params.n)
        return RC_OK;
    enum rc rc = json_index(body, arena, &object);
    if (!rc)
        rc = json_index(params, arena, &added);
    if (rc)
        return rc;
    json_edit_init(&edit, &object, arena);
    for (size_t i = 0; !rc && i < added.count; i++) {
        struct str value = json_member_value(&added, &added.members[i]);
        rc = str_eq(value, STR("null")) ? json_edit_remove(&edit, added.members[i].name)
                                        : json_edit_set(&edit, added.members[i].name, value);
    }
    return rc ? rc : json_edit_finish(&edit, out, 1, &count);
}

struct str format_quote(struct str s, struct arena *arena)
{
    struct buf buf;
    buf_init(&buf, s.n * 6 + 8);
    struct json_writer w = json_writer_to(&buf);
    json_string(&w, s);
    struct str text = w.rc ? STR_EMPTY : arena_copy(arena, buf_str(&buf));
    buf_fini(&buf);
    return text;
}

static bool is_object(struct str text, struct arena *arena)
{
    yyjson_doc *doc;
    return text.p[0] == '{' && json_read(text, arena, &doc, NULL) == RC_OK;
}

struct str format_arguments(const struct part *part, struct arena *arena)
{
    struct str text = str_trim(part->text);
    if (!text.n)
        return STR("{}");
    if (!part->custom && is_object(text, arena))
        return text;
    struct str quoted = format_quote(part->text, arena);
    return quoted.p ? arena_printf(arena, "{\"input\":%.*s}", STR_ARG(quoted)) : STR_EMPTY;
}

struct str format_custom_input(struct str arguments, struct arena *arena)
{
    yyjson_doc *doc;
    if (json_read(arguments, arena, &doc, NULL) != RC_OK)
        return arguments;
    yyjson_val *input = yyjson_obj_get(yyjson_doc_get_root(doc), "input");
    return yyjson_is_str(input) ? json_text(input) : arguments;
}

/* ---- answers ---- */

enum rc format_start(struct event_reader *reader, struct str id, struct str model)
{
    struct event event = {.kind = EVENT_START, .response_id = id, .model = model};
    return reader->emit(reader->arg, &event);
}

enum rc format_begin(struct event_reader *reader, int choice, int part, enum part_kind kind,
                     struct str id, struct str name)
{
    struct event event = {.kind = EVENT_PART_BEGIN,
                          .choice = choice,
                          .part = part,
                          .part_kind = kind,
                          .id = id,
                          .name = name};
    return reader->emit(reader->arg, &event);
}

enum rc format_delta(struct event_reader *reader, int choice, int part, enum part_kind kind,
                     struct str text, struct str logprobs)
{
    struct event event = {.kind = EVENT_PART_DELTA,
                          .choice = choice,
                          .part = part,
                          .part_kind = kind,
                          .text = text,
                          .logprobs = logprobs};
    return reader->emit(reader->arg, &event);
}

enum rc format_end(struct event_reader *reader, int choice, int part, enum part_kind kind)
{
    struct event event = {
        .kind = EVENT_PART_END, .choice = choice, .part = part, .part_kind = kind};
    return reader->emit(reader->arg, &event);
}

enum rc format_finish(struct event_reader *reader, int choice, enum finish finish,
                      struct str stop_sequence)
{
    struct event event = {
        .kind = EVENT_FINISH, .choice = choice, .finish = finish, .stop_sequence = stop_sequence};
    return reader->emit(reader->arg, &event);
}

enum rc format_usage(struct event_reader *reader)
{
    struct event event = {.kind = EVENT_USAGE, .usage = reader->usage};
    return reader->emit(reader->arg, &event);
}

enum rc format_done(struct event_reader *reader)
{
    struct event event = {.kind = EVENT_DONE};
    reader->done = true;
    return reader->emit(reader->arg, &event);
}

enum rc format_protocol_error(struct event_reader *reader, const char *what)
{
    err_set(reader->err, ERR_UPSTREAM_PROTOCOL, "the provider's answer %s", what);
    return RC_INVALID;
}

yyjson_val *format_parse(struct event_reader *reader, struct str data)
{
    yyjson_doc *doc = NULL;
    if (json_read(data, reader->scratch, &doc, NULL) == RC_OK)
        return yyjson_doc_get_root(doc);
    format_protocol_error(reader, "holds a stream event that is not JSON");
    return NULL;
}

/* ---- signatures ---- */

static const struct {
    enum wire_format format;
    struct str prefix;
} makers[] = {
    {WIRE_ANTHROPIC, STR_INIT("capstan.anthropic:")},
    {WIRE_OPENAI_RESPONSES, STR_INIT("capstan.responses:")},
};
static const struct str redacted_mark = STR_INIT("redacted:");

struct str format_wrap_signature(enum wire_format door, enum wire_format signed_by, bool redacted,
                                 struct str id, struct str signature, struct arena *arena)
{
    if (door == signed_by || !signature.n)
        return signature;
    for (size_t i = 0; i < COUNT_OF(makers); i++)
        if (makers[i].format == signed_by)
            return arena_printf(arena, "%.*s%s%.*s:%.*s", STR_ARG(makers[i].prefix),
                                redacted ? redacted_mark.p : "", STR_ARG(id), STR_ARG(signature));
    return STR_EMPTY;
}

void format_unwrap_signature(enum wire_format door, struct str wrapped, struct part *part)
{
    part->signature = wrapped;
    part->signed_by = door;
    for (size_t i = 0; i < COUNT_OF(makers); i++) {
        if (!str_starts(wrapped, makers[i].prefix))
            continue;
        struct str rest = str_slice(wrapped, makers[i].prefix.n, wrapped.n);
        part->signed_by = makers[i].format;
        part->redacted = str_starts(rest, redacted_mark);
        if (part->redacted)
            rest = str_slice(rest, redacted_mark.n, rest.n);
        ssize_t colon = str_find_char(rest, ':');
        part->id = str_slice(rest, 0, colon < 0 ? 0 : (size_t)colon);
        part->signature = str_slice(rest, colon < 0 ? 0 : (size_t)colon + 1, rest.n);
    }
}
