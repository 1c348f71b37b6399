/* /api/providers and /api/routes: where calls may go, and how. */
#include "api/handlers.h"
#include "api/objects.h"
#include "base/clock.h"
#include "gateway/breaker.h"
#include "gateway/provider_table.h"
#include "gateway/seen.h"

/* ok, cooling (every key must wait) or open (its breaker lets nothing through). */
static void put_status(struct api_call *call, const struct object *object, yyjson_mut_val *o)
{
    struct snapshot *snapshot = snapshot_current();
    struct project *project = snapshot ? snapshot_project(snapshot, object->project) : NULL;
    const struct provider *provider = project ? map_get(&project->providers, object->name) : NULL;
    yyjson_mut_val *status = yyjson_mut_obj_add_obj(call->doc, o, "status");
    int64_t now_ns = clock_monotonic_ns();
    size_t cooling = 0;

    if (!provider) {
        api_put_str(call, status, "state", STR("unusable"));
        api_put_str(call, status, "last_error",
                    STR("It was left out of the configuration: see object_skipped in the log."));
        return;
    }
    for (size_t i = 0; i < provider->key_count; i++)
        cooling += cooldown_until_ns(provider->keys[i].slot) > now_ns;
    bool open = provider->slot != 0 && breaker_peek(provider->slot, now_ns) == BREAKER_OPEN;
    bool all_cooling = provider->key_count > 0 && cooling == provider->key_count;
    api_put_str(call, status, "state",
                open          ? STR("open")
                : all_cooling ? STR("cooling")
                              : STR("ok"));
    yyjson_mut_obj_add_uint(call->doc, status, "keys", provider->key_count);
    yyjson_mut_obj_add_uint(call->doc, status, "keys_cooling", cooling);
    struct str text = STR_EMPTY;
    int64_t failed_ns = 0;
    (void)seen_provider_failure(provider->slot, call->arena, &text, &failed_ns);
    api_put_str(call, status, "last_error", text);
    api_put_time(call, status, "last_error_at", failed_ns);
}

enum rc api_providers_list(struct api_call *call)
{
    return api_objects_list(call, OBJECT_PROVIDER, put_status);
}

enum rc api_providers_get(struct api_call *call)
{
    return api_objects_get(call, OBJECT_PROVIDER, call->params[0], put_status);
}

enum rc api_providers_create(struct api_call *call)
{
    return api_objects_create(call, OBJECT_PROVIDER);
}

enum rc api_providers_patch(struct api_call *call)
{
    return api_objects_patch(call, OBJECT_PROVIDER, call->params[0]);
}

enum rc api_providers_delete(struct api_call *call)
{
    return api_objects_delete(call, OBJECT_PROVIDER, call->params[0]);
}

/* The formats a provider can have, for forms and `capstan provider formats`. */
enum rc api_providers_formats(struct api_call *call)
{
    size_t count;
    const struct provider_row *rows = provider_rows(&count);
    yyjson_mut_val *items = api_list_begin(call);

    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_str(call, o, "name", rows[i].name);
        api_put_str(call, o, "title", rows[i].title);
        api_put_str(call, o, "base_url", rows[i].base_url);
        yyjson_mut_obj_add_bool(call->doc, o, "needs_key", rows[i].auth != PROVIDER_AUTH_NONE);
        api_put_str(call, o, "source", rows[i].source);
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

/* ---- routes ---- */

enum rc api_routes_list(struct api_call *call)
{
    return api_objects_list(call, OBJECT_ROUTE, NULL);
}

enum rc api_routes_get(struct api_call *call)
{
    return api_objects_get(call, OBJECT_ROUTE, call->params[0], NULL);
}

enum rc api_routes_create(struct api_call *call) { return api_objects_create(call, OBJECT_ROUTE); }

enum rc api_routes_patch(struct api_call *call)
{
    return api_objects_patch(call, OBJECT_ROUTE, call->params[0]);
}

enum rc api_routes_delete(struct api_call *call)
{
    return api_objects_delete(call, OBJECT_ROUTE, call->params[0]);
}

/* ---- versions of both ---- */

static enum rc list_versions(struct api_call *call, enum object_kind kind)
{
    struct object *versions;
    size_t count;
    enum rc rc = api_versions_page(call, kind, &versions, &count);

    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++) {
        yyjson_val *shown;
        char hex[SHA256_HEX_BYTES];
        rc = object_show(&versions[i], call->arena, &shown, &call->err);
        if (rc != RC_OK)
            return rc;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        yyjson_mut_obj_add_sint(call->doc, o, "version", versions[i].version);
        hex_encode(versions[i].hash, sizeof versions[i].hash, hex);
        api_put_str(call, o, "hash", str_from(hex));
        api_put_str(call, o, "author", versions[i].author);
        api_put_str(call, o, "message", versions[i].message);
        api_put_time(call, o, "created_at", versions[i].created_ns);
        yyjson_mut_obj_add_val(call->doc, o, "definition", yyjson_val_mut_copy(call->doc, shown));
    }
    api_versions_end(call, versions, count);
    return RC_OK;
}

/* Puts an old definition in force again, checked as it would be today. */
static enum rc restore_version(struct api_call *call, enum object_kind kind)
{
    struct actor actor = api_actor(call);
    struct object object;
    int64_t version;

    if (str_to_i64(call->params[1], &version) != RC_OK)
        return err_set(&call->err, ERR_NOT_FOUND, "A version is a number.");
    struct str message = arena_printf(call->arena, "restored version %lld", (long long)version);
    enum rc rc = object_restore(call->txn, &actor, call->principal->project, kind, call->params[0],
                                version, message, call->arena, &object, &call->err);
    if (rc == RC_OK)
        rc = definition_verify(call->txn, &object, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = api_encode_object(call, &object);
    return call->answer ? RC_OK : call->err.rc;
}

enum rc api_providers_versions(struct api_call *call)
{
    return list_versions(call, OBJECT_PROVIDER);
}

enum rc api_routes_versions(struct api_call *call) { return list_versions(call, OBJECT_ROUTE); }

enum rc api_providers_restore(struct api_call *call)
{
    return restore_version(call, OBJECT_PROVIDER);
}

enum rc api_routes_restore(struct api_call *call) { return restore_version(call, OBJECT_ROUTE); }

/* ---- what may be named as `model` ---- */

static void put_target(struct api_call *call, yyjson_mut_val *items, struct str name,
                       const char *kind, struct str description)
{
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);

    api_put_str(call, o, "name", name);
    api_put_str(call, o, "kind", str_from(kind));
    api_put_str(call, o, "description", description);
}

/* The models that routes name at their providers, each once. */
static void put_provider_models(struct api_call *call, yyjson_mut_val *items,
                                const struct project *project)
{
    struct map seen;

    map_init(&seen);
    MAP_FOR_EACH (slot, &project->routes) {
        const struct route *route = slot->value;
        for (size_t i = 0; i < route->target_count; i++) {
            const struct target *target = &route->targets[i];
            struct str name = arena_printf(call->arena, "%.*s/%.*s",
                                           STR_ARG(target->provider->name), STR_ARG(target->model));
            if (!name.p || map_get(&seen, name))
                continue;
            map_put(&seen, name, call);
            put_target(call, items, name, "model", STR_EMPTY);
        }
    }
    map_fini(&seen);
}

enum rc api_targets_list(struct api_call *call)
{
    struct snapshot *snapshot = snapshot_current();
    struct project *project =
        snapshot ? snapshot_project(snapshot, call->principal->project) : NULL;
    yyjson_mut_val *items = api_list_begin(call);

    if (project) {
        MAP_FOR_EACH (slot, &project->routes) {
            const struct route *route = slot->value;
            put_target(call, items, route->name, "route", route->description);
        }
        MAP_FOR_EACH (slot, &project->local_models) {
            put_target(call, items, slot->key, "local", STR_EMPTY);
        }
        put_provider_models(call, items, project);
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}
