/* The inner loops of the model, one set for each kind of processor, picked at run time. All sets
 * are made from kernels_body.h at another vector width; reduced precisions add instructions of
 * their own.
 *
 * A linear layer's weights are packed in panels of `panel_columns` outputs: for each group of
 * inputs (one f32, two bf16 or four bytes: 32 bits) the panel's outputs side by side, so that a
 * tile reads them front to back. Outputs are padded to whole panels with zeros; rows of outputs are
 * therefore `stride` floats apart. Every row is summed in the same order, whatever rows stand
 * beside it. */
#pragma once
#include "base/base.h"
#include "encoder/encoder.h"

/* No set's panel is wider: strides and paddings are multiples of it. */
#define PANEL_COLUMNS_MAX 32
#define TILE_ROWS_MAX     12

struct packed {
    void *panels;
    float *bias;   /* of whole panels */
    float *scales; /* int8: of each output's weights */
    float *sums;   /* int8: of each output's weights, scaled */
    size_t in, out, panel_count;
};

/* A block's inputs in the precision of the weights, for the rows of one product. */
struct quantized_row {
    float scale, zero; /* value = scale · (level − zero) */
};

struct kernels {
    const char *name;
    size_t panel_columns, tile_rows;
    unsigned levels; /* int8: of an input, 127 or 255 */

    /* c[rows][columns of whole panels] = a · weights + bias; a's rows are `lda` inputs apart. */
    void (*multiply_f32)(const float *a, size_t lda, size_t rows, const struct packed *w, float *c,
                         size_t ldc);
    /* The same for inputs from to_bf16; NULL: the processor cannot. */
    void (*multiply_bf16)(const uint16_t *a, size_t lda, size_t rows, const struct packed *w,
                          float *c, size_t ldc);
    /* The same for inputs from quantize; NULL: not better than f32 here. */
    void (*multiply_int8)(const uint8_t *a, size_t lda, const struct quantized_row *quantized,
                          size_t rows, const struct packed *w, float *c, size_t ldc);
    /* c[rows][panel] = a[rows][k] · b[k][panel], rows <= tile_rows. */
    void (*tile_f32)(size_t rows, const float *a, size_t lda, const float *b, size_t k, float *c,
                     size_t ldc);
    void (*to_bf16)(const float *x, size_t n, uint16_t *out);
    void (*quantize)(const float *x, size_t n, unsigned levels, uint8_t *out,
                     struct quantized_row *row);

    /* x = norm(x + y); y may be NULL. n a multiple of 8, as below. */
    void (*add_norm)(float *x, const float *y, size_t n, const float *scale, const float *shift,
                     float epsilon);
    void (*gelu)(float *x, size_t n);
    /* x = exp(x − max x); their sum. n of any size, room for a whole panel. */
    float (*exponentials)(float *x, size_t n);
    /* out = x · factor */
    void (*scale)(const float *x, size_t n, float factor, float *out);
};

extern const struct kernels KERNELS_BASIC; /* any processor */
#ifdef __x86_64__
extern const struct kernels KERNELS_AVX2, KERNELS_AVX512, KERNELS_AVX512_VNNI,
    KERNELS_AVX512_BF16; /* the last has VNNI, too */
#endif

/* The sets that this processor can run, best first; ends with NULL. CAPSTAN_ENCODER_KERNELS, the
 * name of one, takes only that: for tests and benches. */
const struct kernels *const *kernels_usable(void);
