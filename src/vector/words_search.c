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

#define SEED_WINDOWS  3
#define SEED_K_MAX    256
#define WINDOW_ROWS   4096
#define SCORE_SUM_MAX ((double)(1 << 30))

_Static_assert(WINDOW_ROWS <= 64 * WORDS_GROUP, "a bit for each group");

struct words_plan {
    size_t fields;
    double unit;
    struct words_scale scales[]; /* item × field */
};

struct words_scratch {
    int32_t sums[WINDOW_ROWS] __attribute__((aligned(64))); /* 0 between windows */
    uint16_t candidates[WINDOW_ROWS + 1];                   /* one is written beyond those found */
    struct words_walk *walks;                               /* one a list */
    size_t walk_capacity;
};

/* A list being walked: the block that is decoded, and where in it. */
struct words_walk {
    struct words_list *list;
    struct words_scale scale;
    int32_t *bounds; /* by window */
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

static void walk_rewind(struct words_walk *walk)
{
    walk->block = 0;
    walk->loaded = UINT32_MAX;
    walk->at = walk->count = 0;
}

/* Moves the walk to the window and sets its bound there. */
static void walk_enter(struct words_walk *walk, uint32_t start, uint32_t end)
{
    const struct words_list *list = walk->list;
    walk->bound = 0;
    while (walk->block < list->block_count && words_list_last(list, walk->block) < start)
        walk->block++;
    if (walk->block == list->block_count)
        return;
    if (walk->loaded == walk->block || list->block_count == 1) {
        if (walk->loaded != walk->block)
            walk_load(walk, walk->block);
        while (walk->at < walk->count && walk->rows[walk->at] < start)
            walk->at++;
        if (walk->at < walk->count && walk->rows[walk->at] >= end)
            return; /* the block spans the window and has nothing in it */
    }
    walk->bound = walk->bounds[start / WINDOW_ROWS];
}

/* The bounds of all windows, and their sums over the lists. */
static void bound_windows(struct words_walk *walk, uint32_t windows, int64_t *sums)
{
    const struct words_list *list = walk->list;
    uint32_t first = 0; /* window of the block's first row, or before */
    memset(walk->bounds, 0, windows * sizeof(*walk->bounds));
    for (uint32_t b = 0; b < list->block_count; b++) {
        int32_t bound = words_list_bound(list, b, &walk->scale);
        uint32_t last = MIN(words_list_last(list, b) / WINDOW_ROWS, windows - 1);
        for (uint32_t w = first; w <= last; w++)
            walk->bounds[w] = MAX(walk->bounds[w], bound);
        first = last;
    }
    for (uint32_t w = 0; w < windows; w++)
        sums[w] += walk->bounds[w];
}

/* Returns the groups of rows that it has touched, one bit each. */
static uint64_t add_all(struct words_walk *walk, uint32_t start, uint32_t end, int32_t *sums)
{
    uint64_t touched = 0;
    for (uint32_t b = walk->block; b < walk->list->block_count; b++) {
        if (walk->loaded != b)
            walk_load(walk, b);
        uint32_t i = walk->at;
        while (i < walk->count && walk->rows[i] < start)
            i++;
        for (; i < walk->count; i++) {
            uint32_t at = walk->rows[i] - start; /* wraps for rows before: also those end it */
            if (at >= end - start)
                break;
            sums[at] += walk->scores[i];
            touched |= 1ull << (at / WORDS_GROUP);
        }
        walk->at = i;
        if (i < walk->count || words_list_last(walk->list, b) >= end - 1)
            break;
    }
    return touched;
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
    int32_t floor; /* k rows of this part score so much at least */
    struct words_walk **walks;
    size_t walk_count;
    uint32_t rows, windows;
    int64_t *sums; /* of the bounds, by window */
};

static bool is_allowed(const struct searching *s, uint32_t row)
{
    return !s->allowed || (s->allowed[row / 64] >> (row % 64) & 1);
}

static bool window_allowed(const uint64_t *allowed, uint32_t start, uint32_t end)
{
    uint64_t any = 0;
    for (uint32_t w = start / 64; allowed && w < (end + 63) / 64; w++)
        any |= allowed[w];
    return !allowed || any != 0;
}

static void search_window(struct searching *s, uint32_t window)
{
    struct words_walk **walks = s->walks;
    size_t count = s->walk_count;
    uint32_t start = window * WINDOW_ROWS, end = MIN(start + WINDOW_ROWS, s->rows);
    int32_t least = MAX(threshold(s->top), s->floor - 1), *sums = s->scratch->sums;
    uint16_t *candidates = s->scratch->candidates;
    int64_t weak_sum = 0;
    size_t weak = 0; /* walks[0 … weak) cannot come above `least` together */
    if (s->sums[window] <= least || !window_allowed(s->allowed, start, end))
        return;
    for (size_t i = 0; i < count; i++)
        walk_enter(walks[i], start, end);
    sort_by_bound(walks, count);
    while (weak < count && weak_sum + walks[weak]->bound <= least)
        weak_sum += walks[weak++]->bound;
    if (weak == count)
        return;
    uint64_t touched = 0;
    for (size_t i = weak; i < count; i++)
        touched |= add_all(walks[i], start, end, sums);
    int32_t need = (int32_t)MAX(least - weak_sum, 0);
    size_t found = 0;
    for (uint64_t groups = touched; groups; groups &= groups - 1) {
        unsigned first = (unsigned)__builtin_ctzll(groups) * WORDS_GROUP;
        found += words_gather(sums + first, need, (uint16_t)first, candidates + found);
    }
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
    for (; touched; touched &= touched - 1)
        memset(sums + (unsigned)__builtin_ctzll(touched) * WORDS_GROUP, 0,
               WORDS_GROUP * sizeof(sums[0]));
}

/* ---- a part ---- */

static void walks_reserve(struct words_scratch *scratch, size_t count)
{
    if (count <= scratch->walk_capacity)
        return;
    free(scratch->walks);
    scratch->walks = xmalloc(count * sizeof(*scratch->walks));
    scratch->walk_capacity = count;
}

static enum rc start_walks(struct searching *s, struct words_part *part,
                           const struct words_plan *plan, struct arena *arena)
{
    s->rows = part->rows;
    s->windows = (part->rows + WINDOW_ROWS - 1) / WINDOW_ROWS;
    s->walk_count = part->list_count;
    s->walks = ARENA_NEW_ARRAY(arena, struct words_walk *, s->walk_count);
    s->sums = ARENA_NEW_ARRAY(arena, int64_t, s->windows);
    int32_t *bounds = arena_alloc(arena, s->walk_count * s->windows * sizeof(int32_t));
    if (!s->walks || !s->sums || !bounds)
        return RC_LIMIT;
    walks_reserve(s->scratch, s->walk_count);
    for (size_t i = 0; i < s->walk_count; i++) {
        struct words_walk *walk = s->walks[i] = &s->scratch->walks[i];
        walk->list = &part->lists[i];
        walk->scale = plan->scales[walk->list->item * plan->fields + walk->list->field];
        walk->bounds = bounds + i * s->windows;
        walk->damaged = false;
        walk_rewind(walk);
        bound_windows(walk, s->windows, s->sums);
    }
    return RC_OK;
}

/* Looks into the few windows that promise most: if they hold k rows, the worst of these is what all
 * others have to beat, and most windows need not be looked at. */
static enum rc find_floor(struct searching *s, struct arena *arena)
{
    struct words_top *top = s->top, seed = {.k = top->k};
    uint32_t best[SEED_WINDOWS], count = 0;
    if (s->windows <= 2 * SEED_WINDOWS || top->k > SEED_K_MAX)
        return RC_OK;
    seed.hits = ARENA_NEW_ARRAY(arena, struct words_hit, seed.k);
    if (!seed.hits)
        return RC_LIMIT;
    for (uint32_t w = 0; w < s->windows; w++) {
        uint32_t at = count < SEED_WINDOWS ? count++ : SEED_WINDOWS;
        for (; at > 0 && s->sums[best[at - 1]] < s->sums[w]; at--)
            if (at < SEED_WINDOWS)
                best[at] = best[at - 1];
        if (at < SEED_WINDOWS)
            best[at] = w;
    }
    s->top = &seed;
    for (uint32_t i = 0; i < count; i++) {
        for (size_t j = 0; j < s->walk_count; j++)
            walk_rewind(s->walks[j]);
        search_window(s, best[i]);
    }
    s->top = top;
    s->floor = seed.count == seed.k ? seed.hits[0].score : 0;
    for (size_t j = 0; j < s->walk_count; j++)
        walk_rewind(s->walks[j]);
    return RC_OK;
}

enum rc words_part_search(struct words_part *part, uint32_t part_number,
                          const struct words_plan *plan, const uint64_t *allowed,
                          struct arena *arena, struct words_scratch *scratch, struct words_top *top)
{
    struct searching s = {.scratch = scratch, .top = top, .part = part_number};
    if (part->list_count == 0 || part->rows == 0 || top->k == 0)
        return RC_OK;
    enum rc rc = words_part_required(part, allowed, arena, &s.allowed);
    if (rc == RC_OK)
        rc = start_walks(&s, part, plan, arena);
    if (rc == RC_OK)
        rc = find_floor(&s, arena);
    if (rc != RC_OK)
        return rc;
    for (uint32_t w = 0; w < s.windows; w++)
        search_window(&s, w);
    for (size_t i = 0; i < s.walk_count; i++)
        if (s.walks[i]->damaged)
            return RC_CORRUPT;
    return RC_OK;
}
