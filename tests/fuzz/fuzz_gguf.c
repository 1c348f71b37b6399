/* The GGUF reader on any bytes. */
#include "model/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct gguf_info info;
    struct err err;
    arena_init(&arena, 1 << 20);
    if (gguf_read(str_make(data, n), n, &arena, &info, &err) == RC_OK)
        ASSERT(info.tensor_bytes_end <= n && info.architecture.n > 0);
    arena_fini(&arena);
    return 0;
}
