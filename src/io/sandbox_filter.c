/* The system calls that a confined child may make: one allow-list per profile, made into a seccomp
 * program by libseccomp. What is not on the list fails with EPERM, so that a library which merely
 * asks can go on; what no honest program calls ends the child at once, which shows in its status.
 *
 * Calls that libseccomp does not know on this machine are skipped: they are then refused. */
#include "io/sandbox_private.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#define CALL(name) SCMP_SYS(name)

/* Both profiles: read and write what is open, allocate, tell the time, end. */
static const int COMMON[] = {
    CALL(read),
    CALL(write),
    CALL(readv),
    CALL(writev),
    CALL(pread64),
    CALL(lseek),
    CALL(close),
    CALL(fstat),
    CALL(munmap),
    CALL(mremap),
    CALL(madvise),
    CALL(brk),
    CALL(futex),
    CALL(getrandom),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(gettimeofday),
    CALL(nanosleep),
    CALL(clock_nanosleep),
    CALL(poll),
    CALL(ppoll),
    CALL(rt_sigreturn),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(sigaltstack),
    CALL(restart_syscall),
    CALL(exit),
    CALL(exit_group),
    CALL(getpid),
    CALL(gettid),
    CALL(getppid),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(rseq),
    CALL(set_robust_list),
    CALL(membarrier),
    CALL(sched_yield),
    CALL(time),
};

/* Any program: also open (the view and Landlock say what), map code, wait, run threads. */
static const int PROGRAM[] = {
    CALL(open),
    CALL(openat),
    CALL(openat2),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(stat),
    CALL(lstat),
    CALL(newfstatat),
    CALL(statx),
    CALL(statfs),
    CALL(fstatfs),
    CALL(readlink),
    CALL(readlinkat),
    CALL(getdents64),
    CALL(getcwd),
    CALL(chdir),
    CALL(fchdir),
    CALL(fcntl),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(pipe),
    CALL(pipe2),
    CALL(eventfd2),
    CALL(epoll_create1),
    CALL(epoll_create),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(epoll_pwait2),
    CALL(select),
    CALL(pselect6),
    CALL(timerfd_create),
    CALL(timerfd_settime),
    CALL(timerfd_gettime),
    CALL(mmap),
    CALL(mprotect),
    CALL(mincore),
    CALL(mlock),
    CALL(munlock),
    CALL(set_tid_address),
    CALL(arch_prctl),
    CALL(getrlimit),
    CALL(getrusage),
    CALL(times),
    CALL(sysinfo),
    CALL(uname),
    CALL(getpgrp),
    CALL(getpgid),
    CALL(getsid),
    CALL(getgroups),
    CALL(getresuid),
    CALL(getresgid),
    CALL(capget),
    CALL(getpriority),
    CALL(sched_getaffinity),
    CALL(sched_getparam),
    CALL(sched_getscheduler),
    CALL(sched_get_priority_max),
    CALL(sched_get_priority_min),
    CALL(getcpu),
    CALL(pwrite64),
    CALL(preadv),
    CALL(preadv2),
    CALL(fadvise64),
    CALL(readahead),
    CALL(rt_sigtimedwait),
    CALL(rt_sigpending),
    CALL(rt_sigsuspend),
    CALL(pause),
    CALL(alarm),
    CALL(setitimer),
    CALL(getitimer),
    CALL(umask),
    CALL(wait4),
    CALL(waitid),
    CALL(inotify_init1),
    CALL(signalfd4),
    CALL(get_robust_list),
    CALL(sendfile),
    CALL(copy_file_range),
};

/* Nothing that reads a document or runs a flow has a use for these. */
static const int ATTACK[] = {
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(chroot),
    CALL(unshare),
    CALL(setns),
    CALL(bpf),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(init_module),
    CALL(finit_module),
    CALL(delete_module),
    CALL(kexec_load),
    CALL(kexec_file_load),
    CALL(reboot),
    CALL(swapon),
    CALL(swapoff),
    CALL(add_key),
    CALL(request_key),
    CALL(keyctl),
    CALL(open_by_handle_at),
    CALL(fsopen),
    CALL(fsmount),
    CALL(move_mount),
    CALL(open_tree),
    CALL(mount_setattr),
    CALL(kcmp),
    CALL(pidfd_getfd),
    CALL(acct),
    CALL(settimeofday),
    CALL(clock_settime),
    CALL(adjtimex),
    CALL(iopl),
    CALL(ioperm),
    CALL(syslog),
    CALL(quotactl),
    CALL(lookup_dcookie),
};

static bool rule(scmp_filter_ctx filter, uint32_t action, int call)
{
    int rc = seccomp_rule_add(filter, action, call, 0);
    return rc == 0 || rc == -EDOM || rc == -EINVAL; /* not on this machine */
}

static bool rules(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (calls[i] != __NR_SCMP_ERROR && !rule(filter, action, calls[i]))
            return false;
    return true;
}

/* Allowed when argument `index`, masked, is `value`. */
static bool rule_when(scmp_filter_ctx filter, int call, unsigned index, uint64_t mask,
                      uint64_t value)
{
    struct scmp_arg_cmp when = SCMP_CMP(index, SCMP_CMP_MASKED_EQ, mask, value);
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &when) == 0;
}

/* Memory of one's own, never to be executed. */
static bool rules_of_extractor(scmp_filter_ctx filter)
{
    struct scmp_arg_cmp private_data[] = {
        SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
        SCMP_CMP(3, SCMP_CMP_MASKED_EQ, MAP_SHARED | MAP_PRIVATE, MAP_PRIVATE),
    };
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, CALL(mmap), 2, private_data) == 0 &&
           rule_when(filter, CALL(mprotect), 2, PROT_EXEC, 0);
}

static bool rules_of_code(scmp_filter_ctx filter)
{
    bool ok = rules(filter, SCMP_ACT_ALLOW, PROGRAM, COUNT_OF(PROGRAM));
    /* Threads, but no processes: the flags of pthread_create. clone3 keeps its flags in memory,
     * where a filter cannot look; told that it does not exist, libraries use clone. */
    const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    ok = ok && rule_when(filter, CALL(clone), 0, thread | CLONE_NEWUSER, thread);
    ok = ok && seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0) == 0;
    /* The program itself is started by its descriptor; execve stays refused. */
    ok = ok && rule_when(filter, CALL(execveat), 4, AT_EMPTY_PATH, AT_EMPTY_PATH);
    const uint64_t ioctls[] = {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX};
    for (size_t i = 0; i < COUNT_OF(ioctls); i++)
        ok = ok && rule_when(filter, CALL(ioctl), 1, UINT32_MAX, ioctls[i]);
    const uint64_t prctls[] = {PR_SET_NAME,         PR_GET_NAME,     PR_GET_DUMPABLE,
                               PR_GET_NO_NEW_PRIVS, PR_CAPBSET_READ, 0x53564d41 /* PR_SET_VMA */};
    for (size_t i = 0; i < COUNT_OF(prctls); i++)
        ok = ok && rule_when(filter, CALL(prctl), 0, UINT32_MAX, prctls[i]);
    /* Its own limits, which it cannot raise. */
    return ok && rule_when(filter, CALL(prlimit64), 0, UINT32_MAX, 0);
}

/* The finished program, read back through a pipe-like file in memory. */
static bool export(scmp_filter_ctx filter, struct sock_fprog *out)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    off_t bytes = 0;
    bool ok = fd >= 0 && seccomp_export_bpf(filter, fd) == 0 &&
              (bytes = lseek(fd, 0, SEEK_CUR)) > 0 && lseek(fd, 0, SEEK_SET) == 0;
    if (ok) {
        out->filter = xmalloc((size_t)bytes);
        out->len = (unsigned short)((size_t)bytes / sizeof(struct sock_filter));
        ok = read(fd, out->filter, (size_t)bytes) == bytes;
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

static struct sock_fprog filters[SANDBOX_PROFILE_COUNT];
static bool filter_built[SANDBOX_PROFILE_COUNT];
static pthread_mutex_t filters_mutex = PTHREAD_MUTEX_INITIALIZER;

static void filter_build(enum sandbox_profile profile)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return;
    bool ok = rules(filter, SCMP_ACT_ALLOW, COMMON, COUNT_OF(COMMON)) &&
              rules(filter, SCMP_ACT_KILL_PROCESS, ATTACK, COUNT_OF(ATTACK)) &&
              seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 &&
              seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0;
    ok = ok && (profile == SANDBOX_CODE ? rules_of_code(filter) : rules_of_extractor(filter));
    filter_built[profile] = ok && export(filter, &filters[profile]);
    seccomp_release(filter);
}

const struct sock_fprog *sandbox_filter(enum sandbox_profile profile)
{
    pthread_mutex_lock(&filters_mutex);
    if (!filters[profile].filter)
        filter_build(profile);
    const struct sock_fprog *filter = filter_built[profile] ? &filters[profile] : NULL;
    pthread_mutex_unlock(&filters_mutex);
    return filter;
}
