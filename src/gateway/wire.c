/* Requests: what the gateway must know of one, and the upstream request in the same format, made by
 * splicing the ranges that must change. Everything else goes by way of the event model
 * (wire_translate.c).
 *
 * A member given twice is refused where we read it ourselves (`model`, `stream`): two readers that
 * take different ones must not be played against each other. */
#include "gateway/provider/format.h"
#include "gateway/wire_internal.h"

#define TOKENS_PER_IMAGE_ESTIMATE 800

/* ---- reading ---- */

/* The members of a request that are looked at here. */
#define REQUEST_MEMBERS(MEMBER)                                                                    \
    MEMBER(model)                                                                                  \
    MEMBER(stream)                                                                                 \
    MEMBER(messages)                                                                               \
    MEMBER(input)                                                                                  \
    MEMBER(stream_options)                                                                         \
    MEMBER(store)                                                                                  \
    MEMBER(user)                                                                                   \
    MEMBER(safety_identifier)                                                                      \
    MEMBER(metadata)                                                                               \
    MEMBER(prompt_cache_key)                                                                       \
    MEMBER(max_completion_tokens)                                                                  \
    MEMBER(max_tokens)                                                                             \
    MEMBER(max_output_tokens)                                                                      \
    MEMBER(n)                                                                                      \
    MEMBER(tools)

struct request_members {
#define MEMBER(name) yyjson_val *name; /* NULL: absent */
    REQUEST_MEMBERS(MEMBER)
#undef MEMBER
};

static const struct request_member {
    struct str name;
    size_t offset;
} request_members[] = {
#define MEMBER(name) {STR_INIT(#name), offsetof(struct request_members, name)},
    REQUEST_MEMBERS(MEMBER)
#undef MEMBER
};

/* The first ones of the table: given twice, two readers could take different ones. */
#define REQUEST_MEMBERS_ONCE 4

/* All of them in one pass; of a name given twice the first, as a look-up would find. */
static enum rc find_members(yyjson_val *root, struct request_members *out, struct err *err)
{
    size_t index, max;
    yyjson_val *key, *value;
    yyjson_obj_foreach(root, index, max, key, value)
    {
        const char *name = yyjson_get_str(key);
        size_t n = yyjson_get_len(key);
        for (size_t i = 0; i < COUNT_OF(request_members); i++) {
            const struct request_member *member = &request_members[i];
            if (member->name.n != n || memcmp(member->name.p, name, n) != 0)
                continue;
            yyjson_val **at = (yyjson_val **)((char *)out + member->offset);
            if (*at && i < REQUEST_MEMBERS_ONCE)
                return err_set_field(err, ERR_BAD_FIELD, member->name.p, "`%s` is given twice",
                                     member->name.p);
            if (!*at)
                *at = value;
            break;
        }
    }
    return RC_OK;
}

static enum rc read_tags(yyjson_val *metadata, struct arena *arena, struct wire_request *out)
{
    size_t count = yyjson_is_obj(metadata) ? MIN(yyjson_obj_size(metadata), (size_t)LIMIT_TAGS) : 0;
    if (count == 0)
        return RC_OK;
    out->tags = ARENA_NEW_ARRAY(arena, struct call_tag, count);
    if (!out->tags)
        return RC_LIMIT;
    size_t index, max;
    yyjson_val *key, *value;
    yyjson_obj_foreach(metadata, index, max, key, value)
    {
        struct str name = json_text(key), text = json_text(value);
        if (!yyjson_is_str(value) || out->tag_count == count)
            continue;
        if (str_eq(name, STR("session_id")) || str_eq(name, STR("session")))
            out->session = text;
        else if (str_eq(name, STR("user_id")) && !out->user.n)
            out->user = text;
        else if (name.n <= LIMIT_TAG_BYTES && text.n <= LIMIT_TAG_BYTES)
            out->tags[out->tag_count++] = (struct call_tag){name, text};
    }
    return RC_OK;
}

/* Coding agents put their session into metadata.user_id: "user_…_session_ID", or as JSON with
 * session_id. */
static void read_session_of_user(struct wire_request *out, struct arena *arena)
{
    ssize_t at = str_find(out->user, STR("_session_"));
    if (out->session.n)
        return;
    if (at >= 0) {
        out->session = str_slice(out->user, (size_t)at + strlen("_session_"), out->user.n);
    } else if (out->user.n && out->user.p[0] == '{') {
        yyjson_doc *doc;
        if (json_read(out->user, arena, &doc, NULL) == RC_OK)
            out->session = json_get_text(yyjson_doc_get_root(doc), "session_id");
    }
}

static bool is_image(struct str type)
{
    return str_eq(type, STR("image_url")) || str_eq(type, STR("image")) ||
           str_eq(type, STR("input_image"));
}

/* Bytes of a part that are media, not text, so that an image does not count as text. */
static size_t media_bytes(yyjson_val *part)
{
    yyjson_val *url = yyjson_obj_get(part, "image_url");
    yyjson_val *source = yyjson_obj_get(part, "source");
    yyjson_val *audio = yyjson_obj_get(part, "input_audio");
    yyjson_val *file = yyjson_obj_get(part, "file");
    return json_text(url).n + json_get_text(url, "url").n + json_get_text(source, "data").n +
           json_get_text(audio, "data").n + json_get_text(file, "file_data").n +
           json_get_text(part, "file_data").n;
}

/* Looks through messages (or Responses' input items) for images; returns the bytes of media in
 * them. */
static size_t read_media(yyjson_val *messages, struct wire_request *out, size_t *images)
{
    size_t bytes = 0, i, n, k, m;
    yyjson_val *message, *part;
    yyjson_arr_foreach(messages, i, n, message)
    {
        yyjson_val *content = yyjson_obj_get(message, "content");
        yyjson_arr_foreach(content, k, m, part)
        {
            if (is_image(json_get_text(part, "type"))) {
                out->has_images = true;
                (*images)++;
            }
            bytes += media_bytes(part);
        }
    }
    return bytes;
}

static enum rc check_top(struct wire_request *out, yyjson_val *root, struct arena *arena,
                         struct request_members *members, struct err *err)
{
    if (!yyjson_is_obj(root))
        return err_set(err, ERR_INVALID, "the body must be a JSON object");
    enum rc rc = json_index(out->body, arena, &out->members);
    if (rc == RC_LIMIT)
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may use");
    if (rc)
        return err_set(err, ERR_BAD_JSON, "not valid JSON");
    rc = find_members(root, members, err);
    if (rc)
        return rc;
    yyjson_val *model = members->model, *stream = members->stream;
    if (!model || (yyjson_is_str(model) && yyjson_get_len(model) == 0))
        return err_set_field(err, ERR_MISSING_FIELD, "model",
                             "`model` is missing: name a route, or provider/model");
    if (!yyjson_is_str(model))
        return err_set_field(err, ERR_BAD_FIELD, "model", "`model` must be a string");
    if (stream && !yyjson_is_bool(stream) && !yyjson_is_null(stream))
        return err_set_field(err, ERR_BAD_FIELD, "stream", "`stream` must be true or false");
    out->model = json_text(model);
    out->stream = yyjson_is_true(stream);
    return RC_OK;
}

static enum rc check_messages(enum wire_format door, yyjson_val *messages, struct err *err)
{
    if (door != WIRE_OPENAI_CHAT && door != WIRE_ANTHROPIC)
        return RC_OK;
    if (!messages)
        return err_set_field(err, ERR_MISSING_FIELD, "messages", "`messages` is missing");
    if (!yyjson_is_arr(messages) || yyjson_arr_size(messages) == 0)
        return err_set_field(err, ERR_BAD_FIELD, "messages",
                             "`messages` must be a non-empty array");
    size_t i, n;
    yyjson_val *message;
    yyjson_arr_foreach(messages, i, n, message)
    {
        if (LIKELY(yyjson_is_str(yyjson_obj_get(message, "role"))))
            continue;
        char field[ERR_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "messages[%zu].role", i);
        return err_set_field(err, ERR_MISSING_FIELD, field, "`%s` must be a string", field);
    }
    return RC_OK;
}

enum rc wire_read_request(enum wire_format door, struct str body, struct arena *arena,
                          struct wire_request *out, struct err *err)
{
    *out = (struct wire_request){.format = door, .body = body, .choices = 1};
    enum rc rc = json_read(body, arena, &out->doc, err);
    if (rc)
        return rc;
    struct request_members members = {0};
    rc = check_top(out, yyjson_doc_get_root(out->doc), arena, &members, err);
    if (!rc)
        rc = check_messages(door, members.messages, err);
    if (rc)
        return rc;
    out->usage_asked = json_get_bool(members.stream_options, "include_usage", false);
    out->store_false = yyjson_is_false(members.store);
    out->user = json_text(members.user);
    if (!out->user.n)
        out->user = json_text(members.safety_identifier);
    if (read_tags(members.metadata, arena, out))
        return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may use");
    read_session_of_user(out, arena);
    if (!out->session.n && door == WIRE_OPENAI_RESPONSES)
        out->session = json_text(members.prompt_cache_key);
    yyjson_val *limits[] = {members.max_completion_tokens, members.max_tokens,
                            members.max_output_tokens};
    for (size_t i = 0; i < COUNT_OF(limits) && out->output_tokens_max <= 0; i++)
        out->output_tokens_max = MAX(json_integer(limits[i], 0), 0);
    out->choices = (int)MIN(MAX(json_integer(members.n, 1), 1), 1024);
    out->has_tools = yyjson_arr_size(members.tools) > 0;
    size_t images = 0, media = read_media(members.messages, out, &images) +
                               read_media(members.input, out, &images);
    out->input_tokens_estimate =
        (body.n - MIN(media, body.n)) / 4 + images * TOKENS_PER_IMAGE_ESTIMATE;
    return RC_OK;
}

/* ---- writing in the same format ---- */

static enum rc out_of_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may use");
}

/* include_usage is asked of every stream: the record and the budget need it. Other options stay. */
static enum rc edit_stream_options(struct json_edit *edit, const struct wire_request *request,
                                   const struct wire_upstream *upstream)
{
    if (wire_has_quirk(upstream, PROVIDER_USAGE_UNASKED))
        return json_edit_remove(edit, STR("stream_options"));
    if (request->usage_asked)
        return RC_OK;
    const struct json_member *member = json_member_find(&request->members, STR("stream_options"));
    struct json_object options;
    if (!member ||
        json_index(json_member_value(&request->members, member), edit->arena, &options) != RC_OK)
        return json_edit_set(edit, STR("stream_options"), STR("{\"include_usage\":true}"));
    struct json_edit inner;
    struct str text;
    size_t count;
    json_edit_init(&inner, &options, edit->arena);
    enum rc rc = json_edit_set(&inner, STR("include_usage"), STR("true"));
    if (!rc)
        rc = json_edit_finish(&inner, &text, 1, &count);
    return rc ? rc : json_edit_set(edit, STR("stream_options"), text);
}

/* The row's differences in how requests are written: names at the top level. */
static enum rc edit_top_quirks(struct json_edit *edit, const struct wire_request *request,
                               const struct wire_upstream *upstream)
{
    const struct json_object *top = &request->members;
    enum rc rc = RC_OK;
    if (wire_has_quirk(upstream, PROVIDER_OLD_MAX_TOKENS) &&
        json_member_find(top, STR("max_completion_tokens")))
        rc = json_member_find(top, STR("max_tokens"))
                 ? json_edit_remove(edit, STR("max_completion_tokens"))
                 : json_edit_rename(edit, STR("max_completion_tokens"), STR("max_tokens"));
    if (!rc && wire_has_quirk(upstream, PROVIDER_RANDOM_SEED))
        rc = json_edit_rename(edit, STR("seed"), STR("random_seed"));
    const struct json_member *choice = json_member_find(top, STR("tool_choice"));
    if (!rc && choice && wire_has_quirk(upstream, PROVIDER_REQUIRED_IS_ANY) &&
        str_eq(json_member_value(top, choice), STR("\"required\"")))
        rc = json_edit_set(edit, STR("tool_choice"), STR("\"any\""));
    static const char *const openai_only[] = {
        "store",
        "user",
        "service_tier",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "verbosity",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "modalities",
        "web_search_options",
        "reasoning_effort",
    };
    for (size_t i = 0;
         !rc && wire_has_quirk(upstream, PROVIDER_STRICT_FIELDS) && i < COUNT_OF(openai_only); i++)
        rc = json_edit_remove(edit, str_from(openai_only[i]));
    return rc;
}

static bool is_text(struct str source, const struct json_member *member, struct str quoted)
{
    return str_eq(str_slice(source, member->value_from, member->value_to), quoted);
}

/* One message: `developer` becomes `system`, `name` is removed. Offsets are the body's. */
static enum rc edit_message(struct json_edit *edit, struct str body, size_t from, size_t to,
                            const struct wire_upstream *upstream)
{
    struct json_object message;
    if (json_index(str_slice(body, from, to), edit->arena, &message) != RC_OK)
        return RC_OK; /* not an object: the upstream will say so */
    const struct json_member *role = json_member_find(&message, STR("role"));
    if (role && wire_has_quirk(upstream, PROVIDER_NO_DEVELOPER) &&
        is_text(message.source, role, STR("\"developer\""))) {
        enum rc rc = json_edit_range(edit, from + role->value_from, from + role->value_to,
                                     STR("\"system\""));
        if (rc)
            return rc;
    }
    if (!wire_has_quirk(upstream, PROVIDER_NO_MESSAGE_NAME) ||
        !json_member_find(&message, STR("name")))
        return RC_OK;
    struct json_edit inner;
    json_edit_init(&inner, &message, edit->arena);
    if (json_edit_remove(&inner, STR("name")))
        return RC_LIMIT;
    for (size_t i = 0; i < message.count; i++) {
        if (!inner.removed[i])
            continue;
        size_t start = i ? message.members[i - 1].value_to : message.members[i].name_from;
        size_t end = i || i + 1 == message.count ? message.members[i].value_to
                                                 : message.members[i + 1].name_from;
        enum rc rc = json_edit_range(edit, from + start, from + end, STR_EMPTY);
        if (rc)
            return rc;
    }
    return RC_OK;
}

static enum rc edit_messages(struct json_edit *edit, const struct wire_request *request,
                             const struct wire_upstream *upstream)
{
    unsigned quirks = PROVIDER_NO_DEVELOPER | PROVIDER_NO_MESSAGE_NAME;
    const struct json_member *messages = json_member_find(&request->members, STR("messages"));
    if (!messages || !wire_has_quirk(upstream, quirks))
        return RC_OK;
    struct str text = json_member_value(&request->members, messages);
    bool developer = memmem(text.p, text.n, "\"developer\"", 11);
    bool name =
        wire_has_quirk(upstream, PROVIDER_NO_MESSAGE_NAME) && memmem(text.p, text.n, "\"name\"", 6);
    if (!developer && !name)
        return RC_OK;
    struct json_items items = json_items_begin(request->body, messages->value_from);
    size_t from, to;
    while (json_items_next(&items, &from, &to)) {
        enum rc rc = edit_message(edit, request->body, from, to, upstream);
        if (rc)
            return rc;
    }
    return RC_OK;
}

/* The target's own parameters win over the request's; null takes a member away. */
static enum rc edit_params(struct json_edit *edit, struct str params, struct arena *arena)
{
    struct json_object object;
    if (!params.n)
        return RC_OK;
    enum rc rc = json_index(params, arena, &object);
    for (size_t i = 0; !rc && i < object.count; i++) {
        struct str value = json_member_value(&object, &object.members[i]);
        rc = str_eq(value, STR("null")) ? json_edit_remove(edit, object.members[i].name)
                                        : json_edit_set(edit, object.members[i].name, value);
    }
    return rc;
}

static bool streams_usage(enum wire_format format)
{
    return format == WIRE_OPENAI_CHAT || format == WIRE_OPENAI_COMPLETIONS;
}

static enum rc splice(const struct wire_request *request, const struct wire_upstream *upstream,
                      struct arena *arena, struct wire_call *out)
{
    struct json_edit edit;
    json_edit_init(&edit, &request->members, arena);
    enum rc rc = RC_OK;
    if (!str_eq(request->model, upstream->model)) {
        struct str model = format_quote(upstream->model, arena);
        rc = model.p ? json_edit_set(&edit, STR("model"), model) : RC_LIMIT;
    }
    if (!rc && upstream->stream && !request->stream)
        rc = json_edit_set(&edit, STR("stream"), STR("true"));
    if (!rc && upstream->stream && streams_usage(request->format))
        rc = edit_stream_options(&edit, request, upstream);
    if (!rc && request->format == WIRE_OPENAI_CHAT)
        rc = edit_top_quirks(&edit, request, upstream);
    if (!rc && request->format == WIRE_OPENAI_CHAT)
        rc = edit_messages(&edit, request, upstream);
    if (!rc)
        rc = edit_params(&edit, upstream->params, arena);
    return rc ? rc : json_edit_finish(&edit, out->body, COUNT_OF(out->body), &out->body_parts);
}

/* The type of the answer's format, wherever the door's format has it. */
static struct str output_format(yyjson_val *root)
{
    struct str format = json_get_text(yyjson_obj_get(root, "response_format"), "type");
    if (!format.n)
        format = json_get_text(yyjson_obj_get(yyjson_obj_get(root, "text"), "format"), "type");
    if (!format.n)
        format =
            json_get_text(yyjson_obj_get(yyjson_obj_get(root, "output_config"), "format"), "type");
    return format;
}

static bool forces_tool(yyjson_val *root)
{
    yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
    struct str kind = yyjson_is_str(choice) ? json_text(choice) : json_get_text(choice, "type");
    return choice && kind.n && !str_eq(kind, STR("auto")) && !str_eq(kind, STR("none"));
}

/* What the row cannot do, said before it is asked, whatever way the request is written. */
static enum rc refuse_unsupported(const struct wire_request *request,
                                  const struct wire_upstream *upstream, struct err *err)
{
    yyjson_val *root = yyjson_doc_get_root(request->doc);
    const char *title = upstream->row ? upstream->row->title.p : "the provider";
    if (upstream->format != WIRE_OPENAI_CHAT)
        return RC_OK;
    if (request->choices > 1 && wire_has_quirk(upstream, PROVIDER_NO_N))
        return err_set_field(err, ERR_UNSUPPORTED, "n",
                             "%s gives one choice per call: leave `n` away and call several times",
                             title);
    if (wire_has_quirk(upstream, PROVIDER_NO_LOGPROBS) && json_get_bool(root, "logprobs", false))
        return err_set_field(err, ERR_UNSUPPORTED, "logprobs",
                             "%s gives no log probabilities: leave `logprobs` away", title);
    if (wire_has_quirk(upstream, PROVIDER_NO_JSON_SCHEMA) &&
        str_eq(output_format(root), STR("json_schema")))
        return err_set_field(err, ERR_UNSUPPORTED, "response_format",
                             "%s takes no JSON schema: use {\"type\":\"json_object\"} and describe "
                             "the schema in the prompt",
                             title);
    if (wire_has_quirk(upstream, PROVIDER_NO_TOOL_CHOICE) && forces_tool(root))
        return err_set_field(err, ERR_UNSUPPORTED, "tool_choice",
                             "%s decides by itself whether to call a tool: use `auto`", title);
    return RC_OK;
}

static struct str path_of(enum wire_format format)
{
    switch (format) {
    case WIRE_OPENAI_CHAT: return STR("/chat/completions");
    case WIRE_ANTHROPIC: return STR("/messages");
    case WIRE_OPENAI_RESPONSES: return STR("/responses");
    case WIRE_OPENAI_COMPLETIONS: return STR("/completions");
    case WIRE_OPENAI_EMBEDDINGS: return STR("/embeddings");
    default: return STR_EMPTY;
    }
}

static enum rc add_headers(const struct wire_upstream *upstream, struct str secret,
                           struct arena *arena, struct wire_call *out)
{
    struct http_headers *headers = &out->headers;
    enum rc rc = http_header_add(headers, arena, STR("content-type"), STR("application/json"));
    if (!rc)
        rc = http_header_add(headers, arena, STR("accept"),
                             upstream->stream ? STR("text/event-stream") : STR("application/json"));
    if (!rc && upstream->format == WIRE_ANTHROPIC)
        rc = http_header_add(headers, arena, STR("anthropic-version"), STR("2023-06-01"));
    enum provider_auth auth = upstream->row ? upstream->row->auth : PROVIDER_AUTH_BEARER;
    if (rc || !secret.n || auth == PROVIDER_AUTH_NONE)
        return rc;
    if (auth == PROVIDER_AUTH_API_KEY)
        return http_header_add(headers, arena, STR("api-key"), secret);
    if (auth == PROVIDER_AUTH_X_API_KEY)
        return http_header_add(headers, arena, STR("x-api-key"), secret);
    struct str bearer = arena_concat(arena, STR("Bearer "), secret);
    return bearer.p ? http_header_add(headers, arena, STR("authorization"), bearer) : RC_LIMIT;
}

enum rc wire_write_request(const struct wire_request *request, const struct wire_upstream *upstream,
                           struct str secret, struct arena *arena, struct wire_call *out,
                           struct err *err)
{
    *out = (struct wire_call){0};
    struct str path = path_of(upstream->format);
    if (path.n && upstream->row)
        path = arena_concat(arena, upstream->row->path_prefix, path);
    if (path_of(upstream->format).n && !path.p)
        return out_of_memory(err);
    out->path = path;
    enum rc rc = add_headers(upstream, secret, arena, out);
    if (rc == RC_INVALID)
        return err_set(err, ERR_INTERNAL,
                       "the provider's key has characters that a header cannot "
                       "carry: set it anew");
    if (rc)
        return out_of_memory(err);
    rc = refuse_unsupported(request, upstream, err);
    if (rc)
        return rc;
    if (request->format != upstream->format || wire_emulates_tools(request, upstream)) {
        out->body_parts = 1;
        return wire_translate_request(request, upstream, arena, &out->body[0], err);
    }
    rc = splice(request, upstream, arena, out);
    if (rc == RC_CONFLICT)
        return err_set(err, ERR_INVALID,
                       "the request's members overlap with the route's parameters");
    return rc ? out_of_memory(err) : RC_OK;
}

enum wire_format wire_choose_format(enum wire_format door, const struct provider_row *row)
{
    static const enum wire_format preferred[] = {WIRE_OPENAI_CHAT, WIRE_ANTHROPIC,
                                                 WIRE_OPENAI_RESPONSES};
    bool translatable =
        door == WIRE_OPENAI_CHAT || door == WIRE_ANTHROPIC || door == WIRE_OPENAI_RESPONSES;
    if (!translatable || !row || (row->formats & (1u << door)))
        return door;
    for (size_t i = 0; i < COUNT_OF(preferred); i++)
        if (row->formats & (1u << preferred[i]))
            return preferred[i];
    return door;
}
