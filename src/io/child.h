/* A child process supervised by a loop: cleared environment, own process group, output line by
 * line, resident memory, end by TERM then KILL. Restarting is the owner's policy. */
#pragma once
#include "base/err.h"
#include "io/loop.h"

struct child;

#define CHILD_LINE_BYTES_MAX 4096 /* a longer line comes in pieces of just this length */
struct confinement; /* io/sandbox.h: profile applied between fork and exec; NULL: none */

struct child_options {
    const char *const *argv; /* argv[0] is the path */
    const char *const *envp; /* the whole environment: nothing is inherited */
    const char *directory;   /* NULL: inherit */
    const struct confinement *confinement;
    bool stdin_pipe; /* else /dev/null */
    int64_t
        resident_bytes_max; /* 0: none; polled once a second, passed: killed with a clear reason */
};

struct child_owner {
    void (*line)(void *owner, struct child *child, bool is_stderr,
                 struct str line); /* without LF, ≤ 4 KB */
    /* Exit status or signal as waitpid tells; the child is freed when this returns. */
    void (*ended)(void *owner, struct child *child, int status, const char *reason);
};

struct child *child_start(struct loop *loop, const struct child_options *options,
                          const struct child_owner *calls, void *owner, struct err *err);
pid_t child_pid(const struct child *child);
/* Resident memory of any process of ours, now; 0: there is none of that id. Any thread. */
int64_t process_resident_bytes(pid_t pid);
int64_t child_resident_bytes(const struct child *child); /* as last polled */
int child_stdin(const struct child *child);              /* non-blocking; -1 without stdin_pipe */
/* TERM now, KILL after `grace_ns`; `ended` comes later. */
void child_end(struct child *child, int64_t grace_ns);
