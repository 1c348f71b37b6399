/* xoshiro256** (Blackman and Vigna, 2018) per thread, seeded from the kernel at first use. Secrets
 * do not come from it. */
#include "base/rand.h"
#include <errno.h>
#include <sys/random.h>

static __thread uint64_t state[4];
static __thread bool seeded;

void rand_secret(void *out, size_t n)
{
    for (char *p = out; n > 0;) {
        ssize_t got = getrandom(p, n, 0);
        ASSERT(got > 0 || errno == EINTR);
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

/* splitmix64: spreads a seed of any quality over the state, which must not be all zero. */
void rand_seed(uint64_t seed)
{
    for (size_t i = 0; i < COUNT_OF(state); i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        state[i] = z ^ (z >> 31);
    }
    seeded = true;
}

static uint64_t rotate_left(uint64_t x, int by) { return x << by | x >> (64 - by); }

uint64_t rand_u64(void)
{
    if (UNLIKELY(!seeded)) {
        uint64_t seed;
        rand_secret(&seed, sizeof(seed));
        rand_seed(seed);
    }
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

/* Lemire, "Fast random integer generation in an interval": the high half of a product, with the few
 * low values rejected that would be over-represented. */
uint64_t rand_below(uint64_t n)
{
    ASSERT(n > 0);
    unsigned __int128 product = (unsigned __int128)rand_u64() * n;
    if ((uint64_t)product < n) {
        uint64_t threshold = -n % n;
        while ((uint64_t)product < threshold)
            product = (unsigned __int128)rand_u64() * n;
    }
    return (uint64_t)(product >> 64);
}

double rand_unit(void) { return (double)(rand_u64() >> 11) * 0x1.0p-53; }
