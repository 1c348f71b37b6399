/* Packed streams: any bytes are refused or unpack to what was announced; any bytes, packed in
 * pieces of any size, unpack to themselves. */
#include "trace/stream_pack.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define UNPACKED_BYTES_MAX (1 << 20)

static char *unpack(struct str packed, size_t *n)
{
    if (stream_unpacked_bytes(packed, UNPACKED_BYTES_MAX, n) != RC_OK)
        return NULL;
    char *out = malloc(*n + 1);
    ASSERT(out);
    stream_unpack(packed, out);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t got;
    free(unpack(str_make(data, n), &got));

    struct stream_pack pack;
    stream_pack_init(&pack, 4 * UNPACKED_BYTES_MAX);
    size_t piece = n ? (size_t)data[0] * 3 + 1 : 1;
    for (size_t at = 0; at < n; at += piece)
        ASSERT(stream_pack_add(&pack, str_make(data + at, MIN(piece, n - at))) == RC_OK);
    ASSERT(pack.bytes == n);
    if (n < UNPACKED_BYTES_MAX) {
        char *out = unpack(buf_str(&pack.out), &got);
        ASSERT(out && got == n && (n == 0 || memcmp(out, data, n) == 0));
        free(out);
    }
    stream_pack_fini(&pack);
    return 0;
}
