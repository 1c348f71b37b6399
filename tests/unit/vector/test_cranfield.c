/* Quality gate: the Cranfield collection by words with the shipped defaults must reach nDCG@10 of
 * 0.380. The collection is not in the tree: $CAPSTAN_SHARED, or ../shared beside the checkout;
 * without it the test is skipped.
 *
 * Rules (the collection's README): a query's number is its place in the file; grades 1 to 4 count
 * as relevant, all else not; a document is its title and text; the mean is over all 225 queries.
 * CRANFIELD_K1 and CRANFIELD_B try other settings; odd and even queries are printed apart, so that
 * what is tuned on the ones is shown on the others. */
#include "vector/index.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "../test.h"

#define DOCUMENTS 1400
#define QUERIES   225
#define GOAL      0.380

static char *read_file(const char *name)
{
    char path[1024];
    const char *shared = getenv("CAPSTAN_SHARED"), *tests = getenv("TEST_FOLDER");
    if (shared)
        snprintf(path, sizeof(path), "%s/data/cranfield/%s", shared, name);
    else
        snprintf(path, sizeof(path), "%s/../../../shared/data/cranfield/%s", tests ? tests : ".",
                 name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = xcalloc(1, 4 << 20);
    size_t n = fread(text, 1, (4 << 20) - 1, f);
    fclose(f);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) /* lines end in CR LF */
        if (text[i] != '\r')
            text[kept++] = text[i];
    text[kept] = '\0';
    return text;
}

/* The part of a record between the line `mark` and the next that begins with a point. */
static struct str part_of(struct str record, const char *mark)
{
    ssize_t at = str_find(record, str_from(mark));
    if (at < 0)
        return STR_EMPTY;
    struct str rest = str_slice(record, (size_t)at + strlen(mark), record.n);
    ssize_t end = str_find(rest, STR("\n."));
    return end < 0 ? rest : str_slice(rest, 0, (size_t)end);
}

/* Cuts the next record (from one line ".I " to the next) off. */
static bool next_record(struct str *rest, struct str *record)
{
    if (!str_starts(*rest, STR(".I ")))
        return false;
    ssize_t end = str_find(str_slice(*rest, 3, rest->n), STR("\n.I "));
    size_t n = end < 0 ? rest->n : (size_t)end + 4;
    *record = str_slice(*rest, 0, n);
    *rest = str_slice(*rest, n, rest->n);
    return true;
}

static void add_documents(struct index *index, const char *text)
{
    struct str rest = str_from(text), record;
    static char bodies[DOCUMENTS][16384], ids[DOCUMENTS][8];
    static struct index_row rows[DOCUMENTS];
    struct err err = {0};
    size_t count = 0;
    while (next_record(&rest, &record)) {
        struct str title = part_of(record, "\n.T\n"), words = part_of(record, "\n.W\n");
        assert_true(count < DOCUMENTS);
        snprintf(bodies[count], sizeof(bodies[count]), "%.*s\n%.*s", STR_ARG(title),
                 STR_ARG(words));
        snprintf(ids[count], sizeof(ids[count]), "%ld", strtol(record.p + 3, NULL, 10));
        rows[count] =
            (struct index_row){.id = str_from(ids[count]), .texts = {str_from(bodies[count])}};
        count++;
    }
    assert_int_equal(count, DOCUMENTS);
    assert_int_equal(index_upsert(index, rows, count, &err), RC_OK);
}

static void read_judgements(const char *text, bool relevant[][DOCUMENTS + 1], int *counts)
{
    struct str rest = str_from(text), line;
    while (str_split(&rest, '\n', &line)) {
        int query, document, grade;
        if (sscanf(line.p, "%d %d %d", &query, &document, &grade) != 3 || grade < 1 || grade > 4)
            continue;
        if (query < 1 || query > QUERIES || document < 1 || document > DOCUMENTS ||
            relevant[query - 1][document])
            continue;
        relevant[query - 1][document] = true;
        counts[query - 1]++;
    }
}

static double ndcg(const struct index_hits *hits, const bool *relevant, int count)
{
    double gain = 0, ideal = 0;
    for (size_t i = 0; i < hits->count; i++)
        if (relevant[strtol(hits->items[i].id.p, NULL, 10)])
            gain += 1 / log2((double)i + 2);
    for (int i = 0; i < MIN(count, 10); i++)
        ideal += 1 / log2(i + 2.0);
    return ideal > 0 ? gain / ideal : 0;
}

static double run(struct index *index, const char *text, bool relevant[][DOCUMENTS + 1],
                  const int *counts)
{
    struct str rest = str_from(text), record;
    double sums[2] = {0};
    int number = 0;
    while (next_record(&rest, &record)) {
        struct arena arena;
        struct index_hits hits;
        struct err err = {0};
        struct index_query query = {
            .text = part_of(record, "\n.W\n"), .k = 10, .all_tags = true, .score_min = -INFINITY};
        assert_true(number < QUERIES && query.text.n > 0);
        arena_init(&arena, 4 << 20);
        assert_int_equal(index_search(index, &query, &arena, &hits, &err), RC_OK);
        sums[(number + 1) % 2] += ndcg(&hits, relevant[number], counts[number]);
        number++;
        arena_fini(&arena);
    }
    assert_int_equal(number, QUERIES);
    print_message("nDCG@10: odd queries %.4f, even %.4f, all %.4f\n", sums[1] / 113, sums[0] / 112,
                  (sums[0] + sums[1]) / QUERIES);
    return (sums[0] + sums[1]) / QUERIES;
}

static void ranks_well(void **state)
{
    char *documents = read_file("cran.all.1400"), *queries = read_file("cran.qry");
    char *judgements = read_file("cranqrel");
    static bool relevant[QUERIES][DOCUMENTS + 1];
    static int counts[QUERIES];
    struct index_config config = {.texts = {{STR("text"), 1}}, .text_count = 1};
    struct file_system *fs = file_system_memory_new(1);
    struct index *index;
    struct err err = {0};
    if (!documents || !queries || !judgements)
        skip();
    config.k1 = getenv("CRANFIELD_K1") ? strtod(getenv("CRANFIELD_K1"), NULL) : 0;
    config.b = getenv("CRANFIELD_B") ? strtod(getenv("CRANFIELD_B"), NULL) : 0;
    assert_int_equal(file_make_directory(fs, "/i"), RC_OK);
    assert_int_equal(index_open(fs, "/i/cranfield", &config, &index, &err), RC_OK);
    add_documents(index, documents);
    read_judgements(judgements, relevant, counts);
    double reached = run(index, queries, relevant, counts);
    assert_true(config.k1 > 0 || config.b > 0 || reached >= GOAL);
    index_close(index);
    file_system_free(fs);
    free(documents);
    free(queries);
    free(judgements);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranks_well)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
