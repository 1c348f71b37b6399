/* Reads what a GGUF model file says about itself: the header's key-value pairs, not the weights.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
 * little-endian. The bytes come from outside: every length is checked against the file. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

struct gguf_info {
    struct str architecture; /* "llama", "qwen3", "nomic-bert" … */
    struct str name;
    struct str licence;
    struct str quantization; /* "Q4_1", … from general.file_type; empty: unknown */
    struct str chat_template;
    struct str pooling;        /* "mean", "cls", "last", "rank"; empty: not an embedding model */
    uint64_t parameter_count;  /* summed over the tensors */
    uint64_t tensor_bytes_end; /* the file must be at least as long */
    uint32_t context_tokens;   /* trained for; 0: not told */
    uint32_t embedding_length;
    uint32_t vocabulary;
    bool template_has_tools;
};

/* `data` is the start of the file (mapped whole, or a prefix that holds the header), `file_bytes`
 * the file's size. RC_INVALID: not a GGUF file; RC_CORRUPT: cut off or inconsistent. Texts are
 * copied. */
enum rc gguf_read(struct str data, uint64_t file_bytes, struct arena *arena, struct gguf_info *out,
                  struct err *err) MUST_CHECK;
