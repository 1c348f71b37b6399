/* What a collection is: its definition (an object of kind "collection") decoded, with every default
 * filled in. The definition says how documents are cut, encoded, ranked and answered from. */
#pragma once
#include "encoder/encoder.h"
#include "knowledge/chunk.h"
#include "vector/index.h"
#include <yyjson.h>

#define COLLECTION_NAME_BYTES_MAX   100
#define COLLECTION_TAGS_MAX         32
#define COLLECTION_PREFIX_BYTES_MAX 512
#define COLLECTION_ENCODER_DEFAULT  "all-minilm-l6-v2"
#define COLLECTION_ENCODER_NONE     "none" /* words only, or vectors that the caller brings */

enum search_mode { SEARCH_HYBRID, SEARCH_VECTOR, SEARCH_TEXT };

struct collection_ranking {
    enum search_mode mode;
    size_t k;
    double recall; /* of the vector part, 0.5 … 1 */
    enum index_fusion fusion;
    double text_weight;  /* 0 … 1; <0: the index's default */
    double k1, b;        /* BM25; 0: the defaults */
    double title_weight; /* of headings and names beside the text */
    double score_min;    /* -INFINITY: none */
    double diversity;    /* 0 … 1 */
    struct str reranker; /* a cross-encoder of the model folder, or empty */
    size_t rerank_depth;
};

struct collection_answer {
    struct str route; /* empty: the first usable local model */
    size_t k;
    struct str instructions; /* before the passages; empty: the built-in ones */
};

/* Who reads files without text: scans, and pictures where `by` says somebody outside. */
enum scans_by { SCANS_TESSERACT, SCANS_VISION, SCANS_DOCLING, SCANS_TIKA, SCANS_NONE };

struct collection_scans {
    enum scans_by by;
    struct str route;   /* vision: a route or model that sees */
    struct str address; /* docling, tika: the service's base address, without a '/' at its end */
    size_t pages_max;   /* vision: of one file */
    int64_t timeout_s;  /* vision: of one page; else of the file */
};

struct collection_spec {
    struct str description;
    struct str encoder; /* a model of the model folder, or "none" */
    enum encoder_precision precision;
    struct str query_prefix, document_prefix; /* E5 and BGE want them */
    unsigned dimension;                       /* of vectors that callers bring; 0: the encoder's */
    enum vector_metric metric;
    struct str language;
    struct chunk_options chunking;
    struct collection_ranking ranking;
    struct collection_answer answer;
    struct collection_scans scans;
    struct str *tags; /* access tags of documents that name none */
    size_t tag_count;
};

/* ERR_BAD_FIELD names the member. Texts live in the document or the arena. */
enum rc collection_decode(struct str name, yyjson_val *json, struct arena *arena,
                          struct collection_spec *out, struct err *err) MUST_CHECK;
/* Over `options`, as a document or an upload may say: {"strategy", "tokens_max", …}. */
enum rc collection_decode_chunking(yyjson_val *json, const char *path,
                                   struct chunk_options *options, struct err *err) MUST_CHECK;
const char *chunk_strategy_name(enum chunk_strategy strategy);
const char *scans_by_name(enum scans_by by);
const char *search_mode_name(enum search_mode mode);
enum rc search_mode_parse(struct str s, enum search_mode *out) MUST_CHECK;
bool collection_has_encoder(const struct collection_spec *spec);
/* What chunks and vectors depend on: encoder, language, chunking … */
bool collection_spec_same_built(const struct collection_spec *a, const struct collection_spec *b);
void collection_spec_take_built(struct collection_spec *spec, const struct collection_spec *built);
/* The index of such a collection; `dimension` 0: words only. Texts are literals. */
void collection_index_config(const struct collection_spec *spec, unsigned dimension,
                             struct index_config *out);
