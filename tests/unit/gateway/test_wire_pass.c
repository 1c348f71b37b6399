/* Same format at door and upstream: bytes pass, only what must change is spliced. */
#include "wire_helper.h"

static struct arena arena;

static int set_up(void **state)
{
    arena_init(&arena, 256 << 20);
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(&arena);
    return 0;
}

static struct wire_request read(enum wire_format door, const char *body)
{
    struct wire_request request;
    struct err err = {0};
    if (wire_read_request(door, str_from(body), &arena, &request, &err) != RC_OK)
        fail_msg("%s", err.message);
    return request;
}

static struct str rewritten(enum wire_format door, const char *body, const char *row,
                            const char *model, bool stream, const char *params)
{
    struct wire_request request = read(door, body);
    struct wire_upstream upstream = {.format = door,
                                     .row = provider_row_find(str_from(row)),
                                     .model = str_from(model),
                                     .params = str_from(params),
                                     .stream = stream,
                                     .template_has_tools = true};
    struct wire_call call;
    struct err err = {0};
    assert_non_null(upstream.row);
    if (wire_write_request(&request, &upstream, STR("sk-x"), &arena, &call, &err) != RC_OK)
        fail_msg("%s", err.message);
    assert_in_range(call.body_parts, 1, 4);
    return joined(&call, &arena);
}

static void test_request_unchanged(void **state)
{
    const char *body =
        " {\"messages\" : [{\"role\":\"user\",\"content\":\"h\\u00e9\"}] ,\"model\":\"m\", "
        "\"x\":1.0}";
    assert_str(rewritten(WIRE_OPENAI_CHAT, body, "openai", "m", false, ""), body);
}

static void test_request_model_and_usage(void **state)
{
    assert_str(
        rewritten(WIRE_OPENAI_CHAT,
                  "{\"model\":\"r\",\"stream\":true,\"messages\":[{\"role\":\"user\"}]}", "openai",
                  "gpt \"5\"", true, ""),
        "{\"stream_options\":{\"include_usage\":true},\"model\":\"gpt \\\"5\\\"\",\"stream\":true,"
        "\"messages\":[{\"role\":\"user\"}]}");
    assert_str(rewritten(WIRE_OPENAI_CHAT,
                         "{\"model\":\"r\",\"stream\":true,\"messages\":[{\"role\":\"user\"}],"
                         "\"stream_options\":{\"include_obfuscation\":false}}",
                         "openai", "r", true, ""),
               "{\"model\":\"r\",\"stream\":true,\"messages\":[{\"role\":\"user\"}],"
               "\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false}}");
}

static void test_request_params(void **state)
{
    assert_str(
        rewritten(WIRE_OPENAI_CHAT,
                  "{\"model\":\"r\",\"temperature\":1,\"messages\":[{\"role\":\"user\"}],\"n\":1}",
                  "openai", "r", false, "{\"temperature\":0.5,\"n\":null,\"seed\":7}"),
        "{\"seed\":7,\"model\":\"r\",\"temperature\":0.5,\"messages\":[{\"role\":\"user\"}]}");
}

static void test_request_quirks(void **state)
{
    assert_str(rewritten(WIRE_OPENAI_CHAT,
                         "{\"model\":\"r\",\"seed\":1,\"store\":false,\"max_completion_tokens\":5,"
                         "\"tool_choice\":\"required\",\"messages\":[{\"role\":\"developer\","
                         "\"content\":\"developer\"}],\"stream\":true,\"stream_options\":{}}",
                         "mistral", "r", true, ""),
               "{\"model\":\"r\",\"random_seed\":1,\"max_tokens\":5,\"tool_choice\":\"any\","
               "\"messages\":[{\"role\":\"system\",\"content\":\"developer\"}],\"stream\":true}");
    assert_str(rewritten(WIRE_OPENAI_CHAT,
                         "{\"model\":\"r\",\"messages\":[{\"name\":\"x\",\"role\":\"user\"},"
                         "{\"role\":\"user\",\"name\":\"y\"}]}",
                         "groq", "r", false, ""),
               "{\"model\":\"r\",\"messages\":[{\"role\":\"user\"},{\"role\":\"user\"}]}");
}

static void test_request_refused(void **state)
{
    static const struct {
        const char *body;
        enum err_code code;
        const char *field;
    } cases[] = {
        {"", ERR_BAD_JSON, ""},
        {"[]", ERR_INVALID, ""},
        {"{\"model\":\"m\",", ERR_BAD_JSON, ""},
        {"{\"messages\":[{\"role\":\"user\"}]}", ERR_MISSING_FIELD, "model"},
        {"{\"model\":3,\"messages\":[]}", ERR_BAD_FIELD, "model"},
        {"{\"model\":\"m\"}", ERR_MISSING_FIELD, "messages"},
        {"{\"model\":\"m\",\"messages\":[]}", ERR_BAD_FIELD, "messages"},
        {"{\"model\":\"m\",\"messages\":[{}]}", ERR_MISSING_FIELD, "messages[0].role"},
        {"{\"model\":\"m\",\"mod\\u0065l\":\"n\",\"messages\":[{\"role\":\"user\"}]}",
         ERR_BAD_FIELD, "model"},
        {"{\"model\":\"m\",\"stream\":1,\"messages\":[{\"role\":\"user\"}]}", ERR_BAD_FIELD,
         "stream"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct wire_request request;
        struct err err = {0};
        assert_int_not_equal(
            wire_read_request(WIRE_OPENAI_CHAT, str_from(cases[i].body), &arena, &request, &err),
            RC_OK);
        assert_int_equal(err.code, cases[i].code);
        assert_string_equal(err.field, cases[i].field);
    }
}

static void test_request_identity(void **state)
{
    struct wire_request request = read(
        WIRE_OPENAI_CHAT,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
        "\"image_url\":{\"url\":\"data:\"}}]}],\"user\":\"u\",\"store\":false,\"n\":3,"
        "\"metadata\":{\"session_id\":\"s\",\"a\":\"b\",\"c\":1},\"max_tokens\":9,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true}}");
    assert_str(request.user, "u");
    assert_str(request.session, "s");
    assert_int_equal(request.tag_count, 1);
    assert_str(request.tags[0].value, "b");
    assert_true(request.store_false && request.usage_asked && request.stream && request.has_images);
    assert_int_equal(request.choices, 3);
    assert_int_equal(request.output_tokens_max, 9);
    request =
        read(WIRE_ANTHROPIC, "{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\"}],"
                             "\"metadata\":{\"user_id\":\"user_1_account_2_session_3\"}}");
    assert_str(request.user, "user_1_account_2_session_3");
    assert_str(request.session, "3");
}

#define CHUNK(delta, finish)                                                                       \
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":["  \
    "{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish "}],\"usage\":null}\n\n"
#define USAGE                                                                                      \
    "data: {\"id\":\"c1\",\"model\":\"gpt-5\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,"     \
    "\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":4},"                     \
    "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n"
#define DONE "data: [DONE]\n\n"

static const char chat_stream[] =
    CHUNK("{\"role\":\"assistant\",\"content\":\"\"}",
          "null") ": comment\n\n" CHUNK("{\"content\":\"say \\\"usage\\\": {\"}", "null")
        CHUNK("{\"content\":\"b\"}", "null") CHUNK("{}", "\"stop\"");

static struct wire_answer_options options_for(struct wire_request *request,
                                              struct wire_upstream *upstream, const char *row)
{
    *upstream = (struct wire_upstream){.format = request->format,
                                       .row = provider_row_find(str_from(row)),
                                       .model = STR("gpt-5"),
                                       .stream = request->stream,
                                       .template_has_tools = true};
    return (struct wire_answer_options){.request = request, .upstream = upstream, .now_s = 1};
}

static void test_chat_stream(void **state)
{
    struct wire_request request = read(
        WIRE_OPENAI_CHAT, "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\"}]}");
    struct wire_upstream upstream;
    struct wire_answer_options options = options_for(&request, &upstream, "openai");
    struct str body = arena_printf(&arena, "%s%s%s", chat_stream, USAGE, DONE);
    struct str want = arena_printf(&arena, "%s%s", chat_stream, DONE);
    for (size_t piece = 0; piece <= body.n; piece++) {
        struct relayed got;
        relay(&arena, &options, body, piece, &got);
        assert_int_equal(got.verdict, WIRE_DONE);
        assert_str_at(got.out, want, __FILE__, __LINE__);
        assert_int_equal(got.outcome.usage.tokens[USAGE_INPUT], 6);
        assert_int_equal(got.outcome.usage.tokens[USAGE_CACHED_INPUT], 4);
        assert_int_equal(got.outcome.usage.tokens[USAGE_OUTPUT], 5);
        assert_int_equal(got.outcome.usage.tokens[USAGE_REASONING], 2);
        assert_str(got.outcome.finish_reason, "stop");
        assert_str(got.outcome.response_id, "c1");
        assert_str(got.outcome.response_model, "gpt-5");
    }
    request.usage_asked = true;
    struct relayed got;
    relay(&arena, &options, body, 0, &got);
    assert_str_at(got.out, body, __FILE__, __LINE__);
    options.model_shown = STR("my/route");
    relay(&arena, &options, body, 100, &got);
    assert_int_equal(str_find(got.out, STR("gpt-5")), -1);
    assert_true(str_find(got.out, STR("\"model\":\"my/route\"")) > 0);
}

static void test_chat_hold(void **state)
{
    struct wire_request request = read(
        WIRE_OPENAI_CHAT, "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\"}]}");
    struct wire_upstream upstream;
    struct wire_answer_options options = options_for(&request, &upstream, "openai");
    struct sink sink = {0};
    struct err err = {0};
    buf_init(&sink.out, 1 << 20);
    options.write = sink_write;
    options.arg = &sink;
    struct wire_answer *answer = wire_answer_new(&arena, &options);
    assert_int_equal(wire_answer_data(answer, STR(": hello\n\n"), &err), WIRE_HOLD);
    assert_int_equal(
        wire_answer_data(answer, STR(CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null")),
                         &err),
        WIRE_HOLD);
    assert_int_equal(sink.writes, 0);
    assert_int_equal(
        wire_answer_data(
            answer,
            STR("data: {\"error\":{\"message\":\"busy\",\"type\":\"overloaded_error\"}}\n\n"),
            &err),
        WIRE_FAILED);
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_int_equal(sink.writes, 0);
    wire_answer_fini(answer);
    buf_fini(&sink.out);
}

static void test_chat_cut_off(void **state)
{
    struct wire_request request = read(
        WIRE_OPENAI_CHAT, "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\"}]}");
    struct wire_upstream upstream;
    struct wire_answer_options options = options_for(&request, &upstream, "openai");
    struct relayed got;
    relay(&arena, &options, STR(CHUNK("{\"content\":\"b\"}", "null") "data: {\"cho"), 0, &got);
    assert_int_equal(got.verdict, WIRE_FAILED);
    assert_int_equal(got.err.code, ERR_UPSTREAM_PROTOCOL);
    assert_true(str_find(got.out, STR("data: {\"error\":{\"message\":")) > 0);
    relay(&arena, &options, str_from(chat_stream), 0, &got); /* no [DONE], but finished */
    assert_int_equal(got.verdict, WIRE_DONE);
    assert_true(str_ends(got.out, STR(DONE)));
    relay(&arena, &options, STR("data: nonsense\n\n"), 0, &got);
    assert_int_equal(got.verdict, WIRE_FAILED);
}

static void test_chat_whole(void **state)
{
    struct wire_request request =
        read(WIRE_OPENAI_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}");
    struct wire_upstream upstream;
    struct wire_answer_options options = options_for(&request, &upstream, "openai");
    const char *body =
        "{ \"id\":\"c2\", \"model\":\"gpt-5-x\",\"choices\":[{\"index\":0,\"message\":{"
        "\"content\":\"\\\"finish_reason\\\":\"},\"finish_reason\":\"length\"}],"
        "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n";
    struct relayed got;
    for (size_t piece = 0; piece < 40; piece++) {
        relay(&arena, &options, str_from(body), piece, &got);
        assert_int_equal(got.verdict, WIRE_DONE);
        assert_str(got.out, body);
        assert_str(got.outcome.finish_reason, "length");
        assert_int_equal(got.outcome.usage.tokens[USAGE_OUTPUT], 4);
    }
    options.model_shown = STR("m");
    relay(&arena, &options, str_from(body), 0, &got);
    assert_true(str_find(got.out, STR("\"model\":\"m\",\"choices\"")) > 0);
    relay(&arena, &options, STR("<html>"), 0, &got);
    assert_int_equal(got.err.code, ERR_UPSTREAM_PROTOCOL);
}

static const char anthropic_stream[] =
    "event: message_start\ndata: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":"
    "\"claude\",\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":100,"
    "\"cache_creation_input_tokens\":50,\"cache_creation\":{\"ephemeral_5m_input_tokens\":20,"
    "\"ephemeral_1h_input_tokens\":30},\"output_tokens\":1}}}\n\n"
    "event: content_block_start\ndata: "
    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{"
    "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n"
    "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    "event: content_block_delta\ndata: "
    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
    "\"thinking_delta\",\"thinking\":\"hm\"}}\n\n"
    "event: content_block_delta\ndata: "
    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
    "\"signature_delta\",\"signature\":\"EqQBCkYIARgC/+==\"}}\n\n"
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
    "event: message_delta\ndata: "
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","
    "\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}\n\n"
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

static void test_anthropic_stream(void **state)
{
    struct wire_request request = read(
        WIRE_ANTHROPIC,
        "{\"model\":\"m\",\"max_tokens\":9,\"stream\":true,\"messages\":[{\"role\":\"user\"}]}");
    struct wire_upstream upstream;
    struct wire_answer_options options = options_for(&request, &upstream, "anthropic");
    for (size_t piece = 0; piece < sizeof(anthropic_stream); piece += 1) {
        struct relayed got;
        relay(&arena, &options, str_from(anthropic_stream), piece, &got);
        assert_int_equal(got.verdict, WIRE_DONE);
        assert_str(got.out, anthropic_stream); /* the signature with it */
        assert_int_equal(got.outcome.usage.tokens[USAGE_INPUT], 5);
        assert_int_equal(got.outcome.usage.tokens[USAGE_CACHED_INPUT], 100);
        assert_int_equal(got.outcome.usage.tokens[USAGE_CACHE_WRITE], 20);
        assert_int_equal(got.outcome.usage.tokens[USAGE_CACHE_WRITE_1H], 30);
        assert_int_equal(got.outcome.usage.tokens[USAGE_OUTPUT], 15);
        assert_str(got.outcome.finish_reason, "stop");
    }
    struct relayed got;
    relay(&arena, &options,
          STR("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
              "\"message\":\"Overloaded\"}}\n\n"),
          0, &got);
    assert_int_equal(got.verdict, WIRE_FAILED);
    assert_int_equal(got.err.code, ERR_OVERLOADED);
}

/* What a provider signed reaches it again byte by byte: only the model's range changes. */
static void test_signed_blocks_survive(void **state)
{
    const char *before =
        "{\"max_tokens\":10,\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":"
        "\"thinking\",  \"thinking\":\"\\u0041\\/ \xc3\xa9\",\"signature\":\"Eq+/==\"},{\"type\":"
        "\"redacted_thinking\",\"data\":\"E\\u0041\"}]}],\"model\":";
    struct str body =
        arena_printf(&arena, "%s\"route\",\"thinking\":{\"type\":\"adaptive\"}}", before);
    struct str want =
        arena_printf(&arena, "%s\"claude-x\",\"thinking\":{\"type\":\"adaptive\"}}", before);
    assert_str_at(rewritten(WIRE_ANTHROPIC, body.p, "anthropic", "claude-x", false, ""), want,
                  __FILE__, __LINE__);
}

static void test_errors(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum err_code code;
    } cases[] = {
        {400, "{\"error\":{\"message\":\"m\",\"code\":\"context_length_exceeded\"}}",
         ERR_CONTEXT_LENGTH},
        {400,
         "{\"error\":{\"code\":400,\"message\":\"the request exceeds the available context size\","
         "\"type\":\"exceed_context_size_error\"}}",
         ERR_CONTEXT_LENGTH},
        {400,
         "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":"
         "\"prompt is too long: 9 tokens > 8 maximum\"}}",
         ERR_CONTEXT_LENGTH},
        {400,
         "{\"error\":{\"code\":\"content_filter\",\"message\":\"m\",\"innererror\":{\"code\":"
         "\"ResponsibleAIPolicyViolation\"}}}",
         ERR_CONTENT_FILTER},
        {400, "{\"error\":{\"message\":\"bad\",\"param\":\"n\"}}", ERR_INVALID},
        {422, "{\"detail\":[{\"msg\":\"extra fields\"}]}", ERR_INVALID},
        {401, "{\"error\":{\"message\":\"Incorrect API key\"}}", ERR_UPSTREAM},
        {404, "{\"error\":{\"message\":\"no model\"}}", ERR_MODEL_NOT_FOUND},
        {429, "{\"error\":{\"message\":\"slow down\"}}", ERR_RATE_LIMIT},
        {529, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}", ERR_OVERLOADED},
        {503, "Service Unavailable", ERR_OVERLOADED},
        {502, "<html>bad gateway</html>", ERR_UPSTREAM},
        {500, "", ERR_UPSTREAM},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = {0};
        wire_read_error(WIRE_OPENAI_CHAT, cases[i].status, str_from(cases[i].body), &err);
        if (err.code != cases[i].code)
            fail_msg("case %zu: %s", i, err_code_name(err.code));
        assert_true(err.message[0] != 0);
    }
    struct err err;
    err_set_field(&err, ERR_RATE_LIMIT, "x", "wait");
    assert_str(
        wire_write_error(WIRE_OPENAI_CHAT, &err, STR("req_1"), &arena),
        "{\"error\":{\"message\":\"wait\",\"type\":\"rate_limit_error\",\"param\":\"x\",\"code\":"
        "\"rate_limit_exceeded\"}}");
    assert_str(wire_write_error(WIRE_ANTHROPIC, &err, STR("req_1"), &arena),
               "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"wait\"},"
               "\"request_id\":\"req_1\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_request_unchanged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_model_and_usage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_params, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_quirks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_identity, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_hold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chat_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_anthropic_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_signed_blocks_survive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
