/* Answers of the three upstreams for the three doors, streamed and whole. The first byte tells
 * which and how the rest is cut. The same bytes in another cut must give the same result. */
#include "gateway/provider_table.h"
#include "gateway/wire.h"
#include "text/json.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const enum wire_format formats[] = {WIRE_OPENAI_CHAT, WIRE_ANTHROPIC, WIRE_OPENAI_RESPONSES};
static const char *const requests[] = {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
    "{\"model\":\"m\",\"max_tokens\":9,\"thinking\":{\"type\":\"adaptive\"},\"messages\":[{"
    "\"role\":"
    "\"user\",\"content\":\"a\"}]}",
    "{\"model\":\"m\",\"input\":\"a\",\"include\":[\"reasoning.encrypted_content\"],\"tools\":[{"
    "\"type\":\"custom\",\"name\":\"f\"}]}"};

static void take(void *arg, struct str bytes)
{
    if (buf_append(arg, bytes) != RC_OK)
        abort();
}

static enum wire_verdict relay(size_t door, size_t upstream_format, bool from_stream,
                               bool to_stream, struct str body, size_t piece, struct buf *out)
{
    struct arena arena;
    struct wire_request request;
    struct err err = {0};
    struct wire_outcome outcome;
    arena_init(&arena, 64 << 20);
    if (wire_read_request(formats[door], str_from(requests[door]), &arena, &request, &err) != RC_OK)
        abort();
    request.stream = to_stream;
    struct wire_upstream upstream = {.format = formats[upstream_format],
                                     .row = provider_row_find(STR("llamacpp")),
                                     .model = STR("m"),
                                     .stream = from_stream,
                                     .template_has_tools = true};
    struct wire_answer_options options = {
        .request = &request, .upstream = &upstream, .now_s = 1, .write = take, .arg = out};
    struct wire_answer *answer = wire_answer_new(&arena, &options);
    enum wire_verdict verdict = WIRE_HOLD;
    for (size_t at = 0; answer && at < body.n && verdict != WIRE_FAILED; at += piece)
        verdict = wire_answer_data(answer, str_slice(body, at, at + piece), &err);
    if (answer && verdict != WIRE_FAILED)
        verdict = wire_answer_end(answer, &err);
    if (answer) {
        ASSERT(verdict != WIRE_FAILED || err.code != ERR_NONE);
        wire_answer_outcome(answer, &outcome);
        wire_answer_fini(answer);
    }
    arena_fini(&arena);
    return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf whole, cut;
    if (n < 1)
        return 0;
    size_t door = data[0] % 3, upstream = data[0] / 3 % 3;
    bool from_stream = data[0] & 0x40, to_stream = from_stream && (data[0] & 0x80);
    struct str body = str_make(data + 1, n - 1);
    buf_init(&whole, 64 << 20);
    buf_init(&cut, 64 << 20);
    enum wire_verdict a = relay(door, upstream, from_stream, to_stream, body, n, &whole);
    enum wire_verdict b = relay(door, upstream, from_stream, to_stream, body, 1 + n % 7, &cut);
    ASSERT(a == b);
    if (a == WIRE_DONE)
        ASSERT(str_eq(buf_str(&whole), buf_str(&cut)));
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
