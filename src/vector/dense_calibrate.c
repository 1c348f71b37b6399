/* How far to look for which recall: measured when a segment is built, by searching for vectors of
 * its own. Each is hidden from its own search, so that it must be found its neighbours without the
 * links that it itself was given: a little harder than what a stranger's search meets. */
#include "vector/dense_private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_MAX  256
#define TRUTH        100
#define TRUTH_LOOK   192 /* by 8-bit codes, then scored exactly */
#define SCAN_KEEP    4096
#define RECALL_WHOLE 0.9995F

const size_t effort_ks[EFFORT_KS] = {1, 10, 100};
static const uint32_t walk_beams[] = {8,   12,  16,  24,  32,  48,  64,  96,   128,
                                      192, 256, 384, 512, 768, 1024, 1536, 2048};
static const uint32_t scan_keeps[] = {16,  24,  32,  48,  64,  96,   128,  192,  256,
                                      384, 512, 768, 1024, 1536, 2048, 3072, 4096};
_Static_assert(COUNT_OF(walk_beams) <= EFFORT_POINTS_MAX, "table");
_Static_assert(COUNT_OF(scan_keeps) <= EFFORT_POINTS_MAX, "table");

struct truth {
    uint32_t slot;               /* of the vector that is searched for */
    uint32_t nodes[TRUTH];       /* nearest first */
    uint32_t count;
};

static double effort_at(const struct effort_table *table, size_t row, double recall)
{
    uint32_t count = MIN(table->count, EFFORT_POINTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        double reached = table->recall[row][i];
        if (!(reached >= recall))
            continue;
        if (i == 0)
            return table->effort[0];
        double before = table->recall[row][i - 1];
        double part = reached > before ? (recall - before) / (reached - before) : 1;
        return table->effort[i - 1] +
               MAX(part, 0) * ((double)table->effort[i] - table->effort[i - 1]);
    }
    return 0;
}

size_t effort_for(const struct effort_table *table, size_t k, double recall)
{
    /* What samples do not show: a tenth of what may be missing, and their own error. */
    double wanted = MIN(recall + 0.1 * (1 - recall), recall + 0.005);
    size_t row = 0;
    while (row + 1 < EFFORT_KS && effort_ks[row + 1] <= k)
        row++;
    double effort = effort_at(table, row, wanted);
    if (effort <= 0 || k == effort_ks[row])
        return (size_t)ceil(effort);
    if (row + 1 == EFFORT_KS)
        return (size_t)ceil(effort * (double)k / (double)effort_ks[row]);
    double next = effort_at(table, row + 1, wanted);
    double part = log((double)k / (double)effort_ks[row]) /
                  log((double)effort_ks[row + 1] / (double)effort_ks[row]);
    return next <= 0 ? 0 : (size_t)ceil(effort + part * (next - effort));
}

static void query_of(const struct codes *codes, const struct exact *exact, uint32_t slot,
                     struct dense_scratch *scratch)
{
    struct query_codes *query = scratch_query(scratch, codes->codec->padded);
    codec_rotate(codes->codec, exact->vectors + (size_t)slot * exact->dimension, false,
                 query->rotated);
    query_codes_prepare(query, codes->codec);
}

static void find_truth(const struct codes *codes, const struct exact *exact,
                       struct dense_scratch *scratch, struct truth *truth)
{
    const float *vector = exact->vectors + (size_t)truth->slot * exact->dimension;
    struct found best[TRUTH_LOOK], spare[TRUTH_LOOK];
    size_t count = 0;
    query_of(codes, exact, truth->slot, scratch);
    scan_fine(codes, scratch, TRUTH_LOOK, NULL);
    for (size_t i = 0; i < scratch->pool_count; i++) {
        uint32_t slot = codes_slot(codes, scratch->pool[i].node);
        if (slot != truth->slot)
            best[count++] = (struct found){-exact_score(exact, vector, slot), scratch->pool[i].node};
    }
    found_sort(best, count, spare);
    truth->count = (uint32_t)MIN(count, TRUTH);
    for (size_t i = 0; i < truth->count; i++)
        truth->nodes[i] = best[i].node;
}

/* Adds for each true neighbour among the first 1, 10 and 100 whether it is in the pool. */
static void count_found(const struct truth *truth, const struct found *pool, size_t count,
                        uint8_t *marks, double found[EFFORT_KS], double wanted[EFFORT_KS])
{
    for (size_t i = 0; i < count; i++)
        marks[pool[i].node] = 1;
    for (size_t row = 0; row < EFFORT_KS; row++)
        for (size_t i = 0; i < MIN(effort_ks[row], truth->count); i++) {
            found[row] += marks[truth->nodes[i]];
            wanted[row]++;
        }
    for (size_t i = 0; i < count; i++)
        marks[pool[i].node] = 0;
}

/* Returns false when the next effort would find no more. */
static bool table_add(struct effort_table *table, uint32_t effort, const double found[EFFORT_KS],
                      const double wanted[EFFORT_KS])
{
    bool more = false;
    uint32_t at = table->count++;
    table->effort[at] = effort;
    for (size_t row = 0; row < EFFORT_KS; row++) {
        float recall = wanted[row] > 0 ? (float)(found[row] / wanted[row]) : 1;
        if (at > 0)
            recall = MAX(recall, table->recall[row][at - 1]);
        table->recall[row][at] = recall;
        more = more || recall < RECALL_WHOLE;
    }
    return more;
}

static void calibrate_walk(struct effort_table *table, const struct codes *codes,
                           const struct exact *exact, struct dense_scratch *scratch,
                           const struct truth *truths, size_t samples, uint8_t *marks)
{
    bool more = true;
    for (size_t i = 0; more && i < COUNT_OF(walk_beams); i++) {
        double found[EFFORT_KS] = {0}, wanted[EFFORT_KS] = {0};
        for (size_t s = 0; s < samples; s++) {
            query_of(codes, exact, truths[s].slot, scratch);
            walk(codes, scratch, walk_beams[i], walk_keep(walk_beams[i]),
                 codes->nodes[truths[s].slot]);
            count_found(&truths[s], scratch->pool, scratch->pool_count, marks, found, wanted);
        }
        more = table_add(table, walk_beams[i], found, wanted);
    }
}

/* One scan tells for all numbers of vectors to keep. */
static void calibrate_scan(struct effort_table *table, const struct codes *codes,
                           const struct exact *exact, struct dense_scratch *scratch,
                           const struct truth *truths, size_t samples, uint8_t *marks)
{
    double found[COUNT_OF(scan_keeps)][EFFORT_KS] = {{0}};
    double wanted[COUNT_OF(scan_keeps)][EFFORT_KS] = {{0}};
    for (size_t s = 0; s < samples; s++) {
        query_of(codes, exact, truths[s].slot, scratch);
        scan(codes, scratch, SCAN_KEEP, NULL);
        for (size_t i = 0; i < COUNT_OF(scan_keeps); i++)
            count_found(&truths[s], scratch->pool, MIN(scan_keeps[i], scratch->pool_count), marks,
                        found[i], wanted[i]);
    }
    bool more = true;
    for (size_t i = 0; more && i < COUNT_OF(scan_keeps); i++)
        more = table_add(table, scan_keeps[i], found[i], wanted[i]);
}

void calibrate(struct dense_meta_disk *meta, const struct codes *codes, const struct exact *exact)
{
    size_t samples = MIN(exact->count / 2, SAMPLES_MAX);
    struct dense_scratch *scratch = dense_scratch_new();
    struct truth *truths = xcalloc(MAX(samples, 1), sizeof(*truths));
    uint8_t *marks = xcalloc(MAX(exact->count, 1), 1);
    for (size_t s = 0; s < samples; s++) {
        truths[s].slot = (uint32_t)(s * exact->count / samples);
        find_truth(codes, exact, scratch, &truths[s]);
    }
    if (samples > 0 && codes->records)
        calibrate_walk(&meta->walk, codes, exact, scratch, truths, samples, marks);
    if (samples > 0)
        calibrate_scan(&meta->scan, codes, exact, scratch, truths, samples, marks);
    free(marks);
    free(truths);
    dense_scratch_free(scratch);
}
