/* Typed identifiers: a UUIDv7 (RFC 9562) shown as PREFIX_ + 26 characters of Crockford base 32. */
#pragma once
#include "base/str.h"

struct id {
    uint8_t bytes[16];
};

#define ID_TEXT_BYTES_MAX 48 /* prefix, underscore, 26 characters, NUL */

struct id id_new(void); /* time-ordered; unique within the process even in one nanosecond */
bool id_is_zero(struct id id);
bool id_eq(struct id a, struct id b);
int64_t id_time_ms(struct id id);
/* Writes e.g. "call_01jd…" and returns the length. */
size_t id_format(struct id id, const char *prefix, char out[ID_TEXT_BYTES_MAX]);
/* RC_INVALID when the prefix or the text is wrong. */
enum rc id_parse(struct str s, const char *prefix, struct id *out) MUST_CHECK;
