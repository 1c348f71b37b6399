/* /api/triggers: schedules and webhooks of pipelines. Made and changed in one
 * transaction with a schedule's next time. */
#include "api/handlers.h"
#include "api/objects.h"
#include "api/triggers.h"
#include "base/clock.h"
#include "pipeline/triggers/triggers.h"
#include "store/pipeline_table.h"
#include "text/json_tree.h"

#define NEXT_RUNS      5
#define LISTED_AT_ONCE 1000

/* ---- showing ---- */

static enum rc decode(struct api_call *call, const struct object *object, struct trigger *out)
{
    yyjson_doc *doc;
    enum rc rc = json_read(object->spec, call->arena, &doc, &call->err);
    return rc == RC_OK ? trigger_decode(call->principal->project, object->name,
                                        yyjson_doc_get_root(doc), call->arena, out, &call->err)
                       : rc;
}

static void put_next_runs(struct api_call *call, yyjson_mut_val *o, const struct cron *cron,
                          const struct zone *zone, int64_t now_ns)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(call->doc, o, "next_runs");
    int64_t at_s = now_ns / NS_PER_S;
    for (int i = 0; i < NEXT_RUNS; i++) {
        char iso[CLOCK_ISO_BYTES_MAX];
        at_s = cron_next_s(cron, zone, at_s);
        if (at_s == INT64_MAX)
            return;
        size_t n = clock_format_iso(at_s * NS_PER_S, 0, iso);
        yyjson_mut_arr_add_strncpy(call->doc, list, iso, n);
    }
}

static enum rc put_schedule(struct api_call *call, yyjson_mut_val *o, const struct trigger *trigger)
{
    struct schedule_row row = {.next_ns = INT64_MAX};
    struct zone zone;
    enum rc rc = schedule_table_get(call->txn, trigger->project, trigger->id, &row, &call->err);
    if (rc != RC_OK && rc != RC_NOT_FOUND)
        return rc;
    api_put_time(call, o, "next_at", row.next_ns == INT64_MAX ? 0 : row.next_ns);
    api_put_time(call, o, "last_at", row.last_ns);
    api_put_id(call, o, "last_run", "run", row.last_run);
    yyjson_mut_obj_add_sint(call->doc, o, "fired", row.fired);
    yyjson_mut_obj_add_sint(call->doc, o, "missed_runs", row.missed);
    struct err none = {0};
    if (zone_load(trigger->time_zone, NULL, call->arena, &zone, &none) == RC_OK)
        put_next_runs(call, o, &trigger->cron, &zone, clock_wall_ns());
    return RC_OK;
}

static enum rc put_trigger(struct api_call *call, const struct object *object, yyjson_mut_val **out)
{
    struct trigger trigger;
    enum rc rc = decode(call, object, &trigger);
    *out = rc == RC_OK ? api_encode_object(call, object) : NULL;
    if (!*out)
        return rc == RC_OK ? call->err.rc : rc;
    yyjson_mut_obj_remove_key(*out, "name");
    api_put_str(call, *out, "id", object->name);
    if (trigger.kind == TRIGGER_SCHEDULE)
        return put_schedule(call, *out, &trigger);
    api_put_str(call, *out, "address",
                arena_printf(call->arena, "%.*s/%s/%.*s", STR_ARG(call->base_url),
                             trigger_kind_name(trigger.kind), STR_ARG(object->name)));
    return RC_OK;
}

/* `secret`: told this once, or empty. */
static enum rc answer(struct api_call *call, const struct object *object, struct str secret)
{
    enum rc rc = put_trigger(call, object, &call->answer);
    if (rc == RC_OK && secret.n)
        yyjson_mut_obj_put(call->answer, yyjson_mut_str(call->doc, "secret"),
                           json_new_text(call->doc, secret));
    return rc;
}

static enum rc get_object(struct api_call *call, struct object *out)
{
    return object_get(call->txn, call->principal->project, OBJECT_TRIGGER, call->params[0],
                      call->arena, out, &call->err);
}

enum rc api_triggers_get(struct api_call *call)
{
    struct object object;
    enum rc rc = get_object(call, &object);
    return rc == RC_OK ? answer(call, &object, STR_EMPTY) : rc;
}

static bool is_asked(struct api_call *call, const struct object *object)
{
    struct str pipeline = api_query(call, "pipeline"), kind = api_query(call, "kind");
    struct trigger trigger;
    struct err before = call->err;
    if (decode(call, object, &trigger) != RC_OK) {
        call->err = before;
        return false;
    }
    return (!pipeline.n || str_eq(pipeline, trigger.pipeline)) &&
           (!kind.n || str_eq(kind, str_from(trigger_kind_name(trigger.kind))));
}

enum rc api_triggers_list(struct api_call *call)
{
    struct object_page page = {.next = api_query(call, "cursor")};
    size_t limit, count = 0;
    enum rc rc = api_query_limit(call, &limit);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    struct str next = STR_EMPTY;
    do {
        rc = object_list(call->txn, call->principal->project, OBJECT_TRIGGER, page.next, STR_EMPTY,
                         LISTED_AT_ONCE, call->arena, &page, &call->err);
        for (size_t i = 0; rc == RC_OK && i < page.count && !next.n; i++) {
            yyjson_mut_val *o;
            if (!is_asked(call, &page.items[i]))
                continue;
            rc = put_trigger(call, &page.items[i], &o);
            yyjson_mut_arr_append(items, o);
            if (++count == limit)
                next = page.items[i].name;
        }
    } while (rc == RC_OK && page.next.n && !next.n);
    api_list_end(call, next);
    return rc;
}

/* {"cron", "time_zone"}: the next times, or what is wrong. */
enum rc api_triggers_preview(struct api_call *call)
{
    struct cron cron;
    struct zone zone;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = cron_parse(json_get_text(call->body, "cron"), &cron, &call->err);
    if (rc == RC_OK)
        rc =
            zone_load(json_get_text(call->body, "time_zone"), NULL, call->arena, &zone, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    put_next_runs(call, call->answer, &cron, &zone, clock_wall_ns());
    return RC_OK;
}

/* ---- changing ---- */

/* The definition in force: `old` (NULL: none) with the members of the body; null takes one away, a
 * webhook's secret anew. */
static yyjson_mut_val *merge(struct api_call *call, yyjson_val *old, struct str *secret)
{
    yyjson_mut_val *spec = old ? yyjson_val_mut_copy(call->doc, old) : yyjson_mut_obj(call->doc);
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_obj_foreach(call->body, i, n, key, value)
    {
        yyjson_mut_obj_remove_key(spec, yyjson_get_str(key));
        if (!yyjson_is_null(value))
            yyjson_mut_obj_add_val(call->doc, spec, yyjson_get_str(key),
                                   yyjson_val_mut_copy(call->doc, value));
    }
    if (yyjson_mut_equals_str(yyjson_mut_obj_get(spec, "kind"), "webhook") &&
        !yyjson_mut_obj_get(spec, "secret")) {
        *secret = webhook_secret_new(call->arena);
        json_set_text(call->doc, spec, "secret", *secret);
    }
    return spec;
}

static enum rc save(struct api_call *call, struct str name, yyjson_val *old, bool create)
{
    struct actor actor = api_actor(call);
    struct str secret = STR_EMPTY;
    struct object_change change = {.project = call->principal->project,
                                   .kind = OBJECT_TRIGGER,
                                   .name = name,
                                   .create_only = create};
    struct trigger trigger;
    struct pipeline_row pipeline;
    struct schedule_row row;
    struct object object;
    yyjson_doc *frozen = json_freeze(merge(call, old, &secret), call->arena);
    if (!frozen)
        return err_set(&call->err, ERR_TOO_LARGE, "The definition is too large.");
    change.spec = yyjson_doc_get_root(frozen);
    enum rc rc =
        trigger_decode(change.project, name, change.spec, call->arena, &trigger, &call->err);
    if (rc == RC_OK && pipeline_table_get(call->txn, change.project, trigger.pipeline, call->arena,
                                          &pipeline, &call->err) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "pipeline", "There is no pipeline '%.*s'.",
                             STR_ARG(trigger.pipeline));
    if (rc == RC_OK)
        rc = object_put(call->txn, &actor, &change, call->arena, &object, &call->err);
    if (rc == RC_OK && trigger.kind == TRIGGER_SCHEDULE) {
        enum rc found = schedule_table_get(call->txn, change.project, trigger.id, &row, &call->err);
        rc = triggers_put_schedule(call->txn, &trigger, found == RC_OK ? &row : NULL, call->arena,
                                   &call->err);
        triggers_wake(call->services->triggers);
    }
    return rc == RC_OK ? answer(call, &object, secret) : rc;
}

enum rc api_triggers_create(struct api_call *call)
{
    char name[ID_TEXT_BYTES_MAX];
    size_t n = id_format(id_new(), TRIGGER_PREFIX, name);
    enum rc rc = api_need_body(call);
    call->status = 201;
    return rc == RC_OK ? save(call, arena_copy(call->arena, str_make(name, n)), NULL, true) : rc;
}

enum rc api_triggers_patch(struct api_call *call)
{
    struct object object;
    yyjson_doc *doc;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = get_object(call, &object);
    if (rc == RC_OK)
        rc = json_read(object.spec, call->arena, &doc, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *old = yyjson_doc_get_root(doc), *kind = yyjson_obj_get(call->body, "kind");
    if (kind && !yyjson_equals(kind, yyjson_obj_get(old, "kind")))
        return err_set_field(&call->err, ERR_BAD_FIELD, "kind", "The kind stays: make a new one.");
    return save(call, object.name, old, false);
}

static enum rc delete_one(struct api_call *call, struct str name)
{
    struct actor actor = api_actor(call);
    struct id id;
    enum rc rc = object_delete(call->txn, &actor, call->principal->project, OBJECT_TRIGGER, name,
                               false, call->arena, &call->err);
    if (rc == RC_OK && id_parse(name, TRIGGER_PREFIX, &id) == RC_OK)
        rc = schedule_table_delete(call->txn, call->principal->project, id, &call->err);
    return rc;
}

enum rc api_triggers_delete(struct api_call *call)
{
    struct object object;
    enum rc rc = get_object(call, &object);
    return rc == RC_OK ? delete_one(call, object.name) : rc;
}

enum rc api_triggers_delete_of(struct api_call *call, struct str pipeline)
{
    struct object_page page = {0};
    enum rc rc;
    do {
        rc = object_list(call->txn, call->principal->project, OBJECT_TRIGGER, page.next, STR_EMPTY,
                         LISTED_AT_ONCE, call->arena, &page, &call->err);
        for (size_t i = 0; rc == RC_OK && i < page.count; i++) {
            struct trigger trigger;
            rc = decode(call, &page.items[i], &trigger);
            if (rc == RC_OK && str_eq(trigger.pipeline, pipeline))
                rc = delete_one(call, page.items[i].name);
        }
    } while (rc == RC_OK && page.next.n);
    return rc;
}

/* A schedule's run, now, whatever its time. */
enum rc api_triggers_run(struct api_call *call)
{
    struct object object;
    struct trigger trigger;
    struct job_row job;
    enum rc rc = get_object(call, &object);
    if (rc == RC_OK)
        rc = decode(call, &object, &trigger);
    if (rc == RC_OK && trigger.kind != TRIGGER_SCHEDULE)
        rc = err_set(&call->err, ERR_UNSUPPORTED, "Only schedules are run by hand.");
    if (rc == RC_OK)
        rc = triggers_fire(call->services->triggers, call->txn, &trigger, db_txn_now_ns(call->txn),
                           call->principal->name, call->arena, &job, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 202;
    call->answer = yyjson_mut_obj(call->doc);
    api_put_id(call, call->answer, "run", "run", job.id);
    yyjson_mut_obj_add_val(call->doc, call->answer, "job", job_encode(&job, call->doc));
    return RC_OK;
}
