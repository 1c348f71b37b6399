/* What every file may rely on: result codes, assertions, small macros. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The result of anything that can fail. Details for people go into a `struct err` (err.h). */
enum rc {
    RC_OK = 0,
    RC_AGAIN,     /* would block: try again when told that the object is ready */
    RC_END,       /* orderly end of a stream, list or file */
    RC_INVALID,   /* the input breaks a rule; the message names the field and the remedy */
    RC_NOT_FOUND, /* no such object */
    RC_CONFLICT,  /* exists already, or was changed by another */
    RC_DENIED,    /* the principal may not do this */
    RC_LIMIT,     /* a bound was reached: size, count, rate, budget, memory */
    RC_TIMEOUT,   /* a deadline passed */
    RC_CANCELLED, /* the caller no longer wants it */
    RC_CORRUPT,   /* a stored or received checksum or format is wrong */
    RC_FULL,      /* the disk has no space */
    RC_IO,        /* the operating system or the network refused; errno or a message tells */
    RC_DOWN,      /* an upstream, engine or child is not available */
    RC_BUG,       /* an invariant of ours is broken, met where we can still answer */
};

const char *rc_name(enum rc rc);

#define MUST_CHECK                      __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args)          __attribute__((format(printf, fmt, args)))
#define NORETURN                        __attribute__((noreturn))
#define UNUSED(x)                       ((void)(x))
#define COUNT_OF(array)                 (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define ALIGN_UP(n, a)                  (((n) + ((a) - 1)) & ~((size_t)(a) - 1))
#define CACHE_LINE_BYTES                64

/* Assertions stay on in release: they state what must be true, and stop the process with the place
 * and the expression where it is not. */
NORETURN void assert_failed(const char *expression, const char *file, int line, const char *func);
#define ASSERT(x)     (LIKELY(x) ? (void)0 : assert_failed(#x, __FILE__, __LINE__, __func__))
#define UNREACHABLE() assert_failed("unreachable", __FILE__, __LINE__, __func__)

/* Run-time type check for objects that pass through a `void *`: the first field is `uint32_t
 * magic`. */
#define CHECK_MAGIC(object, value) ASSERT((object) != NULL && (object)->magic == (value))

/* Process-lifetime memory. These stop the process when memory is exhausted: use them only for
 * objects whose number and size are bounded by configuration, never for a size from outside. */
void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull, alloc_size(1)));
void *xcalloc(size_t count, size_t n) __attribute__((malloc, returns_nonnull, alloc_size(1, 2)));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull, alloc_size(2)));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
