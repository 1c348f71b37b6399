/* The model in blocks of rows. For each layer: queries, keys and values of all tokens; attention
 * sequence by sequence; then, block by block while it is in the cache, the output layer, the
 * feed-forward layers and both norms. Tokens of all sequences are rows of the same products: there
 * is no padding. Scratch memory is taken per run, as large as the run. */
#include "encoder/forward.h"
#include "encoder/kernels.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_ROWS  48 /* a multiple of every tile's rows */
#define ALIGN_BYTES 64

struct forward_layer {
    struct packed attention; /* query, key and value side by side; 3 · hidden outputs */
    struct packed output, up, down;
};

struct forward {
    const struct checkpoint *checkpoint;
    const struct kernels *kernels;
    enum encoder_precision precision;
    struct forward_layer *layer;
};

/* ---- packing ---- */

/* Several layers side by side as one; `factor` multiplies the first one's weights and bias. */
struct weights {
    const struct linear *parts[3];
    size_t part_count;
    float first_factor;
};

static float weight_at(const struct weights *w, size_t output, size_t input)
{
    const struct linear *part = w->parts[0];
    size_t index = output / part->out;
    part = w->parts[index];
    float factor = index ? 1 : w->first_factor;
    return factor * part->weight[output % part->out * part->in + input];
}

static uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16); /* to the nearest, ties to even */
}

static size_t group_of(enum encoder_precision precision)
{
    return precision == ENCODER_INT8 ? 4 : precision == ENCODER_BF16 ? 2 : 1;
}

/* One output's column of a panel: its inputs in groups of 32 bits, each a panel's width apart. */
static void pack_output(const struct weights *w, enum encoder_precision precision,
                        size_t panel_columns, size_t output, struct packed *out)
{
    size_t group = group_of(precision), panel = output / panel_columns;
    size_t base = panel * panel_columns * out->in, column = output % panel_columns;
    float greatest = 0, step;
    double sum = 0;
    for (size_t i = 0; i < out->in; i++)
        greatest = fmaxf(greatest, fabsf(weight_at(w, output, i)));
    step = fmaxf(greatest / 127, 1e-30f);
    for (size_t i = 0; i < out->in; i++) {
        float value = weight_at(w, output, i);
        size_t at = base + (i / group * panel_columns + column) * group + i % group;
        if (precision == ENCODER_F32) {
            ((float *)out->panels)[at] = value;
        } else if (precision == ENCODER_BF16) {
            ((uint16_t *)out->panels)[at] = bf16_of(value);
        } else {
            float level = rintf(value / step);
            ((int8_t *)out->panels)[at] = (int8_t)level;
            sum += level;
        }
    }
    if (precision == ENCODER_INT8) {
        out->scales[output] = step;
        out->sums[output] = (float)sum * step;
    }
}

static bool pack(const struct forward *f, const struct weights *w, struct packed *out)
{
    size_t columns = f->kernels->panel_columns, part_out = w->parts[0]->out;
    out->in = w->parts[0]->in;
    out->out = w->part_count * part_out;
    out->panel_count = (out->out + columns - 1) / columns;
    size_t padded = out->panel_count * columns;
    size_t bytes = padded * out->in * (4 / group_of(f->precision));
    out->panels = aligned_alloc(ALIGN_BYTES, ALIGN_UP(bytes, ALIGN_BYTES));
    out->bias = calloc(3 * padded, sizeof(float));
    if (!out->panels || !out->bias)
        return false;
    memset(out->panels, 0, bytes);
    out->scales = out->bias + padded;
    out->sums = out->scales + padded;
    for (size_t o = 0; o < out->out; o++) {
        out->bias[o] =
            w->parts[o / part_out]->bias[o % part_out] * (o < part_out ? w->first_factor : 1);
        pack_output(w, f->precision, columns, o, out);
    }
    return true;
}

static bool pack_one(const struct forward *f, const struct linear *linear, struct packed *out)
{
    return pack(f, &(struct weights){.parts = {linear}, .part_count = 1, .first_factor = 1}, out);
}

/* Attention's scores are divided by the root of a head's width: the queries are, once and here. */
static bool pack_layer(const struct forward *f, const struct checkpoint_layer *from,
                       struct forward_layer *to)
{
    const struct checkpoint *c = f->checkpoint;
    const struct weights attention = {.parts = {&from->query, &from->key, &from->value},
                                      .part_count = 3,
                                      .first_factor = 1 / sqrtf((float)(c->hidden / c->heads))};
    return pack(f, &attention, &to->attention) && pack_one(f, &from->output, &to->output) &&
           pack_one(f, &from->up, &to->up) && pack_one(f, &from->down, &to->down);
}

enum rc forward_new_with(const struct checkpoint *checkpoint, enum encoder_precision precision,
                         const struct kernels *kernels, struct forward **out, struct err *err)
{
    struct forward *f = calloc(1, sizeof(*f));
    bool ok = f && (f->layer = calloc(checkpoint->layers, sizeof(*f->layer)));
    if (ok) {
        f->checkpoint = checkpoint;
        f->kernels = kernels;
        f->precision = ENCODER_F32;
        if ((precision == ENCODER_BF16 && kernels->multiply_bf16) ||
            (precision == ENCODER_INT8 && kernels->multiply_int8))
            f->precision = precision;
        for (unsigned i = 0; i < checkpoint->layers && ok; i++)
            ok = pack_layer(f, &checkpoint->layer[i], &f->layer[i]);
    }
    if (!ok) {
        forward_free(f);
        return err_set(err, ERR_OVERLOADED, "no memory for the model's weights");
    }
    *out = f;
    return RC_OK;
}

enum rc forward_new(const struct checkpoint *checkpoint, enum encoder_precision precision,
                    struct forward **out, struct err *err)
{
    return forward_new_with(checkpoint, precision, kernels_usable()[0], out, err);
}

enum encoder_precision forward_precision(const struct forward *f) { return f->precision; }

static void packed_free(struct packed *packed)
{
    free(packed->panels);
    free(packed->bias);
}

void forward_free(struct forward *f)
{
    for (unsigned i = 0; f && f->layer && i < f->checkpoint->layers; i++) {
        packed_free(&f->layer[i].attention);
        packed_free(&f->layer[i].output);
        packed_free(&f->layer[i].up);
        packed_free(&f->layer[i].down);
    }
    if (f)
        free(f->layer);
    free(f);
}

/* ---- running ---- */

struct run {
    const struct forward *f;
    const struct checkpoint *c;
    const struct kernels *k;
    size_t stride, attention_stride, ffn_stride; /* floats between rows */
    size_t width, width_padded;                  /* of a head */
    float *x;                                    /* tokens × stride: what goes through the layers */
    float *attention, *context;
    float *block, *inner; /* BLOCK_ROWS × stride, × ffn_stride */
    void *reduced;        /* a block's inputs as bf16 or bytes */
    struct quantized_row quantized[BLOCK_ROWS];
    float *keys, *values, *scores, *heads; /* of one head of one sequence */
    void *memory;
};

static float *carve(char **at, size_t floats)
{
    float *p = (float *)(void *)*at;
    *at += ALIGN_UP(floats * sizeof(float), ALIGN_BYTES);
    return p;
}

/* Twice the same walk: first for the sum, then over the memory. */
static size_t lay_out(struct run *r, size_t tokens, size_t longest, char *memory)
{
    char *at = memory;
    size_t keys = ALIGN_UP(longest, PANEL_COLUMNS_MAX);
    r->x = carve(&at, tokens * r->stride);
    r->attention = carve(&at, tokens * r->attention_stride);
    r->context = carve(&at, tokens * r->stride);
    r->block = carve(&at, BLOCK_ROWS * r->stride);
    r->inner = carve(&at, BLOCK_ROWS * r->ffn_stride);
    r->reduced = carve(&at, BLOCK_ROWS * MAX(r->c->hidden, r->c->ffn) / 2);
    r->keys = carve(&at, keys * r->width);
    r->values = carve(&at, longest * r->width_padded);
    r->scores = carve(&at, TILE_ROWS_MAX * keys);
    r->heads = carve(&at, TILE_ROWS_MAX * r->width_padded);
    return (size_t)(at - memory);
}

static enum rc run_init(struct run *r, const struct forward *f, const struct sequences *s,
                        struct err *err)
{
    const struct checkpoint *c = f->checkpoint;
    size_t longest = 0;
    for (size_t i = 0; i < s->sequence_count; i++)
        longest = MAX(longest, s->starts[i + 1] - s->starts[i]);
    ASSERT(longest <= c->positions);
    *r = (struct run){.f = f, .c = c, .k = f->kernels};
    r->stride = ALIGN_UP(c->hidden, PANEL_COLUMNS_MAX);
    r->attention_stride = ALIGN_UP(3 * (size_t)c->hidden, PANEL_COLUMNS_MAX);
    r->ffn_stride = ALIGN_UP(c->ffn, PANEL_COLUMNS_MAX);
    r->width = c->hidden / c->heads;
    r->width_padded = ALIGN_UP(r->width, f->kernels->panel_columns);
    size_t bytes = lay_out(r, s->token_count, longest, NULL);
    r->memory = aligned_alloc(ALIGN_BYTES, bytes);
    if (!r->memory)
        return err_set(err, ERR_OVERLOADED, "no memory to encode");
    lay_out(r, s->token_count, longest, r->memory);
    return RC_OK;
}

/* c = a · weights + bias for at most BLOCK_ROWS rows, in the precision of the weights. */
static void multiply(struct run *r, const float *a, size_t lda, size_t rows, const struct packed *w,
                     float *c, size_t ldc)
{
    ASSERT(rows <= BLOCK_ROWS);
    switch (r->f->precision) {
    case ENCODER_F32: r->k->multiply_f32(a, lda, rows, w, c, ldc); break;
    case ENCODER_BF16:
        for (size_t i = 0; i < rows; i++)
            r->k->to_bf16(a + i * lda, w->in, (uint16_t *)r->reduced + i * w->in);
        r->k->multiply_bf16(r->reduced, w->in, rows, w, c, ldc);
        break;
    case ENCODER_INT8:
        for (size_t i = 0; i < rows; i++)
            r->k->quantize(a + i * lda, w->in, r->k->levels, (uint8_t *)r->reduced + i * w->in,
                           &r->quantized[i]);
        r->k->multiply_int8(r->reduced, w->in, r->quantized, rows, w, c, ldc);
        break;
    }
}

static void embed(struct run *r, const struct sequences *s)
{
    const struct checkpoint *c = r->c;
    for (size_t i = 0; i < s->sequence_count; i++)
        for (size_t t = s->starts[i]; t < s->starts[i + 1]; t++) {
            const float *word = c->word_embeddings + (size_t)s->ids[t] * c->hidden;
            const float *position = c->position_embeddings + (t - s->starts[i]) * c->hidden;
            const float *type = c->type_embeddings + (size_t)s->types[t] * c->hidden;
            float *x = r->x + t * r->stride;
            for (unsigned k = 0; k < c->hidden; k++)
                x[k] = word[k] + position[k] + type[k];
            r->k->add_norm(x, NULL, c->hidden, c->embedding_norm.scale, c->embedding_norm.shift,
                           c->norm_epsilon);
        }
}

/* A head's keys as panels (width × tokens) and its values as panels (tokens × width), both padded
 * with zeros. */
static void gather_head(struct run *r, size_t head, size_t start, size_t tokens)
{
    size_t columns = r->k->panel_columns;
    size_t padded = ALIGN_UP(tokens, columns);
    const float *at = r->attention + start * r->attention_stride + r->c->hidden + head * r->width;
    for (size_t t = 0; t < padded; t++) {
        float *key = r->keys + t / columns * columns * r->width + t % columns;
        for (size_t i = 0; i < r->width; i++)
            key[i * columns] = t < tokens ? at[t * r->attention_stride + i] : 0;
    }
    at += r->c->hidden;
    for (size_t panel = 0; panel < r->width_padded; panel += columns) {
        size_t some = MIN(columns, r->width - panel);
        for (size_t t = 0; t < tokens; t++) {
            float *value = r->values + panel * tokens + t * columns;
            memcpy(value, at + t * r->attention_stride + panel, some * sizeof(float));
            memset(value + some, 0, (columns - some) * sizeof(float));
        }
    }
}

/* softmax(queries · keys) · values of one head; the sums divide the result, not the weights. */
static void attend_head(struct run *r, size_t head, size_t start, size_t tokens)
{
    size_t columns = r->k->panel_columns, scores_stride = ALIGN_UP(tokens, columns);
    gather_head(r, head, start, tokens);
    for (size_t t = 0; t < tokens; t += r->k->tile_rows) {
        size_t rows = MIN(r->k->tile_rows, tokens - t);
        const float *queries = r->attention + (start + t) * r->attention_stride + head * r->width;
        for (size_t key = 0; key < tokens; key += columns)
            r->k->tile_f32(rows, queries, r->attention_stride, r->keys + key * r->width, r->width,
                           r->scores + key, scores_stride);
        float factors[TILE_ROWS_MAX];
        for (size_t i = 0; i < rows; i++)
            factors[i] = 1 / r->k->exponentials(r->scores + i * scores_stride, tokens);
        for (size_t panel = 0; panel < r->width_padded; panel += columns)
            r->k->tile_f32(rows, r->scores, scores_stride, r->values + panel * tokens, tokens,
                           r->heads + panel, r->width_padded);
        for (size_t i = 0; i < rows; i++)
            r->k->scale(r->heads + i * r->width_padded, r->width, factors[i],
                        r->context + (start + t + i) * r->stride + head * r->width);
    }
}

static void add_norm_rows(struct run *r, float *x, const float *y, size_t rows,
                          const struct norm *norm)
{
    for (size_t i = 0; i < rows; i++)
        r->k->add_norm(x + i * r->stride, y + i * r->stride, r->c->hidden, norm->scale, norm->shift,
                       r->c->norm_epsilon);
}

static void apply_layer(struct run *r, const struct sequences *s, unsigned index)
{
    const struct forward_layer *layer = &r->f->layer[index];
    const struct checkpoint_layer *norms = &r->c->layer[index];
    for (size_t t = 0; t < s->token_count; t += BLOCK_ROWS)
        multiply(r, r->x + t * r->stride, r->stride, MIN(BLOCK_ROWS, s->token_count - t),
                 &layer->attention, r->attention + t * r->attention_stride, r->attention_stride);
    for (size_t i = 0; i < s->sequence_count; i++)
        for (size_t head = 0; head < r->c->heads; head++)
            attend_head(r, head, s->starts[i], s->starts[i + 1] - s->starts[i]);
    for (size_t t = 0; t < s->token_count; t += BLOCK_ROWS) {
        size_t rows = MIN(BLOCK_ROWS, s->token_count - t);
        float *x = r->x + t * r->stride;
        multiply(r, r->context + t * r->stride, r->stride, rows, &layer->output, r->block,
                 r->stride);
        add_norm_rows(r, x, r->block, rows, &norms->attention_norm);
        multiply(r, x, r->stride, rows, &layer->up, r->inner, r->ffn_stride);
        for (size_t i = 0; i < rows; i++)
            r->k->gelu(r->inner + i * r->ffn_stride, r->c->ffn);
        multiply(r, r->inner, r->ffn_stride, rows, &layer->down, r->block, r->stride);
        add_norm_rows(r, x, r->block, rows, &norms->ffn_norm);
    }
}

enum rc forward_run(const struct forward *f, const struct sequences *s, float *hidden,
                    struct err *err)
{
    struct run r;
    enum rc rc = run_init(&r, f, s, err);
    if (rc)
        return rc;
    embed(&r, s);
    for (unsigned i = 0; i < f->checkpoint->layers; i++)
        apply_layer(&r, s, i);
    for (size_t t = 0; t < s->token_count; t++)
        memcpy(hidden + t * f->checkpoint->hidden, r.x + t * r.stride,
               f->checkpoint->hidden * sizeof(float));
    free(r.memory);
    return RC_OK;
}
