/* Applies a profile to the process that calls it: between fork and exec, so nothing here allocates,
 * locks or logs. */
#include "io/sandbox.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

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

static int apply(const struct confinement *confinement)
{
    const struct {
        int resource;
        int64_t max;
    } limits[] = {
        {RLIMIT_CPU, confinement->cpu_s_max},        {RLIMIT_AS, confinement->address_bytes_max},
        {RLIMIT_FSIZE, confinement->file_bytes_max}, {RLIMIT_NOFILE, confinement->open_files_max},
        {RLIMIT_NPROC, confinement->processes_max},
    };
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        int error = limit(limits[i].resource, limits[i].max);
        if (error)
            return error;
    }
    if (confinement->no_core) {
        struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_CORE, &none) != 0)
            return errno;
    }
    errno = 0;
    if (confinement->nice > 0 && nice(confinement->nice) == -1 && errno)
        return errno;
    return 0;
}

int sandbox_enter(const struct confinement *confinement, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return errno;
    if (getppid() != parent) /* died before the signal was asked for */
        return ESRCH;
    return confinement ? apply(confinement) : 0;
}
