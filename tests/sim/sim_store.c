/* The store of call records under power losses, failing syncs and full disks.
 *
 * Each seed is a history of several lives: records are submitted, written, synced, sealed, merged,
 * erased in an order that the seed chooses, until the power fails in the middle of some change;
 * then the store is opened again and must agree with what was promised:
 *   - a record whose waiter was told "durable" is there, unless it was erased; none is there twice;
 *   - every record there is whole: it equals what was submitted under its number;
 *   - an erasure that was acknowledged holds;
 *   - spend equals the sum over the records that were ever kept. */
#include "../unit/trace/make_record.h"
#include "power.h"
#include "trace/store.h"
#include <stdlib.h>

#define RECORDS_MAX 400

enum fate { FATE_UNKNOWN, FATE_DURABLE, FATE_REFUSED };

struct submitted {
    struct trace_waiter waiter;
    enum fate fate;
    bool erase_tried, erased; /* tried: not known whether it holds */
    bool seen;                /* in this check */
};

struct history {
    struct power_history power;
    struct trace_store *store;
    struct submitted records[RECORDS_MAX];
    uint64_t count;
};

static void told(struct task *task)
{
    struct submitted *s = CONTAINER_OF(task, struct submitted, waiter.task);
    s->fate = s->waiter.result == RC_OK ? FATE_DURABLE : FATE_REFUSED;
}

static enum rc history_open(struct history *h, struct err *err)
{
    struct trace_options options = {.fs = h->power.fs,
                                    .directory = "/data/trace",
                                    .no_threads = true,
                                    .tail_rows_max = 8 + (uint32_t)rand_below(24),
                                    .queue_bytes_max = 40000};
    return trace_open(&options, &h->store, err);
}

/* ---- acting ---- */

static void act_submit(struct history *h)
{
    struct made_record m;
    for (uint64_t n = 1 + rand_below(12); n > 0 && h->count < RECORDS_MAX; n--) {
        struct submitted *s = &h->records[h->count];
        *s = (struct submitted){.waiter.task.run = told};
        make_record(h->count++, &m);
        trace_submit(h->store, &m.call, &s->waiter);
    }
}

static void act_erase(struct history *h)
{
    if (h->count == 0)
        return;
    uint64_t number = rand_below(h->count);
    struct submitted *s = &h->records[number];
    struct made_record m;
    if (s->fate != FATE_DURABLE || s->erased)
        return;
    make_record(number, &m);
    s->erase_tried = true;
    s->erased = trace_erase_call(h->store, m.call.project, m.call.id, NULL) == RC_OK;
}

static void act(struct history *h)
{
    switch (rand_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3: act_submit(h); break;
    case 4:
    case 5:
    case 6: trace_step_write(h->store); break;
    case 7:
    case 8: trace_step_sync(h->store); break;
    case 9:
    case 10:
    case 11: trace_step_keep(h->store); break;
    case 12: act_erase(h); break;
    case 13: file_system_fail_syncs(h->power.fs, (int)rand_below(3)); break;
    case 14:
        file_system_set_space(h->power.fs, rand_below(4) ? -1 : (int64_t)rand_below(60000));
        break;
    default: trace_freeze(h->store); break;
    }
}

/* ---- checking ---- */

static bool whole(const struct call_record *got, const struct call_record *want)
{
    return str_eq(got->request_body, want->request_body) &&
           str_eq(got->response_body, want->response_body) && str_eq(got->user, want->user) &&
           str_eq(got->model, want->model) && got->cost_pico == want->cost_pico &&
           got->started_wall_ns == want->started_wall_ns && got->tag_count == want->tag_count;
}

static bool check_record(struct history *h, struct id project, const struct trace_row *row)
{
    uint64_t number = (uint64_t)(row->call.started_wall_ns - MAKE_START_NS) / (1500 * NS_PER_MS);
    if (number >= h->count)
        return power_problem(&h->power, "a record that was never submitted");
    struct submitted *s = &h->records[number];
    struct made_record m;
    struct arena arena;
    make_record(number, &m);
    if (s->seen)
        return power_problem(&h->power, "record %llu is there twice", (unsigned long long)number);
    if (s->erased)
        return power_problem(&h->power, "record %llu was erased and is there",
                             (unsigned long long)number);
    s->seen = true;
    struct call_record *got = xmalloc(sizeof(*got));
    arena_init(&arena, 1 << 20);
    enum rc rc = trace_get(h->store, project, row->call.id, &arena, got, NULL);
    bool good = rc == RC_OK && whole(got, &m.call);
    arena_fini(&arena);
    free(got);
    return good || power_problem(&h->power, "record %llu is not whole", (unsigned long long)number);
}

static bool check_project(struct history *h, struct id project, __int128 *cost, uint64_t *calls)
{
    struct trace_filter filter;
    struct arena arena;
    uint64_t before = 0;
    bool good = true;
    trace_filter_init(&filter);
    arena_init(&arena, 32 << 20);
    do {
        struct trace_page page;
        struct err err = {0};
        arena_reset(&arena);
        if (trace_list(h->store, project, &filter, before, 50, &arena, &page, &err) != RC_OK)
            good = power_problem(&h->power, "list: %s", err.message);
        for (size_t i = 0; good && i < page.count; i++) {
            good = check_record(h, project, page.rows[i]);
            *cost +=
                page.rows[i]->call.cost_pico == COST_UNKNOWN ? 0 : page.rows[i]->call.cost_pico;
            ++*calls;
        }
        before = good ? page.next_seq : 0;
    } while (before != 0);
    arena_fini(&arena);
    return good;
}

static bool check_spend(struct history *h, int project, __int128 cost, uint64_t calls)
{
    struct made_record m;
    for (uint64_t i = 0; i < h->count; i++) {
        const struct submitted *s = &h->records[i];
        make_record(i, &m);
        if (s->seen || !s->erase_tried || !id_eq(m.call.project, make_project((uint64_t)project)))
            continue;
        cost += m.call.cost_pico == COST_UNKNOWN ? 0 : m.call.cost_pico;
        calls++;
    }
    struct spend_sum sum;
    for (int ever = 0; ever < 2; ever++) {
        enum rc rc = trace_spend_sum(h->store, make_project((uint64_t)project), SPEND_BY_PROJECT,
                                     STR_EMPTY, ever ? 0 : 1, INT32_MAX, &sum);
        if (rc != RC_OK || sum.cost_pico != cost || sum.calls != calls)
            return power_problem(&h->power, "spend of project %d: %llu calls instead of %llu",
                                 project, (unsigned long long)sum.calls, (unsigned long long)calls);
    }
    return true;
}

/* What is there now, against what was promised; what is not is forgotten. */
static bool check(struct history *h)
{
    for (uint64_t i = 0; i < h->count; i++)
        h->records[i].seen = false;
    for (int project = 0; project < 2; project++) {
        __int128 cost = 0;
        uint64_t calls = 0;
        if (!check_project(h, make_project((uint64_t)project), &cost, &calls) ||
            !check_spend(h, project, cost, calls))
            return false;
    }
    for (uint64_t i = 0; i < h->count; i++) {
        struct submitted *s = &h->records[i];
        if (s->fate == FATE_DURABLE && !s->seen && !s->erase_tried)
            return power_problem(&h->power, "record %llu was durable and is lost",
                                 (unsigned long long)i);
        s->fate = s->seen || s->erase_tried ? FATE_DURABLE : FATE_UNKNOWN;
        s->erased = s->erase_tried && !s->seen;
        s->erase_tried = s->erased;
    }
    struct trace_counters counters;
    trace_counters(h->store, &counters);
    return counters.lost_disk == 0 || power_problem(&h->power, "%llu records are damaged",
                                                    (unsigned long long)counters.lost_disk);
}

/* ---- histories ---- */

/* One life, from opening to the power loss; the next one begins with the check. */
static bool live(struct power_history *power)
{
    struct history *h = CONTAINER_OF(power, struct history, power);
    struct err err = {0};
    file_system_set_space(h->power.fs, -1);
    file_system_fail_syncs(h->power.fs, 0);
    if (rand_below(8) == 0) { /* the power fails while it opens */
        file_system_fail_after(h->power.fs, 1 + rand_below(20));
        if (history_open(h, &err) == RC_OK) {
            file_system_fail(h->power.fs);
            trace_close(h->store);
        }
        file_system_crash(h->power.fs);
        err = (struct err){0};
    }
    if (history_open(h, &err) != RC_OK)
        return power_problem(&h->power, "open: %s", err.message);
    bool good = check(h);
    file_system_fail_after(h->power.fs, 1 + rand_below(250));
    for (int step = 0; good && step < 300 && !file_system_failed(h->power.fs); step++)
        act(h);
    if (!file_system_failed(h->power.fs) && rand_below(2)) {
        trace_close(h->store); /* an orderly end */
        file_system_crash(h->power.fs);
        return good;
    }
    file_system_fail(h->power.fs); /* closing must not write what a dead process could not */
    trace_close(h->store);
    file_system_crash(h->power.fs);
    return good;
}

int main(void)
{
    static const struct power_sim sim = {.history_bytes = sizeof(struct history), .live = live};
    return power_main(&sim);
}
