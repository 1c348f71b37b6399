/* Two small tables by hash. Entries are replaced by newcomers of the same slot: a table of this
 * size forgets somebody only under a flood, which the addresses' own table slows down. */
#include "govern/throttle.h"
#include "base/clock.h"
#include <pthread.h>

#define SLOTS                 4096 /* a power of two */
#define FAILURES_FREE         5
#define ADDRESS_FAILURES_FREE 30 /* several people share one */
#define WAIT_NS               (2 * NS_PER_S)
#define WAIT_NS_MAX           (15 * 60 * NS_PER_S)
#define FORGET_NS             (3600 * NS_PER_S)

struct slot {
    uint64_t hash;
    unsigned failures;
    int64_t last_ns; /* monotonic */
};

static struct slot emails[SLOTS], addresses[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t wait_ns(const struct slot *table, struct str who, unsigned free_failures,
                       int64_t now_ns)
{
    uint64_t hash = str_hash(who);
    const struct slot *slot = &table[hash & (SLOTS - 1)];

    if (slot->hash != hash || slot->failures < free_failures || now_ns - slot->last_ns > FORGET_NS)
        return 0;
    int64_t wait = MIN(WAIT_NS << MIN(slot->failures - free_failures, 20u), WAIT_NS_MAX);
    return MAX(0, slot->last_ns + wait - now_ns);
}

static void count_failure(struct slot *table, struct str who, int64_t now_ns)
{
    uint64_t hash = str_hash(who);
    struct slot *slot = &table[hash & (SLOTS - 1)];

    if (slot->hash != hash || now_ns - slot->last_ns > FORGET_NS)
        *slot = (struct slot){.hash = hash};
    slot->failures++;
    slot->last_ns = now_ns;
}

enum rc throttle_admit(struct str address, struct str email, struct err *err)
{
    int64_t now_ns = clock_monotonic_ns();

    pthread_mutex_lock(&lock);
    int64_t wait = MAX(wait_ns(emails, email, FAILURES_FREE, now_ns),
                       wait_ns(addresses, address, ADDRESS_FAILURES_FREE, now_ns));
    pthread_mutex_unlock(&lock);
    if (wait == 0)
        return RC_OK;
    enum rc rc = err_set(err, ERR_RATE_LIMIT, "Too many wrong passwords: wait %lld seconds.",
                         (long long)(wait / NS_PER_S + 1));
    if (err)
        err->retry_after_ms = wait / NS_PER_MS + 1;
    return rc;
}

void throttle_failed(struct str address, struct str email)
{
    int64_t now_ns = clock_monotonic_ns();

    pthread_mutex_lock(&lock);
    count_failure(emails, email, now_ns);
    count_failure(addresses, address, now_ns);
    pthread_mutex_unlock(&lock);
}

void throttle_succeeded(struct str email)
{
    uint64_t hash = str_hash(email);
    struct slot *slot = &emails[hash & (SLOTS - 1)];

    pthread_mutex_lock(&lock);
    if (slot->hash == hash)
        *slot = (struct slot){0};
    pthread_mutex_unlock(&lock);
}

void throttle_reset(void)
{
    pthread_mutex_lock(&lock);
    memset(emails, 0, sizeof emails);
    memset(addresses, 0, sizeof addresses);
    pthread_mutex_unlock(&lock);
}
