/* The built-in sentence encoder: BERT-type checkpoints (MiniLM, E5, BGE; safetensors with their
 * config.json and vocabulary) run in this process by kernels of our own. Texts of any length: what
 * is longer than the model's window is encoded in windows and pooled, nothing is cut.
 *
 * Functions block and use the CPU: they are for workers. An encoder is immutable and may be used by
 * many threads at once; each call runs on the calling thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

enum encoder_precision { ENCODER_F32, ENCODER_BF16, ENCODER_INT8 };

struct encoder;
/* `folder` holds model.safetensors, config.json, vocab.txt or tokenizer.json. RC_CORRUPT,
 * RC_INVALID: the architecture is another one (err says which and what can be used). */
enum rc encoder_open(const char *folder, enum encoder_precision precision, struct encoder **out,
                     struct err *err) MUST_CHECK;
void encoder_close(struct encoder *encoder);

unsigned encoder_dimension(const struct encoder *encoder);
unsigned encoder_window_tokens(const struct encoder *encoder); /* 256 for all-MiniLM-L6-v2 */
const char *encoder_pooling(const struct encoder *encoder);    /* "mean", "cls", "rank" */
uint64_t encoder_parameters(const struct encoder *encoder);
const uint8_t *encoder_sha256(const struct encoder *encoder); /* of its weights, 32 bytes */

/* Tokens of a text without the special ones: for chunking and usage. Any thread. */
size_t encoder_count_tokens(const struct encoder *encoder, struct str text);

/* Unit-length vectors, count × dimension, in the order of the texts. *tokens (may be NULL): how
 * many were encoded. */
enum rc encoder_encode(const struct encoder *encoder, const struct str *texts, size_t count,
                       float *vectors, uint64_t *tokens, struct err *err) MUST_CHECK;

/* Cross-encoders (a sequence classifier with one output) only: a relevance score for each text. */
bool encoder_is_reranker(const struct encoder *encoder);
enum rc encoder_rank(const struct encoder *encoder, struct str query, const struct str *texts,
                     size_t count, float *scores, struct err *err) MUST_CHECK;

/* The encoders of the model folder (each in a folder of its name), opened on first use, one copy
 * each. A name may say the precision: "all-minilm-l6-v2:int8", ":bf16"; f32 is the default. Some
 * models want a prefix before queries or passages (E5: "query: ", "passage: "; BGE: an instruction
 * before queries): the caller adds it. */
struct encoders;
struct encoders *encoders_new(struct str model_folder);
void encoders_free(struct encoders *encoders);
/* Are its files there? Looks at the folder only. */
bool encoders_has(const struct encoders *encoders, struct str name);
/* Blocks while it loads. NULL name: the default one (all-minilm-l6-v2). ERR_MODEL_NOT_FOUND says
 * `capstan model pull NAME`. Each get needs a put. */
enum rc encoders_get(struct encoders *encoders, struct str name, struct encoder **out,
                     struct err *err) MUST_CHECK;
void encoders_put(struct encoders *encoders, struct encoder *encoder);
/* Frees those that nobody has used for ten minutes. To be called now and then; any thread. */
void encoders_close_unused(struct encoders *encoders);
