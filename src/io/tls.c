/* TLS contexts and streams (OpenSSL). */
#include "io/tls.h"
#include "io/stream_private.h"

void tls_ref(struct tls_context *tls)
{
    UNUSED(tls);
}

void tls_unref(struct tls_context *tls)
{
    UNUSED(tls);
}

struct stream *tls_stream_new(struct stream *transport, const struct tls_start *start,
                              struct err *err)
{
    UNUSED(start);
    stream_close(transport);
    err_set(err, ERR_NOT_IMPLEMENTED, "TLS is not built yet");
    return NULL;
}
