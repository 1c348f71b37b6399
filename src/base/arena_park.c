/* Pages for arenas, and parking: while a call's stream flows, its request is not looked at, yet the
 * record at its end needs it. The pages' contents are compressed and the pages given back to the
 * system (MADV_DONTNEED); waking writes them to the same addresses, so no pointer changes. In a
 * thousand open streams that is two thirds of what each would hold.
 *
 * Pages come from chunks that are never unmapped; a page that is free holds no memory, but for a
 * few that each thread keeps warm, since a call takes one and gives it back. Under AddressSanitizer
 * parked pages stay, poisoned, so that it sees who touches them; without it such a reader would see
 * zeros. */
#include "base/arena_private.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zstd.h>

#define CHUNK_PAGES 1024
#define WARM_PAGES                                                                                 \
    64 /* kept by each thread with their memory: most calls take one and give it back */
#define PACKED_LEVEL 1
#define PLAIN_BYTES  (ARENA_PARKED_PAGES_MAX * ARENA_PAGE_BYTES)

static struct {
    pthread_mutex_t mutex;
    void **free; /* pages that hold no memory */
    size_t free_count, page_count;
} pages = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    void *pages[WARM_PAGES];
    size_t count;
} warm;

struct arena_parked {
    struct arena_block
        *pages[ARENA_PARKED_PAGES_MAX];    /* as they stood in the arena, newest first */
    uint16_t used[ARENA_PARKED_PAGES_MAX]; /* bytes of each, header included */
    uint16_t count;
    uint32_t packed_bytes;
    unsigned char packed[];
};

/* What compressing needs; made at a thread's first use. */
struct packer {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
    char plain[PLAIN_BYTES];
    char packed[ZSTD_COMPRESSBOUND(PLAIN_BYTES)];
};
static _Thread_local struct packer *packer;

/* ---- pages ---- */

static bool add_chunk(void)
{
    void **list = realloc(pages.free, (pages.page_count + CHUNK_PAGES) * sizeof(*list));
    if (!list)
        return false;
    pages.free = list;
    char *chunk = mmap(NULL, (size_t)CHUNK_PAGES * ARENA_PAGE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return false;
    madvise(chunk, (size_t)CHUNK_PAGES * ARENA_PAGE_BYTES, MADV_NOHUGEPAGE);
    pages.page_count += CHUNK_PAGES;
    for (size_t i = CHUNK_PAGES; i-- > 0;)
        pages.free[pages.free_count++] = chunk + i * ARENA_PAGE_BYTES;
    return true;
}

void *arena_page_take(void)
{
    if (warm.count)
        return warm.pages[--warm.count];
    pthread_mutex_lock(&pages.mutex);
    void *page = pages.free_count || add_chunk() ? pages.free[--pages.free_count] : NULL;
    pthread_mutex_unlock(&pages.mutex);
    return page;
}

static void page_empty(void *page) { madvise(page, ARENA_PAGE_BYTES, MADV_DONTNEED); }

static void page_free(void *page)
{
    page_empty(page);
    pthread_mutex_lock(&pages.mutex);
    ASSERT(pages.free_count < pages.page_count);
    pages.free[pages.free_count++] = page;
    pthread_mutex_unlock(&pages.mutex);
}

void arena_page_give(void *page)
{
    if (warm.count < WARM_PAGES)
        warm.pages[warm.count++] = page;
    else
        page_free(page);
}

/* ---- parking ---- */

static bool packer_ready(void)
{
    if (packer)
        return true;
    struct packer *made = malloc(sizeof(*made));
    if (!made)
        return false;
    made->pack = ZSTD_createCCtx();
    made->unpack = ZSTD_createDCtx();
    packer = made;
    if (made->pack && made->unpack)
        return true;
    arena_park_thread_exit();
    return false;
}

void arena_park_thread_exit(void)
{
    while (warm.count)
        page_free(warm.pages[--warm.count]);
    if (!packer)
        return;
    ZSTD_freeCCtx(packer->pack);
    ZSTD_freeDCtx(packer->unpack);
    free(packer);
    packer = NULL;
}

/* Fills pages, used and count; how many bytes they hold. */
static size_t gather(const struct arena *arena, struct arena_parked *parked)
{
    size_t n = 0;
    for (struct arena_block *block = arena->blocks; block; block = block->next) {
        if (block->bytes != ARENA_PAGE_BYTES || parked->count == ARENA_PARKED_PAGES_MAX)
            continue;
        bool newest = block == arena->blocks && arena->at;
        size_t used = newest ? (size_t)(arena->at - (char *)block) : block->used;
        ASSERT(used <= ARENA_PAGE_BYTES);
        ASAN_UNPOISON_MEMORY_REGION(block, used);
        memcpy(packer->plain + n, block, used);
        parked->pages[parked->count] = block;
        parked->used[parked->count++] = (uint16_t)used;
        n += used;
    }
    return n;
}

bool arena_park(struct arena *arena)
{
    struct arena_parked head = {.count = 0};
    if (!arena->paged || arena->parked || !packer_ready())
        return false;
    size_t n = gather(arena, &head);
    if (head.count == 0)
        return false;
    size_t packed = ZSTD_compressCCtx(packer->pack, packer->packed, sizeof(packer->packed),
                                      packer->plain, n, PACKED_LEVEL);
    struct arena_parked *parked = ZSTD_isError(packed) ? NULL : malloc(sizeof(*parked) + packed);
    if (!parked)
        return false;
    *parked = head;
    parked->packed_bytes = (uint32_t)packed;
    memcpy(parked->packed, packer->packed, packed);

    struct arena_block **link = &arena->blocks;
    while (*link) { /* the pages leave the list: it goes through their heads */
        struct arena_block *block = *link;
        if (block->bytes == ARENA_PAGE_BYTES)
            *link = block->next;
        else
            link = &block->next;
    }
    for (size_t i = 0; i < parked->count; i++) {
#if defined(__SANITIZE_ADDRESS__)
        memset(parked->pages[i], 0, parked->used[i]);
        ASAN_POISON_MEMORY_REGION(parked->pages[i], ARENA_PAGE_BYTES);
#else
        page_empty(parked->pages[i]);
#endif
    }
    arena->parked = parked;
    arena->at = arena->end = NULL; /* what is wanted meanwhile goes into a new block */
    return true;
}

void arena_wake(struct arena *arena)
{
    struct arena_parked *parked = arena->parked;
    if (LIKELY(!parked))
        return;
    bool ready = packer_ready();
    ASSERT(ready); /* it was, for parking, on this thread */
    size_t n = 0, at = 0;
    for (size_t i = 0; i < parked->count; i++)
        n += parked->used[i];
    size_t got = ZSTD_decompressDCtx(packer->unpack, packer->plain, sizeof(packer->plain),
                                     parked->packed, parked->packed_bytes);
    ASSERT(got == n);
    struct arena_block **tail = &arena->blocks;
    while (*tail)
        tail = &(*tail)->next;
    for (size_t i = 0; i < parked->count; i++) {
        struct arena_block *page = parked->pages[i];
        ASAN_UNPOISON_MEMORY_REGION(page, ARENA_PAGE_BYTES);
        memcpy(page, packer->plain + at, parked->used[i]);
        at += parked->used[i];
        page->used = parked->used[i];
        page->next = NULL;
        *tail = page;
        tail = &page->next;
    }
    arena->parked = NULL;
    free(parked);
}

void arena_drop_parked(struct arena *arena)
{
    struct arena_parked *parked = arena->parked;
    for (size_t i = 0; i < parked->count; i++) {
        ASAN_UNPOISON_MEMORY_REGION(parked->pages[i], ARENA_PAGE_BYTES);
        arena_page_give(parked->pages[i]);
    }
    arena->parked = NULL;
    free(parked);
}
