/* The steps of the self-test are a table: what is asked, and what the answer must hold. One after
 * the other, over one lease. */
#include "model/selftest.h"
#include "base/buf.h"
#include "base/clock.h"
#include "http/client.h"
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_MAX (1 << 20)
#define STEP_TIMEOUT_NS  (120 * NS_PER_S)

struct step {
    const char *name;
    const char *path;
    const char *body;
    const char *wanted; /* must be part of the answer */
    bool needs_tools;
};

#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Say hello.\"}]"

static const struct step STEPS[] = {
    {"chat", "/v1/chat/completions", "{" HELLO ",\"max_tokens\":4}", "\"usage\"", false},
    {"stream", "/v1/chat/completions",
     "{" HELLO ",\"max_tokens\":4,\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
     "data: [DONE]", false},
    {"schema", "/v1/chat/completions",
     "{" HELLO ",\"max_tokens\":40,\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
     "{\"name\":\"x\",\"schema\":{\"type\":\"object\",\"properties\":{\"ok\":{\"const\":true}},"
     "\"required\":[\"ok\"],\"additionalProperties\":false}}}}",
     "true", false},
    {"embeddings", "/v1/embeddings", "{\"input\":\"hello\"}", "\"embedding\":[", false},
    {"tools", "/v1/chat/completions",
     "{" HELLO ",\"max_tokens\":60,\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\","
     "\"function\":{\"name\":\"greet\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]}",
     "\"tool_calls\"", true},
};

struct selftest {
    struct engines *engines;
    struct loop *loop;
    struct http_client *client;
    struct engine_request *request; /* under way, or NULL */
    struct engine_lease *lease;
    struct http_exchange *exchange; /* under way, or NULL */
    size_t step;
    int status;
    struct buf answer;
    char authorization[128];
    struct err err;
    struct task leave, next;
    bool leaving;
    void (*done)(void *arg, const struct err *err);
    void *arg;
};

static void leave(struct task *task)
{
    struct selftest *test = CONTAINER_OF(task, struct selftest, leave);
    http_client_free(test->client);
    if (test->lease)
        engine_release(test->lease, false);
    buf_fini(&test->answer);
    test->done(test->arg, test->err.code == ERR_NONE ? NULL : &test->err);
    free(test);
}

/* Not from inside the exchange's callbacks: the client goes, too. */
static void end(struct selftest *test)
{
    if (test->leaving)
        return;
    test->leaving = true;
    loop_defer(test->loop, &test->leave);
}

static void on_head(void *owner, int status, const struct http_headers *headers)
{
    ((struct selftest *)owner)->status = status;
}

static enum proceed on_data(void *owner, struct str data)
{
    struct selftest *test = owner;
    if (buf_append(&test->answer, data) != RC_OK)
        err_set(&test->err, ERR_ENGINE_FAILED, "%s: too long an answer", STEPS[test->step].name);
    return PROCEED;
}

static void on_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct selftest *test = owner;
    const struct step *step = &STEPS[test->step];
    struct str answer = buf_str(&test->answer);
    test->exchange = NULL;
    if (test->err.code != ERR_NONE)
        ;
    else if (err)
        err_set(&test->err, ERR_ENGINE_FAILED, "self-test '%s': %s", step->name, err->message);
    else if (test->status != 200 || str_find(answer, str_from(step->wanted)) < 0)
        err_set(&test->err, ERR_ENGINE_FAILED, "self-test '%s': status %d, %.*s", step->name,
                test->status, (int)MIN(answer.n, 200), answer.p ? answer.p : "");
    test->step++;
    if (test->err.code != ERR_NONE)
        end(test);
    else
        loop_defer(test->loop, &test->next);
}

static const struct http_exchange_owner CALLS = {.head = on_head, .data = on_data, .done = on_done};

static void next(struct task *task)
{
    struct selftest *test = CONTAINER_OF(task, struct selftest, next);
    if (test->leaving)
        return;
    const struct engine_endpoint *endpoint = engine_lease_endpoint(test->lease);
    while (test->step < COUNT_OF(STEPS) && STEPS[test->step].needs_tools &&
           !endpoint->template_has_tools)
        test->step++;
    if (test->step == COUNT_OF(STEPS)) {
        end(test);
        return;
    }
    const struct step *step = &STEPS[test->step];
    struct http_origin *origin = http_client_origin(
        test->client, &(struct http_origin_options){.url = endpoint->url, .proxy = STR("none")},
        &test->err);
    if (!origin) {
        end(test);
        return;
    }
    const struct http_header headers[] = {{STR("content-type"), STR("application/json")},
                                          {STR("authorization"), str_from(test->authorization)}};
    buf_clear(&test->answer);
    test->exchange =
        http_exchange_start(origin,
                            &(struct http_exchange_request){.method = STR("POST"),
                                                            .path = str_from(step->path),
                                                            .headers = headers,
                                                            .header_count = COUNT_OF(headers),
                                                            .body = {str_from(step->body)},
                                                            .body_parts = 1,
                                                            .head_timeout_ns = STEP_TIMEOUT_NS,
                                                            .idle_timeout_ns = STEP_TIMEOUT_NS},
                            &CALLS, test);
}

static void acquired(void *arg, struct engine_lease *lease, const struct err *err)
{
    struct selftest *test = arg;
    test->request = NULL;
    test->lease = lease;
    if (!lease) {
        test->err = *err;
        end(test);
        return;
    }
    snprintf(test->authorization, sizeof(test->authorization), "Bearer %.*s",
             STR_ARG(engine_lease_endpoint(lease)->api_key));
    loop_defer(test->loop, &test->next);
}

/* The first model that llama-server serves, by name. */
static bool pick_model(struct engines *engines, struct arena *arena, struct str *key)
{
    const struct engine_status *list;
    size_t count = engines_list(engines, arena, &list);
    for (size_t i = 0; i < count; i++)
        if (list[i].is_llama) {
            *key = list[i].key;
            return true;
        }
    return false;
}

struct selftest *selftest_start(struct engines *engines, struct loop *loop,
                                void (*done)(void *arg, const struct err *err), void *arg)
{
    struct arena arena;
    struct str key;
    struct selftest *test = NULL;
    arena_init(&arena, 1 << 20);
    if (pick_model(engines, &arena, &key)) {
        test = xcalloc(1, sizeof(*test));
        test->engines = engines;
        test->loop = loop;
        test->client = http_client_new(loop);
        test->leave.run = leave;
        test->next.run = next;
        test->done = done;
        test->arg = arg;
        buf_init(&test->answer, ANSWER_BYTES_MAX);
        test->request = engine_acquire(engines, key, acquired, test);
    }
    arena_fini(&arena);
    return test;
}

void selftest_cancel(struct selftest *test)
{
    if (test->request)
        engine_request_cancel(test->request);
    if (test->exchange)
        http_exchange_cancel(test->exchange);
    test->request = NULL;
    test->exchange = NULL;
    err_set(&test->err, ERR_CANCELLED, "cancelled");
    end(test);
}
