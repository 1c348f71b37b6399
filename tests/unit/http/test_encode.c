/* Which coding a client takes, and bodies that decode to what they were. */
#include "http/content.h"
#include "http/encode.h"
#include "base/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void chooses_what_is_accepted(void **state)
{
    static const struct {
        const char *accept;
        enum http_coding coding;
    } cases[] = {
        {"", HTTP_CODING_IDENTITY},
        {"identity", HTTP_CODING_IDENTITY},
        {"gzip, deflate, br, zstd", HTTP_CODING_BROTLI},
        {"gzip", HTTP_CODING_GZIP},
        {"x-gzip", HTTP_CODING_GZIP},
        {"GZip;q=1.0, BR;q=0.5", HTTP_CODING_GZIP},
        {"gzip;q=0.3,br;q=0.5", HTTP_CODING_BROTLI},
        {"br;q=0, gzip;q=0.001", HTTP_CODING_GZIP},
        {"br;q=0.000, gzip; q=0", HTTP_CODING_IDENTITY},
        {"*", HTTP_CODING_BROTLI},
        {"br;q=0, *", HTTP_CODING_GZIP},
        {"*;q=0", HTTP_CODING_IDENTITY},
        {"brotli, gzipped, zstd", HTTP_CODING_IDENTITY},
        {"br;q=x, gzip;q=0.1234", HTTP_CODING_IDENTITY},
        {",,;;,br;;q=", HTTP_CODING_BROTLI},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(http_accepted_coding(str_from(cases[i].accept)), cases[i].coding);
}

static bool collect(void *arg, struct str decoded) { return buf_append(arg, decoded) == RC_OK; }

static void decodes_to_the_same(void **state)
{
    struct arena arena;
    struct buf text, back;
    arena_init(&arena, 16 << 20);
    buf_init(&text, 1 << 20);
    buf_init(&back, 1 << 20);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(
            buf_printf(&text, "{\"id\":\"call_%d\",\"cost_usd\":\"0.00%d\"},", i, i * 7), RC_OK);
    for (enum http_coding coding = HTTP_CODING_GZIP; coding <= HTTP_CODING_BROTLI; coding++) {
        struct str packed = http_encode(coding, buf_str(&text), &arena);
        assert_non_null(packed.p);
        assert_true(packed.n < buf_len(&text) / 4);
        struct http_decoder *decoder = http_decoder_new(http_coding_name(coding));
        assert_non_null(decoder);
        buf_clear(&back);
        assert_int_equal(http_decoder_feed(decoder, packed, collect, &back), RC_OK);
        assert_true(http_decoder_complete(decoder));
        assert_true(str_eq(buf_str(&back), buf_str(&text)));
        http_decoder_free(decoder);
    }
    assert_null(http_encode(HTTP_CODING_IDENTITY, buf_str(&text), &arena).p);
    arena_fini(&arena);
    buf_fini(&text);
    buf_fini(&back);
}

/* What would grow stays as it is. */
static void leaves_what_does_not_shrink(void **state)
{
    struct arena arena;
    arena_init(&arena, 1 << 20);
    assert_null(http_encode(HTTP_CODING_GZIP, STR("x"), &arena).p);
    assert_null(http_encode(HTTP_CODING_BROTLI, STR("x"), &arena).p);
    assert_null(http_encode(HTTP_CODING_GZIP, STR_EMPTY, &arena).p);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_what_is_accepted),
        cmocka_unit_test(decodes_to_the_same),
        cmocka_unit_test(leaves_what_does_not_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
