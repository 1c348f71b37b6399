/* The reader of a segment's vectors over arbitrary bytes. The first bytes choose what the sections
 * say (dimension, count, kind of codes), the rest fills them; checksums are right, as the segment
 * is written by the writer: nothing behind them is trusted. */
#include "vector/dense_private.h"
#include <stdlib.h>
#include <string.h>

#define KIND SEGMENT_KIND('F', 'V', 'E', 'C')

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct input {
    const uint8_t *p;
    size_t n, at;
};

/* The input over and over. */
static void input_fill(struct input *input, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = input->p[input->at++ % input->n];
}

static bool put_section(struct segment_writer *writer, struct input *input, uint32_t tag,
                        size_t bytes)
{
    uint8_t *filled = malloc(MAX(bytes, 1));
    input_fill(input, filled, bytes);
    segment_begin(writer, tag, 0);
    enum rc rc = segment_write(writer, filled, bytes);
    free(filled);
    return rc == RC_OK;
}

/* Sections whose lengths fit, unless a byte says otherwise; all else is the input's. */
static bool put_sections(struct segment_writer *writer, struct input *input)
{
    struct dense_meta_disk meta;
    float mean[VECTOR_DIMENSION_MAX + 1];
    const uint8_t *p = input->p;
    input_fill(input, &meta, sizeof(meta));
    input_fill(input, mean, sizeof(mean));
    meta.version = DENSE_VERSION;
    meta.dimension = 1 + p[0] % 200;
    meta.metric = p[1] % 3;
    meta.lifted = p[1] / 3 % 2;
    meta.count = p[2] + 200;
    meta.guide_bits = (const uint32_t[]){0, 1, 4}[p[3] % 3];
    meta.degree_max = 1 + p[4] % 64;
    meta.entries = p[5];
    unsigned inner = dense_inner(meta.dimension, meta.lifted);
    meta.padded = dense_padded(inner);
    struct codec codec = {.padded = meta.padded, .guide_bits = meta.guide_bits};
    meta.stride = (uint32_t)codes_stride(&codec, meta.degree_max);
    size_t blocks = (meta.count + KERNEL_BLOCK_VECTORS - 1) / KERNEL_BLOCK_VECTORS;
    segment_begin(writer, SECTION_DENSE_META, 0);
    if (segment_write(writer, &meta, sizeof(meta) - (p[6] == 255)) != RC_OK ||
        segment_write(writer, mean, inner * sizeof(float)) != RC_OK)
        return false;
    size_t count = meta.count + (p[6] == 254);
    if (meta.guide_bits == 0)
        return put_section(writer, input, SECTION_DENSE_BLOCKS,
                           blocks * block_bytes(meta.padded)) &&
               put_section(writer, input, SECTION_DENSE_FINE, count * meta.padded) &&
               put_section(writer, input, SECTION_DENSE_VECTORS, count * meta.dimension * 4);
    return put_section(writer, input, SECTION_DENSE_RECORDS, count * meta.stride) &&
           put_section(writer, input, SECTION_DENSE_NODES, count * 4) &&
           put_section(writer, input, SECTION_DENSE_FINE, count * meta.padded) &&
           put_section(writer, input, SECTION_DENSE_VECTORS, count * meta.dimension * 4);
}

static void search(struct dense *dense, struct input *input)
{
    static const double recalls[] = {0.5, 0.95, 0.999, 1};
    struct dense_scratch *scratch = dense_scratch_new();
    float query[VECTOR_DIMENSION_MAX];
    uint64_t allowed[16];
    struct dense_hit hits[300];
    for (size_t i = 0; i < VECTOR_DIMENSION_MAX; i++)
        query[i] = (float)input->p[(i + 7) % input->n] - 100;
    input_fill(input, allowed, sizeof(allowed));
    for (size_t i = 0; i < 16; i++) {
        bool filtered = i % 2 == 1;
        struct dense_query asked = {.vector = query,
                                    .k = (const size_t[]){1, 10, 100, 300}[i / 4],
                                    .recall = recalls[i % 4],
                                    .allowed = filtered ? allowed : NULL,
                                    .allowed_count = filtered ? 400 : 0};
        size_t found = dense_search(dense, &asked, scratch, hits);
        ASSERT(found <= asked.k);
        for (size_t h = 0; h < found; h++)
            ASSERT(hits[h].slot < dense_count(dense));
    }
    dense_scratch_free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct segment_writer *writer;
    struct segment *segment;
    struct dense *dense;
    int64_t bytes;
    if (n < 16)
        return 0;
    struct input input = {.p = data, .n = n};
    struct file_system *fs = file_system_memory_new(1);
    if (file_make_directory(fs, "/v") != RC_OK ||
        segment_create(fs, "/v/one", KIND, 1, &writer, NULL) != RC_OK)
        abort();
    if (!put_sections(writer, &input) || segment_seal(writer, &bytes) != RC_OK)
        abort();
    if (segment_open(fs, "/v/one", KIND, 1, &segment, NULL) != RC_OK)
        abort();
    if (dense_open(segment, &dense, NULL) == RC_OK) {
        search(dense, &input);
        dense_warm(dense);
        search(dense, &input);
        dense_close(dense);
    }
    segment_close(segment);
    file_system_free(fs);
    return 0;
}
