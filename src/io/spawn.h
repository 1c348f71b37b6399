/* fork and exec with nothing inherited: environment given, signals reset, standard streams ours,
 * everything above closed on exec, own process group, the confinement's walls. Shared by children
 * that a loop supervises (child.c) and commands that a worker waits for (sandbox_run.c). */
#pragma once
#include "io/sandbox.h"

struct spawn {
    const char *const *argv, *const *envp;
    const char *directory; /* NULL: inherit; "/" behind walls */
    const struct confinement *confinement;
    int streams[3]; /* the child's standard streams */
};

/* Waits for exec, which takes microseconds. Returns 0 and the pid with a pidfd (close-on-exec), or
 * the errno of what failed, also in the child. A profile that sandbox_self_test refuses gives
 * EPERM. PDEATHSIG is bound to the calling thread: it must live as long as the child may. */
int spawn_start(const struct spawn *spawn, pid_t *pid, int *pidfd);
