/* Exact scores: of all vectors, or of those that codes found. */
#include "vector/dense_private.h"
#include <math.h>
#include <stdlib.h>

float exact_score(const struct exact *exact, const float *query, uint32_t slot)
{
    const float *vector = exact->vectors + (size_t)slot * exact->dimension;
    return exact->metric == METRIC_L2 ? -exact->kernels->distance(query, vector, exact->dimension)
                                      : exact->kernels->dot(query, vector, exact->dimension);
}

static bool hit_before(const struct dense_hit *a, const struct dense_hit *b)
{
    return a->score > b->score || (a->score == b->score && a->slot < b->slot);
}

/* A heap with the worst on top. */
static void sift_down(struct dense_hit *heap, size_t count, size_t at)
{
    for (;;) {
        size_t worst = at, left = 2 * at + 1, right = left + 1;
        if (left < count && hit_before(&heap[worst], &heap[left]))
            worst = left;
        if (right < count && hit_before(&heap[worst], &heap[right]))
            worst = right;
        if (worst == at)
            return;
        struct dense_hit swapped = heap[at];
        heap[at] = heap[worst];
        heap[worst] = swapped;
        at = worst;
    }
}

size_t hits_add(struct dense_hit *hits, size_t count, size_t k, struct dense_hit hit)
{
    if (count == k) {
        if (hit_before(&hit, &hits[0])) {
            hits[0] = hit;
            sift_down(hits, count, 0);
        }
        return count;
    }
    size_t at = count;
    hits[at] = hit;
    while (at > 0 && hit_before(&hits[(at - 1) / 2], &hits[at])) {
        struct dense_hit swapped = hits[at];
        hits[at] = hits[(at - 1) / 2];
        hits[(at - 1) / 2] = swapped;
        at = (at - 1) / 2;
    }
    return count + 1;
}

void hits_sort(struct dense_hit *hits, size_t count)
{
    for (size_t n = count; n > 1; n--) {
        struct dense_hit worst = hits[0];
        hits[0] = hits[n - 1];
        hits[n - 1] = worst;
        sift_down(hits, n - 1, 0);
    }
}

bool query_is_finite(const float *vector, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(vector[i]))
            return false;
    return true;
}

size_t exact_search(const struct exact *exact, const struct dense_query *query,
                    struct dense_hit *hits)
{
    size_t found = 0;
    if (query->k == 0 || !query_is_finite(query->vector, exact->dimension))
        return 0;
    for (size_t base = 0; base < exact->count; base += 64) {
        size_t rest = exact->count - base;
        uint64_t wanted = rest < 64 ? (1ULL << rest) - 1 : UINT64_MAX;
        if (query->allowed)
            wanted &= query->allowed[base / 64];
        for (; wanted; wanted &= wanted - 1) {
            uint32_t slot = (uint32_t)(base + (unsigned)__builtin_ctzll(wanted));
            float score = exact_score(exact, query->vector, slot);
            found = hits_add(hits, found, query->k, (struct dense_hit){slot, score});
        }
    }
    hits_sort(hits, found);
    return found;
}
