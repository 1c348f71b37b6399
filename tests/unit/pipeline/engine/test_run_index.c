/* The index of runs: pages of a list hold every run once, in whatever order the runs end. */
#include "pipeline/engine/run_index.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define RUNS 500

static struct run_head head_of(struct id id, enum run_status status)
{
    return (struct run_head){.id = id, .pipeline = STR("p"), .status = (uint8_t)status};
}

/* Pages through the list; returns how many runs it shows. */
static size_t page_through(struct run_index *index, int status, size_t limit)
{
    uint64_t before = 0;
    size_t seen = 0, count;
    do {
        struct arena arena;
        struct run_index_row *rows;
        arena_init(&arena, 1 << 20);
        run_index_list(index, (struct id){{0}}, STR("p"), status, before, limit, &arena, &rows,
                       &count);
        for (size_t i = 0; i < count; i++) {
            assert_true(before == 0 || rows[i].seq < before);
            before = rows[i].seq;
        }
        seen += count;
        arena_fini(&arena);
    } while (count == limit);
    return seen;
}

static void runs_that_end_in_another_order_are_all_listed(void **state)
{
    struct run_index *index = run_index_new();
    struct id ids[RUNS];
    UNUSED(state);
    for (int i = 0; i < RUNS; i++) {
        ids[i] = id_new();
        struct run_head head = head_of(ids[i], RUN_RUNNING);
        run_index_begin(index, &head, 0, 0);
    }
    assert_int_equal(page_through(index, RUN_RUNNING, 7), RUNS);
    for (int i = RUNS; i-- > 0;) { /* the last that started ends first */
        struct run_head head = head_of(ids[i], RUN_SUCCEEDED);
        run_index_end(index, &head, STR_EMPTY);
        if (i == RUNS / 2)
            assert_int_equal(page_through(index, -1, 7), RUNS);
    }
    assert_int_equal(page_through(index, RUN_SUCCEEDED, 7), RUNS);
    assert_int_equal(page_through(index, RUN_SUCCEEDED, RUNS), RUNS);
    assert_int_equal(page_through(index, RUN_RUNNING, 7), 0);
    run_index_free(index);
}

static void the_oldest_that_ended_go_first(void **state)
{
    struct run_index *index = run_index_new();
    UNUSED(state);
    for (int i = 0; i < INDEX_ROWS_MAX + 10; i++) {
        struct run_head head = head_of(id_new(), RUN_FAILED);
        run_index_end(index, &head, STR_EMPTY);
    }
    assert_int_equal(page_through(index, RUN_FAILED, 1000), INDEX_ROWS_MAX);
    run_index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_that_end_in_another_order_are_all_listed),
        cmocka_unit_test(the_oldest_that_ended_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
