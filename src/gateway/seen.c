/* See seen.h. Times are relaxed atomics in an array, of which only the pages of slots in use are
 * ever touched; texts of failures, which are rare, stand behind a lock. */
#include "gateway/seen.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "gateway/slots.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define TEXT_BYTES_MAX 240

struct failure_seen {
    int64_t wall_ns;
    size_t n;
    char text[TEXT_BYTES_MAX];
};

static _Atomic int64_t used_ns[SLOT_COUNT];
static struct failure_seen *failures[SLOT_COUNT]; /* under the lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void seen_key_used(uint32_t slot, int64_t wall_ns)
{
    ASSERT(slot < SLOT_COUNT);
    if (slot == SLOT_NONE)
        return;
    int64_t before = atomic_load_explicit(&used_ns[slot], memory_order_relaxed);
    if (wall_ns - before >= NS_PER_S)
        atomic_store_explicit(&used_ns[slot], wall_ns, memory_order_relaxed);
}

int64_t seen_key_used_ns(uint32_t slot)
{
    ASSERT(slot < SLOT_COUNT);
    return atomic_load_explicit(&used_ns[slot], memory_order_relaxed);
}

void seen_provider_failed(uint32_t slot, const struct err *err, int64_t wall_ns)
{
    ASSERT(slot < SLOT_COUNT);
    if (slot == SLOT_NONE)
        return;
    pthread_mutex_lock(&lock);
    if (!failures[slot])
        failures[slot] = xcalloc(1, sizeof(*failures[slot]));
    struct failure_seen *seen = failures[slot];
    seen->wall_ns = wall_ns;
    seen->n = utf8_cut(str_from(err->message), TEXT_BYTES_MAX);
    memcpy(seen->text, err->message, seen->n);
    pthread_mutex_unlock(&lock);
}

bool seen_provider_failure(uint32_t slot, struct arena *arena, struct str *text, int64_t *wall_ns)
{
    ASSERT(slot < SLOT_COUNT);
    pthread_mutex_lock(&lock);
    const struct failure_seen *seen = failures[slot];
    if (seen) {
        *text = arena_copy(arena, str_make(seen->text, seen->n));
        *wall_ns = seen->wall_ns;
    }
    pthread_mutex_unlock(&lock);
    return seen && text->p;
}

void seen_forget_all(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        atomic_store_explicit(&used_ns[i], 0, memory_order_relaxed);
        free(failures[i]);
        failures[i] = NULL;
    }
    pthread_mutex_unlock(&lock);
}
