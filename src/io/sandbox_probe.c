/* The self-test: a child raises each profile's walls as real children do, then tries to get out.
 * What counts is what the kernel answers there, not what a version number promises. From the
 * strongest set of mechanisms to the weakest, the first that can be raised is taken; then each
 * profile must hold with it or is refused. */
#include "io/sandbox_private.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_MEMORY_BYTES_MAX (256LL << 20)
#define PROBE_CPU_S_MAX        5
#define PROBE_WALL_MS_MAX      60000

enum escape {
    ESCAPE_READ,
    ESCAPE_WRITE,
    ESCAPE_SOCKET,
    ESCAPE_LOCAL_SOCKET,
    ESCAPE_FORK,
    ESCAPE_EXEC,
    ESCAPE_SIGNAL,
    ESCAPE_MEMORY,
    ESCAPE_MAP_CODE,
    ESCAPE_ROOT,
    ESCAPE_NOTHING_WORKS,
    ESCAPE_COUNT,
};

static const char *const ESCAPES[ESCAPE_COUNT] = {
    [ESCAPE_READ] = "it could read a file",
    [ESCAPE_WRITE] = "it could write a file",
    [ESCAPE_SOCKET] = "it could open a socket",
    [ESCAPE_LOCAL_SOCKET] = "it could open a local socket",
    [ESCAPE_FORK] = "it could fork",
    [ESCAPE_EXEC] = "it could start a program",
    [ESCAPE_SIGNAL] = "it could send the server a signal",
    [ESCAPE_MEMORY] = "it could take more memory than it may",
    [ESCAPE_MAP_CODE] = "it could make memory executable",
    [ESCAPE_ROOT] = "it could become root",
    [ESCAPE_NOTHING_WORKS] = "it could not do what it must",
};

struct outcome {
    int entered;      /* errno of raising the walls */
    unsigned escaped; /* bit per escape */
};

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool gets_socket(int family)
{
    int fd = (int)syscall(SYS_socket, family, SOCK_STREAM, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool forks(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool maps(size_t bytes, int protection)
{
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        munmap(p, bytes);
    return p != MAP_FAILED;
}

/* In the child, behind the walls. */
static unsigned try_escapes(enum sandbox_profile profile, pid_t server)
{
    char *const none[] = {NULL};
    bool extractor = profile == SANDBOX_EXTRACTOR;
    const bool escaped[ESCAPE_COUNT] = {
        [ESCAPE_READ] = opens("/etc/passwd", O_RDONLY) || opens("/proc/self/maps", O_RDONLY) ||
                        (extractor && opens("/usr", O_RDONLY)),
        [ESCAPE_WRITE] = opens("/tmp/capstan-escape", O_WRONLY | O_CREAT) ||
                         opens("/usr/capstan-escape", O_WRONLY | O_CREAT),
        [ESCAPE_SOCKET] = gets_socket(AF_INET) || gets_socket(AF_INET6),
        [ESCAPE_LOCAL_SOCKET] = gets_socket(AF_UNIX) || gets_socket(AF_NETLINK),
        [ESCAPE_FORK] = forks(),
        [ESCAPE_EXEC] = syscall(SYS_execve, "/bin/true", none, none) != -1,
        [ESCAPE_SIGNAL] = kill(server, 0) == 0,
        [ESCAPE_MEMORY] =
            MEMORY_CAN_BE_LIMITED && maps(4 * PROBE_MEMORY_BYTES_MAX, PROT_READ | PROT_WRITE),
        [ESCAPE_MAP_CODE] = extractor && maps(4096, PROT_READ | PROT_EXEC),
        [ESCAPE_ROOT] = syscall(SYS_setresuid, 0, 0, 0) == 0 || geteuid() == 0,
        [ESCAPE_NOTHING_WORKS] = getpid() <= 0 || (!extractor && !opens("/usr", O_RDONLY)),
    };
    unsigned bits = 0;
    for (int i = 0; i < ESCAPE_COUNT; i++)
        bits |= escaped[i] ? 1u << i : 0;
    return bits;
}

struct probe {
    enum sandbox_profile profile;
    bool attack; /* call something that no honest program calls: must be killed */
    struct sandbox_origin origin;
    pid_t server;
    const struct sock_fprog *filter;
};

static NORETURN void probe_child(const struct probe *probe)
{
    struct confinement confinement = {.profile = probe->profile,
                                      .cpu_s_max = PROBE_CPU_S_MAX,
                                      .address_bytes_max = PROBE_MEMORY_BYTES_MAX,
                                      .memory_bytes_max = PROBE_MEMORY_BYTES_MAX};
    dup2(probe->origin.alive_fd, STDOUT_FILENO); /* where sandbox_lock looks for its server */
    struct outcome outcome = {.entered = sandbox_enter(&confinement, &probe->origin)};
    if (!outcome.entered)
        outcome.entered =
            probe->profile == SANDBOX_CODE ? sandbox_filter_install(probe->filter) : sandbox_lock();
    if (!outcome.entered && probe->attack)
        syscall(SYS_ptrace, 0 /* PTRACE_TRACEME */, 0, 0, 0);
    else if (!outcome.entered)
        outcome.escaped = try_escapes(probe->profile, probe->server);
    ssize_t n = write(STDOUT_FILENO, &outcome, sizeof(outcome));
    UNUSED(n);
    _exit(0);
}

/* Returns an errno of the walls (EIO: the child ended without an answer). */
static int probe_run(struct probe *probe, struct outcome *outcome, int *status)
{
    int answer[2];
    *outcome = (struct outcome){.entered = EIO};
    if (pipe2(answer, O_CLOEXEC) != 0)
        return errno;
    unsigned long flags = sandbox_clone_flags(probe->origin.report, probe->profile);
    probe->origin.alive_fd = answer[1];
    probe->server = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        close(answer[0]);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        probe_child(probe);
    }
    int error = pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(answer[1]);
    if (!error) {
        struct pollfd answered = {.fd = answer[0], .events = POLLIN};
        if (poll(&answered, 1, PROBE_WALL_MS_MAX) == 0)
            kill(pid, SIGKILL); /* it hangs: nobody may wait for it */
        ssize_t n;
        do
            n = read(answer[0], outcome, sizeof(*outcome));
        while (n < 0 && errno == EINTR);
        if (n != sizeof(*outcome))
            *outcome = (struct outcome){.entered = EIO};
        waitpid(pid, status, 0);
        error = outcome->entered;
    }
    close(answer[0]);
    return error;
}

static struct probe probe_of(const struct sandbox_report *report, enum sandbox_profile profile)
{
    return (struct probe){.profile = profile,
                          .origin = {.report = report, .uid = geteuid(), .gid = getegid()},
                          .filter = sandbox_filter(profile)};
}

static void refuse(struct sandbox_report *report, enum sandbox_profile profile, const char *reason)
{
    snprintf(report->refused[profile], sizeof(report->refused[profile]), "%s", reason);
}

static void probe_profile(struct sandbox_report *report, enum sandbox_profile profile)
{
    struct probe probe = probe_of(report, profile);
    struct outcome outcome;
    int status = 0, error = probe_run(&probe, &outcome, &status);
    if (error) {
        refuse(report, profile, strerror(error));
        return;
    }
    for (int i = 0; i < ESCAPE_COUNT; i++)
        if (outcome.escaped & 1u << i) {
            refuse(report, profile, ESCAPES[i]);
            return;
        }
    probe.attack = true;
    probe_run(&probe, &outcome, &status);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
        refuse(report, profile, "a forbidden system call did not end it");
}

/* Can namespaces be had, with the view that CODE needs? */
static bool namespaces_work(struct sandbox_report *report, bool user)
{
    report->namespaces = true;
    report->user_namespace = user;
    struct probe probe = probe_of(report, SANDBOX_CODE);
    struct outcome outcome;
    int status;
    if (probe_run(&probe, &outcome, &status) == 0)
        return true;
    report->namespaces = report->user_namespace = false;
    return false;
}

static void self_test(struct sandbox_report *report, bool namespaces, bool landlock)
{
    *report = (struct sandbox_report){.landlock = landlock ? sandbox_landlock_abi() : 0};
    report->seccomp = sandbox_filter(SANDBOX_EXTRACTOR) && sandbox_filter(SANDBOX_CODE);
    if (!report->seccomp) {
        refuse(report, SANDBOX_EXTRACTOR, "no seccomp filter can be made");
        refuse(report, SANDBOX_CODE, "no seccomp filter can be made");
        return;
    }
    if (namespaces && !(geteuid() == 0 && namespaces_work(report, false)))
        namespaces_work(report, true);
    probe_profile(report, SANDBOX_EXTRACTOR);
    if (report->namespaces || report->landlock)
        probe_profile(report, SANDBOX_CODE);
    else
        refuse(report, SANDBOX_CODE, "the system has neither namespaces nor Landlock");
}

static struct sandbox_report the_report;
static bool tested;
static pthread_mutex_t test_mutex = PTHREAD_MUTEX_INITIALIZER;

const struct sandbox_report *sandbox_self_test(void)
{
    pthread_mutex_lock(&test_mutex);
    if (!tested)
        self_test(&the_report, true, true);
    tested = true;
    pthread_mutex_unlock(&test_mutex);
    return &the_report;
}

void sandbox_pretend_without(bool namespaces, bool landlock)
{
    pthread_mutex_lock(&test_mutex);
    self_test(&the_report, !namespaces, !landlock);
    tested = true;
    pthread_mutex_unlock(&test_mutex);
}
