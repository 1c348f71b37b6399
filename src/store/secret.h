/* Secrets at rest. A secret inside an object's definition is stored as `${sealed:HINT:DATA}`:
 * AES-256-GCM under the data folder's own key (secret/control.key, mode 0600), bound to the object
 * it belongs to.
 * `${env:NAME}` and `${file:/path}` are references: kept as they are and read when the snapshot is
 * built. Any thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

struct secret_box;

/* Reads the key, or makes one when the folder has none. RC_DENIED: others can read the file. */
enum rc secret_box_open(const char *directory, struct secret_box **out, struct err *err) MUST_CHECK;
void secret_box_free(struct secret_box *box); /* wipes the key */

bool secret_is_reference(struct str text); /* ${env:…} or ${file:…} */
bool secret_is_sealed(struct str text);

/* `context` names the owner (project/kind/name/field); opening needs the same. */
enum rc secret_seal(const struct secret_box *box, struct str context, struct str plain,
                    struct arena *arena, struct str *out, struct err *err) MUST_CHECK;
/* The secret itself, whatever form it is kept in: sealed, reference or plain. Files lose one
 * newline at the end. ERR_BAD_FIELD when the variable is not set or the file cannot be read. */
enum rc secret_resolve(const struct secret_box *box, struct str context, struct str text,
                       struct arena *arena, struct str *out, struct err *err) MUST_CHECK;
/* What may be shown: "…wxyz" for a sealed or plain secret, a reference as it is. */
enum rc secret_mask(struct str text, struct arena *arena, struct str *out,
                    struct err *err) MUST_CHECK;
/* Substitutes references inside `text` ("http://${env:HOST}/v1"), for configuration that is no
 * secret. */
enum rc secret_expand(struct str text, struct arena *arena, struct str *out,
                      struct err *err) MUST_CHECK;
/* A digest keyed by the box, for tokens that are derived and not stored. */
void secret_derive(const struct secret_box *box, struct str purpose, struct str input,
                   uint8_t out[32]);
