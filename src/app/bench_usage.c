/* What processes have used, from /proc. Nanoseconds of each thread from schedstat, where the kernel
 * keeps it; else clock ticks from stat. */
#include "app/bench.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static ssize_t read_text(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t got = read(fd, out, n - 1);
    close(fd);
    if (got >= 0)
        out[got] = '\0';
    return got;
}

/* utime and stime: the 14th and 15th field; the second may hold spaces, within brackets. */
static int64_t ticks_ns(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (read_text(path, text, sizeof(text)) <= 0)
        return 0;
    const char *behind = strrchr(text, ')');
    unsigned long user = 0, system = 0;
    if (!behind || sscanf(behind + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                          &system) != 2)
        return 0;
    return (int64_t)(user + system) * (1000000000 / sysconf(_SC_CLK_TCK));
}

static int64_t threads_ns(pid_t pid)
{
    char path[300];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return -1;
    int64_t sum = 0;
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        char text[128];
        unsigned long long ran = 0;
        snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", (int)pid, entry->d_name);
        if (entry->d_name[0] != '.' && read_text(path, text, sizeof(text)) > 0 &&
            sscanf(text, "%llu", &ran) == 1)
            sum += (int64_t)ran;
    }
    closedir(folder);
    return sum;
}

static int64_t resident(pid_t pid)
{
    char path[64], text[128];
    long total = 0, pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    if (read_text(path, text, sizeof(text)) <= 0 || sscanf(text, "%ld %ld", &total, &pages) != 2)
        return 0;
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

enum rc bench_usage_read(const pid_t *pids, size_t count, struct bench_usage *out)
{
    *out = (struct bench_usage){0};
    for (size_t i = 0; i < count; i++) {
        int64_t ns = threads_ns(pids[i]);
        if (ns < 0)
            return RC_NOT_FOUND;
        out->cpu_ns += ns ? ns : ticks_ns(pids[i]);
        out->resident_bytes += resident(pids[i]);
    }
    return RC_OK;
}
