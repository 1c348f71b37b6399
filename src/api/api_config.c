/* /api/export, /api/diff, /api/apply, /api/reload: the configuration as text, for Git and CI/CD. */
#include "api/handlers.h"
#include "govern/manifest.h"
#include "text/yaml.h"

#define EXPORT_BYTES_MAX (64 * 1024 * 1024)

enum rc api_config_export(struct api_call *call)
{
    yyjson_val *tree;
    struct buf out;
    enum rc rc =
        manifest_export(call->txn, call->principal->project, call->arena, &tree, &call->err);
    if (rc != RC_OK)
        return rc;
    buf_init(&out, EXPORT_BYTES_MAX);
    rc = yaml_write(tree, &out);
    call->content_type = STR("application/yaml");
    call->raw_answer = rc == RC_OK ? arena_copy(call->arena, buf_str(&out)) : STR_EMPTY;
    buf_fini(&out);
    return call->raw_answer.p
               ? RC_OK
               : err_set(&call->err, ERR_TOO_LARGE, "too many objects to export at once");
}

static void put_changes(struct api_call *call, const struct manifest_change *changes, size_t count)
{
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, call->answer, "changes");
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, list);
        yyjson_mut_obj_add_str(call->doc, o, "action", changes[i].action);
        yyjson_mut_obj_add_str(call->doc, o, "kind", object_kind_name(changes[i].kind));
        api_put_str(call, o, "name", changes[i].name);
        api_put_str(call, o, "detail", changes[i].detail.n ? changes[i].detail : STR_EMPTY);
        if (changes[i].secret.n && !call->roll_back)
            api_put_str(call, o, "secret", changes[i].secret);
    }
}

/* Applies the body; what is only asked for is undone with the transaction. */
static enum rc apply_manifest(struct api_call *call, bool dry_run, bool prune)
{
    const struct manifest_options options = {.from_file = false, .prune = prune};
    const struct actor actor = api_actor(call);
    struct manifest manifest;
    struct manifest_change *changes;
    size_t count;
    if (api_need_body(call) != RC_OK)
        return RC_INVALID;
    enum rc rc = manifest_read(call->body, call->arena, &manifest, &call->err);
    if (rc == RC_OK)
        rc = manifest_apply(call->txn, call->principal, &actor, call->principal->project, &manifest,
                            &options, call->arena, &changes, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    call->roll_back = dry_run;
    put_changes(call, changes, count);
    return RC_OK;
}

static bool query_flag(struct api_call *call, const char *name)
{
    struct str value = api_query(call, name);
    return str_eq(value, STR("1")) || str_eq(value, STR("true"));
}

enum rc api_config_diff(struct api_call *call)
{
    return apply_manifest(call, true, query_flag(call, "prune"));
}

enum rc api_config_apply(struct api_call *call)
{
    return apply_manifest(call, query_flag(call, "dry_run"), query_flag(call, "prune"));
}

enum rc api_config_reload(struct api_call *call)
{
    return call->services->reload(call->services, &call->err);
}
