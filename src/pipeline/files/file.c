/* Reading and writing pipelines as files. See file.h. */
#include "pipeline/files/file.h"
#include "base/limits.h"
#include "pipeline/files/dify.h"
#include "text/json_tree.h"
#include "text/yaml.h"

#define KIND "capstan-pipeline"

struct str pipeline_file_name(struct str text, struct arena *arena)
{
    size_t n = 0;
    char *out = arena_alloc(arena, LIMIT_NAME_BYTES);
    for (size_t i = 0; out && i < text.n && n < LIMIT_NAME_BYTES; i++) {
        char c = text.p[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 0x20);
        bool keeps = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
        if (keeps)
            out[n++] = c;
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    return str_make(out, n);
}

static yyjson_val *get_list(yyjson_val *root, const char *name)
{
    yyjson_val *list = yyjson_obj_get(root, name);
    return yyjson_is_arr(list) ? list : NULL;
}

static enum rc read_own(yyjson_val *root, struct arena *arena, struct pipeline_file *out,
                        struct err *err)
{
    static const char *const known[] = {"kind",    "schema",     "name",   "definition",
                                        "samples", "recordings", "gallery"};
    int64_t schema = json_get_int(root, "schema", 0);
    size_t i, n, k;
    yyjson_val *key, *value;
    if (schema != PIPELINE_FILE_SCHEMA)
        return err_set_field(err, ERR_UNSUPPORTED, "schema",
                             "the file has schema %lld; this program reads schema %d",
                             (long long)schema, PIPELINE_FILE_SCHEMA);
    yyjson_obj_foreach(root, i, n, key, value)
    {
        for (k = 0; k < COUNT_OF(known) && !yyjson_equals_str(key, known[k]); k++)
            ;
        if (k == COUNT_OF(known))
            return err_set_field(err, ERR_BAD_FIELD, yyjson_get_str(key),
                                 "this member of the file is not known here");
    }
    *out = (struct pipeline_file){
        .name = pipeline_file_name(json_get_text(root, "name"), arena),
        .definition = yyjson_obj_get(root, "definition"),
        .samples = get_list(root, "samples"),
        .recordings = get_list(root, "recordings"),
        .gallery = yyjson_obj_get(root, "gallery"),
    };
    return yyjson_is_obj(out->definition)
               ? RC_OK
               : err_set_field(err, ERR_MISSING_FIELD, "definition",
                               "the file has no definition of a pipeline");
}

/* ---- names of another installation ---- */

struct str import_name_find(const struct import_name *names, size_t count, struct str name)
{
    struct str otherwise = name;
    for (size_t i = 0; i < count; i++) {
        if (str_eq(names[i].from, name))
            return names[i].to;
        if (!names[i].from.n)
            otherwise = names[i].to;
    }
    return otherwise;
}

struct naming {
    yyjson_mut_doc *doc;
    yyjson_mut_val *models, *collections;
    const struct import_options *options;
};

/* Puts the name that `object` has in `member` into the list, and the one that it has here instead.
 */
static void replace_name(struct naming *naming, yyjson_mut_val *object, const char *member,
                         bool model)
{
    const struct import_options *options = naming->options;
    yyjson_mut_val *value = yyjson_mut_obj_get(object, member), *item;
    yyjson_mut_val *list = model ? naming->models : naming->collections;
    size_t i, n;
    bool known = false;
    struct str name = {yyjson_mut_get_str(value), yyjson_mut_get_len(value)};
    if (!name.n)
        return;
    struct str here = model
                          ? import_name_find(options->models, options->model_count, name)
                          : import_name_find(options->collections, options->collection_count, name);
    yyjson_mut_arr_foreach(list, i, n, item) known =
        known || yyjson_mut_equals_strn(item, name.p, name.n);
    if (!known)
        yyjson_mut_arr_append(list, json_new_text(naming->doc, name));
    yyjson_mut_obj_put(object, yyjson_mut_str(naming->doc, member),
                       json_new_text(naming->doc, here));
}

/* Lists the models and collections that the definition names, and renames them. */
static enum rc replace_names(struct pipeline_file *file, const struct import_options *options,
                             struct arena *arena, struct err *err)
{
    yyjson_mut_doc *doc = json_tree_new(arena);
    struct naming naming = {doc, yyjson_mut_arr(doc), yyjson_mut_arr(doc), options};
    yyjson_mut_val *root = yyjson_val_mut_copy(doc, file->definition), *node, *item;
    size_t i, n, k, m;
    yyjson_mut_arr_foreach(yyjson_mut_obj_get(root, "nodes"), i, n, node)
    {
        yyjson_mut_val *config = yyjson_mut_obj_get(node, "config");
        replace_name(&naming, config, "model", true);
        yyjson_mut_arr_foreach(yyjson_mut_obj_get(config, "collections"), k, m, item)
            replace_name(&naming, item, "name", false);
    }
    yyjson_doc *docs[] = {json_freeze(root, arena), json_freeze(naming.models, arena),
                          json_freeze(naming.collections, arena)};
    if (!docs[0] || !docs[1] || !docs[2])
        return err_set(err, ERR_TOO_LARGE, "the file is too large");
    file->definition = yyjson_doc_get_root(docs[0]);
    file->models = yyjson_doc_get_root(docs[1]);
    file->collections = yyjson_doc_get_root(docs[2]);
    return RC_OK;
}

enum rc pipeline_file_read(struct str text, const struct import_options *options,
                           struct arena *arena, struct pipeline_file *out, struct err *err)
{
    static const struct import_options none;
    yyjson_doc *doc;
    enum rc rc = yaml_read(text, arena, NULL, &doc, err);
    if (rc != RC_OK)
        return rc;
    yyjson_val *root = yyjson_doc_get_root(doc);
    *out = (struct pipeline_file){0};
    options = options ? options : &none;
    if (str_eq(json_get_text(root, "kind"), STR(KIND))) {
        rc = read_own(root, arena, out, err);
        return rc == RC_OK ? replace_names(out, options, arena, err) : rc;
    }
    if (get_list(root, "nodes") && get_list(root, "edges")) { /* a bare definition */
        out->definition = root;
        return replace_names(out, options, arena, err);
    }
    if (dify_is_file(root))
        return dify_read(root, options, arena, out, err);
    return err_set_field(err, ERR_BAD_FIELD, "kind",
                         "this is neither a pipeline's file (kind: " KIND
                         ") nor an app that Dify has exported");
}

static void put(yyjson_mut_doc *doc, yyjson_mut_val *root, const char *name, yyjson_val *value)
{
    if (value)
        yyjson_mut_obj_add_val(doc, root, name, yyjson_val_mut_copy(doc, value));
}

enum rc pipeline_file_write(const struct pipeline_file *file, struct arena *arena, struct str *out,
                            struct err *err)
{
    struct buf buf;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, root, "kind", KIND);
    yyjson_mut_obj_add_int(doc, root, "schema", PIPELINE_FILE_SCHEMA);
    json_set_text(doc, root, "name", file->name);
    put(doc, root, "gallery", file->gallery);
    put(doc, root, "definition", file->definition);
    put(doc, root, "samples", file->samples);
    put(doc, root, "recordings", file->recordings);
    yyjson_doc *frozen = root ? json_freeze(root, arena) : NULL;
    if (!frozen)
        return err_set(err, ERR_TOO_LARGE, "the pipeline is too large for a file");
    buf_init(&buf, PIPELINE_FILE_BYTES_MAX);
    enum rc rc = yaml_write(yyjson_doc_get_root(frozen), &buf);
    *out = rc == RC_OK ? arena_copy(arena, buf_str(&buf)) : STR_EMPTY;
    buf_fini(&buf);
    return out->p ? RC_OK : err_set(err, ERR_TOO_LARGE, "the pipeline is too large for a file");
}
