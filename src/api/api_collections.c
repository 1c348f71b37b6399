/* /api/collections: collections and searching in them. Documents are api_documents.c's, raw vectors
 * api_vectors.c's. */
#include "api/api_knowledge.h"
#include "base/clock.h"
#include "knowledge/filter.h"
#include "text/json_tree.h"
#include <math.h>

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "the answer is too large; ask for fewer items");
}

enum rc api_find_collection(struct api_call *call, struct collection *out)
{
    if (call->txn)
        return collection_find(call->txn, call->principal->project, call->params[0], call->arena,
                               out, &call->err);
    return knowledge_find(call->services->knowledge, call->principal->project, call->params[0],
                          call->arena, out, &call->err);
}

/* ---- showing ---- */

static void put_counts(struct api_call *call, yyjson_mut_val *o,
                       const struct document_counts *counts)
{
    yyjson_mut_val *documents = yyjson_mut_obj_add_obj(call->doc, o, "documents");
    yyjson_mut_obj_add_sint(call->doc, documents, "total", counts->total);
    for (int i = 0; i < DOCUMENT_DELETING; i++)
        yyjson_mut_obj_add_sint(call->doc, documents, document_state_name((enum document_state)i),
                                counts->states[i]);
    yyjson_mut_obj_add_sint(call->doc, o, "chunks", counts->chunks);
    yyjson_mut_obj_add_sint(call->doc, o, "tokens", counts->tokens);
    yyjson_mut_obj_add_sint(call->doc, o, "bytes", counts->bytes);
}

/* Everything that has a default is shown with the value in force. */
static void put_effective(struct api_call *call, yyjson_mut_val *o,
                          const struct collection_spec *spec)
{
    yyjson_mut_doc *doc = call->doc;
    yyjson_mut_obj_add_strncpy(doc, o, "encoder", spec->encoder.p, spec->encoder.n);
    yyjson_mut_val *chunking = yyjson_mut_obj(doc), *ranking = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, chunking, "strategy", chunk_strategy_name(spec->chunking.strategy));
    yyjson_mut_obj_add_uint(doc, chunking, "tokens_max", spec->chunking.tokens_max);
    yyjson_mut_obj_add_uint(doc, chunking, "overlap_tokens", spec->chunking.overlap_tokens);
    yyjson_mut_obj_add_uint(doc, chunking, "window_sentences", spec->chunking.window_sentences);
    yyjson_mut_obj_add_uint(doc, chunking, "parent_tokens", spec->chunking.parent_tokens);
    yyjson_mut_obj_add_val(doc, o, "chunking", chunking);
    yyjson_mut_obj_add_str(doc, ranking, "mode", search_mode_name(spec->ranking.mode));
    yyjson_mut_obj_add_uint(doc, ranking, "k", spec->ranking.k);
    yyjson_mut_obj_add_real(doc, ranking, "recall", spec->ranking.recall);
    yyjson_mut_obj_add_str(doc, ranking, "fusion",
                           spec->ranking.fusion == FUSION_RRF ? "rrf" : "weighted");
    if (spec->ranking.text_weight >= 0)
        yyjson_mut_obj_add_real(doc, ranking, "text_weight", spec->ranking.text_weight);
    else
        yyjson_mut_obj_add_null(doc, ranking, "text_weight");
    yyjson_mut_obj_add_val(doc, o, "ranking", ranking);
    yyjson_mut_val *scans = yyjson_mut_obj_add_obj(doc, o, "scans");
    yyjson_mut_obj_add_str(doc, scans, "by", scans_by_name(spec->scans.by));
    api_put_str(call, scans, "route", spec->scans.route);
    api_put_str(call, scans, "address", spec->scans.address);
    yyjson_mut_obj_add_uint(doc, scans, "pages_max", spec->scans.pages_max);
    yyjson_mut_obj_add_sint(doc, scans, "timeout_s", spec->scans.timeout_s);
    api_put_str(call, o, "language", spec->language);
}

/* While the encoder is fetched, with the job that does it. */
static enum rc put_encoder(struct api_call *call, yyjson_mut_val *o,
                           const struct collection *collection)
{
    struct job_row job;
    bool missing = knowledge_encoder_missing(call->services->knowledge, &collection->spec);
    enum rc rc = missing
                     ? knowledge_find_fetch(call->txn, collection->row.project,
                                            collection->spec.encoder, call->arena, &job, &call->err)
                     : RC_NOT_FOUND;
    if (rc != RC_OK && rc != RC_NOT_FOUND)
        return rc;
    if (rc == RC_OK)
        job_refresh(call->services->jobs, &job, call->arena);
    yyjson_mut_obj_add_bool(call->doc, o, "encoder_missing", missing);
    yyjson_mut_obj_add_val(call->doc, o, "encoder_job",
                           rc == RC_OK ? job_encode(&job, call->doc) : yyjson_mut_null(call->doc));
    return RC_OK;
}

static yyjson_mut_val *encode_collection(struct api_call *call, const struct collection *collection)
{
    const struct document_filter all = {.project = collection->row.project,
                                        .collection = collection->row.id};
    struct document_counts counts;
    char id[ID_TEXT_BYTES_MAX];
    yyjson_doc *spec;
    if (document_rows_count(call->txn, &all, &counts, &call->err) != RC_OK ||
        json_read(collection->object.spec, call->arena, &spec, &call->err) != RC_OK)
        return NULL;
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_id(call, o, "id", "coll", collection->row.id);
    api_put_str(call, o, "name", collection->row.name);
    yyjson_mut_obj_add_val(call->doc, o, "definition",
                           yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(spec)));
    api_put_str(call, o, "description",
                collection->spec.description.n ? collection->spec.description : STR(""));
    put_effective(call, o, &collection->spec);
    if (put_encoder(call, o, collection) != RC_OK)
        return NULL;
    put_counts(call, o, &counts);
    struct str model = arena_concat(call->arena, STR("knowledge/"), collection->row.name);
    api_put_str(call, o, "model", model);
    size_t n = id_format(collection->row.id, "vs", id);
    yyjson_mut_obj_add_strncpy(call->doc, o, "vector_store", id, n);
    yyjson_mut_obj_add_bool(call->doc, o, "stale", collection->stale);
    yyjson_mut_obj_add_sint(call->doc, o, "generation", collection->row.generation);
    yyjson_mut_obj_add_sint(call->doc, o, "version", collection->object.version);
    yyjson_mut_obj_add_str(call->doc, o, "origin",
                           collection->object.from_file ? "file" : "database");
    api_put_time(call, o, "created_at", collection->row.created_ns);
    api_put_time(call, o, "updated_at", collection->object.updated_ns);
    return o;
}

enum rc api_collections_list(struct api_call *call)
{
    struct object_page page;
    size_t limit;
    enum rc rc = api_query_limit(call, &limit);
    if (rc == RC_OK)
        rc = object_list(call->txn, call->principal->project, OBJECT_COLLECTION,
                         api_query(call, "cursor"), api_query(call, "q"), limit, call->arena, &page,
                         &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < page.count; i++) {
        struct collection collection;
        yyjson_mut_val *item;
        rc = collection_find(call->txn, call->principal->project, page.items[i].name, call->arena,
                             &collection, &call->err);
        if (rc != RC_OK)
            return rc;
        if (!(item = encode_collection(call, &collection)))
            return full(call);
        yyjson_mut_arr_append(items, item);
    }
    api_list_end(call, page.next);
    return RC_OK;
}

static enum rc answer_collection(struct api_call *call, const struct collection *collection)
{
    call->answer = encode_collection(call, collection);
    return call->answer ? RC_OK : full(call);
}

enum rc api_collections_get(struct api_call *call)
{
    struct collection collection;
    enum rc rc = api_find_collection(call, &collection);
    return rc == RC_OK ? answer_collection(call, &collection) : rc;
}

enum rc api_collections_create(struct api_call *call)
{
    struct collection collection = {0};
    const struct actor actor = api_actor(call);
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = collection_create(call->txn, &actor, call->principal->project,
                               json_get_text(call->body, "name"), call->body, STR_EMPTY,
                               call->arena, &collection, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 201;
    return answer_collection(call, &collection);
}

/* When chunks or vectors become stale, the answer says so; POST …/ingest {"rebuild": true} makes
 * them anew. */
enum rc api_collections_patch(struct api_call *call)
{
    struct collection collection = {0};
    const struct actor actor = api_actor(call);
    bool rebuild;
    enum rc rc = api_need_body(call);
    if (rc == RC_OK)
        rc = collection_patch(call->txn, &actor, call->principal->project, call->params[0],
                              call->body, call->arena, &collection, &rebuild, &call->err);
    return rc == RC_OK ? answer_collection(call, &collection) : rc;
}

/* ---- deleting ---- */

enum rc api_collections_delete(struct api_call *call)
{
    const struct actor actor = api_actor(call);
    enum rc rc =
        knowledge_delete_collection(call->services->knowledge, &actor, call->principal->project,
                                    call->params[0], call->arena, &call->err);
    call->status = 204;
    return rc;
}

/* ---- doing documents again ---- */

enum rc api_collections_ingest(struct api_call *call)
{
    struct collection collection;
    struct job_row job = {0};
    bool rebuild = json_get_bool(call->body, "rebuild", false);
    bool all = json_get_bool(call->body, "all", false);
    unsigned states = 1u << DOCUMENT_FAILED | 1u << DOCUMENT_CANCELLED;
    enum rc rc = api_find_collection(call, &collection);
    if (rc != RC_OK)
        return rc;
    if (all)
        states |= 1u << DOCUMENT_READY | 1u << DOCUMENT_NO_TEXT;
    rc = rebuild ? knowledge_rebuild(call->services->knowledge, &collection, call->principal->name,
                                     call->arena, &job, &call->err)
                 : knowledge_requeue(call->services->knowledge, &collection, (struct id){{0}},
                                     states, call->principal->name, call->arena, &job, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 202;
    call->answer = job_encode(&job, call->doc);
    return call->answer ? RC_OK : full(call);
}

/* ---- searching ---- */

void api_fill_access(struct api_call *call, struct retrieve_query *query)
{
    query->project = call->principal->project;
    query->tags = call->access_tags;
    query->tag_count = call->access_tag_count;
    query->all_tags = call->all_access;
}

enum rc api_read_vector(struct api_call *call, yyjson_val *json, const char *field,
                        const float **vector, size_t *dimension)
{
    size_t i, n;
    yyjson_val *number;
    float *out;
    *vector = NULL;
    *dimension = yyjson_arr_size(json);
    if (!json || yyjson_is_null(json))
        return RC_OK;
    if (!yyjson_is_arr(json) || *dimension == 0 || *dimension > VECTOR_DIMENSION_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, field,
                             "a vector is a list of 1 to %d numbers", VECTOR_DIMENSION_MAX);
    out = ARENA_NEW_ARRAY(call->arena, float, *dimension);
    if (!out)
        return full(call);
    yyjson_arr_foreach(json, i, n, number)
    {
        out[i] = (float)yyjson_get_num(number);
        if (!yyjson_is_num(number) || !isfinite(out[i]))
            return err_set_field(&call->err, ERR_BAD_FIELD, field,
                                 "a vector's members are finite numbers");
    }
    *vector = out;
    return RC_OK;
}

static enum rc read_number(struct api_call *call, const char *name, double min, double max,
                           double *out)
{
    yyjson_val *value = yyjson_obj_get(call->body, name);
    if (!value || yyjson_is_null(value))
        return RC_OK;
    double number = yyjson_get_num(value);
    if (!yyjson_is_num(value) || !(number >= min && number <= max))
        return err_set_field(&call->err, ERR_BAD_FIELD, name, "'%s' must be a number from %g to %g",
                             name, min, max);
    *out = number;
    return RC_OK;
}

static enum rc read_words(struct api_call *call, struct retrieve_query *query)
{
    struct str mode = json_get_text(call->body, "mode"),
               fusion = json_get_text(call->body, "fusion");
    enum search_mode parsed;
    if (mode.n && search_mode_parse(mode, &parsed) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "mode", "'mode' is hybrid, vector or text");
    query->mode = mode.n ? (int)parsed : -1;
    if (fusion.n && !str_eq(fusion, STR("rrf")) && !str_eq(fusion, STR("weighted")))
        return err_set_field(&call->err, ERR_BAD_FIELD, "fusion", "'fusion' is rrf or weighted");
    query->fusion = fusion.n ? (str_eq(fusion, STR("rrf")) ? FUSION_RRF : FUSION_WEIGHTED) : -1;
    return RC_OK;
}

enum rc api_read_query(struct api_call *call, struct retrieve_query *query)
{
    double k = 0, group_size = 1;
    enum rc rc = api_need_body(call);
    retrieve_query_init(query);
    if (rc != RC_OK || (rc = read_words(call, query)) ||
        (rc = read_number(call, "k", 1, 1000, &k)) ||
        (rc = read_number(call, "recall", 0.5, 1, &query->recall)) ||
        (rc = read_number(call, "text_weight", 0, 1, &query->text_weight)) ||
        (rc = read_number(call, "k1", 0, 10, &query->k1)) ||
        (rc = read_number(call, "b", 0, 1, &query->b)) ||
        (rc = read_number(call, "score_min", -1e9, 1e9, &query->score_min)) ||
        (rc = read_number(call, "diversity", 0, 1, &query->diversity)) ||
        (rc = read_number(call, "group_size", 1, 100, &group_size)) ||
        (rc = api_read_vector(call, yyjson_obj_get(call->body, "vector"), "vector", &query->vector,
                              &query->dimension)) ||
        (rc = filter_read(yyjson_obj_get(call->body, "filter"), "filter", call->arena,
                          &query->filter, &call->err)))
        return rc;
    query->collection = call->params[0];
    query->text = json_get_text(call->body, "query");
    query->k = (size_t)k;
    query->reranker = json_get_text(call->body, "reranker");
    query->group_by = json_get_text(call->body, "group_by");
    query->group_size = (size_t)group_size;
    api_fill_access(call, query);
    return RC_OK;
}

static void put_score(struct api_call *call, yyjson_mut_val *o, const char *name, double score)
{
    if (isnan(score))
        yyjson_mut_obj_add_null(call->doc, o, name);
    else
        yyjson_mut_obj_add_real(call->doc, o, name, score);
}

static void put_place(struct api_call *call, yyjson_mut_val *o, const char *name, int64_t value)
{
    if (value < 0)
        yyjson_mut_obj_add_null(call->doc, o, name);
    else
        yyjson_mut_obj_add_sint(call->doc, o, name, value);
}

static yyjson_mut_val *encode_hit(struct api_call *call, const struct retrieve_hit *hit)
{
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_str(call, o, "id", hit->id);
    put_score(call, o, "score", hit->score);
    put_score(call, o, "vector_score", hit->vector_score);
    put_score(call, o, "text_score", hit->text_score);
    put_score(call, o, "rerank_score", hit->rerank_score);
    api_put_str(call, o, "text", hit->text);
    api_put_str(call, o, "title", hit->title);
    api_put_str(call, o, "document_id", hit->document.n ? hit->document : STR_EMPTY);
    api_put_str(call, o, "document", hit->name.n ? hit->name : STR_EMPTY);
    put_place(call, o, "ordinal", hit->ordinal);
    put_place(call, o, "page", hit->page);
    put_place(call, o, "page_last", hit->page_last);
    put_place(call, o, "begin", hit->begin);
    put_place(call, o, "end", hit->end);
    yyjson_val *rects = yyjson_obj_get(hit->payload, PAYLOAD_RECTS);
    yyjson_mut_obj_add_val(call->doc, o, "rects",
                           rects ? yyjson_val_mut_copy(call->doc, rects)
                                 : yyjson_mut_arr(call->doc));
    yyjson_mut_obj_add_val(call->doc, o, "attributes", api_encode_attributes(call, hit->payload));
    return o;
}

enum rc api_collections_search(struct api_call *call)
{
    struct retrieve_query query;
    struct retrieve_result result;
    enum rc rc = api_read_query(call, &query);
    if (rc == RC_OK)
        rc = knowledge_search(call->services->knowledge, &query, call->arena, &result, &call->err);
    if (rc != RC_OK)
        return rc;
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < result.count; i++)
        if (!yyjson_mut_arr_append(items, encode_hit(call, &result.hits[i])))
            return full(call);
    api_list_end(call, STR_EMPTY);
    if (result.words_only) /* until the encoder is there */
        yyjson_mut_obj_add_bool(call->doc, call->answer, "words_only", true);
    yyjson_mut_val *timings = yyjson_mut_obj_add_obj(call->doc, call->answer, "timings_ms");
    api_put_ms(call, timings, "encode", result.encode_ns);
    api_put_ms(call, timings, "search", result.search_ns);
    api_put_ms(call, timings, "rerank", result.rerank_ns);
    return RC_OK;
}
