/* The local models of an installation as a service: keeps the engine supervisor in step with the
 * configuration, and does what takes long as jobs: pulling a model, adding a file, installing an
 * engine. Belongs to the supervisor's loop; asking is for any thread. */
#pragma once
#include "gateway/snapshot.h"
#include "job/job.h"
#include "model/model.h"
#include "store/db.h"

struct models;

struct models_options {
    struct loop *loop; /* of the supervisor and of the jobs */
    struct worker_pool *workers;
    struct db *db;
    struct jobs *jobs;
    struct engines *engines;
    const char *model_directory;  /* data/model; exists */
    const char *engine_directory; /* data/engine; exists */
};

/* Registers the kinds model_pull {name}, model_add {file, name} and engine_install {source}: before
 * jobs_begin. Reads the snapshot at the start of each turn of the loop: after the loop's own hook.
 */
struct models *models_new(const struct models_options *options);
/* On the loop, when the server ends: ends the children of the jobs under way, which the next
 * process takes up again; calls `stopped` when they are gone. */
void models_stop(struct models *models, void (*stopped)(void *arg), void *arg);
void models_free(struct models *models); /* no job of its kinds may run any more */
const char *models_directory(const struct models *models);

/* A write transaction: submits the jobs that a machine needs to answer with this catalogue model:
 * the pull, unless the project has the model, and the engine's installation, unless there is one.
 */
enum rc models_prepare(struct models *models, struct db_txn *txn, struct id project,
                       struct str name, struct err *err) MUST_CHECK;
/* A write transaction that deletes a model: its file goes, too, if it lies in the model folder and
 * no model refers to it once the change is in effect. */
void models_forget_file(struct models *models, struct str file);
