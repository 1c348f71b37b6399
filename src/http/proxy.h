/* Forward proxies: which one a target goes through, as curl and Go read the environment, and the
 * CONNECT handshake. Private to the client. */
#pragma once
#include "http/message.h"
#include "io/stream.h"

enum proxy_kind {
    PROXY_NONE,
    PROXY_FORWARD, /* http target: the proxy gets the absolute URL */
    PROXY_TUNNEL,  /* https target: CONNECT, then TLS end to end */
};

struct proxy {
    enum proxy_kind kind;
    struct str url; /* what it was chosen from */
    struct url parts;
};

struct proxy_settings; /* a copy of http_proxy, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in either case */

struct proxy_settings *proxy_settings_new(void);
void proxy_settings_free(struct proxy_settings *settings);
/* `override` empty: by the environment; "none": no proxy; else a URL. Loopback names and addresses
 * never go through a proxy of the environment. The texts of `out` live as long as the settings or
 * override. */
enum rc proxy_choose(const struct proxy_settings *settings, const struct url *target,
                     struct str override, struct proxy *out, struct err *err) MUST_CHECK;
/* Does a NO_PROXY list cover the host? "*", names with their subdomains, addresses, prefixes
 * (CIDR), each with an optional port. */
bool proxy_list_covers(struct str list, struct str host, uint16_t port);
/* "Basic …" from the user information of the proxy's URL, NUL-terminated in `out`; 0: there is none
 * or it does not fit. */
size_t proxy_authorization(const struct proxy *proxy, char *out, size_t bytes_max);

/* Asks the proxy at the other end of `stream` for a tunnel to "host:port". Exactly one `done`,
 * later: with the stream, now the tunnel, or NULL and why. Takes the stream. */
struct tunnel;
struct tunnel *tunnel_start(struct stream *stream, struct str authority, struct str authorization,
                            void (*done)(void *arg, struct stream *stream, const struct err *err),
                            void *arg);
void tunnel_cancel(struct tunnel *tunnel);
