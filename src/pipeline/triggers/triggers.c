/* See triggers.h. The look at what is due runs on the control writer, in one transaction with the
 * jobs that it makes; afterwards a timer waits for the next time. The timer never waits for longer
 * than a minute, because wall clocks are set and machines sleep. */
#include "pipeline/triggers/triggers.h"
#include "base/clock.h"
#include "base/log.h"
#include "pipeline/engine/launch.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/triggers/triggers_private.h"
#include "text/json.h"
#include "text/json_writer.h"
#include <stdlib.h>

#define LOOK_NS_MAX      (60 * NS_PER_S)
#define WAIT_NS          (2 * NS_PER_S) /* for a run that the next one waits for */
#define DUE_MAX          100            /* schedules at one look */
#define LOOK_BYTES_MAX   (64 * 1024 * 1024)
#define PARAMS_BYTES_MAX (1024 * 1024)
#define RUN_ATTEMPTS_MAX 5
#define RUN_PARALLEL_MAX 64

/* ---- what is due ---- */

/* The run before: under way, or on its way to begin. */
static bool is_running(struct triggers *all, struct db_txn *txn, const struct schedule_row *row,
                       struct arena *arena)
{
    struct run_index_row run;
    struct job_row job;
    struct err none = {0};
    if (id_is_zero(row->last_run))
        return false;
    if (run_index_get(pipelines_index(all->options.pipelines), row->project, row->last_run, arena,
                      &run) == RC_OK)
        return run.loop >= 0;
    return job_table_get(txn, row->project, row->last_run, arena, &job, &none) == RC_OK &&
           job.finished_ns == 0;
}

static enum rc read_trigger(struct db_txn *txn, const struct schedule_row *row, struct arena *arena,
                            struct trigger *out, struct err *err)
{
    struct object object;
    char name[ID_TEXT_BYTES_MAX];
    yyjson_doc *doc;
    size_t n = id_format(row->id, TRIGGER_PREFIX, name);
    enum rc rc =
        object_get(txn, row->project, OBJECT_TRIGGER, str_make(name, n), arena, &object, err);
    if (rc == RC_OK)
        rc = json_read(object.spec, arena, &doc, err);
    return rc == RC_OK ? trigger_decode(row->project, object.name, yyjson_doc_get_root(doc), arena,
                                        out, err)
                       : rc;
}

static enum rc fire_due(struct triggers *all, struct db_txn *txn, struct schedule_row *row,
                        struct arena *arena, struct err *err)
{
    struct trigger trigger;
    struct zone zone;
    struct schedule_plan plan;
    struct job_row job;
    int64_t now = db_txn_now_ns(txn);
    enum rc rc = read_trigger(txn, row, arena, &trigger, err);
    if (rc == RC_OK)
        rc = zone_load(trigger.time_zone, NULL, arena, &zone, err);
    if (rc != RC_OK)
        return rc;
    schedule_plan(&trigger, &zone, row->next_ns, now, is_running(all, txn, row, arena), &plan);
    for (size_t i = 0; rc == RC_OK && i < plan.count; i++) {
        rc = triggers_fire(all, txn, &trigger, plan.fire_ns[i], trigger.title, arena, &job, err);
        if (rc != RC_OK)
            break;
        row->last_ns = plan.fire_ns[i];
        row->last_run = job.id;
        row->fired++;
    }
    row->missed += plan.missed;
    row->next_ns = plan.next_ns;
    return rc == RC_OK ? schedule_table_put(txn, row, err) : rc;
}

/* A schedule that cannot be understood any more is asked about again in a minute. */
static enum rc fire_or_put_off(struct triggers *all, struct db_txn *txn, struct schedule_row *row,
                               struct arena *arena, struct err *err)
{
    struct schedule_row tried = *row;
    struct err problem = {0};
    if (fire_due(all, txn, &tried, arena, &problem) == RC_OK)
        return RC_OK;
    log_event(LOG_WARN, "schedule_put_off", LOG_Z("error", problem.message));
    row->next_ns = db_txn_now_ns(txn) + LOOK_NS_MAX;
    return schedule_table_put(txn, row, err);
}

static enum rc look_write(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct triggers *all = CONTAINER_OF(work, struct triggers, look);
    struct schedule_row *rows;
    struct arena arena;
    size_t count;
    arena_init(&arena, LOOK_BYTES_MAX);
    enum rc rc = schedule_table_due(txn, db_txn_now_ns(txn), DUE_MAX, &arena, &rows, &count, err);
    for (size_t i = 0; rc == RC_OK && i < count; i++)
        rc = fire_or_put_off(all, txn, &rows[i], &arena, err);
    if (rc == RC_OK)
        rc = schedule_table_next(txn, &all->next_ns, err);
    all->held = rc == RC_OK && all->next_ns <= db_txn_now_ns(txn);
    arena_fini(&arena);
    return rc;
}

static void look_start(struct triggers *all);

static void look_done(struct db_work *work)
{
    struct triggers *all = CONTAINER_OF(work, struct triggers, look);
    all->looking = false;
    if (all->stopped)
        return;
    if (all->look_again) {
        all->look_again = false;
        look_start(all);
        return;
    }
    int64_t wait =
        all->next_ns == INT64_MAX ? LOOK_NS_MAX : all->next_ns - loop_wall_ns(all->options.loop);
    if (work->rc != RC_OK || all->held)
        wait = WAIT_NS;
    timer_start(all->options.loop, &all->timer, MAX(0, MIN(wait, LOOK_NS_MAX)));
}

static void look_start(struct triggers *all)
{
    if (all->stopped)
        return;
    if (all->looking) {
        all->look_again = true;
        return;
    }
    timer_stop(&all->timer);
    all->looking = true;
    all->look = (struct db_work){.home = all->options.loop, .write = look_write, .done = look_done};
    if (db_write(all->options.db, &all->look) == RC_OK)
        return;
    all->looking = false;
    timer_start(all->options.loop, &all->timer, WAIT_NS);
}

static void on_timer(struct timer *timer)
{
    look_start(CONTAINER_OF(timer, struct triggers, timer));
}

static void on_wake(struct task *task)
{
    struct triggers *all = CONTAINER_OF(task, struct triggers, wake);
    __atomic_store_n(&all->wake_posted, false, __ATOMIC_RELEASE);
    look_start(all);
}

void triggers_wake(struct triggers *all)
{
    if (!__atomic_exchange_n(&all->wake_posted, true, __ATOMIC_ACQ_REL))
        loop_post(all->options.loop, &all->wake);
}

enum rc triggers_put_schedule(struct db_txn *txn, const struct trigger *trigger,
                              const struct schedule_row *keep, struct arena *arena, struct err *err)
{
    struct schedule_row row = {.project = trigger->project, .id = trigger->id};
    struct zone zone;
    if (keep)
        row = *keep;
    enum rc rc = zone_load(trigger->time_zone, NULL, arena, &zone, err);
    if (rc != RC_OK)
        return rc;
    int64_t next = cron_next_s(&trigger->cron, &zone, db_txn_now_ns(txn) / NS_PER_S);
    row.next_ns = trigger->paused || next == INT64_MAX ? INT64_MAX : next * NS_PER_S;
    return schedule_table_put(txn, &row, err);
}

/* ---- the job of a run ---- */

static void put_time(struct json_writer *w, const char *name, int64_t ns)
{
    char iso[CLOCK_ISO_BYTES_MAX];
    json_put_string(w, name, str_make(iso, clock_format_iso(ns, 0, iso)));
}

enum rc triggers_fire(struct triggers *all, struct db_txn *txn, const struct trigger *trigger,
                      int64_t for_ns, struct str author, struct arena *arena, struct job_row *out,
                      struct err *err)
{
    char id[ID_TEXT_BYTES_MAX];
    struct buf params;
    buf_init(&params, PARAMS_BYTES_MAX);
    struct json_writer w = json_writer_to(&params);
    json_begin_object(&w);
    json_put_string(&w, "trigger", str_make(id, id_format(trigger->id, TRIGGER_PREFIX, id)));
    json_put_string(&w, "title", trigger->title);
    json_put_string(&w, "pipeline", trigger->pipeline);
    json_put_string(&w, "label", trigger->label);
    json_put_string(&w, "session", trigger->session);
    put_time(&w, "scheduled_for", for_ns);
    json_put_raw(&w, "inputs", trigger->inputs.n ? trigger->inputs : STR("{}"));
    json_end_object(&w);
    struct str text = w.rc == RC_OK ? arena_copy(arena, buf_str(&params)) : STR_EMPTY;
    buf_fini(&params);
    if (!text.p)
        return err_set(err, ERR_TOO_LARGE, "The schedule's inputs are too large.");
    return job_submit(all->options.jobs, txn, trigger->project, "pipeline_run", text, author, arena,
                      out, err);
}

struct firing {
    struct triggers *all;
    struct job_run *job;
    struct launch *launch; /* NULL: it runs */
    struct run *run;
};

static void firing_end(struct firing *firing, const struct err *err)
{
    char id[ID_TEXT_BYTES_MAX], text[96];
    id_format(job_run_id(firing->job), "run", id);
    int n = snprintf(text, sizeof(text), "{\"run\":\"%s\"}", id);
    job_finish(firing->job, str_make(text, (size_t)n), err);
    free(firing);
}

/* It is in the journal: from here on it goes on by itself. */
static void on_begun(void *arg, struct run *run)
{
    run_forget_owner(run);
    firing_end(arg, NULL);
}

static void on_ended(void *arg, const struct run *run)
{
    UNUSED(run);
    firing_end(arg, NULL);
}

static void on_launched(void *arg, struct run *run, const struct err *err)
{
    struct firing *firing = arg;
    firing->launch = NULL;
    firing->run = run;
    if (!run)
        firing_end(firing, err);
}

static void *run_job_start(void *arg, struct job_run *job, yyjson_val *params)
{
    struct triggers *all = arg;
    struct run_index_row row;
    struct arena arena;
    struct trigger trigger = {.project = job_run_project(job),
                              .title = json_get_text(params, "title")};
    struct principal principal = trigger_principal(&trigger);
    struct firing *firing = xcalloc(1, sizeof(*firing));
    *firing = (struct firing){.all = all, .job = job};
    arena_init(&arena, PARAMS_BYTES_MAX);
    bool begun = run_index_get(pipelines_index(all->options.pipelines), trigger.project,
                               job_run_id(job), &arena, &row) == RC_OK;
    arena_fini(&arena);
    if (begun) { /* by a process that ended before it could say so */
        firing_end(firing, NULL);
        return NULL;
    }
    struct launch_request request = {
        .pipeline = json_get_text(params, "pipeline"),
        .selector = json_get_text(params, "label"),
        .trigger = "schedule",
        .principal = &principal,
        .session = json_get_text(params, "session"),
        .inputs = yyjson_obj_get(params, "inputs"),
        .id = job_run_id(job),
        .recorded = true,
        .owner = {.begun = on_begun, .ended = on_ended, .arg = firing},
    };
    trace_context_read(STR_EMPTY, &request.trace);
    struct pipeline_loop *loop =
        pipelines_loop(all->options.pipelines, loop_index(all->options.loop));
    struct launch *launch = launch_start(loop, &request, on_launched, firing);
    if (!launch)
        return NULL; /* begun or refused; `firing` may be gone */
    firing->launch = launch;
    return firing;
}

static void run_job_cancel(void *arg, void *handle)
{
    struct firing *firing = handle;
    struct err err = {0};
    UNUSED(arg);
    if (firing->launch)
        launch_cancel(firing->launch);
    if (firing->run) {
        run_forget_owner(firing->run);
        run_cancel(firing->run, "its schedule's job was cancelled");
    }
    err_set(&err, ERR_CANCELLED, "cancelled");
    firing_end(firing, &err);
}

/* ---- life ---- */

struct triggers *triggers_new(const struct triggers_options *options)
{
    struct triggers *all = xcalloc(1, sizeof(*all));
    all->options = *options;
    all->wake.run = on_wake;
    timer_init(&all->timer, on_timer);
    jobs_register(options->jobs, &(struct job_kind){.name = "pipeline_run",
                                                    .attempts_max = RUN_ATTEMPTS_MAX,
                                                    .parallel_max = RUN_PARALLEL_MAX,
                                                    .start = run_job_start,
                                                    .cancel = run_job_cancel,
                                                    .arg = all});
    notify_register(all);
    return all;
}

void triggers_begin(struct triggers *all) { look_start(all); }

void triggers_stop(struct triggers *all)
{
    all->stopped = true;
    timer_stop(&all->timer);
}

void triggers_free(struct triggers *all)
{
    if (!all)
        return;
    timer_stop(&all->timer);
    free(all);
}
