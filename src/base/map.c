/* Open addressing with linear probing, at most three quarters full. Removal closes the gap by
 * moving later entries of the same run back, so there are no tombstones and lookups stay short. */
#include "base/map.h"
#include <stdlib.h>

#define MAP_SLOTS_MIN 8

void map_init(struct map *map) { *map = (struct map){0}; }

void map_fini(struct map *map)
{
    free(map->slots);
    map_init(map);
}

void map_copy(struct map *to, const struct map *from)
{
    *to = *from;
    if (!from->capacity)
        return;
    to->slots = xmalloc(from->capacity * sizeof(*to->slots));
    memcpy(to->slots, from->slots, from->capacity * sizeof(*to->slots));
}

/* The slot that holds the key, or the free one where it belongs. The table has a free slot. */
static struct map_slot *map_find(const struct map *map, struct str key, uint64_t hash)
{
    size_t mask = map->capacity - 1;
    size_t i = hash & mask;
    while (map->slots[i].value) {
        if (map->slots[i].hash == hash && str_eq(map->slots[i].key, key))
            break;
        i = (i + 1) & mask;
    }
    return &map->slots[i];
}

static void map_resize(struct map *map, size_t capacity)
{
    struct map old = *map;
    map->slots = xcalloc(capacity, sizeof(*map->slots));
    map->capacity = capacity;
    MAP_FOR_EACH (slot, &old)
        *map_find(map, slot->key, slot->hash) = *slot;
    free(old.slots);
}

void map_reserve(struct map *map, size_t count)
{
    size_t capacity = MAX(map->capacity, (size_t)MAP_SLOTS_MIN);
    while (capacity / 4 * 3 < count)
        capacity *= 2;
    if (capacity != map->capacity)
        map_resize(map, capacity);
}

void *map_get(const struct map *map, struct str key)
{
    if (map->count == 0)
        return NULL;
    return map_find(map, key, str_hash(key))->value;
}

void *map_put(struct map *map, struct str key, void *value)
{
    ASSERT(value != NULL);
    map_reserve(map, map->count + 1);
    uint64_t hash = str_hash(key);
    struct map_slot *slot = map_find(map, key, hash);
    void *before = slot->value;
    *slot = (struct map_slot){.key = key, .hash = hash, .value = value};
    map->count += before == NULL;
    return before;
}

void *map_remove(struct map *map, struct str key)
{
    if (map->count == 0)
        return NULL;
    struct map_slot *slot = map_find(map, key, str_hash(key));
    void *before = slot->value;
    if (before == NULL)
        return NULL;
    map->count--;
    size_t mask = map->capacity - 1;
    size_t gap = (size_t)(slot - map->slots);
    for (size_t i = (gap + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        /* An entry may move back into the gap unless its own place lies after the gap. */
        size_t home = map->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            map->slots[gap] = map->slots[i];
            gap = i;
        }
    }
    map->slots[gap] = (struct map_slot){0};
    return before;
}
