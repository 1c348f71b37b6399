/* Errors: the code decides rc and status; messages are cut between characters. */
#include "base/err.h"
#include "base/utf8.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void codes_are_complete(void **state)
{
    for (int code = 0; code < ERR_CODE_COUNT; code++) {
        assert_non_null(err_code_name(code));
        assert_true(err_http_status(code) >= 200);
        for (int other = 0; other < code; other++)
            assert_string_not_equal(err_code_name(code), err_code_name(other));
        enum rc rc = err_set(NULL, code, "x");
        assert_int_equal(rc == RC_OK, code == ERR_NONE);
    }
}

static void fills(void **state)
{
    struct err err;
    assert_int_equal(err_set_field(&err, ERR_BAD_FIELD, "targets[0].weight", "must be > %d", 0),
                     RC_INVALID);
    assert_string_equal(err.field, "targets[0].weight");
    assert_string_equal(err.message, "must be > 0");
    err_prefix(&err, "route %s", "smart");
    assert_string_equal(err.message, "route smart: must be > 0");
    assert_int_equal(err_set(&err, ERR_TIMEOUT, "again: %s", err.message), RC_TIMEOUT);
    assert_string_equal(err.message, "again: route smart: must be > 0");
    assert_string_equal(err.field, "");
    err_prefix(NULL, "x");
}

static void cuts_between_characters(void **state)
{
    static const char *const characters[] = {"a", "\u00e9", "\u20ac", "\U0001f600"};
    for (size_t c = 0; c < COUNT_OF(characters); c++)
        for (size_t lead = 0; lead < 5; lead++) {
            char text[3000];
            size_t n = lead;
            memset(text, '-', lead);
            while (n + 5 < sizeof(text))
                n += (size_t)sprintf(text + n, "%s", characters[c]);
            struct err err;
            err_set(&err, ERR_INVALID, "%s", text);
            assert_true(utf8_valid(str_from(err.message)));
            assert_true(strlen(err.message) > ERR_MESSAGE_BYTES_MAX - 6);
            err_prefix(&err, "p");
            assert_true(utf8_valid(str_from(err.message)));
            err_set_field(&err, ERR_INVALID, text, "x");
            assert_true(utf8_valid(str_from(err.field)));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_complete),
        cmocka_unit_test(fills),
        cmocka_unit_test(cuts_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
