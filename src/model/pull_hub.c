/* A file from a hub over HTTP: follows redirects, writes what comes to the part file on a worker,
 * and after a break goes on from where the file ends (Range). Back-pressure: at most one write is
 * under way and one piece waits, then the exchange is stopped.
 *
 * A hub tells a file's SHA-256 before it redirects to where the bytes are (x-linked-etag); for an
 * entry of the catalogue without a hash that one is checked. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "model/pull_private.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES        (1 << 20)
#define URL_BYTES_MAX      8192
#define REDIRECTS_MAX      8
#define TRIES_MAX          6 /* in a row without a new byte */
#define CONNECT_TIMEOUT_NS (30 * NS_PER_S)
#define IDLE_TIMEOUT_NS    (60 * NS_PER_S)
#define RETRY_FIRST_NS     (250 * NS_PER_MS)
#define RETRY_MAX_NS       (30 * NS_PER_S)

struct pull_hub {
    struct pull *pull;
    struct http_client *client;
    struct http_exchange *exchange; /* NULL: between two tries, or ended */
    char url[URL_BYTES_MAX];        /* of the request under way */
    char first_url[URL_BYTES_MAX];
    char range[64];
    int fd;
    int64_t offset; /* bytes in the file, those being written included */
    int64_t total;  /* 0: unknown */
    int redirects, tries;
    int status;
    bool redirected, takes_body, progressed;
    struct buf piece;   /* received, waits to be written */
    struct buf writing; /* under way on a worker */
    bool write_busy, exchange_ended, cancelled, leaving;
    int write_errno;
    struct work write;
    struct timer retry;
    struct err err; /* of the try */
    struct task leave;
};

static void try_request(struct pull_hub *hub);
static void settle(struct pull_hub *hub);

/* ---- the end ---- */

static void leave(struct task *task)
{
    struct pull_hub *hub = CONTAINER_OF(task, struct pull_hub, leave);
    struct pull *pull = hub->pull;
    struct err err = hub->err;
    http_client_free(hub->client);
    if (hub->fd >= 0)
        close(hub->fd);
    buf_fini(&hub->piece);
    buf_fini(&hub->writing);
    free(hub);
    pull->hub = NULL;
    pull_source_ended(pull, err.code == ERR_NONE ? NULL : &err);
}

/* Not from inside a callback of the exchange: the client goes, too. */
static void end(struct pull_hub *hub)
{
    timer_stop(&hub->retry);
    hub->leaving = true;
    loop_defer(hub->pull->loop, &hub->leave);
}

/* ---- writing ---- */

static void write_work(struct work *work)
{
    struct pull_hub *hub = CONTAINER_OF(work, struct pull_hub, write);
    hub->write_errno = 0;
    while (buf_len(&hub->writing) > 0) {
        ssize_t n = write(hub->fd, hub->writing.p + hub->writing.start, buf_len(&hub->writing));
        if (n < 0 && errno != EINTR) {
            hub->write_errno = errno;
            return;
        }
        if (n > 0)
            buf_consume(&hub->writing, (size_t)n);
    }
}

static void fail_write(struct pull_hub *hub)
{
    err_set(&hub->err, hub->write_errno == ENOSPC ? ERR_DISK_FULL : ERR_INTERNAL,
            "%s cannot be written: %s", hub->pull->part, strerror(hub->write_errno));
    hub->tries = TRIES_MAX; /* the disk does not get better by asking the network again */
    if (hub->exchange)
        http_exchange_cancel(hub->exchange);
    hub->exchange = NULL;
    hub->exchange_ended = true;
    buf_clear(&hub->piece);
}

static void flush(struct pull_hub *hub)
{
    if (hub->write_busy || buf_len(&hub->piece) == 0)
        return;
    struct buf swap = hub->writing;
    hub->writing = hub->piece;
    hub->piece = swap;
    buf_clear(&hub->piece);
    hub->write_busy = true;
    if (worker_submit(hub->pull->workers, &hub->write) != RC_OK) {
        hub->write_busy = false;
        hub->write_errno = EAGAIN;
        fail_write(hub);
    }
}

static void write_done(struct work *work)
{
    struct pull_hub *hub = CONTAINER_OF(work, struct pull_hub, write);
    hub->write_busy = false;
    if (hub->write_errno) {
        fail_write(hub);
    } else if (hub->exchange_ended || buf_len(&hub->piece) >= PIECE_BYTES) {
        flush(hub);
        if (hub->exchange)
            http_exchange_resume(hub->exchange);
    } else if (hub->exchange) {
        http_exchange_resume(hub->exchange);
    }
    settle(hub);
}

/* ---- the answer ---- */

/* "bytes 100-199/200", or a star for the range: first byte (-1: none) and total. */
static bool parse_content_range(struct str value, int64_t *first, int64_t *total)
{
    struct str rest = value, unit, range, from;
    if (!str_split(&rest, ' ', &unit) || !str_eq_nocase(unit, STR("bytes")) ||
        !str_split(&rest, '/', &range) || str_to_i64(rest, total) != RC_OK)
        return false;
    *first = -1;
    if (str_eq(range, STR("*")))
        return true;
    return str_split(&range, '-', &from) && str_to_i64(from, first) == RC_OK;
}

static void take_hub_metadata(struct pull_hub *hub, const struct http_headers *headers)
{
    struct str etag = str_trim(http_header_get(headers, STR("x-linked-etag")));
    if (etag.n >= 2 && etag.p[0] == '"')
        etag = str_slice(etag, 1, etag.n - 1);
    uint8_t digest[32];
    if (etag.n == 64 && hex_decode(etag, digest, sizeof(digest)) == RC_OK)
        snprintf(hub->pull->hub_sha256, sizeof(hub->pull->hub_sha256), "%.*s", STR_ARG(etag));
}

/* Location may be relative to the host. */
static void take_redirect(struct pull_hub *hub, const struct http_headers *headers)
{
    struct str location = http_header_get(headers, STR("location"));
    struct url url;
    char next[URL_BYTES_MAX];
    bool was_https = strncmp(hub->url, "https:", 6) == 0;
    int n = -1;
    if (location.n && location.p[0] == '/' &&
        url_parse(str_from(hub->url), &url, &hub->err) == RC_OK)
        n = snprintf(next, sizeof(next), "%.*s%.*s", (int)(url.path.p - hub->url), hub->url,
                     STR_ARG(location));
    else if (location.n)
        n = snprintf(next, sizeof(next), "%.*s", STR_ARG(location));
    if (n < 0 || (size_t)n >= sizeof(next) || ++hub->redirects > REDIRECTS_MAX ||
        (was_https && strncmp(next, "https:", 6) != 0)) {
        err_set(&hub->err, ERR_UPSTREAM, "%s redirects in a way that is not followed", hub->url);
        hub->tries = TRIES_MAX;
        return;
    }
    memcpy(hub->url, next, (size_t)n + 1);
    hub->redirected = true;
}

static void restart_file(struct pull_hub *hub)
{
    hub->offset = 0;
    if (ftruncate(hub->fd, 0) != 0 || lseek(hub->fd, 0, SEEK_SET) != 0) {
        err_set(&hub->err, ERR_INTERNAL, "%s: %s", hub->pull->part, strerror(errno));
        hub->tries = TRIES_MAX;
    }
}

static void refuse(struct pull_hub *hub, const char *why)
{
    err_set(&hub->err, ERR_UPSTREAM, "%s: status %d, %s", hub->first_url, hub->status, why);
    /* 408, 429 and 5xx may pass; another try does not change the others. */
    if (hub->status != 408 && hub->status != 429 && hub->status < 500)
        hub->tries = TRIES_MAX;
}

static void hub_head(void *owner, int status, const struct http_headers *headers)
{
    struct pull_hub *hub = owner;
    int64_t first = -1, total = 0;
    hub->status = status;
    hub->redirected = hub->takes_body = false;
    take_hub_metadata(hub, headers);
    struct str range = http_header_get(headers, STR("content-range"));
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
        take_redirect(hub, headers);
    } else if (status == 206) {
        if (!parse_content_range(range, &first, &total) || first != hub->offset) {
            restart_file(hub);
            refuse(hub, "with another range than the one asked for");
            return;
        }
        hub->total = total;
        hub->takes_body = true;
    } else if (status == 200) {
        restart_file(hub);
        if (str_to_i64(http_header_get(headers, STR("content-length")), &total) == RC_OK)
            hub->total = total;
        hub->takes_body = hub->err.code == ERR_NONE;
    } else if (status == 416 && parse_content_range(range, &first, &total) &&
               total == hub->offset) {
        hub->total = total; /* the whole file was there already */
    } else {
        if (status == 416)
            restart_file(hub);
        refuse(hub, "the file cannot be had");
    }
}

static enum proceed hub_data(void *owner, struct str data)
{
    struct pull_hub *hub = owner;
    if (!hub->takes_body)
        return PROCEED;
    int64_t expected = (int64_t)hub->pull->entry->bytes;
    if (expected && hub->offset + (int64_t)data.n > expected) {
        err_set(&hub->err, ERR_UPSTREAM, "%s sends more than the expected %lld bytes",
                hub->first_url, (long long)expected);
        hub->tries = TRIES_MAX;
        hub->takes_body = false;
        return PROCEED; /* what follows is thrown away */
    }
    if (buf_append(&hub->piece, data) != RC_OK) {
        err_set(&hub->err, ERR_INTERNAL, "too much came at once");
        hub->takes_body = false;
        return PROCEED;
    }
    hub->offset += (int64_t)data.n;
    hub->progressed = true;
    pull_progress(hub->pull, hub->offset, hub->total ? hub->total : expected, STR("downloading"));
    if (buf_len(&hub->piece) >= PIECE_BYTES)
        flush(hub);
    return hub->write_busy && buf_len(&hub->piece) >= PIECE_BYTES ? STOP : PROCEED;
}

static void hub_done(void *owner, const struct err *err, const struct http_exchange_timing *timing)
{
    struct pull_hub *hub = owner;
    hub->exchange = NULL;
    hub->exchange_ended = true;
    if (err && hub->err.code == ERR_NONE)
        hub->err = *err;
    flush(hub);
    settle(hub);
}

static const struct http_exchange_owner HUB_CALLS = {
    .head = hub_head, .data = hub_data, .done = hub_done};

/* ---- try after try ---- */

static int64_t retry_delay_ns(const struct pull_hub *hub)
{
    int64_t ns = RETRY_FIRST_NS;
    for (int i = 1; i < hub->tries && ns < RETRY_MAX_NS; i++)
        ns *= 2;
    return MIN(ns, RETRY_MAX_NS);
}

/* After an exchange has ended and its bytes are written: done, next hop, again, or failed. */
static void settle(struct pull_hub *hub)
{
    if (!hub->exchange_ended || hub->write_busy || hub->leaving)
        return;
    hub->exchange_ended = false;
    if (hub->cancelled) {
        err_set(&hub->err, ERR_CANCELLED, "cancelled");
        end(hub);
        return;
    }
    if (hub->err.code == ERR_NONE && hub->redirected) {
        try_request(hub);
        return;
    }
    if (hub->err.code == ERR_NONE && hub->total > 0 && hub->offset != hub->total)
        err_set(&hub->err, ERR_UPSTREAM, "%s broke off at %lld of %lld bytes", hub->first_url,
                (long long)hub->offset, (long long)hub->total);
    if (hub->err.code == ERR_NONE) {
        end(hub);
        return;
    }
    if (hub->progressed && hub->tries < TRIES_MAX)
        hub->tries = 0;
    if (++hub->tries > TRIES_MAX) {
        end(hub);
        return;
    }
    pull_progress(hub->pull, hub->offset, hub->total, STR("connection lost, trying again"));
    timer_start(hub->pull->loop, &hub->retry, retry_delay_ns(hub));
}

static void try_request(struct pull_hub *hub)
{
    struct url url;
    hub->err = (struct err){0};
    hub->progressed = false;
    struct http_origin *origin = NULL;
    if (url_parse(str_from(hub->url), &url, &hub->err) == RC_OK)
        origin = http_client_origin(
            hub->client, &(struct http_origin_options){.url = str_from(hub->url)}, &hub->err);
    if (!origin) {
        hub->tries = TRIES_MAX;
        hub->exchange_ended = true;
        settle(hub);
        return;
    }
    struct http_header headers[2] = {{STR("accept-encoding"), STR("identity")}};
    size_t count = 1;
    if (hub->offset > 0) {
        snprintf(hub->range, sizeof(hub->range), "bytes=%lld-", (long long)hub->offset);
        headers[count++] = (struct http_header){STR("range"), str_from(hub->range)};
    }
    hub->exchange = http_exchange_start(
        origin,
        &(struct http_exchange_request){.method = STR("GET"),
                                        .path = url.path,
                                        .headers = headers,
                                        .header_count = count,
                                        .connect_timeout_ns = CONNECT_TIMEOUT_NS,
                                        .head_timeout_ns = IDLE_TIMEOUT_NS,
                                        .idle_timeout_ns = IDLE_TIMEOUT_NS,
                                        .retry_stale = true},
        &HUB_CALLS, hub);
}

/* The bytes' own address may have expired: from the beginning. */
static void retry_fired(struct timer *timer)
{
    struct pull_hub *hub = CONTAINER_OF(timer, struct pull_hub, retry);
    memcpy(hub->url, hub->first_url, sizeof(hub->url));
    hub->redirects = 0;
    try_request(hub);
}

void pull_hub_start(struct pull *pull, struct str address)
{
    struct pull_hub *hub = xcalloc(1, sizeof(*hub));
    struct stat st;
    hub->pull = pull;
    pull->hub = hub;
    hub->leave.run = leave;
    timer_init(&hub->retry, retry_fired);
    buf_init(&hub->piece, PIECE_BYTES * 2);
    buf_init(&hub->writing, PIECE_BYTES * 2);
    hub->write = (struct work){.home = pull->loop, .work = write_work, .done = write_done};
    hub->client = http_client_new(pull->loop);
    snprintf(hub->first_url, sizeof(hub->first_url), "%.*s", STR_ARG(address));
    memcpy(hub->url, hub->first_url, sizeof(hub->url));
    hub->fd = open(pull->part, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (hub->fd < 0 || fstat(hub->fd, &st) != 0 || lseek(hub->fd, 0, SEEK_END) < 0) {
        err_set(&hub->err, ERR_INTERNAL, "%s cannot be opened: %s", pull->part, strerror(errno));
        end(hub);
        return;
    }
    hub->offset = st.st_size;
    try_request(hub);
}

void pull_hub_cancel(struct pull_hub *hub)
{
    hub->cancelled = true;
    timer_stop(&hub->retry);
    if (hub->exchange)
        http_exchange_cancel(hub->exchange);
    hub->exchange = NULL;
    hub->exchange_ended = true;
    settle(hub);
}
