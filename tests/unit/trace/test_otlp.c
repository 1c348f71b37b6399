/* OTLP's spans: protobuf and JSON say the same, whatever is damaged is refused, and what attributes
 * mean comes into the record's members. The protobuf was made by OpenTelemetry's own Python
 * classes from the JSON beside it. */
#include "base/hash.h"
#include "text/json.h"
#include "trace/otlp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct str read_file(const char *name, char *out, size_t n)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/../fuzz/corpus/otlp/%s", getenv("TEST_FOLDER"), name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t got = fread(out, 1, n, file);
    fclose(file);
    assert_true(got > 0 && got < n);
    return str_make(out, got);
}

static void assert_text(struct str got, const char *expected)
{
    if (!str_eq(got, str_from(expected)))
        fail_msg("expected '%s', got '%.*s'", expected, STR_ARG(got));
}

static void check_span(void *arg, struct call_record *record)
{
    char hex[33];
    hex_encode(record->trace_id, 16, hex);
    assert_string_equal(hex, "5b8efff798038103d269b633813fc60c");
    hex_encode(record->parent_id, 8, hex);
    assert_string_equal(hex, "eee19b7ec3c1b173");
    assert_int_equal(record->operation, OPERATION_SPAN);
    assert_int_equal(record->started_wall_ns, 1544712660000000000);
    assert_int_equal(record->total_ns, 1000000000);
    assert_text(record->span_name, "chat gpt");
    assert_text(record->span_kind, "client");
    assert_int_equal(record->status, CALL_ERROR);
    assert_text(record->error_message, "broken");
    assert_int_equal(record->usage.tokens[USAGE_INPUT], 12);
    assert_int_equal(record->usage.tokens[USAGE_OUTPUT], 3);
    assert_int_equal(record->tag_count, 1);
    assert_text(record->tags[0].name, "a");
    assert_true(str_find(record->span_attributes, STR("\"m\":{\"k\":1.5}")) > 0);
    assert_true(str_find(record->span_attributes, STR("\"service.name\":\"shop\"")) > 0);
    assert_true(str_find(record->span_attributes, STR("\"at_ns\":1544712660500000000")) > 0);
    ++*(int *)arg;
}

static void protobuf_and_json_say_the_same(void **state)
{
    static char json[4096], wire[4096];
    struct arena arena;
    struct err err = {0};
    struct otlp_result result;
    yyjson_doc *doc;
    yyjson_val *message;
    int count = 0;
    UNUSED(state);
    arena_init(&arena, 1 << 20);
    assert_int_equal(json_read(read_file("span.json", json, sizeof(json)), &arena, &doc, &err),
                     RC_OK);
    assert_int_equal(otlp_read(yyjson_doc_get_root(doc), &arena, check_span, &count, &result, &err),
                     RC_OK);
    assert_int_equal(
        otlp_from_protobuf(read_file("span.pb", wire, sizeof(wire)), &arena, &message, &err),
        RC_OK);
    assert_int_equal(otlp_read(message, &arena, check_span, &count, &result, &err), RC_OK);
    assert_int_equal(count, 2);
    assert_int_equal(result.accepted, 1);
    assert_int_equal(result.rejected, 0);
    arena_fini(&arena);
}

static void a_cut_message_is_refused(void **state)
{
    static char wire[4096];
    struct err err = {0};
    struct str bytes = read_file("span.pb", wire, sizeof(wire));
    UNUSED(state);
    for (size_t n = 1; n < bytes.n; n++) {
        struct arena arena;
        yyjson_val *message;
        arena_init(&arena, 1 << 20);
        assert_int_not_equal(otlp_from_protobuf(str_slice(bytes, 0, n), &arena, &message, &err),
                             RC_OK);
        arena_fini(&arena);
    }
}

static void take_none(void *arg, struct call_record *record)
{
    UNUSED(arg);
    fail_msg("taken: %.*s", STR_ARG(record->span_name));
}

static void spans_that_are_none_are_refused_one_by_one(void **state)
{
    static const char text[] =
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":["
        "{\"traceId\":\"00000000000000000000000000000000\",\"spanId\":\"eee19b7ec3c1b174\","
        "\"startTimeUnixNano\":1,\"endTimeUnixNano\":2},"
        "{\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee1\","
        "\"startTimeUnixNano\":1,\"endTimeUnixNano\":2},"
        "{\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\","
        "\"startTimeUnixNano\":\"3\",\"endTimeUnixNano\":\"2\"},"
        "{\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"spanId\":\"eee19b7ec3c1b174\","
        "\"startTimeUnixNano\":18446744073709551615,\"endTimeUnixNano\":18446744073709551615},"
        "17]}]}]}";
    struct arena arena;
    struct err err = {0};
    struct otlp_result result;
    yyjson_doc *doc;
    UNUSED(state);
    arena_init(&arena, 1 << 20);
    assert_int_equal(json_read(str_from(text), &arena, &doc, &err), RC_OK);
    assert_int_equal(otlp_read(yyjson_doc_get_root(doc), &arena, take_none, NULL, &result, &err),
                     RC_OK);
    assert_int_equal(result.accepted, 0);
    assert_int_equal(result.rejected, 5);
    assert_non_null(result.reason);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(protobuf_and_json_say_the_same),
        cmocka_unit_test(a_cut_message_is_refused),
        cmocka_unit_test(spans_that_are_none_are_refused_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
