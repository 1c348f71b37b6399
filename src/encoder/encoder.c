/* Texts in, vectors out: tokens are cut into windows, windows of many texts are put one behind the
 * other into batches, and what the model gives for each is pooled into its text's vector.
 *
 * A text's vector does not depend on the others of its batch: nothing is padded, attention stays
 * within a window, and every row of a product is summed in the same order wherever it stands. */
#include "encoder/encoder.h"
#include "encoder/forward.h"
#include "encoder/reference.h"
#include "encoder/wordpiece.h"
#include <math.h>
#include <stdlib.h>

#define BATCH_TOKENS        1024 /* of one pass through the model; a window may pass it alone */
#define SPECIAL_TOKENS      2    /* [CLS] text [SEP] */
#define SPECIAL_TOKENS_PAIR 3    /* [CLS] query [SEP] text [SEP] */

struct encoder {
    struct checkpoint checkpoint;
    struct wordpiece *wordpiece;
    struct forward *forward;
};

enum rc encoder_open(const char *folder, enum encoder_precision precision, struct encoder **out,
                     struct err *err)
{
    struct encoder *e = calloc(1, sizeof(*e));
    if (!e)
        return err_set(err, ERR_OVERLOADED, "no memory for the encoder");
    enum rc rc;
    if (!(rc = checkpoint_open(folder, &e->checkpoint, err)) &&
        !(rc = wordpiece_open(folder, &e->wordpiece, err)) &&
        wordpiece_vocabulary_count(e->wordpiece) > e->checkpoint.vocabulary)
        rc = err_set(err, ERR_INVALID, "the vocabulary has %zu tokens, the model knows %u",
                     wordpiece_vocabulary_count(e->wordpiece), e->checkpoint.vocabulary);
    if (!rc)
        rc = forward_new(&e->checkpoint, precision, &e->forward, err);
    if (rc) {
        encoder_close(e);
        return rc;
    }
    *out = e;
    return RC_OK;
}

void encoder_close(struct encoder *e)
{
    if (!e)
        return;
    forward_free(e->forward);
    wordpiece_free(e->wordpiece);
    checkpoint_close(&e->checkpoint);
    free(e);
}

unsigned encoder_dimension(const struct encoder *e) { return e->checkpoint.hidden; }
unsigned encoder_window_tokens(const struct encoder *e) { return e->checkpoint.window_tokens; }
const uint8_t *encoder_sha256(const struct encoder *e) { return e->checkpoint.sha256; }
uint64_t encoder_parameters(const struct encoder *e) { return e->checkpoint.parameters; }

const char *encoder_pooling(const struct encoder *e)
{
    if (e->checkpoint.is_reranker)
        return "rank";
    return e->checkpoint.pooling == POOLING_CLS ? "cls" : "mean";
}

bool encoder_is_reranker(const struct encoder *e) { return e->checkpoint.is_reranker; }

size_t encoder_count_tokens(const struct encoder *e, struct str text)
{
    return wordpiece_count(e->wordpiece, text);
}

/* ---- batches ---- */

/* Windows gathered for one pass. `take` gets each window's output: one row per token. */
struct batch {
    const struct encoder *encoder;
    struct sequences sequences;
    size_t *text_of; /* which text each window belongs to */
    size_t tokens_max, sequences_max;
    float *hidden;
    struct wordpiece_tokens text; /* of the text being cut */
    void (*take)(struct batch *batch, size_t text, const float *rows, size_t tokens);
    float *out;
    uint64_t tokens_total;
    struct err *err;
};

static enum rc batch_init(struct batch *b, const struct encoder *e, struct err *err)
{
    *b = (struct batch){.encoder = e, .err = err};
    b->tokens_max = MAX(BATCH_TOKENS, e->checkpoint.window_tokens);
    b->sequences_max = b->tokens_max / SPECIAL_TOKENS;
    b->sequences.ids = malloc(b->tokens_max * sizeof(*b->sequences.ids));
    b->sequences.types = malloc(b->tokens_max);
    b->sequences.starts = calloc(b->sequences_max + 1, sizeof(*b->sequences.starts));
    b->text_of = malloc(b->sequences_max * sizeof(*b->text_of));
    if (!b->sequences.ids || !b->sequences.types || !b->sequences.starts || !b->text_of)
        return err_set(err, ERR_OVERLOADED, "no memory to encode");
    return RC_OK;
}

static void batch_fini(struct batch *b)
{
    free(b->sequences.ids);
    free(b->sequences.types);
    free(b->sequences.starts);
    free(b->text_of);
    free(b->hidden);
    wordpiece_tokens_fini(&b->text);
}

static enum rc batch_run(struct batch *b)
{
    struct sequences *s = &b->sequences;
    size_t width = b->encoder->checkpoint.hidden;
    if (!s->sequence_count)
        return RC_OK;
    free(b->hidden);
    b->hidden = malloc(s->token_count * width * sizeof(float));
    if (!b->hidden)
        return err_set(b->err, ERR_OVERLOADED, "no memory to encode");
    enum rc rc = forward_run(b->encoder->forward, s, b->hidden, b->err);
    if (rc)
        return rc;
    for (size_t i = 0; i < s->sequence_count; i++)
        b->take(b, b->text_of[i], b->hidden + s->starts[i] * width,
                s->starts[i + 1] - s->starts[i]);
    s->token_count = s->sequence_count = 0;
    return RC_OK;
}

static void batch_push(struct batch *b, uint8_t type, const uint32_t *ids, size_t count)
{
    struct sequences *s = &b->sequences;
    if (count)
        memcpy(s->ids + s->token_count, ids, count * sizeof(*ids));
    memset(s->types + s->token_count, type, count);
    s->token_count += count;
}

/* Adds [CLS] text [SEP], or [CLS] query [SEP] text [SEP], as one window of the text `text`. */
static enum rc batch_add(struct batch *b, size_t text, const struct wordpiece_tokens *query,
                         const uint32_t *ids, size_t count)
{
    const struct wordpiece *w = b->encoder->wordpiece;
    uint32_t cls = wordpiece_cls(w), sep = wordpiece_sep(w);
    struct sequences *s = &b->sequences;
    size_t wanted = count + (query ? query->count + SPECIAL_TOKENS_PAIR : SPECIAL_TOKENS);
    if (s->token_count + wanted > b->tokens_max) {
        enum rc rc = batch_run(b);
        if (rc)
            return rc;
    }
    ASSERT(s->token_count + wanted <= b->tokens_max && s->sequence_count < b->sequences_max);
    batch_push(b, 0, &cls, 1);
    if (query) {
        batch_push(b, 0, query->ids, query->count);
        batch_push(b, 0, &sep, 1);
    }
    batch_push(b, query ? 1 : 0, ids, count);
    batch_push(b, query ? 1 : 0, &sep, 1);
    b->text_of[s->sequence_count++] = text;
    s->starts[s->sequence_count] = (uint32_t)s->token_count;
    b->tokens_total += wanted;
    return RC_OK;
}

/* How many of the `count` tokens left make the next window of at most `max`: windows of about the
 * same size, cut before a word where one begins in the second half. */
static size_t window_of(const struct wordpiece *w, const uint32_t *ids, size_t count, size_t max)
{
    if (count <= max)
        return count;
    size_t windows = (count + max - 1) / max, n = (count + windows - 1) / windows;
    for (size_t cut = n; cut > n / 2; cut--)
        if (!wordpiece_continues(w, ids[cut]))
            return cut;
    return n;
}

/* One text in as many windows as it takes. */
static enum rc batch_add_text(struct batch *b, size_t text, struct str s,
                              const struct wordpiece_tokens *query)
{
    const struct encoder *e = b->encoder;
    size_t max =
        e->checkpoint.window_tokens - (query ? query->count + SPECIAL_TOKENS_PAIR : SPECIAL_TOKENS);
    b->text.count = 0;
    enum rc rc = wordpiece_encode(e->wordpiece, s, &b->text, b->err);
    size_t at = 0;
    do {
        if (rc)
            return rc;
        size_t n = window_of(e->wordpiece, b->text.ids + at, b->text.count - at, max);
        rc = batch_add(b, text, query, b->text.ids + at, n);
        at += n;
    } while (at < b->text.count);
    return rc;
}

/* ---- vectors ---- */

/* Windows weigh as many tokens as they have, so for the mean their rows are simply summed up. */
static void pool(struct batch *b, size_t text, const float *rows, size_t tokens)
{
    const struct checkpoint *c = &b->encoder->checkpoint;
    float *vector = b->out + text * c->hidden;
    if (c->pooling == POOLING_CLS) {
        for (unsigned i = 0; i < c->hidden; i++)
            vector[i] += rows[i] * (float)tokens;
        return;
    }
    for (size_t t = 0; t < tokens; t++)
        for (unsigned i = 0; i < c->hidden; i++)
            vector[i] += rows[t * c->hidden + i];
}

static void make_unit_length(float *vector, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += (double)vector[i] * vector[i];
    float scale = (float)(1 / fmax(sqrt(sum), 1e-12));
    for (unsigned i = 0; i < n; i++)
        vector[i] *= scale;
}

enum rc encoder_encode(const struct encoder *e, const struct str *texts, size_t count,
                       float *vectors, uint64_t *tokens, struct err *err)
{
    struct batch b;
    enum rc rc = batch_init(&b, e, err);
    b.take = pool;
    b.out = vectors;
    memset(vectors, 0, count * e->checkpoint.hidden * sizeof(float));
    for (size_t i = 0; i < count && !rc; i++)
        rc = batch_add_text(&b, i, texts[i], NULL);
    if (!rc)
        rc = batch_run(&b);
    for (size_t i = 0; i < count && !rc; i++)
        make_unit_length(vectors + i * e->checkpoint.hidden, e->checkpoint.hidden);
    if (tokens)
        *tokens = b.tokens_total;
    batch_fini(&b);
    return rc;
}

/* ---- scores ---- */

/* The best window counts: an answer may stand anywhere in a long text. */
static void score(struct batch *b, size_t text, const float *rows, size_t tokens)
{
    UNUSED(tokens);
    const struct checkpoint *c = &b->encoder->checkpoint;
    float value = reference_score(c, rows);
    if (c->rank_sigmoid)
        value = 1 / (1 + expf(-value));
    b->out[text] = fmaxf(b->out[text], value);
}

enum rc encoder_rank(const struct encoder *e, struct str query, const struct str *texts,
                     size_t count, float *scores, struct err *err)
{
    if (!e->checkpoint.is_reranker)
        return err_set(err, ERR_INVALID, "the model is no reranker: it has no classifier");
    struct batch b;
    struct wordpiece_tokens words = {0};
    enum rc rc = batch_init(&b, e, err);
    b.take = score;
    b.out = scores;
    size_t query_tokens_max = e->checkpoint.window_tokens / 2 - SPECIAL_TOKENS;
    if (!rc && !(rc = wordpiece_encode(e->wordpiece, query, &words, err)) &&
        words.count > query_tokens_max)
        rc = err_set(err, ERR_CONTEXT_LENGTH,
                     "the query has %zu tokens; this reranker reads at most %zu", words.count,
                     query_tokens_max);
    for (size_t i = 0; i < count && !rc; i++) {
        scores[i] = -INFINITY;
        rc = batch_add_text(&b, i, texts[i], &words);
    }
    if (!rc)
        rc = batch_run(&b);
    wordpiece_tokens_fini(&words);
    batch_fini(&b);
    return rc;
}
