/* The answer cache: see cache.h. A place of the table is a pointer whose lowest bit is a hand:
 * whoever sets it by compare-and-swap may count a reference or exchange the entry, and lets go at
 * once. Whoever finds it set goes on as if nothing were there; nobody waits. An entry lies in one
 * of WAYS places that follow from its key. */
#include "gateway/cache.h"
#include "base/clock.h"
#include <stdatomic.h>
#include <stdlib.h>

#define PLACES 16384
#define WAYS   4
#define HAND   ((uintptr_t)1)

struct entry {
    struct cache_entry shown; /* first: what callers see */
    struct cache_key key;
    size_t bytes;
    _Atomic int references;
};

static struct {
    _Atomic uintptr_t places[PLACES];
    _Atomic int64_t bytes, entries;
    _Atomic uint64_t evictions;
    int64_t bytes_max;
} cache = {.bytes_max = 64 << 20};

void cache_init(size_t bytes_max) { cache.bytes_max = bytes_max ? (int64_t)bytes_max : 64 << 20; }

/* The entry of a place with the hand set, or false when another has it. */
static bool place_seize(size_t place, struct entry **entry)
{
    uintptr_t value = atomic_load_explicit(&cache.places[place], memory_order_relaxed);
    if (value & HAND)
        return false;
    if (!atomic_compare_exchange_strong_explicit(&cache.places[place], &value, value | HAND,
                                                 memory_order_acquire, memory_order_relaxed))
        return false;
    *entry = (struct entry *)value;
    return true;
}

static void place_let_go(size_t place, struct entry *entry)
{
    atomic_store_explicit(&cache.places[place], (uintptr_t)entry, memory_order_release);
}

void cache_release(const struct cache_entry *shown)
{
    struct entry *entry = (struct entry *)shown;
    if (atomic_fetch_sub(&entry->references, 1) == 1)
        free(entry);
}

/* The table's own reference goes; its bytes no longer count. */
static void entry_drop(struct entry *entry)
{
    atomic_fetch_sub(&cache.bytes, (int64_t)entry->bytes);
    atomic_fetch_sub(&cache.entries, 1);
    cache_release(&entry->shown);
}

void cache_clear(void)
{
    for (size_t place = 0; place < PLACES; place++) {
        struct entry *entry;
        if (!place_seize(place, &entry))
            continue;
        place_let_go(place, NULL);
        if (entry)
            entry_drop(entry);
    }
}

void cache_make_key(const struct str *parts, size_t count, struct cache_key *out)
{
    struct sha256 *sha = sha256_new();
    for (size_t i = 0; i < count; i++) {
        uint64_t n =
            parts[i].n; /* lengths too, so that parts cannot be shifted against each other */
        sha256_update(sha, &n, sizeof(n));
        sha256_update(sha, parts[i].p, parts[i].n);
    }
    sha256_final(sha, out->digest);
}

static size_t key_place(const struct cache_key *key, unsigned way)
{
    uint64_t word;
    memcpy(&word, key->digest + 8 * way, sizeof(word));
    return word % PLACES;
}

const struct cache_entry *cache_get(const struct cache_key *key, int64_t now_ns)
{
    for (unsigned way = 0; way < WAYS; way++) {
        size_t place = key_place(key, way);
        struct entry *entry;
        if (!place_seize(place, &entry))
            continue;
        bool found = entry && memcmp(&entry->key, key, sizeof(*key)) == 0;
        if (found && entry->shown.expires_ns > now_ns) {
            atomic_fetch_add(&entry->references, 1);
            place_let_go(place, entry);
            return &entry->shown;
        }
        place_let_go(place, found ? NULL : entry);
        if (found)
            entry_drop(entry);
    }
    return NULL;
}

/* Takes the oldest of some places, starting at one that the key names, until `bytes` fit. */
static bool make_room(size_t from, int64_t bytes, int64_t now_ns)
{
    for (size_t step = 0; step < PLACES && atomic_load(&cache.bytes) + bytes > cache.bytes_max;
         step++) {
        size_t place = (from + step) % PLACES;
        struct entry *entry;
        if (atomic_load_explicit(&cache.places[place], memory_order_relaxed) == 0 ||
            !place_seize(place, &entry))
            continue;
        /* Half the lifetime over, or the search has been long: it goes. */
        bool old = entry && (now_ns - entry->shown.stored_ns >= entry->shown.expires_ns - now_ns ||
                             step > 256);
        place_let_go(place, old ? NULL : entry);
        if (old) {
            entry_drop(entry);
            atomic_fetch_add(&cache.evictions, 1);
        }
    }
    return atomic_load(&cache.bytes) + bytes <= cache.bytes_max;
}

static struct str copy_text(char **at, struct str s)
{
    struct str copy = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static struct entry *entry_make(const struct cache_key *key, const struct cache_entry *from,
                                size_t bytes)
{
    struct entry *entry = malloc(bytes);
    if (!entry)
        return NULL;
    char *at = (char *)(entry + 1);
    entry->shown = *from;
    entry->shown.content_type = copy_text(&at, from->content_type);
    entry->shown.provider = copy_text(&at, from->provider);
    entry->shown.model = copy_text(&at, from->model);
    entry->shown.finish_reason = copy_text(&at, from->finish_reason);
    entry->shown.body = copy_text(&at, from->body);
    entry->key = *key;
    entry->bytes = bytes;
    atomic_store(&entry->references, 1);
    return entry;
}

void cache_put(const struct cache_key *key, const struct cache_entry *from)
{
    size_t bytes = sizeof(struct entry) + from->content_type.n + from->provider.n + from->model.n +
                   from->finish_reason.n + from->body.n;
    if (bytes > CACHE_ENTRY_BYTES_MAX ||
        !make_room(key_place(key, 0), (int64_t)bytes, from->stored_ns))
        return;
    /* The place that holds this key, or is free, or else the first that can be had. */
    int best = -1, rank_best = 0;
    for (unsigned way = 0; way < WAYS; way++) {
        struct entry *entry;
        size_t place = key_place(key, way);
        if (!place_seize(place, &entry))
            continue;
        int rank = !entry ? 2 : memcmp(&entry->key, key, sizeof(*key)) == 0 ? 3 : 1;
        place_let_go(place, entry);
        if (rank > rank_best) {
            best = (int)place;
            rank_best = rank;
        }
    }
    struct entry *before, *made = best < 0 ? NULL : entry_make(key, from, bytes);
    if (!made)
        return;
    if (!place_seize((size_t)best, &before)) {
        free(made);
        return;
    }
    place_let_go((size_t)best, made);
    atomic_fetch_add(&cache.bytes, (int64_t)bytes);
    atomic_fetch_add(&cache.entries, 1);
    if (before)
        entry_drop(before);
}

void cache_stats(struct cache_stats *out)
{
    *out = (struct cache_stats){.entries = (uint64_t)atomic_load(&cache.entries),
                                .bytes = (uint64_t)atomic_load(&cache.bytes),
                                .evictions = atomic_load(&cache.evictions)};
}
