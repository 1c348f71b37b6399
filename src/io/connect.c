/* Connecting: look the name up, try its addresses, shake hands.
 *
 * Addresses are tried in the resolver's order, families taking turns, each 250 ms after the one
 * before or at once when that failed, and the first that answers wins (RFC 8305). One deadline
 * covers it all. `done` is called exactly once and never from inside stream_connect: what fails at
 * once is told by a deferred task. */
#include "base/clock.h"
#include "io/stream_private.h"
#include "io/tls.h"
#include <stdlib.h>

#define ATTEMPTS_MAX       8
#define ATTEMPT_STAGGER_NS (250 * NS_PER_MS)

struct connecting {
    struct loop *loop;
    void (*done)(void *arg, struct stream *stream, const struct err *err);
    void *arg;
    struct connect_options options; /* texts are copies, kept behind this struct */
    struct timer timeout, stagger;
    struct lookup *lookup;
    struct endpoint endpoints[ATTEMPTS_MAX];
    struct stream *attempts[ATTEMPTS_MAX]; /* NULL: not begun, or failed */
    size_t count, begun, pending;
    struct stream *handshake; /* TLS under way */
    struct err err;
    struct task finish; /* tells a failure found at once */
    bool finish_posted, cancelled;
    struct dead dead;
};

static void connecting_free(struct dead *dead)
{
    free(CONTAINER_OF(dead, struct connecting, dead));
}

/* Ends everything that is under way but `keep`. */
static void connecting_stop(struct connecting *connecting, const struct stream *keep)
{
    timer_stop(&connecting->timeout);
    timer_stop(&connecting->stagger);
    if (connecting->lookup)
        connecting->loop->ops->resolve_cancel(connecting->lookup);
    connecting->lookup = NULL;
    for (size_t i = 0; i < connecting->begun; i++) {
        if (connecting->attempts[i] && connecting->attempts[i] != keep)
            stream_close(connecting->attempts[i]);
        connecting->attempts[i] = NULL;
    }
    if (connecting->handshake && connecting->handshake != keep)
        stream_close(connecting->handshake);
    connecting->handshake = NULL;
}

static void connecting_end(struct connecting *connecting, struct stream *stream)
{
    connecting_stop(connecting, stream);
    if (connecting->options.tls)
        tls_unref(connecting->options.tls);
    if (!connecting->cancelled)
        connecting->done(connecting->arg, stream, stream ? NULL : &connecting->err);
    loop_bury(connecting->loop, &connecting->dead);
}

static void connecting_finish(struct task *task)
{
    connecting_end(CONTAINER_OF(task, struct connecting, finish), NULL);
}

/* With the reason in connecting->err. Not called from within a callback of ours: always deferred.
 */
static void connecting_fail(struct connecting *connecting)
{
    if (connecting->finish_posted)
        return;
    connecting->finish_posted = true;
    connecting->finish.run = connecting_finish;
    loop_defer(connecting->loop, &connecting->finish);
}

static void connecting_timeout(struct timer *timer)
{
    struct connecting *connecting = CONTAINER_OF(timer, struct connecting, timeout);
    if (connecting->finish_posted)
        return;
    const char *what = connecting->lookup      ? "looking up the name"
                       : connecting->handshake ? "the TLS handshake"
                                               : "connecting";
    err_set(&connecting->err, ERR_TIMEOUT, "%.*s:%u: %s took longer than %lld ms",
            STR_ARG(connecting->options.address.host), connecting->options.address.port, what,
            (long long)(connecting->options.timeout_ns / NS_PER_MS));
    connecting_stop(connecting, NULL);
    connecting_fail(connecting);
}

static void handshake_done(void *arg, struct stream *stream, const struct err *err)
{
    struct connecting *connecting = arg;
    if (err == NULL) {
        connecting_end(connecting, stream);
        return;
    }
    connecting->err = *err;
    connecting->handshake = NULL; /* closes itself */
    connecting_end(connecting, NULL);
}

static void start_handshake(struct connecting *connecting, struct stream *stream)
{
    const struct connect_options *options = &connecting->options;
    bool named = options->tls_server_name.n > 0;
    struct tls_start start = {
        .context = options->tls,
        .server_name = named ? options->tls_server_name : options->address.host,
        .port = options->address.port,
        .offer_h2 = options->offer_h2,
        .done = handshake_done,
        .arg = connecting,
    };
    connecting->handshake = tls_stream_new(stream, &start, &connecting->err);
    if (connecting->handshake == NULL)
        connecting_fail(connecting);
}

static void connected(struct connecting *connecting, struct stream *stream)
{
    stream_set_owner(stream, NULL, NULL);
    if (connecting->options.tls == NULL) {
        connecting_end(connecting, stream);
        return;
    }
    for (size_t i = 0; i < connecting->begun; i++) {
        if (connecting->attempts[i] && connecting->attempts[i] != stream)
            stream_close(connecting->attempts[i]);
        connecting->attempts[i] = NULL;
    }
    timer_stop(&connecting->stagger);
    start_handshake(connecting, stream);
}

static void begin_next(struct connecting *connecting);

static void attempt_ready(void *owner, struct stream *stream, unsigned events)
{
    struct connecting *connecting = owner;
    if (connecting->finish_posted)
        return;
    struct err err = {0};
    if (connecting->loop->ops->dial_result(stream, &err) == RC_OK) {
        if (events & STREAM_WRITABLE)
            connected(connecting, stream);
        return;
    }
    for (size_t i = 0; i < connecting->begun; i++)
        if (connecting->attempts[i] == stream)
            connecting->attempts[i] = NULL;
    stream_close(stream);
    connecting->err = err;
    connecting->pending--;
    begin_next(connecting);
}

static const struct stream_owner attempt_calls = {.ready = attempt_ready};

/* Begins the next address; fails when none is left and none is pending. */
static void begin_next(struct connecting *connecting)
{
    timer_stop(&connecting->stagger);
    while (connecting->begun < connecting->count) {
        size_t i = connecting->begun++;
        struct stream *stream = connecting->loop->ops->dial(
            connecting->loop, &connecting->endpoints[i], &connecting->err);
        connecting->attempts[i] = stream;
        if (stream == NULL)
            continue;
        stream_set_owner(stream, &attempt_calls, connecting);
        connecting->pending++;
        if (connecting->begun < connecting->count)
            timer_start(connecting->loop, &connecting->stagger, ATTEMPT_STAGGER_NS);
        return;
    }
    if (connecting->pending == 0)
        connecting_fail(connecting);
}

static void stagger_fire(struct timer *timer)
{
    struct connecting *connecting = CONTAINER_OF(timer, struct connecting, stagger);
    if (!connecting->finish_posted)
        begin_next(connecting);
}

/* The families take turns, beginning with the one the resolver put first. */
static void take_endpoints(struct connecting *connecting, const struct endpoint *endpoints,
                           size_t count)
{
    bool used[ATTEMPTS_MAX * 4] = {false};
    count = MIN(count, COUNT_OF(used));
    sa_family_t wanted = count ? endpoints[0].any.sa_family : 0;
    bool refused = false;
    for (size_t taken = 0; taken < count && connecting->count < ATTEMPTS_MAX; taken++) {
        size_t pick = SIZE_MAX;
        for (size_t i = 0; i < count; i++)
            if (!used[i] && (pick == SIZE_MAX || endpoints[i].any.sa_family == wanted)) {
                pick = i;
                if (endpoints[i].any.sa_family == wanted)
                    break;
            }
        used[pick] = true;
        wanted = endpoints[pick].any.sa_family == AF_INET ? AF_INET6 : AF_INET;
        if (connecting->options.public_only && !endpoint_is_public(&endpoints[pick]))
            refused = true;
        else
            connecting->endpoints[connecting->count++] = endpoints[pick];
    }
    if (connecting->count == 0 && refused)
        err_set(&connecting->err, ERR_FORBIDDEN,
                "%.*s is not a public address: it is reached only where an administrator allows "
                "private ones",
                STR_ARG(connecting->options.address.host));
}

static void resolved(void *arg, const struct endpoint *endpoints, size_t count,
                     const struct err *err)
{
    struct connecting *connecting = arg;
    connecting->lookup = NULL;
    if (err)
        connecting->err = *err;
    take_endpoints(connecting, endpoints, count);
    begin_next(connecting);
}

static void find_endpoints(struct connecting *connecting)
{
    const struct address *address = &connecting->options.address;
    struct endpoint endpoint;
    if (address->kind == ADDRESS_UNIX) {
        if (endpoint_from_path(address->host, &endpoint) == RC_OK)
            resolved(connecting, &endpoint, 1, NULL);
        else
            connecting_fail(connecting);
    } else if (endpoint_from_literal(address->host, address->port, &endpoint)) {
        resolved(connecting, &endpoint, 1, NULL);
    } else {
        connecting->lookup = connecting->loop->ops->resolve(connecting->loop, address->host,
                                                            address->port, resolved, connecting);
    }
}

static struct connecting *
connecting_new(struct loop *loop, const struct connect_options *options,
               void (*done)(void *arg, struct stream *stream, const struct err *err), void *arg)
{
    struct str host = options->address.host, name = options->tls_server_name;
    struct connecting *connecting = xcalloc(1, sizeof(*connecting) + host.n + name.n);
    char *texts = (char *)(connecting + 1);
    if (host.n)
        memcpy(texts, host.p, host.n);
    if (name.n)
        memcpy(texts + host.n, name.p, name.n);
    connecting->loop = loop;
    connecting->done = done;
    connecting->arg = arg;
    connecting->options = *options;
    connecting->options.address.host = str_make(texts, host.n);
    connecting->options.tls_server_name = str_make(texts + host.n, name.n);
    if (options->tls)
        tls_ref(options->tls);
    connecting->dead.free = connecting_free;
    timer_init(&connecting->timeout, connecting_timeout);
    timer_init(&connecting->stagger, stagger_fire);
    if (options->timeout_ns > 0)
        timer_start(loop, &connecting->timeout, options->timeout_ns);
    err_set(&connecting->err, ERR_UPSTREAM, "%.*s: no address to connect to", STR_ARG(host));
    return connecting;
}

struct connecting *
stream_connect(struct loop *loop, const struct connect_options *options,
               void (*done)(void *arg, struct stream *stream, const struct err *err), void *arg)
{
    struct connecting *connecting = connecting_new(loop, options, done, arg);
    find_endpoints(connecting);
    return connecting;
}

struct connecting *
stream_start_tls(struct stream *stream, const struct connect_options *options,
                 void (*done)(void *arg, struct stream *stream, const struct err *err), void *arg)
{
    ASSERT(options->tls != NULL);
    struct connecting *connecting = connecting_new(stream->loop, options, done, arg);
    start_handshake(connecting, stream);
    return connecting;
}

void stream_connect_cancel(struct connecting *connecting)
{
    ASSERT(!connecting->cancelled);
    connecting->cancelled = true;
    connecting_stop(connecting, NULL);
    connecting_fail(connecting); /* ends without telling */
}
