/* The encoder: vectors and scores as sentence-transformers makes them (tests/data/encoder, from
 * checkpoints with random weights), every set of kernels against the plain implementation, batches,
 * long texts, and what cannot be used. */
#include "encoder/encoder.h"
#include "encoder/forward.h"
#include "encoder/kernels.h"
#include "encoder/reference.h"
#include "expected.h"
#include <math.h>
#include <unistd.h>

#define TEXTS_MAX 64

struct fixture {
    struct arena arena;
    struct encoder *encoder, *reranker;
    yyjson_val *expected;
    struct str texts[TEXTS_MAX];
    size_t count;
};

static void open_tiny(const char *name, enum encoder_precision precision, struct encoder **out)
{
    struct err err;
    if (encoder_open(expected_path(name), precision, out, &err))
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    arena_init(&f->arena, 16 << 20);
    f->expected = expected_read(&f->arena, "expected.json");
    open_tiny("tiny", ENCODER_F32, &f->encoder);
    open_tiny("tiny-reranker", ENCODER_F32, &f->reranker);
    yyjson_val *sentences = yyjson_obj_get(f->expected, "sentences"), *one;
    size_t i, count;
    yyjson_arr_foreach(sentences, i, count, one) f->texts[f->count++] = json_text(one);
    assert_in_range(f->count, 8, TEXTS_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    encoder_close(f->encoder);
    encoder_close(f->reranker);
    arena_fini(&f->arena);
    free(f);
    return 0;
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static float *encode(const struct encoder *e, const struct str *texts, size_t count)
{
    struct err err;
    float *vectors = xcalloc(count, encoder_dimension(e) * sizeof(float));
    if (encoder_encode(e, texts, count, vectors, NULL, &err))
        fail_msg("%s", err.message);
    return vectors;
}

static void check_vectors(const struct encoder *e, const struct str *texts, size_t count,
                          yyjson_val *expected)
{
    unsigned n = encoder_dimension(e);
    float *vectors = encode(e, texts, count);
    for (size_t i = 0; i < count; i++) {
        yyjson_val *row = yyjson_arr_get(expected, i);
        assert_int_equal(yyjson_arr_size(row), n);
        for (unsigned k = 0; k < n; k++) {
            double difference = fabs(vectors[i * n + k] - yyjson_get_num(yyjson_arr_get(row, k)));
            if (difference > 1e-5)
                fail_msg("\"%.*s\": off by %g", STR_ARG(texts[i]), difference);
        }
    }
    free(vectors);
}

static void test_vectors(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(encoder_dimension(f->encoder), 40);
    assert_int_equal(encoder_window_tokens(f->encoder), 48);
    assert_false(encoder_is_reranker(f->encoder));
    check_vectors(f->encoder, f->texts, f->count, yyjson_obj_get(f->expected, "vectors"));
}

static void test_scores(void **state)
{
    struct fixture *f = *state;
    yyjson_val *pair, *pairs = yyjson_obj_get(f->expected, "pairs");
    yyjson_val *scores = yyjson_obj_get(f->expected, "scores");
    size_t i, count;
    struct err err;
    float score;
    assert_true(encoder_is_reranker(f->reranker));
    yyjson_arr_foreach(pairs, i, count, pair)
    {
        struct str text = json_text(yyjson_arr_get(pair, 1));
        assert_int_equal(
            encoder_rank(f->reranker, json_text(yyjson_arr_get(pair, 0)), &text, 1, &score, &err),
            RC_OK);
        assert_true(fabs(score - yyjson_get_num(yyjson_arr_get(scores, i))) < 1e-4);
    }
    assert_true(count >= 10);
    assert_int_equal(encoder_rank(f->encoder, STR("a"), f->texts, 1, &score, &err), RC_INVALID);
}

/* Sequences of many lengths, so that tiles of every number of rows and partial panels occur. */
static void make_sequences(struct sequences *s, unsigned vocabulary, size_t count)
{
    s->ids = xcalloc(count * 64, sizeof(*s->ids));
    s->types = xcalloc(count * 64, 1);
    s->starts = xcalloc(count + 1, sizeof(*s->starts));
    for (size_t i = 0; i < count; i++) {
        for (size_t t = 0; t < 1 + i * 5 % 47; t++) {
            s->ids[s->token_count] = (uint32_t)((i * 131 + t * 17) % vocabulary);
            s->types[s->token_count++] = (uint8_t)(t % 5 == 0);
        }
        s->starts[++s->sequence_count] = (uint32_t)s->token_count;
    }
}

static void check_kernels(const struct checkpoint *c, const struct sequences *s,
                          const float *reference, const struct kernels *kernels,
                          enum encoder_precision precision)
{
    static const double LEAST[] = {0.999999, 0.9995, 0.99};
    struct forward *forward;
    struct err err;
    float *hidden = xcalloc(s->token_count, c->hidden * sizeof(float));
    assert_int_equal(forward_new_with(c, precision, kernels, &forward, &err), RC_OK);
    assert_int_equal(forward_run(forward, s, hidden, &err), RC_OK);
    for (size_t t = 0; t < s->token_count; t++) {
        double same = cosine(hidden + t * c->hidden, reference + t * c->hidden, c->hidden);
        if (!(same >= LEAST[forward_precision(forward)]))
            fail_msg("%s, precision %d, token %zu: cosine %f", kernels->name, precision, t, same);
    }
    forward_free(forward);
    free(hidden);
}

static void test_kernels(void **state)
{
    struct checkpoint c;
    struct sequences s = {0};
    struct err err;
    size_t sets = 0;
    assert_int_equal(checkpoint_open(expected_path("tiny"), &c, &err), RC_OK);
    make_sequences(&s, c.vocabulary, 25);
    float *reference = xcalloc(s.token_count, c.hidden * sizeof(float));
    assert_int_equal(reference_forward(&c, &s, reference, &err), RC_OK);
    for (const struct kernels *const *k = kernels_usable(); *k; k++, sets++)
        for (int precision = ENCODER_F32; precision <= ENCODER_INT8; precision++)
            check_kernels(&c, &s, reference, *k, (enum encoder_precision)precision);
    assert_true(sets >= 1);
    free(reference);
    free(s.ids);
    free(s.types);
    free(s.starts);
    checkpoint_close(&c);
}

/* Bit for bit: alone, in a batch, in another order. */
static void test_batches(void **state)
{
    struct fixture *f = *state;
    for (int precision = ENCODER_F32; precision <= ENCODER_INT8; precision++) {
        struct encoder *e;
        struct str backwards[TEXTS_MAX];
        open_tiny("tiny", (enum encoder_precision)precision, &e);
        size_t bytes = encoder_dimension(e) * sizeof(float);
        float *together = encode(e, f->texts, f->count);
        for (size_t i = 0; i < f->count; i++)
            backwards[i] = f->texts[f->count - 1 - i];
        float *turned = encode(e, backwards, f->count);
        for (size_t i = 0; i < f->count; i++) {
            float *alone = encode(e, &f->texts[i], 1);
            assert_memory_equal(alone, (char *)together + i * bytes, bytes);
            assert_memory_equal(alone, (char *)turned + (f->count - 1 - i) * bytes, bytes);
            free(alone);
        }
        free(together);
        free(turned);
        encoder_close(e);
    }
}

static struct str repeat(const char *words, size_t times, struct arena *arena)
{
    size_t n = strlen(words);
    char *p = arena_alloc(arena, n * times);
    assert_non_null(p);
    for (size_t i = 0; i < times; i++)
        memcpy(p + i * n, words, n);
    return str_make(p, n * times);
}

/* What comes after the window changes the vector, and the vector is that of its windows. */
static void test_long_texts(void **state)
{
    struct fixture *f = *state;
    struct err err;
    uint64_t tokens;
    struct str window = repeat("the dog ", 23, &f->arena); /* 46 tokens: a whole window */
    struct str twice = repeat("the dog ", 46, &f->arena);
    struct str other = arena_concat(&f->arena, window, repeat("a fox ", 23, &f->arena));
    const struct str texts[] = {window, twice, other};
    unsigned n = encoder_dimension(f->encoder);
    assert_int_equal(encoder_count_tokens(f->encoder, window), 46);
    float *vectors = encode(f->encoder, texts, 3);
    assert_true(cosine(vectors, vectors + n, n) > 0.999999);
    assert_true(cosine(vectors, vectors + 2 * n, n) < 0.9999);
    assert_int_equal(encoder_encode(f->encoder, &other, 1, vectors, &tokens, &err), RC_OK);
    assert_int_equal(tokens, 2 * 48);
    free(vectors);
    struct str huge = repeat("the lazy dog ", 20000, &f->arena);
    vectors = encode(f->encoder, &huge, 1);
    assert_true(fabs(cosine(vectors, vectors, n) - 1) < 1e-6);
    free(vectors);
}

/* A long text is found by its best window; too long a query is told, not cut. */
static void test_long_ranks(void **state)
{
    struct fixture *f = *state;
    struct err err;
    float alone, within;
    struct str answer = STR("the lazy dog"), query = STR("what is a dog");
    struct str filler = repeat("a fox ", 200, &f->arena);
    assert_int_equal(encoder_rank(f->reranker, query, &filler, 1, &alone, &err), RC_OK);
    struct str both = arena_concat(&f->arena, filler, answer);
    assert_int_equal(encoder_rank(f->reranker, query, &both, 1, &within, &err), RC_OK);
    assert_true(isfinite(within) && within >= 0 && within <= 1);
    struct str long_query = repeat("dog ", 100, &f->arena);
    assert_int_equal(encoder_rank(f->reranker, long_query, &answer, 1, &alone, &err), RC_INVALID);
    assert_int_equal(err.code, ERR_CONTEXT_LENGTH);
}

static void test_registry(void **state)
{
    struct encoder *a, *b, *c;
    struct err err;
    struct encoders *encoders = encoders_new(str_from(expected_path("")));
    assert_int_equal(encoders_get(encoders, STR("tiny"), &a, &err), RC_OK);
    assert_int_equal(encoders_get(encoders, STR("tiny"), &b, &err), RC_OK);
    assert_ptr_equal(a, b);
    assert_int_equal(encoders_get(encoders, STR("tiny:int8"), &c, &err), RC_OK);
    assert_ptr_not_equal(a, c);
    encoders_put(encoders, a);
    encoders_put(encoders, b);
    encoders_put(encoders, c);
    assert_int_equal(encoders_get(encoders, STR_EMPTY, &a, &err), RC_NOT_FOUND);
    assert_int_equal(err.code, ERR_MODEL_NOT_FOUND);
    assert_non_null(strstr(err.message, "capstan model pull all-minilm-l6-v2"));
    assert_int_equal(encoders_get(encoders, STR("../encoder/tiny"), &a, &err), RC_NOT_FOUND);
    assert_int_equal(encoders_get(encoders, STR("tiny:int4"), &a, &err), RC_NOT_FOUND);
    encoders_close_unused(encoders); /* used a moment ago: they stay */
    assert_int_equal(encoders_get(encoders, STR("tiny"), &b, &err), RC_OK);
    encoders_put(encoders, b);
    encoders_free(encoders);
}

/* A checkpoint of another architecture, or cut off, says so. */
static void write_file(const char *folder, const char *name, struct str text)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text.p, 1, text.n, file), text.n);
    fclose(file);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    char folder[] = "/tmp/capstan-encoder-XXXXXX", tiny[4096];
    struct encoder *e;
    struct err err;
    struct str weights, config;
    assert_non_null(mkdtemp(folder));
    snprintf(tiny, sizeof(tiny), "%s", expected_path("tiny"));
    assert_int_equal(encoder_open(folder, ENCODER_F32, &e, &err), RC_INVALID);
    write_file(folder, "config.json", STR("{\"model_type\":\"roberta\"}"));
    assert_int_equal(encoder_open(folder, ENCODER_F32, &e, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "roberta"));
    assert_int_equal(read_file_if_there(tiny, "config.json", 1 << 20, &f->arena, &config, &err), 0);
    assert_int_equal(
        read_file_if_there(tiny, "model.safetensors", 1 << 20, &f->arena, &weights, &err), 0);
    write_file(folder, "config.json", config);
    write_file(folder, "model.safetensors", str_slice(weights, 0, weights.n - 100));
    assert_int_equal(encoder_open(folder, ENCODER_F32, &e, &err), RC_CORRUPT);
    write_file(folder, "model.safetensors", weights);
    assert_int_equal(encoder_open(folder, ENCODER_F32, &e, &err), RC_INVALID);
    assert_non_null(strstr(err.message, "vocab.txt"));
    char path[64];
    snprintf(path, sizeof(path), "%s/config.json", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    unlink(path);
    rmdir(folder);
}

/* The real model, where it is at hand. */
static void test_minilm(void **state)
{
    struct fixture *f = *state;
    const char *folder = getenv("CAPSTAN_TEST_ENCODER");
    struct encoder *e;
    struct err err;
    if (!folder)
        skip();
    yyjson_val *expected = expected_read(&f->arena, "minilm.json");
    assert_int_equal(encoder_open(folder, ENCODER_F32, &e, &err), RC_OK);
    check_vectors(e, f->texts, 8, yyjson_obj_get(expected, "vectors"));
    encoder_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),    cmocka_unit_test(test_scores),
        cmocka_unit_test(test_kernels),    cmocka_unit_test(test_batches),
        cmocka_unit_test(test_long_texts), cmocka_unit_test(test_long_ranks),
        cmocka_unit_test(test_registry),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_minilm),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
