/* The tail: see tail.h. A row is published by storing the count with release order after everything
 * about it was written, so readers need no lock. The dictionaries' hash tables are the writer's
 * alone; readers use the arrays of texts, which only grow. */
#include "trace/tail.h"
#include <stdlib.h>
#include <sys/mman.h>

#define TEXT_BLOCK_BYTES (64 * 1024)

struct text_block {
    struct text_block *next;
    char p[];
};

struct dictionary {
    struct str *texts; /* by code; rows_max of them at most, plus the empty text as code 0 */
    atomic_uint_least32_t count;
    uint32_t *slots; /* writer's: code + 1, 0: free */
    uint32_t slot_count;
};

struct tail {
    struct rowset rows;
    struct log *const *log; /* where the bodies are */
    uint32_t rows_max;
    atomic_uint_least32_t count;
    void *memory; /* of the arrays, mapped: pages are there once they are used, and go at once */
    size_t memory_bytes;
    int64_t *ints[COLUMN_INT_COUNT];
    uint32_t *codes[TEXT_COUNT];
    struct dictionary dictionaries[TEXT_COUNT];
    uint8_t (*ids)[16];
    atomic_uint_least64_t *locations;
    struct text_block *blocks; /* newest first */
    char *text_at, *text_end;
    int64_t log_bytes;
    struct spend *spend;
};

struct tail *tail_of(struct rowset *rows) { return CONTAINER_OF(rows, struct tail, rows); }

struct rowset *tail_rows(struct tail *tail) { return &tail->rows; }

static const struct tail *tail_const(const struct rowset *rows)
{
    return CONTAINER_OF(rows, const struct tail, rows);
}

/* ---- as a rowset ---- */

static enum rc tail_view(const struct rowset *rows, enum column column, uint32_t granule,
                         struct column_view *view)
{
    *view = (struct column_view){.data = tail_const(rows)->ints[column] +
                                         (size_t)granule * GRANULE_ROWS,
                                 .width = 8,
                                 .scale = 1,
                                 .min = INT64_MIN,
                                 .max = INT64_MAX};
    return RC_OK;
}

static enum rc tail_text_view(const struct rowset *rows, enum text_column column, uint32_t granule,
                              struct column_view *view)
{
    *view = (struct column_view){.data = tail_const(rows)->codes[column] +
                                         (size_t)granule * GRANULE_ROWS,
                                 .width = 4,
                                 .scale = 1,
                                 .max = UINT32_MAX};
    return RC_OK;
}

static enum rc tail_texts(const struct rowset *rows, enum text_column column, uint32_t *count,
                          bool *sorted)
{
    const struct dictionary *d = &tail_const(rows)->dictionaries[column];
    *count = atomic_load_explicit(&d->count, memory_order_acquire);
    *sorted = false;
    return RC_OK;
}

static struct str tail_text(const struct rowset *rows, enum text_column column, uint32_t code)
{
    return tail_const(rows)->dictionaries[column].texts[code];
}

static enum rc tail_ids(const struct rowset *rows, uint32_t granule, const uint8_t (**ids)[16])
{
    *ids = (const uint8_t(*)[16])(tail_const(rows)->ids + (size_t)granule * GRANULE_ROWS);
    return RC_OK;
}

static bool tail_may_hold_id(const struct rowset *rows, uint32_t granule, uint64_t prefix)
{
    return true;
}

static enum rc tail_record(const struct rowset *rows, uint32_t row, struct record_reader *reader,
                           struct str *bytes)
{
    const struct tail *tail = tail_const(rows);
    struct log_record record;
    uint64_t location = atomic_load(&tail->locations[row]);
    enum rc rc = log_read(*tail->log, location, &reader->log, &record);
    if (rc == RC_OK)
        *bytes = record.payload;
    return rc == RC_NOT_FOUND ? RC_IO : rc;
}

/* ---- life ---- */

static void tail_free(struct rowset *rows)
{
    struct tail *tail = tail_of(rows);
    for (int c = 0; c < TEXT_COUNT; c++)
        free(tail->dictionaries[c].slots);
    while (tail->blocks) {
        struct text_block *next = tail->blocks->next;
        free(tail->blocks);
        tail->blocks = next;
    }
    spend_free(tail->spend);
    munmap(tail->memory, tail->memory_bytes);
    free(tail);
}

/* The next `count` items of `n` bytes of the mapping. Without a mapping: how much they take. */
static void *arrays_take(struct tail *tail, size_t *at, size_t count, size_t n)
{
    size_t from = *at;
    *at += ALIGN_UP(count * n, CACHE_LINE_BYTES);
    return tail->memory ? (char *)tail->memory + from : NULL;
}

static size_t arrays_place(struct tail *tail)
{
    size_t at = 0, rows = tail->rows_max;
    for (int c = 0; c < COLUMN_INT_COUNT; c++)
        tail->ints[c] = arrays_take(tail, &at, rows, sizeof(int64_t));
    for (int c = 0; c < TEXT_COUNT; c++) {
        tail->codes[c] = arrays_take(tail, &at, rows, sizeof(uint32_t));
        tail->dictionaries[c].texts = arrays_take(tail, &at, rows + 1, sizeof(struct str));
    }
    tail->ids = arrays_take(tail, &at, rows, 16);
    tail->locations = arrays_take(tail, &at, rows, sizeof(*tail->locations));
    return at;
}

struct tail *tail_new(struct log *const *log, uint32_t rows_max)
{
    static const struct rowset_calls calls = {
        .view = tail_view,
        .text_view = tail_text_view,
        .texts = tail_texts,
        .text = tail_text,
        .ids = tail_ids,
        .may_hold_id = tail_may_hold_id,
        .record = tail_record,
    };
    struct tail *tail = xcalloc(1, sizeof(*tail));
    tail->rows.calls = &calls;
    tail->rows.free = tail_free;
    tail->rows.references = 1;
    tail->rows.row_count = rows_max;
    tail->rows.started_min_ns = INT64_MIN;
    tail->rows.started_max_ns = INT64_MAX;
    tail->log = log;
    tail->rows_max = rows_max;
    tail->memory_bytes = arrays_place(tail);
    tail->memory = mmap(NULL, tail->memory_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(tail->memory != MAP_FAILED);
    arrays_place(tail);
    for (int c = 0; c < TEXT_COUNT; c++)
        tail->dictionaries[c].count = 1; /* code 0: the empty text */
    tail->spend = spend_new();
    return tail;
}

/* ---- appending ---- */

static struct str tail_copy(struct tail *tail, struct str s)
{
    if ((size_t)(tail->text_end - tail->text_at) < s.n) {
        size_t n = MAX(s.n, TEXT_BLOCK_BYTES);
        struct text_block *block = xmalloc(sizeof(*block) + n);
        block->next = tail->blocks;
        tail->blocks = block;
        tail->text_at = block->p;
        tail->text_end = block->p + n;
    }
    struct str copy = str_make(tail->text_at, s.n);
    memcpy(tail->text_at, s.p, s.n);
    tail->text_at += s.n;
    return copy;
}

static void dictionary_grow(struct dictionary *d)
{
    uint32_t count = MAX(64, d->slot_count * 2);
    free(d->slots);
    d->slots = xcalloc(count, sizeof(*d->slots));
    d->slot_count = count;
    for (uint32_t code = 1; code < d->count; code++) {
        uint32_t at = (uint32_t)str_hash(d->texts[code]) & (count - 1);
        while (d->slots[at])
            at = (at + 1) & (count - 1);
        d->slots[at] = code + 1;
    }
}

static uint32_t tail_code(struct tail *tail, enum text_column column, struct str s)
{
    struct dictionary *d = &tail->dictionaries[column];
    if (s.n == 0)
        return 0;
    uint32_t before = tail->count ? tail->codes[column][tail->count - 1] : 0;
    if (before && str_eq(d->texts[before], s)) /* most calls are like the one before them */
        return before;
    if (d->count * 2 >= d->slot_count)
        dictionary_grow(d);
    uint32_t at = (uint32_t)str_hash(s) & (d->slot_count - 1);
    for (; d->slots[at]; at = (at + 1) & (d->slot_count - 1))
        if (str_eq(d->texts[d->slots[at] - 1], s))
            return d->slots[at] - 1;
    uint32_t code = d->count;
    d->texts[code] = tail_copy(tail, s);
    d->slots[at] = code + 1;
    atomic_store_explicit(&d->count, code + 1, memory_order_release);
    return code;
}

bool tail_has_room(const struct tail *tail) { return tail->count < tail->rows_max; }

void tail_note_seq(struct tail *tail, uint64_t seq, uint32_t record_bytes)
{
    if (tail->rows.first_seq == 0)
        tail->rows.first_seq = seq;
    tail->rows.last_seq = seq;
    tail->log_bytes += record_bytes;
}

void tail_append(struct tail *tail, const struct call_record *call, uint64_t seq, uint64_t location,
                 uint32_t record_bytes)
{
    ASSERT(tail_has_room(tail));
    char tag_bytes[TAG_SET_BYTES_MAX];
    struct row_extra extra = {.seq = seq,
                              .record_bytes = record_bytes,
                              .tag_set = tag_set_make(call->tags, call->tag_count, tag_bytes)};
    uint32_t row = tail->count;
    int64_t ints[COLUMN_INT_COUNT];
    struct str texts[TEXT_COUNT];
    row_ints(call, &extra, ints);
    row_texts(call, &extra, texts);
    for (int c = 0; c < COLUMN_INT_COUNT; c++)
        tail->ints[c][row] = ints[c];
    for (int c = 0; c < TEXT_COUNT; c++)
        tail->codes[c][row] = tail_code(tail, (enum text_column)c, texts[c]);
    memcpy(tail->ids[row], call->id.bytes, 16);
    atomic_store_explicit(&tail->locations[row], location, memory_order_relaxed);
    tail_note_seq(tail, seq, record_bytes);
    atomic_store_explicit(&tail->count, row + 1, memory_order_release);
}

void tail_moved(struct tail *tail, uint64_t seq, uint64_t location)
{
    /* Sequence numbers rise by row: search the row. */
    uint32_t low = 0, high = tail->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint64_t)tail->ints[COLUMN_SEQ][middle] < seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < tail->count && (uint64_t)tail->ints[COLUMN_SEQ][low] == seq)
        atomic_store(&tail->locations[low], location);
}

uint32_t tail_count(const struct tail *tail)
{
    return atomic_load_explicit(&tail->count, memory_order_acquire);
}

int64_t tail_log_bytes(const struct tail *tail) { return tail->log_bytes; }

struct spend *tail_spend(struct tail *tail) { return tail->spend; }
