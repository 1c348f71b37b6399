/* Origins and their connections. An exchange takes the most recently used idle connection, else
 * waits while connections are made, as many as wait (one only, while HTTP/2 may turn out to be
 * spoken, for then one serves all). A connection that becomes free serves who waits longest. */
#include "base/clock.h"
#include "http/client_private.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- TLS contexts: one a trust store, for all loops, because loading one costs milliseconds ----
 */

struct shared_tls {
    struct shared_tls *next;
    struct str ca_file;
    struct tls_context *tls;
};

static struct shared_tls
    *shared_tls_list; /* never freed: as many as the configuration names files */
static pthread_mutex_t shared_tls_lock = PTHREAD_MUTEX_INITIALIZER;

static struct tls_context *tls_for(struct str ca_file, struct err *err)
{
    struct tls_context *tls = NULL;
    pthread_mutex_lock(&shared_tls_lock);
    struct shared_tls *shared = shared_tls_list;
    while (shared && !str_eq(shared->ca_file, ca_file))
        shared = shared->next;
    if (!shared && (tls = tls_client_new(ca_file, err))) {
        shared = xcalloc(1, sizeof(*shared));
        char *copy = xmalloc(ca_file.n + 1);
        if (ca_file.n > 0)
            memcpy(copy, ca_file.p, ca_file.n);
        *shared = (struct shared_tls){shared_tls_list, str_make(copy, ca_file.n), tls};
        shared_tls_list = shared;
    }
    tls = shared ? shared->tls : NULL;
    if (tls)
        tls_ref(tls);
    pthread_mutex_unlock(&shared_tls_lock);
    return tls;
}

/* ---- connecting ---- */

static void origin_connect(struct http_origin *origin);

static void attempt_free(struct attempt *attempt)
{
    list_remove(&attempt->node);
    attempt->origin->attempts_count--;
    free(attempt);
}

/* One connection serves all who wait, so one attempt is enough. */
static bool origin_shares(const struct http_origin *origin)
{
    return origin->http2 && !origin->http1_known;
}

static void attempt_failed(struct attempt *attempt, const struct err *err)
{
    struct http_origin *origin = attempt->origin;
    attempt_free(attempt);
    struct err told = *err;
    if (told.rc != RC_TIMEOUT)
        told.rc = RC_DOWN;
    /* Those who wait now, not those whom their `done` may start. */
    size_t count = origin_shares(origin) ? origin->waiting_count : MIN(origin->waiting_count, 1u);
    for (; count > 0 && !list_empty(&origin->waiting); count--)
        exchange_finish(LIST_FIRST(&origin->waiting, struct http_exchange, node), &told);
    origin_connect(origin);
}

static void attempt_succeeded(struct attempt *attempt, struct stream *stream)
{
    struct http_origin *origin = attempt->origin;
    attempt_free(attempt);
    origin->client->stats.connects++;
    bool h2 = origin->https ? str_eq(stream_alpn(stream), STR("h2")) : origin->http2;
    if (h2) {
        struct h2_session *session = h2_session_new(origin, stream);
        if (!session)
            return;
    } else {
        origin->http1_known = true;
        link_new(origin, stream);
    }
    origin_serve(origin);
}

static void attempt_connected(void *arg, struct stream *stream, const struct err *err)
{
    struct attempt *attempt = arg;
    attempt->connecting = NULL;
    if (stream)
        attempt_succeeded(attempt, stream);
    else
        attempt_failed(attempt, err);
}

static void connect_options_fill(const struct http_origin *origin, struct connect_options *options)
{
    *options = (struct connect_options){
        .address = origin->address,
        .tls = origin->tls,
        .tls_server_name = origin->tls ? origin->address.host : STR_EMPTY,
        .offer_h2 = origin->http2,
        .public_only = origin->public_only,
        .timeout_ns = CLIENT_CONNECT_NS,
    };
}

static void attempt_tunnelled(void *arg, struct stream *stream, const struct err *err)
{
    struct attempt *attempt = arg;
    attempt->tunnel = NULL;
    if (!stream) {
        attempt_failed(attempt, err);
        return;
    }
    struct connect_options options;
    connect_options_fill(attempt->origin, &options);
    attempt->connecting = stream_start_tls(stream, &options, attempt_connected, attempt);
}

static void attempt_at_proxy(void *arg, struct stream *stream, const struct err *err)
{
    struct attempt *attempt = arg;
    struct http_origin *origin = attempt->origin;
    attempt->connecting = NULL;
    if (!stream) {
        attempt_failed(attempt, err);
        return;
    }
    char authority[300], authorization[512];
    bool v6 = str_find_char(origin->address.host, ':') >= 0;
    int n = snprintf(authority, sizeof(authority), v6 ? "[%.*s]:%u" : "%.*s:%u",
                     STR_ARG(origin->address.host), origin->address.port);
    size_t authorization_bytes =
        proxy_authorization(&origin->proxy, authorization, sizeof(authorization));
    attempt->tunnel =
        tunnel_start(stream, str_make(authority, (size_t)n),
                     str_make(authorization, authorization_bytes), attempt_tunnelled, attempt);
}

static void attempt_start(struct http_origin *origin)
{
    struct attempt *attempt = xcalloc(1, sizeof(*attempt));
    attempt->origin = origin;
    list_push_back(&origin->attempts, &attempt->node);
    origin->attempts_count++;
    struct connect_options options;
    connect_options_fill(origin, &options);
    if (origin->proxy.kind == PROXY_NONE) {
        attempt->connecting =
            stream_connect(origin->client->loop, &options, attempt_connected, attempt);
        return;
    }
    options = (struct connect_options){
        .address = {.host = origin->proxy.parts.host, .port = origin->proxy.parts.port},
        .timeout_ns = CLIENT_CONNECT_NS,
    };
    attempt->connecting = stream_connect(
        origin->client->loop, &options,
        origin->proxy.kind == PROXY_TUNNEL ? attempt_at_proxy : attempt_connected, attempt);
}

static void origin_connect(struct http_origin *origin)
{
    size_t attempts_max = origin_shares(origin) ? 1 : ORIGIN_CONNECTING_MAX;
    while (origin->attempts_count < MIN(origin->waiting_count, attempts_max) &&
           origin->links_count + origin->attempts_count < origin->connections_max &&
           !origin->client->freeing)
        attempt_start(origin);
}

/* ---- serving ---- */

static struct h2_session *session_with_room(struct http_origin *origin)
{
    for (struct list *at = origin->sessions.next; at != &origin->sessions; at = at->next)
        if (h2_session_has_room(h2_session_of(at)))
            return h2_session_of(at);
    return NULL;
}

static bool exchange_place(struct http_exchange *exchange)
{
    struct http_origin *origin = exchange->origin;
    struct h2_session *session = origin->http2 ? session_with_room(origin) : NULL;
    if (session) {
        h2_session_start(session, exchange);
        return true;
    }
    struct link *link = LIST_FIRST(&origin->idle, struct link, node);
    if (link && exchange->fresh_only && link->reused)
        link = LIST_ENTRY(origin->idle.prev, struct link, node); /* a new one, if any, is there */
    if (!link || (exchange->fresh_only && link->reused))
        return false;
    link_start(link, exchange);
    return true;
}

void origin_serve(struct http_origin *origin)
{
    while (!list_empty(&origin->waiting)) {
        struct http_exchange *exchange = LIST_FIRST(&origin->waiting, struct http_exchange, node);
        list_remove(&exchange->node);
        origin->waiting_count--;
        if (!exchange_place(exchange)) {
            list_push_front(&origin->waiting, &exchange->node);
            origin->waiting_count++;
            break;
        }
    }
    origin_connect(origin);
}

void origin_dispatch(struct http_exchange *exchange)
{
    struct http_origin *origin = exchange->origin;
    if (list_empty(&origin->waiting) && exchange_place(exchange))
        return;
    if (exchange->fresh_only) /* it has waited before */
        list_push_front(&origin->waiting, &exchange->node);
    else
        list_push_back(&origin->waiting, &exchange->node);
    origin->waiting_count++;
    origin_connect(origin);
}

/* ---- origins ---- */

static struct str text_copy(struct str s)
{
    char *copy = xmalloc(s.n + 1);
    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = 0;
    return str_make(copy, s.n);
}

static struct str authority_make(const struct url *url)
{
    if (str_eq(url->scheme, STR("unix")))
        return text_copy(STR("localhost"));
    bool standard = url->port == (str_eq(url->scheme, STR("https")) ? 443 : 80);
    bool v6 = str_find_char(url->host, ':') >= 0;
    char text[300], port[8] = "";
    if (!standard)
        snprintf(port, sizeof(port), ":%u", url->port);
    int n = snprintf(text, sizeof(text), v6 ? "[%.*s]%s" : "%.*s%s", STR_ARG(url->host), port);
    return text_copy(str_make(text, (size_t)n));
}

static struct http_origin *origin_new(struct http_client *client, struct str key,
                                      const struct http_origin_options *options, struct err *err)
{
    struct url url;
    struct proxy proxy;
    struct str kept = text_copy(key); /* options' texts are parts of it, in this order */
    struct str url_text = str_make(kept.p, options->url.n);
    struct str proxy_text =
        str_make(kept.p + options->url.n + options->ca_file.n + 2, options->proxy.n);
    struct tls_context *tls = NULL;
    if (url_parse(url_text, &url, err) != RC_OK ||
        proxy_choose(client->proxies, &url, proxy_text, &proxy, err) != RC_OK ||
        (str_eq(url.scheme, STR("https")) && !(tls = tls_for(options->ca_file, err)))) {
        free((void *)kept.p);
        return NULL;
    }
    struct http_origin *origin = xcalloc(1, sizeof(*origin));
    *origin = (struct http_origin){
        .magic = ORIGIN_MAGIC,
        .https = tls != NULL,
        .http2 = options->http2 && proxy.kind != PROXY_FORWARD,
        .public_only = options->public_only,
        .client = client,
        .key = kept,
        .tls = tls,
        .address = {.kind = str_eq(url.scheme, STR("unix")) ? ADDRESS_UNIX : ADDRESS_TCP,
                    .host = url.host,
                    .port = url.port},
        .authority = authority_make(&url),
        .proxy = proxy,
        .connections_max =
            options->connections_max ? options->connections_max : ORIGIN_CONNECTIONS_DEFAULT,
    };
    char line[600] = "proxy-authorization: ";
    size_t name_bytes = strlen(line);
    size_t n = proxy_authorization(&proxy, line + name_bytes, sizeof(line) - name_bytes - 2);
    if (proxy.kind == PROXY_FORWARD && n > 0) {
        memcpy(line + name_bytes + n, "\r\n", 2);
        origin->proxy_head = text_copy(str_make(line, name_bytes + n + 2));
    }
    list_init(&origin->waiting);
    list_init(&origin->attempts);
    list_init(&origin->idle);
    list_init(&origin->busy);
    list_init(&origin->sessions);
    list_push_back(&client->all, &origin->all);
    map_put(&client->origins, origin->key, origin);
    return origin;
}

struct http_origin *http_client_origin(struct http_client *client,
                                       const struct http_origin_options *options, struct err *err)
{
    CHECK_MAGIC(client, CLIENT_MAGIC);
    char key[2048];
    size_t n = options->url.n + options->ca_file.n + options->proxy.n + 64;
    if (n > sizeof(key)) {
        err_set(err, ERR_INVALID, "the provider's address is too long");
        return NULL;
    }
    int written = snprintf(key, sizeof(key), "%.*s\n%.*s\n%.*s\n%d%d%zu", STR_ARG(options->url),
                           STR_ARG(options->ca_file), STR_ARG(options->proxy), options->http2,
                           options->public_only, options->connections_max);
    struct http_origin *origin = map_get(&client->origins, str_make(key, (size_t)written));
    return origin ? origin : origin_new(client, str_make(key, (size_t)written), options, err);
}

static void origin_sweep(struct http_origin *origin, int64_t now_ns)
{
    while (!list_empty(&origin->idle)) {
        struct link *link = LIST_ENTRY(origin->idle.prev, struct link, node);
        if (now_ns - link->idle_since_ns < CLIENT_IDLE_NS)
            break;
        link_close(link);
    }
    for (struct list *at = origin->sessions.next, *next; at != &origin->sessions; at = next) {
        next = at->next;
        h2_session_sweep(h2_session_of(at), now_ns);
    }
}

static void link_end(struct link *link, const struct err *err)
{
    struct http_exchange *exchange = link->exchange;
    link->exchange = NULL;
    link_close(link);
    if (exchange)
        exchange_finish(exchange, err);
}

static void origin_close(struct http_origin *origin)
{
    struct err err = {0};
    err_set(&err, ERR_CANCELLED, "%.*s: the client is being closed", STR_ARG(origin->authority));
    while (!list_empty(&origin->waiting))
        exchange_finish(LIST_FIRST(&origin->waiting, struct http_exchange, node), &err);
    while (!list_empty(&origin->busy))
        link_end(LIST_FIRST(&origin->busy, struct link, node), &err);
    while (!list_empty(&origin->idle))
        link_end(LIST_FIRST(&origin->idle, struct link, node), &err);
    while (!list_empty(&origin->sessions))
        h2_session_close(h2_session_of(origin->sessions.next));
    LIST_FOR_EACH_SAFE (attempt, &origin->attempts, struct attempt, node) {
        if (attempt->connecting)
            stream_connect_cancel(attempt->connecting);
        if (attempt->tunnel)
            tunnel_cancel(attempt->tunnel);
        attempt_free(attempt);
    }
}

static void origin_free(struct http_origin *origin)
{
    if (origin->tls)
        tls_unref(origin->tls);
    list_remove(&origin->all);
    free((void *)origin->authority.p);
    free((void *)origin->proxy_head.p);
    free((void *)origin->key.p);
    origin->magic = 0;
    free(origin);
}

/* ---- the client ---- */

static void client_sweep(struct timer *timer)
{
    struct http_client *client = CONTAINER_OF(timer, struct http_client, sweep);
    LIST_FOR_EACH (origin, &client->all, struct http_origin, all)
        origin_sweep(origin, loop_now_ns(client->loop));
    timer_start(client->loop, &client->sweep, CLIENT_SWEEP_NS);
}

struct http_client *http_client_new(struct loop *loop)
{
    struct http_client *client = xcalloc(1, sizeof(*client));
    client->magic = CLIENT_MAGIC;
    client->loop = loop;
    client->proxies = proxy_settings_new();
    map_init(&client->origins);
    list_init(&client->all);
    slab_init(&client->exchanges, sizeof(struct http_exchange), 0);
    slab_init(&client->links, sizeof(struct link), 0);
    timer_init(&client->sweep, client_sweep);
    timer_start(loop, &client->sweep, CLIENT_SWEEP_NS);
    return client;
}

static void client_free_now(struct http_client *client)
{
    LIST_FOR_EACH_SAFE (origin, &client->all, struct http_origin, all)
        origin_free(origin);
    map_fini(&client->origins);
    slab_fini(&client->exchanges);
    slab_fini(&client->links);
    proxy_settings_free(client->proxies);
    client->magic = 0;
    free(client);
}

void client_release(struct http_client *client)
{
    if (client->freeing && client->exchanges.count == 0 && client->links.count == 0 &&
        client->sessions_count == 0)
        client_free_now(client);
}

void http_client_free(struct http_client *client)
{
    CHECK_MAGIC(client, CLIENT_MAGIC);
    timer_stop(&client->sweep);
    client->sessions_count++; /* holds the client until the end of this function */
    client->freeing = true;
    LIST_FOR_EACH (origin, &client->all, struct http_origin, all)
        origin_close(origin);
    client->sessions_count--;
    client_release(client);
}

void http_client_stats(const struct http_client *client, struct http_client_stats *out)
{
    *out = client->stats;
    out->idle_now = out->busy_now = 0;
    LIST_FOR_EACH (origin, &client->all, struct http_origin, all) {
        for (struct list *at = origin->idle.next; at != &origin->idle; at = at->next)
            out->idle_now++;
        out->busy_now += origin->links_count;
        for (struct list *at = origin->sessions.next; at != &origin->sessions; at = at->next)
            out->busy_now += h2_session_streams(h2_session_of(at)) > 0;
    }
    out->busy_now -= out->idle_now;
}
