/* What a child may do, applied between fork and exec. Every child, confined or not, dies with the
 * server (PDEATHSIG) and cannot gain privileges (no_new_privs). A profile adds limits; there is
 * room for system calls, file system and network, which extractors and code nodes will need. */
#pragma once
#include "base/base.h"

struct confinement {
    int64_t cpu_s_max;         /* 0: as inherited, like all below */
    int64_t address_bytes_max; /* RLIMIT_AS: breaks programs that map much and use little */
    int64_t file_bytes_max;    /* of one written file */
    int64_t open_files_max;
    int64_t processes_max; /* of the user, threads included */
    int nice;              /* 1 … 19: yields to the server */
    bool no_core;          /* a crash writes no core file */
};

/* In the child, after fork: only async-signal-safe calls. Returns 0 or an errno. `parent` is the
 * server's pid, by which a server that died in between is noticed. NULL: only what holds for all.
 */
int sandbox_enter(const struct confinement *confinement, pid_t parent);
