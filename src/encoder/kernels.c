/* Which kernels this processor runs. */
#include "encoder/kernels.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct kernels *usable[8];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void add(const struct kernels *kernels, bool possible)
{
    const char *only = getenv("CAPSTAN_ENCODER_KERNELS");
    size_t n = 0;
    while (usable[n])
        n++;
    if (possible && (!only || strcmp(only, kernels->name) == 0))
        usable[n] = kernels;
}

static void find_usable(void)
{
#ifdef __x86_64__
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    add(&KERNELS_AVX512_BF16, vnni && __builtin_cpu_supports("avx512bf16"));
    add(&KERNELS_AVX512_VNNI, vnni);
    add(&KERNELS_AVX512, avx512);
    add(&KERNELS_AVX2, avx2);
#endif
    add(&KERNELS_BASIC, true);
    if (!usable[0]) /* the name asked for is not one of them */
        usable[0] = &KERNELS_BASIC;
}

const struct kernels *const *kernels_usable(void)
{
    pthread_once(&once, find_usable);
    return usable;
}
