/* Text functions: edges (empty, NULL), numbers at their bounds, patterns. */
#include "base/str.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void compares(void **state)
{
    assert_true(str_eq(STR("abc"), str_from("abc")));
    assert_true(str_eq(STR_EMPTY, STR("")));
    assert_false(str_eq(STR("abc"), STR("abd")));
    assert_true(str_eq_nocase(STR("Content-TYPE"), STR("content-type")));
    assert_false(str_eq_nocase(STR("a["), STR("A{")));
    assert_true(str_cmp(STR("ab"), STR("abc")) < 0);
    assert_true(str_cmp(STR("b"), STR("abc")) > 0);
    assert_int_equal(str_cmp(STR_EMPTY, STR("")), 0);
    assert_true(str_eq_secret(STR("secret"), STR("secret")));
    assert_false(str_eq_secret(STR("secret"), STR("secreT")));
    assert_false(str_eq_secret(STR("secret"), STR("secre")));
}

static void finds_and_slices(void **state)
{
    struct str s = STR("hello, hello");
    assert_int_equal(str_find(s, STR("llo")), 2);
    assert_int_equal(str_find(s, STR("x")), -1);
    assert_int_equal(str_find(s, STR("")), 0);
    assert_int_equal(str_find(STR_EMPTY, STR("x")), -1);
    assert_int_equal(str_find_char(s, 'o'), 4);
    assert_int_equal(str_rfind_char(s, 'h'), 7);
    assert_int_equal(str_find_char(STR_EMPTY, 'o'), -1);
    assert_true(str_starts(s, STR("hell")));
    assert_true(str_ends(s, STR("hello")));
    assert_false(str_ends(STR("lo"), STR("hello")));
    assert_true(str_eq(str_slice(s, 7, 99), STR("hello")));
    assert_int_equal(str_slice(s, 9, 3).n, 0);
    assert_true(str_eq(str_trim(STR(" \t a b\r\n")), STR("a b")));
    assert_int_equal(str_trim(STR(" \n")).n, 0);
}

static void splits(void **state)
{
    struct str rest = STR("a,,b,"), part;
    assert_true(str_split(&rest, ',', &part) && str_eq(part, STR("a")));
    assert_true(str_split(&rest, ',', &part) && part.n == 0);
    assert_true(str_split(&rest, ',', &part) && str_eq(part, STR("b")));
    assert_false(str_split(&rest, ',', &part));
}

static void reads_numbers(void **state)
{
    uint64_t u;
    int64_t i;
    double d;
    assert_int_equal(str_to_u64(STR("18446744073709551615"), &u), RC_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(str_to_u64(STR("18446744073709551616"), &u), RC_LIMIT);
    assert_int_equal(str_to_u64(STR("99999999999999999999x"), &u), RC_INVALID);
    assert_int_equal(str_to_u64(STR(""), &u), RC_INVALID);
    assert_int_equal(str_to_u64(STR("+1"), &u), RC_INVALID);
    assert_int_equal(str_to_i64(STR("-9223372036854775808"), &i), RC_OK);
    assert_true(i == INT64_MIN);
    assert_int_equal(str_to_i64(STR("9223372036854775808"), &i), RC_LIMIT);
    assert_int_equal(str_to_i64(STR("-"), &i), RC_INVALID);
    assert_int_equal(str_to_double(STR("-1.5e3"), &d), RC_OK);
    assert_true(d == -1500.0);
    assert_int_equal(str_to_double(STR("1e999"), &d), RC_LIMIT);
    static const char *const wrong[] = {"", " 1", "0x10", "inf", "nan", "1.2.3", "1e"};
    for (size_t k = 0; k < COUNT_OF(wrong); k++)
        assert_int_equal(str_to_double(str_from(wrong[k]), &d), RC_INVALID);
}

static void matches_globs(void **state)
{
    assert_true(str_matches_glob(STR("gpt-4o-mini"), STR("gpt-*")));
    assert_true(str_matches_glob(STR("gpt-4o"), STR("gpt-?o")));
    assert_true(str_matches_glob(STR(""), STR("**")));
    assert_true(str_matches_glob(STR("a/b/c"), STR("a*c")));
    assert_true(str_matches_glob(STR("aab"), STR("*ab")));
    assert_false(str_matches_glob(STR("gpt"), STR("gpt-*")));
    assert_false(str_matches_glob(STR(""), STR("?")));
    assert_false(str_matches_glob(STR("abc"), STR("*b")));
}

static void hashes(void **state)
{
    assert_true(str_hash(STR("a")) == str_hash(str_from("a")));
    assert_true(str_hash(STR("a")) != str_hash(STR("b")));
    assert_true(str_hash(STR_EMPTY) == str_hash(STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares),      cmocka_unit_test(finds_and_slices),
        cmocka_unit_test(splits),        cmocka_unit_test(reads_numbers),
        cmocka_unit_test(matches_globs), cmocka_unit_test(hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
