/* Blocks of up to 128 numbers, bit-packed. A full block lies in eight lanes, so that eight numbers
 * are unpacked at a time; row numbers are stored as distances to the eighth before, so that the
 * running sum needs no shuffles. A shorter block is packed number after number. */
#pragma once
#include "base/base.h"

#define WORDS_BLOCK_ROWS 128
#define WORDS_PACK_SLACK 16 /* bytes that may be read behind a block */

/* Least bits that hold all of them; 0 … 32. */
unsigned words_pack_bits(const uint32_t *values, size_t n);
static inline size_t words_pack_bytes(size_t n, unsigned bits)
{
    /* Sixteen numbers a lane: an odd width leaves half a word of each lane unused. */
    return n == WORDS_BLOCK_ROWS ? (bits + 1) / 2 * 32 : (n * bits + 7) / 8;
}
/* Writes words_pack_bytes(n, bits), which `out` has and WORDS_PACK_SLACK more. */
void words_pack(const uint32_t *values, size_t n, unsigned bits, uint8_t *out);
/* `out` has room for WORDS_BLOCK_ROWS. */
void words_unpack(const uint8_t *in, size_t n, unsigned bits, uint32_t *out);
/* Distances from rows, all ≥ base and rising; and back, in place: returns the greatest row. */
void words_pack_distances(const uint32_t *rows, size_t n, uint32_t base, uint32_t *out);
uint32_t words_unpack_distances(uint32_t *rows, size_t n, uint32_t base);
