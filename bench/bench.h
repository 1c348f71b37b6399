/* What the benches written in C share: a line for each figure, and the same as JSON. */
#pragma once
#include "base/clock.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

static inline double bench_process_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline void bench_cpu_model(char out[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, 128, "unknown");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "model name : %127[^\n]", out) == 1)
            break;
    if (file)
        fclose(file);
}

/* Prints "NAME VALUE UNIT, YARDSTICK VALUE, ratio R" and writes it with machine and settings to
 * NAME.json in CAPSTAN_BENCH_FOLDER (default build/bench). `yardstick` NULL: the goal is a number.
 */
static inline void bench_report(const char *name, double value, const char *unit,
                                const char *yardstick, double yardstick_value, const char *settings)
{
    double ratio = yardstick_value != 0 ? value / yardstick_value : 0;
    printf("%s %.4g %s, %s %.4g, ratio %.3g\n", name, value, unit, yardstick, yardstick_value,
           ratio);
    fflush(stdout);
    const char *folder = getenv("CAPSTAN_BENCH_FOLDER");
    char path[4096], cpu[128];
    struct utsname machine;
    snprintf(path, sizeof(path), "%s/%s.json", folder ? folder : "build/bench", name);
    FILE *file = fopen(path, "w");
    if (!file)
        return;
    bench_cpu_model(cpu);
    uname(&machine);
    fprintf(file,
            "{\"name\":\"%s\",\"value\":%.6g,\"unit\":\"%s\",\"yardstick\":\"%s\",\"yardstick_"
            "value\":%.6g,"
            "\"ratio\":%.4g,\"settings\":\"%s\",\"version\":\"%s\",\"sqlite\":\"%s\","
            "\"machine\":{\"cpu\":\"%s\",\"cores\":%ld,\"system\":\"%s %s %s\"}}\n",
            name, value, unit, yardstick, yardstick_value, ratio, settings, CAPSTAN_VERSION,
            sqlite3_libversion(), cpu, sysconf(_SC_NPROCESSORS_ONLN), machine.sysname,
            machine.release, machine.machine);
    fclose(file);
}
