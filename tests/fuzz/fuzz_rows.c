/* Records of the rows log over arbitrary bytes: whatever is read lies within them. */
#include "vector/rows_record.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void within(struct str part, struct str whole)
{
    ASSERT(part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct rows_shape shapes[] = {
        {.vector_count = 1, .text_count = 1, .dimensions = {4}},
        {.vector_count = 2, .text_count = 3, .dimensions = {2, 3}},
        {.vector_count = 0, .text_count = 1},
    };
    char *copy = malloc(n + 1); /* aligned */
    ASSERT(copy);
    memcpy(copy, data, n);
    struct str record = str_make(copy, n), id;
    struct rows_reader reader;
    struct index_row row;
    for (size_t s = 0; s < COUNT_OF(shapes); s++) {
        if (rows_read_upsert(record, &shapes[s], &reader) != RC_OK)
            continue;
        while (rows_next_row(&reader, &row) == RC_OK) {
            within(row.id, record);
            within(row.payload, record);
            for (size_t t = 0; t < shapes[s].text_count; t++)
                within(row.texts[t], record);
            for (size_t v = 0; v < shapes[s].vector_count; v++)
                if (row.vectors[v])
                    within(str_make(row.vectors[v], shapes[s].dimensions[v] * sizeof(float)),
                           record);
        }
    }
    if (rows_read_delete(record, &reader) == RC_OK)
        while (rows_next_id(&reader, &id) == RC_OK)
            within(id, record);
    free(copy);
    return 0;
}
