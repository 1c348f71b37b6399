/* See chunk_edit.h. */
#include "knowledge/chunk_edit.h"
#include "text/json_tree.h"

#define GROUP_CHUNKS      100
#define GROUP_ARENA_BYTES (64 * 1024 * 1024)

static enum rc view_row(const struct index_row *row, struct arena *arena, struct chunk_view *out,
                        struct err *err)
{
    yyjson_doc *doc = NULL;
    enum rc rc = row->payload.n ? json_read(row->payload, arena, &doc, err) : RC_OK;
    *out = (struct chunk_view){.id = row->id,
                               .text = row->texts[0],
                               .title = row->texts[1],
                               .disabled = row->disabled,
                               .payload = doc ? yyjson_doc_get_root(doc) : NULL};
    return rc;
}

enum rc chunk_get(struct knowledge *knowledge, const struct collection *collection, struct str id,
                  struct arena *arena, struct chunk_view *out, struct err *err)
{
    struct index *index;
    struct index_row row;
    enum rc rc = knowledge_index_get(knowledge, collection, &index, err);
    if (rc != RC_OK)
        return rc;
    rc = index_get(index, id, arena, &row, err);
    knowledge_index_put(knowledge, index);
    if (rc == RC_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "there is no such chunk in this collection");
    return rc == RC_OK ? view_row(&row, arena, out, err) : rc;
}

enum rc chunk_list(struct knowledge *knowledge, const struct collection *collection,
                   const struct document_row *document, size_t first, size_t limit,
                   struct arena *arena, struct chunk_view **out, size_t *count, struct err *err)
{
    struct index *index;
    *count = 0;
    *out = ARENA_NEW_ARRAY(arena, struct chunk_view, limit + 1);
    if (!*out)
        return err_set(err, ERR_OVERLOADED, "no memory for the list; ask for fewer");
    enum rc rc = knowledge_index_get(knowledge, collection, &index, err);
    if (rc != RC_OK)
        return rc;
    for (size_t i = first; rc == RC_OK && i < (size_t)document->chunks && *count < limit; i++) {
        char id[CHUNK_ID_BYTES_MAX];
        struct index_row row;
        size_t n = chunk_id_format(document->id, i, id);
        rc = index_get(index, str_make(id, n), arena, &row, err);
        if (rc == RC_NOT_FOUND) { /* deleted by hand */
            rc = RC_OK;
            continue;
        }
        if (rc == RC_OK)
            rc = view_row(&row, arena, &(*out)[*count], err);
        *count += rc == RC_OK;
    }
    knowledge_index_put(knowledge, index);
    return rc;
}

/* Marks the payload: a person has changed the text. */
static enum rc mark_edited(struct index_row *row, struct arena *arena, struct err *err)
{
    yyjson_doc *old = NULL;
    enum rc rc = row->payload.n ? json_read(row->payload, arena, &old, err) : RC_OK;
    if (rc != RC_OK)
        return rc;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *payload = !doc  ? NULL
                              : old ? yyjson_val_mut_copy(doc, yyjson_doc_get_root(old))
                                    : yyjson_mut_obj(doc);
    if (!payload)
        return err_set(err, ERR_TOO_LARGE, "the chunk is too large");
    yyjson_mut_obj_remove_key(payload, PAYLOAD_EDITED);
    yyjson_mut_obj_remove_key(payload, PAYLOAD_CONTEXT);
    yyjson_mut_obj_add_true(doc, payload, PAYLOAD_EDITED);
    return json_write_tree(payload, arena, &row->payload, err);
}

static enum rc change_row(struct knowledge *knowledge, const struct collection *collection,
                          struct index_row *row, struct str text, struct arena *arena,
                          struct err *err)
{
    float *vector;
    unsigned dimension;
    if (!text.p)
        return RC_OK;
    row->texts[0] = text;
    enum rc rc =
        knowledge_encode(knowledge, collection, &text, 1, false, arena, &vector, &dimension, err);
    if (rc == RC_OK && vector)
        row->vectors[0] = vector;
    return rc == RC_OK ? mark_edited(row, arena, err) : rc;
}

enum rc chunk_change(struct knowledge *knowledge, const struct collection *collection,
                     struct str id, struct str text, int disabled, struct arena *arena,
                     struct chunk_view *out, struct err *err)
{
    struct index *index;
    struct index_row row;
    if (text.p && str_trim(text).n == 0)
        return err_set_field(err, ERR_BAD_FIELD, "text",
                             "a chunk needs a text; disable it to take it out of the results");
    enum rc rc = knowledge_index_get(knowledge, collection, &index, err);
    if (rc != RC_OK)
        return rc;
    rc = index_get(index, id, arena, &row, err);
    if (rc == RC_NOT_FOUND)
        err_set(err, ERR_NOT_FOUND, "there is no such chunk in this collection");
    if (rc == RC_OK)
        rc = change_row(knowledge, collection, &row, text, arena, err);
    if (rc == RC_OK) {
        row.disabled = disabled < 0 ? row.disabled : disabled > 0;
        rc = index_upsert(index, &row, 1, err);
        knowledge_index_changed(knowledge, index);
    }
    knowledge_index_put(knowledge, index);
    return rc == RC_OK ? view_row(&row, arena, out, err) : rc;
}

/* ---- attributes ---- */

/* Our members of the old payload, with the document's attributes and tags as they are now. */
static enum rc replace_attributes(struct index_row *row, yyjson_val *attributes, yyjson_val *tags,
                                  struct arena *arena, struct err *err)
{
    size_t i, n;
    yyjson_val *key, *value;
    yyjson_doc *old = NULL;
    enum rc rc = row->payload.n ? json_read(row->payload, arena, &old, err) : RC_OK;
    if (rc != RC_OK)
        return rc;
    yyjson_mut_doc *doc = json_tree_new(arena);
    yyjson_mut_val *payload = !doc         ? NULL
                              : attributes ? yyjson_val_mut_copy(doc, attributes)
                                           : yyjson_mut_obj(doc);
    if (!payload)
        return err_set(err, ERR_TOO_LARGE, "the chunk is too large");
    yyjson_obj_foreach(yyjson_doc_get_root(old), i, n, key, value)
    {
        if (yyjson_get_str(key)[0] == '_')
            yyjson_mut_obj_add(payload, yyjson_val_mut_copy(doc, key),
                               yyjson_val_mut_copy(doc, value));
    }
    if (yyjson_arr_size(tags))
        yyjson_mut_obj_add_val(doc, payload, "tags", yyjson_val_mut_copy(doc, tags));
    return json_write_tree(payload, arena, &row->payload, err);
}

static enum rc set_group(struct index *index, const struct document_row *document, size_t first,
                         size_t count, struct arena *arena, struct err *err)
{
    yyjson_doc *attributes = NULL, *tags = NULL;
    struct index_row *rows = ARENA_NEW_ARRAY(arena, struct index_row, count);
    size_t found = 0;
    enum rc rc = rows ? RC_OK : err_set(err, ERR_OVERLOADED, "no memory for the chunks");
    if (rc == RC_OK && document->attributes.n)
        rc = json_read(document->attributes, arena, &attributes, err);
    if (rc == RC_OK && document->tags.n)
        rc = json_read(document->tags, arena, &tags, err);
    for (size_t i = first; rc == RC_OK && i < first + count; i++) {
        char id[CHUNK_ID_BYTES_MAX];
        size_t n = chunk_id_format(document->id, i, id);
        rc = index_get(index, str_make(id, n), arena, &rows[found], err);
        if (rc == RC_NOT_FOUND) {
            rc = RC_OK;
            continue;
        }
        if (rc == RC_OK)
            rc = replace_attributes(&rows[found++], yyjson_doc_get_root(attributes),
                                    yyjson_doc_get_root(tags), arena, err);
    }
    return rc == RC_OK && found ? index_upsert(index, rows, found, err) : rc;
}

enum rc chunks_set_attributes(struct knowledge *knowledge, const struct collection *collection,
                              const struct document_row *document, struct err *err)
{
    struct index *index;
    struct arena arena;
    enum rc rc = knowledge_index_get(knowledge, collection, &index, err);
    if (rc != RC_OK)
        return rc;
    arena_init(&arena, GROUP_ARENA_BYTES);
    for (size_t i = 0; rc == RC_OK && i < (size_t)document->chunks; i += GROUP_CHUNKS) {
        rc = set_group(index, document, i, MIN((size_t)document->chunks - i, (size_t)GROUP_CHUNKS),
                       &arena, err);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    knowledge_index_changed(knowledge, index);
    knowledge_index_put(knowledge, index);
    return rc;
}
