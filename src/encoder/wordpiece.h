/* WordPiece, as BERT's tokenizer does it: clean, set ideographs apart, fold case and accents, split
 * at spaces and punctuation, then the longest pieces of the vocabulary from the left. The same
 * tokens as the reference (PyPI tokenizers), for every code point, special tokens written in a text
 * ("[SEP]") included. Immutable once made: any thread. */
#pragma once
#include "base/err.h"

struct wordpiece;

struct wordpiece_options {
    bool fold; /* lower case and no accents: the uncased models */
    bool ideographs_apart;
};

/* A growing list of token ids. Zero-initialised; ends with wordpiece_tokens_fini. */
struct wordpiece_tokens {
    uint32_t *ids;
    size_t count, capacity;
};
void wordpiece_tokens_fini(struct wordpiece_tokens *tokens);

/* From the lines of a vocab.txt: the line's number is the token's id. ERR_INVALID: a special token
 * is missing, or it is no vocabulary. */
enum rc wordpiece_new(struct str lines, const struct wordpiece_options *options,
                      struct wordpiece **out, struct err *err) MUST_CHECK;
/* From a model folder: vocab.txt, tokenizer.json, tokenizer_config.json; one of the first two is
 * enough. */
enum rc wordpiece_open(const char *folder, struct wordpiece **out, struct err *err) MUST_CHECK;
void wordpiece_free(struct wordpiece *wordpiece);

size_t wordpiece_vocabulary_count(const struct wordpiece *wordpiece); /* ids are below it */
uint32_t wordpiece_cls(const struct wordpiece *wordpiece);
uint32_t wordpiece_sep(const struct wordpiece *wordpiece);
/* The token goes on with a word that began before it. */
bool wordpiece_continues(const struct wordpiece *wordpiece, uint32_t id);

/* Appends the text's tokens, without [CLS] and [SEP]. Bytes that are not UTF-8 are left out, as the
 * replacement character is. ERR_OVERLOADED: no memory. */
enum rc wordpiece_encode(const struct wordpiece *wordpiece, struct str text,
                         struct wordpiece_tokens *tokens, struct err *err) MUST_CHECK;
size_t wordpiece_count(const struct wordpiece *wordpiece, struct str text);
