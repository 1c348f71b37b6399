/* Packing of event streams: see stream_pack.h. Pure functions but for the memory of the packer, any
 * thread. Unpacking trusts nothing: it is fuzzed (tests/fuzz/fuzz_stream_pack.c). */
#include "trace/stream_pack.h"

#define VARINT_BYTES_MAX 10

void stream_pack_init(struct stream_pack *pack, size_t packed_bytes_max)
{
    *pack = (struct stream_pack){0};
    buf_init(&pack->out, packed_bytes_max);
    buf_init(&pack->last, STREAM_PACK_EVENT_BYTES_MAX);
}

void stream_pack_fini(struct stream_pack *pack)
{
    buf_fini(&pack->out);
    buf_fini(&pack->last);
}

/* ---- packing ---- */

static uint64_t word_at(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

/* Bytes at the beginning that both have. */
static size_t common_head(struct str a, struct str b)
{
    size_t at = 0, n = MIN(a.n, b.n);
    for (; at + 8 <= n; at += 8) {
        uint64_t differ = word_at(a.p + at) ^ word_at(b.p + at);
        if (differ)
            return at + (size_t)__builtin_ctzll(differ) / 8; /* little-endian, as all formats */
    }
    while (at < n && a.p[at] == b.p[at])
        at++;
    return at;
}

/* Bytes at the end that both have, `most` at most. */
static size_t common_tail(struct str a, struct str b, size_t most)
{
    size_t at = 0;
    const char *a_end = a.p + a.n, *b_end = b.p + b.n;
    for (; at + 8 <= most; at += 8) {
        uint64_t differ = word_at(a_end - at - 8) ^ word_at(b_end - at - 8);
        if (differ)
            return at + (size_t)__builtin_clzll(differ) / 8;
    }
    while (at < most && a_end[-1 - (ssize_t)at] == b_end[-1 - (ssize_t)at])
        at++;
    return at;
}

static char *put_varint(char *at, size_t value)
{
    for (; value >= 128; value >>= 7)
        *at++ = (char)(value | 128);
    *at++ = (char)value;
    return at;
}

static enum rc pack_event(struct stream_pack *pack, struct str event)
{
    struct str last = buf_str(&pack->last);
    size_t head = common_head(event, last);
    size_t tail = common_tail(event, last, MIN(event.n, last.n) - head);
    struct str middle = str_slice(event, head, event.n - tail);
    char *start;
    enum rc rc = buf_reserve(&pack->out, 3 * VARINT_BYTES_MAX + middle.n, &start);
    if (rc != RC_OK)
        return rc;
    char *at = put_varint(put_varint(put_varint(start, head), tail), middle.n);
    if (middle.n)
        memcpy(at, middle.p, middle.n);
    buf_added(&pack->out, (size_t)(at - start) + middle.n);
    if (event.n == last.n) {
        if (middle.n)
            memcpy(pack->last.p + pack->last.start + head, middle.p, middle.n);
        return RC_OK;
    }
    buf_clear(&pack->last);
    return event.n > STREAM_PACK_EVENT_BYTES_MAX ? RC_OK : buf_append(&pack->last, event);
}

/* Behind the first empty line, or all of it. */
static size_t event_end(struct str piece)
{
    const char *end = piece.p + piece.n;
    for (const char *at = piece.p; (at = memchr(at, '\n', (size_t)(end - at)));)
        if (++at < end && *at == '\n')
            return (size_t)(at + 1 - piece.p);
        else if (at == end)
            break;
    return piece.n;
}

enum rc stream_pack_add(struct stream_pack *pack, struct str piece)
{
    while (piece.n > 0) {
        size_t n = event_end(piece);
        enum rc rc = pack_event(pack, str_slice(piece, 0, n));
        if (rc != RC_OK)
            return rc;
        pack->bytes += n;
        piece = str_slice(piece, n, piece.n);
    }
    return RC_OK;
}

/* ---- unpacking ---- */

struct packed_event {
    size_t head, tail;
    struct str middle;
};

static bool take_size(struct str *s, size_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 63 && s->n > 0; shift += 7) {
        uint8_t byte = (uint8_t)*s->p;
        *s = str_slice(*s, 1, s->n);
        *value |= (size_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

/* `last_n`: bytes of the event before; becomes those of this one, as far as the next may use them.
 */
static bool take_event(struct str *packed, size_t *last_n, struct packed_event *event)
{
    size_t n;
    if (!take_size(packed, &event->head) || !take_size(packed, &event->tail) ||
        !take_size(packed, &n) || n > packed->n || event->head > *last_n ||
        event->tail > *last_n - event->head)
        return false;
    event->middle = str_slice(*packed, 0, n);
    *packed = str_slice(*packed, n, packed->n);
    n += event->head + event->tail;
    *last_n = n > STREAM_PACK_EVENT_BYTES_MAX ? 0 : n;
    return true;
}

enum rc stream_unpacked_bytes(struct str packed, size_t bytes_max, size_t *bytes)
{
    struct packed_event event;
    size_t last_n = 0;
    *bytes = 0;
    while (packed.n > 0) {
        if (!take_event(&packed, &last_n, &event))
            return RC_CORRUPT;
        *bytes += event.head + event.middle.n + event.tail;
        if (*bytes > bytes_max)
            return RC_CORRUPT;
    }
    return RC_OK;
}

void stream_unpack(struct str packed, char *out)
{
    struct packed_event event;
    for (size_t last_n = 0; packed.n > 0;) {
        const char *last = out - last_n, *last_end = out;
        bool valid = take_event(&packed, &last_n, &event);
        ASSERT(valid);
        if (event.head)
            memcpy(out, last, event.head);
        out += event.head;
        if (event.middle.n)
            memcpy(out, event.middle.p, event.middle.n);
        out += event.middle.n;
        if (event.tail)
            memcpy(out, last_end - event.tail, event.tail);
        out += event.tail;
    }
}
