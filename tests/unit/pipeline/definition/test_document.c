/* Definitions: the catalogue fits the program, what is wrong is told where it stands, and what
 * templates and expressions read is found. */
#include "pipeline/definition/document.h"
#include "pipeline/definition/reference.h"
#include "text/json_schema.h"
#include "text/json_tree.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct arena arena;
static struct findings findings;

static int setup(void **state)
{
    UNUSED(state);
    arena_init(&arena, 64 << 20);
    return 0;
}

static int teardown(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

/* Single quotes stand for double ones. */
static yyjson_val *json(const char *text)
{
    struct err err = {0};
    yyjson_doc *doc;
    char *copy = arena_alloc(&arena, strlen(text) + 1);
    for (size_t i = 0; i <= strlen(text); i++)
        copy[i] = text[i] == '\'' ? '"' : text[i];
    if (json_read(str_from(copy), &arena, &doc, &err) != RC_OK)
        fail_msg("%s", err.message);
    return yyjson_doc_get_root(doc);
}

static struct document *check(const char *text)
{
    findings_init(&findings, &arena);
    struct document *document = document_read(json(text), &arena, &findings);
    if (document)
        document_check(document, &findings);
    return document;
}

static bool found(const char *node, const char *code)
{
    for (size_t i = 0; i < findings.count; i++)
        if (str_eq(findings.items[i].node, str_from(node)) &&
            strcmp(findings.items[i].code, code) == 0)
            return true;
    return false;
}

static void expect(const char *node, const char *code)
{
    if (!found(node, code))
        fail_msg("no finding %s at '%s'", code, node);
}

#define START                                                                                      \
    "{'id':'start','type':'start','config':{'inputs':[{'name':'query','type':'string'},"           \
    "{'name':'items','type':'array'}]}}"

static void test_catalogue_has_every_type(void **state)
{
    UNUSED(state);
    for (int kind = 0; kind < NODE_KIND_COUNT; kind++) {
        const struct node_type *type = node_type_of((enum node_kind)kind);
        assert_ptr_equal(node_type_find(type->name), type);
        assert_true(type->title.n > 0);
        assert_null(strstr(json_write(type->json, &arena).p, "$ref"));
    }
    assert_null(node_type_find(STR("nonsense")));
    yyjson_doc *doc;
    assert_int_equal(json_read(nodes_json(), &arena, &doc, NULL), RC_OK);
}

static void test_good_definition_has_no_findings(void **state)
{
    struct json_schema *schema;
    struct json_schema_problem problem;
    struct err err = {0};
    const char *text =
        "{'schema':1,'nodes':[" START ",{'id':'draft','type':'llm','config':{'model':'smart',"
        "'messages':[{'role':'user','content':'{% for x in start.items %}{{ x.name }}{% endfor %}"
        "{{ start.query | upper }} {{ sys.user }}'}]}},"
        "{'id':'say','type':'answer','config':{'text':'{{ draft.text }}'}}],"
        "'edges':[{'from':'start','to':'draft'},{'from':'draft','to':'say'}]}";
    UNUSED(state);
    struct document *document = check(text);
    if (findings.count)
        fail_msg("%.*s: %.*s", STR_ARG(findings.items[0].node), STR_ARG(findings.items[0].message));
    assert_int_equal(document->start, 0);
    assert_int_equal(json_schema_compile(nodes_definition_schema(), &arena, &schema, &err), RC_OK);
    assert_int_equal(json_schema_check(schema, json(text), &problem), RC_OK);
    assert_int_equal(json_schema_check(schema,
                                       json("{'schema':1,'nodes':[{'id':'a','type':'llm',"
                                            "'config':{}}],'edges':[]}"),
                                       &problem),
                     RC_INVALID);
}

static void test_what_is_wrong_is_told_where_it_stands(void **state)
{
    UNUSED(state);
    check("{'schema':1,'nodes':[" START ","
          "{'id':'a','type':'template','config':{'text':'{{ b.output }} {{ nobody.x }}'}},"
          "{'id':'b','type':'template','config':{'text':'{{ start.nothing }} {{ sys.moon }}'}},"
          "{'id':'c','type':'if_else','config':{'cases':[{'id':'yes','when':'start.query =='}]}},"
          "{'id':'d','type':'iteration','config':{'list':'start.query','output':'1'}},"
          "{'id':'e','type':'what','config':{}},"
          "{'id':'f','type':'llm','config':{'model':7}},"
          "{'id':'a','type':'template','config':{'text':''}},"
          "{'id':'9','type':'template','config':{'text':''}}],"
          "'edges':[{'from':'start','to':'a'},{'from':'a','to':'b'},"
          "{'from':'c','port':'maybe','to':'b'},{'from':'b','to':'gone'}]}");
    expect("a", "not_before");
    expect("a", "unknown_variable");
    expect("b", "unknown_output");
    expect("b", "unknown_variable");
    expect("c", "bad_expression");
    expect("c", "unknown_port");
    expect("c", "unreachable");
    expect("d", "wrong_type");
    expect("d", "empty_container");
    expect("e", "unknown_type");
    expect("f", "bad_config");
    expect("a", "duplicate_id");
    expect("9", "bad_id");
    expect("b", "unknown_node");
    expect("", "no_end");
}

static void test_cycles_and_levels(void **state)
{
    UNUSED(state);
    check("{'schema':1,'nodes':[" START ",{'id':'a','type':'template','config':{'text':''}},"
          "{'id':'b','type':'template','config':{'text':''}},"
          "{'id':'each','type':'iteration','config':{'list':'start.items',"
          "'output':'inner.output'}},"
          "{'id':'inner','type':'template','parent':'each','config':{'text':"
          "'{{ each.item }} {{ each.index }} {{ a.output }}'}},"
          "{'id':'lost','type':'template','parent':'a','config':{'text':''}},"
          "{'id':'x','type':'loop','parent':'y','config':{'rounds':1}},"
          "{'id':'y','type':'loop','parent':'x','config':{'rounds':1}}],"
          "'edges':[{'from':'start','to':'a'},{'from':'a','to':'b'},{'from':'b','to':'a'},"
          "{'from':'a','to':'each'},{'from':'inner','to':'b'}]}");
    expect("a", "cycle");
    expect("b", "cycle");
    expect("inner", "crosses_container");
    expect("lost", "bad_parent");
    assert_true(found("x", "bad_parent") || found("y", "bad_parent"));
    assert_false(found("inner", "unknown_variable"));
    assert_false(found("inner", "not_before"));
    assert_false(found("each", "not_before"));
}

static void test_loop_variables(void **state)
{
    UNUSED(state);
    check("{'schema':1,'nodes':[" START ",{'id':'turn','type':'loop','config':{'rounds':3,"
          "'variables':[{'name':'n','type':'number','value':'0'}],'until':'turn.n >= 2'}},"
          "{'id':'up','type':'assigner','parent':'turn','config':{'assignments':["
          "{'variable':'turn.n','operation':'add','value':'1'}]}},"
          "{'id':'bad','type':'assigner','parent':'turn','config':{'assignments':["
          "{'variable':'turn.m','operation':'clear'},"
          "{'variable':'conversation.m','operation':'clear'}]}},"
          "{'id':'done','type':'end','config':{'outputs':[{'name':'n','value':'turn.n'}]}}],"
          "'edges':[{'from':'start','to':'turn'},{'from':'turn','to':'done'}]}");
    expect("bad", "unknown_variable");
    assert_int_equal(findings.errors, 2);
}

static void test_frame(void **state)
{
    UNUSED(state);
    assert_null(check("{'nodes':[]}"));
    expect("", "bad_definition");
    assert_null(check("{'schema':2,'nodes':[],'edges':[]}"));
    assert_null(check("{'schema':1,'nodes':[],'edges':[],'more':1}"));
    check("{'schema':1,'nodes':[],'edges':[]}");
    expect("", "no_start");
}

static char seen[512];

static void note(void *arg, const struct reference *reference)
{
    UNUSED(arg);
    strcat(seen, seen[0] ? " " : "");
    for (size_t i = 0; i < reference->count; i++) {
        strcat(seen, i ? "." : "");
        strncat(seen, reference->steps[i].p, reference->steps[i].n);
    }
}

static void expect_references(const char *text, enum text_kind kind, const char *want)
{
    seen[0] = 0;
    reference_each(str_from(text), kind, note, NULL);
    assert_string_equal(seen, want);
}

static void test_references(void **state)
{
    struct reference path;
    UNUSED(state);
    expect_references("no {variables} here {{", TEXT_TEMPLATE, "");
    expect_references("{{ a.b }} and {{c}}{# d #}", TEXT_TEMPLATE, "a.b c");
    expect_references("{% if a.x == 'b' and not c[0].d %}{{ e | default(f.g) | join(', ') }}"
                      "{% endif %}",
                      TEXT_TEMPLATE, "a.x c.0.d e f.g");
    expect_references("{% for k, v in m.items() %}{{ k }}{{ v.z }}{% endfor %}{% set q = r %}"
                      "{{ q }}",
                      TEXT_TEMPLATE, "m r");
    expect_references("{{ fn(a, sep=b.c) }}{{ x is defined }}{{ y is not none }}", TEXT_TEMPLATE,
                      "a b.c x y");
    expect_references("a.b == \"c.d\" and length(e.f) > 2 or g['h'] in [1, i]", TEXT_EXPRESSION,
                      "a.b e.f g.h i");
    assert_true(reference_is_path(STR(" a.b.c "), &path));
    assert_int_equal(path.count, 3);
    assert_false(reference_is_path(STR("a + b"), &path));
    assert_false(reference_is_path(STR("12"), &path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_catalogue_has_every_type),
        cmocka_unit_test(test_good_definition_has_no_findings),
        cmocka_unit_test(test_what_is_wrong_is_told_where_it_stands),
        cmocka_unit_test(test_cycles_and_levels),
        cmocka_unit_test(test_loop_variables),
        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_references),
    };
    return cmocka_run_group_tests_name("pipeline_document", tests, setup, teardown);
}
