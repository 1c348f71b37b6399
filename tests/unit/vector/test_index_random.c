/* The index against a model: random upserts, deletes, sealing, merging, closing and opening,
 * damaged and missing files; after each round every way of asking must agree with the model. */
#include "vector/index_private.h"
#include "base/rand.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "../test.h"

#define DIMENSION 6
#define IDS       400
#define ROUNDS    60
#define SEEDS     6
#define TAIL_ROWS 40

struct model_row {
    bool alive, disabled, no_vector;
    unsigned number, group;
    float vector[DIMENSION];
};

struct world {
    struct file_system *fs;
    struct index *index;
    struct model_row rows[IDS];
    struct arena arena;
};

static const struct index_config config = {
    .vectors = {{.name = STR_INIT(""), .dimension = DIMENSION, .metric = METRIC_L2}},
    .vector_count = 1,
    .texts = {{STR_INIT("text"), 1}},
    .text_count = 1,
    .language = STR_INIT("none"),
};

static void world_open(struct world *w)
{
    struct err err = {0};
    enum rc rc = index_open(w->fs, "/i/x", &config, &w->index, &err);
    if (rc != RC_OK)
        print_error("%s\n", err.message);
    assert_int_equal(rc, RC_OK);
    w->index->tail_rows_max = TAIL_ROWS;
}

/* ---- changes ---- */

static void upsert(struct world *w)
{
    struct index_row rows[24];
    char ids[24][16], texts[24][64], payloads[24][96];
    size_t count = 1 + rand_below(COUNT_OF(rows));
    struct err err = {0};
    for (size_t i = 0; i < count; i++) {
        unsigned id = (unsigned)rand_below(IDS);
        struct model_row *m = &w->rows[id];
        *m = (struct model_row){.alive = true,
                                .disabled = rand_below(15) == 0,
                                .no_vector = rand_below(10) == 0,
                                .number = (unsigned)rand_below(1000),
                                .group = (unsigned)rand_below(5)};
        for (int d = 0; d < DIMENSION; d++)
            m->vector[d] = (float)rand_unit();
        snprintf(ids[i], sizeof(ids[i]), "id%u", id);
        snprintf(texts[i], sizeof(texts[i]), "word%u number%u all", m->group, m->number);
        snprintf(payloads[i], sizeof(payloads[i]), "{\"n\":%u,\"g\":\"g%u\"}", m->number, m->group);
        rows[i] = (struct index_row){.id = str_from(ids[i]),
                                     .texts = {str_from(texts[i])},
                                     .payload = str_from(payloads[i]),
                                     .disabled = m->disabled};
        rows[i].vectors[0] = m->no_vector ? NULL : m->vector;
        for (size_t j = 0; j < i; j++) /* an id twice in a batch: the later one stays */
            if (str_eq(rows[j].id, rows[i].id))
                rows[j] = rows[i];
    }
    assert_int_equal(index_upsert(w->index, rows, count, &err), RC_OK);
}

static void delete_some(struct world *w)
{
    struct str ids[10];
    char texts[10][16];
    size_t expected = 0, deleted;
    struct err err = {0};
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        unsigned id = (unsigned)rand_below(IDS);
        snprintf(texts[i], sizeof(texts[i]), "id%u", id);
        ids[i] = str_from(texts[i]);
        expected += w->rows[id].alive;
        w->rows[id].alive = false;
    }
    assert_int_equal(index_delete(w->index, ids, COUNT_OF(ids), &deleted, &err), RC_OK);
    assert_int_equal(deleted, expected);
}

static void delete_where(struct world *w)
{
    struct expression *filter;
    struct err err = {0};
    size_t expected = 0, deleted;
    unsigned limit = 950;
    assert_int_equal(expression_parse(STR("n >= 950"), &w->arena, &filter, &err), RC_OK);
    for (unsigned id = 0; id < IDS; id++) {
        struct model_row *m = &w->rows[id];
        expected += m->alive && m->number >= limit;
        m->alive &= m->number < limit;
    }
    assert_int_equal(index_delete_where(w->index, filter, &deleted, &err), RC_OK);
    assert_int_equal(deleted, expected);
}

struct victim {
    char name[128];
    unsigned seen;
};

static enum rc choose_victim(void *arg, const char *name)
{
    struct victim *v = arg;
    bool made = strstr(name, ".words") || strstr(name, ".vectors-");
    if (made && rand_below(++v->seen) == 0)
        snprintf(v->name, sizeof(v->name), "/i/x/%s", name);
    return RC_OK;
}

/* A file that is made of the rows loses its footer, or is gone. */
static void damage(struct world *w)
{
    struct victim victim = {.seen = 0};
    struct file *file;
    assert_int_equal(file_list(w->fs, "/i/x", choose_victim, &victim), RC_OK);
    if (!victim.seen)
        return;
    if (rand_below(2)) {
        assert_int_equal(file_remove(w->fs, victim.name), RC_OK);
        return;
    }
    int64_t n;
    assert_int_equal(file_open(w->fs, victim.name, FILE_READ | FILE_WRITE, &file, NULL), RC_OK);
    assert_int_equal(file_size(file, &n), RC_OK);
    char noise[64];
    memset(noise, 0x5a, sizeof(noise));
    int64_t at = (int64_t)rand_below((uint64_t)n - 63);
    assert_int_equal(file_write_at(file, &(struct iovec){noise, sizeof(noise)}, 1, at), RC_OK);
    file_close(file);
}

static void reopen(struct world *w)
{
    index_close(w->index);
    if (rand_below(2))
        damage(w);
    world_open(w);
}

/* ---- agreement ---- */

static bool found_by(const struct model_row *m, bool vector)
{
    return m->alive && !m->disabled && !(vector && m->no_vector);
}

static unsigned id_of(struct str id)
{
    assert_true(str_starts(id, STR("id")));
    return (unsigned)strtoul(id.p + 2, NULL, 10);
}

static void check_vectors(struct world *w, const char *filter, unsigned from, unsigned below)
{
    float q[DIMENSION];
    struct err err = {0};
    struct index_hits hits;
    struct index_query query = {
        .vector = q, .k = 10, .recall = 1, .all_tags = true, .score_min = -INFINITY};
    struct expression *expression = NULL;
    if (filter)
        assert_int_equal(expression_parse(str_from(filter), &w->arena, &expression, &err), RC_OK);
    query.filter = expression;
    for (int d = 0; d < DIMENSION; d++)
        q[d] = (float)rand_unit();
    assert_int_equal(index_search(w->index, &query, &w->arena, &hits, &err), RC_OK);
    bool taken[IDS] = {0};
    for (size_t i = 0; i <= hits.count; i++) {
        double best = -INFINITY;
        for (unsigned id = 0; id < IDS; id++) {
            const struct model_row *m = &w->rows[id];
            double distance = 0;
            if (taken[id] || !found_by(m, true) || m->number < from || m->number >= below)
                continue;
            for (int d = 0; d < DIMENSION; d++)
                distance += ((double)q[d] - m->vector[d]) * ((double)q[d] - m->vector[d]);
            best = fmax(best, -distance);
        }
        if (i == hits.count) {
            assert_true(hits.count == 10 || best == -INFINITY);
            break;
        }
        assert_true(fabs(hits.items[i].score - best) < 1e-4);
        taken[id_of(hits.items[i].id)] = true;
    }
}

static void check_words(struct world *w, unsigned group)
{
    char text[16];
    struct err err = {0};
    struct index_hits hits;
    unsigned expected = 0;
    snprintf(text, sizeof(text), "word%u", group);
    struct index_query query = {
        .text = str_from(text), .k = IDS, .all_tags = true, .score_min = -INFINITY};
    for (unsigned id = 0; id < IDS; id++)
        expected += found_by(&w->rows[id], false) && w->rows[id].group == group;
    assert_int_equal(index_search(w->index, &query, &w->arena, &hits, &err), RC_OK);
    assert_int_equal(hits.count, expected);
    for (size_t i = 0; i < hits.count; i++)
        assert_int_equal(w->rows[id_of(hits.items[i].id)].group, group);
}

static void check_rows(struct world *w)
{
    struct index_row *rows, row;
    struct err err = {0};
    size_t count, alive = 0, seen = 0;
    uint64_t cursor = 0;
    char id[16];
    for (unsigned i = 0; i < IDS; i++)
        alive += w->rows[i].alive;
    do {
        assert_int_equal(index_scroll(w->index, NULL, &cursor, 37, &w->arena, &rows, &count, &err),
                         RC_OK);
        for (size_t i = 0; i < count; i++) {
            const struct model_row *m = &w->rows[id_of(rows[i].id)];
            assert_true(m->alive && m->disabled == rows[i].disabled);
            assert_true(m->no_vector == (rows[i].vectors[0] == NULL));
            if (!m->no_vector)
                assert_memory_equal(rows[i].vectors[0], m->vector, sizeof(m->vector));
        }
        seen += count;
    } while (cursor);
    assert_int_equal(seen, alive);
    unsigned one = (unsigned)rand_below(IDS);
    snprintf(id, sizeof(id), "id%u", one);
    assert_int_equal(index_get(w->index, str_from(id), &w->arena, &row, &err),
                     w->rows[one].alive ? RC_OK : RC_NOT_FOUND);
    struct index_stats stats;
    index_stats(w->index, &stats);
    assert_int_equal(stats.rows, alive);
}

static void check_facets(struct world *w)
{
    struct index_facet *facets;
    struct err err = {0};
    size_t count;
    unsigned counts[5] = {0};
    for (unsigned i = 0; i < IDS; i++)
        counts[w->rows[i].group] += found_by(&w->rows[i], false);
    assert_int_equal(index_facets(w->index, NULL, STR("g"), 10, &w->arena, &facets, &count, &err),
                     RC_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(facets[i].count, counts[facets[i].value.p[1] - '0']);
}

static void check(struct world *w)
{
    arena_reset(&w->arena);
    check_vectors(w, NULL, 0, UINT32_MAX);
    check_vectors(w, "n >= 300 and n < 600", 300, 600);
    check_vectors(w, "n < 20", 0, 20);
    check_words(w, (unsigned)rand_below(5));
    check_rows(w);
    check_facets(w);
}

static void agrees_with_a_model(void **state)
{
    uint64_t segments_max = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world *w = xcalloc(1, sizeof(*w));
        struct err err = {0};
        rand_seed(seed);
        w->fs = file_system_memory_new(seed);
        arena_init(&w->arena, 64 << 20);
        assert_int_equal(file_make_directory(w->fs, "/i"), RC_OK);
        world_open(w);
        for (int round = 0; round < ROUNDS; round++) {
            for (uint64_t n = rand_below(6); n > 0; n--)
                upsert(w);
            if (rand_below(3) == 0)
                delete_some(w);
            if (rand_below(8) == 0)
                delete_where(w);
            if (rand_below(3) == 0)
                assert_int_equal(index_maintain(w->index, NULL, NULL, &err), RC_OK);
            else if (rand_below(3) == 0)
                assert_int_equal(index_seal(w->index, NULL, NULL, &err), RC_OK);
            if (rand_below(6) == 0)
                reopen(w);
            struct index_stats stats;
            index_stats(w->index, &stats);
            segments_max = MAX(segments_max, stats.segments);
            check(w);
        }
        arena_fini(&w->arena);
        index_close(w->index);
        file_system_free(w->fs);
        free(w);
    }
    assert_true(segments_max >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_a_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
