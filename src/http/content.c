/* zlib and brotli behind one interface. A small answer that unpacks to gigabytes does no harm:
 * output is made piece by piece, and only while the consumer takes it. */
#include "http/content.h"
#include "base/buf.h"
#include <brotli/decode.h>
#include <stdlib.h>
#include <zlib.h>

#define DECODED_PIECE_BYTES (16 * 1024)
#define PENDING_BYTES_MAX   (64 * 1024)
#define ZLIB_GZIP_OR_ZLIB   (32 + MAX_WBITS)

struct http_decoder {
    bool complete, more_output; /* more_output: the decoder's own window holds some */
    BrotliDecoderState *brotli; /* or, NULL: */
    z_stream zlib;
    struct buf pending;
    char piece[DECODED_PIECE_BYTES];
};

struct http_decoder *http_decoder_new(struct str coding)
{
    bool brotli = str_eq_nocase(coding, STR("br"));
    if (!brotli && !str_eq_nocase(coding, STR("gzip")) && !str_eq_nocase(coding, STR("x-gzip")) &&
        !str_eq_nocase(coding, STR("deflate")))
        return NULL;
    struct http_decoder *decoder = calloc(1, sizeof(*decoder));
    if (!decoder)
        return NULL;
    buf_init(&decoder->pending, PENDING_BYTES_MAX);
    if (brotli)
        decoder->brotli = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    if (brotli ? !decoder->brotli : inflateInit2(&decoder->zlib, ZLIB_GZIP_OR_ZLIB) != Z_OK) {
        free(decoder);
        return NULL;
    }
    return decoder;
}

void http_decoder_free(struct http_decoder *decoder)
{
    if (!decoder)
        return;
    if (decoder->brotli)
        BrotliDecoderDestroyInstance(decoder->brotli);
    else
        inflateEnd(&decoder->zlib);
    buf_fini(&decoder->pending);
    free(decoder);
}

/* One step: takes from `*input`, fills the piece; *made bytes came out. */
static enum rc step_zlib(struct http_decoder *decoder, struct str *input, size_t *made)
{
    z_stream *zlib = &decoder->zlib;
    zlib->next_in = (Bytef *)input->p;
    zlib->avail_in = (uInt)input->n;
    zlib->next_out = (Bytef *)decoder->piece;
    zlib->avail_out = DECODED_PIECE_BYTES;
    int result = inflate(zlib, Z_NO_FLUSH);
    *input = str_make(zlib->next_in, zlib->avail_in);
    *made = DECODED_PIECE_BYTES - zlib->avail_out;
    decoder->more_output = zlib->avail_out == 0;
    if (result == Z_STREAM_END)
        decoder->complete = true;
    return result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR ? RC_OK : RC_CORRUPT;
}

static enum rc step_brotli(struct http_decoder *decoder, struct str *input, size_t *made)
{
    const uint8_t *in = (const uint8_t *)input->p;
    uint8_t *out = (uint8_t *)decoder->piece;
    size_t left = DECODED_PIECE_BYTES;
    BrotliDecoderResult result =
        BrotliDecoderDecompressStream(decoder->brotli, &input->n, &in, &left, &out, NULL);
    input->p = (const char *)in;
    *made = DECODED_PIECE_BYTES - left;
    decoder->more_output = result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;
    if (result == BROTLI_DECODER_RESULT_SUCCESS)
        decoder->complete = true;
    return result == BROTLI_DECODER_RESULT_ERROR ? RC_CORRUPT : RC_OK;
}

static enum rc decode(struct http_decoder *decoder, struct str *input,
                      bool (*take)(void *arg, struct str decoded), void *arg)
{
    while (!decoder->complete && (input->n > 0 || decoder->more_output)) {
        size_t made, before = input->n;
        enum rc rc =
            decoder->brotli ? step_brotli(decoder, input, &made) : step_zlib(decoder, input, &made);
        if (rc != RC_OK)
            return rc;
        if (made > 0 && !take(arg, str_make(decoder->piece, made)))
            return RC_AGAIN;
        if (made == 0 && input->n == before && !decoder->complete)
            break; /* no progress without more input */
    }
    /* Bytes behind the end are ignored, as browsers do. */
    if (decoder->complete)
        *input = STR_EMPTY;
    return RC_OK;
}

enum rc http_decoder_feed(struct http_decoder *decoder, struct str data,
                          bool (*take)(void *arg, struct str decoded), void *arg)
{
    struct str input = data;
    bool from_pending = buf_len(&decoder->pending) > 0;
    if (from_pending) {
        if (buf_append(&decoder->pending, data) != RC_OK)
            return RC_CORRUPT;
        input = buf_str(&decoder->pending);
    }
    size_t before = input.n;
    enum rc rc = decode(decoder, &input, take, arg);
    if (rc == RC_CORRUPT)
        return rc;
    if (from_pending) {
        buf_consume(&decoder->pending, before - input.n);
    } else if (input.n > 0 && buf_append(&decoder->pending, input) != RC_OK) {
        return RC_CORRUPT;
    }
    if (buf_len(&decoder->pending) == 0)
        buf_release(&decoder->pending);
    return RC_OK;
}

bool http_decoder_pending(const struct http_decoder *decoder)
{
    return !decoder->complete && (buf_len(&decoder->pending) > 0 || decoder->more_output);
}

bool http_decoder_complete(const struct http_decoder *decoder) { return decoder->complete; }
