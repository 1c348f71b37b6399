/* Configuration objects in and out of the API. */
#include "api/objects.h"
#include "text/json_tree.h"

yyjson_mut_val *api_encode_object(struct api_call *call, const struct object *object)
{
    yyjson_val *shown;

    if (object_show(object, call->arena, &shown, &call->err) != RC_OK)
        return NULL;
    yyjson_mut_val *definition = yyjson_val_mut_copy(call->doc, shown),
                   *o = yyjson_mut_obj(call->doc);
    size_t i, n;
    yyjson_mut_val *key, *value;
    api_put_str(call, o, "name", object->name);
    yyjson_mut_obj_foreach(definition, i, n, key, value)
    {
        if (!yyjson_mut_equals_str(key, "name"))
            yyjson_mut_obj_add_val(call->doc, o, yyjson_mut_get_str(key),
                                   yyjson_mut_val_mut_copy(call->doc, value));
        else /* a key's: its object is named by its id */
            yyjson_mut_obj_put(o, yyjson_mut_str(call->doc, "name"),
                               yyjson_mut_val_mut_copy(call->doc, value));
    }
    api_put_str(call, o, "origin", object->from_file ? STR("file") : STR("database"));
    yyjson_mut_obj_add_sint(call->doc, o, "version", object->version);
    api_put_time(call, o, "created_at", object->created_ns);
    api_put_time(call, o, "updated_at", object->updated_ns);
    return o;
}

static enum rc answer_object(struct api_call *call, const struct object *object,
                             api_object_extra *extra)
{
    call->answer = api_encode_object(call, object);
    if (!call->answer)
        return call->err.rc;
    if (extra)
        extra(call, object, call->answer);
    return RC_OK;
}

enum rc api_objects_list(struct api_call *call, enum object_kind kind, api_object_extra *extra)
{
    struct object_page page;
    size_t limit;
    enum rc rc = api_query_limit(call, &limit);

    if (rc == RC_OK)
        rc = object_list(call->txn, call->principal->project, kind, api_query(call, "cursor"),
                         api_query(call, "q"), limit, call->arena, &page, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < page.count; i++) {
        yyjson_mut_val *o = api_encode_object(call, &page.items[i]);
        if (!o)
            return call->err.rc;
        if (extra)
            extra(call, &page.items[i], o);
        yyjson_mut_arr_append(items, o);
    }
    api_list_end(call, page.next);
    return RC_OK;
}

enum rc api_objects_get(struct api_call *call, enum object_kind kind, struct str name,
                        api_object_extra *extra)
{
    struct object object;
    enum rc rc = object_get(call->txn, call->principal->project, kind, name, call->arena, &object,
                            &call->err);

    return rc == RC_OK ? answer_object(call, &object, extra) : rc;
}

enum rc api_objects_create(struct api_call *call, enum object_kind kind)
{
    struct actor actor = api_actor(call);
    struct object object;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = definition_create(call->txn, call->principal, &actor, kind,
                               json_get_text(call->body, "name"), call->body, call->arena, &object,
                               &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 201;
    return answer_object(call, &object, NULL);
}

enum rc api_objects_patch(struct api_call *call, enum object_kind kind, struct str name)
{
    struct actor actor = api_actor(call);
    struct object object;
    enum rc rc = api_need_body(call);
    struct str said = rc == RC_OK ? json_get_text(call->body, "name") : STR_EMPTY;

    if (rc == RC_OK && said.n && !str_eq(said, name))
        return err_set_field(&call->err, ERR_BAD_FIELD, "name",
                             "A %s cannot be renamed: make a new one and delete this one.",
                             object_kind_name(kind));
    if (rc == RC_OK)
        rc = definition_patch(call->txn, call->principal, &actor, kind, name, call->body,
                              call->arena, &object, &call->err);
    return rc == RC_OK ? answer_object(call, &object, NULL) : rc;
}

enum rc api_objects_delete(struct api_call *call, enum object_kind kind, struct str name)
{
    struct actor actor = api_actor(call);

    return definition_delete(call->txn, call->principal, &actor, kind, name, call->arena,
                             &call->err);
}

enum rc api_versions_page(struct api_call *call, enum object_kind kind, struct object **versions,
                          size_t *count)
{
    size_t limit;
    int64_t before;
    enum rc rc = api_query_limit(call, &limit);

    if (rc == RC_OK)
        rc = api_query_i64(call, "cursor", 0, &before);
    if (rc == RC_OK)
        rc = object_versions(call->txn, call->principal->project, kind, call->params[0], before,
                             limit, call->arena, versions, count, &call->err);
    return rc;
}

/* Versions count down to 1. */
void api_versions_end(struct api_call *call, const struct object *versions, size_t count)
{
    int64_t last = count > 0 ? versions[count - 1].version : 1;

    api_list_end(call, last > 1 ? arena_printf(call->arena, "%lld", (long long)last) : STR_EMPTY);
}
