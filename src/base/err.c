/* Fills `struct err` from the one table of codes (err_codes.h). Any thread; no allocation. */
#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>

struct err_row {
    const char *name;
    int status;
    const char *openai_type;
};

static const struct err_row err_rows[ERR_CODE_COUNT] = {
#define ERR_CODE(id, code, http_status, type) [ERR_##id] = {code, http_status, type},
#include "base/err_codes.h"
#undef ERR_CODE
};

static const struct err_row *err_row(enum err_code code)
{
    ASSERT((unsigned)code < ERR_CODE_COUNT);
    return &err_rows[code];
}

const char *err_code_name(enum err_code code) { return err_row(code)->name; }

int err_http_status(enum err_code code) { return err_row(code)->status; }

const char *err_openai_type(enum err_code code) { return err_row(code)->openai_type; }

static enum rc err_rc(enum err_code code)
{
    switch (err_http_status(code)) {
    case 200: return RC_OK;
    case 400:
    case 405:
    case 415: return RC_INVALID;
    case 401:
    case 403: return RC_DENIED;
    case 404: return RC_NOT_FOUND;
    case 409: return RC_CONFLICT;
    case 413:
    case 429: return RC_LIMIT;
    case 499: return RC_CANCELLED;
    case 500:
    case 501: return RC_BUG;
    case 502:
    case 503: return RC_DOWN;
    case 504: return RC_TIMEOUT;
    case 507: return RC_FULL;
    }
    UNREACHABLE();
}

/* Ends text that did not fit before the character that was cut. */
static void cut_at_character(char *z, size_t capacity, int n)
{
    if (n < 0 || (size_t)n < capacity)
        return;
    size_t end = capacity - 1;
    size_t start = end;
    while (start > 0 && end - start < 4 && ((unsigned char)z[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0 || (unsigned char)z[start - 1] < 0xc0)
        return; /* ends with ASCII, or was not UTF-8 */
    unsigned char lead = (unsigned char)z[start - 1];
    size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (end - (start - 1) < length)
        z[start - 1] = '\0';
}

static enum rc err_fill(struct err *err, enum err_code code, const char *field, const char *fmt,
                        va_list args)
{
    enum rc rc = err_rc(code);
    if (err == NULL)
        return rc;
    /* The arguments may point into the err itself: build the text beside it. */
    char message[ERR_MESSAGE_BYTES_MAX];
    cut_at_character(message, sizeof(message), vsnprintf(message, sizeof(message), fmt, args));
    char place[ERR_FIELD_BYTES_MAX];
    cut_at_character(place, sizeof(place), snprintf(place, sizeof(place), "%s", field));
    *err = (struct err){.code = code, .rc = rc};
    memcpy(err->message, message, sizeof(message));
    memcpy(err->field, place, sizeof(place));
    return rc;
}

enum rc err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    enum rc rc = err_fill(err, code, "", fmt, args);
    va_end(args);
    return rc;
}

enum rc err_set_field(struct err *err, enum err_code code, const char *field, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    enum rc rc = err_fill(err, code, field, fmt, args);
    va_end(args);
    return rc;
}

void err_prefix(struct err *err, const char *fmt, ...)
{
    if (err == NULL)
        return;
    char text[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    size_t used = n < 0 ? 0 : MIN((size_t)n, sizeof(text) - 1);
    int rest = snprintf(text + used, sizeof(text) - used, ": %s", err->message);
    cut_at_character(text, sizeof(text), (int)used + rest);
    memcpy(err->message, text, sizeof(text));
}
