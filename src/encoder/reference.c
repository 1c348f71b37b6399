/* BERT after Devlin et al. 2018, as the checkpoints' authors run it: post-layer-norm transformer,
 * GELU with the exact error function, learned positions. One loop per formula, sums in double.
 * Nothing here is fast and nothing is shared with what is. */
#include "encoder/reference.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* out[t][o] = bias[o] + Σ_i in[t][i] · weight[o][i] */
static void apply_linear(const struct linear *l, const float *in, size_t tokens, float *out)
{
    for (size_t t = 0; t < tokens; t++)
        for (size_t o = 0; o < l->out; o++) {
            double sum = l->bias[o];
            for (size_t i = 0; i < l->in; i++)
                sum += (double)in[t * l->in + i] * l->weight[o * l->in + i];
            out[t * l->out + o] = (float)sum;
        }
}

/* x[t] = (x[t] − mean) / √(variance + ε) · scale + shift */
static void apply_norm(const struct norm *n, float epsilon, unsigned hidden, float *x,
                       size_t tokens)
{
    for (size_t t = 0; t < tokens; t++, x += hidden) {
        double mean = 0, variance = 0;
        for (unsigned i = 0; i < hidden; i++)
            mean += x[i];
        mean /= hidden;
        for (unsigned i = 0; i < hidden; i++)
            variance += (x[i] - mean) * (x[i] - mean);
        variance /= hidden;
        for (unsigned i = 0; i < hidden; i++)
            x[i] = (float)((x[i] - mean) / sqrt(variance + epsilon) * n->scale[i] + n->shift[i]);
    }
}

static void embed(const struct checkpoint *c, const uint32_t *ids, const uint8_t *types,
                  size_t tokens, float *x)
{
    for (size_t t = 0; t < tokens; t++)
        for (unsigned i = 0; i < c->hidden; i++)
            x[t * c->hidden + i] = c->word_embeddings[(size_t)ids[t] * c->hidden + i] +
                                   c->position_embeddings[t * c->hidden + i] +
                                   c->type_embeddings[(size_t)types[t] * c->hidden + i];
    apply_norm(&c->embedding_norm, c->norm_epsilon, c->hidden, x, tokens);
}

/* One head for one token: softmax(q · k / √width) · v. Heads lie side by side in a token's row. */
static void attend_token(const struct checkpoint *c, size_t head, const float *query,
                         const float *keys, const float *values, size_t tokens, double *weights,
                         float *out)
{
    size_t width = c->hidden / c->heads, at = head * width;
    double greatest = -INFINITY, sum = 0;
    for (size_t t = 0; t < tokens; t++) {
        double dot = 0;
        for (size_t i = 0; i < width; i++)
            dot += (double)query[at + i] * keys[t * c->hidden + at + i];
        weights[t] = dot / sqrt((double)width);
        greatest = fmax(greatest, weights[t]);
    }
    for (size_t t = 0; t < tokens; t++) {
        weights[t] = exp(weights[t] - greatest);
        sum += weights[t];
    }
    for (size_t i = 0; i < width; i++) {
        double value = 0;
        for (size_t t = 0; t < tokens; t++)
            value += weights[t] / sum * values[t * c->hidden + at + i];
        out[at + i] = (float)value;
    }
}

struct scratch {
    float *query, *key, *value, *context, *sublayer, *inner;
    double *weights;
};

static void apply_layer(const struct checkpoint *c, const struct checkpoint_layer *layer, float *x,
                        size_t tokens, const struct scratch *s)
{
    apply_linear(&layer->query, x, tokens, s->query);
    apply_linear(&layer->key, x, tokens, s->key);
    apply_linear(&layer->value, x, tokens, s->value);
    for (size_t t = 0; t < tokens; t++)
        for (size_t head = 0; head < c->heads; head++)
            attend_token(c, head, s->query + t * c->hidden, s->key, s->value, tokens, s->weights,
                         s->context + t * c->hidden);
    apply_linear(&layer->output, s->context, tokens, s->sublayer);
    for (size_t i = 0; i < tokens * c->hidden; i++)
        x[i] += s->sublayer[i];
    apply_norm(&layer->attention_norm, c->norm_epsilon, c->hidden, x, tokens);

    apply_linear(&layer->up, x, tokens, s->inner);
    for (size_t i = 0; i < tokens * c->ffn; i++)
        s->inner[i] = (float)(s->inner[i] * 0.5 * (1 + erf(s->inner[i] / sqrt(2))));
    apply_linear(&layer->down, s->inner, tokens, s->sublayer);
    for (size_t i = 0; i < tokens * c->hidden; i++)
        x[i] += s->sublayer[i];
    apply_norm(&layer->ffn_norm, c->norm_epsilon, c->hidden, x, tokens);
}

enum rc reference_forward(const struct checkpoint *c, const struct sequences *sequences,
                          float *hidden, struct err *err)
{
    size_t longest = 0, n;
    for (size_t i = 0; i < sequences->sequence_count; i++)
        longest = MAX(longest, sequences->starts[i + 1] - sequences->starts[i]);
    ASSERT(longest <= c->positions);
    n = longest * c->hidden;
    float *room = malloc((5 * n + longest * c->ffn) * sizeof(float));
    double *weights = malloc(longest * sizeof(double));
    enum rc rc = RC_OK;
    if (room && weights) {
        struct scratch s = {.query = room,
                            .key = room + n,
                            .value = room + 2 * n,
                            .context = room + 3 * n,
                            .sublayer = room + 4 * n,
                            .inner = room + 5 * n,
                            .weights = weights};
        for (size_t i = 0; i < sequences->sequence_count; i++) {
            size_t start = sequences->starts[i], tokens = sequences->starts[i + 1] - start;
            float *x = hidden + start * c->hidden;
            embed(c, sequences->ids + start, sequences->types + start, tokens, x);
            for (unsigned layer = 0; layer < c->layers; layer++)
                apply_layer(c, &c->layer[layer], x, tokens, &s);
        }
    } else {
        rc = err_set(err, ERR_OVERLOADED, "no memory to encode");
    }
    free(room);
    free(weights);
    return rc;
}

float reference_score(const struct checkpoint *c, const float *first)
{
    double score = c->classifier.bias[0];
    for (unsigned o = 0; o < c->hidden; o++) {
        double sum = c->pooler.bias[o];
        for (unsigned i = 0; i < c->hidden; i++)
            sum += (double)first[i] * c->pooler.weight[(size_t)o * c->hidden + i];
        score += tanh(sum) * c->classifier.weight[o];
    }
    return (float)score;
}
