/* Call records that follow from a number, for tests, simulation and benches: whoever knows the
 * number can tell what must come back. */
#pragma once
#include "base/clock.h"
#include "base/rand.h"
#include "trace/trace.h"
#include <stdio.h>

#define MAKE_START_NS   (1790000000ll * NS_PER_S)
#define MAKE_TEXT_BYTES 512

struct made_record {
    struct call_record call;
    struct call_tag tags[2];
    struct call_attempt attempt;
    char texts[4][MAKE_TEXT_BYTES];
};

static inline uint64_t make_mix(uint64_t number)
{
    uint64_t z = number * 0x9e3779b97f4a7c15u + 0x1234567;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 29);
}

static inline struct id make_project(uint64_t n)
{
    struct id id = {{0}};
    id.bytes[0] = 0x50;
    id.bytes[15] = (uint8_t)(n + 1);
    return id;
}

static inline struct id make_key(uint64_t n)
{
    struct id id = {{0}};
    id.bytes[0] = 0x4b;
    id.bytes[15] = (uint8_t)n;
    return id;
}

static inline struct id make_id(uint64_t number)
{
    struct id id;
    uint64_t time =
        __builtin_bswap64((uint64_t)(MAKE_START_NS / NS_PER_MS + (int64_t)number) << 16 | 0x7000);
    uint64_t low = make_mix(number ^ 0x1d);
    memcpy(id.bytes, &time, 8);
    memcpy(id.bytes + 8, &low, 8);
    return id;
}

/* One call a second and a half, of two projects, with all kinds of everything. */
static inline void make_record(uint64_t number, struct made_record *m)
{
    static const struct str models[] = {STR_INIT("gpt-5"), STR_INIT("gpt-5-mini"),
                                        STR_INIT("claude-sonnet-4-5"), STR_INIT("smollm2"),
                                        STR_INIT("mistral-large")};
    static const struct str providers[] = {STR_INIT("openai"), STR_INIT("openai"),
                                           STR_INIT("anthropic"), STR_INIT("local"),
                                           STR_INIT("mistral")};
    uint64_t r = make_mix(number);
    memset(m, 0, sizeof(*m));
    struct call_record *c = &m->call;
    c->id = make_id(number);
    c->project = make_project(r % 16 == 0);
    c->started_wall_ns = MAKE_START_NS + (int64_t)number * 1500 * NS_PER_MS;
    c->door = (enum call_door)(r >> 4 & 1);
    c->operation = r >> 5 & 7 ? OPERATION_CHAT : OPERATION_EMBEDDING;
    c->status = (r >> 8) % 20 == 0 ? CALL_ERROR : (r >> 8) % 50 == 1 ? CALL_REFUSED : CALL_OK;
    c->http_status = c->status == CALL_OK ? 200 : c->status == CALL_ERROR ? 502 : 429;
    c->error = c->status == CALL_OK      ? ERR_NONE
               : c->status == CALL_ERROR ? ERR_UPSTREAM
                                         : ERR_RATE_LIMIT;
    if (c->status != CALL_OK)
        c->error_message = STR("The Upstream said no");
    unsigned model = (unsigned)((r >> 16) % 5);
    c->model = models[model];
    c->provider = providers[model];
    c->model_requested = r >> 20 & 1 ? STR("smart") : models[model];
    c->route = r >> 20 & 1 ? STR("smart") : STR_EMPTY;
    c->finish_reason = c->status == CALL_OK ? STR("stop") : STR_EMPTY;
    c->response_id = STR("resp_0123456789");
    c->key = make_key((r >> 24) % 7);
    c->key_name = STR("app");
    snprintf(m->texts[0], MAKE_TEXT_BYTES, "user-%u", (unsigned)((r >> 28) % 40));
    snprintf(m->texts[1], MAKE_TEXT_BYTES, "session-%llu", (unsigned long long)(number / 3));
    c->user = str_from(m->texts[0]);
    c->session = str_from(m->texts[1]);
    m->tags[0] = (struct call_tag){STR("env"), r >> 34 & 3 ? STR("prod") : STR("test")};
    m->tags[1] = (struct call_tag){STR("team"), r >> 36 & 1 ? STR("search") : STR("ads")};
    c->tags = m->tags;
    c->tag_count = r >> 37 & 3 ? 2 : 0;
    c->stream = r >> 40 & 1;
    c->capture = CAPTURE_FULL;
    c->queue_ns = 20000 + (int64_t)(r >> 41 & 1023);
    c->connect_ns = r >> 51 & 1 ? -1 : 900000;
    c->first_token_ns = c->stream ? (int64_t)((r >> 30) % 400) * NS_PER_MS + 1000 : -1;
    c->total_ns = (int64_t)((r >> 22) % 5000) * NS_PER_MS + 2500 * NS_PER_US;
    c->usage.known = true;
    c->usage.tokens[USAGE_INPUT] = r % 3000;
    c->usage.tokens[USAGE_CACHED_INPUT] = r >> 7 & 1 ? 1024 : 0;
    c->usage.tokens[USAGE_OUTPUT] = (r >> 12) % 900;
    bool priced = model != 3;
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        c->bucket_price_pico[i] = priced ? 2500000 + i : COST_UNKNOWN;
    c->cost_pico =
        priced ? (int64_t)(c->usage.tokens[USAGE_INPUT] + c->usage.tokens[USAGE_OUTPUT]) * 2500000
               : COST_UNKNOWN;
    c->attempt_count = 1;
    m->attempt = (struct call_attempt){.provider = c->provider,
                                       .model = c->model,
                                       .duration_ns = c->total_ns,
                                       .http_status = c->http_status,
                                       .error = c->error};
    c->attempts = &m->attempt;
    snprintf(
        m->texts[2], MAKE_TEXT_BYTES,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Question number %llu about topic %u\"}]}",
        (unsigned long long)number, (unsigned)(r % 97));
    snprintf(m->texts[3], MAKE_TEXT_BYTES,
             "{\"choices\":[{\"message\":{\"content\":\"Answer %llx\"}}]}", (unsigned long long)r);
    c->request_body = str_from(m->texts[2]);
    c->response_body = str_from(m->texts[3]);
    c->request_headers = STR("{\"content-type\":\"application/json\"}");
}
