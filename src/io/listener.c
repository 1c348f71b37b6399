/* Listeners: accepted peers become streams, through a TLS handshake where one is asked for.
 * Handshakes are bounded in number and time, so that silent peers cost little. */
#include "base/clock.h"
#include "io/stream_private.h"
#include "io/tls.h"
#include <errno.h>
#include <stdlib.h>

#define HANDSHAKE_TIMEOUT_NS (10 * NS_PER_S)

struct handshake {
    struct list node; /* of listener->handshakes */
    struct listener *listener;
    struct stream *stream;
    struct timer timeout;
};

static void handshake_free(struct handshake *handshake)
{
    timer_stop(&handshake->timeout);
    list_remove(&handshake->node);
    free(handshake);
}

static void handshake_timeout(struct timer *timer)
{
    struct handshake *handshake = CONTAINER_OF(timer, struct handshake, timeout);
    stream_close(handshake->stream);
    handshake_free(handshake);
}

static void handshake_done(void *arg, struct stream *stream, const struct err *err)
{
    struct handshake *handshake = arg;
    struct listener *listener = handshake->listener;
    handshake_free(handshake);
    if (err == NULL)
        listener->accepted(listener->arg, stream);
}

void listener_take(struct listener *listener, struct stream *stream)
{
    if (listener->tls == NULL) {
        listener->accepted(listener->arg, stream);
        return;
    }
    struct handshake *handshake = calloc(1, sizeof(*handshake));
    if (handshake == NULL) {
        stream_close(stream);
        return;
    }
    struct tls_start start = {
        .context = listener->tls,
        .server = true,
        .done = handshake_done,
        .arg = handshake,
    };
    handshake->listener = listener;
    handshake->stream = tls_stream_new(stream, &start, NULL);
    if (handshake->stream == NULL) { /* it closed the transport */
        free(handshake);
        return;
    }
    list_push_back(&listener->handshakes, &handshake->node);
    timer_init(&handshake->timeout, handshake_timeout);
    timer_start(listener->loop, &handshake->timeout, HANDSHAKE_TIMEOUT_NS);
}

static void listener_free(struct dead *dead) { free(CONTAINER_OF(dead, struct listener, dead)); }

static struct listener *listener_make(struct loop *loop, struct tls_context *tls,
                                      void (*accepted)(void *arg, struct stream *stream), void *arg)
{
    struct listener *listener = xcalloc(1, sizeof(*listener));
    listener->loop = loop;
    listener->tls = tls;
    if (tls)
        tls_ref(tls);
    listener->accepted = accepted;
    listener->arg = arg;
    listener->fd = -1;
    listener->dead.free = listener_free;
    list_init(&listener->handshakes);
    return listener;
}

static void listener_drop(struct listener *listener)
{
    if (listener->tls)
        tls_unref(listener->tls);
    loop_bury(listener->loop, &listener->dead);
}

struct listener *listener_new(struct loop *loop, const struct address *address,
                              struct tls_context *tls,
                              void (*accepted)(void *arg, struct stream *stream), void *arg,
                              struct err *err)
{
    struct listener *listener = listener_make(loop, tls, accepted, arg);
    if (loop->ops->listen(listener, address, err) == RC_OK)
        return listener;
    listener_drop(listener);
    return NULL;
}

struct listener *listener_from_fd(struct loop *loop, int fd, struct tls_context *tls,
                                  void (*accepted)(void *arg, struct stream *stream), void *arg)
{
    struct listener *listener = listener_make(loop, tls, accepted, arg);
    listener->fd = fd;
    if (loop->ops->listen(listener, NULL, NULL) == RC_OK)
        return listener;
    listener_drop(listener);
    return NULL;
}

int listener_fd(const struct listener *listener) { return listener->fd; }

uint16_t listener_port(const struct listener *listener)
{
    struct endpoint at = {.bytes = sizeof(at) - offsetof(struct endpoint, any)};
    if (listener->port || getsockname(listener->fd, &at.any, &at.bytes) != 0)
        return listener->port;
    return endpoint_port(&at);
}

void listener_pause(struct listener *listener, bool paused)
{
    if (listener->paused == paused)
        return;
    listener->paused = paused;
    listener->loop->ops->listen_pause(listener, paused);
}

void listener_close(struct listener *listener)
{
    LIST_FOR_EACH_SAFE (handshake, &listener->handshakes, struct handshake, node) {
        stream_close(handshake->stream);
        handshake_free(handshake);
    }
    listener->closed = true;
    listener->loop->ops->listen_close(listener);
    listener_drop(listener);
}
