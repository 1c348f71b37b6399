/* Runs: starting them (answered when they end, as a stream, or at once), looking at them, and
 * cancelling, answering and repeating them. What concerns a run under way is done on its loop: a
 * request on another loop sends a message there and gets one back. */
#include "api/handlers.h"
#include "api/problem.h"
#include "base/clock.h"
#include "base/rand.h"
#include "job/event.h"
#include "pipeline/engine/launch.h"
#include "pipeline/triggers/triggers.h"
#include "pipeline/engine/run_index.h"
#include "pipeline/engine/recording.h"
#include "pipeline/definition/value.h"
#include "io/worker.h"
#include "text/json_tree.h"
#include "text/json_writer.h"
#include <stdio.h>
#include <stdlib.h>

#define RUN_BYTES_MAX      (32 * 1024 * 1024)
#define STARTING_BYTES_MAX (4 * RUN_BYTES_MAX) /* with the run that it repeats, read */
#define STREAM_ARENA       (8 * 1024 * 1024)
#define HEARTBEAT_NS       (15 * NS_PER_S)

enum mode { MODE_WAIT, MODE_STREAM, MODE_ASYNC };

static void respond_error(struct http_request *request, enum err_code code, const char *message)
{
    struct err err = {0};
    err_set(&err, code, "%s", message);
    api_respond_problem(request, &err);
}

static void respond_buf(struct http_request *request, int status, const struct buf *buf)
{
    struct str text = arena_copy(request->arena, buf_str(buf));
    if (text.p)
        http_respond(request, status, STR("application/json"), text);
    else
        respond_error(request, ERR_TOO_LARGE, "The run is too large to be shown.");
}

static struct pipeline_loop *own_loop(struct api_call *call, const struct http_request *request)
{
    return pipelines_loop(call->services->pipelines, loop_index(request->loop));
}

/* ---- a run's events as a stream ---- */

struct run_stream {
    struct event_reader reader;
    struct event_bus *bus;
    struct http_request *request; /* NULL: the client left */
    struct arena arena;
    struct timer heartbeat;
    bool stopped, ended;
};

static void watch_closed(struct event_reader *reader)
{
    struct run_stream *stream = CONTAINER_OF(reader, struct run_stream, reader);
    event_bus_unref(stream->bus);
    arena_fini(&stream->arena);
    free(stream);
}

static void watch_close(struct run_stream *stream)
{
    timer_stop(&stream->heartbeat);
    event_unsubscribe(&stream->reader, watch_closed);
}

/* "NAME\nJSON" */
static void send_event(struct run_stream *stream, const struct event *event)
{
    struct str name = event->data, data;
    ssize_t line = str_find_char(name, '\n');
    data = str_slice(name, (size_t)line + 1, name.n);
    name = str_slice(name, 0, (size_t)line);
    struct str text = arena_printf(&stream->arena, "id: %llu\nevent: %.*s\ndata: %.*s\n\n",
                                   (unsigned long long)event->seq, STR_ARG(name), STR_ARG(data));
    if (text.p && http_respond_write(stream->request, text) == STOP)
        stream->stopped = true;
    stream->ended = str_eq(name, STR("run_finished"));
}

static void watch_ready(struct event_reader *reader)
{
    struct run_stream *stream = CONTAINER_OF(reader, struct run_stream, reader);
    struct event event;
    uint64_t missed;
    while (stream->request && !stream->stopped && !stream->ended) {
        arena_reset(&stream->arena);
        if (event_read(reader, &stream->arena, &event, &missed) != RC_OK)
            break;
        if (missed) {
            struct str text =
                arena_printf(&stream->arena, "event: missed\ndata: {\"count\":%llu}\n\n",
                             (unsigned long long)missed);
            http_respond_write(stream->request, text);
        }
        send_event(stream, &event);
    }
    if (stream->ended && stream->request) {
        struct http_request *request = stream->request;
        stream->request = NULL;
        request->gone = NULL;
        request->writable = NULL;
        watch_close(stream);
        http_respond_end(request);
    }
}

static void watch_writable(struct http_request *request)
{
    struct run_stream *stream = request->user;
    stream->stopped = false;
    watch_ready(&stream->reader);
}

static void watch_heartbeat(struct timer *timer)
{
    struct run_stream *stream = CONTAINER_OF(timer, struct run_stream, heartbeat);
    if (!stream->stopped)
        stream->stopped = http_respond_write(stream->request, STR(": still here\n\n")) == STOP;
    timer_start(stream->reader.loop, timer, HEARTBEAT_NS);
}

static void watch_gone(struct http_request *request)
{
    struct run_stream *stream = request->user;
    stream->request = NULL;
    watch_close(stream);
}

static void begin_stream(struct http_request *request, struct str run_id)
{
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    http_respond_header(request, STR("x-accel-buffering"), STR("no"));
    if (run_id.n)
        http_respond_header(request, STR("x-capstan-run-id"), run_id);
    http_respond_begin(request, 200, STR("text/event-stream"));
}

/* `bus` is referenced for the stream. `snapshot` (empty: none) goes first: the run as it is. */
static void watch_start(struct http_request *request, struct id project, struct event_bus *bus,
                        uint64_t after, struct str snapshot)
{
    struct run_stream *stream = xcalloc(1, sizeof(*stream));
    arena_init(&stream->arena, STREAM_ARENA);
    stream->request = request;
    stream->bus = bus;
    stream->reader = (struct event_reader){
        .loop = request->loop, .project = project, .types = 1u << EVENT_RUN, .ready = watch_ready};
    request->user = stream;
    request->gone = watch_gone;
    request->writable = watch_writable;
    if (snapshot.n) {
        struct str text =
            arena_printf(request->arena, "event: snapshot\ndata: %.*s\n\n", STR_ARG(snapshot));
        if (text.p)
            http_respond_write(request, text);
    }
    timer_init(&stream->heartbeat, watch_heartbeat);
    timer_start(request->loop, &stream->heartbeat, HEARTBEAT_NS);
    event_subscribe(bus, &stream->reader, after);
}

/* ---- starting ---- */

struct starting {
    struct http_request *request; /* NULL: the client left */
    struct pipeline_loop *loop;
    struct arena arena; /* of what outlives the client: the body */
    struct principal principal;
    yyjson_val *body;
    struct str pipeline, selector;
    enum mode mode;
    struct api_services *services;
    struct db_work notice; /* of the webhook that is told of its end */
    struct job_row job;
    bool draft;
    struct run *run;
    /* Of a run that repeats another: */
    yyjson_val *of; /* that, as JSON; NULL: it is a new one */
    bool fork;
    /* Of a run of one node: */
    struct str only; /* empty: all */
};

static void starting_free(struct starting *starting)
{
    arena_fini(&starting->arena);
    free(starting);
}

static void release_request(struct starting *starting)
{
    starting->request->gone = NULL;
    starting->request->user = NULL;
}

static void on_run_ended(void *arg, const struct run *run)
{
    struct starting *starting = arg;
    struct buf out;
    if (starting->request) {
        release_request(starting);
        buf_init(&out, RUN_BYTES_MAX);
        if (starting->only.n)
            run_encode(run, &out);
        else
            run_encode_result(run, &out);
        respond_buf(starting->request, 200, &out);
        buf_fini(&out);
    }
    starting_free(starting);
}

/* Nobody waits for it any more: a run that answers its caller is cancelled with him, and one whose
 * id nobody has been told, too. */
static void on_client_gone(struct http_request *request)
{
    struct starting *starting = request->user;
    starting->request = NULL;
    if (!starting->run)
        return; /* its plan is being looked for */
    run_forget_owner(starting->run);
    run_cancel(starting->run, "the client has left");
    starting_free(starting);
}

static void answer_started(struct starting *starting)
{
    struct http_request *request = starting->request;
    char id[ID_TEXT_BYTES_MAX];
    run_forget_owner(starting->run);
    size_t n = id_format(run_id(starting->run), "run", id);
    struct str text =
        arena_printf(request->arena, "{\"id\":\"%.*s\",\"status\":\"running\"}", (int)n, id);
    release_request(starting);
    http_respond(request, 202, STR("application/json"), text);
    starting_free(starting);
}

static void watch_started(struct starting *starting)
{
    struct http_request *request = starting->request;
    char id[ID_TEXT_BYTES_MAX];
    size_t n = id_format(run_id(starting->run), "run", id);
    struct event_bus *bus = event_bus_ref(run_watch(starting->run));
    run_forget_owner(starting->run);
    release_request(starting);
    begin_stream(request, arena_copy(request->arena, str_make(id, n)));
    watch_start(request, starting->principal.project, bus, 0, STR_EMPTY);
    starting_free(starting);
}

static void on_run_begun(void *arg, struct run *run)
{
    struct starting *starting = arg;
    UNUSED(run);
    if (starting->mode == MODE_STREAM)
        watch_started(starting);
    else if (starting->mode == MODE_ASYNC)
        answer_started(starting);
}

/* The first's members, with the second's in place of those of the same name; both may be NULL. */
static yyjson_val *merge(yyjson_val *base, yyjson_val *over, struct arena *arena)
{
    struct maker maker;
    size_t i, n;
    yyjson_val *key, *value;
    maker_init(&maker, arena);
    maker_object(&maker);
    yyjson_obj_foreach(base, i, n, key, value)
    {
        if (yyjson_obj_getn(over, yyjson_get_str(key), yyjson_get_len(key)))
            continue;
        maker_key(&maker, json_text(key));
        maker_tree(&maker, value);
    }
    yyjson_obj_foreach(over, i, n, key, value)
    {
        maker_key(&maker, json_text(key));
        maker_tree(&maker, value);
    }
    maker_end(&maker);
    return maker_take(&maker);
}

/* What a request says of a run, for a run that repeats another, too. */
static void fill_from(struct starting *starting, struct run_request *request)
{
    yyjson_val *body = starting->body, *of = starting->of, *values = yyjson_obj_get(body, "values"),
               *from = of ? of : body;
    request->session = json_get_text(from, "session");
    request->user = json_get_text(from, "user");
    request->inputs = yyjson_obj_get(from, "inputs");
    if (starting->fork || starting->only.n)
        request->inputs = merge(request->inputs, yyjson_obj_get(values, "start"), &starting->arena);
    request->query = json_get_text(request->inputs, "query");
    if (starting->only.n) {
        request->trigger = "node";
        request->only = starting->only;
        request->values = values;
    }
    if (!of)
        return;
    request->trigger = starting->fork ? "fork" : "retry";
    request->messages = yyjson_obj_get(of, "messages");
    if (!request->query.n)
        request->query = json_get_text(of, "query");
    if (id_parse(json_get_text(of, "id"), "run", &request->origin) != RC_OK)
        request->origin = (struct id){0};
}

static enum rc read_recording(struct starting *starting, struct run_request *request,
                              struct err *err)
{
    yyjson_val *body = starting->body;
    const struct recording_options options = {
        .from = starting->fork ? json_get_text(body, "from") : STR_EMPTY,
        .values = starting->fork ? yyjson_obj_get(body, "values") : NULL,
    };
    if (!starting->of)
        return RC_OK;
    return recording_read(request->plan, starting->of, &options, &request->replay, err);
}

static void on_plan(void *arg, struct plan *plan, int64_t version, const struct err *err)
{
    struct starting *starting = arg;
    struct err problem = err ? *err : (struct err){0};
    if (!starting->request) {
        plan_unref(plan);
        starting_free(starting);
        return;
    }
    if (!err) {
        struct run_request request = {
            .plan = plan,
            .pipeline = starting->pipeline,
            .version = version,
            .trigger = starting->draft ? "draft" : "api",
            .principal = &starting->principal,
            .id = starting->job.id,
            .key = launch_find_key(&starting->principal),
            .budget_pico = COST_UNKNOWN,
            .recorded = starting->mode != MODE_WAIT,
            .owner = {.begun = on_run_begun, .ended = on_run_ended, .arg = starting},
        };
        trace_context_read(http_header_get(&starting->request->headers, STR("traceparent")),
                           &request.trace);
        fill_from(starting, &request);
        if (read_recording(starting, &request, &problem) == RC_OK)
            starting->run = run_start(starting->loop, &request, &problem);
        if (!starting->run)
            recording_free(request.replay);
        plan_unref(plan);
    }
    if (problem.code != ERR_NONE) {
        struct http_request *request = starting->request;
        release_request(starting);
        api_respond_problem(request, &problem);
        starting_free(starting);
    }
}

static void find_plan(struct starting *starting)
{
    struct str who = json_get_text(starting->body, "session");
    if (!who.n)
        who = json_get_text(starting->body, "user");
    plan_find(starting->loop, starting->principal.project, starting->pipeline, starting->selector,
              who.n ? hash_xxh3(who.p, who.n) : rand_u64(), on_plan, starting);
}

/* The job that tells the webhook is there before the run, and names it. */
static enum rc write_notice(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct starting *starting = CONTAINER_OF(work, struct starting, notice);
    yyjson_val *webhook = yyjson_obj_get(starting->body, "webhook");
    return triggers_notify(starting->services->triggers, txn, starting->principal.project,
                           json_get_text(webhook, "url"), json_get_text(webhook, "secret"),
                           starting->principal.name, &starting->arena, &starting->job, err);
}

static void notice_written(struct db_work *work)
{
    struct starting *starting = CONTAINER_OF(work, struct starting, notice);
    if (starting->request && work->rc == RC_OK) {
        find_plan(starting);
        return;
    }
    if (starting->request) {
        struct http_request *request = starting->request;
        release_request(starting);
        api_respond_problem(request, &work->err);
    }
    starting_free(starting);
}

static void start_notified(struct starting *starting)
{
    starting->notice = (struct db_work){
        .home = starting->request->loop, .write = write_notice, .done = notice_written};
    if (db_write(starting->services->db, &starting->notice) == RC_OK)
        return;
    err_set(&starting->notice.err, ERR_OVERLOADED, "too many requests wait; try again soon");
    starting->notice.rc = RC_LIMIT;
    notice_written(&starting->notice);
}

static enum rc read_mode(yyjson_val *body, enum mode *mode, struct err *err)
{
    struct str text = json_get_text(body, "mode");
    *mode = str_eq(text, STR("stream"))  ? MODE_STREAM
            : str_eq(text, STR("async")) ? MODE_ASYNC
                                         : MODE_WAIT;
    if (!text.n || *mode != MODE_WAIT || str_eq(text, STR("wait")))
        return RC_OK;
    return err_set_field(err, ERR_BAD_FIELD, "mode", "'mode' is wait, stream or async.");
}

/* Reads the request's body into a new `starting`; NULL: answered already. `version`: which, where
 * the body does not say it. */
static struct starting *starting_new(struct api_call *call, struct http_request *request,
                                     struct str *selector, struct str version)
{
    struct err err = {0};
    yyjson_doc *doc;
    struct starting *starting = xcalloc(1, sizeof(*starting));
    arena_init(&starting->arena, STARTING_BYTES_MAX);
    struct str text = request->body.n ? request->body : STR("{}");
    enum rc rc = json_read(arena_copy(&starting->arena, text), &starting->arena, &doc, &err);
    if (rc == RC_OK) {
        starting->body = yyjson_doc_get_root(doc);
        rc = read_mode(starting->body, &starting->mode, &err);
    }
    yyjson_val *which = yyjson_obj_get(starting->body, "version");
    *selector = which ? json_text(which) : arena_copy(&starting->arena, version);
    if (yyjson_is_int(which))
        *selector = arena_printf(&starting->arena, "%lld", (long long)yyjson_get_sint(which));
    starting->draft = str_eq(*selector, STR("draft"));
    if (rc == RC_OK && starting->draft)
        rc = principal_require(call->principal, PERMISSION_PIPELINE_WRITE, &err);
    if (rc != RC_OK) {
        api_respond_problem(request, &err);
        starting_free(starting);
        return NULL;
    }
    starting->services = call->services;
    starting->request = request;
    starting->loop = own_loop(call, request);
    starting->principal = *call->principal;
    starting->principal.name = arena_copy(&starting->arena, call->principal->name);
    return starting;
}

static void starting_go(struct starting *starting, struct str selector)
{
    starting->selector = selector;
    starting->request->user = starting;
    starting->request->gone = on_client_gone;
    if (yyjson_obj_get(starting->body, "webhook"))
        start_notified(starting);
    else
        find_plan(starting);
}

/* {"inputs", "mode", "version": number, label, "latest" or "draft", "session", "user", "webhook":
 * {"url", "secret"}} */
void api_runs_start(struct api_call *call, struct http_request *request)
{
    struct str selector;
    struct starting *starting = starting_new(call, request, &selector, STR_EMPTY);
    if (!starting)
        return;
    starting->pipeline = arena_copy(&starting->arena, call->params[0]);
    starting_go(starting, selector);
}

/* {"values": {"start": {…}, NODE: outputs, CONTAINER: {"item", "index"}}, "version": the draft
 * unless said, "mode"} */
void api_node_run(struct api_call *call, struct http_request *request)
{
    struct str selector;
    struct starting *starting = starting_new(call, request, &selector, STR("draft"));
    if (!starting)
        return;
    starting->pipeline = arena_copy(&starting->arena, call->params[0]);
    starting->only = arena_copy(&starting->arena, call->params[1]);
    starting_go(starting, selector);
}

/* ---- asking the loop of a run ---- */

struct asking {
    struct task task;
    struct work work;             /* reading the journal */
    struct http_request *request; /* NULL: the client left */
    struct api_call *call;        /* as long as the request */
    struct loop *home;
    struct worker_pool *workers;
    struct pipelines *pipelines;
    struct principal principal;
    struct run_index_row row;
    struct arena arena;
    void (*there)(struct asking *asking, struct run *run); /* on the run's loop; run may be NULL */
    void (*back)(struct asking *asking);                   /* on the request's */
    yyjson_val *body;
    struct str path, by;
    struct buf out;
    struct event_bus *bus;
    struct err err;
    uint64_t after;
    bool reads; /* an ended run will do: it is read from the journal */
};

static void asking_free(struct asking *asking)
{
    buf_fini(&asking->out);
    arena_fini(&asking->arena);
    free(asking);
}

static void asking_gone(struct http_request *request)
{
    struct asking *asking = request->user;
    asking->request = NULL;
}

static void ask_back(struct task *task)
{
    struct asking *asking = CONTAINER_OF(task, struct asking, task);
    if (asking->request) {
        asking->request->gone = NULL;
        asking->request->user = NULL;
        if (asking->err.code != ERR_NONE)
            api_respond_problem(asking->request, &asking->err);
        else
            asking->back(asking);
    } else if (asking->bus) {
        event_bus_unref(asking->bus);
    }
    asking_free(asking);
}

static void ask_journal(struct asking *asking);

static void ask_there(struct task *task)
{
    struct asking *asking = CONTAINER_OF(task, struct asking, task);
    struct pipeline_loop *loop = pipelines_loop(asking->pipelines, loop_index(loop_current()));
    struct run *run = loop ? pipeline_loop_find(loop, asking->row.head.id) : NULL;
    asking->task.run = ask_back;
    if (!run && asking->reads) { /* it has ended in the meantime */
        ask_journal(asking);
        return;
    }
    asking->there(asking, run);
    loop_post(asking->home, &asking->task);
}

/* NULL: answered already. */
static struct asking *ask_new(struct api_call *call, struct http_request *request, struct id id)
{
    struct asking *asking = xcalloc(1, sizeof(*asking));
    asking->call = call;
    arena_init(&asking->arena, RUN_BYTES_MAX);
    buf_init(&asking->out, RUN_BYTES_MAX);
    asking->request = request;
    asking->home = request->loop;
    asking->pipelines = call->services->pipelines;
    asking->workers = call->services->workers;
    asking->principal = *call->principal;
    if (run_index_get(pipelines_index(asking->pipelines), call->principal->project, id,
                      &asking->arena, &asking->row) == RC_OK)
        return asking;
    respond_error(request, ERR_NOT_FOUND, "There is no such run.");
    asking_free(asking);
    return NULL;
}

static struct asking *ask_run(struct api_call *call, struct http_request *request)
{
    struct id id;
    if (id_parse(call->params[0], "run", &id) == RC_OK)
        return ask_new(call, request, id);
    respond_error(request, ERR_NOT_FOUND, "This is not a run's id (run_…).");
    return NULL;
}

static void ask_send(struct asking *asking)
{
    struct pipeline_loop *loop = pipelines_loop(asking->pipelines, asking->row.loop);
    asking->request->user = asking;
    asking->request->gone = asking_gone;
    asking->task.run = loop ? ask_there : ask_back;
    if (!loop)
        err_set(&asking->err, ERR_CONFLICT, "The run has ended.");
    loop_post(loop ? pipeline_loop_loop(loop) : asking->home, &asking->task);
}

/* ---- one run ---- */

/* An ended run as the journal has it, or is about to. A worker. */
static void read_ended(struct work *work)
{
    struct asking *asking = CONTAINER_OF(work, struct asking, work);
    struct run_index_row row;
    struct str json = STR_EMPTY;
    void *block = NULL;
    enum rc rc = run_index_get(pipelines_index(asking->pipelines), asking->row.head.project,
                               asking->row.head.id, &asking->arena, &row);
    if (rc == RC_OK && row.loop >= 0) { /* handed over to the process that comes after this one */
        err_set(&asking->err, ERR_OVERLOADED, "The server is being upgraded: ask again.");
        return;
    }
    if (rc == RC_OK && row.json.n)
        json = row.json;
    else if (rc == RC_OK)
        rc = pipelines_read_run(asking->pipelines, row.location, &json, &block);
    if (rc != RC_OK || buf_append(&asking->out, json) != RC_OK)
        err_set(&asking->err, ERR_NOT_FOUND, "The run's record is not in the journal any more.");
    free(block);
}

static void read_done(struct work *work)
{
    ask_back(&CONTAINER_OF(work, struct asking, work)->task);
}

static void ask_journal(struct asking *asking)
{
    asking->work = (struct work){.home = asking->home, .work = read_ended, .done = read_done};
    if (worker_submit(asking->workers, &asking->work) == RC_OK)
        return;
    err_set(&asking->err, ERR_OVERLOADED, "The server has too much to do: try again soon.");
    loop_post(asking->home, &asking->task);
}

/* Where it is: on its loop, or in the journal. */
static void ask_state(struct asking *asking)
{
    asking->reads = true;
    asking->request->user = asking;
    asking->request->gone = asking_gone;
    asking->task.run = ask_back;
    if (asking->row.loop < 0)
        ask_journal(asking);
    else
        ask_send(asking);
}

static void answer_out(struct asking *asking) { respond_buf(asking->request, 200, &asking->out); }

static void get_there(struct asking *asking, struct run *run) { run_encode(run, &asking->out); }

void api_runs_get(struct api_call *call, struct http_request *request)
{
    struct asking *asking = ask_run(call, request);
    if (!asking)
        return;
    asking->there = get_there;
    asking->back = answer_out;
    ask_state(asking);
}

static void events_there(struct asking *asking, struct run *run)
{
    asking->bus = event_bus_ref(run_watch(run));
    run_encode(run, &asking->out);
}

static void events_back(struct asking *asking)
{
    struct http_request *request = asking->request;
    struct str json = buf_str(&asking->out);
    begin_stream(request, STR_EMPTY);
    if (asking->bus) {
        /* Who goes on from an event has what was before it. */
        watch_start(request, asking->principal.project, asking->bus, asking->after,
                    asking->after ? STR_EMPTY : json);
        return;
    }
    struct str text =
        arena_printf(request->arena, "event: run_finished\ndata: %.*s\n\n", STR_ARG(json));
    if (text.p)
        http_respond_write(request, text);
    http_respond_end(request);
}

void api_runs_events(struct api_call *call, struct http_request *request)
{
    struct asking *asking = ask_run(call, request);
    struct str last = http_header_get(&request->headers, STR("last-event-id"));
    if (!asking)
        return;
    asking->there = events_there;
    asking->back = events_back;
    if (last.n && str_to_u64(last, &asking->after) != RC_OK)
        asking->after = 0;
    ask_state(asking);
}

static void cancel_there(struct asking *asking, struct run *run)
{
    if (!run) {
        err_set(&asking->err, ERR_CONFLICT, "The run has ended.");
        return;
    }
    run_cancel(run, "cancelled by request");
    run_encode_result(run, &asking->out);
}

void api_runs_cancel(struct api_call *call, struct http_request *request)
{
    struct asking *asking = ask_run(call, request);
    if (!asking)
        return;
    asking->there = cancel_there;
    asking->back = answer_out;
    ask_send(asking);
}

/* ---- repeating ---- */

static void repeat(struct asking *asking, bool fork)
{
    struct http_request *request = asking->request;
    struct str version = STR("draft"), selector;
    yyjson_doc *doc;
    struct err err = {0};
    if (json_read(arena_copy(&asking->arena, buf_str(&asking->out)), &asking->arena, &doc, &err) !=
        RC_OK) {
        api_respond_problem(request, &err);
        return;
    }
    yyjson_val *of = yyjson_doc_get_root(doc);
    struct str status = json_get_text(of, "status");
    int64_t number = json_get_int(of, "version", 0);
    if (str_eq(status, STR("running")) || str_eq(status, STR("waiting"))) {
        respond_error(request, ERR_CONFLICT, "The run has not ended yet.");
        return;
    }
    if (!fork && str_eq(status, STR("succeeded"))) {
        respond_error(request, ERR_CONFLICT,
                      "The run has succeeded: nothing in it is to be retried.");
        return;
    }
    if (number)
        version = arena_printf(&asking->arena, "%lld", (long long)number);
    struct starting *starting = starting_new(asking->call, request, &selector, version);
    if (!starting)
        return;
    if (json_read(arena_copy(&starting->arena, buf_str(&asking->out)), &starting->arena, &doc,
                  &err) == RC_OK)
        starting->of = yyjson_doc_get_root(doc);
    if (!starting->of) {
        api_respond_problem(request, &err);
        starting_free(starting);
        return;
    }
    starting->fork = fork;
    starting->pipeline = json_get_text(starting->of, "pipeline");
    starting_go(starting, selector);
}

static void retry_back(struct asking *asking) { repeat(asking, false); }

static void fork_back(struct asking *asking) { repeat(asking, true); }

/* {"version": as the run's unless said, "mode"} */
void api_runs_retry(struct api_call *call, struct http_request *request)
{
    struct asking *asking = ask_run(call, request);
    if (!asking)
        return;
    asking->there = get_there;
    asking->back = retry_back;
    ask_state(asking);
}

/* {"from": path of a node, "values": {NODE: outputs, "start": inputs}, "version", "mode"} */
void api_runs_fork(struct api_call *call, struct http_request *request)
{
    struct asking *asking = ask_run(call, request);
    if (!asking)
        return;
    asking->there = get_there;
    asking->back = fork_back;
    ask_state(asking);
}

/* ---- answering what a run waits for ---- */

static void input_there(struct asking *asking, struct run *run)
{
    if (!run)
        err_set(&asking->err, ERR_CONFLICT, "The run has ended.");
    else if (run_answer_wait(run, asking->path, asking->body, asking->by, &asking->err) == RC_OK)
        run_encode_result(run, &asking->out);
}

static bool read_input(struct asking *asking, struct http_request *request)
{
    yyjson_doc *doc;
    struct str text = request->body.n ? request->body : STR("{}");
    if (json_read(arena_copy(&asking->arena, text), &asking->arena, &doc, &asking->err) == RC_OK) {
        asking->body = yyjson_doc_get_root(doc);
        return true;
    }
    api_respond_problem(request, &asking->err);
    asking_free(asking);
    return false;
}

/* {"path": …, "action": …, "values": {…}} */
void api_runs_input(struct api_call *call, struct http_request *request)
{
    struct asking *asking = ask_run(call, request);
    if (!asking || !read_input(asking, request))
        return;
    asking->there = input_there;
    asking->back = answer_out;
    asking->path = json_get_text(asking->body, "path");
    asking->by = arena_copy(&asking->arena, call->principal->name);
    ask_send(asking);
}

enum rc api_inbox_list(struct api_call *call)
{
    struct run_index_wait *waits;
    size_t count, limit;
    if (api_query_limit(call, &limit) != RC_OK)
        return RC_INVALID;
    run_index_waits(pipelines_index(call->services->pipelines), call->principal->project, limit,
                    call->arena, &waits, &count);
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++) {
        yyjson_doc *detail;
        if (!str_eq(waits[i].kind, STR("human")))
            continue;
        yyjson_mut_val *o = yyjson_mut_arr_add_obj(call->doc, items);
        api_put_id(call, o, "run", "run", waits[i].run);
        api_put_str(call, o, "pipeline", waits[i].pipeline);
        api_put_str(call, o, "path", waits[i].path);
        api_put_time(call, o, "since", waits[i].since_ns);
        api_put_time(call, o, "due_at", waits[i].due_ns);
        if (json_read(waits[i].detail, call->arena, &detail, NULL) == RC_OK)
            yyjson_mut_obj_add_val(call->doc, o, "form",
                                   yyjson_val_mut_copy(call->doc, yyjson_doc_get_root(detail)));
    }
    api_list_end(call, STR_EMPTY);
    return RC_OK;
}

/* ---- lists ---- */

static yyjson_mut_val *encode_row(struct api_call *call, const struct run_index_row *row)
{
    const struct run_head *head = &row->head;
    yyjson_mut_val *o = yyjson_mut_obj(call->doc);
    api_put_id(call, o, "id", "run", head->id);
    api_put_str(call, o, "pipeline", head->pipeline);
    if (head->version)
        yyjson_mut_obj_add_sint(call->doc, o, "version", head->version);
    else
        yyjson_mut_obj_add_null(call->doc, o, "version");
    yyjson_mut_obj_add_str(call->doc, o, "status", run_status_name((enum run_status)head->status));
    api_put_str(call, o, "trigger", head->trigger);
    api_put_time(call, o, "started_at", head->started_ns);
    api_put_time(call, o, "ended_at", head->ended_ns);
    api_put_ms(call, o, "duration_ms", head->ended_ns ? head->ended_ns - head->started_ns : -1);
    yyjson_mut_obj_add_uint(call->doc, o, "input_tokens", head->input_tokens);
    yyjson_mut_obj_add_uint(call->doc, o, "output_tokens", head->output_tokens);
    api_put_cost(call, o, "cost_usd", head->cost_pico);
    return o;
}

enum rc api_runs_list(struct api_call *call)
{
    struct str status_name = api_query(call, "status");
    enum run_status status = RUN_RUNNING;
    struct run_index_row *rows;
    size_t limit, count;
    int64_t before;
    if (api_query_limit(call, &limit) != RC_OK ||
        api_query_i64(call, "cursor", 0, &before) != RC_OK)
        return RC_INVALID;
    if (status_name.n && run_status_parse(status_name, &status) != RC_OK)
        return err_set_field(&call->err, ERR_BAD_FIELD, "status",
                             "'status' is running, waiting, succeeded, failed or cancelled.");
    run_index_list(pipelines_index(call->services->pipelines), call->principal->project,
                   api_query(call, "pipeline"), status_name.n ? (int)status : -1, (uint64_t)before,
                   limit, call->arena, &rows, &count);
    yyjson_mut_val *items = api_list_begin(call);
    for (size_t i = 0; i < count; i++)
        yyjson_mut_arr_append(items, encode_row(call, &rows[i]));
    api_list_end(call, count == limit ? arena_printf(call->arena, "%llu",
                                                     (unsigned long long)rows[count - 1].seq)
                                      : STR_EMPTY);
    return RC_OK;
}
