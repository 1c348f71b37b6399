/* What arena.c (allocation) and arena_park.c (pages, parking) share. */
#pragma once
#include "base/arena.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)0)
#endif

#define ARENA_PAGE_BYTES       4096
#define ARENA_PARKED_PAGES_MAX 3

/* Head of each block; what is given out stands behind it. */
struct arena_block {
    struct arena_block *next;
    uint32_t bytes; /* with this header */
    uint32_t used;  /* of these; known once a newer block has been taken */
};

_Static_assert(sizeof(struct arena_block) == 16, "what follows the header is aligned");

/* A page of its own; NULL: no memory. Any thread. */
void *arena_page_take(void);
void arena_page_give(void *page);
/* Forgets what is parked, and gives its pages back. */
void arena_drop_parked(struct arena *arena);
/* Frees what compressing needs on this thread. */
void arena_park_thread_exit(void);
