/* What went wrong, for the caller: a stable code from one table, the HTTP status that goes with it,
 * a message that says what to do, and the field or place it is about. */
#pragma once
#include "base/str.h"

#define ERR_MESSAGE_BYTES_MAX 512
#define ERR_FIELD_BYTES_MAX   128

enum err_code {
#define ERR_CODE(name, code, status, type) ERR_##name,
#include "base/err_codes.h"
#undef ERR_CODE
    ERR_CODE_COUNT
};

struct err {
    enum err_code code; /* ERR_NONE: nothing went wrong */
    enum rc rc;
    char message[ERR_MESSAGE_BYTES_MAX]; /* cut at a character boundary, NUL-terminated */
    char field[ERR_FIELD_BYTES_MAX];     /* "" or a path such as targets[0].provider */
    int64_t retry_after_ms;              /* > 0: goes into Retry-After */
};

/* Fill `err` (may be NULL) and return the rc that belongs to the code. */
enum rc err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
enum rc err_set_field(struct err *err, enum err_code code, const char *field, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Puts "text: " before the message, to add the place on the way up. */
void err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
const char *err_code_name(enum err_code code); /* "route_not_found" */
int err_http_status(enum err_code code);
/* OpenAI's `type` for the code: invalid_request_error, authentication_error, … */
const char *err_openai_type(enum err_code code);
