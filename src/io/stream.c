/* Streams: the calls every kind shares. */
#include "io/stream_private.h"

void stream_set_owner(struct stream *stream, const struct stream_owner *calls, void *owner)
{
    stream->calls = calls;
    stream->owner = owner;
}

enum rc stream_read(struct stream *stream, void *p, size_t n_max, size_t *n)
{
    ASSERT(n_max > 0);
    *n = 0;
    return stream->ops->read(stream, p, n_max, n);
}

enum rc stream_write(struct stream *stream, const struct iovec *parts, int count, size_t *n)
{
    ASSERT(count > 0);
    *n = 0;
    return stream->ops->write(stream, parts, count, n);
}

void stream_shutdown(struct stream *stream) { stream->ops->shutdown(stream); }

void stream_close(struct stream *stream)
{
    stream->calls = NULL;
    stream->ops->close(stream);
}

struct str stream_alpn(const struct stream *stream)
{
    return stream->ops->alpn ? stream->ops->alpn(stream) : STR_EMPTY;
}

struct str stream_peer_text(const struct stream *stream) { return stream->ops->peer_text(stream); }

struct loop *stream_loop(const struct stream *stream) { return stream->loop; }
