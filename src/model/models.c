/* The service of local models. What models there are stands in the snapshot; when a new one was
 * published the supervisor is told of all of them, and of those that went. */
#include "model/models_private.h"
#include "base/log.h"
#include "base/map.h"
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#define FOLDER_DEPTH_MAX     8
#define SPEC_ARENA_BYTES_MAX (256 * 1024)

/* An engine that was defined, and whether the last look at the configuration still had it. */
struct known {
    struct list node;
    struct str key; /* follows the struct */
    bool seen;
};

/* A file whose model is being deleted. */
struct forgotten {
    struct task task;
    struct list node;
    struct models *models;
    struct work work;
    uint64_t version; /* of the snapshot when it was asked: the deletion comes with a later one */
    char file[];
};

/* ---- the supervisor is told ---- */

static struct known *find_known(struct models *models, struct str key)
{
    LIST_FOR_EACH (known, &models->known, struct known, node)
        if (str_eq(known->key, key))
            return known;
    return NULL;
}

static void define(struct models *models, const struct engine_spec *spec)
{
    struct known *known = find_known(models, spec->key);
    if (!known) {
        known = xmalloc(sizeof(*known) + spec->key.n);
        char *key = (char *)(known + 1);
        memcpy(key, spec->key.p, spec->key.n);
        known->key = str_make(key, spec->key.n);
        list_push_back(&models->known, &known->node);
    }
    known->seen = true;
    engines_define(models->engines, spec);
}

static void define_models(struct models *models, const struct project *project, struct arena *arena)
{
    MAP_FOR_EACH (slot, &project->local_models) {
        const struct model *model = slot->value;
        struct engine_spec spec;
        arena_reset(arena);
        if (model->kind != MODEL_ENGINE)
            continue; /* no child: it runs in this process */
        if (model_engine_spec(model, project->id, str_from(models->model_directory), arena,
                              &spec) == RC_OK)
            define(models, &spec);
    }
}

/* Providers that name a command to supervise. */
static void define_commands(struct models *models, const struct project *project,
                            struct arena *arena)
{
    MAP_FOR_EACH (slot, &project->providers) {
        const struct provider *provider = slot->value;
        char key[ENGINE_KEY_TEXT_BYTES_MAX];
        size_t count = 0;
        if (!provider->command)
            continue;
        while (provider->command[count])
            count++;
        arena_reset(arena);
        struct str *command = ARENA_NEW_ARRAY(arena, struct str, count);
        if (!command)
            continue;
        for (size_t i = 0; i < count; i++)
            command[i] = str_from(provider->command[i]);
        size_t key_n = engine_key_format(project->id, true, provider->name, key);
        define(models, &(struct engine_spec){
                           .key = str_make(key, key_n),
                           .name = provider->name,
                           .command = command,
                           .command_count = count,
                           .base_url = provider->base_url,
                           .api_key = provider->key_count ? provider->keys[0].secret : STR_EMPTY,
                           .template_has_tools = true,
                       });
    }
}

static bool refers_to_file(const struct snapshot *snapshot, const char *file)
{
    for (size_t i = 0; i < snapshot->project_count; i++)
        MAP_FOR_EACH (slot, &snapshot->project_list[i]->local_models)
            if (str_eq(((struct model *)slot->value)->file, str_from(file)))
                return true;
    return false;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    UNUSED(st), UNUSED(type), UNUSED(at);
    return remove(path);
}

static void unlink_work(struct work *work)
{
    struct forgotten *forgotten = CONTAINER_OF(work, struct forgotten, work);
    char path[2048];
    snprintf(path, sizeof(path), "%s/%s", forgotten->models->model_directory, forgotten->file);
    bool gone = unlink(path) == 0;
    if (!gone && (errno == EISDIR || errno == EPERM)) /* an encoder's folder; a link just went */
        gone = nftw(path, remove_entry, FOLDER_DEPTH_MAX, FTW_DEPTH | FTW_PHYS) == 0;
    if (gone)
        log_event(LOG_INFO, "model_file_removed", LOG_Z("file", path));
    free(forgotten);
}

static void remove_forgotten(struct models *models, const struct snapshot *snapshot)
{
    LIST_FOR_EACH_SAFE (forgotten, &models->forgotten, struct forgotten, node) {
        if (snapshot->version <= forgotten->version)
            continue;
        list_remove(&forgotten->node);
        forgotten->work.work = unlink_work;
        if (refers_to_file(snapshot, forgotten->file) ||
            worker_submit(models->workers, &forgotten->work) != RC_OK)
            free(forgotten);
    }
}

static void turn(struct loop *loop, void *arg)
{
    struct models *models = arg;
    const struct snapshot *snapshot = snapshot_current();
    if (!snapshot || snapshot->version == models->version)
        return;
    struct arena arena;
    models->version = snapshot->version;
    arena_init(&arena, SPEC_ARENA_BYTES_MAX);
    LIST_FOR_EACH (known, &models->known, struct known, node)
        known->seen = false;
    for (size_t i = 0; i < snapshot->project_count; i++) {
        define_models(models, snapshot->project_list[i], &arena);
        define_commands(models, snapshot->project_list[i], &arena);
    }
    arena_fini(&arena);
    LIST_FOR_EACH_SAFE (known, &models->known, struct known, node)
        if (!known->seen) {
            engines_remove(models->engines, known->key);
            list_remove(&known->node);
            free(known);
        }
    remove_forgotten(models, snapshot);
}

/* ---- asking ---- */

static void forget_arrived(struct task *task)
{
    struct forgotten *forgotten = CONTAINER_OF(task, struct forgotten, task);
    list_push_back(&forgotten->models->forgotten, &forgotten->node);
}

void models_forget_file(struct models *models, struct str file)
{
    if (file.n == 0 || str_find_char(file, '/') >= 0)
        return; /* not one of the model folder */
    struct forgotten *forgotten = xcalloc(1, sizeof(*forgotten) + file.n + 1);
    memcpy(forgotten->file, file.p, file.n);
    list_init(&forgotten->node);
    forgotten->models = models;
    forgotten->task.run = forget_arrived;
    forgotten->version = snapshot_current()->version;
    loop_post(models->loop, &forgotten->task);
}

enum rc models_prepare(struct models *models, struct db_txn *txn, struct id project,
                       struct str name, struct err *err)
{
    struct arena arena;
    struct object object;
    struct job_row row;
    struct engine_program program;
    struct err missing;
    enum rc rc = RC_OK;
    const struct catalogue_entry *entry = catalogue_find(name);
    if (!entry)
        return err_set(err, ERR_NOT_FOUND, "there is no model '%.*s' in the catalogue",
                       STR_ARG(name));
    arena_init(&arena, 1 << 20);
    engines_program(models->engines, &program);
    if (!entry->file_count && !program.path[0])
        rc = job_submit(models->jobs, txn, project, "engine_install", STR("{}"), STR("capstan"),
                        &arena, &row, err);
    if (rc == RC_OK &&
        object_get(txn, project, OBJECT_MODEL, name, &arena, &object, &missing) == RC_NOT_FOUND) {
        struct str params = arena_printf(&arena, "{\"name\":\"%.*s\"}", STR_ARG(name));
        rc = job_submit(models->jobs, txn, project, "model_pull", params, STR("capstan"), &arena,
                        &row, err);
    }
    arena_fini(&arena);
    return rc;
}

const char *models_directory(const struct models *models) { return models->model_directory; }

/* ---- long work ---- */

void running_add(struct models *models, struct running *running,
                 void (*halt)(struct running *running))
{
    running->models = models;
    running->halt = halt;
    list_init(&running->node);
    list_push_back(&models->running, &running->node);
}

static void finish_stop(struct models *models)
{
    void (*stopped)(void *arg) = models->stopped;
    if (!stopped || !list_empty(&models->running))
        return;
    models->stopped = NULL;
    stopped(models->stopped_arg);
}

bool running_done(struct running *running)
{
    struct models *models = running->models;
    list_remove(&running->node);
    finish_stop(models);
    return models->stopping;
}

void models_stop(struct models *models, void (*stopped)(void *arg), void *arg)
{
    models->stopping = true;
    LIST_FOR_EACH_SAFE (running, &models->running, struct running, node)
        running->halt(running);
    models->stopped = stopped;
    models->stopped_arg = arg;
    finish_stop(models);
}

/* ---- life ---- */

struct models *models_new(const struct models_options *options)
{
    struct models *models = xcalloc(1, sizeof(*models));
    models->loop = options->loop;
    models->workers = options->workers;
    models->db = options->db;
    models->jobs = options->jobs;
    models->engines = options->engines;
    models->model_directory = xstrdup(options->model_directory);
    models->engine_directory = xstrdup(options->engine_directory);
    list_init(&models->known);
    list_init(&models->forgotten);
    list_init(&models->running);
    model_jobs_register(models);
    loop_on_turn(options->loop, turn, models);
    return models;
}

void models_free(struct models *models)
{
    ASSERT(list_empty(&models->running));
    loop_off_turn(models->loop, turn, models);
    LIST_FOR_EACH_SAFE (known, &models->known, struct known, node)
        free(known);
    LIST_FOR_EACH_SAFE (forgotten, &models->forgotten, struct forgotten, node)
        free(forgotten);
    free(models->model_directory);
    free(models->engine_directory);
    free(models);
}
