/* What a request's `model` means: a route, `provider/model`, or a local model; and what a key may
 * call. */
#pragma once
#include "gateway/scope.h"
#include "gateway/snapshot.h"

struct model;

struct resolved {
    const struct route
        *route; /* always set; for provider/model and local models a made-up one with one target */
    bool is_route; /* false: made up, in the arena */
};

/* In this order: exact route; reserved prefix (pipeline/ and knowledge/ are answered inside,
 * inner.h; prompt/ was rewritten before, call_request.c); provider/rest; a local model's name.
 * Globs of the key are checked against the name as given. ERR_MODEL_NOT_FOUND,
 * ERR_MODEL_NOT_ALLOWED. */
enum rc resolve_model(const struct project *project, const struct key *key, struct str model,
                      struct arena *arena, struct resolved *out, struct err *err) MUST_CHECK;
/* The encoder that a local model's name means, which may say a precision: "NAME:int8". NULL:
 * another kind of model, or none. */
const struct model *resolve_encoder(const struct project *project, struct str name);
/* Names that the key may call (key NULL: all), each once, sorted: routes, local models, what is
 * answered inside, prompts. */
enum rc resolve_list(const struct project *project, const struct key *key, struct arena *arena,
                     struct str **names, size_t *count) MUST_CHECK;
