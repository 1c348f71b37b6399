/* See call_stand.h. */
#include "call_stand.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char chat_body[] =
    "{\"model\":\"smart\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
const char chat_stream_body[] =
    "{\"model\":\"smart\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
const char chat_answer[] = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,"
                           "\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,"
                           "\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},\"finish_"
                           "reason\":\"stop\"}],\"usage\":{"
                           "\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}}";

static struct stand *current;

static void upstream_handle(void *arg, struct http_request *request)
{
    struct stand *stand = arg;
    memcpy(stand->upstream_body, request->body.p ? request->body.p : "", request->body.n);
    stand->upstream_body[request->body.n] = '\0';
    stand->script(request, stand->upstream_requests++);
}

static void front_handle(void *arg, struct http_request *request)
{
    struct stand *stand = arg;
    if (!door_handle(stand->gateway, request))
        http_respond(request, 404, STR("text/plain"), STR("no door"));
}

static int64_t front_admit(void *arg, struct http_request *request)
{
    struct stand *stand = arg;
    return door_admit(stand->gateway, request);
}

static struct http_server *serve(struct stand *stand, struct http_server_options *options,
                                 struct listener **listener)
{
    struct err err;
    struct address address;
    options->arg = stand;
    options->connections_max = 100;
    options->request_arena_bytes_max = 64 << 20;
    options->stalled_bytes_max = 65536;
    struct http_server *server = http_server_new(stand->loop, options);
    if (address_parse(STR("127.0.0.1:0"), 0, &address) != RC_OK)
        abort();
    *listener = listener_new(stand->loop, &address, NULL, http_server_accept, server, &err);
    if (!*listener)
        abort();
    return server;
}

static void ended(void *arg, const struct call_record *record)
{
    struct stand *stand = arg;
    stand->record = *record;
    if (record->attempt_count)
        memcpy(stand->attempts, record->attempts,
               record->attempt_count * sizeof(stand->attempts[0]));
    snprintf(stand->record_model, sizeof(stand->record_model), "%.*s", STR_ARG(record->model));
    snprintf(stand->record_error, sizeof(stand->record_error), "%.*s",
             STR_ARG(record->error_message));
    snprintf(stand->record_request, sizeof(stand->record_request), "%.*s",
             STR_ARG(record->request_body));
    snprintf(stand->record_user, sizeof(stand->record_user), "%.*s", STR_ARG(record->user));
    stand->records++;
}

static void configure(struct stand *stand, size_t target_count)
{
    static const struct str any = STR_INIT("*");
    struct id project = {{1}};
    char *url = malloc(64);
    snprintf(url, 64, "http://127.0.0.1:%d/v1", listener_port(stand->upstream_listener));
    stand->snapshot = snapshot_new(1 << 20);
    stand->project = snapshot_add_project(stand->snapshot, project, STR("default"));
    static const struct str names[] = {STR_INIT("openai"), STR_INIT("p1"), STR_INIT("p2"),
                                       STR_INIT("p3")};
    static const struct str models[] = {STR_INIT("gpt-4o"), STR_INIT("m1"), STR_INIT("m2"),
                                        STR_INIT("m3")};
    for (size_t i = 0; i < target_count; i++) {
        stand->providers[i] = (struct provider){.name = names[i],
                                                .row = provider_row_find(STR("openai")),
                                                .base_url = str_from(url),
                                                .slot = (uint32_t)(100 + i),
                                                .proxy = STR("none")};
        stand->targets[i] = (struct target){.provider = &stand->providers[i],
                                            .model = models[i],
                                            .weight = 1,
                                            .slot = (uint32_t)(10 + i)};
        map_put(&stand->project->providers, names[i], &stand->providers[i]);
    }
    stand->route = (struct route){.name = STR("smart"),
                                  .targets = stand->targets,
                                  .target_count = target_count,
                                  .balance = BALANCE_ORDERED,
                                  .fallback = FALLBACK_ANY,
                                  .capture = CAPTURE_FULL};
    map_put(&stand->project->routes, stand->route.name, &stand->route);
    struct key *key = arena_calloc(&stand->snapshot->arena, sizeof(*key));
    hash_sha256(STAND_SECRET, sizeof(STAND_SECRET) - 1, key->secret_sha256);
    *key = (struct key){.id = {{9}},
                        .name = STR("k"),
                        .model_globs = (struct str *)&any,
                        .model_glob_count = 1,
                        .limits = {0, 0, 0, COST_UNKNOWN, COST_UNKNOWN}};
    hash_sha256(STAND_SECRET, sizeof(STAND_SECRET) - 1, key->secret_sha256);
    key->principal = (struct principal){
        .project = project, .permissions = PERMISSION_BIT(CALL_MAKE), .key = key->id};
    map_put(&stand->snapshot->keys, str_make(key->secret_sha256, SHA256_BYTES), key);
    stand->key = key;
    snapshot_publish(stand->snapshot);
}

struct stand *stand_new(stand_script *script, size_t target_count)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    struct err err;
    current = stand;
    stand->script = script;
    stand->loop = loop_new(0);
    stand->client = http_client_new(stand->loop);
    stand->gateway_client = http_client_new(stand->loop);
    if (gateway_init(&(struct gateway_options){.ended = ended, .arg = stand, .park_after_ns = 1},
                     &err) != RC_OK)
        abort();
    breaker_reset_all();
    stand->gateway = gateway_loop_new(stand->loop, stand->gateway_client);
    struct http_server_options upstream = {.handle = upstream_handle};
    struct http_server_options front = {.handle = front_handle, .admit = front_admit};
    stand->upstream = serve(stand, &upstream, &stand->upstream_listener);
    stand->front = serve(stand, &front, &stand->front_listener);
    arena_init(&stand->arena, 1 << 20);
    configure(stand, target_count);
    return stand;
}

void stand_free(struct stand *stand)
{
    char *url = (char *)stand->providers[0].base_url.p;
    listener_close(stand->upstream_listener);
    listener_close(stand->front_listener);
    http_client_free(stand->client);
    http_server_free(stand->front);
    gateway_loop_free(stand->gateway);
    http_client_free(stand->gateway_client);
    http_server_free(stand->upstream);
    stand_run_for(stand, 1000000);
    loop_free(stand->loop);
    gateway_fini();
    snapshot_detach();
    snapshot_publish(snapshot_new(1 << 16));
    arena_fini(&stand->arena);
    free(url);
    free(stand);
}

/* ---- the client ---- */

static void client_head(void *owner, int status, const struct http_headers *headers)
{
    struct stand *stand = owner;
    stand->status = status;
    for (size_t i = 0; i < headers->count; i++)
        if (http_header_add(&stand->headers, &stand->arena,
                            arena_copy(&stand->arena, headers->items[i].name),
                            arena_copy(&stand->arena, headers->items[i].value)) != RC_OK)
            abort();
}

static enum proceed client_data(void *owner, struct str data)
{
    struct stand *stand = owner;
    if (stand->body_n + data.n < sizeof(stand->body)) {
        memcpy(stand->body + stand->body_n, data.p, data.n);
        stand->body_n += data.n;
        stand->body[stand->body_n] = '\0';
    }
    stand->data_count++;
    return stand->stop_reading ? STOP : PROCEED;
}

static void client_done(void *owner, const struct err *err,
                        const struct http_exchange_timing *timing)
{
    struct stand *stand = owner;
    stand->failed = err != NULL;
    stand->exchange = NULL;
    loop_stop(stand->loop);
}

void stand_begin(struct stand *stand, const char *method, const char *path, const char *body)
{
    static const struct http_exchange_owner calls = {client_head, client_data, client_done};
    static const struct http_header headers[] = {
        {STR_INIT("authorization"), STR_INIT("Bearer " STAND_SECRET)},
        {STR_INIT("content-type"), STR_INIT("application/json")},
        {STR_INIT("x-capstan-user"), STR_INIT("ann")},
        {STR_INIT("x-capstan-tags"), STR_INIT("team=blue, app=web")},
    };
    char url[64];
    struct err err;
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", listener_port(stand->front_listener));
    struct http_origin *origin = http_client_origin(
        stand->client, &(struct http_origin_options){.url = str_from(url), .proxy = STR("none")},
        &err);
    arena_reset(&stand->arena);
    stand->headers = (struct http_headers){0};
    stand->status = 0;
    stand->body_n = stand->data_count = 0;
    stand->body[0] = '\0';
    stand->failed = false;
    stand->exchange = http_exchange_start(origin,
                                          &(struct http_exchange_request){
                                              .method = str_from(method),
                                              .path = str_from(path),
                                              .headers = headers,
                                              .header_count = COUNT_OF(headers),
                                              .body = {str_from(body)},
                                              .body_parts = body ? 1 : 0,
                                          },
                                          &calls, stand);
}

void stand_run(struct stand *stand) { loop_run(stand->loop); }

void stand_post(struct stand *stand, const char *path, const char *body)
{
    stand_begin(stand, "POST", path, body);
    stand_run(stand);
}

void stand_get(struct stand *stand, const char *path)
{
    stand_begin(stand, "GET", path, NULL);
    stand_run(stand);
}

static void stop_running(struct timer *timer) { loop_stop(current->loop); }

void stand_run_for(struct stand *stand, int64_t ns)
{
    struct timer timer;
    timer_init(&timer, stop_running);
    timer_start(stand->loop, &timer, ns);
    loop_run(stand->loop);
    timer_stop(&timer);
}

void stand_run_until_records(struct stand *stand, int count)
{
    for (int i = 0; i < 500 && stand->records < count; i++)
        stand_run_for(stand, 10 * 1000000);
}

struct str stand_header(const struct stand *stand, const char *name)
{
    return http_header_get(&stand->headers, str_from(name));
}
