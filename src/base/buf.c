/* A byte queue in one piece of memory. It grows by doubling up to the maximum it was born with;
 * what was consumed at the front is reclaimed by moving the rest only when that is cheaper than
 * growing. */
#include "base/buf.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_BYTES_MIN 256

static void buf_check(const struct buf *buf)
{
    ASSERT(buf->start <= buf->end && buf->end <= buf->capacity && buf->capacity <= buf->bytes_max);
}

void buf_init(struct buf *buf, size_t bytes_max) { *buf = (struct buf){.bytes_max = bytes_max}; }

void buf_fini(struct buf *buf)
{
    free(buf->p);
    *buf = (struct buf){0};
}

static bool buf_resize(struct buf *buf, size_t capacity)
{
    char *p = malloc(capacity);
    if (p == NULL)
        return false;
    size_t n = buf_len(buf);
    if (n)
        memcpy(p, buf->p + buf->start, n);
    free(buf->p);
    buf->p = p;
    buf->start = 0;
    buf->end = n;
    buf->capacity = capacity;
    return true;
}

enum rc buf_reserve(struct buf *buf, size_t n, char **p)
{
    buf_check(buf);
    size_t len = buf_len(buf);
    if (UNLIKELY(n > buf->bytes_max - len))
        return RC_LIMIT;
    if (UNLIKELY(n > buf->capacity - buf->end || buf->p == NULL)) {
        if (n <= buf->capacity - len && buf->start >= len && buf->p) {
            memmove(buf->p, buf->p + buf->start, len);
            buf->start = 0;
            buf->end = len;
        } else {
            size_t capacity = MAX(buf->capacity, (size_t)BUF_BYTES_MIN);
            while (capacity < len + n)
                capacity *= 2;
            if (!buf_resize(buf, MIN(capacity, MAX(buf->bytes_max, len + n))))
                return RC_LIMIT;
        }
    }
    *p = buf->p + buf->end;
    return RC_OK;
}

void buf_added(struct buf *buf, size_t n)
{
    ASSERT(n <= buf->capacity - buf->end);
    buf->end += n;
}

void buf_consume(struct buf *buf, size_t n)
{
    ASSERT(n <= buf_len(buf));
    buf->start += n;
    if (buf->start == buf->end)
        buf->start = buf->end = 0;
}

enum rc buf_append(struct buf *buf, struct str s)
{
    char *p;
    enum rc rc = buf_reserve(buf, s.n, &p);
    if (rc != RC_OK)
        return rc;
    if (s.n)
        memcpy(p, s.p, s.n);
    buf->end += s.n;
    return RC_OK;
}

enum rc buf_append_char(struct buf *buf, char c) { return buf_append(buf, str_make(&c, 1)); }

enum rc buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    size_t room = buf->capacity - buf->end;
    int n = vsnprintf(buf->p ? buf->p + buf->end : NULL, room, fmt, args);
    va_end(args);
    ASSERT(n >= 0);
    enum rc rc = RC_OK;
    if ((size_t)n >= room) { /* vsnprintf also wants room for a NUL */
        char *p;
        rc = buf_reserve(buf, (size_t)n + 1, &p);
        if (rc == RC_OK)
            vsnprintf(p, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    if (rc == RC_OK)
        buf->end += (size_t)n;
    return rc;
}

void buf_clear(struct buf *buf) { buf->start = buf->end = 0; }

void buf_release(struct buf *buf)
{
    free(buf->p);
    buf_init(buf, buf->bytes_max);
}
