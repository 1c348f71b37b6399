/* See script.h. */
#include "script.h"
#include <stdio.h>
#include <stdlib.h>

struct visitor {
    struct script *script;
    struct stream *stream;
    struct list node;
    struct timer timer;
    const char *answer;
    size_t left;
    char in[8192];
    size_t in_bytes;
    unsigned requests;
};

static void visitor_free(struct visitor *visitor)
{
    timer_stop(&visitor->timer);
    list_remove(&visitor->node);
    stream_close(visitor->stream);
    free(visitor);
}

static void answer_piece(struct timer *timer)
{
    struct visitor *visitor = CONTAINER_OF(timer, struct visitor, timer);
    struct script *script = visitor->script;
    size_t want = script->piece_bytes ? MIN(script->piece_bytes, visitor->left) : visitor->left,
           n = 0;
    if (visitor->left > 0) {
        struct iovec part = {(char *)visitor->answer, want};
        enum rc rc = stream_write(visitor->stream, &part, 1, &n);
        if (rc != RC_OK && rc != RC_AGAIN)
            return;
        visitor->answer += n;
        visitor->left -= n;
        timer_start(script->rig->loop, &visitor->timer, 0);
    } else if (script->close_after) {
        visitor_free(visitor);
    }
}

static void visitor_answer(struct visitor *visitor)
{
    struct script *script = visitor->script;
    int index = MIN((int)script->connections, script->answers_count) - 1;
    visitor->answer = script->answers[index];
    visitor->left =
        script->answer_bytes[index] ? script->answer_bytes[index] : strlen(visitor->answer);
    timer_start(script->rig->loop, &visitor->timer, 0);
}

static void visitor_ready(void *owner, struct stream *stream, unsigned events)
{
    struct visitor *visitor = owner;
    struct script *script = visitor->script;
    for (;;) {
        size_t n;
        enum rc rc = stream_read(stream, visitor->in + visitor->in_bytes,
                                 sizeof(visitor->in) - visitor->in_bytes - 1, &n);
        if (rc == RC_AGAIN)
            return;
        if (rc != RC_OK) {
            visitor_free(visitor);
            return;
        }
        visitor->in_bytes += n;
        visitor->in[visitor->in_bytes] = 0;
        if (!strstr(visitor->in, "\r\n\r\n") || script->answer_at_once)
            continue;
        script->requests++;
        memcpy(script->request, visitor->in, visitor->in_bytes + 1);
        visitor->in_bytes = 0;
        if (++visitor->requests == 2 && script->close_on_second) {
            visitor_free(visitor);
            return;
        }
        visitor_answer(visitor);
    }
}

static void script_accept(void *arg, struct stream *stream)
{
    static const struct stream_owner calls = {.ready = visitor_ready};
    struct script *script = arg;
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    visitor->script = script;
    visitor->stream = stream;
    timer_init(&visitor->timer, answer_piece);
    list_push_back(&script->visitors, &visitor->node);
    script->connections++;
    stream_set_owner(stream, &calls, visitor);
    if (script->answer_at_once)
        visitor_answer(visitor);
}

void script_init(struct script *script, struct rig *rig, const char *answer)
{
    *script = (struct script){.rig = rig, .answers = {answer}, .answers_count = 1};
    list_init(&script->visitors);
    struct err err = {0};
    struct address address = {.host = STR("127.0.0.1")};
    script->listener = listener_new(rig->loop, &address, NULL, script_accept, script, &err);
    assert_non_null(script->listener);
    snprintf(script->url, sizeof(script->url), "http://127.0.0.1:%u",
             listener_port(script->listener));
}

void script_fini(struct script *script)
{
    LIST_FOR_EACH_SAFE (visitor, &script->visitors, struct visitor, node)
        visitor_free(visitor);
    listener_close(script->listener);
}

struct http_origin *script_origin(struct script *script)
{
    struct err err = {0};
    struct http_origin *origin = http_client_origin(
        script->rig->client, &(struct http_origin_options){.url = str_from(script->url)}, &err);
    assert_non_null(origin);
    return origin;
}
