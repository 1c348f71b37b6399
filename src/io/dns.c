/* Names to addresses: c-ares on the loop, with a cache in front. One resolver a loop.
 *
 * A name asked for by many is asked once. What was found is kept for its time to live, within
 * bounds; a name in use is asked again in the background shortly before that, so that no call waits
 * for it. When asking again fails, the old answer serves for a while: an upstream whose address we
 * know should not become unreachable because its name server is.
 *
 * Entries are found by name in a table and kept in order of use; the least recently used goes when
 * the table is full. A lookup's callback is always a task of its own, never called from inside a
 * lookup. */
#include "base/clock.h"
#include "base/map.h"
#include "io/epoll.h"
#include <ares.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>

#define NAME_BYTES_MAX      253
#define ENTRIES_MAX         4096
#define ENTRY_ENDPOINTS_MAX 16
#define KNOWN_NS_MIN        (5 * NS_PER_S)
#define KNOWN_NS_MAX        (300 * NS_PER_S)
#define UNKNOWN_NS          (2 * NS_PER_S)    /* a failure is kept this long */
#define STALE_NS_MAX        (1800 * NS_PER_S) /* an old answer serves this long when asking fails */
#define ASK_TIMEOUT_MS      2000
#define ASK_TRIES           3

struct entry {
    struct list node; /* of resolver->entries */
    struct resolver *resolver;
    struct list waiting; /* lookups */
    size_t telling;      /* lookups whose task is on its way */
    bool asking;
    int64_t refresh_ns; /* from then on it is asked again when used */
    int64_t expires_ns; /* 0: nothing known yet */
    int64_t stale_ns;   /* the endpoints may serve until then */
    size_t count;
    struct endpoint endpoints[ENTRY_ENDPOINTS_MAX]; /* without port */
    struct err err;                                 /* why there are none */
    struct str name;                                /* lower case, without trailing dot */
    char name_bytes[];
};

struct lookup {
    struct list node; /* of entry->waiting, or detached: `tell` is on its way */
    struct task tell;
    struct entry *entry;
    uint16_t port;
    resolved_fn *done; /* NULL: cancelled */
    void *arg;
};

/* A socket of c-ares. */
struct dns_socket {
    struct list node;
    struct watch watch;
    struct resolver *resolver;
};

struct resolver {
    struct loop *loop;
    ares_channel channel;
    bool open, renew; /* renew: the system's settings may have changed; read them again when idle */
    size_t asking;
    struct timer timer;
    struct list sockets;
    struct map names;    /* to entries */
    struct list entries; /* most recently used first */
    char servers[64];    /* instead of the system's, for tests */
};

/* ---- c-ares on the loop ---- */

/* c-ares calls back at its own times: what it wants next is asked after each call into it. */
static void resolver_set_timer(struct resolver *resolver)
{
    struct timeval left;
    if (resolver->open && ares_timeout(resolver->channel, NULL, &left))
        timer_start(resolver->loop, &resolver->timer,
                    left.tv_sec * NS_PER_S + left.tv_usec * NS_PER_US);
    else
        timer_stop(&resolver->timer);
}

static void resolver_timer(struct timer *timer)
{
    struct resolver *resolver = CONTAINER_OF(timer, struct resolver, timer);
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    resolver_set_timer(resolver);
}

static void socket_ready(struct watch *watch, unsigned events)
{
    struct resolver *resolver = CONTAINER_OF(watch, struct dns_socket, watch)->resolver;
    bool read = events & (LOOP_READ | LOOP_HANGUP), write = events & LOOP_WRITE;
    ares_process_fd(resolver->channel, read ? watch->fd : ARES_SOCKET_BAD,
                    write ? watch->fd : ARES_SOCKET_BAD); /* may free the watch */
    resolver_set_timer(resolver);
}

static void socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = arg;
    struct dns_socket *socket = NULL;
    LIST_FOR_EACH (each, &resolver->sockets, struct dns_socket, node)
        if (each->watch.fd == fd)
            socket = each;
    unsigned events = (readable ? LOOP_READ : 0u) | (writable ? LOOP_WRITE : 0u);
    if (socket && events) {
        loop_watch_change(resolver->loop, &socket->watch, events);
    } else if (socket) {
        loop_unwatch(resolver->loop, &socket->watch);
        list_remove(&socket->node);
        free(socket);
    } else if (events) {
        socket = xcalloc(1, sizeof(*socket));
        socket->resolver = resolver;
        socket->watch = (struct watch){.fd = fd, .ready = socket_ready};
        if (loop_watch(resolver->loop, &socket->watch, events) == RC_OK)
            list_push_back(&resolver->sockets, &socket->node);
        else
            free(socket); /* the query runs into its timeout */
    }
}

static void library_init(void) { ares_library_init(ARES_LIB_INIT_ALL); }

static bool resolver_open(struct resolver *resolver)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, library_init);
    if (resolver->open && resolver->renew && resolver->asking == 0) {
        ares_destroy(resolver->channel);
        resolver->open = false;
    }
    if (resolver->open)
        return true;
    struct ares_options options = {
        .timeout = ASK_TIMEOUT_MS,
        .tries = ASK_TRIES,
        .sock_state_cb = socket_state,
        .sock_state_cb_data = resolver,
    };
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE /* newer versions keep answers by themselves, which would hide changes \
                               from ours */
    options.qcache_max_ttl = 0;
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    if (ares_init_options(&resolver->channel, &options, mask) != ARES_SUCCESS)
        return false;
    if (resolver->servers[0])
        ares_set_servers_ports_csv(resolver->channel, resolver->servers);
    resolver->open = true;
    resolver->renew = false;
    return true;
}

/* ---- entries ---- */

static void lookup_tell(struct task *task)
{
    struct lookup *lookup = CONTAINER_OF(task, struct lookup, tell);
    struct entry *entry = lookup->entry;
    entry->telling--;
    if (lookup->done) {
        struct endpoint endpoints[ENTRY_ENDPOINTS_MAX];
        for (size_t i = 0; i < entry->count; i++) {
            endpoints[i] = entry->endpoints[i];
            endpoint_set_port(&endpoints[i], lookup->port);
        }
        lookup->done(lookup->arg, endpoints, entry->count, entry->count ? NULL : &entry->err);
    }
    free(lookup);
}

static void lookup_settle(struct lookup *lookup)
{
    list_remove(&lookup->node);
    lookup->entry->telling++;
    loop_defer(lookup->entry->resolver->loop, &lookup->tell);
}

static void entry_settle(struct entry *entry)
{
    while (!list_empty(&entry->waiting))
        lookup_settle(LIST_FIRST(&entry->waiting, struct lookup, node));
}

/* Keeps what was found from `now` for `ttl_ns`. */
static void entry_know(struct entry *entry, int64_t ttl_ns)
{
    int64_t now_ns = loop_now_ns(entry->resolver->loop);
    ttl_ns = MIN(MAX(ttl_ns, KNOWN_NS_MIN), KNOWN_NS_MAX);
    entry->refresh_ns = now_ns + ttl_ns / 5 * 4;
    entry->expires_ns = now_ns + ttl_ns;
    entry->stale_ns = now_ns + STALE_NS_MAX;
}

static void entry_fail(struct entry *entry, int status)
{
    int64_t now_ns = loop_now_ns(entry->resolver->loop);
    bool authoritative = status == ARES_ENOTFOUND || status == ARES_ENODATA;
    if (authoritative || now_ns >= entry->stale_ns)
        entry->count = 0;
    entry->expires_ns = entry->refresh_ns = now_ns + UNKNOWN_NS;
    const char *why = authoritative ? "there is no such name" : ares_strerror(status);
    err_set(&entry->err, status == ARES_ETIMEOUT ? ERR_TIMEOUT : ERR_UPSTREAM,
            "cannot look up %.*s: %s", STR_ARG(entry->name), why);
}

static int64_t answer_ttl_ns(const struct ares_addrinfo *answer)
{
    int64_t ttl_s = INT32_MAX;
    for (const struct ares_addrinfo_node *node = answer->nodes; node; node = node->ai_next)
        ttl_s = MIN(ttl_s, node->ai_ttl);
    for (const struct ares_addrinfo_cname *alias = answer->cnames; alias; alias = alias->next)
        ttl_s = MIN(ttl_s, alias->ttl);
    return ttl_s * NS_PER_S;
}

static void entry_answered(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
    struct entry *entry = arg;
    struct resolver *resolver = entry->resolver;
    entry->asking = false;
    resolver->asking--;
    size_t count = 0;
    struct ares_addrinfo_node *node = status == ARES_SUCCESS ? answer->nodes : NULL;
    for (; node && count < ENTRY_ENDPOINTS_MAX; node = node->ai_next) {
        struct endpoint *to = &entry->endpoints[count];
        if (node->ai_addrlen > sizeof(*to) - offsetof(struct endpoint, any))
            continue;
        memset(to, 0, sizeof(*to));
        memcpy(&to->any, node->ai_addr, node->ai_addrlen);
        to->bytes = node->ai_addrlen;
        count++;
    }
    if (count) {
        entry->count = count;
        entry_know(entry, answer_ttl_ns(answer));
    } else {
        entry_fail(entry, status == ARES_SUCCESS ? ARES_ENODATA : status);
        resolver->renew = status != ARES_ENOTFOUND && status != ARES_ENODATA;
    }
    if (answer)
        ares_freeaddrinfo(answer);
    entry_settle(entry);
}

static void entry_ask(struct entry *entry)
{
    struct resolver *resolver = entry->resolver;
    if (!resolver_open(resolver)) {
        entry_fail(entry, ARES_ENOTINITIALIZED);
        entry_settle(entry);
        return;
    }
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    entry->asking = true;
    resolver->asking++;
    ares_getaddrinfo(resolver->channel, entry->name.p, NULL, &hints, entry_answered, entry);
    resolver_set_timer(resolver);
}

/* RFC 6761: names of this machine never leave it. */
static bool entry_is_localhost(const struct entry *entry)
{
    return str_eq(entry->name, STR("localhost")) || str_ends(entry->name, STR(".localhost"));
}

static void entry_set_localhost(struct entry *entry)
{
    bool literal = endpoint_from_literal(STR("127.0.0.1"), 0, &entry->endpoints[0]) &&
                   endpoint_from_literal(STR("::1"), 0, &entry->endpoints[1]);
    ASSERT(literal);
    entry->count = 2;
    entry->expires_ns = entry->refresh_ns = INT64_MAX;
}

static void entry_free(struct entry *entry)
{
    map_remove(&entry->resolver->names, entry->name);
    list_remove(&entry->node);
    free(entry);
}

static bool entry_in_use(const struct entry *entry)
{
    return entry->asking || entry->telling || !list_empty(&entry->waiting);
}

static void resolver_make_room(struct resolver *resolver)
{
    struct list *node = resolver->entries.prev;
    while (resolver->names.count >= ENTRIES_MAX && node != &resolver->entries) {
        struct entry *entry = LIST_ENTRY(node, struct entry, node);
        node = node->prev;
        if (!entry_in_use(entry))
            entry_free(entry);
    }
}

static struct entry *resolver_entry(struct resolver *resolver, struct str name)
{
    struct entry *entry = map_get(&resolver->names, name);
    if (entry == NULL) {
        resolver_make_room(resolver);
        entry = xcalloc(1, sizeof(*entry) + name.n + 1);
        memcpy(entry->name_bytes, name.p, name.n);
        entry->name = str_make(entry->name_bytes, name.n);
        entry->resolver = resolver;
        list_init(&entry->waiting);
        list_init(&entry->node);
        map_put(&resolver->names, entry->name, entry);
        if (entry_is_localhost(entry))
            entry_set_localhost(entry);
    }
    list_remove(&entry->node);
    list_push_front(&resolver->entries, &entry->node);
    return entry;
}

/* ---- lookups ---- */

static struct resolver *resolver_of(struct loop *loop)
{
    if (loop->resolver == NULL) {
        struct resolver *resolver = xcalloc(1, sizeof(*resolver));
        resolver->loop = loop;
        timer_init(&resolver->timer, resolver_timer);
        list_init(&resolver->sockets);
        list_init(&resolver->entries);
        map_init(&resolver->names);
        loop->resolver = resolver;
    }
    return loop->resolver;
}

/* One form for each name; a name that cannot be one becomes the empty name, which is never found.
 */
static struct str normal_name(struct str host, char out[NAME_BYTES_MAX])
{
    if (host.n && host.p[host.n - 1] == '.')
        host.n--;
    if (host.n > NAME_BYTES_MAX)
        return STR("");
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        if (c <= ' ' || c == 0x7f)
            return STR("");
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    return str_make(out, host.n);
}

struct lookup *resolver_lookup(struct loop *loop, struct str host, uint16_t port, resolved_fn *done,
                               void *arg)
{
    char name[NAME_BYTES_MAX];
    struct entry *entry = resolver_entry(resolver_of(loop), normal_name(host, name));
    struct lookup *lookup = xcalloc(1, sizeof(*lookup));
    lookup->tell.run = lookup_tell;
    lookup->entry = entry;
    lookup->port = port;
    lookup->done = done;
    lookup->arg = arg;
    list_push_back(&entry->waiting, &lookup->node);
    int64_t now_ns = loop_now_ns(loop);
    if (entry->name.n == 0) {
        entry_fail(entry, ARES_EBADNAME);
        lookup_settle(lookup);
        return lookup;
    }
    if (now_ns < entry->expires_ns)
        lookup_settle(lookup);
    if (now_ns >= entry->refresh_ns && !entry->asking)
        entry_ask(entry);
    return lookup;
}

void resolver_cancel(struct lookup *lookup)
{
    lookup->done = NULL;
    if (list_detached(&lookup->node))
        return; /* its task frees it */
    list_remove(&lookup->node);
    free(lookup);
}

void resolver_set_server(struct loop *loop, struct str server)
{
    struct resolver *resolver = resolver_of(loop);
    ASSERT(server.n < sizeof(resolver->servers));
    memcpy(resolver->servers, server.p, server.n);
    resolver->servers[server.n] = '\0';
    resolver->renew = true;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    if (resolver->open)
        ares_destroy(resolver->channel); /* answers what is asked, and closes the sockets */
    resolver->open = false;
    timer_stop(&resolver->timer);
    LIST_FOR_EACH_SAFE (entry, &resolver->entries, struct entry, node) {
        ASSERT(!entry_in_use(entry));
        entry_free(entry);
    }
    map_fini(&resolver->names);
    free(resolver);
}
