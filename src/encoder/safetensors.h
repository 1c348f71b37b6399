/* The safetensors format: eight bytes with the header's length, a JSON header that names each
 * tensor with its type, shape and place, then the data. Bytes from outside: everything is checked
 * against what is there. Reads from memory, usually a mapped file; any thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

enum safetensors_type {
    SAFETENSORS_OTHER, /* I64 positions and the like: listed, not read */
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
};

#define SAFETENSORS_DIMENSIONS_MAX 4

struct safetensor {
    struct str name;
    enum safetensors_type type;
    unsigned dimension_count;
    uint64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    uint64_t elements;
    const uint8_t *data; /* inside the file; may be unaligned */
    uint64_t bytes;
};

struct safetensors {
    struct safetensor *tensors; /* in the arena */
    size_t count;
};

/* `file` must stay as long as the tensors are used. RC_CORRUPT with what is wrong. */
enum rc safetensors_read(struct str file, struct arena *arena, struct safetensors *out,
                         struct err *err) MUST_CHECK;
/* NULL: not there. */
const struct safetensor *safetensors_find(const struct safetensors *tensors, struct str name);
/* All elements as f32; `out` has room for tensor->elements. Not for SAFETENSORS_OTHER. */
void safetensors_to_f32(const struct safetensor *tensor, float *out);
