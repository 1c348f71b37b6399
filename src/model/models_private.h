/* What models.c (the service) and model_jobs.c (its long work) share. */
#pragma once
#include "base/list.h"
#include "model/models.h"
#include "store/object.h"
#include <stdio.h>

struct models {
    struct loop *loop;
    struct worker_pool *workers;
    struct db *db;
    struct jobs *jobs;
    struct engines *engines;
    char *model_directory, *engine_directory;
    uint64_t version;      /* of the snapshot that the supervisor was told of */
    struct list known;     /* engines that were defined */
    struct list forgotten; /* files of deleted models */
};

void model_jobs_register(struct models *models);
