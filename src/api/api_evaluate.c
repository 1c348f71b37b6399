/* /api/collections/{name}/questions, …/evaluate and …/tune: questions with judged documents,
 * against the search as it is, or as the body says, or as a job tries it. */
#include "api/api_knowledge.h"
#include "knowledge/evaluate.h"
#include "text/json.h"

#define QUESTION_SET_BYTES_MAX (8 * 1024 * 1024)

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "there is no memory for so many questions");
}

static void put_measured(struct api_call *call, const char *name, const struct measured *measured)
{
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(call->doc, call->answer, name);
    yyjson_mut_obj_add_real(call->doc, o, "mean", measured->mean);
    yyjson_mut_obj_add_real(call->doc, o, "low", measured->low);
    yyjson_mut_obj_add_real(call->doc, o, "high", measured->high);
}

static void encode_evaluation(struct api_call *call, const struct evaluation *evaluation,
                              const struct question *questions)
{
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_uint(call->doc, call->answer, "questions", evaluation->count);
    yyjson_mut_obj_add_uint(call->doc, call->answer, "k", evaluation->k);
    put_measured(call, "ndcg_at_10", &evaluation->ndcg10);
    put_measured(call, "recall_at_k", &evaluation->recall);
    put_measured(call, "mrr", &evaluation->mrr);
    yyjson_mut_val *latency = yyjson_mut_obj_add_obj(call->doc, call->answer, "latency_ms");
    yyjson_mut_obj_add_real(call->doc, latency, "p50", evaluation->latency_ms_p50);
    yyjson_mut_obj_add_real(call->doc, latency, "p95", evaluation->latency_ms_p95);
    yyjson_mut_val *each = yyjson_mut_obj_add_arr(call->doc, call->answer, "each");
    for (size_t i = 0; i < evaluation->count; i++) {
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, each);
        api_put_str(call, o, "id", questions[i].id);
        yyjson_mut_obj_add_real(call->doc, o, "ndcg_at_10", evaluation->scores[i].ndcg10);
        yyjson_mut_obj_add_real(call->doc, o, "recall_at_k", evaluation->scores[i].recall);
        yyjson_mut_obj_add_real(call->doc, o, "reciprocal_rank",
                                evaluation->scores[i].reciprocal_rank);
    }
}

/* ---- the collection's own questions ---- */

static enum rc read_stored(struct api_call *call, const struct collection *collection,
                           yyjson_val **list)
{
    struct db_txn *txn;
    struct str text;
    yyjson_doc *doc;
    enum rc rc = db_read_begin(call->services->db, &txn, &call->err);
    if (rc != RC_OK)
        return rc;
    rc = question_set_get(txn, collection->row.project, collection->row.id, call->arena, &text,
                          &call->err);
    db_read_end(txn);
    if (rc == RC_OK)
        rc = json_read(text, call->arena, &doc, &call->err);
    *list = rc == RC_OK ? yyjson_doc_get_root(doc) : NULL;
    return rc;
}

static enum rc answer_questions(struct api_call *call, yyjson_val *list)
{
    call->answer = yyjson_mut_obj(call->doc);
    yyjson_mut_obj_add_val(call->doc, call->answer, "questions",
                           yyjson_val_mut_copy(call->doc, list));
    return RC_OK;
}

enum rc api_collections_questions(struct api_call *call)
{
    struct collection collection;
    yyjson_val *list;
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = read_stored(call, &collection, &list);
    return rc == RC_OK ? answer_questions(call, list) : rc;
}

enum rc api_collections_questions_put(struct api_call *call)
{
    struct collection collection;
    struct question *questions;
    size_t count;
    yyjson_val *list = yyjson_obj_get(call->body, "questions");
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK && !(yyjson_is_arr(list) && yyjson_arr_size(list) == 0))
        rc = questions_read(list, call->arena, &questions, &count, &call->err);
    if (rc != RC_OK)
        return rc;
    struct str text = json_write(list, call->arena);
    if (!text.p || text.n > QUESTION_SET_BYTES_MAX)
        return err_set_field(&call->err, ERR_TOO_LARGE, "questions",
                             "the questions are longer than %d MB together",
                             QUESTION_SET_BYTES_MAX / 1024 / 1024);
    const struct actor actor = api_actor(call);
    struct str after = arena_printf(call->arena, "{\"questions\":%zu}", yyjson_arr_size(list));
    rc = question_set_put(call->txn, collection.row.project, collection.row.id, text, &call->err);
    if (rc == RC_OK)
        rc = audit_write(call->txn, &actor, collection.row.project, "update", STR("questions"),
                         collection.row.name, STR_EMPTY, after, &call->err);
    return rc == RC_OK ? answer_questions(call, list) : rc;
}

/* The body's questions, or else the collection's own. */
static enum rc read_questions(struct api_call *call, struct question **questions, size_t *count)
{
    struct collection collection;
    yyjson_val *list = yyjson_obj_get(call->body, "questions");
    enum rc rc = RC_OK;
    if (!list && (rc = api_find_collection(call, &collection)) == RC_OK)
        rc = read_stored(call, &collection, &list);
    return rc == RC_OK ? questions_read(list, call->arena, questions, count, &call->err) : rc;
}

enum rc api_collections_tune(struct api_call *call)
{
    struct collection collection;
    struct job_row job = {0};
    enum rc rc = api_find_collection(call, &collection);
    if (rc == RC_OK)
        rc = knowledge_tune(call->services->knowledge, &collection,
                            json_get_bool(call->body, "cuts", false), call->principal->name,
                            call->arena, &job, &call->err);
    if (rc != RC_OK)
        return rc;
    call->status = 202;
    call->answer = job_encode(&job, call->doc);
    return call->answer ? RC_OK : full(call);
}

/* ---- measuring ---- */

enum rc api_collections_evaluate(struct api_call *call)
{
    struct retrieve_query how;
    struct evaluation evaluation;
    struct question *questions;
    size_t count;
    enum rc rc = api_read_query(call, &how);
    if (rc != RC_OK)
        return rc;
    rc = read_questions(call, &questions, &count);
    if (rc == RC_OK)
        rc = knowledge_evaluate(call->services->knowledge, &how, questions, count,
                                how.k ? how.k : 10, call->arena, &evaluation, &call->err);
    if (rc == RC_OK)
        encode_evaluation(call, &evaluation, questions);
    return rc;
}
