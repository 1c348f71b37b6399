/* JSON Schema, the core of draft 2020-12: what structured output and checks need. Compiled once,
 * immutable, any number of threads. Every validation ends: depth and steps are bounded.
 *
 * Known: boolean schemas; type, enum, const; properties, required, additionalProperties,
 * patternProperties, propertyNames, minProperties, maxProperties, dependentRequired,
 * dependentSchemas; items, prefixItems, contains, minContains, maxContains, minItems, maxItems,
 * uniqueItems; minLength, maxLength, pattern; minimum, maximum, exclusiveMinimum, exclusiveMaximum,
 * multipleOf; allOf, anyOf, oneOf, not, if, then, else; $ref within the document (# and JSON
 * pointers), $defs. `format` and other annotations are ignored. What would change the result but is
 * not known ($dynamicRef, $anchor references, unevaluated…, references to other documents) is
 * refused when compiling. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <yyjson.h>

struct json_schema;

struct json_schema_problem {
    char path[128];    /* JSON pointer to the value: "/items/3/name"; "" the root */
    char message[128]; /* "must be one of …": names the rule, never the value */
};

/* `text` is copied into the arena. ERR_BAD_FIELD with the keyword's place. */
enum rc json_schema_compile(struct str text, struct arena *arena, struct json_schema **out,
                            struct err *err) MUST_CHECK;
/* RC_INVALID: *problem (may be NULL) tells the first one; RC_LIMIT: too deep or too much work. */
enum rc json_schema_check(const struct json_schema *schema, yyjson_val *value,
                          struct json_schema_problem *problem) MUST_CHECK;
