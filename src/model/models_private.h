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
    struct list running;   /* long work under way */
    bool stopping;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/* Long work under way, embedded in its owner. */
struct running {
    struct list node;
    struct models *models;
    void (*halt)(struct running *running); /* ends its children; running_done comes soon */
};

void running_add(struct models *models, struct running *running,
                 void (*halt)(struct running *running));
/* True: the server is ending: the job is not finished but left for the next process. */
bool running_done(struct running *running);

void model_jobs_register(struct models *models);
