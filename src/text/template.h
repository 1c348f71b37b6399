/* Templates: a bounded subset of Jinja2, and Mustache. A template is compiled once and rendered any
 * number of times over JSON values; it can reach only those values. Steps and output are bounded,
 * so that every rendering ends.
 *
 * Jinja2: {{ }}, {% if/elif/else, for … else (loop.*), set (blocks too), macro, call, filter, raw,
 * break, continue, generation %}, {# #}, white-space control, filters and tests (the tables in
 * template_functions.c), methods of texts, lists and objects, slices, inline if, ~, in, is,
 * namespace, trim_blocks and lstrip_blocks as chat templates want them. No import, include,
 * extends, attribute access to anything but JSON. Unknown names are undefined: empty when printed.
 * Mustache: {{name}}, {{a.b}}, sections, inverted sections, comments, no partials, no HTML escape
 * (Langfuse's way). */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include <yyjson.h>

enum template_syntax { TEMPLATE_MUSTACHE, TEMPLATE_JINJA };

struct template_options {
    enum template_syntax syntax;
    bool trim_blocks, lstrip_blocks, keep_trailing_newline; /* Jinja2's settings, same defaults */
    bool strict; /* an undefined name that is printed is ERR_BAD_FIELD naming it */
};

struct template;
/* Lives in the arena. ERR_INVALID with line and column. */
enum rc template_compile(struct str source, const struct template_options *options,
                         struct arena *arena, struct template **out, struct err *err) MUST_CHECK;
/* Names at the top level that it reads, each once, in order of first use. */
void template_variables(const struct template *template, const struct str **names, size_t *count);

struct template_limits {
    uint64_t steps_max; /* 0: 1,000,000 */
    size_t output_max;  /* bytes; 0: 4 MiB */
};
/* Appends to `out`. `values`: a JSON object. `scratch` holds what the rendering computes. ERR_LIMIT
 * where a bound was passed; a raise_exception('…') of a chat template is ERR_INVALID with its text.
 */
enum rc template_render(const struct template *template, yyjson_val *values,
                        const struct template_limits *limits, struct arena *scratch,
                        struct buf *out, struct err *err) MUST_CHECK;
