/* /api/collections/{name}/snapshots: copies of a collection of raw vectors, and going back to one.
 */
#include "api/api_knowledge.h"
#include "knowledge/snapshot.h"

static void put_snapshot(struct api_call *call, yyjson_mut_val *o, const struct snapshot_info *info)
{
    api_put_str(call, o, "name", info->name);
    api_put_time(call, o, "created_at", info->created_ns);
}

/* The snapshot of this name as the answer. */
static enum rc answer_snapshot(struct api_call *call, const struct collection *collection,
                               struct str name)
{
    struct snapshot_info *items;
    size_t count;
    enum rc rc = knowledge_snapshots(call->services->knowledge, collection, call->arena, &items,
                                     &count, &call->err);
    call->answer = yyjson_mut_obj(call->doc);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        if (str_eq(items[i].name, name))
            put_snapshot(call, call->answer, &items[i]);
    return rc;
}

enum rc api_snapshots_list(struct api_call *call)
{
    struct collection collection;
    struct snapshot_info *items;
    size_t count;
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = knowledge_snapshots(call->services->knowledge, &collection, call->arena, &items,
                                 &count, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *list = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        put_snapshot(call, yyjson_mut_arr_add_obj(call->doc, list), &items[i]);
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

enum rc api_snapshots_create(struct api_call *call)
{
    struct collection collection;
    struct str name;
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = knowledge_snapshot(call->services->knowledge, &collection, call->arena, &name,
                                &call->err);
    call->status = 201;
    return rc == RC_OK ? answer_snapshot(call, &collection, name) : rc;
}

enum rc api_snapshots_delete(struct api_call *call)
{
    struct collection collection;
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = knowledge_snapshot_delete(call->services->knowledge, &collection, call->params[1],
                                       &call->err);
    call->status = 204;
    return rc;
}

enum rc api_snapshots_restore(struct api_call *call)
{
    struct collection collection;
    const struct actor actor = api_actor(call);
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = knowledge_restore(call->services->knowledge, &collection, &actor, call->params[1],
                               call->arena, &call->err);
    return rc == RC_OK ? answer_snapshot(call, &collection, call->params[1]) : rc;
}
