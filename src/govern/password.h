/* Passwords: argon2id, 19 MiB, two passes (OWASP's figures). A hash takes some 30 ms: workers only.
 */
#pragma once
#include "base/arena.h"
#include "base/err.h"

#define PASSWORD_CHARACTERS_MIN 10
#define PASSWORD_BYTES_MAX      256

/* ERR_BAD_FIELD when it is too short or too long. */
enum rc password_hash(struct str password, struct arena *arena, struct str *out,
                      struct err *err) MUST_CHECK;
/* An empty `hash` takes as long and is false: so that unknown users cannot be told by time. */
bool password_matches(struct str hash, struct str password);
