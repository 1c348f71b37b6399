/* The fast implementation: a checkpoint's weights packed for the kernels of this machine's
 * processor (kernels.h). Immutable; any number of threads may run it at once. */
#pragma once
#include "encoder/checkpoint.h"
#include "encoder/encoder.h"
#include "encoder/sequences.h"

struct forward;
struct kernels;

/* `checkpoint` must stay: embeddings and norms are read from it. */
enum rc forward_new(const struct checkpoint *checkpoint, enum encoder_precision precision,
                    struct forward **out, struct err *err) MUST_CHECK;
/* With these kernels (kernels.h) instead of the best ones: for tests. */
enum rc forward_new_with(const struct checkpoint *checkpoint, enum encoder_precision precision,
                         const struct kernels *kernels, struct forward **out,
                         struct err *err) MUST_CHECK;
/* What it computes in: f32 where the processor has nothing for less. */
enum encoder_precision forward_precision(const struct forward *forward);
void forward_free(struct forward *forward);
/* The last layer's output: hidden × token_count. */
enum rc forward_run(const struct forward *forward, const struct sequences *sequences, float *hidden,
                    struct err *err) MUST_CHECK;
