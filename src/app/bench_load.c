/* How the load is made.
 *
 * Open: request number i is due at start + i / rate whatever happened to those before it, and its
 * latency counts from then: a server that stalls is charged for all who would have come meanwhile.
 * A timer descriptor paces, since the loop's own timers have ticks of a millisecond. Closed: a
 * fixed number is under way, each answer sends the next; latency counts from sending.
 *
 * Measured is what completes between the end of the warm-up and the end of the duration; the
 * processes' CPU time is read at both moments. What is still under way then is waited for, and not
 * counted. */
#include "app/bench.h"
#include "base/clock.h"
#include "base/slab.h"
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SAMPLE_NS (200 * NS_PER_MS)

enum phase { PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN };

struct bench {
    const struct bench_options *options;
    struct bench_result *result;
    struct loop *loop;
    struct http_client *client;
    struct http_origin *origin;
    struct slab shots;
    enum phase phase;
    int64_t start_ns, measure_ns;
    uint64_t due; /* open: how many have been sent */
    size_t under_way;
    struct watch pace;
    struct timer phase_timer, sample_timer;
    struct task refill;
    bool refill_posted;
    size_t refill_count;
};

struct shot {
    struct bench *bench;
    int64_t due_ns, first_byte_ns;
    uint64_t events, bytes;
    int status;
    bool after_lf;
};

static void send_shot(struct bench *bench, int64_t due_ns);

/* ---- an exchange ---- */

static void shot_head(void *owner, int status, const struct http_headers *headers)
{
    ((struct shot *)owner)->status = status;
}

/* Events end with an empty line. */
static enum proceed shot_data(void *owner, struct str data)
{
    struct shot *shot = owner;
    if (shot->first_byte_ns == 0)
        shot->first_byte_ns = clock_monotonic_ns();
    shot->bytes += data.n;
    for (size_t i = 0; i < data.n; i++) {
        if (data.p[i] == '\r')
            continue;
        bool lf = data.p[i] == '\n';
        shot->events += lf && shot->after_lf;
        shot->after_lf = lf && !shot->after_lf;
    }
    return PROCEED;
}

static void count_shot(struct bench *bench, const struct shot *shot, const struct err *err)
{
    struct bench_result *result = bench->result;
    int64_t now_ns = clock_monotonic_ns();
    result->completed++;
    result->events += shot->events;
    result->body_bytes += shot->bytes;
    histogram_add(&result->latency_ns, now_ns - shot->due_ns);
    if (shot->first_byte_ns)
        histogram_add(&result->first_byte_ns, shot->first_byte_ns - shot->due_ns);
    if (err)
        result->failed++;
    else if (shot->status < 200 || shot->status > 299)
        result->not_2xx++;
}

static void refill(struct task *task)
{
    struct bench *bench = CONTAINER_OF(task, struct bench, refill);
    bench->refill_posted = false;
    size_t count = bench->refill_count;
    bench->refill_count = 0;
    if (bench->phase == PHASE_DRAIN)
        return;
    for (size_t i = 0; i < count; i++)
        send_shot(bench, clock_monotonic_ns());
}

static void shot_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct shot *shot = owner;
    struct bench *bench = shot->bench;
    if (bench->phase == PHASE_MEASURE)
        count_shot(bench, shot, err);
    if (err && bench->phase != PHASE_DRAIN && !bench->result->first_error[0])
        snprintf(bench->result->first_error, sizeof(bench->result->first_error), "%s",
                 err->message);
    slab_give(&bench->shots, shot);
    bench->under_way--;
    if (bench->phase == PHASE_DRAIN) {
        if (bench->under_way == 0)
            loop_stop(bench->loop);
    } else if (bench->options->rate == 0) {
        bench->refill_count++;
        if (!bench->refill_posted)
            loop_defer(bench->loop, &bench->refill);
        bench->refill_posted = true;
    }
}

static const struct http_exchange_owner shot_calls = {
    .head = shot_head, .data = shot_data, .done = shot_done};

static void send_shot(struct bench *bench, int64_t due_ns)
{
    const struct bench_options *options = bench->options;
    struct shot *shot = slab_take(&bench->shots);
    ASSERT(shot != NULL);
    shot->bench = bench;
    shot->due_ns = due_ns;
    struct http_exchange_request request = {
        .method = options->method,
        .path = options->url.path,
        .headers = options->headers,
        .header_count = options->header_count,
        .body = {options->body},
        .body_parts = options->body.n ? 1 : 0,
        .connect_timeout_ns = options->timeout_ns,
        .head_timeout_ns = options->timeout_ns,
        .idle_timeout_ns = options->timeout_ns,
        .retry_stale = true,
    };
    bench->under_way++;
    bench->result->sent++;
    http_exchange_start(bench->origin, &request, &shot_calls, shot);
}

/* ---- pace ---- */

static void pace_ready(struct watch *watch, unsigned events)
{
    struct bench *bench = CONTAINER_OF(watch, struct bench, pace);
    uint64_t expired;
    if (read(watch->fd, &expired, sizeof(expired)) != sizeof(expired))
        return;
    double interval_ns = (double)NS_PER_S / bench->options->rate;
    int64_t now_ns = clock_monotonic_ns();
    for (;;) {
        int64_t due_ns = bench->start_ns + (int64_t)((double)bench->due * interval_ns);
        if (due_ns > now_ns)
            break;
        bench->due++;
        send_shot(bench, due_ns);
    }
}

static enum rc start_pace(struct bench *bench)
{
    bench->pace = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
                                 .ready = pace_ready};
    int64_t interval_ns = MAX((int64_t)((double)NS_PER_S / bench->options->rate), 20 * NS_PER_US);
    struct timespec step = {interval_ns / NS_PER_S, interval_ns % NS_PER_S};
    struct itimerspec times = {.it_interval = step, .it_value = step};
    timerfd_settime(bench->pace.fd, 0, &times, NULL);
    return loop_watch(bench->loop, &bench->pace, LOOP_READ);
}

static void stop_pace(struct bench *bench)
{
    if (bench->pace.fd < 0)
        return;
    loop_unwatch(bench->loop, &bench->pace);
    close(bench->pace.fd);
    bench->pace.fd = -1;
}

/* ---- phases ---- */

static void read_usage(struct bench *bench, struct bench_usage *out)
{
    if (bench_usage_read(bench->options->pids, bench->options->pid_count, out) != RC_OK)
        *out = (struct bench_usage){0}; /* the report says that the process is gone */
    bench->result->resident_bytes_max = MAX(bench->result->resident_bytes_max, out->resident_bytes);
}

static void sample_fire(struct timer *timer)
{
    struct bench *bench = CONTAINER_OF(timer, struct bench, sample_timer);
    struct bench_usage usage;
    read_usage(bench, &usage);
    timer_start(bench->loop, timer, SAMPLE_NS);
}

static void drain(struct bench *bench)
{
    bench->phase = PHASE_DRAIN;
    bench->result->measured_ns = clock_monotonic_ns() - bench->measure_ns;
    bench->result->unanswered = bench->under_way;
    read_usage(bench, &bench->result->after);
    timer_stop(&bench->sample_timer);
    stop_pace(bench);
    timer_start(bench->loop, &bench->phase_timer, bench->options->timeout_ns);
    if (bench->under_way == 0)
        loop_stop(bench->loop);
}

static void phase_fire(struct timer *timer)
{
    struct bench *bench = CONTAINER_OF(timer, struct bench, phase_timer);
    if (bench->phase == PHASE_WARMUP) {
        bench->phase = PHASE_MEASURE;
        bench->measure_ns = clock_monotonic_ns();
        read_usage(bench, &bench->result->before);
        timer_start(bench->loop, timer, bench->options->duration_ns);
    } else if (bench->phase == PHASE_MEASURE) {
        drain(bench);
    } else {
        loop_stop(bench->loop); /* some are never answered: freeing the client ends them */
    }
}

enum rc bench_run(const struct bench_options *options, struct bench_result *result, struct err *err)
{
    static struct bench bench;
    bench = (struct bench){.options = options, .result = result, .pace.fd = -1};
    histogram_init(&result->latency_ns);
    histogram_init(&result->first_byte_ns);
    bench.loop = loop_new(0);
    bench.client = http_client_new(bench.loop);
    struct http_origin_options origin = {
        .url = options->url_text,
        .ca_file = options->ca_file,
        .proxy = STR("none"),
        .http2 = options->http2,
        .connections_max = (size_t)options->connections_max,
    };
    bench.origin = http_client_origin(bench.client, &origin, err);
    enum rc rc = bench.origin ? RC_OK : err->rc;
    slab_init(&bench.shots, sizeof(struct shot), 0);
    timer_init(&bench.phase_timer, phase_fire);
    timer_init(&bench.sample_timer, sample_fire);
    bench.refill.run = refill;
    bench.start_ns = clock_monotonic_ns();
    if (rc == RC_OK && options->rate > 0)
        rc = start_pace(&bench);
    for (int64_t i = 0; rc == RC_OK && options->rate == 0 && i < options->parallel; i++)
        send_shot(&bench, bench.start_ns);
    if (rc == RC_OK) {
        timer_start(bench.loop, &bench.phase_timer, options->warmup_ns);
        timer_start(bench.loop, &bench.sample_timer, SAMPLE_NS);
        loop_run(bench.loop);
    }
    struct http_client_stats stats;
    http_client_stats(bench.client, &stats);
    result->connects = stats.connects;
    timer_stop(&bench.phase_timer);
    http_client_free(bench.client);
    slab_fini(&bench.shots);
    loop_free(bench.loop);
    return rc;
}
