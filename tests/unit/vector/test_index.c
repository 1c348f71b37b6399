/* The index as a whole, on files in memory: what is put in is found, by vector, by words, by both,
 * under filters and tags, before and after closing. */
#include "vector/index.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "../test.h"

#define DIMENSION 8

static struct file_system *make_fs(void)
{
    struct file_system *fs = file_system_memory_new(1);
    assert_int_equal(file_make_directory(fs, "/i"), RC_OK);
    return fs;
}

static const struct index_config config = {
    .vectors = {{.name = STR_INIT(""), .dimension = DIMENSION, .metric = METRIC_COSINE}},
    .vector_count = 1,
    .texts = {{STR_INIT("text"), 1}, {STR_INIT("title"), 2}},
    .text_count = 2,
};

static struct index *open_index(struct file_system *fs)
{
    struct index *index;
    struct err err = {0};
    enum rc rc = index_open(fs, "/i/one", &config, &index, &err);
    if (rc != RC_OK)
        print_error("%s\n", err.message);
    assert_int_equal(rc, RC_OK);
    return index;
}

static void put(struct index *index, const char *id, const char *text, const char *title,
                const char *payload, float angle)
{
    float vector[DIMENSION] = {cosf(angle), sinf(angle)};
    struct index_row row = {.id = str_from(id),
                            .vectors = {vector},
                            .texts = {str_from(text), str_from(title)},
                            .payload = str_from(payload)};
    struct err err = {0};
    enum rc rc = index_upsert(index, &row, 1, &err);
    if (rc != RC_OK)
        print_error("%s\n", err.message);
    assert_int_equal(rc, RC_OK);
}

static void fill(struct index *index)
{
    put(index, "a", "The quick brown foxes are jumping over the lazy dog", "Foxes",
        "{\"lang\":\"en\",\"year\":2001,\"doc\":\"x\"}", 0.0f);
    put(index, "b", "A slow brown bear sleeps all winter long", "Bears",
        "{\"lang\":\"en\",\"year\":2005,\"doc\":\"x\",\"tags\":[\"secret\"]}", 0.3f);
    put(index, "c", "Foxes hunt at night; the fox is clever", "",
        "{\"lang\":\"de\",\"year\":2010,\"doc\":\"y\"}", 0.6f);
    put(index, "d", "数据库系统是一个软件", "Datenbank", "", 0.9f);
}

/* The ids found, joined. */
static const char *find(struct index *index, struct index_query query, const char *filter)
{
    static char ids[256];
    struct arena arena;
    struct expression *expression = NULL;
    struct index_hits hits;
    struct err err = {0};
    arena_init(&arena, 4 << 20);
    if (filter)
        assert_int_equal(expression_parse(str_from(filter), &arena, &expression, &err), RC_OK);
    query.filter = expression;
    query.k = query.k ? query.k : 10;
    query.score_min = query.score_min != 0 ? query.score_min : -INFINITY;
    enum rc rc = index_search(index, &query, &arena, &hits, &err);
    if (rc != RC_OK)
        print_error("%s\n", err.message);
    assert_int_equal(rc, RC_OK);
    ids[0] = '\0';
    for (size_t i = 0; i < hits.count; i++) {
        snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "%.*s", STR_ARG(hits.items[i].id));
        if (i > 0)
            assert_true(query.diversity > 0 || hits.items[i].score <= hits.items[i - 1].score);
    }
    arena_fini(&arena);
    return ids;
}

static struct index_query by_text(const char *text)
{
    return (struct index_query){.text = str_from(text), .all_tags = true};
}

static void check_answers(struct index *index)
{
    float near_c[DIMENSION] = {cosf(0.59f), sinf(0.59f)};
    assert_string_equal(find(index, by_text("fox"), NULL), "ac");
    assert_string_equal(find(index, by_text("JUMPED"), NULL), "a");
    assert_string_equal(find(index, by_text("brown bear"), NULL), "ba");
    assert_string_equal(find(index, by_text("\"brown foxes\""), NULL), "a");
    assert_string_equal(find(index, by_text("\"foxes brown\""), NULL), "");
    assert_string_equal(find(index, by_text("sle*"), NULL), "b");
    assert_string_equal(find(index, by_text("数据"), NULL), "d");
    assert_string_equal(find(index, by_text("软"), NULL), "d");
    assert_string_equal(find(index, by_text("nothing such"), NULL), "");
    assert_string_equal(find(index, by_text("fox"), "lang == 'de'"), "c");
    assert_string_equal(find(index, by_text("fox bear"), "year >= 2005"), "bc");
    struct index_query query = {.vector = near_c, .all_tags = true};
    assert_string_equal(find(index, query, NULL), "cbda");
    assert_string_equal(find(index, query, "lang == 'en'"), "ba");
    query.all_tags = false;
    assert_string_equal(find(index, query, NULL), "cda");
    query.tags = &STR("secret");
    query.tag_count = 1;
    query.k = 2;
    assert_string_equal(find(index, query, NULL), "cb");
    query.k = 3;
    query.text = STR("fox");
    query.text_weight = -1;
    assert_string_equal(find(index, query, NULL), "cab");
    query.text_weight = 0;
    assert_string_equal(find(index, query, NULL), "cbd");
    query.fusion = FUSION_WEIGHTED;
    query.text_weight = 1;
    assert_string_equal(find(index,
                             (struct index_query){.vector = near_c,
                                                  .text = STR("fox"),
                                                  .fusion = FUSION_WEIGHTED,
                                                  .text_weight = 1,
                                                  .k = 1,
                                                  .all_tags = true},
                             NULL),
                        "a");
    query = (struct index_query){.vector = near_c, .group_by = STR("doc"), .all_tags = true};
    query.group_size = 1;
    assert_string_equal(find(index, query, NULL), "cbd");
    query = (struct index_query){.vector = near_c, .all_tags = true, .score_min = 0.95};
    assert_string_equal(find(index, query, NULL), "cbd");
    query = (struct index_query){.vector = near_c, .all_tags = true, .diversity = 0.9, .k = 2};
    assert_string_equal(find(index, query, NULL), "ca");
}

static void finds_what_was_put(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs);
    fill(index);
    check_answers(index);
    index_close(index);
    index = open_index(fs);
    check_answers(index);
    index_close(index);
    file_system_free(fs);
}

static void replaces_and_deletes(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs);
    fill(index);
    put(index, "a", "a whale", "", "{\"lang\":\"en\"}", 0.1f);
    assert_string_equal(find(index, by_text("fox"), NULL), "c");
    assert_string_equal(find(index, by_text("whales"), NULL), "a");
    size_t deleted;
    struct err err = {0};
    struct str ids[] = {STR("a"), STR("zz"), STR("c")};
    assert_int_equal(index_delete(index, ids, 3, &deleted, &err), RC_OK);
    assert_int_equal(deleted, 2);
    assert_string_equal(find(index, by_text("whale fox bear"), NULL), "b");
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct expression *filter;
    assert_int_equal(expression_parse(STR("year == 2005"), &arena, &filter, &err), RC_OK);
    assert_int_equal(index_delete_where(index, filter, &deleted, &err), RC_OK);
    assert_int_equal(deleted, 1);
    struct index_stats stats;
    index_stats(index, &stats);
    assert_int_equal(stats.rows, 1);
    struct index_row row;
    assert_int_equal(index_get(index, STR("b"), &arena, &row, &err), RC_NOT_FOUND);
    assert_int_equal(index_get(index, STR("d"), &arena, &row, &err), RC_OK);
    assert_true(str_eq(row.texts[1], STR("Datenbank")));
    assert_true(fabsf(row.vectors[0][0] - cosf(0.9f)) < 1e-6f);
    index_close(index);
    index = open_index(fs);
    index_stats(index, &stats);
    assert_int_equal(stats.rows, 1);
    arena_fini(&arena);
    index_close(index);
    file_system_free(fs);
}

static void scrolls_and_counts(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs);
    struct arena arena;
    struct err err = {0};
    struct index_row *rows;
    struct index_facet *facets;
    size_t count;
    uint64_t cursor = 0;
    arena_init(&arena, 4 << 20);
    fill(index);
    put(index, "a", "again", "", "{\"lang\":\"fr\"}", 0.1f);
    assert_int_equal(index_scroll(index, NULL, &cursor, 3, &arena, &rows, &count, &err), RC_OK);
    assert_int_equal(count, 3);
    assert_true(cursor != 0 && str_eq(rows[0].id, STR("b")) && str_eq(rows[2].id, STR("d")));
    assert_int_equal(index_scroll(index, NULL, &cursor, 3, &arena, &rows, &count, &err), RC_OK);
    assert_true(count == 1 && cursor == 0 && str_eq(rows[0].id, STR("a")));
    assert_int_equal(index_facets(index, NULL, STR("lang"), 10, &arena, &facets, &count, &err),
                     RC_OK);
    assert_int_equal(count, 3);
    assert_true(str_eq(facets[0].value, STR("de")) && facets[0].count == 1);
    arena_fini(&arena);
    index_close(index);
    file_system_free(fs);
}

static void hides_disabled_rows(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs);
    fill(index);
    struct index_row row = {.id = STR("c"), .texts = {STR("fox")}, .disabled = true};
    struct arena arena;
    struct err err = {0};
    assert_int_equal(index_upsert(index, &row, 1, &err), RC_OK);
    assert_string_equal(find(index, by_text("fox"), NULL), "a");
    arena_init(&arena, 1 << 20);
    assert_int_equal(index_get(index, STR("c"), &arena, &row, &err), RC_OK);
    assert_true(row.disabled && !row.vectors[0]);
    arena_fini(&arena);
    index_close(index);
    file_system_free(fs);
}

static void copies_itself(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs), *copy;
    struct err err = {0};
    fill(index);
    assert_int_equal(index_snapshot(index, "/i/two", &err), RC_OK);
    assert_int_equal(index_delete(index, &STR("a"), 1, NULL, &err), RC_OK);
    assert_int_equal(index_open(fs, "/i/two", NULL, &copy, &err), RC_OK);
    check_answers(copy);
    index_close(copy);
    index_close(index);
    file_system_free(fs);
}

static void ranks_by_the_defaults(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs);
    const struct index_config *now = index_config_of(index);
    struct err err = {0};
    assert_int_equal(index_set_ranking(index, 2, 0.5, NULL, &err), RC_OK);
    assert_true(now->k1 == 2 && now->b == 0.5);
    assert_int_equal(index_set_ranking(index, 0, 0, NULL, &err), RC_OK);
    assert_true(now->k1 == INDEX_K1_DEFAULT && now->b == INDEX_B_DEFAULT);
    index_close(index);
    file_system_free(fs);
}

static void refuses_what_is_wrong(void **state)
{
    struct file_system *fs = make_fs();
    struct index *index = open_index(fs);
    struct err err = {0};
    float zero[DIMENSION] = {0}, nan_vector[DIMENSION] = {NAN};
    struct index_row bad[] = {
        {.id = STR_EMPTY},
        {.id = STR("x"), .payload = STR("[1]")},
        {.id = STR("x"), .payload = STR("{")},
        {.id = STR("x"), .texts = {STR("\xff")}},
        {.id = STR("x"), .vectors = {zero}},
        {.id = STR("x"), .vectors = {nan_vector}},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(index_upsert(index, &bad[i], 1, &err), RC_INVALID);
    struct index *other;
    assert_int_equal(index_open(fs, "/i/one", &config, &other, &err), RC_CONFLICT);
    index_close(index);
    struct index_config changed = config;
    changed.vectors[0].dimension = 9;
    assert_int_equal(index_open(fs, "/i/one", &changed, &other, &err), RC_CONFLICT);
    assert_int_equal(index_open(fs, "/i/none", NULL, &other, &err), RC_NOT_FOUND);
    file_system_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_put),    cmocka_unit_test(replaces_and_deletes),
        cmocka_unit_test(scrolls_and_counts),    cmocka_unit_test(hides_disabled_rows),
        cmocka_unit_test(copies_itself),         cmocka_unit_test(ranks_by_the_defaults),
        cmocka_unit_test(refuses_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
