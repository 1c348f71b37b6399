/* Rows as bytes. The reader trusts nothing: every length is checked against what is left. */
#include "vector/rows_record.h"

struct record_header {
    uint64_t first_row;
    uint32_t count, shape;
};
_Static_assert(sizeof(struct record_header) == 16, "format");

struct row_header {
    uint32_t bytes; /* with this header and the padding */
    uint16_t id_n;
    uint8_t disabled, vectors;
    uint32_t payload_n;
    /* uint32_t text_n[] */
};
_Static_assert(sizeof(struct row_header) == 12, "format");

static uint32_t shape_mark(const struct rows_shape *shape)
{
    return (uint32_t)(shape->vector_count | shape->text_count << 8);
}

static size_t row_bytes(const struct rows_shape *shape, const struct index_row *row)
{
    size_t n = sizeof(struct row_header) + shape->text_count * sizeof(uint32_t);
    for (size_t v = 0; v < shape->vector_count; v++)
        n += row->vectors[v] ? shape->dimensions[v] * sizeof(float) : 0;
    for (size_t t = 0; t < shape->text_count; t++)
        n += row->texts[t].n;
    return ALIGN_UP(n + row->id.n + row->payload.n, 8);
}

static char *put(char *to, const void *p, size_t n)
{
    if (n)
        memcpy(to, p, n);
    return to + n;
}

static void put_row(const struct rows_shape *shape, const struct index_row *row, size_t bytes,
                    char *to)
{
    char *end = to + bytes;
    struct row_header header = {.bytes = (uint32_t)bytes,
                                .id_n = (uint16_t)row->id.n,
                                .disabled = row->disabled,
                                .payload_n = (uint32_t)row->payload.n};
    for (size_t v = 0; v < shape->vector_count; v++)
        header.vectors |= row->vectors[v] ? (uint8_t)(1u << v) : 0;
    to = put(to, &header, sizeof(header));
    for (size_t t = 0; t < shape->text_count; t++) {
        uint32_t n = (uint32_t)row->texts[t].n;
        to = put(to, &n, sizeof(n));
    }
    for (size_t v = 0; v < shape->vector_count; v++)
        if (row->vectors[v])
            to = put(to, row->vectors[v], shape->dimensions[v] * sizeof(float));
    to = put(to, row->id.p, row->id.n);
    to = put(to, row->payload.p, row->payload.n);
    for (size_t t = 0; t < shape->text_count; t++)
        to = put(to, row->texts[t].p, row->texts[t].n);
    memset(to, 0, (size_t)(end - to));
}

enum rc rows_encode_row(const struct rows_shape *shape, const struct index_row *row,
                        struct buf *out)
{
    size_t n = row_bytes(shape, row);
    char *p;
    enum rc rc = buf_reserve(out, n, &p);
    if (rc != RC_OK)
        return rc;
    put_row(shape, row, n, p);
    buf_added(out, n);
    return RC_OK;
}

enum rc rows_encode_upsert(const struct rows_shape *shape, const struct index_row *rows,
                           size_t count, struct buf *out)
{
    struct record_header header = {.count = (uint32_t)count, .shape = shape_mark(shape)};
    enum rc rc = buf_append(out, str_make(&header, sizeof(header)));
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        rc = rows_encode_row(shape, &rows[i], out);
    return rc;
}

enum rc rows_encode_delete(const struct str *ids, size_t count, struct buf *out)
{
    uint32_t n = (uint32_t)count;
    enum rc rc = buf_append(out, str_make(&n, sizeof(n)));
    for (size_t i = 0; rc == RC_OK && i < count; i++) {
        uint16_t id_n = (uint16_t)ids[i].n;
        rc = buf_append(out, str_make(&id_n, sizeof(id_n)));
        if (rc == RC_OK)
            rc = buf_append(out, ids[i]);
    }
    return rc;
}

void rows_set_first(struct buf *record, uint64_t first_row)
{
    ASSERT(buf_len(record) >= sizeof(struct record_header));
    memcpy(record->p + record->start + offsetof(struct record_header, first_row), &first_row,
           sizeof(first_row));
}

/* ---- reading ---- */

enum rc rows_read_upsert(struct str record, const struct rows_shape *shape,
                         struct rows_reader *reader)
{
    struct record_header header;
    if (record.n < sizeof(header))
        return RC_CORRUPT;
    memcpy(&header, record.p, sizeof(header));
    if (header.shape != shape_mark(shape) || header.first_row > UINT64_MAX / 2)
        return RC_CORRUPT;
    *reader = (struct rows_reader){.shape = shape,
                                   .at = record.p + sizeof(header),
                                   .end = record.p + record.n,
                                   .first_row = header.first_row,
                                   .count = header.count};
    return RC_OK;
}

enum rc rows_read_delete(struct str record, struct rows_reader *reader)
{
    uint32_t count;
    if (record.n < sizeof(count))
        return RC_CORRUPT;
    memcpy(&count, record.p, sizeof(count));
    *reader = (struct rows_reader){
        .at = record.p + sizeof(count), .end = record.p + record.n, .count = count};
    return RC_OK;
}

/* The next n bytes of the row; NULL: there are not so many. */
static const char *take(const char **at, const char *end, size_t n)
{
    if ((size_t)(end - *at) < n)
        return NULL;
    const char *p = *at;
    *at += n;
    return p;
}

static bool take_text(const char **at, const char *end, size_t n, struct str *out)
{
    const char *p = take(at, end, n);
    *out = p && n ? str_make(p, n) : STR_EMPTY;
    return p != NULL;
}

enum rc rows_next_row(struct rows_reader *reader, struct index_row *out)
{
    const struct rows_shape *shape = reader->shape;
    struct row_header header;
    uint32_t text_n[INDEX_TEXTS_MAX] = {0};
    if (reader->read == reader->count)
        return reader->at == reader->end ? RC_END : RC_CORRUPT;
    const char *at = reader->at;
    const char *p = take(&at, reader->end, sizeof(header));
    if (!p)
        return RC_CORRUPT;
    memcpy(&header, p, sizeof(header));
    if (header.bytes < sizeof(header) || header.bytes % 8 != 0 ||
        header.bytes > (size_t)(reader->end - reader->at) || header.disabled > 1 ||
        header.vectors >> shape->vector_count != 0 || header.id_n == 0 ||
        header.id_n > INDEX_ID_BYTES_MAX)
        return RC_CORRUPT;
    const char *end = reader->at + header.bytes;
    p = take(&at, end, shape->text_count * sizeof(uint32_t));
    if (!p)
        return RC_CORRUPT;
    memcpy(text_n, p, shape->text_count * sizeof(uint32_t));
    *out = (struct index_row){.disabled = header.disabled};
    for (size_t v = 0; v < shape->vector_count; v++) {
        if (!(header.vectors >> v & 1))
            continue;
        out->vectors[v] = (const float *)take(&at, end, shape->dimensions[v] * sizeof(float));
        if (!out->vectors[v])
            return RC_CORRUPT;
    }
    if (!take_text(&at, end, header.id_n, &out->id) ||
        !take_text(&at, end, header.payload_n, &out->payload))
        return RC_CORRUPT;
    for (size_t t = 0; t < shape->text_count; t++)
        if (!take_text(&at, end, text_n[t], &out->texts[t]))
            return RC_CORRUPT;
    reader->at = end;
    reader->read++;
    return RC_OK;
}

enum rc rows_next_id(struct rows_reader *reader, struct str *out)
{
    uint16_t n;
    if (reader->read == reader->count)
        return reader->at == reader->end ? RC_END : RC_CORRUPT;
    const char *p = take(&reader->at, reader->end, sizeof(n));
    if (!p)
        return RC_CORRUPT;
    memcpy(&n, p, sizeof(n));
    if (!take_text(&reader->at, reader->end, n, out))
        return RC_CORRUPT;
    reader->read++;
    return RC_OK;
}
