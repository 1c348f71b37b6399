/* Opening a checkpoint: its configuration files are read as sentence-transformers reads them, the
 * weights are mapped. Tensors that lie in the file as aligned f32 are used in place; others (f16,
 * bf16, unaligned) are converted once into one block. */
#include "encoder/checkpoint.h"
#include "encoder/read_file.h"
#include "encoder/safetensors.h"
#include "text/json.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX  (1 << 20)
#define HIDDEN_MAX        8192
#define LAYERS_MAX        128
#define VOCABULARY_MAX    (1 << 20)
#define POSITIONS_MAX     65536
#define TENSOR_NAME_BYTES 160
#define USABLE            "BERT encoders can be used: MiniLM, E5, BGE, GTE and the like"

/* ---- configuration ---- */

/* NULL: the file is not there. */
static enum rc read_json(const char *folder, const char *name, struct arena *arena,
                         yyjson_val **out, struct err *err)
{
    struct str text;
    yyjson_doc *doc = NULL;
    enum rc rc = read_file_if_there(folder, name, CONFIG_BYTES_MAX, arena, &text, err);
    if (!rc && text.p && (rc = json_read(text, arena, &doc, err)))
        err_prefix(err, "%s", name);
    *out = doc ? yyjson_doc_get_root(doc) : NULL;
    return rc;
}

static enum rc take_size(yyjson_val *config, const char *name, unsigned max, unsigned *out,
                         struct err *err)
{
    int64_t value = json_get_int(config, name, 0);
    if (value < 1 || value > max)
        return err_set(err, ERR_INVALID, "config.json: %s must be 1 to %u", name, max);
    *out = (unsigned)value;
    return RC_OK;
}

static enum rc expect_text(yyjson_val *config, const char *name, const char *expected,
                           struct err *err)
{
    struct str text = json_get_text(config, name);
    if (text.n && !str_eq(text, str_from(expected)))
        return err_set(err, ERR_INVALID, "config.json: %s is %.*s, only %s can be used. " USABLE,
                       name, STR_ARG(text), expected);
    return RC_OK;
}

/* "torch.nn.modules.linear.Identity": no activation; absent or Sigmoid: the default of one label.
 */
static bool wants_sigmoid(yyjson_val *config)
{
    struct str name = json_get_text(config, "sbert_ce_default_activation_function");
    if (!name.n)
        name = json_get_text(yyjson_obj_get(config, "sentence_transformers"), "activation_fn");
    return !str_ends(name, STR("Identity"));
}

static enum rc read_config(const char *folder, struct arena *arena, struct checkpoint *c,
                           struct err *err)
{
    yyjson_val *config;
    enum rc rc;
    if ((rc = read_json(folder, "config.json", arena, &config, err)))
        return rc;
    if (!yyjson_is_obj(config))
        return err_set(err, ERR_INVALID, "%s has no config.json", folder);
    if (!str_eq(json_get_text(config, "model_type"), STR("bert")))
        return err_set(err, ERR_INVALID, "config.json: model_type is \"%.*s\". " USABLE,
                       STR_ARG(json_get_text(config, "model_type")));
    if ((rc = expect_text(config, "hidden_act", "gelu", err)) ||
        (rc = expect_text(config, "position_embedding_type", "absolute", err)) ||
        (rc = take_size(config, "hidden_size", HIDDEN_MAX, &c->hidden, err)) ||
        (rc = take_size(config, "intermediate_size", HIDDEN_MAX * 8, &c->ffn, err)) ||
        (rc = take_size(config, "num_attention_heads", 256, &c->heads, err)) ||
        (rc = take_size(config, "num_hidden_layers", LAYERS_MAX, &c->layers, err)) ||
        (rc = take_size(config, "vocab_size", VOCABULARY_MAX, &c->vocabulary, err)) ||
        (rc = take_size(config, "max_position_embeddings", POSITIONS_MAX, &c->positions, err)) ||
        (rc = take_size(config, "type_vocab_size", 16, &c->types, err)))
        return rc;
    if (c->hidden % c->heads || c->hidden % 8 || c->ffn % 8)
        return err_set(err, ERR_INVALID,
                       "config.json: hidden_size must be a multiple of the heads and of 8, "
                       "intermediate_size of 8");
    c->norm_epsilon = (float)json_get_double(config, "layer_norm_eps", 1e-12);
    c->rank_sigmoid = wants_sigmoid(config);
    return RC_OK;
}

static enum rc read_window(const char *folder, struct arena *arena, struct checkpoint *c,
                           struct err *err)
{
    yyjson_val *sentence, *tokenizer;
    enum rc rc;
    if ((rc = read_json(folder, "sentence_bert_config.json", arena, &sentence, err)) ||
        (rc = read_json(folder, "tokenizer_config.json", arena, &tokenizer, err)))
        return rc;
    /* model_max_length is 1e30 where nobody set it. */
    double length = json_get_double(tokenizer, "model_max_length", 0);
    length = json_get_double(sentence, "max_seq_length", length);
    c->window_tokens = length >= 1 && length < c->positions ? (unsigned)length : c->positions;
    if (c->window_tokens < 8)
        return err_set(err, ERR_INVALID, "a window of %u tokens is too short", c->window_tokens);
    return RC_OK;
}

static enum rc read_pooling_config(yyjson_val *config, struct checkpoint *c, struct err *err)
{
    static const char *const OTHERS[] = {
        "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"};
    struct str mode = json_get_text(config, "pooling_mode");
    bool mean =
        json_get_bool(config, "pooling_mode_mean_tokens", false) || str_eq(mode, STR("mean"));
    bool cls = json_get_bool(config, "pooling_mode_cls_token", false) || str_eq(mode, STR("cls"));
    bool other = mean == cls;
    for (size_t i = 0; i < COUNT_OF(OTHERS); i++)
        other |= json_get_bool(config, OTHERS[i], false);
    if (other)
        return err_set(err, ERR_INVALID, "its pooling is neither the mean nor the first token");
    c->pooling = cls ? POOLING_CLS : POOLING_MEAN;
    return RC_OK;
}

/* modules.json lists what follows the transformer; without it the mean is meant. Other modules than
 * pooling and normalizing (a dense layer) would be left out silently: refused. */
static enum rc read_modules(const char *folder, struct arena *arena, struct checkpoint *c,
                            struct err *err)
{
    yyjson_val *modules, *module;
    enum rc rc = read_json(folder, "modules.json", arena, &modules, err);
    size_t i, count;
    yyjson_arr_foreach(modules, i, count, module)
    {
        struct str type = json_get_text(module, "type"), path = json_get_text(module, "path");
        if (str_ends(type, STR(".Transformer")) || str_ends(type, STR(".Normalize")))
            continue;
        if (!str_ends(type, STR(".Pooling")) || str_find(path, STR("..")) >= 0 || path.n > 100)
            return err_set(err, ERR_INVALID, "modules.json: %.*s cannot be used", STR_ARG(type));
        char name[128];
        yyjson_val *config;
        snprintf(name, sizeof(name), "%.*s/config.json", STR_ARG(path));
        if ((rc = read_json(folder, name, arena, &config, err)))
            return rc;
        if ((rc = read_pooling_config(config, c, err)))
            return rc;
    }
    return rc;
}

/* ---- weights ---- */

struct loader {
    struct checkpoint *c;
    struct safetensors tensors;
    const char *prefix;  /* "" or "bert." */
    size_t converted_at; /* elements; the first pass counts them */
    bool counting;
    enum rc rc;
    struct err *err;
};

/* A tensor by its name below the prefix and its shape; columns 0: one dimension. Later calls do
 * nothing once one has failed. */
static const float *take(struct loader *l, unsigned rows, unsigned columns, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static const float *take(struct loader *l, unsigned rows, unsigned columns, const char *fmt, ...)
{
    char name[TENSOR_NAME_BYTES];
    if (l->rc)
        return NULL;
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    const struct safetensor *t = safetensors_find(&l->tensors, str_from(name));
    bool fits = t && t->type != SAFETENSORS_OTHER && t->shape[0] == rows &&
                t->dimension_count == (columns ? 2 : 1) && (!columns || t->shape[1] == columns);
    if (!fits) {
        l->rc = t ? err_set(l->err, ERR_INVALID, "the tensor %s has another shape or type", name)
                  : err_set(l->err, ERR_INVALID, "the tensor %s is missing", name);
        return NULL;
    }
    if (l->counting)
        l->c->parameters += t->elements;
    if (t->type == SAFETENSORS_F32 && (uintptr_t)t->data % sizeof(float) == 0)
        return (const float *)(const void *)t->data;
    size_t at = l->converted_at;
    l->converted_at += t->elements;
    if (l->counting)
        return NULL;
    safetensors_to_f32(t, l->c->converted + at);
    return l->c->converted + at;
}

static struct linear take_linear(struct loader *l, unsigned out, unsigned in, const char *name)
{
    return (struct linear){.weight = take(l, out, in, "%s.weight", name),
                           .bias = take(l, out, 0, "%s.bias", name),
                           .in = in,
                           .out = out};
}

/* Older checkpoints say gamma and beta. */
static struct norm take_norm(struct loader *l, const char *name)
{
    char old[TENSOR_NAME_BYTES];
    snprintf(old, sizeof(old), "%s.gamma", name);
    bool is_old = safetensors_find(&l->tensors, str_from(old)) != NULL;
    return (struct norm){
        .scale = take(l, l->c->hidden, 0, "%s.%s", name, is_old ? "gamma" : "weight"),
        .shift = take(l, l->c->hidden, 0, "%s.%s", name, is_old ? "beta" : "bias")};
}

static void take_layer(struct loader *l, unsigned index)
{
    struct checkpoint *c = l->c;
    struct checkpoint_layer *layer = &c->layer[index];
    char name[TENSOR_NAME_BYTES];
#define NAMED(part)                                                                                \
    (snprintf(name, sizeof(name), "%sencoder.layer.%u." part, l->prefix, index), name)
    layer->query = take_linear(l, c->hidden, c->hidden, NAMED("attention.self.query"));
    layer->key = take_linear(l, c->hidden, c->hidden, NAMED("attention.self.key"));
    layer->value = take_linear(l, c->hidden, c->hidden, NAMED("attention.self.value"));
    layer->output = take_linear(l, c->hidden, c->hidden, NAMED("attention.output.dense"));
    layer->attention_norm = take_norm(l, NAMED("attention.output.LayerNorm"));
    layer->up = take_linear(l, c->ffn, c->hidden, NAMED("intermediate.dense"));
    layer->down = take_linear(l, c->hidden, c->ffn, NAMED("output.dense"));
    layer->ffn_norm = take_norm(l, NAMED("output.LayerNorm"));
#undef NAMED
}

static void take_all(struct loader *l)
{
    struct checkpoint *c = l->c;
    char name[TENSOR_NAME_BYTES];
    l->converted_at = 0;
    c->word_embeddings =
        take(l, c->vocabulary, c->hidden, "%sembeddings.word_embeddings.weight", l->prefix);
    c->position_embeddings =
        take(l, c->positions, c->hidden, "%sembeddings.position_embeddings.weight", l->prefix);
    c->type_embeddings =
        take(l, c->types, c->hidden, "%sembeddings.token_type_embeddings.weight", l->prefix);
    snprintf(name, sizeof(name), "%sembeddings.LayerNorm", l->prefix);
    c->embedding_norm = take_norm(l, name);
    for (unsigned i = 0; i < c->layers; i++)
        take_layer(l, i);
    const struct safetensor *classifier = safetensors_find(&l->tensors, STR("classifier.weight"));
    if (!classifier)
        return;
    if (classifier->shape[0] != 1) {
        l->rc = err_set(l->err, ERR_INVALID, "a classifier with %llu outputs: a reranker has one",
                        (unsigned long long)classifier->shape[0]);
        return;
    }
    c->is_reranker = true;
    snprintf(name, sizeof(name), "%spooler.dense", l->prefix);
    c->pooler = take_linear(l, c->hidden, c->hidden, name);
    c->classifier = take_linear(l, 1, c->hidden, "classifier");
}

static enum rc load_weights(struct checkpoint *c, struct arena *arena, struct err *err)
{
    struct loader l = {.c = c, .prefix = "", .err = err};
    enum rc rc = safetensors_read(str_make(c->map, c->map_bytes), arena, &l.tensors, err);
    if (rc)
        return rc;
    if (safetensors_find(&l.tensors, STR("bert.embeddings.word_embeddings.weight")))
        l.prefix = "bert.";
    c->layer = calloc(c->layers, sizeof(*c->layer));
    if (!c->layer)
        return err_set(err, ERR_OVERLOADED, "no memory for the model");
    l.counting = true;
    take_all(&l);
    if (l.rc || !l.converted_at)
        return l.rc;
    c->converted = malloc(l.converted_at * sizeof(float));
    if (!c->converted)
        return err_set(err, ERR_OVERLOADED, "no memory for the model's weights");
    l.counting = false;
    take_all(&l);
    return l.rc;
}

static enum rc map_weights(const char *folder, struct checkpoint *c, struct err *err)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_INVALID, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || st.st_size < 8)
        errno = ENODATA;
    else
        c->map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    int failure = errno;
    close(fd);
    if (!c->map || c->map == MAP_FAILED) {
        c->map = NULL;
        return err_set(err, ERR_INVALID, "%s: %s", path, strerror(failure));
    }
    c->map_bytes = (size_t)st.st_size;
    hash_sha256(c->map, c->map_bytes, c->sha256);
    return RC_OK;
}

enum rc checkpoint_open(const char *folder, struct checkpoint *out, struct err *err)
{
    struct arena arena;
    arena_init(&arena, 256 << 20);
    *out = (struct checkpoint){0};
    enum rc rc;
    if (!(rc = read_config(folder, &arena, out, err)) &&
        !(rc = read_window(folder, &arena, out, err)) &&
        !(rc = read_modules(folder, &arena, out, err)) && !(rc = map_weights(folder, out, err)))
        rc = load_weights(out, &arena, err);
    arena_fini(&arena);
    if (rc)
        checkpoint_close(out);
    return rc;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (checkpoint->map)
        munmap(checkpoint->map, checkpoint->map_bytes);
    free(checkpoint->converted);
    free(checkpoint->layer);
    *checkpoint = (struct checkpoint){0};
}
