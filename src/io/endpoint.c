/* Addresses: text to struct and back, and which of them are public. No function here blocks. */
#include "io/endpoint.h"
#include <arpa/inet.h>
#include <stdio.h>

enum rc address_parse(struct str s, uint16_t default_port, struct address *out)
{
    if (str_starts(s, STR("unix:"))) {
        struct str path = str_slice(s, 5, s.n);
        if (path.n == 0 || path.n >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
            return RC_INVALID;
        *out = (struct address){.kind = ADDRESS_UNIX, .host = path};
        return RC_OK;
    }
    struct str host = s, port = STR_EMPTY;
    ssize_t colon = str_rfind_char(s, ':');
    ssize_t bracket = str_rfind_char(s, ']');
    bool has_port = colon > bracket && (bracket >= 0 || str_find_char(s, ':') == colon);
    if (has_port) {
        host = str_slice(s, 0, (size_t)colon);
        port = str_slice(s, (size_t)colon + 1, s.n);
    }
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_slice(host, 1, host.n - 1);
    else if (str_find_char(host, '[') >= 0 || str_find_char(host, ']') >= 0)
        return RC_INVALID;
    uint64_t number = default_port;
    if (has_port && (str_to_u64(port, &number) != RC_OK || number > UINT16_MAX))
        return RC_INVALID;
    if (host.n == 0 && !has_port)
        return RC_INVALID;
    *out = (struct address){.kind = ADDRESS_TCP, .host = host, .port = (uint16_t)number};
    return RC_OK;
}

bool endpoint_from_literal(struct str host, uint16_t port, struct endpoint *out)
{
    char z[INET6_ADDRSTRLEN];
    if (host.n == 0 || host.n >= sizeof(z))
        return false;
    memcpy(z, host.p, host.n);
    z[host.n] = '\0';
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, z, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->bytes = sizeof(out->v4);
    } else if (inet_pton(AF_INET6, z, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->bytes = sizeof(out->v6);
    } else {
        return false;
    }
    endpoint_set_port(out, port);
    return true;
}

enum rc endpoint_from_path(struct str path, struct endpoint *out)
{
    memset(out, 0, sizeof(*out));
    if (path.n == 0 || path.n >= sizeof(out->local.sun_path))
        return RC_LIMIT;
    out->local.sun_family = AF_UNIX;
    memcpy(out->local.sun_path, path.p, path.n);
    out->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    return RC_OK;
}

void endpoint_set_port(struct endpoint *endpoint, uint16_t port)
{
    if (endpoint->any.sa_family == AF_INET)
        endpoint->v4.sin_port = htons(port);
    else if (endpoint->any.sa_family == AF_INET6)
        endpoint->v6.sin6_port = htons(port);
}

uint16_t endpoint_port(const struct endpoint *endpoint)
{
    if (endpoint->any.sa_family == AF_INET)
        return ntohs(endpoint->v4.sin_port);
    return endpoint->any.sa_family == AF_INET6 ? ntohs(endpoint->v6.sin6_port) : 0;
}

struct prefix {
    uint8_t bytes[8];
    uint8_t bits;
};

static bool in_prefixes(const uint8_t *address, const struct prefix *prefixes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t whole = prefixes[i].bits / 8, rest = prefixes[i].bits % 8;
        if (memcmp(address, prefixes[i].bytes, whole) == 0 &&
            (rest == 0 || (address[whole] ^ prefixes[i].bytes[whole]) >> (8 - rest) == 0))
            return true;
    }
    return false;
}

/* Source: IANA IPv4 Special-Purpose Address Registry, with multicast. */
static bool v4_is_public(const uint8_t address[4])
{
    static const struct prefix special[] = {
        {{0}, 8},
        {{10}, 8},
        {{100, 64}, 10},
        {{127}, 8},
        {{169, 254}, 16},
        {{172, 16}, 12},
        {{192, 0, 0}, 24},
        {{192, 0, 2}, 24},
        {{192, 88, 99}, 24},
        {{192, 168}, 16},
        {{198, 18}, 15},
        {{198, 51, 100}, 24},
        {{203, 0, 113}, 24},
        {{224}, 4},
        {{240}, 4},
    };
    return !in_prefixes(address, special, COUNT_OF(special));
}

/* Source: IANA IPv6 Special-Purpose Address Registry. Only 2000::/3 is handed out as global
 * unicast. */
static bool v6_is_public(const uint8_t address[16])
{
    static const struct prefix global[] = {{{0x20}, 3}};
    static const struct prefix special[] = {
        {{0x20, 0x01, 0x00}, 23},       /* protocol assignments, Teredo, benchmarking, ORCHID */
        {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
        {{0x3f, 0xff, 0x00}, 20},       /* documentation */
    };
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const struct prefix nat64[] = {{{0x00, 0x64, 0xff, 0x9b}, 32}};
    static const struct prefix six_to_four[] = {{{0x20, 0x02}, 16}};
    if (memcmp(address, mapped, sizeof(mapped)) == 0)
        return v4_is_public(address + 12);
    if (in_prefixes(address, nat64, 1)) /* 64:ff9b::/96; 64:ff9b:1::/48 is local */
        return address[4] == 0 && address[5] == 0 && v4_is_public(address + 12);
    if (in_prefixes(address, six_to_four, 1))
        return v4_is_public(address + 2);
    return in_prefixes(address, global, 1) && !in_prefixes(address, special, COUNT_OF(special));
}

bool endpoint_is_public(const struct endpoint *endpoint)
{
    if (endpoint->any.sa_family == AF_INET)
        return v4_is_public((const uint8_t *)&endpoint->v4.sin_addr);
    return endpoint->any.sa_family == AF_INET6 &&
           v6_is_public((const uint8_t *)&endpoint->v6.sin6_addr);
}

size_t endpoint_host_text(const struct endpoint *endpoint, char out[ENDPOINT_TEXT_BYTES_MAX])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const void *address = &endpoint->v4.sin_addr;
    int family = endpoint->any.sa_family;
    if (family == AF_INET6) {
        address = &endpoint->v6.sin6_addr;
        if (memcmp(address, mapped, sizeof(mapped)) ==
            0) { /* an IPv4 peer of a dual-stack socket */
            family = AF_INET;
            address = (const uint8_t *)address + sizeof(mapped);
        }
    } else if (family != AF_INET) {
        return (size_t)snprintf(out, ENDPOINT_TEXT_BYTES_MAX, "unix");
    }
    return inet_ntop(family, address, out, ENDPOINT_TEXT_BYTES_MAX) ? strlen(out) : 0;
}

size_t endpoint_text(const struct endpoint *endpoint, char out[ENDPOINT_TEXT_BYTES_MAX])
{
    if (endpoint->any.sa_family == AF_UNIX)
        return (size_t)snprintf(out, ENDPOINT_TEXT_BYTES_MAX, "unix:%s", endpoint->local.sun_path);
    char host[ENDPOINT_TEXT_BYTES_MAX];
    size_t n = endpoint_host_text(endpoint, host);
    bool colons = memchr(host, ':', n) != NULL;
    return (size_t)snprintf(out, ENDPOINT_TEXT_BYTES_MAX, colons ? "[%.50s]:%u" : "%.50s:%u", host,
                            endpoint_port(endpoint));
}
