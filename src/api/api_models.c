/* /api/models and /api/engine: local models, what can be pulled, and the engine that runs them.
 * What takes long answers with a job. */
#include "api/handlers.h"
#include "job/job.h"
#include "model/engine.h"
#include "model/models.h"
#include "store/object.h"
#include "text/json.h"
#include <ctype.h>

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "the answer is too large");
}

/* ---- showing ---- */

static void put_engine_state(struct api_call *call, yyjson_mut_val *o,
                             const struct engine_status *status)
{
    bool has_memory = status && status->resident_bytes > 0;
    const char *state = engine_state_name(status ? status->state : ENGINE_STOPPED);
    yyjson_mut_obj_add_str(call->doc, o, "state", state);
    if (has_memory)
        yyjson_mut_obj_add_sint(call->doc, o, "memory", status->resident_bytes);
    else
        yyjson_mut_obj_add_null(call->doc, o, "memory");
    api_put_str(call, o, "error", status && status->error.n ? status->error : STR_EMPTY);
    api_put_time(call, o, "loaded_at", status ? status->ready_wall_ns : 0);
    api_put_time(call, o, "last_used_at", status ? status->used_wall_ns : 0);
    yyjson_mut_obj_add_uint(call->doc, o, "calls_now", status ? status->leases : 0);
    yyjson_mut_obj_add_uint(call->doc, o, "restarts", status ? status->restarts : 0);
}

static enum rc show_model(struct api_call *call, const struct object *object, yyjson_mut_val **out)
{
    struct model model;
    struct engine_status status;
    yyjson_doc *json;
    char key[ENGINE_KEY_TEXT_BYTES_MAX];
    enum rc rc = json_read(object->spec, call->arena, &json, &call->err);
    if (rc == RC_OK)
        rc = model_decode(object->name, yyjson_doc_get_root(json), call->arena, &model, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = model_encode(&model, call->doc);
    if (!o)
        return full(call);
    size_t key_n = engine_key_format(object->project, false, object->name, key);
    bool known = engines_get(call->services->engines, str_make(key, key_n), call->arena, &status);
    api_put_str(call, o, "name", object->name);
    put_engine_state(call, o, known ? &status : NULL);
    if (model.kind == MODEL_ENCODER) /* there is nothing to start: it is loaded when it is asked */
        yyjson_mut_obj_put(o, yyjson_mut_str(call->doc, "state"),
                           yyjson_mut_str(call->doc, "ready"));
    api_put_time(call, o, "created_at", object->created_ns);
    yyjson_mut_obj_add_str(call->doc, o, "origin", object->from_file ? "file" : "database");
    *out = o;
    return RC_OK;
}

static enum rc get_model(struct api_call *call, struct object *object)
{
    return object_get(call->txn, call->principal->project, OBJECT_MODEL, call->params[0],
                      call->arena, object, &call->err);
}

enum rc api_models_list(struct api_call *call)
{
    struct object_page page;
    size_t limit;
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = object_list(call->txn, call->principal->project, OBJECT_MODEL,
                         api_query(call, "cursor"), api_query(call, "q"), limit, call->arena, &page,
                         &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < page.count; i++) {
        yyjson_mut_val *item;
        if ((rc = show_model(call, &page.items[i], &item)))
            return rc;
        yyjson_mut_arr_append(items, item);
    }
    api_list_end(call, page.next);
    return RC_OK;
}

enum rc api_models_get(struct api_call *call)
{
    struct object object;
    enum rc rc = get_model(call, &object);
    return rc == RC_OK ? show_model(call, &object, &call->answer) : rc;
}

static void put_sources(struct api_call *call, yyjson_mut_val *o,
                        const struct catalogue_entry *entry)
{
    yyjson_mut_val *sources = yyjson_mut_obj_add_arr(call->doc, o, "sources");
    for (size_t i = 0; i < entry->source_count; i++) {
        const struct catalogue_source *source = &entry->sources[i];
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(call->doc, sources);
        yyjson_mut_obj_add_str(call->doc, one, "kind",
                               source->kind == CATALOGUE_PYPI ? "pypi" : "hub");
        api_put_str(call, one, "address", source->address);
    }
}

enum rc api_models_catalogue(struct api_call *call)
{
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < catalogue_count(); i++) {
        const struct catalogue_entry *entry = catalogue_at(i);
        struct object object;
        struct err missing;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_str(call, o, "name", entry->name);
        api_put_str(call, o, "description", entry->description);
        yyjson_mut_obj_add_str(call->doc, o, "kind", entry->file_count ? "encoder" : "engine");
        api_put_str(call, o, "licence", entry->licence);
        api_put_str(call, o, "sha256", entry->sha256.n ? entry->sha256 : STR_EMPTY);
        if (entry->bytes)
            yyjson_mut_obj_add_uint(call->doc, o, "size", entry->bytes);
        else
            yyjson_mut_obj_add_null(call->doc, o, "size");
        yyjson_mut_obj_add_uint(call->doc, o, "parameters", entry->parameters);
        yyjson_mut_obj_add_uint(call->doc, o, "context", entry->context_tokens);
        yyjson_mut_obj_add_bool(call->doc, o, "tools", entry->tools);
        put_sources(call, o, entry);
        bool installed = object_get(call->txn, call->principal->project, OBJECT_MODEL, entry->name,
                                    call->arena, &object, &missing) == RC_OK;
        yyjson_mut_obj_add_bool(call->doc, o, "installed", installed);
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

/* ---- jobs ---- */

static enum rc submit(struct api_call *call, const char *kind, yyjson_mut_doc *params)
{
    struct job_row row;
    size_t n;
    yyjson_alc alc = json_arena_alc(call->arena);
    const char *text = yyjson_mut_write_opts(params, 0, &alc, &n, NULL);
    if (!text)
        return full(call);
    enum rc rc =
        job_submit(call->services->jobs, call->txn, call->principal->project, kind,
                   str_make(text, n), call->principal->name, call->arena, &row, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 202;
    call->answer = job_encode(&row, call->doc);
    return call->answer ? RC_OK : full(call);
}

static yyjson_mut_doc *params_new(struct api_call *call, yyjson_mut_val **root)
{
    yyjson_alc alc = json_arena_alc(call->arena);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(&alc);
    *root = doc ? yyjson_mut_obj(doc) : NULL;
    if (*root)
        yyjson_mut_doc_set_root(doc, *root);
    return *root ? doc : NULL;
}

enum rc api_models_pull(struct api_call *call)
{
    yyjson_mut_val *root;
    enum rc rc = api_need_body(call);
    if (rc != RC_OK)
        return rc;
    struct str name = json_get_text(call->body, "name");
    if (!catalogue_find(name))
        return err_set_field(
            &call->err, ERR_NOT_FOUND, "name",
            "there is no model '%.*s' in the catalogue; GET /api/models/catalogue lists them",
            STR_ARG(name));
    yyjson_mut_doc *params = params_new(call, &root);
    if (!params || !yyjson_mut_obj_add_strn(params, root, "name", name.p, name.n))
        return full(call);
    return submit(call, "model_pull", params);
}

/* "/models/Tiny Model.Q4.gguf" → "tiny-model.q4". */
static struct str name_from_file(struct str file, struct arena *arena)
{
    ssize_t slash = str_rfind_char(file, '/');
    struct str base = str_slice(file, (size_t)(slash + 1), file.n);
    if (str_ends(base, STR(".gguf")))
        base.n -= 5;
    char *name = arena_alloc(arena, base.n + 1);
    if (!name)
        return STR_EMPTY;
    for (size_t i = 0; i < base.n; i++) {
        unsigned char c = (unsigned char)base.p[i];
        name[i] = isalnum(c) || c == '.' || c == '_' ? (char)tolower(c) : '-';
    }
    return str_make(name, base.n);
}

enum rc api_models_add(struct api_call *call)
{
    yyjson_mut_val *root;
    enum rc rc = api_need_body(call);
    if (rc != RC_OK)
        return rc;
    struct str file = json_get_text(call->body, "file"), name = json_get_text(call->body, "name");
    if (file.n == 0 || file.p[0] != '/')
        return err_set_field(
            &call->err, ERR_BAD_FIELD, "file",
            "give the whole path, from /, of a GGUF file or an encoder's folder on the server");
    if (name.n == 0)
        name = name_from_file(file, call->arena);
    if ((rc = model_check_name(name, &call->err)))
        return rc;
    yyjson_mut_doc *params = params_new(call, &root);
    if (!params || !yyjson_mut_obj_add_strn(params, root, "name", name.p, name.n) ||
        !yyjson_mut_obj_add_strn(params, root, "file", file.p, file.n))
        return full(call);
    return submit(call, "model_add", params);
}

/* ---- changing ---- */

/* Only how it is run can be changed; what the file is stays. */
enum rc api_models_patch(struct api_call *call)
{
    static const char *const settings[] = {"context",   "slots",        "threads",
                                           "idle_stop", "idle_stop_ms", "memory_max"};
    struct object object;
    struct model model;
    yyjson_doc *json;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = get_model(call, &object);
    if (rc == RC_OK)
        rc = json_read(object.spec, call->arena, &json, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_alc alc = json_arena_alc(call->arena);
    yyjson_mut_doc *merged = yyjson_doc_mut_copy(json, &alc);
    yyjson_mut_val *root = merged ? yyjson_mut_doc_get_root(merged) : NULL;
    if (!root)
        return full(call);
    if (yyjson_obj_get(call->body, "idle_stop"))
        yyjson_mut_obj_remove_key(root, "idle_stop_ms");
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        yyjson_val *value = yyjson_obj_get(call->body, settings[i]);
        if (value)
            yyjson_mut_obj_put(root, yyjson_mut_str(merged, settings[i]),
                               yyjson_val_mut_copy(merged, value));
    }
    yyjson_doc *fixed = yyjson_mut_doc_imut_copy(merged, &alc);
    if (!fixed)
        return full(call);
    if ((rc = model_decode(object.name, yyjson_doc_get_root(fixed), call->arena, &model,
                           &call->err)))
        return rc;
    const struct actor actor = api_actor(call);
    rc = object_put(call->txn, &actor,
                    &(struct object_change){.project = call->principal->project,
                                            .kind = OBJECT_MODEL,
                                            .name = object.name,
                                            .spec = yyjson_doc_get_root(fixed)},
                    call->arena, &object, &call->err);
    return rc == RC_OK ? show_model(call, &object, &call->answer) : rc;
}

enum rc api_models_delete(struct api_call *call)
{
    struct object object;
    struct model model;
    yyjson_doc *json;
    const struct actor actor = api_actor(call);
    enum rc rc = get_model(call, &object);
    if (rc == RC_OK)
        rc = json_read(object.spec, call->arena, &json, &call->err);
    if (rc == RC_OK)
        rc = model_decode(object.name, yyjson_doc_get_root(json), call->arena, &model, &call->err);
    if (rc == RC_OK)
        rc = object_delete(call->txn, &actor, call->principal->project, OBJECT_MODEL, object.name,
                           false, call->arena, &call->err);
    if (rc != RC_OK)
        return rc;
    models_forget_file(call->services->models, model.file);
    call->status = 204;
    return RC_OK;
}

/* An encoder has no engine of its own: nobody knows its key, and nothing happens. */
static enum rc change_engine(struct api_call *call,
                             void (*change)(struct engines *engines, struct str key))
{
    struct object object;
    char key[ENGINE_KEY_TEXT_BYTES_MAX];
    enum rc rc = get_model(call, &object);
    if (rc != RC_OK)
        return rc;
    size_t key_n = engine_key_format(object.project, false, object.name, key);
    change(call->services->engines, str_make(key, key_n));
    return show_model(call, &object, &call->answer);
}

enum rc api_models_start(struct api_call *call) { return change_engine(call, engines_start); }

enum rc api_models_stop(struct api_call *call) { return change_engine(call, engines_end); }

/* ---- the engine ---- */

#define OPEN_JOBS_LOOKED_AT 100

/* The installation under way, or the last one when it failed; .id zero: neither. */
static enum rc find_install(struct api_call *call, struct job_row *out)
{
    struct job_row *rows;
    size_t count;
    *out = (struct job_row){0};
    enum rc rc = job_table_list(call->txn, call->principal->project, STR_EMPTY, 0,
                                OPEN_JOBS_LOOKED_AT, call->arena, &rows, &count, &call->err);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        if (str_eq(rows[i].kind, STR("engine_install"))) {
            *out = rows[i];
            break;
        }
    return rc;
}

enum rc api_engine_get(struct api_call *call)
{
    struct engine_program program;
    struct job_row install;
    enum rc rc = find_install(call, &install);
    if (rc != RC_OK)
        return rc;
    engines_program(call->services->engines, &program);
    bool running = str_eq(install.state, STR("running")) || str_eq(install.state, STR("queued"));
    bool failed = str_eq(install.state, STR("failed"));
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_str(call->doc, o, "state",
                           running           ? "installing"
                           : program.path[0] ? "ready"
                           : failed          ? "failed"
                                             : "missing");
    api_put_str(call, o, "version", program.path[0] ? str_from(program.version) : STR_EMPTY);
    api_put_str(call, o, "path", program.path[0] ? str_from(program.path) : STR_EMPTY);
    api_put_str(call, o, "origin", program.path[0] ? str_from(program.origin) : STR_EMPTY);
    api_put_str(call, o, "error",
                !running && !program.path[0] && failed ? install.error : STR_EMPTY);
    api_put_id(call, o, "job_id", "job", running ? install.id : (struct id){0});
    call->answer = o;
    return RC_OK;
}

/* Body, may be absent: {"source": true} builds from source although packages could be had. */
enum rc api_engine_install(struct api_call *call)
{
    yyjson_mut_val *root;
    yyjson_mut_doc *params = params_new(call, &root);
    if (!params || !yyjson_mut_obj_add_bool(params, root, "source",
                                            json_get_bool(call->body, "source", false)))
        return full(call);
    return submit(call, "engine_install", params);
}
