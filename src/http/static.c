/* Looks up the console's embedded files. The table is made at build time and never changes, so any
 * thread may read it. */
#include "http/static.h"
#include <brotli/decode.h>
#include <stdlib.h>

static int compare_path(const void *key, const void *item)
{
    return str_cmp(*(const struct str *)key, ((const struct static_file *)item)->path);
}

const struct static_file *static_find(struct str path)
{
    return bsearch(&path, static_files, static_file_count, sizeof(static_files[0]), compare_path);
}

struct str static_unpack(const struct static_file *file, struct arena *arena)
{
    size_t n = file->bytes;
    uint8_t *out = arena_alloc(arena, n + 1);
    if (!out)
        return STR_EMPTY;
    BrotliDecoderResult result =
        BrotliDecoderDecompress(file->brotli.n, (const uint8_t *)file->brotli.p, &n, out);
    ASSERT(result == BROTLI_DECODER_RESULT_SUCCESS && n == file->bytes);
    return str_make(out, n);
}
