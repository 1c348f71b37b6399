/* Estimates by codes, scans over all of them, and the second look by 8-bit codes. */
#include "vector/dense_private.h"
#include <float.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES (2u << 20)

void *pages_new(size_t bytes)
{
    size_t rounded = ALIGN_UP(MAX(bytes, 1), HUGE_PAGE_BYTES);
    void *p = mmap(NULL, rounded, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(p != MAP_FAILED);
    madvise(p, rounded, MADV_HUGEPAGE);
    return p;
}

void pages_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, ALIGN_UP(MAX(bytes, 1), HUGE_PAGE_BYTES));
}

/* ---- scratch ---- */

struct dense_scratch *dense_scratch_new(void) { return xcalloc(1, sizeof(struct dense_scratch)); }

void dense_scratch_free(struct dense_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->codes);
    free(scratch->seen);
    free(scratch->pool);
    free(scratch->heap);
    free(scratch->slots);
    free(scratch);
}

struct query_codes *scratch_query(struct dense_scratch *scratch, unsigned padded)
{
    if (scratch->padded != padded) {
        free(scratch->codes);
        scratch->codes =
            aligned_alloc(CACHE_LINE_BYTES, ALIGN_UP(query_codes_bytes(padded), CACHE_LINE_BYTES));
        ASSERT(scratch->codes);
        query_codes_place(&scratch->query, padded, scratch->codes);
        scratch->padded = padded;
    }
    return &scratch->query;
}

void scratch_reserve(struct dense_scratch *scratch, size_t pool_max)
{
    if (scratch->pool_max < pool_max) {
        scratch->pool = xrealloc(scratch->pool, 2 * pool_max * sizeof(scratch->pool[0]));
        scratch->pool_max = pool_max;
    }
    scratch->pool_count = 0;
    scratch->evaluated = 0;
    scratch->worst = FLT_MAX;
}

uint32_t *scratch_slots(struct dense_scratch *scratch, size_t count)
{
    if (scratch->slots_max < count) {
        scratch->slots = xrealloc(scratch->slots, count * sizeof(scratch->slots[0]));
        scratch->slots_max = count;
    }
    return scratch->slots;
}

/* ---- estimates ---- */

size_t codes_stride(const struct codec *codec, unsigned degree_max)
{
    return ALIGN_UP(sizeof(struct record) + guide_bytes(codec->padded, codec->guide_bits) +
                        degree_max * sizeof(uint32_t),
                    CACHE_LINE_BYTES);
}

void codes_shape(struct codes *codes, const struct codec *codec, unsigned degree_max, size_t stride)
{
    *codes = (struct codes){
        .codec = codec,
        .stride = stride,
        .degree_max = degree_max,
        .links_at = sizeof(struct record) + guide_bytes(codec->padded, codec->guide_bits),
    };
    ASSERT(stride >= codes_stride(codec, degree_max));
}

void codes_estimate(const struct codes *codes, const struct query_codes *query,
                    const uint32_t *nodes, size_t count, float *distances)
{
    const struct kernels *kernels = codes->codec->kernels;
    const uint8_t *first = codes->records + sizeof(struct record);
    unsigned padded = codes->codec->padded;
    int32_t sums[CODES_BATCH_MAX];
    if (codes->codec->guide_bits == 1)
        kernels->dot_1bit_rows(query->planes, first, codes->stride, nodes, count, padded, sums);
    else
        kernels->dot_4bit_rows(query->bytes, first, codes->stride, nodes, count, padded, sums);
    for (size_t i = 0; i < count; i++) {
        const struct record *record = codes_record(codes, nodes[i]);
        float product = query->guide_scale * (float)sums[i] +
                        query->guide_set_scale * (float)record->bits_set + query->guide_offset;
        distances[i] = query->norm2 + record->norm2 + record->factor * product;
    }
}

void codes_estimate_fine(const struct codes *codes, const struct query_codes *query,
                         const uint32_t *nodes, size_t count, float *distances)
{
    unsigned padded = codes->codec->padded;
    int32_t sums[CODES_BATCH_MAX];
    codes->codec->kernels->dot_i8_rows(query->bytes, (const uint8_t *)codes->fine, padded, nodes,
                                       count, padded, sums);
    for (size_t i = 0; i < count; i++) {
        float norm2, fine;
        if (codes->records) {
            const struct record *record = codes_record(codes, nodes[i]);
            norm2 = record->norm2;
            fine = record->fine;
        } else {
            const float *factors = (const float *)(codes->blocks + nodes[i] / KERNEL_BLOCK_VECTORS *
                                                                       block_bytes(padded));
            norm2 = factors[nodes[i] % KERNEL_BLOCK_VECTORS];
            fine = factors[2 * KERNEL_BLOCK_VECTORS + nodes[i] % KERNEL_BLOCK_VECTORS];
        }
        distances[i] = query->norm2 + norm2 + fine * (query->fine_scale * (float)sums[i]);
    }
}

void refine(const struct codes *codes, struct dense_scratch *scratch, size_t look)
{
    struct found *pool = scratch->pool;
    unsigned padded = codes->codec->padded;
    scratch->pool_count = MIN(scratch->pool_count, look);
    for (size_t at = 0; at < scratch->pool_count; at += CODES_BATCH_MAX) {
        uint32_t nodes[CODES_BATCH_MAX];
        float distances[CODES_BATCH_MAX];
        size_t count = MIN(scratch->pool_count - at, CODES_BATCH_MAX);
        for (size_t i = 0; i < count; i++) {
            nodes[i] = pool[at + i].node;
            prefetch_lines(codes->fine + (size_t)nodes[i] * padded, padded);
        }
        codes_estimate_fine(codes, &scratch->query, nodes, count, distances);
        for (size_t i = 0; i < count; i++)
            pool[at + i].distance = distances[i];
    }
    found_sort(pool, scratch->pool_count, pool + scratch->pool_max);
}

/* ---- ordering ---- */

#define RUN 16

/* Merge sort: what a walk found is nearly in order. */
void found_sort(struct found *items, size_t count, struct found *spare)
{
    for (size_t start = 0; start < count; start += RUN)
        for (size_t i = start + 1; i < MIN(start + RUN, count); i++) {
            struct found item = items[i];
            size_t at = i;
            for (; at > start && items[at - 1].distance > item.distance; at--)
                items[at] = items[at - 1];
            items[at] = item;
        }
    for (size_t width = RUN; width < count; width *= 2)
        for (size_t start = 0; start + width < count; start += 2 * width) {
            size_t end = MIN(start + 2 * width, count), a = 0, b = start + width, out = start;
            memcpy(spare, items + start, width * sizeof(items[0]));
            while (a < width && b < end)
                items[out++] = items[b].distance < spare[a].distance ? items[b++] : spare[a++];
            while (a < width)
                items[out++] = spare[a++];
        }
}

void found_select(struct found *items, size_t total, size_t count)
{
    size_t low = 0, high = total;
    while (high - low > 1 && count > low && count < high) {
        float pivot = items[low + (high - low) / 2].distance;
        size_t less = low, equal = low, more = high;
        while (equal < more) {
            struct found item = items[equal];
            if (item.distance < pivot) {
                items[equal++] = items[less];
                items[less++] = item;
            } else if (item.distance > pivot) {
                items[equal] = items[--more];
                items[more] = item;
            } else {
                equal++;
            }
        }
        if (count <= less)
            high = less;
        else if (count >= more)
            low = more;
        else
            return;
    }
}

/* ---- scans ---- */

static void scan_keep(struct dense_scratch *scratch, size_t keep, float distance, uint32_t node)
{
    if (!(distance < scratch->worst))
        return;
    struct found *pool = scratch->pool;
    pool[scratch->pool_count++] = (struct found){distance, node};
    if (scratch->pool_count < 2 * keep)
        return;
    found_select(pool, scratch->pool_count, keep);
    scratch->pool_count = keep;
    scratch->worst = pool[0].distance;
    for (size_t i = 1; i < keep; i++)
        scratch->worst = MAX(scratch->worst, pool[i].distance);
}

static void scan_begin(struct dense_scratch *scratch, size_t keep)
{
    scratch_reserve(scratch, 2 * keep); /* half for candidates, half for sorting */
}

static void scan_end(struct dense_scratch *scratch, size_t keep)
{
    if (scratch->pool_count > keep) {
        found_select(scratch->pool, scratch->pool_count, keep);
        scratch->pool_count = keep;
    }
    found_sort(scratch->pool, scratch->pool_count, scratch->pool + scratch->pool_max);
}

static void scan_blocks(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
                        const uint64_t *allowed)
{
    const struct query_codes *query = &scratch->query;
    const struct kernels *kernels = codes->codec->kernels;
    unsigned padded = codes->codec->padded;
    size_t bytes = block_bytes(padded);
    for (uint32_t first = 0; first < codes->count; first += KERNEL_BLOCK_VECTORS) {
        uint32_t rest = codes->count - first, wanted = UINT32_MAX;
        if (rest < KERNEL_BLOCK_VECTORS)
            wanted = (1u << rest) - 1;
        if (allowed)
            wanted &= (uint32_t)(allowed[first / 64] >> (first % 64));
        if (wanted == 0)
            continue;
        const uint8_t *block = codes->blocks + first / KERNEL_BLOCK_VECTORS * bytes;
        const float *factors = (const float *)block;
        uint16_t sums[KERNEL_BLOCK_VECTORS];
        float distances[KERNEL_BLOCK_VECTORS];
        kernels->scan_block(query->tables, block + BLOCK_FACTORS * KERNEL_BLOCK_VECTORS * 4,
                            padded / KERNEL_GROUP_BITS, sums);
        if (!kernels->block_distances(factors, sums, query->table_scale, query->table_offset,
                                      query->norm2, scratch->worst, distances))
            continue;
        for (; wanted; wanted &= wanted - 1) {
            unsigned at = (unsigned)__builtin_ctz(wanted);
            scan_keep(scratch, keep, distances[at], first + at);
        }
    }
}

#define SCAN_BATCH 64 /* asked for before the first is used */

struct scan_batch {
    const struct codes *codes;
    struct dense_scratch *scratch;
    size_t keep, count;
    bool fine;
    uint32_t nodes[CODES_BATCH_MAX];
};

static void scan_flush(struct scan_batch *batch)
{
    float distances[CODES_BATCH_MAX];
    const struct query_codes *query = &batch->scratch->query;
    if (batch->fine)
        codes_estimate_fine(batch->codes, query, batch->nodes, batch->count, distances);
    else
        codes_estimate(batch->codes, query, batch->nodes, batch->count, distances);
    for (size_t i = 0; i < batch->count; i++)
        scan_keep(batch->scratch, batch->keep, distances[i], batch->nodes[i]);
    batch->count = 0;
}

static void scan_node(struct scan_batch *batch, uint32_t node)
{
    const struct codes *codes = batch->codes;
    if (node >= codes->count)
        return;
    if (batch->fine)
        prefetch_lines(codes->fine + (size_t)node * codes->codec->padded, codes->codec->padded);
    else
        prefetch_lines(codes_record(codes, node), codes->links_at);
    batch->nodes[batch->count++] = node;
    if (batch->count == SCAN_BATCH)
        scan_flush(batch);
}

static void scan_rows(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
                      const uint64_t *allowed, bool fine)
{
    struct scan_batch batch = {.codes = codes, .scratch = scratch, .keep = keep, .fine = fine};
    if (!allowed)
        for (uint32_t node = 0; node < codes->count; node++)
            scan_node(&batch, node);
    for (uint32_t first = 0; allowed && first < codes->count; first += 64) {
        uint64_t wanted = allowed[first / 64];
        for (; wanted; wanted &= wanted - 1) {
            uint32_t slot = first + (uint32_t)__builtin_ctzll(wanted);
            if (slot < codes->count)
                scan_node(&batch, codes->nodes ? codes->nodes[slot] : slot);
        }
    }
    scan_flush(&batch);
}

void scan(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
          const uint64_t *allowed)
{
    scan_begin(scratch, keep);
    if (codes->records)
        scan_rows(codes, scratch, keep, allowed, false);
    else
        scan_blocks(codes, scratch, keep, allowed);
    scan_end(scratch, keep);
}

void scan_fine(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
               const uint64_t *allowed)
{
    scan_begin(scratch, keep);
    scan_rows(codes, scratch, keep, allowed, true);
    scan_end(scratch, keep);
}
