/* Models answered inside the process, through the doors, with a scripted answerer. */
#include "call_stand.h"
#include "gateway/gateway.h"
#include "gateway/inner.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* What the answerer does, chosen by the last message's text. */
static struct answerer {
    struct inner_call *call;
    struct inner_request request;
    struct timer timer;
    struct call *inside;
    struct arena arena;
    struct call_request inside_request;
    int pieces_left, starts, cancels, stops;
    char heard[64], mode[16];
} answerer;

static const char answer_body[] =
    "{\"model\":\"smart\",\"messages\":[{\"role\":\"user\",\"content\":"
    "\"hi\"}]}";

static void finish(void)
{
    inner_extra(answerer.call, STR(" {\"citations\":[{\"page\":3}]} "));
    inner_end(answerer.call, "stop", 7, 5, NULL);
}

static void flood(void)
{
    static char text[4096];

    memset(text, 'x', sizeof(text));
    while (answerer.pieces_left > 0) {
        answerer.pieces_left--;
        if (inner_text(answerer.call, str_make(text, sizeof(text))) == STOP) {
            answerer.stops++;
            return;
        }
    }
    finish();
}

static void say_later(struct timer *timer)
{
    struct err err;

    if (strcmp(answerer.mode, "fail") == 0) {
        err_set(&err, ERR_NOT_FOUND, "there is no such label");
        inner_end(answerer.call, "stop", 0, 0, &err);
    } else if (strcmp(answerer.mode, "flood") == 0) {
        answerer.pieces_left = 100;
        flood();
    } else if (strcmp(answerer.mode, "break") == 0) {
        (void)inner_text(answerer.call, STR("half"));
        err_set(&err, ERR_UPSTREAM, "the rest is lost");
        inner_end(answerer.call, "stop", 0, 0, &err);
    } else if (strcmp(answerer.mode, "never") != 0) {
        (void)inner_text(answerer.call, STR("Hello "));
        (void)inner_text(answerer.call, STR("\"you\""));
        finish();
    }
}

/* A call of its own: its pieces become pieces of the answer, from inside its callbacks. */
static void inside_head(void *arg, const struct call_head *head)
{
    assert_int_equal(head->status, 200);
}

static enum proceed inside_data(void *arg, struct str bytes)
{
    (void)inner_text(answerer.call, STR("inside:"));
    (void)inner_text(answerer.call, bytes);
    return PROCEED;
}

static void inside_done(void *arg, const struct call_record *record, const struct err *err)
{
    assert_null(err);
    answerer.inside = NULL;
    finish();
}

static const struct call_sink inside_sink = {inside_head, inside_data, inside_done};

static void *start(void *arg, struct inner_call *call, const struct inner_request *request)
{
    yyjson_val *messages = yyjson_obj_get(request->body, "messages");
    struct str text = json_get_text(yyjson_arr_get_last(messages), "content");

    answerer.call = call;
    answerer.request = *request;
    answerer.starts++;
    snprintf(answerer.mode, sizeof(answerer.mode), "%.*s", STR_ARG(text));
    snprintf(answerer.heard, sizeof(answerer.heard), "%.*s", STR_ARG(request->name));
    if (strcmp(answerer.mode, "call") == 0) {
        answerer.inside_request = (struct call_request){
            .operation = OPERATION_CHAT, .format = WIRE_OPENAI_CHAT, .body = str_from(answer_body)};
        answerer.inside = gateway_call_start(request->gateway, request->scope,
                                             &answerer.inside_request, &inside_sink, NULL);
    } else {
        timer_init(&answerer.timer, say_later);
        timer_start(loop_current(), &answerer.timer, NS_PER_MS);
    }
    return &answerer;
}

static void resume(void *answer) { flood(); }

static void cancel(void *answer)
{
    answerer.cancels++;
    timer_stop(&answerer.timer);
}

static void upstream_answers(struct http_request *request, int nth)
{
    http_respond(request, 200, STR("application/json"), str_from(chat_answer));
}

static struct stand *stand_with_pipeline(void)
{
    static const struct inner_model model = {
        .prefix = STR_INIT("pipeline/"), .start = start, .resume = resume, .cancel = cancel};
    static bool done;
    struct stand *stand = stand_new(upstream_answers, 1);

    if (!done)
        gateway_register_inner(&model);
    done = true;
    answerer = (struct answerer){0};
    map_put(&stand->project->inner_names, STR("pipeline/greet"), stand);
    return stand;
}

#define ASK(path_stream, what)                                                                     \
    "{\"model\":\"pipeline/greet@production\"," path_stream                                        \
    "\"messages\":[{\"role\":\"user\",\"content\":\"" what "\"}]}"

static bool contains(const char *text, const char *part) { return strstr(text, part) != NULL; }

static void test_whole_answer_with_extra_members(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_post(stand, "/v1/chat/completions", ASK("", "hi"));
    assert_int_equal(stand->status, 200);
    assert_string_equal(answerer.heard, "greet@production");
    assert_true(contains(stand->body, "{\"citations\":[{\"page\":3}],"));
    assert_true(contains(stand->body, "\"content\":\"Hello \\\"you\\\"\""));
    assert_true(contains(stand->body, "\"total_tokens\":12"));
    assert_true(str_eq(stand_header(stand, "x-capstan-provider"), STR("pipeline")));
    assert_int_equal(stand->record.usage.tokens[USAGE_INPUT], 0); /* its calls have them */
    assert_int_equal(stand->record.status, CALL_OK);
    stand_free(stand);
}

static void test_stream(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_post(stand, "/v1/chat/completions", ASK("\"stream\":true,", "hi"));
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "\"delta\":{\"role\":\"assistant\",\"content\":\"Hello \"}"));
    assert_true(contains(stand->body, "\"citations\":[{\"page\":3}],\"choices\""));
    assert_true(contains(stand->body, "\"finish_reason\":\"stop\""));
    assert_false(contains(stand->body, "prompt_tokens")); /* nobody asked */
    assert_true(contains(stand->body, "data: [DONE]"));
    stand_free(stand);
}

static void test_another_door(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_post(stand, "/v1/messages", ASK("\"max_tokens\":100,", "hi"));
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "\"text\":\"Hello \\\"you\\\"\""));
    assert_true(contains(stand->body, "\"stop_reason\":\"end_turn\""));
    stand_free(stand);
}

static void test_unknown_name_and_wrong_operation(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_post(
        stand, "/v1/chat/completions",
        "{\"model\":\"pipeline/none\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_int_equal(stand->status, 404);
    stand_post(stand, "/v1/embeddings", "{\"model\":\"pipeline/greet\",\"input\":\"x\"}");
    assert_int_equal(stand->status, 400);
    assert_true(contains(stand->body, "answers chats only"));
    assert_int_equal(answerer.starts, 0);
    stand_get(stand, "/v1/models");
    assert_true(contains(stand->body, "\"pipeline/greet\""));
    stand_free(stand);
}

static void test_failure_is_told_once(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_post(stand, "/v1/chat/completions", ASK("", "fail"));
    assert_int_equal(stand->status, 404);
    assert_true(contains(stand->body, "there is no such label"));
    assert_int_equal(answerer.starts, 1); /* not tried again */
    stand_post(stand, "/v1/chat/completions", ASK("\"stream\":true,", "break"));
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "half"));
    assert_true(contains(stand->body, "the rest is lost"));
    stand_free(stand);
}

static void test_back_pressure(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_post(stand, "/v1/chat/completions", ASK("\"stream\":true,", "flood"));
    assert_int_equal(stand->status, 200);
    assert_true(answerer.stops > 5);
    assert_true(stand->body_n > 100 * 4096);
    assert_true(contains(stand->body, "data: [DONE]"));
    stand_free(stand);
}

static void test_client_that_leaves_cancels(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand_begin(stand, "POST", "/v1/chat/completions", ASK("\"stream\":true,", "never"));
    stand_run_for(stand, 20 * NS_PER_MS);
    assert_int_equal(answerer.starts, 1);
    http_exchange_cancel(stand->exchange);
    stand->exchange = NULL;
    stand_run_until_records(stand, 1);
    assert_int_equal(answerer.cancels, 1);
    assert_int_equal(stand->record.status, CALL_CANCELLED);
    stand_free(stand);
}

static void test_call_inside(void **state)
{
    struct stand *stand = stand_with_pipeline();

    stand->key->limits.parallel = 1; /* does not stop the call inside */
    stand_post(stand, "/v1/chat/completions", ASK("\"stream\":true,", "call"));
    assert_int_equal(stand->status, 200);
    assert_true(contains(stand->body, "inside:"));
    assert_int_equal(stand->upstream_requests, 1);
    assert_int_equal(stand->records, 2);
    stand_free(stand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer_with_extra_members),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_another_door),
        cmocka_unit_test(test_unknown_name_and_wrong_operation),
        cmocka_unit_test(test_failure_is_told_once),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_client_that_leaves_cancels),
        cmocka_unit_test(test_call_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
