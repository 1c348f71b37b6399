/* The table against an array: random puts, gets and removals over colliding keys. */
#include "base/map.h"
#include "base/rand.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define KEYS 700

static void agrees_with_an_array(void **state)
{
    static char names[KEYS][16];
    static int values[KEYS][2];
    void *model[KEYS] = {0};
    for (int i = 0; i < KEYS; i++)
        snprintf(names[i], sizeof(names[i]), "key-%d", i);
    struct map map;
    map_init(&map);
    size_t count = 0;
    rand_seed(2);
    for (int step = 0; step < 200000; step++) {
        size_t i = (size_t)rand_below(KEYS);
        struct str key = str_from(names[i]);
        if (rand_below(2)) {
            void *value = &values[i][rand_below(2)];
            assert_ptr_equal(map_put(&map, key, value), model[i]);
            count += model[i] == NULL;
            model[i] = value;
        } else {
            assert_ptr_equal(map_remove(&map, key), model[i]);
            count -= model[i] != NULL;
            model[i] = NULL;
        }
        assert_int_equal(map.count, count);
        i = (size_t)rand_below(KEYS);
        assert_ptr_equal(map_get(&map, str_from(names[i])), model[i]);
    }
    size_t seen = 0;
    MAP_FOR_EACH (slot, &map) {
        assert_non_null(slot->value);
        seen++;
    }
    assert_int_equal(seen, count);
    map_fini(&map);
}

static void empty_table(void **state)
{
    struct map map;
    map_init(&map);
    assert_null(map_get(&map, STR("a")));
    assert_null(map_remove(&map, STR("a")));
    map_reserve(&map, 1000);
    size_t capacity = map.capacity;
    int value;
    static char names[1000][8];
    for (int i = 0; i < 1000; i++) {
        snprintf(names[i], sizeof(names[i]), "%d", i);
        map_put(&map, str_from(names[i]), &value);
    }
    assert_int_equal(map.capacity, capacity);
    map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_an_array),
        cmocka_unit_test(empty_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
