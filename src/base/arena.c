/* Bump allocation for requests. Blocks come in a few sizes, each four times the one before: a
 * request that needs little holds little (thousands of open streams each have an arena), and a
 * large one soon has few, large blocks. Freed blocks stay in a small cache of their thread. Under
 * AddressSanitizer there is no cache and allocations are kept apart, so that it sees what it
 * should. Arenas that may be parked take pages first (arena_park.c). */
#include "base/arena_private.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_GAP_BYTES  16
#define CACHED_BYTES_MAX 0
#else
#define ARENA_GAP_BYTES  0
#define CACHED_BYTES_MAX (512 * 1024) /* per thread and block size */
#endif

#define ARENA_ALIGN 16

_Static_assert(sizeof(struct arena_block) % ARENA_ALIGN == 0, "what follows the header is aligned");

/* A little under the powers of two, which leaves room for malloc's own header. */
static const size_t block_sizes[] = {1008, 4080, 16368, 65520, ARENA_PAGE_BYTES};
#define BLOCK_SIZE_COUNT COUNT_OF(block_sizes)
#define HEAP_SIZE_COUNT  (BLOCK_SIZE_COUNT - 1) /* all but pages */
#define PAGES_MAX        3                      /* of an arena; behind them blocks grow as ever */
_Static_assert(PAGES_MAX <= ARENA_PARKED_PAGES_MAX, "all of them can be parked");

struct block_cache {
    struct arena_block *free[BLOCK_SIZE_COUNT];
    size_t count[BLOCK_SIZE_COUNT];
};
static _Thread_local struct block_cache cache;

static struct arena_block *block_take(size_t bytes)
{
    for (size_t i = 0; i < BLOCK_SIZE_COUNT; i++)
        if (block_sizes[i] == bytes && cache.free[i]) {
            struct arena_block *block = cache.free[i];
            cache.free[i] = block->next;
            cache.count[i]--;
            return block;
        }
    struct arena_block *block = bytes == ARENA_PAGE_BYTES ? arena_page_take() : malloc(bytes);
    if (block)
        *block = (struct arena_block){.bytes = (uint32_t)MIN(bytes, UINT32_MAX)};
    return block;
}

static void block_free(struct arena_block *block)
{
    if (block->bytes == ARENA_PAGE_BYTES)
        arena_page_give(block);
    else
        free(block);
}

static void block_give(struct arena_block *block)
{
    ASAN_UNPOISON_MEMORY_REGION(block, sizeof(*block));
    ASAN_UNPOISON_MEMORY_REGION(block, block->bytes);
    for (size_t i = 0; i < BLOCK_SIZE_COUNT; i++)
        if (block_sizes[i] == block->bytes &&
            (cache.count[i] + 1) * block->bytes <= CACHED_BYTES_MAX) {
            block->next = cache.free[i];
            cache.free[i] = block;
            cache.count[i]++;
            return;
        }
    block_free(block);
}

void arena_thread_exit(void)
{
    for (size_t i = 0; i < BLOCK_SIZE_COUNT; i++)
        while (cache.free[i]) {
            struct arena_block *block = cache.free[i];
            cache.free[i] = block->next;
            cache.count[i]--;
            block_free(block);
        }
    arena_park_thread_exit();
}

void arena_init(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.used_bytes_max = bytes_max};
}

void arena_init_paged(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.used_bytes_max = bytes_max, .paged = true};
}

void arena_reset(struct arena *arena)
{
    if (UNLIKELY(arena->parked != NULL))
        arena_drop_parked(arena);
    while (arena->blocks) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        block_give(block);
    }
    *arena = (struct arena){.used_bytes_max = arena->used_bytes_max, .paged = arena->paged};
}

void arena_fini(struct arena *arena) { arena_reset(arena); }

/* The smallest size that fits and is in proportion to what the arena holds already; larger than all
 * sizes: exactly what is asked for. */
static size_t block_bytes_for(const struct arena *arena, size_t n)
{
    size_t need = sizeof(struct arena_block) + n;
    if (arena->paged && need <= ARENA_PAGE_BYTES &&
        arena->used_bytes < PAGES_MAX * ARENA_PAGE_BYTES)
        return ARENA_PAGE_BYTES;
    for (size_t i = 0; i < HEAP_SIZE_COUNT; i++)
        if (block_sizes[i] >= need &&
            (i + 1 == HEAP_SIZE_COUNT || arena->used_bytes < block_sizes[i] * 2))
            return block_sizes[i];
    return need;
}

static bool arena_grow(struct arena *arena, size_t n)
{
    if (arena->used_bytes >= arena->used_bytes_max)
        return false;
    size_t left = arena->used_bytes_max - arena->used_bytes;
    size_t need = sizeof(struct arena_block) + n;
    size_t bytes = block_bytes_for(arena, n);
    if (bytes > left)
        bytes = need; /* close to the cap: just what is needed */
    if (n > left || need > left)
        return false;
    struct arena_block *block = block_take(bytes);
    if (block == NULL)
        return false;
    if (arena->blocks && arena->at)
        arena->blocks->used = (uint32_t)MIN(arena->at - (char *)arena->blocks, UINT32_MAX);
    block->next = arena->blocks;
    arena->blocks = block;
    arena->used_bytes += bytes;
    arena->at = (char *)(block + 1);
    arena->end = (char *)block + bytes;
    ASAN_POISON_MEMORY_REGION(arena->at, (size_t)(arena->end - arena->at));
    return true;
}

void *arena_alloc(struct arena *arena, size_t n)
{
    if (UNLIKELY(n > arena->used_bytes_max))
        return NULL;
    size_t step = ALIGN_UP(n ? n : 1, ARENA_ALIGN) + ARENA_GAP_BYTES;
    if (step > (size_t)(arena->end - arena->at) && !arena_grow(arena, step))
        return NULL;
    void *p = arena->at;
    arena->at += step;
    ASAN_UNPOISON_MEMORY_REGION(p, n);
    return p;
}

void *arena_calloc(struct arena *arena, size_t n)
{
    void *p = arena_alloc(arena, n);
    return p ? memset(p, 0, n) : NULL;
}

struct str arena_concat(struct arena *arena, struct str a, struct str b)
{
    if (a.n > arena->used_bytes_max || b.n > arena->used_bytes_max)
        return STR_EMPTY;
    char *p = arena_alloc(arena, a.n + b.n + 1);
    if (p == NULL)
        return STR_EMPTY;
    if (a.n)
        memcpy(p, a.p, a.n);
    if (b.n)
        memcpy(p + a.n, b.p, b.n);
    p[a.n + b.n] = '\0';
    return str_make(p, a.n + b.n);
}

struct str arena_copy(struct arena *arena, struct str s)
{
    return arena_concat(arena, s, STR_EMPTY);
}

struct str arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    ASSERT(n >= 0);
    char *p = arena_alloc(arena, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p ? str_make(p, (size_t)n) : STR_EMPTY;
}
