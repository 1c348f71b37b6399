/* The model's computation written down plainly: what the fast implementation is tested against. */
#pragma once
#include "encoder/checkpoint.h"
#include "encoder/sequences.h"

/* The last layer's output: hidden × token_count. Slow (seconds a text). */
enum rc reference_forward(const struct checkpoint *checkpoint, const struct sequences *sequences,
                          float *hidden, struct err *err) MUST_CHECK;
/* A reranker's raw score of a sequence from its first token's output. */
float reference_score(const struct checkpoint *checkpoint, const float *first);
