/* A checkpoint of BERT's architecture as it lies in its folder: what its configuration says, and
 * its tensors as f32 in the order of the file (a linear layer's weight is output × input). What the
 * plain implementation computes from; the fast one packs its own copy. Immutable once open. */
#pragma once
#include "base/err.h"
#include "base/hash.h"

enum checkpoint_pooling { POOLING_MEAN, POOLING_CLS };

struct linear {
    const float *weight; /* out × in */
    const float *bias;   /* out */
    unsigned in, out;
};

struct norm {
    const float *scale, *shift;
};

struct checkpoint_layer {
    struct linear query, key, value, output; /* attention: hidden × hidden */
    struct norm attention_norm;
    struct linear up, down; /* hidden → ffn → hidden */
    struct norm ffn_norm;
};

struct checkpoint {
    unsigned hidden, heads, layers, ffn, vocabulary, positions, types;
    unsigned window_tokens; /* with the special ones; at most `positions` */
    uint64_t parameters;    /* of the tensors that are used */
    float norm_epsilon;
    enum checkpoint_pooling pooling;
    bool is_reranker;  /* has a classifier with one output */
    bool rank_sigmoid; /* its score goes through the logistic function */
    const float *word_embeddings, *position_embeddings, *type_embeddings;
    struct norm embedding_norm;
    struct checkpoint_layer *layer;
    struct linear pooler, classifier; /* of a reranker */
    uint8_t sha256[SHA256_BYTES];     /* of model.safetensors */

    /* private */
    void *map;
    size_t map_bytes;
    float *converted; /* tensors that were not aligned f32 in the file */
};

/* ERR_INVALID names what does not fit and what can be used; RC_CORRUPT: the file is damaged. */
enum rc checkpoint_open(const char *folder, struct checkpoint *out, struct err *err) MUST_CHECK;
void checkpoint_close(struct checkpoint *checkpoint);
