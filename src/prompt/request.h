/* Calls by a prompt's name: the body of a request that names "prompt/NAME@label" becomes the body
 * that asks the prompt's model with the rendered messages. Pure: no clock, no database. */
#pragma once
#include "prompt/prompt.h"

enum prompt_door { PROMPT_CHAT, PROMPT_ANTHROPIC, PROMPT_RESPONSES, PROMPT_COMPLETIONS };

#define PROMPT_PREFIX "prompt/"

struct prompt_request {
    const struct map *prompts; /* name → struct prompt_family */
    struct str model;          /* "prompt/NAME@label" */
    uint64_t share;
    yyjson_val *body;
    enum prompt_door door;
};

struct prompt_rewritten {
    struct str body;
    struct str called; /* "NAME@3", for the record */
};

/* Variables come from the member `variables`, which is taken out, and from texts in `metadata`.
 * What the caller set himself stays; the rest comes from the version's config. ERR_MODEL_NOT_FOUND,
 * ERR_MISSING_FIELD (a variable, the model), ERR_UNSUPPORTED. */
enum rc prompt_rewrite(const struct prompt_request *request, struct arena *arena,
                       struct prompt_rewritten *out, struct err *err) MUST_CHECK;
