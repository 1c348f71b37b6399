/* Each row of the provider table against its fixture in tests/data/providers: the request that is
 * sent, and what is read from the provider's documented stream, passed through and translated. */
#include "wire_helper.h"

static struct arena arena;

static struct str path_of(struct str name)
{
    const char *folder = getenv("TEST_FOLDER");
    return arena_printf(&arena, "%s/../data/providers/%.*s.json", folder ? folder : "tests/unit",
                        STR_ARG(name));
}

static yyjson_val *fixture_of(struct str name)
{
    FILE *file = fopen(path_of(name).p, "rb");
    if (!file)
        fail_msg("row %.*s has no fixture", STR_ARG(name));
    char *text = arena_alloc(&arena, 1 << 18);
    size_t n = fread(text, 1, 1 << 18, file);
    yyjson_doc *doc;
    struct err err = {0};
    fclose(file);
    if (json_read(str_make(text, n), &arena, &doc, &err) != RC_OK)
        fail_msg("%.*s: %s", STR_ARG(name), err.message);
    return yyjson_doc_get_root(doc);
}

/* The fixture's events as the bytes of a stream. */
static struct str stream_of(yyjson_val *fixture, enum wire_format format)
{
    struct str out = STR("");
    size_t i, n;
    yyjson_val *event;
    yyjson_arr_foreach(yyjson_obj_get(fixture, "stream"), i, n, event)
    {
        if (format == WIRE_ANTHROPIC)
            out = arena_concat(&arena, out,
                               arena_printf(&arena, "event: %s\n", json_get_text(event, "type").p));
        out = arena_concat(&arena, out, STR("data: "));
        out = arena_concat(&arena, out, json_write(event, &arena));
        out = arena_concat(&arena, out, STR("\n\n"));
    }
    return format == WIRE_ANTHROPIC ? out : arena_concat(&arena, out, STR("data: [DONE]\n\n"));
}

static void assert_usage(yyjson_val *fixture, const struct usage *usage, struct str name)
{
    for (enum usage_bucket bucket = 0; bucket < USAGE_BUCKET_COUNT; bucket++) {
        int64_t wanted =
            json_get_int(yyjson_obj_get(fixture, "usage"), usage_bucket_name(bucket), 0);
        if ((int64_t)usage->tokens[bucket] != wanted)
            fail_msg("%.*s: %s is %llu, not %lld", STR_ARG(name), usage_bucket_name(bucket),
                     (unsigned long long)usage->tokens[bucket], (long long)wanted);
    }
}

static void check_row(const struct provider_row *row)
{
    yyjson_val *fixture = fixture_of(row->name);
    enum wire_format format =
        row->formats & 1 << WIRE_OPENAI_CHAT ? WIRE_OPENAI_CHAT : WIRE_ANTHROPIC;
    struct wire_request request;
    struct err err = {0};
    struct str body = json_write(yyjson_obj_get(fixture, "request"), &arena);
    assert_int_equal(wire_read_request(format, body, &arena, &request, &err), RC_OK);
    struct wire_upstream upstream = {.format = format,
                                     .row = row,
                                     .model = STR("m"),
                                     .stream = true,
                                     .template_has_tools = true};
    struct wire_call call;
    assert_int_equal(wire_write_request(&request, &upstream, STR("secret"), &arena, &call, &err),
                     RC_OK);
    assert_str_at(joined(&call, &arena), json_write(yyjson_obj_get(fixture, "sent"), &arena),
                  row->name.p, 0);
    static const char *const credentials[] = {NULL, "authorization", "api-key", "x-api-key"};
    for (size_t i = 1; i < COUNT_OF(credentials); i++) {
        struct str value = http_header_get(&call.headers, str_from(credentials[i]));
        assert_str(value, i != row->auth              ? ""
                          : i == PROVIDER_AUTH_BEARER ? "Bearer secret"
                                                      : "secret");
    }
    struct wire_answer_options options = {.request = &request, .upstream = &upstream, .now_s = 1};
    struct relayed got;
    relay(&arena, &options, stream_of(fixture, format), 11, &got);
    assert_int_equal(got.verdict, WIRE_DONE);
    assert_usage(fixture, &got.outcome.usage, row->name);
    assert_str(got.outcome.finish_reason, json_get_text(fixture, "finish").p);
    request.stream = false; /* collected into a whole answer, by way of the event model */
    relay(&arena, &options, stream_of(fixture, format), 0, &got);
    assert_int_equal(got.verdict, WIRE_DONE);
    assert_usage(fixture, &got.outcome.usage, row->name);
    yyjson_doc *doc;
    assert_int_equal(json_read(got.out, &arena, &doc, &err), RC_OK);
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (format == WIRE_OPENAI_CHAT) {
        yyjson_val *message = yyjson_ptr_get(root, "/choices/0/message");
        assert_str(json_get_text(message, "content"), json_get_text(fixture, "text").p);
        assert_str(json_get_text(message, "reasoning_content"),
                   json_get_text(fixture, "reasoning").p);
    }
}

static void test_rows(void **state)
{
    size_t count;
    const struct provider_row *rows = provider_rows(&count);
    arena_init(&arena, 64 << 20);
    for (size_t i = 0; i < count; i++) {
        assert_true(str_starts(rows[i].source, STR("https://")));
        assert_ptr_equal(provider_row_find(rows[i].name), &rows[i]);
        check_row(&rows[i]);
    }
    for (size_t i = 0; i < PROVIDER_QUIRK_COUNT; i++)
        assert_true(provider_quirk_text(i)[0]);
    assert_null(provider_row_find(STR("nobody")));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
