/* The supervisor: all engines, what other threads ask of it, and what they may see. Calls from
 * other loops become tasks on the supervisor's loop, and the answers tasks on theirs; nothing is
 * shared but the board, copies of the engines' states under a lock that the serving loops never
 * take. */
#include "model/engine_private.h"
#include "base/log.h"
#include <errno.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPEC_BYTES_MAX    (64 * 1024)
#define SOCKET_NAME_BYTES 16 /* "/89abcdef.sock" and a NUL */

enum message_kind {
    MESSAGE_DEFINE,
    MESSAGE_REMOVE,
    MESSAGE_START,
    MESSAGE_END,
    MESSAGE_FIND_PROGRAM
};

struct engines_message {
    struct task task;
    struct engines *engines;
    enum message_kind kind;
    char *key;
    struct arena *arena; /* DEFINE: holds the spec's texts */
    struct engine_spec spec;
};

const char *engine_state_name(enum engine_state state)
{
    static const char *const names[] = {
#define ENGINE_STATE(name, text) text,
#include "model/engine_states.h"
#undef ENGINE_STATE
    };
    ASSERT(state < COUNT_OF(names));
    return names[state];
}

size_t engine_key_format(struct id project, bool is_command, struct str name,
                         char out[ENGINE_KEY_TEXT_BYTES_MAX])
{
    char id[ID_TEXT_BYTES_MAX];
    id_format(project, "prj", id);
    int n = snprintf(out, ENGINE_KEY_TEXT_BYTES_MAX, "%s/%s/%.*s", id,
                     is_command ? "command" : "model", STR_ARG(name));
    return (size_t)MIN(n, ENGINE_KEY_TEXT_BYTES_MAX - 1);
}

static struct engine *engine_find(struct engines *engines, struct str key)
{
    LIST_FOR_EACH (engine, &engines->list, struct engine, node)
        if (str_eq(engine->spec.key, key))
            return engine;
    return NULL;
}

/* ---- the board ---- */

static void describe(const struct engine *engine, struct engine_status *out)
{
    const struct published *seen = &engine->published;
    *out = (struct engine_status){
        .key = engine->spec.key,
        .name = engine->spec.name,
        .state = seen->state,
        .error = str_from(seen->error),
        .url = str_from(seen->url),
        .resident_bytes = seen->resident_bytes,
        .ready_wall_ns = seen->ready_wall_ns,
        .used_wall_ns = seen->used_wall_ns,
        .leases = seen->leases,
        .restarts = seen->restarts,
        .pid = seen->pid,
        .is_llama = engine->spec.command_count == 0,
    };
}

void engine_publish(struct engine *engine)
{
    struct engines *owner = engine->owner;
    struct published *seen = &engine->published;
    bool moved = seen->state != engine->state;
    pthread_mutex_lock(&owner->board_lock);
    seen->state = engine->state;
    snprintf(seen->error, sizeof(seen->error), "%s", engine->error);
    snprintf(seen->url, sizeof(seen->url), "%s", engine->child ? engine->endpoint.url : "");
    seen->resident_bytes = engine->child ? child_resident_bytes(engine->child) : -1;
    seen->pid = engine->child ? child_pid(engine->child) : 0;
    seen->ready_wall_ns = engine->state == ENGINE_READY ? engine->ready_wall_ns : 0;
    seen->used_wall_ns = engine->used_wall_ns;
    seen->leases = engine->leases;
    seen->restarts = engine->restarts;
    pthread_mutex_unlock(&owner->board_lock);
    if (moved && owner->changed) {
        struct engine_status status;
        describe(engine, &status);
        owner->changed(owner->changed_arg, &status);
    }
}

/* The texts live on the board's side of the lock: copies. False: past the arena's cap. */
static bool copy_status(struct engine_status *status, struct arena *arena)
{
    struct str *texts[] = {&status->key, &status->name, &status->error, &status->url};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        *texts[i] = arena_copy(arena, *texts[i]);
        if (!texts[i]->p)
            return false;
    }
    return true;
}

static int compare_status(const void *a, const void *b)
{
    return str_cmp(((const struct engine_status *)a)->name,
                   ((const struct engine_status *)b)->name);
}

size_t engines_list(struct engines *engines, struct arena *arena, const struct engine_status **out)
{
    size_t count = 0, max = 0;
    pthread_mutex_lock(&engines->board_lock);
    LIST_FOR_EACH (engine, &engines->list, struct engine, node)
        max++;
    struct engine_status *list = ARENA_NEW_ARRAY(arena, struct engine_status, MAX(max, 1));
    if (list)
        LIST_FOR_EACH (engine, &engines->list, struct engine, node) {
            describe(engine, &list[count]);
            if (!copy_status(&list[count], arena))
                break;
            count++;
        }
    pthread_mutex_unlock(&engines->board_lock);
    if (count)
        qsort(list, count, sizeof(*list), compare_status);
    *out = list;
    return count;
}

bool engines_get(struct engines *engines, struct str key, struct arena *arena,
                 struct engine_status *out)
{
    pthread_mutex_lock(&engines->board_lock);
    struct engine *engine = engine_find(engines, key);
    bool ok = engine != NULL;
    if (ok) {
        describe(engine, out);
        ok = copy_status(out, arena);
    }
    pthread_mutex_unlock(&engines->board_lock);
    return ok;
}

void engines_program(struct engines *engines, struct engine_program *out)
{
    pthread_mutex_lock(&engines->board_lock);
    *out = engines->program_published;
    pthread_mutex_unlock(&engines->board_lock);
}

void engines_on_change(struct engines *engines,
                       void (*changed)(void *arg, const struct engine_status *), void *arg)
{
    engines->changed = changed;
    engines->changed_arg = arg;
}

/* ---- coming to rest ---- */

static bool at_rest(const struct engine *engine) { return !engine->child && !engine->check; }

static void finish_stop(struct engines *engines)
{
    if (!engines->stopping || !engines->stopped || engines->search)
        return;
    LIST_FOR_EACH (engine, &engines->list, struct engine, node)
        if (!at_rest(engine))
            return;
    void (*stopped)(void *arg) = engines->stopped;
    engines->stopped = NULL;
    rmdir(engines->run_directory);
    stopped(engines->stopped_arg);
}

static void engine_free(struct engine *engine)
{
    pthread_mutex_lock(&engine->owner->board_lock);
    list_remove(&engine->node);
    pthread_mutex_unlock(&engine->owner->board_lock);
    timer_stop(&engine->timer);
    arena_fini(&engine->arena);
    if (engine->next_arena) {
        arena_fini(engine->next_arena);
        free(engine->next_arena);
    }
    engine->magic = 0;
    free(engine);
}

void engine_rested(struct engine *engine)
{
    struct engines *engines = engine->owner;
    if (engine->remove && engine->state == ENGINE_STOPPED && engine->references == 0)
        engine_free(engine);
    finish_stop(engines);
}

void engine_take_spec(struct engine *engine)
{
    pthread_mutex_lock(&engine->owner->board_lock);
    arena_fini(&engine->arena);
    engine->arena = *engine->next_arena;
    engine->spec = engine->next_spec;
    pthread_mutex_unlock(&engine->owner->board_lock);
    free(engine->next_arena);
    engine->next_arena = NULL;
}

/* ---- which llama-server ---- */

static void program_found(void *arg, const struct found_program *program)
{
    struct engines *engines = arg;
    engines->search = NULL;
    engines->program = *program;
    engines->program_known = true;
    pthread_mutex_lock(&engines->board_lock);
    engines->program_published = program->is;
    pthread_mutex_unlock(&engines->board_lock);
    if (program->is.path[0])
        log_event(LOG_INFO, "engine_program_found", LOG_Z("path", program->is.path),
                  LOG_Z("origin", program->is.origin), LOG_Z("version", program->is.version));
    if (engines->stopping) {
        finish_stop(engines);
        return;
    }
    LIST_FOR_EACH_SAFE (engine, &engines->list, struct engine, node)
        engine_program_changed(engine);
}

static void find_program(struct engines *engines)
{
    if (engines->search || engines->stopping)
        return;
    engines->program_known = false; /* who wants to start waits for what is found now */
    LIST_FOR_EACH_SAFE (engine, &engines->list, struct engine, node)
        engine_program_changed(engine);
    engines->search = program_search_start(engines->loop, engines->server_path, engines->directory,
                                           program_found, engines);
}

/* ---- messages to the supervisor ---- */

static bool strs_equal(const struct str *a, const struct str *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!str_eq(a[i], b[i]))
            return false;
    return true;
}

/* What a running engine was started with. Size and time of the file are not compared: a check that
 * found a touched file unchanged has updated them. */
static bool spec_equal(const struct engine_spec *a, const struct engine_spec *b)
{
    return str_eq(a->key, b->key) && str_eq(a->name, b->name) &&
           str_eq(a->model_file, b->model_file) && str_eq(a->sha256, b->sha256) &&
           str_eq(a->pooling, b->pooling) && a->context_tokens == b->context_tokens &&
           a->slots == b->slots && a->threads == b->threads && a->idle_stop_ns == b->idle_stop_ns &&
           a->health_timeout_ns == b->health_timeout_ns &&
           a->resident_bytes_max == b->resident_bytes_max &&
           a->template_has_tools == b->template_has_tools && a->command_count == b->command_count &&
           strs_equal(a->command, b->command, a->command_count) &&
           str_eq(a->base_url, b->base_url) && str_eq(a->health_path, b->health_path) &&
           str_eq(a->api_key, b->api_key);
}

/* The message's arena becomes the engine's. */
static void define(struct engines *engines, struct engines_message *message)
{
    struct engine *engine = engine_find(engines, message->spec.key);
    if (!engine) {
        engine = xcalloc(1, sizeof(*engine));
        engine_init(engine, engines);
        engine->published.resident_bytes = -1;
        engine->arena = *message->arena;
        engine->spec = message->spec;
        free(message->arena);
        message->arena = NULL;
        pthread_mutex_lock(&engines->board_lock);
        list_push_back(&engines->list, &engine->node);
        pthread_mutex_unlock(&engines->board_lock);
        return;
    }
    engine->remove = false;
    const struct engine_spec *newest = engine->next_arena ? &engine->next_spec : &engine->spec;
    if (spec_equal(newest, &message->spec))
        return;
    if (engine->next_arena) {
        arena_fini(engine->next_arena);
        free(engine->next_arena);
    }
    engine->next_arena = message->arena;
    engine->next_spec = message->spec;
    message->arena = NULL;
    engine_spec_changed(engine);
}

static void message_arrived(struct task *task)
{
    struct engines_message *message = CONTAINER_OF(task, struct engines_message, task);
    struct engines *engines = message->engines;
    struct engine *engine = message->key ? engine_find(engines, str_from(message->key)) : NULL;
    if (message->kind == MESSAGE_FIND_PROGRAM) {
        find_program(engines);
    } else if (message->kind == MESSAGE_DEFINE && !engines->stopping) {
        define(engines, message);
    } else if (engine && message->kind == MESSAGE_START && !engines->stopping) {
        engine_want(engine);
    } else if (engine && message->kind == MESSAGE_REMOVE) {
        engine->remove = true;
        engine_refuse_waiting(engine, ERR_MODEL_NOT_FOUND, "the model was removed");
        engine_stop(engine, "removed");
    } else if (engine && message->kind == MESSAGE_END) {
        engine_refuse_waiting(engine, ERR_ENGINE_FAILED, "the model was stopped");
        engine_stop(engine, "asked");
    }
    if (message->arena) {
        arena_fini(message->arena);
        free(message->arena);
    }
    free(message->key);
    free(message);
}

static struct engines_message *message_new(struct engines *engines, enum message_kind kind,
                                           struct str key)
{
    struct engines_message *message = xcalloc(1, sizeof(*message));
    message->task.run = message_arrived;
    message->engines = engines;
    message->kind = kind;
    if (key.p) {
        message->key = xmalloc(key.n + 1);
        memcpy(message->key, key.p, key.n);
        message->key[key.n] = 0;
    }
    return message;
}

/* At once when on the supervisor's loop, so that what is defined there can be acquired in the same
 * turn. */
static void deliver(struct engines_message *message)
{
    if (loop_current() == message->engines->loop)
        message_arrived(&message->task);
    else
        loop_post(message->engines->loop, &message->task);
}

static void send(struct engines *engines, enum message_kind kind, struct str key)
{
    deliver(message_new(engines, kind, key));
}

void engines_define(struct engines *engines, const struct engine_spec *spec)
{
    struct engines_message *message = message_new(engines, MESSAGE_DEFINE, STR_EMPTY);
    struct arena *arena = xcalloc(1, sizeof(*arena));
    arena_init(arena, SPEC_BYTES_MAX);
    struct engine_spec *copy = &message->spec;
    *copy = *spec;
    struct str *texts[] = {&copy->key,      &copy->name,        &copy->model_file, &copy->sha256,
                           &copy->base_url, &copy->health_path, &copy->api_key,    &copy->pooling};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = arena_copy(arena, *texts[i]);
    if (spec->command_count) {
        struct str *command = ARENA_NEW_ARRAY(arena, struct str, spec->command_count);
        ASSERT(command); /* configuration bounds names, paths and commands far below the cap */
        for (size_t i = 0; i < spec->command_count; i++)
            command[i] = arena_copy(arena, spec->command[i]);
        copy->command = command;
    }
    message->arena = arena;
    deliver(message);
}

void engines_remove(struct engines *engines, struct str key) { send(engines, MESSAGE_REMOVE, key); }

void engines_start(struct engines *engines, struct str key) { send(engines, MESSAGE_START, key); }

void engines_end(struct engines *engines, struct str key) { send(engines, MESSAGE_END, key); }

void engines_find_program(struct engines *engines)
{
    send(engines, MESSAGE_FIND_PROGRAM, STR_EMPTY);
}

/* ---- leases ---- */

static void release_arrived(struct task *task)
{
    struct engine_lease *lease = CONTAINER_OF(task, struct engine_lease, task);
    engine_return(lease->engine, lease->generation, lease->broken);
    free(lease);
}

void engine_release(struct engine_lease *lease, bool broken)
{
    lease->broken = broken;
    lease->task.run = release_arrived;
    loop_post(lease->engines->loop, &lease->task);
}

const struct engine_endpoint *engine_lease_endpoint(const struct engine_lease *lease)
{
    return &lease->endpoint;
}

static struct engine_lease *lease_new(struct engine *engine)
{
    struct engine_lease *lease = xcalloc(1, sizeof(*lease));
    lease->engines = engine->owner;
    lease->engine = engine;
    lease->generation = engine->generation;
    lease->texts = engine->endpoint;
    lease->endpoint = (struct engine_endpoint){
        .url = str_from(lease->texts.url),
        .api_key = str_from(lease->texts.api_key),
        .context_tokens = engine->spec.context_tokens,
        .slots = engine->spec.slots,
        .is_llama = engine->spec.command_count == 0,
        .template_has_tools = engine->spec.template_has_tools,
    };
    engine->leases++;
    engine->references++;
    engine->used_ns = loop_now_ns(engine->owner->loop);
    engine->used_wall_ns = loop_wall_ns(engine->owner->loop);
    engine_publish(engine);
    return lease;
}

/* On the loop that asked. */
static void request_answered(struct task *task)
{
    struct engine_request *request = CONTAINER_OF(task, struct engine_request, task);
    if (!request->cancelled)
        request->done(request->arg, request->lease, request->lease ? NULL : &request->err);
    else if (request->lease)
        engine_release(request->lease, false);
    free(request->key);
    free(request);
}

void engine_request_answer(struct engine_request *request, struct engine *engine)
{
    request->lease = engine ? lease_new(engine) : NULL;
    request->task.run = request_answered;
    loop_post(request->home, &request->task);
}

/* On the supervisor's loop. */
static void request_arrived(struct task *task)
{
    struct engine_request *request = CONTAINER_OF(task, struct engine_request, task);
    struct engines *engines = request->engines;
    struct engine *engine = engine_find(engines, str_from(request->key));
    if (engines->stopping) {
        err_set(&request->err, ERR_OVERLOADED, "the server is stopping");
        engine_request_answer(request, NULL);
    } else if (!engine) {
        err_set(&request->err, ERR_MODEL_NOT_FOUND, "there is no local model %s", request->key);
        engine_request_answer(request, NULL);
    } else {
        engine_admit(engine, request);
    }
}

struct engine_request *engine_acquire(struct engines *engines, struct str key,
                                      void (*done)(void *arg, struct engine_lease *lease,
                                                   const struct err *err),
                                      void *arg)
{
    struct engine_request *request = xcalloc(1, sizeof(*request));
    list_init(&request->node);
    request->task.run = request_arrived;
    request->engines = engines;
    request->home = loop_current();
    ASSERT(request->home);
    request->key = xmalloc(key.n + 1);
    memcpy(request->key, key.p, key.n);
    request->key[key.n] = 0;
    request->done = done;
    request->arg = arg;
    loop_post(engines->loop, &request->task);
    return request;
}

void engine_request_cancel(struct engine_request *request) { request->cancelled = true; }

/* ---- life ---- */

/* Folders of servers that were killed: their sockets lead nowhere. */
static void remove_stale_run_directories(const char *directory)
{
    DIR *dir = opendir(directory);
    if (!dir)
        return;
    for (struct dirent *item; (item = readdir(dir));) {
        char path[600], file[900];
        if (strncmp(item->d_name, "run-", 4) != 0)
            continue;
        pid_t pid = (pid_t)atol(item->d_name + 4);
        if (pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH)
            continue;
        snprintf(path, sizeof(path), "%s/%s", directory, item->d_name);
        DIR *run = opendir(path);
        for (struct dirent *socket; run && (socket = readdir(run));) {
            snprintf(file, sizeof(file), "%s/%s", path, socket->d_name);
            if (socket->d_name[0] != '.')
                unlink(file);
        }
        if (run)
            closedir(run);
        rmdir(path);
    }
    closedir(dir);
}

/* A folder for sockets that only this user enters. In the data directory, unless the path would be
 * too long for a socket's address. */
static char *make_run_directory(const char *directory)
{
    char path[ENGINE_SOCKET_BYTES_MAX];
    int n = snprintf(path, sizeof(path), "%s/run-%d", directory, (int)getpid());
    if (n > 0 && (size_t)n + SOCKET_NAME_BYTES <= sizeof(path) &&
        (mkdir(path, 0700) == 0 || errno == EEXIST))
        return xstrdup(path);
    snprintf(path, sizeof(path), "/tmp/capstan-XXXXXX");
    if (!mkdtemp(path))
        log_event(LOG_ERROR, "engine_directory_failed", LOG_Z("path", path),
                  LOG_Z("error", strerror(errno)));
    return xstrdup(path);
}

struct engines *engines_new(const struct engines_options *options)
{
    struct engines *engines = xcalloc(1, sizeof(*engines));
    engines->loop = options->loop;
    engines->workers = options->workers;
    engines->client = http_client_new(options->loop);
    engines->directory = xstrdup(options->directory);
    engines->server_path = options->server_path ? xstrdup(options->server_path) : NULL;
    remove_stale_run_directories(options->directory);
    engines->run_directory = make_run_directory(options->directory);
    list_init(&engines->list);
    pthread_mutex_init(&engines->board_lock, NULL);
    engines_find_program(engines);
    return engines;
}

void engines_stop(struct engines *engines, void (*stopped)(void *arg), void *arg)
{
    engines->stopping = true;
    if (engines->search)
        program_search_hurry(engines->search);
    LIST_FOR_EACH_SAFE (engine, &engines->list, struct engine, node) {
        engine_refuse_waiting(engine, ERR_OVERLOADED, "the server is stopping");
        engine_stop(engine, "server stops");
    }
    engines->stopped = stopped; /* not before the list was walked: it may free everything */
    engines->stopped_arg = arg;
    finish_stop(engines);
}

void engines_free(struct engines *engines)
{
    ASSERT(!engines->search);
    LIST_FOR_EACH_SAFE (engine, &engines->list, struct engine, node) {
        ASSERT(at_rest(engine));
        engine_free(engine);
    }
    http_client_free(engines->client);
    pthread_mutex_destroy(&engines->board_lock);
    free(engines->directory);
    free(engines->server_path);
    free(engines->run_directory);
    free(engines);
}
