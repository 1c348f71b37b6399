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

struct walk_limits walk_limits_of(size_t k, double reach_thousandths)
{
    return (struct walk_limits){.k = k,
                                .reach = (float)(reach_thousandths / 1000),
                                .beam = SIZE_MAX,
                                .keep = MAX(2 * k, WALK_KEEP_MIN),
                                .estimates_max = UINT64_MAX};
}

/* The distance beyond which nothing is kept or expanded. The scale is the mean of the k-th distance
 * and the query's own: near copies of the query are at no distance, and the guide's error is not
 * smaller for it. */
static float pool_limit(const struct dense_scratch *scratch, const struct walk_limits *limits)
{
    const struct found *pool = scratch->pool;
    if (scratch->pool_count < limits->k)
        return FLT_MAX;
    float nearest = pool[limits->k - 1].distance;
    float limit = nearest + limits->reach * 0.5F * (nearest + scratch->query.norm2);
    return scratch->pool_count < limits->keep ? limit : MIN(limit, pool[limits->keep - 1].distance);
}

/* Estimates and keeps; returns the best place that was taken. */
static size_t pool_add(const struct codes *codes, struct dense_scratch *scratch,
                       const struct walk_limits *limits, const uint32_t *nodes, size_t count)
{
    float distances[CODES_BATCH_MAX];
    size_t best = limits->keep;
    codes_estimate(codes, &scratch->query, nodes, count, distances);
    scratch->evaluated += count;
    for (size_t i = 0; i < count; i++) {
        if (!(distances[i] < pool_limit(scratch, limits)))
            continue;
        size_t place = pool_insert(scratch, limits->keep, distances[i], nodes[i]);
        best = MIN(best, place);
    }
    return best;
}

static size_t collect_entries(const struct codes *codes, struct dense_scratch *scratch,
                              uint32_t *nodes)
{
    size_t count = 0;
    for (uint32_t node = 0; node < codes->entries && node < codes->count; node++) {
        if (!seen_first(scratch, node))
            continue;
        prefetch_lines(codes_record(codes, node), codes->links_at);
        nodes[count++] = node;
    }
    return count;
}

void walk(const struct codes *codes, struct dense_scratch *scratch,
          const struct walk_limits *limits, uint32_t hidden)
{
    uint32_t nodes[CODES_BATCH_MAX];
    scratch_reserve(scratch, limits->keep);
    seen_clear(scratch, codes->count);
    if (hidden != NODE_NONE)
        seen_first(scratch, hidden);
    pool_add(codes, scratch, limits, nodes, collect_entries(codes, scratch, nodes));
    struct found *pool = scratch->pool;
    size_t next = 0;
    while (scratch->evaluated < limits->estimates_max) {
        size_t count = 0, expanded = 0, end = MIN(scratch->pool_count, limits->beam);
        float limit = pool_limit(scratch, limits);
        for (; next < end && expanded < EXPAND && pool[next].distance <= limit; next++) {
            if (pool[next].node & FOUND_EXPANDED)
                continue;
            count = collect_links(codes, scratch, pool[next].node, nodes, count);
            pool[next].node |= FOUND_EXPANDED;
            expanded++;
        }
        if (expanded == 0)
            break;
        for (size_t i = next; i < MIN(end, next + EXPAND); i++)
            prefetch_lines(codes_links(codes, pool[i].node & ~FOUND_EXPANDED),
                           codes->stride - codes->links_at);
        size_t best = pool_add(codes, scratch, limits, nodes, count);
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

static void frontier_add(const struct codes *codes, struct dense_scratch *scratch,
                         const struct walk_limits *limits, const uint64_t *allowed,
                         const uint32_t *nodes, size_t count)
{
    float distances[CODES_BATCH_MAX];
    codes_estimate(codes, &scratch->query, nodes, count, distances);
    scratch->evaluated += count;
    for (size_t i = 0; i < count; i++) {
        if (!(distances[i] < pool_limit(scratch, limits)))
            continue;
        heap_push(scratch, (struct found){distances[i], nodes[i]});
        if (is_allowed(allowed, codes_record(codes, nodes[i])->slot, codes->count))
            pool_insert(scratch, limits->keep, distances[i], nodes[i]);
    }
}

bool walk_allowed(const struct codes *codes, struct dense_scratch *scratch,
                  const struct walk_limits *limits, const uint64_t *allowed)
{
    uint32_t nodes[CODES_BATCH_MAX];
    scratch_reserve(scratch, limits->keep);
    seen_clear(scratch, codes->count);
    scratch->heap_count = 0;
    size_t count = collect_entries(codes, scratch, nodes);
    frontier_add(codes, scratch, limits, allowed, nodes, count);
    while (scratch->heap_count > 0 && scratch->evaluated < limits->estimates_max) {
        count = 0;
        for (size_t i = 0; i < EXPAND && scratch->heap_count > 0; i++) {
            struct found nearest = heap_pop(scratch);
            if (nearest.distance > pool_limit(scratch, limits))
                return true;
            count = collect_links(codes, scratch, nearest.node, nodes, count);
        }
        frontier_add(codes, scratch, limits, allowed, nodes, count);
    }
    return scratch->heap_count == 0;
}
