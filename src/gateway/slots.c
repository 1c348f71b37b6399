/* One table: slot i belongs to the name whose hash stands in hashes[i]. Entries are only added,
 * under a lock that no loop ever takes: loops use the numbers, which stand in the snapshot. */
#include "gateway/slots.h"
#include "base/hash.h"
#include <pthread.h>
#include <stdlib.h>

static struct {
    pthread_mutex_t lock;
    uint64_t hashes[SLOT_COUNT]; /* 0: free */
    uint32_t count;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t slot_hash(enum slot_kind kind, struct id project, struct str name)
{
    uint64_t parts[3] = {kind, hash_xxh3(project.bytes, sizeof(project.bytes)),
                         hash_xxh3(name.p, name.n)};
    uint64_t hash = hash_xxh3(parts, sizeof(parts));
    return hash ? hash : 1;
}

uint32_t slot_assign(enum slot_kind kind, struct id project, struct str name)
{
    ASSERT(kind < SLOT_KIND_COUNT);
    uint64_t hash = slot_hash(kind, project, name);
    uint32_t slot = SLOT_NONE;
    pthread_mutex_lock(&table.lock);
    for (uint32_t probe = 0; probe < SLOT_COUNT; probe++) {
        uint32_t at = (uint32_t)(hash + probe) & (SLOT_COUNT - 1);
        if (at == SLOT_NONE)
            continue;
        if (table.hashes[at] == 0) {
            if (table.count >= SLOT_COUNT / 4 * 3)
                break;
            table.hashes[at] = hash;
            table.count++;
        }
        if (table.hashes[at] == hash) {
            slot = at;
            break;
        }
    }
    pthread_mutex_unlock(&table.lock);
    return slot;
}
