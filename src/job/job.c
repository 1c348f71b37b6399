/* See job.h. The runner learns of new and cancelled jobs by a scan of the open rows, which goes
 * through the control writer's queue: behind the transaction that made the job, so that the scan
 * sees it if and only if it was committed. A scan is asked for by a posted task, never by polling;
 * a timer wakes up for attempts that wait for their backoff. */
#include "job/job.h"
#include "base/clock.h"
#include "base/log.h"
#include <pthread.h>
#include <stdlib.h>

#define SCAN_ARENA_BYTES_MAX (16 * 1024 * 1024)
#define RUN_ARENA_BYTES_MAX  (1024 * 1024)
#define EVENT_INTERVAL_NS    (250 * NS_PER_MS)
#define WRITE_INTERVAL_NS    (5 * NS_PER_S)
#define BACKOFF_NS           (5 * NS_PER_S) /* doubled with each attempt */
#define BACKOFF_NS_MAX       (10 * 60 * NS_PER_S)
#define RESCAN_NS            (1 * NS_PER_S) /* when the writer's queue was full */
#define TEXT_BYTES_MAX       1024           /* of a message or an error kept in a row */

struct job_run {
    struct list node;
    struct jobs *jobs;
    const struct job_kind *kind;
    void *handle;
    struct arena arena; /* of the row's fixed texts */
    struct job_row row;
    char message[TEXT_BYTES_MAX]; /* row.message points here */
    bool cancel_told;
    bool ended; /* only its row is still on its way: a scan that read the old one finds it here */
    int64_t event_ns, write_ns; /* monotonic: last told, last written */
};

struct jobs {
    struct loop *loop;
    struct db *db;
    struct event_bus *events;
    struct job_kind kinds[JOB_KINDS_MAX];
    size_t kind_count;

    struct list runs; /* changed on the loop only, under the lock: job_refresh reads it */
    pthread_mutex_t lock;
    bool stopped;

    struct task wake; /* posted by any thread */
    bool wake_posted; /* atomic */
    struct timer rescan;
    struct db_work scan;
    bool scanning, scan_again;
    struct arena scan_arena;
    struct job_row *scan_rows;
    size_t scan_count;
};

/* A row on its way to the disk. */
struct row_write {
    struct db_work work;
    struct jobs *jobs;
    struct arena arena;
    struct job_row row;
    bool rescan;           /* when it is there */
    struct job_run *ended; /* to be freed when it is there; or NULL */
};

/* ---- kinds ---- */

void jobs_register(struct jobs *jobs, const struct job_kind *kind)
{
    ASSERT(jobs->kind_count < JOB_KINDS_MAX);
    jobs->kinds[jobs->kind_count++] = *kind;
}

static const struct job_kind *find_kind(struct jobs *jobs, struct str name)
{
    for (size_t i = 0; i < jobs->kind_count; i++)
        if (str_eq(name, str_from(jobs->kinds[i].name)))
            return &jobs->kinds[i];
    return NULL;
}

/* ---- telling ---- */

static struct str copy_or_empty(struct arena *arena, struct str s)
{
    struct str copy = s.n ? arena_copy(arena, s) : STR_EMPTY;
    return copy.p ? copy : STR_EMPTY;
}

static void copy_row(struct job_row *to, const struct job_row *from, struct arena *arena)
{
    *to = *from;
    to->kind = copy_or_empty(arena, from->kind);
    to->state = copy_or_empty(arena, from->state);
    to->params = copy_or_empty(arena, from->params);
    to->unit = copy_or_empty(arena, from->unit);
    to->message = copy_or_empty(arena, from->message);
    to->result = copy_or_empty(arena, from->result);
    to->error = copy_or_empty(arena, from->error);
    to->author = copy_or_empty(arena, from->author);
}

static void publish_row(struct jobs *jobs, const struct job_row *row)
{
    if (!event_wanted(jobs->events, EVENT_JOB))
        return;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, job_encode(row, doc));
    size_t n;
    char *text = yyjson_mut_write(doc, 0, &n);
    if (text)
        event_publish(jobs->events, row->project, EVENT_JOB, str_make(text, n));
    free(text);
    yyjson_mut_doc_free(doc);
}

static void request_scan(struct jobs *jobs);
static void remove_run(struct job_run *run);

static enum rc write_row(struct db_work *work, struct db_txn *txn, struct err *err)
{
    return job_table_update(txn, &CONTAINER_OF(work, struct row_write, work)->row, err);
}

static void row_written(struct db_work *work)
{
    struct row_write *write = CONTAINER_OF(work, struct row_write, work);
    if (work->rc != RC_OK)
        log_event(LOG_ERROR, "job_not_stored", LOG_STR("kind", write->row.kind),
                  LOG_Z("error", work->err.message));
    if (write->ended)
        remove_run(write->ended);
    if (write->rescan)
        request_scan(write->jobs);
    arena_fini(&write->arena);
    free(write);
}

static void store_row(struct jobs *jobs, const struct job_row *row, bool rescan,
                      struct job_run *ended)
{
    struct row_write *write = xcalloc(1, sizeof(*write));
    arena_init(&write->arena, RUN_ARENA_BYTES_MAX);
    copy_row(&write->row, row, &write->arena);
    write->jobs = jobs;
    write->rescan = rescan;
    write->ended = ended;
    write->work = (struct db_work){.home = jobs->loop, .write = write_row, .done = row_written};
    if (db_write(jobs->db, &write->work) != RC_OK) {
        err_set(&write->work.err, ERR_OVERLOADED, "the writer's queue is full");
        write->work.rc = RC_LIMIT;
        row_written(&write->work);
    }
}

/* ---- running ---- */

static struct job_run *find_run(struct jobs *jobs, struct id id)
{
    LIST_FOR_EACH (run, &jobs->runs, struct job_run, node)
        if (id_eq(run->row.id, id))
            return run;
    return NULL;
}

static size_t count_runs(struct jobs *jobs, const struct job_kind *kind)
{
    size_t count = 0;
    LIST_FOR_EACH (run, &jobs->runs, struct job_run, node)
        count += run->kind == kind && !run->ended;
    return count;
}

static void remove_run(struct job_run *run)
{
    pthread_mutex_lock(&run->jobs->lock);
    list_remove(&run->node);
    pthread_mutex_unlock(&run->jobs->lock);
    arena_fini(&run->arena);
    free(run);
}

static int64_t backoff_ns(int64_t attempt)
{
    int64_t ns = BACKOFF_NS << MIN(attempt - 1, 10);
    return MIN(ns, BACKOFF_NS_MAX);
}

/* The row's state after an attempt: ended, or queued for another one. */
static void set_outcome(struct job_row *row, struct str result, const struct err *err,
                        int64_t now_ns)
{
    row->finished_ns = now_ns;
    if (!err) {
        row->state = STR("done");
        row->result = result;
        row->error = STR_EMPTY;
        return;
    }
    row->error = str_from(err->message);
    if (err->code == ERR_CANCELLED) {
        row->state = STR("cancelled");
        return;
    }
    bool retry =
        row->attempt < row->attempts_max && err->rc != RC_INVALID && err->rc != RC_NOT_FOUND;
    row->state = retry ? STR("queued") : STR("failed");
    if (retry) {
        row->finished_ns = 0;
        row->run_after_ns = now_ns + backoff_ns(row->attempt);
    }
}

void job_finish(struct job_run *run, struct str result, const struct err *err)
{
    struct jobs *jobs = run->jobs;
    set_outcome(&run->row, result, err, loop_wall_ns(jobs->loop));
    log_event(err ? LOG_WARN : LOG_INFO, "job_ended", LOG_STR("kind", run->row.kind),
              LOG_STR("state", run->row.state), LOG_STR("error", run->row.error));
    publish_row(jobs, &run->row);
    run->ended = true;
    run->handle = NULL;
    store_row(jobs, &run->row, true, run); /* others of its kind may wait for its place */
}

struct id job_run_project(const struct job_run *run) { return run->row.project; }

struct id job_run_id(const struct job_run *run) { return run->row.id; }

void job_progress(struct job_run *run, int64_t done, int64_t total, const char *unit,
                  struct str message)
{
    struct jobs *jobs = run->jobs;
    int64_t now = loop_now_ns(jobs->loop);
    pthread_mutex_lock(&jobs->lock);
    run->row.done = done;
    run->row.total = total;
    run->row.unit = str_from(unit);
    size_t n = MIN(message.n, sizeof(run->message));
    memcpy(run->message, message.p, n);
    run->row.message = str_make(run->message, n);
    pthread_mutex_unlock(&jobs->lock);
    if (now - run->event_ns >= EVENT_INTERVAL_NS) {
        run->event_ns = now;
        publish_row(jobs, &run->row);
    }
    if (now - run->write_ns >= WRITE_INTERVAL_NS) {
        run->write_ns = now;
        store_row(jobs, &run->row, false, NULL);
    }
}

static void fail_row(struct jobs *jobs, struct job_row *row, const char *why)
{
    row->state = STR("failed");
    row->error = str_from(why);
    row->finished_ns = loop_wall_ns(jobs->loop);
    publish_row(jobs, row);
    store_row(jobs, row, false, NULL);
}

static void start_run(struct jobs *jobs, const struct job_kind *kind, const struct job_row *row)
{
    struct job_run *run = xcalloc(1, sizeof(*run));
    arena_init(&run->arena, RUN_ARENA_BYTES_MAX);
    copy_row(&run->row, row, &run->arena);
    run->jobs = jobs;
    run->kind = kind;
    run->row.state = STR("running");
    run->row.error = STR_EMPTY;
    run->row.attempt++;
    run->row.started_ns = loop_wall_ns(jobs->loop);
    run->write_ns = loop_now_ns(jobs->loop);
    pthread_mutex_lock(&jobs->lock);
    list_push_back(&jobs->runs, &run->node);
    pthread_mutex_unlock(&jobs->lock);
    store_row(jobs, &run->row, false, NULL);
    publish_row(jobs, &run->row);
    struct id id = run->row.id;
    yyjson_doc *params = yyjson_read(row->params.p, row->params.n, 0);
    void *handle = kind->start(kind->arg, run, yyjson_doc_get_root(params));
    yyjson_doc_free(params);
    run = find_run(jobs, id); /* it may have finished at once */
    if (run && !run->ended)
        run->handle = handle;
}

static void cancel_run(struct job_run *run)
{
    if (run->cancel_told || !run->handle)
        return;
    run->cancel_told = true;
    run->row.cancel_asked = true;
    run->kind->cancel(run->kind->arg, run->handle);
}

/* ---- scanning ---- */

static enum rc scan_rows(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct jobs *jobs = CONTAINER_OF(work, struct jobs, scan);
    arena_reset(&jobs->scan_arena);
    return job_table_open(txn, JOBS_OPEN_MAX, &jobs->scan_arena, &jobs->scan_rows,
                          &jobs->scan_count, err);
}

/* One open row: start it, cancel it, or let it wait. */
static void take_row(struct jobs *jobs, struct job_row *row, int64_t now_ns, int64_t *next_ns)
{
    struct job_run *run = find_run(jobs, row->id);
    if (run) {
        if (row->cancel_asked)
            cancel_run(run);
        return;
    }
    const struct job_kind *kind = find_kind(jobs, row->kind);
    if (!kind) {
        fail_row(jobs, row, "this version of the program does not know such jobs");
        return;
    }
    if (str_eq(row->state, STR("running")) && row->attempt >= row->attempts_max) {
        fail_row(jobs, row, "the server stopped while it ran, and it had no attempts left");
        return;
    }
    if (str_eq(row->state, STR("queued")) && row->run_after_ns > now_ns) {
        *next_ns = MIN(*next_ns, row->run_after_ns);
        return;
    }
    if (!kind->parallel_max || count_runs(jobs, kind) < kind->parallel_max)
        start_run(jobs, kind, row);
}

static void scan_done(struct db_work *work)
{
    struct jobs *jobs = CONTAINER_OF(work, struct jobs, scan);
    int64_t now = loop_wall_ns(jobs->loop), next = INT64_MAX;
    jobs->scanning = false;
    if (jobs->stopped)
        return;
    if (work->rc == RC_OK)
        for (size_t i = 0; i < jobs->scan_count; i++)
            take_row(jobs, &jobs->scan_rows[i], now, &next);
    else
        next = now + RESCAN_NS;
    arena_reset(&jobs->scan_arena);
    if (next != INT64_MAX)
        timer_start(jobs->loop, &jobs->rescan, MAX(next - now, 0));
    if (jobs->scan_again) {
        jobs->scan_again = false;
        request_scan(jobs);
    }
}

static void request_scan(struct jobs *jobs)
{
    if (jobs->stopped)
        return;
    if (jobs->scanning) {
        jobs->scan_again = true;
        return;
    }
    jobs->scanning = true;
    jobs->scan = (struct db_work){.home = jobs->loop, .write = scan_rows, .done = scan_done};
    if (db_write(jobs->db, &jobs->scan) == RC_OK)
        return;
    jobs->scanning = false;
    timer_start(jobs->loop, &jobs->rescan, RESCAN_NS);
}

static void on_wake(struct task *task)
{
    struct jobs *jobs = CONTAINER_OF(task, struct jobs, wake);
    __atomic_store_n(&jobs->wake_posted, false, __ATOMIC_RELEASE);
    request_scan(jobs);
}

static void on_rescan(struct timer *timer)
{
    request_scan(CONTAINER_OF(timer, struct jobs, rescan));
}

/* Any thread. */
static void wake_runner(struct jobs *jobs)
{
    if (!__atomic_exchange_n(&jobs->wake_posted, true, __ATOMIC_ACQ_REL))
        loop_post(jobs->loop, &jobs->wake);
}

/* ---- life ---- */

struct jobs *jobs_new(struct loop *loop, struct db *db, struct event_bus *events)
{
    struct jobs *jobs = xcalloc(1, sizeof(*jobs));
    jobs->loop = loop;
    jobs->db = db;
    jobs->events = events;
    list_init(&jobs->runs);
    pthread_mutex_init(&jobs->lock, NULL);
    arena_init(&jobs->scan_arena, SCAN_ARENA_BYTES_MAX);
    timer_init(&jobs->rescan, on_rescan);
    jobs->wake.run = on_wake;
    return jobs;
}

void jobs_begin(struct jobs *jobs) { wake_runner(jobs); }

void jobs_stop(struct jobs *jobs)
{
    jobs->stopped = true;
    timer_stop(&jobs->rescan);
}

void jobs_free(struct jobs *jobs)
{
    LIST_FOR_EACH_SAFE (run, &jobs->runs, struct job_run, node)
        remove_run(run);
    arena_fini(&jobs->scan_arena);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}

/* ---- asking ---- */

static enum rc count_open(struct db_txn *txn, struct arena *arena, struct err *err)
{
    struct job_row *rows;
    size_t count;
    enum rc rc = job_table_open(txn, JOBS_OPEN_MAX, arena, &rows, &count, err);
    if (rc == RC_OK && count >= JOBS_OPEN_MAX)
        rc = err_set(err, ERR_OVERLOADED, "%d jobs are queued or running; wait for some to end",
                     JOBS_OPEN_MAX);
    return rc;
}

enum rc job_submit(struct jobs *jobs, struct db_txn *txn, struct id project, const char *kind,
                   struct str params, struct str author, struct arena *arena, struct job_row *out,
                   struct err *err)
{
    const struct job_kind *known = find_kind(jobs, str_from(kind));
    ASSERT(known);
    enum rc rc = count_open(txn, arena, err);
    if (rc != RC_OK)
        return rc;
    int64_t now = db_txn_now_ns(txn);
    *out = (struct job_row){
        .id = id_new(),
        .project = project,
        .kind = str_from(kind),
        .state = STR("queued"),
        .params = params,
        .unit = STR(""),
        .message = STR(""),
        .attempts_max = known->attempts_max,
        .run_after_ns = now,
        .author = author,
        .created_ns = now,
    };
    rc = job_table_insert(txn, out, err);
    if (rc == RC_OK)
        wake_runner(jobs);
    return rc;
}

enum rc job_cancel(struct jobs *jobs, struct db_txn *txn, struct id project, struct id job,
                   struct arena *arena, struct job_row *out, struct err *err)
{
    enum rc rc = job_table_get(txn, project, job, arena, out, err);
    if (rc != RC_OK)
        return rc;
    if (out->finished_ns)
        return err_set(err, ERR_CONFLICT, "the job has ended already (%.*s)", STR_ARG(out->state));
    out->cancel_asked = true;
    if (str_eq(out->state, STR("queued"))) {
        out->state = STR("cancelled");
        out->finished_ns = db_txn_now_ns(txn);
    }
    rc = job_table_update(txn, out, err);
    if (rc == RC_OK)
        wake_runner(jobs);
    return rc;
}

void job_refresh(struct jobs *jobs, struct job_row *row, struct arena *arena)
{
    pthread_mutex_lock(&jobs->lock);
    LIST_FOR_EACH (run, &jobs->runs, struct job_run, node) {
        if (!id_eq(run->row.id, row->id))
            continue;
        row->done = run->row.done;
        row->total = run->row.total;
        row->unit = run->row.unit;
        row->message = copy_or_empty(arena, run->row.message);
    }
    pthread_mutex_unlock(&jobs->lock);
}

/* ---- JSON ---- */

static void put_text(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, struct str s)
{
    if (s.n)
        yyjson_mut_obj_add_strncpy(doc, o, key, s.p, s.n);
    else
        yyjson_mut_obj_add_null(doc, o, key);
}

static void put_time(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, int64_t ns)
{
    char text[CLOCK_ISO_BYTES_MAX];
    put_text(doc, o, key, ns ? str_make(text, clock_format_iso(ns, 3, text)) : STR_EMPTY);
}

/* Left out where there is none. */
static void put_json(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, struct str text)
{
    yyjson_doc *value = text.n ? yyjson_read(text.p, text.n, 0) : NULL;
    if (value)
        yyjson_mut_obj_add_val(doc, o, key, yyjson_val_mut_copy(doc, yyjson_doc_get_root(value)));
    yyjson_doc_free(value);
}

yyjson_mut_val *job_encode(const struct job_row *row, yyjson_mut_doc *doc)
{
    char id[ID_TEXT_BYTES_MAX];
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    put_text(doc, o, "id", str_make(id, id_format(row->id, "job", id)));
    put_text(doc, o, "kind", row->kind);
    put_text(doc, o, "state", row->state);
    yyjson_mut_val *progress = yyjson_mut_obj_add_obj(doc, o, "progress");
    yyjson_mut_obj_add_sint(doc, progress, "done", row->done);
    yyjson_mut_obj_add_sint(doc, progress, "total", row->total);
    put_text(doc, progress, "unit", row->unit);
    put_text(doc, progress, "message", row->message);
    put_json(doc, o, "params", row->params);
    put_json(doc, o, "result", row->result);
    put_text(doc, o, "error", row->error);
    yyjson_mut_obj_add_sint(doc, o, "attempt", row->attempt);
    yyjson_mut_obj_add_bool(doc, o, "cancel_asked", row->cancel_asked);
    put_text(doc, o, "author", row->author);
    put_time(doc, o, "created_at", row->created_ns);
    put_time(doc, o, "started_at", row->started_ns);
    put_time(doc, o, "finished_at", row->finished_ns);
    return o;
}
