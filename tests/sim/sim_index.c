/* The index under power losses, failing syncs and full disks.
 *
 * Each seed is a history of several lives: rows are put in and deleted, tails sealed, segments
 * merged, in an order that the seed chooses, until the power fails in the middle of some change;
 * then the index is opened again and must agree with what was promised:
 *   - what an acknowledged change said of an id holds, unless a later change may have been made;
 *   - a batch is there whole or not at all;
 *   - no id is there twice, and every row is one that was put in, whole. */
#include "base/rand.h"
#include "power.h"
#include "vector/index_private.h"
#include <stdio.h>
#include <stdlib.h>

#define IDS         60
#define BATCH_MAX   12
#define DIMENSION   4
#define OPTIONS_MAX 400 /* versions that an id may have after a crash */

/* What an id may be: version 0 is "not there". The first is what was acknowledged last; the others
 * were asked for since, and nobody knows whether they were made. */
struct known {
    uint32_t versions[OPTIONS_MAX];
    size_t count;
};

struct history {
    struct power_history power;
    struct index *index;
    struct known ids[IDS];
    uint32_t next_version;
    uint32_t batch_of[1 << 16]; /* version → batch */
    uint32_t next_batch;
};

static const struct index_config config = {
    .vectors = {{.name = STR_INIT(""), .dimension = DIMENSION, .metric = METRIC_DOT}},
    .vector_count = 1,
    .texts = {{STR_INIT("text"), 1}},
    .text_count = 1,
    .language = STR_INIT("none"),
};

static enum rc history_open(struct history *h, struct err *err)
{
    enum rc rc = index_open(h->power.fs, "/data/index", &config, &h->index, err);
    if (rc == RC_OK)
        h->index->tail_rows_max = 8 + (uint32_t)rand_below(24);
    return rc;
}

/* ---- acting ---- */

static void note(struct history *h, unsigned id, uint32_t version, enum rc rc)
{
    struct known *known = &h->ids[id];
    if (rc == RC_OK)
        known->count = 0;
    if (known->count < OPTIONS_MAX)
        known->versions[known->count++] = version;
}

static void fill_vector(float vector[DIMENSION], uint32_t version)
{
    for (int d = 0; d < DIMENSION; d++)
        vector[d] = (float)(version * 7 + (uint32_t)d);
}

static void act_upsert(struct history *h)
{
    struct index_row rows[BATCH_MAX];
    char ids[BATCH_MAX][16], texts[BATCH_MAX][32], payloads[BATCH_MAX][32];
    float vectors[BATCH_MAX][DIMENSION];
    unsigned numbers[BATCH_MAX];
    size_t count = 1 + rand_below(BATCH_MAX);
    unsigned start = (unsigned)rand_below(IDS);
    uint32_t first = h->next_version;
    if (first + count >= COUNT_OF(h->batch_of))
        return;
    h->next_batch++;
    for (size_t i = 0; i < count; i++) {
        uint32_t version = h->next_version++;
        numbers[i] = (start + (unsigned)i * 7) % IDS; /* 7 and 60 have no common divisor */
        h->batch_of[version] = h->next_batch;
        fill_vector(vectors[i], version);
        snprintf(ids[i], sizeof(ids[i]), "%u", numbers[i]);
        snprintf(texts[i], sizeof(texts[i]), "v%u", version);
        snprintf(payloads[i], sizeof(payloads[i]), "{\"v\":%u}", version);
        rows[i] = (struct index_row){.id = str_from(ids[i]),
                                     .vectors = {vectors[i]},
                                     .texts = {str_from(texts[i])},
                                     .payload = str_from(payloads[i])};
    }
    enum rc rc = index_upsert(h->index, rows, count, NULL);
    for (size_t i = 0; i < count; i++)
        note(h, numbers[i], first + (uint32_t)i, rc);
}

static void act_delete(struct history *h)
{
    char texts[4][16];
    struct str ids[4];
    unsigned numbers[4];
    size_t count = 1 + rand_below(4);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (unsigned)rand_below(IDS);
        snprintf(texts[i], sizeof(texts[i]), "%u", numbers[i]);
        ids[i] = str_from(texts[i]);
    }
    enum rc rc = index_delete(h->index, ids, count, NULL, NULL);
    for (size_t i = 0; i < count; i++)
        note(h, numbers[i], 0, rc);
}

static void act(struct history *h)
{
    enum rc rc = RC_OK;
    switch (rand_below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: act_upsert(h); break;
    case 5:
    case 6: act_delete(h); break;
    case 7: rc = index_seal(h->index, NULL, NULL, NULL); break;
    case 8: rc = index_maintain(h->index, NULL, NULL, NULL); break;
    case 9: rc = index_set_ranking(h->index, 1.5, 0.5, NULL, NULL); break;
    case 10: file_system_fail_syncs(h->power.fs, (int)rand_below(3)); break;
    default:
        file_system_set_space(h->power.fs, rand_below(4) ? -1 : (int64_t)rand_below(200000));
        break;
    }
    UNUSED(rc); /* with the power gone, everything fails */
}

/* ---- checking ---- */

static bool check_row(struct history *h, const struct index_row *row, uint32_t *seen)
{
    unsigned id = (unsigned)strtoul(row->id.p, NULL, 10);
    uint32_t version = row->texts[0].n > 1 ? (uint32_t)strtoul(row->texts[0].p + 1, NULL, 10) : 0;
    float vector[DIMENSION];
    fill_vector(vector, version);
    if (id >= IDS || version == 0 || version >= h->next_version || !row->vectors[0] ||
        memcmp(row->vectors[0], vector, sizeof(vector)) != 0)
        return power_problem(&h->power, "id %u: the row is not whole", id);
    if (seen[id])
        return power_problem(&h->power, "id %u is there twice", id);
    seen[id] = version;
    return true;
}

/* If one row of a batch is there that nobody acknowledged, no other may be as it was before. */
static bool check_batches(struct history *h, const uint32_t *seen)
{
    for (unsigned a = 0; a < IDS; a++) {
        uint32_t batch = seen[a] ? h->batch_of[seen[a]] : 0;
        for (unsigned b = 0; batch && b < IDS; b++) {
            const struct known *known = &h->ids[b];
            size_t in_batch = SIZE_MAX, is = SIZE_MAX;
            for (size_t i = 0; i < known->count; i++) {
                if (known->versions[i] && h->batch_of[known->versions[i]] == batch)
                    in_batch = i;
                if (known->versions[i] == seen[b])
                    is = i;
            }
            if (in_batch != SIZE_MAX && is != SIZE_MAX && is < in_batch)
                return power_problem(&h->power, "a batch is there in part: id %u yes, id %u no", a,
                                     b);
        }
    }
    return true;
}

/* The row is found by its words and its vector as by its id. */
static bool check_found(struct history *h, unsigned id, uint32_t version)
{
    char text[16];
    struct arena arena;
    struct index_hits hits;
    struct index_query query = {.k = 3, .all_tags = true, .score_min = -1e30};
    snprintf(text, sizeof(text), "v%u", version);
    query.text = str_from(text);
    arena_init(&arena, 1 << 20);
    enum rc rc = index_search(h->index, &query, &arena, &hits, NULL);
    bool good = rc == RC_OK && hits.count == 1 && strtoul(hits.items[0].id.p, NULL, 10) == id;
    arena_fini(&arena);
    return good || power_problem(&h->power, "id %u is not found by its word", id);
}

static bool check(struct history *h)
{
    uint32_t seen[IDS] = {0};
    struct arena arena;
    uint64_t cursor = 0;
    bool good = true;
    arena_init(&arena, 16 << 20);
    do {
        struct index_row *rows;
        size_t count;
        struct err err = {0};
        enum rc rc = index_scroll(h->index, NULL, &cursor, 50, &arena, &rows, &count, &err);
        if (rc != RC_OK)
            good = power_problem(&h->power, "scroll: %s", err.message);
        for (size_t i = 0; good && i < count; i++)
            good = check_row(h, &rows[i], seen);
    } while (good && cursor);
    arena_fini(&arena);
    for (unsigned id = 0; good && id < IDS; id++) {
        const struct known *known = &h->ids[id];
        bool may = known->count == 0 && seen[id] == 0;
        for (size_t i = 0; i < known->count; i++)
            may |= known->versions[i] == seen[id];
        if (!may)
            good = power_problem(&h->power, "id %u has version %u, which it cannot have", id,
                                 seen[id]);
    }
    good = good && check_batches(h, seen);
    for (unsigned id = 0; good && id < IDS; id++) {
        h->ids[id] = (struct known){.versions = {seen[id]}, .count = 1};
        if (seen[id] && rand_below(4) == 0)
            good = check_found(h, id, seen[id]);
    }
    return good;
}

/* ---- histories ---- */

static bool live(struct power_history *power)
{
    struct history *h = CONTAINER_OF(power, struct history, power);
    h->next_version = MAX(h->next_version, 1u); /* 0 is "not there" */
    struct err err = {0};
    file_system_set_space(h->power.fs, -1);
    file_system_fail_syncs(h->power.fs, 0);
    if (rand_below(6) == 0) { /* the power fails while it opens */
        file_system_fail_after(h->power.fs, 1 + rand_below(20));
        if (history_open(h, &err) == RC_OK) {
            file_system_fail(h->power.fs);
            index_close(h->index);
        }
        file_system_crash(h->power.fs);
        err = (struct err){0};
    }
    if (history_open(h, &err) != RC_OK)
        return power_problem(&h->power, "open: %s", err.message);
    bool good = check(h);
    file_system_fail_after(h->power.fs, 1 + rand_below(250));
    for (int step = 0; good && step < 120 && !file_system_failed(h->power.fs); step++)
        act(h);
    if (file_system_failed(h->power.fs) || rand_below(2))
        file_system_fail(h->power.fs);
    index_close(h->index);
    file_system_crash(h->power.fs);
    return good;
}

int main(void)
{
    static const struct power_sim sim = {.history_bytes = sizeof(struct history), .live = live};
    return power_main(&sim);
}
