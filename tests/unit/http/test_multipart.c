/* Forms: parts are found without copying, and a form that was cut off is never taken. */
#include "http/multipart.h"
#include "../test.h"
#include <stdlib.h>

static void reads_boundaries(void **state)
{
    assert_true(str_eq(multipart_boundary(STR("multipart/form-data; boundary=abc")), STR("abc")));
    assert_true(str_eq(multipart_boundary(STR("Multipart/Form-Data; charset=x; BOUNDARY=\"a b\" ")),
                       STR("a b")));
    static const char *const bad[] = {
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"abc",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a\r\nb",
        "multipart/form-data; boundary=a{b",
        "multipart/form-datax; boundary=a",
        "multipart/form-data; "
        "boundary=0123456789012345678901234567890123456789012345678901234567890123456789x",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(multipart_boundary(str_from(bad[i])).n, 0);
}

static void takes_a_form_apart(void **state)
{
    struct multipart multipart;
    struct multipart_part part;
    multipart_init(&multipart,
                   STR("--Y\r\nContent-Disposition: form-data; name=\"file\"; "
                       "filename=\"a \\\"b\\\".wav\"\r\nContent-Type: audio/wav\r\n\r\n"
                       "RIFF\r\n--X\r\n--Y\r\ncontent-disposition: form-data; name=model\r\n"
                       "\r\nwhisper-1\r\n--Y--\r\n"),
                   STR("Y"));
    assert_int_equal(multipart_next(&multipart, &part), RC_OK);
    assert_true(str_eq(part.name, STR("file")));
    assert_true(str_eq(part.filename, STR("a \\\"b\\\".wav")));
    assert_true(str_eq(part.content_type, STR("audio/wav")));
    assert_true(str_eq(part.body, STR("RIFF\r\n--X")));
    assert_int_equal(multipart_next(&multipart, &part), RC_OK);
    assert_true(str_eq(part.name, STR("model")));
    assert_null(part.filename.p);
    assert_true(str_eq(part.body, STR("whisper-1")));
    assert_int_equal(multipart_next(&multipart, &part), RC_END);
    assert_int_equal(multipart_next(&multipart, &part), RC_END);
}

static void finds_the_one_field(void **state)
{
#define FIELD(name, value)                                                                         \
    "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
    struct str value;
    assert_int_equal(multipart_find(STR(FIELD("a", "1") FIELD("model", "m") "--B--"), STR("B"),
                                    STR("model"), &value),
                     RC_OK);
    assert_true(str_eq(value, STR("m")));
    assert_int_equal(multipart_find(STR(FIELD("a", "1") "--B--"), STR("B"), STR("model"), &value),
                     RC_NOT_FOUND);
    assert_int_equal(
        multipart_find(STR(FIELD("model", "") "--B--"), STR("B"), STR("model"), &value), RC_OK);
    assert_int_equal(value.n, 0);
    static const struct str bad[] = {
        STR_INIT(FIELD("model", "a")
                     FIELD("model", "b") "--B--"), /* which one would the upstream take? */
        STR_INIT(FIELD("model", "a")),             /* not closed */
        STR_INIT("preamble\r\n" FIELD("model", "a") "--B--"),
        STR_INIT(
            "--B\r\nContent-Disposition: form-data; name=\"model\"; name=\"x\"\r\n\r\na\r\n--B--"),
        STR_INIT("--B\r\nContent-Disposition: form-data; name=\"model\"; "
                 "filename=\"f\"\r\n\r\na\r\n--B--"),
        STR_INIT("--B\r\nContent-Disposition: form-data\r\n\r\na\r\n--B--"),
        STR_INIT("--B\r\nContent-Disposition: attachment; name=\"model\"\r\n\r\na\r\n--B--"),
        STR_INIT("--B\r\nX y: z\r\n\r\na\r\n--B--"),
        STR_INIT("--B\nContent-Disposition: form-data; name=\"model\"\n\na\n--B--"),
        STR_INIT("--B\r\n\r\na\r\n--B--"),
        STR_INIT(""),
        STR_INIT("--B"),
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(multipart_find(bad[i], STR("B"), STR("model"), &value), RC_INVALID);
}

static void a_cut_form_is_never_taken(void **state)
{
    static const char form[] = FIELD("a", "1") FIELD("model", "m") "--B--";
    for (size_t n = 0; n < sizeof(form) - 1; n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, form, n);
        struct str value;
        assert_int_equal(multipart_find(str_make(copy, n), STR("B"), STR("model"), &value),
                         RC_INVALID);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_boundaries),
        cmocka_unit_test(takes_a_form_apart),
        cmocka_unit_test(finds_the_one_field),
        cmocka_unit_test(a_cut_form_is_never_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
