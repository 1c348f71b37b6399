/* TLS over a stream of any kind.
 *
 * OpenSSL reads and writes through a BIO of ours. Reading takes as much ciphertext as there is, in
 * one system call, into a buffer that all TLS streams of a loop share; what the SSL did not use
 * when control goes back to the owner is kept aside in memory of the stream. Writing collects
 * records in a shared buffer and sends them in one call; what the transport did not take is kept
 * aside likewise, so a write that was accepted never has to be repeated. An idle stream therefore
 * holds no buffers at all. A stream that is closed while bytes are kept aside lingers, unknown to
 * its owner, until they are out.
 *
 * "Enter" and "leave" bracket each use of the SSL: between them the shared buffers are this
 * stream's. The owner is never called in between. */
#include "base/buf.h"
#include "base/clock.h"
#include "io/tls_private.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdlib.h>

#define CIPHER_BYTES      (17 * 1024) /* a whole record of the largest size */
#define RECORD_BYTES_MAX  16384
#define WRITE_RECORDS_MAX 2
#define OUT_BYTES_MAX     (256 * 1024) /* a server's certificates may be long */
#define LINGER_NS         (30 * NS_PER_S)

struct tls_scratch {
    size_t in_at, in_n;
    char in[CIPHER_BYTES];
    char plain[RECORD_BYTES_MAX]; /* parts of a write, joined */
    struct buf out;
    BIO_METHOD *method;
    struct list lingering; /* closed streams that still have bytes to send */
};

/* Bytes kept aside; usually none. */
struct kept {
    char *p;
    size_t at, n;
};

struct tls_stream {
    struct stream base;
    struct stream *transport;
    struct tls_context *context;
    struct tls_peer *peer; /* client: where sessions go, or NULL */
    SSL *ssl;
    struct kept in, out;
    void (*done)(void *arg, struct stream *stream, const struct err *err); /* NULL: open */
    void *arg;
    struct task kick; /* a deferred word to the owner */
    bool kick_posted, closed, failed;
    bool end_wanted; /* shut the transport down once all is out */
    struct list lingering;
    struct timer linger;
    struct dead dead;
};
#define TLS(stream) CONTAINER_OF(stream, struct tls_stream, base)

static struct tls_scratch *scratch_of(const struct tls_stream *tls) { return tls->base.loop->tls; }

/* ---- between OpenSSL and the transport ---- */

static size_t take(char *out, size_t n_max, const char *from, size_t *at, size_t *n)
{
    size_t k = MIN(n_max, *n);
    memcpy(out, from + *at, k);
    *at += k;
    *n -= k;
    return k;
}

static int bio_read(BIO *bio, char *out, int n_max)
{
    struct tls_stream *tls = BIO_get_data(bio);
    struct tls_scratch *scratch = scratch_of(tls);
    BIO_clear_retry_flags(bio);
    if (tls->in.n)
        return (int)take(out, (size_t)n_max, tls->in.p, &tls->in.at, &tls->in.n);
    if (scratch->in_n == 0) {
        scratch->in_at = 0;
        enum rc rc = stream_read(tls->transport, scratch->in, sizeof(scratch->in), &scratch->in_n);
        if (rc == RC_END)
            return 0;
        if (rc == RC_AGAIN)
            BIO_set_retry_read(bio);
        if (rc != RC_OK)
            return -1;
    }
    return (int)take(out, (size_t)n_max, scratch->in, &scratch->in_at, &scratch->in_n);
}

static int bio_write(BIO *bio, const char *p, int n)
{
    struct tls_stream *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return buf_append(&scratch_of(tls)->out, str_make(p, (size_t)n)) == RC_OK ? n : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *arg)
{
    return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static struct tls_scratch *scratch_get(struct loop *loop)
{
    if (loop->tls == NULL) {
        loop->tls = xcalloc(1, sizeof(*loop->tls));
        buf_init(&loop->tls->out, OUT_BYTES_MAX);
        list_init(&loop->tls->lingering);
        loop->tls->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
        ASSERT(loop->tls->method != NULL);
        BIO_meth_set_read(loop->tls->method, bio_read);
        BIO_meth_set_write(loop->tls->method, bio_write);
        BIO_meth_set_ctrl(loop->tls->method, bio_ctrl);
        BIO_meth_set_create(loop->tls->method, bio_create);
    }
    return loop->tls;
}

static void keep(struct kept *kept, const char *p, size_t n)
{
    char *joined = xmalloc(kept->n + n); /* n is bounded by the shared buffers */
    if (kept->n)
        memcpy(joined, kept->p + kept->at, kept->n);
    memcpy(joined + kept->n, p, n);
    free(kept->p);
    *kept = (struct kept){.p = joined, .n = kept->n + n};
}

static void kept_free(struct kept *kept)
{
    free(kept->p);
    *kept = (struct kept){0};
}

/* Offers bytes to the transport; how many it took. */
static size_t transport_write(struct tls_stream *tls, const char *p, size_t n)
{
    size_t at = 0;
    while (at < n && !tls->failed) {
        struct iovec part = {(void *)(p + at), n - at};
        size_t written;
        enum rc rc = stream_write(tls->transport, &part, 1, &written);
        at += written;
        if (rc == RC_AGAIN)
            break;
        tls->failed = rc != RC_OK;
    }
    return at;
}

/* Sends what was kept aside; true when nothing is left. */
static bool flush_kept(struct tls_stream *tls)
{
    struct kept *out = &tls->out;
    if (out->n == 0)
        return true;
    size_t written = transport_write(tls, out->p + out->at, out->n);
    out->at += written;
    out->n -= written;
    if (out->n)
        return false;
    kept_free(out);
    if (tls->end_wanted)
        stream_shutdown(tls->transport);
    return true;
}

static void tls_enter(struct tls_stream *tls)
{
    struct tls_scratch *scratch = scratch_of(tls);
    ASSERT(scratch->in_n == 0 && buf_len(&scratch->out) == 0);
    ERR_clear_error();
}

static void tls_leave(struct tls_stream *tls)
{
    struct tls_scratch *scratch = scratch_of(tls);
    if (tls->in.n == 0 && tls->in.p)
        kept_free(&tls->in);
    if (scratch->in_n) {
        keep(&tls->in, scratch->in + scratch->in_at, scratch->in_n);
        scratch->in_n = 0;
    }
    struct str out = buf_str(&scratch->out);
    if (out.n == 0)
        return;
    size_t written = flush_kept(tls) ? transport_write(tls, out.p, out.n) : 0;
    if (written < out.n && !tls->failed)
        keep(&tls->out, out.p + written, out.n - written);
    buf_clear(&scratch->out);
}

/* ---- telling the owner later ---- */

static void tls_free(struct dead *dead) { free(CONTAINER_OF(dead, struct tls_stream, dead)); }

static void tls_kick(struct task *task);

static void tls_post_kick(struct tls_stream *tls)
{
    if (tls->kick_posted)
        return;
    tls->kick_posted = true;
    tls->kick.run = tls_kick;
    loop_defer(tls->base.loop, &tls->kick);
}

/* ---- the end ---- */

static void transport_drop(struct tls_stream *tls)
{
    timer_stop(&tls->linger);
    list_remove(&tls->lingering);
    kept_free(&tls->out);
    stream_close(tls->transport);
    if (!tls->kick_posted) /* else its task buries it */
        loop_bury(tls->base.loop, &tls->dead);
}

static void linger_timeout(struct timer *timer)
{
    transport_drop(CONTAINER_OF(timer, struct tls_stream, linger));
}

void tls_scratch_free(struct tls_scratch *scratch)
{
    if (scratch == NULL)
        return;
    while (!list_empty(&scratch->lingering))
        transport_drop(LIST_FIRST(&scratch->lingering, struct tls_stream, lingering));
    BIO_meth_free(scratch->method);
    buf_fini(&scratch->out);
    free(scratch);
}

/* ---- handshake ---- */

static void describe_failure(struct tls_stream *tls, int ssl_error, struct err *err)
{
    const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
    long verified = SSL_get_verify_result(tls->ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    if (tls->context->server == false && verified != X509_V_OK)
        err_set(err, ERR_UPSTREAM, "the certificate of %s is refused: %s",
                name ? name : "the server", X509_verify_cert_error_string(verified));
    else if (ssl_error == SSL_ERROR_SSL && reason)
        err_set(err, ERR_UPSTREAM, "TLS handshake with %s failed: %s", name ? name : "the peer",
                reason);
    else
        err_set(err, ERR_UPSTREAM, "%s closed the connection during the TLS handshake",
                name ? name : "the peer");
}

static void handshake_step(struct tls_stream *tls)
{
    struct err err = {0};
    tls_enter(tls);
    int rc = SSL_do_handshake(tls->ssl);
    int ssl_error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, rc);
    if (ssl_error != SSL_ERROR_NONE && ssl_error != SSL_ERROR_WANT_READ)
        describe_failure(tls, ssl_error, &err);
    tls_leave(tls); /* an alert, if any, goes out too */
    if (tls->failed && err.code == ERR_NONE)
        describe_failure(tls, SSL_ERROR_SYSCALL, &err);
    if (ssl_error == SSL_ERROR_WANT_READ && err.code == ERR_NONE)
        return;
    void (*done)(void *arg, struct stream *stream, const struct err *err) = tls->done;
    tls->done = NULL;
    if (err.code != ERR_NONE) {
        tls->failed = true;
        done(tls->arg, &tls->base, &err);
        stream_close(&tls->base);
        return;
    }
    tls->base.writable = true;
    if (tls->in.n || tls->transport->readable)
        tls_post_kick(tls); /* no event will tell of what is here already */
    done(tls->arg, &tls->base, NULL);
}

static void tls_kick(struct task *task)
{
    struct tls_stream *tls = CONTAINER_OF(task, struct tls_stream, kick);
    tls->kick_posted = false;
    if (tls->closed && list_detached(&tls->lingering))
        loop_bury(tls->base.loop, &tls->dead);
    else if (tls->closed)
        return;
    else if (tls->done)
        handshake_step(tls);
    else
        stream_tell(&tls->base, STREAM_READABLE | (tls->base.hung_up ? STREAM_CLOSED : 0u));
}

static void transport_ready(void *owner, struct stream *transport, unsigned events)
{
    struct tls_stream *tls = owner;
    struct stream *stream = &tls->base;
    stream->hung_up = transport->hung_up;
    bool flushed = flush_kept(tls);
    if (tls->closed) {
        if (flushed || tls->failed)
            transport_drop(tls);
        return;
    }
    if (tls->done) {
        handshake_step(tls);
        return;
    }
    unsigned told = events & (STREAM_READABLE | STREAM_CLOSED);
    if (tls->failed)
        told |= STREAM_READABLE | STREAM_CLOSED;
    if ((events & STREAM_WRITABLE) && flushed && !stream->writable) {
        stream->writable = true;
        told |= STREAM_WRITABLE;
    }
    if (told)
        stream_tell(stream, told);
}

/* ---- the stream ---- */

static enum rc read_error(struct tls_stream *tls, int ssl_error)
{
    if (ssl_error == SSL_ERROR_WANT_READ)
        return tls->failed ? RC_IO : RC_AGAIN;
    if (ssl_error == SSL_ERROR_ZERO_RETURN) {
        tls->base.hung_up = true;
        return RC_END;
    }
    tls->failed = true; /* also an end without close_notify, which an attacker could have made */
    tls->base.hung_up = true;
    return RC_IO;
}

static enum rc tls_read(struct stream *stream, void *p, size_t n_max, size_t *n)
{
    struct tls_stream *tls = TLS(stream);
    if (tls->done || tls->failed)
        return tls->failed ? RC_IO : RC_AGAIN;
    tls_enter(tls);
    int ssl_error = SSL_ERROR_NONE;
    while (*n < n_max && ssl_error == SSL_ERROR_NONE) {
        size_t got = 0;
        if (SSL_read_ex(tls->ssl, (char *)p + *n, n_max - *n, &got) != 1)
            ssl_error = SSL_get_error(tls->ssl, 0);
        *n += got;
    }
    tls_leave(tls);
    if (*n == 0)
        return read_error(tls, ssl_error);
    if (ssl_error != SSL_ERROR_NONE && ssl_error != SSL_ERROR_WANT_READ) {
        stream->hung_up = true; /* an end behind the bytes: the next read meets it again */
        tls_post_kick(tls);
    }
    return RC_OK;
}

/* The next bytes to seal: in place when they are in one piece, else joined. Small parts make one
 * record, not one each. */
static struct str next_plain(struct tls_scratch *scratch, const struct iovec *parts, int count,
                             size_t skip)
{
    int i = 0;
    while (i < count && skip >= parts[i].iov_len)
        skip -= parts[i++].iov_len;
    if (i == count)
        return STR_EMPTY;
    struct str first = str_make((char *)parts[i].iov_base + skip, parts[i].iov_len - skip);
    if (i + 1 == count || first.n >= RECORD_BYTES_MAX)
        return str_slice(first, 0, RECORD_BYTES_MAX);
    size_t n = 0;
    for (; i < count && n < RECORD_BYTES_MAX; i++, skip = 0) {
        size_t k = MIN(parts[i].iov_len - skip, RECORD_BYTES_MAX - n);
        memcpy(scratch->plain + n, (char *)parts[i].iov_base + skip, k);
        n += k;
    }
    return str_make(scratch->plain, n);
}

/* Seals and sends a few records of what stands behind *n; false when there was nothing left. */
static bool write_records(struct tls_stream *tls, const struct iovec *parts, int count, size_t *n)
{
    bool any = false;
    tls_enter(tls);
    for (int record = 0; record < WRITE_RECORDS_MAX && !tls->failed; record++) {
        struct str plain = next_plain(scratch_of(tls), parts, count, *n);
        if (plain.n == 0)
            break;
        size_t written = 0;
        if (SSL_write_ex(tls->ssl, plain.p, plain.n, &written) != 1)
            tls->failed = true;
        *n += written;
        any = true;
    }
    tls_leave(tls);
    return any;
}

static enum rc tls_write(struct stream *stream, const struct iovec *parts, int count, size_t *n)
{
    struct tls_stream *tls = TLS(stream);
    if (tls->failed || tls->end_wanted)
        return RC_IO;
    if (tls->done || !flush_kept(tls)) {
        stream->writable = false;
        return tls->failed ? RC_IO : RC_AGAIN;
    }
    while (write_records(tls, parts, count, n) && tls->out.n == 0 && !tls->failed)
        continue;
    if (tls->failed)
        return RC_IO;
    stream->writable = tls->out.n == 0;
    return RC_OK;
}

static void send_close_notify(struct tls_stream *tls)
{
    if (tls->failed || tls->done || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        return;
    tls_enter(tls);
    SSL_shutdown(tls->ssl);
    tls_leave(tls);
}

static void tls_shutdown(struct stream *stream)
{
    struct tls_stream *tls = TLS(stream);
    send_close_notify(tls);
    tls->end_wanted = true;
    if (tls->out.n == 0)
        stream_shutdown(tls->transport);
}

static void tls_close(struct stream *stream)
{
    struct tls_stream *tls = TLS(stream);
    ASSERT(!tls->closed);
    if (!tls->transport->hung_up)
        send_close_notify(tls);
    tls->closed = true;
    SSL_free(tls->ssl);
    kept_free(&tls->in);
    tls_unref(tls->context);
    if (tls->out.n && !tls->failed) {
        list_push_back(&scratch_of(tls)->lingering, &tls->lingering);
        timer_start(stream->loop, &tls->linger, LINGER_NS);
    } else {
        transport_drop(tls);
    }
}

static struct str tls_peer_text(const struct stream *stream)
{
    return stream_peer_text(TLS((struct stream *)stream)->transport);
}

static struct str tls_alpn(const struct stream *stream)
{
    const unsigned char *name = NULL;
    unsigned int n = 0;
    SSL_get0_alpn_selected(TLS((struct stream *)stream)->ssl, &name, &n);
    return str_make(name, n);
}

static const struct stream_ops tls_ops = {
    .read = tls_read,
    .write = tls_write,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .peer_text = tls_peer_text,
    .alpn = tls_alpn,
};

bool tls_stream_resumed(struct stream *stream)
{
    ASSERT(stream->ops == &tls_ops);
    return SSL_session_reused(TLS(stream)->ssl);
}

int tls_stream_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_stream *tls = SSL_get_app_data(ssl);
    if (tls->peer == NULL)
        return 0;
    tls_peer_save(tls->context, tls->peer, session);
    return 1; /* the session is ours */
}

/* ---- start ---- */

static bool set_name(SSL *ssl, struct str name)
{
    char z[256];
    if (name.n == 0 || name.n >= sizeof(z) || str_find_char(name, '\0') >= 0)
        return false;
    memcpy(z, name.p, name.n);
    z[name.n] = '\0';
    struct endpoint endpoint;
    if (endpoint_from_literal(name, 0, &endpoint)) /* no SNI for addresses (RFC 6066) */
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), z) == 1;
    return SSL_set_tlsext_host_name(ssl, z) == 1 && SSL_set1_host(ssl, z) == 1;
}

static bool start_client(struct tls_stream *tls, const struct tls_start *start)
{
    static const unsigned char h1[] = "\x08http/1.1", h2[] = "\x02h2\x08http/1.1";
    if (!set_name(tls->ssl, start->server_name))
        return false;
    if (start->offer_h2)
        SSL_set_alpn_protos(tls->ssl, h2, sizeof(h2) - 1);
    else
        SSL_set_alpn_protos(tls->ssl, h1, sizeof(h1) - 1);
    tls->peer = tls_peer_of(start->context, start->server_name, start->port);
    SSL_SESSION *session = tls->peer ? tls_peer_session(start->context, tls->peer) : NULL;
    if (session) {
        SSL_set_session(tls->ssl, session);
        SSL_SESSION_free(session);
    }
    SSL_set_connect_state(tls->ssl);
    tls_post_kick(tls); /* the first flight leaves at the end of this turn */
    return true;
}

struct stream *tls_stream_new(struct stream *transport, const struct tls_start *start,
                              struct err *err)
{
    static const struct stream_owner calls = {.ready = transport_ready};
    struct loop *loop = transport->loop;
    struct tls_scratch *scratch = scratch_get(loop);
    struct tls_stream *tls = calloc(1, sizeof(*tls));
    SSL *ssl = SSL_new(start->context->ctx);
    BIO *bio = BIO_new(scratch->method);
    ASSERT(start->context->server == start->server);
    bool ok = tls && ssl && bio;
    if (ok) {
        tls->base = (struct stream){.ops = &tls_ops, .loop = loop};
        tls->transport = transport;
        tls->context = start->context;
        tls->ssl = ssl;
        tls->done = start->done;
        tls->arg = start->arg;
        tls->dead.free = tls_free;
        list_init(&tls->lingering);
        timer_init(&tls->linger, linger_timeout);
        BIO_set_data(bio, tls);
        SSL_set_app_data(ssl, tls);
        if (start->server)
            SSL_set_accept_state(ssl);
        else
            ok = start_client(tls, start);
    }
    if (!ok) {
        err_set(err, ERR_UPSTREAM,
                "cannot start TLS with \"%.*s\": not a usable name, or no memory",
                STR_ARG(start->server_name));
        SSL_free(ssl);
        BIO_free(bio);
        free(tls);
        stream_close(transport);
        return NULL;
    }
    tls_ref(start->context);
    SSL_set_bio(ssl, bio, bio);
    stream_set_owner(transport, &calls, tls);
    return &tls->base;
}
