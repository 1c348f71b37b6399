/* What every simulation shares: running seeds, and naming the one that failed. */
#pragma once
#include "io/loop_sim.h"

/* Runs one simulation; fails by SIM_CHECK. */
typedef void sim_case(uint64_t seed);

/* SIM_SEEDS: how many (else `seeds_default`); SIM_SEED: this one alone, to repeat a failure. */
int sim_main(sim_case *run, uint64_t seeds_default);

/* Faults for a seed: two in three a bad network on which all must still succeed, else one that also
 * loses connections. `lossy` says which. */
struct sim_faults sim_faults_for(struct loop *loop, bool *lossy);

void sim_failed(const char *file, int line, const char *what);
#define SIM_CHECK(x) ((x) ? (void)0 : sim_failed(__FILE__, __LINE__, #x))
