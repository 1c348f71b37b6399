/* What pull.c (sources, check) and pull_hub.c (a file over HTTP) share. */
#pragma once
#include "model/pull.h"

#define PULL_PATH_BYTES_MAX 1024

struct pull_hub;
struct script;

struct pull {
    struct loop *loop;
    struct worker_pool *workers;
    const struct catalogue_entry *entry;
    char *directory;
    struct pull_calls calls;
    void *arg;
    struct arena arena;
    struct task begin;
    char part[PULL_PATH_BYTES_MAX], final[PULL_PATH_BYTES_MAX];
    size_t item;           /* of a folder's files: which `part` is; 0 for a single file */
    size_t source_index;   /* of the next source */
    struct str source;     /* of the one under way, as it is stored */
    struct pull_hub *hub;  /* under way, or NULL */
    struct script *script; /* under way, or NULL */
    char hub_sha256[65];   /* as the hub says; empty: it did not */
    bool cancelled, checking;
    struct work check;
    enum rc check_rc;
    struct err check_err;
    struct model model;
    struct err err; /* why the last source failed */
    int64_t told_ns;
};

void pull_progress(struct pull *pull, int64_t done, int64_t total, struct str message);
/* The source has delivered the whole file into pull->part (err NULL), or not. */
void pull_source_ended(struct pull *pull, const struct err *err);

/* ---- pull_hub.c ---- */
/* Fetches the address into pull->part. */
void pull_hub_start(struct pull *pull, struct str address);
/* pull_source_ended comes soon. */
void pull_hub_cancel(struct pull_hub *hub);
