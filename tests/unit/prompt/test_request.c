/* Prompts: finding by reference, what a definition may be, and the bodies that calls become. */
#include "prompt/request.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena arena;
static struct map prompts;
static struct prompt_version versions[3];
static struct label_target one = {1, 1};
static struct label labels[] = {{STR_INIT("production"), &one, 1}};
static struct prompt_family chat = {STR_INIT("team/chat"), versions, 3, labels, 1};
static struct prompt_version text_version = {
    1,
    STR_INIT("{\"type\":\"text\",\"prompt\":\"Say @@@langfusePrompt:name=team/chat|version=2@@@ to "
             "{{who}}\",\"config\":{\"model\":\"m\",\"max_tokens\":5,\"mine\":1}}"),
    NULL};
static struct prompt_family text = {STR_INIT("text"), &text_version, 1, NULL, 0};

static int set_up(void **state)
{
    static const char definition[] =
        "{\"type\":\"chat\",\"prompt\":[{\"role\":\"system\",\"content\":\"S {{a}}\"},{\"type\":"
        "\"placeholder\",\"name\":\"h\"},{\"role\":\"user\",\"content\":\"U\"}],\"config\":{"
        "\"model\":\"provider/m\",\"temperature\":0.5,\"stop\":[\"x\"]},\"variables\":[{\"name\":"
        "\"a\",\"default\":\"d\"}]}";
    arena_init(&arena, 64 << 20);
    map_init(&prompts);
    versions[0] = (struct prompt_version){3, str_from(definition), NULL};
    versions[1] = (struct prompt_version){2, STR("{\"type\":\"text\",\"prompt\":\"two\"}"), NULL};
    versions[2] = (struct prompt_version){1, str_from(definition), NULL};
    map_put(&prompts, chat.name, &chat);
    map_put(&prompts, text.name, &text);
    return 0;
}

static int tear_down(void **state)
{
    map_fini(&prompts);
    arena_fini(&arena);
    return 0;
}

static void test_references(void **state)
{
    static const struct {
        const char *text;
        int64_t version; /* 0: not found */
    } rows[] = {{"team/chat", 1},
                {"team/chat@production", 1},
                {"team/chat@latest", 3},
                {"team/chat@2", 2},
                {"team/chat@9", 0},
                {"team/chat@staging", 0},
                {"text", 1},
                {"none", 0},
                {"text@production", 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct prompt_reference reference;
        struct prompt_found found;
        struct err err = {0};
        prompt_reference_parse(str_from(rows[i].text), &reference);
        enum rc rc = prompt_find(&prompts, &reference, 0, &found, &err);
        if ((rc == RC_OK) != (rows[i].version > 0) ||
            (rc == RC_OK && found.version->version != rows[i].version))
            fail_msg("%s: %s", rows[i].text, err.message);
    }
}

static void expect(enum prompt_door door, const char *model, const char *body, const char *becomes)
{
    yyjson_doc *doc;
    struct prompt_rewritten out;
    struct err err = {0};
    assert_int_equal(json_read(str_from(body), &arena, &doc, NULL), RC_OK);
    struct prompt_request request = {.prompts = &prompts,
                                     .model = str_from(model),
                                     .body = yyjson_doc_get_root(doc),
                                     .door = door};
    if (prompt_rewrite(&request, &arena, &out, &err) != RC_OK) {
        if (!strstr(err.message, becomes))
            fail_msg("%s: %s", body, err.message);
        return;
    }
    if (!str_eq(out.body, str_from(becomes)))
        fail_msg("%.*s\ninstead of %s", STR_ARG(out.body), becomes);
}

static void test_bodies(void **state)
{
    expect(PROMPT_CHAT, "prompt/team/chat",
           "{\"model\":\"\",\"temperature\":1,\"variables\":{\"h\":[{\"role\":\"user\",\"content\":"
           "\"H\"}]},\"messages\":[{\"role\":\"user\",\"content\":\"M\"}]}",
           "{\"model\":\"provider/m\",\"temperature\":1,\"messages\":[{\"role\":\"system\","
           "\"content\":\"S d\"},{\"role\":\"user\",\"content\":\"H\"},{\"role\":\"user\","
           "\"content\":\"U\"},{\"role\":\"user\",\"content\":\"M\"}],\"stop\":[\"x\"]}");
    expect(
        PROMPT_ANTHROPIC, "prompt/team/chat",
        "{\"model\":\"\",\"max_tokens\":9,\"system\":\"T\",\"metadata\":{\"a\":\"b\"}}",
        "{\"model\":\"provider/m\",\"max_tokens\":9,\"system\":\"S b\\n\\nT\",\"metadata\":{"
        "\"a\":\"b\"},\"messages\":[{\"role\":\"user\",\"content\":\"U\"}],\"temperature\":0.5}");
    expect(PROMPT_RESPONSES, "prompt/text", "{\"model\":\"\",\"variables\":{\"who\":\"W\"}}",
           "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"Say two to W\"}],"
           "\"max_output_tokens\":5}");
    expect(PROMPT_CHAT, "prompt/text",
           "{\"model\":\"\",\"variables\":{\"who\":\"W\"},\"messages\":[{\"role\":\"user\","
           "\"content\":\"M\"}]}",
           "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"Say two to W\"},{"
           "\"role\":\"user\",\"content\":\"M\"}],\"max_tokens\":5}");
    expect(PROMPT_COMPLETIONS, "prompt/text", "{\"model\":\"\",\"variables\":{\"who\":\"W\"}}",
           "{\"model\":\"m\",\"prompt\":\"Say two to W\",\"max_tokens\":5}");
    expect(PROMPT_COMPLETIONS, "prompt/team/chat", "{\"model\":\"\"}", "only a text prompt");
    expect(PROMPT_CHAT, "prompt/text", "{\"model\":\"\"}", "needs the variable 'who'");
    expect(PROMPT_CHAT, "prompt/team/chat@2", "{\"model\":\"\"}", "names no model");
    expect(PROMPT_CHAT, "prompt/none", "{\"model\":\"\"}", "no prompt 'none'");
}

static void test_definitions(void **state)
{
    static const struct {
        const char *text, *field; /* field NULL: it is one */
    } rows[] = {
        {"{\"type\":\"text\",\"prompt\":\"{{a}}\"}", NULL},
        {"{\"type\":\"chat\",\"prompt\":\"x\"}", "prompt"},
        {"{\"type\":\"text\",\"prompt\":\"{{#a}}\"}", "prompt"},
        {"{\"type\":\"text\",\"prompt\":\"{% if %}\",\"syntax\":\"jinja2\"}", "prompt"},
        {"{\"type\":\"text\",\"prompt\":\"x\",\"syntax\":\"liquid\"}", "syntax"},
        {"{\"type\":\"text\",\"prompt\":\"x\",\"config\":[]}", "config"},
        {"{\"type\":\"text\",\"prompt\":\"x\",\"config\":{\"model\":\"prompt/y\"}}",
         "config.model"},
        {"{\"type\":\"chat\",\"prompt\":[{\"content\":\"x\"}]}", "prompt[0].role"},
        {"{\"type\":\"chat\",\"prompt\":[{\"role\":\"user\"}]}", "prompt[0].content"},
        {"{\"type\":\"chat\",\"prompt\":[{\"type\":\"placeholder\"}]}", "prompt[0].name"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        yyjson_doc *doc;
        struct err err = {0};
        assert_int_equal(json_read(str_from(rows[i].text), &arena, &doc, NULL), RC_OK);
        enum rc rc = prompt_check(yyjson_doc_get_root(doc), &err);
        assert_int_equal(rc == RC_OK, rows[i].field == NULL);
        if (rows[i].field)
            assert_string_equal(err.field, rows[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_references),
                                       cmocka_unit_test(test_bodies),
                                       cmocka_unit_test(test_definitions)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
