/* /api/keys and /api/limits: who may call, how much, and what it has cost. */
#include "api/handlers.h"
#include "api/objects.h"
#include "base/clock.h"
#include "gateway/limit.h"
#include "gateway/seen.h"
#include "gateway/slots.h"
#include "govern/key.h"
#include "text/json_tree.h"
#include "trace/trace.h"
#include <time.h>

/* ---- money spent ---- */

/* Day and month are UTC, as budgets are. */
static int32_t month_start(int32_t day)
{
    time_t seconds = (time_t)day * 86400;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    return day - (tm.tm_mday - 1);
}

static void put_spent(struct api_call *call, yyjson_mut_val *o, struct id project, enum spend_by by,
                      struct str value)
{
    int32_t today = (int32_t)(clock_wall_ns() / NS_PER_DAY);
    const struct {
        const char *name;
        int32_t from;
    } periods[] = {{"day_usd", today}, {"month_usd", month_start(today)}, {"total_usd", 0}};
    yyjson_mut_val *spent = yyjson_mut_obj_add_obj(call->doc, o, "spent");

    for (size_t i = 0; i < COUNT_OF(periods); i++) {
        struct spend_sum sum = {0};
        if (!call->services->trace || trace_spend_sum(call->services->trace, project, by, value,
                                                      periods[i].from, today, &sum) != RC_OK)
            yyjson_mut_obj_add_null(call->doc, spent, periods[i].name);
        else
            api_put_cost(call, spent, periods[i].name, sum.cost_pico);
    }
}

/* ---- keys ---- */

static bool time_passed(struct str text)
{
    int64_t wall_ns;

    return text.n && clock_parse_iso(text, &wall_ns) == RC_OK && wall_ns <= clock_wall_ns();
}

/* This process knows the time; of what was before it, the record of calls knows whether there was
 * anything. Where only that is so, the member is left out. */
static void put_last_used(struct api_call *call, yyjson_mut_val *o, struct id project, struct id id)
{
    struct str value = str_make(id.bytes, sizeof id.bytes);
    int64_t used_ns = seen_key_used_ns(slot_assign(SLOT_KEY, project, value));
    struct spend_sum sum = {0};

    if (used_ns) {
        api_put_time(call, o, "last_used_at", used_ns);
        return;
    }
    if (call->services->trace &&
        trace_spend_sum(call->services->trace, project, SPEND_BY_KEY, value, 0,
                        (int32_t)(clock_wall_ns() / NS_PER_DAY), &sum) == RC_OK &&
        sum.calls == 0)
        yyjson_mut_obj_add_null(call->doc, o, "last_used_at");
}

static void put_key_extra(struct api_call *call, const struct object *object, yyjson_mut_val *o)
{
    yyjson_mut_val *revoked = yyjson_mut_obj_get(o, "revoked_at"),
                   *expires = yyjson_mut_obj_get(o, "expires_at");
    struct str expiry = str_make(yyjson_mut_get_str(expires), yyjson_mut_get_len(expires));
    struct id id;

    if (id_parse(object->name, "key", &id) != RC_OK)
        return;
    api_put_id(call, o, "id", "key", id);
    api_put_id(call, o, "public_id", "pk", id); /* the user's name in Langfuse's Basic auth */
    api_put_str(call, o, "state",
                revoked               ? STR("revoked")
                : time_passed(expiry) ? STR("expired")
                                      : STR("active"));
    if (!yyjson_mut_obj_get(o, "models")) {
        yyjson_mut_val *models = yyjson_mut_obj_add_arr(call->doc, o, "models");
        yyjson_mut_arr_add_str(call->doc, models, "*");
    }
    if (!yyjson_mut_obj_get(o, "scopes")) {
        yyjson_mut_val *scopes = yyjson_mut_obj_add_arr(call->doc, o, "scopes");
        yyjson_mut_arr_add_str(call->doc, scopes, "call");
    }
    put_spent(call, o, object->project, SPEND_BY_KEY, str_make(id.bytes, sizeof id.bytes));
    put_last_used(call, o, object->project, id);
}

static enum rc read_key_id(struct api_call *call, struct id *id)
{
    if (id_parse(call->params[0], "key", id) == RC_OK)
        return RC_OK;
    return err_set(&call->err, ERR_NOT_FOUND, "'%.*s' is not a key's id (key_…).",
                   STR_ARG(call->params[0]));
}

/* `expires_in` ("30d") is said instead of `expires_at` by people; nulls count as absent. */
static enum rc key_body(struct api_call *call, bool merge, yyjson_val **out)
{
    static const char *const shown[] = {
        "id",         "origin", "version",    "state",      "spent",  "last_used_at", "created_at",
        "updated_at", "prefix", "revoked_at", "expires_in", "secret", "public_id"};
    char iso[CLOCK_ISO_BYTES_MAX];
    struct str duration = json_get_text(call->body, "expires_in");
    yyjson_mut_doc *doc = json_tree_new(call->arena);
    yyjson_mut_val *root = doc ? yyjson_val_mut_copy(doc, call->body) : NULL;
    int64_t ns;

    for (size_t i = 0; i < COUNT_OF(shown); i++)
        yyjson_mut_obj_remove_key(root, shown[i]);
    if (duration.n) {
        if (clock_parse_duration(duration, &ns) != RC_OK || ns <= 0 || ns > 3650 * NS_PER_DAY)
            return err_set_field(&call->err, ERR_BAD_FIELD, "expires_in",
                                 "'expires_in' must be a duration such as 30d.");
        size_t n = clock_format_iso(db_txn_now_ns(call->txn) + ns, 3, iso);
        yyjson_mut_obj_add_strncpy(doc, root, "expires_at", iso, n);
    }
    if (!merge) {
        yyjson_mut_obj_iter iter = yyjson_mut_obj_iter_with(root);
        for (yyjson_mut_val *key; (key = yyjson_mut_obj_iter_next(&iter));)
            if (yyjson_mut_is_null(yyjson_mut_obj_iter_get_val(key)))
                yyjson_mut_obj_iter_remove(&iter);
    }
    yyjson_doc *frozen = root ? json_freeze(root, call->arena) : NULL;
    *out = yyjson_doc_get_root(frozen);
    return frozen ? RC_OK : err_set(&call->err, ERR_TOO_LARGE, "The request is too large.");
}

static enum rc answer_key(struct api_call *call, const struct object *object)
{
    call->answer = api_encode_object(call, object);
    if (!call->answer)
        return call->err.rc;
    put_key_extra(call, object, call->answer);
    return RC_OK;
}

enum rc api_keys_list(struct api_call *call)
{
    return api_objects_list(call, OBJECT_KEY, put_key_extra);
}

enum rc api_keys_get(struct api_call *call)
{
    return api_objects_get(call, OBJECT_KEY, call->params[0], put_key_extra);
}

enum rc api_keys_create(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct object object;
    struct str secret;
    yyjson_val *body;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = key_body(call, false, &body);
    if (rc == RC_OK)
        rc = key_create(call->txn, call->principal, &actor, body, call->arena, &secret, &object,
                        &call->err);
    if (rc == RC_OK)
        rc = answer_key(call, &object);
    if (rc != RC_OK)
        return rc;
    api_put_str(call, call->answer, "secret", secret);
    call->status = 201;
    return RC_OK;
}

enum rc api_keys_patch(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct object object;
    yyjson_val *body;
    struct id id;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = read_key_id(call, &id);
    if (rc == RC_OK)
        rc = key_body(call, true, &body);
    if (rc == RC_OK)
        rc = key_update(call->txn, call->principal, &actor, id, body, call->arena, &object,
                        &call->err);
    return rc == RC_OK ? answer_key(call, &object) : rc;
}

enum rc api_keys_revoke(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct id id;
    enum rc rc = read_key_id(call, &id);

    return rc == RC_OK ? key_revoke(call->txn, call->principal, &actor, id, call->arena, &call->err)
                       : rc;
}

/* ---- limits of tags, users and the project ---- */

/* The object's name: "project", or "KIND:VALUE". */
static enum rc limit_name(struct api_call *call, struct str *out)
{
    struct str kind = call->params[0], value = call->params[1];

    if (str_eq(kind, STR("project"))) {
        *out = STR("project");
        return RC_OK;
    }
    if (!str_eq(kind, STR("tag")) && !str_eq(kind, STR("user")))
        return err_set_field(&call->err, ERR_NOT_FOUND, "kind",
                             "Limits are set on a tag, a user or the project.");
    *out = arena_printf(call->arena, "%.*s:%.*s", STR_ARG(kind), STR_ARG(value));
    return out->p ? RC_OK : err_set(&call->err, ERR_TOO_LARGE, "The request is too large.");
}

/* kind and value instead of the name; what was spent. */
static void put_limit_extra(struct api_call *call, const struct object *object, yyjson_mut_val *o)
{
    ssize_t colon = str_find_char(object->name, ':');
    struct str kind = colon < 0 ? object->name : str_slice(object->name, 0, (size_t)colon);
    struct str value =
        colon < 0 ? STR("default") : str_slice(object->name, (size_t)colon + 1, object->name.n);
    enum spend_by by = colon < 0                  ? SPEND_BY_PROJECT
                       : str_eq(kind, STR("tag")) ? SPEND_BY_TAG
                                                  : SPEND_BY_USER;

    yyjson_mut_obj_remove_key(o, "name");
    api_put_str(call, o, "kind", kind);
    api_put_str(call, o, "value", value);
    put_spent(call, o, object->project, by, colon < 0 ? STR_EMPTY : value);
}

enum rc api_limits_list(struct api_call *call)
{
    return api_objects_list(call, OBJECT_LIMIT, put_limit_extra);
}

enum rc api_limits_get(struct api_call *call)
{
    struct str name;
    enum rc rc = limit_name(call, &name);

    return rc == RC_OK ? api_objects_get(call, OBJECT_LIMIT, name, put_limit_extra) : rc;
}

enum rc api_limits_put(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct object object;
    struct str name;
    enum rc rc = api_need_body(call);

    if (rc == RC_OK)
        rc = limit_name(call, &name);
    if (rc == RC_OK)
        rc = definition_put(call->txn, call->principal, &actor, OBJECT_LIMIT, name, call->body,
                            call->arena, &object, &call->err);
    if (rc == RC_OK && !(call->answer = api_encode_object(call, &object)))
        rc = call->err.rc;
    if (rc == RC_OK)
        put_limit_extra(call, &object, call->answer);
    return rc;
}

enum rc api_limits_delete(struct api_call *call)
{
    struct str name;
    enum rc rc = limit_name(call, &name);

    return rc == RC_OK ? api_objects_delete(call, OBJECT_LIMIT, name) : rc;
}
