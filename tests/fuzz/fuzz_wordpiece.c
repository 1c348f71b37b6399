/* The tokenizer on any bytes: the first byte chooses its options and what the bytes are, a text to
 * encode or a vocabulary. */
#include "encoder/wordpiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char LINES[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##a\n##b\nab\n##ab\n.\n[\n]\n"
    "e\n##e\n\xe6\x9d\xb1\n\xd0\xb8\n##\xd0\xb8\n";

static void encode(const struct wordpiece *w, struct str text)
{
    struct wordpiece_tokens tokens = {0};
    if (wordpiece_encode(w, text, &tokens, NULL) == RC_OK) {
        ASSERT(tokens.count == wordpiece_count(w, text) && tokens.count <= text.n);
        for (size_t i = 0; i < tokens.count; i++)
            ASSERT(tokens.ids[i] < wordpiece_vocabulary_count(w));
    }
    wordpiece_tokens_fini(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct wordpiece *w;
    struct err err;
    if (n == 0)
        return 0;
    const struct wordpiece_options options = {.fold = data[0] & 1, .ideographs_apart = data[0] & 2};
    struct str bytes = str_make(data + 1, n - 1);
    bool vocabulary = data[0] & 4;
    struct str lines = vocabulary ? bytes : str_from(LINES);
    if (wordpiece_new(lines, &options, &w, &err) != RC_OK)
        return 0;
    encode(w, bytes);
    wordpiece_free(w);
    return 0;
}
