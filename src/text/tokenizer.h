/* Counting tokens with OpenAI's byte-pair vocabularies o200k and cl100k. For other models'
 * vocabularies the count is an estimate (and must be shown as one): o200k is taken.
 *
 * The ranks are embedded compressed (scripts/ranks) and unpacked at a vocabulary's first use: some
 * 30 ms and 4 MB each, once per process. Any thread; call tokenizer_load from one that may wait
 * before loops use it. */
#pragma once
#include "base/arena.h"

enum tokenizer { TOKENIZER_O200K, TOKENIZER_CL100K, TOKENIZER_COUNT };

/* The vocabulary of a model by its name ("gpt-4o", "openai/gpt-5"); *exact false: another vendor's.
 */
enum tokenizer tokenizer_of_model(struct str model, bool *exact);
/* Unpacks the vocabulary; RC_CORRUPT: the embedded data is damaged. Again and again at no cost. */
enum rc tokenizer_load(enum tokenizer tokenizer) MUST_CHECK;
/* Tokens of a text, special tokens read as plain text. Work is linear: a piece without any break is
 * cut after 512 bytes, which can count a few tokens more than the reference. Loads the vocabulary
 * if need be; falls back to a token per 4 bytes where that fails. */
size_t tokenizer_count(enum tokenizer tokenizer, struct str text);
/* The tokens themselves, in the arena. RC_LIMIT: its cap. */
enum rc tokenizer_encode(enum tokenizer tokenizer, struct str text, struct arena *arena,
                         uint32_t **tokens, size_t *count) MUST_CHECK;
