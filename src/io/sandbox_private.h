/* Between the files of the sandbox: the parts of a wall. What says "child" runs between fork and
 * exec, so it must neither allocate, lock nor log. */
#pragma once
#include "io/sandbox.h"
#include <linux/filter.h>

/* A sanitizer's shadow memory is counted by both limits and has no bound of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_CAN_BE_LIMITED false
#else
#define MEMORY_CAN_BE_LIMITED true
#endif

/* Flags for clone(2) that this profile's namespaces need here; 0: none. Call before the fork. */
unsigned long sandbox_clone_flags(const struct sandbox_report *report,
                                  enum sandbox_profile profile);
/* What the child must know from before the fork. */
struct sandbox_origin {
    const struct sandbox_report *report;
    uid_t uid;
    gid_t gid;
    int alive_fd; /* write end of a pipe that only the parent reads: its death is seen on it */
};
/* Child. Returns 0 or an errno. */
int sandbox_enter(const struct confinement *confinement, const struct sandbox_origin *origin);
/* Child: CODE's last wall; after it only execveat and what the program may do. */
int sandbox_filter_install(const struct sock_fprog *filter);
/* Built once per profile and kept; NULL: there is no seccomp here. Not in a child after fork,
 * except the locked program itself. */
const struct sock_fprog *sandbox_filter(enum sandbox_profile profile);

/* Child, with the rights of a mount namespace of its own: a root of these paths only, read-only. */
int sandbox_view_enter(const char *const *paths);
/* Child: opens for reading and running below `paths` are all that is left (NULL: nothing is). */
int sandbox_landlock_enter(int abi, const char *const *paths);
int sandbox_landlock_abi(void); /* 0: the kernel has none, or it is switched off */
/* Child: gives up root for nobody, all capabilities, and asks for PDEATHSIG anew. */
int sandbox_drop_rights(void);

#define SANDBOX_NOBODY 65534
