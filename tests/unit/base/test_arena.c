/* Arenas keep their cap, align what they give, and survive sizes that overflow. */
#include "base/arena.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdarg.h>
#include <cmocka.h>

static void gives_aligned_memory(void **state)
{
    struct arena arena;
    arena_init(&arena, 1 << 20);
    assert_int_equal(arena.used_bytes, 0);
    for (size_t n = 0; n < 3000; n += 7) {
        char *p = arena_alloc(&arena, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 0xa5, n);
    }
    const unsigned char *zero = arena_calloc(&arena, 100);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(zero[i], 0);
    arena_fini(&arena);
    assert_int_equal(arena.used_bytes, 0);
}

static void starts_small(void **state)
{
    struct arena arena;
    arena_init(&arena, 1 << 20);
    assert_non_null(arena_alloc(&arena, 10));
    assert_true(arena.used_bytes <= 1024);
    arena_fini(&arena);
}

static void keeps_its_cap(void **state)
{
    struct arena arena;
    arena_init(&arena, 100000);
    size_t got = 0;
    while (arena_alloc(&arena, 1000))
        got++;
    assert_true(got >= 80 && got <= 100);
    assert_true(arena.used_bytes <= 100000);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 8));
    assert_null(arena_copy(&arena, str_make("x", SIZE_MAX)).p);
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 90000));
    assert_null(arena_alloc(&arena, 90000));
    arena_fini(&arena);
    arena_thread_exit();
}

static void copies_text(void **state)
{
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct str s = arena_copy(&arena, STR("hello"));
    assert_string_equal(s.p, "hello");
    assert_string_equal(arena_copy(&arena, STR_EMPTY).p, "");
    assert_string_equal(arena_concat(&arena, s, STR(" world")).p, "hello world");
    s = arena_printf(&arena, "%d-%s", 42, "x");
    assert_true(str_eq(s, STR("42-x")));
    arena_fini(&arena);
}

/* What was parked stands where it stood; what is allocated meanwhile stays, too. */
static void parks_and_wakes(void **state)
{
    struct arena arena;
    struct str texts[40];
    arena_init_paged(&arena, 1 << 20);
    assert_false(arena_park(&arena)); /* nothing is there */
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        texts[i] = arena_printf(&arena, "text %zu of %*zu", i, (int)(i * 37 % 700), i);
    char *large = arena_alloc(&arena, 50000); /* in no page */
    memset(large, 7, 50000);
    assert_true(arena_park(&arena));
    assert_false(arena_park(&arena));
    assert_int_equal(large[49999], 7);
    struct str meanwhile = arena_copy(&arena, STR("said while it was parked"));
    assert_true(str_eq(meanwhile, STR("said while it was parked")));
    for (int round = 0; round < 3; round++) {
        arena_wake(&arena);
        arena_wake(&arena);
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
            char expected[1024];
            snprintf(expected, sizeof(expected), "text %zu of %*zu", i, (int)(i * 37 % 700), i);
            assert_string_equal(texts[i].p, expected);
        }
        assert_true(str_eq(meanwhile, STR("said while it was parked")));
        assert_non_null(arena_alloc(&arena, 100));
        assert_true(arena_park(&arena));
    }
    arena_reset(&arena); /* parked as it is */
    assert_null(arena.parked);
    assert_non_null(arena_alloc(&arena, 100));
    arena_fini(&arena);

    arena_init(&arena, 1 << 20);
    assert_non_null(arena_alloc(&arena, 100));
    assert_false(arena_park(&arena)); /* it was not made for it */
    arena_fini(&arena);
    arena_thread_exit();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_aligned_memory), cmocka_unit_test(starts_small),
        cmocka_unit_test(keeps_its_cap),        cmocka_unit_test(copies_text),
        cmocka_unit_test(parks_and_wakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
