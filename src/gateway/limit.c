/* Meters: see limit.h for what they promise.
 *
 * A minute is kept as WINDOW_SLOTS counters of two seconds, each tagged with the period it counts,
 * in one 64-bit atomic: a loop that finds an old tag starts the counter anew by compare-and-swap. A
 * reservation adds first and looks afterwards, so two loops that race both see both and at worst
 * both refuse.
 *
 * Money is a sum that only grows (`spent_pico`, reservations included) and what it was when the day
 * and the month began. Only limit_tick moves those two marks, so no reader ever waits. */
#include "gateway/limit.h"
#include "base/clock.h"
#include "base/hash.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WINDOW_SLOTS   31
#define WINDOW_SLOT_NS (2 * NS_PER_S)
#define WINDOW_NS      (60 * NS_PER_S)

struct window {
    _Atomic uint64_t slots[WINDOW_SLOTS]; /* period number << 32 | count */
};

struct meter {
    uint64_t hash[2]; /* of project, kind, value: who it is */
    _Atomic int64_t parallel;
    _Atomic int64_t spent_pico;
    _Atomic int64_t day_mark_pico, month_mark_pico; /* spent_pico when the day, the month began */
    _Atomic bool restored; /* what was spent before this process is in the marks */
    struct window requests, tokens;
} __attribute__((aligned(CACHE_LINE_BYTES)));

/* Open addressing; twice as many places as meters, so that chains stay short. */
#define TABLE_PLACES (2 * LIMIT_METERS_MAX)

static struct {
    struct limit_options options;
    pthread_mutex_t making;
    _Atomic(struct meter *) places[TABLE_PLACES];
    _Atomic uint32_t count;
    _Atomic int64_t day, month; /* numbers of the current ones; 0: not known yet */
} limits_shared = {.making = PTHREAD_MUTEX_INITIALIZER};

const char *limit_kind_name(enum limit_kind kind)
{
    static const char *const names[LIMIT_KIND_COUNT] = {"key", "tag", "user", "project"};
    ASSERT(kind < LIMIT_KIND_COUNT);
    return names[kind];
}

void limit_init(const struct limit_options *options) { limits_shared.options = *options; }

void limit_reset_all(void)
{
    for (size_t i = 0; i < TABLE_PLACES; i++) {
        free(atomic_load(&limits_shared.places[i]));
        atomic_store(&limits_shared.places[i], NULL);
    }
    atomic_store(&limits_shared.count, 0);
    atomic_store(&limits_shared.day, 0);
    atomic_store(&limits_shared.month, 0);
}

/* ---- days and months ---- */

static int64_t month_number(int64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return (tm.tm_year + 1900) * 12 + tm.tm_mon;
}

int32_t limit_month_first_day(int64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return (int32_t)(wall_ns / NS_PER_DAY) - (tm.tm_mday - 1);
}

/* Nanoseconds until the next day or month begins. */
static int64_t period_left_ns(int64_t wall_ns, bool month)
{
    int64_t day_left = NS_PER_DAY - wall_ns % NS_PER_DAY;
    if (!month)
        return day_left;
    int64_t left = day_left, number = month_number(wall_ns);
    while (month_number(wall_ns + left) == number)
        left += NS_PER_DAY;
    return left;
}

void limit_tick(int64_t wall_ns)
{
    int64_t day = wall_ns / NS_PER_DAY;
    int64_t day_before = atomic_load(&limits_shared.day);
    if (day == day_before)
        return;
    int64_t month = month_number(wall_ns), month_before = atomic_load(&limits_shared.month);
    atomic_store(&limits_shared.day, day);
    atomic_store(&limits_shared.month, month);
    if (day_before == 0)
        return;
    for (size_t i = 0; i < TABLE_PLACES; i++) {
        struct meter *meter = atomic_load_explicit(&limits_shared.places[i], memory_order_acquire);
        if (!meter)
            continue;
        int64_t spent = atomic_load(&meter->spent_pico);
        atomic_store(&meter->day_mark_pico, spent);
        if (month != month_before)
            atomic_store(&meter->month_mark_pico, spent);
    }
}

/* ---- the table ---- */

static void meter_hash(struct id project, enum limit_kind kind, struct str value, uint64_t out[2])
{
    uint64_t parts[4] = {0, 0, kind, hash_xxh3(value.p, value.n)};
    memcpy(parts, project.bytes, sizeof(project.bytes));
    out[0] = hash_xxh3(parts, sizeof(parts));
    parts[2] ^= 0x9e3779b97f4a7c15ull + value.n;
    out[1] = hash_xxh3(parts, sizeof(parts));
}

/* The meter, or NULL and the place where it belongs. */
static struct meter *table_find(const uint64_t hash[2], size_t *place)
{
    for (size_t probe = 0; probe < TABLE_PLACES; probe++) {
        *place = (hash[0] + probe) % TABLE_PLACES;
        struct meter *meter =
            atomic_load_explicit(&limits_shared.places[*place], memory_order_acquire);
        if (!meter)
            return NULL;
        if (meter->hash[0] == hash[0] && meter->hash[1] == hash[1])
            return meter;
    }
    UNREACHABLE(); /* the table is never more than half full */
}

/* The records know all that was spent today and this month, by this process too: the marks are set
 * so that the meter says the same. Happens when a meter first has a budget. */
static void meter_restore(struct meter *meter, struct id project, enum limit_kind kind,
                          struct str value)
{
    int64_t day_pico = 0, month_pico = 0;
    if (limits_shared.options.restore) {
        limits_shared.options.restore(limits_shared.options.arg, project, kind, value, &day_pico,
                                      &month_pico);
        int64_t spent = atomic_load(&meter->spent_pico);
        atomic_store(&meter->day_mark_pico, spent - day_pico);
        atomic_store(&meter->month_mark_pico, spent - month_pico);
    }
    atomic_store_explicit(&meter->restored, true, memory_order_release);
}

static struct meter *meter_make(const uint64_t hash[2], struct id project, enum limit_kind kind,
                                struct str value, bool has_budget)
{
    pthread_mutex_lock(&limits_shared.making);
    size_t place;
    struct meter *meter = table_find(hash, &place);
    if (!meter && atomic_load(&limits_shared.count) < LIMIT_METERS_MAX) {
        meter = aligned_alloc(CACHE_LINE_BYTES, sizeof(*meter));
        if (meter) {
            memset(meter, 0, sizeof(*meter));
            memcpy(meter->hash, hash, sizeof(meter->hash));
            atomic_fetch_add(&limits_shared.count, 1);
            atomic_store_explicit(&limits_shared.places[place], meter, memory_order_release);
        }
    }
    if (meter && has_budget && !atomic_load(&meter->restored))
        meter_restore(meter, project, kind, value);
    pthread_mutex_unlock(&limits_shared.making);
    return meter;
}

struct meter *meter_get(struct id project, enum limit_kind kind, struct str value, bool has_budget,
                        int64_t wall_ns)
{
    uint64_t hash[2];
    meter_hash(project, kind, value, hash);
    size_t place;
    struct meter *meter = table_find(hash, &place);
    if (LIKELY(meter &&
               (!has_budget || atomic_load_explicit(&meter->restored, memory_order_acquire))))
        return meter;
    if (atomic_load_explicit(&limits_shared.day, memory_order_relaxed) == 0)
        limit_tick(wall_ns);
    return meter_make(hash, project, kind, value, has_budget);
}

/* ---- one minute ---- */

static uint64_t window_period(int64_t now_ns) { return (uint64_t)(now_ns / WINDOW_SLOT_NS) + 1; }

static uint64_t window_sum(const struct window *window, int64_t now_ns)
{
    uint64_t period = window_period(now_ns), sum = 0;
    for (size_t i = 0; i < WINDOW_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&window->slots[i], memory_order_relaxed);
        uint32_t age = (uint32_t)period - (uint32_t)(slot >> 32);
        sum += age < WINDOW_SLOTS ? (uint32_t)slot : 0;
    }
    return sum;
}

/* Adds `change` to what was counted at `at_ns`; nothing when that has left the window. */
static void window_add(struct window *window, int64_t at_ns, int64_t now_ns, int64_t change)
{
    uint64_t period = window_period(at_ns);
    if (change == 0 || window_period(now_ns) - period >= WINDOW_SLOTS)
        return;
    _Atomic uint64_t *slot = &window->slots[period % WINDOW_SLOTS];
    uint64_t before = atomic_load_explicit(slot, memory_order_relaxed), after;
    do {
        int64_t count = (before >> 32) == (uint32_t)period ? (int64_t)(uint32_t)before : 0;
        count = MAX(0, MIN(count + change, (int64_t)UINT32_MAX));
        after = (period << 32) | (uint64_t)count;
    } while (!atomic_compare_exchange_weak(slot, &before, after));
}

/* How long until at least `need` of what is counted has left the window. */
static int64_t window_wait_ns(const struct window *window, int64_t now_ns, uint64_t need)
{
    uint64_t period = window_period(now_ns), freed = 0;
    for (uint32_t age = WINDOW_SLOTS - 1; age < WINDOW_SLOTS; age--) {
        uint64_t slot = atomic_load_explicit(&window->slots[(period - age) % WINDOW_SLOTS],
                                             memory_order_relaxed);
        if ((uint32_t)(slot >> 32) != (uint32_t)(period - age))
            continue;
        freed += (uint32_t)slot;
        if (freed >= need)
            return (int64_t)(WINDOW_SLOTS - age) * WINDOW_SLOT_NS - now_ns % WINDOW_SLOT_NS;
    }
    return WINDOW_NS;
}

/* ---- holding ---- */

enum rc limit_add(struct limit_holds *holds, struct id project, enum limit_kind kind,
                  struct str value, const struct limits *limits, int64_t wall_ns, struct err *err)
{
    ASSERT(!holds->held);
    if (holds->count == LIMIT_HOLDS_MAX)
        return err_set(err, ERR_INVALID,
                       "more than %d limits concern this call: send fewer tags that have limits",
                       LIMIT_HOLDS_MAX);
    bool has_budget =
        limits->budget_day_pico != COST_UNKNOWN || limits->budget_month_pico != COST_UNKNOWN;
    struct meter *meter = meter_get(project, kind, value, has_budget, wall_ns);
    if (!meter)
        return err_set(err, ERR_OVERLOADED,
                       "the table of limits is full (%d); a restart empties it", LIMIT_METERS_MAX);
    holds->items[holds->count].meter = meter;
    holds->items[holds->count].limits = limits;
    holds->items[holds->count].kind = kind;
    holds->count++;
    return RC_OK;
}

static void meter_release(struct meter *meter, const struct limits *limits,
                          const struct limit_holds *holds, int64_t now_ns)
{
    atomic_fetch_sub(&meter->parallel, 1);
    atomic_fetch_sub(&meter->spent_pico, holds->cost_reserved_pico);
    if (limits->requests_per_minute > 0)
        window_add(&meter->requests, holds->minute_ns, now_ns, -1);
    if (limits->tokens_per_minute > 0)
        window_add(&meter->tokens, holds->minute_ns, now_ns, -(int64_t)holds->tokens_reserved);
}

static enum rc refuse_rate(struct err *err, enum limit_kind kind, const char *what, int64_t limit,
                           int64_t wait_ns)
{
    err_set(err, ERR_RATE_LIMIT, "the %s's limit of %lld %s is reached; try again in %lld s",
            limit_kind_name(kind), (long long)limit, what,
            (long long)((wait_ns + NS_PER_S - 1) / NS_PER_S));
    err->retry_after_ms = wait_ns / NS_PER_MS + 1;
    return RC_LIMIT;
}

static enum rc refuse_budget(struct err *err, enum limit_kind kind, const char *period,
                             int64_t budget_pico, int64_t wait_ns)
{
    err_set(err, ERR_BUDGET,
            "the %s's budget of $%.2f a %s is used up or does not cover this call; an "
            "administrator can raise it",
            limit_kind_name(kind), (double)budget_pico / (double)PICO_PER_DOLLAR, period);
    err->retry_after_ms = wait_ns / NS_PER_MS + 1;
    return RC_LIMIT;
}

static bool budget_passed(int64_t budget_pico, const struct limit_holds *holds, int64_t used_pico)
{
    if (budget_pico == COST_UNKNOWN)
        return false;
    /* A call that reserves nothing (no price known) is refused once nothing is left. */
    return used_pico > budget_pico || (holds->cost_reserved_pico == 0 && used_pico >= budget_pico);
}

/* Reserves first, looks afterwards; on refusal the caller releases. */
static enum rc meter_reserve(struct meter *meter, const struct limits *limits, enum limit_kind kind,
                             const struct limit_holds *holds, int64_t now_ns, int64_t wall_ns,
                             struct err *err)
{
    int64_t parallel = atomic_fetch_add(&meter->parallel, 1) + 1;
    int64_t spent =
        atomic_fetch_add(&meter->spent_pico, holds->cost_reserved_pico) + holds->cost_reserved_pico;
    if (limits->requests_per_minute > 0)
        window_add(&meter->requests, now_ns, now_ns, 1);
    if (limits->tokens_per_minute > 0)
        window_add(&meter->tokens, now_ns, now_ns, (int64_t)holds->tokens_reserved);

    if (limits->parallel > 0 && parallel > limits->parallel)
        return refuse_rate(err, kind, "parallel calls", limits->parallel, NS_PER_S);
    if (limits->requests_per_minute > 0) {
        uint64_t sum = window_sum(&meter->requests, now_ns);
        uint64_t limit = (uint64_t)limits->requests_per_minute;
        if (sum > limit)
            return refuse_rate(err, kind, "requests per minute", limits->requests_per_minute,
                               window_wait_ns(&meter->requests, now_ns, sum - limit));
    }
    if (limits->tokens_per_minute > 0) {
        uint64_t sum = window_sum(&meter->tokens, now_ns);
        uint64_t limit = (uint64_t)limits->tokens_per_minute;
        /* A call larger than the whole limit may run when nothing else does, or it never could. */
        if (sum > limit && sum > holds->tokens_reserved)
            return refuse_rate(err, kind, "tokens per minute", limits->tokens_per_minute,
                               window_wait_ns(&meter->tokens, now_ns, sum - limit));
    }
    if (budget_passed(limits->budget_day_pico, holds, spent - atomic_load(&meter->day_mark_pico)))
        return refuse_budget(err, kind, "day", limits->budget_day_pico,
                             period_left_ns(wall_ns, false));
    if (budget_passed(limits->budget_month_pico, holds,
                      spent - atomic_load(&meter->month_mark_pico)))
        return refuse_budget(err, kind, "month", limits->budget_month_pico,
                             period_left_ns(wall_ns, true));
    return RC_OK;
}

enum rc limit_reserve(struct limit_holds *holds, uint64_t tokens, int64_t cost_pico, int64_t now_ns,
                      int64_t wall_ns, struct err *err)
{
    ASSERT(!holds->held);
    holds->tokens_reserved = MIN(tokens, (uint64_t)UINT32_MAX);
    holds->cost_reserved_pico = cost_pico == COST_UNKNOWN ? 0 : cost_pico;
    holds->minute_ns = now_ns;
    for (size_t i = 0; i < holds->count; i++) {
        enum rc rc = meter_reserve(holds->items[i].meter, holds->items[i].limits,
                                   holds->items[i].kind, holds, now_ns, wall_ns, err);
        if (rc == RC_OK)
            continue;
        for (size_t j = 0; j <= i; j++)
            meter_release(holds->items[j].meter, holds->items[j].limits, holds, now_ns);
        return rc;
    }
    holds->held = true;
    return RC_OK;
}

void limit_settle(struct limit_holds *holds, uint64_t tokens, int64_t cost_pico, int64_t now_ns)
{
    if (!holds->held)
        return;
    holds->held = false;
    int64_t more_pico = (cost_pico == COST_UNKNOWN ? 0 : cost_pico) - holds->cost_reserved_pico;
    int64_t more_tokens = (int64_t)tokens - (int64_t)holds->tokens_reserved;
    for (size_t i = 0; i < holds->count; i++) {
        struct meter *meter = holds->items[i].meter;
        atomic_fetch_sub(&meter->parallel, 1);
        if (more_pico != 0)
            atomic_fetch_add(&meter->spent_pico, more_pico);
        /* What was reserved too much is given back where it was counted; what is missing counts
         * now. */
        if (holds->items[i].limits->tokens_per_minute > 0)
            window_add(&meter->tokens, more_tokens < 0 ? holds->minute_ns : now_ns, now_ns,
                       more_tokens);
    }
}

/* ---- reading ---- */

/* When everything counted has left the window. */
static int64_t window_reset_ns(const struct window *window, int64_t now_ns)
{
    uint64_t period = window_period(now_ns);
    size_t at = period % WINDOW_SLOTS;
    for (uint32_t age = 0; age < WINDOW_SLOTS; age++) {
        uint64_t slot = atomic_load_explicit(&window->slots[at], memory_order_relaxed);
        if ((uint32_t)(slot >> 32) == (uint32_t)(period - age) && (uint32_t)slot > 0)
            return (int64_t)(WINDOW_SLOTS - age) * WINDOW_SLOT_NS - now_ns % WINDOW_SLOT_NS;
        at = at ? at - 1 : WINDOW_SLOTS - 1;
    }
    return 0;
}

void limit_state_of(const struct limit_holds *holds, int64_t now_ns, struct limit_state *out)
{
    *out = (struct limit_state){0};
    for (size_t i = 0; i < holds->count; i++) {
        const struct limits *limits = holds->items[i].limits;
        const struct meter *meter = holds->items[i].meter;
        if (limits->requests_per_minute > 0) {
            int64_t left =
                MAX(0, limits->requests_per_minute - (int64_t)window_sum(&meter->requests, now_ns));
            if (out->requests_limit == 0 || left < out->requests_left) {
                out->requests_limit = limits->requests_per_minute;
                out->requests_left = left;
                out->requests_reset_ns = window_reset_ns(&meter->requests, now_ns);
            }
        }
        if (limits->tokens_per_minute > 0) {
            int64_t left =
                MAX(0, limits->tokens_per_minute - (int64_t)window_sum(&meter->tokens, now_ns));
            if (out->tokens_limit == 0 || left < out->tokens_left) {
                out->tokens_limit = limits->tokens_per_minute;
                out->tokens_left = left;
                out->tokens_reset_ns = window_reset_ns(&meter->tokens, now_ns);
            }
        }
    }
}

void limit_read(struct id project, enum limit_kind kind, struct str value, int64_t now_ns,
                int64_t wall_ns, struct meter_reading *out)
{
    *out = (struct meter_reading){0};
    uint64_t hash[2];
    meter_hash(project, kind, value, hash);
    size_t place;
    struct meter *meter = table_find(hash, &place);
    if (!meter)
        return;
    out->requests_minute = (int64_t)window_sum(&meter->requests, now_ns);
    out->tokens_minute = (int64_t)window_sum(&meter->tokens, now_ns);
    out->parallel = atomic_load(&meter->parallel);
    int64_t spent = atomic_load(&meter->spent_pico);
    out->day_pico = spent - atomic_load(&meter->day_mark_pico);
    out->month_pico = spent - atomic_load(&meter->month_mark_pico);
}
