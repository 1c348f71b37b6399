/* Embeddings and reranking for the doors. A request becomes one job of the worker pool; the number
 * of jobs is bounded here, below the pool's own bound, so that a flood of them cannot keep the
 * other work of the pool waiting for longer than these take. */
#include "encoder/embedder.h"
#include "gateway/embedder.h"
#include "base/hash.h"
#include "text/decode.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#define JOBS_MAX         64   /* waiting and under way, of all loops */
#define TEXTS_MAX        2048 /* of a request, as at OpenAI */
#define DOCUMENTS_MAX    1000
#define ARENA_BYTES_MAX  (256u << 20)
#define ANSWER_BYTES_MAX (128u << 20)
#define FLOAT_BYTES_MAX  16 /* "-1.23456789e-05," */

static struct {
    struct encoders *encoders;
    struct worker_pool *workers;
    atomic_int jobs;
} service;

/* ---- requests ---- */

static enum rc refuse_tokens(struct err *err)
{
    return err_set_field(err, ERR_UNSUPPORTED, "input",
                         "this model does not know other models' token numbers: send texts");
}

static enum rc no_memory(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request needs more memory than it may have");
}

/* A text, or a list of texts. Cohere's documents may also be objects with a text. */
static enum rc take_texts(yyjson_val *value, const char *field, size_t count_max,
                          struct arena *arena, struct embed_request *out, struct err *err)
{
    size_t i, count = yyjson_is_arr(value) ? yyjson_arr_size(value) : 1;
    yyjson_val *item;
    if (!value || yyjson_is_null(value))
        return err_set_field(err, ERR_MISSING_FIELD, field, "give the texts as '%s'", field);
    if (!count || count > count_max)
        return err_set_field(err, ERR_BAD_FIELD, field, "'%s' has 1 to %zu texts, not %zu", field,
                             count_max, count);
    out->texts = ARENA_NEW_ARRAY(arena, struct str, count);
    if (!out->texts)
        return no_memory(err);
    out->count = count;
    if (yyjson_is_str(value)) {
        out->texts[0] = json_text(value);
        return RC_OK;
    }
    yyjson_arr_foreach(value, i, count, item)
    {
        yyjson_val *text = yyjson_is_obj(item) ? yyjson_obj_get(item, "text") : item;
        if (yyjson_is_int(item) || yyjson_is_arr(item))
            return refuse_tokens(err);
        if (!yyjson_is_str(text))
            return err_set_field(err, ERR_BAD_FIELD, field, "'%s[%zu]' is not a text", field, i);
        out->texts[i] = json_text(text);
    }
    if (!yyjson_is_arr(value))
        return err_set_field(err, ERR_BAD_FIELD, field, "'%s' is a text or a list of texts", field);
    return RC_OK;
}

static enum rc take_embedding(const struct place *at, struct arena *arena,
                              struct embed_request *out, struct err *err)
{
    static const char *const formats[] = {"float", "base64", NULL};
    int format = 0;
    int64_t dimensions = 0;
    enum rc rc;
    if ((rc =
             take_texts(yyjson_obj_get(at->value, "input"), "input", TEXTS_MAX, arena, out, err)) ||
        (rc = decode_word(at, "encoding_format", formats, &format, err)) ||
        (rc = decode_i64(at, "dimensions", 1, 65536, &dimensions, err)))
        return rc;
    out->base64 = format == 1;
    out->dimensions = (unsigned)dimensions;
    return RC_OK;
}

static enum rc take_rerank(const struct place *at, struct arena *arena, struct embed_request *out,
                           struct err *err)
{
    int64_t top = INT64_MAX;
    enum rc rc;
    if ((rc = decode_str(at, "query", DECODE_REQUIRED, 1 << 20, &out->query, err)) ||
        (rc = take_texts(yyjson_obj_get(at->value, "documents"), "documents", DOCUMENTS_MAX, arena,
                         out, err)) ||
        (rc = decode_i64(at, "top_n", 1, INT64_MAX, &top, err)) ||
        (rc = decode_bool(at, "return_documents", &out->return_documents, err)))
        return rc;
    out->top = (size_t)MIN(top, (int64_t)out->count);
    return RC_OK;
}

enum rc embed_request_decode(struct str body, bool rerank, struct arena *arena,
                             struct embed_request *out, struct err *err)
{
    yyjson_doc *doc;
    struct place at;
    *out = (struct embed_request){.rerank = rerank};
    enum rc rc = json_read(body, arena, &doc, err);
    if (rc)
        return rc;
    decode_root(&at, yyjson_doc_get_root(doc), "");
    if ((rc = decode_expect_object(&at, err)) ||
        (rc = decode_str(&at, "model", DECODE_OPTIONAL, 1024, &out->model, err)))
        return rc;
    return rerank ? take_rerank(&at, arena, out, err) : take_embedding(&at, arena, out, err);
}

/* ---- answers ---- */

static void put_usage(struct json_writer *w, uint64_t tokens)
{
    json_key(w, "usage");
    json_begin_object(w);
    json_put_uint(w, "prompt_tokens", tokens);
    json_put_uint(w, "total_tokens", tokens);
    json_end_object(w);
}

static enum rc put_vector(struct json_writer *w, struct buf *out, const float *vector, unsigned n,
                          bool base64)
{
    char *p;
    size_t at = 0, room = base64 ? (n * sizeof(float) + 2) / 3 * 4 + 3 : n * FLOAT_BYTES_MAX + 3;
    json_key(w, "embedding");
    enum rc rc = w->rc ? w->rc : buf_reserve(out, room, &p);
    if (rc)
        return rc;
    if (base64) {
        p[at++] = '"';
        at += base64_encode(vector, n * sizeof(float), p + at);
        p[at++] = '"';
    } else {
        p[at++] = '[';
        for (unsigned i = 0; i < n; i++)
            at += (size_t)snprintf(p + at, FLOAT_BYTES_MAX + 1, "%s%.9g", i ? "," : "",
                                   (double)vector[i]);
        p[at++] = ']';
    }
    ASSERT(at <= room);
    buf_added(out, at);
    return RC_OK;
}

/* The first `n` numbers of each vector, of unit length again. */
static void shorten(float *vector, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += (double)vector[i] * vector[i];
    for (unsigned i = 0; i < n; i++)
        vector[i] = (float)(vector[i] / fmax(sqrt(sum), 1e-12));
}

static enum rc write_vectors(const struct embed_request *request, struct buf *out,
                             const float *vectors, unsigned dimension, uint64_t tokens)
{
    struct json_writer w = json_writer_to(out);
    unsigned n = request->dimensions ? request->dimensions : dimension;
    json_begin_object(&w);
    json_put_text(&w, "object", "list");
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = 0; i < request->count; i++) {
        json_begin_object(&w);
        json_put_text(&w, "object", "embedding");
        json_put_uint(&w, "index", i);
        enum rc rc = put_vector(&w, out, vectors + i * dimension, n, request->base64);
        if (rc)
            return rc;
        json_end_object(&w);
    }
    json_end_array(&w);
    json_put_string(&w, "model", request->model);
    put_usage(&w, tokens);
    json_end_object(&w);
    return w.rc;
}

static enum rc encode(const struct embed_request *request, const struct encoder *encoder,
                      struct buf *out, struct err *err)
{
    unsigned dimension = encoder_dimension(encoder);
    uint64_t tokens;
    if (request->dimensions > dimension)
        return err_set_field(err, ERR_BAD_FIELD, "dimensions",
                             "this model's vectors have %u dimensions; fewer can be asked for",
                             dimension);
    float *vectors = malloc(request->count * dimension * sizeof(float));
    if (!vectors)
        return err_set(err, ERR_OVERLOADED, "no memory for the vectors");
    enum rc rc = encoder_encode(encoder, request->texts, request->count, vectors, &tokens, err);
    for (size_t i = 0; !rc && request->dimensions && i < request->count; i++)
        shorten(vectors + i * dimension, request->dimensions);
    if (!rc && write_vectors(request, out, vectors, dimension, tokens))
        rc = no_memory(err);
    free(vectors);
    return rc;
}

struct ranked {
    float score;
    size_t index;
};

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static enum rc write_ranks(const struct embed_request *request, struct buf *out,
                           const struct ranked *ranked)
{
    struct json_writer w = json_writer_to(out);
    json_begin_object(&w);
    json_put_string(&w, "model", request->model);
    json_key(&w, "results");
    json_begin_array(&w);
    for (size_t i = 0; i < request->top; i++) {
        json_begin_object(&w);
        json_put_uint(&w, "index", ranked[i].index);
        json_put_double(&w, "relevance_score", (double)ranked[i].score);
        if (request->return_documents) {
            json_key(&w, "document");
            json_begin_object(&w);
            json_put_string(&w, "text", request->texts[ranked[i].index]);
            json_end_object(&w);
        }
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    return w.rc;
}

static enum rc rank(const struct embed_request *request, const struct encoder *encoder,
                    struct arena *arena, struct buf *out, struct err *err)
{
    float *scores = ARENA_NEW_ARRAY(arena, float, request->count);
    struct ranked *ranked = ARENA_NEW_ARRAY(arena, struct ranked, request->count);
    if (!scores || !ranked)
        return no_memory(err);
    enum rc rc = encoder_rank(encoder, request->query, request->texts, request->count, scores, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < request->count; i++)
        ranked[i] = (struct ranked){.score = scores[i], .index = i};
    qsort(ranked, request->count, sizeof(*ranked), by_score);
    return write_ranks(request, out, ranked) ? no_memory(err) : RC_OK;
}

enum rc embed_request_answer(const struct embed_request *request, struct encoders *encoders,
                             struct str name, struct arena *arena, struct str *json,
                             struct err *err)
{
    struct encoder *encoder;
    struct buf out;
    enum rc rc = encoders_get(encoders, name, &encoder, err);
    if (rc)
        return rc;
    buf_init(&out, ANSWER_BYTES_MAX);
    if (request->rerank)
        rc =
            encoder_is_reranker(encoder)
                ? rank(request, encoder, arena, &out, err)
                : err_set_field(err, ERR_UNSUPPORTED, "model",
                                "'%.*s' makes vectors; /v1/rerank needs a reranker", STR_ARG(name));
    else
        rc = !encoder_is_reranker(encoder)
                 ? encode(request, encoder, &out, err)
                 : err_set_field(err, ERR_UNSUPPORTED, "model",
                                 "'%.*s' is a reranker: it answers /v1/rerank", STR_ARG(name));
    if (!rc) {
        *json = arena_copy(arena, buf_str(&out));
        if (!json->p)
            rc = no_memory(err);
    }
    buf_fini(&out);
    encoders_put(encoders, encoder);
    return rc;
}

/* ---- the gateway's ---- */

struct job {
    struct work work;
    struct embed_call *call; /* NULL: nobody waits any more */
    struct arena arena;
    struct embed_request request;
    struct str name, json;
    enum rc rc;
    struct err err;
};

static void job_free(struct job *job)
{
    atomic_fetch_sub(&service.jobs, 1);
    arena_fini(&job->arena);
    free(job);
}

static void job_work(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    job->rc = embed_request_answer(&job->request, service.encoders, job->name, &job->arena,
                                   &job->json, &job->err);
}

static void job_done(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    if (job->call)
        embed_end(job->call, job->json, job->rc ? &job->err : NULL);
    job_free(job);
}

/* A computation under way goes on to its end: it is short, and holds nothing of the call. */
static void cancel(void *answer)
{
    struct job *job = answer;
    job->call = NULL;
}

static void *start(void *arg, struct embed_call *call, bool rerank, struct str model,
                   struct str body, struct err *err)
{
    UNUSED(arg);
    if (atomic_fetch_add(&service.jobs, 1) >= JOBS_MAX) {
        atomic_fetch_sub(&service.jobs, 1);
        err_set(err, ERR_OVERLOADED, "%d requests wait for the encoder already; try again",
                JOBS_MAX);
        return NULL;
    }
    struct job *job = xcalloc(1, sizeof(*job));
    job->call = call;
    job->work = (struct work){.work = job_work, .done = job_done};
    arena_init(&job->arena, ARENA_BYTES_MAX);
    job->name = arena_copy(&job->arena, model);
    body = arena_copy(&job->arena, body);
    enum rc rc = body.p && job->name.p ? RC_OK : no_memory(err);
    if (!rc)
        rc = embed_request_decode(body, rerank, &job->arena, &job->request, err);
    if (!rc && worker_submit(service.workers, &job->work) != RC_OK)
        rc = err_set(err, ERR_OVERLOADED, "the server is too busy; try again");
    if (rc) {
        job_free(job);
        return NULL;
    }
    return job;
}

void embedder_register(struct encoders *encoders, struct worker_pool *workers)
{
    service.encoders = encoders;
    service.workers = workers;
    gateway_register_embedder(&(struct embedder){.start = start, .cancel = cancel});
}
