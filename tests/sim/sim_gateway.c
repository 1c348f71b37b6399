/* Calls through the gateway on a bad network: clients that come in crowds and leave, upstreams that
 * answer, stall, break off, refuse and talk nonsense, targets that fall back. Whatever happens:
 *   every call ends, once, with one record, and leaves nothing open;
 *   what a client gets is the answer of one target, or a beginning of it, never a mixture;
 *   limits hold nothing afterwards, and a budget has counted exactly what the records cost;
 *   where nothing is lost and the upstream behaves, every call succeeds. */
#include "api/door.h"
#include "base/clock.h"
#include "gateway/breaker.h"
#include "gateway/cache.h"
#include "gateway/limit.h"
#include "gateway/provider_table.h"
#include "gateway/snapshot.h"
#include "http/client.h"
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>

#define CALLS_MAX 12
#define TARGETS   3
#define SECRET    "cap_simulated"

struct visitor {
    struct test *test;
    struct http_exchange *exchange;
    struct timer leave; /* some do not wait for the end */
    bool stream, done, left, failed;
    int status;
    char body[8192];
    size_t body_n;
};

/* What an upstream does with a request, by chance. */
enum behaviour { ANSWERS, HANGS, BREAKS_OFF, STALLS, REFUSES, LIMITS, NONSENSE, BEHAVIOUR_COUNT };

struct reply {
    struct test *test;
    struct http_request *request;
    struct timer timer;
    enum behaviour behaviour;
    int target, step;
    bool stream, over;
};

struct test {
    struct loop *loop;
    struct http_client *client, *gateway_client;
    struct http_server *upstream, *front;
    struct listener *upstream_listener, *front_listener;
    struct gateway_loop *gateway;
    struct provider providers[TARGETS];
    struct target targets[TARGETS];
    struct route route;
    struct key *key;
    struct visitor visitors[CALLS_MAX];
    size_t count, ended;
    size_t records, upstream_open;
    int64_t cost_pico;
    bool friendly; /* upstreams behave */
};

/* ---- the upstream ---- */

static const char *const words[TARGETS] = {"alpha", "beta", "gamma"};
#define PIECES 6

static void reply_gone(struct http_request *request)
{
    struct reply *reply = request->user;
    timer_stop(&reply->timer);
    reply->over = true;
}

static void reply_ended(struct http_request *request)
{
    struct reply *reply = request->user;
    timer_stop(&reply->timer);
    reply->test->upstream_open--;
    free(reply);
}

static void reply_whole(struct reply *reply)
{
    struct str body = arena_printf(
        reply->request->arena,
        "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{"
        "\"index\":0,\"message\":"
        "{\"role\":\"assistant\",\"content\":\"%s%s%s%s%s%s\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":6,\"total_tokens\":16}}",
        words[reply->target], words[reply->target], words[reply->target], words[reply->target],
        words[reply->target], words[reply->target]);
    reply->over = true;
    http_respond(reply->request, 200, STR("application/json"), body);
}

static void reply_piece(struct reply *reply)
{
    char text[512];
    int n = snprintf(text, sizeof(text),
                     "data: "
                     "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":"
                     "\"m\",\"choices\":[{\"index\":0,"
                     "\"delta\":{\"content\":\"%s\"},\"finish_reason\":null}]}\n\n",
                     words[reply->target]);
    http_respond_write(reply->request, str_make(text, (size_t)n));
}

static void reply_end(struct reply *reply)
{
    http_respond_write(reply->request,
                       STR("data: "
                           "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,"
                           "\"model\":\"m\",\"choices\":[{\"index\":0,"
                           "\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: "
                           "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,"
                           "\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,"
                           "\"completion_tokens\":6,\"total_tokens\":16}}\n\n"
                           "data: [DONE]\n\n"));
    reply->over = true;
    http_respond_end(reply->request);
}

static void reply_error(struct reply *reply, int status)
{
    reply->over = true;
    if (status == 429 && loop_sim_below(reply->test->loop, 2))
        http_respond_header(reply->request, STR("retry-after"), STR("1"));
    http_respond(reply->request, status, STR("application/json"),
                 STR("{\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}"));
}

static void reply_again(struct reply *reply)
{
    timer_start(reply->test->loop, &reply->timer,
                (int64_t)loop_sim_below(reply->test->loop, 300) * NS_PER_MS);
}

static void reply_stream(struct reply *reply)
{
    if (reply->step == 0)
        http_respond_begin(reply->request, 200, STR("text/event-stream"));
    if (reply->step++ < PIECES) {
        int fault_at = 1 + reply->target;
        if (reply->behaviour == STALLS && reply->step > fault_at)
            return;
        if (reply->behaviour == NONSENSE && reply->step > fault_at)
            http_respond_write(reply->request, STR("data: {\"id\":\n\n"));
        if (reply->behaviour == BREAKS_OFF && reply->step > fault_at) {
            reply->over = true;
            http_respond_abort(reply->request);
            return;
        }
        reply_piece(reply);
        reply_again(reply);
    } else {
        reply_end(reply);
    }
}

static void reply_fires(struct timer *timer)
{
    struct reply *reply = CONTAINER_OF(timer, struct reply, timer);
    if (reply->over || reply->behaviour == HANGS)
        return;
    if (reply->behaviour == REFUSES)
        reply_error(reply, loop_sim_below(reply->test->loop, 2) ? 500 : 503);
    else if (reply->behaviour == LIMITS)
        reply_error(reply, 429);
    else if (reply->stream)
        reply_stream(reply);
    else if (reply->behaviour == NONSENSE) {
        reply->over = true;
        http_respond(reply->request, 200, STR("application/json"), STR("{\"id\":"));
    } else {
        reply_whole(reply);
    }
}

static void upstream_handle(void *arg, struct http_request *request)
{
    struct test *test = arg;
    struct reply *reply = xcalloc(1, sizeof(*reply));
    reply->test = test;
    reply->request = request;
    reply->stream = str_find(request->body, STR("\"stream\":true")) >= 0;
    for (int i = 0; i < TARGETS; i++)
        if (str_find(request->body, str_from(words[i])) >= 0)
            reply->target = i;
    bool behaves = test->friendly || loop_sim_below(test->loop, 2);
    reply->behaviour =
        behaves ? ANSWERS : (enum behaviour)loop_sim_below(test->loop, BEHAVIOUR_COUNT);
    timer_init(&reply->timer, reply_fires);
    request->user = reply;
    request->gone = reply_gone;
    request->ended = reply_ended;
    test->upstream_open++;
    reply_again(reply);
}

/* ---- clients ---- */

static void visitor_over(struct visitor *visitor)
{
    timer_stop(&visitor->leave);
    visitor->exchange = NULL;
    visitor->done = true;
    visitor->test->ended++;
}

static void visitor_head(void *owner, int status, const struct http_headers *headers)
{
    ((struct visitor *)owner)->status = status;
}

static enum proceed visitor_data(void *owner, struct str data)
{
    struct visitor *visitor = owner;
    SIM_CHECK(visitor->body_n + data.n < sizeof(visitor->body));
    memcpy(visitor->body + visitor->body_n, data.p, data.n);
    visitor->body_n += data.n;
    visitor->body[visitor->body_n] = '\0';
    return PROCEED;
}

static void visitor_done(void *owner, const struct err *err,
                         const struct http_exchange_timing *timing)
{
    struct visitor *visitor = owner;
    visitor->failed = err != NULL;
    visitor_over(visitor);
}

static void visitor_leaves(struct timer *timer)
{
    struct visitor *visitor = CONTAINER_OF(timer, struct visitor, leave);
    visitor->left = true;
    http_exchange_cancel(visitor->exchange);
    visitor_over(visitor);
}

static void visitor_begin(struct visitor *visitor)
{
    static const struct http_exchange_owner calls = {visitor_head, visitor_data, visitor_done};
    static const struct http_header headers[] = {
        {STR_INIT("authorization"), STR_INIT("Bearer " SECRET)},
        {STR_INIT("content-type"), STR_INIT("application/json")}};
    static const char whole[] =
        "{\"model\":\"smart\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    static const char stream[] = "{\"model\":\"smart\",\"stream\":true,\"messages\":[{\"role\":"
                                 "\"user\",\"content\":\"hi\"}]}";
    struct test *test = visitor->test;
    struct err err;
    struct http_origin *origin = http_client_origin(
        test->client,
        &(struct http_origin_options){.url = STR("http://10.0.0.2:80"), .proxy = STR("none")},
        &err);
    SIM_CHECK(origin);
    visitor->stream = loop_sim_below(test->loop, 2);
    timer_init(&visitor->leave, visitor_leaves);
    visitor->exchange =
        http_exchange_start(origin,
                            &(struct http_exchange_request){
                                .method = STR("POST"),
                                .path = STR("/v1/chat/completions"),
                                .headers = headers,
                                .header_count = COUNT_OF(headers),
                                .body = {str_from(visitor->stream ? stream : whole)},
                                .body_parts = 1,
                            },
                            &calls, visitor);
    if (!test->friendly && loop_sim_below(test->loop, 4) == 0)
        timer_start(test->loop, &visitor->leave,
                    (int64_t)loop_sim_below(test->loop, 3000) * NS_PER_MS);
}

/* ---- set-up ---- */

static void front_handle(void *arg, struct http_request *request)
{
    struct test *test = arg;
    SIM_CHECK(door_handle(test->gateway, request));
}

static void call_ended(void *arg, const struct call_record *record)
{
    struct test *test = arg;
    test->records++;
    SIM_CHECK(record->total_ns >= 0 && record->attempt_count <= CALL_ATTEMPTS_MAX);
    if (record->cost_pico != COST_UNKNOWN)
        test->cost_pico += record->cost_pico;
}

static struct http_server *serve(struct test *test, const char *address_text,
                                 void (*handle)(void *, struct http_request *),
                                 struct listener **listener)
{
    struct err err;
    struct address address;
    struct http_server *server = http_server_new(
        test->loop,
        &(struct http_server_options){.handle = handle, .arg = test, .connections_max = 200});
    SIM_CHECK(address_parse(str_from(address_text), 80, &address) == RC_OK);
    *listener = listener_new(test->loop, &address, NULL, http_server_accept, server, &err);
    SIM_CHECK(*listener);
    return server;
}

static void configure(struct test *test)
{
    static const struct str any = STR_INIT("*");
    static const struct str names[TARGETS] = {STR_INIT("openai"), STR_INIT("openai-b"),
                                              STR_INIT("openai-c")};
    static const struct str models[TARGETS] = {STR_INIT("gpt-4o-alpha"), STR_INIT("gpt-4o-beta"),
                                               STR_INIT("gpt-4o-gamma")};
    struct id id = {{1}};
    struct snapshot *snapshot = snapshot_new(1 << 20);
    struct project *project = snapshot_add_project(snapshot, id, STR("default"));
    for (int i = 0; i < TARGETS; i++) {
        test->providers[i] = (struct provider){.name = names[i],
                                               .row = provider_row_find(STR("openai")),
                                               .base_url = STR("http://10.0.0.1:80/v1"),
                                               .slot = 20 + (uint32_t)i,
                                               .proxy = STR("none")};
        test->targets[i] = (struct target){.provider = &test->providers[i],
                                           .model = models[i],
                                           .weight = 1,
                                           .slot = 10 + (uint32_t)i};
    }
    test->route = (struct route){
        .name = STR("smart"),
        .targets = test->targets,
        .target_count = TARGETS,
        .balance = (enum balance)loop_sim_below(test->loop, 4),
        .retry = (int)loop_sim_below(test->loop, 3),
        .fallback = FALLBACK_ANY,
        .capture = CAPTURE_FULL,
        .first_token_ns = 5 * NS_PER_S,
        .between_ns = 5 * NS_PER_S,
        .total_ns = 60 * NS_PER_S,
    };
    if (test->friendly) /* nothing may time out: a tiny window makes a transfer take long */
        test->route.first_token_ns = test->route.between_ns = test->route.total_ns =
            3600 * NS_PER_S;
    map_put(&project->routes, test->route.name, &test->route);
    test->key = arena_calloc(&snapshot->arena, sizeof(*test->key));
    *test->key =
        (struct key){.id = {{9}},
                     .name = STR("k"),
                     .model_globs = (struct str *)&any,
                     .model_glob_count = 1,
                     .limits = {100000, 100000000, 1000, 1000 * PICO_PER_DOLLAR, COST_UNKNOWN},
                     .principal = {.project = id, .permissions = PERMISSION_BIT(CALL_MAKE)}};
    hash_sha256(SECRET, sizeof(SECRET) - 1, test->key->secret_sha256);
    map_put(&snapshot->keys, str_make(test->key->secret_sha256, SHA256_BYTES), test->key);
    snapshot_publish(snapshot);
}

static bool all_over(void *arg)
{
    struct test *test = arg;
    return test->ended == test->count && gateway_loop_calls(test->gateway) == 0;
}

static bool upstream_quiet(void *arg) { return ((struct test *)arg)->upstream_open == 0; }

/* ---- what must hold ---- */

static void check_visitor(const struct visitor *visitor, bool lossy)
{
    const struct test *test = visitor->test;
    if (test->friendly && !lossy) {
        SIM_CHECK(!visitor->failed && visitor->status == 200);
        SIM_CHECK(!visitor->stream || strstr(visitor->body, "data: [DONE]"));
    }
    int targets = 0;
    for (int i = 0; i < TARGETS; i++) {
        int found = 0;
        for (const char *at = visitor->body; (at = strstr(at, words[i])) != NULL; at++)
            found++;
        targets += found > 0;
        SIM_CHECK(found <= PIECES);
        if (visitor->status == 200 && !visitor->failed && !visitor->left && found &&
            !strstr(visitor->body, "\"error\""))
            SIM_CHECK(found == PIECES);
    }
    SIM_CHECK(targets <= 1);
}

static void run(uint64_t seed)
{
    static struct test test;
    test = (struct test){0};
    struct sim_faults quiet = SIM_FAULTS_DEFAULT;
    bool lossy;
    struct err err;
    test.loop = loop_sim_new(seed, &quiet);
    struct sim_faults faults = sim_faults_for(test.loop, &lossy);
    loop_sim_set_faults(test.loop, &faults);
    test.friendly = loop_sim_below(test.loop, 3) == 0;
    breaker_reset_all();
    struct gateway_options options = {.ended = call_ended, .arg = &test};
    options.park_after_ns = 1 + (int64_t)loop_sim_below(test.loop, 20) * NS_PER_MS;
    SIM_CHECK(gateway_init(&options, &err) == RC_OK);
    test.client = http_client_new(test.loop);
    test.gateway_client = http_client_new(test.loop);
    test.gateway = gateway_loop_new(test.loop, test.gateway_client);
    test.upstream = serve(&test, "10.0.0.1:80", upstream_handle, &test.upstream_listener);
    test.front = serve(&test, "10.0.0.2:80", front_handle, &test.front_listener);
    configure(&test);
    test.count = 1 + loop_sim_below(test.loop, CALLS_MAX);
    for (size_t i = 0; i < test.count; i++) {
        test.visitors[i].test = &test;
        visitor_begin(&test.visitors[i]);
    }
    SIM_CHECK(loop_sim_run(test.loop, all_over, &test, 4 * 3600 * NS_PER_S) == SIM_DONE);
    for (size_t i = 0; i < test.count; i++)
        check_visitor(&test.visitors[i], lossy);
    SIM_CHECK(test.records <= test.count &&
              (lossy || !test.friendly || test.records == test.count));
    struct meter_reading reading;
    limit_read((struct id){{1}}, LIMIT_KEY, str_make(test.key->id.bytes, 16), clock_monotonic_ns(),
               clock_wall_ns(), &reading);
    SIM_CHECK(reading.parallel == 0 && reading.day_pico == test.cost_pico);
    /* What nobody waits for any more was cancelled upstream, not left running. */
    SIM_CHECK(loop_sim_run(test.loop, upstream_quiet, &test, 60 * NS_PER_S) == SIM_DONE);

    listener_close(test.upstream_listener);
    listener_close(test.front_listener);
    http_client_free(test.client);
    http_server_free(test.front);
    gateway_loop_free(test.gateway);
    http_client_free(test.gateway_client);
    http_server_free(test.upstream);
    loop_sim_run(test.loop, NULL, NULL, NS_PER_S);
    loop_free(test.loop);
    gateway_fini();
    snapshot_detach();
    snapshot_publish(snapshot_new(1 << 16));
}

int main(void) { return sim_main(run, 300); }
