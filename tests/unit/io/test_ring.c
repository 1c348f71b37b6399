/* The ring with several producers: everything arrives once, in each producer's order. */
#include "base/clock.h"
#include "io/ring.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define PRODUCERS 4
#define ITEMS     50000

static struct ring *ring;

static void *produce(void *arg)
{
    uintptr_t id = (uintptr_t)arg;
    for (uintptr_t i = 1; i <= ITEMS; i++)
        while (!ring_push(ring, (void *)(id << 32 | i)))
            usleep(20);
    return NULL;
}

static void many_producers(void **state)
{
    ring = ring_new(1024);
    pthread_t threads[PRODUCERS];
    uintptr_t last[PRODUCERS] = {0};
    for (uintptr_t i = 0; i < PRODUCERS; i++)
        pthread_create(&threads[i], NULL, produce, (void *)i);
    for (int seen = 0; seen < PRODUCERS * ITEMS;) {
        void *item = ring_pop(ring);
        if (item == NULL) {
            ring_wait(ring, NS_PER_S);
            continue;
        }
        uintptr_t id = (uintptr_t)item >> 32, number = (uintptr_t)item & UINT32_MAX;
        assert_int_equal(number, last[id] + 1);
        last[id] = number;
        seen++;
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    assert_null(ring_pop(ring));
    ring_free(ring);
}

static void bounded(void **state)
{
    int items[5];
    ring = ring_new(4);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++)
            assert_true(ring_push(ring, &items[i]));
        assert_false(ring_push(ring, &items[4]));
        for (int i = 0; i < 4; i++)
            assert_ptr_equal(ring_pop(ring), &items[i]);
        assert_null(ring_pop(ring));
    }
    ring_free(ring);
}

static void *wake_later(void *arg)
{
    usleep(20000);
    ring_wake(ring);
    return NULL;
}

static void waits(void **state)
{
    ring = ring_new(4);
    int64_t start = clock_monotonic_ns();
    ring_wait(ring, 10 * NS_PER_MS);
    assert_true(clock_monotonic_ns() - start >= 10 * NS_PER_MS);
    ring_wake(ring); /* before the wait: not lost */
    ring_wait(ring, -1);
    pthread_t thread;
    pthread_create(&thread, NULL, wake_later, NULL);
    ring_wait(ring, -1);
    pthread_join(thread, NULL);
    assert_true(ring_push(ring, ring));
    ring_wait(ring, -1);
    assert_ptr_equal(ring_pop(ring), ring);
    ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounded),
        cmocka_unit_test(waits),
        cmocka_unit_test(many_producers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
