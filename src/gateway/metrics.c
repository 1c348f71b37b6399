/* Counters of the gateway: see metrics.h. Loops write their own set with plain stores; a reader may
 * see a counter that is a moment old, never a torn one (64-bit loads). */
#include "gateway/metrics.h"
#include "base/clock.h"
#include "trace/trace.h"
#include <pthread.h>
#include <stdlib.h>

#define LOOPS_MAX 256

static struct {
    pthread_mutex_t lock; /* of the list only */
    struct gateway_metrics *loops[LOOPS_MAX];
    struct gateway_metrics ended; /* what loops that are gone had counted */
} metrics_shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct gateway_metrics *metrics_loop_new(void)
{
    struct gateway_metrics *metrics = xcalloc(1, sizeof(*metrics));
    pthread_mutex_lock(&metrics_shared.lock);
    size_t i = 0;
    while (i < LOOPS_MAX && metrics_shared.loops[i])
        i++;
    ASSERT(i < LOOPS_MAX);
    metrics_shared.loops[i] = metrics;
    pthread_mutex_unlock(&metrics_shared.lock);
    return metrics;
}

/* Every field is a 64-bit number, so that sets are added up as arrays. */
static void metrics_add(struct gateway_metrics *into, const struct gateway_metrics *more)
{
    _Static_assert(sizeof(*into) % sizeof(uint64_t) == 0, "only 64-bit fields");
    uint64_t *sum = (uint64_t *)into;
    const uint64_t *add = (const uint64_t *)more;
    for (size_t i = 0; i < sizeof(*into) / sizeof(uint64_t); i++)
        sum[i] += __atomic_load_n(&add[i], __ATOMIC_RELAXED);
}

void metrics_loop_free(struct gateway_metrics *metrics)
{
    pthread_mutex_lock(&metrics_shared.lock);
    metrics_add(&metrics_shared.ended, metrics);
    for (size_t i = 0; i < LOOPS_MAX; i++)
        if (metrics_shared.loops[i] == metrics)
            metrics_shared.loops[i] = NULL;
    pthread_mutex_unlock(&metrics_shared.lock);
    free(metrics);
}

void metrics_observe(struct metrics_histogram *histogram, int64_t ns)
{
    uint64_t ms = ns <= 0 ? 0 : (uint64_t)(ns - 1) / NS_PER_MS;
    unsigned bucket = ms == 0 ? 0 : 64u - (unsigned)__builtin_clzll(ms);
    histogram->buckets[MIN(bucket, METRICS_BUCKETS - 1u)]++;
    histogram->count++;
    histogram->sum_ns += ns;
}

static enum rc render_histogram(struct buf *out, const char *name, const char *help,
                                const struct metrics_histogram *histogram)
{
    enum rc rc = buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    uint64_t sum = 0;
    for (int i = 0; rc == RC_OK && i < METRICS_BUCKETS - 1; i++) {
        sum += histogram->buckets[i];
        rc = buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, (double)(1u << i) / 1000.0,
                        (unsigned long long)sum);
    }
    if (rc == RC_OK)
        rc = buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name,
                        (unsigned long long)histogram->count, name, (double)histogram->sum_ns / 1e9,
                        name, (unsigned long long)histogram->count);
    return rc;
}

static enum rc render_counters(struct buf *out, const struct gateway_metrics *sum)
{
    enum rc rc = RC_OK;
#define METRIC(field, name, help)                                                                  \
    if (rc == RC_OK)                                                                               \
        rc = buf_printf(out, "# HELP " name " " help "\n# TYPE " name " counter\n" name " %llu\n", \
                        (unsigned long long)sum->field);
    GATEWAY_METRICS(METRIC)
#undef METRIC
    if (rc == RC_OK)
        rc = buf_printf(
            out,
            "# HELP capstan_calls_total Calls that ended\n# TYPE capstan_calls_total counter\n");
    for (int i = 0; rc == RC_OK && i < CALL_STATUS_COUNT; i++)
        rc = buf_printf(out, "capstan_calls_total{status=\"%s\"} %llu\n",
                        call_status_name((enum call_status)i), (unsigned long long)sum->calls[i]);
    if (rc == RC_OK)
        rc = buf_printf(out,
                        "# HELP capstan_calls_now Calls under way\n# TYPE capstan_calls_now "
                        "gauge\ncapstan_calls_now %lld\n",
                        (long long)sum->calls_now);
    return rc;
}

enum rc gateway_metrics_render(struct buf *out)
{
    struct gateway_metrics sum;
    pthread_mutex_lock(&metrics_shared.lock);
    sum = metrics_shared.ended;
    for (size_t i = 0; i < LOOPS_MAX; i++)
        if (metrics_shared.loops[i])
            metrics_add(&sum, metrics_shared.loops[i]);
    pthread_mutex_unlock(&metrics_shared.lock);
    enum rc rc = render_counters(out, &sum);
    if (rc == RC_OK)
        rc = render_histogram(out, "capstan_call_duration_seconds",
                              "From a call's first byte to its end", &sum.duration);
    if (rc == RC_OK)
        rc = render_histogram(out, "capstan_first_token_seconds",
                              "From a call's start to its first content", &sum.first_token);
    if (rc == RC_OK)
        rc = render_histogram(out, "capstan_overhead_seconds",
                              "Time of a call that was not the upstream's", &sum.overhead);
    return rc;
}
