/* The words of rows: what analysis makes of texts, and that pruned search over packed and growing
 * lists gives exactly what scoring every row gives. */
#include "vector/words_search.h"
#include "vector/words_segment.h"
#include "base/rand.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "../test.h"

/* ---- analysis ---- */

static void join(void *arg, const struct analyzer_term *term)
{
    char *out = arg;
    snprintf(out + strlen(out), 512 - strlen(out), "%u:%.*s%s ", term->position,
             STR_ARG(term->text), term->stop ? "!" : "");
}

static void assert_terms(const char *language, const char *text, const char *want)
{
    struct analyzer *analyzer;
    char got[512] = "";
    assert_int_equal(analyzer_new(str_from(language), &analyzer, NULL), RC_OK);
    for (int again = 0; again < 2; again++) { /* the second time from the cache */
        got[0] = '\0';
        analyzer_run(analyzer, str_from(text), join, got);
        assert_string_equal(got, want);
    }
    analyzer_free(analyzer);
}

static void cuts_words(void **state)
{
    assert_terms("none", "Hello, World-Wide web2.0", "0:hello 1:world 2:wide 3:web2 4:0 ");
    assert_terms("english", "The running foxes don't", "0:the! 1:run 2:fox 3:don't! ");
    assert_terms("english", "it\u2019s naïve CAFÉ", "0:it 1:naïv 2:café ");
    assert_terms("german", "Die Häuser der STRASSE Straße",
                 "0:die! 1:haus 2:der! 3:strass 4:strass ");
    assert_terms("french", "l'homme", "0:l! 1:homm ");
    assert_terms("none", "数据库 db", "0:数据 1:据库 3:db ");
    assert_terms("none", "数 x한국어", "0:数 1:x 2:한국 3:국어 ");
    assert_terms("none", "\xff\xfe ok \xc3", "0:ok ");
    assert_terms("none", "ﬁne Ｆｕｌｌ ①", "0:fine 1:full 2:1 ");
    struct analyzer *analyzer;
    assert_int_equal(analyzer_new(STR("klingon"), &analyzer, NULL), RC_INVALID);
}

/* ---- search ---- */

#define FIELDS  2
#define ROWS    7000
#define WORDS   400
#define QUERIES 300
#define K       10

struct collection {
    struct file_system *fs;
    struct words_memory *memory;
    struct words_segment *segment;
    struct analyzer *analyzer;
    char (*texts)[FIELDS][512];
};

/* Skewed, so that some words are in most rows and some in few; runs of rows differ. */
static unsigned some_word(unsigned row)
{
    double u = rand_unit();
    unsigned word = (unsigned)(WORDS * u * u * u);
    return rand_below(4) == 0 ? (word + row / 500 * 17) % WORDS : word;
}

static void make_collection(struct collection *c)
{
    struct segment_writer *writer;
    struct segment *file;
    int64_t bytes;
    rand_seed(5);
    c->fs = file_system_memory_new(1);
    c->texts = xcalloc(ROWS, sizeof(*c->texts));
    c->memory = words_memory_new(FIELDS, ROWS);
    assert_int_equal(analyzer_new(STR("none"), &c->analyzer, NULL), RC_OK);
    for (unsigned row = 0; row < ROWS; row++) {
        struct str texts[FIELDS];
        for (int f = 0; f < FIELDS; f++) {
            char *text = c->texts[row][f];
            size_t n = 0;
            for (uint64_t words = rand_below(f ? 5 : 60); words > 0; words--)
                n += (size_t)snprintf(text + n, 512 - n, "w%u ", some_word(row));
            texts[f] = str_from(text);
        }
        words_memory_add(c->memory, c->analyzer, texts);
    }
    assert_int_equal(file_make_directory(c->fs, "/w"), RC_OK);
    assert_int_equal(segment_create(c->fs, "/w/a.words", WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION,
                                    &writer, NULL),
                     RC_OK);
    assert_int_equal(words_segment_write(writer, c->memory, FIELDS, STR("none")), RC_OK);
    assert_int_equal(segment_seal(writer, &bytes), RC_OK);
    assert_int_equal(
        segment_open(c->fs, "/w/a.words", WORDS_SEGMENT_KIND, WORDS_SEGMENT_VERSION, &file, NULL),
        RC_OK);
    assert_int_equal(words_segment_open(file, FIELDS, ROWS, STR("none"), &c->segment), RC_OK);
}

static void free_collection(struct collection *c)
{
    words_segment_close(c->segment);
    words_memory_free(c->memory);
    analyzer_free(c->analyzer);
    file_system_free(c->fs);
    free(c->texts);
}

struct answer {
    struct words_hit hits[K];
    double scores[K];
    size_t count;
};

static void ask(struct collection *c, bool packed, const char *text, const uint64_t *allowed,
                const struct words_ranking *ranking, struct words_scratch *scratch,
                struct answer *out)
{
    struct arena arena;
    struct words_query query;
    struct words_part *part;
    struct words_plan *plan;
    struct words_stats stats;
    struct words_source source = {.rows = ROWS};
    struct words_top top = {.k = packed ? K : ROWS}; /* all rows: nothing can be pruned */
    arena_init(&arena, 64 << 20);
    top.hits = xcalloc(top.k, sizeof(*top.hits));
    if (packed) {
        source.segment = c->segment;
        words_segment_stats(c->segment, &stats);
    } else {
        source.memory = c->memory;
        words_memory_stats(c->memory, &stats);
    }
    assert_int_equal(words_query_parse(str_from(text), c->analyzer, &arena, &query), RC_OK);
    assert_int_equal(words_part_prepare(&source, &query, FIELDS, &arena, &part), RC_OK);
    assert_int_equal(words_plan_make(&part, 1, &query, &stats, ranking, &arena, &plan), RC_OK);
    assert_int_equal(words_part_search(part, 0, plan, allowed, &arena, scratch, &top), RC_OK);
    words_top_sort(&top);
    out->count = MIN(top.count, (size_t)K);
    for (size_t i = 0; i < out->count; i++) {
        out->hits[i] = top.hits[i];
        out->scores[i] = words_plan_score(plan, top.hits[i].score);
    }
    free(top.hits);
    arena_fini(&arena);
}

/* BM25 as it is written in books. */
static unsigned count_word(const char *text, const char *word, unsigned *length)
{
    struct str rest = str_from(text), part;
    unsigned n = 0;
    *length = 0;
    while (str_split(&rest, ' ', &part)) {
        n += str_eq(part, str_from(word));
        *length += part.n > 0;
    }
    return n;
}

static void score_by_book(struct collection *c, char words[][16], unsigned count,
                          const struct words_ranking *ranking, double *scores)
{
    for (int f = 0; f < FIELDS; f++) {
        double sum = 0, rows = 0;
        for (unsigned row = 0; row < ROWS; row++) {
            unsigned length;
            count_word(c->texts[row][f], "", &length);
            sum += length;
            rows += length > 0;
        }
        for (unsigned w = 0; w < count; w++) {
            double matching = 0;
            unsigned length;
            for (unsigned row = 0; row < ROWS; row++)
                matching += count_word(c->texts[row][f], words[w], &length) > 0;
            double idf = log(1 + (ROWS - matching + 0.5) / (matching + 0.5));
            for (unsigned row = 0; row < ROWS; row++) {
                double n = count_word(c->texts[row][f], words[w], &length);
                double norm = ranking->k1 * (1 - ranking->b + ranking->b * length / (sum / rows));
                scores[row] += ranking->weights[f] * idf * (ranking->k1 + 1) * n / (n + norm);
            }
        }
    }
}

static void scores_as_books_do(void **state)
{
    struct collection c = {0};
    struct words_ranking ranking = {FIELDS, 1.2, 0.75, {1, 2.5}};
    struct words_scratch *scratch = words_scratch_new();
    char words[3][16] = {"w3", "w40", "w200"};
    struct answer answer;
    double *scores = xcalloc(ROWS, sizeof(*scores));
    make_collection(&c);
    score_by_book(&c, words, 3, &ranking, scores);
    ask(&c, true, "w3 w40 w200", NULL, &ranking, scratch, &answer);
    assert_int_equal(answer.count, K);
    for (size_t i = 0; i < K; i++) {
        double best = 0;
        for (unsigned row = 0; row < ROWS; row++)
            best = fmax(best, scores[row]);
        assert_true(fabs(answer.scores[i] - best) < 1e-4);
        assert_true(fabs(scores[answer.hits[i].row] - best) < 1e-4);
        scores[answer.hits[i].row] = 0;
    }
    free(scores);
    words_scratch_free(scratch);
    free_collection(&c);
}

static void make_query(char *out, size_t bytes)
{
    size_t n = 0;
    for (uint64_t words = 1 + rand_below(6); words > 0; words--) {
        unsigned a = some_word(0), b = some_word(0);
        switch (rand_below(12)) {
        case 0: n += (size_t)snprintf(out + n, bytes - n, "\"w%u w%u\" ", a / 8, b / 8); break;
        case 1: n += (size_t)snprintf(out + n, bytes - n, "w%u* ", a % 40); break;
        default: n += (size_t)snprintf(out + n, bytes - n, "w%u ", a); break;
        }
    }
}

/* Packed lists with pruning against plain ones without. */
static void prunes_nothing_that_counts(void **state)
{
    struct collection c = {0};
    struct words_ranking ranking = {.fields = FIELDS, .weights = {1, 2.5}};
    struct words_scratch *scratch = words_scratch_new();
    uint64_t *allowed = xcalloc(ROWS / 64 + 1, sizeof(*allowed));
    unsigned found = 0;
    make_collection(&c);
    for (int q = 0; q < QUERIES; q++) {
        char text[256];
        struct answer packed, plain;
        make_query(text, sizeof(text));
        ranking.k1 = 0.4 + rand_unit() * 2;
        ranking.b = rand_unit();
        for (unsigned row = 0; row < ROWS; row++)
            allowed[row / 64] = (allowed[row / 64] & ~(1ull << (row % 64))) |
                                (uint64_t)(rand_below(10) < 3) << (row % 64);
        for (int filtered = 0; filtered < 2; filtered++) {
            ask(&c, true, text, filtered ? allowed : NULL, &ranking, scratch, &packed);
            ask(&c, false, text, filtered ? allowed : NULL, &ranking, scratch, &plain);
            assert_int_equal(packed.count, plain.count);
            for (size_t i = 0; i < packed.count; i++) {
                assert_int_equal(packed.hits[i].row, plain.hits[i].row);
                assert_int_equal(packed.hits[i].score, plain.hits[i].score);
                assert_true(!filtered ||
                            (allowed[packed.hits[i].row / 64] >> (packed.hits[i].row % 64) & 1));
            }
            found += packed.count > 0;
        }
    }
    assert_true(found > QUERIES);
    free(allowed);
    words_scratch_free(scratch);
    free_collection(&c);
}

/* ---- packing ---- */

static void packs_and_unpacks(void **state)
{
    uint32_t values[WORDS_BLOCK_ROWS], back[WORDS_BLOCK_ROWS];
    uint8_t bytes[WORDS_BLOCK_ROWS * 4 + WORDS_PACK_SLACK];
    rand_seed(3);
    for (unsigned bits = 0; bits <= 32; bits++) {
        for (size_t n = 1; n <= WORDS_BLOCK_ROWS; n += n < 12 ? 1 : 29) {
            for (size_t i = 0; i < n; i++)
                values[i] = (uint32_t)(rand_u64() & ((1ull << bits) - 1));
            unsigned need = words_pack_bits(values, n);
            assert_true(need <= bits);
            words_pack(values, n, need, bytes);
            words_unpack(bytes, n, need, back);
            assert_memory_equal(values, back, n * sizeof(values[0]));
        }
    }
    for (size_t n = 1; n <= WORDS_BLOCK_ROWS; n++) {
        uint32_t rows[WORDS_BLOCK_ROWS], row = 1000;
        for (size_t i = 0; i < n; i++)
            rows[i] = row += 1 + (uint32_t)rand_below(50);
        words_pack_distances(rows, n, 1000, values);
        words_unpack_distances(values, n, 1000);
        assert_memory_equal(rows, values, n * sizeof(rows[0]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_words),
        cmocka_unit_test(scores_as_books_do),
        cmocka_unit_test(prunes_nothing_that_counts),
        cmocka_unit_test(packs_and_unpacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
