/* Filters and attributes as clients write them. A filter is an expression over attributes, or an
 * object in OpenAI's form, which becomes one:
 *
 *   {"type": "and", "filters": [{"type": "eq", "key": "year", "value": 2026}, …]}
 *   → (year == 2026 and …) */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <yyjson.h>

#define ATTRIBUTES_MAX          32
#define ATTRIBUTE_KEY_BYTES_MAX 64

/* Text (an expression), an object in OpenAI's form, or NULL: *out is empty. ERR_BAD_FIELD names
 * `field`. */
enum rc filter_read(yyjson_val *json, const char *field, struct arena *arena, struct str *out,
                    struct err *err) MUST_CHECK;
/* An object of texts, numbers, booleans and lists of texts, whose names can stand in filters;
 * checked and written as JSON. NULL gives an empty text. */
enum rc attributes_read(yyjson_val *json, const char *field, struct arena *arena, struct str *out,
                        struct err *err) MUST_CHECK;
/* A list of texts as JSON; NULL gives an empty text. */
enum rc tags_read(yyjson_val *json, const char *field, struct arena *arena, struct str *out,
                  struct err *err) MUST_CHECK;
