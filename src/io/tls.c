/* TLS contexts: trust, keys, versions, and the sessions that servers gave us. */
#include "io/tls_private.h"
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

#define PEERS_MAX 4096

/* ---- sessions of servers we connect to ---- */

struct tls_peer *tls_peer_of(struct tls_context *tls, struct str name, uint16_t port)
{
    char key[300];
    int n = snprintf(key, sizeof(key), "%.*s:%u", STR_ARG(name), port);
    if (n < 0 || (size_t)n >= sizeof(key))
        return NULL;
    pthread_mutex_lock(&tls->lock);
    struct tls_peer *peer = map_get(&tls->peers, str_make(key, (size_t)n));
    if (peer == NULL && tls->peers.count < PEERS_MAX) {
        peer = xcalloc(1, sizeof(*peer) + (size_t)n + 1);
        memcpy(peer->key, key, (size_t)n);
        map_put(&tls->peers, str_make(peer->key, (size_t)n), peer);
    }
    pthread_mutex_unlock(&tls->lock);
    return peer;
}

SSL_SESSION *tls_peer_session(struct tls_context *tls, struct tls_peer *peer)
{
    pthread_mutex_lock(&tls->lock);
    SSL_SESSION *session = peer->session;
    if (session)
        SSL_SESSION_up_ref(session);
    pthread_mutex_unlock(&tls->lock);
    return session;
}

void tls_peer_save(struct tls_context *tls, struct tls_peer *peer, SSL_SESSION *session)
{
    pthread_mutex_lock(&tls->lock);
    SSL_SESSION *before = peer->session;
    peer->session = session;
    pthread_mutex_unlock(&tls->lock);
    SSL_SESSION_free(before);
}

/* ---- contexts ---- */

static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "unknown reason";
}

static struct tls_context *context_new(bool server)
{
    struct tls_context *tls = xcalloc(1, sizeof(*tls));
    tls->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    ASSERT(tls->ctx != NULL);
    tls->server = server;
    atomic_init(&tls->refs, 1);
    pthread_mutex_init(&tls->lock, NULL);
    map_init(&tls->peers);
    SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* An idle connection holds no record buffers. */
    SSL_CTX_set_mode(tls->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return tls;
}

void tls_ref(struct tls_context *tls)
{
    atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
}

void tls_unref(struct tls_context *tls)
{
    if (tls == NULL || atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) > 1)
        return;
    MAP_FOR_EACH (slot, &tls->peers) {
        struct tls_peer *peer = slot->value;
        SSL_SESSION_free(peer->session);
        free(peer);
    }
    map_fini(&tls->peers);
    SSL_CTX_free(tls->ctx);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

/* OpenSSL wants NUL-terminated paths. */
static bool path_z(struct str path, char out[4096])
{
    if (path.n >= 4096 || str_find_char(path, '\0') >= 0)
        return false;
    memcpy(out, path.p, path.n);
    out[path.n] = '\0';
    return true;
}

struct tls_context *tls_client_new(struct str ca_file, struct err *err)
{
    struct tls_context *tls = context_new(false);
    char path[4096];
    ERR_clear_error();
    bool trusted = false;
    if (ca_file.n == 0)
        trusted = SSL_CTX_set_default_verify_paths(tls->ctx) == 1; /* SSL_CERT_FILE, SSL_CERT_DIR */
    else if (path_z(ca_file, path))
        trusted = SSL_CTX_load_verify_locations(tls->ctx, path, NULL) == 1;
    if (!trusted) {
        err_set_field(err, ERR_BAD_FIELD, "ca_file", "cannot read certificates from \"%.*s\": %s",
                      STR_ARG(ca_file), openssl_reason());
        tls_unref(tls);
        return NULL;
    }
    SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(tls->ctx, tls_stream_new_session);
    return tls;
}

/* The server speaks HTTP/1.1; a client that offers only others goes on without ALPN. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                       const unsigned char *offered, unsigned int offered_n, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    int rc = SSL_select_next_proto((unsigned char **)out, out_n, ours, sizeof(ours) - 1, offered,
                                   offered_n);
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

struct tls_context *tls_server_new(struct str cert_file, struct str key_file, struct err *err)
{
    struct tls_context *tls = context_new(true);
    char path[4096];
    ERR_clear_error();
    if (!path_z(cert_file, path) || SSL_CTX_use_certificate_chain_file(tls->ctx, path) != 1) {
        err_set_field(err, ERR_BAD_FIELD, "cert_file",
                      "cannot read a certificate from \"%.*s\": %s", STR_ARG(cert_file),
                      openssl_reason());
        tls_unref(tls);
        return NULL;
    }
    if (!path_z(key_file, path) ||
        SSL_CTX_use_PrivateKey_file(tls->ctx, path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls->ctx) != 1) {
        err_set_field(err, ERR_BAD_FIELD, "key_file", "cannot use the key in \"%.*s\": %s",
                      STR_ARG(key_file), openssl_reason());
        tls_unref(tls);
        return NULL;
    }
    SSL_CTX_set_options(tls->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_alpn_select_cb(tls->ctx, select_alpn, NULL);
    /* Sessions are resumed by tickets, sealed with the context's key: nothing is kept here. */
    SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(tls->ctx, (const unsigned char *)"capstan", 7);
    SSL_CTX_set_num_tickets(tls->ctx, 1);
    return tls;
}
