/* The walk through the graph. A node's record holds its code and its links, so that a hop reads few
 * cache lines; the records of all neighbours that are new are asked for before the first is used.
 *
 * What is read from a file may be damaged: links are checked against the count, degrees against
 * their bound, and a distance that is no number is never kept. */
#include "vector/dense_private.h"
#include <float.h>
#include <stdlib.h>
#include <string.h>

#define EXPAND 2 /* nodes expanded together: more requests to memory at once */

static void seen_clear(struct dense_scratch *scratch, size_t nodes)
{
    size_t words = (nodes + 63) / 64;
    if (scratch->seen_words < words) {
        scratch->seen = xrealloc(scratch->seen, words * sizeof(scratch->seen[0]));
        scratch->seen_words = words;
    }
    memset(scratch->seen, 0, words * sizeof(scratch->seen[0]));
}

static bool seen_first(struct dense_scratch *scratch, uint32_t node)
{
    uint64_t *word = &scratch->seen[node / 64], bit = 1ULL << (node % 64);
    if (*word & bit)
        return false;
    *word |= bit;
    return true;
}

/* Neighbours met for the first time are added to `nodes`. */
static size_t collect_links(const struct codes *codes, struct dense_scratch *scratch, uint32_t node,
                            uint32_t *nodes, size_t count)
{
    const uint32_t *links = codes_links(codes, node);
    size_t degree = MIN(codes_record(codes, node)->degree, codes->degree_max);
    for (size_t i = 0; i < degree; i++) {
        uint32_t link = links[i];
        if (link >= codes->count || !seen_first(scratch, link))
            continue;
        prefetch_lines(codes_record(codes, link), codes->links_at);
        nodes[count++] = link;
    }
    return count;
}

/* Into the sorted pool, whose last is dropped when it is full; returns the place, or `keep`. */
static size_t pool_insert(struct dense_scratch *scratch, size_t keep, float distance, uint32_t node)
{
    struct found *pool = scratch->pool;
    size_t low = 0, high = scratch->pool_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (pool[middle].distance <= distance)
            low = middle + 1;
        else
            high = middle;
    }
    if (low >= keep)
        return keep;
    size_t last = MIN(scratch->pool_count, keep - 1);
    memmove(pool + low + 1, pool + low, (last - low) * sizeof(pool[0]));
    pool[low] = (struct found){distance, node};
    scratch->pool_count = last + 1;
    return low;
}

static float pool_worst(const struct dense_scratch *scratch, size_t keep)
{
    return scratch->pool_count < keep ? FLT_MAX : scratch->pool[keep - 1].distance;
}

/* Estimates and keeps; returns the best place that was taken. */
static size_t pool_add(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
                       const uint32_t *nodes, size_t count)
{
    float distances[CODES_BATCH_MAX];
    size_t best = keep;
    codes_estimate(codes, &scratch->query, nodes, count, distances);
    scratch->evaluated += count;
    for (size_t i = 0; i < count; i++) {
        if (!(distances[i] < pool_worst(scratch, keep)))
            continue;
        size_t place = pool_insert(scratch, keep, distances[i], nodes[i]);
        best = MIN(best, place);
    }
    return best;
}

static void add_entries(const struct codes *codes, struct dense_scratch *scratch, size_t keep,
                        uint32_t hidden)
{
    uint32_t nodes[CODES_BATCH_MAX];
    size_t count = 0;
    if (hidden != NODE_NONE)
        seen_first(scratch, hidden);
    for (uint32_t node = 0; node < codes->entries && node < codes->count; node++) {
        if (!seen_first(scratch, node))
            continue;
        nodes[count++] = node;
        prefetch_lines(codes_record(codes, node), codes->links_at);
        if (count == CODES_BATCH_MAX) {
            pool_add(codes, scratch, keep, nodes, count);
            count = 0;
        }
    }
    pool_add(codes, scratch, keep, nodes, count);
}

void walk(const struct codes *codes, struct dense_scratch *scratch, size_t beam, size_t keep,
                uint32_t hidden)
{
    scratch_reserve(scratch, keep);
    seen_clear(scratch, codes->count);
    add_entries(codes, scratch, keep, hidden);
    struct found *pool = scratch->pool;
    size_t next = 0;
    for (;;) {
        uint32_t nodes[CODES_BATCH_MAX];
        size_t count = 0, expanded = 0;
        for (; next < MIN(scratch->pool_count, beam) && expanded < EXPAND; next++) {
            if (pool[next].node & FOUND_EXPANDED)
                continue;
            count = collect_links(codes, scratch, pool[next].node, nodes, count);
            pool[next].node |= FOUND_EXPANDED;
            expanded++;
        }
        if (expanded == 0)
            break;
        for (size_t i = next; i < MIN(scratch->pool_count, beam) && i < next + EXPAND; i++)
            prefetch_lines(codes_links(codes, pool[i].node & ~FOUND_EXPANDED),
                           codes->stride - codes->links_at);
        size_t best = pool_add(codes, scratch, keep, nodes, count);
        next = MIN(next, best);
    }
    for (size_t i = 0; i < scratch->pool_count; i++)
        pool[i].node &= ~FOUND_EXPANDED;
}

/* ---- with a filter ---- */

static void heap_push(struct dense_scratch *scratch, struct found item)
{
    if (scratch->heap_count == scratch->heap_max) {
        scratch->heap_max = MAX(2 * scratch->heap_max, 1024);
        scratch->heap = xrealloc(scratch->heap, scratch->heap_max * sizeof(item));
    }
    struct found *heap = scratch->heap;
    size_t at = scratch->heap_count++;
    for (; at > 0 && heap[(at - 1) / 2].distance > item.distance; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = item;
}

static struct found heap_pop(struct dense_scratch *scratch)
{
    struct found *heap = scratch->heap, top = heap[0], item = heap[--scratch->heap_count];
    size_t at = 0, count = scratch->heap_count;
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && heap[child + 1].distance < heap[child].distance;
        if (heap[child].distance >= item.distance)
            break;
        heap[at] = heap[child];
    }
    heap[at] = item;
    return top;
}

static bool is_allowed(const uint64_t *allowed, uint32_t slot, uint32_t count)
{
    return slot < count && (allowed[slot / 64] >> (slot % 64) & 1);
}

static void frontier_add(const struct codes *codes, struct dense_scratch *scratch, size_t beam,
                         size_t keep, const uint64_t *allowed, const uint32_t *nodes, size_t count)
{
    float distances[CODES_BATCH_MAX];
    codes_estimate(codes, &scratch->query, nodes, count, distances);
    scratch->evaluated += count;
    for (size_t i = 0; i < count; i++) {
        if (distances[i] < pool_worst(scratch, beam))
            heap_push(scratch, (struct found){distances[i], nodes[i]});
        if (distances[i] < pool_worst(scratch, keep) &&
            is_allowed(allowed, codes_record(codes, nodes[i])->slot, codes->count))
            pool_insert(scratch, keep, distances[i], nodes[i]);
    }
}

bool walk_allowed(const struct codes *codes, struct dense_scratch *scratch, size_t beam,
                        size_t keep, const uint64_t *allowed, uint64_t estimates_max)
{
    uint32_t nodes[CODES_BATCH_MAX];
    scratch_reserve(scratch, keep);
    seen_clear(scratch, codes->count);
    scratch->heap_count = 0;
    size_t count = 0;
    for (uint32_t node = 0; node < codes->entries && node < codes->count; node++)
        if (seen_first(scratch, node))
            nodes[count++] = node;
    frontier_add(codes, scratch, beam, keep, allowed, nodes, count);
    while (scratch->heap_count > 0 && scratch->evaluated < estimates_max) {
        count = 0;
        for (size_t i = 0; i < EXPAND && scratch->heap_count > 0; i++) {
            struct found nearest = heap_pop(scratch);
            if (nearest.distance > pool_worst(scratch, beam))
                return true;
            count = collect_links(codes, scratch, nearest.node, nodes, count);
        }
        frontier_add(codes, scratch, beam, keep, allowed, nodes, count);
    }
    return scratch->heap_count == 0;
}
