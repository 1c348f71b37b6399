/* A socket address that a name was resolved to, or that an accepted peer has. */
#pragma once
#include "base/err.h"
#include "io/stream.h"
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct endpoint {
    socklen_t bytes; /* of the address in use */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    };
};

#define ENDPOINT_TEXT_BYTES_MAX 128

/* IPv4 or IPv6 literal (a zone such as %eth0 is not taken); false when `host` is a name. */
bool endpoint_from_literal(struct str host, uint16_t port, struct endpoint *out);
/* RC_LIMIT: the path is too long for a Unix socket. */
enum rc endpoint_from_path(struct str path, struct endpoint *out) MUST_CHECK;
void endpoint_set_port(struct endpoint *endpoint, uint16_t port);
uint16_t endpoint_port(const struct endpoint *endpoint);
/* Globally reachable, as far as the address alone can tell (IANA special-purpose registries): not
 * loopback, private, link-local, shared, multicast, documentation or reserved, whether written as
 * IPv4, IPv6, or IPv4 inside IPv6. Unix sockets are not public. */
bool endpoint_is_public(const struct endpoint *endpoint);
/* "203.0.113.7" or "unix": without port. Returns the length. */
size_t endpoint_host_text(const struct endpoint *endpoint, char out[ENDPOINT_TEXT_BYTES_MAX]);
/* "203.0.113.7:443", "[2001:db8::1]:443", "unix:/run/x.sock". */
size_t endpoint_text(const struct endpoint *endpoint, char out[ENDPOINT_TEXT_BYTES_MAX]);
