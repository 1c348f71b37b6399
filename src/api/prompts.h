/* What the handlers of prompts share: the management routes and Langfuse's. */
#pragma once
#include "api/api.h"
#include "prompt/prompt.h"

/* The prompts of the caller's project as they can be called. Until the thread asks again. */
const struct map *prompts_callable(struct api_call *call);
/* A version by number, by label, or "" and "latest": the newest. */
enum rc prompts_find(struct api_call *call, struct str name, struct str which,
                     struct object *out) MUST_CHECK;
enum rc prompts_parse(struct api_call *call, const struct object *object,
                      yyjson_val **out) MUST_CHECK;
/* Stores `definition` as the next version, and moves the labels of that list to it. */
enum rc prompts_save(struct api_call *call, struct str name, yyjson_val *definition,
                     struct str message, yyjson_val *labels, bool create_only,
                     int64_t version_expected, struct object *out) MUST_CHECK;
/* No targets: the label is taken away. A protected label is moved by an administrator who did not
 * write the version. */
enum rc prompts_label(struct api_call *call, struct str name, struct str label,
                      const struct label_target *targets, size_t count) MUST_CHECK;
/* Names of the labels that point to the version, "latest" too where it is. */
enum rc prompts_labels_of(struct api_call *call, const struct object *version,
                          yyjson_mut_val **out) MUST_CHECK;
