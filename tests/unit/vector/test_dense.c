/* Vector segments beside brute force: metrics, filters, edges, damaged files; and all kernels
 * beside the plain ones. */
#include "base/rand.h"
#include "vector/dense_private.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIND SEGMENT_KIND('T', 'V', 'E', 'C')

/* ---- a segment on files in memory ---- */

#define QUERIES 40

struct stand {
    struct file_system *fs;
    struct segment *segment;
    struct dense *dense;
    struct dense_scratch *scratch;
    float *vectors; /* count to search in, then QUERIES of the same kind to search for */
    size_t count;
    unsigned dimension;
    enum vector_metric metric;
};

static float gaussian(void)
{
    double sum = 0;
    for (int i = 0; i < 6; i++)
        sum += rand_unit();
    return (float)(sum - 3);
}

static void unit_length(float *x, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    for (unsigned i = 0; i < n && sum > 0; i++)
        x[i] = (float)(x[i] / sqrt(sum));
}

/* Around `clusters` centres; 0: no centres. */
static float *make_vectors(size_t count, unsigned n, size_t clusters, enum vector_metric metric)
{
    float *vectors = malloc(MAX(count, 1) * n * sizeof(float));
    float *centres = calloc(MAX(clusters, 1) * n, sizeof(float));
    for (size_t i = 0; i < clusters * n; i++)
        centres[i] = 2 * gaussian();
    for (size_t v = 0; v < count; v++) {
        const float *centre = centres + (clusters ? rand_below(clusters) : 0) * n;
        for (unsigned i = 0; i < n; i++)
            vectors[v * n + i] = centre[i] + gaussian();
        if (metric == METRIC_COSINE)
            unit_length(vectors + v * n, n);
    }
    free(centres);
    return vectors;
}

static enum rc stand_build(struct stand *stand, const struct dense_options *options,
                           bool (*cancelled)(void *), void *arg)
{
    struct segment_writer *writer;
    int64_t bytes;
    stand->fs = file_system_memory_new(1);
    assert_int_equal(file_make_directory(stand->fs, "/v"), RC_OK);
    assert_int_equal(segment_create(stand->fs, "/v/one", KIND, 1, &writer, NULL), RC_OK);
    enum rc rc = dense_build(writer, stand->vectors, stand->count, options, cancelled, arg, NULL);
    if (rc != RC_OK) {
        segment_abandon(writer);
        return rc;
    }
    return segment_seal(writer, &bytes);
}

static struct stand *stand_new(size_t count, unsigned n, size_t clusters, enum vector_metric metric)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    struct dense_options options = {.dimension = n, .metric = metric, .seed = 5};
    *stand = (struct stand){.vectors = make_vectors(count + QUERIES, n, clusters, metric),
                            .count = count,
                            .dimension = n,
                            .metric = metric,
                            .scratch = dense_scratch_new()};
    assert_int_equal(stand_build(stand, &options, NULL, NULL), RC_OK);
    assert_int_equal(segment_open(stand->fs, "/v/one", KIND, 1, &stand->segment, NULL), RC_OK);
    assert_int_equal(dense_open(stand->segment, &stand->dense, NULL), RC_OK);
    assert_int_equal(dense_count(stand->dense), count);
    return stand;
}

static void stand_free(struct stand *stand)
{
    dense_close(stand->dense);
    segment_close(stand->segment);
    file_system_free(stand->fs);
    dense_scratch_free(stand->scratch);
    free(stand->vectors);
    free(stand);
}

static double score_of(const struct stand *stand, const float *query, size_t slot)
{
    const float *v = stand->vectors + slot * stand->dimension;
    double sum = 0;
    for (unsigned i = 0; i < stand->dimension; i++)
        sum += stand->metric == METRIC_L2 ? -((double)query[i] - v[i]) * ((double)query[i] - v[i])
                                          : (double)query[i] * v[i];
    return sum;
}

/* Score of the k-th best among the allowed, by brute force. */
static double kth_score(const struct stand *stand, const float *query, size_t k,
                        const uint64_t *allowed)
{
    double best[128];
    size_t count = 0;
    assert_true(k <= COUNT_OF(best));
    for (size_t slot = 0; slot < stand->count; slot++) {
        if (allowed && !(allowed[slot / 64] >> (slot % 64) & 1))
            continue;
        double score = score_of(stand, query, slot);
        if (count == k && score <= best[k - 1])
            continue;
        size_t at = count < k ? count++ : k - 1;
        for (; at > 0 && best[at - 1] < score; at--)
            best[at] = best[at - 1];
        best[at] = score;
    }
    return count > 0 ? best[count - 1] : 0;
}

/* Recall over vectors that are not in the segment; checks what every answer must hold. */
static double measure(struct stand *stand, size_t k, double recall, const uint64_t *allowed,
                      size_t allowed_count, size_t queries)
{
    struct dense_hit hits[128];
    size_t found = 0, wanted = 0;
    assert_true(queries <= QUERIES);
    for (size_t q = 0; q < queries; q++) {
        const float *query = stand->vectors + (stand->count + q) * stand->dimension;
        struct dense_query asked = {.vector = query,
                                    .k = k,
                                    .recall = recall,
                                    .allowed = allowed,
                                    .allowed_count = allowed_count};
        size_t count = dense_search(stand->dense, &asked, stand->scratch, hits);
        size_t most = MIN(k, allowed ? allowed_count : stand->count);
        double limit = kth_score(stand, query, most, allowed);
        assert_true(count <= most);
        for (size_t i = 0; i < count; i++) {
            double score = score_of(stand, query, hits[i].slot);
            assert_true(hits[i].slot < stand->count);
            assert_true(!allowed || (allowed[hits[i].slot / 64] >> (hits[i].slot % 64) & 1));
            assert_true(fabs(score - (double)hits[i].score) <= 1e-4 * (1 + fabs(score)));
            if (i > 0)
                assert_true(
                    hits[i - 1].score > hits[i].score ||
                    (hits[i - 1].score == hits[i].score && hits[i - 1].slot < hits[i].slot));
            found += score >= limit - 1e-5 * (1 + fabs(limit));
        }
        wanted += most;
    }
    return (double)MIN(found, wanted) / (double)wanted;
}

/* ---- tests ---- */

static void keeps_recall_flat(void **state)
{
    static const unsigned dimensions[] = {3, 100, 300};
    rand_seed(11);
    for (int metric = METRIC_COSINE; metric <= METRIC_L2; metric++)
        for (size_t d = 0; d < COUNT_OF(dimensions); d++)
            for (size_t clusters = 0; clusters <= 20; clusters += 20) {
                struct stand *stand =
                    stand_new(2500, dimensions[d], clusters, (enum vector_metric)metric);
                assert_true(measure(stand, 10, 1, NULL, 0, 20) == 1);
                assert_true(measure(stand, 10, 0.95, NULL, 0, QUERIES) >= 0.93);
                assert_true(measure(stand, 100, 0.95, NULL, 0, 20) >= 0.93);
                assert_true(measure(stand, 1, 0.99, NULL, 0, QUERIES) >= 0.95);
                stand_free(stand);
            }
}

static uint64_t *make_filter(const struct stand *stand, double share, bool correlated,
                             size_t *allowed_count)
{
    uint64_t *allowed = calloc(stand->count / 64 + 1, sizeof(*allowed));
    *allowed_count = 0;
    for (size_t slot = 0; slot < stand->count; slot++) {
        bool in = correlated ? stand->vectors[slot * stand->dimension] > 0 : rand_unit() < share;
        allowed[slot / 64] |= (uint64_t)in << (slot % 64);
        *allowed_count += in;
    }
    return allowed;
}

static void check_filters(struct stand *stand)
{
    static const double shares[] = {0.5, 0.1, 0.01, 0.001};
    for (size_t i = 0; i <= COUNT_OF(shares); i++) {
        size_t count;
        bool correlated = i == COUNT_OF(shares);
        uint64_t *allowed = make_filter(stand, correlated ? 0 : shares[i], correlated, &count);
        assert_true(measure(stand, 10, 0.99, allowed, count, QUERIES) >=
                    (correlated ? 0.93 : 0.97));
        free(allowed);
    }
}

static void keeps_recall_under_filters(void **state)
{
    rand_seed(12);
    struct stand *stand = stand_new(6000, 96, 30, METRIC_COSINE);
    check_filters(stand);
    stand_free(stand);
}

/* Large enough for a graph; wide and narrow, so that both kinds of codes are walked. Not with
 * ThreadSanitizer: one thread builds and asks, and that takes it ten minutes. */
static void keeps_recall_in_a_graph(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip();
#endif
    static const struct {
        unsigned dimension;
        enum vector_metric metric;
    } cases[] = {{280, METRIC_COSINE}, {72, METRIC_DOT}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        rand_seed(13 + i);
        struct stand *stand =
            stand_new(DENSE_GRAPH_MIN + 100, cases[i].dimension, 200, cases[i].metric);
        assert_true(measure(stand, 10, 0.9, NULL, 0, QUERIES) >= 0.86);
        assert_true(measure(stand, 10, 0.99, NULL, 0, QUERIES) >= 0.96);
        assert_true(measure(stand, 100, 0.95, NULL, 0, 20) >= 0.92);
        dense_warm(stand->dense);
        assert_true(measure(stand, 10, 0.99, NULL, 0, 30) >= 0.96);
        check_filters(stand);
        stand_free(stand);
    }
}

static void answers_at_the_edges(void **state)
{
    rand_seed(14);
    static const size_t counts[] = {0, 1, 2, 31, 32, 33, 65};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct stand *stand = stand_new(counts[i], 20, 0, METRIC_L2);
        struct dense_hit hits[128];
        float query[20] = {1};
        for (size_t k = 0; k <= 100; k += 50) {
            struct dense_query asked = {.vector = query, .k = k, .recall = 0.9};
            assert_int_equal(dense_search(stand->dense, &asked, stand->scratch, hits),
                             MIN(k, counts[i]));
        }
        query[3] = NAN;
        struct dense_query asked = {.vector = query, .k = 5, .recall = 0.9};
        assert_int_equal(dense_search(stand->dense, &asked, stand->scratch, hits), 0);
        if (counts[i] > 0)
            assert_memory_equal(dense_vector(stand->dense, 0), stand->vectors, 20 * sizeof(float));
        stand_free(stand);
    }
}

/* All the same, or zero: no code has anything to hold on to. */
static void finds_duplicates(void **state)
{
    for (int zero = 0; zero < 2; zero++) {
        struct stand stand = {.count = 3000, .dimension = 48, .metric = METRIC_L2};
        struct dense_options options = {.dimension = 48, .metric = METRIC_L2};
        stand.vectors = calloc(stand.count * 48, sizeof(float));
        for (size_t i = 0; i < stand.count * 48 && !zero; i++)
            stand.vectors[i] = (float)(i % 48);
        assert_int_equal(stand_build(&stand, &options, NULL, NULL), RC_OK);
        assert_int_equal(segment_open(stand.fs, "/v/one", KIND, 1, &stand.segment, NULL), RC_OK);
        assert_int_equal(dense_open(stand.segment, &stand.dense, NULL), RC_OK);
        struct dense_query asked = {.vector = stand.vectors, .k = 10, .recall = 0.95};
        struct dense_hit hits[10];
        struct dense_scratch *scratch = dense_scratch_new();
        assert_int_equal(dense_search(stand.dense, &asked, scratch, hits), 10);
        for (size_t i = 0; i < 10; i++)
            assert_true(hits[i].score == 0);
        dense_scratch_free(scratch);
        dense_close(stand.dense);
        segment_close(stand.segment);
        file_system_free(stand.fs);
        free(stand.vectors);
    }
}

static bool after_some(void *arg)
{
    int *left = arg;
    return --*left < 0;
}

static void refuses_and_cancels(void **state)
{
    rand_seed(15);
    struct dense_options options = {.dimension = 16, .metric = METRIC_COSINE};
    struct stand stand = {
        .count = 2000, .dimension = 16, .vectors = make_vectors(2000, 16, 0, METRIC_COSINE)};
    int left = 3;
    assert_int_equal(stand_build(&stand, &options, after_some, &left), RC_CANCELLED);
    file_system_free(stand.fs);
    stand.vectors[777] = INFINITY;
    assert_int_equal(stand_build(&stand, &options, NULL, NULL), RC_INVALID);
    file_system_free(stand.fs);
    free(stand.vectors);
}

static void same_input_same_bytes(void **state)
{
    const void *bytes[2];
    size_t lengths[2];
    struct stand *stands[2];
    for (int i = 0; i < 2; i++) {
        struct file *file;
        rand_seed(16);
        stands[i] = stand_new(1000, 70, 5, METRIC_DOT);
        assert_int_equal(file_open(stands[i]->fs, "/v/one", FILE_READ, &file, NULL), RC_OK);
        assert_int_equal(file_map(file, &bytes[i], &lengths[i]), RC_OK);
        void *copy = malloc(lengths[i]);
        memcpy(copy, bytes[i], lengths[i]);
        file_unmap(file, bytes[i], lengths[i]);
        file_close(file);
        bytes[i] = copy;
    }
    assert_int_equal(lengths[0], lengths[1]);
    assert_memory_equal(bytes[0], bytes[1], lengths[0]);
    for (int i = 0; i < 2; i++) {
        free((void *)bytes[i]);
        stand_free(stands[i]);
    }
}

static void tail_finds_what_was_appended(void **state)
{
    rand_seed(17);
    struct dense_tail *tail = dense_tail_new(30, METRIC_DOT, 500);
    struct dense_scratch *scratch = dense_scratch_new();
    float *vectors = make_vectors(501, 30, 0, METRIC_DOT);
    struct dense_hit hits[600];
    for (size_t i = 0; i < 500; i++) {
        assert_int_equal(dense_tail_append(tail, vectors + i * 30), i);
        struct dense_query asked = {.vector = vectors + i * 30, .k = 600, .recall = 0.9};
        if (i % 50 == 0)
            assert_int_equal(dense_tail_search(tail, &asked, scratch, hits), i + 1);
    }
    assert_int_equal(dense_tail_append(tail, vectors), -1);
    assert_int_equal(dense_tail_count(tail), 500);
    assert_memory_equal(dense_tail_vector(tail, 7), vectors + 7 * 30, 30 * sizeof(float));
    uint64_t allowed[8] = {0, 1ULL << 5 | 1ULL << 9};
    struct dense_query asked = {
        .vector = vectors, .k = 5, .recall = 0.9, .allowed = allowed, .allowed_count = 2};
    assert_int_equal(dense_tail_search(tail, &asked, scratch, hits), 2);
    assert_true((hits[0].slot == 69) != (hits[1].slot == 69));
    dense_scratch_free(scratch);
    dense_tail_free(tail);
    free(vectors);
}

/* ---- kernels ---- */

#define ROWS 50

struct kernel_input {
    float a[DENSE_PADDED_MAX], b[DENSE_PADDED_MAX];
    uint32_t signs[4 * DENSE_PADDED_MAX];
    int8_t x[DENSE_PADDED_MAX];
    uint64_t planes[DENSE_PADDED_MAX / 16];
    uint8_t tables[DENSE_PADDED_MAX * 4];
    uint8_t rows[ROWS * (DENSE_PADDED_MAX + 8)];
    uint32_t order[ROWS];
};

static void check_floats(const struct kernels *plain, const struct kernels *fast,
                         struct kernel_input *in, size_t n)
{
    static float x[DENSE_PADDED_MAX], y[DENSE_PADDED_MAX];
    static int8_t p[DENSE_PADDED_MAX], q[DENSE_PADDED_MAX];
    static uint8_t t[DENSE_PADDED_MAX * 4], u[DENSE_PADDED_MAX * 4];
    for (size_t m = n - 13; m <= n; m++) {
        assert_true(plain->dot(in->a, in->b, m) == fast->dot(in->a, in->b, m));
        assert_true(plain->distance(in->a, in->b, m) == fast->distance(in->a, in->b, m));
    }
    assert_true(plain->sum(in->a, n) == fast->sum(in->a, n));
    assert_true(plain->sum_sizes(in->a, n) == fast->sum_sizes(in->a, n));
    assert_true(plain->largest_size(in->a, n) == fast->largest_size(in->a, n));
    assert_true(plain->dot_mixed(in->a, in->x, n) == fast->dot_mixed(in->a, in->x, n));
    memcpy(x, in->a, n * sizeof(float));
    memcpy(y, in->a, n * sizeof(float));
    float before = plain->dot(x, x, n);
    plain->rotate(x, n, in->signs);
    fast->rotate(y, n, in->signs);
    assert_memory_equal(x, y, n * sizeof(float));
    assert_true(fabsf(plain->dot(x, x, n) / before - 1) < 1e-4F); /* lengths are kept */
    plain->quantize(in->a, n, 30, 1, p);
    fast->quantize(in->a, n, 30, 1, q);
    assert_memory_equal(p, q, n);
    plain->tables(in->a, n / 4, 3, t);
    fast->tables(in->a, n / 4, 3, u);
    assert_memory_equal(t, u, n * 4);
}

static void check_integers(const struct kernels *plain, const struct kernels *fast,
                           struct kernel_input *in, size_t n)
{
    int32_t a[ROWS], b[ROWS];
    uint16_t s[KERNEL_BLOCK_VECTORS], t[KERNEL_BLOCK_VECTORS];
    float d[KERNEL_BLOCK_VECTORS], e[KERNEL_BLOCK_VECTORS];
    size_t stride = n + 8;
    assert_int_equal(plain->dot_i8(in->x, (int8_t *)in->rows, n),
                     fast->dot_i8(in->x, (int8_t *)in->rows, n));
    plain->dot_i8_rows(in->x, in->rows, stride, in->order, ROWS, n, a);
    fast->dot_i8_rows(in->x, in->rows, stride, in->order, ROWS, n, b);
    assert_memory_equal(a, b, sizeof(a));
    plain->dot_1bit_rows(in->planes, in->rows, stride, in->order, ROWS, n, a);
    fast->dot_1bit_rows(in->planes, in->rows, stride, in->order, ROWS, n, b);
    assert_memory_equal(a, b, sizeof(a));
    plain->dot_4bit_rows(in->x, in->rows, stride, in->order, ROWS, n, a);
    fast->dot_4bit_rows(in->x, in->rows, stride, in->order, ROWS, n, b);
    assert_memory_equal(a, b, sizeof(a));
    plain->scan_block(in->tables, in->rows, n / 4, s);
    fast->scan_block(in->tables, in->rows, n / 4, t);
    assert_memory_equal(s, t, sizeof(s));
    for (int i = 0; i < 2; i++) {
        float worst = i ? -1e30F : 1e30F;
        assert_int_equal(plain->block_distances(in->a, s, 0.3F, 2, 1, worst, d), !i);
        assert_int_equal(fast->block_distances(in->a, s, 0.3F, 2, 1, worst, e), !i);
        assert_memory_equal(d, e, sizeof(d));
    }
}

static void kernels_agree(void **state)
{
    static struct kernel_input in;
    const struct kernels *plain = kernels_of(KERNEL_SCALAR);
    rand_seed(18);
    for (size_t n = 64; n <= DENSE_PADDED_MAX; n += n < 1100 ? 64 : 1024) {
        size_t entry_max = MIN(127, 65535 / (n / 4));
        for (size_t i = 0; i < n; i++) {
            in.a[i] = gaussian();
            in.b[i] = gaussian();
            in.x[i] = (int8_t)((int)rand_below(255) - 127);
        }
        for (size_t i = 0; i < 4 * n; i++)
            in.signs[i] = (uint32_t)rand_below(2) << 31;
        for (size_t i = 0; i < n / 16; i++)
            in.planes[i] = rand_u64();
        for (size_t i = 0; i < 4 * n; i++)
            in.tables[i] = (uint8_t)(i % 5 ? rand_below(entry_max + 1) : entry_max);
        for (size_t i = 0; i < sizeof(in.rows); i++)
            in.rows[i] = (uint8_t)((int)rand_below(255) - 127); /* never -128 */
        for (size_t i = 0; i < ROWS; i++)
            in.order[i] = (uint32_t)rand_below(ROWS);
        for (int tier = KERNEL_AVX2; tier < KERNEL_TIER_COUNT; tier++) {
            const struct kernels *fast = kernels_of((enum kernel_tier)tier);
            if (!fast)
                continue;
            check_floats(plain, fast, &in, n);
            check_integers(plain, fast, &in, n);
        }
    }
}

/* The estimate of a code must be right on average: over many vectors it has no bias. */
static void estimates_are_unbiased(void **state)
{
    static const unsigned bits[] = {1, 4};
    float mean[128] = {0};
    for (size_t b = 0; b < COUNT_OF(bits); b++) {
        struct dense_meta_disk meta = {.dimension = 128, .padded = 128, .guide_bits = bits[b]};
        struct codec codec;
        struct codes codes;
        struct dense_scratch *scratch = dense_scratch_new();
        struct query_codes *query = scratch_query(scratch, 128);
        double bias = 0, error = 0, fine_error = 0;
        enum { COUNT = 4000 };
        rand_seed(19);
        codec_init(&codec, &meta, mean);
        codes_shape(&codes, &codec, 4, codes_stride(&codec, 4));
        codes.records = aligned_alloc(64, codes.stride);
        codes.fine = malloc(128);
        for (size_t i = 0; i < COUNT; i++) {
            float v[128], q[128], rotated[128], estimate;
            uint32_t node = 0;
            for (size_t j = 0; j < 128; j++)
                v[j] = gaussian();
            for (size_t j = 0; j < 128; j++)
                q[j] = v[j] * 0.7F + gaussian();
            codec_rotate(&codec, v, true, rotated);
            codec_encode(&codec, rotated, codes_record(&codes, 0),
                         codes.records + sizeof(struct record), codes.fine);
            codec_rotate(&codec, q, false, query->rotated);
            query_codes_prepare(query, &codec);
            float exact = codec.kernels->distance(v, q, 128);
            codes_estimate(&codes, query, &node, 1, &estimate);
            bias += (double)(estimate - exact) / exact / COUNT;
            error += fabs((double)(estimate - exact) / exact) / COUNT;
            codes_estimate_fine(&codes, query, &node, 1, &estimate);
            fine_error += fabs((double)(estimate - exact) / exact) / COUNT;
        }
        assert_true(fabs(bias) < (bits[b] == 1 ? 0.01 : 0.002));
        assert_true(error < (bits[b] == 1 ? 0.15 : 0.02));
        assert_true(fine_error < 0.003);
        free(codes.records);
        free(codes.fine);
        codec_fini(&codec);
        dense_scratch_free(scratch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree),           cmocka_unit_test(estimates_are_unbiased),
        cmocka_unit_test(keeps_recall_flat),       cmocka_unit_test(keeps_recall_under_filters),
        cmocka_unit_test(keeps_recall_in_a_graph), cmocka_unit_test(answers_at_the_edges),
        cmocka_unit_test(finds_duplicates),        cmocka_unit_test(refuses_and_cancels),
        cmocka_unit_test(same_input_same_bytes),   cmocka_unit_test(tail_finds_what_was_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
