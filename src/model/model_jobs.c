/* The long work on local models, as kinds of jobs: model_pull and model_add end by storing the
 * model's definition, engine_install by testing the engine. All on the supervisor's loop but where
 * it says. */
#include "model/models_private.h"
#include "model/pull.h"
#include "model/script.h"
#include "model/selftest.h"
#include "text/json.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB_ARENA_BYTES_MAX (1 << 20)

/* ---- storing a model ---- */

struct model_job {
    struct running running;
    struct models *models;
    struct job_run *run;
    struct arena arena;
    struct pull *pull; /* model_pull, under way */
    struct work work;  /* model_add: reads the file */
    struct str name, file;
    const struct catalogue_entry *entry;
    struct model model;
    struct db_work write;
    bool cancelled;
    struct err err;
};

static void job_free(struct model_job *job)
{
    arena_fini(&job->arena);
    free(job);
}

static void job_end(struct model_job *job, const struct err *err)
{
    struct str result = STR_EMPTY;
    if (!err)
        result = arena_printf(&job->arena, "{\"model\":\"%.*s\"}", STR_ARG(job->name));
    struct job_run *run = running_done(&job->running) ? NULL : job->run;
    if (run)
        job_finish(run, result.p ? result : STR_EMPTY, err);
    job_free(job);
}

/* On the control writer's thread. */
static enum rc store_model(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct model_job *job = CONTAINER_OF(work, struct model_job, write);
    yyjson_alc alc = json_arena_alc(&job->arena);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(&alc);
    yyjson_mut_val *spec = doc ? model_encode(&job->model, doc) : NULL;
    yyjson_doc *fixed = NULL;
    if (spec) {
        yyjson_mut_doc_set_root(doc, spec);
        fixed = yyjson_mut_doc_imut_copy(doc, &alc);
    }
    if (!fixed)
        return err_set(err, ERR_TOO_LARGE, "the model's definition is too large");
    const struct actor actor = ACTOR_SYSTEM;
    const struct object_change change = {
        .project = job_run_project(job->run),
        .kind = OBJECT_MODEL,
        .name = job->name,
        .spec = yyjson_doc_get_root(fixed),
        .message = job->entry ? STR("pulled") : STR("added"),
    };
    return object_put(txn, &actor, &change, &job->arena, NULL, err);
}

static void model_stored(struct db_work *work)
{
    struct model_job *job = CONTAINER_OF(work, struct model_job, write);
    job_end(job, work->rc == RC_OK ? NULL : &work->err);
}

static void store(struct model_job *job)
{
    job->write =
        (struct db_work){.home = job->models->loop, .write = store_model, .done = model_stored};
    if (db_write(job->models->db, &job->write) != RC_OK) {
        err_set(&job->err, ERR_OVERLOADED, "the control database is too busy; try again");
        job_end(job, &job->err);
    }
}

/* What a pull has fetched stays; a file that is being read is read to its end. */
static void job_halt(struct running *running)
{
    struct model_job *job = CONTAINER_OF(running, struct model_job, running);
    if (job->pull)
        pull_cancel(job->pull);
}

static struct model_job *job_new(struct models *models, struct job_run *run, yyjson_val *params)
{
    struct model_job *job = xcalloc(1, sizeof(*job));
    job->models = models;
    job->run = run;
    running_add(models, &job->running, job_halt);
    arena_init(&job->arena, JOB_ARENA_BYTES_MAX);
    job->name = arena_copy(&job->arena, json_get_text(params, "name"));
    job->file = arena_copy(&job->arena, json_get_text(params, "file"));
    return job;
}

/* ---- model_pull ---- */

static void pull_progressed(void *arg, int64_t done, int64_t total, struct str message)
{
    struct model_job *job = arg;
    job_progress(job->run, done, total, "bytes", message);
}

static void pull_done(void *arg, const struct model *model, const struct err *err)
{
    struct model_job *job = arg;
    job->pull = NULL;
    if (err) {
        job_end(job, err);
        return;
    }
    struct model *to = &job->model;
    *to = *model;
    struct str *texts[] = {&to->name,   &to->file,         &to->sha256,       &to->licence,
                           &to->source, &to->architecture, &to->quantization, &to->pooling};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = arena_copy(&job->arena, *texts[i]);
    store(job);
}

static const struct pull_calls PULL_CALLS = {.progress = pull_progressed, .done = pull_done};

static void *pull_job_start(void *arg, struct job_run *run, yyjson_val *params)
{
    struct models *models = arg;
    struct model_job *job = job_new(models, run, params);
    job->entry = catalogue_find(job->name);
    if (!job->entry) {
        err_set_field(&job->err, ERR_NOT_FOUND, "name", "there is no model '%.*s' in the catalogue",
                      STR_ARG(job->name));
        job_end(job, &job->err);
        return NULL;
    }
    job->pull = pull_start(&(struct pull_options){.loop = models->loop,
                                                  .workers = models->workers,
                                                  .entry = job->entry,
                                                  .directory = models->model_directory},
                           &PULL_CALLS, job);
    return job;
}

static void pull_job_cancel(void *arg, void *handle)
{
    struct model_job *job = handle;
    if (job->pull)
        pull_cancel(job->pull);
}

/* ---- model_add: a file that is there ---- */

/* An encoder is found by its name in the model folder: a link there says where it is. */
static enum rc add_folder(struct model_job *job)
{
    enum rc rc = model_read_folder(job->file.p, NULL, &job->arena, &job->model, &job->err);
    struct str path =
        arena_printf(&job->arena, "%s/%.*s", job->models->model_directory, STR_ARG(job->name));
    if (rc)
        return rc;
    if (!path.p)
        return err_set(&job->err, ERR_TOO_LARGE, "the path is too long");
    if (symlink(job->file.p, path.p) != 0)
        return err_set_field(&job->err, errno == EEXIST ? ERR_CONFLICT : ERR_INTERNAL, "name",
                             "%s: %s", path.p, strerror(errno));
    job->model.file = job->name;
    return RC_OK;
}

static void add_work(struct work *work)
{
    struct model_job *job = CONTAINER_OF(work, struct model_job, work);
    struct stat st;
    bool folder = stat(job->file.p, &st) == 0 && S_ISDIR(st.st_mode);
    enum rc rc = folder ? add_folder(job)
                        : model_read_file(job->file.p, NULL, &job->arena, &job->model, &job->err);
    if (rc == RC_OK)
        job->err = (struct err){0};
}

static void add_done(struct work *work)
{
    struct model_job *job = CONTAINER_OF(work, struct model_job, work);
    if (job->cancelled)
        err_set(&job->err, ERR_CANCELLED, "cancelled");
    if (job->err.code != ERR_NONE) {
        job_end(job, &job->err);
        return;
    }
    job->model.name = job->name;
    job->model.source = STR("added");
    store(job);
}

static void *add_job_start(void *arg, struct job_run *run, yyjson_val *params)
{
    struct models *models = arg;
    struct model_job *job = job_new(models, run, params);
    enum rc rc = model_check_name(job->name, &job->err);
    if (rc == RC_OK && (job->file.n == 0 || job->file.p[0] != '/'))
        rc = err_set_field(&job->err, ERR_BAD_FIELD, "file", "give the file's whole path, from /");
    job->work = (struct work){.home = models->loop, .work = add_work, .done = add_done};
    if (rc == RC_OK && worker_submit(models->workers, &job->work) != RC_OK)
        rc = err_set(&job->err, ERR_OVERLOADED,
                     "the server is too busy to read the file; try again");
    if (rc != RC_OK) {
        job_end(job, &job->err);
        return NULL;
    }
    job_progress(run, 0, 0, "", STR("reading the file"));
    return job;
}

static void add_job_cancel(void *arg, void *handle)
{
    struct model_job *job = handle;
    job->cancelled = true;
}

/* ---- engine_install ---- */

struct install_job {
    struct running running;
    struct models *models;
    struct job_run *run;
    struct script *script;
    struct selftest *selftest;
    bool from_source, cancelled;
    char tested[256]; /* what the test says, for the job's result */
};

static void start_script(struct install_job *job);

static void install_end(struct install_job *job, const struct err *err)
{
    char result[512];
    struct engine_program program;
    engines_program(job->models->engines, &program);
    int n =
        snprintf(result, sizeof(result), "{\"version\":\"%s\",\"origin\":\"%s\",\"test\":\"%s\"}",
                 program.version, program.origin, job->tested);
    if (!running_done(&job->running))
        job_finish(job->run, err ? STR_EMPTY : str_make(result, (size_t)n), err);
    free(job);
}

static void selftest_done(void *arg, const struct err *err)
{
    struct install_job *job = arg;
    job->selftest = NULL;
    if (err && err->code == ERR_ENGINE_FAILED && !job->from_source && !job->cancelled) {
        /* Packages of a suite that rolls: one that does not do its work is replaced by a build. */
        job_progress(job->run, 0, 0, "", STR("the packaged engine failed its test: building one"));
        job->from_source = true;
        start_script(job);
        return;
    }
    snprintf(job->tested, sizeof(job->tested), "%s", err ? err->message : "passed");
    install_end(job, err);
}

static void script_progress(void *arg, int64_t done, int64_t total, struct str message)
{
    struct install_job *job = arg;
    job_progress(job->run, done, total, "steps", message);
}

static void script_done(void *arg, const struct err *err)
{
    struct install_job *job = arg;
    job->script = NULL;
    if (err) {
        install_end(job, err);
        return;
    }
    engines_find_program(job->models->engines);
    job->selftest = selftest_start(job->models->engines, job->models->loop, selftest_done, job);
    if (!job->selftest) { /* no model to test it with; the first one that is used shows it */
        snprintf(job->tested, sizeof(job->tested), "not tested: there is no model yet");
        install_end(job, NULL);
    }
}

static const struct script_calls INSTALL_CALLS = {.progress = script_progress, .done = script_done};

static void start_script(struct install_job *job)
{
    struct err err = {0};
    const char *arguments[] = {job->models->engine_directory, job->from_source ? "source" : "any",
                               NULL};
    job->script = script_start(job->models->loop,
                               &(struct script_options){.name = "engine-install",
                                                        .arguments = arguments,
                                                        .directory = job->models->engine_directory},
                               &INSTALL_CALLS, job, &err);
    if (!job->script)
        install_end(job, &err);
}

static void install_job_cancel(void *arg, void *handle)
{
    struct install_job *job = handle;
    job->cancelled = true;
    if (job->script)
        script_cancel(job->script);
    if (job->selftest)
        selftest_cancel(job->selftest);
}

static void install_halt(struct running *running)
{
    install_job_cancel(NULL, CONTAINER_OF(running, struct install_job, running));
}

static void *install_job_start(void *arg, struct job_run *run, yyjson_val *params)
{
    struct install_job *job = xcalloc(1, sizeof(*job));
    job->models = arg;
    job->run = run;
    running_add(job->models, &job->running, install_halt);
    job->from_source = json_get_bool(params, "source", false);
    job_progress(run, 0, 0, "steps", STR("looking for packages"));
    start_script(job);
    return job;
}

void model_jobs_register(struct models *models)
{
    const struct job_kind kinds[] = {
        {.name = "model_pull",
         .attempts_max = 1,
         .parallel_max = 2,
         .start = pull_job_start,
         .cancel = pull_job_cancel,
         .arg = models},
        {.name = "model_add",
         .attempts_max = 1,
         .parallel_max = 1,
         .start = add_job_start,
         .cancel = add_job_cancel,
         .arg = models},
        {.name = "engine_install",
         .attempts_max = 1,
         .parallel_max = 1,
         .start = install_job_start,
         .cancel = install_job_cancel,
         .arg = models},
    };
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        jobs_register(models->jobs, &kinds[i]);
}
