/* The safetensors reader: the three number formats, and every way in which a header can lie. */
#include "encoder/safetensors.h"
#include "base/buf.h"
#include "test.h"

static struct arena arena;
static struct buf file;

static enum rc read_header(const char *header, size_t data_bytes, struct safetensors *out)
{
    static const char zeros[64] = {0};
    uint64_t n = strlen(header);
    struct err err;
    buf_clear(&file);
    arena_reset(&arena);
    assert_int_equal(buf_append(&file, str_make(&n, 8)), RC_OK);
    assert_int_equal(buf_append(&file, str_make(header, n)), RC_OK);
    assert_int_equal(buf_append(&file, str_make(zeros, data_bytes)), RC_OK);
    return safetensors_read(buf_str(&file), &arena, out, &err);
}

static void test_formats(void **state)
{
    static const uint16_t halves[] = {0x3C00, 0xC000, 0x0001, 0x7C00, 0x8000, 0x3555};
    static const float expected[] = {1, -2, 0x1p-24f, __builtin_inff(), -0.0f, 0x1.554p-2f};
    float out[6];
    struct safetensor half = {.type = SAFETENSORS_F16,
                              .elements = 6,
                              .data = (const uint8_t *)halves,
                              .bytes = sizeof(halves)};
    safetensors_to_f32(&half, out);
    assert_memory_equal(out, expected, sizeof(out));
    static const uint16_t brains[] = {0x3F80, 0xC040};
    struct safetensor brain = {.type = SAFETENSORS_BF16,
                               .elements = 2,
                               .data = (const uint8_t *)brains,
                               .bytes = sizeof(brains)};
    safetensors_to_f32(&brain, out);
    assert_true(out[0] == 1 && out[1] == -3);
}

static void test_sound(void **state)
{
    struct safetensors t;
    assert_int_equal(
        read_header("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\","
                    "\"shape\":[2,3],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"I64\","
                    "\"shape\":[1],\"data_offsets\":[24,32]}}",
                    32, &t),
        RC_OK);
    assert_int_equal(t.count, 2);
    const struct safetensor *a = safetensors_find(&t, STR("a"));
    assert_true(a && a->type == SAFETENSORS_F32 && a->shape[1] == 3 && a->elements == 6);
    assert_null(safetensors_find(&t, STR("c")));
}

static void test_lies(void **state)
{
#define TENSOR(shape, from_to)                                                                     \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" from_to "]}}"
    static const char *const headers[] = {
        TENSOR("2", "0,12"),  /* more bytes than the shape says */
        TENSOR("2", "4,0"),   /* backwards */
        TENSOR("16", "0,64"), /* past the end */
        TENSOR("4294967296,4294967296", "0,0"),
        TENSOR("4611686018427387904", "0,0"), /* times four overflows */
        TENSOR("-1", "0,4"),
        TENSOR("1,1,1,1,1", "0,4"),
        TENSOR("1", "0"),
        TENSOR("1", "0.0,4"),
        "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}",
        "[]",
        "{",
        "",
    };
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        struct safetensors t;
        if (read_header(headers[i], 32, &t) != RC_CORRUPT)
            fail_msg("%s", headers[i]);
    }
}

static void test_cut_off(void **state)
{
    struct safetensors t;
    struct err err;
    const char *header = TENSOR("2", "0,8");
    for (size_t n = 0; n < 8 + strlen(header) + 8; n++) {
        assert_int_equal(read_header(header, 8, &t), RC_OK);
        assert_int_equal(safetensors_read(str_slice(buf_str(&file), 0, n), &arena, &t, &err),
                         RC_CORRUPT);
    }
    assert_int_equal(safetensors_read(STR("\xff\xff\xff\xff\xff\xff\xff\xff{}"), &arena, &t, &err),
                     RC_CORRUPT);
}

static int setup(void **state)
{
    arena_init(&arena, 1 << 20);
    buf_init(&file, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    arena_fini(&arena);
    buf_fini(&file);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_cut_off),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
