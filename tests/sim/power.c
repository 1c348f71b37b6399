/* See power.h. */
#include "power.h"
#include "base/log.h"
#include "base/rand.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LIVES_MAX           5
#define SEEDS_DEFAULT       300
#define SEEDS_WITHOUT_SYNCS 60

bool power_problem(struct power_history *history, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (history->problem[0] == '\0')
        vsnprintf(history->problem, sizeof(history->problem), fmt, args);
    va_end(args);
    return false;
}

static bool run(const struct power_sim *sim, uint64_t seed, bool ignore_syncs, char message[256])
{
    struct power_history *history = xcalloc(1, sim->history_bytes);
    history->fs = file_system_memory_new(seed);
    rand_seed(seed * 7919 + 1);
    enum rc rc = file_make_directory(history->fs, "/data");
    bool good = rc == RC_OK && file_sync_directory(history->fs, "") == RC_OK;
    if (ignore_syncs)
        file_system_ignore_syncs(history->fs);
    for (int life = 0; good && life < LIVES_MAX; life++)
        good = sim->live(history);
    memcpy(message, history->problem, sizeof(history->problem));
    file_system_free(history->fs);
    free(history);
    return good;
}

int power_main(const struct power_sim *sim)
{
    char message[256];
    const char *one = getenv("SIM_SEED"), *many = getenv("SIM_SEEDS");
    if (!getenv("SIM_LOG"))
        log_set_level(LOG_ERROR + 1);
    if (one) {
        bool good = run(sim, strtoull(one, NULL, 10), getenv("SIM_NO_SYNCS") != NULL, message);
        printf("seed %s: %s\n", one, good ? "good" : message);
        return !good;
    }
    uint64_t seeds = many ? strtoull(many, NULL, 10) : SEEDS_DEFAULT, failed = 0;
    for (uint64_t seed = 0; seed < seeds; seed++) {
        if (run(sim, seed, false, message))
            continue;
        failed++;
        printf("SIM_SEED=%" PRIu64 ": %s\n", seed, message);
    }
    int found_out = 0;
    for (uint64_t seed = 0; seed < SEEDS_WITHOUT_SYNCS; seed++)
        found_out += !run(sim, seed, true, message);
    printf("%" PRIu64 " histories, %" PRIu64 " broke a promise; without syncs %d of %d did\n",
           seeds, failed, found_out, SEEDS_WITHOUT_SYNCS);
    return failed > 0 || found_out < SEEDS_WITHOUT_SYNCS / 2;
}
