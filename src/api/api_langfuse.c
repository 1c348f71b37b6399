/* /api/public/…: Langfuse's interface as its Python and JavaScript clients use it for prompts
 * (Langfuse's OpenAPI document). A client signs in with a key's public id (pk-…) and secret.
 *
 * Prompts are ours: what a client makes is a version with labels, in Mustache. Its spans:
 * api_traces.c. Scores: api_langfuse_scores.c.
 */
#include "api/handlers.h"
#include "api/prompts.h"
#include "http/server.h"
#include "text/json_tree.h"

#define PROMPTS_LISTED_MAX 10000

/* ---- encoding ---- */

static enum rc put_prompt(struct api_call *call, const struct object *version, bool resolve)
{
    yyjson_val *spec, *shown;
    yyjson_mut_val *labels;
    enum rc rc = prompts_parse(call, version, &spec);
    shown = spec;
    if (rc == RC_OK && resolve)
        rc = prompt_resolve(prompts_callable(call), spec, call->arena, &shown, &call->err);
    if (rc == RC_OK)
        rc = prompts_labels_of(call, version, &labels);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_doc *doc = call->doc;
    yyjson_mut_val *o = call->answer = yyjson_mut_obj(doc);
    yyjson_val *config = yyjson_obj_get(spec, "config"), *tags = yyjson_obj_get(spec, "tags");
    api_put_id(call, o, "id", "prompt", version->id);
    api_put_str(call, o, "name", version->name);
    yyjson_mut_obj_add_sint(doc, o, "version", version->version);
    api_put_str(call, o, "type", json_get_text(spec, "type"));
    yyjson_mut_obj_add_val(doc, o, "prompt",
                           yyjson_val_mut_copy(doc, yyjson_obj_get(shown, "prompt")));
    yyjson_mut_obj_add_val(doc, o, "config",
                           config ? yyjson_val_mut_copy(doc, config) : yyjson_mut_obj(doc));
    yyjson_mut_obj_add_val(doc, o, "labels", labels);
    yyjson_mut_obj_add_val(doc, o, "tags",
                           tags ? yyjson_val_mut_copy(doc, tags) : yyjson_mut_arr(doc));
    api_put_str(call, o, "commitMessage", version->message.n ? version->message : STR_EMPTY);
    yyjson_mut_obj_add_null(doc, o, "resolutionGraph");
    api_put_str(call, o, "createdBy", version->author);
    api_put_time(call, o, "createdAt", version->created_ns);
    api_put_time(call, o, "updatedAt", version->created_ns);
    return RC_OK;
}

/* ---- prompts ---- */

/* Without version and label: production, and nothing else, as there. */
enum rc api_langfuse_prompt_get(struct api_call *call)
{
    struct str version = api_query(call, "version"), label = api_query(call, "label");
    struct object found;
    if (version.n && label.n)
        return err_set(&call->err, ERR_BAD_FIELD, "Cannot specify both version and label");
    struct str which = version.n ? version : label.n ? label : STR("production");
    enum rc rc = prompts_find(call, call->params[0], which, &found);
    if (rc == RC_NOT_FOUND)
        return err_set(&call->err, ERR_NOT_FOUND,
                       "Prompt not found: '%.*s' with %s %.*s within project",
                       STR_ARG(call->params[0]), version.n ? "version" : "label", STR_ARG(which));
    if (rc != RC_OK)
        return rc;
    return put_prompt(call, &found, !str_eq(api_query(call, "resolve"), STR("false")));
}

/* What the clients do not say is kept from the version before: tags, and our own members. */
static enum rc keep_members(struct api_call *call, struct str name, yyjson_val **body)
{
    static const char *const kept[] = {"tags", "folder", "description", "variables"};
    struct object before;
    yyjson_val *spec;
    struct err err = call->err;
    if (prompts_find(call, name, STR_EMPTY, &before) != RC_OK) {
        call->err = err;
        return RC_OK;
    }
    enum rc rc = prompts_parse(call, &before, &spec);
    yyjson_mut_val *copy = yyjson_val_mut_copy(call->doc, *body);
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        yyjson_mut_val *given = yyjson_mut_obj_get(copy, kept[i]);
        yyjson_val *old = yyjson_obj_get(spec, kept[i]);
        if (old && (!given || yyjson_mut_is_null(given)))
            yyjson_mut_obj_put(copy, yyjson_mut_str(call->doc, kept[i]),
                               yyjson_val_mut_copy(call->doc, old));
    }
    yyjson_doc *frozen = json_freeze(copy, call->arena);
    *body = yyjson_doc_get_root(frozen);
    return rc == RC_OK && !frozen ? RC_LIMIT : rc;
}

enum rc api_langfuse_prompt_create(struct api_call *call)
{
    struct object made;
    enum rc rc = api_need_body(call);
    yyjson_val *body = call->body;
    struct str name = json_get_text(body, "name");
    if (rc == RC_OK && yyjson_obj_get(body, "syntax"))
        return err_set_field(&call->err, ERR_BAD_FIELD, "syntax",
                             "By this interface prompts are in Mustache.");
    if (rc == RC_OK)
        rc = keep_members(call, name, &body);
    if (rc == RC_OK)
        rc = prompts_save(call, name, body, json_get_text(body, "commitMessage"),
                          yyjson_obj_get(body, "labels"), false, 0, &made);
    call->status = 201;
    return rc == RC_OK ? put_prompt(call, &made, false) : rc;
}

enum rc api_langfuse_prompt_update(struct api_call *call)
{
    struct object version;
    size_t i, n;
    yyjson_val *label;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = prompts_find(call, call->params[0], call->params[1], &version);
    const struct label_target target = {rc == RC_OK ? version.version : 0, 1};
    yyjson_arr_foreach(yyjson_obj_get(call->body, "newLabels"), i, n, label)
    {
        if (rc == RC_OK)
            rc = prompts_label(call, version.name, json_text(label), &target, 1);
    }
    return rc == RC_OK ? put_prompt(call, &version, false) : rc;
}

/* The whole prompt: versions are never deleted by themselves. */
enum rc api_langfuse_prompt_delete(struct api_call *call)
{
    struct actor actor = api_actor(call);
    if (api_query(call, "version").n || api_query(call, "label").n)
        return err_set(&call->err, ERR_UNSUPPORTED,
                       "Versions stay: delete the whole prompt, or take labels away.");
    return object_delete(call->txn, &actor, call->principal->project, OBJECT_PROMPT,
                         call->params[0], false, call->arena, &call->err);
}

struct listing {
    struct api_call *call;
    struct str name, label, tag;
    yyjson_mut_val *data;
    size_t found, from, to;
};

static bool has_tag(yyjson_val *spec, struct str tag)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(yyjson_obj_get(spec, "tags"), i, n, item)
    {
        if (str_eq(json_text(item), tag))
            return true;
    }
    return tag.n == 0;
}

/* Versions that match, their labels, and the config of the newest of them. */
static void put_listed(struct listing *list, const struct prompt_family *family, yyjson_val *spec)
{
    struct api_call *call = list->call;
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, list->data);
    yyjson_val *config = yyjson_obj_get(spec, "config"), *tags = yyjson_obj_get(spec, "tags");
    api_put_str(call, o, "name", family->name);
    api_put_str(call, o, "type", json_get_text(spec, "type"));
    yyjson_mut_val *versions = yyjson_mut_obj_add_arr(call->doc, o, "versions");
    for (size_t i = family->version_count; i-- > 0;)
        yyjson_mut_arr_add_sint(call->doc, versions, family->versions[i].version);
    yyjson_mut_val *labels = yyjson_mut_obj_add_arr(call->doc, o, "labels");
    for (size_t i = 0; i < family->label_count; i++)
        yyjson_mut_arr_append(labels, json_new_text(call->doc, family->labels[i].name));
    yyjson_mut_arr_add_str(call->doc, labels, "latest");
    yyjson_mut_obj_add_val(call->doc, o, "tags",
                           tags ? yyjson_val_mut_copy(call->doc, tags) : yyjson_mut_arr(call->doc));
    yyjson_mut_obj_add_val(call->doc, o, "lastConfig",
                           config ? yyjson_val_mut_copy(call->doc, config)
                                  : yyjson_mut_obj(call->doc));
}

static bool has_label(const struct prompt_family *family, struct str label)
{
    for (size_t i = 0; i < family->label_count; i++)
        if (str_eq(family->labels[i].name, label))
            return true;
    return label.n == 0 || str_eq(label, STR("latest"));
}

static enum rc list_one(void *arg, const struct object *object, struct err *err)
{
    struct listing *list = arg;
    const struct prompt_family *family = map_get(prompts_callable(list->call), object->name);
    yyjson_doc *doc;
    UNUSED(err);
    if (!family || (list->name.n && !str_eq(list->name, object->name)) ||
        !has_label(family, list->label))
        return RC_OK;
    enum rc rc = json_read(arena_copy(list->call->arena, object->spec), list->call->arena, &doc,
                           &list->call->err);
    if (rc != RC_OK || !has_tag(yyjson_doc_get_root(doc), list->tag))
        return rc;
    if (list->found >= list->from && list->found < list->to) {
        put_listed(list, family, yyjson_doc_get_root(doc));
        struct object current;
        rc = object_get(list->call->txn, list->call->principal->project, OBJECT_PROMPT,
                        family->name, list->call->arena, &current, &list->call->err);
        if (rc == RC_OK)
            api_put_time(list->call, yyjson_mut_arr_get_last(list->data), "lastUpdatedAt",
                         current.updated_ns);
    }
    list->found++;
    return rc;
}

enum rc api_langfuse_prompts_list(struct api_call *call)
{
    int64_t page, limit;
    enum rc rc = api_query_i64(call, "page", 1, &page);
    if (rc == RC_OK)
        rc = api_query_i64(call, "limit", 50, &limit);
    if (rc != RC_OK)
        return rc;
    page = MAX(page, 1);
    limit = MAX(1, MIN(limit, 100));
    call->answer = yyjson_mut_obj(call->doc);
    struct listing list = {.call = call,
                           .name = api_query(call, "name"),
                           .label = api_query(call, "label"),
                           .tag = api_query(call, "tag"),
                           .data = yyjson_mut_obj_add_arr(call->doc, call->answer, "data"),
                           .from = (size_t)MIN((page - 1) * limit, PROMPTS_LISTED_MAX)};
    list.to = list.from + (size_t)limit;
    rc = object_each(call->txn, call->principal->project, OBJECT_PROMPT, list_one, &list,
                     &call->err);
    yyjson_mut_val *meta = yyjson_mut_obj_add_obj(call->doc, call->answer, "meta");
    yyjson_mut_obj_add_sint(call->doc, meta, "page", page);
    yyjson_mut_obj_add_sint(call->doc, meta, "limit", limit);
    yyjson_mut_obj_add_uint(call->doc, meta, "totalItems", list.found);
    yyjson_mut_obj_add_uint(call->doc, meta, "totalPages",
                            (list.found + (size_t)limit - 1) / (size_t)limit);
    return rc;
}

/* ---- what else the clients ask ---- */

enum rc api_langfuse_health(struct api_call *call)
{
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_str(call->doc, call->answer, "status", "OK");
    yyjson_mut_obj_add_str(call->doc, call->answer, "version", CAPSTAN_VERSION);
    return RC_OK;
}

/* The key's project: one. */
enum rc api_langfuse_projects(struct api_call *call)
{
    struct snapshot *snapshot = snapshot_current();
    struct project *project =
        snapshot ? snapshot_project(snapshot, call->principal->project) : NULL;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *data = yyjson_mut_obj_add_arr(call->doc, call->answer, "data");
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, data);
    api_put_id(call, o, "id", "proj", call->principal->project);
    api_put_str(call, o, "name", project ? arena_copy(call->arena, project->name) : STR("default"));
    yyjson_mut_val *organization = yyjson_mut_obj_add_obj(call->doc, o, "organization");
    yyjson_mut_obj_add_str(call->doc, organization, "id", "capstan");
    yyjson_mut_obj_add_str(call->doc, organization, "name", "Capstan");
    yyjson_mut_obj_add_obj(call->doc, o, "metadata");
    return RC_OK;
}
