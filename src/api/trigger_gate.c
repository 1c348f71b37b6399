/* See trigger_gate.h. Counts are of the process: addresses are few and asked seldom, compared with
 * calls, so one lock will do. */
#include "api/trigger_gate.h"
#include "base/clock.h"
#include <pthread.h>

#define GATES_MAX 1024 /* a full table forgets: then a minute's count begins anew */
#define MINUTE_NS (60 * NS_PER_S)

static struct gate {
    struct id id;
    int64_t minute, count;
} gates[GATES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

enum rc trigger_find(struct str text, enum trigger_kind kind, const struct trigger **out,
                     struct err *err)
{
    struct snapshot *snapshot = snapshot_current();
    struct id id;
    *out = NULL;
    if (snapshot && id_parse(text, TRIGGER_PREFIX, &id) == RC_OK)
        *out = map_get(&snapshot->triggers, str_make(id.bytes, sizeof(id.bytes)));
    if (*out && (*out)->kind == kind && !(*out)->paused)
        return RC_OK;
    return err_set(err, ERR_NOT_FOUND, "There is nothing at this address, or it is paused.");
}

enum rc trigger_admit(const struct trigger *trigger, int64_t now_ns, struct err *err)
{
    struct gate *gate = &gates[hash_xxh3(trigger->id.bytes, sizeof(trigger->id.bytes)) % GATES_MAX];
    int64_t minute = now_ns / MINUTE_NS;
    pthread_mutex_lock(&lock);
    if (!id_eq(gate->id, trigger->id) || gate->minute != minute)
        *gate = (struct gate){.id = trigger->id, .minute = minute};
    bool admitted = gate->count < trigger->requests_per_minute;
    gate->count += admitted;
    pthread_mutex_unlock(&lock);
    if (admitted)
        return RC_OK;
    err->retry_after_ms = (MINUTE_NS - now_ns % MINUTE_NS) / NS_PER_MS;
    int64_t wait_ms = err->retry_after_ms;
    err_set(err, ERR_RATE_LIMIT, "More than %lld requests a minute: try again soon.",
            (long long)trigger->requests_per_minute);
    err->retry_after_ms = wait_ms;
    return err->rc;
}
