/* The configuration as an immutable snapshot: built on the control writer's thread after each
 * change, published by pointer, re-read by each loop once a turn, freed when no loop and no call
 * holds it. The hot path asks no database. */
#pragma once
#include "base/arena.h"
#include "gateway/config.h"
#include "io/loop.h"

struct price_table; /* gateway/price.h */

struct model; /* model/model.h */

struct project {
    struct id id;
    struct str name;
    struct map routes;       /* name → struct route */
    struct map providers;    /* name → struct provider */
    struct map limits;       /* "tag:NAME=VALUE" | "user:NAME" | "project" → struct limits */
    struct map local_models; /* name → struct model */
    struct map prompts;      /* name → struct prompt_family (prompt/prompt.h) */
    struct map tools;        /* name → struct tool (pipeline/tools/tool.h) */
    struct map inner_names;  /* "pipeline/NAME", "knowledge/NAME" → the name: answered inside */
    enum capture capture;    /* the project's default */
    struct price_table *price_overrides; /* may be NULL */
};

struct snapshot {
    uint64_t version;   /* grows by one with each publication */
    struct arena arena; /* everything above lives here */
    struct map
        keys; /* 32 raw bytes of SHA-256(secret) → struct key; revoked and expired ones included */
    struct map triggers; /* 16 raw bytes of the id → struct trigger (pipeline/triggers/trigger.h) */
    struct map projects; /* 16 raw bytes of the id → struct project */
    struct project **project_list;
    size_t project_count, project_capacity;
    struct map sessions; /* 32 raw bytes of SHA-256(cookie) → struct principal (console sessions) */
    int references;
    /* One that was mended shares what did not change with the one it was made from, whose arena
     * therefore lives as long. */
    struct snapshot *base; /* or NULL */
    int mended;            /* how many bases there are behind each other */
    int arena_references;  /* those mended from it, and itself while it has references */
};

/* This thread's current snapshot, or NULL before the first publication. On a loop that
 * snapshot_attach has prepared it is the same for a whole turn and valid until the turn ends; on
 * other threads until the next call. Hold it for longer with snapshot_ref. */
struct snapshot *snapshot_current(void);
/* Loop's thread, once: from now on the snapshot is re-read at the start of each turn. */
void snapshot_attach(struct loop *loop);
/* Any thread, before it ends: gives up what snapshot_current holds. */
void snapshot_detach(void);
/* Control thread: makes it current everywhere, with the next version number; takes the reference.
 */
void snapshot_publish(struct snapshot *snapshot);
struct snapshot *snapshot_ref(struct snapshot *snapshot); /* atomic */
void snapshot_unref(struct snapshot *snapshot);           /* atomic; the last one frees */
struct snapshot *snapshot_new(size_t arena_bytes_max);    /* with one reference */
/* A copy that may be changed while `base` is in use: tables of its own, the objects shared. NULL:
 * no memory. */
struct snapshot *snapshot_copy(struct snapshot *base, size_t arena_bytes_max);
/* Building: adds an empty project; NULL: the arena is full. */
struct project *snapshot_add_project(struct snapshot *snapshot, struct id id, struct str name);
struct project *snapshot_project(const struct snapshot *snapshot, struct id id);
/* Key by secret ("cap_…"): NULL when unknown. The digest is looked up, so that timing tells
 * nothing. */
struct key *snapshot_find_key(const struct snapshot *snapshot, struct str secret);
/* Session by cookie: NULL when unknown or expired at `wall_ns`. */
struct principal *snapshot_find_session(const struct snapshot *snapshot, struct str cookie,
                                        int64_t wall_ns);
