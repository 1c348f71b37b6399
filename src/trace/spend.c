/* Sums of money and tokens: see spend.h. Tables are not thread-safe; the store guards them. */
#include "trace/spend.h"
#include "base/clock.h"
#include "base/hash.h"
#include "store/segment.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SPEND_KIND           SEGMENT_KIND('S', 'P', 'N', 'D')
#define SPEND_VERSION        1
#define SPEND_FILE_BYTES_MAX (1024ll * 1024 * 1024)
#define LOADED_PERIODS_MAX   3 /* the latest ones, and the totals */
#define TEXT_BLOCK_BYTES     (16 * 1024)

struct spend_row {
    struct spend_key key;
    uint64_t hash;
    struct spend_sum sum;
};

struct text_block {
    struct text_block *next;
    size_t used, capacity;
    char p[];
};

struct spend {
    struct spend_row *rows;
    size_t count, capacity;
    uint32_t *slots; /* row + 1; 0: free */
    size_t slot_count;
    uint32_t last[SPEND_BY_COUNT]; /* row + 1 of the key of this kind used last: often the next */
    struct text_block *blocks;
};

/* ---- table ---- */

struct spend *spend_new(void) { return xcalloc(1, sizeof(struct spend)); }

void spend_free(struct spend *spend)
{
    if (!spend)
        return;
    while (spend->blocks) {
        struct text_block *next = spend->blocks->next;
        free(spend->blocks);
        spend->blocks = next;
    }
    free(spend->rows);
    free(spend->slots);
    free(spend);
}

size_t spend_count(const struct spend *spend) { return spend->count; }

void spend_add_sum(struct spend_sum *into, const struct spend_sum *more)
{
    into->cost_pico += more->cost_pico;
    into->calls += more->calls;
    into->calls_unpriced += more->calls_unpriced;
    into->tokens_in += more->tokens_in;
    into->tokens_out += more->tokens_out;
}

static uint64_t key_hash(const struct spend_key *key)
{
    uint64_t head[4] = {0, 0, (uint64_t)key->by << 32 | (uint32_t)key->day, str_hash(key->value)};
    memcpy(head, key->project.bytes, 16);
    return hash_xxh3(head, sizeof(head));
}

static bool key_eq(const struct spend_key *a, const struct spend_key *b)
{
    return a->day == b->day && a->by == b->by && id_eq(a->project, b->project) &&
           str_eq(a->value, b->value);
}

static struct str spend_copy(struct spend *spend, struct str s)
{
    if (s.n == 0)
        return STR_EMPTY;
    if (!spend->blocks || spend->blocks->capacity - spend->blocks->used < s.n) {
        size_t n = MAX(s.n, TEXT_BLOCK_BYTES);
        struct text_block *block = xmalloc(sizeof(*block) + n);
        *block = (struct text_block){.next = spend->blocks, .capacity = n};
        spend->blocks = block;
    }
    char *at = spend->blocks->p + spend->blocks->used;
    memcpy(at, s.p, s.n);
    spend->blocks->used += s.n;
    return str_make(at, s.n);
}

static void spend_index(struct spend *spend)
{
    memset(spend->slots, 0, spend->slot_count * sizeof(*spend->slots));
    for (size_t i = 0; i < spend->count; i++) {
        size_t at = spend->rows[i].hash & (spend->slot_count - 1);
        while (spend->slots[at])
            at = (at + 1) & (spend->slot_count - 1);
        spend->slots[at] = (uint32_t)i + 1;
    }
}

static void spend_grow(struct spend *spend)
{
    spend->slot_count = MAX(64, spend->slot_count * 2);
    free(spend->slots);
    spend->slots = xmalloc(spend->slot_count * sizeof(*spend->slots));
    spend_index(spend);
}

static struct spend_row *spend_find(const struct spend *spend, const struct spend_key *key,
                                    uint64_t hash)
{
    if (spend->slot_count == 0)
        return NULL;
    for (size_t at = hash & (spend->slot_count - 1); spend->slots[at];
         at = (at + 1) & (spend->slot_count - 1)) {
        struct spend_row *row = &spend->rows[spend->slots[at] - 1];
        if (row->hash == hash && key_eq(&row->key, key))
            return row;
    }
    return NULL;
}

void spend_put(struct spend *spend, const struct spend_key *key, const struct spend_sum *sum)
{
    uint32_t *last = &spend->last[key->by];
    if (*last && key_eq(&spend->rows[*last - 1].key, key)) {
        spend_add_sum(&spend->rows[*last - 1].sum, sum);
        return;
    }
    uint64_t hash = key_hash(key);
    struct spend_row *row = spend_find(spend, key, hash);
    if (row) {
        spend_add_sum(&row->sum, sum);
        *last = (uint32_t)(row - spend->rows) + 1;
        return;
    }
    if (spend->count * 2 >= spend->slot_count)
        spend_grow(spend);
    if (spend->count == spend->capacity) {
        spend->capacity = MAX(32, spend->capacity * 2);
        spend->rows = xrealloc(spend->rows, spend->capacity * sizeof(*spend->rows));
    }
    size_t at = hash & (spend->slot_count - 1);
    while (spend->slots[at])
        at = (at + 1) & (spend->slot_count - 1);
    spend->rows[spend->count] = (struct spend_row){.key = *key, .hash = hash, .sum = *sum};
    spend->rows[spend->count].key.value = spend_copy(spend, key->value);
    spend->slots[at] = (uint32_t)++spend->count;
}

void spend_forget_user(struct spend *spend, struct id project, struct str user)
{
    size_t kept = 0;
    for (size_t i = 0; i < spend->count; i++) {
        const struct spend_key *key = &spend->rows[i].key;
        if (key->by != SPEND_BY_USER || !id_eq(key->project, project) || !str_eq(key->value, user))
            spend->rows[kept++] = spend->rows[i];
    }
    if (kept == spend->count)
        return;
    spend->count = kept;
    memset(spend->last, 0, sizeof(spend->last));
    spend_index(spend);
}

void spend_add_call(struct spend *spend, const struct call_record *call)
{
    int64_t day = call->started_wall_ns / NS_PER_DAY;
    struct spend_key key = {.project = call->project, .day = (int32_t)day};
    bool priced = call->cost_pico != COST_UNKNOWN;
    struct spend_sum sum = {.cost_pico = priced ? call->cost_pico : 0,
                            .calls = 1,
                            .calls_unpriced = !priced,
                            .tokens_in = usage_input_total(&call->usage),
                            .tokens_out = usage_output_total(&call->usage)};
    const struct str values[SPEND_BY_COUNT] = {
        [SPEND_BY_KEY] =
            id_is_zero(call->key) ? STR_EMPTY : str_make(call->key.bytes, sizeof(call->key.bytes)),
        [SPEND_BY_USER] = call->user,
        [SPEND_BY_MODEL] = call->model,
        [SPEND_BY_PROVIDER] = call->provider,
        [SPEND_BY_ROUTE] = call->route,
    };
    for (int by = 0; by < SPEND_BY_COUNT; by++) {
        key.by = (enum spend_by)by;
        key.value = values[by];
        if (by == SPEND_BY_PROJECT || key.value.n > 0)
            spend_put(spend, &key, &sum);
    }
    key.by = SPEND_BY_TAG;
    for (size_t i = 0; i < MIN(call->tag_count, LIMIT_TAGS); i++) {
        char text[2 * LIMIT_TAG_BYTES + 1];
        struct str name = str_slice(call->tags[i].name, 0, LIMIT_TAG_BYTES);
        struct str value = str_slice(call->tags[i].value, 0, LIMIT_TAG_BYTES);
        int n = snprintf(text, sizeof(text), "%.*s=%.*s", STR_ARG(name), STR_ARG(value));
        key.value = str_make(text, (size_t)n);
        spend_put(spend, &key, &sum);
    }
}

int32_t spend_period(int32_t day)
{
    if (day == SPEND_DAY_TOTAL)
        return SPEND_PERIOD_TOTAL;
    return day >= 0 ? day / SPEND_PERIOD_DAYS : -1;
}

void spend_merge(struct spend *into, const struct spend *from, int32_t period)
{
    for (size_t i = 0; i < from->count; i++) {
        struct spend_key key = from->rows[i].key;
        if (period == SPEND_PERIOD_TOTAL)
            key.day = SPEND_DAY_TOTAL;
        else if (spend_period(key.day) != period)
            continue;
        spend_put(into, &key, &from->rows[i].sum);
    }
}

void spend_each(const struct spend *spend,
                void (*each)(void *arg, const struct spend_key *key, const struct spend_sum *sum),
                void *arg)
{
    for (size_t i = 0; i < spend->count; i++)
        each(arg, &spend->rows[i].key, &spend->rows[i].sum);
}

void spend_sum_days(const struct spend *spend, struct id project, enum spend_by by,
                    struct str value, int32_t from, int32_t to, struct spend_sum *sum)
{
    struct spend_key key = {.project = project, .by = by, .value = value};
    if ((int64_t)to - from < (int64_t)spend->count) {
        for (int64_t day = from; day <= to; day++) {
            key.day = (int32_t)day;
            const struct spend_row *row = spend_find(spend, &key, key_hash(&key));
            if (row)
                spend_add_sum(sum, &row->sum);
        }
        return;
    }
    for (size_t i = 0; i < spend->count; i++) {
        const struct spend_row *row = &spend->rows[i];
        key.day = row->key.day;
        if (key.day >= from && key.day <= to && key_eq(&row->key, &key))
            spend_add_sum(sum, &row->sum);
    }
}

/* ---- on disk ---- */

struct row_disk {
    uint8_t project[16];
    uint8_t by, reserved[1];
    uint16_t value_bytes; /* follow, padded to 8 */
    int32_t day;
    uint64_t cost_low;
    int64_t cost_high;
    uint64_t calls, calls_unpriced, tokens_in, tokens_out;
};
_Static_assert(sizeof(struct row_disk) == 72, "format");

enum rc spend_encode(const struct spend *spend, struct buf *out)
{
    enum rc rc = RC_OK;
    static const char zeros[8];
    for (size_t i = 0; i < spend->count && rc == RC_OK; i++) {
        const struct spend_row *row = &spend->rows[i];
        struct str value = str_slice(row->key.value, 0, UINT16_MAX);
        struct row_disk disk = {.by = (uint8_t)row->key.by,
                                .value_bytes = (uint16_t)value.n,
                                .day = row->key.day,
                                .cost_low = (uint64_t)row->sum.cost_pico,
                                .cost_high = (int64_t)(row->sum.cost_pico >> 64),
                                .calls = row->sum.calls,
                                .calls_unpriced = row->sum.calls_unpriced,
                                .tokens_in = row->sum.tokens_in,
                                .tokens_out = row->sum.tokens_out};
        memcpy(disk.project, row->key.project.bytes, 16);
        rc = buf_append(out, str_make(&disk, sizeof(disk)));
        if (rc == RC_OK)
            rc = buf_append(out, value);
        if (rc == RC_OK)
            rc = buf_append(out, str_make(zeros, ALIGN_UP(value.n, 8) - value.n));
    }
    return rc;
}

enum rc spend_decode(struct str bytes, struct spend *into)
{
    while (bytes.n > 0) {
        struct row_disk disk;
        if (bytes.n < sizeof(disk))
            return RC_CORRUPT;
        memcpy(&disk, bytes.p, sizeof(disk));
        size_t n = sizeof(disk) + ALIGN_UP(disk.value_bytes, 8);
        if (n > bytes.n || disk.by >= SPEND_BY_COUNT)
            return RC_CORRUPT;
        struct spend_key key = {.by = (enum spend_by)disk.by,
                                .day = disk.day,
                                .value = str_make(bytes.p + sizeof(disk), disk.value_bytes)};
        memcpy(key.project.bytes, disk.project, 16);
        struct spend_sum sum = {.cost_pico = (__int128)disk.cost_high << 64 | disk.cost_low,
                                .calls = disk.calls,
                                .calls_unpriced = disk.calls_unpriced,
                                .tokens_in = disk.tokens_in,
                                .tokens_out = disk.tokens_out};
        spend_put(into, &key, &sum);
        bytes = str_make(bytes.p + n, bytes.n - n);
    }
    return RC_OK;
}

/* ---- book ---- */

void spend_book_init(struct spend_book *book, struct file_system *fs, const char *directory)
{
    *book = (struct spend_book){.fs = fs, .directory = directory, .generation_next = 1};
}

static void spend_book_forgot(struct spend_book *book)
{
    for (size_t i = 0; i < book->forgotten_count; i++)
        free(book->forgotten[i].user);
    free(book->forgotten);
    book->forgotten = NULL;
    book->forgotten_count = 0;
}

void spend_book_fini(struct spend_book *book)
{
    for (size_t i = 0; i < book->count; i++)
        spend_free(book->entries[i].loaded);
    free(book->entries);
    spend_book_forgot(book);
}

void spend_book_add(struct spend_book *book, int32_t period, uint64_t generation)
{
    book->entries = xrealloc(book->entries, (book->count + 1) * sizeof(*book->entries));
    size_t at = book->count++;
    for (; at > 0 && book->entries[at - 1].period > period; at--)
        book->entries[at] = book->entries[at - 1];
    book->entries[at] = (struct spend_book_entry){.period = period, .generation = generation};
    book->generation_next = MAX(book->generation_next, generation + 1);
}

struct spend_book_entry *spend_book_find(struct spend_book *book, int32_t period)
{
    for (size_t i = 0; i < book->count; i++)
        if (book->entries[i].period == period)
            return &book->entries[i];
    return NULL;
}

void spend_book_forget_user(struct spend_book *book, struct id project, struct str user)
{
    for (size_t i = 0; i < book->count; i++)
        if (book->entries[i].loaded)
            spend_forget_user(book->entries[i].loaded, project, user);
    book->forgotten =
        xrealloc(book->forgotten, (book->forgotten_count + 1) * sizeof(*book->forgotten));
    char *copy = xmalloc(user.n);
    memcpy(copy, user.p, user.n);
    book->forgotten[book->forgotten_count++] = (struct spend_forgotten){project, copy, user.n};
}

void spend_file_name(int32_t period, uint64_t generation, char out[64])
{
    if (period == SPEND_PERIOD_TOTAL)
        snprintf(out, 64, "spend-total-%" PRIu64, generation);
    else
        snprintf(out, 64, "spend-%" PRId32 "-%" PRIu64, period, generation);
}

enum rc spend_book_read(const struct spend_book *book, const struct spend_book_entry *entry,
                        struct spend **out, bool *own, struct err *err)
{
    *own = false;
    *out = entry->loaded;
    if (entry->loaded)
        return RC_OK;
    char name[64];
    spend_file_name(entry->period, entry->generation, name);
    struct buf buf;
    buf_init(&buf, SPEND_FILE_BYTES_MAX);
    enum rc rc =
        manifest_load(book->fs, book->directory, name, SPEND_KIND, SPEND_VERSION, &buf, err);
    struct spend *spend = spend_new();
    if (rc == RC_OK)
        rc = spend_decode(buf_str(&buf), spend);
    buf_fini(&buf);
    if (rc != RC_OK) {
        if (err && err->code == ERR_NONE)
            err_set(err, ERR_INTERNAL, "%s/%s is damaged", book->directory, name);
        spend_free(spend);
        return rc;
    }
    for (size_t i = 0; i < book->forgotten_count; i++) {
        const struct spend_forgotten *gone = &book->forgotten[i];
        spend_forget_user(spend, gone->project, str_make(gone->user, gone->user_bytes));
    }
    *out = spend;
    *own = true;
    return RC_OK;
}

/* The period as it will be, written under a new name. */
static enum rc prepare_period(struct spend_book *book, int32_t period, const struct spend *delta,
                              struct spend_change *change, struct err *err)
{
    struct spend_book_entry *old = spend_book_find(book, period);
    struct spend *sum = spend_new();
    enum rc rc = RC_OK;
    if (old) {
        struct spend *before;
        bool own;
        rc = spend_book_read(book, old, &before, &own, err);
        if (rc == RC_OK) {
            for (size_t i = 0; i < before->count; i++)
                spend_put(sum, &before->rows[i].key, &before->rows[i].sum);
            if (own)
                spend_free(before);
        }
    }
    if (delta)
        spend_merge(sum, delta, period);
    struct buf buf;
    buf_init(&buf, SPEND_FILE_BYTES_MAX);
    uint64_t generation = book->generation_next++;
    char name[64];
    spend_file_name(period, generation, name);
    if (rc == RC_OK)
        rc = spend_encode(sum, &buf);
    if (rc == RC_OK)
        rc = manifest_store(book->fs, book->directory, name, SPEND_KIND, SPEND_VERSION,
                            buf_str(&buf), err);
    buf_fini(&buf);
    if (rc != RC_OK) {
        spend_free(sum);
        return rc;
    }
    change->entries = xrealloc(change->entries, (change->count + 1) * sizeof(*change->entries));
    change->entries[change->count++] =
        (struct spend_book_entry){.period = period, .generation = generation, .loaded = sum};
    return RC_OK;
}

static bool change_has(const struct spend_change *change, int32_t period)
{
    for (size_t i = 0; i < change->count; i++)
        if (change->entries[i].period == period)
            return true;
    return false;
}

enum rc spend_book_prepare(struct spend_book *book, const struct spend *delta,
                           struct spend_change *change, struct err *err)
{
    *change = (struct spend_change){0};
    enum rc rc = RC_OK;
    size_t count = delta ? delta->count : 0;
    if (count > 0)
        rc = prepare_period(book, SPEND_PERIOD_TOTAL, delta, change, err);
    for (size_t i = 0; i < count && rc == RC_OK; i++) {
        int32_t period = spend_period(delta->rows[i].key.day);
        if (!change_has(change, period))
            rc = prepare_period(book, period, delta, change, err);
    }
    for (size_t i = 0; book->forgotten_count > 0 && i < book->count && rc == RC_OK; i++) {
        if (!change_has(change, book->entries[i].period))
            rc = prepare_period(book, book->entries[i].period, NULL, change, err);
        if (rc == RC_CORRUPT || rc == RC_NOT_FOUND) { /* a name in it cannot be read either */
            rc = RC_OK;
            if (err)
                *err = (struct err){0};
        }
    }
    if (rc != RC_OK)
        spend_change_fini(change);
    return rc;
}

void spend_book_apply(struct spend_book *book, struct spend_change *change)
{
    for (size_t i = 0; i < change->count; i++) {
        struct spend_book_entry *new = &change->entries[i];
        struct spend_book_entry *old = spend_book_find(book, new->period);
        if (!old) {
            spend_book_add(book, new->period, new->generation);
            old = spend_book_find(book, new->period);
        } else {
            char name[64], path[4096];
            spend_file_name(old->period, old->generation, name);
            snprintf(path, sizeof(path), "%s/%s", book->directory, name);
            enum rc rc = file_remove(book->fs, path);
            UNUSED(rc); /* else it is a leftover for the next opening */
        }
        spend_free(old->loaded);
        old->loaded = new->loaded;
        old->generation = new->generation;
        new->loaded = NULL;
    }
    spend_change_fini(change);
    spend_book_forgot(book);
    for (size_t i = 0; i + LOADED_PERIODS_MAX < book->count; i++) {
        if (book->entries[i].period == SPEND_PERIOD_TOTAL)
            continue;
        spend_free(book->entries[i].loaded);
        book->entries[i].loaded = NULL;
    }
}

void spend_change_fini(struct spend_change *change)
{
    for (size_t i = 0; i < change->count; i++)
        spend_free(change->entries[i].loaded);
    free(change->entries);
    *change = (struct spend_change){0};
}
