/* JSON-RPC frames: the four kinds, what is refused, and what is written can be read again. */
#include "text/jsonrpc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct arena arena;
static struct jsonrpc_message message;
static struct err err;

static enum rc read_text(const char *text)
{
    err = (struct err){0};
    return jsonrpc_read(str_from(text), &arena, &message, &err);
}

static void test_kinds(void **state)
{
    UNUSED(state);
    assert_int_equal(
        read_text("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{}}"), RC_OK);
    assert_int_equal(message.kind, JSONRPC_REQUEST);
    assert_int_equal(jsonrpc_id_number(&message), 7);
    assert_true(str_eq(message.method, STR("tools/list")));
    assert_non_null(message.params);
    assert_int_equal(read_text("{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}"), RC_OK);
    assert_int_equal(message.kind, JSONRPC_NOTIFICATION);
    assert_null(message.params);
    assert_int_equal(read_text("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":null}"), RC_OK);
    assert_int_equal(message.kind, JSONRPC_RESULT);
    assert_true(yyjson_is_null(message.result));
    assert_int_equal(jsonrpc_id_number(&message), -1);
    assert_int_equal(read_text("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32601,"
                               "\"message\":\"no\",\"data\":[1]}}"),
                     RC_OK);
    assert_int_equal(message.kind, JSONRPC_ERROR);
    assert_int_equal(message.error_code, JSONRPC_METHOD_NOT_FOUND);
    assert_int_equal(yyjson_arr_size(message.error_data), 1);
}

static void test_refused(void **state)
{
    static const char *const texts[] = {
        "[]",
        "{}",
        "{\"jsonrpc\":\"1.0\",\"method\":\"a\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"a\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"a\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"result\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1}",
        "{\"jsonrpc\":\"2.0\",\"result\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{\"code\":1}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"message\":\"x\"}}",
    };
    UNUSED(state);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (read_text(texts[i]) == RC_OK)
            fail_msg("accepted: %s", texts[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
    /* The id is there for the answer, although the message is none. */
    assert_int_not_equal(read_text("{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":1}"), RC_OK);
    assert_int_equal(jsonrpc_id_number(&message), 4);
    assert_int_not_equal(read_text("{\"jsonrpc\""), RC_OK);
    assert_int_equal(err.code, ERR_BAD_JSON);
}

static void test_written(void **state)
{
    struct buf out;
    UNUSED(state);
    buf_init(&out, 4096);
    struct json_writer w = json_writer_to(&out);
    jsonrpc_begin_request(&w, 3, "tools/call");
    json_key(&w, "params");
    json_begin_object(&w);
    json_put_text(&w, "name", "add");
    json_end_object(&w);
    jsonrpc_end(&w);
    assert_true(str_eq(buf_str(&out), STR("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"tools/call\","
                                          "\"params\":{\"name\":\"add\"}}")));
    assert_int_equal(jsonrpc_read(buf_str(&out), &arena, &message, &err), RC_OK);
    yyjson_val *id = message.id;
    buf_clear(&out);
    w = json_writer_to(&out);
    jsonrpc_begin_result(&w, id);
    json_begin_array(&w);
    json_end_array(&w);
    jsonrpc_end(&w);
    assert_true(str_eq(buf_str(&out), STR("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":[]}")));
    buf_clear(&out);
    w = json_writer_to(&out);
    jsonrpc_put_error(&w, NULL, JSONRPC_PARSE_ERROR, STR("bad \"x\""), STR_EMPTY);
    assert_true(str_eq(buf_str(&out), STR("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":"
                                          "-32700,\"message\":\"bad \\\"x\\\"\"}}")));
    buf_clear(&out);
    w = json_writer_to(&out);
    jsonrpc_begin_request(&w, -1, "notifications/initialized");
    jsonrpc_end(&w);
    assert_int_equal(jsonrpc_read(buf_str(&out), &arena, &message, &err), RC_OK);
    assert_int_equal(message.kind, JSONRPC_NOTIFICATION);
    buf_fini(&out);
}

static int set_up(void **state)
{
    UNUSED(state);
    arena_init(&arena, 1024 * 1024);
    return 0;
}

static int tear_down(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kinds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_written, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
