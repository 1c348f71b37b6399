/* Templates: both syntaxes, names, errors with their places, and the bounds. What Jinja2 itself
 * prints is compared in tests/e2e/test_template.py. */
#include "text/template.h"
#include "text/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct arena arena;
static struct buf out;
static struct err err;

static int set_up(void **state)
{
    arena_init(&arena, 64 << 20);
    buf_init(&out, 8 << 20);
    return 0;
}

static int tear_down(void **state)
{
    arena_fini(&arena);
    buf_fini(&out);
    return 0;
}

static enum rc render_with(struct template_options options, const char *source, const char *values,
                           const struct template_limits *limits)
{
    struct template *template;
    yyjson_doc *doc;
    err = (struct err){0};
    buf_clear(&out);
    assert_int_equal(json_read(str_from(values), &arena, &doc, NULL), RC_OK);
    enum rc rc = template_compile(str_from(source), &options, &arena, &template, &err);
    return rc == RC_OK
               ? template_render(template, yyjson_doc_get_root(doc), limits, &arena, &out, &err)
               : rc;
}

static void expect(enum template_syntax syntax, const char *source, const char *values,
                   const char *expected)
{
    struct template_options options = {.syntax = syntax};
    if (render_with(options, source, values, NULL) != RC_OK)
        fail_msg("%s: %s", source, err.message);
    if (!str_eq(buf_str(&out), str_from(expected)))
        fail_msg("%s: \"%.*s\" instead of \"%s\"", source, STR_ARG(buf_str(&out)), expected);
}

static void test_jinja(void **state)
{
    const char *values = "{\"name\":\"Zoë\",\"n\":3,\"list\":[1,\"a\",null],\"o\":{\"b\":true}}";
    expect(TEMPLATE_JINJA, "Hello {{ name }}, {{ n + 1 }} {{ list }} {{ o.b }} {{ gone }}", values,
           "Hello Zoë, 4 [1, 'a', None] True ");
    expect(TEMPLATE_JINJA,
           "{% for x in list if x is not none %}{{ loop.index }}={{ x }};"
           "{% else %}none{% endfor %}",
           values, "1=1;2=a;");
    expect(TEMPLATE_JINJA,
           "{% macro m(a, b='-') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}"
           "{{ m(b=2, a=name|upper) }}",
           values, "[1-][ZOË2]");
    expect(TEMPLATE_JINJA,
           "{% set ns = namespace(i=0) %}{% for x in list %}"
           "{% set ns.i = ns.i + 1 %}{% set y = x %}{% endfor %}{{ ns.i }}{{ y }}",
           values, "3");
    expect(TEMPLATE_JINJA,
           "{% if n > 5 %}a{% elif n > 2 %}{% if 0 %}x{% endif %}b{% else %}c"
           "{% endif %}{% if 0 %}{% else %}{% if 0 %}{% endif %}d{% endif %}",
           values, "bd");
    expect(TEMPLATE_JINJA, "{{ name[1:] }} {{ 'a' in o }} {{ o | tojson }} {{ name | length }}",
           values, "oë False {\"b\": true} 3");
    expect(TEMPLATE_JINJA,
           "{% set t | upper %}x{{ n }}{% endset %}{{ t }}"
           "{% filter lower %}ABC{% endfilter %}",
           values, "X3abc");
    expect(TEMPLATE_JINJA,
           "{% macro f() %}<{{ caller() }}>{% endmacro %}"
           "{% call f() %}{{ n }}{% endcall %}",
           values, "<3>");
    expect(TEMPLATE_JINJA, "{% raw %}{{ x }}{% endraw %}{# no #}{%- if true -%} y {%- endif %}",
           values, "{{ x }}y");
}

static void test_mustache(void **state)
{
    const char *values = "{\"name\":\"<Zoë>\",\"n\":1.5,\"on\":true,\"off\":false,\"none\":null,"
                         "\"list\":[{\"x\":1},{\"x\":2}],\"words\":[\"a\",\"b\"],\"o\":{\"p\":"
                         "{\"q\":\"deep\"}}}";
    expect(TEMPLATE_MUSTACHE, "{{name}} {{ n }} {{{name}}} {{&name}} {{o.p.q}} {{gone}}.", values,
           "<Zoë> 1.5 <Zoë> <Zoë> deep .");
    expect(TEMPLATE_MUSTACHE, "{{#list}}{{x}}{{name}},{{/list}}{{#words}}{{.}}{{/words}}", values,
           "1<Zoë>,2<Zoë>,ab");
    expect(TEMPLATE_MUSTACHE,
           "{{#on}}yes{{/on}}{{#off}}no{{/off}}{{^off}}not{{/off}}{{^gone}}g"
           "{{/gone}}{{! a comment }}",
           values, "yesnotg");
    expect(TEMPLATE_MUSTACHE, "a\n{{#on}}\nb\n{{/on}}\nc\n", values, "a\nb\nc\n");
    expect(TEMPLATE_MUSTACHE, "{{o}} {% if x %} {{ words }}", values,
           "{\"p\":{\"q\":\"deep\"}} {% if x %} [\"a\",\"b\"]");
}

static void expect_names(enum template_syntax syntax, const char *source, const char *expected)
{
    struct template_options options = {.syntax = syntax};
    struct template *template;
    const struct str *names;
    size_t count;
    char joined[200] = "";
    assert_int_equal(template_compile(str_from(source), &options, &arena, &template, &err), RC_OK);
    template_variables(template, &names, &count);
    for (size_t i = 0; i < count; i++) {
        strcat(joined, i ? " " : "");
        strncat(joined, names[i].p, names[i].n);
    }
    assert_string_equal(joined, expected);
}

static void test_variables(void **state)
{
    expect_names(
        TEMPLATE_JINJA,
        "{% set a = b %}{{ a }}{{ c.d }}{% for e in c %}{{ e }}{{ f }}{% set g = 1 %}{{ g }}"
        "{% endfor %}{{ range(3) }}{{ h | default(i) }}",
        "b c f h i");
    expect_names(TEMPLATE_MUSTACHE, "{{x}}{{#list}}{{y.z}}{{.}}{{/list}}{{x}}", "x list y");
}

static void expect_error(struct template_options options, const char *source, enum err_code code,
                         const char *part)
{
    struct template_limits limits = {.steps_max = 20000, .output_max = 1 << 16};
    assert_int_not_equal(render_with(options, source, "{\"n\":1}", &limits), RC_OK);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part))
        fail_msg("%s: \"%s\" does not say \"%s\"", source, err.message, part);
}

static void test_errors(void **state)
{
    struct template_options jinja = {.syntax = TEMPLATE_JINJA}, mustache = {0}, strict = jinja;
    strict.strict = true;
    expect_error(jinja, "a\n {% if x %}", ERR_INVALID, "line 2");
    expect_error(jinja, "{{ 1 + }}", ERR_INVALID, "line 1, column 8: a value is expected");
    expect_error(jinja, "{% include 'x' %}", ERR_INVALID, "no statement \"include\"");
    expect_error(jinja, "{{ x | nothing }}", ERR_INVALID, "no filter \"nothing\"");
    expect_error(jinja, "{{ x.y.z }}", ERR_INVALID, "\"x\" is undefined");
    expect_error(jinja, "{{ raise_exception('Not so') }}", ERR_INVALID, "Not so");
    expect_error(jinja, "{{ n.__class__.__mro__ }}", ERR_INVALID, "\"__class__\" is undefined");
    expect_error(jinja, "{{ 1 // 0 }}", ERR_INVALID, "division by zero");
    expect_error(strict, "{{ who }}", ERR_BAD_FIELD, "a value for \"who\"");
    expect_error(mustache, "{{#a}}x", ERR_INVALID, "{{#a}} has no {{/a}}");
    expect_error(mustache, "{{/a}}", ERR_INVALID, "closes nothing");
    expect_error(mustache, "{{> part}}", ERR_INVALID, "partials");
    mustache.strict = true;
    expect_error(mustache, "{{who}}", ERR_BAD_FIELD, "a value for \"who\"");
}

/* Nothing that a template says may cost more than it is allowed. */
static void test_bounds(void **state)
{
    struct template_options jinja = {.syntax = TEMPLATE_JINJA};
    expect_error(jinja, "{% for i in range(100000000) %}{% endfor %}", ERR_TOO_LARGE, "steps");
    expect_error(jinja, "{% for i in range(5000) %}{{ 'x' * 100 }}{% endfor %}", ERR_TOO_LARGE,
                 "writes more");
    expect_error(jinja, "{{ 'x' * 100000000000 }}", ERR_TOO_LARGE, "memory");
    expect_error(jinja, "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", ERR_TOO_LARGE,
                 "too deep");
    expect_error(jinja, "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", ERR_TOO_LARGE, "deep");
    expect_error(jinja,
                 "{% set l = [1] %}{% for x in range(99) %}{% set l = l + l %}{% endfor %}"
                 "{% set ns = namespace(l=[1]) %}{% for x in range(99) %}"
                 "{% set ns.l = ns.l + ns.l %}{% endfor %}",
                 ERR_TOO_LARGE, "steps");
    char nested[1000];
    memset(nested, '(', sizeof(nested));
    memcpy(nested, "{{", 2);
    nested[999] = '\0';
    expect_error(jinja, nested, ERR_INVALID, "nested more than");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jinja),     cmocka_unit_test(test_mustache),
        cmocka_unit_test(test_variables), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
