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
#define RECALL_WHOLE 0.9995F

const size_t effort_ks[EFFORT_KS] = {1, 10, 100};
static const uint32_t walk_reaches[] = {0,   20,  40,  60,  80,  100, 125, 150, 180,
                                        220, 270, 330, 400, 500, 650, 800, 1000};
static const uint32_t scan_keeps[] = {1,   2,   4,   8,   16,  24,   32,   48,   64,   96,  128,
                                      192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
_Static_assert(COUNT_OF(walk_reaches) <= EFFORT_POINTS_MAX, "table");
_Static_assert(COUNT_OF(scan_keeps) <= EFFORT_POINTS_MAX, "table");
#define SCAN_KEEP_MAX 4096

struct truth {
    uint32_t slot;         /* of the vector that is searched for */
    uint32_t nodes[TRUTH]; /* nearest first */
    uint32_t count;
};

static struct effort effort_at(const struct effort_table *table, double recall)
{
    uint32_t count = MIN(table->count, EFFORT_POINTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        double reached = table->recall[i], part = 1;
        if (!(reached >= recall))
            continue;
        uint32_t before = i > 0 ? i - 1 : 0;
        if (i > 0 && reached > table->recall[before])
            part = (recall - table->recall[before]) / (reached - table->recall[before]);
        part = MIN(MAX(part, 0), 1);
        return (struct effort){
            table->effort[before] + part * ((double)table->effort[i] - table->effort[before]),
            MAX(table->cost[before] + part * (table->cost[i] - table->cost[before]), 1)};
    }
    return (struct effort){0};
}

struct effort effort_for(const struct effort_table tables[EFFORT_KS], size_t k, double recall)
{
    /* What samples do not show: a tenth of what may be missing, and their own error. */
    double wanted = MIN(recall + 0.1 * (1 - recall), recall + 0.005);
    size_t row = 0;
    while (row + 1 < EFFORT_KS && effort_ks[row + 1] <= k)
        row++;
    struct effort effort = effort_at(&tables[row], wanted);
    if (effort.cost <= 0 || k == effort_ks[row] || row + 1 == EFFORT_KS)
        return effort;
    struct effort next = effort_at(&tables[row + 1], wanted);
    double part = log((double)k / (double)effort_ks[row]) /
                  log((double)effort_ks[row + 1] / (double)effort_ks[row]);
    return next.cost <= 0 ? next
                          : (struct effort){effort.effort + part * (next.effort - effort.effort),
                                            effort.cost + part * (next.cost - effort.cost)};
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
            best[count++] =
                (struct found){-exact_score(exact, vector, slot), scratch->pool[i].node};
    }
    found_sort(best, count, spare);
    truth->count = (uint32_t)MIN(count, TRUTH);
    for (size_t i = 0; i < truth->count; i++)
        truth->nodes[i] = best[i].node;
}

struct tally {
    double found, wanted, cost;
};

/* Adds how many of the k true neighbours are among the first `count` of the pool. */
static void tally_add(struct tally *tally, const struct truth *truth, size_t k,
                      const struct dense_scratch *scratch, size_t count, uint8_t *marks)
{
    count = MIN(count, scratch->pool_count);
    for (size_t i = 0; i < count; i++)
        marks[scratch->pool[i].node] = 1;
    for (size_t i = 0; i < MIN(k, truth->count); i++) {
        tally->found += marks[truth->nodes[i]];
        tally->wanted++;
    }
    for (size_t i = 0; i < count; i++)
        marks[scratch->pool[i].node] = 0;
}

/* False: more effort would find no more. */
static bool table_add(struct effort_table *table, uint32_t effort, double cost,
                      const struct tally *tally)
{
    uint32_t at = table->count++;
    float recall = tally->wanted > 0 ? (float)(tally->found / tally->wanted) : 1;
    if (at > 0)
        recall = MAX(recall, table->recall[at - 1]);
    table->effort[at] = effort;
    table->recall[at] = recall;
    table->cost[at] = (float)cost;
    return recall < RECALL_WHOLE;
}

static void calibrate_walk(struct effort_table *table, size_t k, const struct codes *codes,
                           const struct exact *exact, struct dense_scratch *scratch,
                           const struct truth *truths, size_t samples, uint8_t *marks)
{
    bool more = true;
    for (size_t i = 0; more && i < COUNT_OF(walk_reaches); i++) {
        struct walk_limits limits = walk_limits_of(k, walk_reaches[i]);
        struct tally tally = {0};
        for (size_t s = 0; s < samples; s++) {
            query_of(codes, exact, truths[s].slot, scratch);
            walk(codes, scratch, &limits, codes->nodes[truths[s].slot]);
            tally_add(&tally, &truths[s], k, scratch, SIZE_MAX, marks);
            tally.cost += (double)scratch->evaluated;
        }
        double cost = tally.cost / (double)samples;
        more = table_add(table, walk_reaches[i], cost, &tally) && cost < codes->count * 0.5;
        /* What is not found now has no way to it. */
        if (i > 0 && table->recall[i] > 0.99F && table->recall[i] - table->recall[i - 1] < 5e-4F)
            more = false;
    }
}

/* One scan tells for all numbers of vectors to keep. */
static void calibrate_scan(struct effort_table tables[EFFORT_KS], const struct codes *codes,
                           const struct exact *exact, struct dense_scratch *scratch,
                           const struct truth *truths, size_t samples, uint8_t *marks)
{
    struct tally tallies[EFFORT_KS][COUNT_OF(scan_keeps)] = {{{0}}};
    for (size_t s = 0; s < samples; s++) {
        query_of(codes, exact, truths[s].slot, scratch);
        scan(codes, scratch, SCAN_KEEP_MAX, NULL);
        for (size_t row = 0; row < EFFORT_KS; row++)
            for (size_t i = 0; i < COUNT_OF(scan_keeps); i++) /* one more: it finds itself */
                tally_add(&tallies[row][i], &truths[s], effort_ks[row], scratch, scan_keeps[i] + 1,
                          marks);
    }
    for (size_t row = 0; row < EFFORT_KS; row++) {
        bool more = true;
        for (size_t i = 0; more && i < COUNT_OF(scan_keeps); i++)
            more = table_add(&tables[row], scan_keeps[i], scan_keeps[i], &tallies[row][i]);
    }
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
    for (size_t row = 0; samples > 0 && codes->records && row < EFFORT_KS; row++)
        calibrate_walk(&meta->walk[row], effort_ks[row], codes, exact, scratch, truths, samples,
                       marks);
    if (samples > 0)
        calibrate_scan(meta->scan, codes, exact, scratch, truths, samples, marks);
    free(marks);
    free(truths);
    dense_scratch_free(scratch);
}
