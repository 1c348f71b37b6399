/* Token sequences that go through the model together, one behind the other without padding. */
#pragma once
#include "base/base.h"

struct sequences {
    uint32_t *ids;    /* below the vocabulary's size */
    uint8_t *types;   /* 0, or 1: the second text of a pair */
    uint32_t *starts; /* of each sequence, and where the last one ends: sequence_count + 1 */
    size_t token_count, sequence_count;
};
