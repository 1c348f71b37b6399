/* Runs one of the scripts that the program brings along (scripts/engine-install, apt-fetch,
 * pypi-fetch) as a supervised child, and turns its lines "progress DONE TOTAL MESSAGE" into calls.
 * Belongs to one loop. */
#pragma once
#include "base/err.h"
#include "io/loop.h"

/* The embedded texts, made at build time by scripts/embed-text. */
struct script_text {
    const char *name;
    struct str text;
};
extern const struct script_text script_texts[];
extern const size_t script_text_count;

struct script;

struct script_options {
    const char *name;             /* of the script: "engine-install" */
    const char *const *arguments; /* NULL-terminated */
    const char *directory;        /* where the texts are put while it runs; it exists */
};

struct script_calls {
    void (*progress)(void *arg, int64_t done, int64_t total, struct str message);
    /* Exactly once, later; err NULL: it ended well. The message holds the script's last words. */
    void (*done)(void *arg, const struct err *err);
};

/* NULL: it could not be started, err tells. */
struct script *script_start(struct loop *loop, const struct script_options *options,
                            const struct script_calls *calls, void *arg, struct err *err);
/* TERM, then KILL after five seconds: `done` comes with ERR_CANCELLED. */
void script_cancel(struct script *script);
