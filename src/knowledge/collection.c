/* See collection.h. */
#include "knowledge/collection.h"
#include "http/message.h"
#include "text/decode.h"
#include "text/json.h"
#include <math.h>

#define CHUNK_TOKENS_MAX        8192
#define TOKENS_WITHOUT_ENCODER  1000
#define CHUNK_TOKENS_MIN        16
#define WINDOW_SENTENCES_MAX    20
#define RERANK_DEPTH_MAX        200
#define INSTRUCTIONS_BYTES_MAX  (16 * 1024)
#define SCANS_ADDRESS_BYTES_MAX 1000
#define SCANS_PAGES_MAX         2000

static const char *const mode_names[] = {"hybrid", "vector", "text", NULL};
static const char *const strategy_names[] = {"structure", "sentence_window", "parent_child",
                                             "static", NULL};
static const char *const scans_names[] = {"tesseract", "vision", "docling", "tika", "none", NULL};
static const char *const metric_names[] = {"cosine", "dot", "l2", NULL};
static const char *const fusion_names[] = {"rrf", "weighted", NULL};
static const char *const precision_names[] = {"f32", "bf16", "int8", NULL};

const char *chunk_strategy_name(enum chunk_strategy strategy) { return strategy_names[strategy]; }

const char *scans_by_name(enum scans_by by) { return scans_names[by]; }

const char *search_mode_name(enum search_mode mode) { return mode_names[mode]; }

enum rc search_mode_parse(struct str s, enum search_mode *out)
{
    for (int i = 0; mode_names[i]; i++)
        if (str_eq(s, str_from(mode_names[i]))) {
            *out = (enum search_mode)i;
            return RC_OK;
        }
    return RC_INVALID;
}

bool collection_has_encoder(const struct collection_spec *spec)
{
    return !str_eq(spec->encoder, STR(COLLECTION_ENCODER_NONE));
}

/* A number within bounds; absent leaves *out. */
static enum rc decode_real(const struct place *object, const char *name, double min, double max,
                           double *out, struct err *err)
{
    struct place at;
    enum rc rc = decode_member(object, name, DECODE_OPTIONAL, &at, err);
    if (rc != RC_OK || !at.value)
        return rc;
    double value = yyjson_get_num(at.value);
    if (!yyjson_is_num(at.value) || !(value >= min && value <= max))
        return decode_refuse(&at, err, "must be a number from %g to %g", min, max);
    *out = value;
    return RC_OK;
}

static enum rc decode_size(const struct place *object, const char *name, size_t min, size_t max,
                           size_t *out, struct err *err)
{
    int64_t value = (int64_t)*out;
    enum rc rc = decode_i64(object, name, (int64_t)min, (int64_t)max, &value, err);
    *out = (size_t)value;
    return rc;
}

static enum rc decode_unsigned(const struct place *object, const char *name, unsigned min,
                               unsigned max, unsigned *out, struct err *err)
{
    int64_t value = *out;
    enum rc rc = decode_i64(object, name, min, max, &value, err);
    *out = (unsigned)value;
    return rc;
}

static enum rc decode_enum(const struct place *object, const char *name, const char *const *words,
                           int otherwise, int *out, struct err *err)
{
    *out = otherwise;
    return decode_word(object, name, words, out, err);
}

static enum rc decode_chunking_at(const struct place *at, struct chunk_options *options,
                                  struct err *err)
{
    static const char *const members[] = {"strategy",         "tokens_max",    "overlap_tokens",
                                          "window_sentences", "parent_tokens", NULL};
    int strategy;
    enum rc rc = decode_expect_object(at, err);
    if (rc == RC_OK && at->value)
        rc = decode_only(at, members, err);
    if (rc != RC_OK || !at->value)
        return rc;
    rc = decode_enum(at, "strategy", strategy_names, (int)options->strategy, &strategy, err);
    options->strategy = (enum chunk_strategy)strategy;
    if (rc == RC_OK)
        rc = decode_unsigned(at, "tokens_max", CHUNK_TOKENS_MIN, CHUNK_TOKENS_MAX,
                             &options->tokens_max, err);
    if (rc == RC_OK)
        rc = decode_unsigned(at, "overlap_tokens", 0, options->tokens_max / 2,
                             &options->overlap_tokens, err);
    if (rc == RC_OK)
        rc = decode_unsigned(at, "window_sentences", 0, WINDOW_SENTENCES_MAX,
                             &options->window_sentences, err);
    if (rc == RC_OK)
        rc = decode_unsigned(at, "parent_tokens", CHUNK_TOKENS_MIN, CHUNK_TOKENS_MAX,
                             &options->parent_tokens, err);
    return rc;
}

enum rc collection_decode_chunking(yyjson_val *json, const char *path,
                                   struct chunk_options *options, struct err *err)
{
    struct place root;
    decode_root(&root, json, path);
    return decode_chunking_at(&root, options, err);
}

static enum rc decode_ranking(const struct place *at, struct collection_ranking *out,
                              struct err *err)
{
    static const char *const members[] = {
        "mode",         "k",         "recall",    "fusion",   "text_weight",  "k1", "b",
        "title_weight", "score_min", "diversity", "reranker", "rerank_depth", NULL};
    int mode, fusion;
    enum rc rc = decode_expect_object(at, err);
    if (rc != RC_OK || !at->value)
        return rc;
    if ((rc = decode_only(at, members, err)) ||
        (rc = decode_enum(at, "mode", mode_names, (int)out->mode, &mode, err)) ||
        (rc = decode_enum(at, "fusion", fusion_names, (int)out->fusion, &fusion, err)))
        return rc;
    out->mode = (enum search_mode)mode;
    out->fusion = (enum index_fusion)fusion;
    if ((rc = decode_size(at, "k", 1, 1000, &out->k, err)) ||
        (rc = decode_real(at, "recall", 0.5, 1, &out->recall, err)) ||
        (rc = decode_real(at, "text_weight", 0, 1, &out->text_weight, err)) ||
        (rc = decode_real(at, "k1", 0, 10, &out->k1, err)) ||
        (rc = decode_real(at, "b", 0, 1, &out->b, err)) ||
        (rc = decode_real(at, "title_weight", 0, 100, &out->title_weight, err)) ||
        (rc = decode_real(at, "score_min", -1e9, 1e9, &out->score_min, err)) ||
        (rc = decode_real(at, "diversity", 0, 1, &out->diversity, err)) ||
        (rc = decode_str(at, "reranker", DECODE_OPTIONAL, 128, &out->reranker, err)))
        return rc;
    return decode_size(at, "rerank_depth", 1, RERANK_DEPTH_MAX, &out->rerank_depth, err);
}

static enum rc decode_answer(const struct place *at, struct collection_answer *out, struct err *err)
{
    static const char *const members[] = {"route", "k", "instructions", NULL};
    enum rc rc = decode_expect_object(at, err);
    if (rc != RC_OK || !at->value)
        return rc;
    if ((rc = decode_only(at, members, err)) ||
        (rc = decode_str(at, "route", DECODE_OPTIONAL, 384, &out->route, err)) ||
        (rc = decode_size(at, "k", 1, 50, &out->k, err)))
        return rc;
    return decode_str(at, "instructions", DECODE_OPTIONAL, INSTRUCTIONS_BYTES_MAX,
                      &out->instructions, err);
}

static enum rc check_scans_address(const struct place *at, struct str *address, struct err *err)
{
    struct url url;
    struct place place;
    enum rc rc = decode_member(at, "address", DECODE_REQUIRED, &place, err);
    if (rc != RC_OK)
        return rc;
    bool ok = url_parse(*address, &url, NULL) == RC_OK && url.user.n == 0 &&
              (str_eq(url.scheme, STR("http")) || str_eq(url.scheme, STR("https"))) &&
              str_find_char(url.path, '?') < 0;
    if (!ok)
        return decode_refuse(&place, err, "must be an address such as http://10.0.0.5:9998");
    while (str_ends(*address, STR("/")))
        address->n--;
    return RC_OK;
}

static enum rc decode_scans(const struct place *at, struct collection_scans *out, struct err *err)
{
    static const char *const members[] = {"by", "route", "address", "pages_max", "timeout_s", NULL};
    int by;
    enum rc rc = decode_expect_object(at, err);
    if (rc != RC_OK || !at->value)
        return rc;
    if ((rc = decode_only(at, members, err)) ||
        (rc = decode_enum(at, "by", scans_names, (int)out->by, &by, err)))
        return rc;
    out->by = (enum scans_by)by;
    bool service = out->by == SCANS_DOCLING || out->by == SCANS_TIKA;
    if ((rc = decode_str(at, "route", out->by == SCANS_VISION ? DECODE_REQUIRED : DECODE_OPTIONAL,
                         384, &out->route, err)) ||
        (rc = decode_str(at, "address", service ? DECODE_REQUIRED : DECODE_OPTIONAL,
                         SCANS_ADDRESS_BYTES_MAX, &out->address, err)) ||
        (rc = decode_size(at, "pages_max", 1, SCANS_PAGES_MAX, &out->pages_max, err)) ||
        (rc = decode_i64(at, "timeout_s", 1, 3600, &out->timeout_s, err)))
        return rc;
    return service ? check_scans_address(at, &out->address, err) : RC_OK;
}

/* Names stand in paths, model names and folders. */
static enum rc check_name(struct str name, struct err *err)
{
    bool ok = name.n > 0 && name.n <= COLLECTION_NAME_BYTES_MAX;
    for (size_t i = 0; ok && i < name.n; i++) {
        char c = name.p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             (i > 0 && (c == '-' || c == '_' || c == '.'));
    }
    if (ok)
        return RC_OK;
    return err_set_field(err, ERR_BAD_FIELD, "name",
                         "A collection's name has 1 to %d letters, digits, '-', '_' or '.', and "
                         "begins with a letter or digit.",
                         COLLECTION_NAME_BYTES_MAX);
}

static void fill_defaults(struct collection_spec *spec)
{
    *spec = (struct collection_spec){
        .encoder = STR(COLLECTION_ENCODER_DEFAULT),
        .precision = ENCODER_F32,
        .metric = METRIC_COSINE,
        .language = STR("english"),
        .chunking = {.strategy = CHUNK_STRUCTURE,
                     .tokens_max = 250,
                     .overlap_tokens = 0,
                     .window_sentences = 2,
                     .parent_tokens = 1000},
        .ranking = {.mode = SEARCH_HYBRID,
                    .k = 10,
                    .recall = 0.95,
                    .fusion = FUSION_RRF,
                    .text_weight = -1,
                    .title_weight = 1,
                    .score_min = -INFINITY,
                    .rerank_depth = 30},
        .answer = {.k = 6},
        .scans = {.pages_max = 50, .timeout_s = 300},
    };
}

enum rc collection_decode(struct str name, yyjson_val *json, struct arena *arena,
                          struct collection_spec *out, struct err *err)
{
    static const char *const members[] = {
        "description", "encoder",  "precision", "query_prefix", "document_prefix", "dimension",
        "metric",      "language", "chunking",  "ranking",      "answer",          "scans",
        "tags",        NULL};
    struct place root, chunking, ranking, answer, scans;
    int metric, precision;
    enum rc rc = check_name(name, err);
    fill_defaults(out);
    decode_root(&root, json, "");
    if (rc == RC_OK)
        rc = decode_str(&root, "encoder", DECODE_OPTIONAL, 128, &out->encoder, err);
    if (!collection_has_encoder(out)) /* no window to fit: words rank better in larger pieces */
        out->chunking.tokens_max = TOKENS_WITHOUT_ENCODER;
    if (rc != RC_OK || (rc = decode_only(&root, members, err)) ||
        (rc = decode_str(&root, "description", DECODE_OPTIONAL, 2000, &out->description, err)) ||
        (rc = decode_enum(&root, "precision", precision_names, 0, &precision, err)) ||
        (rc = decode_str(&root, "query_prefix", DECODE_OPTIONAL, COLLECTION_PREFIX_BYTES_MAX,
                         &out->query_prefix, err)) ||
        (rc = decode_str(&root, "document_prefix", DECODE_OPTIONAL, COLLECTION_PREFIX_BYTES_MAX,
                         &out->document_prefix, err)) ||
        (rc = decode_unsigned(&root, "dimension", 0, VECTOR_DIMENSION_MAX, &out->dimension, err)) ||
        (rc = decode_enum(&root, "metric", metric_names, 0, &metric, err)) ||
        (rc = decode_str(&root, "language", DECODE_OPTIONAL, 32, &out->language, err)) ||
        (rc = decode_member(&root, "chunking", DECODE_OPTIONAL, &chunking, err)) ||
        (rc = decode_chunking_at(&chunking, &out->chunking, err)) ||
        (rc = decode_member(&root, "ranking", DECODE_OPTIONAL, &ranking, err)) ||
        (rc = decode_ranking(&ranking, &out->ranking, err)) ||
        (rc = decode_member(&root, "answer", DECODE_OPTIONAL, &answer, err)) ||
        (rc = decode_answer(&answer, &out->answer, err)) ||
        (rc = decode_member(&root, "scans", DECODE_OPTIONAL, &scans, err)) ||
        (rc = decode_scans(&scans, &out->scans, err)) ||
        (rc = decode_texts(&root, "tags", COLLECTION_TAGS_MAX, 256, arena, &out->tags,
                           &out->tag_count, err)))
        return rc;
    out->metric = (enum vector_metric)metric;
    out->precision = (enum encoder_precision)precision;
    if (collection_has_encoder(out) && out->metric != METRIC_COSINE)
        return err_set_field(err, ERR_BAD_FIELD, "metric",
                             "The built-in encoder's vectors are compared by cosine.");
    if (collection_has_encoder(out) && out->dimension)
        return err_set_field(err, ERR_BAD_FIELD, "dimension",
                             "The encoder sets the dimension; give one only with \"encoder\": "
                             "\"none\", for vectors that you bring.");
    return RC_OK;
}

bool collection_spec_same_built(const struct collection_spec *a, const struct collection_spec *b)
{
    const struct chunk_options *x = &a->chunking, *y = &b->chunking;
    return str_eq(a->encoder, b->encoder) && a->precision == b->precision &&
           a->dimension == b->dimension && a->metric == b->metric &&
           str_eq(a->language, b->language) && str_eq(a->document_prefix, b->document_prefix) &&
           x->strategy == y->strategy && x->tokens_max == y->tokens_max &&
           x->overlap_tokens == y->overlap_tokens && x->window_sentences == y->window_sentences &&
           x->parent_tokens == y->parent_tokens;
}

void collection_spec_take_built(struct collection_spec *spec, const struct collection_spec *built)
{
    spec->encoder = built->encoder;
    spec->precision = built->precision;
    spec->dimension = built->dimension;
    spec->metric = built->metric;
    spec->language = built->language;
    spec->query_prefix = built->query_prefix;
    spec->document_prefix = built->document_prefix;
    spec->chunking = built->chunking;
}

void collection_index_config(const struct collection_spec *spec, unsigned dimension,
                             struct index_config *out)
{
    *out = (struct index_config){
        .texts = {{STR("text"), 1}, {STR("title"), spec->ranking.title_weight}},
        .text_count = 2,
        .language = spec->language,
        .k1 = spec->ranking.k1,
        .b = spec->ranking.b,
    };
    if (dimension) {
        out->vectors[0] = (struct index_vector_field){STR(""), dimension, spec->metric};
        out->vector_count = 1;
    }
}
