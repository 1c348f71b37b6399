/* API keys as the hot path sees them: looked up by SHA-256 of the secret in the snapshot. */
#pragma once
#include "base/arena.h"
#include "base/hash.h"
#include "govern/principal.h"
#include "store/object.h"
#include "trace/call.h"

/* 0 everywhere means: no bound. */
struct limits {
    int64_t requests_per_minute, tokens_per_minute, parallel;
    int64_t budget_day_pico, budget_month_pico; /* COST_UNKNOWN: no budget */
};

struct key {
    struct id id;
    uint8_t secret_sha256[SHA256_BYTES];
    struct str name;
    struct principal principal;
    struct str *model_globs; /* count 0: none allowed */
    size_t model_glob_count;
    int64_t expires_wall_ns; /* 0: never */
    bool revoked;
    struct limits limits;
    struct str user; /* default end user */
    struct call_tag *tags;
    size_t tag_count;
    enum capture capture;
    uint32_t slot; /* of when it was last used (gateway/seen.h); set in a snapshot */
};

bool key_allows_model(const struct key *key, struct str model);

/* ---- as objects: kind "key", named by their id's text ---- */

/* From the stored definition. Texts are copied into `arena`. */
enum rc key_decode(const struct object *object, yyjson_val *json, struct arena *arena,
                   struct key *out, struct err *err) MUST_CHECK;

/* Makes a key of `definition` {name, scopes, models, expires_at, limits, budget, tags, user,
 * capture}; the secret is told once and stored as a digest only. ERR_FORBIDDEN when it could do
 * more than who makes it. */
enum rc key_create(struct db_txn *txn, const struct principal *principal, const struct actor *actor,
                   yyjson_val *definition, struct arena *arena, struct str *secret,
                   struct object *out, struct err *err) MUST_CHECK;
/* The key of the configuration file: its secret is given, its id made from project and name. */
enum rc key_put_from_file(struct db_txn *txn, const struct actor *actor, struct id project,
                          struct str secret, yyjson_val *definition, struct arena *arena,
                          struct object *out, struct err *err) MUST_CHECK;
/* Merges `patch` (members of a definition; null removes) into the key. */
enum rc key_update(struct db_txn *txn, const struct principal *principal, const struct actor *actor,
                   struct id id, yyjson_val *patch, struct arena *arena, struct object *out,
                   struct err *err) MUST_CHECK;
/* Refused from now on; the key stays in lists and in the records of its calls. */
enum rc key_revoke(struct db_txn *txn, const struct principal *principal, const struct actor *actor,
                   struct id id, struct arena *arena, struct err *err) MUST_CHECK;
struct id key_file_id(struct id project, struct str name);
