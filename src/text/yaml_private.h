/* The two readers of YAML behind yaml_read. */
#pragma once
#include "text/yaml.h"

/* A plain scalar by the core schema: null, true, false, numbers; everything else is text, which the
 * value borrows. */
yyjson_mut_val *yaml_plain_scalar(yyjson_mut_doc *doc, struct str s);
/* All of YAML, by libyaml. `lines` may be NULL. */
enum rc yaml_read_full(struct str text, struct arena *arena, struct yaml_lines *lines,
                       yyjson_doc **out, struct err *err) MUST_CHECK;
/* The common part of YAML, much faster; false for everything that it is not sure of, errors
 * included: then yaml_read_full decides. What it takes, yaml_read_full takes with the same result
 * (tests/fuzz/fuzz_yaml.c). */
bool yaml_read_common(struct str text, struct arena *arena, yyjson_doc **out) MUST_CHECK;
