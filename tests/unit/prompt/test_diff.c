/* Word diff: its parts give both texts again, and only what changed is marked. */
#include "prompt/diff.h"
#include "base/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

static void expect(const char *before, const char *after, const char *marked)
{
    static const char marks[] = {' ', '+', '-'};
    struct arena arena;
    struct diff_part *parts;
    struct buf out, old, new;
    size_t count;
    arena_init(&arena, 64 << 20);
    buf_init(&out, 1 << 20);
    buf_init(&old, 1 << 20);
    buf_init(&new, 1 << 20);
    assert_int_equal(diff_words(str_from(before), str_from(after), &arena, &parts, &count, NULL),
                     RC_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(buf_printf(&out, "%c(%.*s)", marks[parts[i].op], STR_ARG(parts[i].text)),
                         RC_OK);
        if (parts[i].op != DIFF_INSERT)
            assert_int_equal(buf_append(&old, parts[i].text), RC_OK);
        if (parts[i].op != DIFF_DELETE)
            assert_int_equal(buf_append(&new, parts[i].text), RC_OK);
    }
    assert_true(str_eq(buf_str(&old), str_from(before)));
    assert_true(str_eq(buf_str(&new), str_from(after)));
    if (marked && !str_eq(buf_str(&out), str_from(marked)))
        fail_msg("%.*s instead of %s", STR_ARG(buf_str(&out)), marked);
    buf_fini(&out);
    buf_fini(&old);
    buf_fini(&new);
    arena_fini(&arena);
}

static void test_words(void **state)
{
    expect("a b c", "a b c", " (a b c)");
    expect("Write a short mail.", "Write a long mail.", " (Write a )-(short)+(long) ( mail.)");
    expect("", "new", "+(new)");
    expect("old", "", "-(old)");
    expect("one two", "one, two", " (one)+(,) ( two)");
    expect("x\n\ny", "x\ny", NULL);
}

static void test_long_texts(void **state)
{
    enum { WORDS = 6000 };
    char *a = calloc(WORDS * 8, 1), *b = calloc(WORDS * 8, 1);
    for (int i = 0; i < WORDS; i++) {
        sprintf(a + strlen(a), "a%d ", i);
        sprintf(b + strlen(b), "b%d ", i % 7 ? i : 7);
    }
    expect(a, b, NULL);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words),
                                       cmocka_unit_test(test_long_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
