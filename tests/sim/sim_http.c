/* The HTTP client against the HTTP server on a bad network: short reads and writes, stalls, events
 * that overtake each other, connections lost. Bodies go both ways, whole and streamed, through
 * consumers that stop and producers that wait; some clients leave. Every exchange must end exactly
 * once; what ends well must be complete and right, and on a network without losses all must end
 * well. */
#include "base/clock.h"
#include "http/client.h"
#include "http/server.h"
#include "sim.h"
#include <stdio.h>

#define JOBS_MAX     6
#define BODY_MAX     4000
#define CANCEL_SHARE 15 /* one in so many exchanges */

struct test;

struct visit { /* a request at the server */
    struct test *test;
    struct http_request *request;
    struct timer timer;
    size_t sent, total;
    bool waits; /* for `writable` */
};

struct job { /* some exchanges, one after the other */
    struct test *test;
    struct http_exchange *exchange;
    struct timer timer;
    size_t left, received, wanted;
    bool head_seen, stopped, cancel, done;
    char path[32];
    char body[BODY_MAX];
};

struct test {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    struct http_origin *origin;
    struct job jobs[JOBS_MAX];
    size_t jobs_count, jobs_done;
    unsigned handled, ended;
    bool lossy;
};

static char pattern(size_t i) { return (char)(i * 7 + i / 251); }

static void pattern_fill(char *out, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = pattern(from + i);
}

static bool pattern_matches(struct str s, size_t from)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != pattern(from + i))
            return false;
    return true;
}

/* ---- server ---- */

static void visit_go_on(struct visit *visit)
{
    struct test *test = visit->test;
    while (visit->sent < visit->total) {
        char part[700];
        size_t n = 1 + loop_sim_below(test->loop, sizeof(part));
        n = MIN(n, visit->total - visit->sent);
        pattern_fill(part, visit->sent, n);
        visit->sent += n;
        if (http_respond_write(visit->request, str_make(part, n)) == STOP) {
            visit->waits = true;
            return;
        }
        if (loop_sim_below(test->loop, 3) == 0) {
            timer_start(test->loop, &visit->timer,
                        (int64_t)loop_sim_below(test->loop, 50) * NS_PER_MS);
            return;
        }
    }
    http_respond_end(visit->request);
}

static void visit_timer(struct timer *timer)
{
    struct visit *visit = CONTAINER_OF(timer, struct visit, timer);
    if (str_eq(visit->request->path, STR("/stream"))) {
        visit_go_on(visit);
        return;
    }
    char *body = arena_alloc(visit->request->arena, visit->total + 1);
    SIM_CHECK(body != NULL);
    pattern_fill(body, 0, visit->total);
    http_respond(visit->request, 200, STR("text/plain"), str_make(body, visit->total));
}

static void visit_writable(struct http_request *request)
{
    struct visit *visit = request->user;
    SIM_CHECK(visit->waits);
    visit->waits = false;
    visit_go_on(visit);
}

static void visit_gone(struct http_request *request)
{
    struct visit *visit = request->user;
    timer_stop(&visit->timer);
}

static void visit_ended(struct http_request *request)
{
    struct visit *visit = request->user;
    visit->test->ended++;
}

static void handle(void *arg, struct http_request *request)
{
    struct test *test = arg;
    struct visit *visit = ARENA_NEW(request->arena, struct visit);
    uint64_t total;
    test->handled++;
    visit->test = test;
    visit->request = request;
    timer_init(&visit->timer, visit_timer);
    request->user = visit;
    request->ended = visit_ended;
    request->gone = visit_gone;
    request->writable = visit_writable;
    SIM_CHECK(pattern_matches(request->body, 0));
    SIM_CHECK(str_to_u64(request->query, &total) == RC_OK);
    visit->total = str_eq(request->path, STR("/echo")) ? request->body.n : total;
    SIM_CHECK(!str_eq(request->path, STR("/echo")) || request->body.n == total);
    if (str_eq(request->path, STR("/stream"))) {
        http_respond_begin(request, 200, STR("text/plain"));
        visit_go_on(visit);
    } else if (loop_sim_below(test->loop, 2)) {
        visit_timer(&visit->timer);
    } else {
        timer_start(test->loop, &visit->timer,
                    (int64_t)loop_sim_below(test->loop, 100) * NS_PER_MS);
    }
}

/* ---- client ---- */

static void job_next(struct job *job);

static void job_head(void *owner, int status, const struct http_headers *headers)
{
    struct job *job = owner;
    SIM_CHECK(!job->head_seen && !job->stopped);
    job->head_seen = true;
    SIM_CHECK(status == 200);
    SIM_CHECK(http_header_get(headers, STR("x-request-id")).n > 0);
}

static void job_leave(struct job *job)
{
    http_exchange_cancel(job->exchange);
    job->exchange = NULL;
    job_next(job);
}

static enum proceed job_data(void *owner, struct str data)
{
    struct job *job = owner;
    SIM_CHECK(job->head_seen && !job->stopped && data.n > 0);
    SIM_CHECK(pattern_matches(data, job->received));
    job->received += data.n;
    SIM_CHECK(job->received <= job->wanted);
    struct loop *loop = job->test->loop;
    if (job->cancel && loop_sim_below(loop, 2)) {
        job_leave(job);
        return PROCEED;
    }
    if (loop_sim_below(loop, 4) > 0)
        return PROCEED;
    job->stopped = true;
    timer_start(loop, &job->timer, (int64_t)loop_sim_below(loop, 200) * NS_PER_MS);
    return STOP;
}

static void job_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct job *job = owner;
    SIM_CHECK(job->exchange != NULL);
    SIM_CHECK(err != NULL || (job->head_seen && job->received == job->wanted));
    SIM_CHECK(err == NULL || job->test->lossy);
    SIM_CHECK(err == NULL || err->message[0] != 0);
    job->exchange = NULL;
    job_next(job);
}

static void job_timer(struct timer *timer)
{
    struct job *job = CONTAINER_OF(timer, struct job, timer);
    if (!job->exchange)
        return;
    if (job->stopped) {
        job->stopped = false;
        http_exchange_resume(job->exchange);
    } else if (job->cancel) {
        job_leave(job);
    }
}

static void job_next(struct job *job)
{
    static const struct http_exchange_owner calls = {job_head, job_data, job_done};
    static const char *const paths[] = {"/whole", "/stream", "/echo"};
    struct loop *loop = job->test->loop;
    timer_stop(&job->timer);
    if (job->left-- == 0) {
        job->done = true;
        job->test->jobs_done++;
        return;
    }
    const char *path = paths[loop_sim_below(loop, COUNT_OF(paths))];
    job->wanted = loop_sim_below(loop, BODY_MAX);
    job->received = 0;
    job->head_seen = job->stopped = false;
    job->cancel = loop_sim_below(loop, CANCEL_SHARE) == 0;
    size_t body_bytes = strcmp(path, "/echo") == 0 ? job->wanted : 0;
    int path_bytes = snprintf(job->path, sizeof(job->path), "%s?%zu", path, job->wanted);
    struct str body = str_make(job->body, body_bytes);
    size_t cut = loop_sim_below(loop, body_bytes + 1);
    struct http_exchange_request request = {
        .method = body_bytes > 0 ? STR("POST") : STR("GET"),
        .path = str_make(job->path, (size_t)path_bytes),
        .body = {str_slice(body, 0, cut), str_slice(body, cut, body_bytes)},
        .body_parts = body_bytes > 0 ? 2 : 0,
        .retry_stale = loop_sim_below(loop, 2),
    };
    job->exchange = http_exchange_start(job->test->origin, &request, &calls, job);
    if (job->cancel)
        timer_start(loop, &job->timer, (int64_t)loop_sim_below(loop, 300) * NS_PER_MS);
}

/* ---- one seed ---- */

static bool all_done(void *arg)
{
    struct test *test = arg;
    return test->jobs_done == test->jobs_count;
}

static bool all_ended(void *arg)
{
    struct test *test = arg;
    return test->ended == test->handled;
}

static void run(uint64_t seed)
{
    static struct test test;
    struct sim_faults faults = SIM_FAULTS_DEFAULT;
    test = (struct test){.loop = loop_sim_new(seed, &faults)};
    faults = sim_faults_for(test.loop, &test.lossy);
    loop_sim_set_faults(test.loop, &faults);
    struct http_server_options options = {.handle = handle, .arg = &test};
    test.server = http_server_new(test.loop, &options);
    struct address address = {.host = STR("10.0.0.1"), .port = 80};
    struct listener *listener =
        listener_new(test.loop, &address, NULL, http_server_accept, test.server, NULL);
    SIM_CHECK(listener != NULL);
    test.client = http_client_new(test.loop);
    struct http_origin_options origin = {.url = STR("http://10.0.0.1"),
                                         .proxy = STR("none"),
                                         .connections_max = 1 + loop_sim_below(test.loop, 8)};
    test.origin = http_client_origin(test.client, &origin, NULL);
    SIM_CHECK(test.origin != NULL);
    test.jobs_count = 1 + loop_sim_below(test.loop, JOBS_MAX);
    for (size_t i = 0; i < test.jobs_count; i++) {
        struct job *job = &test.jobs[i];
        job->test = &test;
        job->left = 1 + loop_sim_below(test.loop, 4);
        pattern_fill(job->body, 0, sizeof(job->body));
        timer_init(&job->timer, job_timer);
        job_next(job);
    }
    SIM_CHECK(loop_sim_run(test.loop, all_done, &test, 100000 * NS_PER_S) == SIM_DONE);
    http_client_free(test.client);
    SIM_CHECK(loop_sim_run(test.loop, all_ended, &test, 100000 * NS_PER_S) == SIM_DONE);
    listener_close(listener);
    http_server_free(test.server);
    loop_sim_run(test.loop, NULL, NULL, 1000 * NS_PER_S);
    loop_free(test.loop);
}

int main(void) { return sim_main(run, 300); }
