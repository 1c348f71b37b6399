/* Raises a confinement's walls in the process that calls it: between fork and exec (sandbox_enter),
 * where nothing may allocate, lock or log, or after exec in the program's own children
 * (sandbox_lock).
 *
 * Order matters: namespaces come with clone; maps and mounts need their rights; rights go before
 * the filter; PDEATHSIG is asked for last, since the kernel forgets it when ids change. */
#include "io/sandbox.h"
#include "io/sandbox_private.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const SANDBOX_SYSTEM_PATHS[] = {
    "/usr",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/ssl/openssl.cnf",
    "/etc/fonts",
    "/dev/null",
    "/dev/urandom",
    NULL,
};

static int limit(int resource, int64_t max)
{
    if (max == 0)
        return 0;
    struct rlimit current;
    if (getrlimit((__rlimit_resource_t)resource, &current) != 0)
        return errno;
    rlim_t value = MIN((rlim_t)max, current.rlim_max); /* never above what was inherited */
    struct rlimit wanted = {value, value};
    return setrlimit((__rlimit_resource_t)resource, &wanted) == 0 ? 0 : errno;
}

static int limit_all(const struct confinement *confinement)
{
    const struct {
        int resource;
        int64_t max;
    } limits[] = {
        {RLIMIT_CPU, confinement->cpu_s_max},
        {RLIMIT_AS, MEMORY_CAN_BE_LIMITED ? confinement->address_bytes_max : 0},
        {RLIMIT_DATA, MEMORY_CAN_BE_LIMITED ? confinement->memory_bytes_max : 0},
        {RLIMIT_FSIZE, confinement->file_bytes_max},
        {RLIMIT_NOFILE, confinement->open_files_max},
        {RLIMIT_NPROC, confinement->processes_max},
    };
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        int error = limit(limits[i].resource, limits[i].max);
        if (error)
            return error;
    }
    if (confinement->no_core || confinement->profile != SANDBOX_NONE) {
        struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_CORE, &none) != 0)
            return errno;
    }
    errno = 0;
    if (confinement->nice > 0 && nice(confinement->nice) == -1 && errno)
        return errno;
    return 0;
}

static int write_file(const char *path, const char *text, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = write(fd, text, n) == (ssize_t)n ? 0 : errno;
    close(fd);
    return error;
}

/* A number after a text, without stdio. */
static size_t append_number(char *out, size_t n, unsigned value)
{
    char digits[12];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count)
        out[n++] = digits[--count];
    return n;
}

/* Nobody inside is the server's user outside: the one map that needs no right. */
static int user_map(uid_t uid, gid_t gid)
{
    int error = write_file("/proc/self/setgroups", "deny", 4);
    const struct {
        const char *path;
        unsigned id;
    } maps[] = {{"/proc/self/uid_map", uid}, {"/proc/self/gid_map", gid}};
    for (size_t i = 0; i < COUNT_OF(maps) && !error; i++) {
        char line[64];
        size_t n = append_number(line, 0, SANDBOX_NOBODY);
        line[n++] = ' ';
        n = append_number(line, n, maps[i].id);
        memcpy(line + n, " 1\n", 3);
        error = write_file(maps[i].path, line, n + 3);
    }
    return error;
}

static int die_with_parent(int alive_fd)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return errno;
    struct pollfd alive = {.fd = alive_fd};
    return poll(&alive, 1, 0) == 1 ? ESRCH : 0; /* died before the signal was asked for */
}

/* Raw system calls: the library's setuid would signal threads that this process does not have. */
int sandbox_drop_rights(void)
{
    if (geteuid() == 0 &&
        (syscall(SYS_setgroups, 0, NULL) != 0 ||
         syscall(SYS_setresgid, SANDBOX_NOBODY, SANDBOX_NOBODY, SANDBOX_NOBODY) != 0 ||
         syscall(SYS_setresuid, SANDBOX_NOBODY, SANDBOX_NOBODY, SANDBOX_NOBODY) != 0))
        return errno;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return syscall(SYS_capset, &header, none) == 0 ? 0 : errno;
}

unsigned long sandbox_clone_flags(const struct sandbox_report *report, enum sandbox_profile profile)
{
    if (profile == SANDBOX_NONE || !report->namespaces)
        return 0;
    return CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
           (report->user_namespace ? CLONE_NEWUSER : 0);
}

static int walls(const struct confinement *confinement, const struct sandbox_origin *origin)
{
    const struct sandbox_report *report = origin->report;
    const char *const *paths =
        confinement->read_paths ? confinement->read_paths : SANDBOX_SYSTEM_PATHS;
    bool code = confinement->profile == SANDBOX_CODE;
    int error = 0;
    if (report->user_namespace)
        error = user_map(origin->uid, origin->gid);
    if (!error && code && report->namespaces)
        error = sandbox_view_enter(paths);
    if (!error)
        error = limit_all(confinement);
    /* An EXTRACTOR's loader may need root's eyes: a program in a folder that is root's alone. */
    if (!error && code)
        error = sandbox_drop_rights();
    if (!error && code && report->landlock)
        error = sandbox_landlock_enter(report->landlock, paths);
    return error;
}

int sandbox_enter(const struct confinement *confinement, const struct sandbox_origin *origin)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return errno;
    int error = 0;
    if (confinement && confinement->profile != SANDBOX_NONE)
        error = walls(confinement, origin);
    else if (confinement)
        error = limit_all(confinement);
    return error ? error : die_with_parent(origin->alive_fd);
}

int sandbox_filter_install(const struct sock_fprog *filter)
{
    return prctl(PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, filter, 0, 0) == 0 ? 0 : errno;
}

int sandbox_lock(void)
{
    const struct sock_fprog *filter = sandbox_filter(SANDBOX_EXTRACTOR);
    int abi = sandbox_landlock_abi();
    if (!filter)
        return ENOSYS;
    int error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno;
    if (!error)
        error = sandbox_drop_rights();
    if (!error && abi)
        error = sandbox_landlock_enter(abi, NULL);
    if (!error)
        error = die_with_parent(STDOUT_FILENO); /* the server is who reads it */
    return error ? error : sandbox_filter_install(filter);
}

enum rc sandbox_check(enum sandbox_profile profile, struct err *err)
{
    if (profile == SANDBOX_NONE)
        return RC_OK;
    const char *reason = sandbox_self_test()->refused[profile];
    if (!reason[0])
        return RC_OK;
    return err_set(err, ERR_FORBIDDEN, "children cannot be confined here: %s", reason);
}
