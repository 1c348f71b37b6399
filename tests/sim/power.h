/* What the simulations of storage share: a seed is a history of several lives on a file system in
 * memory, each ended by a power loss; what was promised in one must hold in the next. The same
 * histories with syncs that do nothing must break a promise, or the check is worth nothing. */
#pragma once
#include "base/base.h"
#include "io/file.h"

/* The first member of a simulation's own history. */
struct power_history {
    struct file_system *fs; /* has the directory /data */
    char problem[256];      /* the first promise that was broken */
};

struct power_sim {
    size_t history_bytes;
    /* From opening to power loss. False: a promise is broken. Randomness is seeded. */
    bool (*live)(struct power_history *history);
};

bool power_problem(struct power_history *history, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* false, to be returned */

/* SIM_SEEDS: how many seeds (else 300); SIM_SEED: this one alone, with SIM_NO_SYNCS as it is
 * without syncs; SIM_LOG: the log is printed. Returns the exit status. */
int power_main(const struct power_sim *sim);
