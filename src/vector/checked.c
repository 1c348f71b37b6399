/* See checked.h. */
#include "vector/checked.h"
#include "base/hash.h"
#include <stdlib.h>

void checked_begin(struct checked_writer *w, struct segment_writer *segment, uint32_t tag)
{
    *w = (struct checked_writer){
        .segment = segment, .tag = tag, .piece = xmalloc(CHECKED_PIECE_BYTES)};
    segment_begin(segment, tag, 0);
}

static enum rc end_piece(struct checked_writer *w)
{
    if (w->piece_n == 0)
        return RC_OK;
    if (w->sum_count == w->sum_capacity) {
        w->sum_capacity = MAX((size_t)64, w->sum_capacity * 2);
        w->sums = xrealloc(w->sums, w->sum_capacity * sizeof(*w->sums));
    }
    w->sums[w->sum_count++] = hash_xxh3(w->piece, w->piece_n);
    enum rc rc = segment_write(w->segment, w->piece, w->piece_n);
    w->piece_n = 0;
    return rc;
}

enum rc checked_write(struct checked_writer *w, const void *p, size_t n)
{
    enum rc rc = RC_OK;
    while (rc == RC_OK && n > 0) {
        size_t part = MIN(n, CHECKED_PIECE_BYTES - w->piece_n);
        memcpy(w->piece + w->piece_n, p, part);
        w->piece_n += part;
        w->bytes += part;
        p = (const char *)p + part;
        n -= part;
        if (w->piece_n == CHECKED_PIECE_BYTES)
            rc = end_piece(w);
    }
    return rc;
}

enum rc checked_end(struct checked_writer *w)
{
    enum rc rc = end_piece(w);
    segment_begin(w->segment, w->tag, 1);
    if (rc == RC_OK && w->sum_count)
        rc = segment_write(w->segment, w->sums, w->sum_count * sizeof(*w->sums));
    free(w->sums);
    free(w->piece);
    *w = (struct checked_writer){0};
    return rc;
}

enum rc checked_open(struct checked *c, const struct segment *segment, uint32_t tag)
{
    struct str sums;
    *c = (struct checked){0};
    enum rc rc = segment_section_raw(segment, tag, 0, &c->bytes);
    if (rc == RC_OK)
        rc = segment_section(segment, tag, 1, &sums);
    if (rc != RC_OK)
        return rc;
    size_t pieces = (c->bytes.n + CHECKED_PIECE_BYTES - 1) / CHECKED_PIECE_BYTES;
    if (sums.n != pieces * sizeof(uint64_t))
        return RC_CORRUPT;
    c->sums = (const uint64_t *)sums.p;
    c->good = calloc(pieces + 1, 1);
    return c->good ? RC_OK : RC_LIMIT;
}

void checked_close(struct checked *c)
{
    free(c->good);
    *c = (struct checked){0};
}

static bool verify(const struct checked *c, size_t piece)
{
    size_t from = piece * CHECKED_PIECE_BYTES;
    size_t n = MIN((size_t)CHECKED_PIECE_BYTES, c->bytes.n - from);
    if (hash_xxh3(c->bytes.p + from, n) != c->sums[piece])
        return false;
    atomic_store_explicit(&c->good[piece], 1, memory_order_relaxed);
    return true;
}

const char *checked_get(const struct checked *c, uint64_t at, uint64_t n)
{
    if (at > c->bytes.n || n > c->bytes.n - at)
        return NULL;
    for (uint64_t piece = at / CHECKED_PIECE_BYTES;
         n && piece <= (at + n - 1) / CHECKED_PIECE_BYTES; piece++)
        if (!atomic_load_explicit(&c->good[piece], memory_order_relaxed) && !verify(c, piece))
            return NULL;
    return c->bytes.p ? c->bytes.p + at : "";
}
