/* What the wire formats cost, in processor time: a relayed stream event in the same format beside
 * one memcpy of its bytes and beside parsing its JSON, an event translated from Anthropic to chat
 * and whole answers and requests both ways. The goals of the gateway (a relayed event at most
 * nginx's, a translation at most twice the same format's) are measured end to end by other benches;
 * this one tells where the time goes. */
#include "base/clock.h"
#include "gateway/provider_table.h"
#include "gateway/wire.h"
#include "text/json.h"
#include <stdio.h>
#include <stdlib.h>

#define EVENTS 2000
#define ROUNDS 100
#define WHOLES 100000

static FILE *report;
static uint64_t bytes_written;

static void figure(const char *name, double value, const char *yardstick, double beside)
{
    printf("%s %.4g ns, %s %.4g, ratio %.2f\n", name, value, yardstick, beside, value / beside);
    fprintf(report, ",\n \"%s\": {\"value\": %.6g, \"unit\": \"ns\", \"%s\": %.6g}", name, value,
            yardstick, beside);
}

static void take(void *arg, struct str bytes) { bytes_written += bytes.n; }

static struct wire_request request_of(enum wire_format door, bool stream, struct arena *arena)
{
    struct wire_request request;
    struct str body = arena_printf(arena,
                                   "{\"model\":\"m\",\"max_tokens\":100,\"stream\":%s,\"messages\":"
                                   "[{\"role\":\"user\",\"content\":\"%0*d\"}]}",
                                   stream ? "true" : "false", 900, 0);
    if (wire_read_request(door, body, arena, &request, NULL) != RC_OK)
        abort();
    return request;
}

static const char *const event_texts[] = {
    [WIRE_OPENAI_CHAT] =
        "data: {\"id\":\"chatcmpl-Bq1WZ4nq8d1\",\"object\":\"chat.completion.chunk\",\"created\":"
        "1750000000,\"model\":\"gpt-5-2026-08-07\",\"service_tier\":\"default\",\"system_"
        "fingerprint\":\"fp_50cad350e4\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" "
        "token\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
    [WIRE_ANTHROPIC] =
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"
        "{\"type\":\"text_delta\",\"text\":\" token\"}}\n\n",
};

static const char *const openings[] = {
    [WIRE_OPENAI_CHAT] = "",
    [WIRE_ANTHROPIC] =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\","
        "\"model\":\"claude\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n"
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
        "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
};

/* Nanoseconds an event, each handed over in a read of its own, as streams come. */
static double event_ns(enum wire_format door, enum wire_format upstream_format, const char *row)
{
    int64_t took = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena;
        struct err err;
        arena_init(&arena, 64 << 20);
        struct wire_request request = request_of(door, true, &arena);
        struct wire_upstream upstream = {.format = upstream_format,
                                         .row = provider_row_find(str_from(row)),
                                         .model = STR("m"),
                                         .stream = true};
        struct wire_answer_options options = {
            .request = &request, .upstream = &upstream, .now_s = 1, .write = take};
        struct wire_answer *answer = wire_answer_new(&arena, &options);
        struct str opening = str_from(openings[upstream_format]);
        struct str event = str_from(event_texts[upstream_format]);
        if (opening.n && wire_answer_data(answer, opening, &err) == WIRE_FAILED)
            abort();
        int64_t start = clock_thread_cpu_ns();
        for (int i = 0; i < EVENTS; i++)
            if (wire_answer_data(answer, event, &err) == WIRE_FAILED)
                abort();
        took += clock_thread_cpu_ns() - start;
        wire_answer_fini(answer);
        arena_fini(&arena);
    }
    return (double)took / (EVENTS * ROUNDS);
}

/* The yardstick: each event parsed as JSON, which is what a gateway does that looks into it. */
static double parse_ns(enum wire_format format)
{
    struct str event = str_from(event_texts[format]);
    ssize_t at = str_find(event, STR("data: "));
    struct str data = str_trim(str_slice(event, (size_t)at + 6, event.n));
    struct arena arena;
    arena_init(&arena, 1 << 20);
    int64_t start = clock_thread_cpu_ns();
    for (int i = 0; i < EVENTS * ROUNDS; i++) {
        yyjson_doc *doc;
        if (json_read(data, &arena, &doc, NULL) != RC_OK)
            abort();
        arena_reset(&arena);
    }
    int64_t took = clock_thread_cpu_ns() - start;
    arena_fini(&arena);
    return (double)took / (EVENTS * ROUNDS);
}

static const char *const answers[] = {
    [WIRE_OPENAI_CHAT] =
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1750000000,\"model\":"
        "\"gpt-5\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"%0*d\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":"
        "\"stop\"}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}",
    [WIRE_ANTHROPIC] =
        "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\","
        "\"content\":[{\"type\":\"text\",\"text\":\"%0*d\"}],\"stop_reason\":\"end_turn\",\"stop_"
        "sequence\":null,\"usage\":{\"input_tokens\":19,\"output_tokens\":10}}",
};

/* A whole call of 1 KB each way: request read and written, answer read and written. */
static double whole_ns(enum wire_format door, enum wire_format upstream_format, const char *row)
{
    struct arena arena, made;
    char text[2048];
    arena_init(&arena, 64 << 20);
    arena_init(&made, 1 << 20);
    /* The format is one of the two literals above. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    int n = snprintf(text, sizeof(text), answers[upstream_format], 800, 0);
#pragma GCC diagnostic pop
    struct str body = request_of(door, false, &made).body, answer_body = str_make(text, (size_t)n);
    int64_t start = clock_thread_cpu_ns();
    for (int i = 0; i < WHOLES; i++) {
        struct wire_request request;
        struct wire_upstream upstream = {.format = upstream_format,
                                         .row = provider_row_find(str_from(row)),
                                         .model = STR("other")};
        struct wire_call call;
        struct err err;
        if (wire_read_request(door, body, &arena, &request, &err) != RC_OK ||
            wire_write_request(&request, &upstream, STR("key"), &arena, &call, &err) != RC_OK)
            abort();
        struct wire_answer_options options = {
            .request = &request, .upstream = &upstream, .now_s = 1, .write = take};
        struct wire_answer *answer = wire_answer_new(&arena, &options);
        if (wire_answer_data(answer, answer_body, &err) == WIRE_FAILED ||
            wire_answer_end(answer, &err) != WIRE_DONE)
            abort();
        wire_answer_fini(answer);
        arena_reset(&arena);
    }
    int64_t took = clock_thread_cpu_ns() - start;
    arena_fini(&arena);
    arena_fini(&made);
    return (double)took / WHOLES;
}

int main(void)
{
    const char *folder = getenv("CAPSTAN_BENCH_FOLDER");
    char path[4096];
    snprintf(path, sizeof(path), "%s/wire.json", folder ? folder : ".");
    report = fopen(path, "w");
    if (!report)
        return 1;
    fprintf(report, "{\"version\": \"%s\"", CAPSTAN_VERSION);
    double chat = event_ns(WIRE_OPENAI_CHAT, WIRE_OPENAI_CHAT, "openai");
    double messages = event_ns(WIRE_ANTHROPIC, WIRE_ANTHROPIC, "anthropic");
    double translated = event_ns(WIRE_OPENAI_CHAT, WIRE_ANTHROPIC, "anthropic");
    double responses = event_ns(WIRE_OPENAI_RESPONSES, WIRE_OPENAI_CHAT, "openai");
    double whole = whole_ns(WIRE_OPENAI_CHAT, WIRE_OPENAI_CHAT, "openai");
    double whole_translated = whole_ns(WIRE_OPENAI_CHAT, WIRE_ANTHROPIC, "anthropic");
    figure("wire_event_chat", chat, "parse", parse_ns(WIRE_OPENAI_CHAT));
    figure("wire_event_anthropic", messages, "parse", parse_ns(WIRE_ANTHROPIC));
    figure("wire_event_anthropic_to_chat", translated, "same_format", chat);
    figure("wire_event_chat_to_responses", responses, "same_format", chat);
    figure("wire_whole_anthropic_to_chat", whole_translated, "same_format", whole);
    fprintf(report, "\n}\n");
    return fclose(report) == 0 && bytes_written ? 0 : 1;
}
