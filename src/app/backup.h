/* Backups while the server runs: a job that copies the control database, the secret folder's key,
 * the call records and the blobs to a folder that can be served as a data folder. Models and
 * engines are left out: they can be pulled and installed again. */
#pragma once
#include "job/job.h"

struct backup;

struct backup_options {
    struct jobs *jobs;
    struct loop *loop; /* the jobs' */
    struct worker_pool *workers;
    struct db *db;
    const char *data_directory;
};

/* Registers the job kind "backup" {directory}: absolute, must not exist yet. Before jobs_begin. */
struct backup *backup_new(const struct backup_options *options);
void backup_free(struct backup *backup);
