/* Events: order, replay after a lost connection, projects kept apart, a bounded window. */
#include "job/event.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct watcher {
    struct event_reader reader;
    struct arena arena;
    char seen[256];
    uint64_t last_seq, missed;
    bool closed;
};

static struct loop *loop;
static struct event_bus *bus;
static const struct id ours = {{1}}, theirs = {{2}};

static void on_ready(struct event_reader *reader)
{
    struct watcher *watcher = CONTAINER_OF(reader, struct watcher, reader);
    struct event event;
    uint64_t missed;
    while (event_read(reader, &watcher->arena, &event, &missed) == RC_OK) {
        strncat(watcher->seen, event.data.p, event.data.n);
        watcher->last_seq = event.seq;
        watcher->missed += missed;
    }
    loop_stop(loop);
}

static void on_closed(struct event_reader *reader)
{
    CONTAINER_OF(reader, struct watcher, reader)->closed = true;
    loop_stop(loop);
}

static void watch(struct watcher *watcher, struct id project, uint64_t after)
{
    memset(watcher, 0, sizeof(*watcher));
    arena_init(&watcher->arena, 1 << 20);
    watcher->reader = (struct event_reader){loop, project, 1u << EVENT_CALL, on_ready};
    event_subscribe(bus, &watcher->reader, after);
}

static void unwatch(struct watcher *watcher)
{
    event_unsubscribe(&watcher->reader, on_closed);
    while (!watcher->closed)
        loop_run(loop);
    arena_fini(&watcher->arena);
}

static void test_order_projects_and_replay(void **state)
{
    struct watcher first, again;
    UNUSED(state);
    loop = loop_new(0);
    bus = event_bus_new(1 << 20);
    assert_false(event_wanted(bus, EVENT_CALL));
    watch(&first, ours, 0);
    assert_true(event_wanted(bus, EVENT_CALL));
    event_publish(bus, ours, EVENT_CALL, STR("a"));
    event_publish(bus, theirs, EVENT_CALL, STR("X"));
    event_publish(bus, ours, EVENT_JOB, STR("Y"));
    event_publish(bus, ours, EVENT_CALL, STR("b"));
    loop_run(loop);
    assert_string_equal(first.seen, "ab");
    uint64_t seen = first.last_seq;
    unwatch(&first);
    event_publish(bus, ours, EVENT_CALL, STR("c")); /* within the minute of lingering */
    watch(&again, ours, seen);
    loop_run(loop);
    assert_string_equal(again.seen, "c");
    assert_int_equal(again.missed, 0);
    unwatch(&again);
    event_bus_free(bus);
    loop_free(loop);
}

static void test_window_is_bounded_and_says_so(void **state)
{
    struct watcher watcher;
    UNUSED(state);
    loop = loop_new(0);
    bus = event_bus_new(4);
    watch(&watcher, ours, 0);
    for (int i = 0; i < 10; i++)
        event_publish(bus, ours, EVENT_CALL, STR("12"));
    loop_run(loop);
    assert_string_equal(watcher.seen, "1212");
    assert_int_equal(watcher.missed, 8);
    unwatch(&watcher);
    event_bus_free(bus);
    loop_free(loop);
}

static void test_types(void **state)
{
    unsigned types;
    UNUSED(state);
    assert_int_equal(event_types_parse(STR("call,job"), &types), RC_OK);
    assert_int_equal(types, 1u << EVENT_CALL | 1u << EVENT_JOB);
    assert_int_equal(event_types_parse(STR("nothing"), &types), RC_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_projects_and_replay),
        cmocka_unit_test(test_window_is_bounded_and_says_so),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
