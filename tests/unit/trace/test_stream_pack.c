/* Packed streams: what comes out is what went in, however it was cut, and it is small. */
#include "base/rand.h"
#include "trace/stream_pack.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define BYTES_MAX (1 << 20)

/* Events as a model's stream has them; returns their bytes. */
static size_t make_stream(char *out, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += (size_t)sprintf(out + n,
                             "data: {\"id\":\"chatcmpl-abcdefghijklmnop\",\"object\":"
                             "\"chat.completion.chunk\",\"created\":1763900000,\"model\":\"gpt\","
                             "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word %d\"},"
                             "\"finish_reason\":null}]}\n\n",
                             i * i);
    return n + (size_t)sprintf(out + n, "data: [DONE]\n\n");
}

static void assert_unpacks(const struct stream_pack *pack, const char *text, size_t n)
{
    size_t got;
    assert_int_equal(pack->bytes, n);
    assert_int_equal(stream_unpacked_bytes(buf_str(&pack->out), n, &got), RC_OK);
    assert_int_equal(got, n);
    char *out = malloc(n);
    stream_unpack(buf_str(&pack->out), out);
    assert_memory_equal(out, text, n);
    free(out);
}

static void a_stream_becomes_small(void **state)
{
    char *text = malloc(100000);
    size_t n = make_stream(text, 200);
    struct stream_pack pack;
    stream_pack_init(&pack, BYTES_MAX);
    assert_int_equal(stream_pack_add(&pack, str_make(text, n)), RC_OK);
    assert_unpacks(&pack, text, n);
    assert_true(buf_len(&pack.out) * 15 < n);
    stream_pack_fini(&pack);
    free(text);
}

static void any_cut_gives_the_same_bytes(void **state)
{
    char *text = malloc(100000);
    size_t n = make_stream(text, 30);
    for (size_t piece = 1; piece < 600; piece += 1 + piece / 8) {
        struct stream_pack pack;
        stream_pack_init(&pack, BYTES_MAX);
        for (size_t at = 0; at < n; at += piece)
            assert_int_equal(stream_pack_add(&pack, str_slice(str_make(text, n), at, at + piece)),
                             RC_OK);
        assert_unpacks(&pack, text, n);
        stream_pack_fini(&pack);
    }
    free(text);
}

/* Behind an event that is too long to be compared with, the next stands for itself. */
static void long_events_are_kept_whole(void **state)
{
    size_t n = 6 * STREAM_PACK_EVENT_BYTES_MAX;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + i % 7);
    struct stream_pack pack;
    stream_pack_init(&pack, BYTES_MAX);
    const size_t cuts[] = {0, 100, 250, 250 + STREAM_PACK_EVENT_BYTES_MAX + 1, 5000, 9096, n};
    for (size_t i = 1; i < COUNT_OF(cuts); i++)
        assert_int_equal(stream_pack_add(&pack, str_slice(str_make(text, n), cuts[i - 1], cuts[i])),
                         RC_OK);
    assert_unpacks(&pack, text, n);
    stream_pack_fini(&pack);
    free(text);
}

static void a_full_packer_says_so(void **state)
{
    struct stream_pack pack;
    stream_pack_init(&pack, 512);
    char text[400];
    memset(text, 'x', sizeof(text));
    assert_int_equal(stream_pack_add(&pack, str_make(text, sizeof(text))), RC_OK);
    memset(text, 'y', sizeof(text));
    assert_int_equal(stream_pack_add(&pack, str_make(text, sizeof(text))), RC_LIMIT);
    assert_int_equal(pack.bytes, 400);
    stream_pack_fini(&pack);
}

static void what_is_not_packed_is_refused(void **state)
{
    static const struct str wrong[] = {
        STR_INIT("\x01\x00\x00"), /* the first has nothing before it */
        STR_INIT("\x00\x00\x05"
                 "abcd"),                      /* cut */
        STR_INIT("\x00\x00\x01x\x01\x01\x00"), /* beginning and end overlap */
        STR_INIT("\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        STR_INIT("\x00"),
    };
    size_t n;
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_int_equal(stream_unpacked_bytes(wrong[i], BYTES_MAX, &n), RC_CORRUPT);
    assert_int_equal(stream_unpacked_bytes(STR("\x00\x00\x02xy\x02\x00\x00"), 3, &n), RC_CORRUPT);
    assert_int_equal(stream_unpacked_bytes(STR("\x00\x00\x02xy\x02\x00\x00"), 4, &n), RC_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_becomes_small),
        cmocka_unit_test(any_cut_gives_the_same_bytes),
        cmocka_unit_test(long_events_are_kept_whole),
        cmocka_unit_test(a_full_packer_says_so),
        cmocka_unit_test(what_is_not_packed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
