/* Numbers for what loops share: each target, provider, provider's key and caller's key has one, the
 * same in every snapshot, so that its breaker, latency and cool-down survive a change of the
 * configuration. Assigned while a configuration is decoded (any thread), used as an array index by
 * the loops. */
#pragma once
#include "base/id.h"
#include "base/str.h"

#define SLOT_COUNT                                                                                 \
    65536           /* of all kinds together: one numbering, so any slot can have a breaker        \
                     */
#define SLOT_NONE 0 /* the table is full: the object has no shared state */

enum slot_kind { SLOT_TARGET, SLOT_PROVIDER, SLOT_PROVIDER_KEY, SLOT_KEY, SLOT_KIND_COUNT };

/* The slot of that name, assigned now if it is new. `name`: "provider/model" for a target, the
 * provider's name, or its name and the key's index; of a caller's key its id's bytes. Never fails;
 * past the bound it answers SLOT_NONE. */
uint32_t slot_assign(enum slot_kind kind, struct id project, struct str name);
