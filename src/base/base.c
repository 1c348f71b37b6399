/* Result names, the assertion that stops the process, and memory whose exhaustion does the same.
 * Any thread. What is written here on the way down uses no heap and no lock: either may be what
 * broke. */
#include "base/base.h"
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *rc_name(enum rc rc)
{
    static const char *const names[] = {
        [RC_OK] = "ok",
        [RC_AGAIN] = "again",
        [RC_END] = "end",
        [RC_INVALID] = "invalid",
        [RC_NOT_FOUND] = "not found",
        [RC_CONFLICT] = "conflict",
        [RC_DENIED] = "denied",
        [RC_LIMIT] = "limit",
        [RC_TIMEOUT] = "timeout",
        [RC_CANCELLED] = "cancelled",
        [RC_CORRUPT] = "corrupt",
        [RC_FULL] = "no space",
        [RC_IO] = "input/output error",
        [RC_DOWN] = "down",
        [RC_BUG] = "bug",
    };
    return (size_t)rc < COUNT_OF(names) ? names[rc] : "unknown";
}

#define CRASH_FRAMES_MAX 48

/* One line that log readers can parse, then the stack for people. */
static NORETURN void crash(const char *event, const char *what, const char *file, int line,
                           const char *func)
{
    char report[1024];
    int n =
        snprintf(report, sizeof(report),
                 "{\"level\":\"error\",\"event\":\"%s\",\"what\":\"%.256s\",\"file\":\"%.256s\","
                 "\"line\":%d,\"function\":\"%.128s\",\"version\":\"" CAPSTAN_VERSION "\"}\n",
                 event, what, file, line, func);
    ssize_t written = n > 0 ? write(STDERR_FILENO, report, (size_t)n) : 0;
    UNUSED(written);
    void *frames[CRASH_FRAMES_MAX];
    backtrace_symbols_fd(frames, backtrace(frames, CRASH_FRAMES_MAX), STDERR_FILENO);
    abort();
}

void assert_failed(const char *expression, const char *file, int line, const char *func)
{
    char plain[256];
    size_t n = strnlen(expression, sizeof(plain) - 1);
    for (size_t i = 0; i < n; i++) /* what would need escaping in JSON */
        plain[i] = expression[i] == '"' ? '\'' : expression[i] == '\\' ? '/' : expression[i];
    plain[n] = '\0';
    crash("assertion_failed", plain, file, line, func);
}

static void *or_crash(void *p)
{
    if (UNLIKELY(p == NULL))
        crash("out_of_memory", "allocation", __FILE__, __LINE__, "xmalloc");
    return p;
}

void *xmalloc(size_t n) { return or_crash(malloc(n ? n : 1)); }

void *xcalloc(size_t count, size_t n) { return or_crash(calloc(count ? count : 1, n ? n : 1)); }

void *xrealloc(void *p, size_t n) { return or_crash(realloc(p, n ? n : 1)); }

char *xstrdup(const char *s) { return or_crash(strdup(s)); }
