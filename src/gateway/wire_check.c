/* Checks on a request's texts: every string value under messages, input, system, instructions and
 * prompt but those that are no text (names, ids, types, URLs, data, signatures). What a check masks
 * is spliced in place. */
#include "gateway/provider/format.h"
#include "gateway/wire_internal.h"

struct request_check {
    struct wire_request *request;
    const struct check *checks; /* of the kinds that look at every text */
    size_t check_count;
    struct arena *arena;
    struct check_report *report;
    struct json_edit edit;
};

static bool is_text_root(struct str name)
{
    static const char *const roots[] = {"messages", "input", "system", "instructions", "prompt"};
    for (size_t i = 0; i < COUNT_OF(roots); i++)
        if (str_eq(name, str_from(roots[i])))
            return true;
    return false;
}

static bool holds_no_text(struct str name)
{
    static const char *const names[] = {
        "type",       "role",         "id",          "name",          "url",
        "image_url",  "file_url",     "data",        "file_data",     "file_id",
        "signature",  "tool_call_id", "tool_use_id", "call_id",       "encrypted_content",
        "media_type", "format",       "detail",      "cache_control", "status",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (str_eq(name, str_from(names[i])))
            return true;
    return false;
}

static enum rc check_string(struct request_check *check, size_t from, size_t to)
{
    struct str body = check->request->body, text, checked;
    yyjson_doc *doc;
    enum rc rc = json_read(str_slice(body, from, to), check->arena, &doc, NULL);
    if (rc)
        return rc;
    text = json_text(yyjson_doc_get_root(doc));
    rc = check_text(check->checks, check->check_count, CHECK_INPUT, text, check->arena, &checked,
                    check->report);
    if (rc || str_eq(text, checked))
        return rc;
    struct str quoted = format_quote(checked, check->arena);
    return quoted.p ? json_edit_range(&check->edit, from, to, quoted) : RC_LIMIT;
}

static enum rc check_value(struct request_check *check, size_t from, int depth)
{
    struct str body = check->request->body;
    size_t to = json_skip_value(body, from), a, b;
    if (!to || depth == 0)
        return RC_LIMIT;
    if (body.p[from] == '"')
        return check_string(check, from, to);
    if (body.p[from] == '[') {
        struct json_items items = json_items_begin(body, from);
        while (json_items_next(&items, &a, &b)) {
            enum rc rc = check_value(check, a, depth - 1);
            if (rc)
                return rc;
        }
        return RC_OK;
    }
    struct json_object object;
    if (body.p[from] != '{')
        return RC_OK;
    if (json_index(str_slice(body, from, to), check->arena, &object) != RC_OK)
        return RC_LIMIT;
    for (size_t i = 0; i < object.count; i++) {
        enum rc rc = holds_no_text(object.members[i].name)
                         ? RC_OK
                         : check_value(check, from + object.members[i].value_from, depth - 1);
        if (rc)
            return rc;
    }
    return RC_OK;
}

/* The text that a schema is for: the last message's, or the input where that is a text. */
static struct str last_text(const struct wire_request *request, struct arena *arena)
{
    yyjson_val *root = yyjson_doc_get_root(request->doc);
    yyjson_val *messages = yyjson_obj_get(root, "messages");
    if (!messages)
        messages = yyjson_obj_get(root, "input");
    if (yyjson_is_str(messages))
        return json_text(messages);
    yyjson_val *content = yyjson_obj_get(yyjson_arr_get_last(messages), "content"), *part;
    if (yyjson_is_str(content))
        return json_text(content);
    struct str text = STR("");
    size_t i, n;
    yyjson_arr_foreach(content, i, n, part)
    {
        if (text.p)
            text = arena_concat(arena, text, json_get_text(part, "text"));
    }
    return text;
}

/* Splits the checks: schemas look at one text, the others at each. */
static struct check *select_checks(const struct check *checks, size_t count, bool schemas,
                                   struct arena *arena, size_t *selected)
{
    struct check *out = ARENA_NEW_ARRAY(arena, struct check, MAX(count, (size_t)1));
    *selected = 0;
    for (size_t i = 0; out && i < count; i++)
        if ((checks[i].on & CHECK_INPUT) && (checks[i].kind == CHECK_JSON_SCHEMA) == schemas)
            out[(*selected)++] = checks[i];
    return out;
}

static enum rc run(struct request_check *check)
{
    enum rc rc = RC_OK;
    const struct json_object *members = &check->request->members;
    for (size_t i = 0; !rc && check->check_count && i < members->count; i++)
        if (is_text_root(members->members[i].name))
            rc = check_value(check, members->members[i].value_from, LIMIT_JSON_DEPTH);
    return rc;
}

enum rc wire_check_request(struct wire_request *request, const struct check *checks,
                           size_t check_count, struct arena *arena, struct check_report *report,
                           struct err *err)
{
    struct request_check *check = ARENA_NEW(arena, struct request_check);
    size_t schema_count, pieces;
    struct str body, unused;
    struct check *schemas = select_checks(checks, check_count, true, arena, &schema_count);
    if (!check || !schemas)
        return format_out_of_memory(err);
    *check = (struct request_check){.request = request, .arena = arena, .report = report};
    check->checks = select_checks(checks, check_count, false, arena, &check->check_count);
    if (!check->checks)
        return format_out_of_memory(err);
    json_edit_init(&check->edit, &request->members, arena);
    enum rc rc = run(check);
    if (!rc && schema_count && !report->blocked)
        rc = check_text(schemas, schema_count, CHECK_INPUT, last_text(request, arena), arena,
                        &unused, report);
    if (report->blocked)
        return check_blocked_err(report, err);
    if (rc)
        return err_set(err, ERR_CHECK_BLOCKED, "the request is too long or too hard to check");
    if (!check->edit.count)
        return RC_OK;
    if (json_edit_finish(&check->edit, &body, 1, &pieces))
        return format_out_of_memory(err);
    return wire_read_request(request->format, body, arena, request, err);
}
