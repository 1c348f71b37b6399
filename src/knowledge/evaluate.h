/* How good a collection's search is: questions with judged documents in, nDCG@10, recall@k, MRR and
 * latency out, with confidence intervals by bootstrap. Judged is the document, by its name, so that
 * settings which cut it in other ways can be compared. */
#pragma once
#include "knowledge/retrieve.h"

#define EVALUATE_QUESTIONS_MAX 5000
#define EVALUATE_RESAMPLES     1000

struct judgement {
    struct str document; /* name */
    double gain;         /* > 0: relevant */
};

struct question {
    struct str id, text;
    struct judgement *judgements;
    size_t count;
    const float *vector; /* NULL: the collection's encoder makes it for each search */
    size_t dimension;
};

struct question_score {
    double ndcg10, recall, reciprocal_rank;
    double latency_ms;
};

struct measured {
    double mean, low, high; /* 95 % */
};

struct evaluation {
    struct question_score *scores; /* one a question */
    size_t count, k;
    struct measured ndcg10, recall, mrr;
    double latency_ms_p50, latency_ms_p95;
};

/* From [{"id", "text", "relevant": {DOCUMENT: GAIN}, "state"}]; those that a person has not
 * accepted are left out. Arena memory; ERR_BAD_FIELD. */
enum rc questions_read(yyjson_val *list, struct arena *arena, struct question **out, size_t *count,
                       struct err *err) MUST_CHECK;
/* Their vectors, so that several settings are measured without encoding again. */
enum rc questions_encode(struct knowledge *knowledge, const struct collection *collection,
                         struct question *questions, size_t count, struct arena *arena,
                         struct err *err) MUST_CHECK;
/* `how` without its text; k is of recall@k. Worker; everything in the arena. */
enum rc knowledge_evaluate(struct knowledge *knowledge, const struct retrieve_query *how,
                           const struct question *questions, size_t count, size_t k,
                           struct arena *arena, struct evaluation *out, struct err *err) MUST_CHECK;
/* One question's scores from the names that were found, best first, each once. */
void question_judge(const struct question *question, const struct str *found, size_t count,
                    size_t k, struct question_score *out);
/* The mean of values `stride` bytes apart, with its interval; the same seed, the same numbers. */
struct measured measure_mean(const double *first, size_t count, size_t stride, uint64_t seed);
