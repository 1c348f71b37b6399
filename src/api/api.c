/* The frame of the management interface: matches the route, checks who asks and whether he may,
 * runs the handler where its kind says, sends its answer. See api.h.
 *
 * A `struct api_pending` carries one request through a worker or the control writer. It owns its
 * arena and copies what it needs, because the connection may be gone before the handler has run. */
#include "api/handlers.h"
#include "api/door.h"
#include "api/problem.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "govern/session.h"
#include "http/encode.h"
#include "io/worker.h"
#include "store/db.h"
#include "text/json.h"
#include <stdlib.h>

#define API_ARENA_BYTES_MAX  (64 * 1024 * 1024)
#define API_LOG_SLOW_NS      (2 * NS_PER_S)
#define COMPRESSED_BYTES_MIN 1024

struct api_route {
    struct str method, pattern;
    int permission; /* enum permission, PERMISSION_PUBLIC or PERMISSION_ANY */
    enum api_kind kind;
    api_handler *handler; /* kinds READ, WRITE, WORK */
    void (*loop_handler)(struct api_call *call, struct http_request *request); /* kind LOOP */
};

#define PERMISSION_PUBLIC -1 /* nobody need be known */
#define PERMISSION_ANY    -2 /* whoever is known */
#define HANDLER_READ(f)   .handler = f
#define HANDLER_WRITE(f)  .handler = f
#define HANDLER_WORK(f)   .handler = f
#define HANDLER_LOOP(f)   .loop_handler = f

static const struct api_route routes[] = {
#define API_ROUTE(method_, pattern_, permission_, kind_, handler_)                                 \
    {STR_INIT(#method_), STR_INIT(pattern_), PERMISSION_##permission_, API_##kind_,                \
     HANDLER_##kind_(handler_)},
#include "api/routes.h"
#undef API_ROUTE
};

/* Objects that OpenAI's clients manage: the same frame, errors in the door's words. */
static const struct api_route door_routes[] = {
#define API_ROUTE(method_, pattern_, permission_, kind_, handler_)                                 \
    {STR_INIT(#method_), STR_INIT(pattern_), PERMISSION_##permission_, API_##kind_,                \
     HANDLER_##kind_(handler_)},
#include "api/door_routes.h"
#undef API_ROUTE
};

/* Other people's doors to pipelines: each checks who asks and answers errors in its own words. */
static const struct api_route trigger_routes[] = {
#define API_ROUTE(method_, pattern_, permission_, kind_, handler_)                                 \
    {STR_INIT(#method_), STR_INIT(pattern_), PERMISSION_##permission_, API_##kind_,                \
     HANDLER_##kind_(handler_)},
#include "api/trigger_routes.h"
#undef API_ROUTE
};

struct api_loop {
    struct loop *loop;
    struct api_services *services;
    struct http_client *client;
    struct gateway_loop *gateway;
};

struct api_pending {
    struct api_call call;
    struct arena arena;
    struct principal principal;
    const struct api_route *route;
    struct http_request *request; /* NULL: the client left */
    int64_t started_ns;
    enum http_coding coding; /* that the client takes */
    bool compressed;         /* the answer is in it */
    enum rc rc;
    union {
        struct work work;
        struct db_work db_work;
    };
};

struct api_loop *api_loop_new(struct loop *loop, struct api_services *services,
                              struct http_client *client, struct gateway_loop *gateway)
{
    struct api_loop *api = xcalloc(1, sizeof(*api));
    api->loop = loop;
    api->services = services;
    api->client = client;
    api->gateway = gateway;
    return api;
}

void api_loop_free(struct api_loop *api) { free(api); }

/* ---- matching ---- */

/* Segments of `path` against those of `pattern`; {…} takes any one segment. */
static bool match_pattern(struct str pattern, struct str path, struct str params[API_PARAMS_MAX])
{
    struct str want, got;
    size_t count = 0;
    for (size_t i = 0; i < pattern.n && pattern.p[i] != '{'; i++) /* most differ here */
        if (i >= path.n || path.p[i] != pattern.p[i])
            return false;
    while (str_split(&pattern, '/', &want)) {
        if (!str_split(&path, '/', &got))
            return false;
        if (want.n && want.p[0] == '{') {
            if (got.n == 0)
                return false;
            ASSERT(count < API_PARAMS_MAX);
            params[count++] = got;
        } else if (!str_eq(want, got)) {
            return false;
        }
    }
    return path.n == 0;
}

/* NULL: nothing has this path (*path_known false) or not this method (true). Literal patterns stand
 * before those with parameters in the table. Matching is done on the raw target, so that a name may
 * hold an encoded slash; the parameters are decoded afterwards. */
static const struct api_route *find_route(const struct api_route *table, size_t count,
                                          struct str method, struct str path,
                                          struct str params[API_PARAMS_MAX], bool *path_known)
{
    *path_known = false;
    for (size_t i = 0; i < count; i++) {
        if (!match_pattern(table[i].pattern, path, params))
            continue;
        if (str_eq(table[i].method, method))
            return &table[i];
        *path_known = true;
    }
    return NULL;
}

static struct str raw_path(const struct http_request *request)
{
    ssize_t question = str_find_char(request->target, '?');
    return question < 0 ? request->target : str_slice(request->target, 0, (size_t)question);
}

/* ---- answering ---- */

static bool is_door_path(struct str path) { return str_starts(path, STR("/v1/")); }

static void respond_error(struct http_request *request, const struct err *err)
{
    if (is_door_path(request->path))
        door_respond_error(request, WIRE_OPENAI_CHAT, err);
    else
        api_respond_problem(request, err);
}

static void put_headers(const struct api_call *call, struct http_request *request)
{
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    if (call->set_cookie.n)
        http_respond_header(request, STR("set-cookie"), call->set_cookie);
}

/* The answer as text: where the handler ran, since a large one takes a while. */
static void write_answer(struct api_call *call)
{
    if (call->raw_answer.p || !call->answer)
        return;
    yyjson_alc alc = json_arena_alc(call->arena);
    yyjson_mut_doc_set_root(call->doc, call->answer);
    call->content_type = STR("application/json");
    call->raw_answer.p = yyjson_mut_write_opts(call->doc, 0, &alc, &call->raw_answer.n, NULL);
}

/* Compresses what is worth it. Not what the writer answers nor what sessions ask for: secrets stand
 * there, and those must not be in one compressed text with what others may have put in. */
static void compress_answer(struct api_pending *pending)
{
    struct api_call *call = &pending->call;
    bool textual = str_starts(call->content_type, STR("application/json")) ||
                   str_starts(call->content_type, STR("text/"));
    if (!textual || pending->route->permission < 0 || call->raw_answer.n < COMPRESSED_BYTES_MIN)
        return;
    struct str packed = http_encode(pending->coding, call->raw_answer, call->arena);
    if (packed.p)
        call->raw_answer = packed;
    pending->compressed = packed.p != NULL;
}

/* The answer's text lives in the pending's arena: copied into the request's, which outlives it. */
static void send_answer(struct api_pending *pending)
{
    struct api_call *call = &pending->call;
    struct http_request *request = pending->request;
    struct str type = call->content_type, body = call->raw_answer;
    body = body.n ? arena_copy(request->arena, body) : body;
    if ((call->answer || call->raw_answer.n) && !body.p) {
        struct err err = {0};
        err_set(&err, ERR_TOO_LARGE, "the answer is too large; ask for fewer items with 'limit'");
        respond_error(request, &err);
        return;
    }
    put_headers(call, request);
    http_respond_header(request, STR("vary"), STR("accept-encoding"));
    if (pending->compressed)
        http_respond_header(request, STR("content-encoding"), http_coding_name(pending->coding));
    int status = call->status ? call->status : body.n ? 200 : 204;
    http_respond(request, status, body.n ? type : STR_EMPTY, body);
}

static void pending_free(struct api_pending *pending)
{
    arena_fini(&pending->arena);
    free(pending);
}

/* On the request's loop, when the handler has run. */
static void pending_finish(struct api_pending *pending)
{
    struct api_call *call = &pending->call;
    if (pending->rc != RC_OK && call->err.code == ERR_NONE)
        err_set(&call->err, ERR_INTERNAL, "the server could not do this (%s)",
                rc_name(pending->rc));
    if (call->err.code != ERR_NONE && err_http_status(call->err.code) >= 500)
        log_event(LOG_WARN, "api_failed", LOG_STR("path", call->path),
                  LOG_Z("error", call->err.message));
    if (pending->request) {
        pending->request->gone = NULL;
        pending->request->user = NULL;
        if (pending->rc == RC_OK)
            send_answer(pending);
        else
            respond_error(pending->request, &call->err);
    }
    pending_free(pending);
}

static void on_gone(struct http_request *request)
{
    struct api_pending *pending = request->user;
    pending->request = NULL;
}

/* ---- running ---- */

/* Parses the body; runs off the loop because bodies may be large. */
static enum rc read_body(struct api_call *call)
{
    if (call->raw_body.n == 0 || str_starts(call->body_type, STR("multipart/")) ||
        str_starts(call->body_type, STR("application/x-protobuf")) || call->body_coding.n)
        return RC_OK;
    yyjson_doc *doc;
    if (json_read(call->raw_body, call->arena, &doc, &call->err) != RC_OK)
        return RC_INVALID;
    call->body = yyjson_doc_get_root(doc);
    if (yyjson_is_obj(call->body))
        return RC_OK;
    return err_set(&call->err, ERR_BAD_JSON, "the body must be a JSON object");
}

static enum rc run_handler(struct api_pending *pending)
{
    struct api_call *call = &pending->call;
    yyjson_alc alc = json_arena_alc(&pending->arena);
    call->doc = yyjson_mut_doc_new(&alc);
    if (!call->doc)
        return err_set(&call->err, ERR_OVERLOADED, "no memory for this request");
    enum rc rc = read_body(call);
    if (rc == RC_OK)
        rc = pending->route->handler(call);
    if (rc == RC_OK)
        write_answer(call);
    return rc;
}

static void worker_run(struct work *work)
{
    struct api_pending *pending = CONTAINER_OF(work, struct api_pending, work);
    struct api_call *call = &pending->call;
    if (pending->route->kind == API_READ) {
        pending->rc = db_read_begin(call->services->db, &call->txn, &call->err);
        if (pending->rc != RC_OK)
            return;
    }
    pending->rc = run_handler(pending);
    if (call->txn)
        db_read_end(call->txn);
    if (pending->rc == RC_OK)
        compress_answer(pending);
}

static void worker_done(struct work *work)
{
    pending_finish(CONTAINER_OF(work, struct api_pending, work));
}

static enum rc writer_run(struct db_work *work, struct db_txn *txn, struct err *err)
{
    struct api_pending *pending = CONTAINER_OF(work, struct api_pending, db_work);
    pending->call.txn = txn;
    enum rc rc = run_handler(pending);
    *err = pending->call.err;
    return rc == RC_OK && pending->call.roll_back ? RC_CANCELLED : rc;
}

static void writer_done(struct db_work *work)
{
    struct api_pending *pending = CONTAINER_OF(work, struct api_pending, db_work);
    bool undone = work->rc == RC_CANCELLED && pending->call.roll_back;
    pending->rc = undone ? RC_OK : work->rc;
    pending->call.err = work->err;
    pending_finish(pending);
}

static enum rc submit(struct api_pending *pending, struct api_loop *api)
{
    struct api_services *services = api->services;
    if (pending->route->kind == API_WRITE) {
        pending->db_work =
            (struct db_work){.home = api->loop, .write = writer_run, .done = writer_done};
        return db_write(services->db, &pending->db_work);
    }
    pending->work = (struct work){.home = api->loop, .work = worker_run, .done = worker_done};
    return worker_submit(services->workers, &pending->work);
}

/* ---- a request comes in ---- */

static struct str copy(struct api_call *call, struct str s)
{
    return s.n ? arena_copy(call->arena, s) : STR_EMPTY;
}

static void fill_call(struct api_call *call, const struct http_request *request,
                      const struct str params[API_PARAMS_MAX])
{
    call->path = copy(call, request->path);
    call->query = copy(call, request->query);
    call->raw_body = copy(call, request->body);
    call->body_type = copy(call, http_header_get(&request->headers, STR("content-type")));
    call->body_coding = copy(call, http_header_get(&request->headers, STR("content-encoding")));
    call->client_ip = copy(call, request->peer);
    call->client_agent = copy(call, http_header_get(&request->headers, STR("user-agent")));
    call->cookie_session = copy(call, api_request_cookie(request, STR(SESSION_COOKIE_NAME)));
    struct str host = http_header_get(&request->headers, STR("host"));
    call->base_url =
        arena_printf(call->arena, "%s://%.*s", request->tls ? "https" : "http", STR_ARG(host));
    call->tls = request->tls;
    for (int i = 0; i < API_PARAMS_MAX; i++)
        if (params[i].n)
            call->params[i] = http_percent_decode(params[i], false, call->arena);
}

/* Which documents who asks may see, and what is stored of what is sent. */
static void fill_access(struct api_call *call, const struct principal *principal,
                        const struct key *key)
{
    call->all_access = !key || (principal->permissions & PERMISSION_BIT(KNOWLEDGE_WRITE));
    const struct project *project = snapshot_project(snapshot_current(), principal->project);
    call->capture = project && project->capture ? project->capture : CAPTURE_FULL;
    if (key && key->capture)
        call->capture = MIN(call->capture, key->capture);
    if (!key || key->tag_count == 0)
        return;
    call->access_tags = ARENA_NEW_ARRAY(call->arena, struct str, key->tag_count);
    for (size_t i = 0; call->access_tags && i < key->tag_count; i++) {
        struct str tag = arena_printf(call->arena, "%.*s=%.*s", STR_ARG(key->tags[i].name),
                                      STR_ARG(key->tags[i].value));
        if (tag.p)
            call->access_tags[call->access_tag_count++] = tag;
    }
}

/* Loop handlers keep their call in the request's own arena. */
static void run_on_loop(struct api_loop *api, const struct api_route *route,
                        struct http_request *request, const struct principal *principal,
                        const struct key *key, const struct str params[API_PARAMS_MAX])
{
    struct api_call *call = ARENA_NEW(request->arena, struct api_call);
    struct principal *own = ARENA_NEW(request->arena, struct principal);
    struct err err = {0};
    if (!call || !own) {
        err_set(&err, ERR_OVERLOADED, "no memory for this request");
        respond_error(request, &err);
        return;
    }
    *own = *principal;
    call->services = api->services;
    call->client = api->client;
    call->gateway = api->gateway;
    call->arena = request->arena;
    call->principal = own;
    fill_call(call, request, params);
    fill_access(call, principal, key);
    route->loop_handler(call, request);
}

static void run_elsewhere(struct api_loop *api, const struct api_route *route,
                          struct http_request *request, const struct principal *principal,
                          const struct key *key, const struct str params[API_PARAMS_MAX])
{
    struct api_pending *pending = xcalloc(1, sizeof(*pending));
    arena_init(&pending->arena, API_ARENA_BYTES_MAX + 2 * request->body.n);
    pending->route = route;
    pending->request = request;
    pending->principal = *principal;
    pending->principal.name = arena_copy(&pending->arena, principal->name);
    pending->call.services = api->services;
    pending->call.arena = &pending->arena;
    pending->call.principal = route->permission == PERMISSION_PUBLIC ? NULL : &pending->principal;
    fill_call(&pending->call, request, params);
    fill_access(&pending->call, principal, key);
    pending->coding =
        http_accepted_coding(http_header_get(&request->headers, STR("accept-encoding")));
    request->user = pending;
    request->gone = on_gone;
    enum rc rc = submit(pending, api);
    if (rc != RC_OK) {
        pending->rc =
            err_set(&pending->call.err, ERR_OVERLOADED, "too many requests wait; try again soon");
        pending_finish(pending);
    }
}

static enum rc authorise(const struct api_route *route, const struct http_request *request,
                         struct principal *principal, struct key **key, struct err *err)
{
    if (route->permission == PERMISSION_PUBLIC)
        return RC_OK;
    enum rc rc = api_authenticate(request, snapshot_current(), principal, key, err);
    if (rc == RC_OK && route->permission != PERMISSION_ANY)
        rc = principal_require(principal, (enum permission)route->permission, err);
    return rc;
}

/* Documents come in whole; memory for them is for those who are known. */
int64_t api_admit(const struct http_request *request)
{
    struct principal principal;
    struct key *key;
    struct err err;
    struct snapshot *snapshot = snapshot_current();
    if (!str_starts(request->path, STR("/api/collections/")))
        return -1;
    bool known = snapshot && api_authenticate(request, snapshot, &principal, &key, &err) == RC_OK;
    return known ? LIMIT_BODY_BYTES : -1;
}

static bool is_door_object(struct str path)
{
    return str_starts(path, STR("/v1/files")) || str_starts(path, STR("/v1/vector_stores"));
}

static bool is_trigger(struct str path)
{
    return str_starts(path, STR("/hook/")) || str_starts(path, STR("/webhook/")) ||
           str_eq(path, STR("/mcp"));
}

static const struct api_route *choose_table(struct str path, size_t *count)
{
    if (str_starts(path, STR("/api/"))) {
        *count = COUNT_OF(routes);
        return routes;
    }
    *count = is_door_object(path) ? COUNT_OF(door_routes)
             : is_trigger(path)   ? COUNT_OF(trigger_routes)
                                  : 0;
    return is_door_object(path) ? door_routes : trigger_routes;
}

bool api_handle(struct api_loop *api, struct http_request *request)
{
    size_t count;
    const struct api_route *table = choose_table(request->path, &count);
    if (count == 0)
        return false;
    struct str params[API_PARAMS_MAX] = {{NULL, 0}};
    struct principal principal = {0};
    struct key *key = NULL;
    struct err err = {0};
    bool path_known;
    const struct api_route *route =
        find_route(table, count, request->method, raw_path(request), params, &path_known);
    if (!route && path_known)
        err_set(&err, ERR_METHOD, "%.*s cannot be used with %.*s", STR_ARG(request->method),
                STR_ARG(request->path));
    else if (!route)
        err_set(&err, ERR_NOT_FOUND,
                "there is nothing at %.*s; docs/openapi.yaml lists what there is",
                STR_ARG(request->path));
    else
        authorise(route, request, &principal, &key, &err);
    if (err.code != ERR_NONE)
        respond_error(request, &err);
    else if (route->kind == API_LOOP)
        run_on_loop(api, route, request, &principal, key, params);
    else
        run_elsewhere(api, route, request, &principal, key, params);
    return true;
}
