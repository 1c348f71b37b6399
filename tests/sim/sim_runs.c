/* Power losses on the journal of runs. In each life runs of a pipeline in mode `sync` are started,
 * which wait for time at w1 to w4; what was seen before the power failed must hold in the next:
 * a start that was told is not lost; where w(n+1) was waited for, wn is not waited for again; an
 * end that was told stays, and is told once. In the last life everything ends. */
#include "base/clock.h"
#include "base/rand.h"
#include "io/loop_sim.h"
#include "pipeline/engine/journal.h"
#include "pipeline/engine/loop_private.h"
#include "pipeline/engine/run_index.h"
#include "power.h"
#include <stdlib.h>

#define RUNS_MAX      24
#define RUNS_OF_LIFE  4
#define LIFE_TURNS    120
#define CHANGES_BELOW 60

struct known {
    struct id id;
    int reached; /* 2: w2 was waited for */
    bool begun, ended;
};

struct life {
    struct loop *loop;
    struct pipelines *pipelines;
    struct pipeline_loop *ploop;
};

struct history {
    struct power_history power;
    struct known runs[RUNS_MAX];
    size_t count;
};

static const struct id project = {{7}};

static void on_begun(void *arg, struct run *run)
{
    UNUSED(run);
    ((struct known *)arg)->begun = true;
}

static void on_ended(void *arg, const struct run *run)
{
    ((struct known *)arg)->ended = run_status(run) == RUN_SUCCEEDED;
}

/* clang-format off */
static const char four_waits[] =
#define WAIT(id) \
    "{\"id\":\"" id "\",\"type\":\"wait\",\"config\":{\"mode\":\"time\",\"duration_ms\":1000}},"
#define EDGE(from, to) "{\"from\":\"" from "\",\"to\":\"" to "\"}"
    "{\"schema\":1,\"nodes\":["
    "{\"id\":\"start\",\"type\":\"start\",\"config\":{}},"
    WAIT("w1") WAIT("w2") WAIT("w3") WAIT("w4")
    "{\"id\":\"say\",\"type\":\"answer\",\"config\":{\"text\":\"done\"}}],"
    "\"edges\":[" EDGE("start", "w1") "," EDGE("w1", "w2") "," EDGE("w2", "w3") ","
    EDGE("w3", "w4") "," EDGE("w4", "say") "],"
    "\"settings\":{\"journal\":\"sync\"}}";
/* clang-format on */

static void start_run(struct history *history, struct life *life)
{
    const struct principal principal = {.project = project, .name = STR("me")};
    struct err err = {0};
    struct plan *plan;
    struct known *known = &history->runs[history->count];
    if (plan_compile(str_from(four_waits), &plan, &err) != RC_OK)
        abort(); /* the definition above is wrong */
    const struct run_request request = {
        .plan = plan,
        .pipeline = STR("p"),
        .trigger = "api",
        .principal = &principal,
        .budget_pico = COST_UNKNOWN,
        .owner = {.begun = on_begun, .ended = on_ended, .arg = known},
    };
    struct run *run = run_start(life->ploop, &request, &err);
    if (run) {
        known->id = run_id(run);
        history->count++;
    }
    plan_unref(plan);
}

static bool step_journal(void *arg)
{
    journal_step(((struct life *)arg)->pipelines->journal);
    return false;
}

static void go(struct life *life, int64_t ns) { loop_sim_run(life->loop, step_journal, life, ns); }

static bool life_open(struct history *history, struct life *life)
{
    const struct sim_faults faults = SIM_FAULTS_DEFAULT;
    struct err err = {0};
    const struct pipelines_options options = {
        .fs = history->power.fs, .directory = "/data", .no_threads = true};
    *life = (struct life){.loop = loop_sim_new(rand_u64(), &faults)};
    if (pipelines_open(&options, &life->pipelines, &err) != RC_OK) {
        loop_free(life->loop);
        return power_problem(&history->power, "the journal cannot be opened: %s", err.message);
    }
    life->ploop = pipeline_loop_new(life->pipelines, life->loop, NULL, NULL);
    pipelines_begin(life->pipelines);
    return true;
}

static void life_close(struct life *life)
{
    pipelines_settle(life->pipelines);
    loop_sim_run(life->loop, NULL, NULL, NS_PER_MS);
    pipeline_loop_free(life->ploop);
    loop_sim_run(life->loop, NULL, NULL, NS_PER_MS);
    pipelines_close(life->pipelines);
    loop_free(life->loop);
}

/* Which wait the run is at; 0: none. */
static int waits_at(struct life *life, struct id run, struct arena *arena)
{
    struct run_index_wait *waits;
    size_t count;
    run_index_waits(life->pipelines->index, project, 2 * RUNS_MAX, arena, &waits, &count);
    for (size_t i = 0; i < count; i++)
        if (id_eq(waits[i].run, run))
            return waits[i].path.p[1] - '0';
    return 0;
}

static bool check(struct history *history, struct life *life, struct arena *arena)
{
    for (size_t i = 0; i < history->count; i++) {
        struct known *known = &history->runs[i];
        struct run_index_row row;
        bool found =
            run_index_get(life->pipelines->index, project, known->id, arena, &row) == RC_OK;
        if (known->begun && !found)
            return power_problem(&history->power, "run %zu was told its start and is lost", i);
        if (known->ended && (row.loop >= 0 || row.head.status != RUN_SUCCEEDED))
            return power_problem(&history->power, "run %zu was told its end and goes on", i);
        int at = found && row.loop >= 0 ? waits_at(life, known->id, arena) : 0;
        if (at && at < known->reached)
            return power_problem(&history->power, "run %zu waits at w%d again, after w%d", i, at,
                                 known->reached);
    }
    return true;
}

static void observe(struct history *history, struct life *life, struct known before[],
                    struct arena *arena)
{
    if (file_system_failed(history->power.fs)) { /* told by a process that was dead already */
        memcpy(history->runs, before, sizeof(history->runs));
        return;
    }
    for (size_t i = 0; i < history->count; i++)
        history->runs[i].reached =
            MAX(history->runs[i].reached, waits_at(life, history->runs[i].id, arena));
}

static bool live(struct power_history *power)
{
    struct history *history = (struct history *)power;
    struct known before[RUNS_MAX];
    struct life life;
    struct arena arena;
    if (!life_open(history, &life))
        return false;
    arena_init(&arena, 64 << 20);
    go(&life, 20 * NS_PER_MS);
    bool good = check(history, &life, &arena);
    file_system_fail_after(power->fs, 1 + rand_below(CHANGES_BELOW));
    size_t most = MIN(history->count + RUNS_OF_LIFE, (size_t)RUNS_MAX);
    for (int i = 0; good && i < LIFE_TURNS && !file_system_failed(power->fs); i++) {
        memcpy(before, history->runs, sizeof(before));
        if (history->count < most && rand_below(4) == 0)
            start_run(history, &life);
        go(&life, (int64_t)(1 + rand_below(100)) * NS_PER_MS);
        observe(history, &life, before, &arena);
        arena_reset(&arena);
    }
    file_system_fail(power->fs);
    for (struct list *n = life.ploop->runs.next; n != &life.ploop->runs; n = n->next)
        run_forget_owner(LIST_ENTRY(n, struct run, node));
    life_close(&life);
    file_system_crash(power->fs);
    arena_fini(&arena);
    return good;
}

int main(void)
{
    const struct power_sim sim = {.history_bytes = sizeof(struct history), .live = live};
    return power_main(&sim);
}
