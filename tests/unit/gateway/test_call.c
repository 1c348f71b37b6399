/* Calls through the doors, against a scripted upstream on the same loop. */
#include "call_stand.h"
#include "gateway/limit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static bool contains(const char *text, const char *part) { return strstr(text, part) != NULL; }

static void respond_json(struct http_request *request, int status, const char *json)
{
    http_respond(request, status, STR("application/json"), str_from(json));
}

/* ---- whole answers ---- */

static void answers(struct http_request *request, int nth)
{
    respond_json(request, 200, chat_answer);
}

static void test_whole_answer(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_string_equal(stand->body, chat_answer);
    assert_true(contains(stand->upstream_body, "\"model\":\"gpt-4o\""));
    assert_true(str_eq(stand_header(stand, "x-capstan-provider"), STR("openai")));
    assert_true(str_eq(stand_header(stand, "x-capstan-retries"), STR("0")));
    /* 10 × $2.50 + 2 × $10 a million */
    assert_true(str_eq(stand_header(stand, "x-capstan-cost-usd"), STR("0.000045")));
    assert_true(stand_header(stand, "traceparent").n == 55);
    assert_int_equal(stand->records, 1);
    assert_int_equal(stand->record.status, CALL_OK);
    assert_int_equal(stand->record.cost_pico, 45000000);
    assert_int_equal(stand->record.usage.tokens[USAGE_INPUT], 10);
    assert_int_equal(stand->record.attempt_count, 1);
    assert_int_equal(stand->record.tag_count, 2);
    stand_free(stand);
}

static void test_provider_slash_model(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    stand_post(
        stand, "/v1/chat/completions",
        "{\"model\":\"openai/gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->upstream_body, "\"model\":\"gpt-4o-mini\""));
    stand_post(stand, "/v1/chat/completions",
               "{\"model\":\"nobody/x\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(stand->status, 404);
    assert_true(contains(stand->body, "model_not_found"));
    assert_int_equal(stand->record.status, CALL_REFUSED);
    stand_post(stand, "/v1/chat/completions",
               "{\"model\":\"prompt/x\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    assert_int_equal(stand->status, 404);
    stand_free(stand);
}

static void test_models_of_the_key(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    stand_get(stand, "/v1/models");
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "\"id\":\"smart\""));
    stand->key->model_glob_count = 0;
    stand_get(stand, "/v1/models");
    assert_false(contains(stand->body, "smart"));
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 403);
    assert_true(contains(stand->body, "model_not_allowed"));
    assert_int_equal(stand->upstream_requests, 0);
    stand_free(stand);
}

/* ---- retries and fallback ---- */

static void fails_once(struct http_request *request, int nth)
{
    if (nth == 0)
        respond_json(request, 500, "{\"error\":{\"message\":\"oops\",\"type\":\"server_error\"}}");
    else
        respond_json(request, 200, chat_answer);
}

static void test_retries_the_same_target(void **state)
{
    struct stand *stand = stand_new(fails_once, 1);
    stand->route.retry = 1;
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_int_equal(stand->upstream_requests, 2);
    assert_int_equal(stand->record.attempt_count, 2);
    assert_int_equal(stand->attempts[0].http_status, 500);
    assert_true(str_eq(stand_header(stand, "x-capstan-retries"), STR("1")));
    stand_free(stand);
}

static void test_falls_back_to_the_next(void **state)
{
    struct stand *stand = stand_new(fails_once, 2);
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->upstream_body, "\"model\":\"m1\""));
    assert_true(str_eq(stand_header(stand, "x-capstan-provider"), STR("p1")));
    stand_free(stand);
}

static void refuses(struct http_request *request, int nth)
{
    respond_json(request, 400,
                 "{\"error\":{\"message\":\"bad temperature\",\"type\":\"invalid_request_error\","
                 "\"param\":\"temperature\",\"code\":null}}");
}

static void test_requests_own_fault_passes_unchanged(void **state)
{
    struct stand *stand = stand_new(refuses, 2);
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 400);
    assert_int_equal(stand->upstream_requests, 1);
    assert_true(contains(stand->body, "\"param\":\"temperature\""));
    assert_int_equal(stand->record.status, CALL_ERROR);
    assert_int_equal(stand->record.http_status, 400);
    stand_free(stand);
}

static void rate_limits(struct http_request *request, int nth)
{
    if (nth == 0) {
        http_respond_header(request, STR("retry-after"), STR("20"));
        respond_json(request, 429,
                     "{\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\"}}");
    } else {
        respond_json(request, 200, chat_answer);
    }
}

static void test_rate_limited_key_cools_down(void **state)
{
    struct stand *stand = stand_new(rate_limits, 1);
    struct provider_key keys[2] = {{STR("sk-a"), 301}, {STR("sk-b"), 302}};
    stand->providers[0].keys = keys;
    stand->providers[0].key_count = 2;
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_int_equal(stand->upstream_requests, 2);
    int64_t a = cooldown_until_ns(301), b = cooldown_until_ns(302);
    assert_true((a > 0) != (b > 0));
    stand_free(stand);
}

static void is_down(struct http_request *request, int nth)
{
    respond_json(request, 503, "{\"error\":{\"message\":\"down\"}}");
}

static void test_breaker_opens(void **state)
{
    struct stand *stand = stand_new(is_down, 1);
    for (int i = 0; i < BREAKER_FAILURES_IN_ROW; i++) {
        stand_post(stand, "/v1/chat/completions", chat_body);
        assert_int_equal(stand->status, 503);
    }
    int before = stand->upstream_requests;
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 503);
    assert_int_equal(stand->upstream_requests, before);
    assert_true(contains(stand->body, "no_target_available"));
    assert_true(stand_header(stand, "retry-after").n > 0);
    stand_free(stand);
}

/* ---- streams ---- */

static const char *const frames[] = {
    "data: "
    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\","
    "\"choices\":[{\"index\":0,"
    "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    "data: "
    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\","
    "\"choices\":[{\"index\":0,"
    "\"delta\":{\"content\":\"hello\"},\"finish_reason\":null}]}\n\n",
    "data: "
    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\","
    "\"choices\":[{\"index\":0,"
    "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: "
    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\","
    "\"choices\":[],\"usage\":{"
    "\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}}\n\n",
    "data: [DONE]\n\n",
};

static void streams(struct http_request *request, int nth)
{
    http_respond_begin(request, 200, STR("text/event-stream"));
    for (size_t i = 0; i < COUNT_OF(frames); i++)
        http_respond_write(request, str_from(frames[i]));
    http_respond_end(request);
}

static void test_stream(void **state)
{
    struct stand *stand = stand_new(streams, 1);
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_int_equal(stand->status, 200);
    assert_false(stand->failed);
    assert_true(str_starts(stand_header(stand, "content-type"), STR("text/event-stream")));
    assert_true(contains(stand->upstream_body, "include_usage"));
    assert_true(contains(stand->body, "hello"));
    assert_true(contains(stand->body, "data: [DONE]"));
    assert_false(contains(stand->body, "prompt_tokens")); /* not asked for */
    assert_int_equal(stand->record.usage.tokens[USAGE_OUTPUT], 2);
    assert_int_equal(stand->record.cost_pico, 45000000);
    assert_true(stand->record.first_token_ns >= 0);
    stand_free(stand);
}

static void opens_with_an_error(struct http_request *request, int nth)
{
    if (nth > 0) {
        streams(request, nth);
        return;
    }
    http_respond_begin(request, 200, STR("text/event-stream"));
    http_respond_write(
        request,
        STR("data: {\"error\":{\"message\":\"overloaded\",\"type\":\"overloaded_error\"}}\n\n"));
    http_respond_end(request);
}

static void test_stream_that_opens_with_an_error_falls_back(void **state)
{
    struct stand *stand = stand_new(opens_with_an_error, 2);
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_int_equal(stand->status, 200);
    assert_int_equal(stand->upstream_requests, 2);
    assert_true(contains(stand->body, "hello"));
    assert_false(contains(stand->body, "overloaded"));
    stand_free(stand);
}

static void breaks_off(struct http_request *request, int nth)
{
    http_respond_begin(request, 200, STR("text/event-stream"));
    http_respond_write(request, str_from(frames[0]));
    http_respond_write(request, str_from(frames[1]));
    http_respond_abort(request);
}

static void test_stream_that_breaks_off_says_so(void **state)
{
    struct stand *stand = stand_new(breaks_off, 2);
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_int_equal(stand->status, 200);
    assert_int_equal(stand->upstream_requests, 1); /* content went out: no second attempt */
    assert_true(contains(stand->body, "hello"));
    assert_true(contains(stand->body, "\"error\""));
    assert_int_equal(stand->record.status, CALL_ERROR);
    assert_true(stand->record.usage.estimated);
    stand_free(stand);
}

static struct stand *hanging;
static void upstream_lost(struct http_request *request) { hanging->upstream_gone++; }

static void hangs(struct http_request *request, int nth)
{
    request->gone = upstream_lost;
    http_respond_begin(request, 200, STR("text/event-stream"));
    http_respond_write(request, str_from(frames[0]));
    http_respond_write(request, str_from(frames[1]));
}

static void test_client_that_leaves_cancels_the_upstream(void **state)
{
    struct stand *stand = hanging = stand_new(hangs, 1);
    stand_begin(stand, "POST", "/v1/chat/completions", chat_stream_body);
    while (stand->data_count == 0)
        stand_run_for(stand, 5 * 1000000);
    int64_t left_ns = clock_monotonic_ns();
    http_exchange_cancel(stand->exchange);
    while (stand->upstream_gone == 0 && clock_monotonic_ns() - left_ns < 1000000000)
        stand_run_for(stand, 1000000);
    assert_int_equal(stand->upstream_gone, 1);
    assert_true(clock_monotonic_ns() - left_ns < 100 * 1000000);
    assert_int_equal(stand->record.status, CALL_CANCELLED);
    assert_int_equal(stand->record.http_status, 200); /* that much it got */
    stand_free(stand);
}

/* A call that is cancelled before its first step leaves the list of the ready; the next one must
 * not be posted a second time. */
static void test_calls_cancelled_at_once(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    struct arena arena;
    struct principal principal = stand->key->principal;
    static const struct call_sink nobody;
    arena_init(&arena, 1 << 20);
    struct scope scope = {
        .principal = &principal, .key = stand->key, .budget_pico = COST_UNKNOWN, .arena = &arena};
    struct call_request request = {.format = WIRE_OPENAI_CHAT, .body = str_from(chat_body)};
    for (int i = 0; i < 3; i++)
        gateway_call_cancel(gateway_call_start(stand->gateway, &scope, &request, &nobody, NULL));
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_int_equal(stand->records, 4);
    arena_fini(&arena);
    stand_free(stand);
}

static struct http_request *open_stream;

static void opens(struct http_request *request, int nth)
{
    open_stream = request;
    request->gone = upstream_lost;
    http_respond_begin(request, 200, STR("text/event-stream"));
    http_respond_write(request, str_from(frames[0]));
    http_respond_write(request, str_from(frames[1]));
}

/* Of all stands so far. */
static int parked_in_all(void)
{
    static const char name[] = "\ncapstan_calls_parked_total ";
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(gateway_metrics_render(&text), RC_OK);
    assert_int_equal(buf_append_char(&text, '\0'), RC_OK);
    const char *line = strstr(buf_str(&text).p, name);
    assert_non_null(line);
    int count = atoi(line + sizeof(name) - 1);
    buf_fini(&text);
    return count;
}

static struct stand *with_parked_stream(void)
{
    struct stand *stand = hanging = stand_new(opens, 1);
    int before = parked_in_all();
    stand_begin(stand, "POST", "/v1/chat/completions", chat_stream_body);
    while (parked_in_all() == before)
        stand_run_for(stand, 1000000);
    return stand;
}

/* A stream whose request was parked flows on, and its record has everything. */
static void test_parked_stream(void **state)
{
    struct stand *stand = with_parked_stream();
    for (size_t i = 2; i < COUNT_OF(frames); i++) {
        http_respond_write(open_stream, str_from(frames[i]));
        stand_run_for(stand, 1000000);
    }
    http_respond_end(open_stream);
    stand_run(stand);
    assert_false(stand->failed);
    assert_true(contains(stand->body, "data: [DONE]"));
    assert_int_equal(stand->record.status, CALL_OK);
    assert_int_equal(stand->record.usage.tokens[USAGE_OUTPUT], 2);
    assert_string_equal(stand->record_request, chat_stream_body);
    assert_string_equal(stand->record_user, "ann");
    assert_string_equal(stand->record_model, "gpt-4o");
    stand_post(stand, "/v1/models", ""); /* the connection is as good as new */
    assert_int_equal(stand->status, 405);
    stand_free(stand);
}

static void test_parked_stream_that_is_left(void **state)
{
    struct stand *stand = with_parked_stream();
    http_exchange_cancel(stand->exchange);
    stand_run_until_records(stand, 1);
    assert_int_equal(stand->record.status, CALL_CANCELLED);
    assert_string_equal(stand->record_request, chat_stream_body);
    assert_string_equal(stand->record_user, "ann");
    stand_free(stand);
}

static void test_parked_stream_that_breaks_off(void **state)
{
    struct stand *stand = with_parked_stream();
    http_respond_abort(open_stream);
    stand_run(stand);
    assert_true(contains(stand->body, "\"error\""));
    assert_int_equal(stand->record.status, CALL_ERROR);
    assert_string_equal(stand->record_request, chat_stream_body);
    stand_free(stand);
}

static void test_stalled_stream_ends(void **state)
{
    struct stand *stand = hanging = stand_new(hangs, 1);
    stand->route.between_ns = 30 * 1000000;
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_true(contains(stand->body, "stalled"));
    assert_int_equal(stand->record.error, ERR_TIMEOUT);
    stand_free(stand);
}

static void never_answers(struct http_request *request, int nth) { request->gone = upstream_lost; }

static void answers_second(struct http_request *request, int nth)
{
    if (nth == 0)
        never_answers(request, nth);
    else
        streams(request, nth);
}

static void test_first_token_deadline_falls_back(void **state)
{
    struct stand *stand = hanging = stand_new(answers_second, 2);
    stand->route.first_token_ns = 30 * 1000000;
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "hello"));
    assert_int_equal(stand->attempts[0].error, ERR_TIMEOUT);
    stand_free(stand);
}

static void test_total_deadline(void **state)
{
    struct stand *stand = hanging = stand_new(never_answers, 2);
    stand->route.total_ns = 30 * 1000000;
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 504);
    assert_int_equal(stand->record.error, ERR_TIMEOUT);
    stand_free(stand);
}

/* ---- limits and cache ---- */

static void test_limits_refuse_in_the_doors_format(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    stand->key->limits.requests_per_minute = 1;
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_true(str_eq(stand_header(stand, "x-ratelimit-remaining-requests"), STR("0")));
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 429);
    assert_true(contains(stand->body, "rate_limit_exceeded"));
    assert_true(stand_header(stand, "retry-after").n > 0);
    assert_int_equal(stand->record.status, CALL_REFUSED);
    stand_post(stand, "/v1/messages",
               "{\"model\":\"smart\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":"
               "\"hi\"}]}");
    assert_int_equal(stand->status, 429);
    assert_true(contains(stand->body, "\"type\":\"error\""));
    stand_free(stand);
}

static void test_budget(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    stand->key->limits.budget_day_pico = 100000000;
    const char *body = "{\"model\":\"smart\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\","
                       "\"content\":\"hi\"}]}";
    stand_post(stand, "/v1/chat/completions", body);
    assert_int_equal(stand->status, 200);
    stand_post(stand, "/v1/chat/completions", body);
    assert_int_equal(stand->status, 429);
    assert_true(contains(stand->body, "budget"));
    stand_free(stand);
}

static void test_cache(void **state)
{
    struct stand *stand = stand_new(answers, 1);
    stand->route.cache_ttl_ns = 60 * NS_PER_S;
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_true(str_eq(stand_header(stand, "x-capstan-cache"), STR("miss")));
    stand_post(stand, "/v1/chat/completions", chat_body);
    assert_int_equal(stand->status, 200);
    assert_true(str_eq(stand_header(stand, "x-capstan-cache"), STR("hit")));
    assert_string_equal(stand->body, chat_answer);
    assert_int_equal(stand->upstream_requests, 1);
    assert_int_equal(stand->record.cost_pico, 0);
    stand->script = streams;
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_true(str_eq(stand_header(stand, "x-capstan-cache"), STR("miss")));
    stand_post(stand, "/v1/chat/completions", chat_stream_body);
    assert_true(str_eq(stand_header(stand, "x-capstan-cache"), STR("hit")));
    assert_true(contains(stand->body, "data: [DONE]"));
    assert_int_equal(stand->upstream_requests, 2);
    stand_free(stand);
}

static void speaks(struct http_request *request, int nth)
{
    assert_true(str_eq(request->path, STR("/v1/audio/speech")));
    http_respond(request, 200, STR("audio/mpeg"), str_make("\xff\xfb\x00\x01", 4));
}

static void test_other_endpoints_pass(void **state)
{
    struct stand *stand = stand_new(speaks, 1);
    stand_post(stand, "/v1/audio/speech",
               "{\"model\":\"smart\",\"input\":\"hi\",\"voice\":\"alloy\"}");
    assert_int_equal(stand->status, 200);
    assert_true(str_eq(stand_header(stand, "content-type"), STR("audio/mpeg")));
    assert_int_equal(stand->body_n, 4);
    assert_true(contains(stand->upstream_body, "\"model\":\"gpt-4o\""));
    stand_free(stand);
}

static void streams_much(struct http_request *request, int nth)
{
    static char frame[20000];
    snprintf(frame, sizeof(frame),
             "data: "
             "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
             "\"choices\":[{\"index\":0,"
             "\"delta\":{\"content\":\"%015000d\"},\"finish_reason\":null}]}\n\n",
             7);
    http_respond_begin(request, 200, STR("text/event-stream"));
    for (int i = 0; i < 40; i++)
        http_respond_write(request, str_from(frame));
    http_respond_write(request, str_from(frames[4]));
    http_respond_end(request);
}

static void test_client_that_does_not_read_stops_the_upstream(void **state)
{
    struct stand *stand = stand_new(streams_much, 1);
    stand->stop_reading = true;
    stand_begin(stand, "POST", "/v1/chat/completions", chat_stream_body);
    stand_run_for(stand, 50 * 1000000);
    stand->stop_reading = false;
    if (stand->exchange) {
        http_exchange_resume(stand->exchange);
        stand_run(stand);
    }
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "data: [DONE]"));
    stand_free(stand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer),
        cmocka_unit_test(test_provider_slash_model),
        cmocka_unit_test(test_models_of_the_key),
        cmocka_unit_test(test_retries_the_same_target),
        cmocka_unit_test(test_falls_back_to_the_next),
        cmocka_unit_test(test_requests_own_fault_passes_unchanged),
        cmocka_unit_test(test_rate_limited_key_cools_down),
        cmocka_unit_test(test_breaker_opens),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_that_opens_with_an_error_falls_back),
        cmocka_unit_test(test_stream_that_breaks_off_says_so),
        cmocka_unit_test(test_client_that_leaves_cancels_the_upstream),
        cmocka_unit_test(test_calls_cancelled_at_once),
        cmocka_unit_test(test_parked_stream),
        cmocka_unit_test(test_parked_stream_that_is_left),
        cmocka_unit_test(test_parked_stream_that_breaks_off),
        cmocka_unit_test(test_stalled_stream_ends),
        cmocka_unit_test(test_first_token_deadline_falls_back),
        cmocka_unit_test(test_total_deadline),
        cmocka_unit_test(test_limits_refuse_in_the_doors_format),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_other_endpoints_pass),
        cmocka_unit_test(test_client_that_does_not_read_stops_the_upstream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
