/* POST /api/collections/{name}/evaluate: questions with judged documents against the search as it
 * is, or as the body says. */
#include "api/api_knowledge.h"
#include "knowledge/evaluate.h"
#include "text/json.h"

static enum rc full(struct api_call *call)
{
    return err_set(&call->err, ERR_TOO_LARGE, "there is no memory for so many questions");
}

static enum rc read_question(struct api_call *call, yyjson_val *json, struct question *out)
{
    yyjson_val *relevant = yyjson_obj_get(json, "relevant"), *key, *value;
    size_t i, n;
    out->id = json_get_text(json, "id");
    out->text = json_get_text(json, "text");
    if (out->text.n == 0 || !yyjson_is_obj(relevant))
        return err_set_field(&call->err, ERR_BAD_FIELD, "questions",
                             "each question has a 'text' and 'relevant': {DOCUMENT: GAIN}");
    out->judgements = ARENA_NEW_ARRAY(call->arena, struct judgement, yyjson_obj_size(relevant) + 1);
    if (!out->judgements)
        return full(call);
    yyjson_obj_foreach(relevant, i, n, key, value) out->judgements[out->count++] =
        (struct judgement){json_text(key), yyjson_get_num(value)};
    return RC_OK;
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

enum rc api_collections_evaluate(struct api_call *call)
{
    struct retrieve_query how;
    struct evaluation evaluation;
    yyjson_val *json;
    size_t i, n;
    enum rc rc = api_read_query(call, &how);
    if (rc != RC_OK)
        return rc;
    yyjson_val *list = yyjson_obj_get(call->body, "questions");
    size_t count = yyjson_arr_size(list);
    if (count == 0 || count > EVALUATE_QUESTIONS_MAX)
        return err_set_field(&call->err, ERR_BAD_FIELD, "questions",
                             "'questions' is a list of 1 to %d questions", EVALUATE_QUESTIONS_MAX);
    struct question *questions = ARENA_NEW_ARRAY(call->arena, struct question, count);
    if (!questions)
        return full(call);
    yyjson_arr_foreach(list, i, n, json) if (rc == RC_OK) rc =
        read_question(call, json, &questions[i]);
    if (rc == RC_OK)
        rc = knowledge_evaluate(call->services->knowledge, &how, questions, count,
                                how.k ? how.k : 10, call->arena, &evaluation, &call->err);
    if (rc == RC_OK)
        encode_evaluation(call, &evaluation, questions);
    return rc;
}
