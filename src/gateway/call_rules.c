/* A target's `when`: an expression over the request. Names that it may use:
 *   header.NAME   metadata.NAME   tags.NAME   user   session   key   model   stream   body.PATH */
#include "gateway/call_private.h"
#include "text/expression.h"

static void text_value(struct str s, struct expression_value *out)
{
    if (s.p)
        *out = (struct expression_value){.type = EXPRESSION_TEXT, .text = s};
}

static struct str tag_of(const struct call_record *record, struct str name)
{
    for (size_t i = 0; i < record->tag_count; i++)
        if (str_eq(record->tags[i].name, name))
            return record->tags[i].value;
    return STR_EMPTY;
}

static void look_up_name(void *arg, const struct str *path, size_t path_count,
                         struct expression_value *out)
{
    const struct call *call = arg;
    const struct call_record *record = call->record;
    yyjson_val *body = call->wire.doc ? yyjson_doc_get_root(call->wire.doc) : NULL;
    if (str_eq(path[0], STR("header")) && path_count == 2 && call->request->headers)
        text_value(http_header_get(call->request->headers, path[1]), out);
    else if (str_eq(path[0], STR("tags")) && path_count == 2)
        text_value(tag_of(record, path[1]), out);
    else if (str_eq(path[0], STR("metadata")) && body)
        expression_from_json(yyjson_obj_get(body, "metadata"), path + 1, path_count - 1, out);
    else if (str_eq(path[0], STR("body")) && body)
        expression_from_json(body, path + 1, path_count - 1, out);
    else if (path_count > 1)
        return;
    else if (str_eq(path[0], STR("user")))
        text_value(record->user, out);
    else if (str_eq(path[0], STR("session")))
        text_value(record->session, out);
    else if (str_eq(path[0], STR("key")))
        text_value(record->key_name, out);
    else if (str_eq(path[0], STR("model")))
        text_value(record->model_requested, out);
    else if (str_eq(path[0], STR("stream")))
        *out = (struct expression_value){.type = EXPRESSION_BOOL, .boolean = call->wire.stream};
}

bool rules_hold(struct call *call, const struct target *target)
{
    if (!target->when_compiled)
        return true;
    return expression_test(target->when_compiled, look_up_name, call, call->scope->arena);
}
