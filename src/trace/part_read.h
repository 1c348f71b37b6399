/* What building a part needs of reading one; private to src/trace. */
#pragma once
#include "trace/part.h"
#include "trace/part_format.h"

/* The i-th compressed block, verified; RC_END behind the last. */
enum rc part_block(const struct part *part, uint32_t i, struct block_disk *block,
                   const void **p) MUST_CHECK;

/* The first 8 bytes of an id in their order (of a UUIDv7: its time). */
static inline uint64_t id_prefix(const uint8_t id[16])
{
    uint64_t prefix;
    memcpy(&prefix, id, 8);
    return __builtin_bswap64(prefix);
}
