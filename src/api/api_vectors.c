/* /api/collections/{name}/vectors: a collection as a plain vector database, whose rows callers
 * bring with vectors of their own, texts, and a payload to filter by. */
#include "api/api_knowledge.h"
#include "base/limits.h"
#include "knowledge/filter.h"
#include "text/json_tree.h"

#define UPSERT_ROWS_MAX 10000

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "the answer is too large; ask for fewer items");
}

static enum rc get_index(struct api_call *call, struct collection *collection, struct index **index)
{
    enum rc rc = api_find_collection(call, collection);
    return rc == RC_OK
               ? knowledge_index_get(call->services->knowledge, collection, index, &call->err)
               : rc;
}

/* ---- upsert ---- */

static enum rc read_row(struct api_call *call, yyjson_val *json, unsigned dimension,
                        struct index_row *row)
{
    yyjson_val *payload = yyjson_obj_get(json, "payload");
    size_t got;
    row->id = json_get_text(json, "id");
    if (row->id.n == 0 || row->id.n > INDEX_ID_BYTES_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "items",
                             "each item needs an 'id' of at "
                             "most %d bytes",
                             INDEX_ID_BYTES_MAX);
    enum rc rc =
        api_read_vector(call, yyjson_obj_get(json, "vector"), "items", &row->vectors[0], &got);
    if (rc == RC_OK && row->vectors[0] && got != dimension)
        return err_set_field(&call->err, ERR_BAD_FIELD, "items",
                             "the vector of '%.*s' has %zu numbers, the collection's have %u",
                             (int)MIN(row->id.n, (size_t)64), row->id.p, got, dimension);
    row->texts[0] = json_get_text(json, "text");
    row->texts[1] = json_get_text(json, "title");
    row->disabled = json_get_bool(json, "disabled", false);
    if (rc == RC_OK && payload && !yyjson_is_null(payload)) {
        if (!yyjson_is_obj(payload))
            return err_set_field(&call->err, ERR_BAD_FIELD, "items", "a payload is an object");
        row->payload = json_write(payload, call->arena);
        if (!row->payload.p || row->payload.n > INDEX_PAYLOAD_BYTES_MAX)
            return err_set_field(&call->err, ERR_TOO_LARGE, "items",
                                 "a payload has at most %d bytes", INDEX_PAYLOAD_BYTES_MAX);
    }
    return rc;
}

/* Texts without a vector are encoded where the collection has an encoder. */
static enum rc encode_missing(struct api_call *call, const struct collection *collection,
                              struct index_row *rows, size_t count)
{
    struct str *texts = ARENA_NEW_ARRAY(call->arena, struct str, count + 1);
    size_t *which = ARENA_NEW_ARRAY(call->arena, size_t, count + 1), missing = 0;
    unsigned dimension;
    float *vectors;
    if (!texts || !which)
        return full(call);
    for (size_t i = 0; i < count; i++)
        if (!rows[i].vectors[0] && rows[i].texts[0].n) {
            texts[missing] = rows[i].texts[0];
            which[missing++] = i;
        }
    if (missing == 0)
        return RC_OK;
    enum rc rc = knowledge_encode(call->services->knowledge, collection, texts, missing, false,
                                  call->arena, &vectors, &dimension, &call->err);
    for (size_t i = 0; rc == RC_OK && vectors && i < missing; i++)
        rows[which[i]].vectors[0] = vectors + i * dimension;
    return rc;
}

/* {"items": [{"id", "vector", "text", "title", "payload", "disabled"}]}: durable at the answer. */
enum rc api_vectors_upsert(struct api_call *call)
{
    struct collection collection;
    struct index *index;
    yyjson_val *json;
    size_t i, n;
    enum rc rc = api_need_body(call);
    yyjson_val *items = rc == RC_OK ? yyjson_obj_get(call->body, "items") : NULL;
    size_t count = yyjson_arr_size(items);
    if (rc != RC_OK)
        return rc;
    if (count == 0 || count > UPSERT_ROWS_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "items",
                             "'items' is a list of 1 to %d rows", UPSERT_ROWS_MAX);
    struct index_row *rows = ARENA_NEW_ARRAY(call->arena, struct index_row, count);
    if (!rows)
        return full(call);
    if ((rc = get_index(call, &collection, &index)))
        return rc;
    const struct index_config *config = index_config_of(index);
    yyjson_arr_foreach(items, i, n, json) if (rc == RC_OK) rc =
        read_row(call, json, config->vector_count ? config->vectors[0].dimension : 0, &rows[i]);
    if (rc == RC_OK)
        rc = encode_missing(call, &collection, rows, count);
    if (rc == RC_OK)
        rc = index_upsert(index, rows, count, &call->err);
    knowledge_index_changed(call->services->knowledge, index);
    knowledge_index_put(call->services->knowledge, index);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_uint(call->doc, call->answer, "upserted", count);
    return RC_OK;
}

/* ---- delete ---- */

static enum rc delete_ids(struct api_call *call, struct index *index, yyjson_val *ids,
                          size_t *deleted)
{
    size_t i, n, count = yyjson_arr_size(ids);
    yyjson_val *id;
    struct str *texts = ARENA_NEW_ARRAY(call->arena, struct str, count + 1);
    if (!texts)
        return full(call);
    yyjson_arr_foreach(ids, i, n, id) texts[i] = json_text(id);
    return index_delete(index, texts, count, deleted, &call->err);
}

/* {"ids": [...]} or {"filter": …} */
enum rc api_vectors_delete(struct api_call *call)
{
    struct collection collection;
    struct index *index;
    struct str text;
    struct expression *filter;
    size_t deleted = 0;
    enum rc rc = api_need_body(call);
    yyjson_val *ids = rc == RC_OK ? yyjson_obj_get(call->body, "ids") : NULL;
    if (rc == RC_OK)
        rc = filter_read(yyjson_obj_get(call->body, "filter"), "filter", call->arena, &text,
                         &call->err);
    if (rc != RC_OK)
        return rc;
    if (!yyjson_is_arr(ids) && text.n == 0)
        return err_set_field(&call->err, ERR_MISSING_FIELD, "ids", "give 'ids' or a 'filter'");
    if (!ids && (rc = expression_parse(text, call->arena, &filter, &call->err)))
        return rc;
    if ((rc = get_index(call, &collection, &index)))
        return rc;
    rc = ids ? delete_ids(call, index, ids, &deleted)
             : index_delete_where(index, filter, &deleted, &call->err);
    knowledge_index_changed(call->services->knowledge, index);
    knowledge_index_put(call->services->knowledge, index);
    if (rc != RC_OK)
        return rc;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_uint(call->doc, call->answer, "deleted", deleted);
    return RC_OK;
}

/* ---- reading ---- */

static yyjson_mut_val *encode_row(struct api_call *call, const struct index_row *row,
                                  const struct index_config *config, bool with_vector)
{
    yyjson_doc *payload = NULL;
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_str(call, o, "id", row->id);
    api_put_str(call, o, "text", row->texts[0].n ? row->texts[0] : STR(""));
    api_put_str(call, o, "title", row->texts[1].n ? row->texts[1] : STR(""));
    if (row->payload.n && json_read(row->payload, call->arena, &payload, NULL) == RC_OK)
        yyjson_mut_obj_add_val(call->doc, o, "payload",
                               yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(payload)));
    else
        yyjson_mut_obj_add_obj(call->doc, o, "payload");
    yyjson_mut_obj_add_bool(call->doc, o, "disabled", row->disabled);
    if (with_vector && row->vectors[0] && config->vector_count) {
        yyjson_mut_val *vector = yyjson_mut_obj_add_arr(call->doc, o, "vector");
        for (unsigned i = 0; i < config->vectors[0].dimension; i++)
            yyjson_mut_arr_add_real(call->doc, vector, (double)row->vectors[0][i]);
    }
    return o;
}

static bool may_see_row(struct api_call *call, const struct index_row *row)
{
    yyjson_doc *payload = NULL;
    if (call->all_access || row->payload.n == 0)
        return true;
    return json_read(row->payload, call->arena, &payload, NULL) == RC_OK &&
           api_may_see(call, yyjson_obj_get(yyjson_doc_get_root(payload), "tags"));
}

enum rc api_vectors_get(struct api_call *call)
{
    struct collection collection;
    struct index *index;
    struct index_row row;
    enum rc rc = get_index(call, &collection, &index);
    if (rc != RC_OK)
        return rc;
    rc = index_get(index, call->params[1], call->arena, &row, &call->err);
    if (rc == RC_NOT_FOUND || (rc == RC_OK && !may_see_row(call, &row)))
        rc = err_set(&call->err, ERR_NOT_FOUND, "there is no such row");
    if (rc == RC_OK)
        call->answer = encode_row(call, &row, index_config_of(index), true);
    knowledge_index_put(call->services->knowledge, index);
    return rc;
}

/* {"filter", "limit", "cursor", "vectors": false} */
enum rc api_vectors_scroll(struct api_call *call)
{
    struct collection collection;
    struct index *index;
    struct index_row *rows;
    struct expression *filter = NULL;
    struct str text;
    uint64_t cursor = 0;
    size_t count = 0;
    char next[24];
    int64_t limit = json_get_int(call->body, "limit", 50);
    struct str at = json_get_text(call->body, "cursor");
    enum rc rc =
        filter_read(yyjson_obj_get(call->body, "filter"), "filter", call->arena, &text, &call->err);
    if (rc == RC_OK && text.n)
        rc = expression_parse(text, call->arena, &filter, &call->err);
    if (rc == RC_OK && (limit < 1 || limit > LIMIT_LIST_ITEMS))
        rc = err_set_field(&call->err, ERR_BAD_FIELD, "limit", "'limit' must be 1 to %d",
                           LIMIT_LIST_ITEMS);
    if (rc == RC_OK && at.n && str_to_u64(at, &cursor) != RC_OK)
        rc = err_set_field(&call->err, ERR_BAD_FIELD, "cursor", "this is no cursor of such a list");
    if (rc == RC_OK)
        rc = get_index(call, &collection, &index);
    if (rc != RC_OK)
        return rc;
    rc =
        index_scroll(index, filter, &cursor, (size_t)limit, call->arena, &rows, &count, &call->err);
    yyjson_mut_val *items = api_list_begin(call);
    bool vectors = json_get_bool(call->body, "vectors", false);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        if (may_see_row(call, &rows[i]) &&
            !yyjson_mut_arr_append(items,
                                   encode_row(call, &rows[i], index_config_of(index), vectors)))
            rc = full(call);
    knowledge_index_put(call->services->knowledge, index);
    int n = snprintf(next, sizeof(next), "%llu", (unsigned long long)cursor);
    api_list_end(call, cursor ? str_make(next, (size_t)n) : STR_EMPTY);
    return rc;
}

/* Values of an attribute, most frequent first: ?by=author&filter=year > 2020 */
enum rc api_vectors_facets(struct api_call *call)
{
    struct collection collection;
    struct index *index;
    struct index_facet *facets;
    struct expression *filter = NULL;
    struct str by = api_query(call, "by"), text = api_query(call, "filter");
    size_t limit, count = 0;
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK && by.n == 0)
        rc = err_set_field(&call->err, ERR_MISSING_FIELD, "by", "say which attribute to count by");
    if (rc == RC_OK && text.n)
        rc = expression_parse(text, call->arena, &filter, &call->err);
    if (rc == RC_OK)
        rc = get_index(call, &collection, &index);
    if (rc != RC_OK)
        return rc;
    rc = index_facets(index, filter, by, limit, call->arena, &facets, &count, &call->err);
    knowledge_index_put(call->services->knowledge, index);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_str(call, o, "value", facets[i].value);
        yyjson_mut_obj_add_uint(call->doc, o, "count", facets[i].count);
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}
