/* The safetensors reader on any bytes. */
#include "encoder/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct safetensors tensors;
    struct err err;
    arena_init(&arena, 1 << 20);
    if (safetensors_read(str_make(data, n), &arena, &tensors, &err) == RC_OK)
        for (size_t i = 0; i < tensors.count; i++) {
            const struct safetensor *t = &tensors.tensors[i];
            ASSERT(t->data >= data && t->data + t->bytes <= data + n);
            float *out = NULL;
            if (t->type != SAFETENSORS_OTHER && t->elements)
                out = arena_alloc(&arena, t->elements * sizeof(float));
            if (out)
                safetensors_to_f32(t, out);
        }
    arena_fini(&arena);
    return 0;
}
