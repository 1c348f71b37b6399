/* One table a kind: slot i belongs to the name whose hash stands in hashes[i]. Entries are only added,
 * under a lock that no loop ever takes: loops use the numbers, which stand in the snapshot. */
#include "gateway/slots.h"
#include "base/hash.h"
#include <pthread.h>
#include <stdlib.h>

static struct {
    pthread_mutex_t lock;
    uint64_t *hashes[SLOT_KIND_COUNT]; /* SLOT_COUNT each, 0: free; made when first used */
    uint32_t count[SLOT_KIND_COUNT];
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t slot_hash(struct id project, struct str name)
{
    uint64_t parts[2] = {hash_xxh3(project.bytes, sizeof(project.bytes)), hash_xxh3(name.p, name.n)};
    uint64_t hash = hash_xxh3(parts, sizeof(parts));
    return hash ? hash : 1;
}

uint32_t slot_assign(enum slot_kind kind, struct id project, struct str name)
{
    ASSERT(kind < SLOT_KIND_COUNT);
    uint64_t hash = slot_hash(project, name);
    uint32_t slot = SLOT_NONE;
    pthread_mutex_lock(&table.lock);
    if (!table.hashes[kind])
        table.hashes[kind] = xcalloc(SLOT_COUNT, sizeof(uint64_t));
    uint64_t *hashes = table.hashes[kind];
    for (uint32_t probe = 0; probe < SLOT_COUNT; probe++) {
        uint32_t at = (uint32_t)(hash + probe) & (SLOT_COUNT - 1);
        if (at == SLOT_NONE)
            continue;
        if (hashes[at] == 0) {
            if (table.count[kind] >= SLOT_COUNT / 4 * 3)
                break;
            hashes[at] = hash;
            table.count[kind]++;
        }
        if (hashes[at] == hash) {
            slot = at;
            break;
        }
    }
    pthread_mutex_unlock(&table.lock);
    return slot;
}
