/* LEB128 numbers of 32 bits, as the word index stores them. */
#pragma once
#include "base/base.h"

#define VARINT_BYTES_MAX 5

static inline size_t varint_put(uint8_t *out, uint32_t value)
{
    size_t n = 0;
    while (value >= 0x80) {
        out[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t)value;
    return n;
}

/* The number at *p, which moves past it; 0 and *p = end when it is cut off. */
static inline uint32_t varint_get(const uint8_t **p, const uint8_t *end)
{
    uint32_t value = 0;
    for (unsigned shift = 0; *p < end && shift < 35; shift += 7) {
        uint8_t byte = *(*p)++;
        value |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    *p = end;
    return 0;
}
