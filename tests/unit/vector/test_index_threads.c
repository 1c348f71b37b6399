/* One index, many threads: writers that put in and delete, readers that search, scroll and look up,
 * one that seals and merges. What readers see is whole: a writer changes its ids in batches that
 * carry one number, and no reader may find two numbers in one batch. Run under the thread
 * sanitizer by `make sanitize`. */
#include "vector/index_private.h"
#include "base/rand.h"
#include <math.h>
#include <stdio.h>
#include "../test.h"

#define WRITERS   2
#define READERS   2
#define IDS       20 /* of each writer, all changed together */
#define ROUNDS    120
#define DIMENSION 4

static const struct index_config config = {
    .vectors = {{.name = STR_INIT(""), .dimension = DIMENSION, .metric = METRIC_L2}},
    .vector_count = 1,
    .texts = {{STR_INIT("text"), 1}},
    .text_count = 1,
};

static struct index *shared;
static _Atomic int writing;
static _Atomic unsigned searches, torn;

static void *write_batches(void *arg)
{
    unsigned writer = (unsigned)(uintptr_t)arg;
    char names[IDS][16], texts[IDS][32], payloads[IDS][48];
    struct index_row rows[IDS];
    for (unsigned round = 1; round <= ROUNDS; round++) {
        float vector[DIMENSION] = {(float)round, (float)writer};
        for (unsigned i = 0; i < IDS; i++) {
            snprintf(names[i], sizeof(names[i]), "w%u-%u", writer, i);
            snprintf(texts[i], sizeof(texts[i]), "writer%u round%u", writer, round);
            snprintf(payloads[i], sizeof(payloads[i]), "{\"writer\":%u,\"round\":%u}", writer,
                     round);
            rows[i] = (struct index_row){.id = str_from(names[i]),
                                         .vectors = {vector},
                                         .texts = {str_from(texts[i])},
                                         .payload = str_from(payloads[i])};
        }
        assert_int_equal(index_upsert(shared, rows, IDS, NULL), RC_OK);
    }
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

/* All hits of one writer are of one round, and all are there. */
static void look(unsigned writer, bool by_vector)
{
    struct arena arena;
    struct index_hits hits;
    struct expression *filter;
    char text[16], condition[32];
    float vector[DIMENSION] = {1};
    struct err err = {0};
    arena_init(&arena, 8 << 20);
    snprintf(text, sizeof(text), "writer%u", writer);
    snprintf(condition, sizeof(condition), "writer == %u", writer);
    assert_int_equal(expression_parse(str_from(condition), &arena, &filter, &err), RC_OK);
    struct index_query query = {.vector = by_vector ? vector : NULL,
                                .text = by_vector ? STR_EMPTY : str_from(text),
                                .recall = 1,
                                .k = 2 * IDS,
                                .filter = filter,
                                .all_tags = true,
                                .score_min = -INFINITY};
    assert_int_equal(index_search(shared, &query, &arena, &hits, &err), RC_OK);
    for (size_t i = 1; i < hits.count; i++)
        if (!str_eq(hits.items[i].payload, hits.items[0].payload))
            atomic_fetch_add(&torn, 1);
    if (hits.count != 0 && hits.count != IDS)
        atomic_fetch_add(&torn, 1);
    atomic_fetch_add(&searches, 1);
    arena_fini(&arena);
}

static void *read_all(void *arg)
{
    UNUSED(arg);
    while (atomic_load(&writing) > 0) {
        struct arena arena;
        struct index_row *rows, row;
        size_t count;
        uint64_t cursor = 0;
        look((unsigned)rand_below(WRITERS), rand_below(2));
        arena_init(&arena, 8 << 20);
        assert_int_equal(index_scroll(shared, NULL, &cursor, 100, &arena, &rows, &count, NULL),
                         RC_OK);
        if (count > 0 && index_get(shared, rows[0].id, &arena, &row, NULL) != RC_OK)
            atomic_fetch_add(&torn, 1); /* replaced ids are never away */
        arena_fini(&arena);
    }
    return NULL;
}

static void *maintain(void *arg)
{
    UNUSED(arg);
    while (atomic_load(&writing) > 0) {
        struct index_stats stats;
        assert_int_equal(index_maintain(shared, NULL, NULL, NULL), RC_OK);
        assert_int_equal(index_set_ranking(shared, 1.2 + rand_unit(), 0.5, NULL, NULL), RC_OK);
        index_stats(shared, &stats);
    }
    return NULL;
}

static void readers_see_whole_changes(void **state)
{
    struct file_system *fs = file_system_memory_new(1);
    pthread_t threads[WRITERS + READERS + 1];
    struct err err = {0};
    size_t n = 0;
    assert_int_equal(file_make_directory(fs, "/i"), RC_OK);
    assert_int_equal(index_open(fs, "/i/t", &config, &shared, &err), RC_OK);
    shared->tail_rows_max = 100;
    atomic_store(&writing, WRITERS);
    for (uintptr_t w = 0; w < WRITERS; w++)
        assert_int_equal(pthread_create(&threads[n++], NULL, write_batches, (void *)w), 0);
    for (int r = 0; r < READERS; r++)
        assert_int_equal(pthread_create(&threads[n++], NULL, read_all, NULL), 0);
    assert_int_equal(pthread_create(&threads[n++], NULL, maintain, NULL), 0);
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    for (unsigned w = 0; w < WRITERS; w++)
        look(w, false);
    struct index_stats stats;
    index_stats(shared, &stats);
    assert_int_equal(stats.rows, WRITERS * IDS);
    assert_int_equal(atomic_load(&torn), 0);
    assert_true(atomic_load(&searches) > 0);
    index_close(shared);
    file_system_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_see_whole_changes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
