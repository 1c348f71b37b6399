/* From an HTTP request to a call and back: see door.h. The `struct visit` is the sink of the call;
 * it does not lie in the request's arena, which may be parked while the answer flows. Answering is
 * the last thing that happens: the server may free the request as soon as it has its end. */
#include "api/door.h"
#include "api/api.h"
#include "base/limits.h"
#include "gateway/limit.h"
#include "gateway/price.h"
#include <stdlib.h>

struct visit {
    struct http_request *request;
    const struct door *door;
    const struct door_path *path;
    struct call *call; /* NULL: over */
    struct principal principal;
    struct scope scope;
    bool streaming;
    int status; /* of a whole answer */
    struct str content_type, whole;
};

static const struct door *const doors[] = {&door_openai, &door_anthropic};

#define BODY_BYTES_UNKNOWN_CLIENT (64 * 1024)

static bool is_door_path(struct str path) { return str_starts(path, STR("/v1/")); }

int64_t door_admit(struct gateway_loop *gateway, struct http_request *request)
{
    if (!is_door_path(request->path))
        return -1;
    uint64_t length;
    struct str header = http_header_get(&request->headers, STR("content-length"));
    if (header.n && str_to_u64(header, &length) == RC_OK && length <= BODY_BYTES_UNKNOWN_CLIENT)
        return LIMIT_BODY_BYTES;
    /* Memory for large bodies is for those who have a key. */
    struct principal principal;
    struct key *key;
    struct err err;
    return door_authenticate(request, &principal, &key, &err) == RC_OK ? LIMIT_BODY_BYTES
                                                                       : BODY_BYTES_UNKNOWN_CLIENT;
}

enum rc door_authenticate(struct http_request *request, struct principal *principal,
                          struct key **key, struct err *err)
{
    struct snapshot *snapshot = snapshot_current();
    if (!snapshot)
        return err_set(err, ERR_OVERLOADED, "the server is starting");
    enum rc rc = api_authenticate(request, snapshot, principal, key, err);
    return rc == RC_OK ? principal_require(principal, PERMISSION_CALL_MAKE, err) : rc;
}

/* ---- answers ---- */

void door_put(struct door_lines *lines, struct str name, struct str value)
{
    if (value.n == 0 || name.n + value.n + 4 > DOOR_LINES_BYTES - lines->n ||
        !http_is_field_value(value))
        return;
    char *at = lines->text + lines->n;
    memcpy(at, name.p, name.n);
    at += name.n;
    *at++ = ':';
    *at++ = ' ';
    memcpy(at, value.p, value.n);
    at += value.n;
    *at++ = '\r';
    *at++ = '\n';
    lines->n = (size_t)(at - lines->text);
}

void door_put_number(struct door_lines *lines, struct str name, int64_t value, struct str unit)
{
    char text[24 + 8], *at = text + sizeof(text);
    ASSERT(value >= 0 && unit.n <= 8);
    at -= unit.n;
    memcpy(at, unit.p, unit.n);
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    door_put(lines, name, str_make(at, (size_t)(text + sizeof(text) - at)));
}

void door_respond_error(struct http_request *request, enum wire_format format,
                        const struct err *err)
{
    struct str body = wire_write_error(format, err, request->id, request->arena);
    struct door_lines lines = {.n = 0};
    if (err->retry_after_ms > 0)
        door_put_number(&lines, STR("retry-after"), (err->retry_after_ms + 999) / 1000, STR(""));
    http_respond_lines(request, str_make(lines.text, lines.n));
    http_respond(request, err_http_status(err->code), STR("application/json"),
                 body.p ? body : STR("{\"error\":{\"message\":\"out of memory\"}}"));
}

/* What the answer says about its call. */
static void put_call_headers(struct visit *visit, const struct call_record *record, bool whole)
{
    struct door_lines lines;
    char text[MAX(ID_TEXT_BYTES_MAX, TRACEPARENT_BYTES)];
    lines.n = 0;
    door_put(&lines, STR("x-capstan-call-id"), str_make(text, id_format(record->id, "call", text)));
    door_put(&lines, STR("x-capstan-provider"), record->provider);
    door_put(&lines, STR("x-capstan-model"), record->model);
    door_put_number(&lines, STR("x-capstan-retries"),
                    record->attempt_count ? (int64_t)record->attempt_count - 1 : 0, STR(""));
    if (whole && record->cost_pico != COST_UNKNOWN)
        door_put(&lines, STR("x-capstan-cost-usd"),
                 str_make(text, price_format_usd(record->cost_pico, text)));
    if (record->cache != CALL_CACHE_OFF)
        door_put(&lines, STR("x-capstan-cache"),
                 record->cache == CALL_CACHE_HIT ? STR("hit") : STR("miss"));
    trace_context_format(record->trace_id, record->span_id, text);
    door_put(&lines, STR("traceparent"), str_make(text, TRACEPARENT_BYTES - 1));
    if (visit->call) {
        struct limit_state state;
        gateway_call_limits(visit->call, &state);
        if (state.requests_limit || state.tokens_limit)
            visit->door->limit_headers(&state, loop_wall_ns(visit->request->loop), &lines);
    }
    http_respond_lines(visit->request, str_make(lines.text, lines.n));
}

/* ---- the sink ---- */

static void sink_head(void *arg, const struct call_head *head)
{
    struct visit *visit = arg;
    put_call_headers(visit, head->record, head->body_bytes >= 0);
    visit->status = head->status;
    visit->content_type = head->content_type;
    visit->streaming = head->body_bytes < 0;
    if (visit->streaming) {
        http_respond_header(visit->request, STR("cache-control"), STR("no-cache"));
        http_respond_begin(visit->request, head->status, head->content_type);
    }
}

static enum proceed sink_data(void *arg, struct str bytes)
{
    struct visit *visit = arg;
    if (visit->streaming)
        return http_respond_write(visit->request, bytes);
    visit->whole = bytes;
    return PROCEED;
}

static void sink_done(void *arg, const struct call_record *record, const struct err *err)
{
    struct visit *visit = arg;
    struct http_request *request = visit->request;
    visit->call = NULL;
    if (visit->streaming) {
        /* A stream of events has said by its last event what went wrong; anything else just breaks
         * off. */
        if (err && !str_starts(visit->content_type, STR("text/event-stream")))
            http_respond_abort(request);
        else
            http_respond_end(request);
    } else if (err) {
        put_call_headers(visit, record, false);
        door_respond_error(request, visit->path->format, err);
    } else {
        http_respond(request, visit->status, visit->content_type, visit->whole);
    }
}

static const struct call_sink sink = {.head = sink_head, .data = sink_data, .done = sink_done};

static void visit_gone(struct http_request *request)
{
    struct visit *visit = request->user;
    struct call *call = visit->call;
    visit->call = NULL;
    if (call)
        gateway_call_cancel(call);
}

static void visit_ended(struct http_request *request) { free(request->user); }

static void visit_writable(struct http_request *request)
{
    struct visit *visit = request->user;
    if (visit->call)
        gateway_call_resume(visit->call);
}

/* ---- requests ---- */

static struct str bearer_of(const struct http_request *request)
{
    struct str value = http_header_get(&request->headers, STR("authorization"));
    if (value.n > 7 && str_eq_nocase(str_slice(value, 0, 7), STR("bearer ")))
        return str_trim(str_slice(value, 7, value.n));
    return http_header_get(&request->headers, STR("x-api-key"));
}

static void visit_start(struct visit *visit, struct gateway_loop *gateway, const struct key *key)
{
    struct http_request *request = visit->request;
    visit->scope = (struct scope){
        .principal = &visit->principal,
        .key = key,
        .budget_pico = COST_UNKNOWN,
        .arena = request->arena,
    };
    trace_context_read(http_header_get(&request->headers, STR("traceparent")), &visit->scope.trace);
    const struct call_request call = {
        .door = visit->path->door,
        .operation = visit->path->operation,
        .format = visit->path->format,
        .path = str_slice(request->path, 3, request->path.n), /* without "/v1" */
        .path_suffix = visit->path->suffix,
        .request_id = request->id,
        .content_type = http_header_get(&request->headers, STR("content-type")),
        .body = request->body,
        .headers = &request->headers,
        .credential = bearer_of(request),
        .client_ip = request->peer,
        .started_ns = request->started_ns,
        .received_ns = request->received_ns,
    };
    request->gone = visit_gone;
    request->writable = visit_writable;
    visit->call = gateway_call_start(gateway, &visit->scope, &call, &sink, visit);
    if (!visit->call) {
        struct err err;
        err_set(&err, ERR_TOO_LARGE, "the request needs more memory than it may have");
        door_respond_error(request, visit->path->format, &err);
    }
}

static void handle_call(const struct door *door, const struct door_path *path,
                        struct gateway_loop *gateway, struct http_request *request)
{
    struct err err;
    struct key *key = NULL;
    struct visit *visit = calloc(1, sizeof(*visit));
    request->user = visit;
    request->ended = visit_ended;
    if (!visit)
        err_set(&err, ERR_TOO_LARGE, "the request needs more memory than it may have");
    else if (!str_eq(request->method, STR("POST")))
        err_set(&err, ERR_METHOD, "use POST");
    else if (door_authenticate(request, &visit->principal, &key, &err) == RC_OK)
        err.code = ERR_NONE;
    if (err.code != ERR_NONE) {
        door_respond_error(request, path->format, &err);
        return;
    }
    visit->request = request;
    visit->door = door;
    visit->path = path;
    visit_start(visit, gateway, key);
}

bool door_handle(struct gateway_loop *gateway, struct http_request *request)
{
    if (!is_door_path(request->path))
        return false;
    for (size_t d = 0; d < COUNT_OF(doors); d++)
        for (size_t i = 0; i < doors[d]->path_count; i++)
            if (str_eq(request->path, doors[d]->paths[i].path)) {
                handle_call(doors[d], &doors[d]->paths[i], gateway, request);
                return true;
            }
    for (size_t d = 0; d < COUNT_OF(doors); d++)
        if (doors[d]->handle_other && doors[d]->handle_other(doors[d], gateway, request))
            return true;
    struct err err;
    err_set(&err, ERR_NOT_FOUND, "there is no %.*s here; see the API reference for what /v1 has",
            (int)MIN(request->path.n, (size_t)128), request->path.p);
    door_respond_error(request, WIRE_OPENAI_CHAT, &err);
    return true;
}
