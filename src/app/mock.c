/* `capstan mock`: the command, its loops, and what each path leads to. See mock.h for scripts. */
#include "app/mock.h"
#include "app/command.h"
#include "base/clock.h"
#include "base/limits.h"
#include "io/tls.h"
#include "text/json.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LOOPS_MAX    64
#define RECORDED_MAX 256
#define ARENA_BYTES  (64 * 1024 * 1024)

struct mock_server {
    struct mock_script script; /* of the command line */
    struct arena arena;
    struct str key;
    bool record;
    int loop_count;
    struct mock_loop {
        struct mock_server *all;
        struct loop *loop;
        struct http_server *server;
        struct listener *listener;
        pthread_t thread;
    } loops[LOOPS_MAX];
    /* The last requests, where asked for. */
    pthread_mutex_t lock;
    struct buf recorded[RECORDED_MAX];
    size_t recorded_count;
};

static const struct mock_format *const formats[] = {&MOCK_CHAT, &MOCK_RESPONSES, &MOCK_MESSAGES,
                                                    &MOCK_COMPLETIONS}; /* chat's path is longer */

/* ---- what tests ask the mock ---- */

static void record(struct mock_server *all, const struct http_request *request)
{
    pthread_mutex_lock(&all->lock);
    struct buf *out = &all->recorded[all->recorded_count++ % RECORDED_MAX];
    buf_fini(out);
    buf_init(out, LIMIT_BODY_BYTES);
    struct json_writer w = json_writer_to(out);
    json_begin_object(&w);
    json_put_string(&w, "method", request->method);
    json_put_string(&w, "target", request->target);
    json_key(&w, "headers");
    json_begin_object(&w);
    for (size_t i = 0; i < request->headers.count; i++) {
        json_key_str(&w, request->headers.items[i].name);
        json_string(&w, request->headers.items[i].value);
    }
    json_end_object(&w);
    json_put_string(&w, "body", request->body);
    json_end_object(&w);
    pthread_mutex_unlock(&all->lock);
}

static void answer_recorded(struct mock_server *all, struct http_request *request)
{
    struct buf out;
    buf_init(&out, LIMIT_RESPONSE_BYTES);
    struct json_writer w = json_writer_to(&out);
    json_begin_array(&w);
    pthread_mutex_lock(&all->lock);
    size_t first = all->recorded_count > RECORDED_MAX ? all->recorded_count - RECORDED_MAX : 0;
    for (size_t i = first; i < all->recorded_count; i++)
        json_raw(&w, buf_str(&all->recorded[i % RECORDED_MAX]));
    if (str_eq(request->method, STR("DELETE")))
        all->recorded_count = 0;
    pthread_mutex_unlock(&all->lock);
    json_end_array(&w);
    mock_answer_json(request, 200, &out);
    buf_fini(&out);
}

static void answer_stats(struct http_request *request)
{
    struct buf out;
    buf_init(&out, 4096);
    struct json_writer w = json_writer_to(&out);
    json_begin_object(&w);
    json_put_uint(&w, "requests", mock_stats.requests);
    json_put_uint(&w, "streams", mock_stats.streams);
    json_put_uint(&w, "events", mock_stats.events);
    json_put_uint(&w, "cancelled", mock_stats.cancelled);
    json_put_int(&w, "cancelled_at_ns", mock_stats.cancelled_at_ns);
    json_put_uint(&w, "open", mock_stats.open);
    json_end_object(&w);
    mock_answer_json(request, 200, &out);
    buf_fini(&out);
}

/* ---- calls ---- */

static void answer_invalid(struct http_request *request, bool anthropic, int status,
                           const char *message)
{
    struct mock_error error = {status,
                               status,
                               "invalid",
                               "invalid_request_error",
                               status == 401 ? "invalid_api_key" : "invalid_value",
                               status == 401 ? "authentication_error" : "invalid_request_error",
                               message};
    struct buf out;
    buf_init(&out, 4096);
    struct json_writer w = json_writer_to(&out);
    (anthropic ? &MOCK_MESSAGES : &MOCK_CHAT)->error(&w, &error, status);
    mock_answer_json(request, status, &out);
    buf_fini(&out);
}

static bool read_script(struct mock_server *all, struct mock_call *call, struct err *err)
{
    struct str header = http_header_get(&call->request->headers, STR("x-mock"));
    struct str model = json_get_text(call->body, "model");
    ssize_t question = str_find_char(model, '?');
    struct str behind = STR_EMPTY;
    if (question >= 0)
        behind = str_slice(model, (size_t)question + 1, model.n);
    call->script = all->script;
    call->script.source = header.n ? header : behind;
    call->model = question >= 0 ? str_slice(model, 0, (size_t)question) : model;
    return mock_script_parse(&call->script, header, call->arena, err) == RC_OK &&
           mock_script_parse(&call->script, behind, call->arena, err) == RC_OK;
}

static void begin_call(struct mock_server *all, struct http_request *request,
                       const struct mock_format *format)
{
    struct err err = {0};
    yyjson_doc *doc;
    struct mock_call *call = ARENA_NEW(request->arena, struct mock_call);
    if (!call || json_read(request->body, request->arena, &doc, &err) != RC_OK) {
        answer_invalid(request, format->anthropic, 400, "We could not parse the JSON body.");
        return;
    }
    call->request = request;
    call->server = all;
    call->format = format;
    call->arena = request->arena;
    call->body = yyjson_doc_get_root(doc);
    call->stream = json_get_bool(call->body, "stream", false);
    if (!read_script(all, call, &err)) {
        answer_invalid(request, format->anthropic, 400,
                       arena_copy(request->arena, str_from(err.message)).p);
        return;
    }
    const char *wrong = call->model.n ? format->begin(call) : "you must provide a model parameter";
    if (wrong)
        answer_invalid(request, format->anthropic, 400, wrong);
    else
        mock_call_run(call);
}

static bool key_is_right(const struct mock_server *all, const struct http_request *request)
{
    if (all->key.n == 0)
        return true;
    struct str given = http_header_get(&request->headers, STR("authorization"));
    if (str_starts(given, STR("Bearer ")))
        given = str_slice(given, 7, given.n);
    if (!given.p)
        given = http_header_get(&request->headers, STR("x-api-key"));
    if (!given.p)
        given = http_header_get(&request->headers, STR("api-key"));
    return str_eq(given, all->key);
}

/* Whatever else a gateway may pass through: says what arrived. */
static void answer_other(struct http_request *request)
{
    struct str body = arena_printf(
        request->arena, "{\"object\":\"mock\",\"method\":\"%.*s\",\"path\":\"%.*s\",\"bytes\":%zu}",
        STR_ARG(request->method), STR_ARG(request->path), request->body.n);
    http_respond(request, 200, STR("application/json"), body);
}

typedef void answer_fn(struct http_request *request, yyjson_val *body, struct arena *arena);

static void answer_with_body(struct http_request *request, answer_fn *answer)
{
    struct err err;
    yyjson_doc *doc;
    if (json_read(request->body, request->arena, &doc, &err) != RC_OK)
        answer_invalid(request, false, 400, "We could not parse the JSON body.");
    else
        answer(request, yyjson_doc_get_root(doc), request->arena);
}

static void on_request(void *arg, struct http_request *request)
{
    struct mock_server *all = ((struct mock_loop *)arg)->all;
    struct str path = request->path;
    if (str_eq(path, STR("/mock/stats"))) {
        answer_stats(request);
        return;
    }
    if (str_eq(path, STR("/mock/requests"))) {
        answer_recorded(all, request);
        return;
    }
    atomic_fetch_add_explicit(&mock_stats.requests, 1, memory_order_relaxed);
    if (all->record)
        record(all, request);
    bool post = str_eq(request->method, STR("POST"));
    if (!key_is_right(all, request)) {
        bool anthropic = str_find(path, STR("/messages")) >= 0;
        answer_invalid(request, anthropic, 401, "Incorrect API key provided.");
        return;
    }
    for (size_t i = 0; post && i < COUNT_OF(formats); i++)
        if (str_ends(path, str_from(formats[i]->path))) {
            begin_call(all, request, formats[i]);
            return;
        }
    if (post && str_ends(path, STR("/embeddings")))
        answer_with_body(request, mock_answer_embeddings);
    else if (post && str_ends(path, STR("/messages/count_tokens")))
        answer_with_body(request, mock_answer_count_tokens);
    else if (!post && str_find(path, STR("/models")) >= 0)
        mock_answer_models(request, request->arena);
    else
        answer_other(request);
}

/* ---- the command ---- */

static bool open_loop(struct mock_server *all, int index, const struct address *address,
                      struct tls_context *tls, struct err *err)
{
    struct mock_loop *own = &all->loops[index];
    own->all = all;
    own->loop = loop_new(index);
    struct http_server_options options = {
        .handle = on_request,
        .arg = own,
        .tls = tls != NULL,
        .connections_max = LIMIT_CONNECTIONS,
        .request_arena_bytes_max = ARENA_BYTES,
    };
    own->server = http_server_new(own->loop, &options);
    own->listener = listener_new(own->loop, address, tls, http_server_accept, own->server, err);
    return own->listener != NULL;
}

static void *run_loop(void *arg)
{
    loop_run(((struct mock_loop *)arg)->loop);
    return NULL;
}

struct signals {
    struct watch watch;
    struct mock_server *all;
};

static void on_signal(struct watch *watch, unsigned events)
{
    struct mock_server *all = CONTAINER_OF(watch, struct signals, watch)->all;
    for (int i = 0; i < all->loop_count; i++)
        loop_stop(all->loops[i].loop);
}

/* Runs until TERM or INT. Signals are blocked before threads start, so that all inherit it. */
static void run(struct mock_server *all)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    struct signals signals = {
        .watch = {.fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_signal},
        .all = all,
    };
    enum rc rc = loop_watch(all->loops[0].loop, &signals.watch, LOOP_READ);
    ASSERT(rc == RC_OK);
    for (int i = 1; i < all->loop_count; i++)
        pthread_create(&all->loops[i].thread, NULL, run_loop, &all->loops[i]);
    run_loop(&all->loops[0]);
    for (int i = 1; i < all->loop_count; i++)
        pthread_join(all->loops[i].thread, NULL);
    loop_unwatch(all->loops[0].loop, &signals.watch);
    close(signals.watch.fd);
}

static void close_all(struct mock_server *all)
{
    for (int i = 0; i < all->loop_count; i++) {
        listener_close(all->loops[i].listener);
        http_server_free(all->loops[i].server);
        loop_free(all->loops[i].loop);
    }
    for (size_t i = 0; i < RECORDED_MAX; i++)
        buf_fini(&all->recorded[i]);
    arena_fini(&all->arena);
}

static int fail(const struct err *err)
{
    fprintf(stderr, "capstan mock: %s\n", err->message);
    return EXIT_FAILED;
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int command_mock(int argc, char **argv)
{
    static struct mock_server all = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const char *listen = "127.0.0.1:4200", *loops = "1", *script = "", *key = "";
    const char *cert_file = NULL, *key_file = NULL;
    bool settings = false;
    const struct option_spec specs[] = {
        {.name = "listen", .value = &listen},      {.name = "loops", .value = &loops},
        {.name = "script", .value = &script},      {.name = "key", .value = &key},
        {.name = "tls-cert", .value = &cert_file}, {.name = "tls-key", .value = &key_file},
        {.name = "record", .flag = &all.record},   {.name = "settings", .flag = &settings},
    };
    if (!command_parse_options("mock", &argc, argv, specs, COUNT_OF(specs)))
        return EXIT_USAGE;
    if (settings) {
        mock_script_print_help();
        return EXIT_OK;
    }
    struct err err = {0};
    struct address address;
    uint64_t count;
    if (argc > 1 || address_parse(str_from(listen), 4200, &address) != RC_OK)
        return command_usage_error("mock", "there is no address to listen on in \"%s\"",
                                   argc > 1 ? argv[1] : listen);
    if (str_to_u64(str_from(loops), &count) != RC_OK || count == 0 || count > LOOPS_MAX)
        return command_usage_error("mock", "--loops takes a number from 1 to %d", LOOPS_MAX);
    arena_init(&all.arena, ARENA_BYTES);
    mock_script_init(&all.script);
    all.key = str_from(key);
    if (mock_script_parse(&all.script, str_from(script), &all.arena, &err) != RC_OK)
        return fail(&err);
    struct tls_context *tls = NULL;
    if (cert_file && !(tls = tls_server_new(str_from(cert_file), str_from(key_file), &err)))
        return fail(&err);
    raise_file_limit();
    for (; all.loop_count < (int)count; all.loop_count++) {
        if (!open_loop(&all, all.loop_count, &address, tls, &err))
            return fail(&err);
        if (address.kind == ADDRESS_TCP)
            address.port = listener_port(all.loops[0].listener);
    }
    if (address.kind == ADDRESS_UNIX)
        printf("address: unix:%.*s\n", STR_ARG(address.host));
    else
        printf("address: %s://%.*s:%u\n", tls ? "https" : "http", STR_ARG(address.host),
               address.port);
    fflush(stdout);
    run(&all);
    close_all(&all);
    tls_unref(tls);
    return EXIT_OK;
}
