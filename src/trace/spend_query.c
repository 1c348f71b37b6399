/* Answers about spend: what sealed records added (the book) and what the tails of the view add.
 * Worker threads. Tables in memory are read under the mutex; files of old periods under the
 * checkpoint, so that no change of the book falls between the two. */
#include "trace/store.h"
#include <stdlib.h>

/* Calls `visit` with every table that holds something of days [from, to] (or the totals). */
static enum rc visit_tables(struct trace_store *store, int32_t from, int32_t to, bool totals,
                            enum rc (*visit)(void *arg, const struct spend *table, bool tail),
                            void *arg)
{
    enum rc rc = RC_OK;
    pthread_mutex_lock(&store->checkpoint);
    for (size_t i = 0; i < store->book.count && rc == RC_OK; i++) {
        const struct spend_book_entry *entry = &store->book.entries[i];
        bool wanted = totals ? entry->period == SPEND_PERIOD_TOTAL
                             : entry->period != SPEND_PERIOD_TOTAL &&
                                   entry->period >= spend_period(from) &&
                                   entry->period <= spend_period(to);
        struct spend *table;
        bool own = false;
        if (!wanted)
            continue;
        rc = spend_book_read(&store->book, entry, &table, &own, NULL);
        if (rc == RC_OK)
            rc = visit(arg, table, false);
        if (own)
            spend_free(table);
    }
    pthread_mutex_lock(&store->mutex);
    for (size_t i = 0; i < store->view->count && rc == RC_OK; i++)
        if (!part_of(store->view->rows[i]))
            rc = visit(arg, tail_spend(tail_of(store->view->rows[i])), true);
    pthread_mutex_unlock(&store->mutex);
    pthread_mutex_unlock(&store->checkpoint);
    return rc;
}

/* From the first day to one far ahead is "ever": one table of totals knows. */
static bool is_ever(int32_t from, int32_t to) { return from <= 0 && to == INT32_MAX; }

struct sum_visit {
    struct id project;
    enum spend_by by;
    struct str value;
    int32_t from, to;
    bool totals;
    struct spend_sum *sum;
};

static enum rc visit_sum(void *arg, const struct spend *table, bool tail)
{
    struct sum_visit *v = arg;
    bool day_total = v->totals && !tail;
    spend_sum_days(table, v->project, v->by, v->value, day_total ? SPEND_DAY_TOTAL : v->from,
                   day_total ? SPEND_DAY_TOTAL : v->to, v->sum);
    return RC_OK;
}

enum rc trace_spend_sum(struct trace_store *store, struct id project, enum spend_by by,
                        struct str value, int32_t day_from, int32_t day_to, struct spend_sum *sum)
{
    *sum = (struct spend_sum){0};
    trace_barrier(store);
    struct sum_visit v = {project, by, value, day_from, day_to, is_ever(day_from, day_to), sum};
    return visit_tables(store, day_from, day_to, v.totals, visit_sum, &v);
}

struct list_visit {
    struct id project;
    enum spend_by by;
    bool per_day, totals;
    int32_t from, to;
    struct spend *gathered; /* by day (0 when not per day) and value */
    struct arena *arena;
    struct spend_entry *entries;
    size_t count;
    enum rc rc;
};

static void gather_row(void *arg, const struct spend_key *key, const struct spend_sum *sum)
{
    struct list_visit *v = arg;
    bool in_days =
        key->day == SPEND_DAY_TOTAL ? v->totals : key->day >= v->from && key->day <= v->to;
    if (!in_days || key->by != v->by || !id_eq(key->project, v->project))
        return;
    struct spend_key to = *key;
    to.day = v->per_day ? key->day : 0;
    spend_put(v->gathered, &to, sum);
}

static enum rc visit_list(void *arg, const struct spend *table, bool tail)
{
    UNUSED(tail);
    spend_each(table, gather_row, arg);
    return RC_OK;
}

static void put_entry(void *arg, const struct spend_key *key, const struct spend_sum *sum)
{
    struct list_visit *v = arg;
    struct str value = key->value;
    if (value.n > 0)
        value = arena_copy(v->arena, value);
    if (key->value.n > 0 && !value.p)
        v->rc = RC_LIMIT;
    v->entries[v->count++] = (struct spend_entry){key->day, value, *sum};
}

enum rc trace_spend_list(struct trace_store *store, struct id project, enum spend_by by,
                         bool per_day, int32_t day_from, int32_t day_to, struct arena *arena,
                         struct spend_entry **entries, size_t *count)
{
    trace_barrier(store);
    struct list_visit v = {.project = project,
                           .by = by,
                           .per_day = per_day,
                           .totals = !per_day && is_ever(day_from, day_to),
                           .from = day_from,
                           .to = day_to,
                           .gathered = spend_new(),
                           .arena = arena};
    enum rc rc = visit_tables(store, day_from, day_to, v.totals, visit_list, &v);
    if (rc == RC_OK) {
        v.entries = ARENA_NEW_ARRAY(arena, struct spend_entry, MAX(spend_count(v.gathered), 1));
        if (v.entries)
            spend_each(v.gathered, put_entry, &v);
        rc = v.entries ? v.rc : RC_LIMIT;
    }
    spend_free(v.gathered);
    *entries = v.entries;
    *count = v.count;
    return rc;
}
