/* The vector index as functions that bench/vector.py calls: many queries in one call, one search
 * each, timed by this thread's processor time. */
#include "base/clock.h"
#include "vector/dense.h"
#include <stdio.h>
#include <stdlib.h>

#define KIND SEGMENT_KIND('B', 'V', 'E', 'C')

struct bridge {
    struct segment *segment;
    struct dense *dense;
    struct dense_scratch *scratch;
};

int64_t bridge_build(const char *path, const float *vectors, size_t count, unsigned dimension,
                     int metric, bool flat);
struct bridge *bridge_open(const char *path, bool warm, int64_t *open_ns);
void bridge_close(struct bridge *bridge);
int64_t bridge_search(struct bridge *bridge, const float *queries, size_t count, unsigned dimension,
                      size_t k, double recall, const uint64_t *allowed, size_t allowed_count,
                      int64_t *slots);

/* Processor time of building, or -1. */
int64_t bridge_build(const char *path, const float *vectors, size_t count, unsigned dimension,
                     int metric, bool flat)
{
    struct dense_options options = {
        .dimension = dimension, .metric = (enum vector_metric)metric, .seed = 1, .flat = flat};
    struct segment_writer *writer;
    struct err err = {0};
    int64_t start = clock_thread_cpu_ns(), bytes;
    if (segment_create(file_system_real(), path, KIND, 1, &writer, &err) != RC_OK)
        return -1;
    if (dense_build(writer, vectors, count, &options, NULL, NULL, &err) != RC_OK) {
        fprintf(stderr, "%s\n", err.message);
        segment_abandon(writer);
        return -1;
    }
    int64_t took = clock_thread_cpu_ns() - start;
    return segment_seal(writer, &bytes) == RC_OK ? took : -1;
}

struct bridge *bridge_open(const char *path, bool warm, int64_t *open_ns)
{
    struct bridge *bridge = calloc(1, sizeof(*bridge));
    struct err err = {0};
    int64_t start = clock_monotonic_ns();
    if (!bridge ||
        segment_open(file_system_real(), path, KIND, 1, &bridge->segment, &err) != RC_OK ||
        dense_open(bridge->segment, &bridge->dense, &err) != RC_OK) {
        fprintf(stderr, "%s\n", err.message);
        return NULL;
    }
    *open_ns = clock_monotonic_ns() - start;
    if (warm)
        dense_warm(bridge->dense);
    bridge->scratch = dense_scratch_new();
    return bridge;
}

void bridge_close(struct bridge *bridge)
{
    dense_scratch_free(bridge->scratch);
    dense_close(bridge->dense);
    segment_close(bridge->segment);
    free(bridge);
}

/* slots: count × k, -1 where fewer were found. Processor time of all searches. */
int64_t bridge_search(struct bridge *bridge, const float *queries, size_t count, unsigned dimension,
                      size_t k, double recall, const uint64_t *allowed, size_t allowed_count,
                      int64_t *slots)
{
    struct dense_hit *hits = calloc(k, sizeof(*hits));
    int64_t start = clock_thread_cpu_ns();
    for (size_t q = 0; q < count; q++) {
        struct dense_query query = {.vector = queries + q * dimension,
                                    .k = k,
                                    .recall = recall,
                                    .allowed = allowed,
                                    .allowed_count = allowed_count};
        size_t found = dense_search(bridge->dense, &query, bridge->scratch, hits);
        for (size_t i = 0; i < k; i++)
            slots[q * k + i] = i < found ? (int64_t)hits[i].slot : -1;
    }
    int64_t took = clock_thread_cpu_ns() - start;
    free(hits);
    return took;
}
