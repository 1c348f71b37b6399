/* A tail: rows that are in the log and in no segment. Rows point into the log records they came
 * with, which the tail keeps. */
#include "vector/index_private.h"
#include <math.h>
#include <stdlib.h>

struct tail_block {
    struct tail_block *next;
    char *memory;
};

struct index_tail *index_tail_new(const struct index *index)
{
    const struct index_config *config = &index->config;
    struct index_tail *tail = xcalloc(1, sizeof(*tail));
    tail->rows_max = index->tail_rows_max;
    tail->items = xmalloc(tail->rows_max * sizeof(*tail->items));
    tail->numbers = xmalloc(tail->rows_max * sizeof(*tail->numbers));
    tail->payloads = xcalloc(tail->rows_max, sizeof(*tail->payloads));
    for (size_t v = 0; v < config->vector_count; v++) {
        tail->dense[v] =
            dense_tail_new(config->vectors[v].dimension, config->vectors[v].metric, tail->rows_max);
        tail->slots[v].rows = xmalloc(tail->rows_max * sizeof(uint32_t));
        tail->slots[v].identity = true;
    }
    tail->words = words_memory_new(config->text_count, tail->rows_max);
    map_init(&tail->ids);
    pthread_rwlock_init(&tail->lock, NULL);
    return tail;
}

void index_tail_free(struct index_tail *tail)
{
    for (uint32_t i = 0; i < tail->rows; i++)
        yyjson_doc_free(tail->payloads[i]);
    for (struct tail_block *next, *block = tail->blocks; block; block = next) {
        next = block->next;
        free(block->memory);
        free(block);
    }
    for (size_t v = 0; v < INDEX_VECTORS_MAX; v++) {
        if (tail->dense[v])
            dense_tail_free(tail->dense[v]);
        free(tail->slots[v].rows);
    }
    words_memory_free(tail->words);
    map_fini(&tail->ids);
    pthread_rwlock_destroy(&tail->lock);
    free(tail->items);
    free(tail->numbers);
    free(tail->payloads);
    free(tail);
}

bool index_tail_is_full(const struct index_tail *tail)
{
    return tail->rows == tail->rows_max || tail->bytes >= INDEX_TAIL_BYTES_MAX;
}

int64_t index_tail_bytes(const struct index_tail *tail)
{
    int64_t fixed = (int64_t)tail->rows_max *
                    (int64_t)(sizeof(*tail->items) + sizeof(*tail->numbers) + sizeof(void *));
    return fixed + tail->bytes + (int64_t)words_memory_bytes(tail->words);
}

void index_tail_keep(struct index_tail *tail, char *memory)
{
    struct tail_block *block = xmalloc(sizeof(*block));
    *block = (struct tail_block){.next = tail->blocks, .memory = memory};
    tail->blocks = block;
}

static void append_vector(struct index_tail *tail, const struct index_vector_field *field, size_t v,
                          const float *vector, uint32_t row)
{
    struct index_slots *slots = &tail->slots[v];
    if (!vector) {
        slots->identity = false;
        return;
    }
    float unit[VECTOR_DIMENSION_MAX];
    if (field->metric == METRIC_COSINE) {
        double sum = 0;
        for (unsigned d = 0; d < field->dimension; d++)
            sum += (double)vector[d] * vector[d];
        float scale = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
        for (unsigned d = 0; d < field->dimension; d++)
            unit[d] = vector[d] * scale;
        vector = unit;
    }
    slots->rows[slots->count++] = row;
    int64_t slot = dense_tail_append(tail->dense[v], vector);
    ASSERT(slot == slots->count - 1);
}

uint32_t index_tail_append(struct index_tail *tail, const struct index *index,
                           const struct index_row *row, uint64_t number, uint64_t log_seq)
{
    uint32_t at = tail->rows;
    ASSERT(at < tail->rows_max);
    tail->items[at] = *row;
    tail->numbers[at] = number;
    tail->payloads[at] =
        row->payload.n ? yyjson_read(row->payload.p, row->payload.n, YYJSON_READ_NOFLAG) : NULL;
    tail->disabled += row->disabled;
    int64_t bytes = (int64_t)(row->id.n + 2 * row->payload.n);
    for (size_t t = 0; t < index->config.text_count; t++)
        bytes += (int64_t)row->texts[t].n;
    for (size_t v = 0; v < index->config.vector_count; v++) {
        append_vector(tail, &index->config.vectors[v], v, row->vectors[v], at);
        if (row->vectors[v])
            bytes += (int64_t)(2 * sizeof(float) * index->config.vectors[v].dimension);
    }
    tail->log_seq = log_seq;
    pthread_rwlock_wrlock(&tail->lock);
    tail->bytes += bytes;
    map_put(&tail->ids, row->id, (void *)(uintptr_t)(at + 1));
    words_memory_add(tail->words, index->analyzer, row->texts);
    pthread_rwlock_unlock(&tail->lock);
    tail->rows = at + 1;
    return at;
}
