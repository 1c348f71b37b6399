/* The epoll loop: timers, tasks from other threads, watches. */
#include "base/clock.h"
#include "io/loop.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct loop *loop;

static void stop(struct timer *timer) { loop_stop(loop); }

static int fired;
static void count_fire(struct timer *timer) { fired++; }

static void timers_fire(void **state)
{
    struct timer end, one, stopped;
    timer_init(&end, stop);
    timer_init(&one, count_fire);
    timer_init(&stopped, count_fire);
    int64_t start = loop_now_ns(loop); /* delays count from here, which may be a while ago */
    timer_start(loop, &end, 30 * NS_PER_MS);
    timer_start(loop, &one, 5 * NS_PER_MS);
    timer_start(loop, &stopped, 10 * NS_PER_MS);
    timer_stop(&stopped);
    loop_run(loop);
    int64_t took = clock_monotonic_ns() - start;
    assert_int_equal(fired, 1);
    assert_false(timer_armed(&one));
    assert_true(took >= 29 * NS_PER_MS);
    assert_null(loop_current());
}

#define POSTERS        4
#define TASKS_A_POSTER 20000

struct numbered {
    struct task task;
    int poster, number;
};

static int last_number[POSTERS], tasks_seen;

static void see_task(struct task *task)
{
    struct numbered *numbered = CONTAINER_OF(task, struct numbered, task);
    assert_ptr_equal(loop_current(), loop);
    assert_int_equal(numbered->number, last_number[numbered->poster] + 1);
    last_number[numbered->poster] = numbered->number;
    free(numbered);
    if (++tasks_seen == POSTERS * TASKS_A_POSTER)
        loop_stop(loop);
}

static void *post_many(void *arg)
{
    for (int i = 0; i < TASKS_A_POSTER; i++) {
        struct numbered *numbered = xcalloc(1, sizeof(*numbered));
        *numbered = (struct numbered){{.run = see_task}, (int)(intptr_t)arg, i + 1};
        loop_post(loop, &numbered->task);
        if (i % 100 == 0)
            usleep(10);
    }
    return NULL;
}

static void tasks_arrive_in_order(void **state)
{
    pthread_t threads[POSTERS];
    for (intptr_t i = 0; i < POSTERS; i++)
        pthread_create(&threads[i], NULL, post_many, (void *)i);
    loop_run(loop);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(tasks_seen, POSTERS * TASKS_A_POSTER);
}

static char order[8];
static struct task first, second, third;

static void run_third(struct task *task)
{
    strcat(order, "3");
    loop_stop(loop);
}

static void run_second(struct task *task) { strcat(order, "2"); }

static void run_first(struct task *task)
{
    strcat(order, "1");
    third.run = run_third;
    loop_defer(loop, &third); /* for the end of the next turn */
}

static void deferred_tasks_run_in_order(void **state)
{
    first.run = run_first;
    second.run = run_second;
    loop_defer(loop, &first);
    loop_defer(loop, &second);
    loop_run(loop);
    assert_string_equal(order, "123");
}

static struct watch pair[2];
static int watch_calls;

static void never(struct watch *watch, unsigned events) { fail(); }

/* Both ends are ready in one turn; the first that is told takes both away. */
static void unwatch_all(struct watch *watch, unsigned events)
{
    assert_true(events & LOOP_WRITE);
    watch_calls++;
    loop_unwatch(loop, &pair[0]);
    loop_unwatch(loop, &pair[1]);
    loop_stop(loop);
}

static void watches_can_be_taken_away(void **state)
{
    int pipes[2][2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        pair[i] = (struct watch){.fd = pipes[i][1], .ready = never};
        assert_int_equal(loop_watch(loop, &pair[i], 0), RC_OK);
        pair[i].ready = unwatch_all;
        loop_watch_change(loop, &pair[i], LOOP_WRITE);
    }
    loop_run(loop);
    assert_int_equal(watch_calls, 1);
    struct watch bad = {.fd = -1, .ready = never};
    assert_int_equal(loop_watch(loop, &bad, LOOP_READ), RC_IO);
    for (int i = 0; i < 4; i++)
        close(pipes[i / 2][i % 2]);
}

static int hook_calls;
static void hook(struct loop *at, void *arg)
{
    assert_ptr_equal(arg, &hook_calls);
    if (++hook_calls == 3)
        loop_stop(at);
}

static void keep_going(struct task *task)
{
    if (hook_calls < 3)
        loop_defer(loop, task);
}

static void hooks_run_each_turn(void **state)
{
    struct loop *own = loop_new(1), *saved = loop;
    loop = own;
    loop_on_turn(own, hook, &hook_calls);
    struct timer timer;
    timer_init(&timer, count_fire);
    for (int i = 0; i < 3; i++)
        timer_start(own, &timer, NS_PER_MS);
    struct task task = {.run = keep_going};
    loop_defer(own, &task);
    loop_run(own);
    assert_int_equal(hook_calls, 3);
    struct loop_stats stats;
    loop_stats(own, &stats);
    assert_true(stats.turns >= 3 && stats.tasks_run >= 2);
    timer_stop(&timer);
    loop_free(own);
    loop = saved;
}

int main(void)
{
    loop = loop_new(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire),
        cmocka_unit_test(tasks_arrive_in_order),
        cmocka_unit_test(deferred_tasks_run_in_order),
        cmocka_unit_test(watches_can_be_taken_away),
        cmocka_unit_test(hooks_run_each_turn),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(loop);
    return failed;
}
