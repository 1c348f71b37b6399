/* TLS contexts (OpenSSL), shared read-only between loops; sessions are cached inside and resumed.
 */
#pragma once
#include "base/err.h"

struct tls_context;

/* Client side: system trust store or SSL_CERT_FILE/SSL_CERT_DIR, or `ca_file` when not empty. Peers
 * must show a valid certificate for the name they are asked by. */
struct tls_context *tls_client_new(struct str ca_file, struct err *err);
/* Server side: PEM chain and key. */
struct tls_context *tls_server_new(struct str cert_file, struct str key_file, struct err *err);
/* Any thread. */
void tls_ref(struct tls_context *tls);
void tls_unref(struct tls_context *tls);
