/* What this process has last seen of keys and providers, for the API: when a key was used, what a
 * provider's last failure was. By slot (slots.h), so it survives changes of the configuration, but
 * not a restart. Any thread. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

/* Costs the hot path a load; a store once a second. SLOT_NONE: nothing is kept. */
void seen_key_used(uint32_t slot, int64_t wall_ns);
/* 0: not since this process started. */
int64_t seen_key_used_ns(uint32_t slot);

/* An attempt failed by the provider's fault, or its credential was refused. */
void seen_provider_failed(uint32_t slot, const struct err *err, int64_t wall_ns);
/* The text lives in the arena; false: nothing has failed since this process started. */
bool seen_provider_failure(uint32_t slot, struct arena *arena, struct str *text, int64_t *wall_ns);
void seen_forget_all(void); /* tests */
