/* capstan serve: makes the parts in the order in which they need each other, runs the loops, and
 * takes everything apart in the opposite order. One `struct server` for the process; it is touched
 * by loop 0's thread only, but for what its parts share by their own rules. */
#include "api/api.h"
#include "app/backup.h"
#include "app/command.h"
#include "app/config.h"
#include "app/delivery.h"
#include "app/handover.h"
#include "app/loops.h"
#include "app/notify.h"
#include "base/clock.h"
#include "base/log.h"
#include "encoder/embedder.h"
#include "gateway/gateway.h"
#include "gateway/limit.h"
#include "govern/account.h"
#include "govern/control.h"
#include "io/sandbox.h"
#include "io/worker.h"
#include "job/job.h"
#include "knowledge/ask.h"
#include "model/models.h"
#include "pipeline/engine/pipeline.h"
#include "pipeline/triggers/triggers.h"
#include "store/db.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENT_WINDOW_BYTES (4 * 1024 * 1024)
#define WORKER_QUEUE_MAX   4096
#define TICK_NS            NS_PER_S
#define PUBLISH_NS         (60 * NS_PER_S)   /* sessions end, environment and files are read anew */
#define UPGRADE_GRACE_NS   (3600 * NS_PER_S) /* how long streams may go on after an upgrade */
#define PATH_BYTES_MAX     1024

struct server {
    struct config *config;
    struct config_overrides overrides;
    struct api_services services;
    struct secret_box *secrets;
    struct db *db;
    struct trace_store *trace;
    struct worker_pool *workers;
    struct event_bus *events;
    struct loops *loops;
    struct tls_context *tls;
    struct engines *engines;
    struct jobs *jobs;
    struct models *models;
    struct pipelines *pipelines;
    struct triggers *triggers;
    struct encoders *encoders;
    struct knowledge *knowledge;
    struct backup *backup;
    struct handover *handover; /* to the process that comes after this one */
    struct inheritance inheritance;
    struct delivery *delivery;
    struct receiver *receiver;
    struct work sandbox_test;
    struct work release;
    enum rc release_rc;
    struct err release_err;
    struct timer grace; /* a second stop, after an upgrade */
    struct first_start first_start;
    struct arena arena; /* of first_start */
    struct trace_options trace_options;
    char trace_directory[PATH_BYTES_MAX], model_directory[PATH_BYTES_MAX],
        engine_directory[PATH_BYTES_MAX];
    const char *prepare; /* a catalogue model to have ready, or NULL */
    struct watch signals;
    struct timer tick;
    int64_t publish_at_ns;
    struct work reload;
    bool reloading, stopping, handing_over;
    pthread_mutex_t reload_lock; /* one load of the file at a time; guards `applied` */
    struct applied applied;      /* what of the file is in force */
    struct err reload_err;
};

static const char *make_path(struct server *server, const char *name, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%.*s%s%s", STR_ARG(server->config->data), *name ? "/" : "",
             name);
    return out;
}

/* ---- the data folder ---- */

/* Makes the folders; from then on the data folder is an absolute path, because children get parts
 * of it. */
static enum rc make_folders(struct server *server, struct err *err)
{
    static const char *const names[] = {"trace", "model", "engine", "secret",
                                        "blob",  "index", "run"};
    char path[PATH_BYTES_MAX], *absolute;
    make_path(server, "", path);
    if ((mkdir(path, 0700) < 0 && errno != EEXIST) || !(absolute = realpath(path, NULL)))
        return err_set(err, ERR_INVALID, "cannot make the data folder %s: %s", path,
                       strerror(errno));
    server->config->data = arena_copy(&server->config->arena, str_from(absolute));
    free(absolute);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        make_path(server, names[i], path);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return err_set(err, ERR_INVALID, "cannot make the data folder %s: %s", path,
                           strerror(errno));
    }
    make_path(server, "model", server->model_directory);
    make_path(server, "engine", server->engine_directory);
    return RC_OK;
}

static enum rc prepare_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct server *server = arg;
    struct arena scratch;
    enum rc rc = account_ensure_project(txn, &server->arena, err);
    arena_init(&scratch, SNAPSHOT_BYTES_MAX);
    if (rc == RC_OK)
        rc = config_sync(txn, server->config, &server->applied, &scratch, err);
    arena_fini(&scratch);
    return rc;
}

static enum rc open_stores(struct server *server, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum rc rc = secret_box_open(make_path(server, "secret", path), &server->secrets, err);
    if (rc != RC_OK)
        return rc;
    const struct db_options db = {.path = make_path(server, "control.db", path),
                                  .secrets = server->secrets};
    rc = db_open(&db, &server->db, err);
    if (rc == RC_OK)
        rc = db_write_wait(server->db, prepare_write, server, err);
    if (rc == RC_OK)
        config_synced(server->config, &server->applied);
    if (rc == RC_OK)
        rc = control_start_publishing(server->db, err);
    if (rc != RC_OK)
        return rc;
    server->trace_options.directory = make_path(server, "trace", server->trace_directory);
    server->trace_options.durability = server->config->durability;
    rc = trace_open(&server->trace_options, &server->trace, err);
    if (rc == RC_OK)
        trace_set_retention(server->trace, (struct id){{0}}, server->config->retention_ns,
                            server->config->retention_bytes);
    return rc;
}

/* ---- parts ---- */

static void on_call_ended(void *arg, const struct call_record *record)
{
    struct server *server = arg;
    if (event_wanted(server->events, EVENT_CALL))
        api_publish_call(server->events, record);
}

static void on_engine_changed(void *arg, const struct engine_status *status)
{
    struct server *server = arg;
    char text[512];
    int n = snprintf(text, sizeof(text), "{\"name\":\"%.*s\",\"state\":\"%s\",\"memory\":%lld}",
                     STR_ARG(status->name), engine_state_name(status->state),
                     (long long)MAX(status->resident_bytes, 0));
    event_publish(server->events, (struct id){{0}}, EVENT_MODEL,
                  str_make(text, MIN((size_t)n, sizeof(text) - 1)));
}

/* Said at the start, before the first document or code node finds out. */
static void test_sandbox(struct work *work)
{
    const struct sandbox_report *report = sandbox_self_test();
    const char *documents = report->refused[SANDBOX_EXTRACTOR];
    const char *code = report->refused[SANDBOX_CODE];
    log_event(documents[0] || code[0] ? LOG_WARN : LOG_INFO, "sandbox_tested",
              LOG_BOOL("namespaces", report->namespaces), LOG_I64("landlock", report->landlock),
              LOG_Z("documents", documents[0] ? documents : "confined"),
              LOG_Z("code", code[0] ? code : "confined"));
}

static enum rc make_parts(struct server *server, struct err *err)
{
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const struct config *config = server->config;
    server->workers =
        worker_pool_new(config->workers ? config->workers : MAX(2 * cores, 4), WORKER_QUEUE_MAX);
    server->sandbox_test = (struct work){.work = test_sandbox};
    if (worker_submit(server->workers, &server->sandbox_test) != RC_OK)
        return err_set(err, ERR_INTERNAL, "the new worker pool takes no work");
    server->encoders = encoders_new(str_from(server->model_directory));
    embedder_register(server->encoders, server->workers);
    server->events = event_bus_new(EVENT_WINDOW_BYTES);
    int loops = config->loops ? config->loops : MAX(cores, 1);
    server->loops =
        loops_new(server->inheritance.taken ? server->inheritance.sockets.loops : loops);
    struct loop *first = loops_at(server->loops, 0);
    server->engines = engines_new(&(struct engines_options){
        .loop = first,
        .workers = server->workers,
        .directory = server->engine_directory,
        .server_path = config->engine_server.n ? config->engine_server.p : NULL,
    });
    engines_on_change(server->engines, on_engine_changed, server);
    server->jobs = jobs_new(first, server->db, server->events);
    if (config->tls_cert.n)
        server->tls = tls_server_new(config->tls_cert, config->tls_key, err);
    if (config->tls_cert.n && !server->tls)
        return err->rc;
    return gateway_init(
        &(struct gateway_options){
            .trace = server->trace,
            .engines = server->engines,
            .workers = server->workers,
            .durability_sync = config->durability == TRACE_SYNC,
            .cache_bytes_max = config->cache_bytes_max,
            .ended = on_call_ended,
            .arg = server,
        },
        err);
}

static enum rc open_knowledge(struct server *server, struct err *err)
{
    char index_folder[PATH_BYTES_MAX], blob_folder[PATH_BYTES_MAX], work_folder[PATH_BYTES_MAX];
    return knowledge_new(
        &(struct knowledge_options){
            .loop = loops_at(server->loops, 0),
            .workers = server->workers,
            .db = server->db,
            .jobs = server->jobs,
            .events = server->events,
            .encoders = server->encoders,
            .index_folder = make_path(server, "index", index_folder),
            .blob_folder = make_path(server, "blob", blob_folder),
            .work_folder = make_path(server, "work", work_folder),
            .allowed_hosts = server->config->source_allow,
            .allowed_host_count = server->config->source_allow_count,
            .source_directories = server->config->source_directories,
            .source_directory_count = server->config->source_directory_count,
        },
        &server->knowledge, err);
}

static enum rc open_pipelines(struct server *server, struct err *err)
{
    char folder[PATH_BYTES_MAX];
    enum rc rc = pipelines_open(
        &(struct pipelines_options){
            .db = server->db,
            .workers = server->workers,
            .events = server->events,
            .knowledge = server->knowledge,
            .node = server->config->node_program,
            .python = server->config->python_program,
            .code_children = server->config->code_children,
            .directory = make_path(server, "run", folder),
            .allowed_hosts = server->config->http_allow,
            .allowed_host_count = server->config->http_allow_count,
            .limits = {.runs_max = server->config->runs_max,
                       .project_runs_max = server->config->project_runs_max,
                       .queue_max = server->config->run_queue_max},
            .mcp_servers = server->config->mcp_servers,
            .mcp_server_count = server->config->mcp_server_count,
            .services = server->config->services,
        },
        &server->pipelines, err);
    if (rc != RC_OK)
        return rc;
    pipelines_register_model(server->pipelines);
    server->triggers = triggers_new(&(struct triggers_options){
        .loop = loops_at(server->loops, 0),
        .db = server->db,
        .jobs = server->jobs,
        .pipelines = server->pipelines,
        .workers = server->workers,
        .secrets = server->secrets,
    });
    return RC_OK;
}

/* An address as it was bound, as a URL. */
static void format_address(const struct server *server, size_t index, char out[PATH_BYTES_MAX])
{
    const struct address *address = &server->config->addresses[index];
    bool v6 = str_find_char(address->host, ':') >= 0;
    if (address->kind == ADDRESS_UNIX)
        snprintf(out, PATH_BYTES_MAX, "unix:%.*s", STR_ARG(address->host));
    else
        snprintf(out, PATH_BYTES_MAX, "%s://%s%.*s%s:%u", server->tls ? "https" : "http",
                 v6 ? "[" : "", STR_ARG(address->host.n ? address->host : STR("127.0.0.1")),
                 v6 ? "]" : "", loops_port(server->loops, index));
}

static void tell_addresses(struct server *server)
{
    char text[PATH_BYTES_MAX];
    struct api_services *services = &server->services;
    for (size_t i = 0; i < server->config->address_count && i < COUNT_OF(services->addresses);
         i++) {
        format_address(server, i, text);
        services->addresses[services->address_count++] = arena_copy(&server->arena, str_from(text));
    }
}

static enum rc server_reload(struct api_services *services, struct err *err);
static enum rc server_upgrade(struct api_services *services, struct err *err);

static enum rc open_loops(struct server *server, struct err *err)
{
    if (open_knowledge(server, err) != RC_OK)
        return err->rc;
    knowledge_register_model(server->knowledge);
    if (open_pipelines(server, err) != RC_OK)
        return err->rc;
    server->services = (struct api_services){
        .db = server->db,
        .trace = server->trace,
        .engines = server->engines,
        .jobs = server->jobs,
        .workers = server->workers,
        .events = server->events,
        .knowledge = server->knowledge,
        .pipelines = server->pipelines,
        .triggers = server->triggers,
        .started_wall_ns = clock_wall_ns(),
        .loops = loops_count(server->loops),
        .data_directory = server->config->data,
        .config_path = server->config->path,
        .reload = server_reload,
        .upgrade = server_upgrade,
    };
    enum rc rc = loops_open(
        server->loops,
        &(struct loops_options){
            .addresses = server->config->addresses,
            .address_count = server->config->address_count,
            .inherited_fds = server->inheritance.taken ? server->inheritance.sockets.fds : NULL,
            .tls = server->tls,
            .services = &server->services,
        },
        err);
    if (rc != RC_OK)
        return rc;
    server->models = models_new(&(struct models_options){
        .loop = loops_at(server->loops, 0),
        .workers = server->workers,
        .db = server->db,
        .jobs = server->jobs,
        .engines = server->engines,
        .model_directory = server->model_directory,
        .engine_directory = server->engine_directory,
    });
    server->services.models = server->models;
    server->backup = backup_new(&(struct backup_options){
        .jobs = server->jobs,
        .loop = loops_at(server->loops, 0),
        .workers = server->workers,
        .db = server->db,
        .data_directory = server->config->data.p,
    });
    tell_addresses(server);
    knowledge_attach(server->knowledge, loops_client(server->loops, 0),
                     loops_gateway(server->loops, 0));
    rc = knowledge_recover(server->knowledge, err);
    if (rc != RC_OK)
        return rc;
    jobs_begin(server->jobs);
    pipelines_begin(server->pipelines);
    triggers_begin(server->triggers);
    return RC_OK;
}

/* ---- reload ---- */

struct syncing {
    const struct config *config;
    const struct applied *applied;
};

static enum rc write_config(void *arg, struct db_txn *txn, struct err *err)
{
    struct syncing *syncing = arg;
    struct arena scratch;
    arena_init(&scratch, SNAPSHOT_BYTES_MAX);
    enum rc rc = config_sync(txn, syncing->config, syncing->applied, &scratch, err);
    arena_fini(&scratch);
    return rc;
}

/* On a worker: the file's objects take effect, or nothing does. Its settings need a new start (or
 * an upgrade). */
static enum rc server_reload(struct api_services *services, struct err *err)
{
    struct server *server = CONTAINER_OF(services, struct server, services);
    struct config *config;
    pthread_mutex_lock(&server->reload_lock);
    enum rc rc =
        config_load(server->config->path, &server->overrides, &server->applied, &config, err);
    if (rc == RC_OK) {
        struct syncing syncing = {config, &server->applied};
        rc = db_write_wait(server->db, write_config, &syncing, err);
        if (rc == RC_OK)
            config_synced(config, &server->applied);
        config_free(config);
    }
    pthread_mutex_unlock(&server->reload_lock);
    return rc;
}

static void reload_run(struct work *work)
{
    struct server *server = CONTAINER_OF(work, struct server, reload);
    server->reload_err = (struct err){0};
    enum rc rc = server_reload(&server->services, &server->reload_err);
    malloc_trim(0);
    if (rc == RC_OK)
        log_event(LOG_INFO, "configuration_reloaded", LOG_STR("file", server->config->path));
    else
        log_event(LOG_ERROR, "configuration_refused", LOG_Z("error", server->reload_err.message),
                  LOG_Z("effect", "the one before stays in force"));
}

static void reload_done(struct work *work)
{
    CONTAINER_OF(work, struct server, reload)->reloading = false;
    notify_send(STR("READY=1"));
}

static void start_reload(struct server *server)
{
    if (server->reloading)
        return;
    notify_send(STR("RELOADING=1"));
    server->reloading = true;
    server->reload =
        (struct work){.home = loops_at(server->loops, 0), .work = reload_run, .done = reload_done};
    if (worker_submit(server->workers, &server->reload) != RC_OK)
        server->reloading = false;
}

/* ---- stopping ---- */

static void on_forwarded(void *arg)
{
    struct server *server = arg;
    loops_stop(server->loops);
}

/* After an upgrade the last records are still on their way. */
static void on_engines_stopped(void *arg)
{
    struct server *server = arg;
    if (server->handing_over)
        delivery_finish(server->delivery, on_forwarded, server);
    else
        loops_stop(server->loops);
}

static void on_models_stopped(void *arg)
{
    struct server *server = arg;
    engines_stop(server->engines, on_engines_stopped, server);
}

static void on_drained(void *arg)
{
    struct server *server = arg;
    if (server->handing_over)
        engines_stop(server->engines, on_engines_stopped, server);
    else
        models_stop(server->models, on_models_stopped, server);
}

static void start_stopping(struct server *server)
{
    if (server->stopping) { /* the second signal: now */
        loops_stop(server->loops);
        return;
    }
    server->stopping = true;
    if (server->handing_over) { /* what is left are streams; they get as long as at any stop */
        timer_start(loops_at(server->loops, 0), &server->grace, server->config->drain_ns);
        return;
    }
    log_event(LOG_INFO, "server_stopping", LOG_I64("grace_s", server->config->drain_ns / NS_PER_S));
    notify_send(STR("STOPPING=1"));
    timer_stop(&server->tick);
    triggers_stop(server->triggers);
    jobs_stop(server->jobs);
    knowledge_stop(server->knowledge);
    loops_drain(server->loops, server->config->drain_ns, on_drained, server);
}

static void on_grace_over(struct timer *timer)
{
    loops_stop(CONTAINER_OF(timer, struct server, grace)->loops);
}

/* ---- upgrade (handover.h) ---- */

static void release_run(struct work *work)
{
    struct server *server = CONTAINER_OF(work, struct server, release);
    knowledge_release(server->knowledge);
    pipelines_release(server->pipelines);
    db_release(server->db);
    server->release_rc =
        trace_release(server->trace, delivery_submit, server->delivery, &server->release_err);
}

static void release_done(struct work *work)
{
    struct server *server = CONTAINER_OF(work, struct server, release);
    if (server->release_rc == RC_OK) {
        handover_released(server->handover);
        return;
    }
    /* A full disk, most likely. The end of this process is what the successor waits for, too. */
    log_event(LOG_ERROR, "upgrade_broke_streams", LOG_Z("error", server->release_err.message));
    loops_stop(server->loops);
}

static void on_models_released(void *arg)
{
    struct server *server = arg;
    server->release = (struct work){
        .home = loops_at(server->loops, 0), .work = release_run, .done = release_done};
    if (worker_submit(server->workers, &server->release) != RC_OK)
        loops_stop(server->loops);
}

/* The successor is ready to take over: no new requests here, and no changes to what is stored. */
static void on_release(void *arg)
{
    struct server *server = arg;
    server->handing_over = true;
    timer_stop(&server->tick);
    triggers_stop(server->triggers);
    jobs_stop(server->jobs);
    knowledge_stop(server->knowledge);
    receiver_stop(server->receiver);
    loops_drain(server->loops, UPGRADE_GRACE_NS, on_drained, server);
    models_stop(server->models, on_models_released, server);
}

static void on_succeeded(void *arg, pid_t successor)
{
    struct server *server = arg;
    char state[64];
    int n = snprintf(state, sizeof(state), "MAINPID=%d", successor);
    notify_send(str_make(state, (size_t)n));
    log_event(LOG_INFO, "server_handed_over", LOG_I64("successor", successor));
    delivery_begin(server->delivery);
}

static enum rc start_upgrade(struct server *server, struct err *err)
{
    struct handover_sockets sockets = {.loops = loops_count(server->loops),
                                       .address_count = server->config->address_count};
    if (server->stopping || server->handing_over)
        return err_set(err, ERR_CONFLICT, "this process is ending already");
    if ((size_t)sockets.loops * sockets.address_count > COUNT_OF(sockets.fds))
        return err_set(err, ERR_UNSUPPORTED, "too many listening sockets for an upgrade: restart");
    loops_listener_fds(server->loops, sockets.fds);
    return handover_start(server->handover, &sockets, server->config->addresses, err);
}

/* A worker's request, run on loop 0. */
struct upgrade_request {
    struct task task;
    struct server *server;
    struct err *err;
    enum rc rc;
    bool done;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
};

static void upgrade_request_run(struct task *task)
{
    struct upgrade_request *request = CONTAINER_OF(task, struct upgrade_request, task);
    enum rc rc = start_upgrade(request->server, request->err);
    pthread_mutex_lock(&request->mutex);
    request->rc = rc;
    request->done = true;
    pthread_cond_signal(&request->ended);
    pthread_mutex_unlock(&request->mutex);
}

static enum rc server_upgrade(struct api_services *services, struct err *err)
{
    struct server *server = CONTAINER_OF(services, struct server, services);
    struct upgrade_request request = {.task.run = upgrade_request_run,
                                      .server = server,
                                      .err = err,
                                      .mutex = PTHREAD_MUTEX_INITIALIZER,
                                      .ended = PTHREAD_COND_INITIALIZER};
    loop_post(loops_at(server->loops, 0), &request.task);
    pthread_mutex_lock(&request.mutex);
    while (!request.done)
        pthread_cond_wait(&request.ended, &request.mutex);
    pthread_mutex_unlock(&request.mutex);
    return request.rc;
}

static void upgrade_by_signal(struct server *server)
{
    struct err err = {0};
    if (start_upgrade(server, &err) != RC_OK)
        log_event(LOG_ERROR, "upgrade_refused", LOG_Z("error", err.message));
}

/* Both ends of an upgrade: records of the process before, and the one that comes after. */
static void open_handover(struct server *server)
{
    struct loop *loop = loops_at(server->loops, 0);
    struct err err = {0};
    server->delivery =
        delivery_new(loop, server->workers, server->config->data.p, &server->trace_options);
    server->receiver =
        receiver_new(loop, server->workers, server->config->data.p, server->trace, &err);
    if (!server->receiver)
        log_event(LOG_WARN, "upgrade_socket_failed", LOG_Z("error", err.message),
                  LOG_Z("effect", "records of streams that outlive an upgrade come late"));
    const struct handover_owner owner = {
        .release = on_release, .succeeded = on_succeeded, .arg = server};
    server->handover = handover_new(loop, &owner);
    timer_init(&server->grace, on_grace_over);
}

/* ---- signals and the clock ---- */

static void on_signal(struct watch *watch, unsigned events)
{
    struct server *server = CONTAINER_OF(watch, struct server, signals);
    struct signalfd_siginfo info;
    UNUSED(events);
    while (read(watch->fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGHUP)
            start_reload(server);
        else if (info.ssi_signo == SIGUSR2)
            upgrade_by_signal(server);
        else
            start_stopping(server);
    }
}

/* Signals come as events of loop 0; blocked before any thread is made, so that all inherit the
 * mask. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

static enum rc watch_signals(struct server *server, const sigset_t *set, struct err *err)
{
    server->signals.fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    server->signals.ready = on_signal;
    if (server->signals.fd < 0)
        return err_set(err, ERR_INTERNAL, "signalfd: %s", strerror(errno));
    return loop_watch(loops_at(server->loops, 0), &server->signals, LOOP_READ);
}

static void on_tick(struct timer *timer)
{
    struct server *server = CONTAINER_OF(timer, struct server, tick);
    struct loop *loop = loops_at(server->loops, 0);
    limit_tick(loop_wall_ns(loop));
    if (loop_now_ns(loop) >= server->publish_at_ns) {
        server->publish_at_ns = loop_now_ns(loop) + PUBLISH_NS;
        control_publish_soon(server->db);
        encoders_close_unused(server->encoders);
    }
    timer_start(loop, timer, TICK_NS);
}

/* ---- start ---- */

static enum rc prepare_model(void *arg, struct db_txn *txn, struct err *err)
{
    struct server *server = arg;
    struct id project;
    enum rc rc = project_find(txn, STR("default"), &project, err);
    return rc == RC_OK
               ? models_prepare(server->models, txn, project, str_from(server->prepare), err)
               : rc;
}

static enum rc first_write(void *arg, struct db_txn *txn, struct err *err)
{
    struct server *server = arg;
    return account_first_start(txn, &server->arena, &server->first_start, err);
}

static void announce(const struct server *server)
{
    char base[PATH_BYTES_MAX];
    format_address(server, 0, base);
    const struct str url =
        server->config->public_url.n ? server->config->public_url : str_from(base);
    if (server->first_start.is_first) {
        printf("console:   %.*s/#setup=%s\n           (this link opens once and makes you the "
               "owner)\n",
               STR_ARG(url), server->first_start.token);
        printf("first key: %.*s\n           (shown this once: keep it)\n",
               STR_ARG(server->first_start.key));
    } else {
        printf("console:   %.*s/\n", STR_ARG(url));
    }
    for (size_t i = 0; i < server->config->address_count; i++) {
        format_address(server, i, base);
        printf("address:   %s\n", base);
    }
    fflush(stdout);
    log_event(LOG_INFO, "server_started", LOG_Z("version", CAPSTAN_VERSION), LOG_Z("address", base),
              LOG_I64("loops", loops_count(server->loops)), LOG_STR("data", server->config->data));
    notify_send(STR("READY=1\nSTATUS=serving"));
}

static enum rc server_start(struct server *server, struct str config_path, const sigset_t *signals,
                            struct err *err)
{
    enum rc rc = config_load(config_path, &server->overrides, NULL, &server->config, err);
    if (rc == RC_OK)
        rc = make_folders(server, err);
    if (rc == RC_OK)
        rc = inheritance_take(&server->inheritance, server->config->addresses,
                              server->config->address_count, err);
    if (rc == RC_OK)
        rc = open_stores(server, err);
    if (rc == RC_OK)
        rc = make_parts(server, err);
    if (rc == RC_OK)
        rc = open_loops(server, err);
    if (rc == RC_OK)
        rc = watch_signals(server, signals, err);
    if (rc == RC_OK && server->prepare)
        rc = db_write_wait(server->db, prepare_model, server, err);
    if (rc == RC_OK) /* last: a start that fails must not lose the first key */
        rc = db_write_wait(server->db, first_write, server, err);
    if (rc != RC_OK)
        return rc;
    open_handover(server);
    timer_init(&server->tick, on_tick);
    timer_start(loops_at(server->loops, 0), &server->tick, TICK_NS);
    return RC_OK;
}

/* Threads end first, then the loops run what those posted last, then everything is freed. */
static void server_stop(struct server *server)
{
    if (server->knowledge)
        knowledge_join(server->knowledge);
    worker_pool_free(server->workers);
    db_close(server->db);
    if (server->pipelines)
        pipelines_settle(server->pipelines);
    loops_settle(server->loops);
    models_free(server->models);
    backup_free(server->backup);
    knowledge_free(server->knowledge);
    encoders_free(server->encoders);
    triggers_free(server->triggers);
    jobs_free(server->jobs);
    handover_free(server->handover);
    delivery_free(server->delivery);
    receiver_free(server->receiver);
    timer_stop(&server->grace);
    loops_close(server->loops);    /* calls that it ends give back their engines; */
    engines_free(server->engines); /* which have timers of their own on a loop */
    loops_free(server->loops);
    pipelines_close(server->pipelines);
    gateway_fini();
    trace_close(server->trace);
    event_bus_free(server->events);
    secret_box_free(server->secrets);
    if (server->tls)
        tls_unref(server->tls);
    config_free(server->config);
    applied_fini(&server->applied);
    pthread_mutex_destroy(&server->reload_lock);
    arena_fini(&server->arena);
    log_event(LOG_INFO, "server_stopped");
}

static void raise_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            log_event(LOG_WARN, "open_files_limited", LOG_I64("limit", (int64_t)limit.rlim_cur));
    }
}

static struct str option_or_environment(const char *value, const char *variable)
{
    return str_from(value ? value : getenv(variable));
}

int command_serve(int argc, char **argv)
{
    const char *config = NULL, *data = NULL, *listen = NULL, *prepare = NULL;
    const struct option_spec specs[] = {{"config", .value = &config},
                                        {"data", .value = &data},
                                        {"listen", .value = &listen},
                                        {"prepare", .value = &prepare}};
    static struct server server;
    struct err err = {0};
    sigset_t signals;
    if (!command_parse_options("serve", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc > 1)
        return command_usage_error("serve", "'%s' is not understood here", argv[1]);
    server.overrides = (struct config_overrides){option_or_environment(data, "CAPSTAN_DATA"),
                                                 option_or_environment(listen, "CAPSTAN_LISTEN")};
    server.prepare = prepare;
    pthread_mutex_init(&server.reload_lock, NULL);
    applied_init(&server.applied);
    arena_init(&server.arena, 1024 * 1024);
    /* Large blocks always go back to the system (a configuration is read into some); the end of a
     * heap only when it is large, since that costs new pages with each burst. */
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
    block_signals(&signals);
    raise_open_files();
    if (server_start(&server, option_or_environment(config, "CAPSTAN_CONFIG"), &signals, &err) !=
        RC_OK) {
        fprintf(stderr, "capstan serve: %s\n", err.message);
        return EXIT_FAILED;
    }
    announce(&server);
    inheritance_ready(&server.inheritance);
    malloc_trim(0); /* an idle server need not keep what starting took */
    loops_run(server.loops);
    server_stop(&server);
    return EXIT_OK;
}

int command_check(int argc, char **argv)
{
    const char *path = NULL;
    const struct option_spec specs[] = {{"config", .value = &path}};
    const struct config_overrides none = {0};
    struct config *config;
    struct err err = {0};
    if (!command_parse_options("check", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (argc > 1)
        path = argv[1];
    struct str file = option_or_environment(path, "CAPSTAN_CONFIG");
    if (config_load(file, &none, NULL, &config, &err) != RC_OK) {
        fprintf(stderr, "%s\n", err.message);
        return EXIT_FAILED;
    }
    if (config->path.n)
        printf("%.*s: ok\n", STR_ARG(config->path));
    else
        printf("there is no capstan.yaml here; the defaults are in force\n");
    config_free(config);
    return EXIT_OK;
}
