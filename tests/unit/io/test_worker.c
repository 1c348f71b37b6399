/* The pool: work runs elsewhere, comes home, is bounded, and is finished before the pool goes. */
#include "io/worker.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>
#include <cmocka.h>

#define JOBS 500

struct square {
    struct work work;
    int in, out;
};

static struct loop *loop;
static int done_count;

static void square_work(struct work *work)
{
    struct square *square = CONTAINER_OF(work, struct square, work);
    square->out = square->in * square->in;
    assert_null(loop_current());
}

static void square_done(struct work *work)
{
    struct square *square = CONTAINER_OF(work, struct square, work);
    assert_ptr_equal(loop_current(), loop);
    assert_int_equal(square->out, square->in * square->in);
    if (++done_count == JOBS)
        loop_stop(loop);
}

static void comes_home(void **state)
{
    static struct square squares[JOBS];
    loop = loop_new(0);
    struct worker_pool *pool = worker_pool_new(3, JOBS);
    for (int i = 0; i < JOBS; i++) {
        squares[i] = (struct square){
            .work = {.home = loop, .work = square_work, .done = square_done}, .in = i};
        assert_int_equal(worker_submit(pool, &squares[i].work), RC_OK);
    }
    loop_run(loop);
    worker_pool_free(pool);
    loop_free(loop);
}

static atomic_int finished;
static void slow(struct work *work)
{
    usleep(2000);
    finished++;
}

static void bounded_and_finished(void **state)
{
    static struct work works[20];
    struct worker_pool *pool = worker_pool_new(1, 5);
    int taken = 0;
    for (int i = 0; i < 20; i++) {
        works[i].work = slow;
        taken += worker_submit(pool, &works[i]) == RC_OK;
    }
    assert_true(taken >= 5 && taken < 20);
    worker_pool_free(pool);
    assert_int_equal(finished, taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_home),
        cmocka_unit_test(bounded_and_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
