/* See evaluate.h. nDCG: discount 1/log2(rank + 1), ideal over the question's own judgements. */
#include "knowledge/evaluate.h"
#include "base/clock.h"
#include "text/json.h"
#include <math.h>
#include <stdlib.h>

#define NDCG_DEPTH          10
#define QUESTION_ARENA      (64 * 1024 * 1024)
#define CHUNKS_PER_DOCUMENT 8 /* looked at so that k documents are found */

static double gain_of(const struct question *question, struct str document)
{
    for (size_t i = 0; i < question->count; i++)
        if (str_eq(question->judgements[i].document, document))
            return MAX(question->judgements[i].gain, 0);
    return 0;
}

static int by_gain(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The best that could be reached with these judgements. */
static double ideal_dcg(const struct question *question)
{
    double gains[NDCG_DEPTH] = {0}, sum = 0;
    for (size_t i = 0; i < question->count; i++) {
        double gain = question->judgements[i].gain;
        if (gain <= gains[NDCG_DEPTH - 1])
            continue;
        gains[NDCG_DEPTH - 1] = gain;
        qsort(gains, NDCG_DEPTH, sizeof(double), by_gain);
    }
    for (size_t i = 0; i < NDCG_DEPTH; i++)
        sum += gains[i] / log2((double)i + 2);
    return sum;
}

void question_judge(const struct question *question, const struct str *found, size_t count,
                    size_t k, struct question_score *out)
{
    double dcg = 0, ideal = ideal_dcg(question);
    size_t relevant = 0, hits = 0;
    out->reciprocal_rank = 0;
    for (size_t i = 0; i < question->count; i++)
        relevant += question->judgements[i].gain > 0;
    for (size_t i = 0; i < count && i < MAX(k, (size_t)NDCG_DEPTH); i++) {
        double gain = gain_of(question, found[i]);
        if (gain <= 0)
            continue;
        if (i < NDCG_DEPTH)
            dcg += gain / log2((double)i + 2);
        if (out->reciprocal_rank == 0)
            out->reciprocal_rank = 1 / ((double)i + 1);
        hits += i < k;
    }
    out->ndcg10 = ideal > 0 ? dcg / ideal : 0;
    out->recall = relevant ? (double)hits / (double)relevant : 0;
}

/* ---- statistics ---- */

static int by_value(const void *a, const void *b) { return -by_gain(a, b); }

/* SplitMix64: small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

struct measured measure_mean(const double *first, size_t count, size_t stride, uint64_t seed)
{
    struct measured out = {0};
    double *means = xcalloc(EVALUATE_RESAMPLES, sizeof(double));
    for (size_t i = 0; i < count; i++)
        out.mean += *(const double *)((const char *)first + i * stride) / (double)count;
    for (size_t r = 0; count && r < EVALUATE_RESAMPLES; r++)
        for (size_t i = 0; i < count; i++)
            means[r] +=
                *(const double *)((const char *)first + next_random(&seed) % count * stride) /
                (double)count;
    qsort(means, EVALUATE_RESAMPLES, sizeof(double), by_value);
    out.low = means[EVALUATE_RESAMPLES * 25 / 1000];
    out.high = means[EVALUATE_RESAMPLES * 975 / 1000 - 1];
    free(means);
    return out;
}

/* ---- questions ---- */

static enum rc read_question(yyjson_val *json, struct arena *arena, struct question *out,
                             struct err *err)
{
    yyjson_val *relevant = yyjson_obj_get(json, "relevant"), *key, *value;
    size_t i, n;
    *out = (struct question){.id = json_get_text(json, "id"), .text = json_get_text(json, "text")};
    if (out->text.n == 0 || !yyjson_is_obj(relevant))
        return err_set_field(err, ERR_BAD_FIELD, "questions",
                             "each question has a 'text' and 'relevant': {DOCUMENT: GAIN}");
    out->judgements = ARENA_NEW_ARRAY(arena, struct judgement, yyjson_obj_size(relevant) + 1);
    if (!out->judgements)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for so many questions");
    yyjson_obj_foreach(relevant, i, n, key, value) out->judgements[out->count++] =
        (struct judgement){json_text(key), yyjson_get_num(value)};
    return RC_OK;
}

enum rc questions_read(yyjson_val *list, struct arena *arena, struct question **out, size_t *count,
                       struct err *err)
{
    size_t i, n = yyjson_arr_size(list);
    yyjson_val *json;
    *count = 0;
    if (n == 0 || n > EVALUATE_QUESTIONS_MAX)
        return err_set_field(err, ERR_BAD_FIELD, "questions",
                             "'questions' is a list of 1 to %d questions", EVALUATE_QUESTIONS_MAX);
    *out = ARENA_NEW_ARRAY(arena, struct question, n);
    if (!*out)
        return err_set(err, ERR_TOO_LARGE, "there is no memory for so many questions");
    yyjson_arr_foreach(list, i, n, json)
    {
        enum rc rc = read_question(json, arena, &(*out)[*count], err);
        if (rc != RC_OK)
            return rc;
        *count += !str_eq(json_get_text(json, "state"), STR("proposed"));
    }
    return RC_OK;
}

enum rc questions_encode(struct knowledge *knowledge, const struct collection *collection,
                         struct question *questions, size_t count, struct arena *arena,
                         struct err *err)
{
    struct str *texts = ARENA_NEW_ARRAY(arena, struct str, count + 1);
    float *vectors;
    unsigned dimension;
    if (!texts)
        return err_set(err, ERR_OVERLOADED, "no memory for so many questions");
    for (size_t i = 0; i < count; i++)
        texts[i] = questions[i].text;
    enum rc rc = knowledge_encode(knowledge, collection, texts, count, true, arena, &vectors,
                                  &dimension, err);
    for (size_t i = 0; rc == RC_OK && vectors && i < count; i++) {
        questions[i].vector = vectors + i * dimension;
        questions[i].dimension = dimension;
    }
    return rc;
}

/* ---- asking ---- */

/* Names of the documents that were found, each once, best first. */
static size_t documents_of(const struct retrieve_result *result, struct str *names, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < result->count && count < max; i++) {
        bool seen = false;
        for (size_t j = 0; j < count && !seen; j++)
            seen = str_eq(names[j], result->hits[i].name);
        if (!seen)
            names[count++] = result->hits[i].name;
    }
    return count;
}

static enum rc ask(struct knowledge *knowledge, const struct retrieve_query *how,
                   const struct question *question, size_t k, struct question_score *score,
                   struct err *err)
{
    struct retrieve_query query = *how;
    struct retrieve_result result;
    struct arena arena;
    size_t depth = MAX(k, (size_t)NDCG_DEPTH);
    arena_init(&arena, QUESTION_ARENA);
    query.text = question->text;
    query.vector = question->vector;
    query.dimension = question->dimension;
    query.k = MIN(depth * CHUNKS_PER_DOCUMENT, (size_t)1000);
    struct str *names = ARENA_NEW_ARRAY(&arena, struct str, depth);
    int64_t began = clock_monotonic_ns();
    enum rc rc = names ? knowledge_search(knowledge, &query, &arena, &result, err)
                       : err_set(err, ERR_OVERLOADED, "no memory for this request");
    score->latency_ms = (double)(clock_monotonic_ns() - began) / NS_PER_MS;
    if (rc == RC_OK)
        question_judge(question, names, documents_of(&result, names, depth), k, score);
    arena_fini(&arena);
    return rc;
}

static double percentile(const struct question_score *scores, size_t count, double share)
{
    double *values = xcalloc(count + 1, sizeof(double));
    for (size_t i = 0; i < count; i++)
        values[i] = scores[i].latency_ms;
    qsort(values, count, sizeof(double), by_value);
    double value = count ? values[MIN((size_t)(share * (double)count), count - 1)] : 0;
    free(values);
    return value;
}

enum rc knowledge_evaluate(struct knowledge *knowledge, const struct retrieve_query *how,
                           const struct question *questions, size_t count, size_t k,
                           struct arena *arena, struct evaluation *out, struct err *err)
{
    enum rc rc = RC_OK;
    *out = (struct evaluation){.count = count, .k = k};
    out->scores = ARENA_NEW_ARRAY(arena, struct question_score, count + 1);
    if (!out->scores)
        return err_set(err, ERR_OVERLOADED, "no memory for so many questions");
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        rc = ask(knowledge, how, &questions[i], k, &out->scores[i], err);
    if (rc != RC_OK)
        return rc;
    const size_t stride = sizeof(struct question_score);
    out->ndcg10 = measure_mean(&out->scores[0].ndcg10, count, stride, 1);
    out->recall = measure_mean(&out->scores[0].recall, count, stride, 2);
    out->mrr = measure_mean(&out->scores[0].reciprocal_rank, count, stride, 3);
    out->latency_ms_p50 = percentile(out->scores, count, 0.5);
    out->latency_ms_p95 = percentile(out->scores, count, 0.95);
    return RC_OK;
}
