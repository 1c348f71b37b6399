/* Sessions and the HTTP transport. See mcp_client.h.
 *
 * A request is made, waits until its session is ready, is sent, and ends by its answer, an error,
 * its deadline or its owner. The session's first message is `initialize`, an own request whose
 * owner is the session; then `notifications/initialized`, and only when the server has taken that
 * do the waiting requests go out. An answer over HTTP is one JSON message or a stream of events; in
 * a stream other messages may come before it. */
#include "pipeline/tools/mcp_private.h"
#include "base/clock.h"
#include "base/hash.h"
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_ARENA_BYTES (32 * 1024 * 1024)
#define SESSION_ARENA_BYTES (1024 * 1024)
#define OPEN_TIMEOUT_NS     (30 * NS_PER_S)
#define PROTOCOL_NEWEST     "2025-11-25" /* older ones are taken as the server says */

static void request_send(struct mcp_request *request);

/* ---- requests ---- */

static struct mcp_request *request_new(struct mcp_session *session, const char *method,
                                       struct str params)
{
    struct arena arena;
    arena_init(&arena, REQUEST_ARENA_BYTES);
    struct mcp_request *request = ARENA_NEW(&arena, struct mcp_request);
    ASSERT(request); /* the first bytes of an arena */
    request->arena = arena;
    request->session = session;
    request->method = method;
    request->params = arena_copy(&request->arena, params);
    request->id = session->next_id++;
    sse_parser_init(&request->parser);
    return request;
}

static void request_free(struct mcp_request *request)
{
    timer_stop(&request->timer);
    fetch_free(request->fetch);
    sse_parser_fini(&request->parser);
    struct arena arena = request->arena;
    arena_fini(&arena);
}

static void end_task(struct task *task)
{
    struct mcp_request *request = CONTAINER_OF(task, struct mcp_request, task);
    if (request->done) {
        struct err err = request->err;
        bool told = request->answered && request->answer.kind == JSONRPC_ERROR;
        if (err.code == ERR_NONE && told)
            err_set(&err, ERR_UPSTREAM, "the MCP server refuses: %.*s (%lld)",
                    STR_ARG(request->answer.error_message), (long long)request->answer.error_code);
        mcp_answered *done = request->done;
        request->done = NULL;
        if (!request->is_opener) {
            list_remove(&request->node);
            request->session->request_count--;
        }
        done(request->arg, err.code == ERR_NONE ? request->answer.result : NULL,
             err.code == ERR_NONE ? NULL : &err);
    }
    request_free(request);
}

void mcp_end_soon(struct mcp_request *request)
{
    if (request->posted)
        return;
    request->posted = true;
    timer_stop(&request->timer);
    request->task.run = end_task;
    loop_defer(request->session->loop->loop, &request->task);
}

static void request_fail(struct mcp_request *request, const struct err *err)
{
    if (request->posted)
        return;
    request->err = *err;
    mcp_end_soon(request);
}

static void on_timer(struct timer *timer)
{
    struct mcp_request *request = CONTAINER_OF(timer, struct mcp_request, timer);
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "the MCP server did not answer in time");
    request_fail(request, &err);
}

/* Nobody waits for the session's first messages any more; another may begin it at once. */
static void drop_opener(struct mcp_session *session)
{
    struct mcp_request *opener = session->opener;
    session->opener = NULL;
    if (!opener)
        return;
    opener->done = NULL;
    fetch_free(opener->fetch);
    opener->fetch = NULL;
    mcp_end_soon(opener);
}

void mcp_session_failed(struct mcp_session *session, const struct err *err)
{
    session->state = MCP_CLOSED;
    session->id[0] = 0;
    drop_opener(session);
    LIST_FOR_EACH (request, &session->requests, struct mcp_request, node)
        request_fail(request, err);
}

struct str mcp_encode(struct mcp_request *request)
{
    struct buf text;
    buf_init(&text, FETCH_BODY_BYTES_MAX);
    struct json_writer w = json_writer_to(&text);
    jsonrpc_begin_request(&w, request->id, request->method);
    if (request->params.n)
        json_put_raw(&w, "params", request->params);
    jsonrpc_end(&w);
    struct str out = w.rc == RC_OK ? arena_copy(&request->arena, buf_str(&text)) : STR_EMPTY;
    buf_fini(&text);
    return out;
}

/* ---- messages that nobody waits for ---- */

static void forget_fetch(void *arg, struct fetch *fetch, const struct err *err)
{
    UNUSED(arg);
    UNUSED(err);
    fetch_free(fetch);
}

static enum rc add_headers(struct fetch *fetch, const struct mcp_session *session, struct err *err)
{
    const struct tool *tool = &session->peer;
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < tool->header_count; i++)
        rc = fetch_add_header(fetch, tool->headers[i].name, tool->headers[i].value, err);
    if (rc == RC_OK)
        rc = fetch_add_header(fetch, STR("content-type"), STR("application/json"), err);
    if (rc == RC_OK)
        rc =
            fetch_add_header(fetch, STR("accept"), STR("application/json, text/event-stream"), err);
    if (rc == RC_OK && session->protocol[0])
        rc = fetch_add_header(fetch, STR("mcp-protocol-version"), str_from(session->protocol), err);
    if (rc == RC_OK && session->id[0])
        rc = fetch_add_header(fetch, STR("mcp-session-id"), str_from(session->id), err);
    return rc;
}

static struct fetch *make_fetch(struct mcp_session *session, struct str message, struct err *err)
{
    struct fetch *fetch = fetch_new();
    fetch->method = STR("POST");
    fetch->url = session->peer.url;
    fetch->body = arena_copy(&fetch->arena, message);
    if (!fetch->body.p)
        err_set(err, ERR_TOO_LARGE, "the request is too large");
    else if (add_headers(fetch, session, err) == RC_OK &&
             fetch_prepare(fetch, session->loop, STR_EMPTY, err) == RC_OK)
        return fetch;
    fetch_free(fetch);
    return NULL;
}

static void send_aside(struct mcp_session *session, struct str message)
{
    struct err err = {0};
    if (session->stdio) {
        if (mcp_stdio_send(session, message, &err) != RC_OK)
            mcp_session_failed(session, &err);
        return;
    }
    struct fetch *fetch = make_fetch(session, message, &err);
    if (fetch)
        fetch_send(fetch, forget_fetch, NULL);
}

/* What the server asks of us. */
static void answer_server(struct mcp_session *session, const struct jsonrpc_message *message)
{
    struct buf out;
    if (message->kind != JSONRPC_REQUEST)
        return;
    buf_init(&out, 4096);
    struct json_writer w = json_writer_to(&out);
    if (str_eq(message->method, STR("ping"))) {
        jsonrpc_begin_result(&w, message->id);
        json_begin_object(&w);
        json_end_object(&w);
        jsonrpc_end(&w);
    } else {
        jsonrpc_put_error(&w, message->id, JSONRPC_METHOD_NOT_FOUND,
                          STR("this client offers nothing to servers"), STR_EMPTY);
    }
    if (w.rc == RC_OK)
        send_aside(session, buf_str(&out));
    buf_fini(&out);
}

/* ---- what comes ---- */

/* True: it is the request's answer, which lies in its arena now. */
static bool take_answer(struct mcp_request *request, struct str text)
{
    struct jsonrpc_message message;
    if (request->answered || jsonrpc_read(text, &request->arena, &message, NULL) != RC_OK)
        return false;
    if (message.kind != JSONRPC_RESULT && message.kind != JSONRPC_ERROR) {
        answer_server(request->session, &message);
        return false;
    }
    if (message.id && jsonrpc_id_number(&message) != request->id)
        return false;
    request->answer = message;
    request->answered = true;
    return true;
}

void mcp_take_message(struct mcp_session *session, struct str text)
{
    struct jsonrpc_message message;
    struct arena arena;
    arena_init(&arena, REQUEST_ARENA_BYTES);
    if (jsonrpc_read(text, &arena, &message, NULL) == RC_OK) {
        int64_t id = jsonrpc_id_number(&message);
        bool answers = message.kind == JSONRPC_RESULT || message.kind == JSONRPC_ERROR;
        struct mcp_request *found =
            session->opener && session->opener->id == id ? session->opener : NULL;
        LIST_FOR_EACH (request, &session->requests, struct mcp_request, node)
            if (request->id == id && request->sent)
                found = request;
        if (!answers)
            answer_server(session, &message);
        else if (found && take_answer(found, text))
            mcp_end_soon(found);
    }
    arena_fini(&arena);
}

static enum rc take_event(void *arg, const struct sse_event *event)
{
    struct mcp_request *request = arg;
    if (event->data.p && take_answer(request, event->data))
        mcp_end_soon(request);
    return RC_OK;
}

static void note_session(struct mcp_session *session, const struct fetch *fetch)
{
    struct str id = http_header_get(&fetch->answered, STR("mcp-session-id"));
    if (id.n && id.n < sizeof(session->id))
        snprintf(session->id, sizeof(session->id), "%.*s", STR_ARG(id));
}

static void on_data(void *arg, struct fetch *fetch)
{
    struct mcp_request *request = arg;
    struct str type = http_header_get(&fetch->answered, STR("content-type"));
    request->streams = fetch->status == 200 && str_starts(type, STR("text/event-stream"));
    if (!request->streams || request->answered)
        return;
    if (request->is_opener)
        note_session(request->session, fetch);
    if (sse_parse(&request->parser, buf_str(&fetch->received), take_event, request) != RC_OK)
        fetch->too_large = true;
    buf_clear(&fetch->received);
}

/* The server has begun anew: so do we, once. The first request that learns it begins the session;
 * those that were under way beside it go out in the new one. */
static void send_again(struct mcp_request *request)
{
    struct mcp_session *session = request->session;
    fetch_free(request->fetch);
    request->fetch = NULL;
    request->again = true;
    request->sent = false;
    if (request->generation == session->generation) {
        session->id[0] = 0;
        session->state = MCP_CLOSED;
    }
    request_send(request);
}

static void on_fetched(void *arg, struct fetch *fetch, const struct err *failure)
{
    struct mcp_request *request = arg;
    struct mcp_session *session = request->session;
    struct err err = {0};
    if (request->posted)
        return; /* the fetch goes with it */
    if (request->is_opener)
        note_session(session, fetch);
    bool forgotten = (fetch->status == 404 || fetch->status == 400) &&
                     (session->id[0] || request->generation != session->generation);
    if (failure) {
        err = *failure;
    } else if (fetch->status == 202 && request->id < 0) {
        request->answered = true;
    } else if (forgotten && !request->again && !request->is_opener) {
        send_again(request);
        return;
    } else if (fetch->status >= 300) {
        err_set(&err, ERR_UPSTREAM, "the MCP server answered with status %d", fetch->status);
    } else if (!request->answered && !request->streams) {
        (void)take_answer(request, buf_str(&fetch->received));
    }
    if (err.code == ERR_NONE && !request->answered && request->id >= 0)
        err_set(&err, ERR_UPSTREAM_PROTOCOL, "the MCP server gave no answer");
    if (err.code != ERR_NONE)
        request_fail(request, &err);
    else
        mcp_end_soon(request);
}

/* ---- sessions ---- */

static void transmit(struct mcp_request *request)
{
    struct mcp_session *session = request->session;
    struct err err = {0};
    struct str message = mcp_encode(request);
    request->sent = true;
    request->generation = session->generation;
    if (!message.p) {
        err_set(&err, ERR_TOO_LARGE, "the request is too large");
    } else if (session->stdio) {
        if (mcp_stdio_send(session, message, &err) == RC_OK && request->id < 0)
            mcp_end_soon(request);
    } else {
        request->fetch = make_fetch(session, message, &err);
        if (request->fetch) {
            request->fetch->grown = on_data;
            fetch_send(request->fetch, on_fetched, request);
        }
    }
    if (err.code != ERR_NONE)
        request_fail(request, &err);
}

static void begin_opener(struct mcp_session *session, const char *method, struct str params,
                         mcp_answered *done)
{
    struct mcp_request *opener = session->opener = request_new(session, method, params);
    opener->is_opener = true;
    opener->done = done;
    opener->arg = session;
    timer_init(&opener->timer, on_timer);
    timer_start(session->loop->loop, &opener->timer, OPEN_TIMEOUT_NS);
    if (!params.n)
        opener->id = -1;
    transmit(opener);
}

static void on_confirmed(void *arg, yyjson_val *result, const struct err *err)
{
    struct mcp_session *session = arg;
    UNUSED(result);
    session->opener = NULL;
    if (err) {
        mcp_session_failed(session, err);
        return;
    }
    session->state = MCP_READY;
    LIST_FOR_EACH_SAFE (request, &session->requests, struct mcp_request, node)
        if (!request->sent && !request->posted)
            transmit(request);
}

static void on_opened(void *arg, yyjson_val *result, const struct err *err)
{
    struct mcp_session *session = arg;
    struct str version = json_get_text(result, "protocolVersion");
    session->opener = NULL;
    if (err) {
        mcp_session_failed(session, err);
        return;
    }
    snprintf(session->protocol, sizeof(session->protocol), "%.*s", STR_ARG(version));
    session->state = MCP_CONFIRMING;
    begin_opener(session, "notifications/initialized", STR_EMPTY, on_confirmed);
}

static void session_open(struct mcp_session *session)
{
    static const char params[] =
        "{\"protocolVersion\":\"" PROTOCOL_NEWEST "\",\"capabilities\":{},\"clientInfo\":{\"name\":"
        "\"capstan\",\"version\":\"" CAPSTAN_VERSION "\"}}";
    session->state = MCP_OPENING;
    session->generation++;
    session->protocol[0] = 0;
    begin_opener(session, "initialize", STR(params), on_opened);
}

static void request_send(struct mcp_request *request)
{
    struct mcp_session *session = request->session;
    if (session->state == MCP_READY)
        transmit(request);
    else if (session->state == MCP_CLOSED)
        session_open(session);
}

/* Project, address and headers: who sends another credential has another session. */
static struct str session_key(struct id project, const struct tool *tool, struct arena *arena)
{
    char id[ID_TEXT_BYTES_MAX];
    size_t n = id_format(project, "proj", id);
    struct str key = arena_printf(arena, "%.*s %s %.*s", (int)n, id, tool->server.n ? "stdio" : "",
                                  STR_ARG(tool->server.n ? tool->server : tool->url));
    for (size_t i = 0; key.p && i < tool->header_count; i++)
        key = arena_printf(arena, "%.*s\n%.*s: %.*s", STR_ARG(key), STR_ARG(tool->headers[i].name),
                           STR_ARG(tool->headers[i].value));
    return key;
}

static const struct mcp_stdio_server *find_stdio(const struct pipeline_loop *loop, struct str name)
{
    const struct pipelines_options *options = &loop->all->options;
    for (size_t i = 0; i < options->mcp_server_count; i++)
        if (str_eq(options->mcp_servers[i].name, name))
            return &options->mcp_servers[i];
    return NULL;
}

/* False: there is no memory for it. */
static bool copy_peer(struct mcp_session *session, const struct tool *tool)
{
    struct arena *arena = &session->arena;
    struct tool *peer = &session->peer;
    peer->url = arena_copy(arena, tool->url);
    peer->headers = ARENA_NEW_ARRAY(arena, struct tool_header, tool->header_count + 1);
    if (!peer->url.p || !peer->headers)
        return false;
    for (size_t i = 0; i < tool->header_count; i++) {
        struct tool_header *header = &peer->headers[peer->header_count++];
        header->name = arena_copy(arena, tool->headers[i].name);
        header->value = arena_copy(arena, tool->headers[i].value);
        if (!header->name.p || !header->value.p)
            return false;
    }
    return true;
}

static void session_free(struct mcp_session *session)
{
    ASSERT(list_empty(&session->requests));
    drop_opener(session);
    mcp_stdio_close(session);
    struct arena arena = session->arena;
    arena_fini(&arena);
}

/* One that nobody uses makes room for another. */
static bool make_room(struct pipeline_loop *loop)
{
    if (loop->mcp_sessions.count < MCP_SESSIONS_MAX)
        return true;
    MAP_FOR_EACH (slot, &loop->mcp_sessions) {
        struct mcp_session *session = slot->value;
        if (!list_empty(&session->requests))
            continue;
        map_remove(&loop->mcp_sessions, session->key);
        session_free(session);
        return true;
    }
    return false;
}

/* NULL: err tells. */
static struct mcp_session *session_get(struct pipeline_loop *loop, struct id project,
                                       const struct tool *tool, struct err *err)
{
    struct arena arena;
    arena_init(&arena, SESSION_ARENA_BYTES);
    struct mcp_session *session = ARENA_NEW(&arena, struct mcp_session);
    ASSERT(session); /* the first bytes of an arena */
    session->arena = arena;
    session->key = session_key(project, tool, &session->arena);
    struct mcp_session *known = session->key.p ? map_get(&loop->mcp_sessions, session->key) : NULL;
    session->stdio = tool->server.n ? find_stdio(loop, tool->server) : NULL;
    list_init(&session->requests);
    if (known)
        ;
    else if (tool->server.n && !session->stdio)
        err_set(err, ERR_NOT_FOUND, "the configuration file has no MCP server '%.*s'",
                STR_ARG(tool->server));
    else if (!session->key.p || !copy_peer(session, tool))
        err_set(err, ERR_TOO_LARGE, "the MCP server's address and headers are too large");
    else if (!make_room(loop))
        err_set(err, ERR_OVERLOADED, "too many MCP servers are asked at once");
    if (known || err->code != ERR_NONE) {
        session_free(session);
        return known;
    }
    session->loop = loop;
    session->next_id = 1;
    map_put(&loop->mcp_sessions, session->key, session);
    return session;
}

struct mcp_request *mcp_ask(struct pipeline_loop *loop, struct id project, const struct tool *tool,
                            const char *method, struct str params, mcp_answered *done, void *arg,
                            struct err *err)
{
    struct mcp_session *session = session_get(loop, project, tool, err);
    if (!session)
        return NULL;
    if (session->request_count >= MCP_REQUESTS_MAX) {
        err_set(err, ERR_OVERLOADED, "too many requests to this MCP server are under way");
        return NULL;
    }
    struct mcp_request *request = request_new(session, method, params);
    if (!request->params.p) {
        err_set(err, ERR_TOO_LARGE, "the request is too large");
        request_free(request);
        return NULL;
    }
    request->done = done;
    request->arg = arg;
    list_push_back(&session->requests, &request->node);
    session->request_count++;
    timer_init(&request->timer, on_timer);
    timer_start(loop->loop, &request->timer, tool->timeout_ms * NS_PER_MS);
    request_send(request);
    return request;
}

void mcp_cancel(struct mcp_request *request)
{
    struct mcp_session *session = request->session;
    list_remove(&request->node);
    session->request_count--;
    request->done = NULL;
    if (request->sent && !request->answered && session->state == MCP_READY) {
        char text[160];
        int n = snprintf(text, sizeof(text),
                         "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
                         "\"requestId\":%lld}}",
                         (long long)request->id);
        send_aside(session, str_make(text, (size_t)n));
    }
    mcp_end_soon(request);
    fetch_free(request->fetch);
    request->fetch = NULL;
}

void mcp_sessions_free(struct pipeline_loop *loop)
{
    MAP_FOR_EACH (slot, &loop->mcp_sessions)
        session_free(slot->value);
    map_fini(&loop->mcp_sessions);
}
