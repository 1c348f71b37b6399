/* Filters and access tags: columns must say the same as looking at each row. */
#include "vector/index_private.h"
#include "base/rand.h"
#include <stdio.h>
#include <stdlib.h>
#include "../test.h"

#define ROWS 3000

static const struct index_config config = {.texts = {{STR_INIT("text"), 1}}, .text_count = 1};

/* Members of every type, some missing, null, named twice. */
static void make_payload(char *out, size_t bytes)
{
    static const char *const values[] = {
        "12",   "-3.5",          "0",         "true",      "false",
        "null", "\"\"",          "\"x\"",     "\"12\"",    "\"Äpfel und Birnen\"",
        "[]",   "[\"x\",\"y\"]", "[1,\"x\"]", "{\"a\":1}", "{\"a\":{\"b\":[5,6]}}"};
    size_t n = (size_t)snprintf(out, bytes, "{\"n\":%d,\"key\":\"k%d\"", (int)rand_below(100),
                                (int)rand_below(2000));
    for (int m = 0; m < 3; m++)
        if (rand_below(4))
            n += (size_t)snprintf(out + n, bytes - n, ",\"m%d\":%s", m,
                                  values[rand_below(COUNT_OF(values))]);
    if (rand_below(10) == 0)
        n += (size_t)snprintf(out + n, bytes - n, ",\"n\":1000");
    switch (rand_below(6)) {
    case 0: n += (size_t)snprintf(out + n, bytes - n, ",\"tags\":[\"a\"]"); break;
    case 1: n += (size_t)snprintf(out + n, bytes - n, ",\"tags\":[\"b\",\"c\"]"); break;
    case 2: n += (size_t)snprintf(out + n, bytes - n, ",\"tags\":\"a\""); break;
    case 3: n += (size_t)snprintf(out + n, bytes - n, ",\"tags\":7"); break;
    case 4: n += (size_t)snprintf(out + n, bytes - n, ",\"tags\":[]"); break;
    default: break;
    }
    snprintf(out + n, bytes - n, "}");
}

static void fill(struct index *index)
{
    static char ids[500][16], payloads[500][512];
    static struct index_row rows[500];
    struct err err = {0};
    for (int at = 0; at < ROWS; at += 500) {
        for (int i = 0; i < 500; i++) {
            snprintf(ids[i], sizeof(ids[i]), "r%d", at + i);
            make_payload(payloads[i], sizeof(payloads[i]));
            rows[i] = (struct index_row){.id = str_from(ids[i]),
                                         .payload = str_from(payloads[i]),
                                         .disabled = rand_below(20) == 0};
            if (rand_below(20) == 0)
                rows[i].payload = STR_EMPTY;
        }
        assert_int_equal(index_upsert(index, rows, 500, &err), RC_OK);
    }
}

static const char *const expressions[] = {
    "n == 5",
    "n != 5",
    "5 == n",
    "n < 30 and n >= 10",
    "n < 30 or not (n < 60)",
    "not n",
    "m0",
    "not m0",
    "m0 == null",
    "m0 != null",
    "m0 == true or m1 == 'x'",
    "m0 == 12 and m1 != 12",
    "m0 > 'w'",
    "m0 in ['x', 12, null]",
    "m0 not in ['x', 12, null]",
    "'x' in m0",
    "m0 contains 'x'",
    "m0 contains 'pfel'",
    "m0 contains 1",
    "m0.a == 1",
    "m0.a.b[1] == 6",
    "m0[0] == 'x'",
    "m0 matches '*Birnen'",
    "lower(m0) == 'x'",
    "length(m0) > 1 and length(m1) < 3",
    "exists(m0) and not exists(m1)",
    "default(m0, 12) == 12",
    "number(m0) == 12",
    "text(m0) == '12'",
    "starts_with(key, 'k1')",
    "ends_with(key, '7') and n > 50 and not (m2 == 'x' or m1 == false)",
    "m0 == m1",
    "m0 == m1 and n < 50",
    "not (n < 50 and (m0 == m1 or m2))",
    "nothing == null",
    "nothing == 3",
    "not nothing and n % 2 == 0",
    "true",
    "false or n == 3",
    "n + 1 == 6",
    "max(n, 50) == 50",
    "tags contains 'a'",
};

/* Rows that match, by columns and one by one; how often columns answered alone. */
static void compare(struct index *index, const struct index_matcher *matcher, const char *what)
{
    struct index_view *view = index_view_take(index);
    struct arena arena, scratch;
    size_t different = 0;
    arena_init(&arena, 16 << 20);
    arena_init(&scratch, 2 << 20);
    for (size_t p = 0; p < view->count; p++) {
        uint64_t *bits;
        size_t count, matching = 0;
        assert_int_equal(index_match(&view->parts[p], matcher, &arena, &bits, &count), RC_OK);
        for (uint32_t row = 0; row < view->parts[p].rows; row++) {
            bool matches;
            arena_reset(&scratch);
            assert_int_equal(index_match_row(&view->parts[p], row, matcher, &scratch, &matches),
                             RC_OK);
            different += matches != (bits ? bitmap_get(bits, row) : true);
            matching += matches;
        }
        assert_int_equal(count, matching);
    }
    if (different)
        print_error("%s: %zu rows differ\n", what, different);
    assert_int_equal(different, 0);
    arena_fini(&arena);
    arena_fini(&scratch);
    index_view_release(view);
}

static void columns_agree_with_rows(void **state)
{
    struct file_system *fs = file_system_memory_new(1);
    struct index *index;
    struct err err = {0};
    rand_seed(11);
    assert_int_equal(file_make_directory(fs, "/i"), RC_OK);
    assert_int_equal(index_open(fs, "/i/f", &config, &index, &err), RC_OK);
    index->tail_rows_max = 900;
    fill(index);
    assert_int_equal(index_maintain(index, NULL, NULL, &err), RC_OK);
    struct str ids[] = {STR("r1"), STR("r77"), STR("r1500")};
    assert_int_equal(index_delete(index, ids, 3, NULL, &err), RC_OK);
    struct index_stats stats;
    index_stats(index, &stats);
    assert_true(stats.segments >= 2);
    struct str tags[] = {STR("a"), STR("c")};
    for (size_t e = 0; e < COUNT_OF(expressions); e++) {
        struct arena arena;
        struct expression *filter;
        arena_init(&arena, 1 << 20);
        assert_int_equal(expression_parse(str_from(expressions[e]), &arena, &filter, &err), RC_OK);
        for (int way = 0; way < 4; way++) {
            struct index_matcher matcher = {.filter = filter,
                                            .tags = tags,
                                            .tag_count = (size_t)way % 3,
                                            .all_tags = way == 3,
                                            .disabled_too = way == 2};
            compare(index, &matcher, expressions[e]);
        }
        arena_fini(&arena);
    }
    struct index_matcher matcher = {.tags = tags, .tag_count = 2};
    compare(index, &matcher, "tags alone");
    index_close(index);
    file_system_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(columns_agree_with_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
