/* Tools without a network: definitions, OpenAPI documents, what MCP servers answer, the words of
 * web pages, and what ReAct reads out of a model's text. */
#include "pipeline/nodes/agent.h"
#include "pipeline/tools/mcp_message.h"
#include "pipeline/definition/nodes.h"
#include "pipeline/tools/page_text.h"
#include "pipeline/tools/presets.h"
#include "text/json_schema.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct arena arena;
static struct err err;

static yyjson_val *parse(const char *text)
{
    yyjson_doc *doc;
    if (json_read(str_from(text), &arena, &doc, &err) != RC_OK)
        fail_msg("%s", err.message);
    return yyjson_doc_get_root(doc);
}

static struct tool *decode(const char *text)
{
    struct tool *tool;
    err = (struct err){0};
    if (tool_decode(STR("my tool"), parse(text), &arena, &tool, &err) != RC_OK)
        fail_msg("%s: %s", err.field, err.message);
    return tool;
}

static void refuse(const char *text, const char *field)
{
    struct tool *tool;
    err = (struct err){0};
    if (tool_decode(STR("t"), parse(text), &arena, &tool, &err) == RC_OK)
        fail_msg("accepted: %s", text);
    assert_string_equal(err.field, field);
}

#define EXPECT(text, wanted)                                                                       \
    do {                                                                                           \
        struct str got_ = (text);                                                                  \
        if (!str_eq(got_, STR(wanted)))                                                            \
            fail_msg("'%.*s' is not '%s'", STR_ARG(got_), wanted);                                 \
    } while (0)

static void test_definitions(void **state)
{
    UNUSED(state);
    struct tool *tool =
        decode("{\"kind\":\"http\",\"url\":\"https://a.example/{x}\",\"method\":\"POST\","
               "\"headers\":{\"X-A\":\"b\"},\"in\":{\"q\":\"query\"},"
               "\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{}}}}");
    EXPECT(tool->functions[0].name, "my_tool");
    assert_int_equal(tool->functions[0].parameters_placed[0].place, TOOL_IN_QUERY);
    assert_false(tool->functions[0].safe);
    assert_ptr_equal(tool_find_function(tool, STR_EMPTY), &tool->functions[0]);
    assert_null(tool_find_function(tool, STR("other")));
    tool = decode("{\"kind\":\"retrieval\",\"collections\":[\"a\",\"b\"],\"k\":3}");
    assert_non_null(parse(tool->definition.p));
    assert_int_equal(tool->timeout_ms, TOOL_TIMEOUT_MS);
    assert_int_equal(decode("{\"kind\":\"mcp\",\"server\":\"x\"}")->function_count, 0);
    tool = decode("{\"kind\":\"pipeline\",\"pipeline\":\"a@production\"}");
    EXPECT(tool->pipeline, "a");
    EXPECT(tool->selector, "production");
    refuse("{}", "kind");
    refuse("{\"kind\":\"shell\"}", "kind");
    refuse("{\"kind\":\"http\"}", "url");
    refuse("{\"kind\":\"http\",\"url\":\"file:///etc/passwd\"}", "url");
    refuse("{\"kind\":\"http\",\"url\":\"https://a\",\"headers\":{\"a b\":\"c\"}}", "headers");
    refuse("{\"kind\":\"http\",\"url\":\"https://a\",\"parameters\":{\"type\":\"string\"}}",
           "parameters");
    refuse("{\"kind\":\"mcp\",\"url\":\"https://a\",\"server\":\"b\"}", "url");
    refuse("{\"kind\":\"retrieval\"}", "collections");
    refuse("{\"kind\":\"http\",\"url\":\"https://a\",\"command\":[\"sh\"]}", "command");
}

static const char petstore[] =
    "openapi: 3.0.0\n"
    "servers: [{url: 'https://{host}/v1/', variables: {host: {default: pets.example}}}]\n"
    "paths:\n"
    "  /pets/{id}:\n"
    "    parameters: [{$ref: '#/components/parameters/id'}]\n"
    "    get:\n"
    "      operationId: getPet\n"
    "      summary: One pet\n"
    "      parameters: [{name: X-Trace, in: header, schema: {type: string}}]\n"
    "    put:\n"
    "      requestBody:\n"
    "        required: true\n"
    "        content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}\n"
    "  /pets:\n"
    "    post:\n"
    "      operationId: add pets\n"
    "      requestBody: {content: {application/json: {schema: {type: array, items: {$ref: "
    "'#/components/schemas/Pet'}}}}}\n"
    "components:\n"
    "  parameters: {id: {name: id, in: path, required: true, schema: {type: integer}, description: "
    "Its number}}\n"
    "  schemas:\n"
    "    Pet: {type: object, required: [name], example: {name: x}, properties: {name: {type: "
    "string}, example: {type: string},\n"
    "          parent: {$ref: '#/components/schemas/Pet'}}}\n";

static void test_openapi(void **state)
{
    UNUSED(state);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *spec = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_str(doc, spec, "kind", "openapi");
    yyjson_mut_obj_add_str(doc, spec, "document", petstore);
    char *text = yyjson_mut_val_write(spec, 0, NULL);
    struct tool *tool = decode(text);
    free(text);
    assert_int_equal(tool->function_count, 3);
    const struct tool_function *get = tool_find_function(tool, STR("getPet"));
    EXPECT(get->url, "https://pets.example/v1/pets/{id}");
    EXPECT(get->description, "One pet");
    assert_true(get->safe);
    yyjson_val *schema = parse(arena_printf(&arena, "%.*s", STR_ARG(get->parameters)).p);
    assert_int_equal(yyjson_arr_size(yyjson_obj_get(schema, "required")), 1);
    assert_int_equal(yyjson_obj_size(yyjson_obj_get(schema, "properties")), 2);
    const struct tool_function *put = tool_find_function(tool, STR("PUT_pets__id_"));
    assert_non_null(put);
    schema = parse(arena_printf(&arena, "%.*s", STR_ARG(put->parameters)).p);
    yyjson_val *properties = yyjson_obj_get(schema, "properties");
    assert_non_null(yyjson_obj_get(properties, "name"));
    assert_non_null(yyjson_obj_get(properties, "example")); /* a name, not the keyword */
    assert_non_null(yyjson_obj_get(properties, "parent"));
    assert_int_equal(yyjson_arr_size(yyjson_obj_get(schema, "required")), 2);
    assert_non_null(put->schema);
    const struct tool_function *add = tool_find_function(tool, STR("add_pets"));
    assert_true(add->body_is_argument);
    yyjson_mut_obj_add_str(doc, spec, "server", "http://127.0.0.1:1");
    yyjson_mut_val *only = yyjson_mut_obj_add_arr(doc, spec, "operations");
    yyjson_mut_arr_add_str(doc, only, "getPet");
    text = yyjson_mut_val_write(spec, 0, NULL);
    tool = decode(text);
    free(text);
    assert_int_equal(tool->function_count, 1);
    EXPECT(tool->functions[0].url, "http://127.0.0.1:1/pets/{id}");
    yyjson_mut_doc_free(doc);
    refuse("{\"kind\":\"openapi\",\"document\":\"swagger: '2.0'\"}", "document");
    refuse("{\"kind\":\"openapi\",\"document\":\"a: [\"}", "document");
    refuse("{\"kind\":\"openapi\",\"document\":{\"openapi\":\"3.1.0\",\"paths\":{\"/"
           "a\":{\"get\":{}}}}}",
           "server");
}

static void test_openapi_bodies_and_names(void **state)
{
    UNUSED(state);
    struct tool *tool = decode(
        "{\"kind\":\"openapi\",\"document\":{\"openapi\":\"3.1.0\",\"servers\":[{\"url\":"
        "\"https://a.example\"}],\"paths\":{\"/form\":{\"post\":{\"operationId\":\"a b\","
        "\"requestBody\":{\"content\":{\"application/x-www-form-urlencoded\":{\"schema\":{"
        "\"properties\":{\"x\":{}}}}}}}},\"/json\":{\"post\":{\"operationId\":\"a_b\","
        "\"requestBody\":{\"content\":{\"text/plain\":{},\"application/json; charset=utf-8\":{"
        "\"schema\":{\"properties\":{\"y\":{}}}}}}}}}}}");
    const struct tool_function *form = tool_find_function(tool, STR("a_b")),
                               *body = tool_find_function(tool, STR("2_a_b"));
    assert_true(form && form->form && !form->body_is_argument);
    assert_true(body && !body->form && str_find(body->parameters, STR("\"y\"")) >= 0);
    tool = decode("{\"kind\":\"openapi\",\"operations\":[\"2_x_y\"],\"document\":{\"openapi\":"
                  "\"3.0.0\",\"servers\":[{\"url\":\"https://a\"}],\"paths\":{\"/a\":{\"get\":{"
                  "\"operationId\":\"x y\"},\"put\":{\"operationId\":\"x.y\"}}}}}");
    assert_int_equal(tool->function_count, 1); /* names stay, whatever is chosen */
    EXPECT(tool->functions[0].method, "PUT");
}

static void test_presets(void **state)
{
    struct str text;
    size_t i, n;
    yyjson_val *preset;
    UNUSED(state);
    assert_int_equal(presets_json(&(struct preset_services){.wikipedia = STR("http://w:1")}, &arena,
                                  &text, &err),
                     RC_OK);
    yyjson_val *items =
        yyjson_obj_get(parse(arena_printf(&arena, "%.*s", STR_ARG(text)).p), "items");
    assert_int_equal(yyjson_arr_size(items), 6);
    yyjson_arr_foreach(items, i, n, preset)
    {
        struct tool *tool;
        yyjson_val *definition = yyjson_obj_get(yyjson_obj_get(preset, "config"), "definition");
        struct str service = json_get_text(preset, "service");
        bool has = !service.n || str_eq(service, STR("wikipedia"));
        assert_int_equal(json_get_bool(preset, "available", !has), has);
        assert_non_null(node_type_find(json_get_text(preset, "type")));
        if (definition && has)
            assert_int_equal(tool_decode(STR("t"), definition, &arena, &tool, &err), RC_OK);
        if (str_eq(service, STR("wikipedia")))
            EXPECT(json_get_text(definition, "url"), "http://w:1/w/api.php");
    }
}

static void test_mcp_answers(void **state)
{
    struct tool_function *functions;
    struct str cursor, text;
    size_t count;
    yyjson_val *json;
    bool is_error;
    UNUSED(state);
    assert_int_equal(
        mcp_read_tools(parse("{\"tools\":[{\"name\":\"a\",\"inputSchema\":{\"type\":\"object\"},"
                             "\"annotations\":{\"readOnlyHint\":true}},{\"name\":\"b\"},{}],"
                             "\"nextCursor\":\"n\"}"),
                       &arena, &functions, &count, &cursor, &err),
        RC_OK);
    assert_int_equal(count, 1);
    assert_true(functions[0].safe);
    EXPECT(cursor, "n");
    assert_int_not_equal(mcp_read_tools(parse("{}"), &arena, &functions, &count, &cursor, &err),
                         RC_OK);
    assert_int_equal(
        mcp_read_result(
            parse("{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\"},"
                  "{\"type\":\"resource\",\"resource\":{\"text\":\"r\"}}],"
                  "\"structuredContent\":{\"x\":1},\"isError\":true}"),
            &arena, &text, &json, &is_error, &err),
        RC_OK);
    EXPECT(text, "a\n[image]\nr");
    assert_true(is_error);
    assert_int_equal(json_get_int(json, "x", 0), 1);
    assert_int_not_equal(mcp_read_result(parse("[]"), &arena, &text, &json, &is_error, &err),
                         RC_OK);
}

static void test_pages(void **state)
{
    UNUSED(state);
    EXPECT(page_text(STR("<html><!-- <p>no</p> --><p title='>'>a<b>b</b></p><script>x<y</script>"
                         "<li>c &lt;&#65;&#x42;&nope;</li> 1 < 2"),
                     STR("text/html"), &arena),
           "ab\nc <AB&nope;\n1 < 2");
    EXPECT(page_text(STR("plain <b>"), STR("text/plain"), &arena), "plain <b>");
    EXPECT(page_text(STR("<?xml version='1.0'?><feed><title>A &amp; B</title></feed>"),
                     STR("application/atom+xml"), &arena),
           "A & B");
    EXPECT(page_text(STR("<style>never closed"), STR("text/html"), &arena), "");
    EXPECT(page_text(STR("<p"), STR("text/html"), &arena), "");
}

static void test_react(void **state)
{
    struct str name, input,
        text = STR("Thought: x\n**Action:** look\nAction Input: {\"a\": 1}\n"
                   "Observation: made up");
    UNUSED(state);
    assert_int_equal(agent_react_final(text), -1);
    assert_true(agent_react_action(text, &name, &input));
    EXPECT(name, "look");
    EXPECT(input, "{\"a\": 1}");
    text = STR("Thought: done\nFinal Answer: 42\nmore");
    EXPECT(str_slice(text, (size_t)agent_react_final(text), text.n), "42\nmore");
    assert_false(agent_react_action(STR("nothing"), &name, &input));
    assert_false(agent_react_action(STR("Action:"), &name, &input));
}

static int set_up(void **state)
{
    UNUSED(state);
    arena_init(&arena, 64 * 1024 * 1024);
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
        cmocka_unit_test_setup_teardown(test_definitions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_openapi, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_openapi_bodies_and_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_presets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mcp_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_react, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
