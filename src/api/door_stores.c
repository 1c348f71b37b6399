/* /v1/vector_stores: collections under OpenAI's names. A store's id is its collection's ("vs_" for
 * "coll_"), so each collection is also a vector store and the other way round.
 * https://platform.openai.com/docs/api-reference/vector-stores */
#include "api/door_stores.h"
#include "base/clock.h"
#include "knowledge/filter.h"
#include "text/json_tree.h"
#include <ctype.h>
#include <math.h>

#define STORES_LIMIT_MAX   100
#define EXPIRES_DAYS_MAX   365
#define METADATA_MAX       16
#define SEARCH_RESULTS_MAX 50
#define SEARCH_QUERIES_MAX 10
#define STATIC_TOKENS_MIN  100
#define STATIC_TOKENS_MAX  4096

enum rc door_find_store(struct api_call *call, struct collection *out)
{
    struct db_txn *txn = call->txn;
    struct id id;
    if (id_parse(call->params[0], "vs", &id) != RC_OK)
        return err_set(&call->err, ERR_NOT_FOUND, "No vector store found with id '%.*s'.",
                       (int)MIN(call->params[0].n, (size_t)64), call->params[0].p);
    enum rc rc = txn ? RC_OK : db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = collection_get(txn, call->principal->project, id, call->arena, out, &call->err);
    if (!call->txn)
        db_read_end(txn);
    return rc;
}

/* ---- shapes ---- */

void door_put_counts(struct api_call *call, yyjson_mut_val *o, const struct document_counts *counts)
{
    const int64_t *s = counts->states;
    yyjson_mut_val *files = yyjson_mut_obj_add_obj(call->doc, o, "file_counts");
    yyjson_mut_obj_add_sint(call->doc, files, "in_progress",
                            s[DOCUMENT_QUEUED] + s[DOCUMENT_PARSING] + s[DOCUMENT_CHUNKING] +
                                s[DOCUMENT_EMBEDDING]);
    yyjson_mut_obj_add_sint(call->doc, files, "completed", s[DOCUMENT_READY] + s[DOCUMENT_NO_TEXT]);
    yyjson_mut_obj_add_sint(call->doc, files, "failed", s[DOCUMENT_FAILED]);
    yyjson_mut_obj_add_sint(call->doc, files, "cancelled", s[DOCUMENT_CANCELLED]);
    yyjson_mut_obj_add_sint(call->doc, files, "total", counts->total);
}

static bool is_working(const struct document_counts *counts)
{
    const int64_t *s = counts->states;
    return s[DOCUMENT_QUEUED] + s[DOCUMENT_PARSING] + s[DOCUMENT_CHUNKING] + s[DOCUMENT_EMBEDDING] >
           0;
}

static int64_t expires_at(const struct collection_row *row)
{
    return row->expires_days ? row->used_ns + row->expires_days * NS_PER_DAY : 0;
}

bool door_store_expired(const struct collection_row *row)
{
    int64_t at = expires_at(row);
    return at && at <= clock_wall_ns();
}

static enum rc put_metadata(struct api_call *call, yyjson_mut_val *o, struct str metadata)
{
    yyjson_doc *doc;
    if (metadata.n == 0) {
        yyjson_mut_obj_add_obj(call->doc, o, "metadata");
        return RC_OK;
    }
    enum rc rc = json_read(metadata, call->arena, &doc, &call->err);
    if (rc == RC_OK)
        yyjson_mut_obj_add_val(call->doc, o, "metadata",
                               yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(doc)));
    return rc;
}

static enum rc encode_store(struct api_call *call, struct db_txn *txn,
                            const struct collection_row *row, yyjson_mut_val **out)
{
    const struct document_filter all = {.project = row->project, .collection = row->id};
    struct document_counts counts;
    enum rc rc = document_rows_count(txn, &all, &counts, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *o = *out = yyjson_mut_obj(call->doc);
    api_put_id(call, o, "id", "vs", row->id);
    yyjson_mut_obj_add_str(call->doc, o, "object", "vector_store");
    door_put_seconds(call, o, "created_at", row->created_ns);
    api_put_str(call, o, "name", row->vector_name.n ? row->vector_name : row->name);
    yyjson_mut_obj_add_sint(call->doc, o, "usage_bytes", counts.bytes);
    door_put_counts(call, o, &counts);
    yyjson_mut_obj_add_str(call->doc, o, "status",
                           door_store_expired(row) ? "expired"
                           : is_working(&counts)   ? "in_progress"
                                                   : "completed");
    if (row->expires_days) {
        yyjson_mut_val *after = yyjson_mut_obj_add_obj(call->doc, o, "expires_after");
        yyjson_mut_obj_add_str(call->doc, after, "anchor", "last_active_at");
        yyjson_mut_obj_add_sint(call->doc, after, "days", row->expires_days);
    } else {
        yyjson_mut_obj_add_null(call->doc, o, "expires_after");
    }
    door_put_seconds(call, o, "expires_at", expires_at(row));
    door_put_seconds(call, o, "last_active_at", row->used_ns);
    return put_metadata(call, o, row->metadata);
}

/* ---- reading what clients send ---- */

static enum rc read_metadata(struct api_call *call, struct str *out)
{
    yyjson_val *json = yyjson_obj_get(call->body, "metadata"), *key, *value;
    size_t i, n;
    if (!json)
        return RC_OK;
    if (yyjson_is_null(json)) {
        *out = STR_EMPTY;
        return RC_OK;
    }
    if (!yyjson_is_obj(json) || yyjson_obj_size(json) > METADATA_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "metadata",
                             "'metadata' is an object of at most %d texts", METADATA_MAX);
    yyjson_obj_foreach(json, i, n, key, value) if (!yyjson_is_str(value)) return err_set_field(
        &call->err, ERR_BAD_FIELD, "metadata", "the values of 'metadata' are texts");
    *out = json_write(json, call->arena);
    return RC_OK;
}

static enum rc read_expiry(struct api_call *call, int64_t *days)
{
    yyjson_val *json = yyjson_obj_get(call->body, "expires_after");
    if (!json)
        return RC_OK;
    *days = yyjson_is_null(json) ? 0 : json_get_int(json, "days", -1);
    if (!yyjson_is_null(json) && (*days < 1 || *days > EXPIRES_DAYS_MAX))
        return err_set_field(&call->err, ERR_BAD_FIELD, "expires_after.days",
                             "a vector store expires after 1 to %d days", EXPIRES_DAYS_MAX);
    return RC_OK;
}

enum rc door_read_chunking(struct api_call *call, yyjson_val *json, struct str *out)
{
    struct str type = json_get_text(json, "type");
    yyjson_val *how = yyjson_obj_get(json, "static");
    int64_t tokens = json_get_int(how, "max_chunk_size_tokens", 0),
            overlap = json_get_int(how, "chunk_overlap_tokens", 0);
    *out = STR_EMPTY;
    if (!json || yyjson_is_null(json) || str_eq(type, STR("auto")))
        return RC_OK;
    if (!str_eq(type, STR("static")))
        return err_set_field(&call->err, ERR_BAD_FIELD, "chunking_strategy.type",
                             "the chunking strategy is 'auto' or 'static'");
    if (tokens < STATIC_TOKENS_MIN || tokens > STATIC_TOKENS_MAX || overlap < 0 ||
        overlap > tokens / 2)
        return err_set_field(&call->err, ERR_BAD_FIELD, "chunking_strategy.static",
                             "max_chunk_size_tokens is %d to %d, chunk_overlap_tokens at most half "
                             "of it",
                             STATIC_TOKENS_MIN, STATIC_TOKENS_MAX);
    *out = arena_printf(call->arena,
                        "{\"strategy\":\"static\",\"tokens_max\":%lld,\"overlap_tokens\":%lld}",
                        (long long)tokens, (long long)overlap);
    return out->p ? RC_OK : err_set(&call->err, ERR_OVERLOADED, "no memory for this request");
}

/* A collection's name from a store's: "Support FAQ" → "support-faq-" + the end of an id, which
 * keeps it apart from others. */
static struct str make_name(struct api_call *call, struct str name)
{
    char unique[ID_TEXT_BYTES_MAX], slug[64];
    size_t n = 0, length = id_format(id_new(), "n", unique);
    for (size_t i = 0; i < name.n && n < 40; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (isalnum(c))
            slug[n++] = (char)tolower(c);
        else if (n && slug[n - 1] != '-')
            slug[n++] = '-';
    }
    while (n && slug[n - 1] == '-')
        n--;
    return arena_printf(call->arena, "%.*s-%s", n ? (int)n : 5, n ? slug : "store",
                        unique + length - 8);
}

/* ---- stores ---- */

struct creation {
    struct api_call *call;
    struct collection collection;
    struct str name, metadata;
    int64_t expires_days;
};

static enum rc create_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct creation *creation = arg;
    struct api_call *call = creation->call;
    const struct actor actor = api_actor(call);
    yyjson_mut_doc *doc = json_tree_new(call->arena);
    yyjson_mut_val *spec = doc ? yyjson_mut_obj(doc) : NULL;
    yyjson_doc *frozen = NULL;
    struct str description = json_get_text(call->body, "description");
    if (spec && description.n)
        json_set_text(doc, spec, "description", description);
    if (spec && !knowledge_encoder_ready(call->services->knowledge))
        yyjson_mut_obj_add_str(doc, spec, "encoder", COLLECTION_ENCODER_NONE);
    if (!spec || !(frozen = json_freeze(spec, call->arena)))
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    enum rc rc = collection_create(txn, &actor, call->principal->project,
                                   make_name(call, creation->name), yyjson_doc_get_root(frozen),
                                   creation->name, call->arena, &creation->collection, err);
    creation->collection.row.metadata = creation->metadata;
    creation->collection.row.expires_days = creation->expires_days;
    return rc == RC_OK ? collection_row_update(txn, &creation->collection.row, err) : rc;
}

/* With the read transaction that encoding needs. */
static enum rc answer_store(struct api_call *call, struct id id)
{
    struct collection_row row;
    struct db_txn *txn = call->txn;
    enum rc rc = txn ? RC_OK : db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = collection_row_get(txn, call->principal->project, id, call->arena, &row, &call->err);
    if (rc == RC_OK)
        rc = encode_store(call, txn, &row, &call->answer);
    if (!call->txn)
        db_read_end(txn);
    return rc;
}

enum rc door_stores_create(struct api_call *call)
{
    struct creation creation = {.call = call, .name = json_get_text(call->body, "name")};
    struct str chunking;
    yyjson_val *files = yyjson_obj_get(call->body, "file_ids");
    enum rc rc = read_metadata(call, &creation.metadata);
    if (rc == RC_OK)
        rc = read_expiry(call, &creation.expires_days);
    if (rc == RC_OK)
        rc = door_read_chunking(call, yyjson_obj_get(call->body, "chunking_strategy"), &chunking);
    if (rc == RC_OK)
        rc = db_write_wait(call->services->db, create_write, &creation, &call->err);
    if (rc == RC_OK && yyjson_arr_size(files))
        rc = door_add_files(call, &creation.collection, files, chunking, STR_EMPTY,
                            (struct id){{0}});
    return rc == RC_OK ? answer_store(call, creation.collection.row.id) : rc;
}

enum rc door_stores_list(struct api_call *call)
{
    struct door_page page;
    struct collection_row *rows;
    char first[ID_TEXT_BYTES_MAX], last[ID_TEXT_BYTES_MAX];
    size_t count;
    enum rc rc = door_read_page(call, "vs", STORES_LIMIT_MAX, &page);
    if (rc == RC_OK)
        rc = collection_row_list(call->txn, call->principal->project, page.after, page.ascending,
                                 page.limit + 1, call->arena, &rows, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    bool more = count > page.limit;
    count = MIN(count, page.limit);
    yyjson_mut_val *data = door_list_begin(call), *o;
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        rc = encode_store(call, call->txn, &rows[i], &o);
        if (rc == RC_OK)
            yyjson_mut_arr_append(data, o);
    }
    size_t a = count ? id_format(rows[0].id, "vs", first) : 0,
           b = count ? id_format(rows[count - 1].id, "vs", last) : 0;
    door_list_end(call, str_make(first, a), str_make(last, b), more);
    return rc;
}

enum rc door_stores_get(struct api_call *call)
{
    struct collection collection;
    enum rc rc = door_find_store(call, &collection);
    return rc == RC_OK ? encode_store(call, call->txn, &collection.row, &call->answer) : rc;
}

enum rc door_stores_update(struct api_call *call)
{
    struct collection collection;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = door_find_store(call, &collection);
    if (rc == RC_OK)
        rc = read_metadata(call, &collection.row.metadata);
    if (rc == RC_OK)
        rc = read_expiry(call, &collection.row.expires_days);
    if (rc != RC_OK)
        return rc;
    struct str name = json_get_text(call->body, "name");
    if (name.n)
        collection.row.vector_name = name;
    rc = collection_row_update(call->txn, &collection.row, &call->err);
    return rc == RC_OK ? encode_store(call, call->txn, &collection.row, &call->answer) : rc;
}

enum rc door_stores_delete(struct api_call *call)
{
    struct collection collection;
    struct str id = call->params[0];
    enum rc rc = door_find_store(call, &collection);
    if (rc != RC_OK)
        return rc;
    call->params[0] = collection.row.name;
    rc = api_collections_delete(call);
    if (rc != RC_OK)
        return rc;
    call->status = 200;
    door_answer_deleted(call, id, "vector_store.deleted");
    return RC_OK;
}

/* ---- search ---- */

/* OpenAI's scores lie between 0 and 1. Cosines are nearly there; words' and fused scores are
 * squeezed in an order-keeping way. */
static double unit_score(const struct retrieve_hit *hit)
{
    double score = hit->score;
    if (!isnan(hit->rerank_score))
        score = 1 / (1 + exp(-hit->rerank_score));
    else if (!isnan(hit->vector_score) && fabs(hit->vector_score) <= 1)
        score = hit->vector_score;
    else if (!isnan(hit->text_score))
        score = hit->text_score / (hit->text_score + 10);
    return MIN(MAX(score, 0), 1);
}

static void put_result(struct api_call *call, yyjson_mut_val *data, const struct retrieve_hit *hit,
                       const struct document_row *document)
{
    char id[ID_TEXT_BYTES_MAX];
    yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, data);
    if (!id_is_zero(document->file))
        yyjson_mut_obj_add_strncpy(call->doc, o, "file_id", id, file_id_format(document->file, id));
    else
        api_put_str(call, o, "file_id", hit->document);
    api_put_str(call, o, "filename", hit->name);
    yyjson_mut_obj_add_real(call->doc, o, "score", unit_score(hit));
    yyjson_mut_obj_add_val(call->doc, o, "attributes", api_encode_attributes(call, hit->payload));
    yyjson_mut_val *content = yyjson_mut_obj_add_arr(call->doc, o, "content");
    yyjson_mut_val *part = yyjson_mut_arr_add_obj(call->doc, content);
    yyjson_mut_obj_add_str(call->doc, part, "type", "text");
    api_put_str(call, part, "text", hit->text);
}

static enum rc read_search(struct api_call *call, struct retrieve_query *query,
                           double *score_threshold)
{
    yyjson_val *ranking = yyjson_obj_get(call->body, "ranking_options");
    int64_t k = json_get_int(call->body, "max_num_results", 10);
    struct str ranker = json_get_text(ranking, "ranker");
    retrieve_query_init(query);
    enum rc rc = filter_read(yyjson_obj_get(call->body, "filters"), "filters", call->arena,
                             &query->filter, &call->err);
    if (rc != RC_OK)
        return rc;
    if (k < 1 || k > SEARCH_RESULTS_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "max_num_results",
                             "'max_num_results' must be 1 to %d", SEARCH_RESULTS_MAX);
    *score_threshold = json_get_double(ranking, "score_threshold", 0);
    if (!(*score_threshold >= 0 && *score_threshold <= 1))
        return err_set_field(&call->err, ERR_BAD_FIELD, "ranking_options.score_threshold",
                             "the threshold is between 0 and 1");
    query->k = (size_t)k;
    if (str_eq(ranker, STR("none")))
        query->reranker = STR("none");
    api_fill_access(call, query);
    return RC_OK;
}

/* One query's hits, unless an earlier query had the same chunk. */
static enum rc put_hits(struct api_call *call, yyjson_mut_val *data, struct map *seen,
                        const struct retrieve_result *result, double threshold, size_t limit)
{
    struct db_txn *txn;
    enum rc rc = db_read_begin(call->services->db, &txn, &call->err);
    for (size_t i = 0; rc == RC_OK && i < result->count; i++) {
        const struct retrieve_hit *hit = &result->hits[i];
        struct document_row document = {0};
        struct id id;
        if (unit_score(hit) < threshold || yyjson_mut_arr_size(data) >= limit ||
            map_get(seen, hit->id))
            continue;
        if (id_parse(hit->document, "doc", &id) == RC_OK &&
            document_row_get(txn, call->principal->project, result->collection.row.id, id,
                             call->arena, &document, NULL) != RC_OK)
            continue; /* just deleted */
        map_put(seen, hit->id, (void *)hit);
        put_result(call, data, hit, &document);
    }
    if (rc == RC_OK)
        db_read_end(txn);
    return rc;
}

static enum rc touch_write(void *arg, struct db_txn *txn, struct err *err)
{
    return collection_row_touch(txn, *(struct id *)arg, db_txn_now_ns(txn), err);
}

/* Last use is kept by the minute: a search must not wait for the disk each time. */
static void note_use(struct api_call *call, struct collection_row *row)
{
    if (clock_wall_ns() - row->used_ns > 60 * NS_PER_S)
        (void)!db_write_wait(call->services->db, touch_write, &row->id, NULL);
}

static enum rc search_all(struct api_call *call, struct retrieve_query *query, yyjson_val *queries,
                          double threshold, yyjson_mut_val *data)
{
    struct retrieve_result result;
    struct map seen;
    yyjson_val *one;
    size_t i, n;
    enum rc rc = RC_OK;
    map_init(&seen);
    if (yyjson_is_str(queries)) {
        query->text = json_text(queries);
        rc = knowledge_search(call->services->knowledge, query, call->arena, &result, &call->err);
        if (rc == RC_OK)
            rc = put_hits(call, data, &seen, &result, threshold, query->k);
    }
    yyjson_arr_foreach(queries, i, n, one)
    {
        if (rc != RC_OK)
            break;
        query->text = json_text(one);
        rc = knowledge_search(call->services->knowledge, query, call->arena, &result, &call->err);
        if (rc == RC_OK)
            rc = put_hits(call, data, &seen, &result, threshold, query->k);
    }
    map_fini(&seen);
    return rc;
}

enum rc door_stores_search(struct api_call *call)
{
    struct collection collection;
    struct retrieve_query query;
    double threshold = 0;
    enum rc rc = api_need_body(call);
    yyjson_val *queries = rc == RC_OK ? yyjson_obj_get(call->body, "query") : NULL;
    if (rc == RC_OK)
        rc = door_find_store(call, &collection);
    if (rc == RC_OK)
        rc = read_search(call, &query, &threshold);
    if (rc != RC_OK)
        return rc;
    if (!yyjson_is_str(queries) &&
        (yyjson_arr_size(queries) == 0 || yyjson_arr_size(queries) > SEARCH_QUERIES_MAX))
        return err_set_field(&call->err, ERR_MISSING_FIELD, "query",
                             "'query' is a text or a list of 1 to %d texts", SEARCH_QUERIES_MAX);
    if (door_store_expired(&collection.row))
        return err_set(&call->err, ERR_NOT_FOUND, "this vector store has expired");
    query.collection = collection.row.name;
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_str(call->doc, call->answer, "object", "vector_store.search_results.page");
    yyjson_mut_val *asked = yyjson_val_mut_copy(call->doc, queries);
    if (yyjson_mut_is_str(asked)) {
        yyjson_mut_val *list = yyjson_mut_arr(call->doc);
        yyjson_mut_arr_append(list, asked);
        asked = list;
    }
    yyjson_mut_obj_add_val(call->doc, call->answer, "search_query", asked);
    yyjson_mut_val *data = yyjson_mut_obj_add_arr(call->doc, call->answer, "data");
    rc = search_all(call, &query, queries, threshold, data);
    yyjson_mut_obj_add_false(call->doc, call->answer, "has_more");
    yyjson_mut_obj_add_null(call->doc, call->answer, "next_page");
    note_use(call, &collection.row);
    return rc;
}
