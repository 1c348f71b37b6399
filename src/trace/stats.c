/* Totals, time series and groups: see trace.h. Worker threads.
 *
 * Each matching row belongs to one bin of a table: a group, or a step of time. Sums are made column
 * by column for a granule at a time: where few bins are present, with a mask for each (vector
 * code); where many are, row by row. Durations go into logarithmic histograms, one for each bin. */
#include "base/map.h"
#include "trace/filter.h"
#include "trace/store.h"
#include <stdlib.h>

#define GROUPS_DEFAULT  100
#define BINS_MAX        60000u
#define STEPS_MAX       2000
#define INDEX_ROWS      1024u
#define MASKED_BINS_MAX 6 /* above, row by row is faster */

struct bin {
    uint64_t by_status[CALL_STATUS_COUNT];
    uint64_t calls_unpriced;
    uint64_t tokens[USAGE_BUCKET_COUNT];
    __int128 cost_pico;
};

struct histogram {
    uint32_t counts[HISTOGRAM_BUCKETS];
};

struct table {
    struct bin *bins;
    struct histogram *latency, *first_token;
    uint32_t count, capacity;
};

struct stats_run {
    const struct trace_stats_query *query;
    struct id project;
    struct table groups, steps;
    struct map group_numbers; /* name → number + 1 */
    struct str *names;        /* of groups, owned */
    /* of one granule */
    uint8_t mask[GRANULE_ROWS], bin_mask[GRANULE_ROWS];
    uint16_t group_of[GRANULE_ROWS], step_of[GRANULE_ROWS];
    uint16_t latency[GRANULE_ROWS], first_token[GRANULE_ROWS];
};

/* ---- tables ---- */

static void table_grow(struct table *table, uint32_t count)
{
    if (count > table->capacity) {
        uint32_t capacity = MAX(count, table->capacity * 2);
        table->bins = xrealloc(table->bins, capacity * sizeof(*table->bins));
        table->latency = xrealloc(table->latency, capacity * sizeof(*table->latency));
        table->first_token = xrealloc(table->first_token, capacity * sizeof(*table->first_token));
        table->capacity = capacity;
    }
    uint32_t more = count - table->count;
    memset(table->bins + table->count, 0, more * sizeof(*table->bins));
    memset(table->latency + table->count, 0, more * sizeof(*table->latency));
    memset(table->first_token + table->count, 0, more * sizeof(*table->first_token));
    table->count = count;
}

static void table_fini(struct table *table)
{
    free(table->bins);
    free(table->latency);
    free(table->first_token);
}

static void bin_add(struct bin *into, const struct bin *more)
{
    for (int i = 0; i < CALL_STATUS_COUNT; i++)
        into->by_status[i] += more->by_status[i];
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        into->tokens[i] += more->tokens[i];
    into->calls_unpriced += more->calls_unpriced;
    into->cost_pico += more->cost_pico;
}

static uint64_t bin_calls(const struct bin *bin)
{
    uint64_t calls = 0;
    for (int i = 0; i < CALL_STATUS_COUNT; i++)
        calls += bin->by_status[i];
    return calls;
}

static void histogram_add(struct histogram *into, const struct histogram *more)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += more->counts[i];
}

/* ---- one granule ---- */

struct granule_views {
    struct column_view status, priced, cost, tokens[USAGE_BUCKET_COUNT];
};

static enum rc load_views(const struct rowset *rows, uint32_t granule, struct granule_views *v)
{
    enum rc rc = rows->calls->view(rows, COLUMN_STATUS, granule, &v->status);
    if (rc == RC_OK)
        rc = rows->calls->view(rows, COLUMN_PRICED, granule, &v->priced);
    if (rc == RC_OK)
        rc = rows->calls->view(rows, COLUMN_COST_PICO, granule, &v->cost);
    for (int i = 0; i < USAGE_BUCKET_COUNT && rc == RC_OK; i++)
        rc =
            rows->calls->view(rows, (enum column)(COLUMN_TOKENS_INPUT + i), granule, &v->tokens[i]);
    return rc;
}

/* All masked rows belong to this bin. */
static void sum_masked(struct bin *bin, const uint8_t *mask, const struct granule_views *v,
                       uint32_t n, uint32_t count)
{
    bin->calls_unpriced += count - (uint64_t)scan_sum(mask, &v->priced, n, count);
    bin->cost_pico += scan_sum(mask, &v->cost, n, count);
    for (int i = 0; i < USAGE_BUCKET_COUNT; i++)
        bin->tokens[i] += (uint64_t)scan_sum(mask, &v->tokens[i], n, count);
}

static void sum_rows(struct table *table, const uint8_t *mask, const uint16_t *bin_of,
                     const struct granule_views *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!mask[i])
            continue;
        struct bin *bin = &table->bins[bin_of[i]];
        bin->calls_unpriced += view_value(&v->priced, i) == 0;
        bin->cost_pico += view_value(&v->cost, i);
    }
    for (int t = 0; t < USAGE_BUCKET_COUNT; t++) {
        const struct column_view *view = &v->tokens[t];
        if (view->width == 0 && view->base == 0)
            continue;
        for (uint32_t i = 0; i < n; i++)
            table->bins[bin_of[i]].tokens[t] += (uint64_t)view_value(view, i) * mask[i];
    }
}

/* Two tables at a time: an increment waits for the one before it where both meet in one place. */
static void count_indices(uint32_t *restrict a, const uint32_t *index_a, uint32_t *restrict b,
                          const uint32_t *index_b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        a[index_a[i]]++;
        b[index_b[i]]++;
    }
}

static void sum_histograms(struct stats_run *run, struct table *table, const uint16_t *bin_of,
                           uint32_t n)
{
    uint32_t latency[INDEX_ROWS], first_token[INDEX_ROWS];
    for (uint32_t from = 0; from < n; from += INDEX_ROWS) {
        uint32_t rows = MIN(n - from, INDEX_ROWS);
        scan_bucket_index(latency, bin_of + from, run->latency + from, run->mask + from, rows);
        scan_bucket_index(first_token, bin_of + from, run->first_token + from, run->mask + from,
                          rows);
        count_indices(table->latency->counts, latency, table->first_token->counts, first_token,
                      rows);
    }
}

/* Out of its range only where a part is damaged in a way that its checksum hides. */
static uint32_t status_at(const struct column_view *view, uint32_t i)
{
    int64_t status = view_value(view, i);
    return (uint64_t)status < CALL_STATUS_COUNT ? (uint32_t)status : CALL_ERROR;
}

/* Calls that did not go well are few: they are picked out and counted one by one, and taken off
 * the ok, among which all rows of a bin are counted. */
static void sum_failures(struct stats_run *run, struct table *table, const uint16_t *bin_of,
                         const struct column_view *view, uint32_t n)
{
    uint16_t selected[GRANULE_ROWS];
    uint8_t ok[GRANULE_ROWS];
    if (view->max == CALL_OK && view->min == CALL_OK)
        return;
    memcpy(ok, run->mask, n);
    if (view->min > CALL_OK)
        memset(ok, 0, n);
    else if (view->max > CALL_OK)
        scan_range(ok, view, n, view->width == 8 ? CALL_OK : CALL_OK - view->base,
                   view->width == 8 ? CALL_OK : CALL_OK - view->base);
    scan_mask_without(run->bin_mask, run->mask, ok, n);
    uint32_t count = scan_select_few(run->bin_mask, n, selected);
    for (uint32_t k = 0; k < count; k++) {
        struct bin *bin = &table->bins[bin_of[selected[k]]];
        bin->by_status[status_at(view, selected[k])]++;
        bin->by_status[CALL_OK]--;
    }
}

static void sum_granule(struct stats_run *run, struct table *table, const uint16_t *bin_of,
                        const struct granule_views *v, uint32_t n, uint32_t count)
{
    sum_failures(run, table, bin_of, &v->status, n);
    sum_histograms(run, table, bin_of, n);
    if (table->count == 1) {
        sum_masked(&table->bins[0], run->mask, v, n, count);
        table->bins[0].by_status[CALL_OK] += count;
    } else if (table->count <= MASKED_BINS_MAX) {
        for (uint32_t k = 0; k < table->count; k++) {
            uint32_t rows = scan_mask_group(run->bin_mask, run->mask, bin_of, n, (uint16_t)k);
            table->bins[k].by_status[CALL_OK] += rows;
            if (rows)
                sum_masked(&table->bins[k], run->bin_mask, v, n, rows);
        }
    } else {
        for (uint32_t i = 0; i < n; i++)
            table->bins[bin_of[i]].by_status[CALL_OK] += run->mask[i];
        sum_rows(table, run->mask, bin_of, v, n);
    }
}

/* ---- groups ---- */

/* The rowset's column that the groups come from, or -1: not a text column. */
static int group_column(enum trace_group group)
{
    switch (group) {
    case TRACE_GROUP_MODEL: return TEXT_MODEL;
    case TRACE_GROUP_PROVIDER: return TEXT_PROVIDER;
    case TRACE_GROUP_ROUTE: return TEXT_ROUTE;
    case TRACE_GROUP_KEY: return TEXT_KEY;
    case TRACE_GROUP_USER: return TEXT_USER;
    case TRACE_GROUP_PROMPT: return TEXT_PROMPT;
    case TRACE_GROUP_STATUS:
    case TRACE_GROUP_NONE:
    case TRACE_GROUP_COUNT: break;
    }
    return -1;
}

/* Past BINS_MAX all further names share one bin, the last. */
static uint16_t group_number(struct stats_run *run, struct str name)
{
    uintptr_t known = (uintptr_t)map_get(&run->group_numbers, name);
    if (known)
        return (uint16_t)(known - 1);
    if (run->groups.count >= BINS_MAX)
        return BINS_MAX - 1;
    uint32_t number = run->groups.count;
    table_grow(&run->groups, number + 1);
    run->names = xrealloc(run->names, (number + 1) * sizeof(*run->names));
    char *copy = xmalloc(name.n + 1);
    memcpy(copy, name.n > 0 ? name.p : "", name.n);
    run->names[number] = str_make(copy, name.n);
    map_put(&run->group_numbers, run->names[number], (void *)(uintptr_t)(number + 1));
    return (uint16_t)number;
}

/* By code of the rowset's dictionary: number of the group. All of a small dictionary is numbered at
 * once; of a large one (+ 1, 0: not met yet) only what matching rows have. */
#define EAGER_TEXTS_MAX 1024

struct group_map {
    uint32_t count;
    bool eager, same;  /* same: a code is its group's number, as where parts have the same texts */
    uint16_t *numbers; /* eager */
    uint32_t *met;     /* not eager */
};

static enum rc group_map_init(struct group_map *map, struct stats_run *run,
                              const struct rowset *rows, int column)
{
    bool sorted;
    enum rc rc = rows->calls->texts(rows, (enum text_column)column, &map->count, &sorted);
    if (rc != RC_OK)
        return rc;
    map->eager = map->count <= EAGER_TEXTS_MAX;
    if (!map->eager) {
        map->met = xcalloc(map->count, sizeof(*map->met));
        return RC_OK;
    }
    map->numbers = xcalloc(map->count, sizeof(*map->numbers));
    map->same = true;
    for (uint32_t i = 0; i < map->count; i++) {
        map->numbers[i] = group_number(run, rows->calls->text(rows, (enum text_column)column, i));
        map->same = map->same && map->numbers[i] == i;
    }
    return RC_OK;
}

static void group_map_fini(struct group_map *map)
{
    free(map->numbers);
    free(map->met);
}

static void assign_eager(uint16_t *out, const struct column_view *view, const struct group_map *map,
                         uint32_t n)
{
    const uint8_t *code_1 = view->data;
    const uint16_t *numbers = map->numbers;
    if (view->width == 1 && map->same) {
        scan_widen(out, code_1, n);
        return;
    }
    if (view->width == 1) {
        for (uint32_t i = 0; i < n; i++)
            out[i] = numbers[code_1[i]];
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        out[i] = numbers[view_code(view, i)];
}

static enum rc assign_groups(struct stats_run *run, const struct rowset *rows, uint32_t granule,
                             uint32_t n, struct group_map *map)
{
    enum trace_group by = run->query->group_by;
    int column = group_column(by);
    struct column_view view;
    if (by == TRACE_GROUP_STATUS) {
        uint16_t numbers[CALL_STATUS_COUNT];
        for (int i = 0; i < CALL_STATUS_COUNT; i++)
            numbers[i] = group_number(run, str_from(call_status_name((enum call_status)i)));
        enum rc rc = rows->calls->view(rows, COLUMN_STATUS, granule, &view);
        for (uint32_t i = 0; i < n && rc == RC_OK; i++)
            run->group_of[i] = numbers[status_at(&view, i)];
        return rc;
    }
    enum rc rc = rows->calls->text_view(rows, (enum text_column)column, granule, &view);
    if (rc != RC_OK || map->eager) {
        if (rc == RC_OK)
            assign_eager(run->group_of, &view, map, n);
        return rc;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t code = (uint32_t)view_code(&view, i);
        if (run->mask[i] && map->met[code] == 0)
            map->met[code] =
                group_number(run, rows->calls->text(rows, (enum text_column)column, code)) + 1u;
        run->group_of[i] = run->mask[i] ? (uint16_t)(map->met[code] - 1) : 0;
    }
    return RC_OK;
}

static enum rc assign_steps(struct stats_run *run, const struct rowset *rows, uint32_t granule,
                            uint32_t n)
{
    struct column_view view;
    enum rc rc = rows->calls->view(rows, COLUMN_STARTED_NS, granule, &view);
    int64_t from = run->query->filter.from_ns, step = run->query->step_ns;
    for (uint32_t i = 0; i < n && rc == RC_OK; i++)
        run->step_of[i] = run->mask[i] ? (uint16_t)((view_value(&view, i) - from) / step) : 0;
    return rc;
}

/* ---- rowsets ---- */

static enum rc load_durations(struct stats_run *run, const struct rowset *rows, uint32_t granule,
                              uint32_t n)
{
    struct column_view view;
    enum rc rc = rows->calls->view(rows, COLUMN_TOTAL_US, granule, &view);
    if (rc == RC_OK) {
        scan_buckets(run->latency, &view, n);
        rc = rows->calls->view(rows, COLUMN_FIRST_TOKEN_US, granule, &view);
    }
    if (rc == RC_OK)
        scan_buckets(run->first_token, &view, n);
    return rc;
}

static enum rc stats_granule(struct stats_run *run, const struct rowset *rows,
                             const struct filter *filter, uint32_t granule, uint32_t n,
                             struct group_map *map)
{
    uint32_t count;
    struct granule_views views;
    enum rc rc = filter_apply(filter, rows, granule, n, run->mask, &count);
    if (rc != RC_OK || count == 0)
        return rc;
    rc = load_views(rows, granule, &views);
    if (rc == RC_OK)
        rc = load_durations(run, rows, granule, n);
    if (rc == RC_OK && run->query->group_by != TRACE_GROUP_NONE)
        rc = assign_groups(run, rows, granule, n, map);
    if (rc == RC_OK && run->query->step_ns > 0)
        rc = assign_steps(run, rows, granule, n);
    if (rc != RC_OK)
        return rc;
    /* Without groups everything is in group 0: that gives the totals, unless the steps do. */
    if (run->query->group_by != TRACE_GROUP_NONE || run->query->step_ns == 0)
        sum_granule(run, &run->groups, run->group_of, &views, n, count);
    if (run->query->step_ns > 0)
        sum_granule(run, &run->steps, run->step_of, &views, n, count);
    return RC_OK;
}

static enum rc stats_rowset(struct stats_run *run, const struct rowset *rows, uint32_t n)
{
    struct filter filter;
    struct group_map map = {0};
    int column = group_column(run->query->group_by);
    if (n == 0 || atomic_load(&rows->damaged))
        return RC_OK;
    enum rc rc = filter_compile(&filter, rows, run->project, &run->query->filter);
    if (rc != RC_OK)
        return rc;
    if (column >= 0 && !filter.nothing)
        rc = group_map_init(&map, run, rows, column);
    for (uint32_t g = 0; g < granule_count(n) && rc == RC_OK && !filter.nothing; g++)
        rc = stats_granule(run, rows, &filter, g, granule_rows(n, g), &map);
    group_map_fini(&map);
    filter_fini(&filter);
    return rc;
}

/* ---- results ---- */

static int64_t quantile_ns(const struct histogram *h, double q)
{
    int64_t us = histogram_quantile(h->counts, q);
    return us < 0 ? -1 : us * 1000;
}

static struct trace_quantiles quantiles(const struct histogram *h)
{
    return (struct trace_quantiles){quantile_ns(h, 0.5), quantile_ns(h, 0.9), quantile_ns(h, 0.99)};
}

static void sums_make(const struct bin *bin, const struct histogram *latency,
                      const struct histogram *first_token, struct trace_sums *out)
{
    *out = (struct trace_sums){.calls = bin_calls(bin),
                               .errors = bin->by_status[CALL_ERROR],
                               .calls_unpriced = bin->calls_unpriced,
                               .cost_pico = bin->cost_pico,
                               .latency = quantiles(latency),
                               .first_token = quantiles(first_token)};
    memcpy(out->by_status, bin->by_status, sizeof(out->by_status));
    memcpy(out->tokens, bin->tokens, sizeof(out->tokens));
}

/* All bins of the table together. */
static void totals_make(const struct table *table, struct trace_sums *out)
{
    struct bin bin = {0};
    struct histogram *h = xcalloc(2, sizeof(*h));
    for (uint32_t i = 0; i < table->count; i++) {
        bin_add(&bin, &table->bins[i]);
        histogram_add(&h[0], &table->latency[i]);
        histogram_add(&h[1], &table->first_token[i]);
    }
    sums_make(&bin, &h[0], &h[1], out);
    free(h);
}

static enum rc series_make(struct stats_run *run, struct arena *arena, struct trace_stats *out)
{
    out->series_count = run->steps.count;
    out->series = ARENA_NEW_ARRAY(arena, struct trace_series_point, MAX(run->steps.count, 1));
    if (!out->series)
        return RC_LIMIT;
    for (uint32_t i = 0; i < run->steps.count; i++) {
        out->series[i].at_ns = run->query->filter.from_ns + (int64_t)i * run->query->step_ns;
        sums_make(&run->steps.bins[i], &run->steps.latency[i], &run->steps.first_token[i],
                  &out->series[i].sums);
    }
    return RC_OK;
}

struct ranked {
    uint32_t number;
    uint64_t calls;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->calls != y->calls)
        return x->calls < y->calls ? 1 : -1;
    return x->number < y->number ? -1 : 1;
}

/* The largest groups, and one without a name for the rest. */
static enum rc groups_make(struct stats_run *run, struct arena *arena, struct trace_stats *out)
{
    struct table *t = &run->groups;
    size_t max = run->query->groups_max ? run->query->groups_max : GROUPS_DEFAULT;
    out->groups = ARENA_NEW_ARRAY(arena, struct trace_group_sums, MIN(max, t->count) + 1);
    if (!out->groups)
        return RC_LIMIT;
    struct ranked *order = xcalloc(MAX(t->count, 1), sizeof(*order));
    uint32_t used = 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (bin_calls(&t->bins[i]) > 0)
            order[used++] = (struct ranked){i, bin_calls(&t->bins[i])};
    qsort(order, used, sizeof(*order), compare_ranked);
    struct bin rest = {0};
    struct histogram *h = xcalloc(2, sizeof(*h));
    enum rc rc = RC_OK;
    for (uint32_t k = 0; k < used && rc == RC_OK; k++) {
        uint32_t i = order[k].number;
        if (k >= max) {
            bin_add(&rest, &t->bins[i]);
            histogram_add(&h[0], &t->latency[i]);
            histogram_add(&h[1], &t->first_token[i]);
            continue;
        }
        struct trace_group_sums *group = &out->groups[out->group_count++];
        group->name = arena_copy(arena, run->names[i]);
        sums_make(&t->bins[i], &t->latency[i], &t->first_token[i], &group->sums);
        rc = group->name.p ? RC_OK : RC_LIMIT;
    }
    if (bin_calls(&rest) > 0)
        sums_make(&rest, &h[0], &h[1], &out->groups[out->group_count++].sums);
    free(h);
    free(order);
    return rc;
}

static enum rc check_query(const struct trace_stats_query *q, struct err *err)
{
    if (q->filter.text.n > 0)
        return err_set_field(err, ERR_BAD_FIELD, "text", "statistics cannot be filtered by text");
    if (q->step_ns == 0)
        return RC_OK;
    if (q->step_ns < 0 || q->filter.from_ns == 0 || q->filter.to_ns <= q->filter.from_ns)
        return err_set_field(err, ERR_BAD_FIELD, "step_s",
                             "a series needs `from`, a later `to` and a step");
    if ((q->filter.to_ns - q->filter.from_ns - 1) / q->step_ns >= STEPS_MAX)
        return err_set_field(err, ERR_BAD_FIELD, "step_s", "more than %d steps: use a longer step",
                             STEPS_MAX);
    return RC_OK;
}

static enum rc stats_all(struct trace_store *store, struct stats_run *run)
{
    struct trace_snapshot *snapshot = trace_snapshot_take(store);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < snapshot->view->count && rc == RC_OK; i++) {
        rc = stats_rowset(run, snapshot->view->rows[i], snapshot->counts[i]);
        if (rc == RC_CORRUPT) {
            trace_mark_damaged(store, snapshot->view->rows[i]);
            rc = RC_OK;
        }
    }
    trace_snapshot_free(snapshot);
    return rc;
}

enum rc trace_stats(struct trace_store *store, struct id project,
                    const struct trace_stats_query *query, struct arena *arena,
                    struct trace_stats *stats, struct err *err)
{
    *stats = (struct trace_stats){0};
    enum rc rc = check_query(query, err);
    if (rc != RC_OK)
        return rc;
    struct stats_run *run = xcalloc(1, sizeof(*run));
    run->query = query;
    run->project = project;
    map_init(&run->group_numbers);
    if (query->step_ns > 0)
        table_grow(&run->steps,
                   (uint32_t)((query->filter.to_ns - query->filter.from_ns - 1) / query->step_ns) +
                       1);
    if (query->group_by == TRACE_GROUP_NONE)
        table_grow(&run->groups, 1);
    rc = stats_all(store, run);
    if (rc == RC_OK) {
        bool by_steps = query->group_by == TRACE_GROUP_NONE && query->step_ns > 0;
        totals_make(by_steps ? &run->steps : &run->groups, &stats->totals);
        rc = series_make(run, arena, stats);
    }
    if (rc == RC_OK && query->group_by != TRACE_GROUP_NONE)
        rc = groups_make(run, arena, stats);
    for (uint32_t i = 0; i < run->groups.count && query->group_by != TRACE_GROUP_NONE; i++)
        free((void *)run->names[i].p);
    free(run->names);
    map_fini(&run->group_numbers);
    table_fini(&run->groups);
    table_fini(&run->steps);
    free(run);
    if (rc == RC_LIMIT)
        err_set(err, ERR_TOO_LARGE, "the answer is larger than this request may use: ask for less");
    else if (rc != RC_OK)
        err_set(err, ERR_INTERNAL, "statistics cannot be made (%s)", rc_name(rc));
    return rc;
}
