/* The cache of answers: hits, expiry, its bound, and keys that cannot be shifted into one another.
 */
#include "gateway/cache.h"
#include "base/clock.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct cache_key key_of(int n)
{
    struct cache_key key;
    struct str part = str_make(&n, sizeof(n));
    cache_make_key(&part, 1, &key);
    return key;
}

static void put(int n, struct str body, int64_t now_ns, int64_t ttl_ns)
{
    struct cache_key key = key_of(n);
    cache_put(&key, &(struct cache_entry){.content_type = STR("text/plain"),
                                          .body = body,
                                          .stored_ns = now_ns,
                                          .expires_ns = now_ns + ttl_ns});
}

static int reset(void **state)
{
    cache_clear();
    cache_init(0);
    return 0;
}

static void test_hit_until_it_expires(void **state)
{
    struct cache_key key = key_of(1);
    assert_null(cache_get(&key, 0));
    put(1, STR("body"), 0, 100);
    const struct cache_entry *entry = cache_get(&key, 99);
    assert_non_null(entry);
    assert_true(str_eq(entry->body, STR("body")));
    assert_null(cache_get(&key, 100));
    assert_true(str_eq(entry->body, STR("body"))); /* a reference outlives the table's */
    cache_release(entry);
}

static void test_parts_cannot_be_shifted(void **state)
{
    struct cache_key a, b;
    cache_make_key((struct str[]){STR("ab"), STR("c")}, 2, &a);
    cache_make_key((struct str[]){STR("a"), STR("bc")}, 2, &b);
    assert_memory_not_equal(&a, &b, sizeof(a));
}

static void test_memory_is_bounded(void **state)
{
    cache_init(1 << 20);
    static char body[10000];
    for (int i = 0; i < 1000; i++)
        put(i, str_make(body, sizeof(body)), i, NS_PER_S);
    struct cache_stats stats;
    cache_stats(&stats);
    assert_true(stats.bytes <= 1 << 20);
    assert_true(stats.entries > 50 && stats.evictions > 800);
    static char large[CACHE_ENTRY_BYTES_MAX + 1];
    put(5000, str_make(large, sizeof(large)), 0, NS_PER_S);
    struct cache_key key = key_of(5000);
    assert_null(cache_get(&key, 0));
}

static void test_a_second_answer_takes_the_first_ones_place(void **state)
{
    put(1, STR("old"), 0, 100);
    put(1, STR("new"), 1, 100);
    struct cache_key key = key_of(1);
    const struct cache_entry *entry = cache_get(&key, 2);
    assert_true(str_eq(entry->body, STR("new")));
    cache_release(entry);
    struct cache_stats stats;
    cache_stats(&stats);
    assert_int_equal(stats.entries, 1);
}

/* Entries say their number, so that a torn or wrong one is seen. */
static void *hammer(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < 20000; i++) {
        int n = rand_r(&seed) % 300;
        struct cache_key key = key_of(n);
        char text[16];
        size_t length = (size_t)snprintf(text, sizeof(text), "%d", n);
        const struct cache_entry *entry = cache_get(&key, i);
        if (entry) {
            assert_true(str_eq(entry->body, str_make(text, length)));
            cache_release(entry);
        } else {
            put(n, str_make(text, length), i, 500);
        }
    }
    return NULL;
}

static void test_loops_share_it(void **state)
{
    cache_init(200 * 200);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < COUNT_OF(threads); i++)
        pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    cache_clear();
    struct cache_stats stats;
    cache_stats(&stats);
    assert_int_equal(stats.entries, 0);
    assert_int_equal(stats.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_hit_until_it_expires, reset),
        cmocka_unit_test_setup(test_parts_cannot_be_shifted, reset),
        cmocka_unit_test_setup(test_memory_is_bounded, reset),
        cmocka_unit_test_setup(test_a_second_answer_takes_the_first_ones_place, reset),
        cmocka_unit_test_setup(test_loops_share_it, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
