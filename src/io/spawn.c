/* Between fork and exec, and the little around it. Nothing in the child may allocate, lock or log:
 * it is one thread of a copy of a process that had many. */
#include "io/spawn.h"
#include "io/sandbox_private.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct spawn_inner {
    const struct spawn *spawn;
    struct sandbox_origin origin;
    const struct sock_fprog *filter; /* installed before exec; NULL: none */
    int failure[2];                  /* closes at exec; else carries errno */
};

/* Behind a filter the program is started by its descriptor, opened through the new view. */
static int spawn_exec(const struct spawn_inner *inner)
{
    const struct spawn *spawn = inner->spawn;
    char *const *argv = (char *const *)spawn->argv, *const *envp = (char *const *)spawn->envp;
    if (!inner->filter) {
        execve(argv[0], argv, envp);
        return errno;
    }
    int fd = open(argv[0], O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = sandbox_filter_install(inner->filter);
    if (error)
        return error;
    syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
    return errno;
}

/* The server's descriptors close at once, not only at exec: raising walls takes a while, and a lock
 * that is held until then would keep the next server out when this one is killed meanwhile. */
static int close_inherited(struct spawn_inner *inner)
{
    if (inner->failure[1] != 3 && dup3(inner->failure[1], 3, O_CLOEXEC) < 0)
        return errno;
    inner->failure[1] = inner->origin.alive_fd = 3;
    if (syscall(SYS_close_range, 4u, ~0u, 0u) != 0)
        for (int fd = 4; fd < 1024; fd++)
            close(fd);
    return 0;
}

static NORETURN void spawn_child(struct spawn_inner *inner)
{
    const struct spawn *spawn = inner->spawn;
    close(inner->failure[0]); /* so that the other end tells when the parent has gone */
    struct sigaction ignore = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &ignore, NULL); /* refused for KILL and STOP */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    int error = 0;
    for (int i = 0; i < 3 && !error; i++)
        if (dup2(spawn->streams[i], i) < 0)
            error = errno;
    if (!error)
        error = close_inherited(inner);
    if (!error)
        error = sandbox_enter(spawn->confinement, &inner->origin);
    if (!error && spawn->directory && chdir(spawn->directory) != 0)
        error = errno;
    if (!error)
        error = spawn_exec(inner);
    ssize_t n = write(inner->failure[1], &error, sizeof(error));
    UNUSED(n);
    _exit(127);
}

/* clone as fork does it, with new namespaces. The library's fork would run handlers that a child
 * which only execs has no use for. */
static pid_t spawn_clone(const struct spawn_inner *inner, unsigned long flags)
{
    if (!flags)
        return fork();
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

static int spawn_fork(struct spawn_inner *inner, unsigned long flags, pid_t *pid)
{
    if (pipe2(inner->failure, O_CLOEXEC) != 0)
        return errno;
    inner->origin.alive_fd = inner->failure[1];
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours runs in the child */
    *pid = spawn_clone(inner, flags);
    if (*pid == 0)
        spawn_child(inner);
    int error = *pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(inner->failure[1]);
    if (*pid > 0) {
        ssize_t n;
        do
            n = read(inner->failure[0], &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        if (n <= 0)
            error = 0;
        if (error)
            waitpid(*pid, NULL, 0);
    }
    close(inner->failure[0]);
    return error;
}

int spawn_start(const struct spawn *spawn, pid_t *pid, int *pidfd)
{
    enum sandbox_profile profile = spawn->confinement ? spawn->confinement->profile : SANDBOX_NONE;
    struct spawn_inner inner = {.spawn = spawn, .origin = {.uid = geteuid(), .gid = getegid()}};
    unsigned long flags = 0;
    if (profile != SANDBOX_NONE) {
        const struct sandbox_report *report = sandbox_self_test();
        if (report->refused[profile][0])
            return EPERM;
        inner.origin.report = report;
        inner.filter = profile == SANDBOX_CODE ? sandbox_filter(profile) : NULL;
        flags = sandbox_clone_flags(report, profile);
    }
    int error = spawn_fork(&inner, flags, pid);
    if (error)
        return error;
    *pidfd = (int)syscall(SYS_pidfd_open, *pid, 0); /* close-on-exec by itself */
    if (*pidfd >= 0)
        return 0;
    error = errno;
    kill(-*pid, SIGKILL);
    waitpid(*pid, NULL, 0);
    return error;
}
