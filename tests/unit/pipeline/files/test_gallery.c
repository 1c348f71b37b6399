/* Every template of the gallery is free of problems, survives being written and read, and its
 * recorded runs come to the recorded end; a run that differs is told. */
#include "pipeline/files/file.h"
#include "pipeline/files/gallery.h"
#include "pipeline/engine/replay.h"
#include "text/json_tree.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    UNUSED(state);
    arena_init(&arena, 256 << 20);
    return 0;
}

static int teardown(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

static struct pipeline_file read_file(struct str text, const struct import_options *options)
{
    struct pipeline_file file;
    struct err err = {0};
    if (pipeline_file_read(text, options, &arena, &file, &err) != RC_OK)
        fail_msg("%s: %s", err.field, err.message);
    return file;
}

static struct replay_result replay(const struct pipeline_file *file, yyjson_val *recording)
{
    struct replay_result result;
    struct err err = {0};
    struct str definition = json_write(file->definition, &arena);
    if (replay_recording(definition, recording, &arena, &result, &err) != RC_OK)
        fail_msg("%s: %s", err.field, err.message);
    return result;
}

static void test_templates_are_whole(void **state)
{
    UNUSED(state);
    assert_true(GALLERY_COUNT >= 12);
    for (size_t i = 0; i < GALLERY_COUNT; i++) {
        struct findings findings;
        struct pipeline_file file = read_file(GALLERY[i].text, NULL);
        findings_init(&findings, &arena);
        struct document *document = document_read(file.definition, &arena, &findings);
        assert_non_null(document);
        document_check(document, &findings);
        for (size_t k = 0; k < findings.count; k++)
            fail_msg("%s: %.*s", GALLERY[i].name, STR_ARG(findings.items[k].message));
        assert_true(str_eq(file.name, str_from(GALLERY[i].name)));
        assert_true(json_get_text(file.gallery, "title").n &&
                    json_get_text(file.gallery, "summary").n);
        assert_true(yyjson_arr_size(file.samples) && yyjson_arr_size(file.recordings));
        assert_ptr_equal(gallery_find(file.name), &GALLERY[i]);
    }
    assert_null(gallery_find(STR("none")));
}

static void test_recordings_replay(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < GALLERY_COUNT; i++) {
        struct pipeline_file file = read_file(GALLERY[i].text, NULL);
        size_t k, n;
        yyjson_val *recording;
        yyjson_arr_foreach(file.recordings, k, n, recording)
        {
            struct replay_result result = replay(&file, recording);
            if (!result.same)
                fail_msg("%s: %.*s", GALLERY[i].name, STR_ARG(result.about));
        }
    }
}

static void test_written_and_read_again(void **state)
{
    UNUSED(state);
    for (size_t i = 0; i < GALLERY_COUNT; i++) {
        struct err err = {0};
        struct str text;
        struct pipeline_file file = read_file(GALLERY[i].text, NULL);
        assert_int_equal(pipeline_file_write(&file, &arena, &text, &err), RC_OK);
        struct pipeline_file again = read_file(text, NULL);
        assert_true(yyjson_equals(file.definition, again.definition));
        assert_true(yyjson_equals(file.recordings, again.recordings));
        assert_true(yyjson_equals(file.gallery, again.gallery));
    }
}

/* A change of the definition shows, and so does an answer that is missing. */
static void test_differences_are_told(void **state)
{
    UNUSED(state);
    struct pipeline_file file = read_file(
        STR("kind: capstan-pipeline\nschema: 1\nname: x\ndefinition:\n  schema: 1\n  nodes:\n"
            "  - {id: start, type: start, config: {inputs: [{name: a, type: string}]}}\n"
            "  - {id: ask, type: llm, config: {model: m, messages: [{role: user, content: x}]}}\n"
            "  - {id: say, type: answer, config: {text: '{{ start.a }}: {{ ask.text }}'}}\n"
            "  edges: [{from: start, to: ask}, {from: ask, to: say}]\n"
            "recordings:\n"
            "- {name: same, inputs: {a: A}, text: 'A: B', nodes: [{path: ask, status: done, "
            "outputs: {text: B}}]}\n"
            "- {name: other, inputs: {a: A}, text: 'A, B', nodes: [{path: ask, status: done, "
            "outputs: {text: B}}]}\n"
            "- {name: missing, inputs: {a: A}, text: 'A: B', nodes: []}\n"),
        NULL);
    struct replay_result same = replay(&file, yyjson_arr_get(file.recordings, 0));
    struct replay_result other = replay(&file, yyjson_arr_get(file.recordings, 1));
    struct replay_result missing = replay(&file, yyjson_arr_get(file.recordings, 2));
    assert_true(same.same && !same.about.n);
    assert_false(other.same);
    assert_true(str_find(other.about, STR("A, B")) > 0 && str_find(other.about, STR("A: B")) > 0);
    assert_false(missing.same);
    assert_true(str_find(missing.about, STR("no answer for the node 'ask'")) > 0);
}

/* Names of models and collections are replaced where they stand. */
static void test_names_are_replaced(void **state)
{
    UNUSED(state);
    static const struct import_options options = {
        .models = {{STR_INIT("smart"), STR_INIT("local/small")}},
        .model_count = 1,
        .collections = {{STR_INIT(""), STR_INIT("ships")}},
        .collection_count = 1,
    };
    struct pipeline_file file = read_file(gallery_find(STR("ask-documents"))->text, &options);
    struct str text = json_write(file.definition, &arena);
    assert_true(str_find(text, STR("\"local/small\"")) > 0 && str_find(text, STR("\"ships\"")) > 0);
    assert_true(str_find(text, STR("\"smart\"")) < 0 && str_find(text, STR("\"handbook\"")) < 0);
    assert_true(yyjson_equals_str(yyjson_arr_get_first(file.models), "smart"));
    assert_true(yyjson_equals_str(yyjson_arr_get_first(file.collections), "handbook"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_templates_are_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recordings_replay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_and_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_differences_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_are_replaced, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
