/* One HTTP/1.1 connection to an origin. Like the server's, it holds no memory but its own struct:
 * bytes are read into the client's scratch memory and told to the owner where they lie, all chunks
 * of one read together. Back-pressure: while the owner has said STOP, nothing is read. */
#include "http/client_private.h"
#include <stdio.h>

#define INTERIM_ANSWERS_MAX 16 /* 1xx before the final one */

static void link_free(struct link *link)
{
    struct http_client *client = link->origin->client;
    link->magic = 0;
    slab_give(&client->links, link);
    client_release(client);
}

void link_close(struct link *link)
{
    CHECK_MAGIC(link, LINK_MAGIC);
    ASSERT(!link->exchange);
    if (link->closed)
        return;
    struct http_origin *origin = link->origin;
    link->closed = true;
    stream_close(link->stream);
    list_remove(&link->node);
    buf_fini(&link->in);
    origin->links_count--;
    if (!link->in_pump)
        link_free(link);
    origin_serve(origin); /* there is room for another connection */
}

/* The connection is of no more use; what becomes of the exchange depends on how far it was. */
static void link_fail(struct link *link, enum err_code code, const char *what)
{
    struct http_exchange *exchange = link->exchange;
    struct http_origin *origin = link->origin;
    link->exchange = NULL;
    link_close(link);
    if (!exchange)
        return;
    struct err err = {0};
    err_set(&err, code, "%.*s: %s", STR_ARG(origin->authority), what);
    if (code == ERR_UPSTREAM)
        err.rc = RC_IO;
    else if (code == ERR_UPSTREAM_PROTOCOL)
        err.rc = RC_INVALID;
    exchange->link = NULL;
    exchange_connection_lost(exchange, &err);
}

/* ---- sending ---- */

static void link_send(struct link *link)
{
    struct http_exchange *exchange = link->exchange;
    struct iovec parts[1 + COUNT_OF(exchange->body)];
    int count = 0;
    size_t skip = exchange->sent_bytes, left = 0;
    for (int i = -1; i < exchange->body_parts; i++) {
        struct str part =
            i < 0 ? str_make(exchange->head, exchange->head_bytes) : exchange->body[i];
        size_t skipped = MIN(skip, part.n);
        skip -= skipped;
        if (part.n > skipped) {
            parts[count++] = (struct iovec){(char *)part.p + skipped, part.n - skipped};
            left += part.n - skipped;
        }
    }
    size_t n;
    enum rc rc = stream_write(link->stream, parts, count, &n);
    if (rc == RC_AGAIN)
        return;
    if (rc != RC_OK) {
        /* Perhaps an answer came before the connection broke: reading tells. */
        link->readable = link->peer_closed = true;
        exchange_wake(exchange);
        return;
    }
    exchange->sent_bytes += n;
    if (n == left)
        exchange_sent(exchange);
}

void link_start(struct link *link, struct http_exchange *exchange)
{
    CHECK_MAGIC(link, LINK_MAGIC);
    ASSERT(!link->exchange && !link->closed);
    struct http_origin *origin = link->origin;
    list_remove(&link->node);
    list_push_back(&origin->busy, &link->node);
    link->exchange = exchange;
    exchange->link = link;
    exchange_connected(exchange, link->reused);
    link->reused = true;
    link->framing = HTTP_BODY_NONE;
    link->interim = 0;
    link->scanned = 0;
    link_send(link);
}

/* ---- receiving ---- */

/* The answer is complete; `clean`: nothing came behind it. What comes unasked could pass for the
 * next answer, so the connection is kept only where nothing did. */
static void link_end_answer(struct link *link, bool clean)
{
    struct http_exchange *exchange = link->exchange;
    struct http_origin *origin = link->origin;
    bool keep = link->keep_alive && clean && exchange_request_sent(exchange) && !link->readable &&
                !link->peer_closed && !origin->client->freeing;
    link->exchange = NULL;
    if (keep) {
        link->idle_since_ns = loop_now_ns(origin->client->loop);
        list_remove(&link->node);
        list_push_front(&origin->idle, &link->node);
        origin_serve(origin); /* those who wait come before those whom `done` starts */
    } else {
        link_close(link);
    }
    exchange_end_body(exchange);
}

/* Takes a head off the input: bytes used, 0: more is needed, or the link is of no more use. */
static size_t pump_head(struct link *link, struct str input)
{
    struct http_exchange *exchange = link->exchange;
    struct http_head *head = &link->origin->client->head;
    size_t n = http_head_find_end(input, &link->scanned);
    if (n > LIMIT_HEADER_BYTES || (n == 0 && input.n > LIMIT_HEADER_BYTES)) {
        link_fail(link, ERR_UPSTREAM_PROTOCOL, "the headers of the answer are too long");
        return 0;
    }
    if (n == 0)
        return 0;
    link->scanned = 0;
    if (http_head_parse_response(head, str_make(input.p, n), exchange->to_head) != RC_OK) {
        char what[128];
        snprintf(what, sizeof(what), "not an HTTP/1.1 answer: %s", head->reason);
        link_fail(link, ERR_UPSTREAM_PROTOCOL, what);
        return 0;
    }
    if (head->status < 200) {
        if (head->status == 101 || ++link->interim > INTERIM_ANSWERS_MAX) {
            link_fail(link, ERR_UPSTREAM_PROTOCOL, "an interim answer that was not asked for");
            return 0;
        }
        return n;
    }
    link->keep_alive = head->keep_alive;
    link->framing = (uint8_t)head->framing;
    link->body_left = head->content_length;
    if (link->framing == HTTP_BODY_LENGTH && link->body_left == 0)
        link->framing = HTTP_BODY_NONE;
    if (link->framing == HTTP_BODY_CHUNKED)
        http_chunks_init(&link->chunks);
    if (exchange_tell_head(exchange, head->status, &head->headers) &&
        link->framing == HTTP_BODY_NONE)
        link_end_answer(link, input.n == n);
    return n;
}

static size_t pump_body(struct link *link, struct str input)
{
    struct http_exchange *exchange = link->exchange;
    size_t used = input.n, body_bytes = input.n;
    bool end = false;
    if (link->framing == HTTP_BODY_CHUNKED) {
        /* The input lies in the scratch memory or in `in`: both are ours to change. */
        if (http_chunks_decode(&link->chunks, (char *)input.p, input.n, &used, &body_bytes) !=
            RC_OK) {
            link_fail(link, ERR_UPSTREAM_PROTOCOL, "the chunked answer is not valid");
            return 0;
        }
        end = link->chunks.done;
    } else if (link->framing == HTTP_BODY_LENGTH) {
        used = body_bytes = MIN(input.n, link->body_left);
        link->body_left -= used;
        end = link->body_left == 0;
    }
    if (body_bytes > 0 && !exchange_tell_data(exchange, str_make(input.p, body_bytes)))
        return 0;
    if (end)
        link_end_answer(link, used == input.n);
    return used;
}

static size_t pump_step(struct link *link, struct str input)
{
    if (input.n == 0)
        return 0;
    return link->exchange->state == EXCHANGE_HEAD ? pump_head(link, input) : pump_body(link, input);
}

static bool link_reads(const struct link *link)
{
    return !link->closed && link->exchange && !link->exchange->stopped;
}

static void pump_end_of_input(struct link *link, enum rc rc)
{
    link->peer_closed = true;
    link->readable = false;
    if (rc == RC_END && link->exchange->state == EXCHANGE_BODY && link->framing == HTTP_BODY_CLOSE)
        link_end_answer(link, false);
    else
        link_fail(link, ERR_UPSTREAM, "the connection was closed before the end of the answer");
}

/* Reads once, behind what `in` holds or into the scratch memory. */
static enum rc pump_read(struct link *link, struct str *input)
{
    struct http_client *client = link->origin->client;
    char *at = client->scratch;
    size_t n_max = CLIENT_READ_BYTES, n;
    bool behind = input->n > 0;
    if (behind) {
        n_max = CLIENT_READ_BYTES / 4;
        if (buf_reserve(&link->in, n_max, &at) != RC_OK)
            return RC_LIMIT;
    }
    enum rc rc = stream_read(link->stream, at, n_max, &n);
    if (rc != RC_OK) {
        link->readable = false;
        return rc;
    }
    link->readable = n == n_max || link->peer_closed;
    if (!link->exchange->answered)
        exchange_answered(link->exchange);
    if (behind) {
        buf_added(&link->in, n);
        *input = buf_str(&link->in);
    } else {
        *input = str_make(at, n);
    }
    return RC_OK;
}

/* What is not taken yet stays in `in`. */
static bool pump_keep(struct link *link, struct str rest, bool in_scratch)
{
    if (!in_scratch) {
        buf_consume(&link->in, buf_len(&link->in) - rest.n);
        if (rest.n == 0)
            buf_release(&link->in);
        return true;
    }
    return rest.n == 0 || buf_append(&link->in, rest) == RC_OK;
}

static void link_pump(struct link *link)
{
    struct str input = buf_str(&link->in);
    bool in_scratch = false;
    link->in_pump = true;
    while (link_reads(link)) {
        size_t used = pump_step(link, input);
        if (used > 0) {
            input = str_slice(input, used, input.n);
            continue;
        }
        if (!link_reads(link) || !link->readable)
            break;
        if (!pump_keep(link, input, in_scratch)) {
            link_fail(link, ERR_UPSTREAM_PROTOCOL, "the headers of the answer are too long");
            break;
        }
        in_scratch = buf_len(&link->in) == 0;
        input = buf_str(&link->in);
        enum rc rc = pump_read(link, &input);
        if (rc == RC_AGAIN)
            break;
        if (rc != RC_OK) {
            pump_end_of_input(link, rc);
            break;
        }
    }
    link->in_pump = false;
    if (link->closed)
        link_free(link);
    else if (!pump_keep(link, link->exchange ? input : STR_EMPTY, in_scratch))
        link_fail(link, ERR_UPSTREAM_PROTOCOL, "the headers of the answer are too long");
}

void link_resume(struct link *link)
{
    if (link_reads(link))
        link_pump(link);
}

static void link_ready(void *owner, struct stream *stream, unsigned events)
{
    struct link *link = owner;
    CHECK_MAGIC(link, LINK_MAGIC);
    if (events & STREAM_CLOSED)
        link->peer_closed = true;
    if (events & (STREAM_READABLE | STREAM_CLOSED))
        link->readable = true;
    if (!link->exchange) {
        /* Idle: the origin closes it, or sends what nobody asked for. */
        if (link->readable)
            link_close(link);
        return;
    }
    if (events & STREAM_WRITABLE && !exchange_request_sent(link->exchange))
        link_send(link);
    if (link->readable && link_reads(link))
        link_pump(link);
}

static const struct stream_owner link_calls = {.ready = link_ready};

struct link *link_new(struct http_origin *origin, struct stream *stream)
{
    struct link *link = slab_take(&origin->client->links);
    ASSERT(link != NULL); /* connections_max bounds them */
    link->magic = LINK_MAGIC;
    link->origin = origin;
    link->stream = stream;
    buf_init(&link->in, LIMIT_HEADER_BYTES + CLIENT_READ_BYTES);
    list_push_front(&origin->idle, &link->node);
    link->idle_since_ns = loop_now_ns(origin->client->loop);
    origin->links_count++;
    stream_set_owner(stream, &link_calls, link);
    return link;
}
