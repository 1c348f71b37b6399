/* The fast implementation: a checkpoint's weights packed for the kernels of this machine's
 * processor (kernels.h). Immutable; any number of threads may run it at once. */
#pragma once
#include "encoder/checkpoint.h"
#include "encoder/encoder.h"
#include "encoder/sequences.h"

struct forward;

/* `checkpoint` must stay: embeddings and norms are read from it. */
enum rc forward_new(const struct checkpoint *checkpoint, enum encoder_precision precision,
                    struct forward **out, struct err *err) MUST_CHECK;
void forward_free(struct forward *forward);
/* The last layer's output: hidden × token_count. */
enum rc forward_run(const struct forward *forward, const struct sequences *sequences, float *hidden,
                    struct err *err) MUST_CHECK;
