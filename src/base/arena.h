/* Request-lifetime memory: a bump allocator over blocks with a hard cap, freed all at once. Blocks
 * come from a per-thread cache. Not thread-safe: an arena is used by one thread at a time. */
#pragma once
#include "base/str.h"

struct arena_block;
struct arena_parked;

struct arena {
    struct arena_block *blocks; /* newest first */
    char *at, *end;             /* free part of the newest block */
    size_t used_bytes;          /* sum of the blocks' sizes */
    size_t used_bytes_max;
    bool paged;                  /* its small blocks are pages: it can be parked */
    struct arena_parked *parked; /* what stood in them; NULL: it is not parked */
};

/* No memory is taken before the first allocation. */
void arena_init(struct arena *arena, size_t bytes_max);
/* The same for one that may be parked. */
void arena_init_paged(struct arena *arena, size_t bytes_max);
/* For who waits long with texts that are not looked at meanwhile: the contents are compressed and
 * their pages given back to the system. Until arena_wake nothing of them may be touched; what is
 * allocated meanwhile is not parked. Costs some 20 us. False: nothing was done (the arena is not
 * paged, holds no page, or is parked already). */
bool arena_park(struct arena *arena);
/* All stands where it stood. Harmless when the arena is not parked. */
void arena_wake(struct arena *arena);
/* Gives all memory back; the arena can be used again. */
void arena_reset(struct arena *arena);
void arena_fini(struct arena *arena);
/* Gives the calling thread's cached blocks back to the system, before the thread ends. */
void arena_thread_exit(void);
/* 16-byte aligned, not cleared; NULL when the cap would be passed: answer 413 or 503. */
void *arena_alloc(struct arena *arena, size_t n) MUST_CHECK;
void *arena_calloc(struct arena *arena, size_t n) MUST_CHECK;
#define ARENA_NEW(arena, type)              ((type *)arena_calloc((arena), sizeof(type)))
#define ARENA_NEW_ARRAY(arena, type, count) ((type *)arena_calloc((arena), sizeof(type) * (count)))
/* Copies end with a NUL that is not counted; .p is NULL when the cap would be passed. */
struct str arena_copy(struct arena *arena, struct str s) MUST_CHECK;
struct str arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_CHECK;
/* Both texts joined. */
struct str arena_concat(struct arena *arena, struct str a, struct str b) MUST_CHECK;
