/* /v1/embeddings (OpenAI's shape) and /v1/rerank (Cohere's) for local encoders: the request is
 * checked on its loop, computed on a worker, and answered on its loop again. So many may wait for
 * workers at once; more are refused with ERR_OVERLOADED. */
#pragma once
#include "encoder/encoder.h"
#include "io/worker.h"

/* Registers with the gateway, before the loops run; `encoders` and `workers` must outlive them. */
void embedder_register(struct encoders *encoders, struct worker_pool *workers);

/* What a request asks for, decoded; used by the server above, and by tests alone. Texts point into
 * the document. */
struct embed_request {
    bool rerank, base64;
    struct str model, query;
    struct str *texts;
    size_t count, top;   /* top: how many results of a rerank */
    unsigned dimensions; /* 0: all */
    bool return_documents;
};

/* ERR_BAD_FIELD, ERR_MISSING_FIELD, ERR_UNSUPPORTED name the field. */
enum rc embed_request_decode(struct str body, bool rerank, struct arena *arena,
                             struct embed_request *out, struct err *err) MUST_CHECK;
/* Loads the encoder if need be and computes; the answer's JSON in the arena. Blocks. */
enum rc embed_request_answer(const struct embed_request *request, struct encoders *encoders,
                             struct str name, struct arena *arena, struct str *json,
                             struct err *err) MUST_CHECK;
