/* WordPiece: the same tokens as the reference tokenizer, kept in tests/data/encoder; and every code
 * point at least does not break it. */
#include "encoder/wordpiece.h"
#include "base/utf8.h"
#include "expected.h"

static void check_tokens(const struct wordpiece *w, yyjson_val *cases)
{
    size_t i, count;
    yyjson_val *one;
    assert_true(yyjson_arr_size(cases) > 30);
    yyjson_arr_foreach(cases, i, count, one)
    {
        struct wordpiece_tokens tokens = {0};
        struct str text = json_get_text(one, "text");
        yyjson_val *ids = yyjson_obj_get(one, "ids");
        assert_int_equal(wordpiece_encode(w, text, &tokens, NULL), RC_OK);
        if (tokens.count != yyjson_arr_size(ids))
            fail_msg("\"%.*s\": %zu tokens, not %zu", STR_ARG(text), tokens.count,
                     yyjson_arr_size(ids));
        for (size_t k = 0; k < tokens.count; k++)
            if (tokens.ids[k] != yyjson_get_uint(yyjson_arr_get(ids, k)))
                fail_msg("\"%.*s\": token %zu is %u", STR_ARG(text), k, tokens.ids[k]);
        assert_int_equal(wordpiece_count(w, text), tokens.count);
        wordpiece_tokens_fini(&tokens);
    }
}

static void test_reference(void **state)
{
    struct arena arena;
    struct wordpiece *w;
    struct str lines;
    struct err err;
    arena_init(&arena, 16 << 20);
    yyjson_val *expected = expected_read(&arena, "expected.json");
    assert_int_equal(wordpiece_open(expected_path("tiny"), &w, &err), RC_OK);
    check_tokens(w, yyjson_obj_get(expected, "tokens"));
    wordpiece_free(w);
    char folder[4096];
    snprintf(folder, sizeof(folder), "%s", expected_path("tiny"));
    assert_int_equal(read_file_if_there(folder, "vocab.txt", 1 << 20, &arena, &lines, &err), RC_OK);
    const struct wordpiece_options cased = {.fold = false, .ideographs_apart = true};
    assert_int_equal(wordpiece_new(lines, &cased, &w, &err), RC_OK);
    check_tokens(w, yyjson_obj_get(expected, "cased"));
    wordpiece_free(w);
    arena_fini(&arena);
}

/* With the whole vocabulary, where it is at hand. */
static void test_minilm(void **state)
{
    const char *folder = getenv("CAPSTAN_TEST_ENCODER");
    struct arena arena;
    struct wordpiece *w;
    struct err err;
    if (!folder)
        skip();
    arena_init(&arena, 16 << 20);
    assert_int_equal(wordpiece_open(folder, &w, &err), RC_OK);
    check_tokens(w, yyjson_obj_get(expected_read(&arena, "minilm.json"), "tokens"));
    wordpiece_free(w);
    arena_fini(&arena);
}

static struct wordpiece *make(const char *lines, enum rc expected)
{
    struct wordpiece *w = NULL;
    struct err err;
    const struct wordpiece_options options = {.fold = true, .ideographs_apart = true};
    assert_int_equal(wordpiece_new(str_from(lines), &options, &w, &err), expected);
    return w;
}

/* The longest piece first; a word that does not come out even is unknown as a whole. */
static void test_pieces(void **state)
{
    struct wordpiece *w = make("[UNK]\n[CLS]\n[SEP]\nun\nunaff\n##aff\n##able\n##a\na\n", RC_OK);
    struct wordpiece_tokens tokens = {0};
    assert_int_equal(wordpiece_encode(w, STR("unaffable unaffx a"), &tokens, NULL), RC_OK);
    const uint32_t ids[] = {4, 6, 0, 8};
    assert_int_equal(tokens.count, COUNT_OF(ids));
    assert_memory_equal(tokens.ids, ids, sizeof(ids));
    assert_false(wordpiece_continues(w, 4));
    assert_true(wordpiece_continues(w, 6));
    wordpiece_tokens_fini(&tokens);
    wordpiece_free(w);
}

static void test_vocabulary_is_checked(void **state)
{
    assert_null(make("", RC_INVALID));
    assert_null(make("[UNK]\n[CLS]\na\n", RC_INVALID));
    wordpiece_free(make("[UNK]\r\n[CLS]\r\n[SEP]\r\na", RC_OK));
}

static void test_broken_utf8_is_left_out(void **state)
{
    struct wordpiece *w = make("[UNK]\n[CLS]\n[SEP]\nab\n", RC_OK);
    assert_int_equal(wordpiece_count(w, str_make("a\xFF"
                                                 "b\xC3",
                                                 4)),
                     1);
    assert_int_equal(wordpiece_count(w, str_make("\xE2\x82", 2)), 0);
    wordpiece_free(w);
}

static void test_every_code_point(void **state)
{
    struct wordpiece *w = make("[UNK]\n[CLS]\n[SEP]\nab\n", RC_OK);
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[8] = "a";
        size_t n = c >= 0xD800 && c < 0xE000 ? 0 : utf8_encode(c, text + 1);
        text[n + 1] = 'b';
        assert_in_range(wordpiece_count(w, str_make(text, n + 2)), 1, 3);
    }
    wordpiece_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_minilm),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_vocabulary_is_checked),
        cmocka_unit_test(test_broken_utf8_is_left_out),
        cmocka_unit_test(test_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
