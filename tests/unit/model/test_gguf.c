/* The GGUF reader: takes what it should from a header made here, and refuses what is cut off, wrong
 * or made to exhaust it. */
#include "model/gguf.h"
#include "base/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

struct fixture {
    struct arena arena;
    struct buf file;
    struct gguf_info info;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    arena_init(&f->arena, 1 << 20);
    buf_init(&f->file, 1 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_fini(&f->arena);
    buf_fini(&f->file);
    free(f);
    return 0;
}

static void put(struct fixture *f, const void *p, size_t n)
{
    assert_int_equal(buf_append(&f->file, str_make(p, n)), RC_OK);
}

static void put_u32(struct fixture *f, uint32_t v) { put(f, &v, sizeof(v)); }
static void put_u64(struct fixture *f, uint64_t v) { put(f, &v, sizeof(v)); }

static void put_string(struct fixture *f, const char *s)
{
    put_u64(f, strlen(s));
    put(f, s, strlen(s));
}

static void put_pair_string(struct fixture *f, const char *key, const char *value)
{
    put_string(f, key);
    put_u32(f, 8);
    put_string(f, value);
}

static void put_pair_u32(struct fixture *f, const char *key, uint32_t value)
{
    put_string(f, key);
    put_u32(f, 4);
    put_u32(f, value);
}

/* One tensor of 64 x 32 weights in Q4_1: 64 blocks of 20 bytes. */
static void put_model(struct fixture *f, const char *template)
{
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, 1);
    put_u64(f, 6);
    put_pair_string(f, "general.architecture", "llama");
    put_pair_string(f, "general.name", "Tiny");
    put_pair_u32(f, "general.file_type", 3);
    put_pair_u32(f, "llama.context_length", 2048);
    put_string(f, "tokenizer.ggml.tokens");
    put_u32(f, 9);
    put_u32(f, 8);
    put_u64(f, 2);
    put_string(f, "a");
    put_string(f, "b");
    put_pair_string(f, "tokenizer.chat_template", template);
    put_string(f, "blk.0.weight");
    put_u32(f, 2);
    put_u64(f, 32);
    put_u64(f, 64);
    put_u32(f, 3);
    put_u64(f, 0);
    while (buf_len(&f->file) % 32)
        put(f, "", 1);
    static const char zeros[1280];
    put(f, zeros, sizeof(zeros));
}

static enum rc read_all(struct fixture *f)
{
    struct str data = buf_str(&f->file);
    return gguf_read(data, data.n, &f->arena, &f->info, &f->err);
}

static void reads_a_header(void **state)
{
    struct fixture *f = *state;
    put_model(f, "{% if tools %}…");
    assert_int_equal(read_all(f), RC_OK);
    assert_true(str_eq(f->info.architecture, STR("llama")));
    assert_true(str_eq(f->info.name, STR("Tiny")));
    assert_true(str_eq(f->info.quantization, STR("Q4_1")));
    assert_int_equal(f->info.context_tokens, 2048);
    assert_int_equal(f->info.parameter_count, 2048);
    assert_int_equal(f->info.vocabulary, 2);
    assert_int_equal(f->info.tensor_bytes_end, buf_len(&f->file));
    assert_true(f->info.template_has_tools);
    assert_int_equal(f->info.pooling.n, 0);
}

static void sees_a_template_without_tools(void **state)
{
    struct fixture *f = *state;
    put_model(f, "{% for message in messages %}…");
    assert_int_equal(read_all(f), RC_OK);
    assert_false(f->info.template_has_tools);
}

static void refuses_what_is_cut_off(void **state)
{
    struct fixture *f = *state;
    put_model(f, "x");
    struct str whole = buf_str(&f->file);
    for (size_t n = 4; n < whole.n; n++) {
        enum rc rc = gguf_read(str_slice(whole, 0, n), n, &f->arena, &f->info, &f->err);
        assert_int_not_equal(rc, RC_OK);
    }
    assert_int_equal(gguf_read(whole, whole.n - 1, &f->arena, &f->info, &f->err), RC_CORRUPT);
    assert_non_null(strstr(f->err.message, "cut off"));
}

static void refuses_other_files(void **state)
{
    struct fixture *f = *state;
    put(f, "PK\3\4 and more that is no model", 31);
    assert_int_equal(read_all(f), RC_INVALID);
    assert_non_null(strstr(f->err.message, "not a GGUF"));
}

/* Counts and lengths that would make a careless reader loop, allocate or overflow. */
static void refuses_impossible_numbers(void **state)
{
    struct fixture *f = *state;
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, UINT64_MAX);
    put_u64(f, UINT64_MAX);
    assert_int_equal(read_all(f), RC_CORRUPT);

    buf_clear(&f->file);
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, 0);
    put_u64(f, 1);
    put_string(f, "k");
    put_u32(f, 9); /* an array of strings … */
    put_u32(f, 8);
    put_u64(f, UINT64_MAX); /* … of which there are none */
    assert_int_equal(read_all(f), RC_CORRUPT);

    buf_clear(&f->file);
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, 1);
    put_u64(f, 0);
    put_string(f, "t");
    put_u32(f, 2);
    put_u64(f, UINT64_MAX);
    put_u64(f, 3);
    put_u32(f, 0);
    put_u64(f, 0);
    assert_int_equal(read_all(f), RC_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_a_header, setup, teardown),
        cmocka_unit_test_setup_teardown(sees_a_template_without_tools, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_other_files, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_impossible_numbers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
