/* Changing the definitions that the gateway runs on: providers, routes, limits, prices, settings. A
 * change is stored, then decoded as the snapshot will decode it; what cannot take effect is refused
 * and undone with its transaction. */
#pragma once
#include "govern/principal.h"
#include "store/object.h"

/* `body` is the API's form: null members count as absent; name, origin, version, status and times,
 * which the API shows, are passed over. ERR_CONFLICT when it exists. */
enum rc definition_create(struct db_txn *txn, const struct principal *principal,
                          const struct actor *actor, enum object_kind kind, struct str name,
                          yyjson_val *body, struct arena *arena, struct object *out,
                          struct err *err) MUST_CHECK;
/* Makes or replaces it. */
enum rc definition_put(struct db_txn *txn, const struct principal *principal,
                       const struct actor *actor, enum object_kind kind, struct str name,
                       yyjson_val *body, struct arena *arena, struct object *out,
                       struct err *err) MUST_CHECK;
/* Merges `patch` (RFC 7396) into it; ERR_NOT_FOUND. */
enum rc definition_patch(struct db_txn *txn, const struct principal *principal,
                         const struct actor *actor, enum object_kind kind, struct str name,
                         yyjson_val *patch, struct arena *arena, struct object *out,
                         struct err *err) MUST_CHECK;
/* ERR_CONFLICT for a provider that routes still name. */
enum rc definition_delete(struct db_txn *txn, const struct principal *principal,
                          const struct actor *actor, enum object_kind kind, struct str name,
                          struct arena *arena, struct err *err) MUST_CHECK;
/* Whether a stored object can take effect now. The error's field is its place in the definition. */
enum rc definition_verify(struct db_txn *txn, const struct object *object,
                          struct err *err) MUST_CHECK;
