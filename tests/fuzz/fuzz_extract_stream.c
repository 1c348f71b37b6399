/* The stream from the extractor's child, as a child that was taken over might write it: no answer
 * may break its reader, and what is accepted must be fit to be cut. */
#include "knowledge/chunk.h"
#include "knowledge/extract_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena arena;
    struct extracted document;
    struct extract_limits limits;
    struct err err = {0};
    struct chunk *chunks;
    size_t count;
    arena_init(&arena, 64 << 20);
    extract_limits_fill(&limits, &(struct extract_limits){.text_bytes = 1 << 20});
    struct str bytes = arena_copy(&arena, str_make(data, n)); /* aligned, as the server's is */
    ASSERT(bytes.p);
    if (extract_stream_read(bytes, &limits, &document, &err) == RC_OK)
        for (unsigned i = 0; i <= CHUNK_STATIC; i++) {
            struct chunk_options options = {.strategy = i, .tokens_max = 1 + (unsigned)n % 50};
            if (chunk_document(&document, &options, &arena, &chunks, &count, &err) == RC_OK)
                for (size_t k = 0; k < count; k++)
                    ASSERT(chunks[k].end <= document.text.n && chunks[k].begin < chunks[k].end);
        }
    else
        ASSERT(err.code != ERR_NONE);
    arena_fini(&arena);
    return 0;
}
