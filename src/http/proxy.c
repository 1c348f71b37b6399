/* Proxies from the environment, and tunnels through them. The variables are read once, when a
 * client is made: getenv is not safe beside setenv in other threads. */
#include "http/proxy.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/limits.h"
#include "http/head.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define TUNNEL_HEAD_BYTES_MAX (8 * 1024)

struct proxy_settings {
    char *http, *https, *all, *none; /* NULL: not set */
};

static char *environment_copy(const char *lower, const char *upper)
{
    const char *value = getenv(lower);
    if (!value || !*value)
        value = upper ? getenv(upper) : NULL;
    return value && *value ? xstrdup(value) : NULL;
}

struct proxy_settings *proxy_settings_new(void)
{
    struct proxy_settings *settings = xcalloc(1, sizeof(*settings));
    /* Upper-case HTTP_PROXY is honoured here: this program is no CGI script, whose clients could
     * set it. */
    settings->http = environment_copy("http_proxy", "HTTP_PROXY");
    settings->https = environment_copy("https_proxy", "HTTPS_PROXY");
    settings->all = environment_copy("all_proxy", "ALL_PROXY");
    settings->none = environment_copy("no_proxy", "NO_PROXY");
    return settings;
}

void proxy_settings_free(struct proxy_settings *settings)
{
    free(settings->http);
    free(settings->https);
    free(settings->all);
    free(settings->none);
    free(settings);
}

/* ---- NO_PROXY ---- */

static bool address_parse_binary(struct str s, uint8_t out[16], int *bits)
{
    char z[INET6_ADDRSTRLEN];
    if (s.n >= sizeof(z))
        return false;
    memcpy(z, s.p, s.n);
    z[s.n] = 0;
    if (inet_pton(AF_INET, z, out) == 1) {
        *bits = 32;
        return true;
    }
    *bits = 128;
    return inet_pton(AF_INET6, z, out) == 1;
}

static bool prefix_covers(struct str prefix, uint64_t prefix_bits, struct str host)
{
    uint8_t a[16], b[16];
    int bits_a, bits_b;
    if (!address_parse_binary(prefix, a, &bits_a) || !address_parse_binary(host, b, &bits_b) ||
        bits_a != bits_b || prefix_bits > (uint64_t)bits_a)
        return false;
    size_t whole = prefix_bits / 8;
    unsigned rest = prefix_bits % 8;
    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

static bool name_covers(struct str name, struct str host)
{
    if (name.n > 0 && name.p[0] == '*')
        name = str_slice(name, 1, name.n);
    if (name.n > 0 && name.p[0] == '.')
        name = str_slice(name, 1, name.n);
    if (name.n == 0 || host.n < name.n)
        return false;
    struct str end = str_slice(host, host.n - name.n, host.n);
    return str_eq_nocase(end, name) && (host.n == name.n || host.p[host.n - name.n - 1] == '.');
}

static bool item_covers(struct str item, struct str host, uint16_t port)
{
    uint64_t number;
    ssize_t slash = str_find_char(item, '/');
    if (slash >= 0)
        return str_to_u64(str_slice(item, (size_t)slash + 1, item.n), &number) == RC_OK &&
               prefix_covers(str_slice(item, 0, (size_t)slash), number, host);
    uint8_t address[16];
    int bits;
    if (address_parse_binary(item, address, &bits))
        return prefix_covers(item, (uint64_t)bits, host);
    ssize_t colon = str_rfind_char(item, ':');
    if (colon >= 0) {
        if (str_to_u64(str_slice(item, (size_t)colon + 1, item.n), &number) != RC_OK ||
            number != port)
            return false;
        item = str_slice(item, 0, (size_t)colon);
        if (item.n >= 2 && item.p[0] == '[')
            item = str_slice(item, 1, item.n - 1);
        if (address_parse_binary(item, address, &bits))
            return prefix_covers(item, (uint64_t)bits, host);
    }
    return name_covers(item, host);
}

bool proxy_list_covers(struct str list, struct str host, uint16_t port)
{
    struct str item;
    while (str_split(&list, ',', &item)) {
        item = str_trim(item);
        if (str_eq(item, STR("*")) || (item.n > 0 && item_covers(item, host, port)))
            return true;
    }
    return false;
}

static bool host_is_loopback(struct str host)
{
    return name_covers(STR("localhost"), host) || prefix_covers(STR("127.0.0.0"), 8, host) ||
           prefix_covers(STR("::1"), 128, host);
}

enum rc proxy_choose(const struct proxy_settings *settings, const struct url *target,
                     struct str override, struct proxy *out, struct err *err)
{
    *out = (struct proxy){.kind = PROXY_NONE};
    bool https = str_eq(target->scheme, STR("https"));
    struct str url = override;
    if (str_eq(override, STR("none")) || str_eq(target->scheme, STR("unix")))
        return RC_OK;
    if (url.n == 0) {
        const char *chosen = https ? settings->https : settings->http;
        url = str_from(chosen ? chosen : settings->all);
        if (url.n == 0 || host_is_loopback(target->host) ||
            proxy_list_covers(str_from(settings->none), target->host, target->port))
            return RC_OK;
    }
    /* "host:port" alone means http, as everywhere. */
    if (str_find(url, STR("://")) < 0) {
        struct address address;
        if (address_parse(url, 80, &address) != RC_OK)
            return err_set(err, ERR_INVALID, "the proxy \"%.*s\" is not a URL", STR_ARG(url));
        out->parts = (struct url){
            .scheme = STR("http"), .host = address.host, .port = address.port, .path = STR("/")};
    } else if (str_starts(url, STR("http://"))) {
        enum rc rc = url_parse(url, &out->parts, err);
        if (rc != RC_OK)
            return rc;
    } else {
        return err_set(err, ERR_UNSUPPORTED,
                       "the proxy \"%.*s\": only http:// proxies are supported", STR_ARG(url));
    }
    out->url = url;
    out->kind = https ? PROXY_TUNNEL : PROXY_FORWARD;
    return RC_OK;
}

size_t proxy_authorization(const struct proxy *proxy, char *out, size_t bytes_max)
{
    struct str user = proxy->parts.user;
    struct arena arena;
    arena_init(&arena, 16 * 1024);
    struct str plain = user.n > 0 ? http_percent_decode(user, false, &arena) : STR_EMPTY;
    size_t n = 0;
    static const char scheme[] = "Basic ";
    if (plain.n > 0 && sizeof(scheme) + (plain.n + 2) / 3 * 4 <= bytes_max) {
        memcpy(out, scheme, sizeof(scheme) - 1);
        n = sizeof(scheme) - 1 + base64_encode(plain.p, plain.n, out + sizeof(scheme) - 1);
    }
    arena_fini(&arena);
    return n;
}

/* ---- CONNECT ---- */

struct tunnel {
    struct stream *stream;
    void (*done)(void *arg, struct stream *stream, const struct err *err);
    void *arg;
    struct task task;
    bool cancelled, queued;
    struct err err;
    size_t request_bytes, sent_bytes;
    struct buf in;
    size_t scanned;
    char *request;
    struct str authority;
};

static void tunnel_free(struct tunnel *tunnel)
{
    buf_fini(&tunnel->in);
    free(tunnel->request);
    free(tunnel);
}

static void tunnel_end(struct tunnel *tunnel, bool ok)
{
    struct stream *stream = tunnel->stream;
    if (!ok) {
        stream_close(stream);
        stream = NULL;
    } else {
        stream_set_owner(stream, NULL, NULL);
    }
    tunnel->done(tunnel->arg, stream, ok ? NULL : &tunnel->err);
    tunnel_free(tunnel);
}

static void tunnel_fail(struct tunnel *tunnel, const char *what)
{
    err_set(&tunnel->err, ERR_UPSTREAM, "the proxy's tunnel to %.*s: %s",
            STR_ARG(tunnel->authority), what);
    tunnel_end(tunnel, false);
}

/* True: ended. */
static bool tunnel_send(struct tunnel *tunnel)
{
    struct iovec part = {tunnel->request + tunnel->sent_bytes,
                         tunnel->request_bytes - tunnel->sent_bytes};
    size_t n;
    enum rc rc = stream_write(tunnel->stream, &part, 1, &n);
    if (rc == RC_AGAIN)
        return false;
    if (rc != RC_OK) {
        tunnel_fail(tunnel, "the proxy closed the connection");
        return true;
    }
    tunnel->sent_bytes += n;
    return false;
}

static void tunnel_answer(struct tunnel *tunnel, size_t head_bytes)
{
    struct http_head *head = xcalloc(1, sizeof(*head));
    struct str text = str_make(buf_str(&tunnel->in).p, head_bytes);
    char what[96] = "";
    if (http_head_parse_response(head, text, true) != RC_OK)
        snprintf(what, sizeof(what), "not an HTTP answer");
    else if (head->status < 200 || head->status > 299)
        snprintf(what, sizeof(what), "the proxy answers %d %s", head->status,
                 http_status_text(head->status));
    else if (buf_len(&tunnel->in) > head_bytes)
        snprintf(what, sizeof(what), "the proxy sends more than its answer");
    free(head);
    if (*what)
        tunnel_fail(tunnel, what);
    else
        tunnel_end(tunnel, true);
}

static void tunnel_receive(struct tunnel *tunnel)
{
    for (;;) {
        char *at;
        size_t n;
        if (buf_reserve(&tunnel->in, 1024, &at) != RC_OK) {
            tunnel_fail(tunnel, "the proxy's answer is too long");
            return;
        }
        enum rc rc = stream_read(tunnel->stream, at, 1024, &n);
        if (rc == RC_AGAIN)
            return;
        if (rc != RC_OK) {
            tunnel_fail(tunnel, "the proxy closed the connection");
            return;
        }
        buf_added(&tunnel->in, n);
        size_t head_bytes = http_head_find_end(buf_str(&tunnel->in), &tunnel->scanned);
        if (head_bytes > 0) {
            tunnel_answer(tunnel, head_bytes);
            return;
        }
    }
}

static void tunnel_ready(void *owner, struct stream *stream, unsigned events)
{
    struct tunnel *tunnel = owner;
    if (tunnel->queued)
        return;
    if (tunnel->sent_bytes < tunnel->request_bytes && tunnel_send(tunnel))
        return;
    if (events & (STREAM_READABLE | STREAM_CLOSED))
        tunnel_receive(tunnel);
}

static const struct stream_owner tunnel_calls = {.ready = tunnel_ready};

static void tunnel_begin(struct task *task)
{
    struct tunnel *tunnel = CONTAINER_OF(task, struct tunnel, task);
    tunnel->queued = false;
    if (tunnel->cancelled)
        tunnel_free(tunnel);
    else
        (void)tunnel_send(tunnel);
}

struct tunnel *tunnel_start(struct stream *stream, struct str authority, struct str authorization,
                            void (*done)(void *arg, struct stream *stream, const struct err *err),
                            void *arg)
{
    struct tunnel *tunnel = xcalloc(1, sizeof(*tunnel));
    *tunnel = (struct tunnel){.stream = stream, .done = done, .arg = arg, .queued = true};
    buf_init(&tunnel->in, TUNNEL_HEAD_BYTES_MAX);
    size_t bytes_max = 2 * authority.n + authorization.n + 128;
    tunnel->request = xmalloc(bytes_max);
    int n = snprintf(tunnel->request, bytes_max,
                     "CONNECT %.*s HTTP/1.1\r\nhost: %.*s\r\n%s%.*s%s\r\n", STR_ARG(authority),
                     STR_ARG(authority), authorization.n > 0 ? "proxy-authorization: " : "",
                     STR_ARG(authorization), authorization.n > 0 ? "\r\n" : "");
    tunnel->request_bytes = (size_t)n;
    ASSERT(tunnel->request_bytes < bytes_max);
    tunnel->authority = str_make(tunnel->request + 8, authority.n);
    stream_set_owner(stream, &tunnel_calls, tunnel);
    tunnel->task.run = tunnel_begin;
    loop_defer(stream_loop(stream), &tunnel->task);
    return tunnel;
}

void tunnel_cancel(struct tunnel *tunnel)
{
    stream_close(tunnel->stream);
    if (tunnel->queued)
        tunnel->cancelled = true;
    else
        tunnel_free(tunnel);
}
