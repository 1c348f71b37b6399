/* Every door with every upstream: requests and answers, streamed and whole, against files in
 * tests/data/wire. The expected outputs were written by the code itself (CAPSTAN_GOLDEN=write in
 * the environment writes them anew): they hold a behaviour still, they do not prove it. What judges
 * the answers is tests/e2e/test_wire_formats.py, by OpenAI's description and the vendors' SDKs; the
 * requests have no such judge yet. */
#include "wire_helper.h"

static struct arena arena;

static int set_up(void **state)
{
    arena_init(&arena, 512 << 20);
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(&arena);
    return 0;
}

static const struct {
    enum wire_format format;
    const char *name, *row;
} formats[] = {
    {WIRE_OPENAI_CHAT, "chat", "openai"},
    {WIRE_ANTHROPIC, "anthropic", "anthropic"},
    {WIRE_OPENAI_RESPONSES, "responses", "openai"},
};

static struct str path_of(const char *name)
{
    const char *folder = getenv("TEST_FOLDER"); /* tests/unit, set by the build */
    return arena_printf(&arena, "%s/../data/wire/%s", folder ? folder : "tests/unit", name);
}

static struct str load(const char *name)
{
    FILE *file = fopen(path_of(name).p, "rb");
    if (!file)
        fail_msg("no file %s", path_of(name).p);
    char *text = arena_alloc(&arena, 1 << 20);
    size_t n = fread(text, 1, 1 << 20, file);
    fclose(file);
    return str_make(text, n);
}

static void assert_golden(const char *name, struct str actual)
{
    const char *mode = getenv("CAPSTAN_GOLDEN");
    if (mode && strcmp(mode, "write") == 0) {
        FILE *file = fopen(path_of(name).p, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(actual.p, 1, actual.n, file), actual.n);
        fclose(file);
        return;
    }
    assert_str_at(actual, load(name), name, 0);
}

static struct wire_request read_as(enum wire_format door, struct str body)
{
    struct wire_request request;
    struct err err = {0};
    if (wire_read_request(door, body, &arena, &request, &err) != RC_OK)
        fail_msg("%s", err.message);
    return request;
}

static void test_requests(void **state)
{
    for (size_t d = 0; d < COUNT_OF(formats); d++)
        for (size_t u = 0; u < COUNT_OF(formats); u++) {
            if (d == u)
                continue;
            struct str body = load(arena_printf(&arena, "%s_request.json", formats[d].name).p);
            struct wire_request request = read_as(formats[d].format, body);
            struct wire_upstream upstream = {.format = formats[u].format,
                                             .row = provider_row_find(str_from(formats[u].row)),
                                             .model =
                                                 u == 1 ? STR("claude-sonnet-5") : STR("gpt-5"),
                                             .stream = true,
                                             .template_has_tools = true};
            struct wire_call call;
            struct err err = {0};
            if (wire_write_request(&request, &upstream, STR("k"), &arena, &call, &err) != RC_OK)
                fail_msg("%s to %s: %s", formats[d].name, formats[u].name, err.message);
            yyjson_doc *doc;
            assert_int_equal(json_read(call.body[0], &arena, &doc, &err), RC_OK);
            assert_golden(
                arena_printf(&arena, "request_%s_to_%s.json", formats[d].name, formats[u].name).p,
                call.body[0]);
        }
}

/* The client's request for the doors' side of an answer: it asks for all that may come. */
static struct wire_request asking(size_t door, bool stream)
{
    struct str body = load(arena_printf(&arena, "%s_request.json", formats[door].name).p);
    struct wire_request request = read_as(formats[door].format, body);
    request.stream = stream;
    request.usage_asked = true;
    return request;
}

static void relay_case(size_t d, size_t u, const char *fixture, bool from_stream, bool to_stream,
                       bool every_byte)
{
    struct wire_request request = asking(d, to_stream);
    struct wire_upstream upstream = {.format = formats[u].format,
                                     .row = provider_row_find(str_from(formats[u].row)),
                                     .model = STR("m"),
                                     .stream = from_stream,
                                     .template_has_tools = true};
    struct wire_answer_options options = {.request = &request,
                                          .upstream = &upstream,
                                          .now_s = 1700000001,
                                          .model_shown = STR("route")};
    struct str body = load(fixture);
    struct relayed got, first = {0};
    for (size_t piece = 0; piece <= (every_byte ? body.n : 0); piece++) {
        struct arena kept = arena;
        arena_init(&arena, 64 << 20);
        relay(&arena, &options, body, piece, &got);
        if (got.verdict != WIRE_DONE)
            fail_msg("%s to %s in pieces of %zu: %s", fixture, formats[d].name, piece,
                     got.err.message);
        char *out = malloc(got.out.n + 1);
        memcpy(out, got.out.p, got.out.n);
        struct str copy = str_make(out, got.out.n);
        struct wire_outcome outcome = got.outcome;
        arena_fini(&arena);
        arena = kept;
        if (piece == 0) {
            first.out = arena_copy(&arena, copy);
            assert_int_equal(usage_input_total(&outcome.usage), 100);
            assert_int_equal(usage_output_total(&outcome.usage), 30);
            assert_int_equal(outcome.usage.tokens[USAGE_CACHED_INPUT], u == 1 ? 65 : 64);
        } else {
            assert_str_at(copy, first.out, fixture, (int)piece);
        }
        free(out);
    }
    struct str stem =
        str_slice(str_from(fixture), 0, (size_t)str_find_char(str_from(fixture), '.'));
    assert_golden(arena_printf(&arena, "answer_%.*s_to_%s.%s", STR_ARG(stem), formats[d].name,
                               to_stream ? "sse" : "json")
                      .p,
                  first.out);
}

static void test_streams(void **state)
{
    for (size_t d = 0; d < COUNT_OF(formats); d++)
        for (size_t u = 0; u < COUNT_OF(formats); u++) {
            if (d == u)
                continue;
            relay_case(d, u, arena_printf(&arena, "%s_text.sse", formats[u].name).p, true, true,
                       true);
            relay_case(d, u, arena_printf(&arena, "%s_tools.sse", formats[u].name).p, true, true,
                       true);
        }
}

/* A stream collected into a whole answer: also in the same format, as engines are asked. */
static void test_streams_to_whole(void **state)
{
    for (size_t d = 0; d < COUNT_OF(formats); d++)
        for (size_t u = 0; u < COUNT_OF(formats); u++) {
            relay_case(d, u, arena_printf(&arena, "%s_text.sse", formats[u].name).p, true, false,
                       true);
            relay_case(d, u, arena_printf(&arena, "%s_tools.sse", formats[u].name).p, true, false,
                       true);
        }
}

static void test_wholes(void **state)
{
    for (size_t d = 0; d < COUNT_OF(formats); d++)
        for (size_t u = 0; u < COUNT_OF(formats); u++)
            if (d != u)
                relay_case(d, u, arena_printf(&arena, "%s_whole.json", formats[u].name).p, false,
                           false, true);
}

/* Streams cut off anywhere: never a crash, never a good end. */
static void test_cut_off(void **state)
{
    for (size_t u = 0; u < COUNT_OF(formats); u++) {
        struct str body = load(arena_printf(&arena, "%s_tools.sse", formats[u].name).p);
        for (size_t d = 0; d < COUNT_OF(formats); d++)
            for (size_t n = 0; n + 200 < body.n; n += 7) {
                struct wire_request request = asking(d, n % 2);
                struct wire_upstream upstream = {.format = formats[u].format,
                                                 .row = provider_row_find(str_from(formats[u].row)),
                                                 .model = STR("m"),
                                                 .stream = true,
                                                 .template_has_tools = true};
                struct wire_answer_options options = {
                    .request = &request, .upstream = &upstream, .now_s = 1};
                struct relayed got;
                relay(&arena, &options, str_slice(body, 0, n), 0, &got);
                if (u != 0) /* chat may end without its [DONE] once it has finished */
                    assert_int_equal(got.verdict, WIRE_FAILED);
                arena_reset(&arena);
                body = load(arena_printf(&arena, "%s_tools.sse", formats[u].name).p);
            }
    }
}

/* Signed reasoning comes back byte by byte, through foreign doors too. */
static void test_signatures_return(void **state)
{
    static const char *const bodies[] = {
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
        "\"assistant\",\"content\":"
        "\"b\",\"thinking_blocks\":[{\"type\":\"thinking\",\"thinking\":\"Let me "
        "see.\",\"signature\":\"EqQB+/==\"},"
        "{\"type\":\"redacted_thinking\",\"data\":\"Emw+/"
        "\"}]},{\"role\":\"user\",\"content\":\"c\"}]}",
        "",
        "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"type\":\"reasoning\","
        "\"summary\":[{"
        "\"type\":\"summary_text\",\"text\":\"Let me see.\"}],\"encrypted_content\":"
        "\"capstan.anthropic::EqQB+/"
        "==\"},{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":"
        "\"capstan.anthropic:redacted::Emw+/"
        "\"},{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\","
        "\"content\":\"c\"}]}"};
    for (size_t d = 0; d < COUNT_OF(formats); d += 2) {
        struct wire_request request = read_as(formats[d].format, str_from(bodies[d]));
        struct wire_upstream upstream = {.format = WIRE_ANTHROPIC,
                                         .row = provider_row_find(STR("anthropic")),
                                         .model = STR("claude-sonnet-5")};
        struct wire_call call;
        struct err err = {0};
        assert_int_equal(wire_write_request(&request, &upstream, STR("k"), &arena, &call, &err),
                         RC_OK);
        assert_true(
            str_find(call.body[0],
                     STR("{\"type\":\"thinking\",\"thinking\":\"Let me see.\",\"signature\":"
                         "\"EqQB+/==\"},{\"type\":\"redacted_thinking\",\"data\":"
                         "\"Emw+/\"}")) > 0);
    }
}

static void test_refusals(void **state)
{
    static const struct {
        enum wire_format door;
        const char *body, *row;
        enum wire_format upstream;
        const char *field;
    } cases[] = {
        {WIRE_OPENAI_CHAT, "\"n\":2", "anthropic", WIRE_ANTHROPIC, "n"},
        {WIRE_OPENAI_CHAT, "\"logprobs\":true", "anthropic", WIRE_ANTHROPIC, "logprobs"},
        {WIRE_OPENAI_CHAT, "\"logit_bias\":{\"1\":2}", "anthropic", WIRE_ANTHROPIC, "logit_bias"},
        {WIRE_OPENAI_CHAT, "\"functions\":[{}]", "anthropic", WIRE_ANTHROPIC, "functions"},
        {WIRE_OPENAI_CHAT, "\"stop\":\"x\"", "openai", WIRE_OPENAI_RESPONSES, "stop"},
        {WIRE_OPENAI_CHAT, "\"n\":2", "groq", WIRE_OPENAI_CHAT, "n"},
        {WIRE_OPENAI_CHAT, "\"logprobs\":true", "mistral", WIRE_OPENAI_CHAT, "logprobs"},
        {WIRE_OPENAI_CHAT, "\"response_format\":{\"type\":\"json_schema\"}", "deepseek",
         WIRE_OPENAI_CHAT, "response_format"},
        {WIRE_OPENAI_CHAT, "\"tool_choice\":\"required\"", "ollama", WIRE_OPENAI_CHAT,
         "tool_choice"},
        {WIRE_OPENAI_RESPONSES, "\"previous_response_id\":\"resp_1\"", "anthropic", WIRE_ANTHROPIC,
         "previous_response_id"},
        {WIRE_OPENAI_RESPONSES, "\"conversation\":\"c\"", "engine", WIRE_OPENAI_CHAT,
         "conversation"},
        {WIRE_OPENAI_RESPONSES, "\"background\":true", "engine", WIRE_OPENAI_CHAT, "background"},
        {WIRE_OPENAI_CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]",
         "engine", WIRE_OPENAI_CHAT, "tool_choice"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str body =
            arena_printf(&arena,
                         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                         "\"input\":\"a\",%s}",
                         cases[i].body);
        struct wire_request request = read_as(cases[i].door, body);
        struct wire_upstream upstream = {.format = cases[i].upstream,
                                         .row = provider_row_find(str_from(cases[i].row)),
                                         .model = STR("m")};
        struct wire_call call;
        struct err err = {0};
        assert_int_not_equal(wire_write_request(&request, &upstream, STR("k"), &arena, &call, &err),
                             RC_OK);
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        assert_string_equal(err.field, cases[i].field);
    }
}

#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{"        \
    "\"type\":\"object\"}}},"                                                                      \
    "{\"type\":\"function\",\"function\":{\"name\":\"clock\"}}]"

static void test_emulated_tools(void **state)
{
    struct wire_request request =
        read_as(WIRE_OPENAI_CHAT,
                STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                    "\"tool_choice\":\"required\"," TOOLS "}"));
    struct wire_upstream upstream = {.format = WIRE_OPENAI_CHAT,
                                     .row = provider_row_find(STR("engine")),
                                     .model = STR("m"),
                                     .stream = true};
    struct wire_call call;
    struct err err = {0};
    assert_int_equal(wire_write_request(&request, &upstream, STR("k"), &arena, &call, &err), RC_OK);
    assert_true(str_find(call.body[0],
                         STR("\"anyOf\":[{\"type\":\"object\",\"properties\":{\"name\":{\"const\":"
                             "\"weather\"},\"arguments\":{\"type\":\"object\"}}")) > 0);
    assert_int_equal(str_find(call.body[0], STR("\"tools\"")), -1);
    struct wire_answer_options options = {.request = &request, .upstream = &upstream, .now_s = 1};
    struct str answer = STR(
        "data: "
        "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"{"
        "\\\"name\\\":\"}}]}\n\n"
        "data: "
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"weather\\\",\\\"arguments\\\":{"
        "\\\"c\\\":1}}\"},"
        "\"finish_reason\":null}]}\n\n"
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: "
        "[DONE]\n\n");
    struct relayed got;
    for (int stream = 0; stream < 2; stream++) {
        request.stream = stream;
        relay(&arena, &options, answer, 5, &got);
        assert_int_equal(got.verdict, WIRE_DONE);
        assert_str(got.outcome.finish_reason, "tool_calls");
        assert_true(str_find(got.out, STR("\"name\":\"weather\",\"arguments\":\"{\\\"c\\\":1}\"")) >
                        0 ||
                    str_find(got.out, STR("\"arguments\":\"{\\\"c\\\":1}\"")) > 0);
        assert_true(str_find(got.out, STR("\"finish_reason\":\"tool_calls\"")) > 0);
    }
}

/* Usage over all choices, from the timings of each choice's last chunk. */
static void test_choices_of_engine(void **state)
{
    struct wire_request request = read_as(
        WIRE_OPENAI_CHAT,
        STR("{\"model\":\"m\",\"n\":2,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"));
    struct wire_upstream upstream = {.format = WIRE_OPENAI_CHAT,
                                     .row = provider_row_find(STR("engine")),
                                     .model = STR("m"),
                                     .stream = true,
                                     .template_has_tools = true};
    struct wire_answer_options options = {.request = &request, .upstream = &upstream, .now_s = 1};
    struct str answer = STR(
        "data: "
        "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}"
        "\n\n: ping\n\n"
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"
        "data: "
        "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"timings\":{"
        "\"predicted_n\":3}}\n\n"
        "data: "
        "{\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}],\"timings\":{"
        "\"predicted_n\":4}}\n\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: "
        "[DONE]\n\n");
    struct relayed got;
    relay(&arena, &options, answer, 0, &got);
    assert_int_equal(got.verdict, WIRE_DONE);
    assert_int_equal(got.outcome.usage.tokens[USAGE_OUTPUT], 7);
    assert_true(str_find(got.out, STR("\"completion_tokens\":7")) > 0);
    assert_true(str_find(got.out,
                         STR("\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"b\"")) >
                0);
}

static void test_output_checks(void **state)
{
    struct check checks[] = {{.name = STR("pii"),
                              .kind = CHECK_PII,
                              .on = CHECK_OUTPUT,
                              .action = CHECK_MASK,
                              .pattern = STR("email")},
                             {.name = STR("word"),
                              .kind = CHECK_REGEX,
                              .on = CHECK_OUTPUT,
                              .action = CHECK_BLOCK,
                              .pattern = STR("forbidden")}};
    struct route route = {.checks = checks, .check_count = 2};
    struct err err = {0};
    assert_int_equal(check_compile(&checks[0], &arena, &err), RC_OK);
    assert_int_equal(check_compile(&checks[1], &arena, &err), RC_OK);
    struct wire_request request =
        read_as(WIRE_OPENAI_CHAT, STR("{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":"
                                      "\"user\",\"content\":\"a\"}]}"));
    struct wire_upstream upstream = {.format = WIRE_OPENAI_CHAT,
                                     .row = provider_row_find(STR("openai")),
                                     .model = STR("m"),
                                     .stream = true};
    struct wire_answer_options options = {
        .request = &request, .upstream = &upstream, .now_s = 1, .route = &route};
#define PIECE(text)                                                                                \
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define END                                                                                        \
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: "        \
    "[DONE]\n\n"
    struct relayed got;
    relay(&arena, &options,
          STR(PIECE("Write to an") PIECE("n@exam") PIECE("ple.or") PIECE("g now") END), 0, &got);
    assert_int_equal(got.verdict, WIRE_DONE);
    assert_int_equal(str_find(got.out, STR("exam")), -1);
    assert_true(str_find(got.out, STR("[EMAIL]")) > 0);
    assert_int_equal(got.outcome.checks->findings[0].count, 1);
    relay(&arena, &options, STR(PIECE("this is for") PIECE("bidden") END), 0, &got);
    assert_int_equal(got.verdict, WIRE_FAILED);
    assert_int_equal(got.err.code, ERR_CHECK_BLOCKED);
    assert_int_equal(str_find(got.out, STR("bidden")), -1);
}

static void test_input_checks(void **state)
{
    struct check checks[] = {{.name = STR("pii"),
                              .kind = CHECK_PII,
                              .on = CHECK_INPUT,
                              .action = CHECK_MASK,
                              .pattern = STR("email, credit_card")}};
    struct err err = {0};
    struct check_report report = {0};
    assert_int_equal(check_compile(&checks[0], &arena, &err), RC_OK);
    struct wire_request request =
        read_as(WIRE_OPENAI_CHAT,
                STR("{\"model\":\"a@b.org\", \"messages\":[{\"role\":\"user\",\"content\":\"I am "
                    "a@b.org \\u00e9\"},"
                    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"4111 1111 1111 "
                    "1111, not 4111 1111 1111 "
                    "1112\"}]}],\"x\":1.50}"));
    assert_int_equal(wire_check_request(&request, checks, 1, &arena, &report, &err), RC_OK);
    assert_str(request.body,
               "{\"model\":\"a@b.org\", \"messages\":[{\"role\":\"user\",\"content\":\"I am "
               "[EMAIL] \xc3\xa9\"},"
               "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"[CREDIT_CARD], not "
               "4111 1111 1111 "
               "1112\"}]}],\"x\":1.50}");
    assert_int_equal(report.count, 2);
}

/* A model cut off by max_tokens leaves half an object, and clients send it back as it was. */
static void test_arguments_cut_off(void **state)
{
    struct wire_request request =
        read_as(WIRE_OPENAI_CHAT,
                STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"weather?\"},"
                    "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\","
                    "\"function\":{\"name\":\"weather\",\"arguments\":\"{\\\"city\\\": \"}}]},"
                    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"bad call\"}]}"));
    struct wire_upstream upstream = {.format = WIRE_ANTHROPIC,
                                     .row = provider_row_find(STR("anthropic")),
                                     .model = STR("claude-sonnet-5")};
    struct wire_call call;
    struct err err = {0};
    assert_int_equal(wire_write_request(&request, &upstream, STR("k"), &arena, &call, &err), RC_OK);
    yyjson_doc *doc;
    assert_int_equal(json_read(joined(&call, &arena), &arena, &doc, &err), RC_OK);
    yyjson_val *input =
        yyjson_ptr_get(yyjson_doc_get_root(doc), "/messages/1/content/0/input/input");
    assert_str(json_text(input), "{\"city\": ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_arguments_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_streams, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_streams_to_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wholes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_signatures_return, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_emulated_tools, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_choices_of_engine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_output_checks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_input_checks, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
