/* Pipelines as files: export, and import of our own and of other programs' (pipeline/files/file.h).
 * A file is read on a worker, since that may take a while; only what it comes to is written in a
 * transaction. Nothing of it runs. The gallery is files that the program brings along. */
#include "api/pipelines.h"
#include "pipeline/files/file.h"
#include "pipeline/files/gallery.h"
#include "text/json_tree.h"

/* ---- export ---- */

/* ?version=: a number, a label, "latest", "draft" (unless told). */
enum rc api_pipelines_export(struct api_call *call)
{
    struct object version;
    struct pipeline_file file = {.name = call->params[0]};
    struct str which = api_query(call, "version");
    yyjson_doc *doc;
    enum rc rc = pipelines_find_version(call, which.n ? which : STR("draft"), &version);
    if (rc == RC_OK)
        rc = json_read(version.spec, call->arena, &doc, &call->err);
    if (rc != RC_OK)
        return rc;
    file.definition = yyjson_doc_get_root(doc);
    call->content_type = STR("application/yaml");
    return pipeline_file_write(&file, call->arena, &call->raw_answer, &call->err);
}

/* ---- import ---- */

struct importing {
    struct api_call *call;
    struct pipeline_row row;
    bool replace;
};

/* {"NAME THERE": "NAME HERE", "": "every other"} */
static enum rc read_names(struct api_call *call, const char *member, struct import_name *out,
                          size_t *count)
{
    yyjson_val *object = yyjson_obj_get(call->body, member), *key, *value;
    size_t i, n;
    if (yyjson_obj_size(object) > PIPELINE_IMPORT_MAP_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, member, "At most %d names.",
                             PIPELINE_IMPORT_MAP_MAX);
    yyjson_obj_foreach(object, i, n, key, value)
    {
        if (json_text(value).n)
            out[(*count)++] = (struct import_name){json_text(key), json_text(value)};
    }
    return RC_OK;
}

static enum rc write_import(void *arg, struct db_txn *txn, struct err *err)
{
    struct importing *importing = arg;
    struct api_call *call = importing->call;
    struct pipeline_row *row = &importing->row, old;
    struct str draft = row->draft;
    call->txn = txn;
    enum rc rc = importing->replace ? pipeline_table_get(txn, row->project, row->name, call->arena,
                                                         &old, &call->err)
                                    : RC_NOT_FOUND;
    if (rc == RC_OK) {
        *row = old;
        rc = pipelines_save_draft(call, row, draft);
    } else if (rc == RC_NOT_FOUND) {
        call->err = (struct err){0};
        row->created_ns = row->updated_ns = db_txn_now_ns(txn);
        rc = pipeline_table_insert(txn, row, &call->err);
        if (rc == RC_OK)
            rc = pipelines_audit(call, "import", row->name, STR_EMPTY, draft);
    }
    call->txn = NULL;
    *err = call->err;
    return rc;
}

static void put_copy(struct api_call *call, const char *name, yyjson_val *value)
{
    yyjson_mut_val *copy =
        value ? yyjson_val_mut_copy(call->doc, value) : yyjson_mut_arr(call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, name, copy);
}

static enum rc answer_import(struct api_call *call, const struct pipeline_file *file,
                             struct str name)
{
    call->answer = yyjson_mut_obj(call->doc);
    api_put_str(call, call->answer, "name", name);
    yyjson_mut_obj_add_str(call->doc, call->answer, "format",
                           file->format == PIPELINE_FILE_DIFY ? "dify" : "capstan");
    put_copy(call, "definition", file->definition);
    put_copy(call, "nodes", file->nodes);
    put_copy(call, "models", file->models);
    put_copy(call, "collections", file->collections);
    yyjson_mut_val *notes =
        file->notes ? findings_encode(file->notes, call->doc) : yyjson_mut_arr(call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, "notes", notes);
    return pipelines_put_problems(call, call->answer, file->definition);
}

/* The file's text: given, or a template of the gallery. */
static enum rc import_text(struct api_call *call, struct str *out)
{
    struct str name = json_get_text(call->body, "gallery");
    const struct gallery_entry *entry = name.n ? gallery_find(name) : NULL;
    *out = entry ? entry->text : json_get_text(call->body, "text");
    return entry || !name.n ? RC_OK
                            : err_set_field(&call->err, ERR_BAD_FIELD, "gallery",
                                            "The gallery has no template '%.*s'.", STR_ARG(name));
}

/* {"text": the file, or "gallery": a template's name; "name": unless the file's, "dry_run": only
 * tell, "replace": the draft of one that is there, "models" and "collections": {there: here}} */
enum rc api_pipelines_import(struct api_call *call)
{
    struct pipeline_file file;
    struct str text;
    struct import_options *options = ARENA_NEW(call->arena, struct import_options);
    enum rc rc = api_need_body(call);
    if (rc == RC_OK && !options)
        rc = err_set(&call->err, ERR_TOO_LARGE, "The file is too large.");
    if (rc == RC_OK)
        rc = read_names(call, "models", options->models, &options->model_count);
    if (rc == RC_OK)
        rc = read_names(call, "collections", options->collections, &options->collection_count);
    if (rc == RC_OK)
        rc = import_text(call, &text);
    if (rc == RC_OK)
        rc = pipeline_file_read(text, options, call->arena, &file, &call->err);
    if (rc != RC_OK)
        return rc;
    struct importing importing = {
        .call = call,
        .replace = json_get_bool(call->body, "replace", false),
        .row = {.project = call->principal->project,
                .id = id_new(),
                .name = json_get_text(call->body, "name"),
                .draft = json_write(file.definition, call->arena),
                .author = call->principal->name,
                .revision = 1},
    };
    bool dry_run = json_get_bool(call->body, "dry_run", false);
    if (!importing.row.name.n)
        importing.row.name = file.name;
    if (!importing.row.draft.p || importing.row.draft.n > DOCUMENT_BYTES_MAX)
        return err_set(&call->err, ERR_TOO_LARGE, "The definition is too large.");
    if (!dry_run) {
        rc = pipelines_check_name(call, importing.row.name);
        if (rc == RC_OK)
            rc = db_write_wait(call->services->db, write_import, &importing, &call->err);
        call->status = 201;
    }
    return rc == RC_OK ? answer_import(call, &file, importing.row.name) : rc;
}

/* ---- gallery ---- */

static enum rc put_template(struct api_call *call, yyjson_mut_val *items,
                            const struct gallery_entry *entry)
{
    static const char *const members[] = {"title", "summary", "tags", "model"};
    struct pipeline_file file;
    enum rc rc = pipeline_file_read(entry->text, NULL, call->arena, &file, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
    api_put_str(call, o, "name", file.name);
    for (size_t i = 0; i < COUNT_OF(members); i++)
        yyjson_mut_obj_add_val(
            call->doc, o, members[i],
            yyjson_val_mut_copy(call->doc, yyjson_obj_get(file.gallery, members[i])));
    yyjson_val *values[] = {file.samples, file.models, file.collections, file.definition};
    static const char *const names[] = {"samples", "models", "collections", "definition"};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        yyjson_mut_obj_add_val(call->doc, o, names[i], yyjson_val_mut_copy(call->doc, values[i]));
    return RC_OK;
}

enum rc api_pipelines_gallery(struct api_call *call)
{
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < GALLERY_COUNT; i++) {
        enum rc rc = put_template(call, items, &GALLERY[i]);
        if (rc != RC_OK)
            return rc;
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}
