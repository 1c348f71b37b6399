/* The driver of the simulations. A failure, also an assertion's or a crash, prints the seed. */
#include "sim.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t seed_now;

static void say_seed(void)
{
    char text[96];
    int n = snprintf(text, sizeof(text), "repeat with SIM_SEED=%" PRIu64 "\n", seed_now);
    ssize_t written = write(STDERR_FILENO, text, (size_t)n);
    UNUSED(written);
}

void sim_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    say_seed();
    _exit(1);
}

static void on_crash(int signal)
{
    say_seed();
    _exit(128 + signal);
}

struct sim_faults sim_faults_for(struct loop *loop, bool *lossy)
{
    struct sim_faults faults = SIM_FAULTS_DEFAULT;
    faults.short_percent = (unsigned)loop_sim_below(loop, 90);
    faults.spurious_percent = (unsigned)loop_sim_below(loop, 20);
    faults.late_percent = (unsigned)loop_sim_below(loop, 20);
    faults.latency_ns_max = (int64_t)loop_sim_below(loop, 20 * 1000000);
    if (loop_sim_below(loop, 3) == 0)
        faults.window_bytes_max = 1 + loop_sim_below(loop, 100);
    *lossy = loop_sim_below(loop, 3) == 0;
    if (*lossy) {
        faults.reset_per_10000 = 1 + (unsigned)loop_sim_below(loop, 300);
        faults.refuse_percent = (unsigned)loop_sim_below(loop, 30);
        faults.lookup_fail_percent = (unsigned)loop_sim_below(loop, 20);
    }
    return faults;
}

int sim_main(sim_case *run, uint64_t seeds_default)
{
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    const char *one = getenv("SIM_SEED"), *many = getenv("SIM_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : seeds_default;
    for (seed_now = first; seed_now < first + count; seed_now++)
        run(seed_now);
    printf("%" PRIu64 " seeds passed\n", count);
    return 0;
}
