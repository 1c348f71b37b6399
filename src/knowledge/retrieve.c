/* See retrieve.h. The collection's ranking fills in what the query leaves open; the query's vector
 * comes from the collection's encoder; a cross-encoder may order the best again. */
#include "knowledge/retrieve.h"
#include "base/clock.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

#define TEXT_BYTES_MAX (256 * 1024)

void retrieve_query_init(struct retrieve_query *query)
{
    *query = (struct retrieve_query){
        .mode = -1, .text_weight = -2, .fusion = -1, .score_min = NAN, .diversity = -1};
}

/* ---- the query ---- */

static enum rc make_vector(struct knowledge *knowledge, const struct retrieve_query *query,
                           enum search_mode mode, struct index *index, struct arena *arena,
                           struct retrieve_result *out, const float **vector, struct err *err)
{
    const struct index_config *config = index_config_of(index);
    unsigned dimension = 0, wanted = config->vector_count ? config->vectors[0].dimension : 0;
    float *made = NULL;
    *vector = NULL;
    if (mode == SEARCH_TEXT)
        return RC_OK;
    if (query->vector) {
        if (query->dimension != wanted)
            return err_set_field(err, ERR_BAD_FIELD, "vector",
                                 "the vector has %zu numbers, the collection's have %u",
                                 query->dimension, wanted);
        *vector = query->vector;
        return RC_OK;
    }
    if (query->text.n == 0 || !collection_has_encoder(&out->collection.spec))
        return RC_OK;
    int64_t began = clock_monotonic_ns();
    enum rc rc = knowledge_encode(knowledge, &out->collection, &query->text, 1, true, arena, &made,
                                  &dimension, err);
    out->encode_ns = clock_monotonic_ns() - began;
    if (rc != RC_OK && mode == SEARCH_HYBRID &&
        knowledge_encoder_missing(knowledge, &out->collection.spec)) {
        if (err)
            *err = (struct err){0};
        out->words_only = true;
        return RC_OK;
    }
    if (rc == RC_OK && made && dimension != wanted)
        return err_set(err, ERR_CONFLICT,
                       "the collection was indexed with vectors of %u numbers, its encoder now "
                       "gives %u: rebuild it",
                       wanted, dimension);
    *vector = made;
    return rc;
}

/* ERR_BAD_FIELD when nothing is left to search by. */
static enum rc check_query(const struct retrieve_query *query, enum search_mode mode,
                           const float *vector, struct err *err)
{
    if (query->text.n > TEXT_BYTES_MAX)
        return err_set_field(err, ERR_TOO_LARGE, "query", "the query is longer than %d KB",
                             TEXT_BYTES_MAX / 1024);
    if (mode == SEARCH_VECTOR && !vector)
        return err_set_field(err, ERR_BAD_FIELD, "mode",
                             "this collection has no encoder: give a vector, or search by text");
    if (!vector && query->text.n == 0)
        return err_set_field(err, ERR_MISSING_FIELD, "query", "say what to search for");
    return RC_OK;
}

static void fill_index_query(const struct retrieve_query *query,
                             const struct collection_ranking *ranking, enum search_mode mode,
                             const float *vector, struct index_query *out)
{
    *out = (struct index_query){
        .vector = vector,
        .text = mode == SEARCH_VECTOR ? STR_EMPTY : query->text,
        .k = query->k ? query->k : ranking->k,
        .recall = query->recall > 0 ? query->recall : ranking->recall,
        .tags = query->tags,
        .tag_count = query->tag_count,
        .all_tags = query->all_tags,
        .fusion = query->fusion >= 0 ? (enum index_fusion)query->fusion : ranking->fusion,
        .text_weight = query->text_weight >= -1.5 ? query->text_weight : ranking->text_weight,
        .k1 = query->k1,
        .b = query->b,
        .score_min = isnan(query->score_min) ? ranking->score_min : query->score_min,
        .group_by = query->group_by,
        .group_size = query->group_size,
        .diversity = query->diversity >= 0 ? query->diversity : ranking->diversity,
    };
}

/* ---- hits ---- */

static int64_t member(yyjson_val *payload, const char *name)
{
    return json_get_int(payload, name, -1);
}

static enum rc read_hit(const struct index_hit *from, struct arena *arena, struct retrieve_hit *to,
                        struct err *err)
{
    yyjson_doc *doc = NULL;
    enum rc rc = from->payload.n ? json_read(from->payload, arena, &doc, err) : RC_OK;
    yyjson_val *payload = doc ? yyjson_doc_get_root(doc) : NULL;
    if (rc != RC_OK)
        return rc;
    struct str context = json_get_text(payload, PAYLOAD_CONTEXT);
    *to = (struct retrieve_hit){
        .id = from->id,
        .text = from->texts[0],
        .title = from->texts[1],
        .context = context.n ? context : from->texts[0],
        .score = from->score,
        .vector_score = from->vector_score,
        .text_score = from->text_score,
        .rerank_score = NAN,
        .document = json_get_text(payload, PAYLOAD_DOCUMENT),
        .name = json_get_text(payload, PAYLOAD_NAME),
        .ordinal = member(payload, PAYLOAD_ORDINAL),
        .page = member(payload, PAYLOAD_PAGE),
        .page_last = member(payload, PAYLOAD_PAGE_LAST),
        .begin = member(payload, PAYLOAD_BEGIN),
        .end = member(payload, PAYLOAD_END),
        .payload = payload,
    };
    return RC_OK;
}

static int by_rerank(const void *a, const void *b)
{
    const struct retrieve_hit *x = a, *y = b;
    return x->rerank_score < y->rerank_score ? 1 : x->rerank_score > y->rerank_score ? -1 : 0;
}

static enum rc rerank(struct knowledge *knowledge, struct str name, struct str query,
                      struct arena *arena, struct retrieve_result *out, struct err *err)
{
    struct encoder *encoder;
    int64_t began = clock_monotonic_ns();
    struct str *texts = ARENA_NEW_ARRAY(arena, struct str, out->count + 1);
    float *scores = ARENA_NEW_ARRAY(arena, float, out->count + 1);
    if (!texts || !scores)
        return err_set(err, ERR_OVERLOADED, "no memory for this request");
    enum rc rc = encoders_get(knowledge_encoders(knowledge), name, &encoder, err);
    if (rc != RC_OK)
        return rc;
    for (size_t i = 0; i < out->count; i++)
        texts[i] = out->hits[i].text;
    rc = encoder_is_reranker(encoder)
             ? encoder_rank(encoder, query, texts, out->count, scores, err)
             : err_set_field(err, ERR_BAD_FIELD, "reranker",
                             "'%.*s' is no cross-encoder: it cannot rank", STR_ARG(name));
    encoders_put(knowledge_encoders(knowledge), encoder);
    for (size_t i = 0; rc == RC_OK && i < out->count; i++)
        out->hits[i].rerank_score = (double)scores[i];
    if (rc == RC_OK)
        qsort(out->hits, out->count, sizeof(*out->hits), by_rerank);
    out->rerank_ns = clock_monotonic_ns() - began;
    return rc;
}

static enum rc search_index(struct knowledge *knowledge, const struct retrieve_query *query,
                            struct index *index, struct arena *arena, struct retrieve_result *out,
                            struct err *err)
{
    const struct collection_ranking *ranking = &out->collection.spec.ranking;
    enum search_mode mode = query->mode >= 0 ? (enum search_mode)query->mode : ranking->mode;
    struct str reranker = query->reranker.n ? query->reranker : ranking->reranker;
    struct expression *filter = NULL;
    struct index_query how;
    struct index_hits found;
    const float *vector;
    bool ranks = reranker.n && !str_eq(reranker, STR("none")) && query->text.n;
    enum rc rc = make_vector(knowledge, query, mode, index, arena, out, &vector, err);
    if (rc == RC_OK)
        rc = check_query(query, mode, vector, err);
    if (rc == RC_OK && query->filter.n)
        rc = expression_parse(query->filter, arena, &filter, err);
    if (rc != RC_OK)
        return rc;
    fill_index_query(query, ranking, mode, vector, &how);
    how.filter = filter;
    if (query->k == 0 && query->for_answer)
        how.k = out->collection.spec.answer.k;
    size_t k = how.k;
    if (ranks)
        how.k = MAX(k, query->rerank_depth ? query->rerank_depth : ranking->rerank_depth);
    int64_t began = clock_monotonic_ns();
    rc = index_search(index, &how, arena, &found, err);
    out->search_ns = clock_monotonic_ns() - began;
    if (rc != RC_OK)
        return rc;
    out->hits = ARENA_NEW_ARRAY(arena, struct retrieve_hit, found.count + 1);
    if (!out->hits)
        return err_set(err, ERR_OVERLOADED, "no memory for this request; ask for fewer");
    for (size_t i = 0; rc == RC_OK && i < found.count; i++)
        rc = read_hit(&found.items[i], arena, &out->hits[i], err);
    out->count = rc == RC_OK ? found.count : 0;
    if (rc == RC_OK && ranks && out->count)
        rc = rerank(knowledge, reranker, query->text, arena, out, err);
    out->count = MIN(out->count, k);
    return rc;
}

/* BM25's settings and weights take effect with the next search after they were changed. */
static enum rc apply_ranking(struct index *index, const struct collection_ranking *ranking,
                             struct err *err)
{
    const struct index_config *config = index_config_of(index);
    double weights[INDEX_TEXTS_MAX] = {1, ranking->title_weight};
    double k1 = ranking->k1 > 0 ? ranking->k1 : INDEX_K1_DEFAULT;
    double b = ranking->b > 0 ? ranking->b : INDEX_B_DEFAULT;
    if (config->text_count != 2 ||
        (config->k1 == k1 && config->b == b && config->texts[1].weight == ranking->title_weight))
        return RC_OK;
    return index_set_ranking(index, k1, b, weights, err);
}

/* An index is made when its encoder is there: until then nothing is in it, which is no error. */
static enum rc still_empty(struct knowledge *knowledge, const struct retrieve_query *query,
                           enum rc rc, struct retrieve_result *out, struct err *err)
{
    struct collection_spec *spec = &out->collection.spec;
    enum search_mode mode = query->mode >= 0 ? (enum search_mode)query->mode : spec->ranking.mode;
    if (!err || err->code != ERR_MODEL_NOT_FOUND || mode == SEARCH_VECTOR ||
        !knowledge_encoder_missing(knowledge, spec))
        return rc;
    *err = (struct err){0};
    out->words_only = mode == SEARCH_HYBRID;
    return RC_OK;
}

enum rc knowledge_search(struct knowledge *knowledge, const struct retrieve_query *query,
                         struct arena *arena, struct retrieve_result *out, struct err *err)
{
    struct index *index;
    *out = (struct retrieve_result){0};
    enum rc rc = RC_OK;
    if (query->within)
        out->collection = *query->within;
    else
        rc = knowledge_find(knowledge, query->project, query->collection, arena, &out->collection,
                            err);
    if (rc == RC_OK)
        rc = knowledge_index_get(knowledge, &out->collection, &index, err);
    if (rc != RC_OK)
        return still_empty(knowledge, query, rc, out, err);
    rc = apply_ranking(index, &out->collection.spec.ranking, err);
    if (rc == RC_OK)
        rc = search_index(knowledge, query, index, arena, out, err);
    knowledge_index_put(knowledge, index);
    return rc;
}

/* ---- several at once ---- */

#define STORES_MAX 20

static int by_score(const void *a, const void *b)
{
    double x = ((const struct retrieve_hit *)a)->score, y = ((const struct retrieve_hit *)b)->score;
    return (x < y) - (x > y);
}

/* The files that the hits' documents were made of. */
static enum rc find_files(struct db_txn *txn, const struct collection *collection,
                          struct retrieve_hit *hits, size_t count, struct arena *arena,
                          struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct document_row row;
        struct id id;
        if (id_parse(hits[i].document, "doc", &id) != RC_OK)
            continue;
        enum rc rc = document_row_get(txn, collection->row.project, collection->row.id, id, arena,
                                      &row, err);
        if (rc == RC_OK)
            hits[i].file = row.file;
        else if (rc != RC_NOT_FOUND) /* deleted meanwhile */
            return rc;
    }
    return RC_OK;
}

static enum rc search_store(struct knowledge *knowledge, const struct retrieve_query *query,
                            struct id store, struct arena *arena, struct retrieve_result *out,
                            struct err *err)
{
    struct collection *collection = ARENA_NEW(arena, struct collection);
    struct retrieve_query one = *query;
    struct db_txn *txn;
    if (!collection)
        return err_set(err, ERR_OVERLOADED, "no memory for this search");
    enum rc rc = db_read_begin(knowledge_db(knowledge), &txn, err);
    if (rc != RC_OK)
        return rc;
    rc = collection_get(txn, query->project, store, arena, collection, err);
    db_read_end(txn);
    one.within = collection;
    if (rc == RC_OK)
        rc = knowledge_search(knowledge, &one, arena, out, err);
    if (rc != RC_OK || (rc = db_read_begin(knowledge_db(knowledge), &txn, err)) != RC_OK)
        return rc;
    rc = find_files(txn, collection, out->hits, out->count, arena, err);
    db_read_end(txn);
    return rc;
}

static enum rc search_stores(struct knowledge *knowledge, const struct retrieve_query *query,
                             struct arena *arena, struct retrieve_result *out, struct err *err)
{
    struct retrieve_result found[STORES_MAX];
    size_t total = 0;
    *out = (struct retrieve_result){0};
    if (query->store_count > STORES_MAX)
        return err_set_field(err, ERR_BAD_FIELD, "tools", "names more than %d vector stores",
                             STORES_MAX);
    for (size_t i = 0; i < query->store_count; i++) {
        enum rc rc = search_store(knowledge, query, query->stores[i], arena, &found[i], err);
        if (rc != RC_OK)
            return rc;
        total += found[i].count;
        out->query_tokens = found[i].query_tokens;
    }
    out->hits = ARENA_NEW_ARRAY(arena, struct retrieve_hit, total + 1);
    if (!out->hits)
        return err_set(err, ERR_OVERLOADED, "no memory for this search");
    for (size_t i = 0; i < query->store_count; i++) {
        memcpy(out->hits + out->count, found[i].hits, found[i].count * sizeof(*out->hits));
        out->count += found[i].count;
        out->collection = found[i].collection;
    }
    qsort(out->hits, out->count, sizeof(*out->hits), by_score);
    out->count = MIN(out->count, query->k);
    return RC_OK;
}

/* ---- from a loop ---- */

struct retrieval {
    struct work work;
    struct knowledge *knowledge;
    struct retrieve_query query;
    struct arena *arena;
    struct retrieve_result result;
    enum rc rc;
    struct err err;
    void (*done)(void *arg, const struct retrieve_result *result, const struct err *err);
    void (*released)(void *arg);
    void *arg;
    bool cancelled;
};

static void retrieval_work(struct work *work)
{
    struct retrieval *retrieval = CONTAINER_OF(work, struct retrieval, work);
    retrieval->rc = (retrieval->query.store_count ? search_stores : knowledge_search)(
        retrieval->knowledge, &retrieval->query, retrieval->arena, &retrieval->result,
        &retrieval->err);
    if (retrieval->rc != RC_OK && retrieval->err.code == ERR_NONE)
        err_set(&retrieval->err, ERR_INTERNAL, "the search failed (%s)", rc_name(retrieval->rc));
}

static void retrieval_done(struct work *work)
{
    struct retrieval *retrieval = CONTAINER_OF(work, struct retrieval, work);
    if (retrieval->cancelled)
        retrieval->released(retrieval->arg);
    else
        retrieval->done(retrieval->arg, &retrieval->result,
                        retrieval->rc == RC_OK ? NULL : &retrieval->err);
    free(retrieval);
}

struct retrieval *knowledge_retrieve(
    struct knowledge *knowledge, const struct retrieve_query *query, struct arena *arena,
    void (*done)(void *arg, const struct retrieve_result *result, const struct err *err), void *arg)
{
    struct retrieval *retrieval = xcalloc(1, sizeof(*retrieval));
    retrieval->knowledge = knowledge;
    retrieval->query = *query;
    retrieval->arena = arena;
    retrieval->done = done;
    retrieval->arg = arg;
    retrieval->work =
        (struct work){.home = loop_current(), .work = retrieval_work, .done = retrieval_done};
    if (worker_submit(knowledge_workers(knowledge), &retrieval->work) == RC_OK)
        return retrieval;
    free(retrieval);
    return NULL;
}

void retrieval_cancel(struct retrieval *retrieval, void (*released)(void *arg))
{
    retrieval->cancelled = true;
    retrieval->released = released;
}
