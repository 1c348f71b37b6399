/* Checks: what each kind finds and leaves alone; streams cut at every byte find the same as whole
 * texts. */
#include "gateway/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

static struct arena arena;

static int set_up(void **state)
{
    arena_init(&arena, 1 << 28);
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(&arena);
    return 0;
}

static struct check compiled(int kind, int action, const char *pattern)
{
    struct check check = {.name = STR("c"),
                          .kind = kind,
                          .on = CHECK_INPUT | CHECK_OUTPUT,
                          .action = action,
                          .pattern = str_from(pattern)};
    struct err err = {0};
    if (check_compile(&check, &arena, &err) != RC_OK)
        fail_msg("%s: %s", pattern, err.message);
    return check;
}

/* The text in pieces of `piece` bytes through a stream of checks. */
static struct str streamed(const struct check *checks, size_t count, struct str text, size_t piece,
                           struct check_report *report)
{
    struct check_stream *stream = check_stream_new(checks, count, CHECK_OUTPUT, &arena);
    struct str all = STR(""), out;
    for (size_t at = 0; at < text.n; at += piece) {
        size_t n = MIN(piece, text.n - at);
        char *copy = malloc(n);
        memcpy(copy, text.p + at, n);
        assert_int_equal(check_stream_push(stream, str_make(copy, n), &out, report), RC_OK);
        all = arena_concat(&arena, all, out);
        free(copy);
    }
    assert_int_equal(check_stream_finish(stream, &out, report), RC_OK);
    all = arena_concat(&arena, all, out);
    check_stream_fini(stream);
    return all;
}

static void assert_masked(const struct check *checks, size_t count, const char *text,
                          const char *wanted)
{
    struct check_report whole = {0};
    struct str out;
    assert_int_equal(check_text(checks, count, CHECK_OUTPUT, str_from(text), &arena, &out, &whole),
                     RC_OK);
    if (!str_eq(out, str_from(wanted)))
        fail_msg("<%s> became <%.*s>, not <%s>", text, STR_ARG(out), wanted);
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct check_report report = {0};
        out = streamed(checks, count, str_from(text), piece, &report);
        if (!str_eq(out, str_from(wanted)))
            fail_msg("<%s> in pieces of %zu became <%.*s>", text, piece, STR_ARG(out));
        assert_int_equal(report.count, whole.count);
    }
}

static void test_pii(void **state)
{
    static const struct {
        const char *text, *masked;
    } cases[] = {
        {"nothing here 12 34", "nothing here 12 34"},
        {"write a.b+c@mail.example.org!", "write [EMAIL]!"},
        {"@ nobody@ at@home", "@ nobody@ at@home"},
        {"call +49 731 1234567 or (415) 555-2671.", "call [PHONE] or [PHONE]."},
        {"IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN [IBAN] AND MORE"},
        {"IBAN DE88370400440532013000", "IBAN DE88370400440532013000"},
        {"card 4111-1111-1111-1111, 5500000000000004", "card [CREDIT_CARD], [CREDIT_CARD]"},
        {"number 4111111111111112", "number 4111111111111112"},
        {"from 192.168.10.1 and 2001:db8::1, not 1.2.3 or 12:30:45",
         "from [IP] and [IP], not 1.2.3 or 12:30:45"},
        {"ssn 123-45-6789, not 000-12-3456", "ssn [SSN], not 000-12-3456"},
        {"key sk-abcdefghijklmnopqrstuvwx end", "key [SECRET] end"},
        {"gr\xc3\xbc\xc3\x9f"
         "e@b\xc3\xbc.de a@b.de",
         "gr\xc3\xbc\xc3\x9f"
         "e@b\xc3\xbc.de [EMAIL]"},
    };
    struct check check = compiled(CHECK_PII, CHECK_MASK, "");
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_masked(&check, 1, cases[i].text, cases[i].masked);
}

static void test_regex(void **state)
{
    struct check checks[] = {compiled(CHECK_REGEX, CHECK_MASK, "(?i)secret\\s+\\w+"),
                             compiled(CHECK_REGEX, CHECK_MASK, "(?<=id=)\\d+"),
                             compiled(CHECK_REGEX, CHECK_MASK, "x*")};
    assert_masked(checks, 1, "the Secret  plan, a secret", "the [MASKED], a secret");
    assert_masked(checks + 1, 1, "id=123 ID=5 id=7", "id=[MASKED] ID=5 id=[MASKED]");
    assert_masked(checks, 2, "secret id=12 id=34", "[MASKED]=12 id=[MASKED]");
    assert_masked(checks + 2, 1, "axxb", "a[MASKED]b");
}

static void test_actions(void **state)
{
    struct check block = compiled(CHECK_REGEX, CHECK_BLOCK, "bomb"),
                 flag = compiled(CHECK_REGEX, CHECK_FLAG, "bomb");
    struct check_report report = {0};
    struct err err = {0};
    struct str out;
    assert_int_equal(
        check_text(&flag, 1, CHECK_INPUT, STR("a bomb, a bomb"), &arena, &out, &report), RC_OK);
    assert_true(str_eq(out, STR("a bomb, a bomb")) && !report.blocked);
    assert_int_equal(report.findings[0].count, 2);
    assert_true(str_eq(check_report_json(&report, &arena),
                       STR("[{\"name\":\"c\",\"action\":\"flag\",\"count\":2,\"detail\":\"\"}]")));
    assert_int_equal(check_text(&block, 1, CHECK_INPUT, STR("a bomb"), &arena, &out, &report),
                     RC_OK);
    assert_true(report.blocked);
    (void)check_blocked_err(&report, &err);
    assert_int_equal(err.code, ERR_CHECK_BLOCKED);
}

static void test_schema(void **state)
{
    struct check check =
        compiled(CHECK_JSON_SCHEMA, CHECK_BLOCK, "{\"type\":\"object\",\"required\":[\"a\"]}");
    struct check_report report = {0};
    assert_true(str_eq(streamed(&check, 1, STR("{\"a\":1}"), 1, &report), STR("{\"a\":1}")));
    assert_false(report.blocked);
    (void)streamed(&check, 1, STR("{\"b\":1}"), 2, &report);
    assert_true(report.blocked);
    assert_string_equal(report.findings[0].detail, "lacks the property a");
    report = (struct check_report){0};
    (void)streamed(&check, 1, STR("no json"), 2, &report);
    assert_true(report.blocked);
}

static void test_window(void **state)
{
    struct check check = compiled(CHECK_REGEX, CHECK_MASK, "BEGIN.*END");
    struct check_report report = {0};
    size_t n = 3 * CHECK_WINDOW_BYTES;
    char *text = malloc(n);
    memset(text, 'x', n);
    memcpy(text, "BEGIN", 5);
    struct str out = streamed(&check, 1, str_make(text, n), 100, &report);
    assert_int_equal(out.n, n); /* passed on, not held back for ever */
    free(text);
}

static void test_refused(void **state)
{
    struct err err = {0};
    struct check bad[] = {{.kind = CHECK_REGEX, .pattern = STR("(")},
                          {.kind = CHECK_REGEX, .pattern = STR("")},
                          {.kind = CHECK_PII, .pattern = STR("email,moon")},
                          {.kind = CHECK_PII, .pattern = STR("email,email")},
                          {.kind = CHECK_JSON_SCHEMA, .action = CHECK_MASK, .pattern = STR("{}")},
                          {.kind = CHECK_JSON_SCHEMA, .action = CHECK_FLAG, .pattern = STR("{")}};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_not_equal(check_compile(&bad[i], &arena, &err), RC_OK);
    struct check slow = compiled(CHECK_REGEX, CHECK_MASK, "^(a+)+$");
    struct check_report report = {0};
    struct str out;
    assert_int_equal(check_text(&slow, 1, CHECK_INPUT,
                                STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"), &arena,
                                &out, &report),
                     RC_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pii, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_regex, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_actions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_schema, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
