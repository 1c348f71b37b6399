/* What all JSON readers share: parsing into an arena, and typed look-ups. Parsed documents are
 * never freed: they end with their arena. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <yyjson.h>

/* Allocates from the arena; freeing is a no-op, growing copies. Valid as long as the arena. */
yyjson_alc json_arena_alc(struct arena *arena);
/* Strict RFC 8259. ERR_BAD_JSON with the position; ERR_TOO_LARGE when the arena's cap is reached or
 * the nesting passes LIMIT_JSON_DEPTH, so that what walks the document may recurse. */
enum rc json_read(struct str text, struct arena *arena, yyjson_doc **doc,
                  struct err *err) MUST_CHECK;

/* The text of a string value; empty for NULL and for any other type. */
struct str json_text(yyjson_val *value);
/* The same for a member of an object (`object` may be NULL or of another type). */
struct str json_get_text(yyjson_val *object, const char *name);
/* A number, truncated; `otherwise` for NULL and any other type. */
int64_t json_integer(yyjson_val *value, int64_t otherwise);
/* A member's number, truncated; `otherwise` when absent or no number. */
int64_t json_get_int(yyjson_val *object, const char *name, int64_t otherwise);
double json_get_double(yyjson_val *object, const char *name, double otherwise);
bool json_get_bool(yyjson_val *object, const char *name, bool otherwise);
/* The value written as compact JSON; .p NULL when the arena's cap is reached. */
struct str json_write(yyjson_val *value, struct arena *arena);
