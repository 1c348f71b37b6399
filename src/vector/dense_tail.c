/* Vectors that are in no segment yet: one thread appends, any thread searches. Address space for
 * all is reserved at once and memory comes as it is used, so nothing ever moves; a reader sees what
 * the count said when it began. */
#include "vector/dense_private.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct dense_tail {
    unsigned dimension;
    enum vector_metric metric;
    size_t count_max, bytes;
    float *vectors;
    const struct kernels *kernels;
    _Atomic size_t count;
};

struct dense_tail *dense_tail_new(unsigned dimension, enum vector_metric metric, size_t count_max)
{
    ASSERT(dimension > 0 && dimension <= VECTOR_DIMENSION_MAX && count_max > 0);
    struct dense_tail *tail = xcalloc(1, sizeof(*tail));
    tail->dimension = dimension;
    tail->metric = metric;
    tail->count_max = count_max;
    tail->bytes = count_max * dimension * sizeof(float);
    tail->kernels = kernels_best();
    tail->vectors = mmap(NULL, tail->bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(tail->vectors != MAP_FAILED);
    madvise(tail->vectors, tail->bytes, MADV_HUGEPAGE);
    return tail;
}

void dense_tail_free(struct dense_tail *tail)
{
    if (!tail)
        return;
    munmap(tail->vectors, tail->bytes);
    free(tail);
}

int64_t dense_tail_append(struct dense_tail *tail, const float *vector)
{
    size_t slot = atomic_load_explicit(&tail->count, memory_order_relaxed);
    if (slot == tail->count_max)
        return -1;
    memcpy(tail->vectors + slot * tail->dimension, vector, tail->dimension * sizeof(float));
    atomic_store_explicit(&tail->count, slot + 1, memory_order_release);
    return (int64_t)slot;
}

size_t dense_tail_count(const struct dense_tail *tail)
{
    return atomic_load_explicit(&tail->count, memory_order_acquire);
}

const float *dense_tail_vector(const struct dense_tail *tail, uint32_t slot)
{
    ASSERT(slot < dense_tail_count(tail));
    return tail->vectors + (size_t)slot * tail->dimension;
}

size_t dense_tail_search(const struct dense_tail *tail, const struct dense_query *query,
                         struct dense_scratch *scratch, struct dense_hit *hits)
{
    struct exact exact = {.vectors = tail->vectors,
                          .count = dense_tail_count(tail),
                          .dimension = tail->dimension,
                          .metric = tail->metric,
                          .kernels = tail->kernels};
    return exact_search(&exact, query, hits);
}
