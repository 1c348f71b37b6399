/* The two entries of templates: compile and render. Everything else is in the files by syntax. */
#include "text/template_private.h"

#define STEPS_MAX  1000000
#define OUTPUT_MAX (4u << 20)

enum rc template_compile(struct str source, const struct template_options *options,
                         struct arena *arena, struct template **out, struct err *err)
{
    struct template *t = ARENA_NEW(arena, struct template);
    if (!t)
        return err_set(err, ERR_TOO_LARGE, "the template is too long");
    t->options = *options;
    t->source = source;
    *out = t;
    return options->syntax == TEMPLATE_JINJA ? template_parse_jinja(t, arena, err)
                                             : template_parse_mustache(t, arena, err);
}

void template_variables(const struct template *template, const struct str **names, size_t *count)
{
    *names = template->variables;
    *count = template->variable_count;
}

enum rc template_render(const struct template *template, yyjson_val *values,
                        const struct template_limits *limits, struct arena *scratch,
                        struct buf *out, struct err *err)
{
    struct render r = {.template = template, .arena = scratch, .out = out, .err = err};
    r.steps = limits && limits->steps_max ? (int64_t)MIN(limits->steps_max, (uint64_t)INT64_MAX)
                                          : STEPS_MAX;
    r.out_max = limits && limits->output_max ? limits->output_max : OUTPUT_MAX;
    buf_init(&r.capture, MAX(r.out_max, (size_t)OUTPUT_MAX));
    enum rc rc = template->options.syntax == TEMPLATE_JINJA ? template_run_jinja(&r, values)
                                                            : template_run_mustache(&r, values);
    buf_fini(&r.capture);
    return rc;
}
