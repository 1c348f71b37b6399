/* Randomness behind an interface. Secrets always come from the kernel. */
#pragma once
#include "base/base.h"

void rand_secret(void *out, size_t n); /* getrandom(2); never overridden */
uint64_t rand_u64(void);               /* fast, per thread, for jitter, ids and balancing */
uint64_t rand_below(uint64_t n);       /* 0 … n-1, unbiased; n > 0 */
double rand_unit(void);                /* [0, 1) */
/* Makes this thread's rand_u64 a deterministic sequence: for tests and simulation. */
void rand_seed(uint64_t seed);
