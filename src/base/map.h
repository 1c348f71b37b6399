/* Hash table from text to pointer (open addressing, linear probing). Keys are not copied: they must
 * outlive the entry. One thread for changes; any number of readers once it no longer changes. */
#pragma once
#include "base/str.h"

struct map_slot {
    struct str key;
    uint64_t hash;
    void *value; /* NULL: the slot is free */
};

struct map {
    struct map_slot *slots;
    size_t count, capacity;
};

void map_init(struct map *map);
void map_fini(struct map *map);
void map_reserve(struct map *map, size_t count);
void map_copy(struct map *to, const struct map *from); /* `to` is not initialised yet */
void *map_get(const struct map *map, struct str key);
/* The value that stood there before, or NULL. `value` must not be NULL. */
void *map_put(struct map *map, struct str key, void *value);
void *map_remove(struct map *map, struct str key);
#define MAP_FOR_EACH(slot, map)                                                                    \
    for (struct map_slot *slot = (map)->slots; slot < (map)->slots + (map)->capacity; slot++)      \
        if (slot->value)
