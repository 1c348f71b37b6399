/* See index_manifest.h. Numbers above 2^53 do not occur: rows and files are counted from 1. */
#include "vector/index_manifest.h"
#include "store/segment.h"
#include "text/json_tree.h"
#include "vector/words_analyze.h"
#include <math.h>

#define MANIFEST_KIND      SEGMENT_KIND('V', 'I', 'D', 'X')
#define MANIFEST_VERSION   1
#define MANIFEST_BYTES_MAX (4u * 1024 * 1024)
#define SEGMENTS_MAX       1024

static const char *const metric_names[] = {"cosine", "dot", "l2"};

/* ---- the configuration ---- */

static enum rc check_names(const struct str *names, size_t count, const char *field,
                           struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (names[i].n > 64)
            return err_set_field(err, ERR_BAD_FIELD, field, "a name has at most 64 bytes");
        for (size_t j = 0; j < i; j++)
            if (str_eq(names[i], names[j]))
                return err_set_field(err, ERR_BAD_FIELD, field, "\"%.*s\" is there twice",
                                     STR_ARG(names[i]));
    }
    return RC_OK;
}

static bool is_weight(double value) { return isfinite(value) && value >= 0 && value <= 1000; }

enum rc index_config_check(const struct index_config *config, struct err *err)
{
    struct str names[MAX(INDEX_VECTORS_MAX, INDEX_TEXTS_MAX)];
    if (config->vector_count > INDEX_VECTORS_MAX || config->text_count > INDEX_TEXTS_MAX ||
        config->vector_count + config->text_count == 0)
        return err_set_field(err, ERR_BAD_FIELD, "fields",
                             "an index has 1 to %d vectors or 1 to %d texts, or both",
                             INDEX_VECTORS_MAX, INDEX_TEXTS_MAX);
    for (size_t v = 0; v < config->vector_count; v++) {
        const struct index_vector_field *field = &config->vectors[v];
        if (field->dimension == 0 || field->dimension > VECTOR_DIMENSION_MAX ||
            (unsigned)field->metric > METRIC_L2)
            return err_set_field(err, ERR_BAD_FIELD, "dimension", "must be 1 to %d",
                                 VECTOR_DIMENSION_MAX);
        names[v] = field->name;
    }
    enum rc rc = check_names(names, config->vector_count, "vectors", err);
    for (size_t t = 0; rc == RC_OK && t < config->text_count; t++) {
        if (!is_weight(config->texts[t].weight))
            return err_set_field(err, ERR_BAD_FIELD, "weight", "must be 0 to 1000");
        names[t] = config->texts[t].name;
    }
    if (rc == RC_OK)
        rc = check_names(names, config->text_count, "texts", err);
    if (rc != RC_OK)
        return rc;
    if (!is_weight(config->k1) || !(config->b >= 0 && config->b <= 1))
        return err_set_field(err, ERR_BAD_FIELD, "b", "k1 is 0 or more, b is 0 to 1");
    struct analyzer *analyzer;
    rc = analyzer_new(config->language, &analyzer, err);
    if (rc == RC_OK)
        analyzer_free(analyzer);
    return rc;
}

bool index_config_same(const struct index_config *a, const struct index_config *b)
{
    struct str english = STR("english");
    if (a->vector_count != b->vector_count || a->text_count != b->text_count ||
        !str_eq(a->language.n ? a->language : english, b->language.n ? b->language : english))
        return false;
    for (size_t v = 0; v < a->vector_count; v++)
        if (!str_eq(a->vectors[v].name, b->vectors[v].name) ||
            a->vectors[v].dimension != b->vectors[v].dimension ||
            a->vectors[v].metric != b->vectors[v].metric)
            return false;
    for (size_t t = 0; t < a->text_count; t++)
        if (!str_eq(a->texts[t].name, b->texts[t].name))
            return false;
    return true;
}

enum rc index_config_copy(const struct index_config *config, struct arena *arena,
                          struct index_config *out)
{
    *out = *config;
    out->language = arena_copy(arena, config->language.n ? config->language : STR("english"));
    out->k1 = config->k1 > 0 ? config->k1 : INDEX_K1_DEFAULT;
    out->b = config->b > 0 ? config->b : INDEX_B_DEFAULT;
    bool good = out->language.p != NULL;
    for (size_t v = 0; v < config->vector_count; v++)
        good &= (out->vectors[v].name = arena_copy(arena, config->vectors[v].name)).p != NULL;
    for (size_t t = 0; t < config->text_count; t++)
        good &= (out->texts[t].name = arena_copy(arena, config->texts[t].name)).p != NULL;
    return good ? RC_OK : RC_LIMIT;
}

/* ---- to JSON ---- */

static yyjson_mut_val *write_config(yyjson_mut_doc *doc, const struct index_config *config)
{
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_val *vectors = yyjson_mut_arr(doc), *texts = yyjson_mut_arr(doc);
    for (size_t v = 0; v < config->vector_count; v++) {
        const struct index_vector_field *field = &config->vectors[v];
        yyjson_mut_val *item = yyjson_mut_obj(doc);
        json_set_text(doc, item, "name", field->name);
        yyjson_mut_obj_add_uint(doc, item, "dimension", field->dimension);
        yyjson_mut_obj_add_str(doc, item, "metric", metric_names[field->metric]);
        yyjson_mut_arr_append(vectors, item);
    }
    for (size_t t = 0; t < config->text_count; t++) {
        yyjson_mut_val *item = yyjson_mut_obj(doc);
        json_set_text(doc, item, "name", config->texts[t].name);
        yyjson_mut_obj_add_real(doc, item, "weight", config->texts[t].weight);
        yyjson_mut_arr_append(texts, item);
    }
    yyjson_mut_obj_add_val(doc, root, "vectors", vectors);
    yyjson_mut_obj_add_val(doc, root, "texts", texts);
    json_set_text(doc, root, "language", config->language);
    yyjson_mut_obj_add_real(doc, root, "k1", config->k1);
    yyjson_mut_obj_add_real(doc, root, "b", config->b);
    return root;
}

enum rc index_manifest_store(struct file_system *fs, const char *folder,
                             const struct index_manifest *m, struct err *err)
{
    struct arena arena;
    struct str content;
    arena_init(&arena, MANIFEST_BYTES_MAX);
    yyjson_mut_doc *doc = json_tree_new(&arena);
    yyjson_mut_val *root = doc ? write_config(doc, &m->config) : NULL;
    yyjson_mut_val *segments = doc ? yyjson_mut_arr(doc) : NULL;
    for (size_t i = 0; root && i < m->segment_count; i++) {
        yyjson_mut_val *item = yyjson_mut_obj(doc);
        yyjson_mut_obj_add_uint(doc, item, "id", m->segments[i].id);
        yyjson_mut_obj_add_uint(doc, item, "dead", m->segments[i].dead);
        yyjson_mut_arr_append(segments, item);
    }
    if (root) {
        yyjson_mut_obj_add_uint(doc, root, "next_row", m->next_row);
        yyjson_mut_obj_add_uint(doc, root, "next_file", m->next_file);
        yyjson_mut_obj_add_uint(doc, root, "watermark", m->watermark);
        yyjson_mut_obj_add_val(doc, root, "segments", segments);
    }
    enum rc rc = json_write_tree(root, &arena, &content, err);
    if (rc == RC_OK)
        rc = manifest_store(fs, folder, "manifest", MANIFEST_KIND, MANIFEST_VERSION, content, err);
    arena_fini(&arena);
    return rc;
}

/* ---- from JSON ---- */

static bool read_config(yyjson_val *root, struct index_config *config)
{
    size_t i, n;
    yyjson_val *item, *vectors = yyjson_obj_get(root, "vectors");
    yyjson_val *texts = yyjson_obj_get(root, "texts");
    if (yyjson_arr_size(vectors) > INDEX_VECTORS_MAX || yyjson_arr_size(texts) > INDEX_TEXTS_MAX)
        return false;
    yyjson_arr_foreach(vectors, i, n, item)
    {
        struct index_vector_field *field = &config->vectors[config->vector_count++];
        size_t metric = 0;
        while (metric < COUNT_OF(metric_names) &&
               !str_eq(json_get_text(item, "metric"), str_from(metric_names[metric])))
            metric++;
        field->name = json_get_text(item, "name");
        field->dimension = (unsigned)json_get_int(item, "dimension", 0);
        field->metric = (enum vector_metric)metric;
    }
    yyjson_arr_foreach(texts, i, n, item)
    {
        config->texts[config->text_count++] = (struct index_text_field){
            json_get_text(item, "name"), json_get_double(item, "weight", 1)};
    }
    config->language = json_get_text(root, "language");
    config->k1 = json_get_double(root, "k1", 0);
    config->b = json_get_double(root, "b", 0);
    return index_config_check(config, NULL) == RC_OK;
}

static enum rc read_manifest(yyjson_val *root, struct arena *arena, struct index_manifest *out)
{
    yyjson_val *segments = yyjson_obj_get(root, "segments"), *item;
    size_t i, n;
    if (!read_config(root, &out->config) || yyjson_arr_size(segments) > SEGMENTS_MAX)
        return RC_CORRUPT;
    out->next_row = (uint64_t)json_get_int(root, "next_row", 0);
    out->next_file = (uint64_t)json_get_int(root, "next_file", 0);
    out->watermark = (uint64_t)json_get_int(root, "watermark", 0);
    out->segments =
        ARENA_NEW_ARRAY(arena, struct index_manifest_segment, yyjson_arr_size(segments) + 1);
    if (!out->segments)
        return RC_LIMIT;
    yyjson_arr_foreach(segments, i, n, item)
    {
        out->segments[out->segment_count++] = (struct index_manifest_segment){
            (uint64_t)json_get_int(item, "id", 0), (uint64_t)json_get_int(item, "dead", 0)};
    }
    return out->next_row && out->next_file ? RC_OK : RC_CORRUPT;
}

enum rc index_manifest_load(struct file_system *fs, const char *folder, struct arena *arena,
                            struct index_manifest *out, struct err *err)
{
    struct buf content;
    yyjson_doc *doc;
    *out = (struct index_manifest){0};
    buf_init(&content, MANIFEST_BYTES_MAX);
    enum rc rc =
        manifest_load(fs, folder, "manifest", MANIFEST_KIND, MANIFEST_VERSION, &content, err);
    struct str copy = rc == RC_OK ? arena_copy(arena, buf_str(&content)) : STR_EMPTY;
    buf_fini(&content);
    if (rc != RC_OK)
        return rc;
    if (!copy.p || json_read(copy, arena, &doc, NULL) != RC_OK)
        rc = RC_CORRUPT;
    if (rc == RC_OK)
        rc = read_manifest(yyjson_doc_get_root(doc), arena, out);
    if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "%s: the index's manifest is damaged", folder);
    return rc;
}
