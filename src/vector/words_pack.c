/* See words_pack.h. One routine for each width, unrolled by the compiler; AVX2 is picked at run
 * time, elsewhere the eight lanes are two of four (SSE2, NEON). */
#include "vector/words_pack.h"
#include <string.h>

typedef uint32_t lanes __attribute__((vector_size(32)));

#define LANES 8
#define STEPS (WORDS_BLOCK_ROWS / LANES)

unsigned words_pack_bits(const uint32_t *values, size_t n)
{
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= values[i];
    return all ? 32 - (unsigned)__builtin_clz(all) : 0;
}

static void put_bits(uint8_t *out, size_t bit, unsigned bits, uint32_t value)
{
    uint64_t word;
    memcpy(&word, out + bit / 8, sizeof(word));
    word |= ((uint64_t)value & ((1ull << bits) - 1)) << (bit % 8);
    memcpy(out + bit / 8, &word, sizeof(word));
}

/* Number i of a full block starts at bit (i / 8) · bits of lane i % 8; a lane has its 32-bit words
 * every 32 bytes. */
static void pack_full(const uint32_t *values, unsigned bits, uint8_t *out)
{
    uint32_t words[WORDS_BLOCK_ROWS] = {0};
    for (size_t i = 0; i < WORDS_BLOCK_ROWS; i++) {
        size_t bit = i / LANES * bits, word = bit / 32, lane = i % LANES;
        uint64_t shifted = (uint64_t)values[i] << (bit % 32);
        words[word * LANES + lane] |= (uint32_t)shifted;
        if (bit % 32 + bits > 32)
            words[(word + 1) * LANES + lane] |= (uint32_t)(shifted >> 32);
    }
    memcpy(out, words, words_pack_bytes(WORDS_BLOCK_ROWS, bits));
}

void words_pack(const uint32_t *values, size_t n, unsigned bits, uint8_t *out)
{
    if (bits == 0)
        return;
    if (n == WORDS_BLOCK_ROWS) {
        pack_full(values, bits, out);
        return;
    }
    memset(out, 0, words_pack_bytes(n, bits) + sizeof(uint64_t));
    for (size_t i = 0; i < n; i++)
        put_bits(out, i * bits, bits, values[i]);
}

static inline __attribute__((always_inline)) void unpack_width(const uint8_t *in, unsigned bits,
                                                               uint32_t *out)
{
    uint32_t mask = bits == 32 ? UINT32_MAX : (1u << bits) - 1;
#pragma GCC unroll 16
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned bit = step * bits, word = bit / 32, shift = bit % 32;
        lanes v, next;
        memcpy(&v, in + word * sizeof(v), sizeof(v));
        v >>= shift;
        if (shift + bits > 32) {
            memcpy(&next, in + (word + 1) * sizeof(v), sizeof(next));
            v |= next << (32 - shift);
        }
        v &= mask;
        memcpy(out + step * LANES, &v, sizeof(v));
    }
}

#define WIDTH(n)                                                                                   \
    case n: unpack_width(in, n, out); break
#define WIDTHS4(n)                                                                                 \
    WIDTH(n);                                                                                      \
    WIDTH(n + 1);                                                                                  \
    WIDTH(n + 2);                                                                                  \
    WIDTH(n + 3)

static inline __attribute__((always_inline)) void unpack_full(const uint8_t *in, unsigned bits,
                                                              uint32_t *out)
{
    switch (bits) {
        WIDTHS4(1);
        WIDTHS4(5);
        WIDTHS4(9);
        WIDTHS4(13);
        WIDTHS4(17);
        WIDTHS4(21);
        WIDTHS4(25);
        WIDTHS4(29);
    default: memset(out, 0, WORDS_BLOCK_ROWS * sizeof(*out));
    }
}

static inline __attribute__((always_inline)) uint32_t sum_full(uint32_t *rows, uint32_t base)
{
    lanes sum = base - (lanes){0}, greatest = {0};
    for (unsigned step = 0; step < STEPS; step++) {
        lanes v;
        memcpy(&v, rows + step * LANES, sizeof(v));
        sum += v;
        lanes more = (lanes)(sum > greatest);
        greatest = (sum & more) | (greatest & ~more);
        memcpy(rows + step * LANES, &sum, sizeof(sum));
    }
    uint32_t of_all = 0;
    for (int i = 0; i < LANES; i++)
        of_all = MAX(of_all, greatest[i]);
    return of_all;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void unpack_full_avx2(const uint8_t *in, unsigned bits,
                                                             uint32_t *out)
{
    unpack_full(in, bits, out);
}

__attribute__((target("avx2"))) static uint32_t sum_full_avx2(uint32_t *rows, uint32_t base)
{
    return sum_full(rows, base);
}
#endif

static void unpack_full_plain(const uint8_t *in, unsigned bits, uint32_t *out)
{
    unpack_full(in, bits, out);
}

void words_unpack(const uint8_t *in, size_t n, unsigned bits, uint32_t *out)
{
    if (n == WORDS_BLOCK_ROWS) {
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2")) {
            unpack_full_avx2(in, bits, out);
            return;
        }
#endif
        unpack_full_plain(in, bits, out);
        return;
    }
    uint64_t mask = (1ull << bits) - 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t word;
        memcpy(&word, in + i * bits / 8, sizeof(word));
        out[i] = (uint32_t)(word >> (i * bits % 8) & mask);
    }
}

void words_pack_distances(const uint32_t *rows, size_t n, uint32_t base, uint32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = rows[i] - (i < LANES ? base : rows[i - LANES]);
}

uint32_t words_unpack_distances(uint32_t *rows, size_t n, uint32_t base)
{
    uint32_t greatest = 0;
    if (n == WORDS_BLOCK_ROWS) {
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2"))
            return sum_full_avx2(rows, base);
#endif
        return sum_full(rows, base);
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] += i < LANES ? base : rows[i - LANES];
        greatest = MAX(greatest, rows[i]);
    }
    return greatest;
}
