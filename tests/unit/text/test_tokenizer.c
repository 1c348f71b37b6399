/* Tokens against js-tiktoken's own results for the same texts. */
#include "text/tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

#define MIXED                                                                                      \
    "Hello, world! 12345 it's na\xc3\xafve "                                                       \
    "\xe4\xbd\xa0\xe5\xa5\xbd,\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82"                                \
    "\xe3\x81\x93\xe3\x82\x8c\xe3\x81\xaf\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88\xe3\x81\xa7\xe3\x81" \
    "\x99 "                                                                                        \
    "\xf0\x9f\x8e\x89\xf0\x9f\x8e\x89  \n\n\tint main(void) {\n    return 0;\n}\n"                 \
    "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xd0\xbc\xd0\xb8\xd1\x80"

static void test_reference(void **state)
{
    static const struct {
        struct str text;
        size_t o200k, cl100k;
    } cases[] = {
        {STR_INIT(""), 0, 0},
        {STR_INIT("hello world"), 2, 2},
        {STR_INIT("<|endoftext|>"), 7, 7},
        {STR_INIT(MIXED), 38, 48},
    };
    if (tokenizer_load(TOKENIZER_O200K) != RC_OK)
        skip(); /* built without the ranks */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(tokenizer_count(TOKENIZER_O200K, cases[i].text), cases[i].o200k);
        assert_int_equal(tokenizer_count(TOKENIZER_CL100K, cases[i].text), cases[i].cl100k);
    }
}

static void test_encode(void **state)
{
    struct arena arena;
    uint32_t *tokens;
    size_t count;
    if (tokenizer_load(TOKENIZER_O200K) != RC_OK)
        skip();
    arena_init(&arena, 1 << 20);
    assert_int_equal(
        tokenizer_encode(TOKENIZER_CL100K, STR("hello world"), &arena, &tokens, &count), RC_OK);
    assert_int_equal(count, 2);
    assert_int_equal(tokens[0], 15339);
    assert_int_equal(tokens[1], 1917);
    arena_fini(&arena);
}

/* A megabyte without a break, and bytes that are no text: linear time, no crash. */
static void test_hostile(void **state)
{
    size_t n = 1 << 20;
    char *text = malloc(n);
    memset(text, 'a', n);
    assert_in_range(tokenizer_count(TOKENIZER_O200K, str_make(text, n)), n / 16, n / 2);
    memset(text, 0xff, n);
    assert_in_range(tokenizer_count(TOKENIZER_CL100K, str_make(text, 10000)), 1000, 10000);
    free(text);
}

static void test_models(void **state)
{
    static const struct {
        const char *model;
        enum tokenizer tokenizer;
        bool exact;
    } cases[] = {
        {"gpt-4o-mini", TOKENIZER_O200K, true},      {"gpt-4-turbo", TOKENIZER_CL100K, true},
        {"openai/gpt-5", TOKENIZER_O200K, true},     {"gpt-3.5-turbo", TOKENIZER_CL100K, true},
        {"claude-sonnet-5", TOKENIZER_O200K, false}, {"", TOKENIZER_O200K, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool exact;
        assert_int_equal(tokenizer_of_model(str_from(cases[i].model), &exact), cases[i].tokenizer);
        assert_int_equal(exact, cases[i].exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
