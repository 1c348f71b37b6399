/* MaxScore over windows of rows. For each window every list gives an upper bound from its blocks;
 * the weakest lists whose bounds together cannot beat the k-th best so far only confirm candidates
 * that the others bring up; a window in which all lists are such is skipped without decoding
 * anything.
 *
 * Scores are whole numbers of 1/unit, chosen by the query so that no sum overflows: the order of
 * addition changes nothing, so pruned and exhaustive search give the same rows. */
#include "vector/words_search.h"
#include "vector/words_lists.h"
#include <math.h>
#include <stdlib.h>

#define WINDOW_ROWS   2048
#define SCORE_SUM_MAX ((double)(1 << 30))

typedef int32_t ints __attribute__((vector_size(32)));

struct words_plan {
    size_t fields;
    double unit;
    struct words_scale scales[]; /* item × field */
};

struct words_scratch {
    int32_t sums[WINDOW_ROWS] __attribute__((aligned(64)));
    uint16_t candidates[WINDOW_ROWS];
    struct words_walk *walks; /* one a list */
    size_t walk_capacity;
};

/* A list being walked: the block that is decoded, and where in it. */
struct words_walk {
    struct words_list *list;
    struct words_scale scale;
    int32_t bound;   /* in this window */
    uint32_t block;  /* first that may reach into the window */
    uint32_t loaded; /* block in rows and scores; UINT32_MAX: none */
    bool damaged;
    uint32_t count, at;
    uint32_t rows[WORDS_BLOCK_ROWS];
    int32_t scores[WORDS_BLOCK_ROWS];
};

struct words_scratch *words_scratch_new(void)
{
    struct words_scratch *scratch = aligned_alloc(64, ALIGN_UP(sizeof(*scratch), 64));
    ASSERT(scratch);
    memset(scratch, 0, sizeof(*scratch));
    return scratch;
}

void words_scratch_free(struct words_scratch *scratch)
{
    if (scratch)
        free(scratch->walks);
    free(scratch);
}

/* ---- the plan ---- */

static double idf(double rows, double matching)
{
    return log(1 + MAX(0.0, rows - matching + 0.5) / (matching + 0.5));
}

static double item_idf(struct words_part *const *parts, size_t part_count,
                       const struct words_item *item, size_t field, size_t fields, double rows)
{
    double sum = 0;
    for (size_t t = 0; t < item->term_count; t++) {
        double matching = 0;
        for (size_t i = 0; i < part_count; i++)
            matching += parts[i]->matching[(item->first_term + t) * fields + field];
        sum += idf(rows, matching);
    }
    return sum;
}

enum rc words_plan_make(struct words_part *const *parts, size_t part_count,
                        const struct words_query *query, const struct words_stats *stats,
                        const struct words_ranking *ranking, struct arena *arena,
                        struct words_plan **out)
{
    size_t fields = ranking->fields;
    struct words_plan *plan =
        arena_calloc(arena, sizeof(*plan) + query->item_count * fields * sizeof(plan->scales[0]));
    if (!plan)
        return RC_LIMIT;
    plan->fields = fields;
    double sum_max = 0;
    for (size_t i = 0; i < query->item_count; i++) {
        for (size_t f = 0; f < fields; f++) {
            const struct words_item *item = &query->items[i];
            double average =
                stats->field_rows[f] ? (double)stats->lengths[f] / (double)stats->field_rows[f] : 1;
            double weight = ranking->weights[f] * item->count * (ranking->k1 + 1) *
                            item_idf(parts, part_count, item, f, fields, (double)stats->rows);
            plan->scales[i * fields + f] = (struct words_scale){
                .weight = (float)weight,
                .base = (float)(ranking->k1 * (1 - ranking->b)),
                .slope = (float)(ranking->k1 * ranking->b / average),
            };
            sum_max += weight;
        }
    }
    plan->unit = sum_max > 0 ? SCORE_SUM_MAX / sum_max : 1;
    for (size_t i = 0; i < query->item_count * fields; i++)
        plan->scales[i].weight = (float)(plan->scales[i].weight * plan->unit);
    *out = plan;
    return RC_OK;
}

double words_plan_score(const struct words_plan *plan, int32_t score) { return score / plan->unit; }

/* ---- the best k ---- */

static bool worse(const struct words_hit *a, const struct words_hit *b)
{
    if (a->score != b->score)
        return a->score < b->score;
    return a->part != b->part ? a->part > b->part : a->row > b->row;
}

static void heap_down(struct words_top *top, size_t at, size_t count)
{
    struct words_hit hit = top->hits[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && worse(&top->hits[child + 1], &top->hits[child]))
            child++;
        if (!worse(&top->hits[child], &hit))
            break;
        top->hits[at] = top->hits[child];
    }
    top->hits[at] = hit;
}

static void top_add(struct words_top *top, struct words_hit hit)
{
    if (top->count < top->k) {
        size_t at = top->count++;
        for (; at > 0 && worse(&hit, &top->hits[(at - 1) / 2]); at = (at - 1) / 2)
            top->hits[at] = top->hits[(at - 1) / 2];
        top->hits[at] = hit;
    } else if (worse(&top->hits[0], &hit)) {
        top->hits[0] = hit;
        heap_down(top, 0, top->count);
    }
}

void words_top_sort(struct words_top *top)
{
    for (size_t n = top->count; n > 1; n--) {
        struct words_hit hit = top->hits[n - 1];
        top->hits[n - 1] = top->hits[0];
        top->hits[0] = hit;
        heap_down(top, 0, n - 1);
    }
}

/* A row must score more than this. */
static int32_t threshold(const struct words_top *top)
{
    return top->count < top->k ? 0 : top->hits[0].score;
}

/* ---- one window ---- */

static void walk_load(struct words_walk *walk, uint32_t block)
{
    uint32_t frequencies[WORDS_BLOCK_ROWS];
    walk->count = words_list_load(walk->list, block, walk->rows, frequencies);
    words_score(&walk->scale, walk->rows, frequencies, walk->count, walk->list->lengths,
                walk->scores);
    walk->damaged |= walk->count == 0;
    walk->loaded = block;
    walk->at = 0;
}

/* Moves the walk to the window and sets its bound there. */
static void walk_enter(struct words_walk *walk, uint32_t start, uint32_t end)
{
    const struct words_list *list = walk->list;
    walk->bound = 0;
    while (walk->block < list->block_count && words_list_last(list, walk->block) < start)
        walk->block++;
    for (uint32_t b = walk->block; b < list->block_count; b++) {
        int32_t bound = words_list_bound(list, b, &walk->scale);
        walk->bound = MAX(walk->bound, bound);
        if (words_list_last(list, b) >= end - 1)
            break;
    }
}

static void add_all(struct words_walk *walk, uint32_t start, uint32_t end, int32_t *sums)
{
    for (uint32_t b = walk->block; b < walk->list->block_count; b++) {
        if (walk->loaded != b)
            walk_load(walk, b);
        uint32_t i = walk->at;
        while (i < walk->count && walk->rows[i] < start)
            i++;
        for (; i < walk->count && walk->rows[i] < end; i++)
            sums[walk->rows[i] - start] += walk->scores[i];
        walk->at = i;
        if (i < walk->count || words_list_last(walk->list, b) >= end - 1)
            break;
    }
}

/* Adds the list's scores to the candidates (in order), and drops those that cannot come above
 * `least` even with `rest` more. */
static size_t confirm(struct words_walk *walk, uint32_t start, int32_t *sums, uint16_t *candidates,
                      size_t count, int64_t least, int64_t rest)
{
    size_t kept = 0;
    uint32_t block = walk->block;
    for (size_t c = 0; c < count; c++) {
        uint32_t row = start + candidates[c];
        if (sums[candidates[c]] + walk->bound + rest <= least)
            continue;
        while (block < walk->list->block_count && words_list_last(walk->list, block) < row)
            block++;
        if (block < walk->list->block_count) {
            if (walk->loaded != block)
                walk_load(walk, block);
            while (walk->at < walk->count && walk->rows[walk->at] < row)
                walk->at++;
            if (walk->at < walk->count && walk->rows[walk->at] == row)
                sums[candidates[c]] += walk->scores[walk->at];
        }
        if (sums[candidates[c]] + rest > least)
            candidates[kept++] = candidates[c];
    }
    return kept;
}

/* Rows of the window whose sum is above `least` (≥ 0), in order. */
static size_t gather(const int32_t *sums, uint32_t count, int32_t least, uint16_t *candidates)
{
    size_t n = 0;
    for (uint32_t i = 0; i < count; i += 32) {
        ints any = {0};
        for (uint32_t j = 0; j < 32; j += 8) {
            ints v;
            memcpy(&v, sums + i + j, sizeof(v));
            any |= v > least;
        }
        uint64_t words[4];
        memcpy(words, &any, sizeof(words));
        if (!(words[0] | words[1] | words[2] | words[3]))
            continue;
        for (uint32_t j = i; j < i + 32; j++)
            if (sums[j] > least)
                candidates[n++] = (uint16_t)j;
    }
    return n;
}

static void sort_by_bound(struct words_walk **walks, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct words_walk *walk = walks[i];
        size_t j = i;
        for (; j > 0 && walks[j - 1]->bound > walk->bound; j--)
            walks[j] = walks[j - 1];
        walks[j] = walk;
    }
}

struct searching {
    struct words_scratch *scratch;
    const uint64_t *allowed;
    struct words_top *top;
    uint32_t part;
};

static bool is_allowed(const struct searching *s, uint32_t row)
{
    return !s->allowed || (s->allowed[row / 64] >> (row % 64) & 1);
}

static void search_window(struct searching *s, struct words_walk **walks, size_t count,
                          uint32_t start, uint32_t end)
{
    int32_t least = threshold(s->top), *sums = s->scratch->sums;
    uint16_t *candidates = s->scratch->candidates;
    int64_t weak_sum = 0;
    size_t weak = 0; /* walks[0 … weak) cannot reach `least` together */
    for (size_t i = 0; i < count; i++)
        walk_enter(walks[i], start, end);
    sort_by_bound(walks, count);
    while (weak < count && weak_sum + walks[weak]->bound <= least)
        weak_sum += walks[weak++]->bound;
    if (weak == count)
        return;
    memset(sums, 0, WINDOW_ROWS * sizeof(sums[0]));
    for (size_t i = weak; i < count; i++)
        add_all(walks[i], start, end, sums);
    int64_t need = (int64_t)least - weak_sum;
    size_t found = gather(sums, WINDOW_ROWS, (int32_t)MAX(need, 0), candidates);
    for (size_t i = weak; i-- > 0 && found > 0;) {
        weak_sum -= walks[i]->bound;
        if (walks[i]->bound > 0)
            found = confirm(walks[i], start, sums, candidates, found, least, weak_sum);
    }
    for (size_t c = 0; c < found; c++) {
        uint32_t row = start + candidates[c];
        if (is_allowed(s, row))
            top_add(s->top,
                    (struct words_hit){.score = sums[candidates[c]], .part = s->part, .row = row});
    }
}

/* ---- a part ---- */

static bool window_allowed(const uint64_t *allowed, uint32_t start, uint32_t end)
{
    uint64_t any = 0;
    for (uint32_t w = start / 64; allowed && w < (end + 63) / 64; w++)
        any |= allowed[w];
    return !allowed || any != 0;
}

static void walks_reserve(struct words_scratch *scratch, size_t count)
{
    if (count <= scratch->walk_capacity)
        return;
    free(scratch->walks);
    scratch->walks = xmalloc(count * sizeof(*scratch->walks));
    scratch->walk_capacity = count;
}

enum rc words_part_search(struct words_part *part, uint32_t part_number,
                          const struct words_plan *plan, const uint64_t *allowed,
                          struct arena *arena, struct words_scratch *scratch, struct words_top *top)
{
    struct searching s = {.scratch = scratch, .top = top, .part = part_number};
    if (part->list_count == 0 || part->rows == 0 || top->k == 0)
        return RC_OK;
    enum rc rc = words_part_required(part, allowed, arena, &s.allowed);
    if (rc != RC_OK)
        return rc;
    struct words_walk **order = ARENA_NEW_ARRAY(arena, struct words_walk *, part->list_count);
    if (!order)
        return RC_LIMIT;
    walks_reserve(scratch, part->list_count);
    for (size_t i = 0; i < part->list_count; i++) {
        struct words_walk *walk = order[i] = &scratch->walks[i];
        struct words_list *list = &part->lists[i];
        walk->list = list;
        walk->scale = plan->scales[list->item * plan->fields + list->field];
        walk->block = 0;
        walk->loaded = UINT32_MAX;
        walk->damaged = false;
        walk->at = walk->count = 0;
    }
    for (uint32_t start = 0; start < part->rows; start += WINDOW_ROWS) {
        uint32_t end = MIN(start + WINDOW_ROWS, part->rows);
        if (window_allowed(s.allowed, start, end))
            search_window(&s, order, part->list_count, start, end);
    }
    for (size_t i = 0; i < part->list_count; i++)
        if (scratch->walks[i].damaged)
            return RC_CORRUPT;
    return RC_OK;
}
