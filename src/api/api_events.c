/* GET /api/events: what happens, live, as server-sent events. A client that reconnects with
 * Last-Event-ID gets what it missed, as far as the window reaches; beyond it, an event `missed`
 * says how many are gone. */
#include "api/handlers.h"
#include "api/problem.h"
#include "base/clock.h"
#include "job/event.h"
#include <stdio.h>
#include <stdlib.h>

#define EVENT_ARENA_BYTES_MAX (2 * 1024 * 1024)
#define HEARTBEAT_NS          (15 * NS_PER_S)

/* One client's stream. Freed when the request has ended and the reader is closed. */
struct event_stream {
    struct event_reader reader;
    struct http_request *request; /* NULL: the client left */
    struct arena arena;           /* of the events being written */
    struct timer heartbeat;
    bool stopped; /* the client does not read: wait for `writable` */
};

static void send_event(struct event_stream *stream, const struct event *event, uint64_t missed)
{
    struct str text;
    if (missed) {
        text = arena_printf(&stream->arena, "event: missed\ndata: {\"count\":%llu}\n\n",
                            (unsigned long long)missed);
        http_respond_write(stream->request, text);
    }
    text = arena_printf(&stream->arena, "id: %llu\nevent: %s\ndata: %.*s\n\n",
                        (unsigned long long)event->seq, event_type_name(event->type),
                        STR_ARG(event->data));
    if (text.p && http_respond_write(stream->request, text) == STOP)
        stream->stopped = true;
}

static void on_ready(struct event_reader *reader)
{
    struct event_stream *stream = CONTAINER_OF(reader, struct event_stream, reader);
    struct event event;
    uint64_t missed;
    while (stream->request && !stream->stopped) {
        arena_reset(&stream->arena);
        if (event_read(reader, &stream->arena, &event, &missed) != RC_OK)
            break;
        send_event(stream, &event, missed);
    }
}

static void on_writable(struct http_request *request)
{
    struct event_stream *stream = request->user;
    stream->stopped = false;
    on_ready(&stream->reader);
}

/* Keeps proxies from closing a quiet stream, and tells a dead client from a quiet one. */
static void on_heartbeat(struct timer *timer)
{
    struct event_stream *stream = CONTAINER_OF(timer, struct event_stream, heartbeat);
    if (!stream->stopped)
        stream->stopped = http_respond_write(stream->request, STR(": still here\n\n")) == STOP;
    timer_start(stream->reader.loop, timer, HEARTBEAT_NS);
}

static void on_closed(struct event_reader *reader)
{
    struct event_stream *stream = CONTAINER_OF(reader, struct event_stream, reader);
    arena_fini(&stream->arena);
    free(stream);
}

static void on_gone(struct http_request *request)
{
    struct event_stream *stream = request->user;
    stream->request = NULL;
    timer_stop(&stream->heartbeat);
    event_unsubscribe(&stream->reader, on_closed);
}

void api_events(struct api_call *call, struct http_request *request)
{
    unsigned types;
    uint64_t after = 0;
    struct str last = http_header_get(&request->headers, STR("last-event-id"));
    if (event_types_parse(api_query(call, "types"), &types) != RC_OK) {
        err_set_field(&call->err, ERR_BAD_FIELD, "types",
                      "'types' must be of call, job, model, config, run");
        api_respond_problem(request, &call->err);
        return;
    }
    if (last.n && str_to_u64(last, &after) != RC_OK)
        after = 0;
    struct event_stream *stream = xcalloc(1, sizeof(*stream));
    arena_init(&stream->arena, EVENT_ARENA_BYTES_MAX);
    stream->request = request;
    stream->reader = (struct event_reader){.loop = request->loop,
                                           .project = call->principal->project,
                                           .types = types,
                                           .ready = on_ready};
    request->user = stream;
    request->gone = on_gone;
    request->writable = on_writable;
    http_respond_header(request, STR("cache-control"), STR("no-store"));
    http_respond_header(request, STR("x-accel-buffering"), STR("no"));
    http_respond_begin(request, 200, STR("text/event-stream"));
    http_respond_write(request, STR("retry: 1000\n\n"));
    timer_init(&stream->heartbeat, on_heartbeat);
    timer_start(request->loop, &stream->heartbeat, HEARTBEAT_NS);
    event_subscribe(call->services->events, &stream->reader, after);
}
