/* Log lines are JSON whatever is logged, at most 4096 bytes, one write each. */
#include "base/log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <yyjson.h>
#include <cmocka.h>

static int pipe_fds[2];

static yyjson_doc *logged(void)
{
    char line[8192];
    ssize_t n = read(pipe_fds[0], line, sizeof(line));
    assert_true(n > 0 && n <= 4096);
    assert_int_equal(line[n - 1], '\n');
    assert_null(memchr(line, '\n', (size_t)n - 1));
    yyjson_doc *doc = yyjson_read(line, (size_t)n, 0);
    assert_non_null(doc);
    return doc;
}

static const char *text_of(yyjson_doc *doc, const char *name)
{
    return yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), name));
}

static void writes_fields(void **state)
{
    log_event(LOG_WARN, "thing_happened", LOG_Z("text", "a\"b\\c\n\x01 \xff \xc3\xa9"),
              LOG_I64("n", -5), LOG_F64("f", 0.5), LOG_F64("inf", 1e308 * 10),
              LOG_BOOL("yes", true));
    yyjson_doc *doc = logged();
    yyjson_val *root = yyjson_doc_get_root(doc);
    assert_string_equal(text_of(doc, "event"), "thing_happened");
    assert_string_equal(text_of(doc, "level"), "warn");
    assert_string_equal(text_of(doc, "text"), "a\"b\\c\n\x01 \xef\xbf\xbd \xc3\xa9");
    assert_int_equal(yyjson_get_sint(yyjson_obj_get(root, "n")), -5);
    assert_true(yyjson_get_real(yyjson_obj_get(root, "f")) == 0.5);
    assert_true(yyjson_is_null(yyjson_obj_get(root, "inf")));
    assert_true(yyjson_is_true(yyjson_obj_get(root, "yes")));
    yyjson_doc_free(doc);
    log_event(LOG_INFO, "bare");
    yyjson_doc_free(logged());
}

static void cuts_long_lines(void **state)
{
    static char text[6000];
    for (size_t n = 3900; n < 4200; n++) { /* every way to meet the end */
        memset(text, n % 3 ? 'x' : '"', n);
        log_event(LOG_INFO, "long", LOG_STR("a", str_make(text, n)), LOG_I64("after", 12345),
                  LOG_Z("more", "text"));
        yyjson_doc *doc = logged();
        if (n > 4096)
            assert_true(yyjson_is_true(yyjson_obj_get(yyjson_doc_get_root(doc), "cut")));
        yyjson_doc_free(doc);
    }
}

static void honours_the_level(void **state)
{
    log_event(LOG_DEBUG, "hidden");
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "shown");
    yyjson_doc *doc = logged();
    assert_string_equal(text_of(doc, "event"), "shown");
    yyjson_doc_free(doc);
}

int main(void)
{
    ASSERT(pipe(pipe_fds) == 0);
    log_set_fd(pipe_fds[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_fields),
        cmocka_unit_test(cuts_long_lines),
        cmocka_unit_test(honours_the_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
