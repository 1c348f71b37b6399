/* What triggers.c and notify.c share. */
#pragma once
#include "pipeline/triggers/triggers.h"

struct triggers {
    struct triggers_options options;
    struct timer timer;
    struct task wake; /* posted by any thread */
    bool wake_posted; /* atomic */
    struct db_work look;
    bool looking, look_again, stopped;
    int64_t next_ns; /* of all schedules; written while `look` is under way */
    bool held;       /* the same: one is due and waits for its run before */
};

void notify_register(struct triggers *triggers);
