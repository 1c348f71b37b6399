/* What models and services answer about files without text. */
#include "knowledge/scan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct arena arena;
static struct err err;

static void expect_completion(const char *content, const char *wanted)
{
    struct str out, body = arena_printf(&arena,
                                        "{\"choices\":[{\"message\":{\"content\":\"%s\"},"
                                        "\"finish_reason\":\"stop\"}]}",
                                        content);
    assert_int_equal(scan_read_completion(body, &arena, &out, &err), RC_OK);
    assert_int_equal(out.n, strlen(wanted));
    assert_memory_equal(out.n ? out.p : "", wanted, out.n);
}

static void test_completion(void **state)
{
    UNUSED(state);
    expect_completion("# Title\\n\\nwords\\n", "# Title\n\nwords");
    expect_completion("```markdown\\n# Title\\n```\\n", "# Title");
    expect_completion("```\\nwords\\n```", "words");
    expect_completion("```c\\nint x;\\n```", "```c\nint x;\n```");
    expect_completion("```\\n```", "");
    expect_completion("```md\\n\\n```", "");
    expect_completion("``` \\n```\\nmore", "``` \n```\nmore");
    expect_completion("[no text]\\n", "");
    expect_completion("", "");
}

static void refuse_completion(const char *body, const char *message)
{
    struct str out;
    assert_int_not_equal(scan_read_completion(str_from(body), &arena, &out, &err), RC_OK);
    if (!strstr(err.message, message))
        fail_msg("'%s'", err.message);
}

static void test_no_completion(void **state)
{
    UNUSED(state);
    refuse_completion("<html>", "no chat completion");
    refuse_completion("{}", "holds no text");
    refuse_completion("{\"choices\":[{\"message\":{\"content\":null}}]}", "holds no text");
    refuse_completion(
        "{\"choices\":[{\"message\":{\"content\":\"half\"},\"finish_reason\":\"length\"}]}",
        "write more tokens");
}

static enum rc read_docling(const char *body, struct str *out)
{
    return scan_read_docling(str_from(body), &arena, out, &err);
}

static void test_docling(void **state)
{
    struct str out;
    UNUSED(state);
    assert_int_equal(
        read_docling("{\"document\":{\"md_content\":\"# A\"},\"status\":\"partial_success\","
                     "\"errors\":[{\"error_message\":\"page 3\"}]}",
                     &out),
        RC_OK);
    assert_true(str_eq(out, STR("# A")));
    assert_int_not_equal(
        read_docling("{\"document\":{\"md_content\":\"\"},\"status\":\"failure\",\"errors\":["
                     "{\"error_message\":\"no pipeline\"}]}",
                     &out),
        RC_OK);
    assert_non_null(strstr(err.message, "could not convert the file: no pipeline"));
    assert_int_not_equal(read_docling("{\"status\":\"success\",\"document\":{}}", &out), RC_OK);
    assert_non_null(strstr(err.message, "document.md_content"));
    assert_int_not_equal(read_docling("[1", &out), RC_OK);
    assert_int_not_equal(read_docling("[]", &out), RC_OK);
}

static void test_picture_types(void **state)
{
    UNUSED(state);
    assert_true(str_eq(scan_picture_type(STR("\x89PNG\r\n\x1a\n....")), STR("image/png")));
    assert_true(str_eq(scan_picture_type(STR("\xff\xd8\xff\xe0")), STR("image/jpeg")));
    assert_true(str_eq(scan_picture_type(STR("GIF89a")), STR("image/gif")));
    assert_true(str_eq(scan_picture_type(STR("RIFF....WEBPVP8 ")), STR("image/webp")));
    assert_int_equal(scan_picture_type(STR("RIFF....WAVE")).n, 0);
    assert_int_equal(scan_picture_type(STR("RIFF")).n, 0);
    assert_int_equal(scan_picture_type(STR("%PDF-1.4")).n, 0);
    assert_int_equal(scan_picture_type(STR_EMPTY).n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_no_completion),
        cmocka_unit_test(test_docling),
        cmocka_unit_test(test_picture_types),
    };
    arena_init(&arena, 1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failed;
}
