/* Building snapshots. One pass over each kind of object, in the order in which they refer to each
 * other; definitions are parsed in a scratch arena, and only what is decoded stays. */
#include "model/model.h"
#include "govern/control.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/price.h"
#include "gateway/slots.h"
#include "govern/key.h"
#include "pipeline/tools/tool.h"
#include "pipeline/triggers/trigger.h"
#include "prompt/prompt.h"
#include "store/account.h"
#include "text/decode.h"
#include "text/json.h"
#include <stdlib.h>

#define SCRATCH_BYTES_MAX (64ll * 1024 * 1024)
#define MENDED_MAX        200 /* what was replaced keeps its memory until all is built anew */

struct building {
    struct snapshot *snapshot;
    const struct secret_box *box;
    struct db_txn *txn;
    struct arena scratch;  /* of one object */
    struct map keys_by_id; /* 16 bytes → struct key: for sessions */
};

static enum rc full(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE,
                   "The configuration is larger than this server keeps in memory.");
}

static void skip(const struct object *object, const struct err *err)
{
    log_event(LOG_WARN, "object_skipped", LOG_Z("kind", object_kind_name(object->kind)),
              LOG_STR("name", object->name), LOG_Z("field", err->field),
              LOG_Z("reason", err->message));
}

static enum origin origin_of(const struct object *object)
{
    return object->from_file ? ORIGIN_FILE : ORIGIN_DATABASE;
}

/* ---- by kind: RC_OK, or what makes the object unusable ---- */

static enum rc add_provider(struct building *b, struct project *project,
                            const struct object *object, yyjson_val *json, struct err *err)
{
    struct provider *provider = ARENA_NEW(&b->snapshot->arena, struct provider);

    if (!provider)
        return full(err);
    enum rc rc =
        provider_decode(project->id, object->name, json, &b->snapshot->arena, provider, err);
    if (rc != RC_OK)
        return rc;
    provider->origin = origin_of(object);
    map_put(&project->providers, provider->name, provider);
    return RC_OK;
}

static enum rc add_route(struct building *b, struct project *project, const struct object *object,
                         yyjson_val *json, struct err *err)
{
    struct route *route = ARENA_NEW(&b->snapshot->arena, struct route);

    if (!route)
        return full(err);
    enum rc rc = route_decode(project->id, object->name, json, &project->providers,
                              &b->snapshot->arena, route, err);
    if (rc != RC_OK)
        return rc;
    route->origin = origin_of(object);
    map_put(&project->routes, route->name, route);
    return RC_OK;
}

static enum rc add_key(struct building *b, struct project *project, const struct object *object,
                       yyjson_val *json, struct err *err)
{
    struct key *key = ARENA_NEW(&b->snapshot->arena, struct key);

    if (!key)
        return full(err);
    enum rc rc = key_decode(object, json, &b->snapshot->arena, key, err);
    if (rc != RC_OK)
        return rc;
    key->slot = slot_assign(SLOT_KEY, project->id, str_make(key->id.bytes, sizeof key->id.bytes));
    map_put(&b->snapshot->keys, str_make(key->secret_sha256, sizeof key->secret_sha256), key);
    map_put(&b->keys_by_id, str_make(key->id.bytes, sizeof key->id.bytes), key);
    return RC_OK;
}

static enum rc add_limit(struct building *b, struct project *project, const struct object *object,
                         yyjson_val *json, struct err *err)
{
    struct limits *limits = ARENA_NEW(&b->snapshot->arena, struct limits);
    struct str name = arena_copy(&b->snapshot->arena, object->name);

    if (!limits || !name.p)
        return full(err);
    enum rc rc =
        limits_decode(yyjson_obj_get(json, "limits"), yyjson_obj_get(json, "budget"), limits, err);
    if (rc == RC_OK)
        map_put(&project->limits, name, limits);
    return rc;
}

static enum rc add_price(struct building *b, struct project *project, const struct object *object,
                         yyjson_val *json, struct err *err)
{
    ssize_t slash = str_find_char(object->name, '/');

    if (slash <= 0)
        return err_set(err, ERR_BAD_FIELD, "A price's name is PROVIDER/MODEL.");
    if (!project->price_overrides)
        project->price_overrides = price_table_new(&b->snapshot->arena);
    if (!project->price_overrides)
        return full(err);
    return price_table_add(project->price_overrides, &b->snapshot->arena,
                           str_slice(object->name, 0, (size_t)slash),
                           str_slice(object->name, (size_t)slash + 1, object->name.n), json, err);
}

static enum rc add_setting(struct building *b, struct project *project, const struct object *object,
                           yyjson_val *json, struct err *err)
{
    struct place root;

    UNUSED(b);
    if (!str_eq(object->name, STR("project")))
        return RC_OK;
    decode_root(&root, json, "");
    return capture_decode(&root, &project->capture, err);
}

static enum rc add_model(struct building *b, struct project *project, const struct object *object,
                         yyjson_val *json, struct err *err)
{
    struct model *model = ARENA_NEW(&b->snapshot->arena, struct model);

    if (!model)
        return full(err);
    struct str name = arena_copy(&b->snapshot->arena, object->name);
    enum rc rc = name.p ? model_decode(name, json, &b->snapshot->arena, model, err) : full(err);
    if (rc != RC_OK)
        return rc;
    map_put(&project->local_models, model->name, model);
    return RC_OK;
}

/* Answered inside the process: the hot path needs to know that it is there. */
static enum rc add_inner_name(struct building *b, struct project *project, const char *prefix,
                              const struct object *object, struct err *err)
{
    struct str *name = ARENA_NEW(&b->snapshot->arena, struct str);

    if (!name)
        return full(err);
    *name = arena_concat(&b->snapshot->arena, str_from(prefix), object->name);
    if (!name->p)
        return full(err);
    map_put(&project->inner_names, *name, name);
    return RC_OK;
}

static enum rc add_pipeline(struct building *b, struct project *project,
                            const struct object *object, yyjson_val *json, struct err *err)
{
    UNUSED(json);
    return add_inner_name(b, project, "pipeline/", object, err);
}

static enum rc add_trigger(struct building *b, struct project *project, const struct object *object,
                           yyjson_val *json, struct err *err)
{
    struct trigger *trigger = ARENA_NEW(&b->snapshot->arena, struct trigger);

    if (!trigger)
        return full(err);
    enum rc rc = trigger_decode(project->id, object->name, json, &b->snapshot->arena, trigger, err);
    if (rc == RC_OK)
        map_put(&b->snapshot->triggers, str_make(trigger->id.bytes, sizeof trigger->id.bytes),
                trigger);
    return rc;
}

static enum rc add_collection(struct building *b, struct project *project,
                              const struct object *object, yyjson_val *json, struct err *err)
{
    UNUSED(json);
    return add_inner_name(b, project, "knowledge/", object, err);
}

static enum rc copy_versions(struct building *b, const struct object *rows, size_t count,
                             struct prompt_family *family, struct err *err)
{
    struct arena *arena = &b->snapshot->arena;

    for (size_t i = 0; i < count; i++) {
        struct prompt_version *version = &family->versions[family->version_count++];
        *version = (struct prompt_version){.version = rows[i].version,
                                           .spec = arena_copy(arena, rows[i].spec)};
        if (!version->spec.p)
            return full(err);
    }
    return RC_OK;
}

/* The versions that labels point to, where they are not among the newest. */
static enum rc add_labelled(struct building *b, struct db_txn *txn, struct project *project,
                            struct prompt_family *family, size_t capacity, struct err *err)
{
    enum rc rc = RC_OK;

    for (size_t i = 0; i < family->label_count; i++) {
        for (size_t t = 0; t < family->labels[i].target_count && rc == RC_OK; t++) {
            int64_t wanted = family->labels[i].targets[t].version;
            struct object object;
            bool there = false;
            for (size_t v = 0; v < family->version_count; v++)
                there |= family->versions[v].version == wanted;
            if (there || family->version_count == capacity)
                continue;
            rc = object_version_get(txn, project->id, OBJECT_PROMPT, family->name, wanted,
                                    &b->scratch, &object, err);
            if (rc == RC_OK)
                rc = copy_versions(b, &object, 1, family, err);
        }
    }
    return rc;
}

static enum rc copy_labels(struct building *b, const struct label *labels, size_t count,
                           struct prompt_family *family, struct err *err)
{
    struct arena *arena = &b->snapshot->arena;

    family->labels = ARENA_NEW_ARRAY(arena, struct label, count + 1);
    for (size_t i = 0; i < count && family->labels; i++) {
        struct label *label = &family->labels[family->label_count++];
        struct str targets = arena_copy(
            arena, str_make(labels[i].targets, labels[i].target_count * sizeof *label->targets));
        *label = (struct label){.name = arena_copy(arena, labels[i].name),
                                .targets = (struct label_target *)(uintptr_t)targets.p,
                                .target_count = labels[i].target_count};
        if (!label->name.p || !targets.p)
            return full(err);
    }
    return family->labels ? RC_OK : full(err);
}

static enum rc add_prompt(struct building *b, struct project *project, const struct object *object,
                          yyjson_val *json, struct err *err)
{
    struct arena *arena = &b->snapshot->arena;
    struct prompt_family *family = ARENA_NEW(arena, struct prompt_family);
    struct object *versions;
    struct label *labels;
    size_t version_count, label_count, capacity;

    UNUSED(json);
    if (!family || !(family->name = arena_copy(arena, object->name)).p)
        return full(err);
    enum rc rc = object_versions(b->txn, project->id, OBJECT_PROMPT, family->name, 0,
                                 PROMPT_VERSIONS_KEPT, &b->scratch, &versions, &version_count, err);
    if (rc == RC_OK)
        rc = object_labels(b->txn, project->id, OBJECT_PROMPT, family->name, &b->scratch, &labels,
                           &label_count, err);
    if (rc != RC_OK)
        return rc;
    capacity = version_count + label_count * LABEL_TARGETS_MAX;
    family->versions = ARENA_NEW_ARRAY(arena, struct prompt_version, capacity + 1);
    if (!family->versions)
        return full(err);
    rc = copy_versions(b, versions, version_count, family, err);
    if (rc == RC_OK)
        rc = copy_labels(b, labels, label_count, family, err);
    if (rc == RC_OK)
        rc = add_labelled(b, b->txn, project, family, capacity, err);
    if (rc == RC_OK)
        map_put(&project->prompts, family->name, family);
    return rc;
}

/* Versions with a label, and the newest, are compiled ahead. One that cannot be (a prompt that it
 * refers to is gone) is tried again, and refused, when it is called. */
static void compile_prompts(struct building *b, struct project *project)
{
    MAP_FOR_EACH (slot, &project->prompts) {
        struct prompt_family *family = slot->value;
        for (size_t v = 0; v < family->version_count; v++) {
            bool labelled = v == 0;
            for (size_t i = 0; i < family->label_count; i++)
                for (size_t t = 0; t < family->labels[i].target_count; t++)
                    labelled |= family->labels[i].targets[t].version == family->versions[v].version;
            struct prompt *compiled;
            yyjson_doc *doc;
            if (labelled &&
                json_read(family->versions[v].spec, &b->snapshot->arena, &doc, NULL) == RC_OK &&
                prompt_compile(&project->prompts, yyjson_doc_get_root(doc), &b->snapshot->arena,
                               &compiled, NULL) == RC_OK)
                family->versions[v].compiled = compiled;
        }
    }
}

static enum rc add_tool(struct building *b, struct project *project, const struct object *object,
                        yyjson_val *json, struct err *err)
{
    struct arena *arena = &b->snapshot->arena;
    struct str name = arena_copy(arena, object->name), text = json_write(json, arena);
    struct tool *tool;
    yyjson_doc *doc;
    if (!name.p || !text.p)
        return full(err);
    enum rc rc = json_read(text, arena, &doc, err); /* as long as the snapshot */
    if (rc == RC_OK)
        rc = tool_decode(name, yyjson_doc_get_root(doc), arena, &tool, err);
    if (rc == RC_OK)
        map_put(&project->tools, name, tool);
    return rc;
}

typedef enum rc add_function(struct building *b, struct project *project,
                             const struct object *object, yyjson_val *json, struct err *err);

/* In this order: routes refer to providers. `name_only`: its definition need not be read. Kinds
 * without a function are not of the hot path. */
static const struct {
    enum object_kind kind;
    add_function *add;
    bool name_only;
} ADDERS[] = {
    {OBJECT_SETTING, add_setting, false},  {OBJECT_PROVIDER, add_provider, false},
    {OBJECT_ROUTE, add_route, false},      {OBJECT_MODEL, add_model, false},
    {OBJECT_LIMIT, add_limit, false},      {OBJECT_PRICE, add_price, false},
    {OBJECT_KEY, add_key, false},          {OBJECT_PROMPT, add_prompt, true},
    {OBJECT_PIPELINE, add_pipeline, true}, {OBJECT_COLLECTION, add_collection, true},
    {OBJECT_TRIGGER, add_trigger, false},  {OBJECT_TOOL, add_tool, false},
};

/* Nothing else in a snapshot refers to objects of these kinds, but for sessions to keys, so that
 * one may be replaced in a copy of the snapshot. NULL: another kind. */
static add_function *mending_function(int kind)
{
    return kind == OBJECT_ROUTE   ? add_route
           : kind == OBJECT_KEY   ? add_key
           : kind == OBJECT_LIMIT ? add_limit
                                  : NULL;
}

struct adding {
    struct building *building;
    struct project *project;
    add_function *add;
    bool name_only;
};

static enum rc add_object(void *arg, const struct object *object, struct err *err)
{
    struct adding *adding = arg;
    struct building *b = adding->building;
    struct err problem = {0};
    yyjson_val *json = NULL;

    enum rc rc =
        adding->name_only ? RC_OK : object_reveal(b->box, object, &b->scratch, &json, &problem);
    if (rc == RC_OK)
        rc = adding->add(b, adding->project, object, json, &problem);
    arena_reset(&b->scratch);
    if (problem.code == ERR_TOO_LARGE &&
        b->snapshot->arena.used_bytes > SNAPSHOT_BYTES_MAX - (1 << 20))
        return full(err);
    if (rc != RC_OK)
        skip(object, &problem);
    return RC_OK;
}

/* ---- sessions ---- */

static enum rc session_principal(struct building *b, const struct session_row *row,
                                 struct principal *out)
{
    enum role role;

    if (!id_is_zero(row->key)) {
        const struct key *key =
            map_get(&b->keys_by_id, str_make(row->key.bytes, sizeof row->key.bytes));
        if (!key || key->revoked)
            return RC_END;
        *out = key->principal;
        out->expires_wall_ns =
            key->expires_wall_ns ? MIN(key->expires_wall_ns, row->expires_ns) : row->expires_ns;
    } else {
        if (role_parse(row->role, &role) != RC_OK)
            return RC_END;
        *out = (struct principal){.project = row->project,
                                  .role = role,
                                  .permissions = role_permissions(role),
                                  .user = row->user,
                                  .expires_wall_ns = row->expires_ns};
    }
    out->session = row->id;
    return RC_OK;
}

static enum rc add_session(void *arg, const struct session_row *row, struct err *err)
{
    struct building *b = arg;
    struct principal found;

    if (session_principal(b, row, &found) != RC_OK)
        return RC_OK; /* its key was revoked, its user is no member any more */
    struct principal *principal = ARENA_NEW(&b->snapshot->arena, struct principal);
    struct str digest = arena_copy(&b->snapshot->arena, str_make(row->digest, sizeof row->digest));
    if (!principal || !digest.p)
        return full(err);
    *principal = found;
    principal->name = arena_copy(&b->snapshot->arena, row->name);
    if (!principal->name.p)
        return full(err);
    map_put(&b->snapshot->sessions, digest, principal);
    return RC_OK;
}

/* ---- all of it ---- */

static enum rc add_projects(struct building *b, struct db_txn *txn, struct err *err)
{
    struct project_row *rows;
    size_t count;
    enum rc rc = project_rows(txn, &b->scratch, &rows, &count, err);

    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        struct project *project = snapshot_add_project(b->snapshot, rows[i].id, rows[i].name);
        rc = project
                 ? provider_add_local(project->id, &project->providers, &b->snapshot->arena, err)
                 : full(err);
    }
    return rc;
}

static enum rc add_objects(struct building *b, struct db_txn *txn, struct project *project,
                           struct err *err)
{
    enum rc rc = RC_OK;

    for (size_t i = 0; rc == RC_OK && i < COUNT_OF(ADDERS); i++) {
        struct adding adding = {b, project, ADDERS[i].add, ADDERS[i].name_only};
        rc = object_each(txn, project->id, ADDERS[i].kind, add_object, &adding, err);
    }
    if (rc == RC_OK)
        compile_prompts(b, project);
    return rc;
}

enum rc control_build_snapshot(struct db_txn *txn, struct snapshot **out, struct err *err)
{
    struct building b = {
        .snapshot = snapshot_new(SNAPSHOT_BYTES_MAX), .box = db_txn_secrets(txn), .txn = txn};

    arena_init(&b.scratch, SCRATCH_BYTES_MAX);
    map_init(&b.keys_by_id);
    enum rc rc = add_projects(&b, txn, err);
    arena_reset(&b.scratch);
    for (size_t i = 0; rc == RC_OK && i < b.snapshot->project_count; i++)
        rc = add_objects(&b, txn, b.snapshot->project_list[i], err);
    if (rc == RC_OK)
        rc = session_each(txn, add_session, &b, err);
    map_fini(&b.keys_by_id);
    arena_fini(&b.scratch);
    if (rc != RC_OK) {
        snapshot_unref(b.snapshot);
        return rc;
    }
    *out = b.snapshot;
    return RC_OK;
}

/* ---- a few objects in a copy ---- */

/* The file may give a key another secret, by which it was found before. */
static void forget_key(struct snapshot *snapshot, struct id id)
{
    MAP_FOR_EACH (slot, &snapshot->keys) {
        const struct key *key = slot->value;
        if (!id_eq(key->id, id))
            continue;
        map_remove(&snapshot->keys, slot->key);
        return;
    }
}

static bool has_session(const struct snapshot *snapshot, struct id key)
{
    MAP_FOR_EACH (slot, &snapshot->sessions)
        if (id_eq(((const struct principal *)slot->value)->key, key))
            return true;
    return false;
}

static enum rc mend_object(struct building *b, const struct db_object_change *change,
                           struct err *err)
{
    struct project *project = snapshot_project(b->snapshot, change->project);
    struct adding adding = {b, project, mending_function(change->kind), false};
    struct object object;
    struct id id;

    if (!project || !adding.add)
        return RC_AGAIN;
    if (change->kind == OBJECT_KEY) {
        if (id_parse(change->name, "key", &id) != RC_OK || has_session(b->snapshot, id))
            return RC_AGAIN;
        forget_key(b->snapshot, id);
    } else {
        map_remove(change->kind == OBJECT_ROUTE ? &project->routes : &project->limits,
                   change->name);
    }
    enum rc rc = object_get(b->txn, change->project, (enum object_kind)change->kind, change->name,
                            &b->scratch, &object, err);
    if (rc == RC_OK)
        return add_object(&adding, &object, err);
    if (rc == RC_NOT_FOUND) { /* deleted */
        *err = (struct err){0};
        rc = RC_OK;
    }
    arena_reset(&b->scratch);
    return rc;
}

/* The same as building anew, when only these have changed since `base`. RC_AGAIN: build anew. */
enum rc control_mend_snapshot(struct db_txn *txn, struct snapshot *base, struct snapshot **out,
                              struct err *err)
{
    struct building b = {.box = db_txn_secrets(txn), .txn = txn};
    const struct db_object_change *changes;
    size_t count;
    enum rc rc = RC_OK;

    if (!base || base->mended == MENDED_MAX || !db_txn_changes(txn, &changes, &count))
        return RC_AGAIN;
    for (size_t i = 0; i < count; i++)
        if (!mending_function(changes[i].kind))
            return RC_AGAIN;
    b.snapshot = snapshot_copy(base, SNAPSHOT_BYTES_MAX);
    if (!b.snapshot)
        return full(err);
    arena_init(&b.scratch, SCRATCH_BYTES_MAX);
    map_init(&b.keys_by_id);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        rc = mend_object(&b, &changes[i], err);
    map_fini(&b.keys_by_id);
    arena_fini(&b.scratch);
    if (rc != RC_OK) {
        snapshot_unref(b.snapshot);
        return rc;
    }
    *out = b.snapshot;
    return RC_OK;
}

/* ---- publishing ---- */

static void publish(struct snapshot *snapshot, int64_t began_ns)
{
    log_event(LOG_DEBUG, "snapshot_published",
              LOG_F64("build_ms", (double)(clock_monotonic_ns() - began_ns) / NS_PER_MS),
              LOG_I64("bytes", (int64_t)snapshot->arena.used_bytes),
              LOG_I64("mended", snapshot->mended));
    snapshot_publish(snapshot);
}

static enum rc build_and_publish(struct db_txn *txn, struct err *err)
{
    struct snapshot *snapshot;
    int64_t began_ns = clock_monotonic_ns();
    enum rc rc = control_build_snapshot(txn, &snapshot, err);

    if (rc == RC_OK)
        publish(snapshot, began_ns);
    return rc;
}

static void on_change(void *arg, struct db_txn *txn)
{
    struct err err = {0};
    struct snapshot *snapshot;
    int64_t began_ns = clock_monotonic_ns();

    UNUSED(arg);
    if (control_mend_snapshot(txn, snapshot_current(), &snapshot, &err) == RC_OK)
        publish(snapshot, began_ns);
    else if (build_and_publish(txn, &err) != RC_OK)
        log_event(LOG_ERROR, "snapshot_failed", LOG_Z("reason", err.message));
    snapshot_detach(); /* the writer needs none between changes */
}

static enum rc publish_now(void *arg, struct db_txn *txn, struct err *err)
{
    UNUSED(arg);
    return build_and_publish(txn, err);
}

/* On the writer's thread, so that an older state never follows a newer one. */
enum rc control_start_publishing(struct db *db, struct err *err)
{
    db_on_change(db, on_change, NULL);
    return db_write_wait(db, publish_now, NULL, err);
}

static enum rc soon_write(struct db_work *work, struct db_txn *txn, struct err *err)
{
    UNUSED(work);
    UNUSED(err);
    db_txn_mark_changed(txn); /* on_change follows the commit */
    return RC_OK;
}

static void soon_done(struct db_work *work) { free(work); }

void control_publish_soon(struct db *db)
{
    struct db_work *work = xcalloc(1, sizeof *work);

    work->write = soon_write;
    work->done = soon_done;
    if (db_write(db, work) != RC_OK)
        free(work); /* busy with changes, after each of which it publishes anyway */
}
