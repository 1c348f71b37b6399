/* Content codings: decoding of what an upstream or a client compresses (gzip, br), piece by piece
 * and bounded. */
#pragma once
#include "base/str.h"

struct http_decoder;

/* NULL: a coding that is not known, or out of memory. */
struct http_decoder *http_decoder_new(struct str coding);
void http_decoder_free(struct http_decoder *decoder); /* NULL is fine */
/* Hands on what decodes, in pieces of at most 16 KB. When `take` returns false, stops and keeps the
 * rest of the input: call again with nothing to go on. RC_CORRUPT: damaged. The decoder must not be
 * freed from inside `take`. */
enum rc http_decoder_feed(struct http_decoder *decoder, struct str data,
                          bool (*take)(void *arg, struct str decoded), void *arg) MUST_CHECK;
/* Input is left that was not decoded. */
bool http_decoder_pending(const struct http_decoder *decoder);
/* The coded stream has come to its end. */
bool http_decoder_complete(const struct http_decoder *decoder);
