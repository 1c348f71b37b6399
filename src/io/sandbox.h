/* What a child may do. Every child, confined or not, dies with the server (PDEATHSIG) and cannot
 * gain privileges (no_new_privs); a confinement adds limits, and a profile adds walls:
 *
 *   SANDBOX_EXTRACTOR  the program's own reader of documents. It starts with the file system in
 *                      reach (the loader needs it), and calls sandbox_lock() before it touches any
 *                      input: from then on it can read, write and allocate, and nothing else.
 *   SANDBOX_CODE       any program: a code node's interpreter, pdftotext, tesseract. The walls
 *                      stand before it starts: it sees read_paths, read-only, and no other file;
 *                      no network, no new processes (threads only), no signals to others.
 *
 * Walls: a seccomp filter always; namespaces (mount, net, pid, ipc, uts; user when not root)
 * and Landlock where the system has them. As root, the child becomes nobody. EXTRACTOR needs
 * seccomp, CODE also namespaces or Landlock. A self-test runs real probes behind the walls once,
 * before the first use; a profile that does not hold is refused with the reason, never run
 * without its walls. docs/design/sandbox.md has the whole picture. */
#pragma once
#include "base/err.h"

enum sandbox_profile { SANDBOX_NONE, SANDBOX_EXTRACTOR, SANDBOX_CODE, SANDBOX_PROFILE_COUNT };

struct confinement {
    enum sandbox_profile profile;
    const char *const *read_paths; /* CODE: absolute, NULL-terminated; those that do not exist are
                                      left out. NULL: SANDBOX_SYSTEM_PATHS */
    int64_t cpu_s_max;             /* 0: as inherited, like all below */
    int64_t address_bytes_max;     /* RLIMIT_AS: breaks programs that map much and use little */
    int64_t memory_bytes_max;      /* RLIMIT_DATA: private writable memory, heap and stacks */
    int64_t file_bytes_max;        /* of one written file */
    int64_t open_files_max;
    int64_t processes_max; /* of the user, threads included */
    int nice;              /* 1 … 19: yields to the server */
    bool no_core;          /* a crash writes no core file */
};

/* What a program of the distribution needs in order to start: /usr, the loader's files, fonts. */
extern const char *const SANDBOX_SYSTEM_PATHS[];

struct sandbox_report {
    bool seccomp, namespaces, user_namespace;
    int landlock; /* its ABI version; 0: none */
    /* Why a profile is refused; empty: its walls hold. */
    char refused[SANDBOX_PROFILE_COUNT][160];
};

/* Probes once and remembers; any thread, tens of milliseconds the first time. */
const struct sandbox_report *sandbox_self_test(void);
/* ERR_FORBIDDEN with the reason when this profile's walls do not hold here. */
enum rc sandbox_check(enum sandbox_profile profile, struct err *err) MUST_CHECK;
/* For tests: from now on as on a system without these. Not while children are being started. */
void sandbox_pretend_without(bool namespaces, bool landlock);

/* In an EXTRACTOR child, single-threaded, before any input: raises the walls for good. Returns 0 or
 * an errno; on an errno do not go on. */
int sandbox_lock(void);

/* ---- running a program to its end, on a worker's thread ---- */

struct sandbox_command {
    const char *const *argv; /* argv[0] is the path */
    const char *const *envp; /* the whole environment */
    struct confinement confinement;
    struct str input; /* its standard input, or: */
    int input_fd;     /* > 0: this file instead, read from where it stands */
    /* Another command whose output is this one's input, both at once; of that one only argv, envp,
     * confinement, input and input_fd count. NULL: none. */
    const struct sandbox_command *feeder;
    int64_t wall_ns; /* then it is killed */
    size_t output_bytes_max, error_bytes_max;
    /* Asked about ten times a second; true: killed. NULL: never. */
    bool (*cancelled)(void *arg);
    void *arg;
};

struct sandbox_result {
    int status;               /* as waitpid tells */
    struct str output, error; /* arena memory; `error` is cut at its maximum without complaint */
    int64_t cpu_ns, wall_ns;
    int64_t resident_bytes; /* the most it had */
    int feeder_status;
    struct str feeder_error; /* what the feeder wrote there, at most error_bytes_max */
};

struct arena;
/* Feeds the input, collects what it writes, waits. RC_OK: it ended by itself, with whatever status.
 * ERR_FORBIDDEN: refused (see above); ERR_TIMEOUT: wall time or CPU time; ERR_TOO_LARGE: too much
 * output; ERR_CANCELLED; ERR_INVALID: cannot be started, or killed by a signal, which is named.
 * `result` is filled as far as it got. For programs that a loop supervises see io/child.h, which
 * takes the same confinement. */
enum rc sandbox_run(const struct sandbox_command *command, struct arena *arena,
                    struct sandbox_result *result, struct err *err) MUST_CHECK;
