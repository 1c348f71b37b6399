/* What tls.c (contexts) and tls_stream.c share. For src/io only. */
#pragma once
#include "base/map.h"
#include "io/stream_private.h"
#include "io/tls.h"
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

/* A server we connect to, by name and port, with the newest session it gave us. */
struct tls_peer {
    SSL_SESSION *session; /* under the context's lock */
    char key[];
};

struct tls_context {
    SSL_CTX *ctx;
    bool server;
    atomic_int refs;
    pthread_mutex_t lock;
    struct map peers; /* client: "name:port" to tls_peer; entries stay as long as the context */
};

/* The entry for a name and port, made when missing; NULL when there are too many. */
struct tls_peer *tls_peer_of(struct tls_context *tls, struct str name, uint16_t port);
/* A reference to the newest session, or NULL. */
SSL_SESSION *tls_peer_session(struct tls_context *tls, struct tls_peer *peer);
/* Takes the session. */
void tls_peer_save(struct tls_context *tls, struct tls_peer *peer, SSL_SESSION *session);

/* What a stream's SSL calls back for. */
int tls_stream_new_session(SSL *ssl, SSL_SESSION *session);
bool tls_stream_resumed(struct stream *stream);
