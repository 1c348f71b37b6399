/* A bounded queue after Dmitry Vyukov's: every slot carries the turn in which it may be written or
 * read, so producers contend only for a position and the consumer for nothing.
 *
 * Sleeping is an agreement like the loop's (loop.c): the consumer announces it and looks once more;
 * a producer publishes its item and then looks for the announcement. Only who takes the
 * announcement back makes the system call. */
#include "io/ring.h"
#include "base/clock.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* All zero at first, so that the memory of a ring that is hardly used is never touched. */
struct ring_slot {
    _Atomic size_t lap; /* see ring_turn */
    void *item;
};

struct ring {
    size_t mask;
    struct ring_slot *slots;
    _Alignas(CACHE_LINE_BYTES) _Atomic size_t push_at;
    _Alignas(CACHE_LINE_BYTES) size_t pop_at;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t asleep; /* futex */
    atomic_bool woken; /* ring_wake was called: the next wait does not sleep */
};

/* == position: free for it; == position + 1: holds its item. Kept less the slot's index. */
static size_t ring_turn(const struct ring *ring, size_t at)
{
    return atomic_load_explicit(&ring->slots[at & ring->mask].lap, memory_order_acquire) +
           (at & ring->mask);
}

static void ring_set_turn(struct ring *ring, size_t at, size_t turn, memory_order order)
{
    atomic_store_explicit(&ring->slots[at & ring->mask].lap, turn - (at & ring->mask), order);
}

struct ring *ring_new(size_t capacity)
{
    ASSERT(capacity >= 2 && (capacity & (capacity - 1)) == 0);
    struct ring *ring = aligned_alloc(_Alignof(struct ring), sizeof(*ring));
    ASSERT(ring != NULL);
    memset(ring, 0, sizeof(*ring));
    ring->mask = capacity - 1;
    ring->slots = xcalloc(capacity, sizeof(*ring->slots));
    return ring;
}

void ring_free(struct ring *ring)
{
    if (ring == NULL)
        return;
    free(ring->slots);
    free(ring);
}

static void ring_rouse(struct ring *ring)
{
    if (atomic_load(&ring->asleep) && atomic_exchange(&ring->asleep, 0))
        syscall(SYS_futex, &ring->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool ring_push(struct ring *ring, void *item)
{
    ASSERT(item != NULL);
    size_t at = atomic_load_explicit(&ring->push_at, memory_order_relaxed);
    for (;;) {
        size_t turn = ring_turn(ring, at);
        if (turn == at) {
            if (atomic_compare_exchange_weak_explicit(&ring->push_at, &at, at + 1,
                                                      memory_order_relaxed, memory_order_relaxed))
                break;
        } else if ((ssize_t)(turn - at) < 0) {
            return false; /* still holds the item of a round ago */
        } else {
            at = atomic_load_explicit(&ring->push_at, memory_order_relaxed);
        }
    }
    ring->slots[at & ring->mask].item = item;
    ring_set_turn(ring, at, at + 1, memory_order_seq_cst); /* before looking at `asleep` */
    ring_rouse(ring);
    return true;
}

static bool ring_has_item(struct ring *ring)
{
    size_t at = ring->pop_at;
    size_t lap = atomic_load(&ring->slots[at & ring->mask].lap); /* after announcing to sleep */
    return lap + (at & ring->mask) == at + 1;
}

void *ring_pop(struct ring *ring)
{
    if (!ring_has_item(ring))
        return NULL;
    size_t at = ring->pop_at++;
    void *item = ring->slots[at & ring->mask].item;
    ring_set_turn(ring, at, at + ring->mask + 1, memory_order_release);
    return item;
}

void ring_wait(struct ring *ring, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / NS_PER_S, .tv_nsec = timeout_ns % NS_PER_S};
    atomic_store(&ring->asleep, 1);
    if (!ring_has_item(ring) && !atomic_load(&ring->woken)) /* else EAGAIN: taken back already */
        syscall(SYS_futex, &ring->asleep, FUTEX_WAIT_PRIVATE, 1, timeout_ns < 0 ? NULL : &timeout,
                NULL, 0);
    atomic_store(&ring->asleep, 0);
    atomic_store(&ring->woken, false);
}

void ring_wake(struct ring *ring)
{
    atomic_store(&ring->woken, true);
    ring_rouse(ring);
}
