/* A growable byte queue born with its maximum: bytes are appended at the end and consumed at the
 * front. Invariant: 0 <= start <= end <= capacity <= bytes_max. */
#pragma once
#include "base/str.h"

struct buf {
    char *p;
    size_t start, end, capacity;
    size_t bytes_max;
};

void buf_init(struct buf *buf, size_t bytes_max); /* takes no memory yet */
void buf_fini(struct buf *buf);
static inline size_t buf_len(const struct buf *buf) { return buf->end - buf->start; }
static inline struct str buf_str(const struct buf *buf)
{
    return str_make(buf->p + buf->start, buf->end - buf->start);
}
/* RC_LIMIT: the maximum would be passed (nothing is appended). */
enum rc buf_append(struct buf *buf, struct str s) MUST_CHECK;
enum rc buf_append_char(struct buf *buf, char c) MUST_CHECK;
enum rc buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_CHECK;
/* Room for `n` more bytes; *p is where to write, then call buf_added. */
enum rc buf_reserve(struct buf *buf, size_t n, char **p) MUST_CHECK;
void buf_added(struct buf *buf, size_t n);
void buf_consume(struct buf *buf, size_t n); /* n <= buf_len */
void buf_clear(struct buf *buf);             /* keeps the memory */
void buf_release(struct buf *buf);           /* empties and gives the memory back */
