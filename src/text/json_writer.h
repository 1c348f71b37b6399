/* Writes JSON text straight into a buffer: commas are set by themselves, strings escaped, the first
 * error (the buffer's maximum) is kept, so that callers check once at the end. */
#pragma once
#include "base/buf.h"
#include <yyjson.h>

struct json_writer {
    struct buf *out;
    enum rc rc; /* RC_OK or the first failure; then nothing more is written */
    bool comma; /* a value stands before the next one on this level */
};

static inline struct json_writer json_writer_to(struct buf *out)
{
    return (struct json_writer){.out = out};
}

void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *name); /* a plain name: written as it is */
void json_key_str(struct json_writer *w, struct str name);
void json_string(struct json_writer *w, struct str s); /* .p NULL: "" */
void json_int(struct json_writer *w, int64_t value);
void json_uint(struct json_writer *w, uint64_t value);
void json_double(struct json_writer *w, double value); /* shortest form; null when not finite */
void json_bool(struct json_writer *w, bool value);
void json_null(struct json_writer *w);
void json_raw(struct json_writer *w, struct str json); /* a complete JSON value */
void json_value(struct json_writer *w, yyjson_val *value);

/* key and value in one */
void json_put_string(struct json_writer *w, const char *name, struct str s);
void json_put_text(struct json_writer *w, const char *name, const char *s); /* NULL: null */
void json_put_int(struct json_writer *w, const char *name, int64_t value);
void json_put_uint(struct json_writer *w, const char *name, uint64_t value);
void json_put_double(struct json_writer *w, const char *name, double value);
void json_put_bool(struct json_writer *w, const char *name, bool value);
void json_put_null(struct json_writer *w, const char *name);
void json_put_raw(struct json_writer *w, const char *name, struct str json);
void json_put_value(struct json_writer *w, const char *name, yyjson_val *value);

/* The escaped characters of a string without quotes: for texts made of pieces. */
void json_append_escaped(struct json_writer *w, struct str s);
/* Bytes as they are, without commas: the caller knows what stands there. */
void json_append(struct json_writer *w, struct str s);
