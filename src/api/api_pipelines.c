/* /api/pipelines: drafts, checking, publishing, versions and labels. A draft may hold anything that
 * is JSON of a reasonable size and tells what is wrong with it; a version is free of errors. */
#include "api/objects.h"
#include "api/pipelines.h"
#include "api/triggers.h"
#include "base/limits.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/definition/document.h"
#include "pipeline/definition/reach.h"
#include "store/object.h"
#include "store/conversation_table.h"
#include "store/pipeline_table.h"
#include "text/json_tree.h"

static const char new_draft[] =
    "{\"schema\":1,\"nodes\":[{\"id\":\"start\",\"type\":\"start\",\"title\":\"Start\","
    "\"position\":{\"x\":80,\"y\":160},\"config\":{\"inputs\":[{\"name\":\"query\",\"title\":"
    "\"Question\",\"type\":\"string\",\"long\":true,\"required\":true}]}}],\"edges\":[]}";

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "The definition is too large.");
}

/* ---- reading ---- */

static enum rc get_row(struct api_call *call, struct pipeline_row *row)
{
    return pipeline_table_get(call->txn, call->principal->project, call->params[0], call->arena,
                              row, &call->err);
}

static enum rc parse(struct api_call *call, struct str text, yyjson_val **out)
{
    yyjson_doc *doc;
    enum rc rc = json_read(text, call->arena, &doc, &call->err);
    *out = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    return rc;
}

/* The problems of a definition, and what it may reach into `o` (NULL: not asked for). NULL: the
 * arena is full. */
static struct findings *check_definition(struct api_call *call, yyjson_mut_val *o,
                                         yyjson_val *definition)
{
    struct findings *findings = ARENA_NEW(call->arena, struct findings);
    if (!findings)
        return NULL;
    findings_init(findings, call->arena);
    struct document *document = document_read(definition, call->arena, findings);
    if (document)
        document_check(document, findings);
    if (document && o)
        yyjson_mut_obj_add_val(call->doc, o, "manifest", reach_encode(document, call->doc));
    return findings;
}

enum rc pipelines_put_problems(struct api_call *call, yyjson_mut_val *o, yyjson_val *definition)
{
    struct findings *findings = check_definition(call, o, definition);
    if (!findings)
        return full(call);
    yyjson_mut_obj_add_val(call->doc, o, "problems", findings_encode(findings, call->doc));
    yyjson_mut_obj_add_bool(call->doc, o, "publishable", findings->errors == 0);
    return RC_OK;
}

static yyjson_mut_val *encode_labels(struct api_call *call, const struct label *labels,
                                     size_t count)
{
    yyjson_mut_val *list = yyjson_mut_arr(call->doc);
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, list);
        api_put_str(call, o, "name", labels[i].name);
        yyjson_mut_val *targets = yyjson_mut_obj_add_arr(call->doc, o, "targets");
        for (size_t t = 0; t < labels[i].target_count; t++) {
            yyjson_mut_val *target = yyjson_mut_arr_add_obj(call->doc, targets);
            yyjson_mut_obj_add_sint(call->doc, target, "version", labels[i].targets[t].version);
            yyjson_mut_obj_add_uint(call->doc, target, "weight", labels[i].targets[t].weight);
        }
    }
    return list;
}

static enum rc put_labels(struct api_call *call, yyjson_mut_val *o, struct str name)
{
    struct label *labels;
    size_t count;
    enum rc rc = object_labels(call->txn, call->principal->project, OBJECT_PIPELINE, name,
                               call->arena, &labels, &count, &call->err);
    if (rc == RC_OK)
        yyjson_mut_obj_add_val(call->doc, o, "labels", encode_labels(call, labels, count));
    return rc;
}

/* The newest published version; RC_NOT_FOUND, without an error: none. */
static enum rc get_published(struct api_call *call, struct str name, struct object *out)
{
    enum rc rc = object_get(call->txn, call->principal->project, OBJECT_PIPELINE, name, call->arena,
                            out, &call->err);
    if (rc == RC_NOT_FOUND)
        call->err = (struct err){0};
    return rc;
}

/* What lists and single answers share. */
static enum rc put_row(struct api_call *call, yyjson_mut_val *o, const struct pipeline_row *row,
                       yyjson_val *draft)
{
    struct object published;
    enum rc rc = get_published(call, row->name, &published);
    if (rc != RC_OK && rc != RC_NOT_FOUND)
        return rc;
    api_put_str(call, o, "name", row->name);
    api_put_id(call, o, "id", "pipe", row->id);
    api_put_str(call, o, "description", json_get_text(draft, "description"));
    yyjson_mut_obj_add_uint(call->doc, o, "nodes", yyjson_arr_size(yyjson_obj_get(draft, "nodes")));
    if (rc == RC_OK)
        yyjson_mut_obj_add_sint(call->doc, o, "version", published.version);
    else
        yyjson_mut_obj_add_null(call->doc, o, "version");
    bool same = false;
    if (rc == RC_OK) {
        yyjson_val *spec;
        rc = parse(call, published.spec, &spec);
        if (rc != RC_OK)
            return rc;
        same = yyjson_equals(spec, draft);
    }
    yyjson_mut_obj_add_bool(call->doc, o, "draft_changed", !same);
    yyjson_mut_obj_add_sint(call->doc, o, "revision", row->revision);
    api_put_str(call, o, "author", row->author);
    api_put_time(call, o, "created_at", row->created_ns);
    api_put_time(call, o, "updated_at", row->updated_ns);
    return put_labels(call, o, row->name);
}

static enum rc answer_row(struct api_call *call, const struct pipeline_row *row)
{
    yyjson_val *draft;
    enum rc rc = parse(call, row->draft, &draft);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    rc = put_row(call, call->answer, row, draft);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_obj_add_val(call->doc, call->answer, "definition",
                           yyjson_val_mut_copy(call->doc, draft));
    return pipelines_put_problems(call, call->answer, draft);
}

enum rc api_pipelines_list(struct api_call *call)
{
    struct pipeline_row *rows;
    size_t limit, count;
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = pipeline_table_list(call->txn, call->principal->project, api_query(call, "cursor"),
                                 api_query(call, "q"), limit, call->arena, &rows, &count,
                                 &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count && i < limit; i++) {
        yyjson_val *draft;
        rc = parse(call, rows[i].draft, &draft);
        if (rc == RC_OK)
            rc = put_row(call, yyjson_mut_arr_add_obj(call->doc, items), &rows[i], draft);
        if (rc != RC_OK)
            return rc;
    }
    api_list_end(call, count > limit ? rows[limit - 1].name : STR_EMPTY);
    return RC_OK;
}

enum rc api_pipelines_get(struct api_call *call)
{
    struct pipeline_row row;
    enum rc rc = get_row(call, &row);
    return rc == RC_OK ? answer_row(call, &row) : rc;
}

enum rc api_pipelines_nodes(struct api_call *call)
{
    call->content_type = STR("application/json");
    call->raw_answer = nodes_json();
    return RC_OK;
}

enum rc api_pipelines_presets(struct api_call *call)
{
    call->content_type = STR("application/json");
    return presets_json(pipelines_services(call->services->pipelines), call->arena,
                        &call->raw_answer, &call->err);
}

enum rc api_pipelines_schema(struct api_call *call)
{
    call->content_type = STR("application/schema+json");
    call->raw_answer = nodes_definition_schema();
    return RC_OK;
}

/* ---- changing ---- */

enum rc pipelines_check_name(struct api_call *call, struct str name)
{
    bool good = name.n > 0 && name.n <= LIMIT_NAME_BYTES;
    for (size_t i = 0; good && i < name.n; i++) {
        char c = name.p[i], lower = (char)(c | 0x20);
        good = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
    }
    return good ? RC_OK
                : err_set_field(&call->err, ERR_BAD_FIELD, "name",
                                "A name is 1 to %d letters, digits, '-', '_' and '.'.",
                                LIMIT_NAME_BYTES);
}

static enum rc write_definition(struct api_call *call, yyjson_val *definition, struct str *out)
{
    if (!yyjson_is_obj(definition))
        return err_set_field(&call->err, ERR_BAD_FIELD, "definition",
                             "The definition must be an object.");
    *out = json_write(definition, call->arena);
    return out->p && out->n <= DOCUMENT_BYTES_MAX ? RC_OK : full(call);
}

/* Definitions are long and drafts are saved often: the audit log keeps their digests, and the
 * versions what was published. */
enum rc pipelines_audit(struct api_call *call, const char *action, struct str name,
                        struct str before, struct str after)
{
    struct str texts[2] = {before, after};
    struct actor actor = api_actor(call);
    for (int i = 0; i < 2; i++) {
        uint8_t digest[SHA256_BYTES];
        char hex[SHA256_HEX_BYTES];
        if (!texts[i].n)
            continue;
        hash_sha256(texts[i].p, texts[i].n, digest);
        hex_encode(digest, sizeof(digest), hex);
        texts[i] = arena_printf(call->arena, "{\"sha256\":\"%s\"}", hex);
    }
    return audit_write(call->txn, &actor, call->principal->project, action, STR("pipeline"), name,
                       texts[0], texts[1], &call->err);
}

enum rc api_pipelines_create(struct api_call *call)
{
    enum rc rc = api_need_body(call);
    if (rc != RC_OK)
        return rc;
    yyjson_val *definition = yyjson_obj_get(call->body, "definition");
    struct pipeline_row row = {
        .project = call->principal->project,
        .id = id_new(),
        .name = json_get_text(call->body, "name"),
        .draft = str_from(new_draft),
        .author = call->principal->name,
        .revision = 1,
        .created_ns = db_txn_now_ns(call->txn),
        .updated_ns = db_txn_now_ns(call->txn),
    };
    rc = pipelines_check_name(call, row.name);
    if (rc == RC_OK && definition)
        rc = write_definition(call, definition, &row.draft);
    if (rc == RC_OK)
        rc = pipeline_table_insert(call->txn, &row, &call->err);
    if (rc == RC_OK)
        rc = pipelines_audit(call, "create", row.name, STR_EMPTY, row.draft);
    call->status = 201;
    return rc == RC_OK ? answer_row(call, &row) : rc;
}

/* Saves `draft` as the next revision, unless another came between. */
enum rc pipelines_save_draft(struct api_call *call, struct pipeline_row *row, struct str draft)
{
    int64_t expected = json_get_int(call->body, "revision", 0);
    if (expected && expected != row->revision)
        return err_set_field(&call->err, ERR_CONFLICT, "revision",
                             "The draft was changed by %.*s in the meantime (revision %lld).",
                             STR_ARG(row->author), (long long)row->revision);
    struct str before = row->draft;
    row->draft = draft;
    row->author = call->principal->name;
    row->revision++;
    row->updated_ns = db_txn_now_ns(call->txn);
    enum rc rc = pipeline_table_update(call->txn, row, &call->err);
    return rc == RC_OK ? pipelines_audit(call, "update_draft", row->name, before, draft) : rc;
}

enum rc api_pipelines_put_draft(struct api_call *call)
{
    struct pipeline_row row;
    struct str draft;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = get_row(call, &row);
    if (rc == RC_OK)
        rc = write_definition(call, yyjson_obj_get(call->body, "definition"), &draft);
    if (rc == RC_OK)
        rc = pipelines_save_draft(call, &row, draft);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_sint(call->doc, call->answer, "revision", row.revision);
    api_put_time(call, call->answer, "updated_at", row.updated_ns);
    return pipelines_put_problems(call, call->answer, yyjson_obj_get(call->body, "definition"));
}

/* {"description": …}: of the draft. */
enum rc api_pipelines_patch(struct api_call *call)
{
    struct pipeline_row row;
    yyjson_val *old;
    struct str draft;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = get_row(call, &row);
    if (rc == RC_OK)
        rc = parse(call, row.draft, &old);
    if (rc != RC_OK)
        return rc;
    yyjson_val *description = yyjson_obj_get(call->body, "description");
    if (!yyjson_is_str(description))
        return err_set_field(&call->err, ERR_MISSING_FIELD, "description",
                             "Only the description can be changed here; the definition by PUT on "
                             "its draft.");
    yyjson_mut_val *changed = yyjson_val_mut_copy(call->doc, old);
    yyjson_mut_obj_put(changed, yyjson_mut_str(call->doc, "description"),
                       yyjson_val_mut_copy(call->doc, description));
    rc = json_write_tree(changed, call->arena, &draft, &call->err);
    if (rc == RC_OK)
        rc = pipelines_save_draft(call, &row, draft);
    return rc == RC_OK ? answer_row(call, &row) : rc;
}

enum rc api_pipelines_delete(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct pipeline_row row;
    struct object published;
    enum rc rc = get_row(call, &row);
    if (rc != RC_OK)
        return rc;
    rc = get_published(call, row.name, &published);
    if (rc == RC_OK)
        rc = object_delete(call->txn, &actor, row.project, OBJECT_PIPELINE, row.name, false,
                           call->arena, &call->err);
    if (rc == RC_OK || rc == RC_NOT_FOUND)
        rc = pipeline_table_delete(call->txn, row.project, row.name, &call->err);
    if (rc == RC_OK)
        rc = conversation_table_delete_pipeline(call->txn, row.project, row.name, &call->err);
    if (rc == RC_OK)
        rc = api_triggers_delete_of(call, row.name);
    return rc == RC_OK ? pipelines_audit(call, "delete_draft", row.name, row.draft, STR_EMPTY) : rc;
}

/* ---- checking and publishing ---- */

/* {"definition": …}, or nothing: the draft. */
enum rc api_pipelines_check(struct api_call *call)
{
    struct pipeline_row row;
    yyjson_val *definition = yyjson_obj_get(call->body, "definition");
    enum rc rc = get_row(call, &row);
    if (rc == RC_OK && !definition)
        rc = parse(call, row.draft, &definition);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    return pipelines_put_problems(call, call->answer, definition);
}

static enum rc set_labels(struct api_call *call, struct str name, int64_t version)
{
    struct actor actor = api_actor(call);
    size_t i, n;
    yyjson_val *label;
    const struct label_target target = {version, 1};
    bool may = (call->principal->permissions & PERMISSION_BIT(SETTING_WRITE)) != 0;
    yyjson_arr_foreach(yyjson_obj_get(call->body, "labels"), i, n, label)
    {
        enum rc rc = object_label_set(call->txn, &actor, call->principal->project, OBJECT_PIPELINE,
                                      name, json_text(label), &target, 1, may, &call->err);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

/* The draft becomes a version: {"message": …, "labels": ["production"], "revision": …}. */
enum rc api_pipelines_publish(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct pipeline_row row;
    yyjson_val *definition;
    struct object object;
    enum rc rc = get_row(call, &row);
    if (rc == RC_OK)
        rc = parse(call, row.draft, &definition);
    if (rc != RC_OK)
        return rc;
    int64_t expected = json_get_int(call->body, "revision", row.revision);
    if (expected != row.revision)
        return err_set_field(&call->err, ERR_CONFLICT, "revision",
                             "The draft was changed by %.*s in the meantime.", STR_ARG(row.author));
    struct findings *findings = check_definition(call, NULL, definition);
    if (!findings)
        return full(call);
    rc = findings_error(findings, &call->err);
    const struct object_change change = {.project = row.project,
                                         .kind = OBJECT_PIPELINE,
                                         .name = row.name,
                                         .spec = definition,
                                         .message = json_get_text(call->body, "message")};
    if (rc == RC_OK)
        rc = object_put(call->txn, &actor, &change, call->arena, &object, &call->err);
    if (rc == RC_OK)
        rc = set_labels(call, row.name, object.version);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_sint(call->doc, call->answer, "version", object.version);
    return put_labels(call, call->answer, row.name);
}

/* ---- versions ---- */

static yyjson_mut_val *encode_version(struct api_call *call, const struct object *version)
{
    char hex[SHA256_HEX_BYTES];
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    hex_encode(version->hash, sizeof version->hash, hex);
    yyjson_mut_obj_add_sint(call->doc, o, "version", version->version);
    api_put_str(call, o, "hash", str_from(hex));
    api_put_str(call, o, "author", version->author);
    api_put_str(call, o, "message", version->message);
    api_put_time(call, o, "created_at", version->created_ns);
    return o;
}

enum rc api_pipelines_versions(struct api_call *call)
{
    struct object *versions;
    size_t count;
    enum rc rc = api_versions_page(call, OBJECT_PIPELINE, &versions, &count);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        yyjson_mut_arr_append(items, encode_version(call, &versions[i]));
    api_versions_end(call, versions, count);
    return RC_OK;
}

/* A version by number, label, "latest" or "draft". */
enum rc pipelines_find_version(struct api_call *call, struct str which, struct object *out)
{
    struct id project = call->principal->project;
    struct str name = call->params[0];
    int64_t version;
    if (str_eq(which, STR("latest")))
        return object_get(call->txn, project, OBJECT_PIPELINE, name, call->arena, out, &call->err);
    if (str_eq(which, STR("draft"))) {
        struct pipeline_row row;
        enum rc rc = get_row(call, &row);
        if (rc == RC_OK)
            *out = (struct object){.project = project,
                                   .kind = OBJECT_PIPELINE,
                                   .name = row.name,
                                   .spec = row.draft,
                                   .author = row.author,
                                   .created_ns = row.updated_ns};
        return rc;
    }
    if (str_to_i64(which, &version) != RC_OK) {
        enum rc rc = object_label_resolve(call->txn, project, OBJECT_PIPELINE, name, which, 0,
                                          &version, &call->err);
        if (rc != RC_OK)
            return rc;
    }
    return object_version_get(call->txn, project, OBJECT_PIPELINE, name, version, call->arena, out,
                              &call->err);
}

enum rc api_pipelines_version_get(struct api_call *call)
{
    struct object version;
    yyjson_val *spec;
    enum rc rc = pipelines_find_version(call, call->params[1], &version);
    if (rc == RC_OK)
        rc = parse(call, version.spec, &spec);
    if (rc != RC_OK)
        return rc;
    call->answer = encode_version(call, &version);
    yyjson_mut_obj_add_val(call->doc, call->answer, "definition",
                           yyjson_val_mut_copy(call->doc, spec));
    return RC_OK;
}

/* ---- difference: of the graph, and member by member ---- */

static yyjson_val *find_by_id(yyjson_val *list, struct str id)
{
    size_t i, n;
    yyjson_val *item;
    yyjson_arr_foreach(list, i, n, item) if (str_eq(json_get_text(item, "id"), id)) return item;
    return NULL;
}

/* Adds the nodes of `list` that are not in `other`; those that are in both and differ, too, with
 * what differs. */
static void put_node_changes(struct api_call *call, yyjson_mut_val *out, yyjson_val *list,
                             yyjson_val *other, const char *only, bool changes)
{
    size_t i, n;
    yyjson_val *node;
    yyjson_arr_foreach(list, i, n, node)
    {
        struct str id = json_get_text(node, "id");
        yyjson_val *twin = find_by_id(other, id);
        if (twin && (!changes || yyjson_equals(node, twin)))
            continue;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, out);
        api_put_str(call, o, "id", id);
        yyjson_mut_obj_add_str(call->doc, o, "change", twin ? "changed" : only);
        if (twin)
            yyjson_mut_obj_add_val(call->doc, o, "fields", json_diff(call->doc, node, twin));
    }
}

/* What the one may reach and the other may not. */
static enum rc put_manifest_changes(struct api_call *call, yyjson_val *specs[2])
{
    yyjson_val *manifests[2];
    for (int i = 0; i < 2; i++) {
        struct findings findings;
        findings_init(&findings, call->arena);
        struct document *document = document_read(specs[i], call->arena, &findings);
        yyjson_mut_val *manifest =
            document ? reach_encode(document, call->doc) : yyjson_mut_obj(call->doc);
        yyjson_doc *frozen = json_freeze(manifest, call->arena);
        if (!frozen)
            return full(call);
        manifests[i] = yyjson_doc_get_root(frozen);
    }
    yyjson_mut_obj_add_val(call->doc, call->answer, "manifest",
                           json_diff(call->doc, manifests[0], manifests[1]));
    return RC_OK;
}

enum rc api_pipelines_diff(struct api_call *call)
{
    struct str from = api_query(call, "from"), to = api_query(call, "to");
    struct object objects[2];
    yyjson_val *specs[2];
    enum rc rc = pipelines_find_version(call, from.n ? from : STR("latest"), &objects[0]);
    if (rc == RC_OK)
        rc = pipelines_find_version(call, to.n ? to : STR("draft"), &objects[1]);
    for (int i = 0; rc == RC_OK && i < 2; i++) {
        rc = parse(call, objects[i].spec, &specs[i]);
        yyjson_mut_val *sorted = rc == RC_OK ? json_sorted(call->doc, specs[i]) : NULL;
        yyjson_doc *frozen = sorted ? json_freeze(sorted, call->arena) : NULL;
        if (rc == RC_OK && !frozen)
            return full(call);
        specs[i] = yyjson_doc_get_root(frozen);
    }
    if (rc != RC_OK)
        return rc;
    yyjson_val *before = yyjson_obj_get(specs[0], "nodes"),
               *after = yyjson_obj_get(specs[1], "nodes");
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_val *nodes = yyjson_mut_obj_add_arr(call->doc, call->answer, "nodes");
    put_node_changes(call, nodes, before, after, "removed", true);
    put_node_changes(call, nodes, after, before, "added", false);
    yyjson_mut_obj_add_val(call->doc, call->answer, "fields",
                           json_diff(call->doc, specs[0], specs[1]));
    return put_manifest_changes(call, specs);
}

/* {"version": 3}, or {"targets": [{"version": 3, "weight": 9}, …]}; no targets: removes it. */
enum rc api_pipelines_put_label(struct api_call *call)
{
    struct actor actor = api_actor(call);
    struct label_target targets[LABEL_TARGETS_MAX];
    size_t count = 0, i, n;
    yyjson_val *target;
    enum rc rc = api_need_body(call);
    if (rc != RC_OK)
        return rc;
    yyjson_val *list = yyjson_obj_get(call->body, "targets");
    if (yyjson_arr_size(list) > LABEL_TARGETS_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "targets",
                             "A label points to at most %d versions.", LABEL_TARGETS_MAX);
    yyjson_arr_foreach(list, i, n, target) targets[count++] =
        (struct label_target){json_get_int(target, "version", 0),
                              (uint32_t)MAX(0, MIN(json_get_int(target, "weight", 1), 1000000))};
    if (!list)
        targets[count++] = (struct label_target){json_get_int(call->body, "version", 0), 1};
    bool may = (call->principal->permissions & PERMISSION_BIT(SETTING_WRITE)) != 0;
    rc = object_label_set(call->txn, &actor, call->principal->project, OBJECT_PIPELINE,
                          call->params[0], call->params[1], targets, count, may, &call->err);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    return put_labels(call, call->answer, call->params[0]);
}
