/* Exact-match cache of answers, shared by all loops: a bounded table of immutable entries. A
 * look-up that meets another loop's hand on the same place counts as a miss; nothing ever waits. */
#pragma once
#include "base/arena.h"
#include "base/hash.h"

#define CACHE_ENTRY_BYTES_MAX (1024 * 1024)

struct cache_key {
    uint8_t digest[SHA256_BYTES];
};

/* An answer as the client got it. Immutable; counted. */
struct cache_entry {
    struct str content_type, body, provider, model, finish_reason;
    int64_t stored_ns, expires_ns; /* monotonic */
};

void cache_init(size_t bytes_max);
void cache_clear(void);
/* `parts`: project, route definition, door, body …: whatever the answer depends on. */
void cache_make_key(const struct str *parts, size_t count, struct cache_key *out);
/* The entry with a reference, or NULL. */
const struct cache_entry *cache_get(const struct cache_key *key, int64_t now_ns);
void cache_release(const struct cache_entry *entry);
/* Copies; silently does nothing for answers that are too large or when there is no room. */
void cache_put(const struct cache_key *key, const struct cache_entry *entry);

struct cache_stats {
    uint64_t entries, bytes, evictions;
};
void cache_stats(struct cache_stats *out);
